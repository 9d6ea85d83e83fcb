//! Moves of replicas to nodes with more room: a new or returning node is used, and a full one is
//! relieved. `plan/balance.rs` says what pays.
//!
//! **One move at a time at both ends**: a node that starts something, or holds a place together
//! with another one, is left alone. A move is a ruling, so that all agree who is to keep the place;
//! the holder serves until the other one does, as when a node is drained.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::claims::awarded_under;
use crate::desired::Workload;
use crate::model::ruling::Move;
use crate::model::spec::Kind;
use crate::model::{Claim, Digest, NodeId, Phase, Place, ReplicaId, ResourceSum, RulingBody, Time};
use crate::plan::{Filled, Movable, best_move};
use crate::workload::NO_GENERATION;

use super::planning::random_index;
use super::{Level, Node};

/// Nodes that are compared in one look: in a large cluster some of them.
const NODES: usize = 64;
/// Workloads that are considered in one look.
const WORKLOADS: usize = 16;
/// Replicas of one workload that are considered.
const REPLICAS: usize = 64;
/// A replica stays for so long at least, by the clocks of devices.
const STAYS: Duration = Duration::from_secs(60);
/// A move that was not made within this time is withdrawn.
const WITHDRAWN: Duration = Duration::from_secs(120);
/// After a move was withdrawn, the workload is left alone for so long.
const RESTS: Duration = Duration::from_secs(900);

impl Node {
    /// Sets the time of the first look.
    pub(super) fn plan_looks(&mut self, now: Time) {
        if self.planning.balance_at.is_none() && self.membership.up().nth(1).is_some() {
            self.planning.balance_at = Some(now + self.until_look());
        }
    }

    fn until_look(&mut self) -> Duration {
        let every = self.config.balance.every;
        let millis = usize::try_from(every.as_millis()).unwrap_or(usize::MAX);
        let more = random_index(&mut self.device.rng, millis).unwrap_or_default();
        every + Duration::from_millis(more as u64)
    }

    /// The owner looks whether a replica of its workloads is better off elsewhere.
    pub(super) fn look_at_balance(&mut self, now: Time) {
        if self.planning.balance_at.is_none_or(|at| now < at) {
            return;
        }
        self.planning.balance_at = None;
        if !self.may_plan() || self.saving.read_only.is_some() {
            return;
        }
        let mut owned: Vec<Workload> = self
            .ownership
            .nearby()
            .filter_map(|uid| self.desired.by_uid(&uid))
            .filter(|it| matches!(it.spec.kind, Kind::Service { .. }))
            .filter(|it| self.is_owner(&it.uid, &it.name))
            .cloned()
            .collect();
        for workload in &owned {
            self.withdraw_moves(now, workload);
        }
        self.shuffle(&mut owned);
        owned.retain(|workload| self.is_settled(now, workload));
        owned.truncate(WORKLOADS);
        if owned.is_empty() {
            return;
        }
        let mut nodes: Vec<NodeId> = self.membership.up().collect();
        self.shuffle(&mut nodes);
        nodes.truncate(NODES);
        let mut filled = Looked::default();
        let targets: Vec<Filled> =
            nodes.iter().filter_map(|node| filled.calm(self, node)).collect();
        let movable: Vec<Movable<(Digest, Place)>> = owned
            .iter()
            .flat_map(|workload| self.movable(now, workload, &targets, &mut filled))
            .collect();
        let Some(((uid, place), to)) = best_move(&movable) else { return };
        self.rule_move(now, &ReplicaId { uid, place }, to);
    }

    fn shuffle<T>(&mut self, all: &mut [T]) {
        for index in (1..all.len()).rev() {
            if let Some(other) = random_index(&mut self.device.rng, index + 1) {
                all.swap(index, other);
            }
        }
    }

    /// Whether all of a workload runs as it should, and nothing of it moved a moment ago.
    fn is_settled(&self, now: Time, workload: &Workload) -> bool {
        let wall = self.wall(now).0;
        let rests = self.rulings.of(&workload.uid).any(|ruling| match ruling.body {
            RulingBody::Move(Move { counter, .. }) => {
                let pause = if counter == 0 { RESTS } else { STAYS };
                u128::from(wall.saturating_sub(ruling.sequence)) < pause.as_millis()
            }
            _ => false,
        });
        // Its data is where it is, and so are devices.
        !rests
            && workload.spec.kept().next().is_none()
            && workload.spec.later.uses.iter().next().is_none()
            && self.outlook(now).steps(workload).is_empty()
    }

    /// The replicas of a workload that may move, each with the nodes that may run it as well.
    fn movable(
        &self,
        now: Time,
        workload: &Workload,
        targets: &[Filled],
        filled: &mut Looked,
    ) -> Vec<Movable<(Digest, Place)>> {
        let claims = self.claims.of_workload(&workload.uid);
        let mut siblings: BTreeMap<NodeId, usize> = BTreeMap::new();
        for (node, _) in &claims {
            *siblings.entry(*node).or_default() += 1;
        }
        let fits: Vec<Filled> =
            targets.iter().filter(|it| self.may_run(workload, &it.node)).copied().collect();
        let wall = self.wall(now).0;
        let may_go = |claim: &Claim| {
            let since = wall.saturating_sub(claim.since.0);
            claim.phase == Phase::Healthy
                && claim.update.is_none()
                && u128::from(since) >= STAYS.as_millis()
        };
        let mut movable = Vec::new();
        for (node, claim) in claims.iter().filter(|(_, claim)| may_go(claim)).take(REPLICAS) {
            let Some(from) = filled.calm(self, node) else { continue };
            let is_better = |it: &&Filled| {
                it.node != *node && self.is_no_worse(workload, &siblings, (node, &it.node))
            };
            let to: Vec<Filled> = fits.iter().filter(is_better).copied().collect();
            let (replica, needs) =
                ((workload.uid, claim.replica.place), workload.spec.reservation());
            movable.push(Movable { replica, needs, from, to });
        }
        movable
    }

