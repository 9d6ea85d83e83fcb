//! Containers of the device's engine: Docker from 20.10 or Podman from 4.
//!
//! ```text
//! start -> book -> task of the instance --create, start, inspect, stop, remove--> engine
//!                        ^      |                                                   |
//!                   wake |      +- status, log <-- lines ---------------------------+
//!                        +--- events, list every ten seconds -----------------------+
//! ```
//!
//! **The engine's list is the truth.** An event, an answer and a name may be lost, repeated or
//! wrong; a container's labels and its inspected state are not. Containers are found by labels, so
//! renaming one harms nothing, and **a container without this owner's label is never touched**.
//!
//! **Containers outlive the adapter.** Dropping it, or killing the node, leaves them running: a
//! later start of the same launch finds the container and goes on with it. When the engine is gone,
//! instances keep their last state; when it is back, those that ended meanwhile are reported.
//!
//! **Every call has a deadline**, and a refusal names its cause in words of this adapter: Podman
//! answers 500 to nearly all of them.
//!
//! An endpoint is the container's own address where the device reaches it. **The engine may give an
//! address to the next container at once**, Docker does: ask for the endpoint at each request, and
//! never keep one.
//!
//! A read-only root file system has writable `/tmp`, `/run` and `/var/tmp` on Podman, and none on
//! Docker: name what must be writable as `tmpfs`.

mod config;
mod create;
mod credentials;
mod death;
mod engine;
mod events;
mod export;
mod forms;
pub(crate) mod fuzzing;
mod given_files;
mod group;
mod healthcheck;
mod hooks;
mod image;
mod instance;
mod life;
mod load;
mod loaded;
mod logs;
mod needs;
mod probe;
mod raw;
mod refusal;
mod removal;
mod sessions;
mod shared;
mod socket;
mod volume_files;
mod volumes;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use shoal_protocol::model::spec::Health;
use shoal_protocol::model::{Digest, InstanceState};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

pub use config::Config;
pub use engine::EngineView;
pub use export::{EngineImage, ImageRefused};
pub use loaded::Removable;
pub use socket::SetupError;

use crate::error::{DeviceError, LogsError, PrepareError, StartError};
use crate::logs::{LogLine, Logs, Tail};
use crate::model::{Instance, InstanceId, Launch, Usage, VolumeKey};
use crate::runtime::Runtime;
use crate::status::StatusTable;
use engine::{Engine, INSTANCE};
use forms::{Listed, Phase};
use life::Life;
use shared::Shared;

/// Containers that are made and started at a time: engines take more in turns.
const STARTS: usize = 16;

/// The container adapter. Dropping it leaves the containers running.
pub struct Containers {
    shared: Arc<Shared>,
}

impl Containers {
    /// Finds the engine and asks it once what it is. Call it on the tokio runtime that shall carry
    /// the instances.
    ///
    /// # Errors
    /// There is no engine that can be used; the error says what to do.
    pub async fn new(config: Config) -> Result<Self, SetupError> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !(1..=100).contains(&config.owner.len()) || !config.owner.chars().all(legal) {
            return Err(SetupError::Owner(config.owner));
        }
        let socket = match config.socket.clone() {
            Some(socket) => socket,
            None => {
                let found = socket::find(|name| std::env::var_os(name), |path| path.exists())?;
                for other in &found.others {
                    tracing::info!(
                        "another container engine is at {}, and is not used: {} comes first",
                        other.display(),
                        found.socket.display()
                    );
                }
                found.socket
            }
        };
        let engine = Engine::connect(&socket).await?;
        tracing::info!(
            "containers run on {} {} at {}",
            engine.name(),
            engine.version,
            socket.display()
        );
        let given = given_files::folder(&config.owner);
        let shared = Arc::new(Shared {
            logs: Logs::new(&config.logs, config.log_limits),
            statuses: config.statuses.clone(),
            config,
            engine: Arc::new(engine),
            node: Handle::current(),
            closed: CancellationToken::new(),
            instances: Mutex::default(),
            starts: Semaphore::new(STARTS),
            volumes: Mutex::default(),
            volumes_changed: Notify::new(),
            loaded: loaded::Loaded::default(),
            image_probes: Mutex::default(),
            given,
        });
        shared.node.spawn(events::run(shared.clone()));
        shared.node.spawn(loaded::run(shared.clone()));
        shared.node.spawn(volume_files::sweep(shared.clone()));
        shared.node.spawn(volumes::sweep_scratch(shared.clone()));
        Ok(Containers { shared })
    }

    /// The engine, and whether it answers.
    pub fn engine(&self) -> EngineView {
        self.shared.engine.view()
    }

    fn accept(&self, launch: Launch) -> Result<(), StartError> {
        let shared = &self.shared;
        let hash = match create::check(&launch, &shared.config.allowed, shared.engine.is_podman) {
            Ok(payload) => create::hash(&launch, payload),
            Err(reason) => return Err(StartError::Invalid { id: launch.id, reason }),
        };
        let mut instances = shared.lock();
        let present = instances.get(&launch.id);
        if let Some(present) = present.filter(|present| present.is_alive()) {
            let is_same = present.launch.is_as(&launch);
            return if is_same { Ok(()) } else { Err(StartError::Differs(launch.id)) };
        }
        if present.is_none() && instances.len() >= shared.config.instances {
            return Err(StartError::Full(instances.len()));
        }
        let previous = present.cloned();
        let id = launch.id.clone();
        // Followers may ask for lines before there are any.
        let log = shared.logs.open(&id);
        let status = shared.statuses.begin(id.clone());
        let instance = Arc::new(instance::Instance::new(launch, hash, status));
        instances.insert(id, instance.clone());
        let life = Life { shared: shared.clone(), instance, previous };
        shared.node.spawn(async move {
            life.run().await;
            drop(log);
        });
        Ok(())
    }
}

