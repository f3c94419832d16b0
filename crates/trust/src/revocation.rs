//! Revocations: facts that only ever become more. Nothing takes one back, whoever signs it.

use crate::charter::Charter;
use crate::dsse::Envelope;
use crate::keys::KeyId;
use crate::signature::SignatureError;
use crate::statement::{PAYLOAD_TYPE, Statement, StatementError};
use crate::time::{format_time, parse_time};
use caii_model::{Digest, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use thiserror::Error;

/// What is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Revoked {
    /// A workload: it runs nowhere any more.
    Workload(Digest),
    /// A steward's key: no certification by it counts any more, whenever it was made.
    Key(KeyId),
}

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(digest) => write!(f, "workload {digest}"),
            Self::Key(key) => write!(f, "key {key}"),
        }
    }
}

/// That something was stopped, by whom, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revocation {
    /// What.
    pub what: Revoked,
    /// When, by the steward's clock.
    pub issued: Timestamp,
    /// The steward's name in the charter at the time.
    pub by: String,
    /// The steward's key.
    pub key: KeyId,
    /// Why, in the steward's words.
    pub why: String,
}

/// Why an envelope revokes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RevocationRefused {
    /// The payload is of another type.
    #[error("the envelope's payload is not an in-toto statement")]
    PayloadType,
    /// The payload says something else, or nothing that this release understands.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// It is a certification.
    #[error("the envelope certifies; it revokes nothing")]
    Certification,
    /// It belongs to another charter.
    #[error("the revocation is for the charter {}", .0.short())]
    OtherCharter(Digest),
    /// Nobody whose signature counts signed it.
    #[error("no steward with the mandate to revoke signed it")]
    NotSigned,
    /// A steward with the mandate is named, and the signature does not hold.
    #[error("the signature of {steward} does not hold: {source}")]
    Signature {
        /// Who.
        steward: String,
        /// Why.
        #[source]
        source: SignatureError,
    },
}

impl Revocation {
    /// What an envelope revokes, if anyone who may revoke by this charter signed it. One signature is enough.
    ///
    /// # Errors
    /// If it revokes nothing here.
    pub fn read(charter: &Charter, envelope: &Envelope) -> Result<Self, RevocationRefused> {
        if envelope.payload_type != PAYLOAD_TYPE {
            return Err(RevocationRefused::PayloadType);
        }
        let Statement::Revocation(statement) = Statement::from_json(&envelope.payload)? else {
            return Err(RevocationRefused::Certification);
        };
        if statement.charter != charter.id {
            return Err(RevocationRefused::OtherCharter(statement.charter));
        }
        let signed = envelope.signed_bytes();
        let mut refused = RevocationRefused::NotSigned;
        for signature in &envelope.signatures {
            let Some(steward) = signature.key.and_then(|key| charter.steward(key)) else { continue };
            if !charter.revoke.contains(&steward.name) {
                continue;
            }
            match steward.key.verify(&signed, &signature.bytes) {
                Err(source) => refused = RevocationRefused::Signature { steward: steward.name.clone(), source },
                Ok(()) => {
                    return Ok(Self {
                        what: statement.what,
                        issued: statement.issued,
                        by: steward.name.clone(),
                        key: steward.key.id(),
                        why: statement.why,
                    });
                }
            }
        }
        Err(refused)
    }
}

/// Everything that was ever stopped. It can only grow, and the order in which it does makes no difference.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocations(BTreeMap<Revoked, Revocation>);

impl Revocations {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one; true if it stops something that was not stopped before. Of several for the same thing the earliest is
    /// the one that is shown.
    pub fn add(&mut self, revocation: Revocation) -> bool {
        let known = self.0.get(&revocation.what);
        let is_new = known.is_none();
        if known.is_none_or(|known| revocation < *known) {
            self.0.insert(revocation.what, revocation);
        }
        is_new
    }

    /// Adds all of these.
    pub fn merge(&mut self, others: &Self) {
        others.iter().for_each(|revocation| {
            self.add(revocation.clone());
        });
    }

    /// Why this was stopped, if it was.
    pub fn of(&self, what: Revoked) -> Option<&Revocation> {
        self.0.get(&what)
    }

    /// All, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = &Revocation> {
        self.0.values()
    }

    /// How many things are stopped.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As JSON, for a file on the device.
    pub fn to_json(&self) -> Vec<u8> {
        let all: Vec<Json> = self.iter().map(Into::into).collect();
        serde_json::to_vec(&all).expect("strings become JSON")
    }

    /// Reads what [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    /// If anything in it is not understood: a file of revocations that cannot be read is no empty one.
    pub fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let all: Vec<Json> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        all.into_iter().map(Revocation::try_from).collect()
    }
}

impl FromIterator<Revocation> for Revocations {
    fn from_iter<I: IntoIterator<Item = Revocation>>(revocations: I) -> Self {
        let mut all = Self::new();
        revocations.into_iter().for_each(|revocation| {
            all.add(revocation);
        });
        all
    }
}

/// A revocation as charters and devices keep it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Json {
    what: String,
    digest: String,
    issued: String,
    by: String,
    key: String,
    why: String,
}

