//! The agent's side of a runner: start the process, hand it items, watch it, freeze it, kill it.

use crate::cache::{DeviceSecret, Entry, Lock, Slot};
use crate::child::{FIRST_BLOB_FD, IMAGE_FD, NOT_COMPILING, PROGRAM_FD, PROGRESS_FD, confines};
use crate::failure::{RunError, StartError};
use crate::frames::{FrameError, FrameReader};
use crate::jail::{self, JailLayer, JailLayers, JailPolicy, JailReport, LayerState, cgroup};
use crate::meter::FloatNan;
use crate::protocol::{self, BlobSetup, Frame, MAX_ITEM, Refusal, Setup, Stage, encode};
use crate::wasi::MAX_MEMORY;
use crate::watch::{Watch, compile_cpu_max, compiles_too_long};
use crate::wipe::{Outcomes, Wiped, wipe_outcome};
use caii_model::{Bytes, Fuel, ItemOutcome, Manifest, Millis};
use command_fds::{CommandFdExt as _, FdMapping};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a runner's own standard error that are kept to explain its death.
const STDERR_KEPT: usize = 8 << 10;
/// Items are gathered into writes of about this size.
const WRITE_BYTES: usize = 64 << 10;
/// Times that a damaged image is made anew before giving up.
const IMAGE_ATTEMPTS: usize = 3;

/// What to start.
#[derive(Debug, Clone)]
pub struct RunnerSpec {
    /// The executable whose `args` lead to [`runner_main`](crate::runner_main).
    pub command: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// The workload; its meter must be one of [`supported_meters`](crate::supported_meters).
    pub manifest: Manifest,
    /// The program's file; its digest is checked when it is compiled.
    pub program: PathBuf,
    /// The manifest's blobs by name; digests are checked when the program is prepared, sizes always.
    pub blobs: Vec<(String, PathBuf)>,
    /// Where compiled images are kept; the caller bounds what it holds. Only this device may write there.
    pub cache_dir: PathBuf,
    /// What binds compiled images to this device.
    pub device_secret: DeviceSecret,
    /// Bytes of standard output and error that one task may produce before the attempt is given up.
    pub output_per_task: Bytes,
    /// Wall time to compile the program and run its initialiser.
    pub prepare_wall: Millis,
    /// CPU time to compile the program; more is the program's fault. What [`new`](Self::new) gives is the same on every
    /// device, and should stay so.
    pub compile_cpu_max: Millis,
    /// How the runner competes for the CPU.
    pub priority: Priority,
    /// What happens where the jail cannot be closed. The contributor decides it, never a pool.
    pub jail: JailPolicy,
}

impl RunnerSpec {
    /// With 256 MiB of output a task, half an hour to prepare, CPU time to compile by the program's size, idle priority,
    /// and the whole jail or nothing.
    pub fn new(
        command: PathBuf,
        args: Vec<OsString>,
        manifest: Manifest,
        program: PathBuf,
        blobs: Vec<(String, PathBuf)>,
        cache_dir: PathBuf,
        device_secret: DeviceSecret,
    ) -> Self {
        let compile_cpu_max = compile_cpu_max(manifest.program_size, manifest.limits.memory);
        Self {
            command,
            args,
            manifest,
            program,
            blobs,
            cache_dir,
            device_secret,
            output_per_task: Bytes::mebi(256),
            prepare_wall: Millis(30 * 60 * 1000),
            compile_cpu_max,
            priority: Priority::Idle,
            jail: JailPolicy::REQUIRE,
        }
    }
}

/// How a runner competes for the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// It runs when nothing else wants to. On a busy machine that can be never.
    Idle,
    /// As any process: for machines whose owner gave them to the pool altogether.
    Normal,
}

/// What starting took, and what confines the runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartReport {
    /// Whether the compiled image was there already.
    pub cached: bool,
    /// CPU time to compile and initialise; 0 when cached.
    pub compile_cpu: Millis,
    /// Fuel that the initialiser used, now or when the image was made.
    pub init_fuel: Fuel,
    /// Wall time until it was ready for items.
    pub wall: Millis,
    /// What is in force around it.
    pub jail: JailReport,
    /// What was in force where the image was made, then or now.
    pub prepared_in: JailLayers,
    /// The same with reasons, if it was made now.
    pub prepare_jail: Option<JailReport>,
}

