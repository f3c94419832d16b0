//! The conversation with devices: who they are, what they hold, what they report, and which work they get.

use crate::draft::Draft;
use crate::state::{Parked, Present};
use crate::{Effect, Reply, RequestId};
use caii_model::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How many ended conversations of a device are remembered, to tell agents that share one identity from strangers.
const SUPERSEDED_MAX: usize = 8;
const HOLDING_MAX: usize = 4_096;
const REPORTS_MAX: usize = 4_096;
const READY_MAX: usize = 1_024;
const SLOTS_MAX: u32 = 4_096;
/// How many claims about results that came too late are remembered, so that each is decided once.
const REFUSED_MAX: usize = 256;
/// Ticks come four times a second. When they were further apart than this, the coordinator was not listening (a slow
/// disk, a suspended machine, a clock that was set), and nobody's silence meant anything.
const DEAF: Millis = Millis(2_000);

impl Draft<'_> {
    pub(crate) fn exchange(&mut self, request: ExchangeRequest) {
        match self.converse(&request) {
            Err(refusal) => self.reply(Err(refusal)),
            Ok(()) => self.listen(request),
        }
        self.dispatch();
    }

    /// Checks that the request belongs to a conversation, or begins one.
    fn converse(&mut self, request: &ExchangeRequest) -> Result<(), Refusal> {
        let device = request.device;
        if !self.catalog().devices.contains_key(&device) {
            return Err(Refusal::DeviceUnknown(device));
        }
        if self.catalog().convicted.contains_key(&device) {
            return Err(Refusal::DeviceConvicted(device));
        }
        if request.boot != Some(self.coordinator().boot) {
            return Err(Refusal::BootChanged(self.coordinator().boot));
        }
        if request.meter != self.config().meter {
            return Err(Refusal::MeterForeign { expected: self.config().meter, found: request.meter });
        }
        let limits: [(&str, usize, usize); 4] = [
            ("leases held", request.holding.len(), HOLDING_MAX),
            ("reports", request.reports.len(), REPORTS_MAX),
            ("workloads", request.ready.len(), READY_MAX),
            ("slots", request.slots as usize, SLOTS_MAX as usize),
        ];
        if let Some((what, _, limit)) = limits.into_iter().find(|(_, count, limit)| count > limit) {
            return Err(Refusal::TooMany { what, limit: limit as u64 });
        }
        let last = self.presence().sequences.get(&device).copied().unwrap_or(0);
        if request.sequence <= last {
            return Err(Refusal::SequenceStale { last });
        }
        let present = self.presence().present.get(&device);
        match (request.session, present) {
            (None, Some(present)) if request.replaces != Some(present.session) => {
                return Err(Refusal::SessionHeld(present.session));
            }
            (None, _) => self.begin(request),
            (Some(session), Some(present)) if present.session == session => {}
            (Some(session), Some(present)) if present.superseded.contains(&session) => {
                return Err(Refusal::SessionSuperseded);
            }
            (Some(_), _) => return Err(Refusal::SessionUnknown),
        }
        self.presence().sequences.insert(device, request.sequence);
        Ok(())
    }

    fn begin(&mut self, request: &ExchangeRequest) {
        let device = request.device;
        let mut session = SessionId([0; 16]);
        session.0.copy_from_slice(&self.random()[..16]);
        let now = self.now();
        if let Some(parked) = self.presence().present.get_mut(&device).and_then(|present| present.parked.take()) {
            self.effect(Effect::Reply(parked.request, Err(Refusal::SessionSuperseded)));
        }
        self.presence().lost.remove(&device);
        let present = self.presence().present.entry(device).or_insert_with(|| Present {
            session,
            superseded: VecDeque::new(),
            since: now,
            heard: now,
            gone: None,
            slots: 0,
            slots_free: 0,
            ready: BTreeSet::new(),
            jail: None,
            refused: VecDeque::new(),
            attendance: crate::attendance::Attendance::default(),
            leases: BTreeMap::new(),
            parked: None,
            avoid_tasks: BTreeMap::new(),
            avoid_jobs: BTreeMap::new(),
        });
        if present.session != session {
            present.superseded.push_back(present.session);
            if present.superseded.len() > SUPERSEDED_MAX {
                present.superseded.pop_front();
            }
            present.session = session;
            present.since = now;
            // Whatever was given in the old conversation and is not held now is lost with it.
            present.leases.values_mut().for_each(|held| held.granted_in = 0);
        }
    }

    /// Takes up what a device says and answers, or holds the answer back.
    fn listen(&mut self, request: ExchangeRequest) {
        let device = request.device;
        self.answer_parked(device);
        let now = self.now();
        self.attend(device, request.challenge, request.slots);
        let present = self.present(device);
        present.heard = now;
        present.gone = None;
        present.slots = request.slots;
        present.slots_free = request.slots_free;
        present.ready = request.ready.iter().copied().collect();

        // Reports first: a lease that is held and reported at once must not be adopted anew.
        let acks: Vec<_> =
            request.reports.iter().map(|report| (report.lease.lease.id, self.take_report(device, report))).collect();
        let reported: BTreeSet<_> = acks.iter().map(|(id, _)| *id).collect();
        let mut dropped = Vec::new();
        for signed in &request.holding {
            if !reported.contains(&signed.lease.id) && !self.adopt(device, signed) {
                dropped.push(signed.lease.id);
            }
        }
        let holding = request.holding.iter().map(|signed| signed.lease.id);
        // A result whose claim needs another number is still there.
        let renumbered = acks.iter().filter(|(_, ack)| matches!(ack, Err(Refusal::ClaimSequence { .. })));
        let holding: BTreeSet<_> = holding.chain(renumbered.map(|(id, _)| *id)).collect();
        self.forget_unheld(device, &holding, request.settled_sequence);

        // Work in replies that the device had not seen when it spoke still takes room there.
        let in_flight = self.present(device).leases.keys().filter(|id| !holding.contains(id)).count();
        let slots_free = request.slots_free.saturating_sub(in_flight as u32);
        self.present(device).slots_free = slots_free;
        let leases = self.grant(device, slots_free, request.sequence);
        let wait = request.wait.min(self.config().wait_max);
        if acks.is_empty() && leases.is_empty() && dropped.is_empty() && wait > Millis(0) {
            let parked = Parked { request: self.request, sequence: request.sequence, until: now + wait };
            self.present(device).parked = Some(parked);
        } else {
            let (to, sequence) = (self.request, request.sequence);
            self.answer(device, to, sequence, leases, acks, dropped);
        }
    }

    fn present(&mut self, device: DeviceId) -> &mut Present {
        self.presence().present.get_mut(&device).expect("a device in conversation is present")
    }

    fn answer(
        &mut self,
        device: DeviceId,
        to: RequestId,
        sequence: u64,
        leases: Vec<SignedLease>,
        acks: Vec<(LeaseId, Result<(), Refusal>)>,
        dropped: Vec<LeaseId>,
    ) {
        let now = self.now();
        let present = self.present(device);
        present.slots_free = present.slots_free.saturating_sub(leases.len() as u32);
        let session = present.session;
        let governance = self.coordinator().governance;
        let claims = self.catalog().books.device(device).decided;
        let challenge = self.challenge(device);
        let reply = ExchangeReply { session, sequence, now, leases, acks, dropped, governance, claims, challenge };
        self.effect(Effect::Reply(to, Ok(Reply::Exchange(reply))));
    }

    /// Answers a reply that was held back with nothing, if there is one.
    fn answer_parked(&mut self, device: DeviceId) {
        if let Some(parked) = self.present(device).parked.take() {
            self.answer(device, parked.request, parked.sequence, vec![], vec![], vec![]);
        }
    }

    /// Takes a report. The same report again gets the same answer and changes nothing.
    fn take_report(&mut self, device: DeviceId, report: &Report) -> Result<(), Refusal> {
        let signed = &report.lease;
        let lease = &signed.lease;
        self.check_lease(device, signed)?;
        let claim = match (&report.outcome, &report.claim) {
            (Ok(_), claim) => claim.as_ref(),
            (Err(_), _) => None,
        };
        let expected = self.catalog().books.device(device).decided + 1;
        if claim.is_some_and(|claim| self.is_open() && claim.sequence > expected) {
            return Err(Refusal::ClaimSequence { expected });
        }
        // A smaller number is one that was decided: the answer is the same once more.
        let fresh = claim.filter(|claim| claim.sequence == expected);
        let answer = self.take_outcome(device, report, fresh);
        if let (Some(claim), Ok(result), Err(reason)) = (fresh, &report.outcome, &answer) {
            self.refuse_late(device, lease, result, claim, reason);
        }
        answer
    }

    /// Decides a claim about a result that is not taken, once for each lease.
    fn refuse_late(
        &mut self,
        device: DeviceId,
        lease: &Lease,
        report: &TaskReport,
        claim: &SignedClaim,
        refusal: &Refusal,
    ) {
        let reason = match refusal {
            Refusal::JobEnded(_) => VoidReason::JobEnded,
            Refusal::TaskSettled => VoidReason::Late,
            Refusal::LeaseExpired(_) => VoidReason::Lease,
            _ => return,
        };
        let decided = &mut self.present(device).refused;
        if decided.contains(&lease.id) {
            return;
        }
        decided.push_back(lease.id);
        if decided.len() > REFUSED_MAX {
            decided.pop_front();
        }
        self.refuse_claim(lease, report, claim, reason);
    }

    fn take_outcome(&mut self, device: DeviceId, report: &Report, claim: Option<&SignedClaim>) -> Result<(), Refusal> {
        let signed = &report.lease;
        let lease = &signed.lease;
        let job = self.catalog().jobs.get(&lease.task.job);
        let Some(work) = job.filter(|job| job.ending.is_none()).and_then(|job| job.work.as_ref()) else {
            return Err(Refusal::JobEnded(lease.task.job));
        };
        match &report.outcome {
            Ok(result) => {
                if report.claim.is_none() {
                    let reason = "a result comes with its device's claim".into();
                    return Err(Refusal::FieldInvalid { field: "report", reason });
                }
                if let Some(settled) = work.settled.get(&lease.task.index) {
                    let again = settled.device == device && settled.report == *result;
                    return if again { Ok(()) } else { Err(Refusal::TaskSettled) };
                }
                if !work.open.contains(&lease.task.index) {
                    return Err(Refusal::TaskSettled);
                }
                if lease.expires <= self.now() {
                    return Err(Refusal::LeaseExpired(lease.expires));
                }
                if !self.coordinator().may_settle(device, lease.task) {
                    self.presence().unlease(device, lease.id, true);
                    return Err(Refusal::TaskSettled);
                }
                if self.is_open() && claim.is_none() {
                    return Err(Refusal::ClaimSequence { expected: self.catalog().books.device(device).decided + 1 });
                }
                if let Err(detail) = self.check_report(lease, result) {
                    let failure = AttemptFailure { kind: AttemptFailureKind::MalformedResult, detail };
                    self.unlease_failed(lease, failure);
                    if let Some(claim) = claim {
                        self.refuse_claim(lease, result, claim, VoidReason::Malformed);
                    }
                    return Ok(());
                }
                self.settle(lease, *result, claim);
            }
            Err(failure) => {
                let attempts = work.attempts.get(&lease.task.index);
                let counted = attempts.is_some_and(|attempts| attempts.iter().any(|a| a.lease == lease.id));
                let open = work.open.contains(&lease.task.index);
                if counted || !open {
                    // A device that was lost and came back with its task has a counted lease on an open task.
                    self.presence().unlease(device, lease.id, open);
                    return Ok(());
                }
                let mut failure = failure.clone();
                failure.detail = failure.detail.chars().take(1_000).collect();
                self.unlease_failed(lease, failure);
            }
        }
        Ok(())
    }

    fn check_lease(&mut self, device: DeviceId, signed: &SignedLease) -> Result<(), Refusal> {
        // A lease that this process gave is recognised without the cost of a signature.
        let known = self.presence().present.get(&device).and_then(|present| present.leases.get(&signed.lease.id));
        if known.is_some_and(|held| held.signed == *signed) {
            return Ok(());
        }
        if !self.coordinator().authority.check(signed) || signed.lease.pool != self.coordinator().pool {
            return Err(Refusal::LeaseForged);
        }
        if signed.lease.device != device {
            return Err(Refusal::LeaseForeign(signed.lease.device));
        }
        Ok(())
    }

    fn check_report(&self, lease: &Lease, report: &TaskReport) -> Result<(), String> {
        let scope = self.catalog().workloads.get(&lease.workload).map(|manifest| manifest.scope);
        let items = match scope {
            Some(Scope::Item { records }) => lease.input.records.div_ceil(records),
            Some(Scope::Task) => 1,
            None => return Err("the workload is not known".into()),
        };
        if report.items != items {
            return Err(format!("{} items were reported, the task has {items}", report.items));
        }
        let most =
            self.catalog().workloads.get(&lease.workload).and_then(|m| crate::money::most_fuel(m, lease.input.records));
        if most.is_none_or(|most| report.fuel > most) {
            return Err("more fuel was used than the workload's limits allow".into());
        }
        if report.items_failed > report.items || report.records_failed > lease.input.records {
            return Err("more failed than there is".into());
        }
        Ok(())
    }

    /// Takes up a lease that a device says it holds. False when it is worth nothing.
    fn adopt(&mut self, device: DeviceId, signed: &SignedLease) -> bool {
        let lease = &signed.lease;
        if self.check_lease(device, signed).is_err() || lease.expires <= self.now() {
            return false;
        }
        let job = self.catalog().jobs.get(&lease.task.job).filter(|job| job.ending.is_none());
        let open = job.and_then(|job| job.work.as_ref()).is_some_and(|work| work.open.contains(&lease.task.index));
        let known = self.presence().present.get(&device).is_some_and(|present| present.leases.contains_key(&lease.id));
        if open && !known {
            self.presence().lease(*signed, 0);
        }
        open
    }

    /// A device no longer has these: they came in replies that it has dealt with, and it does not hold them.
    fn forget_unheld(&mut self, device: DeviceId, holding: &BTreeSet<LeaseId>, settled_sequence: u64) {
        let gone = |(id, held): (&LeaseId, &crate::state::Held)| {
            (held.granted_in <= settled_sequence && !holding.contains(id)).then_some(held.signed.lease)
        };
        let gone: Vec<Lease> = self.present(device).leases.iter().filter_map(gone).collect();
        for lease in gone {
            let detail = "the device no longer has the task".into();
            self.unlease_failed(&lease, AttemptFailure { kind: AttemptFailureKind::DeviceForgot, detail });
        }
    }

    /// Ends a lease whose attempt came to nothing. Its task may be open or not.
    fn unlease_failed(&mut self, lease: &Lease, failure: AttemptFailure) {
        let job = self.catalog().jobs.get(&lease.task.job).filter(|job| job.ending.is_none());
        let open = job.and_then(|job| job.work.as_ref()).is_some_and(|work| work.open.contains(&lease.task.index));
        let attempts = job.and_then(|job| job.work.as_ref()).and_then(|work| work.attempts.get(&lease.task.index));
        // A device can be lost, come back with its task and be lost again: that is one attempt.
        let counted = attempts.is_some_and(|attempts| attempts.iter().any(|attempt| attempt.lease == lease.id));
        self.presence().unlease(lease.device, lease.id, open);
        if open && !counted {
            self.fail_attempt(lease, failure);
        }
    }

    /// Ends every lease of a job that is ending, and tells the devices whose replies are held back at once; the others
    /// learn it from what they say that they hold.
    pub(crate) fn drop_leases(&mut self, job: JobId) {
        let tasks = TaskId { job, index: TaskIndex(0) }..=TaskId { job, index: TaskIndex(u32::MAX) };
        let leased: Vec<TaskId> = self.presence().leased.range(tasks).map(|(task, _)| *task).collect();
        leased.into_iter().for_each(|task| self.drop_leases_of_task(task));
    }

    /// The same for one task.
    pub(crate) fn drop_leases_of_task(&mut self, task: TaskId) {
        let leases = self.presence().leased.get(&task).cloned().unwrap_or_default();
        for (lease, device) in leases {
            self.presence().unlease(device, lease, false);
            if let Some(parked) = self.present(device).parked.take() {
                self.answer(device, parked.request, parked.sequence, vec![], vec![], vec![lease]);
            }
        }
    }

    /// Tells every device whose reply is held back that there is new governance metadata; the others hear it next.
    pub(crate) fn governance_changed(&mut self, version: u64) {
        if !self.set_governance(version) {
            return;
        }
        let parked = |(id, present): (&DeviceId, &Present)| present.parked.is_some().then_some(*id);
        let parked: Vec<DeviceId> = self.presence().present.iter().filter_map(parked).collect();
        parked.into_iter().for_each(|device| self.answer_parked(device));
    }

    pub(crate) fn exchange_gone(&mut self, device: DeviceId) {
        let now = self.now();
        if let Some(present) = self.presence().present.get_mut(&device)
            && present.parked.take().is_some()
        {
            present.gone = Some(now);
        }
    }

    pub(crate) fn tick(&mut self) {
        self.excuse_silence();
        self.lose_silent_devices();
        self.expire_leases();
        self.expire_jobs();
        self.attend_audits();
        self.reveal_secret();
        self.settle_attendance();
        let now = self.now();
        let due = |(id, present): (&DeviceId, &Present)| {
            present.parked.as_ref().is_some_and(|parked| parked.until <= now).then_some(*id)
        };
        let due: Vec<DeviceId> = self.presence().present.iter().filter_map(due).collect();
        self.dispatch();
        due.into_iter().for_each(|device| self.answer_parked(device));
    }

    fn excuse_silence(&mut self) {
        let now = self.now();
        let since = self.ticked(now);
        if since > DEAF {
            for present in self.presence().present.values_mut() {
                present.heard = now.min(present.heard + since);
                present.gone = present.gone.map(|at| now.min(at + since));
            }
        }
    }

    fn lose_silent_devices(&mut self) {
        let (now, silence, gone) = (self.now(), self.config().device_silence_max, self.config().gone_silence_max);
        let is_lost = |present: &Present| {
            now.since(present.heard) > silence || present.gone.is_some_and(|at| now.since(at) > gone)
        };
        let lost = self.presence().present.iter().filter(|(_, present)| is_lost(present)).map(|(id, _)| *id);
        for device in lost.collect::<Vec<_>>() {
            let heard = self.present(device).heard;
            let leases: Vec<Lease> = self.present(device).leases.values().map(|held| held.signed.lease).collect();
            for lease in leases {
                let detail = format!("not heard of for {}", now.since(heard));
                self.unlease_failed(&lease, AttemptFailure { kind: AttemptFailureKind::DeviceLost, detail });
            }
            self.answer_parked(device);
            self.presence().present.remove(&device);
            self.presence().lost.insert(device, heard);
        }
    }

    fn expire_leases(&mut self) {
        let now = self.now();
        let leases = self.presence().present.values().flat_map(|present| present.leases.values());
        let expired: Vec<Lease> = leases.map(|held| held.signed.lease).filter(|lease| lease.expires <= now).collect();
        for lease in expired {
            let detail = format!("not done within {}", self.config().lease_duration);
            self.unlease_failed(&lease, AttemptFailure { kind: AttemptFailureKind::LeaseExpired, detail });
        }
    }

    fn expire_jobs(&mut self) {
        let now = self.now();
        let due = |job: &&crate::Job| job.ending.is_none() && job.spec.deadline <= now;
        let due: Vec<JobId> = self.catalog().jobs.values().filter(due).map(|job| job.id).collect();
        due.into_iter().for_each(|job| self.begin_ending(job, Ending::Expired));
    }

    /// Gives waiting tasks to the devices whose replies are held back.
    pub(crate) fn dispatch(&mut self) {
        if self.presence().waiting.is_empty() {
            return;
        }
        let ready = |(id, present): (&DeviceId, &Present)| {
            (present.parked.is_some() && present.slots_free > 0).then_some((*id, present.slots_free))
        };
        let idle: Vec<(DeviceId, u32)> = self.presence().present.iter().filter_map(ready).collect();
        for (device, slots_free) in idle {
            let parked = self.present(device).parked.clone().expect("only devices with held-back replies are idle");
            let leases = self.grant(device, slots_free, parked.sequence);
            if !leases.is_empty() {
                self.present(device).parked = None;
                self.answer(device, parked.request, parked.sequence, leases, vec![], vec![]);
            }
        }
    }

    /// Chooses up to `count` waiting tasks for a device and seals the leases.
    fn grant(&mut self, device: DeviceId, count: u32, sequence: u64) -> Vec<SignedLease> {
        let held = self.present(device).leases.len() as u32;
        let count = count.min(self.config().leases_per_device_max.saturating_sub(held));
        let mut granted = Vec::new();
        for _ in 0..count {
            let Some(task) = self.choose(device) else { break };
            granted.push(self.seal(device, task, sequence));
        }
        granted
    }

    /// The task that this device should do next. Requests that somebody waits for go first; then jobs of members who
    /// prefer that to money; then the account that has the least under way; of its jobs one that the device can start at once; then the oldest.
    fn choose(&mut self, device: DeviceId) -> Option<TaskId> {
        let (now, adoption) = (self.now(), self.coordinator().started + self.config().adoption);
        let inherited = self.coordinator().inherited;
        let coordinator = self.coordinator();
        let present = &coordinator.presence.present[&device];
        let mut under_way: BTreeMap<&Account, u32> = BTreeMap::new();
        for (job, leased) in &coordinator.presence.leased_per_job {
            *under_way.entry(&coordinator.catalog.jobs[job].spec.owner).or_default() += leased;
        }
        let allowed = |id: &JobId| {
            let avoided = present.avoid_jobs.get(id).is_some_and(|until| *until > now);
            !avoided && (*id >= inherited || now >= adoption)
        };
        let mut jobs: Vec<_> = coordinator.presence.waiting.iter().filter(|(id, _)| allowed(id)).collect();
        jobs.sort_by_key(|(id, _)| {
            let spec = &coordinator.catalog.jobs[id].spec;
            let patient = !matches!(spec.kind, JobKind::Sync { .. });
            let share = under_way.get(&spec.owner).copied().unwrap_or(0);
            (patient, !coordinator.goes_first(&spec.owner), share, !present.ready.contains(&spec.workload), **id)
        });
        let avoided = |task: &TaskId| {
            present.avoid_tasks.get(task).is_some_and(|until| *until > now)
                || !coordinator.may_do(device, *task)
                || coordinator.presence.leased.get(task).is_some_and(|leases| leases.values().any(|d| *d == device))
        };
        jobs.into_iter().find_map(|(job, tasks)| {
            tasks.iter().map(|index| TaskId { job: *job, index: *index }).find(|task| !avoided(task))
        })
    }

    fn seal(&mut self, device: DeviceId, task: TaskId, sequence: u64) -> SignedLease {
        let mut id = LeaseId([0; 8]);
        id.0.copy_from_slice(&self.random()[..8]);
        let (issued, expires) = (self.now(), self.now() + self.config().lease_duration);
        let workload = self.catalog().jobs[&task.job].spec.workload;
        let (blob, input) = self.work(task.job).input(task.index).expect("a task that waits has its input");
        let pool = self.coordinator().pool;
        let lease = Lease { id, pool, task, device, workload, input, blob, issued, expires };
        let signed = self.coordinator().authority.seal(&lease);
        self.presence().lease(signed, sequence);
        signed
    }
}
