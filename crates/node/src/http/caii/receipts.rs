//! Receipts: whose work was accepted, what it earned, what became of it.

use super::accounts::{query, whose};
use crate::http::App;
use crate::http::auth::Caller;
use crate::http::error::ApiError;
use crate::http::files::page_limit;
use crate::pool::Shared;
use crate::views::{List, ReceiptPaid, ReceiptView, ReceiptVoided};
use axum::Json;
use axum::extract::{Path, Query, State};
use caii_coordinator::Coordinator;
use caii_model::{Account, DeviceId, JobId, Refusal, Verdict};
use caii_store::{LoggedReceipt, ReceiptQuery, ReceiptsOf, Store, StoreError};
use serde::Deserialize;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn view(coordinator: &Coordinator, found: &LoggedReceipt) -> ReceiptView {
    let LoggedReceipt { entry, receipt, paid, voided } = found;
    let claim = &receipt.claim;
    let (verdict, reward) = match &receipt.verdict {
        Verdict::Accepted(accepted) => ("accepted", Some(accepted.reward)),
        Verdict::Void(reason) => (reason.as_str(), None),
    };
    let tariffs = coordinator.catalog().books().tariffs();
    let tariff = tariffs.iter().find(|tariff| tariff.digest() == receipt.tariff);
    ReceiptView {
        device: claim.device.to_string(),
        sequence: claim.sequence,
        entry: *entry,
        at_ms: receipt.at.0,
        owner: receipt.owner.to_string(),
        task: claim.task.to_string(),
        workload: claim.workload.to_string(),
        workload_name: coordinator.workload(&claim.workload).map(|manifest| manifest.name.clone()),
        verdict: verdict.to_owned(),
        items: claim.items,
        fuel: claim.fuel.0,
        reward_micro_credits: reward.map_or(0, |reward| reward.total.0),
        held_micro_credits: reward.map_or(0, |reward| reward.held.0),
        paid: paid.map(|paid| ReceiptPaid { entry: paid.entry, transfer: paid.transfer.to_string(), at_ms: paid.at.0 }),
        voided: voided.map(|voided| ReceiptVoided {
            entry: voided.entry,
            reason: voided.reason.as_str().to_owned(),
            words: voided.reason.to_string(),
            at_ms: voided.at.0,
        }),
        canonical: hex(&receipt.to_canonical()),
        tariff: tariff.map_or_else(String::new, |tariff| hex(&tariff.to_canonical())),
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct ListQuery {
    account: Option<String>,
    device: Option<String>,
    job: Option<String>,
    before: Option<u64>,
    limit: Option<usize>,
}

pub(crate) async fn list(
    State(pool): App,
    caller: Caller,
    asked: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<List<ReceiptView>>, ApiError> {
    let asked = query(asked)?;
    let limit = page_limit(asked.limit, 100, ReceiptQuery::LIMIT_MAX - 1)?;
    let of = match (&asked.device, &asked.job, &asked.account) {
        (Some(device), None, None) => ReceiptsOf::Device(own_device(&pool, &caller, device).await?),
        (None, Some(job), None) => ReceiptsOf::Job(own_job(&pool, &caller, job).await?),
        (None, None, Some(_)) => ReceiptsOf::Owner(whose(&caller, asked.account.as_deref())?),
        (None, None, None) => caller.scope().map_or(ReceiptsOf::Everybody, ReceiptsOf::Owner),
        _ => {
            let message = "Give one of `account`, `device` and `job`, not several.";
            return Err(ApiError::invalid("account", "field-invalid", message));
        }
    };
    let until = asked.before.unwrap_or(u64::MAX);
    let query = ReceiptQuery { of, from: 0, until, newest_first: true, limit: limit + 1 };
    let read = move |coordinator: &Coordinator, store: &mut dyn Store| {
        let found = store.books().receipts(&query)?;
        Ok::<_, StoreError>(found.iter().map(|receipt| view(coordinator, receipt)).collect::<Vec<_>>())
    };
    let mut data = pool.handle.read(read).await?.map_err(|error| ApiError::internal("list receipts", &error))?;
    let has_more = data.len() > limit;
    data.truncate(limit);
    Ok(Json(List { data, has_more }))
}

fn unknown_device(id: &str) -> ApiError {
    ApiError::not_found("device-unknown", format!("there is no device {id} of yours; `caii device list` shows all"))
}

async fn own_device(pool: &Shared, caller: &Caller, id: &str) -> Result<DeviceId, ApiError> {
    let device: DeviceId = id.parse().map_err(|_| unknown_device(id))?;
    let owner = pool.handle.read(move |coordinator, _| coordinator.device(device).map(|d| d.owner.clone())).await?;
    let may = |owner: &Account| caller.scope().is_none_or(|own| own == *owner);
    owner.filter(may).map(|_| device).ok_or_else(|| unknown_device(id))
}

async fn own_job(pool: &Shared, caller: &Caller, id: &str) -> Result<JobId, ApiError> {
    let job = super::jobs::parse_id(id)?;
    let owner = owner_of(pool, job).await?;
    let may = |owner: &Account| caller.scope().is_none_or(|own| own == *owner);
    owner.filter(may).map(|_| job).ok_or_else(|| Refusal::JobUnknown(job).into())
}

/// Whose job it is.
pub(super) async fn owner_of(pool: &Shared, job: JobId) -> Result<Option<Account>, ApiError> {
    let read = move |coordinator: &Coordinator, store: &mut dyn Store| {
        if let Some(spec) = coordinator.job_spec(job) {
            return Ok(Some(spec.owner.clone()));
        }
        Ok::<_, StoreError>(store.job(job)?.map(|record| record.spec.owner))
    };
    pool.handle.read(read).await?.map_err(|error| ApiError::internal("look a job up", &error))
}

pub(crate) async fn retrieve(
    State(pool): App,
    caller: Caller,
    Path((device, sequence)): Path<(String, u64)>,
) -> Result<Json<ReceiptView>, ApiError> {
    let unknown = || {
        let message = format!("there is no receipt {device}/{sequence} of yours; `caii receipt list` shows all");
        ApiError::not_found("receipt-unknown", message)
    };
    let id: DeviceId = device.parse().map_err(|_| unknown())?;
    let read = move |coordinator: &Coordinator, store: &mut dyn Store| {
        let found = store.books().receipt(id, sequence)?;
        Ok::<_, StoreError>(
            found.map(|found| (found.receipt.owner.clone(), found.receipt.claim.task.job, view(coordinator, &found))),
        )
    };
    let found = pool.handle.read(read).await?.map_err(|error| ApiError::internal("look a receipt up", &error))?;
    let (owner, job, view) = found.ok_or_else(unknown)?;
    // Whoever lent the device, and whoever paid.
    let may = match caller.scope() {
        None => true,
        Some(own) => own == owner || owner_of(&pool, job).await? == Some(own),
    };
    if may { Ok(Json(view)) } else { Err(unknown()) }
}
