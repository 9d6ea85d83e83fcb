//! What follows from what happened: the ring, readiness, own claims, duplicates, gaps, routes; in
//! this order, until all is quiet.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::desired::Workload;
use crate::membership::{Profile, State};
use crate::model::{Claim, Digest, NodeId, Phase, ReplicaId, Time, WorkloadName};
use crate::ring;

use super::calls::Returned;
use super::contract::{Route, Routes};
use super::outlook::Demand;
use super::pacing::Work;
use super::{Level, Node};

/// With nobody to compare with, or members it has not heard of, a node acts on what it knows after
/// so long: a survivor of a power cut is not to wait for ever.
const PATIENCE: Duration = Duration::from_secs(3);
/// Peers that one has to be in step with before one owns workloads.
const WITNESSES: usize = 2;
/// Rounds of settling. Each is caused by the one before; a chain as long as this is a bug, and is
/// left for the next input.
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

    fn quiet(&self) -> bool {
        let Due { ring, ready, holding, duplicates, facts, routes, dirty } = self;
        !(*ready || *holding || *duplicates || *facts)
            && ring.is_empty()
            && dirty.is_empty()
            && routes.is_empty()
    }
}

impl Node {
    pub(super) fn settle(&mut self, now: Time) {
        for _ in 0..ROUNDS {
            self.drain(now);
            if std::mem::take(&mut self.due.ready) {
                self.become_ready(now);
            }
            let moved = std::mem::take(&mut self.due.ring);
            if !moved.is_empty() {
                self.redraw_ring(now, moved);
            }
            if std::mem::take(&mut self.due.facts) {
                self.retry_what_waits();
            }
            if std::mem::take(&mut self.due.holding) {
                self.hold(now);
            }
            if std::mem::take(&mut self.due.duplicates) {
                self.tell_health(now);
                self.reconsider(now);
            }
            self.plan(now);
            for name in std::mem::take(&mut self.due.routes) {
                self.draw_routes(now, &name);
            }
            self.tell_slots(now);
            self.drain(now);
            // What cannot be planned yet stays dirty.
            if self.due.quiet() || (!self.may_plan() && self.only_dirty()) {
                return;
            }
        }
    }

    fn only_dirty(&self) -> bool {
        let Due { ring, ready, holding, duplicates, facts, routes, dirty: _ } = &self.due;
        !(*ready || *holding || *duplicates || *facts) && ring.is_empty() && routes.is_empty()
    }

    /// Takes a place on the ring once this node knows what those know that it can reach. Those it
    /// has not heard of yet are waited for a little: of devices that boot together some meet first,
    /// and what they decide the others may know better.
    fn become_ready(&mut self, now: Time) {
        if self.ready || !self.admitted() {
            return;
        }
        let linked: Vec<NodeId> =
            self.membership.links().filter(|peer| self.is_member(peer)).collect();
        let is_ready =
            |peer: &NodeId| self.membership.record(peer).is_some_and(|record| record.ready);
        // Whoever boots at the same time knows no more.
        let knowing: Vec<NodeId> = linked.iter().copied().filter(is_ready).collect();
        let reachable = if knowing.is_empty() { linked } else { knowing };
        let in_step = reachable.iter().filter(|peer| self.repair.in_step(peer)).count();
        let enough = if self.waits_until.is_some() {
            // Links to those that are up are about to come: one witness may be one that was cut off
            // itself.
            let others = self.membership.up_count().saturating_sub(1);
            !reachable.is_empty() && in_step >= WITNESSES.min(others) && self.membership.settled()
        } else if reachable.is_empty() {
            self.is_alone()
        } else {
            in_step >= WITNESSES.min(reachable.len())
        };
        let is_known = !self.is_newcomer
            || reachable.iter().any(|peer| is_ready(peer) && self.repair.in_step(peer));
        if !enough || !is_known {
            return;
        }
        self.ready = true;
        self.is_newcomer = false;
        self.waits_until = None;
        // With nobody there it has waited already.
        self.hears_out_until = (in_step > 0).then(|| now + PATIENCE);
        self.rescue_throttle.reached(now);
        self.due.duplicates = true;
        self.publish_profile(now);
        let message = match in_step {
            0 => "nobody else can be reached; this node acts on what it knows".to_owned(),
            peers => format!("in step with {peers} of {} linked nodes", reachable.len()),
        };
        self.tell(now, Level::Info, "ready", None, Some(self.me), message);
        self.due.ring.insert(self.me);
        self.due.holding = true;
        self.mark_all();
    }

