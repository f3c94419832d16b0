//! What must hold of everything that happened, kept apart from the code that makes it happen.

use crate::lies::Lies;
use caii_coordinator::Step;
use caii_coordinator::*;
use caii_model::*;
use std::collections::{BTreeMap, BTreeSet};

/// A broken connection may cost a device its leases after this time, in milliseconds, and nothing may do so sooner.
const SILENCE_MIN: u64 = 5_000;
/// The coordinator's limits: devices that blame a task, attempts that blame it, attempts of any kind.
const BLAMED_DEVICES: usize = 3;
const BLAMED_ATTEMPTS: usize = 6;
const ATTEMPTS: usize = 12;
/// An audit needs no more: the pool can do it itself.
const AUDIT_ATTEMPTS: usize = 3;

/// What was seen so far.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    jobs: BTreeMap<JobId, Job>,
    open: usize,
    /// Every lease that the coordinator ever gave, and in which order.
    leases: BTreeMap<LeaseId, SignedLease>,
    order: Vec<LeaseId>,
    /// Leases of which a failure is on record.
    failed: BTreeSet<LeaseId>,
    /// Attempts that really ended so.
    real: BTreeSet<(LeaseId, AttemptFailureKind)>,
    unable: BTreeSet<(DeviceId, Digest)>,
    /// When this process last took up a device's words.
    heard: BTreeMap<DeviceId, u64>,
    owners: BTreeMap<DeviceId, Account>,
}

/// The item at a place of an audit.
fn item_at(audit: &Audit, place: u32) -> Option<ItemId> {
    match &audit.subject {
        AuditSubject::Items(items) => items.get(place as usize).copied(),
        AuditSubject::Task(task) => Some(ItemId { task: *task, item: place }),
    }
}

#[derive(Debug)]
struct Job {
    spec: JobSpec,
    prepared: Option<Prepared>,
    settled: BTreeMap<TaskIndex, Settled>,
    /// Results that were accepted and do not count any more.
    voided: Vec<Settled>,
    /// Items that were drawn of a task, and those of which an audit agreed.
    drawn: BTreeMap<TaskIndex, BTreeSet<u32>>,
    survived: BTreeMap<TaskIndex, BTreeSet<u32>>,
    audits: BTreeMap<TaskIndex, Audit>,
    /// Audits with smaller numbers were of an earlier result.
    since: BTreeMap<TaskIndex, TaskIndex>,
    finals: BTreeSet<TaskIndex>,
    given_up: BTreeSet<TaskIndex>,
    attempts: BTreeMap<TaskIndex, Vec<Attempt>>,
    end: Option<JobEnd>,
}

impl Checks {
    pub(crate) fn all_ended(&self) -> bool {
        self.open == 0
    }

    pub(crate) fn open_jobs(&self) -> impl Iterator<Item = JobId> {
        self.jobs.iter().filter(|(_, job)| job.end.is_none()).map(|(id, _)| *id)
    }

    pub(crate) fn all_jobs(&self) -> Vec<JobId> {
        self.jobs.keys().copied().collect()
    }

    /// One of the leases given so far.
    pub(crate) fn any_lease(&self, which: u64) -> Option<SignedLease> {
        let count = self.order.len() as u64;
        (count > 0).then(|| self.leases[&self.order[(which % count) as usize]])
    }

    pub(crate) fn device_failed(&mut self, lease: LeaseId, kind: AttemptFailureKind) {
        self.real.insert((lease, kind));
    }

    pub(crate) fn device_cannot_prepare(&mut self, device: DeviceId, workload: Digest) {
        self.unable.insert((device, workload));
    }

    pub(crate) fn process_died(&mut self) {
        self.heard.clear();
    }

