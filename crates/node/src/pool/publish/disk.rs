//! Where published files are kept, and the order in which they become durable.

use super::PublishingError;
use caii_audit::{CHECKPOINT, FileError, Files, PublishedFile};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

/// Where files are made before they get their name.
const NEW: &str = "published/.new";
/// The directory with what everybody may read.
const PUBLISHED: &str = "published";
/// No published file is larger.
const FILE_SIZE_MAX: u64 = 64 << 20;

/// The steps of a file system, one by one. Paths have slashes and begin in the pool's directory.
pub(crate) trait Disk: Send + 'static {
    /// The bytes of a file.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;
    /// Names in a directory, and whether each is a directory itself.
    fn list(&self, path: &str) -> io::Result<Vec<(String, bool)>>;
    /// Writes a file, which takes the place of one that is there. Nothing of it is durable yet.
    fn create(&mut self, path: &str, bytes: &[u8]) -> io::Result<()>;
    /// Makes a file's bytes durable.
    fn sync_file(&mut self, path: &str) -> io::Result<()>;
    /// Gives a file another name, which may be taken.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Makes a directory; it may be there.
    fn make_dir(&mut self, path: &str) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&mut self, path: &str) -> io::Result<()>;
    /// Removes a file, or an empty directory.
    fn remove(&mut self, path: &str, dir: bool) -> io::Result<()>;
}

/// The operating system's.
#[derive(Debug, Clone)]
pub(crate) struct RealDisk(pub(crate) PathBuf);

impl Disk for RealDisk {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let path = self.0.join(path);
        if fs::metadata(&path)?.len() > FILE_SIZE_MAX {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        fs::read(path)
    }

    fn list(&self, path: &str) -> io::Result<Vec<(String, bool)>> {
        let entry = |entry: io::Result<fs::DirEntry>| {
            let entry = entry?;
            Ok((entry.file_name().to_string_lossy().into_owned(), entry.file_type()?.is_dir()))
        };
        fs::read_dir(self.0.join(path))?.map(entry).collect()
    }

    fn create(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        // Other programs may serve these files, under other users.
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o644).open(self.0.join(path))?.write_all(bytes)
    }

    fn sync_file(&mut self, path: &str) -> io::Result<()> {
        File::open(self.0.join(path))?.sync_all()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn make_dir(&mut self, path: &str) -> io::Result<()> {
        match fs::create_dir(self.0.join(path)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }

    fn sync_dir(&mut self, path: &str) -> io::Result<()> {
        File::open(self.0.join(path))?.sync_all()
    }

    fn remove(&mut self, path: &str, dir: bool) -> io::Result<()> {
        let path = self.0.join(path);
        if dir { fs::remove_dir(path) } else { fs::remove_file(path) }
    }
}

/// The published files.
pub(super) struct Directory<D>(pub(super) D);

impl<D: Disk> Files for Directory<D> {
    fn read(&self, path: &str) -> Result<Vec<u8>, FileError> {
        self.0.read(&format!("{PUBLISHED}/{path}")).map_err(|error| match error.kind() {
            // A partial file's directory may be gone with it.
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => FileError::Missing { path: path.to_owned() },
            _ => FileError::Unreadable { path: path.to_owned(), why: error.to_string() },
        })
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

impl<D: Disk> Directory<D> {
    /// Writes files so that all of them are durable when this returns, and the checkpoint is never so before the others.
    /// Among the others no order is needed, since nobody looks at them before it; so their directories are made durable
    /// once and together.
    pub(super) fn write(&mut self, files: &[PublishedFile]) -> Result<(), PublishingError> {
        let (last, others): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.path == CHECKPOINT);
        for group in [others, last] {
            let mut touched = BTreeSet::new();
            for PublishedFile { path, bytes } in group {
                self.put(NEW, &format!("{PUBLISHED}/{path}"), bytes, &mut touched)?;
            }
            self.sync(touched)?;
        }
        Ok(())
    }

    /// Writes a file of the pool's directory that is not published; it is durable when this returns.
    pub(super) fn write_beside(&mut self, path: &str, bytes: &[u8]) -> Result<(), PublishingError> {
        let mut touched = BTreeSet::new();
        self.put(&format!("{path}.new"), path, bytes, &mut touched)?;
        self.sync(touched)
    }

    /// Whether a file of the pool's directory is there.
    pub(super) fn has_beside(&self, path: &str) -> Result<bool, PublishingError> {
        match self.0.read(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(failed("read", path)(source)),
        }
    }

    /// What the directory shows may not be durable yet: whoever wrote it may have ended in between.
    pub(super) fn settle(&mut self) -> Result<(), PublishingError> {
        self.0.make_dir(PUBLISHED).map_err(failed("make", PUBLISHED))?;
        self.sync([String::new(), PUBLISHED.to_owned()].into())
    }

    fn put(
        &mut self,
        new: &str,
        path: &str,
        bytes: &[u8],
        touched: &mut BTreeSet<String>,
    ) -> Result<(), PublishingError> {
        self.0.create(new, bytes).map_err(failed("write", new))?;
        // Its name must never be durable before its bytes are.
        self.0.sync_file(new).map_err(failed("make durable", new))?;
        match self.0.rename(new, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_dirs(parent(path), touched)?;
                self.0.rename(new, path).map_err(failed("write", path))?;
            }
            renamed => renamed.map_err(failed("write", path))?,
        }
        touched.insert(parent(path).to_owned());
        Ok(())
    }

    fn make_dirs(&mut self, path: &str, touched: &mut BTreeSet<String>) -> Result<(), PublishingError> {
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        for dir in ends.map(|end| &path[..end]) {
            self.0.make_dir(dir).map_err(failed("make", dir))?;
            touched.insert(parent(dir).to_owned());
        }
        Ok(())
    }

    fn sync(&mut self, dirs: BTreeSet<String>) -> Result<(), PublishingError> {
        dirs.iter().try_for_each(|dir| self.0.sync_dir(dir).map_err(failed("make durable", dir)))
    }

    /// Removes a file at the edge of the log that is not needed any more, and its directory if that is empty then.
    pub(super) fn remove(&mut self, path: &str) -> Result<(), PublishingError> {
        let path = format!("{PUBLISHED}/{path}");
        match self.0.remove(&path, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.map_err(failed("remove", &path))?,
        }
        self.remove_if_empty(parent(&path))
    }

    fn remove_if_empty(&mut self, dir: &str) -> Result<(), PublishingError> {
        match self.0.remove(dir, true) {
            Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound) => Ok(()),
            removed => removed.map_err(failed("remove", dir)),
        }
    }

    /// Every partial file that is there.
    pub(super) fn partial_files(&self) -> Result<Vec<String>, PublishingError> {
        let (mut found, mut open) = (Vec::new(), vec!["tile".to_owned(), "opening".to_owned()]);
        while let Some(dir) = open.pop() {
            let path = format!("{PUBLISHED}/{dir}");
            let names = match self.0.list(&path) {
                Ok(names) => names,
                // Nothing was published yet.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(failed("read", &path)(source)),
            };
            for (name, is_dir) in names {
                match is_dir {
                    true => open.push(format!("{dir}/{name}")),
                    false if dir.ends_with(".p") => found.push(format!("{dir}/{name}")),
                    false => {}
                }
            }
        }
        Ok(found)
    }
}

fn failed(attempt: &'static str, path: &str) -> impl FnOnce(io::Error) -> PublishingError + use<> {
    let path = path.to_owned();
    move |source| PublishingError::Disk { attempt, path, source }
}
