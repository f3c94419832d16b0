//! Each event and each refusal once, by hand.

use crate::world::{Books, NOW, account, device, member, settlement, task};
use caii_ledger::{
    CreditLimit, Entry, GrantKey, Invariant, Ledger, LedgerAccount, Outcome, PayoutRun, Posting, Purpose, Refusal,
    TransferKind, events,
};
use caii_model::{JobId, MicroCredits, Timestamp};

const PREPAID: CreditLimit = CreditLimit::Below(MicroCredits::ZERO);

impl Books {
    #[track_caller]
    fn apply(&mut self, entry: Option<Entry>) {
        assert_eq!(self.offer(&entry.unwrap(), PREPAID), Ok(Outcome::Applied));
    }
}

/// `alice` has 100,000; job 1 has 50,000 of them.
fn books() -> Books {
    let mut books = Books::default();
    books.apply(events::granted(GrantKey([1; 16]), &account("alice"), MicroCredits(100_000), NOW));
    books.apply(events::job_reserved(JobId(1), &account("alice"), MicroCredits(50_000), NOW));
    books
}

#[test]
fn a_job_from_admission_to_its_end() {
    let mut books = books();
    // Price 13,507 = 12,623 + 253 + 631, as in the model's tests by hand; reward 12,345 + 1,728 + 51.
    let settled = settlement(10_345_678_900, 2_000_000_000, true);
    assert_eq!((settled.price.total.0, settled.reward.total.0, settled.reward.held.0), (13_507, 14_124, 3_531));
    books.apply(events::task_accepted(task(1, 0), device(2), &account("bob"), &settled, NOW).unwrap());
    let (earned, audits) = (settled.earned.0, settled.earned_by_audits.0);
    assert_eq!(books.balance(&member("bob")), settled.reward.total.0 - settled.reward.held.0);
    assert_eq!(books.balance(&LedgerAccount::Held(account("bob"))), settled.reward.held.0);
    assert_eq!(books.balance(&LedgerAccount::Fees), 631);
    assert_eq!(books.balance(&LedgerAccount::Verification), 253 + (12_623 - earned) - audits);
    assert_eq!(books.balance(&LedgerAccount::Escrow(JobId(1))), 50_000 - 13_507);
    let kinds: Vec<_> = books.entries.last().unwrap().postings.iter().map(|posting| posting.kind.as_str()).collect();
    assert_eq!(kinds, ["reward", "holdback", "surcharge", "unearned", "fee", "audit-reward", "audit-holdback"]);

    books.apply(events::holdback_released(device(2), 1, &account("bob"), settled.reward.held, NOW));
    assert_eq!(books.balance(&member("bob")), settled.reward.total.0);
    assert!(matches!(books.ledger.close(JobId(1)), Err(Refusal::Insufficient { .. })), "the rest is alice's");
    books.apply(events::job_returned(JobId(1), &account("alice"), MicroCredits(50_000 - 13_507), NOW));
    assert_eq!(books.balance(&member("alice")), 100_000 - 13_507);
    assert_eq!(books.ledger.close(JobId(1)), Ok(()));
    assert_eq!(events::job_returned(JobId(1), &account("alice"), MicroCredits::ZERO, NOW), None);
}

#[test]
fn a_task_of_nothing_but_audits_is_paid_by_verification() {
    let mut books = books();
    let settled = settlement(0, 1_000_000_000, false);
    books.apply(events::task_accepted(task(1, 9), device(2), &account("bob"), &settled, NOW).unwrap());
    assert_eq!(books.balance(&member("bob")), settled.reward.total.0);
    assert_eq!(books.balance(&LedgerAccount::Verification), -settled.reward.total.0);
    assert_eq!(books.balance(&LedgerAccount::Escrow(JobId(1))), 50_000);
}

