//! The keys that sign notes, their names and ids (`signed-note`), and the two kinds of signatures they make.
//!
//! A key signs as a log (Ed25519 over the note's text, type 0x01) or as a witness (a cosignature with a time, type
//! 0x04), never as both: each kind is a type of its own here, and the message of a cosignature says what it is.

use crate::note::NoteSignature;
use crate::text::{base64, excerpt, parse_base64};
use caii_model::Digest;
use caii_trust::{PublicKey, SignatureError, SigningKey, verify_message};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Seconds since 1970-01-01T00:00:00Z, as cosignatures carry them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct UnixSeconds(pub u64);

/// The latest time that a cosignature may carry.
const TIME_MAX: u64 = i64::MAX as u64;

/// The name of a key: not empty, without spaces and plus signs. By custom a URL without its scheme.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyName(String);

/// The text is not the name of a key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not the name of a key: it must not be empty, nor have spaces, control characters or `+`")]
pub struct KeyNameError(String);

impl KeyName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyName {
    type Err = KeyNameError;

    fn from_str(text: &str) -> Result<Self, KeyNameError> {
        let bad = |c: char| c.is_whitespace() || c < ' ' || c == '+';
        if text.is_empty() || text.contains(bad) { Err(KeyNameError(excerpt(text))) } else { Ok(Self(text.to_owned())) }
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a key signs. The byte is part of the key's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum KeyType {
    /// The note's text, by Ed25519: what logs do.
    Ed25519 = 0x01,
    /// A time and the note's text, by Ed25519: what witnesses do (`cosignature/v1`).
    CosignatureV1 = 0x04,
}

/// A public key that notes are verified with. Written `name+id+key`, the `vkey` of the specification.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VerifierKey {
    name: KeyName,
    kind: KeyType,
    public: [u8; 32],
}

/// Why a text is no key that notes are verified with.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum VerifierKeyError {
    /// It has not three parts.
    #[error("not a verifier key: expected NAME+ID+KEY")]
    Form,
    /// The name is none.
    #[error("not a verifier key: {0}")]
    Name(#[source] KeyNameError),
    /// The id is not eight lower-case hex digits.
    #[error("not a verifier key: the id is not eight lower-case hex digits")]
    Id,
    /// The key is not a type's byte and a key, in base64.
    #[error("not a verifier key: the last part is not the base64 of a key")]
    Key,
    /// Signatures of this type cannot be checked.
    #[error("this release cannot check signatures of type 0x{0:02x}; it can check 0x01 and 0x04 (Ed25519)")]
    TypeUnsupported(u8),
    /// Anybody could sign for it, or nobody.
    #[error("this is not a usable Ed25519 key; make a new key pair")]
    Weak,
    /// The id is that of another key or name.
    #[error("the id is {found:08x} and that of this name and key is {expected:08x}; one of the three was changed")]
    OtherId {
        /// What the name and key give.
        expected: u32,
        /// What is written.
        found: u32,
    },
}

impl VerifierKey {
    /// The key with this name.
    ///
    /// # Errors
    /// If it is none that signatures could be checked with.
    pub fn new(name: KeyName, kind: KeyType, public: [u8; 32]) -> Result<Self, VerifierKeyError> {
        let hex = PublicKey::Ed25519(public).hex();
        PublicKey::parse("ed25519", &hex).map_err(|_| VerifierKeyError::Weak)?;
        Ok(Self { name, kind, public })
    }

    /// The name.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// How it signs.
    pub fn kind(&self) -> KeyType {
        self.kind
    }

    /// The key itself.
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The id: the head of the digest of name, type and key. It finds a key and proves nothing.
    pub fn id(&self) -> u32 {
        let bytes = [self.name.0.as_bytes(), b"\n", &self.typed()].concat();
        u32::from_be_bytes(*Digest::of(&bytes).0.first_chunk().expect("a digest has 32 bytes"))
    }

    fn typed(&self) -> [u8; 33] {
        let mut bytes = [self.kind as u8; 33];
        bytes[1..].copy_from_slice(&self.public);
        bytes
    }

    /// Whether the signature claims to be by this key.
    pub(crate) fn made(&self, signature: &NoteSignature) -> bool {
        // The name first: it tells most keys apart, and the id takes a hash.
        self.name == signature.name && self.id() == signature.id
    }

