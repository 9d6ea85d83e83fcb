//! Real swarms on loopback. Every wait is for an event that must come; a test that would wait for
//! ever fails by its time-out.

mod addresses;
mod dialing;
mod gossip;
mod operators;
mod strangers;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use shoal_protocol::model::{ClusterId, Digest, KeyPair, Lane, NodeId, Roster};
use shoal_protocol::node::{
    Answerer, DialFailure, DialTarget, Input, Message, OwnAddresses, Reachability, Verdict,
};
use shoal_protocol::wire;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use super::*;

mod carriers;

const CLUSTER: ClusterId = ClusterId([7; 32]);
const PROLOGUE: [u8; 32] = [8; 32];
/// No process listens there.
const DEAD: &str = "/ip4/127.0.0.1/tcp/1";

struct Peer {
    id: NodeId,
    network: Network,
    inbox: Inbox,
}

async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(30), wait).await {
        Ok(value) => value,
        Err(_) => panic!("{what} never came"),
    }
}

fn config(seed: u8, prologue: [u8; 32]) -> NetworkConfig {
    NetworkConfig {
        seed: [seed; 32],
        cluster: CLUSTER,
        prologue,
        listen: "127.0.0.1:0".parse().unwrap(),
        advertise: Vec::new(),
        carriers: CarrierLimits {
            stall_after: Duration::from_millis(200),
            ..CarrierLimits::default()
        },
        mdns: false,
    }
}

fn id(seed: u8) -> NodeId {
    NodeId(KeyPair::from_seed(&[seed; 32]).public().0)
}

/// All peers of the tests are members.
fn everybody() -> Roster {
    (1..=40).map(id).collect()
}

async fn peer(seed: u8) -> Peer {
    let (network, inbox) = start(config(seed, PROLOGUE)).await.unwrap();
    network.set_roster(everybody());
    Peer { id: id(seed), network, inbox }
}

/// Silent connections to `to` from a loopback address.
async fn silent(from: &str, to: SocketAddr, count: usize) -> Vec<tokio::net::TcpStream> {
    let mut all = Vec::new();
    for _ in 0..count {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
        all.push(socket.connect(to).await.unwrap());
    }
    all
}

/// A message that differs from those with other numbers.
fn numbered(number: u64) -> Message {
    Message::Have { node: NodeId([0; 32]), digest: Digest::of(&number.to_be_bytes()) }
}

fn large(number: u64, bytes: usize) -> Vec<u8> {
    let mut frame = wire::encode(&numbered(number));
    frame.resize(bytes, 0);
    frame
}

impl Peer {
    fn address(&self) -> String {
        self.network.own_addresses().addresses[0].clone()
    }

    fn dial(&self, other: &Peer) {
        assert!(self.network.dial(DialTarget::Node(other.id), vec![other.address()]));
    }

    async fn urgent(&mut self) -> Input {
        loop {
            match within("an urgent input", self.inbox.urgent.recv())
                .await
                .expect("the network runs")
            {
                // Outcomes of single addresses: tests that need them use `answered`.
                Input::Answered { .. } => {}
                input => return input,
            }
        }
    }

    /// The address at which something else than the node answered a dial, and what answered.
    async fn answered(&mut self) -> (String, Answerer) {
        match within("an answer", self.inbox.urgent.recv()).await.expect("the network runs") {
            Input::Answered { address, by, .. } => (address, by),
            other => panic!("an answer was expected, not {other:?}"),
        }
    }

    async fn link_up(&mut self) -> NodeId {
        match self.urgent().await {
            Input::LinkUp { peer, .. } => peer,
            other => panic!("a link was expected, not {other:?}"),
        }
    }

    async fn dial_failed(&mut self) -> DialFailure {
        match self.urgent().await {
            Input::DialFailed { how, .. } => how,
            other => panic!("a failed dial was expected, not {other:?}"),
        }
    }

