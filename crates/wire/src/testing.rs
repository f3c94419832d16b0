//! Values for tests: any that the model can hold, and fixed samples.

use crate::{Attachments, DecodeError, limits};
use caii_model::*;
use proptest::prelude::*;
use std::fmt::Debug;

/// The value survives, and encoding what was decoded gives the same bytes: encoding is canonical.
#[track_caller]
pub(crate) fn check_codec<T: PartialEq + Debug>(
    value: &T,
    encode: impl Fn(&T) -> Vec<u8>,
    decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
) {
    let bytes = encode(value);
    let decoded = decode(&bytes).expect("what was encoded can be decoded");
    assert_eq!(decoded, *value);
    assert_eq!(encode(&decoded), bytes);
}

/// The bytes are these, by the digest's first digits: a change is a break with what is stored or spoken elsewhere.
#[track_caller]
pub(crate) fn check_golden(bytes: &[u8], expected: &str) {
    assert_eq!(format!("{} {}", bytes.len(), Digest::of(bytes).short()), expected);
}

pub(crate) fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![".{0,40}", Just(String::new())]
}

fn task_input() -> impl Strategy<Value = TaskInput> {
    (digest(), any::<u64>(), any::<u32>(), any::<u32>()).prop_map(|(digest, offset, len, records)| TaskInput {
        digest,
        offset,
        len,
        records,
    })
}

pub(crate) fn signed_lease() -> impl Strategy<Value = SignedLease> {
    let ids = (any::<[u8; 8]>(), any::<[u8; 8]>(), any::<[u8; 8]>(), any::<u64>(), any::<u32>());
    (ids, digest(), task_input(), digest(), any::<(u64, u64)>(), any::<[u8; 64]>()).prop_map(
        |((id, pool, device, job, index), workload, input, blob, (issued, expires), signature)| SignedLease {
            lease: Lease {
                id: LeaseId(id),
                pool: PoolId(pool),
                task: TaskId { job: JobId(job), index: TaskIndex(index) },
                device: DeviceId(device),
                workload,
                input,
                blob,
                issued: Timestamp(issued),
                expires: Timestamp(expires),
            },
            signature,
        },
    )
}

pub(crate) fn task_report() -> impl Strategy<Value = TaskReport> {
    (digest(), digest(), any::<[u64; 4]>(), any::<[u32; 4]>()).prop_map(
        |(root, result, [size, fuel, cpu, wall], [items, items_failed, records_failed, jail])| TaskReport {
            root,
            result,
            size: Bytes(size),
            items,
            items_failed,
            records_failed,
            fuel: Fuel(fuel),
            cpu: Millis(cpu),
            wall: Millis(wall),
            jail: JailLayers(jail),
        },
    )
}

pub(crate) fn attempt_failure() -> impl Strategy<Value = AttemptFailure> {
    use AttemptFailureKind::*;
    let kinds = prop::sample::select(vec![
        DeviceLost,
        DeviceForgot,
        GivenBack,
        LeaseExpired,
        RunnerDied,
        ItemTooSlow,
        PreparationFailed,
        BlobUnavailable,
        DiskFull,
        MalformedResult,
        Uncertified,
    ]);
    (kinds, text()).prop_map(|(kind, detail)| AttemptFailure { kind, detail })
}

fn report() -> impl Strategy<Value = Report> {
    let outcome = prop_oneof![
        (task_report(), signed_claim()).prop_map(|(report, claim)| (Ok(report), Some(claim))),
        attempt_failure().prop_map(|failure| (Err(failure), None)),
    ];
    (signed_lease(), outcome).prop_map(|(lease, (outcome, claim))| Report { lease, outcome, claim })
}

fn signed_claim() -> impl Strategy<Value = SignedClaim> {
    let method = prop::sample::select(&EnergyMethod::ALL[..]);
    (1..=u64::MAX, any::<u64>(), method, any::<[u8; 64]>()).prop_map(|(sequence, used, method, signature)| {
        SignedClaim { sequence, energy: Energy { used: Millijoules(used), method }, signature }
    })
}

