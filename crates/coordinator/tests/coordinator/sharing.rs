//! Who is served next.

use crate::harness::*;
use caii_coordinator::*;
use caii_model::*;

fn jobs(leases: &[SignedLease]) -> Vec<JobId> {
    leases.iter().map(|lease| lease.lease.task.job).collect()
}

#[test]
fn accounts_take_turns() {
    let mut pool = Pool::new();
    let (first, second) = (pool.job_of("alice", 20), pool.job_of("alice", 20));
    let third = pool.job_of("bob", 20);
    let mut device = pool.device();
    let leases = pool.take(&mut device, 6);
    assert_eq!(jobs(&leases), [first, third, first, third, first, third]);
    // Two more of bob's are done, so bob is behind again.
    pool.finish(&mut device, leases[1]);
    pool.finish(&mut device, leases[3]);
    assert_eq!(jobs(&pool.take(&mut device, 4)), [third, third, first, third]);
    assert_eq!(pool.view(second).tasks_leased, 0);
}

#[test]
fn a_device_prefers_what_it_can_start_at_once() {
    let mut pool = Pool::new();
    let first = pool.job(2);
    let other = Manifest { name: "other".into(), ..manifest() };
    pool.must(Input::WorkloadAdd(other.clone()));
    pool.workload = other.digest();
    let second = pool.job(2);
    let mut device = pool.device();
    let leases = pool.speak(&mut device, |request| {
        (request.slots_free, request.ready) = (3, vec![other.digest()]);
    });
    assert_eq!(jobs(&leases.leases), [second, second, first]);
}

#[test]
fn a_request_that_somebody_waits_for_goes_first() {
    let mut pool = Pool::new();
    let batch = pool.job_of("bob", 2);
    let mut device = pool.device();
    let held = pool.take(&mut device, 1);
    let spec = JobSpec { kind: JobKind::Sync { endpoint: Endpoint::Embeddings }, input: None, ..pool.spec("bob") };
    let Reply::Job(sync) = pool.must(Input::JobSubmitPrepared(spec, prepared(1))) else { panic!() };
    assert_eq!((jobs(&held), jobs(&pool.take(&mut device, 2))), (vec![batch], vec![sync, batch]));
}

#[test]
fn a_job_that_is_submitted_goes_to_the_devices_that_wait() {
    let mut pool = Pool::new();
    let (mut one, mut other) = (pool.device(), pool.device());
    let (first, second) = (pool.wait(&mut one, 1), pool.wait(&mut other, 1));
    pool.job(3);
    let mut given = tasks(&pool.heard(&mut one, first).leases);
    given.extend(tasks(&pool.heard(&mut other, second).leases));
    given.sort();
    assert_eq!(given, [0, 1]);
}
