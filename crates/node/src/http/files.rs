//! `/v1/files`: what requesters upload and what jobs produce.

use super::App;
use super::auth::Caller;
use super::bodies::{Upload, send_blob};
use super::error::ApiError;
use crate::pool::split::BATCH_BYTES_MAX;
use axum::Json;
use axum::extract::{FromRequest, Multipart, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use caii_coordinator::{Input, Reply};
use caii_model::{Bytes as Size, Digest, FileId, FileMeta, FilePurpose};
use serde::{Deserialize, Serialize};

/// Largest file.
const FILE_MAX: u64 = 512 << 20;
/// Longest value of a form's other fields.
const FIELD_MAX: usize = 1_024;

/// A file as the OpenAI API has it.
#[derive(Debug, Serialize)]
pub(super) struct FileObject {
    id: String,
    object: &'static str,
    bytes: u64,
    created_at: u64,
    expires_at: Option<u64>,
    filename: String,
    purpose: &'static str,
    status: &'static str,
    status_details: Option<String>,
}

impl From<&FileMeta> for FileObject {
    fn from(file: &FileMeta) -> Self {
        Self {
            id: file.id.to_string(),
            object: "file",
            bytes: file.size.0,
            created_at: file.created.unix_seconds(),
            expires_at: None,
            filename: file.filename.clone(),
            purpose: purpose_name(file.purpose),
            status: "processed",
            status_details: None,
        }
    }
}

fn purpose_name(purpose: FilePurpose) -> &'static str {
    match purpose {
        FilePurpose::Batch => "batch",
        FilePurpose::BatchOutput => "batch_output",
        FilePurpose::UserData => "user_data",
    }
}

/// A page of a list.
#[derive(Debug, Serialize)]
pub(super) struct Page<T> {
    object: &'static str,
    data: Vec<T>,
    first_id: Option<String>,
    last_id: Option<String>,
    has_more: bool,
}

impl<T> Page<T> {
    /// The first `limit` entries; there may be more of them.
    pub(super) fn new(mut data: Vec<T>, limit: usize, id: impl Fn(&T) -> &str) -> Self {
        let has_more = data.len() > limit;
        data.truncate(limit);
        let (first_id, last_id) = (data.first().map(|entry| id(entry).into()), data.last().map(|e| id(e).into()));
        Self { object: "list", data, first_id, last_id, has_more }
    }
}

pub(super) fn page_limit(asked: Option<usize>, default: usize, max: usize) -> Result<usize, ApiError> {
    match asked.unwrap_or(default) {
        limit if (1..=max).contains(&limit) => Ok(limit),
        limit => {
            let message = format!("Invalid 'limit': {limit} is not between 1 and {max}.");
            Err(ApiError::invalid("limit", "invalid_limit", message))
        }
    }
}

pub(super) fn parse_file_id(text: &str) -> Result<FileId, ApiError> {
    text.parse().map_err(|_| no_such_file(text))
}

pub(super) fn no_such_file(id: impl std::fmt::Display) -> ApiError {
    let mut error = ApiError::not_found("file-unknown", format!("No such File object: {id}"));
    error.param = Some("id".to_owned());
    error
}

pub(super) async fn create(State(pool): App, caller: Caller, request: Request) -> Result<Json<FileObject>, ApiError> {
    let broken = |error: &dyn std::fmt::Display| {
        ApiError::invalid("", "invalid_multipart", format!("The body is not a complete multipart form: {error}"))
    };
    let mut form = Multipart::from_request(request, &()).await.map_err(|error| broken(&error))?;
    let mut purpose = None;
    let mut stored: Option<(String, Digest, Size)> = None;
    while let Some(mut field) = form.next_field().await.map_err(|error| broken(&error))? {
        let name = field.name().unwrap_or_default().to_owned();
        if name == "file" {
            if stored.is_some() {
                return Err(ApiError::invalid("file", "invalid_request", "Give one file only."));
            }
            let filename = filename(field.file_name());
            let mut upload = Upload::new(pool.blobs.clone(), FILE_MAX, None);
            while let Some(piece) = field.chunk().await.map_err(|error| broken(&error))? {
                upload.piece(piece).await?;
            }
            let (digest, size) = upload.finish().await?;
            stored = Some((filename, digest, size));
            continue;
        }
        let mut value = Vec::new();
        while let Some(piece) = field.chunk().await.map_err(|error| broken(&error))? {
            value.extend_from_slice(&piece);
            if value.len() > FIELD_MAX {
                return Err(ApiError::invalid(&name, "invalid_request", format!("`{name}` is too long.")));
            }
        }
        match name.as_str() {
            "purpose" => purpose = Some(parse_purpose(&String::from_utf8_lossy(&value))?),
            name if name.starts_with("expires_after") => {
                return Err(ApiError::invalid(
                    "expires_after",
                    "unsupported_parameter",
                    "This pool keeps files until they are deleted: leave `expires_after` out and delete the file \
                     when you no longer need it.",
                ));
            }
            _ => return Err(ApiError::invalid(&name, "unknown_parameter", format!("Unknown parameter: '{name}'."))),
        }
    }
    let required = |name: &str| {
        ApiError::invalid(name, "missing_required_parameter", format!("Missing required parameter: '{name}'."))
    };
    let purpose = purpose.ok_or_else(|| required("purpose"))?;
    let (filename, digest, size) = stored.ok_or_else(|| required("file"))?;
    if purpose == FilePurpose::Batch && size > BATCH_BYTES_MAX {
        let message = format!("The file has {size}; a batch's input may have at most {BATCH_BYTES_MAX}.");
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "file_too_large", message));
    }
    let input = Input::FileCreate { owner: caller.account, filename, purpose, digest, size };
    match pool.handle.ask(input).await? {
        Reply::File(file) => Ok(Json((&file).into())),
        other => Err(super::error::unexpected(&other)),
    }
}

