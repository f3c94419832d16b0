//! Proofs from tiles, against another implementation and the vectors of Certificate Transparency.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod support;

use caii_model::Digest;
use caii_tlog::{
    MemoryTiles, ProofError, Tile, TileKind, TileReader, Tree, earlier_tree, prove_consistency, prove_inclusion,
    verify_consistency, verify_inclusion,
};
use caii_trust::merkle;
use ct_merkle::ConsistencyProof;
use ct_merkle::InclusionProof;
use ct_merkle::RootHash;
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;
use sha2::Sha256;
use std::cell::Cell;
use support::{Stored, entries, entry, unhex};

type Oracle = MemoryBackedTree<Sha256, [u8; 32]>;

fn oracle(size: u64) -> Oracle {
    let mut tree = Oracle::new();
    entries(0, size).iter().for_each(|entry| tree.push(entry.0));
    tree
}

fn bytes(proof: &[Digest]) -> Vec<u8> {
    proof.iter().flat_map(|hash| hash.0).collect()
}

fn digests(bytes: &[u8]) -> Vec<Digest> {
    bytes.as_chunks().0.iter().copied().map(Digest).collect()
}

/// The inputs, roots and proofs of `testonly/reference_test.go` of transparency-dev/merkle, which ct-merkle has too.
const INPUTS: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
const A: &str = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7";
const B: &str = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e";
const C: &str = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4";
const D: &str = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b";
const E: &str = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0";
const F: &str = "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7";
const G: &str = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a";

/// A log of hashes whose entries are not known: one tile.
fn reference(size: u64) -> (Tree, MemoryTiles) {
    let hashes: Vec<Digest> = INPUTS.iter().map(|input| merkle::leaf_of_bytes(&unhex(input))).collect();
    let hashes = &hashes[..size as usize];
    let tile = Tile::at(TileKind::Hashes(0), 0, size).unwrap();
    (Tree { size, root: merkle::root(hashes) }, MemoryTiles([(tile, bytes(hashes))].into()))
}

#[test]
fn inclusion_proofs_are_those_of_certificate_transparency() {
    let leaf_0 = merkle::leaf_of_bytes(b"").hex();
    let node_01 = "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125";
    for (size, index, expected) in [
        (1, 0, vec![]),
        (2, 0, vec![A]),
        (2, 1, vec![leaf_0.as_str()]),
        (3, 2, vec![node_01]),
        (5, 1, vec![&leaf_0, B, D]),
        (8, 0, vec![A, B, C]),
        (8, 5, vec![D, E, F]),
    ] {
        let (tree, files) = reference(size);
        let proof = prove_inclusion(&tree, index, &files).unwrap();
        assert_eq!(proof.iter().map(Digest::hex).collect::<Vec<_>>(), expected, "{index} of {size}");
    }
}

#[test]
fn consistency_proofs_are_those_of_certificate_transparency() {
    for (old, new, expected) in [(1, 1, vec![]), (1, 8, vec![A, B, C]), (2, 5, vec![B, D]), (6, 8, vec![G, E, F])] {
        let (old, (new, files)) = (reference(old).0, reference(new));
        let proof = prove_consistency(&old, &new, &files).unwrap();
        assert_eq!(proof.iter().map(Digest::hex).collect::<Vec<_>>(), expected, "{old:?} to {new:?}");
        assert!(verify_consistency(&old, &new, &proof));
    }
}

/// Every pair of sizes up to 130, and every entry of them, gives the bytes of the other implementation.
#[test]
fn small_trees_agree_with_another_implementation_throughout() {
    let trees: Vec<Tree> = (0..=130).map(|size| Stored::of(size).tree()).collect();
    for size in 1..=130 {
        let (oracle, stored) = (oracle(size), Stored::of(size));
        for index in 0..size {
            let proof = prove_inclusion(&stored.tree(), index, &stored.files).unwrap();
            assert_eq!(bytes(&proof), oracle.prove_inclusion(index as usize).as_bytes(), "{index} of {size}");
        }
        for old in 1..=size {
            let proof = prove_consistency(&trees[old as usize], &stored.tree(), &stored.files).unwrap();
            let expected = oracle.prove_consistency((size - old) as usize);
            assert_eq!(bytes(&proof), expected.as_bytes(), "{old} to {size}");
        }
        for old in 0..=size {
            assert_eq!(earlier_tree(old, size, &stored.files), Ok(trees[old as usize]), "{old} of {size}");
        }
        let more = earlier_tree(size + 1, size, &stored.files);
        assert_eq!(more, Err(ProofError::Sizes { old: size + 1, new: size }));
    }
}

