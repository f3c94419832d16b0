//! What becomes of accepted claims: paid once they are final, or voided before they are.

use crate::logged::{AuditedItem, ClaimRef, Finding, Kind};
use crate::report::Check;
use crate::walk::Walk;
use caii_ledger::LedgerAccount;
use caii_model::{DeviceId, Digest, JobId, MicroCredits, Settlement, TaskId, VerificationPolicy, VoidReason};
use caii_verify::{Depth, Record, Standing};
use std::collections::{BTreeMap, BTreeSet};

/// Entries without which nobody can tell whether a claim is final.
const AUDITS: &[Kind] = &[Kind::Receipt, Kind::AuditDrawn, Kind::AuditDrawnMore, Kind::AuditOutcome];
/// Entries that end a claim's wait.
const ENDS: &[Kind] = &[Kind::Entry, Kind::ClaimVoided];

/// A claim that was decided.
pub(crate) struct Claimed {
    pub(crate) index: u64,
    pub(crate) task: TaskId,
    pub(crate) workload: Digest,
    pub(crate) root: Digest,
    pub(crate) items: u32,
    pub(crate) policy: VerificationPolicy,
    /// Whether any of its fuel is its requester's. Otherwise it was run to audit others.
    pub(crate) own: bool,
    /// By its receipt.
    pub(crate) accepted: bool,
    /// What it earns and costs; nothing if it is void, or if nobody can say.
    pub(crate) settlement: Option<Settlement>,
    /// Its payment: how often its device had been released before.
    pub(crate) paid: Option<u64>,
    /// It was accepted and counts no more.
    pub(crate) voided: bool,
    /// What was drawn of it, if it was drawn from.
    pub(crate) draw: Option<DrawnFrom>,
    /// An audit of it found it wrong.
    pub(crate) wrong: bool,
    pub(crate) audits: Audits,
}

/// What was drawn of a claim, and what came of it.
pub(crate) struct DrawnFrom {
    /// How many items of its device and workload had been drawn before.
    pub(crate) mark: u64,
    pub(crate) depth: Depth,
    /// Which items, without those that were waived.
    pub(crate) items: BTreeSet<u32>,
    /// Of these, how many were found right.
    pub(crate) survived: u32,
    /// How often: in a quorum by every copy.
    pub(crate) agreements: u64,
}

/// What a claim said of others.
#[derive(Default)]
pub(crate) struct Audits {
    /// An outcome is by it.
    ended: bool,
    /// And says something of an item.
    decided: bool,
    /// It was wrong itself.
    wrong: bool,
}

/// What the report says of claims besides what is good and what is wrong.
#[derive(Default)]
pub(crate) struct Told {
    /// Claims that were voided although nobody is convicted.
    voided: BTreeMap<VoidReason, u64>,
    /// Audits that were paid and decided nothing.
    idle: u64,
}

impl Claimed {
    /// Whether it is accepted, and neither paid nor voided.
    pub(crate) fn waits(&self) -> bool {
        self.accepted && self.paid.is_none() && !self.voided
    }

    /// Whether a payment would move any credits.
    pub(crate) fn owes(&self) -> bool {
        self.settlement
            .is_some_and(|owed| owed.price.total > MicroCredits::ZERO || owed.reward.total > MicroCredits::ZERO)
    }

    /// How many outcomes each drawn item has.
    pub(crate) fn rounds(&self) -> usize {
        match self.policy {
            VerificationPolicy::Quorum { copies } => copies as usize - 1,
            VerificationPolicy::Audit | VerificationPolicy::Spot => 1,
        }
    }

    /// Why it is not final, when its device has survived so many audits of the workload.
    fn not_final(&self, survived: u64) -> Option<&'static str> {
        if self.wrong {
            return Some("an audit found it wrong");
        }
        if self.audits.wrong {
            return Some("it was wrong about what it audited");
        }
        let audited = (!self.audits.ended).then_some("no outcome is by it");
        match (self.policy, &self.draw) {
            (VerificationPolicy::Quorum { .. }, None) => audited,
            (VerificationPolicy::Audit | VerificationPolicy::Spot, _) if !self.own => audited,
            (VerificationPolicy::Audit, None) => Some("nothing was drawn of it"),
            // With nobody to ask, nothing is drawn.
            (VerificationPolicy::Spot, None) => None,
            (VerificationPolicy::Quorum { .. }, Some(draw)) => {
                let agree = u64::from(self.items) * self.rounds() as u64;
                (draw.agreements != agree).then_some("not every copy of it agreed")
            }
            (VerificationPolicy::Audit | VerificationPolicy::Spot, Some(draw)) => {
                let DrawnFrom { mark, depth, ref items, survived: right, .. } = *draw;
                let drawn = items.len() as u32;
                let record = Record { items: self.items, mark, drawn, survived: right };
                // What else was drawn of its device makes no difference.
                match record.is_final(Standing { drawn: 0, survived }, depth) {
                    true => None,
                    false if right < drawn => Some("drawn items of it have no outcome"),
                    false => Some("too few audits of its device agreed that were drawn with it or later"),
                }
            }
        }
    }
}