    /// One step: a result may come only from a lease that was given, unchanged, to the device that reports it, in time.
    pub(crate) fn stepped(&mut self, now: u64, input: &Input, step: &Step) -> Result<(), String> {
        let own = match input {
            Input::Exchange(request) => Some(request),
            _ => None,
        };
        for effect in &step.effects {
            if let Effect::Reply(_, Ok(Reply::Exchange(reply))) = effect {
                for signed in &reply.leases {
                    if self.leases.insert(signed.lease.id, *signed).is_some() {
                        return Err(format!("{} is given twice", signed.lease.id));
                    }
                    self.order.push(signed.lease.id);
                }
            }
        }
        for change in &step.changes {
            if let Change::TaskSettled(task, settled) = change {
                let fits = |report: &&Report| {
                    let lease = &report.lease.lease;
                    lease.task == *task
                        && lease.device == settled.device
                        && settled.at < lease.expires
                        && report.outcome.as_ref() == Ok(&settled.report)
                        && self.leases.get(&lease.id) == Some(&report.lease)
                };
                let report = own
                    .and_then(|request| request.reports.iter().find(fits).filter(|_| request.device == settled.device));
                if report.is_none() {
                    return Err(format!("{task} is settled without a lease that was given for it"));
                }
            }
            // Losing somebody is not hearing them: what is taken up in this step comes after.
            if let Change::AttemptFailed(task, attempt) = change
                && attempt.failure.kind == AttemptFailureKind::DeviceLost
            {
                let silent = now - self.heard.get(&attempt.device).copied().unwrap_or(0);
                if silent < SILENCE_MIN {
                    return Err(format!("{} is lost after {silent} ms, with {task}", attempt.device));
                }
            }
        }
        if let Some(request) = own
            && !step.effects.iter().any(|effect| matches!(effect, Effect::Reply(_, Err(_))))
        {
            self.heard.insert(request.device, now);
        }
        Ok(())
    }

    /// One change that became durable.
    pub(crate) fn committed(&mut self, change: &Change, lies: &Lies) -> Result<(), String> {
        match change {
            Change::JobSubmitted(id, spec, _) => {
                let job = Job {
                    spec: spec.clone(),
                    prepared: None,
                    settled: BTreeMap::new(),
                    voided: vec![],
                    drawn: BTreeMap::new(),
                    survived: BTreeMap::new(),
                    audits: BTreeMap::new(),
                    since: BTreeMap::new(),
                    finals: BTreeSet::new(),
                    given_up: BTreeSet::new(),
                    attempts: BTreeMap::new(),
                    end: None,
                };
                self.open += 1;
                match self.jobs.insert(*id, job) {
                    None => Ok(()),
                    Some(_) => Err(format!("{id} is submitted twice")),
                }
            }
            Change::JobPrepared(id, prepared, _) => {
                self.open(*id)?.prepared = Some(prepared.clone());
                Ok(())
            }
            Change::TaskSettled(task, settled) => {
                let job = self.open(task.job)?;
                let again = job.settled.insert(task.index, settled.clone()).is_some();
                match again || job.given_up.contains(&task.index) {
                    false => Ok(()),
                    true => Err(format!("{task} is settled although it was done")),
                }
            }
            Change::AttemptFailed(task, attempt) => self.attempt_failed(*task, attempt),
            Change::TaskGivenUp(task, _) => self.given_up(*task),
            Change::JobEnded(id, end) => self.ended(*id, end),
            Change::Checked(task, event) => self.checked(*task, event, lies),
            Change::TaskVoided(task, ..) => {
                let job = self.open(task.job)?;
                let void =
                    job.settled.remove(&task.index).ok_or_else(|| format!("{task} is voided without a result"))?;
                job.voided.push(void);
                job.drawn.remove(&task.index);
                job.survived.remove(&task.index);
                job.since.remove(&task.index);
                match job.finals.contains(&task.index) {
                    true => Err(format!("{task} is voided although it was final")),
                    false => Ok(()),
                }
            }
            Change::DeviceConvicted(conviction) => self.convicted(conviction, lies),
            _ => Ok(()),
        }
    }

