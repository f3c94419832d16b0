//! Request bodies within limits, and blobs in and out, piece by piece.

use super::error::ApiError;
use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use caii_model::{Bytes as Size, Digest};
use caii_store::{BlobError, Blobs};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Frame, SizeHint};
use serde::de::DeserializeOwned;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// Largest JSON body.
pub(crate) const JSON_MAX: usize = 1 << 20;
/// Blobs move in pieces of this size.
const PIECE: usize = 128 << 10;
/// Pieces in flight between a connection and the disk.
const PIECES: usize = 4;

/// All of a request's body, if it is not larger.
pub(crate) async fn read_limited(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(too_large(limit as u64)),
        Err(error) => Err(ApiError::invalid("", "incomplete_body", format!("The body did not arrive whole: {error}"))),
    }
}

pub(crate) fn too_large(limit: u64) -> ApiError {
    let message = format!("The body is larger than {limit} bytes, the most that is accepted here.");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
}

/// A JSON body, whatever the content type says.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let bytes = read_limited(request.into_body(), JSON_MAX).await?;
        parse_json(&bytes).map(Self)
    }
}

pub(crate) fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    if !bytes.trim_ascii_start().starts_with(b"{") {
        // An array would otherwise be taken for the fields in their order.
        return Err(ApiError::invalid("", "invalid_json", "The body must be a JSON object."));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let code = if error.is_data() { "invalid_request" } else { "invalid_json" };
        ApiError::invalid("", code, format!("The body is not what is expected here: {error}."))
    })
}

/// The digest that a path names.
pub(crate) fn parse_digest(text: &str) -> Result<Digest, ApiError> {
    text.parse().map_err(|error: caii_model::DigestParseError| {
        ApiError::invalid("digest", "invalid_digest", format!("`{text}` is {error}"))
    })
}

/// A blob on its way to the disk.
pub(crate) struct Upload {
    pieces: mpsc::Sender<Bytes>,
    writer: tokio::task::JoinHandle<Result<Option<(Digest, Size)>, BlobError>>,
}

impl Upload {
    /// Takes at most `limit` bytes. With `expected`, only a content with this digest is kept.
    pub(crate) fn new(blobs: Arc<dyn Blobs>, limit: u64, expected: Option<Digest>) -> Self {
        let (pieces, mut receiver) = mpsc::channel::<Bytes>(PIECES);
        let writer = tokio::task::spawn_blocking(move || {
            let mut writer = blobs.writer(Size(limit))?;
            while let Some(piece) = receiver.blocking_recv() {
                // An empty piece marks the end: without it, the client went away halfway.
                if piece.is_empty() {
                    return writer.commit(expected).map(Some);
                }
                writer.write(&piece)?;
            }
            Ok(None)
        });
        Self { pieces, writer }
    }

    /// Takes the next piece.
    pub(crate) async fn piece(&mut self, piece: Bytes) -> Result<(), ApiError> {
        if piece.is_empty() || self.pieces.send(piece).await.is_ok() {
            return Ok(());
        }
        // The writer has ended before its time, so it has an error to tell.
        Self::outcome((&mut self.writer).await).map(|_| ())
    }

    /// Makes it durable and returns its address and size.
    pub(crate) async fn finish(self) -> Result<(Digest, Size), ApiError> {
        // If the writer has failed, its own words are the better ones.
        let _ = self.pieces.send(Bytes::new()).await;
        Self::outcome(self.writer.await)
    }

    fn outcome(
        outcome: Result<Result<Option<(Digest, Size)>, BlobError>, tokio::task::JoinError>,
    ) -> Result<(Digest, Size), ApiError> {
        match outcome {
            Ok(Ok(Some(stored))) => Ok(stored),
            Ok(Ok(None)) => Err(ApiError::invalid("", "incomplete_body", "The body did not arrive whole.")),
            Ok(Err(error)) => Err(error.into()),
            Err(error) => Err(ApiError::internal("write a blob", &error)),
        }
    }
}

impl From<BlobError> for ApiError {
    fn from(error: BlobError) -> Self {
        let message = error.to_string();
        match error {
            BlobError::DiskFull { .. } => {
                tracing::error!(reason = %message, "a blob found no room");
                Self::new(
                    StatusCode::INSUFFICIENT_STORAGE,
                    "storage",
                    "The pool's disk is full; its operator has to free some space.",
                )
            }
            BlobError::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message),
            BlobError::Mismatch { .. } => Self::invalid("digest", "digest_mismatch", message),
            BlobError::NotFound { .. } => Self::not_found("blob_unknown", message),
            BlobError::OutOfRange { .. } => Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "no_such_range", message),
            BlobError::Corrupt { .. } | BlobError::Failed { .. } => Self::internal("use its blob store", &error),
        }
    }
}

