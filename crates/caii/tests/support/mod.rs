//! Real processes for the end-to-end tests: a pool, agents, commands, in a directory of their own, ended with the test.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take before the test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Those of [`World::with_charter`].
pub(crate) const STEWARDS: [&str; 3] = ["alice", "bob", "carol"];

/// A pool of this test alone.
pub(crate) struct World {
    /// Everything is under here.
    pub(crate) dir: tempfile::TempDir,
    pool: Option<Child>,
    /// The https port, kept over restarts, so that agents find the pool again.
    port: u16,
    http_port: u16,
    /// What `caii pool up --output json` said.
    pub(crate) up: Value,
    agents: Vec<(String, Child)>,
    /// What the pool's command line has besides its directory and its addresses.
    pool_args: Vec<String>,
    /// The disk that the pool's directory is on, if it has one of its own.
    pool_disk: Option<Disk>,
}

/// What a command did.
pub(crate) struct Done {
    pub(crate) ok: bool,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    /// A new pool that is up.
    pub(crate) fn new() -> Self {
        let mut world = Self::down();
        world.start_pool();
        world
    }

    /// A pool with so many devices, `device-0` and on, of one slot each, all connected.
    pub(crate) fn with_devices(count: usize) -> Self {
        let mut world = Self::new();
        (0..count).for_each(|n| world.start_agent(&format!("device-{n}")));
        world.await_devices(count);
        world
    }

    /// A pool with these settings.
    pub(crate) fn configured(settings: &str) -> Self {
        Self::configured_by(|_| settings.to_owned())
    }

    /// A pool with settings that name what is made in the test's directory first.
    pub(crate) fn configured_by(settings: impl FnOnce(&Self) -> String) -> Self {
        let mut world = Self::down();
        let settings = settings(&world);
        world.configure(&settings);
        world.start_pool();
        world
    }

    /// From its next start on, the pool has these settings.
    pub(crate) fn configure(&mut self, settings: &str) {
        self.write("pool.toml", settings);
        self.pool_args = vec!["--config".into(), self.path("pool.toml").display().to_string()];
    }

    /// A pool by a charter of alice, bob and carol, of whom two certify; their keys and the charter lie in its directory.
    pub(crate) fn with_charter() -> Self {
        let mut world = Self::down();
        world.write("pass", "correct horse battery\n");
        for name in STEWARDS {
            world.offline(&["charter", "key", "create", name, "--passphrase-file", "pass"]);
        }
        let steward = |name: &str| ["--steward".to_owned(), format!("{name}@lab={name}.key")];
        let stewards: Vec<String> = STEWARDS.into_iter().flat_map(steward).collect();
        let stewards: Vec<&str> = stewards.iter().map(String::as_str).collect();
        let init = ["charter", "init", "--charter", "charter", "--name", "a test", "--threshold", "2"];
        world.offline(&[&init[..], &stewards].concat());
        for name in ["alice", "carol"] {
            let key = format!("{name}.key");
            world.offline(&["charter", "sign", "--charter", "charter", "--key", &key, "--passphrase-file", "pass"]);
        }
        world.pool_args = vec!["--charter".into(), world.path("charter").display().to_string()];
        world.start_pool();
        world
    }

    /// From now on the pool is started with what it has.
    pub(crate) fn pool_args_without_charter(&mut self) {
        self.pool_args.clear();
    }

    /// Runs a command that needs no pool and must succeed; its standard output.
    pub(crate) fn offline(&self, args: &[&str]) -> String {
        let done = done(caii().args(args).current_dir(self.dir.path()).output().unwrap());
        assert!(done.ok, "`caii {}` failed: {}", args.join(" "), done.stderr);
        done.stdout
    }

    /// A pool whose directory is on a disk of this size.
    pub(crate) fn on_disk(mebibytes: u32) -> Self {
        let mut world = Self::down();
        std::fs::create_dir(world.path("disk")).unwrap();
        world.pool_disk = Some(Disk::new(&world.path("disk"), mebibytes));
        world.start_pool();
        world
    }

