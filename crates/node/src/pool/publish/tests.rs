//! The publisher over a real directory, killed between any two steps; over a disk that loses power; over one that fails.

#[path = "../../../../audit/tests/audit/sample.rs"]
#[expect(dead_code, reason = "the audit's own tests use more of it")]
mod sample;

use super::*;
use caii_audit::{FileError, Files, Logged, MemoryFiles, Options, Tiles, audit};
use caii_tlog::{earlier_tree, prove_consistency};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// A store in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Event>>>);

impl Log {
    fn of(events: &[Event]) -> Self {
        Self(Arc::new(Mutex::new(events.to_vec())))
    }

    fn push(&self, events: &[Event]) -> u64 {
        let mut log = self.0.lock().unwrap();
        log.extend_from_slice(events);
        log.len() as u64
    }
}

impl Rows for Log {
    fn rows(&mut self, from: u64, limit: usize) -> Result<Vec<Event>, RowsError> {
        Ok(self.0.lock().unwrap().iter().skip(from as usize).take(limit).cloned().collect())
    }
}

fn identity() -> Identity {
    Identity { pool: sample::pool_file(), log_key: sample::log_signer(), pool_key: sample::pool_key() }
}

const FAST: Pace = Pace { every: Duration::from_millis(1), edge_kept: Duration::ZERO, sweep_every: Duration::ZERO };

fn publishing<D: Disk>(log: &Log, disk: D, board: &Arc<Board>) -> Publishing<Log, D> {
    Publishing::new(log.clone(), disk, identity(), board.clone(), FAST)
}

fn spawn<D: Disk>(publishing: Publishing<Log, D>) -> JoinHandle<()> {
    std::thread::spawn(move || publishing.run())
}

/// Blocks until so many entries are shown.
fn await_shown(board: &Board, size: u64) {
    let mut watch = board.watch();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let shown = async {
        let reached = |shown: &Option<Arc<Shown>>| shown.as_ref().is_some_and(|shown| shown.tree.size >= size);
        watch.wait_for(reached).await.unwrap();
    };
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), shown).await.unwrap() });
}

/// Everything under `published`, with the files of payouts, which are handed over otherwise.
struct WithPayouts<'a, D: Disk>(&'a Directory<D>, &'a BTreeMap<String, Vec<u8>>);

impl<D: Disk> Files for WithPayouts<'_, D> {
    fn read(&self, path: &str) -> Result<Vec<u8>, FileError> {
        self.1.get(path).cloned().map_or_else(|| self.0.read(path), Ok)
    }
}

/// The audit of what is on the disk, with all of its words if it is not green.
fn audited<D: Disk>(disk: D, sample: &sample::Sample) -> Result<u64, String> {
    let dir = Directory(disk);
    let report = audit(&WithPayouts(&dir, &sample.payouts), &Options::default()).map_err(|error| error.to_string())?;
    if report.is_green() { Ok(report.tree.size) } else { Err(report.to_string()) }
}

#[test]
fn what_is_committed_is_published_and_old_edges_go() {
    let (sample, home) = (sample::small(), tempfile::tempdir().unwrap());
    let (log, board, disk) = (Log::default(), Board::new(), RealDisk(home.path().into()));
    let thread = spawn(publishing(&log, disk.clone(), &board));
    for events in sample.events.chunks(37) {
        let size = log.push(events);
        board.commit(size);
        await_shown(&board, size);
    }
    board.stop();
    thread.join().unwrap();
    let size = sample.events.len() as u64;
    assert_eq!(audited(disk.clone(), &sample), Ok(size));
    assert_eq!(board.trouble(), None);
    // A last look for what could still be swept, as at a start.
    let mut again = publishing(&log, disk.clone(), &board);
    again.take_up().unwrap();
    let mut left = again.dir.partial_files().unwrap();
    let mut expected = partial_files(size);
    left.sort();
    expected.sort();
    assert_eq!(left, expected);
    assert!(home.path().join(BEGUN).exists());
}

