//! The adapters of this node, one for each kind of program.
//!
//! ```text
//!   executor ── start, stop ──────▶ the adapter of the spec's kind
//!   executor ◀── watch ──────────── all adapters, merged
//!   transfer ── prepare ──────────▶ the adapter of the artifact's kind
//!   ingress, api ── endpoint, logs ▶ the adapter that knows the instance
//! ```
//!
//! **An instance belongs to the adapter that it was started with.** Its id contains the hash of its
//! spec, and with it the kind, so two adapters never have the same id.

pub mod engine;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use futures::future::select_all;
use futures::stream::BoxStream;
use futures::{FutureExt, future};
use shoal_protocol::model::{InstanceState, ProgramKind};
use shoal_runtimes::logs::{LogLine, Tail};
use shoal_runtimes::session::SessionError;
use shoal_runtimes::{
    DeviceError, Endpoint, Instance, InstanceId, LogsError, Runtime, ServeError, Status, Usage,
    VolumeKey, Watch,
};

/// This node has no adapter for a kind of program. Final: a node gets no adapter while it runs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this node has no `{0}` runtime")]
pub struct NoRuntime(pub ProgramKind);

/// The adapters of one node. Cheap to clone.
#[derive(Clone)]
pub struct RuntimeSet {
    /// At most one of each kind, so a handful: looking through them is faster than a map.
    adapters: Arc<[Arc<dyn Runtime>]>,
}

/// Follows the instances of all adapters.
pub struct Watches(Vec<Watch>);

impl RuntimeSet {
    /// A set of these adapters.
    ///
    /// # Panics
    /// Two adapters are of one kind.
    pub fn new(adapters: impl IntoIterator<Item = Arc<dyn Runtime>>) -> Self {
        let adapters: Arc<[Arc<dyn Runtime>]> = adapters.into_iter().collect();
        for (at, adapter) in adapters.iter().enumerate() {
            let kind = adapter.kind();
            assert!(
                adapters[..at].iter().all(|other| other.kind() != kind),
                "two runtimes are called `{kind}`"
            );
        }
        RuntimeSet { adapters }
    }

    /// All adapters, in the order in which they were given.
    pub fn all(&self) -> &[Arc<dyn Runtime>] {
        &self.adapters
    }

    /// The kinds of programs that this node can run now.
    pub fn kinds(&self) -> BTreeSet<ProgramKind> {
        let known = [ProgramKind::Wasm, ProgramKind::Container];
        let runs = |kind: &ProgramKind| self.get(*kind).is_ok_and(|it| it.is_available());
        known.into_iter().filter(runs).collect()
    }