pub(crate) fn exchange_request(device: DeviceId) -> impl Strategy<Value = ExchangeRequest> {
    let lists = (
        prop::collection::vec(signed_lease(), 0..4),
        prop::collection::vec(report(), 0..4),
        prop::collection::vec(digest(), 0..4),
    );
    (any::<[Option<[u8; 16]>; 3]>(), any::<[u64; 4]>(), any::<[u32; 2]>(), digest(), lists).prop_map(
        move |([boot, session, replaces], [sequence, settled_sequence, wait, challenge], slots, meter, lists)| {
            ExchangeRequest {
                device,
                boot: boot.map(BootId),
                session: session.map(SessionId),
                replaces: replaces.map(SessionId),
                sequence,
                settled_sequence,
                meter: MeterId(meter),
                slots_free: slots[0],
                slots: slots[1],
                wait: Millis(wait),
                holding: lists.0,
                reports: lists.1,
                ready: lists.2,
                challenge,
            }
        },
    )
}

pub(crate) fn exchange_reply() -> impl Strategy<Value = ExchangeReply> {
    let outcome = prop_oneof![Just(Ok(())), prop::sample::select(every_refusal()).prop_map(Err)];
    let acks = prop::collection::vec((any::<[u8; 8]>().prop_map(LeaseId), outcome), 0..5);
    let dropped = prop::collection::vec(any::<[u8; 8]>().prop_map(LeaseId), 0..5);
    (any::<[u8; 16]>(), any::<[u64; 5]>(), prop::collection::vec(signed_lease(), 0..5), acks, dropped).prop_map(
        |(session, [sequence, now, governance, claims, challenge], leases, acks, dropped)| ExchangeReply {
            session: SessionId(session),
            sequence,
            now: Timestamp(now),
            leases,
            acks,
            dropped,
            governance,
            claims,
            challenge,
        },
    )
}

pub(crate) fn attachments() -> impl Strategy<Value = Attachments> {
    prop::collection::vec(any::<Vec<u8>>(), 0..4)
        .prop_map(|blobs| blobs.into_iter().map(|blob| (Digest::of(&blob), blob)).collect())
}

pub(crate) fn item_outcome() -> impl Strategy<Value = ItemOutcome> {
    use TrapKind::*;
    let trap = prop::sample::select(vec![Unreachable, OutOfBounds, StackOverflow, BadCall, Arithmetic, Other]);
    let result = prop_oneof![
        any::<Vec<u8>>().prop_map(Ok),
        any::<i32>().prop_map(|code| Err(ItemError::Exit(code))),
        trap.prop_map(|kind| Err(ItemError::Trap(kind))),
        Just(Err(ItemError::FuelExhausted)),
        Just(Err(ItemError::OutputTooLarge)),
    ];
    (result, any::<u64>(), any::<Vec<u8>>()).prop_map(|(result, fuel, stderr)| ItemOutcome {
        result,
        fuel: Fuel(fuel),
        stderr,
    })
}

pub(crate) fn manifest() -> impl Strategy<Value = Manifest> {
    let scope = prop_oneof![Just(Scope::Task), (1..=u32::MAX).prop_map(|records| Scope::Item { records })];
    let blob = (digest(), any::<u64>());
    let blobs = prop::collection::btree_map("[a-z][a-zA-Z0-9._-]{0,20}", blob, 0..4).prop_map(|blobs| {
        let blob = |(name, (digest, size))| BlobRef { name, digest, size: Bytes(size) };
        blobs.into_iter().map(blob).collect()
    });
    let args = prop::collection::vec(text(), 0..4);
    (text(), digest(), any::<u64>(), scope, blobs, args, any::<[u64; 6]>(), digest()).prop_map(
        |(name, program, program_size, scope, blobs, args, limits, meter)| Manifest {
            name,
            program,
            program_size: Bytes(program_size),
            runtime: RuntimeClass::Wasm,
            scope,
            blobs,
            args,
            limits: Limits {
                fuel_per_item: Fuel(limits[0]),
                fuel_init: Fuel(limits[1]),
                memory: Bytes(limits[2]),
                output_per_item: Bytes(limits[3]),
                stderr_per_item: Bytes(limits[4]),
                wall_per_item: Millis(limits[5]),
            },
            meter: MeterId(meter),
        },
    )
}

