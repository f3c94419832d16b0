//! Results and their checks: what is drawn, who may check, what is final, who is convicted, what is done again.

use crate::harness::*;
use caii_coordinator::*;
use caii_model::*;

const AUDIT: Verification = Verification::Audit { depth: 3 };
const QUORUM: Verification = Verification::Quorum { results: 2 };

fn task(job: JobId, index: u32) -> TaskId {
    TaskId { job, index: TaskIndex(index) }
}

/// Answers what the coordinator wants gathered, as the shell would.
fn gather(pool: &mut Pool) -> Vec<TaskId> {
    let mut gathered = Vec::new();
    for effect in pool.effects() {
        let Effect::Gather(audit) = effect else { panic!("{effect:?}") };
        let records = pool.coordinator.audit(audit).expect("it is under way").items.len() as u32;
        let input = TaskInput { digest: Digest([200; 32]), offset: 0, len: 10 * records, records };
        pool.step(Input::AuditGathered(audit, Digest([201; 32]), input));
        gathered.push(audit);
    }
    gathered
}

fn ended(pool: &Pool, job: JobId) -> Option<Totals> {
    pool.changes().iter().find_map(|change| match change {
        Change::JobEnding(id, Ending::Completed, _) if *id == job => {
            Some(pool.coordinator.job(None, job).expect("it is open until its output is written").totals)
        }
        _ => None,
    })
}

fn finals(pool: &Pool) -> Vec<u32> {
    let is_final = |change: &Change| match change {
        Change::Checked(task, CheckEvent::Final(_)) => Some(task.index.0),
        _ => None,
    };
    pool.changes().iter().filter_map(is_final).collect()
}

fn convicts(pool: &Pool) -> Vec<(DeviceId, bool)> {
    pool.coordinator.convictions().map(|conviction| (conviction.device, conviction.as_auditor)).collect()
}

#[test]
fn what_is_not_checked_ends_as_before() {
    let mut pool = Pool::new();
    let job = pool.checked_job(1, Verification::Off);
    let mut device = pool.device();
    let lease = pool.take(&mut device, 1)[0];
    pool.finish(&mut device, lease);
    assert_eq!(pool.effects(), [Effect::Assemble(job)]);
}

#[test]
fn a_new_device_is_audited_until_its_results_are_final() {
    let mut pool = Pool::new();
    let job = pool.checked_job(2, AUDIT);
    let (mut worker, mut other) = (pool.device_of("ann"), pool.device_of("bob"));
    for _ in 0..2 {
        let lease = pool.take(&mut worker, 1)[0];
        pool.finish(&mut worker, lease);
    }
    // Three of four items at first; two of the first task make an audit of ordinary size, the rest one at the end.
    assert_eq!(ended(&pool, job), None);
    let audits = gather(&mut pool);
    assert!(!audits.is_empty());
    let audited: usize = audits.iter().map(|audit| pool.coordinator.audit(*audit).unwrap().items.len()).sum();
    assert_eq!(audited, 3);
    assert_eq!(pool.take(&mut worker, 4), [], "nobody audits himself");
    let mut sibling = pool.device_of("ann");
    assert_eq!(pool.take(&mut sibling, 4), [], "nor does another device of the same owner");
    let mut rounds = 0;
    while ended(&pool, job).is_none() {
        rounds += 1;
        assert!(rounds < 10);
        for lease in pool.take(&mut other, 4) {
            assert!(lease.lease.task.index.0 >= 2);
            pool.finish(&mut other, lease);
            assert_eq!(pool.effects(), [Effect::Compare(lease.lease.task)]);
            pool.step(Input::AuditCompared(lease.lease.task, vec![]));
        }
        if ended(&pool, job).is_none() {
            gather(&mut pool);
        }
    }
    assert_eq!(pool.effects(), [Effect::Assemble(job)]);
    let totals = ended(&pool, job).unwrap();
    assert_eq!((totals.records_ok, totals.tasks_settled, totals.devices), (4, 2, 1), "audits are no results");
    let mut done = finals(&pool);
    done.sort_unstable();
    assert_eq!(done, [0, 1]);
}

