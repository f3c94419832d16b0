//! Where fuzzing starts: small values of every kind, written by the encoders themselves where there are any.

use crate::guests;
use crate::jail::{JailPolicy, JailReport, LayerState};
use crate::onnx::{Attribute, Data, Dim, ElementType, Graph};
use crate::protocol::{self, BlobSetup, Frame, Setup, Stage};
use caii_model::*;
use caii_trust::{
    Body, Build, Certification, Charter, Mandate, PAYLOAD_TYPE, PublicKey, Revocation, RevocationStatement,
    Revocations, Revoked, SigningKey, Steward,
};
use caii_wire::{Attachments, EnrolReply, EnrolRequest, Envelope, JoinTicket, RequestKind, TicketSecret, rows};

/// A target, a seed's name, its bytes.
pub type Seed = (&'static str, &'static str, Vec<u8>);

/// Every seed of every target.
pub fn all() -> Vec<Seed> {
    let apart = [crate::tlog::seeds(), crate::published::seeds()].concat();
    [wire(), records(), frames(), programs(), models(), trust(), apart].concat()
}

fn lease() -> SignedLease {
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

fn report() -> TaskReport {
    TaskReport {
        root: Digest([1; 32]),
        result: Digest([2; 32]),
        size: Bytes(123_456),
        items: 1_000,
        items_failed: 3,
        records_failed: 3,
        fuel: Fuel(9_876_543_210),
        cpu: Millis(4_321),
        wall: Millis(5_432),
        jail: JailLayers(0x2_ffff),
    }
}

fn claim() -> SignedClaim {
    let energy = Energy { used: Millijoules(12_345), method: EnergyMethod::Rapl };
    SignedClaim { sequence: 41, energy, signature: [7; 64] }
}

fn failure() -> AttemptFailure {
    AttemptFailure { kind: AttemptFailureKind::RunnerDied, detail: "killed".into() }
}

fn attachments() -> Attachments {
    [b"".to_vec(), b"one record\n".to_vec()].into_iter().map(|blob| (Digest::of(&blob), blob)).collect()
}

fn limits() -> Limits {
    guests::limits()
}

fn manifest(scope: Scope) -> Manifest {
    let blob = |name: &str| BlobRef { name: name.into(), digest: Digest([3; 32]), size: Bytes(1 << 20) };
    Manifest {
        name: "example".into(),
        program: Digest([1; 32]),
        program_size: Bytes(100_000),
        runtime: RuntimeClass::Wasm,
        scope,
        blobs: vec![blob("model.onnx"), blob("tokenizer.json")],
        args: vec!["--flag".into(), "ü".into()],
        limits: limits(),
        meter: MeterId(Digest([2; 32])),
    }
}

fn outcomes() -> Vec<ItemOutcome> {
    [
        Ok(b"output".to_vec()),
        Err(ItemError::Exit(7)),
        Err(ItemError::Trap(TrapKind::OutOfBounds)),
        Err(ItemError::FuelExhausted),
        Err(ItemError::OutputTooLarge),
    ]
    .into_iter()
    .map(|result| ItemOutcome { result, fuel: Fuel(1_234), stderr: b"why".to_vec() })
    .collect()
}

fn wire() -> Vec<Seed> {
    let request = ExchangeRequest {
        device: DeviceId([7; 8]),
        boot: Some(BootId([1; 16])),
        session: Some(SessionId([3; 16])),
        replaces: None,
        sequence: 7,
        settled_sequence: 6,
        meter: MeterId(Digest([2; 32])),
        slots_free: 1,
        slots: 2,
        wait: Millis(5_000),
        holding: vec![lease()],
        reports: vec![
            Report { lease: lease(), outcome: Ok(report()), claim: Some(claim()) },
            Report { lease: lease(), outcome: Err(failure()), claim: None },
        ],
        ready: vec![Digest([6; 32])],
        challenge: 11,
    };
    let body = caii_wire::encode_exchange_request(&request, &attachments());
    let small =
        ExchangeRequest { boot: None, session: None, holding: vec![], reports: vec![], ready: vec![], ..request };
    let small = ExchangeRequest { replaces: Some(SessionId([5; 16])), ..small };
    let small = caii_wire::encode_exchange_request(&small, &Attachments::new());
    let envelope =
        Envelope { device: DeviceId([1; 8]), kind: RequestKind::Exchange, body: small.clone(), signature: [4; 64] };
    let reply = ExchangeReply {
        session: SessionId([3; 16]),
        sequence: 7,
        now: Timestamp(1_700_000_000_000),
        leases: vec![lease()],
        acks: vec![
            (LeaseId([1; 8]), Ok(())),
            (LeaseId([2; 8]), Err(Refusal::TaskSettled)),
            (LeaseId([4; 8]), Err(Refusal::ClaimSequence { expected: 42 })),
        ],
        dropped: vec![LeaseId([3; 8])],
        governance: 7,
        claims: 41,
        challenge: 12,
    };
    let refusal = caii_wire::encode_refusal(&Refusal::BootChanged(BootId([1; 16])));
    let enrol =
        EnrolRequest { secret: TicketSecret([1; 16]), public_key: [2; 32], name: "a machine".into(), proof: [3; 64] };
    let enrolled = EnrolReply { device: DeviceId([1; 8]), pool: PoolId([2; 8]), pool_public_key: [3; 32] };
    let ticket = JoinTicket {
        addresses: vec!["pool.example.org:7070".into(), "[::1]:7070".into()],
        certificate: Digest([1; 32]),
        pool: PoolId([2; 8]),
        secret: TicketSecret([3; 16]),
        charter: Digest([4; 32]),
    };
    let ticket = ticket.encode().expect("its addresses are well-formed");
    let message = {
        use base64::Engine as _;
        let decoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(&ticket["caii1-".len()..]);
        let mut decoded = decoded.expect("it was encoded just now");
        decoded.truncate(decoded.len() - 4);
        decoded
    };
    let task = |offset, len, records| TaskInput { digest: Digest([1; 32]), offset, len, records };
    let prepared =
        Prepared { blob: Digest([1; 32]), size: Bytes(30), records: 3, tasks: vec![task(0, 10, 1), task(10, 20, 2)] };
    let error = InputError { code: "c".into(), message: "m".into(), line: Some(3), param: Some("p".into()) };
    let batch = JobKind::Batch {
        endpoint: Endpoint::Embeddings,
        completion_window: "24h".into(),
        metadata: vec![("key".into(), "value".into())],
    };
    let refusals = [
        ("digests", Refusal::MeterForeign { expected: MeterId(Digest([8; 32])), found: MeterId(Digest([9; 32])) }),
        ("text", Refusal::FieldInvalid { field: "name", reason: "too long".into() }),
        ("number", Refusal::TooMany { what: "reports", limit: 20 }),
        ("ticket", Refusal::TicketSpent(TicketId(14), 15)),
    ];
    let refusals = refusals.map(|(name, refusal)| ("wire_refusal", name, caii_wire::encode_refusal(&refusal)));
    let mut seeds = vec![
        ("wire_envelope", "exchange", caii_wire::encode_envelope(&envelope)),
        ("wire_exchange_request", "full", body),
        ("wire_exchange_request", "empty", small),
        ("wire_exchange_reply", "full", caii_wire::encode_exchange_reply(&reply, &attachments())),
        ("wire_exchange_reply", "refusal", refusal.clone()),
        ("wire_enrol", "request", caii_wire::encode_enrol_request(&enrol)),
        ("wire_enrol", "reply", caii_wire::encode_enrol_reply(&enrolled)),
        ("wire_enrol", "refusal", refusal),
        ("wire_manifest", "items", caii_wire::encode_manifest(&manifest(Scope::Item { records: 10 }))),
        ("wire_manifest", "task", caii_wire::encode_manifest(&manifest(Scope::Task))),
        ("wire_task_result", "every-outcome", caii_wire::encode_task_result(&outcomes())),
        (
            "wire_row",
            "settled",
            rows::encode_settled(&Settled { device: DeviceId([5; 8]), report: report(), at: Timestamp(1) }),
        ),
        ("wire_row", "task-report", rows::encode_task_report(&report())),
        ("wire_row", "attempt-failure", rows::encode_attempt_failure(&failure())),
        ("wire_row", "manifest", rows::encode_manifest(&manifest(Scope::Task))),
        ("wire_row", "prepared", rows::encode_prepared(&prepared)),
        ("wire_row", "ending", rows::encode_ending(&Ending::Failed { errors: vec![error] })),
        ("wire_row", "program", rows::encode_job_kind(&JobKind::Program { format: InputFormat::Lines })),
        ("wire_row", "batch", rows::encode_job_kind(&batch)),
        ("wire_row", "sync", rows::encode_job_kind(&JobKind::Sync { endpoint: Endpoint::Embeddings })),
        ("ticket", "text", ticket.into_bytes()),
        ("ticket", "message", message),
    ];
    seeds.extend(refusals);
    seeds
}

fn records() -> Vec<Seed> {
    let request = |id: &str, input: &str| {
        format!(
            "{{\"custom_id\":\"{id}\",\"method\":\"POST\",\"url\":\"/v1/embeddings\",\
             \"body\":{{\"model\":\"m\",\"input\":{input}}}}}\n"
        )
    };
    let batch = [request("a", "\"x\""), request("b\\u00e9", "[\"x\",\"y\"]"), request("c", "[1,2]")].concat();
    let wrong = concat!(
        "\n[1]\n{\"custom_id\":1}\n{\"custom_id\":\"a\",\"method\":\"GET\"}\nnull\n",
        "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/\",\"body\":{}}\n",
    );
    let text = b"\xef\xbb\xbffirst\r\n\n \t\nth\xc3\xafrd\nno\xff utf-8\nlast";
    vec![
        ("pool_records", "batch", batch.into_bytes()),
        ("pool_records", "wrong", wrong.into()),
        ("pool_records", "text", text.into()),
        ("pool_lines", "text", text.into()),
        ("pool_lines", "ends", b"a\r\r\n\n\r\n\xef\xbb\xbf\n".into()),
    ]
}

fn frames() -> Vec<Seed> {
    let setup = |stage| {
        Frame::Setup(Setup {
            stage,
            jail: JailPolicy { may_lack: JailLayers::NONE.with(JailLayer::Sealed) },
            idle_priority: true,
            native_nan: false,
            workload: Digest([1; 32]),
            program: Digest([2; 32]),
            program_size: Bytes(3),
            args: vec!["--flag".into(), "ü".into()],
            limits: limits(),
            blobs: vec![BlobSetup { name: "blob".into(), digest: Digest([4; 32]), size: Bytes(5) }],
        })
    };
    let mut jail = JailReport::default();
    jail.record(JailLayer::EmptyRoot, LayerState::Enforced);
    jail.record(JailLayer::ControlGroup, LayerState::Unavailable("no controller".into()));
    let prepared = Frame::Prepared {
        image: Digest([1; 32]),
        image_size: Bytes(2),
        init_fuel: Fuel(3),
        cpu_us: 4,
        jail: jail.clone(),
    };
    let refusals = [
        protocol::Refusal::Program("p".into()),
        protocol::Refusal::Initialiser(ItemError::Exit(-1), b"said".into()),
        protocol::Refusal::Image("i".into()),
        protocol::Refusal::Host("h".into()),
        protocol::Refusal::Jail(jail.clone()),
    ];
    let to_runner = [setup(Stage::Prepare), Frame::Item(b"item"), Frame::EndTask];
    let run = [setup(Stage::Run { image: Digest([3; 32]), image_size: Bytes(9) })];
    let from_runner = [
        vec![prepared, Frame::Ready { jail }, Frame::TaskDone { cpu_us: 5 }],
        refusals.into_iter().map(Frame::Refused).collect(),
        outcomes().into_iter().map(Frame::Outcome).collect(),
    ];
    let stream = |frames: &[Frame<'_>]| {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| protocol::encode(frame, &mut bytes));
        bytes
    };
    // A frame without its length is what the target's second half reads.
    let bare = |frame: &Frame<'_>| stream(std::slice::from_ref(frame))[4..].to_vec();
    vec![
        ("runner_protocol", "to-runner", stream(&to_runner)),
        ("runner_protocol", "from-runner", stream(&from_runner.concat())),
        ("runner_protocol", "setup", bare(&run[0])),
        ("runner_protocol", "outcome", bare(&Frame::Outcome(outcomes().remove(0)))),
    ]
}

fn programs() -> Vec<Seed> {
    let wasi = |import: &str| {
        guests::module(&format!(
            r#"(import "wasi_snapshot_preview1" {import}) (memory (export "memory") 1 2) (func (export "_start"))"#
        ))
    };
    let tables = r#"(memory (export "memory") 1) (table 2 10 funcref) (elem (i32.const 0) $f)
        (global $g (mut i32) (i32.const 3)) (data (i32.const 8) "data") (start $f)
        (func $f (local i64 f64 v128) (block (loop (br_table 0 1 0 (i32.const 1)))))
        (func (export "_start") (call_indirect (i32.const 0))) (@custom "name" "x")"#;
    let snapshot = r#"(memory (export "memory") 1) (table 1 funcref) (global (mut funcref) (ref.null func))
        (func (export "_start")) (func (export "wizer.initialize") (table.set (i32.const 0) (ref.null func)))"#;
    vec![
        ("program", "initialised", guests::initialised()),
        ("program", "tables", guests::module(tables)),
        ("program", "snapshot", guests::module(snapshot)),
        ("program", "known-import", wasi(r#""fd_close" (func (param i32) (result i32))"#)),
        ("program", "unknown-import", wasi(r#""fd_launch" (func)"#)),
        ("program", "component", b"\0asm\x0d\0\x01\0".into()),
    ]
}

/// alice, bob and carol, with keys 1 to 3; two of them certify, each can stop.
pub(crate) fn charter() -> Charter {
    let names = ["alice", "bob", "carol"].map(str::to_owned);
    let steward = |(name, seed): (&String, u8)| Steward {
        name: name.clone(),
        body: "lab".into(),
        key: PublicKey::Ed25519(SigningKey::from_seed([seed; 32]).public()),
    };
    Charter {
        id: Digest([0xc4; 32]),
        name: "a charter".into(),
        bodies: vec![Body { name: "lab".into(), about: "The laboratory".into() }],
        stewards: names.iter().zip(1..).map(steward).collect(),
        certify: vec![Mandate { region: Region::any(), threshold: 2, stewards: names.to_vec() }],
        revoke: names.to_vec(),
        runtime_min: RuntimeVersion([48, 0, 0]),
        certification_valid_max: Millis(366 * 86_400_000),
        revoked: Revocations::new(),
    }
}

/// The workload that the seeds certify.
pub(crate) fn certified_manifest() -> Manifest {
    manifest(Scope::Task)
}

fn trust() -> Vec<Seed> {
    let (charter, manifest) = (charter(), certified_manifest());
    let certification = Certification {
        workload: manifest.digest(),
        name: manifest.name.clone(),
        charter: charter.id,
        runtime: manifest.runtime,
        meter: manifest.meter,
        limits: manifest.limits,
        uses: [UseCategory::Embedding].into(),
        data_tiers: [DataTier::Public, DataTier::Internal].into(),
        regions: [Region::any()].into(),
        issued: Timestamp(1_767_225_600_000),
        expires: Timestamp(1_782_864_000_000),
        build: Some(Build { source: Digest([8; 32]), command: "make".into() }),
    };
    let revoke = |what| RevocationStatement {
        what,
        charter: charter.id,
        issued: Timestamp(1_767_225_600_000),
        why: "it leaks".into(),
    };
    let (workload, key) = (Revoked::Workload(manifest.digest()), Revoked::Key(charter.stewards[1].key.id()));
    let revocation = |what| Revocation {
        what,
        issued: Timestamp(1_767_225_600_000),
        by: "carol".into(),
        key: charter.stewards[2].key.id(),
        why: "it leaks".into(),
    };
    let revocations: Revocations = [workload, key].map(revocation).into_iter().collect();
    let changed = Charter {
        certify: [
            charter.certify.clone(),
            vec![Mandate { region: "eu".parse().expect("it is one"), threshold: 3, stewards: charter.revoke.clone() }],
        ]
        .concat(),
        revoked: revocations.clone(),
        ..charter.clone()
    };
    let mut envelope = caii_trust::Envelope::unsigned(PAYLOAD_TYPE, certification.to_json());
    // No steward's signature: the target demands that nothing is certified by what a fuzzer makes of it.
    envelope.add(charter.stewards[0].key.id(), vec![7; 64]);
    let foreign =
        br#"{"payload":"-_-_","payloadType":"t","extra":1,"signatures":[{"sig":"+/+/"},{"keyid":"x","sig":""}]}"#;
    vec![
        ("trust_envelope", "certification", envelope.to_json()),
        ("trust_envelope", "foreign", foreign.into()),
        ("trust_statement", "certification", certification.to_json()),
        ("trust_statement", "without-build", Certification { build: None, ..certification.clone() }.to_json()),
        ("trust_statement", "revocation", revoke(workload).to_json()),
        ("trust_statement", "revoked-key", revoke(key).to_json()),
        ("trust_charter", "three", charter.to_json()),
        ("trust_charter", "regions-and-revocations", changed.to_json()),
        ("trust_revocations", "two", revocations.to_json()),
        ("trust_revocations", "none", Revocations::new().to_json()),
    ]
}

fn models() -> Vec<Seed> {
    let header = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"h":{"dtype":"F16","shape":[2],"data_offsets":[8,12]},"b":{"dtype":"BF16","shape":[1,2],"data_offsets":[12,16]},"q":{"dtype":"I8","shape":[2],"data_offsets":[16,18]}}"#;
    let data = [0, 0, 0xc0, 0x3f, 0, 0, 0, 0xc0, 0, 0x3e, 1, 0, 0xc0, 0x3f, 0, 0xc0, 1, 2];
    let weights = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
    let config = br#"{"architectures":["BertModel"],"model_type":"bert","hidden_act":"gelu","hidden_size":384,"num_attention_heads":12,"num_hidden_layers":6,"intermediate_size":1536,"vocab_size":30522,"max_position_embeddings":512,"type_vocab_size":2,"layer_norm_eps":1e-12,"position_embedding_type":"absolute"}"#;
    let word_piece = r###"{"truncation":{"max_length":128},"added_tokens":[{"id":0,"content":"[PAD]"}],"model":{"type":"WordPiece","unk_token":"[UNK]","vocab":{"[PAD]":0,"##a":1}}}"###;
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    vec![
        ("model_safetensors", "every-type", weights),
        ("model_archive", "wheel", archive()),
        ("model_onnx", "embedding", onnx("embedding")),
        ("model_onnx", "other", onnx("last_hidden_state")),
        ("model_tokenizer", "word-piece", word_piece.into()),
        ("model_tokenizer", "bpe", br#"{"truncation":null,"model":{"type":"BPE","vocab":{"a":40000}}}"#.into()),
        ("model_bert_config", "small", config.into()),
        ("model_source", "url", format!("https://example.org/m.onnx#sha256={digest}").into_bytes()),
        ("model_source", "package", b"pypi:some-model==0.1.0".into()),
        ("model_source", "path", b"./model dir".into()),
    ]
}

/// A model with a table of two rows.
fn onnx(output: &str) -> Vec<u8> {
    let mut graph = Graph::<()>::new("sample");
    let both = [Dim::Named("batch"), Dim::Named("seq")];
    graph.input("input_ids", ElementType::I64, &both);
    graph.input("attention_mask", ElementType::I64, &both);
    graph.output(output, ElementType::F32, &[Dim::Named("batch"), Dim::Fixed(3)]);
    let table = graph.constant("table", &[2, 3], Data::F32(vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]));
    let rows = graph.node("Gather", &[&table, "input_ids"], &[("axis", Attribute::Int(0))], None);
    let axes = graph.constant("axes", &[1], Data::I64(vec![1]));
    graph.node("ReduceSum", &[&rows, &axes], &[("keepdims", Attribute::Int(0))], Some(output));
    let mut bytes = Vec::new();
    graph.write(&mut bytes, |(), _| Ok::<_, std::io::Error>(())).expect("memory takes it");
    bytes
}

/// A wheel with files of every kind: unpacked and left, deflated and stored, one that unpacks to far more than it takes.
fn archive() -> Vec<u8> {
    use zip::write::SimpleFileOptions;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let day = zip::DateTime::default();
    let stored =
        SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored).last_modified_time(day);
    let deflated = stored.compression_method(zip::CompressionMethod::Deflated);
    let files = [
        ("pkg/config.json", deflated, vec![b'{'; 40]),
        ("pkg/model.onnx", deflated, vec![0; 10_000]),
        ("pkg/model.safetensors", stored, vec![1, 2, 3]),
        ("pkg/__init__.py", stored, b"import os".to_vec()),
    ];
    zip.add_directory("pkg/", stored).expect("memory takes it");
    for (name, options, bytes) in files {
        zip.start_file(name, options).expect("memory takes it");
        std::io::Write::write_all(&mut zip, &bytes).expect("memory takes it");
    }
    zip.finish().expect("memory takes it").into_inner()
}
