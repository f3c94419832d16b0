//! The runner process: reads frames on standard input, runs untrusted programs, writes frames on standard output.
//!
//! It is one thread that reads, runs and writes in turn; results wait in a buffer while more items are at hand, so a
//! small task costs one read and one write. Its files are inherited descriptors at the places below; it opens none.

use crate::engine::{self, Cpu, THREAD_STACK};
use crate::jail::{self, Confines, Jail, JailLayer};
use crate::meter::FloatNan;
use crate::program::{PrepareError, Preparing, Program, command_line, digest_of, prepare};
use crate::protocol::{Frame, Refusal, Setup, Stage, complete, decode, encode};
use crate::wasi::{Blob, Workload};
use crate::wipe::{self, Wiped};
use caii_model::{Bytes, Digest, Fuel, ItemOutcome};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::FileExt as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zeroize::Zeroize as _;

/// The cached image: written when preparing, read when running.
pub(crate) const IMAGE_FD: RawFd = 3;
/// Eight bytes for the agent's watch. When running: how many items have been started. When preparing: the CPU time, in
/// microseconds, that was not spent on compiling, or [`NOT_COMPILING`].
pub(crate) const PROGRESS_FD: RawFd = 4;
/// The program when preparing, else nothing.
pub(crate) const PROGRAM_FD: RawFd = 5;
/// The blobs, in the manifest's order.
pub(crate) const FIRST_BLOB_FD: RawFd = 6;

/// This runner is not compiling now: it reads files, or runs the initialiser, which fuel bounds.
pub(crate) const NOT_COMPILING: u64 = u64::MAX;

/// Whatever a runner does to prepare takes this much CPU at most. The agent's watch on compiling and the initialiser's
/// fuel come first.
pub(crate) const PREPARE_CPU_SECONDS: u64 = 3 * 3_600;
/// What the runner itself needs of private memory: engine, buffers, stacks.
const OWN_DATA: u64 = 1 << 30;
/// Results wait in memory up to this size, or this long.
const FLUSH_BYTES: usize = 64 << 10;
/// Room for results beyond this is given back.
const LARGE: usize = 1 << 20;
const FLUSH_AFTER: Duration = Duration::from_millis(100);

/// The main function of a runner process. Call it before anything else has opened a descriptor.
///
/// It speaks the runner's protocol on standard input and output and returns when its input ends. Start it by
/// [`Runner::start`](crate::Runner::start), never by hand.
pub fn runner_main() -> ExitCode {
    start(Harness::default())
}

/// What stands in for a program: from an item to its output.
pub type Attempt = fn(&[u8]) -> Vec<u8>;

/// What tests of the jail change in a runner; nothing in a real one.
#[derive(Debug, Clone, Default)]
pub struct Harness {
    /// Layers that are left open.
    pub omitted: Vec<JailLayer>,
    /// Called where the compiler would be, with no code sealed off yet; what it returns is the refusal.
    pub while_compiling: Option<fn() -> String>,
    /// Called for each item, sealed, in place of the program; what it returns is the output.
    pub while_running: Option<Attempt>,
}

/// [`runner_main`] for tests of the jail. Nothing that ships calls it.
#[doc(hidden)]
pub fn harness_main(harness: Harness) -> ExitCode {
    start(harness)
}

fn start(harness: Harness) -> ExitCode {
    match enter_and_serve(harness) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("caii runner: {error}");
            ExitCode::FAILURE
        }
    }
}

fn enter_and_serve(harness: Harness) -> io::Result<ExitCode> {
    // The first such call looks for the kernel's clock in files and by calls that the jail denies.
    cpu_us();
    // While there is one thread: namespaces and users are a thread's own, and threads made later inherit them.
    let mut jail = Jail::enter(harness.omitted.clone());
    let mut channel = Channel::new();
    let setup = match channel.receive()? {
        None => return Ok(ExitCode::SUCCESS),
        Some(Frame::Setup(setup)) => setup,
        Some(other) => return Err(unexpected(&other)),
    };
    if setup.idle_priority {
        jail::be_idle()?;
    }
    jail.confine(&confines(&setup));
    // Frame sizes of compiled code differ, so the stack is this thread's own and of known size.
    let thread = std::thread::Builder::new().name("runner".into()).stack_size(THREAD_STACK);
    match thread.spawn(move || serve(&setup, jail, channel, &harness))?.join() {
        Ok(served) => served.map(|()| ExitCode::SUCCESS),
        // The panic has spoken.
        Err(_) => Ok(ExitCode::from(101)),
    }
}

