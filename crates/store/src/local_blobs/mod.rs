//! Blobs in a directory of the local disk.
//!
//! A large blob is a file, `ab/cdef…` by its digest, written elsewhere and renamed when it is whole and synced. Syncing
//! a file and its directory costs milliseconds, which results of tasks, small and many, cannot pay each: blobs of at
//! most [`SMALL_MAX`] are rows of one database, and those that come at about the same time are synced together.

mod small;

use crate::sqlite::is_full;
use crate::{BlobError, BlobWriter, Blobs, OpenBlob, Swept};
use caii_model::{Bytes, Digest};
use sha2::{Digest as _, Sha256};
use small::SmallBlobs;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tempfile::NamedTempFile;

/// Blobs of at most so many bytes are no files of their own.
pub const SMALL_MAX: Bytes = Bytes(64 << 10);

/// Blobs in a directory. Clones are handles to the same one. One process at a time.
#[derive(Debug, Clone)]
pub struct LocalBlobs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    small: SmallBlobs,
    /// Held while a file appears, or while one is found to be old and removed: never both at once.
    files: Mutex<()>,
}

impl LocalBlobs {
    /// Opens the blobs in `directory`, which is made if need be. What earlier processes left unfinished is removed.
    pub fn open(directory: &Path) -> Result<Self, BlobError> {
        prepare(directory).map_err(|error| failed("open the blob directory", directory, error))?;
        let small = SmallBlobs::open(&directory.join("small.db"))?;
        Ok(Self { inner: Arc::new(Inner { directory: directory.to_owned(), small, files: Mutex::new(()) }) })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.inner.directory.join(&hex[..2]).join(&hex[2..])
    }

    fn file(&self, digest: &Digest) -> Result<Option<(File, u64)>, BlobError> {
        let path = self.path(digest);
        let open = || {
            let file = File::open(&path)?;
            let size = file.metadata()?.len();
            Ok((file, size))
        };
        absent_is_none(open()).map_err(|error| failed("open a blob", &path, error))
    }

    /// Moves a whole, synced file to its address.
    fn keep(&self, file: NamedTempFile, digest: &Digest) -> io::Result<()> {
        let path = self.path(digest);
        {
            let _appearing = self.inner.files.lock().unwrap_or_else(PoisonError::into_inner);
            file.persist(&path).map_err(|error| error.error)?;
        }
        let shard = path.parent().expect("a blob's file lies in a shard's directory");
        File::open(shard)?.sync_all()
    }

    fn put_large(&self, bytes: &[u8]) -> Result<(), BlobError> {
        let mut writer = Writer::new(self.clone(), Bytes(bytes.len() as u64));
        writer.write(bytes)?;
        Box::new(writer).commit(None)?;
        Ok(())
    }

    /// Removes the file if it was put before `before`.
    fn remove_file_if_older(&self, path: &Path, before: SystemTime) -> io::Result<Option<u64>> {
        let _removing = self.inner.files.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(metadata) = absent_is_none(fs::metadata(path))? else { return Ok(None) };
        if metadata.modified()? > before {
            return Ok(None);
        }
        fs::remove_file(path)?;
        Ok(Some(metadata.len()))
    }

    fn sweep_files(&self, live: &dyn Fn(&Digest) -> bool, before: SystemTime) -> io::Result<Swept> {
        let mut swept = Swept::default();
        for shard in shards() {
            for entry in fs::read_dir(self.inner.directory.join(&shard))? {
                let entry = entry?;
                let name = entry.file_name();
                let digest = name.to_str().and_then(|rest| format!("{shard}{rest}").parse::<Digest>().ok());
                // What has another name is not a blob, and not ours to remove.
                let Some(digest) = digest else { continue };
                if entry.metadata()?.modified()? > before || live(&digest) {
                    continue;
                }
                if let Some(size) = self.remove_file_if_older(&entry.path(), before)? {
                    swept.blobs += 1;
                    swept.bytes += Bytes(size);
                }
            }
        }
        Ok(swept)
    }
}

impl Blobs for LocalBlobs {
    fn writer(&self, limit: Bytes) -> Result<Box<dyn BlobWriter>, BlobError> {
        Ok(Box::new(Writer::new(self.clone(), limit)))
    }

    fn put_all(&self, blobs: &[&[u8]]) -> Result<Vec<Digest>, BlobError> {
        let digests: Vec<Digest> = blobs.iter().map(|bytes| Digest::of(bytes)).collect();
        let is_small = |bytes: &[u8]| bytes.len() as u64 <= SMALL_MAX.0;
        let small = digests.iter().zip(blobs).filter(|(_, bytes)| is_small(bytes));
        self.inner.small.put(small.map(|(digest, bytes)| (*digest, bytes.to_vec())).collect())?;
        blobs.iter().filter(|bytes| !is_small(bytes)).try_for_each(|bytes| self.put_large(bytes))?;
        Ok(digests)
    }

    fn open(&self, digest: &Digest, range: Option<Range<u64>>) -> Result<OpenBlob, BlobError> {
        if let Some((mut file, size)) = self.file(digest)? {
            let range = within(digest, range, size)?;
            let seek = file.seek(SeekFrom::Start(range.start));
            seek.map_err(|error| failed("read a blob", &self.path(digest), error))?;
            let len = range.end - range.start;
            return Ok(OpenBlob { size: Bytes(size), len, content: Box::new(file.take(len)) });
        }
        let bytes = self.inner.small.get(digest)?.ok_or(BlobError::NotFound { digest: *digest })?;
        let size = bytes.len() as u64;
        let range = within(digest, range, size)?;
        let mut content = io::Cursor::new(bytes);
        content.set_position(range.start);
        let len = range.end - range.start;
        Ok(OpenBlob { size: Bytes(size), len, content: Box::new(content.take(len)) })
    }

