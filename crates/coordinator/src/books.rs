//! What is known of credits, claims and the pool's log. All of it follows from what was logged.

use crate::state::Catalog;
use caii_audit::{ClaimRef, Event, Logged, PoolOpened};
use caii_ledger::{CreditLimit, Entry, Ledger, LedgerAccount, Outcome, PayoutRun, Purpose, TransferKind};
use caii_model::*;
use std::collections::{BTreeMap, BTreeSet};

/// The pool's books: equal after replaying the same entries of the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Books {
    /// Entries of the log so far: the number of the next one.
    pub(crate) size: u64,
    /// When the last one happened: none before it can follow.
    pub(crate) last: Timestamp,
    /// What the log says the pool is. Until it is opened nothing is logged.
    pub(crate) opened: Option<PoolOpened>,
    /// All that were ever enacted, by number.
    pub(crate) tariffs: Vec<Tariff>,
    /// Envelopes of certifications in the log.
    pub(crate) certificates: BTreeSet<Digest>,
    pub(crate) ledger: Ledger,
    /// The last secret that was revealed.
    pub(crate) secret_revealed: u64,
    pub(crate) devices: BTreeMap<DeviceId, DeviceAccount>,
    /// Claims of open jobs that count.
    pub(crate) claims: BTreeMap<TaskId, Claimed>,
    /// The same by their number.
    pub(crate) tasks: BTreeMap<ClaimRef, TaskId>,
    /// How often each member asked to be paid out.
    pub(crate) payout_requests: BTreeMap<Account, u64>,
    /// What of each payout run is not settled.
    pub(crate) payouts: BTreeMap<PayoutRun, BTreeMap<Account, MicroCredits>>,
    /// The last run that was sent.
    pub(crate) payout_last: u64,
}

/// A device's claims in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceAccount {
    /// Claims that were decided: the last one's number.
    pub decided: u64,
    /// Of these, those that were accepted, voided later or not.
    pub accepted: u64,
    /// What payments held back and nothing released.
    pub held: MicroCredits,
    /// How often what was held back was released.
    pub releases: u64,
}

/// An accepted claim of an open job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claimed {
    /// Which.
    pub(crate) claim: ClaimRef,
    /// Who pays what for it once it is final.
    pub(crate) settlement: Settlement,
}

/// What a store that does not keep every change in memory hands to a coordinator at its start: the books as of now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Carried {
    /// Entries of the log so far.
    pub size: u64,
    /// When the last one happened.
    pub last: Timestamp,
    /// What it is for the whole pool: [`Logged::PoolOpened`], [`Logged::TariffEnacted`], [`Logged::WorkloadCertified`] and
    /// [`Logged::PayoutSent`] entries, in order.
    pub standing: Vec<Logged>,
    /// Every account of the ledger that is not zero.
    pub balances: Vec<(LedgerAccount, MicroCredits)>,
    /// The ledger's entries of open jobs, and the last [`Ledger::RECENT_MAX`] of those that belong to no job, in order.
    pub entries: Vec<Entry>,
    /// Every device that made a claim.
    pub devices: Vec<(DeviceId, DeviceAccount)>,
    /// Accepted claims of open jobs that are not voided.
    pub receipts: Vec<Receipt>,
    /// How often each member asked to be paid out.
    pub payout_requests: Vec<(Account, u64)>,
    /// What was settled of payout runs, in order.
    pub payouts_settled: Vec<(PayoutRun, Account)>,
    /// The last audit secret that was revealed.
    pub secret_revealed: u64,
}

