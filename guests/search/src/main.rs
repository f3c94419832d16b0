//! The program around [`caii_guest_search`].

use std::process::ExitCode;

/// Longest item in bytes.
const MAX_ITEM_BYTES: usize = 1 << 20;

fn main() -> ExitCode {
    caii_guest::run(MAX_ITEM_BYTES, caii_guest_search::run)
}