#[test]
fn who_falsifies_is_convicted_and_what_was_not_final_is_done_again() {
    let mut pool = Pool::new();
    let job = pool.checked_job(1, AUDIT);
    let (mut cheat, mut other, mut third) = (pool.device_of("ann"), pool.device_of("bob"), pool.device_of("cid"));
    let lease = pool.take(&mut cheat, 1)[0];
    pool.finish(&mut cheat, lease);
    let [audit] = gather(&mut pool)[..] else { panic!() };
    let lease = pool.take(&mut other, 1)[0];
    assert_eq!(lease.lease.task, audit);
    pool.finish(&mut other, lease);
    assert_eq!(pool.effects(), [Effect::Compare(audit)]);
    pool.step(Input::AuditCompared(audit, vec![1]));
    assert_eq!(pool.effects(), [Effect::Referee(audit, vec![1])]);
    assert_eq!(convicts(&pool), [], "a difference alone convicts nobody");
    // A restart asks for what is under way again.
    assert_eq!(pool.restart(), [Effect::Compare(audit)]);
    pool.pass(3_000);
    for device in [&mut cheat, &mut other, &mut third] {
        device.restart();
        device.sequence = 0;
        pool.speak(device, |_| ());
    }
    pool.step(Input::AuditCompared(audit, vec![1]));
    assert_eq!(pool.effects(), [Effect::Referee(audit, vec![1])]);
    let finding = Finding { place: 1, claim_right: false, auditor_right: Some(true) };
    pool.step(Input::AuditRefereed(audit, Ok(vec![finding])));
    assert_eq!(convicts(&pool), [(cheat.id, false)]);
    let request = pool.request(&mut cheat);
    assert_eq!(pool.refused(request), Refusal::DeviceConvicted(cheat.id));
    // The same findings once more change nothing.
    let before = pool.changes().len();
    pool.step(Input::AuditRefereed(audit, Ok(vec![finding])));
    assert_eq!(pool.changes().len(), before);
    let lease = pool.take(&mut third, 1)[0];
    assert_eq!(lease.lease.task, task(job, 0));
    pool.finish(&mut third, lease);
    assert_eq!(ended(&pool, job), None, "the new result is checked like the first");
    assert_eq!(finals(&pool), [0_u32; 0]);
}

#[test]
fn an_auditor_that_lies_is_convicted_and_the_audited_device_is_not() {
    let mut pool = Pool::new();
    let job = pool.checked_job(1, AUDIT);
    let (mut worker, mut liar) = (pool.device_of("ann"), pool.device_of("bob"));
    let lease = pool.take(&mut worker, 1)[0];
    pool.finish(&mut worker, lease);
    let [audit] = gather(&mut pool)[..] else { panic!() };
    let lease = pool.take(&mut liar, 1)[0];
    pool.finish(&mut liar, lease);
    pool.effects();
    pool.step(Input::AuditCompared(audit, vec![0, 1]));
    pool.effects();
    let right = |place| Finding { place, claim_right: true, auditor_right: Some(place == 1) };
    pool.step(Input::AuditRefereed(audit, Ok(vec![right(0), right(1)])));
    assert_eq!(convicts(&pool), [(liar.id, true)]);
    assert_eq!(finals(&pool), [0]);
    assert_eq!(pool.effects(), [Effect::Assemble(job)]);
}

#[test]
fn where_nobody_can_decide_nobody_is_blamed() {
    let mut pool = Pool::new();
    let job = pool.checked_job(1, AUDIT);
    let (mut worker, mut other) = (pool.device_of("ann"), pool.device_of("bob"));
    let lease = pool.take(&mut worker, 1)[0];
    pool.finish(&mut worker, lease);
    let [audit] = gather(&mut pool)[..] else { panic!() };
    let lease = pool.take(&mut other, 1)[0];
    pool.finish(&mut other, lease);
    pool.effects();
    pool.step(Input::AuditCompared(audit, vec![0]));
    pool.effects();
    pool.step(Input::AuditRefereed(audit, Err("the runner died".into())));
    assert_eq!(convicts(&pool), []);
    let voided = |change: &&Change| matches!(change, Change::TaskVoided(_, VoidReason::Undecided, _));
    assert_eq!(pool.changes().iter().filter(voided).count(), 1);
    assert_eq!(pool.take(&mut worker, 4)[0].lease.task, task(job, 0));
}

#[test]
fn an_audit_that_no_device_may_do_is_done_by_the_pool() {
    let mut pool = Pool::new();
    let job = pool.checked_job(1, AUDIT);
    let mut worker = pool.device_of("ann");
    let lease = pool.take(&mut worker, 1)[0];
    pool.finish(&mut worker, lease);
    let [audit] = gather(&mut pool)[..] else { panic!() };
    pool.pass_with(&mut [&mut worker], 28_000);
    assert_eq!(pool.effects(), []);
    pool.pass_with(&mut [&mut worker], 4_000);
    assert_eq!(pool.effects(), [Effect::Referee(audit, vec![0, 1])]);
    let right = |place| Finding { place, claim_right: true, auditor_right: None };
    pool.step(Input::AuditRefereed(audit, Ok(vec![right(0), right(1)])));
    assert_eq!(pool.effects(), [Effect::Assemble(job)]);
}

#[test]
fn a_quorum_is_of_different_owners_and_equal_roots_end_it() {
    let mut pool = Pool::new();
    let job = pool.checked_job(1, QUORUM);
    let (mut one, mut sibling, mut two) = (pool.device_of("ann"), pool.device_of("ann"), pool.device_of("bob"));
    let lease = pool.take(&mut one, 1)[0];
    pool.finish(&mut one, lease);
    assert_eq!(pool.effects(), [], "the input is there already");
    assert_eq!(pool.take(&mut sibling, 1), []);
    let again = pool.take(&mut two, 1)[0];
    assert_eq!((again.lease.input, again.lease.task), (lease.lease.input, task(job, 1)));
    assert_eq!(ended(&pool, job), None);
    pool.finish(&mut two, again);
    assert_eq!(pool.effects(), [Effect::Assemble(job)]);
    assert_eq!(finals(&pool), [0]);
}

