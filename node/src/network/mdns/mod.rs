//! Members find one another on the local network, even when all their addresses changed at once and
//! no record is right any more (RFC 6762, RFC 6763).
//!
//! A node announces itself when it starts, when an address or a cable comes, and then every
//! [`REST`]; it asks for all members when it starts, and for one member when a dial of that member
//! failed. At rest that is one packet of some 250 bytes in ten minutes.
//!
//! **Only packets of those who know the cluster are used.** The questions carry a name made from
//! the cluster's prologue, so that clusters on one network do not answer one another; announcements
//! carry a MAC under it, so that whoever never saw an invite cannot make a node dial anything. A
//! replayed announcement names old addresses of a member, no more than a record holds. The core
//! gets members as [`Input::Sighted`]: a hint, which is dialled, and trusted once the key is
//! proven.
//!
//! libp2p-mdns does not fit: it has one service name for all clusters, stores the announcements of
//! strangers, joins every interface with an address, and announces every address on all of them.

pub(super) mod fuzzing;
mod lan;
mod packet;
mod secret;
mod socket;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use shoal_protocol::model::NodeId;
use shoal_protocol::node::Input;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::counters::{NetCounters, add};
use super::interfaces::Interfaces;
use super::names;
use lan::Lan;
use packet::{Parsed, Question};
use secret::Secret;
use socket::{Received, Socket};

/// Delays of the announcements and questions after a change. A radio may lose one packet, hardly
/// three.
const BURST: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(1_000), Duration::from_millis(3_000)];
/// The interval of announcements without a change. They serve only nodes that missed the change.
const REST: Duration = Duration::from_secs(600);
/// The shortest time between two answers: one packet answers all questions (RFC 6762, section 6).
const ANSWER_GAP: Duration = Duration::from_secs(1);
/// The first and the longest pause between questions for missing members: a member may be dead for
/// years.
const ASK_GAP: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Members that one question names.
const MAX_MISSING: usize = 16;
/// Sightings reported to the core in a second: more than a burst of thirty nodes.
const MAX_SIGHTINGS: u32 = 64;
/// Addresses of one node. A device has one or two networks.
pub(super) const MAX_ADDRESSES: usize = 8;

/// The handle of the mDNS task. Dropping it ends the task.
pub(super) struct Mdns {
    missing: mpsc::Sender<NodeId>,
}

impl Mdns {
    /// Asks for a member that cannot be dialled: it may have moved.
    pub(super) fn look_for(&self, node: NodeId) {
        // A full channel means that enough members are searched. The next failed dial asks again.
        let _ = self.missing.try_send(node);
    }

    /// Starts the task, unless this node listens on loopback only.
    pub(super) fn start(
        node: NodeId,
        secret: &[u8; 32],
        listening: SocketAddr,
        interfaces: watch::Receiver<Arc<Interfaces>>,
        sightings: mpsc::Sender<Input>,
        counters: Arc<NetCounters>,
    ) -> Option<Mdns> {
        if listening.ip().is_loopback() {
            return None; // no other device could dial it
        }
        let (missing, wanted) = mpsc::channel(MAX_MISSING);
        let task = Task {
            node,
            listening,
            secret: Secret::new(secret),
            sightings,
            counters,
            sockets: BTreeMap::new(),
            addresses: Vec::new(),
            announce: BTreeSet::new(),
            announced_at: None,
            missing: BTreeSet::new(),
            ask_at: None,
            asked_at: None,
            ask_gap: ASK_GAP.0,
            recent_sightings: (Instant::now(), 0),
        };
        tokio::spawn(task.run(interfaces, wanted));
        Some(Mdns { missing })
    }
}

struct Task {
    node: NodeId,
    listening: SocketAddr,
    secret: Secret,
    sightings: mpsc::Sender<Input>,
    counters: Arc<NetCounters>,
    /// By interface index.
    sockets: BTreeMap<u32, Socket>,
    /// The addresses of this node on its local networks.
    addresses: Vec<SocketAddr>,
    /// Times of the next announcements; `true` if a question for all members goes with it.
    announce: BTreeSet<(Instant, bool)>,
    announced_at: Option<Instant>,
    missing: BTreeSet<NodeId>,
    ask_at: Option<Instant>,
    asked_at: Option<Instant>,
    ask_gap: Duration,
    /// The start of the current second, and the sightings reported in it.
    recent_sightings: (Instant, u32),
}

