//! What a coordinator knows. The durable part changes only by [`Catalog::apply`]; the rest is what devices told this
//! process and is told again after a restart.

use crate::books::Books;
use crate::checks::Checks;
use crate::payouts::Payouts;
use crate::{Attempt, Change, RequestId, Totals};
use caii_model::*;
use caii_verify::{Secret, Standing};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The durable part: equal after replaying the same changes, whatever process does it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalog {
    pub(crate) keys: BTreeMap<KeyId, Key>,
    pub(crate) keys_by_hash: BTreeMap<Digest, KeyId>,
    pub(crate) tickets: BTreeMap<TicketId, Ticket>,
    pub(crate) tickets_by_hash: BTreeMap<Digest, TicketId>,
    pub(crate) devices: BTreeMap<DeviceId, Device>,
    pub(crate) workloads: BTreeMap<Digest, Manifest>,
    pub(crate) models: BTreeMap<String, Model>,
    pub(crate) files: BTreeMap<FileId, FileMeta>,
    /// What each device has survived, by workload.
    pub(crate) standings: BTreeMap<(DeviceId, Digest), Standing>,
    pub(crate) convicted: BTreeMap<DeviceId, Conviction>,
    /// What draws depend on now: its number, it, and since when.
    pub(crate) audit_secret: Option<(u64, Secret, Timestamp)>,
    /// How long each device was present on the day that is not settled, and which day that is.
    pub(crate) attendance: BTreeMap<DeviceId, (u32, Millis)>,
    /// Credits, claims and the log.
    pub(crate) books: Books,
    /// What members prefer, and the payout that is being made.
    pub(crate) payouts: Payouts,
    /// Open jobs only: an ended one is in history.
    pub(crate) jobs: BTreeMap<JobId, Job>,
    pub(crate) next: NextIds,
}

/// The next free number of each counted id. Kept apart from the entries, because ended jobs and deleted files leave
/// memory but their numbers are never given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextIds {
    /// Keys.
    pub key: u64,
    /// Tickets.
    pub ticket: u64,
    /// Files.
    pub file: u64,
    /// Jobs.
    pub job: u64,
}

impl Default for NextIds {
    fn default() -> Self {
        Self { key: 1, ticket: 1, file: 1, job: 1 }
    }
}

/// An open job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub(crate) id: JobId,
    pub(crate) spec: JobSpec,
    pub(crate) submitted: Timestamp,
    pub(crate) work: Option<Work>,
    pub(crate) ending: Option<(Ending, Timestamp)>,
}

/// The tasks of a job whose input is split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) prepared: Prepared,
    pub(crate) prepared_at: Timestamp,
    /// Tasks with neither a result nor given up. Leased ones are among them: a lease is not durable.
    pub(crate) open: BTreeSet<TaskIndex>,
    pub(crate) settled: BTreeMap<TaskIndex, Settled>,
    pub(crate) given_up: BTreeSet<TaskIndex>,
    /// Kept until the job ends, for `explain` and for the reasons in error lines.
    pub(crate) attempts: BTreeMap<TaskIndex, Vec<Attempt>>,
    pub(crate) totals: Totals,
    pub(crate) workers: BTreeSet<DeviceId>,
    pub(crate) checks: Checks,
}

