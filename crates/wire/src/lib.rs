//! Pure: versioned protobuf messages, canonical bytes, and their conversion to and from the model.
//!
//! `proto/caii/v1/agent.proto` and `records.proto` are the readable contract; a test compares the structs that are
//! encoded here with them, field by field. Each `encode_*` has a `decode_*` that takes any bytes whatever, never panics,
//! allocates in proportion to limits ([`limits`]) rather than to what the bytes claim, and says which field is wrong.
//! Encoding is canonical: equal values give equal bytes.
//!
//! What travels alone carries a version in its first field. Another version is refused by name
//! ([`DecodeError::Version`]); unknown fields are ignored, so that a release can add what its predecessor may ignore.
//!
//! What is absent: signing and verifying. Messages that are signed say what digest is signed; `caii-trust` signs it.

mod convert;
mod enrol;
mod envelope;
mod error;
mod exchange;
pub mod limits;
mod manifest;
mod open;
mod proto;
mod refusal;
mod result;
pub mod rows;
#[cfg(test)]
mod testing;
mod ticket;

pub use enrol::{
    EnrolReply, EnrolRequest, TicketSecret, decode_enrol_reply, decode_enrol_request, encode_enrol_reply,
    encode_enrol_request,
};
pub use envelope::{Envelope, RequestKind, decode_envelope, encode_envelope};
pub use error::DecodeError;
pub use exchange::{
    Attachments, decode_exchange_reply, decode_exchange_request, encode_exchange_reply, encode_exchange_request,
};
pub use manifest::{decode_manifest, encode_manifest};
pub use open::VERSION;
pub use refusal::{decode_refusal, encode_refusal};
pub use result::{decode_task_result, encode_task_result};
pub use ticket::{JoinTicket, TicketError};
