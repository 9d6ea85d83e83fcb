//! What follows from an input: readiness, the ring, own claims, duplicates, free places, routes; in
//! this order, until nothing is left to do.

use std::collections::BTreeSet;

use crate::membership::{Profile, State};
use crate::model::{Digest, NodeId, ReplicaId, Time, WorkloadName};
use crate::ring;

use super::Node;
use super::calls::Returned;
use super::outlook::Demand;

/// Rounds in one input. Each is caused by the one before; a longer chain is a bug, and is left for
/// the next input.
const ROUNDS: usize = 16;

/// What is to be looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Due {
    /// Nodes that may have come to the ring or left it: up or down, ready or not. At most as many
    /// as there are members.
    pub ring: BTreeSet<NodeId>,
    /// Whether this node knows enough may have changed.
    pub ready: bool,
    /// Own claims are to be compared with desired state.
    pub holding: bool,
    /// Claims, or who is up, have changed.
    pub duplicates: bool,
    /// Nodes' facts have changed: what nobody took may be taken now.
    pub facts: bool,
    /// Workloads whose routes may be others. At most as many as there are, and were a moment ago.
    pub routes: BTreeSet<WorkloadName>,
    /// Workloads whose gaps are to be looked at. At most as many as there are.
    pub dirty: BTreeSet<Digest>,
}

impl Due {
    pub fn all(&mut self) {
        (self.ready, self.holding) = (true, true);
        self.duplicates = true;
    }

    fn is_empty(&self) -> bool {
        let Due { ring, ready, holding, duplicates, facts, routes, dirty } = self;
        !(*ready || *holding || *duplicates || *facts)
            && ring.is_empty()
            && dirty.is_empty()
            && routes.is_empty()
    }
}

impl Node {
    pub(super) fn reconcile(&mut self, now: Time) {
        for _ in 0..ROUNDS {
            self.drain(now);
            if std::mem::take(&mut self.due.ready) {
                self.advance_readiness(now);
            }
            let moved = std::mem::take(&mut self.due.ring);
            if !moved.is_empty() {
                self.update_ring(now, moved);
            }
            if std::mem::take(&mut self.due.facts) {
                self.retry_waiting();
            }
            if std::mem::take(&mut self.due.holding) {
                self.hold(now);
            }
            if std::mem::take(&mut self.due.duplicates) {
                self.mark_reportable_slots(now);
                self.resolve_duplicates(now);
            }
            self.plan(now);
            for name in std::mem::take(&mut self.due.routes) {
                self.update_routes(now, &name);
            }
            self.gossip_slots(now);
            self.drain(now);
            // What cannot be planned yet stays dirty.
            if self.due.is_empty() || (!self.may_plan() && self.is_only_dirty()) {
                return;
            }
        }
    }

    fn is_only_dirty(&self) -> bool {
        let Due { ring, ready, holding, duplicates, facts, routes, dirty: _ } = &self.due;
        !(*ready || *holding || *duplicates || *facts) && ring.is_empty() && routes.is_empty()
    }

    /// Whether a node was admitted, as far as is known here.
    pub fn is_member(&self, node: &NodeId) -> bool {
        self.desired.members().contains_key(node)
    }

    /// On the ring are the members that are up and say that they know enough.
    fn update_ring(&mut self, now: Time, moved: BTreeSet<NodeId>) {
        let mut points = Vec::new();
        for node in moved {
            let before = self.ownership.ring.salt(&node);
            let after = self.desired.members().get(&node).copied().filter(|_| self.may_own(&node));
            if before != after {
                points.extend(
                    [before, after].into_iter().flatten().map(|salt| ring::point(&node, salt)),
                );
                match after {
                    Some(salt) => self.ownership.ring.insert(node, salt),
                    None => self.ownership.ring.remove(&node),
                };
            }
        }
        if !points.is_empty() {
            self.shown.version += 1;
            self.on_ring_change(now, &points);
        }
    }

    fn may_own(&self, node: &NodeId) -> bool {
        match self.membership.record(node) {
            _ if *node == self.me => self.readiness.is_ready() && !self.readiness.is_leaving(),
            Some(record) => {
                record.ready && !record.leaving && self.membership.state(node) == State::Up
            }
            None => false,
        }
    }

    /// More room, or more nodes: what waits for a taker need not wait longer.
    fn retry_waiting(&mut self) {
        let waiting: Vec<Digest> = self.planning.again.keys().copied().collect();
        self.due.dirty.extend(waiting);
    }

    fn resolve_duplicates(&mut self, now: Time) {
        let (membership, me) = (&self.membership, self.me);
        let demand = Demand { desired: &self.desired, rulings: &self.rulings };
        let mut out = crate::model::Out::new();
        let up = |node: &NodeId| *node == me || membership.state(node) == State::Up;
        let current = |replica: &ReplicaId| demand.revision(replica);
        let facts = self.claims.reconsider(now, &up, &current, &mut out);
        self.returned.extend(facts.into_iter().map(Returned::Claims));
        self.post(now, out, super::Message::Claims);
    }

    /// What this node says of itself.
    pub(super) fn publish_profile(&mut self, now: Time) {
        let profile = Profile {
            name: self.config.name.clone(),
            addresses: self.config.addresses.clone(),
            facts: self.device.facts.clone(),
            version: self.config.version.clone(),
            ready: self.readiness.is_ready(),
            leaving: self.readiness.is_leaving(),
        };
        self.with_membership(now, |membership, now, out| membership.set_record(now, profile, out));
    }

    /// Own claims whose replica the runtime is to have: for a runtime that lost count.
    pub fn claimed(&self) -> impl Iterator<Item = ReplicaId> {
        self.claims.mine().map(|claim| claim.replica)
    }
}
