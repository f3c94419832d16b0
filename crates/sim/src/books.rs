//! The pool's books at the end of a run: whatever happened, anybody who reads the log finds it in order.

use caii_audit::{Check, Event, MemoryFiles, Options, PoolFile, Publisher, Signers};
use caii_coordinator::{Catalog, Opening};
use caii_ledger::{CreditLimit, LedgerAccount};
use caii_model::*;
use caii_tlog::NoteSigner;
use caii_trust::SigningKey;

fn key() -> SigningKey {
    SigningKey::from_seed([42; 32])
}

pub(crate) fn pool() -> PoolId {
    caii_trust::pool_id(&key().public())
}

/// Rates with which every part of a reward and of a price is some micro-credits.
pub(crate) fn opening() -> Opening {
    let terms = TariffTerms {
        number: 1,
        effective_from: Timestamp(0),
        compute_rate: MicroCredits(7_000_000_000),
        reliability_bonus: Ppm(200_000),
        reliability_share_floor: Ppm(500_000),
        availability_rate: MicroCredits(1_000),
        availability_daily_max: Millis(12 * 3_600_000),
        energy_rate: MicroCredits(1_000_000),
        energy_certified_joules: 30,
        verification_surcharge: Ppm(150_000),
        pool_fee: Ppm(50_000),
        probation_holdback: Ppm(300_000),
    };
    Opening { key: key().public(), charter: None, credit_limit: CreditLimit::Unlimited, terms }
}

/// Publishes the log and audits it; then looks at what no auditor can know: that nothing is left over.
pub(crate) fn check(log: &[Event], catalog: &Catalog) -> Result<(), String> {
    let signer = NoteSigner::new("log.pool.example".parse().expect("a name"), SigningKey::from_seed([43; 32]));
    let file = PoolFile {
        key: key().public(),
        origin: "log.pool.example".parse().expect("an origin"),
        log: vec![signer.key().clone()],
        charter: None,
    };
    let signers = Signers { log: &[&signer], pool: &key() };
    let published = Publisher::new(file).append(log, &[44; 32], signers).map_err(|error| error.to_string())?;
    let mut files = MemoryFiles::default();
    files.0.extend(published.files.into_iter().map(|file| (file.path, file.bytes)));
    let report = caii_audit::audit(&files, &Options::default()).map_err(|error| error.to_string())?;
    if let Some(check) = report.wrong().first() {
        let first = report.outcomes[check].first.as_ref();
        let why = first.map_or_else(String::new, |wrong| format!("entry {:?}: {}", wrong.index, wrong.why));
        return Err(format!("the audit is red: {check:?}: {why}"));
    }
    debug_assert!(report.outcomes.contains_key(&Check::Balances));
    let ledger = catalog.books().ledger();
    if let Some((account, left)) = ledger.balances().find(|(account, _)| matches!(account, LedgerAccount::Escrow(_))) {
        return Err(format!("{account} has {left} credits when all is over"));
    }
    Ok(())
}
