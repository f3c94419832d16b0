//! Join tickets.

use super::parse_account;
use crate::http::App;
use crate::http::auth::Admin;
use crate::http::bodies::JsonBody;
use crate::http::error::{ApiError, unexpected};
use crate::views::{List, TicketCreate, TicketCreated, TicketView};
use axum::Json;
use axum::extract::{Path, State};
use caii_coordinator::{Input, Reply};
use caii_model::{Millis, Ticket, TicketId};

fn view(ticket: &Ticket) -> TicketView {
    TicketView {
        id: ticket.id.to_string(),
        account: ticket.account.to_string(),
        expires_ms: ticket.expires.0,
        uses_max: ticket.uses_max,
        uses: ticket.uses,
    }
}

pub(crate) async fn list(State(pool): App, _: Admin) -> Result<Json<List<TicketView>>, ApiError> {
    let read = pool.handle.read(|coordinator, _| coordinator.tickets().map(view).collect());
    let mut data: Vec<TicketView> = read.await?;
    data.reverse();
    Ok(Json(List { data, has_more: false }))
}

pub(crate) async fn create(
    State(pool): App,
    Admin(caller): Admin,
    JsonBody(body): JsonBody<TicketCreate>,
) -> Result<Json<TicketCreated>, ApiError> {
    let account = body.account.as_deref().map(parse_account).transpose()?.unwrap_or(caller.account);
    let secret = crate::pool::new_ticket_secret().map_err(|error| ApiError::internal("make a ticket", &error))?;
    let ticket = pool.ticket(secret).map_err(|error| ApiError::internal("make a ticket", &error))?;
    let valid_for = Millis(body.valid_for_ms);
    let input = Input::TicketIssue { account, secret_hash: secret.hash(), valid_for, uses_max: body.uses_max };
    match pool.handle.ask(input).await? {
        Reply::Ticket(issued) => Ok(Json(TicketCreated { view: view(&issued), ticket })),
        other => Err(unexpected(&other)),
    }
}

pub(crate) async fn revoke(State(pool): App, _: Admin, Path(id): Path<String>) -> Result<Json<TicketView>, ApiError> {
    let unknown = || ApiError::not_found("ticket-unknown", format!("there is no {id}; `caii ticket list` shows all"));
    let ticket: TicketId = id.parse().map_err(|_| unknown())?;
    pool.handle.ask(Input::TicketRevoke(ticket)).await?;
    let read = move |coordinator: &caii_coordinator::Coordinator, _: &mut dyn caii_store::Store| {
        coordinator.tickets().find(|found| found.id == ticket).map(view)
    };
    pool.handle.read(read).await?.map(Json).ok_or_else(unknown)
}