fn serve(setup: &Setup, mut jail: Jail, mut channel: Channel, harness: &Harness) -> io::Result<()> {
    let image = inherit(IMAGE_FD)?;
    let answer = match setup.stage {
        Stage::Prepare => prepare_image(setup, image, &mut jail, harness),
        Stage::Run { image: digest, image_size } => match load(setup, image, digest, image_size, &mut jail) {
            Ok(loaded) => {
                channel.send(&Frame::Ready { jail: jail.report().clone() });
                channel.flush()?;
                return run_items(&loaded, &mut channel, harness);
            }
            Err(refusal) => Err(refusal),
        },
    };
    channel.send(&answer.unwrap_or_else(Frame::Refused));
    channel.flush()
}

/// Goes on only with what the contributor insists on.
fn check(setup: &Setup, jail: &Jail) -> Result<(), Refusal> {
    match jail.report().missed(setup.jail).next() {
        None => Ok(()),
        Some(_) => Err(Refusal::Jail(jail.report().clone())),
    }
}

/// What a runner with this work may use.
pub(crate) fn confines(setup: &Setup) -> Confines {
    let memory = setup.limits.memory.0;
    let io = setup.limits.output_per_item.0.saturating_mul(2).saturating_add(1 << 30);
    let (data, file_size, cpu_seconds) = match setup.stage {
        // The snapshot exists as memory, as a module and as compiled image, and the compiler wants its own.
        Stage::Prepare => {
            (memory.saturating_mul(6).saturating_add(4 * OWN_DATA), 2 * memory + OWN_DATA, Some(PREPARE_CPU_SECONDS))
        }
        Stage::Run { image_size, .. } => (memory.saturating_add(image_size.0).saturating_add(io + OWN_DATA), 8, None),
    };
    let files = 64 + setup.blobs.len() as u64;
    // The last number is nobody's: a range of nothing.
    let (program, first_blob) = (PROGRAM_FD as u32, FIRST_BLOB_FD as u32);
    let program = if matches!(setup.stage, Stage::Prepare) { u32::MAX } else { program };
    let surplus = [(program, program), (first_blob + setup.blobs.len() as u32, u32::MAX)];
    Confines { data, file_size, files, surplus, cpu_seconds, prepares: matches!(setup.stage, Stage::Prepare) }
}

fn inherit(fd: RawFd) -> io::Result<File> {
    #[expect(unsafe_code, reason = "an inherited descriptor is only a number")]
    // SAFETY: the agent placed its files at these numbers, each is taken once, and nothing else in this process was
    // opened before. If a number were not open, every use of the file fails.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    // Also tells whether it is open at all.
    rustix::io::fcntl_setfd(&owned, rustix::io::FdFlags::CLOEXEC)?;
    Ok(owned.into())
}

fn host(what: &str, error: impl std::fmt::Display) -> Refusal {
    Refusal::Host(format!("cannot {what}: {error}"))
}

fn workload(setup: &Setup) -> Result<Arc<Workload>, Refusal> {
    let blobs = (FIRST_BLOB_FD..).zip(&setup.blobs).map(|(fd, blob)| {
        let file = inherit(fd).map_err(|error| host("take over a blob", error))?;
        let size = rustix::fs::fstat(&file).map_err(|error| host("examine a blob", error))?.st_size as u64;
        if size != blob.size.0 {
            return Err(Refusal::Host(format!("/data/{} has {size} bytes instead of {}", blob.name, blob.size.0)));
        }
        Ok(Blob { name: blob.name.clone(), size, file })
    });
    Ok(Arc::new(Workload {
        digest: setup.workload,
        args: command_line(&setup.args),
        limits: setup.limits,
        blobs: blobs.collect::<Result<_, _>>()?,
    }))
}

fn nan(setup: &Setup) -> FloatNan {
    if setup.native_nan { FloatNan::Native } else { FloatNan::Canonical }
}

