//! The charter's files, certificates and revocations. Whoever reads them verifies them.

use crate::http::App;
use crate::http::auth::{Admin, Caller};
use crate::http::bodies::{parse_digest, read_limited};
use crate::http::error::ApiError;
use crate::pool::Shared;
use crate::pool::governance::EnvelopeRefused;
use crate::views::EnvelopeTaken;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use caii_model::{Digest, Refusal};
use caii_trust::dsse::ENVELOPE_SIZE_MAX;

pub(crate) fn json(bytes: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(bytes));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub(crate) async fn files(State(pool): App, _: Caller) -> Response {
    json(pool.governance.files().0.to_vec())
}

pub(crate) async fn certificates(
    State(pool): App,
    _: Caller,
    Path(digest): Path<String>,
) -> Result<Response, ApiError> {
    list_certificates(&pool, parse_digest(&digest)?)
}

/// A JSON list of DSSE envelopes.
pub(crate) fn list_certificates(pool: &Shared, workload: Digest) -> Result<Response, ApiError> {
    let envelopes = pool.governance.certificates_of(workload);
    let envelopes = envelopes.map_err(|error| ApiError::internal("read certificates", &error))?;
    let parts: Vec<Vec<u8>> = envelopes.iter().map(caii_trust::Envelope::to_json).collect();
    Ok(json([b"[".as_slice(), &parts.join(b",".as_slice()), b"]"].concat()))
}

fn refused(error: EnvelopeRefused) -> ApiError {
    match error {
        EnvelopeRefused::Store(error) => ApiError::internal("keep what was signed", &error),
        error => ApiError::invalid("", "envelope_refused", error.to_string()),
    }
}

/// Takes a certificate. Any key may bring one: its signature says who made it.
pub(crate) async fn add_certificate(State(pool): App, _: Caller, body: Body) -> Result<Json<EnvelopeTaken>, ApiError> {
    let bytes = read_limited(body, ENVELOPE_SIZE_MAX).await?;
    let workload = pool.governance.add_certificate(&bytes).map_err(refused)?;
    let verdict = match pool.manifest(workload).await? {
        Some(manifest) => match pool.governance.verdict(&manifest) {
            Ok(_) => "certified".to_owned(),
            Err(refusal) => refusal.to_string(),
        },
        None => "the pool does not have this workload yet".to_owned(),
    };
    Ok(Json(EnvelopeTaken { about: workload.to_string(), verdict }))
}

/// Takes a revocation, publishes it and stops what it is about.
pub(crate) async fn add_revocation(State(pool): App, _: Caller, body: Body) -> Result<Json<EnvelopeTaken>, ApiError> {
    let bytes = read_limited(body, ENVELOPE_SIZE_MAX).await?;
    let (revocation, version) = pool.governance.add_revocation(&bytes).await.map_err(refused)?;
    pool.enforce_governance(version).await?;
    tracing::warn!(what = %revocation.what, by = %revocation.by, why = %revocation.why, "revoked");
    let verdict = format!("revoked by {}: {}", revocation.by, revocation.why);
    Ok(Json(EnvelopeTaken { about: revocation.what.to_string(), verdict }))
}

/// Certifies a workload with the operator's key, where the operator alone decides.
pub(crate) async fn certify(
    State(pool): App,
    _: Admin,
    Path(digest): Path<String>,
) -> Result<Json<EnvelopeTaken>, ApiError> {
    let digest = parse_digest(&digest)?;
    if !pool.governance.is_operators_own() {
        let message = "Stewards certify in this pool: `caii workload fetch`, `certify` and `send`.";
        return Err(ApiError::new(StatusCode::CONFLICT, "charter_of_stewards", message));
    }
    let Some(manifest) = pool.manifest(digest).await? else { return Err(Refusal::WorkloadUnknown(digest).into()) };
    pool.governance.certify_as_operator(&manifest).map_err(refused)?;
    let verdict = match pool.governance.verdict(&manifest) {
        Ok(_) => "certified".to_owned(),
        Err(refusal) => refusal.to_string(),
    };
    Ok(Json(EnvelopeTaken { about: digest.to_string(), verdict }))
}