/// What every reader relies on: what was shown once is there for good, as the beginning of what is there now.
fn continues<D: Disk>(dir: &Directory<D>, shown: Option<&Shown>) -> Result<(), String> {
    let Some(shown) = shown else { return Ok(()) };
    let bytes = dir.read(CHECKPOINT).map_err(|error| error.to_string())?;
    let note = Note::parse(&bytes).map_err(|error| error.to_string())?;
    let now = Checkpoint::parse(note.text()).map_err(|error| error.to_string())?.tree;
    prove_consistency(&shown.tree, &now, &Tiles(dir)).map(drop).map_err(|error| describe(&error))
}

/// Where batches end in the runs below: beside the edges of bundles, and on them.
const ENDS: [u64; 6] = [1, 100, 255, 256, 300, 520];

/// Publishes all batches that are not published yet.
fn publish_all<D: Disk>(events: &[Event], publishing: &mut Publishing<Log, D>) -> Result<(), PublishingError> {
    let mut live = publishing.take_up()?;
    for end in ENDS.into_iter().chain([events.len() as u64]) {
        if let Some(some) = end.checked_sub(live.publisher.size()).filter(|some| *some > 0) {
            publishing.append(&mut live, some as usize)?;
            publishing.sweep(&mut live);
        }
    }
    Ok(())
}

/// A disk whose process is killed after so many steps, in the middle of the next one.
#[derive(Clone)]
struct Mortal<D> {
    disk: D,
    steps: Arc<AtomicUsize>,
    last: usize,
}

impl<D: Disk> Mortal<D> {
    fn new(disk: D, last: usize) -> Self {
        Self { disk, steps: Arc::default(), last }
    }

    fn step(&mut self, alive: impl FnOnce(&mut D) -> io::Result<()>, dying: impl FnOnce(&mut D)) -> io::Result<()> {
        let step = self.steps.fetch_add(1, Ordering::SeqCst);
        if step < self.last {
            return alive(&mut self.disk);
        }
        if step == self.last {
            dying(&mut self.disk);
        }
        Err(io::Error::other("killed"))
    }
}

impl<D: Disk> Disk for Mortal<D> {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        self.disk.read(path)
    }
    fn list(&self, path: &str) -> io::Result<Vec<(String, bool)>> {
        self.disk.list(path)
    }
    fn create(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let half = &bytes[..bytes.len() / 2];
        self.step(|disk| disk.create(path, bytes), |disk| disk.create(path, half).unwrap())
    }
    fn sync_file(&mut self, path: &str) -> io::Result<()> {
        self.step(|disk| disk.sync_file(path), |_| ())
    }
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.step(|disk| disk.rename(from, to), |_| ())
    }
    fn make_dir(&mut self, path: &str) -> io::Result<()> {
        self.step(|disk| disk.make_dir(path), |_| ())
    }
    fn sync_dir(&mut self, path: &str) -> io::Result<()> {
        self.step(|disk| disk.sync_dir(path), |_| ())
    }
    fn remove(&mut self, path: &str, dir: bool) -> io::Result<()> {
        self.step(|disk| disk.remove(path, dir), |_| ())
    }
}

/// Runs a publisher that dies after so many steps; whether it died, and what it had shown.
fn live_and_die<D: Disk + Clone>(events: &[Event], disk: D, last: usize) -> (bool, Option<Arc<Shown>>) {
    let (board, mortal) = (Board::new(), Mortal::new(disk, last));
    board.commit(events.len() as u64);
    let mut publishing = publishing(&Log::of(events), mortal.clone(), &board);
    // Removals that fail are no errors, so the count alone says whether it died.
    let _ = publish_all(events, &mut publishing);
    (mortal.steps.load(Ordering::SeqCst) > last, board.shown())
}

/// The next process: what was shown is still there, and the rest comes after it.
fn recover<D: Disk + Clone>(disk: D, sample: &sample::Sample, shown: Option<&Shown>) -> Result<(), String> {
    let board = Board::new();
    board.commit(sample.events.len() as u64);
    let mut publishing = publishing(&Log::of(&sample.events), disk.clone(), &board);
    publishing.take_up().map_err(|error| describe(&error))?;
    continues(&publishing.dir, shown)?;
    publish_all(&sample.events, &mut publishing).map_err(|error| describe(&error))?;
    continues(&publishing.dir, shown)?;
    let size = audited(disk, sample)?;
    if size == sample.events.len() as u64 { Ok(()) } else { Err(format!("{size} entries")) }
}

