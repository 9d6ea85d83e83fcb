//! Test harness: an adapter in a folder of its own, with the guests in its store.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use shoal_protocol::model::{Digest, InstanceState};
use shoal_runtimes::artifacts::{ArtifactStore, Limits};
use shoal_runtimes::contract::{ComponentSubject, Sample, Samples, Subject};
use shoal_runtimes::logs::{LogLine, Tail};
use shoal_runtimes::wasm::{Config, Wasm};
use shoal_runtimes::{
    Body, Command, Endpoint, InstanceId, Launch, Payload, Runtime, ServeError, body,
};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::guests;

pub const MIB: u64 = 1 << 20;

pub struct Harness {
    pub wasm: Arc<Wasm>,
    pub store: ArtifactStore,
    pub samples: Samples,
    pub command: Digest,
    pub config: Config,
    folder: Arc<TempDir>,
}

impl Harness {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// With other settings than the usual ones.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        warm(&folder.path().join("cache")).await;
        Self::cold_in(folder, change).await
    }

    /// With nothing compiled yet.
    pub async fn cold() -> Self {
        Self::cold_in(Arc::new(tempfile::tempdir().unwrap()), |_| {}).await
    }

    /// The same node after a restart.
    pub async fn restart(self, change: impl FnOnce(&mut Config)) -> Self {
        let folder = self.folder.clone();
        drop(self);
        Self::cold_in(folder, change).await
    }

    async fn cold_in(folder: Arc<TempDir>, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(folder.path().join("cache"), folder.path().join("logs"));
        config.compiler = Some(PathBuf::from(env!("CARGO_BIN_EXE_shoal-compile")));
        config.threads = 2;
        change(&mut config);
        let store = ArtifactStore::open(
            folder.path().join("artifacts"),
            Limits { keep_free: 0, ..Limits::default() },
        );
        let store = store.await.unwrap();
        let samples = Samples {
            hello: store.put(guests::bytes("hello")).await.unwrap(),
            faulty: store.put(guests::bytes("faulty")).await.unwrap(),
            refused: store.put(&b"\x7fELF, which is no component"[..]).await.unwrap(),
            memory: 32 * MIB,
        };
        let command = store.put(guests::bytes("command")).await.unwrap();
        let wasm = Arc::new(Wasm::new(config.clone(), store.clone()).await.unwrap());
        Harness { wasm, store, samples, command, config, folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The misbehaving guest, running as `faulty/0`.
    pub async fn faulty(&self, change: impl FnOnce(&mut Launch)) {
        let mut launch = self.samples.launch("faulty/0", self.samples.faulty);
        change(&mut launch);
        let state = self.start(launch).await;
        assert!(state.is_running(), "{state:?}");
    }

    /// A launch of the command.
    pub fn command(&self, id: &str, args: &[&str]) -> Launch {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let payload = Payload::Command(Command { component: self.command, args });
        Launch { ends: true, ..self.samples.launch(id, payload) }
    }

    /// Starts a launch and returns the first state after `Starting`.
    pub async fn start(&self, launch: Launch) -> InstanceState {
        let id = launch.id.clone();
        let mut watch = self.wasm.watch();
        self.wasm.start(launch).await.unwrap();
        let starts = |state: &InstanceState| state.word() == InstanceState::Starting.word();
        loop {
            let found = watch
                .next()
                .await
                .into_iter()
                .find(|status| status.id == id && !starts(&status.state));
            if let Some(status) = found {
                return status.state;
            }
        }
    }

    /// Sends a request to an instance's endpoint; the answer's body is not read.
    pub async fn send(
        &self,
        id: &InstanceId,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, ServeError> {
        match self.wasm.endpoint(id)? {
            Endpoint::InProcess(service) => service.call(request).await,
            Endpoint::Tcp(address) => panic!("guests have no address, not {address}"),
        }
    }

    /// Sends a GET to `faulty/0`; the answer's body is not read.
    pub async fn ask(&self, path: &str) -> Result<http::Response<Body>, ServeError> {
        let request = http::Request::builder().uri(path).header("host", "faulty.localhost");
        self.send(&id("faulty/0"), request.body(body(Bytes::new())).unwrap()).await
    }

    /// Sends a POST with a body to `faulty/0`.
    pub async fn post(&self, path: &str, body: Body) -> Result<http::Response<Body>, ServeError> {
        let request =
            http::Request::builder().method("POST").uri(path).header("host", "faulty.localhost");
        self.send(&id("faulty/0"), request.body(body).unwrap()).await
    }

    pub async fn text(&self, path: &str) -> String {
        let answer = self.ask(path).await.unwrap();
        String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    /// The status and text that a client gets where `faulty/0` fails.
    pub async fn failure(&self, path: &str) -> (u16, String) {
        let response = self.ask(path).await.expect_err(path).into_response();
        let status = response.status().as_u16();
        let text = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(text.to_vec()).unwrap())
    }

    pub fn last_fault(&self) -> String {
        let status = self.wasm.status(&id("faulty/0")).unwrap();
        status.last_fault.expect("a fault").reason
    }

    pub async fn log(&self) -> Vec<LogLine> {
        self.wasm
            .logs(&id("faulty/0"), Tail { lines: usize::MAX, follow: false })
            .await
            .unwrap()
            .collect()
            .await
    }
}

impl Subject for Harness {
    fn runtime(&self) -> Arc<dyn Runtime> {
        self.wasm.clone()
    }

    fn launch(&self, id: &str, sample: Sample) -> Launch {
        let artifact = match sample {
            Sample::Hello => self.samples.hello,
            Sample::Faulty => self.samples.faulty,
            Sample::Refused => self.samples.refused,
            Sample::Missing => self.samples.missing(),
            Sample::Ends(code) => {
                return Launch { ends: false, ..self.command(id, &["exit", &code.to_string()]) };
            }
        };
        self.samples.launch(id, artifact)
    }

    fn nothing_is_left(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            let instances = self.wasm.instances().await.map_err(|error| error.to_string())?;
            if instances.is_empty() { Ok(()) } else { Err(format!("{instances:?}")) }
        })
    }
}

impl ComponentSubject for Harness {
    fn samples(&self) -> &Samples {
        &self.samples
    }
}

pub fn id(text: &str) -> InstanceId {
    InstanceId::new(text).unwrap()
}

/// Copies a cache in which the guests are compiled: compiling takes seconds.
async fn warm(cache: &std::path::Path) {
    static WARM: OnceCell<(TempDir, Vec<PathBuf>)> = OnceCell::const_new();
    let (_, files) = WARM
        .get_or_init(|| async {
            let harness = Harness::cold().await;
            for artifact in [harness.samples.hello, harness.samples.faulty] {
                harness.wasm.prepare(artifact).await.unwrap();
            }
            let kept = tempfile::tempdir().unwrap();
            let mut files = vec![PathBuf::from("key")];
            for file in std::fs::read_dir(harness.path("cache/code")).unwrap() {
                files.push(PathBuf::from("code").join(file.unwrap().file_name()));
            }
            std::fs::create_dir(kept.path().join("code")).unwrap();
            for file in &files {
                std::fs::copy(harness.path("cache").join(file), kept.path().join(file)).unwrap();
            }
            (kept, files)
        })
        .await;
    let (kept, _) = WARM.get().unwrap();
    std::fs::create_dir_all(cache.join("code")).unwrap();
    for file in files {
        std::fs::copy(kept.path().join(file), cache.join(file)).unwrap();
    }
}

/// A launch with an environment of its own.
pub fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Longer than any request takes that ends by itself.
pub const LONG: Duration = Duration::from_secs(3600);
