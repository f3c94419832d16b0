//! What a contributor has done for a pool, as the device's directory knows it. The agent need not be running.

use super::claims::ClaimsFile;
use super::energy::{self, EnergyView};
use super::{AgentError, home};
use caii_agent::Forgotten;
use serde::Serialize;
use std::path::Path;

/// A device and its pool, for its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatusView {
    /// The device.
    pub device: String,
    /// The pool that it belongs to.
    pub pool: String,
    /// How many of the device's claims the pool said it has decided, at most.
    pub claims_decided: u64,
    /// Of these, what it said less of later.
    pub claims_forgotten: Option<ForgottenView>,
    /// How it finds out what tasks take of the machine's energy; nothing before its first start.
    pub energy: Option<EnergyView>,
}

/// Claims whose receipts the pool has forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ForgottenView {
    /// The number of the first.
    pub first: u64,
    /// The number of the last.
    pub last: u64,
}

impl StatusView {
    /// The same in sentences.
    pub fn lines(&self) -> Vec<String> {
        let Self { device, pool, claims_decided, .. } = self;
        let mut lines = vec![
            format!("This is {device} of {pool}."),
            format!(
                "Claims decided: {claims_decided}. Whether each has its receipt: `caii audit DIR-or-URL --device {device} \
                 --claims {claims_decided}`."
            ),
        ];
        if let Some(ForgottenView { first, last }) = self.claims_forgotten {
            lines.push(Forgotten { first, last }.to_string());
        }
        if let Some(energy) = &self.energy {
            lines.push(format!("Energy goes by {}: {}.", energy.method, energy.how));
        }
        lines
    }
}

/// What the device in this directory has done.
///
/// # Errors
/// When it has joined no pool, or what it keeps cannot be read.
pub fn status(dir: &Path) -> Result<StatusView, AgentError> {
    let not_joined = || AgentError::NotJoined { dir: dir.to_owned() };
    let membership = home::membership_in(dir)?.ok_or_else(not_joined)?;
    let key = home::identity_in(dir)?.ok_or_else(not_joined)?;
    let claims = ClaimsFile::in_dir(dir).read()?;
    Ok(StatusView {
        device: caii_trust::device_id(&key.public()).to_string(),
        pool: membership.pool.to_string(),
        claims_decided: claims.decided,
        claims_forgotten: claims.forgotten.map(|Forgotten { first, last }| ForgottenView { first, last }),
        energy: energy::noted(dir),
    })
}
