//! Tariffs as JSON: what people propose, publish and read. Strict: an unknown field could be a condition.
//!
//! The JSON is for people; what names a tariff is the digest of its canonical bytes ([`Tariff::digest`]), which two
//! texts that differ in spaces share.

use caii_model::{MicroCredits, Millis, Ppm, Tariff, TariffInvalid, TariffTerms, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The value of `format`.
pub const FORMAT: &str = "caii-tariff/1";
/// Bytes of a tariff as JSON.
pub const SIZE_MAX: usize = 16 << 10;

/// Why a text is no tariff.
#[derive(Debug)]
pub enum TariffJsonError {
    /// It is larger than [`SIZE_MAX`].
    TooLarge {
        /// Its bytes.
        found: usize,
    },
    /// It is not the JSON of a tariff.
    Json(serde_json::Error),
    /// It is in another format.
    Format(String),
    /// A coefficient is out of its range.
    Invalid(TariffInvalid),
}

impl fmt::Display for TariffJsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { found } => write!(f, "the tariff has {found} bytes; at most {SIZE_MAX} are read"),
            Self::Json(error) => write!(f, "not a tariff: {error}"),
            Self::Format(found) => write!(f, "the tariff's format is `{found}`; this release reads `{FORMAT}`"),
            Self::Invalid(invalid) => invalid.fmt(f),
        }
    }
}

