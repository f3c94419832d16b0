//! Content by its SHA-256: what a pool keeps outside its database.

use caii_model::{Bytes, Digest};
use sha2::{Digest as _, Sha256};
use std::error::Error;
use std::io::Read;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// Blobs, each addressed by the digest of its content. What is under an address never changes.
///
/// All calls block, on disk or network: from async code call them on a thread that may. Any number of threads may call
/// at once, also for the same blob.
pub trait Blobs: Send + Sync {
    /// Takes a blob of at most `limit` bytes piece by piece. Nothing is kept before [`BlobWriter::commit`].
    fn writer(&self, limit: Bytes) -> Result<Box<dyn BlobWriter>, BlobError>;

    /// Keeps these blobs, all durable before it returns; gives their addresses in order. Many at once cost little more
    /// than one. After an error any of them may be kept.
    fn put_all(&self, blobs: &[&[u8]]) -> Result<Vec<Digest>, BlobError>;

    /// Keeps this blob, durable before it returns.
    fn put_bytes(&self, bytes: &[u8]) -> Result<Digest, BlobError> {
        Ok(self.put_all(&[bytes])?[0])
    }

    /// A blob's content, or this range of it. The content is not checked: whoever takes it in compares digests, as
    /// [`Blobs::read`] does.
    fn open(&self, digest: &Digest, range: Option<Range<u64>>) -> Result<OpenBlob, BlobError>;

    /// A blob's size; nothing if it is not there.
    fn size(&self, digest: &Digest) -> Result<Option<Bytes>, BlobError>;

    /// Makes a blob as young as if it were put now, so that no sweep takes it before something refers to it. False if
    /// it is not there.
    fn touch(&self, digest: &Digest) -> Result<bool, BlobError>;

    /// Removes a blob. No error if it is not there.
    fn delete(&self, digest: &Digest) -> Result<(), BlobError>;

    /// Removes the blobs that are not `live` and were put at least `grace` ago; says what that came to. What is put or
    /// touched while it runs stays.
    fn sweep(&self, live: &dyn Fn(&Digest) -> bool, grace: std::time::Duration) -> Result<Swept, BlobError>;

    /// The file with exactly this blob's content, where there is one: a shortcut for whoever can map it. It must not be
    /// written.
    fn local_path(&self, digest: &Digest) -> Option<PathBuf>;

    /// A whole blob of at most `limit` bytes, its content checked.
    fn read(&self, digest: &Digest, limit: Bytes) -> Result<Vec<u8>, BlobError> {
        let opened = self.open(digest, None)?;
        if opened.size > limit {
            return Err(BlobError::TooLarge { limit });
        }
        let bytes = opened.read_to_end(digest)?;
        match Digest::of(&bytes) {
            found if found == *digest => Ok(bytes),
            _ => Err(BlobError::Corrupt { digest: *digest }),
        }
    }

    /// A part of a blob; its length is the range's. Not checked: the caller knows the part's digest, or does not care.
    fn read_range(&self, digest: &Digest, range: Range<u64>) -> Result<Vec<u8>, BlobError> {
        self.open(digest, Some(range))?.read_to_end(digest)
    }

    /// Reads a blob through and compares its digest.
    fn verify(&self, digest: &Digest) -> Result<(), BlobError> {
        let mut opened = self.open(digest, None)?;
        let (mut hasher, mut piece) = (Sha256::new(), vec![0; 1 << 16]);
        loop {
            match opened.content.read(&mut piece) {
                Ok(0) => break,
                Ok(len) => hasher.update(&piece[..len]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(unreadable(digest, error)),
            }
        }
        match Digest(hasher.finalize().into()) {
            found if found == *digest => Ok(()),
            _ => Err(BlobError::Corrupt { digest: *digest }),
        }
    }
}

/// A blob that is being put. Dropping it forgets what it took.
pub trait BlobWriter: Send {
    /// Takes the next piece.
    fn write(&mut self, piece: &[u8]) -> Result<(), BlobError>;

    /// Keeps the blob, durable before it returns. Refuses, keeping nothing, if its digest is not the `expected` one.
    fn commit(self: Box<Self>, expected: Option<Digest>) -> Result<(Digest, Bytes), BlobError>;
}

/// A blob's content, to be read.
pub struct OpenBlob {
    /// The whole blob's size, whatever part is read.
    pub size: Bytes,
    /// The length of the part that is read.
    pub len: u64,
    /// The part.
    pub content: Box<dyn Read + Send>,
}

impl OpenBlob {
    fn read_to_end(mut self, digest: &Digest) -> Result<Vec<u8>, BlobError> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.len).unwrap_or(0));
        self.content.read_to_end(&mut bytes).map_err(|error| unreadable(digest, error))?;
        match bytes.len() as u64 == self.len {
            true => Ok(bytes),
            false => Err(BlobError::Corrupt { digest: *digest }),
        }
    }
}

/// What a sweep removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Blobs.
    pub blobs: u64,
    /// Their sizes together.
    pub bytes: Bytes,
}

fn unreadable(digest: &Digest, error: std::io::Error) -> BlobError {
    let path = PathBuf::from(digest.hex());
    BlobError::Failed { attempt: "read a blob", path, source: Arc::new(error) }
}

/// Why something was not done with a blob.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BlobError {
    /// There is no such blob.
    #[error("there is no blob {digest}")]
    NotFound {
        /// Its address.
        digest: Digest,
    },
    /// The content is not what was announced.
    #[error(
        "the content has the digest {found}, not {expected}: send it again, and check the digest if that fails too"
    )]
    Mismatch {
        /// What was announced.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// There is more content than the caller allows.
    #[error("the content is larger than {limit}")]
    TooLarge {
        /// The most that is allowed.
        limit: Bytes,
    },
    /// The range does not lie within the blob.
    #[error("bytes {} to {} are not all within blob {digest}, which has {}", range.start, range.end, size.0)]
    OutOfRange {
        /// Its address.
        digest: Digest,
        /// What was asked for.
        range: Range<u64>,
        /// The blob's size.
        size: Bytes,
    },
    /// What is stored is not what was put.
    #[error("blob {digest} is damaged on disk: put it again, and check the disk")]
    Corrupt {
        /// Its address.
        digest: Digest,
    },
    /// No room on the disk.
    #[error("no room to {attempt} in {}: free some disk space, then try again", path.display())]
    DiskFull {
        /// What was to be done.
        attempt: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's own words.
        #[source]
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The disk failed in another way.
    #[error("cannot {attempt} in {}: check that it can be reached and written, and that the disk is sound", path.display())]
    Failed {
        /// What was to be done.
        attempt: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's own words.
        #[source]
        source: Arc<dyn Error + Send + Sync>,
    },
}
