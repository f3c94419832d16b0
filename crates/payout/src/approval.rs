//! Approval: enough different people signed exactly the files that go to the bank.
//!
//! They sign a DSSE envelope whose payload names both files by their digests and says what a person has to compare: how
//! many payments, how much. The payload is made anew from the files at hand and compared byte for byte, so nothing in an
//! envelope is ever interpreted.

use crate::{Batch, Currency, MinorUnits};
use caii_ledger::PayoutRun;
use caii_model::{Digest, PoolId};
use caii_trust::{Envelope, KeyId, PublicKey, SignatureError};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use thiserror::Error;

/// The payload type of an approval.
pub const PAYLOAD_TYPE: &str = "application/vnd.caii.payout+json";

/// What is approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Of which pool.
    pub pool: PoolId,
    /// Which run.
    pub run: PayoutRun,
    /// The ISO 20022 file.
    pub pain001: Digest,
    /// The CSV.
    pub csv: Digest,
    /// How many payments they hold.
    pub payments: usize,
    /// In which currency.
    pub currency: Currency,
    /// How much together.
    pub total: MinorUnits,
}

impl Statement {
    /// What approving these two files of a batch says. Read the files first ([`crate::pain001::check`]).
    pub fn new(batch: &Batch, pain001: &[u8], csv: &[u8]) -> Self {
        Self {
            pool: batch.spec.pool,
            run: batch.spec.run,
            pain001: Digest::of(pain001),
            csv: Digest::of(csv),
            payments: batch.payments.len(),
            currency: batch.spec.currency,
            total: batch.total,
        }
    }

    /// The payload that is signed.
    pub fn to_json(&self) -> Vec<u8> {
        let Self { pool, run, pain001, csv, payments, currency, total } = self;
        let total = currency.write(*total);
        // None of these has a character that JSON would escape.
        format!(
            concat!(
                r#"{{"format":"caii-payout/1","pool":"{}","run":{},"pain001":"{}","csv":"{}","payments":{},"#,
                r#""currency":"{}","total":"{}"}}"#
            ),
            pool, run.0, pain001, csv, payments, currency, total
        )
        .into_bytes()
    }

    /// An envelope that nobody signed yet.
    pub fn envelope(&self) -> Envelope {
        Envelope::unsigned(PAYLOAD_TYPE, self.to_json())
    }
}

/// Who approves payouts, and how many of them it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approvers {
    threshold: usize,
    people: BTreeMap<KeyId, (String, PublicKey)>,
}

/// Why people and a threshold make no approvers.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ApproversInvalid {
    /// The threshold is zero or cannot be reached.
    #[error("{threshold} approvals of {people} people: the threshold must be from 1 to the number of people")]
    Threshold {
        /// How many it would take.
        threshold: usize,
        /// How many there are.
        people: usize,
    },
    /// A key or a name is there twice: one person could approve for two.
    #[error("`{0}` shares a key or a name with somebody else")]
    Twice(String),
}

/// A signature that does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Whose it claims to be; nothing if the key is no approver's.
    pub name: Option<String>,
    /// Why it does not hold; nothing if it could not be looked at.
    pub error: Option<SignatureError>,
}

/// Why the files are not approved.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotApproved {
    /// The envelope is about something else.
    #[error("the envelope is of type `{0}`; approvals of payouts are of `{PAYLOAD_TYPE}`")]
    PayloadType(String),
    /// The envelope approves other files.
    #[error("the envelope approves other files than these: sign these, or send those")]
    OtherFiles,
    /// Too few people signed.
    #[error("{}", too_few(*needed, signed, rejected))]
    TooFew {
        /// How many it takes.
        needed: usize,
        /// Who signed.
        signed: Vec<String>,
        /// What else was in the envelope.
        rejected: Vec<Rejected>,
    },
}

fn too_few(needed: usize, signed: &[String], rejected: &[Rejected]) -> String {
    let mut text = format!("{} of {needed} approvals", signed.len());
    if !signed.is_empty() {
        let _ = write!(text, " ({})", signed.join(", "));
    }
    for Rejected { name, error } in rejected {
        let name = name.as_deref().unwrap_or("somebody who is no approver");
        let _ = match error {
            Some(error) => write!(text, "; of {name}: {error}"),
            None => write!(text, "; a signature of {name}"),
        };
    }
    text
}

impl Approvers {
    /// So many of these people.
    ///
    /// # Errors
    /// If that could never be reached, or by fewer people than it says.
    pub fn new(
        threshold: usize,
        people: impl IntoIterator<Item = (String, PublicKey)>,
    ) -> Result<Self, ApproversInvalid> {
        let (mut by_key, mut names) = (BTreeMap::new(), BTreeSet::new());
        for (name, key) in people {
            if !names.insert(name.clone()) || by_key.insert(key.id(), (name.clone(), key)).is_some() {
                return Err(ApproversInvalid::Twice(name));
            }
        }
        if !(1..=by_key.len()).contains(&threshold) {
            return Err(ApproversInvalid::Threshold { threshold, people: by_key.len() });
        }
        Ok(Self { threshold, people: by_key })
    }

    /// How many of how many people it takes.
    pub fn threshold(&self) -> (usize, usize) {
        (self.threshold, self.people.len())
    }

    /// Whose signatures in an envelope hold, if it is about exactly these files.
    pub fn who(&self, statement: &Statement, envelope: &Envelope) -> Vec<String> {
        let any = Self { threshold: 1, people: self.people.clone() };
        any.approved(statement, envelope).unwrap_or_default()
    }

    /// Who approved exactly these files, if they are enough. Different keys count, not signatures.
    ///
    /// # Errors
    /// If they are not, or the envelope is about something else.
    pub fn approved(&self, statement: &Statement, envelope: &Envelope) -> Result<Vec<String>, NotApproved> {
        if envelope.payload_type != PAYLOAD_TYPE {
            return Err(NotApproved::PayloadType(envelope.payload_type.chars().take(100).collect()));
        }
        if envelope.payload != statement.to_json() {
            return Err(NotApproved::OtherFiles);
        }
        let message = envelope.signed_bytes();
        let (mut signed, mut rejected) = (BTreeSet::new(), Vec::new());
        for signature in &envelope.signatures {
            let Some((name, key)) = signature.key.and_then(|key| self.people.get(&key)) else {
                rejected.push(Rejected { name: None, error: None });
                continue;
            };
            match key.verify(&message, &signature.bytes) {
                Ok(()) => {
                    signed.insert(name.clone());
                }
                Err(error) => rejected.push(Rejected { name: Some(name.clone()), error: Some(error) }),
            }
        }
        let signed: Vec<String> = signed.into_iter().collect();
        if signed.len() < self.threshold {
            return Err(NotApproved::TooFew { needed: self.threshold, signed, rejected });
        }
        Ok(signed)
    }
}
