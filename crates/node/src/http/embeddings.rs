//! `/v1/embeddings`: one small request whose client waits.

use super::App;
use super::auth::Caller;
use super::bodies::{parse_json, read_limited};
use super::error::{ApiError, unexpected};
use super::models::no_such_model;
use crate::pool::Shared;
use crate::pool::actor::{AskError, now};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use caii_coordinator::{Coordinator, Input, Reply};
use caii_model::{
    Bytes as Size, Digest, Ending, Endpoint, JobId, JobKind, JobSpec, Millis, Model, Prepared, Refusal, TaskInput,
    Verification,
};
use caii_store::{Store, StoreError};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Largest request, and most texts in it; whoever has more makes a batch.
const REQUEST_MAX: usize = 64 << 10;
const INPUTS_MAX: usize = 64;

#[derive(Deserialize)]
struct Fields {
    model: Option<Value>,
    input: Option<Value>,
    dimensions: Option<Value>,
}

pub(super) async fn create(State(pool): App, caller: Caller, body: Body) -> Result<Response, ApiError> {
    let body = read_limited(body, REQUEST_MAX).await?;
    let name = check(&body)?;
    let wanted = name.clone();
    let find = move |coordinator: &Coordinator, _: &mut dyn Store| {
        let slots = coordinator.slots_present();
        let enrolled = if slots == 0 { coordinator.devices().len() } else { 0 };
        (coordinator.model(&wanted).cloned(), enrolled, slots)
    };
    let (model, enrolled, slots) = pool.handle.read(find).await?;
    let model = model.filter(|model| model.endpoint == Endpoint::Embeddings).ok_or_else(|| no_such_model(&name))?;
    check_dimensions(&body, &model)?;
    if slots == 0 {
        let reason = match enrolled {
            0 => "no device has joined this pool yet".to_owned(),
            count => format!("none of the {count} enrolled devices is connected"),
        };
        return Err(Refusal::NoDevice { reason }.into());
    }

    let prepared = prepare(&pool, &body).await?;
    let wait = Duration::from_secs(pool.config.sync_wait_seconds);
    let spec = JobSpec {
        owner: caller.account,
        name: String::new(),
        kind: JobKind::Sync { endpoint: Endpoint::Embeddings },
        workload: model.workload,
        input: None,
        records_per_task: None,
        verification: Verification::Off,
        max_price: None,
        deadline: now() + Millis(pool.config.sync_wait_seconds * 1_000),
    };
    pool.must_be_certified(spec.workload).await?;
    let job = match pool.handle.ask(Input::JobSubmitPrepared(spec, prepared)).await? {
        Reply::Job(job) => job,
        other => return Err(unexpected(&other)),
    };
    // Whether the client gives up or the time is over: nobody needs the answer any more.
    let waiting = CancelOnDrop { pool: pool.clone(), job, armed: true };
    let ended = tokio::select! {
        ended = tokio::time::timeout(wait, pool.handle.ended(job)) => ended,
        () = pool.stopped() => Ok(Err(AskError::Restarted)),
    };
    match ended {
        Ok(ended) => ended?,
        Err(_) => {
            let reasons = pool.handle.read(move |coordinator, _| coordinator.explain_job(job, now())).await?;
            return Err(Refusal::NoDevice { reason: reasons.join(" ") }.into());
        }
    }
    waiting.disarm();
    answer(&pool, job).await
}

/// Checks what does not need the model; the model's program checks the rest. Returns the model's name.
fn check(body: &[u8]) -> Result<String, ApiError> {
    let fields: Fields = parse_json(body)?;
    let missing = |name: &str| {
        ApiError::invalid(name, "missing_required_parameter", format!("Missing required parameter: '{name}'."))
    };
    let name = match fields.model {
        Some(Value::String(name)) => name,
        None | Some(Value::Null) => return Err(missing("model")),
        Some(_) => return Err(ApiError::invalid("model", "invalid_type", "'model' must be a string.")),
    };
    let count = match &fields.input {
        None | Some(Value::Null) => return Err(missing("input")),
        // A list of numbers is the tokens of one text.
        Some(Value::Array(list)) if !list.first().is_some_and(Value::is_number) => list.len(),
        Some(_) => 1,
    };
    if count > INPUTS_MAX {
        let message = format!(
            "'input' has {count} entries; a synchronous request may have at most {INPUTS_MAX}. Use /v1/batches for more."
        );
        return Err(ApiError::invalid("input", "too_many_inputs", message));
    }
    Ok(name)
}

