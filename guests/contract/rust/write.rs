//! Writes as much as its item asks for: `stdout 10000000000` or `stderr 70000`. A refused write is reported on stderr
//! with what had been written until then.

use std::io::{self, Read, Write};
use std::process::ExitCode;

const CHUNK: [u8; 1 << 16] = [b'x'; 1 << 16];

fn main() -> ExitCode {
    let mut item = String::new();
    if let Err(error) = io::stdin().lock().read_to_string(&mut item) {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    let (stream, bytes) = item.trim().split_once(' ').unwrap_or_default();
    let Ok(bytes) = bytes.parse() else {
        eprintln!("the item must be like \"stdout 1000\"");
        return ExitCode::FAILURE;
    };
    let (written, outcome) = match stream {
        "stderr" => fill(&mut io::stderr().lock(), bytes),
        _ => fill(&mut io::stdout().lock(), bytes),
    };
    if let Err(error) = outcome {
        eprintln!("refused after {written} bytes: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn fill(target: &mut impl Write, bytes: u64) -> (u64, io::Result<()>) {
    let mut written = 0;
    while written < bytes {
        let length = CHUNK.len().min(usize::try_from(bytes - written).unwrap_or(usize::MAX));
        if let Err(error) = target.write_all(&CHUNK[..length]).and_then(|()| target.flush()) {
            return (written, Err(error));
        }
        written += length as u64;
    }
    (written, Ok(()))
}
