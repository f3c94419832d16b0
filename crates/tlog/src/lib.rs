//! Pure: the transparency log, by the standards of C2SP, so that anybody's tools can check it.
//!
//! A log is a directory of files that never change ([`Tile`]: `tile/0/000`, `tile/entries/000` …) and one that does, the
//! checkpoint. Its entries are 32-byte commitments: a log never holds what it commits to, so erasing that leaves every
//! proof valid.
//!
//! - [`Log`] appends entries and yields the files to write; it remembers no more than the tree's right edge.
//! - [`prove_inclusion`] and [`prove_consistency`] make proofs from tiles; [`OfflineProof`] is the file that a person keeps.
//! - [`Note`], [`Checkpoint`], [`VerifierKey`]: what a log signs (`signed-note`, `tlog-checkpoint`).
//! - [`Witness`]: signs what it saw, and never two trees of one size (`tlog-witness`, `tlog-cosignature`).
//! - [`Policy`]: whose signatures make a checkpoint believable (`tlog-policy`).
//! - [`fsck`] rebuilds the whole tree from its entries and names the first file that is wrong.
//!
//! Nothing here reads a clock, draws randomness or does IO; files are read through a [`TileReader`]. Everything that
//! parses takes untrusted bytes, has a limit and accepts one spelling alone.

mod checkpoint;
mod fsck;
mod key;
mod log;
mod note;
mod offline;
mod policy;
mod proof;
mod reader;
mod request;
mod text;
mod tile;
mod witness;

pub use checkpoint::{Checkpoint, CheckpointError, ORIGIN_LEN_MAX, Origin, OriginError, SplitView, Unbelievable};
pub use fsck::{Checked, Damage, fsck, fsck_each};
pub use key::{Cosigner, KeyName, KeyNameError, KeyType, NoteSigner, UnixSeconds, VerifierKey, VerifierKeyError};
pub use log::{Appended, Log, LogFull, ResumeError};
pub use note::{NOTE_SIGNATURES_MAX, NOTE_SIZE_MAX, Note, NoteError, NoteSignature, SignedBy, Unverified};
pub use offline::{EXTRA_SIZE_MAX, OFFLINE_PROOF_SIZE_MAX, OfflineProof, OfflineProofError, OfflineProofRefused};
pub use policy::{
    Accepted, Group, Member, POLICY_LINES_MAX, POLICY_SIZE_MAX, Policy, PolicyError, PolicyLog, PolicyRefused,
    PolicyWitness, Quorum,
};
pub use proof::{
    PROOF_LEN_MAX, ProofError, earlier_tree, entry_hash, prove_consistency, prove_inclusion, verify_consistency,
    verify_inclusion,
};
pub use reader::{MemoryTiles, TileError, TileMissing, TileReader, read_entries};
pub use request::{AddCheckpoint, REQUEST_SIZE_MAX, RequestError, parse_cosignatures, parse_known_size};
pub use tile::{TILE_WIDTH, TREE_SIZE_MAX, Tile, TileKind, TilePathError, Tree, tiles_of};
pub use witness::{Cosigned, KnownLog, RestoreError, Witness, WitnessRefusal};
