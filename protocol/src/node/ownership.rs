//! The ownership index: the workloads near this node on the ring, which it may own or guard. After
//! a change of the ring a node plans only these, so a node that comes or goes costs every other
//! node its own neighbourhood, not all workloads of the cluster.

use std::collections::BTreeMap;

use imbl::OrdMap;

use crate::model::{Claim, Digest, Key, NodeId, Spec, Time, WorkloadName};
use crate::ring::{self, Probes, Ring};

use super::Node;
use super::planning::GUARDIANS;

/// Nodes that are, on average, nearer than this node to the farthest workload of the index. If
/// fewer than [`GUARDIANS`] were, this node would guard a workload that is not in the index: that
/// happens to one workload in 10^50, or in 10^24 after half of the nodes have gone.
const NEARER_NODES: u64 = 128;

/// Workloads by their positions on the ring.
#[derive(Clone, Debug, Default)]
pub(super) struct Ownership {
    /// The members that own workloads.
    pub ring: Ring,
    /// The points at which each workload looks for nodes, by uid. All workloads.
    probes: OrdMap<Digest, Probes>,
    /// This node's point on the ring. `None` while it is no member.
    point: Option<u64>,
    /// The number of nodes on the ring for which `radius` was chosen.
    drawn_for: usize,
    /// The greatest distance of a workload in `near`.
    radius: u64,
    /// The index: workloads within `radius` of this node, by uid, with their distance.
    near: BTreeMap<Digest, u64>,
}

impl Ownership {
    fn set(&mut self, uid: Digest, probes: Probes) {
        self.near.remove(&uid);
        self.add_if_near(uid, &probes);
        self.probes.insert(uid, probes);
    }

    fn add_if_near(&mut self, uid: Digest, probes: &Probes) {
        let distance = self.point.map(|point| probes.distance(point));
        if let Some(distance) = distance.filter(|distance| *distance <= self.radius) {
            self.near.insert(uid, distance);
        }
    }

    fn forget(&mut self, uid: &Digest) {
        self.probes.remove(uid);
        self.near.remove(uid);
    }

    /// Rebuilds the index around `point` if the point changed, or the ring has twice or half as
    /// many nodes. Returns whether it did.
    pub fn redraw(&mut self, point: Option<u64>, nodes: usize) -> bool {
        let is_good = (self.drawn_for / 2..=self.drawn_for.saturating_mul(2)).contains(&nodes);
        if self.point == point && is_good {
            return false;
        }
        (self.point, self.drawn_for) = (point, nodes);
        let points = (nodes as u64).saturating_mul(ring::PROBES as u64).max(1);
        self.radius = (u64::MAX / points).saturating_mul(NEARER_NODES);
        self.near.clear();
        let all = self.probes.clone();
        all.iter().for_each(|(uid, probes)| self.add_if_near(*uid, probes));
        true
    }

    /// Whether the node that awarded this claim to `holder` may own the workload, by the ring as it
    /// is now: as its owner; or as a guardian, who owns it where the nodes before it are held to be
    /// down. **A guardian's award to itself is not enough**: every member is a guardian of some
    /// workloads.
    ///
    /// It looks at nothing but the ring and the claim, so that all holders decide alike once they
    /// agree on these.
    pub fn is_plausible(&self, holder: &NodeId, claim: &Claim) -> bool {
        let Some(probes) = self.probes.get(&claim.replica.uid) else { return true };
        let by = NodeId(claim.award.by().0);
        match by == *holder {
            true => self.ring.owner(probes) == Some(by),
            false => self.ring.guardians(probes, GUARDIANS).contains(&by),
        }
    }

    /// Whether the node that awarded a claim would own the workload if the guardians before it that
    /// `are_away` were not there.
    pub fn is_owner_without(&self, claim: &Claim, are_away: &dyn Fn(&NodeId) -> bool) -> bool {
        let Some(probes) = self.probes.get(&claim.replica.uid) else { return false };
        let by = NodeId(claim.award.by().0);
        let guardians = self.ring.guardians(probes, GUARDIANS);
        guardians.iter().find(|node| **node == by || !are_away(node)) == Some(&by)
    }

    /// The workloads of the index.
    pub fn nearby(&self) -> impl Iterator<Item = Digest> {
        self.near.keys().copied()
    }

