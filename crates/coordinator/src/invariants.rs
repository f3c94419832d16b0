//! What must hold between any two steps. Checked by every test and every simulated step, and cheap enough to be.

use crate::Coordinator;
use caii_ledger::LedgerAccount;
use caii_model::*;
use std::collections::{BTreeMap, BTreeSet};

impl Coordinator {
    /// The first thing that does not hold, in words.
    pub fn check_invariants(&self) -> Result<(), String> {
        for (id, job) in &self.catalog.jobs {
            self.check_job(*id, job).map_err(|wrong| format!("{id}: {wrong}"))?;
        }
        self.check_books()?;
        self.check_presence()
    }

    /// Nothing is created or lost, nothing is left where nobody looks, and what is not final is not paid.
    fn check_books(&self) -> Result<(), String> {
        let books = &self.catalog.books;
        books.ledger.check().map_err(|wrong| wrong.to_string())?;
        if books.opened.is_none() {
            return ensure(books.size == 0, || "something is logged before the log is opened".into());
        }
        for (account, amount) in books.ledger.balances() {
            if let LedgerAccount::Escrow(job) = account {
                ensure(self.catalog.jobs.contains_key(job), || {
                    format!("{account} has {amount} and the job has ended")
                })?;
            }
        }
        for (task, claimed) in &books.claims {
            let work = self.catalog.jobs.get(&task.job).and_then(|job| job.work.as_ref());
            let settled = work.and_then(|work| work.settled.get(&task.index));
            ensure(settled.is_some_and(|settled| settled.device == claimed.claim.device), || {
                format!("a claim to {task} counts that has no result")
            })?;
            ensure(books.tasks.get(&claimed.claim) == Some(task), || format!("{} is lost", claimed.claim))?;
        }
        ensure(books.tasks.len() == books.claims.len(), || "claims are miscounted".into())?;
        // What was done before the log was opened has no claim.
        let opened = books.opened.as_ref().map_or(Timestamp(0), |opened| opened.at);
        let since = |job: &crate::Job| job.work.as_ref().is_some_and(|work| work.prepared_at >= opened);
        for (id, job) in self.catalog.jobs.iter().filter(|(_, job)| job.ending.is_none() && since(job)) {
            let own = job.work.iter().flat_map(|work| work.settled.keys().filter(|index| !work.is_audit(**index)));
            for index in own {
                let task = TaskId { job: *id, index: *index };
                ensure(books.claims.contains_key(&task), || format!("{task} has a result and no claim"))?;
            }
        }
        ensure(books.devices.values().all(|device| device.accepted <= device.decided), || {
            "more claims are accepted than decided".into()
        })
    }

    fn check_job(&self, id: JobId, job: &crate::Job) -> Result<(), String> {
        ensure(self.catalog.workloads.contains_key(&job.spec.workload), || "its workload is gone".into())?;
        let Some(work) = &job.work else {
            return ensure(!self.presence.waiting.contains_key(&id), || "tasks wait before it is prepared".into());
        };
        let all = work.open.len() + work.settled.len() + work.given_up.len();
        let elsewhere = |index: &TaskIndex| {
            !work.open.contains(index) && !work.settled.contains_key(index) && !work.given_up.contains(index)
        };
        let absent = work.checks.audits.keys().filter(|index| elsewhere(index)).count();
        let expected = work.prepared.tasks.len() + work.checks.audits.len() - absent;
        ensure(all == expected, || format!("{all} of {expected} tasks are accounted for"))?;
        self.check_checks(job, work)?;
        ensure(work.open.iter().all(|t| !work.settled.contains_key(t) && !work.given_up.contains(t)), || {
            "a task is open and not".into()
        })?;
        let own = work.settled.keys().filter(|index| !work.is_audit(**index)).count();
        ensure(work.totals.tasks_settled as usize == own, || "settled tasks are miscounted".into())?;
        ensure(work.totals.records_ok + work.totals.records_failed <= work.totals.records, || {
            "more records are done than there are".into()
        })?;
        let complete = work.is_complete(self.verification(&job.spec));
        ensure(!complete || job.ending.is_some(), || "all is done and it does not end".into())?;
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

    /// Every result is final or checked, what is drawn is on its way, and nobody's count is off.
    fn check_checks(&self, job: &crate::Job, work: &crate::state::Work) -> Result<(), String> {
        let checks = &work.checks;
        let policy = self.verification(&job.spec);
        for index in work.settled.keys().filter(|index| !work.is_audit(**index)) {
            let known = checks.open.contains_key(index) != checks.finals.contains(index);
            ensure(known || policy == Verification::Off, || format!("task {index} is neither final nor checked"))?;
        }
        ensure(checks.finals.iter().all(|index| work.settled.contains_key(index)), || {
            "what is final has no result".into()
        })?;
        if job.ending.is_some() {
            return Ok(());
        }
        for (index, checked) in &checks.open {
            let record = checked.record;
            ensure(
                record.drawn as usize == checked.drawn.len() && record.survived as usize == checked.survived.len(),
                || format!("task {index}: audits are miscounted"),
            )?;
            ensure(checked.survived.is_subset(&checked.drawn), || format!("task {index} survived what was not drawn"))?;
            ensure(!self.catalog.convicted.contains_key(&checked.device), || format!("task {index} is a convict's"))?;
            for item in checked.drawn.difference(&checked.survived) {
                let id = ItemId { task: *index, item: *item };
                let waits = checks.drawn.get(&checked.device).is_some_and(|items| items.contains(&id));
                let under_way = work.audits_under_way().any(|(_, state)| match &state.audit.subject {
                    AuditSubject::Items(items) => items.contains(&id),
                    AuditSubject::Task(task) => *task == *index,
                });
                ensure(waits || under_way, || format!("task {index}: the audit of item {item} is lost"))?;
            }
        }
        for (device, workload) in checks.open.values().map(|checked| (checked.device, job.spec.workload)) {
            let standing = self.catalog.standing(device, workload);
            ensure(standing.survived <= standing.drawn, || format!("{device} survived more than was drawn"))?;
        }
        Ok(())
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
