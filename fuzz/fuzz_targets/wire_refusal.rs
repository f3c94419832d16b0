//! A refusal that travels alone.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| caii_fuzz::wire::refusal(bytes));
