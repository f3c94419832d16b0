//! What must hold of everything that happened, kept apart from the code that makes it happen.

use caii_coordinator::*;
use caii_model::*;
use std::collections::{BTreeMap, BTreeSet};

/// A broken connection may cost a device its leases after this time, in milliseconds, and nothing may do so sooner.
const SILENCE_MIN: u64 = 5_000;
/// The coordinator's limits: devices that blame a task, attempts that blame it, attempts of any kind.
const BLAMED_DEVICES: usize = 3;
const BLAMED_ATTEMPTS: usize = 6;
const ATTEMPTS: usize = 12;

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
}

#[derive(Debug)]
struct Job {
    spec: JobSpec,
    prepared: Option<Prepared>,
    settled: BTreeMap<TaskIndex, Settled>,
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
    pub(crate) fn committed(&mut self, change: &Change) -> Result<(), String> {
        match change {
            Change::JobSubmitted(id, spec, _) => {
                let job = Job {
                    spec: spec.clone(),
                    prepared: None,
                    settled: BTreeMap::new(),
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
            _ => Ok(()),
        }
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
        if enough { Ok(()) } else { Err(format!("{task} is given up after {} attempts", attempts.len())) }
    }

    fn ended(&mut self, id: JobId, end: &JobEnd) -> Result<(), String> {
        self.open -= 1;
        let job = self.open(id)?;
        job.end = Some(end.clone());
        let totals = &end.totals;
        let tasks = job.prepared.as_ref().map_or(0, |prepared| prepared.tasks.len());
        let done = (totals.tasks_settled as usize, totals.tasks_given_up as usize);
        if done != (job.settled.len(), job.given_up.len()) {
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
            let durable = settled.is_some_and(|settled| settled.device == device && settled.report == *result);
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
