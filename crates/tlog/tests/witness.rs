//! The witness: what it cosigns, what it refuses and how, and that no log gets two trees of one size past it.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod support;

use caii_model::Digest;
use caii_tlog::{
    AddCheckpoint, Checkpoint, Cosigner, KeyType, Log, Note, NoteError, NoteSigner, RequestError, RestoreError,
    SplitView, Tree, VerifierKey, Witness, WitnessRefusal, parse_cosignatures, parse_known_size, prove_consistency,
};
use caii_trust::SigningKey;
use proptest::prelude::*;
use std::collections::BTreeMap;
use support::{Stored, checkpoint, cosigner, entries, entry, name, now, origin, signer, unhex, witness};

fn request(old: &Stored, new: &Stored) -> AddCheckpoint {
    let proof = prove_consistency(&old.tree(), &new.tree(), &new.files).unwrap();
    AddCheckpoint { old_size: old.tree().size, proof, note: checkpoint(new.tree()) }
}

/// A log of the numbers before `common` and of others after it.
fn fork(common: u64, size: u64) -> Stored {
    let mut all = entries(0, common);
    all.extend((common..size).map(|index| entry(index + 1_000_000)));
    let mut stored = Stored::default();
    stored.append(&all);
    stored
}

#[test]
fn a_growing_log_is_cosigned() {
    let mut witness = witness(1);
    let mut old = Stored::of(0);
    for size in [0, 1, 5, 5, 300, 70_000] {
        let new = Stored::of(size);
        let request = request(&old, &new);
        let cosigned = witness.answer(request.to_string().as_bytes(), now()).unwrap();
        assert_eq!((&cosigned.origin, cosigned.tree), (&origin(), new.tree()));
        // The client puts the answer behind its checkpoint.
        let together = format!("{}{}", request.note, cosigned.clone().answer());
        let signers = Note::parse(together.as_bytes()).unwrap();
        assert_eq!(signers.signers([witness.key()]).unwrap()[0].at.unwrap().0, now().unix_seconds());
        assert_eq!(cosigned.state(), together);
        old = new;
    }
}

#[test]
fn each_refusal_has_its_status() {
    let (five, nine) = (Stored::of(5), Stored::of(9));
    let mut witness = witness(1);
    assert!(witness.add_checkpoint(&request(&Stored::of(0), &five), now()).is_ok());
    let before = format!("{witness:?}");
    let good = request(&five, &nine);
    let mut refused = |request: &AddCheckpoint| {
        let refusal = witness.answer(request.to_string().as_bytes(), now()).unwrap_err();
        assert_eq!(format!("{witness:?}"), before, "a refusal changes nothing");
        let (kind, body) = refusal.body();
        (refusal.status(), kind, body, refusal)
    };

    let text = "text/plain; charset=utf-8";
    let unknown: caii_tlog::Origin = "elsewhere.example".parse().unwrap();
    let note = Checkpoint::new(unknown.clone(), nine.tree()).sign(&[&signer()]).unwrap();
    let answer = refused(&AddCheckpoint { note, ..good.clone() });
    assert_eq!((answer.0, answer.1, &answer.3), (404, text, &WitnessRefusal::LogUnknown(unknown)));

    let stranger = NoteSigner::new(name(support::ORIGIN), SigningKey::from_seed([66; 32]));
    let note = Checkpoint::new(origin(), nine.tree()).sign(&[&stranger]).unwrap();
    assert_eq!(refused(&AddCheckpoint { note, ..good.clone() }).0, 403);
    let spoilt = good.note.to_string().replacen("\n9\n", "\n8\n", 1);
    let note = Note::parse(spoilt.as_bytes()).unwrap();
    assert_eq!(refused(&AddCheckpoint { note, ..good.clone() }).0, 403);

    let answer = refused(&AddCheckpoint { old_size: 10, ..good.clone() });
    assert_eq!((answer.0, &answer.3), (400, &WitnessRefusal::OldBeyondNew { old: 10, new: 9 }));

    for old_size in [0, 4, 6, 9] {
        let answer = refused(&AddCheckpoint { old_size, ..good.clone() });
        assert_eq!((answer.0, answer.1, answer.2.as_str()), (409, "text/x.tlog.size", "5\n"));
        assert_eq!(parse_known_size(answer.2.as_bytes()), Some(5));
    }

    for proof in [vec![], good.proof[1..].to_vec(), [&good.proof[..], &[Digest([1; 32])]].concat()] {
        assert_eq!(refused(&AddCheckpoint { proof, ..good.clone() }).0, 422);
    }
    let answer = refused(&AddCheckpoint { note: checkpoint(fork(4, 9).tree()), ..good.clone() });
    assert_eq!((answer.0, answer.1), (422, text));

    // An older tree, however well it was signed: the old size that would let it pass is not the one that is known.
    assert_eq!(refused(&request(&Stored::of(0), &five)).0, 409);
    assert_eq!(refused(&request(&Stored::of(3), &Stored::of(4))).0, 409);

    let other = fork(2, 5);
    let split = AddCheckpoint { old_size: 5, proof: vec![], note: checkpoint(other.tree()) };
    let answer = refused(&split);
    assert_eq!((answer.0, answer.1), (409, text));
    let WitnessRefusal::SplitView { view, known, new } = answer.3 else { panic!("{:?}", answer.3) };
    assert_eq!((view.one, view.other), (five.tree(), other.tree()));
    // The evidence convinces whoever knows the log's key.
    let keys = [signer().key().clone()];
    let open = |note: &Note| Checkpoint::open(note, &origin(), &keys).unwrap().0;
    assert_eq!(SplitView::between(&open(&known), &open(&new)), Some(*view));

    for body in ["", "old 5\n", "old 5\n\n", "old 05\n\nx\n1\n", "new 5\n\n"] {
        assert_eq!(witness.answer(body.as_bytes(), now()).unwrap_err().status(), 400, "{body}");
    }
    let mut no_checkpoint = Note::unsigned("one line\n".into()).unwrap();
    no_checkpoint.add(signer().sign("one line\n"));
    let request = AddCheckpoint { note: no_checkpoint, ..good.clone() };
    assert_eq!(witness.add_checkpoint(&request, now()).unwrap_err().status(), 400);
    assert!(witness.add_checkpoint(&good, now()).is_ok(), "and the good one is still good");
}

