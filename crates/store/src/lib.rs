//! Durable state and content-addressed blobs.

use caii_coordinator::{Attempt, Change, JobRecord, NextIds};
use caii_model::{Account, JobId, TaskIndex};

/// Which holder of a pool writes. A newer holder's epoch is larger, and an older one's commits are refused from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// What a coordinator starts from: changes that rebuild its durable state. Only open jobs are among them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// To be applied in order.
    pub changes: Vec<Change>,
    /// The next free ids, ended jobs and deleted files counted.
    pub next: NextIds,
}

/// Which jobs to look up. Newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobQuery {
    /// Only this account's; `None`: everybody's.
    pub owner: Option<Account>,
    /// Only jobs with a smaller id.
    pub before: Option<JobId>,
    /// Only batches of the OpenAI API.
    pub batches_only: bool,
    /// At most so many; at most 1,000.
    pub limit: usize,
}

/// A pool's durable state. Decisions are the coordinator's; this keeps them.
pub trait Store: Send {
    /// Takes the pool over: from now on commits of every earlier epoch fail.
    fn acquire(&mut self) -> Result<Epoch, StoreError>;
    /// All that is needed to start a coordinator.
    fn load(&mut self) -> Result<Snapshot, StoreError>;
    /// Makes these changes durable, all or none, before it returns.
    fn commit(&mut self, fence: Epoch, changes: &[Change]) -> Result<(), StoreError>;
    /// One job, open or ended.
    fn job(&mut self, id: JobId) -> Result<Option<JobRecord>, StoreError>;
    /// Jobs, open or ended. Synchronous requests are left out.
    fn jobs(&mut self, query: &JobQuery) -> Result<Vec<JobRecord>, StoreError>;
    /// The attempts of a job that came to nothing, oldest first, at most `limit`.
    fn attempts(&mut self, job: JobId, limit: usize) -> Result<Vec<(TaskIndex, Attempt)>, StoreError>;
    /// A job's accepted results, by task.
    fn settled(&mut self, job: JobId) -> Result<Vec<(TaskIndex, caii_model::Settled)>, StoreError>;
}

/// Why the store did not do it.
#[derive(Debug)]
pub enum StoreError {
    /// Another node holds the pool now.
    Deposed {
        /// The epoch that was used.
        ours: Epoch,
        /// The one in force.
        current: Epoch,
    },
}
