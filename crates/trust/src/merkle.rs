//! A device's commitment to what came of each item of a task: a Merkle tree (RFC 6962, section 2.1).
//!
//! The device signs the root before it can know which items will be audited; an item's leaf and its inclusion proof
//! later open that item and no other.

use caii_model::{Digest, ItemError, ItemOutcome, TrapKind};
use sha2::{Digest as _, Sha256};

/// The leaf of one item: its index in the task, the digest of the bytes that it read, and its outcome.
///
/// Standard error is not part of it although it is deterministic too: it is for the requester alone, it is nothing that
/// a result is compared or paid by, and it often quotes the input, so that its digest in an opened leaf would let
/// auditors test guesses about data that they were never given. What a device sends as stderr is thus unverified.
pub fn leaf(index: u32, input: &Digest, outcome: &ItemOutcome) -> Digest {
    // Fixed width, so no two items share bytes: version 1, index, input, tag and detail, output, fuel.
    let (tag, detail, output) = match &outcome.result {
        Ok(output) => (0, 0, Digest::of(output)),
        Err(error) => {
            let (tag, detail) = error_code(*error);
            (tag, detail, Digest([0; 32]))
        }
    };
    let mut bytes = [0; 82];
    bytes[0] = 1;
    bytes[1..5].copy_from_slice(&index.to_le_bytes());
    bytes[5..37].copy_from_slice(&input.0);
    bytes[37] = tag;
    bytes[38..42].copy_from_slice(&detail.to_le_bytes());
    bytes[42..74].copy_from_slice(&output.0);
    bytes[74..82].copy_from_slice(&outcome.fuel.0.to_le_bytes());
    leaf_of_bytes(&bytes)
}

/// Numbers that stay as they are for ever: commitments outlive releases.
fn error_code(error: ItemError) -> (u8, u32) {
    match error {
        ItemError::Exit(code) => (1, code.cast_unsigned()),
        ItemError::Trap(kind) => (
            2,
            match kind {
                TrapKind::Other => 0,
                TrapKind::Unreachable => 1,
                TrapKind::OutOfBounds => 2,
                TrapKind::StackOverflow => 3,
                TrapKind::BadCall => 4,
                TrapKind::Arithmetic => 5,
            },
        ),
        ItemError::FuelExhausted => (3, 0),
        ItemError::OutputTooLarge => (4, 0),
    }
}

/// The root of a task: its items in order, each with the digest of the bytes that it read.
pub fn task_root<'a>(items: impl IntoIterator<Item = (Digest, &'a ItemOutcome)>) -> Digest {
    let leaves: Vec<Digest> =
        (0u32..).zip(items).map(|(index, (input, outcome))| leaf(index, &input, outcome)).collect();
    root(&leaves)
}

/// The root over these leaves in this order; of none, the digest of nothing.
pub fn root(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => Digest::of(b""),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node(&root(left), &root(right))
        }
    }
}

/// The proof that the leaf at `index` belongs to [`root`] over these leaves: one digest a level, from the leaf up.
/// Nothing if there is no such leaf.
pub fn prove(leaves: &[Digest], index: usize) -> Option<Vec<Digest>> {
    if index >= leaves.len() {
        return None;
    }
    let mut proof = Vec::new();
    let (mut rest, mut index) = (leaves, index);
    while rest.len() > 1 {
        let (left, right) = rest.split_at(split(rest.len()));
        if index < left.len() {
            proof.push(root(right));
            rest = left;
        } else {
            proof.push(root(left));
            index -= left.len();
            rest = right;
        }
    }
    proof.reverse();
    Some(proof)
}

/// Whether the proof shows that `leaf` stands at `index` among `count` leaves under `root`.
pub fn verify_inclusion(root: &Digest, count: u64, index: u64, leaf: &Digest, proof: &[Digest]) -> bool {
    if index >= count {
        return false;
    }
    // RFC 9162, section 2.1.3.2.
    let (mut place, mut last) = (index, count - 1);
    let mut computed = *leaf;
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            computed = node(sibling, &computed);
            // A lone right edge is carried up unhashed: skip the levels where it has no sibling.
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            computed = node(&computed, sibling);
        }
        place >>= 1;
        last >>= 1;
    }
    last == 0 && computed == *root
}

/// The largest power of two below `count`, which is at least 2.
fn split(count: usize) -> usize {
    count.next_power_of_two() / 2
}

/// The digest of a leaf's bytes. Leaves and nodes have different first bytes, or a node could be shown as a leaf.
pub fn leaf_of_bytes(bytes: &[u8]) -> Digest {
    Digest(Sha256::new().chain_update([0]).chain_update(bytes).finalize().into())
}

