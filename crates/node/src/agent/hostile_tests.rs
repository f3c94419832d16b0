//! A pool that wants to run what stewards did not certify: it holds every key but one of those that it takes, replays
//! old files, and shows another charter. Nothing starts, and nothing is even fetched.

use super::cache::BlobCache;
use super::choices::Choices;
use super::gate::{self, Gate};
use super::home::Membership;
use super::jails::Jails;
use super::testing::server::{Answer, Server, answer};
use super::testing::stewards::Stewards;
use super::workshop::{Equipment, Workshop};
use caii_model::{
    AttemptFailure, AttemptFailureKind, Bytes, DataTier, Digest, Limits, Manifest, Millis, RuntimeClass, Scope,
    UseCategory,
};
use caii_sandbox::{JailPolicy, Priority};
use caii_trust::Envelope;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

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
    choosy(server, dir, charter, &Choices::default())
}

/// The gate of a contributor who chose.
fn choosy(server: &Server, dir: &Path, charter: Digest, choices: &Choices) -> Arc<Gate> {
    Arc::new(Gate::open(dir, charter, choices.policy(), Arc::new(server.client())).unwrap())
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
        jails: Jails::open(dir, JailPolicy::REQUIRE, Arc::new(|_| ())),
        energy: super::energy::open(dir, dir),
        device_secret: caii_sandbox::DeviceSecret::new([7; 32]),
    });
    let failure = workshop.prepare(manifest().digest(), &|_, _| ()).await.unwrap_err();
    let blob = format!("GET /agent/v1/blobs/{}", manifest().program.hex());
    (failure, !server.seen(&blob).is_empty())
}

#[tokio::test]
async fn every_key_but_one_of_those_that_it_takes_starts_nothing() {
    let (stewards, shown) = (Stewards::new(manifest()), Shown::default());
    let server = server(&shown).await;
    shown.files(stewards.files());
    let (once, foreign) = (stewards.certified(1), Stewards::new(manifest()));
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
    let (stewards, theirs, shown) = (Stewards::new(manifest()), Stewards::new(manifest()), Shown::default());
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
    let (stewards, shown) = (Stewards::new(manifest()), Shown::default());
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
    drop(stewards);
}

#[tokio::test]
async fn files_that_are_not_kept_fresh_let_nothing_in() {
    let (stewards, shown) = (Stewards::new(manifest()), Shown::default());
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

#[tokio::test]
async fn what_its_owner_does_not_allow_is_refused_before_anything_but_the_manifest_is_fetched() {
    let (stewards, shown) = (Stewards::new(manifest()), Shown::default());
    let server = server(&shown).await;
    shown.files(stewards.files());
    shown.certificates(&[stewards.certified(0), stewards.certified(1)]);
    let pin = stewards.repository.pin();
    let limit = |change: fn(&mut Choices)| {
        let mut choices = Choices::default();
        change(&mut choices);
        choices
    };
    for (choices, words) in [
        (limit(|c| c.memory_max_mib = Some(511)), "limit of 511 MiB of memory is below the workload's 512 MiB"),
        (limit(|c| c.output_per_item_max_mib = Some(3)), "limit of 3 MiB of output per item is below"),
        (limit(|c| c.wall_per_item_max_seconds = Some(119)), "limit of 119 s per item is below the workload's 120 s"),
        (limit(|c| c.fuel_per_item_max = Some(5)), "limit of 5 units of fuel per item is below"),
        (limit(|c| c.fuel_init_max = Some(5)), "limit of 5 units of fuel for the initialiser is below"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let device = choosy(&server, dir.path(), pin, &choices);
        let failure = device.admit(&manifest()).await.unwrap_err();
        assert_eq!(failure.kind, AttemptFailureKind::Uncertified);
        assert!(failure.detail.contains(&format!("refuses it: its owner's {words}")), "{}", failure.detail);
        device.still(manifest().digest()).unwrap_err();
        let lines = trust(dir.path(), pin);
        assert!(
            lines.iter().any(|l| l.starts_with("Refused on ") && l.contains(&format!("your {words}"))),
            "{lines:?}"
        );
    }
    assert!(!server.asked(), "neither certificates nor the charter were worth asking for");
    // Of uses, data and places only what was certified tells.
    for (choices, words) in [
        (limit(|c| c.uses = Some([UseCategory::Translation].into())), "certified it for embedding, which this device"),
        (limit(|c| c.data_tiers = Some([DataTier::Internal].into())), "certified it for data of t0, which this device"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let failure = choosy(&server, dir.path(), pin, &choices).admit(&manifest()).await.unwrap_err();
        assert!(failure.detail.contains(words), "{}", failure.detail);
    }
    // Once the owner allows it, it runs, and the refusal is forgotten.
    let dir = tempfile::tempdir().unwrap();
    let strict = limit(|c| c.memory_max_mib = Some(511));
    choosy(&server, dir.path(), pin, &strict).admit(&manifest()).await.unwrap_err();
    let enough = limit(|c| c.memory_max_mib = Some(512));
    choosy(&server, dir.path(), pin, &enough).admit(&manifest()).await.unwrap();
    let lines = trust(dir.path(), pin);
    assert!(!lines.iter().any(|line| line.starts_with("Refused")), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("Let in: m")), "{lines:?}");
}

/// What the device of this directory tells its owner.
fn trust(dir: &Path, charter: Digest) -> Vec<String> {
    let membership = Membership {
        addresses: vec![],
        certificate: Digest([0; 32]),
        pool: caii_model::PoolId([0; 8]),
        pool_public_key: [0; 32],
        charter,
    };
    gate::view(dir, &membership, Choices::default(), vec![]).unwrap().lines()
}

#[tokio::test]
async fn a_device_that_says_where_it_is_is_ruled_by_the_mandate_of_that_place() {
    let (stewards, shown) = (Stewards::ruling(manifest(), &[("any", 2), ("eu", 3)]), Shown::default());
    let server = server(&shown).await;
    shown.files(stewards.files());
    shown.certificates(&[stewards.certified(0), stewards.certified(1)]);
    let pin = stewards.repository.pin();
    let admitted = |region: Option<&str>| {
        let choices = Choices { region: region.map(|name| name.parse().unwrap()), ..Choices::default() };
        let (dir, server) = (tempfile::tempdir().unwrap(), &server);
        async move { choosy(server, dir.path(), pin, &choices).admit(&manifest()).await }
    };
    admitted(None).await.unwrap();
    admitted(Some("us")).await.unwrap();
    let failure = admitted(Some("eu")).await.unwrap_err();
    assert!(failure.detail.contains("1 of 3 keys is missing for the region eu"), "{}", failure.detail);
    shown.certificates(&[stewards.certified(0), stewards.certified(1), stewards.certified(2)]);
    admitted(Some("eu")).await.unwrap();
}
