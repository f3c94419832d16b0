//! The blobs of workloads on a device's disk: fetched once, verified, and dropped least recently used first.
//!
//! A blob is a file named by its digest. It is written under `partial/`, where an interrupted transfer goes on later,
//! and renamed when its digest is right. Inputs and results never come here.

use super::client::{CallError, PoolClient, STALL};
use caii_model::{AttemptFailure, AttemptFailureKind, Bytes, Digest};
use reqwest::{StatusCode, header};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};

/// A transfer that nobody went on with for so long is given up.
const PARTIAL_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Failures in a row, without a byte received in between, after which a blob counts as unavailable.
const FAILURES_MAX: u32 = 8;
const RETRY_FIRST: Duration = Duration::from_millis(250);

/// Why a blob is not on disk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("cannot fetch {}: {source}", digest.short())]
    Call { digest: Digest, source: CallError },
    #[error("what the pool sends as {} has another digest", .0.short())]
    Wrong(Digest),
    #[error("the disk is full: {} does not fit in {}", size, path.display())]
    DiskFull { size: Bytes, path: PathBuf },
    #[error("{size} more do not fit into the {limit} that this device gives to workloads")]
    NoRoom { size: Bytes, limit: Bytes },
    #[error("cannot write {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl From<FetchError> for AttemptFailure {
    fn from(error: FetchError) -> Self {
        let kind = match error {
            FetchError::Call { .. } | FetchError::Wrong(_) | FetchError::Io { .. } => {
                AttemptFailureKind::BlobUnavailable
            }
            FetchError::DiskFull { .. } | FetchError::NoRoom { .. } => AttemptFailureKind::DiskFull,
        };
        Self { kind, detail: error.to_string() }
    }
}

#[derive(Debug)]
pub(crate) struct BlobCache {
    dir: PathBuf,
    limit: u64,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    blobs: BTreeMap<Digest, Entry>,
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    size: u64,
    /// Larger: used later.
    used: u64,
    pins: u32,
    /// Whether this process has seen that the file has its digest: disks forget.
    verified: bool,
}

/// A blob that stays on disk while this exists.
#[derive(Debug)]
pub(crate) struct Pin {
    cache: Arc<BlobCache>,
    digest: Digest,
}

impl Pin {
    pub(crate) fn path(&self) -> PathBuf {
        self.cache.path(self.digest)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        if let Some(entry) = self.cache.entries().blobs.get_mut(&self.digest) {
            entry.pins -= 1;
        }
    }
}

impl BlobCache {
    /// The cache in this directory, which is made if it is not there. It holds at most `limit`.
    pub(crate) fn open(dir: &Path, limit: Bytes) -> io::Result<Self> {
        let partial = dir.join("partial");
        fs::create_dir_all(&partial)?;
        for file in fs::read_dir(&partial)? {
            let file = file?;
            let age = SystemTime::now().duration_since(file.metadata()?.modified()?);
            // A time in the future is as good as none.
            if age.is_ok_and(|age| age > PARTIAL_AGE_MAX) {
                fs::remove_file(file.path())?;
            }
        }
        let mut found = Vec::new();
        for file in fs::read_dir(dir)? {
            let (file, name) = file.map(|file| (file.metadata(), file.file_name()))?;
            if let Some(digest) = name.to_str().and_then(|name| name.parse::<Digest>().ok()) {
                let file = file?;
                found.push((file.modified()?, digest, file.len()));
            }
        }
        found.sort();
        let entry = |(place, (_, digest, size))| (digest, Entry { size, used: place as u64, pins: 0, verified: false });
        let uses = found.len() as u64;
        let blobs = found.into_iter().enumerate().map(entry).collect();
        let cache = Self { dir: dir.to_owned(), limit: limit.0, entries: Mutex::new(Entries { blobs, uses }) };
        // The limit may be smaller than it was; what is in the way is dropped with the next blob at the latest.
        let _ = cache.make_room(0);
        Ok(cache)
    }

