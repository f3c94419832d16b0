//! The program around [`caii_guest_preprocess`].

use std::process::ExitCode;

/// Longest item in bytes.
const MAX_ITEM_BYTES: usize = 64 << 20;

fn main() -> ExitCode {
    caii_guest::run(MAX_ITEM_BYTES, caii_guest_preprocess::run)
}
