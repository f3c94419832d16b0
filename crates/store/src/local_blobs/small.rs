//! Small blobs in one SQLite database. One thread writes: what arrives while it syncs, it writes and syncs together.

use crate::sqlite::{Fault, connect};
use crate::{BlobError, StoreError, Swept};
use caii_model::{Bytes, Digest};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

/// Requests that wait for the writing thread; who has one more waits to ask.
const QUEUE_MAX: usize = 1_024;
/// Requests and content that one transaction takes at most, so that the first to ask does not wait for ever.
const GROUP_REQUESTS_MAX: usize = 1_024;
const GROUP_BYTES_MAX: usize = 16 << 20;
/// Rows that a sweep looks at at a time.
const PAGE: usize = 1_000;

const BUSY_MAX: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct SmallBlobs {
    path: PathBuf,
    reader: Mutex<Connection>,
    /// Gone while being dropped, which ends the thread.
    requests: Option<SyncSender<Request>>,
    thread: Option<JoinHandle<()>>,
}

struct Request {
    work: Work,
    reply: SyncSender<Result<Done, BlobError>>,
}

enum Work {
    Put(Vec<(Digest, Vec<u8>)>),
    Touch(Digest),
    /// Only those put no later than this, if given.
    Delete(Vec<Digest>, Option<i64>),
}

/// The rows that a request changed, and the content in the deleted ones.
type Done = Swept;

impl SmallBlobs {
    pub(super) fn open(path: &Path) -> Result<Self, BlobError> {
        let open = || {
            let writer = connect(path, BUSY_MAX, |_| Ok(()))?;
            writer.execute_batch(
                "CREATE TABLE IF NOT EXISTS blobs (
                     digest BLOB PRIMARY KEY,
                     put_ms INTEGER NOT NULL,
                     content BLOB NOT NULL
                 ) STRICT",
            )?;
            Ok((writer, connect(path, BUSY_MAX, |_| Ok(()))?))
        };
        let (writer, reader) = open().map_err(|fault| failed("open the small blobs", path, fault))?;
        let (requests, queue) = sync_channel(QUEUE_MAX);
        let place = path.to_owned();
        let thread =
            std::thread::Builder::new().name("small-blobs".into()).spawn(move || serve(writer, &queue, &place));
        let thread = thread.map_err(|error| failed("start the thread of the small blobs", path, Fault::Io(error)))?;
        Ok(Self { path: path.to_owned(), reader: Mutex::new(reader), requests: Some(requests), thread: Some(thread) })
    }

    pub(super) fn put(&self, blobs: Vec<(Digest, Vec<u8>)>) -> Result<(), BlobError> {
        if blobs.is_empty() {
            return Ok(());
        }
        self.ask(Work::Put(blobs)).map(drop)
    }

    pub(super) fn touch(&self, digest: &Digest) -> Result<bool, BlobError> {
        Ok(self.ask(Work::Touch(*digest))?.blobs > 0)
    }

    pub(super) fn delete(&self, digests: Vec<Digest>, before: Option<i64>) -> Result<Swept, BlobError> {
        self.ask(Work::Delete(digests, before))
    }

    pub(super) fn get(&self, digest: &Digest) -> Result<Option<Vec<u8>>, BlobError> {
        let reader = self.reader();
        let get = || {
            let mut statement = reader.prepare_cached("SELECT content FROM blobs WHERE digest = ?1")?;
            statement.query_row([digest.0], |row| row.get(0)).optional()
        };
        get().map_err(|error| failed("read a small blob", &self.path, error.into()))
    }

    pub(super) fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        let reader = self.reader();
        let get = || {
            let mut statement = reader.prepare_cached("SELECT length(content) FROM blobs WHERE digest = ?1")?;
            statement.query_row([digest.0], |row| row.get::<_, i64>(0)).optional()
        };
        let size = get().map_err(|error| failed("look a small blob up", &self.path, error.into()))?;
        Ok(size.map(|size| size as u64))
    }

    pub(super) fn sweep(&self, live: &dyn Fn(&Digest) -> bool, before: SystemTime) -> Result<Swept, BlobError> {
        let before = milliseconds(before);
        let mut swept = Swept::default();
        let mut last: i64 = 0;
        loop {
            let page = self.page(last, before);
            let page = page.map_err(|error| failed("sweep the small blobs", &self.path, error.into()))?;
            let Some((row, _)) = page.last() else { return Ok(swept) };
            last = *row;
            let dead: Vec<Digest> = page.into_iter().map(|(_, digest)| digest).filter(|digest| !live(digest)).collect();
            if !dead.is_empty() {
                let removed = self.delete(dead, Some(before))?;
                swept.blobs += removed.blobs;
                swept.bytes += removed.bytes;
            }
        }
    }

    fn page(&self, after: i64, before: i64) -> rusqlite::Result<Vec<(i64, Digest)>> {
        let reader = self.reader();
        let mut statement = reader.prepare_cached(
            "SELECT rowid, digest FROM blobs WHERE rowid > ?1 AND put_ms <= ?2 ORDER BY rowid LIMIT ?3",
        )?;
        let rows = statement.query_map((after, before, PAGE as i64), |row| Ok((row.get(0)?, Digest(row.get(1)?))))?;
        rows.collect()
    }

    fn reader(&self) -> MutexGuard<'_, Connection> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, work: Work) -> Result<Done, BlobError> {
        let (reply, answer) = sync_channel(1);
        let requests = self.requests.as_ref().expect("requests are taken only when this is dropped");
        let gone = || failed("write small blobs", &self.path, Fault::Io(std::io::Error::other("its thread ended")));
        requests.send(Request { work, reply }).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }
}

