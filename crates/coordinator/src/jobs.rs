//! Jobs from submission to their end, and what happens when a task is done or cannot be.

use crate::draft::Draft;
use crate::registry::{field, text};
use crate::state::Work;
use crate::{Assembled, Attempt, Change, Coordinator, Effect, JobEnd, Reply, Totals};
use caii_model::*;
use std::collections::BTreeSet;

/// So many times [`Config::attempts_max`](crate::Config::attempts_max) attempts end a task even though a device is there
/// that never tried it: it may never be free.
const ATTEMPTS_FACTOR_MAX: usize = 4;
/// Each attempt is kept until its job ends, so even those that owners ended have a limit.
const ATTEMPTS_KEPT_MAX: usize = 1_000;

impl Coordinator {
    /// What a coordinator that just started has to ask its shell for again.
    pub(crate) fn unfinished(&self) -> Vec<Effect> {
        let unfinished = |job: &crate::Job| match (&job.ending, &job.work) {
            (Some(_), _) => Some(Effect::Assemble(job.id)),
            (None, None) => Some(Effect::Prepare(job.id)),
            (None, Some(_)) => None,
        };
        let open = self.catalog.jobs.iter().filter(|(_, job)| job.ending.is_none());
        let checks = open.flat_map(|(id, _)| self.unfinished_checks(*id));
        self.catalog.jobs.values().filter_map(unfinished).chain(checks).collect()
    }
}

