//! The book of workloads that this node's containers reach: one task owns it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use shoal_protocol::model::view::ServiceView;
use shoal_protocol::model::{Label, ProgramKind, WorkloadName};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, warn};

use super::address::Addresses;
use super::proxy::{Lead, Proxy};
use super::table::Table;
use crate::api::Core;

/// Workloads with an address at one time. Without a table, each takes a listening socket for each
/// of its ports, of the 1024 files that a process often has.
const SERVED: usize = 256;
/// Replicas of a stateful workload that have an address before a container asks for it.
const NAMED: u32 = 16;
/// Questions that may wait for the book.
const ASKS: usize = 64;
/// The pause between two comparisons with the desired state: a deployment changes much at once.
const COMPARE_EVERY: Duration = Duration::from_secs(1);

/// The goal of a name: any replica of a workload, or one of a stateful workload by its ordinal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Goal {
    pub workload: WorkloadName,
    pub ordinal: Option<u32>,
}

impl Goal {
    /// Any replica of a workload.
    pub fn any(workload: WorkloadName) -> Goal {
        Goal { workload, ordinal: None }
    }

    /// Whether the workload has it.
    fn is_in(&self, service: &ServiceView) -> bool {
        self.workload == service.name && self.ordinal.is_none_or(|it| it < service.named)
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ordinal {
            Some(ordinal) => write!(f, "{}/{ordinal}", self.workload),
            None => write!(f, "{}", self.workload),
        }
    }
}

/// The object of a question of a container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Question {
    Goal(Goal),
    /// A further name of a workload in a namespace.
    Alias(Label, String),
    /// A replica under a further name of its workload, as in `db-0.headless`.
    Under(Goal, String),
}

/// A question for an address; none if there is no such one.
pub(super) struct Ask {
    pub question: Question,
    pub answer: oneshot::Sender<Option<Ipv4Addr>>,
}

