//! What users get wrong: each is told in a sentence, and the pool works on.

mod support;

use serde_json::{Value, json};
use std::path::Path;
use support::{Disk, World, caii, guest, model_dir};

fn request(custom_id: &str) -> String {
    let body = json!({ "model": "echo", "input": "x" });
    json!({ "custom_id": custom_id, "method": "POST", "url": "/v1/embeddings", "body": body }).to_string()
}

/// Checks that the pool still does what it is for.
#[track_caller]
fn works(world: &World) {
    world.write("fine.txt", "fine\n");
    let submit =
        ["job", "submit", "--program", &guest("contract-echo"), "--input", "fine.txt", "--wait", "-o", "fine.out"];
    world.ok(&submit);
    assert_eq!(world.read("fine.out"), "fine\n");
}

/// Submits a batch that must fail; what the user reads.
#[track_caller]
fn batch_fails(world: &World, content: &[u8]) -> String {
    world.write("bad.jsonl", content);
    let done = world.run(&["batch", "submit", "bad.jsonl", "--endpoint", "/v1/embeddings", "--wait", "-o", "bad.out"]);
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    assert!(!world.path("bad.out").exists());
    done.stderr
}

#[test]
fn bad_lines() {
    let world = World::with_devices(1);
    let nothing = world.fails(&["batch", "submit", &world.write("none.jsonl", request("a")), "--wait"]);
    assert!(
        nothing.contains("This pool has no model for '/v1/embeddings' yet; `caii model add` adds one"),
        "{nothing}"
    );
    world.add_echo_model("echo");

    let good = request("good");
    for (content, words) in [
        (String::new(), &["The input file is empty", "(empty_file)"][..]),
        ("\u{feff}\r\n\n".into(), &["The input file is empty"]),
        (format!("{good}\n{{\"custom_id\": \n{good}"), &["line 2: This line is not parseable as valid JSON"]),
        (format!("{good}\n[1, 2]\n"), &["line 2: This line is not a JSON object: a request looks like"]),
        (format!("{good}\n{good}\n"), &["line 2: The custom_id 'good' for this request is a duplicate"]),
        (
            good.replace("/v1/embeddings", "/v1/chat/completions"),
            &["line 1: The url is `/v1/chat/completions`, but the batch's endpoint is `/v1/embeddings`"],
        ),
        (good.replace("echo", "gpt-x"), &["line 1:", "gpt-x", "(model_not_found)"]),
        (good.replace("POST", "GET"), &["line 1: The method is `GET`; only `POST` is supported"]),
        (good.replace("custom_id", "id"), &["line 1: Missing required parameter: `custom_id`"]),
        (
            (0..50_001).map(|n| request(&n.to_string()) + "\n").collect(),
            &["The input has too many records; at most 50000 are allowed. Split the file. (too_many_requests)"],
        ),
        ("{\n".repeat(300), &["line 1: ", "line 100: "]),
    ] {
        let said = batch_fails(&world, content.as_bytes());
        for word in words {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
    let said = batch_fails(&world, b"\xff\xfe{\x00}\x00");
    assert!(said.contains("line 1: the line is not UTF-8 from its byte 1 on; convert the file to UTF-8"), "{said}");

    // BOM, CRLF, empty lines and no line end at the end are no mistakes.
    world.write("odd.jsonl", format!("\u{feff}{}\r\n\r\n{}", request("a"), request("b")));
    world.ok(&["batch", "submit", "odd.jsonl", "--wait", "-o", "odd.out"]);
    let ids: Vec<_> = world.lines("odd.out").iter().map(|line| line["custom_id"].clone()).collect();
    assert_eq!(ids, ["a", "b"]);

    let done = world.run(&["batch", "submit", &world.write("text.jsonl", "no JSON\n"), "--wait"]);
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("the first line of text.jsonl is no request with a `url`"), "{}", done.stderr);
    let done = world.run(&["batch", "submit", "missing.jsonl", "--wait"]);
    assert!(done.stderr.contains("cannot read missing.jsonl: No such file"), "{}", done.stderr);
    let done = world.run(&["batch", "submit", ".", "--endpoint", "/v1/embeddings"]);
    assert!(done.stderr.contains(". is not a file"), "{}", done.stderr);
    works(&world);
}

#[test]
fn a_line_of_100_megabytes() {
    let world = World::with_devices(1);
    world.add_echo_model("echo");
    let mut content = format!("{}\n", request("a")).into_bytes();
    content.resize(content.len() + 100_000_000, b'x');
    content.extend_from_slice(format!("\n{}\n", request("b")).as_bytes());
    let said = batch_fails(&world, &content);
    assert!(said.contains("line 2: the line has more than 1048576 bytes, the most that a record may have"), "{said}");
    world.write("long.txt", &content);
    let submit = ["job", "submit", "--program", &guest("wordcount"), "--input", "long.txt", "--wait"];
    let done = world.run(&submit);
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    assert!(done.stderr.contains("line 2: the line has more than 1048576 bytes"), "{}", done.stderr);
    content.resize(200_000_001, b'x');
    world.write("huge.jsonl", &content);
    let said = world.fails(&["batch", "submit", "huge.jsonl"]);
    assert!(said.contains("a batch's input may have at most 200.0 MB"), "{said}");
    let peak = std::fs::read_to_string(format!("/proc/{}/status", world.pool_pid())).unwrap();
    let peak = peak.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().to_owned();
    let kilobytes: u64 = peak.split(' ').next().unwrap().parse().unwrap();
    assert!(kilobytes < 150_000, "the pool took {peak}: it must not hold files in memory");
    works(&world);
}

#[test]
fn limits_of_the_operator_and_of_programs() {
    let mut world = World::configured("records_per_job_max = 10\ntasks_per_job_max = 4\njobs_open_max = 2\n");
    let many = |count: usize| "x\n".repeat(count);
    let program = guest("contract-echo");
    let mut submit = vec!["job", "submit", "--program", &program, "--input", "in.txt"];
    world.write("in.txt", many(11));
    let first = world.json(&submit)["id"].as_str().unwrap().to_owned();
    let job = world.await_job(&first);
    assert_eq!((&job["state"], &job["errors"][0]["code"]), (&json!("failed"), &json!("too_many_requests")));
    world.write("in.txt", many(10));
    submit.extend(["--records-per-task", "2"]);
    let job = world.await_job(&world.submit(&submit[2..]));
    assert_eq!(job["errors"][0]["message"], "The job would have more than 4 tasks; use more records per task.");
    submit[7] = "5";
    let open = [world.submit(&submit[2..]), world.submit(&submit[2..])];
    let said = world.fails(&submit);
    assert!(said.contains("too many open jobs") && said.contains("at most 2"), "{said}");
    world.start_agent("late");
    for job in open {
        assert_eq!(world.await_job(&job)["state"], "completed");
    }
    works(&world);

    world.write("pool.toml", "records_per_jobs_max = 10\n");
    world.stop_pool();
    let output = world.pool_command().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("records_per_jobs_max"), "{said}");
    assert!(said.contains("docs/config/pool.toml shows every setting"), "{said}");
}

