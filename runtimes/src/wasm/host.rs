//! The parts that all replicas share: the engine, the threads, and how an artifact becomes a
//! program.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use shoal_protocol::model::Digest;
use tokio::runtime::{Builder, Handle, Runtime};
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use super::cache::CodeCache;
use super::child::{CHILD, entry_was_called};
use super::compile::Compiler;
use super::engine::{Role, compatibility, engine};
use super::guest::Guest;
use super::ticker::Ticker;
use super::volumes::Volumes;
use super::{Config, SetupError};
use crate::artifacts::ArtifactStore;
use crate::error::{DeviceError, PrepareError};
use crate::logs::Logs;
use crate::status::StatusTable;

/// Guests' threads have a lower priority than the node's: a busy node must still answer others.
const NICE: i32 = 5;

pub(super) struct Host {
    pub config: Config,
    pub engine: Engine,
    pub ticker: Arc<Ticker>,
    pub statuses: StatusTable,
    pub logs: Logs,
    pub volumes: Option<Volumes>,
    /// The node's own tokio runtime: waits, files, compilers.
    pub node: Handle,
    /// The tokio runtime on which guests compute.
    threads: Option<Runtime>,
    linker: Arc<Linker<Guest>>,
    artifacts: ArtifactStore,
    cache: Arc<CodeCache>,
    compiler: Compiler,
    /// Programs that at least one replica uses.
    programs: Mutex<BTreeMap<Digest, Weak<Program>>>,
}

/// Compiled code, loaded and linked.
pub(super) struct Program {
    /// Makes instances that answer a request.
    pub proxy: Option<ProxyPre<Guest>>,
    /// Makes instances that run to their end.
    pub command: Option<CommandPre<Guest>>,
}

impl Host {
    pub async fn new(config: Config, artifacts: ArtifactStore) -> Result<Self, SetupError> {
        let program = program_that_compiles(&config)?;
        let device = |doing: &str| {
            let doing = doing.to_owned();
            move |error: std::io::Error| DeviceError::new(doing, error)
        };
        let failed = |error: wasmtime::Error| {
            DeviceError::new("setting up the WebAssembly engine", format!("{error:#}"))
        };
        let engine = engine(Role::Run).map_err(failed)?;
        let linker = linker(&engine).map_err(failed)?;
        let ticker = Ticker::start(&engine).map_err(device("starting a thread"))?;
        let (folder, compatible, bytes) =
            (config.cache.clone(), compatibility(&engine), config.cache_bytes);
        let opened = blocking(move || CodeCache::open(&folder, compatible, bytes)).await?;
        let cache = opened.map_err(device(&format!(
            "opening the cache of compiled code in {}",
            config.cache.display()
        )))?;
        let volumes = match config.volumes.clone() {
            Some(folder) => {
                let doing = format!("opening the volumes in {}", folder.display());
                let opened = blocking(move || Volumes::open(folder)).await?;
                Some(opened.map_err(device(&doing))?)
            }
            None => None,
        };
        let compiler = Compiler::new(program, config.compile, cache.drafts());
        Ok(Host {
            threads: Some(threads(config.threads).map_err(device("starting threads for guests"))?),
            statuses: StatusTable::new(),
            logs: Logs::new(&config.logs, config.log_limits),
            volumes,
            node: Handle::current(),
            ticker: Arc::new(ticker),
            linker: Arc::new(linker),
            cache: Arc::new(cache),
            programs: Mutex::default(),
            config,
            engine,
            artifacts,
            compiler,
        })
    }

    /// The tokio runtime on which guests compute.
    pub fn guests(&self) -> &Handle {
        self.threads.as_ref().expect("taken when the host is dropped, not before").handle()
    }

    /// The program of an artifact: a loaded one, or else from the cache, or else compiled.
    pub async fn program(&self, digest: Digest) -> Result<Arc<Program>, PrepareError> {
        if let Some(program) = self.ready(digest).await? {
            return Ok(program);
        }
        let _turn = self.compiler.turn().await;
        // Another caller may have compiled it meanwhile.
        if let Some(program) = self.ready(digest).await? {
            return Ok(program);
        }
        let artifact = self.artifacts.open_artifact(&digest).await?;
        let draft = self.compiler.compile(digest, &artifact.path).await?;
        drop(artifact);
        let cache = self.cache.clone();
        let kept = blocking(move || cache.keep(&digest, draft)).await?;
        let code = kept.map_err(|error| DeviceError::new("keeping compiled code", error))?;
        match self.load(digest, code).await? {
            Ok(program) => Ok(self.share(digest, program)),
            Err(error) => {
                self.cache.discard(&digest);
                Err(PrepareError::Refused {
                    digest,
                    reason: format!("this component cannot be linked: {error:#}"),
                })
            }
        }
    }

