//! Devices: the machine around each agent, its clock, and how its attempts end.

use crate::coordinator::{METER, Origin, ticket};
use crate::world::{Answer, Event, World};
use crate::{Character, Plan, Rng};
use caii_agent::{Action, Agent, Claims, Config, Context, ExitReason, Input};
use caii_coordinator::Reply;
use caii_model::*;
use caii_trust::SigningKey;
use std::collections::BTreeSet;

/// A machine that somebody lends.
pub(crate) struct Host {
    pub(crate) character: Character,
    pub(crate) is_clone: bool,
    shares_identity: bool,
    key: SigningKey,
    owner: u8,
    device: DeviceId,
    enrolled: bool,
    agent: Option<Agent>,
    /// What its shell keeps of the device's claims.
    claims: Claims,
    /// Counts its agents: what was meant for an earlier one is ignored.
    pub(crate) incarnation: u64,
    /// Requests without an answer.
    pub(crate) pending: BTreeSet<u64>,
    /// What its agent's shell is doing.
    under_way: BTreeSet<LeaseId>,
    timers: u64,
    slots: u32,
    clock_offset: u64,
    /// Of a thousand.
    clock_rate: u64,
    asleep_until: u64,
    pub(crate) cut_until: u64,
    pub(crate) gone: bool,
}

impl Host {
    /// How many of its claims it was told are decided.
    pub(crate) fn claims(&self) -> u64 {
        self.claims.decided
    }

    /// Signs what its agent claims.
    pub(crate) fn sign(&self, reports: &mut [Report]) {
        for Report { lease, outcome, claim } in reports {
            if let (Ok(report), Some(claim)) = (outcome, claim) {
                let unsigned = Claim::of(&lease.lease, METER, report, claim.sequence, claim.energy);
                claim.signature = self.key.sign(Claim::SIGNED_FOR, &unsigned.digest());
            }
        }
    }

    pub(crate) fn all(plan: &Plan, rng: &mut Rng) -> Vec<Self> {
        let originals = plan.devices.iter().enumerate().map(|(place, character)| (place, *character, false));
        let clones = plan.clones.iter().map(|place| (*place, plan.devices[*place], true));
        let host = |(place, character, is_clone): (usize, Character, bool)| {
            let key = SigningKey::from_seed([place as u8 + 1; 32]);
            let device = caii_trust::device_id(&key.public());
            Self {
                character,
                is_clone,
                shares_identity: plan.clones.contains(&place),
                key,
                owner: place as u8 % plan.owners,
                device,
                enrolled: false,
                agent: None,
                claims: Claims::default(),
                incarnation: 0,
                pending: BTreeSet::new(),
                under_way: BTreeSet::new(),
                timers: 0,
                slots: rng.between(1, 3) as u32,
                clock_offset: rng.between(0, 7_200_000),
                clock_rate: rng.between(980, 1_020),
                asleep_until: 0,
                cut_until: 0,
                gone: false,
            }
        };
        originals.chain(clones).map(host).collect()
    }

    fn clock(&self, now: u64) -> Timestamp {
        Timestamp(self.clock_offset + now * self.clock_rate / 1_000)
    }

    /// When the device's clock shows this.
    fn when(&self, clock: Timestamp) -> u64 {
        (clock.0.saturating_sub(self.clock_offset) * 1_000).div_ceil(self.clock_rate)
    }

    /// The machine sleeps. Some clocks stop meanwhile.
    pub(crate) fn suspend(&mut self, now: u64, span: u64, clock_stops: bool) {
        self.asleep_until = self.asleep_until.max(now + span);
        if clock_stops {
            self.clock_offset = self.clock_offset.saturating_sub(span);
        }
    }
}

impl World {
    /// The machine starts its agent; the first time it joins the pool, and asks until it is told that it has.
    pub(crate) fn start_host(&mut self, place: usize) {
        let host = &mut self.hosts[place];
        if host.gone || host.agent.is_some() {
            return;
        }
        if !host.enrolled {
            let (public_key, secret_hash) = (host.key.public(), ticket(host.owner));
            self.after(3_000, Event::HostStarts { host: place });
            if !self.lost() {
                let name = format!("device {place}");
                let enrol = caii_coordinator::Input::Enrol { secret_hash, public_key, name };
                self.arrives(Origin::Enrolment { host: place }, enrol);
            }
            return;
        }
        host.incarnation += 1;
        host.agent = Some(Agent::new(Config::new(METER, host.slots), host.device).knowing(host.claims));
        let device = host.device;
        self.note(|| format!("device {place} ({device}): an agent starts"));
        self.tell(place, Input::Started);
    }

    pub(crate) fn enrolled(&mut self, host: usize, answer: Result<Reply, Refusal>) {
        match answer {
            Ok(Reply::Device(device)) if device == self.hosts[host].device => {
                if !self.lost() {
                    self.hosts[host].enrolled = true;
                    self.after(1, Event::HostStarts { host });
                }
            }
            other => self.object(format!("an enrolment is answered by {other:?}")),
        }
    }