#[test]
fn a_cheat_is_caught() {
    let mut books = books();
    let settled = settlement(10_000_000_000, 0, true);
    books.apply(events::task_accepted(task(1, 0), device(2), &account("bob"), &settled, NOW).unwrap());
    books.apply(events::payout_requested(&account("bob"), 1, MicroCredits(1_000), NOW));

    books.apply(events::task_voided(task(1, 0), device(2), &account("alice"), true, &settled.price, NOW));
    assert_eq!(books.balance(&LedgerAccount::Escrow(JobId(1))), 50_000, "the whole price is back at once");
    assert_eq!(books.balance(&LedgerAccount::Fees), 0);

    let paid = MicroCredits(settled.reward.total.0 - settled.reward.held.0);
    let forfeiture = events::Forfeiture {
        device: device(2),
        through: 1,
        owner: account("bob"),
        held: settled.reward.held,
        paid_for_void: paid,
    };
    let balance = books.ledger.balance(&member("bob"));
    books.apply(events::device_forfeited(&forfeiture, balance, NOW));
    assert_eq!(books.balance(&member("bob")), 0);
    assert_eq!(books.balance(&LedgerAccount::Held(account("bob"))), 0);
    assert_eq!(books.balance(&LedgerAccount::Payable(account("bob"))), 1_000, "what is payable stays");
    assert_eq!(books.balance(&LedgerAccount::Verification), -1_000, "which verification bears");

    // The same device caught after the job has ended: its requester gets the price.
    let again = events::task_voided(task(1, 0), device(3), &account("alice"), false, &settled.price, NOW).unwrap();
    assert!(again.postings.iter().all(|posting| posting.credit == member("alice")));
    // An owner in debt loses nothing more.
    let nothing = events::Forfeiture { held: MicroCredits::ZERO, ..forfeiture };
    assert_eq!(events::device_forfeited(&nothing, MicroCredits(-5), NOW), None);
}

#[test]
fn a_payout_is_paid_or_fails_but_not_both() {
    let mut books = books();
    books.apply(events::payout_requested(&account("alice"), 1, MicroCredits(30_000), NOW));
    let done = events::payout_done(PayoutRun(1), &account("alice"), MicroCredits(29_000), NOW).unwrap();
    let failed = events::payout_failed(PayoutRun(1), &account("alice"), MicroCredits(29_000), NOW).unwrap();
    books.apply(Some(done.clone()));
    assert_eq!(books.offer(&failed, PREPAID), Err(Refusal::IdTaken { id: done.id() }));
    assert_eq!(books.balance(&LedgerAccount::Payable(account("alice"))), 1_000, "too little for a cent");
    assert_eq!(books.balance(&LedgerAccount::Treasury), -71_000);
    books.apply(events::payout_failed(PayoutRun(2), &account("alice"), MicroCredits(1_000), NOW));
    assert_eq!(books.balance(&member("alice")), 21_000);
}

#[test]
fn what_is_told_again_is_applied_once() {
    let mut books = books();
    let entry = events::granted(GrantKey([2; 16]), &account("bob"), MicroCredits(5), NOW).unwrap();
    assert_eq!(books.ledger.apply(&entry, PREPAID), Ok(Outcome::Applied));
    let later = Entry { at: Timestamp(NOW.0 + 1), ..entry.clone() };
    assert_eq!(books.ledger.apply(&later, PREPAID), Ok(Outcome::Exists));
    let other = events::granted(GrantKey([2; 16]), &account("bob"), MicroCredits(6), NOW).unwrap();
    assert_eq!(books.ledger.apply(&other, PREPAID), Err(Refusal::IdTaken { id: entry.id() }));
    assert_eq!(books.ledger.balance(&member("bob")), MicroCredits(5));
}

#[test]
fn members_go_as_far_as_their_limit_and_only_by_spending() {
    let reserve = |amount| events::job_reserved(JobId(7), &account("carol"), MicroCredits(amount), NOW).unwrap();
    let try_with = |amount, limit| Ledger::default().apply(&reserve(amount), limit);
    assert_eq!(try_with(10, CreditLimit::Below(MicroCredits(10))), Ok(Outcome::Applied));
    assert_eq!(
        try_with(11, CreditLimit::Below(MicroCredits(10))),
        Err(Refusal::Insufficient { account: member("carol"), balance: MicroCredits(0), after: -11, floor: -10 })
    );
    assert_eq!(try_with(i64::MAX, CreditLimit::Unlimited), Ok(Outcome::Applied));
    let payout = events::payout_requested(&account("carol"), 1, MicroCredits(1), NOW).unwrap();
    assert!(matches!(
        Ledger::default().apply(&payout, CreditLimit::Unlimited),
        Err(Refusal::Insufficient { floor: 0, .. })
    ));
}

