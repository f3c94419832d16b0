//! The lines of an upload.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| caii_fuzz::pool::lines(bytes));