    /// Has the blob on disk, fetched if it is not there. `progress` hears how many bytes of it are.
    pub(crate) async fn get(
        self: &Arc<Self>,
        client: &PoolClient,
        digest: Digest,
        size: Bytes,
        progress: impl Fn(u64),
    ) -> Result<Pin, FetchError> {
        if let Some(pin) = self.pin(digest) {
            if self.verify(digest, size).await? {
                return Ok(pin);
            }
            tracing::warn!(blob = %digest, "a cached blob is damaged; it is fetched again");
            self.entries().blobs.remove(&digest);
            self.remove(digest)?;
        }
        self.make_room(size.0)?;
        while let Err(error) = self.download(client, digest, size, &progress).await {
            let full = matches!(error, FetchError::DiskFull { .. });
            if !(full && self.evict_one()?) {
                return Err(error);
            }
        }
        let mut entries = self.entries();
        entries.uses += 1;
        let entry = Entry { size: size.0, used: entries.uses, pins: 1, verified: true };
        entries.blobs.insert(digest, entry);
        Ok(Pin { cache: self.clone(), digest })
    }

    fn pin(self: &Arc<Self>, digest: Digest) -> Option<Pin> {
        let mut entries = self.entries();
        entries.uses += 1;
        let uses = entries.uses;
        let entry = entries.blobs.get_mut(&digest)?;
        entry.pins += 1;
        entry.used = uses;
        Some(Pin { cache: self.clone(), digest })
    }

    async fn verify(&self, digest: Digest, size: Bytes) -> Result<bool, FetchError> {
        let path = self.path(digest);
        if self.entries().blobs.get(&digest).is_some_and(|entry| entry.verified) {
            return Ok(true);
        }
        let io_error = |source| FetchError::Io { path: path.clone(), source };
        let (file, modified) = (path.clone(), SystemTime::now());
        let found = blocking(move || {
            let hashed = hash_file(&file)?;
            // So that the order of use outlives this process.
            fs::File::open(&file)?.set_modified(modified)?;
            Ok(hashed)
        });
        let (hasher, len) = match found.await {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(io_error(source)),
        };
        let right = len == size.0 && Digest(hasher.finalize().into()) == digest;
        if let Some(entry) = self.entries().blobs.get_mut(&digest) {
            entry.verified = right;
        }
        Ok(right)
    }

    async fn download(
        &self,
        client: &PoolClient,
        digest: Digest,
        size: Bytes,
        progress: &impl Fn(u64),
    ) -> Result<(), FetchError> {
        let partial = self.dir.join("partial").join(digest.hex());
        let (mut failures, mut wrong, mut reached) = (0, 0, 0);
        loop {
            client.connected().await;
            let error = match self.transfer(client, digest, size, &partial, progress).await {
                Ok(()) => return Ok(()),
                Err(Broken::Wrong) => {
                    remove(&partial)?;
                    wrong += 1;
                    // Once it may have been a damaged beginning from before.
                    if wrong > 1 {
                        return Err(FetchError::Wrong(digest));
                    }
                    continue;
                }
                Err(Broken::Disk(source)) if is_full(&source) => {
                    remove(&partial)?;
                    return Err(FetchError::DiskFull { size, path: self.dir.clone() });
                }
                Err(Broken::Disk(source)) => return Err(FetchError::Io { path: partial, source }),
                Err(Broken::Call(error)) => error,
            };
            let here = fs::metadata(&partial).map_or(0, |file| file.len());
            failures = if here > reached { 1 } else { failures + 1 };
            reached = here;
            let gone = matches!(error, CallError::Status { status: StatusCode::NOT_FOUND, .. });
            if gone || failures >= FAILURES_MAX {
                return Err(FetchError::Call { digest, source: error });
            }
            tracing::debug!(blob = %digest, %error, failures, "a transfer broke; it goes on in a moment");
            tokio::time::sleep(RETRY_FIRST * 2u32.pow(failures)).await;
        }
    }

