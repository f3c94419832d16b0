//! Entries of a pool's log, of every kind.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| caii_fuzz::published::logged(bytes));
