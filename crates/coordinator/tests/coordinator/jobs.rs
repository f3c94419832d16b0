//! A job from its submission to its end.

use crate::harness::*;
use caii_coordinator::*;
use caii_model::*;

fn assembled() -> Assembled {
    Assembled { output: Some((Digest([31; 32]), Bytes(60))), errors: None, records_ok: 4, records_failed: 0 }
}

fn end_of(pool: &Pool, job: JobId) -> JobEnd {
    let end = |change: &Change| match change {
        Change::JobEnded(id, end) if *id == job => Some(end.clone()),
        _ => None,
    };
    pool.changes().iter().find_map(end).expect("the job has ended")
}

#[test]
fn a_job_is_prepared_run_assembled_and_ended() {
    let mut pool = Pool::new();
    let job = pool.submitted("alice");
    assert_eq!(pool.view(job).phase, Phase::Preparing);
    pool.step(Input::JobPrepared(job, Ok(prepared(2))));
    assert_eq!((pool.view(job).phase, pool.view(job).tasks_waiting), (Phase::Running, 2));

    let mut device = pool.device();
    let leases = pool.take(&mut device, 4);
    assert_eq!(tasks(&leases), [0, 1]);
    let lease = leases[0].lease;
    assert_eq!((lease.pool, lease.device, lease.workload), (pool.pool, device.id, pool.workload));
    assert_eq!((lease.input, lease.blob), (prepared(2).tasks[0], Digest([5; 32])));
    assert_eq!((lease.issued, lease.expires), (pool.timestamp(), pool.timestamp() + Millis(3_600_000)));
    assert_eq!((pool.view(job).tasks_leased, pool.view(job).tasks_waiting), (2, 0));

    pool.finish(&mut device, leases[1]);
    assert_eq!(pool.view(job).phase, Phase::Running);
    pool.finish(&mut device, leases[0]);
    assert_eq!(pool.effects(), vec![Effect::Assemble(job)]);
    assert_eq!(pool.view(job).phase, Phase::Assembling);
    let assembly = pool.coordinator.assembly(job).unwrap();
    assert_eq!(assembly.ending, Ending::Completed);
    assert_eq!(assembly.settled.keys().map(|task| task.0).collect::<Vec<_>>(), [0, 1]);

    pool.step(Input::JobAssembled(job, assembled()));
    assert_eq!(pool.effects(), vec![Effect::JobEnded(job)]);
    assert_eq!(pool.coordinator.job(None, job), None);
    let end = end_of(&pool, job);
    let file = pool.coordinator.file(Some(&account("alice")), end.output.unwrap()).unwrap();
    assert_eq!(
        (file.filename.as_str(), file.purpose, file.size),
        ("job_1_output.jsonl", FilePurpose::BatchOutput, Bytes(60))
    );
    let totals = Totals { records: 4, records_ok: 4, tasks: 2, tasks_settled: 2, devices: 1, ..Totals::default() };
    assert_eq!(end.totals, Totals { fuel: Fuel(2_000), cpu: Millis(20), ..totals });
    assert_eq!((end.ending, end.errors), (Ending::Completed, None));
}

#[test]
fn what_the_shell_says_twice_around_a_restart_changes_nothing() {
    let mut pool = Pool::new();
    let job = pool.submitted("alice");
    assert_eq!(pool.restart(), vec![Effect::Prepare(job)]);
    pool.step(Input::JobPrepared(job, Ok(prepared(1))));
    let before = pool.changes().len();
    pool.step(Input::JobPrepared(job, Ok(prepared(2))));
    assert_eq!(pool.changes().len(), before);
    assert_eq!(pool.restart(), vec![]);
    pool.pass(3_000);

    let mut device = pool.device();
    let lease = pool.take(&mut device, 1)[0];
    pool.finish(&mut device, lease);
    assert_eq!(pool.restart(), vec![Effect::Assemble(job)]);
    pool.effects();
    pool.step(Input::JobAssembled(job, assembled()));
    let before = pool.changes().len();
    pool.step(Input::JobAssembled(job, assembled()));
    assert_eq!(pool.changes().len(), before);
    assert_eq!(pool.restart(), vec![]);
}

