//! Keys, tickets, workloads, models and files.

use crate::harness::*;
use caii_coordinator::*;
use caii_model::*;

fn key(secret: u8, role: Role) -> Input {
    Input::KeyCreate { name: "k".into(), account: account("alice"), role, secret_hash: Digest([secret; 32]) }
}

fn ticket(secret: u8, valid_for: u64, uses_max: u32) -> Input {
    let secret_hash = Digest([secret; 32]);
    Input::TicketIssue { account: account("lender"), secret_hash, valid_for: Millis(valid_for), uses_max }
}

fn enrol(secret: u8, device: u8) -> Input {
    let public_key = caii_trust::SigningKey::from_seed([device; 32]).public();
    Input::Enrol { secret_hash: Digest([secret; 32]), public_key, name: "d".into() }
}

#[test]
fn the_last_admin_key_cannot_be_revoked() {
    let mut pool = Pool::new();
    let first = pool.coordinator.key_by_secret_hash(&Digest([6; 32])).unwrap().id;
    pool.must(key(40, Role::Requester));
    assert_eq!(pool.refusal(Input::KeyRevoke(first)), Refusal::KeyLastAdmin(first));
    let Reply::Key(second) = pool.must(key(41, Role::Admin)) else { panic!() };
    assert_eq!(pool.must(Input::KeyRevoke(first)), Reply::KeyRevoked(first));
    assert_eq!(pool.must(Input::KeyRevoke(first)), Reply::KeyRevoked(first), "again");
    assert_eq!(pool.coordinator.key_by_secret_hash(&Digest([6; 32])), None);
    assert_eq!(pool.refusal(Input::KeyRevoke(second.id)), Refusal::KeyLastAdmin(second.id));
    assert_eq!(pool.refusal(Input::KeyRevoke(KeyId(99))), Refusal::KeyUnknown(KeyId(99)));
}

#[test]
fn keys_and_tickets_have_secrets_and_names_of_their_own() {
    let mut pool = Pool::new();
    pool.must(key(40, Role::Requester));
    assert_eq!(pool.refusal(key(40, Role::Requester)).code(), "field-invalid");
    pool.must(ticket(41, 1_000, 1));
    assert_eq!(pool.refusal(ticket(41, 1_000, 1)).code(), "field-invalid");
    let mut long = key(42, Role::Requester);
    if let Input::KeyCreate { name, .. } = &mut long {
        *name = "x".repeat(101);
    }
    assert_eq!(pool.refusal(long).code(), "field-invalid");
}

#[test]
fn tickets_expire_are_spent_and_can_be_revoked() {
    let mut pool = Pool::new();
    assert_eq!(pool.refusal(enrol(50, 1)), Refusal::TicketUnknown);
    let Reply::Ticket(spent) = pool.must(ticket(50, 60_000, 1)) else { panic!() };
    let Reply::Device(device) = pool.must(enrol(50, 1)) else { panic!() };
    assert_eq!(pool.coordinator.device(device).unwrap().owner, account("lender"));
    assert_eq!(pool.refusal(enrol(50, 2)), Refusal::TicketSpent(spent.id, 1));
    assert_eq!(pool.must(enrol(50, 1)), Reply::Device(device), "the same device again");
    assert_eq!(pool.coordinator.ticket_by_secret_hash(&Digest([50; 32])).unwrap().uses, 1);

    let Reply::Ticket(short) = pool.must(ticket(51, 60_000, 5)) else { panic!() };
    pool.must(enrol(51, 3));
    pool.pass(59_750);
    pool.must(enrol(51, 4));
    pool.pass(250);
    assert_eq!(pool.refusal(enrol(51, 5)), Refusal::TicketExpired(short.id, short.expires));
    pool.must(enrol(51, 3));

    let Reply::Ticket(revoked) = pool.must(ticket(52, 60_000, 5)) else { panic!() };
    assert_eq!(pool.must(Input::TicketRevoke(revoked.id)), Reply::Done);
    let at = pool.timestamp();
    assert_eq!(pool.refusal(enrol(52, 5)), Refusal::TicketExpired(revoked.id, at));
    assert_eq!(pool.must(Input::TicketRevoke(revoked.id)), Reply::Done, "again");
    assert_eq!(pool.refusal(Input::TicketRevoke(TicketId(99))), Refusal::TicketUnknown);

    for (valid_for, uses) in [(0, 1), (367 * 24 * 3_600_000, 1), (1_000, 0), (1_000, 1_000_001)] {
        assert_eq!(pool.refusal(ticket(53, valid_for, uses)).code(), "field-invalid", "{valid_for} {uses}");
    }
    pool.restart();
}

