//! The asker's side: walks down the peer's trees where they differ from its own.

use std::collections::BTreeMap;

use rand_chacha::rand_core::RngCore;

use crate::model::{NodeId, Out, Time};

use super::index::{Index, View};
use super::message::{Asked, Leaf, Message, Node, Root, Round, Tree};
use super::peer::Decision;
use super::short_hash::{Prefix, ShortHash};
use super::state::{Difference, MAX_ASKED, MAX_TRIES, Walk};
use super::{Fact, Repair};

/// Comparisons at a time. Without this bound all neighbours would send the same to a new node.
pub(super) const MAX_WALKS: usize = 4;
/// Ranges still to be asked for: a few thousand are the buckets of a large tree that differs
/// throughout. The next comparison finds the rest.
const MAX_TODO: usize = 8192;
/// Entries offered in one comparison. A peer that lacks more compares as soon as it has these, and
/// asks for the rest itself.
const MAX_OFFERS: usize = 1024;
/// Neighbours to compare with after something was fetched: an epidemic spreads with two.
const PASS_ON_PEERS: usize = 2;
/// The answer does not fit the question.
struct BadAnswer;

impl Repair {
    /// Opens comparisons that are due, as many as [`MAX_WALKS`] allows.
    pub(super) fn start_due(&mut self, now: Time, out: &mut Out<Message>) {
        let walking = self.peers.values().filter(|peer| peer.walk.is_some()).count();
        let due = self.peers.iter().filter_map(|(id, peer)| Some((peer.due()?, *id)));
        let mut due: Vec<(Time, NodeId)> = due.filter(|(at, _)| *at <= now).collect();
        due.sort();
        for (_, peer) in due.into_iter().take(MAX_WALKS.saturating_sub(walking)) {
            self.open(now, peer, out);
        }
    }