/// The table of `TestZeroSize` in torchwood's `internal/witness/witness_test.go`.
#[test]
fn empty_trees_are_judged_as_by_another_witness() {
    let (empty, leaf) = (Tree::empty().root, Stored::of(1).tree().root);
    let zero = Digest([0; 32]);
    for (known, old_size, size, root, proof, status) in [
        (0, 0, 0, empty, vec![], 200),
        (0, 0, 0, leaf, vec![], 422),
        (0, 0, 0, zero, vec![], 422),
        (0, 0, 0, empty, vec![leaf], 422),
        (0, 0, 1, leaf, vec![], 200),
        (0, 0, 1, leaf, vec![leaf], 422),
        (1, 0, 1, leaf, vec![leaf], 409),
        (1, 1, 0, empty, vec![], 400),
    ] {
        let mut witness = witness(1);
        if known == 1 {
            assert!(witness.add_checkpoint(&request(&Stored::of(0), &Stored::of(1)), now()).is_ok());
        }
        let mut old_size = old_size;
        for _ in 0..2 {
            let request = AddCheckpoint { old_size, proof: proof.clone(), note: checkpoint(Tree { size, root }) };
            let answer = witness.add_checkpoint(&request, now()).map_or_else(|refusal| refusal.status(), |_| 200);
            assert_eq!(answer, status, "{known} {old_size} {size}");
            old_size = if status == 200 { size } else { old_size };
        }
    }
}

/// Requests of `TestRace` in torchwood's `internal/witness/witness_test.go`, signed by a Sigsum log: trees of 1, 3 and 5
/// entries.
const SIGSUM: &str = "sigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562";
const SIGSUM_KEY: &str = "ffdc2d4d98e4124d3feaf788c0c2f9abfd796083d1f0495437f302ec79cf100f";
const TO_1: &str = "old 0

ORIGIN
1
KgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=

— ORIGIN UgIom7fPZTqpxWWhyjWduBvTvGVqsokMbqTArsQilegKoFBJQjUFAmQ0+YeSPM3wfUQMFSzVnnNuWRTYrajXpNUbIQY=
";
const TO_3: &str = "old 1
KgEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
KgIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=

ORIGIN
3
RcCI1Nk56ZcSmIEfIn0SleqtV7uvrlXNccFx595Iwl0=

— ORIGIN UgIom2VbtIcdFbwFAy1n7s6IkAxIY6J/GQOTuZF2ORV39d75cbAj2aQYwyJre36kezNobZs4SUUdrcawfAB8WVrx6go=
";
const TO_5: &str = "old 1
KgEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
+fUDV+k970B4I3uKrqJM4aP1lloPZP8mvr2Z4wRw2LI=
KgQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=