pub(crate) fn settled() -> impl Strategy<Value = Settled> {
    (any::<[u8; 8]>(), task_report(), any::<u64>()).prop_map(|(device, report, at)| Settled {
        device: DeviceId(device),
        report,
        at: Timestamp(at),
    })
}

pub(crate) fn prepared() -> impl Strategy<Value = Prepared> {
    let tasks = prop::collection::vec((digest(), any::<u32>(), any::<u32>()), 0..20);
    (digest(), tasks).prop_map(|(blob, tasks)| in_order(blob, tasks))
}

/// The tasks of these digests, lengths and record counts, one after the other.
fn in_order(blob: Digest, tasks: impl IntoIterator<Item = (Digest, u32, u32)>) -> Prepared {
    let mut prepared = Prepared { blob, size: Bytes(0), records: 0, tasks: Vec::new() };
    for (digest, len, records) in tasks {
        prepared.tasks.push(TaskInput { digest, offset: prepared.size.0, len, records });
        prepared.size.0 += u64::from(len);
        prepared.records += u64::from(records);
    }
    prepared
}

pub(crate) fn many_tasks(count: u32) -> Prepared {
    let task = |number: u32| (Digest::of(&number.to_le_bytes()), 20_000 + number % 7_000, 100 + number % 9);
    in_order(Digest([1; 32]), (0..count).map(task))
}

pub(crate) fn ending() -> impl Strategy<Value = Ending> {
    let error = (text(), text(), any::<Option<u64>>(), prop::option::of(text()))
        .prop_map(|(code, message, line, param)| InputError { code, message, line, param });
    let errors = prop::collection::vec(error, 0..5);
    prop_oneof![
        Just(Ending::Completed),
        Just(Ending::Cancelled),
        Just(Ending::Expired),
        errors.prop_map(|errors| Ending::Failed { errors }),
    ]
}

pub(crate) fn job_kind() -> impl Strategy<Value = JobKind> {
    let endpoint = Endpoint::Embeddings;
    let format = prop::sample::select(vec![InputFormat::JsonLines, InputFormat::Lines]);
    let metadata = prop::collection::vec((text(), text()), 0..4);
    prop_oneof![
        format.prop_map(|format| JobKind::Program { format }),
        (text(), metadata).prop_map(move |(completion_window, metadata)| JobKind::Batch {
            endpoint,
            completion_window,
            metadata
        }),
        Just(JobKind::Sync { endpoint }),
    ]
}

