//! The real core over real sockets and a real store. Only the runtime and the transfer are fake:
//! they succeed at once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use shoal_protocol::model::spec::Pieces;
use shoal_protocol::model::{
    Artifact, Chain, ChangeBody, Digest, Facts, InstanceState, Key, KeyPair, Namespaces, NodeId,
    ProgramKind, Resources, Role, Spec, SpecForm, Value, WallClock, WorkloadName,
};
use shoal_protocol::node::{Command, Draft, FetchOutcome, Order, Record, Refusal, Reply, Report};
use shoal_protocol::trust::{self, Genesis, Invite, Terms};
use tempfile::TempDir;

use super::*;
use crate::network::{self, NetworkConfig};

fn root() -> KeyPair {
    KeyPair::from_seed(&[1; 32])
}

fn genesis() -> Genesis {
    Genesis { root: root().public() }
}

/// An invite for many devices.
fn invite() -> Invite {
    let seed = [2; 32];
    let terms = Terms {
        name: "invite".into(),
        role: Role::Inviter { uses: 10, labels: Vec::new() },
        namespaces: Namespaces::All,
        serial: 1,
        expires: Some(WallClock(clock::wall().0 + 3_600_000)),
    };
    let key = KeyPair::from_seed(&seed).public();
    let chain = trust::grant(&genesis(), &root(), &Chain::default(), key, terms).unwrap();
    Invite { root: genesis().root, seed, chain, addresses: Vec::new() }
}

fn facts() -> Facts {
    Facts {
        arch: "x86_64".into(),
        runtimes: [ProgramKind::Wasm].into(),
        labels: BTreeMap::new(),
        capacity: Resources { memory: 1 << 30, cpu: 4_000 },
        ..Facts::default()
    }
}

fn web(replicas: u32) -> Spec {
    SpecForm::wasm_service(
        "web".parse().unwrap(),
        Artifact { digest: Digest::of(b"bytes"), size: 5 },
        replicas,
        Resources { memory: 64 << 20, cpu: 100 },
    )
    .try_into()
    .unwrap()
}

fn name() -> WorkloadName {
    "web".parse().unwrap()
}

/// A runtime and a transfer that succeed at once.
struct Immediate(DriverHandle);

impl Orders for Immediate {
    fn order(&mut self, order: Order) {
        let report = match order {
            Order::Run { replica, generation, .. } => {
                Report { replica, generation, state: InstanceState::Running }
            }
            Order::Stop { .. } | Order::Again { .. } => return,
        };
        let driver = self.0.clone();
        tokio::spawn(async move { driver.report(report).await });
    }
}

impl Fetches for Immediate {
    fn fetch(&mut self, artifact: Artifact, _: Option<Pieces>, _: ProgramKind, _: Vec<NodeId>) {
        let driver = self.0.clone();
        tokio::spawn(async move { driver.fetched(artifact.digest, FetchOutcome::Ready).await });
    }
}

struct Daemon {
    driver: DriverHandle,
    running: JoinHandle<Result<(), DriverError>>,
    network: Network,
    address: SocketAddr,
    id: NodeId,
}

/// Starts a node in `folder`, with the identity that is there or a new one.
async fn start(folder: &Path, number: u8, seeds: &[SocketAddr]) -> Daemon {
    start_with(folder, number, seeds, |store| store).await
}

