//! A pool: the coordinator on its thread, its store and blobs, and the HTTP that everybody reaches it by.

pub(crate) mod actor;
pub(crate) mod assemble;
mod checks;
mod config;
pub(crate) mod governance;
mod home;
mod lines;
mod opening;
pub(crate) mod publish;
pub(crate) mod records;
pub(crate) mod split;
mod sweep;
pub(crate) mod work;

pub use config::{ConfigError, PoolConfig, WitnessSetting};
pub use governance::PoolGovernanceError;
pub use home::{ClientFile, HomeError};
pub use opening::OpeningError;
pub use publish::PublishingError;

use crate::http;
use crate::http::error::ApiError;
use actor::{ActorError, AskError, Handle, Origin, Ready, WorkQueue, describe};
use axum::http::StatusCode;
use base64::Engine as _;
use caii_audit::PoolFile;
use caii_coordinator::{Config, Input, Opening, Reply};
use caii_model::{Account, DeviceId, Digest, Manifest, MeterId, Millis, PoolId, Role, Timestamp};
use caii_store::{BlobError, Blobs, LocalBlobs, SqliteStore, StoreError};
use caii_tlog::NoteSigner;
use caii_trust::{Certified, Ed25519Authority, SigningKey, Uncertified, pool_id};
use caii_wire::{JoinTicket, TicketSecret};
use governance::Governance;
use home::{Home, Identity};
use publish::{Board, Pace, Publishing, RealDisk};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, mpsc};
use std::thread::JoinHandle;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot, watch};

/// The account of the pool's own key and devices.
const OPERATOR: &str = "operator";
/// The ticket that a pool always has ready: how long it works, for how many devices, and when it is replaced.
const TICKET_VALID: Millis = Millis(7 * 24 * 3_600_000);
const TICKET_USES: u32 = 1_000;
const TICKET_RENEW: Millis = Millis(24 * 3_600_000);

/// What a pool is started with.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// The pool's directory; made on first use.
    pub dir: PathBuf,
    /// Its settings.
    pub config: PoolConfig,
    /// A charter that stewards made, or a newer copy of it; without one the pool keeps what it has, or makes its own.
    pub charter: Option<PathBuf>,
    /// The executable and arguments that become a runner, by which the pool itself decides between devices that differ.
    pub runner: Option<(PathBuf, Vec<std::ffi::OsString>)>,
}

/// Where a running pool is found.
#[derive(Debug, Clone)]
pub struct PoolAddresses {
    /// Which pool it is.
    pub pool: PoolId,
    /// Where it listens for HTTPS.
    pub https: SocketAddr,
    /// Where it listens for plain HTTP.
    pub http: Option<SocketAddr>,
    /// How this machine's tools reach it: `https://host:port`.
    pub url: String,
    /// SHA-256 of its certificate.
    pub fingerprint: Digest,
    /// An admin key.
    pub admin_key: String,
    /// The current join ticket.
    pub ticket: String,
    /// The charter in a sentence.
    pub charter: String,
    /// Whether it is the operator's own, who then certifies alone.
    pub charter_is_own: bool,
}

