//! A pool without a shell. After every step the harness checks the invariants and that replaying the recorded changes
//! gives the live state.

use caii_audit::{Logged, MemoryFiles, Options, PoolFile, Publisher, Signers};
use caii_coordinator::*;
use caii_ledger::CreditLimit;
use caii_model::*;
use caii_tlog::NoteSigner;
use caii_trust::{LeaseAuthority, SigningKey, SimAuthority};
use std::collections::BTreeMap;

pub(crate) const METER: MeterId = MeterId(Digest([9; 32]));
pub(crate) const TICKET: Digest = Digest([7; 32]);
const START: u64 = 1_700_000_000_000;

pub(crate) struct Pool {
    pub(crate) coordinator: Coordinator,
    pub(crate) now: u64,
    /// Answers to questions that were not answered at once.
    pub(crate) late: BTreeMap<RequestId, Result<Reply, Refusal>>,
    /// Everything to do but answers, since it was last taken.
    effects: Vec<Effect>,
    changes: Vec<Change>,
    replica: Catalog,
    request: u64,
    boot: u8,
    devices: u8,
    pub(crate) workload: Digest,
    config: Config,
    pub(crate) pool: PoolId,
}

/// How a device's question was answered.
#[derive(Debug, PartialEq)]
pub(crate) enum Heard {
    Reply(ExchangeReply),
    Refused(Refusal),
    Held(RequestId),
}

/// A device that says what it is told to say.
#[derive(Debug, Clone)]
pub(crate) struct Dev {
    pub(crate) id: DeviceId,
    pub(crate) session: Option<SessionId>,
    pub(crate) sequence: u64,
    pub(crate) slots: u32,
    pub(crate) holding: Vec<SignedLease>,
    /// How many of its claims are decided, as it was told last.
    pub(crate) claims: u64,
    /// What it was challenged with last.
    pub(crate) challenge: u64,
    pub(crate) key: SigningKey,
}

pub(crate) fn account(name: &str) -> Account {
    Account::new(name).expect("a valid name")
}

fn pool_key() -> SigningKey {
    SigningKey::from_seed([42; 32])
}

/// Rates with which every part of a reward and of a price is some micro-credits.
pub(crate) fn opening() -> Opening {
    let terms = TariffTerms {
        number: 1,
        effective_from: Timestamp(0),
        compute_rate: MicroCredits(7_000_000_000),
        reliability_bonus: Ppm(200_000),
        reliability_share_floor: Ppm(500_000),
        availability_rate: MicroCredits(1_000),
        availability_daily_max: Millis(12 * 3_600_000),
        energy_rate: MicroCredits(1_000_000),
        energy_certified_joules: 30,
        verification_surcharge: Ppm(150_000),
        pool_fee: Ppm(50_000),
        probation_holdback: Ppm(300_000),
    };
    Opening { key: pool_key().public(), charter: None, credit_limit: CreditLimit::Unlimited, terms }
}

pub(crate) fn manifest() -> Manifest {
    Manifest {
        name: "words".into(),
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

pub(crate) fn prepared(tasks: u32) -> Prepared {
    let task = |index: u32| TaskInput {
        digest: Digest([index as u8; 32]),
        offset: u64::from(index) * 20,
        len: 20,
        records: 2,
    };
    Prepared {
        blob: Digest([5; 32]),
        size: Bytes(u64::from(tasks) * 20),
        records: u64::from(tasks) * 2,
        tasks: (0..tasks).map(task).collect(),
    }
}

pub(crate) fn done(lease: &SignedLease) -> TaskReport {
    TaskReport {
        root: Digest([21; 32]),
        result: Digest([lease.lease.task.index.0 as u8; 32]),
        size: Bytes(50),
        items: lease.lease.input.records,
        items_failed: 0,
        records_failed: 0,
        fuel: Fuel(1_000),
        cpu: Millis(10),
        wall: Millis(20),
        jail: JailLayers::ALL,
    }
}

pub(crate) fn failure(kind: AttemptFailureKind) -> AttemptFailure {
    AttemptFailure { kind, detail: "because".into() }
}

fn logged(change: &Change) -> Option<caii_audit::Event> {
    match change {
        Change::Logged(event) => Some(event.as_ref().clone()),
        _ => None,
    }
}

/// The task numbers of leases.
pub(crate) fn tasks(leases: &[SignedLease]) -> Vec<u32> {
    leases.iter().map(|lease| lease.lease.task.index.0).collect()
}

pub(crate) fn program() -> JobKind {
    JobKind::Program { format: InputFormat::Lines }
}

impl Drop for Pool {
    /// Whatever a test did, anybody who reads the log finds it in order.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.audit();
        }
    }
}

