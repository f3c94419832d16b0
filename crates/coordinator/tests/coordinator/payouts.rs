//! What members prefer to do with what they earn, and runs of payments. The harness audits the log of every test.

use crate::harness::*;
use caii_coordinator::*;
use caii_ledger::{GrantKey, LedgerAccount, PayoutRun};
use caii_model::*;
use caii_payout::{Approvers, Currency, MinorUnits, Payee, Rate, SepaText, pain001};
use caii_trust::SigningKey;
use std::num::NonZeroU64;

/// Micro-credits for a cent.
const RATE: i64 = 10_000;

fn payee(name: &str) -> Payee {
    let iban = "DE89370400440532013000".parse().expect("it is valid");
    Payee { name: SepaText::new(name, SepaText::NAME_MAX).expect("it is valid"), iban, bic: None }
}

fn steward(number: u8) -> SigningKey {
    SigningKey::from_seed([number; 32])
}

fn rules() -> PayoutRules {
    let people = (1..=3).map(|number| {
        let key = caii_trust::PublicKey::Ed25519(steward(number).public());
        (format!("steward {number}"), key)
    });
    PayoutRules {
        debtor: payee("A Pool"),
        currency: Currency::Eur,
        rate: Rate(NonZeroU64::new(RATE as u64).expect("it is valid")),
        remittance: SepaText::new("lent machines", SepaText::REMITTANCE_MAX).expect("it is valid"),
        approvers: Approvers::new(2, people).expect("it is valid"),
    }
}

fn paying() -> Pool {
    Pool::with(|config| config.payout = Some(rules()))
}

fn balance(pool: &Pool, account: LedgerAccount) -> i64 {
    pool.coordinator.catalog().books().ledger().balance(&account).0
}

fn member(name: &str) -> LedgerAccount {
    LedgerAccount::Member(account(name))
}

fn payable(name: &str) -> LedgerAccount {
    LedgerAccount::Payable(account(name))
}

fn give(pool: &mut Pool, key: u8, to: &str, amount: i64) {
    let (key, to, amount) = (GrantKey([key; 16]), account(to), MicroCredits(amount));
    pool.must(Input::Credit { key, to, amount, paid: false });
}

fn prefer(pool: &mut Pool, name: &str, preference: PayoutPreference) {
    pool.must(Input::PayoutPrefer { account: account(name), preference });
}

fn prepare(pool: &mut Pool, credit_notes: bool) -> Result<PayoutRun, String> {
    let execution = Timestamp(pool.now + 86_400_000);
    match pool.ask(Input::PayoutPrepare { execution, credit_notes }) {
        Ok(Reply::Payout(run)) => Ok(run),
        Ok(other) => panic!("{other:?}"),
        Err(refusal) => Err(refusal.to_string()),
    }
}

fn draft(pool: &Pool) -> PayoutDraft {
    pool.coordinator.catalog().payout_draft().expect("a run was made").clone()
}

/// What a steward signs.
fn signed(pool: &Pool, number: u8) -> Vec<u8> {
    let mut envelope = draft(pool).statement(pool.pool).envelope();
    let key = steward(number);
    let signature = key.sign_message(&envelope.signed_bytes());
    envelope.add(caii_trust::PublicKey::Ed25519(key.public()).id(), signature.to_vec());
    envelope.to_json()
}

fn approve(pool: &mut Pool, run: PayoutRun, number: u8) -> Result<Reply, Refusal> {
    let envelope = signed(pool, number);
    pool.ask(Input::PayoutApprove { run, envelope })
}

fn settle(pool: &mut Pool, run: PayoutRun, paid: &[&str], failed: &[&str]) -> Result<Reply, Refusal> {
    let [paid, failed] = [paid, failed].map(|names| names.iter().map(|name| account(name)).collect());
    pool.ask(Input::PayoutSettle { run, paid, failed })
}

