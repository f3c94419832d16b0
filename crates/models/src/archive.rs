//! What is in a zip archive (a wheel is one): every file's name, and the bytes of those that can matter to a model.

use std::io::{Read, Seek};
use zip::result::ZipError;

/// How much of an archive is read.
pub(crate) struct Bounds {
    /// Files in it.
    pub(crate) files: usize,
    /// Bytes of all its files together, unpacked.
    pub(crate) bytes: u64,
    /// Bytes of a file that is no weights.
    pub(crate) small: u64,
}

/// Why an archive is not read to its end.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It is damaged, or something else.
    Damaged(ZipError),
    /// It has more files than [`Bounds::files`].
    TooManyFiles,
    /// A file is larger than the bounds leave room for.
    TooLarge {
        /// Its name.
        name: String,
        /// The bytes that it may have.
        limit: u64,
    },
}

/// Whether a file of this name can matter to a model; others stay in the archive.
fn is_used(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    [".json", ".safetensors", ".onnx"].iter().any(|end| file.ends_with(end)) || matches!(file, "README.md" | "METADATA")
}

/// Gives each file to `take`: its place, its name, and its bytes if it can matter. `take` reads them to their end and
/// says how many there were; they never are more than one beyond what the bounds allow.
pub(crate) fn read<E: From<Trouble>>(
    input: impl Read + Seek,
    bounds: &Bounds,
    mut take: impl FnMut(usize, String, Option<&mut dyn Read>) -> Result<u64, E>,
) -> Result<(), E> {
    let mut zip = zip::ZipArchive::new(input).map_err(Trouble::Damaged)?;
    if zip.len() > bounds.files {
        return Err(Trouble::TooManyFiles.into());
    }
    let mut left = bounds.bytes;
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).map_err(Trouble::Damaged)?;
        let name = entry.name().map_err(Trouble::Damaged)?.replace('\\', "/");
        if entry.is_dir() {
            continue;
        }
        if !is_used(&name) {
            take(index, name, None)?;
            continue;
        }
        let limit =
            if name.ends_with(".safetensors") || name.ends_with(".onnx") { left } else { bounds.small.min(left) };
        let copied = take(index, name.clone(), Some(&mut (&mut entry).take(limit + 1)))?;
        if copied > limit {
            return Err(Trouble::TooLarge { name, limit }.into());
        }
        left -= copied;
    }
    Ok(())
}
