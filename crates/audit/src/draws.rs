//! Audits of results: that secrets were committed to before, that what was drawn follows from them, that others ran it
//! again, and what became of who was caught.

use crate::claims::{Claimed, DrawnFrom};
use crate::logged::{AuditDrawn, AuditDrawnMore, AuditOutcome, AuditedItem, ClaimRef, DeviceConvicted, Finding, Kind};
use crate::report::Check;
use crate::walk::Walk;
use caii_model::{DeviceId, Digest, JobId, Receipt, TaskId, VerificationPolicy};
use caii_verify::{Depth, Secret, Standing, audits_due, draw_chance, draw_items, draw_more};
use std::collections::{BTreeMap, BTreeSet};

/// Secrets that may be unrevealed while newer ones are in use: draws that nobody can check are no draws.
const UNREVEALED_MAX: usize = 7;

/// Items of a claim, and of claims that are drawn from together, beyond which a draw is not recomputed but refused.
const ITEMS_MAX: u64 = 1 << 22;

/// What is known of audits so far.
#[derive(Default)]
pub(crate) struct Draws {
    periods: BTreeMap<u64, Period>,
    current: Option<u64>,
    /// How devices stand for workloads: items drawn, and those that were found right.
    standings: BTreeMap<(DeviceId, Digest), Standing>,
    /// How thoroughly each job is audited.
    depths: BTreeMap<JobId, u32>,
    /// Items that wait for an outcome, by job.
    pending: BTreeMap<JobId, Pending>,
    /// What shows that somebody lied: the claim, the item, who.
    evidence: BTreeMap<(ClaimRef, u32, DeviceId), Caught>,
}

/// Drawn items, each with who gave the outcomes that it has: in a quorum every copy gives one, elsewhere it waits for the
/// first.
type Pending = BTreeMap<(ClaimRef, u32), Vec<Option<DeviceId>>>;

struct Caught {
    index: u64,
    file: String,
    as_auditor: bool,
    /// The claim that must not count therefore.
    claim: ClaimRef,
}

struct Period {
    commitment: Digest,
    revealed: bool,
    /// Claims whose items must be drawn before the secret is revealed, with the entry of each.
    awaiting: BTreeMap<ClaimRef, u64>,
    /// Draws to be checked once it is.
    draws: Vec<Draw>,
}

struct Draw {
    index: u64,
    file: String,
    what: Drawn,
}

enum Drawn {
    Accepted { task: TaskId, root: Digest, items: u32, depth: u32, before: u64, drawn: Vec<u32> },
    More { job: JobId, device: DeviceId, before: u64, undrawn: Vec<(u64, u32)>, drawn: Vec<(u64, u32)> },
}

impl Draws {
    pub(crate) fn survived(&self, device: DeviceId, workload: Digest) -> u64 {
        self.standings.get(&(device, workload)).map_or(0, |standing| standing.survived)
    }

    fn standing(&mut self, device: DeviceId, workload: Digest) -> &mut Standing {
        self.standings.entry((device, workload)).or_default()
    }
}

