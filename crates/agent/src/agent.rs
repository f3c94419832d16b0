//! The state machine itself: one `step`, which takes an input and then does whatever has become possible.

use crate::link::{Link, Verdict, backoff};
use crate::work::{Done, Finished, Held, Leases, Stage};
use crate::{Action, Claims, Config, Context, ExitReason, Input, Totals};
use caii_model::{
    AttemptFailure, AttemptFailureKind, DeviceId, Digest, ExchangeReply, ExchangeRequest, LeaseId, Millis, Refusal,
    Report, SessionId, SignedClaim, SignedLease, Timestamp,
};
use std::collections::BTreeMap;

/// Reports in one request. The others follow in the next one.
pub(crate) const REPORTS_MAX: usize = 64;
/// Workloads named as ready in one request.
pub(crate) const READY_MAX: usize = 64;
/// Workloads whose failure is remembered.
const HOPELESS_MAX: usize = 256;
/// How long a free slot is not worth a request of its own while a result is being stored: small ones are stored at once,
/// and one request then carries the report and asks for more.
const STORING: Millis = Millis(50);
/// Leases held beyond what the agent can have asked for. More are not even refused: nobody sent them in good faith.
const SURPLUS_MAX: u32 = 256;
/// Longest explanation of a failure in characters, as [`AttemptFailure`] says.
const DETAIL_MAX: usize = 1_000;

/// A contributor's device.
#[derive(Debug, Clone)]
pub struct Agent {
    pub(crate) config: Config,
    pub(crate) device: DeviceId,
    pub(crate) link: Link,
    pub(crate) leases: Leases,
    pub(crate) workloads: BTreeMap<Digest, Workload>,
    /// No work is taken before this time.
    pub(crate) paused_until: Option<Timestamp>,
    /// Failures of the device itself since its last success.
    pub(crate) ailments: u32,
    pub(crate) ailment: Option<AttemptFailure>,
    pub(crate) phase: Phase,
    pub(crate) totals: Totals,
    timer: Option<Timestamp>,
}

/// What is known of a workload.
#[derive(Debug, Clone)]
pub(crate) enum Workload {
    Preparing { since: Timestamp },
    Ready,
    Hopeless { failure: AttemptFailure, until: Timestamp },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    New,
    Working,
    Stopping { abandon_at: Timestamp, exit_at: Timestamp },
    Ended,
}

impl Agent {
    /// A device that holds nothing and has not spoken yet.
    pub fn new(config: Config, device: DeviceId) -> Self {
        Self {
            config,
            device,
            link: Link::new(),
            leases: Leases::default(),
            workloads: BTreeMap::new(),
            paused_until: None,
            ailments: 0,
            ailment: None,
            phase: Phase::New,
            totals: Totals::default(),
            timer: None,
        }
    }

    /// The same, with what an earlier process of it knew of its claims.
    #[must_use]
    pub fn knowing(mut self, claims: Claims) -> Self {
        self.link.know(claims);
        self
    }

    /// What it knows of its claims, for the shell to keep.
    pub fn claims(&self) -> Claims {
        self.link.known()
    }