    /// An agent is asked to stop, or dies. It comes back after a while unless its machine is gone.
    pub(crate) fn end_host(&mut self, place: usize, incarnation: u64, politely: bool) {
        let host = &mut self.hosts[place];
        if host.incarnation != incarnation || host.agent.is_none() {
            return;
        }
        if politely {
            return self.tell(place, Input::StopRequested);
        }
        self.note(|| format!("device {place}: its agent dies"));
        self.agent_is_gone(place, 30_000);
    }

    fn agent_is_gone(&mut self, place: usize, absence_max: u64) {
        let pending = std::mem::take(&mut self.hosts[place].pending);
        // Without power nobody closes a connection.
        if self.rng.chance(600) {
            pending.into_iter().for_each(|sequence| self.hang_up(place, sequence));
        }
        let host = &mut self.hosts[place];
        host.agent = None;
        host.incarnation += 1;
        host.under_way.clear();
        if !host.gone {
            let delay = self.rng.between(200, absence_max);
            self.after(delay, Event::HostStarts { host: place });
        }
    }

    /// Whether this is for an agent that is awake; for a sleeping one it is put off.
    fn awake(&mut self, place: usize, incarnation: u64, put_off: impl FnOnce() -> Event) -> bool {
        let host = &self.hosts[place];
        if host.incarnation != incarnation || host.agent.is_none() {
            return false;
        }
        let until = host.asleep_until;
        if until > self.now {
            let event = put_off();
            self.at(until, event);
            return false;
        }
        true
    }

    pub(crate) fn device(&mut self, host: usize, incarnation: u64, input: Input) {
        if !self.awake(host, incarnation, || Event::Device { host, incarnation, input: input.clone() }) {
            return;
        }
        let over = match &input {
            Input::InputReady(id)
            | Input::InputFailed(id, _)
            | Input::TaskFinished(id, ..)
            | Input::TaskFailed(id, _)
            | Input::ResultStored(id)
            | Input::ResultStoreFailed(id) => Some(*id),
            _ => None,
        };
        // Now and then the end of something crosses the agent's word to abandon it.
        if over.is_none_or(|id| self.hosts[host].under_way.remove(&id)) || self.rng.chance(100) {
            self.tell(host, input);
        }
    }

    pub(crate) fn answered(&mut self, host: usize, incarnation: u64, sequence: u64, answer: Answer) {
        let current = &self.hosts[host];
        if current.incarnation != incarnation || !current.pending.contains(&sequence) {
            return;
        }
        let asleep = current.asleep_until;
        if asleep > self.now {
            return self.at(asleep, Event::Answered { host, incarnation, sequence, answer });
        }
        self.hosts[host].pending.remove(&sequence);
        let input = match answer {
            Answer::Reply(reply) => Input::Replied(reply),
            Answer::Refused(refusal) => Input::Refused { sequence, refusal },
            Answer::Failed(reason) => {
                self.hang_up(host, sequence);
                Input::TransportFailed { sequence, reason: reason.into() }
            }
        };
        self.tell(host, input);
    }

    pub(crate) fn timer(&mut self, host: usize, incarnation: u64, set: u64) {
        if self.awake(host, incarnation, || Event::Timer { host, incarnation, set }) && self.hosts[host].timers == set {
            self.tell(host, Input::Tick);
        }
    }

    fn tell(&mut self, place: usize, input: Input) {
        let (now, entropy) = (self.now, self.rng.bits());
        self.note(|| format!("device {place}: {}", tell_input(&input)));
        let host = &mut self.hosts[place];
        let context = Context { now: host.clock(now), entropy };
        let Some(agent) = &mut host.agent else { return };
        let actions = agent.step(context, input);
        let violations = agent.violations();
        host.claims = agent.claims();
        if let Some(forgotten) = host.claims.forgotten {
            self.object(format!("device {place}: {forgotten}"));
        }
        if !violations.is_empty() {
            self.object(format!("device {place}: {}", violations.join(", ")));
        }
        actions.into_iter().for_each(|action| self.act(place, action));
    }

    fn act(&mut self, place: usize, action: Action) {
        match action {
            Action::Exchange(request) => self.send_request(place, request),
            Action::PrepareWorkload(workload) => self.prepare_workload(place, workload),
            Action::FetchInput(lease) => self.fetch(place, lease),
            Action::Run(lease) => self.run_task(place, lease),
            Action::Upload(lease) => {
                let failed = self.shell_fails();
                let input = if failed { Input::ResultStoreFailed(lease.id) } else { Input::ResultStored(lease.id) };
                self.start(place, lease.id, 1, 300, input);
            }
            Action::Abandon(id) => _ = self.hosts[place].under_way.remove(&id),
            Action::Release(_) => {}
            Action::SetTimer(at) => {
                let host = &mut self.hosts[place];
                host.timers += 1;
                let (at, incarnation, set) = (host.when(at), host.incarnation, host.timers);
                self.at(at, Event::Timer { host: place, incarnation, set });
            }
            Action::Exit(reason) => {
                self.note(|| format!("device {place}: its agent ends: {reason:?}"));
                match reason {
                    ExitReason::Stopped { .. } => {}
                    ExitReason::Superseded if self.hosts[place].shares_identity => {}
                    ExitReason::Refused(Refusal::DeviceConvicted(_))
                        if matches!(self.hosts[place].character, Character::Lies(_)) =>
                    {
                        self.hosts[place].gone = true;
                    }
                    other => self.object(format!("device {place} is turned away: {other:?}")),
                }
                self.agent_is_gone(place, 60_000);
            }
        }
    }

