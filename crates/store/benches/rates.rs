//! How fast the embedded default keeps what a pool accepts: changes committed and small blobs put, each durable before
//! it is acknowledged. Prints medians of several runs, with a bare write and sync of the same disk beside them; then what
//! one million postings come to.
//!
//! `cargo bench -p caii-store`; `-- DIRECTORY` to measure another disk than that of the temporary directory.

mod ledger;

use caii_coordinator::Change;
use caii_model::*;
use caii_store::{Blobs, LocalBlobs, SqliteStore, Store};
use ledger::Bookkeeper;
use rustix::time::{ClockId, clock_gettime};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

const RUNS: usize = 5;
/// Of each run, whatever the number of commits.
const TASKS: u32 = 20_000;

fn main() {
    let directory = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let directory = directory.unwrap_or_else(|| std::env::temp_dir().display().to_string());
    let directory = tempfile::tempdir_in(directory).expect("the directory can be written");
    let sync = sync(directory.path());
    println!("write 16 KiB and fdatasync: {:.2} ms", sync.as_secs_f64() * 1e3);
    for tasks_per_commit in [100, 1_000] {
        commits(directory.path(), tasks_per_commit, sync, false);
        commits(directory.path(), tasks_per_commit, sync, true);
    }
    blobs(directory.path());
    ledger::million(directory.path());
}

fn sync(directory: &Path) -> Duration {
    let mut file = std::fs::File::create(directory.join("sync")).expect("a file can be made");
    let mut times: Vec<Duration> = (0..100)
        .map(|_| {
            let start = Instant::now();
            file.write_all(&[7; 16 << 10]).and_then(|()| file.sync_data()).expect("it can be written");
            start.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

fn commits(directory: &Path, tasks_per_commit: u32, sync: Duration, paid: bool) {
    let path = |run: usize| directory.join(format!("{tasks_per_commit}-{paid}-{run}.db"));
    let runs: Vec<_> = (0..RUNS).map(|run| commit_run(&path(run), tasks_per_commit, paid)).collect();
    let (wall, cpu) = (median(&runs, |run| run.wall), median(&runs, |run| run.cpu));
    let commits = f64::from(TASKS / tasks_per_commit);
    let with = if paid { " with receipts and payments" } else { "" };
    println!(
        "commits of {tasks_per_commit} settled tasks{with}: {:.0} tasks/s, {:.1} us of CPU a task, {:.2} ms a commit \
         ({:.2} ms beside one bare sync each)",
        f64::from(TASKS) / wall,
        cpu * 1e6 / f64::from(TASKS),
        wall * 1e3 / commits,
        (wall / commits - sync.as_secs_f64()) * 1e3,
    );
    println!("loading an open job of {TASKS} settled tasks{with}: {:.0} ms", median(&runs, |run| run.load) * 1e3);
}

struct Run {
    wall: f64,
    cpu: f64,
    load: f64,
}

fn commit_run(path: &Path, tasks_per_commit: u32, paid: bool) -> Run {
    let mut store = SqliteStore::open(path).expect("the store opens");
    let epoch = store.acquire().expect("nobody else has it");
    let job = JobId(1);
    let mut books = Bookkeeper::default();
    let mut begin = vec![submitted(job), prepared(job, TASKS)];
    if paid {
        begin.extend(books.open());
        begin.extend(books.reserve(job));
    }
    store.commit(epoch, &begin).expect("the job is committed");
    let of_task = |task| {
        let mut changes = vec![settled(job, task)];
        if paid {
            changes.extend(books.accept(job, task));
        }
        changes
    };
    let tasks: Vec<Vec<Change>> = (0..TASKS).map(of_task).collect();
    let tasks: Vec<Vec<Change>> = tasks.chunks(tasks_per_commit as usize).map(<[_]>::concat).collect();
    let (start, cpu) = (Instant::now(), cpu());
    for changes in tasks {
        store.commit(epoch, &changes).expect("the tasks are committed");
    }
    let (wall, cpu) = (start.elapsed().as_secs_f64(), self::cpu() - cpu);
    let start = Instant::now();
    let snapshot = store.load().expect("it loads");
    assert_eq!(snapshot.changes.len(), 2 + TASKS as usize + usize::from(paid));
    Run { wall, cpu, load: start.elapsed().as_secs_f64() }
}

fn blobs(directory: &Path) {
    let blobs = LocalBlobs::open(&directory.join("blobs")).expect("the blobs open");
    let mut seed = 0;
    for (threads, puts, group, len) in [
        (1, 50, 1, 4096),
        (16, 50, 1, 4096),
        (64, 50, 1, 4096),
        (1, 20, 64, 4096),
        (1, 20, 64, 256),
        (1, 20, 1, 1 << 20),
    ] {
        let runs: Vec<_> = (0..RUNS)
            .map(|_| {
                seed += 1;
                blob_run(&blobs, seed, threads, puts, group, len)
            })
            .collect();
        let count = (threads * puts * group) as f64;
        println!(
            "{threads} threads putting blobs of {len} bytes, {group} at a time: {:.0} blobs/s, {:.0} us of CPU a blob",
            count / median(&runs, |run| run.wall),
            median(&runs, |run| run.cpu) * 1e6 / count,
        );
    }
}

fn blob_run(blobs: &LocalBlobs, seed: u64, threads: usize, puts: usize, group: usize, len: usize) -> Run {
    let (start, cpu) = (Instant::now(), cpu());
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for put in 0..puts {
                    let contents: Vec<Vec<u8>> =
                        (0..group).map(|place| content([seed, thread as u64, put as u64, place as u64], len)).collect();
                    let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
                    blobs.put_all(&contents).expect("they are put");
                }
            });
        }
    });
    Run { wall: start.elapsed().as_secs_f64(), cpu: self::cpu() - cpu, load: 0.0 }
}

