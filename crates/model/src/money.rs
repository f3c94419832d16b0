//! Amounts of money: integers with checked arithmetic, shares in millionths, and splitting without a remainder.

use std::fmt;

/// An amount in millionths of a credit. Nothing here saturates or wraps: a sum that does not fit is no amount.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MicroCredits(pub i64);

impl MicroCredits {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The most there can be.
    pub const MAX: Self = Self(i64::MAX);

    /// So many whole credits, if that fits.
    pub const fn credits(credits: i64) -> Option<Self> {
        match credits.checked_mul(1_000_000) {
            Some(amount) => Some(Self(amount)),
            None => None,
        }
    }

    /// The sum, or nothing on overflow.
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The difference, or nothing on overflow.
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(difference) => Some(Self(difference)),
            None => None,
        }
    }

    /// The sum of all, or nothing if it does not fit. Added in a wider type, so the order makes no difference.
    pub fn checked_sum(amounts: impl IntoIterator<Item = Self>) -> Option<Self> {
        let sum = amounts.into_iter().try_fold(0i128, |sum, amount| sum.checked_add(i128::from(amount.0)));
        sum.and_then(|sum| i64::try_from(sum).ok()).map(Self)
    }
}

impl fmt::Debug for MicroCredits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}µcr", self.0)
    }
}

impl fmt::Display for MicroCredits {
    /// To people, exact: `0`, `1.5`, `-0.000001`, in credits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0.unsigned_abs() / 1_000_000, self.0.unsigned_abs() % 1_000_000);
        let sign = if self.0 < 0 { "-" } else { "" };
        if part == 0 {
            return write!(f, "{sign}{whole}");
        }
        let digits = format!("{part:06}");
        write!(f, "{sign}{whole}.{}", digits.trim_end_matches('0'))
    }
}

/// The text is no amount of credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoCredits;

impl fmt::Display for NoCredits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("write credits as `12` or `0.25`, with at most six decimals and not more than 9223372036854")
    }
}

impl std::error::Error for NoCredits {}

impl std::str::FromStr for MicroCredits {
    type Err = NoCredits;

    /// Reads credits as people write them: `12`, `0.25`.
    fn from_str(text: &str) -> Result<Self, NoCredits> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 6 {
            return Err(NoCredits);
        }
        let whole: i64 = whole.parse().map_err(|_| NoCredits)?;
        let part: i64 = format!("{part:0<6}").parse().map_err(|_| NoCredits)?;
        Self::credits(whole).and_then(|whole| whole.checked_add(Self(part))).ok_or(NoCredits)
    }
}

/// A share in parts per million.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ppm(pub u32);

impl Ppm {
    /// All of it.
    pub const ONE: Self = Self(1_000_000);
}

impl fmt::Debug for Ppm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ppm", self.0)
    }
}

impl fmt::Display for Ppm {
    /// To people, exact: `12.5 %`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 10_000, self.0 % 10_000);
        if part == 0 {
            return write!(f, "{whole} %");
        }
        let digits = format!("{part:04}");
        write!(f, "{whole}.{} %", digits.trim_end_matches('0'))
    }
}

/// Why an amount cannot be split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SplitError {
    /// There is less than nothing to split.
    Negative,
    /// No part has any weight, and there is something to split.
    NoWeight,
}

impl fmt::Display for SplitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Negative => "an amount below zero cannot be split",
            Self::NoWeight => "an amount cannot be split among parts that all weigh nothing",
        })
    }
}

impl std::error::Error for SplitError {}