    /// Checks a signature of a note's text; the time of a cosignature comes back.
    pub(crate) fn check(&self, text: &str, signature: &[u8]) -> Result<Option<UnixSeconds>, SignatureError> {
        match self.kind {
            KeyType::Ed25519 => {
                let signature = signature.try_into().map_err(|_| SignatureError::Mismatch)?;
                verify_message(&self.public, text.as_bytes(), signature).map(|()| None)
            }
            KeyType::CosignatureV1 => {
                let (time, signature) = signature.split_first_chunk().ok_or(SignatureError::Mismatch)?;
                let time = u64::from_be_bytes(*time);
                let signature = signature.try_into().map_err(|_| SignatureError::Mismatch)?;
                if time > TIME_MAX {
                    return Err(SignatureError::Mismatch);
                }
                let time = UnixSeconds(time);
                verify_message(&self.public, &cosigned_message(time, text), signature).map(|()| Some(time))
            }
        }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:08x}+{}", self.name, self.id(), base64(&self.typed()))
    }
}

impl FromStr for VerifierKey {
    type Err = VerifierKeyError;

    fn from_str(text: &str) -> Result<Self, VerifierKeyError> {
        // Base64 may have plus signs too: the first two part the text.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(VerifierKeyError::Form);
        };
        let name = name.parse().map_err(VerifierKeyError::Name)?;
        let digits = id.len() == 8 && id.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let found = u32::from_str_radix(id, 16).ok().filter(|_| digits).ok_or(VerifierKeyError::Id)?;
        let bytes = parse_base64(key).ok_or(VerifierKeyError::Key)?;
        let (kind, public) = bytes.split_first().ok_or(VerifierKeyError::Key)?;
        let kind = match kind {
            0x01 => KeyType::Ed25519,
            0x04 => KeyType::CosignatureV1,
            other => return Err(VerifierKeyError::TypeUnsupported(*other)),
        };
        let key = Self::new(name, kind, public.try_into().map_err(|_| VerifierKeyError::Key)?)?;
        let expected = key.id();
        if expected == found { Ok(key) } else { Err(VerifierKeyError::OtherId { expected, found }) }
    }
}

/// What a witness signs: a head that no log's text begins like, the time, the whole text.
fn cosigned_message(time: UnixSeconds, text: &str) -> Vec<u8> {
    format!("cosignature/v1\ntime {}\n{text}", time.0).into_bytes()
}

/// Signs notes as a log does.
#[derive(Debug, Clone)]
pub struct NoteSigner {
    key: VerifierKey,
    secret: SigningKey,
}

impl NoteSigner {
    /// Of this name. By custom it is the log's origin.
    pub fn new(name: KeyName, secret: SigningKey) -> Self {
        Self { key: VerifierKey { name, kind: KeyType::Ed25519, public: secret.public() }, secret }
    }

    /// What verifies its signatures.
    pub fn key(&self) -> &VerifierKey {
        &self.key
    }

    /// Signs a note's text.
    pub fn sign(&self, text: &str) -> NoteSignature {
        let bytes = self.secret.sign_message(text.as_bytes()).to_vec();
        NoteSignature { name: self.key.name.clone(), id: self.key.id(), bytes }
    }
}

/// Signs checkpoints as a witness does. Only [`Witness`](crate::Witness) decides whether it may.
#[derive(Debug, Clone)]
pub struct Cosigner {
    key: VerifierKey,
    secret: SigningKey,
}

impl Cosigner {
    /// Of this name. The secret must sign for nothing else, under no other name either.
    pub fn new(name: KeyName, secret: SigningKey) -> Self {
        Self { key: VerifierKey { name, kind: KeyType::CosignatureV1, public: secret.public() }, secret }
    }

    /// What verifies its cosignatures.
    pub fn key(&self) -> &VerifierKey {
        &self.key
    }

    /// Signs a checkpoint's text with the time.
    pub(crate) fn cosign(&self, text: &str, now: UnixSeconds) -> NoteSignature {
        let now = UnixSeconds(now.0.min(TIME_MAX));
        let signature = self.secret.sign_message(&cosigned_message(now, text));
        let bytes = [&now.0.to_be_bytes()[..], &signature].concat();
        NoteSignature { name: self.key.name.clone(), id: self.key.id(), bytes }
    }
}
