//! A charter's life, and what a device refuses of a coordinator that lies about it.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

use caii_governance::{
    DeviceTrust, Expiry, Files, Founding, GovernanceError, Refreshed, Repository, Signer, SoftwareKey, verify_files,
};
use caii_model::{Digest, Millis, Region, RuntimeVersion, Timestamp};
use caii_trust::{
    Body, Charter, Envelope, Mandate, PAYLOAD_TYPE, PublicKey, RevocationStatement, Revocations, Revoked, Steward,
};
use std::collections::BTreeSet;
use std::path::Path;
use tempfile::TempDir;

const DAY: Millis = Millis(86_400_000);

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp(u64::try_from(since.as_millis()).unwrap())
}

fn key(seed: u8) -> SoftwareKey {
    SoftwareKey::from_seed(&format!("s{seed}"), &[seed; 32])
}

fn online() -> SoftwareKey {
    key(200)
}

/// Stewards with these keys; two of them certify and change the charter.
fn founding(seeds: &[u8]) -> Founding {
    let steward = |seed: &u8| Steward { name: format!("s{seed}"), body: "lab".into(), key: key(*seed).public() };
    let stewards: Vec<Steward> = seeds.iter().map(steward).collect();
    let names: Vec<String> = stewards.iter().map(|steward| steward.name.clone()).collect();
    Founding {
        charter: Charter {
            id: Digest([0; 32]),
            name: "a test".into(),
            bodies: vec![Body { name: "lab".into(), about: String::new() }],
            stewards,
            certify: vec![Mandate { region: Region::any(), threshold: 2, stewards: names.clone() }],
            revoke: names,
            runtime_min: RuntimeVersion([48, 0, 0]),
            certification_valid_max: Millis(366 * DAY.0),
            revoked: Revocations::new(),
        },
        threshold: 2,
        online: online().public(),
        expires: now() + Millis(365 * DAY.0),
    }
}

/// Stewards 1 to 3, signed by 1 and 2, in force.
fn in_force(dir: &Path) -> Repository {
    let repository = Repository::init(dir, &founding(&[1, 2, 3])).unwrap();
    repository.sign(&key(2)).unwrap();
    repository.sign(&key(1)).unwrap();
    repository.refresh(&online(), now(), DAY).unwrap();
    repository
}

fn revocation(repository: &Repository, what: Revoked, signer: u8) -> Envelope {
    let issued = Timestamp(now().0 / 1_000 * 1_000);
    let statement = RevocationStatement { what, charter: repository.pin(), issued, why: "it leaks".into() };
    let mut envelope = Envelope::unsigned(PAYLOAD_TYPE, statement.to_json());
    let signature = key(signer).sign(&envelope.signed_bytes()).unwrap();
    envelope.add(key(signer).public().id(), signature);
    envelope
}

fn workload(byte: u8) -> Revoked {
    Revoked::Workload(Digest([byte; 32]))
}

struct Device {
    dir: TempDir,
    trust: DeviceTrust,
}

impl Device {
    fn new(pin: Digest) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { trust: DeviceTrust::open(dir.path(), pin).unwrap(), dir }
    }

    /// The same device after a restart.
    fn restarted(self) -> Self {
        let trust = DeviceTrust::open(self.dir.path(), self.trust.pin()).unwrap();
        Self { trust, dir: self.dir }
    }

    async fn refuses(&mut self, files: &Files) -> GovernanceError {
        let before = self.trust.trusted().cloned();
        let error = self.trust.update(files).await.unwrap_err();
        assert_eq!(self.trust.trusted().cloned(), before, "what was known is kept");
        error
    }
}

