//! A witness (`tlog-witness`): it cosigns a log's checkpoint only if that continues the one it cosigned last, so that no
//! log can show one tree to some and another to others without a witness on each side taking part.

use crate::checkpoint::{Checkpoint, CheckpointError, Origin, SplitView, Unbelievable};
use crate::key::{Cosigner, UnixSeconds, VerifierKey};
use crate::note::{Note, NoteError, Unverified};
use crate::proof::verify_consistency;
use crate::request::{AddCheckpoint, RequestError};
use crate::tile::Tree;
use caii_model::Timestamp;
use std::collections::BTreeMap;
use thiserror::Error;

/// A witness with the logs that it knows.
#[derive(Debug, Clone)]
pub struct Witness {
    cosigner: Cosigner,
    logs: BTreeMap<Origin, KnownLog>,
}

/// A log that a witness knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownLog {
    /// Its keys: one, or two while it changes from one to the other.
    pub keys: Vec<VerifierKey>,
    /// The checkpoint that was cosigned last, with the log's signatures: what to show if the log ever denies it.
    last: Option<(Tree, Note)>,
}

impl KnownLog {
    /// The tree that was cosigned last; the empty one before the first.
    pub fn tree(&self) -> Tree {
        self.last.as_ref().map_or(Tree::empty(), |(tree, _)| *tree)
    }
}

/// A checkpoint was cosigned.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "what was cosigned must be made durable before it is answered"]
pub struct Cosigned {
    /// The log.
    pub origin: Origin,
    /// Its tree.
    pub tree: Tree,
    note: Note,
    line: String,
}

impl Cosigned {
    /// What must be durable before [`Cosigned::answer`] is sent, in place of what was stored for this log before: the
    /// checkpoint with the log's signatures and the cosignature. [`Witness::know`] takes it up again.
    pub fn state(&self) -> String {
        self.note.to_string()
    }

    /// The body of the answer, to be sent once the state is durable: the cosignature's line.
    pub fn answer(self) -> String {
        self.line
    }
}

/// Why a checkpoint is not cosigned.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WitnessRefusal {
    /// The request cannot be read.
    #[error(transparent)]
    Malformed(RequestError),
    /// What is to be cosigned is no checkpoint.
    #[error(transparent)]
    NoCheckpoint(CheckpointError),
    /// The witness does not know this log.
    #[error("the log `{0}` is not known to this witness")]
    LogUnknown(Origin),
    /// The log did not sign it.
    #[error("the checkpoint of `{origin}` is not signed by the log: {why}")]
    Unsigned {
        /// The log.
        origin: Origin,
        /// Why.
        why: Unverified,
    },
    /// The old size is beyond the checkpoint's.
    #[error("the old size {old} is beyond the checkpoint's size {new}")]
    OldBeyondNew {
        /// The old size.
        old: u64,
        /// The checkpoint's size.
        new: u64,
    },
    /// The old size is not that of the checkpoint cosigned last.
    #[error("the checkpoint cosigned last has {known} entries, not {old}; prove consistency with that one")]
    OtherOldSize {
        /// What the request says.
        old: u64,
        /// What the witness knows.
        known: u64,
    },
    /// The proof does not hold: the log's tree does not continue the one cosigned last, or the proof is wrong.
    #[error("the proof does not show that the tree of {} entries continues the one of {} cosigned last", new.size, old.size)]
    Inconsistent {
        /// The tree cosigned last.
        old: Tree,
        /// The tree of the checkpoint.
        new: Tree,
    },
    /// The log signed two trees of one size: what was cosigned last and what came now. Both notes are kept here, since
    /// together they are the evidence.
    #[error("{view}")]
    SplitView {
        /// The two trees.
        view: Box<SplitView>,
        /// What was cosigned last.
        known: Box<Note>,
        /// What came now.
        new: Box<Note>,
    },
}

impl WitnessRefusal {
    /// The status of the HTTP answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) | Self::NoCheckpoint(_) | Self::OldBeyondNew { .. } => 400,
            Self::Unsigned { .. } => 403,
            Self::LogUnknown(_) => 404,
            Self::OtherOldSize { .. } | Self::SplitView { .. } => 409,
            Self::Inconsistent { .. } => 422,
        }
    }

    /// The type and the body of the HTTP answer. With another old size it is the one that the witness knows.
    pub fn body(&self) -> (&'static str, String) {
        match self {
            Self::OtherOldSize { known, .. } => ("text/x.tlog.size", format!("{known}\n")),
            Self::Malformed(_)
            | Self::NoCheckpoint(_)
            | Self::LogUnknown(_)
            | Self::Unsigned { .. }
            | Self::OldBeyondNew { .. }
            | Self::Inconsistent { .. }
            | Self::SplitView { .. } => ("text/plain; charset=utf-8", format!("{self}\n")),
        }
    }
}

