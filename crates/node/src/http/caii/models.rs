//! Models: names that requests can use for workloads.

use crate::http::App;
use crate::http::auth::{Admin, Caller};
use crate::http::bodies::{JsonBody, parse_digest};
use crate::http::error::{ApiError, unexpected};
use crate::views::{List, ModelCreate, ModelView};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use caii_coordinator::{Coordinator, Input, Reply};
use caii_model::{Endpoint, Manifest, Model, Scope, Timestamp};

fn view(coordinator: &Coordinator, model: &Model) -> ModelView {
    let size = |manifest: &Manifest| {
        manifest.blobs.iter().fold(manifest.program_size.0, |sum, blob| sum.saturating_add(blob.size.0))
    };
    ModelView {
        name: model.name.clone(),
        workload: model.workload.to_string(),
        endpoint: model.endpoint.path().to_owned(),
        dimensions: model.dimensions,
        tokens_max: model.tokens_max,
        source: model.source.clone(),
        added_ms: model.added.0,
        size: coordinator.workload(&model.workload).map_or(0, size),
    }
}

pub(crate) async fn list(State(pool): App, _: Caller) -> Result<Json<List<ModelView>>, ApiError> {
    let read = pool.handle.read(|coordinator, _| coordinator.models().map(|model| view(coordinator, model)).collect());
    Ok(Json(List { data: read.await?, has_more: false }))
}

pub(crate) async fn create(
    State(pool): App,
    _: Admin,
    JsonBody(body): JsonBody<ModelCreate>,
) -> Result<Json<ModelView>, ApiError> {
    let endpoint = Endpoint::from_path(&body.endpoint)
        .ok_or_else(|| ApiError::invalid("endpoint", "field-invalid", "`endpoint` must be `/v1/embeddings`."))?;
    let workload = parse_digest(&body.workload)?;
    if let Some(manifest) = pool.manifest(workload).await?
        && manifest.scope != (Scope::Item { records: 1 })
    {
        let message = "A model's workload must take one record an item: each request has its own answer.";
        return Err(ApiError::invalid("workload", "field-invalid", message));
    }
    let model = Model {
        name: body.name,
        workload,
        endpoint,
        dimensions: body.dimensions,
        tokens_max: body.tokens_max,
        source: body.source,
        // The coordinator's clock decides.
        added: Timestamp(0),
    };
    match pool.handle.ask(Input::ModelAdd(model)).await? {
        Reply::Model(model) => Ok(Json(pool.handle.read(move |coordinator, _| view(coordinator, &model)).await?)),
        other => Err(unexpected(&other)),
    }
}

pub(crate) async fn remove(State(pool): App, _: Admin, Path(name): Path<String>) -> Result<StatusCode, ApiError> {
    pool.handle.ask(Input::ModelRemove(name)).await?;
    Ok(StatusCode::NO_CONTENT)
}
