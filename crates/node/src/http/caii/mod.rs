//! CAII's own API; [`views`](crate::views) lists its requests and is all of its JSON.

pub(crate) mod accounts;
pub(crate) mod blobs;
pub(crate) mod devices;
pub(crate) mod governance;
pub(crate) mod jobs;
pub(crate) mod keys;
pub(crate) mod models;
pub(crate) mod payouts;
pub(crate) mod quotes;
pub(crate) mod receipts;
pub(crate) mod tariffs;
pub(crate) mod tickets;
pub(crate) mod workloads;

use super::App;
use super::auth::Caller;
use super::error::ApiError;
use crate::views::PoolView;
use axum::Json;
use axum::extract::State;
use caii_model::Account;

pub(crate) async fn pool(State(pool): App, _: Caller) -> Result<Json<PoolView>, ApiError> {
    let (id, started) = (pool.id, pool.started);
    let view = pool.handle.read(move |coordinator, _| {
        let devices = coordinator.devices();
        PoolView {
            id: id.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot: coordinator.boot().to_string(),
            started_ms: started.0,
            meter: coordinator.config().meter.0.to_string(),
            devices: devices.len() as u64,
            devices_present: devices.iter().filter(|device| device.present).count() as u64,
            slots_present: u64::from(coordinator.slots_present()),
            jobs_open: coordinator.jobs(None).len() as u64,
        }
    });
    Ok(Json(view.await?))
}

fn parse_account(name: &str) -> Result<Account, ApiError> {
    Account::new(name).ok_or_else(|| {
        let message = "An account's name has 1 to 64 characters of a-z, 0-9, `-`, `_` and `.`.";
        ApiError::invalid("account", "field-invalid", message)
    })
}
