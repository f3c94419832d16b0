//! The messages of `proto/caii/v1/*.proto`, field by field.
//!
//! Written by hand because a protobuf compiler as a build dependency would cost more time than all of this crate. The
//! tests read both texts and fail where they differ in any name, number, type or label.

#[cfg(test)]
#[path = "proto_test.rs"]
mod tests;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Envelope {
    #[prost(uint32, tag = "1")]
    pub(crate) version: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) device: Vec<u8>,
    #[prost(enumeration = "RequestKind", tag = "3")]
    pub(crate) kind: i32,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) body: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) signature: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
pub(crate) enum RequestKind {
    Unspecified = 0,
    Exchange = 1,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ExchangeRequest {
    #[prost(uint32, tag = "1")]
    pub(crate) version: u32,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub(crate) boot: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub(crate) session: Option<Vec<u8>>,
    #[prost(uint64, tag = "4")]
    pub(crate) sequence: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) settled_sequence: u64,
    #[prost(bytes = "vec", tag = "6")]
    pub(crate) meter: Vec<u8>,
    #[prost(uint32, tag = "7")]
    pub(crate) slots_free: u32,
    #[prost(uint32, tag = "8")]
    pub(crate) slots: u32,
    #[prost(uint64, tag = "9")]
    pub(crate) wait_ms: u64,
    #[prost(message, repeated, tag = "10")]
    pub(crate) holding: Vec<SignedLease>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) reports: Vec<Report>,
    #[prost(bytes = "vec", repeated, tag = "12")]
    pub(crate) ready: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "13")]
    pub(crate) attachments: Vec<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "14")]
    pub(crate) replaces: Option<Vec<u8>>,
    #[prost(fixed64, tag = "15")]
    pub(crate) challenge: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ExchangeReply {
    #[prost(uint32, tag = "1")]
    pub(crate) version: u32,
    #[prost(message, optional, tag = "2")]
    pub(crate) refusal: Option<Refusal>,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) session: Vec<u8>,
    #[prost(uint64, tag = "4")]
    pub(crate) sequence: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) now_ms: u64,
    #[prost(message, repeated, tag = "6")]
    pub(crate) leases: Vec<SignedLease>,
    #[prost(message, repeated, tag = "7")]
    pub(crate) acks: Vec<Ack>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub(crate) dropped: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub(crate) attachments: Vec<Vec<u8>>,
    #[prost(uint64, tag = "10")]
    pub(crate) governance: u64,
    #[prost(uint64, tag = "11")]
    pub(crate) claims: u64,
    #[prost(fixed64, tag = "12")]
    pub(crate) challenge: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Ack {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) lease: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    pub(crate) refusal: Option<Refusal>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SignedLease {
    #[prost(message, optional, tag = "1")]
    pub(crate) lease: Option<Lease>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) signature: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Lease {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) pool: Vec<u8>,
    #[prost(uint64, tag = "3")]
    pub(crate) job: u64,
    #[prost(uint32, tag = "4")]
    pub(crate) task: u32,
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) device: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    pub(crate) workload: Vec<u8>,
    #[prost(bytes = "vec", tag = "7")]
    pub(crate) input: Vec<u8>,
    #[prost(uint64, tag = "8")]
    pub(crate) offset: u64,
    #[prost(uint32, tag = "9")]
    pub(crate) len: u32,
    #[prost(uint32, tag = "10")]
    pub(crate) records: u32,
    #[prost(bytes = "vec", tag = "11")]
    pub(crate) blob: Vec<u8>,
    #[prost(uint64, tag = "12")]
    pub(crate) issued_ms: u64,
    #[prost(uint64, tag = "13")]
    pub(crate) expires_ms: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Report {
    #[prost(message, optional, tag = "1")]
    pub(crate) lease: Option<SignedLease>,
    #[prost(oneof = "report::Outcome", tags = "2, 3")]
    pub(crate) outcome: Option<report::Outcome>,
    #[prost(message, optional, tag = "4")]
    pub(crate) claim: Option<SignedClaim>,
}

