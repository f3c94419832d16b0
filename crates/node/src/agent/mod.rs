//! A contributor's device: it joins a pool, then works until it is told to stop.
//!
//! [`run`] is all there is to call. The decisions are those of [`caii_agent::Agent`]; here is what touches the world:
//! the directory ([`home`]), HTTPS ([`client`]), the files of workloads ([`cache`]), runners ([`workshop`]), and the
//! loop that connects them ([`driver`]).
//!
//! What must never be here: an input or a result on disk; a connection that somebody else opened; a decision about
//! which lease to work on.

mod cache;
mod choices;
mod claims;
mod client;
mod driver;
mod energy;
mod event;
mod gate;
mod home;
mod jails;
mod notes;
mod status;
mod wiped;
mod workshop;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod testing {
    pub(super) mod server;
    pub(super) mod stewards;
}
#[cfg(test)]
mod tests;

pub use choices::{Choices, ChoicesError, weak_layer};
pub use driver::DriverError;
pub use energy::EnergyView;
pub use event::AgentEvent;
pub use gate::{CertifiedView, RefusedView, TrustView};
pub use home::HomeError;
pub use jails::{JailStageView, JailView, LayerStateView, LayerView};
pub use status::{ForgottenView, StatusView, status};

use cache::BlobCache;
use caii_agent::{Agent, Config, ExitReason};
use caii_model::{Bytes, Digest, Millis, PoolId, Refusal, RuntimeVersion};
use caii_sandbox::DeviceSecret;
use caii_sandbox::Priority;
use caii_trust::SigningKey;
use caii_wire::{JoinTicket, TicketError};
use claims::ClaimsFile;
use client::{CallError, PoolClient};
use driver::{Driver, Events};
use gate::Gate;
use home::{Home, Membership};
use jails::Jails;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use workshop::{Equipment, Workshop};

/// Pauses between attempts to enrol: the first and the longest.
const ENROL_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// Where in its directory an agent keeps what it verified of the charter.
const CHARTER_DIR: &str = "charter";

/// How a device lends itself.
#[derive(Debug, Clone)]
pub struct AgentOptions {
    /// The join ticket; needed the first time only.
    pub ticket: Option<String>,
    /// Where identity, membership and cached workloads are kept. One agent at a time.
    pub dir: PathBuf,
    /// A label for people, at most 64 characters.
    pub name: String,
    /// Tasks run at a time; 0 counts as 1.
    pub slots: u32,
    /// The executable and the arguments that lead to [`caii_sandbox::runner_main`].
    pub runner_command: (PathBuf, Vec<OsString>),
    /// How runners compete for the CPU.
    pub priority: Priority,
    /// Disk space for the files of workloads, compiled programs apart.
    pub cache_limit: Bytes,
    /// How long running tasks may go on after a request to stop.
    pub stop_grace: Millis,
    /// What the owner chooses. Where it says nothing, `agent.toml` in the directory does.
    pub choices: Choices,
    /// Falsifies results before the device commits to them. For demonstrations and tests of what a pool does about it.
    #[doc(hidden)]
    pub falsify: Option<Falsify>,
}

/// What a cheating contributor's agent does to an outcome.
#[doc(hidden)]
#[derive(Clone)]
pub struct Falsify(pub Arc<dyn Fn(&mut caii_model::ItemOutcome) + Send + Sync>);

impl std::fmt::Debug for Falsify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Falsify")
    }
}

impl AgentOptions {
    /// For this directory and runner: one slot, idle priority, 20 GB of disk, 5 s to stop.
    pub fn new(dir: PathBuf, runner_command: (PathBuf, Vec<OsString>)) -> Self {
        Self {
            ticket: None,
            dir,
            name: String::new(),
            slots: 1,
            runner_command,
            priority: Priority::Idle,
            cache_limit: Bytes(20_000_000_000),
            stop_grace: Millis(5_000),
            choices: Choices::default(),
            falsify: None,
        }
    }
}

/// The version of the engine in this release.
pub(crate) fn runtime_version() -> RuntimeVersion {
    caii_sandbox::WASMTIME_VERSION.parse().expect("it is three numbers, which a test makes sure of")
}

