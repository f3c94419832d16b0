//! Where work is done: workloads made ready, runners kept warm, tasks run and their results sealed.

use super::cache::{BlobCache, FetchError, Pin, is_full};
use super::client::PoolClient;
use super::energy::EnergyMeter;
use super::gate::Gate;
use super::jails::Jails;
use super::wiped::{self, Wiped};
use crate::items::split;
use bytes::Bytes;
use caii_model::{AttemptFailure, AttemptFailureKind, Digest, Energy, Lease, Manifest, MeterId, Millis, TaskReport};
use caii_sandbox::{
    DeviceSecret, JailLayers, Priority, RunError, Runner, RunnerSpec, StartError, TaskRun, supported_meters,
};
use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// A warm runner that nobody used for so long is ended: its memory is the owner's.
const IDLE_MAX: Duration = Duration::from_secs(120);
/// Bytes that a task may put out, so that its encoded result stays below what the pool takes.
const OUTPUT_PER_TASK: caii_model::Bytes = caii_model::Bytes::mebi(192);
/// Bytes of compiled programs kept.
const IMAGES_MAX: u64 = 4 << 30;

/// What a workshop is made of.
pub(crate) struct Equipment {
    pub(crate) client: Arc<PoolClient>,
    pub(crate) cache: Arc<BlobCache>,
    /// Where compiled programs are kept.
    pub(crate) images: PathBuf,
    /// What binds them to this device.
    pub(crate) device_secret: DeviceSecret,
    /// The executable and arguments that become a runner.
    pub(crate) runner: (PathBuf, Vec<OsString>),
    pub(crate) priority: Priority,
    /// Tasks that run at a time.
    pub(crate) slots: usize,
    /// What may run at all.
    pub(crate) gate: Arc<Gate>,
    /// What must confine it, and where that is noted.
    pub(crate) jails: Arc<Jails>,
    /// What tasks take of the machine's energy.
    pub(crate) energy: Arc<dyn EnergyMeter>,
    pub(crate) falsify: Option<super::Falsify>,
}

pub(crate) struct Workshop {
    equipment: Equipment,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    loaded: BTreeMap<Digest, (Arc<Loaded>, u64)>,
    uses: u64,
    idle: Vec<Idle>,
}

/// A workload whose files are on disk and whose program is compiled.
struct Loaded {
    spec: RunnerSpec,
    /// Keep its files there.
    _pins: Vec<Pin>,
}

struct Idle {
    workload: Digest,
    runner: Runner,
    since: Instant,
}

/// A workload made ready.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) name: String,
    /// The stewards who certified it.
    pub(crate) by: Vec<String>,
    /// Whether the compiled program was there already.
    pub(crate) cached: bool,
    pub(crate) wall: Duration,
    /// Workloads that had to make room.
    pub(crate) evicted: Vec<Digest>,
}

/// A task that ran to its end.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) report: TaskReport,
    /// The encoded outcomes, whose digest is in the report.
    pub(crate) result: Bytes,
    /// The rest of what the device claims.
    pub(crate) measured: Measured,
}

/// How a task was measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) meter: MeterId,
    pub(crate) energy: Energy,
}

impl Workshop {
    pub(crate) fn new(equipment: Equipment) -> Self {
        Self { equipment, state: Mutex::default() }
    }

    /// Makes a workload ready: its manifest, its files, its compiled program, a warm runner.
    pub(crate) async fn prepare(
        &self,
        workload: Digest,
        progress: &(dyn Fn(&Manifest, u64) + Send + Sync),
    ) -> Result<Prepared, AttemptFailure> {
        let begun = Instant::now();
        let manifest = self.manifest(workload).await?;
        if !supported_meters().contains(&manifest.meter) {
            return Err(AttemptFailureKind::PreparationFailed.because(format!(
                "the workload is metered by {}, which this release of caii cannot; use the pool's release",
                manifest.meter.0.short()
            )));
        }
        let certified = self.equipment.gate.admit(&manifest).await?;
        let mut evicted = Vec::new();
        let (mut pins, mut done) = (Vec::new(), 0);
        let program = [(manifest.program, manifest.program_size)];
        for (digest, size) in program.into_iter().chain(manifest.blobs.iter().map(|blob| (blob.digest, blob.size))) {
            let report = |received| progress(&manifest, done + received);
            let pin = loop {
                match self.equipment.cache.get(&self.equipment.client, digest, size, report).await {
                    Err(FetchError::NoRoom { .. } | FetchError::DiskFull { .. }) if self.evict(&mut evicted) => {}
                    other => break other?,
                }
            };
            pins.push(pin);
            done += size.0;
        }
        let (command, args) = self.equipment.runner.clone();
        let names = manifest.blobs.iter().map(|blob| blob.name.clone());
        let blobs = names.zip(pins[1..].iter().map(Pin::path)).collect();
        let name = manifest.name.clone();
        let (images, secret) = (self.equipment.images.clone(), self.equipment.device_secret.clone());
        let spec = RunnerSpec {
            output_per_task: OUTPUT_PER_TASK,
            priority: self.equipment.priority,
            jail: self.equipment.jails.policy,
            ..RunnerSpec::new(command, args, manifest, pins[0].path(), blobs, images, secret)
        };
        let (runner, started) = self.start(&spec).await?;
        self.bound_images();
        let mut state = self.state();
        state.uses += 1;
        let uses = state.uses;
        state.loaded.insert(workload, (Arc::new(Loaded { spec, _pins: pins }), uses));
        drop(state);
        self.keep(workload, runner);
        let by = certified.by.into_iter().map(|steward| steward.name).collect();
        Ok(Prepared { name, by, cached: started.cached, wall: begun.elapsed(), evicted })
    }