    /// Something begins whose end the agent is told.
    fn start(&mut self, place: usize, lease: LeaseId, least: u64, most: u64, end: Input) {
        self.hosts[place].under_way.insert(lease);
        self.later(place, least, most, end);
    }

    fn later(&mut self, place: usize, least: u64, most: u64, input: Input) {
        let (delay, incarnation) = (self.rng.between(least, most), self.hosts[place].incarnation);
        self.after(delay, Event::Device { host: place, incarnation, input });
    }

    fn shell_fails(&mut self) -> bool {
        !self.healed && self.rng.chance(self.plan.rates.shell_failure)
    }

    /// How this device's next attempt fails, if it is that kind of device.
    fn weakness(&mut self, place: usize) -> Option<AttemptFailureKind> {
        match self.hosts[place].character {
            Character::Fails(kind) => Some(kind),
            Character::Flaky(kind) => self.rng.chance(200).then_some(kind),
            _ => None,
        }
    }

    fn prepare_workload(&mut self, place: usize, workload: Digest) {
        let weak = self.weakness(place) == Some(AttemptFailureKind::PreparationFailed);
        let failure = if weak || workload == crate::coordinator::manifest(true).digest() {
            Some(AttemptFailureKind::PreparationFailed)
        } else {
            self.shell_fails().then_some(AttemptFailureKind::BlobUnavailable)
        };
        let input = match failure {
            None => Input::WorkloadReady(workload),
            Some(kind) => {
                let device = self.hosts[place].device;
                self.checks.device_cannot_prepare(device, workload);
                Input::WorkloadFailed(workload, because(kind))
            }
        };
        self.later(place, 50, 5_000, input);
        if self.shell_fails() {
            self.later(place, 5_001, 60_000, Input::WorkloadEvicted(workload));
        }
    }

    fn fetch(&mut self, place: usize, lease: Lease) {
        let weakness = self.weakness(place);
        let kind = match weakness {
            Some(kind @ (AttemptFailureKind::BlobUnavailable | AttemptFailureKind::DiskFull)) => Some(kind),
            _ => self.shell_fails().then_some(AttemptFailureKind::BlobUnavailable),
        };
        let input = match kind {
            None => Input::InputReady(lease.id),
            Some(kind) => Input::InputFailed(lease.id, because(kind)),
        };
        self.start(place, lease.id, 1, 500, input);
    }

    fn run_task(&mut self, place: usize, lease: Lease) {
        let (job, task) = crate::coordinator::place(&lease.input);
        let poisoned = self.plan.jobs[job].poisoned.contains(&task);
        let each = if self.hosts[place].character == Character::Slow { 8_000 } else { 400 };
        let most = each * u64::from(lease.input.records);
        let weakness = self.weakness(place);
        let fails = match weakness {
            _ if poisoned => Some(AttemptFailureKind::RunnerDied),
            Some(AttemptFailureKind::RunnerDied | AttemptFailureKind::ItemTooSlow) => weakness,
            _ => None,
        };
        if poisoned && self.rng.chance(100) {
            // It takes the whole machine with it.
            let (delay, incarnation) = (self.rng.between(1, most), self.hosts[place].incarnation);
            return self.after(delay, Event::HostEnds { host: place, incarnation, politely: false });
        }
        let liar = match self.hosts[place].character {
            Character::Lies(liar) => Some(liar),
            _ => None,
        };
        let mut report = self.told_of(liar, &lease);
        let input = match fails {
            Some(kind) => {
                self.checks.device_failed(lease.id, kind);
                Input::TaskFailed(lease.id, because(kind))
            }
            None => {
                if weakness == Some(AttemptFailureKind::MalformedResult) {
                    report.items += 1;
                    self.checks.device_failed(lease.id, AttemptFailureKind::MalformedResult);
                }
                Input::TaskFinished(lease.id, report, Energy::UNKNOWN)
            }
        };
        self.start(place, lease.id, most / 4, most, input);
    }
}

fn because(kind: AttemptFailureKind) -> AttemptFailure {
    AttemptFailure { kind, detail: "so it is planned".into() }
}

fn tell_input(input: &Input) -> String {
    match input {
        Input::Replied(reply) => {
            let leases: Vec<String> = reply.leases.iter().map(|signed| signed.lease.task.to_string()).collect();
            let (acks, dropped) = (reply.acks.len(), reply.dropped.len());
            format!("#{} is answered: leases {leases:?}, {acks} acks, {dropped} dropped", reply.sequence)
        }
        other => format!("{other:?}").chars().take(160).collect(),
    }
}
