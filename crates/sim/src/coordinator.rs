//! The coordinator's process and its shell: batches of steps, commits, effects, and what the shell does with inputs and
//! outputs.

use crate::Mutation;
use crate::world::{Answer, EPOCH, Event, Stage, TICK, World};
use caii_coordinator::Step;
use caii_coordinator::*;
use caii_model::*;
use caii_store::{Epoch, MemoryStore, Store};
use caii_trust::{LeaseAuthority, SimAuthority};
use std::collections::{BTreeMap, VecDeque};

pub(crate) const METER: MeterId = MeterId(Digest([9; 32]));
/// The secret's hash of the ticket of one of four owners.
pub(crate) fn ticket(owner: u8) -> Digest {
    Digest([7 + owner; 32])
}
/// Owners who have tickets.
const OWNERS: u8 = 4;
/// Inputs stepped before one commit.
const BATCH_MAX: usize = 64;

/// Whose question it is.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    Nobody,
    Requester { job: usize, stage: Stage },
    Enrolment { host: usize },
    Device { host: usize, incarnation: u64, sequence: u64, device: DeviceId, reports: Vec<Report>, own: usize },
}

/// What outlives the coordinator's process.
pub(crate) struct Node {
    store: MemoryStore,
    /// The state that is durable, by applying every committed change.
    committed: Catalog,
    pub(crate) process: Option<Process>,
    processes: u64,
    batches: u64,
    /// Those that changed something.
    commits: u64,
    pub(crate) clock_offset: i64,
    /// The process dies at its next commit: before it or after it.
    pub(crate) dies: Option<Death>,
    /// The next commit takes so long.
    pub(crate) stall: u64,
    mutation: Option<Mutation>,
    /// The log, entry by entry, as far as it is durable.
    pub(crate) log: Vec<caii_audit::Event>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    BeforeCommit,
    AfterCommit,
}

/// A process of the coordinator: all of it is gone when it dies.
pub(crate) struct Process {
    id: u64,
    pub(crate) coordinator: Coordinator,
    epoch: Epoch,
    replica: Catalog,
    requests: u64,
    inbox: VecDeque<(RequestId, Input)>,
    origins: BTreeMap<RequestId, Origin>,
    /// The last request of each device: only its end means that the device may be gone.
    latest: BTreeMap<DeviceId, RequestId>,
    batch: Option<Batch>,
}

struct Batch {
    number: u64,
    step: Step,
}

impl Process {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }
}

/// Takes every lease for its own.
struct Credulous(SimAuthority);

impl LeaseAuthority for Credulous {
    fn seal(&self, lease: &Lease) -> SignedLease {
        self.0.seal(lease)
    }

    fn check(&self, _: &SignedLease) -> bool {
        true
    }
}

impl Node {
    pub(crate) fn new(mutation: Option<Mutation>) -> Self {
        Self {
            store: MemoryStore::new(),
            committed: Catalog::default(),
            process: None,
            processes: 0,
            batches: 0,
            commits: 0,
            clock_offset: 0,
            dies: None,
            stall: 0,
            mutation,
            log: vec![],
        }
    }

    /// Commits and entries of the log so far.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.commits, self.log.len() as u64)
    }

    /// What is durable.
    pub(crate) fn catalog(&self) -> &Catalog {
        &self.committed
    }

    pub(crate) fn clock(&self, now: u64) -> Timestamp {
        Timestamp((EPOCH + now).saturating_add_signed(self.clock_offset))
    }

    fn authority(&self) -> Box<dyn LeaseAuthority + Send> {
        let authority = SimAuthority::new([4; 32]);
        match self.mutation {
            Some(Mutation::AcceptsForgedLeases) => Box::new(Credulous(authority)),
            _ => Box::new(authority),
        }
    }

    fn config(&self) -> Config {
        let mut config = Config::new(METER);
        if self.mutation == Some(Mutation::ForgetsLostDevices) {
            (config.device_silence_max, config.gone_silence_max) = (Millis(u64::MAX), Millis(u64::MAX));
            config.lease_duration = Millis(1_000 * 3_600_000);
        }
        config
    }
}

