//! Volumes that the engine keeps for replicas. They are found by their labels, like containers, and
//! **only [`remove`] removes one**: they outlive containers, workloads and the daemon.

use std::collections::{BTreeSet, HashMap};
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown};
use std::sync::Arc;
use std::time::Duration;

use shoal_protocol::model::Digest;
use shoal_protocol::model::spec::Container;
use tokio::time::sleep;

use super::engine::{INSTANCE, OWNER, PLACE, SCRATCH, VOLUME, WORKLOAD};
use super::forms::ListedVolume;
use super::instance::Instance;
use super::refusal::{CallError, Failure};
use super::shared::Shared;
use crate::model::{ContainerPayload, InstanceId, Payload, VolumeKey, VolumeOf};

/// The time after a start of this program in which instances that go on are started again.
const SWEEP_AFTER: Duration = Duration::from_secs(60);

/// The name of a volume, legal on all engines: a readable part, and a hash that tells apart what
/// the readable part does not. Several nodes may share an engine.
pub(super) fn name(owner: &str, key: &VolumeKey) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let readable: String = key.to_string().chars().map(legal).take(80).collect();
    let digest = Digest::of(format!("{owner}\n{key}").as_bytes());
    format!("shoal-{readable}-{}", digest.short())
}

/// The group of a new volume: the first further group, by number, of a container that mounts it.
pub(super) fn group(payload: &ContainerPayload, key: &VolumeKey) -> Option<u32> {
    let mounts = |container: &&Container| {
        let mut all = container.mounts.iter().map(|it| payload.volumes.get(&it.volume));
        all.any(|of| matches!(of, Some(VolumeOf::Kept(kept)) if kept == key))
    };
    let first = |container: &Container| container.extra.groups.first()?.parse().ok();
    payload.containers().filter(mounts).find_map(first)
}

/// Makes the volume of an instance that starts, unless it is there already. A new one belongs to
/// `group`, where this program can say so: as root, beside the engine.
pub(super) async fn ensure(
    shared: &Shared,
    key: &VolumeKey,
    group: Option<u32>,
) -> Result<(), Failure> {
    if group.is_some() {
        let _ = look(shared).await;
    }
    let is_new = || {
        let known = shared.known_volumes();
        known.all.as_ref().is_some_and(|all| !all.contains(key))
    };
    let group = group.filter(|_| is_new());
    if shared.known_volumes().held.contains(key) {
        return Err(Failure::passing(format!("the files of its volume {} are replaced", key.name)));
    }
    make(shared, key).await.map_err(|error| match &error {
        CallError::Foreign(_) => Failure::lasting(error.to_string()),
        error => {
            let (engine, name) = (shared.engine.name(), name(&shared.config.owner, key));
            Failure::passing(format!("{engine} does not make the volume {name}: {error}"))
        }
    })?;
    if let Some(group) = group {
        give_to(shared, key, group).await;
    }
    // The next look finds it, if this one does not.
    let _ = look(shared).await;
    Ok(())
}

/// Gives a new volume to a group, which may write in it, as do all files that are made there.
async fn give_to(shared: &Shared, key: &VolumeKey, group: u32) {
    let (engine, name) = (&shared.engine, name(&shared.config.owner, key));
    let Ok(Some(folder)) = engine.volume_folder(&name).await else { return };
    let given = match engine.is_here {
        true => chown(&folder, None, Some(group))
            .and_then(|()| std::fs::set_permissions(&folder, Permissions::from_mode(0o2775))),
        false => return,
    };
    if let Err(error) = given {
        tracing::info!("the volume {key} does not belong to the group {group}: {error}");
    }
}

/// The name of a folder that goes with an instance.
pub(super) fn scratch_name(owner: &str, id: &InstanceId, name: &str) -> String {
    let digest = Digest::of(format!("{owner}\n{id}\n{name}").as_bytes());
    format!("shoal-scratch-{digest}")
}

/// Makes a folder of an instance that starts, unless it is there from an earlier start. As in
/// Kubernetes, every user may write it.
pub(super) async fn ensure_scratch(
    shared: &Shared,
    id: &InstanceId,
    name: &str,
) -> Result<(), Failure> {
    let (owner, engine) = (&shared.config.owner, &shared.engine);
    let labels = HashMap::from([
        (OWNER.to_owned(), owner.clone()),
        (SCRATCH.to_owned(), id.as_str().to_owned()),
    ]);
    let volume = scratch_name(owner, id, name);
    let failed = |error: CallError| {
        let engine = engine.name();
        Failure::passing(format!("{engine} does not make the folder {name}: {error}"))
    };
    let made = engine.make_volume(&volume, labels).await.map_err(failed)?;
    if made.get(OWNER) != Some(owner) {
        return Err(Failure::lasting(CallError::Foreign(volume).to_string()));
    }
    let folder = engine.volume_folder(&volume).await.map_err(failed)?;
    if let Some(folder) = folder.filter(|_| engine.is_here)
        && let Err(error) = std::fs::set_permissions(&folder, Permissions::from_mode(0o777))
    {
        tracing::debug!("not every user may write {}: {error}", folder.display());
    }
    Ok(())
}

