//! The images that this adapter gave the engine: loaded before a replica needs them, and removed
//! when nothing needs them any more.
//!
//! **Only names of the form `localhost/shoal:<id>` are touched**, and an image is never removed by
//! force: Podman would remove running containers with it. The engine refuses while a container,
//! of whatever owner, uses it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use shoal_protocol::model::Digest;
use shoal_protocol::model::spec::{Image, PlatformImage};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep};

use super::Containers;
use super::load;
use super::refusal::CallError;
use super::shared::Shared;
use crate::error::DeviceError;
use crate::model::Payload;

/// Pause between two looks at the engine's images.
const EVERY: Duration = Duration::from_secs(60);
/// Bytes that the engine's disk should have free: with less, images go as soon as they are unused.
const KEEP_FREE: u64 = 1 << 30;
/// Time in which a start that follows a publish has the engine for itself.
const STARTS_FIRST: Duration = Duration::from_millis(500);
/// Names of images that are given the engine by this adapter.
const PREFIX: &str = "localhost/shoal:";

/// The images that nodes' workloads want here, and since when the others are unused.
pub(super) struct Loaded {
    state: Mutex<State>,
    wake: Notify,
    /// A permit for the one image that is being loaded: two at once would share the disk, and the
    /// same image would be loaded twice.
    pub loads: Semaphore,
}

#[derive(Default)]
struct State {
    wanted: Vec<Image>,
    /// Bounded by the engine's list, of which it has no more entries.
    unused_since: BTreeMap<String, Instant>,
    /// Parts of a wanted image were missing at the last look, and may have come meanwhile.
    lacks_parts: bool,
    /// The reasons that were logged, by the image's name.
    complaints: BTreeMap<String, String>,
}

/// An image that was removed from the engine, or can be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Removable {
    /// Its name in the engine.
    pub name: String,
    /// Its bytes as the engine counts them. Other images may share some of them.
    pub size: u64,
}

impl Default for Loaded {
    fn default() -> Self {
        Loaded { state: Mutex::default(), wake: Notify::new(), loads: Semaphore::new(1) }
    }
}

impl Loaded {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Each change is complete before the lock is released, also by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Containers {
    /// Replaces the set of images that this node may have to start at any moment. They are loaded
    /// into the engine as soon as all their parts are here: say it again when parts have come.
    pub fn want_images(&self, images: Vec<Image>) {
        let loaded = &self.shared.loaded;
        let look = {
            let mut state = loaded.lock();
            let is_new = state.wanted != images;
            state.wanted = images;
            is_new || state.lacks_parts
        };
        if look {
            loaded.wake.notify_one();
        }
    }

