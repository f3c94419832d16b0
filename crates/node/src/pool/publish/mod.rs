//! The publisher's thread: what the coordinator committed to the pool's log becomes files that everybody may read.
//!
//! The store has the log first; row N of it is entry N of what is published. The thread takes up at the files' own
//! checkpoint, so whatever it was doing when it ended is done again, and it never looks at the store unless it was told of
//! a commit.

mod board;
mod disk;
mod rows;
mod serving;
#[cfg(test)]
mod tests;
mod witnesses;

pub(crate) use board::{Board, WitnessState};
pub(crate) use disk::{Disk, RealDisk};

pub(crate) use rows::{Rows, RowsError};
pub(crate) use serving::{Named, named};
pub(crate) use witnesses::ask_witnesses;

use super::actor::describe;
use board::{Cosignature, Shown, Task};
use caii_audit::{
    CHECKPOINT, Event, FileError, Files as _, OPENINGS_WIDTH, Opening, Openings, PoolFile, PublishError, PublishedFile,
    Publisher, Signers, TakeUpError, openings_path, partial_files,
};
use caii_tlog::{Checkpoint, Note, NoteSigner};
use caii_trust::SigningKey;
use disk::Directory;
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// The last checkpoint that witnesses cosigned.
pub(crate) const COSIGNED: &str = "cosigned";
/// Says that a checkpoint was published once: without one, nothing must be published anew.
const BEGUN: &str = "log.begun";
const BEGUN_TEXT: &str = "The log in `published` was begun. Who saw it once would take another one for a forgery.\n";
/// Entries that are read at once, which keeps the coordinator's thread for a moment, and published at once.
const READ_MAX: usize = 512;
const BATCH_MAX: usize = 8_192;
/// After a failure, so long nothing is tried; doubled each time up to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Why the log is not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishingError {
    /// A file cannot be used.
    #[error("cannot {attempt} {path}")]
    Disk {
        /// What was tried.
        attempt: &'static str,
        /// In the pool's directory.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Entries cannot be had.
    #[error("cannot read the log from the pool's store")]
    Rows(#[source] RowsError),
    /// The store has fewer entries than it said.
    #[error("the pool's store has no entry {0} of the log, though it was committed: restore pool.db from a backup")]
    Missing(u64),
    /// The files are not those of a log, or not all of them.
    #[error("cannot go on with the published files; restore them from a copy")]
    TakeUp(#[source] TakeUpError),
    /// There is no checkpoint, and there was one.
    #[error(
        "the checkpoint of the published log is gone; restore `published` from a copy, or have it from who mirrors it. \
         Published anew the log would be another one, and look like a forgery"
    )]
    Gone,
    /// More is published than the store has.
    #[error(
        "{published} entries of the log are published and pool.db has {stored}: it is an older copy. Restore the newest \
         one, or start a new pool in another directory: going on would contradict what everybody can read"
    )]
    Ahead {
        /// Published entries.
        published: u64,
        /// Entries in the store.
        stored: u64,
    },
    /// What is published is not what the store has.
    #[error(
        "entry {0} of the published log is another one than in pool.db: they are of different pools, or one was restored \
         from an older copy. Restore both from one backup, or start a new pool in another directory"
    )]
    Other(u64),
    /// An entry cannot be published.
    #[error("cannot publish what was logged")]
    Publish(#[source] PublishError),
    /// The operating system gives no random numbers.
    #[error("cannot get random numbers from the operating system")]
    Entropy(#[source] getrandom::Error),
}

impl PublishingError {
    /// Whether store and files contradict each other: then the pool must not log anything more.
    pub(crate) fn is_contradiction(&self) -> bool {
        matches!(self, Self::Ahead { .. } | Self::Other(_))
    }
}

/// How fast it goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Entries are published together that come within this time.
    pub(crate) every: Duration,
    /// For so long a file at the edge stays when fuller ones are there: whoever read the checkpoint before needs it.
    pub(crate) edge_kept: Duration,
    /// Files that are not needed any more are removed together that came to that within this time.
    pub(crate) sweep_every: Duration,
}

