//! The pool's published log, for everybody: nobody is asked for a key.

use super::App;
use super::error::ApiError;
use crate::pool::publish::{COSIGNED, Disk as _, Named, named};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use caii_audit::{CHECKPOINT, POOL};
use caii_tlog::Note;
use std::io;

/// What never changes under its name may be kept for good.
const FOR_GOOD: &str = "public, max-age=31536000, immutable";
/// Neither does this, unless an opening is erased: then nobody is to show it for long.
const FOR_A_DAY: &str = "public, max-age=86400";
/// Everybody asks again each time.
const ALWAYS_ASK: &str = "no-cache";

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";

/// A file of the log. Nothing is given out that no durable checkpoint covers: it might still change.
pub(crate) async fn file(State(pool): App, Path(path): Path<String>) -> Result<Response, ApiError> {
    let missing = || ApiError::not_found("file_unknown", format!("Nothing is published as `{path}`."));
    let shown = pool.board.shown().ok_or_else(missing)?;
    let note = |note: &Note| answer(note.to_string().into_bytes(), TEXT, ALWAYS_ASK);
    match path.as_str() {
        // As it is durable, which the directory's own may not be yet.
        CHECKPOINT => return Ok(note(&shown.checkpoint)),
        COSIGNED => return shown.cosigned.as_ref().map(note).ok_or_else(missing),
        POOL => return Ok(answer(pool.published.to_json(), JSON, ALWAYS_ASK)),
        _ => {}
    }
    let (kind, caching) = match named(&path, shown.tree.size).ok_or_else(missing)? {
        Named::Tile => (BYTES, FOR_GOOD),
        Named::Openings => (BYTES, FOR_A_DAY),
        Named::Tariff => (JSON, FOR_GOOD),
    };
    let (disk, at) = (pool.disk.clone(), format!("published/{path}"));
    let read = tokio::task::spawn_blocking(move || disk.read(&at)).await;
    match read.map_err(|error| ApiError::internal("read a published file", &error))? {
        Ok(bytes) => Ok(answer(bytes, kind, caching)),
        // A partial file goes when fuller ones are there.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Err(missing()),
        Err(error) => Err(ApiError::internal("read a published file", &error)),
    }
}

fn answer(bytes: Vec<u8>, kind: &'static str, caching: &'static str) -> Response {
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    response
}
