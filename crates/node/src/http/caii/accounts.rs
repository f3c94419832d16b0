//! Accounts: what they have, what moved, what devices earned.

use super::parse_account;
use crate::http::App;
use crate::http::auth::{Admin, Caller};
use crate::http::bodies::JsonBody;
use crate::http::error::ApiError;
use crate::http::files::page_limit;
use crate::pool::Shared;
use crate::pool::actor::now;
use crate::views::{AccountView, EarningsRow, EarningsView, StatementLineView, StatementView, TopUp, TrialBalanceView};
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use caii_coordinator::{Coordinator, Input};
use caii_ledger::{CreditLimit, GrantKey, LedgerAccount, Purpose, TransferKind, events};
use caii_model::{Account, Digest, MicroCredits, Millis, Timestamp, Verdict, VoidReason};
use caii_store::{LoggedReceipt, ReceiptQuery, ReceiptsOf, STATEMENT_LIMIT_MAX, Store, StoreError};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Receipts that are read at a time: others are served in between.
pub(super) const RECEIPTS_AT_A_TIME: usize = 500;
/// What is looked at when nobody says since when.
pub(super) const SINCE: Millis = Millis(30 * 24 * 3_600_000);
const DAY: u64 = 86_400_000;

type Asked<T> = Result<Query<T>, axum::extract::rejection::QueryRejection>;

pub(super) fn query<T>(asked: Asked<T>) -> Result<T, ApiError> {
    let Query(query) = asked.map_err(|error| ApiError::invalid("", "invalid_query", error.body_text()))?;
    Ok(query)
}

/// The account that is asked about: the caller's own, or for an admin any.
pub(super) fn whose(caller: &Caller, asked: Option<&str>) -> Result<Account, ApiError> {
    let Some(asked) = asked else { return Ok(caller.account.clone()) };
    let account = parse_account(asked)?;
    match caller.scope() {
        Some(own) if own != account => {
            let message = format!("This key is of {own} and sees that account alone; an admin's key sees {account}.");
            Err(ApiError::new(StatusCode::FORBIDDEN, "other_account", message))
        }
        _ => Ok(account),
    }
}

