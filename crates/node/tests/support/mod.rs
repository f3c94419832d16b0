//! A pool on free ports and devices that answer without running anything.

use caii_governance::{Signer as _, SoftwareKey};
use caii_model::{
    Claim, DeviceId, Digest, Energy, EnergyMethod, ExchangeRequest, Fuel, ItemError, ItemOutcome, JailLayers, Lease,
    Millijoules, Millis, PoolId, Refusal, Report, SessionId, SignedClaim, SignedLease, TaskReport, Timestamp, TrapKind,
};
use caii_node::pool::{Pool, PoolAddresses, PoolConfig, PoolOptions};
use caii_trust::{PAYLOAD_TYPE, RevocationStatement, Revoked, SigningKey, domain};
use caii_wire::{Attachments, EnrolRequest, Envelope, JoinTicket, RequestKind};
use reqwest::Client;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// Far beyond what anything here takes, even where many tests share one processor.
const PATIENCE: Duration = Duration::from_secs(120);

/// `(module (memory (export "memory") 1) (func (export "_start")))`
const PROGRAM: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x05\x03\x01\0\x01\
    \x07\x13\x02\x06memory\x02\0\x06_start\0\0\x0a\x04\x01\x02\0\x0b";

pub(crate) struct TestPool {
    pool: Pool,
    dir: TempDir,
    client: Client,
}

fn options(dir: &TempDir) -> PoolOptions {
    let any = |host: &str| format!("{host}:0").parse().unwrap();
    let config =
        PoolConfig { https_listen: any("127.0.0.1"), http_listen: Some(any("127.0.0.1")), ..PoolConfig::default() };
    PoolOptions { dir: dir.path().to_owned(), config, charter: None, runner: None }
}

/// One line of a batch's input.
pub(crate) fn batch_line(custom_id: &str, model: &str, input: &str) -> String {
    let body = json!({"model": model, "input": input});
    format!("{}\n", json!({"custom_id": custom_id, "method": "POST", "url": "/v1/embeddings", "body": body}))
}

/// Whether a batch has ended.
pub(crate) fn done(batch: &Value) -> bool {
    ["completed", "failed", "expired", "cancelled"].contains(&batch["status"].as_str().unwrap())
}

impl TestPool {
    pub(crate) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    async fn start_in(dir: TempDir) -> Self {
        // The TLS client chooses no provider by itself.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let pool = Pool::start(options(&dir)).await.unwrap();
        Self { pool, dir, client: Client::builder().no_proxy().build().unwrap() }
    }

    pub(crate) async fn stop(self) {
        self.pool.shutdown().await;
    }

    pub(crate) async fn restart(self) -> Self {
        self.pool.shutdown().await;
        Self::start_in(self.dir).await
    }

    /// A second pool in the directory of this one.
    pub(crate) async fn start_again_here(&self) -> Result<(), String> {
        match Pool::start(options(&self.dir)).await {
            Ok(_) => Ok(()),
            Err(error) => Err(std::error::Error::source(&error).unwrap().to_string()),
        }
    }