    fn open(&mut self, now: Time, id: NodeId, out: &mut Out<Message>) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.rounds = peer.rounds.wrapping_add(1);
        peer.compare_at = None;
        let round = peer.round();
        let walk = Walk {
            round,
            step: 0,
            asked: Tree::ALL.map(|tree| Asked { tree, prefix: Prefix::ALL, whole: false }).to_vec(),
            todo: Vec::new(),
            tries: 0,
            asked_at: now,
            answer_by: peer.answer_by(now, 0, self.config.answer_after),
            end_by: now + self.config.limit_after,
            differs: false,
            is_first: peer.is_new,
            cut: false,
            offers: BTreeMap::new(),
        };
        self.ask(now, id, walk, out);
    }

    /// This node's roots for a round.
    ///
    /// In a first comparison only `now` may agree: no settled root equals the one of nothing at
    /// all.
    pub(super) fn salted_roots(&mut self, salt: u64, is_first: bool) -> Vec<Root> {
        let root = |index: &mut Index| {
            index.warm();
            let short_hash = |view| ShortHash::of(salt, &[index.root(view).as_bytes()]);
            let settled = if is_first { ShortHash::NONE } else { short_hash(View::Settled) };
            Root { settled, now: short_hash(View::Now) }
        };
        self.indexes.iter_mut().map(root).collect()
    }

    pub(super) fn on_agree(
        &mut self,
        now: Time,
        from: NodeId,
        round: Round,
        facts: &mut Vec<Fact>,
    ) {
        if let Some(walk) = self.take_walk(from, round).filter(|walk| walk.step == 0) {
            self.on_answer(now, from, &walk);
            self.on_walk_ended(&from, &walk);
            self.set_in_step(from, facts);
        }
    }

    pub(super) fn on_later(&mut self, now: Time, from: NodeId, round: Round) {
        if let Some(walk) = self.take_walk(from, round) {
            self.on_answer(now, from, &walk);
            self.retry(now, from);
        }
    }

    fn on_answer(&mut self, now: Time, from: NodeId, walk: &Walk) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.on_answer(now, walk.asked_at, walk.tries);
        }
    }

    #[allow(clippy::too_many_arguments)] // one message, taken apart
    pub(super) fn on_nodes(
        &mut self,
        now: Time,
        from: NodeId,
        round: Round,
        step: u32,
        nodes: &[(Asked, Node)],
        out: &mut Out<Message>,
        facts: &mut Vec<Fact>,
    ) {
        let Some(mut walk) = self.take_walk(from, round) else {
            return;
        };
        if walk.step != step {
            self.put_walk(from, walk);
            return;
        }
        self.on_answer(now, from, &walk);
        let open = walk.asked.len();
        for (asked, node) in nodes {
            let Some(place) = walk.asked.iter().position(|open| open == asked) else {
                return self.give_up(now, from, walk, out);
            };
            walk.asked.swap_remove(place);
            let index = &self.indexes[asked.tree as usize];
            let Ok((deeper, differences)) = compare(index, now, *asked, node, &walk) else {
                return self.give_up(now, from, walk, out);
            };
            walk.cut |= walk.todo.len() + deeper.len() > MAX_TODO;
            walk.todo.extend(deeper);
            walk.todo.truncate(MAX_TODO);
            for difference in differences {
                self.on_difference(now, from, &mut walk, difference, facts);
            }
        }
        match step {
            // Trees that the peer left out agree.
            0 => walk.asked.clear(),
            _ if walk.asked.len() == open => return self.give_up(now, from, walk, out),
            _ => walk.todo.append(&mut walk.asked),
        }
        self.ask_next(now, from, walk, out, facts);
    }

    fn on_difference(
        &mut self,
        now: Time,
        from: NodeId,
        walk: &mut Walk,
        difference: Difference,
        facts: &mut Vec<Fact>,
    ) {
        let on_its_way = self.wanted.contains(&(difference.tree, difference.head));
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        let decision = if on_its_way { Decision::Mend } else { peer.tried.judge(now, &difference) };
        if decision == Decision::Leave {
            return;
        }
        if decision == Decision::Mend {
            walk.differs = true;
            if std::mem::take(&mut peer.in_step) {
                facts.push(Fact::OutOfStep { peer: from });
            }
        }
        match (difference.theirs, difference.mine) {
            (Some(theirs), mine) => {
                // If both have the entry it is reviewed after the fetch: this node's version may
                // have been the newer one.
                let review = mine.map(|_| theirs);
                self.want(now, from, difference.tree, difference.head, review);
            }
            (None, Some((_, leaf))) => {
                let offered: usize = walk.offers.values().map(Vec::len).sum();
                if offered < MAX_OFFERS {
                    walk.offers.entry(difference.tree).or_default().push(leaf);
                }
            }
            (None, None) => {}
        }
    }

    fn ask_next(
        &mut self,
        now: Time,
        from: NodeId,
        mut walk: Walk,
        out: &mut Out<Message>,
        facts: &mut Vec<Fact>,
    ) {
        if walk.todo.is_empty() {
            return self.finish(now, from, walk, out, facts);
        }
        let rest = walk.todo.len().saturating_sub(MAX_ASKED);
        walk.asked = walk.todo.split_off(rest);
        walk.step = walk.step.wrapping_add(1);
        walk.tries = 0;
        self.ask(now, from, walk, out);
        self.fetch_next(now, from, out);
    }

    /// Sends the walk's question, for the first time or again.
    fn ask(&mut self, now: Time, id: NodeId, mut walk: Walk, out: &mut Out<Message>) {
        let round = walk.round;
        let message = match walk.step {
            0 => Message::Roots { round, roots: self.salted_roots(round.salt, walk.is_first) },
            step => Message::Ask { round, step, asked: walk.asked.clone() },
        };
        if let Some(peer) = self.peers.get_mut(&id) {
            walk.asked_at = now;
            walk.answer_by = peer.answer_by(now, walk.tries, self.config.answer_after);
            peer.walk = Some(walk);
            out.send_bulk(id, message);
        }
    }

    fn finish(
        &mut self,
        now: Time,
        from: NodeId,
        walk: Walk,
        out: &mut Out<Message>,
        facts: &mut Vec<Fact>,
    ) {
        self.on_walk_ended(&from, &walk);
        let agreed = !walk.differs && !walk.cut;
        out.send_bulk(from, Message::Outcome { round: walk.round, agreed });
        self.send_offers(from, walk.round, walk.offers, out);
        if agreed {
            self.set_in_step(from, facts);
        } else {
            self.retry(now, from);
        }
        self.fetch_next(now, from, out);
    }

    fn on_walk_ended(&mut self, peer: &NodeId, walk: &Walk) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.is_new &= !walk.is_first;
            peer.only_own_walks_count &= !walk.is_first;
        }
    }

    /// Ends a walk that failed; differences that it found are mended all the same.
    fn give_up(&mut self, now: Time, from: NodeId, walk: Walk, out: &mut Out<Message>) {
        self.send_offers(from, walk.round, walk.offers, out);
        self.retry(now, from);
        self.fetch_next(now, from, out);
    }

    /// Repeats questions that were not answered in time, and gives up walks whose tries or time are
    /// used up.
    pub(super) fn expire_walks(&mut self, now: Time, out: &mut Out<Message>) {
        let late = |walk: &Walk| walk.deadline() <= now;
        let ids: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.walk.as_ref().is_some_and(late))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            let Some(mut walk) = self.peers.get_mut(&id).and_then(|peer| peer.walk.take()) else {
                continue;
            };
            walk.tries += 1;
            if walk.tries >= MAX_TRIES || walk.end_by <= now {
                self.give_up(now, id, walk, out);
            } else {
                self.ask(now, id, walk, out);
            }
        }
    }

    /// Compares with a random neighbour from time to time: it finds what nobody noticed.
    pub(super) fn pick_neighbour(&mut self, now: Time) {
        if self.peers.is_empty() || now < self.random_at {
            return;
        }
        self.random_at = now + self.jitter(self.config.compare_after);
        self.compare_with_any(now);
    }

    /// Compares with random neighbours after a fetch: they may lack the entries too, and pass them
    /// on in the same way.
    pub(super) fn pass_on(&mut self, now: Time) {
        for _ in 0..PASS_ON_PEERS {
            self.compare_with_any(now);
        }
    }

    fn compare_with_any(&mut self, now: Time) {
        let count = u64::try_from(self.peers.len()).unwrap_or(u64::MAX);
        let chosen = count.saturating_mul(u64::from(self.rng.next_u32())) >> 32;
        let chosen = usize::try_from(chosen).unwrap_or(0);
        if let Some(peer) = self.peers.values_mut().nth(chosen).filter(|peer| peer.walk.is_none()) {
            peer.compare_at = Some(now);
        }
    }

    /// Compares again later, with a pause that doubles while comparisons fail.
    pub(super) fn retry(&mut self, now: Time, id: NodeId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let doubled = self.config.retry_after * (1 << peer.failures.min(8));
        peer.failures = peer.failures.saturating_add(1);
        let after = self.jitter(doubled.min(self.config.compare_after));
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.compare_at = Some(now + after);
        }
    }

    pub(super) fn set_in_step(&mut self, id: NodeId, facts: &mut Vec<Fact>) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.failures = 0;
        peer.compare_at = None;
        if !std::mem::replace(&mut peer.in_step, true) {
            facts.push(Fact::InStep { peer: id });
        }
    }

    fn take_walk(&mut self, from: NodeId, round: Round) -> Option<Walk> {
        let peer = self.peers.get_mut(&from)?;
        if peer.walk.as_ref().is_none_or(|walk| walk.round != round) {
            return None;
        }
        peer.walk.take()
    }

    fn put_walk(&mut self, from: NodeId, walk: Walk) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.walk = Some(walk);
        }
    }
}

