//! What a requester asks for and what comes back: jobs, tasks, items.

use crate::{Bytes, Digest, FileId, Fuel, JailLayers, KeyId, Millis, Timestamp};

/// What happened to one item, the same on every honest device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemOutcome {
    /// The program's standard output, or why there is none.
    pub result: Result<Vec<u8>, ItemError>,
    /// Units used; a trapped item is charged [`ItemError::TRAP_CHARGE`] instead, because the engine's count is then
    /// only close to the actual amount.
    pub fuel: Fuel,
    /// Its standard error, cut to the manifest's limit. For the requester alone.
    pub stderr: Vec<u8>,
}

/// Why an item has no result. These are facts about the program and its input, never about the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ItemError {
    /// The program ended with this non-zero exit code.
    Exit(i32),
    /// The program trapped.
    Trap(TrapKind),
    /// It used more fuel than the manifest allows.
    FuelExhausted,
    /// It wrote more output than the manifest allows.
    OutputTooLarge,
}

impl ItemError {
    /// What an item that trapped or ran out of a limit is charged.
    pub const TRAP_CHARGE: Fuel = Fuel(1_000_000);
}

/// How a program trapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TrapKind {
    /// The `unreachable` instruction: usually an abort or a panic.
    Unreachable,
    /// An access outside linear memory or a table.
    OutOfBounds,
    /// The call stack was exhausted.
    StackOverflow,
    /// An indirect call of a missing function or of one with another signature.
    BadCall,
    /// Integer division by zero or overflow, or an invalid float conversion.
    Arithmetic,
    /// Any other trap.
    Other,
}

/// Who pays and owns: a name chosen by the operator, 1 to 64 characters of `a-z`, `0-9`, `-`, `_` and `.`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Account(String);

impl Account {
    /// The account of this name, if it is a valid name.
    pub fn new(name: &str) -> Option<Self> {
        let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
        ((1..=64).contains(&name.len()) && name.bytes().all(valid)).then(|| Self(name.to_owned()))
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an API key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Everything, in every account.
    Admin,
    /// Submit work and see what belongs to its own account.
    Requester,
}

/// An API key. The pool never holds its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its id.
    pub id: KeyId,
    /// A label for people, at most 100 characters.
    pub name: String,
    /// Whose it is.
    pub account: Account,
    /// What it may do.
    pub role: Role,
    /// SHA-256 of the secret.
    pub secret_hash: Digest,
    /// When it was made.
    pub created: Timestamp,
    /// When it was revoked, if it was.
    pub revoked: Option<Timestamp>,
}

/// A file in the pool's store, as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMeta {
    /// Its id.
    pub id: FileId,
    /// Whose it is.
    pub owner: Account,
    /// The name given at upload, at most 255 bytes.
    pub filename: String,
    /// What it is for.
    pub purpose: FilePurpose,
    /// Address of its content.
    pub digest: Digest,
    /// Size of its content.
    pub size: Bytes,
    /// When it was made.
    pub created: Timestamp,
}

/// What a file is for. The names are those of the OpenAI API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FilePurpose {
    /// Input of a batch (`batch`).
    Batch,
    /// Output of a batch or a job (`batch_output`).
    BatchOutput,
    /// Anything else that a requester uploads, such as the input of a program (`user_data`).
    UserData,
}

/// A model that batches and OpenAI clients may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// The name in requests: 1 to 100 characters of ASCII letters, digits, `.`, `_`, `-`, `/` and `:`.
    pub name: String,
    /// The workload that runs it.
    pub workload: Digest,
    /// What it serves.
    pub endpoint: Endpoint,
    /// Length of an embedding.
    pub dimensions: u32,
    /// Longest input in tokens.
    pub tokens_max: u32,
    /// Where it came from, for people, at most 200 characters.
    pub source: String,
    /// When it was added.
    pub added: Timestamp,
}

/// The OpenAI endpoints that can be batched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// `/v1/embeddings`
    Embeddings,
}

impl Endpoint {
    /// Its path.
    pub fn path(self) -> &'static str {
        match self {
            Self::Embeddings => "/v1/embeddings",
        }
    }

    /// The endpoint of this path.
    pub fn from_path(path: &str) -> Option<Self> {
        [Self::Embeddings].into_iter().find(|endpoint| endpoint.path() == path)
    }
}

/// A job as it was asked for. Never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSpec {
    /// Whose it is.
    pub owner: Account,
    /// A label for people, at most 200 characters.
    pub name: String,
    /// What kind of job it is.
    pub kind: JobKind,
    /// What runs it.
    pub workload: Digest,
    /// Its input; absent only where the shell supplies the input itself ([`JobKind::Sync`]).
    pub input: Option<FileId>,
    /// Records in a task; absent: the pool chooses by the number of devices.
    pub records_per_task: Option<u32>,
    /// How its results are checked.
    pub verification: crate::Verification,
    /// The most that it may cost; a higher price ends it before it begins.
    pub max_price: Option<crate::MicroCredits>,
    /// When it is given up.
    pub deadline: Timestamp,
}

