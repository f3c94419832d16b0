//! How large messages and their parts may be. Decoders refuse what is larger; who encodes keeps within them.

/// Bytes of an encoded exchange, either way, envelope included: room for every attachment and all else at its limit.
pub const EXCHANGE_MAX: usize = 8 << 20;
/// Bytes of one blob that travels inside an exchange; larger ones are fetched and sent by themselves.
pub const ATTACHMENT_MAX: usize = 64 << 10;
/// Bytes of all blobs in one exchange together.
pub const ATTACHMENTS_BYTES_MAX: usize = 4 << 20;
/// Blobs in one exchange.
pub const ATTACHMENTS_MAX: usize = 1_024;
/// Leases that a device says it holds, and that a reply gives or drops: twice what a coordinator lets a device hold.
pub const LEASES_MAX: usize = 2_048;
/// Reports in a request and acknowledgements in its reply.
pub const REPORTS_MAX: usize = 2_048;
/// Workloads that a device says it can start at once.
pub const READY_MAX: usize = 1_024;
/// Bytes of a failure's detail: 1,000 characters.
pub const DETAIL_MAX: usize = 4_000;
/// Bytes of an enrolment, either way. Nobody has been identified yet, so it is small.
pub const ENROL_MAX: usize = 16 << 10;
/// Bytes of a device's name: 64 characters.
pub const DEVICE_NAME_MAX: usize = 256;
/// Bytes of a refusal that travels alone.
pub const REFUSAL_MAX: usize = 256 << 10;
/// Bytes of an encoded manifest.
pub const MANIFEST_MAX: usize = 1 << 20;
/// Bytes of a workload's name: 100 characters.
pub const MANIFEST_NAME_MAX: usize = 400;
/// Read-only files of a workload.
pub const BLOBS_MAX: usize = 256;
/// Bytes of the name of a workload's file.
pub const BLOB_NAME_MAX: usize = 255;
/// Arguments of a workload's program.
pub const ARGS_MAX: usize = 256;
/// Bytes of one argument.
pub const ARG_MAX: usize = 4_096;
/// Bytes of an encoded task result.
pub const TASK_RESULT_MAX: usize = 256 << 20;
/// Items of a task.
pub const ITEMS_MAX: usize = 1_000_000;
/// Characters of a join ticket.
pub const TICKET_MAX: usize = 2_048;
/// Addresses in a join ticket.
pub const TICKET_ADDRESSES_MAX: usize = 8;
/// Bytes of an address in a join ticket: a host name of 253 bytes, a colon and a port.
pub const TICKET_ADDRESS_MAX: usize = 259;
/// Tasks in the stored row of a split input.
pub const ROW_TASKS_MAX: usize = 10_000_000;
