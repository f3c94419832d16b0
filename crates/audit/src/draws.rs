//! Audits of results: that secrets were committed to before, that what was drawn follows from them, that others ran it
//! again, and what became of who was caught.

use crate::logged::{AuditDrawn, AuditDrawnMore, AuditOutcome, ClaimRef, DeviceConvicted, Finding, Kind};
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
    /// Items of a device and workload that were drawn.
    drawn: BTreeMap<(DeviceId, Digest), u64>,
    /// Items that wait for their outcome, by job.
    pending: BTreeMap<JobId, BTreeSet<(ClaimRef, u32)>>,
    /// What shows that somebody lied: the claim, the item, who.
    evidence: BTreeMap<(ClaimRef, u32, DeviceId), Caught>,
}

struct Caught {
    index: u64,
    file: String,
    as_auditor: bool,
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
        let Some(claim) = self.claim(id).filter(|claim| claim.settlement.is_some() && claim.drawn.is_none()) else {
            return self.missing(
                Check::Draws,
                &[Kind::Receipt],
                format!("{id} is not accepted, or was drawn from before"),
            );
        };
        let (task, root, items, policy, workload) = (claim.task, claim.root, claim.items, claim.policy, claim.workload);
        if u64::from(items) > ITEMS_MAX {
            return self.wrong(Check::Draws, format!("{id} has {items} items; at most {ITEMS_MAX} are drawn from"));
        }
        if !drawn.items.is_sorted_by(|a, b| a < b) || drawn.items.iter().any(|item| *item >= items) {
            return self.wrong(Check::Draws, format!("of {id} items are drawn that it does not have"));
        }
        self.count_drawn(id.device, workload, drawn.drawn_before, drawn.items.len());
        let chosen: BTreeSet<u32> = drawn.items.iter().copied().collect();
        self.draws.pending.entry(task.job).or_default().extend(chosen.iter().map(|item| (id, *item)));
        if let Some(claim) = self.claim_mut(id) {
            claim.drawn = Some(chosen);
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
        let mut workload = None;
        let items =
            more.open.iter().map(|sequence| self.claim(id(*sequence)).map_or(0, |claim| u64::from(claim.items)));
        if items.fold(0, u64::saturating_add) > ITEMS_MAX {
            return self.wrong(Check::Draws, format!("more than {ITEMS_MAX} items are drawn from"));
        }
        for sequence in &more.open {
            let Some(claim) = self.claim(id(*sequence)).filter(|claim| claim.task.job == more.job) else {
                let why = format!("{} is no claim of {}", id(*sequence), more.job);
                return self.missing(Check::Draws, &[Kind::Receipt], why);
            };
            workload = Some(claim.workload);
            let fresh = |item: &u32| claim.drawn.as_ref().is_none_or(|drawn| !drawn.contains(item));
            undrawn.extend((0..claim.items).filter(fresh).map(|item| (*sequence, item)));
        }
        let Some(workload) = workload else { return self.wrong(Check::Draws, "no claims are drawn from".into()) };
        let known: BTreeSet<&(u64, u32)> = undrawn.iter().collect();
        if more.items.iter().any(|item| !known.contains(item)) {
            return self.wrong(Check::Draws, "items are drawn that are not there or were drawn before".into());
        }
        self.count_drawn(more.device, workload, more.drawn_before, more.items.len());
        for (sequence, item) in &more.items {
            self.draws.pending.entry(more.job).or_default().insert((id(*sequence), *item));
            if let Some(claim) = self.claim_mut(id(*sequence)) {
                claim.drawn.get_or_insert_default().insert(*item);
            }
        }
        let (job, device, before, drawn) = (more.job, more.device, more.drawn_before, more.items.clone());
        self.keep_draw(more.period, Drawn::More { job, device, before, undrawn, drawn }, None);
    }