/// Why what was stored of a log cannot be taken up again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RestoreError {
    /// It is no signed note.
    #[error("what was stored of the log `{origin}` is damaged: {why}; restore it, or the witness could sign two trees")]
    Note {
        /// The log.
        origin: Origin,
        /// Why.
        why: NoteError,
    },
    /// It is no checkpoint of this log, or not signed by one of its keys.
    #[error("what was stored of a log is of no use: {0}; restore it, or the witness could sign two trees")]
    Checkpoint(#[source] Unbelievable),
}

impl Witness {
    /// A witness that knows no log yet.
    pub fn new(cosigner: Cosigner) -> Self {
        Self { cosigner, logs: BTreeMap::new() }
    }

    /// What verifies its cosignatures.
    pub fn key(&self) -> &VerifierKey {
        self.cosigner.key()
    }

    /// The logs that it knows.
    pub fn logs(&self) -> impl Iterator<Item = (&Origin, &KnownLog)> {
        self.logs.iter()
    }

    /// Makes a log known, with what was stored when its last checkpoint was cosigned ([`Cosigned::state`]). Nothing must
    /// be said to be stored only if no checkpoint of this log was ever cosigned.
    ///
    /// # Errors
    /// If what was stored is not a checkpoint of this log, signed by one of the keys.
    pub fn know(&mut self, origin: Origin, keys: Vec<VerifierKey>, stored: Option<&[u8]>) -> Result<(), RestoreError> {
        let last = match stored {
            None => None,
            Some(stored) => {
                let note = Note::parse(stored).map_err(|why| RestoreError::Note { origin: origin.clone(), why })?;
                let opened = Checkpoint::open(&note, &origin, &keys).map_err(RestoreError::Checkpoint)?;
                Some((opened.0.tree, note))
            }
        };
        self.logs.insert(origin, KnownLog { keys, last });
        Ok(())
    }

    /// Answers the body of an `add-checkpoint` request; see [`Witness::add_checkpoint`].
    ///
    /// # Errors
    /// If it is not cosigned.
    pub fn answer(&mut self, body: &[u8], now: Timestamp) -> Result<Cosigned, WitnessRefusal> {
        let request = AddCheckpoint::parse(body).map_err(WitnessRefusal::Malformed)?;
        self.add_checkpoint(&request, now)
    }

    /// Cosigns a checkpoint that continues the one cosigned last. From here on the witness goes on from the new one, so
    /// that no two requests can be answered from the same state. If the new state cannot be made durable, the answer must
    /// not be sent, and the witness must be made anew from what is stored.
    ///
    /// # Errors
    /// If it is not cosigned. The checks stand in the order of the specification.
    pub fn add_checkpoint(&mut self, request: &AddCheckpoint, now: Timestamp) -> Result<Cosigned, WitnessRefusal> {
        let AddCheckpoint { old_size, proof, note } = request;
        let checkpoint = Checkpoint::parse(note.text()).map_err(WitnessRefusal::NoCheckpoint)?;
        let Checkpoint { origin, tree, .. } = checkpoint.clone();
        let Some(log) = self.logs.get_mut(&origin) else {
            return Err(WitnessRefusal::LogUnknown(origin));
        };
        if let Err(why) = note.signers(&log.keys) {
            return Err(WitnessRefusal::Unsigned { origin, why });
        }
        if *old_size > tree.size {
            return Err(WitnessRefusal::OldBeyondNew { old: *old_size, new: tree.size });
        }
        let known = log.tree();
        if *old_size != known.size {
            return Err(WitnessRefusal::OtherOldSize { old: *old_size, known: known.size });
        }
        if let Some((last, evidence)) = &log.last
            && last.size == tree.size
            && proof.is_empty()
        {
            let last = Checkpoint { tree: *last, ..checkpoint.clone() };
            if let Some(view) = SplitView::between(&last, &checkpoint) {
                let (known, new) = (Box::new(evidence.clone()), Box::new(note.only_by(&log.keys)));
                return Err(WitnessRefusal::SplitView { view: Box::new(view), known, new });
            }
        }
        if !verify_consistency(&known, &tree, proof) {
            return Err(WitnessRefusal::Inconsistent { old: known, new: tree });
        }
        let mut note = note.only_by(&log.keys);
        log.last = Some((tree, note.clone()));
        let signature = self.cosigner.cosign(note.text(), UnixSeconds(now.unix_seconds()));
        let line = format!("{signature}\n");
        note.add(signature);
        Ok(Cosigned { origin, tree, note, line })
    }
}
