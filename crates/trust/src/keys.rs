//! The public keys of stewards and their ids, which are those of TUF.

use crate::signature::{SignatureError, verify_message};
use caii_model::{Digest, DigestParseError};
use ed25519_dalek::VerifyingKey;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Bytes of an ML-DSA-44 public key (FIPS 204).
const ML_DSA_44_LEN: usize = 1_312;

/// A public key with its algorithm.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PublicKey {
    /// Ed25519 (RFC 8032), verified strictly.
    Ed25519([u8; 32]),
    /// ML-DSA-44 (FIPS 204): the seat of the post-quantum line. A charter may carry such keys already; this release
    /// cannot check their signatures and counts none.
    MlDsa44(Box<[u8; ML_DSA_44_LEN]>),
}

/// Why a text is no public key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PublicKeyError {
    /// The algorithm is unknown.
    #[error("`{0}` is no known algorithm; expected ed25519 or ml-dsa-44")]
    Algorithm(String),
    /// The digits are no key of this algorithm.
    #[error("expected {expected} bytes as lower-case hex digits for a key of {algorithm}")]
    Hex {
        /// The algorithm.
        algorithm: &'static str,
        /// Bytes of its keys.
        expected: usize,
    },
    /// Anybody could sign for it, or nobody.
    #[error("this is not a usable Ed25519 key; make a new key pair")]
    Weak,
}

impl PublicKey {
    /// The algorithm's name, as TUF and charters write it.
    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "ed25519",
            Self::MlDsa44(_) => "ml-dsa-44",
        }
    }

    /// Its bytes as hex digits.
    pub fn hex(&self) -> String {
        let bytes: &[u8] = match self {
            Self::Ed25519(bytes) => bytes,
            Self::MlDsa44(bytes) => bytes.as_slice(),
        };
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The key of this algorithm and these hex digits.
    ///
    /// # Errors
    /// If it is none that signatures could be checked with.
    pub fn parse(algorithm: &str, hex: &str) -> Result<Self, PublicKeyError> {
        match algorithm {
            "ed25519" => {
                let bytes = unhex(hex).ok_or(PublicKeyError::Hex { algorithm: "ed25519", expected: 32 })?;
                let weak = VerifyingKey::from_bytes(&bytes).map_or(true, |key| key.is_weak());
                if weak { Err(PublicKeyError::Weak) } else { Ok(Self::Ed25519(bytes)) }
            }
            "ml-dsa-44" => unhex(hex)
                .map(|bytes| Self::MlDsa44(Box::new(bytes)))
                .ok_or(PublicKeyError::Hex { algorithm: "ml-dsa-44", expected: ML_DSA_44_LEN }),
            other => Err(PublicKeyError::Algorithm(other.chars().take(64).collect())),
        }
    }

    /// The id: SHA-256 of the key as TUF's canonical JSON writes it, so that envelopes and TUF name keys alike.
    pub fn id(&self) -> KeyId {
        let (name, hex) = (self.algorithm(), self.hex());
        let json = format!(r#"{{"keytype":"{name}","keyval":{{"public":"{hex}"}},"scheme":"{name}"}}"#);
        KeyId(Digest::of(json.as_bytes()))
    }

    /// Checks that the key's holder signed this message.
    ///
    /// # Errors
    /// If not, or if this release cannot tell.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        match self {
            Self::Ed25519(public) => {
                let signature: &[u8; 64] = signature.try_into().map_err(|_| SignatureError::Mismatch)?;
                verify_message(public, message, signature)
            }
            Self::MlDsa44(_) => Err(SignatureError::AlgorithmUnsupported(self.algorithm())),
        }
    }
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? * 16 + digit(pair[1])?;
    }
    Some(bytes)
}

/// Names a steward's key: written as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(pub Digest);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.hex())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {}", self.0.short())
    }
}

impl FromStr for KeyId {
    type Err = DigestParseError;

    fn from_str(text: &str) -> Result<Self, DigestParseError> {
        // One text for one key: no prefix, no upper case.
        unhex(text).map(|bytes| Self(Digest(bytes))).ok_or(DigestParseError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;

    #[test]
    fn the_id_is_that_of_tuf() {
        let key = PublicKey::Ed25519([0xab; 32]);
        let json = format!(r#"{{"keytype":"ed25519","keyval":{{"public":"{}"}},"scheme":"ed25519"}}"#, "ab".repeat(32));
        assert_eq!(key.id().0, Digest::of(json.as_bytes()));
        assert_eq!(key.id().to_string().parse(), Ok(key.id()));
        assert!(key.id().to_string().to_uppercase().parse::<KeyId>().is_err());
    }

    #[test]
    fn keys_are_read_as_they_are_written() {
        let key = PublicKey::Ed25519(SigningKey::from_seed([1; 32]).public());
        assert_eq!(PublicKey::parse("ed25519", &key.hex()), Ok(key.clone()));
        let post_quantum = PublicKey::MlDsa44(Box::new([7; ML_DSA_44_LEN]));
        assert_eq!(PublicKey::parse("ml-dsa-44", &post_quantum.hex()), Ok(post_quantum.clone()));
        assert_eq!(post_quantum.verify(b"m", &[0; 2_420]), Err(SignatureError::AlgorithmUnsupported("ml-dsa-44")));

        let parse = PublicKey::parse;
        assert_eq!(parse("rsa", &key.hex()), Err(PublicKeyError::Algorithm("rsa".into())));
        assert!(matches!(parse("ed25519", &key.hex().to_uppercase()), Err(PublicKeyError::Hex { .. })));
        assert!(matches!(parse("ed25519", &key.hex()[2..]), Err(PublicKeyError::Hex { .. })));
        assert!(matches!(parse("ml-dsa-44", &key.hex()), Err(PublicKeyError::Hex { .. })));
        // The neutral element: anybody can sign for it.
        assert_eq!(parse("ed25519", &format!("01{}", "00".repeat(31))), Err(PublicKeyError::Weak));
    }

    #[test]
    fn signatures_of_any_length_are_checked() {
        let key = SigningKey::from_seed([1; 32]);
        let public = PublicKey::Ed25519(key.public());
        let signature = key.sign_message(b"m");
        assert_eq!(public.verify(b"m", &signature), Ok(()));
        for wrong in [&signature[..63], &[&signature[..], &[0]].concat(), &[]] {
            assert_eq!(public.verify(b"m", wrong), Err(SignatureError::Mismatch));
        }
    }
}
