//! Operators over a real mesh port on loopback, and a core that shows what the tests say.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use shoal_protocol::model::view::EventView;
use shoal_protocol::model::{KeyPair, Namespaces, NodeId, PublicKey, Role, WallClock};
use shoal_protocol::trust::{self, Terms};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::api::tests::World;
use crate::cli::client::Client;
use crate::cli::keys::Keys;
use crate::cli::via::Via;
use crate::driver;
use crate::fakes::workload_view;
use crate::identity::prologue;
use crate::network::{self, CarrierLimits, Network, NetworkConfig};
use crate::publish::{Founding, Operator, OperatorFile, files};

/// A node with an API, and the founder of its cluster.
struct Town {
    folder: tempfile::TempDir,
    founder: Operator,
    world: World,
    network: Network,
    _stop: DropGuard,
}

impl Town {
    async fn new() -> Town {
        Town::of(|founding, node| founding.admit(node, driver::wall()).unwrap()).await
    }

    /// The node shows this as its admission.
    async fn of(admission: impl Fn(&Founding, NodeId) -> shoal_protocol::model::RawChange) -> Town {
        let folder = tempfile::tempdir().unwrap();
        let founding = Founding::draw().unwrap();
        let founder = founding.establish(&folder.path().join("founder"), "founder").unwrap();
        let node = NodeId(KeyPair::from_seed(&[1; 32]).public().0);
        let mut world = World::of(node, Arc::default()).await;
        world.service.about.root = founding.genesis().root;
        *world.core.admission.lock().unwrap() = Some(admission(&founding, node));
        let config = NetworkConfig {
            seed: [1; 32],
            cluster: founder.cluster(),
            prologue: prologue(&founding.genesis()),
            listen: "127.0.0.1:0".parse().unwrap(),
            advertise: Vec::new(),
            carriers: CarrierLimits::default(),
            mdns: false,
        };
        let (network, _inbox) = network::start(config).await.unwrap();
        let stop = CancellationToken::new();
        let door = network.operators().unwrap();
        tokio::spawn(serve(door, world.service.clone(), stop.clone()));
        Town { folder, founder, world, network, _stop: stop.drop_guard() }
    }

    fn terms(name: &str, role: Role) -> Terms {
        let serial = trust::serial_at(driver::wall());
        let namespaces = Namespaces::All;
        Terms { name: name.into(), role, namespaces, serial, expires: None }
    }

    /// The key in `seed` with a right from the founder, in a file.
    fn file(&self, seed: u8, terms: Terms) -> PathBuf {
        let name = terms.name.clone();
        let chain = self.founder.grant(public(seed), terms).unwrap();
        let file = OperatorFile::new(self.founder.genesis(), &name, Some([seed; 32]), &chain);
        let path = self.folder.path().join(format!("{name}.json"));
        files::write(&path, file.text().as_bytes()).unwrap();
        path
    }

    fn via(&self, file: PathBuf) -> Arc<Via> {
        let keys = Keys::new(self.folder.path().join("own"), Some(file), None);
        Arc::new(Via::new(vec![self.network.listening().to_string()], keys))
    }

    fn client(&self, seed: u8, terms: Terms) -> Client {
        Client::via(self.via(self.file(seed, terms)))
    }
}

fn public(seed: u8) -> PublicKey {
    KeyPair::from_seed(&[seed; 32]).public()
}

fn only(name: &str) -> Namespaces {
    Namespaces::Only([name.parse().unwrap()].into())
}

fn prepare(name: &str) -> Value {
    serde_json::json!({ "name": name, "spec": null })
}

/// A reader looks, at everything that is no session; what it may not, names the role that it takes.
#[tokio::test]
async fn reader_looks_and_changes_nothing() {
    let town = Town::new().await;
    town.world.core.show(vec![workload_view("web", vec![])]);
    let bob = town.client(7, Town::terms("bob", Role::Reader));
    let seen: Vec<Value> = bob.get("/v1/workloads").await.unwrap();
    assert_eq!(seen.len(), 1);
    let refused = bob.post::<Value>("/v1/prepare", &prepare("web")).await.unwrap_err();
    assert_eq!((refused.status, refused.code.as_str()), (StatusCode::FORBIDDEN, "not-allowed"));
    assert!(
        refused.message.contains("bob is a reader") && refused.message.contains("a publisher"),
        "{}",
        refused.message
    );
    let session = bob.upgrade("/v1/session/default/web/0").await.err().unwrap();
    assert!(session.message.contains("a publisher of namespace default"), "{}", session.message);
    let down = bob.post::<Value>("/v1/down", &serde_json::json!({})).await.unwrap_err();
    assert!(down.message.contains("an admin of all namespaces"), "{}", down.message);
    assert!(!town.world.down.is_cancelled() && town.world.core.commands.lock().unwrap().is_empty());
}

