//! Plays seeds: `cargo run --release -p caii-sim --example sim -- [--seed N] [--count N] [--trace]`.

use caii_sim::{Plan, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, otherwise: u64| {
        let place = args.iter().position(|arg| arg == name);
        place.and_then(|place| args.get(place + 1)).and_then(|value| value.parse().ok()).unwrap_or(otherwise)
    };
    let (first, count) = (number("--seed", 0), number("--count", 1));
    let traced = args.iter().any(|arg| arg == "--trace");
    let (mut events, mut steps, mut time, mut failures) = (0, 0, 0, 0);
    for seed in first..first + count {
        let plan = Plan { traced, ..Plan::from_seed(seed) };
        if traced {
            println!("{plan:#?}");
        }
        let outcome = run(&plan);
        outcome.trace.iter().for_each(|line| println!("{line}"));
        if count == 1 {
            println!("{:?}", outcome.stats);
        }
        if let Err(wrong) = &outcome.verdict {
            println!("seed {seed}: {wrong}");
            failures += 1;
        }
        events += outcome.stats.events;
        steps += outcome.stats.steps;
        time += outcome.stats.time;
    }
    println!("{count} seeds: {events} events, {steps} steps, {} s of virtual time, {failures} failures", time / 1_000);
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
