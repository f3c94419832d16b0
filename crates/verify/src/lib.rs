//! Which items of a task are audited, what a device has survived, and when its results are final.
//!
//! Everybody can recompute all of it: a draw depends on what the device committed to and on a secret that was committed
//! to beforehand and is revealed later, and on nothing else.

mod draw;
mod standing;

pub use draw::{Secret, draw_chance, draw_items, draw_more};
pub use standing::{AUDITS_FINAL, Depth, Record, Standing, audits_due, error_bound};
