//! The pool's directory: its lock, its keys, its certificate, and what local tools read from it.

use caii_model::Digest;
use caii_trust::SigningKey;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Why the pool's directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Another process has it.
    #[error("another `caii pool up` runs in {}; stop it first, or choose another --dir", path.display())]
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
    #[error("{} is damaged: {reason}. Restore it from a backup", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate cannot be made.
    #[error("cannot make a TLS certificate")]
    Certificate(#[source] rcgen::Error),
    /// The operating system gives no random numbers.
    #[error("cannot get random numbers from the operating system")]
    Entropy(#[source] getrandom::Error),
}

/// A pool's directory, which nobody else can open while this exists.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    _lock: File,
}

/// What the pool shows to who connects.
pub(crate) struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) private_key: PrivateKeyDer<'static>,
}

impl Identity {
    /// What tickets and clients pin: SHA-256 of the certificate.
    pub(crate) fn fingerprint(&self) -> Digest {
        Digest::of(&self.certificate)
    }
}

/// How local tools reach the pool as its admin: the file `client.toml` in its directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientFile {
    /// `https://host:port`
    pub url: String,
    /// SHA-256 of the pool's certificate in hex.
    pub fingerprint: String,
    /// An admin key.
    pub key: String,
}

impl ClientFile {
    /// Its name within the pool's directory.
    pub const NAME: &'static str = "client.toml";

    /// The file in this pool directory; nothing if there is none.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn read(pool_dir: &Path) -> Result<Option<Self>, HomeError> {
        let path = pool_dir.join(Self::NAME);
        let Some(text) = read_if_there(&path)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&text);
        toml::from_str(&text).map(Some).map_err(|error| HomeError::Damaged { path, reason: error.to_string() })
    }
}

impl Home {
    /// Opens the directory, which is made if it does not exist, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, HomeError> {
        let io = |attempt| move |source| HomeError::Io { attempt, path: path.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io("create the pool's directory"))?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(io("write into the pool's directory"))?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(HomeError::Locked { path: path.to_owned() }),
            Err(errno) => Err(io("lock the pool's directory")(errno.into())),
        }
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path.join("pool.db")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.path.join("blobs")
    }

    /// Where the pool's own runner keeps what it compiled.
    pub(crate) fn referee(&self) -> PathBuf {
        self.path.join("referee")
    }

    /// What binds what it compiled to this pool; from the pool's key, so that there is nothing more to keep.
    pub(crate) fn referee_secret(&self) -> Result<[u8; 32], HomeError> {
        let key = self.pool_key()?;
        Ok(Digest::of(&key.sign("referee", &Digest::of(b"caii referee 1"))).0)
    }

    /// The pool's directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The key that makes this pool this pool; made on first use.
    pub(crate) fn pool_key(&self) -> Result<SigningKey, HomeError> {
        self.key("pool.key")
    }

    /// The key that signs the log's checkpoints and nothing else; made on first use.
    pub(crate) fn log_key(&self) -> Result<SigningKey, HomeError> {
        self.key("log.key")
    }

    fn key(&self, name: &str) -> Result<SigningKey, HomeError> {
        let path = self.path.join(name);
        let bytes = match read_if_there(&path)? {
            Some(bytes) => bytes,
            None => {
                let seed: [u8; 32] = random()?;
                write_secret(&path, &seed)?;
                seed.to_vec()
            }
        };
        let seed = bytes.try_into().map_err(|bytes: Vec<u8>| HomeError::Damaged {
            path,
            reason: format!("it has {} bytes instead of 32", bytes.len()),
        })?;
        Ok(SigningKey::from_seed(seed))
    }

    /// The certificate that clients pin, and its key; made on first use.
    pub(crate) fn identity(&self) -> Result<Identity, HomeError> {
        let (certificate_path, key_path) = (self.path.join("tls.crt"), self.path.join("tls.key"));
        if read_if_there(&certificate_path)?.is_none() {
            let names = certificate_names();
            let made = rcgen::generate_simple_self_signed(names).map_err(HomeError::Certificate)?;
            // The certificate comes last: a crash between the two makes both anew.
            write_secret(&key_path, made.signing_key.serialize_pem().as_bytes())?;
            write_secret(&certificate_path, made.cert.pem().as_bytes())?;
        }
        let damaged = |path: &Path| {
            let path = path.to_owned();
            move |error: rustls::pki_types::pem::Error| HomeError::Damaged { path, reason: error.to_string() }
        };
        Ok(Identity {
            certificate: CertificateDer::from_pem_file(&certificate_path).map_err(damaged(&certificate_path))?,
            private_key: PrivateKeyDer::from_pem_file(&key_path).map_err(damaged(&key_path))?,
        })
    }

    pub(crate) fn client_file(&self) -> Result<Option<ClientFile>, HomeError> {
        ClientFile::read(&self.path)
    }

    pub(crate) fn write_client_file(&self, file: &ClientFile) -> Result<(), HomeError> {
        let text = toml::to_string(file).expect("three strings are TOML");
        write_secret(&self.path.join(ClientFile::NAME), text.as_bytes())
    }

    /// The text of the current join ticket.
    pub(crate) fn ticket(&self) -> Result<Option<String>, HomeError> {
        Ok(read_if_there(&self.path.join("ticket"))?.map(|text| String::from_utf8_lossy(&text).into_owned()))
    }

    pub(crate) fn write_ticket(&self, ticket: &str) -> Result<(), HomeError> {
        write_secret(&self.path.join("ticket"), format!("{ticket}\n").as_bytes())
    }
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, HomeError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(HomeError::Io { attempt: "read", path: path.to_owned(), source }),
    }
}

