//! A manifest as JSON: every field of it, and nothing else. Pools answer with it, and stewards keep it in files.
//!
//! What is certified is [`Manifest::digest`], so it has each field that reaches it, none with a default: two people who
//! read one file speak of one workload.

use super::BlobRefView;
use caii_model::{BlobRef, Bytes, Digest, Fuel, Limits, Manifest, MeterId, Millis, RuntimeClass, Scope};
use serde::{Deserialize, Serialize};

/// All that a workload's digest covers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestView {
    /// The version of this form: 1.
    pub manifest: u32,
    /// For people.
    pub name: String,
    /// The program's digest.
    pub program: String,
    /// Its size.
    pub program_size: u64,
    /// `wasm`
    pub runtime: String,
    /// `item` or `task`.
    pub scope: String,
    /// Records in an item; 0 for scope `task`.
    pub records_per_item: u32,
    /// Read-only files.
    pub blobs: Vec<BlobRefView>,
    /// Arguments.
    pub args: Vec<String>,
    /// Limits.
    pub limits: LimitsOf,
    /// The meter that its fuel is counted by.
    pub meter: String,
}

/// The limits that devices enforce.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsOf {
    /// Units that one item may use.
    pub fuel_per_item: u64,
    /// Units that the initialiser may use.
    pub fuel_init: u64,
    /// Linear memory and tables of one instance.
    pub memory: u64,
    /// Standard output of one item.
    pub output_per_item: u64,
    /// Standard error of one item.
    pub stderr_per_item: u64,
    /// Wall time of one item.
    pub wall_per_item_ms: u64,
}

impl From<&Manifest> for ManifestView {
    fn from(manifest: &Manifest) -> Self {
        let (scope, records_per_item) = match manifest.scope {
            Scope::Item { records } => ("item", records),
            Scope::Task => ("task", 0),
        };
        let blob = |blob: &BlobRef| BlobRefView {
            name: blob.name.clone(),
            digest: blob.digest.to_string(),
            size: blob.size.0,
        };
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

impl ManifestView {
    /// The manifest, if devices would take it for one.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn into_manifest(self) -> Result<Manifest, String> {
        if self.manifest != 1 {
            return Err(format!("version {} of the form is not known", self.manifest));
        }
        let digest = |field: &str, text: &str| text.parse::<Digest>().map_err(|error| format!("`{field}`: {error}"));
        let runtime = RuntimeClass::Wasm;
        if self.runtime != runtime.as_str() {
            return Err(format!("`runtime`: `{}` is not known; expected wasm", self.runtime));
        }
        let blob = |blob: &BlobRefView| {
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
