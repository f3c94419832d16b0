//! Policies and offline proofs.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod support;

use caii_model::Digest;
use caii_tlog::{
    AddCheckpoint, Checkpoint, KeyType, Member, Note, OfflineProof, OfflineProofError, OfflineProofRefused,
    POLICY_LINES_MAX, POLICY_SIZE_MAX, Policy, PolicyError, PolicyRefused, ProofError, Quorum, Unbelievable,
    Unverified, VerifierKey, parse_cosignatures,
};
use caii_trust::SigningKey;
use proptest::prelude::*;
use support::{Stored, checkpoint, cosigner, entry, name, now, origin, policy, signer, witness};

/// The checkpoint of this log with cosignatures of these witnesses.
fn cosigned(stored: &Stored, by: &[u8]) -> Note {
    let mut note = checkpoint(stored.tree());
    for number in by {
        let request = AddCheckpoint { old_size: 0, proof: vec![], note: note.clone() };
        let line = witness(*number).add_checkpoint(&request, now()).unwrap().answer();
        note.add(parse_cosignatures(line.as_bytes()).unwrap().remove(0));
    }
    note
}

/// A line that makes `name` the witness of this number.
fn line(name: &str, number: u8) -> String {
    format!("witness {name} {}\n", cosigner(number).key())
}

/// The example of tlog-policy, with keys.
fn example() -> String {
    let witnesses: String = (1..=3).map(|number| line(&format!("X{number}"), number)).collect();
    let more: String = (4..=6).map(|number| line(&format!("Y{}", number - 3), number)).collect();
    format!(
        "log {}\n\n{witnesses}group X-witnesses 2 X1 X2 X3\n\n{more}group Y-witnesses any Y1 Y2 Y3\n\n\
         group X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n",
        signer().key()
    )
}

#[test]
fn the_example_of_the_specification_is_understood() {
    let policy = policy(&example());
    assert_eq!((policy.logs().len(), policy.witnesses().len()), (1, 6));
    let thresholds: Vec<_> = policy.groups().iter().map(|group| (group.threshold, group.members.len())).collect();
    assert_eq!(thresholds, [(2, 3), (1, 3), (2, 2)]);
    assert_eq!(policy.groups()[2].members, [Member::Group(0), Member::Group(1)]);
    assert_eq!(policy.quorum(), Quorum::Of(Member::Group(2)));
}

