//! Everything that a coordinator can ask its shell to do. Effects are released only after the changes that came with
//! them are durable.

use crate::RequestId;
use caii_model::{DeviceId, ExchangeReply, FileMeta, JobId, Key, KeyId, Model, Refusal, TaskId, Ticket};

/// What one input led to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// To be committed, in order, together.
    pub changes: Vec<crate::Change>,
    /// To be done after that, in order.
    pub effects: Vec<Effect>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Answer a question.
    Reply(RequestId, Result<Reply, Refusal>),
    /// Check and split this job's input, then say [`Input::JobPrepared`](crate::Input::JobPrepared).
    Prepare(JobId),
    /// Write this job's output from its settled tasks, then say [`Input::JobAssembled`](crate::Input::JobAssembled).
    Assemble(JobId),
    /// Gather this audit's items into an input of their own, then say
    /// [`Input::AuditGathered`](crate::Input::AuditGathered).
    Gather(TaskId),
    /// Compare this audit's result with what it checks, then say [`Input::AuditCompared`](crate::Input::AuditCompared).
    Compare(TaskId),
    /// Run these places of an audit on the pool's own machine, then say
    /// [`Input::AuditRefereed`](crate::Input::AuditRefereed).
    Referee(TaskId, Vec<u32>),
    /// This job has ended; whoever waits for it may look.
    JobEnded(JobId),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Done; nothing to tell.
    Done,
    /// The key that was made or revoked.
    Key(Key),
    /// The key that was revoked.
    KeyRevoked(KeyId),
    /// The ticket that was made.
    Ticket(Ticket),
    /// The model that was added.
    Model(Model),
    /// The workload that was added.
    Workload(caii_model::Digest),
    /// The file that was made.
    File(FileMeta),
    /// The job that was submitted or is being cancelled.
    Job(JobId),
    /// The device that was enrolled.
    Device(DeviceId),
    /// The payout run whose files were made.
    Payout(caii_ledger::PayoutRun),
    /// What a device is told.
    Exchange(ExchangeReply),
}
