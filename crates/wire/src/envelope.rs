//! What is around every signed request of an enrolled device.

use crate::convert::{choice, fixed};
use crate::open::{Frame, VERSION};
use crate::{DecodeError, limits, proto};
use caii_model::{DeviceId, Digest, PoolId};
use prost::Message as _;
use zeroize::Zeroize as _;

/// A request that its device signed.
///
/// The signature is the device's over [`Envelope::digest`], in the domain `envelope` of `caii-trust`. It is checked
/// before the body is decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Who says that it speaks.
    pub device: DeviceId,
    /// What the body is.
    pub kind: RequestKind,
    /// The encoded request.
    pub body: Vec<u8>,
    /// The signature.
    pub signature: [u8; 64],
}

/// What an envelope holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestKind {
    /// An exchange ([`decode_exchange_request`](crate::decode_exchange_request)).
    Exchange,
}

impl RequestKind {
    fn to_proto(self) -> proto::RequestKind {
        match self {
            Self::Exchange => proto::RequestKind::Exchange,
        }
    }
}

impl Envelope {
    /// What the device signs: the pool that it means, itself, what the body is, and the body.
    pub fn digest(pool: PoolId, device: DeviceId, kind: RequestKind, body: &[u8]) -> Digest {
        let kind = i32::from(kind.to_proto()).to_le_bytes();
        Digest::of_fields("caii envelope 1", &[&pool.0, &device.0, &kind, body])
    }

    /// What the signature must be over, in this pool.
    pub fn signed_digest(&self, pool: PoolId) -> Digest {
        Self::digest(pool, self.device, self.kind, &self.body)
    }
}

const FRAME: Frame = Frame { message: "Envelope", size_max: limits::EXCHANGE_MAX, lists: &[] };

/// The bytes of an envelope. No other copy of its body is left behind.
pub fn encode_envelope(envelope: &Envelope) -> Vec<u8> {
    let mut message = proto::Envelope {
        version: VERSION,
        device: envelope.device.0.to_vec(),
        kind: envelope.kind.to_proto().into(),
        body: envelope.body.clone(),
        signature: envelope.signature.to_vec(),
    };
    let bytes = message.encode_to_vec();
    message.body.zeroize();
    bytes
}

/// The envelope of these bytes. Its signature is not checked.
pub fn decode_envelope(bytes: &[u8]) -> Result<Envelope, DecodeError> {
    let message: proto::Envelope = FRAME.open(bytes)?;
    Ok(Envelope {
        device: DeviceId(fixed("Envelope.device", &message.device)?),
        kind: match choice("Envelope.kind", message.kind)? {
            proto::RequestKind::Unspecified => return Err(DecodeError::Missing { field: "Envelope.kind" }),
            proto::RequestKind::Exchange => RequestKind::Exchange,
        },
        body: message.body,
        signature: fixed("Envelope.signature", &message.signature)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::check_codec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(device: [u8; 8], body: Vec<u8>, signature: [u8; 64]) {
            let envelope = Envelope { device: DeviceId(device), kind: RequestKind::Exchange, body, signature };
            check_codec(&envelope, encode_envelope, decode_envelope);
        }
    }

    #[test]
    fn everything_but_the_signature_is_signed() {
        let envelope = Envelope {
            device: DeviceId([1; 8]),
            kind: RequestKind::Exchange,
            body: b"body".to_vec(),
            signature: [0; 64],
        };
        let digest = envelope.signed_digest(PoolId([2; 8]));
        assert_ne!(digest, envelope.signed_digest(PoolId([3; 8])));
        assert_ne!(digest, Envelope { device: DeviceId([4; 8]), ..envelope.clone() }.signed_digest(PoolId([2; 8])));
        assert_ne!(digest, Envelope { body: b"bodY".to_vec(), ..envelope.clone() }.signed_digest(PoolId([2; 8])));
        assert_eq!(digest, Envelope { signature: [9; 64], ..envelope }.signed_digest(PoolId([2; 8])));
        // Old releases must recognise new signatures: a change here is a new version.
        assert_eq!(digest.hex(), "199b4d2f4d6009a1924e0a51ef92a73510799d8b2effc6a0855e8dda7e3c120c");
    }
}
