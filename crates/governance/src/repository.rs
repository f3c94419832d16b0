//! The charter's directory: made, signed by stewards in any order, published and kept fresh.
//!
//! What is in force lies in the directory itself, what awaits signatures under `draft/`. A draft becomes what is in
//! force when enough stewards signed it and the pool's online key refreshes the directory.

use crate::canonical::{canonical, digest, merge, sign, signers};
use crate::error::GovernanceError;
use crate::files::Files;
use crate::key_file::Signer;
use crate::{CHARTER, REVOCATIONS, roles};
use caii_model::{Digest, Millis, Timestamp};
use caii_trust::{Charter, Envelope, PublicKey, Revocation, Revocations};
use serde_json::Value;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

const DRAFT: &str = "draft";
const ROOT: &str = "root.json";
const TARGETS: &str = "targets.json";
const TIMESTAMP: &str = "timestamp.json";

/// What a charter is founded, or changed, with.
#[derive(Debug, Clone)]
pub struct Founding {
    /// The charter. Its id is filled in: it follows from the first root.
    pub charter: Charter,
    /// How many stewards it takes to change it.
    pub threshold: u32,
    /// The pool's key, which keeps the files fresh and can change nothing.
    pub online: PublicKey,
    /// Until when the stewards' signatures on the charter hold.
    pub expires: Timestamp,
}

impl Founding {
    /// The keys that sign the charter.
    fn keys(&self) -> Result<Vec<PublicKey>, GovernanceError> {
        let keys = self.charter.stewards.iter().map(|steward| steward.key.clone());
        let keys: Vec<PublicKey> = keys.filter(|key| matches!(key, PublicKey::Ed25519(_))).collect();
        if !(1..=keys.len()).contains(&(self.threshold as usize)) {
            return Err(GovernanceError::Threshold { threshold: self.threshold, stewards: keys.len() });
        }
        Ok(keys)
    }
}

/// A draft's root, targets and charter.
type DraftFiles = (Value, Value, Vec<u8>);

/// What a refresh did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refreshed {
    /// What was in force is vouched for anew.
    AsBefore,
    /// A draft that enough stewards signed is in force now.
    DraftInForce,
    /// What was in force is vouched for anew. A draft that enough stewards signed names another key for the pool, and
    /// is put in force by a refresh with that one.
    DraftAwaitsItsKey,
}

/// A charter's directory.
#[derive(Debug, Clone)]
pub struct Repository {
    dir: PathBuf,
    pin: Digest,
}

impl Repository {
    /// Drafts a new charter. It is in force when enough stewards signed and the directory is refreshed; its id, which
    /// devices pin, is known at once.
    ///
    /// # Errors
    /// If there is a charter in the directory, or this one contradicts itself.
    pub fn init(dir: &Path, founding: &Founding) -> Result<Self, GovernanceError> {
        if dir.join(DRAFT).join(ROOT).exists() || dir.join("1.root.json").exists() {
            return Err(GovernanceError::Exists(dir.to_owned()));
        }
        founding.charter.check()?;
        let keys = founding.keys()?;
        let root = roles::root(1, founding.expires, &keys, founding.threshold, &founding.online);
        let repository = Self { dir: dir.to_owned(), pin: digest(&root) };
        let charter = founding.charter.to_json();
        let targets = roles::targets(1, founding.expires, &charter, &founding.online);
        repository.write_draft(&root, &targets, &charter)?;
        Ok(repository)
    }

    /// Opens a directory that has a charter, in force or drafted.
    ///
    /// # Errors
    /// If it has none.
    pub fn open(dir: &Path) -> Result<Self, GovernanceError> {
        let first = dir.join("1.root.json");
        let first = if first.exists() { first } else { dir.join(DRAFT).join(ROOT) };
        let root = read_json(&first)?;
        Ok(Self { dir: dir.to_owned(), pin: digest(&root) })
    }

