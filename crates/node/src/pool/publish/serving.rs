//! Which files of a log of some size may be asked for.

use caii_audit::openings_path;
use caii_tlog::Tile;

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// A tile or a bundle of entries: it never changes.
    Tile,
    /// Openings: they never change, except that one may be erased.
    Openings,
    /// A tariff, by its digest.
    Tariff,
}

/// What the path names in a log of this size, if such a log may have it. Every path is taken in one spelling alone, so
/// what comes back never leaves the directory.
pub(crate) fn named(path: &str, size: u64) -> Option<Named> {
    let covered = |tile: &Tile| Tile::at(tile.kind(), tile.index(), size).is_some_and(|at| tile.width() <= at.width());
    if let Some(rest) = path.strip_prefix("opening/") {
        // Openings are numbered as the bundles that they stand beside.
        let bundle: Tile = format!("tile/entries/{rest}").parse().ok()?;
        let same = openings_path(bundle.index(), bundle.width()) == path;
        return (same && covered(&bundle)).then_some(Named::Openings);
    }
    if let Some(rest) = path.strip_prefix("tariff/") {
        let digest = rest.strip_suffix(".json")?;
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        return (size > 0 && digest.len() == 64 && digest.bytes().all(digit)).then_some(Named::Tariff);
    }
    let tile: Tile = path.parse().ok()?;
    covered(&tile).then_some(Named::Tile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_asked_for() {
        let digest = "ab".repeat(32);
        for (path, expected) in [
            ("tile/0/000", Some(Named::Tile)),
            ("tile/entries/000", Some(Named::Tile)),
            ("tile/entries/001.p/44", Some(Named::Tile)),
            // An earlier one, if it is still there.
            ("tile/entries/001.p/43", Some(Named::Tile)),
            ("tile/1/000.p/1", Some(Named::Tile)),
            ("opening/000", Some(Named::Openings)),
            ("opening/001.p/44", Some(Named::Openings)),
            (&format!("tariff/{digest}.json"), Some(Named::Tariff)),
            // No checkpoint covers these yet, so they may change.
            ("tile/entries/001", None),
            ("tile/entries/001.p/45", None),
            ("opening/001.p/45", None),
            ("tile/0/002", None),
            ("tile/1/000.p/2", None),
            ("tile/2/000.p/1", None),
            // Other spellings, other places.
            ("", None),
            ("tile", None),
            ("tile/", None),
            ("/tile/0/000", None),
            ("tile/0/0", None),
            ("tile/0/../0/000", None),
            ("tile/0//000", None),
            ("tile/0/000.p/256", None),
            ("tile/0/000/", None),
            ("opening/../../pool.key", None),
            ("opening/000.p/0", None),
            ("opening/x000/000", None),
            ("opening/entries/000", None),
            ("../pool.key", None),
            ("..%2fpool.key", None),
            ("tariff/../../pool.key", None),
            (&format!("tariff/{}.json", digest.to_uppercase()), None),
            (&format!("tariff/{digest}"), None),
            (".new", None),
            ("payout/1.xml", None),
        ] {
            assert_eq!(named(path, 300), expected, "{path}");
        }
    }
}
