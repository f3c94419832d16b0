//! A store in memory, for tests and simulations: it forgets everything when its last handle goes.

mod books;

use crate::{
    BookQueries, Epoch, JobPrice, JobQuery, LoggedReceipt, ReceiptQuery, Snapshot, StatementLine, Store, StoreError,
    WORKLOAD_JOBS_MAX,
};
pub(crate) use books::Log;
use caii_audit::{Event, Logged};
use caii_coordinator::{Attempt, Carried, Change, JobRecord, NextIds, PayoutDraft, PayoutPreference};
use caii_ledger::{Entry, PayoutRun, TransferId};
use caii_model::*;
use caii_verify::{Secret, Standing};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A pool in memory. Clones are handles to the same pool, as several processes would have them.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    pool: Arc<Mutex<Pool>>,
}

#[derive(Debug, Default)]
struct Pool {
    epoch: u64,
    rows: Rows,
}

#[derive(Debug, Default)]
struct Rows {
    keys: BTreeMap<KeyId, Key>,
    /// As issued, and when revoked: uses are counted by `enrolments`.
    tickets: BTreeMap<TicketId, (Ticket, Option<Timestamp>)>,
    /// Every one that ever was: a device that enrols again uses a ticket again.
    enrolments: Vec<(Device, TicketId)>,
    workloads: BTreeMap<Digest, Manifest>,
    models: BTreeMap<String, Model>,
    files: BTreeMap<FileId, FileMeta>,
    standings: BTreeMap<(DeviceId, Digest), Standing>,
    convictions: BTreeMap<DeviceId, Conviction>,
    /// By period: the secret and since when.
    secrets: BTreeMap<u64, (Secret, Timestamp)>,
    attendance: BTreeMap<DeviceId, (u32, Millis)>,
    preferences: BTreeMap<Account, PayoutPreference>,
    /// With whether they were sent.
    payouts: BTreeMap<PayoutRun, (PayoutDraft, bool)>,
    log: Log,
    jobs: BTreeMap<JobId, JobRow>,
    next: NextIds,
}

#[derive(Debug)]
struct JobRow {
    record: JobRecord,
    prepared: Option<Prepared>,
    settled: BTreeMap<TaskIndex, Settled>,
    given_up: BTreeMap<TaskIndex, Timestamp>,
    attempts: Vec<(TaskIndex, Attempt)>,
    checks: Vec<(TaskIndex, CheckEvent)>,
}

/// Takes one change back. Run in reverse order when a later change of the same commit does not fit.
type Undo = Box<dyn FnOnce(&mut Rows)>;

