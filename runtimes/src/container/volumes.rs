//! Volumes that the engine keeps for replicas. They are found by their labels, like containers, and
//! **only [`remove`] removes one**: they outlive containers, workloads and the daemon.

use std::collections::HashMap;

use shoal_protocol::model::Digest;

use super::engine::{OWNER, PLACE, VOLUME, WORKLOAD};
use super::forms::ListedVolume;
use super::refusal::{CallError, Failure};
use super::shared::Shared;
use crate::model::VolumeKey;

/// The name of a volume, legal on all engines: a readable part, and a hash that tells apart what
/// the readable part does not. Several nodes may share an engine.
pub(super) fn name(owner: &str, key: &VolumeKey) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let readable: String = key.to_string().chars().map(legal).take(80).collect();
    let digest = Digest::of(format!("{owner}\n{key}").as_bytes());
    format!("shoal-{readable}-{}", digest.short())
}

/// Makes a volume, unless it is there already.
pub(super) async fn ensure(shared: &Shared, key: &VolumeKey) -> Result<(), Failure> {
    let owner = &shared.config.owner;
    let name = name(owner, key);
    let labels = HashMap::from([
        (OWNER.to_owned(), owner.clone()),
        (WORKLOAD.to_owned(), key.workload.clone()),
        (PLACE.to_owned(), key.place.clone()),
        (VOLUME.to_owned(), key.name.clone()),
    ]);
    let engine = &shared.engine;
    let made = engine.make_volume(&name, labels).await.map_err(|error| {
        Failure::passing(format!("{} does not make the volume {name}: {error}", engine.name()))
    })?;
    if made.get(OWNER) != Some(owner) {
        return Err(Failure::lasting(format!(
            "the volume {name} of {} is not of this node: remove or rename it",
            engine.name()
        )));
    }
    // The next look finds it, if this one does not.
    let _ = look(shared).await;
    Ok(())
}

/// Asks the engine which volumes it has for this owner.
pub(super) async fn look(shared: &Shared) -> Result<(), CallError> {
    let number = {
        let mut known = shared.known_volumes();
        known.begun += 1;
        known.begun
    };
    let listed = shared.engine.volumes(&shared.config.owner).await?;
    let mut known = shared.known_volumes();
    if known.shown < number {
        known.shown = number;
        known.all = Some(listed.iter().filter_map(key).collect());
    }
    Ok(())
}

/// Removes a volume with all that is in it.
pub(super) async fn remove(shared: &Shared, key: &VolumeKey) -> Result<(), CallError> {
    match shared.engine.remove_volume(&name(&shared.config.owner, key)).await {
        Err(CallError::Refused { status: 404, .. }) | Ok(()) => look(shared).await,
        Err(error) => Err(error),
    }
}

fn key(listed: &ListedVolume) -> Option<VolumeKey> {
    Some(VolumeKey {
        workload: listed.label(WORKLOAD)?.into(),
        place: listed.label(PLACE)?.into(),
        name: listed.label(VOLUME)?.into(),
    })
}
