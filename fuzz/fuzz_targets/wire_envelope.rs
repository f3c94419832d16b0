//! A signed request's frame.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| caii_fuzz::wire::envelope(bytes));
