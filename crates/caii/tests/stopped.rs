//! A pool that knows of a revocation and does not want it to matter: it goes on asking for the work and never takes the
//! lease back. The device stops what runs all the same.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

#[path = "../../node/src/agent/testing/server.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod server;
#[path = "../../node/src/agent/testing/stewards.rs"]
mod stewards;
mod support;

use caii_model::*;
use caii_node::agent::{AgentEvent, AgentOptions, run_until};
use caii_trust::{SigningKey, domain};
use caii_wire::{Attachments, EnrolReply, JoinTicket, TicketSecret};
use server::{Answer, Request, Server, answer};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use stewards::Stewards;
use support::{PATIENCE, children, guest};
use tokio::sync::mpsc;

const INPUT: &[u8] = b"x\n";

/// What the pool does and was told.
#[derive(Default)]
struct State {
    governance: u64,
    files: Vec<u8>,
    certificates: Vec<u8>,
    /// Its device has asked for work and was given the one lease.
    leased: Option<SignedLease>,
    reports: Vec<Report>,
}

struct Pool {
    key: SigningKey,
    manifest: Manifest,
    program: Vec<u8>,
    state: Mutex<State>,
}

fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64)
}

impl Pool {
    fn answer(&self, request: &Request) -> Answer {
        let workload = format!("GET /agent/v1/workloads/{}", self.manifest.digest().hex());
        match request.line.as_str() {
            "POST /agent/v1/enrol" => {
                let enrol = caii_wire::decode_enrol_request(&request.body).unwrap();
                let (device, pool_public_key) = (caii_trust::device_id(&enrol.public_key), self.key.public());
                let pool = caii_trust::pool_id(&pool_public_key);
                answer(200, caii_wire::encode_enrol_reply(&EnrolReply { device, pool, pool_public_key }))
            }
            "POST /agent/v1/exchange" => self.exchange(request),
            "GET /agent/v1/governance" => answer(200, self.state.lock().unwrap().files.clone()),
            line if line == workload => answer(200, caii_wire::encode_manifest(&self.manifest)),
            line if line == format!("{workload}/certificates") => {
                answer(200, self.state.lock().unwrap().certificates.clone())
            }
            line if line.starts_with("GET /agent/v1/blobs/") => answer(200, self.program.clone()),
            other => panic!("{other}"),
        }
    }

    fn exchange(&self, request: &Request) -> Answer {
        // As a pool that holds its replies back for a while, or the device would ask all the time.
        std::thread::sleep(Duration::from_millis(50));
        let envelope = caii_wire::decode_envelope(&request.body).unwrap();
        let (request, _) = caii_wire::decode_exchange_request(envelope.device, &envelope.body).unwrap();
        let mut state = self.state.lock().unwrap();
        state.reports.extend(request.reports);
        let (mut leases, mut attachments) = (vec![], Attachments::new());
        if state.leased.is_none() && request.slots_free > 0 {
            let lease = self.lease(request.device);
            state.leased = Some(lease);
            leases.push(lease);
            attachments.insert(Digest::of(INPUT), INPUT.to_vec());
        }
        let reply = ExchangeReply {
            session: SessionId([3; 16]),
            sequence: request.sequence,
            now: now(),
            leases,
            acks: vec![],
            dropped: vec![],
            governance: state.governance,
            claims: 0,
            challenge: 0,
        };
        answer(200, caii_wire::encode_exchange_reply(&reply, &attachments))
    }

    fn lease(&self, device: DeviceId) -> SignedLease {
        let lease = Lease {
            id: LeaseId([1; 8]),
            pool: caii_trust::pool_id(&self.key.public()),
            task: TaskId { job: JobId(1), index: TaskIndex(0) },
            device,
            workload: self.manifest.digest(),
            input: TaskInput { digest: Digest::of(INPUT), offset: 0, len: INPUT.len() as u32, records: 1 },
            blob: Digest::of(INPUT),
            issued: now(),
            expires: now() + Millis(3_600_000),
        };
        SignedLease { lease, signature: self.key.sign(domain::LEASE, &lease.digest()) }
    }
}

