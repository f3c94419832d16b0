//! Stores that break one promise each. The suite must find every one of them out.

use super::check;
use crate::{
    BookQueries, Epoch, JobPrice, JobQuery, LoggedReceipt, MemoryStore, ReceiptQuery, Snapshot, StatementLine, Store,
    StoreError,
};
use caii_audit::Event;
use caii_coordinator::{Attempt, Change, JobRecord, PayoutDraft};
use caii_ledger::{Entry, LedgerAccount, PayoutRun, TransferId};
use caii_model::*;
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    /// The last change of each commit that has several is lost.
    LosesAChange,
    /// What came before a contradiction stays.
    WritesHalf,
    /// Nobody is ever deposed.
    HasNoFence,
    /// A loaded ticket counts its uses already, and then each enrolment counts once more.
    CountsUsesTwice,
    /// Changes of the same job are given in another order.
    ReordersAttempts,
    /// Ids of what is gone are given again.
    ForgetsIds,
    /// A page of jobs starts with the one that the last ended with.
    OverlapsPages,
    /// Synchronous requests are listed.
    ListsEverything,
    /// A commit counts only for as long as the handle lives.
    ForgetsAtReopening,
    /// What was held back is free after a restart.
    ForgetsHoldbacks,
    /// The last claim that counts is forgotten at a restart.
    ForgetsClaims,
    /// What stands beside entries of the log is lost.
    LosesAttachments,
    /// An entry at a time is not among those at or after it.
    LooksPastATime,
    /// Receipts that were voided later look as if they counted.
    ForgetsVoids,
    /// What a member got is not on the statement.
    StatesSpendingAlone,
}

struct Broken {
    inner: MemoryStore,
    flaw: Flaw,
}

impl Store for Broken {
    fn acquire(&mut self) -> Result<Epoch, StoreError> {
        self.inner.acquire()
    }

    fn load(&mut self) -> Result<Snapshot, StoreError> {
        let mut snapshot = self.inner.load()?;
        match self.flaw {
            Flaw::CountsUsesTwice => {
                let mut uses = BTreeMap::<TicketId, u32>::new();
                for change in &snapshot.changes {
                    if let Change::DeviceEnrolled(_, ticket) = change {
                        *uses.entry(*ticket).or_default() += 1;
                    }
                }
                for change in &mut snapshot.changes {
                    if let Change::TicketIssued(ticket) = change {
                        ticket.uses += uses.get(&ticket.id).copied().unwrap_or(0);
                    }
                }
            }
            Flaw::ReordersAttempts => {
                let is_attempt = |change: &Change| matches!(change, Change::AttemptFailed(..));
                let places: Vec<usize> =
                    (0..snapshot.changes.len()).filter(|place| is_attempt(&snapshot.changes[*place])).collect();
                for (first, last) in places.iter().zip(places.iter().rev()) {
                    if first < last && job_of(&snapshot.changes[*first]) == job_of(&snapshot.changes[*last]) {
                        snapshot.changes.swap(*first, *last);
                    }
                }
            }
            Flaw::ForgetsIds => snapshot.next = Default::default(),
            Flaw::ForgetsHoldbacks | Flaw::ForgetsClaims => {
                for change in &mut snapshot.changes {
                    let Change::Carried(carried) = change else { continue };
                    match self.flaw {
                        Flaw::ForgetsHoldbacks => {
                            carried.devices.iter_mut().for_each(|(_, account)| account.held = MicroCredits::ZERO);
                        }
                        _ => _ = carried.receipts.pop(),
                    }
                }
            }
            _ => {}
        }
        Ok(snapshot)
    }

    fn commit(&mut self, fence: Epoch, changes: &[Change]) -> Result<(), StoreError> {
        if self.flaw == Flaw::LosesAChange && changes.len() > 1 {
            return self.inner.commit(fence, &changes[..changes.len() - 1]);
        }
        match (self.inner.commit(fence, changes), self.flaw) {
            (Err(StoreError::Deposed { current, .. }), Flaw::HasNoFence) => self.inner.commit(current, changes),
            (Err(error @ StoreError::Contradiction { .. }), Flaw::WritesHalf) => {
                for change in changes {
                    if self.inner.commit(fence, std::slice::from_ref(change)).is_err() {
                        break;
                    }
                }
                Err(error)
            }
            (result, _) => result,
        }
    }

    fn job(&mut self, id: JobId) -> Result<Option<JobRecord>, StoreError> {
        self.inner.job(id)
    }

