//! Workloads that this node may have to look after: those near to it on the ring. What happens to
//! the ring is looked at for these alone, so that a node that comes or goes costs each other one
//! what it is near to, not what the whole cluster runs.

use std::collections::BTreeMap;

use imbl::OrdMap;

use crate::model::{Digest, Key, NodeId, Spec, Time, WorkloadName};
use crate::ring::{self, Probes, Ring};

use super::Node;
use super::planning::GUARDIANS;

/// Nodes that are nearer to the farthest ward than this node, on average. That of so many fewer
/// than [`GUARDIANS`] are there, so that a workload that is no ward is this node's to guard,
/// happens to one workload in 10^50; after half of the nodes have gone, in 10^24.
const NEARER: u64 = 128;

/// The book of workloads by where they lie on the ring.
#[derive(Clone, Debug, Default)]
pub(super) struct Ownership {
    /// The members that own workloads.
    pub ring: Ring,
    /// Where each workload looks for nodes, by uid.
    probes: OrdMap<Digest, Probes>,
    /// This node's point; none while it is no member.
    point: Option<u64>,
    /// How large the ring was when `near` was drawn.
    drawn_for: usize,
    /// Workloads at most so far away are in `near`.
    reach: u64,
    /// By uid, with the distance.
    near: BTreeMap<Digest, u64>,
}

impl Ownership {
    fn set(&mut self, uid: Digest, probes: Probes) {
        self.near.remove(&uid);
        self.see(uid, &probes);
        self.probes.insert(uid, probes);
    }

    fn see(&mut self, uid: Digest, probes: &Probes) {
        let distance = self.point.map(|point| probes.distance(point));
        if let Some(distance) = distance.filter(|distance| *distance <= self.reach) {
            self.near.insert(uid, distance);
        }
    }

    fn forget(&mut self, uid: &Digest) {
        self.probes.remove(uid);
        self.near.remove(uid);
    }

    /// Draws the circle anew around `point`, if there is need of it. Whether there was.
    pub fn redraw(&mut self, point: Option<u64>, nodes: usize) -> bool {
        let is_good = (self.drawn_for / 2..=self.drawn_for.saturating_mul(2)).contains(&nodes);
        if self.point == point && is_good {
            return false;
        }
        (self.point, self.drawn_for) = (point, nodes);
        let points = (nodes as u64).saturating_mul(ring::PROBES as u64).max(1);
        self.reach = (u64::MAX / points).saturating_mul(NEARER);
        self.near.clear();
        let all = self.probes.clone();
        all.iter().for_each(|(uid, probes)| self.see(*uid, probes));
        true
    }

    /// Those that a node at this point is nearer to than this node.
    fn behind(&self, point: u64) -> Vec<Digest> {
        let nearer = |uid: &Digest, mine: u64| {
            self.probes.get(uid).is_some_and(|it| it.distance(point) <= mine)
        };
        self.near.iter().filter(|(uid, mine)| nearer(uid, **mine)).map(|(uid, _)| *uid).collect()
    }
}

impl Node {
    /// A workload came, went, or has another name.
    pub(super) fn ward(&mut self, uid: Digest) {
        match self.desired.by_uid(&uid) {
            Some(wish) => {
                self.ownership.set(uid, Probes::of(&Key::Workload(wish.name.clone()).hash()))
            }
            None => {
                self.ownership.forget(&uid);
                self.planning.deferred.remove(&uid);
                self.planning.throttle.forget(&uid);
                self.planning.again.remove(&uid);
            }
        }
    }

    fn probes_of(&self, name: &WorkloadName) -> Probes {
        let known =
            self.desired.workload(name).and_then(|wish| self.ownership.probes.get(&wish.uid));
        known.cloned().unwrap_or_else(|| Probes::of(&Key::Workload(name.clone()).hash()))
    }

    /// The node that closes a workload's gaps.
    pub(super) fn owner(&self, name: &WorkloadName) -> Option<NodeId> {
        self.ownership.ring.owner(&self.probes_of(name))
    }

    /// Whether this node closes them.
    pub(super) fn is_owner(&self, uid: &Digest, name: &WorkloadName) -> bool {
        self.ownership.near.contains_key(uid) && self.owner(name) == Some(self.me)
    }