    pub(crate) fn addresses(&self) -> &PoolAddresses {
        self.pool.addresses()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addresses().http.unwrap())
    }

    pub(crate) async fn send_as(&self, key: &str, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut call = self.client.request(method.parse().unwrap(), self.url(path)).bearer_auth(key);
        if let Some(body) = body {
            call = call.body(body.to_string());
        }
        let response = call.send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_str(&response.text().await.unwrap()).unwrap_or(Value::Null))
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        self.send_as(&self.addresses().admin_key, method, path, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.send("GET", path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.send("POST", path, Some(body)).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// Asks until the answer is as wanted.
    pub(crate) async fn wait(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let found = self.get(path).await;
            if wanted(&found) {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "{path} stays as it is: {found}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn try_upload(&self, purpose: &str, name: &str, content: impl AsRef<str>) -> (u16, Value) {
        let boundary = "a-boundary-that-no-test-has-in-its-files";
        let body = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\n{purpose}\r\n--{boundary}\r\n\
             Content-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n{}\r\n--{boundary}--\r\n",
            content.as_ref()
        );
        let call = self.client.post(self.url("/v1/files")).bearer_auth(&self.addresses().admin_key);
        let call = call.header("content-type", format!("multipart/form-data; boundary={boundary}")).body(body);
        let response = call.send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_str(&response.text().await.unwrap()).unwrap())
    }

    pub(crate) async fn upload(&self, purpose: &str, name: &str, content: impl AsRef<str>) -> Value {
        let (status, file) = self.try_upload(purpose, name, content).await;
        assert_eq!(status, 200, "{file}");
        file
    }

    pub(crate) async fn text(&self, path: &str) -> String {
        let call = self.client.get(self.url(path)).bearer_auth(&self.addresses().admin_key);
        let response = call.send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        response.text().await.unwrap()
    }

    /// The lines of a file of JSON lines.
    pub(crate) async fn lines(&self, file: &Value) -> Vec<Value> {
        let text = self.text(&format!("/v1/files/{}/content", file.as_str().unwrap())).await;
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) async fn create_batch(&self, file: &Value) -> Value {
        let body = json!({"input_file_id": file, "endpoint": "/v1/embeddings", "completion_window": "24h"});
        self.post("/v1/batches", body).await
    }

    pub(crate) async fn put_blob_as(&self, digest: &str, content: &'static [u8]) -> (u16, Value) {
        let call = self.client.put(self.url(&format!("/caii/v1/blobs/{digest}")));
        let response = call.bearer_auth(&self.addresses().admin_key).body(content).send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_str(&response.text().await.unwrap()).unwrap())
    }

    pub(crate) async fn put_blob(&self, content: &'static [u8]) -> String {
        let (status, blob) = self.put_blob_as(&Digest::of(content).hex(), content).await;
        assert_eq!((status, blob["size"].as_u64()), (200, Some(content.len() as u64)));
        blob["digest"].as_str().unwrap().to_owned()
    }

    /// Adds a workload that nobody here will really run; `fields` beside its program.
    pub(crate) async fn add_workload(&self, fields: Value) -> String {
        self.add_workload_as(&self.addresses().admin_key, fields).await
    }

    /// The same by another key: an admin's are certified by being added.
    pub(crate) async fn add_workload_as(&self, key: &str, mut fields: Value) -> String {
        fields["program"] = self.put_blob(PROGRAM).await.into();
        let (status, added) = self.send_as(key, "POST", "/caii/v1/workloads", Some(fields)).await;
        assert_eq!(status, 200, "{added}");
        added["digest"].as_str().unwrap().to_owned()
    }

    /// Revokes the key of the only steward, by itself.
    pub(crate) async fn revoke_stewards_key(&self, why: &str) {
        let no_passphrase = |_: &str| panic!("a pool's own key has no passphrase");
        let key = SoftwareKey::read(&self.dir.path().join("charter/steward.key"), no_passphrase).unwrap();
        let charter = JoinTicket::decode(&self.addresses().ticket).unwrap().charter;
        let (what, why) = (Revoked::Key(key.public().id()), why.to_owned());
        let statement = RevocationStatement { what, charter, issued: Timestamp(1_767_225_600_000), why };
        let mut envelope = caii_trust::Envelope::unsigned(PAYLOAD_TYPE, statement.to_json());
        envelope.add(key.public().id(), key.sign(&envelope.signed_bytes()).unwrap());
        let body = serde_json::from_slice(&envelope.to_json()).unwrap();
        self.post("/caii/v1/revocations", body).await;
    }

    pub(crate) async fn add_model(&self, name: &str) {
        let workload = self.add_workload(json!({"name": name})).await;
        let model = json!({
            "name": name, "workload": workload, "endpoint": "/v1/embeddings", "dimensions": 3, "tokens_max": 10
        });
        self.post("/caii/v1/models", model).await;
    }
}

/// What a device says wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    None,
    Root,
    Energy,
}

/// A device on a task of its own: it exchanges until it leaves.
pub(crate) struct Device {
    task: JoinHandle<()>,
}

