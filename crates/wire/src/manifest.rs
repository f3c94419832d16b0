//! A workload's manifest, as devices fetch it and stores keep it.

use crate::convert::{at_most, choice, digest, required, text};
use crate::open::{Frame, VERSION};
use crate::{DecodeError, limits, proto};
use caii_model::{BlobRef, Bytes, Fuel, Limits, Manifest, MeterId, Millis, RuntimeClass, Scope};
use prost::Message as _;

const FRAME: Frame = Frame {
    message: "Manifest",
    size_max: limits::MANIFEST_MAX,
    lists: &[(7, "Manifest.blobs", limits::BLOBS_MAX), (8, "Manifest.args", limits::ARGS_MAX)],
};

/// The bytes of a manifest. Their digest names nothing: a workload is named by [`Manifest::digest`].
///
/// # Panics
/// If an item were to have no records, which no coordinator admits.
pub fn encode_manifest(manifest: &Manifest) -> Vec<u8> {
    let records_per_item = match manifest.scope {
        Scope::Task => 0,
        Scope::Item { records } => {
            assert!(records > 0, "an item has at least one record");
            records
        }
    };
    let limits = &manifest.limits;
    let message = proto::Manifest {
        version: VERSION,
        name: manifest.name.clone(),
        program: manifest.program.0.to_vec(),
        program_size: manifest.program_size.0,
        runtime: match manifest.runtime {
            RuntimeClass::Wasm => proto::RuntimeClass::Wasm.into(),
        },
        records_per_item,
        blobs: manifest.blobs.iter().map(Into::into).collect(),
        args: manifest.args.clone(),
        limits: Some(proto::Limits {
            fuel_per_item: limits.fuel_per_item.0,
            fuel_init: limits.fuel_init.0,
            memory: limits.memory.0,
            output_per_item: limits.output_per_item.0,
            stderr_per_item: limits.stderr_per_item.0,
            wall_per_item_ms: limits.wall_per_item.0,
        }),
        meter: manifest.meter.0.0.to_vec(),
    };
    message.encode_to_vec()
}

/// The manifest of these bytes. Who fetched it by its digest compares that with [`Manifest::digest`]. The names of its
/// files are safe to create in an empty directory: single components, distinct.
pub fn decode_manifest(bytes: &[u8]) -> Result<Manifest, DecodeError> {
    let message: proto::Manifest = FRAME.open(bytes)?;
    let limits = required("Manifest.limits", message.limits)?;
    for arg in &message.args {
        at_most("Manifest.args", arg.len(), limits::ARG_MAX)?;
    }
    let blobs: Vec<BlobRef> = message.blobs.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
    let names: std::collections::BTreeSet<&str> = blobs.iter().map(|blob| blob.name.as_str()).collect();
    if names.len() < blobs.len() {
        return Err(DecodeError::Rule { field: "Manifest.blobs", reason: "each file needs a name of its own" });
    }
    Ok(Manifest {
        name: text("Manifest.name", message.name, limits::MANIFEST_NAME_MAX)?,
        program: digest("Manifest.program", &message.program)?,
        program_size: Bytes(message.program_size),
        runtime: match choice("Manifest.runtime", message.runtime)? {
            proto::RuntimeClass::Unspecified => return Err(DecodeError::Missing { field: "Manifest.runtime" }),
            proto::RuntimeClass::Wasm => RuntimeClass::Wasm,
        },
        scope: match message.records_per_item {
            0 => Scope::Task,
            records => Scope::Item { records },
        },
        blobs,
        args: message.args,
        limits: Limits {
            fuel_per_item: Fuel(limits.fuel_per_item),
            fuel_init: Fuel(limits.fuel_init),
            memory: Bytes(limits.memory),
            output_per_item: Bytes(limits.output_per_item),
            stderr_per_item: Bytes(limits.stderr_per_item),
            wall_per_item: Millis(limits.wall_per_item_ms),
        },
        meter: MeterId(digest("Manifest.meter", &message.meter)?),
    })
}

impl From<&BlobRef> for proto::BlobRef {
    fn from(blob: &BlobRef) -> Self {
        Self { name: blob.name.clone(), digest: blob.digest.0.to_vec(), size: blob.size.0 }
    }
}

impl TryFrom<proto::BlobRef> for BlobRef {
    type Error = DecodeError;

    fn try_from(blob: proto::BlobRef) -> Result<Self, DecodeError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        // The name becomes a path on the device: nothing may climb out of its directory.
        if blob.name.is_empty() || !blob.name.bytes().all(allowed) || blob.name == "." || blob.name == ".." {
            return Err(DecodeError::Rule {
                field: "BlobRef.name",
                reason: "one path component of ASCII letters, digits, `.`, `_` and `-` is expected",
            });
        }
        Ok(Self {
            name: text("BlobRef.name", blob.name, limits::BLOB_NAME_MAX)?,
            digest: digest("BlobRef.digest", &blob.digest)?,
            size: Bytes(blob.size),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_codec, manifest};
    use caii_model::Digest;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(manifest in manifest()) {
            check_codec(&manifest, encode_manifest, decode_manifest);
        }
    }

    #[test]
    fn names_that_are_no_plain_file_names_are_refused() {
        let plain = Manifest {
            name: "m".into(),
            program: Digest([1; 32]),
            program_size: Bytes(1),
            runtime: RuntimeClass::Wasm,
            scope: Scope::Task,
            blobs: Vec::new(),
            args: Vec::new(),
            limits: Limits::default(),
            meter: MeterId(Digest([2; 32])),
        };
        let with = |names: &[&str]| {
            let blob = |name: &&str| BlobRef { name: (*name).into(), digest: Digest([3; 32]), size: Bytes(1) };
            encode_manifest(&Manifest { blobs: names.iter().map(blob).collect(), ..plain.clone() })
        };
        assert!(decode_manifest(&with(&["model.safetensors", "..."])).is_ok());
        for bad in ["", ".", "..", "a/b", "/etc", "a\\b", "a\0", "é"] {
            let error = decode_manifest(&with(&[bad])).unwrap_err();
            assert!(matches!(error, DecodeError::Rule { field: "BlobRef.name", .. }), "{bad:?}: {error}");
        }
        let error = decode_manifest(&with(&["same", "same"])).unwrap_err();
        assert!(matches!(error, DecodeError::Rule { field: "Manifest.blobs", .. }), "{error}");
        let error = decode_manifest(&with(&["x".repeat(256).as_str()])).unwrap_err();
        assert_eq!(error, DecodeError::TooLong { field: "BlobRef.name", found: 256, max: 255 });
    }
}