/// Why an agent ended other than by request.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Its directory cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// What its owner chose is not acceptable.
    #[error(transparent)]
    Choices(#[from] ChoicesError),
    /// Its cache cannot be used.
    #[error("cannot use the cache in {}", path.display())]
    Cache {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The join ticket is no usable one.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// It has not joined a pool yet and was given no ticket.
    #[error("{} belongs to no pool yet; run `caii agent run TICKET` with a ticket of the pool's operator", dir.display())]
    NotJoined {
        /// The directory.
        dir: PathBuf,
    },
    /// The ticket is another pool's.
    #[error(
        "{} belongs to {joined}, the ticket is for {ticket}; use another --dir for the other pool", dir.display()
    )]
    OtherPool {
        /// The directory.
        dir: PathBuf,
        /// Its pool.
        joined: PoolId,
        /// The ticket's.
        ticket: PoolId,
    },
    /// The pool did not enrol the device.
    #[error("the pool did not accept this device: {0}")]
    Enrolment(Refusal),
    /// Whoever answers at the ticket's addresses is not the pool.
    #[error("cannot join: {reason}; ask the pool's operator for a new ticket")]
    Imposter {
        /// What gave it away.
        reason: String,
    },
    /// The pool will not serve the device.
    #[error("the pool refuses this device: {0}")]
    Refused(Refusal),
    /// Another agent uses the same identity.
    #[error(
        "another agent with this device's identity is connected to the pool; give each agent a directory of its own \
         instead of a copy, and start this one again if the other is not wanted"
    )]
    Superseded,
    /// The HTTPS client cannot be made.
    #[error("cannot set up HTTPS")]
    Https(#[source] reqwest::Error),
    /// Signals cannot be listened for.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    /// What is kept of the charter cannot be used.
    #[error("cannot use what this device knows of its pool's charter")]
    Charter(#[source] caii_governance::GovernanceError),
    /// The agent itself failed.
    #[error(transparent)]
    Driver(#[from] DriverError),
}

/// Lends this machine until SIGINT or SIGTERM, which let running tasks finish for a moment and, said twice, do not.
///
/// `events` is told what a person may want to see; it must not block.
///
/// # Errors
/// See [`AgentError`]. A pool that cannot be reached is none: it is tried again for ever.
pub async fn run(options: AgentOptions, events: impl Fn(AgentEvent) + Send + Sync + 'static) -> Result<(), AgentError> {
    let (sender, mut stop) = mpsc::channel(4);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(AgentError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(AgentError::Signals)?;
    let listener = tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            // A full channel holds more requests than anybody can mean.
            let _ = sender.try_send(());
        }
    });
    let result = run_until(options, &mut stop, events).await;
    listener.abort();
    result
}

/// The same, until a message on `stop`; a second one ends it at once.
///
/// # Errors
/// See [`run`].
pub async fn run_until(
    mut options: AgentOptions,
    stop: &mut mpsc::Receiver<()>,
    events: impl Fn(AgentEvent) + Send + Sync + 'static,
) -> Result<(), AgentError> {
    let events: Events = Arc::new(events);
    let home = Home::open(&options.dir)?;
    options.choices.check()?;
    options.choices = options.choices.or(Choices::in_dir(home.path())?);
    options.choices.note(home.path());
    let chosen = options.choices.lines();
    if !chosen.is_empty() {
        events(AgentEvent::Chosen { lines: chosen });
    }
    let key = home.identity()?;
    let mut ticket = options.ticket.as_deref().map(JoinTicket::decode).transpose()?;
    let remembered = home.membership()?;
    let mut membership = match (&ticket, remembered) {
        (None, None) => return Err(AgentError::NotJoined { dir: options.dir }),
        (None, Some(membership)) => membership,
        (Some(ticket), Some(membership)) if membership.pool != ticket.pool => {
            let (joined, ticket) = (membership.pool, ticket.pool);
            return Err(AgentError::OtherPool { dir: options.dir, joined, ticket });
        }
        // The pool may have moved or have a new certificate; the device is enrolled already.
        (Some(ticket), Some(membership)) => Membership::of_ticket(ticket, membership.pool_public_key),
        (Some(joining), None) => {
            let Some(membership) = enrol(joining, &key, &options.name, stop, &events).await? else { return Ok(()) };
            ticket = None;
            membership
        }
    };
    home.remember(&membership)?;
    loop {
        match work(&options, &home, &key, &membership, stop, &events).await? {
            ExitReason::Stopped { unreported } => {
                events(AgentEvent::Stopped { unreported });
                return Ok(());
            }
            ExitReason::Superseded => return Err(AgentError::Superseded),
            // The pool was made anew, or restored from before this device joined. A ticket lets it join again.
            ExitReason::Refused(Refusal::DeviceUnknown(_)) if ticket.is_some() => {
                let Some(joining) = ticket.take() else { continue };
                match enrol(&joining, &key, &options.name, stop, &events).await? {
                    Some(joined) => membership = joined,
                    None => return Ok(()),
                }
                home.remember(&membership)?;
            }
            ExitReason::Refused(refusal) => return Err(AgentError::Refused(refusal)),
        }
    }
}