    async fn received(&mut self) -> (NodeId, Message) {
        match self.urgent().await {
            Input::Message { from, message } => (from, message),
            other => panic!("a message was expected, not {other:?}"),
        }
    }

    fn count(&self, name: &str) -> u64 {
        let mut all = BTreeMap::new();
        self.network.counters().report(&mut all);
        all[name]
    }
}

async fn linked(one: u8, other: u8) -> (Peer, Peer) {
    let (mut one, mut other) = (peer(one).await, peer(other).await);
    one.dial(&other);
    assert_eq!(one.link_up().await, other.id);
    assert_eq!(other.link_up().await, one.id);
    (one, other)
}

/// Messages arrive on the lane they were sent on, and are counted.
#[tokio::test]
async fn a_link_carries_both_lanes_both_ways() {
    let (mut a, mut b) = linked(1, 2).await;
    a.network.send(&b.id, Lane::Urgent, &numbered(1));
    a.network.send(&b.id, Lane::Bulk, &numbered(2));
    b.network.send(&a.id, Lane::Urgent, &numbered(3));
    assert_eq!(b.received().await, (a.id, numbered(1)));
    assert_eq!(a.received().await, (b.id, numbered(3)));
    let bulk = within("a bulk message", b.inbox.bulk.recv()).await.unwrap();
    assert!(
        matches!(bulk, Input::Message { from, message } if from == a.id && message == numbered(2))
    );
    assert_eq!((b.count("net_messages_received"), b.count("net_messages_dropped")), (2, 0));
    assert!(a.count("net_bytes_sent") > 100 && b.count("net_bytes_received") > 100);
}

/// A peer is killed: its link ends, a dial of its old address is refused, and messages to it are
/// dropped. It then starts at another port and dials.
#[tokio::test]
async fn dead_peer_is_noticed_and_returns_at_another_port() {
    for (survivor, victim) in [(1, 2), (2, 1)] {
        let (mut a, b) = linked(survivor, victim).await;
        let (id, address) = (b.id, b.address());
        drop(b);
        assert!(matches!(a.urgent().await, Input::LinkDown { peer } if peer == id));
        assert!(a.network.dial(DialTarget::Node(id), vec![address]));
        assert_eq!(a.dial_failed().await, DialFailure::Refused);
        a.network.send(&id, Lane::Urgent, &numbered(1));
        assert_eq!(a.count("net_messages_dropped"), 1);
        let mut b = peer(victim).await;
        b.dial(&a);
        assert_eq!((a.link_up().await, b.link_up().await), (b.id, a.id));
    }
}

/// A node of another cluster cannot complete the handshake, and its error names the address.
#[tokio::test]
async fn peer_of_another_cluster_is_a_stranger() {
    let b = peer(2).await;
    let (network, inbox) = start(config(1, [9; 32])).await.unwrap();
    let mut stranger = Peer { id: id(1), network, inbox };
    stranger.dial(&b);
    let how = stranger.dial_failed().await;
    assert!(
        matches!(&how, DialFailure::Stranger(why) if why.contains("another cluster")),
        "{how:?}"
    );
    assert!(stranger.network.dial(DialTarget::Address(b.address()), vec![b.address()]));
    let how = stranger.dial_failed().await;
    let shown = b.network.listening().to_string();
    assert!(matches!(&how, DialFailure::Stranger(why) if why.contains(&shown)), "{how:?}");
    assert!(b.count("net_connections_refused") > 0);
}

