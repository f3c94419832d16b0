//! Jobs of programs, and batches as jobs.

use super::accounts::parse_credits;
use crate::http::App;
use crate::http::auth::Caller;
use crate::http::bodies::{JsonBody, parse_digest};
use crate::http::error::{ApiError, unexpected};
use crate::http::files::{page_limit, parse_file_id};
use crate::pool::Shared;
use crate::pool::actor::{AskError, now};
use crate::views::{ExplainView, JobCreate, JobError, JobView, List, PriceView, TotalsView};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use caii_coordinator::{Attempt, Coordinator, Input, JobRecord, Phase, Reply, Totals, tell_jails};
use caii_model::{Ending, InputFormat, JobId, JobKind, JobSpec, Millis, Refusal, TaskIndex};
use caii_store::{JobQuery, Store, StoreError};
use serde::Deserialize;

const DEADLINE: Millis = Millis(24 * 3_600_000);
/// Attempts that the explanation of an ended job goes into.
const ATTEMPTS_TOLD: usize = 10;
/// Results that are looked through to explain an ended job.
const SETTLED_TOLD: u32 = 10_000;

fn totals_view(totals: &Totals) -> TotalsView {
    TotalsView {
        records: totals.records,
        records_ok: totals.records_ok,
        records_failed: totals.records_failed,
        tasks: totals.tasks,
        tasks_settled: totals.tasks_settled,
        tasks_given_up: totals.tasks_given_up,
        attempts_failed: totals.attempts_failed,
        devices: totals.devices,
        fuel: totals.fuel.0,
        cpu_ms: totals.cpu.0,
    }
}

/// A job from its row and, while it is open, from the coordinator.
fn view(coordinator: &Coordinator, record: &JobRecord) -> JobView {
    let open = coordinator.job(None, record.id);
    let record = open.as_ref().map_or(record, |open| &open.record);
    let end = record.end.as_ref();
    let (kind, batch_id) = match &record.spec.kind {
        JobKind::Program { .. } => ("program", None),
        JobKind::Batch { .. } => ("batch", Some(crate::http::batches::batch_id(record.id))),
        JobKind::Sync { .. } => ("request", None),
    };
    let state = match (end.map(|end| &end.ending), open.as_ref().map(|open| &open.phase)) {
        (Some(Ending::Completed), _) => "completed",
        (Some(Ending::Cancelled), _) => "cancelled",
        (Some(Ending::Expired), _) => "expired",
        (Some(Ending::Failed { .. }), _) => "failed",
        (None, Some(Phase::Preparing)) => "preparing",
        (None, Some(Phase::Running)) => "running",
        (None, Some(Phase::Assembling | Phase::Ended) | None) => "assembling",
    };
    let errors = match end.map(|end| &end.ending) {
        Some(Ending::Failed { errors }) => errors.as_slice(),
        _ => &[],
    };
    let totals = end.map(|end| end.totals).or(open.as_ref().map(|open| open.totals)).unwrap_or_default();
    JobView {
        id: record.id.to_string(),
        batch_id,
        kind: kind.to_owned(),
        name: record.spec.name.clone(),
        account: record.spec.owner.to_string(),
        state: state.to_owned(),
        workload: record.spec.workload.to_string(),
        verification: record.spec.verification.to_string(),
        input_file_id: record.spec.input.map(|file| file.to_string()),
        output_file_id: end.and_then(|end| end.output).map(|file| file.to_string()),
        error_file_id: end.and_then(|end| end.errors).map(|file| file.to_string()),
        errors: errors
            .iter()
            .map(|error| JobError {
                code: error.code.clone(),
                message: error.message.clone(),
                line: error.line,
                param: error.param.clone(),
            })
            .collect(),
        submitted_ms: record.submitted.0,
        prepared_ms: record.prepared.map(|at| at.0),
        ended_ms: end.map(|end| end.at.0),
        deadline_ms: record.spec.deadline.0,
        totals: totals_view(&totals),
        tasks_leased: open.as_ref().map_or(0, |open| open.tasks_leased),
        tasks_waiting: open.as_ref().map_or(0, |open| open.tasks_waiting),
        price: None,
    }
}

