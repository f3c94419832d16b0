//! Openings: what the log's entries commit to, in files that stand beside the log's own bundles of entries.
//!
//! A file holds the openings of up to 256 entries in their order. Most receipts of a pool are alike but for a few fields,
//! so an opening may be written as what differs from an earlier one of its file. An opening can be erased: then the log
//! stands as before, and the file says what kind of entry nobody can check any more.

use crate::logged::{ENTRY_SIZE_MAX, Kind};
use caii_model::Digest;
use std::fmt;
use thiserror::Error;

/// Bytes of what stands beside an entry: an envelope of the largest size.
pub const ATTACHMENT_SIZE_MAX: usize = caii_trust::dsse::ENVELOPE_SIZE_MAX;
/// Bytes of a file.
pub const OPENINGS_SIZE_MAX: usize = 64 << 20;
/// Openings of a full file.
pub const OPENINGS_WIDTH: usize = 256;

const HEAD: &[u8; 8] = b"caiiops1";

/// What an entry of the log commits to, or that nobody knows any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// The entry is SHA-256 of salt and bytes.
    Open {
        /// What keeps anybody from testing guesses against the entry once this is erased.
        salt: [u8; 32],
        /// Canonical bytes.
        bytes: Vec<u8>,
        /// What the bytes name by its digest.
        attachment: Vec<u8>,
    },
    /// Salt and bytes were deleted.
    Erased {
        /// What it was, as the pool says.
        kind: Kind,
    },
}

/// Where in the file the openings end, and what is wrong there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OpeningsError {
    /// The file is too large.
    #[error("the file has {found} bytes; at most {OPENINGS_SIZE_MAX} are read")]
    TooLarge {
        /// Its bytes.
        found: usize,
    },
    /// It begins otherwise.
    #[error("the file does not begin as a file of openings does")]
    Head,
    /// An opening cannot be read.
    #[error("opening {place} of the file cannot be read: {why}")]
    Opening {
        /// Its place in the file, from 0.
        place: usize,
        /// Why.
        why: &'static str,
    },
    /// Something follows the last one.
    #[error("{by} bytes follow the pool's signature")]
    TooLong {
        /// How many.
        by: usize,
    },
    /// There is no signature.
    #[error("the file ends before the pool's signature")]
    Signature,
}

/// The openings of one bundle of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Openings {
    /// In the order of entries.
    pub openings: Vec<Opening>,
    /// The pool's signature over the entries, by [`bundle_digest`] for [`SIGNED_FOR`].
    pub signature: [u8; 64],
}

/// The purpose of the pool's signature over a bundle.
pub const SIGNED_FOR: &str = "bundle";

/// What the pool signs of a bundle of entries: `caiibdl1`, the bundle's number, the entries. It covers every receipt of
/// the bundle by its commitment, so erasing one changes nothing.
pub fn bundle_digest(number: u64, entries: &[Digest]) -> Digest {
    let mut bytes = Vec::with_capacity(16 + 32 * entries.len());
    bytes.extend_from_slice(b"caiibdl1");
    bytes.extend_from_slice(&number.to_le_bytes());
    entries.iter().for_each(|entry| bytes.extend_from_slice(&entry.0));
    Digest::of(&bytes)
}

impl Opening {
    /// The entry of the log that this opens; nothing if it was erased.
    pub fn entry(&self) -> Option<Digest> {
        match self {
            Self::Open { salt, bytes, .. } => Some(commitment(salt, bytes)),
            Self::Erased { .. } => None,
        }
    }
}

/// SHA-256 of salt and bytes.
pub fn commitment(salt: &[u8; 32], bytes: &[u8]) -> Digest {
    Digest::of(&[&salt[..], bytes].concat())
}

/// The path of the file beside bundle `number` of a log with `size` entries.
pub fn openings_path(number: u64, width: usize) -> String {
    let mut path = String::from("opening/");
    let mut scale = 1;
    while number / scale >= 1_000 {
        scale *= 1_000;
    }
    while scale > 1 {
        path.push_str(&format!("x{:03}/", number / scale % 1_000));
        scale /= 1_000;
    }
    path.push_str(&format!("{:03}", number % 1_000));
    if width < OPENINGS_WIDTH {
        path.push_str(&format!(".p/{width}"));
    }
    path
}

const ERASED: u8 = 0;
const WHOLE: u8 = 1;
const LIKE: u8 = 2;

/// Equal bytes that are worth ending a run of different ones for: what it costs to begin another.
const EQUAL_MIN: usize = 3;
/// Earlier openings that one is compared with.
const CANDIDATES: usize = 4;

