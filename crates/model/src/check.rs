//! How results are checked before they count.

use crate::{DeviceId, Digest, TaskId, TaskIndex, TaskInput, Timestamp};

/// How a job's results are checked. Whatever is chosen, a device never learns which of its work is a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verification {
    /// Not at all: a synchronous request, whose client waits.
    Off,
    /// One item in a hundred runs on another device too, whoever lends it. For pools of one's own devices: it finds
    /// broken machines, and bounds no cheat's success.
    Spot,
    /// Items run on devices of other owners too, until a result was followed by so many agreeing audits of its device
    /// or was checked in full.
    Audit {
        /// How many.
        depth: u32,
    },
    /// Every task runs on so many devices of different owners, all of which have to agree.
    Quorum {
        /// How many, 2 to [`Verification::RESULTS_MAX`].
        results: u8,
    },
}

impl Verification {
    /// The usual depth of audits.
    pub const DEPTH: u32 = 409;
    /// The deepest audit.
    pub const DEPTH_MAX: u32 = 100_000;
    /// The largest quorum.
    pub const RESULTS_MAX: u8 = 5;

    /// Whether it is one that a job can have.
    pub fn is_valid(self) -> bool {
        match self {
            Self::Off | Self::Spot => true,
            Self::Audit { depth } => (1..=Self::DEPTH_MAX).contains(&depth),
            Self::Quorum { results } => (2..=Self::RESULTS_MAX).contains(&results),
        }
    }
}

/// An item of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ItemId {
    /// The task of the same job.
    pub task: TaskIndex,
    /// Its place in it.
    pub item: u32,
}

/// Work that checks what a device did. To whoever does it, it looks like any other task of the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Whose results are checked.
    pub of: DeviceId,
    /// What is run again.
    pub subject: AuditSubject,
}

/// What an audit runs again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditSubject {
    /// These items, gathered from the device's tasks.
    Items(Vec<ItemId>),
    /// All items of this task.
    Task(TaskIndex),
}

/// What came of an audit. Places count its items from 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditEnd {
    /// Those that agreed with the device, ascending.
    pub survived: Vec<u32>,
    /// Those that nobody could run, ascending: they count as if they had not been drawn.
    pub waived: Vec<u32>,
}

/// One step in the checking of a task, in the order in which they happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckEvent {
    /// Of a settled task: these of its items will be audited, besides those drawn before.
    Drawn {
        /// How many items of its device had ever been drawn, before the first of this task.
        mark: u64,
        /// The items, ascending.
        items: Vec<u32>,
    },
    /// Of an audit: it was made of drawn items.
    Made(Audit),
    /// Of an audit: its input is in this blob, there.
    Prepared(Digest, TaskInput),
    /// Of an audit: it has come to an end.
    Ended(AuditEnd),
    /// Of a settled task: its result counts.
    Final(Timestamp),
}

/// Why a device is trusted no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conviction {
    /// Who.
    pub device: DeviceId,
    /// What it ran.
    pub workload: Digest,
    /// The audit that showed it.
    pub audit: TaskId,
    /// The item that it falsified.
    pub item: ItemId,
    /// Whether it lied as the auditor.
    pub as_auditor: bool,
    /// When.
    pub at: Timestamp,
}