async fn start_with(
    folder: &Path,
    number: u8,
    seeds: &[SocketAddr],
    alter: impl FnOnce(Store) -> Store,
) -> Daemon {
    let (identity, store, mut saved) = match Identity::load(folder).unwrap() {
        Some(identity) => {
            let (store, saved) = Store::open(folder, identity.cluster(), identity.node()).unwrap();
            (identity, store, saved)
        }
        None => {
            let identity = Identity::draw(genesis()).unwrap();
            let store = Store::create(folder, identity.cluster(), identity.node()).unwrap();
            identity.create(folder).unwrap();
            let mut saved = Saved::default();
            if seeds.is_empty() {
                let (chain, node) = (Chain::default(), identity.node());
                let change = trust::admit_as_operator(&genesis(), &root(), &chain, node, 1);
                let change = change.unwrap().raw();
                let key = Key::Member(node).hash();
                store.put(Record::Desired { key, changes: vec![change.clone()] }).unwrap();
                saved.changes.push(change);
            }
            (identity, store, saved)
        }
    };
    store.draw_incarnation(&mut saved).unwrap();
    let (network, inbox) =
        network::start(NetworkConfig::new(&identity, "127.0.0.1:0".parse().unwrap()))
            .await
            .unwrap();
    let config = Config {
        name: format!("n{number}"),
        addresses: network.own_addresses().addresses,
        seeds: seeds.iter().map(|seed| format!("/ip4/{}/tcp/{}", seed.ip(), seed.port())).collect(),
        version: "test".into(),
        founder: seeds.is_empty(),
        ..Config::default()
    };
    let (driver, idle) = driver();
    let (address, id) = (network.listening(), identity.node());
    let parts = Parts {
        config,
        identity,
        invite: (!seeds.is_empty()).then(invite),
        saved,
        facts: facts(),
        store: alter(store),
        network,
        inbox,
        orders: Box::new(Immediate(driver.clone())),
        fetches: Box::new(Immediate(driver.clone())),
    };
    let network = parts.network.clone();
    let running = idle.start(parts).unwrap();
    Daemon { driver, running, network, address, id }
}