#[tokio::test]
async fn stewards_sign_in_any_order_and_a_device_believes_them() {
    let dir = tempfile::tempdir().unwrap();
    let repository = Repository::init(dir.path(), &founding(&[1, 2, 3])).unwrap();
    let pin = repository.pin();
    assert!(matches!(Repository::init(dir.path(), &founding(&[1])), Err(GovernanceError::Exists(_))));
    let missing = || {
        let awaited = repository.status().unwrap().draft.unwrap().awaited;
        awaited.iter().map(caii_governance::Awaited::missing).collect::<Vec<_>>()
    };
    assert_eq!(missing(), [2, 2]);
    assert!(matches!(repository.sign(&key(9)), Err(GovernanceError::NothingToSign)));
    repository.sign(&key(3)).unwrap();
    repository.sign(&key(3)).unwrap();
    assert_eq!(missing(), [1, 1], "signing twice is signing once");
    assert!(matches!(repository.refresh(&online(), now(), DAY), Err(GovernanceError::NotInForce(_))));

    // The second steward signs a copy elsewhere.
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::create_dir(elsewhere.path().join("draft")).unwrap();
    for name in ["root.json", "targets.json", "charter.json"] {
        std::fs::copy(dir.path().join("draft").join(name), elsewhere.path().join("draft").join(name)).unwrap();
    }
    let copy = Repository::open(elsewhere.path()).unwrap();
    assert_eq!(copy.pin(), pin);
    copy.sign(&key(1)).unwrap();
    assert_eq!(repository.merge(&copy).unwrap(), 2);
    assert_eq!(repository.merge(&copy).unwrap(), 0);
    assert_eq!(missing(), [0, 0]);

    assert!(matches!(repository.refresh(&key(1), now(), DAY), Err(GovernanceError::OnlineKeyForeign)));
    repository.refresh(&online(), now(), DAY).unwrap();
    assert_eq!(repository.pin(), pin);
    let mut device = Device::new(pin);
    assert!(device.trust.trusted().is_none());
    let files = Files::from_json(&repository.files().unwrap().to_json()).unwrap();
    let update = device.trust.update(&files).await.unwrap();
    assert!(update.changed && update.ignored.is_empty(), "{update:?}");
    let trusted = device.trust.trusted().unwrap().clone();
    assert_eq!(trusted.charter, Charter { id: pin, ..founding(&[1, 2, 3]).charter });
    assert!(trusted.fresh_until <= now() + DAY && trusted.fresh_until + Millis(60_000) > now() + DAY);
    assert!(!device.trust.update(&files).await.unwrap().changed);
    assert_eq!(device.restarted().trust.trusted(), Some(&trusted));
}

#[tokio::test]
async fn too_few_signatures_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let repository = in_force(dir.path());
    let files = repository.files().unwrap();
    for name in ["1.root.json", "1.targets.json"] {
        let mut file: serde_json::Value = serde_json::from_str(files.get(name).unwrap()).unwrap();
        let signatures = file["signatures"].as_array().unwrap().clone();
        assert_eq!(signatures.len(), 2);
        for kept in [&signatures[..1], &signatures[1..], &[], &[signatures[0].clone(), signatures[0].clone()]] {
            file["signatures"] = kept.to_vec().into();
            let mut bad = files.clone();
            resign_snapshot(&mut bad, name, &file);
            let error = Device::new(repository.pin()).refuses(&bad).await;
            assert!(matches!(error, GovernanceError::NotSigned { .. }), "{name}: {error:?}");
        }
        // Another steward's key id over a signature by the first one.
        let mut alias = signatures[0].clone();
        alias["keyid"] = key(3).public().id().to_string().into();
        file["signatures"] = vec![signatures[0].clone(), alias].into();
        let mut bad = files.clone();
        resign_snapshot(&mut bad, name, &file);
        let error = Device::new(repository.pin()).refuses(&bad).await;
        assert!(matches!(error, GovernanceError::NotSigned { .. }), "{name}: {error:?}");
    }
}

/// Puts a file in place and lets the (hostile) online key vouch for it.
fn resign_snapshot(files: &mut Files, name: &str, file: &serde_json::Value) {
    let text = serde_json::to_string(file).unwrap();
    files.insert(name.into(), text.clone());
    if name == "1.targets.json" {
        let meta = |text: &str| {
            let hash = Digest::of(text.as_bytes()).hex();
            serde_json::json!({ "version": 1, "length": text.len(), "hashes": { "sha256": hash } })
        };
        let mut snapshot: serde_json::Value = serde_json::from_str(files.get("1.snapshot.json").unwrap()).unwrap();
        snapshot["signed"]["meta"]["targets.json"] = meta(&text);
        let snapshot = sign(&snapshot, &online());
        let mut timestamp: serde_json::Value = serde_json::from_str(files.get("timestamp.json").unwrap()).unwrap();
        timestamp["signed"]["meta"]["snapshot.json"] = meta(&snapshot);
        files.insert("1.snapshot.json".into(), snapshot);
        let timestamp = sign(&timestamp, &online());
        files.insert("timestamp.json".into(), timestamp);
    }
}

