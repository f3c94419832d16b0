//! Brings a database up to this program's schema. Migrations are only ever added.

use super::fault::{BadRow, Fault};
use crate::StoreError;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
use std::path::Path;

/// In order: the first makes schema 1 from an empty database, and so on. What was released is never edited.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
    include_str!("migrations/0004.sql"),
];

/// Marks the file as a pool's, for this program and for `file`: `CAII` in ASCII.
const APPLICATION_ID: i32 = 0x4341_4949;

const ATTEMPT: &str = "bring the pool's database up to date";

/// Applies the migrations that the database lacks, all or none.
pub(super) fn migrate(db: &mut Connection, path: &Path) -> Result<(), StoreError> {
    migrate_to(db, path, MIGRATIONS)
}

pub(super) fn migrate_to(db: &mut Connection, path: &Path, migrations: &[&str]) -> Result<(), StoreError> {
    let fail = |fault: Fault| fault.at(ATTEMPT, path);
    let known = migrations.len() as u32;
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(|e| fail(e.into()))?;
    let found = version(&transaction).map_err(fail)?;
    if found > known {
        return Err(StoreError::NewerSchema { path: path.to_owned(), found, known });
    }
    let run = || {
        for (schema, migration) in (1..).zip(migrations).skip(found as usize) {
            transaction.execute_batch(migration)?;
            transaction.execute("INSERT INTO schema VALUES (?1, unixepoch())", [schema])?;
        }
        transaction.commit()?;
        Ok(())
    };
    run().map_err(fail)
}

/// Refuses a database that is neither a pool's nor empty.
pub(super) fn check_mark(db: &Connection) -> Result<(), Fault> {
    is_marked(db).map(drop)
}

fn is_marked(db: &Connection) -> Result<bool, Fault> {
    let mark: i32 = db.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let table = db.query_row("SELECT 1 FROM sqlite_schema LIMIT 1", [], |_| Ok(())).optional()?;
    match (mark, table) {
        (APPLICATION_ID, Some(())) => Ok(true),
        (0, None) => Ok(false),
        (mark, _) => {
            let problem = format!("{mark:#010x}, the mark of another program's database");
            Err(BadRow { column: "application_id".to_owned(), problem }.into())
        }
    }
}

/// The database's schema; 0 for an empty one, which this also marks as a pool's.
fn version(transaction: &Transaction<'_>) -> Result<u32, Fault> {
    if is_marked(transaction)? {
        return Ok(transaction.query_row("SELECT coalesce(max(version), 0) FROM schema", [], |row| row.get(0))?);
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.execute_batch("CREATE TABLE schema (version INTEGER PRIMARY KEY, applied INTEGER NOT NULL) STRICT")?;
    Ok(0)
}
