//! What a store keeps of values that have no columns of their own: one byte, the version, and a protobuf message of
//! `records.proto`.
//!
//! Unlike messages, rows were checked when they came in. Their texts have no limits here: a limit that is tightened
//! later must never make a pool unable to read what it wrote.

use crate::convert::{choice, digest, fixed, required};
use crate::open::Frame;
use crate::{DecodeError, limits, proto};
use caii_model::{
    AttemptFailure, Audit, AuditEnd, AuditSubject, Bytes, CheckEvent, DeviceId, Digest, Ending, Endpoint, InputError,
    InputFormat, ItemId, JobKind, Manifest, Prepared, Settled, TaskIndex, TaskInput, TaskReport, Timestamp,
};
use prost::Message;

/// The version of every kind of row.
const ROW_VERSION: u8 = 1;

fn write(message: &impl Message) -> Vec<u8> {
    let mut row = Vec::with_capacity(1 + message.encoded_len());
    row.push(ROW_VERSION);
    message.encode(&mut row).expect("a vector grows as needed");
    row
}

fn read<M: Message + Default>(message: &'static str, row: &[u8]) -> Result<M, DecodeError> {
    let (version, bytes) = row.split_first().ok_or(DecodeError::Malformed { message, source: None })?;
    if *version != ROW_VERSION {
        return Err(DecodeError::Version { message, found: u64::from(*version), supported: u32::from(ROW_VERSION) });
    }
    Frame { message, size_max: usize::MAX, lists: &[] }.open_unversioned(bytes)
}

/// The row of a task's accepted result.
pub fn encode_settled(settled: &Settled) -> Vec<u8> {
    write(&proto::SettledRow {
        device: settled.device.0.to_vec(),
        report: Some((&settled.report).into()),
        at_ms: settled.at.0,
    })
}

/// The accepted result of this row.
pub fn decode_settled(row: &[u8]) -> Result<Settled, DecodeError> {
    let message: proto::SettledRow = read("SettledRow", row)?;
    Ok(Settled {
        device: DeviceId(fixed("SettledRow.device", &message.device)?),
        report: required("SettledRow.report", message.report)?.try_into()?,
        at: Timestamp(message.at_ms),
    })
}

/// The row of a device's report of a finished task.
pub fn encode_task_report(report: &TaskReport) -> Vec<u8> {
    write(&proto::TaskReport::from(report))
}

/// The report of this row.
pub fn decode_task_report(row: &[u8]) -> Result<TaskReport, DecodeError> {
    read::<proto::TaskReport>("TaskReport", row)?.try_into()
}

/// The row of a failed attempt.
pub fn encode_attempt_failure(failure: &AttemptFailure) -> Vec<u8> {
    write(&proto::AttemptFailure::from(failure))
}

/// The failed attempt of this row.
pub fn decode_attempt_failure(row: &[u8]) -> Result<AttemptFailure, DecodeError> {
    proto::AttemptFailure::into_model(read("AttemptFailure", row)?, usize::MAX)
}

/// The row of a workload's manifest.
pub fn encode_manifest(manifest: &Manifest) -> Vec<u8> {
    let mut row = vec![ROW_VERSION];
    row.extend(crate::encode_manifest(manifest));
    row
}

/// The manifest of this row.
pub fn decode_manifest(row: &[u8]) -> Result<Manifest, DecodeError> {
    match row.split_first() {
        None => Err(DecodeError::Malformed { message: "Manifest", source: None }),
        Some((&ROW_VERSION, bytes)) => crate::decode_manifest(bytes),
        Some((version, _)) => Err(DecodeError::Version {
            message: "Manifest",
            found: u64::from(*version),
            supported: u32::from(ROW_VERSION),
        }),
    }
}

/// The row of a split input: some 37 bytes a task.
///
/// # Panics
/// If the tasks do not cover the blob in order without gap, or do not add up to its size and records. The row leaves
/// out what follows from that, so anything else would come back changed; the coordinator admits nothing else.
pub fn encode_prepared(prepared: &Prepared) -> Vec<u8> {
    let (mut size, mut records) = (0u64, 0u64);
    let mut digests = Vec::with_capacity(32 * prepared.tasks.len());
    for task in &prepared.tasks {
        assert_eq!(task.offset, size, "the tasks cover the blob in order without gap");
        size += u64::from(task.len);
        records += u64::from(task.records);
        digests.extend_from_slice(&task.digest.0);
    }
    assert_eq!((prepared.size, prepared.records), (Bytes(size), records), "the tasks add up to the blob");
    write(&proto::PreparedRow {
        blob: prepared.blob.0.to_vec(),
        digests,
        lens: prepared.tasks.iter().map(|task| task.len).collect(),
        records: prepared.tasks.iter().map(|task| task.records).collect(),
    })
}