fn check_dimensions(body: &[u8], model: &Model) -> Result<(), ApiError> {
    let fields: Fields = parse_json(body)?;
    match fields.dimensions {
        None | Some(Value::Null) => Ok(()),
        Some(asked) if asked.as_u64() == Some(u64::from(model.dimensions)) => Ok(()),
        Some(_) => {
            let message = format!(
                "'dimensions' is not supported by '{}': its embeddings always have {}. Leave it out.",
                model.name, model.dimensions
            );
            Err(ApiError::invalid("dimensions", "unsupported_parameter", message))
        }
    }
}

/// Stores the request as the only record of the only task.
async fn prepare(pool: &Arc<Shared>, body: &[u8]) -> Result<Prepared, ApiError> {
    // A line break within JSON stands between tokens only.
    let mut record: Vec<u8> =
        body.trim_ascii().iter().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { *b }).collect();
    record.push(b'\n');
    let (digest, len) = (Digest::of(&record), record.len() as u32);
    let blobs = pool.blobs.clone();
    let stored = tokio::task::spawn_blocking(move || blobs.put_bytes(&record)).await;
    stored.map_err(|error| ApiError::internal("store a request", &error))??;
    let task = TaskInput { digest, offset: 0, len, records: 1 };
    Ok(Prepared { blob: digest, size: Size(u64::from(len)), records: 1, tasks: vec![task] })
}

struct CancelOnDrop {
    pool: Arc<Shared>,
    job: JobId,
    armed: bool,
}

impl CancelOnDrop {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if self.armed {
            self.pool.handle.tell(Input::JobCancel { owner: None, job: self.job });
        }
    }
}

/// The answer to a request that has ended.
async fn answer(pool: &Arc<Shared>, job: JobId) -> Result<Response, ApiError> {
    let read = move |_: &Coordinator, store: &mut dyn Store| {
        Ok::<_, StoreError>((store.job(job)?, store.settled(job)?, store.attempts(job, 20)?))
    };
    let found = pool.handle.read(read).await?;
    let (record, settled, attempts) = found.map_err(|error| ApiError::internal("look a request up", &error))?;
    let ending = record.and_then(|record| record.ending).map(|(ending, _)| ending);
    let failed = |message: String| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "request_failed", message);
    if let Some((_, settled)) = settled.into_iter().next() {
        let blobs = pool.blobs.clone();
        let read = move || crate::pool::work::read_result(&*blobs, &settled.report.result);
        let outcomes = tokio::task::spawn_blocking(read).await;
        let outcomes = outcomes.map_err(|error| ApiError::internal("read a result", &error))?;
        let outcomes = outcomes.map_err(|error| ApiError::internal("read a result", &error))?;
        let outcome = outcomes.as_deref().and_then(<[_]>::first).ok_or_else(|| failed("The result is lost.".into()))?;
        let (status, body) = crate::pool::assemble::response(outcome);
        let mut response = Response::new(Body::from(String::from(Box::<str>::from(body))));
        *response.status_mut() = StatusCode::from_u16(status).expect("200, 400 and 500 are statuses");
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        return Ok(response);
    }
    Err(match ending {
        Some(Ending::Failed { errors }) => {
            failed(errors.into_iter().map(|error| error.message).collect::<Vec<_>>().join("; "))
        }
        Some(Ending::Completed) => {
            let attempts: Vec<_> = attempts.into_iter().map(|(_, attempt)| attempt).collect();
            failed(crate::pool::assemble::given_up(&attempts))
        }
        Some(Ending::Expired) => AskError::Refused(Refusal::NoDevice {
            reason: format!("none finished it within {} s", pool.config.sync_wait_seconds),
        })
        .into(),
        Some(Ending::Cancelled) | None => failed("The request was cancelled by the pool's operator.".into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        assert_eq!(check(br#"{"model":"m","input":"x"}"#).unwrap(), "m");
        assert_eq!(check(br#"{"model":"m","input":[1,2]}"#).unwrap(), "m");
        let many = format!(r#"{{"model":"m","input":[{}"x"]}}"#, r#""x","#.repeat(64));
        let tokens = format!(r#"{{"model":"m","input":[{}1]}}"#, "1,".repeat(100));
        assert_eq!(check(tokens.as_bytes()).unwrap(), "m");
        for (body, code) in [
            ("{", "invalid_json"),
            ("[\"m\",\"x\",1]", "invalid_json"),
            (r#"{"input":"x"}"#, "missing_required_parameter"),
            (r#"{"model":1,"input":"x"}"#, "invalid_type"),
            (r#"{"model":"m"}"#, "missing_required_parameter"),
            (&many, "too_many_inputs"),
        ] {
            let error = check(body.as_bytes()).expect_err(body);
            assert_eq!((error.status.as_u16(), error.code.as_deref()), (400, Some(code)), "{body}");
        }
    }
}
