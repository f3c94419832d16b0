//! Appending to a log: entries in, files to write and the new root out.

use crate::proof::entry_hash;
use crate::reader::{TileError, TileReader, read_bundle, read_hashes};
use crate::tile::{TREE_SIZE_MAX, Tile, TileKind, Tree, count, encode_bundle, encode_hashes, levels};
use caii_model::Digest;
use caii_trust::merkle;
use std::error::Error;
use thiserror::Error;

/// A log that can be appended to: its size and the tree's right edge, which is what partial files hold. It takes about
/// 16 kB for millions of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    tree: Tree,
    /// The entries of the partial bundle.
    entries: Vec<Digest>,
    /// The hashes of the partial tile of each level, from the lowest.
    edge: Vec<Vec<Digest>>,
}

/// What appending came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The log with the new entries. It must take the place of the old one only when the files are durable.
    pub log: Log,
    /// The files that are new, each once, with their bytes. They must be durable before a checkpoint of the new tree is
    /// signed.
    pub files: Vec<(Tile, Vec<u8>)>,
}

/// The log has no room for so many entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a log holds at most {TREE_SIZE_MAX} entries; begin another one")]
pub struct LogFull;

/// Why a log cannot be taken up again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ResumeError<E: Error + 'static> {
    /// The size is none that a log can have.
    #[error(transparent)]
    Size(LogFull),
    /// A file is missing or damaged.
    #[error("the log's right edge cannot be read; restore the file from a copy of the log")]
    Tile(#[source] TileError<E>),
    /// An entry of the partial bundle does not belong to the tile over it.
    #[error("entry {index} is not the one that the log committed to; restore tile/entries from a copy of the log")]
    Entry {
        /// The entry's number in the log.
        index: u64,
    },
    /// The files are of another tree.
    #[error("the files at the log's right edge give the root {found}, not {expected}: a file was damaged or replaced")]
    Root {
        /// The root of the checkpoint.
        expected: Digest,
        /// What the files give.
        found: Digest,
    },
}

impl Default for Log {
    fn default() -> Self {
        Self { tree: Tree::empty(), entries: Vec::new(), edge: Vec::new() }
    }
}

impl Log {
    /// The size and root.
    pub fn tree(&self) -> Tree {
        self.tree
    }

    /// Takes a log up again at a tree that it had: the one of its last checkpoint. It reads the partial files alone, one
    /// or two a level.
    ///
    /// # Errors
    /// If the files do not give this tree.
    pub fn resume<R: TileReader + ?Sized>(tree: Tree, reader: &R) -> Result<Self, ResumeError<R::Error>> {
        if tree.size > TREE_SIZE_MAX {
            return Err(ResumeError::Size(LogFull));
        }
        let partial = |kind| {
            let last = Tile::at(kind, count(kind, tree.size) / 256, tree.size);
            last.filter(Tile::is_partial)
        };
        let mut log = Self::default();
        if let Some(bundle) = partial(TileKind::Entries) {
            log.entries = read_bundle(reader, &bundle).map_err(ResumeError::Tile)?;
        }
        for level in levels(tree.size) {
            let tile = partial(TileKind::Hashes(level));
            let hashes = tile.map_or(Ok(Vec::new()), |tile| read_hashes(reader, &tile));
            log.edge.push(hashes.map_err(ResumeError::Tile)?);
        }
        let leaves = log.edge.first().map(Vec::as_slice).unwrap_or_default();
        if let Some(place) = log.entries.iter().zip(leaves).position(|(entry, leaf)| entry_hash(entry) != *leaf) {
            return Err(ResumeError::Entry { index: tree.size - tree.size % 256 + place as u64 });
        }
        log.tree = Tree { size: tree.size, root: edge_root(&log.edge) };
        if log.tree.root != tree.root {
            return Err(ResumeError::Root { expected: tree.root, found: log.tree.root });
        }
        Ok(log)
    }

    /// Appends entries. A log changes nothing by itself: what comes back is the log with them, and its new files.
    ///
    /// # Errors
    /// If the log would grow too large.
    pub fn append(&self, entries: &[Digest]) -> Result<Appended, LogFull> {
        let new = self.tree.size.checked_add(entries.len() as u64).filter(|size| *size <= TREE_SIZE_MAX);
        let size = new.ok_or(LogFull)?;
        let mut appended = Appended { log: self.clone(), files: Vec::new() };
        for entry in entries {
            appended.push(entry);
        }
        appended.partial_files(self.tree.size);
        appended.log.tree = Tree { size, root: edge_root(&appended.log.edge) };
        Ok(appended)
    }
}

impl Appended {
    fn push(&mut self, entry: &Digest) {
        let Self { log, files } = self;
        // Counted here; the root is made once, of all of them.
        log.tree.size += 1;
        log.entries.push(*entry);
        if log.entries.len() == 256 {
            files.push((last(TileKind::Entries, log.tree.size), encode_bundle(&log.entries)));
            log.entries.clear();
        }
        let mut hash = entry_hash(entry);
        for level in 0.. {
            if log.edge.len() == level {
                log.edge.push(Vec::new());
            }
            let edge = &mut log.edge[level];
            edge.push(hash);
            if edge.len() < 256 {
                break;
            }
            files.push((last(TileKind::Hashes(level as u8), log.tree.size), encode_hashes(edge)));
            hash = merkle::root(edge);
            edge.clear();
        }
    }

    /// The partial files that are other than at the size before.
    fn partial_files(&mut self, before: u64) {
        let Self { log, files } = self;
        let size = log.tree.size;
        let changed = |kind| count(kind, size) != count(kind, before);
        if changed(TileKind::Entries) && !log.entries.is_empty() {
            files.push((last(TileKind::Entries, size), encode_bundle(&log.entries)));
        }
        for (level, edge) in (0..).zip(&log.edge) {
            let kind = TileKind::Hashes(level);
            if changed(kind) && !edge.is_empty() {
                files.push((last(kind, size), encode_hashes(edge)));
            }
        }
    }
}

/// The rightmost file of this kind.
fn last(kind: TileKind, size: u64) -> Tile {
    Tile::at(kind, (count(kind, size) - 1) / 256, size).expect("there is something of this kind")
}

/// The root over all entries, of the hashes of each level that are in no tile of the level above. They fall apart into
/// whole subtrees, the largest on the left.
pub(crate) fn edge_root(edge: &[Vec<Digest>]) -> Digest {
    let mut right: Option<Digest> = None;
    for hashes in edge {
        let mut rest = hashes.as_slice();
        while !rest.is_empty() {
            let (before, subtree) = rest.split_at(rest.len() - (1 << rest.len().trailing_zeros()));
            let root = merkle::root(subtree);
            right = Some(right.map_or(root, |right| merkle::node(&root, &right)));
            rest = before;
        }
    }
    right.unwrap_or(Tree::empty().root)
}
