//! An agent's directory: its lock, its identity, and the pool that it belongs to.

use caii_model::{Digest, PoolId};
use caii_trust::SigningKey;
use caii_wire::JoinTicket;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Why an agent's directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Another agent has it.
    #[error("another agent runs in {}; stop it first, or give this one a directory of its own (--dir)", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The operating system said no.
    #[error("cannot {attempt} {}", path.display())]
    Io {
        /// What was to be done.
        attempt: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{} is damaged: {reason}. Remove it and join with a new ticket", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The count of claims is not what it should be.
    #[error(
        "{} is damaged: {reason}. Remove it, and the agent begins to count with what the pool says next", path.display()
    )]
    ClaimsDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system gives no random numbers.
    #[error("cannot get random numbers from the operating system")]
    Entropy(#[source] getrandom::Error),
}

/// An agent's directory, which no other agent can use while this exists.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    _lock: File,
}

/// The pool that an agent belongs to, as `pool.toml` in its directory remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Membership {
    /// `host:port`, tried in this order.
    pub(crate) addresses: Vec<String>,
    /// SHA-256 of its certificate.
    pub(crate) certificate: Digest,
    pub(crate) pool: PoolId,
    /// What its leases are verified with.
    pub(crate) pool_public_key: [u8; 32],
    /// The charter that decides what may run here.
    pub(crate) charter: Digest,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MembershipFile {
    addresses: Vec<String>,
    certificate: String,
    pool: String,
    pool_public_key: String,
    charter: String,
}

impl Home {
    /// Takes the directory, which is made if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Self, HomeError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_error("make", path))?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(io_error("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(HomeError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(io_error("lock", &lock_path)(source)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The device's key, made the first time.
    pub(crate) fn identity(&self) -> Result<SigningKey, HomeError> {
        if let Some(key) = identity_in(&self.path)? {
            return Ok(key);
        }
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(HomeError::Entropy)?;
        self.write("identity.key", &seed)?;
        Ok(SigningKey::from_seed(seed))
    }

    /// The pool that was joined last.
    pub(crate) fn membership(&self) -> Result<Option<Membership>, HomeError> {
        membership_in(&self.path)
    }

    /// Remembers the pool.
    pub(crate) fn remember(&self, membership: &Membership) -> Result<(), HomeError> {
        let file = MembershipFile {
            addresses: membership.addresses.clone(),
            certificate: membership.certificate.hex(),
            pool: membership.pool.to_string(),
            pool_public_key: Digest(membership.pool_public_key).hex(),
            charter: membership.charter.hex(),
        };
        let text = toml::to_string(&file).expect("strings and lists of strings can be written as TOML");
        self.write("pool.toml", text.as_bytes())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), HomeError> {
        write(&self.path, name, bytes)
    }
}

/// Writes a file of an agent's directory so that it is there with this content or not at all, whatever happens meanwhile.
pub(crate) fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), HomeError> {
    let (new, path) = (dir.join(format!("{name}.new")), dir.join(name));
    let write = || {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(io_error("write", &path))
}

/// The device's key in this directory, if there is one.
pub(crate) fn identity_in(dir: &Path) -> Result<Option<SigningKey>, HomeError> {
    let path = dir.join("identity.key");
    match fs::read(&path) {
        Ok(bytes) => {
            let seed: [u8; 32] = bytes.try_into().map_err(|bytes: Vec<u8>| HomeError::Damaged {
                path: path.clone(),
                reason: format!("it has {} bytes instead of 32", bytes.len()),
            })?;
            Ok(Some(SigningKey::from_seed(seed)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io_error("read", &path)(source)),
    }
}

/// The pool that the agent in this directory joined last.
pub(crate) fn membership_in(dir: &Path) -> Result<Option<Membership>, HomeError> {
    let path = dir.join("pool.toml");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io_error("read", &path)(source)),
    };
    let damaged = |reason: String| HomeError::Damaged { path: path.clone(), reason };
    let file: MembershipFile = toml::from_str(&text).map_err(|error| damaged(error.message().to_owned()))?;
    let digest = |text: &str| text.parse::<Digest>().map_err(|error| damaged(error.to_string()));
    Ok(Some(Membership {
        certificate: digest(&file.certificate)?,
        pool: file.pool.parse().map_err(|_| damaged("`pool` is no pool's id".into()))?,
        // 32 bytes in hex, as a digest is.
        pool_public_key: digest(&file.pool_public_key)?.0,
        charter: digest(&file.charter)?,
        addresses: file.addresses,
    }))
}

impl Membership {
    /// What a ticket says, once the pool has told its key.
    pub(crate) fn of_ticket(ticket: &JoinTicket, pool_public_key: [u8; 32]) -> Self {
        Self {
            addresses: ticket.addresses.clone(),
            certificate: ticket.certificate,
            pool: ticket.pool,
            pool_public_key,
            charter: ticket.charter,
        }
    }
}

pub(crate) fn io_error<'a>(attempt: &'static str, path: &'a Path) -> impl Fn(io::Error) -> HomeError + use<'a> {
    move |source| HomeError::Io { attempt, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn an_identity_is_made_once_and_readable_by_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent");
        let first = Home::open(&path).unwrap().identity().unwrap().public();
        assert_eq!(Home::open(&path).unwrap().identity().unwrap().public(), first);
        let mode = |name: &str| fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("identity.key"), mode("")), (0o600, 0o700));
    }

    #[test]
    fn a_damaged_identity_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("identity.key"), [1; 31]).unwrap();
        let error = Home::open(dir.path()).unwrap().identity().unwrap_err();
        assert!(matches!(error, HomeError::Damaged { .. }), "{error}");
        assert_eq!(fs::read(dir.path().join("identity.key")).unwrap(), [1; 31]);
    }

    #[test]
    fn two_agents_cannot_share_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let first = Home::open(dir.path()).unwrap();
        let error = Home::open(dir.path()).unwrap_err();
        assert!(error.to_string().contains("another agent runs in"), "{error}");
        drop(first);
        Home::open(dir.path()).unwrap();
    }

    #[test]
    fn the_pool_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        assert_eq!(home.membership().unwrap(), None);
        let membership = Membership {
            addresses: vec!["127.0.0.1:9000".into(), "[::1]:9000".into()],
            certificate: Digest([1; 32]),
            pool: PoolId([2; 8]),
            pool_public_key: [3; 32],
            charter: Digest([4; 32]),
        };
        home.remember(&membership).unwrap();
        assert_eq!(home.membership().unwrap(), Some(membership));
        fs::write(dir.path().join("pool.toml"), "addresses = []\nunknown = 1").unwrap();
        assert!(matches!(home.membership(), Err(HomeError::Damaged { .. })));
    }
}
