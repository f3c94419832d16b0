//! The same program called directly in one process, kept ready so that both sides can be measured in turns.

use crate::processes::Processes;
use crate::shell::{Failure, attempt};
use std::io::{BufRead, BufReader, PipeWriter, Write};
use std::process::{ChildStdout, Command};
use std::time::Duration;

/// A process that runs all records each time that it is asked.
pub(crate) struct Direct {
    processes: Processes,
    pid: u32,
    ask: Option<PipeWriter>,
    answers: BufReader<ChildStdout>,
}

/// What a run took.
pub(crate) struct Pass {
    pub(crate) items: f64,
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
}

impl Direct {
    /// Prepares a program; `args` are those of the sandbox's example `direct`. It competes for the CPU as runners do.
    pub(crate) fn start(processes: &Processes, args: &[&str]) -> Result<Self, Failure> {
        let exe = attempt("finding the binary", std::env::current_exe())?;
        let (input, ask) = attempt("making a pipe", std::io::pipe())?;
        let mut command = Command::new("chrt");
        command.args(["--idle", "0"]).arg(exe.with_file_name("examples").join("direct")).args(args);
        command.stdin(input).stdout(std::process::Stdio::piped());
        let (pid, stdout) = processes.start(&mut command)?;
        let answers = BufReader::new(stdout.expect("it is piped"));
        let mut direct = Self { processes: processes.clone(), pid, ask: Some(ask), answers };
        match direct.line()?.as_str() {
            "ready" => Ok(direct),
            other => Err(Failure(format!("the direct side says {other:?}"))),
        }
    }

    /// Runs every record once.
    pub(crate) fn pass(&mut self) -> Result<Pass, Failure> {
        let ask = self.ask.as_mut().expect("it is there until the end");
        attempt("asking the direct side", ask.write_all(b"go\n"))?;
        let line = self.line()?;
        let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [items, cpu, wall] = numbers[..] else {
            return Err(Failure(format!("the direct side says {line:?}")));
        };
        Ok(Pass { items: items as f64, cpu: Duration::from_micros(cpu), wall: Duration::from_micros(wall) })
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        attempt("hearing the direct side", self.answers.read_line(&mut line))?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        self.ask = None;
        let _ = self.processes.wait(self.pid);
    }
}
