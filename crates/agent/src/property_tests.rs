//! Whatever happens in whatever order, the agent keeps its promises; and once the world behaves, it finishes its work.

use crate::{Action, Agent, Config, Context, Input};
use caii_model::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const DEVICE: DeviceId = DeviceId([7; 8]);
const SLOTS: u32 = 2;

/// The world around an agent, which plays coordinator and shell and watches that the agent keeps its promises.
struct World {
    agent: Agent,
    now: u64,
    pool: Pool,
    leases_issued: u16,
    /// On their way to the coordinator.
    requests: BTreeMap<u64, ExchangeRequest>,
    /// On their way back.
    replies: BTreeMap<u64, ExchangeReply>,
    /// On their way to the coordinator when the agent's process ended.
    strays: Vec<ExchangeRequest>,
    sequence: u64,
    preparing: BTreeSet<Digest>,
    ready: BTreeSet<Digest>,
    fetching: BTreeSet<LeaseId>,
    running: BTreeSet<LeaseId>,
    storing: BTreeSet<LeaseId>,
    /// Leases whose input was asked for, and whether their bytes were released again.
    taken: BTreeMap<LeaseId, bool>,
    ran: BTreeSet<LeaseId>,
    /// Finished results that no ack or drop has reached.
    finished: BTreeMap<LeaseId, TaskReport>,
    outcomes: BTreeMap<LeaseId, Result<TaskReport, AttemptFailure>>,
    /// The numbers of claims, as requests had them last.
    numbers: BTreeMap<LeaseId, u64>,
    settled: BTreeSet<LeaseId>,
    exited: bool,
}

/// What the coordinator knows.
struct Pool {
    boot: u8,
    session: Option<u8>,
    sessions: u8,
    /// The largest sequence of this boot.
    sequence: u64,
    /// Whose claims are decided, in their order.
    decided: Vec<LeaseId>,
    /// What was answered to reports that are done with.
    verdicts: BTreeMap<LeaseId, Result<(), Refusal>>,
    /// Reports are not refused without deciding their claims, nothing is ever forgotten, and no process of the agent is
    /// heard after another one.
    strict: bool,
    /// An earlier process of the agent was heard after the present one.
    crossed: bool,
}

impl Pool {
    fn restart(&mut self) {
        (self.boot, self.session, self.sequence) = (self.boot.wrapping_add(1), None, 0);
    }

    /// An old copy takes its place.
    fn restore(&mut self, kept: usize) {
        self.restart();
        for forgotten in self.decided.drain(kept.min(self.decided.len())..) {
            self.verdicts.remove(&forgotten);
        }
    }

    /// Whether a request is part of the conversation that is going on; it may begin it.
    fn converse(&mut self, request: &ExchangeRequest) -> Result<SessionId, Refusal> {
        let boot = BootId([self.boot; 16]);
        if request.boot != Some(boot) {
            return Err(Refusal::BootChanged(boot));
        }
        if request.sequence <= self.sequence {
            return Err(Refusal::SequenceStale { last: self.sequence });
        }
        let known = self.session.map(|known| SessionId([known; 16]));
        let session = match (request.session, known) {
            (None, Some(known)) if request.replaces != Some(known) => return Err(Refusal::SessionHeld(known)),
            (None, _) => {
                self.sessions = self.sessions.wrapping_add(1);
                self.session = Some(self.sessions);
                SessionId([self.sessions; 16])
            }
            (Some(shown), Some(known)) if shown == known => known,
            _ => return Err(Refusal::SessionUnknown),
        };
        self.sequence = request.sequence;
        Ok(session)
    }