pub(crate) mod report {
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(crate) enum Outcome {
        #[prost(message, tag = "2")]
        Done(super::TaskReport),
        #[prost(message, tag = "3")]
        Failed(super::AttemptFailure),
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SignedClaim {
    #[prost(uint64, tag = "1")]
    pub(crate) sequence: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) energy_mj: u64,
    #[prost(enumeration = "EnergyMethod", tag = "3")]
    pub(crate) energy_method: i32,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) signature: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
pub(crate) enum EnergyMethod {
    None = 0,
    Rapl = 1,
    Emi = 2,
    Tdp = 3,
    Model = 4,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TaskReport {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) root: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) result: Vec<u8>,
    #[prost(uint64, tag = "3")]
    pub(crate) size: u64,
    #[prost(uint32, tag = "4")]
    pub(crate) items: u32,
    #[prost(uint32, tag = "5")]
    pub(crate) items_failed: u32,
    #[prost(uint32, tag = "6")]
    pub(crate) records_failed: u32,
    #[prost(uint64, tag = "7")]
    pub(crate) fuel: u64,
    #[prost(uint64, tag = "8")]
    pub(crate) cpu_ms: u64,
    #[prost(uint64, tag = "9")]
    pub(crate) wall_ms: u64,
    #[prost(uint32, tag = "10")]
    pub(crate) jail: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AttemptFailure {
    #[prost(enumeration = "AttemptFailureKind", tag = "1")]
    pub(crate) kind: i32,
    #[prost(string, tag = "2")]
    pub(crate) detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
pub(crate) enum AttemptFailureKind {
    Unspecified = 0,
    DeviceLost = 1,
    DeviceForgot = 2,
    GivenBack = 3,
    LeaseExpired = 4,
    RunnerDied = 5,
    ItemTooSlow = 6,
    PreparationFailed = 7,
    BlobUnavailable = 8,
    DiskFull = 9,
    MalformedResult = 10,
    Uncertified = 11,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct EnrolRequest {
    #[prost(uint32, tag = "1")]
    pub(crate) version: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) secret: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) public_key: Vec<u8>,
    #[prost(string, tag = "4")]
    pub(crate) name: String,
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) proof: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct EnrolReply {
    #[prost(uint32, tag = "1")]
    pub(crate) version: u32,
    #[prost(message, optional, tag = "2")]
    pub(crate) refusal: Option<Refusal>,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) device: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) pool: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) pool_public_key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Refusal {
    #[prost(string, tag = "1")]
    pub(crate) code: String,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
    #[prost(uint64, tag = "3")]
    pub(crate) subject: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) number: u64,
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) subject_bytes: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    pub(crate) found: Vec<u8>,
    #[prost(string, tag = "7")]
    pub(crate) what: String,
    #[prost(string, tag = "8")]
    pub(crate) text: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Manifest {
    #[prost(uint32, tag = "1")]
    pub(crate) version: u32,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) program: Vec<u8>,
    #[prost(uint64, tag = "4")]
    pub(crate) program_size: u64,
    #[prost(enumeration = "RuntimeClass", tag = "5")]
    pub(crate) runtime: i32,
    #[prost(uint32, tag = "6")]
    pub(crate) records_per_item: u32,
    #[prost(message, repeated, tag = "7")]
    pub(crate) blobs: Vec<BlobRef>,
    #[prost(string, repeated, tag = "8")]
    pub(crate) args: Vec<String>,
    #[prost(message, optional, tag = "9")]
    pub(crate) limits: Option<Limits>,
    #[prost(bytes = "vec", tag = "10")]
    pub(crate) meter: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
