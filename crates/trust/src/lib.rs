//! Pure: keys, signatures, Merkle commitments, and the gate that lets only certified workloads run.
//!
//! Nothing here draws randomness: keys are made from 32 bytes that the shell supplies, and signing is deterministic.
//! CAII's own messages are signed as a digest under a domain name (see [`domain`]), never as bytes as they came; what
//! stewards sign follows the standards of others (DSSE, in-toto, TUF), which separate their purposes themselves.
//!
//! - [`Charter`]: who may certify what, and how many of them it takes.
//! - [`Envelope`], [`Certification`], [`Revocation`]: what stewards sign.
//! - [`decide`]: whether this device may run this workload now. The one gate, used by devices, pools and people alike.

mod batch;
mod certify;
#[cfg(test)]
mod certify_tests;
mod charter;
pub mod dsse;
mod keys;
mod lease;
pub mod merkle;
mod revocation;
mod signature;
mod statement;
#[cfg(test)]
mod testing;
mod time;
mod words;

pub use batch::{ReadyKey, Signed, verify_all};
pub use certify::{
    Certified, Facts, Limit, LimitCaps, LocalPolicy, Rejected, Rejection, SIGNATURES_CHECKED_MAX, Trusted, Uncertified,
    decide,
};
pub use charter::{Body, CHARTER_SIZE_MAX, Charter, CharterError, Mandate, Steward};
pub use dsse::{Envelope, EnvelopeError};
pub use keys::{KeyId, PublicKey, PublicKeyError};
pub use lease::{Ed25519Authority, LeaseAuthority, SimAuthority};
pub use revocation::{Revocation, RevocationRefused, Revocations, Revoked};
pub use signature::{Algorithm, SignatureError, SigningKey, device_id, domain, pool_id, verify, verify_message};
pub use statement::{
    Build, CERTIFICATION, Certification, PAYLOAD_TYPE, REVOCATION, RevocationStatement, Statement, StatementError,
};
pub use time::{format_time, parse_time};
