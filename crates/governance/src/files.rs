//! All files of a charter at once: a few kilobytes that travel together.

use crate::error::GovernanceError;
use caii_model::Digest;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

/// Bytes of all files together.
pub const FILES_SIZE_MAX: usize = 16 << 20;
const FILES_MAX: usize = 4_096;

/// The published files of a charter by name, all of them JSON. Nothing in them is trusted by being here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<String, String>);

impl Files {
    /// Reads the published files of a directory, no drafts and no keys.
    ///
    /// # Errors
    /// If the directory cannot be read or holds too much.
    pub fn read(dir: &Path) -> Result<Self, GovernanceError> {
        let mut files = Self::default();
        let mut size = 0;
        let file = |source| GovernanceError::file("read", dir, source);
        for entry in std::fs::read_dir(dir).map_err(file)? {
            let entry = entry.map_err(file)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.ends_with(".json") || !entry.file_type().map_err(file)?.is_file() {
                continue;
            }
            let path = entry.path();
            let mut text = String::new();
            std::fs::File::open(&path)
                .and_then(|file| file.take(FILES_SIZE_MAX as u64 + 1).read_to_string(&mut text))
                .map_err(|source| GovernanceError::file("read", &path, source))?;
            size += text.len();
            files.0.insert(name, text);
            check(files.0.len(), size)?;
        }
        Ok(files)
    }

    /// One JSON object of all files, for sending.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(&self.0).expect("strings become JSON")
    }

    /// Reads what [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    /// If it is something else, or too much.
    pub fn from_json(bytes: &[u8]) -> Result<Self, GovernanceError> {
        check(0, bytes.len() / 2)?;
        let files: BTreeMap<String, String> =
            serde_json::from_slice(bytes).map_err(|error| GovernanceError::strange("bundle", error))?;
        check(files.len(), files.values().map(String::len).sum())?;
        Ok(Self(files))
    }

    /// The text of a file.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Puts a file in place of another one.
    pub fn insert(&mut self, name: String, text: String) {
        self.0.insert(name, text);
    }

    /// Takes a file out.
    pub fn remove(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Changes whenever any file does: tells who fetches whether there is anything new.
    pub fn digest(&self) -> Digest {
        let fields: Vec<&[u8]> = self.0.iter().flat_map(|(name, text)| [name.as_bytes(), text.as_bytes()]).collect();
        Digest::of_fields("caii charter files 1", &fields)
    }
}

fn check(count: usize, size: usize) -> Result<(), GovernanceError> {
    if count > FILES_MAX {
        return Err(GovernanceError::TooMuch { what: format!("more than {FILES_MAX} files") });
    }
    if size > FILES_SIZE_MAX {
        return Err(GovernanceError::TooMuch { what: format!("files of more than {FILES_SIZE_MAX} bytes") });
    }
    Ok(())
}