    /// The charter's id, which devices pin: the digest of the first root, signatures not counted.
    pub fn pin(&self) -> Digest {
        self.pin
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The published files, as devices get them.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn files(&self) -> Result<Files, GovernanceError> {
        Files::read(&self.dir)
    }

    /// Drafts a change: other keys, other mandates, or the same ones for longer. What was revoked stays so, whoever is
    /// no steward any more. The draft takes effect when as many stewards of before and of after as each wants signed.
    ///
    /// # Errors
    /// If nothing is in force yet, or the charter contradicts itself.
    pub fn rotate(&self, founding: &Founding) -> Result<(), GovernanceError> {
        let (root, targets) = self.in_force()?;
        let mut charter = founding.charter.clone();
        charter.revoked.merge(&self.revocations()?);
        charter.check()?;
        let next = roles::version(&root) + 1;
        let root = roles::root(next, founding.expires, &founding.keys()?, founding.threshold, &founding.online);
        let charter = charter.to_json();
        let targets = roles::targets(roles::version(&targets) + 1, founding.expires, &charter, &founding.online);
        self.write_draft(&root, &targets, &charter)
    }

    /// Signs everything that awaits this key's signature; the names of what was signed.
    ///
    /// # Errors
    /// If nothing does.
    pub fn sign(&self, signer: &dyn Signer) -> Result<Vec<&'static str>, GovernanceError> {
        let Some((mut root, mut targets, _)) = self.draft()? else { return Err(GovernanceError::NothingToSign) };
        let id = signer.public().id();
        let mut signed = Vec::new();
        if self.root_keys(&root)?.iter().any(|key| key.id() == id) {
            sign(&mut root, signer)?;
            write_atomically(&self.draft_path(ROOT), &pretty(&root))?;
            signed.push(ROOT);
        }
        if roles::role(ROOT, &root, "targets")?.0.iter().any(|key| key.id() == id) {
            sign(&mut targets, signer)?;
            write_atomically(&self.draft_path(TARGETS), &pretty(&targets))?;
            signed.push(TARGETS);
        }
        if signed.is_empty() { Err(GovernanceError::NothingToSign) } else { Ok(signed) }
    }

    /// Takes over the signatures that another copy of this draft has; how many.
    ///
    /// # Errors
    /// If either cannot be read.
    pub fn merge(&self, other: &Self) -> Result<usize, GovernanceError> {
        let (Some((mut root, mut targets, _)), Some((their_root, their_targets, _))) = (self.draft()?, other.draft()?)
        else {
            return Err(GovernanceError::NothingToSign);
        };
        let keys = self.root_keys(&root)?;
        let target_keys = roles::role(ROOT, &root, "targets")?.0;
        let merged = merge(&mut root, &their_root, &keys) + merge(&mut targets, &their_targets, &target_keys);
        write_atomically(&self.draft_path(ROOT), &pretty(&root))?;
        write_atomically(&self.draft_path(TARGETS), &pretty(&targets))?;
        Ok(merged)
    }

    /// Adds a revocation that a steward signed; true if it stops something new. It is published by the next refresh.
    ///
    /// # Errors
    /// If nobody whose word counts signed it.
    pub fn add_revocation(&self, envelope: &Envelope) -> Result<bool, GovernanceError> {
        let revocation = Revocation::read(&self.charter()?, envelope)?;
        let is_new = self.revocations()?.add(revocation);
        let json = envelope.to_json();
        let text = String::from_utf8(json).expect("an envelope's JSON is text");
        let name = format!("revocation-{}.json", &Digest::of(text.as_bytes()).hex()[..16]);
        write_atomically(&self.dir.join(roles::target_file(&name, text.as_bytes())), &text)?;
        Ok(is_new)
    }

