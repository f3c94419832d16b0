//! What a device knows of its charter: verified, persisted whole, and with a memory of every revocation.
//!
//! The walk from the pinned root to the newest files is `tough`'s (TUF, section 5). It gets a scratch directory for
//! each walk and its outcome is kept only if the whole walk held, in one file that is replaced at once: a crash in
//! between leaves what was known before, never less.

use crate::canonical::digest;
use crate::error::GovernanceError;
use crate::files::Files;
use crate::repository::write_atomically;
use crate::{CHARTER, REVOCATIONS, roles};
use async_trait::async_trait;
use caii_model::{Digest, Timestamp};
use caii_trust::{Charter, Envelope, Revocation, Revocations, Trusted};
use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tough::schema::RoleType;
use tough::{
    ExpirationEnforcement, Limits, RepositoryLoader, TargetName, Transport, TransportError, TransportErrorKind,
    TransportStream,
};
use url::Url;

const STATE: &str = "trust.json";
const STATE_SIZE_MAX: u64 = 64 << 20;
/// What a walk remembers of the one before, against rolling back.
const REMEMBERED: [&str; 2] = ["timestamp.json", "snapshot.json"];
/// Changes of keys since the first root.
const ROOTS_MAX: u64 = 1_024;

/// Whether expired files are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// They are: what devices do.
    Refused,
    /// They are read, and say themselves until when they held: for people who look at an old copy.
    Shown,
}

/// What an update brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Whether charter or revocations are others than before: what runs is to be decided again.
    pub changed: bool,
    /// Files listed as revocations that revoke nothing, each with its reason.
    pub ignored: Vec<String>,
}

/// A device's trust: which charter, and what was verified of it.
#[derive(Debug)]
pub struct DeviceTrust {
    path: PathBuf,
    pin: Digest,
    state: Option<State>,
}

#[derive(Debug, Clone)]
struct State {
    root: String,
    remembered: Vec<(String, String)>,
    targets_version: u64,
    charter_json: String,
    trusted: Trusted,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    caii_trust: u32,
    pin: String,
    root: String,
    remembered: Vec<(String, String)>,
    targets_version: u64,
    charter: String,
    fresh_until_ms: u64,
    revocations: String,
}

impl DeviceTrust {
    /// What is kept in this directory of the charter with this id; nothing yet if the directory is new.
    ///
    /// # Errors
    /// If what is kept cannot be read or is of another charter. It is never forgotten by itself: it holds revocations.
    pub fn open(dir: &Path, pin: Digest) -> Result<Self, GovernanceError> {
        std::fs::create_dir_all(dir).map_err(|source| GovernanceError::file("make", dir, source))?;
        let path = dir.join(STATE);
        let read = |source| GovernanceError::file("read", &path, source);
        let state = match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => return Err(read(source)),
            Ok(found) if found.len() > STATE_SIZE_MAX => {
                return Err(GovernanceError::TooMuch { what: format!("{STATE} is too large") });
            }
            Ok(_) => Some(State::from_json(pin, &std::fs::read(&path).map_err(read)?)?),
        };
        Ok(Self { path, pin, state })
    }

    /// The charter's id.
    pub fn pin(&self) -> Digest {
        self.pin
    }

    /// What was verified last; nothing before the first update. Whether it is fresh is for the gate to say.
    pub fn trusted(&self) -> Option<&Trusted> {
        self.state.as_ref().map(|state| &state.trusted)
    }

    /// Verifies files that came from anywhere and keeps what they say, or keeps what was known and says why not.
    ///
    /// # Errors
    /// If the files are another charter's, unsigned, old, expired or damaged.
    pub async fn update(&mut self, files: &Files) -> Result<Update, GovernanceError> {
        let (state, ignored) = walk(self.pin, files, self.state.as_ref(), Expiry::Refused).await?;
        self.keep(state, ignored)
    }

    /// Takes a revocation that came by itself, without waiting for the next files; true if it stops something new.
    ///
    /// # Errors
    /// If nobody whose word counts signed it, or nothing is known of the charter yet.
    pub fn revoke(&mut self, envelope: &Envelope) -> Result<bool, GovernanceError> {
        let Some(state) = &self.state else {
            return Err(GovernanceError::NotInForce("this device has not seen its files yet".to_owned()));
        };
        let mut state = state.clone();
        let revocation = Revocation::read(&state.trusted.charter, envelope)?;
        if state.trusted.revoked(revocation.what).is_some() {
            return Ok(false);
        }
        state.trusted.revocations.add(revocation);
        self.keep(state, Vec::new()).map(|update| update.changed)
    }

    fn keep(&mut self, state: State, ignored: Vec<String>) -> Result<Update, GovernanceError> {
        let known = self.trusted().map(|trusted| (&trusted.charter, &trusted.revocations));
        let changed = known != Some((&state.trusted.charter, &state.trusted.revocations));
        // On disk before anybody acts on it.
        write_atomically(&self.path, &state.to_json(self.pin))?;
        self.state = Some(state);
        Ok(Update { changed, ignored })
    }
}