#[test]
fn large_trees_agree_with_another_implementation() {
    let size = 66_000;
    let (oracle, stored) = (oracle(size), Stored::of(size));
    let root = RootHash::<Sha256>::new(stored.tree().root.0.into(), size);
    for index in [0, 1, 255, 256, 257, 4_095, 65_535, 65_536, 65_791, 65_792, size - 1] {
        let proof = prove_inclusion(&stored.tree(), index, &stored.files).unwrap();
        assert_eq!(bytes(&proof), oracle.prove_inclusion(index as usize).as_bytes());
        let theirs = InclusionProof::<Sha256>::from_bytes(bytes(&proof));
        assert!(root.verify_inclusion(&entry(index).0, index, &theirs).is_ok());
    }
    for old in [1, 2, 3, 255, 256, 257, 32_768, 65_535, 65_536, 65_537, 65_792, 65_999, size] {
        let old = Stored::of(old).tree();
        assert_eq!(earlier_tree(old.size, size, &stored.files), Ok(old));
        let proof = prove_consistency(&old, &stored.tree(), &stored.files).unwrap();
        assert_eq!(bytes(&proof), oracle.prove_consistency((size - old.size) as usize).as_bytes());
        let theirs = ConsistencyProof::<Sha256>::try_from_bytes(bytes(&proof)).unwrap();
        let theirs_old = RootHash::<Sha256>::new(old.root.0.into(), old.size);
        assert!(root.verify_consistency(&theirs_old, &theirs).is_ok());
    }
}

#[test]
fn a_proof_reads_few_files() {
    struct Counted<'a>(&'a MemoryTiles, Cell<usize>);
    impl TileReader for Counted<'_> {
        type Error = caii_tlog::TileMissing;
        fn tile(&self, tile: &Tile) -> Result<Vec<u8>, Self::Error> {
            self.1.set(self.1.get() + 1);
            self.0.tile(tile)
        }
    }
    let stored = Stored::of(70_000);
    let old = Stored::of(66_666).tree();
    let counted = Counted(&stored.files, Cell::new(0));
    prove_inclusion(&stored.tree(), 12_345, &counted).unwrap();
    let inclusion = counted.1.replace(0);
    prove_consistency(&old, &stored.tree(), &counted).unwrap();
    assert!(inclusion <= 6 && counted.1.get() <= 6, "{inclusion}, {}", counted.1.get());
}

#[test]
fn there_is_no_proof_of_what_is_not_so() {
    let stored = Stored::of(10);
    let (tree, files) = (stored.tree(), &stored.files);
    assert_eq!(prove_inclusion(&tree, 10, files), Err(ProofError::NoEntry { index: 10, size: 10 }));
    assert_eq!(prove_inclusion(&Tree::empty(), 0, files), Err(ProofError::NoEntry { index: 0, size: 0 }));
    let larger = Stored::of(11).tree();
    assert_eq!(prove_consistency(&larger, &tree, files), Err(ProofError::Sizes { old: 11, new: 10 }));
    let other = Tree { root: Digest([1; 32]), ..tree };
    assert_eq!(prove_inclusion(&other, 3, files), Err(ProofError::OtherTree));
    assert_eq!(prove_consistency(&Stored::of(5).tree(), &other, files), Err(ProofError::OtherTree));
    assert_eq!(prove_consistency(&Tree { size: 5, ..tree }, &tree, files), Err(ProofError::OtherTree));
    assert_eq!(prove_consistency(&Tree { size: 0, ..tree }, &tree, files), Err(ProofError::OtherTree));
}

#[test]
fn from_the_empty_tree_only_an_empty_proof_leads_anywhere() {
    let tree = Stored::of(3).tree();
    let empty = Tree::empty();
    let wrong = Tree { size: 0, root: tree.root };
    assert_eq!(prove_consistency(&empty, &tree, &MemoryTiles::default()), Ok(vec![]));
    assert!(verify_consistency(&empty, &tree, &[]));
    assert!(verify_consistency(&empty, &empty, &[]));
    assert!(!verify_consistency(&empty, &tree, &[tree.root]));
    assert!(!verify_consistency(&empty, &wrong, &[]));
    assert!(!verify_consistency(&wrong, &tree, &[]));
    assert!(!verify_consistency(&wrong, &wrong, &[]));
    assert!(!verify_consistency(&tree, &empty, &[]));
}

