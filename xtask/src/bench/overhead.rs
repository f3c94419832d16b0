//! P4: what a task costs beyond its program.

use super::direct::Direct;
use super::fabric::Fabric;
use super::{Figure, median, ms, spread};
use crate::processes::Processes;
use crate::shell::Failure;

const RUNS: usize = 5;
/// Tasks of one record each, whose program does nothing.
const NOOPS: usize = 2_000;
const NOOP: &str = "build/guests/contract-echo.wasm";
/// Tasks of about 100 ms.
const LONG_TASKS: usize = 100;
const LONG: &str = "build/guests/montecarlo.wasm";
const LONG_MS: f64 = 100.0;

pub(crate) fn run(processes: &Processes) -> Result<Vec<Figure>, Failure> {
    let fabric = Fabric::start(processes, "p4", &[2])?;
    Ok(vec![cpu(processes, &fabric)?, efficiency(processes, &fabric)?])
}

/// CPU a task in all processes together, less what the program takes when it is called in a loop.
fn cpu(processes: &Processes, fabric: &Fabric) -> Result<Figure, Failure> {
    let records = fabric.write_lines("noop.jsonl", (0..NOOPS).map(|n| format!("{{\"n\": {n}}}")))?;
    let out = fabric.path("noop.out");
    let job = || {
        let submit = ["job", "submit", "--program", NOOP, "--input", &records, "--records-per-task", "1"];
        fabric.caii(&[&submit[..], &["--wait", "-o", &out]].concat())
    };
    let mut direct = Direct::start(processes, &[NOOP, &records])?;
    // Compiled code and warm runners on both sides.
    job()?;
    direct.pass()?;
    let mut costs = Vec::new();
    for _ in 0..RUNS {
        let before = fabric.cpu()?;
        let view = job()?;
        let used = fabric.cpu()?.since(&before);
        let loops = direct.pass()?;
        let each = |time: std::time::Duration| ms(time) / NOOPS as f64;
        let cost = each(used.total()) - each(loops.cpu);
        println!(
            "{NOOPS} no-op tasks: {cost:.3} ms of CPU each (pool {:.3}, agent {:.3}, runners {:.3}, direct {:.3}), {:.0} tasks/s",
            each(used.pool),
            each(used.agents),
            each(used.runners),
            each(loops.cpu),
            NOOPS as f64 / took(&view)? * 1e3,
        );
        costs.push(cost);
    }
    println!("spread {} ms", spread(&costs));
    Ok(Figure { name: "P4", value: median(&costs), decimals: 2, unit: "ms", bar: "1 (2 for now)", peer: "none" })
}

/// Ideal over measured time of tasks of 100 ms on two slots. Ideal is the program in a loop on two threads.
fn efficiency(processes: &Processes, fabric: &Fabric) -> Result<Figure, Failure> {
    let record = |samples: u64, seed: usize| format!(r#"{{"simulation":"pi","samples":{samples},"seed":{seed}}}"#);
    let trial = fabric.write_lines("trial.jsonl", (0..8).map(|seed| record(1_000_000, seed)))?;
    let mut direct = Direct::start(processes, &[LONG, &trial])?;
    direct.pass()?;
    let pass = direct.pass()?;
    let samples = (1e6 * LONG_MS / (ms(pass.cpu) / pass.items)) as u64;
    drop(direct);
    let records = fabric.write_lines("long.jsonl", (0..LONG_TASKS).map(|seed| record(samples, seed)))?;
    let out = fabric.path("long.out");
    let job = || {
        let submit = ["job", "submit", "--program", LONG, "--input", &records, "--records-per-task", "1"];
        fabric.caii(&[&submit[..], &["--wait", "-o", &out]].concat())
    };
    let mut direct = Direct::start(processes, &["--threads", "2", LONG, &records])?;
    job()?;
    direct.pass()?;
    let mut ratios = Vec::new();
    for _ in 0..RUNS {
        let before = fabric.cpu()?;
        let took = took(&job()?)?;
        let used = fabric.cpu()?.since(&before);
        let ideal = direct.pass()?;
        let ratio = ms(ideal.wall) / took;
        println!(
            "{LONG_TASKS} tasks of {:.0} ms on 2 slots: {:.3} of ideal ({:.2} s over {:.2} s; CPU {:.2} s over {:.2} s)",
            ms(ideal.cpu) / LONG_TASKS as f64,
            ratio,
            ideal.wall.as_secs_f64(),
            took / 1e3,
            ideal.cpu.as_secs_f64(),
            used.total().as_secs_f64(),
        );
        ratios.push(ratio * 100.0);
    }
    println!("spread {} %", spread(&ratios));
    let peer = "95 % (HyperQueue)";
    Ok(Figure { name: "P4.efficiency", value: median(&ratios), decimals: 1, unit: "%", bar: "97", peer })
}

/// Milliseconds from a job's submission to its end, by the pool's clock.
fn took(view: &serde_json::Value) -> Result<f64, Failure> {
    match (view["state"].as_str(), view["submitted_ms"].as_f64(), view["ended_ms"].as_f64()) {
        (Some("completed"), Some(from), Some(to)) => Ok(to - from),
        _ => Err(Failure(format!("the job did not complete: {view}"))),
    }
}
