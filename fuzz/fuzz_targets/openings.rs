//! Files that open the log's entries.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| caii_fuzz::published::openings(bytes));