    /// Decides the claim of a report whose number is the next one.
    fn take(&mut self, report: &Report, entropy: u64) -> Result<(), Refusal> {
        let id = report.lease.lease.id;
        let number = report.claim.map(|claim| claim.sequence);
        if let Some(verdict) = self.verdicts.get(&id) {
            if let Some(place) = self.decided.iter().position(|decided| *decided == id) {
                assert_eq!(number, Some(place as u64 + 1), "{id} is said again with another number");
            }
            return verdict.clone();
        }
        let expected = self.decided.len() as u64 + 1;
        let verdict = match number {
            Some(number) if number > expected => {
                assert!(!self.strict, "{id} is claim {number} and the next one is {expected}");
                return Err(Refusal::ClaimSequence { expected });
            }
            Some(number) if number < expected => {
                assert!(self.crossed, "{id} has number {number}, which is another's");
                return Err(Refusal::ClaimSequence { expected });
            }
            Some(_) if !self.strict && entropy % 11 == 5 => Err(Refusal::LeaseExpired(Timestamp(9))),
            Some(_) => {
                self.decided.push(id);
                if entropy.is_multiple_of(3) { Err(Refusal::TaskSettled) } else { Ok(()) }
            }
            None => Ok(()),
        };
        self.verdicts.insert(id, verdict.clone());
        verdict
    }
}

impl World {
    fn new(strict: bool) -> Self {
        let verdicts = BTreeMap::new();
        Self {
            agent: Agent::new(Config::new(MeterId(Digest([9; 32])), SLOTS), DEVICE),
            now: 5_000,
            pool: Pool {
                boot: 1,
                session: None,
                sessions: 0,
                sequence: 0,
                decided: vec![],
                verdicts,
                strict,
                crossed: false,
            },
            leases_issued: 0,
            requests: BTreeMap::new(),
            replies: BTreeMap::new(),
            strays: vec![],
            sequence: 0,
            preparing: BTreeSet::new(),
            ready: BTreeSet::new(),
            fetching: BTreeSet::new(),
            running: BTreeSet::new(),
            storing: BTreeSet::new(),
            taken: BTreeMap::new(),
            ran: BTreeSet::new(),
            finished: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            numbers: BTreeMap::new(),
            settled: BTreeSet::new(),
            exited: false,
        }
    }

    /// The agent's process ends and another one starts, which knows only what the shell kept.
    fn restart_agent(&mut self) {
        let claims = self.agent.claims();
        self.agent = Agent::new(Config::new(MeterId(Digest([9; 32])), SLOTS), DEVICE).knowing(claims);
        self.strays.extend(std::mem::take(&mut self.requests).into_values());
        self.replies.clear();
        self.sequence = 0;
        self.preparing.clear();
        self.ready.clear();
        [&mut self.fetching, &mut self.running, &mut self.storing].into_iter().for_each(BTreeSet::clear);
        self.taken.clear();
        self.finished.clear();
        self.settled.clear();
        self.act(0, Input::Started);
    }

    fn act(&mut self, entropy: u64, input: Input) {
        let actions = self.agent.step(Context { now: Timestamp(self.now), entropy }, input);
        assert_eq!(self.agent.violations(), Vec::<String>::new());
        for action in actions {
            assert!(!self.exited, "{action:?} after the exit");
            self.watch(action);
        }
        let unfinished = self.taken.iter().filter(|(id, released)| !**released && !self.finished.contains_key(id));
        assert!(unfinished.count() <= (SLOTS + 1) as usize, "more leases than there is room for");
        assert!(self.running.len() <= SLOTS as usize, "more runs than slots");
        self.agent.explain(Timestamp(self.now));
    }

    fn watch(&mut self, action: Action) {
        match action {
            Action::Exchange(request) => self.watch_request(request),
            Action::PrepareWorkload(workload) => {
                assert!(self.preparing.is_empty(), "two preparations");
                assert!(!self.ready.contains(&workload), "prepared although ready");
                self.preparing.insert(workload);
            }
            Action::FetchInput(lease) => {
                assert_eq!(self.taken.insert(lease.id, false), None, "fetched twice");
                self.fetching.insert(lease.id);
            }
            Action::Run(lease) => {
                assert!(self.ran.insert(lease.id), "{} runs twice", lease.id);
                assert!(!self.fetching.contains(&lease.id) && self.ready.contains(&lease.workload), "runs too early");
                self.running.insert(lease.id);
            }
            Action::Upload(lease) => {
                assert!(self.finished.contains_key(&lease.id), "stores what is not finished");
                assert!(self.storing.insert(lease.id), "stored twice at a time");
            }
            Action::Abandon(id) => {
                let stopped = [&mut self.fetching, &mut self.running, &mut self.storing].map(|set| set.remove(&id));
                assert!(stopped.contains(&true), "abandons what is not under way");
                self.release(id);
            }
            Action::Release(id) => {
                let under_way = [&self.fetching, &self.running, &self.storing].map(|set| set.contains(&id));
                assert!(!under_way.contains(&true), "releases what is under way");
                self.release(id);
            }
            Action::SetTimer(_) => {}
            Action::Exit(_) => self.exited = true,
        }
    }

