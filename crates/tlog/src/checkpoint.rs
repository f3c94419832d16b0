//! Checkpoints (`tlog-checkpoint`): the note in which a log says how many entries it has and what the root over them is.

use crate::key::{NoteSigner, VerifierKey};
use crate::note::{Note, NoteError, SignedBy, Unverified};
use crate::text::{base64, excerpt, parse_decimal, parse_digest};
use crate::tile::{TREE_SIZE_MAX, Tree};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Bytes of an origin: what the post-quantum cosignature has room for.
pub const ORIGIN_LEN_MAX: usize = 255;

/// Which log it is: a line that is unique to it, by custom a URL without its scheme.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin(String);

/// The text is no origin.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is no origin of a log: it must be one line of 1 to {ORIGIN_LEN_MAX} bytes without control characters")]
pub struct OriginError(String);

impl Origin {
    /// The line.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let fits = (1..=ORIGIN_LEN_MAX).contains(&text.len()) && !text.contains(|c: char| c < ' ');
        if fits { Ok(Self(text.to_owned())) } else { Err(OriginError(excerpt(text))) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a log says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: Origin,
    /// Its tree.
    pub tree: Tree,
    /// Further lines, whose meaning is the log's own. CAII's logs have none.
    pub extensions: Vec<String>,
}

/// Why a note's text is no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CheckpointError {
    /// It is no signed note.
    #[error("the checkpoint cannot be read: {0}")]
    Note(#[source] NoteError),
    /// It has fewer than three lines.
    #[error("not a checkpoint: expected an origin, a size and a root, a line each")]
    Lines,
    /// The first line is no origin.
    #[error("not a checkpoint: {0}")]
    Origin(#[source] OriginError),
    /// The second line is no size.
    #[error("not a checkpoint: `{0}` is not the size of a log")]
    Size(String),
    /// The third line is no root.
    #[error("not a checkpoint: `{0}` is not a SHA-256 digest in base64")]
    Root(String),
    /// A further line is empty.
    #[error("not a checkpoint: an extension line is empty")]
    Extension,
}

/// Why a checkpoint must not be believed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unbelievable {
    /// It is none.
    #[error(transparent)]
    Form(CheckpointError),
    /// It is of another log.
    #[error("the checkpoint is of the log `{found}`, not of `{expected}`")]
    OtherLog {
        /// Which log was expected.
        expected: Origin,
        /// Which it is.
        found: Origin,
    },
    /// The log did not sign it.
    #[error("the checkpoint of `{origin}` is not signed by the log: {why}")]
    Unverified {
        /// Which log.
        origin: Origin,
        /// Why.
        why: Unverified,
    },
}

impl Checkpoint {
    /// Of a log without extension lines.
    pub fn new(origin: Origin, tree: Tree) -> Self {
        Self { origin, tree, extensions: Vec::new() }
    }

    /// The text that is signed.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n{}\n{}\n", self.origin, self.tree.size, base64(&self.tree.root.0));
        for line in &self.extensions {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// The note, signed by these keys of the log. A log must sign no two checkpoints of which one does not continue the
    /// other: the files of this tree must be durable, and the tree must continue that of the last signed checkpoint.
    ///
    /// # Errors
    /// If an extension line is none.
    pub fn sign(&self, signers: &[&NoteSigner]) -> Result<Note, CheckpointError> {
        let text = self.text();
        if Self::parse(&text)? != *self {
            return Err(CheckpointError::Extension);
        }
        let mut note = Note::unsigned(text).map_err(CheckpointError::Note)?;
        for signer in signers {
            note.add(signer.sign(note.text()));
        }
        Ok(note)
    }

    /// Reads the text of a note. Nothing in it is trusted yet.
    ///
    /// # Errors
    /// If it is no checkpoint.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.strip_suffix('\n').ok_or(CheckpointError::Lines)?.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(CheckpointError::Lines);
        };
        let origin = origin.parse().map_err(CheckpointError::Origin)?;
        let size = parse_decimal(size)
            .filter(|size| *size <= TREE_SIZE_MAX)
            .ok_or_else(|| CheckpointError::Size(excerpt(size)))?;
        let root = parse_digest(root).ok_or_else(|| CheckpointError::Root(excerpt(root)))?;
        let extensions: Vec<String> = lines.map(str::to_owned).collect();
        if extensions.iter().any(String::is_empty) {
            return Err(CheckpointError::Extension);
        }
        Ok(Self { origin, tree: Tree { size, root }, extensions })
    }

    /// Reads a note that must be a checkpoint of this log, signed by one of its keys. Who signed comes back too.
    ///
    /// # Errors
    /// If it is not.
    pub fn open<'k>(
        note: &Note,
        origin: &Origin,
        keys: impl IntoIterator<Item = &'k VerifierKey>,
    ) -> Result<(Self, Vec<SignedBy<'k>>), Unbelievable> {
        let checkpoint = Self::parse(note.text()).map_err(Unbelievable::Form)?;
        if checkpoint.origin != *origin {
            return Err(Unbelievable::OtherLog { expected: origin.clone(), found: checkpoint.origin });
        }
        let signers = note.signers(keys);
        let signers = signers.map_err(|why| Unbelievable::Unverified { origin: origin.clone(), why })?;
        Ok((checkpoint, signers))
    }
}

/// Two checkpoints of one log that cannot both be true. With the notes they came from, this is evidence against the log
/// that convinces anybody who knows its key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the log `{origin}` signed two trees of {size} entries: {} and {}", one.root, other.root)]
pub struct SplitView {
    /// The log.
    pub origin: Origin,
    /// The size of both.
    pub size: u64,
    /// One tree.
    pub one: Tree,
    /// The other tree.
    pub other: Tree,
}

impl SplitView {
    /// Compares two checkpoints, both opened with [`Checkpoint::open`]. Trees of different sizes need a consistency
    /// proof instead ([`verify_consistency`](crate::verify_consistency)).
    pub fn between(one: &Checkpoint, other: &Checkpoint) -> Option<Self> {
        let same = one.origin == other.origin && one.tree.size == other.tree.size;
        (same && one.tree.root != other.tree.root).then(|| Self {
            origin: one.origin.clone(),
            size: one.tree.size,
            one: one.tree,
            other: other.tree,
        })
    }
}
