//! Checking results: items are drawn when a result is accepted, gathered into tasks that look like any other, run by
//! devices of other owners, and compared; who falsified is convicted, and what it did is done again.

use crate::checks::{depth, items_in};
use crate::draft::Draft;
use crate::state::Work;
use crate::{Change, Coordinator, Effect, Finding};
use caii_audit::{ClaimRef, Finding as Found, Logged};
use caii_model::*;
use caii_verify::{Secret, Standing, audits_due, draw_chance, draw_items, draw_more};
use std::collections::BTreeSet;

/// Who was wrong about items of an audit, by its places.
#[derive(Default)]
struct Faults {
    claim: BTreeSet<u32>,
    auditor: BTreeSet<u32>,
}

impl Coordinator {
    /// What checks had asked of a shell that is gone.
    pub(crate) fn unfinished_checks(&self, id: JobId) -> Vec<Effect> {
        let Some(work) = self.catalog.jobs[&id].work.as_ref() else { return vec![] };
        let mut effects = Vec::new();
        for (index, audit) in work.audits_under_way() {
            let task = TaskId { job: id, index };
            if audit.input.is_none() {
                effects.push(Effect::Gather(task));
            } else if work.settled.contains_key(&index) {
                effects.push(Effect::Compare(task));
            } else if work.given_up.contains(&index) {
                // Under `spot` it was waived in the same step.
                effects.push(Effect::Referee(task, self.places(task)));
            }
        }
        effects
    }

    /// Every place of an audit.
    fn places(&self, task: TaskId) -> Vec<u32> {
        let job = &self.catalog.jobs[&task.job];
        let (work, scope) = (job.work.as_ref().expect("audits are of prepared jobs"), self.scope(&job.spec));
        (0..work.checks.audits[&task.index].items(work, scope)).collect()
    }

    fn scope(&self, spec: &JobSpec) -> Scope {
        self.catalog.workloads[&spec.workload].scope
    }

    /// How a job is checked: programs that see a whole task at once have nothing smaller to audit.
    pub(crate) fn verification(&self, spec: &JobSpec) -> Verification {
        self.verification_of(spec.workload, spec.verification)
    }

    pub(crate) fn verification_of(&self, workload: Digest, verification: Verification) -> Verification {
        match (verification, self.catalog.workloads[&workload].scope) {
            (Verification::Audit { .. }, Scope::Task) => Verification::Quorum { results: 2 },
            (verification, _) => verification,
        }
    }

    /// Whether a device may do a task. Who checks is never who is checked.
    pub(crate) fn may_do(&self, device: DeviceId, task: TaskId) -> bool {
        if self.catalog.convicted.contains_key(&device) {
            return false;
        }
        let job = &self.catalog.jobs[&task.job];
        let Some(work) = &job.work else { return false };
        if !work.is_audit(task.index) {
            return true;
        }
        if self.presence.refereed.contains(&task) {
            return false;
        }
        self.is_stranger(device, task, self.checked_by(task.job, work, task.index, true))
    }

    /// Whether a device's result of a task may be taken. Others may have checked the same since it began.
    pub(crate) fn may_settle(&self, device: DeviceId, task: TaskId) -> bool {
        let Some(work) = self.catalog.jobs.get(&task.job).and_then(|job| job.work.as_ref()) else { return false };
        !work.is_audit(task.index) || self.is_stranger(device, task, self.checked_by(task.job, work, task.index, false))
    }

    fn is_stranger(&self, device: DeviceId, task: TaskId, others: Vec<DeviceId>) -> bool {
        let job = &self.catalog.jobs[&task.job];
        let Some(state) = job.work.as_ref().and_then(|work| work.checks.audits.get(&task.index)) else { return true };
        let mut others = others.into_iter().chain([state.audit.of]);
        match self.verification(&job.spec) {
            Verification::Spot | Verification::Off => others.all(|other| other != device),
            Verification::Audit { .. } | Verification::Quorum { .. } => {
                others.all(|other| !self.share_owner(other, device))
            }
        }
    }