/// Verifies a charter's files for somebody who keeps nothing: what a person does who was given them.
///
/// # Errors
/// As [`DeviceTrust::update`].
pub async fn verify_files(pin: Digest, files: &Files, expiry: Expiry) -> Result<Trusted, GovernanceError> {
    walk(pin, files, None, expiry).await.map(|(state, _)| state.trusted)
}

impl State {
    fn to_json(&self, pin: Digest) -> String {
        let json = Json {
            caii_trust: 1,
            pin: pin.to_string(),
            root: self.root.clone(),
            remembered: self.remembered.clone(),
            targets_version: self.targets_version,
            charter: self.charter_json.clone(),
            fresh_until_ms: self.trusted.fresh_until.0,
            revocations: text(self.trusted.revocations.to_json()),
        };
        serde_json::to_string(&json).expect("strings and numbers become JSON")
    }

    fn from_json(pin: Digest, bytes: &[u8]) -> Result<Self, GovernanceError> {
        let json: Json = serde_json::from_slice(bytes).map_err(|error| GovernanceError::strange(STATE, error))?;
        if json.caii_trust != 1 {
            return Err(GovernanceError::strange(STATE, format!("version {}", json.caii_trust)));
        }
        let kept: Digest = json.pin.parse().map_err(|error| GovernanceError::strange(STATE, error))?;
        if kept != pin {
            return Err(GovernanceError::OtherCharter { expected: kept, found: pin });
        }
        let revocations = Revocations::from_json(json.revocations.as_bytes());
        Ok(Self {
            trusted: Trusted {
                charter: Charter::from_json(pin, json.charter.as_bytes())?,
                fresh_until: Timestamp(json.fresh_until_ms),
                revocations: revocations.map_err(|error| GovernanceError::strange(STATE, error))?,
            },
            root: json.root,
            remembered: json.remembered,
            targets_version: json.targets_version,
            charter_json: json.charter,
        })
    }
}

fn text(json: Vec<u8>) -> String {
    String::from_utf8(json).expect("JSON is text")
}

/// From the newest root that is known, or the pinned one, to everything that the files say.
async fn walk(
    pin: Digest,
    files: &Files,
    known: Option<&State>,
    expiry: Expiry,
) -> Result<(State, Vec<String>), GovernanceError> {
    let root = match known {
        Some(known) => known.root.clone(),
        None => first_root(pin, files)?,
    };
    let scratch = tempfile::tempdir().map_err(|source| GovernanceError::file("make", &std::env::temp_dir(), source))?;
    for (name, text) in known.map(|known| known.remembered.as_slice()).unwrap_or_default() {
        write_atomically(&scratch.path().join(name), text)?;
    }
    let base = Url::parse("files:///").expect("this is a URL");
    let enforcement = match expiry {
        Expiry::Refused => ExpirationEnforcement::Safe,
        Expiry::Shown => ExpirationEnforcement::Unsafe,
    };
    let repository = RepositoryLoader::new(&root, base.clone(), base)
        .transport(InMemory(Arc::new(files.clone())))
        .limits(Limits { max_root_updates: ROOTS_MAX, ..Limits::default() })
        .datastore(scratch.path())
        .expiration_enforcement(enforcement)
        .load()
        .await?;

    let root = &repository.root().signed;
    for role in [RoleType::Root, RoleType::Targets] {
        // `tough` counts key ids, and a field that it does not know makes another id of the same key.
        let keys: Vec<String> = root.keys(role).map(|key| format!("{:?}", public(key))).collect();
        if keys.iter().collect::<BTreeSet<_>>().len() != keys.len() {
            return Err(GovernanceError::KeyTwice);
        }
    }
    let targets = &repository.targets().signed;
    let (found, known_version) = (targets.version.get(), known.map_or(0, |known| known.targets_version));
    if found < known_version {
        // The standard forgets versions when the online key changes; stewards' versions need no such forgetting.
        return Err(GovernanceError::CharterRolledBack { found, known: known_version });
    }
    let listed = targets.delegated_targets(REVOCATIONS).map_err(|_| GovernanceError::RevocationsWithheld)?;
    let fresh_until = [
        root.expires,
        targets.expires,
        listed.signed.expires,
        repository.snapshot().signed.expires,
        repository.timestamp().signed.expires,
    ];
    let fresh_until = fresh_until.iter().map(|time| time.as_millisecond()).min().unwrap_or(0);

    let charter_json = text_of(CHARTER, target(&repository, CHARTER).await?)?;
    let charter = Charter::from_json(pin, charter_json.as_bytes())?;
    let mut revocations = known.map(|known| known.trusted.revocations.clone()).unwrap_or_default();
    revocations.merge(&charter.revoked);
    let mut ignored = Vec::new();
    for name in listed.signed.targets.keys() {
        let bytes = target(&repository, name.raw()).await?;
        let read = Envelope::from_json(&bytes).map_err(GovernanceError::from);
        match read.and_then(|envelope| Ok(Revocation::read(&charter, &envelope)?)) {
            Ok(revocation) => {
                revocations.add(revocation);
            }
            Err(error) => ignored.push(format!("{}: {error}", name.raw())),
        }
    }
    let kept = |name: &str| {
        let path = scratch.path().join(name);
        std::fs::read_to_string(&path).map_err(|source| GovernanceError::file("read", &path, source))
    };
    let remembered = REMEMBERED.iter().map(|name| Ok(((*name).to_owned(), kept(name)?)));
    let state = State {
        root: kept("root.json")?,
        remembered: remembered.collect::<Result<_, GovernanceError>>()?,
        targets_version: found,
        charter_json,
        trusted: Trusted { charter, fresh_until: Timestamp(fresh_until.try_into().unwrap_or(0)), revocations },
    };
    Ok((state, ignored))
}