impl Walk<'_> {
    pub(crate) fn claim(&self, claim: ClaimRef) -> Option<&Claimed> {
        self.devices.get(&claim.device)?.claims.get(&claim.sequence)
    }

    pub(crate) fn claim_mut(&mut self, claim: ClaimRef) -> Option<&mut Claimed> {
        self.devices.get_mut(&claim.device)?.claims.get_mut(&claim.sequence)
    }

    fn is_convicted(&self, device: DeviceId) -> bool {
        self.devices.get(&device).is_some_and(|device| device.convicted)
    }

    fn not_final(&self, id: ClaimRef) -> Option<&'static str> {
        let claim = self.claim(id)?;
        claim.not_final(self.draws.survived(id.device, claim.workload))
    }

    /// A claim was accepted: it waits until it is paid or voided.
    pub(crate) fn claim_waits(&mut self, id: ClaimRef) {
        let owing = self.claim(id).filter(|claim| claim.owes()).map(|claim| claim.task.job);
        if let Some(job) = owing {
            self.waiting.entry(job).or_default().insert(id);
        }
    }

    fn waits_no_more(&mut self, id: ClaimRef) {
        let Some(job) = self.claim(id).map(|claim| claim.task.job) else { return };
        if let Some(waiting) = self.waiting.get_mut(&job) {
            waiting.remove(&id);
        }
    }

    /// An auditor's claim has come to this.
    pub(crate) fn claim_audits(&mut self, auditor: ClaimRef, items: &[AuditedItem]) {
        let Some(claim) = self.claim_mut(auditor) else { return };
        claim.audits.ended = true;
        claim.audits.decided |= items.iter().any(|item| item.finding != Finding::Waived);
        claim.audits.wrong |=
            items.iter().any(|item| matches!(item.finding, Finding::AuditorWrong | Finding::BothWrong));
    }

    /// The entry that is looked at pays a claim.
    pub(crate) fn claim_paid(&mut self, id: ClaimRef) {
        if self.is_convicted(id.device) {
            self.wrong(Check::Convictions, format!("{id} is paid after its device was convicted"));
        }
        match self.not_final(id) {
            None => self.good(Check::Finality),
            Some(why) => self.missing(Check::Finality, AUDITS, format!("{id} is paid and is not final: {why}")),
        }
        self.waits_no_more(id);
        let Some(device) = self.devices.get_mut(&id.device) else { return };
        let Some(claim) = device.claims.get_mut(&id.sequence) else { return };
        claim.paid = Some(device.releases);
        if let Some(draw) = &mut claim.draw {
            // Nothing of it is drawn or comes back any more.
            draw.items = BTreeSet::new();
        }
        if let Some(settlement) = claim.settlement {
            device.held = device.held.checked_add(settlement.reward.held).unwrap_or(MicroCredits::MAX);
        }
        self.told.idle += u64::from(claim.audits.ended && !claim.audits.decided);
    }

    /// The entry that is looked at takes back what a claim was paid.
    pub(crate) fn claim_refunded(&mut self, id: ClaimRef) {
        let Some(device) = self.devices.get_mut(&id.device) else { return };
        let Some(claim) = device.claims.get_mut(&id.sequence) else { return };
        if let (Some(settlement), Some(releases)) = (claim.settlement, claim.paid) {
            // What is held back was never the owner's.
            let held = if releases == device.releases { settlement.reward.held } else { MicroCredits::ZERO };
            let paid = settlement.reward.total.checked_sub(held);
            device.paid_for_void =
                paid.and_then(|paid| device.paid_for_void.checked_add(paid)).unwrap_or(MicroCredits::MAX);
        }
        self.waits_no_more(id);
        self.counts_no_more(id);
    }

    fn counts_no_more(&mut self, id: ClaimRef) {
        let Some(claim) = self.claim_mut(id) else { return };
        claim.voided = true;
        let task = claim.task;
        if let Some(claims) = self.accepted.get_mut(&task) {
            claims.retain(|other| *other != id);
        }
    }

    pub(crate) fn claim_voided(&mut self, id: ClaimRef, reason: VoidReason) {
        let check = Check::Finality;
        let Some(claim) = self.claim(id).filter(|claim| claim.accepted) else {
            let why = format!("no accepted receipt of {id} stands before it");
            return self.missing(check, &[Kind::Receipt], why);
        };
        let why = match (claim.voided, claim.paid) {
            (true, _) => Some("is void already"),
            (false, Some(_)) => Some("is paid: what was paid is taken back in the ledger"),
            (false, None) => None,
        };
        if let Some(why) = why {
            return self.wrong(check, format!("{id} {why}"));
        }
        let convicted = self.is_convicted(id.device);
        match reason {
            VoidReason::Wrong | VoidReason::Distrusted | VoidReason::Outvoted if convicted => self.good(check),
            VoidReason::Wrong | VoidReason::Distrusted => {
                let why = format!("{id} is voided as `{}` and its device is not convicted", reason.as_str());
                self.missing(Check::Convictions, &[Kind::DeviceConvicted], why);
            }
            VoidReason::Outvoted
            | VoidReason::Late
            | VoidReason::JobEnded
            | VoidReason::Lease
            | VoidReason::Malformed
            | VoidReason::Meter
            | VoidReason::Quarantined
            | VoidReason::Undecided => {
                self.uncheckable(check);
                *self.told.voided.entry(reason).or_default() += 1;
            }
        }
        self.drop_pending(id);
        self.waits_no_more(id);
        self.counts_no_more(id);
        if let Some(draw) = self.claim_mut(id).and_then(|claim| claim.draw.as_mut()) {
            draw.items = BTreeSet::new();
        }
    }

    /// A job is settled: no claim of it waits any more.
    pub(crate) fn job_paid(&mut self, job: JobId) {
        for id in self.waiting.remove(&job).unwrap_or_default() {
            self.never_ended(id, "its job is settled");
        }
    }

    fn never_ended(&mut self, id: ClaimRef, although: &str) {
        let Some(index) = self.claim(id).map(|claim| claim.index) else { return };
        let why = format!("{id} is accepted and neither paid nor voided, and {although}");
        self.missing_at(Check::Finality, ENDS, index, why);
    }

    pub(crate) fn finish_claims(&mut self) {
        let (mut waiting, mut ready) = (0u64, 0u64);
        for (job, ids) in std::mem::take(&mut self.waiting) {
            let nothing_left = self.money.ledger.balance(&LedgerAccount::Escrow(job)) == MicroCredits::ZERO;
            for id in ids {
                let settlement = self.claim(id).and_then(|claim| claim.settlement);
                let costs = settlement.is_some_and(|settlement| settlement.price.total > MicroCredits::ZERO);
                if self.money.is_returned(job) {
                    self.never_ended(id, "its job is settled");
                } else if costs && nothing_left {
                    self.never_ended(id, "nothing is left in the escrow of its job");
                } else if self.is_convicted(id.device) {
                    self.never_ended(id, "its device is convicted");
                } else {
                    waiting += 1;
                    ready += u64::from(self.not_final(id).is_none());
                }
            }
        }
        if waiting > 0 {
            let note = format!("{waiting} accepted claims of jobs that are not settled wait to be paid or voided");
            self.note(Check::Finality, note);
        }
        if ready > 0 {
            self.note(Check::Finality, format!("{ready} of those that wait are final: the pool should have paid them"));
        }
        let voided = std::mem::take(&mut self.told.voided);
        if !voided.is_empty() {
            let each: Vec<String> =
                voided.iter().map(|(reason, count)| format!("{count} {}", reason.as_str())).collect();
            let note =
                format!("accepted claims were voided by the pool's word, nobody being guilty: {}", each.join(", "));
            self.note(Check::Finality, note);
        }
        if self.told.idle > 0 {
            let note = format!("{} audits were paid that decided nothing", self.told.idle);
            self.note(Check::Finality, note);
        }
    }
}
