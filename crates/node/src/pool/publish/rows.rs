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
        read.map_err(|error: AskError| RowsError::Ask(error.to_string()))?.map_err(RowsError::Store)
    }
}
