//! The coordinator as its shell and its devices see it: scripts of inputs and the answers that they get.

mod adoption;
mod exchange;
mod failures;
mod harness;
mod jobs;
mod money;
mod payouts;
mod registry;
mod sharing;
mod verify;
