//! Contributors' devices: how they join, what they are leased, and what they say.

use crate::{
    Account, AttemptFailure, BootId, DeviceId, Digest, LeaseId, MeterId, Millis, PoolId, Refusal, SessionId,
    SignedClaim, TaskId, TaskInput, TaskReport, TicketId, Timestamp,
};

/// A right to enrol devices. The pool never holds its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Its id.
    pub id: TicketId,
    /// Whose devices they become.
    pub account: Account,
    /// SHA-256 of the secret.
    pub secret_hash: Digest,
    /// When it stops working.
    pub expires: Timestamp,
    /// How many devices it may enrol.
    pub uses_max: u32,
    /// How many it has enrolled.
    pub uses: u32,
}

/// An enrolled device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its id, derived from the key.
    pub id: DeviceId,
    /// Its Ed25519 public key.
    pub public_key: [u8; 32],
    /// Who lends it.
    pub owner: Account,
    /// A label that its owner chose, at most 64 characters.
    pub name: String,
    /// When it was enrolled.
    pub enrolled: Timestamp,
}

/// The right of one device to work on one task for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// Which pool gave it.
    pub pool: PoolId,
    /// The task.
    pub task: TaskId,
    /// To whom.
    pub device: DeviceId,
    /// What to run.
    pub workload: Digest,
    /// On which bytes: this range of this blob.
    pub input: TaskInput,
    /// The blob.
    pub blob: Digest,
    /// When it was given, by the coordinator's clock.
    pub issued: Timestamp,
    /// When it ends, by the coordinator's clock.
    pub expires: Timestamp,
}

impl Lease {
    /// What the coordinator signs: every field.
    pub fn digest(&self) -> Digest {
        Digest::of_fields(
            "caii lease 1",
            &[
                &self.id.0,
                &self.pool.0,
                &self.task.job.0.to_le_bytes(),
                &self.task.index.0.to_le_bytes(),
                &self.device.0,
                &self.workload.0,
                &self.input.digest.0,
                &self.input.offset.to_le_bytes(),
                &self.input.len.to_le_bytes(),
                &self.input.records.to_le_bytes(),
                &self.blob.0,
                &self.issued.0.to_le_bytes(),
                &self.expires.0.to_le_bytes(),
            ],
        )
    }
}

/// A lease and the coordinator's Ed25519 signature over [`Lease::digest`]. The coordinator keeps no record of it: who
/// shows it, has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedLease {
    /// The lease.
    pub lease: Lease,
    /// The signature.
    pub signature: [u8; 64],
}

/// What a device says in one exchange. Reports and holdings are complete each time, so that losing any message, or
/// restarting either side, loses nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeRequest {
    /// Who speaks.
    pub device: DeviceId,
    /// The coordinator process that it believes to speak to.
    pub boot: Option<BootId>,
    /// The conversation; absent: begin one.
    pub session: Option<SessionId>,
    /// When beginning: the conversation of this device that it takes the place of. Whoever begins has to name the one
    /// that is going on, so that a beginning that was overtaken by another one does nothing.
    pub replaces: Option<SessionId>,
    /// Larger than in every earlier request of this device to this coordinator process.
    pub sequence: u64,
    /// Every reply up to this sequence was received or is given up: leases that came in them and are neither held nor
    /// reported are lost.
    pub settled_sequence: u64,
    /// How the device meters.
    pub meter: MeterId,
    /// How many more tasks it would take.
    pub slots_free: u32,
    /// How many tasks it runs at a time.
    pub slots: u32,
    /// How long it lets the coordinator hold the reply back when there is nothing to say.
    pub wait: Millis,
    /// Every lease that it works on or has the result of.
    pub holding: Vec<SignedLease>,
    /// What became of leases; repeated until acknowledged.
    pub reports: Vec<Report>,
    /// Workloads that it can start without fetching or compiling.
    pub ready: Vec<Digest>,
    /// The challenge in the last reply that it got: by signing it the device shows that it is there now. 0: none yet.
    pub challenge: u64,
}

/// What became of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The lease.
    pub lease: SignedLease,
    /// The result, or why there is none.
    pub outcome: Result<TaskReport, AttemptFailure>,
    /// A result has one, a failure has none.
    pub claim: Option<SignedClaim>,
}

/// What a coordinator answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeReply {
    /// The conversation.
    pub session: SessionId,
    /// The sequence of the request that is answered.
    pub sequence: u64,
    /// The coordinator's clock.
    pub now: Timestamp,
    /// New work.
    pub leases: Vec<SignedLease>,
    /// What the reports came to, one each in their order. A refused report is done with too, unless the refusal is
    /// [`Refusal::ClaimSequence`].
    pub acks: Vec<(LeaseId, Result<(), Refusal>)>,
    /// Held leases that are worth nothing any more: stop working on them.
    pub dropped: Vec<LeaseId>,
    /// The version of the pool's governance metadata (charter, revocations); another one than the device has is worth
    /// fetching. 0: the coordinator was not told yet.
    pub governance: u64,
    /// How many of the device's claims the pool has decided, with those in the request: the next one's number is larger
    /// by one.
    pub claims: u64,
    /// A random number for the next request, which nobody could know before.
    pub challenge: u64,
}
