//! A pool by a charter of three stewards: nothing runs before two of them certified it, and one of them can stop it.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod support;

use serde_json::json;
use std::time::{Duration, Instant};
use support::{World, children, guest};

/// Signs as a steward, offline.
fn certify(world: &World, name: &str, manifest: &str) -> String {
    let (key, out) = (format!("{name}.key"), format!("{manifest}.{name}.dsse"));
    let certify = ["workload", "certify", manifest, "--charter", "charter", "--key", &key, "--passphrase-file", "pass"];
    world.offline(&[&certify[..], &["--use", "embedding", "--tier", "t0", "--out", &out]].concat());
    out
}

/// The digest of the workload that a refusal is about.
fn refused_workload(said: &str) -> String {
    let rest = said.split("caii workload fetch ").nth(1).unwrap_or_else(|| panic!("{said}"));
    rest.split('`').next().unwrap().to_owned()
}

#[test]
fn two_of_three_certify_and_one_stops() {
    let mut world = World::with_charter();
    world.start_agent("device-0");
    world.await_devices(1);
    world.until_logged("device-0.log", "what may run here: only what 2 of alice, bob, carol certified");

    world.write("in.txt", "x\n");
    let spin = guest("contract-spin");
    let submit = ["job", "submit", "--program", &spin, "--input", "in.txt", "--fuel", "1000000000000000"];
    let submit = [&submit[..], &["--item-timeout", "10m"]].concat();
    let said = world.fails(&submit);
    assert!(said.contains("may not run in this pool: nobody certified it; 2 of 2 keys are missing"), "{said}");
    let workload = refused_workload(&said);
    assert_eq!(world.json(&["job", "list"])["data"], json!([]));

    // Each steward gets the manifest, looks and signs; the pool is told, in any order.
    world.ok(&["workload", "fetch", &workload, "-o", "spin.json"]);
    let inspected = world.offline(&["workload", "inspect", "spin.json", "--program", &spin]);
    assert!(inspected.contains(&workload), "{inspected}");
    let by_carol = certify(&world, "carol", "spin.json");
    let sent = world.ok(&["workload", "send", &by_carol]);
    assert!(sent.contains("carol (lab) certified it; 1 of 2 keys is missing"), "{sent}");
    // The same key again is no second one.
    world.ok(&["workload", "send", &by_carol]);
    let said = world.fails(&submit);
    assert!(said.contains("carol (lab) certified it; 1 of 2 keys is missing"), "{said}");
    let by_alice = certify(&world, "alice", "spin.json");
    assert!(world.ok(&["workload", "send", &by_alice]).contains("certified"));

    let job = world.submit(&submit[2..]);
    let runner = world.until_some("its runner", |world| children(world.agent_pid("device-0")).first().copied());
    world.until_logged("device-0.log", "certified by alice, carol");
    let trust = world.offline(&["agent", "trust", "--dir", "agent-device-0"]);
    assert!(
        trust.contains("only what 2 of alice, bob, carol certified; any of alice, bob, carol can stop it"),
        "{trust}"
    );
    assert!(trust.contains("Let in: contract-spin") && trust.contains("certified by alice, carol"), "{trust}");

    // Bob alone stops it, while it runs.
    let stop =
        ["workload", "revoke", &workload, "--charter", "charter", "--key", "bob.key", "--passphrase-file", "pass"];
    world.offline(&[&stop[..], &["--why", "it never ends", "--out", "stop.dsse"]].concat());
    let since = Instant::now();
    let sent = world.ok(&["workload", "send", "stop.dsse"]);
    assert!(sent.contains("revoked by bob: it never ends"), "{sent}");
    world.until_logged("device-0.log", "stopped contract-spin: this device refuses it: bob revoked the workload");
    world.until("the end of its runner", |_| !std::path::Path::new(&format!("/proc/{runner}")).exists());
    let took = since.elapsed();
    println!("from `caii workload send` to the end of the running program: {took:.1?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    let ended = world.await_job(&job);
    assert_eq!(
        (&ended["state"], &ended["errors"][0]["code"]),
        (&json!("failed"), &json!("workload_revoked")),
        "{ended}"
    );
    let said = world.fails(&submit);
    assert!(said.contains("bob revoked the workload") && said.contains("it never ends"), "{said}");
    // For ever, also after restarts of everything.
    assert!(world.stop_pool());
    world.pool_args_without_charter();
    world.start_pool();
    let said = world.fails(&submit);
    assert!(said.contains("bob revoked the workload"), "{said}");
    let trust = world.offline(&["agent", "trust", "--dir", "agent-device-0"]);
    assert!(trust.contains("Revoked: workload") && trust.contains("by bob"), "{trust}");
}

/// Two workloads run: one that carol's key was needed for, one that it was not.
#[test]
fn a_revoked_key_ends_what_it_was_needed_for() {
    let mut world = World::with_charter();
    world.start_agent_with("device-0", &[&world.ticket(), "--slots", "2"]);
    world.await_devices(1);
    world.write("in.txt", "x\n");
    let spin = guest("contract-spin");
    // Another argument is another workload.
    let submit = |name: &str| {
        let submit = ["job", "submit", "--program", &spin, "--arg", name, "--input", "in.txt", "--item-timeout", "10m"];
        [&submit[..], &["--fuel", "1000000000000000"]].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let certified = |name: &str, by: &[&str]| {
        let args = submit(name);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let workload = refused_workload(&world.fails(&args));
        let file = format!("{name}.json");
        world.ok(&["workload", "fetch", &workload, "-o", &file]);
        for steward in by {
            world.ok(&["workload", "send", &certify(&world, steward, &file)]);
        }
        (workload, world.submit(&args[2..]))
    };
    let (needed, ends) = certified("needed", &["alice", "carol"]);
    let (_, goes_on) = certified("spared", &["alice", "bob", "carol"]);
    let running = |world: &World, job: &str| world.json(&["job", "status", job])["tasks_leased"] == 1;
    world.until("both jobs to run", |world| running(world, &ends) && running(world, &goes_on));
    let status = world.json(&["workload", "status", &needed]);
    let names = json!([{ "name": "alice", "body": "lab" }, { "name": "carol", "body": "lab" }]);
    assert_eq!((&status["certified"], &status["signed"], &status["missing"]), (&json!(true), &names, &json!(0)));
    let said = world.ok(&["workload", "status", &needed]);
    assert!(said.contains("certified    by alice (lab), carol (lab); it takes 2"), "{said}");
    assert!(said.contains("for          embedding on public or synthetic data"), "{said}");

    let stop = ["workload", "revoke", "key:carol", "--charter", "charter", "--key", "bob.key", "--passphrase-file"];
    world.offline(&[&stop[..], &["pass", "--why", "stolen laptop", "--out", "stop.dsse"]].concat());
    world.ok(&["workload", "send", "stop.dsse"]);
    let ended = world.await_job(&ends);
    let error = &ended["errors"][0];
    assert_eq!((&ended["state"], &error["code"]), (&json!("failed"), &json!("workload_uncertified")), "{ended}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("alice (lab) certified it; 1 of 2 keys is missing"), "{message}");
    assert!(message.contains("carol: the key was revoked by bob on") && message.contains("stolen laptop"), "{message}");
    assert!(running(&world, &goes_on), "two other keys certify it");
    let status = world.json(&["workload", "status", &needed]);
    assert_eq!((&status["missing"], &status["code"]), (&json!(1), &json!("signatures-missing")), "{status}");
    assert!(status["not_counted"][0].as_str().unwrap().contains("carol: the key was revoked by bob"), "{status}");
    let said = world.ok(&["workload", "status", &needed]);
    assert!(said.contains("certified    no: alice (lab) certified it; 1 of 2 keys is missing"), "{said}");
    for (args, sentence) in [
        (&["--pin", "sha256:00"][..], "invalid value"),
        (&["--stale-ok"], "only --region goes with a digest"),
        (&["--memory", "9"], "only --region goes with a digest"),
    ] {
        let said = world.fails(&[&["workload", "status", &needed][..], args].concat());
        assert!(said.contains(sentence), "{said}");
    }
    let said = world.fails(&["workload", "status", &format!("sha256:{}", "0".repeat(64))]);
    assert!(said.contains("no workload"), "{said}");

    // Another steward takes carol's place, and it runs again, also in a pool that was restarted meanwhile. A device that
    // refused it asks its gate again after a minute, or when it is started.
    world.ok(&["workload", "send", &certify(&world, "bob", "needed.json")]);
    let args = submit("needed");
    let again = world.submit(&args[2..].iter().map(String::as_str).collect::<Vec<_>>());
    world.kill_pool();
    world.start_pool();
    world.kill_agent("device-0");
    world.start_agent_with("device-0", &[&world.ticket(), "--slots", "2"]);
    world.until("both jobs to run", |world| running(world, &again) && running(world, &goes_on));
}

#[test]
fn what_is_not_signed_by_a_steward_is_not_taken() {
    let world = World::with_charter();
    world.write("in.txt", "x\n");
    let said = world.fails(&["job", "submit", "--program", &guest("contract-echo"), "--input", "in.txt"]);
    let workload = refused_workload(&said);
    world.ok(&["workload", "fetch", &workload, "-o", "echo.json"]);
    let good = certify(&world, "alice", "echo.json");
    let text = world.read(&good);
    // A signature of somebody else under a steward's name, a damaged one, no envelope, an admin's word.
    world.write("damaged.dsse", text.replacen("\"sig\":\"", "\"sig\":\"AAAA", 1));
    let said = world.fails(&["workload", "send", "damaged.dsse"]);
    assert!(said.contains("no steward of the charter in force signed this"), "{said}");
    world.write("nothing.dsse", "{}");
    let said = world.fails(&["workload", "send", "nothing.dsse"]);
    assert!(said.contains("nothing.dsse"), "{said}");
    let said = world.fails(&["workload", "allow", &workload]);
    assert!(said.contains("Stewards certify in this pool"), "{said}");
    let said = world.fails(&["workload", "send", "missing.dsse"]);
    assert!(said.contains("missing.dsse"), "{said}");
    // Another charter is not put under a pool's devices.
    let (mut world, other) = (world, World::with_charter());
    assert!(world.stop_pool());
    world.pool_args_without_charter();
    let output = world.pool_command().arg("--charter").arg(other.path("charter")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("is another charter than the one that this pool's devices"),
        "{said}"
    );
}