pub(crate) enum RuntimeClass {
    Unspecified = 0,
    Wasm = 1,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct BlobRef {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) digest: Vec<u8>,
    #[prost(uint64, tag = "3")]
    pub(crate) size: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Limits {
    #[prost(uint64, tag = "1")]
    pub(crate) fuel_per_item: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) fuel_init: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) memory: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) output_per_item: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) stderr_per_item: u64,
    #[prost(uint64, tag = "6")]
    pub(crate) wall_per_item_ms: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TaskResult {
    #[prost(uint32, tag = "1")]
    pub(crate) version: u32,
    #[prost(message, repeated, tag = "2")]
    pub(crate) items: Vec<ItemOutcome>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ItemOutcome {
    #[prost(oneof = "item_outcome::Result", tags = "1, 2, 3, 4")]
    pub(crate) result: Option<item_outcome::Result>,
    #[prost(uint64, tag = "5")]
    pub(crate) fuel: u64,
    #[prost(bytes = "vec", tag = "6")]
    pub(crate) stderr: Vec<u8>,
}

pub(crate) mod item_outcome {
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(crate) enum Result {
        #[prost(bytes = "vec", tag = "1")]
        Output(Vec<u8>),
        #[prost(sint32, tag = "2")]
        Exit(i32),
        #[prost(enumeration = "super::TrapKind", tag = "3")]
        Trap(i32),
        #[prost(enumeration = "super::LimitKind", tag = "4")]
        Limit(i32),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
pub(crate) enum TrapKind {
    Other = 0,
    Unreachable = 1,
    OutOfBounds = 2,
    StackOverflow = 3,
    BadCall = 4,
    Arithmetic = 5,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
pub(crate) enum LimitKind {
    Unspecified = 0,
    Fuel = 1,
    Output = 2,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct JoinTicket {
    #[prost(string, repeated, tag = "1")]
    pub(crate) addresses: Vec<String>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) certificate: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) pool: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) secret: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) charter: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SettledRow {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) device: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    pub(crate) report: Option<TaskReport>,
    #[prost(uint64, tag = "3")]
    pub(crate) at_ms: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PreparedRow {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) blob: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) digests: Vec<u8>,
    #[prost(uint32, repeated, tag = "3")]
    pub(crate) lens: Vec<u32>,
    #[prost(uint32, repeated, tag = "4")]
    pub(crate) records: Vec<u32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CheckRow {
    #[prost(oneof = "check_row::Event", tags = "1, 2, 3, 4, 5")]
    pub(crate) event: Option<check_row::Event>,
}

pub(crate) mod check_row {
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(crate) enum Event {
        #[prost(message, tag = "1")]
        Drawn(super::DrawnRow),
        #[prost(message, tag = "2")]
        Made(super::MadeRow),
        #[prost(message, tag = "3")]
        Prepared(super::GatheredRow),
        #[prost(message, tag = "4")]
        Ended(super::EndedRow),
        #[prost(uint64, tag = "5")]
        FinalMs(u64),
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DrawnRow {
    #[prost(uint64, tag = "1")]
    pub(crate) mark: u64,
    #[prost(uint32, repeated, tag = "2")]
    pub(crate) items: Vec<u32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MadeRow {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) of: Vec<u8>,
    #[prost(uint32, repeated, tag = "2")]
    pub(crate) tasks: Vec<u32>,
    #[prost(uint32, repeated, tag = "3")]
    pub(crate) items: Vec<u32>,
    #[prost(uint32, optional, tag = "4")]
    pub(crate) whole: Option<u32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GatheredRow {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) blob: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) digest: Vec<u8>,
    #[prost(uint64, tag = "3")]
    pub(crate) offset: u64,
    #[prost(uint32, tag = "4")]
    pub(crate) len: u32,
    #[prost(uint32, tag = "5")]
    pub(crate) records: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct EndedRow {
    #[prost(uint32, repeated, tag = "1")]
    pub(crate) survived: Vec<u32>,
    #[prost(uint32, repeated, tag = "2")]
    pub(crate) waived: Vec<u32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct EndingRow {
    #[prost(enumeration = "EndingKind", tag = "1")]
    pub(crate) kind: i32,
    #[prost(message, repeated, tag = "2")]
    pub(crate) errors: Vec<InputErrorRow>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
pub(crate) enum EndingKind {
    Unspecified = 0,
    Completed = 1,
    Cancelled = 2,
    Expired = 3,
    Failed = 4,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct InputErrorRow {
    #[prost(string, tag = "1")]
    pub(crate) code: String,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
    #[prost(uint64, optional, tag = "3")]
    pub(crate) line: Option<u64>,
    #[prost(string, optional, tag = "4")]
    pub(crate) param: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct JobKindRow {
    #[prost(oneof = "job_kind_row::Kind", tags = "1, 2, 3")]
    pub(crate) kind: Option<job_kind_row::Kind>,
}

pub(crate) mod job_kind_row {
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(crate) enum Kind {
        #[prost(message, tag = "1")]
        Program(super::ProgramKindRow),
        #[prost(message, tag = "2")]
        Batch(super::BatchKindRow),
        #[prost(message, tag = "3")]
        Sync(super::SyncKindRow),
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ProgramKindRow {
    #[prost(enumeration = "InputFormat", tag = "1")]
    pub(crate) format: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct BatchKindRow {
    #[prost(enumeration = "Endpoint", tag = "1")]
    pub(crate) endpoint: i32,
    #[prost(string, tag = "2")]
    pub(crate) completion_window: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) metadata: Vec<MetadataRow>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SyncKindRow {
    #[prost(enumeration = "Endpoint", tag = "1")]
    pub(crate) endpoint: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MetadataRow {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
pub(crate) enum InputFormat {
    Unspecified = 0,
    JsonLines = 1,
    Lines = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
pub(crate) enum Endpoint {
    Unspecified = 0,
    Embeddings = 1,
}
