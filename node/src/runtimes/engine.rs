//! The container engine of this device, which may come and go while the daemon runs.
//!
//! A device boots in any order: the engine may answer minutes after the daemon, or not at all.
//! Until it does, no replica of a container is offered to this node, and one that it claims is
//! tried again.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use shoal_protocol::model::Digest;
use shoal_protocol::model::access::Exec;
use shoal_protocol::model::spec::{Allowed, Health};
use shoal_runtimes::artifacts::ArtifactStore;
use shoal_runtimes::container::{Config, Containers, SetupError};
use shoal_runtimes::logs::{LogLine, Tail};
use shoal_runtimes::session::{Chunks, Duplex, Process, SessionError, Sessions};
use shoal_runtimes::{
    DeviceError, Instance, InstanceId, Launch, LogsError, PrepareError, Runtime, StartError,
    StatusTable, Usage, VolumeKey,
};
use tokio::task::AbortHandle;
use tokio::time::sleep;

/// The setting that turns containers off.
pub const NONE: &str = "none";
/// The setting for benchmarks: nothing is run, and each instance is reported as running at once.
pub const NOOP: &str = "noop";
/// The pause between two searches for an engine.
const SEARCH_EVERY: Duration = Duration::from_secs(5);

/// The adapter of an engine that may not be there yet.
pub struct Engine {
    shared: Arc<Shared>,
    search: Option<AbortHandle>,
}

struct Shared {
    containers: OnceLock<Containers>,
    statuses: StatusTable,
    /// The error of the last search, before an engine was found.
    error: Mutex<Option<SetupError>>,
}

/// The input of [`engine`].
pub struct Parts<'a> {
    /// The engine's socket, or `none`; none for the one that is found.
    pub setting: Option<&'a str>,
    /// The text that marks this node's containers.
    pub owner: String,
    /// The name server of the containers; none for the engine's own choice.
    pub dns: Option<Ipv4Addr>,
    /// The folder for the containers' logs.
    pub logs: &'a Path,
    /// The store with the parts of images.
    pub artifacts: ArtifactStore,
    /// The rights that containers may have beyond those of an ordinary one.
    pub allowed: Allowed,
}

/// The adapter for the engine that the setting names. `None` if the setting is `none` or `noop`.
/// Returns after the first search; the next ones go on beside.
pub async fn engine(parts: Parts<'_>) -> Option<Engine> {
    let Parts { setting, owner, dns, logs, artifacts, allowed } = parts;
    if matches!(setting, Some(NONE | NOOP)) {
        return None;
    }
    let statuses = StatusTable::new();
    let config = Config {
        socket: setting.map(|text| PathBuf::from(text.strip_prefix("unix://").unwrap_or(text))),
        artifacts: Some(artifacts),
        dns,
        statuses: statuses.clone(),
        allowed,
        ..Config::new(owner, logs)
    };
    let shared =
        Arc::new(Shared { containers: OnceLock::new(), statuses, error: Mutex::default() });
    let search = match shared.search(&config).await {
        true => None,
        false => {
            let searching = shared.clone();
            let search = async move {
                while !searching.search(&config).await {
                    sleep(SEARCH_EVERY).await;
                }
            };
            Some(tokio::spawn(search).abort_handle())
        }
    };
    Some(Engine { shared, search })
}

impl Engine {
    /// The adapter, while its engine answers.
    pub fn reachable(&self) -> Option<&Containers> {
        self.shared.containers.get().filter(|containers| containers.engine().reachable)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(search) = &self.search {
            search.abort();
        }
    }
}

impl Shared {
    /// Looks for the engine once. Returns whether it is there.
    async fn search(&self, config: &Config) -> bool {
        match Containers::new(config.clone()).await {
            Ok(containers) => {
                *self.last_error() = None;
                self.containers.set(containers).is_ok() || self.containers.get().is_some()
            }
            Err(error) => {
                let mut last = self.last_error();
                // The log has each reason once.
                if last.as_ref().map(ToString::to_string) != Some(error.to_string()) {
                    match &error {
                        SetupError::NoEngine(_) => {
                            tracing::info!("this node runs no containers yet: {error}");
                        }
                        _ => tracing::warn!("this node runs no containers yet: {error}"),
                    }
                }
                *last = Some(error);
                false
            }
        }
    }

