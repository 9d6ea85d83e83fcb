//! All parts of a running node: how they are started, and stopped in order.
//!
//! Each part is started with what it needs of the others. Where two parts need one another, one of
//! them has an end that exists before it runs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use shoal_protocol::model::view::EventView;
use shoal_protocol::model::volume::MAX_VOLUMES;
use shoal_protocol::model::{ClusterId, Facts, KeptVolume, NodeId, ProgramKind};
use shoal_protocol::node::{self, Node, Saved};
use shoal_runtimes::artifacts::{ArtifactStore, Limits};
use shoal_runtimes::noop::Noop;
use shoal_runtimes::wasm::{self, Wasm};
use shoal_runtimes::{Runtime, VolumeKey};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::StartError;
use super::address::{seeds, socket};
use super::loaded_identity::{LoadedIdentity, forget_invite};
use super::ports;
use crate::api::{About, Core, ForPeers, Service, Socket, operators};
use crate::config::Config;
use crate::driver::{self, DriverError, DriverHandle};
use crate::executor::{Ending, Executor, Host, executor};
use crate::facts::{Noted, Outside};
use crate::images::{Images, preload};
use crate::ingress::peers::Peers;
use crate::ingress::{Ingress, server};
use crate::loads;
use crate::names;
use crate::network::{Inbox, Mesh, Network, Purpose, hop};
use crate::runtimes::{RuntimeSet, engine};
use crate::secrets::Resolver;
use crate::secrets::seal::Opener;
use crate::store::Lock;
use crate::transfer::{self, Transfer};

/// How often this looks whether a container engine came or went.
const FACTS_EVERY: Duration = Duration::from_secs(2);
/// Bytes of a place as people write it.
const MAX_PLACE: usize = 64;
/// Limit of an orderly stop; parts that hang then end with the process.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// The bound sockets of a node.
pub(super) struct Listeners {
    pub http: TcpListener,
    pub http_address: SocketAddr,
    pub network: Network,
    pub inbox: Inbox,
    pub socket: PathBuf,
}

/// The parts of a running node.
pub(super) struct Running {
    service: Service,
    handle: DriverHandle,
    /// Supervises the driver: ends with it, and aborting this aborts the driver.
    driver: JoinHandle<()>,
    failure: watch::Receiver<Option<String>>,
    executor: Option<Executor>,
    transfer: Option<Transfer>,
    network: Network,
    stop: CancellationToken,
    servers: TaskTracker,
    _lock: Lock,
}

/// The input of [`start`].
pub(super) struct Plan {
    pub state: PathBuf,
    pub lock: Lock,
    pub config: Config,
    pub facts: Facts,
    pub loaded: LoadedIdentity,
    pub listeners: Listeners,
    pub compiler: Option<PathBuf>,
}