impl Draft<'_> {
    pub(crate) fn job_submit(&mut self, mut spec: JobSpec, prepared: Option<Prepared>) {
        // The shell reckons with its clock, which may have been set back; here time only passes.
        spec.deadline = self.now() + spec.deadline.since(self.coordinator().clock);
        let checked = self.check_spec(&spec, prepared.as_ref());
        let answer = checked.map(|()| {
            let id = JobId(self.catalog().next.job);
            self.record(Change::JobSubmitted(id, spec, self.now()));
            match prepared {
                Some(prepared) => self.start(id, prepared),
                None => self.effect(Effect::Prepare(id)),
            }
            Reply::Job(id)
        });
        self.reply(answer);
        self.dispatch();
    }

    fn check_spec(&self, spec: &JobSpec, prepared: Option<&Prepared>) -> Result<(), Refusal> {
        text("name", &spec.name, 0, 200)?;
        let limit = self.config().jobs_open_max;
        let open = self.catalog().jobs.values().filter(|job| job.spec.owner == spec.owner).count();
        if open >= limit as usize {
            return Err(Refusal::TooMany { what: "open jobs of an account", limit: u64::from(limit) });
        }
        if !self.catalog().workloads.contains_key(&spec.workload) {
            return Err(Refusal::WorkloadUnknown(spec.workload));
        }
        if spec.records_per_task.is_some_and(|records| !(1..=100_000).contains(&records)) {
            return Err(field("records_per_task", "give a number from 1 to 100,000".into()));
        }
        if !spec.verification.is_valid() {
            let depth = Verification::DEPTH_MAX;
            let reason = format!("audits of 1 to {depth}, or a quorum of 2 to {}", Verification::RESULTS_MAX);
            return Err(field("verification", reason));
        }
        if spec.deadline <= self.now() {
            return Err(field("deadline", "it has passed already".into()));
        }
        if let JobKind::Batch { metadata, .. } = &spec.kind {
            let fits = |(key, value): &(String, String)| key.chars().count() <= 64 && value.chars().count() <= 512;
            if metadata.len() > 16 || !metadata.iter().all(fits) {
                return Err(field("metadata", "at most 16 pairs of at most 64 and 512 characters".into()));
            }
        }
        match (&spec.kind, spec.input, prepared) {
            (JobKind::Sync { .. }, None, Some(prepared)) if prepared.tasks.is_empty() => {
                Err(field("input", "it has no records".into()))
            }
            (JobKind::Sync { .. }, None, Some(prepared)) => self.check_prepared(prepared),
            (JobKind::Batch { .. } | JobKind::Program { .. }, Some(file), None) => {
                let meta = self.coordinator().file(Some(&spec.owner), file).ok_or(Refusal::FileUnknown(file))?;
                match (&spec.kind, meta.purpose) {
                    (JobKind::Batch { .. }, FilePurpose::UserData | FilePurpose::BatchOutput) => {
                        Err(Refusal::FilePurpose { file, needed: "batch" })
                    }
                    _ => Ok(()),
                }
            }
            _ => Err(field("input", "a job needs exactly one input".into())),
        }
    }

    fn check_prepared(&self, prepared: &Prepared) -> Result<(), Refusal> {
        let config = self.config();
        if prepared.tasks.len() > config.tasks_per_job_max as usize {
            return Err(Refusal::TooMany { what: "tasks", limit: u64::from(config.tasks_per_job_max) });
        }
        if prepared.records > config.records_per_job_max {
            return Err(Refusal::TooMany { what: "records", limit: config.records_per_job_max });
        }
        let mut offset = 0;
        for task in &prepared.tasks {
            if task.offset != offset || task.records == 0 {
                return Err(field("input", "its tasks must cover it without gap, overlap or empty task".into()));
            }
            offset += u64::from(task.len);
        }
        let records: u64 = prepared.tasks.iter().map(|task| u64::from(task.records)).sum();
        if offset != prepared.size.0 || records != prepared.records {
            return Err(field("input", "its tasks must add up to it".into()));
        }
        Ok(())
    }

    fn start(&mut self, job: JobId, prepared: Prepared) {
        let tasks = (0..prepared.tasks.len() as u32).map(TaskIndex).collect();
        self.record(Change::JobPrepared(job, prepared, self.now()));
        self.presence().waiting.insert(job, tasks);
    }

    pub(crate) fn job_prepared(&mut self, id: JobId, result: Result<Prepared, Vec<InputError>>) {
        // A job that was cancelled meanwhile, or prepared twice around a restart, needs nothing more.
        let expected = self.catalog().jobs.get(&id).is_some_and(|job| job.work.is_none() && job.ending.is_none());
        if !expected {
            return;
        }
        let refused = |code: &str, message: String| {
            vec![InputError { code: code.into(), message, line: None, param: Some("input_file_id".into()) }]
        };
        let result = result.and_then(|prepared| match self.check_prepared(&prepared) {
            Ok(()) if prepared.tasks.is_empty() => Err(refused("empty_file", "the input has no records".into())),
            Ok(()) => Ok(prepared),
            Err(refusal) => Err(refused(refusal.code(), refusal.to_string())),
        });
        match result {
            Ok(prepared) => self.start(id, prepared),
            Err(mut errors) => {
                errors.truncate(Ending::ERRORS_MAX);
                self.begin_ending(id, Ending::Failed { errors });
            }
        }
        self.dispatch();
    }

    pub(crate) fn job_cancel(&mut self, owner: Option<Account>, id: JobId) {
        if self.coordinator().job(owner.as_ref(), id).is_none() {
            return self.reply(Err(Refusal::JobUnknown(id)));
        }
        self.begin_ending(id, Ending::Cancelled);
        self.reply(Ok(Reply::Job(id)));
    }

    pub(crate) fn workload_revoked(&mut self, workload: Digest, reason: &str) {
        self.end_jobs_of(workload, "workload_revoked", &format!("the workload was revoked: {reason}"));
    }

    pub(crate) fn workload_uncertified(&mut self, workload: Digest, reason: &str) {
        self.end_jobs_of(workload, "workload_uncertified", &format!("the workload is certified no longer: {reason}"));
    }

    /// Ends every open job of a workload that may not run any more.
    fn end_jobs_of(&mut self, workload: Digest, code: &str, message: &str) {
        let of_it = |job: &&crate::Job| job.spec.workload == workload && job.ending.is_none();
        let jobs: Vec<JobId> = self.catalog().jobs.values().filter(of_it).map(|job| job.id).collect();
        for id in jobs {
            let error = InputError { code: code.into(), message: message.into(), line: None, param: None };
            self.begin_ending(id, Ending::Failed { errors: vec![error] });
        }
    }

    /// Stops all work on a job; what was accepted becomes its output. Does nothing to a job that is ending already.
    pub(crate) fn begin_ending(&mut self, id: JobId, ending: Ending) {
        let job = &self.catalog().jobs[&id];
        if job.ending.is_some() {
            return;
        }
        let sync = matches!(job.spec.kind, JobKind::Sync { .. });
        let to_assemble = job.work.is_some() && !sync && !matches!(ending, Ending::Failed { .. });
        self.forget_checks(id);
        self.record(Change::JobEnding(id, ending, self.now()));
        self.presence().waiting.remove(&id);
        self.drop_leases(id);
        if to_assemble {
            self.effect(Effect::Assemble(id));
        } else {
            self.end(id, None, None);
        }
    }

    pub(crate) fn job_assembled(&mut self, id: JobId, assembled: Assembled) {
        let Some(job) = self.catalog().jobs.get(&id).filter(|job| job.ending.is_some()) else {
            return;
        };
        let owner = job.spec.owner.clone();
        let mut file = |kind: &str, content: Option<(Digest, Bytes)>| {
            let (digest, size) = content?;
            let filename = format!("{id}_{kind}.jsonl");
            Some(self.new_file(owner.clone(), filename, FilePurpose::BatchOutput, digest, size).id)
        };
        let (output, errors) = (file("output", assembled.output), file("error", assembled.errors));
        self.end_with(id, output, errors, Some((assembled.records_ok, assembled.records_failed)));
    }

    fn end(&mut self, id: JobId, output: Option<FileId>, errors: Option<FileId>) {
        self.end_with(id, output, errors, None);
    }

    fn end_with(&mut self, id: JobId, output: Option<FileId>, errors: Option<FileId>, records: Option<(u64, u64)>) {
        let job = &self.catalog().jobs[&id];
        let (ending, _) = job.ending.clone().expect("a job ends after it was ending");
        let mut totals: Totals = job.work.as_ref().map(|work| work.totals).unwrap_or_default();
        if let Some((ok, failed)) = records {
            (totals.records_ok, totals.records_failed) = (ok, failed);
        }
        let end = JobEnd { ending, at: self.now(), output, errors, totals };
        self.record(Change::JobEnded(id, end));
        for present in self.presence().present.values_mut() {
            present.avoid_jobs.remove(&id);
            present.avoid_tasks.retain(|task, _| task.job != id);
        }
        self.effect(Effect::JobEnded(id));
    }

    /// Accepts a result. The task is open.
    pub(crate) fn settle(&mut self, task: TaskId, device: DeviceId, report: TaskReport, _claim: SignedClaim) {
        let at = self.now();
        self.record(Change::TaskSettled(task, Settled { device, report, at }));
        if let Some(present) = self.presence().present.get_mut(&device) {
            present.jail = Some((report.jail, at));
        }
        if self.work(task.job).is_audit(task.index) {
            self.check_audit(task);
        } else {
            self.check_settled(task);
        }
        self.close(task);
    }

    /// Notes that an attempt came to nothing and gives the task up when it was one too many. The task is open.
    pub(crate) fn fail_attempt(&mut self, lease: &Lease, failure: AttemptFailure) {
        let (task, device, kind) = (lease.task, lease.device, failure.kind);
        let attempt = Attempt { lease: lease.id, device, failure, at: self.now() };
        self.record(Change::AttemptFailed(task, attempt));
        self.stay_away(task, device, kind);
        let limit = self.config().blamed_devices_max;
        let work = self.work(task.job);
        let unable = work.attempts.values().flatten().filter(|attempt| attempt.failure.kind == kind);
        if matches!(kind, AttemptFailureKind::PreparationFailed | AttemptFailureKind::Uncertified)
            && work.settled.is_empty()
            && cannot_start(unable.clone(), limit, || self.somebody_else(unable))
        {
            let reasons = work.attempts.values().flatten().rev().find(|attempt| attempt.failure.kind == kind);
            let detail = reasons.map_or_else(String::new, |attempt| attempt.failure.detail.clone());
            let error = InputError {
                code: "program_cannot_start".into(),
                message: format!("no device could start the program: {detail}"),
                line: None,
                param: None,
            };
            return self.begin_ending(task.job, Ending::Failed { errors: vec![error] });
        }
        let attempts = &work.attempts[&task.index];
        let failed = attempts.iter().filter(|attempt| attempt.failure.kind != AttemptFailureKind::GivenBack).count();
        // The pool can do an audit itself, so nobody has to wait until every device has tried.
        let enough = work.is_audit(task.index) && failed >= limit as usize;
        let attempts_max = self.config().attempts_max;
        if enough || one_too_many(attempts, limit, attempts_max, || self.somebody_else_may(task, attempts)) {
            self.record(Change::TaskGivenUp(task, self.now()));
            if self.work(task.job).is_audit(task.index) {
                self.audit_given_up(task);
            }
            self.close(task);
        }
    }

    /// Whether a device is there that none of these attempts was made on. What fails over and over on one device may
    /// be that device's fault.
    fn somebody_else<'a>(&self, attempts: impl Iterator<Item = &'a Attempt>) -> bool {
        let tried: BTreeSet<_> = attempts.map(|attempt| attempt.device).collect();
        let mut present = self.coordinator().presence.present.iter();
        present.any(|(device, present)| present.slots > 0 && !tried.contains(device))
    }

    /// The same of one task, which not every device may do.
    fn somebody_else_may(&self, task: TaskId, attempts: &[Attempt]) -> bool {
        let tried: BTreeSet<_> = attempts.iter().map(|attempt| attempt.device).collect();
        let mut present = self.coordinator().presence.present.iter();
        present.any(|(device, present)| {
            present.slots > 0 && !tried.contains(device) && self.coordinator().may_do(*device, task)
        })
    }

    fn stay_away(&mut self, task: TaskId, device: DeviceId, kind: AttemptFailureKind) {
        let failed = |a: &&Attempt| a.device == device && a.failure.kind != AttemptFailureKind::GivenBack;
        let failures = self.work(task.job).attempts[&task.index].iter().filter(failed).count();
        let longer = 1 << failures.saturating_sub(1).min(7);
        let until = self.now() + Millis(self.config().avoid.0.saturating_mul(longer));
        let Some(present) = self.presence().present.get_mut(&device) else { return };
        match kind {
            AttemptFailureKind::RunnerDied
            | AttemptFailureKind::ItemTooSlow
            | AttemptFailureKind::MalformedResult
            | AttemptFailureKind::GivenBack => {
                present.avoid_tasks.insert(task, until);
            }
            AttemptFailureKind::PreparationFailed
            | AttemptFailureKind::Uncertified
            | AttemptFailureKind::BlobUnavailable
            | AttemptFailureKind::DiskFull => {
                present.avoid_jobs.insert(task.job, until);
            }
            AttemptFailureKind::DeviceLost | AttemptFailureKind::DeviceForgot | AttemptFailureKind::LeaseExpired => {}
        }
    }

    /// The task is no longer open: nobody needs to work on it, and it may have been its job's last.
    fn close(&mut self, task: TaskId) {
        self.presence().unqueue(task);
        self.drop_leases_of_task(task);
        self.go_on(task.job);
    }

    pub(crate) fn work(&self, job: JobId) -> &Work {
        self.catalog().jobs[&job].work.as_ref().expect("a job with tasks is prepared")
    }
}

