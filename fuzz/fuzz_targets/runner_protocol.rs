//! The runner's pipes.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| caii_fuzz::sandbox::protocol(bytes));
