//! Credits: what is reserved, decided, paid, held back and lost. The harness audits the log of every test.

use crate::harness::*;
use caii_audit::Logged;
use caii_coordinator::*;
use caii_ledger::{CreditLimit, GrantKey, LedgerAccount, Purpose};
use caii_model::*;

const AUDIT: Verification = Verification::Audit { depth: 3 };
const QUORUM: Verification = Verification::Quorum { results: 2 };

fn balance(pool: &Pool, account: LedgerAccount) -> i64 {
    pool.coordinator.catalog().books().ledger().balance(&account).0
}

fn member(name: &str) -> LedgerAccount {
    LedgerAccount::Member(account(name))
}

/// What a task of 1,000 units costs: compute 7,000, full bonus 1,400, energy of 1 mJ (rounded up) 1; together 8,401; of that
/// 120 %, rounded up.
const PRICE: i64 = 10_082;
/// A first task's reward: compute alone, for there is neither record nor energy.
const REWARD: i64 = 7_000;
/// Two items of 1,000,000 units: (14,000,000 + 2,800,000 + 60) by 120 %.
const QUOTE: i64 = 20_160_072;

fn prepaid(limit: i64) -> Pool {
    let opening = Opening { credit_limit: CreditLimit::Below(MicroCredits(limit)), ..opening() };
    let manifest = manifest();
    let limits = Limits { fuel_per_item: ItemError::TRAP_CHARGE, ..manifest.limits };
    let mut pool = Pool::opened(opening);
    let manifest = Manifest { name: "frugal".into(), limits, ..manifest };
    pool.workload = manifest.digest();
    pool.must(Input::WorkloadAdd(manifest));
    pool
}

fn credit(pool: &mut Pool, key: u8, to: &str, amount: i64) -> Result<Reply, Refusal> {
    let (key, to, amount) = (GrantKey([key; 16]), account(to), MicroCredits(amount));
    pool.ask(Input::Credit { key, to, amount, paid: false })
}

fn gathered(pool: &mut Pool) {
    for effect in pool.effects() {
        if let Effect::Gather(audit) = effect {
            let records = pool.coordinator.audit(audit).expect("it is under way").items.len() as u32;
            let input = TaskInput { digest: Digest([200; 32]), offset: 0, len: 10 * records, records };
            pool.step(Input::AuditGathered(audit, Digest([201; 32]), input));
        }
    }
}

fn ended(pool: &mut Pool, job: JobId) {
    assert_eq!(pool.effects(), [Effect::Assemble(job)]);
    pool.step(Input::JobAssembled(job, Assembled::default()));
    assert_eq!(pool.coordinator.job(None, job), None);
}