    /// A member that knows others: it has to hear of them first, but not for ever. The only one has
    /// nobody to wait for.
    pub(super) fn wait_for_others(&mut self, now: Time) {
        let has_none = self.config.founder && self.is_only_member();
        self.waits_until = (!has_none && self.admitted()).then(|| now + PATIENCE);
        self.due.ready = true;
    }

    pub(super) fn lose_patience(&mut self, now: Time) {
        if self.waits_until.is_some_and(|until| until <= now) {
            self.waits_until = None;
            self.due.ready = true;
        }
        if self.hears_out_until.is_some_and(|until| until <= now) {
            (self.hears_out_until, self.stood_still) = (None, false);
            self.due.duplicates = true;
        }
        self.due.duplicates |= self.rescue_throttle.end_healing(now);
    }

    /// Whether it knows what everybody knows that it can hear, or has waited for that long enough.
    /// To own workloads two witnesses are enough; who took a replica over may be a third, whom both
    /// had lost as well.
    pub(super) fn has_compared(&self) -> bool {
        if !self.ready || self.hears_out_until.is_none() {
            return self.ready;
        }
        let in_step = |peer: &NodeId| self.membership.has_link(peer) && self.repair.in_step(peer);
        let heard: Vec<NodeId> =
            if self.desired.members().len() <= self.config.membership.links.full_mesh {
                self.membership.up().filter(|peer| *peer != self.me).collect()
            } else {
                self.membership.links().filter(|peer| self.is_member(peer)).collect()
            };
        !heard.is_empty() && heard.iter().all(in_step)
    }

    /// Somebody is back, and may know of takers on its side of a cut, or bring a new version before
    /// it tells who runs that already.
    pub(super) fn hear_out_returned(&mut self, now: Time) {
        self.hears_out_until = self.hears_out_until.max(self.rescue_throttle.heals_until(now));
    }

    /// This process stood still for so long. If others may have given it up, what it has not said
    /// to run is as after a restart.
    pub(super) fn on_lag(&mut self, now: Time, lag: Duration) {
        self.membership.handle_lag(now, lag);
        if lag < self.config.membership.suspicion.silent_after {
            return;
        }
        self.holding.stalled();
        if self.is_only_member() {
            return;
        }
        // Who stood still has not waited for anybody, and those who have closed their links
        // meanwhile need a moment. No longer than it stood still: a device that stalls now and then
        // has to come to an end of waiting.
        let later = |until: Time| (until + lag).max(now + lag.min(PATIENCE));
        self.waits_until = self.waits_until.map(later);
        self.stood_still = true;
        self.hears_out_until = Some(self.hears_out_until.map_or(now + PATIENCE, later));
        let mut out = crate::model::Out::new();
        self.repair.on_stall(now, &mut out);
        self.post(now, out, super::Message::Repair);
    }

    /// Nobody can be reached who might know more. One that joined and knows of itself alone has not
    /// heard of those who admitted it yet: it knows nothing.
    fn is_alone(&self) -> bool {
        (self.config.founder || !self.is_only_member())
            && !self.membership.links().any(|peer| self.is_member(&peer))
    }

    fn is_only_member(&self) -> bool {
        self.desired.members().len() == 1
    }

    /// Whether a node was admitted, as far as is known here.
    pub fn is_member(&self, node: &NodeId) -> bool {
        self.desired.members().contains_key(node)
    }

    /// A node that was just admitted compares with everyone it is linked to: who admitted it knows
    /// of others.
    pub(super) fn compare_with_all(&mut self, now: Time) {
        self.is_newcomer = !self.config.founder;
        self.wait_for_others(now);
        let mut out = crate::model::Out::new();
        self.repair.compare_anew(now, &mut out);
        self.post(now, out, super::Message::Repair);
        self.due.ready = true;
    }

