//! Proofs that an entry is in a tree and that a tree continues another (RFC 6962, section 2.1; verified as RFC 9162 does).

use crate::reader::{TileError, TileReader, read_hashes};
use crate::tile::{TREE_SIZE_MAX, Tile, TileKind, Tree};
use caii_model::Digest;
use caii_trust::merkle;
use std::collections::BTreeMap;
use std::error::Error;
use thiserror::Error;

/// Hashes of the longest proof that is read.
pub const PROOF_LEN_MAX: usize = 63;

/// The hash of an entry: the leaf that stands for it.
pub fn entry_hash(entry: &Digest) -> Digest {
    merkle::leaf_of_bytes(&entry.0)
}

/// Whether the proof shows that `entry` stands at `index` of the tree.
pub fn verify_inclusion(tree: &Tree, index: u64, entry: &Digest, proof: &[Digest]) -> bool {
    merkle::verify_inclusion(&tree.root, tree.size, index, &entry_hash(entry), proof)
}

/// Whether the proof shows that the new tree is the old one with more entries after it, or none.
pub fn verify_consistency(old: &Tree, new: &Tree, proof: &[Digest]) -> bool {
    if old.size == new.size {
        return old.root == new.root && proof.is_empty() && (old.size > 0 || *old == Tree::empty());
    }
    if old.size == 0 {
        return *old == Tree::empty() && proof.is_empty();
    }
    if old.size > new.size {
        return false;
    }
    // RFC 9162, section 2.1.4.2. A whole old tree is a node of the new one, and is left out of the proof.
    let (first, rest) = match proof {
        [] => return false,
        rest if old.size.is_power_of_two() => (&old.root, rest),
        [first, rest @ ..] => (first, rest),
    };
    let (mut place, mut last) = (old.size - 1, new.size - 1);
    while place & 1 == 1 {
        place >>= 1;
        last >>= 1;
    }
    let (mut computed_old, mut computed_new) = (*first, *first);
    for hash in rest {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            computed_old = merkle::node(hash, &computed_old);
            computed_new = merkle::node(hash, &computed_new);
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            computed_new = merkle::node(&computed_new, hash);
        }
        place >>= 1;
        last >>= 1;
    }
    last == 0 && computed_old == old.root && computed_new == new.root
}

/// Why there is no proof.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProofError<E: Error + 'static> {
    /// The tree has no such entry.
    #[error("there is no entry {index} in a log of {size}")]
    NoEntry {
        /// The entry.
        index: u64,
        /// The tree's size.
        size: u64,
    },
    /// The tree cannot continue one that is larger, or is larger than any.
    #[error("a tree of {new} entries cannot be shown to continue one of {old}")]
    Sizes {
        /// The old size.
        old: u64,
        /// The new size.
        new: u64,
    },
    /// A file is missing or damaged.
    #[error("the log's files give no proof")]
    Tile(#[source] TileError<E>),
    /// What the files give proves nothing about these trees.
    #[error("the log's files are not those of this tree; `fsck` says which is wrong")]
    OtherTree,
}

impl<E: Error + 'static> From<TileError<E>> for ProofError<E> {
    fn from(error: TileError<E>) -> Self {
        Self::Tile(error)
    }
}

/// The proof that the entry at `index` is in the tree: one hash a level, from the leaf up. It was verified against the
/// tree's root, so damaged files give an error and never a wrong proof.
///
/// # Errors
/// If there is no such entry, or the files are not those of this tree.
pub fn prove_inclusion<R: TileReader + ?Sized>(
    tree: &Tree,
    index: u64,
    reader: &R,
) -> Result<Vec<Digest>, ProofError<R::Error>> {
    if index >= tree.size || tree.size > TREE_SIZE_MAX {
        return Err(ProofError::NoEntry { index, size: tree.size });
    }
    let mut hashes = Hashes::new(reader, tree.size);
    let mut proof = Vec::new();
    let (mut start, mut end) = (0, tree.size);
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            proof.push(hashes.range(middle, end)?);
            end = middle;
        } else {
            proof.push(hashes.range(start, middle)?);
            start = middle;
        }
    }
    proof.reverse();
    let leaf = hashes.range(index, index + 1)?;
    if merkle::verify_inclusion(&tree.root, tree.size, index, &leaf, &proof) {
        Ok(proof)
    } else {
        Err(ProofError::OtherTree)
    }
}