impl Pool {
    /// Publishes everything that was logged and audits it.
    fn audit(&self) {
        let events: Vec<caii_audit::Event> = self.changes.iter().filter_map(logged).collect();
        let log = NoteSigner::new("log.pool.example".parse().expect("a name"), SigningKey::from_seed([43; 32]));
        let file = PoolFile {
            key: pool_key().public(),
            origin: "log.pool.example".parse().expect("an origin"),
            log: vec![log.key().clone()],
            charter: None,
        };
        let publisher = Publisher::new(file);
        let signers = Signers { log: &[&log], pool: &pool_key() };
        let published = publisher.append(&events, &[44; 32], signers).expect("what happened is in order");
        let mut files = MemoryFiles::default();
        files.0.extend(published.files.into_iter().map(|file| (file.path, file.bytes)));
        let report = caii_audit::audit(&files, &Options::default()).expect("it can be audited");
        assert!(report.is_green(), "{:?}\n{events:#?}", report.wrong());
    }

    /// A pool with an admin key, a workload and a ticket, past its adoption time.
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    pub(crate) fn with(configure: impl FnOnce(&mut Config)) -> Self {
        Self::of(configure, opening())
    }

    /// A pool whose log begins so.
    pub(crate) fn opened(opening: Opening) -> Self {
        Self::of(|_| (), opening)
    }

    fn of(configure: impl FnOnce(&mut Config), opening: Opening) -> Self {
        let mut pool = Self::unopened(configure);
        pool.must(Input::Open(Box::new(opening)));
        pool
    }

    /// A pool that keeps no books yet.
    pub(crate) fn unopened(configure: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(METER);
        configure(&mut config);
        let pool_id = caii_trust::pool_id(&pool_key().public());
        let (coordinator, effects) = Coordinator::load(
            config.clone(),
            pool_id,
            BootId([1; 16]),
            Box::new(SimAuthority::new([4; 32])),
            &[],
            NextIds::default(),
            Timestamp(START),
        );
        assert_eq!(effects, vec![]);
        let mut pool = Self {
            coordinator,
            now: START,
            late: BTreeMap::new(),
            effects: vec![],
            changes: vec![],
            replica: Catalog::default(),
            request: 0,
            boot: 1,
            devices: 0,
            workload: manifest().digest(),
            config,
            pool: pool_id,
        };
        pool.must(Input::KeyCreate {
            name: "first".into(),
            account: account("admin"),
            role: Role::Admin,
            secret_hash: Digest([6; 32]),
        });
        pool.must(Input::TicketIssue {
            account: account("lender"),
            secret_hash: TICKET,
            valid_for: Millis(3_600_000),
            uses_max: 100,
        });
        pool.must(Input::WorkloadAdd(manifest()));
        pool
    }

    /// One step, checked. Answers to it come first, answers to earlier questions go to `late`, the rest to `effects`.
    pub(crate) fn step(&mut self, input: Input) -> (RequestId, Option<Result<Reply, Refusal>>) {
        self.request += 1;
        let ours = RequestId(self.request);
        let mut entropy = [self.boot; 32];
        entropy[..8].copy_from_slice(&self.request.to_le_bytes());
        let text = format!("{input:?}");
        let step = self.coordinator.step(Context { now: Timestamp(self.now), entropy }, ours, input);
        step.changes.iter().for_each(|change| self.replica.apply(change));
        self.changes.extend(step.changes);
        assert_eq!(self.replica, *self.coordinator.catalog(), "replayed changes differ after {text}");
        assert_eq!(self.coordinator.check_invariants(), Ok(()), "after {text}");
        let mut answer = None;
        for effect in step.effects {
            match effect {
                Effect::Reply(to, reply) if to == ours => {
                    assert_eq!(answer.replace(reply), None, "two answers to {text}");
                }
                Effect::Reply(to, reply) => assert_eq!(self.late.insert(to, reply), None, "two answers to {to:?}"),
                other => self.effects.push(other),
            }
        }
        (ours, answer)
    }

