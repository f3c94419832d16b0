//! A pool in one SQLite database: the embedded default.
//!
//! The log is written ahead and synced at every commit, so that what was committed survives the loss of power. One
//! process writes; the epoch in the table `pool` refuses all others, also those that hold the file open.

mod books;
mod fault;
mod logged;
mod migrate;
mod read;
mod write;

use crate::{
    BookQueries, Epoch, JobPrice, JobQuery, LoggedReceipt, ReceiptQuery, Snapshot, StatementLine, Store, StoreError,
};
use caii_audit::Event;
use caii_coordinator::{Attempt, Change, JobRecord, PayoutDraft};
use caii_ledger::{Entry, PayoutRun, TransferId};
use caii_model::{Account, DeviceId, Digest, JobId, Receipt, Settled, TaskIndex, Timestamp};
pub(crate) use fault::{Fault, is_full};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A pool's database.
#[derive(Debug)]
pub struct SqliteStore {
    db: Connection,
    path: PathBuf,
}

/// Another process may hold the file's lock for so long, as a backup does.
const BUSY_MAX: Duration = Duration::from_secs(5);

impl SqliteStore {
    /// Opens the database at `path`, made or brought up to this program's schema when need be.
    ///
    /// Two processes should not do so at once; if they do, only the one that called [`Store::acquire`] last can write.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut db =
            connect(path, BUSY_MAX, migrate::check_mark).map_err(|fault| fault.at("open the pool's database", path))?;
        migrate::migrate(&mut db, path)?;
        Ok(Self { db, path: path.to_owned() })
    }

    /// Runs `work` in one transaction, all or nothing.
    fn write<T>(
        &mut self,
        attempt: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let run = || {
            let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        };
        run().map_err(|fault: Fault| fault.at(attempt, &self.path))
    }

    /// Runs `work` on the database as it is at one moment.
    fn read<T>(
        &mut self,
        attempt: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let run = || {
            let transaction = self.db.transaction_with_behavior(TransactionBehavior::Deferred)?;
            let found = work(&transaction)?;
            transaction.commit()?;
            Ok(found)
        };
        run().map_err(|fault: Fault| fault.at(attempt, &self.path))
    }
}

impl Store for SqliteStore {
    fn acquire(&mut self) -> Result<Epoch, StoreError> {
        self.write("take the pool over", |db| {
            let epoch = write::epoch(db)?.0 + 1;
            write::set_epoch(db, Epoch(epoch))?;
            Ok(Epoch(epoch))
        })
    }

    fn load(&mut self) -> Result<Snapshot, StoreError> {
        self.read("load the pool's state", read::snapshot)
    }

    fn commit(&mut self, fence: Epoch, changes: &[Change]) -> Result<(), StoreError> {
        self.write("commit changes", |db| {
            let current = write::epoch(db)?;
            if current != fence {
                return Err(Fault::Store(StoreError::Deposed { ours: fence, current }));
            }
            write::apply(db, changes)
        })
    }

    fn job(&mut self, id: JobId) -> Result<Option<JobRecord>, StoreError> {
        self.read("look a job up", |db| read::job(db, id))
    }

    fn jobs(&mut self, query: &JobQuery) -> Result<Vec<JobRecord>, StoreError> {
        self.read("list jobs", |db| read::jobs(db, query))
    }

    fn attempts(&mut self, job: JobId, limit: usize) -> Result<Vec<(TaskIndex, Attempt)>, StoreError> {
        self.read("list a job's attempts", |db| read::attempts(db, job, limit))
    }

    fn settled(&mut self, job: JobId) -> Result<Vec<(TaskIndex, Settled)>, StoreError> {
        self.read("list a job's results", |db| read::settled(db, job))
    }

    fn logged(&mut self, from: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.read("read the log", |db| books::logged(db, from, limit))
    }

    fn books(&mut self) -> &mut dyn BookQueries {
        self
    }
}

impl BookQueries for SqliteStore {
    fn entry_at(&mut self, at: Timestamp) -> Result<u64, StoreError> {
        self.read("look a time up in the log", |db| books::entry_at(db, at))
    }

    fn receipts(&mut self, query: &ReceiptQuery) -> Result<Vec<LoggedReceipt>, StoreError> {
        self.read("list receipts", |db| books::receipts(db, query))
    }

    fn receipt(&mut self, device: DeviceId, sequence: u64) -> Result<Option<LoggedReceipt>, StoreError> {
        self.read("look a receipt up", |db| books::receipt(db, device, sequence))
    }

    fn receipts_of_workload(&mut self, workload: Digest, limit: usize) -> Result<Vec<Receipt>, StoreError> {
        self.read("list a workload's receipts", |db| books::receipts_of_workload(db, workload, limit))
    }

    fn statement(
        &mut self,
        member: &Account,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<StatementLine>, StoreError> {
        self.read("list a member's transfers", |db| books::statement(db, member, before, limit))
    }

    fn job_price(&mut self, job: JobId) -> Result<JobPrice, StoreError> {
        self.read("look a job's price up", |db| books::job_price(db, job))
    }

    fn payout(&mut self, run: PayoutRun) -> Result<Option<PayoutDraft>, StoreError> {
        self.read("look a payout up", |db| Ok(books::payouts(db, &format!("run = {}", run.0 as i64))?.pop()))
    }

    fn posted(&mut self, id: TransferId) -> Result<Option<(u64, Entry)>, StoreError> {
        self.read("look a transfer up", |db| books::posted(db, id))
    }
}

/// A connection with the settings that durability rests on. They are written into the file, so `check` goes first: it
/// refuses what is not ours.
pub(crate) fn connect(
    path: &Path,
    busy: Duration,
    check: fn(&Connection) -> Result<(), Fault>,
) -> Result<Connection, Fault> {
    let new = !path.exists();
    let db = Connection::open(path)?;
    db.busy_timeout(busy)?;
    check(&db)?;
    let mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(Fault::NoWriteAheadLog(mode));
    }
    // A checkpoint copies the log into the database and syncs twice: not too often. The log is cut after it.
    db.execute_batch(
        "PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA trusted_schema = OFF;
         PRAGMA cell_size_check = ON;
         PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -32768;
         PRAGMA wal_autocheckpoint = 4000;
         PRAGMA journal_size_limit = 67108864;",
    )?;
    db.set_prepared_statement_cache_capacity(64);
    if new {
        // SQLite syncs the directory when it makes a log, not when it makes a database.
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(Fault::Io)?;
    }
    Ok(db)
}

#[cfg(test)]
mod tests;
