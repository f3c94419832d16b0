//! The words that every other crate shares: ids, units, jobs, leases, manifests, refusals, receipts; and the one place
//! where rewards and prices are computed.
//!
//! Nothing here reads a clock, draws randomness or does IO, and nothing here is serialised but what is signed or logged
//! (see [`canonical`]): `wire`, `store` and the HTTP shell convert at their own boundary, so that renaming a field can
//! never break a stored row or a message.

pub mod canonical;
mod certification;
mod check;
mod device;
mod digest;
mod ids;
mod job;
mod manifest;
mod money;
mod receipt;
mod refusal;
mod reward;
#[cfg(test)]
mod reward_tests;
mod tariff;
#[cfg(test)]
mod testing;
mod units;
mod verification;

pub use certification::*;
pub use check::*;
pub use device::*;
pub use digest::*;
pub use ids::*;
pub use job::*;
pub use manifest::*;
pub use money::*;
pub use receipt::*;
pub use refusal::*;
pub use reward::*;
pub use tariff::*;
pub use units::*;
pub use verification::*;
