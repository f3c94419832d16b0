//! `/v1/batches`: many requests in one file, answered in another.

use super::App;
use super::auth::Caller;
use super::bodies::JsonBody;
use super::caii::accounts::parse_credits;
use super::error::ApiError;
use super::files::{Page, no_such_file, page_limit, parse_file_id};
use crate::pool::Shared;
use crate::pool::records::{Format, Records};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use caii_coordinator::{Coordinator, Input, JobRecord, Phase, Reply, Totals};
use caii_model::{Digest, Ending, Endpoint, InputError, JobId, JobKind, JobSpec, Millis, NoVerification, Verification};
use caii_store::{JobQuery, Store};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::io::BufReader;

/// The only completion window, as in the OpenAI API.
const WINDOW: (&str, Millis) = ("24h", Millis(24 * 3_600_000));

/// A batch as the OpenAI API has it.
#[derive(Debug, Serialize)]
pub(super) struct BatchObject {
    id: String,
    object: &'static str,
    endpoint: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    errors: Option<Errors>,
    input_file_id: Option<String>,
    completion_window: String,
    status: &'static str,
    output_file_id: Option<String>,
    error_file_id: Option<String>,
    created_at: u64,
    in_progress_at: Option<u64>,
    expires_at: u64,
    finalizing_at: Option<u64>,
    completed_at: Option<u64>,
    failed_at: Option<u64>,
    expired_at: Option<u64>,
    cancelling_at: Option<u64>,
    cancelled_at: Option<u64>,
    request_counts: Counts,
    metadata: Option<Map<String, Value>>,
}

#[derive(Debug, Serialize)]
struct Errors {
    object: &'static str,
    data: Vec<BatchError>,
}

#[derive(Debug, Serialize)]
struct BatchError {
    code: String,
    line: Option<u64>,
    message: String,
    param: Option<String>,
}

impl From<&InputError> for BatchError {
    fn from(error: &InputError) -> Self {
        let InputError { code, message, line, param } = error.clone();
        Self { code, line, message, param }
    }
}

#[derive(Debug, Serialize)]
struct Counts {
    total: u64,
    completed: u64,
    failed: u64,
}

impl BatchObject {
    /// Nothing if the job is no batch. `live`: how far an open job is.
    fn new(record: &JobRecord, live: Option<(Phase, Totals)>, model: Option<String>) -> Option<Self> {
        let JobKind::Batch { endpoint, completion_window, metadata } = &record.spec.kind else { return None };
        let end = record.end.as_ref();
        let ending = record.ending.as_ref();
        let totals = end.map(|end| end.totals).or(live.as_ref().map(|(_, totals)| *totals)).unwrap_or_default();
        let status = match (end.map(|end| &end.ending), ending.map(|(ending, _)| ending)) {
            (Some(Ending::Completed), _) => "completed",
            (Some(Ending::Cancelled), _) => "cancelled",
            (Some(Ending::Expired), _) => "expired",
            (Some(Ending::Failed { .. }), _) => "failed",
            (None, Some(Ending::Cancelled)) => "cancelling",
            (None, Some(_)) => "finalizing",
            (None, None) if record.prepared.is_some() => "in_progress",
            (None, None) => "validating",
        };
        let ended_at = |wanted: &str| end.filter(|_| status == wanted).map(|end| end.at.unix_seconds());
        let ending_at = |matches: fn(&Ending) -> bool| {
            ending.filter(|(ending, _)| matches(ending)).map(|(_, at)| at.unix_seconds())
        };
        let errors = match end.map(|end| &end.ending) {
            Some(Ending::Failed { errors }) => {
                Some(Errors { object: "list", data: errors.iter().map(BatchError::from).collect() })
            }
            _ => None,
        };
        let pairs = || metadata.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
        Some(Self {
            id: batch_id(record.id),
            object: "batch",
            endpoint: endpoint.path(),
            model,
            errors,
            input_file_id: record.spec.input.map(|file| file.to_string()),
            completion_window: completion_window.clone(),
            status,
            output_file_id: end.and_then(|end| end.output).map(|file| file.to_string()),
            error_file_id: end.and_then(|end| end.errors).map(|file| file.to_string()),
            created_at: record.submitted.unix_seconds(),
            in_progress_at: record.prepared.map(|at| at.unix_seconds()),
            expires_at: record.spec.deadline.unix_seconds(),
            finalizing_at: ending_at(|ending| matches!(ending, Ending::Completed | Ending::Expired)),
            completed_at: ended_at("completed"),
            failed_at: ended_at("failed"),
            expired_at: ended_at("expired"),
            cancelling_at: ending_at(|ending| matches!(ending, Ending::Cancelled)),
            cancelled_at: ended_at("cancelled"),
            request_counts: Counts {
                total: totals.records,
                completed: totals.records_ok,
                failed: totals.records_failed,
            },
            metadata: (!metadata.is_empty()).then(pairs),
        })
    }
}

