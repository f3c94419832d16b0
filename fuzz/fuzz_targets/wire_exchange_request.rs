//! A device's request.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| caii_fuzz::wire::exchange_request(bytes));
