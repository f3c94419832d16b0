//! An agent with one runner, for tests that look through a whole process: it does what its standard input says, and
//! keeps nothing of it.
//!
//! An order is a length (u32, little endian) and an item, which is run several times as one task.

use caii_model::{BlobRef, Bytes, Digest, Fuel, Limits, Manifest, Millis, RuntimeClass, Scope};
use caii_sandbox::{DeviceSecret, JailLayer, JailPolicy, Priority, Runner, RunnerSpec, meter_id};
use std::error::Error;
use std::io::Write as _;
use std::path::Path;
use zeroize::{Zeroize as _, Zeroizing};

/// Times that an item is run in its task.
const REPEATED: usize = 20;

/// `without` are layers that its runner leaves open.
pub(crate) fn main(directory: &Path, without: &[JailLayer]) -> Result<(), Box<dyn Error>> {
    let program = std::fs::read(directory.join("program"))?;
    let blob = std::fs::read(directory.join("blob"))?;
    let manifest = Manifest {
        name: "test".into(),
        program: Digest::of(&program),
        program_size: Bytes(program.len() as u64),
        runtime: RuntimeClass::Wasm,
        scope: Scope::Item { records: 1 },
        blobs: vec![BlobRef { name: "blob".into(), digest: Digest::of(&blob), size: Bytes(blob.len() as u64) }],
        args: vec![],
        limits: Limits {
            fuel_per_item: Fuel(u64::MAX / 4),
            fuel_init: Fuel(1 << 30),
            memory: Bytes::mebi(16),
            output_per_item: Bytes::mebi(1),
            stderr_per_item: Bytes(100),
            wall_per_item: Millis(120_000),
        },
        meter: meter_id(),
    };
    let mut spec = RunnerSpec::new(
        std::env::current_exe()?,
        without.iter().map(|layer| format!("without={layer}").into()).collect(),
        manifest,
        directory.join("program"),
        vec![("blob".into(), directory.join("blob"))],
        directory.join("cache"),
        DeviceSecret::new([5; 32]),
    );
    spec.priority = Priority::Normal;
    spec.jail = JailPolicy { may_lack: without.iter().copied().collect() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut runner = runtime.block_on(Runner::start(spec))?.0;
    say(&format!("runner {}", runner.pid()))?;
    while let Some(item) = order()? {
        let items = (0..REPEATED).map(|_| item.to_vec()).collect();
        drop(item);
        match runtime.block_on(runner.run(items)) {
            Ok(mut run) => {
                for outcome in &mut run.outcomes {
                    if let Ok(output) = &mut outcome.result {
                        output.zeroize();
                    }
                }
                say("done")?;
            }
            Err(_) => say("failed")?,
        }
    }
    Ok(())
}

fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Read without the standard library's buffer, which nobody could wipe.
fn order() -> Result<Option<Zeroizing<Vec<u8>>>, Box<dyn Error>> {
    let mut length = [0; 4];
    if !fill(&mut length)? {
        return Ok(None);
    }
    let mut item = Zeroizing::new(vec![0; u32::from_le_bytes(length) as usize]);
    Ok(fill(&mut item)?.then_some(item))
}

fn fill(mut buffer: &mut [u8]) -> Result<bool, Box<dyn Error>> {
    while !buffer.is_empty() {
        match rustix::io::read(std::io::stdin(), &mut *buffer)? {
            0 => return Ok(false),
            read => buffer = &mut buffer[read..],
        }
    }
    Ok(true)
}
