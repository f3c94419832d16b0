//! Processes that die at any instant: what was acknowledged stays, and every record is in the output exactly once.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod support;

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::{Random, World, children, guest, signal};

const KILLS: u32 = 24;
const RECORDS: u64 = 120;
const AGENTS: [&str; 2] = ["device-0", "device-1"];

/// An item that takes some tens of milliseconds.
fn slow(seed: u64) -> Value {
    json!({ "simulation": "pi", "samples": 300_000 + seed, "seed": seed })
}

fn submit_slow(world: &World, records: u64) -> String {
    let items: String = (0..records).map(|seed| format!("{}\n", slow(seed))).collect();
    world.write("slow.jsonl", items);
    world.submit(&["--program", &guest("montecarlo"), "--input", "slow.jsonl", "--records-per-task", "3"])
}

/// Checks that a job has each record once, in order.
#[track_caller]
fn check_output(world: &World, job: &str, records: u64) -> Value {
    let ended = world.await_job(job);
    assert_eq!(ended["state"], "completed", "{ended}");
    assert_eq!(ended["totals"]["records_ok"], records, "{ended}");
    world.ok(&["job", "results", job, "-o", "out.jsonl"]);
    let found: Vec<_> = world.lines("out.jsonl").iter().map(|line| line["samples"].as_u64().unwrap()).collect();
    assert_eq!(found, (0..records).map(|seed| 300_000 + seed).collect::<Vec<_>>());
    ended
}

/// Whether a process is there and more than a zombie.
fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn processes_killed_at_random_instants() {
    let mut world = World::with_devices(2);
    let mut random = Random::seeded();
    let mut kills = [0; 3];
    let mut back: Vec<Duration> = Vec::new();
    let (mut jobs, mut retries) = (0, 0);
    while kills.iter().sum::<u32>() < KILLS {
        let job = submit_slow(&world, RECORDS);
        jobs += 1;
        loop {
            std::thread::sleep(Duration::from_millis(random.below(1_200)));
            if world.json(&["job", "status", &job])["state"] == "completed" {
                break;
            }
            let victim = random.below(3) as usize;
            let agent = AGENTS[random.below(2) as usize];
            println!("{:?}: kill {}", Instant::now(), ["the coordinator", agent, "a runner"][victim]);
            match victim {
                0 => {
                    world.kill_pool();
                    world.start_pool();
                    let since = Instant::now();
                    world.await_devices(2);
                    back.push(since.elapsed());
                }
                1 => {
                    let runners = children(world.agent_pid(agent));
                    world.kill_agent(agent);
                    world.start_agent(agent);
                    world.until("the end of the dead agent's runners", |_| !runners.iter().any(|pid| alive(*pid)));
                }
                _ => match children(world.agent_pid(agent)).first() {
                    Some(runner) => signal(*runner, "KILL"),
                    None => continue,
                },
            }
            kills[victim] += 1;
        }
        retries += check_output(&world, &job, RECORDS)["totals"]["attempts_failed"].as_u64().unwrap();
    }
    let slowest = back.iter().max().copied().unwrap_or_default();
    println!(
        "{} kills (coordinator {}, agents {}, runners {}) in {jobs} jobs; {retries} attempts came to nothing; devices \
         were back {slowest:.1?} after the coordinator at the latest (of {})",
        kills.iter().sum::<u32>(),
        kills[0],
        kills[1],
        kills[2],
        back.len()
    );
    assert!(slowest < Duration::from_secs(10), "devices took {slowest:?} to come back");
}