    /// Takes an input and says what to do, in order. Inputs about things that are not under way any more are ignored;
    /// after [`Action::Exit`] nothing follows.
    pub fn step(&mut self, context: Context, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.phase == Phase::Ended {
            return actions;
        }
        let now = context.now;
        self.end_pauses(now);
        match input {
            Input::Started => {
                if self.phase == Phase::New {
                    self.phase = Phase::Working;
                }
            }
            Input::Tick => self.timer = None,
            Input::Replied(reply) => self.replied(context, reply, &mut actions),
            Input::Refused { sequence, refusal } => {
                match self.link.refused(now, context.entropy, &self.config, sequence, &refusal) {
                    Verdict::GoOn => {}
                    Verdict::Superseded => self.exit(ExitReason::Superseded, &mut actions),
                    Verdict::Fatal => self.exit(ExitReason::Refused(refusal), &mut actions),
                }
            }
            Input::TransportFailed { sequence, reason } => {
                self.link.lost(now, context.entropy, &self.config, sequence, reason);
            }
            Input::WorkloadReady(workload) => {
                if let Some(state @ Workload::Preparing { .. }) = self.workloads.get_mut(&workload) {
                    *state = Workload::Ready;
                }
            }
            Input::WorkloadFailed(workload, failure) => self.workload_failed(context, workload, failure, &mut actions),
            Input::WorkloadRevoked(workload, failure) => self.revoked(context, workload, failure, &mut actions),
            Input::WorkloadEvicted(workload) => {
                if let Some(Workload::Ready) = self.workloads.get(&workload) {
                    self.workloads.remove(&workload);
                }
            }
            Input::InputReady(id) => {
                if let Some(held) = self.leases.get_mut(id)
                    && matches!(held.stage, Stage::Fetching)
                {
                    (held.stage, held.since) = (Stage::Queued, now);
                }
            }
            Input::InputFailed(id, failure) => {
                if self.leases.get(id).is_some_and(|held| matches!(held.stage, Stage::Fetching)) {
                    self.fail(context, id, failure, &mut actions);
                }
            }
            Input::TaskFinished(id, report, energy) => {
                self.finished(now, id, Finished { report, energy }, &mut actions);
            }
            Input::TaskFailed(id, failure) => {
                if self.leases.get(id).is_some_and(|held| matches!(held.stage, Stage::Running)) {
                    self.fail(context, id, failure, &mut actions);
                }
            }
            Input::ResultStored(id) => {
                if let Some(Held { stage: Stage::Storing { finished, .. }, .. }) = self.leases.get(id) {
                    let finished = *finished;
                    self.leases.done(id, now, Ok(finished));
                }
            }
            Input::ResultStoreFailed(id) => {
                if let Some(held) = self.leases.get_mut(id)
                    && let Stage::Storing { failures, retry_at, .. } = &mut held.stage
                {
                    *failures = failures.saturating_add(1);
                    *retry_at = Some(now + backoff(self.config.backoff, *failures, context.entropy));
                }
            }
            Input::ResultRefused(id, failure) => {
                if self.leases.get(id).is_some_and(|held| matches!(held.stage, Stage::Storing { .. })) {
                    self.fail(context, id, failure, &mut actions);
                }
            }
            Input::StopRequested => self.stop(context, &mut actions),
        }
        self.advance(context, &mut actions);
        actions
    }

    fn end_pauses(&mut self, now: Timestamp) {
        self.link.wake(now);
        self.paused_until = self.paused_until.filter(|at| now < *at);
        self.workloads.retain(|_, workload| !matches!(workload, Workload::Hopeless { until, .. } if *until <= now));
    }

    /// The conversation under way, which the shell shows to fetch blobs.
    pub fn session(&self) -> Option<SessionId> {
        self.link.session()
    }

    /// How many more tasks the device would take.
    pub(crate) fn slots_free(&self) -> u32 {
        let (finished, bytes) = self.leases.finished();
        let full = finished >= self.config.results_max || bytes >= self.config.results_bytes_max;
        if full || self.paused_until.is_some() || self.phase != Phase::Working {
            return 0;
        }
        self.capacity().saturating_sub(self.leases.unfinished())
    }

    pub(crate) fn capacity(&self) -> u32 {
        self.config.slots.saturating_add(self.config.prefetch)
    }

    fn replied(&mut self, context: Context, reply: ExchangeReply, actions: &mut Vec<Action>) {
        // The coordinator was told that a request given up is settled, so leases in a late reply are others' by now.
        if !self.link.replied(context.now, context.entropy, &self.config, &reply) {
            return;
        }
        for (id, verdict) in reply.acks {
            if let Some(held) = self.leases.get(id)
                && let Stage::Done(Done { outcome, .. }) = &held.stage
            {
                match (outcome, verdict) {
                    // Its claim gets another number in the next request.
                    (_, Err(Refusal::ClaimSequence { .. })) => continue,
                    (Ok(_), Ok(())) => self.totals.accepted += 1,
                    (Ok(_), Err(_)) => self.totals.refused += 1,
                    (Err(_), _) => {}
                }
                // The bytes of a failed task are gone already.
                if outcome.is_ok() {
                    actions.push(Action::Release(id));
                }
                self.leases.remove(id);
            }
        }
        for id in reply.dropped {
            self.drop_lease(id, actions);
        }
        for signed in reply.leases {
            self.take(context.now, reply.now, signed, actions);
        }
    }

