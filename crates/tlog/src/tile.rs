//! The files of a log: which there are at a size, what they are called, how many hashes or entries each holds.
//!
//! A tile holds up to 256 hashes that stand side by side at every eighth level of the tree; an entry bundle holds the
//! entries under a tile of the lowest level. Those at the right edge are partial and carry their width in the name.

use caii_model::Digest;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Hashes of a full tile, entries of a full bundle.
pub const TILE_WIDTH: u64 = 256;
/// Entries of the largest tree: what other implementations count in a signed 64-bit number.
pub const TREE_SIZE_MAX: u64 = i64::MAX as u64;
/// Levels of tiles of the largest tree.
const LEVELS: u8 = 8;
/// Levels that a path may name.
const LEVELS_NAMED: u8 = 64;
/// Bytes of the longest path, with room to spare.
const PATH_LEN_MAX: usize = 64;

/// A tree: how many entries it has, and the root over them (RFC 6962, section 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tree {
    /// How many entries.
    pub size: u64,
    /// The root.
    pub root: Digest,
}

impl Tree {
    /// The tree without entries.
    pub fn empty() -> Self {
        Self { size: 0, root: Digest::of(b"") }
    }
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TileKind {
    /// Entries.
    Entries,
    /// Hashes of a level: those of the entries at level 0, of whole tiles of the level below at the others.
    Hashes(u8),
}

/// One file of a log. Written as its path, `tile/<L>/<N>[.p/<W>]` or `tile/entries/<N>[.p/<W>]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tile {
    kind: TileKind,
    index: u64,
    width: u16,
}

impl Tile {
    /// The file number `index` of this kind, of a log with `size` entries; nothing if there is none.
    pub fn at(kind: TileKind, index: u64, size: u64) -> Option<Self> {
        let start = index.checked_mul(TILE_WIDTH)?;
        let left = count(kind, size).checked_sub(start).filter(|left| *left > 0)?;
        Some(Self { kind, index, width: left.min(TILE_WIDTH) as u16 })
    }

    /// What it holds.
    pub fn kind(&self) -> TileKind {
        self.kind
    }

    /// Its number from the left.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// How many hashes or entries it holds: 1 to 256.
    pub fn width(&self) -> usize {
        self.width.into()
    }

    /// Whether it stands at the right edge and is not full.
    pub fn is_partial(&self) -> bool {
        u64::from(self.width) < TILE_WIDTH
    }

    /// The same file once it is full.
    pub(crate) fn filled(&self) -> Self {
        Self { width: TILE_WIDTH as u16, ..*self }
    }
}

/// How many hashes or entries of this kind a log of this size has.
pub(crate) fn count(kind: TileKind, size: u64) -> u64 {
    match kind {
        TileKind::Entries => size,
        TileKind::Hashes(level) if level < LEVELS => size >> (8 * level),
        TileKind::Hashes(_) => 0,
    }
}

/// The levels of tiles that a log of this size has, from the lowest.
pub(crate) fn levels(size: u64) -> impl Iterator<Item = u8> {
    (0..LEVELS).take_while(move |level| count(TileKind::Hashes(*level), size) > 0)
}

