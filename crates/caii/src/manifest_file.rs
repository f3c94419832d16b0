//! A workload in a file: the manifest as JSON.

use crate::error::CliError;
use caii_model::Manifest;
use caii_node::views::ManifestView;
use std::path::Path;

/// Bytes of a manifest's file.
const SIZE_MAX: u64 = 4 << 20;

/// Reads a manifest's file.
pub(crate) fn read(path: &Path) -> Result<Manifest, CliError> {
    let read = |error| CliError::file("read", path, error);
    let wrong = |detail: String| CliError::Usage(format!("{} is no manifest: {detail}", path.display()));
    if std::fs::metadata(path).map_err(read)?.len() > SIZE_MAX {
        return Err(wrong("it is too large".to_owned()));
    }
    let bytes = std::fs::read(path).map_err(read)?;
    let file: ManifestView = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    file.into_manifest().map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use caii_model::{BlobRef, Bytes, Digest, Limits, MeterId, RuntimeClass, Scope};

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
        let text = serde_json::to_string(&ManifestView::from(&manifest)).unwrap();
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
