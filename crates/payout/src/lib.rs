//! Pure: from what members asked to be paid out to the files that a bank takes.
//!
//! - [`Batch::new`]: converts micro-credits to a currency's smallest unit by a stated rate, rounding down; what is too
//!   little for one stays payable.
//! - [`pain001`]: the ISO 20022 file (pain.001.001.09), and its reading, which counts and sums again.
//! - [`csv`]: the same payments for people and spreadsheets.
//! - [`Approvers`]: a bank gets files only when enough people signed exactly these.
//!
//! Bank details are checked where they come in ([`Iban`], [`Bic`], [`SepaText`]), so that a batch holds none that a bank
//! would reject. Nothing here does IO or reads a clock.

mod approval;
mod bank;
mod batch;
mod csv;
mod money;
pub mod pain001;
mod text;

pub use approval::{Approvers, ApproversInvalid, NotApproved, PAYLOAD_TYPE, Rejected, Statement};
pub use bank::{Bic, BicError, Iban, IbanError};
pub use batch::{Batch, BatchError, BatchSpec, Payable, Payee, Payment};
pub use csv::csv;
pub use money::{Currency, CurrencyUnknown, MinorUnits, Rate};
pub use text::{SepaText, TextError};
