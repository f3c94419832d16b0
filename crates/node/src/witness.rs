//! A witness's shell (c2sp.org/tlog-witness): it keeps what was cosigned last in a file, and answers `add-checkpoint` over
//! HTTP. [`Witness`] decides; nothing is answered before it is durable.

use crate::http::bodies::read_limited;
use crate::http::server;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::post;
use caii_model::Timestamp;
use caii_tlog::{AddCheckpoint, Cosigner, Origin, REQUEST_SIZE_MAX, RequestError, RestoreError, Tree, VerifierKey};
use caii_tlog::{Witness, WitnessRefusal};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

/// Requests that may be under way together.
const CONNECTIONS_MAX: usize = 256;

/// Why a witness cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// What it cosigned last cannot be read or written.
    #[error("cannot {attempt} {}", path.display())]
    State {
        /// What was tried.
        attempt: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another process has it.
    #[error("another witness uses {}: two of them could sign two trees; stop the other one first", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// What is stored is of no use.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The checkpoint is not cosigned.
    #[error(transparent)]
    Refused(#[from] WitnessRefusal),
}

/// A witness of one log, with the file in which it remembers what it cosigned last. While this exists, no other process
/// can use that file.
#[derive(Debug)]
pub struct StoredWitness {
    cosigner: Cosigner,
    origin: Origin,
    keys: Vec<VerifierKey>,
    state: PathBuf,
    /// Absent after a failure to store: then it is made anew from what is stored.
    witness: Mutex<Option<Witness>>,
    _lock: File,
}

impl StoredWitness {
    /// Takes up what is stored in the file, which need not be there before the first checkpoint.
    ///
    /// # Errors
    /// If another process has it, or it is damaged.
    pub fn open(
        cosigner: Cosigner,
        origin: Origin,
        keys: Vec<VerifierKey>,
        state: PathBuf,
    ) -> Result<Self, WitnessError> {
        let lock_path = beside(&state, ".lock");
        let failed = |source| WitnessError::State { attempt: "lock", path: lock_path.clone(), source };
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path).map_err(failed)?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(WitnessError::Locked { path: state }),
            Err(errno) => return Err(failed(errno.into())),
        }
        let stored = Self { cosigner, origin, keys, state, witness: Mutex::new(None), _lock: lock };
        stored.restore().map(|witness| Self { witness: Mutex::new(Some(witness)), ..stored })
    }

    fn restore(&self) -> Result<Witness, WitnessError> {
        let stored = match std::fs::read(&self.state) {
            Ok(stored) => Some(stored),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(WitnessError::State { attempt: "read", path: self.state.clone(), source }),
        };
        let mut witness = Witness::new(self.cosigner.clone());
        witness.know(self.origin.clone(), self.keys.clone(), stored.as_deref())?;
        Ok(witness)
    }

    /// The log.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The tree that it cosigned last; the empty one before the first.
    ///
    /// # Errors
    /// If what is stored cannot be read.
    pub fn tree(&self) -> Result<Tree, WitnessError> {
        self.with(|witness| {
            let known = witness.logs().find(|(origin, _)| **origin == self.origin);
            Ok(known.map_or(Tree::empty(), |(_, log)| log.tree()))
        })
    }

    /// Cosigns a checkpoint that continues the one cosigned last; its size and the line. Both are durable then.
    ///
    /// # Errors
    /// If it is not cosigned, or cannot be made durable.
    pub fn cosign(&self, request: &AddCheckpoint, now: Timestamp) -> Result<(u64, String), WitnessError> {
        self.with(|witness| {
            let cosigned = witness.add_checkpoint(request, now)?;
            write_durably(&self.state, cosigned.state().as_bytes()).map_err(|source| WitnessError::State {
                attempt: "write",
                path: self.state.clone(),
                source,
            })?;
            Ok((cosigned.tree.size, cosigned.answer()))
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Witness) -> Result<T, WitnessError>) -> Result<T, WitnessError> {
        // Whoever panicked with it left nothing here.
        let mut slot = self.witness.lock().unwrap_or_else(PoisonError::into_inner);
        let mut witness = match slot.take() {
            Some(witness) => witness,
            None => self.restore()?,
        };
        let done = act(&mut witness);
        // What was not stored must be forgotten.
        if !matches!(done, Err(WitnessError::State { .. })) {
            *slot = Some(witness);
        }
        done
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The file and its name are on disk before this returns: a witness that forgot could sign two trees.
///
/// # Errors
/// If they are not.
pub fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(dir)?.sync_all()
}

/// Answers `add-checkpoint` until it is told to stop.
pub async fn serve(listener: TcpListener, witness: Arc<StoredWitness>, stop: watch::Receiver<bool>) {
    let router = Router::new().route("/add-checkpoint", post(add_checkpoint)).with_state(witness);
    server::serve(listener, None, router, Arc::new(Semaphore::new(CONNECTIONS_MAX)), stop).await;
}

async fn add_checkpoint(State(witness): State<Arc<StoredWitness>>, body: Body) -> Response {
    let Ok(body) = read_limited(body, REQUEST_SIZE_MAX).await else {
        return answer(413, "text/plain; charset=utf-8", format!("at most {REQUEST_SIZE_MAX} bytes are read\n"));
    };
    let cosign = move || {
        let request = AddCheckpoint::parse(&body).map_err(|why: RequestError| WitnessRefusal::Malformed(why))?;
        witness.cosign(&request, crate::clock::now())
    };
    match tokio::task::spawn_blocking(cosign).await {
        Ok(Ok((size, line))) => {
            tracing::info!(size, "cosigned");
            answer(200, "text/plain; charset=utf-8", line)
        }
        Ok(Err(WitnessError::Refused(refusal))) => {
            tracing::warn!(%refusal, "not cosigned");
            let (kind, body) = refusal.body();
            answer(refusal.status(), kind, body)
        }
        Ok(Err(error)) => internal(&error),
        Err(error) => internal(&error),
    }
}

fn internal(error: &dyn std::error::Error) -> Response {
    tracing::error!(reason = %crate::pool::actor::describe(error), "cannot cosign");
    answer(500, "text/plain; charset=utf-8", "the witness cannot store what it cosigns\n".into())
}

fn answer(status: u16, kind: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).expect("refusals have statuses of HTTP");
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
