//! The ledger: balances, and entries applied each once and whole.
//!
//! **What it remembers.** An entry that comes again is recognised by its id and a fingerprint of its content. Memory must
//! not grow with every transfer ever made, so the ledger remembers the entries of open jobs (24 bytes each, until
//! [`Ledger::close`]) and the last [`Ledger::RECENT_MAX`] of all others. Everything older is the store's business: ids of
//! transfers are a unique key there, and the shell asks the store before it hands in what does not belong to an open
//! job. What the ledger remembers of the recent past covers the moment between that question and the commit.
//!
//! A job's entries cannot be paid again even then: after its escrow was returned there is nothing in it.

use crate::{Entry, LedgerAccount, Purpose, TransferId, TransferKind};
use caii_model::{JobId, MicroCredits};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;

/// Balances and what must be remembered so that nothing is applied twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Without those that are zero.
    balances: BTreeMap<LedgerAccount, MicroCredits>,
    open_jobs: BTreeMap<JobId, BTreeMap<TransferId, u64>>,
    recent: BTreeMap<TransferId, u64>,
    /// The keys of `recent`, oldest first.
    recent_order: VecDeque<TransferId>,
}

/// How far below zero a member may go by spending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreditLimit {
    /// By this much; zero where everything is paid in advance.
    Below(MicroCredits),
    /// By any amount: for pools whose operator keeps no prepaid accounts.
    Unlimited,
}

/// What applying an entry did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The balances changed.
    Applied,
    /// It had been applied before. Nothing changed.
    Exists,
}

/// Why an entry was refused. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It has no transfer, or more than [`Entry::POSTINGS_MAX`].
    Size {
        /// How many.
        found: usize,
    },
    /// An amount is zero or less.
    Amount {
        /// Its place in the entry.
        place: usize,
        /// How much.
        amount: MicroCredits,
    },
    /// A transfer goes from an account to itself.
    SameAccount {
        /// Its place in the entry.
        place: usize,
    },
    /// Another entry with other content was applied for the same purpose.
    IdTaken {
        /// The id of both.
        id: TransferId,
    },
    /// An account would fall below what it may.
    Insufficient {
        /// Which.
        account: LedgerAccount,
        /// What it has.
        balance: MicroCredits,
        /// What it would have.
        after: i128,
        /// What it must have at least.
        floor: i128,
    },
    /// A balance would not fit.
    Overflow {
        /// Of which account.
        account: LedgerAccount,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size { found } => {
                write!(f, "an entry has 1 to {} transfers; this one has {found}", Entry::POSTINGS_MAX)
            }
            Self::Amount { place, amount } => {
                write!(f, "transfer {place} of the entry is of {amount} credits; amounts are more than zero")
            }
            Self::SameAccount { place } => write!(f, "transfer {place} of the entry goes from an account to itself"),
            Self::IdTaken { id } => {
                write!(f, "{id} was applied before with other content; what was wrong is corrected by a new entry")
            }
            Self::Insufficient { account, balance, after, floor } => write!(
                f,
                "{account} has {balance} credits; this would leave {after} millionths, and {floor} is the least"
            ),
            Self::Overflow { account } => write!(f, "the balance of {account} would be too large to be counted"),
        }
    }
}

impl std::error::Error for Refusal {}

/// What must always hold and does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invariant {
    /// All balances together are not zero.
    Unbalanced {
        /// What they are.
        sum: i128,
    },
    /// An account that cannot be below zero is.
    BelowZero {
        /// Which.
        account: LedgerAccount,
        /// What it has.
        balance: MicroCredits,
    },
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unbalanced { sum } => write!(f, "all balances together are {sum} millionths instead of zero"),
            Self::BelowZero { account, balance } => write!(f, "{account} has {balance} credits, which is below zero"),
        }
    }
}

impl std::error::Error for Invariant {}

/// All balances by kind of account. They sum to zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrialBalance {
    /// Of members.
    pub members: i128,
    /// Of jobs.
    pub escrow: i128,
    /// Held back.
    pub held: i128,
    /// The pool's.
    pub fees: i128,
    /// For verification.
    pub verification: i128,
    /// Of the treasury.
    pub treasury: i128,
    /// To be paid out.
    pub payable: i128,
}

impl TrialBalance {
    /// All together: zero, or something is wrong.
    pub fn sum(&self) -> i128 {
        let Self { members, escrow, held, fees, verification, treasury, payable } = self;
        members + escrow + held + fees + verification + treasury + payable
    }
}

