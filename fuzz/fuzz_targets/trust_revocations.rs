//! Kept revocations.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| caii_fuzz::trust::revocations(bytes));
