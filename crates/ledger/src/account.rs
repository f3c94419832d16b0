//! Where credits can be.

use caii_model::{Account, JobId};
use std::fmt;

/// An account of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum LedgerAccount {
    /// What a member of the pool has: one account spends and earns.
    Member(Account),
    /// What is reserved for a job.
    Escrow(JobId),
    /// What is held back from a contributor while devices are on probation.
    Held(Account),
    /// What the pool took.
    Fees,
    /// What requesters paid for verification, less what audits earned and what made requesters whole.
    Verification,
    /// Where credits come from and go to: below zero by as much as there is everywhere else.
    Treasury,
    /// What a member asked to be paid out.
    Payable(Account),
}

impl fmt::Display for LedgerAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(account) => write!(f, "member {account}"),
            Self::Escrow(job) => write!(f, "escrow of {job}"),
            Self::Held(account) => write!(f, "held back from {account}"),
            Self::Fees => f.write_str("fees"),
            Self::Verification => f.write_str("verification"),
            Self::Treasury => f.write_str("treasury"),
            Self::Payable(account) => write!(f, "payable to {account}"),
        }
    }
}