/// Signs metadata anew. Its canonical form is what `serde_json` gives for sorted keys and no space.
fn sign(file: &serde_json::Value, signer: &SoftwareKey) -> String {
    fn sorted(value: &serde_json::Value) -> serde_json::Value {
        match value {
            serde_json::Value::Object(fields) => {
                let sorted_fields: std::collections::BTreeMap<_, _> =
                    fields.iter().map(|(k, v)| (k.clone(), sorted(v))).collect();
                serde_json::to_value(sorted_fields).unwrap()
            }
            serde_json::Value::Array(items) => items.iter().map(sorted).collect(),
            other => other.clone(),
        }
    }
    let message = serde_json::to_vec(&sorted(&file["signed"])).unwrap();
    let hex: String = signer.sign(&message).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    let signature = serde_json::json!({ "keyid": signer.public().id().to_string(), "sig": hex });
    serde_json::json!({ "signed": file["signed"], "signatures": [signature] }).to_string()
}

#[tokio::test]
async fn another_charter_is_refused() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let repository = in_force(dir.path());
    let theirs = Repository::init(other.path(), &founding(&[7, 8])).unwrap();
    theirs.sign(&key(7)).unwrap();
    theirs.sign(&key(8)).unwrap();
    theirs.refresh(&online(), now(), DAY).unwrap();
    assert_ne!(repository.pin(), theirs.pin());
    let mut device = Device::new(repository.pin());
    let error = device.refuses(&theirs.files().unwrap()).await;
    assert!(matches!(error, GovernanceError::OtherCharter { .. }), "{error:?}");
    device.trust.update(&repository.files().unwrap()).await.unwrap();
    let error = device.refuses(&theirs.files().unwrap()).await;
    assert!(matches!(error, GovernanceError::NotSigned { .. }), "{error:?}");
    let error = DeviceTrust::open(device.dir.path(), theirs.pin()).unwrap_err();
    assert!(matches!(error, GovernanceError::OtherCharter { .. }), "{error:?}");
    // A changed byte anywhere in what stewards signed is another charter, or an unsigned one.
    let files = repository.files().unwrap();
    for (name, from, to) in [
        ("1.root.json", "\"threshold\": 2", "\"threshold\": 1"),
        ("1.targets.json", "\"version\": 1", "\"version\": 2"),
    ] {
        let mut bad = files.clone();
        bad.insert(name.into(), files.get(name).unwrap().replacen(from, to, 1));
        assert_ne!(bad, files);
        Device::new(repository.pin()).refuses(&bad).await;
    }
    let charter = files.names().find(|name| name.ends_with(".charter.json")).unwrap().to_owned();
    let mut bad = files.clone();
    bad.insert(charter.clone(), files.get(&charter).unwrap().replacen("\"threshold\": 2", "\"threshold\": 1", 1));
    Device::new(repository.pin()).refuses(&bad).await;
    bad.remove(&charter);
    Device::new(repository.pin()).refuses(&bad).await;
}

#[tokio::test]
async fn old_files_are_refused_after_newer_ones() {
    let dir = tempfile::tempdir().unwrap();
    let repository = in_force(dir.path());
    let before = repository.files().unwrap();
    assert!(repository.add_revocation(&revocation(&repository, workload(1), 3)).unwrap());
    repository.refresh(&online(), now(), DAY).unwrap();
    let mut device = Device::new(repository.pin());
    device.trust.update(&repository.files().unwrap()).await.unwrap();
    assert!(device.trust.trusted().unwrap().revoked(workload(1)).is_some());
    let error = device.refuses(&before).await;
    assert!(matches!(error, GovernanceError::RolledBack { .. }), "{error:?}");
    let mut device = device.restarted();
    let error = device.refuses(&before).await;
    assert!(matches!(error, GovernanceError::RolledBack { .. }), "after a restart: {error:?}");
    // What is kept cannot be forgotten by damage either.
    let state = device.dir.path().join("trust.json");
    std::fs::write(&state, &std::fs::read(&state).unwrap()[..100]).unwrap();
    assert!(DeviceTrust::open(device.dir.path(), repository.pin()).is_err());
}