impl Pace {
    /// A pool's.
    pub(crate) const POOL: Self = Self {
        every: Duration::from_millis(100),
        edge_kept: Duration::from_secs(60),
        sweep_every: Duration::from_secs(5),
    };
}

/// The keys and the name under which is published.
pub(crate) struct Identity {
    pub(crate) pool: PoolFile,
    pub(crate) log_key: NoteSigner,
    pub(crate) pool_key: SigningKey,
}

/// The publisher.
pub(crate) struct Publishing<R, D> {
    rows: R,
    dir: Directory<D>,
    identity: Identity,
    board: Arc<Board>,
    pace: Pace,
}

/// What is published, and how to go on with it.
pub(crate) struct Live {
    publisher: Publisher,
    /// Nothing before the first.
    checkpoint: Option<Note>,
    cosigned: Option<(u64, Note)>,
    /// Sizes whose files at the edge are not needed any more, and from when on.
    superseded: VecDeque<(Instant, u64)>,
}

impl<R: Rows, D: Disk> Publishing<R, D> {
    pub(crate) fn new(rows: R, disk: D, identity: Identity, board: Arc<Board>, pace: Pace) -> Self {
        Self { rows, dir: Directory(disk), identity, board, pace }
    }

    /// Publishes until the board says stop. What fails is tried again: the pool goes on meanwhile.
    pub(crate) fn run(mut self) {
        let mut pause = BACKOFF.0;
        loop {
            let error = match self.take_up().and_then(|live| self.publish(live, &mut pause)) {
                Ok(()) => return,
                Err(error) => error,
            };
            let reason = describe(&error);
            tracing::error!(%reason, pause_ms = pause.as_millis() as u64, "the log is not published; will be tried again");
            self.board.set_trouble(Some(reason));
            if !self.board.rest(pause) {
                return;
            }
            pause = (pause * 2).min(BACKOFF.1);
        }
    }

    /// Looks at what is published, and that it is what the store has.
    pub(crate) fn take_up(&mut self) -> Result<Live, PublishingError> {
        // A checkpoint that can be seen may not be durable yet. Before more is built on it, it must be.
        self.dir.settle()?;
        let begun = self.dir.has_beside(BEGUN)?;
        let unusable = |error| PublishingError::TakeUp(error);
        let live = match self.dir.read(CHECKPOINT) {
            Ok(bytes) => {
                let publisher = Publisher::take_up(self.identity.pool.clone(), &self.dir).map_err(unusable)?;
                self.compare(&publisher)?;
                let note = Note::parse(&bytes).map_err(|error| unusable(error.into()))?;
                let cosigned = self.cosigned(publisher.size())?;
                Live { publisher, checkpoint: Some(note), cosigned, superseded: VecDeque::new() }
            }
            Err(FileError::Missing { .. }) if begun => return Err(PublishingError::Gone),
            Err(FileError::Missing { .. }) => {
                let publisher = Publisher::new(self.identity.pool.clone());
                Live { publisher, checkpoint: None, cosigned: None, superseded: VecDeque::new() }
            }
            Err(error) => return Err(unusable(error.into())),
        };
        if live.checkpoint.is_some() && !begun {
            self.dir.write_beside(BEGUN, BEGUN_TEXT.as_bytes())?;
        }
        // Partial files of a batch that never got its checkpoint would stand in the way of others of their name.
        let needed = live.needed();
        let found = self.dir.partial_files()?;
        self.remove(found.into_iter().filter(|path| !needed.contains(path)));
        self.show(&live)?;
        Ok(live)
    }