    /// Puts a draft that enough stewards signed in force, lists all revocations, and vouches for so long that nothing
    /// newer exists.
    ///
    /// # Errors
    /// If the key is not the pool's, nothing can be in force yet, or a draft would lose a revocation.
    pub fn refresh(&self, online: &dyn Signer, now: Timestamp, valid: Millis) -> Result<Refreshed, GovernanceError> {
        let (draft, refreshed) = match self.complete_draft()? {
            None => (None, Refreshed::AsBefore),
            // Putting it in force without its key at hand would leave files that nobody can load.
            Some((root, _, _)) if online_key(&root)? != online.public() => (None, Refreshed::DraftAwaitsItsKey),
            Some(draft) => (Some(draft), Refreshed::DraftInForce),
        };
        let (root, targets) = match draft {
            Some(draft) => self.promote(draft)?,
            None => match self.in_force() {
                Err(GovernanceError::NotInForce(_)) if refreshed == Refreshed::DraftAwaitsItsKey => {
                    return Err(GovernanceError::OnlineKeyForeign);
                }
                in_force => in_force?,
            },
        };
        if online_key(&root)? != online.public() {
            return Err(GovernanceError::OnlineKeyForeign);
        }
        let expires = now + valid;
        let files = self.files()?;
        let newest = |suffix: &str| {
            let number = |name: &str| name.strip_suffix(suffix)?.strip_suffix('.')?.parse::<u64>().ok();
            files.names().filter_map(number).max().unwrap_or(0)
        };

        let listed: Vec<(String, String)> = revocation_files(&files);
        let version = newest(&format!("{REVOCATIONS}.json")) + 1;
        let revocations = self.signed_file(
            &format!("{version}.{REVOCATIONS}.json"),
            roles::revocations(version, expires, &listed),
            online,
        )?;
        let targets_name = format!("{}.{TARGETS}", roles::version(&targets));
        let targets_text = files
            .get(&targets_name)
            .map_or_else(|| read_text(&self.dir.join(&targets_name)), |text| Ok(text.to_owned()))?;
        let number = newest("snapshot.json") + 1;
        let parts = [
            (TARGETS, roles::version(&targets), targets_text.as_str()),
            ("revocations.json", version, revocations.as_str()),
        ];
        let snapshot =
            self.signed_file(&format!("{number}.snapshot.json"), roles::snapshot(number, expires, &parts), online)?;
        let before = match files.get(TIMESTAMP) {
            Some(text) => roles::version(&roles::parse(TIMESTAMP, text)?),
            None => 0,
        };
        // Last: until it is there, the files of before are in force, whole.
        self.signed_file(TIMESTAMP, roles::timestamp(before + 1, expires, number, &snapshot), online)?;
        self.forget(version, number)?;
        Ok(refreshed)
    }

    /// Removes snapshots and lists of revocations before the last two: devices that fetch now may still want those.
    fn forget(&self, revocations: u64, snapshot: u64) -> Result<(), GovernanceError> {
        for (name, version) in [("revocations.json", revocations), ("snapshot.json", snapshot)] {
            for old in self.files()?.names() {
                let number = old.strip_suffix(name).and_then(|head| head.strip_suffix('.')?.parse::<u64>().ok());
                if number.is_some_and(|number| number + 1 < version) {
                    let path = self.dir.join(old);
                    fs::remove_file(&path).map_err(|source| GovernanceError::file("remove", &path, source))?;
                }
            }
        }
        Ok(())
    }

    fn signed_file(&self, name: &str, mut file: Value, signer: &dyn Signer) -> Result<String, GovernanceError> {
        sign(&mut file, signer)?;
        let text = pretty(&file);
        write_atomically(&self.dir.join(name), &text)?;
        Ok(text)
    }

    /// The draft, if it has all signatures that it needs.
    fn complete_draft(&self) -> Result<Option<DraftFiles>, GovernanceError> {
        let Some((root, targets, charter)) = self.draft()? else { return Ok(None) };
        let complete = self.status_of(&root, &targets)?.iter().all(|awaited| awaited.missing() == 0);
        Ok(complete.then_some((root, targets, charter)))
    }

