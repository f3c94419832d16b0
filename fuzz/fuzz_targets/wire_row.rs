//! Stored rows of every kind.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| caii_fuzz::wire::row(bytes));
