//! Compiled images on a device's disk: made once for each workload, meter and CPU, shared by all its runners.
//!
//! An image is two files named by its key: `KEY.image`, which the engine maps, and `KEY.entry`, which says what the
//! image must be and is renamed into place last. Whoever makes one holds `KEY.lock`.
//!
//! A runner runs a compiled image natively, so an image that somebody else put there would be a way into the runner.
//! The entry therefore ends with a MAC under a secret of the device, over the key, the image's digest, its size, its fuel
//! and the layers of the jail that it was made in: an entry of another device, of another workload, or one that was edited is as good as none.

use crate::meter::WASMTIME_VERSION;
use caii_model::{Bytes, Digest, Fuel, JailLayers, Manifest};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// What binds compiled images to this device: 32 bytes that never leave it, the same in each of its lives. Whoever
/// knows them can place code in the cache that runners will run.
#[derive(Clone)]
pub struct DeviceSecret(Zeroizing<[u8; 32]>);

impl DeviceSecret {
    /// From bytes that nobody else can know.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl std::fmt::Debug for DeviceSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeviceSecret(..)")
    }
}

/// Where one workload's image is.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    directory: PathBuf,
    key: String,
    secret: DeviceSecret,
}

/// What an image must be, and what making it cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) image: Digest,
    pub(crate) size: Bytes,
    pub(crate) init_fuel: Fuel,
    /// What confined the process that made it.
    pub(crate) jail: JailLayers,
}

/// The right to make or remove an image; given back when dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Slot {
    pub(crate) fn new(directory: &Path, manifest: &Manifest, secret: &DeviceSecret) -> Self {
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
        Self { directory: directory.to_owned(), key: key.hex(), secret: secret.clone() }
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
        let Some(entry) = self.open(&text) else { return self.nonsense() };
        match File::open(self.path("image")) {
            Ok(file) if file.metadata()?.len() == entry.size.0 => Ok(Some((file, entry))),
            Ok(_) => self.nonsense(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.nonsense(),
            Err(error) => Err(error),
        }
    }

    /// An entry's text with its MAC as the last line.
    fn seal(&self, entry: &Entry) -> String {
        let text = entry.to_text();
        let mac = Digest(self.mac(&text).finalize().into_bytes().into());
        format!("{text}{}\n", mac.hex())
    }

    /// The entry in a text, if this device wrote it for this slot.
    fn open(&self, text: &str) -> Option<Entry> {
        let at = text.strip_suffix('\n')?.rfind('\n')? + 1;
        let (entry, mac) = (&text[..at], text[at..].strip_suffix('\n')?);
        let mac: Digest = format!("sha256:{mac}").parse().ok()?;
        // Compares in constant time.
        self.mac(entry).verify_slice(&mac.0).ok()?;
        Entry::parse(entry)
    }

    fn mac(&self, text: &str) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(&*self.secret.0);
        let mut mac = mac.expect("HMAC takes a key of any length");
        mac.update(self.key.as_bytes());
        mac.update(text.as_bytes());
        mac
    }

    fn nonsense(&self) -> io::Result<Option<(File, Entry)>> {
        tracing::warn!(path = %self.path("entry").display(), "the cached image is damaged or was not made by this device; it will be made again");
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
        file.write_all(self.seal(entry).as_bytes())?;
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
        format!("caii image 2\n{}\n{}\n{}\n{}\n", self.image, self.size.0, self.init_fuel.0, self.jail.0)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix("\n")?.split("\n");
        if lines.next()? != "caii image 2" {
            return None;
        }
        let entry = Self {
            image: lines.next()?.parse().ok()?,
            size: Bytes(lines.next()?.parse().ok()?),
            init_fuel: Fuel(lines.next()?.parse().ok()?),
            jail: JailLayers(lines.next()?.parse().ok()?),
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
        let entry = Entry { image: Digest::of(b"x"), size: Bytes(7), init_fuel: Fuel(9), jail: JailLayers(0x1ff) };
        let text = entry.to_text();
        assert_eq!(Entry::parse(&text), Some(entry));
        for end in 0..text.len() - 2 {
            assert_eq!(Entry::parse(&text[..end]), None, "{end}");
        }
        assert_eq!(Entry::parse(&format!("{text}more\n")), None);
    }

    #[test]
    fn only_this_device_opens_what_it_sealed_and_only_in_its_slot() {
        let slot = |secret: u8, key: &str| Slot {
            directory: PathBuf::new(),
            key: key.repeat(64),
            secret: DeviceSecret::new([secret; 32]),
        };
        let entry = Entry { image: Digest::of(b"x"), size: Bytes(7), init_fuel: Fuel(9), jail: JailLayers(0x1ff) };
        let sealed = slot(1, "a").seal(&entry);
        assert_eq!(slot(1, "a").open(&sealed), Some(entry));
        assert_eq!(slot(2, "a").open(&sealed), None, "another device");
        assert_eq!(slot(1, "b").open(&sealed), None, "another workload");
        assert_eq!(slot(1, "a").open(&entry.to_text()), None, "no MAC");
        for at in 0..sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] ^= 1;
            let text = String::from_utf8(bytes).unwrap();
            assert_eq!(slot(1, "a").open(&text), None, "changed at {at}");
            assert_eq!(slot(1, "a").open(&sealed[..at]), None, "cut to {at}");
        }
        assert_eq!(format!("{:?}", DeviceSecret::new([77; 32])), "DeviceSecret(..)");
    }
}
