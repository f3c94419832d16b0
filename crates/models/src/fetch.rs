//! Getting a source's files onto this machine: copying nothing that is here already, downloading with resume, pip for
//! packages, and unpacking of archives.

use crate::Source;
use crate::archive::{self, Bounds, Trouble};
use crate::prepare::{LIMITS, Tools};
use caii_model::Digest;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A boxed error of the caller's downloader.
pub type FetchFailure = Box<dyn Error + Send + Sync>;

/// Downloads: writes the body of a URL from this byte on. Where the server cannot start there, the implementation
/// discards what comes before it. An error is retried from where it left off.
pub type Fetch<'a> = dyn Fn(&str, u64, &mut dyn Write) -> Result<(), FetchFailure> + 'a;

/// A model's files could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A file of this machine could not be read or written.
    #[error("cannot read or write `{path}`")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A directory holds too much to be a model's.
    #[error("`{path}` holds more than {limit} files: give the model's own directory")]
    TooManyFiles {
        /// The directory or archive.
        path: PathBuf,
        /// How many are accepted.
        limit: usize,
    },
    /// A download failed, retries included.
    #[error(
        "downloading {url} failed after {attempts} attempts, {received} bytes received; the next try resumes there"
    )]
    Download {
        /// What was fetched.
        url: String,
        /// How often it was tried.
        attempts: u32,
        /// Bytes that have arrived.
        received: u64,
        /// The last failure.
        #[source]
        source: FetchFailure,
    },
    /// A download, package or archive is larger than any model that is accepted.
    #[error("{what} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// What is.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// What arrived is not what was asked for.
    #[error(
        "{what} has digest {actual}, but {expected} was asked for ({bytes} bytes): truncated, changed or not the same file"
    )]
    Digest {
        /// The download or file.
        what: String,
        /// The digest given.
        expected: Digest,
        /// The digest found.
        actual: Digest,
        /// How long the file is.
        bytes: u64,
    },
    /// Python is not installed.
    #[error(
        "fetching {package} needs Python: `{python}` could not be started; install it (Debian, Ubuntu: apt-get install python3 python3-pip)"
    )]
    NoPython {
        /// The package.
        package: String,
        /// The interpreter that was tried.
        python: String,
        /// Why it could not be started.
        #[source]
        source: io::Error,
    },
    /// Python has no pip.
    #[error(
        "fetching {package} needs pip, which `{python}` does not have; install it (Debian, Ubuntu: apt-get install python3-pip)"
    )]
    NoPip {
        /// The package.
        package: String,
        /// The interpreter.
        python: String,
    },
    /// pip said no.
    #[error("pip could not download a wheel of {package} ({status}). It said:\n{output}")]
    Pip {
        /// The package.
        package: String,
        /// pip's exit status.
        status: String,
        /// The end of its output.
        output: String,
    },
    /// An archive cannot be read.
    #[error("`{path}` is a damaged or unreadable zip archive")]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Why.
        #[source]
        source: zip::result::ZipError,
    },
    /// Two sources bring a file of the same name.
    #[error("two sources give a file `{0}`: leave one out")]
    Conflict(String),
}

/// Attempts at one download within a run.
const ATTEMPTS: u32 = 5;

/// The files of all sources: path within the tree, with `/`, to where the file is on this machine. `None`: seen in an
/// archive, not of a kind that is used.
pub(crate) type Files = BTreeMap<String, Option<PathBuf>>;

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> FetchError {
    let path = path.to_owned();
    move |source| FetchError::Io { path, source }
}

/// Brings a source's files onto this machine. What has to be unpacked goes to `scratch`; downloads lie in `out`, where
/// a later run can resume them.
pub(crate) fn collect(
    source: &Source,
    tools: &Tools<'_>,
    out: &Path,
    scratch: &Path,
    files: &mut Files,
) -> Result<(), FetchError> {
    match source {
        Source::Path(path) => {
            let kind = fs::metadata(path).map_err(io_error(path))?;
            if kind.is_dir() {
                walk(path, path, "", 0, files)
            } else {
                open_file(path, &file_name(path), scratch, files)
            }
        }
        Source::Url { url, sha256 } => {
            let path = download(url, *sha256, tools, out)?;
            let name = url.split('?').next().and_then(|url| url.rsplit('/').next()).unwrap_or_default();
            open_file(&path, name, scratch, files)
        }
        Source::Pypi { name, version } => {
            let wheel = pip_download(name, version, &tools.python, &scratch.join(format!("pip-{name}")))?;
            open_file(&wheel, &file_name(&wheel), scratch, files)
        }
    }
}

