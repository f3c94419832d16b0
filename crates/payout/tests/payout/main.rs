//! Payouts: batches, files against the real schema and against mutants, approvals.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod approvals;
mod batches;
mod files;
mod schema;

use caii_ledger::PayoutRun;
use caii_model::{Account, MicroCredits, PoolId, Timestamp};
use caii_payout::{Batch, BatchSpec, Currency, Payable, Payee, Rate, SepaText};
use std::collections::BTreeSet;
use std::num::NonZeroU64;

pub(crate) const IBANS: [&str; 3] = ["DE89370400440532013000", "FR1420041010050500013M02606", "NL91ABNA0417164300"];

pub(crate) fn account(name: &str) -> Account {
    Account::new(name).unwrap()
}

pub(crate) fn payee(name: &str, iban: &str, bic: Option<&str>) -> Payee {
    Payee {
        name: SepaText::new(name, SepaText::NAME_MAX).unwrap(),
        iban: iban.parse().unwrap(),
        bic: bic.map(|bic| bic.parse().unwrap()),
    }
}

pub(crate) fn payable(name: &str, amount: i64, payee: Payee) -> Payable {
    Payable { account: account(name), amount: MicroCredits(amount), payee }
}

/// 10,000 micro-credits to the cent.
pub(crate) fn spec() -> BatchSpec {
    BatchSpec {
        pool: PoolId([0xab; 8]),
        run: PayoutRun(7),
        debtor: payee("Pool e.V.", "DE02120300000000202051", Some("BYLADEM1001")),
        currency: Currency::Eur,
        rate: Rate(NonZeroU64::new(10_000).unwrap()),
        created: Timestamp(1_795_554_446_000),
        execution: Timestamp(1_795_700_000_000),
        remittance: SepaText::new("Computing, November 2026", SepaText::REMITTANCE_MAX).unwrap(),
    }
}

pub(crate) fn payables() -> Vec<Payable> {
    vec![
        payable("carol", 1_239_999, payee("Carol O'Hara", IBANS[2], None)),
        payable("alice", 20_000_000, payee("Alice (Lab), c/o A.", IBANS[0], Some("DEUTDEFF"))),
        payable("bob", 9_999, payee("Bob", IBANS[1], None)),
    ]
}

pub(crate) fn batch() -> Batch {
    Batch::new(spec(), &payables(), &BTreeSet::new()).unwrap()
}
