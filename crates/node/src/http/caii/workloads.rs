//! Workloads: programs with their blobs and limits.

use crate::http::App;
use crate::http::auth::Caller;
use crate::http::bodies::{JsonBody, parse_digest};
use crate::http::error::{ApiError, unexpected};
use crate::pool::{Shared, meter, vetted_meter};
use crate::views::{List, ManifestView, WorkloadCreate, WorkloadView};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use caii_coordinator::{Input, Reply};
use caii_model::{BlobRef, Bytes, Fuel, Limits, Manifest, Millis, Refusal, Role, RuntimeClass, Scope};
use std::sync::Arc;

/// A workload as people see it.
pub(super) fn view(manifest: &Manifest) -> WorkloadView {
    let (digest, vetted) = (manifest.digest().to_string(), manifest.meter == vetted_meter());
    WorkloadView { digest, vetted, manifest: ManifestView::from(manifest) }
}

pub(crate) async fn list(State(pool): App, _: Caller) -> Result<Json<List<WorkloadView>>, ApiError> {
    let data = pool.handle.read(|coordinator, _| coordinator.workloads().map(view).collect()).await?;
    Ok(Json(List { data, has_more: false }))
}

pub(crate) async fn retrieve(
    State(pool): App,
    _: Caller,
    Path(digest): Path<String>,
) -> Result<Json<WorkloadView>, ApiError> {
    let digest = parse_digest(&digest)?;
    match pool.manifest(digest).await? {
        Some(manifest) => Ok(Json(view(&manifest))),
        None => Err(Refusal::WorkloadUnknown(digest).into()),
    }
}

pub(crate) async fn create(
    State(pool): App,
    caller: Caller,
    JsonBody(body): JsonBody<WorkloadCreate>,
) -> Result<Json<WorkloadView>, ApiError> {
    if body.vetted && caller.role != Role::Admin {
        let message = "Only an admin can vouch for a program (`vetted`); leave it out.";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "admin_only", message));
    }
    let (manifest, shared) = (manifest_of(body)?, pool.clone());
    let checked = tokio::task::spawn_blocking(move || check(&shared, manifest)).await;
    let manifest = checked.map_err(|error| ApiError::internal("check a program", &error))??;
    if caller.role == Role::Admin {
        // Where the operator alone decides, adding a program is deciding.
        super::governance::certify_as_operator(&pool, &Arc::new(manifest.clone())).await?;
    }
    let view = view(&manifest);
    match pool.handle.ask(Input::WorkloadAdd(manifest)).await? {
        Reply::Workload(_) => Ok(Json(view)),
        other => Err(unexpected(&other)),
    }
}

fn manifest_of(body: WorkloadCreate) -> Result<Manifest, ApiError> {
    let scope = match body.scope.as_str() {
        "item" => Scope::Item { records: body.records_per_item },
        "task" => Scope::Task,
        _ => return Err(ApiError::invalid("scope", "field-invalid", "`scope` must be `item` or `task`.")),
    };
    let blobs = body
        .blobs
        .into_iter()
        .map(|blob| Ok(BlobRef { name: blob.name, digest: parse_digest(&blob.digest)?, size: Bytes(blob.size) }));
    let (limits, default) = (&body.limits, Limits::default());
    Ok(Manifest {
        name: body.name,
        program: parse_digest(&body.program)?,
        // Filled in once the program is seen.
        program_size: Bytes(0),
        runtime: RuntimeClass::Wasm,
        scope,
        blobs: blobs.collect::<Result<_, ApiError>>()?,
        args: body.args,
        limits: Limits {
            fuel_per_item: limits.fuel_per_item.map_or(default.fuel_per_item, Fuel),
            fuel_init: limits.fuel_init.map_or(default.fuel_init, Fuel),
            memory: limits.memory.map_or(default.memory, Bytes),
            output_per_item: limits.output_per_item.map_or(default.output_per_item, Bytes),
            stderr_per_item: limits.stderr_per_item.map_or(default.stderr_per_item, Bytes),
            wall_per_item: limits.wall_per_item_ms.map_or(default.wall_per_item, Millis),
        },
        meter: if body.vetted { vetted_meter() } else { meter() },
    })
}

/// Checks that everything that the manifest names is there and that the program can run.
fn check(pool: &Arc<Shared>, mut manifest: Manifest) -> Result<Manifest, ApiError> {
    let missing = |what: &str| {
        let message = format!("{what} is not in the pool yet: upload it first (PUT /caii/v1/blobs/…).");
        ApiError::invalid("blobs", "blob_missing", message)
    };
    for blob in &manifest.blobs {
        // Also keeps it from being swept before the workload refers to it.
        let found = if pool.blobs.touch(&blob.digest)? { pool.blobs.size(&blob.digest)? } else { None };
        match found {
            None => return Err(missing(&format!("The blob `{}` ({})", blob.name, blob.digest))),
            Some(size) if size != blob.size => {
                let message = format!("The blob `{}` has {} bytes, not the stated {}.", blob.name, size.0, blob.size.0);
                return Err(ApiError::invalid("blobs", "blob_size", message));
            }
            Some(_) => {}
        }
    }
    if !pool.blobs.touch(&manifest.program)? {
        return Err(missing(&format!("The program {}", manifest.program)));
    }
    let program = match pool.blobs.read(&manifest.program, caii_sandbox::MAX_PROGRAM) {
        Err(caii_store::BlobError::TooLarge { limit }) => {
            let message = format!("The program is larger than {limit}, the most that is accepted.");
            return Err(ApiError::invalid("program", "program_too_large", message));
        }
        other => other?,
    };
    let refused =
        |error: caii_sandbox::ProgramError| ApiError::invalid("program", "program_refused", error.to_string());
    caii_sandbox::inspect(&program).map_err(refused)?.fits(&manifest.limits).map_err(refused)?;
    manifest.program_size = Bytes(program.len() as u64);
    Ok(manifest)
}