/// The last component, cut to what is kept and without control characters.
fn filename(given: Option<&str>) -> String {
    let name = given.unwrap_or_default().rsplit(['/', '\\']).next().unwrap_or_default();
    let mut name: String = name.chars().filter(|c| !c.is_control()).collect();
    while name.len() > 255 {
        name.pop();
    }
    if name.is_empty() { "upload".to_owned() } else { name }
}

fn parse_purpose(purpose: &str) -> Result<FilePurpose, ApiError> {
    match purpose {
        "batch" => Ok(FilePurpose::Batch),
        "user_data" => Ok(FilePurpose::UserData),
        other => {
            let message = format!(
                "'{}' is not a purpose that this pool supports: use 'batch' for the input of a batch and 'user_data' \
                 for anything else.",
                crate::pool::records::clip(other)
            );
            Err(ApiError::invalid("purpose", "invalid_purpose", message))
        }
    }
}

#[derive(Deserialize)]
pub(super) struct ListQuery {
    after: Option<String>,
    limit: Option<usize>,
    order: Option<String>,
    purpose: Option<String>,
}

pub(super) async fn list(
    State(pool): App,
    caller: Caller,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Page<FileObject>>, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::invalid("", "invalid_query", error.body_text()))?;
    let limit = page_limit(query.limit, 10_000, 10_000)?;
    let after = query.after.as_deref().map(parse_file_id).transpose()?;
    let ascending = match query.order.as_deref() {
        None | Some("desc") => false,
        Some("asc") => true,
        Some(_) => return Err(ApiError::invalid("order", "invalid_order", "'order' must be 'asc' or 'desc'.")),
    };
    let files = pool
        .handle
        .read(move |coordinator, _| {
            let wanted = |file: &&FileMeta| {
                query.purpose.as_deref().is_none_or(|purpose| purpose == purpose_name(file.purpose))
                    && after.is_none_or(|after| if ascending { file.id > after } else { file.id < after })
            };
            let scope = caller.scope();
            let newest_first = coordinator.files(scope.as_ref()).filter(wanted);
            if ascending {
                let mut files: Vec<FileObject> = newest_first.map(FileObject::from).collect();
                files.reverse();
                files.truncate(limit + 1);
                files
            } else {
                newest_first.take(limit + 1).map(FileObject::from).collect()
            }
        })
        .await?;
    Ok(Json(Page::new(files, limit, |file| &file.id)))
}

/// The caller's file with the id that a path names.
async fn find(pool: &crate::pool::Shared, caller: &Caller, id: &str) -> Result<FileMeta, ApiError> {
    let (id, scope) = (parse_file_id(id)?, caller.scope());
    let found = pool.handle.read(move |coordinator, _| coordinator.file(scope.as_ref(), id).cloned()).await?;
    found.ok_or_else(|| no_such_file(id))
}

pub(super) async fn retrieve(
    State(pool): App,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<FileObject>, ApiError> {
    Ok(Json((&find(&pool, &caller, &id).await?).into()))
}

pub(super) async fn content(
    State(pool): App,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let file = find(&pool, &caller, &id).await?;
    send_blob(&pool.blobs, file.digest, &headers, "application/octet-stream").await
}

#[derive(Serialize)]
pub(super) struct Deleted {
    id: String,
    object: &'static str,
    deleted: bool,
}

impl Deleted {
    pub(super) fn new(id: String, object: &'static str) -> Self {
        Self { id, object, deleted: true }
    }
}

pub(super) async fn delete(
    State(pool): App,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Deleted>, ApiError> {
    let file = parse_file_id(&id)?;
    pool.handle.ask(Input::FileDelete { owner: caller.scope(), file }).await?;
    Ok(Json(Deleted::new(id, "file")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filenames() {
        assert_eq!(filename(Some("a b.jsonl")), "a b.jsonl");
        assert_eq!(filename(Some("/tmp/../x\\y.jsonl")), "y.jsonl");
        assert_eq!(filename(Some("")), "upload");
        assert_eq!(filename(None), "upload");
        assert_eq!(filename(Some("a\nb")), "ab");
        assert_eq!(filename(Some(&"é".repeat(300))).len(), 254);
    }

    #[test]
    fn a_file_object() {
        let file = FileMeta {
            id: FileId(7),
            owner: caii_model::Account::new("a").unwrap(),
            filename: "in.jsonl".into(),
            purpose: FilePurpose::Batch,
            digest: Digest([1; 32]),
            size: Size(120),
            created: caii_model::Timestamp(1_613_677_385_999),
        };
        assert_eq!(
            serde_json::to_value(FileObject::from(&file)).unwrap(),
            serde_json::json!({
                "id": "file-7", "object": "file", "bytes": 120, "created_at": 1_613_677_385_u64, "expires_at": null,
                "filename": "in.jsonl", "purpose": "batch", "status": "processed", "status_details": null
            })
        );
    }

    #[test]
    fn pages() {
        let page = Page::new(vec!["a", "b", "c"], 2, |entry| entry);
        let page = serde_json::to_value(page).unwrap();
        let expected = serde_json::json!(
            {"object": "list", "data": ["a", "b"], "first_id": "a", "last_id": "b", "has_more": true}
        );
        assert_eq!(page, expected);
        assert!(page_limit(Some(0), 20, 100).is_err() && page_limit(Some(101), 20, 100).is_err());
        assert_eq!(page_limit(None, 20, 100).unwrap(), 20);
    }
}
