//! The audit: checks what needs files alone, then walks through the entries in their order.

use crate::files::{CHECKPOINT, FileError, Files, POOL, PoolFile, PoolFileError, Tiles};
use crate::logged::{Kind, Logged};
use crate::opening::{OPENINGS_WIDTH, Opening, Openings, SIGNED_FOR, bundle_digest, openings_path};
use crate::report::{Check, Report};
use crate::walk::Walk;
use caii_model::{DeviceId, Digest};
use caii_tlog::{
    Checkpoint, CheckpointError, Damage, Note, NoteError, Policy, ProofError, SplitView, TileError, Tree, fsck_each,
    prove_consistency,
};
use caii_trust::{Charter, ReadyKey, Signed};
use thiserror::Error;

/// What an auditor knows from elsewhere, and what they want to know.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// Whose signatures make a checkpoint believable. Without it the log's key is taken from `pool.json`, and no witness
    /// is asked for.
    pub policy: Option<&'a Policy>,
    /// The checkpoint that was seen last.
    pub last: Option<&'a [u8]>,
    /// The charter, to check the stewards' signatures.
    pub charter: Option<&'a Charter>,
    /// A device whose receipts must all be there.
    pub device: Option<Asked>,
    /// Checks signatures one by one, as strictly as a pool does before it accepts them: half as fast.
    pub strict: bool,
}

/// A contributor's question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Which device.
    pub device: DeviceId,
    /// How many claims it made, by its own count.
    pub claims: Option<u64>,
}

