//! The JSON of CAII's own API (`/caii/v1`), shared by the server and the command line. Ids are written as everywhere
//! (`job_17`), times are Unix milliseconds, sizes bytes.
//!
//! | request | body → answer | who |
//! |---|---|---|
//! | `GET /caii/v1/pool` | [`PoolView`] | any key |
//! | `GET /caii/v1/keys`, `POST`, `POST /caii/v1/keys/{id}/revoke` | [`List`]`<`[`KeyView`]`>`, [`KeyCreate`] → [`KeyCreated`], → [`KeyView`] | admin |
//! | `GET /caii/v1/tickets`, `POST`, `POST /caii/v1/tickets/{id}/revoke` | [`List`]`<`[`TicketView`]`>`, [`TicketCreate`] → [`TicketCreated`], → [`TicketView`] | admin |
//! | `HEAD /caii/v1/blobs/{sha256 hex}`, `PUT` | 200 or 404; the bytes → [`BlobView`] | any key |
//! | `GET /caii/v1/workloads`, `POST` | [`List`]`<`[`WorkloadView`]`>`, [`WorkloadCreate`] → [`WorkloadView`] | any key |
//! | `GET /caii/v1/workloads/{sha256 hex}` | [`WorkloadView`] | any key |
//! | `GET /caii/v1/workloads/{sha256 hex}/certification?region=` | [`CertificationView`] | any key |
//! | `GET /caii/v1/models`, `POST`, `DELETE /caii/v1/models/{name}` | [`List`]`<`[`ModelView`]`>`, [`ModelCreate`] → [`ModelView`] | list: any key; else admin |
//! | `GET /caii/v1/jobs?limit=&before=`, `POST`, `GET /caii/v1/jobs/{id}`, `POST /caii/v1/jobs/{id}/cancel` | [`List`]`<`[`JobView`]`>`, [`JobCreate`] → [`JobView`], [`JobView`], [`JobView`] | any key, its own account |
//! | `GET /caii/v1/jobs/{id}/explain` | [`ExplainView`] | any key, its own account |
//! | `GET /caii/v1/devices`, `GET /caii/v1/devices/{id}`, `GET /caii/v1/devices/{id}/explain` | [`List`]`<`[`DeviceView`]`>`, [`DeviceView`], [`ExplainView`] | any key |
//! | `POST /caii/v1/quotes` | [`QuoteAsk`] → [`QuoteView`] | any key, its own account |
//! | `GET /caii/v1/account?account=`, `GET /caii/v1/account/statement?account=&before=&balance=&limit=` | [`AccountView`], [`StatementView`] | any key, its own account; an admin's any |
//! | `POST /caii/v1/account/top-up` | [`TopUp`] → [`AccountView`] | admin |
//! | `GET /caii/v1/earnings?account=&since_ms=&until_ms=` | [`EarningsView`] | any key, its own account; an admin's any |
//! | `GET /caii/v1/receipts?account=&device=&job=&before=&limit=`, `GET /caii/v1/receipts/{device}/{sequence}` | [`List`]`<`[`ReceiptView`]`>`, [`ReceiptView`] | any key: its own devices and jobs; an admin's any |
//! | `GET /caii/v1/tariffs`, `POST`, `POST /caii/v1/tariffs/simulate?since_ms=&until_ms=` | [`List`]`<`[`TariffView`]`>`, [`TariffPropose`] → [`TariffView`], → [`SimulationView`] | list: any key; else admin |
//! | `GET /caii/v1/ledger/trial-balance` | [`TrialBalanceView`] | any key |
//! | `POST /caii/v1/payouts/prefer` | [`PayoutPrefer`] → [`AccountView`] | any key, its own account; an admin's any |
//! | `GET /caii/v1/payouts`, `POST`, `GET /caii/v1/payouts/{run}`, `GET /caii/v1/payouts/{run}/pain001.xml` or `payments.csv`, `POST /caii/v1/payouts/{run}/approve`, `/send`, `/settle` | [`List`]`<`[`PayoutView`]`>`, [`PayoutAsk`] → [`PayoutView`], [`PayoutView`], the file, a DSSE envelope → [`PayoutView`], → [`PayoutView`], [`PayoutSettle`] → [`PayoutView`] | admin |
//!
//! Files and batches go through the OpenAI API (`/v1/files`, `/v1/batches`). Errors have OpenAI's shape:
//! `{"error": {"message", "type", "param", "code"}}`, the code being that of the
//! [`Refusal`](caii_model::Refusal).

mod certification;
mod manifest;
mod money;

pub use certification::{CertificationView, StewardView, UseView};
pub use manifest::{LimitsOf, ManifestView};
pub use money::*;

use serde::{Deserialize, Serialize};

/// A list, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct List<T> {
    /// The entries.
    pub data: Vec<T>,
    /// Whether there are more; ask again with `before` set to the last one's id.
    #[serde(default)]
    pub has_more: bool,
}