#[derive(Deserialize)]
pub(crate) struct ListQuery {
    limit: Option<usize>,
    before: Option<String>,
}

pub(crate) async fn list(
    State(pool): App,
    caller: Caller,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<List<JobView>>, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::invalid("", "invalid_query", error.body_text()))?;
    let limit = page_limit(query.limit, 100, JobQuery::LIMIT_MAX - 1)?;
    let before = query.before.as_deref().map(parse_id).transpose()?;
    let query = JobQuery { owner: caller.scope(), before, batches_only: false, limit: limit + 1 };
    let read = move |coordinator: &Coordinator, store: &mut dyn Store| {
        Ok::<_, StoreError>(store.jobs(&query)?.iter().map(|record| view(coordinator, record)).collect::<Vec<_>>())
    };
    let mut data = pool.handle.read(read).await?.map_err(|error| ApiError::internal("list jobs", &error))?;
    let has_more = data.len() > limit;
    data.truncate(limit);
    Ok(Json(List { data, has_more }))
}

/// `job_17`, and `batch_17` for the same.
pub(super) fn parse_id(text: &str) -> Result<JobId, ApiError> {
    let number = text.strip_prefix("batch_").map(|number| format!("job_{number}"));
    number
        .as_deref()
        .unwrap_or(text)
        .parse()
        .map_err(|_| ApiError::not_found("job-unknown", format!("there is no job {text}; `caii job list` shows yours")))
}

pub(crate) async fn create(
    State(pool): App,
    caller: Caller,
    JsonBody(body): JsonBody<JobCreate>,
) -> Result<Json<JobView>, ApiError> {
    let format = match body.format.as_str() {
        "jsonl" => InputFormat::JsonLines,
        "lines" => InputFormat::Lines,
        _ => return Err(ApiError::invalid("format", "field-invalid", "`format` must be `jsonl` or `lines`.")),
    };
    let spec = JobSpec {
        owner: caller.account.clone(),
        name: body.name,
        kind: JobKind::Program { format },
        workload: parse_digest(&body.workload)?,
        input: Some(parse_file_id(&body.input_file_id)?),
        records_per_task: body.records_per_task,
        verification: crate::http::batches::verification(&pool, body.verify.as_deref())?,
        max_price: body.max_price.as_deref().map(|text| parse_credits("max_price", text)).transpose()?,
        deadline: now() + body.expires_after_ms.map_or(DEADLINE, Millis),
    };
    pool.must_be_certified(spec.workload).await?;
    match pool.handle.ask(Input::JobSubmit(spec)).await? {
        Reply::Job(job) => find(&pool, &caller, job).await.map(Json),
        other => Err(unexpected(&other)),
    }
}

async fn find(pool: &Shared, caller: &Caller, job: JobId) -> Result<JobView, ApiError> {
    let scope = caller.scope();
    let read = move |coordinator: &Coordinator, store: &mut dyn Store| {
        let Some(record) = record(coordinator, store, scope.as_ref(), job)? else { return Ok(None) };
        let mut view = view(coordinator, &record);
        if coordinator.catalog().books().opened().is_some() {
            let price = store.books().job_price(job)?;
            view.price = Some(PriceView {
                reserved_micro_credits: price.reserved.0,
                charged_micro_credits: price.charged.0,
                returned_micro_credits: price.returned.0,
            });
        }
        Ok::<_, StoreError>(Some(view))
    };
    let found = pool.handle.read(read).await?.map_err(|error| ApiError::internal("look a job up", &error))?;
    found.ok_or_else(|| Refusal::JobUnknown(job).into())
}