    /// Removes the images that this adapter loaded and nothing needs. With `dry_run` it only lists
    /// them.
    ///
    /// # Errors
    /// The engine does not answer.
    pub async fn prune_images(&self, dry_run: bool) -> Result<Vec<Removable>, DeviceError> {
        let failed = |error| self.shared.device_error("looking for unused images", error);
        let mut removed = Vec::new();
        for image in unused(&self.shared).await.map_err(failed)? {
            if dry_run || remove(&self.shared, &image).await {
                removed.push(image);
            }
        }
        Ok(removed)
    }
}

/// Loads what is wanted and removes what is not, until the adapter is dropped.
pub(super) async fn run(shared: std::sync::Arc<Shared>) {
    let tending = async {
        loop {
            load_wanted(&shared).await;
            remove_unused(&shared).await;
            tokio::select! {
                () = sleep(EVERY) => {}
                // A workload of a moment ago starts first: it loads its image itself.
                () = shared.loaded.wake.notified() => sleep(STARTS_FIRST).await,
            }
        }
    };
    tokio::select! {
        () = shared.closed.cancelled() => {}
        () = tending => {}
    }
}

async fn load_wanted(shared: &Shared) {
    let wanted = shared.loaded.lock().wanted.clone();
    let (mut complaints, mut lacks_parts) = (BTreeMap::new(), false);
    for image in &wanted {
        let Ok(Some(platform)) = load::platform(image) else { continue };
        let name = load::name(platform);
        if !has_parts(shared, platform) {
            lacks_parts = true;
        } else if let Err(failure) = load::ready(shared, image, platform, || {}).await {
            complaints.insert(name, failure.reason);
        }
    }
    let mut state = shared.loaded.lock();
    for (name, reason) in &complaints {
        if state.complaints.get(name) != Some(reason) {
            tracing::info!("{name} is not loaded ahead of its need: {reason}");
        }
    }
    (state.complaints, state.lacks_parts) = (complaints, lacks_parts);
}

fn has_parts(shared: &Shared, platform: &PlatformImage) -> bool {
    let parts = platform.layers.iter().chain([&platform.config]);
    let has = |store: &crate::artifacts::ArtifactStore| {
        parts.into_iter().all(|part| store.has(&part.digest).is_some())
    };
    shared.config.artifacts.as_ref().is_some_and(has)
}

async fn remove_unused(shared: &Shared) {
    let Ok(unused) = unused(shared).await else { return };
    let kept = match is_full(shared.engine.data.as_deref()) {
        true => Duration::ZERO,
        false => shared.config.images_kept,
    };
    let now = Instant::now();
    let due: Vec<Removable> = {
        let mut state = shared.loaded.lock();
        let names: BTreeSet<&str> = unused.iter().map(|image| image.name.as_str()).collect();
        state.unused_since.retain(|name, _| names.contains(name.as_str()));
        let mut is_due = |image: &&Removable| {
            let since = state.unused_since.entry(image.name.clone()).or_insert(now);
            now.duration_since(*since) >= kept
        };
        unused.iter().filter(|image| is_due(image)).cloned().collect()
    };
    for image in due {
        remove(shared, &image).await;
    }
}

/// Whether the disk with the engine's data is nearly full. A folder that is not visible here does
/// not count as full.
fn is_full(data: Option<&Path>) -> bool {
    let Some(stat) = data.and_then(|folder| rustix::fs::statvfs(folder).ok()) else { return false };
    stat.f_bavail.saturating_mul(stat.f_frsize) < KEEP_FREE
}

/// The images of this adapter's names that no instance and no wanted image has.
async fn unused(shared: &Shared) -> Result<Vec<Removable>, CallError> {
    let mut used: BTreeSet<String> = {
        let instances = shared.lock();
        let payloads = instances.values().filter_map(|it| match &it.launch.payload {
            Payload::Container(payload) => Some(payload),
            Payload::Component(_) | Payload::Command(_) => None,
        });
        let containers = payloads.flat_map(|payload| payload.containers());
        containers.filter_map(|it| name_of(&it.image)).collect()
    };
    used.extend(shared.loaded.lock().wanted.iter().filter_map(name_of));
    let listed = shared.engine.images().await?;
    let named = listed.into_iter().flat_map(|image| {
        let size = image.size.unwrap_or_default();
        image.tags.into_iter().flatten().map(move |name| Removable { name, size })
    });
    Ok(named.filter(|image| is_ours(&image.name) && !used.contains(&image.name)).collect())
}

fn name_of(image: &Image) -> Option<String> {
    load::platform(image).ok().flatten().map(load::name)
}

/// Whether a name is one that this adapter gives.
fn is_ours(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|id| id.parse::<Digest>().is_ok())
}

async fn remove(shared: &Shared, image: &Removable) -> bool {
    match shared.engine.remove_image(&image.name).await {
        Ok(()) => {
            tracing::info!("removed the image {} from the engine: nothing uses it", image.name);
            true
        }
        // A container of another owner uses it, or another node has removed it.
        Err(error) => {
            tracing::debug!("the image {} stays in the engine: {error}", image.name);
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_people_are_never_ours() {
        assert!(is_ours(&format!("{PREFIX}{}", Digest([7; 32]))));
        for name in ["localhost/shoal:1", "localhost/shoal", "shoal:latest", "nginx:1.27"] {
            assert!(!is_ours(name), "{name}");
        }
        let elsewhere = format!("registry.local/shoal:{}", Digest([7; 32]));
        assert!(!is_ours(&elsewhere));
    }
}