/// At least one of every variant, each field with a value of its own.
pub(crate) fn every_refusal() -> Vec<Refusal> {
    vec![
        Refusal::JobUnknown(JobId(1)),
        Refusal::JobEnded(JobId(2)),
        Refusal::FileUnknown(FileId(3)),
        Refusal::FilePurpose { file: FileId(4), needed: "batch" },
        Refusal::FileInUse(FileId(5), JobId(6)),
        Refusal::WorkloadUnknown(Digest([7; 32])),
        Refusal::ManifestInvalid("no name".into()),
        Refusal::MeterForeign { expected: MeterId(Digest([8; 32])), found: MeterId(Digest([9; 32])) },
        Refusal::ModelUnknown("m".into()),
        Refusal::ModelExists("n".into()),
        Refusal::KeyUnknown(KeyId(10)),
        Refusal::KeyLastAdmin(KeyId(11)),
        Refusal::TicketUnknown,
        Refusal::TicketExpired(TicketId(12), Timestamp(13)),
        Refusal::TicketSpent(TicketId(14), 15),
        Refusal::DeviceUnknown(DeviceId([16; 8])),
        Refusal::BootChanged(BootId([17; 16])),
        Refusal::DeviceConvicted(DeviceId([19; 8])),
        Refusal::SessionUnknown,
        Refusal::SessionHeld(SessionId([18; 16])),
        Refusal::SessionSuperseded,
        Refusal::SequenceStale { last: u64::MAX },
        Refusal::LeaseForged,
        Refusal::LeaseForeign(DeviceId([18; 8])),
        Refusal::LeaseExpired(Timestamp(19)),
        Refusal::TaskSettled,
        Refusal::ClaimSequence { expected: 22 },
        Refusal::PriceAboveLimit { price: MicroCredits(7), limit: MicroCredits(5) },
        Refusal::CreditsInsufficient { needed: MicroCredits(7), balance: MicroCredits(-5) },
        Refusal::FieldInvalid { field: "name", reason: "too long".into() },
        Refusal::TooMany { what: "reports", limit: 20 },
        Refusal::TooLarge { what: "input", limit: Bytes(21) },
        Refusal::NoDevice { reason: "all are away".into() },
    ]
}

pub(crate) fn sample_lease() -> SignedLease {
    SignedLease {
        lease: Lease {
            id: LeaseId([1; 8]),
            pool: PoolId([2; 8]),
            task: TaskId { job: JobId(300), index: TaskIndex(4_000_000) },
            device: DeviceId([5; 8]),
            workload: Digest([6; 32]),
            input: TaskInput { digest: Digest([7; 32]), offset: 1 << 40, len: 60_000, records: 1_000 },
            blob: Digest([8; 32]),
            issued: Timestamp(1_700_000_000_000),
            expires: Timestamp(1_700_003_600_000),
        },
        signature: [9; 64],
    }
}

pub(crate) fn sample_claim() -> SignedClaim {
    let energy = Energy { used: Millijoules(12_345), method: EnergyMethod::Rapl };
    SignedClaim { sequence: 41, energy, signature: [7; 64] }
}

pub(crate) fn sample_result() -> Report {
    Report { lease: sample_lease(), outcome: Ok(sample_settled().report), claim: Some(sample_claim()) }
}

pub(crate) fn sample_request(device: DeviceId) -> ExchangeRequest {
    ExchangeRequest {
        device,
        boot: Some(BootId([1; 16])),
        session: None,
        replaces: None,
        sequence: 7,
        settled_sequence: 6,
        meter: MeterId(Digest([2; 32])),
        slots_free: 1,
        slots: 2,
        wait: Millis(5_000),
        holding: vec![sample_lease()],
        reports: Vec::new(),
        ready: vec![Digest([6; 32])],
        challenge: 0x0123_4567_89ab_cdef,
    }
}

pub(crate) fn sample_settled() -> Settled {
    Settled {
        device: DeviceId([5; 8]),
        report: TaskReport {
            root: Digest([1; 32]),
            result: Digest([2; 32]),
            size: Bytes(123_456),
            items: 1_000,
            items_failed: 3,
            records_failed: 3,
            fuel: Fuel(9_876_543_210),
            cpu: Millis(4_321),
            wall: Millis(5_432),
            // As before there was such a field: it is then not in the bytes.
            jail: JailLayers::NONE,
        },
        at: Timestamp(1_700_000_100_000),
    }
}

pub(crate) fn sample_prepared() -> Prepared {
    many_tasks(3)
}

/// The samples' leases are as long as leases get in practice.
#[test]
fn a_held_lease_is_small() {
    let bytes = crate::encode_exchange_request(&sample_request(DeviceId([5; 8])), &Attachments::new());
    assert!(bytes.len() * limits::LEASES_MAX < limits::EXCHANGE_MAX, "{} bytes", bytes.len());
}
