//! Where a log's files are read: from whatever the shell has, through one method.

use crate::tile::{Tile, TileKind, decode_bundle, decode_hashes};
use caii_model::Digest;
use std::collections::BTreeMap;
use std::error::Error;
use thiserror::Error;

/// A place where a log's files are.
pub trait TileReader {
    /// Why a file cannot be read.
    type Error: Error + 'static;

    /// The bytes of the file at this path.
    ///
    /// # Errors
    /// If it is not there or cannot be read.
    fn tile(&self, tile: &Tile) -> Result<Vec<u8>, Self::Error>;
}

/// Why a file of the log is of no use.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TileError<E: Error + 'static> {
    /// It cannot be read.
    #[error("{tile} cannot be read")]
    Unreadable {
        /// Which.
        tile: Tile,
        /// Why.
        source: E,
    },
    /// It has not as many hashes as its name says.
    #[error("{tile} has {found} bytes; {} hashes have {}", tile.width(), 32 * tile.width())]
    TileLength {
        /// Which.
        tile: Tile,
        /// Bytes.
        found: usize,
    },
    /// It has not as many entries of 32 bytes as its name says.
    #[error("{tile} is no bundle of {} entries: what should be entry {index} is none", tile.width())]
    Bundle {
        /// Which.
        tile: Tile,
        /// The number in the log of the first that is none.
        index: u64,
    },
}

/// The bytes of a file. A log may drop a partial file once the full one is there: then its beginning will do.
fn read<R: TileReader + ?Sized>(
    reader: &R,
    tile: &Tile,
    bytes_per_place: usize,
) -> Result<Vec<u8>, TileError<R::Error>> {
    let unreadable = |source| TileError::Unreadable { tile: *tile, source };
    match reader.tile(tile) {
        Ok(bytes) => Ok(bytes),
        Err(source) if tile.is_partial() => {
            // If the full one is not there either, the missing one is what was asked for.
            let mut bytes = reader.tile(&tile.filled()).map_err(|_| unreadable(source))?;
            bytes.truncate(tile.width() * bytes_per_place);
            Ok(bytes)
        }
        Err(source) => Err(unreadable(source)),
    }
}

pub(crate) fn read_hashes<R: TileReader + ?Sized>(reader: &R, tile: &Tile) -> Result<Vec<Digest>, TileError<R::Error>> {
    let bytes = read(reader, tile, 32)?;
    decode_hashes(&bytes, tile.width()).ok_or(TileError::TileLength { tile: *tile, found: bytes.len() })
}

pub(crate) fn read_bundle<R: TileReader + ?Sized>(reader: &R, tile: &Tile) -> Result<Vec<Digest>, TileError<R::Error>> {
    let bytes = read(reader, tile, 34)?;
    decode_bundle(&bytes, tile.width())
        .map_err(|place| TileError::Bundle { tile: *tile, index: tile.index() * 256 + place as u64 })
}

/// The entries of bundle number `index` of a log with `size` entries, as they stand there: nothing is checked, which is
/// for [`fsck`](crate::fsck) or proofs. None if there is no such bundle.
///
/// # Errors
/// If the bundle cannot be read or is none.
pub fn read_entries<R: TileReader + ?Sized>(
    reader: &R,
    size: u64,
    index: u64,
) -> Result<Vec<Digest>, TileError<R::Error>> {
    Tile::at(TileKind::Entries, index, size).map_or(Ok(Vec::new()), |tile| read_bundle(reader, &tile))
}

/// A log's files in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryTiles(pub BTreeMap<Tile, Vec<u8>>);

/// There is no such file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("there is no such file")]
pub struct TileMissing;

impl TileReader for MemoryTiles {
    type Error = TileMissing;

    fn tile(&self, tile: &Tile) -> Result<Vec<u8>, TileMissing> {
        self.0.get(tile).cloned().ok_or(TileMissing)
    }
}
