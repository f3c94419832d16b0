//! The charter's files, certificates and revocations. Whoever reads them verifies them.

use crate::http::App;
use crate::http::auth::{Admin, Caller};
use crate::http::bodies::{parse_digest, read_limited};
use crate::http::error::ApiError;
use crate::pool::Shared;
use crate::pool::governance::{Certificate, EnvelopeRefused};
use crate::views::{CertificationView, EnvelopeTaken};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use caii_model::{Digest, Manifest, Refusal, Region, WordUnknown};
use caii_trust::dsse::ENVELOPE_SIZE_MAX;
use serde::Deserialize;
use std::sync::Arc;

pub(crate) fn json(bytes: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(bytes));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub(crate) async fn files(State(pool): App, _: Caller) -> Response {
    json(pool.governance.files().to_vec())
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
    let checker = pool.clone();
    let checked = tokio::task::spawn_blocking(move || checker.governance.check_certificate(&bytes)).await;
    let checked = checked.map_err(|error| ApiError::internal("check a certificate", &error))?.map_err(refused)?;
    let workload = checked.workload;
    keep(&pool, checked).await?;
    let verdict = match pool.manifest(workload).await? {
        Some(manifest) => decided(&pool, &manifest).await?,
        None => "the pool does not have this workload yet".to_owned(),
    };
    Ok(Json(EnvelopeTaken { about: workload.to_string(), verdict }))
}

/// Logs a certificate, and then keeps it: what ran by it must be found certified in the log.
async fn keep(pool: &Arc<Shared>, certificate: Certificate) -> Result<(), ApiError> {
    pool.handle.ask(certificate.input()).await?;
    let keeper = pool.clone();
    let kept = tokio::task::spawn_blocking(move || keeper.governance.keep(&certificate)).await;
    kept.map_err(|error| ApiError::internal("keep a certificate", &error))?.map_err(refused)
}

/// Certifies a workload with the operator's key, where the operator alone decides and it is not certified yet.
pub(crate) async fn certify_as_operator(pool: &Arc<Shared>, manifest: &Arc<Manifest>) -> Result<(), ApiError> {
    let (signer, manifest) = (pool.clone(), manifest.clone());
    let signed = tokio::task::spawn_blocking(move || signer.governance.sign_as_operator(&manifest)).await;
    match signed.map_err(|error| ApiError::internal("certify a workload", &error))?.map_err(refused)? {
        Some(certificate) => keep(pool, certificate).await,
        None => Ok(()),
    }
}

/// What a new certificate leads to, in words.
async fn decided(pool: &Arc<Shared>, manifest: &Arc<Manifest>) -> Result<String, ApiError> {
    match pool.verdict(manifest).await? {
        Ok(_) => {
            // What was stopped for want of it is stopped no more.
            pool.enforce_governance().await?;
            Ok("certified".to_owned())
        }
        Err(refusal) => Ok(refusal.to_string()),
    }
}

/// Which region's rule is asked for.
#[derive(Debug, Deserialize)]
pub(crate) struct Place {
    #[serde(default)]
    region: Option<String>,
}

/// Who certified a workload, how many are missing, and what does not count, by the rule for one region.
pub(crate) async fn certification(
    State(pool): App,
    _: Caller,
    Path(digest): Path<String>,
    Query(place): Query<Place>,
) -> Result<Json<CertificationView>, ApiError> {
    let digest = parse_digest(&digest)?;
    let region = place.region.as_deref().unwrap_or(Region::ANY);
    let region: Region =
        region.parse().map_err(|error: WordUnknown| ApiError::invalid("region", "field-invalid", error.to_string()))?;
    let Some(manifest) = pool.manifest(digest).await? else { return Err(Refusal::WorkloadUnknown(digest).into()) };
    let look = move || {
        let (trusted, decision) = pool.governance.look(&manifest, &region);
        CertificationView::of(&trusted, digest, &region, &decision)
    };
    let looked = tokio::task::spawn_blocking(look).await;
    looked.map(Json).map_err(|error| ApiError::internal("look at certificates", &error))
}

/// Takes a revocation, publishes it and stops what it is about.
pub(crate) async fn add_revocation(State(pool): App, _: Caller, body: Body) -> Result<Json<EnvelopeTaken>, ApiError> {
    let bytes = read_limited(body, ENVELOPE_SIZE_MAX).await?;
    let revocation = pool.governance.add_revocation(&bytes).await.map_err(refused)?;
    pool.enforce_governance().await?;
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
    certify_as_operator(&pool, &manifest).await?;
    let verdict = decided(&pool, &manifest).await?;
    Ok(Json(EnvelopeTaken { about: digest.to_string(), verdict }))
}