impl From<&Revocation> for Json {
    fn from(revocation: &Revocation) -> Self {
        let (what, digest) = match revocation.what {
            Revoked::Workload(digest) => ("workload", digest.hex()),
            Revoked::Key(key) => ("key", key.to_string()),
        };
        Self {
            what: what.to_owned(),
            digest,
            issued: format_time(revocation.issued),
            by: revocation.by.clone(),
            key: revocation.key.to_string(),
            why: revocation.why.clone(),
        }
    }
}

impl TryFrom<Json> for Revocation {
    type Error = String;

    fn try_from(json: Json) -> Result<Self, String> {
        let digest: KeyId = json.digest.parse().map_err(|_| format!("`{}` is no digest", json.digest))?;
        Ok(Self {
            what: match json.what.as_str() {
                "workload" => Revoked::Workload(digest.0),
                "key" => Revoked::Key(digest),
                other => return Err(format!("nobody can revoke a `{other}`")),
            },
            issued: parse_time(&json.issued).ok_or_else(|| format!("`{}` is no time", json.issued))?,
            by: json.by,
            key: json.key.parse().map_err(|_| format!("`{}` is no key id", json.key))?,
            why: json.why,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{charter, key, revocation_envelope, sign};
    use proptest::prelude::*;

    const WORKLOAD: Revoked = Revoked::Workload(Digest([5; 32]));

    #[test]
    fn one_steward_with_the_mandate_stops() {
        let charter = charter();
        let envelope = revocation_envelope(&charter, WORKLOAD, "it leaks", &[2]);
        let revocation = Revocation::read(&charter, &envelope).unwrap();
        assert_eq!((revocation.what, revocation.by.as_str(), revocation.why.as_str()), (WORKLOAD, "bob", "it leaks"));
        // Signatures of strangers beside it change nothing.
        let envelope = revocation_envelope(&charter, WORKLOAD, "it leaks", &[9, 2]);
        assert_eq!(Revocation::read(&charter, &envelope), Ok(revocation));
    }

    #[test]
    fn nobody_else_does() {
        let mut charter = charter();
        let read = |charter: &Charter, envelope: &Envelope| Revocation::read(charter, envelope).unwrap_err();
        let envelope = |signers: &[u8]| revocation_envelope(&crate::testing::charter(), WORKLOAD, "x", signers);
        assert_eq!(read(&charter, &envelope(&[])), RevocationRefused::NotSigned);
        assert_eq!(read(&charter, &envelope(&[9])), RevocationRefused::NotSigned);
        let mut swapped = envelope(&[1]);
        swapped.payload_type = "text/plain".into();
        assert_eq!(read(&charter, &swapped), RevocationRefused::PayloadType);
        let mut forged = envelope(&[1]);
        forged.signatures[0].bytes = key(9).sign_message(&forged.signed_bytes()).to_vec();
        assert!(matches!(read(&charter, &forged), RevocationRefused::Signature { .. }));
        charter.revoke.retain(|name| name != "bob");
        assert_eq!(read(&charter, &envelope(&[2])), RevocationRefused::NotSigned);
        charter.id = Digest([0x77; 32]);
        assert_eq!(read(&charter, &envelope(&[1])), RevocationRefused::OtherCharter(crate::testing::charter().id));
        let mut other = Envelope::unsigned(PAYLOAD_TYPE, b"{}".to_vec());
        sign(&mut other, 1);
        assert!(matches!(read(&charter, &other), RevocationRefused::Statement(_)));
    }

    #[test]
    fn a_file_of_revocations_is_read_whole_or_not_at_all() {
        let all: Revocations = [revocation(WORKLOAD, 7, "a"), revocation(Revoked::Key(KeyId(Digest([1; 32]))), 8, "b")]
            .into_iter()
            .collect();
        let json = all.to_json();
        assert_eq!(Revocations::from_json(&json), Ok(all));
        let text = String::from_utf8(json).unwrap();
        for (from, to) in [("workload", "pool"), ("1970", "197"), ("\"why\"", "\"how\""), ("]", "")] {
            assert!(Revocations::from_json(text.replacen(from, to, 1).as_bytes()).is_err(), "{from}");
        }
    }

    fn revocation(what: Revoked, issued: u64, by: &str) -> Revocation {
        let key = KeyId(Digest([3; 32]));
        Revocation { what, issued: Timestamp(issued * 1_000), by: by.into(), key, why: "x".into() }
    }

    proptest! {
        /// The order of additions makes no difference, and what was in stays in.
        #[test]
        fn they_only_grow(seen in proptest::collection::vec((0u8..6, 0u64..5, "[ab]"), 0..20), cut in 0usize..20) {
            let all: Vec<_> = seen
                .iter()
                .map(|(what, issued, by)| revocation(Revoked::Workload(Digest([*what; 32])), *issued, by))
                .collect();
            let forward: Revocations = all.iter().cloned().collect();
            let backward: Revocations = all.iter().rev().cloned().collect();
            prop_assert_eq!(&forward, &backward);
            let cut = cut.min(all.len());
            let mut merged: Revocations = all[..cut].iter().cloned().collect();
            let before: Vec<_> = merged.iter().map(|r| r.what).collect();
            merged.merge(&all[cut..].iter().cloned().collect());
            prop_assert_eq!(&merged, &forward);
            prop_assert!(before.iter().all(|what| merged.of(*what).is_some()));
            let again = merged.clone();
            merged.merge(&again);
            prop_assert_eq!(merged, again);
        }
    }
}
