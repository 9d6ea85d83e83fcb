//! The consequences of an input, in this order: readiness, the ring, own claims, duplicates, plans,
//! routes, gossip; repeated until nothing is left to do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::claims::{Credit, Judge};
use crate::membership::Profile;
use crate::model::spec::Kind;
use crate::model::{Digest, Facts, NodeId, NodePolicy, ReplicaId, Time, WorkloadName};
use crate::ring;

use super::Node;
use super::calls::Returned;
use super::outlook::Demand;
use super::sight::Sight;

/// Rounds for one input, each caused by the one before. A longer chain is a bug; the rest then
/// waits for the next input.
const ROUNDS: usize = 16;

/// How long after a replica became healthy some node may not have heard of that yet.
const RACE: Duration = Duration::from_secs(60);

/// How long after two nodes met (again) one may not have heard yet what the other runs. Then they
/// have compared all they know.
const LEARNS_WITHIN: Duration = Duration::from_secs(300);

/// The work that inputs have made due.
#[derive(Clone, Debug, Default)]
pub(super) struct Due {
    /// Nodes that may have come to the ring or left it. At most as many as there are members.
    pub ring: BTreeSet<NodeId>,
    /// This node's readiness may have changed.
    pub ready: bool,
    /// Own claims must be compared with desired state.
    pub holding: bool,
    /// Claims changed, or a node came up or went down: look for duplicates.
    pub duplicates: bool,
    /// Facts or liveness of nodes changed: places without a taker may find one now.
    pub facts: bool,
    /// Workloads whose routes may have changed. At most as many as there are, and some that were
    /// just removed.
    pub routes: BTreeSet<WorkloadName>,
    /// Workloads to plan. At most as many as there are.
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
    /// Does all work that is due.
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
            self.redate_volumes(now);
            self.gossip_slots(now);
            self.drain(now);
            // Workloads stay dirty while this node may not plan.
            if self.due.is_empty() || (!self.may_plan() && self.is_only_dirty()) {
                return;
            }
        }
    }

    fn is_only_dirty(&self) -> bool {
        let Due { ring, ready, holding, duplicates, facts, routes, dirty: _ } = &self.due;
        !(*ready || *holding || *duplicates || *facts) && ring.is_empty() && routes.is_empty()
    }

    /// Whether a node is on the roster.
    pub fn is_member(&self, node: &NodeId) -> bool {
        self.desired.members().contains_key(node)
    }

    /// The policy of operators for a node.
    pub fn policy(&self, node: &NodeId) -> NodePolicy {
        self.desired.policies().get(node).cloned().unwrap_or_default()
    }

    /// Updates the ring, which has the members that are up and publish that they are ready.
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
            // Whose awards are plausible depends on it.
            self.due.duplicates = true;
            self.on_ring_change(now, &points);
        }
    }

    fn may_own(&self, node: &NodeId) -> bool {
        match self.membership.record(node) {
            _ if *node == self.me => self.readiness.is_ready() && !self.readiness.is_leaving(),
            Some(record) => record.ready && !record.leaving && self.membership.is_up(node),
            None => false,
        }
    }

    /// There may be more room, or more nodes: plans every workload that waits for a time.
    fn retry_waiting(&mut self) {
        let waiting: Vec<Digest> = self.planning.again.keys().copied().collect();
        self.due.dirty.extend(waiting);
        // Which nodes a daemon has places on follows from their facts.
        let daemons = self
            .ownership
            .nearby()
            .filter(|uid| self.desired.by_uid(uid).is_some_and(|it| it.spec.kind == Kind::Daemon));
        self.due.dirty.extend(daemons);
    }

    /// Looks for places with several holders, and starts or continues their disputes.
    fn resolve_duplicates(&mut self, now: Time) {
        let stops_first = self.may_stop_first(now);
        let (membership, wall) = (&self.membership, self.wall(now));
        let ownership = &self.ownership;
        let mut out = crate::model::Out::new();
        let sight =
            Sight::new(self.me, &self.device.facts, membership, &self.desired, &self.rulings);
        let demand = Demand { desired: &self.desired, rulings: &self.rulings, sight };
        let credit = Credit {
            plausible: &|node, claim| ownership.is_plausible(node, claim),
            knows: &|node, replica| sight.knows(node, replica),
            needs: &|claim| sight.needs(claim),
            offers: &|node, claimed| sight.offers(node, claimed),
            leaves: &|node, claim| sight.leaves(node, claim).is_some(),
        };
        let met_for = |node: &NodeId| membership.in_touch_since(node).map(|since| now.since(since));
        let judge = Judge {
            up: &|node: &NodeId| membership.is_up(node),
            current: &|replica: &ReplicaId| demand.revision(replica),
            credit,
            stops_first: &|replica| stops_first.contains(replica),
            unaware: &|mine, node, claim| {
                let healthy_for = Duration::from_millis(wall.0.saturating_sub(mine.since.0));
                let learns_within = LEARNS_WITHIN.min(healthy_for + RACE);
                let has_just_met =
                    |node: &NodeId| met_for(node).is_none_or(|time| time < learns_within);
                let owner = NodeId(claim.award.by().0);
                healthy_for < RACE || has_just_met(node) || has_just_met(&owner)
            },
            was_owner: &|claim| {
                let has_just_met =
                    |node: &NodeId| met_for(node).is_none_or(|time| time < LEARNS_WITHIN);
                ownership.is_owner_without(claim, &has_just_met)
            },
        };
        let facts = self.claims.reconsider(now, &judge, &mut out);
        self.returned.extend(facts.into_iter().map(Returned::Claims));
        self.post(now, out, super::Message::Claims);
    }

    /// Own replicas that other nodes claim as well, and that stop before those start them: of a
    /// stateful workload, while all others of it are ready.
    fn may_stop_first(&self, now: Time) -> BTreeSet<ReplicaId> {
        let outlook = self.outlook(now);
        let may = |replica: &&ReplicaId| {
            let workload = self.desired.by_uid(&replica.uid);
            workload.is_some_and(|workload| {
                workload.spec.kind.is_stateful() && outlook.others_are_ready(workload, replica)
            })
        };
        self.claims.contested().filter(may).copied().collect()
    }

    /// Issues this node's record anew if its content changed.
    pub(super) fn publish_profile(&mut self, now: Time) {
        let profile = Profile {
            name: self.config.name.clone(),
            addresses: self.config.addresses.clone(),
            facts: Facts {
                busy_ports: BTreeSet::new(),
                measured: BTreeMap::new(),
                ..self.device.facts.clone()
            },
            version: self.config.version.clone(),
            ready: self.readiness.is_ready(),
            leaving: self.readiness.is_leaving(),
        };
        self.with_membership(now, |membership, now, out| membership.set_record(now, profile, out));
    }

    /// The replicas that the runtime should run, for a driver that compares.
    pub fn claimed(&self) -> impl Iterator<Item = ReplicaId> {
        self.claims.mine().map(|claim| claim.replica)
    }
}
