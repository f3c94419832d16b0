//! What an agent says to its pool over HTTPS: enrolment, exchanges, and blobs by ranges.

use super::home::Membership;
use super::wiped::{self, Carried, Wiped};
use crate::pinned::{self, ForeignCertificate};
use bytes::Bytes;
use caii_model::{Claim, DeviceId, Digest, ExchangeReply, ExchangeRequest, PoolId, Refusal, SessionId};
use caii_trust::{SigningKey, domain};
use caii_wire::{DecodeError, EnrolReply, EnrolRequest, Envelope, JoinTicket, RequestKind, limits};
use reqwest::{Method, Response, StatusCode, header};
use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use zeroize::Zeroize as _;

/// An exchange's answer may take this much longer than the coordinator may hold it back. The coordinator takes a device
/// for lost after 12 s, so that both together stay below.
const EXCHANGE_MARGIN: Duration = Duration::from_secs(5);
const ENROL_TIMEOUT: Duration = Duration::from_secs(20);
/// Silence in the middle of a blob after which the transfer counts as broken.
pub(crate) const STALL: Duration = Duration::from_secs(30);
/// Bytes of a workload's certificates.
const CERTIFICATES_MAX: usize = 16 << 20;
/// Characters that an answer's explanation may have.
const EXPLANATION_MAX: usize = 1_000;