/// The time from the end of a device that holds a task until another one holds it.
fn hand_over(world: &mut World, end: impl Fn(&mut World, &str)) -> Duration {
    world.write("long.txt", "x\n");
    let submit = ["--program", &guest("contract-spin"), "--input", "long.txt", "--fuel", "1000000000000"];
    let job = world.submit(&submit);
    let holds = |world: &World, name: &str| world.device(name)["tasks"] == json!([format!("{job}/0")]);
    let holder = world.until_some("a holder", |world| AGENTS.into_iter().find(|name| holds(world, name)));
    let other = AGENTS.into_iter().find(|name| *name != holder).unwrap();
    end(world, holder);
    let since = Instant::now();
    world.until("the other to take it", |world| holds(world, other));
    let took = since.elapsed();
    let explained = world.ok(&["job", "explain", &job]);
    assert!(explained.contains(holder), "the first attempt is told: {explained}");
    let runner = world.until_some("its runner", |world| children(world.agent_pid(other)).first().copied());
    world.ok(&["job", "cancel", &job]);
    world.await_job(&job);
    world.until("the cancelled task's end", |world| world.device(other)["tasks"] == json!([]));
    world.until("the cancelled task's runner to stop computing", |_| {
        let cpu = || {
            let stat = std::fs::read_to_string(format!("/proc/{runner}/stat")).unwrap_or_default();
            stat.rsplit(") ")
                .next()
                .unwrap_or_default()
                .split(' ')
                .skip(11)
                .take(2)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let before = cpu();
        std::thread::sleep(Duration::from_millis(100));
        before == cpu()
    });
    took
}

#[test]
fn work_of_a_dead_device_goes_to_another_within_15_seconds() {
    let mut world = World::with_devices(2);
    let killed = hand_over(&mut world, |world, holder| world.kill_agent(holder));
    println!("P11: {:.1} s from `kill -9` of an agent to its task on another device", killed.as_secs_f64());
    let (gone, here) = if world.device("device-0")["present"] == true { (1, 0) } else { (0, 1) };
    assert_eq!(world.device(AGENTS[here])["present"], true);
    world.start_agent(AGENTS[gone]);
    world.await_devices(2);
    // One that hangs, or whose cable is pulled: its connection does not break.
    let hung = hand_over(&mut world, |world, holder| signal(world.agent_pid(holder), "STOP"));
    println!("P11: {:.1} s from an agent's silence to its task on another device", hung.as_secs_f64());
    assert!(killed.max(hung) < Duration::from_secs(15), "{killed:?}, {hung:?}");
}

#[test]
fn a_pool_that_is_stopped_goes_on_where_it_was() {
    let mut world = World::with_devices(1);
    let job = submit_slow(&world, 60);
    let done = |world: &World| world.json(&["job", "status", &job])["totals"]["records_ok"].as_u64().unwrap();
    world.until("some results", |world| done(world) >= 6);
    let since = Instant::now();
    let before = done(&world);
    assert!(world.stop_pool(), "it ends well: {}", world.log("pool.log"));
    println!("the pool stopped in {:.1?}", since.elapsed());
    assert!(since.elapsed() < Duration::from_secs(10));
    world.start_pool();
    assert!(done(&world) >= before, "what was done stays done");
    world.await_devices(1);
    let ended = check_output(&world, &job, 60);
    assert_eq!(ended["totals"]["attempts_failed"], 0, "the device kept its task over the restart: {ended}");

    // An agent that is stopped gives back what it holds, and says so.
    let job = submit_slow(&world, 60);
    world.until("a task on the device", |world| world.device("device-0")["tasks"] != json!([]));
    let runners = children(world.agent_pid("device-0"));
    assert!(world.stop_agent("device-0"), "{}", world.log("device-0.log"));
    assert!(world.log("device-0.log").contains("stopped"), "{}", world.log("device-0.log"));
    world.until("the end of its runners", |_| !runners.iter().any(|pid| alive(*pid)));
    let explained = world.until_some("an explanation", |world| {
        let text = world.ok(&["job", "explain", &job]);
        text.contains("is connected").then_some(text)
    });
    assert!(explained.contains("None of the 1 enrolled devices is connected"), "{explained}");
    world.start_agent("device-0");
    check_output(&world, &job, 60);
}

#[test]
fn a_task_that_kills_every_runner_is_given_up() {
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        world.start_agent(name);
    }
    world.await_devices(3);
    world.write("in.txt", "x\nfine\n");
    // Longer than the limit on every device.
    let submit = ["--program", &guest("contract-spin"), "--input", "in.txt", "--item-timeout", "1s"];
    let job = world.await_job(&world.submit(&[&submit[..], &["--fuel", "900000000000"]].concat()));
    assert_eq!(job["state"], "completed", "{job}");
    assert_eq!(job["totals"]["records_failed"], 2, "{job}");
    world.ok(&["job", "results", job["id"].as_str().unwrap(), "-o", "out"]);
    let errors = world.lines("out.errors");
    assert_eq!((errors.len(), &errors[0]["error"]["code"]), (2, &json!("task_given_up")));
    let message = errors[0]["error"]["message"].as_str().unwrap();
    assert!(message.contains("ran longer than 1.0 s here"), "{message}");
    let explained = world.ok(&["job", "explain", job["id"].as_str().unwrap()]);
    assert!(explained.contains("given up"), "{explained}");
}
