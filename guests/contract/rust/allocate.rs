//! Takes memory in blocks of 1 MiB, touching each page, until there is none; then says how much it got and fails.

use std::process::ExitCode;

const BLOCK_BYTES: usize = 1 << 20;
const PAGE_BYTES: usize = 4096;

fn main() -> ExitCode {
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut block = Vec::new();
        if blocks.try_reserve(1).is_err() || block.try_reserve_exact(BLOCK_BYTES).is_err() {
            eprintln!("out of memory after {} MiB", blocks.len());
            return ExitCode::FAILURE;
        }
        block.resize(BLOCK_BYTES, 0);
        block.iter_mut().step_by(PAGE_BYTES).for_each(|byte| *byte = 1);
        blocks.push(block);
    }
}
