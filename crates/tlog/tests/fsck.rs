//! The check of a whole log: whatever was changed is found and named.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod support;

use caii_model::Digest;
use caii_tlog::{
    Checked, Damage, MemoryTiles, TREE_SIZE_MAX, Tile, TileError, TileKind, TileMissing, Tree, entry_hash, fsck,
    fsck_each, tiles_of,
};
use caii_trust::merkle;
use proptest::prelude::*;
use support::{Stored, entries, entry};

fn tile(path: &str) -> Tile {
    path.parse().unwrap()
}

#[test]
fn a_good_log_is_good() {
    for size in [0, 1, 255, 256, 257, 512, 65_535, 65_536, 65_537, 70_000] {
        let stored = Stored::of(size);
        let mut seen = Vec::new();
        let checked = fsck_each(&stored.files, &stored.tree(), |index, entry| seen.push((index, *entry))).unwrap();
        let files = tiles_of(size).count() as u64;
        assert_eq!((checked.entries, checked.bundles + checked.tiles), (size, files));
        assert_eq!(checked.bundles, size.div_ceil(256));
        assert_eq!(seen, (0..).zip(entries(0, size)).collect::<Vec<_>>());
    }
}

#[test]
fn each_tree_that_a_log_had_is_good_in_its_files() {
    let mut stored = Stored::default();
    let mut trees = vec![stored.tree()];
    for batch in [1, 254, 1, 1, 300, 2_000] {
        let size = stored.tree().size;
        stored.append(&entries(size, size + batch));
        trees.push(stored.tree());
    }
    for tree in trees {
        assert_eq!(fsck(&stored.files, &tree).map(|checked| checked.entries), Ok(tree.size));
    }
}

/// The same changes to a log of three levels, each with the words that name it.
#[test]
fn damage_is_named() {
    let stored = Stored::of(70_000);
    let tree = stored.tree();
    let damaged = |path: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut files = stored.files.clone();
        change(files.0.get_mut(&tile(path)).unwrap());
        fsck(&files, &tree).unwrap_err()
    };
    let flip = |place: usize| move |bytes: &mut Vec<u8>| bytes[place] ^= 0x10;

    let (bundle, hashes) = (tile("tile/entries/100"), tile("tile/0/100"));
    let entry_7 = Damage::Entry { index: 25_607, bundle, tile: hashes };
    assert_eq!(damaged("tile/entries/100", &flip(7 * 34 + 33)), entry_7);
    assert_eq!(entry_7.to_string(), "entry 25607: what is in tile/entries/100 does not hash to what is in tile/0/100");
    assert_eq!(damaged("tile/0/100", &flip(7 * 32)), entry_7);
    let no_entry = |index| Damage::File(TileError::Bundle { tile: bundle, index });
    assert_eq!(damaged("tile/entries/100", &flip(7 * 34)), no_entry(25_607));
    assert_eq!(damaged("tile/entries/100", &|bytes| bytes.truncate(34 * 200 + 5)), no_entry(25_800));
    assert_eq!(damaged("tile/entries/100", &|bytes| bytes.push(0)), no_entry(25_856));

    let hash = |path, place, below| Damage::Hash { tile: tile(path), place, below: tile(below) };
    assert_eq!(damaged("tile/1/000", &flip(200 * 32)), hash("tile/1/000", 200, "tile/0/200"));
    assert_eq!(damaged("tile/1/001.p/17", &flip(16 * 32 + 31)), hash("tile/1/001.p/17", 16, "tile/0/272"));
    assert_eq!(damaged("tile/2/000.p/1", &flip(0)), hash("tile/2/000.p/1", 0, "tile/1/000"));
    for path in ["tile/0/273.p/112", "tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1"] {
        let found = stored.files.0[&tile(path)].len() - 1;
        let short = damaged(path, &|bytes| bytes.truncate(found));
        assert_eq!(short, Damage::File(TileError::TileLength { tile: tile(path), found }));
    }
    let some = tiles_of(70_000).step_by(97);
    for path in some.chain(tiles_of(70_000).filter(Tile::is_partial)) {
        let mut files = stored.files.clone();
        files.0.remove(&path);
        let missing = fsck(&files, &tree).unwrap_err();
        assert_eq!(missing, Damage::File(TileError::Unreadable { tile: path, source: TileMissing }));
        assert_eq!(missing.tile(), Some(path));
    }

    let other = Tree { root: Digest([5; 32]), ..tree };
    assert_eq!(fsck(&stored.files, &other), Err(Damage::Root { expected: other.root, found: tree.root }));
    let beyond = Tree { size: TREE_SIZE_MAX + 1, ..tree };
    assert_eq!(fsck(&stored.files, &beyond), Err(Damage::Size(beyond.size)));
}

