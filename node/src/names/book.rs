//! The book of workloads that this node's containers reach: one task owns it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use shoal_protocol::model::view::ServiceView;
use shoal_protocol::model::{ProgramKind, WorkloadName};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, warn};

use super::address::Addresses;
use super::proxy::Proxy;
use crate::api::Core;

/// Workloads with an address at one time. Each takes a listening socket for each of its ports, of
/// the 1024 files that a process often has.
const SERVED: usize = 256;
/// Questions that may wait for the book.
const ASKS: usize = 64;
/// The pause between two comparisons with the desired state: a deployment changes much at once.
const COMPARE_EVERY: Duration = Duration::from_secs(1);

/// A question for the address of a workload; none if there is no such workload.
pub(super) struct Ask {
    pub name: WorkloadName,
    pub answer: oneshot::Sender<Option<Ipv4Addr>>,
}

/// The workloads that are reached.
pub(super) struct Book {
    core: Arc<dyn Core>,
    proxy: Proxy,
    addresses: Addresses,
    asks: mpsc::Receiver<Ask>,
    served: BTreeMap<WorkloadName, Served>,
    /// TCP ports of the device that replicas of this node publish. The engine listens there at all
    /// addresses, so nothing else can.
    published: BTreeSet<u16>,
    /// Names whose trouble is in the log already.
    troubled: BTreeSet<WorkloadName>,
}

struct Served {
    address: Ipv4Addr,
    /// The port of the replica for each port here. Dropping the guards closes the listeners.
    ports: BTreeMap<u16, u16>,
    _listening: DropGuard,
}

impl Book {
    pub fn new(
        core: Arc<dyn Core>,
        proxy: Proxy,
        addresses: Addresses,
    ) -> (Self, mpsc::Sender<Ask>) {
        let (sender, asks) = mpsc::channel(ASKS);
        let (served, published, troubled) = Default::default();
        (Book { core, proxy, addresses, asks, served, published, troubled }, sender)
    }

    /// Answers questions and follows the desired state, until the node stops.
    pub async fn run(mut self) {
        let mut changes = self.core.changes();
        let mut ports = self.core.changes();
        let mut next = Instant::now();
        loop {
            tokio::select! {
                // At once: the engine is about to listen there.
                changed = ports.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if self.ports_changed().await {
                        self.compare().await;
                        next = Instant::now() + COMPARE_EVERY;
                    }
                }
                ask = self.asks.recv() => {
                    let Some(Ask { name, answer }) = ask else { return };
                    // The asking container may have given up.
                    let _ = answer.send(self.address(&name).await);
                }
                // Questions are answered meanwhile.
                changed = async { sleep_until(next).await; changes.changed().await } => {
                    if changed.is_err() {
                        return;
                    }
                    self.compare().await;
                    next = Instant::now() + COMPARE_EVERY;
                }
            }
        }
    }

    /// Whether replicas of this node publish other ports than before.
    async fn ports_changed(&mut self) -> bool {
        let Ok(held) = self.core.ports_held().await else { return false };
        let published: BTreeSet<u16> =
            held.iter().filter(|port| !port.udp).map(|port| port.port).collect();
        let changed = published != self.published;
        self.published = published;
        changed
    }

    /// The ports of a workload that are listened on for it here. At a published one the engine
    /// answers for the replica that publishes it.
    fn own_ports(&self, service: &ServiceView) -> BTreeMap<u16, u16> {
        let mut ports = service.ports.clone();
        ports.retain(|here, _| !self.published.contains(here));
        ports
    }

    async fn address(&mut self, name: &WorkloadName) -> Option<Ipv4Addr> {
        if let Some(served) = self.served.get(name) {
            return Some(served.address);
        }
        let service = self.core.service(name.clone()).await.ok()??;
        self.serve(service).await
    }

    /// Closes what is gone or has other ports, and opens all of the namespaces whose containers run
    /// here: a container that resolved a name before this daemon was restarted still uses it.
    async fn compare(&mut self) {
        let Ok(services) = self.core.services().await else { return };
        let gone: Vec<WorkloadName> = {
            let ports: BTreeMap<_, _> =
                services.iter().map(|service| (&service.name, self.own_ports(service))).collect();
            let stays = |(name, served): &(&WorkloadName, &Served)| {
                ports.get(*name).is_some_and(|ports| *ports == served.ports)
            };
            self.served.iter().filter(|one| !stays(one)).map(|(name, _)| name.clone()).collect()
        };
        for name in gone {
            if let Some(Served { address, _listening, .. }) = self.served.remove(&name) {
                drop(_listening);
                self.addresses.release(address).await;
            }
        }
        self.troubled.retain(|name| services.iter().any(|service| service.name == *name));
        let here: BTreeSet<_> = services
            .iter()
            .filter(|service| service.kind == ProgramKind::Container && service.runs_here)
            .map(|service| service.name.namespace.clone())
            .collect();
        for service in services {
            let is_wanted = here.contains(&service.name.namespace) && !service.ports.is_empty();
            if is_wanted && !self.served.contains_key(&service.name) {
                self.serve(service).await;
            }
        }
    }

    async fn serve(&mut self, service: ServiceView) -> Option<Ipv4Addr> {
        let ports = self.own_ports(&service);
        let name = service.name;
        if self.served.len() >= SERVED {
            self.trouble(&name, &format!("{SERVED} others have an address, the most of a node"));
            return None;
        }
        let address = match self.addresses.claim(&format!("{name:?}")).await {
            Ok(address) => address,
            Err(why) => {
                self.trouble(&name, &why);
                return None;
            }
        };
        let closing = CancellationToken::new();
        for (&here, &there) in &ports {
            match listen((address, here).into()) {
                Ok(listener) => {
                    self.proxy.listen(listener, name.clone(), there, closing.clone());
                }
                Err(error) => self.trouble(&name, &format!("{address} port {here}: {error}")),
            }
        }
        debug!("{name} has the address {address} here, with the ports {ports:?}");
        let _listening = closing.drop_guard();
        self.served.insert(name, Served { address, ports, _listening });
        Some(address)
    }

    fn trouble(&mut self, name: &WorkloadName, why: &str) {
        if self.troubled.len() < SERVED && self.troubled.insert(name.clone()) {
            warn!("containers here do not reach {name} by its name: {why}");
        }
    }
}

/// Listens at an address of a workload, also on the port on which this process listens at all
/// addresses.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    /// Connections that may wait to be accepted.
    const BACKLOG: u32 = 256;
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
