//! Currencies, their smallest units, and the rate from micro-credits.

use caii_model::MicroCredits;
use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use thiserror::Error;

/// A currency that accounts in SEPA countries are paid in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Currency {
    /// Euro: the currency of SEPA payments. Every other one is an ordinary transfer.
    Eur,
    /// Swiss franc.
    Chf,
    /// Czech koruna.
    Czk,
    /// Danish krone.
    Dkk,
    /// Pound sterling.
    Gbp,
    /// Hungarian forint.
    Huf,
    /// Icelandic króna, which has no smaller unit.
    Isk,
    /// Norwegian krone.
    Nok,
    /// Polish złoty.
    Pln,
    /// Romanian leu.
    Ron,
    /// Swedish krona.
    Sek,
}

/// The text is no currency that is known here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is no known currency; expected EUR, CHF, CZK, DKK, GBP, HUF, ISK, NOK, PLN, RON or SEK")]
pub struct CurrencyUnknown(String);

impl Currency {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Eur,
        Self::Chf,
        Self::Czk,
        Self::Dkk,
        Self::Gbp,
        Self::Huf,
        Self::Isk,
        Self::Nok,
        Self::Pln,
        Self::Ron,
        Self::Sek,
    ];

    /// Its code (ISO 4217).
    pub fn code(self) -> &'static str {
        match self {
            Self::Eur => "EUR",
            Self::Chf => "CHF",
            Self::Czk => "CZK",
            Self::Dkk => "DKK",
            Self::Gbp => "GBP",
            Self::Huf => "HUF",
            Self::Isk => "ISK",
            Self::Nok => "NOK",
            Self::Pln => "PLN",
            Self::Ron => "RON",
            Self::Sek => "SEK",
        }
    }

    /// Decimals of an amount (ISO 4217).
    pub fn decimals(self) -> u32 {
        match self {
            Self::Isk => 0,
            Self::Eur
            | Self::Chf
            | Self::Czk
            | Self::Dkk
            | Self::Gbp
            | Self::Huf
            | Self::Nok
            | Self::Pln
            | Self::Ron
            | Self::Sek => 2,
        }
    }

    /// An amount as banks write it: `12.30`.
    pub fn write(self, amount: MinorUnits) -> String {
        match self.decimals() {
            0 => amount.0.to_string(),
            decimals => {
                let unit = 10u64.pow(decimals);
                format!("{}.{:0width$}", amount.0 / unit, amount.0 % unit, width = decimals as usize)
            }
        }
    }

    /// The amount of a text that [`Currency::write`] could have written, and no other.
    pub fn read(self, text: &str) -> Option<MinorUnits> {
        let digits: String = text.chars().filter(|c| *c != '.').collect();
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let amount = MinorUnits(digits.parse().ok()?);
        (self.write(amount) == text).then_some(amount)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl FromStr for Currency {
    type Err = CurrencyUnknown;

    fn from_str(text: &str) -> Result<Self, CurrencyUnknown> {
        let known = Self::ALL.into_iter().find(|currency| currency.code() == text);
        known.ok_or_else(|| CurrencyUnknown(text.chars().take(8).collect()))
    }
}

/// An amount in a currency's smallest unit, such as a cent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct MinorUnits(pub u64);

/// How many micro-credits make one of the currency's smallest units. Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(pub NonZeroU64);

impl Rate {
    /// How many whole units an amount makes, and what it leaves. Nothing if the amount is negative.
    pub fn convert(self, amount: MicroCredits) -> Option<(MinorUnits, MicroCredits)> {
        let amount = u64::try_from(amount.0).ok()?;
        // What is left is at most the amount, which came from an i64.
        Some((MinorUnits(amount / self.0), MicroCredits((amount % self.0) as i64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_read_as_they_are_written() {
        let eur = |minor| Currency::Eur.write(MinorUnits(minor));
        assert_eq!([eur(0), eur(5), eur(1_230), eur(u64::MAX)], ["0.00", "0.05", "12.30", "184467440737095516.15"]);
        assert_eq!(Currency::Isk.write(MinorUnits(1_230)), "1230");
        assert_eq!(Currency::Eur.read("12.30"), Some(MinorUnits(1_230)));
        for bad in ["", ".", "12", "12.3", "12.300", "1.230", "+12.30", "-1.00", "012.30", "1,30", "1e2", "12.30 "] {
            assert_eq!(Currency::Eur.read(bad), None, "{bad}");
        }
        assert_eq!(Currency::Isk.read("12.30"), None);
        assert_eq!("EUR".parse(), Ok(Currency::Eur));
        assert!("eur".parse::<Currency>().is_err());
    }

    proptest! {
        #[test]
        fn conversion_loses_nothing(amount in 0..=i64::MAX, rate in 1..=1_000_000_000u64) {
            let rate = Rate(NonZeroU64::new(rate).unwrap());
            let (units, rest) = rate.convert(MicroCredits(amount)).unwrap();
            prop_assert!(rest.0 >= 0 && (rest.0 as u64) < rate.0.get());
            prop_assert_eq!(units.0 * rate.0.get() + rest.0 as u64, amount as u64);
            prop_assert_eq!(rate.convert(MicroCredits(-1 - amount)), None);
        }
    }
}
