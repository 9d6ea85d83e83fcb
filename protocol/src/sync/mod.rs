//! Anti-entropy: finds what two nodes hold otherwise, and lets both fetch what they lack. Gossip
//! makes it fast, this makes it true: nothing may depend on a gossip message arriving.
//!
//! ```text
//!   asker                                   answerer
//!     |-- Roots (8 prints) ------------------->|   equal: Agree, and both are in step
//!     |<------------- Nodes: tops that differ -|
//!     |-- Ask: ranges that differ ------------>|   down to leaves, in three or four trips
//!     |<------------------------------- Nodes -|
//!     |-- Outcome, Offer: what you lack ------>|
//!     |-- Fetch ---->  <---- Items  (either way, each at its own pace)
//! ```
//!
//! The asker does the comparing, the answerer keeps no state of it. Whoever is done fetching
//! compares again, so a link ends in step. Prints are eight bytes, salted for the link.
//!
//! **What changed in the last moments is no difference, what lasts is always one.** An entry that
//! changed less than [`Config::rest_after`] ago is on its way by gossip and is passed over, unless
//! it has not come to rest for [`Config::rest_at_last`]. Two trees agree when either their roots as
//! they are or their roots at rest are equal: one change under way then never looks like a
//! difference.
//!
//! Modules import one way: `short_hash` <- `message` <- `index`, `state` (plain types) <- `peer` <-
//! `compare` (the asker's side), `intake` (fetching), `serve` (the answerer's side). The last three
//! are parts of [`Repair`] and share its methods, none of one another's types.
//!
//! The room holds hashes only. Payloads come from a [`Source`], and go to the node as
//! [`Fact::Received`], unjudged.

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

use crate::model::{Digest, NodeId, Out, Time, filling};

use compare::MAX_WALKS;
use index::{Index, Rest, View};
use peer::Peer;
use rate_limit::RateLimit;
use serve::Job;

pub use message::{Asked, Leaf, Message, Node, Root, Round, Tree};
pub use short_hash::{Prefix, ShortHash};

/// Bytes of one payload, at most: a larger one fits no message and never travels.
pub const MAX_PAYLOAD: usize = 60 * 1024;
/// No deadline is set closer than this, whatever the configuration says.
const MIN_DELAY: Duration = Duration::from_millis(10);

/// How eagerly nodes compare. Every field has a sane default; durations below 10 ms count as 10 ms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// An entry without a change for so long is at rest. 2 s: gossip has arrived by then or was
    /// lost.
    pub rest_after: Duration,
    /// An entry that never rests is compared as it is after so long. 10 s.
    pub rest_at_last: Duration,
    /// Between two comparisons with a random neighbour, on average, a quarter more or less. 5 s:
    /// with one change lost it takes about this long until it is found.
    pub compare_after: Duration,
    /// Until a comparison that failed or found differences is tried again; doubles up to
    /// `compare_after`. 1 s.
    pub retry_after: Duration,
    /// How long a peer may take to answer, at most; usually its round trips tell. 3 s: artifacts
    /// may be ahead on the same lane.
    pub answer_after: Duration,
    /// How long one comparison, or taking in what it found, may last before other peers get their
    /// turn. 30 s.
    pub limit_after: Duration,
    /// Bytes sent a second on average, all peers together. 2 MiB.
    pub bytes_per_second: u64,
    /// Bytes sent at once after a quiet time. 512 KiB.
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

/// What the node must know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fact {
    /// Something that this node lacks or has otherwise: to be decoded, verified, applied, and then
    /// noted.
    Received {
        /// Who gave it, who need not have written it.
        from: NodeId,
        /// Of which tree.
        tree: Tree,
        /// As the peer's [`Source::load`] gave it.
        payload: Vec<u8>,
    },
    /// All trees agree with this peer's.
    InStep {
        /// The peer.
        peer: NodeId,
    },
    /// They agreed, and now something at rest differs. It is being mended.
    OutOfStep {
        /// The peer.
        peer: NodeId,
    },
}

