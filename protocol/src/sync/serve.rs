//! The answerer's side. It keeps no state of a comparison but the answers that wait for the rate
//! limit.

use crate::model::{NodeId, Out, Time, codec};

use super::message::{Asked, LEAF_BYTES, Message, Node, Root, Round, Tree};
use super::short_hash::{Prefix, ShortHash};
use super::state::{MAX_ASKED, MAX_HEADS};
use super::{Fact, MAX_PAYLOAD, Repair, Source};

/// Bytes of the parts of one message; with its frame it stays below 64 KiB.
const MAX_PARTS: usize = 62 * 1024;
/// Trees in one `Roots` message: later programs may have more than this one.
const MAX_ROOTS: usize = 16;

/// An answer that waits. At most one of each kind a peer: a peer has one question and one fetch
/// under way.
#[derive(Clone, Debug)]
pub(super) enum Job {
    Nodes { round: Round, step: u32, asked: Vec<Asked> },
    Items { request: u32, tree: Tree, heads: Vec<ShortHash>, skip: u16 },
}

impl Repair {
    pub(super) fn on_roots(
        &mut self,
        now: Time,
        from: NodeId,
        round: Round,
        roots: &[Root],
        out: &mut Out<Message>,
        facts: &mut Vec<Fact>,
    ) {
        if !(Tree::ALL.len()..=MAX_ROOTS).contains(&roots.len()) {
            return;
        }
        let own = self.salted_roots(round.salt, false);
        let pairs = Tree::ALL.iter().zip(own.iter().zip(roots));
        let differing = pairs
            .filter(|(_, (own, theirs))| own.settled != theirs.settled && own.now != theirs.now);
        let asked: Vec<Asked> = differing
            .map(|(tree, _)| Asked { tree: *tree, prefix: Prefix::ALL, whole: false })
            .collect();
        if asked.is_empty() {
            out.send_bulk(from, Message::Agree { round });
            let same = own.iter().zip(roots).all(|(own, theirs)| own.now == theirs.now);
            return self.agreed_with(now, from, same, facts);
        }
        let taking_in = self.peers.values().any(|peer| peer.intake.is_busy());
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        // If both ask at once, the lower id's question stands.
        if taking_in || peer.walk.is_some() && self.me < from {
            out.send_bulk(from, Message::Later { round });
            return;
        }
        if peer.walk.take().is_some() {
            peer.compare_at = None;
        }
        peer.answering = Some(round);
        self.queue_answer(from, Job::Nodes { round, step: 0, asked });
    }

    pub(super) fn on_ask(&mut self, from: NodeId, round: Round, step: u32, asked: Vec<Asked>) {
        if asked.len() <= MAX_ASKED && asked.iter().all(|asked| asked.prefix.is_valid()) {
            self.queue_answer(from, Job::Nodes { round, step, asked });
        }
    }

    pub(super) fn on_fetch(
        &mut self,
        from: NodeId,
        request: u32,
        tree: Tree,
        heads: Vec<ShortHash>,
        skip: u16,
    ) {
        if (1..=MAX_HEADS).contains(&heads.len()) {
            self.queue_answer(from, Job::Items { request, tree, heads, skip });
        }
    }

    /// The asker has seen all that differs.
    pub(super) fn on_outcome(
        &mut self,
        now: Time,
        from: NodeId,
        round: Round,
        agreed: bool,
        facts: &mut Vec<Fact>,
    ) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        if peer.answering.take_if(|answering| *answering == round).is_none() {
            return;
        }
        if agreed {
            return self.agreed_with(now, from, false, facts);
        }
        if std::mem::take(&mut peer.in_step) {
            facts.push(Fact::OutOfStep { peer: from });
        }
        // The peer compares again once it has what it lacked; if it does not, this node does.
        if peer.compare_at.is_none() && peer.walk.is_none() {
            self.retry(now, from);
        }
    }

    /// The asker found no difference at rest. `same` tells that the roots over fresh entries agree
    /// as well; without that, a node that has not compared itself over this link yet must do so.
    fn agreed_with(&mut self, now: Time, from: NodeId, same: bool, facts: &mut Vec<Fact>) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        peer.is_new &= !same || peer.only_own_walks_count;
        if !peer.is_new {
            return self.set_in_step(from, facts);
        }
        if peer.walk.is_none() {
            peer.compare_at = Some(now);
        }
    }

    fn queue_answer(&mut self, to: NodeId, job: Job) {
        let kind = std::mem::discriminant(&job);
        self.serving.retain(|(peer, owed)| *peer != to || std::mem::discriminant(owed) != kind);
        self.serving.push_back((to, job));
    }

    /// Sends the answers that the rate limit allows.
    pub(super) fn serve(&mut self, now: Time, source: &dyn Source, out: &mut Out<Message>) {
        while !self.serving.is_empty() && self.rate_limit.is_ready(now) {
            let Some((to, job)) = self.serving.pop_front() else {
                return;
            };
            let message = match job {
                Job::Nodes { round, step, asked } => self.nodes(now, round, step, &asked),
                Job::Items { request, tree, heads, skip } => {
                    self.items(source, request, tree, &heads, skip)
                }
            };
            self.rate_limit.take(codec::encode(&message).len());
            out.send_bulk(to, message);
        }
    }

    fn nodes(&self, now: Time, round: Round, step: u32, asked: &[Asked]) -> Message {
        let (mut nodes, mut bytes) = (Vec::new(), 0);
        for asked in asked {
            let node =
                self.indexes[asked.tree as usize].node(now, asked.prefix, asked.whole, round.salt);
            bytes += 16
                + match &node {
                    Node::Split(hashes) => hashes.len() * size_of::<ShortHash>(),
                    Node::Leaves(leaves) => leaves.len() * LEAF_BYTES,
                };
            if bytes > MAX_PARTS && !nodes.is_empty() {
                break;
            }
            nodes.push((*asked, node));
        }
        Message::Nodes { round, step, nodes }
    }

    fn items(
        &self,
        source: &dyn Source,
        request: u32,
        tree: Tree,
        heads: &[ShortHash],
        skip: u16,
    ) -> Message {
        let (mut items, mut bytes) = (Vec::new(), 0);
        let mut skip = usize::from(skip);
        let index = &self.indexes[tree as usize];
        for (answered, head) in heads.iter().enumerate() {
            let payloads: Vec<Vec<u8>> =
                index.keys(*head).flat_map(|key| source.load(tree, key)).collect();
            for (number, payload) in payloads.into_iter().enumerate().skip(skip) {
                if payload.len() > MAX_PAYLOAD {
                    continue;
                }
                bytes += payload.len() + 5;
                if bytes > MAX_PARTS {
                    return Message::Items {
                        request,
                        items,
                        answered: to_u16(answered),
                        skip: to_u16(number),
                    };
                }
                items.push(payload);
            }
            skip = 0;
        }
        Message::Items { request, items, answered: to_u16(heads.len()), skip: 0 }
    }
}

/// Heads and siblings are few; a greater count is sent as the greatest possible one.
fn to_u16(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}
