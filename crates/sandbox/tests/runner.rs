//! Runner processes from outside: what an agent sees of them.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod device;
mod guests;

use caii_model::{Digest, Fuel, ItemError, Millis, TrapKind};
use caii_sandbox::{DeviceSecret, Priority, RunError, Runner, RunnerSpec, StartError};
use device::Device;
use guests::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

async fn refused(device: &Device) -> StartError {
    device.start().await.unwrap_err()
}

fn cached(device: &Device, extension: &str) -> PathBuf {
    let files = fs::read_dir(device.path("cache")).unwrap().map(|entry| entry.unwrap().path());
    let found: Vec<_> = files.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

fn items(items: &[&str]) -> Vec<Vec<u8>> {
    items.iter().map(|item| item.as_bytes().to_vec()).collect()
}

/// A line of `/proc/PID/status`, in kB.
fn memory(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}

/// Field 3 of `/proc/PID/stat`, or nothing when the process is gone.
fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(')')? + 2..].chars().next()
}

/// Waits until the process is in that state; tests have no other way to learn that a signal has done its work.
async fn until_state(pid: u32, wanted: impl Fn(Option<char>) -> bool) {
    for _ in 0..6_000 {
        if wanted(state(pid)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("process {pid} stays {:?}", state(pid));
}

/// Waits until one of the process's threads runs.
async fn until_busy(pid: u32) {
    for _ in 0..6_000 {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let states = threads.map(|thread| thread.unwrap().file_name().to_str().unwrap().parse().unwrap()).map(state);
        if states.into_iter().any(|state| state == Some('R')) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("process {pid} never runs");
}

fn gone(state: Option<char>) -> bool {
    matches!(state, None | Some('Z' | 'X'))
}

#[tokio::test]
async fn a_task_runs_and_a_second_runner_reuses_the_image() {
    let device = Device::new(&menu());
    let (mut runner, report) = Runner::start(device.spec()).await.unwrap();
    assert!(!report.cached);
    let task = items(&["ehello", "x5 why", "u", "", "b", "r", "g", "g"]);
    let run = runner.run(task.clone()).await.unwrap();
    let results: Vec<_> = run.outcomes.iter().map(|outcome| outcome.result.clone()).collect();
    assert_eq!(results[0], Ok(b"hello".to_vec()));
    assert_eq!(results[1], Err(ItemError::Exit(5)));
    assert_eq!(run.outcomes[1].stderr, b"5 why");
    assert_eq!(results[2], Err(ItemError::Trap(TrapKind::Unreachable)));
    assert_eq!(results[3], Ok(vec![]));
    assert_eq!(results[4], Ok(BLOB[2..].to_vec()));
    assert_eq!(results[6], results[7]);
    assert!(run.cpu > Duration::ZERO);
    // No items, and the same items again, in another order and another runner: the same bytes and the same fuel.
    assert_eq!(runner.run(vec![]).await.unwrap().outcomes, []);
    let (mut second, report) = Runner::start(device.spec()).await.unwrap();
    assert!(report.cached);
    assert_eq!(report.compile_cpu, Millis(0));
    let backwards: Vec<_> = task.into_iter().rev().collect();
    let again: Vec<_> = second.run(backwards).await.unwrap().outcomes.into_iter().rev().collect();
    assert_eq!(again, run.outcomes);
    let pid = runner.pid();
    runner.kill().await;
    assert!(gone(state(pid)));
}

#[tokio::test]
async fn the_initialiser_runs_once() {
    let device = Device::new(&initialised());
    let (mut first, made) = Runner::start(device.spec()).await.unwrap();
    assert!(!made.cached && made.init_fuel > Fuel(0));
    let (mut second, found) = Runner::start(device.spec()).await.unwrap();
    assert!(found.cached);
    assert_eq!(found.init_fuel, made.init_fuel);
    let (one, two) = (first.run(items(&["", ""])).await.unwrap(), second.run(items(&[""])).await.unwrap());
    assert_eq!(one.outcomes[0], one.outcomes[1]);
    assert_eq!(one.outcomes[0], two.outcomes[0]);
    assert_eq!(one.outcomes[0].result.as_ref().unwrap()[8..], *b"b blob of the workload");
}

/// Fuel bounds the initialiser; what it takes of the CPU is not the compiler's, neither while it runs nor when the
/// snapshot is compiled, which is large here so that the watch looks at it.
#[tokio::test]
async fn an_initialiser_may_take_longer_than_compiling() {
    let body = "(local $n i64)
        (drop (memory.grow (i32.const 1600)))
        (memory.fill (i32.const 262144) (i32.const 1) (i32.const 104857600))
        (loop $more (br_if $more
          (i64.ne (local.tee $n (i64.add (local.get $n) (i64.const 1))) (i64.const 24000000000))))";
    let mut device = Device::new(&with_initialiser(body));
    device.manifest.limits.fuel_init = Fuel(u64::MAX / 4);
    device.manifest.limits.memory = caii_model::Bytes::mebi(128);
    let limit = Millis(2_000);
    let (_, report) = Runner::start(RunnerSpec { compile_cpu_max: limit, ..device.spec() }).await.unwrap();
    assert!(report.compile_cpu.0 > 2 * limit.0, "{} in all prove nothing", report.compile_cpu);
}

#[tokio::test]
async fn runners_share_a_large_snapshot() {
    let mut device = Device::new(&large());
    device.manifest.limits.memory = caii_model::Bytes::mebi(80);
    for _ in 0..2 {
        let mut runner = device.start().await.unwrap();
        let sum: u64 = (262_144..67_371_008_u64).step_by(4).map(|at| at | 1).sum();
        let run = runner.run(items(&["", ""])).await.unwrap();
        assert_eq!(run.outcomes[1].result, Ok(sum.to_le_bytes().to_vec()));
        // The image is the file's pages, not memory of each process.
        let own = memory(runner.pid(), "RssAnon");
        assert!(own < 16 << 10, "{own} kB");
    }
}

#[tokio::test]
async fn many_large_items_pass_through_small_pipes() {
    let device = Device::new(&menu());
    let mut runner = device.start().await.unwrap();
    let task: Vec<Vec<u8>> = (0..40_u8).map(|n| [&b"e"[..], &vec![n; 700_000]].concat()).collect();
    let run = runner.run(task.clone()).await.unwrap();
    for (item, outcome) in task.iter().zip(&run.outcomes) {
        assert_eq!(outcome.result.as_deref(), Ok(&item[1..]));
    }
    // More small ones than any pipe holds.
    let task: Vec<Vec<u8>> = (0..3_000).map(|n| format!("e{n}").into_bytes()).collect();
    let run = runner.run(task.clone()).await.unwrap();
    assert!(task.iter().zip(&run.outcomes).all(|(item, outcome)| outcome.result.as_deref() == Ok(&item[1..])));
}

#[tokio::test]
async fn one_tasks_outputs_are_bounded_together() {
    let device = Device::new(&menu());
    let mut spec = device.spec();
    spec.output_per_task = caii_model::Bytes::mebi(2);
    let mut runner = Runner::start(spec).await.unwrap().0;
    let item = || [&b"e"[..], &vec![7; 1 << 20]].concat();
    assert_eq!(runner.run(vec![item(), item()]).await.unwrap().outcomes.len(), 2);
    let error = runner.run(vec![item(), item(), b"e!".to_vec()]).await.unwrap_err();
    assert!(matches!(error, RunError::OutputTooLarge { .. }), "{error}");
    assert!(matches!(runner.run(vec![]).await, Err(RunError::Unusable)));
    until_state(runner.pid(), gone).await;
}

#[tokio::test]
async fn floods_and_memory_bombs_fail_the_item_and_leave_the_runner_small() {
    let device = Device::new(&menu());
    let mut runner = device.start().await.unwrap();
    let run = runner.run(items(&["w", "m", "w", "l", "s", "eafter"])).await.unwrap();
    let results: Vec<_> = run.outcomes.iter().map(|outcome| outcome.result.clone()).collect();
    assert_eq!(results[0], Err(ItemError::OutputTooLarge));
    assert_eq!(results[1], Ok(244_u32.to_le_bytes().to_vec()));
    assert_eq!(results[3], Err(ItemError::FuelExhausted));
    assert_eq!(results[4], Err(ItemError::Trap(TrapKind::StackOverflow)));
    assert_eq!(results[5], Ok(b"after".to_vec()));
    let peak = memory(runner.pid(), "VmHWM");
    assert!(peak < 128 << 10, "{peak} kB");
}

#[tokio::test]
async fn a_slow_item_fails_the_attempt_and_names_itself() {
    let mut device = Device::new(&menu());
    device.manifest.limits.fuel_per_item = Fuel(u64::MAX / 4);
    device.manifest.limits.wall_per_item = Millis(1_000);
    let mut runner = device.start().await.unwrap();
    let error = runner.run(items(&["efirst", "esecond", "l", "enever"])).await.unwrap_err();
    assert!(matches!(error, RunError::ItemTooSlow { index: 2, limit: Millis(1_000) }), "{error}");
    until_state(runner.pid(), gone).await;
    assert!(!runner.usable());
}

/// A runner has the lowest priority: what its owner's programs take from it must not make its items the slow ones.
#[tokio::test]
async fn a_starved_runner_is_not_called_slow() {
    let mut device = Device::new(&menu());
    device.manifest.limits.fuel_per_item = Fuel(u64::MAX / 4);
    device.manifest.limits.wall_per_item = Millis(1_000);
    let (mut runner, _) = Runner::start(RunnerSpec { priority: Priority::Idle, ..device.spec() }).await.unwrap();
    let busy = Arc::new(AtomicBool::new(true));
    let cores = std::thread::available_parallelism().unwrap().get();
    let owners: Vec<_> = (0..2 * cores)
        .map(|_| {
            let busy = Arc::clone(&busy);
            std::thread::spawn(move || while busy.load(Ordering::Relaxed) {})
        })
        .collect();
    let mut task = std::pin::pin!(runner.run(items(&["l"])));
    let early = tokio::time::timeout(Duration::from_secs(3), &mut task).await;
    busy.store(false, Ordering::Relaxed);
    owners.into_iter().for_each(|owner| owner.join().unwrap());
    assert!(early.is_err(), "{early:?}");
    // Nor does it run for ever once it may.
    assert!(matches!(task.await, Err(RunError::ItemTooSlow { index: 0, limit: Millis(1_000) })));
}

#[tokio::test]
async fn a_frozen_runner_waits_without_being_called_slow() {
    let mut device = Device::new(&menu());
    device.manifest.limits.wall_per_item = Millis(1_500);
    let mut runner = device.start().await.unwrap();
    let control = runner.control();
    control.freeze().unwrap();
    until_state(control.pid(), |state| state == Some('T')).await;
    let mut task = std::pin::pin!(runner.run(items(&["ewarm"])));
    // Longer than the limit, all of it frozen.
    let early = tokio::time::timeout(Duration::from_millis(2_500), &mut task).await;
    assert!(early.is_err(), "{early:?}");
    control.thaw().unwrap();
    assert_eq!(task.await.unwrap().outcomes[0].result, Ok(b"warm".to_vec()));
}

#[tokio::test]
async fn a_killed_runner_is_reported_and_no_use_any_more() {
    let mut device = Device::new(&menu());
    device.manifest.limits.fuel_per_item = Fuel(u64::MAX / 4);
    let mut runner = device.start().await.unwrap();
    let control = runner.control();
    let killer = async {
        until_busy(control.pid()).await;
        control.kill().unwrap();
    };
    let (result, ()) = tokio::join!(runner.run(items(&["l"])), killer);
    match result {
        Err(RunError::Died { status, .. }) => assert!(status.contains("SIGKILL"), "{status}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(runner.run(items(&["e"])).await, Err(RunError::Unusable)));
    // Killing what is gone is no error, and reaches nobody else.
    control.kill().unwrap();
}

#[tokio::test]
async fn a_runner_killed_between_tasks_is_noticed() {
    let device = Device::new(&menu());
    let mut runner = device.start().await.unwrap();
    runner.control().kill().unwrap();
    until_state(runner.pid(), gone).await;
    assert!(matches!(runner.run(items(&["e"])).await, Err(RunError::Died { .. })));
}

#[tokio::test]
async fn a_dropped_task_kills_its_runner() {
    let mut device = Device::new(&menu());
    device.manifest.limits.fuel_per_item = Fuel(u64::MAX / 4);
    let mut runner = device.start().await.unwrap();
    let pid = runner.pid();
    let dropped = tokio::time::timeout(Duration::from_millis(100), runner.run(items(&["l"]))).await;
    assert!(dropped.is_err());
    until_state(pid, gone).await;
    assert!(matches!(runner.run(vec![]).await, Err(RunError::Unusable)));
    let other = device.start().await.unwrap();
    let pid = other.pid();
    drop(other);
    until_state(pid, gone).await;
}

#[tokio::test]
async fn bad_programs_are_refused_for_good() {
    let fault = |error: StartError| {
        assert!(error.is_programs_fault(), "{error}");
        error.to_string()
    };
    let text = r#"(import "env" "launch" (func)) (memory (export "memory") 1) (func (export "_start"))"#;
    assert!(fault(refused(&Device::new(&module(text))).await).contains("env.launch"));
    assert!(fault(refused(&Device::new(b"#!/bin/sh\n")).await).contains("not a WebAssembly module"));
    fault(refused(&Device::new(&menu()[..300])).await);
    let said = "(call $write (i32.const 2) (i32.const 32) (i32.const 4)) unreachable";
    let error = refused(&Device::new(&with_initialiser(said))).await;
    assert!(fault(error).contains("it said: blob"));
    let error = refused(&Device::new(&with_initialiser("(loop $ever (br $ever))"))).await;
    assert!(matches!(&error, StartError::Initialiser { error: ItemError::FuelExhausted, .. }), "{error}");
    let mut greedy = Device::new(&menu());
    greedy.manifest.limits.memory.0 = 100;
    fault(refused(&greedy).await);
    greedy.manifest.limits.memory.0 = 1 << 40;
    fault(refused(&greedy).await);
}

#[tokio::test]
async fn what_is_not_what_the_manifest_says_is_not_run() {
    let device_fault = |error: StartError, part: &str| {
        assert!(!error.is_programs_fault(), "{error}");
        assert!(error.to_string().contains(part), "{error}");
    };
    let device = Device::new(&menu());
    fs::write(device.path("program"), initialised()).unwrap();
    device_fault(refused(&device).await, "the program is sha256:");
    let device = Device::new(&menu());
    let mut blob = BLOB.to_vec();
    blob[0] ^= 1;
    fs::write(device.path("blob"), &blob).unwrap();
    device_fault(refused(&device).await, "/data/blob is sha256:");
    fs::write(device.path("blob"), &blob[1..]).unwrap();
    device_fault(refused(&device).await, "instead of");
    fs::remove_file(device.path("blob")).unwrap();
    device_fault(refused(&device).await, "cannot open");
    let mut device = Device::new(&menu());
    device.manifest.meter.0 = Digest::of(b"another meter");
    device_fault(refused(&device).await, "no meter");
    let device = Device::new(&menu());
    let with_command = |command: &str| RunnerSpec { command: command.into(), ..device.spec() };
    device_fault(Runner::start(with_command("/nonexistent")).await.unwrap_err(), "cannot start the runner");
    device_fault(Runner::start(with_command("/bin/true")).await.unwrap_err(), "the runner died while starting");
    // Runs `sh` with nothing to say but noise.
    let noise = RunnerSpec { args: vec!["-c".into(), "yes".into()], ..with_command("/bin/sh") };
    device_fault(Runner::start(noise).await.unwrap_err(), "does not speak the protocol");
    device_fault(
        Runner::start(RunnerSpec { cache_dir: "/proc/nowhere".into(), ..device.spec() }).await.unwrap_err(),
        "cannot use the cache",
    );
}

#[tokio::test]
async fn a_damaged_image_is_made_again() {
    let device = Device::new(&menu());
    drop(device.start().await.unwrap());
    let good = fs::read(cached(&device, "image")).unwrap();
    let flip = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 0x40;
        bytes
    };
    for damaged in [flip(&good, good.len() / 2), flip(&good, 0), good[..good.len() / 2].to_vec(), vec![]] {
        fs::write(cached(&device, "image"), damaged).unwrap();
        let (mut runner, report) = Runner::start(device.spec()).await.unwrap();
        assert!(!report.cached);
        assert_eq!(runner.run(items(&["eyes"])).await.unwrap().outcomes[0].result, Ok(b"yes".to_vec()));
        assert_eq!(fs::read(cached(&device, "image")).unwrap(), good);
    }
    let entry = fs::read_to_string(cached(&device, "entry")).unwrap();
    for damaged in [entry[..30].to_owned(), String::new(), entry.replace("sha256:", "sha256:0")] {
        fs::write(cached(&device, "entry"), damaged).unwrap();
        assert!(!Runner::start(device.spec()).await.unwrap().1.cached);
    }
    // What another device compiled is not run here, though it is whole.
    let other = RunnerSpec { device_secret: DeviceSecret::new([6; 32]), ..device.spec() };
    assert!(!Runner::start(other.clone()).await.unwrap().1.cached);
    assert!(Runner::start(other).await.unwrap().1.cached);
    assert!(!Runner::start(device.spec()).await.unwrap().1.cached);
    fs::remove_file(cached(&device, "image")).unwrap();
    assert!(!Runner::start(device.spec()).await.unwrap().1.cached);
    assert!(Runner::start(device.spec()).await.unwrap().1.cached);
}

#[tokio::test(flavor = "multi_thread")]
async fn runners_that_start_together_compile_once() {
    let device = Device::new(&initialised());
    let starts: Vec<_> = (0..4).map(|_| tokio::spawn(Runner::start(device.spec()))).collect();
    let mut made = 0;
    for start in starts {
        let (mut runner, report) = start.await.unwrap().unwrap();
        made += usize::from(!report.cached);
        assert!(runner.run(items(&[""])).await.unwrap().outcomes[0].result.is_ok());
    }
    assert_eq!(made, 1);
    let left: Vec<_> = fs::read_dir(device.path("cache")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[tokio::test]
async fn a_runner_has_nothing_of_its_agent() {
    let device = Device::new(&menu());
    let runner = device.start().await.unwrap();
    let proc = PathBuf::from(format!("/proc/{}", runner.pid()));
    if !rustix::process::geteuid().is_root() {
        // The runner is not dumpable: of all this, its own user sees nothing.
        for closed in ["environ", "mem", "maps", "cwd", "root", "fd"] {
            let error = fs::read(proc.join(closed)).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied, "{closed}");
        }
        return;
    }
    assert_eq!(fs::read(proc.join("environ")).unwrap(), b"");
    assert_eq!(fs::read_link(proc.join("cwd")).unwrap(), Path::new("/"));
    let mut open: Vec<(u32, String)> = fs::read_dir(proc.join("fd"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let number = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
            (number, fs::read_link(&path).unwrap().to_string_lossy().into_owned())
        })
        .collect();
    open.sort();
    let pipes = open.iter().filter(|(_, target)| target.starts_with("pipe:")).count();
    let others: Vec<_> = open.iter().filter(|(_, target)| !target.starts_with("pipe:")).collect();
    assert_eq!(pipes, 3, "{open:?}");
    for (_, target) in others {
        let expected = ["image", "blob", "caii-progress"];
        assert!(expected.iter().any(|name| target.contains(name)), "{open:?}");
    }
    let limits = fs::read_to_string(proc.join("limits")).unwrap();
    let limit =
        |name: &str| limits.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace().rev().nth(1);
    assert_eq!(limit("Max core file size"), Some("0"));
    assert_eq!(limit("Max file size"), Some("8"));
}

#[tokio::test]
async fn an_idle_runner_runs_at_the_lowest_priority() {
    let device = Device::new(&menu());
    drop(device.start().await.unwrap());
    let mut spec = device.spec();
    spec.priority = Priority::Idle;
    let runner = Runner::start(spec).await.unwrap().0;
    let stat = fs::read_to_string(format!("/proc/{}/task/{0}/stat", runner.pid())).unwrap();
    assert!(!stat.is_empty());
    let policies: Vec<u32> = fs::read_dir(format!("/proc/{}/task", runner.pid()))
        .unwrap()
        .map(|task| {
            let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
            // Field 41 of stat, counted after the name in parentheses: 5 is SCHED_IDLE.
            stat[stat.rfind(')').unwrap() + 2..].split(' ').nth(38).unwrap().parse().unwrap()
        })
        .collect();
    assert!(policies.contains(&5), "{policies:?}");
}
