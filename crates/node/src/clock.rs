//! The machine's clock.

use caii_model::Timestamp;
use std::time::SystemTime;

/// The time by the machine's clock; 1970 if it is set before that.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
