//! What goes wrong with SQLite, and which of the store's errors that is.

use crate::StoreError;
use rusqlite::ffi::{self, ErrorCode};
use std::error::Error;
use std::fmt;
use std::io::Write;
use std::path::Path;

/// An error before it is known what was attempted and where.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Already what the caller is to see.
    Store(StoreError),
    /// Changes that do not fit.
    Contradiction {
        change: String,
        reason: &'static str,
    },
    Sqlite(rusqlite::Error),
    Io(std::io::Error),
    /// A row that this program cannot have written.
    BadRow(BadRow),
    /// The file system cannot hold a write-ahead log; the mode that SQLite fell back to.
    NoWriteAheadLog(String),
}

/// A value that does not belong where it was found.
#[derive(Debug)]
pub(crate) struct BadRow {
    pub(crate) column: String,
    pub(crate) problem: String,
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column `{}` holds {}", self.column, self.problem)
    }
}

impl Error for BadRow {}

/// Why a change that SQLite refused does not fit; nothing if the refusal was of another kind.
pub(crate) fn contradiction(error: &rusqlite::Error) -> Option<&'static str> {
    let rusqlite::Error::SqliteFailure(error, _) = error else { return None };
    if error.code != ErrorCode::ConstraintViolation {
        return None;
    }
    Some(match error.extended_code {
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => "what it refers to does not exist",
        ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_ROWID | ffi::SQLITE_CONSTRAINT_UNIQUE => {
            "it is there already"
        }
        _ => "its values do not fit the table",
    })
}

impl Fault {
    /// The error of `attempt` in the database at `path`.
    pub(crate) fn at(self, attempt: &'static str, path: &Path) -> StoreError {
        let place = path.to_owned();
        let error = match self {
            Self::Store(error) => return error,
            Self::Contradiction { change, reason } => return StoreError::Contradiction { change, reason },
            Self::BadRow(bad) => return StoreError::Corrupt { attempt, path: place, source: bad.into() },
            Self::NoWriteAheadLog(mode) => {
                let source = format!("its file system allows no write-ahead log (only `{mode}`): use a local disk");
                return StoreError::Failed { attempt, path: place, source: source.into() };
            }
            Self::Io(error) if is_full(error.kind()) => {
                return StoreError::DiskFull { attempt, path: place, source: error.into() };
            }
            Self::Io(error) => return StoreError::Failed { attempt, path: place, source: error.into() },
            Self::Sqlite(error) => error,
        };
        let code = match &error {
            rusqlite::Error::SqliteFailure(error, _) => Some(error.code),
            // Values of types that this program never writes there.
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..)
            | rusqlite::Error::QueryReturnedNoRows => Some(ErrorCode::DatabaseCorrupt),
            _ => None,
        };
        let source = Box::new(error);
        match code {
            Some(ErrorCode::DiskFull) => StoreError::DiskFull { attempt, path: place, source },
            // Where a sync or the shared index is what found no room, SQLite says only that input or output failed.
            Some(ErrorCode::SystemIoFailure) if has_no_room(path) => {
                StoreError::DiskFull { attempt, path: place, source }
            }
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                StoreError::ReadOnly { attempt, path: place, source }
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                StoreError::Corrupt { attempt, path: place, source }
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                StoreError::Busy { attempt, path: place, source }
            }
            _ => StoreError::Failed { attempt, path: place, source },
        }
    }
}

/// Whether an error of this kind means that there is no room: on the disk, in a quota, or under a limit on file sizes.
pub(crate) fn is_full(kind: std::io::ErrorKind) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(kind, StorageFull | QuotaExceeded | FileTooLarge)
}

/// Tries it: the system's own count of free space knows neither quotas nor what is reserved for others.
fn has_no_room(path: &Path) -> bool {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let probe = || {
        let mut file = tempfile::tempfile_in(directory)?;
        file.write_all(&[0; 1 << 16])?;
        file.sync_data()
    };
    probe().is_err_and(|error| is_full(error.kind()))
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<BadRow> for Fault {
    fn from(bad: BadRow) -> Self {
        Self::BadRow(bad)
    }
}
