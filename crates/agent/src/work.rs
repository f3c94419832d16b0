//! The leases that a device holds and how far each is.

use caii_model::{AttemptFailure, Bytes, Digest, Energy, LeaseId, SignedLease, TaskReport, Timestamp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Leases remembered after their end, so that a late copy of one is not run again.
const ENDED_MAX: usize = 4096;

/// A lease that is worked on, or whose end the coordinator has not acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) signed: SignedLease,
    /// When it ends, by this device's clock.
    pub(crate) deadline: Timestamp,
    pub(crate) stage: Stage,
    /// When it came to this stage.
    pub(crate) since: Timestamp,
}

/// How far a lease is. It only ever moves down this list.
#[derive(Debug, Clone)]
pub(crate) enum Stage {
    /// Its input is being fetched.
    Fetching,
    /// It waits for its workload or a slot.
    Queued,
    /// It runs.
    Running,
    /// Its result is being stored, or will be again at `retry_at`.
    Storing { finished: Finished, failures: u32, retry_at: Option<Timestamp> },
    /// It waits for its report to be acknowledged.
    Done(Done),
}

/// What came of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finished {
    pub(crate) report: TaskReport,
    pub(crate) energy: Energy,
}

/// What is reported of a lease.
#[derive(Debug, Clone)]
pub(crate) struct Done {
    pub(crate) outcome: Result<Finished, AttemptFailure>,
    /// Leases are reported, and claims numbered, in the order in which they came to this stage.
    pub(crate) place: u64,
    /// The number of its claim in the last request.
    pub(crate) claim: Option<u64>,
}

impl Held {
    pub(crate) fn id(&self) -> LeaseId {
        self.signed.lease.id
    }

    pub(crate) fn workload(&self) -> Digest {
        self.signed.lease.workload
    }

    /// Whether it still needs a slot.
    pub(crate) fn unfinished(&self) -> bool {
        matches!(self.stage, Stage::Fetching | Stage::Queued | Stage::Running)
    }

    /// Whether the shell has something under way for it.
    pub(crate) fn under_way(&self) -> bool {
        matches!(self.stage, Stage::Fetching | Stage::Running | Stage::Storing { retry_at: None, .. })
    }

    fn result_size(&self) -> Bytes {
        match &self.stage {
            Stage::Storing { finished, .. } | Stage::Done(Done { outcome: Ok(finished), .. }) => finished.report.size,
            _ => Bytes(0),
        }
    }
}

/// All leases, in the order in which they came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leases {
    held: BTreeMap<u64, Held>,
    arrivals: u64,
    /// Leases that came to their last stage so far.
    done: u64,
    ended: BTreeSet<LeaseId>,
    ended_order: VecDeque<LeaseId>,
}

impl Leases {
    /// False: this lease came before.
    pub(crate) fn insert(&mut self, held: Held) -> bool {
        let id = held.id();
        if self.ended.contains(&id) || self.get(id).is_some() {
            return false;
        }
        self.held.insert(self.arrivals, held);
        self.arrivals += 1;
        true
    }

    /// Notes what is to be reported of a lease, if it is held.
    pub(crate) fn done(&mut self, id: LeaseId, now: Timestamp, outcome: Result<Finished, AttemptFailure>) {
        let place = self.done;
        if let Some(held) = self.get_mut(id) {
            (held.stage, held.since) = (Stage::Done(Done { outcome, place, claim: None }), now);
            self.done += 1;
        }
    }

    pub(crate) fn remove(&mut self, id: LeaseId) -> Option<Held> {
        let place = self.place(id)?;
        if self.ended.insert(id) {
            self.ended_order.push_back(id);
        }
        if self.ended_order.len() > ENDED_MAX
            && let Some(oldest) = self.ended_order.pop_front()
        {
            self.ended.remove(&oldest);
        }
        self.held.remove(&place)
    }

    pub(crate) fn ended(&self, id: LeaseId) -> bool {
        self.ended.contains(&id)
    }

    pub(crate) fn get(&self, id: LeaseId) -> Option<&Held> {
        self.iter().find(|held| held.id() == id)
    }

    pub(crate) fn get_mut(&mut self, id: LeaseId) -> Option<&mut Held> {
        self.iter_mut().find(|held| held.id() == id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Held> {
        self.held.values()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Held> {
        self.held.values_mut()
    }

    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn unfinished(&self) -> u32 {
        count(self.iter().filter(|held| held.unfinished()))
    }

    pub(crate) fn running(&self) -> u32 {
        count(self.iter().filter(|held| matches!(held.stage, Stage::Running)))
    }

    /// Leases whose end is not acknowledged, and the bytes of their results.
    pub(crate) fn finished(&self) -> (u32, Bytes) {
        let mut bytes = Bytes(0);
        let finished = self.iter().filter(|held| !held.unfinished()).inspect(|held| bytes += held.result_size());
        (count(finished), bytes)
    }

    /// Leases with something to report, in the order in which they are reported, at most `limit`. What a request once
    /// had is in all that follow until it is acknowledged.
    pub(crate) fn reportable(&self, limit: usize) -> Vec<LeaseId> {
        let place = |held: &Held| match &held.stage {
            Stage::Done(done) => Some((done.place, held.id())),
            _ => None,
        };
        let mut places: Vec<_> = self.iter().filter_map(place).collect();
        places.sort_unstable();
        places.into_iter().take(limit).map(|(_, id)| id).collect()
    }

    fn place(&self, id: LeaseId) -> Option<u64> {
        self.held.iter().find(|(_, held)| held.id() == id).map(|(place, _)| *place)
    }
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}