    /// Puts a complete draft in force.
    fn promote(&self, (root, targets, charter): DraftFiles) -> Result<(Value, Value), GovernanceError> {
        self.keeps_revocations(&charter)?;
        let text = String::from_utf8(charter).map_err(|error| GovernanceError::strange(CHARTER, error))?;
        write_atomically(&self.dir.join(roles::target_file(CHARTER, text.as_bytes())), &text)?;
        write_atomically(&self.dir.join(format!("{}.{TARGETS}", roles::version(&targets))), &pretty(&targets))?;
        // The root goes last: what it vouches for is there when it is.
        write_atomically(&self.dir.join(format!("{}.{ROOT}", roles::version(&root))), &pretty(&root))?;
        let draft = self.dir.join(DRAFT);
        fs::remove_dir_all(&draft).map_err(|source| GovernanceError::file("remove", &draft, source))?;
        Ok((root, targets))
    }

    /// A steward who leaves takes no revocation along.
    fn keeps_revocations(&self, charter: &[u8]) -> Result<(), GovernanceError> {
        let charter = Charter::from_json(self.pin, charter)?;
        let mut kept = charter.revoked.clone();
        for (_, text) in revocation_files(&self.files()?) {
            if let Ok(revocation) = Revocation::read(&charter, &Envelope::from_json(text.as_bytes())?) {
                kept.add(revocation);
            }
        }
        let known = self.revocations()?;
        match known.iter().find(|revocation| kept.of(revocation.what).is_none()) {
            Some(lost) => Err(GovernanceError::RevocationLost { what: lost.what.to_string() }),
            None => Ok(()),
        }
    }

    /// The charter that is in force.
    ///
    /// # Errors
    /// If none is.
    pub fn charter(&self) -> Result<Charter, GovernanceError> {
        let (_, targets) = self.in_force()?;
        let hash = targets["signed"]["targets"][CHARTER]["hashes"]["sha256"].as_str().unwrap_or_default().to_owned();
        let bytes = read_text(&self.dir.join(format!("{hash}.{CHARTER}")))?;
        Ok(Charter::from_json(self.pin, bytes.as_bytes())?)
    }

