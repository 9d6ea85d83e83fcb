//! A node with the state of another, as if it had received all of it. For simulations of large
//! clusters: such nodes share their persistent maps, while ten thousand nodes that each load their
//! own copy would fill the memory of ten computers.

use crate::model::{Claim, Facts, NodeId, Out, Time, WallClock};
use crate::readiness::Readiness;
use crate::ring;

use super::{Config, Identity, Message, Node, Shown};

impl Node {
    /// From now on this node says of itself what a newer program might: claims of places and in
    /// phases that this program does not know. For simulations of clusters of two versions.
    pub fn imitate_newer(&mut self) {
        self.claims.imitate_newer();
    }

    /// Another member, in its first incarnation, that has long been up: it has this node's desired
    /// state, claims and view of the members, and runs what it claims. `None` if this node does not
    /// know the member, or either of the two is not ready.
    pub fn simulator_clone(
        &self,
        config: Config,
        identity: Identity,
        facts: Facts,
        wall: WallClock,
        seed: [u8; 32],
        now: Time,
    ) -> Option<Node> {
        const LIFE: u64 = 1;
        let (me, keys) = (NodeId(identity.keys.public().0), identity.keys.clone());
        let mut out = Out::new();
        let room = config.membership.clone();
        let membership = self.membership.simulator_clone(
            now,
            room,
            me,
            keys.clone(),
            LIFE,
            self.derived_seed(&seed, 1),
            &mut out,
        )?;
        if !self.readiness.is_ready() || membership.record(&me).is_none_or(|record| !record.ready) {
            return None;
        }
        let blank = Node::blank(config.clone(), identity, LIFE, facts, wall, seed, now);
        let mut node = Node {
            membership,
            claims: self.claims.simulator_clone(config.claims.clone(), me, keys, LIFE),
            repair: self.repair.simulator_clone(
                config.repair.clone(),
                me,
                self.derived_seed(&seed, 3),
            ),
            ownership: self.ownership.clone(),
            desired: self.desired.clone(),
            rulings: self.rulings.clone(),
            shown: Shown { routes: self.shown.routes.clone(), ..Shown::default() },
            readiness: Readiness::Ready,
            ..blank
        };
        let point = node.desired.members().get(&me).map(|salt| ring::point(&me, *salt));
        node.ownership.redraw(point, node.ownership.ring.len());
        node.auction.set_capacity(node.device.facts.offer());
        let mine: Vec<Claim> = node.claims.mine().cloned().collect();
        for claim in mine {
            let Some(workload) = node.desired.by_uid(&claim.replica.uid) else { continue };
            let (replica, need) = (claim.replica, workload.spec.need());
            for artifact in workload.spec.program.artifacts() {
                node.artifacts.ready(artifact.digest, me);
            }
            node.holding.adopt_ready(now, replica, claim.generation, need);
            node.reroute([claim.replica.uid]);
        }
        let theirs: Vec<_> = self.claims.mine().map(|claim| claim.replica.uid).collect();
        node.reroute(theirs);
        node.post(now, out, Message::Membership);
        node.reconcile(now);
        Some(node)
    }

    /// Treats all entries as old, so that clones of this node compare them at once.
    pub fn settle_repair(&mut self) {
        self.repair.settle_all();
    }

    fn derived_seed(&self, seed: &[u8; 32], number: u8) -> [u8; 32] {
        crate::model::Digest::of_parts(&[seed, &[number]]).0
    }
}
