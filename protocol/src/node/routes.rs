//! The routing table of ingress: the replicas that answer, and their nodes.

use crate::desired::Workload;
use crate::model::Time;
use crate::model::{Claim, Digest, NodeId, Phase, WorkloadName};
use crate::workload::revision_at;

use super::Node;
use super::contract::{Route, Routes};
use super::planning_throttle::Work;

impl Node {
    /// Computes the routes of a workload anew, unless the throttle postpones it.
    pub(super) fn update_routes(&mut self, now: Time, name: &WorkloadName) {
        let demand = self.demand();
        let size =
            self.desired.workload(name).map(|workload| (workload.uid, demand.count(workload)));
        if size.is_some_and(|(uid, places)| {
            !self.planning.throttle.may_run(now, Work::Routes, uid, places)
        }) {
            return;
        }
        let found = self.desired.workload(name).map(|workload| self.routes_of(workload));
        let (version, routes) = &mut self.shown.routes;
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
        let mut found: Vec<Route> = self.believed(claims).into_iter().filter_map(route).collect();
        // During a replacement requests go to the new revision where it answers, else to the old.
        demand.with_view(workload, |view| {
            let is_current = |route: &Route| {
                let current = revision_at(&workload.spec, view, route.replica.place);
                current == Some(route.generation)
            };
            if found.iter().any(is_current) {
                found.retain(is_current);
            }
        });
        found
    }

    /// Without the claims of places that other nodes hold by better right: a member that claims
    /// what others run must not get their requests.
    fn believed<'a>(
        &self,
        claims: impl Iterator<Item = (NodeId, &'a Claim)>,
    ) -> Vec<(NodeId, &'a Claim)> {
        let claims: Vec<(NodeId, &Claim)> = claims.collect();
        let is_alone = claims.is_sorted_by(|one, next| one.1.replica != next.1.replica);
        if is_alone {
            return claims;
        }
        let counts =
            |(node, claim): &&(NodeId, &Claim)| claim.phase == Phase::Healthy && self.is_up(node);
        let plausible = |node: &NodeId, claim: &Claim| self.ownership.is_plausible(node, claim);
        let is_beaten = |node: NodeId, claim: &Claim| {
            node != self.me
                && !plausible(&node, claim)
                && claims.iter().filter(counts).any(|(other, theirs)| {
                    theirs.replica == claim.replica && plausible(other, theirs)
                })
        };
        claims.iter().filter(|(node, claim)| !is_beaten(*node, claim)).copied().collect()
    }

    /// The routes of these workloads may have changed.
    pub(super) fn reroute(&mut self, uids: impl IntoIterator<Item = Digest>) {
        for uid in uids {
            self.due.routes.extend(self.desired.by_uid(&uid).map(|workload| workload.name.clone()));
        }
    }

    /// The routing table and its version, which grows with each change.
    pub fn routes(&self) -> (u64, &Routes) {
        (self.shown.routes.0, &self.shown.routes.1)
    }
}