/// A task's outcomes and what they took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRun {
    /// One for each item, in the items' order.
    pub outcomes: Vec<ItemOutcome>,
    /// CPU time of the runner.
    pub cpu: Duration,
    /// Wall time, freezing included.
    pub wall: Duration,
}

impl Zeroize for TaskRun {
    /// Wipes what the program put out.
    fn zeroize(&mut self) {
        self.outcomes.iter_mut().for_each(wipe_outcome);
    }
}

/// A warm runner process for one workload. Dropping it kills the process.
#[derive(Debug)]
pub struct Runner {
    process: Process,
    wall_per_item: Millis,
    output_per_task: Bytes,
    jail: JailLayers,
    usable: bool,
}

impl Runner {
    /// Starts a runner, compiling the program first if no image of it is cached.
    ///
    /// Needs a tokio runtime with IO and time. Dropping the future stops what it started.
    ///
    /// # Errors
    /// See [`StartError`]; [`StartError::is_programs_fault`] tells whether another device could do better.
    pub async fn start(spec: RunnerSpec) -> Result<(Self, StartReport), StartError> {
        let begun = Instant::now();
        let nan = FloatNan::of_meter(spec.manifest.meter).ok_or(StartError::UnknownMeter(spec.manifest.meter.0))?;
        let launcher = Launcher { nan, blobs: blob_setups(&spec)?, spec };
        let slot = Slot::new(&launcher.spec.cache_dir, &launcher.spec.manifest, &launcher.spec.device_secret);
        let cache_error = |source| StartError::Cache { path: launcher.spec.cache_dir.clone(), source };
        let lock = || async {
            let slot = slot.clone();
            let locked = tokio::task::spawn_blocking(move || slot.lock()).await;
            locked.map_err(io::Error::other).flatten().map_err(cache_error)
        };

        // An image that was made in a weaker jail than is wanted now is made again: whoever broke out of the compiler
        // would have written it.
        let policy = launcher.spec.jail;
        let find = || {
            let found = slot.find().map_err(cache_error)?;
            Ok::<_, StartError>(found.filter(|(_, entry)| policy.is_met_by(entry.jail)))
        };

        let mut made = None;
        let mut damage = String::new();
        for _ in 0..IMAGE_ATTEMPTS {
            let (image, entry) = match find()? {
                Some(found) => found,
                None => {
                    let lock = lock().await?;
                    // Somebody else may have made it while we waited for the lock.
                    if find()?.is_none() {
                        let (entry, cpu, jail) = launcher.make_image(&slot, &lock).await?;
                        slot.publish(&lock, &entry).map_err(cache_error)?;
                        made = Some((cpu, jail));
                    }
                    continue;
                }
            };
            let stage = Stage::Run { image: entry.image, image_size: entry.size };
            let mut process = launcher.launch(stage, image, None).await?;
            match process.first_answer().await? {
                Answer::Ready(report) if !policy.is_met_by(report.enforced()) => {
                    return Err(StartError::Jail { report, policy });
                }
                Answer::Ready(jail) => {
                    let cached = made.is_none();
                    let (compile_cpu, prepare_jail) = made.map_or((Millis(0), None), |(cpu, jail)| (cpu, Some(jail)));
                    let report = StartReport {
                        cached,
                        compile_cpu,
                        init_fuel: entry.init_fuel,
                        wall: Millis(begun.elapsed().as_millis() as u64),
                        jail,
                        prepared_in: entry.jail,
                        prepare_jail,
                    };
                    let limits = &launcher.spec.manifest.limits;
                    let runner = Self {
                        process,
                        wall_per_item: limits.wall_per_item,
                        output_per_task: launcher.spec.output_per_task,
                        jail: report.jail.enforced().and(report.prepared_in),
                        usable: true,
                    };
                    return Ok((runner, report));
                }
                Answer::Refused(Refusal::Image(reason)) => {
                    tracing::warn!(%reason, "the cached image of a program cannot be used; it will be made again");
                    let lock = lock().await?;
                    slot.remove(&lock).map_err(cache_error)?;
                    damage = reason;
                }
                Answer::Refused(refusal) => return Err(why_refused(refusal, policy)),
                Answer::Prepared(..) => return Err(StartError::Protocol("it prepared instead of loading".into())),
            }
        }
        Err(StartError::ImageKeepsFailing(damage))
    }

