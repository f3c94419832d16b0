//! A coordinator that was restarted takes up what devices are already doing.

use crate::harness::*;
use caii_coordinator::*;
use caii_model::*;

#[test]
fn leases_from_before_a_restart_are_taken_up_and_their_results_accepted() {
    let mut pool = Pool::new();
    let job = pool.job(3);
    let mut device = pool.device();
    let leases = pool.take(&mut device, 2);
    pool.restart();
    let request = pool.request(&mut device);
    let stale = ExchangeRequest { boot: Some(BootId([1; 16])), ..request };
    assert_eq!(pool.refused(stale), Refusal::BootChanged(BootId([2; 16])));
    let request = pool.request(&mut device);
    assert_eq!(pool.refused(request), Refusal::SessionUnknown);
    device.session = None;
    assert_eq!(pool.speak(&mut device, |_| ()).dropped, []);
    assert_eq!((pool.view(job).tasks_leased, pool.view(job).tasks_waiting), (2, 1));
    pool.finish(&mut device, leases[0]);
    // A report of a lease that this process has never seen counts as well.
    pool.restart();
    device.session = None;
    pool.finish(&mut device, leases[1]);
    assert_eq!(pool.view(job).totals.tasks_settled, 2);
    assert_eq!(pool.attempts(), []);
}

#[test]
fn no_task_is_given_out_twice_while_devices_tell_what_they_do() {
    let mut pool = Pool::new();
    let job = pool.job(3);
    let (mut busy, mut idle) = (pool.device(), pool.device());
    pool.take(&mut busy, 2);
    pool.restart();
    idle.session = None;
    let waiting = pool.wait(&mut idle, 3);
    let after = pool.job(1);
    // What was submitted since cannot be anybody's yet.
    let reply = pool.heard(&mut idle, waiting);
    assert_eq!(reply.leases.iter().map(|lease| lease.lease.task.job).collect::<Vec<_>>(), [after]);
    let waiting = pool.wait(&mut idle, 3);
    pool.pass(2_750);
    assert_eq!(pool.late, [].into());
    busy.session = None;
    pool.speak(&mut busy, |_| ());
    pool.pass(250);
    assert_eq!(tasks(&pool.heard(&mut idle, waiting).leases), [2]);
    assert_eq!((pool.view(job).tasks_leased, pool.view(job).tasks_waiting), (3, 0));
}

#[test]
fn a_device_that_comes_late_after_a_restart_keeps_its_task_if_nobody_finished_it() {
    let mut pool = Pool::new();
    let job = pool.job(1);
    let (mut late, mut other) = (pool.device(), pool.device());
    let lease = pool.take(&mut late, 1)[0];
    pool.restart();
    pool.pass(3_000);
    other.session = None;
    let again = pool.take(&mut other, 1)[0];
    assert_eq!(again.lease.task, lease.lease.task);
    late.session = None;
    assert_eq!(pool.speak(&mut late, |_| ()).dropped, []);
    assert_eq!(pool.view(job).tasks_leased, 1, "two devices work on one task");
    // The loss of one of them does not put the task back into the queue.
    other.restart();
    pool.speak(&mut other, |_| ());
    assert_eq!((pool.view(job).tasks_leased, pool.view(job).tasks_waiting), (1, 0));
    pool.finish(&mut late, lease);
    assert_eq!(pool.report(&mut other, again, Ok(done(&again))), Err(Refusal::JobEnded(job)));
}

#[test]
fn leases_that_ended_meanwhile_are_not_taken_up() {
    let mut pool = Pool::new();
    pool.job(2);
    let mut device = pool.device();
    let lease = pool.take(&mut device, 1)[0];
    pool.now += 3_600_000;
    pool.restart();
    device.session = None;
    assert_eq!(pool.speak(&mut device, |_| ()).dropped, [lease.lease.id]);
}

#[test]
fn an_uncommitted_step_is_forgotten() {
    let mut pool = Pool::new();
    let job = pool.job(1);
    let mut device = pool.device();
    let lease = pool.take(&mut device, 1)[0];
    let next = NextIds { key: 2, ticket: 2, file: 2, job: 2 };
    let (mut second, _) = Coordinator::load(
        Config::new(METER),
        pool.pool,
        BootId([9; 16]),
        Box::new(caii_trust::SimAuthority::new([4; 32])),
        pool.changes(),
        next,
        pool.timestamp(),
    );
    let report = device.says(lease, Ok(done(&lease)));
    pool.finish(&mut device, lease);
    // The first process dies before its commit; the second one never heard of the result and takes it again.
    let mut request = pool.request(&mut device);
    (request.boot, request.session) = (Some(BootId([9; 16])), None);
    request.reports = vec![report];
    let context = Context { now: pool.timestamp(), entropy: [1; 32] };
    let step = second.step(context, RequestId(1), Input::Exchange(request));
    let settles = |change: &Change| matches!(change, Change::TaskSettled(task, _) if *task == lease.lease.task);
    assert!(step.changes.iter().any(settles), "{step:?}");
    assert_eq!(step.effects[0], Effect::Assemble(job));
}
