//! Appending: the same files and root in whatever batches, the root of another implementation, and a log that is taken
//! up again.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod support;

use caii_model::Digest;
use caii_tlog::{Log, MemoryTiles, ResumeError, TREE_SIZE_MAX, Tile, TileError, Tree, tiles_of};
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;
use sha2::Sha256;
use std::collections::BTreeMap;
use support::{Stored, entries};

fn oracle_root(entries: &[Digest]) -> Digest {
    let mut tree = MemoryBackedTree::<Sha256, [u8; 32]>::new();
    entries.iter().for_each(|entry| tree.push(entry.0));
    Digest((*tree.root().as_bytes()).into())
}

/// The files that a log of this size must have, without partial ones of sizes before.
fn current(stored: &Stored) -> BTreeMap<Tile, Vec<u8>> {
    let size = stored.tree().size;
    tiles_of(size).map(|tile| (tile, stored.files.0[&tile].clone())).collect()
}

#[test]
fn one_batch_writes_each_file_of_its_size_and_no_other() {
    for size in [0, 1, 2, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 70_000] {
        let stored = Stored::of(size);
        assert_eq!(stored.tree().size, size);
        let names: Vec<Tile> = stored.files.0.keys().copied().collect();
        let mut expected: Vec<Tile> = tiles_of(size).collect();
        expected.sort();
        assert_eq!(names, expected, "{size}");
        for (tile, bytes) in &stored.files.0 {
            let place = if matches!(tile.kind(), caii_tlog::TileKind::Entries) { 34 } else { 32 };
            assert_eq!(bytes.len(), tile.width() * place, "{tile}");
        }
    }
}

#[test]
fn roots_are_those_of_another_implementation() {
    let all = entries(0, 70_000);
    for size in (0..600).chain([1_023, 1_024, 65_535, 65_536, 65_537, 65_792, 70_000]) {
        let root = Stored::of(size).tree().root;
        assert_eq!(root, oracle_root(&all[..size as usize]), "{size}");
    }
}

#[test]
fn an_empty_batch_changes_nothing() {
    let stored = Stored::of(300);
    let appended = stored.log.append(&[]).unwrap();
    assert_eq!((appended.log, appended.files), (stored.log, vec![]));
}

#[test]
fn a_log_that_is_full_says_so() {
    // Nobody can make such a log; its right edge is all there is to read of it.
    let size = TREE_SIZE_MAX;
    let mut files = MemoryTiles::default();
    let zeros: Vec<u8> = (0..255).flat_map(|_| [&[0, 32][..], &[0; 32]].concat()).collect();
    let leaf = caii_tlog::entry_hash(&Digest([0; 32]));
    for tile in (0..8).map(caii_tlog::TileKind::Hashes).chain([caii_tlog::TileKind::Entries]) {
        let count = match tile {
            caii_tlog::TileKind::Entries => size,
            caii_tlog::TileKind::Hashes(level) => size >> (8 * level),
        };
        let tile = Tile::at(tile, count / 256, size).unwrap();
        let bytes = match tile.kind() {
            caii_tlog::TileKind::Entries => zeros.clone(),
            caii_tlog::TileKind::Hashes(0) => leaf.0.repeat(tile.width()),
            caii_tlog::TileKind::Hashes(_) => vec![7; 32 * tile.width()],
        };
        files.0.insert(tile, bytes);
    }
    let Err(ResumeError::Root { found, .. }) = Log::resume(Tree { size, root: Digest([0; 32]) }, &files) else {
        panic!("the root was a guess");
    };
    let log = Log::resume(Tree { size, root: found }, &files).unwrap();
    assert!(log.append(&[]).is_ok());
    assert!(log.append(&entries(0, 1)).is_err());
    let beyond = Tree { size: size + 1, root: found };
    assert!(matches!(Log::resume(beyond, &files), Err(ResumeError::Size(_))));
}

#[test]
fn a_damaged_edge_is_not_taken_up() {
    let stored = Stored::of(70_000);
    let tree = stored.tree();
    let edge = ["tile/entries/273.p/112", "tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"];
    for path in edge {
        let tile: Tile = path.parse().unwrap();
        let with = |change: fn(&mut Vec<u8>)| {
            let mut files = stored.files.clone();
            change(files.0.get_mut(&tile).unwrap());
            Log::resume(tree, &files)
        };
        assert!(with(|bytes| *bytes.last_mut().unwrap() ^= 1).is_err(), "{path}");
        assert!(with(|bytes| bytes.truncate(bytes.len() - 1)).is_err(), "{path}");
        let mut files = stored.files.clone();
        files.0.remove(&tile);
        let missing = Log::resume(tree, &files);
        assert!(
            matches!(missing, Err(ResumeError::Tile(TileError::Unreadable { tile: found, .. })) if found == tile),
            "{missing:?}"
        );
    }
    let other = Tree { root: Digest([9; 32]), ..tree };
    let found = tree.root;
    assert_eq!(Log::resume(other, &stored.files), Err(ResumeError::Root { expected: other.root, found }));
}

#[test]
fn an_entry_of_the_edge_that_was_changed_is_named() {
    let stored = Stored::of(300);
    let mut files = stored.files.clone();
    files.0.get_mut(&"tile/entries/001.p/44".parse().unwrap()).unwrap()[34 * 7 + 20] ^= 4;
    assert_eq!(Log::resume(stored.tree(), &files), Err(ResumeError::Entry { index: 263 }));
}

/// Sizes around the borders of tiles, and batches to get there.
fn batches() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(prop_oneof![0u64..5, 0u64..300, 250u64..260, Just(256), 500u64..1_500], 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_batching_gives_the_same_files_and_root(batches in batches()) {
        let mut stored = Stored::default();
        let mut size = 0;
        for batch in batches {
            stored.append(&entries(size, size + batch));
            size += batch;
        }
        let at_once = Stored::of(size);
        prop_assert_eq!(stored.tree(), at_once.tree());
        prop_assert_eq!(&stored.log, &at_once.log);
        prop_assert_eq!(current(&stored), at_once.files.0);
    }

    #[test]
    fn a_log_goes_on_as_if_it_had_never_stopped(batches in batches()) {
        let mut stored = Stored::default();
        let mut size = 0;
        for batch in batches {
            let resumed = Log::resume(stored.tree(), &stored.files).unwrap();
            prop_assert_eq!(&resumed, &stored.log);
            stored.log = resumed;
            stored.append(&entries(size, size + batch));
            size += batch;
        }
    }

    /// A log may delete partial files once the full ones are there.
    #[test]
    fn full_files_stand_in_for_partial_ones(size in 1u64..600, more in 256u64..600) {
        let before = Stored::of(size);
        let mut after = before.clone();
        after.append(&entries(size, size + more));
        after.files.0.retain(|tile, _| !tile.is_partial());
        after.files.0.extend(before.files.0.iter().filter(|(tile, _)| tile.to_string().starts_with("tile/1/")).map(|(tile, bytes)| (*tile, bytes.clone())));
        prop_assert_eq!(Log::resume(before.tree(), &after.files).unwrap(), before.log);
    }
}