    /// The workloads of the index to which a node at this point is nearer than this node.
    fn nearer_to(&self, point: u64) -> Vec<Digest> {
        let nearer = |uid: &Digest, mine: u64| {
            self.probes.get(uid).is_some_and(|probes| probes.distance(point) <= mine)
        };
        self.near.iter().filter(|(uid, mine)| nearer(uid, **mine)).map(|(uid, _)| *uid).collect()
    }
}

impl Node {
    /// Updates the index after a workload was created, removed or renamed.
    pub(super) fn index_workload(&mut self, uid: Digest) {
        match self.desired.by_uid(&uid) {
            Some(workload) => {
                self.ownership.set(uid, Probes::of(&Key::Workload(workload.name.clone()).hash()))
            }
            None => {
                self.ownership.forget(&uid);
                self.planning.deferred.remove(&uid);
                self.planning.throttle.forget(&uid);
                self.planning.again.remove(&uid);
                self.planning.updates.remove(&uid);
                self.scaling.forget(&uid);
            }
        }
    }

    fn probes_of(&self, name: &WorkloadName) -> Probes {
        let known = self
            .desired
            .workload(name)
            .and_then(|workload| self.ownership.probes.get(&workload.uid));
        known.cloned().unwrap_or_else(|| Probes::of(&Key::Workload(name.clone()).hash()))
    }

    /// The owner of a workload.
    pub(super) fn owner(&self, name: &WorkloadName) -> Option<NodeId> {
        self.ownership.ring.owner(&self.probes_of(name))
    }

    /// Whether this node is the owner.
    pub(super) fn is_owner(&self, uid: &Digest, name: &WorkloadName) -> bool {
        self.ownership.near.contains_key(uid) && self.owner(name) == Some(self.me)
    }

    /// The guardians of a workload, its owner first.
    pub(super) fn guardians(&self, name: &WorkloadName) -> Vec<NodeId> {
        self.ownership.ring.guardians(&self.probes_of(name), GUARDIANS)
    }

    /// Whether this node is a guardian.
    pub(super) fn is_guardian(&self, uid: &Digest, name: &WorkloadName) -> bool {
        self.ownership.near.contains_key(uid) && self.guardians(name).contains(&self.me)
    }

    /// The workloads that this node guards.
    pub(super) fn guarded(&self) -> impl Iterator<Item = &crate::desired::Workload> {
        let near = self.ownership.near.keys().filter_map(|uid| self.desired.by_uid(uid));
        near.filter(|workload| self.is_guardian(&workload.uid, &workload.name))
    }

    /// Nodes with these points came to the ring or left it: this node may own and guard other
    /// workloads now.
    pub(super) fn on_ring_change(&mut self, now: Time, moved: &[u64]) {
        let salt = self.desired.members().get(&self.me);
        let point = salt.map(|salt| ring::point(&self.me, *salt));
        let affected: Vec<Digest> = if self.ownership.redraw(point, self.ownership.ring.len())
            || moved.iter().any(|at| Some(*at) == point)
        {
            self.ownership.near.keys().copied().collect()
        } else {
            moved.iter().flat_map(|point| self.ownership.nearer_to(*point)).collect()
        };
        let guarded = affected.iter().filter_map(|uid| self.desired.by_uid(uid));
        let guarded = guarded.filter(|workload| self.is_guardian(&workload.uid, &workload.name));
        let specs: Vec<Spec> = guarded.map(|workload| workload.spec.clone()).collect();
        specs.iter().for_each(|spec| self.fetch_all(now, &spec.program));
        self.due.dirty.extend(affected);
    }

    /// Plans every workload of the index.
    pub(super) fn mark_all_dirty(&mut self) {
        self.due.dirty.extend(self.ownership.near.keys().copied());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u64) -> NodeId {
        NodeId(Digest::of(&n.to_be_bytes()).0)
    }

    /// The workloads that node 0 guards, found by asking the ring for every workload.
    fn guarded(ring: &Ring, ownership: &Ownership) -> Vec<Digest> {
        let mine = |probes: &Probes| ring.guardians(probes, GUARDIANS).contains(&node(0));
        ownership.probes.iter().filter(|(_, probes)| mine(probes)).map(|(uid, _)| *uid).collect()
    }

    /// The index holds few of all workloads. While nodes come and go, it must contain each workload
    /// that this node guards, and report each one that it starts or stops guarding.
    #[test]
    fn index_contains_whatever_a_node_guards() {
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
                false => ownership.nearer_to(ring::point(&node(n), n)),
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