impl Device {
    pub(crate) async fn join(pool: &TestPool, name: &str) -> Self {
        Self::begin(pool, name, Lie::None).await
    }

    /// A device whose commitments do not fit its results.
    pub(crate) async fn join_lying(pool: &TestPool, name: &str) -> Self {
        Self::begin(pool, name, Lie::Root).await
    }

    /// A device that signs its claims and says something else.
    pub(crate) async fn join_claiming_more(pool: &TestPool, name: &str) -> Self {
        Self::begin(pool, name, Lie::Energy).await
    }

    pub(crate) fn leave(self) {
        self.task.abort();
    }

    async fn begin(pool: &TestPool, name: &str, lies: Lie) -> Self {
        let ticket = JoinTicket::decode(&pool.addresses().ticket).unwrap();
        let client = caii_node::pinned::client(ticket.certificate).build().unwrap();
        let url = format!("https://{}/agent/v1", ticket.addresses[0]);
        let key = SigningKey::from_seed(Digest::of(name.as_bytes()).0);
        let public_key = key.public();
        let digest = EnrolRequest::digest(ticket.pool, ticket.secret, &public_key, name);
        let proof = key.sign(domain::ENROLMENT, &digest);
        let request = EnrolRequest { secret: ticket.secret, public_key, name: name.to_owned(), proof };
        let call = client.post(format!("{url}/enrol")).body(caii_wire::encode_enrol_request(&request));
        let answer = call.send().await.unwrap().bytes().await.unwrap();
        let reply = caii_wire::decode_enrol_reply(&answer).unwrap().unwrap();
        let line = Line { client, url, key, device: reply.device, pool: reply.pool, sequence: 0 };
        Self { task: tokio::spawn(line.work(lies)) }
    }
}

struct Line {
    client: Client,
    url: String,
    key: SigningKey,
    device: DeviceId,
    pool: PoolId,
    sequence: u64,
}

impl Line {
    async fn work(mut self, lies: Lie) {
        let (mut session, mut replaces, mut boot, mut claims) = (None, None, None, 0);
        let mut reports: Vec<Report> = Vec::new();
        let mut results = Attachments::new();
        loop {
            self.sequence += 1;
            for (report, sequence) in reports.iter_mut().zip(claims + 1..) {
                report.claim = Some(self.claim(report, sequence, lies));
            }
            let request = ExchangeRequest {
                device: self.device,
                boot,
                session,
                replaces,
                sequence: self.sequence,
                settled_sequence: self.sequence - 1,
                meter: caii_sandbox::meter_id(),
                slots_free: 2,
                slots: 2,
                wait: if reports.is_empty() { Millis(1_000) } else { Millis(0) },
                holding: reports.iter().map(|report| report.lease).collect(),
                reports: reports.clone(),
                ready: vec![],
                challenge: 0,
            };
            let (reply, inputs) = match self.exchange(&request, &results).await {
                Ok(answer) => answer,
                Err(Refusal::BootChanged(now)) => {
                    (session, replaces, boot) = (None, None, Some(now));
                    continue;
                }
                Err(Refusal::SessionHeld(held)) => {
                    replaces = Some(held);
                    continue;
                }
                Err(refusal) => panic!("{refusal}"),
            };
            (session, claims) = (Some(reply.session), reply.claims);
            let done = |verdict: &Result<(), Refusal>| !matches!(verdict, Err(Refusal::ClaimSequence { .. }));
            let done = |report: &Report| {
                reply.acks.iter().any(|(lease, verdict)| *lease == report.lease.lease.id && done(verdict))
            };
            reports.retain(|report| !done(report));
            results.clear();
            for signed in reply.leases {
                let (report, encoded) = self.run(&signed, &inputs, reply.session, lies).await;
                results.insert(report.result, encoded);
                // Numbered when it is said.
                let claim = Some(SignedClaim::unsigned(0, Energy::UNKNOWN));
                reports.push(Report { lease: signed, outcome: Ok(report), claim });
            }
        }
    }

