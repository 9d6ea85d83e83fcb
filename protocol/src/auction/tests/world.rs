//! A small network of auction rooms: seeded delays, faults by rule, a disk that takes time, and
//! claims as the node would keep them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::LazyLock;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::auction::*;
pub(super) use crate::model::Resources;
use crate::model::out::Outgoing;
use crate::model::spec::HostPort;
use crate::model::{AuctionId, NeedSum, Place, Unfit, WallClock};

pub(super) const CLUSTER: ClusterId = ClusterId([9; 32]);
pub(super) const UID: Digest = Digest([5; 32]);
pub(super) const GENERATION: Digest = Digest([6; 32]);
pub(super) const MIB: u64 = 1024 * 1024;
/// The resources of a test replica, a hundredth of a node.
pub(super) const SMALL: Resources = Resources { memory: 10 * MIB, cpu: 10 };
pub(super) const NODE: Resources = Resources { memory: 1000 * MIB, cpu: 1000 };

/// Derived once: the worlds of a property test look nodes up far more often than they sign.
static KEYS: LazyLock<Vec<KeyPair>> =
    LazyLock::new(|| (1..=u8::MAX).map(|n| KeyPair::from_seed(&[n; 32])).collect());

pub(super) fn keys(n: usize) -> KeyPair {
    KEYS[n].clone()
}

pub(super) fn id(n: usize) -> NodeId {
    NodeId(KEYS[n].public().0)
}

pub(super) fn replica(uid: Digest, index: u32) -> ReplicaId {
    ReplicaId { uid, place: Place::Ordinal(index) }
}

/// The resources of a replica, whether the device can run it, and the bytes to fetch.
pub(super) type KnownWorkload = (Resources, Result<(), Unfit>, u64);

/// The knowledge of a node besides its auctions.
#[derive(Clone, Debug, Default)]
pub(super) struct TestContext {
    /// By uid and generation.
    pub(super) known: BTreeMap<(Digest, Digest), KnownWorkload>,
    /// The desired number of replicas; none if unbounded.
    pub(super) replicas: Option<u32>,
    pub(super) claims: BTreeMap<ReplicaId, Token>,
    /// Claims that are not on disk yet.
    pub(super) writing: BTreeSet<ReplicaId>,
    /// The resources of the claims, and of what fills the node besides.
    pub(super) committed: BTreeMap<ReplicaId, Resources>,
    pub(super) seen: BTreeMap<ReplicaId, Token>,
    pub(super) read_only: bool,
    pub(super) leaving: bool,
    /// The weights of preferences, in all and not fulfilled here.
    pub(super) weights: (u32, u32),
    /// The claims that this node knows, and labels of nodes.
    pub(super) holders: Vec<(Place, NodeId)>,
    pub(super) labels: BTreeMap<NodeId, String>,
    /// Whether this node takes one replica of a workload at a time.
    pub(super) one_at_a_time: bool,
    /// The priority of the workload, and of what fills the node.
    pub(super) priority: i32,
    pub(super) priorities: BTreeMap<ReplicaId, i32>,
    /// The ports of the device that each replica needs.
    pub(super) ports: BTreeSet<HostPort>,
    /// The ports of the device that something has.
    pub(super) taken: BTreeMap<HostPort, String>,
}

impl BidContext for TestContext {
    fn knowledge(&self, uid: &Digest, generation: &Digest) -> Knowledge {
        let here = self.claims.keys().filter(|replica| replica.uid == *uid).count();
        self.known.get(&(*uid, *generation)).map_or(
            Knowledge::Unknown,
            |(resources, fit, fetch_bytes)| Knowledge::Known {
                need: (*resources).into(),
                priority: self.priority,
                fit: fit.clone(),
                ports: self.ports.clone(),
                fetch_bytes: *fetch_bytes,
                disk: Ok(()),
                here: u32::try_from(here).unwrap(),
                one_at_a_time: self.one_at_a_time,
                weights: self.weights,
            },
        )
    }

    fn is_open(&self, replica: &ReplicaId) -> bool {
        let Place::Ordinal(index) = replica.place else { return false };
        self.replicas.is_none_or(|replicas| index < replicas)
    }

