//! Payouts: what members prefer, runs of payments, approvals, what the bank answered.

use super::accounts::{view as account_view, whose};
use super::parse_account;
use crate::http::App;
use crate::http::auth::{Admin, Caller};
use crate::http::bodies::{JsonBody, read_limited};
use crate::http::error::{ApiError, unexpected};
use crate::pool::Shared;
use crate::pool::actor::now;
use crate::views::{AccountView, List, PaymentView, PayoutAsk, PayoutPrefer, PayoutSettle, PayoutView};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use caii_coordinator::{Coordinator, Input, PayoutDraft, PayoutPreference, Reply};
use caii_ledger::PayoutRun;
use caii_model::{Account, Millis, Timestamp};
use caii_payout::{Payee, SepaText};
use caii_store::{Store, StoreError};
use caii_trust::Envelope;
use caii_trust::dsse::ENVELOPE_SIZE_MAX;

/// Banks are asked to pay on the next day when nobody says when.
const EXECUTION: Millis = Millis(24 * 3_600_000);

pub(crate) async fn prefer(
    State(pool): App,
    caller: Caller,
    JsonBody(body): JsonBody<PayoutPrefer>,
) -> Result<Json<AccountView>, ApiError> {
    let account = whose(&caller, body.account.as_deref())?;
    let preference = preference(&body)?;
    pool.handle.ask(Input::PayoutPrefer { account: account.clone(), preference }).await?;
    Ok(Json(pool.handle.read(move |coordinator, _| account_view(coordinator, &account)).await?))
}

fn preference(body: &PayoutPrefer) -> Result<PayoutPreference, ApiError> {
    let invalid = |param, message: String| ApiError::invalid(param, "field-invalid", message);
    let without_bank = |preference| match (&body.name, &body.iban, &body.bic) {
        (None, None, None) => Ok(preference),
        _ => Err(invalid("iban", "A bank account is for the preference `direct` alone.".into())),
    };
    match body.preference.as_str() {
        "credits" => without_bank(PayoutPreference::Credits),
        "priority" => without_bank(PayoutPreference::Priority),
        "discount" => without_bank(PayoutPreference::Discount),
        "direct" => {
            let (Some(name), Some(iban)) = (&body.name, &body.iban) else {
                let message = "To be paid, give the bank account's holder (`--name`) and its IBAN (`--iban`).";
                return Err(invalid("iban", message.into()));
            };
            let name = SepaText::new(name, SepaText::NAME_MAX);
            let bic = body.bic.as_deref().map(str::parse).transpose();
            Ok(PayoutPreference::Direct(Payee {
                name: name.map_err(|error| invalid("name", format!("The holder's name: {error}.")))?,
                iban: iban.parse().map_err(|error| invalid("iban", format!("The IBAN: {error}.")))?,
                bic: bic.map_err(|error| invalid("bic", format!("The BIC: {error}.")))?,
            }))
        }
        other => Err(invalid("preference", format!("`{other}` is none of credits, direct, priority and discount."))),
    }
}

fn view(coordinator: &Coordinator, draft: &PayoutDraft) -> PayoutView {
    let sent = &draft.sent;
    let waits = coordinator.catalog().payout_draft().is_some_and(|draft| draft.sent.run == sent.run);
    let open = coordinator.catalog().books().payouts().get(&sent.run);
    let state = match (waits, open) {
        (true, _) => "waits",
        (false, Some(_)) => "sent",
        (false, None) => "settled",
    };
    let payment = |(account, amount): &(Account, caii_payout::MinorUnits)| PaymentView {
        account: account.to_string(),
        amount: sent.currency.write(*amount),
        open: (!waits).then(|| open.is_some_and(|open| open.contains_key(account))),
    };
    let statement = draft.statement(coordinator.pool());
    let rules = coordinator.config().payout.as_ref();
    let envelope = draft.approval.as_deref().and_then(|bytes| Envelope::from_json(bytes).ok());
    let approved = rules.zip(envelope).map(|(rules, envelope)| rules.approvers.who(&statement, &envelope));
    PayoutView {
        run: sent.run.0,
        state: state.to_owned(),
        at_ms: sent.at.0,
        currency: sent.currency.to_string(),
        total: sent.currency.write(statement.total),
        payments: sent.payments.iter().map(payment).collect(),
        pain001: sent.pain001.to_string(),
        csv: sent.csv.to_string(),
        approved_by: approved.unwrap_or_default(),
        approvals_needed: rules.map_or(0, |rules| rules.approvers.threshold().0),
        statement: String::from_utf8_lossy(&statement.to_json()).into_owned(),
    }
}

fn parse_run(text: &str) -> Result<PayoutRun, ApiError> {
    text.parse().map(PayoutRun).map_err(|_| no_such_run(text))
}

fn no_such_run(run: impl std::fmt::Display) -> ApiError {
    ApiError::not_found("payout-unknown", format!("there is no payout run {run}; `caii payout list` shows all"))
}