impl Drop for SmallBlobs {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            // It panicked if this fails, and its requesters were told that it ended.
            _ = thread.join();
        }
    }
}

/// Serves requests until nobody can ask any more.
fn serve(mut db: Connection, queue: &Receiver<Request>, path: &Path) {
    while let Ok(first) = queue.recv() {
        let mut group = vec![first];
        let mut bytes = group[0].work.bytes();
        while group.len() < GROUP_REQUESTS_MAX && bytes < GROUP_BYTES_MAX {
            let Ok(request) = queue.try_recv() else { break };
            bytes += request.work.bytes();
            group.push(request);
        }
        let done = commit(&mut db, &group).map_err(|error| failed("write small blobs", path, error.into()));
        let replies = match done {
            Ok(done) => done.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error); group.len()],
        };
        for (request, reply) in group.into_iter().zip(replies) {
            // Whoever asked may have given up waiting.
            _ = request.reply.send(reply);
        }
    }
}

fn commit(db: &mut Connection, group: &[Request]) -> rusqlite::Result<Vec<Done>> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let now = milliseconds(SystemTime::now());
    let done = group.iter().map(|request| request.work.run(&transaction, now)).collect::<Result<_, _>>()?;
    transaction.commit()?;
    Ok(done)
}

impl Work {
    fn bytes(&self) -> usize {
        match self {
            Self::Put(blobs) => blobs.iter().map(|(_, content)| content.len()).sum(),
            Self::Touch(_) | Self::Delete(..) => 0,
        }
    }

    fn run(&self, db: &Connection, now: i64) -> rusqlite::Result<Done> {
        let mut done = Done::default();
        match self {
            Self::Put(blobs) => {
                // Content that is there already is written again: what is damaged is healed so.
                let mut statement = db.prepare_cached(
                    "INSERT INTO blobs VALUES (?1, ?2, ?3)
                     ON CONFLICT DO UPDATE SET put_ms = excluded.put_ms, content = excluded.content",
                )?;
                for (digest, content) in blobs {
                    done.blobs += statement.execute((digest.0, now, content))? as u64;
                }
            }
            Self::Touch(digest) => {
                let mut statement = db.prepare_cached("UPDATE blobs SET put_ms = ?2 WHERE digest = ?1")?;
                done.blobs = statement.execute((digest.0, now))? as u64;
            }
            Self::Delete(digests, before) => {
                let mut statement = db
                    .prepare_cached("DELETE FROM blobs WHERE digest = ?1 AND put_ms <= ?2 RETURNING length(content)")?;
                for digest in digests {
                    let before = before.unwrap_or(i64::MAX);
                    let size = statement.query_row((digest.0, before), |row| row.get::<_, i64>(0)).optional()?;
                    done.blobs += u64::from(size.is_some());
                    done.bytes += Bytes(size.unwrap_or(0) as u64);
                }
            }
        }
        Ok(done)
    }
}

fn milliseconds(time: SystemTime) -> i64 {
    // Before 1970 nothing was put.
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn failed(attempt: &'static str, path: &Path, fault: Fault) -> BlobError {
    match fault.at(attempt, path) {
        StoreError::DiskFull { attempt, path, source } => BlobError::DiskFull { attempt, path, source: source.into() },
        error => BlobError::Failed { attempt, path: path.to_owned(), source: Arc::new(error) },
    }
}
