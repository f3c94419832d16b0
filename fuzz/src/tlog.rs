//! What logs, witnesses and those who check them read of each other.

use crate::memory::at_most;
use crate::seeds::Seed;
use caii_model::{Digest, Timestamp};
use caii_tlog::{
    AddCheckpoint, Checkpoint, Cosigner, KeyType, Log, MemoryTiles, Note, NoteSigner, OfflineProof, Origin, Policy,
    Tile, Tree, VerifierKey, Witness, entry_hash, fsck, parse_cosignatures, parse_known_size, verify_consistency,
    verify_inclusion,
};
use caii_trust::SigningKey;

/// A name is copied for each signature, and a message quotes what is wrong.
fn heap(bytes: &[u8]) -> usize {
    (64 << 10) + 64 * bytes.len()
}

const ORIGIN: &str = "log.example";
const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn signer() -> NoteSigner {
    NoteSigner::new(ORIGIN.parse().expect("it is a name"), SigningKey::from_seed([1; 32]))
}

fn witness(number: u8) -> Witness {
    let name = format!("w{number}.example").parse().expect("it is a name");
    let mut witness = Witness::new(Cosigner::new(name, SigningKey::from_seed([number; 32])));
    let known = witness.know(origin(), vec![signer().key().clone()], None);
    known.expect("nothing was stored");
    witness
}

fn origin() -> Origin {
    ORIGIN.parse().expect("it is an origin")
}

/// Notes, checkpoints, cosignatures and keys. What is accepted is written as it came; no fuzzer makes a signature, so
/// nothing is believed but what the seeds' own keys signed.
pub fn note(bytes: &[u8]) {
    if let Ok(note) = at_most(heap(bytes), || Note::parse(bytes)) {
        assert_eq!(note.to_string().as_bytes(), bytes);
        let log = signer();
        let keys = [log.key(), witness(2).key()].map(VerifierKey::clone);
        if let Ok(signers) = note.signers(&keys) {
            assert!(!signers.is_empty() && signers.len() <= keys.len());
        }
        if let Ok(checkpoint) = Checkpoint::parse(note.text()) {
            assert_eq!(checkpoint.text(), note.text());
            let again = checkpoint.sign(&[&log]).expect("what was read can be signed");
            let opened = Checkpoint::open(&again, &checkpoint.origin, &keys).expect("it was signed just now");
            assert_eq!(opened.0, checkpoint);
        }
    }
    if let Ok(signatures) = at_most(heap(bytes), || parse_cosignatures(bytes)) {
        let lines: String = signatures.iter().map(|signature| format!("{signature}\n")).collect();
        assert_eq!(lines.as_bytes(), bytes);
    }
    if let Some(size) = parse_known_size(bytes) {
        assert_eq!(format!("{size}\n").as_bytes(), bytes);
    }
    if let Ok(Ok(key)) = std::str::from_utf8(bytes).map(str::parse::<VerifierKey>) {
        assert_eq!(key.to_string().as_bytes(), bytes);
    }
}

/// Requests to a witness that has cosigned five entries: it signs what continues them and nothing else.
pub fn request(bytes: &[u8]) {
    let Ok(request) = at_most(heap(bytes), || AddCheckpoint::parse(bytes)) else { return };
    assert_eq!(request.to_string().as_bytes(), bytes);
    let mut witness = witness(2);
    let first = AddCheckpoint { old_size: 0, proof: vec![], note: checkpoint(log(5).0) };
    let first = witness.add_checkpoint(&first, NOW).expect("it is the first");
    match witness.add_checkpoint(&request, NOW) {
        Ok(cosigned) => {
            assert!(cosigned.tree.size >= 5);
            assert!(verify_consistency(&first.tree, &cosigned.tree, &request.proof));
            let state = Note::parse(cosigned.state().as_bytes()).expect("it was written just now");
            assert_eq!(state.signers([witness.key()]).map(|signers| signers.len()), Ok(1));
        }
        Err(refusal) => {
            assert!((400..500).contains(&refusal.status()));
            assert!(refusal.body().1.ends_with('\n'));
        }
    }
}

/// Policies. Comments and spaces are not kept, so what is written once is what stays.
pub fn policy(bytes: &[u8]) {
    let Ok(policy) = at_most(heap(bytes), || Policy::parse(bytes)) else { return };
    let written = policy.to_bytes();
    assert_eq!(Policy::parse(&written).as_ref(), Ok(&policy));
    assert_eq!(Policy::parse(&written).map(|policy| policy.to_bytes()), Ok(written));
    for (place, group) in policy.groups().iter().enumerate() {
        assert!((1..=group.members.len()).contains(&group.threshold));
        for member in &group.members {
            assert!(match member {
                caii_tlog::Member::Witness(witness) => *witness < policy.witnesses().len(),
                caii_tlog::Member::Group(group) => *group < place,
            });
        }
    }
    if let Ok(accepted) = policy.accept(&cosigned()) {
        assert_eq!(accepted.checkpoint.origin, origin());
    }
}

