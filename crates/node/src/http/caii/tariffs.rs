//! Tariffs: those that hold, the next one, and what another one would have paid.

use super::accounts::{SINCE, each_receipt, grow, query};
use super::receipts::owner_of;
use crate::http::App;
use crate::http::auth::{Admin, Caller};
use crate::http::bodies::JsonBody;
use crate::http::error::ApiError;
use crate::pool::actor::now;
use crate::views::{List, Simulated, SimulatedAccount, SimulationView, TariffPropose, TariffView};
use axum::Json;
use axum::extract::{Query, State};
use caii_coordinator::Input;
use caii_ledger::tariff_json;
use caii_model::{Account, JobId, MicroCredits, Millis, Tariff, TariffTerms, Timestamp, Verdict};
use caii_store::ReceiptsOf;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A tariff is known so long before it holds, unless it is said that it need not be.
const NOTICE: Millis = Millis(24 * 3_600_000);
/// One that holds at once begins when its publication is surely over.
const AT_ONCE: Millis = Millis(2_000);

fn view(tariff: &Tariff, in_force: Option<u32>, now: Timestamp) -> TariffView {
    let terms = tariff.terms();
    let state = match in_force {
        Some(number) if number == terms.number => "in-force",
        _ if terms.effective_from > now => "coming",
        _ => "past",
    };
    TariffView {
        number: terms.number,
        state: state.to_owned(),
        digest: tariff.digest().to_string(),
        effective_from_ms: terms.effective_from.0,
        tariff: serde_json::from_str(&tariff_json::to_json(tariff)).expect("a tariff's JSON is JSON"),
    }
}

async fn known(pool: &crate::pool::Shared) -> Result<(Vec<Tariff>, Option<u32>, Timestamp), ApiError> {
    let tariffs = pool.handle.read(|coordinator, _| coordinator.catalog().books().tariffs().to_vec()).await?;
    let now = now();
    // Of those whose date has come, the last one that was published.
    let in_force = tariffs.iter().rev().map(Tariff::terms).find(|terms| terms.effective_from <= now);
    let in_force = in_force.map(|terms| terms.number);
    Ok((tariffs, in_force, now))
}

pub(crate) async fn list(State(pool): App, _: Caller) -> Result<Json<List<TariffView>>, ApiError> {
    let (tariffs, in_force, now) = known(&pool).await?;
    let data = tariffs.iter().rev().map(|tariff| view(tariff, in_force, now)).collect();
    Ok(Json(List { data, has_more: false }))
}

/// The terms of a proposal, as the pool's next tariff.
fn terms(body: &TariffPropose, number: u32) -> Result<TariffTerms, ApiError> {
    let mut json = body.tariff.clone();
    let Some(fields) = json.as_object_mut() else {
        return Err(ApiError::invalid("tariff", "field-invalid", "`tariff` must be the JSON of a tariff."));
    };
    fields.insert("number".to_owned(), number.into());
    let tariff = tariff_json::from_json(json.to_string().as_bytes());
    let tariff = tariff.map_err(|error| ApiError::invalid("tariff", "field-invalid", format!("{error}.")))?;
    Ok(tariff.terms().clone())
}

pub(crate) async fn propose(
    State(pool): App,
    _: Admin,
    JsonBody(body): JsonBody<TariffPropose>,
) -> Result<Json<TariffView>, ApiError> {
    let (tariffs, _, begun) = known(&pool).await?;
    let number = tariffs.last().map_or(1, |last| last.terms().number + 1);
    let mut terms = terms(&body, number)?;
    if body.now {
        terms.effective_from = begun + AT_ONCE;
    } else if terms.effective_from < begun + NOTICE {
        let message = "A tariff is published at least 24 hours before it holds: give a later date, or say that it is to \
                       begin at once (`--now`).";
        return Err(ApiError::invalid("tariff", "notice_too_short", message));
    }
    pool.handle.ask(Input::TariffEnact(terms)).await?;
    let (tariffs, in_force, now) = known(&pool).await?;
    let enacted = tariffs.iter().find(|tariff| tariff.terms().number == number);
    enacted.map(|tariff| Json(view(tariff, in_force, now))).ok_or_else(|| {
        ApiError::not_found("tariff_gone", "The tariff was taken and is not there, which is a defect in CAII.")
    })
}

#[derive(Debug, Deserialize)]
pub(crate) struct Span {
    since_ms: Option<u64>,
    until_ms: Option<u64>,
}

pub(crate) async fn simulate(
    State(pool): App,
    _: Admin,
    asked: Result<Query<Span>, axum::extract::rejection::QueryRejection>,
    JsonBody(body): JsonBody<TariffPropose>,
) -> Result<Json<SimulationView>, ApiError> {
    let asked = query(asked)?;
    let until = asked.until_ms.map_or_else(now, Timestamp);
    let since = asked.since_ms.map_or(until - SINCE, Timestamp);
    let terms = terms(&body, 1)?;
    let tariff = Tariff::new(terms);
    let tariff = tariff.map_err(|error| ApiError::invalid("tariff", "field-invalid", format!("{error}.")))?;
    let mut owners: BTreeMap<Account, Simulated> = BTreeMap::new();
    let mut jobs: BTreeMap<JobId, Simulated> = BTreeMap::new();
    let mut receipts = 0_u64;
    each_receipt(&pool, ReceiptsOf::Everybody, since, until, |found| {
        let (Verdict::Accepted(accepted), None) = (&found.receipt.verdict, &found.voided) else { return Ok(()) };
        receipts += 1;
        let would = found.receipt.recompute(&tariff).map_err(|error| {
            ApiError::invalid("tariff", "field-invalid", format!("{error}: the rates are too high for real work."))
        })?;
        let would = would.expect("it is accepted");
        add(owners.entry(found.receipt.owner.clone()).or_default(), accepted.reward.total, would.reward.total)?;
        add(jobs.entry(found.receipt.claim.task.job).or_default(), accepted.charge, would.price.total)
    })
    .await?;
    let mut requesters: BTreeMap<Account, Simulated> = BTreeMap::new();
    for (job, sums) in jobs {
        let Some(owner) = owner_of(&pool, job).await? else { continue };
        let of = requesters.entry(owner).or_default();
        add(of, MicroCredits(sums.was_micro_credits), MicroCredits(sums.would_be_micro_credits))?;
    }
    Ok(Json(SimulationView {
        since_ms: since.0,
        until_ms: until.0,
        receipts,
        earned: total(&owners)?,
        charged: total(&requesters)?,
        owners: listed(owners),
        requesters: listed(requesters),
    }))
}

fn add(sums: &mut Simulated, was: MicroCredits, would: MicroCredits) -> Result<(), ApiError> {
    grow(&mut sums.was_micro_credits, was)?;
    grow(&mut sums.would_be_micro_credits, would)
}

fn total(accounts: &BTreeMap<Account, Simulated>) -> Result<Simulated, ApiError> {
    accounts.values().try_fold(Simulated::default(), |mut sum, of| {
        add(&mut sum, MicroCredits(of.was_micro_credits), MicroCredits(of.would_be_micro_credits))?;
        Ok(sum)
    })
}

fn listed(accounts: BTreeMap<Account, Simulated>) -> Vec<SimulatedAccount> {
    accounts.into_iter().map(|(account, sums)| SimulatedAccount { account: account.to_string(), sums }).collect()
}