/// The first root, if it is the pinned one.
fn first_root(pin: Digest, files: &Files) -> Result<String, GovernanceError> {
    const NAME: &str = "1.root.json";
    let text = files.get(NAME).ok_or_else(|| GovernanceError::FileMissing { name: NAME.to_owned() })?;
    // As `tough` reads it, so that what is pinned is what is followed.
    let parsed: tough::schema::Signed<tough::schema::Root> =
        serde_json::from_str(text).map_err(|error| GovernanceError::strange(NAME, error))?;
    let parsed = serde_json::to_value(&parsed).map_err(|error| GovernanceError::strange(NAME, error))?;
    let found = digest(&parsed);
    if roles::version(&parsed) != 1 || found != pin {
        return Err(GovernanceError::OtherCharter { expected: pin, found });
    }
    Ok(text.to_owned())
}

fn public(key: &tough::schema::key::Key) -> String {
    use tough::schema::key::Key;
    match key {
        Key::Ed25519 { keyval, .. } => format!("ed25519 {:?}", keyval.public),
        Key::Rsa { keyval, .. } => format!("rsa {:?}", keyval.public),
        Key::Ecdsa { keyval, .. } | Key::EcdsaOld { keyval, .. } => format!("ecdsa {:?}", keyval.public),
    }
}

/// A target's bytes, verified against the signed list.
async fn target(repository: &tough::Repository, name: &str) -> Result<Vec<u8>, GovernanceError> {
    let missing = || GovernanceError::FileMissing { name: name.to_owned() };
    let target = TargetName::new(name).map_err(|_| missing())?;
    let stream = repository.read_target(&target).await?.ok_or_else(missing)?;
    let collected: Vec<u8> = stream
        .try_fold(Vec::new(), |mut all, bytes| {
            all.extend_from_slice(&bytes);
            std::future::ready(Ok(all))
        })
        .await?;
    Ok(collected)
}

fn text_of(name: &str, bytes: Vec<u8>) -> Result<String, GovernanceError> {
    String::from_utf8(bytes).map_err(|error| GovernanceError::strange(name, error))
}

/// Files that somebody fetched already.
#[derive(Debug, Clone)]
struct InMemory(Arc<Files>);

#[async_trait]
impl Transport for InMemory {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let name = url.path().trim_start_matches('/');
        match self.0.get(name) {
            None => Err(TransportError::new(TransportErrorKind::FileNotFound, url)),
            Some(text) => {
                let bytes = tough::Bytes::from(text.to_owned());
                Ok(Box::pin(futures_util::stream::once(std::future::ready(Ok(bytes)))))
            }
        }
    }
}
