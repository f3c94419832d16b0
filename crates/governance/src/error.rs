//! Why something about the charter's files did not work.

use crate::key_file::SignerError;
use caii_model::Digest;
use caii_trust::{CharterError, EnvelopeError, RevocationRefused};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why the charter's files were refused, or could not be made.
#[derive(Debug, Error)]
pub enum GovernanceError {
    /// A file or directory could not be used.
    #[error("cannot {what} {}", path.display())]
    File {
        /// `read`, `write`, …
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is larger than anything that belongs here, or there are too many.
    #[error("{what}; this is not a charter's directory")]
    TooMuch {
        /// What there is too much of.
        what: String,
    },
    /// A file that must be there is not.
    #[error("the charter's file {name} is missing")]
    FileMissing {
        /// Which.
        name: String,
    },
    /// A file is not what it should be.
    #[error("the charter's file {name} cannot be read: {detail}")]
    FileStrange {
        /// Which.
        name: String,
        /// Why.
        detail: String,
    },
    /// It is another charter than the one that this device was told to trust.
    #[error(
        "this is the charter {}, and this device trusts {}: it is another pool's, or somebody put it there",
        found.short(), expected.short()
    )]
    OtherCharter {
        /// The one that is trusted.
        expected: Digest,
        /// The one that was shown.
        found: Digest,
    },
    /// Too few stewards signed.
    #[error("too few stewards signed the charter's {role}")]
    NotSigned {
        /// Which file.
        role: String,
        /// Why.
        #[source]
        source: Box<tough::error::Error>,
    },
    /// The files are older than what this device has seen already.
    #[error("the charter's files are older than those that this device has seen: somebody replays old ones")]
    RolledBack {
        /// Where it shows.
        #[source]
        source: Box<tough::error::Error>,
    },
    /// The rules are older than those that this device has seen already.
    #[error("the charter is version {found}, and this device has seen {known}: somebody replays an old one")]
    CharterRolledBack {
        /// What was shown.
        found: u64,
        /// What is known.
        known: u64,
    },
    /// The files have expired: nobody vouches any more that nothing newer is held back.
    #[error("the charter's {role} has expired: the pool does not refresh it, or somebody holds newer ones back")]
    Expired {
        /// Which file.
        role: String,
        /// Where it shows.
        #[source]
        source: Box<tough::error::Error>,
    },
    /// The files are not valid TUF metadata.
    #[error("the charter's files are not valid")]
    Tuf(#[source] Box<tough::error::Error>),
    /// The list of revocations is left out.
    #[error("the charter's files come without the list of revocations: somebody holds it back")]
    RevocationsWithheld,
    /// One key stands in the root under two names.
    #[error("the charter's root lists one key twice, which would let one person be counted twice")]
    KeyTwice,
    /// The charter itself is wrong.
    #[error(transparent)]
    Charter(#[from] CharterError),
    /// A revocation is wrong.
    #[error(transparent)]
    Revocation(#[from] RevocationRefused),
    /// An envelope is wrong.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The key did not sign.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The key has nothing to sign here.
    #[error("no file here awaits a signature by this key")]
    NothingToSign,
    /// The threshold of the root cannot be reached.
    #[error("{threshold} of {stewards} keys are to sign changes of the charter; give 1 to {stewards}")]
    Threshold {
        /// What was asked for.
        threshold: u32,
        /// How many keys there are.
        stewards: usize,
    },
    /// The directory has a charter already.
    #[error("{} has a charter already; change it with `caii charter rotate`", .0.display())]
    Exists(PathBuf),
    /// There is a charter, and nothing of it is in force yet.
    #[error("the charter is not in force yet: {0}")]
    NotInForce(String),
    /// The key is not the pool's.
    #[error("this is not the key that the charter names for the pool")]
    OnlineKeyForeign,
    /// A revocation would be lost by the new charter.
    #[error("{what} was revoked since this draft was made; make it anew with `caii charter rotate`")]
    RevocationLost {
        /// What.
        what: String,
    },
}

impl GovernanceError {
    pub(crate) fn file(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File { what, path: path.to_owned(), source }
    }

    pub(crate) fn strange(name: &str, detail: impl ToString) -> Self {
        Self::FileStrange { name: name.to_owned(), detail: detail.to_string() }
    }

    /// A stable code, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::TooMuch { .. } => "charter-too-large",
            Self::FileMissing { .. } | Self::FileStrange { .. } | Self::Tuf(_) => "charter-files",
            Self::OtherCharter { .. } => "charter-other",
            Self::NotSigned { .. } => "charter-not-signed",
            Self::RolledBack { .. } | Self::CharterRolledBack { .. } => "charter-rolled-back",
            Self::Expired { .. } => "charter-expired",
            Self::RevocationsWithheld => "revocations-withheld",
            Self::KeyTwice | Self::Charter(_) | Self::Threshold { .. } => "charter-invalid",
            Self::Revocation(_) | Self::Envelope(_) => "revocation-refused",
            Self::Signer(_) => "signer",
            Self::NothingToSign => "nothing-to-sign",
            Self::Exists(_) => "charter-exists",
            Self::NotInForce(_) => "charter-not-in-force",
            Self::OnlineKeyForeign => "online-key-foreign",
            Self::RevocationLost { .. } => "revocation-lost",
        }
    }
}

impl From<tough::error::Error> for GovernanceError {
    fn from(error: tough::error::Error) -> Self {
        use tough::error::Error as Tuf;
        let role = match &error {
            Tuf::ExpiredMetadata { role, .. } | Tuf::VerifyMetadata { role, .. } => role.to_string(),
            _ => "root".to_owned(),
        };
        let source = Box::new(error);
        match *source {
            Tuf::ExpiredMetadata { .. } => Self::Expired { role, source },
            Tuf::VerifyMetadata { .. } | Tuf::VerifyTrustedMetadata { .. } => Self::NotSigned { role, source },
            Tuf::OlderMetadata { .. }
            | Tuf::OlderSnapshotInTimestamp { .. }
            | Tuf::SnapshotRoleMissing { .. }
            | Tuf::SnapshotRoleRollback { .. } => Self::RolledBack { source },
            _ => Self::Tuf(source),
        }
    }
}

/// Why a key file gives no key.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// It could not be read or written.
    #[error("cannot {what} {}", path.display())]
    File {
        /// `read`, `write`, …
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no key file of this version.
    #[error("not a key file that this release understands: {0}")]
    Strange(String),
    /// It is encrypted and no passphrase was given.
    #[error("the key is encrypted; give its passphrase (--passphrase-file, CAII_PASSPHRASE, or at the prompt)")]
    PassphraseMissing,
    /// The passphrase is wrong, or the file was changed.
    #[error("the passphrase is wrong, or the key file was changed")]
    PassphraseWrong,
    /// A passphrase is too short to protect anything.
    #[error("a passphrase has at least 8 characters")]
    PassphraseShort,
    /// The operating system gives no randomness.
    #[error("the operating system gives no randomness: {0}")]
    Randomness(getrandom::Error),
    /// There is not enough memory to derive the key.
    #[error("cannot derive the encryption key: {0}")]
    Derive(argon2::Error),
}
