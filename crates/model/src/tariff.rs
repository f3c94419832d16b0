//! The tariff: what work earns and costs, as integers that anybody can compute with.
//!
//! A tariff is published before it holds and is named by the digest of its canonical bytes; every receipt carries that
//! digest. [`crate::reward`] and [`crate::price`] are the only readers of its coefficients.

use crate::canonical::{CanonicalError, CanonicalReader, CanonicalWriter};
use crate::{Digest, MicroCredits, Millis, Ppm, Timestamp};
use std::fmt;

/// What a tariff says. Rates are micro-credits; each clause names its unit and how it rounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TariffTerms {
    /// Counts up with every tariff of a pool, from 1.
    pub number: u32,
    /// From when it holds.
    pub effective_from: Timestamp,
    /// Compute: micro-credits for 10^9 units of verified fuel.
    pub compute_rate: MicroCredits,
    /// Reliability: what a device whose work is always accepted earns beyond compute.
    pub reliability_bonus: Ppm,
    /// Reliability: the share of accepted work at which the bonus begins; it grows in a straight line from here.
    pub reliability_share_floor: Ppm,
    /// Availability: micro-credits for an hour of challenged presence.
    pub availability_rate: MicroCredits,
    /// Availability: how much presence is paid in a day.
    pub availability_daily_max: Millis,
    /// Energy: micro-credits for a kilojoule.
    pub energy_rate: MicroCredits,
    /// Energy: the joules that are certified for 10^9 units of fuel; more is not paid, whatever is reported.
    pub energy_certified_joules: u64,
    /// What requesters pay for verification, as a share of the work's price; flat, so that it is known before.
    pub verification_surcharge: Ppm,
    /// What the pool takes, as a share of the work's price, on top.
    pub pool_fee: Ppm,
    /// What is held back from the reward of a device on probation.
    pub probation_holdback: Ppm,
}

/// A tariff whose terms were checked: no reward by it is above the price of the same work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tariff(TariffTerms);

/// Why terms are no tariff.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TariffInvalid {
    /// A coefficient is out of its range.
    Range {
        /// Which.
        field: &'static str,
        /// The least that is allowed.
        min: u64,
        /// The most that is allowed.
        max: u64,
    },
}

impl fmt::Display for TariffInvalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range { field, min, max } => write!(f, "the tariff's `{field}` must be from {min} to {max}"),
        }
    }
}

impl std::error::Error for TariffInvalid {}

impl Tariff {
    /// A thousand million credits: no rate needs more, and a task's amounts stay far from overflow.
    pub const RATE_MAX: u64 = 1_000_000_000_000_000;
    /// A gigajoule for 10^9 units of fuel.
    pub const CERTIFIED_JOULES_MAX: u64 = 1_000_000_000;

    const KIND: &[u8; 8] = b"caiitrf1";

    /// The tariff of these terms.
    ///
    /// # Errors
    /// If a coefficient is out of its range. Within the ranges a reward cannot exceed the price of the same work: rates
    /// are not negative, the bonus ends at its full value (which the price charges), and the floor of the bonus lies
    /// below a full share, so that the line from it has a slope.
    pub fn new(terms: TariffTerms) -> Result<Self, TariffInvalid> {
        let range = |field, value: u64, min, max| {
            if (min..=max).contains(&value) { Ok(()) } else { Err(TariffInvalid::Range { field, min, max }) }
        };
        // A negative rate is outside of its range as well.
        let rate = |field, rate: MicroCredits| range(field, rate.0.try_into().unwrap_or(u64::MAX), 0, Self::RATE_MAX);
        let share = |field, share: Ppm, max: u32| range(field, u64::from(share.0), 0, u64::from(max));
        range("number", u64::from(terms.number), 1, u64::from(u32::MAX))?;
        rate("compute_rate", terms.compute_rate)?;
        share("reliability_bonus", terms.reliability_bonus, Ppm::ONE.0)?;
        share("reliability_share_floor", terms.reliability_share_floor, Ppm::ONE.0 - 1)?;
        rate("availability_rate", terms.availability_rate)?;
        range("availability_daily_max", terms.availability_daily_max.0, 0, 86_400_000)?;
        rate("energy_rate", terms.energy_rate)?;
        range("energy_certified_joules", terms.energy_certified_joules, 0, Self::CERTIFIED_JOULES_MAX)?;
        share("verification_surcharge", terms.verification_surcharge, Ppm::ONE.0)?;
        share("pool_fee", terms.pool_fee, Ppm::ONE.0)?;
        share("probation_holdback", terms.probation_holdback, Ppm::ONE.0)?;
        Ok(Self(terms))
    }

    /// What it says.
    pub fn terms(&self) -> &TariffTerms {
        &self.0
    }

