//! The agent protocol: how devices join, talk, and fetch and send blobs.
//!
//! What the protocol itself says, refusals included, comes with status 200 and a protobuf body. Any other status means
//! that the request was not handled; its body is JSON, and 503 means to come back after `Retry-After`.

use super::App;
use super::bodies::{parse_digest, read_limited, requested_span, send_blob, store_body};
use super::error::{ApiError, unexpected};
use super::verify::{check_claim, check_report};
use crate::pool::Shared;
use crate::pool::actor::{AskError, describe};
use axum::body::Body;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use caii_coordinator::{Coordinator, Input, Reply};
use caii_model::{
    AttemptFailure, AttemptFailureKind, DeviceId, Digest, ExchangeReply, ExchangeRequest, Manifest, Refusal, SessionId,
};
use caii_store::Store;
use caii_trust::LeaseAuthority;
use caii_wire::{Attachments, RequestKind, limits};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn protobuf(bytes: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(bytes));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    response
}

fn undecodable(error: &caii_wire::DecodeError) -> ApiError {
    ApiError::invalid("", "undecodable", error.to_string())
}

fn bad_signature(error: &caii_trust::SignatureError) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "bad_signature", format!("The request's signature does not hold: {error}"))
}

pub(super) async fn enrol(State(pool): App, body: Body) -> Result<Response, ApiError> {
    let body = read_limited(body, limits::ENROL_MAX).await?;
    let request = caii_wire::decode_enrol_request(&body).map_err(|error| undecodable(&error))?;
    caii_trust::verify(
        &request.public_key,
        caii_trust::domain::ENROLMENT,
        &request.signed_digest(pool.id),
        &request.proof,
    )
    .map_err(|error| bad_signature(&error))?;
    let input = Input::Enrol { secret_hash: request.secret.hash(), public_key: request.public_key, name: request.name };
    Ok(protobuf(match pool.handle.ask(input).await {
        Ok(Reply::Device(device)) => {
            tracing::info!(%device, "a device joined");
            let reply = caii_wire::EnrolReply { device, pool: pool.id, pool_public_key: pool.authority.public() };
            caii_wire::encode_enrol_reply(&reply)
        }
        Ok(other) => return Err(unexpected(&other)),
        Err(AskError::Refused(refusal)) => caii_wire::encode_refusal(&refusal),
        Err(error) => return Err(error.into()),
    }))
}

pub(super) async fn exchange(State(pool): App, body: Body) -> Result<Response, ApiError> {
    let body = read_limited(body, limits::EXCHANGE_MAX).await?;
    let envelope = caii_wire::decode_envelope(&body).map_err(|error| undecodable(&error))?;
    drop(body);
    let device = envelope.device;
    let Some(key) = pool.device_key(device).await? else {
        return Ok(protobuf(caii_wire::encode_refusal(&Refusal::DeviceUnknown(device))));
    };
    caii_trust::verify(&key, caii_trust::domain::ENVELOPE, &envelope.signed_digest(pool.id), &envelope.signature)
        .map_err(|error| bad_signature(&error))?;
    let RequestKind::Exchange = envelope.kind;
    let (mut request, attachments) =
        caii_wire::decode_exchange_request(device, &envelope.body).map_err(|error| undecodable(&error))?;
    if !request.reports.is_empty() {
        request = settle_reports(&pool, key, request, attachments).await?;
    }

    let parked = Parked::begin(&pool, device);
    let answer = tokio::select! {
        answer = pool.handle.ask(Input::Exchange(request)) => answer,
        // What the lost answer would have said, the next coordinator says.
        () = pool.stopped() => Err(AskError::Restarted),
    };
    parked.answered();
    match answer {
        Ok(Reply::Exchange(reply)) => {
            let attachments = attach(&pool, &reply).await?;
            Ok(protobuf(caii_wire::encode_exchange_reply(&reply, &attachments)))
        }
        Ok(other) => Err(unexpected(&other)),
        Err(AskError::Refused(refusal)) => Ok(protobuf(caii_wire::encode_refusal(&refusal))),
        Err(error) => Err(error.into()),
    }
}