#[test]
fn input_that_cannot_be_prepared_fails_the_job() {
    let mut pool = Pool::new();
    let error = |code: &str| InputError { code: code.into(), message: "no".into(), line: Some(3), param: None };
    let job = pool.submitted("alice");
    pool.step(Input::JobPrepared(job, Err(vec![error("invalid_json_line"); 150])));
    assert_eq!(pool.effects(), vec![Effect::JobEnded(job)]);
    assert_eq!(end_of(&pool, job).ending, Ending::Failed { errors: vec![error("invalid_json_line"); 100] });

    let codes = |pool: &mut Pool, prepared: Prepared| {
        let job = pool.submitted("alice");
        pool.step(Input::JobPrepared(job, Ok(prepared)));
        pool.effects();
        match end_of(pool, job).ending {
            Ending::Failed { errors } => errors.iter().map(|error| error.code.clone()).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(codes(&mut pool, prepared(0)), ["empty_file"]);
    let mut wrong = prepared(2);
    wrong.tasks[1].offset += 1;
    assert_eq!(codes(&mut pool, wrong), ["field-invalid"]);
    assert_eq!(codes(&mut pool, Prepared { records: 5, ..prepared(2) }), ["field-invalid"]);
    assert_eq!(codes(&mut pool, Prepared { size: Bytes(41), ..prepared(2) }), ["field-invalid"]);
}

#[test]
fn a_job_is_cancelled_in_each_phase() {
    let mut pool = Pool::new();
    let cancel = |job| Input::JobCancel { owner: Some(account("alice")), job };

    let preparing = pool.submitted("alice");
    assert_eq!(pool.must(cancel(preparing)), Reply::Job(preparing));
    assert_eq!(pool.effects(), vec![Effect::JobEnded(preparing)]);
    pool.step(Input::JobPrepared(preparing, Ok(prepared(1))));
    assert_eq!(pool.coordinator.job(None, preparing), None);

    let running = pool.job(3);
    let mut device = pool.device();
    let leases = pool.take(&mut device, 2);
    pool.finish(&mut device, leases[0]);
    assert_eq!(pool.must(cancel(running)), Reply::Job(running));
    assert_eq!(pool.effects(), vec![Effect::Assemble(running)]);
    assert_eq!(pool.take(&mut device, 4), vec![], "a cancelled job's tasks are given out");
    assert_eq!(device.holding, vec![], "the device was told to stop");
    let late = pool.report(&mut device, leases[1], Ok(done(&leases[1])));
    assert_eq!(late, Err(Refusal::JobEnded(running)));

    assert_eq!(pool.must(cancel(running)), Reply::Job(running), "cancelled while its output is written");
    assert_eq!(pool.effects(), vec![]);
    pool.step(Input::JobAssembled(running, Assembled { records_ok: 2, ..Assembled::default() }));
    let end = end_of(&pool, running);
    assert_eq!((end.ending, end.totals.tasks_settled, end.totals.records_ok), (Ending::Cancelled, 1, 2));
    assert_eq!(pool.refusal(cancel(running)), Refusal::JobUnknown(running));
}

#[test]
fn a_stopped_workload_ends_its_open_jobs_and_no_other() {
    let reason = || "carol: it leaks".to_owned();
    type Stop = fn(Digest, String) -> Input;
    let stops: [(Stop, &str, &str); 2] = [
        (
            |workload, reason| Input::WorkloadRevoked { workload, reason },
            "workload_revoked",
            "the workload was revoked: carol: it leaks",
        ),
        (
            |workload, reason| Input::WorkloadUncertified { workload, reason },
            "workload_uncertified",
            "the workload is certified no longer: carol: it leaks",
        ),
    ];
    for (stop, code, message) in stops {
        let mut pool = Pool::new();
        let (preparing, running) = (pool.submitted("alice"), pool.job_of("bob", 2));
        let Reply::Workload(other) = pool.must(Input::WorkloadAdd(Manifest { name: "other".into(), ..manifest() }))
        else {
            panic!()
        };
        let spec = JobSpec { workload: other, ..pool.spec("alice") };
        let Reply::Job(others) = pool.must(Input::JobSubmit(spec)) else { panic!() };
        let mut device = pool.device();
        pool.take(&mut device, 2);
        pool.step(stop(pool.workload, reason()));
        let error = InputError { code: code.into(), message: message.into(), line: None, param: None };
        for job in [preparing, running] {
            assert_eq!(end_of(&pool, job).ending, Ending::Failed { errors: vec![error.clone()] });
        }
        assert_eq!(pool.speak(&mut device, |_| ()).dropped.len(), 2, "the device is told to stop");
        assert_eq!(pool.view(others).phase, Phase::Preparing);
        pool.effects();
        // What is submitted later is nobody's business here: the shell asks its stewards' certificates.
        let later = pool.submitted("alice");
        assert_eq!(pool.view(later).phase, Phase::Preparing);
    }
}

#[test]
fn cancelling_tells_devices_whose_replies_are_held_back() {
    let mut pool = Pool::new();
    let job = pool.job(2);
    let mut device = pool.device();
    let leases = pool.take(&mut device, 2);
    let waiting = pool.wait(&mut device, 0);
    pool.must(Input::JobCancel { owner: None, job });
    let reply = pool.heard(&mut device, waiting);
    // The other one follows from what it says that it holds.
    assert_eq!(reply.dropped.len(), 1);
    let reply = pool.speak(&mut device, |_| ());
    assert_eq!(reply.dropped.len(), 1);
    assert_eq!((device.holding.len(), leases.len()), (0, 2));
}

#[test]
fn a_job_expires() {
    let mut pool = Pool::new();
    let spec = JobSpec { deadline: pool.timestamp() + Millis(10_000), ..pool.spec("alice") };
    let Reply::Job(unprepared) = pool.must(Input::JobSubmit(spec.clone())) else { panic!() };
    let Reply::Job(running) = pool.must(Input::JobSubmit(spec)) else { panic!() };
    pool.step(Input::JobPrepared(running, Ok(prepared(2))));
    let mut device = pool.device();
    let leases = pool.take(&mut device, 1);
    pool.effects();
    pool.pass(9_750);
    assert_eq!(pool.effects(), vec![]);
    pool.pass(250);
    assert_eq!(pool.effects(), vec![Effect::JobEnded(unprepared), Effect::Assemble(running)]);
    let late = pool.report(&mut device, leases[0], Ok(done(&leases[0])));
    assert_eq!(late, Err(Refusal::JobEnded(running)));
    pool.step(Input::JobAssembled(running, Assembled::default()));
    assert_eq!(end_of(&pool, running).ending, Ending::Expired);
}

#[test]
fn a_synchronous_request_ends_without_assembly() {
    let mut pool = Pool::new();
    let spec = JobSpec { kind: JobKind::Sync { endpoint: Endpoint::Embeddings }, input: None, ..pool.spec("alice") };
    let Reply::Job(job) = pool.must(Input::JobSubmitPrepared(spec.clone(), prepared(1))) else { panic!() };
    let mut device = pool.device();
    let lease = pool.take(&mut device, 1)[0];
    pool.finish(&mut device, lease);
    assert_eq!(pool.effects(), vec![Effect::JobEnded(job)]);
    assert_eq!(end_of(&pool, job).totals.records_ok, 2);

    let refusal = pool.refusal(Input::JobSubmitPrepared(spec, prepared(0)));
    assert_eq!(refusal.code(), "field-invalid", "a request without a task would never end");
}

#[test]
fn jobs_that_break_a_rule_are_refused() {
    let mut pool = Pool::with(|config| (config.jobs_open_max, config.tasks_per_job_max) = (2, 3));
    let good = pool.spec("alice");
    let sync = JobKind::Sync { endpoint: Endpoint::Embeddings };
    let batch = |metadata| JobKind::Batch { endpoint: Endpoint::Embeddings, completion_window: "24h".into(), metadata };
    let long = |length| "x".repeat(length);
    let changes: Vec<(&str, JobSpec)> = vec![
        ("field-invalid", JobSpec { name: long(201), ..good.clone() }),
        ("field-invalid", JobSpec { name: "a\nb".into(), ..good.clone() }),
        ("workload-unknown", JobSpec { workload: Digest([66; 32]), ..good.clone() }),
        ("field-invalid", JobSpec { records_per_task: Some(0), ..good.clone() }),
        ("field-invalid", JobSpec { records_per_task: Some(100_001), ..good.clone() }),
        ("field-invalid", JobSpec { deadline: pool.timestamp(), ..good.clone() }),
        ("field-invalid", JobSpec { input: None, ..good.clone() }),
        ("field-invalid", JobSpec { kind: sync, ..good.clone() }),
        ("file-unknown", JobSpec { input: Some(FileId(99)), ..good.clone() }),
        ("file-unknown", JobSpec { owner: account("bob"), ..good.clone() }),
        ("field-invalid", JobSpec { kind: batch(vec![("k".into(), "v".into()); 17]), ..good.clone() }),
        ("field-invalid", JobSpec { kind: batch(vec![(long(65), "v".into())]), ..good.clone() }),
        ("field-invalid", JobSpec { kind: batch(vec![("k".into(), long(513))]), ..good.clone() }),
    ];
    for (place, (code, spec)) in changes.into_iter().enumerate() {
        assert_eq!(pool.refusal(Input::JobSubmit(spec)).code(), code, "case {place}");
    }
    let batch = JobSpec { kind: batch(vec![("k".into(), "v".into()); 16]), ..good.clone() };
    let Reply::Job(first) = pool.must(Input::JobSubmit(batch)) else { panic!() };
    pool.must(Input::JobSubmit(good.clone()));
    let limit = Refusal::TooMany { what: "open jobs of an account", limit: 2 };
    assert_eq!(pool.refusal(Input::JobSubmit(good)), limit);
    pool.effects();
    pool.job_of("bob", 1);
    pool.step(Input::JobPrepared(first, Ok(prepared(4))));
    let Ending::Failed { errors } = end_of(&pool, first).ending else { panic!() };
    assert_eq!(errors[0].code, "too-many");
}

#[test]
fn only_its_owner_or_an_admin_reaches_a_job() {
    let mut pool = Pool::new();
    let job = pool.job(1);
    let cancel = |owner: Option<&str>| Input::JobCancel { owner: owner.map(account), job };
    assert_eq!(pool.refusal(cancel(Some("bob"))), Refusal::JobUnknown(job));
    assert_eq!(pool.coordinator.job(Some(&account("bob")), job), None);
    assert_eq!(pool.must(cancel(None)), Reply::Job(job));
}