    fn release(&mut self, id: LeaseId) {
        assert_eq!(self.taken.insert(id, true), Some(false), "released twice, or never taken");
        assert!(self.settled.contains(&id) || !self.finished.contains_key(&id), "a finished result was thrown away");
    }

    fn watch_request(&mut self, request: ExchangeRequest) {
        assert!(request.sequence > self.sequence, "sequences grow");
        self.sequence = request.sequence;
        for open in self.requests.keys() {
            assert!(request.settled_sequence < *open, "settles {open}, whose reply may come");
        }
        assert!(request.settled_sequence < request.sequence);
        let held: BTreeSet<_> = request.holding.iter().map(|signed| signed.lease.id).collect();
        assert_eq!(held.len(), request.holding.len());
        for id in self.finished.keys() {
            assert!(held.contains(id) || self.settled.contains(id), "{id} is finished and not held");
        }
        assert!(held.is_disjoint(&self.settled), "holds what is settled");
        let claims: Vec<u64> = request.reports.iter().filter_map(|report| Some(report.claim?.sequence)).collect();
        assert!(
            claims.iter().zip(claims.first().copied().unwrap_or(0)..).all(|(found, due)| *found == due),
            "{claims:?}"
        );
        for report in &request.reports {
            assert_eq!(report.claim.is_some(), report.outcome.is_ok());
            if let Some(claim) = report.claim {
                let before = self.numbers.insert(report.lease.lease.id, claim.sequence).unwrap_or(claim.sequence);
                let (pool, same) = (&self.pool, before == claim.sequence);
                assert!(same || !pool.strict && (before > claim.sequence || pool.crossed), "renumbered");
            }
            let id = report.lease.lease.id;
            assert!(held.contains(&id), "reports what it does not hold");
            let before = self.outcomes.entry(id).or_insert(report.outcome.clone());
            assert_eq!(*before, report.outcome, "two outcomes of {id}");
            if let Ok(outcome) = &report.outcome {
                assert_eq!(self.finished.get(&id), Some(outcome), "a result that the run did not have");
            }
        }
        self.requests.insert(request.sequence, request);
    }