/// Removes a source's download once it is no longer needed.
pub(crate) fn discard(source: &Source, out: &Path) -> Result<(), FetchError> {
    let Source::Url { sha256, .. } = source else { return Ok(()) };
    let path = download_path(out, *sha256);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(&path)(error)),
        _ => Ok(()),
    }
}

fn download_path(out: &Path, sha256: Digest) -> PathBuf {
    out.join(format!(".download-{}", sha256.hex()))
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn add(name: String, path: Option<PathBuf>, files: &mut Files) -> Result<(), FetchError> {
    if files.contains_key(&name) {
        return Err(FetchError::Conflict(name));
    }
    files.insert(name, path);
    Ok(())
}

fn open_file(path: &Path, name: &str, scratch: &Path, files: &mut Files) -> Result<(), FetchError> {
    if name.ends_with(".zip") || name.ends_with(".whl") {
        let into = scratch.join(format!("archive-{}", files.len()));
        return unpack(path, &into, files);
    }
    add(name.to_owned(), Some(path.to_owned()), files)
}

/// Model trees are shallow (`pkg/model/1_Pooling/config.json`); links to files are followed, as model caches use them.
fn walk(root: &Path, directory: &Path, prefix: &str, depth: u32, files: &mut Files) -> Result<(), FetchError> {
    let entries = fs::read_dir(directory).map_err(io_error(directory))?;
    let mut paths =
        entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>().map_err(io_error(directory))?;
    paths.sort();
    for path in paths {
        if files.len() >= LIMITS.files {
            return Err(FetchError::TooManyFiles { path: root.to_owned(), limit: LIMITS.files });
        }
        let name = file_name(&path);
        if name.starts_with('.') {
            continue;
        }
        let kind = fs::metadata(&path).map_err(io_error(&path))?;
        if kind.is_file() {
            add(format!("{prefix}{name}"), Some(path), files)?;
        } else if kind.is_dir() && depth < LIMITS.depth && !path.is_symlink() {
            walk(root, &path, &format!("{prefix}{name}/"), depth + 1, files)?;
        }
    }
    Ok(())
}

fn unpack(path: &Path, into: &Path, files: &mut Files) -> Result<(), FetchError> {
    let input = BufReader::new(File::open(path).map_err(io_error(path))?);
    fs::create_dir_all(into).map_err(io_error(into))?;
    let bounds = Bounds { files: LIMITS.files, bytes: LIMITS.bytes, small: LIMITS.json };
    let unpacked = archive::read::<Unpacking>(input, &bounds, |index, name, bytes| {
        let Some(bytes) = bytes else { return add(name, None, files).map(|()| 0).map_err(Unpacking::Fetch) };
        // Named by its place, so that no name inside the archive ever becomes a path here.
        let path = into.join(index.to_string());
        let mut file = File::create(&path).map_err(io_error(&path)).map_err(Unpacking::Fetch)?;
        let copied = io::copy(bytes, &mut file).map_err(|error| Unpacking::Archive(Trouble::Damaged(error.into())))?;
        add(name, Some(path), files).map_err(Unpacking::Fetch)?;
        Ok(copied)
    });
    unpacked.map_err(|trouble| match trouble {
        Unpacking::Fetch(error) => error,
        Unpacking::Archive(Trouble::Damaged(source)) => FetchError::Archive { path: path.to_owned(), source },
        Unpacking::Archive(Trouble::TooManyFiles) => {
            FetchError::TooManyFiles { path: path.to_owned(), limit: LIMITS.files }
        }
        Unpacking::Archive(Trouble::TooLarge { name, limit }) => {
            FetchError::TooLarge { what: format!("`{name}` in {}", path.display()), limit }
        }
    })
}

/// What can go wrong while an archive is unpacked: in it, or with what is done with its files.
enum Unpacking {
    Archive(Trouble),
    Fetch(FetchError),
}

impl From<Trouble> for Unpacking {
    fn from(trouble: Trouble) -> Self {
        Self::Archive(trouble)
    }
}

/// Downloads to a file named by its digest, resuming what an earlier run left, and checks the digest.
fn download(url: &str, sha256: Digest, tools: &Tools<'_>, out: &Path) -> Result<PathBuf, FetchError> {
    let done = download_path(out, sha256);
    let part = done.with_extension("part");
    if done.exists() {
        check_digest(&done, sha256, url)?;
        return Ok(done);
    }
    let mut attempts = 0;
    loop {
        attempts += 1;
        let file = OpenOptions::new().create(true).append(true).open(&part).map_err(io_error(&part))?;
        let from = file.metadata().map_err(io_error(&part))?.len();
        (tools.say)(&match from {
            0 => format!("downloading {url}"),
            _ => format!("downloading {url} from byte {from} on"),
        });
        let mut sink = Capped { out: file, left: LIMITS.bytes.saturating_sub(from), overrun: false };
        let outcome = (tools.fetch)(url, from, &mut sink);
        if sink.overrun {
            fs::remove_file(&part).map_err(io_error(&part))?;
            return Err(FetchError::TooLarge { what: url.to_owned(), limit: LIMITS.bytes });
        }
        match outcome {
            Ok(()) => break,
            Err(_) if attempts < ATTEMPTS => {}
            Err(source) => {
                let received = fs::metadata(&part).map_err(io_error(&part))?.len();
                return Err(FetchError::Download { url: url.to_owned(), attempts, received, source });
            }
        }
    }
    if let Err(error) = check_digest(&part, sha256, url) {
        // Bytes of another file cannot be resumed.
        fs::remove_file(&part).map_err(io_error(&part))?;
        return Err(error);
    }
    fs::rename(&part, &done).map_err(io_error(&part))?;
    Ok(done)
}

/// A file that refuses to grow past a limit.
struct Capped {
    out: File,
    left: u64,
    overrun: bool,
}

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            self.overrun = true;
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the download exceeds the limit"));
        }
        let written = self.out.write(bytes)?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The digest and length of a file.