impl MemoryStore {
    /// An empty pool.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        // A panic elsewhere leaves the rows whole: they change only between checks, never across a call that panics.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn acquire(&mut self) -> Result<Epoch, StoreError> {
        let mut pool = self.lock();
        pool.epoch += 1;
        Ok(Epoch(pool.epoch))
    }

    fn load(&mut self) -> Result<Snapshot, StoreError> {
        Ok(self.lock().rows.snapshot())
    }

    fn commit(&mut self, fence: Epoch, changes: &[Change]) -> Result<(), StoreError> {
        let mut pool = self.lock();
        if pool.epoch != fence.0 {
            return Err(StoreError::Deposed { ours: fence, current: Epoch(pool.epoch) });
        }
        let next = pool.rows.next;
        let mut undos = Vec::with_capacity(changes.len());
        for change in changes {
            match pool.rows.apply(change) {
                Ok(undo) => undos.push(undo),
                Err(reason) => {
                    undos.into_iter().rev().for_each(|undo| undo(&mut pool.rows));
                    pool.rows.next = next;
                    return Err(StoreError::Contradiction { change: format!("{change:?}"), reason });
                }
            }
        }
        Ok(())
    }

    fn job(&mut self, id: JobId) -> Result<Option<JobRecord>, StoreError> {
        Ok(self.lock().rows.jobs.get(&id).map(|job| job.record.clone()))
    }

    fn jobs(&mut self, query: &JobQuery) -> Result<Vec<JobRecord>, StoreError> {
        let before = query.before.unwrap_or(JobId(u64::MAX));
        let wanted = |job: &&JobRow| {
            let spec = &job.record.spec;
            query.owner.as_ref().is_none_or(|owner| spec.owner == *owner)
                && match spec.kind {
                    JobKind::Program { .. } => !query.batches_only,
                    JobKind::Batch { .. } => true,
                    JobKind::Sync { .. } => false,
                }
        };
        let pool = self.lock();
        let jobs = pool.rows.jobs.range(..before).rev().map(|(_, job)| job).filter(wanted);
        Ok(jobs.take(query.limit.min(JobQuery::LIMIT_MAX)).map(|job| job.record.clone()).collect())
    }

    fn attempts(&mut self, job: JobId, limit: usize) -> Result<Vec<(TaskIndex, Attempt)>, StoreError> {
        let pool = self.lock();
        let attempts = pool.rows.jobs.get(&job).map_or(&[][..], |job| &job.attempts);
        Ok(attempts.iter().take(limit).cloned().collect())
    }

    fn settled(&mut self, job: JobId) -> Result<Vec<(TaskIndex, Settled)>, StoreError> {
        let pool = self.lock();
        let settled = pool.rows.jobs.get(&job).into_iter().flat_map(|job| &job.settled);
        Ok(settled.map(|(task, settled)| (*task, settled.clone())).collect())
    }

    fn logged(&mut self, from: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        Ok(self.lock().rows.log.logged(from, limit))
    }

    fn books(&mut self) -> &mut dyn BookQueries {
        self
    }
}

impl BookQueries for MemoryStore {
    fn entry_at(&mut self, at: Timestamp) -> Result<u64, StoreError> {
        Ok(self.lock().rows.log.entry_at(at))
    }

    fn receipts(&mut self, query: &ReceiptQuery) -> Result<Vec<LoggedReceipt>, StoreError> {
        Ok(self.lock().rows.log.receipts(query))
    }

    fn receipt(&mut self, device: DeviceId, sequence: u64) -> Result<Option<LoggedReceipt>, StoreError> {
        Ok(self.lock().rows.log.receipt(device, sequence))
    }

    fn receipts_of_workload(&mut self, workload: Digest, limit: usize) -> Result<Vec<Receipt>, StoreError> {
        let pool = self.lock();
        let jobs = pool.rows.jobs.iter().rev().take(WORKLOAD_JOBS_MAX);
        let jobs = jobs.filter(|(_, job)| job.record.spec.workload == workload).map(|(id, _)| *id);
        Ok(pool.rows.log.receipts_of_jobs(jobs, limit))
    }