/// Only 64 handshakes could be under way, and each silent connection held one for two seconds: no
/// device could join while a stranger opened 500 a second. Newcomers get through, from the same
/// address and from another.
#[tokio::test]
async fn silent_connections_do_not_keep_newcomers_out() {
    let mut b = peer(2).await;
    for (from, newcomer) in [("127.0.0.1", 1), ("127.0.0.2", 3)] {
        let flood = silent(from, b.network.listening(), 200).await;
        let mut a = peer(newcomer).await;
        a.dial(&b);
        assert_eq!((a.link_up().await, b.link_up().await), (b.id, a.id));
        drop(a);
        assert!(matches!(b.urgent().await, Input::LinkDown { .. }));
        drop(flood);
    }
    let mut all = BTreeMap::new();
    b.network.handshake_counters()(&mut all);
    let dropped: u64 = all
        .iter()
        .filter(|(name, _)| name.starts_with("net_handshakes_"))
        .map(|(_, count)| count)
        .sum();
    assert!(dropped >= 200, "{all:?}");
}

/// Both nodes dial at the same moment. Both must keep the same connection, without losing a
/// message.
#[tokio::test]
async fn simultaneous_dials_leave_one_link() {
    for _ in 0..10 {
        let (mut a, mut b) = (peer(1).await, peer(2).await);
        a.dial(&b);
        b.dial(&a);
        let (mut at_a, mut at_b) = (0, 0);
        a.link_up().await;
        b.link_up().await;
        // The second connection closes during these; neither its end nor its dial's outcome may end
        // the link.
        for round in 0..50 {
            a.network.send(&b.id, Lane::Urgent, &numbered(round));
            b.network.send(&a.id, Lane::Urgent, &numbered(round));
            for (peer, met) in [(&mut a, &mut at_a), (&mut b, &mut at_b)] {
                loop {
                    match peer.urgent().await {
                        Input::Message { message, .. } => {
                            break assert_eq!(message, numbered(round));
                        }
                        Input::LinkUp { .. } => *met += 1,
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
        assert!(at_a <= 1 && at_b <= 1, "a dial is answered once");
    }
}

/// A seed may name a linked peer or this node itself; the core waits for an answer in both cases.
#[tokio::test]
async fn dial_of_a_linked_seed_reports_the_link() {
    let (mut a, b) = linked(1, 2).await;
    assert!(a.network.dial(DialTarget::Address(b.address()), vec![b.address()]));
    assert_eq!(a.link_up().await, b.id);
    assert!(a.network.dial(DialTarget::Address(a.address()), vec![a.address()]));
    let how = a.dial_failed().await;
    assert!(
        matches!(&how, DialFailure::Stranger(why) if why.contains("this node itself")),
        "{how:?}"
    );
}

/// A disconnect writes the queue before it closes the link.
#[tokio::test]
async fn messages_before_a_disconnect_still_arrive() {
    let (mut a, mut b) = linked(1, 2).await;
    for number in 0..20 {
        a.network.send(&b.id, Lane::Urgent, &numbered(number));
    }
    a.network.disconnect(b.id);
    for number in 0..20 {
        assert_eq!(b.received().await, (a.id, numbered(number)));
    }
    assert!(matches!(b.urgent().await, Input::LinkDown { peer } if peer == a.id));
    assert!(matches!(a.urgent().await, Input::LinkDown { peer } if peer == b.id));
}

/// A newer program may send a few unknown messages; one that sends only those is disconnected.
#[tokio::test]
async fn repeated_undecodable_frames_end_the_link() {
    let (mut a, mut b) = linked(1, 2).await;
    let link = a.network.links.with(|links| links.get(&b.id).cloned()).unwrap();
    let send = |frame: Vec<u8>| assert!(link.send(Lane::Urgent, frame));
    let undecodable = || vec![wire::VERSION, 1, 0xff, 0xff];
    send(undecodable());
    send(wire::encode(&numbered(1)));
    assert!(matches!(b.urgent().await, Input::Garbage { from, .. } if from == a.id));
    assert_eq!(b.received().await, (a.id, numbered(1)), "one bad frame does not end a link");
    (0..7).for_each(|_| send(undecodable()));
    for _ in 0..7 {
        assert!(matches!(b.urgent().await, Input::Garbage { .. }));
    }
    assert!(matches!(b.urgent().await, Input::LinkDown { .. }));
    assert!(matches!(a.urgent().await, Input::LinkDown { .. }));
    assert_eq!(b.count("net_garbage"), 8);
}

/// A peer that was not upgraded yet cannot be talked to: the reason is told in words, and the link
/// ends. Messages of a kind that a newer program appended end nothing, however many there are.
#[tokio::test]
async fn peer_of_another_version_is_told_of_and_let_go() {
    let (mut a, mut b) = linked(1, 2).await;
    let link = a.network.links.with(|links| links.get(&b.id).cloned()).unwrap();
    let send = |frame: Vec<u8>| assert!(link.send(Lane::Urgent, frame));
    let appended_kind = || vec![wire::VERSION, 200];
    for _ in 0..20 {
        send(appended_kind());
        assert!(matches!(b.urgent().await, Input::OtherVersion { .. }));
    }
    for _ in 0..8 {
        send(vec![wire::VERSION - 1, 0]);
        let Input::OtherVersion { from, why } = b.urgent().await else { panic!("a version") };
        assert!(from == a.id && why.contains("another version of shoal"), "{why}");
    }
    assert!(matches!(b.urgent().await, Input::LinkDown { .. }));
    assert!(matches!(a.urgent().await, Input::LinkDown { .. }));
    assert_eq!(b.count("net_garbage"), 0);
}

/// After a frame of an impossible length the next one cannot be found.
#[tokio::test]
async fn too_long_frame_ends_the_link_at_once() {
    let (mut a, mut b) = linked(1, 2).await;
    let link = a.network.links.with(|links| links.get(&b.id).cloned()).unwrap();
    assert!(link.send(Lane::Bulk, large(1, wire::MAX_MESSAGE + 1)));
    assert!(matches!(within("garbage", b.inbox.bulk.recv()).await.unwrap(), Input::Garbage { .. }));
    assert!(matches!(b.urgent().await, Input::LinkDown { .. }));
    assert!(matches!(a.urgent().await, Input::LinkDown { .. }));
}

/// The driver does not read bulk messages. Urgent ones must not wait behind them.
#[tokio::test]
async fn urgent_messages_pass_stuck_bulk_messages() {
    let (a, mut b) = linked(1, 2).await;
    let link = a.network.links.with(|links| links.get(&b.id).cloned()).unwrap();
    // b's bulk inbox is not read: at some time the stream and all queues are full.
    let mut sent = 0;
    within("a full queue", async {
        while link.send(Lane::Bulk, wire::encode(&numbered(sent))) || sent < 10_000 {
            sent += 1;
            tokio::task::yield_now().await;
        }
    })
    .await;
    a.network.send(&b.id, Lane::Urgent, &numbered(42));
    assert_eq!(b.received().await, (a.id, numbered(42)));
    a.network.send(&b.id, Lane::Bulk, &numbered(43));
    assert!(a.count("net_messages_dropped") <= 1);
}

/// A request and a large answer travel on a stream of their own.
#[tokio::test]
async fn services_have_streams_of_their_own() {
    let (a, b) = linked(1, 2).await;
    let mut acceptor = b.network.accept(Purpose::Artifact).await;
    let mut stream = a.network.open(b.id, Purpose::Artifact).await.unwrap();
    stream.write_all(b"which?").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut incoming = within("the stream", acceptor.next()).await.unwrap();
    assert_eq!(incoming.from, a.id);
    let mut asked = String::new();
    incoming.stream.read_to_string(&mut asked).await.unwrap();
    let answer = tokio::spawn(async move {
        incoming.stream.write_all(&vec![5; 600_000]).await.unwrap();
        incoming.stream.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    within("the answer", stream.read_to_end(&mut got)).await.unwrap();
    answer.await.unwrap();
    assert_eq!((asked.as_str(), got.len()), ("which?", 600_000));
}

/// A node was cut off while it answered requests; the requesters waited for a minute, long after
/// the link had ended.
#[tokio::test]
async fn stream_ends_at_once_with_its_link() {
    let (a, b) = linked(1, 2).await;
    let mut acceptor = b.network.accept(Purpose::Http).await;
    let mut asking = a.network.open(b.id, Purpose::Http).await.unwrap();
    asking.write_all(b"what?").await.unwrap();
    // The stream is accepted and never answered.
    let _taken = within("the stream", acceptor.next()).await.unwrap();
    let answer = tokio::spawn(async move { asking.read(&mut [0; 1]).await });
    a.network.disconnect(b.id);
    let ended = within("the end", answer).await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

struct OneAddress(NodeId, String);

impl Directory for OneAddress {
    fn way(&self, node: NodeId) -> BoxFuture<'_, Reachability> {
        let known = (node == self.0).then(|| self.1.clone());
        std::future::ready(Reachability {
            addresses: known.into_iter().collect(),
            ..Reachability::default()
        })
        .boxed()
    }
}

/// In a large cluster most nodes are not linked. The first stream dials, with an address of the
/// directory.
#[tokio::test]
async fn a_stream_to_a_node_without_a_link_makes_one() {
    let (mut a, mut b) = (peer(1).await, peer(2).await);
    let _acceptor = b.network.accept(Purpose::Http).await;
    assert!(
        matches!(a.network.open(b.id, Purpose::Http).await, Err(OpenError::NoLink(_))),
        "its address is unknown"
    );
    a.network.set_directory(Arc::new(OneAddress(b.id, b.address())));
    within("a stream", a.network.open(b.id, Purpose::Http)).await.unwrap();
    assert_eq!((a.link_up().await, b.link_up().await), (b.id, a.id));
    // A node that is not at its known address fails at once.
    drop(b);
    assert!(matches!(a.urgent().await, Input::LinkDown { .. }));
    assert!(matches!(a.network.open(id(2), Purpose::Http).await, Err(OpenError::NoLink(_))));
    assert!(a.inbox.urgent.try_recv().is_err(), "the core did not ask for that dial");
}

/// A refused stream ends at once, so its opener does not wait.
#[tokio::test]
async fn unaccepted_streams_and_too_many_streams_are_refused() {
    let (a, b) = linked(1, 2).await;
    // b accepts no HTTP yet.
    let mut refused = a.network.open(b.id, Purpose::Http).await.unwrap();
    assert_eq!(within("the end", refused.read(&mut [0; 1])).await.unwrap_or(0), 0);
    let mut acceptor = b.network.accept(Purpose::Artifact).await;
    let mut living = Vec::new();
    for _ in 0..16 {
        let mine = a.network.open(b.id, Purpose::Artifact).await.unwrap();
        living.push((mine, within("a stream", acceptor.next()).await.unwrap()));
    }
    let mut refused = a.network.open(b.id, Purpose::Artifact).await.unwrap();
    assert_eq!(within("the end", refused.read(&mut [0; 1])).await.unwrap_or(0), 0);
    assert_eq!(b.count("net_streams_refused"), 2);
    // A stream that ends frees its place.
    living.truncate(15);
    let mine = a.network.open(b.id, Purpose::Artifact).await.unwrap();
    let incoming = within("a stream", acceptor.next()).await.unwrap();
    drop((mine, incoming));
}

/// The operator must know which port to change.
#[tokio::test]
async fn a_taken_port_is_named() {
    let a = peer(1).await;
    let listen = a.network.listening();
    let error =
        start(NetworkConfig { listen, ..config(2, PROLOGUE) }).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, NetworkError::Taken(address) if address == listen));
    assert!(error.to_string().contains(&listen.port().to_string()), "{error}");
}

/// A node that stops first sends the messages that wait in its queues.
#[tokio::test]
async fn stop_sends_queued_messages() {
    let (a, mut b) = linked(1, 2).await;
    for number in 0..50 {
        a.network.send(&b.id, Lane::Urgent, &numbered(number));
    }
    within("the stop", a.network.stop()).await;
    for number in 0..50 {
        assert_eq!(b.received().await, (a.id, numbered(number)));
    }
    assert!(matches!(b.urgent().await, Input::LinkDown { peer } if peer == a.id));
}

/// A directory without addresses, with these relays for every node.
struct RelaysOnly(Vec<NodeId>);

impl Directory for RelaysOnly {
    fn way(&self, _: NodeId) -> BoxFuture<'_, Reachability> {
        let unreachable = Some("no address answered".to_owned());
        std::future::ready(Reachability {
            addresses: Vec::new(),
            unreachable,
            hops: self.0.clone(),
        })
        .boxed()
    }
}

/// The first two nodes are linked to the third alone, which relays for them.
async fn without_direct_link() -> (Peer, Peer, Peer, tokio_util::sync::DropGuard) {
    let (mut a, mut b, mut c) = (peer(1).await, peer(2).await, peer(3).await);
    let stop = tokio_util::sync::CancellationToken::new();
    for one in [&mut a, &mut b] {
        one.dial(&c);
        assert_eq!((one.link_up().await, c.link_up().await), (c.id, one.id));
        one.network.set_directory(Arc::new(RelaysOnly(vec![c.id])));
    }
    c.network.set_directory(Arc::new(RelaysOnly(vec![a.id, b.id])));
    for one in [&a, &b, &c] {
        let streams = one.network.accept(Purpose::Hop).await;
        tokio::spawn(hop::serve(one.network.clone(), streams, stop.clone()));
    }
    (a, b, c, stop.drop_guard())
}

/// Both ends prove their keys through the relay: the accepting node sees the asking node's key, not
/// the relay's.
#[tokio::test]
async fn relayed_stream_proves_the_key_of_the_asking_node() {
    let (a, b, c, _stop) = without_direct_link().await;
    for purpose in [Purpose::Artifact, Purpose::Http] {
        let mut acceptor = b.network.accept(purpose).await;
        let mut stream = within("a stream", a.network.open(b.id, purpose)).await.unwrap();
        assert_eq!(stream.hop(), Some(c.id));
        stream.write_all(b"which?").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut incoming = within("the stream", acceptor.next()).await.unwrap();
        assert_eq!(incoming.from, a.id);
        let mut asked = String::new();
        within("the question", incoming.stream.read_to_string(&mut asked)).await.unwrap();
        let answer = tokio::spawn(async move {
            incoming.stream.write_all(&vec![5; 600_000]).await.unwrap();
            incoming.stream.shutdown().await.unwrap();
        });
        let mut got = Vec::new();
        within("the answer", stream.read_to_end(&mut got)).await.unwrap();
        answer.await.unwrap();
        assert_eq!((asked.as_str(), got.len()), ("which?", 600_000));
    }
    assert_eq!((a.count("net_hops_opened"), c.count("net_hops_carried")), (2, 2));
}

/// A node that asks over a relay gets the relay's reason when the relay cannot reach the target
/// either.
#[tokio::test]
async fn relay_without_a_path_reports_why() {
    let (a, b, c, _stop) = without_direct_link().await;
    // The relay server holds a copy of the network, so dropping this one would not stop it.
    within("the stop", b.network.stop()).await;
    let lost = b.id;
    // The relay may notice the end of its link a moment later.
    let why = within("the refusal", async {
        loop {
            match a.network.open(lost, Purpose::Http).await {
                Err(OpenError::Unreachable { node, dial, tried }) => {
                    assert_eq!((node, dial.as_str()), (lost, "no address answered"));
                    if let [(hop, why)] = &tried[..]
                        && why.contains("no address answered")
                    {
                        assert_eq!(*hop, c.id);
                        return why.clone();
                    }
                }
                Err(OpenError::TimedOut(_)) => {}
                other => panic!("{other:?}"),
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(why, "no address answered", "the relay asked no other relay");
    assert!(c.count("net_hops_refused") > 0);
}