    fn jobs(&mut self, query: &JobQuery) -> Result<Vec<JobRecord>, StoreError> {
        let mut jobs = self.inner.jobs(query)?;
        match self.flaw {
            Flaw::OverlapsPages => {
                let before = query.before.map(|id| JobId(id.0.saturating_add(1)));
                return self.inner.jobs(&JobQuery { before, ..query.clone() });
            }
            Flaw::ListsEverything if query.owner.is_none() && !query.batches_only && query.limit > 3 => {
                let last = query.before.map_or(100, |id| id.0.min(100));
                jobs = Vec::new();
                for id in (0..last).rev() {
                    jobs.extend(self.inner.job(JobId(id))?);
                }
            }
            _ => {}
        }
        Ok(jobs)
    }

    fn attempts(&mut self, job: JobId, limit: usize) -> Result<Vec<(TaskIndex, Attempt)>, StoreError> {
        self.inner.attempts(job, limit)
    }

    fn settled(&mut self, job: JobId) -> Result<Vec<(TaskIndex, Settled)>, StoreError> {
        self.inner.settled(job)
    }

    fn logged(&mut self, from: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        let mut events = self.inner.logged(from, limit)?;
        if self.flaw == Flaw::LosesAttachments {
            events.iter_mut().for_each(|event| event.attachment.clear());
        }
        Ok(events)
    }

    fn books(&mut self) -> &mut dyn BookQueries {
        self
    }
}

impl BookQueries for Broken {
    fn entry_at(&mut self, at: Timestamp) -> Result<u64, StoreError> {
        let later = u64::from(self.flaw == Flaw::LooksPastATime);
        self.inner.entry_at(Timestamp(at.0.saturating_add(later)))
    }

    fn receipts(&mut self, query: &ReceiptQuery) -> Result<Vec<LoggedReceipt>, StoreError> {
        let mut receipts = self.inner.receipts(query)?;
        if self.flaw == Flaw::ForgetsVoids {
            receipts.iter_mut().for_each(|receipt| receipt.voided = None);
        }
        Ok(receipts)
    }

    fn receipt(&mut self, device: DeviceId, sequence: u64) -> Result<Option<LoggedReceipt>, StoreError> {
        self.inner.receipt(device, sequence)
    }

    fn receipts_of_workload(&mut self, workload: Digest, limit: usize) -> Result<Vec<Receipt>, StoreError> {
        self.inner.receipts_of_workload(workload, limit)
    }

    fn statement(
        &mut self,
        member: &Account,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<StatementLine>, StoreError> {
        let mut lines = self.inner.statement(member, before, limit)?;
        if self.flaw == Flaw::StatesSpendingAlone {
            let member = LedgerAccount::Member(member.clone());
            lines.retain(|line| line.transfer.posting.debit == member);
        }
        Ok(lines)
    }

    fn job_price(&mut self, job: JobId) -> Result<JobPrice, StoreError> {
        self.inner.job_price(job)
    }

    fn payout(&mut self, run: PayoutRun) -> Result<Option<PayoutDraft>, StoreError> {
        self.inner.payout(run)
    }

    fn posted(&mut self, id: TransferId) -> Result<Option<(u64, Entry)>, StoreError> {
        self.inner.posted(id)
    }
}

fn job_of(change: &Change) -> Option<JobId> {
    match change {
        Change::AttemptFailed(task, _) => Some(task.job),
        _ => None,
    }
}

#[test]
fn the_suite_finds_every_flaw() {
    let flaws = [
        Flaw::LosesAChange,
        Flaw::WritesHalf,
        Flaw::HasNoFence,
        Flaw::CountsUsesTwice,
        Flaw::ReordersAttempts,
        Flaw::ForgetsIds,
        Flaw::OverlapsPages,
        Flaw::ListsEverything,
        Flaw::ForgetsAtReopening,
        Flaw::ForgetsHoldbacks,
        Flaw::ForgetsClaims,
        Flaw::LosesAttachments,
        Flaw::LooksPastATime,
        Flaw::ForgetsVoids,
        Flaw::StatesSpendingAlone,
    ];
    for flaw in flaws {
        // Each is found by some seed of the few that every store is put to.
        let found = (0..super::SEEDS_FEW).any(|seed| {
            let pool = MemoryStore::new();
            let mut open = || -> Box<dyn Store> {
                let inner = if flaw == Flaw::ForgetsAtReopening { MemoryStore::new() } else { pool.clone() };
                Box::new(Broken { inner, flaw })
            };
            check(seed, super::STEPS, &mut open).is_err()
        });
        assert!(found, "{flaw:?} was not found");
    }
}
