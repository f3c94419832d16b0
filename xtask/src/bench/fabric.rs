//! A pool and its agents as real processes, and what they use.

use crate::processes::{Processes, signal};
use crate::shell::{Failure, attempt, read};
use serde_json::Value;
use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take before a benchmark gives up.
const PATIENCE: Duration = Duration::from_secs(600);

/// A pool on this machine with its agents. Everything of it is in one directory, which is removed with it.
pub(crate) struct Fabric {
    caii: PathBuf,
    dir: PathBuf,
    processes: Processes,
    pool: u32,
    agents: Vec<Agent>,
    ticket: String,
    /// `127.0.0.1:PORT`
    http: String,
    key: String,
}

/// An agent of a fabric.
#[derive(Clone)]
pub(crate) struct Agent {
    pub(crate) name: String,
    slots: u32,
    pub(crate) pid: u32,
}

impl Drop for Fabric {
    fn drop(&mut self) {
        // The pool last, so that contributors can say goodbye to it.
        for agent in &self.agents {
            signal(agent.pid, "TERM");
        }
        for agent in std::mem::take(&mut self.agents) {
            let _ = self.processes.wait(agent.pid);
        }
        signal(self.pool, "TERM");
        let _ = self.processes.wait(self.pool);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Fabric {
    /// Starts a pool and agents with these numbers of slots, and waits until they are connected.
    pub(crate) fn start(processes: &Processes, name: &str, slots: &[u32]) -> Result<Self, Failure> {
        let exe = attempt("finding the binary", std::env::current_exe())?;
        let caii = exe.with_file_name("caii");
        let dir = PathBuf::from("build/bench").join(name);
        if dir.exists() {
            attempt("removing the last run", fs::remove_dir_all(&dir))?;
        }
        attempt("making a directory", fs::create_dir_all(&dir))?;
        let mut command = Command::new(&caii);
        command.args(["pool", "up", "--output", "json", "--dir"]).arg(dir.join("pool"));
        command.args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log(&dir, "pool")?);
        let (pool, stdout) = processes.start(&mut command)?;
        let stdout = BufReader::new(stdout.expect("it is piped"));
        let up = serde_json::Deserializer::from_reader(stdout).into_iter::<Value>().next();
        let Some(Ok(up)) = up else {
            return Err(Failure(format!("the pool did not start; see {}", dir.join("pool.log").display())));
        };
        let text = |field: &str| up[field].as_str().unwrap_or_default().to_owned();
        let mut fabric = Self {
            caii,
            dir,
            processes: processes.clone(),
            pool,
            agents: vec![],
            ticket: text("ticket"),
            http: text("http_url").trim_start_matches("http://").to_owned(),
            key: text("admin_key"),
        };
        for (index, slots) in slots.iter().enumerate() {
            fabric.start_agent(&format!("device-{index}"), *slots)?;
        }
        fabric.until("the agents to connect", |fabric| {
            let devices = fabric.devices()?;
            Ok(devices.iter().filter(|device| device["present"] == true).count() == slots.len())
        })?;
        Ok(fabric)
    }

    /// Starts an agent, again if its directory is there.
    pub(crate) fn start_agent(&mut self, name: &str, slots: u32) -> Result<(), Failure> {
        let mut command = Command::new(&self.caii);
        command.args(["agent", "run", &self.ticket, "--name", name, "--slots", &slots.to_string(), "--dir"]);
        command.arg(self.agent_dir(name)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log(&self.dir, name)?);
        let (pid, _) = self.processes.start(&mut command)?;
        self.agents.push(Agent { name: name.to_owned(), slots, pid });
        Ok(())
    }

    /// Ends an agent and its runners with SIGKILL; what it was.
    pub(crate) fn kill_agent(&mut self, name: &str) -> Result<Agent, Failure> {
        let place = self.agents.iter().position(|agent| agent.name == name);
        let place = place.ok_or_else(|| Failure(format!("there is no agent {name}")))?;
        let agent = self.agents.remove(place);
        let runners = children(agent.pid);
        self.processes.kill(agent.pid);
        for runner in runners {
            signal(runner, "KILL");
        }
        Ok(agent)
    }

    /// Starts a killed agent again.
    pub(crate) fn revive(&mut self, agent: &Agent) -> Result<(), Failure> {
        self.start_agent(&agent.name, agent.slots)?;
        let name = agent.name.clone();
        self.until("the agent to come back", move |fabric| {
            Ok(fabric.devices()?.iter().any(|device| device["name"] == *name && device["present"] == true))
        })
    }

    /// An agent by its name.
    pub(crate) fn agent(&self, name: &str) -> Result<&Agent, Failure> {
        self.agents.iter().find(|agent| agent.name == name).ok_or_else(|| Failure(format!("there is no agent {name}")))
    }

    pub(crate) fn agent_dir(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A file of the fabric's directory.
    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Writes a file of lines into the fabric's directory; its path.
    pub(crate) fn write_lines(&self, name: &str, lines: impl Iterator<Item = String>) -> Result<String, Failure> {
        let path = self.path(name);
        let text: String = lines.map(|line| line + "\n").collect();
        attempt(&path, fs::write(&path, text))?;
        Ok(path)
    }

    /// Runs `caii` against this pool and reads the JSON that it prints.
    pub(crate) fn caii(&self, args: &[&str]) -> Result<Value, Failure> {
        let mut command = Command::new(&self.caii);
        command.args(args).args(["--output", "json", "--pool-dir"]).arg(self.dir.join("pool"));
        // Progress lines are for people.
        command.stderr(log(&self.dir, "caii")?);
        let text = read(&mut command)?;
        if text.trim().is_empty() {
            Ok(Value::Null)
        } else {
            attempt("reading caii's output", serde_json::from_str(&text))
        }
    }

    /// Asks the pool over its loopback address.
    pub(crate) fn get(&self, path: &str) -> Result<Value, Failure> {
        let what = format!("GET {path}");
        let mut stream = attempt(&what, TcpStream::connect(&self.http))?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\nconnection: close\r\n\r\n",
            self.http, self.key
        );
        attempt(&what, stream.write_all(request.as_bytes()))?;
        let mut answer = Vec::new();
        attempt(&what, stream.read_to_end(&mut answer))?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        if !head.starts_with("HTTP/1.1 200") {
            return Err(Failure(format!("{what}: {}", head.lines().next().unwrap_or_default())));
        }
        attempt(&what, serde_json::from_str(body))
    }

    pub(crate) fn devices(&self) -> Result<Vec<Value>, Failure> {
        Ok(self.get("/caii/v1/devices")?["data"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until something is so.
    pub(crate) fn until(&self, what: &str, so: impl Fn(&Self) -> Result<bool, Failure>) -> Result<(), Failure> {
        let begun = Instant::now();
        while !so(self)? {
            if begun.elapsed() > PATIENCE {
                return Err(Failure(format!("waited {PATIENCE:?} for {what}")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// CPU time of the pool, the agents and their runners so far, those that have ended included.
    pub(crate) fn cpu(&self) -> Result<Cpu, Failure> {
        let mut cpu = Cpu { pool: cpu_of(self.pool, false)?, ..Cpu::default() };
        for agent in &self.agents {
            cpu.agents += cpu_of(agent.pid, false)?;
            cpu.runners += cpu_of(agent.pid, true)? - cpu_of(agent.pid, false)?;
            for runner in children(agent.pid) {
                // One that has just ended is counted with its agent by now.
                cpu.runners += cpu_of(runner, true).unwrap_or_default();
            }
        }
        Ok(cpu)
    }
}

/// CPU time of a fabric's processes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cpu {
    pub(crate) pool: Duration,
    pub(crate) agents: Duration,
    pub(crate) runners: Duration,
}

impl Cpu {
    pub(crate) fn total(&self) -> Duration {
        self.pool + self.agents + self.runners
    }

    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            pool: self.pool.saturating_sub(before.pool),
            agents: self.agents.saturating_sub(before.agents),
            runners: self.runners.saturating_sub(before.runners),
        }
    }
}

fn log(dir: &Path, name: &str) -> Result<fs::File, Failure> {
    let path = dir.join(format!("{name}.log"));
    attempt("making a log", fs::File::options().create(true).append(true).open(path))
}

/// The fields of `/proc/PID/stat` after the name, which may hold anything.
fn stat(pid: u32) -> Result<Vec<String>, Failure> {
    let path = format!("/proc/{pid}/stat");
    let text = attempt(&path, fs::read_to_string(&path))?;
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    Ok(rest.split_whitespace().map(str::to_owned).collect())
}

/// CPU time of a process, with that of its children that have ended or without.
fn cpu_of(pid: u32, with_ended: bool) -> Result<Duration, Failure> {
    // utime, stime, cutime, cstime: fields 14 to 17, in hundredths of a second on every Linux of today.
    let fields = stat(pid)?;
    let ticks = fields.iter().skip(11).take(if with_ended { 4 } else { 2 });
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// The processes that a process has started and that run.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parent = |pid: u32| stat(pid).ok()?.get(1)?.parse::<u32>().ok();
    pids.filter(|child| parent(*child) == Some(pid)).collect()
}
