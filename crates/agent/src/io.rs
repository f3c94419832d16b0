//! What goes into the agent's state machine and what comes out.

use caii_model::{
    AttemptFailure, Bytes, Digest, Energy, ExchangeReply, ExchangeRequest, Lease, LeaseId, MeterId, Millis, Refusal,
    TaskReport, Timestamp,
};

/// How much an agent takes on, and how patient it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Tasks run at a time; at least 1.
    pub slots: u32,
    /// Leases held ready beyond those that run, so that a slot never waits for a round trip.
    pub prefetch: u32,
    /// How the device meters.
    pub meter: MeterId,
    /// How long a request lets the coordinator hold its reply back.
    pub wait: Millis,
    /// First and longest pause after a failed exchange; the actual pause is drawn between half of it and all of it.
    pub backoff: (Millis, Millis),
    /// First and longest time without taking work after the device could not store or fetch what it needed.
    pub pause: (Millis, Millis),
    /// How long a workload that could not be prepared counts as hopeless without trying again.
    pub hopeless: Millis,
    /// Finished tasks without acknowledgement above which no more work is taken.
    pub results_max: u32,
    /// Bytes of their results above which no more work is taken.
    pub results_bytes_max: Bytes,
    /// After a request to stop: how long running tasks may go on.
    pub stop_grace: Millis,
    /// After that: how long the last reports may take to be acknowledged.
    pub stop_farewell: Millis,
}

impl Config {
    /// The usual patience for a device with this meter and this many slots (0 counts as 1).
    pub fn new(meter: MeterId, slots: u32) -> Self {
        Self {
            slots: slots.max(1),
            prefetch: 1,
            meter,
            wait: Millis(5_000),
            backoff: (Millis(250), Millis(15_000)),
            pause: (Millis(2_000), Millis(300_000)),
            hopeless: Millis(60_000),
            results_max: 32,
            results_bytes_max: Bytes::mebi(256),
            stop_grace: Millis(5_000),
            stop_farewell: Millis(2_000),
        }
    }
}

/// What a step may not find out by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The time by a clock that never goes back. Only differences matter: it need not agree with anybody else's clock.
    pub now: Timestamp,
    /// Fresh random bits. They spread retries over time and nothing else.
    pub entropy: u64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The shell is ready to act. Comes first.
    Started,
    /// The time of the last [`Action::SetTimer`] has come.
    Tick,
    /// The coordinator answered the request of the reply's sequence. For each [`Action::Exchange`] exactly one of `Replied`,
    /// `Refused` and `TransportFailed` comes, after a bounded time.
    Replied(ExchangeReply),
    /// The coordinator refused the request of this sequence.
    Refused {
        /// The request's sequence.
        sequence: u64,
        /// Why.
        refusal: Refusal,
    },
    /// No answer to the request of this sequence will come. It may have been received all the same.
    TransportFailed {
        /// The request's sequence.
        sequence: u64,
        /// Why, for people.
        reason: String,
    },
    /// The workload can be run.
    WorkloadReady(Digest),
    /// The workload cannot be run.
    WorkloadFailed(Digest, AttemptFailure),
    /// The workload may not run any more: what of it runs or waits ends now.
    WorkloadRevoked(Digest, AttemptFailure),
    /// A workload that was ready is no longer, as when its files made room for others.
    WorkloadEvicted(Digest),
    /// The lease's input is in memory.
    InputReady(LeaseId),
    /// The lease's input could not be had.
    InputFailed(LeaseId, AttemptFailure),
    /// The run ended and its result is in memory; it took so much energy.
    TaskFinished(LeaseId, TaskReport, Energy),
    /// The run came to nothing.
    TaskFailed(LeaseId, AttemptFailure),
    /// The coordinator's store has the result, or the shell will send it along with the report.
    ResultStored(LeaseId),
    /// The result could not be stored. It is tried again.
    ResultStoreFailed(LeaseId),
    /// The result can never be stored, as when it is larger than the pool takes.
    ResultRefused(LeaseId, AttemptFailure),
    /// The owner wants the agent to end: running tasks may finish within the grace time. Said again: at once.
    StopRequested,
}

/// What to do. Every action but [`Action::Exchange`] is about something whose end is told by one [`Input`], unless
/// [`Action::Abandon`] comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this request. Its claims are numbered, and not signed yet.
    Exchange(ExchangeRequest),
    /// Make the workload ready: fetch, verify, compile. One at a time.
    PrepareWorkload(Digest),
    /// Get the lease's input into memory.
    FetchInput(Lease),
    /// Run the lease's task.
    Run(Lease),
    /// Store the result, or keep it to be sent along with the report if it is small.
    Upload(Lease),
    /// Stop whatever is under way for the lease and drop its bytes; say no more of it.
    Abandon(LeaseId),
    /// Nothing is under way for the lease and none of its bytes is needed any more.
    Release(LeaseId),
    /// Say [`Input::Tick`] at this time. Replaces the timer set before.
    SetTimer(Timestamp),
    /// Stop everything. No action follows.
    Exit(ExitReason),
}

/// Why an agent ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitReason {
    /// It was asked to.
    Stopped {
        /// Leases of whose end the coordinator was not told; it finds out by itself after a while.
        unreported: u32,
    },
    /// Another agent with this device's identity has begun a conversation. It is not fought: two that did would starve
    /// each other.
    Superseded,
    /// The coordinator will never serve this device as it is.
    Refused(Refusal),
}
