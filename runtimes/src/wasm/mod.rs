//! WebAssembly components on wasmtime.
//!
//! ```text
//! prepare: artifact --verified--> child process --compiled--> MAC --> cache --loaded--> Program,
//!          which all its replicas share
//! command: an instance of the Program -> runs to its end -> instance dropped
//! request: endpoint -> slot -> fresh instance of the Program -> answer streams -> instance dropped
//! ```
//!
//! ***A guest harms only itself.** Each request has an instance of its own, so a trap ends one
//! request. All requests of a replica together are bounded: their memory by a hard limit, their CPU
//! time by a share over time, their number by slots. One request is bounded by CPU time and by a
//! time without progress. Guests compute on threads of their own at low priority, and are
//! interrupted every few milliseconds: otherwise other nodes would take a node that is busy with
//! guests for dead.
//!
//! ***A guest gets nothing ambient**: the environment of its [`Launch`], clocks, random bytes, its
//! own log, the folders of its volumes. No other files, no sockets, no standard input. Requests of
//! its own over `wasi:http/outgoing-handler` are denied for now: the guest sees
//! `http-request-denied`, and its log says so.

mod cache;
mod child;
mod command;
mod compile;
mod engine;
mod exchange;
mod fault;
pub(crate) mod fuzzing;
mod guest;
mod host;
mod inspect;
mod memory;
mod replica;
mod request;
mod share;
mod ticker;
mod volumes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use shoal_protocol::model::Digest;

pub use child::compiler_entry;
pub use compile::CompileLimits;
pub use inspect::{Kind, Refusal, inspect};

use crate::artifacts::ArtifactStore;
use crate::error::{DeviceError, LogsError, PrepareError, StartError};
use crate::logs::{self, LogLine, Tail};
use crate::model::{Folder, Instance, InstanceId, Launch, Payload, Usage, VolumeKey};
use crate::runtime::Runtime;
use crate::session::{Chunks, SessionError, Sessions};
use crate::status::StatusTable;
use host::Host;
use replica::Replica;
use volumes::{InUse, NotDone, Volumes};

/// The smallest memory limit: less cannot hold even an empty component.
const MIN_MEMORY: u64 = 64 << 10;
/// Bytes of all names and values of an environment; each request copies it.
const MAX_ENV: usize = 64 << 10;

/// Settings of the adapter. [`Config::new`] has sane defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// A folder for compiled code. Only this node may write to it.
    pub cache: PathBuf,
    /// Bytes of compiled code that are kept. Code that was evicted is compiled anew.
    pub cache_bytes: u64,
    /// A folder for the guests' logs.
    pub logs: PathBuf,
    /// A folder for the volumes of components. Without one, none is started that has any.
    pub volumes: Option<PathBuf>,
    /// Bounds of the logs.
    pub log_limits: logs::Limits,
    /// The program that compiles, which calls [`compiler_entry`] first. `None`: this program, which
    /// must have called it.
    pub compiler: Option<PathBuf>,
    /// Bounds of one compilation.
    pub compile: CompileLimits,
    /// Threads on which guests compute.
    pub threads: usize,
    /// How long a guest may go without progress while the client waits for it: before its answer
    /// begins, and between two parts of it. Time in which the guest waits for its client does not
    /// count.
    pub request_time: Duration,
    /// How long a part of an answer may wait until the caller takes it. The guest is
    /// held back meanwhile, and its own time stands still. Servers cut slow clients off much
    /// earlier, by the bytes that leave; this bound is for callers that do not.
    pub untaken_time: Duration,
    /// CPU time that one request may use.
    pub request_cpu: Duration,
    /// Requests that one replica answers at a time, if its memory limit has room for that many
    /// instances.
    pub concurrent: usize,
    /// Requests of one replica that wait for a slot; further ones are answered 503 at once.
    pub waiting: usize,
    /// Replicas on this node, failed ones included.
    pub instances: usize,
}