/// The split input of this row.
pub fn decode_prepared(row: &[u8]) -> Result<Prepared, DecodeError> {
    let message: proto::PreparedRow = read("PreparedRow", row)?;
    let (digests, ragged) = message.digests.as_chunks::<32>();
    if !ragged.is_empty() || digests.len() != message.lens.len() || digests.len() != message.records.len() {
        return Err(DecodeError::Rule { field: "PreparedRow", reason: "its columns must be of one length" });
    }
    crate::convert::at_most("PreparedRow.digests", digests.len(), limits::ROW_TASKS_MAX)?;
    // Ten million tasks of 32 bits each cannot overflow 64 bits.
    let (mut size, mut records) = (0u64, 0u64);
    let mut tasks = Vec::with_capacity(digests.len());
    for ((digest, len), task_records) in digests.iter().zip(&message.lens).zip(&message.records) {
        tasks.push(TaskInput { digest: Digest(*digest), offset: size, len: *len, records: *task_records });
        size += u64::from(*len);
        records += u64::from(*task_records);
    }
    Ok(Prepared { blob: digest("PreparedRow.blob", &message.blob)?, size: Bytes(size), records, tasks })
}

/// The row of a step in the checking of a task.
pub fn encode_check(event: &CheckEvent) -> Vec<u8> {
    use proto::check_row::Event;
    let event = match event {
        CheckEvent::Drawn { mark, items } => Event::Drawn(proto::DrawnRow { mark: *mark, items: items.clone() }),
        CheckEvent::Made(audit) => {
            let mut row = proto::MadeRow { of: audit.of.0.to_vec(), ..Default::default() };
            match &audit.subject {
                AuditSubject::Task(task) => row.whole = Some(task.0),
                AuditSubject::Items(items) => {
                    row.tasks = items.iter().map(|id| id.task.0).collect();
                    row.items = items.iter().map(|id| id.item).collect();
                }
            }
            Event::Made(row)
        }
        CheckEvent::Prepared(blob, input) => Event::Prepared(proto::GatheredRow {
            blob: blob.0.to_vec(),
            digest: input.digest.0.to_vec(),
            offset: input.offset,
            len: input.len,
            records: input.records,
        }),
        CheckEvent::Ended(end) => {
            Event::Ended(proto::EndedRow { survived: end.survived.clone(), waived: end.waived.clone() })
        }
        CheckEvent::Final(at) => Event::FinalMs(at.0),
    };
    write(&proto::CheckRow { event: Some(event) })
}

/// The step of this row.
pub fn decode_check(row: &[u8]) -> Result<CheckEvent, DecodeError> {
    use proto::check_row::Event;
    let message: proto::CheckRow = read("CheckRow", row)?;
    Ok(match required("CheckRow.event", message.event)? {
        Event::Drawn(drawn) => CheckEvent::Drawn { mark: drawn.mark, items: drawn.items },
        Event::Made(made) => {
            let of = DeviceId(fixed("MadeRow.of", &made.of)?);
            if made.tasks.len() != made.items.len() || (made.whole.is_some() && !made.items.is_empty()) {
                return Err(DecodeError::Rule { field: "MadeRow", reason: "it is of items or of one task" });
            }
            let items = made.tasks.into_iter().zip(made.items);
            let items = items.map(|(task, item)| ItemId { task: TaskIndex(task), item }).collect();
            let subject = made.whole.map_or(AuditSubject::Items(items), |task| AuditSubject::Task(TaskIndex(task)));
            CheckEvent::Made(Audit { of, subject })
        }
        Event::Prepared(row) => {
            let input = TaskInput {
                digest: digest("GatheredRow.digest", &row.digest)?,
                offset: row.offset,
                len: row.len,
                records: row.records,
            };
            CheckEvent::Prepared(digest("GatheredRow.blob", &row.blob)?, input)
        }
        Event::Ended(end) => CheckEvent::Ended(AuditEnd { survived: end.survived, waived: end.waived }),
        Event::FinalMs(at) => CheckEvent::Final(Timestamp(at)),
    })
}