/// A job's id in this API.
pub(super) fn batch_id(job: JobId) -> String {
    format!("batch_{}", job.0)
}

fn parse_batch_id(text: &str) -> Result<JobId, ApiError> {
    let number = text.strip_prefix("batch_").filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    number.and_then(|digits| digits.parse().ok()).map(JobId).ok_or_else(|| no_such_batch(text))
}

fn no_such_batch(id: impl std::fmt::Display) -> ApiError {
    ApiError::not_found("batch_not_found", format!("No batch found with id '{id}'."))
}

#[derive(Deserialize)]
pub(super) struct Create {
    input_file_id: Option<String>,
    endpoint: Option<String>,
    completion_window: Option<String>,
    metadata: Option<Map<String, Value>>,
    output_expires_after: Option<Value>,
    /// Not of OpenAI's API: how results are checked (`audit`, `quorum=2`, `spot`). Its clients send it as `extra_body`.
    verify: Option<String>,
    /// Nor this: the most that it may cost, in credits, as `"12.5"`.
    max_price: Option<String>,
}

/// How results are checked: as asked, else as the pool has it.
pub(crate) fn verification(pool: &Shared, asked: Option<&str>) -> Result<Verification, ApiError> {
    let Some(text) = asked else { return Ok(pool.config.verification) };
    let invalid = |error: NoVerification| ApiError::invalid("verify", "field-invalid", format!("`verify`: {error}."));
    text.parse().map_err(invalid)
}

pub(super) async fn create(
    State(pool): App,
    caller: Caller,
    JsonBody(body): JsonBody<Create>,
) -> Result<Json<BatchObject>, ApiError> {
    let missing = |name: &str| {
        ApiError::invalid(name, "missing_required_parameter", format!("Missing required parameter: '{name}'."))
    };
    let file_id = body.input_file_id.ok_or_else(|| missing("input_file_id"))?;
    let file_id = parse_file_id(&file_id)?;
    let endpoint = body.endpoint.ok_or_else(|| missing("endpoint"))?;
    let endpoint = Endpoint::from_path(&endpoint).ok_or_else(|| {
        let message =
            format!("'{}' cannot be batched here: use '/v1/embeddings'.", crate::pool::records::clip(&endpoint));
        ApiError::invalid("endpoint", "invalid_endpoint", message)
    })?;
    if body.completion_window.ok_or_else(|| missing("completion_window"))? != WINDOW.0 {
        let message = "Invalid 'completion_window': only '24h' is supported.";
        return Err(ApiError::invalid("completion_window", "invalid_completion_window", message));
    }
    if body.output_expires_after.is_some_and(|value| !value.is_null()) {
        let message = "This pool keeps files until they are deleted: leave `output_expires_after` out.";
        return Err(ApiError::invalid("output_expires_after", "unsupported_parameter", message));
    }
    let metadata = parse_metadata(body.metadata.unwrap_or_default())?;

    let scope = Some(caller.account.clone());
    let file = pool.handle.read(move |coordinator, _| coordinator.file(scope.as_ref(), file_id).cloned()).await?;
    let file = file.ok_or_else(|| no_such_file(file_id))?;
    let workload = find_workload(&pool, file.digest, endpoint).await?;
    let kind = JobKind::Batch { endpoint, completion_window: WINDOW.0.to_owned(), metadata };
    let spec = JobSpec {
        owner: caller.account.clone(),
        name: file.filename.chars().take(200).collect(),
        kind,
        workload,
        input: Some(file_id),
        records_per_task: None,
        verification: verification(&pool, body.verify.as_deref())?,
        max_price: body.max_price.as_deref().map(|text| parse_credits("max_price", text)).transpose()?,
        deadline: crate::pool::actor::now() + WINDOW.1,
    };
    pool.must_be_certified(spec.workload).await?;
    match pool.handle.ask(Input::JobSubmit(spec)).await? {
        Reply::Job(job) => find(&pool, &caller, job).await.map(Json),
        other => Err(super::error::unexpected(&other)),
    }
}

