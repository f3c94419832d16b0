//! The leases that a device holds and how far each is.

use caii_model::{AttemptFailure, Bytes, Digest, LeaseId, SignedLease, TaskReport, Timestamp};
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
    Storing { report: TaskReport, failures: u32, retry_at: Option<Timestamp> },
    /// It waits for its report to be acknowledged.
    Done { outcome: Result<TaskReport, AttemptFailure> },
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
            Stage::Storing { report, .. } | Stage::Done { outcome: Ok(report) } => report.size,
            _ => Bytes(0),
        }
    }
}

/// All leases, in the order in which they came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leases {
    held: BTreeMap<u64, Held>,
    arrivals: u64,
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

    /// Leases with something to report, oldest first, at most `limit`.
    pub(crate) fn reportable(&self, limit: usize) -> BTreeSet<LeaseId> {
        self.iter().filter(|held| matches!(held.stage, Stage::Done { .. })).map(Held::id).take(limit).collect()
    }

    fn place(&self, id: LeaseId) -> Option<u64> {
        self.held.iter().find(|(_, held)| held.id() == id).map(|(place, _)| *place)
    }
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}
