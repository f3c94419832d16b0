//! Zip archives and wheels.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| caii_fuzz::models::archive(bytes));
