//! What a log asks a witness, and the answers (`tlog-witness`).

use crate::note::{NOTE_SIZE_MAX, Note, NoteError, NoteSignature};
use crate::proof::PROOF_LEN_MAX;
use crate::text::{base64, excerpt, parse_decimal, parse_digest};
use caii_model::Digest;
use std::fmt;
use thiserror::Error;

/// Bytes of a request: the head, 63 hashes, a note.
pub const REQUEST_SIZE_MAX: usize = NOTE_SIZE_MAX + 4_096;

/// The body of `add-checkpoint`: a checkpoint, and the proof that it continues the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size of the tree that the witness is believed to have cosigned last.
    pub old_size: u64,
    /// The proof that the checkpoint continues it.
    pub proof: Vec<Digest>,
    /// The checkpoint.
    pub note: Note,
}

/// Why bytes are no such request.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RequestError {
    /// It is larger than [`REQUEST_SIZE_MAX`].
    #[error("the request has {found} bytes; at most {REQUEST_SIZE_MAX} are read")]
    TooLarge {
        /// How many.
        found: usize,
    },
    /// The first line is not `old` and a size.
    #[error("not a request to a witness: the first line is not `old` and a size")]
    Old,
    /// A line of the proof is no digest.
    #[error("not a request to a witness: `{0}` is not a SHA-256 digest in base64")]
    Hash(String),
    /// The proof is too long.
    #[error("not a request to a witness: the proof has more than {PROOF_LEN_MAX} lines")]
    ProofTooLong,
    /// There is no empty line after the proof.
    #[error("not a request to a witness: no empty line before the checkpoint")]
    NoCheckpoint,
    /// What follows is no signed note.
    #[error("not a request to a witness: {0}")]
    Note(#[source] NoteError),
}

impl AddCheckpoint {
    /// Reads a request. Nothing in it is trusted yet.
    ///
    /// # Errors
    /// If it is none, or too large.
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        if body.len() > REQUEST_SIZE_MAX {
            return Err(RequestError::TooLarge { found: body.len() });
        }
        let (head, note) = split_head(body).ok_or(RequestError::NoCheckpoint)?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).and_then(parse_decimal);
        let old_size = old.ok_or(RequestError::Old)?;
        let proof = parse_proof(lines).map_err(|wrong| wrong.map_or(RequestError::ProofTooLong, RequestError::Hash))?;
        Ok(Self { old_size, proof, note: Note::parse(note).map_err(RequestError::Note)? })
    }
}

/// The lines before the first empty one, without its line feeds, and the bytes after it.
pub(crate) fn split_head(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n")?;
    Some((std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 2..]))
}

/// A digest a line; the line that is none, or nothing if there are too many.
pub(crate) fn parse_proof<'t>(lines: impl Iterator<Item = &'t str>) -> Result<Vec<Digest>, Option<String>> {
    let mut proof = Vec::new();
    for line in lines {
        if proof.len() == PROOF_LEN_MAX {
            return Err(None);
        }
        proof.push(parse_digest(line).ok_or_else(|| Some(excerpt(line)))?);
    }
    Ok(proof)
}

/// The body as it is sent.
impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old_size)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{}", base64(&hash.0)))?;
        write!(f, "\n{}", self.note)
    }
}

/// Reads a witness's answer: cosignatures. They are to be added to the checkpoint's note, and count as much as
/// [`Note::signers`] says then.
///
/// # Errors
/// If it is none, or too large.
pub fn parse_cosignatures(body: &[u8]) -> Result<Vec<NoteSignature>, NoteError> {
    if body.len() > NOTE_SIZE_MAX {
        return Err(NoteError::TooLarge { found: body.len() });
    }
    NoteSignature::parse_lines(std::str::from_utf8(body).map_err(|_| NoteError::NotText)?)
}

/// Reads what a witness answers with 409: the size of the tree that it cosigned last.
pub fn parse_known_size(body: &[u8]) -> Option<u64> {
    std::str::from_utf8(body).ok()?.strip_suffix('\n').and_then(parse_decimal)
}
