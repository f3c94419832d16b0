//! Where the publisher gets the entries of the log from.

use crate::pool::actor::{AskError, Handle};
use caii_audit::Event;
use caii_store::StoreError;

/// Why entries cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// The coordinator's thread does not answer.
    #[error("{0}")]
    Ask(String),
    /// The store does not give them.
    #[error(transparent)]
    Store(StoreError),
}

/// Committed entries of the log, in order.
pub(crate) trait Rows: Send + 'static {
    /// Entries from this number on, at most `limit`.
    fn rows(&mut self, from: u64, limit: usize) -> Result<Vec<Event>, RowsError>;
}

impl Rows for Handle {
    fn rows(&mut self, from: u64, limit: usize) -> Result<Vec<Event>, RowsError> {
        let read = self.read_blocking(move |_, store| store.logged(from, limit));
        let rows = read.map_err(|error: AskError| RowsError::Ask(error.to_string()))?.map_err(RowsError::Store)?;
        Ok(whole_steps(rows, limit))
    }
}

/// Without the last step's entries if there may be more of them: a checkpoint in the middle of a step shows a pool that left
/// something out. Entries of one step have one time.
fn whole_steps(mut rows: Vec<Event>, limit: usize) -> Vec<Event> {
    if rows.len() >= limit
        && let Some(last) = rows.last().map(|event| event.logged.at())
        && let Some(end) = rows.iter().rposition(|event| event.logged.at() != last)
    {
        rows.truncate(end + 1);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use caii_audit::Logged;
    use caii_model::{Digest, Timestamp};

    #[test]
    fn a_step_is_published_whole_or_later() {
        let event = |at: &u64| {
            let commitment = Digest([0; 32]);
            Event::from(Logged::SecretCommitted { period: 1, commitment, at: Timestamp(*at) })
        };
        let kept = |times: &[u64], limit| whole_steps(times.iter().map(event).collect(), limit).len();
        assert_eq!(kept(&[1, 2, 2], 4), 3, "there is nothing more");
        assert_eq!(kept(&[1, 2, 2], 3), 1);
        assert_eq!(kept(&[1, 1, 2], 3), 2);
        assert_eq!(kept(&[2, 2, 2], 3), 3, "a step that is larger than a batch goes on in the next one");
        assert_eq!(kept(&[], 3), 0);
    }
}