    /// Runs the items of one task, in order.
    ///
    /// Items are sent while results come back; outputs are held in memory up to
    /// [`RunnerSpec::output_per_task`]. Dropping the future kills the runner. The items, and outcomes that nobody gets,
    /// are wiped; the outcomes that this returns are the caller's to wipe.
    ///
    /// # Errors
    /// See [`RunError`]. An item that fails is no error here but an outcome.
    pub async fn run(&mut self, items: Vec<Vec<u8>>) -> Result<TaskRun, RunError> {
        let items = Zeroizing::new(items);
        if !self.usable {
            return Err(RunError::Unusable);
        }
        if let Some((index, item)) = items.iter().enumerate().find(|(_, item)| item.len() > MAX_ITEM) {
            return Err(RunError::ItemTooLarge { index, size: Bytes(item.len() as u64) });
        }
        // Should this future be dropped half-way, or fail, the runner has answers in it that belong to nobody.
        self.usable = false;
        let guard = KillOnDrop(Some(self.process.control.clone()));
        let run = self.process.run_task(&items, self.wall_per_item, self.output_per_task).await?;
        guard.disarm();
        self.usable = true;
        Ok(run)
    }

    /// The layers of the jail that were in force both where its image was made and around it.
    pub fn jail(&self) -> JailLayers {
        self.jail
    }

    /// Whether it can run another task. A process that died between tasks is noticed by the next run.
    pub fn usable(&self) -> bool {
        self.usable
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.control.pid()
    }

    /// A handle to freeze, thaw or kill it from elsewhere while a task runs.
    pub fn control(&self) -> RunnerControl {
        self.process.control.clone()
    }

    /// See [`RunnerControl::freeze`].
    ///
    /// # Errors
    /// When the signal cannot be sent; a process that is gone is no error.
    pub fn freeze(&self) -> io::Result<()> {
        self.process.control.freeze()
    }

    /// See [`RunnerControl::thaw`].
    ///
    /// # Errors
    /// When the signal cannot be sent; a process that is gone is no error.
    pub fn thaw(&self) -> io::Result<()> {
        self.process.control.thaw()
    }

    /// Kills it at once and waits until it is gone.
    pub async fn kill(mut self) {
        // It is gone either way when this returns; what its status was does not matter.
        let _ = self.process.child.kill().await;
    }
}

/// Freezes, thaws and kills one runner process, and never another that got its number later.
#[derive(Debug, Clone)]
pub struct RunnerControl(Arc<ControlState>);

#[derive(Debug)]
struct ControlState {
    pid: u32,
    pidfd: OwnedFd,
    frozen: Mutex<Frozen>,
}

#[derive(Debug, Default)]
struct Frozen {
    since: Option<Instant>,
    before: Duration,
}

