//! API keys.

use super::parse_account;
use crate::http::App;
use crate::http::auth::Admin;
use crate::http::bodies::JsonBody;
use crate::http::error::{ApiError, unexpected};
use crate::views::{KeyCreate, KeyCreated, KeyView, List};
use axum::Json;
use axum::extract::{Path, State};
use caii_coordinator::{Input, Reply};
use caii_model::{Digest, Key, KeyId, Role};

fn view(key: &Key) -> KeyView {
    KeyView {
        id: key.id.to_string(),
        name: key.name.clone(),
        account: key.account.to_string(),
        role: match key.role {
            Role::Admin => "admin",
            Role::Requester => "requester",
        }
        .to_owned(),
        created_ms: key.created.0,
        revoked_ms: key.revoked.map(|at| at.0),
    }
}

pub(crate) async fn list(State(pool): App, _: Admin) -> Result<Json<List<KeyView>>, ApiError> {
    let mut data: Vec<KeyView> = pool.handle.read(|coordinator, _| coordinator.keys().map(view).collect()).await?;
    data.reverse();
    Ok(Json(List { data, has_more: false }))
}

pub(crate) async fn create(
    State(pool): App,
    _: Admin,
    JsonBody(body): JsonBody<KeyCreate>,
) -> Result<Json<KeyCreated>, ApiError> {
    let role = match body.role.as_str() {
        "admin" => Role::Admin,
        "requester" => Role::Requester,
        _ => return Err(ApiError::invalid("role", "field-invalid", "`role` must be `admin` or `requester`.")),
    };
    let account = parse_account(&body.account)?;
    let secret = crate::pool::new_key_secret().map_err(|error| ApiError::internal("make a key", &error))?;
    let secret_hash = Digest::of(secret.as_bytes());
    match pool.handle.ask(Input::KeyCreate { name: body.name, account, role, secret_hash }).await? {
        Reply::Key(key) => Ok(Json(KeyCreated { key: view(&key), secret })),
        other => Err(unexpected(&other)),
    }
}

pub(crate) async fn revoke(State(pool): App, _: Admin, Path(id): Path<String>) -> Result<Json<KeyView>, ApiError> {
    let unknown = || ApiError::not_found("key-unknown", format!("there is no key {id}; `caii key list` shows all"));
    let key: KeyId = id.parse().map_err(|_| unknown())?;
    pool.handle.ask(Input::KeyRevoke(key)).await?;
    let found = pool.handle.read(move |coordinator, _| coordinator.keys().find(|found| found.id == key).map(view));
    found.await?.map(Json).ok_or_else(unknown)
}