    fn checked(&mut self, task: TaskId, event: &CheckEvent, lies: &Lies) -> Result<(), String> {
        let owners = self.owners.clone();
        let job = self.open(task.job)?;
        match event {
            CheckEvent::Drawn { items, .. } => {
                let next = job.audits.last_key_value().map_or(0, |(index, _)| index.0 + 1);
                job.since.entry(task.index).or_insert(TaskIndex(next));
                job.drawn.entry(task.index).or_default().extend(items);
            }
            CheckEvent::Made(audit) => _ = job.audits.insert(task.index, audit.clone()),
            CheckEvent::Prepared(..) => {}
            CheckEvent::Ended(end) => {
                let result = job.settled.get(&task.index).map(|settled| settled.report.result);
                for place in &end.survived {
                    let Some(id) = item_at(&job.audits[&task.index], *place) else {
                        return Err(format!("{task} has no item {place}"));
                    };
                    let of = job.audits[&task.index].of;
                    let Some(claim) = job.settled.get(&id.task).filter(|claim| claim.device == of) else { continue };
                    let told = lies.value(&claim.report.result, id.item);
                    let found = result.map_or(0, |result| lies.value(&result, *place));
                    // The pool itself has decided where they differ, so a lie survives only when it is shared.
                    if told != 0 && told != found {
                        return Err(format!("{task}: a lie about {id:?} survives"));
                    }
                    job.survived.entry(id.task).or_default().insert(id.item);
                }
                for id in end.waived.iter().filter_map(|place| item_at(&job.audits[&task.index], *place)) {
                    job.drawn.entry(id.task).or_default().remove(&id.item);
                }
            }
            CheckEvent::Final(_) => {
                let empty = BTreeSet::new();
                let drawn = job.drawn.get(&task.index).unwrap_or(&empty);
                let survived = job.survived.get(&task.index).unwrap_or(&empty);
                if !job.settled.contains_key(&task.index) || !drawn.is_subset(survived) {
                    return Err(format!("{task} is final with audits open: {drawn:?} but {survived:?}"));
                }
                if !job.finals.insert(task.index) {
                    return Err(format!("{task} is final twice"));
                }
                let owners = |device: &DeviceId| owners.get(device).cloned();
                if let Verification::Quorum { results } = job.spec.verification {
                    let same = job
                        .audits
                        .range(job.since[&task.index]..)
                        .filter(|(_, a)| a.subject == AuditSubject::Task(task.index));
                    let devices = same.filter_map(|(index, _)| job.settled.get(index)).map(|by| by.device);
                    let devices: Vec<_> = devices.chain([job.settled[&task.index].device]).collect();
                    let distinct: BTreeSet<_> = devices.iter().map(owners).collect();
                    if devices.len() > usize::from(results) || distinct.len() != devices.len() {
                        return Err(format!("{task} was checked by {devices:?}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// Only who falsified is convicted, and of that.
    fn convicted(&self, conviction: &Conviction, lies: &Lies) -> Result<(), String> {
        let Conviction { device, audit, item, as_auditor, .. } = conviction;
        let job = self.jobs.get(&audit.job).ok_or_else(|| format!("{device} is convicted in no job"))?;
        let task = if *as_auditor { audit.index } else { item.task };
        let results = job.settled.get(&task).into_iter().chain(&job.voided).filter(|settled| settled.device == *device);
        let place = match (&job.audits[&audit.index].subject, as_auditor) {
            (AuditSubject::Items(items), true) => items.iter().position(|id| id == item).map(|place| place as u32),
            _ => Some(item.item),
        };
        let lied = |settled: &Settled| place.is_some_and(|place| lies.value(&settled.report.result, place) != 0);
        if results.clone().any(lied) {
            Ok(())
        } else {
            Err(format!("{device} is convicted of {item:?}, which it did well"))
        }
    }

    pub(crate) fn enrolled(&mut self, device: DeviceId, owner: Account) {
        self.owners.insert(device, owner);
    }

    fn open(&mut self, id: JobId) -> Result<&mut Job, String> {
        let open = self.jobs.get_mut(&id).filter(|job| job.end.is_none());
        open.ok_or_else(|| format!("{id} changes although it is not open"))
    }

    fn attempt_failed(&mut self, task: TaskId, attempt: &Attempt) -> Result<(), String> {
        let given = self.leases.get(&attempt.lease).map(|signed| signed.lease);
        if given.is_none_or(|lease| lease.task != task || lease.device != attempt.device) {
            return Err(format!("{task}: a failure of a lease that was not given for it"));
        }
        if !self.failed.insert(attempt.lease) {
            return Err(format!("{task}: {} counts twice", attempt.lease));
        }
        let kind = attempt.failure.kind;
        let workload = self.open(task.job)?.spec.workload;
        let real = match kind {
            AttemptFailureKind::PreparationFailed => self.unable.contains(&(attempt.device, workload)),
            kind if kind.blames_task() => self.real.contains(&(attempt.lease, kind)),
            _ => true,
        };
        self.open(task.job)?.attempts.entry(task.index).or_default().push(attempt.clone());
        if real { Ok(()) } else { Err(format!("{task} is blamed for {kind:?}, which did not happen")) }
    }

    fn given_up(&mut self, task: TaskId) -> Result<(), String> {
        let job = self.open(task.job)?;
        let attempts = job.attempts.get(&task.index).map_or(&[][..], Vec::as_slice);
        let blamed = attempts.iter().filter(|attempt| attempt.failure.kind.blames_task());
        let devices: BTreeSet<DeviceId> = blamed.clone().map(|attempt| attempt.device).collect();
        let counted = attempts.iter().filter(|attempt| attempt.failure.kind != AttemptFailureKind::GivenBack).count();
        let enough = devices.len() >= BLAMED_DEVICES || blamed.count() >= BLAMED_ATTEMPTS || counted >= ATTEMPTS;
        if job.settled.contains_key(&task.index) || !job.given_up.insert(task.index) {
            return Err(format!("{task} is given up although it was done"));
        }
        let audit = job.audits.contains_key(&task.index) && counted >= AUDIT_ATTEMPTS;
        if enough || audit { Ok(()) } else { Err(format!("{task} is given up after {} attempts", attempts.len())) }
    }

    fn ended(&mut self, id: JobId, end: &JobEnd) -> Result<(), String> {
        self.open -= 1;
        let job = self.open(id)?;
        job.end = Some(end.clone());
        let totals = &end.totals;
        let tasks = job.prepared.as_ref().map_or(0, |prepared| prepared.tasks.len());
        let done = (totals.tasks_settled as usize, totals.tasks_given_up as usize);
        let own = |index: &&TaskIndex| (index.0 as usize) < tasks;
        let counted = (job.settled.keys().filter(own).count(), job.given_up.iter().filter(own).count());
        let all_final = job.spec.verification == Verification::Off || job.finals.len() == counted.0;
        if end.ending == Ending::Completed && !all_final {
            return Err(format!("{id} is completed with results that are not final"));
        }
        if done != counted {
            return Err(format!("{id} ends with {done:?} tasks settled and given up"));
        }
        if end.ending == Ending::Completed
            && (done.0 + done.1 != tasks || totals.records_ok + totals.records_failed != totals.records)
        {
            return Err(format!("{id} is completed with something missing: {totals:?}"));
        }
        match &end.ending {
            Ending::Failed { errors } if errors.is_empty() => Err(format!("{id} failed without a reason")),
            _ => Ok(()),
        }
    }

    /// What a device is told: an accepted result is durable.
    pub(crate) fn told_device(
        &self,
        device: DeviceId,
        reports: &[Report],
        reply: &ExchangeReply,
    ) -> Result<(), String> {
        let ids = reports.iter().map(|report| report.lease.lease.id);
        if !reply.acks.is_empty() && !ids.eq(reply.acks.iter().map(|(id, _)| *id)) {
            return Err("acks do not match the reports".into());
        }
        for (report, (_, ack)) in reports.iter().zip(&reply.acks) {
            let (Ok(result), Ok(())) = (&report.outcome, ack) else { continue };
            let lease = &report.lease.lease;
            let settled = self.jobs.get(&lease.task.job).and_then(|job| job.settled.get(&lease.task.index));
            let voided = self.jobs.get(&lease.task.job).map_or(&[][..], |job| &job.voided);
            let durable = settled.into_iter().chain(voided).any(|by| by.device == device && by.report == *result);
            if !durable && !self.failed.contains(&lease.id) {
                return Err(format!("{} is acknowledged and not durable", lease.task));
            }
        }
        Ok(())
    }

    /// What a requester is told: a submitted job is durable.
    pub(crate) fn told_requester(&self, answer: &Result<Reply, Refusal>) -> Result<(), String> {
        match answer {
            Ok(Reply::Job(id)) if !self.jobs.contains_key(id) => Err(format!("{id} is acknowledged and not durable")),
            _ => Ok(()),
        }
    }

    pub(crate) fn told_ended(&self, id: JobId) -> Result<(), String> {
        match self.jobs.get(&id).is_some_and(|job| job.end.is_some()) {
            true => Ok(()),
            false => Err(format!("the end of {id} is told and not durable")),
        }
    }

    /// What the store has of a job when all is over.
    pub(crate) fn stored(
        &self,
        id: JobId,
        record: Option<&JobRecord>,
        settled: &[(TaskIndex, Settled)],
    ) -> Result<(), String> {
        let job = &self.jobs[&id];
        let Some(record) = record else { return Err(format!("{id} is lost")) };
        if record.end != job.end {
            return Err(format!("{id} ended otherwise than was said"));
        }
        let same = settled.iter().map(|(task, settled)| (task, settled)).eq(&job.settled);
        if same { Ok(()) } else { Err(format!("results of {id} are lost or changed")) }
    }
}