/// Writes a file that only its owner can read; whole or not at all.
fn write_secret(path: &Path, content: &[u8]) -> Result<(), HomeError> {
    let directory = path.parent().expect("it is in the pool's directory");
    let write = || -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(directory)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|source| HomeError::Io { attempt: "write", path: path.to_owned(), source })
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N], HomeError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(HomeError::Entropy)?;
    Ok(bytes)
}

/// Whatever this machine may be called by. Pinning clients do not look at them, others do.
fn certificate_names() -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let valid = |name: &str| {
        !name.is_empty() && name.len() < 254 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b))
    };
    if valid(&host) && host != "localhost" {
        names.push(host);
    }
    names.extend(primary_address().map(|address| address.to_string()));
    names
}

/// The address that this machine speaks from, if it is on any network.
fn primary_address() -> Option<IpAddr> {
    // Connecting a datagram socket sends nothing; it only asks for the route (to a documentation address, RFC 5737).
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// Where others find a pool that listens there, the most useful first.
pub(crate) fn ticket_addresses(advertise: &[String], listen: SocketAddr) -> Vec<String> {
    if !advertise.is_empty() {
        return advertise.to_vec();
    }
    if !listen.ip().is_unspecified() {
        return vec![listen.to_string()];
    }
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, listen.port()));
    let primary = primary_address().map(|address| SocketAddr::from((address, listen.port())));
    primary.into_iter().chain([local]).map(|address| address.to_string()).collect()
}

/// How this machine itself reaches a pool that listens there.
pub(crate) fn local_url(listen: SocketAddr) -> String {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("https://{}", SocketAddr::new(ip, listen.port()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        let second = Home::open(dir.path()).unwrap_err();
        assert!(second.to_string().contains("another `caii pool up` runs"), "{second}");
        drop(home);
        Home::open(dir.path()).unwrap();
    }

    #[test]
    fn keys_are_made_once_and_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pool");
        let home = Home::open(&path).unwrap();
        let (key, fingerprint) = (home.pool_key().unwrap().public(), home.identity().unwrap().fingerprint());
        assert_eq!(home.pool_key().unwrap().public(), key);
        let log_key = home.log_key().unwrap().public();
        assert_eq!(home.log_key().unwrap().public(), log_key);
        assert_ne!(log_key, key);
        assert_eq!(home.identity().unwrap().fingerprint(), fingerprint);
        for name in ["pool.key", "log.key", "tls.key", "tls.crt", "lock"] {
            let mode = fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{name}");
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_damaged_key_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        fs::write(dir.path().join("pool.key"), b"short").unwrap();
        assert!(matches!(home.pool_key(), Err(HomeError::Damaged { .. })));
        assert_eq!(fs::read(dir.path().join("pool.key")).unwrap(), b"short");
        fs::write(dir.path().join("tls.crt"), b"no certificate").unwrap();
        assert!(matches!(home.identity(), Err(HomeError::Damaged { .. })));
    }

    #[test]
    fn the_client_file_round_trips() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        assert_eq!(home.client_file().unwrap(), None);
        let file = ClientFile { url: "https://127.0.0.1:1".into(), fingerprint: "ab".into(), key: "k\"".into() };
        home.write_client_file(&file).unwrap();
        assert_eq!(home.client_file().unwrap(), Some(file));
    }

    #[test]
    fn addresses() {
        let listen = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(ticket_addresses(&[], listen("10.1.2.3:7443")), ["10.1.2.3:7443"]);
        assert_eq!(ticket_addresses(&["p.example:1".into()], listen("0.0.0.0:7443")), ["p.example:1"]);
        assert_eq!(ticket_addresses(&[], listen("0.0.0.0:7443")).last().unwrap(), "127.0.0.1:7443");
        assert_eq!(local_url(listen("0.0.0.0:7")), "https://127.0.0.1:7");
        assert_eq!(local_url(listen("[::]:7")), "https://[::1]:7");
        assert_eq!(local_url(listen("10.1.2.3:7")), "https://10.1.2.3:7");
    }
}