impl Catalog {
    /// Takes up one change. The only place where the durable part changes.
    ///
    /// # Panics
    /// When a change names what does not exist: the history is then not one that a coordinator wrote, and going on
    /// would corrupt it.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::KeyCreated(key) => {
                self.next.key = self.next.key.max(key.id.0 + 1);
                self.keys_by_hash.insert(key.secret_hash, key.id);
                self.keys.insert(key.id, key.clone());
            }
            Change::KeyRevoked(id, at) => {
                let key = self.keys.get_mut(id).expect("a revoked key was created");
                key.revoked = Some(*at);
                self.keys_by_hash.remove(&key.secret_hash);
            }
            Change::TicketIssued(ticket) => {
                self.next.ticket = self.next.ticket.max(ticket.id.0 + 1);
                self.tickets_by_hash.insert(ticket.secret_hash, ticket.id);
                self.tickets.insert(ticket.id, ticket.clone());
            }
            Change::TicketRevoked(id, at) => {
                self.tickets.get_mut(id).expect("a revoked ticket was issued").expires = *at;
            }
            Change::DeviceEnrolled(device, ticket) => {
                self.tickets.get_mut(ticket).expect("a used ticket was issued").uses += 1;
                self.devices.insert(device.id, device.clone());
            }
            Change::WorkloadAdded(manifest) => {
                self.workloads.insert(manifest.digest(), manifest.clone());
            }
            Change::ModelAdded(model) => {
                self.models.insert(model.name.clone(), model.clone());
            }
            Change::ModelRemoved(name) => {
                self.models.remove(name);
            }
            Change::FileCreated(file) => {
                self.next.file = self.next.file.max(file.id.0 + 1);
                self.files.insert(file.id, file.clone());
            }
            Change::FileDeleted(id, _) => {
                self.files.remove(id);
            }
            Change::JobSubmitted(id, spec, at) => {
                self.next.job = self.next.job.max(id.0 + 1);
                let job = Job { id: *id, spec: spec.clone(), submitted: *at, work: None, ending: None };
                self.jobs.insert(*id, job);
            }
            Change::JobPrepared(id, prepared, at) => {
                self.job_mut(*id).work = Some(Work::new(prepared.clone(), *at));
            }
            Change::TaskSettled(task, settled) => self.work_mut(task.job).settle(task.index, settled),
            Change::AttemptFailed(task, attempt) => {
                let work = self.work_mut(task.job);
                work.totals.attempts_failed += 1;
                work.attempts.entry(task.index).or_default().push(attempt.clone());
            }
            Change::TaskGivenUp(task, _) => self.work_mut(task.job).give_up(task.index),
            Change::AuditSecret { period, secret, since } => self.audit_secret = Some((*period, *secret, *since)),
            Change::Checked(task, event) => self.work_mut(task.job).check(task.index, event),
            Change::StandingChanged(device, workload, standing) => {
                self.standings.insert((*device, *workload), *standing);
            }
            Change::DeviceConvicted(conviction) => {
                self.standings.retain(|(device, _), _| *device != conviction.device);
                self.convicted.insert(conviction.device, conviction.clone());
            }
            Change::TaskVoided(task, _, _) => self.work_mut(task.job).void(task.index),
            Change::JobEnding(id, ending, at) => self.job_mut(*id).ending = Some((ending.clone(), *at)),
            Change::JobEnded(id, _) => {
                self.jobs.remove(id).expect("an ended job was open");
                self.books.close(*id);
            }
            Change::Attended(device, _, Millis(0)) => _ = self.attendance.remove(device),
            Change::Attended(device, day, total) => _ = self.attendance.insert(*device, (*day, *total)),
            Change::PayoutPreferred(account, preference) => self.payouts.prefer(account, preference),
            Change::PayoutPrepared(draft) => self.payouts.prepare(draft),
            Change::PayoutApproved(run, envelope) => self.payouts.approve(*run, envelope),
            Change::Logged(event) => {
                self.payouts.logged(&event.logged);
                self.books.apply(&event.logged);
            }
            Change::Carried(carried) => self.books = Books::carry(carried),
        }
    }

    /// Raises the counters to these, for a store that no longer has what used the lower numbers.
    pub fn reserve_ids(&mut self, next: NextIds) {
        self.next.key = self.next.key.max(next.key);
        self.next.ticket = self.next.ticket.max(next.ticket);
        self.next.file = self.next.file.max(next.file);
        self.next.job = self.next.job.max(next.job);
    }

    fn job_mut(&mut self, id: JobId) -> &mut Job {
        self.jobs.get_mut(&id).expect("a changed job is open")
    }

    fn work_mut(&mut self, id: JobId) -> &mut Work {
        self.job_mut(id).work.as_mut().expect("a job whose tasks change is prepared")
    }
}

impl Work {
    fn new(prepared: Prepared, prepared_at: Timestamp) -> Self {
        let tasks = u32::try_from(prepared.tasks.len()).expect("a job's tasks were counted when it was prepared");
        let totals = Totals { records: prepared.records, tasks, ..Totals::default() };
        let open = (0..tasks).map(TaskIndex).collect();
        Self {
            prepared,
            prepared_at,
            open,
            settled: BTreeMap::new(),
            given_up: BTreeSet::new(),
            attempts: BTreeMap::new(),
            totals,
            workers: BTreeSet::new(),
            checks: Checks::default(),
        }
    }

    fn settle(&mut self, index: TaskIndex, settled: &Settled) {
        let was_open = self.open.remove(&index);
        if self.is_audit(index) {
            self.settled.insert(index, settled.clone());
            return;
        }
        assert!(was_open, "a settled task was open");
        let records = u64::from(self.prepared.tasks[index.0 as usize].records);
        let report = &settled.report;
        let failed = u64::from(report.records_failed).min(records);
        self.totals.records_ok += records - failed;
        self.totals.records_failed += failed;
        self.totals.tasks_settled += 1;
        self.totals.fuel = Fuel(self.totals.fuel.0.saturating_add(report.fuel.0));
        self.totals.cpu = Millis(self.totals.cpu.0.saturating_add(report.cpu.0));
        self.workers.insert(settled.device);
        self.totals.devices = self.workers.len() as u32;
        self.settled.insert(index, settled.clone());
    }

