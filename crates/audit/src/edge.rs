//! The files at a log's right edge, which are partial: fuller ones follow them, and they are removed after a while.

use crate::opening::{OPENINGS_WIDTH, openings_path};
use caii_tlog::{Tile, TileKind};

/// Levels of hashes in the largest log.
const LEVELS: u8 = 8;

/// The files at the right edge of a log of this size that are not full: tiles, a bundle of entries, openings. The full file
/// of each has its path up to `.p/`.
pub fn partial_files(size: u64) -> Vec<String> {
    let levels = (0..LEVELS).map(|level| (TileKind::Hashes(level), size >> (8 * level)));
    let kinds = [(TileKind::Entries, size)].into_iter().chain(levels);
    let edge = kinds.filter_map(|(kind, count)| Tile::at(kind, count / OPENINGS_WIDTH as u64, size));
    let mut files: Vec<String> = edge.filter(Tile::is_partial).map(|tile| tile.to_string()).collect();
    let width = size as usize % OPENINGS_WIDTH;
    if width > 0 {
        files.push(openings_path(size / OPENINGS_WIDTH as u64, width));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edge_of_70_000_entries() {
        let expected =
            ["tile/entries/273.p/112", "tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1", "opening/273.p/112"];
        assert_eq!(partial_files(70_000), expected);
        assert_eq!(partial_files(0), [""; 0]);
        assert_eq!(partial_files(256), ["tile/1/000.p/1"]);
        assert_eq!(partial_files(65_536), ["tile/2/000.p/1"]);
    }
}
