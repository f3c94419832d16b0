//! Between stewards and a pool: manifests out, certifications and revocations in.

use super::charter::read_envelope;
use crate::client::Client;
use crate::error::CliError;
use crate::output::{self, Format};
use caii_model::Digest;
use caii_node::views::{EnvelopeTaken, WorkloadView};
use caii_trust::Statement;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Writes a workload's manifest, once it has the digest that was asked for.
pub(crate) async fn fetch(client: &Client, workload: Digest, out: &Path, format: Format) -> Result<(), CliError> {
    let view: WorkloadView = client.get(&format!("/caii/v1/workloads/{}", workload.hex())).await?;
    let text = serde_json::to_string_pretty(&view.manifest).expect("strings and numbers become JSON");
    let strange =
        |detail| CliError::Usage(format!("the pool's answer is no manifest that this release reads: {detail}"));
    let manifest = view.manifest.into_manifest().map_err(strange)?;
    if manifest.digest() != workload {
        return Err(CliError::Usage(format!("the pool's answer is not {workload}; do not sign it")));
    }
    std::fs::write(out, text + "\n").map_err(|error| CliError::file("write", out, error))?;
    let view = json!({ "workload": workload.to_string(), "file": out });
    output::print(format, &view, |_| {
        format!("{} ({workload}) is in {}; `caii workload inspect` reads it", manifest.name, out.display())
    });
    Ok(())
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
