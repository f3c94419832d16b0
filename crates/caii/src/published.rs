//! A pool's published files, from a directory or by HTTP.

use crate::client::{PoolArgs, local_pool};
use crate::error::CliError;
use caii_audit::{CHECKPOINT, FileError, Files, partial_files};
use caii_model::Digest;
use caii_tlog::{Checkpoint, Note, Policy};
use reqwest::StatusCode;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::runtime::Handle;

/// No published file is larger.
const FILE_SIZE_MAX: u64 = 64 << 20;
/// A server is waited for so long before it says anything.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// The last checkpoint that witnesses cosigned, which may be an earlier one than the newest.
const COSIGNED: &str = "cosigned";
/// How often a checkpoint is read again whose files at the edge are gone meanwhile.
const LOOKS: u32 = 5;

/// Where the files are. Reading blocks, so it belongs on a thread for that.
#[derive(Clone)]
pub(crate) enum Source {
    Directory(PathBuf),
    Url { http: reqwest::Client, prefix: String, runtime: Handle },
}

impl Source {
    /// A directory, a URL, or the files of the pool that is named otherwise. A pool's own certificate is pinned by
    /// `--fingerprint`, or by what `caii pool up` wrote on this machine.
    pub(crate) fn new(place: Option<&str>, pool: &PoolArgs) -> Result<Self, CliError> {
        let local = || local_pool(pool);
        let (prefix, known) = match (place, &pool.pool) {
            (Some(place), _) if !place.starts_with("https://") && !place.starts_with("http://") => {
                return Ok(Self::Directory(place.into()));
            }
            (Some(url), _) => {
                let url = url.trim_end_matches('/').to_owned();
                // Nobody else's address begins as this pool's does, with a slash after it.
                let ours = local().ok().filter(|file| url.starts_with(&format!("{}/", file.url)));
                (url, ours.map(|file| file.fingerprint))
            }
            (None, Some(pool)) => (format!("{}/published", pool.trim_end_matches('/')), None),
            (None, None) => {
                let file = local()?;
                (format!("{}/published", file.url), Some(file.fingerprint))
            }
        };
        let pinned = pool.fingerprint.clone().or(known).map(|hex| hex.parse::<Digest>()).transpose();
        let pinned = pinned.map_err(|error| CliError::Usage(format!("--fingerprint: {error}")))?;
        let http = match pinned {
            Some(fingerprint) if prefix.starts_with("https://") => caii_node::pinned::client(fingerprint),
            _ => caii_node::pinned::trusting(),
        };
        let http = http.read_timeout(ANSWER_TIMEOUT).build();
        let http = http.map_err(|source| CliError::Unreachable { url: prefix.clone(), source })?;
        Ok(Self::Url { http, prefix, runtime: Handle::current() })
    }
}

impl Files for Source {
    fn read(&self, path: &str) -> Result<Vec<u8>, FileError> {
        let missing = || FileError::Missing { path: path.to_owned() };
        let unreadable = |why: String| FileError::Unreadable { path: path.to_owned(), why };
        let too_large = || unreadable(format!("it has more than {FILE_SIZE_MAX} bytes"));
        match self {
            Self::Directory(dir) => {
                let at = dir.join(path);
                let size = match std::fs::metadata(&at) {
                    Ok(meta) => meta.len(),
                    // A partial file's directory, `000.p`, may be gone with it.
                    Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                        return Err(missing());
                    }
                    Err(error) => return Err(unreadable(error.to_string())),
                };
                if size > FILE_SIZE_MAX {
                    return Err(too_large());
                }
                std::fs::read(&at).map_err(|error| unreadable(error.to_string()))
            }
            Self::Url { http, prefix, runtime } => runtime.block_on(async {
                let failed = |error: reqwest::Error| match caii_node::pinned::foreign_certificate(&error) {
                    Some(foreign) => unreadable(foreign.to_string()),
                    None => unreadable(crate::error::chain(&error)),
                };
                let mut response = http.get(format!("{prefix}/{path}")).send().await.map_err(failed)?;
                match response.status() {
                    StatusCode::OK => {}
                    StatusCode::NOT_FOUND | StatusCode::GONE => return Err(missing()),
                    other => return Err(unreadable(format!("the server answered {other}"))),
                }
                let mut bytes = Vec::new();
                while let Some(chunk) = response.chunk().await.map_err(failed)? {
                    bytes.extend_from_slice(&chunk);
                    if bytes.len() as u64 > FILE_SIZE_MAX {
                        return Err(too_large());
                    }
                }
                Ok(bytes)
            }),
        }
    }
}

/// Published files as one checkpoint has them, while the pool goes on publishing: what it will remove soon, the files at
/// the log's edge, is read at once with the checkpoint.
pub(crate) struct Snapshot {
    source: Source,
    held: BTreeMap<String, Vec<u8>>,
}

impl Snapshot {
    /// As of the newest checkpoint, or of the newest that witnesses cosigned if the policy accepts that one alone.
    pub(crate) fn take(source: Source, policy: Option<&Policy>) -> Result<Self, FileError> {
        let mut snapshot = Self { source, held: BTreeMap::new() };
        for _ in 0..LOOKS {
            snapshot.held.clear();
            let checkpoint = snapshot.checkpoint(policy)?;
            let size = Note::parse(&checkpoint).ok().and_then(|note| Checkpoint::parse(note.text()).ok());
            let whole = match size.map(|checkpoint| checkpoint.tree.size) {
                Some(size) => snapshot.hold_edge(size)?,
                // What is no checkpoint is for the audit to say.
                None => true,
            };
            snapshot.held.insert(CHECKPOINT.to_owned(), checkpoint);
            if whole {
                break;
            }
            // More was published meanwhile; or the file is missing, which is then for the audit to say.
        }
        Ok(snapshot)
    }

    fn checkpoint(&self, policy: Option<&Policy>) -> Result<Vec<u8>, FileError> {
        let newest = self.source.read(CHECKPOINT)?;
        let Some(policy) = policy else { return Ok(newest) };
        let accepted = |bytes: &[u8]| Note::parse(bytes).is_ok_and(|note| policy.accept(&note).is_ok());
        if accepted(&newest) {
            return Ok(newest);
        }
        match self.source.read(COSIGNED) {
            Ok(cosigned) if accepted(&cosigned) => Ok(cosigned),
            Ok(_) | Err(FileError::Missing { .. }) => Ok(newest),
            Err(error) => Err(error),
        }
    }

    /// Reads the partial files of a log of this size; whether all were there, or full ones in their place.
    fn hold_edge(&mut self, size: u64) -> Result<bool, FileError> {
        for partial in partial_files(size) {
            let full = partial.split_once(".p/").map_or(partial.as_str(), |(full, _)| full).to_owned();
            match self.source.read(&partial) {
                Ok(bytes) => _ = self.held.insert(partial, bytes),
                // What is full stays, and holds what the partial one held.
                Err(FileError::Missing { .. }) => match self.source.read(&full) {
                    Ok(bytes) => _ = self.held.insert(full, bytes),
                    Err(FileError::Missing { .. }) => return Ok(false),
                    Err(error) => return Err(error),
                },
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

impl Files for Snapshot {
    fn read(&self, path: &str) -> Result<Vec<u8>, FileError> {
        self.held.get(path).cloned().map_or_else(|| self.source.read(path), Ok)
    }
}