/// Starts all parts. When this returns, the API answers.
pub(super) async fn start(plan: Plan) -> Result<Running, StartError> {
    let Plan { state, lock, config, facts, loaded, listeners, compiler } = plan;
    let LoadedIdentity { identity, store, saved, invite, .. } = loaded;
    let Listeners { http, http_address, network, inbox, socket: socket_path } = listeners;
    let (name, state_folder) = (config.node_name()?, state.clone());
    let api = Socket::bind(&socket_path)?;
    api.open_to(config.socket_group.as_deref(), &state)?;
    let artifacts = ArtifactStore::open(state.join("artifacts"), Limits::default()).await?;
    let setting = config.engine.as_deref();
    let components: Arc<dyn Runtime> = match setting {
        Some(engine::NOOP) => {
            warn!("components are not run, and reported as running: `noop` is for benchmarks");
            Arc::new(Noop::new("wasm"))
        }
        _ => {
            let wasm_config = wasm::Config {
                compiler,
                volumes: Some(state.join("volumes")),
                ..wasm::Config::new(state.join("cache"), state.join("logs"))
            };
            Arc::new(Wasm::new(wasm_config, artifacts.clone()).await?)
        }
    };
    let names = match setting {
        Some(engine::NONE | engine::NOOP) => None,
        _ => names::bind(identity.node()).await,
    };
    let engine = engine::engine(engine::Parts {
        setting,
        owner: identity.node().to_string(),
        dns: names.as_ref().map(names::Bound::address),
        logs: &state.join("logs"),
        artifacts: artifacts.clone(),
        allowed: facts.allowed.clone(),
    })
    .await;
    let engine = engine.map(Arc::new);
    let images = Images::open(&state.join("artifacts"), engine.clone());
    let containers = engine.clone().map(|it| it as Arc<dyn Runtime>);
    let runtimes = RuntimeSet::new([components].into_iter().chain(containers));
    let told = told_volumes(&saved, &identity.cluster(), identity.node());
    let opener = Opener::of(identity.node_seed());
    let sealing = Some(opener.public());
    let mut facts = Facts { runtimes: runtimes.kinds(), volumes: told, sealing, ..facts };
    // Before the first record: without them a daemon's replica here would have to go.
    let mut outside = Outside::new(config.fact_sources()?, facts.clone(), Instant::now());
    let noted = outside.look(Instant::now()).await;
    facts.published = outside.news(Instant::now()).unwrap_or(facts.published);
    let (told_facts, told_runtimes) = (facts.clone(), runtimes.clone());
    let mesh: Arc<dyn Mesh> = Arc::new(network.clone());

    let (handle, idle) = driver::driver();
    let (orders, waiting) = executor();
    let (fetches, transfers) = transfer::transfer();
    let core_config = node::Config {
        name: name.clone(),
        addresses: network.own_addresses().addresses,
        seeds: seeds(&config.seeds),
        version: env!("CARGO_PKG_VERSION").into(),
        founder: identity.is_founder(),
        history: true,
        ..node::Config::default()
    };
    let parts = driver::Parts {
        config: core_config,
        identity: identity.clone(),
        invite: invite.clone(),
        saved,
        facts,
        store,
        network: network.clone(),
        inbox,
        orders: Box::new(orders),
        fetches: Box::new(fetches),
    };
    let (driver, failure) = supervised(idle.start(parts)?);
    let transfer = transfers.start(transfer::Parts {
        config: transfer::TransferConfig::default(),
        mesh: mesh.clone(),
        acceptor: network.accept(Purpose::Artifact).await,
        pieces: network.accept(Purpose::Pieces).await,
        store: artifacts.clone(),
        runtimes: runtimes.clone(),
        client: Arc::new(handle.clone()),
    });
    handle.count(transfer.count());
    let host = Host { node: identity.node(), name: name.clone() };
    let core: Arc<dyn Core> = Arc::new(handle.clone());
    let peers = Peers::new(mesh);
    let secrets =
        Resolver::new(opener, identity.cluster(), identity.node(), core.clone(), peers.clone());
    let values = Arc::new(secrets.clone());
    let executor = waiting.start(host, runtimes.clone(), values, Arc::new(handle.clone()));

    let known = network.clone();
    let about = About {
        node: identity.node(),
        state,
        cluster: identity.cluster(),
        root: identity.genesis().root,
        mesh: network.listening().to_string(),
        http: http_address.to_string(),
        addresses: Arc::new(move || {
            let told = known.own_addresses();
            let addresses = told
                .addresses
                .iter()
                .filter_map(|text| socket(text))
                .map(|address| address.to_string());
            told.trouble.map_or_else(|| Ok(addresses.collect()), Err)
        }),
    };
    let history = handle.history().kept_in(&state_folder);
    let (down, stop) = (CancellationToken::new(), CancellationToken::new());
    let service = Service::new(
        core.clone(),
        peers.clone(),
        runtimes.clone(),
        artifacts,
        executor.directory(),
        about,
        down,
    )
    .with_images(images)
    .with_history(history.clone())
    .with_secrets(secrets)
    .until(stop.clone());
    let told_core = core.clone();
    let ingress = Arc::new(Ingress::new(&name, core.clone(), runtimes.clone(), peers.clone()));
    // A weak reference: the ingress holds the driver's handle, which must not hold the ingress.
    let counted = Arc::downgrade(&ingress);
    handle.count(Box::new(move |all| {
        counted.upgrade().into_iter().for_each(|ingress| ingress.report(all))
    }));
    let tunnels = network.accept(Purpose::Http).await;
    let servers = TaskTracker::new();
    let meters = ingress.meters();
    servers.spawn(loads::tell(handle.clone(), runtimes.clone(), meters, stop.clone()));
    servers.spawn(server::serve_tunnels(
        tunnels,
        ingress.clone(),
        Arc::new(ForPeers::new(service.clone())),
        stop.clone(),
    ));
    let hops = network.accept(Purpose::Hop).await;
    servers.spawn(hop::serve(network.clone(), hops, stop.clone()));
    servers.spawn(server::serve_port(http, ingress, stop.clone()));
    servers.spawn(api.serve(service.clone(), stop.clone()));
    if let Some(door) = network.operators() {
        servers.spawn(operators::serve(door, service.clone(), stop.clone()));
    }
    if let Some(names) = names {
        servers.spawn(names.serve(core, runtimes, peers, stop.clone()));
    }
    servers.spawn(history.keep(stop.clone()));
    servers.spawn(log_events(service.clone(), stop.clone()));
    if invite.is_some() {
        servers.spawn(forget_invite_once_admitted(
            told_core.clone(),
            state_folder.clone(),
            stop.clone(),
        ));
    }
    let (outside_told, outside_facts) = watch::channel(told_facts.published.clone());
    if outside.is_needed() {
        servers.spawn(tell_outside(outside, noted, outside_told, handle.clone(), stop.clone()));
    }
    servers.spawn(tell_facts(
        told_facts,
        outside_facts,
        told_runtimes,
        state_folder.clone(),
        handle.clone(),
        stop.clone(),
    ));
    if let Some(engine) = engine {
        servers.spawn(preload(told_core, engine, stop.clone()));
    }
    servers.close();
    Ok(Running {
        service,
        handle,
        driver,
        failure,
        executor: Some(executor),
        transfer: Some(transfer),
        network,
        stop,
        servers,
        _lock: lock,
    })
}

