//! Anti-entropy: finds entries of which two nodes hold different versions, and lets both fetch what
//! they lack. Gossip makes it fast, this makes it true: nothing may depend on a gossip message
//! arriving.
//!
//! ```text
//!   asker                                   answerer
//!     |-- Roots (8 short hashes) ------------->|   equal: Agree, and both are in step
//!     |<------------- Nodes: tops that differ -|
//!     |-- Ask: ranges that differ ------------>|   down to leaves, in three or four trips
//!     |<------------------------------- Nodes -|
//!     |-- Outcome, Offer: what you lack ------>|
//!     |-- Fetch ---->  <---- Items  (either way, each at its own rate)
//! ```
//!
//! The asker compares; the answerer keeps no state of it. After fetching, a node compares again, so
//! a link ends in step. Short hashes are eight bytes, salted for the link.
//!
//! **A recent change is no difference, one that lasts always is.** An entry that changed less than
//! [`Config::rest_after`] ago is on its way by gossip and is passed over, unless it has not come to
//! rest for [`Config::rest_at_last`]. Two trees agree when either their roots as they are or their
//! roots at rest are equal, so that a single change under way never looks like a difference.
//!
//! Modules import one way: `short_hash` <- `message` <- `index`, `state` (plain types) <- `peer` <-
//! `compare` (the asker's side), `intake` (fetching), `serve` (the answerer's side). The last three
//! are parts of [`Repair`] and share its methods, none of one another's types.
//!
//! This module holds hashes only. Payloads come from a [`Source`] and go to the node as
//! [`Fact::Received`], not yet verified.

mod compare;
mod index;
mod intake;
mod message;
mod peer;
mod queues;
mod rate_limit;
mod serve;
mod short_hash;
mod state;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::model::{Digest, NodeId, Out, Time, fill_order};

use compare::MAX_WALKS;
use index::{Index, Rest, View};
use peer::Peer;
use rate_limit::RateLimit;
use serve::Job;

pub use message::{Asked, Leaf, Message, Node, Root, Round, Tree};
pub use short_hash::{Prefix, ShortHash};

/// Most bytes of a payload: a larger one fits no message and is never sent.
pub const MAX_PAYLOAD: usize = 60 * 1024;
/// The shortest delay of a deadline, whatever the configuration says.
const MIN_DELAY: Duration = Duration::from_millis(10);

/// When nodes compare and how much they send. Durations below 10 ms count as 10 ms, except the two
/// `rest_` fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// An entry that has not changed for so long is at rest. 2 s: gossip has arrived by then or was
    /// lost.
    pub rest_after: Duration,
    /// An entry that keeps changing is compared as it is after so long. 10 s.
    pub rest_at_last: Duration,
    /// Between two comparisons with random neighbours, on average; each pause is up to a quarter
    /// more or less. 5 s: a lost change is found after about this long.
    pub compare_after: Duration,
    /// Pause after a comparison that failed or found differences; it doubles up to `compare_after`.
    /// 1 s.
    pub retry_after: Duration,
    /// The longest wait for an answer, 3 s, because artifacts may be ahead in the same lane.
    /// Usually four times the peer's usual answer time decides.
    pub answer_after: Duration,
    /// The longest time for one comparison, or for fetching what it found, before other peers get
    /// their turn. 30 s.
    pub limit_after: Duration,
    /// Bytes sent a second on average, to all peers together. 2 MiB.
    pub bytes_per_second: u64,
    /// Most bytes sent at once after a quiet time. 512 KiB.
    pub burst: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            rest_after: Duration::from_secs(2),
            rest_at_last: Duration::from_secs(10),
            compare_after: Duration::from_secs(5),
            retry_after: Duration::from_secs(1),
            answer_after: Duration::from_secs(3),
            limit_after: Duration::from_secs(30),
            bytes_per_second: 2 * 1024 * 1024,
            burst: 512 * 1024,
        }
    }
}

/// An event for the node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fact {
    /// An entry that this node lacks or has in another version. The node decodes, verifies and
    /// applies it, and then notes it.
    Received {
        /// The peer that sent it, which need not have written it.
        from: NodeId,
        /// The tree that it belongs to.
        tree: Tree,
        /// The payload as the peer's [`Source::load`] returned it.
        payload: Vec<u8>,
    },
    /// All trees agree with those of this peer.
    InStep {
        /// The peer.
        peer: NodeId,
    },
    /// The trees agreed, and now an entry at rest differs. It is being fetched or offered.
    OutOfStep {
        /// The peer.
        peer: NodeId,
    },
}

/// The reason for a deadline.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reason {
    /// A comparison with a peer is due.
    Compare,
    /// A question or fetch is to be repeated or given up.
    Answer,
    /// Answers wait for the rate limit.
    RateLimit,
    /// Fetched entries were applied: those that the peer lacks now are to be offered.
    Review,
}

