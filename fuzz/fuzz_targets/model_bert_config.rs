//! Files config.json.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| caii_fuzz::models::bert_config(bytes));