pub(crate) fn digest_of(path: &Path) -> Result<(Digest, u64), FetchError> {
    let mut file = File::open(path).map_err(io_error(path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut len = 0;
    loop {
        match file.read(&mut buffer).map_err(io_error(path))? {
            0 => return Ok((Digest(hasher.finalize().into()), len)),
            count => {
                hasher.update(&buffer[..count]);
                len += count as u64;
            }
        }
    }
}

/// Refuses a file with another digest.
pub(crate) fn check_digest(path: &Path, expected: Digest, what: &str) -> Result<(), FetchError> {
    let (actual, bytes) = digest_of(path)?;
    if actual != expected {
        return Err(FetchError::Digest { what: what.to_owned(), expected, actual, bytes });
    }
    Ok(())
}

/// Has pip download one wheel without its dependencies: it is data, and nothing of it is run.
fn pip_download(name: &str, version: &str, python: &OsString, into: &Path) -> Result<PathBuf, FetchError> {
    let package = format!("{name}=={version}");
    let shown = python.to_string_lossy().into_owned();
    fs::create_dir_all(into).map_err(io_error(into))?;
    let run = Command::new(python)
        .args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--ignore-requires-python"])
        .args(["--no-input", "--disable-pip-version-check", "--quiet", "-d"])
        .arg(into)
        .arg(&package)
        .env("PIP_ROOT_USER_ACTION", "ignore")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| FetchError::NoPython { package: package.clone(), python: shown.clone(), source })?;
    if !run.status.success() {
        let output = String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned();
        if output.contains("No module named pip") {
            return Err(FetchError::NoPip { package, python: shown });
        }
        let tail: Vec<&str> = output.trim().lines().rev().take(8).collect();
        let output: Vec<String> = tail.iter().rev().map(|line| line.chars().take(300).collect()).collect();
        return Err(FetchError::Pip { package, status: run.status.to_string(), output: output.join("\n") });
    }
    let entries = fs::read_dir(into).map_err(io_error(into))?;
    let wheels = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>().map_err(io_error(into))?;
    let wheel = wheels.into_iter().find(|path| path.extension().is_some_and(|end| end == "whl"));
    let Some(wheel) = wheel else {
        let output = "(it reported success but left no wheel)".to_owned();
        return Err(FetchError::Pip { package, status: run.status.to_string(), output });
    };
    let size = fs::metadata(&wheel).map_err(io_error(&wheel))?.len();
    if size > LIMITS.bytes {
        return Err(FetchError::TooLarge { what: package, limit: LIMITS.bytes });
    }
    Ok(wheel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capped_file_takes_its_limit_and_no_more() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut sink = Capped { out: file.reopen().unwrap(), left: 5, overrun: false };
        sink.write_all(b"12345").unwrap();
        assert!(sink.write_all(b"6").is_err());
        assert!(sink.overrun);
        assert_eq!(fs::read(file.path()).unwrap(), b"12345");
    }
}
