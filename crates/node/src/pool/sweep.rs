//! Removes blobs that nothing names any more: of deleted files, of uploads that were never used, and of ended jobs.

use super::Shared;
use super::actor::describe;
use std::sync::Arc;
use std::time::Duration;

/// Time between sweeps. The first is not at once: a pool that is started for a moment has better things to do.
const EVERY: Duration = Duration::from_secs(3_600);
/// So long a blob is left alone after it was put or asked for, although nothing names it (yet).
const GRACE: Duration = Duration::from_secs(24 * 3_600);

/// Sweeps until the pool stops.
pub(super) async fn sweep_now_and_then(pool: Arc<Shared>) {
    loop {
        tokio::select! {
            () = pool.stopped() => return,
            () = tokio::time::sleep(EVERY) => sweep(&pool).await,
        }
    }
}

async fn sweep(pool: &Arc<Shared>) {
    // What comes to be named while the sweep runs was put or touched lately, so its grace protects it.
    let live = match pool.handle.read(|coordinator, _| coordinator.live_blobs()).await {
        Ok(live) => live,
        Err(error) => return tracing::warn!(%error, "no sweep this time"),
    };
    let blobs = pool.blobs.clone();
    let swept = tokio::task::spawn_blocking(move || blobs.sweep(&|digest| live.contains(digest), GRACE)).await;
    match swept {
        Ok(Ok(swept)) => tracing::info!(blobs = swept.blobs, bytes = swept.bytes.0, "swept"),
        Ok(Err(error)) => tracing::warn!(reason = %describe(&error), "a sweep failed"),
        Err(error) => tracing::error!(%error, "a sweep failed"),
    }
}
