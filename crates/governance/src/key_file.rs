//! A steward's key in a file, encrypted with a passphrase; and the seat for a key that is elsewhere.
//!
//! The file is JSON of version 1. The secret is encrypted by ChaCha20-Poly1305 under a key that Argon2id derives from
//! the passphrase; everything else in the file is authenticated with it.

use crate::error::KeyFileError;
use argon2::{Argon2, Params};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use caii_trust::{PublicKey, SigningKey};
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use thiserror::Error;
use zeroize::Zeroizing;

/// What Argon2id costs: 64 MiB, three passes, as OWASP and RFC 9106 recommend for where memory is short.
const MEMORY_KIB: u32 = 64 << 10;
const PASSES: u32 = 3;
/// What a file may ask for at most: it could come from somebody else.
const MEMORY_KIB_MAX: u32 = 1 << 20;
const PASSES_MAX: u32 = 16;
const PASSPHRASE_MIN: usize = 8;
const KEY_FILE_MAX: u64 = 64 << 10;

/// Something that signs for a steward: a key in this process, or a token that keeps its key to itself.
pub trait Signer: Send + Sync {
    /// The key that signatures are checked with.
    fn public(&self) -> PublicKey;

    /// Signs these bytes as they are.
    ///
    /// # Errors
    /// If the token is not there, or its holder says no.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError>;
}

/// Why nothing was signed.
#[derive(Debug, Error)]
pub enum SignerError {
    /// The token said no, or nothing.
    #[error("the key did not sign: {0}")]
    Refused(String),
}

/// A key whose secret is in this process. It is wiped from memory when it is dropped.
#[derive(Debug, Clone)]
pub struct SoftwareKey {
    /// Whose it is, for people.
    pub name: String,
    key: SigningKey,
}

impl Signer for SoftwareKey {
    fn public(&self) -> PublicKey {
        PublicKey::Ed25519(self.key.public())
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        Ok(self.key.sign_message(message).to_vec())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    caii_key: u32,
    name: String,
    algorithm: String,
    public: String,
    protection: Protection,
    secret: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "kebab-case")]
enum Protection {
    None,
    Passphrase { kdf: String, memory_kib: u32, passes: u32, salt: String, cipher: String, nonce: String },
}

const KDF: &str = "argon2id";
const CIPHER: &str = "chacha20-poly1305";

impl SoftwareKey {
    /// A new key of the operating system's randomness.
    ///
    /// # Errors
    /// If there is none.
    pub fn generate(name: &str) -> Result<Self, KeyFileError> {
        let seed = Zeroizing::new(random()?);
        Ok(Self::from_seed(name, &seed))
    }