/// Why a request had no answer that could be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("{}", innermost(.0))]
    Transport(#[source] reqwest::Error),
    #[error("{0}")]
    Foreign(#[source] ForeignCertificate),
    #[error("the pool answered {status}: {reason}")]
    Status { status: StatusCode, reason: String },
    #[error("the pool's answer cannot be read: {0}")]
    Decode(#[source] DecodeError),
    #[error("the answer has more than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("nothing came for {} s", STALL.as_secs())]
    Stalled,
    #[error("the pool ended the answer early")]
    Short,
    #[error("there is no conversation with the pool")]
    NoSession,
}

impl From<reqwest::Error> for CallError {
    fn from(error: reqwest::Error) -> Self {
        match pinned::foreign_certificate(&error) {
            Some(foreign) => Self::Foreign(foreign),
            None => Self::Transport(error),
        }
    }
}

/// The innermost cause says what happened (`connection refused`); what wraps it only repeats the URL.
fn innermost(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "the pool did not answer in time".to_owned();
    }
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// The pool, as a device reaches it.
#[derive(Debug)]
pub(crate) struct PoolClient {
    /// Replaced to let its connections go.
    http: Mutex<reqwest::Client>,
    certificate: Digest,
    addresses: Vec<String>,
    /// The address that is used; moves on when it cannot be reached.
    current: AtomicUsize,
    pool: PoolId,
    key: SigningKey,
    device: DeviceId,
    session: watch::Receiver<Option<SessionId>>,
}

impl PoolClient {
    pub(crate) fn new(
        membership: &Membership,
        key: SigningKey,
        session: watch::Receiver<Option<SessionId>>,
    ) -> Result<Self, reqwest::Error> {
        let certificate = membership.certificate;
        let http = Mutex::new(http(certificate)?);
        let device = caii_trust::device_id(&key.public());
        let (addresses, pool) = (membership.addresses.clone(), membership.pool);
        Ok(Self { http, certificate, addresses, current: AtomicUsize::new(0), pool, key, device, session })
    }

    /// Lets idle connections go, and those in use when they have been: their buffers hold what passed through them last.
    pub(crate) fn forget_connections(&self) {
        match http(self.certificate) {
            Ok(fresh) => *self.lock() = fresh,
            Err(error) => tracing::warn!(%error, "connections that inputs passed through cannot be replaced"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, reqwest::Client> {
        // Nothing that is done under the lock can leave it half-done.
        self.http.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the pool was reached last, `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.addresses[self.current.load(Ordering::Relaxed) % self.addresses.len()]
    }

    /// One exchange.
    pub(crate) async fn exchange(
        &self,
        request: &ExchangeRequest,
        attachments: &Carried,
    ) -> Result<Result<(ExchangeReply, Carried), Refusal>, CallError> {
        let timeout = Duration::from_millis(request.wait.0) + EXCHANGE_MARGIN;
        let sent = wiped::scrubbing(|| self.envelope(request, attachments));
        let call = self.lock().post(self.url("exchange")).timeout(timeout).body(wiped::shared(sent));
        let response = self.send(call).await?;
        let status = response.status();
        let bytes = read(response, limits::EXCHANGE_MAX).await?;
        match wiped::scrubbing(|| caii_wire::decode_exchange_reply(&bytes)) {
            Ok(answer) => Ok(answer.map(|(reply, attachments)| (reply, Carried(attachments)))),
            Err(error) if status.is_success() => Err(CallError::Decode(error)),
            Err(_) => Err(CallError::Status { status, reason: explain(&bytes) }),
        }
    }

    fn envelope(&self, request: &ExchangeRequest, attachments: &Carried) -> Wiped {
        let body = caii_wire::encode_exchange_request(request, &attachments.0);
        let digest = Envelope::digest(self.pool, self.device, RequestKind::Exchange, &body);
        let signature = self.key.sign(domain::ENVELOPE, &digest);
        let mut envelope = Envelope { device: self.device, kind: RequestKind::Exchange, body, signature };
        let sent = Wiped::new(caii_wire::encode_envelope(&envelope));
        envelope.body.zeroize();
        sent
    }

    /// The device's signature under a claim.
    pub(crate) fn sign(&self, claim: &Claim) -> [u8; 64] {
        self.key.sign(Claim::SIGNED_FOR, &claim.digest())
    }

    /// A workload's encoded manifest.
    pub(crate) async fn manifest(&self, workload: Digest) -> Result<Bytes, CallError> {
        let call = self.authorised(Method::GET, &format!("workloads/{}", workload.hex()))?.timeout(STALL);
        read(success(self.send(call).await?).await?, limits::MANIFEST_MAX).await
    }

    /// The charter's files as one JSON.
    pub(crate) async fn governance(&self) -> Result<Bytes, CallError> {
        let call = self.authorised(Method::GET, "governance")?.timeout(STALL);
        read(success(self.send(call).await?).await?, caii_governance::FILES_SIZE_MAX).await
    }

    /// What was signed about a workload: a JSON list of DSSE envelopes.
    pub(crate) async fn certificates(&self, workload: Digest) -> Result<Bytes, CallError> {
        let path = format!("workloads/{}/certificates", workload.hex());
        let call = self.authorised(Method::GET, &path)?.timeout(STALL);
        read(success(self.send(call).await?).await?, CERTIFICATES_MAX).await
    }

    /// Begins to read a blob from `offset` on, `len` bytes or to its end. The answer is 206, or 200 with the whole blob
    /// if ranges are not served.
    pub(crate) async fn blob(&self, blob: Digest, offset: u64, len: Option<u64>) -> Result<Response, CallError> {
        let range = match len {
            Some(len) => format!("bytes={offset}-{}", offset + len.max(1) - 1),
            None => format!("bytes={offset}-"),
        };
        let call = self.authorised(Method::GET, &format!("blobs/{}", blob.hex()))?.header(header::RANGE, range);
        let response = tokio::time::timeout(STALL, self.send(call)).await.map_err(|_| CallError::Stalled)??;
        success(response).await
    }

    /// Stores a result.
    pub(crate) async fn put_blob(&self, blob: Digest, bytes: Bytes) -> Result<(), CallError> {
        // At least 64 KiB/s.
        let timeout = STALL + Duration::from_millis(bytes.len() as u64 / 64);
        let call = self.authorised(Method::PUT, &format!("blobs/{}", blob.hex()))?.timeout(timeout).body(bytes);
        success(self.send(call).await?).await.map(drop)
    }

    /// Waits until a conversation with the coordinator has begun.
    pub(crate) async fn connected(&self) {
        // It fails only when the agent has ended, which also drops whoever waits here.
        let _ = self.session.clone().wait_for(Option::is_some).await;
    }

    fn authorised(&self, method: Method, path: &str) -> Result<reqwest::RequestBuilder, CallError> {
        let session = (*self.session.borrow()).ok_or(CallError::NoSession)?;
        let call = self.lock().request(method, self.url(path));
        Ok(call.header("caii-device", self.device.to_string()).header("caii-session", session.to_string()))
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}/agent/v1/{path}", self.address())
    }

    async fn send(&self, call: reqwest::RequestBuilder) -> Result<Response, CallError> {
        let tried = self.current.load(Ordering::Relaxed);
        call.send().await.map_err(|error| {
            if error.is_connect() {
                // Only if nobody else has moved on since, or two failures at a time would skip an address.
                let next = (tried + 1) % self.addresses.len();
                let _ = self.current.compare_exchange(tried, next, Ordering::Relaxed, Ordering::Relaxed);
            }
            error.into()
        })
    }
}

/// Asks one of the ticket's addresses to enrol the device.
pub(crate) async fn enrol(
    ticket: &JoinTicket,
    address: &str,
    key: &SigningKey,
    name: &str,
) -> Result<Result<EnrolReply, Refusal>, CallError> {
    let public_key = key.public();
    let digest = EnrolRequest::digest(ticket.pool, ticket.secret, &public_key, name);
    let proof = key.sign(domain::ENROLMENT, &digest);
    let request = EnrolRequest { secret: ticket.secret, public_key, name: name.to_owned(), proof };
    let body = caii_wire::encode_enrol_request(&request);
    let url = format!("https://{address}/agent/v1/enrol");
    let response = http(ticket.certificate)?.post(url).timeout(ENROL_TIMEOUT).body(body).send().await?;
    let status = response.status();
    let bytes = read(response, limits::ENROL_MAX).await?;
    match caii_wire::decode_enrol_reply(&bytes) {
        Ok(answer) => Ok(answer),
        Err(error) if status.is_success() => Err(CallError::Decode(error)),
        Err(_) => Err(CallError::Status { status, reason: explain(&bytes) }),
    }
}

fn http(certificate: Digest) -> Result<reqwest::Client, reqwest::Error> {
    pinned::client(certificate).pool_idle_timeout(Duration::from_secs(60)).build()
}

async fn success(response: Response) -> Result<Response, CallError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    // Whether or not its reason can be read, the status is what failed.
    let body = read(response, limits::REFUSAL_MAX).await.unwrap_or_default();
    Err(CallError::Status { status, reason: explain(&body) })
}

/// The body, if it is not larger than it may be.
async fn read(mut response: Response, limit: usize) -> Result<Bytes, CallError> {
    let mut body = Wiped::default();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > limit {
            return Err(CallError::TooLarge { limit });
        }
        wiped::extend(&mut body, &chunk);
    }
    Ok(wiped::shared(body))
}

/// What a pool says of a request that it did not handle: `{"error": {"message": …}}`, or whatever stands between says.
fn explain(body: &[u8]) -> String {
    let json = serde_json::from_slice::<serde_json::Value>(body).ok();
    if let Some(message) = json.as_ref().and_then(|json| json["error"]["message"].as_str()) {
        return message.chars().take(EXPLANATION_MAX).collect();
    }
    let text = String::from_utf8_lossy(&body[..body.len().min(EXPLANATION_MAX)]);
    match text.trim() {
        "" => "without explanation".to_owned(),
        text => text.to_owned(),
    }
}
