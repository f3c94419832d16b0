//! The words that stand for closed enums in rows. They are stored: a word never changes its meaning.

use caii_coordinator::PayoutPreference;
use caii_ledger::LedgerAccount;
use caii_model::{
    Account, AttemptFailureKind, Ending, Endpoint, FilePurpose, JobId, JobKind, Role, Verification, VoidReason,
};
use caii_payout::{Payee, SepaText};

/// An enum whose variants are stored as words.
pub(crate) trait Named: Copy + 'static {
    /// Every variant.
    const ALL: &'static [Self];

    /// The word for it.
    fn name(self) -> &'static str;

    /// What the word stands for.
    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|variant| variant.name() == name)
    }
}

impl Named for Role {
    const ALL: &'static [Self] = &[Self::Admin, Self::Requester];

    fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Requester => "requester",
        }
    }
}

impl Named for FilePurpose {
    const ALL: &'static [Self] = &[Self::Batch, Self::BatchOutput, Self::UserData];

    fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::BatchOutput => "batch_output",
            Self::UserData => "user_data",
        }
    }
}

impl Named for Endpoint {
    const ALL: &'static [Self] = &[Self::Embeddings];

    fn name(self) -> &'static str {
        match self {
            Self::Embeddings => "embeddings",
        }
    }
}

impl Named for AttemptFailureKind {
    const ALL: &'static [Self] = &[
        Self::DeviceLost,
        Self::DeviceForgot,
        Self::GivenBack,
        Self::LeaseExpired,
        Self::RunnerDied,
        Self::ItemTooSlow,
        Self::PreparationFailed,
        Self::BlobUnavailable,
        Self::DiskFull,
        Self::MalformedResult,
        Self::Uncertified,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::DeviceLost => "device_lost",
            Self::DeviceForgot => "device_forgot",
            Self::GivenBack => "given_back",
            Self::LeaseExpired => "lease_expired",
            Self::RunnerDied => "runner_died",
            Self::ItemTooSlow => "item_too_slow",
            Self::PreparationFailed => "preparation_failed",
            Self::BlobUnavailable => "blob_unavailable",
            Self::DiskFull => "disk_full",
            Self::MalformedResult => "malformed_result",
            Self::Uncertified => "uncertified",
        }
    }
}

/// The word for a kind of job; its details are kept beside it.
pub(crate) fn job_kind_name(kind: &JobKind) -> &'static str {
    match kind {
        JobKind::Program { .. } => "program",
        JobKind::Batch { .. } => "batch",
        JobKind::Sync { .. } => "sync",
    }
}

impl Named for VoidReason {
    const ALL: &'static [Self] = &Self::ALL;

    fn name(self) -> &'static str {
        self.as_str()
    }
}

/// The word for how a job is checked; its number is kept beside it.
pub(crate) fn verification_name(verification: Verification) -> &'static str {
    match verification {
        Verification::Off => "off",
        Verification::Spot => "spot",
        Verification::Audit { .. } => "audit",
        Verification::Quorum { .. } => "quorum",
    }
}

/// Its number; 0 where it has none.
pub(crate) fn verification_number(verification: Verification) -> u32 {
    match verification {
        Verification::Off | Verification::Spot => 0,
        Verification::Audit { depth } => depth,
        Verification::Quorum { results } => u32::from(results),
    }
}

/// What a word and a number stand for.
pub(crate) fn verification_from(name: &str, number: u32) -> Option<Verification> {
    match (name, number) {
        ("off", 0) => Some(Verification::Off),
        ("spot", 0) => Some(Verification::Spot),
        ("audit", depth) => Some(Verification::Audit { depth }),
        ("quorum", results) => u8::try_from(results).ok().map(|results| Verification::Quorum { results }),
        _ => None,
    }
}

/// The word for an ending; its details are kept beside it.
pub(crate) fn ending_name(ending: &Ending) -> &'static str {
    match ending {
        Ending::Completed => "completed",
        Ending::Cancelled => "cancelled",
        Ending::Expired => "expired",
        Ending::Failed { .. } => "failed",
    }
}

/// The word for a kind of the ledger's accounts, and what names one of them.
pub(crate) fn ledger_account_name(account: &LedgerAccount) -> (&'static str, String) {
    match account {
        LedgerAccount::Member(name) => ("member", name.to_string()),
        LedgerAccount::Escrow(job) => ("escrow", job.0.to_string()),
        LedgerAccount::Held(name) => ("held", name.to_string()),
        LedgerAccount::Fees => ("fees", String::new()),
        LedgerAccount::Verification => ("verification", String::new()),
        LedgerAccount::Treasury => ("treasury", String::new()),
        LedgerAccount::Payable(name) => ("payable", name.to_string()),
    }
}

/// What a word and a name stand for.
pub(crate) fn ledger_account_from(kind: &str, name: &str) -> Option<LedgerAccount> {
    match (kind, name) {
        ("member", name) => Account::new(name).map(LedgerAccount::Member),
        ("escrow", job) => job.parse().ok().map(|job| LedgerAccount::Escrow(JobId(job))),
        ("held", name) => Account::new(name).map(LedgerAccount::Held),
        ("fees", "") => Some(LedgerAccount::Fees),
        ("verification", "") => Some(LedgerAccount::Verification),
        ("treasury", "") => Some(LedgerAccount::Treasury),
        ("payable", name) => Account::new(name).map(LedgerAccount::Payable),
        _ => None,
    }
}

/// What a word and the columns of a bank account stand for: the holder's name, the IBAN, the BIC.
pub(crate) fn payout_preference_from(
    name: &str,
    payee: (Option<String>, Option<String>, Option<String>),
) -> Option<PayoutPreference> {
    match (name, payee) {
        ("credits", (None, None, None)) => Some(PayoutPreference::Credits),
        ("priority", (None, None, None)) => Some(PayoutPreference::Priority),
        ("discount", (None, None, None)) => Some(PayoutPreference::Discount),
        ("direct", (Some(name), Some(iban), bic)) => Some(PayoutPreference::Direct(Payee {
            name: SepaText::new(&name, SepaText::NAME_MAX).ok()?,
            iban: iban.parse().ok()?,
            bic: bic.map(|bic| bic.parse()).transpose().ok()?,
        })),
        _ => None,
    }
}