/// Stores the results that came along, and turns reports that do not fit their results, or whose claims the device did
/// not sign, into failed attempts: no receipt can come of them.
async fn settle_reports(
    pool: &Arc<Shared>,
    key: [u8; 32],
    mut request: ExchangeRequest,
    attachments: Attachments,
) -> Result<ExchangeRequest, ApiError> {
    let mut manifests = BTreeMap::new();
    for report in &request.reports {
        let workload = report.lease.lease.workload;
        if report.outcome.is_ok()
            && !manifests.contains_key(&workload)
            && let Some(manifest) = pool.manifest(workload).await?
        {
            manifests.insert(workload, manifest);
        }
    }
    let pool = pool.clone();
    let check = move || -> Result<ExchangeRequest, ApiError> {
        // Nothing is kept that no report needs: a device cannot fill the disk this way.
        let genuine = |report: &caii_model::Report| {
            pool.authority.check(&report.lease) && report.lease.lease.device == request.device
        };
        let genuine: Vec<bool> = request.reports.iter().map(genuine).collect();
        let named = request.reports.iter().zip(&genuine).filter(|(_, genuine)| **genuine);
        let named = named.filter_map(|(report, _)| attachments.get(&report.outcome.as_ref().ok()?.result));
        let named: Vec<&[u8]> = named.map(Vec::as_slice).collect();
        if !named.is_empty() {
            pool.blobs.put_all(&named)?;
        }
        for (report, genuine) in request.reports.iter_mut().zip(genuine) {
            // The coordinator refuses the others by their lease.
            let (Ok(found), Some(claim), true) = (&report.outcome, &report.claim, genuine) else { continue };
            let lease = &report.lease.lease;
            let Some(manifest) = manifests.get(&lease.workload) else { continue };
            let checked = match check_claim(&key, lease, manifest, found, claim) {
                Ok(()) => check_report(&*pool.blobs, lease, manifest, found)?,
                wrong => wrong,
            };
            if let Err(detail) = checked {
                tracing::warn!(device = %lease.device, task = %lease.task, %detail, "a result does not fit");
                let kind = AttemptFailureKind::MalformedResult;
                (report.outcome, report.claim) = (Err(AttemptFailure { kind, detail }), None);
            }
        }
        Ok(request)
    };
    tokio::task::spawn_blocking(check).await.map_err(|error| ApiError::internal("check a result", &error))?
}

/// The inputs of the new leases, as far as they are small and there is room.
async fn attach(pool: &Arc<Shared>, reply: &ExchangeReply) -> Result<Attachments, ApiError> {
    let small = |lease: &&caii_model::SignedLease| lease.lease.input.len as usize <= limits::ATTACHMENT_MAX;
    let leases: Vec<_> = reply.leases.iter().filter(small).map(|signed| signed.lease).collect();
    if leases.is_empty() {
        return Ok(Attachments::new());
    }
    let blobs = pool.blobs.clone();
    let read = move || {
        let (mut attachments, mut size) = (Attachments::new(), 0);
        for lease in leases.iter().take(limits::ATTACHMENTS_MAX) {
            size += lease.input.len as usize;
            if size > limits::ATTACHMENTS_BYTES_MAX {
                break;
            }
            let range = lease.input.offset..lease.input.offset + u64::from(lease.input.len);
            match blobs.read_range(&lease.blob, range) {
                Ok(bytes) => drop(attachments.insert(lease.input.digest, bytes)),
                // The leases must reach the device all the same: it asks for the input and says what came of it.
                Err(error) => tracing::error!(reason = %describe(&error), task = %lease.task, "cannot read an input"),
            }
        }
        attachments
    };
    tokio::task::spawn_blocking(read).await.map_err(|error| ApiError::internal("read an input", &error))
}

/// A request that waits for its answer. If it goes before that, so has the connection, and the coordinator is told;
/// unless the device has asked again on another one since.
struct Parked {
    pool: Arc<Shared>,
    device: DeviceId,
    number: u64,
}