/// The proof that the new tree continues the old one, made from the files of the new one. It was verified against both
/// roots.
///
/// # Errors
/// If the old tree is the larger one, or the files are not those of these trees.
pub fn prove_consistency<R: TileReader + ?Sized>(
    old: &Tree,
    new: &Tree,
    reader: &R,
) -> Result<Vec<Digest>, ProofError<R::Error>> {
    if old.size > new.size || new.size > TREE_SIZE_MAX {
        return Err(ProofError::Sizes { old: old.size, new: new.size });
    }
    let mut proof = Vec::new();
    if old.size > 0 {
        let mut hashes = Hashes::new(reader, new.size);
        let (mut start, mut end) = (0, new.size);
        while old.size < end {
            let middle = start + split(end - start);
            if old.size <= middle {
                proof.push(hashes.range(middle, end)?);
                end = middle;
            } else {
                proof.push(hashes.range(start, middle)?);
                start = middle;
            }
        }
        // The old tree's own right edge, unless it is the whole old tree, whose root the verifier knows.
        if start > 0 {
            proof.push(hashes.range(start, end)?);
        }
        proof.reverse();
    }
    if verify_consistency(old, new, &proof) { Ok(proof) } else { Err(ProofError::OtherTree) }
}

/// The tree of the first `size` entries, from the files of one with `of` entries: what whoever knows a size alone means.
///
/// # Errors
/// If there are fewer entries, or a file is missing or damaged.
pub fn earlier_tree<R: TileReader + ?Sized>(size: u64, of: u64, reader: &R) -> Result<Tree, ProofError<R::Error>> {
    if size > of || of > TREE_SIZE_MAX {
        return Err(ProofError::Sizes { old: size, new: of });
    }
    if size == 0 {
        return Ok(Tree::empty());
    }
    Ok(Tree { size, root: Hashes::new(reader, of).range(0, size)? })
}

/// The largest power of two below `count`, which is at least 2.
fn split(count: u64) -> u64 {
    count.next_power_of_two() / 2
}

/// The hashes of a tree of this size, from its tiles; each is read once.
struct Hashes<'a, R: ?Sized> {
    reader: &'a R,
    size: u64,
    tiles: BTreeMap<Tile, Vec<Digest>>,
}

impl<'a, R: TileReader + ?Sized> Hashes<'a, R> {
    fn new(reader: &'a R, size: u64) -> Self {
        Self { reader, size, tiles: BTreeMap::new() }
    }

    /// The root over the entries from `start` to before `end`, a range that splitting a tree in two again and again
    /// comes to: it begins at a multiple of the next power of two.
    fn range(&mut self, start: u64, end: u64) -> Result<Digest, TileError<R::Error>> {
        let count = end - start;
        if count.is_power_of_two() {
            return self.whole(count.trailing_zeros(), start);
        }
        let middle = start + split(count);
        let (left, right) = (self.range(start, middle)?, self.range(middle, end)?);
        Ok(merkle::node(&left, &right))
    }

    /// The root over the `2^height` entries from `start`.
    fn whole(&mut self, height: u32, start: u64) -> Result<Digest, TileError<R::Error>> {
        let (level, within) = (height / 8, height % 8);
        let first = start >> (8 * level);
        let kind = TileKind::Hashes(level as u8);
        let tile = Tile::at(kind, first / 256, self.size).expect("the range lies within the tree");
        if !self.tiles.contains_key(&tile) {
            self.tiles.insert(tile, read_hashes(self.reader, &tile)?);
        }
        let place = (first % 256) as usize;
        Ok(merkle::root(&self.tiles[&tile][place..place + (1 << within)]))
    }
}
