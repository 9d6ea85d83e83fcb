//! A replica, from its start to its end.

use shoal_protocol::model::{Digest, InstanceState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use super::fault::{Blame, RequestFault, mib};
use super::guest::{Guest, Mounted};
use super::host::{Host, Program};
use super::memory::MemoryPool;
use super::share::{Meter, Share};
use super::volumes::InUse;
use super::{command, request};
use crate::endpoint::{Endpoint, Service};
use crate::error::{PrepareError, ServeError};
use crate::logs::{Log, LogStream};
use crate::model::{Body, InstanceId, Launch, Payload, Usage};
use crate::status::StatusHandle;

/// Requests at a time of a component with volumes: each may have files open, which the process has
/// few of.
const WITH_FILES: usize = 8;

pub(super) struct Replica {
    pub host: Arc<Host>,
    component: Digest,
    pub launch: Launch,
    pub status: StatusHandle,
    pub log: Log,
    pub memory: Arc<MemoryPool>,
    pub share: Arc<Share>,
    /// Its volumes, until it has ended: their folders, and the paths at which it finds them.
    volumes: Mutex<Vec<InUse>>,
    pub mounts: Vec<Mounted>,
    pub ready: OnceLock<Ready>,
    /// The start and all requests. The replica has ended when these tasks have.
    pub tasks: TaskTracker,
    /// No new request is taken.
    draining: CancellationToken,
    /// Requests under way are cut off.
    pub cut: CancellationToken,
    ended: CancellationToken,
    stopping: AtomicBool,
}

/// The state of a replica that answers requests.
pub(super) struct Ready {
    pub proxy: ProxyPre<Guest>,
    /// Held, so that other replicas share it.
    _program: Arc<Program>,
    /// Bytes of memory that making an instance takes: the most that was seen.
    pub instance: AtomicU64,
    /// A permit for each request that is being answered.
    pub slots: Arc<Semaphore>,
    /// A permit for each request that is being answered or waits.
    pub room: Arc<Semaphore>,
    pub concurrent: usize,
    pub limit: usize,
}

impl Replica {
    /// Begins the start of a replica.
    pub fn start(
        host: Arc<Host>,
        component: Digest,
        launch: Launch,
        volumes: Vec<InUse>,
    ) -> Arc<Self> {
        let mounts = launch.folders.iter().zip(&volumes);
        let mounts = mounts.map(|(folder, volume)| Mounted {
            folder: volume.folder.clone(),
            path: folder.path.clone(),
            read_only: folder.read_only,
        });
        let mounts = mounts.collect();
        let replica = Arc::new(Replica {
            status: host.statuses.begin(launch.id.clone()),
            log: host.logs.open(&launch.id),
            memory: Arc::new(MemoryPool::new(launch.memory)),
            share: Arc::new(Share::new(launch.cpu)),
            volumes: Mutex::new(volumes),
            mounts,
            ready: OnceLock::new(),
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
            cut: CancellationToken::new(),
            ended: CancellationToken::new(),
            stopping: AtomicBool::new(false),
            host,
            component,
            launch,
        });
        let starting = replica.clone();
        let begin = async move {
            match &starting.launch.payload {
                Payload::Command(_) => starting.run_command().await,
                Payload::Component(_) | Payload::Container(_) => starting.bring_up().await,
            }
        };
        replica.tasks.spawn_on(begin, &replica.host.node);
        replica
    }

    pub fn component(&self) -> Digest {
        self.component
    }

    pub fn launch(&self) -> &Launch {
        &self.launch
    }

    pub fn state(&self) -> Option<InstanceState> {
        self.status.state()
    }

    /// Whether it starts or runs, and was not asked to end.
    pub fn is_alive(&self) -> bool {
        !self.draining.is_cancelled() && self.state().is_some_and(|state| !state.ended())
    }

    /// The running state, or the reason why no request can be taken.
    pub fn usable(&self) -> Result<&Ready, ServeError> {
        let not_running = |state| ServeError::NotRunning { id: self.launch.id.clone(), state };
        if self.draining.is_cancelled() {
            return Err(not_running("stopping"));
        }
        self.ready
            .get()
            .ok_or_else(|| not_running(self.state().map_or("stopped", |state| state.word())))
    }

    /// Waits until no new request may begin.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    pub fn usage(&self) -> Usage {
        let (cpu, throttled) = self.share.used();
        let active =
            self.ready.get().map_or(0, |ready| ready.concurrent - ready.slots.available_permits());
        Usage {
            memory: self.memory.used(),
            cpu,
            throttled,
            active: u32::try_from(active).unwrap_or(u32::MAX),
            // A component has neither: its requests and files are the daemon's.
            network: None,
            disk: None,
        }
    }

    /// Logs a fault, and counts it when the guest is at fault.
    pub fn blame(&self, request: &str, fault: &RequestFault) {
        if matches!(fault.blame, Blame::Guest | Blame::Client) {
            self.log.say(LogStream::System, &format!("{request}: the guest {}", fault.reason));
        }
        if fault.blame == Blame::Guest {
            self.status.fault(fault.reason.clone());
        }
    }

    /// Ends the replica: a start at once, requests after `grace`. Calls `forget` at the end. Goes
    /// on when the future is dropped.
    pub fn stop(
        self: Arc<Self>,
        grace: Duration,
        forget: impl FnOnce() + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        self.draining.cancel();
        self.tasks.close();
        // Nothing tells a command that it is to end.
        if matches!(self.launch.payload, Payload::Command(_)) {
            self.cut.cancel();
        }
        let node = self.host.node.clone();
        if !self.stopping.swap(true, Ordering::SeqCst) {
            let replica = self.clone();
            node.spawn(async move {
                replica.tasks.wait().await;
                if replica.state().is_some_and(|state| !state.ended()) {
                    replica.log.say(LogStream::System, "stopped");
                }
                replica.log.close().await;
                forget();
                replica.volumes.lock().unwrap_or_else(PoisonError::into_inner).clear();
                replica.status.stopped();
                replica.ended.cancel();
            });
        }
        let replica = self.clone();
        // A later call may give less grace: each call has a timer of its own.
        node.spawn(async move {
            if tokio::time::timeout(grace, replica.ended.cancelled()).await.is_err() {
                replica.cut.cancel();
            }
        });
        async move { self.ended.cancelled().await }
    }

    /// Cuts everything off without waiting.
    pub fn cut_off(&self) {
        self.draining.cancel();
        self.cut.cancel();
    }

    async fn run_command(self: Arc<Self>) {
        tokio::select! {
            biased;
            () = self.cut.cancelled() => {}
            () = command::run(self.clone()) => {}
        }
    }

    async fn bring_up(self: Arc<Self>) {
        let started = tokio::select! {
            biased;
            () = self.draining.cancelled() => return,
            started = self.try_to_start() => started,
        };
        match started {
            Ok(ready) => {
                let slots = ready.concurrent;
                // Set once: a replica starts once.
                let _ = self.ready.set(ready);
                self.log.say(
                    LogStream::System,
                    &format!("started, answers up to {slots} requests at a time"),
                );
                let endpoint = Endpoint::InProcess(Arc::new(ReplicaService::of(&self)));
                self.status.running(endpoint);
            }
            Err((reason, retryable)) => {
                self.log.say(LogStream::System, &format!("cannot start: {reason}"));
                self.log.flush().await;
                self.status.failed(reason, retryable);
            }
        }
    }

    async fn try_to_start(self: &Arc<Self>) -> Result<Ready, (String, bool)> {
        let program = self.host.program(self.component).await;
        let program =
            program.map_err(|error: PrepareError| (error.to_string(), error.retryable()))?;
        let trial = self.clone().try_once(program.clone());
        let instance = self.host.guests().spawn(trial).await;
        let instance =
            instance.map_err(|stopped| (format!("the engine failed: {stopped}"), true))?;
        let instance = instance.map_err(|fault| (fault.reason, fault.blame != Blame::Guest))?;
        let fitting = usize::try_from(self.launch.memory / instance.max(1)).unwrap_or(usize::MAX);
        let most = match self.mounts.is_empty() {
            true => self.host.config.concurrent,
            false => self.host.config.concurrent.min(WITH_FILES),
        };
        let concurrent = fitting.clamp(1, most.max(1));
        let limit = concurrent + self.host.config.waiting;
        let proxy = program.proxy.clone().expect("an instance of it was made");
        Ok(Ready {
            proxy,
            _program: program,
            instance: AtomicU64::new(instance),
            slots: Arc::new(Semaphore::new(concurrent)),
            room: Arc::new(Semaphore::new(limit)),
            concurrent,
            limit,
        })
    }

    /// Makes an instance, to learn whether that works and how many bytes of memory it takes.
    async fn try_once(self: Arc<Self>, program: Arc<Program>) -> Result<u64, RequestFault> {
        let (engine, launch) = (&self.host.engine, &self.launch);
        let store = Guest::store(engine, launch, &self.mounts, self.memory.nothing(), &self.log);
        let mut store = store.map_err(RequestFault::host)?;
        let config = &self.host.config;
        let instantiated = async {
            let made = match &program.proxy {
                Some(proxy) => proxy.instantiate_async(&mut store).await.map(|_| ()),
                None => Err(wasmtime::Error::msg("this component answers no requests")),
            };
            let memory = &store.data().memory;
            (made, memory.own(), memory.wanted())
        };
        let meter = Meter::new(&self.share, &self.host.ticker, config.request_cpu);
        let limit = config.request_time;
        let result = tokio::select! {
            biased;
            () = self.cut.cancelled() => Err(RequestFault::stopped()),
            result = tokio::time::timeout(limit, meter.run(instantiated)) => match result {
                Ok(result) => result,
                Err(_) => Err(meter.too_slow(limit)),
            },
        };
        match result? {
            (Ok(_), own, _) => Ok(own),
            (Err(_), _, Some(_)) => {
                let reason = format!(
                    "needs more than its memory limit of {} to start",
                    mib(self.launch.memory)
                );
                Err(RequestFault { reason, ..RequestFault::out_of_memory(self.launch.memory, 0) })
            }
            (Err(error), _, None) => Err(RequestFault::from_engine(&error)),
        }
    }
}

/// A replica as its endpoint. The status table keeps this and a replica holds the table, so this
/// must not hold the replica.
struct ReplicaService {
    id: InstanceId,
    replica: Weak<Replica>,
}

impl ReplicaService {
    fn of(replica: &Arc<Replica>) -> Self {
        ReplicaService { id: replica.launch.id.clone(), replica: Arc::downgrade(replica) }
    }
}

impl Service for ReplicaService {
    fn call(
        &self,
        request: http::Request<Body>,
    ) -> BoxFuture<'_, Result<http::Response<Body>, ServeError>> {
        let replica = self.replica.upgrade();
        async move {
            match replica {
                Some(replica) => request::serve(replica, request).await,
                None => Err(ServeError::NotRunning { id: self.id.clone(), state: "stopped" }),
            }
        }
        .boxed()
    }
}

impl Ready {
    /// A permit to be answered or to wait; `None` when there is none left.
    pub fn enter(&self) -> Option<OwnedSemaphorePermit> {
        self.room.clone().try_acquire_owned().ok()
    }

    /// A permit to be answered, after the requests that came before.
    pub async fn slot(&self) -> OwnedSemaphorePermit {
        self.slots.clone().acquire_owned().await.expect("the semaphore is never closed")
    }
}
