//! Compiled images on a device's disk: made once for each workload, meter and CPU, shared by all its runners.
//!
//! An image is two files named by its key: `KEY.image`, which the engine maps, and `KEY.entry`, which says what the
//! image must be and is renamed into place last. Whoever makes one holds `KEY.lock`.

use crate::meter::WASMTIME_VERSION;
use caii_model::{Bytes, Digest, Fuel, Manifest};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Where one workload's image is.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    directory: PathBuf,
    key: String,
}

/// What an image must be, and what making it cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) image: Digest,
    pub(crate) size: Bytes,
    pub(crate) init_fuel: Fuel,
}

/// The right to make or remove an image; given back when dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Slot {
    pub(crate) fn new(directory: &Path, manifest: &Manifest) -> Self {
        let key = Digest::of_fields(
            "caii image 1",
            &[
                &manifest.digest().0,
                &manifest.meter.0.0,
                WASMTIME_VERSION.as_bytes(),
                std::env::consts::ARCH.as_bytes(),
                cpu_features().as_bytes(),
            ],
        );
        Self { directory: directory.to_owned(), key: key.hex() }
    }

    fn path(&self, extension: &str) -> PathBuf {
        self.directory.join(format!("{}.{extension}", self.key))
    }

    /// Waits until nobody else makes or removes this image.
    pub(crate) fn lock(&self) -> io::Result<Lock> {
        fs::create_dir_all(&self.directory)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(self.path("lock"))?;
        file.lock()?;
        Ok(Lock { _file: file })
    }

    /// The image and what it must be, if there is one. An entry that makes no sense is as good as none.
    pub(crate) fn find(&self) -> io::Result<Option<(File, Entry)>> {
        let text = match fs::read_to_string(self.path("entry")) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return self.nonsense(),
            Err(error) => return Err(error),
        };
        let Some(entry) = Entry::parse(&text) else { return self.nonsense() };
        match File::open(self.path("image")) {
            Ok(file) if file.metadata()?.len() == entry.size.0 => Ok(Some((file, entry))),
            Ok(_) => self.nonsense(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.nonsense(),
            Err(error) => Err(error),
        }
    }

    fn nonsense(&self) -> io::Result<Option<(File, Entry)>> {
        tracing::warn!(path = %self.path("entry").display(), "the cached image is damaged; it will be made again");
        Ok(None)
    }

    /// An empty file to write an image into. Only under the lock: a former one, left by a crash, is emptied.
    pub(crate) fn create(&self, _lock: &Lock) -> io::Result<File> {
        OpenOptions::new().create(true).truncate(true).read(true).write(true).open(self.path("new"))
    }

    /// Gives the written image its name. It must already be on disk.
    pub(crate) fn publish(&self, _lock: &Lock, entry: &Entry) -> io::Result<()> {
        let draft = self.path("entry-new");
        let mut file = File::create(&draft)?;
        file.write_all(entry.to_text().as_bytes())?;
        file.sync_all()?;
        fs::rename(self.path("new"), self.path("image"))?;
        fs::rename(draft, self.path("entry"))
    }

    /// Forgets a half-made image.
    pub(crate) fn abandon(&self, _lock: &Lock) {
        // What cannot be removed now is emptied by the next `create`.
        let _ = fs::remove_file(self.path("new"));
    }

    /// Removes the image. Runners that have it mapped keep it.
    pub(crate) fn remove(&self, _lock: &Lock) -> io::Result<()> {
        for extension in ["entry", "image"] {
            match fs::remove_file(self.path(extension)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Entry {
    fn to_text(self) -> String {
        format!("caii image 1\n{}\n{}\n{}\n", self.image, self.size.0, self.init_fuel.0)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix("\n")?.split("\n");
        if lines.next()? != "caii image 1" {
            return None;
        }
        let entry = Self {
            image: lines.next()?.parse().ok()?,
            size: Bytes(lines.next()?.parse().ok()?),
            init_fuel: Fuel(lines.next()?.parse().ok()?),
        };
        lines.next().is_none().then_some(entry)
    }
}

/// The features that compiled code may rely on. The engine checks them again when it loads an image.
fn cpu_features() -> String {
    let mut features = String::new();
    macro_rules! note {
        ($detect:ident: $($name:tt)*) => {
            $(if std::arch::$detect!($name) { features.push_str($name); features.push(' '); })*
        };
    }
    #[cfg(target_arch = "x86_64")]
    note!(is_x86_feature_detected: "sse3" "ssse3" "sse4.1" "sse4.2" "cmpxchg16b" "popcnt" "avx" "avx2" "fma" "bmi1" "bmi2"
        "lzcnt" "avx512bitalg" "avx512dq" "avx512f" "avx512vl" "avx512vbmi");
    #[cfg(target_arch = "aarch64")]
    note!(is_aarch64_feature_detected: "lse" "paca" "pacg" "fp16");
    features
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_round_trip_and_damaged_ones_are_none() {
        let entry = Entry { image: Digest::of(b"x"), size: Bytes(7), init_fuel: Fuel(9) };
        let text = entry.to_text();
        assert_eq!(Entry::parse(&text), Some(entry));
        for end in 0..text.len() - 2 {
            assert_eq!(Entry::parse(&text[..end]), None, "{end}");
        }
        assert_eq!(Entry::parse(&format!("{text}more\n")), None);
    }
}