    fn own_claim(&self, replica: &ReplicaId) -> Option<OwnClaim> {
        let token = *self.claims.get(replica)?;
        Some(OwnClaim { token, is_written: !self.writing.contains(replica) })
    }

    fn committed(&self) -> NeedSum {
        let mut sum = NeedSum::default();
        self.committed.values().for_each(|resources| sum.add(&(*resources).into(), 1));
        sum
    }

    fn stopping(&self) -> NeedSum {
        NeedSum::default()
    }

    fn port_holder(&self, port: &HostPort) -> Option<String> {
        self.taken.get(port).cloned()
    }

    fn evictable(&self, below: i32) -> Vec<Evictable> {
        let one = |(replica, priority): (&ReplicaId, &i32)| {
            let need = self.committed.get(replica).copied()?.into();
            (*priority < below).then_some(Evictable {
                replica: *replica,
                priority: *priority,
                need,
            })
        };
        self.priorities.iter().filter_map(one).collect()
    }

    fn user_of(&self, _: &str) -> Option<String> {
        None
    }

    fn holders(&self, _: &Digest) -> Vec<(Place, NodeId)> {
        self.holders.clone()
    }

    fn label(&self, node: &NodeId, _: &str) -> Option<String> {
        self.labels.get(node).cloned()
    }

    fn seen(&self, replica: &ReplicaId) -> Option<Token> {
        self.seen.get(replica).copied()
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn leaving(&self) -> bool {
        self.leaving
    }

    fn rtt(&self, _: &NodeId) -> Duration {
        Duration::from_millis(4)
    }

    fn wall(&self) -> WallClock {
        WallClock(1_000)
    }
}

pub(super) struct Node {
    pub(super) room: Auction,
    pub(super) context: TestContext,
    pub(super) alive: bool,
    pub(super) facts: Vec<Fact>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Delivery {
    Deliver,
    Lose,
    After(Duration),
}

#[derive(PartialEq, Eq, Debug)]
enum Event {
    Message { from: usize, to: usize, message: Box<Message> },
    Stored { node: usize, award: Signed<Award> },
}

type Rule = Box<dyn FnMut(usize, usize, &Message) -> Delivery>;

pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    pub(super) now: Time,
    queue: BTreeMap<(Time, u64), Event>,
    next: u64,
    rng: ChaCha8Rng,
    pub(super) rule: Rule,
    pub(super) fsync: Duration,
    /// The winners under each token, over the whole run.
    pub(super) winners: BTreeMap<(ReplicaId, Token), BTreeSet<usize>>,
    pub(super) transcript: Vec<String>,
    pub(super) delivered: usize,
}

impl World {
    pub(super) fn new(count: usize, seed: u64) -> Self {
        Self::with(count, seed, Config::default())
    }

    /// Nodes with equal capacity that all know the workload.
    pub(super) fn with(count: usize, seed: u64, config: Config) -> Self {
        let node = |n: usize| {
            let mut bytes = [u8::try_from(n).unwrap(); 32];
            bytes[..8].copy_from_slice(&seed.to_le_bytes());
            let mut room = Auction::new(config.clone(), id(n), keys(n), CLUSTER, 1, bytes);
            room.set_capacity(NODE);
            let mut context = TestContext::default();
            context.known.insert((UID, GENERATION), (SMALL, Ok(()), 0));
            Node { room, context, alive: true, facts: Vec::new() }
        };
        World {
            nodes: (0..count).map(node).collect(),
            now: Time::ZERO + Duration::from_secs(60),
            queue: BTreeMap::new(),
            next: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
            rule: Box::new(|_, _, _| Delivery::Deliver),
            fsync: Duration::from_millis(2),
            winners: BTreeMap::new(),
            transcript: Vec::new(),
            delivered: 0,
        }
    }

    pub(super) fn index_of(&self, node: &NodeId) -> usize {
        (0..self.nodes.len()).find(|n| id(*n) == *node).expect("a node of this world")
    }

