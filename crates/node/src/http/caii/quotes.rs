//! What a job would cost. Nothing is reserved; the input is checked and split as a job's is.

use super::accounts::parse_credits;
use crate::http::App;
use crate::http::auth::Caller;
use crate::http::batches::{find_workload, verification};
use crate::http::bodies::{JsonBody, parse_digest};
use crate::http::error::ApiError;
use crate::http::files::{no_such_file, parse_file_id};
use crate::pool::Shared;
use crate::pool::actor::{describe, now};
use crate::pool::records::Format;
use crate::pool::work::{Splitter, ToSplit};
use crate::views::{EstimateView, QuoteAsk, QuoteView};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use caii_coordinator::{Coordinator, Past};
use caii_ledger::CreditLimit;
use caii_model::{Account, Digest, Endpoint, FileMeta, InputFormat, Prepared, Verification};
use caii_store::{Store, StoreError};
use caii_verify::{Depth, error_bound};

/// The share of colluding capacity for which a bound is stated.
const COLLUDING: f64 = 0.1;
/// In the long run one item in a hundred is run again under `audit` and `spot`.
const CALM_PPM: u32 = 10_000;
/// How many earlier tasks an estimate looks at.
const PAST_MAX: usize = 200;

pub(crate) async fn create(
    State(pool): App,
    caller: Caller,
    JsonBody(body): JsonBody<QuoteAsk>,
) -> Result<Json<QuoteView>, ApiError> {
    let file_id = parse_file_id(&body.input_file_id)?;
    let scope = Some(caller.account.clone());
    let file = pool.handle.read(move |coordinator, _| coordinator.file(scope.as_ref(), file_id).cloned()).await?;
    let file = file.ok_or_else(|| no_such_file(file_id))?;
    let (workload, format, batch) = what(&pool, &body, &file).await?;
    let verification = verification(&pool, body.verify.as_deref())?;
    let limit = body.max_price.as_deref().map(|text| parse_credits("max_price", text)).transpose()?;
    let prepared = split(&pool, workload, format, batch, body.records_per_task, file).await?;
    let records: Vec<u32> = prepared.tasks.iter().map(|task| task.records).collect();
    let account = caller.account;
    let read = move |coordinator: &Coordinator, store: &mut dyn Store| {
        let past = store.books().receipts_of_workload(workload, PAST_MAX)?;
        let past = Past::of(&past);
        Ok::<_, StoreError>(quote(coordinator, &account, workload, verification, &records, past))
    };
    let quote = pool.handle.read(read).await?.map_err(|error| ApiError::internal("look earlier work up", &error))?;
    let mut quote = quote?;
    quote.records = prepared.records;
    quote.above_limit = limit.is_some_and(|limit| quote.price_max_micro_credits > limit.0);
    Ok(Json(quote))
}

/// What would run, on what.
async fn what(pool: &Shared, body: &QuoteAsk, file: &FileMeta) -> Result<(Digest, Format, bool), ApiError> {
    let invalid = |param, message: &str| ApiError::invalid(param, "field-invalid", message.to_owned());
    match (&body.workload, &body.format, &body.endpoint) {
        (Some(workload), Some(format), None) => {
            let format = match format.as_str() {
                "jsonl" => InputFormat::JsonLines,
                "lines" => InputFormat::Lines,
                _ => return Err(invalid("format", "`format` must be `jsonl` or `lines`.")),
            };
            Ok((parse_digest(workload)?, Format::Program(format), false))
        }
        (None, None, Some(endpoint)) => {
            let endpoint = Endpoint::from_path(endpoint);
            let endpoint = endpoint.ok_or_else(|| invalid("endpoint", "`endpoint` must be `/v1/embeddings`."))?;
            Ok((find_workload(pool, file.digest, endpoint).await?, Format::Batch(endpoint), true))
        }
        _ => Err(invalid("workload", "Give `workload` and `format` for a program, or `endpoint` for a batch.")),
    }
}

