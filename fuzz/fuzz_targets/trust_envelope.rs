//! DSSE envelopes.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| caii_fuzz::trust::envelope(bytes));