fn parse_metadata(map: Map<String, Value>) -> Result<Vec<(String, String)>, ApiError> {
    map.into_iter()
        .map(|(key, value)| match value {
            Value::String(value) => Ok((key, value)),
            _ => Err(ApiError::invalid("metadata", "invalid_type", "The values of 'metadata' must be strings.")),
        })
        .collect()
}

/// The workload of the model that the first request names. A file that names none, or an unknown one, fails when it is
/// checked, and for a batch that cannot run any workload will do.
pub(crate) async fn find_workload(pool: &Shared, input: Digest, endpoint: Endpoint) -> Result<Digest, ApiError> {
    let blobs = pool.blobs.clone();
    let first = tokio::task::spawn_blocking(move || -> Result<Option<String>, ApiError> {
        let opened = blobs.open(&input, None)?;
        let mut records = Records::new(BufReader::new(opened.content), Format::Batch(endpoint));
        let first = records.next().map_err(|error| ApiError::internal("read a file", &error))?;
        Ok(first.and_then(Result::ok).and_then(|record| record.request).map(|request| request.model.into_owned()))
    });
    let first = first.await.map_err(|error| ApiError::internal("read a file", &error))??;
    let find = move |coordinator: &Coordinator, _: &mut dyn Store| {
        let serves = |model: &&caii_model::Model| model.endpoint == endpoint;
        let named = first.as_deref().and_then(|name| coordinator.model(name)).filter(serves);
        named.or_else(|| coordinator.models().find(serves)).map(|model| model.workload)
    };
    pool.handle.read(find).await?.ok_or_else(|| {
        let message = format!("This pool has no model for '{}' yet; `caii model add` adds one.", endpoint.path());
        ApiError::invalid("endpoint", "model_not_found", message)
    })
}

/// A job of the caller's that is a batch.
async fn find(pool: &Shared, caller: &Caller, job: JobId) -> Result<BatchObject, ApiError> {
    let scope = caller.scope();
    let read = move |coordinator: &Coordinator, store: &mut dyn Store| {
        let record = match coordinator.job(scope.as_ref(), job) {
            Some(view) => Some(view.record),
            None => store.job(job)?.filter(|record| scope.is_none_or(|owner| record.spec.owner == owner)),
        };
        Ok::<_, caii_store::StoreError>(record.and_then(|record| view(coordinator, &record)))
    };
    let found = pool.handle.read(read).await?.map_err(|error| ApiError::internal("look a batch up", &error))?;
    found.ok_or_else(|| no_such_batch(batch_id(job)))
}

fn view(coordinator: &Coordinator, record: &JobRecord) -> Option<BatchObject> {
    let open = coordinator.job(None, record.id);
    let model = coordinator.models().find(|model| model.workload == record.spec.workload);
    let model = model.map(|model| model.name.clone());
    match open {
        Some(open) => BatchObject::new(&open.record, Some((open.phase, open.totals)), model),
        None => BatchObject::new(record, None, model),
    }
}

