//! The loop around the agent's state machine: it performs actions and feeds back what became of them.

use super::claims::ClaimsFile;
use super::client::{CallError, PoolClient};
use super::event::AgentEvent;
use super::gate::{Gate, RefreshError, Refreshed, Stopped};
use super::home::HomeError;
use super::wiped::{self, Carried, Wiped};
use super::workshop::{Because as _, Finished, Measured, Prepared, Workshop, with_sources};
use bytes::Bytes;
use caii_agent::{Action, Agent, Claims, Config, Context, ExitReason, Forgotten, Input, LinkView, TaskStage};
use caii_model::{
    AttemptFailure, AttemptFailureKind, Claim, Digest, ExchangeReply, ExchangeRequest, Lease, LeaseId, Manifest,
    Millis, PoolId, Refusal, SessionId, TaskId, TaskReport, Timestamp,
};
use caii_trust::domain;
use caii_wire::limits;
use reqwest::StatusCode;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::Instant;

/// The largest input that is taken: it is held in memory as often as there are leases.
const INPUT_MAX: u32 = 256 << 20;
/// How often idle runners are looked at.
const SWEEP: Duration = Duration::from_secs(15);
/// How often the fetching of a workload is told.
const PROGRESS: Duration = Duration::from_secs(1);
/// A pause after the charter's files could not be had.
const GOVERN_AGAIN: Duration = Duration::from_secs(5);
/// What is known of the device's claims is written down no more often: with small tasks it changes all the time, and the
/// owner's disk has better things to do.
const KEEP_PAUSE: Duration = Duration::from_secs(10);
/// Attempts at an input, with growing pauses: some 16 s in all.
const INPUT_ATTEMPTS: u32 = 6;

pub(crate) type Events = Arc<dyn Fn(AgentEvent) + Send + Sync>;

/// Whom the driver drives for, and with what.
pub(crate) struct Driver {
    pub(crate) pool: PoolId,
    pub(crate) pool_public_key: [u8; 32],
    pub(crate) client: Arc<PoolClient>,
    pub(crate) workshop: Arc<Workshop>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) claims: ClaimsFile,
    pub(crate) session: watch::Sender<Option<SessionId>>,
    pub(crate) events: Events,
}