async fn split(
    pool: &Shared,
    workload: Digest,
    format: Format,
    batch: bool,
    records_per_task: Option<u32>,
    file: FileMeta,
) -> Result<Prepared, ApiError> {
    let read = move |coordinator: &Coordinator, _: &mut dyn Store| {
        let scope = coordinator.workload(&workload)?.scope;
        let models = coordinator.models().filter(|model| model.workload == workload);
        Some((scope, models.map(|model| model.name.clone()).collect(), coordinator.slots_present()))
    };
    let found = pool.handle.read(read).await?;
    let (scope, models, slots) = found.ok_or(caii_model::Refusal::WorkloadUnknown(workload))?;
    let to_split = ToSplit { batch, format, records_per_task, file, scope, models, slots };
    let (blobs, config) = (pool.blobs.clone(), pool.config.clone());
    let split = move || {
        let (records_per_job_max, tasks_per_job_max) = (config.records_per_job_max, config.tasks_per_job_max);
        Splitter { blobs: &*blobs, records_per_job_max, tasks_per_job_max }.split(&to_split)
    };
    let split =
        tokio::task::spawn_blocking(split).await.map_err(|error| ApiError::internal("split an input", &error))?;
    let split = split.map_err(|error| {
        let status = StatusCode::INSUFFICIENT_STORAGE;
        ApiError::new(status, "storage", format!("The pool cannot split the input now: {}", describe(&error)))
    })?;
    split.map_err(|errors| match errors.into_iter().next() {
        Some(error) => {
            let at = error.line.map_or_else(String::new, |line| format!("Line {line}: "));
            ApiError::invalid(error.param.as_deref().unwrap_or(""), &error.code, format!("{at}{}", error.message))
        }
        None => ApiError::invalid("input_file_id", "empty_file", "The input file is empty."),
    })
}

fn quote(
    coordinator: &Coordinator,
    account: &Account,
    workload: Digest,
    verification: Verification,
    records: &[u32],
    past: Past,
) -> Result<QuoteView, ApiError> {
    let quote = coordinator.quote(workload, verification, records.iter().copied(), now())?;
    let books = coordinator.catalog().books();
    let tariff = books.tariffs().iter().find(|tariff| tariff.digest() == quote.tariff);
    let how = coordinator.checked_how(workload, verification).unwrap_or(verification);
    let balance = coordinator.account(account).balance;
    let floor = match books.opened().map(|opened| opened.credit_limit) {
        Some(CreditLimit::Below(limit)) => Some(-i128::from(limit.0)),
        Some(CreditLimit::Unlimited) | None => None,
    };
    let after = i128::from(balance.0) - i128::from(quote.total.0);
    let estimate = coordinator.estimate(workload, verification, records, &quote, past);
    let slots = coordinator.slots_present();
    let replication_ppm = replication(how);
    let estimate = estimate.map(|estimate| EstimateView {
        tasks_seen: past.tasks,
        price_micro_credits: estimate.price.0,
        fuel: estimate.fuel.0,
        duration_ms: {
            let work = u128::from(estimate.work.0) * u128::from(1_000_000 + replication_ppm) / 1_000_000;
            work.checked_div(u128::from(slots)).and_then(|each| u64::try_from(each).ok())
        },
        slots,
    });
    Ok(QuoteView {
        price_max_micro_credits: quote.total.0,
        above_limit: false,
        balance_micro_credits: balance.0,
        affordable: floor.is_none_or(|floor| after >= floor),
        records: 0,
        tasks: quote.tasks,
        copies: quote.copies,
        fuel_max: quote.fuel.0,
        tariff: tariff.map_or(0, |tariff| tariff.terms().number),
        tariff_digest: quote.tariff.to_string(),
        verification: how.to_string(),
        replication_ppm,
        error_bound: match how {
            Verification::Audit { depth } => error_bound(COLLUDING, Depth(depth)),
            // All copies must agree: with so many owners in collusion they do.
            Verification::Quorum { results } => Some(COLLUDING.powi(i32::from(results))),
            Verification::Spot | Verification::Off => None,
        },
        estimate,
    })
}

/// What is run again, where devices are known.
fn replication(how: Verification) -> u32 {
    match how {
        Verification::Off => 0,
        Verification::Spot | Verification::Audit { .. } => CALM_PPM,
        Verification::Quorum { results } => 1_000_000 * u32::from(results.saturating_sub(1)),
    }
}