impl RunnerControl {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// Stops it where it is: it uses no CPU until thawed, and this time does not count towards its items' limits.
    ///
    /// # Errors
    /// When the signal cannot be sent; a process that is gone is no error.
    pub fn freeze(&self) -> io::Result<()> {
        let mut frozen = self.frozen();
        self.signal(Signal::STOP)?;
        frozen.since.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When the signal cannot be sent; a process that is gone is no error.
    pub fn thaw(&self) -> io::Result<()> {
        let mut frozen = self.frozen();
        self.signal(Signal::CONT)?;
        if let Some(since) = frozen.since.take() {
            frozen.before += since.elapsed();
        }
        Ok(())
    }

    /// Kills it at once, frozen or not. The task that it runs ends with [`RunError::Died`].
    ///
    /// # Errors
    /// When the signal cannot be sent; a process that is gone is no error.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.0.pidfd, signal) {
            Err(error) if error != rustix::io::Errno::SRCH => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// How long it has been frozen in all.
    pub(crate) fn frozen_for(&self) -> Duration {
        let frozen = self.frozen();
        frozen.before + frozen.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn frozen(&self) -> MutexGuard<'_, Frozen> {
        // Whoever panicked with it held left a value that is as good as any.
        self.0.frozen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct KillOnDrop(Option<RunnerControl>);

impl KillOnDrop {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.take().map(|control| control.kill()) {
            tracing::error!(%error, "cannot kill a runner");
        }
    }
}

fn why_refused(refusal: Refusal, policy: JailPolicy) -> StartError {
    match refusal {
        Refusal::Program(reason) => StartError::Program(reason),
        Refusal::Initialiser(error, stderr) => StartError::Initialiser { error, stderr },
        Refusal::Image(reason) | Refusal::Host(reason) => StartError::Host(reason),
        Refusal::Jail(report) => StartError::Jail { report, policy },
    }
}

fn blob_setups(spec: &RunnerSpec) -> Result<Vec<BlobSetup>, StartError> {
    let manifest = &spec.manifest;
    let blobs =
        manifest.blobs.iter().map(|blob| BlobSetup { name: blob.name.clone(), digest: blob.digest, size: blob.size });
    let blobs: Vec<_> = blobs.collect();
    let bad = |what: &str| Err(StartError::Manifest(what.to_owned()));
    if manifest.limits.memory > MAX_MEMORY {
        return bad("its memory limit is beyond 4 GiB, which is all that a program can address");
    }
    if !protocol::check_limits(&manifest.limits) {
        return bad("its limits on output and standard error are beyond 512 MiB together");
    }
    if !protocol::check_setup(&manifest.args, &blobs) {
        return bad("it has more than 256 arguments or 64 blobs, or one of their names is beyond 64 KiB");
    }
    Ok(blobs)
}

/// What is needed to start processes for one workload.
struct Launcher {
    spec: RunnerSpec,
    nan: FloatNan,
    blobs: Vec<BlobSetup>,
}

impl Launcher {
    /// Compiles and initialises the program in a process of its own, so that the runners carry none of the
    /// compiler's memory.
    async fn make_image(&self, slot: &Slot, lock: &Lock) -> Result<(Entry, Millis, JailReport), StartError> {
        let made = self.try_make_image(slot, lock).await;
        if made.is_err() {
            slot.abandon(lock);
        }
        made
    }

    async fn try_make_image(&self, slot: &Slot, lock: &Lock) -> Result<(Entry, Millis, JailReport), StartError> {
        let image =
            slot.create(lock).map_err(|source| StartError::Cache { path: self.spec.cache_dir.clone(), source })?;
        let program = open(&self.spec.program)?;
        let mut process = self.launch(Stage::Prepare, image, Some(program)).await?;
        let (wall, cpu) = (self.spec.prepare_wall, self.spec.compile_cpu_max);
        let progress = process.progress.try_clone().map_err(|error| StartError::Host(error.to_string()))?;
        let too_long = compiles_too_long(process.control.clone(), progress, cpu);
        let answer = tokio::select! {
            biased;
            answer = tokio::time::timeout(Duration::from_millis(wall.0), process.first_answer()) => {
                answer.map_err(|_| StartError::TooSlow(wall))?
            }
            () = too_long => return Err(StartError::Program(format!(
                "compiling it takes more than {} s of CPU, more than 20 times what programs of its size need; split its \
                 largest functions", cpu.0 / 1_000
            ))),
        };
        match answer.map_err(|broken| self.blame(broken))? {
            Answer::Prepared(entry, _, report) if !self.spec.jail.is_met_by(entry.jail) => {
                Err(StartError::Jail { report, policy: self.spec.jail })
            }
            Answer::Prepared(entry, cpu, jail) => Ok((entry, cpu, jail)),
            Answer::Refused(refusal) => Err(why_refused(refusal, self.spec.jail)),
            Answer::Ready(_) => Err(StartError::Protocol("it loaded instead of preparing".into())),
        }
    }

    /// How preparing ended when the runner said nothing. What it may have of memory is the same on every device.
    fn blame(&self, broken: Broken) -> StartError {
        match broken {
            Broken::Died { stderr, .. } if stderr.contains("memory allocation of") => {
                let memory = Bytes(confines(&self.setup(Stage::Prepare)).data);
                StartError::Program(format!(
                    "compiling it takes more than {memory} of memory; split its largest functions"
                ))
            }
            other => other.into(),
        }
    }

    fn setup(&self, stage: Stage) -> Setup {
        let spec = &self.spec;
        Setup {
            stage,
            jail: spec.jail,
            idle_priority: spec.priority == Priority::Idle,
            native_nan: self.nan == FloatNan::Native,
            workload: spec.manifest.digest(),
            program: spec.manifest.program,
            program_size: spec.manifest.program_size,
            args: spec.manifest.args.clone(),
            limits: spec.manifest.limits,
            blobs: self.blobs.clone(),
        }
    }

    /// Starts a process and sends its setup.
    async fn launch(&self, stage: Stage, image: File, program: Option<File>) -> Result<Process, StartError> {
        let spec = &self.spec;
        let spawn_error = |source| StartError::Spawn { command: spec.command.clone(), source };
        let progress = memfd_create("caii-progress", MemfdFlags::CLOEXEC).map_err(|e| spawn_error(e.into()))?;
        let progress = File::from(progress);
        let mark = if matches!(stage, Stage::Prepare) { NOT_COMPILING } else { 0 };
        progress.write_all_at(&mark.to_le_bytes(), 0).map_err(spawn_error)?;

        let mut mappings = vec![
            FdMapping { parent_fd: image.into(), child_fd: IMAGE_FD },
            FdMapping { parent_fd: progress.try_clone().map_err(spawn_error)?.into(), child_fd: PROGRESS_FD },
        ];
        mappings.extend(program.map(|file| FdMapping { parent_fd: file.into(), child_fd: PROGRAM_FD }));
        for (child_fd, blob) in (FIRST_BLOB_FD..).zip(&self.blobs) {
            let found = spec.blobs.iter().find(|(name, _)| *name == blob.name);
            let (_, path) =
                found.ok_or_else(|| StartError::Host(format!("no file was given for /data/{}", blob.name)))?;
            mappings.push(FdMapping { parent_fd: open(path)?.into(), child_fd });
        }

        let mut command = std::process::Command::new(&spec.command);
        command.args(&spec.args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        jail::confine(&mut command);
        command.fd_mappings(mappings).map_err(|error| spawn_error(io::Error::other(error)))?;
        let mut process = Process::spawn(command, progress).await.map_err(spawn_error)?;

        let mut frame = Vec::new();
        let setup = self.setup(stage);
        // Before it knows its work, so that all of it is counted.
        let memory = confines(&setup).data;
        process.group = Some(cgroup::Version2::of_this_process().confine(process.control.pid(), memory));
        encode(&Frame::Setup(setup), &mut frame);
        // If it died already, its end is what the first answer tells.
        let _ = process.stdin.write_all(&frame).await;
        Ok(process)
    }
}

fn open(path: &PathBuf) -> Result<File, StartError> {
    File::open(path).map_err(|source| StartError::Open { path: path.clone(), source })
}

/// A runner process and our ends of its pipes.
#[derive(Debug)]
struct Process {
    child: Child,
    stdin: ChildStdin,
    frames: FrameReader,
    stderr: tokio::task::JoinHandle<VecDeque<u8>>,
    control: RunnerControl,
    progress: File,
    /// Its control group, or why it has none. After `child`, so that the process is dropped before its group.
    group: Option<Result<cgroup::Group, String>>,
}

/// What a process says about its setup.
enum Answer {
    Ready(JailReport),
    Prepared(Entry, Millis, JailReport),
    Refused(Refusal),
}

/// How a conversation with a process ended.
enum Broken {
    Died { status: String, stderr: String },
    Protocol(String),
}

impl From<Broken> for StartError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Died { status, stderr } => Self::Died { status, stderr },
            Broken::Protocol(what) => Self::Protocol(what),
        }
    }
}