/// A flaw in this program, or an operating system without random numbers.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The operating system gives no random numbers.
    #[error("cannot get random numbers from the operating system")]
    Entropy(#[source] getrandom::Error),
    /// What is known of the device's claims cannot be kept.
    #[error(transparent)]
    Claims(HomeError),
    /// Part of the agent panicked; its leases go to other devices.
    #[error("a part of the agent failed; please report this")]
    Panicked(#[source] JoinError),
}

/// What came of something that was started.
enum Done {
    Exchanged(u64, Result<Result<(ExchangeReply, Carried), Refusal>, CallError>),
    Prepared(Digest, Result<Prepared, AttemptFailure>),
    Fetched(LeaseId, Result<Bytes, AttemptFailure>),
    Ran(LeaseId, Result<Finished, AttemptFailure>),
    Stored(LeaseId, Result<(), Unstored>),
    /// The charter's files of this version were fetched, or not.
    Governed(u64, Result<Refreshed, RefreshError>),
    /// What is known of the device's claims was kept, or not.
    Kept(Claims, Result<(), HomeError>),
}

enum Unstored {
    TryAgain(CallError),
    Never(AttemptFailure),
}

/// What is held for a lease. In memory only, and wiped with it.
#[derive(Default)]
struct Work {
    input: Option<Bytes>,
    result: Option<Bytes>,
    measured: Option<Measured>,
    under_way: Option<AbortHandle>,
}

impl Driver {
    /// Runs until the agent exits. Each message of `stop` asks it to.
    pub(crate) async fn run(
        self,
        mut agent: Agent,
        config: &Config,
        stop: &mut mpsc::Receiver<()>,
    ) -> Result<ExitReason, DriverError> {
        let mut run = Run {
            driver: self,
            slots: config.slots,
            works: BTreeMap::new(),
            soiled: false,
            inlined: Carried::default(),
            tasks: JoinSet::new(),
            inputs: VecDeque::from([Input::Started]),
            timer: None,
            clock: Clock::start(),
            told: Told::Nothing,
            governance: Governance::default(),
            keeping: Keeping { kept: agent.claims(), ..Keeping::default() },
        };
        let mut sweep = tokio::time::interval(SWEEP);
        let mut stoppable = true;
        loop {
            while let Some(input) = run.inputs.pop_front() {
                let entropy = getrandom::u64().map_err(DriverError::Entropy)?;
                let context = Context { now: run.clock.now(), entropy };
                let actions = agent.step(context, input);
                run.tell_session(&agent);
                run.keep_claims(agent.claims());
                for action in actions {
                    if let Some(reason) = run.act(action) {
                        // Runners and their memory are gone before anybody is told that the agent is.
                        run.tasks.shutdown().await;
                        if agent.claims() != run.keeping.kept {
                            run.driver.claims.keep(agent.claims()).map_err(DriverError::Claims)?;
                        }
                        return Ok(reason);
                    }
                }
                run.inlined = Carried::default();
            }
            let timer = run.timer;
            tokio::select! {
                Some(done) = run.tasks.join_next_with_id() => run.done(done)?,
                () = async { tokio::time::sleep_until(timer.expect("checked")).await }, if timer.is_some() => {
                    run.timer = None;
                    run.inputs.push_back(Input::Tick);
                }
                asked = stop.recv(), if stoppable => match asked {
                    Some(()) => {
                        let tasks = agent.view().tasks;
                        let running = tasks.iter().filter(|task| task.stage == TaskStage::Running).count() as u32;
                        run.tell(AgentEvent::Stopping { running });
                        run.inputs.push_back(Input::StopRequested);
                    }
                    None => stoppable = false,
                },
                _ = sweep.tick() => {
                    run.driver.workshop.sweep();
                    run.govern();
                    run.keep_claims(agent.claims());
                    tracing::debug!(state = ?agent.explain(run.clock.now()), "agent");
                }
            }
        }
    }
}

struct Run {
    driver: Driver,
    slots: u32,
    works: BTreeMap<LeaseId, (TaskId, Work)>,
    /// There was work, and now there is none: connections that it passed through are due to be replaced.
    soiled: bool,
    /// Inputs that came along with the leases of the reply at hand.
    inlined: Carried,
    /// Everything under way; dropping it ends all of it.
    tasks: JoinSet<Done>,
    inputs: VecDeque<Input>,
    timer: Option<Instant>,
    clock: Clock,
    told: Told,
    governance: Governance,
    keeping: Keeping,
}

/// How far what is known of the device's claims is written down.
#[derive(Debug, Default)]
struct Keeping {
    kept: Claims,
    under_way: bool,
    not_before: Option<Instant>,
    /// The owner was told that it cannot be written.
    failed: bool,
    /// The owner was told of these.
    forgotten: Option<Forgotten>,
}

/// How far this device is with the charter's files.
#[derive(Debug, Default)]
struct Governance {
    /// The version that was taken last.
    known: u64,
    /// The version that the pool spoke of last.
    wanted: u64,
    under_way: bool,
    not_before: Option<Instant>,
}

/// What the person was told last of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Connected,
    /// After so many failures.
    Unreachable(u32),
}

impl Run {
    fn act(&mut self, action: Action) -> Option<ExitReason> {
        match action {
            Action::Exchange(request) => self.exchange(request),
            Action::PrepareWorkload(workload) => self.prepare(workload),
            Action::FetchInput(lease) => self.fetch(lease),
            Action::Run(lease) => self.run(lease),
            Action::Upload(lease) => self.upload(lease),
            Action::Abandon(id) => {
                if let Some((_, work)) = self.works.remove(&id)
                    && let Some(under_way) = work.under_way
                {
                    under_way.abort();
                }
            }
            Action::Release(id) => {
                self.works.remove(&id);
            }
            Action::SetTimer(at) => self.timer = Some(self.clock.instant(at)),
            Action::Exit(reason) => return Some(reason),
        }
        None
    }

