//! Canonical bytes of what is signed, logged or replayed: fields of fixed width in a stated order, little endian, texts
//! after their length. One value has one form, and what is read is what would be written.

use crate::{Account, Digest, Fuel, MicroCredits, Millis, Timestamp};
use std::fmt;

/// Why bytes are not the canonical form of what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CanonicalError {
    /// They end before this field does.
    Short {
        /// Which.
        field: &'static str,
    },
    /// They go on after the last field.
    TooLong {
        /// By how many bytes.
        by: usize,
    },
    /// They are of another kind or version.
    Kind,
    /// The field holds nothing that is known or allowed.
    Field {
        /// Which.
        field: &'static str,
    },
}

impl fmt::Display for CanonicalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { field } => write!(f, "the bytes end within `{field}`"),
            Self::TooLong { by } => write!(f, "{by} bytes follow the last field"),
            Self::Kind => f.write_str("the bytes are of another kind or version"),
            Self::Field { field } => write!(f, "`{field}` holds nothing that this release knows or allows"),
        }
    }
}

impl std::error::Error for CanonicalError {}

/// Writes fields one after another.
#[derive(Debug)]
pub struct CanonicalWriter(Vec<u8>);

impl CanonicalWriter {
    /// Begins with eight bytes that name the kind and its version.
    pub fn new(kind: &[u8; 8]) -> Self {
        Self(kind.to_vec())
    }

    /// Bytes whose number the layout fixes.
    pub fn fixed(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// One byte.
    pub fn u8(self, value: u8) -> Self {
        self.fixed(&[value])
    }

    /// Four bytes.
    pub fn u32(self, value: u32) -> Self {
        self.fixed(&value.to_le_bytes())
    }

    /// Eight bytes.
    pub fn u64(self, value: u64) -> Self {
        self.fixed(&value.to_le_bytes())
    }

    /// Eight bytes, two's complement.
    pub fn amount(self, value: MicroCredits) -> Self {
        self.fixed(&value.0.to_le_bytes())
    }

    /// 32 bytes.
    pub fn digest(self, value: &Digest) -> Self {
        self.fixed(&value.0)
    }

    /// Two bytes of length, then the name.
    pub fn account(self, value: &Account) -> Self {
        let name = value.as_str().as_bytes();
        // An account's name has at most 64 bytes.
        self.fixed(&(name.len() as u16).to_le_bytes()).fixed(name)
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Reads fields one after another; each read names its field for the error.
#[derive(Debug)]
pub struct CanonicalReader<'a>(&'a [u8]);

impl<'a> CanonicalReader<'a> {
    /// Expects the eight bytes that name the kind and its version.
    pub fn new(kind: &[u8; 8], bytes: &'a [u8]) -> Result<Self, CanonicalError> {
        bytes.strip_prefix(kind).map(Self).ok_or(CanonicalError::Kind)
    }

    /// So many bytes.
    pub fn fixed<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], CanonicalError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(CanonicalError::Short { field })?;
        self.0 = rest;
        Ok(*bytes)
    }

    /// One byte.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, CanonicalError> {
        self.fixed(field).map(|[byte]| byte)
    }

    /// One byte, 0 or 1.
    pub fn flag(&mut self, field: &'static str) -> Result<bool, CanonicalError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(CanonicalError::Field { field }),
        }
    }

    /// Four bytes.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, CanonicalError> {
        self.fixed(field).map(u32::from_le_bytes)
    }

    /// Eight bytes.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, CanonicalError> {
        self.fixed(field).map(u64::from_le_bytes)
    }

    /// Eight bytes: fuel.
    pub fn fuel(&mut self, field: &'static str) -> Result<Fuel, CanonicalError> {
        self.u64(field).map(Fuel)
    }

    /// Eight bytes: a time.
    pub fn time(&mut self, field: &'static str) -> Result<Timestamp, CanonicalError> {
        self.u64(field).map(Timestamp)
    }

    /// Eight bytes: a span of time.
    pub fn millis(&mut self, field: &'static str) -> Result<Millis, CanonicalError> {
        self.u64(field).map(Millis)
    }

    /// Eight bytes, two's complement: an amount.
    pub fn amount(&mut self, field: &'static str) -> Result<MicroCredits, CanonicalError> {
        self.fixed(field).map(i64::from_le_bytes).map(MicroCredits)
    }

    /// 32 bytes.
    pub fn digest(&mut self, field: &'static str) -> Result<Digest, CanonicalError> {
        self.fixed(field).map(Digest)
    }

    /// Two bytes of length, then the name of an account.
    pub fn account(&mut self, field: &'static str) -> Result<Account, CanonicalError> {
        let length = usize::from(u16::from_le_bytes(self.fixed(field)?));
        let (name, rest) = self.0.split_at_checked(length).ok_or(CanonicalError::Short { field })?;
        self.0 = rest;
        let name = std::str::from_utf8(name).ok();
        name.and_then(Account::new).ok_or(CanonicalError::Field { field })
    }

    /// Expects the end.
    pub fn end(self) -> Result<(), CanonicalError> {
        match self.0.len() {
            0 => Ok(()),
            by => Err(CanonicalError::TooLong { by }),
        }
    }
}
