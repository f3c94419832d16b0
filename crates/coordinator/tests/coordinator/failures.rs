//! What happens to tasks whose devices vanish or fail, and when a task is given up.

use crate::harness::*;
use AttemptFailureKind::*;
use caii_coordinator::*;
use caii_model::*;

#[test]
fn a_silent_device_is_lost_after_twelve_seconds_and_its_tasks_go_on() {
    let mut pool = Pool::new();
    pool.job(1);
    let (mut silent, mut other) = (pool.device(), pool.device());
    let leases = pool.take(&mut silent, 1);
    assert_eq!(tasks(&leases), [0]);
    pool.pass_with(&mut [&mut other], 12_000);
    assert_eq!(pool.attempts(), []);
    let waiting = pool.wait(&mut other, 1);
    pool.pass(250);
    assert_eq!(pool.attempts(), [(0, DeviceLost)]);
    assert_eq!(tasks(&pool.heard(&mut other, waiting).leases), [0]);
    assert!(!pool.coordinator.device_view(silent.id).unwrap().present);

    // The lost device did the work all the same and was first.
    let request = pool.request(&mut silent);
    assert_eq!(pool.refused(request), Refusal::SessionUnknown);
    silent.session = None;
    pool.finish(&mut silent, leases[0]);
    let dropped = pool.speak(&mut other, |_| ()).dropped;
    assert_eq!(dropped.len(), 1, "the other one is told to stop");
    assert_eq!(other.holding.len(), 0);
}

#[test]
fn a_lost_device_that_comes_back_goes_on_with_its_task() {
    let mut pool = Pool::new();
    let job = pool.job(1);
    let mut device = pool.device();
    let lease = pool.take(&mut device, 1)[0];
    pool.pass(12_250);
    assert_eq!(pool.attempts(), [(0, DeviceLost)]);
    device.session = None;
    pool.speak(&mut device, |_| ());
    assert_eq!((pool.view(job).tasks_leased, pool.view(job).tasks_waiting), (1, 0));
    assert_eq!(device.holding, [lease]);

    // Losing it once more is the same attempt.
    pool.pass(12_250);
    assert_eq!((pool.attempts().len(), pool.view(job).tasks_waiting), (1, 1));
    device.session = None;
    pool.speak(&mut device, |_| ());

    // And if it fails then, the task waits again.
    pool.fail(&mut device, lease, RunnerDied);
    assert_eq!((pool.view(job).tasks_leased, pool.view(job).tasks_waiting), (0, 1));
}

#[test]
fn a_restarted_agent_loses_its_tasks_at_once() {
    let mut pool = Pool::new();
    pool.job(1);
    let (mut device, mut other) = (pool.device(), pool.device());
    pool.take(&mut device, 1);
    device.restart();
    pool.speak(&mut device, |request| request.settled_sequence = 0);
    assert_eq!(pool.attempts(), [(0, DeviceForgot)]);
    assert_eq!(tasks(&pool.take(&mut other, 1)), [0]);
}

#[test]
fn a_lease_runs_out() {
    let mut pool = Pool::with(|config| config.lease_duration = Millis(20_000));
    pool.job(1);
    let mut device = pool.device();
    let lease = pool.take(&mut device, 1)[0];
    pool.pass_with(&mut [&mut device], 19_750);
    assert_eq!(pool.attempts(), []);
    pool.pass(250);
    assert_eq!(pool.attempts(), [(0, LeaseExpired)]);
    assert_eq!(pool.speak(&mut device, |_| ()).dropped, [lease.lease.id]);
    let late = pool.report(&mut device, lease, Ok(done(&lease)));
    assert_eq!(late, Err(Refusal::LeaseExpired(lease.lease.expires)));
}

#[test]
fn a_device_that_failed_a_task_leaves_it_to_others_for_a_while() {
    let mut pool = Pool::new();
    pool.job(2);
    let mut device = pool.device();
    let leases = pool.take(&mut device, 1);
    pool.fail(&mut device, leases[0], RunnerDied);
    assert_eq!(tasks(&pool.take(&mut device, 2)), [1]);
    pool.pass(4_750);
    assert_eq!(tasks(&pool.take(&mut device, 1)), [0_u32; 0]);
    pool.pass(250);
    let leases = pool.take(&mut device, 1);
    assert_eq!(tasks(&leases), [0]);
    pool.fail(&mut device, leases[0], ItemTooSlow);
    pool.pass_with(&mut [&mut device], 9_750);
    assert_eq!(tasks(&pool.take(&mut device, 1)), [0_u32; 0], "the second time it stays away for longer");
    pool.pass(250);
    assert_eq!(tasks(&pool.take(&mut device, 1)), [0]);
}