    /// Fetches the charter's files if the pool has others, or if something here is about to end.
    fn govern(&mut self) {
        let governance = &mut self.governance;
        let wanted = governance.wanted != governance.known || self.driver.gate.due();
        let early = governance.not_before.is_some_and(|at| Instant::now() < at);
        if !wanted || governance.under_way || early || governance.wanted == 0 {
            return;
        }
        governance.under_way = true;
        let (gate, version) = (self.driver.gate.clone(), governance.wanted);
        self.tasks.spawn(async move { Done::Governed(version, gate.refresh().await) });
    }

    fn governed(&mut self, version: u64, outcome: Result<Refreshed, RefreshError>) {
        self.governance.under_way = false;
        let stopped = match outcome {
            Ok(refreshed) => {
                (self.governance.known, self.governance.not_before) = (version, None);
                if let Some(charter) = refreshed.charter {
                    self.tell(AgentEvent::Charter { charter });
                }
                refreshed.stopped
            }
            Err(error) => {
                self.governance.not_before = Some(Instant::now() + GOVERN_AGAIN);
                self.tell(AgentEvent::Ungoverned {
                    reason: error.to_string(),
                    retry: Millis(GOVERN_AGAIN.as_millis() as u64),
                });
                self.driver.gate.expire()
            }
        };
        for Stopped { workload, name, failure } in stopped {
            self.driver.workshop.stop(workload);
            self.tell(AgentEvent::WorkloadStopped { name, reason: failure.detail.clone() });
            self.inputs.push_back(Input::WorkloadRevoked(workload, failure));
        }
        // There may be newer ones already.
        self.govern();
    }

    fn exchange(&mut self, mut request: ExchangeRequest) {
        // Between tasks a connection is kept: a new one costs more than a small task.
        if self.works.is_empty() && std::mem::take(&mut self.soiled) {
            self.driver.client.forget_connections();
        }
        let mut attachments = Carried::default();
        for report in &mut request.reports {
            let lease = &report.lease.lease;
            let (Ok(done), Some((_, work))) = (&report.outcome, self.works.get(&lease.id)) else { continue };
            if let Some(result) = work.result.as_ref().filter(|result| result.len() <= limits::ATTACHMENT_MAX) {
                attachments.0.insert(done.result, result.to_vec());
            }
            if let (Some(claim), Some(measured)) = (&mut report.claim, &work.measured) {
                let whole = Claim::of(lease, measured.meter, done, claim.sequence, claim.energy);
                claim.signature = self.driver.client.sign(&whole);
            }
        }
        let client = self.driver.client.clone();
        self.tasks.spawn(async move {
            let answer = client.exchange(&request, &attachments).await;
            Done::Exchanged(request.sequence, answer)
        });
    }

    fn prepare(&mut self, workload: Digest) {
        let (workshop, events) = (self.driver.workshop.clone(), self.driver.events.clone());
        self.tasks.spawn(async move {
            let told = std::sync::Mutex::new(None);
            let progress = move |manifest: &Manifest, received: u64| {
                let size = manifest.blobs.iter().fold(manifest.program_size.0, |sum, blob| sum + blob.size.0);
                let mut told = told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                // Small files are here before anybody could read about them.
                let first = *told.get_or_insert_with(Instant::now);
                if first.elapsed() >= PROGRESS {
                    *told = Some(Instant::now());
                    let (received, size) = (caii_model::Bytes(received), caii_model::Bytes(size));
                    events(AgentEvent::Fetching { name: manifest.name.clone(), received, size });
                }
            };
            Done::Prepared(workload, workshop.prepare(workload, &progress).await)
        });
    }