ORIGIN
5
QrtXrQZCCvpIgsSmOsah7HdICzMLLyDfxToMql9WTjY=

— ORIGIN UgIomw/EOJmWi0i1FQsOj+etB7F8IccFam/jgd6wzRns4QPVmyEZtdvl1U2KEmLOZ/ASRcWJi0tW90dJWAShei7sDww=
";

fn sigsum(text: &str) -> Vec<u8> {
    text.replace("ORIGIN", SIGSUM).into_bytes()
}

fn sigsum_witness() -> Witness {
    let public = unhex(SIGSUM_KEY).try_into().unwrap();
    let key = VerifierKey::new(name(SIGSUM), KeyType::Ed25519, public).unwrap();
    let mut witness = Witness::new(cosigner(1));
    witness.know(SIGSUM.parse().unwrap(), vec![key], None).unwrap();
    witness
}

#[test]
fn requests_of_another_log_are_cosigned_and_of_two_that_race_one() {
    for (first, second, size) in [(TO_5, TO_3, 5), (TO_3, TO_5, 3)] {
        let mut witness = sigsum_witness();
        assert_eq!(witness.answer(&sigsum(TO_1), now()).unwrap().tree.size, 1);
        assert_eq!(witness.answer(&sigsum(first), now()).unwrap().tree.size, size);
        let refusal = witness.answer(&sigsum(second), now()).unwrap_err();
        assert_eq!(refusal, WitnessRefusal::OtherOldSize { old: 1, known: size });
        assert_eq!(witness.logs().next().unwrap().1.tree().size, size);
    }
}

#[test]
fn a_request_with_too_long_a_proof_is_malformed() {
    let line = "KgEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
    let good = String::from_utf8(sigsum(TO_1)).unwrap();
    let body = |count| good.replacen("old 0\n", &format!("old 0\n{}", line.repeat(count)), 1);
    let mut witness = sigsum_witness();
    assert_eq!(witness.answer(body(63).as_bytes(), now()).unwrap_err().status(), 422);
    assert_eq!(
        witness.answer(body(64).as_bytes(), now()).unwrap_err(),
        WitnessRefusal::Malformed(RequestError::ProofTooLong)
    );
}

#[test]
fn requests_are_read_as_they_are_written() {
    for text in [TO_1, TO_3, TO_5] {
        let bytes = sigsum(text);
        let read = AddCheckpoint::parse(&bytes).unwrap();
        assert_eq!(read.to_string().as_bytes(), bytes);
    }
    let parse = |text: &str| AddCheckpoint::parse(text.as_bytes());
    let good = String::from_utf8(sigsum(TO_3)).unwrap();
    for (from, to, error) in [
        ("old 1\n", "old 01\n", RequestError::Old),
        ("old 1\n", "old  1\n", RequestError::Old),
        ("old 1\n", "old\n", RequestError::Old),
        ("old 1\n", "old 1 \n", RequestError::Old),
        ("old 1\n", "OLD 1\n", RequestError::Old),
        ("old 1\n", "", RequestError::Old),
        ("KgEA", "KgE", RequestError::Hash(good[6..49].replacen("KgEA", "KgE", 1))),
        (
            "AAA=\n\n",
            "AAA=\n",
            RequestError::Hash(
                "sigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e".into(),
            ),
        ),
        ("\n\n—", "\n—", RequestError::Note(NoteError::NoSignatures)),
    ] {
        let found = parse(&good.replacen(from, to, 1));
        match error {
            RequestError::Hash(_) => assert!(matches!(found, Err(RequestError::Hash(_))), "{to}: {found:?}"),
            error => assert_eq!(found, Err(error), "{to}"),
        }
    }
    assert_eq!(parse("old 1\nx"), Err(RequestError::NoCheckpoint));
    let large = vec![b'x'; caii_tlog::REQUEST_SIZE_MAX + 1];
    assert_eq!(AddCheckpoint::parse(&large), Err(RequestError::TooLarge { found: large.len() }));
}