impl World {
    /// Starts the first process and gives it what a pool begins with.
    pub(crate) fn found_pool(&mut self) {
        self.start_coordinator();
        let account = Account::new("operator").expect("a valid name");
        let founding = [
            Input::Open(Box::new(crate::books::opening())),
            Input::KeyCreate {
                name: "first".into(),
                account: account.clone(),
                role: Role::Admin,
                secret_hash: Digest([6; 32]),
            },
            Input::WorkloadAdd(manifest(false)),
            Input::WorkloadAdd(manifest(true)),
        ];
        let tickets = (0..OWNERS).map(|owner| Input::TicketIssue {
            account: Account::new(&format!("owner-{owner}")).expect("a valid name"),
            secret_hash: ticket(owner),
            valid_for: Millis(300 * 24 * 3_600_000),
            uses_max: 1_000,
        });
        for input in founding.into_iter().chain(tickets) {
            self.arrives(Origin::Nobody, input);
            self.commit(self.node.processes, self.node.batches);
        }
    }

    pub(crate) fn start_coordinator(&mut self) {
        if self.node.process.is_some() {
            return;
        }
        self.node.processes += 1;
        let id = self.node.processes;
        let epoch = self.node.store.acquire().expect("the store in memory never fails");
        let mut snapshot = self.node.store.load().expect("the store in memory never fails");
        let forgetful = self.node.mutation == Some(Mutation::AcceptsResultsTwice);
        if forgetful {
            let last = snapshot.changes.iter().rposition(|change| matches!(change, Change::TaskSettled(..)));
            last.map(|place| snapshot.changes.remove(place));
        }
        let boot = BootId(self.rng.bytes()[..16].try_into().expect("16 bytes"));
        let (config, authority, now) = (self.node.config(), self.node.authority(), self.node.clock(self.now));
        let (coordinator, effects) =
            Coordinator::load(config, crate::books::pool(), boot, authority, &snapshot.changes, snapshot.next, now);
        self.note(|| format!("coordinator: process {id} starts"));
        if !forgetful && *coordinator.catalog() != self.node.committed {
            self.object("what was loaded differs from what was committed".into());
        }
        let checked = coordinator.check_invariants();
        self.ensure(checked);
        let replica = coordinator.catalog().clone();
        self.node.process = Some(Process {
            id,
            coordinator,
            epoch,
            replica,
            requests: 0,
            inbox: VecDeque::new(),
            origins: BTreeMap::new(),
            latest: BTreeMap::new(),
            batch: None,
        });
        self.after(TICK, Event::CoordinatorTick { process: id });
        self.release(id, effects);
    }

    /// The process dies; those who are connected to it find out, most of them.
    pub(crate) fn kill_coordinator(&mut self) {
        let Some(process) = self.node.process.take() else { return };
        self.stats.crashes += 1;
        self.note(|| format!("coordinator: process {} dies", process.id));
        self.node.dies = None;
        self.checks.process_died();
        for origin in process.origins.into_values() {
            if self.rng.chance(700) {
                self.unanswered(origin);
            }
        }
        let delay = self.rng.between(50, 20_000);
        self.after(delay, Event::CoordinatorStarts);
    }

    fn unanswered(&mut self, origin: Origin) {
        if let Origin::Device { host, incarnation, sequence, .. } = origin {
            let delay = self.latency();
            let answer = Answer::Failed("the connection broke");
            self.after(delay, Event::Answered { host, incarnation, sequence, answer });
        }
    }

    fn is_current(&self, process: u64) -> bool {
        self.node.process.as_ref().is_some_and(|current| current.id == process)
    }

    pub(crate) fn coordinator_tick(&mut self, process: u64) {
        if self.is_current(process) {
            self.arrives(Origin::Nobody, Input::Tick);
            self.after(TICK, Event::CoordinatorTick { process });
        }
    }

    /// Something is said to the coordinator.
    pub(crate) fn arrives(&mut self, origin: Origin, input: Input) {
        let Some(process) = &mut self.node.process else {
            return self.unanswered(origin);
        };
        process.requests += 1;
        let id = RequestId(process.requests);
        if let Origin::Device { device, .. } = &origin {
            process.latest.insert(*device, id);
        }
        process.origins.insert(id, origin);
        process.inbox.push_back((id, input));
        if process.batch.is_none() {
            self.step_batch();
        }
    }

    /// A device's connection is seen to break.
    pub(crate) fn breaks(&mut self, host: usize, incarnation: u64, sequence: u64) {
        let Some(process) = &mut self.node.process else { return };
        let ours = |origin: &Origin| matches!(origin, Origin::Device { host: h, incarnation: i, sequence: s, .. } if (*h, *i, *s) == (host, incarnation, sequence));
        let broken: Vec<RequestId> =
            process.origins.iter().filter(|(_, origin)| ours(origin)).map(|(id, _)| *id).collect();
        for id in broken {
            let Some(process) = &mut self.node.process else { return };
            if let Some(Origin::Device { device, .. }) = process.origins.remove(&id)
                && process.latest.get(&device) == Some(&id)
            {
                process.latest.remove(&device);
                self.arrives(Origin::Nobody, Input::ExchangeGone(device));
            }
        }
    }