/// Every set of the six witnesses, against the rule in words: two of X and one of Y.
#[test]
fn a_quorum_is_reached_by_the_sets_that_it_describes() {
    let policy = policy(&example());
    let stored = Stored::of(3);
    let full = cosigned(&stored, &[1, 2, 3, 4, 5, 6]);
    for set in 0u8..64 {
        let by: Vec<u8> = (1..=6).filter(|number| set & 1 << (number - 1) != 0).collect();
        let mut note = checkpoint(stored.tree());
        by.iter().for_each(|number| note.add(full.signatures()[usize::from(*number)].clone()));
        let expected = (set & 7).count_ones() >= 2 && set >> 3 != 0;
        match policy.accept(&note) {
            Ok(accepted) => {
                assert!(expected, "{by:?}");
                assert_eq!(accepted.cosigned.len(), by.len());
                assert!(accepted.cosigned.iter().all(|(_, at)| at.0 == now().unix_seconds()));
            }
            Err(PolicyRefused::Quorum { quorum, cosigned }) => {
                assert!(!expected, "{by:?}");
                assert_eq!((quorum.as_str(), cosigned.len()), ("X-and-Y", by.len()));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_checkpoint_must_be_of_a_log_of_the_policy() {
    let stored = Stored::of(3);
    let (key, none) = (signer().key().to_string(), "quorum none\n");
    let with_log = policy(&format!("log {key} https://pool.example/log\n{none}"));
    assert_eq!(with_log.accept(&checkpoint(stored.tree())).unwrap().checkpoint.tree, stored.tree());
    let other = Checkpoint::new("pool.example/other".parse().unwrap(), stored.tree()).sign(&[&signer()]).unwrap();
    assert_eq!(with_log.accept(&other), Err(PolicyRefused::LogUnknown("pool.example/other".parse().unwrap())));
    // The right name on another key.
    let stranger = caii_tlog::NoteSigner::new(name(support::ORIGIN), SigningKey::from_seed([66; 32]));
    let forged = Checkpoint::new(origin(), stored.tree()).sign(&[&stranger]).unwrap();
    assert!(matches!(
        with_log.accept(&forged),
        Err(PolicyRefused::Log(Unbelievable::Unverified { why: Unverified::Unsigned { .. }, .. }))
    ));
    // No log in the policy: the caller must know it.
    let without = policy(none);
    assert_eq!(without.accept(&checkpoint(stored.tree())), Err(PolicyRefused::LogUnknown(origin())));
    assert!(without.accept_of(&checkpoint(stored.tree()), &origin(), [signer().key()]).is_ok());
}

#[test]
fn one_wrong_cosignature_spoils_the_checkpoint() {
    let policy = policy(&example());
    let note = cosigned(&Stored::of(3), &[1, 2, 3, 4]);
    assert!(policy.accept(&note).is_ok());
    let mut wrong = note.signatures()[3].clone();
    *wrong.bytes.last_mut().unwrap() ^= 1;
    let mut spoilt = note.clone();
    spoilt.add(wrong);
    assert!(matches!(policy.accept(&spoilt), Err(PolicyRefused::Cosignature(Unverified::Signature { .. }))));
}

/// Accepted texts of `tlog_policy_test.go` of transparency-dev/formats.
#[test]
fn unusual_policies_are_understood() {
    let key = cosigner(1).key().to_string();
    let minimal = policy("quorum none\n");
    assert_eq!((minimal.logs().len(), minimal.quorum()), (0, Quorum::None));
    let spaced = format!(
        "\n# comment\n\t # another comment\n\twitness \t w1  {key}   https://w1.example.com/  \n\n  quorum\tw1"
    );
    let spaced = policy(&spaced);
    assert_eq!(spaced.witnesses()[0].url.as_deref(), Some(b"https://w1.example.com/".as_slice()));
    let octets = [b"witness K\xe2\x84\xaa\x80 ", key.as_bytes(), b"\nquorum K\xe2\x84\xaa\x80\n"].concat();
    assert_eq!(Policy::parse(&octets).unwrap().witnesses()[0].name, b"K\xe2\x84\xaa\x80");
    let keywords = format!("{}{}group group 2 all any\nquorum group\n", line("all", 1), line("any", 2));
    assert_eq!(policy(&keywords).groups()[0].name, b"group");
    // The names of a witness and of its key are two things.
    assert_eq!(policy(&example()).witnesses()[0].key.name().as_str(), "witness.example/w1");
}

/// Refused texts of the same tests, and some more.
#[test]
fn what_is_no_policy_is_refused_with_its_line() {
    let (w1, w2) = (line("w1", 1), line("w2", 2));
    let log = format!("log {}\n", signer().key());
    let renamed = VerifierKey::new(name("impostor.example"), KeyType::CosignatureV1, *cosigner(1).key().public());
    let renamed = format!("witness w2 {}\n", renamed.unwrap());
    let text = |name: &str| name.to_owned();
    let threshold = |line, members| PolicyError::Threshold { line, members };
    let unknown = |line, name: &str| PolicyError::NameUnknown { line, name: name.into() };
    let taken = |line, name: &str| PolicyError::NameTaken { line, name: name.into() };
    let twice = |line, name: &str| PolicyError::MemberTwice { line, name: name.into() };
    for (policy, error) in [
        (text("quorum none\n\x01"), PolicyError::Byte { line: 2, byte: 1 }),
        (text("quorum none\r\n"), PolicyError::Byte { line: 1, byte: 13 }),
        (text("quorum none\x7f"), PolicyError::Byte { line: 1, byte: 127 }),
        (text("quibble w1\nquorum none\n"), PolicyError::Line { line: 1 }),
        (w1.replace('\n', " https://x # comment\n"), PolicyError::Line { line: 1 }),
        (text("log\n"), PolicyError::Line { line: 1 }),
        (text("witness w1\n"), PolicyError::Line { line: 1 }),
        (text("quorum\n"), PolicyError::Line { line: 1 }),
        (text("Quorum none\n"), PolicyError::Line { line: 1 }),
        (format!("{w1}group g1 1\n"), PolicyError::Line { line: 2 }),
        (w1.replace("witness w1", "log"), PolicyError::KeyType { line: 1 }),
        (log.replace("log", "witness w1"), PolicyError::KeyType { line: 1 }),
        (format!("{log}{log}"), PolicyError::KeyTwice { line: 2 }),
        (format!("{w1}{renamed}"), PolicyError::KeyTwice { line: 2 }),
        (line("none", 1), taken(1, "none")),
        (format!("{w1}{}", line("w1", 2)), taken(2, "w1")),
        (format!("{w1}group w1 any w1\n"), taken(2, "w1")),
        (format!("{w1}group none any w1\n"), taken(2, "none")),
        (format!("{w1}group g1 0 w1\n"), threshold(2, 1)),
        (format!("{w1}group g1 -1 w1\n"), threshold(2, 1)),
        (format!("{w1}group g1 01 w1\n"), threshold(2, 1)),
        (format!("{w1}group g1 2 w1\n"), threshold(2, 1)),
        (format!("{w1}group g1 99999999999999999999 w1\n"), threshold(2, 1)),
        (format!("{w1}group g1 any w2\n{w2}"), unknown(2, "w2")),
        (format!("{w1}group g1 any none w1\n"), unknown(2, "none")),
        (format!("{w1}group g1 any g1\n"), unknown(2, "g1")),
        (format!("{w1}group g1 all w1 w1\n"), twice(2, "w1")),
        (format!("{w1}{w2}group g1 any w1 w2\ngroup g2 any w1\n"), twice(4, "w1")),
        (w1.clone(), PolicyError::NoQuorum),
        (String::new(), PolicyError::NoQuorum),
        (format!("{w1}quorum w1\nquorum w1\n"), PolicyError::QuorumTwice { line: 3 }),
        (format!("quorum w1\n{w1}"), unknown(1, "w1")),
        (text("quorum unknown\n"), unknown(1, "unknown")),
    ] {
        assert_eq!(Policy::parse(policy.as_bytes()), Err(error), "{policy}");
    }
    for bad in ["log garbage\n", "witness w1 garbage\n"] {
        assert!(matches!(Policy::parse(bad.as_bytes()), Err(PolicyError::Key { line: 1, .. })), "{bad}");
    }
    let octets = b"log \xff\xff+00000000+AA==\n";
    assert!(matches!(Policy::parse(octets), Err(PolicyError::Key { line: 1, .. })));
    let large = vec![b'#'; POLICY_SIZE_MAX + 1];
    assert_eq!(Policy::parse(&large), Err(PolicyError::TooLarge { found: large.len() }));
}

#[test]
fn policies_have_a_limit_far_above_what_is_used() {
    let key = |number: usize| SigningKey::from_seed(Digest::of(&number.to_be_bytes()).0).public();
    let witness = |number: usize| {
        let key = VerifierKey::new(name(&format!("w{number}.example")), KeyType::CosignatureV1, key(number)).unwrap();
        format!("witness w{number} {key}\n")
    };
    let of = |count: usize| -> String { (0..count).map(witness).chain(["quorum none\n".to_owned()]).collect() };
    assert_eq!(policy(&of(POLICY_LINES_MAX)).witnesses().len(), POLICY_LINES_MAX);
    assert_eq!(Policy::parse(of(POLICY_LINES_MAX + 1).as_bytes()), Err(PolicyError::TooMany));
}

#[test]
fn a_policy_is_written_as_it_is_read() {
    let url = example().replacen('\n', " https://pool.example/ü\n", 1);
    for text in [example(), url, "quorum none".into()] {
        let read = policy(&text);
        let written = read.to_bytes();
        assert_eq!(Policy::parse(&written), Ok(read.clone()));
        assert_eq!(Policy::parse(&written).unwrap().to_bytes(), written);
    }
    assert_eq!(policy("# none\n\n quorum   none").to_bytes(), b"quorum none\n");
}

#[test]
fn an_offline_proof_convinces_without_asking_anybody() {
    let stored = Stored::of(70_000);
    let note = cosigned(&stored, &[1, 2, 5]);
    let policy = policy(&example());
    let (checkpoint, _) = Checkpoint::open(&note, &origin(), [signer().key()]).unwrap();
    for index in [0, 255, 256, 69_999] {
        let mut proof = OfflineProof::make(&checkpoint, note.clone(), index, &stored.files).unwrap();
        proof.extra = b"what was committed to".to_vec();
        let read = OfflineProof::parse(proof.to_string().as_bytes()).unwrap();
        assert_eq!(read, proof);
        let accepted = read.verify(&entry(index), &policy).unwrap();
        assert_eq!((accepted.checkpoint.tree, accepted.cosigned.len()), (stored.tree(), 3));

        let wrong = OfflineProofRefused::NotIncluded { index, size: 70_000 };
        assert_eq!(read.verify(&entry(index + 1), &policy), Err(wrong));
        let other = OfflineProof { index: index ^ 1, ..read.clone() };
        assert!(matches!(other.verify(&entry(index), &policy), Err(OfflineProofRefused::NotIncluded { .. })));
        let few = OfflineProof { checkpoint: cosigned(&stored, &[1, 5]), ..read };
        let refused = few.verify(&entry(index), &policy);
        assert!(matches!(refused, Err(OfflineProofRefused::Policy(PolicyRefused::Quorum { .. }))));
    }
    let beyond = OfflineProof::make(&checkpoint, note, 70_000, &stored.files);
    assert_eq!(beyond, Err(ProofError::NoEntry { index: 70_000, size: 70_000 }));
}

/// Texts of `tlog_proof_test.go` of transparency-dev/formats, and the form of tlog-proof's example.
#[test]
fn offline_proofs_have_the_form_of_the_specification() {
    let note = checkpoint(Stored::of(1).tree()).to_string();
    let hash = |text: &[u8]| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(Digest::of(text).0)
    };
    let (one, two) = (hash(b"hash1"), hash(b"hash2"));
    let head = "c2sp.org/tlog-proof@v1\n";
    for (text, extra, hashes) in [
        (format!("{head}index 5\n{one}\n{two}\n\n{note}"), "", 2),
        (format!("{head}extra ZXh0cmEgaW5mb3JtYXRpb24=\nindex 10\n{one}\n\n{note}"), "extra information", 1),
        (format!("{head}index 0\n\n{note}"), "", 0),
    ] {
        let read = OfflineProof::parse(text.as_bytes()).unwrap();
        assert_eq!((read.extra.as_slice(), read.proof.len()), (extra.as_bytes(), hashes));
        assert_eq!(read.to_string(), text);
    }
    let many = format!("{one}\n").repeat(64);
    let long = "A".repeat(4 * 30_000);
    let empty_note = caii_tlog::NoteError::NoSignatures;
    for (text, error) in [
        (format!("wrong-header\nindex 0\n\n{note}"), OfflineProofError::Head),
        (format!("{head}extra !!notbase64!!\nindex 0\n\n{note}"), OfflineProofError::Extra),
        (format!("{head}extra \nindex 0\n\n{note}"), OfflineProofError::Extra),
        (format!("{head}extra {long}\nindex 0\n\n{note}"), OfflineProofError::Extra),
        (format!("{head}extra AA==\nextra AA==\nindex 0\n\n{note}"), OfflineProofError::Index),
        (format!("{head}\n\n{note}"), OfflineProofError::Index),
        (format!("{head}index notanumber\n\n{note}"), OfflineProofError::Index),
        (format!("{head}index -5\n\n{note}"), OfflineProofError::Index),
        (format!("{head}index 05\n\n{note}"), OfflineProofError::Index),
        (format!("{head}index 0\n!!notbase64!!\n\n{note}"), OfflineProofError::Hash("!!notbase64!!".into())),
        (format!("{head}index 0\n{one}{two}\n\n{note}"), OfflineProofError::Hash(format!("{one}{two}")[..80].into())),
        (format!("{head}index 0\n{many}\n{note}"), OfflineProofError::TooLong),
        (format!("{head}index 0\n{one}\n"), OfflineProofError::NoCheckpoint),
        (format!("{head}index 0\n\n{}", note.replace("\n\n", "\n")), OfflineProofError::Note(empty_note)),
    ] {
        assert_eq!(OfflineProof::parse(text.as_bytes()), Err(error), "{text}");
    }
    let large = vec![b'x'; caii_tlog::OFFLINE_PROOF_SIZE_MAX + 1];
    assert_eq!(OfflineProof::parse(&large), Err(OfflineProofError::TooLarge { found: large.len() }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bit_of_an_offline_proof_can_be_changed(size in 1u64..600, at: prop::sample::Index, place: prop::sample::Index, bit in 0..8u8) {
        let stored = Stored::of(size);
        let index = at.index(size as usize) as u64;
        let policy = policy(&format!("log {}\nquorum none\n", signer().key()));
        let checkpoint = Checkpoint::new(origin(), stored.tree());
        let note = support::checkpoint(stored.tree());
        let proof = OfflineProof::make(&checkpoint, note, index, &stored.files).unwrap();
        prop_assert!(proof.verify(&entry(index), &policy).is_ok());
        let mut bytes = proof.to_string().into_bytes();
        let place = place.index(bytes.len());
        bytes[place] ^= 1 << bit;
        if let Ok(changed) = OfflineProof::parse(&bytes) {
            prop_assert!(changed.verify(&entry(index), &policy).is_err(), "{}", place);
        }
    }
}
