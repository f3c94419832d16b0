//! What is checked of a job's results: which are not final, which of their items were drawn, which audits run.

use crate::state::{Catalog, Work};
use caii_model::*;
use caii_verify::{Depth, Record, Standing};
use std::collections::{BTreeMap, BTreeSet};

/// The checks of a job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Checks {
    /// The settled tasks that are not final.
    pub(crate) open: BTreeMap<TaskIndex, Checked>,
    pub(crate) finals: BTreeSet<TaskIndex>,
    /// Drawn items that are in no audit yet, by the device whose they are.
    pub(crate) drawn: BTreeMap<DeviceId, BTreeSet<ItemId>>,
    /// Audits, by their number among the job's tasks, which follow those of the job itself.
    pub(crate) audits: BTreeMap<TaskIndex, AuditState>,
    /// Audits of a whole task, by that task.
    pub(crate) copies: BTreeMap<TaskIndex, Vec<TaskIndex>>,
}

/// A settled task that is not final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) device: DeviceId,
    pub(crate) record: Record,
    pub(crate) drawn: BTreeSet<u32>,
    pub(crate) survived: BTreeSet<u32>,
    /// Audits with smaller numbers were of an earlier result of the task.
    pub(crate) since: TaskIndex,
}

/// An audit, from the moment that it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuditState {
    pub(crate) audit: Audit,
    /// Where its items are, once they are gathered.
    pub(crate) input: Option<(Digest, TaskInput)>,
    pub(crate) end: Option<AuditEnd>,
}

impl AuditState {
    /// How many items it has; of a whole task, those of the task.
    pub(crate) fn items(&self, work: &Work, scope: Scope) -> u32 {
        match &self.audit.subject {
            AuditSubject::Items(items) => items.len() as u32,
            AuditSubject::Task(task) => items_in(work.prepared.tasks[task.0 as usize].records, scope),
        }
    }

    /// The item at a place.
    pub(crate) fn item(&self, place: u32) -> Option<ItemId> {
        match &self.audit.subject {
            AuditSubject::Items(items) => items.get(place as usize).copied(),
            AuditSubject::Task(task) => Some(ItemId { task: *task, item: place }),
        }
    }
}

/// How many items so many records are.
pub(crate) fn items_in(records: u32, scope: Scope) -> u32 {
    match scope {
        Scope::Item { records: each } => records.div_ceil(each.max(1)),
        Scope::Task => 1,
    }
}

/// What makes a result final under this policy.
pub(crate) fn depth(verification: Verification) -> Depth {
    match verification {
        Verification::Audit { depth } => Depth(depth),
        Verification::Off | Verification::Spot | Verification::Quorum { .. } => Depth(0),
    }
}

impl Work {
    /// Where a task's input is: a part of the job's records, or gathered items of an audit.
    pub(crate) fn input(&self, index: TaskIndex) -> Option<(Digest, TaskInput)> {
        match self.prepared.tasks.get(index.0 as usize) {
            Some(input) => Some((self.prepared.blob, *input)),
            None => self.checks.audits.get(&index)?.input,
        }
    }

    /// Whether the task is an audit.
    pub(crate) fn is_audit(&self, index: TaskIndex) -> bool {
        index.0 as usize >= self.prepared.tasks.len()
    }

    /// Takes up one step of the checks.
    pub(crate) fn check(&mut self, index: TaskIndex, event: &CheckEvent) {
        match event {
            CheckEvent::Drawn { mark, items } => self.items_drawn(index, *mark, items),
            CheckEvent::Made(audit) => self.audit_made(index, audit),
            CheckEvent::Prepared(blob, input) => {
                let audit = self.checks.audits.get_mut(&index).expect("an audit that is prepared was made");
                audit.input = Some((*blob, *input));
                self.audit_opens(index);
            }
            CheckEvent::Ended(end) => self.audit_ended(index, end),
            CheckEvent::Final(_) => {
                self.checks.open.remove(&index);
                self.checks.finals.insert(index);
            }
        }
    }

    fn items_drawn(&mut self, index: TaskIndex, mark: u64, items: &[u32]) {
        let settled = self.settled.get(&index).expect("items are drawn of a settled task");
        let device = settled.device;
        let fresh = Record { items: settled.report.items, mark, drawn: 0, survived: 0 };
        let since = self.next_audit();
        let checked = self.checks.open.entry(index);
        let checked = checked.or_insert_with(|| Checked {
            device,
            record: fresh,
            drawn: BTreeSet::new(),
            survived: BTreeSet::new(),
            since,
        });
        for item in items {
            if checked.drawn.insert(*item) {
                checked.record.drawn += 1;
                self.checks.drawn.entry(device).or_default().insert(ItemId { task: index, item: *item });
            }
        }
    }

    fn audit_made(&mut self, index: TaskIndex, audit: &Audit) {
        let input = match &audit.subject {
            AuditSubject::Items(items) => {
                if let Some(waiting) = self.checks.drawn.get_mut(&audit.of) {
                    for item in items {
                        waiting.remove(item);
                    }
                    if waiting.is_empty() {
                        self.checks.drawn.remove(&audit.of);
                    }
                }
                None
            }
            AuditSubject::Task(task) => {
                if let Some(waiting) = self.checks.drawn.get_mut(&audit.of) {
                    waiting.retain(|item| item.task != *task);
                    if waiting.is_empty() {
                        self.checks.drawn.remove(&audit.of);
                    }
                }
                self.audit_opens(index);
                self.checks.copies.entry(*task).or_default().push(index);
                Some((self.prepared.blob, self.prepared.tasks[task.0 as usize]))
            }
        };
        self.checks.audits.insert(index, AuditState { audit: audit.clone(), input, end: None });
    }

