//! `tests/oracle/tlog.py`, which shares no code with this crate, and this crate come to one verdict over the same files,
//! good and damaged.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod support;

use caii_tlog::{
    AddCheckpoint, Checkpoint, Damage, Note, Tile, TileError, TileReader, Unbelievable, Unverified, VerifierKey, fsck,
    parse_cosignatures, tiles_of,
};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Stored, checkpoint, cosigner, entries, now, origin, signer, witness};

/// The log's files in a directory.
struct Directory<'a>(&'a Path);

impl TileReader for Directory<'_> {
    type Error = std::io::Error;

    fn tile(&self, tile: &Tile) -> Result<Vec<u8>, std::io::Error> {
        fs::read(self.0.join(tile.to_string()))
    }
}

fn keys() -> Vec<VerifierKey> {
    vec![signer().key().clone(), cosigner(1).key().clone(), cosigner(2).key().clone()]
}

/// What this crate says of a directory, in the oracle's words.
fn ours(directory: &Path) -> Value {
    let Ok(note) = Note::parse(&fs::read(directory.join("checkpoint")).unwrap()) else {
        return json!({ "verdict": "bad", "check": "note" });
    };
    let keys = keys();
    let (checkpoint, signers) = match Checkpoint::open(&note, &origin(), &keys) {
        Ok(opened) => opened,
        Err(Unbelievable::Form(_)) => return json!({ "verdict": "bad", "check": "checkpoint" }),
        Err(Unbelievable::Unverified { why: Unverified::Unsigned { .. }, .. }) => {
            return json!({ "verdict": "bad", "check": "unsigned" });
        }
        Err(Unbelievable::Unverified { why: Unverified::Signature { name, .. }, .. }) => {
            return json!({ "verdict": "bad", "check": "signature", "name": name.as_str() });
        }
        Err(Unbelievable::OtherLog { .. }) => panic!("the tests have one log"),
    };
    let tree = checkpoint.tree;
    let Err(damage) = fsck(&Directory(directory), &tree) else {
        let signers: Vec<&str> = signers.iter().map(|signed| signed.key.name().as_str()).collect();
        let origin = checkpoint.origin.as_str();
        return json!({ "verdict": "good", "origin": origin, "size": tree.size, "root": tree.root.hex(), "signers": signers });
    };
    let path = damage.tile().map(|tile| tile.to_string());
    match damage {
        Damage::File(TileError::Unreadable { .. }) => json!({ "verdict": "bad", "check": "missing", "path": path }),
        Damage::File(TileError::TileLength { .. }) => json!({ "verdict": "bad", "check": "length", "path": path }),
        Damage::File(TileError::Bundle { index, .. }) => {
            json!({ "verdict": "bad", "check": "bundle", "path": path, "index": index })
        }
        Damage::Entry { index, .. } => json!({ "verdict": "bad", "check": "entry", "path": path, "index": index }),
        Damage::Hash { place, .. } => json!({ "verdict": "bad", "check": "hash", "path": path, "place": place }),
        Damage::Root { found, .. } => json!({ "verdict": "bad", "check": "root", "found": found.hex() }),
        Damage::Size(size) => panic!("no checkpoint has the size {size}"),
    }
}

fn theirs(directory: &Path) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/oracle/tlog.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(directory);
    for key in keys() {
        command.args(["--key", &key.to_string()]);
    }
    let output = command.output().unwrap();
    let said: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(output.status.success(), said["verdict"] == "good", "{said}");
    said
}

/// Both verdicts, which must be one.
fn verdict(directory: &Path) -> Value {
    let (ours, theirs) = (ours(directory), theirs(directory));
    assert_eq!(ours, theirs);
    ours
}

struct Published {
    directory: tempfile::TempDir,
    stored: Stored,
}

/// A log that grew in batches, with the checkpoint cosigned by one of two witnesses.
fn published(size: u64) -> Published {
    let directory = tempfile::tempdir().unwrap();
    let mut stored = Stored::default();
    for batch in [size / 3, size - size / 3] {
        let from = stored.tree().size;
        stored.append(&entries(from, from + batch));
    }
    write(directory.path(), &stored);
    let mut note = checkpoint(stored.tree());
    let request = AddCheckpoint { old_size: 0, proof: vec![], note: note.clone() };
    let line = witness(2).add_checkpoint(&request, now()).unwrap().answer();
    note.add(parse_cosignatures(line.as_bytes()).unwrap().remove(0));
    fs::write(directory.path().join("checkpoint"), note.to_string()).unwrap();
    Published { directory, stored }
}