    fn size(&self, digest: &Digest) -> Result<Option<Bytes>, BlobError> {
        let path = self.path(digest);
        let file = absent_is_none(fs::metadata(&path)).map_err(|error| failed("look a blob up", &path, error))?;
        match file {
            Some(metadata) => Ok(Some(Bytes(metadata.len()))),
            None => Ok(self.inner.small.size(digest)?.map(Bytes)),
        }
    }

    fn touch(&self, digest: &Digest) -> Result<bool, BlobError> {
        let path = self.path(digest);
        let touch = || {
            let _touching = self.inner.files.lock().unwrap_or_else(PoisonError::into_inner);
            File::options().append(true).open(&path)?.set_modified(SystemTime::now())
        };
        match absent_is_none(touch()).map_err(|error| failed("touch a blob", &path, error))? {
            Some(()) => Ok(true),
            None => self.inner.small.touch(digest),
        }
    }

    fn delete(&self, digest: &Digest) -> Result<(), BlobError> {
        let path = self.path(digest);
        absent_is_none(fs::remove_file(&path)).map_err(|error| failed("delete a blob", &path, error))?;
        self.inner.small.delete(vec![*digest], None)?;
        Ok(())
    }

    fn sweep(&self, live: &dyn Fn(&Digest) -> bool, grace: Duration) -> Result<Swept, BlobError> {
        // Before 1970 nothing was put.
        let before = SystemTime::now().checked_sub(grace).unwrap_or(SystemTime::UNIX_EPOCH);
        let files = self.sweep_files(live, before);
        let files = files.map_err(|error| failed("sweep blobs", &self.inner.directory, error))?;
        let small = self.inner.small.sweep(live, before)?;
        Ok(Swept { blobs: files.blobs + small.blobs, bytes: Bytes(files.bytes.0 + small.bytes.0) })
    }

    fn local_path(&self, digest: &Digest) -> Option<PathBuf> {
        Some(self.path(digest)).filter(|path| path.is_file())
    }
}

/// A blob on its way: in memory while it is small, then in a file.
struct Writer {
    blobs: LocalBlobs,
    limit: Bytes,
    hasher: Sha256,
    size: u64,
    start: Vec<u8>,
    file: Option<NamedTempFile>,
}

impl Writer {
    fn new(blobs: LocalBlobs, limit: Bytes) -> Self {
        Self { blobs, limit, hasher: Sha256::new(), size: 0, start: Vec::new(), file: None }
    }

    fn write_through(&mut self, piece: &[u8]) -> io::Result<()> {
        match &mut self.file {
            Some(file) => file.write_all(piece),
            None if self.size <= SMALL_MAX.0 => {
                self.start.extend_from_slice(piece);
                Ok(())
            }
            None => {
                let file = self.file.insert(NamedTempFile::new_in(self.blobs.inner.directory.join("tmp"))?);
                file.write_all(&std::mem::take(&mut self.start))?;
                file.write_all(piece)
            }
        }
    }
}

impl BlobWriter for Writer {
    fn write(&mut self, piece: &[u8]) -> Result<(), BlobError> {
        let size = self.size + piece.len() as u64;
        if size > self.limit.0 {
            return Err(BlobError::TooLarge { limit: self.limit });
        }
        self.size = size;
        self.hasher.update(piece);
        self.write_through(piece).map_err(|error| failed("write a blob", &self.blobs.inner.directory, error))
    }

    fn commit(self: Box<Self>, expected: Option<Digest>) -> Result<(Digest, Bytes), BlobError> {
        let Self { blobs, hasher, size, start, file, .. } = *self;
        let found = Digest(hasher.finalize().into());
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(BlobError::Mismatch { expected, found });
        }
        match file {
            None => blobs.inner.small.put(vec![(found, start)])?,
            Some(file) => {
                let sync = file.as_file().sync_data();
                let kept = sync.and_then(|()| blobs.keep(file, &found));
                kept.map_err(|error| failed("keep a blob", &blobs.inner.directory, error))?;
            }
        }
        Ok((found, Bytes(size)))
    }
}

/// Makes the directories, and removes what was being written when an earlier process ended.
fn prepare(directory: &Path) -> io::Result<()> {
    let temporary = directory.join("tmp");
    fs::create_dir_all(&temporary)?;
    for shard in shards() {
        match fs::create_dir(directory.join(shard)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    for entry in fs::read_dir(&temporary)? {
        fs::remove_file(entry?.path())?;
    }
    File::open(directory)?.sync_all()
}

fn shards() -> impl Iterator<Item = String> {
    (0..=255).map(|byte: u8| format!("{byte:02x}"))
}

fn within(digest: &Digest, range: Option<Range<u64>>, size: u64) -> Result<Range<u64>, BlobError> {
    let range = range.unwrap_or(0..size);
    match range.start <= range.end && range.end <= size {
        true => Ok(range),
        false => Err(BlobError::OutOfRange { digest: *digest, range, size: Bytes(size) }),
    }
}

fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn failed(attempt: &'static str, path: &Path, error: io::Error) -> BlobError {
    let (path, full) = (path.to_owned(), is_full(error.kind()));
    let source = Arc::new(error);
    match full {
        true => BlobError::DiskFull { attempt, path, source },
        false => BlobError::Failed { attempt, path, source },
    }
}

#[cfg(test)]
mod tests;