/// The workloads that are reached.
pub(super) struct Book {
    core: Arc<dyn Core>,
    proxy: Proxy,
    addresses: Addresses,
    asks: mpsc::Receiver<Ask>,
    served: BTreeMap<Goal, Served>,
    /// None where the device has none: then each port of each name is listened on.
    table: Option<Table>,
    /// TCP ports of the device that replicas of this node publish. Without a table: the engine
    /// listens there at all addresses, so nothing else can.
    published: BTreeSet<u16>,
    /// Names whose trouble is in the log already.
    troubled: BTreeSet<Goal>,
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
        table: Option<Table>,
    ) -> (Self, mpsc::Sender<Ask>) {
        let (sender, asks) = mpsc::channel(ASKS);
        let (served, published, troubled) = Default::default();
        (Book { core, proxy, addresses, asks, served, table, published, troubled }, sender)
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
                    let Some(ask) = ask else { return };
                    self.answer(ask).await;
                }
                () = look_is_due(&mut self.table) => {
                    if let Some(table) = &mut self.table {
                        table.look().await;
                    }
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

    /// Answers a question and all that wait behind it. An address is told when it works.
    async fn answer(&mut self, first: Ask) {
        let mut next = Some(first);
        let mut all = Vec::new();
        while let Some(Ask { question, answer }) = next {
            let address = match question {
                Question::Goal(goal) => self.address(&goal).await,
                Question::Alias(namespace, name) => self.aliased(namespace, name).await,
                Question::Under(goal, name) => self.under(goal, name).await,
            };
            all.push((answer, address));
            next = if all.len() < ASKS { self.asks.try_recv().ok() } else { None };
        }
        let works = self.settle().await;
        for (answer, address) in all {
            if works || address.is_none() {
                // The asking container may have given up.
                let _ = answer.send(address);
            }
        }
    }

    /// Whether all addresses work.
    async fn settle(&mut self) -> bool {
        match &mut self.table {
            Some(table) => table.settle().await,
            None => true,
        }
    }

    /// Whether replicas of this node publish other ports than before.
    async fn ports_changed(&mut self) -> bool {
        if self.table.is_some() {
            return false;
        }
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

    async fn address(&mut self, goal: &Goal) -> Option<Ipv4Addr> {
        if let Some(served) = self.served.get(goal) {
            return Some(served.address);
        }
        let service = self.core.service(goal.workload.clone()).await.ok()??;
        if !goal.is_in(&service) {
            return None;
        }
        self.serve(goal, &service).await
    }

    /// The address of the workload that has a further name.
    async fn aliased(&mut self, namespace: Label, name: String) -> Option<Ipv4Addr> {
        let service = self.core.aliased(namespace, name).await.ok()??;
        self.address(&Goal::any(service.name)).await
    }

    /// The address of a replica under a further name of its workload.
    async fn under(&mut self, goal: Goal, name: String) -> Option<Ipv4Addr> {
        let namespace = goal.workload.namespace.clone();
        let service = self.core.aliased(namespace, name).await.ok()??;
        if service.name == goal.workload { self.address(&goal).await } else { None }
    }

    /// Closes what is gone or has other ports, and opens all of the namespaces whose containers run
    /// here: a container that resolved a name before this daemon was restarted still uses it.
    async fn compare(&mut self) {
        let Ok(services) = self.core.services().await else { return };
        let gone: Vec<Goal> = {
            let mut all: BTreeMap<&WorkloadName, (&ServiceView, BTreeMap<u16, u16>)> =
                BTreeMap::new();
            for service in &services {
                all.insert(&service.name, (service, self.own_ports(service)));
            }
            let stays = |(goal, served): &(&Goal, &Served)| {
                let now = all.get(&goal.workload);
                now.is_some_and(|(it, ports)| goal.is_in(it) && *ports == served.ports)
            };
            self.served.iter().filter(|one| !stays(one)).map(|(goal, _)| goal.clone()).collect()
        };
        for goal in gone {
            if let Some(Served { address, _listening, .. }) = self.served.remove(&goal) {
                drop(_listening);
                if let Some(table) = &mut self.table {
                    table.remove(address);
                }
                self.addresses.release(address).await;
            }
        }
        self.troubled.retain(|goal| services.iter().any(|service| goal.is_in(service)));
        let here: BTreeSet<_> = services
            .iter()
            .filter(|service| service.kind == ProgramKind::Container && service.runs_here)
            .map(|service| service.name.namespace.clone())
            .collect();
        let is_wanted = |service: &&ServiceView| {
            here.contains(&service.name.namespace) && !service.ports.is_empty()
        };
        let wanted: Vec<&ServiceView> = services.iter().filter(is_wanted).collect();
        let any = wanted.iter().map(|service| (Goal::any(service.name.clone()), *service));
        // Each takes a place of its own, so they come last.
        let named = wanted.iter().flat_map(|service| {
            let goal = |ordinal| Goal { ordinal: Some(ordinal), ..Goal::any(service.name.clone()) };
            (0..service.named.min(NAMED)).map(move |ordinal| (goal(ordinal), *service))
        });
        for (goal, service) in any.chain(named).collect::<Vec<_>>() {
            if !self.served.contains_key(&goal) {
                self.serve(&goal, service).await;
            }
        }
        self.settle().await;
    }

    async fn serve(&mut self, goal: &Goal, service: &ServiceView) -> Option<Ipv4Addr> {
        let ports = self.own_ports(service);
        if self.served.len() >= SERVED {
            self.trouble(goal, &format!("{SERVED} others have an address, the most of a node"));
            return None;
        }
        let owner = match goal.ordinal {
            Some(ordinal) => format!("{:?}/{ordinal}", goal.workload),
            None => format!("{:?}", goal.workload),
        };
        let address = match self.addresses.claim(&owner).await {
            Ok(address) => address,
            Err(why) => {
                self.trouble(goal, &why);
                return None;
            }
        };
        let closing = CancellationToken::new();
        let leads = ports.iter().map(|(&here, &port)| {
            (here, Lead { goal: goal.clone(), port, closing: closing.clone() })
        });
        match &mut self.table {
            Some(table) => table.add(address, leads),
            None => {
                for (here, lead) in leads {
                    match listen((address, here).into()) {
                        Ok(listener) => {
                            let find = move |_: &_| Some(lead.clone());
                            self.proxy.listen(listener, find, closing.clone());
                        }
                        Err(error) => {
                            self.trouble(goal, &format!("{address} port {here}: {error}"));
                        }
                    }
                }
            }
        }
        debug!("{goal} has the address {address} here, with the ports {ports:?}");
        let _listening = closing.drop_guard();
        self.served.insert(goal.clone(), Served { address, ports, _listening });
        Some(address)
    }

    fn trouble(&mut self, goal: &Goal, why: &str) {
        if self.troubled.len() < SERVED && self.troubled.insert(goal.clone()) {
            warn!("containers here do not reach {goal} by its name: {why}");
        }
    }
}

/// Never, where there is no table.
async fn look_is_due(table: &mut Option<Table>) {
    match table {
        Some(table) => table.look_is_due().await,
        None => std::future::pending().await,
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