impl Daemon {
    /// Waits until `look` returns a value.
    async fn until<T: Send + 'static>(
        &self,
        what: &str,
        look: impl Fn(&Node) -> Option<T> + Clone + Send + 'static,
    ) -> T {
        let mut changes = self.driver.changes();
        let seen = async {
            loop {
                changes.borrow_and_update();
                let look = look.clone();
                if let Some(seen) = self.driver.query(move |node| look(node)).await.unwrap() {
                    return seen;
                }
                changes.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(Duration::from_secs(60), seen).await {
            Ok(seen) => seen,
            Err(_) => {
                let status = self
                    .driver
                    .query(|node| format!("{:?} {:?}", node.status(), node.workloads()))
                    .await;
                panic!("{what} never came: {status:?}")
            }
        }
    }

    async fn ready(&self, nodes: usize) {
        self.until("ready", move |node| {
            let status = node.status();
            (status.ready && status.nodes_up == nodes).then_some(())
        })
        .await;
    }

    /// The nodes with a healthy replica of `web`, once `replicas` are healthy.
    async fn healthy(&self, replicas: u32) -> Vec<String> {
        self.until("healthy", move |node| {
            let web = node.workload(&name()).filter(|web| web.healthy == replicas)?;
            Some(
                web.replicas
                    .iter()
                    .filter(|one| one.phase == "healthy")
                    .filter_map(|one| one.node.clone())
                    .collect(),
            )
        })
        .await
    }

    async fn publish(&self, spec: Spec) -> Reply {
        let command = Command::Prepare { name: name(), spec: Some(spec.clone()), force: false };
        let Draft { mut clock, serial, uid } = match self.driver.command(command).await.unwrap() {
            Reply::Prepared { draft, .. } => draft,
            other => return other,
        };
        let (root, operator) = (KeyPair::from_seed(&[1; 32]), KeyPair::from_seed(&[3; 32]));
        let terms = Terms {
            name: "me".into(),
            role: Role::Publisher,
            namespaces: Namespaces::All,
            serial: 1,
            expires: None,
        };
        let chain =
            trust::grant(&genesis(), &root, &Chain::default(), operator.public(), terms).unwrap();
        let writer = trust::writer_id(&operator.public(), &[0; 16]);
        clock.insert(writer, serial);
        let body = ChangeBody {
            key: Key::Workload(name()),
            writer,
            serial,
            clock,
            uid,
            value: Value::workload(&spec),
        };
        let change = trust::sign_change(&genesis(), &operator, &chain, body).unwrap();
        self.driver.command(Command::Submit { change: change.raw() }).await.unwrap()
    }

    /// Stops as SIGTERM does. Between the two steps the daemon lets requests end.
    async fn stop(self, back_in: Duration) {
        self.driver.stop(back_in).await;
        assert!(self.driver.query(|_| ()).await.is_ok(), "it goes on until the network is stopped");
        self.network.stop().await;
        assert!(self.running.await.unwrap().is_ok());
    }

    /// Looks like `kill -9` to the other nodes: this one falls silent.
    async fn kill(self) {
        self.running.abort();
        drop(self.network);
        assert!(self.running.await.unwrap_err().is_cancelled());
    }
}

/// A node is killed after it acknowledged a change, and starts again without any peer: it has the
/// change, a higher incarnation, and runs the replica.
#[tokio::test]
async fn accepted_change_survives_a_kill() {
    let folder = TempDir::new().unwrap();
    let one = start(folder.path(), 1, &[]).await;
    one.ready(1).await;
    assert!(matches!(one.publish(web(1)).await, Reply::Accepted { .. }));
    one.healthy(1).await;
    let incarnation = one.driver.query(|node| node.nodes()[0].incarnation).await.unwrap();
    one.kill().await;
    let again = start(folder.path(), 1, &[]).await;
    // Without any peer the node runs what it claims.
    again.healthy(1).await;
    again
        .until("a higher incarnation", move |node| {
            (node.nodes()[0].incarnation > incarnation).then_some(())
        })
        .await;
    again.stop(Duration::from_secs(1)).await;
}

/// Of three nodes with two replicas one is killed, then another: each time the survivors run both
/// replicas, and the last one takes writes.
#[tokio::test]
async fn survivors_take_over_replicas_of_killed_nodes() {
    let folders = [TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap()];
    let first = start(folders[0].path(), 1, &[]).await;
    let mut nodes = Vec::new();
    for (folder, number) in folders[1..].iter().zip(2..) {
        nodes.push(start(folder.path(), number, &[first.address]).await);
    }
    nodes.push(first);
    for node in &nodes {
        node.ready(3).await;
    }
    assert!(matches!(nodes[0].publish(web(2)).await, Reply::Accepted { .. }));
    let holders = nodes[1].healthy(2).await;
    assert_eq!(holders.len(), 2);
    let routes = nodes[0]
        .driver
        .routes()
        .wait_for(|routes| routes.get(&name()).is_some_and(|to| to.len() == 2))
        .await
        .is_ok();
    assert!(routes, "the routes of the workload were published");
    let victim = nodes.iter().position(|node| holders.contains(&node.id.to_string())).unwrap();
    let (victim, dead) = (nodes.remove(victim), holders);
    let id = victim.id.to_string();
    victim.kill().await;
    for node in &nodes {
        let id = id.clone();
        node.until("the work elsewhere", move |node| {
            let web = node.workload(&name())?;
            let mut healthy = web
                .replicas
                .iter()
                .filter(|one| one.phase == "healthy")
                .filter_map(|one| one.node.as_ref());
            (web.healthy == 2 && healthy.all(|node| *node != id)).then_some(())
        })
        .await;
    }
    assert!(dead.contains(&id));
    // Then a single node is left.
    nodes.remove(0).kill().await;
    nodes[0].healthy(2).await;
    assert!(
        matches!(nodes[0].publish(web(3)).await, Reply::Accepted { .. }),
        "the last survivor takes writes"
    );
    nodes[0].healthy(3).await;
}

/// A node that stops in order tells its peers when it expects to be back, so they show `back-by`
/// instead of `down`. Its own handle then refuses requests.
#[tokio::test]
async fn stopping_node_is_back_by_and_not_down() {
    let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let one = start(folders[0].path(), 1, &[]).await;
    let two = start(folders[1].path(), 2, &[one.address]).await;
    one.ready(2).await;
    two.ready(2).await;
    let id = two.id.to_string();
    let driver = two.driver.clone();
    two.stop(Duration::from_secs(20)).await;
    let state = one
        .until("news of the other", move |node| {
            let other = node.nodes().into_iter().find(|node| node.id == id)?;
            (other.state != "up").then_some(other.state)
        })
        .await;
    assert_eq!(state, "back-by");
    assert_eq!(driver.query(|_| ()).await, Err(Stopped));
    assert_eq!(
        driver.command(Command::Prepare { name: name(), spec: None, force: false }).await,
        Err(Stopped)
    );
}

/// The disk fails while changes are published: the node refuses the change and all later ones, says
/// why, and has after a restart just what it acknowledged.
#[tokio::test]
async fn failed_disk_makes_the_node_read_only() {
    let folder = TempDir::new().unwrap();
    let one = start(folder.path(), 1, &[]).await;
    one.ready(1).await;
    one.kill().await;
    let one = start_with(folder.path(), 1, &[], |store| store.failing_after(4)).await;
    let mut accepted = 0;
    let refused = loop {
        match one.publish(web(accepted + 1)).await {
            Reply::Accepted { .. } => accepted += 1,
            other => break other,
        }
        assert!(accepted < 50, "the disk took everything");
    };
    assert!(
        matches!(&refused, Reply::Refused(Refusal::ReadOnly(why)) if why.contains("disk")),
        "{refused:?}"
    );
    let why = one.until("the reason", |node| node.status().read_only).await;
    assert!(why.contains("state.redb"), "{why}");
    assert!(matches!(one.publish(web(1)).await, Reply::Refused(Refusal::ReadOnly(_))));
    one.kill().await;
    // Acknowledged changes are on disk, refused ones are not.
    let again = start(folder.path(), 1, &[]).await;
    let found = again
        .driver
        .query(|node| node.workload(&name()).map_or(0, |web| web.desired))
        .await
        .unwrap();
    assert_eq!(found, accepted);
}

/// A node whose disk had room again took no writes until it was restarted.
#[tokio::test]
async fn mended_disk_takes_changes_without_a_restart() {
    let folder = TempDir::new().unwrap();
    let one = start(folder.path(), 1, &[]).await;
    one.ready(1).await;
    one.kill().await;
    let mut fault = None;
    let one = start_with(folder.path(), 1, &[], |store| {
        fault = Some(store.fault());
        store.failing_after(4)
    })
    .await;
    let mut accepted = 0;
    while let Reply::Accepted { .. } = one.publish(web(accepted + 1)).await {
        accepted += 1;
        assert!(accepted < 50, "the disk took everything");
    }
    let desired = |node: &Node| node.workload(&name()).map_or(0, |web| web.desired);
    assert_eq!(one.driver.query(desired).await.unwrap(), accepted, "what was refused is not shown");
    fault.expect("it was started").mend();
    one.until("no longer read-only", |node| node.status().read_only.is_none().then_some(())).await;
    assert!(matches!(one.publish(web(40)).await, Reply::Accepted { .. }));
    one.kill().await;
    let again = start(folder.path(), 1, &[]).await;
    assert_eq!(again.driver.query(desired).await.unwrap(), 40);
}

/// Events are numbered without a gap, and the counters of network and store are merged.
#[tokio::test]
async fn events_are_in_order_and_counters_count() {
    let folder = TempDir::new().unwrap();
    let one = start(folder.path(), 1, &[]).await;
    one.ready(1).await;
    assert!(matches!(one.publish(web(1)).await, Reply::Accepted { .. }));
    one.healthy(1).await;
    let (history, _) = one.driver.events(0);
    assert!(!history.is_empty());
    assert!(history.windows(2).all(|pair| pair[0].seq + 1 == pair[1].seq));
    let counters = one.driver.counters();
    assert!(counters["disk_commits"] > 0 && counters["disk_syncs"] >= counters["disk_commits"]);
    assert_eq!(counters["net_links_up"], 0);
}