    /// Runs a leased task on its input.
    pub(crate) async fn run(&self, lease: Lease, input: Bytes) -> Result<Finished, AttemptFailure> {
        self.equipment.gate.still(lease.workload)?;
        let loaded = {
            let mut state = self.state();
            state.uses += 1;
            let uses = state.uses;
            state.loaded.get_mut(&lease.workload).map(|(loaded, used)| {
                *used = uses;
                loaded.clone()
            })
        };
        let Some(loaded) = loaded else {
            let detail = "the workload had to make room for another on this device".to_owned();
            return Err(AttemptFailureKind::GivenBack.because(detail));
        };
        let mut items = split(&input, loaded.spec.manifest.scope, lease.input.records)
            .map_err(|detail| AttemptFailureKind::MalformedResult.because(detail))?;
        drop(input);
        let mut runner = match self.take(lease.workload) {
            Some(runner) => runner,
            None => self.start(&loaded.spec).await?.0,
        };
        let (inputs, records): (Vec<Digest>, Vec<u32>) =
            wiped::scrubbing(|| items.iter().map(|item| (Digest::of(&item.bytes), item.records)).unzip());
        // The runner's side wipes them as this side would have.
        let items = items.iter_mut().map(|item| std::mem::take(&mut *item.bytes)).collect();
        let begun = self.equipment.energy.begin();
        let mut run = Zeroizing::new(runner.run(items).await.map_err(failure_of_run)?);
        let energy = self.equipment.energy.end(&begun, run.cpu);
        let measured = Measured { meter: loaded.spec.manifest.meter, energy };
        let jail = runner.jail();
        self.keep(lease.workload, runner);
        if let Some(falsify) = &self.equipment.falsify {
            run.outcomes.iter_mut().for_each(|outcome| (falsify.0)(outcome));
        }
        // Hashing and encoding megabytes would hold up everything else on this thread.
        let sealed =
            tokio::task::spawn_blocking(move || wiped::scrubbing(|| seal(&inputs, &records, &run, jail, measured)));
        sealed
            .await
            .map_err(|error| AttemptFailureKind::RunnerDied.because(format!("sealing the result failed: {error}")))
    }

    /// Forgets a workload that may not run any more, with its idle runners. What runs is ended by whoever runs it.
    pub(crate) fn stop(&self, workload: Digest) {
        let mut state = self.state();
        state.loaded.remove(&workload);
        state.idle.retain(|idle| idle.workload != workload);
    }

    /// Ends runners that were idle for long. To be called more often than every half minute.
    pub(crate) fn sweep(&self) {
        self.equipment.energy.look();
        self.state().idle.retain(|idle| idle.runner.usable() && idle.since.elapsed() < IDLE_MAX);
    }

    async fn manifest(&self, workload: Digest) -> Result<Manifest, AttemptFailure> {
        let unavailable = |reason: String| {
            AttemptFailureKind::BlobUnavailable.because(format!("cannot fetch workload {}: {reason}", workload.short()))
        };
        self.equipment.client.connected().await;
        let bytes = self.equipment.client.manifest(workload).await.map_err(|error| unavailable(error.to_string()))?;
        let manifest = caii_wire::decode_manifest(&bytes).map_err(|error| unavailable(error.to_string()))?;
        if manifest.digest() != workload {
            return Err(unavailable("what the pool sends has another digest".into()));
        }
        Ok(manifest)
    }