#[tokio::test]
async fn expired_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let repository = in_force(dir.path());
    let hour_ago = now() - Millis(3_600_000);
    repository.refresh(&online(), hour_ago, Millis(1_800_000)).unwrap();
    let files = repository.files().unwrap();
    let error = Device::new(repository.pin()).refuses(&files).await;
    assert!(matches!(&error, GovernanceError::Expired { role, .. } if role == "timestamp"), "{error:?}");
    let shown = verify_files(repository.pin(), &files, Expiry::Shown).await.unwrap();
    assert!(shown.fresh_until < now(), "whoever looks at an old copy is told that it is one");

    // The stewards' own signatures run out too, however fresh the pool calls them.
    let dir = tempfile::tempdir().unwrap();
    let old = Founding { expires: hour_ago, ..founding(&[1, 2]) };
    let repository = Repository::init(dir.path(), &old).unwrap();
    repository.sign(&key(1)).unwrap();
    repository.sign(&key(2)).unwrap();
    repository.refresh(&online(), now(), DAY).unwrap();
    let error = Device::new(repository.pin()).refuses(&repository.files().unwrap()).await;
    assert!(matches!(&error, GovernanceError::Expired { role, .. } if role == "root"), "{error:?}");
}

#[tokio::test]
async fn keys_change_by_the_stewards_of_before_and_of_after() {
    let dir = tempfile::tempdir().unwrap();
    let repository = in_force(dir.path());
    let (pin, first) = (repository.pin(), repository.files().unwrap());
    let mut device = Device::new(pin);
    device.trust.update(&first).await.unwrap();

    // 1 leaves, 4 and 5 come.
    repository.rotate(&founding(&[2, 3, 4, 5])).unwrap();
    let missing = || {
        let awaited = repository.status().unwrap().draft.unwrap().awaited;
        awaited.iter().map(caii_governance::Awaited::missing).collect::<Vec<_>>()
    };
    assert_eq!(missing(), [2, 2, 2]);
    repository.sign(&key(4)).unwrap();
    repository.sign(&key(5)).unwrap();
    assert_eq!(missing(), [0, 0, 2], "newcomers alone change nothing");
    repository.refresh(&online(), now(), DAY).unwrap();
    device.trust.update(&repository.files().unwrap()).await.unwrap();
    assert_eq!(device.trust.trusted().unwrap().charter.stewards.len(), 3);
    repository.sign(&key(1)).unwrap();
    assert_eq!(missing(), [0, 0, 1]);
    repository.sign(&key(2)).unwrap();
    assert_eq!(missing(), [0, 0, 0]);
    repository.refresh(&online(), now(), DAY).unwrap();
    let second = repository.files().unwrap();
    assert_eq!(Repository::open(dir.path()).unwrap().pin(), pin, "what devices pin stays");
    assert!(device.trust.update(&second).await.unwrap().changed);
    let names = |device: &Device| {
        let charter = device.trust.trusted().unwrap().charter.clone();
        charter.stewards.into_iter().map(|steward| steward.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&device), ["s2", "s3", "s4", "s5"]);

    // Once more, and a device that saw only the first, and one that saw nothing, walk the whole chain.
    repository.rotate(&founding(&[4, 5, 6])).unwrap();
    for seed in [4, 5, 6] {
        repository.sign(&key(seed)).unwrap();
    }
    repository.refresh(&online(), now(), DAY).unwrap();
    let third = repository.files().unwrap();
    for known in [None, Some(&first), Some(&second)] {
        let mut device = Device::new(pin);
        if let Some(known) = known {
            device.trust.update(known).await.unwrap();
        }
        device.trust.update(&third).await.unwrap();
        assert_eq!(names(&device), ["s4", "s5", "s6"]);
        // The former stewards are out: neither their charter nor a root that is held back brings them in again.
        let error = device.refuses(&first).await;
        assert!(matches!(error, GovernanceError::RolledBack { .. } | GovernanceError::NotSigned { .. }), "{error:?}");
        let mut held_back = third.clone();
        held_back.remove("3.root.json");
        let mut device = device.restarted();
        device.trust.update(&held_back).await.unwrap();
        assert_eq!(names(&device), ["s4", "s5", "s6"]);
    }
    let mut gap = third.clone();
    gap.remove("2.root.json");
    let error = Device::new(pin).refuses(&gap).await;
    assert!(matches!(error, GovernanceError::NotSigned { .. }), "{error:?}");
}