/// Ticks of CPU that a process has used; nothing of one that has ended.
fn cpu(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    (fields[0] != "Z").then(|| fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap())
}

async fn until<T>(what: &str, patience: Duration, mut find: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(since.elapsed() < patience, "there never was {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_stops_what_was_revoked_whatever_its_pool_says() {
    let program = std::fs::read(guest("contract-spin")).unwrap();
    let manifest = Manifest {
        name: "spin".into(),
        program: Digest::of(&program),
        program_size: Bytes(program.len() as u64),
        runtime: RuntimeClass::Wasm,
        scope: Scope::Item { records: 1 },
        blobs: vec![],
        args: vec![],
        limits: Limits { fuel_per_item: Fuel(u64::MAX / 4), wall_per_item: Millis(3_600_000), ..Limits::default() },
        meter: caii_sandbox::meter_id(),
    };
    let stewards = Stewards::new(manifest.clone());
    let envelopes = [stewards.certified(0).to_json(), stewards.certified(1).to_json()];
    let state = State {
        governance: 1,
        files: stewards.files(),
        certificates: [b"[".as_slice(), &envelopes.join(b",".as_slice()), b"]"].concat(),
        ..State::default()
    };
    let key = SigningKey::from_seed([9; 32]);
    let pool = Arc::new(Pool { key: key.clone(), manifest, program, state: Mutex::new(state) });
    let server = {
        let pool = pool.clone();
        Server::start(move |request| pool.answer(request)).await
    };
    let ticket = JoinTicket {
        addresses: vec![server.address.clone()],
        certificate: server.certificate,
        pool: caii_trust::pool_id(&key.public()),
        secret: TicketSecret([5; 16]),
        charter: stewards.repository.pin(),
    };
    let dir = tempfile::tempdir().unwrap();
    let mut options =
        AgentOptions::new(dir.path().join("agent"), (env!("CARGO_BIN_EXE_caii").into(), vec!["runner".into()]));
    options.ticket = Some(ticket.encode().unwrap());
    let (stop, mut stopped) = mpsc::channel(4);
    let events = Arc::new(Mutex::new(Vec::new()));
    let log = events.clone();
    let agent = tokio::spawn(async move {
        run_until(options, &mut stopped, move |event: AgentEvent| log.lock().unwrap().push(event.to_string())).await
    });

    // The program runs, and would for longer than anybody waits.
    let prepared =
        || events.lock().unwrap().iter().any(|event| event.contains("certified by alice, bob")).then_some(());
    until("a runner that is ready", PATIENCE, prepared).await;
    let runner = until("the runner", PATIENCE, || children(std::process::id()).first().copied()).await;
    let before = cpu(runner).unwrap();
    until("a program that runs", PATIENCE, || (cpu(runner)? > before + 20).then_some(())).await;

    stewards.revoke(2);
    {
        let mut state = pool.state.lock().unwrap();
        (state.files, state.governance) = (stewards.files(), 2);
    }
    let since = Instant::now();
    until("an end of the program", Duration::from_secs(20), || cpu(runner).is_none().then_some(())).await;
    println!("stopped {:.1?} after the pool showed the revocation", since.elapsed());
    until("a report", PATIENCE, || (!pool.state.lock().unwrap().reports.is_empty()).then_some(())).await;
    let outcome = pool.state.lock().unwrap().reports[0].outcome.clone();
    let failure = outcome.expect_err("it has no result");
    assert_eq!(failure.kind, AttemptFailureKind::Uncertified);
    assert!(failure.detail.contains("carol revoked the workload"), "{}", failure.detail);
    // Twice: at once.
    stop.send(()).await.unwrap();
    stop.send(()).await.unwrap();
    agent.await.unwrap().unwrap();
}