    fn last_error(&self) -> std::sync::MutexGuard<'_, Option<SetupError>> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn missing(&self, doing: String) -> DeviceError {
        let why = self.last_error().as_ref().map(ToString::to_string);
        DeviceError::new(doing, why.unwrap_or_else(|| "the container engine is not there".into()))
    }
}

impl Engine {
    /// Asks the engine for a session, or says that it is not there.
    fn session<'a, T: Send + 'a>(
        &'a self,
        ask: impl FnOnce(&'a Containers) -> BoxFuture<'a, Result<T, SessionError>>,
    ) -> BoxFuture<'a, Result<T, SessionError>> {
        match self.shared.containers.get() {
            Some(containers) => ask(containers),
            None => {
                let why = self.shared.missing("asking the container engine".into());
                async move { Err(SessionError::Engine(why.to_string())) }.boxed()
            }
        }
    }
}

impl Sessions for Engine {
    fn exec(&self, id: &InstanceId, exec: Exec) -> BoxFuture<'_, Result<Process, SessionError>> {
        self.session(|containers| containers.exec(id, exec))
    }

    fn exec_in(
        &self,
        id: &InstanceId,
        container: &str,
        exec: Exec,
    ) -> BoxFuture<'_, Result<Process, SessionError>> {
        self.session(|containers| containers.exec_in(id, container, exec))
    }

    fn attach(
        &self,
        id: &InstanceId,
        input: Option<(u16, u16)>,
    ) -> BoxFuture<'_, Result<Process, SessionError>> {
        self.session(|containers| containers.attach(id, input))
    }

    fn read(&self, id: &InstanceId, path: String) -> BoxFuture<'_, Result<Chunks, SessionError>> {
        self.session(|containers| containers.read(id, path))
    }

    fn write(
        &self,
        id: &InstanceId,
        path: String,
        archive: Chunks,
    ) -> BoxFuture<'_, Result<(), SessionError>> {
        self.session(|containers| containers.write(id, path, archive))
    }

    fn read_volume(&self, key: &VolumeKey) -> BoxFuture<'_, Result<Chunks, SessionError>> {
        self.session(|containers| containers.read_volume(key))
    }

    fn write_volume(
        &self,
        key: &VolumeKey,
        archive: Chunks,
        beside: bool,
    ) -> BoxFuture<'_, Result<(), SessionError>> {
        self.session(|containers| containers.write_volume(key, archive, beside))
    }

    fn connect(
        &self,
        id: &InstanceId,
        port: u16,
    ) -> BoxFuture<'_, Result<Box<dyn Duplex>, SessionError>> {
        self.session(|containers| containers.connect(id, port))
    }
}

