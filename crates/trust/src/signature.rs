//! Ed25519 signatures over digests, each under the name of what it is for.

use caii_model::{DeviceId, Digest, PoolId};
use ed25519_dalek::{Signature, Signer as _, VerifyingKey};
use std::fmt;
use thiserror::Error;

/// What signatures are made for. A signature for one of these is none for another, whatever the digest.
pub mod domain {
    /// The coordinator's, over [`Lease::digest`](caii_model::Lease::digest).
    pub const LEASE: &str = "lease";
    /// A device's, over the digest of an envelope around one of its requests.
    pub const ENVELOPE: &str = "envelope";
    /// A device's, over the digest of an enrolment: proof that it holds the key that it enrols.
    pub const ENROLMENT: &str = "enrolment";
}

/// How a signature was made. Its byte is part of what is signed, so that a signature by one algorithm can never pass
/// for one by another once a second line (post-quantum) stands beside this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Algorithm {
    /// Ed25519 (RFC 8032), verified strictly.
    Ed25519 = 1,
}

/// An Ed25519 key pair. Its secret is wiped from memory when it is dropped.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// The key of this seed: the 32 secret bytes of RFC 8032, section 5.1.5. They must be random and kept secret.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(&seed))
    }

    /// The public key.
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// Signs a digest for a purpose (one of [`domain`]). The same arguments give the same signature.
    pub fn sign(&self, domain: &str, digest: &Digest) -> [u8; 64] {
        self.sign_message(&signed_message(Algorithm::Ed25519, domain, digest))
    }

    /// Signs bytes as they are: for formats of others that say by themselves what is signed (DSSE's pre-authentication
    /// encoding, TUF's canonical JSON, the text of a log's checkpoint). None can be taken for another or for what
    /// [`SigningKey::sign`] signs.
    pub fn sign_message(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(of {})", device_id(&self.public()))
    }
}

/// Why a signature does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SignatureError {
    /// The public key is not a point of the curve, or one of the few for which anybody can sign.
    #[error("the public key is not a usable Ed25519 key; make a new key pair")]
    KeyInvalid,
    /// The key's holder did not sign this digest for this purpose.
    #[error("the signature does not belong to this key, purpose and content")]
    Mismatch,
    /// The key is of an algorithm that this release knows by name and cannot check.
    #[error("this release cannot check signatures by {0}; use a newer one")]
    AlgorithmUnsupported(&'static str),
}

/// Checks that the holder of `public` signed `digest` for `domain`. Strict: weak keys and every encoding of a signature
/// but the canonical one are refused, so that nobody can make a second valid signature out of a first.
pub fn verify(public: &[u8; 32], domain: &str, digest: &Digest, signature: &[u8; 64]) -> Result<(), SignatureError> {
    verify_message(public, &signed_message(Algorithm::Ed25519, domain, digest), signature)
}

