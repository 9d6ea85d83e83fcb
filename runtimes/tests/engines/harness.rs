//! An adapter on a test engine, with an owner and a folder of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::BoxFuture;
use shoal_protocol::model::InstanceState;
use shoal_protocol::model::spec::{Allowed, Container, Image, PullPolicy};
use shoal_runtimes::container::{Config, Containers};
use shoal_runtimes::contract::{Sample, Subject};
use shoal_runtimes::logs::Tail;
use shoal_runtimes::{ContainerPayload, Endpoint, InstanceId, Launch, Payload, Runtime, Status};
use tempfile::TempDir;

use super::TestEngine;

/// Far longer than any step takes: a test fails instead of hanging.
pub const TIMEOUT: Duration = Duration::from_secs(120);
/// The port on which the test program listens.
const PORT: u16 = 8080;

pub struct Harness {
    pub containers: Arc<Containers>,
    pub owner: String,
    pub engine: &'static TestEngine,
    folder: Arc<TempDir>,
    /// Its containers are removed with it.
    cleans: bool,
}

impl Harness {
    pub async fn on(engine: &'static TestEngine) -> Self {
        Self::of(engine, unique_owner(), Arc::new(tempfile::tempdir().unwrap())).await
    }

    async fn of(engine: &'static TestEngine, owner: String, folder: Arc<TempDir>) -> Self {
        Self::with(engine, owner, folder, |_| {}).await
    }

    /// An adapter that takes a container without a port for running after `settle`.
    pub async fn settling(engine: &'static TestEngine, settle: Duration) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        Self::with(engine, unique_owner(), folder, |config| config.settle = settle).await
    }

    /// The same node, started with these allowances.
    pub async fn allowing(self, all: &[&str]) -> Self {
        let allowed = Allowed(all.iter().map(|text| text.parse().unwrap()).collect());
        let Paused { engine, owner, folder } = self.pause();
        Self::with(engine, owner, folder, |config| config.allowed = allowed).await
    }

    /// The same node, started with this server for names.
    pub async fn answering(self, dns: std::net::Ipv4Addr) -> Self {
        let Paused { engine, owner, folder } = self.pause();
        Self::with(engine, owner, folder, |config| config.dns = Some(dns)).await
    }

    async fn with(
        engine: &'static TestEngine,
        owner: String,
        folder: Arc<TempDir>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = Config::new(&owner, folder.path().join("logs"));
        config.socket = Some(engine.socket.clone());
        config.settle = Duration::from_millis(100);
        change(&mut config);
        let containers = Arc::new(Containers::new(config).await.unwrap());
        Harness { containers, owner, engine, folder, cleans: true }
    }

    /// The same node after its process ended and began again.
    pub async fn restart(self) -> Self {
        self.pause().resume().await
    }

    /// The node's process ends.
    pub fn pause(mut self) -> Paused {
        self.cleans = false;
        Paused { engine: self.engine, owner: self.owner.clone(), folder: self.folder.clone() }
    }

    /// Starts a launch and waits until it runs.
    pub async fn run(&self, launch: Launch) -> Status {
        let id = launch.id.clone();
        self.containers.start(launch).await.unwrap();
        let status = self.wait(&id, |state| state.is_running() || state.ended()).await;
        assert!(status.state.is_running(), "{status:?}");
        status
    }

    /// Starts a launch, waits until it has failed, and returns the reason and whether another try
    /// may succeed.
    pub async fn fails(&self, launch: Launch) -> (String, bool) {
        let id = launch.id.clone();
        self.containers.start(launch).await.unwrap();
        self.failure(&id).await
    }

    /// Waits until an instance has failed.
    pub async fn failure(&self, id: &InstanceId) -> (String, bool) {
        match self.wait(id, InstanceState::ended).await.state {
            InstanceState::Failed { reason, retryable } => (reason, retryable),
            state => panic!("{state:?}"),
        }
    }

    pub async fn wait(&self, id: &InstanceId, wanted: impl Fn(&InstanceState) -> bool) -> Status {
        let mut watch = self.containers.watch();
        let found = async {
            loop {
                let news = watch.next().await;
                if let Some(status) =
                    news.into_iter().find(|status| status.id == *id && wanted(&status.state))
                {
                    return status;
                }
            }
        };
        match tokio::time::timeout(TIMEOUT, found).await {
            Ok(status) => status,
            Err(_) => panic!("`{id}` did not get there: {:?}", self.containers.status(id)),
        }
    }

