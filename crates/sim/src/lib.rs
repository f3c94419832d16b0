//! A whole pool in virtual time: the real coordinator, the real agents and the store in memory, with a network that
//! loses, repeats, delays and reorders, processes that die at the worst moment, clocks that are wrong, devices that
//! fail, vanish, sleep, lie or exist twice.
//!
//! A [`Plan`] says what will be there and what will go wrong; [`Plan::from_seed`] draws one. [`run`] plays it: first
//! with faults, then healed, and ends when every job has ended. After every step the checkers compare what happened with
//! what must always hold: nothing is said before it is durable, what was acknowledged stays, a task has one result, a
//! record is in the output once, forged leases are worth nothing, and once the world behaves every job ends.
//!
//! The same plan gives the same trace, byte for byte. What is absent: clocks, randomness from outside, IO, threads.

mod books;
pub mod cheats;
mod checks;
mod coordinator;
mod devices;
mod faults;
mod lies;
mod network;
mod plan;
mod rng;
mod world;

pub use lies::Liar;
pub use plan::{Character, JobPlan, Mutation, Plan, Rates};
pub use rng::Rng;
pub use world::{Outcome, Stats, run};