/// Whether a program that was never started anywhere has failed to start often enough. All that a device held when it
/// found out fails at the same time and is one failure. A device that is there and never tries keeps the job waiting
/// only so long.
fn cannot_start<'a>(
    failures: impl Iterator<Item = &'a Attempt>,
    devices_max: u32,
    somebody_else: impl FnOnce() -> bool,
) -> bool {
    let failures: BTreeSet<_> = failures.map(|attempt| (attempt.device, attempt.at)).collect();
    let devices = failures.iter().map(|(device, _)| device).collect::<BTreeSet<_>>().len();
    let most = devices_max as usize;
    devices >= most
        || (failures.len() >= 2 * most && !somebody_else())
        || (devices > 1 && failures.len() >= ATTEMPTS_FACTOR_MAX * most)
}

/// Whether a task has come to nothing often enough. One device alone decides that only when there is no other.
fn one_too_many(
    attempts: &[Attempt],
    devices_max: u32,
    attempts_max: u32,
    somebody_else: impl FnOnce() -> bool,
) -> bool {
    let blamed: Vec<_> = attempts.iter().filter(|attempt| attempt.failure.kind.blames_task()).collect();
    let devices: BTreeSet<_> = blamed.iter().map(|attempt| attempt.device).collect();
    let counted = attempts.iter().filter(|attempt| attempt.failure.kind != AttemptFailureKind::GivenBack).count();
    if devices.len() >= devices_max as usize
        || counted >= ATTEMPTS_FACTOR_MAX * attempts_max as usize
        || attempts.len() >= ATTEMPTS_KEPT_MAX
    {
        return true;
    }
    (blamed.len() >= 2 * devices_max as usize || counted >= attempts_max as usize) && !somebody_else()
}