pub(super) fn view(coordinator: &Coordinator, account: &Account) -> AccountView {
    let has = coordinator.account(account);
    let limit = coordinator.catalog().books().opened().map(|opened| opened.credit_limit);
    AccountView {
        account: account.to_string(),
        balance_micro_credits: has.balance.0,
        reserved_micro_credits: has.reserved.0,
        held_micro_credits: has.held.0,
        payable_micro_credits: has.payable.0,
        credit_limit_micro_credits: match limit {
            Some(CreditLimit::Below(limit)) => Some(limit.0),
            Some(CreditLimit::Unlimited) | None => None,
        },
        payout: coordinator.catalog().payout_preference(account).as_str().to_owned(),
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct OfAccount {
    account: Option<String>,
}

pub(crate) async fn retrieve(
    State(pool): App,
    caller: Caller,
    asked: Asked<OfAccount>,
) -> Result<Json<AccountView>, ApiError> {
    let account = whose(&caller, query(asked)?.account.as_deref())?;
    Ok(Json(pool.handle.read(move |coordinator, _| view(coordinator, &account)).await?))
}

#[derive(Debug, Deserialize)]
pub(crate) struct StatementQuery {
    account: Option<String>,
    before: Option<u64>,
    balance: Option<i64>,
    limit: Option<usize>,
}

pub(crate) async fn statement(
    State(pool): App,
    caller: Caller,
    asked: Asked<StatementQuery>,
) -> Result<Json<StatementView>, ApiError> {
    let asked = query(asked)?;
    let account = whose(&caller, asked.account.as_deref())?;
    let limit = page_limit(asked.limit, 100, STATEMENT_LIMIT_MAX - 1)?;
    if asked.before.is_some() != asked.balance.is_some() {
        let message = "`before` and `balance` go together: take both from the last line of the page before.";
        return Err(ApiError::invalid("before", "field-invalid", message));
    }
    let member = account.clone();
    let read = move |coordinator: &Coordinator, store: &mut dyn Store| {
        let lines = store.books().statement(&member, asked.before, limit + 1)?;
        let now = coordinator.account(&member).balance;
        Ok::<_, StoreError>((lines, asked.balance.map_or(now, MicroCredits)))
    };
    let read =
        pool.handle.read(read).await?.map_err(|error| ApiError::internal("list an account's transfers", &error))?;
    let (mut lines, balance) = read;
    let has_more = lines.len() > limit;
    lines.truncate(limit);
    let (own, mut after) = (LedgerAccount::Member(account.clone()), balance.0);
    let data = lines.iter().map(|line| {
        let posting = &line.transfer.posting;
        let got = posting.credit == own;
        let amount = if got { posting.amount.0 } else { -posting.amount.0 };
        let before = after.saturating_sub(amount);
        let line = StatementLineView {
            number: line.number,
            transfer: line.transfer.id().to_string(),
            entry: line.entry,
            at_ms: line.transfer.at.0,
            kind: posting.kind.as_str().to_owned(),
            purpose: words(&line.transfer.purpose, posting.kind),
            other: if got { posting.debit.to_string() } else { posting.credit.to_string() },
            amount_micro_credits: amount,
            after_micro_credits: after,
            before_micro_credits: before,
        };
        after = before;
        line
    });
    let data = data.collect();
    Ok(Json(StatementView { account: account.to_string(), balance_micro_credits: balance.0, data, has_more }))
}

/// What a transfer is for, to people.
fn words(purpose: &Purpose, kind: TransferKind) -> String {
    match purpose {
        Purpose::Granted(_) => "given by the operator".to_owned(),
        Purpose::PaymentRecorded(_) => "paid for".to_owned(),
        Purpose::JobReserved(job) => format!("set aside for {job}"),
        Purpose::JobReturned(job) => format!("not used by {job}"),
        Purpose::TaskAccepted(task, device) => format!("{} of {task} by {device}", kind.as_str()),
        Purpose::TaskVoided(task, device) => format!("{task} by {device} does not count"),
        Purpose::HoldbackReleased(device, _) => format!("held back from {device} until it was trusted"),
        Purpose::DeviceForfeited(device, _) => format!("lost by {device}"),
        Purpose::AvailabilityPaid(device, day) => {
            let day = caii_trust::format_time(Timestamp(u64::from(*day) * DAY));
            format!("{device} was present on {}", &day[..10])
        }
        Purpose::PayoutRequested(_, number) => format!("request {number} to be paid out"),
        Purpose::PayoutSettled(run, _) => format!("{run}"),
    }
}

/// The member's grants and payments by their keys, however old.
pub(crate) async fn top_up(
    State(pool): App,
    _: Admin,
    JsonBody(body): JsonBody<TopUp>,
) -> Result<Json<AccountView>, ApiError> {
    let account = parse_account(&body.account)?;
    let amount: MicroCredits = parse_credits("credits", &body.credits)?;
    let key = parse_key(&body.key)?;
    let (purpose, event): (_, fn(_, &Account, _, _) -> _) = match body.payment {
        true => (Purpose::PaymentRecorded(key), events::payment_recorded),
        false => (Purpose::Granted(key), events::granted),
    };
    let entry = event(key, &account, amount, now());
    let before = pool.handle.read(move |_, store| store.books().posted(purpose.transfer_id(0))).await?;
    match before.map_err(|error| ApiError::internal("look a top-up up", &error))? {
        None => {
            let input = Input::Credit { key, to: account.clone(), amount, paid: body.payment };
            pool.handle.ask(input).await?;
        }
        // The coordinator remembers only the last ones.
        Some((_, posted)) if entry.is_some_and(|entry| entry.postings == posted.postings) => {}
        Some((number, _)) => {
            let message = format!("This key stands for another top-up (entry {number} of the log): use a new one.");
            return Err(ApiError::new(StatusCode::CONFLICT, "key_used", message));
        }
    }
    Ok(Json(pool.handle.read(move |coordinator, _| view(coordinator, &account)).await?))
}

/// Credits as people write them.
pub(crate) fn parse_credits(param: &str, text: &str) -> Result<MicroCredits, ApiError> {
    let wrong =
        |error: caii_model::NoCredits| ApiError::invalid(param, "field-invalid", format!("`{param}`: {error}."));
    text.parse().map_err(wrong)
}

fn parse_key(text: &str) -> Result<GrantKey, ApiError> {
    let wrong =
        || ApiError::invalid("key", "field-invalid", "`key` is 32 hex digits; `openssl rand -hex 16` makes some.");
    let mut key = [0; 16];
    if text.len() != 32 || !text.is_ascii() {
        return Err(wrong());
    }
    for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digits = std::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|b| b.is_ascii_hexdigit()));
        *byte = digits.and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or_else(wrong)?;
    }
    Ok(GrantKey(key))
}

#[derive(Debug, Deserialize)]
pub(crate) struct EarningsQuery {
    account: Option<String>,
    since_ms: Option<u64>,
    until_ms: Option<u64>,
}