fn prepare_image(setup: &Setup, image: File, jail: &mut Jail, harness: &Harness) -> Result<Frame<'static>, Refusal> {
    check(setup, jail)?;
    if let Some(attempt) = harness.while_compiling {
        return Err(Refusal::Host(attempt()));
    }
    let workload = workload(setup)?;
    // Once per device, so that what items read later is what was certified.
    for (blob, wanted) in workload.blobs.iter().zip(&setup.blobs) {
        let (digest, _) = digest_of(&blob.file).map_err(|error| host("read a blob", error))?;
        if digest != wanted.digest {
            return Err(Refusal::Host(format!("/data/{} is {digest}, not {}", blob.name, wanted.digest)));
        }
    }
    let mut wasm = Vec::new();
    let program = inherit(PROGRAM_FD).map_err(|error| host("take over the program", error))?;
    let read = program.take(setup.program_size.0.saturating_add(1)).read_to_end(&mut wasm);
    read.map_err(|error| host("read the program", error))?;
    let digest = Digest::of(&wasm);
    if digest != setup.program {
        return Err(Refusal::Host(format!("the program is {digest}, not {}", setup.program)));
    }

    let engine = engine::engine(nan(setup), Cpu::Host).map_err(|error| host("start the engine", error))?;
    let progress = inherit(PROGRESS_FD).map_err(|error| host("take over the file of progress", error))?;
    let mut turns = Turns { setup, jail, progress, compiled_us: 0, began_us: 0 };
    let made = prepare(&engine, &workload, &wasm, &mut turns).and_then(|made| turns.compiled().map(|()| made));
    let made = made.map_err(|error| match error {
        PrepareError::Initialiser { error, stderr } => Refusal::Initialiser(error, stderr),
        PrepareError::Program(_) | PrepareError::Snapshot(_) | PrepareError::Compile(_) => {
            Refusal::Program(error.to_string())
        }
        PrepareError::Host(_) | PrepareError::UnknownMeter(_) => Refusal::Host(error.to_string()),
        PrepareError::Jail { .. } => Refusal::Jail(jail.report().clone()),
    })?;
    let written = image.write_all_at(&made.bytes, 0).and_then(|()| image.sync_all());
    written.map_err(|error| host("write the compiled program to the cache", error))?;
    Ok(Frame::Prepared {
        image: Digest::of(&made.bytes),
        image_size: Bytes(made.bytes.len() as u64),
        init_fuel: made.init_fuel,
        cpu_us: cpu_us(),
        jail: jail.report().clone(),
    })
}

/// The turns of a preparation: who may do what, and whose the CPU time is.
struct Turns<'a> {
    setup: &'a Setup,
    jail: &'a mut Jail,
    progress: File,
    /// CPU time spent on compiling, up to the last turn.
    compiled_us: u64,
    /// CPU time of the process when compiling began last.
    began_us: u64,
}

impl Turns<'_> {
    fn tell(&self, mark: u64) -> Result<(), PrepareError> {
        let told = self.progress.write_all_at(&mark.to_le_bytes(), 0);
        told.map_err(|error| PrepareError::Host(format!("cannot tell the agent's watch: {error}")))
    }
}

impl Preparing for Turns<'_> {
    fn compiling(&mut self) -> Result<(), PrepareError> {
        self.began_us = cpu_us();
        self.tell(self.began_us - self.compiled_us)
    }

    fn compiled(&mut self) -> Result<(), PrepareError> {
        self.compiled_us += cpu_us() - self.began_us;
        self.tell(NOT_COMPILING)?;
        self.jail.seal();
        match self.jail.report().missed(self.setup.jail).next() {
            None => Ok(()),
            Some((layer, reason)) => Err(PrepareError::Jail { layer, reason: reason.to_owned() }),
        }
    }
}

/// A program ready for items, and where to say how many were started.
struct Loaded {
    program: Program,
    progress: File,
}

fn load(setup: &Setup, image: File, digest: Digest, size: Bytes, jail: &mut Jail) -> Result<Loaded, Refusal> {
    check(setup, jail)?;
    // Compiled code is run natively: a damaged image must not even be parsed.
    let found = digest_of(&image).map_err(|error| host("read the cached image", error))?;
    if found != (digest, size) {
        return Err(Refusal::Image(format!("its digest is {}, not {digest}", found.0)));
    }
    let workload = workload(setup)?;
    let engine = engine::engine(nan(setup), Cpu::Host).map_err(|error| host("start the engine", error))?;
    #[expect(unsafe_code, reason = "loading compiled code is unsafe by nature")]
    // SAFETY: the bytes are those that a runner of this device compiled (same digest), and nothing writes to a cached
    // image once it has its name. The engine checks version, configuration and CPU features.
    let module = unsafe { wasmtime::Module::deserialize_open_file(&engine, image) };
    let module = module.map_err(|error| Refusal::Image(format!("{error:#}")))?;
    let program = Program::load(&engine, &module, workload).map_err(|error| host("link the program", error))?;
    let progress = inherit(PROGRESS_FD).map_err(|error| host("take over the file of progress", error))?;
    jail.seal();
    check(setup, jail)?;
    Ok(Loaded { program, progress })
}

