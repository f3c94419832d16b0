//! The conversation with one device: sessions, sequences, leases, reports, replies that are held back.

use crate::harness::*;
use caii_coordinator::*;
use caii_model::*;

#[test]
fn only_enrolled_devices_that_know_the_process_and_the_meter_are_heard() {
    let mut pool = Pool::new();
    let mut device = pool.stranger();
    let good = pool.request(&mut device);
    let unknown = DeviceId([99; 8]);
    let refusal = pool.refused(ExchangeRequest { device: unknown, ..good.clone() });
    assert_eq!(refusal, Refusal::DeviceUnknown(unknown));
    let boot = pool.coordinator.boot();
    for wrong in [None, Some(BootId([77; 16]))] {
        assert_eq!(pool.refused(ExchangeRequest { boot: wrong, ..good.clone() }), Refusal::BootChanged(boot));
    }
    let foreign = MeterId(Digest([99; 32]));
    let refusal = pool.refused(ExchangeRequest { meter: foreign, ..good.clone() });
    assert_eq!(refusal, Refusal::MeterForeign { expected: METER, found: foreign });
    assert_eq!(pool.coordinator.session(device.id), None, "a refused request began a conversation");
    assert!(matches!(pool.exchange(good), Heard::Reply(_)));
}

#[test]
fn a_request_says_a_bounded_amount() {
    let mut pool = Pool::new();
    pool.job(1);
    let mut device = pool.device();
    let lease = pool.take(&mut device, 1)[0];
    let report = Report { lease, outcome: Err(failure(AttemptFailureKind::GivenBack)), claim: None };
    let cases: Vec<(&str, ExchangeRequest)> = vec![
        ("leases held", ExchangeRequest { holding: vec![lease; 4_097], ..pool.request(&mut device) }),
        ("reports", ExchangeRequest { reports: vec![report; 4_097], ..pool.request(&mut device) }),
        ("workloads", ExchangeRequest { ready: vec![Digest([1; 32]); 1_025], ..pool.request(&mut device) }),
        ("slots", ExchangeRequest { slots: 4_097, ..pool.request(&mut device) }),
    ];
    for (expected, request) in cases {
        assert!(matches!(pool.refused(request), Refusal::TooMany { what, .. } if what == expected), "{expected}");
    }
}

#[test]
fn a_sequence_counts_once() {
    let mut pool = Pool::new();
    let mut device = pool.device();
    let request = pool.request(&mut device);
    assert!(matches!(pool.exchange(request.clone()), Heard::Reply(_)));
    assert_eq!(pool.refused(request.clone()), Refusal::SequenceStale { last: 2 });
    // Nor can the beginning of a conversation be replayed, not even after the device was lost.
    assert_eq!(pool.refused(ExchangeRequest { session: None, ..request.clone() }), Refusal::SequenceStale { last: 2 });
    pool.pass(13_000);
    assert_eq!(pool.coordinator.session(device.id), None);
    assert_eq!(pool.refused(ExchangeRequest { session: None, ..request }), Refusal::SequenceStale { last: 2 });
}

#[test]
fn a_refused_request_uses_no_sequence() {
    let mut pool = Pool::new();
    let mut device = pool.device();
    let request = pool.request(&mut device);
    let stray = Some(SessionId([66; 16]));
    assert_eq!(pool.refused(ExchangeRequest { session: stray, ..request.clone() }), Refusal::SessionUnknown);
    assert!(matches!(pool.exchange(request), Heard::Reply(_)));
}