    fn drop_lease(&mut self, id: LeaseId, actions: &mut Vec<Action>) {
        // Whether a claim that was numbered is decided is not known before there is an answer to it: without it those
        // that follow would get its number.
        let numbered = |held: &Held| matches!(held.stage, Stage::Done(Done { claim: Some(_), .. }));
        if self.leases.get(id).is_some_and(numbered) {
            return;
        }
        let Some(held) = self.leases.remove(id) else { return };
        self.totals.dropped += 1;
        free(&held, actions);
    }

    /// Accepts new work, or gives it back at once where it is more than there is room for.
    fn take(&mut self, now: Timestamp, coordinator_now: Timestamp, signed: SignedLease, actions: &mut Vec<Action>) {
        let lease = signed.lease;
        let bound = self.capacity().saturating_add(self.config.results_max).saturating_add(SURPLUS_MAX);
        if lease.device != self.device || self.leases.len() >= bound as usize {
            return;
        }
        // Only spans are compared across clocks: the coordinator's may be hours away from this one.
        let deadline = now + lease.expires.since(coordinator_now);
        let refusal = if self.phase != Phase::Working {
            Some(AttemptFailureKind::GivenBack.because("the device is about to stop"))
        } else if self.leases.unfinished() >= self.capacity() {
            Some(AttemptFailureKind::GivenBack.because("the device has as much work as it can hold"))
        } else if let Some(Workload::Hopeless { failure, .. }) = self.workloads.get(&lease.workload) {
            Some(failure.clone())
        } else {
            None
        };
        if !self.leases.insert(Held { signed, deadline, stage: Stage::Fetching, since: now }) {
            return;
        }
        match refusal {
            None => actions.push(Action::FetchInput(lease)),
            Some(failure) => {
                self.leases.done(lease.id, now, Err(failure));
                self.totals.failed += 1;
            }
        }
    }

    fn finished(&mut self, now: Timestamp, id: LeaseId, finished: Finished, actions: &mut Vec<Action>) {
        if let Some(held) = self.leases.get_mut(id)
            && matches!(held.stage, Stage::Running)
        {
            (held.stage, held.since) = (Stage::Storing { finished, failures: 0, retry_at: None }, now);
            actions.push(Action::Upload(held.signed.lease));
            self.totals.finished += 1;
            (self.ailments, self.ailment) = (0, None);
        }
    }

    fn workload_failed(
        &mut self,
        context: Context,
        workload: Digest,
        failure: AttemptFailure,
        actions: &mut Vec<Action>,
    ) {
        if !matches!(self.workloads.get(&workload), Some(Workload::Preparing { .. })) {
            return;
        }
        let failure = bounded(failure);
        if failure.kind.blames_task() {
            let until = context.now + self.config.hopeless;
            if self.workloads.len() < HOPELESS_MAX {
                self.workloads.insert(workload, Workload::Hopeless { failure: failure.clone(), until });
            } else {
                self.workloads.remove(&workload);
            }
        } else {
            self.workloads.remove(&workload);
        }
        for id in self.ids(|held| held.workload() == workload && matches!(held.stage, Stage::Fetching | Stage::Queued))
        {
            self.end(context.now, id, failure.clone(), actions);
        }
        // Once, however many leases it cost.
        self.ail(context, failure);
    }

    /// Ends everything of a workload that may not run any more, what runs included.
    fn revoked(&mut self, context: Context, workload: Digest, failure: AttemptFailure, actions: &mut Vec<Action>) {
        let failure = bounded(failure);
        let until = context.now + self.config.hopeless;
        if self.workloads.contains_key(&workload) || self.workloads.len() < HOPELESS_MAX {
            self.workloads.insert(workload, Workload::Hopeless { failure: failure.clone(), until });
        }
        for id in self.ids(|held| held.workload() == workload && held.unfinished()) {
            self.end(context.now, id, failure.clone(), actions);
        }
    }

    /// Notes an attempt that failed by itself and draws the device's own conclusion from it.
    fn fail(&mut self, context: Context, id: LeaseId, failure: AttemptFailure, actions: &mut Vec<Action>) {
        let failure = bounded(failure);
        if self.leases.get(id).is_none() {
            return;
        }
        self.leases.done(id, context.now, Err(failure.clone()));
        actions.push(Action::Release(id));
        self.totals.failed += 1;
        self.ail(context, failure);
    }