    fn statement(
        &mut self,
        member: &Account,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<StatementLine>, StoreError> {
        Ok(self.lock().rows.log.statement(member, before, limit))
    }

    fn job_price(&mut self, job: JobId) -> Result<JobPrice, StoreError> {
        Ok(self.lock().rows.log.job_price(job))
    }

    fn payout(&mut self, run: PayoutRun) -> Result<Option<PayoutDraft>, StoreError> {
        Ok(self.lock().rows.payouts.get(&run).map(|(draft, _)| draft.clone()))
    }

    fn posted(&mut self, id: TransferId) -> Result<Option<(u64, Entry)>, StoreError> {
        Ok(self.lock().rows.log.posted(id))
    }
}

impl Rows {
    fn snapshot(&self) -> Snapshot {
        let mut changes = Vec::new();
        for key in self.keys.values() {
            changes.push(Change::KeyCreated(Key { revoked: None, ..key.clone() }));
            changes.extend(key.revoked.map(|at| Change::KeyRevoked(key.id, at)));
        }
        for (ticket, revoked) in self.tickets.values() {
            changes.push(Change::TicketIssued(ticket.clone()));
            changes.extend(revoked.map(|at| Change::TicketRevoked(ticket.id, at)));
        }
        changes.extend(self.enrolments.iter().map(|(device, by)| Change::DeviceEnrolled(device.clone(), *by)));
        changes.extend(self.workloads.values().cloned().map(Change::WorkloadAdded));
        changes.extend(self.models.values().cloned().map(Change::ModelAdded));
        changes.extend(self.files.values().cloned().map(Change::FileCreated));
        changes.extend(self.convictions.values().cloned().map(Change::DeviceConvicted));
        let standings = self.standings.iter();
        changes.extend(standings.map(|((device, of), standing)| Change::StandingChanged(*device, *of, *standing)));
        let secret = self.secrets.last_key_value();
        changes.extend(secret.map(|(period, (secret, since))| Change::AuditSecret {
            period: *period,
            secret: *secret,
            since: *since,
        }));
        let preferences = self.preferences.iter();
        changes.extend(preferences.map(|(account, how)| Change::PayoutPreferred(account.clone(), how.clone())));
        let drafts = self.payouts.values().filter(|(_, sent)| !sent);
        changes.extend(drafts.map(|(draft, _)| Change::PayoutPrepared(Box::new(draft.clone()))));
        let attendance = self.attendance.iter();
        changes.extend(attendance.map(|(device, (day, attended))| Change::Attended(*device, *day, *attended)));
        let open = || self.jobs.iter().filter(|(_, job)| job.record.end.is_none());
        if !self.log.events().is_empty() {
            let carried = Carried::of(self.log.events(), &open().map(|(id, _)| *id).collect());
            changes.push(Change::Carried(Box::new(carried)));
        }
        open().for_each(|(_, job)| job.replay(&mut changes));
        Snapshot { changes, next: self.next }
    }

