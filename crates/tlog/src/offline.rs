//! The proof that a person keeps (`tlog-proof`): that an entry is in the log and that witnesses saw the log so. It is
//! verified without asking anybody.

use crate::checkpoint::Checkpoint;
use crate::note::{NOTE_SIZE_MAX, Note, NoteError};
use crate::policy::{Accepted, Policy, PolicyRefused};
use crate::proof::{PROOF_LEN_MAX, ProofError, prove_inclusion, verify_inclusion};
use crate::reader::TileReader;
use crate::request::{parse_proof, split_head};
use crate::text::{base64, parse_base64, parse_decimal};
use caii_model::Digest;
use std::fmt;
use thiserror::Error;

const HEAD: &str = "c2sp.org/tlog-proof@v1";

/// Bytes of the extra data.
pub const EXTRA_SIZE_MAX: usize = 64 << 10;
/// Bytes of a proof's file.
pub const OFFLINE_PROOF_SIZE_MAX: usize = NOTE_SIZE_MAX + (96 << 10);

/// An entry's place, the hashes that lead from it to a root, and the checkpoint with that root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfflineProof {
    /// What whoever made the file added, for instance what the entry commits to. Nothing vouches for it.
    pub extra: Vec<u8>,
    /// The entry's number in the log.
    pub index: u64,
    /// The hashes, from the leaf up.
    pub proof: Vec<Digest>,
    /// The checkpoint.
    pub checkpoint: Note,
}

/// Why bytes are no such file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OfflineProofError {
    /// It is larger than [`OFFLINE_PROOF_SIZE_MAX`].
    #[error("the proof has {found} bytes; at most {OFFLINE_PROOF_SIZE_MAX} are read")]
    TooLarge {
        /// How many.
        found: usize,
    },
    /// The first line is another one.
    #[error("not a proof: the first line is not `{HEAD}`")]
    Head,
    /// The extra data is no base64, empty, or too large.
    #[error("not a proof: the extra data is not the base64 of 1 to {EXTRA_SIZE_MAX} bytes")]
    Extra,
    /// There is no line with the index.
    #[error("not a proof: no line with `index` and a number")]
    Index,
    /// A line is no digest.
    #[error("not a proof: `{0}` is not a SHA-256 digest in base64")]
    Hash(String),
    /// There are too many hashes.
    #[error("not a proof: it has more than {PROOF_LEN_MAX} hashes")]
    TooLong,
    /// There is no empty line after the hashes.
    #[error("not a proof: no empty line before the checkpoint")]
    NoCheckpoint,
    /// What follows is no signed note.
    #[error("not a proof: {0}")]
    Note(#[source] NoteError),
}

/// Why a proof does not prove that an entry is in a log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OfflineProofRefused {
    /// The checkpoint is not what the policy asks for.
    #[error(transparent)]
    Policy(PolicyRefused),
    /// The hashes do not lead from this entry at this place to the root.
    #[error("the proof does not show that this is entry {index} of the log of {size}")]
    NotIncluded {
        /// The place.
        index: u64,
        /// The log's size.
        size: u64,
    },
}

impl OfflineProof {
    /// The proof for the entry at `index`, under a checkpoint and its note with all signatures.
    ///
    /// # Errors
    /// If there is no such entry, or the files are not those of the checkpoint's tree.
    pub fn make<R: TileReader + ?Sized>(
        checkpoint: &Checkpoint,
        note: Note,
        index: u64,
        reader: &R,
    ) -> Result<Self, ProofError<R::Error>> {
        let proof = prove_inclusion(&checkpoint.tree, index, reader)?;
        Ok(Self { extra: Vec::new(), index, proof, checkpoint: note })
    }

    /// Reads a file. Nothing in it is trusted yet.
    ///
    /// # Errors
    /// If it is no proof, or too large.
    pub fn parse(bytes: &[u8]) -> Result<Self, OfflineProofError> {
        if bytes.len() > OFFLINE_PROOF_SIZE_MAX {
            return Err(OfflineProofError::TooLarge { found: bytes.len() });
        }
        let (head, note) = split_head(bytes).ok_or(OfflineProofError::NoCheckpoint)?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(HEAD) {
            return Err(OfflineProofError::Head);
        }
        let extra = match lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            None => Vec::new(),
            Some(text) => {
                lines.next();
                let fits = |extra: &Vec<u8>| (1..=EXTRA_SIZE_MAX).contains(&extra.len());
                parse_base64(text).filter(fits).ok_or(OfflineProofError::Extra)?
            }
        };
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(parse_decimal);
        let index = index.ok_or(OfflineProofError::Index)?;
        let proof = parse_proof(lines);
        let proof = proof.map_err(|wrong| wrong.map_or(OfflineProofError::TooLong, OfflineProofError::Hash))?;
        Ok(Self { extra, index, proof, checkpoint: Note::parse(note).map_err(OfflineProofError::Note)? })
    }

    /// Whether this proves that `entry` is in a log of the policy, seen by the witnesses that it asks for. The checkpoint
    /// and who signed it come back.
    ///
    /// # Errors
    /// If not.
    pub fn verify<'p>(&self, entry: &Digest, policy: &'p Policy) -> Result<Accepted<'p>, OfflineProofRefused> {
        let accepted = policy.accept(&self.checkpoint).map_err(OfflineProofRefused::Policy)?;
        let tree = accepted.checkpoint.tree;
        if verify_inclusion(&tree, self.index, entry, &self.proof) {
            Ok(accepted)
        } else {
            Err(OfflineProofRefused::NotIncluded { index: self.index, size: tree.size })
        }
    }
}

/// The file.
impl fmt::Display for OfflineProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}")?;
        if !self.extra.is_empty() {
            writeln!(f, "extra {}", base64(&self.extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{}", base64(&hash.0)))?;
        write!(f, "\n{}", self.checkpoint)
    }
}