#[test]
fn of_two_agents_with_one_identity_the_newer_stays() {
    let mut pool = Pool::new();
    let mut first = pool.device();
    let waiting = pool.wait(&mut first, 1);
    let mut second = Dev { session: None, ..first.clone() };
    pool.speak(&mut second, |_| ());
    assert_eq!(pool.late.remove(&waiting), Some(Err(Refusal::SessionSuperseded)));
    first.sequence = second.sequence;
    let request = pool.request(&mut first);
    assert_eq!(pool.refused(request), Refusal::SessionSuperseded);
    second.sequence = first.sequence;
    pool.speak(&mut second, |_| ());

    // After nine more conversations the first one is only unknown.
    for _ in 0..9 {
        second.session = None;
        pool.speak(&mut second, |_| ());
    }
    first.sequence = second.sequence;
    let request = pool.request(&mut first);
    assert_eq!(pool.refused(request), Refusal::SessionUnknown);
}

#[test]
fn a_beginning_that_was_overtaken_ends_no_conversation() {
    let mut pool = Pool::new();
    let mut first = pool.stranger();
    let late = ExchangeRequest { sequence: 33, ..pool.request(&mut first) };
    let mut second = Dev { sequence: 0, ..first.clone() };
    let session = pool.speak(&mut second, |_| ()).session;
    assert_eq!(pool.refused(late.clone()), Refusal::SessionHeld(session));
    pool.speak(&mut second, |_| ());
    // One that names the conversation before the present one is as late.
    second.session = None;
    let again = pool.speak(&mut second, |_| ()).session;
    let late = ExchangeRequest { replaces: Some(session), ..late };
    assert_eq!(pool.refused(late), Refusal::SessionHeld(again));
    pool.speak(&mut second, |_| ());
}

#[test]
fn a_forged_foreign_or_stale_lease_is_worth_nothing() {
    let mut pool = Pool::new();
    let job = pool.job(2);
    let (mut one, mut other) = (pool.device(), pool.device());
    let lease = pool.take(&mut one, 1)[0];
    let before = pool.changes_besides_receipts();
    // Whatever else is said of it, its device holds the true one all the time.
    let report =
        |pool: &mut Pool, device: &mut Dev, shown: SignedLease, outcome: Result<TaskReport, AttemptFailure>| {
            let ack = pool.report(device, shown, outcome);
            device.holding = if device.id == lease.lease.device { vec![lease] } else { vec![] };
            ack
        };

    let mut forged = lease;
    forged.signature[0] ^= 1;
    assert_eq!(report(&mut pool, &mut one, forged, Ok(done(&lease))), Err(Refusal::LeaseForged));
    let mut stretched = lease;
    stretched.lease.expires = Timestamp(u64::MAX);
    assert_eq!(report(&mut pool, &mut one, stretched, Ok(done(&lease))), Err(Refusal::LeaseForged));
    let elsewhere = pool.sealed(lease.lease, |lease| lease.pool = PoolId([77; 8]));
    assert_eq!(report(&mut pool, &mut one, elsewhere, Ok(done(&lease))), Err(Refusal::LeaseForged));
    assert_eq!(report(&mut pool, &mut other, lease, Ok(done(&lease))), Err(Refusal::LeaseForeign(one.id)));
    assert_eq!(
        report(&mut pool, &mut other, lease, Err(failure(AttemptFailureKind::RunnerDied))),
        Err(Refusal::LeaseForeign(one.id))
    );
    let ended = JobId(77);
    let no_job = pool.sealed(lease.lease, |lease| lease.task.job = ended);
    assert_eq!(report(&mut pool, &mut one, no_job, Ok(done(&lease))), Err(Refusal::JobEnded(ended)));
    let no_task = pool.sealed(lease.lease, |lease| lease.task.index = TaskIndex(77));
    assert_eq!(report(&mut pool, &mut one, no_task, Ok(done(&lease))), Err(Refusal::TaskSettled));
    let now = pool.timestamp();
    let expired = pool.sealed(lease.lease, |lease| (lease.id, lease.expires) = (LeaseId([1; 8]), now));
    assert_eq!(report(&mut pool, &mut one, expired, Ok(done(&lease))), Err(Refusal::LeaseExpired(now)));

    // Held ones are told to be dropped, and keep no task from others.
    for bad in [forged, elsewhere, no_job, no_task, expired] {
        let reply = pool.speak(&mut one, |request| request.holding.push(bad));
        assert_eq!(reply.dropped, [bad.lease.id]);
        one.holding = vec![lease];
    }
    let reply = pool.speak(&mut other, |request| request.holding = vec![lease]);
    assert_eq!(reply.dropped, [lease.lease.id]);
    assert_eq!(pool.changes_besides_receipts(), before);
    let void = [VoidReason::JobEnded, VoidReason::Lease];
    assert_eq!(pool.void_claims(), void, "each lease's claim is decided once; what no lease stands behind is no claim");
    assert_eq!(pool.view(job).totals.tasks_settled, 0);
    pool.finish(&mut one, lease);
}