    fn apply(&mut self, change: &Change) -> Result<Undo, &'static str> {
        let next = &mut self.next;
        Ok(match change.clone() {
            Change::KeyCreated(key) => {
                let id = key.id;
                next.key = next.key.max(id.0 + 1);
                insert_new(&mut self.keys, id, key, "a key of this id exists")?;
                Box::new(move |rows| drop(rows.keys.remove(&id)))
            }
            Change::KeyRevoked(id, at) => {
                let key = self.keys.get_mut(&id).ok_or("no key of this id exists")?;
                let before = key.revoked.replace(at);
                Box::new(move |rows| _ = rows.keys.get_mut(&id).map(|key| key.revoked = before))
            }
            Change::TicketIssued(ticket) => {
                let id = ticket.id;
                next.ticket = next.ticket.max(id.0 + 1);
                insert_new(&mut self.tickets, id, (ticket, None), "a ticket of this id exists")?;
                Box::new(move |rows| drop(rows.tickets.remove(&id)))
            }
            Change::TicketRevoked(id, at) => {
                let (_, revoked) = self.tickets.get_mut(&id).ok_or("no ticket of this id exists")?;
                let before = revoked.replace(at);
                Box::new(move |rows| _ = rows.tickets.get_mut(&id).map(|ticket| ticket.1 = before))
            }
            Change::DeviceEnrolled(device, ticket) => {
                self.tickets.get(&ticket).ok_or("no ticket of this id exists")?;
                self.enrolments.push((device, ticket));
                Box::new(|rows| drop(rows.enrolments.pop()))
            }
            Change::WorkloadAdded(manifest) => {
                let digest = manifest.digest();
                let before = self.workloads.insert(digest, manifest);
                Box::new(move |rows| restore(&mut rows.workloads, digest, before))
            }
            Change::ModelAdded(model) => {
                let name = model.name.clone();
                let before = self.models.insert(name.clone(), model);
                Box::new(move |rows| restore(&mut rows.models, name, before))
            }
            Change::ModelRemoved(name) => {
                let before = self.models.remove(&name);
                Box::new(move |rows| restore(&mut rows.models, name, before))
            }
            Change::FileCreated(file) => {
                let id = file.id;
                next.file = next.file.max(id.0 + 1);
                insert_new(&mut self.files, id, file, "a file of this id exists")?;
                Box::new(move |rows| drop(rows.files.remove(&id)))
            }
            Change::FileDeleted(id, _) => {
                let before = self.files.remove(&id);
                Box::new(move |rows| restore(&mut rows.files, id, before))
            }
            Change::JobSubmitted(id, spec, at) => {
                next.job = next.job.max(id.0 + 1);
                insert_new(&mut self.jobs, id, JobRow::new(id, spec, at), "a job of this id exists")?;
                Box::new(move |rows| drop(rows.jobs.remove(&id)))
            }
            Change::JobPrepared(id, prepared, at) => {
                let job = self.open_job(id)?;
                if job.prepared.is_some() {
                    return Err("the job is prepared");
                }
                (job.record.prepared, job.record.blob) = (Some(at), Some(prepared.blob));
                job.prepared = Some(prepared);
                undo_job(id, |job| {
                    (job.record.prepared, job.record.blob, job.prepared) = (None, None, None);
                })
            }
            Change::TaskSettled(task, settled) => {
                let job = self.prepared_job(task.job)?;
                insert_new(&mut job.settled, task.index, settled, "the task is settled")?;
                undo_job(task.job, move |job| _ = job.settled.remove(&task.index))
            }
            Change::AttemptFailed(task, attempt) => {
                self.prepared_job(task.job)?.attempts.push((task.index, attempt));
                undo_job(task.job, |job| drop(job.attempts.pop()))
            }
            Change::TaskGivenUp(task, at) => {
                let job = self.prepared_job(task.job)?;
                insert_new(&mut job.given_up, task.index, at, "the task is given up")?;
                undo_job(task.job, move |job| _ = job.given_up.remove(&task.index))
            }
            Change::AuditSecret { period, secret, since } => {
                insert_new(&mut self.secrets, period, (secret, since), "there is a secret of this period")?;
                Box::new(move |rows| _ = rows.secrets.remove(&period))
            }
            Change::StandingChanged(device, workload, standing) => {
                let before = self.standings.insert((device, workload), standing);
                Box::new(move |rows| restore(&mut rows.standings, (device, workload), before))
            }
            Change::DeviceConvicted(conviction) => {
                let (device, standings) = (conviction.device, self.standings.clone());
                self.standings.retain(|(other, _), _| *other != device);
                let before = self.convictions.insert(device, conviction);
                Box::new(move |rows| {
                    rows.standings = standings;
                    restore(&mut rows.convictions, device, before);
                })
            }
            Change::Checked(task, event) => {
                self.prepared_job(task.job)?.checks.push((task.index, event));
                undo_job(task.job, |job| drop(job.checks.pop()))
            }
            Change::TaskVoided(task, _, _) => {
                let job = self.prepared_job(task.job)?;
                let settled = job.settled.remove(&task.index).ok_or("the task is not settled")?;
                let checks = job.checks.clone();
                job.checks.retain(|(index, _)| *index != task.index);
                undo_job(task.job, move |job| {
                    job.settled.insert(task.index, settled);
                    job.checks = checks;
                })
            }
            Change::JobEnding(id, ending, at) => {
                let before = self.open_job(id)?.record.ending.replace((ending, at));
                undo_job(id, |job| job.record.ending = before)
            }
            Change::JobEnded(id, end) => {
                let record = &mut self.open_job(id)?.record;
                let before = record.ending.clone();
                let since = before.as_ref().map_or(end.at, |(_, since)| *since);
                record.ending = Some((end.ending.clone(), since));
                record.end = Some(end);
                undo_job(id, |job| (job.record.end, job.record.ending) = (None, before))
            }
            Change::Attended(device, day, attended) => {
                let before = match attended {
                    Millis(0) => self.attendance.remove(&device),
                    _ => self.attendance.insert(device, (day, attended)),
                };
                Box::new(move |rows| restore(&mut rows.attendance, device, before))
            }
            Change::PayoutPreferred(account, preference) => {
                let before = self.preferences.insert(account.clone(), preference);
                Box::new(move |rows| restore(&mut rows.preferences, account, before))
            }
            Change::PayoutPrepared(draft) => {
                let run = draft.sent.run;
                if self.payouts.get(&run).is_some_and(|(_, sent)| *sent) {
                    return Err("it is there already");
                }
                let before = self.payouts.insert(run, (*draft, false));
                Box::new(move |rows| restore(&mut rows.payouts, run, before))
            }
            Change::PayoutApproved(run, envelope) => {
                let draft = self.payouts.get_mut(&run).filter(|(_, sent)| !sent);
                let (draft, _) = draft.ok_or("no payout run of this number waits to be sent")?;
                let before = draft.approval.replace(envelope);
                Box::new(move |rows| _ = rows.payouts.get_mut(&run).map(|(draft, _)| draft.approval = before))
            }
            Change::Logged(event) => {
                let run = match &event.logged {
                    Logged::PayoutSent(sent) => Some(sent.run),
                    _ => None,
                };
                self.log.push(*event)?;
                let mark = move |rows: &mut Rows, sent| {
                    let draft = run.and_then(|run| rows.payouts.get_mut(&run));
                    _ = draft.map(|(_, was)| *was = sent);
                };
                mark(self, true);
                Box::new(move |rows| {
                    mark(rows, false);
                    rows.log.pop();
                })
            }
            Change::Carried(_) => return Err("it is what a store loads, not what is committed"),
        })
    }

