//! Nothing of a task stays with the agent that ran it: not in its memory, not in its runner's, not in its files.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod support;

use serde_json::json;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};
use support::{World, caii, children, guest};

/// The places in a process's writable memory that hold the marker.
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
        let count = bytes[..read].windows(marker.len()).filter(|window| *window == marker).count();
        if count > 0 {
            found.push(format!("{count} times in {line}"));
        }
    }
    found
}

fn in_files(directory: &Path, marker: &[u8]) -> Vec<String> {
    let mut found = vec![];
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(in_files(&path, marker));
        } else if fs::read(&path).unwrap().windows(marker.len()).any(|window| window == marker) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// Records that are full of a marker; the test itself is another process.
fn marked(round: u64, bytes: usize) -> (Vec<u8>, String) {
    let marker = format!("<marker {:016x}>", (round + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x00c0_ffee);
    let line = marker.repeat(10) + "\n";
    (marker.into_bytes(), line.repeat(bytes.div_ceil(line.len())))
}

fn submit(world: &World, input: String) -> String {
    world.write("in.txt", input);
    world.submit(&["--program", &guest("contract-echo"), "--input", "in.txt", "--records-per-task", "100000"])
}

/// Of a task that runs, the agent has the items: were they not found, the other test would prove nothing.
#[test]
fn the_search_finds_what_is_there() {
    let world = World::with_devices(1);
    let (marker, input) = marked(0, 2_000);
    world.write("in.txt", input);
    let spin = ["--program", &guest("contract-spin"), "--input", "in.txt", "--fuel", "1000000000000000"];
    let job = world.submit(&[&spin[..], &["--item-timeout", "10m"]].concat());
    let agent = world.agent_pid("device-0");
    world.until("an item in the agent's memory", |_| !in_memory(agent, &marker).is_empty());
    world.ok(&["job", "cancel", &job]);
    world.until("an agent that has let go of it", |_| in_memory(agent, &marker).is_empty());
}

#[test]
fn of_a_task_that_ended_the_agent_keeps_nothing() {
    let world = World::with_devices(1);
    let agent = world.agent_pid("device-0");
    // What travels inside the conversation, and what is fetched and stored apart from it.
    for (round, bytes) in [(0, 2_000), (1, 20_000), (2, 1_000_000), (3, 3_000), (4, 200_000)] {
        let (marker, input) = marked(round, bytes);
        let ended = world.await_job(&submit(&world, input));
        assert_eq!(ended["state"], "completed", "{ended}");
        world.until("the end of the conversation about it", |world| world.device("device-0")["tasks"] == json!([]));
        // The connection that it came through is let go with the next exchange.
        let since = Instant::now();
        loop {
            let mut found = in_memory(agent, &marker);
            found.extend(children(agent).into_iter().flat_map(|runner| in_memory(runner, &marker)));
            if found.is_empty() {
                break;
            }
            assert!(since.elapsed() < Duration::from_secs(20), "{bytes} bytes: {found:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        println!("{bytes} bytes: gone {:.1?} after the end", since.elapsed());
        assert_eq!(in_files(&world.path("agent-device-0"), &marker), Vec::<String>::new());
    }
}

#[test]
fn an_agent_killed_at_any_moment_leaves_no_file_with_anything_of_its_task() {
    let mut world = World::new();
    let temp = world.path("temp");
    fs::create_dir(&temp).unwrap();
    for round in 0..8 {
        let ticket = world.ticket();
        let mut command = caii();
        command.env("TMPDIR", &temp);
        world.start_agent_by(command, "device", world.path("agent-device"), &[&ticket, "--slots", "1"]);
        world.await_devices(1);
        let (marker, input) = marked(round, 1_000_000);
        let begun = Instant::now();
        let job = submit(&world, input);
        let spread = Duration::from_millis(round * 20);
        while begun.elapsed() < spread {
            std::hint::spin_loop();
        }
        world.kill_agent("device");
        for place in [&temp, &world.path("agent-device")] {
            assert_eq!(in_files(place, &marker), Vec::<String>::new(), "round {round}");
        }
        // It may have ended.
        world.run(&["job", "cancel", &job]);
    }
}