impl std::error::Error for TariffJsonError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Json(error) => Some(error),
            Self::Invalid(invalid) => Some(invalid),
            Self::TooLarge { .. } | Self::Format(_) => None,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Json {
    format: String,
    number: u32,
    effective_from_ms: u64,
    compute: JsonCompute,
    reliability: JsonReliability,
    availability: JsonAvailability,
    energy: JsonEnergy,
    price: JsonPrice,
    probation: JsonProbation,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct JsonCompute {
    micro_credits_per_giga_fuel: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct JsonReliability {
    bonus_ppm: u32,
    share_floor_ppm: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct JsonAvailability {
    micro_credits_per_hour: i64,
    daily_max_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct JsonEnergy {
    micro_credits_per_kilojoule: i64,
    certified_joules_per_giga_fuel: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct JsonPrice {
    verification_surcharge_ppm: u32,
    pool_fee_ppm: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct JsonProbation {
    holdback_ppm: u32,
}

/// The tariff as JSON, for people: indented, ended by a line feed.
pub fn to_json(tariff: &Tariff) -> String {
    let terms = tariff.terms();
    let json = Json {
        format: FORMAT.to_owned(),
        number: terms.number,
        effective_from_ms: terms.effective_from.0,
        compute: JsonCompute { micro_credits_per_giga_fuel: terms.compute_rate.0 },
        reliability: JsonReliability {
            bonus_ppm: terms.reliability_bonus.0,
            share_floor_ppm: terms.reliability_share_floor.0,
        },
        availability: JsonAvailability {
            micro_credits_per_hour: terms.availability_rate.0,
            daily_max_ms: terms.availability_daily_max.0,
        },
        energy: JsonEnergy {
            micro_credits_per_kilojoule: terms.energy_rate.0,
            certified_joules_per_giga_fuel: terms.energy_certified_joules,
        },
        price: JsonPrice { verification_surcharge_ppm: terms.verification_surcharge.0, pool_fee_ppm: terms.pool_fee.0 },
        probation: JsonProbation { holdback_ppm: terms.probation_holdback.0 },
    };
    serde_json::to_string_pretty(&json).expect("numbers and strings become JSON") + "\n"
}

/// The tariff of this JSON.
///
/// # Errors
/// If it is none, or its terms are out of range.
pub fn from_json(text: &[u8]) -> Result<Tariff, TariffJsonError> {
    if text.len() > SIZE_MAX {
        return Err(TariffJsonError::TooLarge { found: text.len() });
    }
    let json: Json = serde_json::from_slice(text).map_err(TariffJsonError::Json)?;
    if json.format != FORMAT {
        return Err(TariffJsonError::Format(json.format.chars().take(64).collect()));
    }
    Tariff::new(TariffTerms {
        number: json.number,
        effective_from: Timestamp(json.effective_from_ms),
        compute_rate: MicroCredits(json.compute.micro_credits_per_giga_fuel),
        reliability_bonus: Ppm(json.reliability.bonus_ppm),
        reliability_share_floor: Ppm(json.reliability.share_floor_ppm),
        availability_rate: MicroCredits(json.availability.micro_credits_per_hour),
        availability_daily_max: Millis(json.availability.daily_max_ms),
        energy_rate: MicroCredits(json.energy.micro_credits_per_kilojoule),
        energy_certified_joules: json.energy.certified_joules_per_giga_fuel,
        verification_surcharge: Ppm(json.price.verification_surcharge_ppm),
        pool_fee: Ppm(json.price.pool_fee_ppm),
        probation_holdback: Ppm(json.probation.holdback_ppm),
    })
    .map_err(TariffJsonError::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = r#"{
  "format": "caii-tariff/1",
  "number": 1,
  "effectiveFromMs": 1800000000000,
  "compute": {
    "microCreditsPerGigaFuel": 1000
  },
  "reliability": {
    "bonusPpm": 200000,
    "shareFloorPpm": 900000
  },
  "availability": {
    "microCreditsPerHour": 3600,
    "dailyMaxMs": 28800000
  },
  "energy": {
    "microCreditsPerKilojoule": 500,
    "certifiedJoulesPerGigaFuel": 40
  },
  "price": {
    "verificationSurchargePpm": 20000,
    "poolFeePpm": 50000
  },
  "probation": {
    "holdbackPpm": 250000
  }
}
"#;

    #[test]
    fn the_form_is_stable() {
        let tariff = from_json(TEXT.as_bytes()).unwrap();
        assert_eq!(to_json(&tariff), TEXT);
        // The same tariff as in the tests of the model and of the oracle.
        assert_eq!(tariff.digest().hex(), "7b589129e2208baaf5810b26dc912904decdd4ff9263971f313573aa898b5589");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let refused = |from: &str, to: &str| {
            assert!(TEXT.contains(from), "{from}");
            from_json(TEXT.replacen(from, to, 1).as_bytes()).unwrap_err().to_string()
        };
        let unknown = refused("\"number\"", "\"bonus\": 1,\n  \"number\"");
        assert!(unknown.contains("unknown field `bonus`"), "{unknown}");
        assert!(refused("\"poolFeePpm\"", "\"poolFee\": 1, \"poolFeePpm\"").contains("unknown field `poolFee`"));
        assert!(refused("    \"holdbackPpm\": 250000\n", "").contains("missing field `holdbackPpm`"));
        assert!(refused("\"number\": 1", "\"number\": 1, \"number\": 2").contains("duplicate field"));
        assert!(refused(": 1000", ": 1000.5").contains("floating point"));
        assert!(refused(": 1000", ": \"1000\"").contains("string"));
        assert!(refused("}\n}\n", "}\n} {}").contains("trailing"));
        assert_eq!(
            refused("caii-tariff/1", "caii-tariff/2"),
            "the tariff's format is `caii-tariff/2`; this release reads `caii-tariff/1`"
        );
        assert_eq!(refused(": 1000", ": -1"), "the tariff's `compute_rate` must be from 0 to 1000000000000000");
        let large = from_json(&[b' '; SIZE_MAX + 1]).unwrap_err().to_string();
        assert_eq!(large, "the tariff has 16385 bytes; at most 16384 are read");
    }

    proptest! {
        #[test]
        fn json_is_read_as_it_is_written(
            number in 1..=u32::MAX, from: u64, rates in [0..1_000_000_000i64, 0..1_000_000_000, 0..1_000_000_000],
            shares in prop::array::uniform5(0..1_000_000u32), day in 0..86_400_000u64, joules in 0..1_000_000u64,
        ) {
            let tariff = Tariff::new(TariffTerms {
                number,
                effective_from: Timestamp(from),
                compute_rate: MicroCredits(rates[0]),
                reliability_bonus: Ppm(shares[0]),
                reliability_share_floor: Ppm(shares[1]),
                availability_rate: MicroCredits(rates[1]),
                availability_daily_max: Millis(day),
                energy_rate: MicroCredits(rates[2]),
                energy_certified_joules: joules,
                verification_surcharge: Ppm(shares[2]),
                pool_fee: Ppm(shares[3]),
                probation_holdback: Ppm(shares[4]),
            })
            .unwrap();
            prop_assert_eq!(from_json(to_json(&tariff).as_bytes()).unwrap(), tariff);
        }
    }
}
