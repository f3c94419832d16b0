//! Requests to witnesses.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| caii_fuzz::tlog::request(bytes));
