//! What a command ends with when it does not succeed.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The pool refused.
    #[error("{message}")]
    Refused {
        /// The refusal's code.
        code: String,
        /// The pool's words.
        message: String,
    },
    /// The pool could not be reached.
    #[error("cannot reach the pool at {url}")]
    Unreachable {
        /// Its address.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The pool answered with what this release does not understand.
    #[error(
        "the pool at {url} answered in a way that this release does not understand ({detail}); is it a caii pool of the same release?"
    )]
    Strange {
        /// Its address.
        url: String,
        /// What was wrong.
        detail: String,
    },
    /// No pool was named and none is on this machine.
    #[error(
        "no pool is named: give --pool and --key (or CAII_POOL and CAII_KEY), or start one on this machine with `caii pool up` (looked for {})",
        looked.display()
    )]
    NoPool {
        /// The file that would name it.
        looked: PathBuf,
    },
    /// A local file could not be used.
    #[error("cannot {what} {}", path.display())]
    File {
        /// `read`, `write`, …
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What is to be checked cannot be read, so nothing can be said about it.
    #[error("{0}")]
    CannotRead(String),
    /// Something in the arguments does not make sense.
    #[error("{0}")]
    Usage(String),
    /// The job ended otherwise than completed.
    #[error("{0}")]
    JobEnded(String),
    /// A model could not be made ready.
    #[error(transparent)]
    Model(#[from] caii_models::PrepareError),
    /// The pool could not be run.
    #[error(transparent)]
    Pool(#[from] caii_node::pool::PoolError),
    /// The agent could not go on.
    #[error(transparent)]
    Agent(#[from] caii_node::agent::AgentError),
    /// The charter's files were refused, or could not be made.
    #[error(transparent)]
    Governance(#[from] caii_governance::GovernanceError),
    /// A key file gives no key.
    #[error(transparent)]
    KeyFile(#[from] caii_governance::KeyFileError),
    /// The workload may not run.
    #[error("not certified: {0}")]
    Uncertified(#[from] caii_trust::Uncertified),
    /// Interrupted.
    #[error("interrupted{0}")]
    Interrupted(String),
}

impl CliError {
    pub(crate) fn file(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File { what, path: path.to_owned(), source }
    }

    /// The code that `--output json` shows.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            Self::Unreachable { .. } => "pool-unreachable",
            Self::Strange { .. } => "pool-strange",
            Self::NoPool { .. } => "pool-not-named",
            Self::File { .. } => "file",
            Self::CannotRead(_) => "cannot-read",
            Self::Usage(_) => "usage",
            Self::JobEnded(_) => "job-ended",
            Self::Model(_) => "model",
            Self::Pool(_) => "pool",
            Self::Agent(_) => "agent",
            Self::Governance(error) => error.code(),
            Self::KeyFile(_) => "key-file",
            Self::Uncertified(error) => error.code(),
            Self::Interrupted(_) => "interrupted",
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage(_) | Self::CannotRead(_) => 2,
            Self::JobEnded(_) => 3,
            Self::Interrupted(_) => 130,
            _ => 1,
        })
    }
}

/// An error and what caused it, outermost first, each said once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