/// Deletes the kept invite once the node is a member.
async fn forget_invite_once_admitted(core: Arc<dyn Core>, state: PathBuf, stop: CancellationToken) {
    let mut changes = core.changes();
    let admitted = async {
        loop {
            match core.is_member().await {
                Ok(true) => return true,
                Ok(false) if changes.changed().await.is_ok() => {}
                _ => return false,
            }
        }
    };
    let admitted = tokio::select! {
        admitted = admitted => admitted,
        () = stop.cancelled() => false,
    };
    if admitted && let Err(error) = forget_invite(&state) {
        tracing::warn!("the invite stays in the state folder: {error}");
    }
}

impl Running {
    pub(super) fn service(&self) -> Service {
        self.service.clone()
    }

    /// Waits until the node cannot go on, and returns the reason.
    pub(super) async fn failed(&self) -> String {
        let mut failure = self.failure.clone();
        match failure.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            // The driver ended in order.
            Err(_) => std::future::pending().await,
        }
    }

    /// Stops the node: closes the servers, tells the other nodes, waits for pending writes, closes
    /// links, ends guests.
    pub(super) async fn stop(mut self, back_in: Duration) {
        let orderly = async {
            self.stop.cancel();
            // The other nodes are told while requests end, so that new requests go elsewhere.
            self.handle.stop(back_in).await;
            self.servers.wait().await;
            drop(self.transfer.take());
            // Before the guests end, which may take long: a node that said goodbye and still takes
            // links would look as if it had returned.
            self.network.stop().await;
            if let Some(executor) = self.executor.take() {
                let ending = match back_in.is_zero() {
                    true => Ending::StopAll,
                    false => Ending::LeaveRunning,
                };
                executor.stop(ending).await;
            }
            // An error means that the driver was aborted.
            let _ = (&mut self.driver).await;
        };
        if timeout(STOP_WITHIN, orderly).await.is_err() {
            warn!("not all ended within {STOP_WITHIN:?}");
        }
    }
}

/// Aborts the task when it is dropped.
struct Aborting(JoinHandle<Result<(), DriverError>>);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Supervises the driver: the receiver gets the reason when it fails.
fn supervised(
    driver: JoinHandle<Result<(), DriverError>>,
) -> (JoinHandle<()>, watch::Receiver<Option<String>>) {
    let (failed, failure) = watch::channel(None);
    let task = tokio::spawn(async move {
        let mut driver = Aborting(driver);
        let why = match (&mut driver.0).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(error) => format!(
                "the driver ended with a fault of shoal's ({error}): start the daemon again"
            ),
        };
        error!("{why}");
        failed.send_replace(Some(why));
    });
    (task, failure)
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        self.driver.abort();
    }
}

/// The volumes in this node's own record of its last run. They count until the engine lists its
/// own: it may answer late, and others must not take the data for lost.
fn told_volumes(saved: &Saved, cluster: &ClusterId, me: NodeId) -> Vec<KeptVolume> {
    let records = saved.nodes.iter().filter_map(|record| record.clone().verify(cluster).ok());
    let own = records.filter(|record| record.by().0 == me.0).max_by_key(|record| record.counter);
    own.map(|record| record.facts.volumes.clone()).unwrap_or_default()
}

/// A volume of the engine as records have it. `None` for one whose labels somebody else wrote.
fn kept(key: VolumeKey) -> Option<KeptVolume> {
    let VolumeKey { workload, place, name } = key;
    Some(KeptVolume {
        workload: workload.parse().ok()?,
        place: (place.len() <= MAX_PLACE).then_some(place)?,
        name: name.parse().ok()?,
        // The core knows it.
        counter: 0,
    })
}