/// Checks that the holder of `public` signed these bytes as they are, as strictly as [`verify`]: for formats of others
/// that say by themselves what is signed.
pub fn verify_message(public: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> Result<(), SignatureError> {
    let key = VerifyingKey::from_bytes(public).map_err(|_| SignatureError::KeyInvalid)?;
    if key.is_weak() {
        return Err(SignatureError::KeyInvalid);
    }
    key.verify_strict(message, &Signature::from_bytes(signature)).map_err(|_| SignatureError::Mismatch)
}

/// `caii signature 1`, the algorithm's byte, the domain after its length (u64, little endian), the digest.
pub(crate) fn signed_message(algorithm: Algorithm, domain: &str, digest: &Digest) -> Vec<u8> {
    let mut message = Vec::with_capacity(64 + domain.len());
    message.extend_from_slice(b"caii signature 1");
    message.push(algorithm as u8);
    message.extend_from_slice(&(domain.len() as u64).to_le_bytes());
    message.extend_from_slice(domain.as_bytes());
    message.extend_from_slice(&digest.0);
    message
}

/// The id of the device with this public key.
pub fn device_id(public: &[u8; 32]) -> DeviceId {
    DeviceId(fingerprint(public))
}

/// The id of the pool whose coordinator has this public key.
pub fn pool_id(public: &[u8; 32]) -> PoolId {
    PoolId(fingerprint(public))
}

fn fingerprint(public: &[u8; 32]) -> [u8; 8] {
    let digest = Digest::of(public);
    *digest.0.first_chunk().expect("a digest has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unhex<const N: usize>(text: &str) -> [u8; N] {
        let bytes: Vec<u8> = (0..text.len()).step_by(2).map(|at| text[at..at + 2].parse_hex()).collect();
        bytes.try_into().unwrap()
    }

    trait ParseHex {
        fn parse_hex(&self) -> u8;
    }

    impl ParseHex for str {
        fn parse_hex(&self) -> u8 {
            u8::from_str_radix(self, 16).unwrap()
        }
    }

    /// RFC 8032, section 7.1, tests 1 to 3: secret, public, message, signature.
    const RFC_8032: [[&str; 4]; 3] = [
        [
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ],
        [
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ],
        [
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ],
    ];

    #[test]
    fn rfc_8032_vectors_hold() {
        for [secret, public, message, signature] in RFC_8032 {
            let key = SigningKey::from_seed(unhex(secret));
            let message: Vec<u8> = (0..message.len()).step_by(2).map(|at| message[at..at + 2].parse_hex()).collect();
            assert_eq!(key.public(), unhex(public));
            assert_eq!(key.sign_message(&message), unhex(signature));
            assert_eq!(verify_message(&unhex(public), &message, &unhex(signature)), Ok(()));
        }
    }

    #[test]
    fn a_signature_is_for_one_key_purpose_and_digest() {
        let key = SigningKey::from_seed([7; 32]);
        let digest = Digest::of(b"content");
        let signature = key.sign("lease", &digest);
        assert_eq!(signature, key.sign("lease", &digest), "signing is deterministic");
        assert_eq!(verify(&key.public(), "lease", &digest, &signature), Ok(()));

        let other = SigningKey::from_seed([8; 32]).public();
        assert_eq!(verify(&other, "lease", &digest, &signature), Err(SignatureError::Mismatch));
        for purpose in ["leas", "leasf", "", "lease "] {
            assert_eq!(verify(&key.public(), purpose, &digest, &signature), Err(SignatureError::Mismatch), "{purpose}");
        }
        assert_eq!(verify(&key.public(), "lease", &Digest::of(b"x"), &signature), Err(SignatureError::Mismatch));
        for place in 0..64 {
            for bit in 0..8 {
                let mut changed = signature;
                changed[place] ^= 1 << bit;
                assert_eq!(verify(&key.public(), "lease", &digest, &changed), Err(SignatureError::Mismatch));
            }
        }
    }

    #[test]
    fn weak_and_impossible_keys_are_refused() {
        let digest = Digest::of(b"content");
        // The neutral element: with it, a zero signature with the neutral R verifies for everything if not strict.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert_eq!(verify(&neutral, "lease", &digest, &signature), Err(SignatureError::KeyInvalid));
        let no_point = (0..=u8::MAX).map(|byte| [byte; 32]).find(|bytes| VerifyingKey::from_bytes(bytes).is_err());
        let no_point = no_point.expect("half of all values are no points");
        assert_eq!(verify(&no_point, "lease", &digest, &signature), Err(SignatureError::KeyInvalid));
    }

    /// The group order L added to S gives another encoding of the same signature (RFC 8032, section 8.4).
    #[test]
    fn a_second_encoding_of_a_signature_is_refused() {
        let order: [u8; 32] = unhex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
        let key = SigningKey::from_seed([7; 32]);
        let digest = Digest::of(b"content");
        let mut signature = key.sign("lease", &digest);
        let mut carry = 0;
        for (byte, add) in signature[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            *byte = sum as u8;
            carry = sum >> 8;
        }
        assert_eq!(carry, 0);
        assert_eq!(verify(&key.public(), "lease", &digest, &signature), Err(SignatureError::Mismatch));
    }

    #[test]
    fn ids_are_the_head_of_the_keys_digest() {
        let public = SigningKey::from_seed(unhex(RFC_8032[0][0])).public();
        let head = &Digest::of(&public).hex()[..16];
        assert_eq!(device_id(&public).to_string(), format!("dev_{head}"));
        assert_eq!(pool_id(&public).to_string(), format!("pool_{head}"));
    }

    /// What is signed never changes unseen: signatures outlive releases.
    #[test]
    fn the_signed_bytes_are_these() {
        let message = signed_message(Algorithm::Ed25519, "lease", &Digest([0xaa; 32]));
        let mut expected = b"caii signature 1\x01\x05\0\0\0\0\0\0\0lease".to_vec();
        expected.extend([0xaa; 32]);
        assert_eq!(message, expected);
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let text = format!("{:?}", SigningKey::from_seed([0x5a; 32]));
        assert!(!text.contains("5a5a") && !text.contains("90, 90"), "{text}");
    }
}