#[tokio::test]
async fn a_new_online_key_does_not_bring_an_old_charter_back() {
    let dir = tempfile::tempdir().unwrap();
    let repository = in_force(dir.path());
    let old = repository.files().unwrap();
    let other = key(201);
    let change = |online: PublicKey| Founding { online, ..founding(&[1, 2, 3]) };
    repository.rotate(&change(other.public())).unwrap();
    repository.sign(&key(1)).unwrap();
    repository.sign(&key(2)).unwrap();
    // The pool's key of before goes on with what is in force; it cannot put the draft in force.
    assert_eq!(repository.refresh(&online(), now(), DAY).unwrap(), Refreshed::DraftAwaitsItsKey);
    Device::new(repository.pin()).trust.update(&repository.files().unwrap()).await.unwrap();
    assert_eq!(repository.refresh(&other, now(), DAY).unwrap(), Refreshed::DraftInForce);
    assert!(matches!(repository.refresh(&online(), now(), DAY), Err(GovernanceError::OnlineKeyForeign)));
    let new = repository.files().unwrap();
    let mut device = Device::new(repository.pin());
    device.trust.update(&new).await.unwrap();
    // Whoever has the new online key vouches for the stewards' first targets: signed by all who must, but old.
    let mut replayed = new.clone();
    let mut snapshot: serde_json::Value = serde_json::from_str(new.get("3.snapshot.json").unwrap()).unwrap();
    let targets = old.get("1.targets.json").unwrap();
    replayed.insert("1.targets.json".into(), targets.to_owned());
    let meta = |text: &str, version: u64| {
        let hash = Digest::of(text.as_bytes()).hex();
        serde_json::json!({ "version": version, "length": text.len(), "hashes": { "sha256": hash } })
    };
    snapshot["signed"]["meta"]["targets.json"] = meta(targets, 1);
    snapshot["signed"]["version"] = 9.into();
    let snapshot = sign(&snapshot, &other);
    let mut timestamp: serde_json::Value = serde_json::from_str(new.get("timestamp.json").unwrap()).unwrap();
    timestamp["signed"]["meta"]["snapshot.json"] = meta(&snapshot, 9);
    timestamp["signed"]["version"] = 9.into();
    replayed.insert("9.snapshot.json".into(), snapshot);
    replayed.insert("timestamp.json".into(), sign(&timestamp, &other));
    let error = device.refuses(&replayed).await;
    assert!(
        matches!(error, GovernanceError::RolledBack { .. } | GovernanceError::CharterRolledBack { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn revocations_are_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let repository = in_force(dir.path());
    let mut device = Device::new(repository.pin());
    let pushed = revocation(&repository, workload(1), 1);
    assert!(matches!(device.trust.revoke(&pushed), Err(GovernanceError::NotInForce(_))));
    device.trust.update(&repository.files().unwrap()).await.unwrap();

    // One that comes by itself is kept although no file lists it.
    assert!(device.trust.revoke(&pushed).unwrap());
    assert!(!device.trust.revoke(&pushed).unwrap());
    assert!(device.trust.revoke(&revocation(&repository, workload(2), 9)).is_err(), "by a stranger");
    let mut device = device.restarted();
    device.trust.update(&repository.files().unwrap()).await.unwrap();
    assert!(device.trust.trusted().unwrap().revoked(workload(1)).is_some());
    assert!(device.trust.trusted().unwrap().revoked(workload(2)).is_none());

    // Listed ones arrive with the files; a coordinator that drops the file or the list is refused or changes nothing.
    assert!(repository.add_revocation(&revocation(&repository, workload(3), 3)).unwrap());
    assert!(!repository.add_revocation(&revocation(&repository, workload(3), 2)).unwrap());
    assert!(repository.add_revocation(&revocation(&repository, workload(4), 9)).is_err(), "by a stranger");
    repository.refresh(&online(), now(), DAY).unwrap();
    let files = repository.files().unwrap();
    device.trust.update(&files).await.unwrap();
    let revoked = |device: &Device, byte| device.trust.trusted().unwrap().revoked(workload(byte)).is_some();
    assert!(revoked(&device, 3));
    let mut dropped = files.clone();
    let name = files.names().find(|name| name.contains(".revocation-")).unwrap().to_owned();
    dropped.remove(&name);
    device.refuses(&dropped).await;
    let mut withheld = files.clone();
    let mut snapshot: serde_json::Value = serde_json::from_str(files.get("2.snapshot.json").unwrap()).unwrap();
    snapshot["signed"]["meta"].as_object_mut().unwrap().remove("revocations.json");
    snapshot["signed"]["version"] = 9.into();
    let snapshot = sign(&snapshot, &online());
    let mut timestamp: serde_json::Value = serde_json::from_str(files.get("timestamp.json").unwrap()).unwrap();
    let hash = Digest::of(snapshot.as_bytes()).hex();
    timestamp["signed"]["meta"]["snapshot.json"] =
        serde_json::json!({ "version": 9, "length": snapshot.len(), "hashes": { "sha256": hash } });
    timestamp["signed"]["version"] = 9.into();
    withheld.insert("9.snapshot.json".into(), snapshot);
    withheld.insert("timestamp.json".into(), sign(&timestamp, &online()));
    let error = Device::new(repository.pin()).refuses(&withheld).await;
    assert!(matches!(error, GovernanceError::RevocationsWithheld), "{error:?}");
    assert!(matches!(device.refuses(&withheld).await, GovernanceError::RolledBack { .. }));

    // The steward who revoked leaves; a device that never saw it learns of it all the same.
    repository.rotate(&founding(&[1, 2, 4])).unwrap();
    for seed in [1, 2, 4] {
        repository.sign(&key(seed)).unwrap();
    }
    repository.add_revocation(&revocation(&repository, workload(5), 3)).unwrap();
    let error = repository.refresh(&online(), now(), DAY).unwrap_err();
    assert!(matches!(error, GovernanceError::RevocationLost { .. }), "{error:?}");
    repository.rotate(&founding(&[1, 2, 4])).unwrap();
    for seed in [1, 2, 4] {
        repository.sign(&key(seed)).unwrap();
    }
    repository.refresh(&online(), now(), DAY).unwrap();
    let mut newcomer = Device::new(repository.pin());
    let update = newcomer.trust.update(&repository.files().unwrap()).await.unwrap();
    assert!(!update.ignored.is_empty(), "the former steward's own files revoke nothing any more");
    assert!(revoked(&newcomer, 3) && revoked(&newcomer, 5) && !revoked(&newcomer, 1));
    device.trust.update(&repository.files().unwrap()).await.unwrap();
    let known: BTreeSet<_> = device.trust.trusted().unwrap().revocations.iter().map(|r| r.what).collect();
    assert_eq!(known, BTreeSet::from([workload(1), workload(3), workload(5)]));
}

#[tokio::test]
async fn a_root_with_one_key_under_two_names_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let repository = in_force(dir.path());
    // A second id for key 1, by a field that nobody reads; signed twice by the same person.
    let mut root: serde_json::Value =
        serde_json::from_str(repository.files().unwrap().get("1.root.json").unwrap()).unwrap();
    let (id, hex) = (key(1).public().id().to_string(), key(1).public().hex());
    let alias_json = format!(r#"{{"keytype":"ed25519","keyval":{{"public":"{hex}"}},"note":"x","scheme":"ed25519"}}"#);
    let alias = Digest::of(alias_json.as_bytes()).hex();
    root["signed"]["version"] = 2.into();
    root["signed"]["keys"][&alias] = serde_json::from_str(&alias_json).unwrap();
    for role in ["root", "targets"] {
        root["signed"]["roles"][role]["keyids"] = vec![id.clone(), alias.clone()].into();
    }
    let by = |seed: u8| {
        serde_json::from_str::<serde_json::Value>(&sign(&root, &key(seed))).unwrap()["signatures"][0].clone()
    };
    let mut aliased = by(1);
    aliased["keyid"] = alias.into();
    let signed = serde_json::json!({ "signed": root["signed"], "signatures": [by(1), by(2), aliased] });
    let mut files = repository.files().unwrap();
    files.insert("2.root.json".into(), signed.to_string());
    // Its targets, signed by one person under both names.
    let mut targets: serde_json::Value = serde_json::from_str(files.get("1.targets.json").unwrap()).unwrap();
    let mut one = serde_json::from_str::<serde_json::Value>(&sign(&targets, &key(1))).unwrap()["signatures"][0].clone();
    let first = one.clone();
    one["keyid"] = signed["signatures"][2]["keyid"].clone();
    targets["signatures"] = vec![first, one].into();
    resign_snapshot(&mut files, "1.targets.json", &targets);
    let error = Device::new(repository.pin()).refuses(&files).await;
    assert!(matches!(error, GovernanceError::KeyTwice), "{error:?}");
}

#[test]
fn thresholds_that_cannot_be_reached_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for threshold in [0, 4] {
        let impossible = Founding { threshold, ..founding(&[1, 2, 3]) };
        let error = Repository::init(dir.path(), &impossible).unwrap_err();
        assert!(matches!(error, GovernanceError::Threshold { .. }), "{error}");
    }
    assert!(matches!(Repository::open(dir.path()), Err(GovernanceError::FileMissing { .. })));
}