    /// Makes something happen. Whatever the numbers are, it is something that can.
    fn happen(&mut self, event: u8, pick: usize, entropy: u64) {
        let failure = |kind| AttemptFailure { kind, detail: "it did".into() };
        let kinds = [
            AttemptFailureKind::DiskFull,
            AttemptFailureKind::BlobUnavailable,
            AttemptFailureKind::PreparationFailed,
            AttemptFailureKind::RunnerDied,
        ];
        let reason = failure(kinds[pick % kinds.len()]);
        match event {
            0..=4 => self.answer(pick, entropy, false),
            5 => {
                let open: BTreeSet<u64> = self.requests.keys().chain(self.replies.keys()).copied().collect();
                if let Some(sequence) = nth(open.iter(), pick) {
                    self.requests.remove(&sequence);
                    self.replies.remove(&sequence);
                    self.act(entropy, Input::TransportFailed { sequence, reason: "cable".into() });
                }
            }
            6 => self.pool.restart(),
            7 => self.pool.session = None,
            8..=10 => {
                self.now += entropy % 10_000;
                self.act(entropy, Input::Tick);
            }
            11..=12 => {
                if let Some(workload) = self.preparing.pop_first() {
                    self.ready.insert(workload);
                    self.act(entropy, Input::WorkloadReady(workload));
                }
            }
            13 => {
                if let Some(workload) = self.preparing.pop_first() {
                    self.act(entropy, Input::WorkloadFailed(workload, reason));
                }
            }
            14 => {
                if let Some(workload) = nth(self.ready.iter(), pick) {
                    self.ready.remove(&workload);
                    self.act(entropy, Input::WorkloadEvicted(workload));
                }
            }
            15..=17 => {
                if let Some(id) = take_nth(&mut self.fetching, pick) {
                    self.act(entropy, Input::InputReady(id));
                }
            }
            18 => {
                if let Some(id) = take_nth(&mut self.fetching, pick) {
                    self.act(entropy, Input::InputFailed(id, reason));
                }
            }
            19..=22 => {
                if let Some(id) = take_nth(&mut self.running, pick) {
                    let report = report(entropy);
                    self.finished.insert(id, report);
                    self.act(entropy, Input::TaskFinished(id, report, Energy::UNKNOWN));
                }
            }
            23 => {
                if let Some(id) = take_nth(&mut self.running, pick) {
                    self.act(entropy, Input::TaskFailed(id, reason));
                }
            }
            24..=26 => {
                if let Some(id) = take_nth(&mut self.storing, pick) {
                    self.act(entropy, Input::ResultStored(id));
                }
            }
            27 => {
                if let Some(id) = take_nth(&mut self.storing, pick) {
                    self.act(entropy, Input::ResultStoreFailed(id));
                }
            }
            28 => {
                if let Some(id) = take_nth(&mut self.storing, pick) {
                    // From here on it is a failure like any other.
                    self.finished.remove(&id);
                    self.act(entropy, Input::ResultRefused(id, reason));
                }
            }
            // Things about leases that are in no such state: late, doubled or made up.
            29 => {
                let id = LeaseId((pick as u64 % 40).to_le_bytes());
                if !self.running.contains(&id) && !self.fetching.contains(&id) && !self.storing.contains(&id) {
                    self.act(entropy, Input::TaskFinished(id, report(entropy), Energy::UNKNOWN));
                    self.act(entropy, Input::InputReady(id));
                    self.act(entropy, Input::ResultStored(id));
                    self.act(entropy, Input::TaskFailed(id, reason));
                }
            }
            30 => self.answer(pick, entropy, true),
            32..=33 => {
                if let Some(sequence) = nth(self.replies.keys(), pick) {
                    self.deliver(sequence, entropy);
                }
            }
            34 => {
                if let Some(stray) = (!self.strays.is_empty()).then(|| self.strays.remove(pick % self.strays.len()))
                    && !(self.pool.strict && stray.session.is_none())
                    && self.pool.converse(&stray).is_ok()
                {
                    self.pool.crossed |= stray.session.is_none();
                    stray.reports.iter().for_each(|report| drop(self.pool.take(report, entropy)));
                }
            }
            35 if entropy.is_multiple_of(4) => self.restart_agent(),
            35 if !self.pool.strict => self.pool.restore(pick % 8),
            35 => {}
            _ => {
                let refusal = Refusal::SequenceStale { last: self.sequence + entropy % 3 };
                if let Some(sequence) = nth(self.requests.keys(), pick) {
                    self.requests.remove(&sequence);
                    self.act(entropy, Input::Refused { sequence, refusal });
                }
            }
        }
    }

    /// Answers one of the open requests as a coordinator would, or, if `odd`, with what it should not contain. The answer
    /// may be on its way for a while.
    fn answer(&mut self, pick: usize, entropy: u64, odd: bool) {
        let Some(sequence) = nth(self.requests.keys(), pick) else { return };
        let request = self.requests.remove(&sequence).expect("it is there");
        let session = match self.pool.converse(&request) {
            Ok(session) => session,
            Err(refusal) => return self.act(entropy, Input::Refused { sequence, refusal }),
        };
        let mut acks = vec![];
        for report in &request.reports {
            acks.push((report.lease.lease.id, self.pool.take(report, entropy)));
        }
        let mut dropped = vec![];
        if entropy.is_multiple_of(5) && !request.holding.is_empty() {
            let id = request.holding[pick % request.holding.len()].lease.id;
            dropped.extend((!acks.iter().any(|(reported, _)| *reported == id)).then_some(id));
        }
        let count = if odd { 6 } else { u64::from(request.slots_free).min(entropy % 4) };
        let mut leases: Vec<_> = (0..count).map(|place| self.lease(entropy >> place)).collect();
        if odd {
            leases.extend(request.holding.iter().copied());
            leases.extend(self.settled.iter().map(|id| Self::lease_of(*id, 0)));
        }
        let (now, claims) = (Timestamp(77), self.pool.decided.len() as u64);
        let reply =
            ExchangeReply { session, sequence, now, leases, acks, dropped, governance: 0, claims, challenge: 0 };
        self.replies.insert(sequence, reply);
        if entropy % 7 != 3 {
            self.deliver(sequence, entropy);
        }
    }