impl Config {
    /// 512 MiB of compiled code, one thread a core, 30 s without progress, an hour for a part to be
    /// taken, 10 s of CPU, 64 requests at a time and 64 waiting, 4096 replicas.
    pub fn new(cache: impl Into<PathBuf>, logs: impl Into<PathBuf>) -> Self {
        Config {
            cache: cache.into(),
            cache_bytes: 512 << 20,
            logs: logs.into(),
            volumes: None,
            log_limits: logs::Limits::default(),
            compiler: None,
            compile: CompileLimits::default(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            request_time: Duration::from_secs(30),
            untaken_time: Duration::from_secs(3600),
            request_cpu: Duration::from_secs(10),
            concurrent: 64,
            waiting: 64,
            instances: 4096,
        }
    }
}

/// The adapter cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The program did not call [`compiler_entry`], and [`Config::compiler`] names no other.
    #[error(
        "this program cannot be started anew to compile: call \
            shoal_runtimes::wasm::compiler_entry() first thing in main, \
         or name a program that does in Config::compiler"
    )]
    NoCompiler,
    /// This device is at fault.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// The WebAssembly adapter. Dropping it cuts all guests off.
pub struct Wasm {
    host: Arc<Host>,
    replicas: Arc<Replicas>,
}

type Replicas = Mutex<BTreeMap<InstanceId, Arc<Replica>>>;

impl Wasm {
    /// Makes the adapter. Call it on the tokio runtime that shall write logs and wait for
    /// compilers.
    ///
    /// # Errors
    /// [`SetupError::NoCompiler`]: the program cannot compile. Otherwise the device is at fault.
    pub async fn new(config: Config, artifacts: ArtifactStore) -> Result<Self, SetupError> {
        let host = Host::new(config, artifacts).await?;
        Ok(Wasm { host: Arc::new(host), replicas: Arc::default() })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Arc<Replica>>> {
        lock(&self.replicas)
    }

    /// The component of a launch that can be started.
    fn check(&self, launch: &Launch) -> Result<Digest, StartError> {
        let invalid = |reason: String| Err(StartError::Invalid { id: launch.id.clone(), reason });
        let (component, args) = match &launch.payload {
            Payload::Component(component) => (*component, [].as_slice()),
            Payload::Command(command) => (command.component, command.args.as_slice()),
            Payload::Container(_) => return invalid("it is not a component".into()),
        };
        let bytes: usize = args.iter().map(String::len).sum();
        if bytes > MAX_ENV || args.iter().any(|arg| arg.contains('\0')) {
            return invalid(format!("arguments of {bytes} bytes, or with a NUL byte"));
        }
        if launch.memory < MIN_MEMORY {
            return invalid(format!(
                "a memory limit of {} bytes cannot hold any component",
                launch.memory
            ));
        }
        if let Some(name) = launch
            .whole_env()
            .map(|(name, _)| name)
            .find(|name| name.is_empty() || name.contains(['=', '\0']))
        {
            return invalid(format!("{name:?} cannot name a variable"));
        }
        if let Some(why) = launch.given.wrong_variable() {
            return invalid(why);
        }
        if !launch.given.files.is_empty() {
            return invalid(
                "a component has no files: give secrets and configs as variables".into(),
            );
        }
        let env: usize = launch.whole_env().map(|(name, value)| name.len() + value.len()).sum();
        if env > MAX_ENV {
            return invalid(format!("{env} bytes of environment, at most {MAX_ENV} are allowed"));
        }
        Ok(component)
    }

    fn accept(&self, launch: Launch) -> Result<(), StartError> {
        let component = self.check(&launch)?;
        let mut replicas = self.lock();
        if let Some(present) = replicas.get(&launch.id).filter(|present| present.is_alive()) {
            return if present.launch().is_as(&launch) {
                Ok(())
            } else {
                Err(StartError::Differs(launch.id))
            };
        }
        if !replicas.contains_key(&launch.id) && replicas.len() >= self.host.config.instances {
            return Err(StartError::Full(replicas.len()));
        }
        let folders = self.folders(&launch)?;
        let replica = Replica::start(self.host.clone(), component, launch, folders);
        replicas.insert(replica.launch().id.clone(), replica);
        Ok(())
    }

    /// The folders of a launch's volumes, which are made if they are not there.
    fn folders(&self, launch: &Launch) -> Result<Vec<InUse>, StartError> {
        let enter = |folder: &Folder| {
            let volumes = self.host.volumes.as_ref().ok_or_else(|| {
                let reason = "this node keeps no volumes of components".into();
                StartError::Invalid { id: launch.id.clone(), reason }
            })?;
            volumes.enter(&folder.key).map_err(|error| {
                let doing = format!("opening its volume {}", folder.key.name);
                StartError::Device(DeviceError::new(doing, error))
            })
        };
        launch.folders.iter().map(enter).collect()
    }

    /// The volumes of components on this node.
    fn with_volumes(&self) -> Result<Volumes, SessionError> {
        let none = "this node keeps no volumes of components";
        self.host.volumes.clone().ok_or(SessionError::Unsupported(none))
    }

    fn end(&self, id: &InstanceId, grace: Duration) -> Option<BoxFuture<'static, ()>> {
        let replica = self.lock().get(id)?.clone();
        let replicas = self.replicas.clone();
        let ended = replica.clone();
        let forget = move || {
            let mut replicas = lock(&replicas);
            // A newer replica may have been started under this id meanwhile.
            if replicas.get(&ended.launch().id).is_some_and(|present| Arc::ptr_eq(present, &ended))
            {
                replicas.remove(&ended.launch().id);
            }
        };
        Some(replica.stop(grace, forget).boxed())
    }
}

