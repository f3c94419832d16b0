//! The log and the books in memory: the list of all entries, searched from its start or its end for every answer.

use crate::{JobPrice, LoggedReceipt, Paid, ReceiptQuery, ReceiptsOf, STATEMENT_LIMIT_MAX, StatementLine, Voided};
use caii_audit::{ClaimRef, Event, Logged};
use caii_ledger::{Entry, LedgerAccount, Purpose, TransferId};
use caii_model::*;
use std::collections::{BTreeMap, BTreeSet};

/// The log, and what must be there once.
#[derive(Debug, Default)]
pub(crate) struct Log {
    events: Vec<Event>,
    receipts: BTreeSet<ClaimRef>,
    voided: BTreeSet<ClaimRef>,
    transfers: BTreeMap<TransferId, u64>,
}

impl Log {
    pub(crate) fn events(&self) -> &[Event] {
        &self.events
    }

    pub(crate) fn push(&mut self, event: Event) -> Result<(), &'static str> {
        if self.events.last().is_some_and(|last| event.logged.at() < last.logged.at()) {
            return Err("it happened before the last entry of the log");
        }
        match &event.logged {
            Logged::Receipt(receipt) if !self.receipts.insert(claim_of(receipt)) => return Err("it is there already"),
            Logged::ClaimVoided { claim, .. } if !self.voided.insert(*claim) => return Err("it is there already"),
            Logged::Entry(entry) => {
                let fits = |transfer: &caii_ledger::Transfer| {
                    transfer.posting.amount > MicroCredits::ZERO && transfer.posting.debit != transfer.posting.credit
                };
                if !entry.transfers().all(|transfer| fits(&transfer)) {
                    return Err("its values do not fit the table");
                }
                if entry.transfers().any(|transfer| self.transfers.contains_key(&transfer.id())) {
                    return Err("it is there already");
                }
                let number = self.events.len() as u64;
                self.transfers.extend(entry.transfers().map(|transfer| (transfer.id(), number)));
            }
            _ => {}
        }
        self.events.push(event);
        Ok(())
    }

    /// Takes the last entry back.
    pub(super) fn pop(&mut self) {
        match self.events.pop().map(|event| event.logged) {
            Some(Logged::Receipt(receipt)) => _ = self.receipts.remove(&claim_of(&receipt)),
            Some(Logged::ClaimVoided { claim, .. }) => _ = self.voided.remove(&claim),
            Some(Logged::Entry(entry)) => {
                for transfer in entry.transfers() {
                    self.transfers.remove(&transfer.id());
                }
            }
            _ => {}
        }
    }

    fn numbered(&self) -> impl DoubleEndedIterator<Item = (u64, &Logged)> + ExactSizeIterator {
        self.events.iter().enumerate().map(|(number, event)| (number as u64, &event.logged))
    }

    pub(crate) fn logged(&self, from: u64, limit: usize) -> Vec<Event> {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        self.events.iter().skip(from).take(limit).cloned().collect()
    }

    pub(crate) fn entry_at(&self, at: Timestamp) -> u64 {
        self.events.iter().take_while(|event| event.logged.at() < at).count() as u64
    }

    pub(crate) fn receipts(&self, query: &ReceiptQuery) -> Vec<LoggedReceipt> {
        let wanted = |receipt: &Receipt| match &query.of {
            ReceiptsOf::Everybody => true,
            ReceiptsOf::Owner(owner) => receipt.owner == *owner,
            ReceiptsOf::Device(device) => receipt.claim.device == *device,
            ReceiptsOf::Job(job) => receipt.claim.task.job == *job,
        };
        let within = self.numbered().filter(|(number, _)| (query.from..query.until).contains(number));
        let mut found: Vec<(u64, &Receipt)> = within
            .filter_map(|(number, logged)| match logged {
                Logged::Receipt(receipt) if wanted(receipt) => Some((number, &**receipt)),
                _ => None,
            })
            .collect();
        if query.newest_first {
            found.reverse();
        }
        found.truncate(query.limit.min(ReceiptQuery::LIMIT_MAX));
        found.into_iter().map(|(number, receipt)| self.fate(number, receipt)).collect()
    }

    pub(crate) fn receipt(&self, device: DeviceId, sequence: u64) -> Option<LoggedReceipt> {
        self.numbered().find_map(|(number, logged)| match logged {
            Logged::Receipt(receipt) if claim_of(receipt) == (ClaimRef { device, sequence }) => {
                Some(self.fate(number, receipt))
            }
            _ => None,
        })
    }

    fn fate(&self, entry: u64, receipt: &Receipt) -> LoggedReceipt {
        let claim = claim_of(receipt);
        let voided = self.voided(claim);
        let transfer = Purpose::TaskAccepted(receipt.claim.task, claim.device).transfer_id(0);
        let counts = voided.is_none() && matches!(receipt.verdict, Verdict::Accepted(_));
        let paid = self.transfers.get(&transfer).filter(|_| counts);
        let paid = paid.map(|entry| Paid { entry: *entry, transfer, at: self.events[*entry as usize].logged.at() });
        LoggedReceipt { entry, receipt: receipt.clone(), paid, voided }
    }

    fn voided(&self, claim: ClaimRef) -> Option<Voided> {
        self.numbered().find_map(|(entry, logged)| match logged {
            Logged::ClaimVoided { claim: voided, reason, at } if *voided == claim => {
                Some(Voided { entry, reason: *reason, at: *at })
            }
            _ => None,
        })
    }

    /// `jobs` are those of the workload, newest first.
    pub(crate) fn receipts_of_jobs(&self, jobs: impl IntoIterator<Item = JobId>, limit: usize) -> Vec<Receipt> {
        let mut found = Vec::new();
        for job in jobs {
            found.extend(self.numbered().rev().filter_map(|(_, logged)| match logged {
                Logged::Receipt(receipt) if receipt.claim.task.job == job => Some(receipt.as_ref().clone()),
                _ => None,
            }));
        }
        let counts = |receipt: &Receipt| {
            matches!(receipt.verdict, Verdict::Accepted(_)) && !self.voided.contains(&claim_of(receipt))
        };
        found.retain(counts);
        found.truncate(limit);
        found
    }

    pub(crate) fn statement(&self, member: &Account, before: Option<u64>, limit: usize) -> Vec<StatementLine> {
        let account = LedgerAccount::Member(member.clone());
        let entries = self.numbered().filter_map(|(number, logged)| match logged {
            Logged::Entry(entry) => Some((number, entry)),
            _ => None,
        });
        let transfers = entries.flat_map(|(entry, posted)| posted.transfers().map(move |transfer| (entry, transfer)));
        let lines = (0..).zip(transfers).map(|(number, (entry, transfer))| StatementLine { number, entry, transfer });
        let wanted = |line: &StatementLine| {
            let posting = &line.transfer.posting;
            (posting.debit == account || posting.credit == account) && before.is_none_or(|before| line.number < before)
        };
        let mut lines: Vec<StatementLine> = lines.filter(wanted).collect();
        lines.reverse();
        lines.truncate(limit.min(STATEMENT_LIMIT_MAX));
        lines
    }

    pub(crate) fn job_price(&self, job: JobId) -> JobPrice {
        let mut price = JobPrice::default();
        for (_, logged) in self.numbered() {
            let Logged::Entry(entry) = logged else { continue };
            let escrow = LedgerAccount::Escrow(job);
            let of = |side: fn(&caii_ledger::Posting) -> &LedgerAccount| {
                entry.postings.iter().filter(|posting| *side(posting) == escrow).map(|posting| posting.amount.0).sum()
            };
            let (out, into): (i64, i64) = (of(|posting| &posting.debit), of(|posting| &posting.credit));
            match entry.purpose {
                Purpose::JobReserved(_) => price.reserved.0 += into,
                Purpose::JobReturned(_) => price.returned.0 += out,
                _ => price.charged.0 += out - into,
            }
        }
        price
    }

    pub(crate) fn posted(&self, id: TransferId) -> Option<(u64, Entry)> {
        let number = *self.transfers.get(&id)?;
        match &self.events[number as usize].logged {
            Logged::Entry(entry) => Some((number, entry.clone())),
            _ => None,
        }
    }
}

fn claim_of(receipt: &Receipt) -> ClaimRef {
    ClaimRef { device: receipt.claim.device, sequence: receipt.claim.sequence }
}
