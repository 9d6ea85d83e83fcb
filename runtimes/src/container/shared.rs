//! Shared by the tasks of an adapter: its settings, the engine, and the book of instances.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shoal_protocol::model::spec::Health;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::engine::Engine;
use super::forms::Listed;
use super::instance::Instance;
use super::loaded::Loaded;
use super::refusal::CallError;
use super::{Config, given_files, removal};
use crate::error::DeviceError;
use crate::logs::Logs;
use crate::model::{InstanceId, VolumeKey};
use crate::status::StatusTable;

/// The volumes that the engine listed last.
#[derive(Default)]
pub(super) struct KnownVolumes {
    /// Lists that were begun. Of two that overlap, the later one counts.
    pub begun: u64,
    /// The list that counts.
    pub shown: u64,
    pub all: Option<BTreeSet<VolumeKey>>,
    /// Those on which no instance may start, because their files are replaced or removed.
    pub held: BTreeSet<VolumeKey>,
}

pub(super) struct Shared {
    pub config: Config,
    pub engine: Arc<Engine>,
    pub statuses: StatusTable,
    pub logs: Logs,
    /// The node's tokio runtime.
    pub node: Handle,
    /// The adapter was dropped: tasks end, containers run on.
    pub closed: CancellationToken,
    pub instances: Mutex<BTreeMap<InstanceId, Arc<Instance>>>,
    /// A permit for each container that is being made and started.
    pub starts: Semaphore,
    /// The volumes of this owner, as the engine listed them last; `None` before it did.
    pub volumes: Mutex<KnownVolumes>,
    /// There are other volumes than before.
    pub volumes_changed: Notify,
    /// Images that this adapter gave the engine.
    pub loaded: Loaded,
    /// The probes of images, by their ids; the number is bounded where they are read.
    pub image_probes: Mutex<BTreeMap<String, Option<Health>>>,
    /// The folder in memory for the files of secrets and configs; none where the device has none.
    pub given: Option<PathBuf>,
}

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Arc<Instance>>> {
        // Each change is one insertion or removal, complete also when a panic releases the lock.
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn known_volumes(&self) -> MutexGuard<'_, KnownVolumes> {
        // As above.
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Own containers in any state, or those of one instance.
    pub async fn list(&self, id: Option<&InstanceId>) -> Result<Vec<Listed>, CallError> {
        self.engine.list(&self.config.owner, id.map(InstanceId::as_str)).await
    }

    /// Ends and removes all containers of an instance.
    pub async fn clear(
        &self,
        id: &InstanceId,
        grace: watch::Receiver<Option<Duration>>,
    ) -> Result<(), DeviceError> {
        let failed = |error| self.device_error(format!("removing {id}"), error);
        let all = self.list(Some(id)).await.map_err(failed)?;
        removal::end_and_remove_all(&self.engine, all, |_| None, grace).await.map_err(failed)?;
        given_files::remove(self.given.as_deref(), id);
        Ok(())
    }

    /// Removes an instance from the book, unless a newer life stands there.
    pub fn forget(&self, instance: &Arc<Instance>) {
        let mut instances = self.lock();
        let id = &instance.launch.id;
        if instances.get(id).is_some_and(|present| Arc::ptr_eq(present, instance)) {
            instances.remove(id);
        }
    }

    pub fn device_error(&self, doing: impl Into<String>, error: CallError) -> DeviceError {
        DeviceError::new(doing, format!("{}: {error}", self.engine.name()))
    }
}
