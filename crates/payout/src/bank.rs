//! Where money is sent to: IBANs and BICs, checked as far as that goes without a bank.

use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// An International Bank Account Number (ISO 13616) of a SEPA country, written without spaces. Its length and check
/// digits are right; whether the account exists only its bank knows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Iban(String);

/// Why a text is no IBAN that can be paid to.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IbanError {
    /// It has other characters than capital letters and digits, or they stand in the wrong places.
    #[error("an IBAN is two capital letters, two digits, then capital letters and digits")]
    Form,
    /// Its country is not in SEPA.
    #[error("`{0}` is no country of SEPA, where payments in euro go by IBAN alone")]
    Country(String),
    /// It has another length than its country's.
    #[error("an IBAN of {country} has {expected} characters; this one has {found}")]
    Length {
        /// The country.
        country: &'static str,
        /// How many its IBANs have.
        expected: usize,
        /// How many this has.
        found: usize,
    },
    /// The check digits do not belong to the rest: a digit is wrong, or two changed places.
    #[error("the check digits do not fit: a character is wrong, or two changed places")]
    CheckDigits,
}

/// The countries of SEPA and how long their IBANs are.
const LENGTHS: [(&str, usize); 42] = [
    ("AD", 24),
    ("AL", 28),
    ("AT", 20),
    ("BE", 16),
    ("BG", 22),
    ("CH", 21),
    ("CY", 28),
    ("CZ", 24),
    ("DE", 22),
    ("DK", 18),
    ("EE", 20),
    ("ES", 24),
    ("FI", 18),
    ("FR", 27),
    ("GB", 22),
    ("GI", 23),
    ("GR", 27),
    ("HR", 21),
    ("HU", 28),
    ("IE", 22),
    ("IS", 26),
    ("IT", 27),
    ("LI", 21),
    ("LT", 20),
    ("LU", 20),
    ("LV", 21),
    ("MC", 27),
    ("MD", 24),
    ("ME", 22),
    ("MK", 19),
    ("MT", 31),
    ("NL", 18),
    ("NO", 15),
    ("PL", 28),
    ("PT", 25),
    ("RO", 24),
    ("RS", 22),
    ("SE", 24),
    ("SI", 19),
    ("SK", 24),
    ("SM", 27),
    ("VA", 22),
];

impl Iban {
    /// Without spaces, as machines write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The country's two letters.
    pub fn country(&self) -> &str {
        &self.0[..2]
    }
}

impl FromStr for Iban {
    type Err = IbanError;

    /// Accepts the spaces that people write.
    fn from_str(text: &str) -> Result<Self, IbanError> {
        let iban: String = text.chars().filter(|c| *c != ' ').collect();
        let alphanumeric = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit();
        let bytes = iban.as_bytes();
        let formed = bytes.len() > 4
            && bytes[..2].iter().all(u8::is_ascii_uppercase)
            && bytes[2..4].iter().all(u8::is_ascii_digit)
            && bytes.iter().all(|b| alphanumeric(*b));
        if !formed {
            return Err(IbanError::Form);
        }
        let Some((country, expected)) = LENGTHS.into_iter().find(|(country, _)| iban.starts_with(country)) else {
            return Err(IbanError::Country(iban[..2].to_owned()));
        };
        if iban.len() != expected {
            return Err(IbanError::Length { country, expected, found: iban.len() });
        }
        // ISO 7064 MOD 97-10 over the text turned around, letters as the numbers from 10. Other check digits than 02 to
        // 98 give the same remainder as one of those, and are never issued.
        let turned = iban[4..].bytes().chain(iban[..4].bytes());
        let remainder = turned.fold(0u32, |remainder, b| match b {
            b'0'..=b'9' => (remainder * 10 + u32::from(b - b'0')) % 97,
            _ => (remainder * 100 + u32::from(b - b'A') + 10) % 97,
        });
        if remainder != 1 || !("02"..="98").contains(&&iban[2..4]) {
            return Err(IbanError::CheckDigits);
        }
        Ok(Self(iban))
    }
}

impl fmt::Display for Iban {
    /// In groups of four, as people read it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, c) in self.0.chars().enumerate() {
            if place > 0 && place % 4 == 0 {
                f.write_str(" ")?;
            }
            write!(f, "{c}")?;
        }
        Ok(())
    }
}

/// A Business Identifier Code (ISO 9362:2014), of 8 or 11 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bic(String);

/// The text is no BIC.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a BIC is 4 capital letters or digits, 2 letters of a country, 2 letters or digits, and perhaps 3 more")]
pub struct BicError;

impl Bic {
    /// The code.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Bic {
    type Err = BicError;