/// Offline proofs; then the bytes as the path of a file, as sizes and hashes of two trees, and as the files of a log.
pub fn proof(bytes: &[u8]) {
    if let Ok(proof) = at_most(heap(bytes), || OfflineProof::parse(bytes)) {
        assert_eq!(proof.to_string().as_bytes(), bytes);
        let policy = Policy::parse(policy_text().as_bytes()).expect("it is a policy");
        for index in 0..5 {
            if proof.verify(&entry(index), &policy).is_ok() {
                assert_eq!(proof.index, index);
            }
        }
    }
    if let Ok(Ok(tile)) = std::str::from_utf8(bytes).map(str::parse::<Tile>) {
        assert_eq!(tile.to_string().as_bytes(), bytes);
    }
    let Some((sizes, hashes)) = bytes.split_first_chunk::<16>() else { return };
    let [old, new] = [0, 8].map(|at| u64::from_le_bytes(*sizes[at..].first_chunk().expect("there are sixteen")));
    let hashes: Vec<Digest> = hashes.as_chunks().0.iter().copied().map(Digest).collect();
    let [one, other, proof @ ..] = &hashes[..] else { return };
    let (old, new) = (Tree { size: old, root: *one }, Tree { size: new, root: *other });
    if verify_consistency(&old, &new, proof) {
        assert!(old.size < new.size || old == new);
    }
    let _verdict = verify_inclusion(&new, old.size, one, proof);
    // A bundle and a tile of what somebody published.
    let (size, [bundle, tile]) =
        (2, ["tile/entries/000.p/2", "tile/0/000.p/2"].map(|path| path.parse().expect("a path")));
    let files = MemoryTiles([(bundle, bytes[16..].to_vec()), (tile, [one.0, other.0].concat())].into());
    let good = fsck(&files, &Tree { size, root: new.root });
    assert!(good.is_err() || entry_hash(one) == *one, "nobody finds an entry that is its own hash");
    assert!(Log::resume(Tree { size, root: new.root }, &files).is_err());
}

fn entry(index: u64) -> Digest {
    Digest::of(&index.to_be_bytes())
}

fn log(size: u64) -> (Tree, MemoryTiles) {
    let entries: Vec<Digest> = (0..size).map(entry).collect();
    let appended = Log::default().append(&entries).expect("there is room");
    (appended.log.tree(), MemoryTiles(appended.files.into_iter().collect()))
}

fn checkpoint(tree: Tree) -> Note {
    Checkpoint::new(origin(), tree).sign(&[&signer()]).expect("it has no extension lines")
}

/// A checkpoint of five entries with two cosignatures.
fn cosigned() -> Note {
    let mut note = checkpoint(log(5).0);
    for number in [2, 3] {
        let request = AddCheckpoint { old_size: 0, proof: vec![], note: note.clone() };
        let cosigned = witness(number).add_checkpoint(&request, NOW).expect("it is the first");
        let answer = parse_cosignatures(cosigned.answer().as_bytes()).expect("it was written just now");
        answer.into_iter().for_each(|signature| note.add(signature));
    }
    note
}

fn policy_text() -> String {
    let [two, three] = [2, 3].map(|number| witness(number).key().to_string());
    format!(
        "# a policy\nlog {} https://log.example/\nwitness two {two}\nwitness three {three} u\n\
         group both all two three\nquorum both\n",
        signer().key()
    )
}

/// Where fuzzing starts.
pub(crate) fn seeds() -> Vec<Seed> {
    let (five, nine) = (log(5), log(9));
    let consistency = caii_tlog::prove_consistency(&five.0, &nine.0, &nine.1).expect("it continues it");
    let request = AddCheckpoint { old_size: 5, proof: consistency, note: checkpoint(nine.0) };
    let opened = Checkpoint::parse(cosigned().text()).expect("it is a checkpoint");
    let mut proof = OfflineProof::make(&opened, cosigned(), 3, &five.1).expect("there is such an entry");
    proof.extra = b"salt".to_vec();
    let note = cosigned().to_string();
    let lines = note.split_once("\n\n").expect("it is signed").1.to_owned();
    let key = VerifierKey::new("w.example".parse().expect("a name"), KeyType::CosignatureV1, *signer().key().public());
    let sizes: Vec<u8> = [5u64, 9].iter().flat_map(|size| size.to_le_bytes()).collect();
    let hashes = [&[five.0.root, nine.0.root][..], &request.proof].concat();
    let trees = [sizes, hashes.iter().flat_map(|hash| hash.0).collect()].concat();
    vec![
        ("tlog_note", "checkpoint", note.into_bytes()),
        ("tlog_note", "cosignatures", lines.into_bytes()),
        ("tlog_note", "key", key.expect("it is a key").to_string().into_bytes()),
        ("tlog_note", "size", b"120\n".to_vec()),
        ("tlog_request", "continues", request.to_string().into_bytes()),
        (
            "tlog_request",
            "first",
            AddCheckpoint { old_size: 0, proof: vec![], note: cosigned() }.to_string().into_bytes(),
        ),
        ("tlog_policy", "groups", policy_text().into_bytes()),
        ("tlog_policy", "none", b"quorum none\n".to_vec()),
        ("tlog_proof", "offline", proof.to_string().into_bytes()),
        ("tlog_proof", "path", b"tile/entries/x001/x234/067.p/255".to_vec()),
        ("tlog_proof", "trees", trees),
    ]
}
