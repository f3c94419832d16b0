//! Who lies about what. An item's value is 0 when it is right; any other value is a lie, and two results of an item agree
//! when their values do.

use crate::coordinator::honest_report;
use crate::world::{Event, World};
use caii_coordinator::{AuditView, Finding, Input};
use caii_model::*;
use std::collections::BTreeMap;

/// How a device lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Liar {
    /// Items that it falsifies, of a thousand.
    pub per_mille: u32,
    /// Whether it knows the others: they falsify alike and vouch for each other.
    pub colludes: bool,
}

/// The value of an item on which those who collude have agreed.
const AGREED: u64 = 1;

/// What was ever falsified: by the result's address and the item's place in it.
#[derive(Debug, Default)]
pub(crate) struct Lies {
    values: BTreeMap<Digest, BTreeMap<u32, u64>>,
}

impl Lies {
    /// The value of an item.
    pub(crate) fn value(&self, result: &Digest, place: u32) -> u64 {
        self.values.get(result).and_then(|values| values.get(&place)).copied().unwrap_or(0)
    }

    /// Whether a result is one of these.
    pub(crate) fn told(&self, result: &Digest) -> bool {
        self.values.contains_key(result)
    }

    /// The report of a task with these values.
    fn report(&mut self, input: &TaskInput, values: BTreeMap<u32, u64>) -> TaskReport {
        let honest = honest_report(input);
        if values.is_empty() {
            return honest;
        }
        let told: Vec<u8> = values
            .iter()
            .flat_map(|(place, value)| [place.to_le_bytes().to_vec(), value.to_le_bytes().to_vec()].concat())
            .collect();
        let root = Digest::of_fields("a lie", &[&input.digest.0, &told]);
        self.values.insert(root, values);
        TaskReport { root, result: root, ..honest }
    }
}

impl World {
    /// What a device reports of a task that it has run, or says that it has.
    pub(crate) fn told_of(&mut self, liar: Option<Liar>, lease: &Lease) -> TaskReport {
        let Some(liar) = liar else { return honest_report(&lease.input) };
        let view = self.node.process.as_ref().and_then(|process| process.coordinator.audit(lease.task));
        let mut values = BTreeMap::new();
        for place in 0..lease.input.records {
            let claim = view
                .as_ref()
                .and_then(|view| view.items.get(place as usize))
                .and_then(|item| item.claim.map(|result| self.lies.value(&result, item.id.item)));
            let value = match claim {
                // It knows what its fellows said, and nothing gives others away.
                Some(AGREED) if liar.colludes => AGREED,
                _ if !self.rng.chance(liar.per_mille) => 0,
                _ if liar.colludes => AGREED,
                _ => 2 + self.rng.bits() % (u64::MAX - 2),
            };
            if value != 0 {
                values.insert(place, value);
            }
        }
        self.lies.report(&lease.input, values)
    }

    fn audit_view(&self, process: u64, task: TaskId) -> Option<AuditView> {
        let current = self.node.process.as_ref().filter(|current| current.id() == process)?;
        current.coordinator.audit(task)
    }

    /// The shell has gathered an audit's items.
    pub(crate) fn gathered(&mut self, process: u64, task: TaskId) {
        let Some(view) = self.audit_view(process, task) else { return };
        let Some(first) = view.items.first() else { return self.object(format!("{task} audits nothing")) };
        let mut digest = first.input.digest;
        digest.0[1..5].copy_from_slice(&task.index.0.to_le_bytes());
        digest.0[6] = 1;
        let records = view.items.len() as u32;
        let input = TaskInput { digest, offset: 0, len: 10 * records, records };
        self.arrives(crate::coordinator::Origin::Nobody, Input::AuditGathered(task, digest, input));
    }

    /// The shell has compared an audit with what it checks.
    pub(crate) fn compared(&mut self, process: u64, task: TaskId) {
        let Some(view) = self.audit_view(process, task) else { return };
        let Some(result) = view.result else { return self.object(format!("{task} is compared without a result")) };
        let differs = |(place, item): &(u32, &caii_coordinator::AuditedItem)| {
            item.claim.is_none_or(|claim| self.lies.value(&claim, item.id.item) != self.lies.value(&result, *place))
        };
        let differ = (0..).zip(&view.items).filter(differs).map(|(place, _)| place).collect();
        self.arrives(crate::coordinator::Origin::Nobody, Input::AuditCompared(task, differ));
    }

    /// The pool's own executor has run items of an audit, or cannot.
    pub(crate) fn refereed(&mut self, process: u64, task: TaskId, places: Vec<u32>) {
        let Some(view) = self.audit_view(process, task) else { return };
        let find = |place: u32| {
            let item = view.items.get(place as usize)?;
            let claim_right = self.lies.value(&item.claim?, item.id.item) == 0;
            let auditor_right = view.result.map(|result| self.lies.value(&result, place) == 0);
            Some(Finding { place, claim_right, auditor_right })
        };
        let findings: Vec<Finding> = places.into_iter().filter_map(find).collect();
        let fails = !self.healed && self.rng.chance(100);
        let findings = if fails { Err("the pool's own runner died".into()) } else { Ok(findings) };
        self.arrives(crate::coordinator::Origin::Nobody, Input::AuditRefereed(task, findings));
    }

    /// The shell begins one of the jobs that checks ask of it.
    pub(crate) fn begin_check(&mut self, event: Event) {
        let delay = self.rng.between(5, 2_000);
        self.after(delay, event);
    }
}
