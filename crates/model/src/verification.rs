//! How a job's results are verified.

/// What the requester chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum VerificationPolicy {
    /// Some items of every task are run again elsewhere, blind: the default for devices of strangers.
    Audit,
    /// Every task is run by several unlinkable devices that must agree.
    Quorum {
        /// By how many; at least 2.
        copies: u32,
    },
    /// Some tasks are looked at: the default in a pool of the operator's own devices.
    Spot,
}

impl VerificationPolicy {
    /// How many accepted copies of each task the requester pays for.
    pub fn copies(self) -> u32 {
        match self {
            Self::Audit | Self::Spot => 1,
            Self::Quorum { copies } => copies,
        }
    }
}
