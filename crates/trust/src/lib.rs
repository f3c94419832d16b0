//! Pure: keys, signatures and Merkle commitments.
//!
//! Nothing here draws randomness: keys are made from 32 bytes that the shell supplies, and signing is deterministic.
//! What is signed is always a digest under a domain name (see [`domain`]), never bytes of a message as they came.

mod lease;
pub mod merkle;
mod signature;

pub use lease::{Ed25519Authority, LeaseAuthority, SimAuthority};
pub use signature::{Algorithm, SignatureError, SigningKey, device_id, domain, pool_id, verify};
