//! The ledger by hand and under random events with replays, beside a store that keeps every row.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod by_hand;
mod random;
mod world;