    fn step_batch(&mut self) {
        let Some(mut process) = self.node.process.take() else { return };
        let mut batch = Step::default();
        let mut early = Vec::new();
        for _ in 0..BATCH_MAX {
            let Some((id, input)) = process.inbox.pop_front() else { break };
            let step = self.step(&mut process, id, input);
            batch.changes.extend(step.changes);
            if self.node.mutation == Some(Mutation::SpeaksBeforeCommit) {
                early.extend(step.effects);
            } else {
                batch.effects.extend(step.effects);
            }
        }
        self.node.batches += 1;
        let number = self.node.batches;
        process.batch = Some(Batch { number, step: batch });
        let delay = std::mem::take(&mut self.node.stall).max(self.rng.between(0, 3));
        let id = process.id;
        self.node.process = Some(process);
        self.after(delay, Event::Commit { process: id, batch: number });
        self.release(id, early);
    }

    fn step(&mut self, process: &mut Process, id: RequestId, input: Input) -> Step {
        self.stats.steps += 1;
        let context = Context { now: self.node.clock(self.now), entropy: self.rng.bytes() };
        let input = self.shell_checks(input);
        if !matches!(input, Input::Tick) {
            self.note(|| format!("coordinator: {id:?} {}", tell_input(&input)));
        }
        let before = input.clone();
        let step = process.coordinator.step(context, id, input);
        for change in &step.changes {
            process.replica.apply(change);
            self.note(|| format!("coordinator:   {}", tell_change(change)));
        }
        if process.replica != *process.coordinator.catalog() {
            self.object("replayed changes differ from the live state".into());
        }
        let checked = process.coordinator.check_invariants();
        self.ensure(checked);
        let checked = self.checks.stepped(self.now, &before, &step);
        self.ensure(checked);
        step
    }

    /// What the shell does to a device's words before the coordinator hears them.
    fn shell_checks(&mut self, mut input: Input) -> Input {
        if self.node.mutation == Some(Mutation::BlamesTheInnocent)
            && let Input::Exchange(request) = &mut input
            && self.rng.chance(200)
        {
            for report in &mut request.reports {
                let detail = "the result could not be read".into();
                report.outcome = Err(AttemptFailure { kind: AttemptFailureKind::MalformedResult, detail });
                report.claim = None;
            }
        }
        input
    }

    pub(crate) fn commit(&mut self, process: u64, number: u64) {
        let Some(current) = self.node.process.as_mut().filter(|current| current.id == process) else { return };
        let Some(batch) = current.batch.take_if(|batch| batch.number == number) else { return };
        let epoch = current.epoch;
        self.node.commits += u64::from(!batch.step.changes.is_empty());
        let commits = self.node.commits;
        let dies = self.plan.dies_at_commit.filter(|(at, _)| !batch.step.changes.is_empty() && *at == commits);
        if let Some((_, after)) = dies {
            self.node.dies = Some(if after { Death::AfterCommit } else { Death::BeforeCommit });
        }
        if self.node.dies == Some(Death::BeforeCommit) {
            return self.kill_coordinator();
        }
        let loses = self.node.mutation == Some(Mutation::LosesCommits) && self.rng.chance(50);
        if !loses && let Err(error) = self.node.store.commit(epoch, &batch.step.changes) {
            return self.object(format!("the store refuses a commit: {error}"));
        }
        for change in &batch.step.changes {
            self.node.committed.apply(change);
            if let Change::DeviceEnrolled(device, _) = change {
                self.checks.enrolled(device.id, device.owner.clone());
            }
            if let Change::Logged(event) = change {
                self.node.log.push(event.as_ref().clone());
            }
            let checked = self.checks.committed(change, &self.lies);
            self.ensure(checked);
            match change {
                Change::TaskSettled(..) => self.stats.settled += 1,
                Change::TaskGivenUp(..) => self.stats.given_up += 1,
                Change::AttemptFailed(..) => self.stats.attempts_failed += 1,
                Change::JobEnded(..) => self.stats.jobs_ended += 1,
                _ => {}
            }
        }
        if self.node.dies == Some(Death::AfterCommit) {
            return self.kill_coordinator();
        }
        self.release(process, batch.step.effects);
        if self.node.process.as_ref().is_some_and(|process| process.batch.is_none() && !process.inbox.is_empty()) {
            self.step_batch();
        }
    }