/// Removes the folders that go with an instance, by their names, or whatever there are.
pub(super) async fn remove_scratch(
    shared: &Shared,
    id: &InstanceId,
    names: Option<Vec<String>>,
) -> Result<(), CallError> {
    let owner = &shared.config.owner;
    let names = match names {
        Some(names) => names.iter().map(|name| scratch_name(owner, id, name)).collect(),
        None => {
            let all = shared.engine.volumes(owner).await?;
            let own = all.into_iter().filter(|it| it.label(SCRATCH) == Some(id.as_str()));
            own.filter_map(|it| it.name).collect::<Vec<_>>()
        }
    };
    for name in names {
        match shared.engine.remove_volume(&name).await {
            Err(CallError::Refused { status: 404, .. }) | Ok(()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Removes the folders of instances that are gone: this program may have ended before it did.
pub(super) async fn sweep_scratch(shared: Arc<Shared>) {
    tokio::select! {
        () = shared.closed.cancelled() => return,
        // By then the instances that go on have been started again.
        () = sleep(SWEEP_AFTER) => {}
    }
    let (Ok(all), Ok(containers)) =
        (shared.engine.volumes(&shared.config.owner).await, shared.list(None).await)
    else {
        return;
    };
    let of_container: BTreeSet<&str> =
        containers.iter().filter_map(|it| it.label(INSTANCE)).collect();
    for volume in &all {
        let (Some(id), Some(name)) = (volume.label(SCRATCH), &volume.name) else { continue };
        let is_known = shared.lock().keys().any(|known| known.as_str() == id);
        if !is_known && !of_container.contains(id) {
            let _ = shared.engine.remove_volume(name).await;
        }
    }
}

/// Makes a volume, unless it is there already.
pub(super) async fn make(shared: &Shared, key: &VolumeKey) -> Result<(), CallError> {
    let owner = &shared.config.owner;
    let name = name(owner, key);
    let labels = HashMap::from([
        (OWNER.to_owned(), owner.clone()),
        (WORKLOAD.to_owned(), key.workload.clone()),
        (PLACE.to_owned(), key.place.clone()),
        (VOLUME.to_owned(), key.name.clone()),
    ]);
    let engine = &shared.engine;
    let made = engine.make_volume(&name, labels).await?;
    if made.get(OWNER) != Some(owner) {
        return Err(CallError::Foreign(name));
    }
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
    let mut all: BTreeSet<VolumeKey> = listed.iter().filter_map(key).collect();
    let mut known = shared.known_volumes();
    if known.shown < number {
        known.shown = number;
        // One whose files are replaced is away for a moment, and its replica belongs here.
        all.extend(known.held.iter().cloned());
        if known.all.as_ref() != Some(&all) {
            known.all = Some(all);
            shared.volumes_changed.notify_one();
        }
    }
    Ok(())
}

/// Removes a volume with all that is in it.
pub(super) async fn remove(shared: &Arc<Shared>, key: &VolumeKey) -> Result<(), NotDone> {
    let hold = Hold::of(shared, key)?;
    clear(shared, key).await?;
    drop(hold);
    Ok(look(shared).await?)
}

/// Removes a volume, without a look at what is left.
pub(super) async fn clear(shared: &Shared, key: &VolumeKey) -> Result<(), CallError> {
    match shared.engine.remove_volume(&name(&shared.config.owner, key)).await {
        Err(CallError::Refused { status: 404, .. }) | Ok(()) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Why nothing was done to a volume.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotDone {
    #[error("an instance on this node uses it")]
    InUse,
    #[error("its files are being replaced already")]
    Held,
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Keeps instances from starting on a volume, until this is dropped.
pub(super) struct Hold {
    shared: Arc<Shared>,
    key: VolumeKey,
}

impl Hold {
    /// Holds a volume that no instance uses.
    pub fn of(shared: &Arc<Shared>, key: &VolumeKey) -> Result<Hold, NotDone> {
        if !shared.known_volumes().held.insert(key.clone()) {
            return Err(NotDone::Held);
        }
        let hold = Hold { shared: shared.clone(), key: key.clone() };
        // Looked at only now: an instance that comes later finds it held.
        let uses = |instance: &Arc<Instance>| {
            let Payload::Container(payload) = &instance.launch.payload else { return false };
            instance.is_alive() && payload.kept().any(|kept| kept == key)
        };
        let is_used = shared.lock().values().any(uses);
        if is_used { Err(NotDone::InUse) } else { Ok(hold) }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shared.known_volumes().held.remove(&self.key);
    }
}

fn key(listed: &ListedVolume) -> Option<VolumeKey> {
    Some(VolumeKey {
        workload: listed.label(WORKLOAD)?.into(),
        place: listed.label(PLACE)?.into(),
        name: listed.label(VOLUME)?.into(),
    })
}
