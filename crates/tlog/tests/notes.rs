//! Notes, keys and checkpoints, with what others published.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod support;

use caii_model::Digest;
use caii_tlog::{
    Checkpoint, CheckpointError, KeyType, NOTE_SIGNATURES_MAX, NOTE_SIZE_MAX, Note, NoteError, NoteSignature,
    NoteSigner, Origin, Tree, Unbelievable, UnixSeconds, Unverified, VerifierKey, VerifierKeyError,
};
use caii_trust::{SignatureError, SigningKey};
use proptest::prelude::*;
use support::{Stored, checkpoint, cosigner, key, name, origin, signer};

/// Keys, text and signatures of `note_test.go` of golang.org/x/mod/sumdb/note.
const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
/// The secret of Peter's key: `AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz` without its first byte.
const PETER_SECRET: &str = "810a1402d5146c8d84f2443330f54080ebf98ee17d9c74f6252fc5d5c7283173";
const ENOCH: &str = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop";
const TEXT: &str =
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
const PETER_SIGNED: &str =
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
const ENOCH_SIGNED: &str =
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n";

fn note(text: &str) -> Note {
    Note::parse(text.as_bytes()).unwrap()
}

fn names(note: &Note, keys: &[VerifierKey]) -> Vec<String> {
    note.signers(keys).unwrap().iter().map(|signed| signed.key.name().to_string()).collect()
}

#[test]
fn gos_notes_are_signed_and_verified() {
    let (peter, enoch) = (key(PETER), key(ENOCH));
    let secret: [u8; 32] = support::unhex(PETER_SECRET).try_into().unwrap();
    let signer = NoteSigner::new(name("PeterNeumann"), SigningKey::from_seed(secret));
    assert_eq!((signer.key(), signer.key().to_string().as_str()), (&peter, PETER));
    assert_eq!(peter.id(), 0xc74f_20a3);
    let mut signed = Note::unsigned(TEXT.into()).unwrap();
    signed.add(signer.sign(TEXT));
    assert_eq!(signed.to_string(), format!("{TEXT}\n{PETER_SIGNED}"));

    let both = note(&format!("{TEXT}\n{PETER_SIGNED}{ENOCH_SIGNED}"));
    assert_eq!(names(&both, &[enoch.clone(), peter.clone()]), ["EnochRoot", "PeterNeumann"]);
    assert_eq!(names(&both, std::slice::from_ref(&peter)), ["PeterNeumann"], "unknown keys are ignored");
    assert_eq!(both.signers(&[]), Err(Unverified::Unsigned { known: 0 }));
    let twice = note(&format!("{TEXT}\n{PETER_SIGNED}{PETER_SIGNED}{ENOCH_SIGNED}"));
    assert_eq!(names(&twice, &[peter, enoch]), ["PeterNeumann", "EnochRoot"], "a key counts once");
}

#[test]
fn a_name_or_an_id_alone_is_another_key() {
    let peter = [key(PETER)];
    for other in [PETER_SIGNED.replace("PeterNeumann", "CarmenSandiego"), PETER_SIGNED.replace("x08g", "xxxx")] {
        let other = note(&format!("{TEXT}\n{other}{ENOCH_SIGNED}"));
        assert_eq!(other.signers(&peter), Err(Unverified::Unsigned { known: 1 }));
        let beside = note(&format!("{}{PETER_SIGNED}", other));
        assert_eq!(names(&beside, &peter), ["PeterNeumann"]);
    }
}

#[test]
fn one_wrong_signature_by_a_known_key_spoils_the_note() {
    let wrong = PETER_SIGNED.replace("ZJku", "ZJkv");
    let expected = Unverified::Signature { name: name("PeterNeumann"), why: SignatureError::Mismatch };
    let keys = [key(PETER), key(ENOCH)];
    for lines in [
        format!("{wrong}{ENOCH_SIGNED}"),
        format!("{ENOCH_SIGNED}{wrong}"),
        format!("{PETER_SIGNED}{wrong}"),
        format!("{wrong}{PETER_SIGNED}"),
    ] {
        assert_eq!(note(&format!("{TEXT}\n{lines}")).signers(&keys), Err(expected.clone()));
    }
    let other_text = TEXT.replace("crypto", "steno");
    assert_eq!(note(&format!("{other_text}\n{PETER_SIGNED}")).signers(&keys), Err(expected));
}

