//! Blobs that workloads will name.

use crate::http::App;
use crate::http::auth::Caller;
use crate::http::bodies::{parse_digest, store_body};
use crate::http::error::ApiError;
use crate::views::BlobView;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// Largest blob: models of some billions of weights.
const BLOB_MAX: u64 = 16 << 30;

pub(crate) async fn put(
    State(pool): App,
    _: Caller,
    Path(digest): Path<String>,
    body: Body,
) -> Result<Json<BlobView>, ApiError> {
    let digest = parse_digest(&digest)?;
    let size = store_body(&pool.blobs, body, BLOB_MAX, digest).await?;
    Ok(Json(BlobView { digest: digest.to_string(), size: size.0 }))
}

/// Who knows a blob's digest has its content already, so that telling whether the pool has it reveals little.
pub(crate) async fn head(State(pool): App, _: Caller, Path(digest): Path<String>) -> Result<Response, ApiError> {
    let digest = parse_digest(&digest)?;
    let blobs = pool.blobs.clone();
    // Whoever asks is about to use it, so no sweep may take it first.
    let look = move || if blobs.touch(&digest)? { blobs.size(&digest) } else { Ok(None) };
    let size = tokio::task::spawn_blocking(look).await.map_err(|error| ApiError::internal("look a blob up", &error))?;
    Ok(match size? {
        Some(size) => {
            let mut response = StatusCode::OK.into_response();
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(size.0));
            response
        }
        None => StatusCode::NOT_FOUND.into_response(),
    })
}
