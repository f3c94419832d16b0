//! What strangers send: no parser panics, and each accepts one spelling of each thing.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod support;

use caii_tlog::{
    AddCheckpoint, Checkpoint, Note, OfflineProof, Policy, Tile, VerifierKey, parse_cosignatures, parse_known_size,
};
use proptest::prelude::*;
use support::{Stored, checkpoint, cosigner, now, policy, signer, witness};

/// Reads bytes in every way that there is; what is accepted is written as it came, but for a policy's spaces.
fn read(bytes: &[u8]) {
    if let Ok(note) = Note::parse(bytes) {
        assert_eq!(note.to_string().as_bytes(), bytes);
        let _ = note.signers([signer().key(), cosigner(1).key()]);
        if let Ok(checkpoint) = Checkpoint::parse(note.text()) {
            assert_eq!(checkpoint.text(), note.text());
        }
    }
    if let Ok(request) = AddCheckpoint::parse(bytes) {
        assert_eq!(request.to_string().as_bytes(), bytes);
        let _ = witness(1).add_checkpoint(&request, now());
    }
    if let Ok(proof) = OfflineProof::parse(bytes) {
        assert_eq!(proof.to_string().as_bytes(), bytes);
        let policy = policy(&format!("log {}\nquorum none\n", signer().key()));
        let _ = proof.verify(&support::entry(0), &policy);
    }
    if let Ok(policy) = Policy::parse(bytes) {
        assert_eq!(Policy::parse(&policy.to_bytes()), Ok(policy.clone()));
        let _ = policy.accept(&checkpoint(Stored::of(1).tree()));
    }
    let _ = (parse_cosignatures(bytes), parse_known_size(bytes));
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(key) = text.parse::<VerifierKey>() {
            assert_eq!(key.to_string(), text);
        }
        if let Ok(tile) = text.parse::<Tile>() {
            assert_eq!(tile.to_string(), text);
        }
    }
}

/// Something good of each kind.
fn good() -> Vec<Vec<u8>> {
    let stored = Stored::of(300);
    let note = checkpoint(stored.tree());
    let request = AddCheckpoint { old_size: 0, proof: vec![], note: note.clone() };
    let cosignature = witness(1).add_checkpoint(&request, now()).unwrap().answer();
    let opened = Checkpoint::parse(note.text()).unwrap();
    let proof = OfflineProof::make(&opened, note.clone(), 256, &stored.files).unwrap();
    let proof = OfflineProof { extra: b"extra".to_vec(), ..proof };
    let policy = format!(
        "log {} u\nwitness a {}\nwitness b {}\ngroup c any a b\nquorum c\n",
        signer().key(),
        cosigner(1).key(),
        cosigner(2).key()
    );
    let texts = [note.to_string() + &cosignature, request.to_string(), proof.to_string(), policy, cosignature];
    texts.into_iter().map(String::into_bytes).chain([signer().key().to_string().into_bytes()]).collect()
}

#[test]
fn good_texts_are_read() {
    good().iter().for_each(|bytes| read(bytes));
}

proptest! {
    #[test]
    fn any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read(&bytes);
    }

    #[test]
    fn any_lines_are_judged(lines in prop::collection::vec("(old |index |extra |log |witness |group |quorum |— )?[a-z0-9+/= —]{0,50}", 0..12)) {
        read(lines.join("\n").as_bytes());
        read((lines.join("\n") + "\n").as_bytes());
    }

    /// A good text with a piece cut out, doubled, or replaced.
    #[test]
    fn what_is_nearly_good_is_judged(
        kind: prop::sample::Index,
        from: prop::sample::Index,
        len in 0usize..60,
        instead in prop_oneof![Just(vec![]), prop::collection::vec(any::<u8>(), 1..8), Just(b"\n".to_vec()), Just(b"\n\n".to_vec())],
        double: bool,
    ) {
        let all = good();
        let bytes = &all[kind.index(all.len())];
        let from = from.index(bytes.len());
        let to = bytes.len().min(from + len);
        let middle = if double { bytes[from..to].repeat(2) } else { instead };
        read(&[&bytes[..from], &middle, &bytes[to..]].concat());
    }
}