pub(super) async fn retrieve(
    State(pool): App,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<BatchObject>, ApiError> {
    find(&pool, &caller, parse_batch_id(&id)?).await.map(Json)
}

#[derive(Deserialize)]
pub(super) struct ListQuery {
    after: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn list(
    State(pool): App,
    caller: Caller,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Page<BatchObject>>, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::invalid("", "invalid_query", error.body_text()))?;
    let limit = page_limit(query.limit, 20, 100)?;
    let before = query.after.as_deref().map(parse_batch_id).transpose()?;
    let query = JobQuery { owner: caller.scope(), before, batches_only: true, limit: limit + 1 };
    let read = move |coordinator: &Coordinator, store: &mut dyn Store| {
        let records = store.jobs(&query)?;
        Ok::<_, caii_store::StoreError>(
            records.iter().filter_map(|record| view(coordinator, record)).collect::<Vec<_>>(),
        )
    };
    let batches = pool.handle.read(read).await?.map_err(|error| ApiError::internal("list batches", &error))?;
    Ok(Json(Page::new(batches, limit, |batch| &batch.id)))
}

pub(super) async fn cancel(
    State(pool): App,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<BatchObject>, ApiError> {
    let job = parse_batch_id(&id)?;
    // Also tells a batch from other jobs and the caller's from others'.
    let batch = find(&pool, &caller, job).await?;
    match batch.status {
        "validating" | "in_progress" | "finalizing" => {
            match pool.handle.ask(Input::JobCancel { owner: caller.scope(), job }).await {
                // It may have ended in this moment: then its state says how.
                Ok(_) | Err(crate::pool::actor::AskError::Refused(_)) => {}
                Err(error) => return Err(error.into()),
            }
            find(&pool, &caller, job).await.map(Json)
        }
        "cancelling" => Ok(Json(batch)),
        status => {
            let message = format!("Cannot cancel a batch with status '{status}'.");
            Err(ApiError::new(StatusCode::CONFLICT, "batch_not_cancellable", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use caii_coordinator::JobEnd;
    use caii_model::{Account, FileId, Timestamp};
    use serde_json::json;

    fn record(ending: Option<Ending>, ended: bool) -> JobRecord {
        let totals = Totals { records: 3, records_ok: 2, records_failed: 1, ..Totals::default() };
        let end = ending.clone().filter(|_| ended).map(|ending| JobEnd {
            output: matches!(ending, Ending::Completed).then_some(FileId(8)),
            errors: matches!(ending, Ending::Completed).then_some(FileId(9)),
            ending,
            at: Timestamp(5_000),
            totals,
        });
        JobRecord {
            id: JobId(4),
            spec: JobSpec {
                owner: Account::new("a").unwrap(),
                name: String::new(),
                kind: JobKind::Batch {
                    endpoint: Endpoint::Embeddings,
                    completion_window: "24h".into(),
                    metadata: vec![("k".into(), "v".into())],
                },
                workload: Digest([1; 32]),
                input: Some(FileId(7)),
                records_per_task: None,
                verification: Verification::Spot,
                max_price: None,
                deadline: Timestamp(86_401_000),
            },
            submitted: Timestamp(1_000),
            prepared: Some(Timestamp(2_000)),
            blob: None,
            ending: ending.map(|ending| (ending, Timestamp(4_000))),
            end,
        }
    }

    fn json_of(record: &JobRecord) -> Value {
        let live = record.end.is_none().then(|| (Phase::Running, Totals { records: 3, ..Totals::default() }));
        serde_json::to_value(BatchObject::new(record, live, Some("minilm".into())).unwrap()).unwrap()
    }

    #[test]
    fn a_completed_batch() {
        assert_eq!(
            json_of(&record(Some(Ending::Completed), true)),
            json!({
                "id": "batch_4", "object": "batch", "endpoint": "/v1/embeddings", "model": "minilm", "errors": null,
                "input_file_id": "file-7", "completion_window": "24h", "status": "completed",
                "output_file_id": "file-8", "error_file_id": "file-9", "created_at": 1, "in_progress_at": 2,
                "expires_at": 86401, "finalizing_at": 4, "completed_at": 5, "failed_at": null, "expired_at": null,
                "cancelling_at": null, "cancelled_at": null,
                "request_counts": {"total": 3, "completed": 2, "failed": 1}, "metadata": {"k": "v"}
            })
        );
    }

    #[test]
    fn statuses() {
        let failed = Ending::Failed {
            errors: vec![InputError {
                code: "invalid_json_line".into(),
                message: "m".into(),
                line: Some(2),
                param: None,
            }],
        };
        for (ending, ended, status, at) in [
            (None, false, "in_progress", "in_progress_at"),
            (Some(Ending::Completed), false, "finalizing", "finalizing_at"),
            (Some(Ending::Cancelled), false, "cancelling", "cancelling_at"),
            (Some(Ending::Cancelled), true, "cancelled", "cancelled_at"),
            (Some(Ending::Expired), false, "finalizing", "finalizing_at"),
            (Some(Ending::Expired), true, "expired", "expired_at"),
            (Some(failed), true, "failed", "failed_at"),
        ] {
            let batch = json_of(&record(ending, ended));
            assert_eq!(batch["status"], status);
            assert!(batch[at].is_number(), "{status}: {at}");
            if status == "failed" {
                let error = json!({"code": "invalid_json_line", "line": 2, "message": "m", "param": null});
                assert_eq!(batch["errors"], json!({"object": "list", "data": [error]}));
            }
        }
        let mut validating = record(None, false);
        validating.prepared = None;
        assert_eq!(json_of(&validating)["status"], "validating");
    }

    #[test]
    fn ids() {
        assert_eq!(parse_batch_id("batch_17").unwrap(), JobId(17));
        for bad in ["batch_", "batch_+1", "job_17", "17"] {
            assert!(parse_batch_id(bad).is_err(), "{bad}");
        }
    }
}