    async fn ready(&self, digest: Digest) -> Result<Option<Arc<Program>>, PrepareError> {
        let loaded = self.lock().get(&digest).and_then(Weak::upgrade);
        if loaded.is_some() {
            return Ok(loaded);
        }
        let cache = self.cache.clone();
        let Some(code) = blocking(move || cache.load(&digest)).await? else { return Ok(None) };
        match self.load(digest, code).await? {
            Ok(program) => Ok(Some(self.share(digest, program))),
            Err(error) => {
                // This node wrote it for this engine; perhaps the CPU was replaced.
                tracing::warn!(artifact = %digest.short(), %error, "compiled code cannot be \
                    loaded and is compiled anew");
                let cache = self.cache.clone();
                blocking(move || cache.discard(&digest)).await?;
                Ok(None)
            }
        }
    }

    async fn load(
        &self,
        digest: Digest,
        code: Vec<u8>,
    ) -> Result<wasmtime::Result<Program>, DeviceError> {
        let (engine, linker) = (self.engine.clone(), self.linker.clone());
        blocking(move || {
            tracing::debug!(artifact = %digest.short(), bytes = code.len(), "loading compiled \
                code");
            let component = vouched_code(&engine, &code)?;
            let pre = linker.instantiate_pre(&component)?;
            let command = CommandPre::new(pre.clone()).ok();
            match ProxyPre::new(pre) {
                Err(error) if command.is_none() => Err(error),
                proxy => Ok(Program { proxy: proxy.ok(), command }),
            }
        })
        .await
    }

    fn share(&self, digest: Digest, program: Program) -> Arc<Program> {
        let mut programs = self.lock();
        if let Some(present) = programs.get(&digest).and_then(Weak::upgrade) {
            return present; // two callers loaded it at once: one copy is enough
        }
        programs.retain(|_, program| program.strong_count() > 0);
        let program = Arc::new(program);
        programs.insert(digest, Arc::downgrade(&program));
        program
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Digest, Weak<Program>>> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            // Guests were told to end; waiting for their threads here could block the caller.
            threads.shutdown_background();
        }
    }
}

/// Loads code whose MAC [`CodeCache`] has verified.
#[expect(
    unsafe_code,
    reason = "loading compiled code means trusting it; this is the only place that does"
)]
fn vouched_code(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `deserialize` needs bytes that `Engine::precompile_component` made and that were not
    // changed since. All callers pass bytes from `CodeCache::load` or `CodeCache::keep`: this
    // node's own child process wrote them, and the MAC was verified over these very bytes in
    // memory, not over a file that may change afterwards.
    unsafe { Component::deserialize(engine, code) }
}

fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    Ok(linker)
}

fn threads(count: usize) -> std::io::Result<Runtime> {
    let calm = || {
        // When this fails, guests compete with the node at equal priority, which is worse, but
        // works.
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!(%error, "a guest's thread keeps its priority");
        }
    };
    let mut builder = Builder::new_multi_thread();
    // WASI needs few blocking threads: only volumes have files, and there are no host names.
    builder.worker_threads(count.max(1)).max_blocking_threads(4);
    builder.thread_name("wasm-guest").on_thread_start(calm).enable_time().build()
}

fn program_that_compiles(config: &Config) -> Result<PathBuf, SetupError> {
    match &config.compiler {
        Some(program) => Ok(program.clone()),
        // A child that comes this far was not stopped by `compiler_entry`: it must not start
        // children of its own.
        None if std::env::var_os(CHILD).is_some() || !entry_was_called() => {
            Err(SetupError::NoCompiler)
        }
        // Not `current_exe`: after an upgrade its path may name another program, or none.
        None if cfg!(target_os = "linux") => Ok(PathBuf::from("/proc/self/exe")),
        None => {
            let path = std::env::current_exe();
            Ok(path.map_err(|error| DeviceError::new("looking for this program", error))?)
        }
    }
}

/// Runs work on disk, or work of milliseconds, on a blocking thread of the node.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DeviceError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|stopped| DeviceError::new("working in the background", stopped))
}