    async fn start(&self, spec: &RunnerSpec) -> Result<(Runner, caii_sandbox::StartReport), AttemptFailure> {
        // No more processes than slots: an idle runner of another workload goes first.
        let surplus = {
            let mut state = self.state();
            (state.idle.len() >= self.equipment.slots).then(|| state.idle.remove(0))
        };
        drop(surplus);
        let started = Runner::start(spec.clone()).await;
        match &started {
            Ok((_, report)) => self.equipment.jails.started(&spec.manifest, report),
            Err(StartError::Jail { report, .. }) => self.equipment.jails.refused(&spec.manifest, report),
            Err(_) => {}
        }
        started.map_err(failure_of_start)
    }

    fn take(&self, workload: Digest) -> Option<Runner> {
        let mut state = self.state();
        // The one used last: its memory is the warmest.
        let place = state.idle.iter().rposition(|idle| idle.workload == workload && idle.runner.usable())?;
        Some(state.idle.remove(place).runner)
    }

    fn keep(&self, workload: Digest, runner: Runner) {
        if !runner.usable() {
            return;
        }
        let mut state = self.state();
        state.idle.push(Idle { workload, runner, since: Instant::now() });
        if state.idle.len() > self.equipment.slots {
            state.idle.remove(0);
        }
    }

    /// Forgets the workload that was used least recently and not by any task now. False: there is none.
    fn evict(&self, evicted: &mut Vec<Digest>) -> bool {
        let mut state = self.state();
        let unused = state.loaded.iter().filter(|(_, (loaded, _))| Arc::strong_count(loaded) == 1);
        let Some((&workload, _)) = unused.min_by_key(|(_, (_, used))| *used) else { return false };
        state.loaded.remove(&workload);
        state.idle.retain(|idle| idle.workload != workload);
        evicted.push(workload);
        true
    }