fn lock(replicas: &Replicas) -> MutexGuard<'_, BTreeMap<InstanceId, Arc<Replica>>> {
    // Each change is one insertion or removal, complete also when a panic releases the lock.
    replicas.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sessions for Wasm {
    fn read_volume(&self, key: &VolumeKey) -> BoxFuture<'_, Result<Chunks, SessionError>> {
        let key = key.clone();
        async move { self.with_volumes()?.read(&key).map_err(NotDone::into_session) }.boxed()
    }

    fn write_volume(
        &self,
        key: &VolumeKey,
        archive: Chunks,
        beside: bool,
    ) -> BoxFuture<'_, Result<(), SessionError>> {
        let key = key.clone();
        async move {
            let written = self.with_volumes()?.write(&key, archive, beside).await;
            written.map_err(NotDone::into_session)
        }
        .boxed()
    }
}

impl Runtime for Wasm {
    fn kind(&self) -> &'static str {
        "wasm"
    }

    fn prepare(&self, artifact: Digest) -> BoxFuture<'_, Result<(), PrepareError>> {
        async move { self.host.program(artifact).await.map(|_| ()) }.boxed()
    }

    fn start(&self, launch: Launch) -> BoxFuture<'_, Result<(), StartError>> {
        async move { self.accept(launch) }.boxed()
    }

    fn stop(&self, id: &InstanceId, grace: Duration) -> BoxFuture<'_, Result<(), DeviceError>> {
        let ended = self.end(id, grace);
        async move {
            if let Some(ended) = ended {
                ended.await;
            }
            Ok(())
        }
        .boxed()
    }

    fn statuses(&self) -> &StatusTable {
        &self.host.statuses
    }

    fn instances(&self) -> BoxFuture<'_, Result<Vec<Instance>, DeviceError>> {
        let replicas = self.lock();
        let running =
            replicas.values().filter(|replica| replica.state().is_some_and(|state| !state.ended()));
        let instance = |replica: &Arc<Replica>| Instance { id: replica.launch().id.clone() };
        let instances = running.map(instance).collect();
        async move { Ok(instances) }.boxed()
    }

    fn usage(&self, id: &InstanceId) -> BoxFuture<'_, Option<Usage>> {
        let usage =
            self.lock().get(id).filter(|replica| replica.is_alive()).map(|replica| replica.usage());
        async move { usage }.boxed()
    }

    fn volumes(&self) -> Option<Vec<VolumeKey>> {
        Some(self.host.volumes.as_ref().map(Volumes::all).unwrap_or_default())
    }

    fn volumes_changed(&self) -> BoxFuture<'_, ()> {
        match &self.host.volumes {
            Some(volumes) => volumes.changed().boxed(),
            None => std::future::pending().boxed(),
        }
    }

    fn remove_volume(&self, key: &VolumeKey) -> BoxFuture<'_, Result<(), DeviceError>> {
        let (volumes, key) = (self.host.volumes.clone(), key.clone());
        async move {
            let Some(volumes) = volumes else { return Ok(()) };
            let doing = format!("removing the volume {}", key.name);
            let removed = tokio::task::spawn_blocking(move || volumes.remove(&key)).await;
            let removed = removed.map_err(|stopped| DeviceError::new(doing.clone(), stopped))?;
            removed.map_err(|error| DeviceError::new(doing, error))
        }
        .boxed()
    }

    fn logs(
        &self,
        id: &InstanceId,
        tail: Tail,
    ) -> BoxFuture<'_, Result<BoxStream<'static, LogLine>, LogsError>> {
        let id = id.clone();
        async move { self.host.logs.read(&id, tail).await }.boxed()
    }
}

impl Drop for Wasm {
    fn drop(&mut self) {
        for replica in self.lock().values() {
            replica.cut_off();
        }
    }
}