    /// Who else has checked the same whole task, or with `leased_too` is at it.
    fn checked_by(&self, job: JobId, work: &Work, index: TaskIndex, leased_too: bool) -> Vec<DeviceId> {
        let subject = &work.checks.audits[&index].audit.subject;
        let since = match subject {
            AuditSubject::Task(task) => work.checks.open.get(task).map_or(TaskIndex(0), |checked| checked.since),
            AuditSubject::Items(_) => return vec![],
        };
        let audits = work.checks.audits.range(since..);
        let same = audits.filter(|(other, state)| **other != index && state.audit.subject == *subject);
        let who = |(other, _): (&TaskIndex, _)| {
            let leased = self.presence.leased.get(&TaskId { job, index: *other }).filter(|_| leased_too);
            let leased = leased.into_iter().flat_map(|leases| leases.values().copied());
            work.settled.get(other).map(|settled| settled.device).into_iter().chain(leased).collect::<Vec<_>>()
        };
        same.flat_map(who).collect()
    }

    fn share_owner(&self, one: DeviceId, other: DeviceId) -> bool {
        let owner = |id| self.catalog.devices.get(&id).map(|device| &device.owner);
        one == other || owner(one) == owner(other)
    }
}

impl Draft<'_> {
    /// A result of the job itself was accepted: draws what is audited of it.
    pub(crate) fn check_settled(&mut self, task: TaskId) {
        let spec = &self.catalog().jobs[&task.job].spec;
        let (policy, workload) = (self.coordinator().verification(spec), spec.workload);
        let settled = &self.work(task.job).settled[&task.index];
        let (device, root, items) = (settled.device, settled.report.root, settled.report.items);
        match policy {
            Verification::Off => self.pay(task),
            Verification::Quorum { results } => {
                self.log_draw(task, policy, (0..items).collect());
                for _ in 1..results {
                    self.make_audit(task.job, Audit { of: device, subject: AuditSubject::Task(task.index) });
                }
            }
            // With no other device there is nobody to ask.
            Verification::Spot if !self.somebody_but(device) => self.finalise(task),
            Verification::Spot | Verification::Audit { .. } => {
                let secret = self.audit_secret();
                let standing = self.catalog().standing(device, workload);
                let chance = draw_chance(&secret, task, &root);
                let count = audits_due(standing, items, depth(policy), chance);
                self.log_draw(task, policy, draw_items(&secret, task, &root, items, count));
            }
        }
    }

    fn somebody_but(&self, device: DeviceId) -> bool {
        let convicted = &self.catalog().convicted;
        self.coordinator().presence.present.keys().any(|other| *other != device && !convicted.contains_key(other))
    }

    /// Draws at the acceptance of a result. Spot checks leave out what says nothing.
    fn log_draw(&mut self, task: TaskId, policy: Verification, items: Vec<u32>) {
        if policy != Verification::Spot || !items.is_empty() {
            let workload = self.catalog().jobs[&task.job].spec.workload;
            let device = self.work(task.job).settled[&task.index].device;
            let drawn = self.catalog().standing(device, workload).drawn;
            self.log_drawn(task, depth(policy).0, drawn, &items);
        }
        self.draw(task, items);
    }

    fn draw(&mut self, task: TaskId, items: Vec<u32>) {
        let workload = self.catalog().jobs[&task.job].spec.workload;
        let work = self.work(task.job);
        let device = work.settled[&task.index].device;
        let standing = self.catalog().standing(device, workload);
        let mark = work.checks.open.get(&task.index).map_or(standing.drawn, |checked| checked.record.mark);
        let drawn = standing.drawn + items.len() as u64;
        self.record(Change::Checked(task, CheckEvent::Drawn { mark, items }));
        self.stands(device, workload, Standing { drawn, ..standing });
        self.finalise_if_final(task);
    }

    fn stands(&mut self, device: DeviceId, workload: Digest, standing: Standing) {
        if !self.catalog().convicted.contains_key(&device) && self.catalog().standing(device, workload) != standing {
            self.record(Change::StandingChanged(device, workload, standing));
            self.release_held(device, workload);
        }
    }

    fn finalise_if_final(&mut self, task: TaskId) {
        let spec = &self.catalog().jobs[&task.job].spec;
        let policy = self.coordinator().verification(spec);
        let work = self.work(task.job);
        let Some(checked) = work.checks.open.get(&task.index) else { return };
        let enough = match policy {
            Verification::Quorum { results } => {
                work.agreeing(task.index, checked.record.items) + 1 >= usize::from(results)
            }
            _ => checked.record.is_final(self.catalog().standing(checked.device, spec.workload), depth(policy)),
        };
        if enough {
            self.finalise(task);
        }
    }

    fn finalise(&mut self, task: TaskId) {
        self.record(Change::Checked(task, CheckEvent::Final(self.now())));
        self.pay(task);
    }

    /// What draws depend on now.
    pub(crate) fn audit_secret(&mut self) -> Secret {
        self.reveal_secret();
        let (now, span) = (self.now(), self.config().audit_secret);
        let revealed = self.catalog().books.secret_revealed;
        let valid = |(period, _, since): &(u64, Secret, Timestamp)| *period > revealed && now.since(*since) < span;
        if let Some((_, secret, _)) = self.catalog().audit_secret.filter(valid) {
            return secret;
        }
        let period = self.catalog().audit_secret.map_or(1, |(period, _, _)| period + 1);
        let secret = Secret(self.random());
        self.record(Change::AuditSecret { period, secret, since: now });
        if self.is_open() {
            self.log(Logged::SecretCommitted { period, commitment: secret.commitment(), at: now });
        }
        secret
    }

    /// Shows the secret whose time is over: everything that it drew can be checked from then on.
    pub(crate) fn reveal_secret(&mut self) {
        let Some((period, secret, since)) = self.catalog().audit_secret else { return };
        let (at, revealed) = (self.now(), self.catalog().books.secret_revealed);
        if self.is_open() && period > revealed && at.since(since) >= self.config().audit_secret {
            self.log(Logged::SecretRevealed { period, secret: secret.0, at });
        }
    }

    /// Gathers drawn items, draws what is missing at the end, and ends the job when all is final.
    pub(crate) fn go_on(&mut self, id: JobId) {
        let Some(job) = self.catalog().jobs.get(&id).filter(|job| job.ending.is_none()) else { return };
        let policy = self.coordinator().verification(&job.spec);
        let at_the_end = !self.work(id).has_own_tasks_open();
        self.gather_drawn(id, at_the_end);
        if at_the_end && self.work(id).audits_under_way().next().is_none() && !self.work(id).is_complete(policy) {
            self.draw_the_rest(id, policy);
            self.gather_drawn(id, true);
        }
        if self.work(id).is_complete(policy) {
            self.begin_ending(id, Ending::Completed);
        }
    }

    /// Makes audits of ordinary size, and at the end of what is left.
    fn gather_drawn(&mut self, id: JobId, at_the_end: bool) {
        let scope = self.coordinator().scope(&self.catalog().jobs[&id].spec);
        let work = self.work(id);
        let size = work.prepared.tasks.first().map_or(1, |task| items_in(task.records, scope)).max(1) as usize;
        let full = |items: &&BTreeSet<ItemId>| at_the_end || items.len() >= size;
        let waiting = work.checks.drawn.iter().filter(|(_, items)| full(items));
        let waiting: Vec<(DeviceId, Vec<ItemId>)> =
            waiting.map(|(device, items)| (*device, items.iter().copied().collect())).collect();
        for (of, items) in waiting {
            for chunk in items.chunks(size).filter(|chunk| at_the_end || chunk.len() == size) {
                self.make_audit(id, Audit { of, subject: AuditSubject::Items(chunk.to_vec()) });
            }
        }
    }

    fn make_audit(&mut self, job: JobId, audit: Audit) {
        let index = self.work(job).next_audit();
        let task = TaskId { job, index };
        let gathered = matches!(audit.subject, AuditSubject::Task(_));
        self.record(Change::Checked(task, CheckEvent::Made(audit)));
        if gathered {
            self.presence().waiting.entry(job).or_default().insert(index);
        } else {
            self.effect(Effect::Gather(task));
        }
    }

    /// Draws what each device still has to survive for its results here to be final.
    fn draw_the_rest(&mut self, id: JobId, policy: Verification) {
        let workload = self.catalog().jobs[&id].spec.workload;
        let devices: BTreeSet<DeviceId> = self.work(id).checks.open.values().map(|checked| checked.device).collect();
        for device in devices {
            let standing = self.catalog().standing(device, workload);
            let own = self.work(id).checks.open.iter().filter(|(_, checked)| checked.device == device);
            let count =
                own.clone().map(|(_, checked)| checked.record.undrawn(standing, depth(policy))).max().unwrap_or(0);
            let undrawn: Vec<ItemId> = own
                .flat_map(|(task, checked)| {
                    let left = (0..checked.record.items).filter(|item| !checked.drawn.contains(item));
                    left.map(|item| ItemId { task: *task, item })
                })
                .collect();
            let secret = self.audit_secret();
            let places = draw_more(&secret, id, device, standing.drawn, undrawn.len() as u64, count);
            let chosen: Vec<ItemId> = places.into_iter().map(|place| undrawn[place as usize]).collect();
            self.log_drawn_more(id, device, standing.drawn, &chosen);
            let mut chosen = chosen.into_iter().peekable();
            while let Some(first) = chosen.next() {
                let mut items = vec![first.item];
                while let Some(next) = chosen.next_if(|next| next.task == first.task) {
                    items.push(next.item);
                }
                self.draw(TaskId { job: id, index: first.task }, items);
            }
        }
    }

    pub(crate) fn audit_gathered(&mut self, task: TaskId, blob: Digest, input: TaskInput) {
        let waits = self.audit_under_way(task).is_some_and(|state| state.input.is_none());
        if waits {
            self.record(Change::Checked(task, CheckEvent::Prepared(blob, input)));
            self.presence().waiting.entry(task.job).or_default().insert(task.index);
            self.dispatch();
        }
    }

    fn audit_under_way(&self, task: TaskId) -> Option<&crate::checks::AuditState> {
        let job = self.catalog().jobs.get(&task.job).filter(|job| job.ending.is_none())?;
        job.work.as_ref()?.checks.audits.get(&task.index).filter(|state| state.end.is_none())
    }

    /// An auditor's result was accepted.
    pub(crate) fn check_audit(&mut self, task: TaskId) {
        let work = self.work(task.job);
        let (state, report) = (&work.checks.audits[&task.index], &work.settled[&task.index].report);
        let same = match state.audit.subject {
            // The same items in the same places: equal roots are equal results.
            AuditSubject::Task(of) => work.settled.get(&of).is_some_and(|claim| claim.report.root == report.root),
            AuditSubject::Items(_) => false,
        };
        match same {
            true => self.audit_compared(task, &[]),
            false => self.effect(Effect::Compare(task)),
        }
    }

    pub(crate) fn audit_compared(&mut self, task: TaskId, differ: &[u32]) {
        let Some(state) = self.audit_under_way(task) else { return };
        let of = state.audit.of;
        // What was voided meanwhile need not be decided.
        let open: Vec<u32> = differ.iter().copied().filter(|place| self.is_checked(task, *place)).collect();
        if open.is_empty() || self.catalog().convicted.contains_key(&of) {
            let survived =
                self.coordinator().places(task).into_iter().filter(|place| !differ.contains(place)).collect();
            return self.end_audit(task, AuditEnd { survived, waived: vec![] }, &Faults::default());
        }
        self.effect(Effect::Referee(task, open));
    }

    /// Whether the claim about the item at this place is still one of the audited device.
    fn is_checked(&self, task: TaskId, place: u32) -> bool {
        let work = self.work(task.job);
        let state = &work.checks.audits[&task.index];
        let claim = state.item(place).and_then(|item| work.checks.open.get(&item.task));
        claim.is_some_and(|checked| checked.device == state.audit.of)
    }

    pub(crate) fn audit_refereed(&mut self, task: TaskId, findings: Result<Vec<Finding>, String>) {
        let Some(state) = self.audit_under_way(task).cloned() else { return };
        self.presence().refereed.remove(&task);
        let auditor = self.work(task.job).settled.get(&task.index).map(|settled| settled.device);
        let Ok(findings) = findings else { return self.leave_undecided(task) };
        let wrong_claim = findings.iter().find(|finding| !finding.claim_right);
        let wrong_audit = findings.iter().find(|finding| finding.auditor_right == Some(false));
        let decided: BTreeSet<u32> = findings.iter().map(|finding| finding.place).collect();
        let right: BTreeSet<u32> = findings.iter().filter(|f| f.claim_right).map(|f| f.place).collect();
        let places = self.coordinator().places(task);
        // Where nobody differed, or where the pool found the claim right.
        let survived = places.into_iter().filter(|place| right.contains(place) || !decided.contains(place)).collect();
        let survived: Vec<u32> = if auditor.is_some() { survived } else { right.into_iter().collect() };
        let faults = Faults {
            claim: findings.iter().filter(|finding| !finding.claim_right).map(|finding| finding.place).collect(),
            auditor: findings.iter().filter(|f| f.auditor_right == Some(false)).map(|f| f.place).collect(),
        };
        let wrong: BTreeSet<ItemId> = faults.claim.iter().filter_map(|place| state.item(*place)).collect();
        self.end_audit(task, AuditEnd { survived, waived: vec![] }, &faults);
        let found = [(wrong_claim, Some(state.audit.of), false), (wrong_audit, auditor, true)];
        // The claims that show it, before the first conviction voids them.
        let evidence = found.map(|(finding, device, as_auditor)| {
            let item = state.item(finding?.place)?;
            Some((device?, item, as_auditor, self.evidence(task.job, item)))
        });
        for (device, item, as_auditor, evidence) in evidence.into_iter().flatten() {
            self.convict(task, device, (item, as_auditor, evidence), &wrong);
        }
        self.go_on(task.job);
        self.dispatch();
    }

    /// Nobody can say who is right: what is in doubt is done again, and nobody is blamed.
    fn leave_undecided(&mut self, task: TaskId) {
        let places = self.coordinator().places(task);
        let state = &self.work(task.job).checks.audits[&task.index];
        let doubted: BTreeSet<TaskIndex> =
            places.iter().filter_map(|place| state.item(*place)).map(|item| item.task).collect();
        let of = state.audit.of;
        self.end_audit(task, AuditEnd::default(), &Faults::default());
        for index in doubted {
            let claimed = self.work(task.job).checks.open.get(&index).is_some_and(|checked| checked.device == of);
            if claimed {
                self.void(TaskId { job: task.job, index }, VoidReason::Undecided, &BTreeSet::new());
            }
        }
        self.go_on(task.job);
        self.dispatch();
    }

    /// Ends an audit and counts what its device survived.
    fn end_audit(&mut self, task: TaskId, end: AuditEnd, faults: &Faults) {
        let found = self.log_end(task, &end, faults);
        let workload = self.catalog().jobs[&task.job].spec.workload;
        let of = self.work(task.job).checks.audits[&task.index].audit.of;
        let before = self.survived_here(task.job, of);
        self.record(Change::Checked(task, CheckEvent::Ended(end)));
        self.presence().unqueue(task);
        self.presence().refereed.remove(&task);
        self.presence().unattended.remove(&task);
        self.drop_leases_of_task(task);
        self.pay_auditor(task, faults, found);
        let after = self.survived_here(task.job, of);
        let standing = self.catalog().standing(of, workload);
        let waived = before.1 - after.1;
        let standing = Standing { drawn: standing.drawn - waived, survived: standing.survived + (after.0 - before.0) };
        self.stands(of, workload, standing);
        self.finalise_all(of, workload);
    }

    /// Whether anything came of it.
    fn log_end(&mut self, task: TaskId, end: &AuditEnd, faults: &Faults) -> bool {
        let places = self.coordinator().places(task);
        let work = self.work(task.job);
        let state = &work.checks.audits[&task.index];
        let of = state.audit.of;
        let finding = |place: &u32| match (faults.claim.contains(place), faults.auditor.contains(place)) {
            (true, true) => Some(Found::BothWrong),
            (true, false) => Some(Found::ClaimWrong),
            (false, true) => Some(Found::AuditorWrong),
            (false, false) if end.survived.contains(place) => Some(Found::Agreed),
            (false, false) if end.waived.contains(place) => Some(Found::Waived),
            // What is in doubt is waived when the claim is voided.
            (false, false) => None,
        };
        let found = places.iter().filter_map(|place| {
            let item = state.item(*place)?;
            let checked = work.checks.open.get(&item.task).filter(|checked| checked.device == of)?;
            let first = checked.drawn.contains(&item.item) && !checked.survived.contains(&item.item);
            let copy = matches!(state.audit.subject, AuditSubject::Task(_));
            Some((item, finding(place)?)).filter(|_| first || copy)
        });
        let found: Vec<(ItemId, Found)> = found.collect();
        let auditor = work.settled.contains_key(&task.index).then_some(task);
        self.log_outcome(task.job, of, auditor, &found);
        !found.is_empty()
    }

    /// An audit ended: whoever did it has done so well, unless it is convicted or about to be. Work that shows nothing about
    /// anybody was not checked by anybody either.
    fn pay_auditor(&mut self, task: TaskId, faults: &Faults, found: bool) {
        let Some(settled) = self.work(task.job).settled.get(&task.index) else { return };
        let device = settled.device;
        if self.catalog().convicted.contains_key(&device) {
            self.void_claim(task, VoidReason::Distrusted);
        } else if !found {
            self.void_claim(task, VoidReason::Undecided);
        } else if faults.auditor.is_empty() {
            self.pay(task);
        }
    }

    /// Audits survived and drawn by a device's results that are not final.
    fn survived_here(&self, job: JobId, device: DeviceId) -> (u64, u64) {
        let open = self.work(job).checks.open.values().filter(|checked| checked.device == device);
        open.fold((0, 0), |(survived, drawn), checked| {
            (survived + u64::from(checked.record.survived), drawn + u64::from(checked.record.drawn))
        })
    }

    /// A device has survived more: its results of any job may be final now.
    fn finalise_all(&mut self, device: DeviceId, workload: Digest) {
        let of_it = |job: &&crate::Job| job.spec.workload == workload && job.ending.is_none();
        let open = self.catalog().jobs.values().filter(of_it).flat_map(|job| {
            let open = job.work.iter().flat_map(|work| &work.checks.open);
            let own = open.filter(|(_, checked)| checked.device == device);
            own.map(|(index, _)| TaskId { job: job.id, index: *index })
        });
        let tasks: Vec<TaskId> = open.collect();
        let jobs: BTreeSet<JobId> = tasks.iter().map(|task| task.job).collect();
        tasks.into_iter().for_each(|task| self.finalise_if_final(task));
        jobs.into_iter().for_each(|job| self.go_on(job));
    }

    /// The device loses everything that is not final, its leases, and its trust in every workload.
    fn convict(
        &mut self,
        audit: TaskId,
        device: DeviceId,
        (item, as_auditor, evidence): (ItemId, bool, Option<ClaimRef>),
        wrong: &BTreeSet<ItemId>,
    ) {
        if self.catalog().convicted.contains_key(&device) {
            return;
        }
        let workload = self.catalog().jobs[&audit.job].spec.workload;
        let at = self.now();
        self.log_conviction(device, evidence, item, as_auditor);
        self.record(Change::DeviceConvicted(Conviction { device, workload, audit, item, as_auditor, at }));
        if as_auditor {
            self.void_claim(audit, VoidReason::Wrong);
        }
        let held: Vec<Lease> = self
            .coordinator()
            .presence
            .present
            .get(&device)
            .map_or_else(Vec::new, |present| present.leases.values().map(|held| held.signed.lease).collect());
        for lease in held {
            let open = self.catalog().jobs.get(&lease.task.job).filter(|job| job.ending.is_none());
            let open = open.and_then(|job| job.work.as_ref()).is_some_and(|work| work.open.contains(&lease.task.index));
            self.presence().unlease(device, lease.id, open);
        }
        if let Some(parked) = self.presence().present.get_mut(&device).and_then(|present| present.parked.take()) {
            self.effect(Effect::Reply(parked.request, Err(Refusal::DeviceConvicted(device))));
        }
        let open = self.catalog().jobs.values().filter(|job| job.ending.is_none()).flat_map(|job| {
            let open = job.work.iter().flat_map(|work| &work.checks.open);
            let own = open.filter(|(_, checked)| checked.device == device);
            own.map(|(index, _)| TaskId { job: job.id, index: *index })
        });
        let open: Vec<TaskId> = open.collect();
        let jobs: BTreeSet<JobId> = open.iter().map(|task| task.job).collect();
        for task in open {
            let known = if task.job == audit.job { wrong } else { &BTreeSet::new() };
            let evident = known.iter().any(|item| item.task == task.index);
            let reason = if evident { VoidReason::Wrong } else { VoidReason::Distrusted };
            self.void(task, reason, known);
        }
        if self.is_open() {
            self.forfeit(device);
        }
        jobs.into_iter().for_each(|job| self.go_on(job));
    }

    /// A result that is not final counts no more. Of the items in `known` it is known what came of them.
    fn void(&mut self, task: TaskId, reason: VoidReason, known: &BTreeSet<ItemId>) {
        self.waive_outstanding(task, known);
        self.void_claim(task, reason);
        let workload = self.catalog().jobs[&task.job].spec.workload;
        let checked = &self.work(task.job).checks.open[&task.index];
        let (device, lost) = (checked.device, u64::from(checked.record.drawn - checked.record.survived));
        self.record(Change::TaskVoided(task, reason, self.now()));
        let standing = self.catalog().standing(device, workload);
        self.stands(device, workload, Standing { drawn: standing.drawn - lost.min(standing.drawn), ..standing });
        self.presence().waiting.entry(task.job).or_default().insert(task.index);
        // Audits of nothing but this are not needed any more.
        let idle: Vec<TaskIndex> = {
            let work = self.work(task.job);
            let moot = |state: &crate::checks::AuditState| match &state.audit.subject {
                AuditSubject::Task(of) => *of == task.index,
                AuditSubject::Items(items) => items.iter().all(|item| {
                    work.checks.open.get(&item.task).is_none_or(|checked| checked.device != state.audit.of)
                }),
            };
            work.audits_under_way().filter(|(_, state)| moot(state)).map(|(index, _)| index).collect()
        };
        for index in idle {
            let audit = TaskId { job: task.job, index };
            self.void_claim(audit, VoidReason::Undecided);
            self.record(Change::Checked(audit, CheckEvent::Ended(AuditEnd::default())));
            self.presence().unqueue(audit);
            self.presence().refereed.remove(&audit);
            self.presence().unattended.remove(&audit);
            self.drop_leases_of_task(audit);
        }
    }

    /// Drawn items that nobody will run any more count as if they had not been drawn.
    fn waive_outstanding(&mut self, task: TaskId, known: &BTreeSet<ItemId>) {
        let Some(checked) = self.work(task.job).checks.open.get(&task.index) else { return };
        let id = |item: &u32| ItemId { task: task.index, item: *item };
        let outstanding = checked.drawn.difference(&checked.survived).map(id).filter(|item| !known.contains(item));
        let outstanding: Vec<(ItemId, Found)> = outstanding.map(|item| (item, Found::Waived)).collect();
        let of = checked.device;
        self.log_outcome(task.job, of, None, &outstanding);
    }

    /// A job is ending: what was drawn of its results and did not come back counts as if it had not been drawn.
    pub(crate) fn forget_checks(&mut self, id: JobId) {
        let job = &self.catalog().jobs[&id];
        let workload = job.spec.workload;
        let Some(work) = &job.work else { return };
        let open: Vec<TaskIndex> = work.checks.open.keys().copied().collect();
        let audits: Vec<TaskIndex> = work.audits_under_way().map(|(index, _)| index).collect();
        for index in &open {
            self.waive_outstanding(TaskId { job: id, index: *index }, &BTreeSet::new());
        }
        for index in open.into_iter().chain(audits) {
            self.void_claim(TaskId { job: id, index }, VoidReason::JobEnded);
        }
        let work = self.work(id);
        let devices: BTreeSet<DeviceId> = work.checks.open.values().map(|checked| checked.device).collect();
        let lost: Vec<(DeviceId, u64)> = devices.into_iter().map(|device| (device, work.outstanding(device))).collect();
        for (device, lost) in lost.into_iter().filter(|(_, lost)| *lost > 0) {
            let standing = self.catalog().standing(device, workload);
            self.stands(device, workload, Standing { drawn: standing.drawn - lost.min(standing.drawn), ..standing });
        }
        self.presence().refereed.retain(|task| task.job != id);
        self.presence().unattended.retain(|task, _| task.job != id);
    }

    /// An audit at which devices failed is run by the pool itself, or waived.
    pub(crate) fn audit_given_up(&mut self, task: TaskId) {
        let policy = self.coordinator().verification(&self.catalog().jobs[&task.job].spec);
        let places = self.coordinator().places(task);
        if policy == Verification::Spot {
            self.end_audit(task, AuditEnd { survived: vec![], waived: places }, &Faults::default());
        } else {
            self.presence().refereed.insert(task);
            self.effect(Effect::Referee(task, places));
        }
    }

    /// Audits that no connected device may do are, after a while, run by the pool itself; under `spot` they are waived.
    pub(crate) fn attend_audits(&mut self) {
        // What a job waits for may have been lost with another job of the same device.
        let stuck = |job: &&crate::Job| {
            job.ending.is_none()
                && job.work.as_ref().is_some_and(|work| {
                    work.open.is_empty()
                        && !work.checks.open.is_empty()
                        && work.checks.drawn.is_empty()
                        && work.audits_under_way().next().is_none()
                })
        };
        let stuck: Vec<JobId> = self.catalog().jobs.values().filter(stuck).map(|job| job.id).collect();
        stuck.into_iter().for_each(|job| self.go_on(job));
        let (now, patience) = (self.now(), self.config().audit_patience);
        let coordinator = self.coordinator();
        let checking = |job: &&crate::Job| job.ending.is_none() && coordinator.presence.waiting.contains_key(&job.id);
        let audits = coordinator.catalog.jobs.values().filter(checking).flat_map(|job| {
            let waiting = &coordinator.presence.waiting[&job.id];
            let audits = job.work.iter().flat_map(|work| work.audits_under_way());
            let audits = audits.filter(|(index, _)| waiting.contains(index));
            audits.map(|(index, _)| TaskId { job: job.id, index })
        });
        // Who has no room although it does nothing, or stays away, cannot be waited for.
        let works = |present: &crate::state::Present, job: &JobId| {
            let away = present.avoid_jobs.get(job).is_some_and(|until| *until > now);
            present.slots > 0 && !away && (present.slots_free > 0 || !present.leases.is_empty())
        };
        let unattended = |task: &TaskId| {
            let mut present = coordinator.presence.present.iter().filter(|(_, present)| works(present, &task.job));
            !coordinator.presence.refereed.contains(task)
                && !present.any(|(device, _)| coordinator.may_do(*device, *task))
        };
        let unattended: BTreeSet<TaskId> = audits.filter(unattended).collect();
        self.presence().unattended.retain(|task, _| unattended.contains(task));
        for task in unattended {
            let since = *self.presence().unattended.entry(task).or_insert(now);
            if now.since(since) < patience {
                continue;
            }
            self.presence().unattended.remove(&task);
            self.audit_given_up(task);
            self.go_on(task.job);
        }
    }
}
