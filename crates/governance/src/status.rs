//! What a charter's directory holds, for people.

use crate::error::GovernanceError;
use crate::repository::Repository;
use crate::roles;
use caii_model::{Digest, Timestamp};
use caii_trust::{Charter, KeyId, Revocations};
use std::collections::BTreeSet;

/// What a charter's directory holds. Nothing of it is verified: that is for [`verify_files`](crate::verify_files).
#[derive(Debug, Clone)]
pub struct Status {
    /// The charter's id.
    pub pin: Digest,
    /// What is in force.
    pub published: Option<Published>,
    /// What awaits signatures.
    pub draft: Option<Draft>,
}

/// What is in force.
#[derive(Debug, Clone)]
pub struct Published {
    /// The charter.
    pub charter: Charter,
    /// Its version, which grows with every change.
    pub version: u64,
    /// How many stewards it takes to change it.
    pub threshold: u32,
    /// Until when the stewards' signatures hold.
    pub expires: Timestamp,
    /// Until when the pool vouches that nothing newer exists; nothing if it never did.
    pub fresh_until: Option<Timestamp>,
    /// Everything that is revoked.
    pub revocations: Revocations,
}

/// What awaits signatures.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The charter.
    pub charter: Charter,
    /// Its version.
    pub version: u64,
    /// Until when the stewards' signatures will hold.
    pub expires: Timestamp,
    /// What is needed and what is there.
    pub awaited: Vec<Awaited>,
}

/// Signatures that a file needs.
#[derive(Debug, Clone)]
pub struct Awaited {
    /// What is signed, and by whom.
    pub file: &'static str,
    /// How many keys.
    pub threshold: u32,
    /// Of which.
    pub keys: Vec<KeyId>,
    /// Which signed.
    pub signed: BTreeSet<KeyId>,
}

impl Awaited {
    /// How many more it takes.
    pub fn missing(&self) -> usize {
        (self.threshold as usize).saturating_sub(self.signed.len())
    }
}

impl Repository {
    /// What the directory holds.
    ///
    /// # Errors
    /// If a file of it cannot be read.
    pub fn status(&self) -> Result<Status, GovernanceError> {
        let published = match self.in_force() {
            Err(GovernanceError::NotInForce(_)) => None,
            Err(error) => return Err(error),
            Ok((root, targets)) => {
                let fresh_until = match self.files()?.get("timestamp.json") {
                    Some(text) => Some(roles::expires("timestamp.json", &roles::parse("timestamp.json", text)?)?),
                    None => None,
                };
                Some(Published {
                    charter: self.charter()?,
                    version: roles::version(&targets),
                    threshold: roles::role("root.json", &root, "root")?.1,
                    expires: roles::expires("root.json", &root)?.min(roles::expires("targets.json", &targets)?),
                    fresh_until,
                    revocations: self.revocations()?,
                })
            }
        };
        let draft = match self.draft()? {
            None => None,
            Some((root, targets, charter)) => Some(Draft {
                charter: Charter::from_json(self.pin(), &charter)?,
                version: roles::version(&targets),
                expires: roles::expires("root.json", &root)?,
                awaited: self.status_of(&root, &targets)?,
            }),
        };
        Ok(Status { pin: self.pin(), published, draft })
    }
}