    /// Ends an attempt that might have gone on.
    fn end(&mut self, now: Timestamp, id: LeaseId, failure: AttemptFailure, actions: &mut Vec<Action>) {
        let Some(held) = self.leases.get(id) else { return };
        free(held, actions);
        self.leases.done(id, now, Err(failure));
        self.totals.failed += 1;
    }

    /// Stops taking work for a while after a failure that is the device's own: with a full disk it would only fail
    /// again, and fast.
    fn ail(&mut self, context: Context, failure: AttemptFailure) {
        if !matches!(failure.kind, AttemptFailureKind::DiskFull | AttemptFailureKind::BlobUnavailable) {
            return;
        }
        self.ailments = self.ailments.saturating_add(1);
        self.paused_until = Some(context.now + backoff(self.config.pause, self.ailments, context.entropy));
        self.ailment = Some(failure);
    }

    fn stop(&mut self, context: Context, actions: &mut Vec<Action>) {
        if self.phase != Phase::Working {
            self.exit_stopped(actions);
            return;
        }
        let abandon_at = context.now + self.config.stop_grace;
        self.phase = Phase::Stopping { abandon_at, exit_at: abandon_at + self.config.stop_farewell };
        let failure = AttemptFailureKind::GivenBack.because("the device's owner stopped the agent");
        for id in self.ids(|held| matches!(held.stage, Stage::Fetching | Stage::Queued)) {
            self.end(context.now, id, failure.clone(), actions);
        }
    }

    fn exit_stopped(&mut self, actions: &mut Vec<Action>) {
        let unreported = u32::try_from(self.leases.len()).unwrap_or(u32::MAX);
        self.exit(ExitReason::Stopped { unreported }, actions);
    }

    fn exit(&mut self, reason: ExitReason, actions: &mut Vec<Action>) {
        self.phase = Phase::Ended;
        actions.push(Action::Exit(reason));
    }

    /// Does everything that time or the last input made possible. The exchange comes last, so that it tells of all.
    fn advance(&mut self, context: Context, actions: &mut Vec<Action>) {
        let now = context.now;
        if matches!(self.phase, Phase::New | Phase::Ended) {
            return;
        }
        self.give_up_late(now, actions);
        self.wind_down(now, actions);
        if self.phase == Phase::Ended {
            return;
        }
        self.prepare(now, actions);
        self.run(now, actions);
        self.store_again(now, actions);
        self.speak(now, actions);
        self.set_timer(now, actions);
    }

    /// A task whose lease has ended belongs to somebody else by now. A finished one is still worth reporting.
    fn give_up_late(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let failure = AttemptFailureKind::LeaseExpired.because("the task was not finished when its lease ended");
        for id in self.ids(|held| held.unfinished() && held.deadline <= now) {
            self.end(now, id, failure.clone(), actions);
        }
    }

    fn wind_down(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let Phase::Stopping { abandon_at, exit_at } = self.phase else { return };
        if now >= abandon_at {
            let failure = AttemptFailureKind::GivenBack.because("the device's owner stopped the agent");
            for id in self.ids(Held::unfinished) {
                self.end(now, id, failure.clone(), actions);
            }
        }
        if self.leases.len() == 0 || now >= exit_at {
            self.exit_stopped(actions);
        }
    }

    fn prepare(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        if self.workloads.values().any(|workload| matches!(workload, Workload::Preparing { .. })) {
            return;
        }
        let wanted = self
            .leases
            .iter()
            .filter(|held| matches!(held.stage, Stage::Fetching | Stage::Queued))
            .map(Held::workload)
            .find(|workload| !self.workloads.contains_key(workload));
        if let Some(workload) = wanted {
            self.workloads.insert(workload, Workload::Preparing { since: now });
            actions.push(Action::PrepareWorkload(workload));
        }
    }

    fn run(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let mut free = self.config.slots.saturating_sub(self.leases.running());
        for held in self.leases.iter_mut() {
            if free == 0 {
                break;
            }
            let ready = matches!(self.workloads.get(&held.workload()), Some(Workload::Ready));
            if ready && matches!(held.stage, Stage::Queued) {
                (held.stage, held.since) = (Stage::Running, now);
                actions.push(Action::Run(held.signed.lease));
                free -= 1;
            }
        }
    }

    fn store_again(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        for held in self.leases.iter_mut() {
            if let Stage::Storing { retry_at, .. } = &mut held.stage
                && retry_at.is_some_and(|at| at <= now)
            {
                *retry_at = None;
                actions.push(Action::Upload(held.signed.lease));
            }
        }
    }