    fn from_str(text: &str) -> Result<Self, BicError> {
        let bytes = text.as_bytes();
        let formed = matches!(bytes.len(), 8 | 11)
            && bytes.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
            && bytes[4..6].iter().all(u8::is_ascii_uppercase);
        if formed { Ok(Self(text.to_owned())) } else { Err(BicError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Examples of the IBAN registry, one a country.
    const REGISTRY: [&str; 42] = [
        "AD12 0001 2030 2003 5910 0100",
        "AL47 2121 1009 0000 0002 3569 8741",
        "AT61 1904 3002 3457 3201",
        "BE68 5390 0754 7034",
        "BG80 BNBG 9661 1020 3456 78",
        "CH93 0076 2011 6238 5295 7",
        "CY17 0020 0128 0000 0012 0052 7600",
        "CZ65 0800 0000 1920 0014 5399",
        "DE89 3704 0044 0532 0130 00",
        "DK50 0040 0440 1162 43",
        "EE38 2200 2210 2014 5685",
        "ES91 2100 0418 4502 0005 1332",
        "FI21 1234 5600 0007 85",
        "FR14 2004 1010 0505 0001 3M02 606",
        "GB29 NWBK 6016 1331 9268 19",
        "GI75 NWBK 0000 0000 7099 453",
        "GR16 0110 1250 0000 0001 2300 695",
        "HR12 1001 0051 8630 0016 0",
        "HU42 1177 3016 1111 1018 0000 0000",
        "IE29 AIBK 9311 5212 3456 78",
        "IS14 0159 2600 7654 5510 7303 39",
        "IT60 X054 2811 1010 0000 0123 456",
        "LI21 0881 0000 2324 013A A",
        "LT12 1000 0111 0100 1000",
        "LU28 0019 4006 4475 0000",
        "LV80 BANK 0000 4351 9500 1",
        "MC58 1122 2000 0101 2345 6789 030",
        "MD24 AG00 0225 1000 1310 4168",
        "ME25 5050 0001 2345 6789 51",
        "MK07 2501 2000 0058 984",
        "MT84 MALT 0110 0001 2345 MTLC AST0 01S",
        "NL91 ABNA 0417 1643 00",
        "NO93 8601 1117 947",
        "PL61 1090 1014 0000 0712 1981 2874",
        "PT50 0002 0123 1234 5678 9015 4",
        "RO49 AAAA 1B31 0075 9384 0000",
        "RS35 2600 0560 1001 6113 79",
        "SE45 5000 0000 0583 9825 7466",
        "SI56 2633 0001 2039 086",
        "SK31 1200 0000 1987 4263 7541",
        "SM86 U032 2509 8000 0000 0270 100",
        "VA59 0011 2300 0012 3456 78",
    ];

    #[test]
    fn every_country_of_sepa_has_its_example() {
        for (text, (country, length)) in REGISTRY.into_iter().zip(LENGTHS) {
            let iban: Iban = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((iban.country(), iban.as_str().len()), (country, length));
            assert_eq!(iban.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_iban_is_refused() {
        let parse = |text: &str| text.parse::<Iban>();
        for bad in ["", "DE", "de89370400440532013000", "DE8937040044053201300é", "D989370400440532013000", "DEX9-"] {
            assert_eq!(parse(bad), Err(IbanError::Form), "{bad}");
        }
        assert_eq!(parse("BR1800360305000010009795493C1"), Err(IbanError::Country("BR".into())));
        let length = IbanError::Length { country: "DE", expected: 22, found: 21 };
        assert_eq!(parse("DE8937040044053201300"), Err(length));
        assert_eq!(parse("DE89370400440532013001"), Err(IbanError::CheckDigits));
        // The same remainder as 97 more or less: 00 to 01 and 99 are never issued.
        let same_remainder = REGISTRY.map(|text| {
            let plain = text.replace(' ', "");
            let digits: u32 = plain[2..4].parse().unwrap();
            [digits.checked_sub(97), Some(digits + 97)].map(|digits| {
                digits.filter(|digits| *digits < 100).map(|digits| format!("{}{digits:02}{}", &plain[..2], &plain[4..]))
            })
        });
        for text in same_remainder.into_iter().flatten().flatten() {
            assert_eq!(parse(&text), Err(IbanError::CheckDigits), "{text}");
        }
    }

    #[test]
    fn bics_have_eight_or_eleven_characters() {
        for good in ["DEUTDEFF", "DEUTDEFF500", "1234DE12XXX"] {
            assert!(good.parse::<Bic>().is_ok(), "{good}");
        }
        for bad in ["", "DEUTDEF", "DEUTDEFF5", "deutdeff", "DEUT12FF", "DEUTDEFF50é", "DEUTDEFF5000"] {
            assert!(bad.parse::<Bic>().is_err(), "{bad}");
        }
    }

    proptest! {
        /// What people do wrong most: another digit or another letter, or two of a kind changed places.
        #[test]
        fn a_slip_is_noticed(country in 0..REGISTRY.len(), at: prop::sample::Index, other in 0..26u8, swap: bool) {
            let good = REGISTRY[country].replace(' ', "");
            let mut bytes = good.clone().into_bytes();
            // The country's own letters apart: with other ones it is another country's.
            let at = 2 + at.index(bytes.len() - 3);
            if swap {
                if bytes[at].is_ascii_digit() == bytes[at + 1].is_ascii_digit() {
                    bytes.swap(at, at + 1);
                }
            } else if bytes[at].is_ascii_digit() {
                bytes[at] = b'0' + other % 10;
            } else {
                bytes[at] = b'A' + other;
            }
            let text = String::from_utf8(bytes).unwrap();
            prop_assert_eq!(text.parse::<Iban>().is_ok(), text == good);
        }
    }
}