#[test]
fn the_same_report_twice_counts_once() {
    let mut pool = Pool::new();
    let job = pool.job(2);
    let (mut device, mut other) = (pool.device(), pool.device());
    let lease = pool.take(&mut device, 1)[0];
    pool.finish(&mut device, lease);
    let before = pool.changes_besides_receipts();
    pool.finish(&mut device, lease);
    let different = TaskReport { root: Digest([77; 32]), ..done(&lease) };
    assert_eq!(pool.report(&mut device, lease, Ok(different)), Err(Refusal::TaskSettled));
    let others = pool.sealed(lease.lease, |lease| lease.device = other.id);
    assert_eq!(pool.report(&mut other, others, Ok(done(&lease))), Err(Refusal::TaskSettled));
    // A failure of what is settled is heard and changes nothing.
    pool.fail(&mut device, lease, AttemptFailureKind::RunnerDied);
    assert_eq!(pool.changes_besides_receipts(), before);
    assert_eq!(pool.void_claims(), [VoidReason::Late, VoidReason::Late]);
    assert_eq!(pool.view(job).totals.records_ok, 2);
}

#[test]
fn a_failure_that_is_reported_twice_counts_once() {
    let mut pool = Pool::new();
    pool.job(1);
    let mut device = pool.device();
    let lease = pool.take(&mut device, 1)[0];
    for _ in 0..3 {
        pool.fail(&mut device, lease, AttemptFailureKind::RunnerDied);
    }
    assert_eq!(pool.attempts(), [(0, AttemptFailureKind::RunnerDied)]);
}

#[test]
fn a_result_that_does_not_fit_its_task_is_a_failed_attempt() {
    let changes: [fn(&mut TaskReport); 4] = [
        |report| report.items = 3,
        |report| report.items = 1,
        |report| report.items_failed = 3,
        |report| report.records_failed = 3,
    ];
    for change in changes {
        let mut pool = Pool::new();
        pool.job(1);
        let mut device = pool.device();
        let lease = pool.take(&mut device, 1)[0];
        let mut report = done(&lease);
        change(&mut report);
        assert_eq!(pool.report(&mut device, lease, Ok(report)), Ok(()));
        assert_eq!(pool.attempts(), [(0, AttemptFailureKind::MalformedResult)]);
    }
}

#[test]
fn a_reply_is_held_back_until_there_is_something_to_say() {
    let mut pool = Pool::new();
    let mut device = pool.device();
    let waiting = pool.wait(&mut device, 2);
    pool.pass(4_750);
    assert_eq!(pool.late, [].into());
    pool.pass(250);
    assert_eq!(pool.heard(&mut device, waiting).leases, []);

    let waiting = pool.wait(&mut device, 2);
    pool.job(3);
    let reply = pool.heard(&mut device, waiting);
    assert_eq!((tasks(&reply.leases), reply.sequence), (vec![0, 1], device.sequence));

    // A request that overtakes another one lets that be answered with nothing.
    pool.pass(100);
    let first = pool.wait(&mut device, 0);
    let second = pool.wait(&mut device, 0);
    assert_eq!(pool.heard(&mut device, first).leases, []);
    assert!(!pool.late.contains_key(&second));
}

