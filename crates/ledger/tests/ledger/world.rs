//! A pool's money in small: the ledger, the store's rows with their unique key, and what is owed.

use caii_ledger::{CreditLimit, Entry, Ledger, LedgerAccount, Outcome, Refusal, Transfer, TransferId};
use caii_model::{
    Account, DeviceId, Energy, EnergyMethod, Fuel, JobId, MicroCredits, Millijoules, Millis, Ppm, Settlement, Tariff,
    TariffTerms, TaskId, TaskIndex, Timestamp, TrackRecord, VerificationPolicy, WorkFacts, settle,
};
use std::collections::BTreeMap;

pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000_000);

pub(crate) fn tariff() -> Tariff {
    Tariff::new(TariffTerms {
        number: 1,
        effective_from: NOW,
        compute_rate: MicroCredits(1_000),
        reliability_bonus: Ppm(200_000),
        reliability_share_floor: Ppm(900_000),
        availability_rate: MicroCredits(3_600),
        availability_daily_max: Millis(8 * 3_600_000),
        energy_rate: MicroCredits(500),
        energy_certified_joules: 40,
        verification_surcharge: Ppm(20_000),
        pool_fee: Ppm(50_000),
        probation_holdback: Ppm(250_000),
    })
    .unwrap()
}

pub(crate) fn account(name: &str) -> Account {
    Account::new(name).unwrap()
}

pub(crate) fn member(name: &str) -> LedgerAccount {
    LedgerAccount::Member(account(name))
}

pub(crate) fn task(job: u64, index: u32) -> TaskId {
    TaskId { job: JobId(job), index: TaskIndex(index) }
}

pub(crate) fn device(number: u8) -> DeviceId {
    DeviceId([number; 8])
}

/// Of so much fuel, and so much of audits, by a device on probation or not.
pub(crate) fn settlement(fuel: u64, audit_fuel: u64, probation: bool) -> Settlement {
    let facts = WorkFacts {
        fuel: Fuel(fuel),
        audit_fuel: Fuel(audit_fuel),
        record: TrackRecord::new(97, 100).unwrap(),
        energy: Energy { used: Millijoules(fuel / 100_000), method: EnergyMethod::Tdp },
        probation,
    };
    settle(&tariff(), &facts, VerificationPolicy::Audit).unwrap()
}

/// The ledger and every row that was ever written.
#[derive(Default)]
pub(crate) struct Books {
    pub(crate) ledger: Ledger,
    pub(crate) rows: BTreeMap<TransferId, Transfer>,
    /// What was applied, oldest first.
    pub(crate) entries: Vec<Entry>,
}

impl Books {
    /// As a shell does: what the ledger does not remember, the store's unique key is asked for.
    pub(crate) fn offer(&mut self, entry: &Entry, limit: CreditLimit) -> Result<Outcome, Refusal> {
        let stored = self.stored(entry);
        if !self.ledger.remembers(&entry.purpose)
            && let Some(stored) = stored
        {
            return stored;
        }
        let outcome = self.ledger.apply(entry, limit);
        match (&outcome, stored) {
            // What the ledger remembers is what the store has.
            (_, Some(stored)) => assert_eq!(outcome, stored),
            (Ok(outcome), None) => {
                assert_eq!(*outcome, Outcome::Applied, "the ledger knows an entry that the store has not");
                for transfer in entry.transfers() {
                    assert_eq!(Transfer::from_canonical(&transfer.to_canonical()).as_ref(), Ok(&transfer));
                    let before = self.rows.insert(transfer.id(), transfer);
                    assert_eq!(before, None, "the unique key was taken");
                }
                self.entries.push(entry.clone());
            }
            (Err(_), None) => {}
        }
        self.check();
        outcome
    }

    /// What the store's unique key says.
    fn stored(&self, entry: &Entry) -> Option<Result<Outcome, Refusal>> {
        self.rows.get(&entry.id())?;
        let same = entry.transfers().all(|transfer| {
            self.rows.get(&transfer.id()).is_some_and(|row| Transfer { at: row.at, ..transfer } == *row)
        });
        let more = self.rows.contains_key(&entry.purpose.transfer_id(entry.postings.len() as u8));
        Some(if same && !more { Ok(Outcome::Exists) } else { Err(Refusal::IdTaken { id: entry.id() }) })
    }

    /// Balances are those of the rows, each once; they sum to zero; nothing is below zero that cannot be.
    pub(crate) fn check(&self) {
        self.ledger.check().unwrap();
        let mut sums: BTreeMap<LedgerAccount, i64> = BTreeMap::new();
        for row in self.rows.values() {
            *sums.entry(row.posting.debit.clone()).or_default() -= row.posting.amount.0;
            *sums.entry(row.posting.credit.clone()).or_default() += row.posting.amount.0;
        }
        sums.retain(|_, sum| *sum != 0);
        let balances: BTreeMap<_, _> =
            self.ledger.balances().map(|(account, balance)| (account.clone(), balance.0)).collect();
        assert_eq!(balances, sums);
    }

    pub(crate) fn balance(&self, account: &LedgerAccount) -> i64 {
        self.ledger.balance(account).0
    }
}
