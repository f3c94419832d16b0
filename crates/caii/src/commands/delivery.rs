//! Between stewards and a pool: manifests out, certifications and revocations in.

use super::charter::read_envelope;
use crate::client::Client;
use crate::error::CliError;
use crate::manifest_file::ManifestFile;
use crate::output::{self, Format};
use caii_model::{BlobRef, Bytes, Digest, Fuel, Limits, Manifest, MeterId, Millis, RuntimeClass, Scope};
use caii_node::views::{EnvelopeTaken, WorkloadView};
use caii_trust::Statement;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Writes a workload's manifest, once it has the digest that was asked for.
pub(crate) async fn fetch(client: &Client, workload: Digest, out: &Path, format: Format) -> Result<(), CliError> {
    let view: WorkloadView = client.get(&format!("/caii/v1/workloads/{}", workload.hex())).await?;
    let manifest = manifest_of(&view)?;
    if manifest.digest() != workload {
        return Err(CliError::Usage(format!("the pool's answer is not {workload}; do not sign it")));
    }
    let text = serde_json::to_string_pretty(&ManifestFile::from(&manifest)).expect("strings and numbers become JSON");
    std::fs::write(out, text + "\n").map_err(|error| CliError::file("write", out, error))?;
    let view = json!({ "workload": workload.to_string(), "file": out });
    output::print(format, &view, |_| {
        format!("{} ({workload}) is in {}; `caii workload inspect` reads it", manifest.name, out.display())
    });
    Ok(())
}

fn manifest_of(view: &WorkloadView) -> Result<Manifest, CliError> {
    let asked = &view.manifest;
    let strange = || CliError::Usage("the pool's answer is no manifest that this release understands".to_owned());
    let digest = |text: &str| text.parse::<Digest>().map_err(|_| strange());
    let blobs = asked
        .blobs
        .iter()
        .map(|blob| Ok(BlobRef { name: blob.name.clone(), digest: digest(&blob.digest)?, size: Bytes(blob.size) }));
    let limit = |value: Option<u64>| value.ok_or_else(strange);
    Ok(Manifest {
        name: asked.name.clone(),
        program: digest(&asked.program)?,
        program_size: Bytes(view.program_size),
        runtime: RuntimeClass::Wasm,
        scope: match asked.scope.as_str() {
            "item" => Scope::Item { records: asked.records_per_item },
            "task" => Scope::Task,
            _ => return Err(strange()),
        },
        blobs: blobs.collect::<Result<_, CliError>>()?,
        args: asked.args.clone(),
        limits: Limits {
            fuel_per_item: Fuel(limit(asked.limits.fuel_per_item)?),
            fuel_init: Fuel(limit(asked.limits.fuel_init)?),
            memory: Bytes(limit(asked.limits.memory)?),
            output_per_item: Bytes(limit(asked.limits.output_per_item)?),
            stderr_per_item: Bytes(limit(asked.limits.stderr_per_item)?),
            wall_per_item: Millis(limit(asked.limits.wall_per_item_ms)?),
        },
        meter: MeterId(digest(&view.meter)?),
    })
}

/// Brings signed statements to the pool, each to where it belongs.
pub(crate) async fn send(client: &Client, files: &[PathBuf], format: Format) -> Result<(), CliError> {
    let mut taken = Vec::new();
    for file in files {
        let envelope = read_envelope(file)?;
        let path = match Statement::from_json(&envelope.payload) {
            Ok(Statement::Certification(_)) => "/caii/v1/certificates",
            Ok(Statement::Revocation(_)) => "/caii/v1/revocations",
            Err(error) => return Err(CliError::Usage(format!("{}: {error}", file.display()))),
        };
        let answer: EnvelopeTaken = client.post_bytes(path, envelope.to_json()).await?;
        taken.push(json!({ "file": file, "about": answer.about, "verdict": answer.verdict }));
    }
    output::print(format, &json!({ "data": taken }), |view| {
        let lines = view["data"].as_array().into_iter().flatten();
        let line = |taken: &serde_json::Value| {
            let text = |name: &str| taken[name].as_str().unwrap_or_default().to_owned();
            format!("{}: {}: {}", text("file"), text("about"), text("verdict"))
        };
        lines.map(line).collect::<Vec<_>>().join("\n")
    });
    Ok(())
}

/// Certifies with the key in the pool's directory.
pub(crate) async fn allow(client: &Client, workload: Digest, format: Format) -> Result<(), CliError> {
    let path = format!("/caii/v1/workloads/{}/certify", workload.hex());
    let answer: EnvelopeTaken = client.post(&path, &json!({})).await?;
    output::print(format, &answer, |answer| format!("{}: {}", answer.about, answer.verdict));
    Ok(())
}