    /// A pool that was never started.
    pub(crate) fn down() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            pool: None,
            port: free_port(),
            http_port: free_port(),
            up: Value::Null,
            agents: vec![],
            pool_args: vec![],
            pool_disk: None,
        }
    }

    /// The disk of the pool's directory.
    pub(crate) fn pool_disk(&self) -> &Disk {
        self.pool_disk.as_ref().unwrap()
    }

    /// The pool's directory as others see it.
    pub(crate) fn pool_dir(&self) -> PathBuf {
        self.pool_disk.as_ref().map_or_else(|| self.path("pool"), |disk| disk.seen().join("pool"))
    }

    /// The command that starts the pool.
    pub(crate) fn pool_command(&self) -> Command {
        let (mut command, dir) = match &self.pool_disk {
            None => (caii(), self.path("pool")),
            Some(disk) => (disk.enter(), self.path("disk/pool")),
        };
        command.args(["pool", "up", "--output", "json"]).args(&self.pool_args).arg("--dir").arg(dir);
        command.args(["--listen", &format!("127.0.0.1:{}", self.port)]);
        command.args(["--http", &format!("127.0.0.1:{}", self.http_port)]);
        command
    }

    /// Starts the pool (again).
    pub(crate) fn start_pool(&mut self) {
        let mut command = self.pool_command();
        let log = std::fs::File::options().create(true).append(true).open(self.path("pool.log")).unwrap();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let first = serde_json::Deserializer::from_reader(out).into_iter::<Value>().next();
        match first {
            Some(Ok(up)) => self.up = up,
            other => panic!("the pool did not start ({other:?}): {}", self.log("pool.log")),
        }
        self.pool = Some(child);
    }

    /// Ends the pool with SIGKILL.
    pub(crate) fn kill_pool(&mut self) {
        let mut pool = self.pool.take().unwrap();
        pool.kill().unwrap();
        pool.wait().unwrap();
    }

    /// The pool's process.
    pub(crate) fn pool_pid(&self) -> u32 {
        self.pool.as_ref().unwrap().id()
    }

    /// Ends the pool with SIGTERM and waits; true when it ended by itself and well.
    pub(crate) fn stop_pool(&mut self) -> bool {
        let mut pool = self.pool.take().unwrap();
        signal(pool.id(), "TERM");
        pool.wait().unwrap().success()
    }

    /// The join ticket that the pool printed.
    pub(crate) fn ticket(&self) -> String {
        self.up["ticket"].as_str().unwrap().to_owned()
    }

    /// The admin key that the pool printed.
    pub(crate) fn admin_key(&self) -> String {
        self.up["admin_key"].as_str().unwrap().to_owned()
    }

    /// The plain HTTP address for clients on this machine.
    pub(crate) fn http(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port)
    }

    /// Starts (again) the agent of this name, with the pool's ticket.
    pub(crate) fn start_agent(&mut self, name: &str) {
        let ticket = self.ticket();
        self.start_agent_with(name, &[&ticket, "--slots", "1"]);
    }

    /// The same with other arguments.
    pub(crate) fn start_agent_with(&mut self, name: &str, args: &[&str]) {
        self.start_agent_by(caii(), name, self.path(&format!("agent-{name}")), args);
    }

    /// The same by a command that runs `caii` in a way of its own.
    pub(crate) fn start_agent_by(&mut self, mut command: Command, name: &str, dir: PathBuf, args: &[&str]) {
        command.args(["agent", "run"]).args(args).args(["--name", name]).arg("--dir").arg(dir);
        let log = std::fs::File::options().create(true).append(true).open(self.path(&format!("{name}.log"))).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.agents.push((name.to_owned(), child));
    }

    /// Starts an agent of this account.
    pub(crate) fn start_agent_of(&mut self, account: &str, name: &str) {
        let ticket = self.ticket_of(account);
        self.start_agent_with(name, &[&ticket, "--slots", "1"]);
    }

    /// A join ticket for devices of this account.
    pub(crate) fn ticket_of(&self, account: &str) -> String {
        self.json(&["ticket", "create", "--account", account])["ticket"].as_str().unwrap().to_owned()
    }

    /// Starts an agent of this account that falsifies so many of a thousand results.
    pub(crate) fn start_cheat_of(&mut self, account: &str, name: &str, per_mille: u16) {
        let log = std::fs::File::options().create(true).append(true).open(self.path(&format!("{name}.log"))).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_caii-cheat"));
        command.arg(self.ticket_of(account)).arg(self.path(&format!("agent-{name}"))).arg(env!("CARGO_BIN_EXE_caii"));
        command.args([name, &per_mille.to_string()]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.agents.push((name.to_owned(), child));
    }

    /// The agent's process.
    pub(crate) fn agent_pid(&self, name: &str) -> u32 {
        self.agents.iter().find(|(n, _)| n == name).unwrap().1.id()
    }

    /// Ends an agent with SIGKILL.
    pub(crate) fn kill_agent(&mut self, name: &str) {
        let at = self.agents.iter().position(|(n, _)| n == name).unwrap();
        let (_, mut child) = self.agents.remove(at);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits for an agent to end by itself; its exit status and log.
    pub(crate) fn agent_end(&mut self, name: &str) -> (bool, String) {
        let at = self.agents.iter().position(|(n, _)| n == name).unwrap();
        let (_, mut child) = self.agents.remove(at);
        let since = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return (status.success(), self.log(&format!("{name}.log")));
            }
            assert!(since.elapsed() < PATIENCE, "agent {name} did not end: {}", self.log(&format!("{name}.log")));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends an agent with SIGTERM; true when it ended well.
    pub(crate) fn stop_agent(&mut self, name: &str) -> bool {
        signal(self.agent_pid(name), "TERM");
        self.agent_end(name).0
    }

    /// The id by which the pool knows the device of this name.
    pub(crate) fn device_id(&self, name: &str) -> String {
        self.device(name)["id"].as_str().unwrap().to_owned()
    }

    /// What the pool knows of the device of this name.
    pub(crate) fn device(&self, name: &str) -> Value {
        let devices = self.json(&["device", "list"]);
        let found = devices["data"].as_array().unwrap().iter().find(|device| device["name"] == name);
        found.unwrap_or_else(|| panic!("no device {name}: {devices}")).clone()
    }

    /// Waits until a job has ended; what it came to.
    pub(crate) fn await_job(&self, id: &str) -> Value {
        let mut view = Value::Null;
        self.until_some(&format!("the end of {id}"), |world| {
            view = world.json(&["job", "status", id]);
            ["completed", "failed", "cancelled", "expired"].contains(&view["state"].as_str().unwrap()).then_some(())
        });
        view
    }

    /// Submits a job without waiting; its id.
    pub(crate) fn submit(&self, args: &[&str]) -> String {
        let job = self.json(&[&["job", "submit"], args].concat());
        job["id"].as_str().unwrap().to_owned()
    }

    /// Waits until there is something; that.
    pub(crate) fn until_some<T>(&self, what: &str, mut find: impl FnMut(&Self) -> Option<T>) -> T {
        let since = Instant::now();
        loop {
            if let Some(found) = find(self) {
                return found;
            }
            assert!(since.elapsed() < PATIENCE, "waited in vain for {what}; pool: {}", self.log("pool.log"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until an agent's log says this.
    pub(crate) fn until_logged(&self, log: &str, what: &str) {
        let since = Instant::now();
        while !self.log(log).contains(what) {
            assert!(since.elapsed() < PATIENCE, "{log} does not say {what:?}: {}", self.log(log));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A request over the plain HTTP port; its status and answer.
    pub(crate) fn http_json(&self, method: &str, path: &str, key: &str, body: &[u8]) -> (u16, Value) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http_port)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: pool\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // The pool may answer and hang up before it has read everything.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{method} {path}: {answer:?}"));
        let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// Adds a model that answers every request with the request itself: for what is about requests and not answers.
    pub(crate) fn add_echo_model(&self, name: &str) {
        let program = std::fs::read(guest("contract-echo")).unwrap();
        let digest = sha256(&program);
        let post = |method: &str, path: &str, body: &[u8]| {
            let (status, answer) = self.http_json(method, path, &self.admin_key(), body);
            assert_eq!(status, 200, "{method} {path}: {answer}");
            answer
        };
        post("PUT", &format!("/caii/v1/blobs/{digest}"), &program);
        let workload = json!({ "name": name, "program": format!("sha256:{digest}") });
        let workload = post("POST", "/caii/v1/workloads", workload.to_string().as_bytes());
        let model = json!({
            "name": name, "workload": workload["digest"], "endpoint": "/v1/embeddings", "dimensions": 3, "tokens_max": 9
        });
        post("POST", "/caii/v1/models", model.to_string().as_bytes());
    }

    /// Waits until so many devices are connected.
    pub(crate) fn await_devices(&self, count: usize) {
        self.until(&format!("{count} devices"), |world| {
            let devices = world.json(&["device", "list"]);
            let present = devices["data"].as_array().unwrap().iter().filter(|d| d["present"] == true).count();
            present == count
        });
    }

    /// Waits until something holds.
    pub(crate) fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let since = Instant::now();
        while !holds(self) {
            assert!(since.elapsed() < PATIENCE, "waited in vain for {what}; pool: {}", self.log("pool.log"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Runs a command against the pool.
    pub(crate) fn run(&self, args: &[&str]) -> Done {
        let output = caii().args(args).arg("--pool-dir").arg(self.pool_dir()).current_dir(self.dir.path()).output();
        done(output.unwrap())
    }

    /// Runs a command that must succeed; its standard output.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert!(done.ok, "`caii {}` failed: {}\npool: {}", args.join(" "), done.stderr, self.log("pool.log"));
        done.stdout
    }

    /// Runs a command that must fail; its standard error.
    pub(crate) fn fails(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert!(!done.ok, "`caii {}` succeeded: {}", args.join(" "), done.stdout);
        done.stderr
    }

    /// Runs a command with `--output json`; what it printed.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.extend(["--output", "json"]);
        let text = self.ok(&all);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("`caii {}`: {error}: {text}", args.join(" ")))
    }

    /// A path in the test's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file in the test's directory; its name.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), content).unwrap();
        name.to_owned()
    }

    /// Reads a file of the test's directory.
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The lines of a JSONL file of the test's directory.
    pub(crate) fn lines(&self, name: &str) -> Vec<Value> {
        self.read(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// A process's log so far.
    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for (_, mut child) in self.agents.drain(..) {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(mut pool) = self.pool.take() {
            let _ = pool.kill();
            let _ = pool.wait();
        }
        // Whatever a test did, what its pool published holds for everybody.
        let published = self.pool_dir().join("published");
        if !std::thread::panicking() && published.join("checkpoint").exists() {
            let audited = done(caii().arg("audit").arg(&published).output().unwrap());
            assert!(audited.ok, "{}{}", audited.stdout, audited.stderr);
        }
    }
}

/// A small disk of its own, which can be filled: a tmpfs that only the processes started through it see under its path.
pub(crate) struct Disk {
    at: PathBuf,
    /// Keeps the mount namespace.
    holder: Child,
}

impl Disk {
    /// An empty disk in place of this directory.
    pub(crate) fn new(at: &Path, mebibytes: u32) -> Self {
        let mut command = Command::new("unshare");
        command.arg("--mount");
        if !is_root() {
            command.arg("--map-root-user");
        }
        let script = "mount -t tmpfs -o size=$1m none \"$2\" && echo mounted && exec sleep 900";
        command.args(["sh", "-c", script, "sh", &mebibytes.to_string()]).arg(at);
        let mut holder = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "mounted\n", "this test needs to mount a tmpfs in a namespace of its own");
        Self { at: at.to_owned(), holder }
    }

    /// A command that runs `caii` where the disk is.
    pub(crate) fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--wdns=/", "--target", &self.holder.id().to_string()]);
        if !is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg(env!("CARGO_BIN_EXE_caii"));
        clean(&mut command);
        command
    }

    /// Where processes outside find the disk.
    pub(crate) fn seen(&self) -> PathBuf {
        Path::new("/proc").join(self.holder.id().to_string()).join("root").join(self.at.strip_prefix("/").unwrap())
    }

    /// Uses up all space that is left.
    pub(crate) fn fill(&self) {
        let mut filler = std::fs::File::options().create(true).append(true).open(self.seen().join("filler")).unwrap();
        let mut piece = vec![0; 1 << 16];
        while !piece.is_empty() {
            if filler.write_all(&piece).is_err() {
                piece.truncate(piece.len() / 2);
            }
        }
    }

    /// Gives the space back.
    pub(crate) fn free(&self) {
        std::fs::remove_file(self.seen().join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().unwrap().stdout == b"0\n"
}

/// Random numbers that a seed repeats (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    /// Seeded by `CAII_SEED`, or by the clock; says which.
    pub(crate) fn seeded() -> Self {
        let clock = || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        let seed = std::env::var("CAII_SEED").map_or_else(|_| clock(), |seed| seed.parse().unwrap());
        println!("CAII_SEED={seed} repeats the random choices");
        Self(seed)
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below this one.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// The binary under test, away from whatever pool the user has.
pub(crate) fn caii() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_caii"));
    clean(&mut command);
    command
}

fn clean(command: &mut Command) {
    for name in ["CAII_POOL", "CAII_KEY", "CAII_FINGERPRINT", "CAII_POOL_DIR", "CAII_AGENT_DIR"] {
        command.env_remove(name);
    }
    command.env("CAII_GUESTS", repo().join("build/guests"));
}

/// Runs one of the project's scripts to its end; what it printed.
pub(crate) fn script(name: &str, args: &[&str]) -> String {
    let output = Command::new(repo().join(name)).args(args).current_dir(repo()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The directory of the model that the tests share, fetched on first use.
pub(crate) fn model_dir() -> String {
    script("scripts/fetch-model.sh", &[]).trim().to_owned()
}

/// The digest of these bytes, in hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The repository.
pub(crate) fn repo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A guest that `scripts/build-guests.sh` built.
pub(crate) fn guest(name: &str) -> String {
    let path = repo().join("build/guests").join(format!("{name}.wasm"));
    assert!(path.is_file(), "{} is missing: run `make guests`", path.display());
    path.display().to_string()
}

/// Sends a signal to a process.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

/// Sends a signal to a process group; one that is gone is no error.
pub(crate) fn signal_group(group: u32, name: &str) {
    let status =
        Command::new("kill").args([&format!("-{name}"), "--", &format!("-{group}")]).stderr(Stdio::null()).status();
    status.expect("kill is there");
}

/// The processes whose parent is this one.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut found: Vec<u32> = tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
        .collect();
    found.extend(
        std::fs::read_to_string(path).unwrap_or_default().split_whitespace().filter_map(|p| p.parse::<u32>().ok()),
    );
    found.sort_unstable();
    found.dedup();
    found
}

fn done(output: Output) -> Done {
    Done {
        ok: output.status.success(),
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Lines of a reader, for callers that wait for one.
pub(crate) fn lines_of(reader: impl std::io::Read) -> impl Iterator<Item = String> {
    BufReader::new(reader).lines().map_while(Result::ok)
}