    /// Receives what is missing of the blob and puts it in its place.
    async fn transfer(
        &self,
        client: &PoolClient,
        digest: Digest,
        size: Bytes,
        partial: &Path,
        progress: &impl Fn(u64),
    ) -> Result<(), Broken> {
        let path = partial.to_owned();
        let begun = blocking(move || match hash_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((Sha256::new(), 0)),
            other => other,
        });
        let (mut hasher, mut len) = begun.await.map_err(Broken::Disk)?;
        if len > size.0 {
            return Err(Broken::Wrong);
        }
        if len < size.0 {
            let mut response = client.blob(digest, len, None).await.map_err(Broken::Call)?;
            if response.status() != StatusCode::PARTIAL_CONTENT || !starts_at(&response, len) {
                (hasher, len) = (Sha256::new(), 0);
                if response.status() != StatusCode::OK {
                    return Err(Broken::Wrong);
                }
            }
            let mut options = tokio::fs::OpenOptions::new();
            let mut file =
                options.create(true).truncate(false).write(true).open(partial).await.map_err(Broken::Disk)?;
            file.set_len(len).await.map_err(Broken::Disk)?;
            file.seek(io::SeekFrom::Start(len)).await.map_err(Broken::Disk)?;
            let received = receive(&mut response, &mut file, &mut hasher, &mut len, size.0, progress).await;
            // Also after a failure, so that the next attempt goes on from here.
            file.flush().await.map_err(Broken::Disk)?;
            received?;
        }
        if Digest(hasher.finalize().into()) != digest {
            return Err(Broken::Wrong);
        }
        fs::rename(partial, self.path(digest)).map_err(Broken::Disk)
    }

    /// Drops the least recently used blobs until `size` more bytes fit.
    fn make_room(&self, size: u64) -> Result<(), FetchError> {
        let used = |entries: &Entries| entries.blobs.values().map(|entry| entry.size).sum::<u64>();
        while used(&self.entries()).saturating_add(size) > self.limit {
            if !self.evict_one()? {
                return Err(FetchError::NoRoom { size: Bytes(size), limit: Bytes(self.limit) });
            }
        }
        Ok(())
    }

    /// Drops the least recently used blob that nobody uses. False: there is none.
    fn evict_one(&self) -> Result<bool, FetchError> {
        let mut entries = self.entries();
        let unused = entries.blobs.iter().filter(|(_, entry)| entry.pins == 0);
        let Some((&digest, _)) = unused.min_by_key(|(_, entry)| entry.used) else { return Ok(false) };
        entries.blobs.remove(&digest);
        tracing::debug!(blob = %digest, "dropped to make room");
        self.remove(digest)?;
        Ok(true)
    }

    fn remove(&self, digest: Digest) -> Result<(), FetchError> {
        remove(&self.path(digest))
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // Nothing that is done under the lock can leave it half-done.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a transfer ended early.
enum Broken {
    Call(CallError),
    Disk(io::Error),
    /// The bytes are not the blob's.
    Wrong,
}

async fn receive(
    response: &mut reqwest::Response,
    file: &mut tokio::fs::File,
    hasher: &mut Sha256,
    len: &mut u64,
    size: u64,
    progress: &impl Fn(u64),
) -> Result<(), Broken> {
    while *len < size {
        let chunk = tokio::time::timeout(STALL, response.chunk()).await;
        let chunk = chunk.map_err(|_| Broken::Call(CallError::Stalled))?;
        let Some(chunk) = chunk.map_err(|error| Broken::Call(error.into()))? else {
            return Err(Broken::Call(CallError::Short));
        };
        if chunk.len() as u64 > size - *len {
            return Err(Broken::Wrong);
        }
        file.write_all(&chunk).await.map_err(Broken::Disk)?;
        hasher.update(&chunk);
        *len += chunk.len() as u64;
        progress(*len);
    }
    Ok(())
}

/// Whether a partial answer is the part that was asked for.
fn starts_at(response: &reqwest::Response, offset: u64) -> bool {
    let range = response.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    range.and_then(|range| range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()) == Some(offset)
}

fn hash_file(path: &Path) -> io::Result<(Sha256, u64)> {
    let mut file = fs::File::open(path)?;
    let (mut hasher, mut len) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((hasher, len)),
            count => {
                hasher.update(&buffer[..count]);
                len += count as u64;
            }
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn remove(path: &Path) -> Result<(), FetchError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FetchError::Io { path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
