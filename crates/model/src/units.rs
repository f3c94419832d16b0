//! Newtyped units. A bare number never crosses a crate's border.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// Milliseconds since 1970-01-01T00:00:00Z, as the shell's clock says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The time since `earlier`; nothing if that is later.
    pub fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }

    /// Whole seconds since 1970, as the OpenAI API gives times.
    pub fn unix_seconds(self) -> u64 {
        self.0 / 1000
    }
}

impl Add<Millis> for Timestamp {
    type Output = Self;
    fn add(self, span: Millis) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub<Millis> for Timestamp {
    type Output = Self;
    fn sub(self, span: Millis) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}ms", self.0)
    }
}

/// A span of time in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub u64);

impl fmt::Debug for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

impl fmt::Display for Millis {
    /// To people: `850 ms`, `12.3 s`, `4 min 5 s`, `3 h 20 min`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms @ 0..1_000 => write!(f, "{ms} ms"),
            ms @ 1_000..60_000 => write!(f, "{}.{} s", ms / 1_000, ms % 1_000 / 100),
            ms @ 60_000..3_600_000 => write!(f, "{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
            ms => write!(f, "{} h {} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
        }
    }
}

/// Units of execution: wasm operators weighted by the operator cost table that a [`MeterId`](crate::MeterId) names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Fuel(pub u64);

impl Fuel {
    /// The sum, or nothing on overflow.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }
}

impl fmt::Debug for Fuel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} fuel", self.0)
    }
}

impl fmt::Display for Fuel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A count of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub u64);

impl Bytes {
    /// 2^20 bytes each.
    pub const fn mebi(count: u64) -> Self {
        Self(count << 20)
    }
}

impl AddAssign for Bytes {
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.saturating_add(other.0);
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}B", self.0)
    }
}

impl fmt::Display for Bytes {
    /// To people: `512 B`, `1.5 kB`, `90.9 MB`, `2.1 GB` (powers of 1000).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scaled = |unit: u64, name: &str, f: &mut fmt::Formatter<'_>| {
            write!(f, "{}.{} {name}", self.0 / unit, self.0 % unit / (unit / 10))
        };
        match self.0 {
            bytes @ 0..1_000 => write!(f, "{bytes} B"),
            1_000..1_000_000 => scaled(1_000, "kB", f),
            1_000_000..1_000_000_000 => scaled(1_000_000, "MB", f),
            _ => scaled(1_000_000_000, "GB", f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_units() {
        let texts: Vec<_> = [999, 12_345, 245_000, 12_000_000].map(|ms| Millis(ms).to_string()).into();
        assert_eq!(texts, ["999 ms", "12.3 s", "4 min 5 s", "3 h 20 min"]);
        let texts: Vec<_> = [512, 1_500, 90_868_376].map(|bytes| Bytes(bytes).to_string()).into();
        assert_eq!(texts, ["512 B", "1.5 kB", "90.8 MB"]);
    }
}