    /// The last entries that are published must be those of the store.
    fn compare(&mut self, publisher: &Publisher) -> Result<(), PublishingError> {
        let (published, stored) = (publisher.size(), self.board.committed());
        if published > stored {
            return Err(PublishingError::Ahead { published, stored });
        }
        let Some(last) = published.checked_sub(1) else { return Ok(()) };
        let number = last / OPENINGS_WIDTH as u64;
        let start = number * OPENINGS_WIDTH as u64;
        let width = (published - start) as usize;
        let path = openings_path(number, width);
        let read = self.dir.read(&path).map_err(|error| PublishingError::TakeUp(error.into()))?;
        let read = Openings::from_bytes(&read, width);
        let openings = read.map_err(|why| PublishingError::TakeUp(TakeUpError::Openings { path, why }))?.openings;
        let rows = self.rows.rows(start, width).map_err(PublishingError::Rows)?;
        for (index, (place, opening)) in (start..).zip(openings.iter().enumerate()) {
            let row = rows.get(place).ok_or(PublishingError::Missing(index))?;
            match opening {
                Opening::Open { bytes, .. } if *bytes != row.logged.to_canonical() => {
                    return Err(PublishingError::Other(index));
                }
                Opening::Open { .. } | Opening::Erased { .. } => {}
            }
        }
        Ok(())
    }

