//! Benchmark P5: instantiate a warm 4 MB guest; start a runner with cached code and get its first result.
//!
//! `cargo run --release -p caii-sandbox --example p5`. The last two lines are the figures.

use caii_model::{Digest, Limits, Manifest, RuntimeClass, Scope};
use caii_sandbox::{DeviceSecret, Harness, JailLayer, JailPolicy, Priority, Program, Runner, RunnerSpec, meter_id};
use std::error::Error;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const INSTANCES: usize = 5_000;
const STARTS: usize = 51;
const TASKS: usize = 20;

fn main() -> ExitCode {
    // The runners that this starts are this program again.
    if std::env::args().nth(1).as_deref() == Some("runner") {
        return caii_sandbox::runner_main();
    }
    if std::env::args().nth(1).as_deref() == Some("runner-without-jail") {
        let omitted = JailLayer::ALL.to_vec();
        return caii_sandbox::harness_main(Harness { omitted, ..Harness::default() });
    }
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("p5: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A module of about 4 MB: 3 MB of code and 1 MB of data.
fn guest() -> Result<Vec<u8>, wat::Error> {
    let mut text = String::from(r#"(module (memory (export "memory") 64) (func (export "_start"))"#);
    for function in 0..3_000 {
        write!(text, "(func (export \"f{function}\") (param i32) (result i32) local.get 0 ")
            .expect("writing to memory");
        for step in 0..150 {
            let constant = function * 7_919 + step * 104_729 + 100_000_000;
            write!(text, "i32.const {constant} i32.xor ").expect("writing to memory");
        }
        text.push(')');
    }
    text.push_str("(data (i32.const 65536) \"");
    for byte in 0..1_000_000 {
        text.push(if byte % 3 == 0 { 'a' } else { 'b' });
    }
    text.push_str("\"))");
    wat::parse_str(text)
}

fn measure() -> Result<(), Box<dyn Error>> {
    let wasm = guest()?;
    let manifest = Manifest {
        name: "p5".into(),
        program: Digest::of(&wasm),
        program_size: caii_model::Bytes(wasm.len() as u64),
        runtime: RuntimeClass::Wasm,
        scope: Scope::Item { records: 1 },
        blobs: vec![],
        args: vec![],
        limits: Limits::default(),
        meter: meter_id(),
    };
    println!("guest: {} bytes", wasm.len());

    let program = Program::prepare(&manifest, &wasm, vec![])?;
    let mut times = Vec::with_capacity(INSTANCES);
    for _ in 0..INSTANCES {
        let begun = Instant::now();
        program.run(vec![])?.result.map_err(|error| format!("{error:?}"))?;
        times.push(begun.elapsed());
    }
    let (p50, p99) = percentiles(times);
    println!("instantiate, run an empty `_start`, drop: p50 {p50:?}, p99 {p99:?} ({INSTANCES} times)");
    let instance_us = p50.as_secs_f64() * 1e6;

    let directory = tempfile::tempdir()?;
    let file = directory.path().join("program.wasm");
    std::fs::write(&file, &wasm)?;
    let mut spec = RunnerSpec::new(
        std::env::current_exe()?,
        vec!["runner".into()],
        manifest,
        file,
        vec![],
        directory.path().join("cache"),
        DeviceSecret::new([5; 32]),
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut runner_ms = 0.0;
    for priority in [Priority::Normal, Priority::Idle] {
        spec.priority = priority;
        let (p50, p99) = runtime.block_on(starts(&spec))?;
        println!(
            "start a runner from the cache, first result ({priority:?} priority): p50 {p50:?}, p99 {p99:?} ({STARTS} times)"
        );
        runner_ms = p50.as_secs_f64() * 1e3;
    }
    spec.args = vec!["runner-without-jail".into()];
    spec.jail = JailPolicy::ALLOW_ANY;
    let (p50, p99) = runtime.block_on(starts(&spec))?;
    println!("the same without the jail: p50 {p50:?}, p99 {p99:?} ({STARTS} times)");
    let mut rates = vec![];
    for (name, argument) in [("with the jail", "runner"), ("without", "runner-without-jail")] {
        spec.args = vec![argument.into()];
        spec.priority = Priority::Normal;
        spec.jail = JailPolicy::ALLOW_ANY;
        let rate = runtime.block_on(rate(&spec))?;
        println!("empty items through a runner, {name}: {rate:.0} a second of its CPU (best of {TASKS} tasks)");
        rates.push(rate);
    }
    println!("jail's cost for items that do nothing: {:.1} %", (rates[1] / rates[0] - 1.0) * 100.0);
    println!("P5.instance: {instance_us:.1} µs | bar 50 | peer 11");
    println!("P5.runner: {runner_ms:.1} ms | bar 15 | peer 300");
    Ok(())
}

async fn starts(spec: &RunnerSpec) -> Result<(Duration, Duration), Box<dyn Error>> {
    drop(Runner::start(spec.clone()).await?);
    let mut times = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let begun = Instant::now();
        let (mut runner, report) = Runner::start(spec.clone()).await?;
        runner.run(vec![vec![]]).await?;
        times.push(begun.elapsed());
        if !report.cached {
            return Err("the image was not found in the cache".into());
        }
        runner.kill().await;
    }
    Ok(percentiles(times))
}

/// Items for each second of the runner's CPU: system calls weigh most where the program does nothing.
async fn rate(spec: &RunnerSpec) -> Result<f64, Box<dyn Error>> {
    let mut runner = Runner::start(spec.clone()).await?.0;
    let mut best = Duration::MAX;
    for _ in 0..TASKS {
        best = best.min(runner.run(vec![vec![]; INSTANCES]).await?.cpu);
    }
    Ok(INSTANCES as f64 / best.as_secs_f64())
}

/// Median and 99th percentile.
fn percentiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}
