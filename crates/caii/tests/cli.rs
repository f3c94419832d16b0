//! The commands around jobs, as scripts use them: JSON that parses, exit codes, and what people read.

mod support;

use serde_json::json;
use support::{World, guest};

#[test]
fn everything_has_json() {
    let world = World::with_devices(1);
    world.add_echo_model("echo");
    world.write("in.txt", "x\n");
    let program = guest("contract-echo");
    let job =
        world.json(&["job", "submit", "--program", &program, "--input", "in.txt"])["id"].as_str().unwrap().to_owned();
    world.await_job(&job);
    let device = world.device_id("device-0");
    world.write("text.txt", "a\n\nb\n");
    let requests = world.json(&["embeddings", "requests", "text.txt", "--model", "echo", "-o", "requests.jsonl"]);
    assert_eq!(requests, json!({ "requests": 2, "file": "requests.jsonl" }));
    let waited = world.json(&["batch", "submit", "requests.jsonl", "--wait", "-o", "results.jsonl"]);
    let batch = waited["batch_id"].as_str().unwrap().to_owned();
    assert_eq!((&waited["state"], &waited["totals"]["records"]), (&json!("completed"), &json!(2)));

    for (args, pointer, expected) in [
        (&["pool", "status"][..], "/devices_present", json!(1)),
        (&["model", "list"], "/data/0/name", json!("echo")),
        (&["job", "list"], "/data/1/id", json!(job)),
        (&["job", "status", &job], "/state", json!("completed")),
        (&["job", "explain", &job], "/id", json!(job)),
        (&["job", "results", &job, "-o", "out.txt"], "/id", json!(job)),
        (&["batch", "list"], "/data/0/batch_id", json!(batch)),
        (&["batch", "status", &batch], "/batch_id", json!(batch)),
        (&["batch", "results", &batch, "-o", "out.jsonl"], "/batch_id", json!(batch)),
        (&["device", "list"], "/data/0/name", json!("device-0")),
        (&["device", "explain", &device], "/id", json!(device)),
        (&["key", "list"], "/data/0/role", json!("admin")),
        (&["key", "create", "--account", "a"], "/account", json!("a")),
        (&["ticket", "list"], "/data/0/uses", json!(1)),
        (&["ticket", "create", "--account", "a"], "/account", json!("a")),
    ] {
        let value = world.json(args);
        assert_eq!(value.pointer(pointer), Some(&expected), "{args:?}: {value}");
        // People get something else, and something: what was asked for, or where it was written.
        let done = world.run(args);
        let text = if args.contains(&"-o") { done.stderr } else { done.stdout };
        assert!(done.code == Some(0) && !text.trim().is_empty() && !text.starts_with('{'), "{args:?}: {text}");
    }
    world.ok(&["model", "add", "--help"]);
    let removed = world.json(&["model", "remove", "echo"]);
    assert_eq!(removed["deleted"], true);
    assert_eq!(world.json(&["model", "list"])["data"], json!([]));

    // Errors too, on standard error.
    let done = world.run(&["job", "status", "job_99", "--output", "json"]);
    let error: serde_json::Value = serde_json::from_str(&done.stderr).unwrap();
    assert_eq!((done.code, &error["error"]["code"], done.stdout.as_str()), (Some(1), &json!("job-unknown"), ""));
}