/// The example of signed-note: an empty line within the text, and a character beyond ASCII.
#[test]
fn the_text_ends_at_the_last_empty_line() {
    let text = "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n";
    let line = "— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n";
    let read = note(&format!("{text}\n{line}"));
    assert_eq!(read.text(), text);
    assert_eq!(read.signatures()[0].id, 0x367b_a04b);
    assert_eq!(read.to_string(), format!("{text}\n{line}"));
}

#[test]
fn what_is_no_note_is_refused() {
    let refused = |text: &str| Note::parse(text.as_bytes()).unwrap_err();
    for text in ["", "\n", TEXT, &format!("\n{TEXT}"), PETER_SIGNED, &format!("{TEXT}{PETER_SIGNED}")] {
        assert_eq!(refused(text), NoteError::NoSignatures, "{text}");
    }
    assert_eq!(refused(&format!("{TEXT}\n")), NoteError::NoSignatures, "no signature");
    assert_eq!(refused(&format!("{TEXT}\n{}", PETER_SIGNED.trim_end())), NoteError::NoSignatures, "no line feed");
    for text in [format!("\x01{TEXT}\n{PETER_SIGNED}"), format!("{TEXT}\n{PETER_SIGNED}").replace('\n', "\r\n")] {
        assert_eq!(refused(&text), NoteError::NotText);
    }
    assert_eq!(Note::parse(&[b"\xff", TEXT.as_bytes()].concat()), Err(NoteError::NotText));
    for line in [
        PETER_SIGNED.replace('—', "-"),
        PETER_SIGNED.replace("— ", "—"),
        PETER_SIGNED.replace("=\n", "\n"),
        PETER_SIGNED.replace("=\n", "= \n"),
        PETER_SIGNED.replace(" x08g", "  x08g"),
        "— PeterNeumann\n".into(),
        "— PeterNeumann \n".into(),
        "— PeterNeumann x08gow==\n".into(),
        format!("{PETER_SIGNED}x\n"),
    ] {
        assert!(matches!(refused(&format!("{TEXT}\n{line}")), NoteError::Line(_)), "{line}");
    }
    for bad in ["Peter+Neumann", "Peter\u{a0}Neumann", ""] {
        let line = PETER_SIGNED.replace("PeterNeumann", bad);
        assert!(matches!(refused(&format!("{TEXT}\n{line}")), NoteError::Name(_)), "{line}");
    }
    let many = |count| format!("{TEXT}\n{}", PETER_SIGNED.repeat(count));
    assert_eq!(note(&many(NOTE_SIGNATURES_MAX)).signatures().len(), NOTE_SIGNATURES_MAX);
    assert_eq!(refused(&many(NOTE_SIGNATURES_MAX + 1)), NoteError::TooManySignatures);
    let large = "x".repeat(NOTE_SIZE_MAX + 1);
    assert_eq!(refused(&large), NoteError::TooLarge { found: large.len() });
}

#[test]
fn keys_of_others_have_the_ids_of_the_specification() {
    // golang.org/x/mod; transparency-dev/formats (note_cosigv1_test.go, identifier_test.go); the witnesses' own pages.
    for (text, kind) in [
        (PETER, KeyType::Ed25519),
        (ENOCH, KeyType::Ed25519),
        ("sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8", KeyType::Ed25519),
        ("armory-drive-log+16541b8f+AYDPmG5pQp4Bgu0a1mr5uDZ196+t8lIVIfWQSPWmP+Jv", KeyType::Ed25519),
        ("TEST+7997405c+AQcC+FTVKf0jlTdHDY3rbevmnKxxPjigCXlVtGe6RIr6", KeyType::Ed25519),
        ("remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2", KeyType::CosignatureV1),
        ("rgdd.se/poc-witness+db03732e+BCjJKlo6BU0xfIb8LutqerIFTWIXEA0L5n3tW3QyPFgG", KeyType::CosignatureV1),
    ] {
        let key: VerifierKey = text.parse().unwrap();
        assert_eq!((key.kind(), key.to_string().as_str()), (kind, text));
    }
}

