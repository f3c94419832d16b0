//! Joining a pool, both ways.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| caii_fuzz::wire::enrol(bytes));
