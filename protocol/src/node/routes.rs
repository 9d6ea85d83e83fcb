//! The routing table of ingress: the replicas that answer, and their nodes.

use std::collections::{BTreeMap, BTreeSet};

use crate::desired::Workload;
use crate::model::{Claim, Digest, NodeId, Phase, Place, Revision, Time, WorkloadName};
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
        // Of one place requests go to the revision that belongs there where it answers, else to
        // the one before: in an update those that have not had their turn serve as well. A place
        // that is no more gets none while others answer.
        demand.with_view(workload, |view| {
            let wanted: BTreeMap<Place, Option<Revision>> = found
                .iter()
                .map(|route| route.replica.place)
                .map(|place| (place, revision_at(&workload.spec, view, place)))
                .collect();
            let is_current =
                |route: &&Route| wanted.get(&route.replica.place) == Some(&Some(route.generation));
            let served: BTreeSet<Place> =
                found.iter().filter(is_current).map(|route| route.replica.place).collect();
            let any_wanted = wanted.values().any(Option::is_some);
            found.retain(|route| {
                let place = &route.replica.place;
                let exists = wanted.get(place).is_some_and(Option::is_some);
                (exists || !any_wanted) && (is_current(&route) || !served.contains(place))
            });
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