impl Carried {
    /// What a log of these entries comes to. `open` are the jobs that have not ended.
    ///
    /// # Panics
    /// When the entries are not what a coordinator logged.
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Event>, open: &BTreeSet<JobId>) -> Self {
        let mut books = Books::default();
        let (mut carried, mut receipts, mut recent) = (Self::default(), BTreeMap::new(), Vec::new());
        for event in events {
            books.apply(&event.logged);
            match &event.logged {
                logged @ (Logged::PoolOpened(_)
                | Logged::TariffEnacted { .. }
                | Logged::WorkloadCertified { .. }
                | Logged::PayoutSent(_)) => carried.standing.push(logged.clone()),
                Logged::Receipt(receipt) => {
                    let claim = ClaimRef { device: receipt.claim.device, sequence: receipt.claim.sequence };
                    if open.contains(&receipt.claim.task.job) && matches!(receipt.verdict, Verdict::Accepted(_)) {
                        receipts.insert(claim, receipt.as_ref().clone());
                    }
                }
                Logged::ClaimVoided { claim, .. } => _ = receipts.remove(claim),
                Logged::Entry(entry) => {
                    match entry.purpose.job() {
                        Some(job) if open.contains(&job) => carried.entries.push(entry.clone()),
                        Some(_) => {}
                        None => recent.push(entry.clone()),
                    }
                    if let Purpose::PayoutSettled(run, account) = &entry.purpose {
                        carried.payouts_settled.push((*run, account.clone()));
                    }
                }
                Logged::DeviceEnrolled { .. }
                | Logged::SecretCommitted { .. }
                | Logged::SecretRevealed { .. }
                | Logged::AuditDrawn(_)
                | Logged::AuditDrawnMore(_)
                | Logged::AuditOutcome(_)
                | Logged::DeviceConvicted(_) => {}
            }
        }
        let old = recent.len().saturating_sub(Ledger::RECENT_MAX);
        carried.entries.extend(recent.into_iter().skip(old));
        carried.secret_revealed = books.secret_revealed;
        carried.size = books.size;
        carried.last = books.last;
        carried.balances = books.ledger.balances().map(|(account, amount)| (account.clone(), amount)).collect();
        carried.devices = books.devices.into_iter().collect();
        carried.receipts = receipts.into_values().collect();
        carried.payout_requests = books.payout_requests.into_iter().collect();
        carried
    }
}

impl Books {
    /// Takes up what a store carried over.
    ///
    /// # Panics
    /// When it is not what a coordinator logged: going on would corrupt it.
    pub(crate) fn carry(carried: &Carried) -> Self {
        let mut books = Self::default();
        carried.standing.iter().for_each(|logged| books.apply(logged));
        for (run, account) in &carried.payouts_settled {
            books.settle_payout(*run, account);
        }
        let jobs: BTreeSet<JobId> = carried.entries.iter().filter_map(|entry| entry.purpose.job()).collect();
        books.ledger = Ledger::restore(carried.balances.iter().cloned(), jobs, carried.entries.iter().cloned())
            .expect("the store's balances are those of a ledger");
        carried.receipts.iter().for_each(|receipt| books.keep_claim(receipt));
        books.devices = carried.devices.iter().copied().collect();
        books.payout_requests = carried.payout_requests.iter().cloned().collect();
        books.secret_revealed = carried.secret_revealed;
        (books.size, books.last) = (carried.size, carried.last);
        books
    }

    /// Takes up one entry of the log.
    pub(crate) fn apply(&mut self, logged: &Logged) {
        self.size += 1;
        self.last = self.last.max(logged.at());
        match logged {
            Logged::PoolOpened(opened) => self.opened = Some(opened.clone()),
            Logged::TariffEnacted { tariff, .. } => self.tariffs.push(tariff.clone()),
            Logged::WorkloadCertified { envelope, .. } => _ = self.certificates.insert(*envelope),
            Logged::Receipt(receipt) => self.receipt(receipt),
            Logged::Entry(entry) => self.entry(entry),
            Logged::ClaimVoided { claim, .. } => {
                if let Some(task) = self.tasks.remove(claim) {
                    self.claims.remove(&task);
                }
            }
            Logged::PayoutSent(sent) => {
                let amount = |amount: caii_payout::MinorUnits| {
                    let credits =
                        amount.0.checked_mul(sent.rate.0.get()).and_then(|credits| i64::try_from(credits).ok());
                    MicroCredits(credits.expect("what a run pays was payable"))
                };
                let open = sent.payments.iter().map(|(account, paid)| (account.clone(), amount(*paid)));
                self.payouts.insert(sent.run, open.collect());
                self.payout_last = sent.run.0;
            }
            Logged::SecretRevealed { period, .. } => self.secret_revealed = *period,
            Logged::DeviceEnrolled { .. }
            | Logged::SecretCommitted { .. }
            | Logged::AuditDrawn(_)
            | Logged::AuditDrawnMore(_)
            | Logged::AuditOutcome(_)
            | Logged::DeviceConvicted(_) => {}
        }
    }

    fn receipt(&mut self, receipt: &Receipt) {
        let account = self.devices.entry(receipt.claim.device).or_default();
        account.decided = receipt.claim.sequence;
        if matches!(receipt.verdict, Verdict::Accepted(_)) {
            account.accepted += 1;
            self.keep_claim(receipt);
        }
    }

    fn keep_claim(&mut self, receipt: &Receipt) {
        let tariff = self.tariffs.iter().find(|tariff| tariff.digest() == receipt.tariff);
        let tariff = tariff.expect("a receipt's tariff was enacted before it");
        let settlement = receipt.recompute(tariff).expect("it was computed when the receipt was made");
        let settlement = settlement.expect("only accepted receipts are kept");
        let claim = ClaimRef { device: receipt.claim.device, sequence: receipt.claim.sequence };
        self.claims.insert(receipt.claim.task, Claimed { claim, settlement });
        self.tasks.insert(claim, receipt.claim.task);
    }