    /// Whether a node takes such a workload, by all that its owner knows.
    fn may_run(&self, workload: &Workload, node: &NodeId) -> bool {
        let Some(record) = self.membership.record(node) else { return false };
        record.ready
            && !record.leaving
            && self.desired.takes(node, &workload.spec).is_ok()
            && record.facts.fits(&workload.spec).is_ok()
            && self.is_near(workload, node).is_ok()
    }

    /// Whether a replica is as well off on the second node as on the first one by all that is not
    /// room: by its siblings, by the labels that it is spread over, and by preferences.
    fn is_no_worse(
        &self,
        workload: &Workload,
        siblings: &BTreeMap<NodeId, usize>,
        (from, to): (&NodeId, &NodeId),
    ) -> bool {
        let facts = |node: &NodeId| self.membership.record(node).map(|record| &record.facts);
        let (Some(here), Some(there)) = (facts(from), facts(to)) else { return false };
        let spec = &workload.spec;
        let count = |node: &NodeId| siblings.get(node).copied().unwrap_or_default();
        let in_value = |label: &String, value: Option<&String>| {
            let has = |node: &NodeId| facts(node).and_then(|it| it.labels.get(label)) == value;
            siblings.iter().filter(|(node, _)| has(node)).map(|(_, count)| count).sum::<usize>()
        };
        let is_spread = |label: &String| {
            let (from, to) = (here.labels.get(label), there.labels.get(label));
            from == to || in_value(label, to) < in_value(label, from)
        };
        count(to) < count(from)
            && spec.placement.spread.iter().all(is_spread)
            && there.unmet(spec, there.capacity) <= here.unmet(spec, here.capacity)
    }

    fn rule_move(&mut self, now: Time, replica: &ReplicaId, to: NodeId) {
        let claims = self.claims.of(replica);
        let [(from, claim)] = claims.as_slice() else { return };
        let (from, counter) = (*from, awarded_under(claim).counter);
        if self.rule_about(now, replica, Move { from, to, counter }) {
            let message = format!(
                "it moves from {} to {}, which has more room",
                self.name_of(&from),
                self.name_of(&to)
            );
            let name = self.replica_name(replica);
            self.emit_event(now, Level::Info, "rebalances", Some(name), Some(to), message);
        }
    }

    fn rule_about(&mut self, now: Time, replica: &ReplicaId, it: Move) -> bool {
        let Place::Ordinal(ordinal) = replica.place else { return false };
        let (tick, body) = (u64::from(ordinal), RulingBody::Move(it));
        self.rule_next(now, replica.uid, NO_GENERATION, tick, body)
    }

    /// Withdraws the moves of a workload that no node made.
    fn withdraw_moves(&mut self, now: Time, workload: &Workload) {
        let (uid, wall) = (workload.uid, self.wall(now).0);
        let is_late =
            |sequence: u64| u128::from(wall.saturating_sub(sequence)) >= WITHDRAWN.as_millis();
        let moves = self.rulings.of(&uid).filter_map(|ruling| match ruling.body {
            RulingBody::Move(it) if it.counter > 0 && is_late(ruling.sequence) => {
                let place = Place::Ordinal(u32::try_from(ruling.tick).ok()?);
                Some((ReplicaId { uid, place }, it))
            }
            _ => None,
        });
        let moves: Vec<(ReplicaId, Move)> = moves.collect();
        for (replica, it) in moves {
            let claims = self.claims.of(&replica);
            let is_open = claims.iter().any(|(node, claim)| {
                *node == it.from && awarded_under(claim).counter == it.counter
            });
            if is_open && self.rule_about(now, &replica, Move { counter: 0, ..it }) {
                let message = format!("it stays on {}", self.name_of(&it.from));
                let name = self.replica_name(&replica);
                self.emit_event(now, Level::Info, "stays", Some(name), Some(it.from), message);
            }
        }
    }

    /// The last move of a place that an owner ruled: the node that ran it, and the other one.
    pub fn ruled_move(&self, replica: &ReplicaId) -> Option<(NodeId, NodeId)> {
        self.sight().move_of(replica).map(|it| (it.from, it.to))
    }

    /// Why a replica is to leave this node.
    pub(super) fn why_leaves(&self, replica: &ReplicaId) -> String {
        match self.sight().is_drained(&self.me) {
            true => "this node is drained".to_owned(),
            false => match self.sight().move_of(replica) {
                Some(it) => format!("{} has more room for it", self.name_of(&it.to)),
                None => "another node has more room for it".to_owned(),
            },
        }
    }
}

/// What the nodes of one look have taken; none for one that is busy with a start or a move.
#[derive(Default)]
struct Looked(BTreeMap<NodeId, Option<Filled>>);

impl Looked {
    fn calm(&mut self, core: &Node, node: &NodeId) -> Option<Filled> {
        *self.0.entry(*node).or_insert_with(|| {
            let capacity = core.membership.record(node)?.facts.capacity;
            let sight = core.sight();
            let mut used = ResourceSum::default();
            for claim in core.claims.of_node(node) {
                let is_alone = core.claims.of(&claim.replica).len() == 1;
                if claim.phase != Phase::Healthy || claim.update.is_some() || !is_alone {
                    return None;
                }
                used.add(sight.needs(claim).size, 1);
            }
            Some(Filled { node: *node, capacity, used })
        })
    }
}
