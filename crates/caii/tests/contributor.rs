//! What a contributor chooses holds whatever stewards and the pool want, and can be seen: limits, and a weaker jail.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod support;

use serde_json::{Value, json};
use std::process::Command;
use support::{World, guest};

/// `caii` where nobody can make a user namespace, and whose root is not allowed to become nobody.
fn without_users() -> Command {
    let mut command = Command::new("unshare");
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    command.args(["--user", "--map-root-user", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_caii")]);
    command
}

fn start(world: &mut World, name: &str, args: &[&str]) {
    let (ticket, dir) = (world.ticket(), world.path(&format!("agent-{name}")));
    let args = [&[ticket.as_str(), "--slots", "1"], args].concat();
    world.start_agent_by(without_users(), name, dir, &args);
    world.await_devices(1);
}

fn trust(world: &World, name: &str) -> Value {
    serde_json::from_str(&world.offline(&["agent", "trust", "--dir", &format!("agent-{name}"), "--output", "json"]))
        .unwrap()
}

/// The layers in this state, as `agent trust` shows them.
fn layers(stage: &Value, state: &str) -> Vec<String> {
    let of_state = stage["layers"].as_array().unwrap().iter().filter(|layer| layer["state"] == state);
    of_state.map(|layer| layer["layer"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_weaker_jail_is_the_contributors_choice_and_is_told_to_everybody() {
    let mut world = World::new();
    world.write("in.txt", "x\n");
    let echo = guest("contract-echo");

    // Nothing runs by default, and what would help is said.
    start(&mut world, "weak", &[]);
    let job = world.submit(&["--program", &echo, "--input", "in.txt"]);
    world.until_logged("weak.log", "refused to start contract-echo: ");
    world.until_logged("weak.log", "this device run programs without them: --allow-weak-jail not-root,user-namespace");
    let refused = trust(&world, "weak")["jails"][0].clone();
    assert_eq!((&refused["name"], &refused["running"]), (&json!("contract-echo"), &Value::Null), "{refused}");
    assert_eq!(layers(&refused["refused"], "missing"), ["not-root", "user-namespace"], "{refused}");
    world.until("an explanation", |world| world.ok(&["job", "explain", &job]).contains("the jail's layers not-root ("));
    assert_eq!(world.json(&["job", "status", &job])["totals"]["tasks_settled"], 0);
    world.ok(&["job", "cancel", &job]);
    assert!(world.stop_agent("weak"));

    // One of the two is not enough; another layer neither.
    start(&mut world, "weak", &["--allow-weak-jail", "user-namespace,empty-root"]);
    let job = world.submit(&["--program", &echo, "--input", "in.txt"]);
    world.until_logged("weak.log", "programs without it: --allow-weak-jail not-root");
    world.ok(&["job", "cancel", &job]);
    assert!(world.stop_agent("weak"));

    start(&mut world, "weak", &["--allow-weak-jail", "not-root,user-namespace"]);
    let job = world.submit(&["--program", &echo, "--input", "in.txt"]);
    let ended = world.await_job(&job);
    assert_eq!(ended["state"], "completed", "{ended}");
    assert!(world.log("weak.log").contains("You let programs run without these layers of the jail: not-root, user-n"));
    let view = trust(&world, "weak");
    assert_eq!(view["choices"]["allow_weak_jail"], json!(["not-root", "user-namespace"]));
    let jail = &view["jails"][0];
    assert_eq!(jail["refused"], Value::Null, "{jail}");
    for stage in ["preparing", "running"] {
        assert_eq!(layers(&jail[stage], "allowed"), ["not-root", "user-namespace"], "{stage}: {jail}");
        let enforced = layers(&jail[stage], "enforced");
        assert!(enforced.contains(&"sealed".into()) && enforced.contains(&"empty-root".into()), "{stage}: {jail}");
        assert_eq!(layers(&jail[stage], "missing"), Vec::<String>::new());
    }
    let text = world.offline(&["agent", "trust", "--dir", "agent-weak"]);
    assert!(text.contains("When contract-echo was started on ") && text.contains("; you allow that)"), "{text}");

    // So is what the owner can hold against the pool, which checked the device's signature under its claim.
    let args = ["agent", "status", "--dir", "agent-weak"];
    let status: Value = serde_json::from_str(&world.offline(&[&args[..], &["--output", "json"]].concat())).unwrap();
    assert_eq!(status["device"], world.device_id("weak"), "{status}");
    assert!(status["claims_decided"].is_u64() && status["claims_forgotten"].is_null(), "{status}");
    assert!(["rapl", "tdp", "model"].map(Value::from).contains(&status["energy"]["method"]), "{status}");
    let text = world.offline(&args);
    assert!(text.contains(&format!("Claims decided: {}.", status["claims_decided"])), "{text}");

    // The pool was told with the result.
    let by = format!("without not-root, user-namespace, control-group: by {}", world.device_id("weak"));
    let said = world.ok(&["job", "explain", &job]);
    assert!(said.contains("1 results were computed in a jail of 15 of 18 layers, ") && said.contains(&by), "{said}");
    let said = world.ok(&["device", "explain", &world.device_id("weak")]);
    assert!(said.contains("The program of its last result, ") && said.contains(" 15 of 18 layers"), "{said}");
}

#[test]
fn limits_in_the_agents_file_refuse_what_asks_for_more_until_the_command_line_says_otherwise() {
    let mut world = World::new();
    world.write("in.txt", "x\n");
    std::fs::create_dir(world.path("agent-small")).unwrap();
    world.write("agent-small/agent.toml", "memory_max_mib = 511\n");
    let ticket = world.ticket();
    world.start_agent_with("small", &[&ticket, "--slots", "1"]);
    world.await_devices(1);
    world.until_logged("small.log", "You allow at most 511 MiB of memory.");
    let job = world.submit(&["--program", &guest("contract-echo"), "--input", "in.txt"]);
    let words = "limit of 511 MiB of memory is below the workload's 512 MiB";
    world.until_logged("small.log", &format!("this device refuses it: its owner's {words}"));
    world.until("an explanation", |world| world.ok(&["job", "explain", &job]).contains(words));
    let view = trust(&world, "small");
    assert_eq!(view["refused"][0]["why"], json!(format!("your {words}")), "{view}");
    assert_eq!((&view["certified"], &view["choices"]["memory_max_mib"]), (&json!([]), &json!(511)), "{view}");
    let text = world.offline(&["agent", "trust", "--dir", "agent-small"]);
    assert!(text.contains(&format!("your {words}.")) && text.contains("You allow at most 511 MiB"), "{text}");
    world.ok(&["job", "cancel", &job]);
    assert!(world.stop_agent("small"));

    world.start_agent_with("small", &["--memory-max", "512"]);
    world.await_devices(1);
    let job = world.submit(&["--program", &guest("contract-echo"), "--input", "in.txt"]);
    let ended = world.await_job(&job);
    assert_eq!(ended["state"], "completed", "{ended}");
    let view = trust(&world, "small");
    assert_eq!((&view["refused"], &view["choices"]["memory_max_mib"]), (&json!([]), &json!(512)), "{view}");
    assert!(world.stop_agent("small"));

    world.write("agent-small/agent.toml", "memory_max = 511\n");
    world.start_agent_with("small", &[]);
    let (well, said) = world.agent_end("small");
    assert!(!well && said.contains("agent.toml is not valid") && said.contains("memory_max"), "{said}");
}
