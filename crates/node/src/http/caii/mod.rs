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
use crate::pool::Shared;
use crate::pool::publish::WitnessState;
use crate::views::{LogView, PoolView, WitnessView};
use axum::Json;
use axum::extract::State;
use caii_model::Account;
use caii_store::StoreError;

pub(crate) async fn pool(State(pool): App, _: Caller) -> Result<Json<PoolView>, ApiError> {
    let (id, started, log) = (pool.id, pool.started, log_view(&pool));
    let published = log.published;
    let view = pool.handle.read(move |coordinator, store| {
        let devices = coordinator.devices();
        let entries = coordinator.catalog().books().size();
        let oldest = match entries > published {
            true => store.logged(published, 1)?.first().map(|event| event.logged.at().0),
            false => None,
        };
        Ok::<_, StoreError>(PoolView {
            id: id.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot: coordinator.boot().to_string(),
            started_ms: started.0,
            meter: coordinator.config().meter.0.to_string(),
            devices: devices.len() as u64,
            devices_present: devices.iter().filter(|device| device.present).count() as u64,
            slots_present: u64::from(coordinator.slots_present()),
            jobs_open: coordinator.jobs(None).len() as u64,
            log: LogView { entries, oldest_unpublished_ms: oldest, ..log },
        })
    });
    view.await?.map(Json).map_err(|error| ApiError::internal("read the log", &error))
}

/// What the publisher says of the log; what the coordinator says is left out.
fn log_view(pool: &Shared) -> LogView {
    let witness = |state: WitnessState| WitnessView {
        name: state.name,
        url: state.url,
        cosigned: state.cosigned.map(|(size, _)| size),
        cosigned_ms: state.cosigned.map(|(_, at)| at.saturating_mul(1_000)),
        trouble: state.trouble,
    };
    LogView {
        key: pool.published.log.first().map(ToString::to_string).unwrap_or_default(),
        entries: 0,
        published: pool.board.shown().map_or(0, |shown| shown.tree.size),
        oldest_unpublished_ms: None,
        trouble: pool.board.trouble().map(|trouble| trouble.to_string()),
        witnesses: pool.board.witnesses().into_iter().map(witness).collect(),
    }
}

fn parse_account(name: &str) -> Result<Account, ApiError> {
    Account::new(name).ok_or_else(|| {
        let message = "An account's name has 1 to 64 characters of a-z, 0-9, `-`, `_` and `.`.";
        ApiError::invalid("account", "field-invalid", message)
    })
}