#[test]
fn what_is_no_key_is_refused() {
    let refused = |text: &str| text.parse::<VerifierKey>().unwrap_err();
    for text in ["", "PeterNeumann", "PeterNeumann+c74f20a3"] {
        assert_eq!(refused(text), VerifierKeyError::Form);
    }
    assert!(matches!(refused(&PETER.replace("PeterNeumann", "")), VerifierKeyError::Name(_)));
    assert!(matches!(refused(&PETER.replace("PeterNeumann", "Peter Neumann")), VerifierKeyError::Name(_)));
    for id in ["C74F20A3", "c74f20a", "c74f20a33", "+74f20a3", ""] {
        let text = PETER.replace("c74f20a3", id);
        assert!(matches!(refused(&text), VerifierKeyError::Id), "{text}");
    }
    assert_eq!(
        refused(&PETER.replace("c74f20a3", "c74f20a4")),
        VerifierKeyError::OtherId { expected: 0xc74f_20a3, found: 0xc74f_20a4 }
    );
    for end in ["10T=", "10", ""] {
        assert_eq!(refused(&PETER.replace("10TW", end)), VerifierKeyError::Key, "{end}");
    }
    // ECDSA by its number; ML-DSA-44.
    assert_eq!(refused("ecdsa.example+00000000+AgECAw=="), VerifierKeyError::TypeUnsupported(2));
    assert_eq!(refused("test+5893dc2c+BtMcFiao6ZOdU6LZ40tL"), VerifierKeyError::TypeUnsupported(6));
    let mut neutral = [0; 32];
    neutral[0] = 1;
    assert_eq!(VerifierKey::new(name("x"), KeyType::Ed25519, neutral), Err(VerifierKeyError::Weak));
}

/// Checkpoints of the Go checksum database, as it signed them.
#[test]
fn checkpoints_of_the_go_checksum_database_hold() {
    let keys = [key("sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8")];
    let origin: Origin = "go.sum database tree".parse().unwrap();
    for (size, text) in [
        (
            15_081_221,
            "go.sum database tree\n15081221\nBoMMe1wd25Tco0mYGROkyqxHZWx+hcSCtMV315Lu6Lg=\n\n— sum.golang.org Az3grilD7vQqTrv66jRgKM84Y80KTprrSt4bKmiOPxgmS5ZVBTeCl6dUvjYnN13R+C8j0jGY1WnUADGMkok3U0m2Zgo=\n",
        ),
        (
            63_096_908,
            "go.sum database tree\n63096908\n8lHrQPRYe4KT4WQ9/Qk8/taKnD6IRHbFgfN7vQE2Y54=\n\n— sum.golang.org Az3gri/oVBN1jAhNZ/iS+W31psFAWRT20/GyrhpU6taFwulQGetBkH5S7wpGXdS935jiIGiUUAXBVHzT/P6fYhqAmAk=\n",
        ),
    ] {
        let (checkpoint, signers) = Checkpoint::open(&note(text), &origin, &keys).unwrap();
        assert_eq!((checkpoint.tree.size, signers[0].at), (size, None));
        assert_eq!(checkpoint.text(), note(text).text());
        let other = text.replacen(&size.to_string(), &(size + 1).to_string(), 1);
        assert!(matches!(
            Checkpoint::open(&note(&other), &origin, &keys),
            Err(Unbelievable::Unverified { why: Unverified::Signature { .. }, .. })
        ));
    }
}

/// A checkpoint of a Certificate Transparency log with the cosignatures of four witnesses of four operators, all made by
/// other programs than this one, beside a signature of a type that is not known here.
const COSIGNED: &str = "arche2025h1.staging.ct.transparency.dev
1432088532
U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=

— arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=
— arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=
— transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==
— witness1.smartit.nu/witness1 pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ75W3u5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsUAQ==
— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==
— witness.stagemole.eu Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+AJmIY/2TUFucgKi7lI7cUiOvKFYe/TmN9DAg==
";
const ARCHE: &str = "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f";
const WITNESSES: [&str; 4] = [
    "transparency.dev/DEV:witness-little-garden+d8042a87+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM",
    "witness1.smartit.nu/witness1+a48c820f+BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO",
    "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
    "witness.stagemole.eu+67f7aea0+BEqSG3yu9YrmcM3BHvQYTxwFj3uSWakQepafafpUqklv",
];

