//! Fetching: entries wanted of a peer, [`MAX_HEADS`] at a time.

use std::collections::BTreeMap;

use crate::model::{NodeId, Out, Time};

use super::message::{LEAF_BYTES, Leaf, Message, Round, Tree};
use super::short_hash::ShortHash;
use super::state::{Fetching, MAX_HEADS, MAX_TRIES, MAX_WANTED, Want};
use super::{Fact, MAX_PAYLOAD, Repair};

/// Entries in one offer.
const MAX_OFFERED: usize = 1024;
/// Payloads in one answer: far more than fit one message.
const MAX_ITEMS: usize = 4096;

impl Repair {
    /// Queues an entry for fetching from the peer, unless it is queued already, here or for another
    /// peer.
    pub(super) fn want(
        &mut self,
        now: Time,
        from: NodeId,
        tree: Tree,
        head: ShortHash,
        review: Option<ShortHash>,
    ) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        if peer.intake.queue.len() >= MAX_WANTED || !self.wanted.insert((tree, head)) {
            return;
        }
        peer.intake.end_by.get_or_insert(now + self.config.limit_after);
        peer.intake.queue.push_back(Want { tree, head, review });
    }

    /// Fetches the next entries of one tree, unless a fetch is under way.
    pub(super) fn fetch_next(&mut self, now: Time, from: NodeId, out: &mut Out<Message>) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        let queue = &mut peer.intake.queue;
        if peer.intake.fetching.is_some() || queue.is_empty() {
            return;
        }
        let tree = queue[0].tree;
        let same = queue.iter().take(MAX_HEADS).take_while(|want| want.tree == tree).count();
        let wants: Vec<Want> = queue.drain(..same).collect();
        self.fetch(now, from, tree, wants, 0, out);
    }

    fn fetch(
        &mut self,
        now: Time,
        from: NodeId,
        tree: Tree,
        wants: Vec<Want>,
        skip: u16,
        out: &mut Out<Message>,
    ) {
        self.requests = self.requests.wrapping_add(1);
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        let answer_by = peer.answer_by(now, 0, self.config.answer_after);
        let fetching = Fetching {
            request: self.requests,
            tree,
            wants,
            skip,
            tries: 0,
            asked_at: now,
            answer_by,
        };
        out.send_bulk(from, fetching.message());
        peer.intake.fetching = Some(fetching);
    }

    #[allow(clippy::too_many_arguments)] // one message, taken apart
    pub(super) fn on_items(
        &mut self,
        now: Time,
        from: NodeId,
        request: u32,
        items: Vec<Vec<u8>>,
        (answered, skip): (u16, u16),
        out: &mut Out<Message>,
        facts: &mut Vec<Fact>,
    ) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        let Some(fetching) =
            peer.intake.fetching.as_ref().filter(|fetching| fetching.request == request)
        else {
            return;
        };
        let answered = usize::from(answered);
        let goes_on = answered > 0 || skip > fetching.skip;
        if !goes_on || answered > fetching.wants.len() || items.len() > MAX_ITEMS {
            return self.abandon(now, from);
        }
        let Some(mut fetching) = peer.intake.fetching.take() else {
            return;
        };
        peer.on_answer(now, fetching.asked_at, fetching.tries);
        // The exchange makes progress, so further differences are no reason to slow down.
        peer.failures = 0;
        let tree = fetching.tree;
        // The key after the answered ones may have come in part.
        self.delivered
            .extend(fetching.wants.iter().take(answered + 1).map(|want| (tree, want.head)));
        let rest = fetching.wants.split_off(answered);
        for want in &fetching.wants {
            self.wanted.remove(&(tree, want.head));
        }
        peer.intake.reviews.extend(fetching.wants.iter().filter(|want| want.review.is_some()));
        let sound = items.into_iter().filter(|payload| payload.len() <= MAX_PAYLOAD);
        facts.extend(sound.map(|payload| Fact::Received { from, tree, payload }));
        if rest.is_empty() {
            self.fetch_next(now, from, out);
        } else {
            self.fetch(now, from, tree, rest, skip, out);
        }
        if let Some(peer) = self.peers.get_mut(&from).filter(|peer| peer.intake.fetching.is_none())
        {
            peer.intake.end_by = None;
            peer.intake.review_at = Some(now);
        }
    }

    /// The node has applied the fetched entries: offers those that the peer does not have yet, and
    /// compares again to be sure.
    pub(super) fn review(&mut self, now: Time, out: &mut Out<Message>) {
        let ready: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.intake.review_at.is_some())
            .map(|(id, _)| *id)
            .collect();
        for id in ready {
            let Some(peer) = self.peers.get_mut(&id) else {
                continue;
            };
            peer.intake.review_at = None;
            let (round, reviews) = (peer.round(), std::mem::take(&mut peer.intake.reviews));
            // After an offer the peer compares once it has the entries; this node compares later,
            // in case the peer does not.
            peer.compare_at = Some(now);
            let mut offers: BTreeMap<Tree, Vec<Leaf>> = BTreeMap::new();
            for Want { tree, head, review } in reviews {
                let mine = self.indexes[tree as usize].under(now, head, round.salt);
                let lacking =
                    mine.filter(|(hash, leaf)| hash.is_some() && Some(leaf.version) != review);
                offers.entry(tree).or_default().extend(lacking.map(|(_, leaf)| leaf));
            }
            if offers.values().any(|leaves| !leaves.is_empty()) {
                self.retry(now, id);
            }
            self.send_offers(id, round, offers, out);
            self.pass_on(now);
        }
    }

    pub(super) fn send_offers(
        &mut self,
        to: NodeId,
        round: Round,
        offers: BTreeMap<Tree, Vec<Leaf>>,
        out: &mut Out<Message>,
    ) {
        for (tree, leaves) in offers {
            for leaves in leaves.chunks(MAX_OFFERED) {
                self.rate_limit.take(leaves.len() * LEAF_BYTES);
                out.send_bulk(to, Message::Offer { round, tree, leaves: leaves.to_vec() });
            }
        }
    }

    pub(super) fn on_offer(
        &mut self,
        now: Time,
        from: NodeId,
        round: Round,
        tree: Tree,
        leaves: &[Leaf],
        out: &mut Out<Message>,
    ) {
        for leaf in leaves.iter().take(MAX_OFFERED) {
            let mut mine = self.indexes[tree as usize].under(now, leaf.head, round.salt);
            // An entry that was just forgotten here is not fetched back from a peer that has not
            // heard of that yet.
            let settled =
                mine.any(|(hash, own)| own.version == leaf.version || hash.is_none() && own.fresh);
            drop(mine);
            if !settled {
                self.want(now, from, tree, leaf.head, None);
            }
        }
        self.fetch_next(now, from, out);
    }

    /// Repeats fetches that were not answered in time, and gives up on peers that do not answer or
    /// take too long.
    pub(super) fn expire_intakes(&mut self, now: Time, out: &mut Out<Message>) {
        let late = |at: Option<Time>| at.is_some_and(|at| at <= now);
        let ids: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(_, peer)| late(peer.intake.deadline()))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            let Some(peer) = self.peers.get_mut(&id) else {
                continue;
            };
            let over = late(peer.intake.end_by);
            match peer.intake.fetching.take_if(|fetching| !over && fetching.tries + 1 < MAX_TRIES) {
                Some(mut fetching) => {
                    fetching.tries += 1;
                    fetching.answer_by =
                        peer.answer_by(now, fetching.tries, self.config.answer_after);
                    out.send_bulk(id, fetching.message());
                    peer.intake.fetching = Some(fetching);
                }
                None => self.abandon(now, id),
            }
        }
    }

    fn abandon(&mut self, now: Time, id: NodeId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        for want in peer.intake.abandon() {
            self.wanted.remove(&want);
        }
        self.retry(now, id);
    }
}
