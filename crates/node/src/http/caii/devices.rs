//! Contributors' devices.

use crate::http::App;
use crate::http::auth::Caller;
use crate::http::error::ApiError;
use crate::pool::actor::now;
use crate::views::{DeviceView, ExplainView, List};
use axum::Json;
use axum::extract::{Path, State};
use caii_model::DeviceId;

fn view(device: &caii_coordinator::DeviceView) -> DeviceView {
    DeviceView {
        id: device.device.id.to_string(),
        name: device.device.name.clone(),
        account: device.device.owner.to_string(),
        enrolled_ms: device.device.enrolled.0,
        present: device.present,
        heard_ms: device.heard.map(|at| at.0),
        slots: device.slots,
        tasks: device.tasks.iter().map(ToString::to_string).collect(),
        ready: device.ready.iter().map(ToString::to_string).collect(),
    }
}

fn unknown(id: &str) -> ApiError {
    ApiError::not_found("device-unknown", format!("there is no device {id}; `caii device list` shows all"))
}

pub(crate) async fn list(State(pool): App, _: Caller) -> Result<Json<List<DeviceView>>, ApiError> {
    let devices = pool.handle.read(|coordinator, _| coordinator.devices()).await?;
    Ok(Json(List { data: devices.iter().map(view).collect(), has_more: false }))
}

pub(crate) async fn retrieve(
    State(pool): App,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Json<DeviceView>, ApiError> {
    let device: DeviceId = id.parse().map_err(|_| unknown(&id))?;
    let found = pool.handle.read(move |coordinator, _| coordinator.device_view(device)).await?;
    found.map(|device| Json(view(&device))).ok_or_else(|| unknown(&id))
}

pub(crate) async fn explain(
    State(pool): App,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Json<ExplainView>, ApiError> {
    let device: DeviceId = id.parse().map_err(|_| unknown(&id))?;
    let read = move |coordinator: &caii_coordinator::Coordinator, _: &mut dyn caii_store::Store| {
        coordinator.device(device).map(|_| coordinator.explain_device(device, now()))
    };
    let lines = pool.handle.read(read).await?.ok_or_else(|| unknown(&id))?;
    Ok(Json(ExplainView { id, lines }))
}
