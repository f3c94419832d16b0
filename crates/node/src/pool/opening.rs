//! What a pool says of itself first in its log, and that it still is what it said.

use super::actor::{AskError, Handle};
use caii_coordinator::{Input, Opening};
use caii_ledger::CreditLimit;
use caii_model::{Digest, MicroCredits, Millis, Ppm, TariffTerms, Timestamp};

/// Why the pool is not the one that its log begins with.
#[derive(Debug, thiserror::Error)]
pub enum OpeningError {
    /// The coordinator did not answer.
    #[error("{0}")]
    Ask(String),
    /// The limit is another one.
    #[error(
        "pool.toml says `credit_limit = {}`, and this pool's log began with {}, which everybody relies on: set \
         `credit_limit = {}` again, or start a new pool in another directory (--dir)",
        setting(*configured), setting(*logged), setting(*logged)
    )]
    CreditLimit {
        /// What is configured.
        configured: CreditLimit,
        /// What the log says.
        logged: CreditLimit,
    },
    /// The pool's key is another one.
    #[error("pool.key is not the key that this pool's log began with: restore pool.key and pool.db from one backup")]
    Key,
    /// The charter is another one.
    #[error(
        "the charter is {}, and this pool's log began with {}: restore the directory `charter` from a backup, or start a \
         new pool in another directory (--dir)",
        told(*configured), told(*logged)
    )]
    Charter {
        /// The charter that there is.
        configured: Option<Digest>,
        /// What the log says.
        logged: Option<Digest>,
    },
}

/// As pool.toml has it.
fn setting(limit: CreditLimit) -> String {
    match limit {
        CreditLimit::Unlimited => "\"unlimited\"".to_owned(),
        CreditLimit::Below(amount) => amount.to_string(),
    }
}

fn told(charter: Option<Digest>) -> String {
    charter.map_or_else(|| "none".to_owned(), |charter| charter.to_string())
}

/// The tariff of a new pool; `docs/money.md` has the reasons. Number and date are the coordinator's.
pub(crate) fn first_tariff() -> TariffTerms {
    TariffTerms {
        number: 1,
        effective_from: Timestamp(0),
        // A credit for 10^9 units of fuel, about a second of one core.
        compute_rate: MicroCredits(1_000_000),
        reliability_bonus: Ppm(100_000),
        reliability_share_floor: Ppm(900_000),
        availability_rate: MicroCredits(10_000_000),
        availability_daily_max: Millis(12 * 3_600_000),
        energy_rate: MicroCredits(10_000_000),
        energy_certified_joules: 10,
        verification_surcharge: Ppm(50_000),
        pool_fee: Ppm(0),
        probation_holdback: Ppm(500_000),
    }
}

/// Opens the log if it is not open yet; what it began with must be what is wanted now.
pub(crate) async fn open(handle: &Handle, wanted: Opening) -> Result<(), OpeningError> {
    let ask = |error: AskError| OpeningError::Ask(error.to_string());
    handle.ask(Input::Open(Box::new(wanted.clone()))).await.map_err(ask)?;
    let opened = handle.read(|coordinator, _| coordinator.catalog().books().opened().cloned()).await.map_err(ask)?;
    let opened = opened.ok_or_else(|| OpeningError::Ask("its log was not opened, which is a defect in CAII".into()))?;
    if opened.key != wanted.key {
        return Err(OpeningError::Key);
    }
    if opened.charter != wanted.charter {
        return Err(OpeningError::Charter { configured: wanted.charter, logged: opened.charter });
    }
    if opened.credit_limit != wanted.credit_limit {
        return Err(OpeningError::CreditLimit { configured: wanted.credit_limit, logged: opened.credit_limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use caii_model::Tariff;

    /// What `docs/money.md` says of it.
    #[test]
    fn the_first_tariff_is_one() {
        let tariff = Tariff::new(first_tariff()).unwrap();
        let terms = tariff.terms();
        assert_eq!(terms.compute_rate, MicroCredits(1_000_000), "a credit for 10^9 fuel");
        let energy = terms.energy_rate.0 * terms.energy_certified_joules as i64 / 1_000;
        assert_eq!(energy, terms.compute_rate.0 / 10, "a tenth of it at most for its energy");
    }

    #[test]
    fn a_changed_limit_is_told_as_it_is_set() {
        let (configured, logged) = (CreditLimit::Below(MicroCredits(5_000_000)), CreditLimit::Unlimited);
        let told = OpeningError::CreditLimit { configured, logged }.to_string();
        assert!(
            told.contains("`credit_limit = 5`") && told.contains("set `credit_limit = \"unlimited\"` again"),
            "{told}"
        );
    }
}
