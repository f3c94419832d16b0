//! A log's notes: checkpoints, the signatures under them, what witnesses answer.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| caii_fuzz::tlog::note(bytes));