    fn speak(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let slots_free = self.slots_free();
        let order = self.leases.reportable(REPORTS_MAX);
        let reports = order.iter().copied().collect();
        let ask = !self.leases.iter().any(|held| storing_until(held).is_some_and(|until| now < until));
        if !self.link.due(now, &self.config, &reports, slots_free, ask) {
            return;
        }
        let heading = self.link.send(now, &self.config, reports, slots_free);
        actions.push(Action::Exchange(ExchangeRequest {
            device: self.device,
            boot: heading.boot,
            session: heading.session,
            replaces: heading.replaces,
            sequence: heading.sequence,
            settled_sequence: heading.settled_sequence,
            meter: self.config.meter,
            slots_free,
            slots: self.config.slots,
            wait: heading.wait,
            holding: self.leases.iter().map(|held| held.signed).collect(),
            reports: self.reports(order),
            ready: self.ready().take(READY_MAX).collect(),
            challenge: self.link.challenge(),
        }));
    }

    /// The reports of these leases. Each result gets the next number, so that those that an earlier request had, which
    /// come first, have the same again: as many as were acknowledged since, the pool has decided.
    fn reports(&mut self, of: Vec<LeaseId>) -> Vec<Report> {
        let mut last = self.link.claims();
        let mut report = |id: LeaseId| {
            let held = self.leases.get_mut(id)?;
            let Stage::Done(done) = &mut held.stage else { return None };
            let (outcome, claim) = match &done.outcome {
                Ok(finished) => {
                    // A pool that counts so far is out of its mind.
                    last = last.saturating_add(1);
                    done.claim = Some(last);
                    (Ok(finished.report), Some(SignedClaim::unsigned(last, finished.energy)))
                }
                Err(failure) => (Err(failure.clone()), None),
            };
            Some(Report { lease: held.signed, outcome, claim })
        };
        of.into_iter().filter_map(&mut report).collect()
    }

    pub(crate) fn ready(&self) -> impl Iterator<Item = Digest> {
        self.workloads.iter().filter(|(_, workload)| matches!(workload, Workload::Ready)).map(|(digest, _)| *digest)
    }

    fn set_timer(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let stopping = match self.phase {
            Phase::Stopping { abandon_at, .. } if self.leases.unfinished() > 0 => Some(abandon_at),
            Phase::Stopping { exit_at, .. } => Some(exit_at),
            _ => None,
        };
        let leases = self.leases.iter().filter_map(|held| match held.stage {
            Stage::Storing { retry_at, .. } => retry_at,
            _ => held.unfinished().then_some(held.deadline),
        });
        let storing = self.leases.iter().filter_map(storing_until).filter(|until| now < *until);
        let next = leases
            .chain(storing)
            .chain(self.link.next_time(&self.config))
            .chain(self.paused_until)
            .chain(stopping)
            .min();
        if let Some(at) = next
            && self.timer != Some(at)
        {
            self.timer = Some(at);
            actions.push(Action::SetTimer(at));
        }
    }

    fn ids(&self, which: impl Fn(&Held) -> bool) -> Vec<LeaseId> {
        self.leases.iter().filter(|held| which(held)).map(Held::id).collect()
    }
}

/// Until when a lease's result is expected to be stored, if it is being.
fn storing_until(held: &Held) -> Option<Timestamp> {
    matches!(held.stage, Stage::Storing { .. }).then(|| held.since + STORING)
}

/// Ends what the shell has or does for a lease.
fn free(held: &Held, actions: &mut Vec<Action>) {
    let id = held.id();
    match held.stage {
        Stage::Done(Done { outcome: Err(_), .. }) => {}
        _ if held.under_way() => actions.push(Action::Abandon(id)),
        _ => actions.push(Action::Release(id)),
    }
}

fn bounded(mut failure: AttemptFailure) -> AttemptFailure {
    if let Some((cut, _)) = failure.detail.char_indices().nth(DETAIL_MAX) {
        failure.detail.truncate(cut);
    }
    failure
}

trait Because {
    fn because(self, detail: &str) -> AttemptFailure;
}

impl Because for AttemptFailureKind {
    fn because(self, detail: &str) -> AttemptFailure {
        AttemptFailure { kind: self, detail: detail.to_owned() }
    }
}