impl Openings {
    /// The file. What it is compared with is the writer's choice; readers take any.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut file = HEAD.to_vec();
        for (place, opening) in self.openings.iter().enumerate() {
            match opening {
                Opening::Erased { kind } => file.extend([ERASED, kind.code()]),
                Opening::Open { salt, bytes, attachment } => {
                    let whole = [&varint(bytes.len())[..], bytes].concat();
                    let like = self.like(place, bytes).filter(|(_, patch)| patch.len() < whole.len());
                    match like {
                        Some((back, patch)) => {
                            file.extend([LIKE, back]);
                            file.extend_from_slice(salt);
                            file.extend_from_slice(&patch);
                        }
                        None => {
                            file.push(WHOLE);
                            file.extend_from_slice(salt);
                            file.extend_from_slice(&whole);
                        }
                    }
                    file.extend_from_slice(&varint(attachment.len()));
                    file.extend_from_slice(attachment);
                }
            }
        }
        file.extend_from_slice(&self.signature);
        file
    }

    /// The earlier opening with bytes of the same kind and length that leaves least to write, and what is left.
    fn like(&self, place: usize, bytes: &[u8]) -> Option<(u8, Vec<u8>)> {
        let earlier = self.openings[..place].iter().rev().zip(1..=u8::MAX);
        let same = earlier.filter_map(|(opening, back)| match opening {
            Opening::Open { bytes: other, .. } if other.len() == bytes.len() && other.get(..8) == bytes.get(..8) => {
                Some((back, other))
            }
            Opening::Open { .. } | Opening::Erased { .. } => None,
        });
        same.take(CANDIDATES).map(|(back, other)| (back, patch(other, bytes))).min_by_key(|(_, patch)| patch.len())
    }

    /// Reads a file of this many openings. Whether they belong to the log is not looked at.
    ///
    /// # Errors
    /// If it is none.
    pub fn from_bytes(file: &[u8], width: usize) -> Result<Self, OpeningsError> {
        if file.len() > OPENINGS_SIZE_MAX {
            return Err(OpeningsError::TooLarge { found: file.len() });
        }
        let mut rest = file.strip_prefix(HEAD).ok_or(OpeningsError::Head)?;
        let mut openings: Vec<Opening> = Vec::with_capacity(width.min(OPENINGS_WIDTH));
        // What differences expand to is bounded as what is written is.
        let mut size = 0usize;
        for place in 0..width {
            let opening = read_opening(&mut rest, &openings).map_err(|why| OpeningsError::Opening { place, why })?;
            if let Opening::Open { bytes, attachment, .. } = &opening {
                size += bytes.len() + attachment.len();
            }
            if size > OPENINGS_SIZE_MAX {
                return Err(OpeningsError::TooLarge { found: size });
            }
            openings.push(opening);
        }
        let (signature, rest) = rest.split_first_chunk().ok_or(OpeningsError::Signature)?;
        if !rest.is_empty() {
            return Err(OpeningsError::TooLong { by: rest.len() });
        }
        Ok(Self { openings, signature: *signature })
    }
}

fn read_opening(rest: &mut &[u8], before: &[Opening]) -> Result<Opening, &'static str> {
    match take_byte(rest)? {
        ERASED => {
            let code = take_byte(rest)?;
            let kind = Kind::ALL.into_iter().find(|kind| kind.code() == code);
            Ok(Opening::Erased { kind: kind.ok_or("it was erased and its kind is unknown")? })
        }
        WHOLE => {
            let salt = take_salt(rest)?;
            let length = take_varint(rest, ENTRY_SIZE_MAX)?;
            let bytes = take(rest, length)?.to_vec();
            Ok(Opening::Open { salt, bytes, attachment: take_attachment(rest)? })
        }
        LIKE => {
            let back = usize::from(take_byte(rest)?);
            let other = before.len().checked_sub(back).filter(|_| back > 0).map(|place| &before[place]);
            let Some(Opening::Open { bytes: other, .. }) = other else {
                return Err("it is said to be like one that is not there");
            };
            let salt = take_salt(rest)?;
            let bytes = apply(other, rest)?;
            Ok(Opening::Open { salt, bytes, attachment: take_attachment(rest)? })
        }
        _ => Err("its first byte is none of 0, 1 and 2"),
    }
}

/// What makes `bytes` out of `other` of the same length: again and again how many bytes are equal, how many differ, and
/// those; until all are written.
fn patch(other: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut patch = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let equal = other[at..].iter().zip(&bytes[at..]).take_while(|(one, two)| one == two).count();
        let begin = at + equal;
        let mut end = begin;
        while end < bytes.len() {
            let equal =
                other[end..].iter().zip(&bytes[end..]).take(EQUAL_MIN).take_while(|(one, two)| one == two).count();
            if equal == EQUAL_MIN || (equal > 0 && end + equal == bytes.len()) {
                break;
            }
            end += equal + usize::from(end + equal < bytes.len());
        }
        patch.extend(varint(equal));
        patch.extend(varint(end - begin));
        patch.extend_from_slice(&bytes[begin..end]);
        at = end;
    }
    patch
}