impl From<Broken> for RunError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Died { status, stderr } => Self::Died { status, stderr },
            Broken::Protocol(what) => Self::Protocol(what),
        }
    }
}

impl Process {
    async fn spawn(command: std::process::Command, progress: File) -> io::Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        let mut child = on_spawning_thread(move || {
            let _entered = runtime.enter();
            tokio::process::Command::from(command).kill_on_drop(true).spawn()
        })
        .await??;
        let gone = || io::Error::other("the process ended at once");
        let pid = child.id().ok_or_else(gone)?;
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty())?;
        let piped = "piped above";
        let stdout = child.stdout.take().expect(piped);
        let stderr = child.stderr.take().expect(piped);
        Ok(Self {
            stdin: child.stdin.take().expect(piped),
            frames: FrameReader::new(stdout),
            stderr: tokio::spawn(tail(stderr)),
            control: RunnerControl(Arc::new(ControlState { pid, pidfd, frozen: Mutex::default() })),
            progress,
            group: None,
            child,
        })
    }

    async fn first_answer(&mut self) -> Result<Answer, Broken> {
        match self.frames.next().await {
            Ok(Some(Frame::Ready { jail })) => Ok(Answer::Ready(self.with_group(jail))),
            Ok(Some(Frame::Prepared { image, image_size, init_fuel, cpu_us, jail })) => {
                let jail = self.with_group(jail);
                let entry = Entry { image, size: image_size, init_fuel, jail: jail.enforced() };
                Ok(Answer::Prepared(entry, Millis(cpu_us / 1_000), jail))
            }
            Ok(Some(Frame::Refused(Refusal::Jail(jail)))) => Ok(Answer::Refused(Refusal::Jail(self.with_group(jail)))),
            Ok(Some(Frame::Refused(refusal))) => Ok(Answer::Refused(refusal)),
            Ok(Some(_)) => Err(Broken::Protocol("its first frame makes no sense".into())),
            Ok(None) | Err(FrameError::Ended) => Err(self.died().await),
            Err(FrameError::Decode(error)) => Err(Broken::Protocol(error.to_string())),
        }
    }

    /// What the process says of its jail, and the layer that is not its own doing.
    fn with_group(&self, mut jail: JailReport) -> JailReport {
        let state = match &self.group {
            Some(Ok(_)) => LayerState::Enforced,
            Some(Err(reason)) => LayerState::Unavailable(reason.clone()),
            None => LayerState::Unavailable("nobody asked for it".to_owned()),
        };
        jail.record(JailLayer::ControlGroup, state);
        jail
    }

    /// Its status and last words, once its output has ended.
    async fn died(&mut self) -> Broken {
        // It may have closed its output without ending; it is of no use either way.
        let ended = match tokio::time::timeout(Duration::from_secs(1), self.child.wait()).await {
            Ok(ended) => ended,
            Err(_) => {
                let killed = self.child.start_kill();
                if killed.is_ok() { self.child.wait().await } else { Err(io::Error::other("it cannot be killed")) }
            }
        };
        let status = ended.map_or_else(|error| format!("status unknown: {error}"), |status| status.to_string());
        let stderr = (&mut self.stderr).await.map(Vec::from).unwrap_or_default();
        Broken::Died { status, stderr: String::from_utf8_lossy(&stderr).trim().to_owned() }
    }

    async fn run_task(&mut self, items: &[Vec<u8>], wall: Millis, most: Bytes) -> Result<TaskRun, RunError> {
        let begun = Instant::now();
        let collected = {
            let watch = Watch::new(&self.control, &self.progress, wall);
            let mut feeding = std::pin::pin!(feed(&mut self.stdin, items));
            let mut collecting = std::pin::pin!(collect(&mut self.frames, items.len(), most, wall, watch));
            let mut fed = false;
            loop {
                tokio::select! {
                    result = &mut feeding, if !fed => match result {
                        Ok(()) => fed = true,
                        Err(_) => break Err(CollectError::Ended),
                    },
                    result = &mut collecting => break result,
                }
            }
        };
        // However it ended: what has passed leaves no trace here.
        self.frames.wipe(collected.is_err());
        match collected {
            Ok((outcomes, cpu)) => Ok(TaskRun { outcomes, cpu, wall: begun.elapsed() }),
            Err(CollectError::Ended) => Err(self.died().await.into()),
            Err(CollectError::Run(error)) => Err(error),
        }
    }
}

