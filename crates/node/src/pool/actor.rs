//! The thread on which the coordinator lives. It gathers what comes in a moment, steps it all, commits once, and only
//! then lets anybody know.

use super::publish::Board;
use caii_coordinator::{Change, Config, Context, Coordinator, Effect, Input, Reply, RequestId};
use caii_model::{BootId, Digest, JobId, PoolId, Refusal, TaskId};
use caii_store::{Epoch, Store, StoreError};
use caii_trust::Ed25519Authority;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Messages that may wait for the coordinator. Beyond it, callers are told to come back.
pub(crate) const QUEUE_MAX: usize = 4_096;
/// Inputs that share one commit.
const GROUP_MAX: usize = 1_024;
const TICK: Duration = Duration::from_millis(250);
/// After a failed commit, so long nothing that would write is tried; doubled each time up to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

pub(crate) use crate::clock::now;
/// Work for the pool's own threads that an effect asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    /// Check and split a job's input.
    Prepare(JobId),
    /// Write a job's output.
    Assemble(JobId),
    /// Gather an audit's items.
    Gather(TaskId),
    /// Compare an audit with what it checks.
    Compare(TaskId),
    /// Run an audit's items, or those in dispute, on this machine.
    Referee(TaskId),
}

type ReadFn = Box<dyn FnOnce(&Coordinator, &mut dyn Store) + Send>;
type Answer = Result<Reply, AskError>;

enum Message {
    Ask(Box<Input>, oneshot::Sender<Answer>),
    Tell(Box<Input>),
    Read(ReadFn),
    WaitEnded(JobId, oneshot::Sender<()>),
    Stop,
}

/// Why a question got no reply.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum AskError {
    /// The coordinator said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too much waits already.
    #[error("the pool is busy; try again in a moment")]
    Busy,
    /// It could not be made durable, so it did not happen.
    #[error("the pool cannot store anything at the moment: {0}")]
    Storage(Arc<str>),
    /// The coordinator was loaded anew before it answered.
    #[error("the pool's coordinator was restarted before it answered; ask again")]
    Restarted,
}

/// Speaks to the coordinator from anywhere.
#[derive(Clone)]
pub(crate) struct Handle {
    sender: SyncSender<Message>,
}

impl Handle {
    /// Says something and waits for the answer, which is durable when it comes.
    pub(crate) async fn ask(&self, input: Input) -> Answer {
        let (answer, wait) = oneshot::channel();
        self.post(Message::Ask(Box::new(input), answer))?;
        wait.await.unwrap_or(Err(AskError::Restarted))
    }

    /// Says something that has no answer, if there is room.
    pub(crate) fn tell(&self, input: Input) {
        if self.post(Message::Tell(Box::new(input))).is_err() {
            tracing::warn!("the coordinator's queue is full: a hint was dropped");
        }
    }

    /// Says something that has no answer and must arrive; blocks. False: the pool stops.
    pub(crate) fn tell_blocking(&self, input: Input) -> bool {
        self.sender.send(Message::Tell(Box::new(input))).is_ok()
    }

    /// Reads the state as of the last commit.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Coordinator, &mut dyn Store) -> T + Send + 'static,
    ) -> Result<T, AskError> {
        let (answer, wait) = oneshot::channel();
        self.post(Message::Read(Box::new(move |coordinator, store| drop(answer.send(read(coordinator, store))))))?;
        wait.await.map_err(|_| AskError::Restarted)
    }

    /// As [`Handle::read`], on a thread that may wait.
    pub(crate) fn read_blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Coordinator, &mut dyn Store) -> T + Send + 'static,
    ) -> Result<T, AskError> {
        let (answer, wait) = oneshot::channel();
        let message = Message::Read(Box::new(move |coordinator, store| drop(answer.send(read(coordinator, store)))));
        self.sender.send(message).map_err(|_| AskError::Restarted)?;
        wait.blocking_recv().map_err(|_| AskError::Restarted)
    }

    /// Resolves when the job is not open (any more).
    pub(crate) async fn ended(&self, job: JobId) -> Result<(), AskError> {
        let (answer, wait) = oneshot::channel();
        self.post(Message::WaitEnded(job, answer))?;
        wait.await.map_err(|_| AskError::Restarted)
    }

    /// Asks the thread to commit what it has and end.
    pub(crate) fn stop(&self) {
        // An error means that it has ended already.
        let _ = self.sender.send(Message::Stop);
    }

    fn post(&self, message: Message) -> Result<(), AskError> {
        self.sender.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => AskError::Busy,
            TrySendError::Disconnected(_) => AskError::Restarted,
        })
    }
}