    /// The charter that is drafted, if one is.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn drafted(&self) -> Result<Option<Charter>, GovernanceError> {
        self.draft()?.map(|(_, _, charter)| Ok(Charter::from_json(self.pin, &charter)?)).transpose()
    }

    /// Everything revoked by the charter in force.
    ///
    /// # Errors
    /// If anything cannot be read.
    pub fn revocations(&self) -> Result<Revocations, GovernanceError> {
        let charter = match self.charter() {
            Err(GovernanceError::NotInForce(_)) => return Ok(Revocations::new()),
            charter => charter?,
        };
        let mut all = charter.revoked.clone();
        for (_, text) in revocation_files(&self.files()?) {
            // One by a steward of former days is in the charter itself.
            if let Ok(revocation) = Revocation::read(&charter, &Envelope::from_json(text.as_bytes())?) {
                all.add(revocation);
            }
        }
        Ok(all)
    }

    /// The newest root and targets that are in force.
    pub(crate) fn in_force(&self) -> Result<(Value, Value), GovernanceError> {
        let newest = |name: &str| {
            let numbered = |version: u64| self.dir.join(format!("{version}.{name}"));
            let last = (1..).take_while(|version| numbered(*version).exists()).last();
            let none = "too few stewards signed it, or the pool's key has not refreshed it".to_owned();
            read_json(&numbered(last.ok_or(GovernanceError::NotInForce(none))?))
        };
        Ok((newest(ROOT)?, newest(TARGETS)?))
    }

    /// The draft's root, targets and charter.
    pub(crate) fn draft(&self) -> Result<Option<DraftFiles>, GovernanceError> {
        if !self.draft_path(ROOT).exists() {
            return Ok(None);
        }
        let (root, targets) = (read_json(&self.draft_path(ROOT))?, read_json(&self.draft_path(TARGETS))?);
        let charter = read_text(&self.draft_path(CHARTER))?.into_bytes();
        let stated = targets["signed"]["targets"][CHARTER]["hashes"]["sha256"].as_str();
        if stated != Some(&Digest::of(&charter).hex()) {
            return Err(GovernanceError::strange("draft/charter.json", "it is not what the draft's targets name"));
        }
        Ok(Some((root, targets, charter)))
    }

    /// Whose signatures a drafted root awaits: its own keys', and those of the root before it.
    fn root_keys(&self, draft: &Value) -> Result<Vec<PublicKey>, GovernanceError> {
        let mut keys = roles::role(ROOT, draft, "root")?.0;
        if roles::version(draft) > 1 {
            keys.extend(roles::role(ROOT, &self.in_force()?.0, "root")?.0);
        }
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }

    /// Which signatures the draft has and needs.
    pub(crate) fn status_of(&self, root: &Value, targets: &Value) -> Result<Vec<crate::Awaited>, GovernanceError> {
        let awaited = |file: &'static str, content: &Value, (keys, threshold): (Vec<PublicKey>, u32)| crate::Awaited {
            file,
            threshold,
            signed: signers(content, &keys),
            keys: keys.iter().map(PublicKey::id).collect(),
        };
        let mut all = vec![
            awaited("the new root, by the new stewards", root, roles::role(ROOT, root, "root")?),
            awaited("the charter, by the new stewards", targets, roles::role(ROOT, root, "targets")?),
        ];
        if roles::version(root) > 1 {
            let before = roles::role(ROOT, &self.in_force()?.0, "root")?;
            all.push(awaited("the new root, by the stewards of before", root, before));
        }
        Ok(all)
    }

    fn draft_path(&self, name: &str) -> PathBuf {
        self.dir.join(DRAFT).join(name)
    }

    fn write_draft(&self, root: &Value, targets: &Value, charter: &[u8]) -> Result<(), GovernanceError> {
        let draft = self.dir.join(DRAFT);
        fs::create_dir_all(&draft).map_err(|source| GovernanceError::file("make", &draft, source))?;
        let text = String::from_utf8(charter.to_vec()).map_err(|error| GovernanceError::strange(CHARTER, error))?;
        write_atomically(&self.draft_path(CHARTER), &text)?;
        write_atomically(&self.draft_path(TARGETS), &pretty(targets))?;
        write_atomically(&self.draft_path(ROOT), &pretty(root))?;
        debug_assert_eq!(canonical(root), canonical(&read_json(&self.draft_path(ROOT))?));
        Ok(())
    }
}

/// The key by which a root's pool keeps the files fresh.
fn online_key(root: &Value) -> Result<PublicKey, GovernanceError> {
    let [key] = <[PublicKey; 1]>::try_from(roles::role(ROOT, root, "timestamp")?.0)
        .map_err(|_| GovernanceError::strange(ROOT, "it does not name one key for the pool"))?;
    Ok(key)
}

/// The envelopes that revoke, by their names as targets.
fn revocation_files(files: &Files) -> Vec<(String, String)> {
    let target = |name: &str| {
        let (hash, target) = name.split_once('.')?;
        (hash.len() == 64 && target.starts_with("revocation-")).then(|| target.to_owned())
    };
    files.names().filter_map(|name| Some((target(name)?, files.get(name)?.to_owned()))).collect()
}

fn pretty(file: &Value) -> String {
    serde_json::to_string_pretty(file).expect("a JSON value becomes JSON") + "\n"
}

fn read_text(path: &Path) -> Result<String, GovernanceError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(GovernanceError::FileMissing { name }),
        Err(source) => Err(GovernanceError::file("read", path, source)),
    }
}

fn read_json(path: &Path) -> Result<Value, GovernanceError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    roles::parse(&name, &read_text(path)?)
}

/// Writes a file whole or not at all.
pub(crate) fn write_atomically(path: &Path, text: &str) -> Result<(), GovernanceError> {
    let error = |source| GovernanceError::file("write", path, source);
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(error)?;
    file.write_all(text.as_bytes()).map_err(error)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // Public: whoever serves the files may be somebody else.
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).map_err(error)?;
    }
    file.as_file().sync_all().map_err(error)?;
    file.persist(path).map_err(|failed| error(failed.error))?;
    Ok(())
}
