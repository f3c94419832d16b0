//! In-toto statements: certifications and revocations, and the gate over them.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| caii_fuzz::trust::statement(bytes));