    fn fetch(&mut self, lease: Lease) {
        let mut work = Work::default();
        if let Some(input) = self.inlined.0.get(&lease.input.digest) {
            // Its digest is right, or it would not have been found by it.
            work.input = Some(wiped::shared(input.clone().into()));
            self.inputs.push_back(Input::InputReady(lease.id));
        } else {
            let client = self.driver.client.clone();
            let fetch = async move { Done::Fetched(lease.id, fetch_input(&client, &lease).await) };
            work.under_way = Some(self.tasks.spawn(fetch));
        }
        self.works.insert(lease.id, (lease.task, work));
        self.soiled = true;
    }

    fn run(&mut self, lease: Lease) {
        let Some((_, work)) = self.works.get_mut(&lease.id) else { return };
        // From here on the items hold its bytes.
        let input = work.input.take().unwrap_or_default();
        let workshop = self.driver.workshop.clone();
        let run = async move { Done::Ran(lease.id, workshop.run(lease, input).await) };
        work.under_way = Some(self.tasks.spawn(run));
    }

    fn upload(&mut self, lease: Lease) {
        let Some((_, work)) = self.works.get_mut(&lease.id) else { return };
        let result = work.result.clone().unwrap_or_default();
        if result.len() <= limits::ATTACHMENT_MAX {
            self.inputs.push_back(Input::ResultStored(lease.id));
            return;
        }
        let client = self.driver.client.clone();
        let store = async move {
            let digest = wiped::scrubbing(|| Digest::of(&result));
            let stored = match client.put_blob(digest, result).await {
                Ok(()) => Ok(()),
                Err(error @ CallError::Status { status: StatusCode::PAYLOAD_TOO_LARGE, .. }) => {
                    Err(Unstored::Never(AttemptFailureKind::MalformedResult.because(error.to_string())))
                }
                Err(error) => Err(Unstored::TryAgain(error)),
            };
            Done::Stored(lease.id, stored)
        };
        work.under_way = Some(self.tasks.spawn(store));
    }

    fn done(&mut self, done: Result<(Id, Done), JoinError>) -> Result<(), DriverError> {
        let done = match done {
            Ok((_, done)) => done,
            Err(error) if error.is_cancelled() => return Ok(()),
            Err(error) => return Err(DriverError::Panicked(error)),
        };
        let input = match done {
            Done::Exchanged(sequence, outcome) => self.exchanged(sequence, outcome),
            Done::Prepared(workload, Ok(prepared)) => {
                let wall = Millis(prepared.wall.as_millis() as u64);
                let (name, by, cached) = (prepared.name, prepared.by, prepared.cached);
                self.tell(AgentEvent::Prepared { name, by, cached, wall });
                self.inputs.extend(prepared.evicted.into_iter().map(Input::WorkloadEvicted));
                Input::WorkloadReady(workload)
            }
            Done::Prepared(workload, Err(failure)) => {
                self.tell(AgentEvent::PreparationFailed { workload, failure: failure.clone() });
                Input::WorkloadFailed(workload, failure)
            }
            Done::Fetched(id, outcome) => match (outcome, self.works.get_mut(&id)) {
                (Ok(input), Some((_, work))) => {
                    work.input = Some(input);
                    Input::InputReady(id)
                }
                (Err(failure), Some((task, _))) => {
                    let task = *task;
                    self.tell(AgentEvent::TaskFailed { task, failure: failure.clone() });
                    Input::InputFailed(id, failure)
                }
                (_, None) => return Ok(()),
            },
            Done::Ran(id, outcome) => match (outcome, self.works.get_mut(&id)) {
                (Ok(finished), Some((task, work))) => {
                    let task = *task;
                    (work.result, work.measured) = (Some(finished.result), Some(finished.measured));
                    self.tell_finished(task, &finished.report);
                    Input::TaskFinished(id, finished.report, finished.measured.energy)
                }
                (Err(failure), Some((task, _))) => {
                    let task = *task;
                    self.tell(AgentEvent::TaskFailed { task, failure: failure.clone() });
                    Input::TaskFailed(id, failure)
                }
                (_, None) => return Ok(()),
            },
            Done::Governed(version, outcome) => {
                self.governed(version, outcome);
                return Ok(());
            }
            Done::Kept(claims, outcome) => {
                self.kept(claims, outcome);
                return Ok(());
            }
            Done::Stored(id, Ok(())) => Input::ResultStored(id),
            Done::Stored(id, Err(Unstored::Never(failure))) => Input::ResultRefused(id, failure),
            Done::Stored(id, Err(Unstored::TryAgain(error))) => {
                tracing::info!(lease = %id, %error, "a result could not be stored; it is tried again");
                Input::ResultStoreFailed(id)
            }
        };
        self.inputs.push_back(input);
        Ok(())
    }