#[test]
fn a_device_that_cannot_start_a_job_leaves_it_for_a_while() {
    let mut pool = Pool::new();
    pool.job(2);
    let mut device = pool.device();
    let lease = pool.take(&mut device, 1)[0];
    pool.fail(&mut device, lease, DiskFull);
    assert_eq!(tasks(&pool.take(&mut device, 2)), [0_u32; 0]);
    let other = pool.job(1);
    assert_eq!(pool.take(&mut device, 1)[0].lease.task.job, other);
    pool.pass(5_000);
    assert_eq!(tasks(&pool.take(&mut device, 2)), [0, 1]);
}

#[test]
fn a_task_that_three_devices_blame_is_given_up() {
    let mut pool = Pool::new();
    let job = pool.job(2);
    let mut devices = [pool.device(), pool.device(), pool.device()];
    for (device, kind) in devices.iter_mut().zip([RunnerDied, ItemTooSlow, MalformedResult]) {
        assert_eq!(pool.given_up(), [0_u32; 0]);
        let lease = pool.take(device, 1)[0];
        pool.fail(device, lease, kind);
    }
    assert_eq!(pool.given_up(), [0]);
    let lease = pool.take(&mut devices[0], 2)[0];
    assert_eq!(lease.lease.task.index, TaskIndex(1));
    pool.finish(&mut devices[0], lease);
    assert_eq!(pool.effects(), vec![Effect::Assemble(job)]);
    let assembly = pool.coordinator.assembly(job).unwrap();
    assert_eq!(assembly.ending, Ending::Completed);
    assert_eq!(
        assembly.given_up[&TaskIndex(0)].iter().map(|a| a.failure.kind).collect::<Vec<_>>(),
        [RunnerDied, ItemTooSlow, MalformedResult]
    );
    let totals = pool.view(job).totals;
    assert_eq!((totals.records_ok, totals.records_failed, totals.tasks_given_up, totals.attempts_failed), (2, 2, 1, 3));
}

/// Fails the only task of a job over and over, and tells how often.
fn fail_until_given_up(pool: &mut Pool, device: &mut Dev, others: &mut [&mut Dev], kind: AttemptFailureKind) -> usize {
    for attempts in 1..=100 {
        let lease = loop {
            if let Some(lease) = pool.take(device, 1).first() {
                break *lease;
            }
            pool.pass(1_000);
            others.iter_mut().for_each(|other| drop(pool.speak(other, |_| ())));
        };
        pool.fail(device, lease, kind);
        if pool.given_up() == [0] {
            return attempts;
        }
    }
    panic!("never given up")
}

#[test]
fn a_task_that_fails_on_the_only_device_is_given_up_after_six_attempts_that_blame_it() {
    let mut pool = Pool::new();
    pool.job(2);
    let mut device = pool.device();
    let keep = pool.take(&mut device, 2)[1];
    let leases = device.holding.clone();
    pool.fail(&mut device, leases[0], RunnerDied);
    assert_eq!(1 + fail_until_given_up(&mut pool, &mut device, &mut [], RunnerDied), 6);
    pool.finish(&mut device, keep);
}

#[test]
fn a_task_that_fails_for_no_fault_of_its_own_is_given_up_after_twelve_attempts() {
    let mut pool = Pool::new();
    let job = pool.job(1);
    let mut device = pool.device();
    assert_eq!(fail_until_given_up(&mut pool, &mut device, &mut [], BlobUnavailable), 12);
    assert_eq!(pool.effects(), vec![Effect::Assemble(job)]);
}