#[test]
fn answers_are_read_strictly() {
    for (body, size) in
        [("0\n", Some(0)), ("50\n", Some(50)), ("50", None), ("", None), ("050\n", None), ("5\n\n", None)]
    {
        assert_eq!(parse_known_size(body.as_bytes()), size, "{body}");
    }
    // The cosignature of tlog-cosignature, and its time as sigsum-go reads it.
    let line = "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";
    let read = parse_cosignatures(line.as_bytes()).unwrap();
    assert_eq!((read.len(), &read[0].bytes[..8]), (1, &0x6418_50cb_u64.to_be_bytes()[..]));
    for bad in ["", "\n", line.trim_end(), &format!("{line}\n"), &format!("x{line}")] {
        assert!(parse_cosignatures(bad.as_bytes()).is_err(), "{bad}");
    }
    assert!(parse_cosignatures(b"\xff\n").is_err());
}

#[test]
fn a_witness_takes_up_what_it_stored() {
    let keys = vec![signer().key().clone()];
    let (five, nine) = (Stored::of(5), Stored::of(9));
    let mut first = witness(1);
    let state = first.add_checkpoint(&request(&Stored::of(0), &five), now()).unwrap().state();

    let mut second = Witness::new(cosigner(1));
    second.know(origin(), keys.clone(), Some(state.as_bytes())).unwrap();
    let (known, log) = second.logs().next().unwrap();
    assert_eq!((known, log.tree()), (&origin(), five.tree()));
    let split = AddCheckpoint { old_size: 5, proof: vec![], note: checkpoint(fork(2, 5).tree()) };
    assert!(matches!(second.add_checkpoint(&split, now()), Err(WitnessRefusal::SplitView { .. })));
    assert!(second.add_checkpoint(&request(&five, &nine), now()).is_ok());

    // What was damaged is not mistaken for a log that was never seen.
    let mut third = Witness::new(cosigner(1));
    for (bad, form) in [("", true), (&state[..40], true), (&state.replacen("\n5\n", "\n4\n", 1), false)] {
        let error = third.know(origin(), keys.clone(), Some(bad.as_bytes())).unwrap_err();
        assert_eq!(matches!(error, RestoreError::Note { .. }), form, "{error}");
    }
    let elsewhere = "elsewhere.example".parse().unwrap();
    assert!(matches!(third.know(elsewhere, keys, Some(state.as_bytes())), Err(RestoreError::Checkpoint(_))));
    assert_eq!(third.logs().count(), 0);
}

#[test]
fn strangers_signatures_are_not_kept() {
    let mut witness = witness(1);
    let mut request = request(&Stored::of(0), &Stored::of(5));
    let stranger = Cosigner::new(name("stranger.example"), SigningKey::from_seed([66; 32]));
    let mut other = Witness::new(stranger);
    other.know(origin(), vec![signer().key().clone()], None).unwrap();
    let line = other.add_checkpoint(&request, now()).unwrap().answer();
    request.note.add(parse_cosignatures(line.as_bytes()).unwrap().remove(0));
    let state = witness.add_checkpoint(&request, now()).unwrap().state();
    assert!(!state.contains("stranger") && state.contains("witness.example/w1"), "{state}");
}

/// Two parts of the world are shown two trees. No witness takes part in both, and comparing checkpoints shows it.
#[test]
fn a_split_view_needs_witnesses_on_each_side() {
    let (one, other) = (fork(5, 20), fork(6, 20));
    let base = Stored::of(5);
    let mut witnesses: Vec<Witness> = (1..=3).map(witness).collect();
    for witness in &mut witnesses {
        assert!(witness.add_checkpoint(&request(&Stored::of(0), &base), now()).is_ok());
    }
    let shown = |witness: &mut Witness, view: &Stored| witness.add_checkpoint(&request(&base, view), now()).is_ok();
    assert_eq!([0, 1].map(|at| shown(&mut witnesses[at], &one)), [true; 2]);
    assert_eq!([0, 1, 2].map(|at| shown(&mut witnesses[at], &other)), [false, false, true]);
    // Nor does a later tree bring the two sides together again.
    let later = {
        let mut later = other.clone();
        later.append(&[entry(0)]);
        later
    };
    let forged = AddCheckpoint { old_size: 20, ..request(&other, &later) };
    let refusal = witnesses[0].add_checkpoint(&forged, now()).unwrap_err();
    assert!(matches!(refusal, WitnessRefusal::Inconsistent { .. }), "{refusal:?}");

    let checkpoint = |view: &Stored| Checkpoint::new(origin(), view.tree());
    let view = SplitView::between(&checkpoint(&one), &checkpoint(&other)).unwrap();
    assert_eq!(view.size, 20);
    assert_eq!(SplitView::between(&checkpoint(&one), &checkpoint(&one)), None);
    assert_eq!(SplitView::between(&checkpoint(&one), &checkpoint(&base)), None);
    let elsewhere = Checkpoint::new("elsewhere.example".parse().unwrap(), other.tree());
    assert_eq!(SplitView::between(&checkpoint(&one), &elsewhere), None);
}