/// The row of how a job ended.
pub fn encode_ending(ending: &Ending) -> Vec<u8> {
    let (kind, errors) = match ending {
        Ending::Completed => (proto::EndingKind::Completed, Vec::new()),
        Ending::Cancelled => (proto::EndingKind::Cancelled, Vec::new()),
        Ending::Expired => (proto::EndingKind::Expired, Vec::new()),
        Ending::Failed { errors } => (proto::EndingKind::Failed, errors.iter().map(Into::into).collect()),
    };
    write(&proto::EndingRow { kind: kind.into(), errors })
}

/// The ending of this row.
pub fn decode_ending(row: &[u8]) -> Result<Ending, DecodeError> {
    const FIELD: &str = "EndingRow.kind";
    let message: proto::EndingRow = read("EndingRow", row)?;
    Ok(match choice(FIELD, message.kind)? {
        proto::EndingKind::Unspecified => return Err(DecodeError::Missing { field: FIELD }),
        proto::EndingKind::Completed => Ending::Completed,
        proto::EndingKind::Cancelled => Ending::Cancelled,
        proto::EndingKind::Expired => Ending::Expired,
        proto::EndingKind::Failed => Ending::Failed { errors: message.errors.into_iter().map(Into::into).collect() },
    })
}

impl From<&InputError> for proto::InputErrorRow {
    fn from(error: &InputError) -> Self {
        Self { code: error.code.clone(), message: error.message.clone(), line: error.line, param: error.param.clone() }
    }
}

impl From<proto::InputErrorRow> for InputError {
    fn from(row: proto::InputErrorRow) -> Self {
        Self { code: row.code, message: row.message, line: row.line, param: row.param }
    }
}

/// The row of a job's kind.
pub fn encode_job_kind(kind: &JobKind) -> Vec<u8> {
    use proto::job_kind_row::Kind;
    let kind = match kind {
        JobKind::Program { format } => {
            let format = match format {
                InputFormat::JsonLines => proto::InputFormat::JsonLines,
                InputFormat::Lines => proto::InputFormat::Lines,
            };
            Kind::Program(proto::ProgramKindRow { format: format.into() })
        }
        JobKind::Batch { endpoint, completion_window, metadata } => Kind::Batch(proto::BatchKindRow {
            endpoint: endpoint_to_proto(*endpoint),
            completion_window: completion_window.clone(),
            metadata: metadata
                .iter()
                .map(|(key, value)| proto::MetadataRow { key: key.clone(), value: value.clone() })
                .collect(),
        }),
        JobKind::Sync { endpoint } => Kind::Sync(proto::SyncKindRow { endpoint: endpoint_to_proto(*endpoint) }),
    };
    write(&proto::JobKindRow { kind: Some(kind) })
}

/// The kind of this row.
pub fn decode_job_kind(row: &[u8]) -> Result<JobKind, DecodeError> {
    use proto::job_kind_row::Kind;
    let message: proto::JobKindRow = read("JobKindRow", row)?;
    Ok(match required("JobKindRow.kind", message.kind)? {
        Kind::Program(program) => {
            const FIELD: &str = "ProgramKindRow.format";
            let format = match choice(FIELD, program.format)? {
                proto::InputFormat::Unspecified => return Err(DecodeError::Missing { field: FIELD }),
                proto::InputFormat::JsonLines => InputFormat::JsonLines,
                proto::InputFormat::Lines => InputFormat::Lines,
            };
            JobKind::Program { format }
        }
        Kind::Batch(batch) => JobKind::Batch {
            endpoint: endpoint_from_proto("BatchKindRow.endpoint", batch.endpoint)?,
            completion_window: batch.completion_window,
            metadata: batch.metadata.into_iter().map(|pair| (pair.key, pair.value)).collect(),
        },
        Kind::Sync(sync) => JobKind::Sync { endpoint: endpoint_from_proto("SyncKindRow.endpoint", sync.endpoint)? },
    })
}

fn endpoint_to_proto(endpoint: Endpoint) -> i32 {
    match endpoint {
        Endpoint::Embeddings => proto::Endpoint::Embeddings.into(),
    }
}