/// Two lives that end early, and one that publishes everything; whether the first one did end early.
fn three_lives<D: Disk + Clone>(sample: &sample::Sample, disk: D, last: usize) -> bool {
    let (died, shown) = live_and_die(&sample.events, disk.clone(), last);
    let (_, again) = live_and_die(&sample.events, disk.clone(), last % 17);
    continues(&Directory(disk.clone()), shown.as_deref()).unwrap();
    let recovered = recover(disk, sample, again.or(shown).as_deref());
    recovered.unwrap_or_else(|why| panic!("killed at step {last}: {why}"));
    died
}

#[test]
fn killed_between_any_two_steps_it_goes_on() {
    let sample = sample::small();
    let in_memory = |last: &usize| three_lives(&sample, power::Power::new(false, false), *last);
    let deaths = (0..).take_while(in_memory).count();
    let in_a_directory = |last: &usize| {
        let home = tempfile::tempdir().unwrap();
        three_lives(&sample, RealDisk(home.path().into()), *last)
    };
    let real = (0..).step_by(11).take_while(in_a_directory).count();
    println!("{deaths} places to be killed at, {real} of them in a real directory");
    assert!(deaths > 150 && real > 12, "{deaths} {real}");
}

mod power;

/// A disk that refuses to write for a while.
#[derive(Clone)]
struct Full {
    disk: RealDisk,
    full: Arc<AtomicBool>,
}

impl Full {
    fn check(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Disk for Full {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        self.disk.read(path)
    }
    fn list(&self, path: &str) -> io::Result<Vec<(String, bool)>> {
        self.disk.list(path)
    }
    fn create(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.check()?;
        self.disk.create(path, bytes)
    }
    fn sync_file(&mut self, path: &str) -> io::Result<()> {
        self.disk.sync_file(path)
    }
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn make_dir(&mut self, path: &str) -> io::Result<()> {
        self.disk.make_dir(path)
    }
    fn sync_dir(&mut self, path: &str) -> io::Result<()> {
        self.disk.sync_dir(path)
    }
    fn remove(&mut self, path: &str, dir: bool) -> io::Result<()> {
        self.disk.remove(path, dir)
    }
}

#[test]
fn a_full_disk_is_told_and_passes() {
    let (sample, home) = (sample::small(), tempfile::tempdir().unwrap());
    let disk = Full { disk: RealDisk(home.path().into()), full: Arc::default() };
    let (log, board) = (Log::default(), Board::new());
    let thread = spawn(publishing(&log, disk.clone(), &board));
    let (some, rest) = sample.events.split_at(300);
    board.commit(log.push(some));
    await_shown(&board, 300);
    disk.full.store(true, Ordering::SeqCst);
    board.commit(log.push(rest));
    let begun = Instant::now();
    while board.trouble().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::yield_now();
    }
    let told = board.trouble().unwrap();
    assert!(told.contains("cannot write published/.new: ") && told.contains("no storage space"), "{told}");
    assert_eq!(board.shown().unwrap().tree.size, 300);
    disk.full.store(false, Ordering::SeqCst);
    await_shown(&board, sample.events.len() as u64);
    board.stop();
    thread.join().unwrap();
    assert_eq!(board.trouble(), None);
    assert_eq!(audited(disk, &sample), Ok(sample.events.len() as u64));
}

/// A pool's directory with everything published.
fn published(events: &[Event]) -> (tempfile::TempDir, RealDisk) {
    let home = tempfile::tempdir().unwrap();
    let disk = RealDisk(home.path().into());
    let (died, _) = live_and_die(events, disk.clone(), usize::MAX);
    assert!(!died);
    (home, disk)
}