/// Stores a body under the digest that it must have.
pub(crate) async fn store_body(
    blobs: &Arc<dyn Blobs>,
    mut body: Body,
    limit: u64,
    expected: Digest,
) -> Result<Size, ApiError> {
    if body.size_hint().lower() > limit {
        return Err(too_large(limit));
    }
    let mut upload = Upload::new(blobs.clone(), limit, Some(expected));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            ApiError::invalid("", "incomplete_body", format!("The body did not arrive whole: {error}"))
        })?;
        if let Ok(piece) = frame.into_data() {
            upload.piece(piece).await?;
        }
    }
    Ok(upload.finish().await?.1)
}

/// A part of a blob: where it starts, where it ends (exclusive).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// The one range that a request asks for; nothing when it asks for all, or in a way that may be ignored (RFC 9110,
/// section 14.2). An error: no such part.
pub(crate) fn requested_span(headers: &HeaderMap, size: u64) -> Result<Option<Span>, ApiError> {
    let Some(range) = headers.get(header::RANGE).and_then(|range| range.to_str().ok()) else { return Ok(None) };
    let Some((first, last)) = range.trim().strip_prefix("bytes=").and_then(|spec| spec.split_once('-')) else {
        return Ok(None);
    };
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    let span = match (number(first), number(last)) {
        (Some(start), None) if last.is_empty() => Span { start, end: size },
        (Some(start), Some(last)) if start <= last => Span { start, end: last.saturating_add(1).min(size) },
        (None, Some(suffix)) if first.is_empty() => Span { start: size.saturating_sub(suffix), end: size },
        _ => return Ok(None),
    };
    if span.start >= span.end {
        let message = format!("There is no such range: the blob has {size} bytes.");
        return Err(ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, "no_such_range", message));
    }
    Ok(Some(span))
}

/// Answers with a blob or a part of it.
pub(crate) async fn send_blob(
    blobs: &Arc<dyn Blobs>,
    digest: Digest,
    headers: &HeaderMap,
    content_type: &'static str,
) -> Result<Response, ApiError> {
    let (store, headers) = (blobs.clone(), headers.clone());
    let open = move || -> Result<_, ApiError> {
        let size = store.size(&digest)?.ok_or(BlobError::NotFound { digest })?.0;
        let span = requested_span(&headers, size)?;
        let opened = store.open(&digest, span.map(|span| span.start..span.end))?;
        Ok((opened, size, span))
    };
    let opened = tokio::task::spawn_blocking(open).await;
    let (opened, size, span) = opened.map_err(|error| ApiError::internal("read a blob", &error))??;
    let (pieces, receiver) = mpsc::channel(PIECES);
    let (len, mut content) = (opened.len, opened.content);
    tokio::task::spawn_blocking(move || {
        let mut left = len;
        while left > 0 {
            let mut piece = vec![0; PIECE.min(usize::try_from(left).unwrap_or(PIECE))];
            if let Err(error) = content.read_exact(&mut piece) {
                tracing::error!(%error, blob = %digest, "cannot read a blob");
                // The connection is cut, so that the client cannot take a part for the whole.
                let _ = pieces.blocking_send(Err(error));
                return;
            }
            left -= piece.len() as u64;
            if pieces.blocking_send(Ok(Bytes::from(piece))).is_err() {
                // The client has gone.
                return;
            }
        }
    });
    let mut response = Response::new(Body::new(Pieces { receiver, left: len }));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(Span { start, end }) = span {
        let range = format!("bytes {start}-{}/{size}", end - 1);
        headers.insert(header::CONTENT_RANGE, range.parse().expect("digits are a header value"));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

struct Pieces {
    receiver: mpsc::Receiver<std::io::Result<Bytes>>,
    left: u64,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.receiver.poll_recv(context).map(|piece| {
            piece.map(|piece| {
                piece.map(|piece| {
                    self.left = self.left.saturating_sub(piece.len() as u64);
                    Frame::data(piece)
                })
            })
        })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let span = |range: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, range.parse().unwrap());
            requested_span(&headers, 10).map(|span| span.map(|span| (span.start, span.end))).map_err(|e| e.status)
        };
        assert_eq!(requested_span(&HeaderMap::new(), 10).unwrap(), None);
        assert_eq!(span("bytes=2-5"), Ok(Some((2, 6))));
        assert_eq!(span("bytes=2-"), Ok(Some((2, 10))));
        assert_eq!(span("bytes=2-99"), Ok(Some((2, 10))));
        assert_eq!(span("bytes=-3"), Ok(Some((7, 10))));
        assert_eq!(span("bytes=-99"), Ok(Some((0, 10))));
        for ignored in ["items=1-2", "bytes=a-b", "bytes=5-2", "bytes=1-2,4-5", "bytes=-", "bytes=+1-2"] {
            assert_eq!(span(ignored), Ok(None), "{ignored}");
        }
        for unsatisfiable in ["bytes=10-", "bytes=10-12", "bytes=-0"] {
            assert_eq!(span(unsatisfiable), Err(StatusCode::RANGE_NOT_SATISFIABLE), "{unsatisfiable}");
        }
    }
}
