//! Everything that can be said to a coordinator.

use caii_ledger::{GrantKey, PayoutRun};
use caii_model::{
    Account, DeviceId, Digest, ExchangeRequest, FileId, FilePurpose, InputError, JobId, JobSpec, KeyId, Manifest,
    MicroCredits, Millis, Model, Prepared, Role, TariffTerms, TaskId, TaskInput, Timestamp,
};
use caii_model::{Bytes, TicketId};

/// What the shell supplies with each input: the pure core has no clock and no randomness of its own.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// The shell's clock. When it is set back, the coordinator's time goes on from where it was.
    pub now: Timestamp,
    /// Fresh random bytes, different for each input.
    pub entropy: [u8; 32],
}

/// Names the question to which an effect is the answer; the shell chooses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// One input. `owner: None` means an admin, who reaches every account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Make an API key.
    KeyCreate {
        /// A label.
        name: String,
        /// Whose it is.
        account: Account,
        /// What it may do.
        role: Role,
        /// SHA-256 of its secret.
        secret_hash: Digest,
    },
    /// Revoke an API key.
    KeyRevoke(KeyId),
    /// Make a right to enrol devices.
    TicketIssue {
        /// Whose devices they become.
        account: Account,
        /// SHA-256 of its secret.
        secret_hash: Digest,
        /// How long it works.
        valid_for: Millis,
        /// How many devices it may enrol.
        uses_max: u32,
    },
    /// Stop a ticket from enrolling any more devices.
    TicketRevoke(TicketId),
    /// Add a workload. The shell has stored its blobs and inspected the program.
    WorkloadAdd(Manifest),
    /// Let requests name a model. The same model again is no error.
    ModelAdd(Model),
    /// Remove a model's name.
    ModelRemove(String),
    /// Record a file whose content is stored.
    FileCreate {
        /// Whose it is.
        owner: Account,
        /// Its name.
        filename: String,
        /// What it is for.
        purpose: FilePurpose,
        /// Address of the content.
        digest: Digest,
        /// Its size.
        size: Bytes,
    },
    /// Delete a file.
    FileDelete {
        /// Who asks.
        owner: Option<Account>,
        /// Which.
        file: FileId,
    },
    /// Submit a job.
    JobSubmit(JobSpec),
    /// Submit a job whose single task is at hand: a synchronous request.
    JobSubmitPrepared(JobSpec, Prepared),
    /// Cancel a job.
    JobCancel {
        /// Who asks.
        owner: Option<Account>,
        /// Which.
        job: JobId,
    },
    /// The shell has checked and split a job's input (see [`Effect::Prepare`](crate::Effect::Prepare)).
    JobPrepared(JobId, Result<Prepared, Vec<InputError>>),
    /// The shell has written a job's output (see [`Effect::Assemble`](crate::Effect::Assemble)).
    JobAssembled(JobId, Assembled),
    /// The shell has gathered an audit's items (see [`Effect::Gather`](crate::Effect::Gather)): the blob that they are
    /// in, and where.
    AuditGathered(TaskId, Digest, TaskInput),
    /// The shell has compared an audit's result with the claims that it checks (see
    /// [`Effect::Compare`](crate::Effect::Compare)): the places that differ, ascending.
    AuditCompared(TaskId, Vec<u32>),
    /// The pool's own executor has run items of an audit (see [`Effect::Referee`](crate::Effect::Referee)), or cannot.
    AuditRefereed(TaskId, Result<Vec<Finding>, String>),
    /// A device joins.
    Enrol {
        /// SHA-256 of the ticket's secret.
        secret_hash: Digest,
        /// The device's key; the shell has checked that it holds the private half.
        public_key: [u8; 32],
        /// A label.
        name: String,
    },
    /// A device speaks; the shell has checked its signature and that each reported result is stored and matches its
    /// commitment (or has turned the report into a failed attempt).
    Exchange(ExchangeRequest),
    /// The connection on which a device's reply was held back is gone.
    ExchangeGone(DeviceId),
    /// The pool's governance metadata (charter, revocations) has this version now. The shell says so at every start and
    /// at every change.
    GovernanceChanged {
        /// Larger than every earlier one.
        version: u64,
    },
    /// What the pool is. The shell says so at every start, before anything else; the log is opened by it once.
    Open(Box<crate::Opening>),
    /// The shell holds an envelope by which a workload is certified; it says so, and waits for the answer, before anything
    /// of it runs.
    WorkloadCertified {
        /// Which.
        workload: Digest,
        /// By which charter.
        charter: Digest,
        /// The signed envelope.
        envelope: Vec<u8>,
    },
    /// Publish a tariff that holds from its own date.
    TariffEnact(TariffTerms),
    /// Give credits to a member, or record that it paid for them. The same key again is no second time.
    Credit {
        /// Names it.
        key: GrantKey,
        /// To whom.
        to: Account,
        /// How much.
        amount: MicroCredits,
        /// Whether money was received for it.
        paid: bool,
    },
    /// A workload may not run any more. Its open jobs end; the shell says it again at every start.
    WorkloadRevoked {
        /// Which.
        workload: Digest,
        /// By whom and why, for people.
        reason: String,
    },
    /// Too few certify a workload, because a steward's key was revoked. Its open jobs end; jobs that are submitted once
    /// others certified it are none of them.
    WorkloadUncertified {
        /// Which.
        workload: Digest,
        /// What is missing and why, for people.
        reason: String,
    },
    /// A member says what is to become of what it earns.
    PayoutPrefer {
        /// Whose.
        account: Account,
        /// What.
        preference: crate::PayoutPreference,
    },
    /// Make the files of the next payout run, in place of those that were not sent: what members are owed is asked for.
    PayoutPrepare {
        /// On which day the bank is to pay.
        execution: Timestamp,
        /// Credit notes for those who prefer a discount, instead of payments to those who prefer them.
        credit_notes: bool,
    },
    /// Approvers have signed the run's statement.
    PayoutApprove {
        /// Which run.
        run: PayoutRun,
        /// A DSSE envelope.
        envelope: Vec<u8>,
    },
    /// The run's files go to the bank. Only with enough approvals.
    PayoutSend {
        /// Which run.
        run: PayoutRun,
    },
    /// The bank has answered about these members.
    PayoutSettle {
        /// Which run.
        run: PayoutRun,
        /// Whom it paid.
        paid: Vec<Account>,
        /// Whom it did not.
        failed: Vec<Account>,
    },
    /// Time passes. The shell says so about four times a second.
    Tick,
}

/// What the pool's own executor found of one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// The item's place in the audit.
    pub place: u32,
    /// Whether the device's claim is right.
    pub claim_right: bool,
    /// Whether the auditor's is; absent when there was no auditor.
    pub auditor_right: Option<bool>,
}

/// The files that the shell wrote when a job ended. Each absent when it would be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Assembled {
    /// Results, in the order of the input.
    pub output: Option<(Digest, Bytes)>,
    /// Error lines, in the order of the input.
    pub errors: Option<(Digest, Bytes)>,
    /// Records with a result.
    pub records_ok: u64,
    /// Records with an error line.
    pub records_failed: u64,
}
