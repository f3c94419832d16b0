//! Results are checked by other people's devices: cheats are caught, and what they falsified is not in the output.

mod support;

use serde_json::{Value, json};
use support::{World, guest};

/// What `wordcount` says of each line, from a run that nobody lied about.
fn expected(world: &mut World, input: &str) -> String {
    world.start_agent_of("owner", "reference");
    world.await_devices(1);
    let submit = ["--program", &guest("wordcount"), "--input", input, "--wait", "-o", "expected.jsonl"];
    world.ok(&[&["job", "submit"], &submit[..]].concat());
    world.stop_agent("reference");
    world.read("expected.jsonl")
}

fn texts(count: usize) -> String {
    (0..count).map(|n| format!("line {n} has {} and {}\n", "some words ".repeat(n % 7), n * n)).collect()
}

fn explained(world: &World, what: &str, id: &str) -> String {
    world.ok(&[what, "explain", id])
}

#[test]
fn a_cheat_is_caught_and_its_lies_are_not_in_the_output() {
    let mut world = World::new();
    world.write("in.txt", texts(240));
    let expected = expected(&mut world, "in.txt");
    world.start_cheat_of("mallory", "cheat", 300);
    for name in ["ann", "bob", "cid"] {
        world.start_agent_of(name, name);
    }
    world.until("all devices", |world| {
        let devices = world.json(&["device", "list"]);
        devices["data"].as_array().unwrap().iter().filter(|device| device["present"] == json!(true)).count() == 4
    });
    let submit = ["job", "submit", "--program", &guest("wordcount"), "--input", "in.txt", "--records-per-task", "20"];
    let submit = [&submit[..], &["--verify", "audit=30", "--wait", "-o", "out.jsonl"]].concat();
    let ended: Value = world.json(&submit);
    assert_eq!((&ended["state"], &ended["verification"]), (&json!("completed"), &json!("audit=30")), "{ended}");
    assert_eq!(world.read("out.jsonl"), expected, "the output has a lie");

    let (ok, log) = world.agent_end("cheat");
    assert!(!ok && log.contains("an audit found to be false"), "{log}");
    let devices = world.json(&["device", "list"]);
    let of = |owner: &str| {
        let found =
            devices["data"].as_array().unwrap().iter().find(|device| device["account"] == json!(owner)).unwrap();
        found["id"].as_str().unwrap().to_owned()
    };
    let told = explained(&world, "device", &of("mallory"));
    assert!(told.contains("It falsified item") && told.contains("it gets no more work"), "{told}");
    for honest in ["ann", "bob", "cid"] {
        let told = explained(&world, "device", &of(honest));
        assert!(!told.contains("falsified"), "{told}");
    }
    // It stays so over a restart of the pool.
    world.kill_pool();
    world.start_pool();
    let told = explained(&world, "device", &of("mallory"));
    assert!(told.contains("It falsified item"), "{told}");
}

#[test]
fn without_another_owner_the_pool_itself_decides() {
    let mut world = World::configured("audit_patience_seconds = 1\n");
    world.write("in.txt", texts(30));
    let expected = expected(&mut world, "in.txt");
    world.start_cheat_of("mallory", "cheat", 1_000);
    world.until("the cheat", |world| world.json(&["device", "list"])["data"].as_array().unwrap().len() == 2);
    let submit = ["job", "submit", "--program", &guest("wordcount"), "--input", "in.txt", "--verify", "audit=10"];
    let job = world.submit(&[&submit[2..], &["--records-per-task", "10"]].concat());
    let (ok, log) = world.agent_end("cheat");
    assert!(!ok && log.contains("an audit found to be false"), "{log}");
    // An honest device does the work again; the pool checks it, for there is still nobody else.
    world.start_agent_of("ann", "honest");
    let ended = world.await_job(&job);
    assert_eq!(ended["state"], json!("completed"), "{ended}");
    world.ok(&["job", "results", &job, "-o", "out.jsonl"]);
    assert_eq!(world.read("out.jsonl"), expected);
}

#[test]
fn a_quorum_outvotes_a_cheat() {
    let mut world = World::new();
    world.write("in.txt", texts(40));
    let expected = expected(&mut world, "in.txt");
    world.start_cheat_of("mallory", "cheat", 400);
    world.start_agent_of("ann", "ann");
    world.start_agent_of("bob", "bob");
    let submit = ["job", "submit", "--program", &guest("wordcount"), "--input", "in.txt", "--verify", "quorum=2"];
    let submit = [&submit[..], &["--records-per-task", "5", "--wait", "-o", "out.jsonl"]].concat();
    world.ok(&submit);
    assert_eq!(world.read("out.jsonl"), expected);
}

#[test]
fn how_results_are_checked_is_said_clearly_or_refused_clearly() {
    let world = World::new();
    world.write("in.txt", "x\n");
    for wrong in ["none", "quorum=1", "audit=0"] {
        let said = world.fails(&["job", "submit", "--program", "p", "--input", "in.txt", "--verify", wrong]);
        assert!(said.contains("audit=N") && said.contains("quorum=N"), "{said}");
    }
}