impl Ledger {
    /// How many entries that belong to no open job are remembered.
    pub const RECENT_MAX: usize = 4_096;

    /// The ledger of these balances, that remembers these entries: those of jobs that are still open, and as many of the
    /// last others as there are, oldest first.
    ///
    /// # Errors
    /// If the balances are none that a ledger can have.
    pub fn restore(
        balances: impl IntoIterator<Item = (LedgerAccount, MicroCredits)>,
        open_jobs: impl IntoIterator<Item = JobId>,
        entries: impl IntoIterator<Item = Entry>,
    ) -> Result<Self, Invariant> {
        let mut ledger = Self {
            balances: balances.into_iter().filter(|(_, balance)| *balance != MicroCredits::ZERO).collect(),
            open_jobs: open_jobs.into_iter().map(|job| (job, BTreeMap::new())).collect(),
            ..Self::default()
        };
        ledger.check()?;
        for entry in entries {
            ledger.remember(&entry.purpose, entry.id(), entry.fingerprint());
        }
        Ok(ledger)
    }

    /// What an account has.
    pub fn balance(&self, account: &LedgerAccount) -> MicroCredits {
        self.balances.get(account).copied().unwrap_or_default()
    }

    /// Every account that has anything or owes anything.
    pub fn balances(&self) -> impl Iterator<Item = (&LedgerAccount, MicroCredits)> {
        self.balances.iter().map(|(account, balance)| (account, *balance))
    }

    /// Whether an entry for this purpose is remembered.
    pub fn remembers(&self, purpose: &Purpose) -> bool {
        self.remembered(purpose, &purpose.transfer_id(0)).is_some()
    }

    /// How many entries are remembered.
    pub fn remembered_count(&self) -> usize {
        self.recent.len() + self.open_jobs.values().map(BTreeMap::len).sum::<usize>()
    }

    /// What applying an entry would do. Nothing changes.
    ///
    /// # Errors
    /// As [`Ledger::apply`].
    pub fn consider(&self, entry: &Entry, limit: CreditLimit) -> Result<Outcome, Refusal> {
        if !(1..=Entry::POSTINGS_MAX).contains(&entry.postings.len()) {
            return Err(Refusal::Size { found: entry.postings.len() });
        }
        for (place, posting) in entry.postings.iter().enumerate() {
            if posting.amount <= MicroCredits::ZERO {
                return Err(Refusal::Amount { place, amount: posting.amount });
            }
            if posting.debit == posting.credit {
                return Err(Refusal::SameAccount { place });
            }
        }
        let id = entry.id();
        match self.remembered(&entry.purpose, &id) {
            Some(known) if known == entry.fingerprint() => Ok(Outcome::Exists),
            Some(_) => Err(Refusal::IdTaken { id }),
            None => self.after(entry, limit).map(|_| Outcome::Applied),
        }
    }

    /// Applies an entry, once and whole. `limit` is that of the members whom it debits.
    ///
    /// # Errors
    /// If it is malformed, contradicts what was applied before, or takes what is not there; then nothing changed.
    pub fn apply(&mut self, entry: &Entry, limit: CreditLimit) -> Result<Outcome, Refusal> {
        if self.consider(entry, limit)? == Outcome::Exists {
            return Ok(Outcome::Exists);
        }
        for (account, after) in self.after(entry, limit)? {
            if after == MicroCredits::ZERO {
                self.balances.remove(account);
            } else {
                self.balances.insert(account.clone(), after);
            }
        }
        if let Purpose::JobReserved(job) = entry.purpose {
            self.open_jobs.entry(job).or_default();
        }
        self.remember(&entry.purpose, entry.id(), entry.fingerprint());
        Ok(Outcome::Applied)
    }

