//! Offline proofs, paths of tiles, proofs between any two trees.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| caii_fuzz::tlog::proof(bytes));
