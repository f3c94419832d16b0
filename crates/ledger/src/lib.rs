//! Pure: who has how many credits, and why.
//!
//! - [`Transfer`]: one amount from one account to another; it never changes. The transfers of one event stand together
//!   in an [`Entry`], whose ids follow from what it is for.
//! - [`events`]: which entry each event makes: a job is admitted, a task accepted, a cheat caught, a payout asked for.
//! - [`Ledger`]: applies entries, each once and whole, and refuses those that would take what is not there.
//! - [`tariff_json`]: tariffs as people propose and read them.
//!
//! Nothing here reads a clock or does IO. Balances are credits minus debits, so all of them together are zero.

mod account;
pub mod events;
mod ledger;
pub mod tariff_json;
mod transfer;

pub use account::LedgerAccount;
pub use ledger::{CreditLimit, Invariant, Ledger, Outcome, Refusal, TrialBalance};
pub use transfer::{Entry, GrantKey, PayoutRun, Posting, Purpose, Transfer, TransferId, TransferKind};