/// The pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolView {
    /// Its id.
    pub id: String,
    /// The release that runs.
    pub version: String,
    /// The coordinator process.
    pub boot: String,
    /// When that was started.
    pub started_ms: u64,
    /// The meter of its devices, as a digest.
    pub meter: String,
    /// Enrolled devices.
    pub devices: u64,
    /// Connected devices.
    pub devices_present: u64,
    /// Tasks that these run at a time.
    pub slots_present: u64,
    /// Open jobs, everybody's.
    pub jobs_open: u64,
    /// The log.
    pub log: LogView,
}

/// The pool's log, and what is published of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogView {
    /// The key that signs its checkpoints, as policies and witnesses name it.
    pub key: String,
    /// What was logged.
    pub entries: u64,
    /// How much of it everybody can read.
    pub published: u64,
    /// When the first entry was logged that is not published.
    pub oldest_unpublished_ms: Option<u64>,
    /// Why nothing is published at the moment.
    pub trouble: Option<String>,
    /// Who is asked to cosign.
    pub witnesses: Vec<WitnessView>,
}

/// A witness of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WitnessView {
    /// The name of its key.
    pub name: String,
    /// Where it is asked.
    pub url: String,
    /// How many entries it cosigned last.
    pub cosigned: Option<u64>,
    /// When, by its own clock.
    pub cosigned_ms: Option<u64>,
    /// Why it did not when it was asked last.
    pub trouble: Option<String>,
}

/// An API key without its secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyView {
    /// Its id.
    pub id: String,
    /// A label.
    pub name: String,
    /// Whose it is.
    pub account: String,
    /// `admin` or `requester`.
    pub role: String,
    /// When it was made.
    pub created_ms: u64,
    /// When it was revoked.
    pub revoked_ms: Option<u64>,
}

/// Asks for a key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyCreate {
    /// A label.
    #[serde(default)]
    pub name: String,
    /// Whose it is.
    pub account: String,
    /// `admin` or `requester`.
    #[serde(default = "requester")]
    pub role: String,
}

fn requester() -> String {
    "requester".into()
}

/// A new key. The secret is shown this once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyCreated {
    /// The key.
    #[serde(flatten)]
    pub key: KeyView,
    /// Its secret.
    pub secret: String,
}

/// A join ticket without its secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TicketView {
    /// Its id.
    pub id: String,
    /// Whose devices they become.
    pub account: String,
    /// When it stops working.
    pub expires_ms: u64,
    /// How many devices it may enrol.
    pub uses_max: u32,
    /// How many it has enrolled.
    pub uses: u32,
}

/// Asks for a ticket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TicketCreate {
    /// Whose devices they become; the asker's account when absent.
    #[serde(default)]
    pub account: Option<String>,
    /// How long it works.
    pub valid_for_ms: u64,
    /// How many devices it may enrol.
    pub uses_max: u32,
}

/// A new ticket. It is shown this once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TicketCreated {
    /// The ticket.
    #[serde(flatten)]
    pub view: TicketView,
    /// What `caii agent run` takes.
    pub ticket: String,
}

/// A stored blob.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlobView {
    /// `sha256:…`
    pub digest: String,
    /// Its size.
    pub size: u64,
}

/// A read-only file of a workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlobRefView {
    /// Its name under `/data`.
    pub name: String,
    /// `sha256:…`
    pub digest: String,
    /// Its size.
    pub size: u64,
}

/// A workload's limits. What is absent takes the default of [`caii_model::Limits`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsView {
    /// Units that one item may use.
    pub fuel_per_item: Option<u64>,
    /// Units that the initialiser may use.
    pub fuel_init: Option<u64>,
    /// Linear memory and tables of one instance.
    pub memory: Option<u64>,
    /// Standard output of one item.
    pub output_per_item: Option<u64>,
    /// Standard error of one item.
    pub stderr_per_item: Option<u64>,
    /// Wall time of one item.
    pub wall_per_item_ms: Option<u64>,
}

/// Asks for a workload. Its blobs are uploaded first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadCreate {
    /// For people.
    pub name: String,
    /// The program's digest.
    pub program: String,
    /// `item` or `task`.
    #[serde(default = "item")]
    pub scope: String,
    /// Records in an item, for scope `item`.
    #[serde(default = "one")]
    pub records_per_item: u32,
    /// Read-only files.
    #[serde(default)]
    pub blobs: Vec<BlobRefView>,
    /// Arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Limits.
    #[serde(default)]
    pub limits: LimitsView,
    /// Run it without making NaNs canonical, which is up to twice as fast for float code: an admin vouches that no
    /// output depends on a NaN's bits.
    #[serde(default)]
    pub vetted: bool,
}

fn item() -> String {
    "item".into()
}

fn one() -> u32 {
    1
}

/// A workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkloadView {
    /// Its digest, by which jobs name it.
    pub digest: String,
    /// Whether it runs without making NaNs canonical.
    pub vetted: bool,
    /// All that the digest covers.
    pub manifest: ManifestView,
}