    fn count_drawn(&mut self, device: DeviceId, workload: Digest, said: u64, more: usize) {
        let count = self.draws.drawn.entry((device, workload)).or_default();
        let expected = *count;
        *count = said.max(expected).saturating_add(more as u64);
        if said != expected {
            let why = format!("it says {said} items of {device} were drawn before; there were {expected}");
            self.missing(Check::Draws, &[Kind::AuditDrawn, Kind::AuditDrawnMore, Kind::AuditOutcome], why);
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
            let known = self.claim(auditor).is_some();
            let strangers = match (self.devices.get(&auditor.device), self.devices.get(&outcome.of)) {
                (Some(one), Some(other)) => one.owner != other.owner,
                _ => true,
            };
            let first = outcome.items.first().map(|item| ClaimRef { device: outcome.of, sequence: item.sequence });
            let spot =
                first.and_then(|id| self.claim(id)).is_some_and(|claim| claim.policy == VerificationPolicy::Spot);
            if !known {
                return self.missing(
                    check,
                    &[Kind::Receipt],
                    format!("the auditor's {auditor} has no receipt before it"),
                );
            }
            if auditor.device == outcome.of || !(strangers || spot) {
                return self.wrong(check, format!("{} was audited by its own owner", outcome.of));
            }
        }
        for item in &outcome.items {
            let id = ClaimRef { device: outcome.of, sequence: item.sequence };
            let Some((job, workload)) = self.claim(id).map(|claim| (claim.task.job, claim.workload)) else {
                self.missing(check, &[Kind::Receipt], format!("{id} has no receipt"));
                continue;
            };
            let pending = self.draws.pending.get_mut(&job);
            if !pending.is_some_and(|pending| pending.remove(&(id, item.item))) {
                let why = format!("item {} of {id} was not drawn, or has an outcome already", item.item);
                self.missing(check, &[Kind::AuditDrawn, Kind::AuditDrawnMore], why);
                continue;
            }
            self.good(check);
            let caught = |as_auditor| Caught { index: self.index, file: self.file.clone(), as_auditor };
            match (item.finding, outcome.auditor) {
                (Finding::Agreed, _) => {}
                (Finding::Waived, _) => {
                    if let Some(count) = self.draws.drawn.get_mut(&(outcome.of, workload)) {
                        *count = count.saturating_sub(1);
                    }
                }
                (Finding::ClaimWrong, _) => {
                    let caught = caught(false);
                    self.draws.evidence.insert((id, item.item, outcome.of), caught);
                }
                (Finding::AuditorWrong, Some(auditor)) => {
                    let caught = caught(true);
                    self.draws.evidence.insert((id, item.item, auditor.device), caught);
                }
                (Finding::BothWrong, Some(auditor)) => {
                    let (of, by) = (caught(false), caught(true));
                    self.draws.evidence.insert((id, item.item, outcome.of), of);
                    self.draws.evidence.insert((id, item.item, auditor.device), by);
                }
                (Finding::AuditorWrong | Finding::BothWrong, None) => {
                    self.wrong(check, "the pool audited itself and was wrong".into())
                }
            }
        }
    }

    pub(crate) fn device_convicted(&mut self, convicted: &DeviceConvicted) {
        let DeviceConvicted { device, evidence, item, as_auditor, .. } = convicted;
        let shown = self.draws.evidence.get(&(*evidence, *item, *device));
        if shown.is_none_or(|caught| caught.as_auditor != *as_auditor) {
            let why = format!("no outcome before it shows that {device} was wrong about item {item} of {evidence}");
            self.missing(Check::Convictions, &[Kind::AuditOutcome], why);
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
        let pending = self.draws.pending.remove(&job).unwrap_or_default();
        let convicted = |device: DeviceId| self.devices.get(&device).is_some_and(|device| device.convicted);
        let open: Vec<(ClaimRef, u32)> = pending.into_iter().filter(|(claim, _)| !convicted(claim.device)).collect();
        if let Some((claim, item)) = open.first() {
            let why =
                format!("{job} is settled and {} drawn items have no outcome: item {item} of {claim}", open.len());
            self.missing(Check::Outcomes, &[Kind::AuditOutcome], why);
        }
    }

    pub(crate) fn finish_draws(&mut self) {
        let waiting: u64 =
            self.draws.periods.values().map(|period| (period.draws.len() + period.awaiting.len()) as u64).sum();
        if waiting > 0 {
            (0..waiting).for_each(|_| self.uncheckable(Check::Draws));
            self.note(Check::Draws, "the draws of the last secrets can be checked once those are revealed");
        }
        let open: usize = self.draws.pending.values().map(BTreeSet::len).sum();
        if open > 0 {
            self.note(
                Check::Outcomes,
                format!("{open} drawn items of jobs that are not settled wait for their outcome"),
            );
        }
        for ((claim, item, device), caught) in std::mem::take(&mut self.draws.evidence) {
            let convicted = self.devices.get(&device).is_some_and(|device| device.convicted);
            let voided = self.claim(claim).is_none_or(|claim| claim.voided || !claim.paid) || caught.as_auditor;
            (self.index, self.file) = (caught.index, caught.file);
            if !convicted {
                let why = format!("{device} was wrong about item {item} of {claim} and is not convicted");
                self.missing(Check::Convictions, &[Kind::DeviceConvicted], why);
            } else if !voided {
                let why = format!("{claim} was found wrong and still counts");
                self.missing(Check::Convictions, &[Kind::Entry], why);
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