#[test]
fn nobody_waits_longer_than_the_pool_allows() {
    let mut pool = Pool::new();
    let mut device = pool.device();
    let mut request = pool.request(&mut device);
    request.wait = Millis(3_600_000);
    let Heard::Held(id) = pool.exchange(request) else { panic!() };
    pool.pass(5_000);
    pool.heard(&mut device, id);
}

#[test]
fn a_lost_reply_loses_no_task() {
    let mut pool = Pool::new();
    pool.job(2);
    let (mut device, mut other) = (pool.device(), pool.device());
    let mut request = pool.request(&mut device);
    (request.slots_free, request.slots) = (1, 1);
    let Heard::Reply(lost) = pool.exchange(request) else { panic!() };
    assert_eq!(tasks(&lost.leases), [0]);

    // As long as the reply may still come, the lease stays.
    let settled = device.sequence - 1;
    pool.speak(&mut device, |request| request.settled_sequence = settled);
    assert_eq!(pool.attempts(), []);
    pool.speak(&mut device, |_| ());
    assert_eq!(pool.attempts(), [(0, AttemptFailureKind::DeviceForgot)]);
    assert_eq!(tasks(&pool.take(&mut other, 2)), [0, 1]);
}

#[test]
fn leases_on_their_way_count_against_free_slots() {
    let mut pool = Pool::new();
    pool.job(9);
    let mut device = pool.device();
    let mut request = pool.request(&mut device);
    request.slots_free = 2;
    let Heard::Reply(on_its_way) = pool.exchange(request) else { panic!() };
    assert_eq!(on_its_way.leases.len(), 2);
    // The device does not know of these two when it asks for three.
    let settled = device.sequence - 1;
    let reply = pool.speak(&mut device, |request| (request.slots_free, request.settled_sequence) = (3, settled));
    assert_eq!(tasks(&reply.leases), [2]);
}

#[test]
fn a_broken_connection_loses_the_device_after_five_seconds() {
    let mut pool = Pool::new();
    pool.job(1);
    let (mut device, mut other) = (pool.device(), pool.device());
    let lease = pool.take(&mut device, 1);
    pool.wait(&mut device, 0);
    pool.step(Input::ExchangeGone(device.id));
    pool.pass(5_000);
    pool.speak(&mut other, |_| ());
    assert_eq!(pool.attempts(), []);
    pool.pass(250);
    assert_eq!(pool.attempts(), [(0, AttemptFailureKind::DeviceLost)]);
    assert_eq!(pool.late, [].into(), "somebody answers a broken connection");
    assert_eq!(tasks(&pool.take(&mut other, 1)), tasks(&lease));
}

#[test]
fn a_device_that_speaks_again_after_its_connection_broke_is_kept() {
    let mut pool = Pool::new();
    pool.job(1);
    let mut device = pool.device();
    pool.take(&mut device, 1);
    pool.wait(&mut device, 0);
    pool.step(Input::ExchangeGone(device.id));
    pool.pass(4_000);
    pool.speak(&mut device, |_| ());
    pool.pass(8_000);
    assert_eq!(pool.attempts(), []);
}

#[test]
fn a_device_holds_a_bounded_number_of_leases() {
    let mut pool = Pool::with(|config| config.leases_per_device_max = 3);
    pool.job(9);
    let mut device = pool.device();
    assert_eq!(tasks(&pool.take(&mut device, 2)), [0, 1]);
    assert_eq!(tasks(&pool.take(&mut device, 4)), [2]);
    assert_eq!(tasks(&pool.take(&mut device, 4)), [0_u32; 0]);
}

#[test]
fn of_a_device_in_conversation_its_session_is_known() {
    let mut pool = Pool::new();
    let mut device = pool.stranger();
    assert_eq!(pool.coordinator.session(device.id), None);
    pool.speak(&mut device, |_| ());
    assert_eq!(pool.coordinator.session(device.id), device.session);
    let view = pool.coordinator.device_view(device.id).unwrap();
    assert_eq!((view.present, view.slots, view.heard), (true, 4, Some(pool.timestamp())));
    assert_eq!(pool.coordinator.slots_present(), 4);
}