fn write(directory: &Path, stored: &Stored) {
    for (tile, bytes) in &stored.files.0 {
        let path = directory.join(tile.to_string());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

impl Published {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The verdict with a file changed, or removed; then the file is as it was.
    fn with(&self, name: &str, change: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>) -> Value {
        let good = fs::read(self.path(name)).unwrap();
        match change(good.clone()) {
            Some(bytes) => fs::write(self.path(name), bytes).unwrap(),
            None => fs::remove_file(self.path(name)).unwrap(),
        }
        let found = verdict(self.directory.path());
        fs::write(self.path(name), good).unwrap();
        found
    }
}

#[test]
fn good_logs_are_good_to_both() {
    for size in [0, 1, 255, 256, 257, 1_000, 66_000] {
        let log = published(size);
        let root = log.stored.tree().root.hex();
        let signers = ["pool.example/receipts", "witness.example/w2"];
        let expected =
            json!({ "verdict": "good", "origin": support::ORIGIN, "size": size, "root": root, "signers": signers });
        assert_eq!(verdict(log.directory.path()), expected);
    }
}

#[test]
fn damaged_files_are_named_alike() {
    let mut checks = std::collections::BTreeSet::new();
    let mut try_all = |log: &Published, names: &[String]| {
        for (at, name) in (1..).zip(names) {
            let flip = |place: usize| {
                move |mut bytes: Vec<u8>| {
                    let place = place % bytes.len();
                    bytes[place] ^= 1 << (place % 8);
                    Some(bytes)
                }
            };
            for found in [
                log.with(name, flip(at * 977)),
                log.with(name, |bytes| Some(bytes[..bytes.len() - 1].to_vec())),
                log.with(name, |bytes| Some([bytes, vec![0]].concat())),
                log.with(name, |_| None),
            ] {
                // Where an entry and its hash differ, the entry is named.
                let name =
                    if found["check"] == "entry" { name.replace("tile/0/", "tile/entries/") } else { name.clone() };
                assert_eq!(found["path"], json!(name), "{found}");
                checks.insert(found["check"].as_str().unwrap().to_owned());
            }
        }
        assert_eq!(verdict(log.directory.path())["verdict"], "good", "all is as it was");
    };
    let small: Vec<String> = tiles_of(300).map(|tile| tile.to_string()).collect();
    try_all(&published(300), &small);
    // Three levels: what has more than one tile above it.
    let large = ["tile/1/000", "tile/1/001.p/1", "tile/2/000.p/1"].map(str::to_owned);
    try_all(&published(66_000), &large);
    let seen: Vec<&str> = checks.iter().map(String::as_str).collect();
    assert_eq!(seen, ["bundle", "entry", "hash", "length", "missing"]);
}

#[test]
fn damaged_checkpoints_are_judged_alike() {
    let log = published(300);
    let replace = |from: &str, to: &str| {
        let (from, to) = (from.to_owned(), to.to_owned());
        move |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).unwrap();
            let changed = text.replacen(&from, &to, 1);
            assert_ne!(changed, text);
            Some(changed.into_bytes())
        }
    };
    let check = |found: Value| found["check"].as_str().unwrap().to_owned();
    assert_eq!(check(log.with("checkpoint", replace("\n300\n", "\n299\n"))), "signature");
    assert_eq!(check(log.with("checkpoint", replace("\n300\n", "\n0300\n"))), "checkpoint");
    assert_eq!(check(log.with("checkpoint", replace("\n\n", "\n"))), "note");
    assert_eq!(check(log.with("checkpoint", replace("— pool", "—  pool"))), "note");
    // Of the two who signed, one is not known any more, then none.
    let one = log.with("checkpoint", replace("witness.example/w2", "witness.example/w9"));
    assert_eq!(one["signers"], json!(["pool.example/receipts"]));
    let none = log.with("checkpoint", |bytes| {
        let text = String::from_utf8(bytes).unwrap();
        Some(text.replace("— pool.example/", "— pool.test/").replace("witness.example/w2", "w9").into_bytes())
    });
    assert_eq!(check(none), "unsigned");
    let cosignature = log.with("checkpoint", |mut bytes| {
        let place = bytes.len() - 20;
        bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
        Some(bytes)
    });
    assert_eq!(cosignature, json!({ "verdict": "bad", "check": "signature", "name": "witness.example/w2" }));
}

/// The log signed another tree than its files are of.
#[test]
fn a_lie_about_the_root_is_found_by_both() {
    let log = published(300);
    let lie = caii_tlog::Tree { root: Stored::of(299).tree().root, ..log.stored.tree() };
    let found = log.with("checkpoint", |_| Some(checkpoint(lie).to_string().into_bytes()));
    assert_eq!(found, json!({ "verdict": "bad", "check": "root", "found": log.stored.tree().root.hex() }));
}

/// Partial files may go once the full ones are there, also for a checkpoint from before.
#[test]
fn full_files_stand_in_for_partial_ones_to_both() {
    let log = published(300);
    let mut later = log.stored.clone();
    later.append(&entries(300, 900));
    write(log.directory.path(), &later);
    for name in ["tile/entries/001.p/44", "tile/0/001.p/44"] {
        fs::remove_file(log.path(name)).unwrap();
    }
    assert_eq!(verdict(log.directory.path())["size"], 300);
}
