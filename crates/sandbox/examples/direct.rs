//! A program called directly in this process, item after item: what the fabric is measured against (P4, P6).
//!
//! `direct [--vetted] [--threads N] [--memory BYTES] [--data NAME=FILE]... [--arg ARG]... PROGRAM RECORDS`
//!
//! Prepares the program, writes `ready`, and then, for each line on standard input, runs every record once and writes
//! `ITEMS CPU_MICROSECONDS WALL_MICROSECONDS`. Ends with its standard input.

use caii_model::{BlobRef, Bytes, Digest, Limits, Manifest, RuntimeClass, Scope};
use caii_sandbox::{Program, meter_id, vetted_meter_id};
use rustix::time::{ClockId, clock_gettime};
use std::error::Error;
use std::fs::File;
use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

fn main() -> ExitCode {
    match serve(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("direct: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(mut words: impl Iterator<Item = String>) -> Result<(), Box<dyn Error>> {
    let mut limits = Limits::default();
    let (mut meter, mut threads, mut args, mut data, mut paths) = (meter_id(), 1, vec![], vec![], vec![]);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--vetted" => meter = vetted_meter_id(),
            "--threads" => threads = value()?.parse()?,
            "--memory" => limits.memory = Bytes(value()?.parse()?),
            "--data" => data.push(value()?),
            "--arg" => args.push(value()?),
            _ => paths.push(word),
        }
    }
    let [program, records] = paths.as_slice() else {
        return Err("needs a program and a file of records".into());
    };
    let wasm = std::fs::read(program)?;
    let text = std::fs::read(records)?;
    let items: Vec<&[u8]> = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let (mut blobs, mut files) = (vec![], vec![]);
    for entry in &data {
        let (name, path) = entry.split_once('=').ok_or("write --data NAME=FILE")?;
        let bytes = std::fs::read(path)?;
        blobs.push(BlobRef { name: name.into(), digest: Digest::of(&bytes), size: Bytes(bytes.len() as u64) });
        files.push(File::open(path)?);
    }
    let manifest = Manifest {
        name: "direct".into(),
        program: Digest::of(&wasm),
        program_size: Bytes(wasm.len() as u64),
        runtime: RuntimeClass::Wasm,
        scope: Scope::Item { records: 1 },
        blobs,
        args,
        limits,
        meter,
    };
    let program = Program::prepare(&manifest, &wasm, files)?;
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        line?;
        let (cpu, begun) = (cpu_us(), Instant::now());
        run_all(&program, &items, threads)?;
        let (wall, cpu) = (begun.elapsed().as_micros(), cpu_us() - cpu);
        println!("{} {cpu} {wall}", items.len());
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn run_all(program: &Program, items: &[&[u8]], threads: usize) -> Result<(), String> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<(), String> {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = program.run(item.to_vec()).map_err(|error| error.to_string())?;
            outcome.result.map_err(|error| {
                format!("an item failed: {error:?}; it said: {}", String::from_utf8_lossy(&outcome.stderr))
            })?;
        }
        Ok(())
    };
    if threads == 1 {
        return work();
    }
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a thread panicked".to_owned())?)
    })
}

/// Microseconds of CPU that this process has used.
fn cpu_us() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000
}