/// Why a deadline is set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reason {
    /// A peer is to be compared with.
    Compare,
    /// A peer owes an answer, or has had its time.
    Answer,
    /// Answers wait for the rate limit.
    RateLimit,
    /// Something was fetched and applied: what of it does the peer lack now?
    Review,
}

/// Where payloads come from.
pub trait Source {
    /// The encoded entries under `key`, each at most [`MAX_PAYLOAD`] bytes; none when it is not
    /// known (any more).
    fn load(&self, tree: Tree, key: &Digest) -> Vec<Vec<u8>>;
}

/// The room. (`Sync` is Rust's own word.)
#[derive(Clone, Debug)]
pub struct Repair {
    config: Config,
    me: NodeId,
    rng: ChaCha8Rng,
    /// By tree, in the order of [`Tree::ALL`].
    indexes: [Index; 4],
    /// By linked peer: bounded by the links a node holds.
    peers: BTreeMap<NodeId, Peer>,
    /// What is queued or under way from any peer, so that it is fetched once. Bounded by the peers'
    /// queues.
    wanted: BTreeSet<(Tree, ShortHash)>,
    /// What the node was just given: what it notes now is no news, however new it is here. Lives
    /// until the next input.
    delivered: BTreeSet<(Tree, ShortHash)>,
    /// Answers that wait for their turn: at most two a peer.
    serving: VecDeque<(NodeId, Job)>,
    rate_limit: RateLimit,
    random_at: Time,
    requests: u32,
}

impl Repair {
    /// Knows of no entry and no peer yet.
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

    /// The same entries, as another node has them that has no peers yet.
    pub fn simulator_clone(&self, config: Config, me: NodeId, seed: [u8; 32]) -> Self {
        Repair { indexes: self.indexes.clone(), ..Repair::new(config, me, seed) }
    }

    /// Whatever was noted counts as old.
    pub fn settle_all(&mut self) {
        self.indexes.iter_mut().for_each(Index::settle_all);
    }

    /// The entry under `key` has this hash now. To be called after every change, whether it came by
    /// gossip, from a user, or as [`Fact::Received`] (then at once).
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

    /// The same for what was found on disk at start: it is old, however late this node learns of
    /// it.
    pub fn restore(&mut self, tree: Tree, key: Digest, hash: Digest) {
        self.index(tree).set_settled(key, hash);
    }

    /// [`Repair::restore`] of many.
    pub fn restore_all(&mut self, tree: Tree, entries: impl Iterator<Item = (Digest, Digest)>) {
        let mut entries: Vec<(Digest, Digest)> = entries.collect();
        entries.sort_unstable();
        filling(entries).for_each(|(key, hash)| self.restore(tree, key, hash));
    }

    /// There is no entry under `key` any more.
    pub fn forget(&mut self, now: Time, tree: Tree, key: &Digest) {
        self.index(tree).set(now, *key, None);
    }

    /// A link came up. One end compares at once, the other when that came to nothing.
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

    /// This node was a stranger to its peers until now: what they have is compared anew, at once.
    pub fn compare_anew(&mut self, now: Time, out: &mut Out<Message>) {
        self.begin(now);
        for peer in self.peers.values_mut() {
            (peer.is_new, peer.in_step, peer.walk, peer.compare_at) =
                (true, false, None, Some(now));
        }
        self.start_due(now, out);
    }

    /// This node stood still. What is unread was asked before, and agrees with what was true then.
    pub fn on_stall(&mut self, now: Time, out: &mut Out<Message>) {
        self.peers.values_mut().for_each(|peer| peer.only_own_walks_count = true);
        self.compare_anew(now, out);
    }

    /// A link is gone.
    pub fn handle_link_down(&mut self, now: Time, peer: &NodeId) {
        self.begin(now);
        self.drop_peer(peer);
    }

    /// A peer spoke. What does not fit what was asked is passed over.
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

    /// Looks at what is due; calling it early or twice does no harm.
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

    /// What every input starts with.
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

    /// A quarter more or less, so that nodes that started together do not go on together.
    fn jitter(&mut self, after: Duration) -> Duration {
        after * 3 / 4 + after / 2 * (self.rng.next_u32() >> 16) / (1 << 16)
    }
}
