//! The node's reaction to facts of membership: which nodes are up, their records, their links.

use std::collections::BTreeSet;

use crate::membership;
use crate::model::{NodeId, Signed, Time};
use crate::sync::Tree;

use super::{Level, Node};

impl Node {
    pub(super) fn on_membership(&mut self, now: Time, fact: membership::Fact) {
        self.shown.version += 1;
        match fact {
            membership::Fact::Up { node } => {
                self.rescue_throttle.returned(now, &node);
                self.on_peer_returned(now);
                self.emit_event(
                    now,
                    Level::Info,
                    "node-up",
                    None,
                    Some(node),
                    "the node is up".into(),
                );
                self.on_liveness(now, node);
            }
            membership::Fact::Down { node, why } => {
                let up = self.membership.up_count();
                self.rescue_throttle.lost(now, node, up, why.is_news);
                self.count("nodes_down");
                let why = why.describe(|node| self.name_of(node));
                self.emit_event(
                    now,
                    Level::Warning,
                    "node-down",
                    None,
                    Some(node),
                    format!("the node is down: {why}"),
                );
                self.with_auction(now, |room, now, context, out| {
                    room.node_down(now, &node, context, out)
                });
                self.on_liveness(now, node);
                // Announcements of its places came before this node knew that they are free: it
                // answers them now.
                for uid in self
                    .claims
                    .of_node(&node)
                    .map(|claim| claim.replica.uid)
                    .collect::<BTreeSet<_>>()
                {
                    self.with_auction(now, |room, now, context, out| {
                        room.learned(now, &uid, context, out)
                    });
                }
            }
            membership::Fact::BackBy { node, until } => {
                let message = format!(
                    "the node stops on purpose and hopes to be back by {}",
                    self.wall_at(now, until)
                );
                self.emit_event(now, Level::Info, "node-back-by", None, Some(node), message);
                self.on_liveness(now, node);
            }
            membership::Fact::Record { node } => {
                let key = membership::Membership::item_key(&node);
                let is_first = !self.repair.knows(Tree::Records, &key);
                let record = self.membership.record(&node);
                // Where data is must be known after a restart at which its node is absent.
                let keeps = record.is_some_and(|record| !record.facts.volumes.is_empty());
                if let Some(hash) = record.map(Signed::hash) {
                    self.repair.note(now, Tree::Records, key, hash);
                }
                self.saving.cache.record(now, node, is_first || keeps);
                // Earlier answers of the node may not be true any more: an engine came up.
                self.auction.forget_answers(node);
                self.due.ring.insert(node);
                // It may see less of what it runs than before, or more.
                self.due.duplicates = true;
                self.due.facts = true;
                self.due.ready = true;
            }
            membership::Fact::Moved { node, before } => self.on_moved(now, node, &before),
            membership::Fact::Incarnation(incarnation) => {
                self.persist_incarnation(incarnation);
            }
            membership::Fact::Contested => self.on_contested(now),
            membership::Fact::RefutationDelayed { until } => {
                let wait = until.since(now).as_secs_f64().ceil();
                let message = format!(
                    "others have lost this node again and again, as when too few of them can \
                        reach it; it returns in {wait:.0} s, or when it meets them"
                );
                self.emit_event(
                    now,
                    Level::Warning,
                    "return-delayed",
                    None,
                    Some(self.me),
                    message,
                );
            }
            membership::Fact::ReachabilityChanged { node } => {
                let uids: BTreeSet<_> =
                    self.claims.of_node(&node).map(|claim| claim.replica.uid).collect();
                self.reroute(uids);
            }
            membership::Fact::Unreachable { node, how } => self.on_unreachable(now, node, how),
            membership::Fact::Suspected { .. } => self.count("accusations"),
            membership::Fact::Cleared { .. } => self.count("accusations_cleared"),
        }
    }

    fn on_liveness(&mut self, now: Time, node: NodeId) {
        if !self.is_up(&node) {
            self.on_answerer_lost(now, &node);
        }
        self.due.ring.insert(node);
        self.due.ready = true;
        self.due.duplicates = true;
        let uids =
            self.claims.of_node(&node).map(|claim| claim.replica.uid).collect::<BTreeSet<_>>();
        self.reroute(uids.iter().copied());
        uids.iter().for_each(|uid| self.await_turn(uid));
        self.due.dirty.extend(uids);
        self.due.facts = true;
    }
}
