//! A pool that wants to run what stewards did not certify: it holds every key but one of those that it takes, replays
//! old files, and shows another charter. Nothing starts, and nothing is even fetched.

use super::cache::BlobCache;
use super::gate::Gate;
use super::tests::{Answer, Server, answer};
use super::workshop::{Equipment, Workshop};
use caii_governance::{Founding, Repository, Signer as _, SoftwareKey};
use caii_model::{
    AttemptFailure, AttemptFailureKind, Bytes, DataTier, Digest, Limits, Manifest, Millis, Region, RuntimeClass,
    RuntimeVersion, Scope, UseCategory,
};
use caii_sandbox::Priority;
use caii_trust::{
    Body, Certification, Charter, Envelope, LocalPolicy, Mandate, PAYLOAD_TYPE, RevocationStatement, Revocations,
    Revoked, Steward,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

const YEAR: Millis = Millis(365 * 24 * 3_600_000);

/// What the pool serves; tests change it.
#[derive(Clone, Default)]
struct Shown(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Shown {
    fn set(&self, path: String, bytes: Vec<u8>) {
        self.0.lock().unwrap().insert(format!("GET /agent/v1/{path}"), bytes);
    }

    fn files(&self, bytes: Vec<u8>) {
        self.set("governance".into(), bytes);
    }

    fn certificates(&self, envelopes: &[Envelope]) {
        let parts: Vec<Vec<u8>> = envelopes.iter().map(Envelope::to_json).collect();
        let path = format!("workloads/{}/certificates", manifest().digest().hex());
        self.set(path, [b"[".as_slice(), &parts.join(b",".as_slice()), b"]"].concat());
    }
}

/// alice, bob and carol, two of whom certify.
struct Stewards {
    dir: TempDir,
    repository: Repository,
    keys: [SoftwareKey; 3],
    online: SoftwareKey,
}

impl Stewards {
    fn new() -> Self {
        let keys = ["alice", "bob", "carol"].map(|name| SoftwareKey::generate(name).unwrap());
        let online = SoftwareKey::generate("online").unwrap();
        let names: Vec<String> = keys.iter().map(|key| key.name.clone()).collect();
        let steward = |key: &SoftwareKey| Steward { name: key.name.clone(), body: "lab".into(), key: key.public() };
        let charter = Charter {
            id: Digest([0; 32]),
            name: "a test".into(),
            bodies: vec![Body { name: "lab".into(), about: String::new() }],
            stewards: keys.iter().map(steward).collect(),
            certify: vec![Mandate { region: Region::any(), threshold: 2, stewards: names.clone() }],
            revoke: names,
            runtime_min: RuntimeVersion([1, 0, 0]),
            certification_valid_max: YEAR,
            revoked: Revocations::new(),
        };
        let dir = tempfile::tempdir().unwrap();
        let expires = crate::clock::now() + YEAR;
        let founding = Founding { charter, threshold: 2, online: online.public(), expires };
        let repository = Repository::init(dir.path(), &founding).unwrap();
        repository.sign(&keys[0]).unwrap();
        repository.sign(&keys[1]).unwrap();
        let stewards = Self { dir, repository, keys, online };
        stewards.refresh();
        stewards
    }

    fn refresh(&self) {
        self.repository.refresh(&self.online, crate::clock::now(), Millis(3_600_000)).unwrap();
    }

    fn files(&self) -> Vec<u8> {
        self.repository.files().unwrap().to_json()
    }

    fn signed(&self, payload: Vec<u8>, by: usize) -> Envelope {
        let mut envelope = Envelope::unsigned(PAYLOAD_TYPE, payload);
        let signature = self.keys[by].sign(&envelope.signed_bytes()).unwrap();
        envelope.add(self.keys[by].public().id(), signature);
        envelope
    }

    fn certified(&self, by: usize) -> Envelope {
        let manifest = manifest();
        let now = crate::clock::now();
        let certification = Certification {
            workload: manifest.digest(),
            name: manifest.name.clone(),
            charter: self.repository.pin(),
            runtime: manifest.runtime,
            meter: manifest.meter,
            limits: manifest.limits,
            uses: [UseCategory::Embedding].into(),
            data_tiers: [DataTier::Public].into(),
            regions: [Region::any()].into(),
            issued: now,
            expires: now + Millis(3_600_000),
            build: None,
        };
        self.signed(certification.to_json(), by)
    }

    fn revoke(&self, by: usize) {
        let why = "it leaks".into();
        let what = Revoked::Workload(manifest().digest());
        let statement = RevocationStatement { what, charter: self.repository.pin(), issued: crate::clock::now(), why };
        self.repository.add_revocation(&self.signed(statement.to_json(), by)).unwrap();
        self.refresh();
    }
}

fn manifest() -> Manifest {
    Manifest {
        name: "m".into(),
        program: Digest([1; 32]),
        program_size: Bytes(10),
        runtime: RuntimeClass::Wasm,
        scope: Scope::Item { records: 1 },
        blobs: vec![],
        args: vec![],
        limits: Limits::default(),
        meter: caii_sandbox::meter_id(),
    }
}

async fn server(shown: &Shown) -> Server {
    let shown = shown.clone();
    let workload = format!("workloads/{}", manifest().digest().hex());
    shown.set(workload, caii_wire::encode_manifest(&manifest()));
    Server::start(move |request| -> Answer {
        match shown.0.lock().unwrap().get(&request.line) {
            Some(bytes) => answer(200, bytes.clone()),
            None => answer(404, "nothing here"),
        }
    })
    .await
}

fn gate(server: &Server, dir: &Path, charter: Digest) -> Arc<Gate> {
    let policy = LocalPolicy::open(Region::any(), super::runtime_version());
    Arc::new(Gate::open(dir, charter, policy, Arc::new(server.client())).unwrap())
}

/// What a device that sees this does with the workload; and whether it asked for its program.
async fn prepared(server: &Server, dir: &Path, charter: Digest) -> (AttemptFailure, bool) {
    let workshop = Workshop::new(Equipment {
        client: Arc::new(server.client()),
        cache: Arc::new(BlobCache::open(&dir.join("blobs"), Bytes::mebi(1)).unwrap()),
        images: dir.join("images"),
        runner: ("/nonexistent".into(), vec![]),
        priority: Priority::Normal,
        slots: 1,
        falsify: None,
        gate: gate(server, &dir.join("charter"), charter),
        device_secret: caii_sandbox::DeviceSecret::new([7; 32]),
    });
    let failure = workshop.prepare(manifest().digest(), &|_, _| ()).await.unwrap_err();
    let blob = format!("GET /agent/v1/blobs/{}", manifest().program.hex());
    (failure, !server.seen(&blob).is_empty())
}

#[tokio::test]
async fn every_key_but_one_of_those_that_it_takes_starts_nothing() {
    let (stewards, shown) = (Stewards::new(), Shown::default());
    let server = server(&shown).await;
    shown.files(stewards.files());
    let (once, foreign) = (stewards.certified(1), Stewards::new());
    let mut doubled = once.clone();
    doubled.signatures.push(once.signatures[0].clone());
    for (envelopes, words) in [
        (vec![], "nobody certified it; 2 of 2 keys are missing"),
        (vec![once.clone()], "bob (lab) certified it; 1 of 2 keys is missing"),
        (vec![once.clone(), once.clone()], "1 of 2 keys is missing"),
        (vec![doubled], "1 of 2 keys is missing"),
        (vec![once.clone(), foreign.certified(0)], "1 of 2 keys is missing"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        shown.certificates(&envelopes);
        let (failure, asked) = prepared(&server, dir.path(), stewards.repository.pin()).await;
        assert_eq!(failure.kind, AttemptFailureKind::Uncertified);
        assert!(failure.detail.contains(words), "{words}: {}", failure.detail);
        assert!(!asked, "the program was fetched");
    }
    // With the other key the device goes on, to the program that this server does not have.
    let dir = tempfile::tempdir().unwrap();
    shown.certificates(&[once, stewards.certified(2)]);
    let (failure, asked) = prepared(&server, dir.path(), stewards.repository.pin()).await;
    assert_eq!(failure.kind, AttemptFailureKind::BlobUnavailable, "{}", failure.detail);
    assert!(asked);
}

#[tokio::test]
async fn another_charter_is_not_believed() {
    let (stewards, theirs, shown) = (Stewards::new(), Stewards::new(), Shown::default());
    let server = server(&shown).await;
    shown.files(theirs.files());
    shown.certificates(&[theirs.certified(0), theirs.certified(1)]);
    let dir = tempfile::tempdir().unwrap();
    let (failure, asked) = prepared(&server, dir.path(), stewards.repository.pin()).await;
    assert_eq!((failure.kind, asked), (AttemptFailureKind::Uncertified, false));
    assert!(failure.detail.contains("another pool's, or somebody put it there"), "{}", failure.detail);
}

#[tokio::test]
async fn old_files_do_not_bring_back_what_was_revoked() {
    let (stewards, shown) = (Stewards::new(), Shown::default());
    let server = server(&shown).await;
    let old = stewards.files();
    shown.files(old.clone());
    shown.certificates(&[stewards.certified(0), stewards.certified(1)]);
    let dir = tempfile::tempdir().unwrap();
    let gate_dir = dir.path().join("charter");
    let device = gate(&server, &gate_dir, stewards.repository.pin());
    device.admit(&manifest()).await.unwrap();
    device.still(manifest().digest()).unwrap();
    stewards.revoke(2);
    shown.files(stewards.files());
    let refreshed = device.refresh().await.unwrap();
    assert_eq!(refreshed.stopped.len(), 1, "what was let in is stopped");
    device.still(manifest().digest()).unwrap_err();
    // The pool replays what was before.
    shown.files(old);
    let error = device.refresh().await.unwrap_err().to_string();
    assert!(error.contains("somebody replays old ones"), "{error}");
    let said = device.admit(&manifest()).await.unwrap_err().detail;
    assert!(said.contains("carol revoked the workload") && said.contains("it leaks"), "{said}");
    // Also after a restart of the device.
    drop(device);
    let (failure, asked) = prepared(&server, dir.path(), stewards.repository.pin()).await;
    assert_eq!((failure.kind, asked), (AttemptFailureKind::Uncertified, false));
    assert!(failure.detail.contains("carol revoked the workload"), "{}", failure.detail);
    drop(stewards.dir);
}

#[tokio::test]
async fn files_that_are_not_kept_fresh_let_nothing_in() {
    let (stewards, shown) = (Stewards::new(), Shown::default());
    let server = server(&shown).await;
    let now = crate::clock::now();
    stewards.repository.refresh(&stewards.online, now, Millis(1)).unwrap();
    shown.files(stewards.files());
    shown.certificates(&[stewards.certified(0), stewards.certified(1)]);
    while crate::clock::now() <= now + Millis(1_001) {
        tokio::task::yield_now().await;
    }
    let dir = tempfile::tempdir().unwrap();
    let (failure, asked) = prepared(&server, dir.path(), stewards.repository.pin()).await;
    assert_eq!((failure.kind, asked), (AttemptFailureKind::Uncertified, false));
    assert!(failure.detail.contains("has expired"), "{}", failure.detail);
}