    fn give_up(&mut self, index: TaskIndex) {
        let was_open = self.open.remove(&index);
        self.given_up.insert(index);
        if self.is_audit(index) {
            return;
        }
        assert!(was_open, "a task that is given up was open");
        self.totals.records_failed += u64::from(self.prepared.tasks[index.0 as usize].records);
        self.totals.tasks_given_up += 1;
    }
}

/// What devices told this process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Presence {
    /// Devices that have spoken to this process and are not lost.
    pub(crate) present: BTreeMap<DeviceId, Present>,
    /// The largest sequence of each device that ever spoke to this process, so that nothing can be replayed.
    pub(crate) sequences: BTreeMap<DeviceId, u64>,
    /// Who works on what, by task. Several may: a device that was thought lost can come back.
    pub(crate) leased: BTreeMap<TaskId, BTreeMap<LeaseId, DeviceId>>,
    /// How many tasks of each job are leased.
    pub(crate) leased_per_job: BTreeMap<JobId, u32>,
    /// Open tasks that nobody works on, by job. A job without any has no entry.
    pub(crate) waiting: BTreeMap<JobId, BTreeSet<TaskIndex>>,
    /// Audits that the pool itself runs.
    pub(crate) refereed: BTreeSet<TaskId>,
    /// Since when audits wait that no connected device may do.
    pub(crate) unattended: BTreeMap<TaskId, Timestamp>,
    /// When each device was lost.
    pub(crate) lost: BTreeMap<DeviceId, Timestamp>,
}

/// A device in conversation.
#[derive(Debug, Clone)]
pub(crate) struct Present {
    pub(crate) session: SessionId,
    /// Earlier conversations, so that their agents can be told why they are refused. The newest is last.
    pub(crate) superseded: VecDeque<SessionId>,
    pub(crate) since: Timestamp,
    pub(crate) heard: Timestamp,
    /// Its connection was seen to break: it has less time than others to be heard again.
    pub(crate) gone: Option<Timestamp>,
    pub(crate) slots: u32,
    pub(crate) slots_free: u32,
    pub(crate) ready: BTreeSet<Digest>,
    /// What confined the program of its last accepted result, and when that came.
    pub(crate) jail: Option<(JailLayers, Timestamp)>,
    /// Leases whose results came too late and whose claims were decided so.
    pub(crate) refused: VecDeque<LeaseId>,
    pub(crate) attendance: crate::attendance::Attendance,
    pub(crate) leases: BTreeMap<LeaseId, Held>,
    pub(crate) parked: Option<Parked>,
    /// After an attempt that failed here, the device stays away from the task until then.
    pub(crate) avoid_tasks: BTreeMap<TaskId, Timestamp>,
    /// After a failure that would meet every task of the job, the device stays away from the job until then.
    pub(crate) avoid_jobs: BTreeMap<JobId, Timestamp>,
}

/// A lease that a device is thought to work on.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) signed: SignedLease,
    /// The request in whose reply it was given; 0 for one adopted from what the device held.
    pub(crate) granted_in: u64,
}

/// A reply that is held back until there is something to say.
#[derive(Debug, Clone)]
pub(crate) struct Parked {
    pub(crate) request: RequestId,
    pub(crate) sequence: u64,
    pub(crate) until: Timestamp,
}

impl Presence {
    /// Notes that a device works on a task.
    pub(crate) fn lease(&mut self, signed: SignedLease, granted_in: u64) {
        let lease = signed.lease;
        let leases = self.leased.entry(lease.task).or_default();
        if leases.is_empty() {
            *self.leased_per_job.entry(lease.task.job).or_default() += 1;
        }
        leases.insert(lease.id, lease.device);
        self.unqueue(lease.task);
        let present = self.present.get_mut(&lease.device).expect("leases are given to present devices");
        present.leases.insert(lease.id, Held { signed, granted_in });
    }

    /// Forgets that a device works on a task; queues the task again if it is `open` and nobody else does.
    pub(crate) fn unlease(&mut self, device: DeviceId, lease: LeaseId, open: bool) {
        let Some(held) = self.present.get_mut(&device).and_then(|present| present.leases.remove(&lease)) else {
            return;
        };
        let task = held.signed.lease.task;
        let leases = self.leased.get_mut(&task).expect("a held lease is indexed by its task");
        leases.remove(&lease);
        if !leases.is_empty() {
            return;
        }
        self.leased.remove(&task);
        let count = self.leased_per_job.get_mut(&task.job).expect("a leased task is counted");
        *count -= 1;
        if *count == 0 {
            self.leased_per_job.remove(&task.job);
        }
        if open {
            self.waiting.entry(task.job).or_default().insert(task.index);
        }
    }

    /// Takes a task out of the queue.
    pub(crate) fn unqueue(&mut self, task: TaskId) {
        if let Some(waiting) = self.waiting.get_mut(&task.job) {
            waiting.remove(&task.index);
            if waiting.is_empty() {
                self.waiting.remove(&task.job);
            }
        }
    }
}