/// The fact that says how many bytes of the disk with the state folder are free.
const DISK_FREE: &str = "disk.free";
/// A smaller change of the free disk is not told: with each telling the core looks at all that it
/// owns.
const DISK_STEP: u64 = 256 << 20;

/// The bytes of the disk that are free, or what was `told` if they are nearly the same. Unknown if
/// the disk does not say.
fn free_disk(folder: &Path, told: Option<u64>) -> Option<u64> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    Some(told.filter(|told| told.abs_diff(free) < DISK_STEP).unwrap_or(free))
}

/// Follows the facts that people publish of this device, and tells people of those that it cannot
/// read: `noted` are of its first look.
async fn tell_outside(
    mut outside: Outside,
    mut noted: Vec<Noted>,
    told: watch::Sender<BTreeMap<String, String>>,
    handle: DriverHandle,
    stop: CancellationToken,
) {
    loop {
        for Noted { is_warning, message } in noted {
            // An error means that the driver has stopped.
            if handle.facts_noted(is_warning, message).await.is_err() {
                return;
            }
        }
        if let Some(news) = outside.news(Instant::now()) {
            told.send_replace(news);
        }
        tokio::select! {
            () = sleep_until(outside.due()) => {}
            () = stop.cancelled() => return,
        }
        noted = tokio::select! {
            noted = outside.look(Instant::now()) => noted,
            () = stop.cancelled() => return,
        };
    }
}

/// Tells the core which programs this node can run and which volumes it keeps, whenever that
/// changes.
async fn tell_facts(
    mut facts: Facts,
    mut outside: watch::Receiver<BTreeMap<String, String>>,
    runtimes: RuntimeSet,
    folder: PathBuf,
    handle: DriverHandle,
    stop: CancellationToken,
) {
    let listed = |kind: ProgramKind| -> Option<Vec<KeptVolume>> {
        Some(runtimes.volumes_of(kind)?.into_iter().filter_map(kept).collect())
    };
    let is_same = |one: &KeptVolume, other: &KeptVolume| {
        one.is(&other.workload, &other.place, other.name.as_str())
    };
    // Those of the last run, until the engine lists its own.
    let mut contained = facts.volumes.clone();
    let folders = listed(ProgramKind::Wasm).unwrap_or_default();
    contained.retain(|volume| folders.iter().all(|folder| !is_same(folder, volume)));
    loop {
        tokio::select! {
            () = sleep(FACTS_EVERY) => {}
            // Without a source there is no sender any more.
            Ok(()) = outside.changed() => {}
            () = runtimes.volumes_changed() => {}
            () = stop.cancelled() => return,
        }
        let kinds = runtimes.kinds();
        contained = listed(ProgramKind::Container).unwrap_or(contained);
        let mut volumes = contained.clone();
        volumes.extend(listed(ProgramKind::Wasm).unwrap_or_default());
        volumes.sort();
        volumes.dedup_by(|one, other| is_same(one, other));
        volumes.truncate(MAX_VOLUMES);
        // An error means that the driver has stopped.
        let Ok(held) = handle.query(Node::ports_held).await else { return };
        let busy_ports = ports::of_others(&held);
        let mut both = volumes.iter().zip(&facts.volumes);
        let are_same =
            volumes.len() == facts.volumes.len() && both.all(|(one, other)| is_same(one, other));
        let disk = free_disk(&folder, facts.measured.get(DISK_FREE).copied());
        let is_new_disk = disk.is_some_and(|disk| facts.measured.get(DISK_FREE) != Some(&disk));
        let published = outside.borrow_and_update().clone();
        let is_said = published != facts.published;
        let is_new =
            is_said || kinds != facts.runtimes || busy_ports != facts.busy_ports || is_new_disk;
        if is_new || !are_same {
            facts.measured.extend(disk.map(|bytes| (DISK_FREE.to_owned(), bytes)));
            facts.runtimes = kinds;
            facts.volumes = volumes;
            facts.busy_ports = busy_ports;
            facts.published = published;
            // An error means that the driver has stopped.
            if handle.facts(facts.clone()).await.is_err() {
                return;
            }
        }
    }
}

/// Writes events into the log, for readers of the daemon's standard error.
async fn log_events(service: Service, stop: CancellationToken) {
    let mut events = service.events(0);
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = stop.cancelled() => None,
        };
        let Some(event) = event else { return };
        let EventView { level, kind, subject, node, message, .. } = event;
        let subject = subject.or(node).map(|it| format!("{it}: ")).unwrap_or_default();
        match level.as_str() {
            "info" => info!(target: "shoal", "{subject}{message} ({kind})"),
            _ => warn!(target: "shoal", "{subject}{message} ({kind})"),
        }
    }
}