    fn exchanged(
        &mut self,
        sequence: u64,
        outcome: Result<Result<(ExchangeReply, Carried), Refusal>, CallError>,
    ) -> Input {
        match outcome {
            Ok(Ok((mut reply, attachments))) if reply.sequence == sequence => {
                let (pool, key) = (self.driver.pool, self.driver.pool_public_key);
                reply.leases.retain(|signed| {
                    let digest = signed.lease.digest();
                    let valid = signed.lease.pool == pool
                        && caii_trust::verify(&key, domain::LEASE, &digest, &signed.signature).is_ok();
                    if !valid {
                        tracing::warn!(lease = %signed.lease.id, "ignored a lease that the pool did not sign");
                    }
                    valid
                });
                self.inlined = attachments;
                self.governance.wanted = reply.governance;
                self.govern();
                Input::Replied(reply)
            }
            Ok(Ok((reply, _))) => {
                let reason = format!("the pool answered request {} instead of {sequence}", reply.sequence);
                Input::TransportFailed { sequence, reason }
            }
            Ok(Err(refusal)) => Input::Refused { sequence, refusal },
            Err(error) => {
                tracing::debug!(sequence, %error, "an exchange failed");
                Input::TransportFailed { sequence, reason: error.to_string() }
            }
        }
    }

    /// Writes down what is known of the device's claims if it is news, one writing at a time.
    fn keep_claims(&mut self, claims: Claims) {
        if let Some(forgotten) = claims.forgotten.filter(|_| claims.forgotten != self.keeping.forgotten) {
            self.keeping.forgotten = Some(forgotten);
            self.tell(AgentEvent::ReceiptsForgotten { forgotten });
        }
        let early = self.keeping.not_before.is_some_and(|at| Instant::now() < at);
        if claims == self.keeping.kept || self.keeping.under_way || early {
            return;
        }
        (self.keeping.under_way, self.keeping.not_before) = (true, Some(Instant::now() + KEEP_PAUSE));
        let file = self.driver.claims.clone();
        self.tasks.spawn_blocking(move || Done::Kept(claims, file.keep(claims)));
    }

    fn kept(&mut self, claims: Claims, outcome: Result<(), HomeError>) {
        self.keeping.under_way = false;
        match outcome {
            Ok(()) => (self.keeping.kept, self.keeping.failed) = (claims, false),
            // It is tried again, and work goes on meanwhile.
            Err(error) => {
                if !std::mem::replace(&mut self.keeping.failed, true) {
                    self.tell(AgentEvent::ClaimsUnkept { reason: with_sources(&error) });
                }
            }
        }
    }

    /// Lets blobs be fetched under the present conversation, and tells when the pool comes and goes.
    fn tell_session(&mut self, agent: &Agent) {
        let session = agent.session();
        self.driver.session.send_if_modified(|known| std::mem::replace(known, session) != session);
        match agent.link_view() {
            LinkView::Connected { .. } if self.told != Told::Connected => {
                self.told = Told::Connected;
                let address = self.driver.client.address().to_owned();
                self.tell(AgentEvent::Connected { address, slots: self.slots });
            }
            // A single failure may be a request that a restart cut off. The next one will tell.
            LinkView::Troubled { failures, reason, retry_at: Some(at) }
                if (failures > 1 || self.told != Told::Connected) && self.told != Told::Unreachable(failures) =>
            {
                self.told = Told::Unreachable(failures);
                let retry = at.since(self.clock.now());
                self.tell(AgentEvent::Unreachable { reason, retry });
            }
            _ => {}
        }
    }

