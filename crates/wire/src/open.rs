//! The first look at bytes from outside, before anything is allocated: size, version, and how often each list's field
//! occurs. Decoding a list of empty messages would take a hundred times the memory of its bytes.

use crate::DecodeError;

/// The version of the agent protocol and of everything else that travels alone.
pub const VERSION: u32 = 1;

/// Field 1 of every message that travels alone.
const VERSION_FIELD: u64 = 1;

/// What is known of a message before it is decoded.
pub(crate) struct Frame {
    /// The message's name in the `.proto` files, for errors.
    pub(crate) message: &'static str,
    /// The most bytes that it may have.
    pub(crate) size_max: usize,
    /// Its lists: field number, name for errors, most entries.
    pub(crate) lists: &'static [(u64, &'static str, usize)],
}

impl Frame {
    /// Decodes bytes that hold a version, which must be ours.
    pub(crate) fn open<M: prost::Message + Default>(&self, bytes: &[u8]) -> Result<M, DecodeError> {
        let version = self.inspect(bytes)?;
        if version != u64::from(VERSION) {
            return Err(DecodeError::Version { message: self.message, found: version, supported: VERSION });
        }
        self.decode(bytes)
    }

    /// Decodes bytes that hold no version: it stands before them.
    pub(crate) fn open_unversioned<M: prost::Message + Default>(&self, bytes: &[u8]) -> Result<M, DecodeError> {
        self.inspect(bytes)?;
        self.decode(bytes)
    }

    fn decode<M: prost::Message + Default>(&self, bytes: &[u8]) -> Result<M, DecodeError> {
        M::decode(bytes).map_err(|source| DecodeError::Malformed { message: self.message, source: Some(source) })
    }

    /// Checks size and lists; returns the number in the version field, 0 if there is none.
    fn inspect(&self, bytes: &[u8]) -> Result<u64, DecodeError> {
        if bytes.len() > self.size_max {
            return Err(DecodeError::Size { message: self.message, found: bytes.len(), max: self.size_max });
        }
        let malformed = || DecodeError::Malformed { message: self.message, source: None };
        let mut version = 0;
        let mut counts = vec![0; self.lists.len()];
        let mut rest = bytes;
        while !rest.is_empty() {
            let key = take_varint(&mut rest).ok_or_else(malformed)?;
            let field = key >> 3;
            let value = take_value(key & 7, &mut rest).ok_or_else(malformed)?;
            if field == VERSION_FIELD
                && let Some(number) = value
            {
                version = number;
            }
            if let Some(list) = self.lists.iter().position(|(number, ..)| *number == field) {
                counts[list] += 1;
            }
        }
        for ((_, field, max), found) in self.lists.iter().zip(counts) {
            if found > *max {
                return Err(DecodeError::TooLong { field, found, max: *max });
            }
        }
        Ok(version)
    }
}

/// Skips a value of this wire type; gives it back if it is a varint. Nothing if the bytes end within it.
#[expect(clippy::option_option, reason = "cut off, no number, and a number are three cases of a private function")]
fn take_value(wire_type: u64, rest: &mut &[u8]) -> Option<Option<u64>> {
    let width = match wire_type {
        0 => return take_varint(rest).map(Some),
        1 => 8,
        2 => usize::try_from(take_varint(rest)?).ok()?,
        5 => 4,
        // Groups are no part of proto3.
        _ => return None,
    };
    *rest = rest.get(width..)?;
    Some(None)
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (place, byte) in rest.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            *rest = &rest[place + 1..];
            return Some(value);
        }
    }
    None
}