impl Parked {
    fn begin(pool: &Arc<Shared>, device: DeviceId) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        pool.lock_waiting().insert(device, number);
        Self { pool: pool.clone(), device, number }
    }

    /// Forgets the request; true if it is the device's last.
    fn end(&self) -> bool {
        let mut waiting = self.pool.lock_waiting();
        let last = waiting.get(&self.device) == Some(&self.number);
        if last {
            waiting.remove(&self.device);
        }
        last
    }

    fn answered(self) {
        self.end();
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        // After `answered` nothing is left of it.
        if self.end() {
            self.pool.handle.tell(Input::ExchangeGone(self.device));
        }
    }
}

/// A device in conversation, by the two headers `caii-device` and `caii-session`.
pub(super) struct InSession(DeviceId);

impl FromRequestParts<Arc<Shared>> for InSession {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, pool: &Arc<Shared>) -> Result<Self, ApiError> {
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let device = header("caii-device").and_then(|text| text.parse::<DeviceId>().ok());
        let session = header("caii-session").and_then(|text| text.parse::<SessionId>().ok());
        let unauthorised = || {
            let message = "Blobs are for devices in conversation: send the headers caii-device and caii-session.";
            ApiError::new(StatusCode::UNAUTHORIZED, "no_session", message)
        };
        let (Some(device), Some(session)) = (device, session) else { return Err(unauthorised()) };
        let current = pool.handle.read(move |coordinator, _| coordinator.session(device)).await?;
        if current == Some(session) { Ok(Self(device)) } else { Err(unauthorised()) }
    }
}

pub(super) async fn workload(State(pool): App, _: InSession, Path(digest): Path<String>) -> Result<Response, ApiError> {
    let digest = parse_digest(&digest)?;
    match pool.manifest(digest).await? {
        Some(manifest) => Ok(protobuf(caii_wire::encode_manifest(&manifest))),
        None => Err(Refusal::WorkloadUnknown(digest).into()),
    }
}

/// The charter's files, for the device to verify.
pub(super) async fn governance(State(pool): App, _: InSession) -> Response {
    super::caii::governance::json(pool.governance.files().to_vec())
}

/// What was signed about a workload, for the device to verify.
pub(super) async fn certificates(
    State(pool): App,
    _: InSession,
    Path(digest): Path<String>,
) -> Result<Response, ApiError> {
    super::caii::governance::list_certificates(&pool, parse_digest(&digest)?)
}

pub(super) async fn blob(
    State(pool): App,
    InSession(device): InSession,
    Path(digest): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let digest = parse_digest(&digest)?;
    // Of a job's records a device sees its own tasks' and no others.
    let part = requested_span(&headers, u64::MAX)?.map(|span| span.start..span.end);
    let allowed = move |coordinator: &Coordinator, _: &mut dyn Store| {
        let of_workload =
            |manifest: &Manifest| manifest.program == digest || manifest.blobs.iter().any(|blob| blob.digest == digest);
        part.is_some_and(|part| coordinator.lease_covers(device, &digest, &part))
            || coordinator.workloads().any(of_workload)
    };
    if !pool.handle.read(allowed).await? {
        return Err(not_yours(digest));
    }
    send_blob(&pool.blobs, digest, &headers, "application/octet-stream").await
}

fn not_yours(digest: Digest) -> ApiError {
    let message = format!("None of this device's leases names {digest}.");
    ApiError::new(StatusCode::FORBIDDEN, "blob_not_leased", message)
}

pub(super) async fn put_blob(
    State(pool): App,
    InSession(device): InSession,
    Path(digest): Path<String>,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let digest = parse_digest(&digest)?;
    // Only who has work has results.
    let working = move |coordinator: &Coordinator, _: &mut dyn Store| {
        coordinator.device_view(device).is_some_and(|view| !view.tasks.is_empty())
    };
    if !pool.handle.read(working).await? {
        return Err(not_yours(digest));
    }
    store_body(&pool.blobs, body, limits::TASK_RESULT_MAX as u64, digest).await?;
    Ok(StatusCode::NO_CONTENT)
}