#[test]
fn cosignatures_of_witnesses_in_the_world_hold() {
    let cosigned = note(COSIGNED);
    let origin: Origin = "arche2025h1.staging.ct.transparency.dev".parse().unwrap();
    let log = [key(ARCHE)];
    let (checkpoint, signers) = Checkpoint::open(&cosigned, &origin, &log).unwrap();
    assert_eq!((checkpoint.tree.size, signers.len()), (1_432_088_532, 1));
    let witnesses = WITNESSES.map(key);
    let signers = cosigned.signers(&witnesses).unwrap();
    let at: Vec<_> = signers.iter().map(|signed| signed.at.unwrap().0).collect();
    assert_eq!(at, [1_779_573_024; 4]);

    // Any other time or text is not what they signed.
    for (from, to) in [("AAAABqEiEgPlfF", "AAAABqEiEhPlfF"), ("1432088532", "1432088533")] {
        let other = note(&COSIGNED.replace(from, to));
        let wrong = other.signers(&witnesses[2..3]);
        assert!(matches!(wrong, Err(Unverified::Signature { .. })), "{wrong:?}");
    }
}

#[test]
fn a_cosignature_is_no_signature_of_a_log() {
    // The same secret under the same name: the type alone tells them apart, in the id and in what is signed.
    let secret = SigningKey::from_seed([9; 32]);
    let log = NoteSigner::new(name("x.example"), secret.clone());
    let witness = VerifierKey::new(name("x.example"), KeyType::CosignatureV1, secret.public()).unwrap();
    let text = checkpoint(Stored::of(3).tree()).text().to_owned();
    assert_ne!(log.key().id(), witness.id());
    let signature = log.sign(&text);
    let renamed = NoteSignature { id: witness.id(), ..signature.clone() };
    let timed = NoteSignature { bytes: [&[0; 8][..], &signature.bytes].concat(), ..renamed.clone() };
    for forged in [renamed, timed, NoteSignature { bytes: vec![1; 7], id: witness.id(), ..signature.clone() }] {
        let mut note = Note::unsigned(text.clone()).unwrap();
        note.add(forged);
        assert!(matches!(note.signers([&witness]), Err(Unverified::Signature { .. })));
    }
}

#[test]
fn a_cosignature_carries_its_time() {
    let mut witness = support::witness(1);
    let note = checkpoint(Stored::of(3).tree());
    let request = caii_tlog::AddCheckpoint { old_size: 0, proof: vec![], note: note.clone() };
    let line = witness.add_checkpoint(&request, support::now()).unwrap().answer();
    let signatures = caii_tlog::parse_cosignatures(line.as_bytes()).unwrap();
    // tlog-cosignature: the time, big endian, before 64 bytes of Ed25519 over head, time and text.
    assert_eq!(signatures[0].bytes[..8], 1_795_554_446u64.to_be_bytes());
    let message = format!("cosignature/v1\ntime 1795554446\n{}", note.text());
    assert_eq!(signatures[0].bytes[8..], SigningKey::from_seed([101; 32]).sign_message(message.as_bytes()));
    let mut cosigned = note;
    cosigned.add(signatures[0].clone());
    let key = cosigner(1).key().clone();
    assert_eq!(cosigned.signers([&key]).unwrap()[0].at, Some(UnixSeconds(1_795_554_446)));

    // Beyond what the specification allows.
    let mut late = signatures[0].clone();
    late.bytes[0] = 0x80;
    cosigned.add(late);
    assert!(matches!(cosigned.signers([&key]), Err(Unverified::Signature { .. })));
}

/// Good and bad texts of `checkpoint_test.go` of transparency-dev/formats, as tlog_tiles has them too.
#[test]
fn checkpoints_are_read_as_they_are_written() {
    let root = "TszzRgjTG6xce+z2AG31kAXYKBgQVtCSCE40HmuwBb0=";
    let good = format!("example.com/origin\n123\n{root}\nabc\ndef\n");
    let read = Checkpoint::parse(&good).unwrap();
    assert_eq!((read.tree.size, read.extensions.len()), (123, 2));
    assert_eq!(read.tree.root, caii_trust::merkle::leaf_of_bytes(b"hello world"));
    for text in [&good, &format!("e\n0\n{root}\n"), &format!("an origin+with all\n{}\n{root}\n", i64::MAX)] {
        assert_eq!(Checkpoint::parse(text).unwrap().text(), **text);
    }
    for (text, error) in [
        ("", CheckpointError::Lines),
        ("o\n1\n", CheckpointError::Lines),
        (good.trim_end(), CheckpointError::Lines),
        (&format!("o\n0123\n{root}\n"), CheckpointError::Size("0123".into())),
        (&format!("o\n\n{root}\n"), CheckpointError::Size(String::new())),
        (&format!("o\n+1\n{root}\n"), CheckpointError::Size("+1".into())),
        (&format!("o\n0xabcdef\n{root}\n"), CheckpointError::Size("0xabcdef".into())),
        (&format!("o\n9223372036854775808\n{root}\n"), CheckpointError::Size("9223372036854775808".into())),
        (&format!("o\n18446744073709551616\n{root}\n"), CheckpointError::Size("18446744073709551616".into())),
        (&format!("o\n1\n{}\n", &root[..43]), CheckpointError::Root(root[..43].into())),
        ("o\n1\nAAAA\n", CheckpointError::Root("AAAA".into())),
        (&format!("{good}\n"), CheckpointError::Extension),
    ] {
        assert_eq!(Checkpoint::parse(text), Err(error), "{text}");
    }
    assert!(matches!(Checkpoint::parse(&format!("\n1\n{root}\n")), Err(CheckpointError::Origin(_))));
}