#[test]
fn explanations_name_what_is_waited_for() {
    let mut pool = Pool::new();
    let job = pool.job(2);
    let why = |pool: &Pool| pool.coordinator.explain_job(job, pool.timestamp()).join(" ");
    assert!(why(&pool).contains("No device has joined this pool yet"), "{}", why(&pool));
    let mut device = pool.stranger();
    assert!(why(&pool).contains("None of the 1 enrolled devices is connected"), "{}", why(&pool));
    pool.speak(&mut device, |_| ());
    let lease = pool.take(&mut device, 1)[0];
    pool.fail(&mut device, lease, AttemptFailureKind::RunnerDied);
    let text = why(&pool);
    assert!(text.starts_with("0 of 2 tasks are done, 0 are being worked on, 2 wait."), "{text}");
    assert!(text.contains("saw its runner process die: because"), "{text}");
    let text = pool.coordinator.explain_device(device.id, pool.timestamp()).join(" ");
    assert!(text.contains("It stays away from task job_1/0 for 5.0 s more"), "{text}");
}

#[test]
fn explanations_name_what_confined_the_programs() {
    let mut pool = Pool::new();
    let job = pool.job(4);
    let mut device = pool.stranger();
    let leases = pool.take(&mut device, 3);
    let why = |pool: &Pool| pool.coordinator.explain_job(job, pool.timestamp());
    let of_device = |pool: &Pool| pool.coordinator.explain_device(device.id, pool.timestamp()).join(" ");
    assert!(!why(&pool).join(" ").contains("jail") && !of_device(&pool).contains("jail"));
    let optional: JailLayers = JailLayer::ALL.into_iter().filter(|layer| layer.is_mandatory()).collect();
    let weak: JailLayers = optional.iter().filter(|layer| *layer != JailLayer::EmptyRoot).collect();
    let mut told = vec![];
    let mut speaker = device.clone();
    for (lease, jail) in leases.into_iter().zip([optional, weak, JailLayers::NONE]) {
        let report = TaskReport { jail, ..done(&lease) };
        assert_eq!(pool.report(&mut speaker, lease, Ok(report)), Ok(()));
        told.push(of_device(&pool));
    }
    let last = "The program of its last result, 0 ms ago, ran in";
    let without = "landlock-network, landlock-scopes, control-group";
    assert!(told[0].contains(&format!("{last} a jail of 15 of 18 layers, without {without}.")), "{told:?}");
    assert!(told[1].contains("a jail of 14 of 18 layers, without empty-root, landlock-network"), "{told:?}");
    assert!(told[2].contains(&format!("{last} no jail that its device would tell of.")), "{told:?}");
    let lines = why(&pool);
    let by = format!("by {} (a device)", device.id);
    let expected = [
        "1 results were computed in a jail of all mandatory layers.".to_owned(),
        format!("1 results were computed in no jail that its device would tell of: {by}."),
        format!("1 results were computed in a jail of 14 of 18 layers, without empty-root, {without}: {by}."),
    ];
    assert_eq!(lines[lines.len() - 3..], expected, "{lines:?}");
}

#[test]
fn a_result_without_a_claim_is_refused_and_its_task_stays_open() {
    let mut pool = Pool::new();
    let mut device = pool.device();
    pool.job(1);
    let lease = pool.take(&mut device, 1)[0];
    let report = Report { claim: None, ..device.says(lease, Ok(done(&lease))) };
    let reply = pool.speak(&mut device, |request| request.reports = vec![report]);
    assert!(matches!(reply.acks[0].1, Err(Refusal::FieldInvalid { field: "report", .. })), "{reply:?}");
    assert_eq!(reply.claims, 0);
    pool.finish(&mut device, lease);
}