/// The source of payloads.
pub trait Source {
    /// The encoded entries under `key`, each at most [`MAX_PAYLOAD`] bytes; none if there is no
    /// entry (any more).
    fn load(&self, tree: Tree, key: &Digest) -> Vec<Vec<u8>>;
}

/// Anti-entropy of one node. (The name `Sync` is Rust's.)
#[derive(Clone, Debug)]
pub struct Repair {
    config: Config,
    me: NodeId,
    rng: ChaCha8Rng,
    /// By tree, in the order of [`Tree::ALL`].
    indexes: [Index; 4],
    /// By linked peer; bounded by the links that a node holds.
    peers: BTreeMap<NodeId, Peer>,
    /// Entries queued or being fetched from any peer, so that each is fetched once. Bounded by the
    /// peers' queues.
    wanted: BTreeSet<(Tree, ShortHash)>,
    /// Entries that the node was just given. When it notes them they count as at rest, although
    /// they are new here. Cleared by the next input.
    delivered: BTreeSet<(Tree, ShortHash)>,
    /// Answers that wait for the rate limit; at most two a peer.
    serving: VecDeque<(NodeId, Job)>,
    rate_limit: RateLimit,
    random_at: Time,
    requests: u32,
}

impl Repair {
    /// Without entries and peers.
    pub fn new(config: Config, me: NodeId, seed: [u8; 32]) -> Self {
        let clamp = |after: Duration| after.max(MIN_DELAY);
        let config = Config {
            compare_after: clamp(config.compare_after),
            retry_after: clamp(config.retry_after),
            answer_after: clamp(config.answer_after),
            limit_after: clamp(config.limit_after),
            ..config
        };
        let index = Index::new(Rest { after: config.rest_after, at_last: config.rest_at_last });
        Repair {
            rate_limit: RateLimit::new(config.bytes_per_second, config.burst),
            me,
            rng: ChaCha8Rng::from_seed(seed),
            indexes: [index.clone(), index.clone(), index.clone(), index],
            peers: BTreeMap::new(),
            wanted: BTreeSet::new(),
            delivered: BTreeSet::new(),
            serving: VecDeque::new(),
            random_at: Time::ZERO,
            requests: 0,
            config,
        }
    }

    /// A copy with the same entries and without peers, for another simulated node.
    pub fn simulator_clone(&self, config: Config, me: NodeId, seed: [u8; 32]) -> Self {
        Repair { indexes: self.indexes.clone(), ..Repair::new(config, me, seed) }
    }

    /// Brings all entries to rest. For simulations: the template of other nodes has known them for
    /// long.
    pub fn settle_all(&mut self) {
        self.indexes.iter_mut().for_each(Index::settle_all);
    }

    /// The entry under `key` has this hash now. To be called after every change, whether it came by
    /// gossip or from a user; for [`Fact::Received`] before the next input, else the entry counts
    /// as fresh.
    pub fn note(&mut self, now: Time, tree: Tree, key: Digest, hash: Digest) {
        if self.delivered.contains(&(tree, ShortHash::head(&key))) {
            self.index(tree).set_settled(key, hash);
        } else {
            self.index(tree).set(now, key, Some(hash));
        }
    }

    /// Whether there is an entry under `key`.
    pub fn knows(&self, tree: Tree, key: &Digest) -> bool {
        self.indexes[tree as usize].knows(key)
    }

    /// [`Repair::note`] for an entry found on disk at start, which counts as at rest.
    pub fn restore(&mut self, tree: Tree, key: Digest, hash: Digest) {
        self.index(tree).set_settled(key, hash);
    }

    /// [`Repair::restore`] of many.
    pub fn restore_all(&mut self, tree: Tree, entries: impl Iterator<Item = (Digest, Digest)>) {
        let mut entries: Vec<(Digest, Digest)> = entries.collect();
        entries.sort_unstable();
        fill_order(entries).for_each(|(key, hash)| self.restore(tree, key, hash));
    }

    /// The entry under `key` is gone.
    pub fn forget(&mut self, now: Time, tree: Tree, key: &Digest) {
        self.index(tree).set(now, *key, None);
    }

    /// A link came up. The lower id compares at once, the other end after `retry_after`, unless the
    /// first comparison has put it in step by then.
    pub fn handle_link_up(&mut self, now: Time, peer: NodeId, out: &mut Out<Message>) -> Vec<Fact> {
        self.begin(now);
        self.drop_peer(&peer);
        if self.peers.is_empty() {
            self.random_at = now + self.jitter(self.config.compare_after);
        }
        let due = if self.me < peer { now } else { now + self.jitter(self.config.retry_after) };
        let salt = self.rng.next_u64();
        self.peers.insert(peer, Peer::new(salt, due, self.config.answer_after / 16));
        self.start_due(now, out);
        Vec::new()
    }