enum CollectError {
    /// The runner's output or input is closed.
    Ended,
    Run(RunError),
}

/// Writes all items and the end of the task, small ones together.
async fn feed(stdin: &mut ChildStdin, items: &[Vec<u8>]) -> io::Result<()> {
    // Never grows: one item more than is written at a time.
    let mut buffer = Wiped::new(Vec::with_capacity(2 * WRITE_BYTES + 64));
    for item in items {
        buffer.extend_from_slice(&protocol::item_header(item.len()));
        if item.len() > WRITE_BYTES {
            stdin.write_all(&buffer).await?;
            buffer.clear();
            stdin.write_all(item).await?;
            continue;
        }
        buffer.extend_from_slice(item);
        if buffer.len() > WRITE_BYTES {
            stdin.write_all(&buffer).await?;
            buffer.clear();
        }
    }
    encode(&Frame::EndTask, &mut buffer);
    stdin.write_all(&buffer).await
}

async fn collect(
    frames: &mut FrameReader,
    count: usize,
    most: Bytes,
    limit: Millis,
    mut watch: Watch<'_>,
) -> Result<(Vec<ItemOutcome>, Duration), CollectError> {
    let protocol = |what: &str| CollectError::Run(RunError::Protocol(what.to_owned()));
    let mut outcomes = Outcomes::with_capacity(count);
    let mut output: u64 = 0;
    let mut tick = tokio::time::interval(watch.interval());
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            frame = frames.next() => match frame {
                Ok(Some(Frame::Outcome(outcome))) => {
                    output += outcome.result.as_ref().map_or(0, Vec::len) as u64 + outcome.stderr.len() as u64;
                    if output > most.0 {
                        return Err(CollectError::Run(RunError::OutputTooLarge { limit: most }));
                    }
                    if outcomes.len() == count {
                        return Err(protocol("more outcomes than items"));
                    }
                    outcomes.push(outcome);
                }
                Ok(Some(Frame::TaskDone { cpu_us })) if outcomes.len() == count => {
                    return Ok((outcomes.take(), Duration::from_micros(cpu_us)));
                }
                Ok(Some(_)) => return Err(protocol("a frame that does not belong in a task")),
                Ok(None) | Err(FrameError::Ended) => return Err(CollectError::Ended),
                Err(FrameError::Decode(error)) => return Err(protocol(&error.to_string())),
            },
            _ = tick.tick() => {
                if let Some(index) = watch.overdue() {
                    // Results that the runner has not sent yet do not make their item the slow one.
                    let last = count.saturating_sub(1);
                    let index = index.min(last).max(outcomes.len().min(last));
                    return Err(CollectError::Run(RunError::ItemTooSlow { index, limit }));
                }
            }
        }
    }
}

/// Reads to the end and keeps the last part.
async fn tail(mut stderr: ChildStderr) -> VecDeque<u8> {
    let mut kept = VecDeque::new();
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        kept.extend(&buffer[..read]);
        let excess = kept.len().saturating_sub(STDERR_KEPT);
        kept.drain(..excess);
    }
    kept
}

/// Runs `job` on a thread that lives as long as this process: the kernel kills a runner when the *thread* that
/// started it ends, and a runtime's threads may end at any time.
async fn on_spawning_thread<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    type Job = Box<dyn FnOnce() + Send>;
    static THREAD: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    let jobs = THREAD.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<Job>();
        let thread = std::thread::Builder::new().name("spawn runners".into()).spawn(move || {
            for job in receiver {
                job();
            }
        });
        // Without the thread the channel is closed, which every job reports.
        drop(thread);
        sender
    });
    let (answer, answered) = tokio::sync::oneshot::channel();
    let gone = |_| io::Error::other("the thread that starts runners is gone");
    jobs.send(Box::new(move || {
        // Nobody waits any more if the start was dropped; the child is then killed with its handle.
        let _ = answer.send(job());
    }))
    .map_err(|_| gone(()))?;
    answered.await.map_err(|_| gone(()))
}