/// What a coordinator is loaded with, each time.
pub(crate) struct Origin {
    pub(crate) config: Config,
    pub(crate) pool: PoolId,
    pub(crate) authority: Ed25519Authority,
}

/// The thread's own.
struct Actor {
    origin: Origin,
    store: Box<dyn Store>,
    epoch: Epoch,
    /// Absent while it cannot be loaded.
    coordinator: Option<Coordinator>,
    receiver: Receiver<Message>,
    work: Sender<Work>,
    /// What the pool's own threads have been asked and have not answered.
    working: BTreeSet<Work>,
    requests: u64,
    pending: BTreeMap<RequestId, oneshot::Sender<Answer>>,
    waiters: BTreeMap<JobId, Vec<oneshot::Sender<()>>>,
    /// What the pool's own threads said while nothing could be written; at most one for each in `working`.
    deferred: Vec<Input>,
    /// What every coordinator must be told: the version of the governance, and which workloads it stopped.
    governance: BTreeMap<Option<Digest>, Input>,
    trouble: Option<Trouble>,
    /// Hears how many entries of the log are durable.
    board: Arc<Board>,
}

/// The store failed lately.
struct Trouble {
    until: Instant,
    pause: Duration,
    reason: Arc<str>,
}

/// Why the coordinator's thread ended by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ActorError {
    /// It cannot be started.
    #[error("cannot start the coordinator from the pool's store")]
    Store(#[source] StoreError),
    /// Another process has the pool now.
    #[error("another process has taken over this pool, so this one stops")]
    Deposed(#[source] StoreError),
    /// The operating system gives no random numbers.
    #[error("cannot get random numbers from the operating system")]
    Entropy(#[source] getrandom::Error),
}

/// A coordinator that is ready to run.
pub(crate) struct Ready {
    actor: Actor,
    handle: Handle,
}

impl Ready {
    /// Takes the pool over and loads its coordinator. `work` gets what effects ask for, `board` hears how long the log is.
    pub(crate) fn load(
        mut store: Box<dyn Store>,
        origin: Origin,
        work: Sender<Work>,
        board: Arc<Board>,
    ) -> Result<Self, ActorError> {
        let epoch = store.acquire().map_err(ActorError::Store)?;
        let (sender, receiver) = std::sync::mpsc::sync_channel(QUEUE_MAX);
        let mut actor = Actor {
            origin,
            store,
            epoch,
            coordinator: None,
            receiver,
            work,
            working: BTreeSet::new(),
            requests: 0,
            pending: BTreeMap::new(),
            waiters: BTreeMap::new(),
            deferred: Vec::new(),
            governance: BTreeMap::new(),
            trouble: None,
            board,
        };
        actor.reload()?;
        Ok(Self { actor, handle: Handle { sender } })
    }

    /// Speaks to the coordinator; answers come once it runs.
    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs until [`Handle::stop`] or until it cannot go on.
    pub(crate) fn run(self) -> Result<(), ActorError> {
        let Self { mut actor, handle } = self;
        // While it held one itself, the channel could never be found closed.
        drop(handle);
        actor.run()
    }
}

fn entropy<const N: usize>() -> Result<[u8; N], ActorError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(ActorError::Entropy)?;
    Ok(bytes)
}

impl Actor {
    fn run(&mut self) -> Result<(), ActorError> {
        let mut next_tick = Instant::now() + TICK;
        loop {
            let mut group = Vec::new();
            match self.receiver.recv_timeout(next_tick.saturating_duration_since(Instant::now())) {
                Ok(message) => group.push(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            while group.len() < GROUP_MAX
                && let Ok(message) = self.receiver.try_recv()
            {
                group.push(message);
            }
            let tick = Instant::now() >= next_tick;
            if tick {
                next_tick = Instant::now() + TICK;
                self.pending.retain(|_, answer| !answer.is_closed());
            }
            if self.coordinator.is_none() && self.may_write() {
                self.try_reload()?;
            }
            if !self.serve(group, tick)? {
                return Ok(());
            }
        }
    }

    /// Handles messages together. False: one of them says to stop.
    fn serve(&mut self, group: Vec<Message>, tick: bool) -> Result<bool, ActorError> {
        let mut after: Vec<Message> = Vec::new();
        let mut changes = Vec::new();
        let mut effects = Vec::new();
        let mut go_on = true;
        if self.blocked().is_none() {
            for input in std::mem::take(&mut self.deferred) {
                self.step(input, None, &mut changes, &mut effects)?;
            }
        }
        for message in group {
            let (input, answer) = match message {
                Message::Ask(input, answer) => (*input, Some(answer)),
                Message::Tell(input) => (*input, None),
                Message::Stop => {
                    go_on = false;
                    continue;
                }
                other => {
                    after.push(other);
                    continue;
                }
            };
            if let Some(reason) = self.blocked() {
                self.note_governance(&input);
                match (answer, finished(&input)) {
                    (Some(answer), _) => drop(answer.send(Err(AskError::Storage(reason)))),
                    (None, Some(_)) => self.deferred.push(input),
                    // Devices say everything again, and so does a reload with what is noted.
                    (None, None) => {}
                }
                continue;
            }
            self.step(input, answer, &mut changes, &mut effects)?;
        }
        if tick && self.blocked().is_none() {
            self.step(Input::Tick, None, &mut changes, &mut effects)?;
        }
        if !changes.is_empty() {
            match self.store.commit(self.epoch, &changes) {
                Ok(()) => {
                    if self.trouble.take().is_some() {
                        tracing::info!("the pool's store works again");
                    }
                    if changes.iter().any(|change| matches!(change, Change::Logged(_))) {
                        self.tell_log();
                    }
                }
                Err(error @ StoreError::Deposed { .. }) => return Err(ActorError::Deposed(error)),
                Err(error) => {
                    self.fail(&error, &effects);
                    effects.clear();
                    self.try_reload()?;
                }
            }
        }
        self.release(effects);
        for message in after {
            match (message, &self.coordinator) {
                (Message::Read(read), Some(coordinator)) => read(coordinator, &mut *self.store),
                (Message::WaitEnded(job, answer), Some(coordinator)) => {
                    if coordinator.job(None, job).is_some() {
                        self.waiters.entry(job).or_default().push(answer);
                    } else {
                        let _ = answer.send(());
                    }
                }
                // Dropping it tells the asker.
                _ => {}
            }
        }
        Ok(go_on)
    }

    fn step(
        &mut self,
        input: Input,
        answer: Option<oneshot::Sender<Answer>>,
        changes: &mut Vec<Change>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), ActorError> {
        if let Some(work) = finished(&input) {
            self.working.remove(&work);
        }
        self.note_governance(&input);
        let context = Context { now: now(), entropy: entropy()? };
        let coordinator = self.coordinator.as_mut().expect("nothing is blocked, so there is a coordinator");
        self.requests += 1;
        let request = RequestId(self.requests);
        if let Some(answer) = answer {
            self.pending.insert(request, answer);
        }
        let step = coordinator.step(context, request, input);
        changes.extend(step.changes);
        effects.extend(step.effects);
        Ok(())
    }

    fn release(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Reply(request, answer) => {
                    if let Some(to) = self.pending.remove(&request) {
                        // Who no longer listens has hung up; what it was told is told again when it asks again.
                        let _ = to.send(answer.map_err(AskError::Refused));
                    }
                }
                Effect::Prepare(job) => self.assign(Work::Prepare(job)),
                Effect::Assemble(job) => self.assign(Work::Assemble(job)),
                Effect::Gather(task) => self.assign(Work::Gather(task)),
                Effect::Compare(task) => self.assign(Work::Compare(task)),
                // Which items are in dispute follows from what is stored.
                Effect::Referee(task, _) => self.assign(Work::Referee(task)),
                Effect::JobEnded(job) => {
                    for waiter in self.waiters.remove(&job).into_iter().flatten() {
                        let _ = waiter.send(());
                    }
                }
            }
        }
    }

    fn assign(&mut self, work: Work) {
        // After a reload, what is still being worked on is asked for again.
        if self.working.insert(work) && self.work.send(work).is_err() {
            tracing::debug!(?work, "not begun: the pool is stopping");
        }
    }

    /// Why nothing that might write is tried now.
    fn blocked(&self) -> Option<Arc<str>> {
        match &self.trouble {
            Some(trouble) if self.coordinator.is_none() || !self.may_write() => Some(trouble.reason.clone()),
            _ => None,
        }
    }

    fn may_write(&self) -> bool {
        self.trouble.as_ref().is_none_or(|trouble| Instant::now() >= trouble.until)
    }

    /// The commit failed: nothing in this group happened.
    fn fail(&mut self, error: &StoreError, effects: &[Effect]) {
        self.note_trouble(error);
        let reason = self.trouble.as_ref().map_or_else(|| "".into(), |trouble| trouble.reason.clone());
        for effect in effects {
            if let Effect::Reply(request, _) = effect
                && let Some(to) = self.pending.remove(request)
            {
                let _ = to.send(Err(AskError::Storage(reason.clone())));
            }
        }
    }

    fn note_trouble(&mut self, error: &StoreError) {
        let pause = self.trouble.as_ref().map_or(BACKOFF.0, |trouble| (trouble.pause * 2).min(BACKOFF.1));
        let reason = describe(error);
        tracing::error!(%reason, pause_ms = pause.as_millis() as u64, "the pool's store failed");
        self.trouble = Some(Trouble { until: Instant::now() + pause, pause, reason: reason.into() });
    }

    /// Loads again; if that fails too, a later round tries once more.
    fn try_reload(&mut self) -> Result<(), ActorError> {
        // Its replies would be about what never became durable.
        self.pending.clear();
        self.coordinator = None;
        match self.reload() {
            Err(ActorError::Store(error)) => {
                self.note_trouble(&error);
                Ok(())
            }
            other => other,
        }
    }

    fn reload(&mut self) -> Result<(), ActorError> {
        let snapshot = self.store.load().map_err(ActorError::Store)?;
        let boot = BootId(entropy()?);
        let Origin { config, pool, authority } = &self.origin;
        let authority = Box::new(authority.clone());
        let (coordinator, effects) =
            Coordinator::load(config.clone(), *pool, boot, authority, &snapshot.changes, snapshot.next, now());
        // The commit that failed may have been durable after all.
        let open = |job: &JobId| coordinator.job(None, *job).is_some();
        self.waiters.retain(|job, waiters| {
            let open = open(job);
            if !open {
                for waiter in waiters.drain(..) {
                    let _ = waiter.send(());
                }
            }
            open
        });
        self.coordinator = Some(coordinator);
        self.tell_log();
        self.release(effects);
        self.deferred.extend(self.governance.values().cloned());
        Ok(())
    }

    /// Every entry that the coordinator knows is durable now.
    fn tell_log(&self) {
        if let Some(coordinator) = &self.coordinator {
            self.board.commit(coordinator.catalog().books().size());
        }
    }

    /// Keeps what a coordinator must be told about governance, for the next one that is loaded.
    fn note_governance(&mut self, input: &Input) {
        let about = match input {
            // All that is stopped now follows.
            Input::GovernanceChanged { .. } => {
                self.governance.clear();
                None
            }
            Input::WorkloadRevoked { workload, .. } | Input::WorkloadUncertified { workload, .. } => Some(*workload),
            _ => return,
        };
        self.governance.insert(about, input.clone());
    }
}

/// The work that this input reports as done.
fn finished(input: &Input) -> Option<Work> {
    match input {
        Input::JobPrepared(job, _) => Some(Work::Prepare(*job)),
        Input::JobAssembled(job, _) => Some(Work::Assemble(*job)),
        Input::AuditGathered(task, ..) => Some(Work::Gather(*task)),
        Input::AuditCompared(task, _) => Some(Work::Compare(*task)),
        Input::AuditRefereed(task, _) => Some(Work::Referee(*task)),
        _ => None,
    }
}

/// An error with all its causes.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Where work waits for one of the pool's own threads.
#[derive(Clone)]
pub(crate) struct WorkQueue(Arc<Mutex<Receiver<Work>>>);

impl WorkQueue {
    pub(crate) fn new(receiver: Receiver<Work>) -> Self {
        Self(Arc::new(Mutex::new(receiver)))
    }

    /// The next piece; blocks. Nothing: the pool stops.
    pub(crate) fn next(&self) -> Option<Work> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use caii_audit::Event;
    use caii_coordinator::{Attempt, JobRecord};
    use caii_model::{
        Account, Bytes, Digest, FilePurpose, InputFormat, JobKind, JobSpec, Limits, Manifest, MeterId, Millis, Role,
        RuntimeClass, Scope, Settled, TaskIndex, Verification,
    };
    use caii_store::{BookQueries, JobQuery, MemoryStore, Snapshot};
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A store whose disk is full at times.
    struct Flaky {
        store: MemoryStore,
        full: Arc<AtomicBool>,
    }

    impl Store for Flaky {
        fn acquire(&mut self) -> Result<Epoch, StoreError> {
            self.store.acquire()
        }
        fn load(&mut self) -> Result<Snapshot, StoreError> {
            self.store.load()
        }
        fn commit(&mut self, fence: Epoch, changes: &[Change]) -> Result<(), StoreError> {
            if self.full.load(Ordering::SeqCst) {
                let source = std::io::Error::from(std::io::ErrorKind::StorageFull).into();
                return Err(StoreError::DiskFull { attempt: "commit", path: "pool.db".into(), source });
            }
            self.store.commit(fence, changes)
        }
        fn job(&mut self, id: JobId) -> Result<Option<JobRecord>, StoreError> {
            self.store.job(id)
        }
        fn jobs(&mut self, query: &JobQuery) -> Result<Vec<JobRecord>, StoreError> {
            self.store.jobs(query)
        }
        fn attempts(&mut self, job: JobId, limit: usize) -> Result<Vec<(TaskIndex, Attempt)>, StoreError> {
            self.store.attempts(job, limit)
        }
        fn settled(&mut self, job: JobId) -> Result<Vec<(TaskIndex, Settled)>, StoreError> {
            self.store.settled(job)
        }
        fn logged(&mut self, from: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
            self.store.logged(from, limit)
        }
        fn books(&mut self) -> &mut dyn BookQueries {
            self.store.books()
        }
    }

    const METER: MeterId = MeterId(Digest([9; 32]));

    struct Running {
        handle: Handle,
        work: Receiver<Work>,
        thread: std::thread::JoinHandle<Result<(), ActorError>>,
    }

    impl Running {
        fn start(store: Box<dyn Store>) -> Self {
            let authority = Ed25519Authority::new(caii_trust::SigningKey::from_seed([1; 32]));
            let pool = caii_trust::pool_id(&authority.public());
            let (sender, work) = std::sync::mpsc::channel();
            let origin = Origin { config: Config::new(METER), pool, authority };
            let ready = Ready::load(store, origin, sender, Board::new()).unwrap();
            let handle = ready.handle();
            Self { handle, work, thread: std::thread::spawn(move || ready.run()) }
        }

        fn stop(self) -> Result<(), ActorError> {
            self.handle.stop();
            self.thread.join().unwrap()
        }
    }

    fn account() -> Account {
        Account::new("a").unwrap()
    }

    fn new_key(secret: u8) -> Input {
        Input::KeyCreate { name: "k".into(), account: account(), role: Role::Admin, secret_hash: Digest([secret; 32]) }
    }

    async fn keys(handle: &Handle) -> usize {
        handle.read(|coordinator, _| coordinator.keys().count()).await.unwrap()
    }

    #[tokio::test]
    async fn a_full_disk_stops_writes_alone_and_passes() {
        let full = Arc::new(AtomicBool::new(false));
        let running = Running::start(Box::new(Flaky { store: MemoryStore::new(), full: full.clone() }));
        running.handle.ask(new_key(1)).await.unwrap();
        full.store(true, Ordering::SeqCst);
        for _ in 0..3 {
            let refused = running.handle.ask(new_key(2)).await.unwrap_err();
            assert!(
                matches!(&refused, AskError::Storage(reason) if reason.contains("free some disk space")),
                "{refused}"
            );
            assert_eq!(keys(&running.handle).await, 1, "nothing happened that is not durable, and reading works");
        }
        full.store(false, Ordering::SeqCst);
        let begun = Instant::now();
        while let Err(refused) = running.handle.ask(new_key(2)).await {
            assert!(matches!(refused, AskError::Storage(_)) && begun.elapsed() < Duration::from_secs(60), "{refused}");
            tokio::task::yield_now().await;
        }
        assert_eq!(keys(&running.handle).await, 2);
        running.stop().unwrap();
    }

    #[tokio::test]
    async fn unfinished_work_is_asked_for_again_after_a_restart() {
        let store = MemoryStore::new();
        let running = Running::start(Box::new(store.clone()));
        let manifest = Manifest {
            name: "m".into(),
            program: Digest([1; 32]),
            program_size: Bytes(1),
            runtime: RuntimeClass::Wasm,
            scope: Scope::Item { records: 1 },
            blobs: vec![],
            args: vec![],
            limits: Limits::default(),
            meter: METER,
        };
        let workload = manifest.digest();
        running.handle.ask(Input::WorkloadAdd(manifest)).await.unwrap();
        let file = Input::FileCreate {
            owner: account(),
            filename: "f".into(),
            purpose: FilePurpose::UserData,
            digest: Digest([2; 32]),
            size: Bytes(1),
        };
        let Ok(Reply::File(file)) = running.handle.ask(file).await else { panic!("no file") };
        let spec = JobSpec {
            owner: account(),
            name: "j".into(),
            kind: JobKind::Program { format: InputFormat::Lines },
            workload,
            input: Some(file.id),
            records_per_task: None,
            verification: Verification::Off,
            max_price: None,
            deadline: now() + Millis(3_600_000),
        };
        let Ok(Reply::Job(job)) = running.handle.ask(Input::JobSubmit(spec)).await else { panic!("no job") };
        assert_eq!(running.work.recv().unwrap(), Work::Prepare(job));
        running.stop().unwrap();

        let running = Running::start(Box::new(store.clone()));
        assert_eq!(running.work.recv().unwrap(), Work::Prepare(job));
        let waiting = running.handle.clone();
        let waiting = tokio::spawn(async move { waiting.ended(job).await });
        assert!(running.handle.tell_blocking(Input::JobPrepared(job, Err(vec![]))));
        waiting.await.unwrap().unwrap();
        running.handle.ended(job).await.unwrap();
        running.stop().unwrap();
    }

    #[tokio::test]
    async fn who_is_deposed_stops() {
        let mut store = MemoryStore::new();
        let running = Running::start(Box::new(store.clone()));
        store.acquire().unwrap();
        assert!(running.handle.ask(new_key(2)).await.is_err());
        assert!(matches!(running.thread.join().unwrap(), Err(ActorError::Deposed(_))));
    }
}