#[test]
fn models_that_are_not_what_they_should_be() {
    let world = World::new();
    let model = model_dir();
    let weights = Path::new(&model).join("model.safetensors");
    let wrong = "1".repeat(64);
    let said = world.fails(&["model", "add", &model, "--sha256", &wrong]);
    assert!(said.contains("53aa51172d142c89"), "the digest found: {said}");
    assert!(said.contains(&wrong) && said.contains("was asked for"), "{said}");

    // A truncated download, with its digest known and without.
    let cut = world.path("cut");
    std::fs::create_dir(&cut).unwrap();
    for file in std::fs::read_dir(&model).unwrap().flatten().filter(|file| file.path().is_file()) {
        if file.path() != weights {
            std::fs::copy(file.path(), cut.join(file.file_name())).unwrap();
        }
    }
    let mut bytes = std::fs::read(&weights).unwrap();
    bytes.truncate(bytes.len() / 2);
    std::fs::write(cut.join("model.safetensors"), bytes).unwrap();
    let digest = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";
    let said = world.fails(&["model", "add", "cut", "--sha256", digest]);
    assert!(said.contains("truncated, changed or not the same file"), "{said}");
    let said = world.fails(&["model", "add", "cut"]);
    assert!(said.contains("model.safetensors"), "{said}");
    assert!(said.contains("truncated") || said.contains("ends") || said.contains("bytes"), "{said}");

    for (args, words) in [
        (&["no-such-dir"][..], "no-such-dir"),
        (&["http://127.0.0.1:1/model.onnx"], "has no digest: give --sha256"),
        (&["pypi:some-package"], "pins no version: write pypi:NAME==VERSION"),
        (&["ftp://example.org/x"], "only http:// and https:// URLs"),
        (&[model.as_str(), "--sha256", "xyz"], "--sha256"),
        (&[model.as_str(), "--guest", "no.wasm"], "no.wasm"),
        (&[model.as_str(), "--name", "a name"], "cannot be a model's name"),
    ] {
        let said = world.fails(&[&["model", "add"], args].concat());
        assert!(said.contains(words), "{args:?}: {said}");
    }
    assert_eq!(world.json(&["model", "list"])["data"], json!([]), "nothing was added");
}

