//! Pure: a contributor's device as one state machine.
//!
//! [`Agent::step`] takes what happened ([`Input`]) and says what to do ([`Action`]). It decides when to speak with the
//! coordinator, which lease to work on, what to say of it, when to give up and when to stop; the shell that drives it
//! moves bytes, runs programs and keeps time. The agent sees no bytes of inputs or results, only their digests.
//!
//! What always holds, whatever order inputs arrive in ([`Agent::violations`] checks what can be seen from inside):
//! - A finished result is kept and said again until the coordinator acknowledges it or says that it is worth nothing.
//! - Claims are numbered without a gap, and a result's has the same number until the coordinator acknowledges it.
//! - A lease runs at most once and has one outcome.
//! - At most `slots` runs at a time, `slots + prefetch` unfinished leases, one workload in preparation.
//! - A request says that a reply is settled only when nothing from that reply can still arrive.
//!
//! There is no clock, no randomness and no IO here: time and entropy come in the [`Context`] of every step.

mod agent;
mod claims;
mod io;
mod link;
mod view;
mod work;

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;

pub use agent::Agent;
pub use claims::{Claims, Forgotten};
pub use io::{Action, Config, Context, ExitReason, Input};
pub use view::{LinkView, TaskStage, TaskView, Totals, View, WorkloadView};