#[test]
fn manifests_that_break_a_rule_are_refused() {
    let mut pool = Pool::new();
    let blob = |name: &str| BlobRef { name: name.into(), digest: Digest([2; 32]), size: Bytes(1) };
    type Change = fn(&mut Manifest);
    let cases: Vec<(&str, Change)> = vec![
        ("no name", |m| m.name.clear()),
        ("a long name", |m| m.name = "x".repeat(101)),
        ("no record in an item", |m| m.scope = Scope::Item { records: 0 }),
        ("too many records in an item", |m| m.scope = Scope::Item { records: 100_001 }),
        ("a NUL in an argument", |m| m.args = vec!["a\0b".into()]),
        ("a long argument", |m| m.args = vec!["x".repeat(4_097)]),
        ("too many arguments", |m| m.args = vec![String::new(); 65]),
        ("no memory", |m| m.limits.memory = Bytes(0)),
        ("too much memory", |m| m.limits.memory = Bytes((4_096 << 20) + 1)),
        ("no fuel", |m| m.limits.fuel_per_item = Fuel(0)),
        ("too much fuel", |m| m.limits.fuel_per_item = Fuel((1 << 60) + 1)),
        ("too much fuel to start", |m| m.limits.fuel_init = Fuel((1 << 60) + 1)),
        ("too much output", |m| m.limits.output_per_item = Bytes((64 << 20) + 1)),
        ("too much standard error", |m| m.limits.stderr_per_item = Bytes((1 << 20) + 1)),
        ("too little time", |m| m.limits.wall_per_item = Millis(99)),
        ("too much time", |m| m.limits.wall_per_item = Millis(3_600_001)),
    ];
    for (what, change) in cases {
        let mut bad = manifest();
        change(&mut bad);
        assert_eq!(pool.refusal(Input::WorkloadAdd(bad)).code(), "manifest-invalid", "{what}");
    }
    for blobs in [vec!["a/b"], vec![".."], vec![""], vec!["a", "a"], vec!["é"], vec!["a"; 17]] {
        let bad = Manifest { blobs: blobs.iter().map(|name| blob(name)).collect(), ..manifest() };
        assert_eq!(pool.refusal(Input::WorkloadAdd(bad)).code(), "manifest-invalid", "{blobs:?}");
    }
    let foreign = MeterId(Digest([99; 32]));
    let refusal = pool.refusal(Input::WorkloadAdd(Manifest { meter: foreign, ..manifest() }));
    assert_eq!(refusal, Refusal::MeterForeign { expected: METER, found: foreign });

    let before = pool.changes().len();
    assert_eq!(pool.must(Input::WorkloadAdd(manifest())), Reply::Workload(manifest().digest()), "the same again");
    assert_eq!(pool.changes().len(), before);
}

#[test]
fn models_have_one_meaning() {
    let mut pool = Pool::new();
    let model = Model {
        name: "all-MiniLM-L6-v2".into(),
        workload: pool.workload,
        endpoint: Endpoint::Embeddings,
        dimensions: 384,
        tokens_max: 256,
        source: "a package".into(),
        added: Timestamp(0),
    };
    let Reply::Model(added) = pool.must(Input::ModelAdd(model.clone())) else { panic!() };
    assert_eq!(added.added, pool.timestamp());
    pool.pass(1_000);
    assert_eq!(pool.must(Input::ModelAdd(Model { source: "a file".into(), ..model.clone() })), Reply::Model(added));
    let other = Model { dimensions: 768, ..model.clone() };
    assert_eq!(pool.refusal(Input::ModelAdd(other.clone())), Refusal::ModelExists("all-MiniLM-L6-v2".into()));
    for name in ["", "a b", "é", &"x".repeat(101)] {
        let bad = Model { name: name.to_owned(), ..model.clone() };
        assert_eq!(pool.refusal(Input::ModelAdd(bad)).code(), "field-invalid", "{name}");
    }
    let stray = Model { workload: Digest([66; 32]), ..model };
    assert_eq!(pool.refusal(Input::ModelAdd(stray)), Refusal::WorkloadUnknown(Digest([66; 32])));

    assert_eq!(pool.must(Input::ModelRemove("all-MiniLM-L6-v2".into())), Reply::Done);
    let unknown = Refusal::ModelUnknown("all-MiniLM-L6-v2".into());
    assert_eq!(pool.refusal(Input::ModelRemove("all-MiniLM-L6-v2".into())), unknown);
    pool.must(Input::ModelAdd(other));
    pool.restart();
}

#[test]
fn files_belong_to_accounts_and_are_kept_while_a_job_reads_them() {
    let mut pool = Pool::new();
    let job = pool.submitted("alice");
    let file = pool.coordinator.job_spec(job).unwrap().input.unwrap();
    let delete = |owner: Option<&str>, file| Input::FileDelete { owner: owner.map(account), file };
    assert_eq!(pool.refusal(delete(Some("bob"), file)), Refusal::FileUnknown(file));
    assert_eq!(pool.refusal(delete(Some("alice"), file)), Refusal::FileInUse(file, job));
    assert_eq!(pool.refusal(delete(None, file)), Refusal::FileInUse(file, job));
    pool.must(Input::JobCancel { owner: None, job });
    assert_eq!(pool.must(delete(Some("alice"), file)), Reply::Done);
    assert_eq!(pool.refusal(delete(Some("alice"), file)), Refusal::FileUnknown(file));
    pool.restart();
    assert!(pool.file("alice") > file, "a deleted file's id is given again");
}

#[test]
fn files_have_names_and_purposes() {
    let mut pool = Pool::new();
    let create = |filename: &str, purpose| Input::FileCreate {
        owner: account("alice"),
        filename: filename.into(),
        purpose,
        digest: Digest([8; 32]),
        size: Bytes(3),
    };
    assert_eq!(pool.refusal(create("", FilePurpose::Batch)).code(), "field-invalid");
    assert_eq!(pool.refusal(create(&"x".repeat(256), FilePurpose::Batch)).code(), "field-invalid");
    let Reply::File(data) = pool.must(create("words.txt", FilePurpose::UserData)) else { panic!() };
    let kind = JobKind::Batch { endpoint: Endpoint::Embeddings, completion_window: "24h".into(), metadata: vec![] };
    let batch = JobSpec { kind, input: Some(data.id), ..pool.spec("alice") };
    let refusal = pool.refusal(Input::JobSubmit(batch.clone()));
    assert_eq!(refusal, Refusal::FilePurpose { file: data.id, needed: "batch" });
    pool.must(Input::JobSubmit(JobSpec { kind: program(), ..batch }));
}