#[test]
fn a_device_on_which_everything_fails_cannot_make_others_tasks_be_given_up() {
    let mut pool = Pool::new();
    pool.job(2);
    let (mut broken, mut healthy) = (pool.device(), pool.device());
    let long = pool.take(&mut healthy, 1)[0];
    for _ in 0..200 {
        if let Some(lease) = pool.take(&mut broken, 1).first() {
            pool.fail(&mut broken, *lease, RunnerDied);
        }
        pool.pass_with(&mut [&mut healthy], 3_000);
    }
    assert!((7..=40).contains(&pool.attempts().len()), "{} attempts in ten minutes", pool.attempts().len());
    assert_eq!(pool.given_up(), [0_u32; 0]);
    pool.finish(&mut healthy, long);
    let lease = pool.take(&mut healthy, 1)[0];
    pool.finish(&mut healthy, lease);
}

#[test]
fn what_owners_give_back_does_not_count() {
    let mut pool = Pool::new();
    pool.job(1);
    let mut device = pool.device();
    for _ in 0..50 {
        let lease = pool.take(&mut device, 1)[0];
        pool.fail(&mut device, lease, GivenBack);
        pool.pass_with(&mut [&mut device], 5_000);
    }
    assert_eq!(pool.given_up(), [0_u32; 0]);
}

#[test]
fn a_program_that_starts_on_no_device_ends_its_job() {
    let mut pool = Pool::new();
    let job = pool.job(5);
    let mut devices = [pool.device(), pool.device(), pool.device()];
    for device in &mut devices {
        assert_eq!(pool.effects(), vec![]);
        let lease = pool.take(device, 1)[0];
        pool.fail(device, lease, PreparationFailed);
    }
    assert_eq!(pool.effects(), vec![Effect::JobEnded(job)]);
    let Some(Change::JobEnded(_, end)) = pool.changes().last() else { panic!() };
    let Ending::Failed { errors } = &end.ending else { panic!() };
    assert_eq!(errors[0].code, "program_cannot_start");
    assert_eq!(errors[0].message, "no device could start the program: because");
}

#[test]
fn one_device_that_cannot_start_a_program_does_not_end_its_job_at_once() {
    let mut pool = Pool::new();
    let job = pool.job(20);
    let (mut broken, mut healthy) = (pool.device(), pool.device());
    let lease = pool.take(&mut healthy, 1)[0];
    // All that it held fails together: one try.
    pool.take(&mut broken, 9);
    for _ in 0..8 {
        let holding = broken.holding.clone();
        pool.speak(&mut broken, |request| {
            let report =
                |lease: &SignedLease| Report { lease: *lease, outcome: Err(failure(PreparationFailed)), claim: None };
            request.reports = holding.iter().map(report).collect();
        });
        assert_eq!(pool.view(job).phase, Phase::Running);
        pool.pass_with(&mut [&mut broken, &mut healthy], 60_000);
        pool.take(&mut broken, 9);
    }
    assert_eq!(pool.given_up(), [0_u32; 0]);
    pool.finish(&mut healthy, lease);
}

#[test]
fn a_device_that_never_tries_keeps_a_program_that_does_not_start_only_so_long() {
    let mut pool = Pool::new();
    pool.job(1);
    let (mut one, mut other, mut idle) = (pool.device(), pool.device(), pool.device());
    let mut failures = 0;
    while pool.effects().is_empty() {
        assert!(failures < 12, "it goes on after {failures} failures");
        for device in [&mut one, &mut other] {
            if let [lease] = pool.take(device, 1)[..] {
                pool.fail(device, lease, PreparationFailed);
                failures += 1;
            }
        }
        pool.pass_with(&mut [&mut one, &mut other, &mut idle], 60_000);
    }
    assert_eq!(failures, 12);
}

#[test]
fn a_program_that_ran_somewhere_is_not_held_to_be_unable_to_start() {
    let mut pool = Pool::new();
    let job = pool.job(9);
    let mut devices = [pool.device(), pool.device(), pool.device(), pool.device()];
    let lease = pool.take(&mut devices[3], 1)[0];
    pool.finish(&mut devices[3], lease);
    for device in &mut devices[..3] {
        let lease = pool.take(device, 1)[0];
        pool.fail(device, lease, PreparationFailed);
    }
    assert_eq!(pool.view(job).phase, Phase::Running);
}

#[test]
fn a_pool_that_did_not_listen_for_a_while_blames_no_device() {
    let mut pool = Pool::new();
    pool.job(1);
    let mut device = pool.device();
    pool.take(&mut device, 1);
    let waiting = pool.wait(&mut device, 0);
    // A slow disk, a suspended machine, a clock set forward.
    pool.now += 30_000;
    pool.step(Input::Tick);
    assert_eq!(pool.attempts(), []);
    pool.heard(&mut device, waiting);
    pool.pass(10_000);
    assert_eq!(pool.attempts(), []);
    pool.pass(5_000);
    assert_eq!(pool.attempts(), [(0, DeviceLost)]);
}