    /// An offer of places of `UID`; all nodes that are alive are candidates.
    pub(super) fn offer(&self, places: impl IntoIterator<Item = u32>) -> Offer {
        Offer {
            uid: UID,
            name: "web".parse().unwrap(),
            generation: GENERATION,
            resources: SMALL,
            places: places
                .into_iter()
                .map(|index| OfferPlace {
                    place: Place::Ordinal(index),
                    counter: 1,
                    why: "never placed".into(),
                })
                .collect(),
            candidates: (0..self.nodes.len()).filter(|n| self.nodes[*n].alive).map(id).collect(),
            excluded: Vec::new(),
            is_ordered: false,
            spread: Vec::new(),
            weights: 0,
            guardians: Vec::new(),
        }
    }

    pub(super) fn open(&mut self, owner: usize, offer: Offer) {
        self.call(owner, |room, now, context, out| room.open(now, offer, context, out));
    }

    /// Runs one call of a room, acts on its effects, and hands it its messages to itself.
    pub(super) fn call(
        &mut self,
        n: usize,
        work: impl FnOnce(&mut Auction, Time, &TestContext, &mut Out<Message>) -> Vec<Fact>,
    ) {
        let mut to_itself = VecDeque::from(self.call_once(n, work));
        while let Some(message) = to_itself.pop_front() {
            to_itself.extend(self.call_once(n, |room, now, context, out| {
                room.handle_message(now, id(n), message, context, out)
            }));
        }
    }

    fn call_once(
        &mut self,
        n: usize,
        work: impl FnOnce(&mut Auction, Time, &TestContext, &mut Out<Message>) -> Vec<Fact>,
    ) -> Vec<Message> {
        let mut out = Out::new();
        let node = &mut self.nodes[n];
        if !node.alive {
            return Vec::new();
        }
        let facts = work(&mut node.room, self.now, &node.context, &mut out);
        let mut to_itself = Vec::new();
        while let Some(outgoing) = out.pop() {
            let Outgoing::Send { to, message, .. } = outgoing else {
                panic!("only sends are expected")
            };
            let to = self.index_of(&to);
            if to == n {
                to_itself.push(message);
                continue;
            }
            self.transcript.push(format!("{} {n}->{to} {message:?}", self.now.as_micros()));
            let delay = match (self.rule)(n, to, &message) {
                Delivery::Lose => continue,
                Delivery::Deliver => Duration::from_micros(500 + self.rng.next_u64() % 2_000),
                Delivery::After(delay) => delay,
            };
            self.push(delay, Event::Message { from: n, to, message: Box::new(message) });
        }
        for fact in facts {
            self.transcript.push(format!("{} {n}: {fact:?}", self.now.as_micros()));
            self.act(n, &fact);
            self.nodes[n].facts.push(fact);
        }
        self.check(n);
        to_itself
    }

    pub(super) fn committed(&self, n: usize) -> Resources {
        self.nodes[n].context.committed().narrow().size
    }

    /// The claim of a replica could not be made, or is released.
    pub(super) fn free(&mut self, n: usize, replica: &ReplicaId) {
        let context = &mut self.nodes[n].context;
        context.claims.remove(replica);
        context.writing.remove(replica);
        context.committed.remove(replica);
    }

    /// Acts as the node on a fact: claims what it won.
    fn act(&mut self, n: usize, fact: &Fact) {
        let Fact::Won { award, .. } = fact else { return };
        let (replica, token) = (award.replica, award.token);
        let winners = self.winners.entry((replica, token)).or_default();
        winners.insert(n);
        assert_eq!(winners.len(), 1, "{replica} was won by several nodes under one token");
        let before = self.nodes[n].context.claims.insert(replica, token);
        assert_eq!(before, None, "{replica} was won by node {n}, which held it");
        self.nodes[n].context.writing.insert(replica);
        self.nodes[n].context.committed.insert(replica, SMALL);
        self.nodes[n].context.seen.insert(replica, token);
        self.push(self.fsync, Event::Stored { node: n, award: award.clone() });
    }

    /// The invariant after each call: a node never promises more than it has.
    fn check(&self, n: usize) {
        let room = &self.nodes[n].room;
        let promised = self.committed(n).plus(room.reserved().size);
        assert!(NODE.holds(promised), "node {n} promised {promised:?}");
    }

    fn push(&mut self, after: Duration, event: Event) {
        self.queue.insert((self.now + after, self.next), event);
        self.next += 1;
    }

