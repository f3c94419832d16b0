//! Publishing: what happened goes in; the files to write come out, in the order in which they must become durable.
//!
//! Everything but the checkpoint and `pool.json` is a file that never changes, except that an opening may be erased. The
//! checkpoint is last: until it is written nobody looks at the others.

use crate::files::{CHECKPOINT, FileError, Files, POOL, PoolFile, Tiles, tariff_path};
use crate::logged::{ENTRY_SIZE_MAX, Logged};
use crate::opening::{
    ATTACHMENT_SIZE_MAX, OPENINGS_WIDTH, Opening, Openings, OpeningsError, SIGNED_FOR, bundle_digest, openings_path,
};
use caii_ledger::tariff_json;
use caii_model::{Digest, Timestamp};
use caii_tlog::{
    Checkpoint, CheckpointError, Log, LogFull, Note, NoteError, NoteSigner, ResumeError, TileError, Unbelievable,
    read_entries,
};
use caii_trust::SigningKey;
use thiserror::Error;

/// A pool's log that can be appended to. It remembers the log's right edge and the openings beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publisher {
    pool: PoolFile,
    log: Log,
    /// Entries and openings of the bundle that is not full.
    entries: Vec<Digest>,
    openings: Vec<Opening>,
    /// When the last known entry happened: none before it can follow.
    last: Timestamp,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What is logged.
    pub logged: Logged,
    /// What it names by its digest: the envelope of a certification. Empty for all else.
    pub attachment: Vec<u8>,
}

impl From<Logged> for Event {
    fn from(logged: Logged) -> Self {
        Self { logged, attachment: vec![] }
    }
}

/// Who signs. The log's key is for checkpoints alone.
#[derive(Debug, Clone, Copy)]
pub struct Signers<'a> {
    /// The keys of the log.
    pub log: &'a [&'a NoteSigner],
    /// The pool's key.
    pub pool: &'a SigningKey,
}

/// A file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedFile {
    /// Its path, with slashes.
    pub path: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// What publishing came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// What takes the publisher's place once all files are durable.
    pub publisher: Publisher,
    /// In the order in which they must become durable; the last is the checkpoint.
    pub files: Vec<PublishedFile>,
}

/// Why nothing was published.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PublishError {
    /// The log is full.
    #[error(transparent)]
    Full(#[from] LogFull),
    /// It happened before what was published last.
    #[error(
        "event {place} happened at {at:?}, before what was published last ({last:?}); publish in the order in which things happen"
    )]
    Earlier {
        /// Its place among the events.
        place: usize,
        /// When.
        at: Timestamp,
        /// What was published last.
        last: Timestamp,
    },
    /// It is larger than anybody reads.
    #[error("event {place} has {found} bytes, which is more than is read")]
    TooLarge {
        /// Its place among the events.
        place: usize,
        /// Its bytes.
        found: usize,
    },
    /// The checkpoint cannot be signed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// Why published files cannot be gone on with.