impl Walk<'_> {
    pub(crate) fn secret_committed(&mut self, number: u64, commitment: Digest) {
        let expected = self.draws.current.map_or(1, |current| current.saturating_add(1));
        let period = Period { commitment, revealed: false, awaiting: BTreeMap::new(), draws: vec![] };
        if number != expected {
            self.missing(
                Check::Secrets,
                &[Kind::SecretCommitted],
                format!("it is secret {number}; the next is {expected}"),
            );
        } else {
            self.good(Check::Secrets);
        }
        let unrevealed = self.draws.periods.values().filter(|period| !period.revealed).count();
        if unrevealed > UNREVEALED_MAX {
            let why = format!("{unrevealed} secrets are not revealed; at most {UNREVEALED_MAX} may be");
            self.missing(Check::Secrets, &[Kind::SecretRevealed], why);
        }
        self.draws.periods.entry(number).or_insert(period);
        self.draws.current = Some(number);
    }

    pub(crate) fn secret_revealed(&mut self, number: u64, secret: &[u8; 32]) {
        let Some(mut period) = self.draws.periods.remove(&number) else {
            let why = format!("secret {number} was never committed to");
            return self.missing(Check::Secrets, &[Kind::SecretCommitted], why);
        };
        let secret = Secret(*secret);
        if period.revealed || secret.commitment() != period.commitment {
            self.wrong(Check::Secrets, format!("it is not the secret {number} that was committed to"));
            self.draws.periods.insert(number, period);
            return;
        }
        self.good(Check::Secrets);
        for draw in std::mem::take(&mut period.draws) {
            match draw.what.follows(&secret) {
                None => self.good(Check::Draws),
                Some(why) => self.wrong_at(Check::Draws, Some(draw.index), draw.file, why),
            }
        }
        for (claim, index) in std::mem::take(&mut period.awaiting) {
            let why = format!("nothing of {claim} was drawn before the secret was revealed");
            if self.is_erased(&[Kind::AuditDrawn]) {
                self.uncheckable(Check::Draws);
            } else {
                let file = self.path_of(index);
                self.wrong_at(Check::Draws, Some(index), file, why);
            }
        }
        period.revealed = true;
        self.draws.periods.insert(number, period);
    }

    /// An accepted claim whose items must be drawn.
    pub(crate) fn must_be_drawn(&mut self, receipt: &Receipt, id: ClaimRef) {
        let facts = receipt.work_facts();
        // What was run to audit others is checked by what it agreed with.
        let own = facts.is_some_and(|facts| facts.fuel.0 > 0);
        if receipt.policy != VerificationPolicy::Audit || !own {
            return;
        }
        let index = self.index;
        match self.draws.current.and_then(|current| self.draws.periods.get_mut(&current)) {
            Some(period) if !period.revealed => {
                period.awaiting.insert(id, index);
            }
            _ => self.missing(
                Check::Draws,
                &[Kind::SecretCommitted],
                format!("{id} was accepted while no secret was committed to"),
            ),
        }
    }

    pub(crate) fn audit_drawn(&mut self, drawn: &AuditDrawn) {
        let id = drawn.claim;
        let Some(claim) = self.claim(id).filter(|claim| claim.waits() && claim.draw.is_none()) else {
            let why = format!("{id} is not accepted, or was drawn from, paid or voided before");
            return self.missing(Check::Draws, &[Kind::Receipt], why);
        };
        let (task, root, items, policy, workload) = (claim.task, claim.root, claim.items, claim.policy, claim.workload);
        if u64::from(items) > ITEMS_MAX {
            return self.wrong(Check::Draws, format!("{id} has {items} items; at most {ITEMS_MAX} are drawn from"));
        }
        if !drawn.items.is_sorted_by(|a, b| a < b) || drawn.items.iter().any(|item| *item >= items) {
            return self.wrong(Check::Draws, format!("of {id} items are drawn that it does not have"));
        }
        let depth = *self.draws.depths.entry(task.job).or_insert(drawn.depth);
        if drawn.depth != depth {
            let why = format!("{id} is audited to depth {}, and others of {} to depth {depth}", drawn.depth, task.job);
            self.wrong(Check::Draws, why);
        } else if depth == 0 && policy == VerificationPolicy::Audit {
            self.wrong(Check::Draws, format!("{id} is to be audited, and to no depth"));
        }
        self.count_drawn(id.device, workload, drawn.drawn_before, drawn.items.len());
        let pending = self.draws.pending.entry(task.job).or_default();
        pending.extend(drawn.items.iter().map(|item| ((id, *item), vec![])));
        if let Some(claim) = self.claim_mut(id) {
            claim.draw = Some(DrawnFrom {
                mark: drawn.drawn_before,
                depth: Depth(drawn.depth),
                items: drawn.items.iter().copied().collect(),
                survived: 0,
                agreements: 0,
            });
        }
        if matches!(policy, VerificationPolicy::Quorum { .. }) {
            return match drawn.items.len() == items as usize {
                true => self.good(Check::Draws),
                false => self.wrong(Check::Draws, format!("{id} is in a quorum, which audits every item")),
            };
        }
        let what = Drawn::Accepted {
            task,
            root,
            items,
            depth: drawn.depth,
            before: drawn.drawn_before,
            drawn: drawn.items.clone(),
        };
        self.keep_draw(drawn.period, what, Some(id));
    }

    pub(crate) fn audit_drawn_more(&mut self, more: &AuditDrawnMore) {
        let id = |sequence: u64| ClaimRef { device: more.device, sequence };
        let mut undrawn = Vec::new();
        let (mut workload, mut unknown) = (None, BTreeSet::new());
        let items =
            more.open.iter().map(|sequence| self.claim(id(*sequence)).map_or(0, |claim| u64::from(claim.items)));
        if items.fold(0, u64::saturating_add) > ITEMS_MAX {
            return self.wrong(Check::Draws, format!("more than {ITEMS_MAX} items are drawn from"));
        }
        for sequence in &more.open {
            let open = |claim: &&Claimed| claim.task.job == more.job && claim.waits() && claim.draw.is_some();
            let Some(claim) = self.claim(id(*sequence)).filter(open) else {
                unknown.insert(*sequence);
                continue;
            };
            workload = Some(claim.workload);
            let fresh = |item: &u32| claim.draw.as_ref().is_some_and(|draw| !draw.items.contains(item));
            undrawn.extend((0..claim.items).filter(fresh).map(|item| (*sequence, item)));
        }
        if let Some(sequence) = unknown.first() {
            let why = format!("{} is none that was drawn from in {} and is not final", id(*sequence), more.job);
            self.missing(Check::Draws, &[Kind::Receipt, Kind::AuditDrawn], why);
        }
        let known: BTreeSet<&(u64, u32)> = undrawn.iter().collect();
        if more.items.iter().any(|item| !known.contains(item) && !unknown.contains(&item.0)) {
            return self.wrong(Check::Draws, "items are drawn that are not there or were drawn before".into());
        }
        match workload {
            Some(workload) => self.count_drawn(more.device, workload, more.drawn_before, more.items.len()),
            None if unknown.is_empty() => return self.wrong(Check::Draws, "no claims are drawn from".into()),
            None => {}
        }
        for (sequence, item) in more.items.iter().filter(|(sequence, _)| !unknown.contains(sequence)) {
            self.draws.pending.entry(more.job).or_default().insert((id(*sequence), *item), vec![]);
            if let Some(draw) = self.claim_mut(id(*sequence)).and_then(|claim| claim.draw.as_mut()) {
                draw.items.insert(*item);
            }
        }
        if !unknown.is_empty() {
            return;
        }
        let (job, device, before, drawn) = (more.job, more.device, more.drawn_before, more.items.clone());
        self.keep_draw(more.period, Drawn::More { job, device, before, undrawn, drawn }, None);
    }

    fn count_drawn(&mut self, device: DeviceId, workload: Digest, said: u64, more: usize) {
        let standing = self.draws.standing(device, workload);
        let expected = standing.drawn;
        standing.drawn = said.max(expected).saturating_add(more as u64);
        if said != expected {
            let why = format!("it says {said} items of {device} were drawn before; there were {expected}");
            let kinds = &[Kind::Receipt, Kind::AuditDrawn, Kind::AuditDrawnMore, Kind::AuditOutcome];
            self.missing(Check::Draws, kinds, why);
        }
    }

    /// Keeps a draw until its secret is revealed. A claim's is that which was committed to last when it was accepted.
    fn keep_draw(&mut self, number: u64, what: Drawn, claim: Option<ClaimRef>) {
        let (index, file, current) = (self.index, self.file.clone(), self.draws.current);
        let Some(period) = self.draws.periods.get_mut(&number).filter(|period| !period.revealed) else {
            let why = format!("secret {number} is not committed to, or is revealed already");
            return self.missing(Check::Draws, &[Kind::SecretCommitted], why);
        };
        let fits = match claim {
            // Spot checks need not be drawn, so nothing was noted for them.
            Some(claim) => period.awaiting.remove(&claim).is_some() || current == Some(number),
            None => current == Some(number),
        };
        period.draws.push(Draw { index, file, what });
        if !fits {
            self.wrong(Check::Draws, format!("secret {number} was not the one in use: a pool must not choose"));
        }
    }

    pub(crate) fn audit_outcome(&mut self, outcome: &AuditOutcome) {
        let check = Check::Outcomes;
        if let Some(auditor) = outcome.auditor {
            let known = self.claim(auditor).is_some_and(|claim| claim.accepted);
            let strangers = !self.share_owner(auditor.device, outcome.of);
            let first = outcome.items.first().map(|item| ClaimRef { device: outcome.of, sequence: item.sequence });
            let spot =
                first.and_then(|id| self.claim(id)).is_some_and(|claim| claim.policy == VerificationPolicy::Spot);
            if !known {
                let why = format!("the auditor's {auditor} has no accepted receipt before it");
                self.missing(check, &[Kind::Receipt], why);
            }
            if auditor.device == outcome.of || !(strangers || spot) {
                return self.wrong(check, format!("{} was audited by its own owner", outcome.of));
            }
            self.claim_audits(auditor, &outcome.items);
        }
        for item in &outcome.items {
            self.item_outcome(outcome, item);
        }
    }

    fn share_owner(&self, one: DeviceId, other: DeviceId) -> bool {
        match (self.devices.get(&one), self.devices.get(&other)) {
            (Some(first), Some(second)) => one == other || first.owner == second.owner,
            _ => one == other,
        }
    }

    fn item_outcome(&mut self, outcome: &AuditOutcome, item: &AuditedItem) {
        let check = Check::Outcomes;
        let AuditedItem { sequence, item, finding } = *item;
        let id = ClaimRef { device: outcome.of, sequence };
        let Some(claim) = self.claim(id) else {
            return self.missing(check, &[Kind::Receipt], format!("{id} has no receipt"));
        };
        let (job, workload, rounds) = (claim.task.job, claim.workload, claim.rounds());
        let by = outcome.auditor.map(|auditor| auditor.device);
        let Some(before) = self.draws.pending.get(&job).and_then(|pending| pending.get(&(id, item))) else {
            let why = format!("item {item} of {id} was not drawn, or has an outcome already");
            return self.missing(check, &[Kind::AuditDrawn, Kind::AuditDrawnMore], why);
        };
        let first = before.is_empty();
        if before.iter().flatten().any(|other| by.is_some_and(|by| self.share_owner(*other, by))) {
            return self.wrong(check, format!("item {item} of {id} was checked by one owner's devices twice"));
        }
        let done = finding == Finding::Waived || before.len() + 1 >= rounds;
        if let Some(pending) = self.draws.pending.get_mut(&job) {
            match done {
                true => drop(pending.remove(&(id, item))),
                false => pending.entry((id, item)).or_default().push(by),
            }
        }
        if matches!((finding, by), (Finding::AuditorWrong | Finding::BothWrong, None)) {
            return self.wrong(check, "the pool audited itself and was wrong".into());
        }
        self.good(check);
        match finding {
            Finding::Agreed | Finding::AuditorWrong => {
                // In a quorum an item is audited once by all copies together.
                self.draws.standing(id.device, workload).survived += u64::from(first);
                if let Some(draw) = self.claim_mut(id).and_then(|claim| claim.draw.as_mut()) {
                    draw.survived += u32::from(first);
                    draw.agreements += 1;
                }
            }
            Finding::Waived if first => {
                let standing = self.draws.standing(id.device, workload);
                standing.drawn = standing.drawn.saturating_sub(1);
                if let Some(draw) = self.claim_mut(id).and_then(|claim| claim.draw.as_mut()) {
                    draw.items.remove(&item);
                }
            }
            Finding::Waived => {}
            Finding::ClaimWrong | Finding::BothWrong => {
                if let Some(claim) = self.claim_mut(id) {
                    claim.wrong = true;
                }
            }
        }
        let caught = |as_auditor, claim| Caught { index: self.index, file: self.file.clone(), as_auditor, claim };
        match (finding, outcome.auditor) {
            (Finding::ClaimWrong, _) => {
                let caught = caught(false, id);
                self.draws.evidence.insert((id, item, id.device), caught);
            }
            (Finding::AuditorWrong, Some(auditor)) => {
                let caught = caught(true, auditor);
                self.draws.evidence.insert((id, item, auditor.device), caught);
            }
            (Finding::BothWrong, Some(auditor)) => {
                let (of, by) = (caught(false, id), caught(true, auditor));
                self.draws.evidence.insert((id, item, id.device), of);
                self.draws.evidence.insert((id, item, auditor.device), by);
            }
            (Finding::Agreed | Finding::Waived | Finding::AuditorWrong | Finding::BothWrong, _) => {}
        }
    }

    /// A claim is voided: what was drawn of it needs no outcome any more, and should have been waived before.
    pub(crate) fn drop_pending(&mut self, id: ClaimRef) {
        let Some((job, workload)) = self.claim(id).map(|claim| (claim.task.job, claim.workload)) else { return };
        let Some(pending) = self.draws.pending.get_mut(&job) else { return };
        let items: Vec<(ClaimRef, u32)> = pending.range((id, 0)..=(id, u32::MAX)).map(|(item, _)| *item).collect();
        let dropped = items.into_iter().filter_map(|item| Some((item.1, pending.remove(&item)?)));
        let open: Vec<u32> = dropped.filter(|(_, by)| by.is_empty()).map(|(item, _)| item).collect();
        let standing = self.draws.standing(id.device, workload);
        standing.drawn = standing.drawn.saturating_sub(open.len() as u64);
        if let Some(item) = open.first() {
            let why = format!("{id} is voided and {} drawn items have no outcome: item {item}", open.len());
            self.missing(Check::Outcomes, &[Kind::AuditOutcome], why);
        }
    }

    pub(crate) fn device_convicted(&mut self, convicted: &DeviceConvicted) {
        let DeviceConvicted { device, evidence, item, as_auditor, .. } = convicted;
        let shown = self.draws.evidence.get(&(*evidence, *item, *device));
        if shown.is_none_or(|caught| caught.as_auditor != *as_auditor) {
            let why = format!("no outcome before it shows that {device} was wrong about item {item} of {evidence}");
            let kinds = &[Kind::Receipt, Kind::AuditDrawn, Kind::AuditDrawnMore, Kind::AuditOutcome];
            self.missing(Check::Convictions, kinds, why);
        } else {
            self.good(Check::Convictions);
        }
        match self.devices.get_mut(device) {
            Some(state) if !state.convicted => state.convicted = true,
            Some(_) => self.wrong(Check::Convictions, format!("{device} is convicted a second time")),
            None => self.missing(Check::Convictions, &[Kind::DeviceEnrolled], format!("{device} is not enrolled")),
        }
    }

    /// A job is settled: nothing that was drawn of it may be open.
    pub(crate) fn job_ended(&mut self, job: JobId) {
        let open = self.draws.pending.remove(&job).unwrap_or_default();
        if let Some((claim, item)) = open.keys().next() {
            let why =
                format!("{job} is settled and {} drawn items have no outcome: item {item} of {claim}", open.len());
            self.missing(Check::Outcomes, &[Kind::AuditOutcome, Kind::ClaimVoided], why);
        }
    }

    pub(crate) fn finish_draws(&mut self) {
        let waiting: u64 =
            self.draws.periods.values().map(|period| (period.draws.len() + period.awaiting.len()) as u64).sum();
        if waiting > 0 {
            (0..waiting).for_each(|_| self.uncheckable(Check::Draws));
            self.note(Check::Draws, "the draws of the last secrets can be checked once those are revealed");
        }
        let open: usize = self.draws.pending.values().map(BTreeMap::len).sum();
        if open > 0 {
            self.note(
                Check::Outcomes,
                format!("{open} drawn items of jobs that are not settled wait for their outcome"),
            );
        }
        for ((claim, item, device), caught) in std::mem::take(&mut self.draws.evidence) {
            let convicted = self.devices.get(&device).is_some_and(|device| device.convicted);
            let voided = self.claim(caught.claim).is_none_or(|claim| claim.voided);
            (self.index, self.file) = (caught.index, caught.file);
            if !convicted {
                let why = format!("{device} was wrong about item {item} of {claim} and is not convicted");
                self.missing(Check::Convictions, &[Kind::DeviceConvicted], why);
            } else if !voided {
                let why = format!("{} was found wrong and still counts", caught.claim);
                self.missing(Check::Convictions, &[Kind::Entry, Kind::ClaimVoided], why);
            } else {
                self.good(Check::Convictions);
            }
        }
    }
}

impl Drawn {
    /// Why this is not what the secret draws.
    fn follows(&self, secret: &Secret) -> Option<String> {
        match self {
            Self::Accepted { task, root, items, depth, before, drawn } => {
                let standing = Standing { drawn: *before, survived: 0 };
                let chance = draw_chance(secret, *task, root);
                let count = audits_due(standing, *items, Depth(*depth), chance);
                let expected = draw_items(secret, *task, root, *items, count);
                (expected != *drawn).then(|| format!("of {task} other items were drawn than the secret draws"))
            }
            Self::More { job, device, before, undrawn, drawn } => {
                let count = drawn.len() as u64;
                let places = draw_more(secret, *job, *device, *before, undrawn.len() as u64, count);
                let expected: Vec<(u64, u32)> = places.into_iter().map(|place| undrawn[place as usize]).collect();
                (expected != *drawn)
                    .then(|| format!("of {job} other items of {device} were drawn than the secret draws"))
            }
        }
    }
}