    fn tell_finished(&self, task: TaskId, report: &TaskReport) {
        tracing::info!(%task, items = report.items, failed = report.items_failed, cpu = %report.cpu, "task finished");
        let (wall, records_failed) = (report.wall, report.records_failed);
        self.tell(AgentEvent::TaskFinished { task, items: report.items, records_failed, wall });
    }

    fn tell(&self, event: AgentEvent) {
        tracing::debug!(?event, "told");
        (self.driver.events)(event);
    }
}

/// A clock that never goes back, in the units of the state machine.
#[derive(Debug, Clone, Copy)]
struct Clock {
    start: Instant,
    start_wall: Timestamp,
}

impl Clock {
    fn start() -> Self {
        // Only differences matter, so a machine whose clock is before 1970 is fine with zero.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), start_wall: Timestamp(wall.as_millis() as u64) }
    }

    fn now(&self) -> Timestamp {
        self.start_wall + Millis(self.start.elapsed().as_millis() as u64)
    }

    fn instant(&self, at: Timestamp) -> Instant {
        self.start + Duration::from_millis(at.since(self.start_wall).0)
    }
}

/// Fetches a task's input: a range of the job's blob. What came before a break is not fetched again.
pub(crate) async fn fetch_input(client: &PoolClient, lease: &Lease) -> Result<Bytes, AttemptFailure> {
    let input = &lease.input;
    if input.len > INPUT_MAX {
        let size = caii_model::Bytes(u64::from(input.len));
        let detail = format!("the input of {size} is more than this device takes; use fewer records per task");
        return Err(AttemptFailureKind::GivenBack.because(detail));
    }
    let unavailable = |reason: String| {
        AttemptFailureKind::BlobUnavailable.because(format!("cannot fetch the input of {}: {reason}", lease.task))
    };
    // Never grows.
    let mut bytes = Wiped::new(Vec::with_capacity(input.len as usize));
    for attempt in 1.. {
        client.connected().await;
        let error = match receive_range(client, lease, &mut bytes).await {
            Ok(()) => break,
            Err(error) => error,
        };
        let gone = matches!(error, CallError::Status { status: StatusCode::NOT_FOUND, .. });
        if gone || attempt == INPUT_ATTEMPTS {
            return Err(unavailable(error.to_string()));
        }
        tokio::time::sleep(Duration::from_millis(250) * 2u32.pow(attempt)).await;
    }
    if wiped::scrubbing(|| Digest::of(&bytes)) != input.digest {
        return Err(unavailable("what the pool sends has another digest".into()));
    }
    Ok(wiped::shared(bytes))
}

async fn receive_range(client: &PoolClient, lease: &Lease, bytes: &mut Vec<u8>) -> Result<(), CallError> {
    let len = lease.input.len as usize;
    if bytes.len() == len {
        return Ok(());
    }
    let (offset, missing) = (lease.input.offset + bytes.len() as u64, (len - bytes.len()) as u64);
    let mut response = client.blob(lease.blob, offset, Some(missing)).await?;
    // A server that does not do ranges sends the whole blob; what comes before the range is skipped.
    let mut skip = if response.status() == StatusCode::PARTIAL_CONTENT { 0 } else { offset };
    while bytes.len() < len {
        let chunk = tokio::time::timeout(super::client::STALL, response.chunk()).await;
        let Some(chunk) = chunk.map_err(|_| CallError::Stalled)?? else { return Err(CallError::Short) };
        let from = (chunk.len() as u64).min(skip) as usize;
        skip -= from as u64;
        let chunk = &chunk[from..];
        bytes.extend_from_slice(&chunk[..chunk.len().min(len - bytes.len())]);
    }
    Ok(())
}
