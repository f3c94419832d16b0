//! Every way in which a pool says no. Each has a stable code and a page under `docs/errors/`.

use crate::{BootId, Bytes, DeviceId, Digest, FileId, JobId, KeyId, MeterId, SessionId, TicketId, Timestamp};
use std::fmt;

/// Why a request was refused. Nothing was changed by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No such job, or not the asker's.
    JobUnknown(JobId),
    /// The job has ended.
    JobEnded(JobId),
    /// No such file, or not the asker's.
    FileUnknown(FileId),
    /// The file's purpose does not fit.
    FilePurpose {
        /// The file.
        file: FileId,
        /// The purpose that is needed.
        needed: &'static str,
    },
    /// A running job reads the file.
    FileInUse(FileId, JobId),
    /// No such workload.
    WorkloadUnknown(Digest),
    /// The workload's manifest breaks a rule.
    ManifestInvalid(String),
    /// The workload counts fuel by another meter than this pool's devices.
    MeterForeign {
        /// The pool's.
        expected: MeterId,
        /// The one that was shown.
        found: MeterId,
    },
    /// No model of this name.
    ModelUnknown(String),
    /// Another model has this name.
    ModelExists(String),
    /// No such key.
    KeyUnknown(KeyId),
    /// The pool would have no admin key left.
    KeyLastAdmin(KeyId),
    /// The ticket's secret is not known here.
    TicketUnknown,
    /// The ticket has expired.
    TicketExpired(TicketId, Timestamp),
    /// The ticket has enrolled as many devices as it may.
    TicketSpent(TicketId, u32),
    /// No such device: it was never enrolled here.
    DeviceUnknown(DeviceId),
    /// The device was found to falsify results.
    DeviceConvicted(DeviceId),
    /// The request was meant for an earlier coordinator process. Say it again to this one.
    BootChanged(BootId),
    /// The conversation is not known: begin one.
    SessionUnknown,
    /// This device has a conversation, which a new one must name to take its place.
    SessionHeld(SessionId),
    /// Another agent with the same identity has begun a conversation since.
    SessionSuperseded,
    /// The sequence was not larger than in an earlier request.
    SequenceStale {
        /// The largest so far.
        last: u64,
    },
    /// The coordinator did not sign this lease.
    LeaseForged,
    /// The lease was given to another device.
    LeaseForeign(DeviceId),
    /// The lease has ended.
    LeaseExpired(Timestamp),
    /// The task has a result already.
    TaskSettled,
    /// The result's claim is not the device's next one. It is not done with: it needs another number.
    ClaimSequence {
        /// The next one's number.
        expected: u64,
    },
    /// A field breaks a rule.
    FieldInvalid {
        /// Which.
        field: &'static str,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// Something would exceed its limit.
    TooMany {
        /// What is counted.
        what: &'static str,
        /// The most there may be.
        limit: u64,
    },
    /// Something is larger than allowed.
    TooLarge {
        /// What.
        what: &'static str,
        /// The largest size.
        limit: Bytes,
    },
    /// No device answered in time.
    NoDevice {
        /// Why, as far as is known.
        reason: String,
    },
}

