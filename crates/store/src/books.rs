//! What can be looked up in a pool's books: receipts and what became of them, statements, what jobs cost.

use crate::StoreError;
use caii_coordinator::PayoutDraft;
use caii_ledger::{Entry, PayoutRun, Transfer, TransferId};
use caii_model::{Account, DeviceId, Digest, JobId, MicroCredits, Receipt, Timestamp, VoidReason};

/// Which receipts to look up, by the numbers of their entries in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptQuery {
    /// Whose.
    pub of: ReceiptsOf,
    /// Only from this entry on.
    pub from: u64,
    /// Only before this entry.
    pub until: u64,
    /// The newest first, or the oldest.
    pub newest_first: bool,
    /// At most so many, and never more than [`ReceiptQuery::LIMIT_MAX`].
    pub limit: usize,
}

impl ReceiptQuery {
    /// The most receipts that one query gives.
    pub const LIMIT_MAX: usize = 1_000;
}

/// Whose receipts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiptsOf {
    /// Everybody's.
    Everybody,
    /// Of all devices of this member.
    Owner(Account),
    /// Of one device.
    Device(DeviceId),
    /// Of one job.
    Job(JobId),
}

/// A receipt and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedReceipt {
    /// The number of its entry in the log.
    pub entry: u64,
    /// It.
    pub receipt: Receipt,
    /// The entry that paid it.
    pub paid: Option<Paid>,
    /// The entry that voided it after it was accepted.
    pub voided: Option<Voided>,
}

/// Where a receipt was voided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Voided {
    /// The number of the entry in the log.
    pub entry: u64,
    /// Why.
    pub reason: VoidReason,
    /// When.
    pub at: Timestamp,
}

/// Where a receipt was paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paid {
    /// The number of the ledger entry in the log.
    pub entry: u64,
    /// Its first transfer.
    pub transfer: TransferId,
    /// When.
    pub at: Timestamp,
}

/// A transfer from or to a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementLine {
    /// Counts all transfers of the pool, from 0.
    pub number: u64,
    /// The number of its ledger entry in the log.
    pub entry: u64,
    /// It.
    pub transfer: Transfer,
}

/// Lines of a statement at a time, at most.
pub const STATEMENT_LIMIT_MAX: usize = 1_000;

/// What a job has cost its requester so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobPrice {
    /// What was set aside.
    pub reserved: MicroCredits,
    /// What was paid out of it.
    pub charged: MicroCredits,
    /// What came back.
    pub returned: MicroCredits,
}

/// Among so many of the last jobs those of a workload are looked for.
pub const WORKLOAD_JOBS_MAX: usize = 10_000;

/// Questions to the books. Each costs about as much as its answer is long.
pub trait BookQueries {
    /// The number of the first entry of the log at or after a time; the log's length if there is none yet.
    fn entry_at(&mut self, at: Timestamp) -> Result<u64, StoreError>;

    /// Receipts and what became of them.
    fn receipts(&mut self, query: &ReceiptQuery) -> Result<Vec<LoggedReceipt>, StoreError>;

    /// The receipt of one claim.
    fn receipt(&mut self, device: DeviceId, sequence: u64) -> Result<Option<LoggedReceipt>, StoreError>;

    /// Accepted receipts of a workload that were not voided later, for estimates: of the newest jobs first, and of each
    /// the newest first. Only the last [`WORKLOAD_JOBS_MAX`] jobs of the pool are looked at.
    fn receipts_of_workload(&mut self, workload: Digest, limit: usize) -> Result<Vec<Receipt>, StoreError>;

    /// Transfers from and to a member, newest first: only those with a smaller number than `before`, at most `limit` and
    /// never more than [`STATEMENT_LIMIT_MAX`].
    fn statement(
        &mut self,
        member: &Account,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<StatementLine>, StoreError>;

    /// What a job has cost.
    fn job_price(&mut self, job: JobId) -> Result<JobPrice, StoreError>;

    /// A payout run with its files, sent or not.
    fn payout(&mut self, run: PayoutRun) -> Result<Option<PayoutDraft>, StoreError>;

    /// The ledger entry with a transfer of this id, and its number in the log. Who hands in what belongs to no open job
    /// asks this first: the coordinator remembers only the last ones.
    fn posted(&mut self, id: TransferId) -> Result<Option<(u64, Entry)>, StoreError>;
}