#[test]
fn entries_that_are_none_change_nothing() {
    let mut books = books();
    let before = books.ledger.clone();
    let posting = |debit: LedgerAccount, credit: LedgerAccount, amount| Posting {
        debit,
        credit,
        amount: MicroCredits(amount),
        kind: TransferKind::Grant,
    };
    let mut refusal = |postings: Vec<Posting>| {
        let entry = Entry { purpose: Purpose::Granted(GrantKey([9; 16])), at: NOW, postings };
        books.ledger.apply(&entry, CreditLimit::Unlimited).unwrap_err()
    };
    let treasury = || LedgerAccount::Treasury;
    assert_eq!(refusal(vec![]), Refusal::Size { found: 0 });
    assert_eq!(refusal(vec![posting(treasury(), member("a"), 1); 17]), Refusal::Size { found: 17 });
    assert_eq!(
        refusal(vec![posting(treasury(), member("a"), 1), posting(treasury(), member("a"), 0)]),
        Refusal::Amount { place: 1, amount: MicroCredits(0) }
    );
    assert!(matches!(refusal(vec![posting(treasury(), member("a"), -1)]), Refusal::Amount { .. }));
    assert_eq!(refusal(vec![posting(member("a"), member("a"), 1)]), Refusal::SameAccount { place: 0 });
    // Together or not at all: the first transfer alone would be possible.
    let half = vec![posting(treasury(), member("a"), 1), posting(LedgerAccount::Fees, member("a"), 1)];
    assert_eq!(
        refusal(half),
        Refusal::Insufficient { account: LedgerAccount::Fees, balance: MicroCredits(0), after: -1, floor: 0 }
    );
    assert_eq!(
        refusal(vec![posting(treasury(), member("alice"), i64::MAX)]),
        Refusal::Overflow { account: LedgerAccount::Treasury }
    );
    assert_eq!(books.ledger, before);
}

#[test]
fn a_ledger_is_restored_from_rows() {
    let books = books();
    let balances = || books.ledger.balances().map(|(account, balance)| (account.clone(), balance));
    let mut restored = Ledger::restore(balances(), [JobId(1)], books.entries.clone()).unwrap();
    assert_eq!(restored, books.ledger);
    for entry in &books.entries {
        assert_eq!(restored.apply(entry, PREPAID), Ok(Outcome::Exists));
    }
    let lost = balances().filter(|(account, _)| *account != member("alice"));
    assert_eq!(Ledger::restore(lost, [], []), Err(Invariant::Unbalanced { sum: -50_000 }));
    let below = [(LedgerAccount::Fees, MicroCredits(-1)), (member("a"), MicroCredits(1))];
    let expected = Invariant::BelowZero { account: LedgerAccount::Fees, balance: MicroCredits(-1) };
    assert_eq!(Ledger::restore(below, [], []), Err(expected));
}

/// A million entries that belong to no open job leave a bounded number in memory; so does a job that has ended.
#[test]
fn memory_does_not_grow_with_transfers() {
    let mut books = books();
    let settled = settlement(1_000_000, 0, false);
    for index in 0..1_000 {
        let entry = events::task_accepted(task(1, index), device(2), &account("bob"), &settled, NOW).unwrap();
        assert_eq!(books.ledger.apply(&entry.unwrap(), PREPAID), Ok(Outcome::Applied));
    }
    assert_eq!(books.ledger.remembered_count(), 1_000 + 1 + 1, "each task once, the reservation, the grant");
    for number in 0..10_000u32 {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&number.to_le_bytes());
        let entry = events::granted(GrantKey(key), &account("bob"), MicroCredits(1), NOW).unwrap();
        books.ledger.apply(&entry, PREPAID).unwrap();
    }
    let rest = books.ledger.balance(&LedgerAccount::Escrow(JobId(1)));
    let entry = events::job_returned(JobId(1), &account("alice"), rest, NOW).unwrap();
    books.ledger.apply(&entry, PREPAID).unwrap();
    books.ledger.close(JobId(1)).unwrap();
    assert_eq!(books.ledger.remembered_count(), Ledger::RECENT_MAX);
    // Even what is forgotten cannot be paid out of a job that has ended.
    let entry = events::task_accepted(task(1, 0), device(2), &account("bob"), &settled, NOW).unwrap().unwrap();
    assert!(matches!(books.ledger.apply(&entry, PREPAID), Err(Refusal::Insufficient { .. })));
}