    /// Runs the next timer or event, if it is due before `until`.
    fn step(&mut self, until: Time) -> bool {
        let timers = self.nodes.iter().enumerate().filter(|(_, node)| node.alive);
        let timer = timers.filter_map(|(n, node)| Some((node.room.poll_timeout()?.0, n))).min();
        let event = self.queue.first_key_value().map(|((at, _), _)| *at);
        match (timer, event) {
            (Some((at, n)), event) if at <= until && event.is_none_or(|event| at <= event) => {
                self.now = self.now.max(at);
                self.call(n, |room, now, context, out| room.handle_timeout(now, context, out));
            }
            (_, Some(at)) if at <= until => {
                self.now = self.now.max(at);
                let (_, event) = self.queue.pop_first().expect("it was seen");
                self.handle_event(event);
            }
            _ => return false,
        }
        true
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Message { from, to, message } if self.nodes[to].alive => {
                self.delivered += 1;
                self.call(to, |room, now, context, out| {
                    room.handle_message(now, id(from), *message, context, out)
                });
            }
            Event::Stored { node, award } if self.nodes[node].alive => {
                self.nodes[node].context.writing.remove(&award.replica);
                self.call(node, |room, now, context, out| {
                    room.claimed(now, std::slice::from_ref(&award), context, out)
                });
            }
            Event::Message { .. } | Event::Stored { .. } => {}
        }
    }

    pub(super) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
        self.now = until;
    }

    /// Runs until `count` messages were delivered in all, or nothing is left to do.
    pub(super) fn run_until_delivered(&mut self, count: usize) {
        let until = self.now + Duration::from_secs(60);
        while self.delivered < count && self.step(until) {}
    }

    /// Stops node `n`; the others do not know it yet.
    pub(super) fn kill(&mut self, n: usize) {
        self.nodes[n].alive = false;
    }

    pub(super) fn tell_down(&mut self, n: usize) {
        for other in (0..self.nodes.len()).filter(|other| *other != n) {
            if self.nodes[other].alive {
                self.call(other, |room, now, context, out| {
                    room.node_down(now, &id(n), context, out)
                });
            }
        }
    }

    /// Fills a node so that `left` replicas still fit.
    pub(super) fn fill(&mut self, n: usize, left: u64) {
        let used = Resources { memory: NODE.memory - left * SMALL.memory, cpu: 0 };
        let other = ReplicaId { uid: Digest([77; 32]), place: Place::Ordinal(0) };
        self.nodes[n].context.committed.insert(other, used);
    }

    /// Node `n` claims a replica of `UID`, on disk; no other node knows it.
    pub(super) fn hold(&mut self, n: usize, index: u32) {
        let context = &mut self.nodes[n].context;
        context.committed.insert(replica(UID, index), SMALL);
        let token = Token { counter: 1, by: id(n), incarnation: 1 };
        context.claims.insert(replica(UID, index), token);
    }

    /// The nodes that are alive and claim a replica of `UID`.
    pub(super) fn holders(&self, index: u32) -> Vec<usize> {
        let replica = replica(UID, index);
        (0..self.nodes.len())
            .filter(|n| {
                self.nodes[*n].alive && self.nodes[*n].context.claims.contains_key(&replica)
            })
            .collect()
    }

    pub(super) fn assert_nothing_reserved(&self) {
        for (n, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.alive) {
            assert_eq!(node.room.reserved().size, Resources::default(), "node {n}");
        }
    }

    pub(super) fn count(&self, n: usize, is: impl Fn(&Fact) -> bool) -> usize {
        self.nodes[n].facts.iter().filter(|fact| is(fact)).count()
    }

    pub(super) fn auction(&self, owner: usize, number: u64) -> AuctionId {
        AuctionId { owner: id(owner), number: (1 << 32) + number }
    }
}

pub(super) fn is_settled(fact: &Fact) -> bool {
    matches!(fact, Fact::Settled { .. })
}

pub(super) fn is_reopen(fact: &Fact) -> bool {
    matches!(fact, Fact::Reopen { .. })
}

pub(super) fn is_misbehaved(fact: &Fact) -> bool {
    matches!(fact, Fact::Misbehaved { .. })
}
