//! Why a runner could not be started, and why a task has no outcomes.

use crate::jail::{self, JailLayer, JailPolicy, JailReport};
use crate::protocol::MAX_ITEM;
use caii_model::{Bytes, Digest, ItemError, Millis};
use std::io;
use std::path::PathBuf;

/// Why a runner could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The manifest asks for what no device does.
    #[error("the manifest cannot be run: {0}")]
    Manifest(String),
    /// The manifest names a meter that this build does not have.
    #[error("this device has no meter {0}; another version of the software may have it")]
    UnknownMeter(Digest),
    /// The program cannot run on any device.
    #[error("the program cannot be run: {0}")]
    Program(String),
    /// The program's initialiser failed, as it would on any device.
    #[error("the program's initialiser failed: {error:?}; it said: {}", String::from_utf8_lossy(.stderr).trim())]
    Initialiser {
        /// How.
        error: ItemError,
        /// What it wrote to standard error, within the manifest's limit.
        stderr: Vec<u8>,
    },
    /// A file that the workload needs is not there.
    #[error("cannot open {} for the runner", .path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The cache of compiled images cannot be used.
    #[error("cannot use the cache of compiled programs in {}", .path.display())]
    Cache {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Compiled images turn out damaged again and again.
    #[error("the cached image is damaged even when it is made anew ({0}); is the disk failing?")]
    ImageKeepsFailing(String),
    /// The process could not be started.
    #[error("cannot start the runner {}", .command.display())]
    Spawn {
        /// The executable.
        command: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Compiling and initialising took too long on this device.
    #[error("preparing the program took longer than {0}")]
    TooSlow(Millis),
    /// The runner says that this device cannot do it.
    #[error("this device cannot run the program: {0}")]
    Host(String),
    /// The jail cannot be closed on this device, and the contributor insists on it.
    #[error("nothing is run here, because {}", why_jail(report, *policy))]
    Jail {
        /// What is in force and what is not.
        report: JailReport,
        /// What the contributor insists on.
        policy: JailPolicy,
    },
    /// The runner ended before it was ready.
    #[error("the runner died while starting ({status}); it said: {stderr}")]
    Died {
        /// Its exit status.
        status: String,
        /// The end of its own standard error.
        stderr: String,
    },
    /// The runner broke the protocol.
    #[error("the runner does not speak the protocol (is it the same version?): {0}")]
    Protocol(String),
}

impl StartError {
    /// Whether every device would fail alike, so that trying elsewhere is pointless.
    pub fn is_programs_fault(&self) -> bool {
        matches!(self, Self::Manifest(_) | Self::Program(_) | Self::Initialiser { .. })
    }
}

/// What is missed of the jail, and what the contributor can do.
fn why_jail(report: &JailReport, policy: JailPolicy) -> String {
    let missed: Vec<(JailLayer, &str)> = report.missed(policy).collect();
    // One cause takes several layers away; those that share a remedy are told together.
    let mut remedies: Vec<&str> = missed.iter().map(|(layer, _)| jail::remedy(*layer)).collect();
    remedies.dedup();
    let (what, them) = if missed.len() == 1 { ("layer", "it") } else { ("layers", "them") };
    let is = if missed.len() == 1 { "is" } else { "are" };
    let told: Vec<String> = missed.iter().map(|(layer, reason)| format!("{layer} ({reason})")).collect();
    let names: Vec<&str> = missed.iter().map(|(layer, _)| layer.name()).collect();
    format!(
        "the jail's {what} {} {is} missing. To have {them}, {}; or let this device run programs without {them}: \
         --allow-weak-jail {}",
        told.join(", "),
        remedies.join("; "),
        names.join(",")
    )
}

/// Why a task has no outcomes. It is always the attempt that failed, and the runner is gone, except after
/// [`RunError::ItemTooLarge`].
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An item took longer than the manifest's wall limit on this device.
    #[error("item {index} ran longer than {limit} here")]
    ItemTooSlow {
        /// Its place in the task, from 0.
        index: usize,
        /// The manifest's limit.
        limit: Millis,
    },
    /// The task produced too much output.
    #[error("the task's outputs exceed {limit} together; use fewer records per task")]
    OutputTooLarge {
        /// [`RunnerSpec::output_per_task`].
        limit: Bytes,
    },
    /// An item is larger than any runner takes. Nothing was run; the runner can still be used.
    #[error("item {index} has {size}; at most {} are possible", Bytes(MAX_ITEM as u64))]
    ItemTooLarge {
        /// Its place in the task, from 0.
        index: usize,
        /// Its size.
        size: Bytes,
    },
    /// The runner process ended: killed, out of memory, or a flaw in it.
    #[error("the runner died ({status}); it said: {stderr}")]
    Died {
        /// Its exit status.
        status: String,
        /// The end of its own standard error.
        stderr: String,
    },
    /// The runner broke the protocol; it was killed.
    #[error("the runner does not speak the protocol: {0}")]
    Protocol(String),
    /// An earlier task failed or was dropped half-way; start another runner.
    #[error("this runner was stopped by an earlier failure; start another")]
    Unusable,
}