/// The kinds of job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobKind {
    /// Records of a file through a program.
    Program {
        /// How the input is split and checked.
        format: InputFormat,
    },
    /// An OpenAI batch.
    Batch {
        /// What its lines call.
        endpoint: Endpoint,
        /// As the client gave it (`24h`).
        completion_window: String,
        /// As the client gave it: at most 16 pairs of at most 64 and 512 characters.
        metadata: Vec<(String, String)>,
    },
    /// One small request whose client waits for the answer. Goes before all other work.
    Sync {
        /// What it calls.
        endpoint: Endpoint,
    },
}

/// How a program's input is split into records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum InputFormat {
    /// Each line is a JSON value; empty lines are skipped.
    JsonLines,
    /// Each line is a record, whatever it holds (UTF-8); empty lines are records too.
    Lines,
}

/// A job's input, checked and split: one blob of records, each ended by a line feed, and the tasks as ranges of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The blob.
    pub blob: Digest,
    /// Its size.
    pub size: Bytes,
    /// How many records it holds.
    pub records: u64,
    /// The tasks, in order; they cover the blob without gap or overlap.
    pub tasks: Vec<TaskInput>,
}

/// The part of a job's records that is one task's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskInput {
    /// Digest of its bytes.
    pub digest: Digest,
    /// Where it starts in the blob.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u32,
    /// Records in it; the first one's index is the sum of those before it.
    pub records: u32,
}

/// Why a job's input was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputError {
    /// Stable, for programs: `invalid_json_line`, `duplicate_custom_id`, …
    pub code: String,
    /// For people.
    pub message: String,
    /// The line at fault, from 1.
    pub line: Option<u64>,
    /// The field at fault.
    pub param: Option<String>,
}

/// How a job ended or is about to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Every record has a result or an error line.
    Completed,
    /// Its owner cancelled it.
    Cancelled,
    /// Its deadline passed.
    Expired,
    /// It could not run at all.
    Failed {
        /// At least one, at most [`Ending::ERRORS_MAX`].
        errors: Vec<InputError>,
    },
}

impl Ending {
    /// How many errors are kept of a job that failed.
    pub const ERRORS_MAX: usize = 100;
}

/// A task's accepted result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Who did it.
    pub device: crate::DeviceId,
    /// The commitment and its size.
    pub report: TaskReport,
    /// When it was accepted.
    pub at: Timestamp,
}

/// What a device says of a finished task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskReport {
    /// Merkle root over the leaves H(item index, input, output, fuel) of all items.
    pub root: Digest,
    /// Address of the encoded outcomes.
    pub result: Digest,
    /// Size of the encoded outcomes.
    pub size: Bytes,
    /// Items in the task.
    pub items: u32,
    /// Items without a result.
    pub items_failed: u32,
    /// Records in items without a result.
    pub records_failed: u32,
    /// Units of all items together.
    pub fuel: Fuel,
    /// CPU time that the runner used.
    pub cpu: Millis,
    /// Wall time from start to end.
    pub wall: Millis,
    /// What confined the program there while it was compiled and while it ran, as far as the device says.
    pub jail: JailLayers,
}

/// Why an attempt at a task came to nothing. The task goes to another device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptFailure {
    /// What went wrong.
    pub kind: AttemptFailureKind,
    /// For people, at most 1,000 characters.
    pub detail: String,
}

/// What went wrong with an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AttemptFailureKind {
    /// The device was not heard of for too long.
    DeviceLost,
    /// The device no longer had the task, as after a crash of its agent.
    DeviceForgot,
    /// The device gave it back, as when its owner wants the machine.
    GivenBack,
    /// The lease ran out.
    LeaseExpired,
    /// The runner process died.
    RunnerDied,
    /// An item took longer than the manifest's wall time.
    ItemTooSlow,
    /// The program could not be compiled or initialised there.
    PreparationFailed,
    /// A blob could not be fetched or did not have its digest.
    BlobUnavailable,
    /// The device had no room on disk.
    DiskFull,
    /// What the device reported does not fit the task or its own commitment.
    MalformedResult,
    /// The device refuses the program: it is not certified, or its owner does not allow it.
    Uncertified,
}

impl AttemptFailureKind {
    /// Whether the failure may be the task's own fault, so that failing on several devices ends it.
    pub fn blames_task(self) -> bool {
        match self {
            Self::RunnerDied
            | Self::ItemTooSlow
            | Self::PreparationFailed
            | Self::MalformedResult
            | Self::Uncertified => true,
            Self::DeviceLost
            | Self::DeviceForgot
            | Self::GivenBack
            | Self::LeaseExpired
            | Self::BlobUnavailable
            | Self::DiskFull => false,
        }
    }
}