fn run_items(loaded: &Loaded, channel: &mut Channel, harness: &Harness) -> io::Result<()> {
    let mut started: u64 = 0;
    let mut cpu_before = cpu_us();
    loop {
        match channel.receive()? {
            None => return Ok(()),
            Some(Frame::Item(item)) => {
                let item = item.to_vec();
                started += 1;
                loaded.progress.write_all_at(&started.to_le_bytes(), 0)?;
                let outcome = match harness.while_running {
                    None => loaded.program.run(item).map_err(io::Error::other)?,
                    Some(attempt) => ItemOutcome { result: Ok(attempt(&item)), fuel: Fuel(0), stderr: vec![] },
                };
                let mut frame = Frame::Outcome(outcome);
                channel.send(&frame);
                if let Frame::Outcome(outcome) = &mut frame {
                    wipe::wipe_outcome(outcome);
                }
                channel.flush_if_due()?;
            }
            Some(Frame::EndTask) => {
                let cpu = cpu_us();
                channel.send(&Frame::TaskDone { cpu_us: cpu - cpu_before });
                channel.flush()?;
                channel.wipe();
                cpu_before = cpu;
            }
            Some(other) => return Err(unexpected(&other)),
        }
    }
}

fn unexpected(frame: &Frame<'_>) -> io::Error {
    let name = format!("{frame:?}");
    io::Error::other(format!("a frame that does not belong here: {}", name.split(['(', ' ']).next().unwrap_or("?")))
}

/// Microseconds of CPU that this process has used.
fn cpu_us() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000
}

/// Frames on standard input and output, each buffered.
struct Channel {
    received: Wiped,
    consumed: usize,
    filled: usize,
    to_send: Wiped,
    flushed: Instant,
}

impl Channel {
    const ROOM: usize = 256 << 10;

    fn new() -> Self {
        Self {
            received: vec![0; Self::ROOM].into(),
            consumed: 0,
            filled: 0,
            to_send: Wiped::default(),
            flushed: Instant::now(),
        }
    }

    /// The next frame, or nothing at the end of input. Sends what waits before it blocks.
    fn receive(&mut self) -> io::Result<Option<Frame<'_>>> {
        loop {
            if let Some(length) = complete(&self.received[self.consumed..self.filled]).map_err(io::Error::other)? {
                let start = self.consumed;
                self.consumed += length;
                let frame = decode(&self.received[start..self.consumed]).map_err(io::Error::other)?;
                return Ok(frame.map(|(frame, _)| frame));
            }
            self.flush()?;
            self.make_room();
            match rustix::io::read(io::stdin(), &mut self.received[self.filled..]) {
                Ok(0) if self.filled == 0 => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.filled += read,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn make_room(&mut self) {
        self.received.copy_within(self.consumed..self.filled, 0);
        self.filled -= self.consumed;
        self.consumed = 0;
        if self.filled == self.received.len() {
            wipe::lengthen(&mut self.received, self.filled * 2);
        } else if self.filled == 0 && self.received.len() > 4 << 20 {
            // A large item has passed; do not keep its size for ever.
            self.received = vec![0; Self::ROOM].into();
        }
    }

    fn send(&mut self, frame: &Frame<'_>) {
        if let Frame::Outcome(outcome) = frame {
            let output = outcome.result.as_ref().map_or(0, Vec::len);
            wipe::reserve(&mut self.to_send, output + outcome.stderr.len() + 64);
        }
        encode(frame, &mut self.to_send);
    }

    /// Between tasks: what has passed leaves no trace here.
    fn wipe(&mut self) {
        let unread = self.consumed..self.filled;
        self.received[..unread.start].zeroize();
        self.received[unread.end..].zeroize();
        self.to_send = Wiped::default();
    }

    fn flush_if_due(&mut self) -> io::Result<()> {
        if self.to_send.len() >= FLUSH_BYTES || self.flushed.elapsed() >= FLUSH_AFTER {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut rest = self.to_send.as_slice();
        while !rest.is_empty() {
            match rustix::io::write(io::stdout(), rest) {
                Ok(written) => rest = &rest[written..],
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match self.to_send.capacity() {
            0..=LARGE => self.to_send.clear(),
            _ => self.to_send = Wiped::default(),
        }
        self.flushed = Instant::now();
        Ok(())
    }
}
