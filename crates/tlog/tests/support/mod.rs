//! Logs in memory and keys of no secret, for the tests of this crate.

#![allow(dead_code, reason = "each test file uses some of it")]

use caii_model::{Digest, Timestamp};
use caii_tlog::{
    Checkpoint, Cosigner, KeyName, Log, MemoryTiles, Note, NoteSigner, Origin, Policy, Tree, VerifierKey, Witness,
};
use caii_trust::SigningKey;

pub(crate) fn entry(index: u64) -> Digest {
    Digest::of(&index.to_be_bytes())
}

pub(crate) fn entries(from: u64, to: u64) -> Vec<Digest> {
    (from..to).map(entry).collect()
}

/// A log and its files.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Stored {
    pub(crate) log: Log,
    pub(crate) files: MemoryTiles,
}

impl Stored {
    /// Entries of these numbers, appended in one batch.
    pub(crate) fn of(size: u64) -> Self {
        let mut stored = Self::default();
        stored.append(&entries(0, size));
        stored
    }

    pub(crate) fn append(&mut self, entries: &[Digest]) {
        let appended = self.log.append(entries).unwrap();
        for (tile, bytes) in appended.files {
            assert_eq!(self.files.0.insert(tile, bytes), None, "{tile} is written twice");
        }
        self.log = appended.log;
    }

    pub(crate) fn tree(&self) -> Tree {
        self.log.tree()
    }
}

pub(crate) const ORIGIN: &str = "pool.example/receipts";

pub(crate) fn origin() -> Origin {
    ORIGIN.parse().unwrap()
}

pub(crate) fn name(text: &str) -> KeyName {
    text.parse().unwrap()
}

pub(crate) fn signer() -> NoteSigner {
    NoteSigner::new(name(ORIGIN), SigningKey::from_seed([1; 32]))
}

pub(crate) fn cosigner(number: u8) -> Cosigner {
    Cosigner::new(name(&format!("witness.example/w{number}")), SigningKey::from_seed([100 + number; 32]))
}

pub(crate) fn checkpoint(tree: Tree) -> Note {
    Checkpoint::new(origin(), tree).sign(&[&signer()]).unwrap()
}

/// Knows the log of these tests.
pub(crate) fn witness(number: u8) -> Witness {
    let mut witness = Witness::new(cosigner(number));
    witness.know(origin(), vec![signer().key().clone()], None).unwrap();
    witness
}

pub(crate) fn now() -> Timestamp {
    Timestamp(1_795_554_446_789)
}

pub(crate) fn key(text: &str) -> VerifierKey {
    text.parse().unwrap()
}

pub(crate) fn policy(text: &str) -> Policy {
    Policy::parse(text.as_bytes()).unwrap()
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