fn endpoint_from_proto(field: &'static str, number: i32) -> Result<Endpoint, DecodeError> {
    match choice(field, number)? {
        proto::Endpoint::Unspecified => Err(DecodeError::Missing { field }),
        proto::Endpoint::Embeddings => Ok(Endpoint::Embeddings),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(
            settled in settled(),
            failure in attempt_failure(),
            prepared in prepared(),
            ending in ending(),
            kind in job_kind(),
            manifest in manifest(),
        ) {
            check_codec(&settled, encode_settled, decode_settled);
            check_codec(&settled.report, encode_task_report, decode_task_report);
            check_codec(&failure, encode_attempt_failure, decode_attempt_failure);
            check_codec(&prepared, encode_prepared, decode_prepared);
            check_codec(&ending, encode_ending, decode_ending);
            check_codec(&kind, encode_job_kind, decode_job_kind);
            check_codec(&manifest, encode_manifest, decode_manifest);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            for bytes in [bytes.clone(), [vec![1], bytes].concat()] {
                let _ = decode_settled(&bytes);
                let _ = decode_task_report(&bytes);
                let _ = decode_attempt_failure(&bytes);
                let _ = decode_prepared(&bytes);
                let _ = decode_ending(&bytes);
                let _ = decode_job_kind(&bytes);
                let _ = decode_manifest(&bytes);
            }
        }
    }

    /// A failure whose detail is longer than a device may send was made by the pool itself.
    #[test]
    fn rows_have_no_limit_on_texts() {
        let kind = caii_model::AttemptFailureKind::DeviceLost;
        let failure = AttemptFailure { kind, detail: "x".repeat(2 * limits::DETAIL_MAX) };
        assert_eq!(decode_attempt_failure(&encode_attempt_failure(&failure)), Ok(failure));
    }

    #[test]
    fn other_versions_are_named() {
        let mut row = encode_ending(&Ending::Completed);
        row[0] = 7;
        let error = decode_ending(&row).unwrap_err();
        assert_eq!(error, DecodeError::Version { message: "EndingRow", found: 7, supported: 1 });
    }

    /// Stored rows outlive releases: old bytes stay readable.
    #[test]
    fn rows_of_the_first_release_are_read() {
        check_golden(&encode_settled(&sample_settled()), "111 0e8e89af9c21");
        let mut jailed = sample_settled();
        jailed.report.jail = caii_model::JailLayers::ALL;
        check_golden(&encode_settled(&jailed), "115 b786a3b9dabb");
        check_golden(&encode_prepared(&sample_prepared()), "149 fb0f3486d4c4");
        let errors = vec![InputError {
            code: "invalid_json_line".into(),
            message: "no JSON".into(),
            line: Some(3),
            param: None,
        }];
        check_golden(&encode_ending(&Ending::Failed { errors }), "35 a4e3c7d4c82f");
        let kind = JobKind::Batch {
            endpoint: Endpoint::Embeddings,
            completion_window: "24h".into(),
            metadata: vec![("k".into(), "v".into())],
        };
        check_golden(&encode_job_kind(&kind), "18 45ee94ceb911");
    }

    #[test]
    fn a_task_takes_few_bytes() {
        let row = encode_prepared(&many_tasks(10_000));
        assert!(row.len() < 50 * 10_000, "{} bytes", row.len());
    }

    #[test]
    #[should_panic(expected = "without gap")]
    fn a_gap_is_not_written() {
        let mut prepared = many_tasks(3);
        prepared.tasks[1].offset += 1;
        encode_prepared(&prepared);
    }

    #[test]
    fn columns_must_match() {
        let ragged = |change: fn(&mut proto::PreparedRow)| {
            let mut row =
                proto::PreparedRow { blob: vec![0; 32], digests: vec![0; 64], lens: vec![1, 2], records: vec![1, 1] };
            change(&mut row);
            decode_prepared(&write(&row)).is_err()
        };
        assert!(!ragged(|_| {}));
        assert!(ragged(|row| row.digests.truncate(63)));
        assert!(ragged(|row| row.digests.truncate(32)));
        assert!(ragged(|row| row.lens.truncate(1)));
        assert!(ragged(|row| row.records.clear()));
    }
}
