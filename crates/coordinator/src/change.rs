//! Everything that can change durably. Replaying changes in order gives the live state.

use crate::{Carried, PayoutDraft, PayoutPreference};
use caii_audit::Event;
use caii_ledger::PayoutRun;
use caii_model::{
    Account, AttemptFailure, CheckEvent, Conviction, Device, DeviceId, Digest, Ending, FileId, FileMeta, JobId,
    JobSpec, Key, KeyId, LeaseId, Manifest, Millis, Model, Prepared, Settled, TaskId, Ticket, TicketId, Timestamp,
    VoidReason,
};
use caii_verify::{Secret, Standing};

/// One durable change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An API key was made.
    KeyCreated(Key),
    /// An API key was revoked.
    KeyRevoked(KeyId, Timestamp),
    /// A ticket was made.
    TicketIssued(Ticket),
    /// A ticket was given another end.
    TicketRevoked(TicketId, Timestamp),
    /// A device was enrolled by a ticket, whose uses thereby grow by one.
    DeviceEnrolled(Device, TicketId),
    /// A workload was added.
    WorkloadAdded(Manifest),
    /// A model was added.
    ModelAdded(Model),
    /// A model was removed.
    ModelRemoved(String),
    /// A file was made.
    FileCreated(FileMeta),
    /// A file was deleted.
    FileDeleted(FileId, Timestamp),
    /// A job was submitted.
    JobSubmitted(JobId, JobSpec, Timestamp),
    /// A job's input was split.
    JobPrepared(JobId, Prepared, Timestamp),
    /// A task's result was accepted.
    TaskSettled(TaskId, Settled),
    /// An attempt at a task came to nothing.
    AttemptFailed(TaskId, Attempt),
    /// A task was given up; its records become error lines.
    TaskGivenUp(TaskId, Timestamp),
    /// Draws from now on depend on this secret.
    AuditSecret {
        /// Counts them.
        period: u64,
        /// It.
        secret: Secret,
        /// When it began.
        since: Timestamp,
    },
    /// A step in the checking of a task.
    Checked(TaskId, CheckEvent),
    /// A device stands so for a workload.
    StandingChanged(DeviceId, Digest, Standing),
    /// A device is trusted no more.
    DeviceConvicted(Conviction),
    /// An accepted result does not count any more.
    TaskVoided(TaskId, VoidReason, Timestamp),
    /// A job will end so as soon as its output is written.
    JobEnding(JobId, Ending, Timestamp),
    /// A job has ended.
    JobEnded(JobId, JobEnd),
    /// A device was present on this day (since 1970) for so long in all; nothing: the day is settled.
    Attended(DeviceId, u32, Millis),
    /// What a member wants to become of what it earns. Bank details are here and nowhere in the log.
    PayoutPreferred(Account, PayoutPreference),
    /// The files of a payout run were made, in place of those that were not sent.
    PayoutPrepared(Box<PayoutDraft>),
    /// A payout run was approved by whoever signed this envelope.
    PayoutApproved(PayoutRun, Vec<u8>),
    /// The next entry of the pool's log.
    Logged(Box<Event>),
    /// The books as a store has them: only in what a store loads, before the jobs.
    Carried(Box<Carried>),
}

/// An attempt that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The lease, so that a failure that is reported twice counts once.
    pub lease: LeaseId,
    /// Whose.
    pub device: DeviceId,
    /// Why.
    pub failure: AttemptFailure,
    /// When.
    pub at: Timestamp,
}

/// What remains of a job: its row in history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEnd {
    /// How it ended.
    pub ending: Ending,
    /// When.
    pub at: Timestamp,
    /// The output file.
    pub output: Option<FileId>,
    /// The error file.
    pub errors: Option<FileId>,
    /// What it came to.
    pub totals: Totals,
}

/// What a job's accepted results add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Records of the input.
    pub records: u64,
    /// Records with a result.
    pub records_ok: u64,
    /// Records with an error line.
    pub records_failed: u64,
    /// Tasks of the job.
    pub tasks: u32,
    /// Tasks with a result.
    pub tasks_settled: u32,
    /// Tasks given up.
    pub tasks_given_up: u32,
    /// Attempts that came to nothing.
    pub attempts_failed: u32,
    /// Devices with an accepted result.
    pub devices: u32,
    /// Fuel of all accepted results.
    pub fuel: caii_model::Fuel,
    /// CPU time of all accepted results.
    pub cpu: caii_model::Millis,
}

/// A job as its row in history has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRecord {
    /// Its id.
    pub id: JobId,
    /// As submitted.
    pub spec: JobSpec,
    /// When it was submitted.
    pub submitted: Timestamp,
    /// When its input was split.
    pub prepared: Option<Timestamp>,
    /// The split input's blob, for a synchronous request's answer and for audits.
    pub blob: Option<Digest>,
    /// Set from the moment that its ending is known.
    pub ending: Option<(Ending, Timestamp)>,
    /// Set once it has ended.
    pub end: Option<JobEnd>,
}
