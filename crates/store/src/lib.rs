//! Durable state and content-addressed blobs.
//!
//! [`Store`] keeps what a coordinator decided: [`MemoryStore`] for simulations. One conformance suite runs over every
//! implementation.
//!
//! What is absent: decisions. A store refuses what it cannot represent; whether a change is allowed was the
//! coordinator's business.

mod memory;
mod store;

pub use memory::MemoryStore;
pub use store::*;
