//! Nothing of a task stays on a device: not in its files, not in its agent's memory, not in a warm runner, however the
//! task ends.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

#[expect(dead_code, reason = "other tests use the rest")]
mod guests;

use guests::*;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const ROUNDS: u64 = 30;

/// An agent process with a runner.
struct Agent {
    process: Child,
    said: BufReader<ChildStdout>,
    runner: u32,
}

impl Agent {
    /// With its working directory and its directory for temporary files inside the device's.
    fn start(device: &Path) -> Self {
        Self::start_with(device, &[])
    }

    fn start_with(device: &Path, args: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_caii-sandbox-runner"))
            .arg(format!("agent={}", device.display()))
            .args(args)
            .current_dir(device.join("work"))
            .env("TMPDIR", device.join("temp"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let runner = line.trim().strip_prefix("runner ").unwrap().parse().unwrap();
        Self { process, said, runner }
    }

    fn order(&mut self, item: &[u8]) {
        let mut stdin = self.process.stdin.as_ref().unwrap();
        stdin.write_all(&(item.len() as u32).to_le_bytes()).unwrap();
        stdin.write_all(item).unwrap();
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn device() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("program"), menu()).unwrap();
    fs::write(directory.path().join("blob"), BLOB).unwrap();
    for name in ["work", "temp"] {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    directory
}

fn kill(pid: u32) {
    // It may have ended by itself.
    let _ = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL);
}

/// Whether the process has ended within a minute; a zombie has no memory any more.
fn ends(pid: u32) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) if !stat[stat.rfind(')').unwrap()..].starts_with(") Z") => std::thread::yield_now(),
            _ => return true,
        }
    }
    false
}

/// Ticks of CPU that a process has used; nothing of one that has ended.
fn cpu(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    (fields[0] != "Z").then(|| fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap())
}

/// Whether a process goes on using the CPU, or ends.
fn burns_on(pid: u32) -> bool {
    let Some(before) = cpu(pid) else { return false };
    let begun = Instant::now();
    loop {
        match cpu(pid) {
            None => return false,
            // Beyond what a process does that is being killed.
            Some(now) if now > before + 20 => return true,
            Some(_) => assert!(begun.elapsed() < Duration::from_secs(60), "it neither runs nor ends"),
        }
        std::thread::yield_now();
    }
}

fn contains(bytes: &[u8], marker: &[u8]) -> bool {
    bytes.windows(marker.len()).any(|window| window == marker)
}

/// The writable memory of a process that holds the marker.
fn in_memory(pid: u32, marker: &[u8]) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut found = vec![];
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [start, end] = [start, end].map(|at| u64::from_str_radix(at, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        // A mapping may end before the last page of its file, or go away while the process runs.
        let read = memory.read_at(&mut bytes, start).unwrap_or(0);
        if contains(&bytes[..read], marker) {
            found.push(line.to_owned());
        }
    }
    found
}

/// The files below a directory that hold the marker.
fn in_files(directory: &Path, marker: &[u8]) -> Vec<String> {
    let mut found = vec![];
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(in_files(&path, marker));
        } else if contains(&fs::read(&path).unwrap(), marker) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// An item of a third of a mebibyte that is full of its round's marker; made so that no copy of the marker itself stays
/// in what the test gives away.
fn marked(order: u8, round: u64) -> (Vec<u8>, Vec<u8>) {
    let marker = format!("<marker {:016x}>", round.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x00c0_ffee).into_bytes();
    let item = std::iter::once(order).chain(marker.repeat(14_000)).collect();
    (marker, item)
}

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Were this to fail, the others would prove nothing.
#[test]
fn the_search_finds_what_is_there() {
    let device = device();
    let (marker, item) = marked(b'l', 0);
    let mut agent = Agent::start(device.path());
    agent.order(&item);
    let begun = Instant::now();
    // The agent keeps an item until its task has ended, and this one does not end.
    while in_memory(agent.process.id(), &marker).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the agent never had the item");
    }
    // Of a process that is not dumpable, only root sees the memory.
    while root() && in_memory(agent.runner, &marker).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the runner never had the item");
    }
    fs::write(device.path().join("temp/left"), &marker).unwrap();
    assert_eq!(in_files(device.path(), &marker).len(), 1);
}

#[test]
fn a_task_that_ended_leaves_nothing() {
    let device = device();
    let mut agent = Agent::start(device.path());
    for round in 0..5 {
        let (marker, item) = marked(b'e', round);
        agent.order(&item);
        assert_eq!(agent.answer(), "done");
        assert_eq!(in_memory(agent.process.id(), &marker), Vec::<String>::new(), "round {round}, agent");
        if root() {
            assert_eq!(in_memory(agent.runner, &marker), Vec::<String>::new(), "round {round}, runner");
        }
        assert_eq!(in_files(device.path(), &marker), Vec::<String>::new(), "round {round}");
    }
}

#[test]
fn a_runner_killed_at_any_moment_leaves_nothing() {
    let device = device();
    for round in 0..ROUNDS {
        let (marker, item) = marked(b'e', round);
        let mut agent = Agent::start(device.path());
        let spread = Duration::from_micros(round * 700);
        let begun = Instant::now();
        agent.order(&item);
        while begun.elapsed() < spread {
            std::hint::spin_loop();
        }
        kill(agent.runner);
        // What it was about to say, whichever it is.
        assert!(["done", "failed"].contains(&agent.answer().as_str()));
        assert!(ends(agent.runner));
        assert_eq!(in_memory(agent.process.id(), &marker), Vec::<String>::new(), "round {round}");
        assert_eq!(in_files(device.path(), &marker), Vec::<String>::new(), "round {round}");
    }
}

#[test]
fn an_agent_killed_at_any_moment_takes_its_runner_along_and_leaves_nothing() {
    let device = device();
    for round in 0..ROUNDS {
        // Every other one would never end by itself.
        let (marker, item) = marked(if round % 2 == 0 { b'e' } else { b'l' }, round);
        let mut agent = Agent::start(device.path());
        let spread = Duration::from_micros(round * 700);
        let begun = Instant::now();
        agent.order(&item);
        while begun.elapsed() < spread {
            std::hint::spin_loop();
        }
        kill(agent.process.id());
        assert!(ends(agent.runner), "round {round}");
        assert_eq!(in_files(device.path(), &marker), Vec::<String>::new(), "round {round}");
    }
}

/// What ends a runner whose agent was killed is this layer and nothing else.
#[test]
fn without_its_layer_a_runner_outlives_its_agent() {
    let device = device();
    for (args, outlives) in [(&[][..], false), (&["without=dies-with-agent"], true)] {
        let mut agent = Agent::start_with(device.path(), args);
        agent.order(&marked(b'l', 0).1);
        assert!(burns_on(agent.runner), "the program never ran");
        kill(agent.process.id());
        agent.process.wait().unwrap();
        let burns = burns_on(agent.runner);
        kill(agent.runner);
        assert_eq!(burns, outlives, "{args:?}");
    }
}