impl Task {
    async fn run(
        mut self,
        mut interfaces: watch::Receiver<Arc<Interfaces>>,
        mut wanted: mpsc::Receiver<NodeId>,
    ) {
        let (received_in, mut received) = mpsc::channel(64);
        interfaces.mark_changed();
        loop {
            let due = self.announce.first().map(|(at, _)| *at).into_iter().chain(self.ask_at).min();
            let alarm = async {
                match due {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Ok(()) = interfaces.changed() => {
                    let found = lan::lans(&interfaces.borrow_and_update(), self.listening);
                    self.on_lans(found, &received_in);
                }
                Some(received) = received.recv() => self.on_packet(received),
                node = wanted.recv() => match node {
                    Some(node) => self.on_missing(node),
                    None => return,
                },
                () = alarm => self.on_alarm(),
            }
        }
    }

    /// Opens and closes sockets after a change of the interfaces, and announces the change.
    fn on_lans(&mut self, found: Vec<Lan>, received: &mpsc::Sender<Received>) {
        let mut addresses: Vec<SocketAddr> =
            found.iter().flat_map(|lan| &lan.addresses).copied().collect();
        addresses.truncate(MAX_ADDRESSES);
        let mut is_news = addresses != self.addresses;
        self.addresses = addresses;
        self.sockets.retain(|index, socket| {
            found.iter().any(|lan| lan.index == *index && socket.is_of(lan))
        });
        for lan in found {
            if self.sockets.contains_key(&lan.index) {
                continue;
            }
            match Socket::open(&lan, received.clone()) {
                Ok(socket) => {
                    tracing::debug!(interface = lan.name, "members are looked for by mDNS");
                    self.sockets.insert(lan.index, socket);
                    is_news = true;
                }
                // Another program has the port exclusively, or the interface is gone again.
                Err(error) => tracing::warn!(interface = lan.name, %error, "no mDNS here"),
            }
        }
        if is_news {
            let now = Instant::now();
            self.announce = BURST.iter().map(|after| (now + *after, true)).collect();
            self.ask_gap = ASK_GAP.0;
        }
    }

    fn on_alarm(&mut self) {
        let now = Instant::now();
        while let Some((at, asks)) = self.announce.first().copied().filter(|(at, _)| *at <= now) {
            self.announce.remove(&(at, asks));
            self.announce_now(now);
            if asks {
                self.send(&packet::question(&self.secret, &[]));
            }
        }
        if self.announce.is_empty() {
            // Spread over a tenth of the interval by the node's id, so that not all nodes send at
            // once.
            let spread = REST * u32::from(self.node.as_bytes()[0]) / 256 / 10;
            self.announce.insert((now + REST + spread, false));
        }
        if self.ask_at.is_some_and(|at| at <= now) {
            self.ask_at = None;
            self.asked_at = Some(now);
            self.ask_gap = (self.ask_gap * 2).min(ASK_GAP.1);
            let missing: Vec<NodeId> = std::mem::take(&mut self.missing).into_iter().collect();
            self.send(&packet::question(&self.secret, &missing));
        }
    }

    /// Adds a member to the next question. The first question goes out at once, later ones more and
    /// more rarely.
    fn on_missing(&mut self, node: NodeId) {
        if self.missing.len() < MAX_MISSING {
            self.missing.insert(node);
        }
        let now = Instant::now();
        if self.asked_at.is_some_and(|at| now > at + ASK_GAP.1 * 2) {
            self.ask_gap = ASK_GAP.0; // a long pause: a new failure
        }
        let next = self.asked_at.map_or(now, |at| (at + self.ask_gap).max(now));
        self.ask_at.get_or_insert(next);
    }

    fn on_packet(&mut self, received: Received) {
        add(&self.counters.mdns_received, 1);
        let Some(parsed) = packet::read(&received.bytes, &self.secret) else { return };
        let Parsed { questions, announced } = parsed;
        if questions.iter().any(|question| question.is_for(&self.node)) {
            let now = Instant::now();
            let soonest = self.announced_at.map_or(now, |at| (at + ANSWER_GAP).max(now));
            // Up to 100 ms later, so that not all members answer at once.
            let at = soonest + Duration::from_millis(20 + u64::from(self.node.as_bytes()[1]) / 3);
            let is_due = self.announce.first().is_some_and(|(due, _)| *due <= at);
            if !is_due {
                self.announce.insert((at, false));
            }
        }
        for (node, addresses) in announced {
            if node != self.node {
                self.report_sighting(node, &addresses);
            }
        }
    }

    fn report_sighting(&mut self, node: NodeId, addresses: &[SocketAddr]) {
        let now = Instant::now();
        if now > self.recent_sightings.0 + Duration::from_secs(1) {
            self.recent_sightings = (now, 0);
        }
        self.recent_sightings.1 += 1;
        if self.recent_sightings.1 > MAX_SIGHTINGS || addresses.is_empty() {
            return;
        }
        let addresses =
            addresses.iter().map(|address| names::multiaddr(address).to_string()).collect();
        // When the driver is busy the sighting is dropped: the next announcement repeats it.
        let _ = self.sightings.try_send(Input::Sighted { node, addresses });
    }

    fn announce_now(&mut self, now: Instant) {
        self.announced_at = Some(now);
        if !self.addresses.is_empty() {
            self.send(&packet::announcement(&self.secret, &self.node, &self.addresses));
        }
    }

    fn send(&self, packet: &[u8]) {
        for socket in self.sockets.values() {
            if socket.send(packet) {
                add(&self.counters.mdns_sent, 1);
            }
        }
    }
}

impl Question {
    fn is_for(&self, me: &NodeId) -> bool {
        match self {
            Question::All => true,
            Question::One(label) => *label == packet::label(me),
        }
    }
}