    /// This node was not a member until now: compares anew with every peer, at once.
    pub fn compare_anew(&mut self, now: Time, out: &mut Out<Message>) {
        self.begin(now);
        for peer in self.peers.values_mut() {
            (peer.is_new, peer.in_step, peer.walk, peer.compare_at) =
                (true, false, None, Some(now));
        }
        self.start_due(now, out);
    }

    /// This node stalled. Unread questions were asked before the stall, and agreeing with them
    /// proves only what was true then.
    pub fn on_stall(&mut self, now: Time, out: &mut Out<Message>) {
        self.peers.values_mut().for_each(|peer| peer.only_own_walks_count = true);
        self.compare_anew(now, out);
    }

    /// A link was lost.
    pub fn handle_link_down(&mut self, now: Time, peer: &NodeId) {
        self.begin(now);
        self.drop_peer(peer);
    }

    /// A peer sent a message. Answers that fit no open question are ignored.
    pub fn handle_message(
        &mut self,
        now: Time,
        from: NodeId,
        message: Message,
        source: &dyn Source,
        out: &mut Out<Message>,
    ) -> Vec<Fact> {
        self.begin(now);
        let mut facts = Vec::new();
        if !self.peers.contains_key(&from) {
            return facts;
        }
        match message {
            Message::Roots { round, roots } => {
                self.on_roots(now, from, round, &roots, out, &mut facts)
            }
            Message::Agree { round } => self.on_agree(now, from, round, &mut facts),
            Message::Later { round } => self.on_later(now, from, round),
            Message::Ask { round, step, asked } => self.on_ask(from, round, step, asked),
            Message::Nodes { round, step, nodes } => {
                self.on_nodes(now, from, round, step, &nodes, out, &mut facts)
            }
            Message::Outcome { round, agreed } => {
                self.on_outcome(now, from, round, agreed, &mut facts)
            }
            Message::Offer { round, tree, leaves } => {
                self.on_offer(now, from, round, tree, &leaves, out)
            }
            Message::Fetch { request, tree, heads, skip } => {
                self.on_fetch(from, request, tree, heads, skip)
            }
            Message::Items { request, items, answered, skip } => {
                self.on_items(now, from, request, items, (answered, skip), out, &mut facts);
            }
        }
        self.serve(now, source, out);
        self.start_due(now, out);
        facts
    }

    /// Handles what is due; calling it early or twice does no harm.
    pub fn handle_timeout(
        &mut self,
        now: Time,
        source: &dyn Source,
        out: &mut Out<Message>,
    ) -> Vec<Fact> {
        self.begin(now);
        self.expire(now, out);
        self.review(now, out);
        self.serve(now, source, out);
        self.pick_neighbour(now);
        self.start_due(now, out);
        Vec::new()
    }

    /// The next deadline.
    pub fn poll_timeout(&self) -> Option<(Time, Reason)> {
        let walks = self.peers.values().filter(|peer| peer.walk.is_some()).count();
        let per_peer = self.peers.values().flat_map(|peer| {
            let answer = peer.walk.as_ref().map(|walk| walk.deadline());
            let items = peer.intake.deadline();
            let due = peer.due().filter(|_| walks < MAX_WALKS);
            [
                answer.zip(Some(Reason::Answer)),
                items.zip(Some(Reason::Answer)),
                due.zip(Some(Reason::Compare)),
                peer.intake.review_at.zip(Some(Reason::Review)),
            ]
        });
        let rate_limit =
            (!self.serving.is_empty()).then(|| (self.rate_limit.ready_at(), Reason::RateLimit));
        let random = (!self.peers.is_empty()).then_some((self.random_at, Reason::Compare));
        per_peer.chain([rate_limit, random]).flatten().min()
    }

    /// Whether the last comparison with this linked peer found no difference.
    pub fn in_step(&self, peer: &NodeId) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.in_step)
    }

    /// The roots of all trees as they are now: equal at two nodes that hold the same.
    pub fn roots(&self) -> [(Tree, Digest); 4] {
        Tree::ALL.map(|tree| (tree, self.indexes[tree as usize].root(View::Now)))
    }

    /// To be called first for every input.
    fn begin(&mut self, now: Time) {
        self.delivered.clear();
        for index in &mut self.indexes {
            index.settle(now);
        }
    }

    fn index(&mut self, tree: Tree) -> &mut Index {
        &mut self.indexes[tree as usize]
    }

    fn drop_peer(&mut self, peer: &NodeId) {
        if let Some(mut gone) = self.peers.remove(peer) {
            for want in gone.intake.abandon() {
                self.wanted.remove(&want);
            }
        }
        self.serving.retain(|(to, _)| to != peer);
    }

    fn expire(&mut self, now: Time, out: &mut Out<Message>) {
        self.expire_walks(now, out);
        self.expire_intakes(now, out);
    }

    /// Varies `after` by up to a quarter, so that nodes that started together drift apart.
    fn jitter(&mut self, after: Duration) -> Duration {
        after * 3 / 4 + after / 2 * (self.rng.next_u32() >> 16) / (1 << 16)
    }
}