/// The core is asked by a publisher of the namespace, and sees nothing of another one's request.
#[tokio::test]
async fn publisher_of_a_namespace_stays_in_it() {
    let town = Town::new().await;
    let mut shop = workload_view("web", vec![]);
    shop.namespace = "shop".into();
    town.world.core.show(vec![workload_view("web", vec![]), shop]);
    let terms = Terms { namespaces: only("shop"), ..Town::terms("ann", Role::Publisher) };
    let ann = town.client(8, terms);
    let seen: Vec<Value> = ann.get("/v1/workloads").await.unwrap();
    assert_eq!(seen.iter().map(|it| &it["namespace"]).collect::<Vec<_>>(), ["shop"]);
    let about = |(seq, namespace): (u64, Option<&str>)| {
        let namespace = namespace.map(str::to_owned);
        Arc::new(EventView { seq, namespace, ..EventView::default() })
    };
    let namespaces = [Some("default"), Some("shop"), Some("shop"), Some("shopping"), None];
    town.world.core.history.lock().unwrap().extend((1..).zip(namespaces).map(about));
    for path in ["/v1/events", "/v1/events?follow=true"] {
        let mut events = ann.lines(path).await.unwrap();
        for seq in [2, 3, 5] {
            assert_eq!(events.next::<EventView>().await.unwrap().unwrap().seq, seq, "{path}");
        }
    }
    for path in ["/v1/workloads/default/web", "/v1/logs/default/web/0"] {
        let error = ann.get::<Value>(path).await.unwrap_err();
        assert!(error.message.contains("of namespace default"), "{}", error.message);
    }
    let error = ann.post::<Value>("/v1/prepare", &prepare("web")).await.unwrap_err();
    assert!(error.message.contains("a publisher of namespace default"), "{}", error.message);
    assert!(town.world.core.commands.lock().unwrap().is_empty());
    // The fake core has no reply: that it was asked is what counts.
    let asked = ann.post::<Value>("/v1/prepare", &prepare("shop/web")).await.unwrap_err();
    assert_eq!((asked.code.as_str(), town.world.core.commands.lock().unwrap().len()), ("busy", 1));
    // A hint names nothing of another namespace.
    let missing = ann.get::<Value>("/v1/workloads/shop/wep").await.unwrap_err();
    assert!(missing.hint.unwrap().contains("shop/web"));
    let mut other = workload_view("ledger", vec![]);
    other.namespace = "bank".into();
    town.world.core.show(vec![other]);
    let missing = ann.get::<Value>("/v1/workloads/shop/ledger").await.unwrap_err();
    assert_eq!(missing.hint.as_deref(), Some("`shoal ps` lists what there is."));
    let pruned = ann.post::<Value>("/v1/images/prune", &serde_json::json!({})).await.unwrap_err();
    assert!(pruned.message.contains("a publisher of all namespaces"), "{}", pruned.message);
}

/// Only an administrator of everything stops a node.
#[tokio::test]
async fn administrator_stops_the_node() {
    let town = Town::new().await;
    let few = Terms { namespaces: only("shop"), ..Town::terms("few", Role::Admin) };
    let few = town.client(9, few);
    few.post::<Value>("/v1/down", &serde_json::json!({})).await.unwrap_err();
    assert!(!town.world.down.is_cancelled());
    let root = Client::via(town.via(town.folder.path().join("founder/root.json")));
    root.post::<Value>("/v1/down", &serde_json::json!({})).await.unwrap();
    assert!(town.world.down.is_cancelled());
}