#[test]
fn whoever_wants_money_gets_it_after_two_people_approved() {
    let mut pool = paying();
    assert!(prepare(&mut pool, false).unwrap_err().contains("nothing to pay"));
    for (key, name, amount) in
        [(1, "ann", 5 * RATE + 7), (2, "bob", 3 * RATE), (3, "cid", 9 * RATE), (4, "dan", RATE - 1)]
    {
        give(&mut pool, key, name, amount);
    }
    for name in ["ann", "bob", "dan"] {
        prefer(&mut pool, name, PayoutPreference::Direct(payee(name)));
    }
    let run = prepare(&mut pool, false).unwrap();
    let made = draft(&pool);
    let paid = [(account("ann"), MinorUnits(5)), (account("bob"), MinorUnits(3))];
    assert_eq!(made.sent.payments, paid, "cid keeps credits, dan has too little");
    assert_eq!(pain001::read(&made.pain001).unwrap().total, MinorUnits(8));
    assert!(String::from_utf8(made.csv).unwrap().lines().count() == 3);
    assert_eq!((balance(&pool, member("ann")), balance(&pool, payable("ann"))), (7, 5 * RATE));

    // Made anew it has what came since; who signed the old files approved nothing.
    let stale = signed(&pool, 1);
    give(&mut pool, 5, "bob", RATE);
    assert_eq!(prepare(&mut pool, false).unwrap(), run);
    assert_eq!(draft(&pool).sent.payments[1].1, MinorUnits(4));
    assert!(pool.ask(Input::PayoutApprove { run, envelope: stale }).is_err());

    let refused = pool.ask(Input::PayoutSend { run }).unwrap_err().to_string();
    assert!(refused.contains("0 of 2 approvals"), "{refused}");
    assert_eq!(approve(&mut pool, run, 1), Ok(Reply::Done));
    assert_eq!(approve(&mut pool, run, 1), Ok(Reply::Done), "twice is once");
    assert!(approve(&mut pool, run, 9).is_err(), "a stranger");
    assert!(pool.ask(Input::PayoutSend { run }).unwrap_err().to_string().contains("1 of 2 approvals (steward 1)"));
    pool.restart();
    assert_eq!(approve(&mut pool, run, 3), Ok(Reply::Done));
    pool.must(Input::PayoutSend { run });
    assert_eq!(pool.coordinator.catalog().payout_draft(), None);
    assert!(pool.ask(Input::PayoutSend { run }).is_err(), "once");

    // Nobody is paid by the next run before the bank answered.
    give(&mut pool, 6, "ann", RATE);
    give(&mut pool, 7, "eve", 2 * RATE);
    prefer(&mut pool, "eve", PayoutPreference::Direct(payee("eve")));
    let next = prepare(&mut pool, false).unwrap();
    assert_eq!(draft(&pool).sent.payments, [(account("eve"), MinorUnits(2))]);

    assert!(settle(&mut pool, run, &["cid"], &[]).is_err());
    assert!(settle(&mut pool, run, &["ann"], &["ann"]).is_err());
    assert_eq!(settle(&mut pool, run, &["ann"], &["bob"]), Ok(Reply::Done));
    assert!(settle(&mut pool, run, &[], &["ann"]).is_err(), "the bank answers once");
    assert_eq!((balance(&pool, payable("ann")), balance(&pool, payable("bob"))), (0, 0));
    assert_eq!(balance(&pool, member("bob")), 4 * RATE, "what was not paid comes back");
    assert!(pool.coordinator.catalog().books().payouts().is_empty());
    assert_eq!(prepare(&mut pool, false).unwrap(), next);
    assert_eq!(draft(&pool).sent.payments.len(), 3, "now ann and bob as well");
}