#[test]
fn a_quorum_that_differs_is_decided_item_by_item() {
    let mut pool = Pool::new();
    let job = pool.checked_job(1, QUORUM);
    let (mut one, mut two) = (pool.device_of("ann"), pool.device_of("bob"));
    let lease = pool.take(&mut one, 1)[0];
    pool.finish(&mut one, lease);
    let again = pool.take(&mut two, 1)[0];
    let other = TaskReport { root: Digest([99; 32]), ..done(&again) };
    assert_eq!(pool.report(&mut two, again, Ok(other)), Ok(()));
    let audit = task(job, 1);
    assert_eq!(pool.effects(), [Effect::Compare(audit)]);
    pool.step(Input::AuditCompared(audit, vec![1]));
    assert_eq!(pool.effects(), [Effect::Referee(audit, vec![1])]);
    pool.step(Input::AuditRefereed(
        audit,
        Ok(vec![Finding { place: 1, claim_right: false, auditor_right: Some(true) }]),
    ));
    assert_eq!(convicts(&pool), [(one.id, false)]);
    assert_eq!(pool.take(&mut two, 1)[0].lease.task, task(job, 0));
}

#[test]
fn spot_checks_need_another_device_and_no_other_owner() {
    let mut pool = Pool::new();
    let job = pool.checked_job(1, Verification::Spot);
    let mut alone = pool.device_of("ann");
    let lease = pool.take(&mut alone, 1)[0];
    pool.finish(&mut alone, lease);
    assert_eq!(pool.effects(), [Effect::Assemble(job)], "with nobody to ask, nothing is drawn");

    // One item in a hundred: of many tasks some are drawn.
    let mut second = pool.device_of("ann");
    let job = pool.checked_job(200, Verification::Spot);
    for lease in pool.take(&mut alone, 200) {
        pool.finish(&mut alone, lease);
    }
    let audits = gather(&mut pool);
    assert!(!audits.is_empty());
    let drawn: usize = audits.iter().map(|audit| pool.coordinator.audit(*audit).unwrap().items.len()).sum();
    assert!((1..=15).contains(&drawn), "{drawn} of 400");
    assert_eq!(pool.take(&mut alone, 100), []);
    for lease in pool.take(&mut second, 100) {
        pool.finish(&mut second, lease);
        pool.effects();
        pool.step(Input::AuditCompared(lease.lease.task, vec![]));
    }
    assert_eq!(pool.effects(), [Effect::Assemble(job)]);
}

#[test]
fn spot_checks_that_nobody_can_do_are_waived() {
    let mut pool = Pool::new();
    let job = pool.checked_job(200, Verification::Spot);
    let (mut worker, mut leaver) = (pool.device_of("ann"), pool.device_of("ann"));
    pool.speak(&mut leaver, |_| ());
    for lease in pool.take(&mut worker, 200) {
        pool.finish(&mut worker, lease);
    }
    assert!(!gather(&mut pool).is_empty());
    pool.pass_with(&mut [&mut worker], 60_000);
    assert_eq!(pool.effects(), [Effect::Assemble(job)]);
}

#[test]
fn a_program_that_sees_whole_tasks_is_checked_by_a_quorum() {
    let mut pool = Pool::new();
    let manifest = Manifest { name: "whole".into(), scope: Scope::Task, ..manifest() };
    let workload = manifest.digest();
    pool.must(Input::WorkloadAdd(manifest));
    let spec = JobSpec { verification: AUDIT, workload, ..pool.spec("alice") };
    let Reply::Job(job) = pool.must(Input::JobSubmit(spec)) else { panic!("no job") };
    pool.effects();
    pool.step(Input::JobPrepared(job, Ok(prepared(1))));
    let (mut one, mut two) = (pool.device_of("ann"), pool.device_of("bob"));
    let report = |lease: &SignedLease| Ok(TaskReport { items: 1, ..done(lease) });
    let lease = pool.take(&mut one, 1)[0];
    assert_eq!(pool.report(&mut one, lease, report(&lease)), Ok(()));
    let again = pool.take(&mut two, 1)[0];
    assert_eq!(again.lease.input, lease.lease.input);
    assert_eq!(pool.report(&mut two, again, report(&again)), Ok(()));
    assert_eq!(pool.effects(), [Effect::Assemble(job)]);
}

#[test]
fn a_cancelled_job_gives_what_is_final_alone() {
    let mut pool = Pool::new();
    let job = pool.checked_job(2, AUDIT);
    let mut worker = pool.device_of("ann");
    let lease = pool.take(&mut worker, 1)[0];
    pool.finish(&mut worker, lease);
    pool.effects();
    pool.must(Input::JobCancel { owner: None, job });
    assert_eq!(pool.coordinator.assembly(job).unwrap().settled.len(), 0);
    // What was drawn and never came back is no debt of the device.
    let standing = pool.changes().iter().rev().find_map(|change| match change {
        Change::StandingChanged(_, _, standing) => Some(*standing),
        _ => None,
    });
    assert_eq!(standing.map(|standing| standing.drawn), Some(0));
}
