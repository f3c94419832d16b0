//! `/v1/models`: what requests can name.

use super::App;
use super::auth::{Admin, Caller};
use super::error::ApiError;
use super::files::Deleted;
use axum::Json;
use axum::extract::{Path, State};
use caii_coordinator::Input;
use caii_model::Model;
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct ModelObject {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: String,
}

impl ModelObject {
    fn new(model: &Model, pool: &str) -> Self {
        Self { id: model.name.clone(), object: "model", created: model.added.unix_seconds(), owned_by: pool.to_owned() }
    }
}

#[derive(Serialize)]
pub(super) struct Models {
    object: &'static str,
    data: Vec<ModelObject>,
}

/// As OpenAI says it, so that clients recognise it.
pub(super) fn no_such_model(name: &str) -> ApiError {
    let name = crate::pool::records::clip(name);
    let mut error = ApiError::not_found(
        "model_not_found",
        format!("The model '{name}' does not exist in this pool; GET /v1/models lists those that do."),
    );
    error.param = Some("model".to_owned());
    error
}

pub(super) async fn list(State(pool): App, _: Caller) -> Result<Json<Models>, ApiError> {
    let id = pool.id.to_string();
    let read = move |coordinator: &caii_coordinator::Coordinator, _: &mut dyn caii_store::Store| {
        coordinator.models().map(|model| ModelObject::new(model, &id)).collect()
    };
    Ok(Json(Models { object: "list", data: pool.handle.read(read).await? }))
}

pub(super) async fn retrieve(
    State(pool): App,
    _: Caller,
    Path(name): Path<String>,
) -> Result<Json<ModelObject>, ApiError> {
    let (id, wanted) = (pool.id.to_string(), name.clone());
    let read = move |coordinator: &caii_coordinator::Coordinator, _: &mut dyn caii_store::Store| {
        coordinator.model(&wanted).map(|model| ModelObject::new(model, &id))
    };
    pool.handle.read(read).await?.map(Json).ok_or_else(|| no_such_model(&name))
}

pub(super) async fn delete(State(pool): App, _: Admin, Path(name): Path<String>) -> Result<Json<Deleted>, ApiError> {
    pool.handle.ask(Input::ModelRemove(name.clone())).await?;
    Ok(Json(Deleted::new(name, "model")))
}