    /// On the ring are the members that are up and say that they know enough.
    fn redraw_ring(&mut self, now: Time, moved: BTreeSet<NodeId>) {
        let mut points = Vec::new();
        for node in moved {
            let before = self.ring.salt(&node);
            let after = self.desired.members().get(&node).copied().filter(|_| self.may_own(&node));
            if before != after {
                points.extend(
                    [before, after].into_iter().flatten().map(|salt| ring::point(&node, salt)),
                );
                match after {
                    Some(salt) => self.ring.insert(node, salt),
                    None => self.ring.remove(&node),
                };
            }
        }
        if !points.is_empty() {
            self.views += 1;
            self.turn_to_wards(now, &points);
        }
    }

    fn may_own(&self, node: &NodeId) -> bool {
        match self.membership.record(node) {
            _ if *node == self.me => self.ready && !self.leaving,
            Some(record) => {
                record.ready && !record.leaving && self.membership.state(node) == State::Up
            }
            None => false,
        }
    }

    /// More room, or more nodes: what waits for a taker need not wait longer.
    fn retry_what_waits(&mut self) {
        let waiting: Vec<Digest> = self.replan.keys().copied().collect();
        self.due.dirty.extend(waiting);
    }

    fn reconsider(&mut self, now: Time) {
        let (membership, me) = (&self.membership, self.me);
        let demand = Demand { desired: &self.desired, rulings: &self.rulings };
        let mut out = crate::model::Out::new();
        let up = |node: &NodeId| *node == me || membership.state(node) == State::Up;
        let current = |replica: &ReplicaId| demand.revision(replica);
        let facts = self.claims.reconsider(now, &up, &current, &mut out);
        self.returned.extend(facts.into_iter().map(Returned::Claims));
        self.post(now, out, super::Message::Claims);
    }

    fn draw_routes(&mut self, now: Time, name: &WorkloadName) {
        let demand = self.demand();
        let size = self.desired.workload(name).map(|it| (it.uid, demand.count(it)));
        if size.is_some_and(|(uid, places)| !self.pacing.may(now, Work::Routes, uid, places)) {
            return;
        }
        let found = self.desired.workload(name).map(|wish| self.routes_of(wish));
        let (version, routes) = &mut self.routes;
        if routes.get(name).map(|known| &known[..]) != found.as_deref() {
            *version += 1;
            match found {
                Some(found) => drop(routes.insert(name.clone(), found.into())),
                None => drop(routes.remove(name)),
            }
        }
    }

    fn routes_of(&self, workload: &Workload) -> Vec<Route> {
        let demand = self.demand();
        let route = |(node, claim): (NodeId, &Claim)| {
            let local = node == self.me;
            let generation = match local {
                true => self.serving(&claim.replica)?,
                false => {
                    let answers = claim.phase == Phase::Healthy && self.is_up(&node);
                    answers.then_some(claim.generation)?
                }
            };
            let direct = self.membership.unreachable(&node).is_none();
            Some(Route { replica: claim.replica, generation, node, local, direct })
        };
        let claims = self.claims.of_workload(&workload.uid).into_iter();
        let mut found: Vec<Route> = claims.filter_map(route).collect();
        // During a replacement the new version is preferred, and the old one better than nothing.
        let is_current = |route: &Route| demand.revision(&route.replica) == Some(route.generation);
        if found.iter().any(is_current) {
            found.retain(is_current);
        }
        found
    }

    /// Where these workloads are found may be something else now.
    pub(super) fn reroute(&mut self, uids: impl IntoIterator<Item = Digest>) {
        for uid in uids {
            self.due.routes.extend(self.desired.by_uid(&uid).map(|wish| wish.name.clone()));
        }
    }

    /// The routing table and its version, which grows with each change.
    pub fn routes(&self) -> (u64, &Routes) {
        (self.routes.0, &self.routes.1)
    }

    /// What this node says of itself.
    pub(super) fn publish_profile(&mut self, now: Time) {
        let profile = Profile {
            name: self.config.name.clone(),
            addresses: self.config.addresses.clone(),
            facts: self.facts.clone(),
            version: self.config.version.clone(),
            ready: self.ready,
            leaving: self.leaving,
        };
        self.with_membership(now, |membership, now, out| membership.set_record(now, profile, out));
    }

    /// Own claims whose replica the runtime is to have: for a runtime that lost count.
    pub fn claimed(&self) -> impl Iterator<Item = ReplicaId> {
        self.claims.mine().map(|claim| claim.replica)
    }
}