    fn release(&mut self, process: u64, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Reply(id, answer) => {
                    let origin = self.node.process.as_mut().and_then(|process| process.origins.remove(&id));
                    if let Some(origin) = origin {
                        self.reply(origin, answer);
                    }
                }
                Effect::Prepare(job) => {
                    let delay = self.rng.between(10, 2_000);
                    self.after(delay, Event::Prepared { process, job });
                }
                Effect::Assemble(job) => {
                    let delay = self.rng.between(10, 3_000);
                    self.after(delay, Event::Assembled { process, job });
                }
                Effect::Gather(task) => self.begin_check(Event::Gathered { process, task }),
                Effect::Compare(task) => self.begin_check(Event::Compared { process, task }),
                Effect::Referee(task, places) => self.begin_check(Event::Refereed { process, task, places }),
                Effect::JobEnded(job) => {
                    let checked = self.checks.told_ended(job);
                    self.ensure(checked);
                }
            }
        }
    }

    fn reply(&mut self, origin: Origin, answer: Result<Reply, Refusal>) {
        match origin {
            Origin::Nobody => {}
            Origin::Requester { job, stage } => {
                let checked = self.checks.told_requester(&answer);
                self.ensure(checked);
                self.requester_hears(job, stage, answer);
            }
            Origin::Enrolment { host } => self.enrolled(host, answer),
            Origin::Device { host, incarnation, sequence, device, reports, own } => {
                let answer = match answer {
                    Ok(Reply::Exchange(mut reply)) => {
                        let checked = self.checks.told_device(device, &reports, &reply);
                        self.ensure(checked);
                        // The agent knows nothing of what a forger adds to its words.
                        reply.acks.truncate(own);
                        Answer::Reply(reply)
                    }
                    Ok(other) => return self.object(format!("{other:?} to an exchange")),
                    Err(refusal) => Answer::Refused(refusal),
                };
                self.send_answer(host, incarnation, sequence, answer);
            }
        }
    }

    /// The shell has split a job's input.
    pub(crate) fn prepared(&mut self, process: u64, job: JobId) {
        let Some(place) = self.place_in_plan(process, job) else { return };
        let result = match self.plan.jobs[place].tasks {
            0 => Err(vec![InputError {
                code: "invalid_json_line".into(),
                message: "line 1 is not JSON".into(),
                line: Some(1),
                param: None,
            }]),
            tasks => Ok(prepared(place, tasks)),
        };
        self.arrives(Origin::Nobody, Input::JobPrepared(job, result));
    }

    /// The shell has written a job's output.
    pub(crate) fn assembled(&mut self, process: u64, job: JobId) {
        if !self.is_current(process) {
            return;
        }
        let assembly = self.node.process.as_ref().and_then(|process| process.coordinator.assembly(job));
        let Some(assembly) = assembly else { return };
        let twice = self.node.mutation == Some(Mutation::WritesRecordsTwice);
        match write_output(&assembly, twice, &self.lies) {
            Ok(assembled) => self.arrives(Origin::Nobody, Input::JobAssembled(job, assembled)),
            Err(wrong) => self.object(format!("the output of {job}: {wrong}")),
        }
    }

    fn place_in_plan(&self, process: u64, job: JobId) -> Option<usize> {
        let current = self.node.process.as_ref().filter(|current| current.id == process)?;
        Some(current.coordinator.job_spec(job)?.name.parse().expect("jobs are named after their place in the plan"))
    }

    /// What can be seen only when all is over.
    pub(crate) fn check_end(&mut self) {
        for job in self.checks.all_jobs() {
            let record = self.node.store.job(job).expect("the store in memory never fails");
            let settled = self.node.store.settled(job).expect("the store in memory never fails");
            let checked = self.checks.stored(job, record.as_ref(), &settled);
            self.ensure(checked);
        }
        let checked = crate::books::check(&self.node.log, self.node.catalog());
        self.ensure(checked);
    }
}

/// The program of all jobs, or one that no device can start.
pub(crate) fn manifest(unstartable: bool) -> Manifest {
    Manifest {
        name: if unstartable { "broken" } else { "words" }.into(),
        program: Digest([1; 32]),
        program_size: Bytes(100),
        runtime: RuntimeClass::Wasm,
        scope: Scope::Item { records: 1 },
        blobs: vec![],
        args: vec![],
        limits: Limits::default(),
        meter: METER,
    }
}