/// Joins the ticket's pool. Nothing: asked to stop before the pool could be reached.
async fn enrol(
    ticket: &JoinTicket,
    key: &SigningKey,
    name: &str,
    stop: &mut mpsc::Receiver<()>,
    events: &Events,
) -> Result<Option<Membership>, AgentError> {
    let mut pause = ENROL_BACKOFF.0;
    loop {
        let (mut trouble, mut imposters) = (String::new(), 0);
        for address in &ticket.addresses {
            match client::enrol(ticket, address, key, name).await {
                Ok(Ok(reply)) => {
                    let device = caii_trust::device_id(&key.public());
                    let pool = caii_trust::pool_id(&reply.pool_public_key);
                    if (reply.pool, pool, reply.device) != (ticket.pool, ticket.pool, device) {
                        let reason = format!("{address} is {pool} and not the ticket's {}", ticket.pool);
                        return Err(AgentError::Imposter { reason });
                    }
                    events(AgentEvent::Enrolled { device, pool });
                    return Ok(Some(Membership::of_ticket(ticket, reply.pool_public_key)));
                }
                Ok(Err(refusal)) => return Err(AgentError::Enrolment(refusal)),
                Err(error) => {
                    imposters += usize::from(matches!(error, CallError::Foreign(_)));
                    trouble = format!("{address}: {error}");
                }
            }
        }
        if imposters == ticket.addresses.len() {
            return Err(AgentError::Imposter { reason: trouble });
        }
        events(AgentEvent::Unreachable { reason: trouble, retry: Millis(pause.as_millis() as u64) });
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            Some(()) = stop.recv() => {
                events(AgentEvent::Stopped { unreported: 0 });
                return Ok(None);
            }
        }
        pause = (pause * 2).min(ENROL_BACKOFF.1);
    }
}

/// What the device in this directory trusts. It need not be running.
///
/// # Errors
/// When it has joined no pool, or what it keeps cannot be read.
pub fn trust(dir: &Path) -> Result<TrustView, AgentError> {
    let membership = home::membership_in(dir)?.ok_or_else(|| AgentError::NotJoined { dir: dir.to_owned() })?;
    let (choices, jails) = (Choices::in_force(dir)?, jails::noted(dir));
    gate::view(&dir.join(CHARTER_DIR), &membership, choices, jails).map_err(AgentError::Charter)
}

async fn work(
    options: &AgentOptions,
    home: &Home,
    key: &SigningKey,
    membership: &Membership,
    stop: &mut mpsc::Receiver<()>,
    events: &Events,
) -> Result<ExitReason, AgentError> {
    let blobs = home.path().join("blobs");
    let cache = BlobCache::open(&blobs, options.cache_limit)
        .map_err(|source| AgentError::Cache { path: blobs.clone(), source })?;
    let (session, sessions) = watch::channel(None);
    let client = Arc::new(PoolClient::new(membership, key.clone(), sessions).map_err(AgentError::Https)?);
    let mut config = Config::new(caii_sandbox::meter_id(), options.slots);
    config.stop_grace = options.stop_grace;
    let policy = options.choices.policy();
    let gate = Gate::open(&home.path().join(CHARTER_DIR), membership.charter, policy, client.clone());
    let gate = Arc::new(gate.map_err(AgentError::Charter)?);
    let workshop = Workshop::new(Equipment {
        client: client.clone(),
        cache: Arc::new(cache),
        images: home.path().join("images"),
        device_secret: device_secret(key),
        runner: options.runner_command.clone(),
        priority: options.priority,
        slots: config.slots as usize,
        gate: gate.clone(),
        jails: Jails::open(home.path(), options.choices.jail(), events.clone()),
        energy: energy::open(Path::new("/"), home.path()),
        falsify: options.falsify.clone(),
    });
    let device = caii_trust::device_id(&key.public());
    let claims = ClaimsFile::in_dir(home.path());
    let agent = Agent::new(config.clone(), device).knowing(claims.read()?);
    let driver = Driver {
        pool: membership.pool,
        pool_public_key: membership.pool_public_key,
        client,
        workshop: Arc::new(workshop),
        gate,
        claims,
        session,
        events: events.clone(),
    };
    Ok(driver.run(agent, &config, stop).await?)
}

/// The secret that binds compiled programs to this device. A signature that nobody but the key's holder can make and
/// that is never sent serves as one: the same in each life of the agent, and nothing more to keep.
fn device_secret(key: &SigningKey) -> DeviceSecret {
    let signature = key.sign("image cache", &Digest::of(b"caii image cache 1"));
    DeviceSecret::new(Digest::of(&signature).0)
}