    fn open_job(&mut self, id: JobId) -> Result<&mut JobRow, &'static str> {
        self.jobs.get_mut(&id).filter(|job| job.record.end.is_none()).ok_or("no job of this id is open")
    }

    fn prepared_job(&mut self, id: JobId) -> Result<&mut JobRow, &'static str> {
        self.jobs.get_mut(&id).filter(|job| job.prepared.is_some()).ok_or("no job of this id is prepared")
    }
}

impl JobRow {
    fn new(id: JobId, spec: JobSpec, submitted: Timestamp) -> Self {
        Self {
            record: JobRecord { id, spec, submitted, prepared: None, blob: None, ending: None, end: None },
            prepared: None,
            settled: BTreeMap::new(),
            given_up: BTreeMap::new(),
            attempts: Vec::new(),
            checks: Vec::new(),
        }
    }

    fn replay(&self, changes: &mut Vec<Change>) {
        let JobRecord { id, spec, submitted, prepared, ending, .. } = &self.record;
        let task = |index: TaskIndex| TaskId { job: *id, index };
        changes.push(Change::JobSubmitted(*id, spec.clone(), *submitted));
        if let (Some(input), Some(at)) = (&self.prepared, prepared) {
            changes.push(Change::JobPrepared(*id, input.clone(), *at));
        }
        changes.extend(self.settled.iter().map(|(index, by)| Change::TaskSettled(task(*index), by.clone())));
        changes.extend(self.checks.iter().map(|(index, event)| Change::Checked(task(*index), event.clone())));
        changes.extend(self.attempts.iter().map(|(index, how)| Change::AttemptFailed(task(*index), how.clone())));
        changes.extend(self.given_up.iter().map(|(index, at)| Change::TaskGivenUp(task(*index), *at)));
        changes.extend(ending.iter().map(|(ending, at)| Change::JobEnding(*id, ending.clone(), *at)));
    }
}

fn insert_new<K: Ord, V>(rows: &mut BTreeMap<K, V>, key: K, row: V, reason: &'static str) -> Result<(), &'static str> {
    match rows.entry(key) {
        std::collections::btree_map::Entry::Vacant(place) => {
            place.insert(row);
            Ok(())
        }
        std::collections::btree_map::Entry::Occupied(_) => Err(reason),
    }
}

fn restore<K: Ord, V>(rows: &mut BTreeMap<K, V>, key: K, before: Option<V>) {
    match before {
        Some(row) => drop(rows.insert(key, row)),
        None => drop(rows.remove(&key)),
    }
}

fn undo_job(id: JobId, undo: impl FnOnce(&mut JobRow) + 'static) -> Undo {
    Box::new(move |rows| _ = rows.jobs.get_mut(&id).map(undo))
}
