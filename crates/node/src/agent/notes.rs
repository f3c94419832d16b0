//! What an agent notes for its owner alone, in files beside its identity: nothing is decided by it, so that losing it
//! costs nothing.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// Something that is noted of a workload, once for each.
pub(crate) trait Noted: Serialize + DeserializeOwned {
    /// Of which.
    fn workload(&self) -> &str;
}

/// Notes in a file, the newest last.
pub(crate) struct Notes<T> {
    path: PathBuf,
    entries: Vec<T>,
    most: usize,
}

impl<T: Noted> Notes<T> {
    /// Those in this file, of which at most so many are kept.
    pub(crate) fn open(path: PathBuf, most: usize) -> Self {
        let entries = read(&path).unwrap_or_default();
        Self { path, entries, most }
    }

    pub(crate) fn into_entries(self) -> Vec<T> {
        self.entries
    }

    /// What is noted of a workload.
    pub(crate) fn of(&self, workload: &str) -> Option<&T> {
        self.entries.iter().find(|entry| entry.workload() == workload)
    }

    /// Notes this in place of what was noted of its workload.
    pub(crate) fn note(&mut self, entry: T) {
        self.entries.retain(|known| known.workload() != entry.workload());
        self.entries.push(entry);
        let surplus = self.entries.len().saturating_sub(self.most);
        self.entries.drain(..surplus);
        write(&self.path, &self.entries);
    }

    /// Forgets what was noted of a workload.
    pub(crate) fn forget(&mut self, workload: &str) {
        let before = self.entries.len();
        self.entries.retain(|known| known.workload() != workload);
        if self.entries.len() < before {
            write(&self.path, &self.entries);
        }
    }
}

/// What was noted in this file, if anything was.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let unreadable = |error: &dyn std::fmt::Display| {
        tracing::warn!(%error, path = %path.display(), "what was noted for the owner cannot be read");
        None
    };
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_or_else(|error| unreadable(&error), Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => unreadable(&error),
    }
}

/// Notes this in place of what the file had.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) {
    let json = serde_json::to_vec(value).expect("strings and numbers become JSON");
    let fresh = path.with_extension("new");
    if let Err(error) = std::fs::write(&fresh, json).and_then(|()| std::fs::rename(&fresh, path)) {
        tracing::warn!(%error, path = %path.display(), "a note for the owner cannot be written");
    }
}