/// Any tree, however large: an attacker chooses sizes and proofs.
fn any_tree() -> impl Strategy<Value = Tree> {
    let size = prop_oneof![0u64..10, any::<u64>(), Just(u64::MAX), (0u32..64).prop_map(|bits| 1 << bits)];
    (size, any::<[u8; 32]>()).prop_map(|(size, root)| Tree { size, root: Digest(root) })
}

fn any_proof() -> impl Strategy<Value = Vec<Digest>> {
    prop::collection::vec(any::<[u8; 32]>().prop_map(Digest), 0..70)
}

proptest! {
    #[test]
    fn an_inclusion_proof_holds_in_its_place_alone(size in 1u64..600, at: prop::sample::Index, spoil: prop::sample::Index, bit in 0..256usize) {
        let stored = Stored::of(size);
        let (tree, index) = (stored.tree(), at.index(size as usize) as u64);
        let proof = prove_inclusion(&tree, index, &stored.files).unwrap();
        for place in 0..size + 2 {
            prop_assert_eq!(verify_inclusion(&tree, place, &entry(index), &proof), place == index, "place {}", place);
        }
        prop_assert!(!verify_inclusion(&tree, index, &entry(size), &proof));
        if !proof.is_empty() {
            prop_assert!(!verify_inclusion(&tree, index, &entry(index), &proof[1..]));
            let mut spoilt = proof.clone();
            spoilt[spoil.index(proof.len())].0[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!verify_inclusion(&tree, index, &entry(index), &spoilt));
        }
    }

    #[test]
    fn a_consistency_proof_holds_between_its_trees_alone(old in 1u64..500, more in 0u64..300, spoil: prop::sample::Index, bit in 0..256usize) {
        let stored = Stored::of(old + more);
        let (old, new) = (Stored::of(old).tree(), stored.tree());
        let proof = prove_consistency(&old, &new, &stored.files).unwrap();
        prop_assert!(verify_consistency(&old, &new, &proof));
        let mut other = old;
        other.root.0[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!verify_consistency(&other, &new, &proof));
        let mut other = new;
        other.root.0[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!verify_consistency(&old, &other, &proof));
        prop_assert!(!verify_consistency(&old, &new, &[&proof[..], &[new.root]].concat()));
        if !proof.is_empty() {
            prop_assert!(!verify_consistency(&old, &new, &proof[1..]));
            prop_assert!(!verify_consistency(&old, &new, &proof[..proof.len() - 1]));
            let mut spoilt = proof.clone();
            spoilt[spoil.index(proof.len())].0[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!verify_consistency(&old, &new, &spoilt));
        }
    }

    /// A log that went back and put in another entry finds no proof.
    #[test]
    fn a_rewritten_log_proves_nothing(old in 1u64..300, more in 0u64..300, at: prop::sample::Index) {
        let mut all = entries(0, old + more);
        all[at.index(old as usize)] = entry(u64::MAX);
        let mut rewritten = Stored::default();
        rewritten.append(&all);
        let proof = prove_consistency(&Stored::of(old).tree(), &rewritten.tree(), &rewritten.files);
        prop_assert_eq!(proof, Err(ProofError::OtherTree));
    }

    /// What anybody sends is judged as the other implementation judges it. That one takes trees of size 0 for no trees.
    #[test]
    fn verdicts_are_those_of_another_implementation(old in any_tree(), new in any_tree(), proof in any_proof()) {
        let of = |tree: &Tree| RootHash::<Sha256>::new(tree.root.0.into(), tree.size);
        let ours = verify_consistency(&old, &new, &proof);
        if old.size > 0 && new.size <= u64::MAX / 2 {
            let theirs = ConsistencyProof::try_from_bytes(bytes(&proof)).unwrap();
            prop_assert_eq!(ours, of(&new).verify_consistency(&of(&old), &theirs).is_ok());
        } else {
            prop_assert!(!ours);
        }
        prop_assert!(!verify_inclusion(&new, old.size, &old.root, &proof));
        prop_assert_eq!(digests(&bytes(&proof)), proof);
    }
}