/// A job's row, if it is in this scope.
fn record(
    coordinator: &Coordinator,
    store: &mut dyn Store,
    scope: Option<&caii_model::Account>,
    job: JobId,
) -> Result<Option<JobRecord>, StoreError> {
    if let Some(open) = coordinator.job(scope, job) {
        return Ok(Some(open.record));
    }
    Ok(store.job(job)?.filter(|record| scope.is_none_or(|owner| record.spec.owner == *owner)))
}

pub(crate) async fn retrieve(
    State(pool): App,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<JobView>, ApiError> {
    find(&pool, &caller, parse_id(&id)?).await.map(Json)
}

pub(crate) async fn cancel(
    State(pool): App,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<JobView>, ApiError> {
    let job = parse_id(&id)?;
    match pool.handle.ask(Input::JobCancel { owner: caller.scope(), job }).await {
        Ok(_) => find(&pool, &caller, job).await.map(Json),
        Err(AskError::Refused(Refusal::JobUnknown(_))) => {
            // The coordinator knows open jobs only.
            let ended = find(&pool, &caller, job).await?;
            let message = format!("{} has already ended ({})", ended.id, ended.state);
            Err(ApiError::new(StatusCode::CONFLICT, "job-ended", message))
        }
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn explain(
    State(pool): App,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<ExplainView>, ApiError> {
    let job = parse_id(&id)?;
    let scope = caller.scope();
    let read = move |coordinator: &Coordinator, store: &mut dyn Store| {
        let Some(record) = record(coordinator, store, scope.as_ref(), job)? else { return Ok(None) };
        if record.end.is_none() {
            return Ok(Some(coordinator.explain_job(job, now())));
        }
        let mut lines = explain_ended(&record, &store.attempts(job, ATTEMPTS_TOLD)?);
        if record.end.as_ref().is_some_and(|end| end.totals.tasks_settled <= SETTLED_TOLD) {
            let settled = store.settled(job)?;
            lines.extend(tell_jails(settled.iter().map(|(_, settled)| settled), |device| device.to_string()));
        }
        Ok::<_, StoreError>(Some(lines))
    };
    let lines = pool.handle.read(read).await?.map_err(|error| ApiError::internal("explain a job", &error))?;
    let lines = lines.ok_or(Refusal::JobUnknown(job))?;
    Ok(Json(ExplainView { id: job.to_string(), lines }))
}

fn explain_ended(record: &JobRecord, attempts: &[(TaskIndex, Attempt)]) -> Vec<String> {
    let Some(end) = &record.end else { return vec![] };
    let took = end.at.since(record.submitted);
    let totals = &end.totals;
    let mut lines = match &end.ending {
        Ending::Completed => vec![format!("It completed {took} after it was submitted.")],
        Ending::Cancelled => vec![format!("It was cancelled {took} after it was submitted.")],
        Ending::Expired => vec![format!("Its deadline passed {took} after it was submitted.")],
        Ending::Failed { errors } => {
            let mut lines = vec!["It could not run:".to_owned()];
            lines.extend(errors.iter().map(|error| match error.line {
                Some(line) => format!("line {line}: {} ({})", error.message, error.code),
                None => format!("{} ({})", error.message, error.code),
            }));
            lines
        }
    };
    if totals.records > 0 {
        lines.push(format!(
            "Of {} records {} have a result and {} an error line; {} devices did {} of {} tasks.",
            totals.records,
            totals.records_ok,
            totals.records_failed,
            totals.devices,
            totals.tasks_settled,
            totals.tasks
        ));
    }
    if totals.tasks_given_up > 0 {
        lines.push(format!("{} tasks failed too often and were given up.", totals.tasks_given_up));
    }
    if !attempts.is_empty() {
        lines.push(format!("{} attempts came to nothing; the first of them:", totals.attempts_failed));
    }
    lines.extend(attempts.iter().map(|(task, attempt)| {
        let failure = &attempt.failure;
        let separator = if failure.detail.is_empty() { "" } else { ": " };
        format!("task {task} on {}: {:?}{separator}{}", attempt.device, failure.kind, failure.detail)
    }));
    lines
}
