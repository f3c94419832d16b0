//! The charter as signed files: how stewards sign it, how pools publish it, how devices verify it.
//!
//! - [`Repository`]: the directory of stewards and pools. Its files follow TUF (<https://theupdateframework.io>), so
//!   that changing keys, rolling back and freezing are covered by a standard.
//! - [`DeviceTrust`]: what a device knows and verified, and its memory of everything that was ever revoked.
//! - [`SoftwareKey`], [`Signer`]: a steward's key in an encrypted file, and the seat for one that is elsewhere.
//!
//! What may run is not decided here: that is [`caii_trust::decide`]. What must never be here: the network. Whoever
//! fetched the files gives them as [`Files`].

mod canonical;
mod device;
mod error;
mod files;
mod key_file;
mod repository;
mod roles;
mod status;

pub use device::{DeviceTrust, Expiry, Update, verify_files};
pub use error::{GovernanceError, KeyFileError};
pub use files::{FILES_SIZE_MAX, Files};
pub use key_file::{Signer, SignerError, SoftwareKey};
pub use repository::{Founding, Refreshed, Repository};
pub use status::{Awaited, Draft, Published, Status};

/// The file of the pool's own key, which keeps the metadata fresh.
pub const ONLINE_KEY: &str = "online.key";
/// The charter's name among the targets.
pub(crate) const CHARTER: &str = "charter.json";
/// The role that lists revocations.
pub(crate) const REVOCATIONS: &str = "revocations";
/// What revocations are called among the targets.
pub(crate) const REVOCATION_PATHS: &str = "revocation-*.json";