#[test]
fn what_contradicts_the_store_is_not_gone_on_with() {
    let events = sample::small().events;
    let (home, disk) = published(&events);
    let take_up = |events: &[Event]| {
        let board = Board::new();
        board.commit(events.len() as u64);
        publishing(&Log::of(events), disk.clone(), &board).take_up().map(|live| live.publisher.size())
    };
    assert_eq!(take_up(&events).unwrap(), events.len() as u64);

    let older = take_up(&events[..events.len() - 1]).unwrap_err();
    assert!(matches!(&older, PublishingError::Ahead { .. }) && older.is_contradiction(), "{older:?}");
    let mut other = events.clone();
    let last = other.len() - 1;
    other[last] = events[last - 1].clone();
    let other = take_up(&other).unwrap_err();
    assert!(matches!(&other, PublishingError::Other(index) if *index == last as u64), "{other:?}");
    assert!(other.is_contradiction());

    // A damaged file can be restored from a copy: the pool may go on meanwhile.
    let edge = home.path().join("published").join(partial_files(events.len() as u64).pop().unwrap());
    let good = std::fs::read(&edge).unwrap();
    std::fs::write(&edge, b"caiiops1").unwrap();
    let damaged = take_up(&events).unwrap_err();
    assert!(matches!(&damaged, PublishingError::TakeUp(_)) && !damaged.is_contradiction(), "{damaged:?}");
    std::fs::write(&edge, good).unwrap();
    take_up(&events).unwrap();

    std::fs::remove_dir_all(home.path().join("published")).unwrap();
    let gone = take_up(&events).unwrap_err();
    assert!(matches!(&gone, PublishingError::Gone) && !gone.is_contradiction(), "{gone:?}");
    assert!(gone.to_string().contains("restore `published` from a copy"));
}

/// A line as a witness sends it.
fn cosignature(shown: &Shown, seed: u8) -> Cosignature {
    let mut files = MemoryFiles([(CHECKPOINT.to_owned(), shown.checkpoint.to_string().into_bytes())].into());
    sample::cosign(&mut files, &[seed]);
    let cosigned = Note::parse(&files.0[CHECKPOINT]).unwrap();
    let line = cosigned.signatures().last().unwrap().clone();
    Cosignature { size: shown.tree.size, note: shown.checkpoint.clone(), line }
}

#[test]
fn cosignatures_come_to_the_checkpoint_that_they_are_for() {
    let (sample, home) = (sample::small(), tempfile::tempdir().unwrap());
    let (board, disk, policy) = (Board::new(), RealDisk(home.path().into()), sample::policy());
    let mut publishing = publishing(&Log::of(&sample.events), disk.clone(), &board);
    let mut live = publishing.take_up().unwrap();
    board.commit(300);
    publishing.append(&mut live, BATCH_MAX).unwrap();
    let first = board.shown().unwrap();
    let [one, two] = sample::WITNESSES;
    publishing.cosign(&mut live, vec![cosignature(&first, one)]).unwrap();
    assert!(policy.accept(&board.shown().unwrap().checkpoint).is_err(), "one of two");
    // The log grows before the other one has answered.
    board.commit(400);
    publishing.append(&mut live, BATCH_MAX).unwrap();
    publishing.cosign(&mut live, vec![cosignature(&first, two)]).unwrap();
    publishing.sweep(&mut live);
    let shown = board.shown().unwrap();
    assert!(policy.accept(&shown.checkpoint).is_err(), "nobody cosigned this one yet");
    let cosigned = shown.cosigned.clone().unwrap();
    assert_eq!(policy.accept(&cosigned).unwrap().checkpoint.tree, first.tree);
    // Whoever takes the cosigned one finds its files.
    let files = Directory(disk.clone());
    let mut edge = partial_files(300).into_iter().chain(partial_files(400));
    assert!(edge.all(|path| files.read(&path).is_ok()));
    assert_eq!(earlier_tree(300, 400, &Tiles(&files)), Ok(first.tree));

    // And so does the next process.
    board.commit(sample.events.len() as u64);
    let mut live = publishing.take_up().unwrap();
    assert_eq!(board.shown().unwrap(), shown);
    publishing.append(&mut live, BATCH_MAX).unwrap();
    let last = board.shown().unwrap();
    publishing.cosign(&mut live, vec![cosignature(&last, one), cosignature(&last, two)]).unwrap();
    publishing.sweep(&mut live);
    assert!(partial_files(300).iter().all(|path| files.read(path).is_err()), "nobody needs them now");
    let dir = Directory(disk);
    let options = Options { policy: Some(&policy), ..Options::default() };
    let report = audit(&WithPayouts(&dir, &sample.payouts), &options).unwrap();
    assert!(report.is_green() && report.cosigned == ["one", "two"], "{report}");
    assert_eq!(dir.read(COSIGNED).unwrap(), dir.read(CHECKPOINT).unwrap());
}

