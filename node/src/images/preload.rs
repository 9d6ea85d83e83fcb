//! Keeps the engine's images in step with the workloads: what this node runs or guards is loaded
//! before a replica needs it, so that a failover waits for the container's start alone.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::api::Core;
use crate::runtimes::engine::Engine;

/// The pause after a look: changes come in bursts, and parts of an image come one by one.
const PAUSE: Duration = Duration::from_secs(1);
/// A look without a change: an engine may have come back meanwhile.
const AT_LEAST_EVERY: Duration = Duration::from_secs(30);

/// Tells the engine's adapter which images this node needs, until `stop`.
pub async fn preload(core: Arc<dyn Core>, engine: Arc<Engine>, stop: CancellationToken) {
    let mut changes = core.changes();
    loop {
        changes.mark_unchanged();
        // An error means that the driver has stopped.
        let Ok(all) = core.images().await else { return };
        let needed = all.into_iter().filter(|it| it.needed_here);
        let mut images: Vec<_> = needed.map(|it| it.image).collect();
        images.sort_by(|one, other| one.reference.cmp(&other.reference));
        images.dedup();
        if let Some(containers) = engine.reachable() {
            containers.want_images(images);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(PAUSE) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
            () = sleep(AT_LEAST_EVERY) => {}
        }
    }
}