/// `checkpoint_test.go` of torchwood.
#[test]
fn origins_have_a_length() {
    for (text, fits) in [
        (String::new(), false),
        ("a".repeat(255), true),
        ("a".repeat(256), false),
        (format!("{}a", "é".repeat(127)), true),
        ("é".repeat(128), false),
        ("two\nlines".into(), false),
    ] {
        assert_eq!(text.parse::<Origin>().is_ok(), fits, "{text}");
    }
}

#[test]
fn a_checkpoint_is_of_one_log() {
    let tree = Stored::of(3).tree();
    let keys = [signer().key().clone()];
    let (opened, signers) = Checkpoint::open(&checkpoint(tree), &origin(), &keys).unwrap();
    assert_eq!((opened.tree, signers[0].key), (tree, &keys[0]));
    let other: Origin = "pool.example/other".parse().unwrap();
    assert_eq!(
        Checkpoint::open(&checkpoint(tree), &other, &keys),
        Err(Unbelievable::OtherLog { expected: other.clone(), found: origin() })
    );
    let stranger = NoteSigner::new(name("pool.example/receipts"), SigningKey::from_seed([66; 32]));
    let forged = Checkpoint::new(origin(), tree).sign(&[&stranger]).unwrap();
    assert!(matches!(
        Checkpoint::open(&forged, &origin(), &keys),
        Err(Unbelievable::Unverified { why: Unverified::Unsigned { known: 1 }, .. })
    ));
}

#[test]
fn several_keys_of_a_log_sign_one_checkpoint() {
    let new = NoteSigner::new(name(support::ORIGIN), SigningKey::from_seed([2; 32]));
    let note = Checkpoint::new(origin(), Stored::of(3).tree()).sign(&[&signer(), &new]).unwrap();
    for keys in [vec![signer().key().clone()], vec![new.key().clone()], vec![signer().key().clone(), new.key().clone()]]
    {
        let (_, signers) = Checkpoint::open(&note, &origin(), &keys).unwrap();
        assert_eq!(signers.len(), keys.len());
    }
}

#[test]
fn an_extension_line_that_would_end_the_text_is_not_signed() {
    for extension in ["", "a\n\n— x", "tab\t"] {
        let checkpoint = Checkpoint { extensions: vec![extension.into()], ..Checkpoint::new(origin(), Tree::empty()) };
        assert!(checkpoint.sign(&[&signer()]).is_err(), "{extension:?}");
    }
    let fine = Checkpoint { extensions: vec!["note".into()], ..Checkpoint::new(origin(), Tree::empty()) };
    assert_eq!(Checkpoint::parse(fine.sign(&[&signer()]).unwrap().text()), Ok(fine));
}

proptest! {
    #[test]
    fn no_bit_of_a_signed_checkpoint_can_be_changed(size in 0u64..9_999, place: prop::sample::Index, bit in 0..8u8) {
        let note = checkpoint(Tree { size, root: Digest::of(b"root") }).to_string();
        let mut bytes = note.clone().into_bytes();
        let place = place.index(bytes.len());
        bytes[place] ^= 1 << bit;
        let keys = [signer().key().clone()];
        let opened = Note::parse(&bytes).map(|note| Checkpoint::open(&note, &origin(), &keys).is_ok());
        prop_assert!(!opened.unwrap_or(false), "{}", place);
    }
}
