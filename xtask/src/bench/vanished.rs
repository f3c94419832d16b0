//! P11: a device that is gone is noticed, and its work is given to another.

use super::fabric::{Fabric, children};
use super::{Figure, median, spread};
use crate::processes::{Processes, signal};
use crate::shell::Failure;
use std::time::{Duration, Instant};

const RUNS: usize = 5;
/// A program that never ends: whoever has the task still has it when it is looked for.
const PROGRAM: &str = "build/guests/contract-spin.wasm";

/// How a device goes.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// Its process is killed: the kernel closes its connections, and the pool sees that.
    Killed,
    /// It stands still with its connections open, as a machine whose cable was pulled.
    Stopped,
}

pub(crate) fn run(processes: &Processes) -> Result<Vec<Figure>, Failure> {
    let mut fabric = Fabric::start(processes, "p11", &[1, 1])?;
    let killed = times(&mut fabric, End::Killed)?;
    let stopped = times(&mut fabric, End::Stopped)?;
    println!("killed: median {:.2} s, spread {} s", median(&killed), spread(&killed));
    println!("without a word: median {:.2} s, spread {} s", median(&stopped), spread(&stopped));
    let (bar, peer) = ("15", "60 (Bacalhau), 150 (AI Horde)");
    Ok(vec![
        Figure { name: "P11", value: median(&stopped), decimals: 1, unit: "s", bar, peer },
        Figure { name: "P11.killed", value: median(&killed), decimals: 1, unit: "s", bar, peer },
    ])
}

fn times(fabric: &mut Fabric, end: End) -> Result<Vec<f64>, Failure> {
    (0..RUNS).map(|_| once(fabric, end)).collect()
}

fn once(fabric: &mut Fabric, end: End) -> Result<f64, Failure> {
    let input = fabric.write_lines("one.txt", std::iter::once("1".to_owned()))?;
    let submit = ["job", "submit", "--program", PROGRAM, "--input", &input, "--records-per-task", "1"];
    let limits = ["--fuel", "1000000000000000", "--item-timeout", "10m"];
    let job = fabric.caii(&[&submit[..], &limits].concat())?;
    let job = job["id"].as_str().unwrap_or_default().to_owned();
    fabric.until("a device to take the task", |fabric| Ok(holders(fabric, &job)?.len() == 1))?;
    let victim = holders(fabric, &job)?.remove(0);
    let pid = fabric.agent(&victim)?.pid;
    // Until the program runs, the task could be anywhere between the two.
    fabric.until("its runner to work", |_| Ok(!children(pid).is_empty()))?;

    let gone = Instant::now();
    let agent = match end {
        End::Killed => Some(fabric.kill_agent(&victim)?),
        End::Stopped => {
            for process in std::iter::once(pid).chain(children(pid)) {
                signal(process, "STOP");
            }
            None
        }
    };
    let noticed = loop {
        if holders(fabric, &job)?.iter().any(|name| *name != victim) {
            break gone.elapsed();
        }
        if gone.elapsed() > Duration::from_secs(120) {
            return Err(Failure("nobody else got the task within two minutes".into()));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    println!("{}: {:.2} s", if end == End::Killed { "killed" } else { "without a word" }, noticed.as_secs_f64());
    let agent = match agent {
        Some(agent) => agent,
        None => fabric.kill_agent(&victim)?,
    };
    fabric.caii(&["job", "cancel", &job])?;
    fabric.revive(&agent)?;
    fabric.until("the task to be dropped", |fabric| Ok(holders(fabric, &job)?.is_empty()))?;
    Ok(noticed.as_secs_f64())
}

/// The names of the devices that have a task of this job.
fn holders(fabric: &Fabric, job: &str) -> Result<Vec<String>, Failure> {
    let prefix = format!("{job}/");
    let devices = fabric.devices()?;
    let holds = |device: &&serde_json::Value| {
        let tasks = device["tasks"].as_array().into_iter().flatten();
        tasks.filter_map(serde_json::Value::as_str).any(|task| task.starts_with(&prefix))
    };
    Ok(devices.iter().filter(holds).filter_map(|device| device["name"].as_str().map(str::to_owned)).collect())
}