    /// The key of these secret bytes.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Self {
        Self { name: name.to_owned(), key: SigningKey::from_seed(*seed) }
    }

    /// Makes a new key and writes it to a file that is not there yet and that only its owner can read; with a
    /// passphrase, encrypted.
    ///
    /// # Errors
    /// If the file exists or cannot be written, or the passphrase is too short.
    pub fn create(path: &Path, name: &str, passphrase: Option<&str>) -> Result<Self, KeyFileError> {
        let seed = Zeroizing::new(random::<32>()?);
        let key = Self::from_seed(name, &seed);
        let mut json = Json {
            caii_key: 1,
            name: name.to_owned(),
            algorithm: "ed25519".to_owned(),
            public: key.public().hex(),
            protection: Protection::None,
            secret: String::new(),
        };
        json.secret = match passphrase {
            None => STANDARD.encode(seed.as_slice()),
            Some(passphrase) => {
                if passphrase.chars().count() < PASSPHRASE_MIN {
                    return Err(KeyFileError::PassphraseShort);
                }
                let (salt, nonce): ([u8; 16], [u8; 12]) = (random()?, random()?);
                json.protection = Protection::Passphrase {
                    kdf: KDF.to_owned(),
                    memory_kib: MEMORY_KIB,
                    passes: PASSES,
                    salt: STANDARD.encode(salt),
                    cipher: CIPHER.to_owned(),
                    nonce: STANDARD.encode(nonce),
                };
                let cipher = cipher(passphrase, &salt, MEMORY_KIB, PASSES)?;
                let payload = Payload { msg: seed.as_slice(), aad: &json.authenticated() };
                let secret = cipher.encrypt(&Nonce::from(nonce), payload).expect("32 bytes can be encrypted");
                STANDARD.encode(secret)
            }
        };
        let text = Zeroizing::new(serde_json::to_string_pretty(&json).expect("strings become JSON") + "\n");
        write_private(path, text.as_bytes()).map_err(|source| KeyFileError::File {
            what: "write",
            path: path.to_owned(),
            source,
        })?;
        Ok(key)
    }

    /// The name and the public key that a key file states. No passphrase is needed, so nothing proves that the secret
    /// belongs to them.
    ///
    /// # Errors
    /// If the file is none.
    pub fn stated(path: &Path) -> Result<(String, PublicKey), KeyFileError> {
        let json = read_file(path)?;
        let key = PublicKey::parse(&json.algorithm, &json.public);
        key.map(|key| (json.name, key)).map_err(|error| KeyFileError::Strange(error.to_string()))
    }

    /// Reads a key file. The passphrase is asked for only if the file is encrypted.
    ///
    /// # Errors
    /// If the file is none, or the passphrase is wrong.
    pub fn read(
        path: &Path,
        passphrase: impl FnOnce(&str) -> Result<Zeroizing<String>, KeyFileError>,
    ) -> Result<Self, KeyFileError> {
        let strange = |detail: String| KeyFileError::Strange(detail);
        let json = read_file(path)?;
        let decode = |field: &str, text: &str| STANDARD.decode(text).map_err(|_| strange(format!("`{field}`")));
        let secret = Zeroizing::new(decode("secret", &json.secret)?);
        let seed = match &json.protection {
            Protection::None => secret,
            Protection::Passphrase { kdf, memory_kib, passes, salt, cipher: name, nonce } => {
                let fits = (8..=MEMORY_KIB_MAX).contains(memory_kib) && (1..=PASSES_MAX).contains(passes);
                if kdf != KDF || name != CIPHER || !fits {
                    return Err(strange(format!("protected by {kdf} and {name}")));
                }
                let nonce: [u8; 12] = decode("nonce", nonce)?.try_into().map_err(|_| strange("`nonce`".into()))?;
                let passphrase = passphrase(&json.name)?;
                let cipher = cipher(&passphrase, &decode("salt", salt)?, *memory_kib, *passes)?;
                let payload = Payload { msg: secret.as_slice(), aad: &json.authenticated() };
                let seed = cipher.decrypt(&Nonce::from(nonce), payload).map_err(|_| KeyFileError::PassphraseWrong)?;
                Zeroizing::new(seed)
            }
        };
        let seed: &[u8; 32] = seed.as_slice().try_into().map_err(|_| strange("`secret`".into()))?;
        let key = Self::from_seed(&json.name, seed);
        if key.public().hex() != json.public {
            return Err(strange("its public key is not that of its secret".into()));
        }
        Ok(key)
    }
}

impl Json {
    /// What is authenticated with the secret: all the rest, so that nobody can put another name or cost to it.
    fn authenticated(&self) -> Vec<u8> {
        let Self { caii_key, name, algorithm, public, protection, secret: _ } = self;
        serde_json::to_vec(&(caii_key, name, algorithm, public, protection)).expect("strings become JSON")
    }
}