/// Why a pool does not start or ends by itself.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// Its settings break a rule.
    #[error("cannot start the pool")]
    Config(#[from] ConfigError),
    /// Its directory cannot be used.
    #[error("cannot use the pool's directory")]
    Home(#[from] HomeError),
    /// Its database cannot be opened.
    #[error("cannot open the pool's database")]
    Store(#[source] StoreError),
    /// Its blobs cannot be opened.
    #[error("cannot open the pool's blobs")]
    Blobs(#[source] BlobError),
    /// It cannot listen there.
    #[error("cannot listen on {address}; another program may, so choose another address")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The certificate and its key do not work.
    #[error("cannot use the pool's certificate; delete tls.crt and tls.key to make new ones (and new join tickets)")]
    Tls(#[source] rustls::Error),
    /// Its charter does not work.
    #[error("cannot use the pool's charter")]
    Governance(#[from] PoolGovernanceError),
    /// It is not the pool that its log began with.
    #[error(transparent)]
    Opening(#[from] OpeningError),
    /// What it published contradicts its database.
    #[error(transparent)]
    Published(#[from] PublishingError),
    /// A thread cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// The coordinator does not start or has stopped.
    #[error("the pool's coordinator stopped: {0}")]
    Coordinator(String),
}

impl From<AskError> for PoolError {
    fn from(error: AskError) -> Self {
        Self::Coordinator(error.to_string())
    }
}

/// What handlers share.
pub(crate) struct Shared {
    pub(crate) handle: Handle,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) config: PoolConfig,
    pub(crate) id: PoolId,
    pub(crate) authority: Ed25519Authority,
    pub(crate) started: Timestamp,
    /// What join tickets say besides their secret.
    pub(crate) addresses: Vec<String>,
    pub(crate) fingerprint: Digest,
    pub(crate) governance: Governance,
    /// What is published of the pool's log.
    pub(crate) board: Arc<Board>,
    /// Who signs it, and under which name.
    pub(crate) published: PoolFile,
    /// Where it is.
    pub(crate) disk: RealDisk,
    /// Devices' keys and workloads' manifests never change, so they are asked for once.
    device_keys: RwLock<BTreeMap<DeviceId, [u8; 32]>>,
    manifests: RwLock<BTreeMap<Digest, Arc<Manifest>>>,
    /// The latest request of each device that waits for its answer.
    waiting: Mutex<BTreeMap<DeviceId, u64>>,
    stop: watch::Receiver<bool>,
}

impl Shared {
    /// The public key of an enrolled device.
    pub(crate) async fn device_key(&self, device: DeviceId) -> Result<Option<[u8; 32]>, AskError> {
        if let Some(key) = self.device_keys.read().unwrap_or_else(PoisonError::into_inner).get(&device) {
            return Ok(Some(*key));
        }
        let read = move |coordinator: &caii_coordinator::Coordinator, _: &mut dyn caii_store::Store| {
            coordinator.device(device).map(|device| device.public_key)
        };
        let key = self.handle.read(read).await?;
        if let Some(key) = key {
            self.device_keys.write().unwrap_or_else(PoisonError::into_inner).insert(device, key);
        }
        Ok(key)
    }

    /// A workload.
    pub(crate) async fn manifest(&self, workload: Digest) -> Result<Option<Arc<Manifest>>, AskError> {
        if let Some(manifest) = self.manifests.read().unwrap_or_else(PoisonError::into_inner).get(&workload) {
            return Ok(Some(manifest.clone()));
        }
        let read = move |coordinator: &caii_coordinator::Coordinator, _: &mut dyn caii_store::Store| {
            coordinator.workload(&workload).cloned().map(Arc::new)
        };
        let manifest = self.handle.read(read).await?;
        if let Some(manifest) = &manifest {
            self.manifests.write().unwrap_or_else(PoisonError::into_inner).insert(workload, manifest.clone());
        }
        Ok(manifest)
    }

    /// Lets devices hear of the governance files in force, and ends what may not run any more.
    pub(crate) async fn enforce_governance(self: &Arc<Self>) -> Result<(), AskError> {
        let read = |coordinator: &caii_coordinator::Coordinator, _: &mut dyn caii_store::Store| {
            coordinator.workloads().map(|manifest| (manifest.digest(), manifest.clone())).collect()
        };
        let workloads: BTreeMap<Digest, Manifest> = self.handle.read(read).await?;
        let pool = self.clone();
        let enforce = move || pool.governance.enforce(&pool.handle, &workloads);
        if let Err(error) = tokio::task::spawn_blocking(enforce).await {
            tracing::error!(%error, "cannot enforce the governance");
        }
        Ok(())
    }

    /// Whether some region's devices would run the workload now.
    pub(crate) async fn verdict(
        self: &Arc<Self>,
        manifest: &Arc<Manifest>,
    ) -> Result<Result<Certified, Uncertified>, ApiError> {
        if let Some(known) = self.governance.known_verdict(manifest) {
            return Ok(known);
        }
        let (pool, manifest) = (self.clone(), manifest.clone());
        let decided = tokio::task::spawn_blocking(move || pool.governance.verdict(&manifest)).await;
        decided.map_err(|error| ApiError::internal("decide about a workload", &error))
    }

    /// Refuses what no device would run now, with what is missing.
    pub(crate) async fn must_be_certified(self: &Arc<Self>, workload: Digest) -> Result<(), ApiError> {
        let Some(manifest) = self.manifest(workload).await? else { return Ok(()) };
        match self.verdict(&manifest).await? {
            Ok(_) => Ok(()),
            Err(refusal) => {
                let hint = if self.governance.is_operators_own() {
                    format!("An admin can allow it: `caii workload allow {workload}`.")
                } else {
                    format!("For its stewards: `caii workload fetch {workload}`, `certify`, `send`; then submit again.")
                };
                let message = format!("{} may not run in this pool: {refusal}. {hint}", manifest.name);
                Err(ApiError::new(StatusCode::FORBIDDEN, "workload_uncertified", message))
            }
        }
    }

    /// Resolves when the pool stops: whoever would be held back is sent away then.
    pub(crate) async fn stopped(&self) {
        // An error means that the pool is gone altogether.
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }

    pub(crate) fn lock_waiting(&self) -> MutexGuard<'_, BTreeMap<DeviceId, u64>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A join ticket with this secret.
    pub(crate) fn ticket(&self, secret: TicketSecret) -> Result<String, caii_wire::DecodeError> {
        let addresses = self.addresses.clone();
        let charter = self.governance.pin();
        JoinTicket { addresses, certificate: self.fingerprint, pool: self.id, secret, charter }.encode()
    }
}

/// Vouches again and again that the governance files are the newest.
async fn governance_refreshed(pool: Arc<Shared>) {
    loop {
        tokio::select! {
            () = pool.stopped() => return,
            () = tokio::time::sleep(governance::REFRESH_EVERY) => {}
        }
        match pool.governance.refresh().await {
            Ok(()) => {
                if let Err(error) = pool.enforce_governance().await {
                    tracing::warn!(%error, "devices hear of fresh governance files later");
                }
            }
            Err(error) => tracing::error!(reason = %describe(&error), "cannot refresh the governance files"),
        }
    }
}

/// A new API key's secret.
pub(crate) fn new_key_secret() -> Result<String, HomeError> {
    let bytes: [u8; 24] = home::random()?;
    Ok(format!("sk-caii-{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)))
}

pub(crate) fn new_ticket_secret() -> Result<TicketSecret, HomeError> {
    home::random().map(TicketSecret)
}

/// A running pool. Dropping it leaves its threads behind: call [`Pool::shutdown`].
pub struct Pool {
    addresses: PoolAddresses,
    handle: Handle,
    stop: watch::Sender<bool>,
    stopping: Arc<AtomicBool>,
    servers: Vec<tokio::task::JoinHandle<()>>,
    coordinator: JoinHandle<()>,
    board: Arc<Board>,
    publisher: Option<JoinHandle<()>>,
    workers: Vec<JoinHandle<()>>,
    ended: Option<oneshot::Receiver<ActorError>>,
    /// Held until the end: nobody else may use the directory before that.
    home: Home,
}

impl Pool {
    /// Starts the pool of a directory, which is made on first use. Needs a tokio runtime with IO and time.
    ///
    /// # Errors
    /// When the directory, its database or an address cannot be used; each says what to do.
    pub async fn start(options: PoolOptions) -> Result<Self, PoolError> {
        let PoolOptions { dir, config, charter, runner } = options;
        config.check()?;
        let home = Home::open(&dir)?;
        let authority = Ed25519Authority::new(home.pool_key()?);
        let identity = home.identity()?;
        let fingerprint = identity.fingerprint();
        let id = pool_id(&authority.public());
        let governance = Governance::open(&dir, id, charter.as_deref()).await?;
        let log = log_identity(home.pool_key()?, home.log_key()?, governance.pin());
        let (board, disk, published) = (Board::new(), RealDisk(home.path().to_owned()), log.pool.clone());
        let store = SqliteStore::open(&home.database()).map_err(PoolError::Store)?;
        let blobs: Arc<dyn Blobs> = Arc::new(LocalBlobs::open(&home.blobs()).map_err(PoolError::Blobs)?);
        let tls = tls_acceptor(identity).map_err(PoolError::Tls)?;
        let https = listen(config.https_listen).await?;
        let http = match config.http_listen {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let https_address = local_address(&https, config.https_listen)?;
        let http_address = match (&http, config.http_listen) {
            (Some(listener), Some(wanted)) => Some(local_address(listener, wanted)?),
            _ => None,
        };

        let origin = Origin { config: coordinator_config(&config), pool: id, authority: authority.clone() };
        let (work, queue) = mpsc::channel();
        let ready = Ready::load(Box::new(store), origin, work, board.clone());
        let ready = ready.map_err(|error| PoolError::Coordinator(describe(&error)))?;
        let handle = ready.handle();
        let (tell_ended, ended) = oneshot::channel();
        let run = move || {
            if let Err(error) = ready.run() {
                tracing::error!(reason = %describe(&error), "the coordinator stopped");
                // Nobody may listen any more.
                let _ = tell_ended.send(error);
            }
        };
        let coordinator =
            std::thread::Builder::new().name("coordinator".to_owned()).spawn(run).map_err(PoolError::Thread)?;
        let stopping = Arc::new(AtomicBool::new(false));
        let mut pool = Self {
            addresses: PoolAddresses {
                pool: id,
                https: https_address,
                http: http_address,
                url: home::local_url(https_address),
                fingerprint,
                admin_key: String::new(),
                ticket: String::new(),
                charter: governance.describe(),
                charter_is_own: governance.is_operators_own(),
            },
            handle: handle.clone(),
            stop: watch::Sender::new(false),
            stopping: stopping.clone(),
            servers: Vec::new(),
            coordinator,
            board: board.clone(),
            publisher: None,
            workers: Vec::new(),
            ended: Some(ended),
            home,
        };
        let opening = Opening {
            key: published.key,
            charter: published.charter,
            credit_limit: config.credit_limit,
            terms: opening::first_tariff(),
        };
        let publishing = Publishing::new(handle.clone(), disk.clone(), log, board.clone(), Pace::POOL);
        if let Err(error) = pool.open_log(opening, &governance, publishing).await {
            pool.shutdown().await;
            return Err(error);
        }
        let referee = match runner {
            Some(runner) => {
                Some(checks::Referee { runner, dir: pool.home.referee(), secret: pool.home.referee_secret()? })
            }
            None => None,
        };
        let worker = work::Worker {
            referee,
            handle: handle.clone(),
            blobs: blobs.clone(),
            records_per_job_max: config.records_per_job_max,
            tasks_per_job_max: config.tasks_per_job_max,
            stopping,
        };
        let queue = WorkQueue::new(queue);
        for number in 0..work::THREADS {
            let (worker, queue) = (worker.clone(), queue.clone());
            let thread = std::thread::Builder::new().name(format!("work-{number}"));
            pool.workers.push(thread.spawn(move || worker.run(&queue)).map_err(PoolError::Thread)?);
        }

        let shared = Arc::new(Shared {
            handle,
            blobs,
            id,
            authority,
            started: actor::now(),
            addresses: home::ticket_addresses(&config.advertise, https_address),
            fingerprint,
            governance,
            board: board.clone(),
            published,
            disk: disk.clone(),
            device_keys: RwLock::default(),
            manifests: RwLock::default(),
            waiting: Mutex::default(),
            stop: pool.stop.subscribe(),
            config,
        });
        if let Err(error) = pool.prepare(&shared).await {
            pool.shutdown().await;
            return Err(error);
        }
        shared.enforce_governance().await?;
        pool.servers.push(tokio::spawn(governance_refreshed(shared.clone())));
        let (witnesses, stop) = (shared.config.witnesses.clone(), pool.stop.subscribe());
        pool.servers.push(tokio::spawn(publish::ask_witnesses(board, disk, witnesses, stop)));
        let connections = Arc::new(Semaphore::new(shared.config.connections_max));
        let router = http::api_and_agents(shared.clone());
        let (permits, stop) = (connections.clone(), pool.stop.subscribe());
        pool.servers.push(tokio::spawn(http::server::serve(https, Some(tls), router, permits, stop)));
        if let Some(listener) = http {
            let (router, stop) = (http::api(shared.clone()), pool.stop.subscribe());
            pool.servers.push(tokio::spawn(http::server::serve(listener, None, router, connections, stop)));
        }
        pool.servers.push(tokio::spawn(sweep::sweep_now_and_then(shared)));
        tracing::info!(pool = %id, https = %https_address, "the pool serves");
        Ok(pool)
    }

    /// Opens the log, tells it which certificates are kept, and begins to publish it.
    async fn open_log(
        &mut self,
        wanted: Opening,
        governance: &Governance,
        mut publishing: Publishing<Handle, RealDisk>,
    ) -> Result<(), PoolError> {
        opening::open(&self.handle, wanted).await?;
        for certificate in governance.certificates()? {
            self.handle.ask(certificate.input()).await?;
        }
        let taken_up = tokio::task::spawn_blocking(move || (publishing.take_up().err(), publishing)).await;
        let (error, publishing) = taken_up.map_err(|error| PoolError::Coordinator(error.to_string()))?;
        // Anything else may pass, and the publisher says what it is.
        if let Some(error) = error.filter(PublishingError::is_contradiction) {
            return Err(error.into());
        }
        let thread = std::thread::Builder::new().name("publisher".to_owned());
        self.publisher = Some(thread.spawn(move || publishing.run()).map_err(PoolError::Thread)?);
        Ok(())
    }

    /// Makes sure of the admin key and the join ticket, and writes the files that show them.
    async fn prepare(&mut self, shared: &Shared) -> Result<(), PoolError> {
        let key = self.admin_key().await?;
        let file = ClientFile { url: self.addresses.url.clone(), fingerprint: shared.fingerprint.hex(), key };
        if self.home.client_file().ok().flatten().as_ref() != Some(&file) {
            self.home.write_client_file(&file)?;
        }
        let ticket = self.join_ticket(shared).await?;
        if self.home.ticket()?.as_deref().map(str::trim) != Some(ticket.as_str()) {
            self.home.write_ticket(&ticket)?;
        }
        (self.addresses.admin_key, self.addresses.ticket) = (file.key, ticket);
        Ok(())
    }

    async fn admin_key(&self) -> Result<String, PoolError> {
        // A damaged file costs a new key, not the pool.
        if let Ok(Some(file)) = self.home.client_file() {
            let hash = Digest::of(file.key.as_bytes());
            let read = move |coordinator: &caii_coordinator::Coordinator, _: &mut dyn caii_store::Store| {
                coordinator.key_by_secret_hash(&hash).is_some_and(|key| key.role == Role::Admin)
            };
            if self.handle.read(read).await? {
                return Ok(file.key);
            }
        }
        let secret = new_key_secret()?;
        let input = Input::KeyCreate {
            name: "client.toml of the pool's directory".to_owned(),
            account: operator(),
            role: Role::Admin,
            secret_hash: Digest::of(secret.as_bytes()),
        };
        self.handle.ask(input).await?;
        Ok(secret)
    }

    async fn join_ticket(&self, shared: &Shared) -> Result<String, PoolError> {
        let encode =
            |secret| shared.ticket(secret).map_err(|error| PoolError::Coordinator(format!("no ticket: {error}")));
        if let Some(old) = self.home.ticket()?.and_then(|text| JoinTicket::decode(&text).ok()) {
            let hash = old.secret.hash();
            let read = move |coordinator: &caii_coordinator::Coordinator, _: &mut dyn caii_store::Store| {
                coordinator
                    .ticket_by_secret_hash(&hash)
                    .is_some_and(|ticket| ticket.expires > actor::now() + TICKET_RENEW && ticket.uses < ticket.uses_max)
            };
            if self.handle.read(read).await? {
                return encode(old.secret);
            }
        }
        let secret = new_ticket_secret()?;
        let input = Input::TicketIssue {
            account: operator(),
            secret_hash: secret.hash(),
            valid_for: TICKET_VALID,
            uses_max: TICKET_USES,
        };
        match self.handle.ask(input).await? {
            Reply::Ticket(_) => encode(secret),
            other => Err(PoolError::Coordinator(format!("it answered a ticket's issue with {other:?}"))),
        }
    }

    /// Where it is found.
    pub fn addresses(&self) -> &PoolAddresses {
        &self.addresses
    }

    /// Resolves when the pool cannot go on: another process has taken it over, or its coordinator has failed. Never
    /// resolves in a pool that works.
    pub async fn failed(&mut self) -> PoolError {
        match self.ended.take() {
            Some(ended) => PoolError::Coordinator(match ended.await {
                Ok(error) => describe(&error),
                Err(_) => "it ended without a reason, which is a defect in CAII".to_owned(),
            }),
            None => std::future::pending().await,
        }
    }

    /// Stops: no new connections, requests in progress finish, everything accepted is durable.
    pub async fn shutdown(self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.stop.send_replace(true);
        for server in self.servers {
            if let Err(error) = server.await {
                tracing::error!(%error, "a server ended badly");
            }
        }
        let (handle, coordinator, workers) = (self.handle, self.coordinator, self.workers);
        let (board, publisher) = (self.board, self.publisher);
        workers.iter().for_each(|worker| worker.thread().unpark());
        let join = tokio::task::spawn_blocking(move || {
            // It reads what it publishes from the coordinator's thread, so it ends before that.
            board.stop();
            let published = publisher.is_none_or(|publisher| publisher.join().is_ok());
            handle.stop();
            let coordinator = coordinator.join();
            // The coordinator's end has closed their queue.
            let workers: Vec<_> = workers.into_iter().map(JoinHandle::join).collect();
            published && coordinator.is_ok() && workers.iter().all(Result::is_ok)
        });
        match join.await {
            Ok(true) => tracing::info!("the pool has stopped"),
            _ => tracing::error!("a thread of the pool ended badly"),
        }
    }
}

fn operator() -> Account {
    Account::new(OPERATOR).expect("the constant is a valid name")
}

fn coordinator_config(config: &PoolConfig) -> Config {
    Config {
        device_silence_max: Millis(config.device_silence_seconds * 1_000),
        audit_patience: Millis(config.audit_patience_seconds.saturating_mul(1_000)),
        audit_secret: Millis(config.audit_secret_seconds * 1_000),
        lease_duration: Millis(config.lease_seconds * 1_000),
        jobs_open_max: config.jobs_open_max,
        tasks_per_job_max: config.tasks_per_job_max,
        records_per_job_max: config.records_per_job_max,
        meters_vetted: vec![vetted_meter()],
        payout: config.payout.as_ref().and_then(|payout| payout.rules().ok()),
        ..Config::new(meter())
    }
}

/// The meter of this release's engine.
pub(crate) fn meter() -> MeterId {
    caii_sandbox::meter_id()
}

/// The same engine's meter for programs that an admin vouches for.
pub(crate) fn vetted_meter() -> MeterId {
    caii_sandbox::vetted_meter_id()
}

/// Who signs the log, and under which name: the pool's id is unique, and holds wherever the log is served.
fn log_identity(pool_key: SigningKey, log_key: SigningKey, charter: Digest) -> publish::Identity {
    let key = pool_key.public();
    let name = format!("{}/log", pool_id(&key));
    let log_key = NoteSigner::new(name.parse().expect("an id has no spaces and no plus signs"), log_key);
    let origin = name.parse().expect("an id is one short line");
    let pool = PoolFile { key, origin, log: vec![log_key.key().clone()], charter: Some(charter) };
    publish::Identity { pool, log_key, pool_key }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, PoolError> {
    TcpListener::bind(address).await.map_err(|source| PoolError::Listen { address, source })
}

fn local_address(listener: &TcpListener, address: SocketAddr) -> Result<SocketAddr, PoolError> {
    listener.local_addr().map_err(|source| PoolError::Listen { address, source })
}

fn tls_acceptor(identity: Identity) -> Result<tokio_rustls::TlsAcceptor, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate], identity.private_key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tokio_rustls::TlsAcceptor::from(Arc::new(config)))
}