/// The input of a job of the plan. A task's digest says which it is.
pub(crate) fn prepared(job: usize, tasks: u32) -> Prepared {
    let mut offset = 0;
    let mut records = 0;
    let mut task = |index: u32| {
        let mut digest = [0; 32];
        digest[0] = job as u8;
        digest[1..5].copy_from_slice(&index.to_le_bytes());
        let (count, len) = (1 + index % 3, 10 + index % 7);
        offset += u64::from(len);
        records += u64::from(count);
        TaskInput { digest: Digest(digest), offset: offset - u64::from(len), len, records: count }
    };
    let tasks: Vec<TaskInput> = (0..tasks).map(&mut task).collect();
    Prepared { blob: Digest([job as u8; 32]), size: Bytes(offset), records, tasks }
}

/// The job of the plan and the task that an input belongs to.
pub(crate) fn place(input: &TaskInput) -> (usize, u32) {
    let digest = &input.digest.0;
    (usize::from(digest[0]), u32::from_le_bytes(digest[1..5].try_into().expect("four bytes")))
}

/// What every honest device reports of a task.
pub(crate) fn honest_report(input: &TaskInput) -> TaskReport {
    let mut result = input.digest;
    result.0[31] = 1;
    let failed = u32::from(place(input).1 % 5 == 4);
    TaskReport {
        root: result,
        result,
        size: Bytes(u64::from(input.records) * 10),
        items: input.records,
        items_failed: failed,
        records_failed: failed,
        fuel: Fuel(1_000 * u64::from(input.records)),
        cpu: Millis(10),
        wall: Millis(20),
        jail: JailLayers::ALL,
    }
}

/// Each record's line in order; a record that is there twice or not at all is an error.
fn write_output(assembly: &Assembly, twice: bool, lies: &crate::lies::Lies) -> Result<Assembled, String> {
    let Some(prepared) = &assembly.prepared else { return Ok(Assembled::default()) };
    let mut lines: Vec<(u64, bool)> = Vec::new();
    let mut first = 0;
    for (index, input) in prepared.tasks.iter().enumerate() {
        let task = TaskIndex(index as u32);
        let settled = assembly.settled.get(&task);
        if settled.is_some() && assembly.given_up.contains_key(&task) {
            return Err(format!("{task:?} has a result and was given up"));
        }
        if settled.is_none() && !assembly.given_up.contains_key(&task) && assembly.ending == Ending::Completed {
            return Err(format!("{task:?} is missing"));
        }
        let told = |settled: &Settled| {
            settled.report.result == honest_report(input).result || lies.told(&settled.report.result)
        };
        if settled.is_some_and(|settled| !told(settled)) {
            return Err(format!("{task:?} has another task's result"));
        }
        let failed = settled.map_or(input.records, |settled| settled.report.records_failed);
        for _ in 0..if twice { 2 } else { 1 } {
            lines.extend((0..input.records).map(|record| (first + u64::from(record), record >= failed)));
        }
        first += u64::from(input.records);
    }
    if !lines.iter().map(|(record, _)| *record).eq(0..prepared.records) {
        return Err("some record is not there exactly once".into());
    }
    let ok = lines.iter().filter(|(_, ok)| *ok).count() as u64;
    let file = |count: u64, name: u8| (count > 0).then_some((Digest([name; 32]), Bytes(count * 10)));
    let failed = prepared.records - ok;
    Ok(Assembled { output: file(ok, 1), errors: file(failed, 2), records_ok: ok, records_failed: failed })
}

fn tell_input(input: &Input) -> String {
    match input {
        Input::Exchange(request) => {
            let ids = |leases: &mut dyn Iterator<Item = &SignedLease>| {
                leases.map(|signed| format!("{}={}", short(signed.lease.id), signed.lease.task)).collect::<Vec<_>>()
            };
            format!(
                "{} says #{} (settled #{}, {} free{}), holds {:?}, reports {:?}",
                request.device,
                request.sequence,
                request.settled_sequence,
                request.slots_free,
                match (request.session, request.replaces) {
                    (Some(_), _) => "",
                    (None, None) => ", begins",
                    (None, Some(_)) => ", begins instead",
                },
                ids(&mut request.holding.iter()),
                ids(&mut request.reports.iter().map(|report| &report.lease)),
            )
        }
        Input::JobPrepared(job, Ok(prepared)) => format!("{job} is prepared, {} tasks", prepared.tasks.len()),
        other => format!("{other:?}"),
    }
}

fn tell_change(change: &Change) -> String {
    match change {
        Change::TaskSettled(task, settled) => format!("{task} settled by {}", settled.device),
        Change::AttemptFailed(task, attempt) => {
            format!("{task} attempt {} of {} failed: {:?}", short(attempt.lease), attempt.device, attempt.failure.kind)
        }
        other => format!("{other:?}").chars().take(120).collect(),
    }
}

fn short(lease: LeaseId) -> String {
    lease.to_string().chars().skip(6).take(6).collect()
}