fn content(name: [u64; 4], len: usize) -> Vec<u8> {
    let mut bytes = vec![7; len];
    for (place, number) in bytes.chunks_exact_mut(8).zip(name) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

fn median(runs: &[Run], figure: impl Fn(&Run) -> f64) -> f64 {
    let mut figures: Vec<f64> = runs.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Seconds of CPU that this process has used.
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn submitted(job: JobId) -> Change {
    let spec = JobSpec {
        owner: Account::new("bench").expect("a valid name"),
        name: "rates".to_owned(),
        kind: JobKind::Program { format: InputFormat::Lines },
        workload: Digest([1; 32]),
        input: None,
        records_per_task: None,
        verification: Verification::Off,
        max_price: None,
        deadline: Timestamp(u64::MAX),
    };
    Change::JobSubmitted(job, spec, Timestamp(1))
}

fn prepared(job: JobId, tasks: u32) -> Change {
    let task = |index: u32| TaskInput {
        digest: Digest::of(&index.to_le_bytes()),
        offset: u64::from(index) * 1_000,
        len: 1_000,
        records: 10,
    };
    let size = Bytes(u64::from(tasks) * 1_000);
    let records = u64::from(tasks) * 10;
    let prepared = Prepared { blob: Digest([2; 32]), size, records, tasks: (0..tasks).map(task).collect() };
    Change::JobPrepared(job, prepared, Timestamp(2))
}

/// Tasks are settled in about their order, not exactly.
fn settled(job: JobId, index: u32) -> Change {
    let index = TaskIndex(index ^ 0x15);
    let report = TaskReport {
        root: Digest::of(&index.0.to_le_bytes()),
        result: Digest::of(&index.0.to_be_bytes()),
        size: Bytes(4_096),
        items: 10,
        items_failed: 0,
        records_failed: 0,
        fuel: Fuel(123_456_789),
        cpu: Millis(987),
        wall: Millis(1_234),
        jail: JailLayers::ALL,
    };
    let settled = Settled { device: DeviceId([index.0 as u8; 8]), report, at: Timestamp(1_700_000_000_000) };
    Change::TaskSettled(TaskId { job, index }, settled)
}
