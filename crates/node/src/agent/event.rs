//! What an agent tells the person who started it, a line each.

use super::jails::JailView;
use caii_agent::Forgotten;
use caii_model::{AttemptFailure, Bytes, DeviceId, Digest, Millis, PoolId, TaskId};
use std::fmt;

/// Something that the person who lends the device may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentEvent {
    /// The device was enrolled.
    Enrolled {
        /// As what.
        device: DeviceId,
        /// Where.
        pool: PoolId,
    },
    /// What the owner chose is in force.
    Chosen {
        /// In sentences.
        lines: Vec<String>,
    },
    /// A runner was started, or not for want of a jail, and what confines it is not what was told before.
    Jailed {
        /// Layer by layer.
        jail: Box<JailView>,
    },
    /// The pool cannot be reached; it is tried again.
    Unreachable {
        /// Why.
        reason: String,
        /// After this time.
        retry: Millis,
    },
    /// A conversation with the pool has begun.
    Connected {
        /// `host:port`
        address: String,
        /// Tasks that this device runs at a time.
        slots: u32,
    },
    /// A workload's files are being fetched.
    Fetching {
        /// Its name.
        name: String,
        /// So much is here,
        received: Bytes,
        /// of so much.
        size: Bytes,
    },
    /// A workload can run.
    Prepared {
        /// Its name.
        name: String,
        /// The stewards who certified it.
        by: Vec<String>,
        /// Whether its compiled program was there from before.
        cached: bool,
        /// How long it took.
        wall: Millis,
    },
    /// A workload cannot run here.
    PreparationFailed {
        /// Its digest.
        workload: Digest,
        /// Why.
        failure: AttemptFailure,
    },
    /// The charter was verified for the first time, or is another one now.
    Charter {
        /// Who decides what may run here, in a sentence.
        charter: String,
    },
    /// The charter's files could not be had or were refused.
    Ungoverned {
        /// Why.
        reason: String,
        /// They are asked for again after this time.
        retry: Millis,
    },
    /// A workload may not run here any more.
    WorkloadStopped {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// A task ran to its end.
    TaskFinished {
        /// Which.
        task: TaskId,
        /// Its items.
        items: u32,
        /// Its records without a result.
        records_failed: u32,
        /// How long it took.
        wall: Millis,
    },
    /// An attempt at a task came to nothing.
    TaskFailed {
        /// Which.
        task: TaskId,
        /// Why.
        failure: AttemptFailure,
    },
    /// The pool decided claims of this device and does not know them any more.
    ReceiptsForgotten {
        /// Which.
        forgotten: Forgotten,
    },
    /// How many claims are decided could not be written down; it is tried again.
    ClaimsUnkept {
        /// Why.
        reason: String,
    },
    /// The agent was asked to stop and finishes what runs.
    Stopping {
        /// Tasks that run.
        running: u32,
    },
    /// The agent has stopped.
    Stopped {
        /// Tasks whose end the pool was not told.
        unreported: u32,
    },
}

impl fmt::Display for AgentEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enrolled { device, pool } => write!(f, "joined {pool} as {device}"),
            Self::Unreachable { reason, retry } => {
                write!(f, "cannot reach the pool ({reason}); trying again in {retry}")
            }
            Self::Connected { address, slots } => {
                write!(f, "connected to {address}; running up to {slots} task(s) at a time")
            }
            Self::Fetching { name, received, size } => write!(f, "fetching {name}: {received} of {size}"),
            Self::Prepared { name, by, cached, wall } => {
                let how = if *cached { "is ready, compiled before" } else { "is fetched and compiled" };
                write!(f, "{name} {how} ({wall}; certified by {})", by.join(", "))
            }
            Self::Chosen { lines } => f.write_str(&lines.join(" ")),
            Self::Jailed { jail } => f.write_str(&jail.told()),
            Self::Charter { charter } => write!(f, "what may run here: {charter}"),
            Self::Ungoverned { reason, retry } => write!(f, "{reason}; trying again in {retry}"),
            Self::WorkloadStopped { name, reason } => write!(f, "stopped {name}: {reason}"),
            Self::PreparationFailed { workload, failure } => {
                write!(f, "workload {} cannot run here: {}", workload.short(), failure.detail)
            }
            Self::TaskFinished { task, items, records_failed: 0, wall } => {
                write!(f, "{task}: {items} item(s) in {wall}")
            }
            Self::TaskFinished { task, items, records_failed, wall } => {
                write!(f, "{task}: {items} item(s) in {wall}, {records_failed} record(s) without a result")
            }
            Self::TaskFailed { task, failure } => write!(f, "{task} failed here: {}", failure.detail),
            Self::ReceiptsForgotten { forgotten } => forgotten.fmt(f),
            Self::ClaimsUnkept { reason } => {
                write!(f, "cannot write down how many claims of this device are decided ({reason}); trying again")
            }
            Self::Stopping { running: 0 } => f.write_str("stopping"),
            Self::Stopping { running } => {
                write!(f, "stopping after {running} running task(s); interrupt again to stop at once")
            }
            Self::Stopped { unreported: 0 } => f.write_str("stopped"),
            Self::Stopped { unreported } => {
                write!(f, "stopped; the pool will give {unreported} task(s) to other devices")
            }
        }
    }
}
