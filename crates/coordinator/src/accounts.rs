//! Read models of money: what an account has, what a job would cost by what such jobs have cost.

use crate::checks::items_in;
use crate::{Coordinator, Quote};
use caii_ledger::LedgerAccount;
use caii_model::*;

/// What an account has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AccountView {
    /// What can be spent.
    pub balance: MicroCredits,
    /// What is set aside for its open jobs.
    pub reserved: MicroCredits,
    /// What is held back from what its devices earned on probation.
    pub held: MicroCredits,
    /// What it asked to be paid out.
    pub payable: MicroCredits,
}

/// What earlier tasks of a workload took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Past {
    /// How many tasks.
    pub tasks: u64,
    /// Their items.
    pub items: u64,
    /// Their fuel.
    pub fuel: u128,
    /// How long all of them ran, one after the other.
    pub wall: u128,
}

impl Past {
    /// Adds up receipts. Audited items of other tasks are not the workload's usual ones.
    pub fn of<'a>(receipts: impl IntoIterator<Item = &'a Receipt>) -> Self {
        receipts.into_iter().fold(Self::default(), |past, receipt| {
            let own = receipt.work_facts().filter(|facts| facts.audit_fuel == Fuel(0));
            let Some(facts) = own else { return past };
            Self {
                tasks: past.tasks + 1,
                items: past.items + u64::from(receipt.claim.items),
                fuel: past.fuel + u128::from(facts.fuel.0),
                wall: past.wall + u128::from(receipt.claim.wall.0),
            }
        })
    }

    fn of_items(self, of: u128, items: u64) -> Option<u64> {
        let product = of.checked_mul(u128::from(items))?;
        product.checked_div(u128::from(self.items)).and_then(|share| u64::try_from(share).ok())
    }
}

/// What a job would cost and how long it would run by what such jobs took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// All accepted results together.
    pub price: MicroCredits,
    /// Their fuel, copies not counted.
    pub fuel: Fuel,
    /// How long one slot would work on it, checks not counted.
    pub work: Millis,
}

impl Coordinator {
    /// What an account has.
    pub fn account(&self, account: &Account) -> AccountView {
        let ledger = &self.catalog.books.ledger;
        let of = |place: fn(Account) -> LedgerAccount| ledger.balance(&place(account.clone()));
        let own = self.catalog.jobs.iter().filter(|(_, job)| job.spec.owner == *account);
        let escrow = own.map(|(id, _)| ledger.balance(&LedgerAccount::Escrow(*id)));
        AccountView {
            balance: of(LedgerAccount::Member),
            reserved: MicroCredits::checked_sum(escrow).unwrap_or(MicroCredits::MAX),
            held: of(LedgerAccount::Held),
            payable: of(LedgerAccount::Payable),
        }
    }

    /// How a job of a known workload is checked: programs that see a whole task at once have nothing smaller to audit.
    pub fn checked_how(&self, workload: Digest, verification: Verification) -> Option<Verification> {
        self.catalog.workloads.get(&workload).map(|_| self.verification_of(workload, verification))
    }

    /// What a job with tasks of so many records would cost by the tariff of its quote if it took as much as earlier ones.
    /// Nothing if nothing is known, or it does not fit.
    pub fn estimate(
        &self,
        workload: Digest,
        verification: Verification,
        records: &[u32],
        quote: &Quote,
        past: Past,
    ) -> Option<Estimate> {
        let manifest = self.catalog.workloads.get(&workload)?;
        let tariff = self.catalog.books.tariffs.iter().find(|tariff| tariff.digest() == quote.tariff)?;
        let policy = crate::money::policy(self.verification_of(workload, verification));
        let items = |records: &u32| u64::from(items_in(*records, manifest.scope));
        let fuels: Option<Vec<Fuel>> =
            records.iter().map(|records| past.of_items(past.fuel, items(records)).map(Fuel)).collect();
        let fuels = fuels?;
        let fuel = fuels.iter().try_fold(Fuel(0), |sum, fuel| sum.checked_add(*fuel))?;
        let price = caii_model::quote(tariff, fuels, policy).ok()?;
        let work = past.of_items(past.wall, records.iter().map(items).sum())?;
        Some(Estimate { price, fuel, work: Millis(work) })
    }
}
