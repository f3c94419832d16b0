//! Inspection of untrusted WebAssembly.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| caii_fuzz::sandbox::program(bytes));
