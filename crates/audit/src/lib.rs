//! Pure: the files that a pool publishes, and the audit of all of them by whoever has them.
//!
//! - [`Logged`]: what is logged, a kind of entry for each thing that credits or trust depend on.
//! - [`Openings`]: files that show what the log's entries commit to, and from which single openings can be erased.
//! - [`Publisher`]: turns what happened into the files to write, in the order in which they must become durable.
//! - [`audit`]: every check that anybody can make from the files alone, each with a verdict in words.
//!
//! `docs/publication.md` has the layout. Nothing here reads a clock, draws randomness or does IO: files are read through
//! [`Files`], so the same files give the same report to everybody.

mod audit;
mod claims;
mod draws;
mod edge;
mod files;
mod logged;
mod money;
mod opening;
mod publisher;
mod report;
mod walk;

pub use audit::{Asked, CannotAudit, Options, audit};
pub use edge::partial_files;
pub use files::{
    CHECKPOINT, FileError, Files, MemoryFiles, POOL, POOL_SIZE_MAX, PoolFile, PoolFileError, Tiles, payout_paths,
    tariff_path,
};
pub use logged::{
    AuditDrawn, AuditDrawnMore, AuditOutcome, AuditedItem, ClaimRef, DeviceConvicted, ENTRY_SIZE_MAX, Finding, Kind,
    Logged, PayoutSent, PoolOpened,
};
pub use opening::{
    ATTACHMENT_SIZE_MAX, OPENINGS_SIZE_MAX, OPENINGS_WIDTH, Opening, Openings, OpeningsError, SIGNED_FOR,
    bundle_digest, commitment, openings_path,
};
pub use publisher::{Event, PublishError, Published, PublishedFile, Publisher, Signers, TakeUpError};
pub use report::{Check, CheckVerdict, Contributor, Outcome, Report, Wrong};
