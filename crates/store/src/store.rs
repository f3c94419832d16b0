//! What keeps a pool's durable state, whichever database is under it.

use crate::BookQueries;
use caii_audit::Event;
use caii_coordinator::{Attempt, Change, JobRecord, NextIds};
use caii_model::{Account, JobId, Settled, TaskIndex};
use std::error::Error;
use std::fmt;
use std::path::PathBuf;

/// Which holder of a pool writes. A newer holder's epoch is larger, and an older one's commits are refused from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a coordinator starts from: changes that rebuild its durable state. Only open jobs are among them, and neither
/// deleted files nor removed models.
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
    /// At most so many, and never more than [`JobQuery::LIMIT_MAX`]: who wants more asks again with `before`.
    pub limit: usize,
}

impl JobQuery {
    /// The most jobs that one query gives.
    pub const LIMIT_MAX: usize = 1_000;
}

/// A pool's durable state. Decisions are the coordinator's; this keeps them.
///
/// The meaning of a change is [`Catalog::apply`](caii_coordinator::Catalog::apply)'s. Applying [`Store::load`]'s changes
/// to an empty catalog and reserving its ids gives the same catalog as applying every committed change.
pub trait Store: Send {
    /// Takes the pool over: from now on commits of every earlier epoch fail. Epochs count up from 1.
    fn acquire(&mut self) -> Result<Epoch, StoreError>;

    /// All that is needed to start a coordinator, as of one moment.
    fn load(&mut self) -> Result<Snapshot, StoreError>;

    /// Makes these changes durable, all or none, before it returns.
    ///
    /// After an error other than [`StoreError::Deposed`] and [`StoreError::Contradiction`] the changes are durable
    /// either wholly or not at all, and only [`Store::load`] tells which.
    fn commit(&mut self, fence: Epoch, changes: &[Change]) -> Result<(), StoreError>;

    /// One job, open or ended.
    fn job(&mut self, id: JobId) -> Result<Option<JobRecord>, StoreError>;

    /// Jobs, open or ended. Synchronous requests are left out.
    fn jobs(&mut self, query: &JobQuery) -> Result<Vec<JobRecord>, StoreError>;

    /// The attempts of a job that came to nothing, oldest first, at most `limit`.
    fn attempts(&mut self, job: JobId, limit: usize) -> Result<Vec<(TaskIndex, Attempt)>, StoreError>;

    /// A job's accepted results, by task.
    fn settled(&mut self, job: JobId) -> Result<Vec<(TaskIndex, Settled)>, StoreError>;

    /// Entries of the pool's log in order, from this number on, at most `limit`. The first one's number is 0.
    fn logged(&mut self, from: u64, limit: usize) -> Result<Vec<Event>, StoreError>;

    /// What can be looked up in the pool's books.
    fn books(&mut self) -> &mut dyn BookQueries;
}

/// Why the store did not do it. Unless it says otherwise, nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another node holds the pool now.
    #[error(
        "another process took this pool over (epoch {current}; ours was {ours}): stop, or take it back by a restart"
    )]
    Deposed {
        /// The epoch that was used.
        ours: Epoch,
        /// The one in force.
        current: Epoch,
    },
    /// The changes do not fit what is stored: a bug in whoever made them, or a second writer.
    #[error("the pool's state has no place for {change}: {reason}. This is a defect in CAII: please report it")]
    Contradiction {
        /// The change at fault.
        change: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No room on the disk.
    #[error("no room to {attempt} in {}: free some disk space, then start the pool again", path.display())]
    DiskFull {
        /// What was to be done.
        attempt: &'static str,
        /// The database.
        path: PathBuf,
        /// The database's own words.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The database cannot be written.
    #[error(
        "cannot {attempt}: {} is read-only: check the owner and the permissions of the file and of its directory",
        path.display()
    )]
    ReadOnly {
        /// What was to be done.
        attempt: &'static str,
        /// The database.
        path: PathBuf,
        /// The database's own words.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The database is damaged, or it is something else.
    #[error(
        "cannot {attempt}: {} is damaged or no CAII pool: keep a copy of it and restore the last backup",
        path.display()
    )]
    Corrupt {
        /// What was to be done.
        attempt: &'static str,
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A newer CAII wrote the database.
    #[error(
        "{} was written by a newer CAII (schema {found}; this one knows up to {known}): upgrade this CAII",
        path.display()
    )]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest schema that this program knows.
        known: u32,
    },
    /// Another process kept the database locked for too long.
    #[error("cannot {attempt}: another process keeps {} locked: stop it, then try again", path.display())]
    Busy {
        /// What was to be done.
        attempt: &'static str,
        /// The database.
        path: PathBuf,
        /// The database's own words.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The disk or the database failed in another way.
    #[error("cannot {attempt} in {}: check that the file can be reached and the disk is sound", path.display())]
    Failed {
        /// What was to be done.
        attempt: &'static str,
        /// The database.
        path: PathBuf,
        /// The database's own words.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}
