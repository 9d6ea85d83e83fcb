//! The context of one call into the room, and its effects.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;

use crate::model::{ClusterId, Digest, KeyPair, NodeId, Out, Place, ReplicaId, Time};

use super::config::Config;
use super::fact::Fact;
use super::message::Message;
use super::offer::BidContext;
use super::summary::Summary;
use super::timers::Timers;

/// State that the roles share.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub(super) config: Config,
    pub(super) me: NodeId,
    pub(super) keys: KeyPair,
    pub(super) cluster: ClusterId,
    /// The incarnation of this node, for tokens.
    pub(super) incarnation: u64,
    pub(super) rng: ChaCha8Rng,
    pub(super) timers: Timers,
    pub(super) summaries: VecDeque<Arc<Summary>>,
}

pub(super) struct Cx<'a> {
    pub(super) base: &'a mut Base,
    pub(super) now: Time,
    pub(super) context: &'a dyn BidContext,
    pub(super) out: &'a mut Out<Message>,
    pub(super) facts: Vec<Fact>,
}

impl Cx<'_> {
    /// A message may be to this node itself: the node hands it back once it has acted on the facts
    /// of this call.
    pub(super) fn send(&mut self, to: NodeId, message: Message) {
        self.out.send(to, message);
    }

    pub(super) fn misbehaved(&mut self, peer: NodeId, why: &'static str) {
        self.facts.push(Fact::Misbehaved { peer, why });
    }

    /// A number below `bound`. The bound is small, so the bias does not matter.
    pub(super) fn random_below(&mut self, bound: u64) -> u64 {
        self.base.rng.next_u64() % bound.max(1)
    }

    /// Keeps a summary, once per auction: an owner that wins its own auction would keep it twice.
    pub(super) fn keep(&mut self, summary: &Arc<Summary>) {
        let known = |kept: &Arc<Summary>| kept.auction == summary.auction;
        // The same auction can only be among the last few.
        if self.base.summaries.iter().rev().take(8).any(known) {
            return;
        }
        if self.base.summaries.len() >= self.base.config.max_summaries {
            self.base.summaries.pop_front();
        }
        self.base.summaries.push_back(Arc::clone(summary));
    }
}

impl Base {
    pub(super) fn latest(&self, uid: &Digest) -> BTreeMap<Place, Arc<Summary>> {
        let of_uid = self.summaries.iter().filter(|summary| summary.uid == *uid);
        // A later summary replaces an earlier one.
        of_uid
            .flat_map(|summary| {
                summary.places.iter().map(|(place, _)| (*place, Arc::clone(summary)))
            })
            .collect()
    }

    pub(super) fn summaries(&self, replica: &ReplicaId) -> Vec<Arc<Summary>> {
        let concerns = |summary: &&Arc<Summary>| {
            summary.uid == replica.uid
                && summary.places.iter().any(|(place, _)| *place == replica.place)
        };
        self.summaries.iter().rev().filter(concerns).cloned().collect()
    }
}
