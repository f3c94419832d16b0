//! The shells: HTTP, agent protocol, clocks, keys.
//!
//! - [`agent`] runs a contributor's device: its conversation, its files, its runners.
//! - [`pool`] runs a coordinator: its thread, its store, and all that it serves.
//! - [`witness`] cosigns the checkpoints of a log.
//! - [`views`] is the JSON of CAII's own API, shared by server and command line.

pub mod agent;
mod clock;
mod http;
mod items;
pub mod pinned;
pub mod pool;
pub mod views;
pub mod witness;
