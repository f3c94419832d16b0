//! What the pool answers over HTTP: the OpenAI-compatible API under `/v1`, CAII's own under `/caii/v1`, the published log
//! under `/published`, and on the TLS listener alone the agent protocol under `/agent/v1`.

mod agent;
mod auth;
mod batches;
pub(crate) mod bodies;
mod caii;
mod embeddings;
pub(crate) mod error;
mod files;
mod models;
mod published;
pub(crate) mod server;
mod verify;

use crate::pool::Shared;
use axum::Router;
use axum::extract::{DefaultBodyLimit, OriginalUri, State};
use axum::http::{Method, StatusCode};
use axum::routing::{delete, get, post, put};
use error::ApiError;
use std::sync::Arc;

/// The pool, as handlers have it.
pub(crate) type App = State<Arc<Shared>>;

/// What API clients and the command line reach.
pub(crate) fn api(pool: Arc<Shared>) -> Router {
    let openai = Router::new()
        .route("/v1/files", post(files::create).get(files::list))
        .route("/v1/files/{id}", get(files::retrieve).delete(files::delete))
        .route("/v1/files/{id}/content", get(files::content))
        .route("/v1/batches", post(batches::create).get(batches::list))
        .route("/v1/batches/{id}", get(batches::retrieve))
        .route("/v1/batches/{id}/cancel", post(batches::cancel))
        .route("/v1/embeddings", post(embeddings::create))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*name}", get(models::retrieve).delete(models::delete));
    let caii = Router::new()
        .route("/caii/v1/pool", get(caii::pool))
        .route("/caii/v1/keys", get(caii::keys::list).post(caii::keys::create))
        .route("/caii/v1/keys/{id}/revoke", post(caii::keys::revoke))
        .route("/caii/v1/tickets", get(caii::tickets::list).post(caii::tickets::create))
        .route("/caii/v1/tickets/{id}/revoke", post(caii::tickets::revoke))
        .route("/caii/v1/blobs/{digest}", put(caii::blobs::put).head(caii::blobs::head))
        .route("/caii/v1/workloads", get(caii::workloads::list).post(caii::workloads::create))
        .route("/caii/v1/workloads/{digest}", get(caii::workloads::retrieve))
        .route("/caii/v1/workloads/{digest}/certificates", get(caii::governance::certificates))
        .route("/caii/v1/workloads/{digest}/certification", get(caii::governance::certification))
        .route("/caii/v1/workloads/{digest}/certify", post(caii::governance::certify))
        .route("/caii/v1/certificates", post(caii::governance::add_certificate))
        .route("/caii/v1/revocations", post(caii::governance::add_revocation))
        .route("/caii/v1/governance", get(caii::governance::files))
        .route("/caii/v1/models", get(caii::models::list).post(caii::models::create))
        .route("/caii/v1/models/{*name}", delete(caii::models::remove))
        .route("/caii/v1/jobs", get(caii::jobs::list).post(caii::jobs::create))
        .route("/caii/v1/jobs/{id}", get(caii::jobs::retrieve))
        .route("/caii/v1/jobs/{id}/cancel", post(caii::jobs::cancel))
        .route("/caii/v1/jobs/{id}/explain", get(caii::jobs::explain))
        .route("/caii/v1/quotes", post(caii::quotes::create))
        .route("/caii/v1/account", get(caii::accounts::retrieve))
        .route("/caii/v1/account/statement", get(caii::accounts::statement))
        .route("/caii/v1/account/top-up", post(caii::accounts::top_up))
        .route("/caii/v1/earnings", get(caii::accounts::earnings))
        .route("/caii/v1/ledger/trial-balance", get(caii::accounts::trial_balance))
        .route("/caii/v1/receipts", get(caii::receipts::list))
        .route("/caii/v1/receipts/{device}/{sequence}", get(caii::receipts::retrieve))
        .route("/caii/v1/tariffs", get(caii::tariffs::list).post(caii::tariffs::propose))
        .route("/caii/v1/tariffs/simulate", post(caii::tariffs::simulate))
        .route("/caii/v1/payouts", get(caii::payouts::list).post(caii::payouts::create))
        .route("/caii/v1/payouts/prefer", post(caii::payouts::prefer))
        .route("/caii/v1/payouts/{run}", get(caii::payouts::retrieve))
        .route("/caii/v1/payouts/{run}/{file}", get(caii::payouts::file))
        .route("/caii/v1/payouts/{run}/approve", post(caii::payouts::approve))
        .route("/caii/v1/payouts/{run}/send", post(caii::payouts::send))
        .route("/caii/v1/payouts/{run}/settle", post(caii::payouts::settle))
        .route("/caii/v1/devices", get(caii::devices::list))
        .route("/caii/v1/devices/{id}", get(caii::devices::retrieve))
        .route("/caii/v1/devices/{id}/explain", get(caii::devices::explain));
    let published = Router::new().route("/published/{*path}", get(published::file));
    finish(openai.merge(caii).merge(published), pool)
}

/// All of [`api`] and the agent protocol.
pub(crate) fn api_and_agents(pool: Arc<Shared>) -> Router {
    let agents = Router::new()
        .route("/agent/v1/enrol", post(agent::enrol))
        .route("/agent/v1/exchange", post(agent::exchange))
        .route("/agent/v1/workloads/{digest}", get(agent::workload))
        .route("/agent/v1/workloads/{digest}/certificates", get(agent::certificates))
        .route("/agent/v1/governance", get(agent::governance))
        .route("/agent/v1/blobs/{digest}", get(agent::blob).put(agent::put_blob));
    api(pool.clone()).merge(finish(agents, pool).reset_fallback())
}

fn finish(router: Router<Arc<Shared>>, pool: Arc<Shared>) -> Router {
    // Every handler limits what it reads by itself, each by its own measure.
    router
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown_path)
        .layer(DefaultBodyLimit::disable())
        .with_state(pool)
}

async fn unknown_path(method: Method, OriginalUri(uri): OriginalUri) -> ApiError {
    ApiError::not_found("unknown_url", format!("Invalid URL ({method} {})", uri.path()))
}

async fn wrong_method(method: Method, OriginalUri(uri): OriginalUri) -> ApiError {
    let message = format!("Not allowed to {method} on {}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_supported", message)
}