    /// The nodes that answer for a workload, its owner first.
    pub(super) fn guardians(&self, name: &WorkloadName) -> Vec<NodeId> {
        self.ownership.ring.guardians(&self.probes_of(name), GUARDIANS)
    }

    /// Whether this node is one of them.
    pub(super) fn is_guardian(&self, uid: &Digest, name: &WorkloadName) -> bool {
        self.ownership.near.contains_key(uid) && self.guardians(name).contains(&self.me)
    }

    /// The workloads that this node guards.
    pub(super) fn guarded(&self) -> impl Iterator<Item = &crate::desired::Workload> {
        let near = self.ownership.near.keys().filter_map(|uid| self.desired.by_uid(uid));
        near.filter(|wish| self.is_guardian(&wish.uid, &wish.name))
    }

    /// These nodes came to the ring, or left it, with these points: what this node owns and guards
    /// may be something else.
    pub(super) fn on_ring_change(&mut self, now: Time, moved: &[u64]) {
        let salt = self.desired.members().get(&self.me);
        let point = salt.map(|salt| ring::point(&self.me, *salt));
        let turned: Vec<Digest> = if self.ownership.redraw(point, self.ownership.ring.len())
            || moved.iter().any(|at| Some(*at) == point)
        {
            self.ownership.near.keys().copied().collect()
        } else {
            moved.iter().flat_map(|point| self.ownership.behind(*point)).collect()
        };
        let guarded = turned.iter().filter_map(|uid| self.desired.by_uid(uid));
        let guarded = guarded.filter(|wish| self.is_guardian(&wish.uid, &wish.name));
        let specs: Vec<Spec> = guarded.map(|workload| workload.spec.clone()).collect();
        specs.iter().for_each(|spec| self.fetch_all(now, &spec.program));
        self.due.dirty.extend(turned);
    }

    /// Every workload that may be this node's is looked at.
    pub(super) fn mark_all(&mut self) {
        self.due.dirty.extend(self.ownership.near.keys().copied());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u64) -> NodeId {
        NodeId(Digest::of(&n.to_be_bytes()).0)
    }

    /// What a node guards, by asking the ring for every workload.
    fn guarded(ring: &Ring, ownership: &Ownership) -> Vec<Digest> {
        let mine = |probes: &Probes| ring.guardians(probes, GUARDIANS).contains(&node(0));
        ownership.probes.iter().filter(|(_, probes)| mine(probes)).map(|(uid, _)| *uid).collect()
    }

    #[test]
    fn whatever_comes_and_goes_what_a_node_guards_is_among_its_wards_and_every_change_of_it_is_noticed()
     {
        let mut ring = Ring::new((0..300).map(|n| (node(n), n)));
        let mut ownership = Ownership::default();
        for n in 0..400u64 {
            ownership.set(Digest::of(&n.to_le_bytes()), Probes::of(&Digest::of(&n.to_le_bytes())));
        }
        let point = ring::point(&node(0), 0);
        assert!(ownership.redraw(Some(point), ring.len()));
        assert!(
            ownership.near.len() < 250,
            "{} of 400 are near to one of 300",
            ownership.near.len()
        );
        let mut known = guarded(&ring, &ownership);
        let leaves = (1..200).map(|n| (n, false));
        for (n, comes) in leaves.chain((1..60).map(|n| (n, true))) {
            if comes {
                ring.insert(node(n), n)
            } else {
                ring.remove(&node(n))
            };
            let noticed = match ownership.redraw(Some(point), ring.len()) {
                true => ownership.near.keys().copied().collect(),
                false => ownership.behind(ring::point(&node(n), n)),
            };
            let now = guarded(&ring, &ownership);
            assert!(
                now.iter().all(|uid| ownership.near.contains_key(uid)),
                "with {} nodes",
                ring.len()
            );
            let changed = now
                .iter()
                .filter(|uid| !known.contains(uid))
                .chain(known.iter().filter(|uid| !now.contains(uid)));
            assert!(
                changed.into_iter().all(|uid| noticed.contains(uid)),
                "with {} nodes",
                ring.len()
            );
            known = now;
        }
    }
}