    fn cosigned(&self, size: u64) -> Result<Option<(u64, Note)>, PublishingError> {
        let bytes = match self.dir.read(COSIGNED) {
            Ok(bytes) => bytes,
            Err(FileError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(PublishingError::TakeUp(error.into())),
        };
        let PoolFile { origin, log, .. } = &self.identity.pool;
        let note = Note::parse(&bytes).map_err(|error| error.to_string());
        let opened = note.and_then(|note| {
            let opened = Checkpoint::open(&note, origin, log).map(|(checkpoint, _)| checkpoint.tree.size);
            opened.map(|size| (size, note)).map_err(|error| error.to_string())
        });
        match opened {
            Ok((cosigned, note)) if cosigned <= size => Ok(Some((cosigned, note))),
            Ok((cosigned, _)) => {
                tracing::warn!(
                    cosigned,
                    size,
                    "the last cosigned checkpoint is beyond the log; witnesses are asked anew"
                );
                Ok(None)
            }
            Err(error) => {
                tracing::warn!(%error, "the last cosigned checkpoint is damaged; witnesses are asked anew");
                Ok(None)
            }
        }
    }

    /// Publishes what is committed, again and again; returns when the board says stop.
    fn publish(&mut self, mut live: Live, pause: &mut Duration) -> Result<(), PublishingError> {
        let mut append_from = Instant::now();
        loop {
            let size = live.publisher.size();
            if size == self.board.committed() {
                self.note_success(pause);
            }
            let sweep_from = live.superseded.front().map(|(from, _)| *from + self.pace.sweep_every);
            match self.board.next(size, append_from, sweep_from) {
                Task::Append => {
                    let begun = Instant::now();
                    let published = self.append(&mut live, BATCH_MAX)?;
                    self.note_success(pause);
                    // What is left over is not to wait.
                    append_from = if published < BATCH_MAX { begun + self.pace.every } else { begun };
                }
                Task::Cosign(cosignatures) => self.cosign(&mut live, cosignatures)?,
                Task::Sweep => self.sweep(&mut live),
                Task::Stop => return Ok(()),
            }
        }
    }

    fn note_success(&self, pause: &mut Duration) {
        *pause = BACKOFF.0;
        if self.board.set_trouble(None) {
            tracing::info!("the log is published again");
        }
    }

    /// Publishes the next entries, at most so many; how many it were.
    fn append(&mut self, live: &mut Live, most: usize) -> Result<usize, PublishingError> {
        let size = live.publisher.size();
        let left = self.board.committed() - size;
        let wanted = left.min(most as u64) as usize;
        let mut events = Vec::with_capacity(wanted);
        while events.len() < wanted {
            let from = size + events.len() as u64;
            let rows = self.rows.rows(from, READ_MAX.min(wanted - events.len())).map_err(PublishingError::Rows)?;
            if rows.is_empty() {
                return Err(PublishingError::Missing(from));
            }
            events.extend(rows);
        }
        // What is committed ends with a step. If not all of it is published now, neither is a part of a step.
        if (wanted as u64) < left {
            events.truncate(whole_steps(&events));
        }
        let mut entropy = Zeroizing::new([0; 32]);
        getrandom::fill(&mut entropy[..]).map_err(PublishingError::Entropy)?;
        let Identity { log_key, pool_key, .. } = &self.identity;
        let signers = Signers { log: &[log_key], pool: pool_key };
        let published = live.publisher.append(&events, &entropy, signers).map_err(PublishingError::Publish)?;
        self.dir.write(&published.files)?;
        if live.checkpoint.is_none() {
            self.dir.write_beside(BEGUN, BEGUN_TEXT.as_bytes())?;
        }
        let checkpoint = published.files.last().expect("the last file is the checkpoint");
        live.checkpoint = Some(Note::parse(&checkpoint.bytes).expect("the log just signed it"));
        live.publisher = published.publisher;
        live.superseded.push_back((Instant::now() + self.pace.edge_kept, size));
        self.show(live)?;
        Ok(events.len())
    }

    /// Adds lines of witnesses to the checkpoint, if it is still the one that they cosigned, and to the cosigned one.
    fn cosign(&mut self, live: &mut Live, cosignatures: Vec<Cosignature>) -> Result<(), PublishingError> {
        let mut files: Vec<PublishedFile> = Vec::new();
        let mut write = |path: &str, note: &Note| {
            files.retain(|file| file.path != path);
            files.push(PublishedFile { path: path.to_owned(), bytes: note.to_string().into_bytes() });
        };
        for Cosignature { size, note, line } in cosignatures {
            if let Some(checkpoint) = live.checkpoint.as_mut().filter(|checkpoint| checkpoint.text() == note.text()) {
                checkpoint.add(line.clone());
                write(CHECKPOINT, checkpoint);
            }
            let older = live.cosigned.as_ref().is_none_or(|(cosigned, _)| *cosigned < size);
            if older && let Some((old, _)) = live.cosigned.replace((size, note.clone())) {
                live.superseded.push_back((Instant::now() + self.pace.edge_kept, old));
            }
            if let Some((_, cosigned)) = live.cosigned.as_mut().filter(|(_, cosigned)| cosigned.text() == note.text()) {
                cosigned.add(line);
                write(COSIGNED, cosigned);
            }
        }
        self.dir.write(&files)?;
        self.show(live)
    }

    /// Removes files at the edge that fuller ones followed a while ago.
    fn sweep(&mut self, live: &mut Live) {
        let now = Instant::now();
        let mut old = BTreeSet::new();
        while let Some((_, size)) = live.superseded.pop_front_if(|(from, _)| *from <= now) {
            old.extend(partial_files(size));
        }
        let (needed, later) = (live.needed(), live.superseded.iter().map(|(_, size)| *size));
        let later: BTreeSet<String> = later.flat_map(partial_files).collect();
        self.remove(old.into_iter().filter(|path| !needed.contains(path) && !later.contains(path)));
    }

    fn remove(&mut self, paths: impl Iterator<Item = String>) {
        for path in paths {
            // It stands in nobody's way; it is tried again at the next start.
            if let Err(error) = self.dir.remove(&path) {
                tracing::warn!(reason = %describe(&error), "an old file stays");
            }
        }
    }

    fn show(&self, live: &Live) -> Result<(), PublishingError> {
        let Some(checkpoint) = live.checkpoint.clone() else { return Ok(()) };
        let parsed = Checkpoint::parse(checkpoint.text());
        let tree = parsed
            .map_err(|why| PublishingError::TakeUp(TakeUpError::Checkpoint(caii_tlog::Unbelievable::Form(why))))?;
        let cosigned = live.cosigned.as_ref().map(|(_, note)| note.clone());
        self.board.show(Shown { tree: tree.tree, checkpoint, cosigned });
        Ok(())
    }
}

/// How many events there are without those of the last step: a checkpoint in the middle of a step would show a pool that
/// left something out. Entries of one step have one time. A step that is larger than all of them goes on later.
fn whole_steps(events: &[Event]) -> usize {
    let last = events.last().map(|event| event.logged.at());
    let before = events.iter().rposition(|event| Some(event.logged.at()) != last);
    before.map_or(events.len(), |place| place + 1)
}

impl Live {
    /// The files at the edges of the checkpoint and of the cosigned one.
    fn needed(&self) -> BTreeSet<String> {
        let cosigned = self.cosigned.as_ref().map(|(size, _)| *size);
        [self.publisher.size()].into_iter().chain(cosigned).flat_map(partial_files).collect()
    }
}