    /// What names it: the digest of its canonical bytes.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_canonical())
    }

    /// Its canonical bytes, 80 of them:
    ///
    /// | offset | bytes | field |
    /// |---|---|---|
    /// | 0 | 8 | `caiitrf1` |
    /// | 8 | 4 | number |
    /// | 12 | 8 | effective from, milliseconds since 1970 |
    /// | 20 | 8 | compute rate |
    /// | 28 | 4 | reliability bonus |
    /// | 32 | 4 | reliability share floor |
    /// | 36 | 8 | availability rate |
    /// | 44 | 8 | availability daily maximum, milliseconds |
    /// | 52 | 8 | energy rate |
    /// | 60 | 8 | energy certified joules |
    /// | 68 | 4 | verification surcharge |
    /// | 72 | 4 | pool fee |
    /// | 76 | 4 | probation holdback |
    pub fn to_canonical(&self) -> Vec<u8> {
        let terms = &self.0;
        CanonicalWriter::new(Self::KIND)
            .u32(terms.number)
            .u64(terms.effective_from.0)
            .amount(terms.compute_rate)
            .u32(terms.reliability_bonus.0)
            .u32(terms.reliability_share_floor.0)
            .amount(terms.availability_rate)
            .u64(terms.availability_daily_max.0)
            .amount(terms.energy_rate)
            .u64(terms.energy_certified_joules)
            .u32(terms.verification_surcharge.0)
            .u32(terms.pool_fee.0)
            .u32(terms.probation_holdback.0)
            .finish()
    }

    /// The tariff of these bytes.
    ///
    /// # Errors
    /// If they are not the canonical form of a tariff, or its terms are out of range.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, CanonicalError> {
        let mut reader = CanonicalReader::new(Self::KIND, bytes)?;
        let terms = TariffTerms {
            number: reader.u32("number")?,
            effective_from: reader.time("effective_from")?,
            compute_rate: reader.amount("compute_rate")?,
            reliability_bonus: reader.u32("reliability_bonus").map(Ppm)?,
            reliability_share_floor: reader.u32("reliability_share_floor").map(Ppm)?,
            availability_rate: reader.amount("availability_rate")?,
            availability_daily_max: reader.millis("availability_daily_max")?,
            energy_rate: reader.amount("energy_rate")?,
            energy_certified_joules: reader.u64("energy_certified_joules")?,
            verification_surcharge: reader.u32("verification_surcharge").map(Ppm)?,
            pool_fee: reader.u32("pool_fee").map(Ppm)?,
            probation_holdback: reader.u32("probation_holdback").map(Ppm)?,
        };
        reader.end()?;
        Self::new(terms).map_err(|TariffInvalid::Range { field, .. }| CanonicalError::Field { field })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use proptest::prelude::*;

    #[test]
    fn terms_out_of_range_are_no_tariff() {
        let good = testing::terms();
        assert!(Tariff::new(good.clone()).is_ok());
        type Change = fn(&mut TariffTerms);
        let changes: [(&str, Change); 12] = [
            ("number", |t| t.number = 0),
            ("compute_rate", |t| t.compute_rate = MicroCredits(-1)),
            ("compute_rate", |t| t.compute_rate = MicroCredits(1_000_000_000_000_001)),
            ("reliability_bonus", |t| t.reliability_bonus = Ppm(1_000_001)),
            ("reliability_share_floor", |t| t.reliability_share_floor = Ppm(1_000_000)),
            ("availability_rate", |t| t.availability_rate = MicroCredits(i64::MIN)),
            ("availability_daily_max", |t| t.availability_daily_max = Millis(86_400_001)),
            ("energy_rate", |t| t.energy_rate = MicroCredits(-1)),
            ("energy_certified_joules", |t| t.energy_certified_joules = 1_000_000_001),
            ("verification_surcharge", |t| t.verification_surcharge = Ppm(1_000_001)),
            ("pool_fee", |t| t.pool_fee = Ppm(1_000_001)),
            ("probation_holdback", |t| t.probation_holdback = Ppm(1_000_001)),
        ];
        for (expected, change) in changes {
            let mut terms = good.clone();
            change(&mut terms);
            let Err(TariffInvalid::Range { field, .. }) = Tariff::new(terms) else { panic!("{expected} was taken") };
            assert_eq!(field, expected);
        }
    }

    proptest! {
        #[test]
        fn canonical_bytes_are_read_as_they_are_written(one in testing::any_tariff(), other in testing::any_tariff()) {
            let bytes = one.to_canonical();
            prop_assert_eq!(bytes.len(), 80);
            prop_assert_eq!(Tariff::from_canonical(&bytes), Ok(one.clone()));
            prop_assert_eq!(one == other, bytes == other.to_canonical());
            prop_assert_eq!(one == other, one.digest() == other.digest());
            prop_assert!(Tariff::from_canonical(&bytes[..bytes.len() - 1]).is_err());
            prop_assert!(Tariff::from_canonical(&[&bytes[..], &[0]].concat()).is_err());
        }

        /// Whatever is accepted is the one form of what it says.
        #[test]
        fn changed_bytes_are_refused_or_mean_something_else(
            tariff in testing::any_tariff(), at in 0..80usize, bit in 0..8u8,
        ) {
            let mut bytes = tariff.to_canonical();
            bytes[at] ^= 1 << bit;
            if let Ok(changed) = Tariff::from_canonical(&bytes) {
                prop_assert_ne!(&changed, &tariff);
                prop_assert_eq!(changed.to_canonical(), bytes);
            }
        }
    }
}
