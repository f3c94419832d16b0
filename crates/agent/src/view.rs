//! What people see of an agent: its state as values and as sentences, and what it must never show.

use crate::agent::{Agent, Phase, Workload};
use crate::link::OUTSTANDING_MAX;
use crate::work::{Done, Stage};
use crate::{Claims, Forgotten};
use caii_model::{Digest, LeaseId, SessionId, TaskId, Timestamp};
use std::collections::BTreeSet;

/// Counts since the agent started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Tasks that ran to their end.
    pub finished: u64,
    /// Attempts that came to nothing, given back ones included.
    pub failed: u64,
    /// Results that the coordinator accepted.
    pub accepted: u64,
    /// Results that it refused, as when another device was faster.
    pub refused: u64,
    /// Leases that it withdrew.
    pub dropped: u64,
}

/// An agent's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The conversation with the coordinator.
    pub link: LinkView,
    /// Tasks that may run at a time.
    pub slots: u32,
    /// How many more tasks it would take now.
    pub slots_free: u32,
    /// Every lease held, oldest first.
    pub tasks: Vec<TaskView>,
    /// Every workload that it knows.
    pub workloads: Vec<(Digest, WorkloadView)>,
    /// No work is taken before this time, because of this failure.
    pub paused: Option<(Timestamp, String)>,
    /// Whether it is about to end.
    pub stopping: bool,
    /// Counts since it started.
    pub totals: Totals,
    /// What it knows of its claims.
    pub claims: Claims,
}

/// The conversation with the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkView {
    /// It has begun and the last exchange went well.
    Connected {
        /// Its id.
        session: SessionId,
    },
    /// Its beginning is under way.
    Connecting,
    /// Exchanges fail.
    Troubled {
        /// How many in a row.
        failures: u32,
        /// Why the last one did.
        reason: String,
        /// When the next is tried; absent: it is under way.
        retry_at: Option<Timestamp>,
    },
}

/// A lease held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskView {
    /// The lease.
    pub lease: LeaseId,
    /// Its task.
    pub task: TaskId,
    /// What runs it.
    pub workload: Digest,
    /// How far it is.
    pub stage: TaskStage,
    /// For how long it has been there.
    pub since: Timestamp,
}

/// How far a lease is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskStage {
    /// Its input is being fetched.
    Fetching,
    /// Its workload is being prepared.
    AwaitsWorkload,
    /// It waits for a slot.
    AwaitsSlot,
    /// It runs.
    Running,
    /// Its result is being stored.
    Storing,
    /// Its result waits for the coordinator's word.
    Finished,
    /// Its failure waits for the coordinator's word.
    Failed,
}

/// What is known of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkloadView {
    /// It is being prepared since then.
    Preparing(Timestamp),
    /// It can run.
    Ready,
    /// It could not be prepared, for this reason, and is not tried again before then.
    Hopeless(String, Timestamp),
}

impl Agent {
    /// The state of the conversation alone.
    pub fn link_view(&self) -> LinkView {
        match (self.link.trouble(), self.link.session()) {
            (Some(reason), _) => LinkView::Troubled {
                failures: self.link.failures(),
                reason: reason.to_owned(),
                retry_at: self.link.retry_at(),
            },
            (None, Some(session)) => LinkView::Connected { session },
            (None, None) => LinkView::Connecting,
        }
    }

    /// The agent's state as values.
    pub fn view(&self) -> View {
        let task = |held: &crate::work::Held| TaskView {
            lease: held.id(),
            task: held.signed.lease.task,
            workload: held.workload(),
            stage: match &held.stage {
                Stage::Fetching => TaskStage::Fetching,
                Stage::Queued if matches!(self.workloads.get(&held.workload()), Some(Workload::Ready)) => {
                    TaskStage::AwaitsSlot
                }
                Stage::Queued => TaskStage::AwaitsWorkload,
                Stage::Running => TaskStage::Running,
                Stage::Storing { .. } => TaskStage::Storing,
                Stage::Done(Done { outcome: Ok(_), .. }) => TaskStage::Finished,
                Stage::Done(Done { outcome: Err(_), .. }) => TaskStage::Failed,
            },
            since: held.since,
        };
        let workload = |state: &Workload| match state {
            Workload::Preparing { since } => WorkloadView::Preparing(*since),
            Workload::Ready => WorkloadView::Ready,
            Workload::Hopeless { failure, until } => WorkloadView::Hopeless(failure.detail.clone(), *until),
        };
        View {
            link: self.link_view(),
            slots: self.config.slots,
            slots_free: self.slots_free(),
            tasks: self.leases.iter().map(task).collect(),
            workloads: self.workloads.iter().map(|(digest, state)| (*digest, workload(state))).collect(),
            paused: self.paused_until.zip(self.ailment.as_ref().map(|failure| failure.detail.clone())),
            stopping: matches!(self.phase, Phase::Stopping { .. }),
            totals: self.totals,
            claims: self.claims(),
        }
    }

