//! A pool's published files, from a directory or by HTTP.

use crate::client::trusting;
use crate::error::CliError;
use caii_audit::{FileError, Files};
use reqwest::StatusCode;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::runtime::Handle;

/// No published file is larger.
const FILE_SIZE_MAX: u64 = 64 << 20;
/// A server is waited for so long before it says anything.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Where the files are. Reading blocks, so it belongs on a thread for that.
pub(crate) enum Source {
    Directory(PathBuf),
    Url { http: reqwest::Client, prefix: String, runtime: Handle },
}

impl Source {
    pub(crate) fn new(place: &str) -> Result<Self, CliError> {
        if !place.starts_with("https://") && !place.starts_with("http://") {
            return Ok(Self::Directory(place.into()));
        }
        let prefix = place.trim_end_matches('/').to_owned();
        let http = trusting().read_timeout(ANSWER_TIMEOUT).build();
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
                let failed = |error: reqwest::Error| unreadable(crate::error::chain(&error));
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