/// A model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelView {
    /// The name in requests.
    pub name: String,
    /// The workload that runs it.
    pub workload: String,
    /// `/v1/embeddings`
    pub endpoint: String,
    /// Length of an embedding.
    pub dimensions: u32,
    /// Longest input in tokens.
    pub tokens_max: u32,
    /// Where it came from.
    pub source: String,
    /// When it was added.
    pub added_ms: u64,
    /// Bytes that a device downloads once.
    pub size: u64,
}

/// Asks for a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelCreate {
    /// The name in requests.
    pub name: String,
    /// The workload that runs it.
    pub workload: String,
    /// `/v1/embeddings`
    pub endpoint: String,
    /// Length of an embedding.
    pub dimensions: u32,
    /// Longest input in tokens.
    pub tokens_max: u32,
    /// Where it came from.
    #[serde(default)]
    pub source: String,
}

/// Asks for a job of a program. Batches are asked for through the OpenAI API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobCreate {
    /// A label.
    #[serde(default)]
    pub name: String,
    /// The workload's digest.
    pub workload: String,
    /// The input file.
    pub input_file_id: String,
    /// `jsonl` or `lines`.
    pub format: String,
    /// Records in a task; absent: the pool chooses.
    #[serde(default)]
    pub records_per_task: Option<u32>,
    /// How results are checked: `spot`, `audit`, `audit=N` or `quorum=N`; absent: as the pool has it.
    #[serde(default)]
    pub verify: Option<String>,
    /// The most that it may cost, in credits, as `12.5`; a higher price ends it before it begins.
    #[serde(default)]
    pub max_price: Option<String>,
    /// Time until it is given up; absent: 24 h.
    #[serde(default)]
    pub expires_after_ms: Option<u64>,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// Its id.
    pub id: String,
    /// The id in the OpenAI API, for a batch.
    pub batch_id: Option<String>,
    /// `program` or `batch`.
    pub kind: String,
    /// A label.
    pub name: String,
    /// Whose it is.
    pub account: String,
    /// `preparing`, `running`, `assembling`, `completed`, `cancelled`, `expired` or `failed`.
    pub state: String,
    /// What runs it.
    pub workload: String,
    /// How its results are checked: `spot`, `audit=N`, `quorum=N` or `off`.
    pub verification: String,
    /// The input file.
    pub input_file_id: Option<String>,
    /// The output file, once it has ended with any result.
    pub output_file_id: Option<String>,
    /// The error file, once it has ended with any failed record.
    pub error_file_id: Option<String>,
    /// Why it failed.
    pub errors: Vec<JobError>,
    /// When it was submitted.
    pub submitted_ms: u64,
    /// When its input was split.
    pub prepared_ms: Option<u64>,
    /// When it ended.
    pub ended_ms: Option<u64>,
    /// When it is given up.
    pub deadline_ms: u64,
    /// What it has come to so far.
    pub totals: TotalsView,
    /// Tasks that devices work on now.
    pub tasks_leased: u32,
    /// Tasks that wait.
    pub tasks_waiting: u32,
    /// What it has cost; only where one job is asked for, and the pool keeps books.
    #[serde(default)]
    pub price: Option<PriceView>,
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobError {
    /// Stable, for programs.
    pub code: String,
    /// For people.
    pub message: String,
    /// The line at fault, from 1.
    pub line: Option<u64>,
    /// The field at fault.
    pub param: Option<String>,
}

/// What a job has come to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TotalsView {
    /// Records of the input.
    pub records: u64,
    /// Records with a result.
    pub records_ok: u64,
    /// Records with an error line.
    pub records_failed: u64,
    /// Tasks.
    pub tasks: u32,
    /// Tasks with a result.
    pub tasks_settled: u32,
    /// Tasks given up.
    pub tasks_given_up: u32,
    /// Attempts that came to nothing.
    pub attempts_failed: u32,
    /// Devices with an accepted result.
    pub devices: u32,
    /// Fuel of all accepted results.
    pub fuel: u64,
    /// CPU time of all accepted results.
    pub cpu_ms: u64,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceView {
    /// Its id.
    pub id: String,
    /// A label that its owner chose.
    pub name: String,
    /// Who lends it.
    pub account: String,
    /// When it was enrolled.
    pub enrolled_ms: u64,
    /// Whether it is connected.
    pub present: bool,
    /// When it was last heard of, if this coordinator process ever heard of it.
    pub heard_ms: Option<u64>,
    /// Tasks that it runs at a time.
    pub slots: u32,
    /// What it works on, as `job_17/3`.
    pub tasks: Vec<String>,
    /// Workloads that it can start at once.
    pub ready: Vec<String>,
}

/// Why something is as it is, in sentences.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExplainView {
    /// What is explained.
    pub id: String,
    /// The sentences.
    pub lines: Vec<String>,
}

/// A certificate or a revocation was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeTaken {
    /// The workload or key that it is about.
    pub about: String,
    /// Whether devices run the workload now, or what is missing.
    pub verdict: String,
}