    /// Why some adapters cannot start instances now, for people.
    pub fn troubles(&self) -> impl Iterator<Item = String> + '_ {
        self.adapters.iter().filter_map(|adapter| adapter.trouble())
    }

    /// The adapter for programs of this kind.
    ///
    /// # Errors
    /// This node has none.
    pub fn get(&self, kind: ProgramKind) -> Result<&Arc<dyn Runtime>, NoRuntime> {
        let name = kind.to_string();
        let found = self.adapters.iter().find(|adapter| adapter.kind() == name);
        found.ok_or(NoRuntime(kind))
    }

    /// The latest report on an instance.
    pub fn status(&self, id: &InstanceId) -> Option<Status> {
        self.adapters.iter().find_map(|adapter| adapter.status(id))
    }

    /// The place at which a running instance takes requests.
    ///
    /// # Errors
    /// As those of [`Runtime::endpoint`].
    pub fn endpoint(&self, id: &InstanceId) -> Result<Endpoint, ServeError> {
        let mut answers = self.adapters.iter().map(|adapter| adapter.endpoint(id));
        let known = answers.find(|answer| !matches!(answer, Err(ServeError::Unknown(_))));
        known.unwrap_or_else(|| Err(ServeError::Unknown(id.clone())))
    }

    /// Follows the states of all instances; the first answers hold every instance.
    pub fn watch(&self) -> Watches {
        Watches(self.adapters.iter().map(|adapter| adapter.watch()).collect())
    }

    /// The instances that run on this device, of all adapters.
    ///
    /// # Errors
    /// The engine of at least one adapter did not answer.
    pub async fn instances(&self) -> Result<Vec<Instance>, DeviceError> {
        let found = self.adapters.iter().map(|adapter| adapter.instances());
        Ok(future::try_join_all(found).await?.concat())
    }

    /// The volumes that this node keeps for programs of a kind; `None` while that is not known,
    /// also on a node that runs none of them now.
    pub fn volumes_of(&self, kind: ProgramKind) -> Option<Vec<VolumeKey>> {
        self.get(kind).ok()?.volumes()
    }

    /// The volumes that this node keeps, as far as it knows; `None` if it knows of none, and not
    /// whether there are any.
    pub fn volumes(&self) -> Option<Vec<VolumeKey>> {
        let folders = self.volumes_of(ProgramKind::Wasm).unwrap_or_default();
        match self.volumes_of(ProgramKind::Container) {
            Some(all) => Some([all, folders].concat()),
            None => Some(folders).filter(|folders| !folders.is_empty()),
        }
    }

    /// The kind of programs for which this node keeps a volume.
    pub fn keeps(&self, key: &VolumeKey) -> Option<ProgramKind> {
        let all = [ProgramKind::Wasm, ProgramKind::Container];
        all.into_iter().find(|kind| self.volumes_of(*kind).is_some_and(|it| it.contains(key)))
    }

    /// Returns when there are other volumes than the caller knows, or perhaps.
    pub async fn volumes_changed(&self) {
        if self.adapters.is_empty() {
            return future::pending().await;
        }
        select_all(self.adapters.iter().map(|adapter| adapter.volumes_changed())).await;
    }

    /// The resources that an instance uses; `None` when it does not run.
    pub async fn usage(&self, id: &InstanceId) -> Option<Usage> {
        for adapter in self.adapters.iter().filter(|adapter| adapter.status(id).is_some()) {
            if let Some(usage) = adapter.usage(id).await {
                return Some(usage);
            }
        }
        None
    }

    /// The adapter that runs an instance, for a session with it.
    ///
    /// # Errors
    /// [`SessionError::NotRunning`].
    pub fn sessions(&self, id: &InstanceId) -> Result<&Arc<dyn Runtime>, SessionError> {
        let runs = |adapter: &&Arc<dyn Runtime>| {
            adapter.status(id).is_some_and(|status| status.state == InstanceState::Running)
        };
        self.adapters.iter().find(runs).ok_or_else(|| SessionError::NotRunning(id.clone()))
    }

    /// The last lines of an instance, as [`Runtime::logs`] gives them.
    ///
    /// # Errors
    /// No adapter has logs under this id, or the device could not read them.
    pub async fn logs(
        &self,
        id: &InstanceId,
        tail: Tail,
    ) -> Result<BoxStream<'static, LogLine>, LogsError> {
        // The adapter that runs it first: only that one has its latest lines, and follows them. The
        // files of all lie in one folder, so that another one finds those of an ended instance.
        let mut adapters: Vec<_> = self.adapters.iter().collect();
        adapters.sort_by_key(|adapter| adapter.status(id).is_none());
        for adapter in adapters {
            match adapter.logs(id, tail).await {
                Err(LogsError::Unknown(_)) => {}
                found => return found,
            }
        }
        Err(LogsError::Unknown(id.clone()))
    }
}

impl fmt::Debug for RuntimeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.adapters.iter().map(|adapter| adapter.kind())).finish()
    }
}

impl Watches {
    /// Waits for a change at one adapter, and gives the latest report on each of its changed
    /// instances. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Vec<Status> {
        if self.0.is_empty() {
            return future::pending().await;
        }
        // Otherwise an adapter whose instances always change would keep the others from the turn.
        self.0.rotate_left(1);
        select_all(self.0.iter_mut().map(|watch| watch.next().boxed())).await.0
    }
}

#[cfg(test)]
mod tests;