/// An entry, its hash and all above were changed together: only the checkpoint is left to say so.
#[test]
fn a_log_that_agrees_with_itself_alone_is_found() {
    let stored = Stored::of(300);
    let mut all = entries(0, 300);
    all[299] = entry(7);
    let mut other = Stored::default();
    other.append(&all);
    let (expected, found) = (stored.tree().root, other.tree().root);
    assert_eq!(fsck(&other.files, &stored.tree()), Err(Damage::Root { expected, found }));
}

#[test]
fn the_first_damage_is_named() {
    let stored = Stored::of(600);
    let mut files = stored.files.clone();
    for path in ["tile/entries/002.p/88", "tile/1/000.p/2", "tile/entries/001", "tile/0/001"] {
        files.0.get_mut(&tile(path)).unwrap()[3] ^= 1;
    }
    assert!(matches!(fsck(&files, &stored.tree()), Err(Damage::Entry { index: 256, .. })));
}

/// A bundle whose entries have another length than 32 bytes may be another log's; this one has none.
#[test]
fn other_entries_are_not_taken_for_ours() {
    let text: &[u8] = b"an entry of another log";
    let bundle = Tile::at(TileKind::Entries, 0, 1).unwrap();
    let hashes = Tile::at(TileKind::Hashes(0), 0, 1).unwrap();
    let leaf = merkle::leaf_of_bytes(text);
    let bytes = [&(text.len() as u16).to_be_bytes()[..], text].concat();
    let files = MemoryTiles([(bundle, bytes), (hashes, leaf.0.to_vec())].into());
    let damage = fsck(&files, &Tree { size: 1, root: leaf }).unwrap_err();
    assert_eq!(damage, Damage::File(TileError::Bundle { tile: bundle, index: 0 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_changed_bit_of_any_file_is_found(
        size in prop_oneof![12 => 1u64..600, 1 => 65_500u64..65_800],
        file: prop::sample::Index,
        place: prop::sample::Index,
        bit in 0..8u8,
    ) {
        let mut stored = Stored::of(size);
        let tree = stored.tree();
        let all: Vec<Tile> = tiles_of(size).collect();
        let changed = all[file.index(all.len())];
        let bytes = stored.files.0.get_mut(&changed).unwrap();
        let place = place.index(bytes.len());
        bytes[place] ^= 1 << bit;
        let damage = fsck(&stored.files, &tree).unwrap_err();
        // The file that was changed is among those that the error names.
        let named = match &damage {
            Damage::Entry { bundle, tile, index } => {
                let width = if changed.kind() == TileKind::Entries { 34 } else { 32 };
                prop_assert_eq!(*index, changed.index() * 256 + (place / width) as u64);
                vec![*bundle, *tile]
            }
            Damage::Hash { tile, place: hash, .. } => {
                prop_assert_eq!(*hash, place / 32);
                vec![*tile]
            }
            Damage::File(TileError::Bundle { tile, index }) => {
                prop_assert_eq!(*index, changed.index() * 256 + (place / 34) as u64);
                vec![*tile]
            }
            other => panic!("{other:?}"),
        };
        prop_assert!(named.contains(&changed), "{} and {:?}", changed, damage);
    }

    /// Full files hold all that an older tree had; nothing holds what a larger one would have.
    #[test]
    fn files_of_other_sizes_pass_only_for_trees_that_they_hold(size in 1u64..600, other in 1u64..600) {
        let mut files = Stored::of(size).files;
        let found = fsck(&files, &Stored::of(other).tree());
        prop_assert!(found.is_err() || other <= size, "{:?}", found);
        prop_assert_eq!(fsck(&files, &Stored::of(size).tree()).map(|checked| checked.entries), Ok(size));
        files.0.retain(|tile, _| tile.is_partial());
        prop_assert!(fsck(&files, &Stored::of(other).tree()).is_err() || (size == other && size < 256));
    }
}

#[test]
fn counts_start_at_nothing() {
    assert_eq!(fsck(&MemoryTiles::default(), &Tree::empty()), Ok(Checked::default()));
    assert_eq!(entry_hash(&entry(0)), merkle::leaf_of_bytes(&entry(0).0));
}