    /// A question that is answered at once.
    pub(crate) fn ask(&mut self, input: Input) -> Result<Reply, Refusal> {
        self.step(input).1.expect("an answer at once")
    }

    /// A question that is not refused.
    pub(crate) fn must(&mut self, input: Input) -> Reply {
        self.ask(input).expect("no refusal")
    }

    pub(crate) fn refusal(&mut self, input: Input) -> Refusal {
        let before = self.changes.len();
        let refusal = self.ask(input).expect_err("a refusal");
        assert_eq!(self.changes.len(), before, "a refused request changed something");
        refusal
    }

    pub(crate) fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// The changes recorded so far.
    pub(crate) fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// How many changes there are that are no decided claims.
    pub(crate) fn changes_besides_receipts(&self) -> usize {
        let receipt =
            |change: &&Change| matches!(change, Change::Logged(event) if matches!(event.logged, Logged::Receipt(_)));
        self.changes.len() - self.changes.iter().filter(receipt).count()
    }

    /// Claims that were decided to be void, in order.
    pub(crate) fn void_claims(&self) -> Vec<VoidReason> {
        let void = |event: caii_audit::Event| match event.logged {
            Logged::Receipt(receipt) => match receipt.verdict {
                Verdict::Void(reason) => Some(reason),
                Verdict::Accepted(_) => None,
            },
            _ => None,
        };
        self.changes.iter().filter_map(logged).filter_map(void).collect()
    }

    pub(crate) fn timestamp(&self) -> Timestamp {
        Timestamp(self.now)
    }

