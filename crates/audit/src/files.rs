//! Where published files are read, and the one that says what pool they are of.

use caii_model::{Digest, PoolId};
use caii_tlog::{Origin, Tile, TileReader, VerifierKey};
use caii_trust::{PublicKey, pool_id};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thiserror::Error;

/// The path of the checkpoint.
pub const CHECKPOINT: &str = "checkpoint";
/// The path of what says which pool it is.
pub const POOL: &str = "pool.json";
/// Bytes of [`POOL`].
pub const POOL_SIZE_MAX: usize = 64 << 10;
const FORMAT: &str = "caii-pool/1";

/// Why a file cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FileError {
    /// There is none of this name.
    #[error("there is no file `{path}`")]
    Missing {
        /// Its path.
        path: String,
    },
    /// It may be there and could not be read: nothing can be said about it.
    #[error("cannot read `{path}`: {why}")]
    Unreadable {
        /// Its path.
        path: String,
        /// Why.
        why: String,
    },
}

/// A directory or a prefix of URLs with a pool's published files.
pub trait Files {
    /// The bytes of the file at this path, which has slashes between its parts.
    ///
    /// # Errors
    /// If it is not there, or cannot be read.
    fn read(&self, path: &str) -> Result<Vec<u8>, FileError>;
}

/// Published files in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryFiles(pub BTreeMap<String, Vec<u8>>);

impl Files for MemoryFiles {
    fn read(&self, path: &str) -> Result<Vec<u8>, FileError> {
        self.0.get(path).cloned().ok_or_else(|| FileError::Missing { path: path.to_owned() })
    }
}

/// A log's tiles among the files.
#[derive(Clone, Copy)]
pub struct Tiles<'a>(pub &'a dyn Files);

impl TileReader for Tiles<'_> {
    type Error = FileError;

    fn tile(&self, tile: &Tile) -> Result<Vec<u8>, FileError> {
        self.0.read(&tile.to_string())
    }
}

/// What pool the files are of. Nothing vouches for it but that the log begins with the same: who has the key of the log
/// from elsewhere gives the audit a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolFile {
    /// The pool's public key.
    pub key: [u8; 32],
    /// The log's name.
    pub origin: Origin,
    /// The keys that sign its checkpoints.
    pub log: Vec<VerifierKey>,
    /// The charter under which workloads are certified.
    pub charter: Option<Digest>,
}

/// Why bytes are not [`POOL`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PoolFileError {
    /// It is larger than [`POOL_SIZE_MAX`].
    #[error("it has {found} bytes; at most {POOL_SIZE_MAX} are read")]
    TooLarge {
        /// Its bytes.
        found: usize,
    },
    /// It is not the JSON of one.
    #[error("not what a pool says of itself: {0}")]
    Json(String),
    /// A field says nothing that makes sense.
    #[error("its `{field}` is wrong: {why}")]
    Field {
        /// Which.
        field: &'static str,
        /// Why.
        why: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    format: String,
    pool: String,
    key: String,
    origin: String,
    log: Vec<String>,
    charter: Option<String>,
}

impl PoolFile {
    /// The pool's id.
    pub fn pool(&self) -> PoolId {
        pool_id(&self.key)
    }

    /// The file.
    pub fn to_json(&self) -> Vec<u8> {
        let json = Json {
            format: FORMAT.into(),
            pool: self.pool().to_string(),
            key: PublicKey::Ed25519(self.key).hex(),
            origin: self.origin.to_string(),
            log: self.log.iter().map(ToString::to_string).collect(),
            charter: self.charter.map(|charter| charter.to_string()),
        };
        let mut bytes = serde_json::to_vec_pretty(&json).expect("texts make JSON");
        bytes.push(b'\n');
        bytes
    }

    /// Reads the file.
    ///
    /// # Errors
    /// If it is none.
    pub fn from_json(bytes: &[u8]) -> Result<Self, PoolFileError> {
        if bytes.len() > POOL_SIZE_MAX {
            return Err(PoolFileError::TooLarge { found: bytes.len() });
        }
        let json: Json = serde_json::from_slice(bytes).map_err(|error| PoolFileError::Json(error.to_string()))?;
        let field = |field, why: String| PoolFileError::Field { field, why };
        if json.format != FORMAT {
            return Err(field("format", format!("this release reads {FORMAT}")));
        }
        let key = PublicKey::parse("ed25519", &json.key).map_err(|error| field("key", error.to_string()))?;
        let PublicKey::Ed25519(key) = key else { return Err(field("key", "it is no Ed25519 key".into())) };
        if json.pool != pool_id(&key).to_string() {
            return Err(field("pool", format!("the key is that of {}", pool_id(&key))));
        }
        let log: Result<Vec<VerifierKey>, PoolFileError> =
            json.log.iter().map(|key| key.parse().map_err(|error| field("log", format!("{error}")))).collect();
        let charter = json.charter.map(|charter| charter.parse().map_err(|error| field("charter", format!("{error}"))));
        Ok(Self {
            key,
            origin: json.origin.parse().map_err(|error| field("origin", format!("{error}")))?,
            log: log?,
            charter: charter.transpose()?,
        })
    }
}

/// The path of a tariff, for people.
pub fn tariff_path(digest: &Digest) -> String {
    format!("tariff/{}.json", digest.hex())
}

/// The paths of a payout run's files, for those who may see them: they name people and bank accounts, so a pool publishes
/// their digests and hands the files to its auditors.
pub fn payout_paths(run: u64) -> [String; 2] {
    [format!("payout/{run}.xml"), format!("payout/{run}.csv")]
}