    async fn exchange(
        &self,
        request: &ExchangeRequest,
        results: &Attachments,
    ) -> Result<(caii_model::ExchangeReply, Attachments), Refusal> {
        let body = caii_wire::encode_exchange_request(request, results);
        let digest = Envelope::digest(self.pool, self.device, RequestKind::Exchange, &body);
        let signature = self.key.sign(domain::ENVELOPE, &digest);
        let envelope = Envelope { device: self.device, kind: RequestKind::Exchange, body, signature };
        let call = self.client.post(format!("{}/exchange", self.url)).body(caii_wire::encode_envelope(&envelope));
        let response = call.send().await.unwrap();
        assert_eq!(response.status(), 200);
        caii_wire::decode_exchange_reply(&response.bytes().await.unwrap()).unwrap()
    }

    /// The claim to a result, signed.
    fn claim(&self, report: &Report, sequence: u64, lies: Lie) -> SignedClaim {
        let mut energy = Energy { used: Millijoules(500), method: EnergyMethod::Model };
        let result = report.outcome.as_ref().unwrap();
        let claim = Claim::of(&report.lease.lease, caii_sandbox::meter_id(), result, sequence, energy);
        let signature = self.key.sign(Claim::SIGNED_FOR, &claim.digest());
        energy.used.0 *= if lies == Lie::Energy { 2 } else { 1 };
        SignedClaim { sequence, energy, signature }
    }

    async fn run(
        &self,
        signed: &SignedLease,
        inputs: &Attachments,
        session: SessionId,
        lies: Lie,
    ) -> (TaskReport, Vec<u8>) {
        let lease = &signed.lease;
        let input = match inputs.get(&lease.input.digest) {
            Some(input) => input.clone(),
            None => self.fetch(lease, session).await,
        };
        assert_eq!(Digest::of(&input), lease.input.digest);
        let input = String::from_utf8(input).unwrap();
        let outcomes: Vec<ItemOutcome> = input.lines().map(outcome).collect();
        assert_eq!(outcomes.len(), lease.input.records as usize);
        let leaves = input.lines().map(|line| Digest::of(line.as_bytes())).zip(&outcomes);
        let failed = outcomes.iter().filter(|outcome| outcome.result.is_err()).count() as u32;
        let encoded = caii_wire::encode_task_result(&outcomes);
        let mut root = caii_trust::merkle::task_root(leaves);
        root.0[0] ^= u8::from(lies == Lie::Root);
        let report = TaskReport {
            root,
            result: Digest::of(&encoded),
            size: caii_model::Bytes(encoded.len() as u64),
            items: lease.input.records,
            items_failed: failed,
            records_failed: failed,
            fuel: Fuel(outcomes.iter().map(|outcome| outcome.fuel.0).sum()),
            cpu: Millis(1),
            wall: Millis(1),
            jail: JailLayers::ALL,
        };
        (report, encoded)
    }

    async fn fetch(&self, lease: &Lease, session: SessionId) -> Vec<u8> {
        let range = format!("bytes={}-{}", lease.input.offset, lease.input.offset + u64::from(lease.input.len) - 1);
        let call = self.client.get(format!("{}/blobs/{}", self.url, lease.blob.hex())).header("range", range);
        let call = call.header("caii-device", self.device.to_string()).header("caii-session", session.to_string());
        let response = call.send().await.unwrap();
        assert_eq!(response.status(), 206);
        response.bytes().await.unwrap().to_vec()
    }
}

/// What these devices make of a record.
fn outcome(record: &str) -> ItemOutcome {
    let echo = serde_json::from_str(record).unwrap_or_else(|_| Value::from(record));
    let (result, stderr) = match record {
        _ if record.contains("bad") => (Err(ItemError::Exit(1)), &b"no good\n"[..]),
        _ if record.contains("trap") => (Err(ItemError::Trap(TrapKind::Unreachable)), &b""[..]),
        _ => (Ok(json!({"echo": echo}).to_string().into_bytes()), &b""[..]),
    };
    ItemOutcome { result, fuel: Fuel(10), stderr: stderr.strip_suffix(b"\n").unwrap_or(stderr).to_vec() }
}