/// A checkpoint in the middle of a step would show a pool that left something out.
#[test]
fn a_step_is_published_whole() {
    let event = |at: u64| {
        let commitment = caii_model::Digest([0; 32]);
        Event::from(Logged::SecretCommitted { period: 1, commitment, at: caii_model::Timestamp(at) })
    };
    let whole = |times: &[u64]| whole_steps(&times.iter().copied().map(event).collect::<Vec<_>>());
    assert_eq!([whole(&[1, 2, 2]), whole(&[1, 1, 2]), whole(&[2, 2]), whole(&[])], [1, 2, 2, 0]);

    // Steps of one to seven entries.
    let events: Vec<Event> =
        (0..100).flat_map(|step| std::iter::repeat_n(event(step), step as usize % 7 + 1)).collect();
    let ends_step = |size: usize| events.get(size).map(|event| event.logged.at()) != Some(events[size - 1].logged.at());
    let home = tempfile::tempdir().unwrap();
    let (board, disk) = (Board::new(), RealDisk(home.path().into()));
    board.commit(events.len() as u64);
    let mut publishing = publishing(&Log::of(&events), disk, &board);
    let mut live = publishing.take_up().unwrap();
    let mut batches = 0;
    while live.publisher.size() < events.len() as u64 {
        publishing.append(&mut live, 10).unwrap();
        assert!(ends_step(live.publisher.size() as usize), "{}", live.publisher.size());
        // Wherever it ends, the next process finds its entries in the store.
        live = publishing.take_up().unwrap();
        batches += 1;
    }
    assert!(batches > events.len() / 10, "{batches}");
}

/// How long it takes from the commit to what everybody can read, and how much passes.
#[test]
fn receipts_are_published_within_a_second() {
    let home = tempfile::tempdir().unwrap();
    let (log, board, disk) = (Log::default(), Board::new(), RealDisk(home.path().into()));
    let publishing = Publishing::new(log.clone(), disk, identity(), board.clone(), Pace::POOL);
    let thread = spawn(publishing);
    let sample = sample::small().events;
    let receipt = sample.iter().rev().find(|event| matches!(event.logged, Logged::Receipt(_))).unwrap().clone();
    let head: Vec<Event> =
        sample.iter().take_while(|event| event.logged.at() <= receipt.logged.at()).cloned().collect();
    board.commit(log.push(&head));

    // Commits as a coordinator makes them, and the time of each.
    let committed: Arc<Mutex<BTreeMap<u64, Instant>>> = Arc::default();
    let mut watch = board.watch();
    let (known, first) = (committed.clone(), head.len() as u64);
    let last = first + 3_000;
    let readers = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut took = Vec::new();
        loop {
            let shown = watch.borrow_and_update().clone();
            let size = shown.map_or(0, |shown| shown.tree.size);
            let mut known = known.lock().unwrap();
            let waiting = known.split_off(&(size + 1));
            took.extend(std::mem::replace(&mut *known, waiting).into_values().map(|at| at.elapsed()));
            drop(known);
            if size == last {
                return took;
            }
            runtime.block_on(watch.changed()).unwrap();
        }
    });
    for size in (first + 1..=last).step_by(5).map(|size| size + 4) {
        let begun = Instant::now();
        log.push(&vec![receipt.clone(); 5]);
        committed.lock().unwrap().insert(size, Instant::now());
        board.commit(size);
        // A pool commits some hundred times a second.
        std::thread::sleep(Duration::from_millis(5).saturating_sub(begun.elapsed()));
    }
    let mut took = readers.join().unwrap();
    took.sort();
    let (p50, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    println!(
        "{} commits: published after {p50:?} (p50), {p99:?} (p99), {:?} at most",
        took.len(),
        took.last().unwrap()
    );
    assert_eq!(took.len(), 600);
    assert!(p99 < Duration::from_secs(1), "{p99:?}");

    // A backlog, as after a failure.
    let (begun, backlog) = (Instant::now(), 40_000);
    board.commit(log.push(&vec![receipt; backlog]));
    await_shown(&board, last + backlog as u64);
    println!("a backlog of {backlog}: {:.0} entries a second", backlog as f64 / begun.elapsed().as_secs_f64());
    board.stop();
    thread.join().unwrap();
}