    /// Drops the oldest compiled programs while there are too many bytes of them. Runners keep what they have open.
    fn bound_images(&self) {
        if let Err(error) = bound(&self.equipment.images, IMAGES_MAX) {
            tracing::warn!(%error, "cannot drop old compiled programs");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under the lock can leave it half-done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The report and the encoded result of a finished task.
fn seal(inputs: &[Digest], records: &[u32], run: &TaskRun, jail: JailLayers, measured: Measured) -> Finished {
    let outcomes = &run.outcomes;
    let failed = || outcomes.iter().zip(records).filter(|(outcome, _)| outcome.result.is_err());
    let result = Wiped::new(caii_wire::encode_task_result(outcomes));
    let report = TaskReport {
        root: caii_trust::merkle::task_root(inputs.iter().copied().zip(outcomes)),
        result: Digest::of(&result),
        size: caii_model::Bytes(result.len() as u64),
        items: outcomes.len() as u32,
        items_failed: failed().count() as u32,
        records_failed: failed().map(|(_, records)| *records).sum(),
        fuel: caii_model::Fuel(outcomes.iter().fold(0, |sum, outcome| sum.saturating_add(outcome.fuel.0))),
        cpu: Millis(run.cpu.as_millis() as u64),
        wall: Millis(run.wall.as_millis() as u64),
        jail,
    };
    Finished { report, result: wiped::shared(result), measured }
}

fn failure_of_start(error: StartError) -> AttemptFailure {
    let kind = match &error {
        StartError::Cache { source, .. } if is_full(source) => AttemptFailureKind::DiskFull,
        StartError::Died { .. } => AttemptFailureKind::RunnerDied,
        _ => AttemptFailureKind::PreparationFailed,
    };
    kind.because(with_sources(&error))
}

fn failure_of_run(error: RunError) -> AttemptFailure {
    let kind = match &error {
        RunError::ItemTooSlow { .. } => AttemptFailureKind::ItemTooSlow,
        RunError::OutputTooLarge { .. } | RunError::ItemTooLarge { .. } => AttemptFailureKind::MalformedResult,
        RunError::Died { .. } | RunError::Protocol(_) | RunError::Unusable => AttemptFailureKind::RunnerDied,
    };
    kind.because(with_sources(&error))
}

/// An error and what caused it, in one line.
pub(crate) fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let more = source.to_string();
        // Some messages repeat their cause.
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = source.source();
    }
    text
}

/// Removes the oldest files of a directory while all together have more than `limit` bytes.
fn bound(dir: &Path, limit: u64) -> io::Result<()> {
    let mut files = Vec::new();
    for file in fs::read_dir(dir)? {
        let file = file?;
        let meta = file.metadata()?;
        if meta.is_file() && file.path().extension().is_some_and(|extension| extension == "image") {
            files.push((meta.modified()?, meta.len(), file.path()));
        }
    }
    files.sort();
    let mut total: u64 = files.iter().map(|(_, len, _)| len).sum();
    for (_, len, path) in files {
        if total <= limit {
            break;
        }
        // The entry that names an image without a file is made again when it is needed.
        fs::remove_file(path)?;
        total -= len;
    }
    Ok(())
}

pub(crate) trait Because {
    fn because(self, detail: String) -> AttemptFailure;
}

impl Because for AttemptFailureKind {
    fn because(self, detail: String) -> AttemptFailure {
        AttemptFailure { kind: self, detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use caii_model::{Fuel, ItemError, ItemOutcome, Scope};

    fn items(input: &str, scope: Scope, records: u32) -> Vec<(String, u32)> {
        let items = split(input.as_bytes(), scope, records).unwrap();
        items.into_iter().map(|item| (String::from_utf8(item.bytes.to_vec()).unwrap(), item.records)).collect()
    }

    #[test]
    fn inputs_are_split_by_scope() {
        let expect = |pairs: &[(&str, u32)]| pairs.iter().map(|(text, n)| ((*text).to_owned(), *n)).collect::<Vec<_>>();
        let input = "a\n\nc\r\n";
        assert_eq!(items(input, Scope::Item { records: 1 }, 3), expect(&[("a", 1), ("", 1), ("c\r", 1)]));
        assert_eq!(items(input, Scope::Item { records: 2 }, 3), expect(&[("a\n\n", 2), ("c\r\n", 1)]));
        assert_eq!(items(input, Scope::Task, 3), expect(&[("a\n\nc\r\n", 3)]));
    }

    #[test]
    fn an_input_that_is_not_what_the_lease_says_is_refused() {
        for (input, records) in [("a\nb\n", 3), ("a\nb", 2), ("", 1)] {
            assert!(split(input.as_bytes(), Scope::Task, records).is_err(), "{input:?}");
        }
    }

    #[test]
    fn a_report_counts_what_failed_and_names_its_result() {
        let outcome = |result| ItemOutcome { result, fuel: Fuel(7), stderr: b"e".to_vec() };
        let outcomes = vec![outcome(Ok(b"out".to_vec())), outcome(Err(ItemError::Exit(3)))];
        let (cpu, wall) = (Duration::from_millis(5), Duration::from_millis(9));
        let (run, jail) = (TaskRun { outcomes: outcomes.clone(), cpu, wall }, JailLayers(7));
        let inputs = [Digest::of(b"x\ny\n"), Digest::of(b"z\n")];
        let measured = Measured { meter: MeterId(Digest([4; 32])), energy: Energy::UNKNOWN };
        let finished = seal(&inputs, &[2, 1], &run, jail, measured);
        let report = finished.report;
        assert_eq!((report.items, report.items_failed, report.records_failed, report.fuel), (2, 1, 1, Fuel(14)));
        assert_eq!((report.cpu, report.wall, report.jail), (Millis(5), Millis(9), jail));
        assert_eq!(report.result, Digest::of(&finished.result));
        assert_eq!(caii_wire::decode_task_result(&finished.result).unwrap(), outcomes);
        assert_eq!(report.root, caii_trust::merkle::task_root(inputs.into_iter().zip(&outcomes)));
    }

    /// The first ends a job that no device could start; the second says nothing about the program.
    #[test]
    fn a_program_at_fault_is_told_from_a_runner_that_died() {
        let reason = "compiling it takes more than 33 s of CPU";
        let failure = failure_of_start(StartError::Program(reason.into()));
        assert_eq!(failure.kind, AttemptFailureKind::PreparationFailed);
        assert!(failure.detail.contains(reason), "{}", failure.detail);
        let died = StartError::Died { status: "signal: 9 (SIGKILL)".into(), stderr: String::new() };
        assert_eq!(failure_of_start(died).kind, AttemptFailureKind::RunnerDied);
    }

    #[test]
    fn old_images_are_dropped_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for (age, name) in ["a.image", "b.image", "b.entry"].iter().enumerate() {
            fs::write(path(name), [0; 100]).unwrap();
            let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(age as u64);
            fs::File::options().append(true).open(path(name)).unwrap().set_modified(time).unwrap();
        }
        bound(dir.path(), 150).unwrap();
        assert_eq!([path("a.image"), path("b.image"), path("b.entry")].map(|path| path.exists()), [false, true, true]);
    }
}
