//! The control plane of a pool as one state machine: [`Coordinator::step`] takes an [`Input`] and returns the
//! [`Change`]s to make durable and the [`Effect`]s to release after that.
//!
//! Open work lives in memory. A lease is a capability that the coordinator signs and forgets: giving work out costs no
//! write, accepting a result does. Whoever drives this crate commits the changes in one transaction and drops the
//! coordinator when that fails, to load it again: crash recovery is not a second code path.
//!
//! What is absent: clocks, randomness, IO, async, hash-ordered maps, SQL, HTTP.

mod accounts;
mod attendance;
mod books;
mod change;
mod checks;
mod coordinator;
mod draft;
mod effect;
mod exchange;
mod explain;
mod input;
mod invariants;
mod jobs;
mod money;
mod payouts;
mod registry;
mod state;
mod verify;
mod view;

pub use accounts::{AccountView, Estimate, Past};
pub use books::{Books, Carried, DeviceAccount};
pub use change::*;
pub use coordinator::*;
pub use effect::*;
pub use explain::{tell_attempt, tell_jails};
pub use input::*;
pub use money::{Opening, Quote};
pub use payouts::{PayoutDraft, PayoutPreference, PayoutRules};
pub use state::{Catalog, Job, NextIds};
pub use view::*;
