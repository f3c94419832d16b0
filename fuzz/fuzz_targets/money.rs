//! Receipts, tariffs, transfers, entries of the ledger, payout files, approvals.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| caii_fuzz::published::money(bytes));
