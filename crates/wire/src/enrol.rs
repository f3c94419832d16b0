//! How a device joins a pool.

use crate::convert::{fixed, text};
use crate::open::{Frame, VERSION};
use crate::refusal::refused;
use crate::{DecodeError, limits, proto};
use caii_model::{DeviceId, Digest, PoolId, Refusal};
use prost::Message as _;
use std::fmt;

/// A join ticket's secret: 16 random bytes. The pool keeps [`TicketSecret::hash`] alone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TicketSecret(pub [u8; 16]);

impl TicketSecret {
    /// What the pool knows it by.
    pub fn hash(&self) -> Digest {
        Digest::of(&self.0)
    }
}

impl fmt::Debug for TicketSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketSecret(…)")
    }
}

/// A device asks to be enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolRequest {
    /// The join ticket's.
    pub secret: TicketSecret,
    /// The device's Ed25519 public key.
    pub public_key: [u8; 32],
    /// A label that its owner chose, at most 64 characters.
    pub name: String,
    /// The device's signature over [`EnrolRequest::signed_digest`], in the domain `enrolment` of `caii-trust`: proof
    /// that it holds the key's private half.
    pub proof: [u8; 64],
}

impl EnrolRequest {
    /// What the device signs to join this pool.
    pub fn digest(pool: PoolId, secret: TicketSecret, public_key: &[u8; 32], name: &str) -> Digest {
        Digest::of_fields("caii enrolment 1", &[&pool.0, &secret.0, public_key, name.as_bytes()])
    }

    /// What the proof must be over, in this pool.
    pub fn signed_digest(&self, pool: PoolId) -> Digest {
        Self::digest(pool, self.secret, &self.public_key, &self.name)
    }
}

/// A device was enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolReply {
    /// Its id.
    pub device: DeviceId,
    /// Where. The device checks that it is the ticket's pool and that the key below has this id.
    pub pool: PoolId,
    /// The coordinator's Ed25519 public key.
    pub pool_public_key: [u8; 32],
}

const REQUEST: Frame = Frame { message: "EnrolRequest", size_max: limits::ENROL_MAX, lists: &[] };
const REPLY: Frame = Frame { message: "EnrolReply", size_max: limits::ENROL_MAX, lists: &[] };

/// The bytes of a request.
pub fn encode_enrol_request(request: &EnrolRequest) -> Vec<u8> {
    let message = proto::EnrolRequest {
        version: VERSION,
        secret: request.secret.0.to_vec(),
        public_key: request.public_key.to_vec(),
        name: request.name.clone(),
        proof: request.proof.to_vec(),
    };
    message.encode_to_vec()
}

/// The request of these bytes. Its proof is not checked.
pub fn decode_enrol_request(bytes: &[u8]) -> Result<EnrolRequest, DecodeError> {
    let message: proto::EnrolRequest = REQUEST.open(bytes)?;
    Ok(EnrolRequest {
        secret: TicketSecret(fixed("EnrolRequest.secret", &message.secret)?),
        public_key: fixed("EnrolRequest.public_key", &message.public_key)?,
        name: text("EnrolRequest.name", message.name, limits::DEVICE_NAME_MAX)?,
        proof: fixed("EnrolRequest.proof", &message.proof)?,
    })
}

/// The bytes of a reply that refuses nothing; for one that does, see [`encode_refusal`](crate::encode_refusal).
pub fn encode_enrol_reply(reply: &EnrolReply) -> Vec<u8> {
    let message = proto::EnrolReply {
        version: VERSION,
        refusal: None,
        device: reply.device.0.to_vec(),
        pool: reply.pool.0.to_vec(),
        pool_public_key: reply.pool_public_key.to_vec(),
    };
    message.encode_to_vec()
}

/// What a pool answered: a reply, or a refusal, which is understood even when it comes from another version.
pub fn decode_enrol_reply(bytes: &[u8]) -> Result<Result<EnrolReply, Refusal>, DecodeError> {
    if let Some(refusal) = refused("EnrolReply", limits::ENROL_MAX, bytes)? {
        return Ok(Err(refusal));
    }
    let message: proto::EnrolReply = REPLY.open(bytes)?;
    Ok(Ok(EnrolReply {
        device: DeviceId(fixed("EnrolReply.device", &message.device)?),
        pool: PoolId(fixed("EnrolReply.pool", &message.pool)?),
        pool_public_key: fixed("EnrolReply.pool_public_key", &message.pool_public_key)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::check_codec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(secret: [u8; 16], public_key: [u8; 32], name in ".{0,64}", proof: [u8; 64], id: [u8; 8]) {
            let request = EnrolRequest { secret: TicketSecret(secret), public_key, name, proof };
            check_codec(&request, encode_enrol_request, decode_enrol_request);
            let reply = EnrolReply { device: DeviceId(id), pool: PoolId(id), pool_public_key: public_key };
            check_codec(&Ok(reply), |reply| encode_enrol_reply(reply.as_ref().unwrap()), decode_enrol_reply);
        }
    }

    #[test]
    fn everything_but_the_proof_is_signed() {
        let request =
            EnrolRequest { secret: TicketSecret([1; 16]), public_key: [2; 32], name: "n".into(), proof: [0; 64] };
        let pool = PoolId([3; 8]);
        let digest = request.signed_digest(pool);
        assert_ne!(digest, request.signed_digest(PoolId([4; 8])));
        assert_ne!(digest, EnrolRequest { secret: TicketSecret([9; 16]), ..request.clone() }.signed_digest(pool));
        assert_ne!(digest, EnrolRequest { public_key: [9; 32], ..request.clone() }.signed_digest(pool));
        assert_ne!(digest, EnrolRequest { name: "m".into(), ..request.clone() }.signed_digest(pool));
        assert_eq!(digest, EnrolRequest { proof: [9; 64], ..request }.signed_digest(pool));
    }

    #[test]
    fn no_secret_shows_in_debug_output() {
        let request =
            EnrolRequest { secret: TicketSecret([173; 16]), public_key: [2; 32], name: "n".into(), proof: [0; 64] };
        assert!(!format!("{request:?}").contains("173"));
    }
}
