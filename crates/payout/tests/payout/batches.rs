use crate::{IBANS, account, batch, payable, payables, payee, spec};
use caii_ledger::PayoutRun;
use caii_model::MicroCredits;
use caii_payout::{Batch, BatchError, BatchSpec, Currency, MinorUnits, Payable, Rate, SepaText, csv};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::num::NonZeroU64;

#[test]
fn amounts_are_rounded_down_and_dust_stays_payable() {
    let batch = batch();
    let payments: Vec<_> = batch.payments.iter().map(|p| (p.account.as_str(), p.amount.0, p.credits.0)).collect();
    assert_eq!(payments, [("alice", 2_000, 20_000_000), ("carol", 123, 1_230_000)]);
    let dust: Vec<_> = batch.dust.iter().map(|(account, rest)| (account.as_str(), rest.0)).collect();
    assert_eq!(dust, [("bob", 9_999), ("carol", 9_999)]);
    assert_eq!(batch.total, MinorUnits(2_123));
    let ids: Vec<_> = batch.payments.iter().map(|payment| payment.end_to_end.as_str()).collect();
    assert_eq!(ids, ["abababababababab-7-1", "abababababababab-7-2"]);
}

#[test]
fn the_csv_has_a_line_for_each_payment() {
    assert_eq!(
        csv(&batch()),
        "end_to_end_id,account,name,iban,bic,currency,amount,micro_credits,execution_date,remittance\r\n\
         abababababababab-7-1,alice,\"Alice (Lab), c/o A.\",DE89370400440532013000,DEUTDEFF,EUR,20.00,20000000,\
         2026-11-26,\"Computing, November 2026\"\r\n\
         abababababababab-7-2,carol,Carol O'Hara,NL91ABNA0417164300,,EUR,1.23,1230000,2026-11-26,\
         \"Computing, November 2026\"\r\n"
    );
}

#[test]
fn what_cannot_be_paid_is_refused() {
    let none = BTreeSet::new();
    let refused = |spec, payables: &[Payable]| Batch::new(spec, payables, &none).unwrap_err();
    let bob = |amount| payable("bob", amount, payee("Bob", IBANS[1], None));
    assert_eq!(refused(spec(), &[]), BatchError::Nothing(Currency::Eur));
    assert_eq!(refused(spec(), &[bob(9_999)]), BatchError::Nothing(Currency::Eur));
    assert_eq!(refused(spec(), &[bob(20_000), bob(30_000)]), BatchError::Twice(account("bob")));
    let negative = BatchError::Negative { account: account("bob"), amount: MicroCredits(-1) };
    assert_eq!(refused(spec(), &[bob(-1)]), negative);
    let cheap = BatchSpec { rate: Rate(NonZeroU64::MIN), ..spec() };
    let error = refused(cheap.clone(), &[bob(100_000_000_000)]);
    assert_eq!(error.to_string(), "bob would be paid 1000000000.00; banks take at most 999999999.99 in one payment");
    assert!(Batch::new(cheap, &[bob(99_999_999_999)], &none).is_ok());
    let run = 1_000_000_000_000;
    assert_eq!(refused(BatchSpec { run: PayoutRun(run), ..spec() }, &payables()), BatchError::Run(run));
    let long = SepaText::new(&"x".repeat(141), 200).unwrap();
    let text = BatchError::Text { field: "remittance text", found: 141, max: 140 };
    assert_eq!(refused(BatchSpec { remittance: long, ..spec() }, &payables()), text);

    let many: Vec<Payable> =
        (0..10_001).map(|n| payable(&format!("m{n}"), 10_000, payee("M", IBANS[0], None))).collect();
    assert_eq!(refused(spec(), &many), BatchError::TooMany { found: 10_001, max: 10_000 });
    let most = Batch::new(spec(), &many[1..], &none).unwrap();
    assert!(most.payments.iter().all(|payment| payment.end_to_end.len() <= 35));
}

/// What is on its way already is not sent again.
#[test]
fn members_of_an_unsettled_run_are_not_paid_again() {
    let unsettled = BTreeSet::from([account("alice")]);
    assert_eq!(Batch::new(spec(), &payables(), &unsettled), Err(BatchError::Unsettled(account("alice"))));
    let only_dust = BTreeSet::from([account("bob")]);
    assert!(Batch::new(spec(), &payables(), &only_dust).is_ok(), "bob is not in the file");
}

proptest! {
    #[test]
    fn nothing_is_lost_or_made(
        amounts in prop::collection::vec(0..=1_000_000_000_000i64, 1..30), rate in 1_000..10_000_000u64,
    ) {
        let spec = BatchSpec { rate: Rate(NonZeroU64::new(rate).unwrap()), ..spec() };
        let of = |(n, amount): (usize, &i64)| payable(&format!("m{n}"), *amount, payee("M", IBANS[0], None));
        let payables: Vec<Payable> = amounts.iter().enumerate().map(of).collect();
        match Batch::new(spec, &payables, &BTreeSet::new()) {
            Err(error) => {
                prop_assert_eq!(error, BatchError::Nothing(Currency::Eur));
                prop_assert!(amounts.iter().all(|amount| (*amount as u64) < rate));
            }
            Ok(batch) => {
                let paid: i64 = batch.payments.iter().map(|payment| payment.credits.0).sum();
                let dust: i64 = batch.dust.iter().map(|(_, rest)| rest.0).sum();
                prop_assert_eq!(paid + dust, amounts.iter().sum::<i64>());
                prop_assert!(batch.dust.iter().all(|(_, rest)| (1..rate as i64).contains(&rest.0)));
                prop_assert!(batch.payments.iter().all(|payment| payment.credits.0 as u64 == payment.amount.0 * rate));
                prop_assert_eq!(batch.payments.iter().map(|payment| payment.amount.0).sum::<u64>(), batch.total.0);
            }
        }
    }
}
