//! What the owner can hold against the pool, kept across restarts of the agent: how many of the device's claims the pool
//! said it has decided, and whether it said less later.

use super::home::{self, HomeError};
use caii_agent::{Claims, Forgotten};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const FILE: &str = "claims.json";

/// Where an agent's directory keeps it.
#[derive(Debug, Clone)]
pub(crate) struct ClaimsFile {
    dir: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    decided: u64,
    forgotten: Option<KeptForgotten>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptForgotten {
    first: u64,
    last: u64,
}

impl ClaimsFile {
    pub(crate) fn in_dir(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// What was kept; of a new agent, that nothing was decided.
    pub(crate) fn read(&self) -> Result<Claims, HomeError> {
        let path = self.dir.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Claims::default()),
            Err(source) => return Err(home::io_error("read", &path)(source)),
        };
        let kept: Kept = serde_json::from_slice(&bytes)
            .map_err(|error| HomeError::ClaimsDamaged { path, reason: error.to_string() })?;
        let forgotten = kept.forgotten.map(|KeptForgotten { first, last }| Forgotten { first, last });
        Ok(Claims { decided: kept.decided, forgotten })
    }

    /// Keeps this instead: it is there afterwards, or what was there before, whatever happens meanwhile.
    pub(crate) fn keep(&self, claims: Claims) -> Result<(), HomeError> {
        let forgotten = claims.forgotten.map(|Forgotten { first, last }| KeptForgotten { first, last });
        let kept = Kept { decided: claims.decided, forgotten };
        let json = serde_json::to_vec(&kept).expect("numbers become JSON");
        home::write(&self.dir, FILE, &json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = ClaimsFile::in_dir(dir.path());
        assert_eq!(file.read().unwrap(), Claims::default());
        for forgotten in [None, Some(Forgotten { first: 8, last: u64::MAX })] {
            let claims = Claims { decided: u64::MAX, forgotten };
            file.keep(claims).unwrap();
            assert_eq!(file.read().unwrap(), claims);
        }
    }

    #[test]
    fn damage_is_not_taken_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = ClaimsFile::in_dir(dir.path());
        for damaged in ["", "{\"decided\": -1, \"forgotten\": null}", "{\"decided\": 1}x"] {
            fs::write(dir.path().join(FILE), damaged).unwrap();
            let error = file.read().unwrap_err();
            assert!(matches!(error, HomeError::ClaimsDamaged { .. }), "{error}");
        }
    }
}