    /// The balances that the entry would leave.
    fn after<'a>(
        &self,
        entry: &'a Entry,
        limit: CreditLimit,
    ) -> Result<Vec<(&'a LedgerAccount, MicroCredits)>, Refusal> {
        // Accounts in the order in which the entry names them: a refusal names the first that is at fault.
        let mut changes: Vec<(&LedgerAccount, i128, Option<i128>)> = Vec::with_capacity(2 * entry.postings.len());
        for posting in &entry.postings {
            let amount = i128::from(posting.amount.0);
            let floor = floor(&posting.debit, posting.kind, limit);
            for (account, change, floor) in [(&posting.debit, -amount, floor), (&posting.credit, amount, None)] {
                match changes.iter_mut().find(|(named, ..)| *named == account) {
                    Some((_, sum, least)) => {
                        *sum += change;
                        *least = (*least).max(floor);
                    }
                    None => changes.push((account, change, floor)),
                }
            }
        }
        let after = |(account, change, floor): (&'a LedgerAccount, i128, Option<i128>)| {
            let balance = self.balance(account);
            let after = i128::from(balance.0) + change;
            if let Some(floor) = floor
                && change < 0
                && after < floor
            {
                return Err(Refusal::Insufficient { account: account.clone(), balance, after, floor });
            }
            let after = i64::try_from(after).map_err(|_| Refusal::Overflow { account: account.clone() })?;
            Ok((account, MicroCredits(after)))
        };
        changes.into_iter().map(after).collect()
    }

    /// Forgets a job whose escrow is empty: it has ended, and its entries are in the store.
    ///
    /// # Errors
    /// If there is still something in its escrow, which belongs to its requester.
    pub fn close(&mut self, job: JobId) -> Result<(), Refusal> {
        let account = LedgerAccount::Escrow(job);
        let balance = self.balance(&account);
        if balance != MicroCredits::ZERO {
            return Err(Refusal::Insufficient { account, balance, after: i128::from(balance.0), floor: 0 });
        }
        self.open_jobs.remove(&job);
        Ok(())
    }

    /// Balances by kind of account.
    pub fn trial_balance(&self) -> TrialBalance {
        self.balances.iter().fold(TrialBalance::default(), |mut trial, (account, balance)| {
            let place = match account {
                LedgerAccount::Member(_) => &mut trial.members,
                LedgerAccount::Escrow(_) => &mut trial.escrow,
                LedgerAccount::Held(_) => &mut trial.held,
                LedgerAccount::Fees => &mut trial.fees,
                LedgerAccount::Verification => &mut trial.verification,
                LedgerAccount::Treasury => &mut trial.treasury,
                LedgerAccount::Payable(_) => &mut trial.payable,
            };
            *place += i128::from(balance.0);
            trial
        })
    }

    /// What must hold after every step.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), Invariant> {
        let sum = self.trial_balance().sum();
        if sum != 0 {
            return Err(Invariant::Unbalanced { sum });
        }
        for (account, balance) in &self.balances {
            let guarded = match account {
                LedgerAccount::Escrow(_) | LedgerAccount::Held(_) | LedgerAccount::Payable(_) | LedgerAccount::Fees => {
                    true
                }
                // How far members may go is decided when they spend.
                LedgerAccount::Member(_) | LedgerAccount::Verification | LedgerAccount::Treasury => false,
            };
            if guarded && *balance < MicroCredits::ZERO {
                return Err(Invariant::BelowZero { account: account.clone(), balance: *balance });
            }
        }
        Ok(())
    }

    fn remembered(&self, purpose: &Purpose, id: &TransferId) -> Option<u64> {
        let of_job = purpose.job().and_then(|job| self.open_jobs.get(&job)).and_then(|entries| entries.get(id));
        of_job.or_else(|| self.recent.get(id)).copied()
    }

    fn remember(&mut self, purpose: &Purpose, id: TransferId, fingerprint: u64) {
        if let Some(entries) = purpose.job().and_then(|job| self.open_jobs.get_mut(&job)) {
            entries.insert(id, fingerprint);
            return;
        }
        if self.recent_order.len() == Self::RECENT_MAX
            && let Some(oldest) = self.recent_order.pop_front()
        {
            self.recent.remove(&oldest);
        }
        if self.recent.insert(id, fingerprint).is_none() {
            self.recent_order.push_back(id);
        }
    }
}

/// What a debited account must have left; nothing if it may fall to any depth.
fn floor(account: &LedgerAccount, kind: TransferKind, limit: CreditLimit) -> Option<i128> {
    match account {
        LedgerAccount::Escrow(_) | LedgerAccount::Held(_) | LedgerAccount::Payable(_) | LedgerAccount::Fees => Some(0),
        LedgerAccount::Verification | LedgerAccount::Treasury => None,
        // Credit is for spending: nobody is paid out what they do not have.
        LedgerAccount::Member(_) if kind != TransferKind::Reserve => Some(0),
        LedgerAccount::Member(_) => match limit {
            CreditLimit::Below(amount) => Some(-i128::from(amount.0)),
            CreditLimit::Unlimited => None,
        },
    }
}
