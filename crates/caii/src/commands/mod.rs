//! One file a verb.

pub(crate) mod account;
pub(crate) mod agent;
pub(crate) mod audit;
pub(crate) mod batch;
pub(crate) mod charter;
pub(crate) mod delivery;
pub(crate) mod device;
pub(crate) mod earnings;
pub(crate) mod embeddings;
pub(crate) mod job;
pub(crate) mod key;
pub(crate) mod ledger;
pub(crate) mod model;
pub(crate) mod payout;
pub(crate) mod pool;
pub(crate) mod quote;
pub(crate) mod receipt;
pub(crate) mod tariff;
pub(crate) mod ticket;
pub(crate) mod witness;
pub(crate) mod workload;

use caii_model::Millis;
use std::path::PathBuf;

/// `$XDG_DATA_HOME/caii/NAME`, or `~/.local/share/caii/NAME`, or `caii-NAME` where there is no home.
pub(crate) fn default_dir(name: &str) -> PathBuf {
    let set = |variable| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let data = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")));
    data.map_or_else(|| format!("caii-{name}").into(), |data| data.join("caii").join(name))
}

/// Starts logging to standard error: `CAII_LOG=debug` says more.
pub(crate) fn log(default: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("CAII_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

/// Parses `90s`, `15m`, `24h` or `7d`.
pub(crate) fn duration(text: &str) -> Result<Millis, String> {
    let wrong = || format!("`{text}` is no time: give a number and s, m, h or d, as `24h`");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    count.checked_mul(seconds * 1_000).filter(|ms| *ms > 0).map(Millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("90s"), Ok(Millis(90_000)));
        assert_eq!(duration("7d"), Ok(Millis(604_800_000)));
        for bad in ["", "7", "d", "-1h", "1.5h", "0s", "1w", "99999999999999999999d", "1é"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