#[test]
fn what_is_sent_is_what_is_payable_then() {
    let mut pool = paying();
    give(&mut pool, 1, "ann", RATE);
    prefer(&mut pool, "ann", PayoutPreference::Direct(payee("ann")));
    let run = prepare(&mut pool, false).unwrap();
    (1..=2).for_each(|number| assert_eq!(approve(&mut pool, run, number), Ok(Reply::Done)));
    // It asks for more by another way: here a run of credit notes takes the first one's place.
    prefer(&mut pool, "ann", PayoutPreference::Discount);
    assert_eq!(prepare(&mut pool, true).unwrap(), run);
    assert!(pool.ask(Input::PayoutSend { run }).is_err(), "approvals are of files");
    let made = draft(&pool);
    assert!(made.pain001.is_empty());
    let csv = String::from_utf8(made.csv).unwrap();
    assert!(csv.lines().nth(1).unwrap().ends_with(",ann,,,,EUR,0.01,10000,2023-11-15,credit note"), "{csv}");
    (2..=3).for_each(|number| assert_eq!(approve(&mut pool, run, number), Ok(Reply::Done)));
    pool.must(Input::PayoutSend { run });
    assert_eq!(settle(&mut pool, run, &["ann"], &[]), Ok(Reply::Done));
    assert_eq!((balance(&pool, member("ann")), balance(&pool, payable("ann"))), (0, 0));
}

#[test]
fn without_rules_nobody_is_paid_out() {
    let mut pool = Pool::new();
    give(&mut pool, 1, "ann", RATE);
    prefer(&mut pool, "ann", PayoutPreference::Direct(payee("ann")));
    assert!(prepare(&mut pool, false).unwrap_err().contains("pool.toml"));
    assert_eq!(balance(&pool, payable("ann")), 0);
}

#[test]
fn who_prefers_priority_is_served_first_while_there_are_credits() {
    let mut pool = Pool::new();
    let mut device = pool.device_of("lender");
    let next_owner = |pool: &mut Pool, device: &mut Dev| {
        let lease = pool.take(device, 1)[0];
        let owner = pool.coordinator.job_spec(lease.lease.task.job).unwrap().owner.to_string();
        pool.finish(device, lease);
        owner
    };
    let spec = |pool: &mut Pool, owner| JobSpec { verification: Verification::Spot, ..pool.spec(owner) };
    let first = spec(&mut pool, "ann");
    pool.submit(first, 3);
    let second = spec(&mut pool, "bob");
    pool.submit(second, 3);
    assert_eq!(next_owner(&mut pool, &mut device), "ann", "the older one");
    prefer(&mut pool, "bob", PayoutPreference::Priority);
    assert_eq!(next_owner(&mut pool, &mut device), "ann", "bob has nothing");
    // More than its job has set aside.
    give(&mut pool, 1, "bob", i64::MAX / 4);
    assert_eq!(next_owner(&mut pool, &mut device), "bob");
    prefer(&mut pool, "bob", PayoutPreference::Credits);
    assert_eq!(next_owner(&mut pool, &mut device), "ann");
}

#[test]
fn an_estimate_is_what_such_jobs_took() {
    let mut pool = Pool::new();
    let spec = JobSpec { verification: Verification::Spot, ..pool.spec("ann") };
    let quote = pool.coordinator.quote(spec.workload, spec.verification, [2, 2], pool.timestamp()).unwrap();
    let estimate =
        |pool: &Pool, past| pool.coordinator.estimate(spec.workload, spec.verification, &[2, 2], &quote, past);
    assert_eq!(estimate(&pool, Past::default()), None, "nothing is known");
    let job = pool.submit(spec.clone(), 1);
    let mut device = pool.device_of("lender");
    let lease = pool.take(&mut device, 1)[0];
    pool.finish(&mut device, lease);
    let receipts = pool.changes().iter().filter_map(|change| match change {
        Change::Logged(event) => match &event.logged {
            caii_audit::Logged::Receipt(receipt) => Some(receipt.as_ref()),
            _ => None,
        },
        _ => None,
    });
    let past = Past::of(receipts);
    assert_eq!((past.tasks, past.items, past.fuel, past.wall), (1, 2, 1_000, 20));
    let found = estimate(&pool, past).unwrap();
    assert_eq!((found.fuel, found.work), (Fuel(2_000), Millis(40)));
    // As much as the one task before was charged, twice.
    let charged = pool.coordinator.catalog().books().cost_of(job);
    assert_eq!(found.price.0, 2 * 10_082);
    assert!(charged.0 == 10_082 && found.price < quote.total);
}