/// Ends an instance that was asked to stop, or one that only the engine knows.
async fn stop(
    shared: Arc<Shared>,
    id: InstanceId,
    grace: Duration,
    asked: Option<(Arc<instance::Instance>, instance::Stopping)>,
) -> Result<(), DeviceError> {
    let mut failed = None;
    if let Some((instance, stopping)) = asked {
        let refused = |reason| DeviceError::new(format!("stopping {id}"), reason);
        stopping.done().await.map_err(refused)?;
        let state = instance.status.state();
        if !matches!(state, Some(InstanceState::Failed { .. } | InstanceState::Done { .. })) {
            return Ok(());
        }
        failed = Some(instance);
    }
    let grace = watch::Sender::new(Some(grace));
    shared.clear(&id, grace.subscribe()).await?;
    let removed = volumes::remove_scratch(&shared, &id, None).await;
    removed.map_err(|error| shared.device_error(format!("removing the folders of {id}"), error))?;
    if let Some(instance) = failed {
        shared.logs.open(&id).close().await;
        shared.forget(&instance);
        instance.status.stopped();
    }
    Ok(())
}

impl Runtime for Containers {
    fn kind(&self) -> &'static str {
        "container"
    }

    fn outlives_process(&self) -> bool {
        true
    }

    fn prepare(&self, _: Digest) -> BoxFuture<'_, Result<(), PrepareError>> {
        // Parts of images need no preparation.
        async { Ok(()) }.boxed()
    }

    fn start(&self, launch: Launch) -> BoxFuture<'_, Result<(), StartError>> {
        async move { self.accept(launch) }.boxed()
    }

    fn stop(&self, id: &InstanceId, grace: Duration) -> BoxFuture<'_, Result<(), DeviceError>> {
        let doing = format!("stopping {id}");
        let (shared, closed) = (self.shared.clone(), self.shared.closed.clone());
        let id = id.clone();
        // Asked at once: a start that comes after this call begins a new life.
        let instance = self.shared.lock().get(&id).cloned();
        let asked = instance.map(|instance| {
            let stopping = instance.ask_to_stop(grace);
            (instance, stopping)
        });
        // A task of its own: it goes on when the future is dropped.
        let stopping = self.shared.node.spawn(async move {
            tokio::select! {
                stopped = stop(shared, id.clone(), grace, asked) => stopped,
                () = closed.cancelled() => {
                    Err(DeviceError::new(format!("stopping {id}"), "the adapter was dropped"))
                }
            }
        });
        async move { stopping.await.unwrap_or_else(|ended| Err(DeviceError::new(doing, ended))) }
            .boxed()
    }

    fn own_probes(&self, id: &InstanceId) -> Option<Health> {
        self.shared.lock().get(id)?.own_probes()
    }

    fn statuses(&self) -> &StatusTable {
        &self.shared.statuses
    }

    fn instances(&self) -> BoxFuture<'_, Result<Vec<Instance>, DeviceError>> {
        async move {
            let failed = |error| self.shared.device_error("listing containers", error);
            let listed = self.shared.list(None).await.map_err(failed)?;
            let id = |one: &Listed| InstanceId::new(one.label(INSTANCE)?).ok();
            // One that ended while nobody looked is taken up again or stopped, as one that runs.
            let known = |id: &InstanceId| self.shared.lock().contains_key(id);
            let unseen = |one: &Listed| one.is_done() && id(one).is_some_and(|id| !known(&id));
            let there = listed.iter().filter(|one| one.phase() == Phase::Alive || unseen(one));
            let mut ids: Vec<_> = there.filter_map(id).collect();
            ids.sort();
            ids.dedup();
            Ok(ids.into_iter().map(|id| Instance { id }).collect())
        }
        .boxed()
    }

    fn usage(&self, id: &InstanceId) -> BoxFuture<'_, Option<Usage>> {
        let instance = self.shared.lock().get(id).cloned();
        async move {
            let instance = instance.filter(|instance| instance.is_alive())?;
            let network = instance.network();
            let ids = instance.containers();
            let all = ids.iter().map(|id| async {
                let usage = self.shared.engine.stats(id).await.ok()?.usage()?;
                let is_reached = network.as_ref() == Some(id);
                Some(Usage { network: usage.network.filter(|_| is_reached), ..usage })
            });
            // Some of a job may have ended.
            let all = futures::future::join_all(all).await;
            all.into_iter().flatten().reduce(Usage::plus)
        }
        .boxed()
    }

    fn volumes(&self) -> Option<Vec<VolumeKey>> {
        let known = self.shared.known_volumes();
        known.all.as_ref().map(|all| all.iter().cloned().collect())
    }

    fn remove_volume(&self, key: &VolumeKey) -> BoxFuture<'_, Result<(), DeviceError>> {
        let key = key.clone();
        async move {
            let engine = self.shared.engine.name();
            let failed = |error: volumes::NotDone| {
                DeviceError::new(format!("removing {key}"), format!("{engine}: {error}"))
            };
            volumes::remove(&self.shared, &key).await.map_err(failed)
        }
        .boxed()
    }

    fn volumes_changed(&self) -> BoxFuture<'_, ()> {
        self.shared.volumes_changed.notified().boxed()
    }

    fn logs(
        &self,
        id: &InstanceId,
        tail: Tail,
    ) -> BoxFuture<'_, Result<BoxStream<'static, LogLine>, LogsError>> {
        let id = id.clone();
        async move { self.shared.logs.read(&id, tail).await }.boxed()
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        self.shared.closed.cancel();
    }
}