pub(crate) async fn earnings(
    State(pool): App,
    caller: Caller,
    asked: Asked<EarningsQuery>,
) -> Result<Json<EarningsView>, ApiError> {
    let asked = query(asked)?;
    let account = whose(&caller, asked.account.as_deref())?;
    let until = asked.until_ms.map_or_else(now, Timestamp);
    let since = asked.since_ms.map_or(until - SINCE, Timestamp);
    let mut rows: BTreeMap<(u64, Digest), EarningsRow> = BTreeMap::new();
    each_receipt(&pool, ReceiptsOf::Owner(account.clone()), since, until, |found| {
        let key = (found.receipt.at.0 / DAY, found.receipt.claim.workload);
        add(rows.entry(key).or_default(), found)
    })
    .await?;
    let read = move |coordinator: &Coordinator, _: &mut dyn Store| {
        let named = |((day, workload), mut row): ((u64, Digest), EarningsRow)| {
            row.day = caii_trust::format_time(Timestamp(day * DAY))[..10].to_owned();
            row.workload = workload.to_string();
            row.name = coordinator.workload(&workload).map_or_else(String::new, |manifest| manifest.name.clone());
            row
        };
        rows.into_iter().map(named).collect::<Vec<_>>()
    };
    let data = pool.handle.read(read).await?;
    Ok(Json(EarningsView { account: account.to_string(), since_ms: since.0, until_ms: until.0, data }))
}

fn add(row: &mut EarningsRow, found: &LoggedReceipt) -> Result<(), ApiError> {
    let accepted = match (&found.receipt.verdict, &found.voided) {
        (Verdict::Accepted(accepted), None) => accepted,
        (Verdict::Void(reason), _) => return count(row, *reason),
        (_, Some(voided)) => return count(row, voided.reason),
    };
    row.accepted += 1;
    row.fuel = row.fuel.checked_add(found.receipt.claim.fuel.0).ok_or_else(too_much)?;
    match found.paid {
        Some(_) => {
            grow(&mut row.earned_micro_credits, accepted.reward.total)?;
            grow(&mut row.held_micro_credits, accepted.reward.held)
        }
        None => grow(&mut row.waiting_micro_credits, accepted.reward.total),
    }
}

fn count(row: &mut EarningsRow, reason: VoidReason) -> Result<(), ApiError> {
    *row.void.entry(reason.as_str().to_owned()).or_default() += 1;
    Ok(())
}

/// Adds to a sum that is shown.
pub(super) fn grow(sum: &mut i64, by: MicroCredits) -> Result<(), ApiError> {
    *sum = sum.checked_add(by.0).ok_or_else(too_much)?;
    Ok(())
}

fn too_much() -> ApiError {
    let message = "The sum is too large to be counted: ask for a shorter time.";
    ApiError::invalid("since_ms", "sum_too_large", message)
}

/// Hands out receipts of a time, some at a time, so that the pool does other things in between.
pub(super) async fn each_receipt(
    pool: &Shared,
    of: ReceiptsOf,
    since: Timestamp,
    until: Timestamp,
    mut each: impl FnMut(&LoggedReceipt) -> Result<(), ApiError>,
) -> Result<(), ApiError> {
    let failed = |error: StoreError| ApiError::internal("list receipts", &error);
    let ends = move |_: &Coordinator, store: &mut dyn Store| {
        let books = store.books();
        Ok::<_, StoreError>((books.entry_at(since)?, books.entry_at(until)?))
    };
    let (mut from, until) = pool.handle.read(ends).await?.map_err(failed)?;
    while from < until {
        let query = ReceiptQuery { of: of.clone(), from, until, newest_first: false, limit: RECEIPTS_AT_A_TIME };
        let page = pool.handle.read(move |_, store| store.books().receipts(&query)).await?.map_err(failed)?;
        page.iter().try_for_each(&mut each)?;
        match page.last() {
            Some(last) if page.len() == RECEIPTS_AT_A_TIME => from = last.entry + 1,
            _ => break,
        }
    }
    Ok(())
}

pub(crate) async fn trial_balance(State(pool): App, _: Caller) -> Result<Json<TrialBalanceView>, ApiError> {
    let read = |coordinator: &Coordinator, _: &mut dyn Store| {
        let books = coordinator.catalog().books();
        (books.size(), books.ledger().trial_balance())
    };
    let (log_size, trial) = pool.handle.read(read).await?;
    let balances = [
        ("members", trial.members),
        ("escrow", trial.escrow),
        ("held", trial.held),
        ("fees", trial.fees),
        ("verification", trial.verification),
        ("treasury", trial.treasury),
        ("payable", trial.payable),
    ];
    let balances = balances.into_iter().map(|(kind, amount)| (kind.to_owned(), amount.to_string())).collect();
    let sum = trial.sum();
    Ok(Json(TrialBalanceView { log_size, balances, sum: sum.to_string(), balanced: sum == 0 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_top_ups_are_read_strictly() {
        assert_eq!(parse_key("000102030405060708090a0b0c0d0e0F").unwrap().0[15], 15);
        for wrong in ["", "00", "zz0102030405060708090a0b0c0d0e0f", "+10102030405060708090a0b0c0d0e0f", "é"] {
            assert!(parse_key(wrong).is_err(), "{wrong}");
        }
    }
}
