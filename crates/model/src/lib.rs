//! The words that every other crate shares: ids, units, jobs, leases, manifests, refusals.
//!
//! Nothing here reads a clock, draws randomness or does IO, and nothing here is serialised: `wire`, `store` and the
//! HTTP shell convert at their own boundary, so that renaming a field can never break a stored row or a message.

mod certification;
mod device;
mod digest;
mod ids;
mod jail;
mod job;
mod manifest;
mod refusal;
mod units;

pub use certification::*;
pub use device::*;
pub use digest::*;
pub use ids::*;
pub use jail::*;
pub use job::*;
pub use manifest::*;
pub use refusal::*;
pub use units::*;