#[derive(Debug, Error)]
pub enum TakeUpError {
    /// A file is not there or cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The checkpoint is no note.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The checkpoint is not one of this log.
    #[error(transparent)]
    Checkpoint(#[from] Unbelievable),
    /// The log's edge is not that of the checkpoint.
    #[error(transparent)]
    Log(#[from] ResumeError<FileError>),
    /// An entry bundle is damaged.
    #[error(transparent)]
    Tile(#[from] TileError<FileError>),
    /// A file of openings is damaged.
    #[error("`{path}`: {why}")]
    Openings {
        /// Its path.
        path: String,
        /// Why.
        why: OpeningsError,
    },
    /// An opening is not that of its entry.
    #[error("the opening of entry {index} does not open it; restore `{path}` from a copy")]
    OtherOpening {
        /// The entry.
        index: u64,
        /// The file.
        path: String,
    },
    /// There is no such entry.
    #[error("there is no entry {index} in a log of {size}")]
    NoEntry {
        /// Which was asked for.
        index: u64,
        /// How many there are.
        size: u64,
    },
}

impl Publisher {
    /// Of a pool that has published nothing. The first event must be [`Logged::PoolOpened`].
    pub fn new(pool: PoolFile) -> Self {
        Self { pool, log: Log::default(), entries: vec![], openings: vec![], last: Timestamp(0) }
    }

    /// How many entries there are: the number of the next one.
    pub fn size(&self) -> u64 {
        self.log.tree().size
    }

    /// Goes on from published files, as their checkpoint says they are; whatever was written after it is written again.
    ///
    /// # Errors
    /// If the files at the log's right edge are not those of the checkpoint.
    pub fn take_up(pool: PoolFile, files: &dyn Files) -> Result<Self, TakeUpError> {
        let note = Note::parse(&files.read(CHECKPOINT)?)?;
        let (checkpoint, _) = Checkpoint::open(&note, &pool.origin, &pool.log)?;
        let log = Log::resume(checkpoint.tree, &Tiles(files))?;
        let mut publisher = Self { log, ..Self::new(pool) };
        let size = publisher.size();
        let width = size as usize % OPENINGS_WIDTH;
        if size > 0 {
            let number = (size - 1) / OPENINGS_WIDTH as u64;
            let (entries, openings) = read_bundle(files, size, number)?;
            let last = openings.iter().rev().find_map(|opening| match opening {
                Opening::Open { bytes, .. } => Logged::from_canonical(bytes).ok(),
                Opening::Erased { .. } => None,
            });
            publisher.last = last.map_or(Timestamp(0), |logged| logged.at());
            if width > 0 {
                (publisher.entries, publisher.openings) = (entries, openings);
            }
        }
        Ok(publisher)
    }

    /// Appends what happened. The publisher changes nothing by itself: what comes back takes its place once the files are
    /// durable. `entropy` must be random, used for nothing else and forgotten: the salts follow from it, and who knows a
    /// salt can test guesses about what was erased.
    ///
    /// # Errors
    /// If an event cannot be published; then none is.
    pub fn append(
        &self,
        events: &[Event],
        entropy: &[u8; 32],
        signers: Signers<'_>,
    ) -> Result<Published, PublishError> {
        let mut last = self.last;
        for (place, event) in events.iter().enumerate() {
            let at = event.logged.at();
            if at < last {
                return Err(PublishError::Earlier { place, at, last });
            }
            last = at;
        }
        self.append_anyhow(events, entropy, signers)
    }

    /// As [`Publisher::append`] without a look at the times, for tests of the audit: it publishes what is red.
    #[doc(hidden)]
    pub fn append_anyhow(
        &self,
        events: &[Event],
        entropy: &[u8; 32],
        signers: Signers<'_>,
    ) -> Result<Published, PublishError> {
        let mut next = self.clone();
        let mut files = Vec::new();
        let mut all = Vec::with_capacity(events.len());
        let mut full = Vec::new();
        if self.size() == 0 {
            files.push(PublishedFile { path: POOL.into(), bytes: self.pool.to_json() });
        }
        for (place, Event { logged, attachment }) in events.iter().enumerate() {
            next.last = logged.at();
            let bytes = logged.to_canonical();
            let found = bytes.len().max(attachment.len());
            if bytes.len() > ENTRY_SIZE_MAX || attachment.len() > ATTACHMENT_SIZE_MAX {
                return Err(PublishError::TooLarge { place, found });
            }
            if let Logged::TariffEnacted { tariff, .. } = logged {
                let bytes = tariff_json::to_json(tariff).into_bytes();
                files.push(PublishedFile { path: tariff_path(&tariff.digest()), bytes });
            }
            let salt = salt(entropy, place as u64);
            let opening = Opening::Open { salt, bytes, attachment: attachment.clone() };
            let entry = opening.entry().expect("it is open");
            all.push(entry);
            next.entries.push(entry);
            next.openings.push(opening);
            if next.entries.len() == OPENINGS_WIDTH {
                let number = (self.size() + place as u64) / OPENINGS_WIDTH as u64;
                full.push(next.openings_file(number, signers));
                (next.entries, next.openings) = (vec![], vec![]);
            }
        }
        let appended = self.log.append(&all)?;
        next.log = appended.log;
        files.extend(full);
        if !next.entries.is_empty() && !all.is_empty() {
            files.push(next.openings_file(next.size() / OPENINGS_WIDTH as u64, signers));
        }
        let tile = |(tile, bytes): (caii_tlog::Tile, Vec<u8>)| PublishedFile { path: tile.to_string(), bytes };
        files.extend(appended.files.into_iter().map(tile));
        let checkpoint = Checkpoint::new(self.pool.origin.clone(), next.log.tree()).sign(signers.log)?;
        files.push(PublishedFile { path: CHECKPOINT.into(), bytes: checkpoint.to_string().into_bytes() });
        Ok(Published { publisher: next, files })
    }

    fn openings_file(&self, number: u64, signers: Signers<'_>) -> PublishedFile {
        let signature = signers.pool.sign(SIGNED_FOR, &bundle_digest(number, &self.entries));
        let bytes = Openings { openings: self.openings.clone(), signature }.to_bytes();
        PublishedFile { path: openings_path(number, self.openings.len()), bytes }
    }

    /// Erases the opening of an entry. The file that comes back must take the place of the one of its path; the publisher,
    /// of this one. Partial files of the same bundle that were written earlier must be deleted, and so must every copy.
    ///
    /// # Errors
    /// If there is no such entry, or its file is damaged.
    pub fn erase(&self, files: &dyn Files, index: u64) -> Result<(Self, PublishedFile), TakeUpError> {
        let size = self.size();
        if index >= size {
            return Err(TakeUpError::NoEntry { index, size });
        }
        let number = index / OPENINGS_WIDTH as u64;
        let width = (size - number * OPENINGS_WIDTH as u64).min(OPENINGS_WIDTH as u64) as usize;
        let path = openings_path(number, width);
        let read = Openings::from_bytes(&files.read(&path)?, width);
        let mut openings = read.map_err(|why| TakeUpError::Openings { path: path.clone(), why })?;
        let place = index as usize % OPENINGS_WIDTH;
        if let Opening::Open { bytes, .. } = &openings.openings[place] {
            let kind = crate::Kind::of(bytes).ok_or(TakeUpError::OtherOpening { index, path: path.clone() })?;
            openings.openings[place] = Opening::Erased { kind };
        }
        let mut next = self.clone();
        if let Some(mine) = next.openings.get_mut(place).filter(|_| width < OPENINGS_WIDTH) {
            *mine = openings.openings[place].clone();
        }
        Ok((next, PublishedFile { path, bytes: openings.to_bytes() }))
    }
}

fn read_bundle(files: &dyn Files, size: u64, number: u64) -> Result<(Vec<Digest>, Vec<Opening>), TakeUpError> {
    let entries = read_entries(&Tiles(files), size, number)?;
    let path = openings_path(number, entries.len());
    let read = Openings::from_bytes(&files.read(&path)?, entries.len());
    let Openings { openings, .. } = read.map_err(|why| TakeUpError::Openings { path: path.clone(), why })?;
    let other = |(entry, opening): (&Digest, &Opening)| opening.entry().is_some_and(|opened| opened != *entry);
    if let Some(place) = entries.iter().zip(&openings).position(other) {
        return Err(TakeUpError::OtherOpening { index: number * OPENINGS_WIDTH as u64 + place as u64, path });
    }
    Ok((entries, openings))
}

/// SHA-256 of `caii salt 1`, the entropy and the place.
fn salt(entropy: &[u8; 32], place: u64) -> [u8; 32] {
    Digest::of(&[&b"caii salt 1"[..], entropy, &place.to_le_bytes()].concat()).0
}