/// Why nothing can be said.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CannotAudit {
    /// A file could not be read.
    #[error(transparent)]
    File(FileError),
    /// `pool.json` says nothing.
    #[error("`{POOL}`: {0}")]
    Pool(#[source] PoolFileError),
    /// The checkpoint is none.
    #[error("`{CHECKPOINT}`: {0}")]
    Note(#[source] NoteError),
    /// The checkpoint is none.
    #[error("`{CHECKPOINT}`: {0}")]
    Checkpoint(#[source] CheckpointError),
    /// What is said to be the last checkpoint is none.
    #[error("the checkpoint that was seen last: {0}")]
    Last(String),
}

/// Checks all files of a pool.
///
/// # Errors
/// If a file cannot be read, or those without which nothing can be said are missing or none.
pub fn audit(files: &dyn Files, options: &Options<'_>) -> Result<Report, CannotAudit> {
    let pool = files.read(POOL).map_err(CannotAudit::File)?;
    let pool = PoolFile::from_json(&pool).map_err(CannotAudit::Pool)?;
    let note = files.read(CHECKPOINT).map_err(CannotAudit::File)?;
    let note = Note::parse(&note).map_err(CannotAudit::Note)?;
    let checkpoint = Checkpoint::parse(note.text()).map_err(CannotAudit::Checkpoint)?;
    let tree = checkpoint.tree;
    let mut walk = Walk::new(files, options, &pool, tree.size);

    let cosigned = check_signatures(&mut walk, &note, options, &pool);
    if let Some(last) = options.last {
        check_consistency(&mut walk, files, last, &checkpoint, &pool)?;
    }
    let entries = check_tiles(&mut walk, files, &tree)?;
    check_openings(&mut walk, files, &tree, &entries)?;
    walk.finish();
    Ok(walk.report(checkpoint.origin.to_string(), tree, cosigned))
}

fn check_signatures(walk: &mut Walk<'_>, note: &Note, options: &Options<'_>, pool: &PoolFile) -> Vec<String> {
    match options.policy {
        Some(policy) => match policy.accept(note) {
            Ok(accepted) => {
                walk.good(Check::Checkpoint);
                let name = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
                accepted.cosigned.iter().map(|(witness, _)| name(&witness.name)).collect()
            }
            Err(why) => {
                walk.wrong_file(Check::Checkpoint, CHECKPOINT, why.to_string());
                vec![]
            }
        },
        None => {
            walk.note(
                Check::Checkpoint,
                "no policy was given: the log's key is the one that pool.json names, and no witness was asked for",
            );
            match Checkpoint::open(note, &pool.origin, &pool.log) {
                Ok(_) => walk.good(Check::Checkpoint),
                Err(why) => walk.wrong_file(Check::Checkpoint, CHECKPOINT, why.to_string()),
            }
            vec![]
        }
    }
}

fn check_consistency(
    walk: &mut Walk<'_>,
    files: &dyn Files,
    last: &[u8],
    now: &Checkpoint,
    pool: &PoolFile,
) -> Result<(), CannotAudit> {
    let note = Note::parse(last).map_err(|error| CannotAudit::Last(error.to_string()))?;
    let last = Checkpoint::parse(note.text()).map_err(|error| CannotAudit::Last(error.to_string()))?;
    if last.origin != now.origin {
        return Err(CannotAudit::Last(format!("it is of the log `{}`, not of `{}`", last.origin, now.origin)));
    }
    if Checkpoint::open(&note, &now.origin, &pool.log).is_err() {
        walk.note(Check::Consistency, "the last checkpoint is not signed by the log's present key");
    }
    let (old, new) = (last.tree, now.tree);
    let wrong = if let Some(split) = SplitView::between(&last, now) {
        Some(split.to_string())
    } else if old.size > new.size {
        Some(format!(
            "the checkpoint has {} entries and the one seen last had {}: it was taken back",
            new.size, old.size
        ))
    } else {
        match prove_consistency(&old, &new, &Tiles(files)) {
            Ok(_) => None,
            Err(ProofError::Tile(TileError::Unreadable { source: source @ FileError::Unreadable { .. }, .. })) => {
                return Err(CannotAudit::File(source));
            }
            Err(_) => Some(format!(
                "the {} entries do not continue the {} seen last: keep both checkpoints, they are evidence",
                new.size, old.size
            )),
        }
    };
    match wrong {
        Some(why) => walk.wrong_file(Check::Consistency, CHECKPOINT, why),
        None => walk.good(Check::Consistency),
    }
    Ok(())
}

/// The entries, as far as the tiles are good.
fn check_tiles(walk: &mut Walk<'_>, files: &dyn Files, tree: &Tree) -> Result<Vec<Digest>, CannotAudit> {
    let mut entries = Vec::new();
    match fsck_each(&Tiles(files), tree, |_, entry| entries.push(*entry)) {
        Ok(checked) => walk.good_many(Check::Tiles, checked.bundles + checked.tiles),
        Err(Damage::File(TileError::Unreadable { source: source @ FileError::Unreadable { .. }, .. })) => {
            return Err(CannotAudit::File(source));
        }
        Err(damage) => {
            let file = damage.tile().map_or_else(|| CHECKPOINT.to_owned(), |tile| tile.to_string());
            let index = match &damage {
                Damage::Entry { index, .. } | Damage::File(TileError::Bundle { index, .. }) => Some(*index),
                _ => None,
            };
            walk.wrong_at(Check::Tiles, index, file, damage.to_string());
        }
    }
    Ok(entries)
}

fn check_openings(walk: &mut Walk<'_>, files: &dyn Files, tree: &Tree, entries: &[Digest]) -> Result<(), CannotAudit> {
    for (number, entries) in (0u64..).zip(entries.chunks(OPENINGS_WIDTH)) {
        let start = number * OPENINGS_WIDTH as u64;
        let width = (tree.size - start).min(OPENINGS_WIDTH as u64) as usize;
        let Some((path, openings, signature)) = read_openings(walk, files, number, width, entries.len())? else {
            continue;
        };
        walk.file = path;
        match (signature, walk.pool_key) {
            // A damaged tile shows fewer entries than were signed.
            (Some(signature), Some(key)) if entries.len() == width => {
                let digest = bundle_digest(number, entries);
                let signed = Signed { key, domain: SIGNED_FOR, digest, signature };
                walk.queue(Check::PoolSignatures, start, signed);
            }
            _ => walk.uncheckable(Check::PoolSignatures),
        }
        for ((index, entry), opening) in (start..).zip(entries).zip(openings) {
            walk.index = index;
            match opening {
                Opening::Erased { kind } => walk.erased(kind),
                Opening::Open { salt, bytes, attachment } => {
                    if crate::opening::commitment(&salt, &bytes) != *entry {
                        walk.wrong(Check::Openings, "salt and bytes do not give the entry".into());
                        continue;
                    }
                    match Logged::from_canonical(&bytes) {
                        Ok(logged) => {
                            walk.good(Check::Openings);
                            walk.entry(&logged, &attachment);
                        }
                        Err(why) => walk.wrong(Check::Openings, format!("what the entry opens to is no entry: {why}")),
                    }
                }
            }
        }
        walk.flush_if_large();
    }
    Ok(())
}

type Bundle = (String, Vec<Opening>, Option<[u8; 64]>);

/// The file of openings beside a bundle; nothing if it is missing or none, which was noted then.
fn read_openings(
    walk: &mut Walk<'_>,
    files: &dyn Files,
    number: u64,
    width: usize,
    known: usize,
) -> Result<Option<Bundle>, CannotAudit> {
    let path = openings_path(number, width);
    let full = openings_path(number, OPENINGS_WIDTH);
    // A pool may have published more since its checkpoint was read, and dropped the partial file.
    let read = match files.read(&path) {
        Err(FileError::Missing { .. }) if path != full => files.read(&full).map(|bytes| (bytes, OPENINGS_WIDTH)),
        read => read.map(|bytes| (bytes, width)),
    };
    let why = match read {
        Err(error @ FileError::Unreadable { .. }) => return Err(CannotAudit::File(error)),
        Err(FileError::Missing { .. }) => "the file is missing".into(),
        Ok((bytes, found)) => match Openings::from_bytes(&bytes, found) {
            Ok(Openings { mut openings, signature }) => {
                openings.truncate(known);
                return Ok(Some((path, openings, (found == width).then_some(signature))));
            }
            Err(why) => why.to_string(),
        },
    };
    let index = number * OPENINGS_WIDTH as u64;
    walk.wrong_at(Check::Openings, Some(index), path, why);
    Ok(None)
}

/// The pool's key, if signatures can be checked with it.
pub(crate) fn ready(key: &[u8; 32]) -> Option<ReadyKey> {
    ReadyKey::new(key).ok()
}

impl Walk<'_> {
    fn erased(&mut self, kind: Kind) {
        self.uncheckable(Check::Openings);
        *self.erased_kinds.entry(kind).or_default() += 1;
    }
}