    fn deliver(&mut self, sequence: u64, entropy: u64) {
        let reply = self.replies.remove(&sequence).expect("it is there");
        let done = |(id, verdict): &(LeaseId, Result<(), Refusal>)| {
            (!matches!(verdict, Err(Refusal::ClaimSequence { .. }))).then_some(*id)
        };
        self.settled.extend(reply.acks.iter().filter_map(done));
        // Of what was said with a claim the agent waits for the answer to that.
        self.settled.extend(reply.dropped.iter().filter(|id| !self.numbers.contains_key(id)));
        self.act(entropy, Input::Replied(reply));
    }

    fn lease(&mut self, entropy: u64) -> SignedLease {
        self.leases_issued += 1;
        Self::lease_of(LeaseId(u64::from(self.leases_issued).to_le_bytes()), entropy)
    }

    fn lease_of(id: LeaseId, entropy: u64) -> SignedLease {
        let lease = Lease {
            id,
            pool: PoolId([5; 8]),
            task: TaskId { job: JobId(1), index: TaskIndex(1) },
            device: DEVICE,
            workload: Digest([(entropy % 3) as u8; 32]),
            input: TaskInput { digest: Digest([2; 32]), offset: 0, len: 10, records: 1 },
            blob: Digest([3; 32]),
            issued: Timestamp(0),
            expires: Timestamp(20_000 + entropy % 50_000),
        };
        SignedLease { lease, signature: [0; 64] }
    }

    /// From now on everything succeeds. In bounded time the agent must hold nothing.
    fn behave(&mut self) {
        for _ in 0..200 {
            for event in [11, 15, 15, 15, 19, 19, 24, 24, 24] {
                self.happen(event, 0, 1);
            }
            while let Some((&sequence, _)) = self.replies.iter().next() {
                self.deliver(sequence, 1);
            }
            while let Some((&sequence, _)) = self.requests.iter().next() {
                let request = &self.requests[&sequence];
                let boot = Some(BootId([self.pool.boot; 16]));
                if request.wait > Millis(0) && request.boot == boot && self.requests.len() == 1 {
                    break;
                }
                self.answer_without_work();
            }
            self.now += 1_000;
            self.act(1, Input::Tick);
            if self.agent.view().tasks.is_empty() {
                return;
            }
        }
        panic!("still holds {:?}", self.agent.view().tasks);
    }

    fn answer_without_work(&mut self) {
        let issued = self.leases_issued;
        // Entropy 4: no leases (4 % 4), nothing dropped, all accepted.
        self.answer(0, 4, false);
        assert_eq!(self.leases_issued, issued);
    }
}

fn report(entropy: u64) -> TaskReport {
    TaskReport {
        root: Digest([1; 32]),
        result: Digest([1; 32]),
        size: Bytes(entropy % 1_000),
        items: 1,
        items_failed: 0,
        records_failed: 0,
        fuel: Fuel(entropy),
        cpu: Millis(1),
        wall: Millis(1),
        jail: JailLayers::ALL,
    }
}

fn nth<'a, T: Copy + 'a>(mut items: impl ExactSizeIterator<Item = &'a T>, pick: usize) -> Option<T> {
    let len = items.len();
    if len == 0 { None } else { items.nth(pick % len).copied() }
}

fn take_nth(set: &mut BTreeSet<LeaseId>, pick: usize) -> Option<LeaseId> {
    let id = nth(set.iter(), pick)?;
    set.remove(&id);
    Some(id)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn promises_are_kept(
        strict: bool,
        events in prop::collection::vec((0u8..36, 0usize..1_000, any::<u64>()), 0..400),
    ) {
        let mut world = World::new(strict);
        world.act(0, Input::Started);
        for (event, pick, entropy) in events {
            world.happen(event, pick, entropy);
        }
        world.behave();
        world.act(0, Input::StopRequested);
        prop_assert!(world.exited);
    }
}