fn paid(pool: &Pool) -> Vec<u32> {
    let paid = |change: &Change| match change {
        Change::Logged(event) => match &event.logged {
            Logged::Entry(entry) => match entry.purpose {
                Purpose::TaskAccepted(task, _) => Some(task.index.0),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    };
    pool.changes().iter().filter_map(paid).collect()
}

#[test]
fn the_quote_is_set_aside_work_is_paid_and_the_rest_comes_back() {
    let mut pool = prepaid(0);
    let quote = QUOTE;
    let spec = JobSpec { verification: Verification::Spot, ..pool.spec("alice") };
    let quoted = pool.coordinator.quote(spec.workload, spec.verification, [2], pool.timestamp()).unwrap();
    assert_eq!((quoted.total, quoted.tasks, quoted.copies), (MicroCredits(quote), 1, 1));

    let poor = pool.submit(spec.clone(), 1);
    let failed = |change: &Change| match change {
        Change::JobEnding(id, Ending::Failed { errors }, _) if *id == poor => Some(errors[0].code.clone()),
        _ => None,
    };
    assert_eq!(pool.changes().iter().find_map(failed).as_deref(), Some("credits-insufficient"));

    assert_eq!(credit(&mut pool, 1, "alice", quote + 5), Ok(Reply::Done));
    assert_eq!(credit(&mut pool, 1, "alice", quote + 5), Ok(Reply::Done), "the same key gives once");
    assert_eq!(balance(&pool, member("alice")), quote + 5);
    assert!(credit(&mut pool, 1, "alice", 7).is_err(), "and never something else");
    assert!(credit(&mut pool, 2, "alice", 0).is_err());
    let job = pool.submit(spec, 1);
    assert_eq!((balance(&pool, member("alice")), balance(&pool, LedgerAccount::Escrow(job))), (5, quote));

    let mut device = pool.device_of("ann");
    let lease = pool.take(&mut device, 1)[0];
    pool.finish(&mut device, lease);
    assert_eq!(balance(&pool, member("ann")), REWARD);
    assert_eq!(balance(&pool, LedgerAccount::Escrow(job)), quote - PRICE);
    ended(&mut pool, job);
    assert_eq!(balance(&pool, member("alice")), quote + 5 - PRICE);
    assert_eq!(balance(&pool, LedgerAccount::Escrow(job)), 0);
    // What a contributor earned can be spent at once.
    assert!(credit(&mut pool, 3, "ann", quote).is_ok());
    let spec = pool.spec("ann");
    let own = pool.submit(spec, 1);
    assert_eq!(balance(&pool, LedgerAccount::Escrow(own)), quote);
}

#[test]
fn a_job_above_its_limit_does_not_begin() {
    let mut pool = Pool::new();
    let spec = JobSpec { max_price: Some(MicroCredits(1)), ..pool.spec("alice") };
    let job = pool.submit(spec, 1);
    let failed = |change: &Change| match change {
        Change::JobEnding(id, Ending::Failed { errors }, _) if *id == job => Some(errors[0].clone()),
        _ => None,
    };
    let error = pool.changes().iter().find_map(failed).expect("it failed");
    assert_eq!(error.code, "price-above-limit");
    assert!(error.message.contains("limit of 0.000001"), "{}", error.message);
    assert_eq!(balance(&pool, LedgerAccount::Escrow(job)), 0);
}

#[test]
fn what_is_provisional_is_not_paid_before_it_is_final() {
    let mut pool = Pool::new();
    let job = pool.checked_job(1, AUDIT);
    let (mut worker, mut auditor) = (pool.device_of("ann"), pool.device_of("bob"));
    let lease = pool.take(&mut worker, 1)[0];
    pool.finish(&mut worker, lease);
    assert_eq!(paid(&pool), [0_u32; 0]);
    gathered(&mut pool);
    let lease = pool.take(&mut auditor, 1)[0];
    pool.finish(&mut auditor, lease);
    assert_eq!(pool.effects(), [Effect::Compare(lease.lease.task)]);
    assert_eq!(paid(&pool), [0_u32; 0]);
    pool.step(Input::AuditCompared(lease.lease.task, vec![]));
    let mut done = paid(&pool);
    done.sort_unstable();
    assert_eq!(done, [0, 1], "the task and its audit");
    // On probation three tenths are held back; the auditor is paid by verification, not by the requester.
    let held = REWARD * 3 / 10;
    assert_eq!(balance(&pool, member("ann")), REWARD - held);
    assert_eq!(balance(&pool, LedgerAccount::Held(account("ann"))), held);
    assert_eq!(balance(&pool, member("bob")), REWARD - held);
    ended(&mut pool, job);
    assert_eq!(balance(&pool, member("alice")), -PRICE);
}

#[test]
fn who_survived_enough_gets_what_was_held_back() {
    let mut pool = Pool::new();
    let (mut worker, mut auditor) = (pool.device_of("ann"), pool.device_of("bob"));
    let job = pool.checked_job(250, Verification::Audit { depth: 409 });
    for lease in pool.take(&mut worker, 250) {
        pool.finish(&mut worker, lease);
    }
    let held = LedgerAccount::Held(account("ann"));
    let mut most = 0;
    for _ in 0..20 {
        gathered(&mut pool);
        for lease in pool.take(&mut auditor, 250) {
            pool.finish(&mut auditor, lease);
            pool.effects();
            pool.step(Input::AuditCompared(lease.lease.task, vec![]));
            most = most.max(balance(&pool, held.clone()));
            gathered(&mut pool);
        }
    }
    assert_eq!(pool.coordinator.assembly(job).map(|assembly| assembly.settled.len()), Some(250));
    assert!(most > 0);
    assert_eq!(balance(&pool, held), 0);
    assert!(balance(&pool, member("ann")) >= 250 * REWARD);
}

#[test]
fn who_is_caught_loses_what_is_pending_and_what_was_held_back() {
    let mut pool = Pool::new();
    let (mut cheat, mut other) = (pool.device_of("ann"), pool.device_of("bob"));
    // Some good work first.
    let job = pool.checked_job(1, QUORUM);
    let lease = pool.take(&mut cheat, 1)[0];
    pool.finish(&mut cheat, lease);
    let again = pool.take(&mut other, 1)[0];
    pool.finish(&mut other, again);
    ended(&mut pool, job);
    let kept = balance(&pool, member("ann"));
    assert!(kept > 0 && balance(&pool, LedgerAccount::Held(account("ann"))) > 0);

    let job = pool.checked_job(1, AUDIT);
    let lease = pool.take(&mut cheat, 1)[0];
    pool.finish(&mut cheat, lease);
    gathered(&mut pool);
    let audit = pool.take(&mut other, 1)[0];
    pool.finish(&mut other, audit);
    pool.effects();
    pool.step(Input::AuditCompared(audit.lease.task, vec![0]));
    let finding = Finding { place: 0, claim_right: false, auditor_right: Some(true) };
    pool.step(Input::AuditRefereed(audit.lease.task, Ok(vec![finding])));
    assert_eq!(balance(&pool, member("ann")), kept, "what is final was earned");
    assert_eq!(balance(&pool, LedgerAccount::Held(account("ann"))), 0, "the stake is lost");
    assert_eq!(pool.take(&mut other, 1)[0].lease.task, TaskId { job, index: TaskIndex(0) });
}

#[test]
fn a_requester_pays_for_each_copy_of_a_quorum_and_never_for_more() {
    let mut pool = Pool::new();
    let job = pool.checked_job(1, QUORUM);
    let quote = balance(&pool, LedgerAccount::Escrow(job));
    let (mut one, mut two, mut three) = (pool.device_of("ann"), pool.device_of("bob"), pool.device_of("cid"));
    let lease = pool.take(&mut one, 1)[0];
    pool.finish(&mut one, lease);
    let again = pool.take(&mut two, 1)[0];
    let other = TaskReport { root: Digest([99; 32]), ..done(&again) };
    assert_eq!(pool.report(&mut two, again, Ok(other)), Ok(()));
    pool.effects();
    pool.step(Input::AuditCompared(again.lease.task, vec![1]));
    pool.effects();
    let finding = Finding { place: 1, claim_right: false, auditor_right: Some(true) };
    pool.step(Input::AuditRefereed(again.lease.task, Ok(vec![finding])));
    // The honest copy is paid; the task itself is done again by somebody else, and checked again.
    let lease = pool.take(&mut three, 1)[0];
    pool.finish(&mut three, lease);
    let mut four = pool.device_of("dan");
    let copy = pool.take(&mut four, 1)[0];
    pool.finish(&mut four, copy);
    ended(&mut pool, job);
    // Two copies at 8,401 and the pool's 5 % of it; the third result is paid by verification.
    assert_eq!(balance(&pool, member("alice")), -2 * 8_822);
    assert!(2 * 8_822 <= quote);
    let earned: Vec<i64> = ["ann", "bob", "cid", "dan"].map(|name| balance(&pool, member(name))).into();
    assert_eq!(earned[0], 0, "the cheat");
    assert!(earned[1..].iter().all(|earned| *earned > 0), "{earned:?}");
}

#[test]
fn claims_are_numbered_without_a_gap() {
    let mut pool = Pool::new();
    pool.job(4);
    let mut device = pool.device();
    let leases = pool.take(&mut device, 3);
    let ahead = device.says_as(2, leases[0], Ok(done(&leases[0])));
    let reply = pool.speak(&mut device, |request| request.reports = vec![ahead]);
    assert_eq!(reply.acks, [(leases[0].lease.id, Err(Refusal::ClaimSequence { expected: 1 }))]);
    device.holding = leases.clone();
    let both: Vec<Report> =
        (1..).zip(&leases[..2]).map(|(place, lease)| device.says_as(place, *lease, Ok(done(lease)))).collect();
    let first = both[0].clone();
    let reply = pool.speak(&mut device, |request| request.reports = both);
    assert_eq!((reply.claims, reply.acks.iter().all(|(_, ack)| ack.is_ok())), (2, true));
    // The same again is answered as before and decides nothing.
    let before = pool.changes().len();
    let reply = pool.speak(&mut device, |request| request.reports = vec![first]);
    assert_eq!((reply.claims, reply.acks[0].1.clone()), (2, Ok(())));
    assert_eq!(pool.changes().len(), before);
    // A number that was used does not stand for another result.
    device.claims = 1;
    let reused = device.says(leases[2], Ok(done(&leases[2])));
    let reply = pool.speak(&mut device, |request| request.reports = vec![reused]);
    assert_eq!(reply.acks[0].1, Err(Refusal::ClaimSequence { expected: 3 }));
}

#[test]
fn secrets_are_committed_to_before_and_shown_after() {
    let mut pool = Pool::with(|config| config.audit_secret = Millis(60_000));
    let job = pool.checked_job(1, AUDIT);
    let mut worker = pool.device_of("ann");
    let lease = pool.take(&mut worker, 1)[0];
    pool.finish(&mut worker, lease);
    gathered(&mut pool);
    let kinds = |pool: &Pool| {
        let secret = |change: &Change| match change {
            Change::Logged(event) => match event.logged {
                Logged::SecretCommitted { period, .. } => Some((period, "committed")),
                Logged::SecretRevealed { period, .. } => Some((period, "revealed")),
                _ => None,
            },
            _ => None,
        };
        pool.changes().iter().filter_map(secret).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&pool), [(1, "committed")]);
    pool.pass_with(&mut [&mut worker], 59_000);
    assert_eq!(kinds(&pool), [(1, "committed")]);
    pool.pass_with(&mut [&mut worker], 2_000);
    assert_eq!(kinds(&pool), [(1, "committed"), (1, "revealed")]);
    pool.effects();
    let audit = TaskId { job, index: TaskIndex(1) };
    let right = |place| Finding { place, claim_right: true, auditor_right: None };
    pool.step(Input::AuditRefereed(audit, Ok(vec![right(0), right(1)])));
    ended(&mut pool, job);
    let job = pool.checked_job(1, AUDIT);
    let lease = pool.take(&mut worker, 1)[0];
    pool.finish(&mut worker, lease);
    assert_eq!(kinds(&pool), [(1, "committed"), (1, "revealed"), (2, "committed")]);
    pool.must(Input::JobCancel { owner: None, job });
}

#[test]
fn tariffs_are_enacted_one_after_the_other_and_hold_from_their_date() {
    let mut pool = Pool::new();
    let terms = TariffTerms { number: 2, effective_from: Timestamp(pool.now + 60_000), ..opening().terms };
    let dearer = TariffTerms { compute_rate: MicroCredits(14_000_000_000), ..terms.clone() };
    assert!(pool.ask(Input::TariffEnact(TariffTerms { number: 3, ..dearer.clone() })).is_err());
    assert!(pool.ask(Input::TariffEnact(TariffTerms { effective_from: Timestamp(5), ..dearer.clone() })).is_err());
    assert!(pool.ask(Input::TariffEnact(TariffTerms { pool_fee: Ppm(2_000_000), ..dearer.clone() })).is_err());
    let old = pool.checked_job(1, Verification::Spot);
    pool.must(Input::TariffEnact(dearer.clone()));
    pool.must(Input::TariffEnact(dearer));
    assert_eq!(pool.coordinator.catalog().books().tariffs().len(), 2);
    let mut device = pool.device_of("ann");
    pool.pass_with(&mut [&mut device], 61_000);
    // A job goes by the tariff that it was reserved for.
    let lease = pool.take(&mut device, 1)[0];
    pool.finish(&mut device, lease);
    assert_eq!(balance(&pool, member("ann")), REWARD);
    ended(&mut pool, old);
    assert_eq!(balance(&pool, member("alice")), -PRICE);
    let new = pool.checked_job(1, Verification::Spot);
    let lease = pool.take(&mut device, 1)[0];
    pool.finish(&mut device, lease);
    assert!(balance(&pool, member("ann")) >= 3 * REWARD);
    ended(&mut pool, new);
}

#[test]
fn presence_that_was_challenged_earns_once_a_day() {
    let mut pool = Pool::new();
    let (mut here, mut mute) = (pool.device_of("ann"), pool.device_of("bob"));
    let begun = pool.now;
    // Every four seconds; one of the two never answers a challenge.
    while pool.now < begun + 3_600_000 {
        pool.pass(4_000);
        pool.speak(&mut here, |_| ());
        pool.speak(&mut mute, |request| request.challenge = 7);
    }
    assert_eq!(balance(&pool, member("ann")), 0, "the day is not over");
    let changes = pool.changes().len();
    pool.restart();
    pool.now += 86_400_000;
    pool.step(Input::Tick);
    // An hour at 1,000 micro-credits, but what was not noted in the last ten minutes, which went with the process.
    let earned = balance(&pool, member("ann"));
    assert!((830..=1_000).contains(&earned), "{earned}");
    assert_eq!(balance(&pool, member("bob")), 0);
    pool.step(Input::Tick);
    assert_eq!(balance(&pool, member("ann")), earned);
    assert!(pool.changes().len() < changes + 10);
}

#[test]
fn a_pool_that_kept_no_books_begins_to() {
    let mut pool = Pool::unopened(|_| ());
    let mut device = pool.device_of("ann");
    let job = pool.checked_job(2, Verification::Spot);
    let leases = pool.take(&mut device, 2);
    pool.finish(&mut device, leases[0]);
    pool.now += 1_000;
    pool.must(Input::Open(Box::new(opening())));
    pool.must(Input::Open(Box::new(opening())));
    assert!(balance(&pool, LedgerAccount::Escrow(job)) > 0);
    pool.finish(&mut device, leases[1]);
    ended(&mut pool, job);
    assert_eq!(balance(&pool, member("ann")), REWARD, "what was done before has no claim");
    assert_eq!(balance(&pool, member("alice")), -PRICE);
}

#[test]
fn more_fuel_than_the_limits_allow_is_no_result() {
    let mut pool = Pool::new();
    pool.job(1);
    let mut device = pool.device();
    let lease = pool.take(&mut device, 1)[0];
    let most = 2 * manifest().limits.fuel_per_item.0;
    let report = TaskReport { fuel: Fuel(most + 1), ..done(&lease) };
    assert_eq!(pool.report(&mut device, lease, Ok(report)), Ok(()));
    assert_eq!(pool.attempts(), [(0, AttemptFailureKind::MalformedResult)]);
    assert_eq!(pool.void_claims(), [VoidReason::Malformed]);
}