#[test]
fn tickets_that_do_not_work() {
    let mut world = World::new();
    let create = |world: &World, args: &[&str]| {
        world.json(&[&["ticket", "create"], args].concat())["ticket"].as_str().unwrap().to_owned()
    };
    let once = create(&world, &["--uses", "1"]);
    let (revoked, short) = (create(&world, &[]), create(&world, &["--expires", "1s"]));
    let tickets = world.json(&["ticket", "list"]);
    let revoked_id = tickets["data"][1]["id"].as_str().unwrap().to_owned();
    world.ok(&["ticket", "revoke", &revoked_id]);
    world.start_agent_with("first", &[&once]);
    world.await_devices(1);

    let mut damaged = once.clone();
    let last = if damaged.pop() == Some('A') { 'B' } else { 'A' };
    damaged.push(last);
    let other_pool = World::new();
    let foreign = other_pool.ticket();
    let expires = world.json(&["ticket", "list"])["data"][0]["expires_ms"].as_u64().unwrap();
    world.until("the short ticket's end", |_| std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64 > expires);
    for (name, ticket, words) in [
        ("nonsense", "nonsense", "this is not a join ticket: one begins with `caii1-`"),
        (
            "later",
            &once.replace("caii1-", "caii7-"),
            "this join ticket is of version 7 and this release reads version 1",
        ),
        ("damaged", &damaged, "the join ticket was damaged on its way: copy it again"),
        ("cut", &once[..once.len() - 9], "the join ticket was damaged on its way"),
        ("used-up", &once, "has been used for 1 device(s), as many as it allows"),
        ("revoked", &revoked, "ask"),
        ("expired", &short, "expired"),
    ] {
        world.start_agent_with(name, &[ticket]);
        let (ok, said) = world.agent_end(name);
        assert!(!ok && said.contains(words), "{name}: {said}");
    }
    // A device that belongs to one pool is not taken to another by accident.
    assert!(world.stop_agent("first"));
    world.start_agent_with("first", &[&foreign]);
    let (ok, said) = world.agent_end("first");
    assert!(!ok && said.contains("use another --dir for the other pool"), "{said}");
    // Without a ticket a device that has joined goes on, and another does not.
    world.start_agent_with("first", &[]);
    world.await_devices(1);
    world.start_agent_with("nobody", &[]);
    let (ok, said) = world.agent_end("nobody");
    assert!(!ok && said.contains("belongs to no pool yet; run `caii agent run TICKET`"), "{said}");
    works(&world);
}

#[test]
fn two_of_what_there_can_be_one_of() {
    let mut world = World::with_devices(1);
    // A second pool in the directory.
    let output = world.pool_command().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("another `caii pool up` runs in"), "{said}");
    // Another pool at the address.
    let mut other = caii();
    other.args(["pool", "up", "--dir"]).arg(world.path("other"));
    other.args(["--listen", world.up["url"].as_str().unwrap().trim_start_matches("https://"), "--http", "127.0.0.1:0"]);
    let said = String::from_utf8_lossy(&other.output().unwrap().stderr).into_owned();
    assert!(said.contains("cannot listen on 127.0.0.1:"), "{said}");
    assert!(said.contains("another program may, so choose another address"), "{said}");
    // A second agent in the directory.
    let mut second = caii();
    second.args(["agent", "run", "--dir"]).arg(world.path("agent-device-0"));
    let output = second.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("another agent runs in"), "{said}");
    // A copy of the directory: the one that came later stays.
    std::fs::create_dir(world.path("agent-copy")).unwrap();
    for file in std::fs::read_dir(world.path("agent-device-0")).unwrap().flatten().filter(|file| file.path().is_file())
    {
        std::fs::copy(file.path(), world.path("agent-copy").join(file.file_name())).unwrap();
    }
    world.start_agent_with("copy", &["--slots", "1"]);
    let (ok, said) = world.agent_end("device-0");
    assert!(!ok && said.contains("another agent with this device's identity is connected to the pool"), "{said}");
    assert!(said.contains("give each agent a directory of its own"), "{said}");
    world.await_devices(1);
    works(&world);
}