    /// The text of the instance's answer to a GET.
    pub async fn get(&self, id: &InstanceId, path: &str) -> String {
        self.try_get(id, path).await.unwrap()
    }

    pub async fn try_get(&self, id: &InstanceId, path: &str) -> std::io::Result<String> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let Endpoint::Tcp(address) = self.containers.endpoint(id).unwrap() else {
            panic!("a container has an address")
        };
        let exchange = async {
            let mut stream = tokio::net::TcpStream::connect(address).await?;
            stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
            body.ok_or_else(|| std::io::Error::other("no answer"))
        };
        tokio::time::timeout(TIMEOUT, exchange).await.expect("an answer or an error comes")
    }

    /// The last lines of an instance's log.
    pub async fn lines(&self, id: &InstanceId) -> Vec<String> {
        let tail = Tail { lines: 1000, follow: false };
        let lines = self.containers.logs(id, tail).await.unwrap();
        lines.map(|line| line.text).collect().await
    }

    /// The one container of this owner, as the engine inspects it.
    pub fn the_container(&self) -> serde_json::Value {
        let all = self.engine.containers(&self.owner);
        assert_eq!(all.len(), 1, "{all:?}");
        self.engine.get(&format!("/containers/{}/json", all[0]["Id"].as_str().unwrap()))
    }
}

/// A node whose process has ended.
pub struct Paused {
    engine: &'static TestEngine,
    owner: String,
    folder: Arc<TempDir>,
}

impl Paused {
    pub async fn resume(self) -> Harness {
        Harness::of(self.engine, self.owner, self.folder).await
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        if self.cleans && !std::thread::panicking() {
            self.engine.clear(&self.owner);
        }
    }
}

impl Subject for Harness {
    fn runtime(&self) -> Arc<dyn Runtime> {
        self.containers.clone()
    }

    fn launch(&self, id: &str, sample: Sample) -> Launch {
        let image = match sample {
            Sample::Hello | Sample::Faulty => "localhost/shoal-test:1",
            Sample::Refused => "localhost/shoal-empty:1",
            Sample::Missing => "localhost/shoal-nobody-has-it:1",
            Sample::Ends(code) => {
                return launch(id, "localhost/shoal-test:1", |it| {
                    it.command = Some(vec!["end".into(), code.to_string()]);
                });
            }
        };
        // A program that has just begun ignores SIGTERM, as the first process of a container.
        launch(id, image, |it| {
            it.http = Some(PORT);
            it.stop_signal = Some("SIGKILL".into());
        })
    }

    fn nothing_is_left(&self) -> BoxFuture<'_, Result<(), String>> {
        let deadline = Instant::now() + TIMEOUT;
        Box::pin(async move {
            loop {
                let left = self.engine.containers(&self.owner);
                if left.is_empty() {
                    return Ok(());
                }
                if Instant::now() > deadline {
                    return Err(format!("{left:?}"));
                }
                tokio::task::yield_now().await;
            }
        })
    }
}

/// A launch of a container, with 64 MiB of memory.
pub fn launch(id: &str, image: &str, change: impl FnOnce(&mut Container)) -> Launch {
    let mut container = Container::of("main", Image::named(image));
    container.image.pull = PullPolicy::Never;
    change(&mut container);
    let payload = ContainerPayload {
        container,
        others: Vec::new(),
        hostname: "sample-0".into(),
        ports: Vec::new(),
        volumes: BTreeMap::new(),
        stdin: false,
        tty: false,
        probed: Vec::new(),
    };
    Launch {
        id: id_of(id),
        workload: "default/sample".into(),
        payload: Payload::Container(Box::new(payload)),
        env: BTreeMap::from([("NAME".into(), id.into())]),
        memory: 64 << 20,
        cpu: 4000,
        cpu_reserved: 100,
        qos: Default::default(),
        given: shoal_runtimes::given::Given::default(),
        ends: false,
        folders: Vec::new(),
    }
}

/// A launch of the test program in one of its modes.
pub fn mode(id: &str, mode: &str) -> Launch {
    launch(id, "localhost/shoal-test:1", |it| {
        it.command = Some(vec![mode.into()]);
    })
}

/// A launch of the test program that answers HTTP.
pub fn server(id: &str, change: impl FnOnce(&mut Container)) -> Launch {
    launch(id, "localhost/shoal-test:1", |it| {
        it.http = Some(PORT);
        change(it);
    })
}

fn unique_owner() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("n{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

pub fn id_of(text: &str) -> InstanceId {
    InstanceId::new(text).unwrap()
}