fn read_file(path: &Path) -> Result<Json, KeyFileError> {
    let file = |source| KeyFileError::File { what: "read", path: path.to_owned(), source };
    if fs::metadata(path).map_err(file)?.len() > KEY_FILE_MAX {
        return Err(KeyFileError::Strange("it is too large".to_owned()));
    }
    let bytes = Zeroizing::new(fs::read(path).map_err(file)?);
    let json: Json = serde_json::from_slice(&bytes).map_err(|error| KeyFileError::Strange(error.to_string()))?;
    if json.caii_key != 1 || json.algorithm != "ed25519" {
        let detail = format!("version {}, algorithm {}", json.caii_key, json.algorithm);
        return Err(KeyFileError::Strange(detail));
    }
    Ok(json)
}

fn cipher(passphrase: &str, salt: &[u8], memory_kib: u32, passes: u32) -> Result<ChaCha20Poly1305, KeyFileError> {
    let params = Params::new(memory_kib, passes, 1, Some(32)).map_err(KeyFileError::Derive)?;
    let argon2 = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let mut key = Zeroizing::new([0; 32]);
    argon2.hash_password_into(passphrase.as_bytes(), salt, key.as_mut_slice()).map_err(KeyFileError::Derive)?;
    Ok(ChaCha20Poly1305::new(&Key::from(*key)))
}

fn random<const N: usize>() -> Result<[u8; N], KeyFileError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(KeyFileError::Randomness)?;
    Ok(bytes)
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(passphrase: &str) -> impl FnOnce(&str) -> Result<Zeroizing<String>, KeyFileError> {
        move |_| Ok(Zeroizing::new(passphrase.to_owned()))
    }

    #[test]
    fn keys_survive_their_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alice.key");
        let key = SoftwareKey::create(&path, "alice", Some("correct horse")).unwrap();
        let read = SoftwareKey::read(&path, given("correct horse")).unwrap();
        assert_eq!((read.name.as_str(), read.public()), ("alice", key.public()));
        assert_eq!(key.public().verify(b"m", &read.sign(b"m").unwrap()), Ok(()));
        assert!(matches!(SoftwareKey::read(&path, given("wrong horse")), Err(KeyFileError::PassphraseWrong)));
        let none = |_: &str| Err(KeyFileError::PassphraseMissing);
        assert!(matches!(SoftwareKey::read(&path, none), Err(KeyFileError::PassphraseMissing)));
        assert!(SoftwareKey::create(&path, "alice", None).is_err(), "a key is never overwritten");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        // Nothing in the file can be changed unseen.
        let text = fs::read_to_string(&path).unwrap();
        for (from, to) in [("alice", "mallory"), ("\"passes\": 3", "\"passes\": 2"), ("65536", "65535")] {
            fs::write(&path, text.replacen(from, to, 1)).unwrap();
            assert!(
                matches!(SoftwareKey::read(&path, given("correct horse")), Err(KeyFileError::PassphraseWrong)),
                "{to}"
            );
        }
        for (from, to) in [
            ("65536", "4294967295"),
            ("\"passes\": 3", "\"passes\": 300"),
            ("argon2id", "md5"),
            ("\"caii_key\": 1", "\"caii_key\": 2"),
        ] {
            fs::write(&path, text.replacen(from, to, 1)).unwrap();
            assert!(matches!(SoftwareKey::read(&path, given("correct horse")), Err(KeyFileError::Strange(_))), "{to}");
        }
    }

    #[test]
    fn keys_without_a_passphrase_are_made_only_when_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("online.key");
        assert!(matches!(SoftwareKey::create(&path, "x", Some("short")), Err(KeyFileError::PassphraseShort)));
        let key = SoftwareKey::create(&path, "pool", None).unwrap();
        let asked = |_: &str| panic!("nothing is to be asked");
        assert_eq!(SoftwareKey::read(&path, asked).unwrap().public(), key.public());
        let other = SoftwareKey::generate("other").unwrap().public().hex();
        let text = fs::read_to_string(&path).unwrap().replace(&key.public().hex(), &other);
        fs::write(&path, text).unwrap();
        assert!(matches!(SoftwareKey::read(&path, asked), Err(KeyFileError::Strange(_))));
    }
}
