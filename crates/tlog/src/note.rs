//! Signed notes (`signed-note`): a text, an empty line, a line for each signature.

use crate::key::{KeyName, KeyNameError, UnixSeconds, VerifierKey};
use crate::text::{base64, excerpt, parse_base64};
use caii_trust::SignatureError;
use std::fmt;
use thiserror::Error;

/// Bytes of a note: room for the signatures below, post-quantum ones included.
pub const NOTE_SIZE_MAX: usize = 512 << 10;
/// Signatures of a note.
pub const NOTE_SIGNATURES_MAX: usize = 100;

/// A text and signatures that nobody checked yet. What it says must be believed only after [`Note::signers`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

/// A line of a note: who claims to have signed, and the signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// The key's name.
    pub name: KeyName,
    /// The key's id.
    pub id: u32,
    /// The signature; its form depends on the key's type. Never empty in what was read.
    pub bytes: Vec<u8>,
}

/// Why bytes are no note.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoteError {
    /// It is larger than [`NOTE_SIZE_MAX`].
    #[error("the note has {found} bytes; at most {NOTE_SIZE_MAX} are read")]
    TooLarge {
        /// How many.
        found: usize,
    },
    /// It is no text, or has control characters.
    #[error("not a signed note: it is not UTF-8 text without control characters")]
    NotText,
    /// There is no empty line with signatures after it.
    #[error("not a signed note: it does not end in an empty line and lines with signatures")]
    NoSignatures,
    /// It has more signatures than [`NOTE_SIGNATURES_MAX`].
    #[error("the note has more than {NOTE_SIGNATURES_MAX} signatures")]
    TooManySignatures,
    /// A line is no signature.
    #[error("not a signature of a note: `{0}`; expected `— NAME BASE64`")]
    Line(String),
    /// A signature's name is no name of a key.
    #[error("not a signature of a note: {0}")]
    Name(#[source] KeyNameError),
}

/// Why nothing in a note may be believed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unverified {
    /// None of the known keys signed it.
    #[error("none of the {known} known keys signed it")]
    Unsigned {
        /// How many keys are known.
        known: usize,
    },
    /// A signature by a known key does not hold.
    #[error("the signature by {name} does not hold: {why}")]
    Signature {
        /// By which key.
        name: KeyName,
        /// Why.
        why: SignatureError,
    },
}

/// A known key that signed a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedBy<'k> {
    /// The key.
    pub key: &'k VerifierKey,
    /// When, if it is a cosignature; the last time if there are several.
    pub at: Option<UnixSeconds>,
}

impl Note {
    /// A text that nobody signed yet. It must be one or more whole lines without control characters.
    ///
    /// # Errors
    /// If it is not.
    pub fn unsigned(text: String) -> Result<Self, NoteError> {
        if text.len() > NOTE_SIZE_MAX {
            return Err(NoteError::TooLarge { found: text.len() });
        }
        if !text.ends_with('\n') || has_control(&text) {
            return Err(NoteError::NotText);
        }
        Ok(Self { text, signatures: Vec::new() })
    }

    /// Reads a note. Nothing in it is trusted yet.
    ///
    /// # Errors
    /// If it is none, or too large.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_SIZE_MAX {
            return Err(NoteError::TooLarge { found: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| NoteError::NotText)?;
        if has_control(text) {
            return Err(NoteError::NotText);
        }
        // The last empty line: the text may have some of its own.
        let end = text.rfind("\n\n").ok_or(NoteError::NoSignatures)?;
        let (text, lines) = (&text[..=end], &text[end + 2..]);
        let signatures = NoteSignature::parse_lines(lines)?;
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// The text, with its last line feed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures, in their order.
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Adds a signature, in place of earlier ones by the same key.
    pub fn add(&mut self, signature: NoteSignature) {
        self.signatures.retain(|earlier| (&earlier.name, earlier.id) != (&signature.name, signature.id));
        self.signatures.push(signature);
    }

    /// Which of the known keys signed, in the order of the keys and each once. Signatures by other keys are ignored, as
    /// the specification demands, also those that share a name or an id with a known one.
    ///
    /// # Errors
    /// If none did, or a signature by a known key does not hold: then the whole note is refused.
    pub fn signers<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k VerifierKey>,
    ) -> Result<Vec<SignedBy<'k>>, Unverified> {
        let mut signers = Vec::new();
        let mut known = 0;
        for key in keys {
            known += 1;
            let mut signer: Option<SignedBy<'k>> = None;
            for signature in self.signatures.iter().filter(|signature| key.made(signature)) {
                let at = key.check(&self.text, &signature.bytes);
                let at = at.map_err(|why| Unverified::Signature { name: key.name().clone(), why })?;
                let before = signer.and_then(|signer| signer.at);
                signer = Some(SignedBy { key, at: at.max(before) });
            }
            signers.extend(signer);
        }
        if signers.is_empty() { Err(Unverified::Unsigned { known }) } else { Ok(signers) }
    }

    /// The note without the signatures by other keys than these.
    pub(crate) fn only_by(&self, keys: &[VerifierKey]) -> Self {
        let known = |signature: &&NoteSignature| keys.iter().any(|key| key.made(signature));
        Self { text: self.text.clone(), signatures: self.signatures.iter().filter(known).cloned().collect() }
    }
}

fn has_control(text: &str) -> bool {
    text.bytes().any(|byte| byte < 0x20 && byte != b'\n')
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

impl NoteSignature {
    /// Reads lines with a signature each, and nothing else.
    ///
    /// # Errors
    /// If there are none or too many, or one is no signature.
    pub fn parse_lines(lines: &str) -> Result<Vec<Self>, NoteError> {
        let lines = lines.strip_suffix('\n').ok_or(NoteError::NoSignatures)?;
        if lines.split('\n').nth(NOTE_SIGNATURES_MAX).is_some() {
            return Err(NoteError::TooManySignatures);
        }
        lines.split('\n').map(Self::parse).collect()
    }

    fn parse(line: &str) -> Result<Self, NoteError> {
        let wrong = || NoteError::Line(excerpt(line));
        let (name, signature) = line.strip_prefix("— ").and_then(|rest| rest.split_once(' ')).ok_or_else(wrong)?;
        let bytes = parse_base64(signature).ok_or_else(wrong)?;
        match bytes.split_first_chunk() {
            Some((id, bytes)) if !bytes.is_empty() => {
                let name = name.parse().map_err(NoteError::Name)?;
                Ok(Self { name, id: u32::from_be_bytes(*id), bytes: bytes.to_vec() })
            }
            _ => Err(wrong()),
        }
    }
}

/// The line, without its end.
impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.id.to_be_bytes()[..], &self.bytes].concat();
        write!(f, "— {} {}", self.name, base64(&bytes))
    }
}