    fn entry(&mut self, entry: &Entry) {
        let outcome = self.ledger.apply(entry, self.credit_limit());
        assert_eq!(outcome, Ok(Outcome::Applied), "an entry is recorded only after the ledger was asked");
        match &entry.purpose {
            Purpose::TaskAccepted(_, device) => {
                let held = entry
                    .postings
                    .iter()
                    .filter(|posting| matches!(posting.kind, TransferKind::Holdback | TransferKind::AuditHoldback));
                let held = held.map(|posting| posting.amount.0).sum::<i64>();
                self.devices.entry(*device).or_default().held.0 += held;
            }
            Purpose::HoldbackReleased(device, number) => {
                let account = self.devices.entry(*device).or_default();
                (account.held, account.releases) = (MicroCredits::ZERO, *number);
            }
            Purpose::DeviceForfeited(device, _) => {
                self.devices.entry(*device).or_default().held = MicroCredits::ZERO;
            }
            Purpose::PayoutRequested(account, number) => _ = self.payout_requests.insert(account.clone(), *number),
            Purpose::PayoutSettled(run, account) => self.settle_payout(*run, account),
            Purpose::Granted(_)
            | Purpose::PaymentRecorded(_)
            | Purpose::JobReserved(_)
            | Purpose::JobReturned(_)
            | Purpose::TaskVoided(..)
            | Purpose::AvailabilityPaid(..) => {}
        }
    }

    fn settle_payout(&mut self, run: PayoutRun, account: &Account) {
        if let Some(open) = self.payouts.get_mut(&run) {
            open.remove(account);
            if open.is_empty() {
                self.payouts.remove(&run);
            }
        }
    }

    /// A job has ended: what was remembered for it is not needed any more.
    pub(crate) fn close(&mut self, job: JobId) {
        self.ledger.close(job).expect("what was left of a job's reservation is returned before it ends");
        let tasks = TaskId { job, index: TaskIndex(0) }..=TaskId { job, index: TaskIndex(u32::MAX) };
        let ended: Vec<TaskId> = self.claims.range(tasks).map(|(task, _)| *task).collect();
        for task in ended {
            let claimed = self.claims.remove(&task).expect("it was found above");
            self.tasks.remove(&claimed.claim);
        }
    }

    pub(crate) fn credit_limit(&self) -> CreditLimit {
        self.opened.as_ref().map_or(CreditLimit::Below(MicroCredits::ZERO), |opened| opened.credit_limit)
    }

    /// The tariff in force: of those enacted, the last whose date has come.
    pub(crate) fn tariff_at(&self, at: Timestamp) -> Option<&Tariff> {
        self.tariffs.iter().rev().find(|tariff| tariff.terms().effective_from <= at)
    }

    /// A device's claims in numbers.
    pub(crate) fn account(&self, device: DeviceId) -> DeviceAccount {
        self.devices.get(&device).copied().unwrap_or_default()
    }
}

impl Catalog {
    /// The pool's books.
    pub fn books(&self) -> &Books {
        &self.books
    }
}

impl Books {
    /// Entries of the log so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What the log says the pool is; nothing until it is opened.
    pub fn opened(&self) -> Option<&PoolOpened> {
        self.opened.as_ref()
    }

    /// All tariffs that were enacted, by number.
    pub fn tariffs(&self) -> &[Tariff] {
        &self.tariffs
    }

    /// The ledger.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// A device's claims in numbers.
    pub fn device(&self, device: DeviceId) -> DeviceAccount {
        self.account(device)
    }

    /// What a job's accepted claims cost its requester so far, final or not.
    pub fn cost_of(&self, job: JobId) -> MicroCredits {
        let tasks = TaskId { job, index: TaskIndex(0) }..=TaskId { job, index: TaskIndex(u32::MAX) };
        let costs = self.claims.range(tasks).map(|(_, claimed)| claimed.settlement.price.total);
        MicroCredits::checked_sum(costs).unwrap_or(MicroCredits::MAX)
    }

    /// The last payout run that was sent; number 0 before the first.
    pub fn payout_last(&self) -> PayoutRun {
        PayoutRun(self.payout_last)
    }

    /// Payout runs with what the bank has not settled of each.
    pub fn payouts(&self) -> &BTreeMap<PayoutRun, BTreeMap<Account, MicroCredits>> {
        &self.payouts
    }
}