    /// What the agent does and why it does no more, in sentences.
    pub fn explain(&self, now: Timestamp) -> Vec<String> {
        let view = self.view();
        let mut lines = vec![match &view.link {
            _ if self.phase == Phase::Ended => "The agent has ended.".to_owned(),
            LinkView::Connected { .. } => "Connected to the pool.".to_owned(),
            LinkView::Connecting => "Connecting to the pool.".to_owned(),
            LinkView::Troubled { failures, reason, retry_at } => {
                let next = match retry_at {
                    Some(at) => format!("the next attempt is in {}", at.since(now)),
                    None => "another attempt is under way".to_owned(),
                };
                format!(
                    "Not connected: {failures} exchange(s) in a row failed, the last one because {reason}; {next}. Work in progress goes on."
                )
            }
        }];
        let count = |stage: TaskStage| view.tasks.iter().filter(|task| task.stage == stage).count();
        for (stage, text) in [
            (TaskStage::Running, "running"),
            (TaskStage::Fetching, "waiting for input"),
            (TaskStage::AwaitsWorkload, "waiting until the workload is prepared"),
            (TaskStage::AwaitsSlot, "waiting for one of the slots"),
            (TaskStage::Storing, "finished, result being stored"),
            (TaskStage::Finished, "finished, waiting for the coordinator's acknowledgement"),
            (TaskStage::Failed, "failed or given back, waiting for the coordinator's acknowledgement"),
        ] {
            match count(stage) {
                0 => {}
                1 => lines.push(format!("1 task {text}.")),
                tasks => lines.push(format!("{tasks} tasks {text}.")),
            }
        }
        for (digest, state) in &view.workloads {
            match state {
                WorkloadView::Preparing(since) => {
                    lines.push(format!("Preparing workload {} for {}.", digest.short(), now.since(*since)));
                }
                WorkloadView::Hopeless(reason, until) => lines.push(format!(
                    "Workload {} cannot run here: {reason}. It is tried again in {}.",
                    digest.short(),
                    until.since(now)
                )),
                WorkloadView::Ready => {}
            }
        }
        if let Some((until, reason)) = &view.paused {
            lines.push(format!("Takes no work for {}: {reason}.", until.since(now)));
        }
        let (finished, bytes) = self.leases.finished();
        if finished >= self.config.results_max || bytes >= self.config.results_bytes_max {
            lines.push(format!(
                "Takes no work before the coordinator acknowledges some of {finished} results ({bytes})."
            ));
        }
        lines.extend(view.claims.forgotten.as_ref().map(Forgotten::to_string));
        if view.stopping {
            lines.push("Stopping: takes no more work.".to_owned());
        } else if view.tasks.is_empty() && view.paused.is_none() && matches!(view.link, LinkView::Connected { .. }) {
            lines.push("The pool has no work for this device at the moment.".to_owned());
        }
        lines
    }

    /// What is wrong with the state, as far as it can be seen from inside. Always empty.
    pub fn violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut check = |holds: bool, what: &str| {
            if !holds {
                found.push(what.to_owned());
            }
        };
        let ids: BTreeSet<_> = self.leases.iter().map(|held| held.id()).collect();
        let preparing = self.workloads.values().filter(|state| matches!(state, Workload::Preparing { .. })).count();
        check(ids.len() == self.leases.len(), "a lease is held twice");
        check(self.leases.running() <= self.config.slots, "more tasks run than there are slots");
        check(self.leases.unfinished() <= self.capacity(), "more leases are held than there is room for");
        check(preparing <= 1, "two workloads are prepared at a time");
        check(self.link.outstanding() <= OUTSTANDING_MAX, "too many requests are under way");
        check(!self.leases.iter().any(|held| self.leases.ended(held.id())), "an ended lease is held");
        check(self.slots_free() <= self.capacity(), "more work is asked for than there is room for");
        found
    }
}
