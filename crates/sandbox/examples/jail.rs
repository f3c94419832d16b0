//! What the jail costs a program: the same items through a runner with the jail and one without, in turns.
//!
//! `jail [--memory BYTES] [--data NAME=FILE]... PROGRAM RECORDS`
//!
//! Writes CPU microseconds an item for each turn, and the median of the turns' ratios.

use caii_model::{BlobRef, Bytes, Digest, Limits, Manifest, RuntimeClass, Scope};
use caii_sandbox::{DeviceSecret, Harness, JailLayer, JailPolicy, Priority, Runner, RunnerSpec, vetted_meter_id};
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

const TURNS: usize = 15;

fn main() -> ExitCode {
    // The runners that this starts are this program again.
    match std::env::args().nth(1).as_deref() {
        Some("runner") => return caii_sandbox::runner_main(),
        Some("runner-without-jail") => {
            let omitted = JailLayer::ALL.to_vec();
            return caii_sandbox::harness_main(Harness { omitted, ..Harness::default() });
        }
        _ => {}
    }
    match measure(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("jail: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(mut words: impl Iterator<Item = String>) -> Result<(), Box<dyn Error>> {
    let mut limits = Limits::default();
    let (mut files, mut paths) = (vec![], vec![]);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--memory" => limits.memory = Bytes(value()?.parse()?),
            "--data" => files.push(value()?),
            _ => paths.push(word),
        }
    }
    let [program, records] = paths.as_slice() else {
        return Err("needs a program and a file of records".into());
    };
    let wasm = std::fs::read(program)?;
    let text = std::fs::read(records)?;
    let items: Vec<Vec<u8>> =
        text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(Vec::from).collect();
    let (mut refs, mut blobs) = (vec![], vec![]);
    for entry in &files {
        let (name, path) = entry.split_once('=').ok_or("write --data NAME=FILE")?;
        let bytes = std::fs::read(path)?;
        refs.push(BlobRef { name: name.into(), digest: Digest::of(&bytes), size: Bytes(bytes.len() as u64) });
        blobs.push((name.to_owned(), path.into()));
    }
    let manifest = Manifest {
        name: "jail".into(),
        program: Digest::of(&wasm),
        program_size: Bytes(wasm.len() as u64),
        runtime: RuntimeClass::Wasm,
        scope: Scope::Item { records: 1 },
        blobs: refs,
        args: vec![],
        limits,
        meter: vetted_meter_id(),
    };
    let directory = tempfile::tempdir()?;
    let (cache, secret) = (directory.path().join("cache"), DeviceSecret::new([5; 32]));
    let mut spec = RunnerSpec::new(std::env::current_exe()?, vec![], manifest, program.into(), blobs, cache, secret);
    spec.priority = Priority::Normal;
    spec.jail = JailPolicy::ALLOW_ANY;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let mut with = start(&spec, "runner").await?;
        let mut without = start(&spec, "runner-without-jail").await?;
        let mut ratios = vec![];
        for turn in 0..=TURNS {
            let (jailed, free) = (cpu(&mut with, &items).await?, cpu(&mut without, &items).await?);
            let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / items.len() as f64;
            println!("{:.1} µs an item with the jail, {:.1} without", each(jailed), each(free));
            // The first turn warms both.
            if turn > 0 {
                ratios.push(jailed.as_secs_f64() / free.as_secs_f64());
            }
        }
        ratios.sort_by(f64::total_cmp);
        println!("the jail costs {:+.2} %", (ratios[TURNS / 2] - 1.0) * 100.0);
        Ok(())
    })
}

async fn start(spec: &RunnerSpec, argument: &str) -> Result<Runner, Box<dyn Error>> {
    let spec = RunnerSpec { args: vec![argument.into()], ..spec.clone() };
    Ok(Runner::start(spec).await?.0)
}

async fn cpu(runner: &mut Runner, items: &[Vec<u8>]) -> Result<Duration, Box<dyn Error>> {
    let run = runner.run(items.to_vec()).await?;
    for outcome in run.outcomes {
        outcome
            .result
            .map_err(|error| format!("an item failed: {error:?}: {}", String::from_utf8_lossy(&outcome.stderr)))?;
    }
    Ok(run.cpu)
}