#[test]
fn a_clock_that_is_set_back_does_not_stop_the_pool() {
    let mut pool = Pool::new();
    pool.job(1);
    let mut device = pool.device();
    pool.take(&mut device, 1);
    pool.now -= 3_600_000;
    pool.pass(12_000);
    assert_eq!(pool.attempts(), []);
    pool.pass(500);
    assert_eq!(pool.attempts(), [(0, DeviceLost)]);
}

#[test]
fn a_clock_that_is_set_back_does_not_refuse_or_prolong_jobs() {
    let mut pool = Pool::new();
    pool.now -= 3_600_000;
    let spec = JobSpec { deadline: Timestamp(pool.now + 60_000), ..pool.spec("alice") };
    let Reply::Job(job) = pool.must(Input::JobSubmit(spec)) else { panic!("no job") };
    pool.step(Input::JobPrepared(job, Ok(prepared(1))));
    pool.pass(59_000);
    assert_eq!(pool.view(job).phase, Phase::Running);
    pool.pass(2_000);
    assert_eq!(pool.view(job).phase, Phase::Assembling);
}

#[test]
fn a_revoked_workload_ends_its_open_jobs_and_their_work() {
    let mut pool = Pool::new();
    let job = pool.job(2);
    let mut device = pool.device();
    let leases = pool.take(&mut device, 1);
    assert_eq!(tasks(&leases), [0]);
    pool.step(Input::WorkloadRevoked { workload: Digest([77; 32]), reason: "of another".into() });
    assert_eq!(pool.view(job).phase, Phase::Running);
    let workload = pool.workload;
    pool.step(Input::WorkloadRevoked { workload, reason: "alice: it leaks".into() });
    assert_eq!(pool.effects(), vec![Effect::JobEnded(job)]);
    let errors = pool.changes().iter().find_map(|change| match change {
        Change::JobEnded(_, JobEnd { ending: Ending::Failed { errors }, .. }) => Some(errors.clone()),
        _ => None,
    });
    let errors = errors.expect("it ended as failed");
    assert_eq!(
        (errors[0].code.as_str(), errors[0].message.as_str()),
        ("workload_revoked", "the workload was revoked: alice: it leaks")
    );
    let reply = pool.speak(&mut device, |_| {});
    assert_eq!(reply.dropped, [leases[0].lease.id]);
    // Said again, as after a restart, it changes nothing.
    let before = pool.changes().len();
    pool.step(Input::WorkloadRevoked { workload, reason: "alice: it leaks".into() });
    assert_eq!(pool.changes().len(), before);
}

#[test]
fn a_program_that_every_device_refuses_ends_its_job_with_the_reason() {
    let mut pool = Pool::new();
    let job = pool.job(1);
    for _ in 0..3 {
        let mut device = pool.device();
        let lease = pool.take(&mut device, 1)[0];
        pool.fail(&mut device, lease, AttemptFailureKind::Uncertified);
    }
    let failed = |change: &Change| matches!(change, Change::JobEnded(id, JobEnd { ending: Ending::Failed { errors }, .. }) if *id == job && errors[0].code == "program_cannot_start");
    assert!(pool.changes().iter().any(failed), "{:?}", pool.changes());
}

#[test]
fn new_governance_is_told_at_once_to_devices_that_wait() {
    let mut pool = Pool::new();
    let (mut waits, mut speaks) = (pool.device(), pool.device());
    let waiting = pool.wait(&mut waits, 0);
    pool.step(Input::GovernanceChanged { version: 7 });
    assert_eq!(pool.heard(&mut waits, waiting).governance, 7);
    assert_eq!(pool.speak(&mut speaks, |_| {}).governance, 7);
    // What is known already wakes nobody.
    let waiting = pool.wait(&mut waits, 0);
    pool.step(Input::GovernanceChanged { version: 7 });
    pool.pass(250);
    pool.now += 5_000;
    pool.step(Input::Tick);
    assert_eq!(pool.heard(&mut waits, waiting).now, pool.timestamp(), "it was held back until its time");
}