    /// Devices may do it from now on, unless its result is there already: what is loaded comes in another order.
    fn audit_opens(&mut self, index: TaskIndex) {
        if !self.settled.contains_key(&index) && !self.given_up.contains(&index) {
            self.open.insert(index);
        }
    }

    fn audit_ended(&mut self, index: TaskIndex, end: &AuditEnd) {
        self.open.remove(&index);
        let audit = self.checks.audits.get_mut(&index).expect("an audit that ends was made");
        audit.end = Some(end.clone());
        let (audit, open) = (audit.clone(), &mut self.checks.open);
        let of = audit.audit.of;
        let mut each = |places: &[u32], note: fn(&mut Checked, u32)| {
            for item in places.iter().filter_map(|place| audit.item(*place)) {
                if let Some(checked) = open.get_mut(&item.task).filter(|checked| checked.device == of) {
                    note(checked, item.item);
                }
            }
        };
        each(&end.survived, |checked, item| {
            if checked.drawn.contains(&item) && checked.survived.insert(item) {
                checked.record.survived += 1;
            }
        });
        each(&end.waived, |checked, item| {
            if !checked.survived.contains(&item) && checked.drawn.remove(&item) {
                checked.record.drawn -= 1;
            }
        });
    }

    /// The task is to be done again, by whoever.
    pub(crate) fn void(&mut self, index: TaskIndex) {
        let settled = self.settled.remove(&index).expect("a voided task was settled");
        self.checks.open.remove(&index);
        self.checks.drawn.retain(|_, items| {
            items.retain(|item| item.task != index);
            !items.is_empty()
        });
        let records = u64::from(self.prepared.tasks[index.0 as usize].records);
        let failed = u64::from(settled.report.records_failed).min(records);
        self.totals.records_ok -= records - failed;
        self.totals.records_failed -= failed;
        self.totals.tasks_settled -= 1;
        // Sums that stop at the largest number cannot be taken back, so they are made anew.
        let own = || self.settled.range(..TaskIndex(self.prepared.tasks.len() as u32)).map(|(_, settled)| settled);
        self.totals.fuel = Fuel(own().fold(0, |sum, settled| sum.saturating_add(settled.report.fuel.0)));
        self.totals.cpu = Millis(own().fold(0, |sum, settled| sum.saturating_add(settled.report.cpu.0)));
        self.workers = own().map(|settled| settled.device).collect();
        self.totals.devices = self.workers.len() as u32;
        self.open.insert(index);
    }

    /// Audits that have not come to an end.
    pub(crate) fn audits_under_way(&self) -> impl Iterator<Item = (TaskIndex, &AuditState)> {
        self.checks.audits.iter().filter(|(_, audit)| audit.end.is_none()).map(|(index, audit)| (*index, audit))
    }

    /// How many drawn items of a device have not come back, in audits and before.
    pub(crate) fn outstanding(&self, device: DeviceId) -> u64 {
        let open = self.checks.open.values().filter(|checked| checked.device == device);
        open.map(|checked| u64::from(checked.record.drawn - checked.record.survived)).sum()
    }

    /// The number of the next audit.
    pub(crate) fn next_audit(&self) -> TaskIndex {
        let last = self.checks.audits.last_key_value().map(|(index, _)| index.0 + 1);
        TaskIndex(last.unwrap_or(self.prepared.tasks.len() as u32))
    }

    /// Devices that have checked all of a task and agreed.
    pub(crate) fn agreeing(&self, index: TaskIndex, items: u32) -> usize {
        let since = self.checks.open.get(&index).map_or(TaskIndex(0), |checked| checked.since);
        let agrees = |state: &&AuditState| {
            state.audit.subject == AuditSubject::Task(index)
                && state.end.as_ref().is_some_and(|end| end.survived.len() == items as usize)
        };
        self.checks.audits.range(since..).map(|(_, state)| state).filter(agrees).count()
    }

    /// Whether every task is done for good.
    pub(crate) fn is_complete(&self, verification: Verification) -> bool {
        let all_final = || self.checks.open.is_empty() && self.settled_own() == self.checks.finals.len();
        self.open.is_empty()
            && (verification == Verification::Off || (all_final() && self.audits_under_way().next().is_none()))
    }

    fn settled_own(&self) -> usize {
        self.settled.range(..TaskIndex(self.prepared.tasks.len() as u32)).count()
    }

    /// Whether tasks of the job itself are still to be done.
    pub(crate) fn has_own_tasks_open(&self) -> bool {
        self.open.first().is_some_and(|first| !self.is_audit(*first))
    }
}

impl Catalog {
    /// How a device stands for a workload.
    pub(crate) fn standing(&self, device: DeviceId, workload: Digest) -> Standing {
        self.standings.get(&(device, workload)).copied().unwrap_or_default()
    }
}