/// A grant that has ended, a key that shows none, and an invite's key get no further than the door.
#[tokio::test]
async fn keys_without_rights_are_refused_at_the_door() {
    let town = Town::new().await;
    let ended = Terms { expires: Some(WallClock(1_000)), ..Town::terms("eve", Role::Admin) };
    let eve = town.client(10, Terms { serial: 1, ..ended });
    let refused = eve.get::<Value>("/v1/status").await.unwrap_err();
    assert!(refused.message.contains("the rights of operator eve ended at"), "{}", refused.message);
    assert!(refused.hint.unwrap().contains("shoal operator add eve --renew"));
    let inviter = Role::Inviter { uses: 1, labels: Vec::new() };
    let expires = Some(WallClock(driver::wall().0 + 60_000));
    let invite = town.client(11, Terms { expires, ..Town::terms("invite", inviter) });
    let refused = invite.get::<Value>("/v1/status").await.unwrap_err();
    assert!(refused.message.contains("no operator's"), "{}", refused.message);
    // A member's key, or anybody's: it shows no grant.
    let genesis = town.founder.genesis();
    let address = town.network.listening().to_string();
    for shown in [codec::encode(&shoal_protocol::model::Chain::default()), vec![0xff; 100]] {
        let mut line = network::dial(&address, &[12; 32], &prologue(&genesis)).await.unwrap();
        let answer = line.ask(&shown, 64 * 1024).await.unwrap();
        let Hello::Refused { status: 403, .. } = serde_json::from_slice(&answer).unwrap() else {
            panic!("a refusal was expected");
        };
    }
    // Another's grants, shown by a key of one's own.
    let mut line = network::dial(&address, &[12; 32], &prologue(&genesis)).await.unwrap();
    let answer = line.ask(&codec::encode(town.founder.chain()), 64 * 1024).await.unwrap();
    assert!(matches!(serde_json::from_slice(&answer).unwrap(), Hello::Refused { .. }));
    // Grants without end.
    let mut line = network::dial(&address, &[12; 32], &prologue(&genesis)).await.unwrap();
    assert!(line.ask(&vec![0; MAX_CHAIN_BYTES + 1], 64 * 1024).await.is_err());
}

/// Rights that are revoked end at once: for the next request, and for an answer that goes on.
#[tokio::test]
async fn revocation_ends_what_is_under_way() {
    let town = Town::new().await;
    let ann = town.client(8, Town::terms("ann", Role::Publisher));
    let mut events = ann.lines("/v1/events?follow=true").await.unwrap();
    town.world.core.revoked_keys.lock().unwrap().push(public(8));
    let refused = ann.get::<Value>("/v1/status").await.unwrap_err();
    assert!(refused.message.contains("operator ann (key"), "{}", refused.message);
    assert!(refused.message.contains("revoked"), "{}", refused.message);
    town.world.core.changes.send_modify(|version| *version += 1);
    let ended = timeout(Duration::from_secs(30), events.next::<Value>()).await.unwrap();
    assert!(matches!(ended, Err(_) | Ok(None)), "{ended:?}");
    // Whoever has its rights from a revoked key has none either.
    let by_ann = town.client(13, Town::terms("kim", Role::Reader));
    by_ann.get::<Value>("/v1/status").await.unwrap();
    town.world.core.revoked_keys.lock().unwrap().push(town.founder.keys().public());
    let refused = by_ann.get::<Value>("/v1/status").await.unwrap_err();
    assert!(refused.message.contains("which gave operator kim its rights"), "{}", refused.message);
}

/// Whoever knows the cluster's id could answer at an address; only a member is believed.
#[tokio::test]
async fn operator_asks_no_stranger() {
    let town =
        Town::of(|founding, _| founding.admit(NodeId([5; 32]), driver::wall()).unwrap()).await;
    let bob = town.client(7, Town::terms("bob", Role::Reader));
    let error = bob.get::<Value>("/v1/status").await.unwrap_err();
    assert!(error.message.contains("does not prove that it is a member"), "{}", error.message);
}

/// An address opens hundreds of connections as an operator does, and says nothing more; an
/// operator from another address gets in.
#[tokio::test]
async fn silent_connections_keep_no_operator_out() {
    let town = Town::new().await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.9:0".parse().unwrap()).unwrap();
        let mut stream = socket.connect(town.network.listening()).await.unwrap();
        stream.write_all(b"\0operate1").await.unwrap();
        silent.push(stream);
    }
    let bob = town.client(7, Town::terms("bob", Role::Reader));
    bob.get::<Value>("/v1/status").await.unwrap();
    // And they end by themselves.
    for mut stream in silent {
        let mut rest = Vec::new();
        let ended = timeout(Duration::from_secs(30), stream.read_to_end(&mut rest));
        drop(ended.await.expect("the node hangs up"));
    }
}

/// A key takes no more than its share of the connections.
#[tokio::test]
async fn connections_of_one_key_are_bounded() {
    let town = Town::new().await;
    let file = town.file(7, Town::terms("bob", Role::Reader));
    let mut kept = Vec::new();
    for _ in 0..MAX_PER_KEY {
        let client = Client::via(town.via(file.clone()));
        let events = client.lines("/v1/events?follow=true").await.unwrap();
        kept.push((client, events));
    }
    let error = Client::via(town.via(file)).get::<Value>("/v1/status").await.unwrap_err();
    assert!(error.code == "busy" && error.message.contains("8 connections"), "{}", error.message);
    let ann = town.client(8, Town::terms("ann", Role::Reader));
    ann.get::<Value>("/v1/status").await.unwrap();
}