impl Runtime for Engine {
    fn kind(&self) -> &'static str {
        "container"
    }

    fn outlives_process(&self) -> bool {
        true
    }

    fn is_available(&self) -> bool {
        self.reachable().is_some()
    }

    fn trouble(&self) -> Option<String> {
        let Some(containers) = self.shared.containers.get() else {
            // A device without an engine is nothing to worry about.
            let last = self.shared.last_error();
            let trouble = last.as_ref().filter(|error| !matches!(error, SetupError::NoEngine(_)));
            return trouble.map(|error| format!("this node runs no containers: {error}"));
        };
        let view = containers.engine();
        let why = view.error?;
        Some(format!("{} at {} does not answer: {why}", view.name, view.socket.display()))
    }

    fn prepare(&self, _: Digest) -> BoxFuture<'_, Result<(), PrepareError>> {
        // Parts of images need no preparation.
        async { Ok(()) }.boxed()
    }

    fn start(&self, launch: Launch) -> BoxFuture<'_, Result<(), StartError>> {
        match self.shared.containers.get() {
            Some(containers) => containers.start(launch),
            None => {
                let error = self.shared.missing(format!("starting {}", launch.id));
                async move { Err(StartError::Device(error)) }.boxed()
            }
        }
    }

    fn stop(&self, id: &InstanceId, grace: Duration) -> BoxFuture<'_, Result<(), DeviceError>> {
        if let Some(containers) = self.shared.containers.get() {
            return containers.stop(id, grace);
        }
        // Without a socket there is no engine, and nothing that it could run. Else it may run.
        let is_absent = matches!(&*self.shared.last_error(), Some(SetupError::NoEngine(_)));
        let error = (!is_absent).then(|| self.shared.missing(format!("stopping {id}")));
        async move { error.map_or(Ok(()), Err) }.boxed()
    }

    fn statuses(&self) -> &StatusTable {
        &self.shared.statuses
    }

    fn instances(&self) -> BoxFuture<'_, Result<Vec<Instance>, DeviceError>> {
        match self.shared.containers.get() {
            Some(containers) => containers.instances(),
            None => async { Ok(Vec::new()) }.boxed(),
        }
    }

    fn usage(&self, id: &InstanceId) -> BoxFuture<'_, Option<Usage>> {
        match self.shared.containers.get() {
            Some(containers) => containers.usage(id),
            None => async { None }.boxed(),
        }
    }

    fn own_probes(&self, id: &InstanceId) -> Option<Health> {
        self.shared.containers.get()?.own_probes(id)
    }

    fn volumes(&self) -> Option<Vec<VolumeKey>> {
        self.shared.containers.get()?.volumes()
    }

    fn volumes_changed(&self) -> BoxFuture<'_, ()> {
        match self.shared.containers.get() {
            Some(containers) => containers.volumes_changed(),
            // An engine that comes later is asked at the next regular look.
            None => std::future::pending().boxed(),
        }
    }

    fn remove_volume(&self, key: &VolumeKey) -> BoxFuture<'_, Result<(), DeviceError>> {
        match self.shared.containers.get() {
            Some(containers) => containers.remove_volume(key),
            None => {
                let error = self.shared.missing(format!("removing {key}"));
                async move { Err(error) }.boxed()
            }
        }
    }

    fn logs(
        &self,
        id: &InstanceId,
        tail: Tail,
    ) -> BoxFuture<'_, Result<BoxStream<'static, LogLine>, LogsError>> {
        match self.shared.containers.get() {
            Some(containers) => containers.logs(id, tail),
            None => {
                let unknown = LogsError::Unknown(id.clone());
                async move { Err(unknown) }.boxed()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use shoal_protocol::model::spec::{Container, Image};
    use shoal_runtimes::artifacts::Limits;
    use shoal_runtimes::{ContainerPayload, Payload};

    use super::super::RuntimeSet;
    use super::*;

    async fn at(folder: &Path, setting: &str) -> Option<Engine> {
        let artifacts = ArtifactStore::open(folder.join("artifacts"), Limits::default());
        let artifacts = artifacts.await.unwrap();
        engine(Parts {
            setting: Some(setting),
            owner: "a-node".into(),
            dns: None,
            logs: &folder.join("logs"),
            artifacts,
            allowed: Allowed::default(),
        })
        .await
    }

    fn launch() -> Launch {
        let container = Container::of("main", Image::named("redis:7"));
        Launch {
            id: InstanceId::new("cache/0").unwrap(),
            workload: "default/cache".into(),
            payload: Payload::Container(Box::new(ContainerPayload {
                container,
                others: Vec::new(),
                hostname: "cache-0".into(),
                ports: Vec::new(),
                volumes: std::collections::BTreeMap::new(),
                stdin: false,
                tty: false,
                probed: Vec::new(),
            })),
            env: std::collections::BTreeMap::new(),
            memory: 64 << 20,
            cpu: 100,
            cpu_reserved: 100,
            qos: Default::default(),
            given: shoal_runtimes::given::Given::default(),
            ends: false,
            folders: Vec::new(),
        }
    }

    /// A device whose engine comes later, or never: a start can be tried again, and a stop ends at
    /// once, since nothing can run.
    #[tokio::test]
    async fn missing_engine_starts_nothing_and_has_nothing_to_stop() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        let engine = at(folder.path(), socket.to_str().unwrap()).await.expect("it is wanted");
        assert!(!engine.is_available());
        let refused = engine.start(launch()).await.unwrap_err();
        assert!(matches!(refused, StartError::Device(_)), "{refused}");
        assert!(refused.to_string().contains("engine.sock"), "{refused}");
        engine.stop(&launch().id, Duration::ZERO).await.unwrap();
        assert!(engine.instances().await.unwrap().is_empty());
        let runtimes = RuntimeSet::new([Arc::new(engine) as Arc<dyn Runtime>]);
        assert!(runtimes.kinds().is_empty(), "no container is offered to this node");
    }

    #[tokio::test]
    async fn device_without_containers_has_no_adapter() {
        let folder = tempfile::tempdir().unwrap();
        assert!(at(folder.path(), "none").await.is_none());
    }
}
