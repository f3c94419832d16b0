//! Durable state and content-addressed blobs.
//!
//! [`Store`] keeps what a coordinator decided, fenced by an [`Epoch`] so that only one process decides: [`MemoryStore`]
//! for simulations and `SqliteStore` for pools. [`Blobs`] keeps content by its SHA-256: `LocalBlobs` in a directory. One
//! conformance suite runs over every store.
//!
//! Without the feature `sqlite` (on by default) there is only the store in memory, and nothing does IO.
//!
//! What is absent: decisions. A store refuses what it cannot represent; whether a change is allowed was the
//! coordinator's business. Locking a pool's directory is the caller's; the fence holds without it.

mod blobs;
mod books;
#[cfg(test)]
mod conformance;
#[cfg(feature = "sqlite")]
mod local_blobs;
mod memory;
#[cfg(feature = "sqlite")]
mod names;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;

pub use blobs::*;
pub use books::*;
#[cfg(feature = "sqlite")]
pub use local_blobs::{LocalBlobs, SMALL_MAX};
pub use memory::MemoryStore;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;
pub use store::*;