/// The ranges to ask for next and the differences found, in one range.
fn compare(
    index: &Index,
    now: Time,
    asked: Asked,
    node: &Node,
    walk: &Walk,
) -> Result<(Vec<Asked>, Vec<Difference>), BadAnswer> {
    let Asked { tree, prefix, .. } = asked;
    let salt = walk.round.salt;
    let (mut deeper, mut differences) = (Vec::new(), Vec::new());
    match node {
        Node::Split(hashes) => {
            if hashes.len() != prefix.children().count() || hashes.is_empty() {
                return Err(BadAnswer);
            }
            for (child, theirs) in prefix.children().zip(hashes) {
                if index.short_hash(child, salt) == *theirs {
                    continue;
                }
                if *theirs == ShortHash::NONE {
                    compare_leaves(index, now, tree, child, &[], walk, &mut differences);
                } else {
                    deeper.push(Asked { tree, prefix: child, whole: index.is_sparse(child) });
                }
            }
        }
        Node::Leaves(leaves) => {
            compare_leaves(index, now, tree, prefix, leaves, walk, &mut differences)
        }
    }
    Ok((deeper, differences))
}

fn compare_leaves(
    index: &Index,
    now: Time,
    tree: Tree,
    prefix: Prefix,
    theirs: &[Leaf],
    walk: &Walk,
    differences: &mut Vec<Difference>,
) {
    let within = theirs.iter().filter(|leaf| prefix.holds(leaf.head));
    let mut theirs: BTreeMap<ShortHash, &Leaf> = within.map(|leaf| (leaf.head, leaf)).collect();
    for (hash, mine) in index.leaves(now, prefix, walk.round.salt) {
        let their = theirs.remove(&mine.head);
        let fresh = !walk.is_first && (mine.fresh || their.is_some_and(|leaf| leaf.fresh));
        let same = their.is_some_and(|leaf| leaf.version == mine.version);
        if let Some(hash) = hash.filter(|_| !fresh && !same) {
            let theirs = their.map(|leaf| leaf.version);
            differences.push(Difference {
                tree,
                head: mine.head,
                theirs,
                mine: Some((hash, mine)),
            });
        }
    }
    for leaf in theirs.into_values().filter(|leaf| walk.is_first || !leaf.fresh) {
        differences.push(Difference {
            tree,
            head: leaf.head,
            theirs: Some(leaf.version),
            mine: None,
        });
    }
}