async fn find<T: Send + 'static>(
    pool: &Shared,
    run: PayoutRun,
    of: impl FnOnce(&Coordinator, PayoutDraft) -> T + Send + 'static,
) -> Result<T, ApiError> {
    let read = move |coordinator: &Coordinator, store: &mut dyn Store| {
        Ok::<_, StoreError>(store.books().payout(run)?.map(|draft| of(coordinator, draft)))
    };
    let found = pool.handle.read(read).await?.map_err(|error| ApiError::internal("look a payout up", &error))?;
    found.ok_or_else(|| no_such_run(run.0))
}

/// Newest first.
pub(crate) async fn list(State(pool): App, _: Admin) -> Result<Json<List<PayoutView>>, ApiError> {
    let read = |coordinator: &Coordinator, store: &mut dyn Store| {
        let last = coordinator.catalog().books().payout_last().0 + 1;
        let mut found = Vec::new();
        for run in (1..=last).rev().take(LISTED_MAX) {
            found.extend(store.books().payout(PayoutRun(run))?.map(|draft| view(coordinator, &draft)));
        }
        Ok::<_, StoreError>(List { data: found, has_more: last > LISTED_MAX as u64 })
    };
    let list = pool.handle.read(read).await?.map_err(|error| ApiError::internal("list payouts", &error))?;
    Ok(Json(list))
}

const LISTED_MAX: usize = 100;

pub(crate) async fn create(
    State(pool): App,
    _: Admin,
    JsonBody(body): JsonBody<PayoutAsk>,
) -> Result<Json<PayoutView>, ApiError> {
    let execution = body.execution_ms.map_or_else(|| now() + EXECUTION, Timestamp);
    match pool.handle.ask(Input::PayoutPrepare { execution, credit_notes: body.credit_notes }).await? {
        Reply::Payout(run) => find(&pool, run, |coordinator, draft| view(coordinator, &draft)).await.map(Json),
        other => Err(unexpected(&other)),
    }
}

pub(crate) async fn retrieve(
    State(pool): App,
    _: Admin,
    Path(run): Path<String>,
) -> Result<Json<PayoutView>, ApiError> {
    find(&pool, parse_run(&run)?, |coordinator, draft| view(coordinator, &draft)).await.map(Json)
}

/// A run's file, for approvers and for the bank.
pub(crate) async fn file(
    State(pool): App,
    _: Admin,
    Path((run, file)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let draft = find(&pool, parse_run(&run)?, |_, draft| draft).await?;
    let (bytes, kind) = match file.as_str() {
        "pain001.xml" if !draft.pain001.is_empty() => (draft.pain001, "application/xml"),
        "payments.csv" => (draft.csv, "text/csv"),
        _ => return Err(ApiError::not_found("unknown_url", format!("Payout run {run} has no file {file}."))),
    };
    let mut response = Response::new(Body::from(bytes));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

pub(crate) async fn approve(
    State(pool): App,
    _: Admin,
    Path(run): Path<String>,
    body: Body,
) -> Result<Json<PayoutView>, ApiError> {
    let run = parse_run(&run)?;
    let envelope = read_limited(body, ENVELOPE_SIZE_MAX).await?.to_vec();
    pool.handle.ask(Input::PayoutApprove { run, envelope }).await?;
    find(&pool, run, |coordinator, draft| view(coordinator, &draft)).await.map(Json)
}

pub(crate) async fn send(State(pool): App, _: Admin, Path(run): Path<String>) -> Result<Json<PayoutView>, ApiError> {
    let run = parse_run(&run)?;
    pool.handle.ask(Input::PayoutSend { run }).await?;
    find(&pool, run, |coordinator, draft| view(coordinator, &draft)).await.map(Json)
}

pub(crate) async fn settle(
    State(pool): App,
    _: Admin,
    Path(run): Path<String>,
    JsonBody(body): JsonBody<PayoutSettle>,
) -> Result<Json<PayoutView>, ApiError> {
    let run = parse_run(&run)?;
    let accounts = |names: &[String]| names.iter().map(|name| parse_account(name)).collect::<Result<Vec<_>, _>>();
    let (mut paid, failed) = (accounts(&body.paid)?, accounts(&body.failed)?);
    if body.paid_the_rest {
        let read = move |coordinator: &Coordinator, _: &mut dyn Store| {
            let open = coordinator.catalog().books().payouts().get(&run);
            open.map(|open| open.keys().cloned().collect::<Vec<Account>>()).unwrap_or_default()
        };
        let open = pool.handle.read(read).await?;
        paid = open.into_iter().filter(|account| !failed.contains(account)).collect();
    }
    if paid.is_empty() && failed.is_empty() {
        let message = format!("Say whom the bank paid and whom not: run {} waits for nobody else.", run.0);
        return Err(ApiError::invalid("paid", "field-invalid", message));
    }
    pool.handle.ask(Input::PayoutSettle { run, paid, failed }).await?;
    find(&pool, run, |coordinator, draft| view(coordinator, &draft)).await.map(Json)
}