    /// Lets time pass in ticks of a quarter of a second.
    pub(crate) fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.now < end {
            self.now = end.min(self.now + 250);
            self.step(Input::Tick);
        }
    }

    /// The same while these devices say every four seconds what they hold, and take nothing.
    pub(crate) fn pass_with(&mut self, devices: &mut [&mut Dev], ms: u64) {
        let end = self.now + ms;
        while self.now < end {
            self.pass((end - self.now).min(4_000));
            for device in devices.iter_mut() {
                self.speak(device, |_| ());
            }
        }
    }

    /// The coordinator's process ends and another one starts on what was recorded.
    pub(crate) fn restart(&mut self) -> Vec<Effect> {
        self.boot += 1;
        let (coordinator, effects) = Coordinator::load(
            self.config.clone(),
            self.pool,
            BootId([self.boot; 16]),
            Box::new(SimAuthority::new([4; 32])),
            &self.changes,
            NextIds::default(),
            Timestamp(self.now),
        );
        assert_eq!(coordinator.catalog(), self.coordinator.catalog(), "the loaded state differs from the live one");
        assert_eq!(coordinator.check_invariants(), Ok(()), "after a restart");
        self.coordinator = coordinator;
        effects
    }

    pub(crate) fn file(&mut self, owner: &str) -> FileId {
        let file = Input::FileCreate {
            owner: account(owner),
            filename: "in.jsonl".into(),
            purpose: FilePurpose::Batch,
            digest: Digest([8; 32]),
            size: Bytes(1_000),
        };
        let Reply::File(file) = self.must(file) else { panic!("no file") };
        file.id
    }

    pub(crate) fn spec(&mut self, owner: &str) -> JobSpec {
        JobSpec {
            owner: account(owner),
            name: "a job".into(),
            kind: program(),
            workload: self.workload,
            input: Some(self.file(owner)),
            records_per_task: None,
            verification: Verification::Off,
            max_price: None,
            deadline: Timestamp(self.now + 24 * 3_600_000),
        }
    }

    /// A job that is submitted and not yet prepared.
    pub(crate) fn submitted(&mut self, owner: &str) -> JobId {
        let spec = self.spec(owner);
        let Reply::Job(job) = self.must(Input::JobSubmit(spec)) else { panic!("no job") };
        assert_eq!(self.effects(), vec![Effect::Prepare(job)]);
        job
    }

    /// A job with so many tasks of two records.
    pub(crate) fn job_of(&mut self, owner: &str, tasks: u32) -> JobId {
        let job = self.submitted(owner);
        assert_eq!(self.step(Input::JobPrepared(job, Ok(prepared(tasks)))).1, None);
        job
    }

    pub(crate) fn job(&mut self, tasks: u32) -> JobId {
        self.job_of("alice", tasks)
    }

    pub(crate) fn view(&self, job: JobId) -> JobView {
        self.coordinator.job(None, job).expect("an open job")
    }

    /// A fresh task failure of each kind that a job's tasks met, in the order of recording.
    pub(crate) fn attempts(&self) -> Vec<(u32, AttemptFailureKind)> {
        let attempt = |change: &Change| match change {
            Change::AttemptFailed(task, attempt) => Some((task.index.0, attempt.failure.kind)),
            _ => None,
        };
        self.changes.iter().filter_map(attempt).collect()
    }

    pub(crate) fn given_up(&self) -> Vec<u32> {
        let given_up = |change: &Change| match change {
            Change::TaskGivenUp(task, _) => Some(task.index.0),
            _ => None,
        };
        self.changes.iter().filter_map(given_up).collect()
    }

    /// A device in conversation that this account lends.
    pub(crate) fn device_of(&mut self, owner: &str) -> Dev {
        self.devices += 1;
        let secret_hash = Digest([100 + self.devices; 32]);
        let (account, valid_for) = (account(owner), Millis(3_600_000));
        self.must(Input::TicketIssue { account, secret_hash, valid_for, uses_max: 1 });
        let key = SigningKey::from_seed([self.devices; 32]);
        let enrol = Input::Enrol { secret_hash, public_key: key.public(), name: format!("of {owner}") };
        let Reply::Device(id) = self.must(enrol) else { panic!("no device") };
        let mut device =
            Dev { id, session: None, sequence: 0, slots: 4, holding: vec![], claims: 0, challenge: 0, key };
        self.speak(&mut device, |_| ());
        device
    }

    /// A job of this kind with so many tasks of two records, whatever becomes of it.
    pub(crate) fn submit(&mut self, spec: JobSpec, tasks: u32) -> JobId {
        let Reply::Job(job) = self.must(Input::JobSubmit(spec)) else { panic!("no job") };
        self.effects();
        self.step(Input::JobPrepared(job, Ok(prepared(tasks))));
        self.effects();
        job
    }

    /// A job of so many tasks of two records each, checked so.
    pub(crate) fn checked_job(&mut self, tasks: u32, verification: Verification) -> JobId {
        let spec = JobSpec { verification, ..self.spec("alice") };
        let Reply::Job(job) = self.must(Input::JobSubmit(spec)) else { panic!("no job") };
        self.effects();
        self.step(Input::JobPrepared(job, Ok(prepared(tasks))));
        job
    }

    /// An enrolled device that has not spoken.
    pub(crate) fn stranger(&mut self) -> Dev {
        self.devices += 1;
        let key = SigningKey::from_seed([self.devices; 32]);
        let enrol = Input::Enrol { secret_hash: TICKET, public_key: key.public(), name: "a device".into() };
        let Reply::Device(id) = self.must(enrol) else { panic!("no device") };
        Dev { id, session: None, sequence: 0, slots: 4, holding: vec![], claims: 0, challenge: 0, key }
    }

    /// A device in conversation.
    pub(crate) fn device(&mut self) -> Dev {
        let mut device = self.stranger();
        self.speak(&mut device, |_| ());
        device
    }

    /// What the device would say: all that it holds, no report, no wish for work, no patience.
    pub(crate) fn request(&self, device: &mut Dev) -> ExchangeRequest {
        device.sequence += 1;
        ExchangeRequest {
            device: device.id,
            boot: Some(self.coordinator.boot()),
            session: device.session,
            replaces: if device.session.is_some() { None } else { self.coordinator.session(device.id) },
            sequence: device.sequence,
            settled_sequence: device.sequence - 1,
            meter: METER,
            slots_free: 0,
            slots: device.slots,
            wait: Millis(0),
            holding: device.holding.clone(),
            reports: vec![],
            ready: vec![],
            challenge: device.challenge,
        }
    }

    pub(crate) fn exchange(&mut self, request: ExchangeRequest) -> Heard {
        match self.step(Input::Exchange(request)) {
            (_, Some(Ok(Reply::Exchange(reply)))) => Heard::Reply(reply),
            (_, Some(Err(refusal))) => Heard::Refused(refusal),
            (id, None) => Heard::Held(id),
            (_, other) => panic!("{other:?} to an exchange"),
        }
    }

    /// An exchange that is answered at once.
    pub(crate) fn speak(&mut self, device: &mut Dev, say: impl FnOnce(&mut ExchangeRequest)) -> ExchangeReply {
        let mut request = self.request(device);
        say(&mut request);
        match self.exchange(request) {
            Heard::Reply(reply) => {
                device.learn(&reply);
                reply
            }
            other => panic!("{other:?}"),
        }
    }

    /// An exchange whose reply is held back.
    pub(crate) fn wait(&mut self, device: &mut Dev, slots_free: u32) -> RequestId {
        let mut request = self.request(device);
        (request.slots_free, request.wait) = (slots_free, Millis(5_000));
        match self.exchange(request) {
            Heard::Held(id) => id,
            other => panic!("{other:?}"),
        }
    }

    /// What became of a reply that was held back.
    pub(crate) fn heard(&mut self, device: &mut Dev, id: RequestId) -> ExchangeReply {
        match self.late.remove(&id) {
            Some(Ok(Reply::Exchange(reply))) => {
                device.learn(&reply);
                reply
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn refused(&mut self, request: ExchangeRequest) -> Refusal {
        match self.exchange(request) {
            Heard::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    /// Asks for so many tasks.
    pub(crate) fn take(&mut self, device: &mut Dev, count: u32) -> Vec<SignedLease> {
        self.speak(device, |request| request.slots_free = count).leases
    }

    pub(crate) fn report(
        &mut self,
        device: &mut Dev,
        lease: SignedLease,
        outcome: Result<TaskReport, AttemptFailure>,
    ) -> Result<(), Refusal> {
        let report = device.says(lease, outcome);
        let reply = self.speak(device, |request| request.reports = vec![report]);
        let [(id, ack)] = reply.acks.try_into().expect("one ack a report");
        assert_eq!(id, lease.lease.id);
        ack
    }

    pub(crate) fn finish(&mut self, device: &mut Dev, lease: SignedLease) {
        assert_eq!(self.report(device, lease, Ok(done(&lease))), Ok(()));
    }

    pub(crate) fn fail(&mut self, device: &mut Dev, lease: SignedLease, kind: AttemptFailureKind) {
        assert_eq!(self.report(device, lease, Err(failure(kind))), Ok(()));
    }

    /// A lease of this pool's making with something changed.
    pub(crate) fn sealed(&self, mut lease: Lease, change: impl FnOnce(&mut Lease)) -> SignedLease {
        change(&mut lease);
        SimAuthority::new([4; 32]).seal(&lease)
    }
}

impl Dev {
    /// A report as this device makes it: a result has its claim.
    pub(crate) fn says(&self, lease: SignedLease, outcome: Result<TaskReport, AttemptFailure>) -> Report {
        self.says_as(1, lease, outcome)
    }

    /// The same when results of others stand before it in a request.
    pub(crate) fn says_as(
        &self,
        place: u64,
        lease: SignedLease,
        outcome: Result<TaskReport, AttemptFailure>,
    ) -> Report {
        let claim = outcome.as_ref().ok().map(|report| {
            let (sequence, energy) = (self.claims + place, Energy::UNKNOWN);
            let claim = Claim::of(&lease.lease, METER, report, sequence, energy);
            SignedClaim { sequence, energy, signature: self.key.sign(Claim::SIGNED_FOR, &claim.digest()) }
        });
        Report { lease, outcome, claim }
    }

    pub(crate) fn learn(&mut self, reply: &ExchangeReply) {
        self.session = Some(reply.session);
        (self.claims, self.challenge) = (reply.claims, reply.challenge);
        let gone: Vec<LeaseId> = reply.acks.iter().map(|(id, _)| *id).chain(reply.dropped.iter().copied()).collect();
        self.holding.retain(|held| !gone.contains(&held.lease.id));
        self.holding.extend(&reply.leases);
    }

    /// The agent's process ends and another one starts, which knows nothing.
    pub(crate) fn restart(&mut self) {
        (self.session, self.holding) = (None, vec![]);
    }
}
