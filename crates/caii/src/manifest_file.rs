//! A workload in a file: the manifest as JSON, every field of it, and nothing else.
//!
//! What is certified is [`Manifest::digest`], so the file has each field that reaches it, none with a default: two people
//! who read one file speak of one workload.

use crate::error::CliError;
use caii_model::{BlobRef, Bytes, Digest, Fuel, Limits, Manifest, MeterId, Millis, RuntimeClass, Scope};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Bytes of a manifest's file.
const SIZE_MAX: u64 = 4 << 20;

/// The file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ManifestFile {
    /// The version of this form: 1.
    manifest: u32,
    name: String,
    program: String,
    program_size: u64,
    runtime: String,
    scope: String,
    records_per_item: u32,
    blobs: Vec<Blob>,
    args: Vec<String>,
    limits: LimitsOf,
    meter: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Blob {
    name: String,
    digest: String,
    size: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsOf {
    fuel_per_item: u64,
    fuel_init: u64,
    memory: u64,
    output_per_item: u64,
    stderr_per_item: u64,
    wall_per_item_ms: u64,
}

impl From<&Manifest> for ManifestFile {
    fn from(manifest: &Manifest) -> Self {
        let (scope, records_per_item) = match manifest.scope {
            Scope::Item { records } => ("item", records),
            Scope::Task => ("task", 0),
        };
        let blob =
            |blob: &BlobRef| Blob { name: blob.name.clone(), digest: blob.digest.to_string(), size: blob.size.0 };
        let limits = &manifest.limits;
        Self {
            manifest: 1,
            name: manifest.name.clone(),
            program: manifest.program.to_string(),
            program_size: manifest.program_size.0,
            runtime: manifest.runtime.as_str().to_owned(),
            scope: scope.to_owned(),
            records_per_item,
            blobs: manifest.blobs.iter().map(blob).collect(),
            args: manifest.args.clone(),
            limits: LimitsOf {
                fuel_per_item: limits.fuel_per_item.0,
                fuel_init: limits.fuel_init.0,
                memory: limits.memory.0,
                output_per_item: limits.output_per_item.0,
                stderr_per_item: limits.stderr_per_item.0,
                wall_per_item_ms: limits.wall_per_item.0,
            },
            meter: manifest.meter.0.to_string(),
        }
    }
}

impl ManifestFile {
    fn manifest(self) -> Result<Manifest, String> {
        if self.manifest != 1 {
            return Err(format!("version {} of the form is not known", self.manifest));
        }
        let digest = |field: &str, text: &str| text.parse::<Digest>().map_err(|error| format!("`{field}`: {error}"));
        let runtime = RuntimeClass::Wasm;
        if self.runtime != runtime.as_str() {
            return Err(format!("`runtime`: `{}` is not known; expected wasm", self.runtime));
        }
        let blob = |blob: &Blob| {
            Ok(BlobRef { name: blob.name.clone(), digest: digest("blobs", &blob.digest)?, size: Bytes(blob.size) })
        };
        let limits = &self.limits;
        let manifest = Manifest {
            name: self.name,
            program: digest("program", &self.program)?,
            program_size: Bytes(self.program_size),
            runtime,
            scope: match (self.scope.as_str(), self.records_per_item) {
                ("item", records) if records > 0 => Scope::Item { records },
                ("task", 0) => Scope::Task,
                _ => return Err("`scope` is `item` with records, or `task` with 0".to_owned()),
            },
            blobs: self.blobs.iter().map(blob).collect::<Result<_, String>>()?,
            args: self.args,
            limits: Limits {
                fuel_per_item: Fuel(limits.fuel_per_item),
                fuel_init: Fuel(limits.fuel_init),
                memory: Bytes(limits.memory),
                output_per_item: Bytes(limits.output_per_item),
                stderr_per_item: Bytes(limits.stderr_per_item),
                wall_per_item: Millis(limits.wall_per_item_ms),
            },
            meter: MeterId(digest("meter", &self.meter)?),
        };
        // The rules of what devices accept are those of the wire; a manifest that they refuse is none here.
        match caii_wire::decode_manifest(&caii_wire::encode_manifest(&manifest)) {
            Ok(decoded) if decoded == manifest => Ok(manifest),
            Ok(_) => Err("it is not what devices would read".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Reads a manifest's file.
pub(crate) fn read(path: &Path) -> Result<Manifest, CliError> {
    let read = |error| CliError::file("read", path, error);
    let wrong = |detail: String| CliError::Usage(format!("{} is no manifest: {detail}", path.display()));
    if std::fs::metadata(path).map_err(read)?.len() > SIZE_MAX {
        return Err(wrong("it is too large".to_owned()));
    }
    let bytes = std::fs::read(path).map_err(read)?;
    let file: ManifestFile = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    file.manifest().map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_read_as_they_are_written_and_nothing_is_left_to_defaults() {
        let manifest = Manifest {
            name: "m".into(),
            program: Digest([1; 32]),
            program_size: Bytes(10),
            runtime: RuntimeClass::Wasm,
            scope: Scope::Task,
            blobs: vec![BlobRef { name: "model.bin".into(), digest: Digest([2; 32]), size: Bytes(3) }],
            args: vec!["-v".into()],
            limits: Limits::default(),
            meter: MeterId(Digest([3; 32])),
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.json");
        let text = serde_json::to_string(&ManifestFile::from(&manifest)).unwrap();
        std::fs::write(&path, &text).unwrap();
        assert_eq!(read(&path).unwrap(), manifest);
        for (from, to) in [
            ("\"manifest\":1", "\"manifest\":2"),
            ("\"args\":[\"-v\"],", ""),
            ("\"args\":", "\"more\":1,\"args\":"),
            ("\"task\"", "\"item\""),
            ("model.bin", "../model.bin"),
            ("\"wasm\"", "\"native\""),
            ("sha256:01", "sha256:0"),
        ] {
            let bad = text.replacen(from, to, 1);
            assert_ne!(bad, text, "{from}");
            std::fs::write(&path, bad).unwrap();
            assert!(read(&path).is_err(), "{to}");
        }
    }
}