/// The digest of an inner node, from its children.
pub fn node(left: &Digest, right: &Digest) -> Digest {
    Digest(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use caii_model::Fuel;
    use proptest::prelude::*;

    /// Inputs and roots of the trees of sizes 0 to 8 in the tests of the Certificate Transparency reference
    /// implementation (`merkle_tree_test`).
    #[test]
    fn roots_are_those_of_certificate_transparency() {
        let inputs: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let leaves: Vec<Digest> = inputs.iter().map(|input| leaf_of_bytes(input)).collect();
        for (size, expected) in roots.iter().enumerate() {
            assert_eq!(root(&leaves[..size]).hex(), *expected, "size {size}");
        }
    }

    /// The paths of the same reference tests: leaf (from 0), size, proof.
    #[test]
    fn proofs_are_those_of_certificate_transparency() {
        let inputs: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let leaves: Vec<Digest> = inputs.iter().map(|input| leaf_of_bytes(input)).collect();
        let hex =
            |index, size| -> Vec<String> { prove(&leaves[..size], index).unwrap().iter().map(Digest::hex).collect() };
        assert_eq!(hex(0, 1), Vec::<String>::new());
        assert_eq!(
            hex(0, 8),
            [
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ]
        );
        assert_eq!(
            hex(5, 8),
            [
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ]
        );
        assert_eq!(hex(2, 3), ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]);
    }

    fn outcome(result: Result<Vec<u8>, ItemError>, fuel: u64) -> ItemOutcome {
        ItemOutcome { result, fuel: Fuel(fuel), stderr: Vec::new() }
    }

    #[test]
    fn leaves_differ_in_everything_but_stderr() {
        let input = Digest::of(b"in");
        let errors = [
            ItemError::Exit(1),
            ItemError::Exit(-1),
            ItemError::Trap(TrapKind::Unreachable),
            ItemError::Trap(TrapKind::OutOfBounds),
            ItemError::Trap(TrapKind::StackOverflow),
            ItemError::Trap(TrapKind::BadCall),
            ItemError::Trap(TrapKind::Arithmetic),
            ItemError::Trap(TrapKind::Other),
            ItemError::FuelExhausted,
            ItemError::OutputTooLarge,
        ];
        let mut all = vec![
            leaf(0, &input, &outcome(Ok(b"out".to_vec()), 5)),
            leaf(1, &input, &outcome(Ok(b"out".to_vec()), 5)),
            leaf(0, &Digest::of(b"IN"), &outcome(Ok(b"out".to_vec()), 5)),
            leaf(0, &input, &outcome(Ok(b"OUT".to_vec()), 5)),
            leaf(0, &input, &outcome(Ok(Vec::new()), 5)),
            leaf(0, &input, &outcome(Ok(b"out".to_vec()), 6)),
        ];
        all.extend(errors.map(|error| leaf(0, &input, &outcome(Err(error), 5))));
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());

        let with_stderr = ItemOutcome { stderr: b"note".to_vec(), ..outcome(Ok(b"out".to_vec()), 5) };
        assert_eq!(leaf(0, &input, &with_stderr), all[0]);
        // Commitments outlive releases: a change of this value is a new version of the leaf.
        assert_eq!(all[0].hex(), "c614380c73113f1484f9aa0a84ebb2959bcbee4e5f4ab651ee163fc3c28742a8");
    }

    #[test]
    fn a_tasks_root_numbers_its_items() {
        let (one, two) = (outcome(Ok(b"1".to_vec()), 1), outcome(Err(ItemError::Exit(2)), 2));
        let inputs = [Digest::of(b"a"), Digest::of(b"b")];
        let expected = root(&[leaf(0, &inputs[0], &one), leaf(1, &inputs[1], &two)]);
        assert_eq!(task_root([(inputs[0], &one), (inputs[1], &two)]), expected);
    }

    fn tree() -> impl Strategy<Value = Vec<Digest>> {
        prop::collection::vec(any::<[u8; 32]>().prop_map(Digest), 1..70)
    }

    proptest! {
        #[test]
        fn any_changed_leaf_changes_the_root(leaves in tree(), at: prop::sample::Index, bit in 0..256usize) {
            let mut changed = leaves.clone();
            changed[at.index(leaves.len())].0[bit / 8] ^= 1 << (bit % 8);
            prop_assert_ne!(root(&changed), root(&leaves));
        }

        #[test]
        fn more_or_fewer_leaves_change_the_root(leaves in tree()) {
            prop_assert_ne!(root(&leaves[1..]), root(&leaves));
            prop_assert_ne!(root(&leaves[..leaves.len() - 1]), root(&leaves));
        }

        #[test]
        fn a_proof_holds_in_its_place_alone(leaves in tree(), at: prop::sample::Index, spoil: prop::sample::Index) {
            let (root, count, index) = (root(&leaves), leaves.len() as u64, at.index(leaves.len()));
            let proof = prove(&leaves, index).unwrap();
            for place in 0..count + 2 {
                let holds = verify_inclusion(&root, count, place, &leaves[index], &proof);
                prop_assert_eq!(holds, place == index as u64, "place {}", place);
            }
            prop_assert!(!verify_inclusion(&root, count, index as u64, &Digest::of(b"other"), &proof));
            prop_assert!(!verify_inclusion(&Digest::of(b"other"), count, index as u64, &leaves[index], &proof));
            let longer = [proof.clone(), vec![root]].concat();
            prop_assert!(!verify_inclusion(&root, count, index as u64, &leaves[index], &longer));
            if !proof.is_empty() {
                prop_assert!(!verify_inclusion(&root, count, index as u64, &leaves[index], &proof[1..]));
                let mut spoilt = proof.clone();
                spoilt[spoil.index(proof.len())].0[0] ^= 1;
                prop_assert!(!verify_inclusion(&root, count, index as u64, &leaves[index], &spoilt));
            }
            prop_assert_eq!(prove(&leaves, leaves.len()), None);
        }
    }
}