/// Splits an amount in proportion to weights so that the parts sum to it exactly, by largest remainder: each part gets
/// its exact share rounded down; what is left goes, one micro-credit each, to the parts whose shares were cut by the
/// largest fractions, and among equal fractions to the part that stands earlier. A part without weight gets nothing.
///
/// # Errors
/// If the amount is negative, or nothing has weight.
pub fn split<const N: usize>(total: MicroCredits, weights: [u64; N]) -> Result<[MicroCredits; N], SplitError> {
    let amount = u64::try_from(total.0).map_err(|_| SplitError::Negative)?;
    if amount == 0 {
        return Ok([MicroCredits::ZERO; N]);
    }
    let whole: u128 = weights.iter().copied().map(u128::from).sum();
    if whole == 0 {
        return Err(SplitError::NoWeight);
    }
    // Products of two u64 fit in u128; a share is at most the amount, which came from an i64.
    let exact = weights.map(|weight| u128::from(amount) * u128::from(weight));
    let mut parts = exact.map(|product| MicroCredits((product / whole) as i64));
    let mut cut = exact.map(|product| product % whole);
    let left = amount - parts.iter().map(|part| part.0.unsigned_abs()).sum::<u64>();
    for _ in 0..left {
        // As many parts as are left over have a fraction: the fractions sum to exactly that many wholes, each below one.
        let largest = cut.iter().copied().max().unwrap_or_default();
        let place = cut.iter().position(|fraction| *fraction == largest).unwrap_or_default();
        parts[place].0 += 1;
        cut[place] = 0;
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn people_read_amounts() {
        let texts =
            [0, 1, -1, 1_500_000, -2_000_000, i64::MAX, i64::MIN].map(|amount| MicroCredits(amount).to_string());
        let expected = ["0", "0.000001", "-0.000001", "1.5", "-2", "9223372036854.775807", "-9223372036854.775808"];
        assert_eq!(texts, expected);
        assert_eq!([0, 1, 125_000, 1_000_000].map(|ppm| Ppm(ppm).to_string()), ["0 %", "0.0001 %", "12.5 %", "100 %"]);
    }

    #[test]
    fn people_write_amounts() {
        for (text, amount) in
            [("0", 0), ("12", 12_000_000), ("0.25", 250_000), ("0.000001", 1), ("9223372036854.775807", i64::MAX)]
        {
            assert_eq!(text.parse(), Ok(MicroCredits(amount)), "{text}");
            assert_eq!(MicroCredits(amount).to_string(), text);
        }
        for wrong in ["", "-1", "+1", ".5", "1.", "1.0000001", "1,5", " 1", "9223372036854.775808", "1e3", "0x1"] {
            assert_eq!(wrong.parse::<MicroCredits>(), Err(NoCredits), "{wrong}");
        }
    }

    #[test]
    fn overflow_is_no_amount() {
        assert_eq!(MicroCredits::MAX.checked_add(MicroCredits(1)), None);
        assert_eq!(MicroCredits(i64::MIN).checked_sub(MicroCredits(1)), None);
        assert_eq!(MicroCredits::credits(9_223_372_036_854), Some(MicroCredits(9_223_372_036_854_000_000)));
        assert_eq!(MicroCredits::credits(9_223_372_036_855), None);
        let there_and_back = [MicroCredits::MAX, MicroCredits(1), MicroCredits(-2)];
        assert_eq!(MicroCredits::checked_sum(there_and_back), Some(MicroCredits(i64::MAX - 1)));
        assert_eq!(MicroCredits::checked_sum([MicroCredits::MAX, MicroCredits(1)]), None);
    }

    #[test]
    fn the_largest_fraction_gets_what_is_left() {
        let split3 =
            |total, weights: [u64; 3]| split(MicroCredits(total), weights).map(|parts| parts.map(|part| part.0));
        assert_eq!(split3(100, [1, 1, 1]), Ok([34, 33, 33]), "equal fractions: the earlier part");
        assert_eq!(split3(101, [1, 1, 1]), Ok([34, 34, 33]));
        assert_eq!(split3(10, [6, 3, 1]), Ok([6, 3, 1]));
        assert_eq!(split3(7, [1, 0, 2]), Ok([2, 0, 5]), "fractions of one third and two thirds");
        assert_eq!(split3(1, [0, 5, 5]), Ok([0, 1, 0]));
        assert_eq!(split3(0, [0, 0, 0]), Ok([0, 0, 0]));
        assert_eq!(split3(1, [0, 0, 0]), Err(SplitError::NoWeight));
        assert_eq!(split3(-1, [1, 1, 1]), Err(SplitError::Negative));
        assert_eq!(split3(i64::MAX, [u64::MAX, u64::MAX, u64::MAX]).unwrap().iter().sum::<i64>(), i64::MAX);
        assert_eq!(split::<0>(MicroCredits(1), []), Err(SplitError::NoWeight));
    }

    proptest! {
        #[test]
        fn parts_sum_to_the_whole_and_are_within_one_of_their_share(
            total in 0..=i64::MAX,
            weights in prop::array::uniform5(prop_oneof![Just(0), 1..10u64, any::<u64>()]),
        ) {
            prop_assume!(weights.iter().any(|weight| *weight > 0));
            let parts = split(MicroCredits(total), weights).unwrap();
            prop_assert_eq!(MicroCredits::checked_sum(parts), Some(MicroCredits(total)));
            let whole: u128 = weights.iter().copied().map(u128::from).sum();
            for (part, weight) in parts.iter().zip(weights) {
                let floor = (total as u128 * u128::from(weight) / whole) as i64;
                prop_assert!(part.0 == floor || part.0 == floor + 1, "{:?} of {}", part, floor);
                prop_assert!(weight > 0 || part.0 == 0);
            }
        }
    }
}