impl Refusal {
    /// Its stable code, which is also the name of its page.
    pub fn code(&self) -> &'static str {
        match self {
            Self::JobUnknown(_) => "job-unknown",
            Self::JobEnded(_) => "job-ended",
            Self::FileUnknown(_) => "file-unknown",
            Self::FilePurpose { .. } => "file-purpose",
            Self::FileInUse(..) => "file-in-use",
            Self::WorkloadUnknown(_) => "workload-unknown",
            Self::ManifestInvalid(_) => "manifest-invalid",
            Self::MeterForeign { .. } => "meter-foreign",
            Self::ModelUnknown(_) => "model-unknown",
            Self::ModelExists(_) => "model-exists",
            Self::KeyUnknown(_) => "key-unknown",
            Self::KeyLastAdmin(_) => "key-last-admin",
            Self::TicketUnknown => "ticket-unknown",
            Self::TicketExpired(..) => "ticket-expired",
            Self::TicketSpent(..) => "ticket-spent",
            Self::DeviceUnknown(_) => "device-unknown",
            Self::DeviceConvicted(_) => "device-convicted",
            Self::BootChanged(_) => "boot-changed",
            Self::SessionUnknown => "session-unknown",
            Self::SessionHeld(_) => "session-held",
            Self::SessionSuperseded => "session-superseded",
            Self::SequenceStale { .. } => "sequence-stale",
            Self::LeaseForged => "lease-forged",
            Self::LeaseForeign(_) => "lease-foreign",
            Self::LeaseExpired(_) => "lease-expired",
            Self::TaskSettled => "task-settled",
            Self::ClaimSequence { .. } => "claim-sequence",
            Self::FieldInvalid { .. } => "field-invalid",
            Self::TooMany { .. } => "too-many",
            Self::TooLarge { .. } => "too-large",
            Self::NoDevice { .. } => "no-device",
        }
    }

    /// Every code.
    pub const CODES: [&'static str; 31] = [
        "job-unknown",
        "job-ended",
        "file-unknown",
        "file-purpose",
        "file-in-use",
        "workload-unknown",
        "manifest-invalid",
        "meter-foreign",
        "model-unknown",
        "model-exists",
        "key-unknown",
        "key-last-admin",
        "ticket-unknown",
        "ticket-expired",
        "ticket-spent",
        "device-unknown",
        "device-convicted",
        "boot-changed",
        "session-unknown",
        "session-held",
        "session-superseded",
        "sequence-stale",
        "lease-forged",
        "lease-foreign",
        "lease-expired",
        "task-settled",
        "claim-sequence",
        "field-invalid",
        "too-many",
        "too-large",
        "no-device",
    ];
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JobUnknown(job) => write!(f, "there is no job {job} in your account; `caii job list` shows yours"),
            Self::JobEnded(job) => write!(f, "{job} has already ended"),
            Self::FileUnknown(file) => write!(f, "there is no file {file} in your account"),
            Self::FilePurpose { file, needed } => {
                write!(f, "{file} was uploaded for another purpose; upload it with purpose `{needed}`")
            }
            Self::FileInUse(file, job) => write!(f, "{job} still reads {file}; wait for it or cancel it first"),
            Self::WorkloadUnknown(digest) => write!(f, "there is no workload {digest}; add its program first"),
            Self::ManifestInvalid(reason) => write!(f, "the manifest is not acceptable: {reason}"),
            Self::MeterForeign { expected, found } => write!(
                f,
                "this pool meters by {}, not by {}; use the same release of caii everywhere in a pool",
                expected.0.short(),
                found.0.short()
            ),
            Self::ModelUnknown(name) => {
                write!(f, "the pool has no model `{name}`; `caii model list` shows those that it has")
            }
            Self::ModelExists(name) => {
                write!(f, "another model is called `{name}`; remove it or choose another name")
            }
            Self::KeyUnknown(key) => write!(f, "there is no key {key}; `caii key list` shows all"),
            Self::KeyLastAdmin(key) => write!(f, "{key} is the last admin key; create another one before you revoke it"),
            Self::TicketUnknown => f.write_str(
                "this pool does not know the ticket; ask its operator for a new one (`caii ticket create`)",
            ),
            Self::TicketExpired(ticket, at) => write!(
                f,
                "{ticket} expired at {} (Unix seconds); ask the pool's operator for a new one",
                at.unix_seconds()
            ),
            Self::TicketSpent(ticket, uses) => write!(
                f,
                "{ticket} has been used for {uses} device(s), as many as it allows; ask the pool's operator for a new one"
            ),
            Self::DeviceUnknown(device) => {
                write!(f, "{device} is not enrolled in this pool; run `caii agent run` with a join ticket")
            }
            Self::DeviceConvicted(device) => write!(
                f,
                "{device} returned results that an audit found to be false; it gets no more work in this pool. If you \
                 believe that the device is sound, ask the pool's operator for the audit"
            ),
            Self::BootChanged(boot) => write!(f, "the coordinator was restarted; it is now {boot}"),
            Self::SessionUnknown => f.write_str("the coordinator does not know this session; begin a new one"),
            Self::SessionHeld(session) => {
                write!(f, "the device already converses in {session}; a new session must name the one that it replaces")
            }
            Self::SessionSuperseded => f.write_str(
                "another agent with this device's identity has connected since; give each machine an agent directory of its own",
            ),
            Self::SequenceStale { last } => write!(f, "the request's sequence must be larger than {last}"),
            Self::LeaseForged => f.write_str("this coordinator did not sign the lease"),
            Self::LeaseForeign(device) => write!(f, "the lease was given to {device}"),
            Self::LeaseExpired(at) => write!(f, "the lease ended at {} (Unix seconds)", at.unix_seconds()),
            Self::TaskSettled => f.write_str("the task has a result already"),
            Self::ClaimSequence { expected } => {
                write!(f, "the claim's number is not the device's next, which is {expected}; say the result again with it")
            }
            Self::FieldInvalid { field, reason } => write!(f, "`{field}` is not acceptable: {reason}"),
            Self::TooMany { what, limit } => write!(f, "too many {what}: at most {limit} are allowed"),
            Self::TooLarge { what, limit } => write!(f, "{what} is too large: at most {limit} are allowed"),
            Self::NoDevice { reason } => write!(f, "no device could answer in time: {reason}"),
        }
    }
}

impl std::error::Error for Refusal {}