/// Every file of a log of this size: bundles, then tiles level by level, from the left.
pub fn tiles_of(size: u64) -> impl Iterator<Item = Tile> {
    let kinds = std::iter::once(TileKind::Entries).chain(levels(size).map(TileKind::Hashes));
    kinds.flat_map(move |kind| (0..).map_while(move |index| Tile::at(kind, index, size)))
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Entries => f.write_str("tile/entries/")?,
            TileKind::Hashes(level) => write!(f, "tile/{level}/")?,
        }
        let mut scale = 1;
        while self.index / scale >= 1_000 {
            scale *= 1_000;
        }
        while scale > 1 {
            write!(f, "x{:03}/", self.index / scale % 1_000)?;
            scale /= 1_000;
        }
        write!(f, "{:03}", self.index % 1_000)?;
        if self.is_partial() { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

/// The text is not the path of a log's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not the path of a log's file: expected tile/LEVEL/NUMBER or tile/entries/NUMBER, .p/WIDTH if partial")]
pub struct TilePathError;

impl FromStr for Tile {
    type Err = TilePathError;

    fn from_str(text: &str) -> Result<Self, TilePathError> {
        // What is read loosely here is only taken if it is written the same way again.
        let tile = read_path(text).ok_or(TilePathError)?;
        if tile.to_string() == text { Ok(tile) } else { Err(TilePathError) }
    }
}

fn read_path(text: &str) -> Option<Tile> {
    let rest = text.strip_prefix("tile/").filter(|_| text.len() <= PATH_LEN_MAX)?;
    let (level, rest) = rest.split_once('/')?;
    let kind = match level {
        "entries" => TileKind::Entries,
        level => TileKind::Hashes(level.parse().ok().filter(|level| *level < LEVELS_NAMED)?),
    };
    let (number, width) = match rest.split_once(".p/") {
        Some((number, width)) => (number, width.parse().ok().filter(|width| (1..TILE_WIDTH as u16).contains(width))?),
        None => (rest, TILE_WIDTH as u16),
    };
    let index = number.split('/').try_fold(0u64, |index, part| {
        let digits = part.strip_prefix('x').unwrap_or(part);
        index.checked_mul(1_000)?.checked_add(digits.parse::<u16>().ok()?.into())
    })?;
    (index <= TREE_SIZE_MAX / TILE_WIDTH).then_some(Tile { kind, index, width })
}

/// A bundle's bytes: each entry after its length (u16, big endian).
pub(crate) fn encode_bundle(entries: &[Digest]) -> Vec<u8> {
    entries.iter().flat_map(|entry| [&32u16.to_be_bytes()[..], &entry.0].concat()).collect()
}

/// The entries of a bundle, which holds `width` of them and nothing else; or the place in it of the first that is not
/// 32 bytes after their length.
pub(crate) fn decode_bundle(bytes: &[u8], width: usize) -> Result<Vec<Digest>, usize> {
    const ENTRY_LEN: usize = 34;
    let mut entries = Vec::with_capacity(width);
    for place in 0..width {
        let entry: Option<&[u8; ENTRY_LEN]> = bytes.get(place * ENTRY_LEN..).and_then(<[u8]>::first_chunk);
        match entry {
            Some([0, 32, digest @ ..]) => entries.push(Digest(*digest)),
            _ => return Err(place),
        }
    }
    if bytes.len() == width * ENTRY_LEN { Ok(entries) } else { Err(width) }
}

/// A tile's bytes.
pub(crate) fn encode_hashes(hashes: &[Digest]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// The hashes of a tile, if there are exactly `width`.
pub(crate) fn decode_hashes(bytes: &[u8], width: usize) -> Option<Vec<Digest>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    (rest.is_empty() && hashes.len() == width).then(|| hashes.iter().copied().map(Digest).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The example in the section on partial tiles of tlog-tiles.
    #[test]
    fn a_tree_of_70_000_has_the_tiles_of_the_specification() {
        let of =
            |level| -> Vec<Tile> { tiles_of(70_000).filter(|tile| tile.kind() == TileKind::Hashes(level)).collect() };
        assert_eq!(of(0).len(), 274);
        assert!(of(0)[..273].iter().all(|tile| !tile.is_partial()));
        assert_eq!(of(0)[273].to_string(), "tile/0/273.p/112");
        let level_1: Vec<String> = of(1).iter().map(Tile::to_string).collect();
        assert_eq!(level_1, ["tile/1/000", "tile/1/001.p/17"]);
        assert_eq!(of(2)[0].to_string(), "tile/2/000.p/1");
        assert_eq!((of(2).len(), of(3).len()), (1, 0));
        assert_eq!(tiles_of(70_000).filter(|tile| tile.kind() == TileKind::Entries).count(), 274);
    }

    #[test]
    fn a_tree_of_256_has_a_full_tile_and_one_above() {
        let all: Vec<String> = tiles_of(256).map(|tile| tile.to_string()).collect();
        assert_eq!(all, ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]);
        assert_eq!(tiles_of(0).count(), 0);
        let least: Vec<String> = tiles_of(1).map(|tile| tile.to_string()).collect();
        assert_eq!(least, ["tile/entries/000.p/1", "tile/0/000.p/1"]);
    }

    /// The index is the example of tlog-tiles; the others follow the tests of golang.org/x/mod/sumdb/tlog.
    #[test]
    fn paths_are_those_of_the_specification() {
        for (kind, index, width, path) in [
            (TileKind::Hashes(0), 1_234_067, 256, "tile/0/x001/x234/067"),
            (TileKind::Hashes(0), 1, 5, "tile/0/001.p/5"),
            (TileKind::Hashes(5), 123_456_078, 256, "tile/5/x123/x456/078"),
            (TileKind::Hashes(5), 123_456_078, 2, "tile/5/x123/x456/078.p/2"),
            (TileKind::Entries, 3_057_500, 255, "tile/entries/x003/x057/500.p/255"),
            (TileKind::Hashes(63), 0, 1, "tile/63/000.p/1"),
            (TileKind::Entries, TREE_SIZE_MAX / 256, 256, "tile/entries/x036/x028/x797/x018/x963/967"),
        ] {
            let tile = Tile { kind, index, width };
            assert_eq!(tile.to_string(), path);
            assert_eq!(path.parse(), Ok(tile), "{path}");
        }
    }

    #[test]
    fn other_spellings_of_a_path_are_refused() {
        for bad in [
            "",
            "tile",
            "tile/0",
            "tile/0/",
            "/tile/0/000",
            "tile/0/000/",
            "tile/00/000",
            "tile/+0/000",
            "tile/-1/000",
            "tile/64/000",
            "tile/x/000",
            "tile/data/000",
            "tile/0/0",
            "tile/0/0000",
            "tile/0/x000/000",
            "tile/0/123/456",
            "tile/0/x123/x456",
            "tile/0/+00",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/05",
            "tile/0/000.p/",
            "tile/0/000.p/5.p/5",
            "tile/0/000.p",
            "tile/0/../000",
            "tile/entries/x036/x028/x797/x018/x963/968",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert_eq!(bad.parse::<Tile>(), Err(TilePathError), "{bad}");
        }
    }

    #[test]
    fn bundles_are_read_as_they_are_written() {
        let entries: Vec<Digest> = (0u8..3).map(|byte| Digest([byte; 32])).collect();
        let bytes = encode_bundle(&entries);
        assert_eq!(bytes[..3], [0, 32, 0]);
        assert_eq!(decode_bundle(&bytes, 3), Ok(entries));
        assert_eq!(decode_bundle(&bytes, 2), Err(2), "more than its width");
        assert_eq!(decode_bundle(&bytes[..101], 3), Err(2));
        let mut other = bytes.clone();
        other[35] = 33;
        assert_eq!(decode_bundle(&other, 3), Err(1));
        assert_eq!(decode_bundle(&[], 0), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn any_path_is_read_as_it_is_written(level in 0u8..64, index in 0..=TREE_SIZE_MAX / 256, width in 1u16..=256) {
            for kind in [TileKind::Entries, TileKind::Hashes(level)] {
                let tile = Tile { kind, index, width };
                prop_assert_eq!(tile.to_string().parse(), Ok(tile));
            }
        }

        #[test]
        fn any_text_is_read_in_one_spelling(text in "(tile/)?(entries|[0-9+-]{0,3})/(x?[0-9]{0,4}/){0,3}x?[0-9]{0,4}(\\.p/[0-9]{0,4})?") {
            if let Ok(tile) = text.parse::<Tile>() {
                prop_assert_eq!(tile.to_string(), text);
            }
        }

        #[test]
        fn every_size_has_its_tiles(size in 0..=TREE_SIZE_MAX) {
            for level in levels(size) {
                let kind = TileKind::Hashes(level);
                let last = (count(kind, size) - 1) / 256;
                let tile = Tile::at(kind, last, size).unwrap();
                prop_assert_eq!(last * 256 + tile.width() as u64, count(kind, size));
                prop_assert_eq!(Tile::at(kind, last + 1, size), None);
            }
        }
    }
}