/// What a log that cheats may try: any tree of any of three histories, from any old size, with the proof of any history,
/// or what is left of it; and the witness may be started again at any time.
#[derive(Debug, Clone)]
struct Attempt {
    old: u64,
    size: u64,
    history: u64,
    proof_history: u64,
    cut: usize,
    restart: bool,
}

fn attempts() -> impl Strategy<Value = Vec<Attempt>> {
    let attempt = (0u64..14, 0u64..14, 0u64..3, 0u64..3, 0usize..6, any::<bool>()).prop_map(
        |(old, size, history, proof_history, cut, restart)| Attempt { old, size, history, proof_history, cut, restart },
    );
    prop::collection::vec(attempt, 1..60)
}

/// Makes the attempts, and says what was signed that must not be. A witness that forgets is started again as if it had
/// stored nothing: the broken one that shows that this finds what it looks for.
fn wrongly_signed(attempts: &[Attempt], forgets: bool) -> Option<String> {
    let histories = |history: u64, size: u64| fork([14, 3, 7][history as usize].min(size), size);
    let keys = vec![signer().key().clone()];
    let mut witness = witness(1);
    let mut stored: Option<String> = None;
    let mut signed: BTreeMap<u64, Digest> = BTreeMap::new();
    let mut last = Tree::empty();
    for Attempt { old, size, history, proof_history, cut, restart } in attempts.iter().cloned() {
        if restart {
            witness = Witness::new(cosigner(1));
            let stored = stored.as_ref().filter(|_| !forgets);
            witness.know(origin(), keys.clone(), stored.map(String::as_bytes)).unwrap();
        }
        let new = histories(history, size);
        let from = histories(proof_history, old.min(size));
        let target = histories(proof_history, size);
        let mut proof = prove_consistency(&from.tree(), &target.tree(), &target.files).unwrap();
        proof.truncate(proof.len().saturating_sub(cut.saturating_sub(3)));
        let request = AddCheckpoint { old_size: old, proof, note: checkpoint(new.tree()) };
        let Ok(cosigned) = witness.answer(request.to_string().as_bytes(), now()) else { continue };
        let tree = cosigned.tree;
        stored = Some(cosigned.state());
        if tree != new.tree() {
            return Some(format!("{tree:?} was signed instead of {:?}", new.tree()));
        }
        if tree.size < last.size {
            return Some(format!("{tree:?} was signed after {last:?}"));
        }
        let first = *signed.entry(tree.size).or_insert(tree.root);
        if first != tree.root {
            return Some(format!("{tree:?} was signed after the root {first}"));
        }
        // All that was ever signed is one history.
        if let Err(error) = prove_consistency(&last, &tree, &new.files) {
            return Some(format!("{tree:?} does not continue {last:?}: {error}"));
        }
        last = tree;
    }
    None
}

proptest! {
    #[test]
    fn a_witness_never_signs_two_roots_of_one_size_nor_a_shrinking_tree(attempts in attempts()) {
        prop_assert_eq!(wrongly_signed(&attempts, false), None);
    }
}

#[test]
fn a_witness_that_forgets_is_caught_at_each_lie() {
    let attempt = |size, history, restart| Attempt { old: 0, size, history, proof_history: history, cut: 0, restart };
    for (second, found) in [
        (attempt(9, 1, true), "was signed after the root"),
        (attempt(8, 0, true), "was signed after Tree"),
        (attempt(10, 1, true), "does not continue"),
    ] {
        let attempts = [attempt(9, 0, false), second];
        let wrong = wrongly_signed(&attempts, true).unwrap();
        assert!(wrong.contains(found), "{wrong}");
        assert_eq!(wrongly_signed(&attempts, false), None);
    }
}

#[test]
fn an_honest_log_is_never_refused() {
    // The log of the property above without its lies, so that the property is not true of a witness that signs nothing.
    let mut witness = witness(1);
    let mut log = Log::default();
    let mut stored = Stored::default();
    for step in 0..40 {
        let before = stored.clone();
        stored.append(&entries(log.tree().size, log.tree().size + step));
        log = stored.log.clone();
        assert!(witness.add_checkpoint(&request(&before, &stored), now()).is_ok(), "{step}");
    }
}
