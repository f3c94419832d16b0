//! What must hold between any two steps. Checked by every test and every simulated step, and cheap enough to be.

use crate::Coordinator;
use caii_model::*;
use std::collections::{BTreeMap, BTreeSet};

impl Coordinator {
    /// The first thing that does not hold, in words.
    pub fn check_invariants(&self) -> Result<(), String> {
        for (id, job) in &self.catalog.jobs {
            self.check_job(*id, job).map_err(|wrong| format!("{id}: {wrong}"))?;
        }
        self.check_presence()
    }

    fn check_job(&self, id: JobId, job: &crate::Job) -> Result<(), String> {
        ensure(self.catalog.workloads.contains_key(&job.spec.workload), || "its workload is gone".into())?;
        let Some(work) = &job.work else {
            return ensure(!self.presence.waiting.contains_key(&id), || "tasks wait before it is prepared".into());
        };
        let all = work.open.len() + work.settled.len() + work.given_up.len();
        ensure(all == work.prepared.tasks.len(), || format!("{all} tasks are accounted for"))?;
        ensure(work.open.iter().all(|t| !work.settled.contains_key(t) && !work.given_up.contains(t)), || {
            "a task is open and not".into()
        })?;
        ensure(work.totals.tasks_settled as usize == work.settled.len(), || "settled tasks are miscounted".into())?;
        ensure(work.totals.records_ok + work.totals.records_failed <= work.totals.records, || {
            "more records are done than there are".into()
        })?;
        ensure(!work.open.is_empty() || job.ending.is_some(), || "all is done and it does not end".into())?;
        let empty = BTreeSet::new();
        let waiting = self.presence.waiting.get(&id).unwrap_or(&empty);
        if job.ending.is_some() {
            ensure(waiting.is_empty(), || "tasks wait although it is ending".into())?;
            return ensure(!self.presence.leased_per_job.contains_key(&id), || "leases outlive it".into());
        }
        for task in &work.open {
            let leased = self.presence.leased.contains_key(&TaskId { job: id, index: *task });
            ensure(leased != waiting.contains(task), || format!("open task {task} is lost or counted twice"))?;
        }
        ensure(waiting.iter().all(|task| work.open.contains(task)), || "a task waits that is not open".into())
    }

    fn check_presence(&self) -> Result<(), String> {
        let mut by_task: BTreeMap<TaskId, BTreeMap<LeaseId, DeviceId>> = BTreeMap::new();
        for (device, present) in &self.presence.present {
            for (id, held) in &present.leases {
                ensure(held.signed.lease.device == *device, || format!("{device} holds another's lease"))?;
                by_task.entry(held.signed.lease.task).or_default().insert(*id, *device);
            }
        }
        ensure(by_task == self.presence.leased, || "leases by task and by device differ".into())?;
        let mut per_job: BTreeMap<JobId, u32> = BTreeMap::new();
        by_task.keys().for_each(|task| *per_job.entry(task.job).or_default() += 1);
        ensure(per_job == self.presence.leased_per_job, || "leases by job are miscounted".into())?;
        let known = |job: &JobId| self.catalog.jobs.contains_key(job);
        ensure(self.presence.waiting.iter().all(|(job, tasks)| known(job) && !tasks.is_empty()), || {
            "tasks of no open job wait".into()
        })?;
        ensure(per_job.keys().all(known), || "tasks of no open job are leased".into())
    }
}

fn ensure(holds: bool, wrong: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(wrong()) }
}