#[test]
fn keys_and_addresses_that_lead_nowhere() {
    let mut world = World::new();
    let (http, https) = (world.http(), world.up["url"].as_str().unwrap().to_owned());
    let fingerprint = world.up["fingerprint"].as_str().unwrap().to_owned();
    let key = world.admin_key();
    let run = |args: &[&str]| {
        let output = caii().args(["job", "list"]).args(args).env("HOME", "/nonexistent").output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(run(&["--pool", &https, "--key", &key, "--fingerprint", &fingerprint]).0, Some(0));
    assert_eq!(run(&["--pool", &http, "--key", &key]).0, Some(0));
    let wrong = "0".repeat(64);
    for (args, code, words) in [
        (&["--pool", &http, "--key", "sk-caii-wrong"][..], 1, "Incorrect API key provided: it is unknown to this pool"),
        (&["--pool", "http://127.0.0.1:1", "--key", &key], 1, "cannot reach the pool at http://127.0.0.1:1"),
        (&["--pool", &https, "--key", &key], 1, "certificate"),
        (&["--pool", &https, "--key", &key, "--fingerprint", &wrong], 1, "certificate"),
        (&["--pool", &https, "--key", &key, "--fingerprint", "xyz"], 2, "--fingerprint"),
        (&["--pool", &http], 2, "--pool needs an API key too: give --key or set CAII_KEY"),
        (&[], 1, "no pool is named: give --pool and --key (or CAII_POOL and CAII_KEY)"),
        (&["--pool", "nonsense", "--key", &key], 1, "nonsense"),
    ] {
        let (status, said) = run(args);
        assert_eq!(status, Some(code), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
    // An agent waits for a pool that is not there.
    let ticket = world.ticket();
    world.kill_pool();
    world.start_agent_with("patient", &[&ticket, "--slots", "1"]);
    world.until_logged("patient.log", "cannot reach the pool (");
    world.start_pool();
    world.await_devices(1);
    works(&world);
}

#[test]
fn requests_that_are_no_requests() {
    let world = World::with_devices(1);
    world.add_echo_model("echo");
    let key = world.admin_key();
    let code = |answer: &Value| answer["error"]["code"].as_str().unwrap_or_default().to_owned();
    let large = format!("{{\"model\": \"echo\", \"input\": \"{}\"}}", "x".repeat(70_000));
    for (method, path, body, status, expected) in [
        ("GET", "/v1/nothing", "", 404, "unknown_url"),
        ("PUT", "/v1/models", "", 405, "method_not_supported"),
        ("POST", "/v1/embeddings", "{", 400, "invalid_json"),
        ("POST", "/v1/embeddings", "[]", 400, "invalid_json"),
        ("POST", "/v1/embeddings", "", 400, "invalid_json"),
        ("POST", "/v1/embeddings", large.as_str(), 413, "body_too_large"),
        ("POST", "/v1/files", "no form", 400, "invalid_multipart"),
        ("POST", "/v1/batches", "{}", 400, "missing_required_parameter"),
        ("GET", "/v1/batches?limit=1000", "", 400, "invalid_limit"),
        ("GET", "/v1/batches?limit=x", "", 400, "invalid_query"),
        ("GET", "/v1/files/..%2F..%2Fpool.key", "", 404, "file-unknown"),
        ("POST", "/caii/v1/workloads", "{\"name\": \"x\", \"program\": \"sha256:00\"}", 400, "invalid_digest"),
        ("POST", "/caii/v1/jobs", "{\"unknown\": 1}", 400, "invalid_request"),
        ("PUT", "/caii/v1/blobs/xyz", "abc", 400, "invalid_digest"),
        (
            "PUT",
            "/caii/v1/blobs/1111111111111111111111111111111111111111111111111111111111111111",
            "abc",
            400,
            "digest_mismatch",
        ),
    ] {
        let (found, answer) = world.http_json(method, path, &key, body.as_bytes());
        assert_eq!((found, code(&answer)), (status, expected.to_owned()), "{method} {path}: {answer}");
        assert!(answer["error"]["message"].as_str().is_some_and(|text| text.len() > 10), "{answer}");
    }
    // The agent protocol is not spoken in the clear.
    assert_eq!(world.http_json("POST", "/agent/v1/exchange", &key, b"").0, 404);
    let (status, answer) = world.http_json("GET", "/v1/models", "", b"");
    assert_eq!((status, code(&answer)), (401, "missing_api_key".into()));
    works(&world);
}

#[test]
fn a_full_disk_stops_nothing_for_good() {
    let mut world = World::on_disk(40);
    world.start_agent("device-0");
    world.await_devices(1);
    // A long job is under way when space runs out.
    let items: String = (0..40).map(|seed| format!("{}\n", slow(seed))).collect();
    world.write("slow.jsonl", items);
    let submit = ["--program", &guest("montecarlo"), "--input", "slow.jsonl", "--records-per-task", "1"];
    let job = world.submit(&submit);
    world.until("a first result", |world| world.json(&["job", "status", &job])["totals"]["records_ok"] != 0);
    world.pool_disk().fill();
    world.write("more.txt", vec![b'x'; 2_000_000]);
    let said = world.fails(&["job", "submit", "--program", &guest("wordcount"), "--input", "more.txt"]);
    assert!(said.contains("disk is full") || said.contains("cannot store anything"), "{said}");
    world.until_logged("pool.log", "full");
    world.pool_disk().free();
    let ended = world.await_job(&job);
    assert_eq!((&ended["state"], &ended["totals"]["records_ok"]), (&json!("completed"), &json!(40)), "{ended}");
    world.ok(&["job", "results", &job, "-o", "slow.out"]);
    let seeds: Vec<_> = world.lines("slow.out").iter().map(|line| line["samples"].clone()).collect();
    assert_eq!(seeds, (0..40).map(|seed| json!(200_000 + seed)).collect::<Vec<_>>(), "each once, in order");
    works(&world);
    // And what was accepted is there after a restart.
    assert!(world.stop_pool());
    world.start_pool();
    assert_eq!(world.json(&["job", "status", &job])["totals"]["records_ok"], 40);
    works(&world);
}

fn slow(seed: u64) -> Value {
    json!({ "simulation": "pi", "samples": 200_000 + seed, "seed": seed })
}

#[test]
fn a_device_without_space_gives_work_back_and_takes_it_again() {
    let mut world = World::new();
    std::fs::create_dir(world.path("small")).unwrap();
    let disk = Disk::new(&world.path("small"), 24);
    let ticket = world.ticket();
    world.start_agent_by(disk.enter(), "small", world.path("small/agent"), &[&ticket, "--slots", "1"]);
    world.await_devices(1);
    disk.fill();
    world.write("in.txt", "one\ntwo\n");
    world.write("data", vec![7; 3_000_000]);
    let submit = ["--program", &guest("contract-echo"), "--input", "in.txt", "--data", "d=data"];
    let job = world.submit(&submit);
    let explained = world.until_some("an explanation", |world| {
        let text = world.ok(&["job", "explain", &job]);
        text.contains("room").then_some(text)
    });
    assert!(explained.contains("had no room on disk"), "{explained}");
    world.until_logged("small.log", "the disk is full");
    disk.free();
    assert_eq!(world.await_job(&job)["state"], "completed");
    world.ok(&["job", "results", &job, "-o", "out"]);
    assert_eq!(world.read("out"), "one\ntwo\n");
}

/// The clock of a contributor's machine is not the pool's concern.
#[test]
fn clocks_that_are_an_hour_off() {
    let mut world = World::new();
    let library = ["x86_64", "aarch64"].map(|arch| format!("/usr/lib/{arch}-linux-gnu/faketime/libfaketime.so.1"));
    let library = library.into_iter().find(|path| Path::new(path).exists());
    let library = library.expect("libfaketime is there: scripts/setup.sh --tests installs it");
    let ticket = world.ticket();
    for (name, offset) in [("ahead", "+1h"), ("behind", "-1h")] {
        let mut command = caii();
        command.env("LD_PRELOAD", &library).env("FAKETIME", offset).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command.env("DONT_FAKE_MONOTONIC", "1").env("FAKETIME_NO_CACHE", "1");
        world.start_agent_by(command, name, world.path(name), &[&ticket, "--slots", "1"]);
    }
    world.await_devices(2);
    world.write("in.txt", "x\n".repeat(400));
    let submit = ["--program", &guest("contract-echo"), "--input", "in.txt", "--records-per-task", "10"];
    let job = world.await_job(&world.submit(&submit));
    assert_eq!((&job["state"], &job["totals"]["attempts_failed"]), (&json!("completed"), &json!(0)), "{job}");
    assert_eq!(job["totals"]["devices"], 2, "both took part");
}