fn apply(other: &[u8], rest: &mut &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut bytes = Vec::with_capacity(other.len());
    while bytes.len() < other.len() {
        let left = other.len() - bytes.len();
        let equal = take_varint(rest, left)?;
        let differ = take_varint(rest, left - equal)?;
        if equal + differ == 0 {
            return Err("a difference that says nothing");
        }
        bytes.extend_from_slice(&other[bytes.len()..bytes.len() + equal]);
        bytes.extend_from_slice(take(rest, differ)?);
    }
    Ok(bytes)
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// The number in its shortest form, at most `max`.
fn take_varint(rest: &mut &[u8], max: usize) -> Result<usize, &'static str> {
    let mut value = 0usize;
    for shift in (0..28).step_by(7) {
        let byte = take_byte(rest)?;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            if byte == 0 && shift > 0 {
                return Err("a length is written longer than it need be");
            }
            return if value <= max { Ok(value) } else { Err("a length is larger than it may be") };
        }
    }
    Err("a length is larger than it may be")
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], &'static str> {
    let (bytes, after) = rest.split_at_checked(length).ok_or("the file ends within it")?;
    *rest = after;
    Ok(bytes)
}

fn take_byte(rest: &mut &[u8]) -> Result<u8, &'static str> {
    take(rest, 1).map(|bytes| bytes[0])
}

fn take_salt(rest: &mut &[u8]) -> Result<[u8; 32], &'static str> {
    let (salt, after) = rest.split_first_chunk().ok_or("the file ends within it")?;
    *rest = after;
    Ok(*salt)
}

fn take_attachment(rest: &mut &[u8]) -> Result<Vec<u8>, &'static str> {
    let length = take_varint(rest, ATTACHMENT_SIZE_MAX)?;
    take(rest, length).map(<[u8]>::to_vec)
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_opening() -> impl Strategy<Value = Opening> {
        let bytes = prop_oneof![
            prop::collection::vec(0..3u8, 0..40),
            prop::collection::vec(0..3u8, 20..22).prop_map(|rest| [&b"caiircp1"[..], &rest].concat()),
            prop::collection::vec(any::<u8>(), 300..400),
        ];
        let attachment = prop_oneof![3 => Just(vec![]), 1 => prop::collection::vec(any::<u8>(), 0..200)];
        prop_oneof![
            6 => (any::<[u8; 32]>(), bytes, attachment)
                .prop_map(|(salt, bytes, attachment)| Opening::Open { salt, bytes, attachment }),
            1 => prop::sample::select(&Kind::ALL[..]).prop_map(|kind| Opening::Erased { kind }),
        ]
    }

    proptest! {
        #[test]
        fn files_are_read_as_they_are_written(
            openings in prop::collection::vec(any_opening(), 0..40), signature in prop::collection::vec(any::<u8>(), 64),
        ) {
            let width = openings.len();
            let written = Openings { openings, signature: signature.try_into().unwrap() };
            let file = written.to_bytes();
            prop_assert_eq!(Openings::from_bytes(&file, width), Ok(written));
            prop_assert!(Openings::from_bytes(&file[..file.len() - 1], width).is_err());
            prop_assert!(Openings::from_bytes(&[&file[..], &[0]].concat(), width).is_err());
        }
    }

    #[test]
    fn what_is_alike_is_written_once() {
        let bytes = |n: u8| [&b"caiircp1"[..], &[7; 300], &[n; 8], &[9; 30]].concat();
        let open = |n| Opening::Open { salt: [n; 32], bytes: bytes(n), attachment: vec![] };
        let file = Openings { openings: (0..10).map(open).collect(), signature: [0; 64] }.to_bytes();
        // Head and signature; one whole; nine of marker, distance, salt, skip (2), run (1), 8, skip, none, attachment.
        assert_eq!(file.len(), 72 + (1 + 32 + 2 + 346 + 1) + 9 * (2 + 32 + 3 + 8 + 2 + 1));
    }

    #[test]
    fn kinds_are_numbered_in_their_order() {
        for (code, kind) in (1..).zip(Kind::ALL) {
            assert_eq!((kind.code(), Kind::of(kind.tag())), (code, Some(kind)), "{kind}");
        }
    }

    #[test]
    fn paths_follow_those_of_entry_bundles() {
        assert_eq!(openings_path(0, 37), "opening/000.p/37");
        assert_eq!(openings_path(1_234_067, 256), "opening/x001/x234/067");
    }
}
