//! Rebuilds a log's tree from its entries and compares every file: the first that is wrong is named.

use crate::log::edge_root;
use crate::proof::entry_hash;
use crate::reader::{TileError, TileReader, read_bundle, read_hashes};
use crate::tile::{TREE_SIZE_MAX, Tile, TileKind, Tree};
use caii_model::Digest;
use caii_trust::merkle;
use std::error::Error;
use thiserror::Error;

/// A log whose files are all as they must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Entries.
    pub entries: u64,
    /// Entry bundles that were read.
    pub bundles: u64,
    /// Tiles that were compared.
    pub tiles: u64,
}

/// What is wrong with a log's files.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Damage<E: Error + 'static> {
    /// No log is so large.
    #[error("a log has at most {TREE_SIZE_MAX} entries, not {0}")]
    Size(u64),
    /// A file is missing, cannot be read, or is none.
    #[error(transparent)]
    File(TileError<E>),
    /// An entry and the hash of it differ: one of the two files was changed.
    #[error("entry {index}: what is in {bundle} does not hash to what is in {tile}")]
    Entry {
        /// The entry's number in the log.
        index: u64,
        /// Where the entry is.
        bundle: Tile,
        /// Where its hash is.
        tile: Tile,
    },
    /// A hash is not that of the tile that it stands for.
    #[error("{tile}: hash {place} is not the root of {below}")]
    Hash {
        /// The file.
        tile: Tile,
        /// The place in it.
        place: usize,
        /// The tile that it stands for, which was rebuilt from the entries.
        below: Tile,
    },
    /// All files agree with each other and not with the checkpoint.
    #[error("the entries give the root {found}; the checkpoint says {expected}")]
    Root {
        /// What the checkpoint says.
        expected: Digest,
        /// What the entries give.
        found: Digest,
    },
}

impl<E: Error + 'static> Damage<E> {
    /// The first file that is wrong, if it is a file. Of an entry that differs from its hash it is the bundle.
    pub fn tile(&self) -> Option<Tile> {
        match self {
            Self::File(
                TileError::Unreadable { tile, .. }
                | TileError::TileLength { tile, .. }
                | TileError::Bundle { tile, .. },
            ) => Some(*tile),
            Self::Entry { bundle, .. } => Some(*bundle),
            Self::Hash { tile, .. } => Some(*tile),
            Self::Size(_) | Self::Root { .. } => None,
        }
    }
}

/// Checks all files of a log whose checkpoint has this tree. Signatures are the caller's matter.
///
/// # Errors
/// With the first that is wrong, from the left; in a column, from below.
pub fn fsck<R: TileReader + ?Sized>(reader: &R, tree: &Tree) -> Result<Checked, Damage<R::Error>> {
    fsck_each(reader, tree, |_, _| ())
}

/// As [`fsck`], and shows each entry with its number once it is known to be what its tile says. Whether it is what the
/// checkpoint says is known only at the end.
///
/// # Errors
/// With the first that is wrong.
pub fn fsck_each<R: TileReader + ?Sized>(
    reader: &R,
    tree: &Tree,
    mut each: impl FnMut(u64, &Digest),
) -> Result<Checked, Damage<R::Error>> {
    if tree.size > TREE_SIZE_MAX {
        return Err(Damage::Size(tree.size));
    }
    let mut rebuilt = Rebuilt { reader, size: tree.size, edge: vec![Vec::new()], checked: Checked::default() };
    for number in 0.. {
        let Some(bundle) = Tile::at(TileKind::Entries, number, tree.size) else { break };
        let tile = Tile::at(TileKind::Hashes(0), number, tree.size).expect("there are as many hashes as entries");
        let entries = read_bundle(reader, &bundle).map_err(Damage::File)?;
        let hashes = read_hashes(reader, &tile).map_err(Damage::File)?;
        for ((index, entry), hash) in (number * 256..).zip(&entries).zip(&hashes) {
            if entry_hash(entry) != *hash {
                return Err(Damage::Entry { index, bundle, tile });
            }
            each(index, entry);
        }
        rebuilt.checked.entries += entries.len() as u64;
        rebuilt.checked.bundles += 1;
        rebuilt.checked.tiles += 1;
        rebuilt.edge[0] = hashes;
        rebuilt.carry(number)?;
    }
    rebuilt.finish(tree)
}

/// What came of the entries so far.
struct Rebuilt<'a, R: ?Sized> {
    reader: &'a R,
    size: u64,
    /// The hashes of the tile of each level that is being filled.
    edge: Vec<Vec<Digest>>,
    checked: Checked,
}

impl<R: TileReader + ?Sized> Rebuilt<'_, R> {
    /// Puts the roots of full tiles into the level above, and compares the tiles that become full there.
    fn carry(&mut self, number: u64) -> Result<(), Damage<R::Error>> {
        let mut number = number;
        let mut level = 0;
        while self.edge[level].len() == 256 {
            if level > 0 {
                self.compare(level, number)?;
            }
            let root = merkle::root(&self.edge[level]);
            self.edge[level].clear();
            level += 1;
            number /= 256;
            if self.edge.len() == level {
                self.edge.push(Vec::new());
            }
            self.edge[level].push(root);
        }
        Ok(())
    }

    /// Compares the tile of this level that was rebuilt with the one that is there.
    fn compare(&mut self, level: usize, number: u64) -> Result<(), Damage<R::Error>> {
        let at = |level: usize, number| Tile::at(TileKind::Hashes(level as u8), number, self.size);
        let tile = at(level, number).expect("what was rebuilt is within the tree");
        let found = read_hashes(self.reader, &tile).map_err(Damage::File)?;
        if let Some(place) = self.edge[level].iter().zip(&found).position(|(rebuilt, found)| rebuilt != found) {
            let below = at(level - 1, number * 256 + place as u64).expect("it was rebuilt from this one");
            return Err(Damage::Hash { tile, place, below });
        }
        self.checked.tiles += 1;
        Ok(())
    }

    fn finish(mut self, tree: &Tree) -> Result<Checked, Damage<R::Error>> {
        for level in 1..self.edge.len() {
            if !self.edge[level].is_empty() {
                let count = crate::tile::count(TileKind::Hashes(level as u8), self.size);
                self.compare(level, count / 256)?;
            }
        }
        let found = edge_root(&self.edge);
        if found == tree.root { Ok(self.checked) } else { Err(Damage::Root { expected: tree.root, found }) }
    }
}