#[test]
fn keys_and_accounts() {
    let world = World::with_devices(1);
    let create = |args: &[&str]| {
        let created = world.json(&[&["key", "create"], args].concat());
        (created["id"].as_str().unwrap().to_owned(), created["secret"].as_str().unwrap().to_owned())
    };
    let (alice_id, alice) = create(&["--account", "alice", "--name", "laptop"]);
    let (_, bob) = create(&["--account", "bob"]);
    let (_, admin) = create(&["--account", "ops", "--admin"]);
    assert!(alice.starts_with("sk-caii-") && alice.len() == 40, "{alice}");
    world.write("in.txt", "x\n");
    let program = guest("contract-echo");
    let submit = ["job", "submit", "--program", &program, "--input", "in.txt", "--wait", "-o", "out.txt"];
    // By the pool's own charter an admin decides what runs.
    let said = world.fails(&[&submit[..], &["--key", &alice]].concat());
    assert!(said.contains("may not run in this pool: nobody certified it; 1 of 1 keys is missing"), "{said}");
    let workload = said.split("caii workload allow ").nth(1).unwrap().split('`').next().unwrap();
    let denied = world.fails(&["workload", "allow", workload, "--key", &alice]);
    assert!(denied.contains("This needs an admin key"), "{denied}");
    assert!(world.ok(&["workload", "allow", workload]).contains("certified"));
    world.ok(&[&submit[..], &["--key", &alice]].concat());
    assert_eq!(world.json(&["job", "status", "job_1", "--key", &alice])["account"], "alice");
    assert_eq!(world.json(&["job", "list", "--key", &bob])["data"], json!([]));
    for args in [&["job", "status", "job_1"][..], &["job", "explain", "job_1"], &["job", "cancel", "job_1"]] {
        let said = world.fails(&[args, &["--key", &bob]].concat());
        assert!(said.contains("there is no job job_1 in your account"), "{args:?}: {said}");
    }
    assert_eq!(world.json(&["job", "list", "--key", &admin])["data"][0]["id"], "job_1", "admins see everything");
    for args in
        [&["key", "list"][..], &["ticket", "create"], &["key", "create", "--account", "x"], &["model", "remove", "x"]]
    {
        let said = world.fails(&[args, &["--key", &alice]].concat());
        assert!(said.contains("This needs an admin key"), "{args:?}: {said}");
    }
    let vetted = json!({ "name": "x", "program": format!("sha256:{}", "1".repeat(64)), "vetted": true }).to_string();
    assert_eq!(world.http_json("POST", "/caii/v1/workloads", &alice, vetted.as_bytes()).0, 403);

    world.ok(&["key", "revoke", &alice_id]);
    let said = world.fails(&["job", "list", "--key", &alice]);
    assert!(said.contains("unknown to this pool or was revoked"), "{said}");
    let keys = world.json(&["key", "list"]);
    let revoked = keys["data"].as_array().unwrap().iter().find(|key| key["id"] == *alice_id).unwrap();
    assert!(revoked["revoked_ms"].is_u64() && revoked["name"] == "laptop", "{revoked}");
    assert!(!keys.to_string().contains("sk-caii-"), "secrets are shown once");
    let said = world.fails(&["key", "revoke", "key_99"]);
    assert!(said.contains("there is no key key_99"), "{said}");
    // The last admin key stays.
    let admins: Vec<_> = keys["data"].as_array().unwrap().iter().filter(|key| key["role"] == "admin").collect();
    let ids: Vec<_> = admins.iter().map(|key| key["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 2);
    world.ok(&["key", "revoke", ids[1], "--key", &admin]);
    let said = world.fails(&["key", "revoke", ids[0], "--key", &admin]);
    assert!(said.contains("is the last admin key; create another one before you revoke it"), "{said}");
}

#[test]
fn jobs_explain_themselves_and_can_be_cancelled() {
    let mut world = World::new();
    world.write("in.txt", "x\n".repeat(30));
    let submit = ["--program", &guest("contract-spin"), "--input", "in.txt", "--fuel", "400000000000"];
    let job = world.submit(&submit);
    world.until("the split", |world| world.json(&["job", "status", &job])["state"] == "running");
    let said = world.ok(&["job", "explain", &job]);
    assert!(
        said.contains("No device has joined this pool yet: `caii agent run TICKET` on a machine joins it"),
        "{said}"
    );
    world.start_agent("device-0");
    world.await_devices(1);
    world.until("work", |world| world.device("device-0")["tasks"] != json!([]));
    let said = world.ok(&["job", "explain", &job]);
    assert!(said.contains("Devices connected: 1. Together they run 1 at a time"), "{said}");
    let said = world.ok(&["device", "explain", &world.device_id("device-0")]);
    assert!(said.contains("It is connected since") && said.contains("It holds"), "{said}");
    let said = world.ok(&["device", "list"]);
    assert!(said.contains("connected") && said.contains("tasks (job_1/"), "{said}");

    let done = world.run(&["job", "results", &job, "-o", "out.txt"]);
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("is still running; `caii job explain job_1` says why"), "{}", done.stderr);
    world.ok(&["job", "cancel", &job]);
    assert_eq!(world.await_job(&job)["state"], "cancelled");
    let done = world.run(&["job", "results", &job, "-o", "out.txt"]);
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    assert!(done.stderr.contains("job_1 cancelled"), "{}", done.stderr);
    assert_eq!(world.lines("out.errors.txt").len(), 30);
    let said = world.fails(&["job", "cancel", &job]);
    assert!(said.contains("job_1 has already ended (cancelled)"), "{said}");
    let said = world.ok(&["job", "explain", &job]);
    assert!(said.contains("It was cancelled"), "{said}");
    world.until("the device to be free", |world| world.device("device-0")["tasks"] == json!([]));

    // A deadline.
    let job = world.submit(&[&submit[..], &["--expires", "2s"]].concat());
    assert_eq!(world.await_job(&job)["state"], "expired");
    let done = world.run(&["job", "results", &job, "-o", "late.txt"]);
    assert_eq!((done.code, world.lines("late.errors.txt").len()), (Some(3), 30));
    assert_eq!(world.lines("late.errors.txt")[0]["error"]["code"], "expired");
}

#[test]
fn exit_codes() {
    let world = World::with_devices(1);
    let code = |args: &[&str]| world.run(args).code;
    assert_eq!(code(&["pool", "status"]), Some(0));
    assert_eq!(code(&["--version"]), Some(0));
    assert_eq!(code(&["no-such-verb"]), Some(2));
    assert_eq!(code(&["job", "submit"]), Some(2));
    assert_eq!(code(&["device", "explain", "nonsense"]), Some(1));
    assert_eq!(code(&["job", "status", "nonsense"]), Some(1));
    world.write("bad.jsonl", "{oops\n");
    let submit = ["job", "submit", "--program", &guest("wordcount"), "--input", "bad.jsonl"];
    assert_eq!(code(&submit), Some(0), "it is submitted");
    let waited = world.run(&[&submit[..], &["--wait"]].concat());
    assert_eq!(waited.code, Some(3), "{}", waited.stderr);
    assert!(waited.stderr.contains("line 1: This line is not parseable as valid JSON"), "{}", waited.stderr);
    // Results to standard output, talk elsewhere.
    world.write("in.txt", "one\ntwo\n");
    let submit = ["job", "submit", "--program", &guest("contract-echo"), "--input", "in.txt", "--wait", "-o", "-"];
    assert_eq!(world.ok(&submit), "one\ntwo\n");
    // Where nothing can be written, it says so.
    let submit =
        ["job", "submit", "--program", &guest("contract-echo"), "--input", "in.txt", "--wait", "-o", "no/dir/out"];
    let said = world.fails(&submit);
    assert!(said.contains("no/dir"), "{said}");
}
