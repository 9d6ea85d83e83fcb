//! The routing table as requests use it: what a request to a workload needs is made once per change
//! of the workload's routes, and shared by all requests until the next one.

use std::collections::BTreeMap;
use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderValue;
use shoal_protocol::model::{ReplicaName, WorkloadName};
use shoal_protocol::node::{Route, Routes};
use shoal_runtimes::InstanceId;
use tokio::sync::watch;

use super::meter::{Meter, Meters};
use crate::executor::instance_id;

/// Finds replicas for requests.
pub(super) struct Table {
    routes: watch::Receiver<Arc<Routes>>,
    /// Made for workloads that were requested; at most as many as have routes.
    made: Mutex<BTreeMap<WorkloadName, Arc<Targets>>>,
    turn: AtomicUsize,
    meters: Arc<Meters>,
}

/// The replicas of a workload in the order of preference: local ones, then those on nodes that are
/// reached directly, then the rest.
struct Targets {
    /// The routes that these were made from.
    routes: Arc<[Route]>,
    all: Box<[Target]>,
    groups: [Range<usize>; 3],
}

/// A replica that a request can go to.
pub(super) struct Target {
    pub route: Route,
    /// For a replica on this node.
    pub local: Option<Local>,
}

/// A replica on this node, by the names that each request to it needs.
pub(super) struct Local {
    pub instance: InstanceId,
    /// The replica's name.
    pub replica: HeaderValue,
    /// Counts its requests.
    pub meter: Arc<Meter>,
}

/// A target that a request was given.
#[derive(Clone)]
pub(super) struct Choice {
    targets: Arc<Targets>,
    at: usize,
}

impl Table {
    pub(super) fn new(routes: watch::Receiver<Arc<Routes>>) -> Self {
        let (made, turn, meters) = (Mutex::default(), AtomicUsize::new(0), Arc::default());
        Table { routes, made, turn, meters }
    }

    /// The meters of local replicas.
    pub(super) fn meters(&self) -> Arc<Meters> {
        self.meters.clone()
    }

    /// The routes, for callers that wait for a change.
    pub(super) fn routes(&self) -> watch::Receiver<Arc<Routes>> {
        self.routes.clone()
    }

    /// The first replica in the order of preference that `is_wanted`; round robin within each
    /// group.
    pub(super) fn find(
        &self,
        name: &WorkloadName,
        local_only: bool,
        is_wanted: impl Fn(&Route) -> bool,
    ) -> Option<Choice> {
        let targets = self.targets(name)?;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let at = targets.order(turn, local_only).find(|at| is_wanted(&targets.all[*at].route))?;
        Some(Choice { targets, at })
    }

    fn targets(&self, name: &WorkloadName) -> Option<Arc<Targets>> {
        let table = self.routes.borrow().clone();
        let routes = table.get(name);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(routes) = routes else {
            made.remove(name);
            return None;
        };
        if let Some(targets) = made.get(name).filter(|made| Arc::ptr_eq(&made.routes, routes)) {
            return Some(targets.clone());
        }
        let targets = Arc::new(Targets::new(name, routes.clone(), &self.meters));
        made.insert(name.clone(), targets.clone());
        if made.len() > table.len() {
            made.retain(|name, _| table.contains_key(name));
        }
        Some(targets)
    }
}

impl Targets {
    fn new(name: &WorkloadName, routes: Arc<[Route]>, meters: &Meters) -> Self {
        let group = |route: &Route| match (route.local, route.direct) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => 2,
        };
        let mut sorted: Vec<&Route> = routes.iter().collect();
        sorted.sort_by_key(|route| group(route));
        let direct = sorted.partition_point(|route| group(route) < 1);
        let indirect = sorted.partition_point(|route| group(route) < 2);
        let groups = [0..direct, direct..indirect, indirect..sorted.len()];
        let all = sorted.into_iter().map(|route| Target::new(name, route, meters)).collect();
        Targets { routes, all, groups }
    }

    /// Indices in the order of preference, each group beginning with another one each turn.
    fn order(&self, turn: usize, local_only: bool) -> impl Iterator<Item = usize> {
        let groups = self.groups.iter().take(if local_only { 1 } else { self.groups.len() });
        groups.flat_map(move |group| {
            let by = turn.checked_rem(group.len()).unwrap_or_default();
            (group.start + by..group.end).chain(group.start..group.start + by)
        })
    }
}

impl Target {
    fn new(name: &WorkloadName, route: &Route, meters: &Meters) -> Self {
        let local = route.local.then(|| {
            let replica = ReplicaName { workload: name.clone(), place: route.replica.place };
            let instance = instance_id(name, &route.replica, &route.generation);
            Local {
                meter: meters.of(&instance),
                instance,
                replica: HeaderValue::try_from(replica.to_string())
                    .expect("labels, slashes and digits are visible ASCII"),
            }
        });
        Target { route: route.clone(), local }
    }
}

impl Deref for Choice {
    type Target = Target;

    fn deref(&self) -> &Target {
        &self.targets.all[self.at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::{NODE, OTHER, replica};
    use shoal_protocol::model::{Digest, NodeId};

    fn route(index: u32, node: NodeId, direct: bool) -> Route {
        let generation = Digest([1; 32]);
        Route { replica: replica(index), generation, node, local: node == NODE, direct }
    }

    fn name(text: &str) -> WorkloadName {
        text.parse().unwrap()
    }

    fn table() -> (watch::Sender<Arc<Routes>>, Table) {
        let (sender, receiver) = watch::channel(Arc::default());
        (sender, Table::new(receiver))
    }

    /// Replaces the routes of one workload and leaves those of the others as they are.
    fn set(sender: &watch::Sender<Arc<Routes>>, workload: &str, routes: &[Route]) {
        sender.send_modify(|table| {
            let mut changed = Routes::clone(table);
            changed.insert(name(workload), routes.into());
            *table = Arc::new(changed);
        });
    }

    /// Each request copied the routes of its workload, and formatted the instance's id anew.
    #[test]
    fn requests_share_targets_until_the_routes_change() {
        let (sender, table) = table();
        set(&sender, "web", &[route(0, NODE, true)]);
        let find = || table.find(&name("web"), true, |_| true).unwrap();
        let (first, second) = (find(), find());
        assert!(Arc::ptr_eq(&first.targets, &second.targets));
        set(&sender, "other", &[route(0, NODE, true)]);
        assert!(Arc::ptr_eq(&first.targets, &find().targets), "another workload has changed");
        set(&sender, "web", &[route(1, NODE, true)]);
        assert_eq!(find().route.replica, replica(1));
        assert_eq!(find().local.as_ref().unwrap().replica, "web/1");
    }

    #[test]
    fn targets_of_removed_workloads_are_dropped() {
        let (sender, table) = table();
        for workload in ["a", "b", "c"] {
            set(&sender, workload, &[route(0, NODE, true)]);
            assert!(table.find(&name(workload), true, |_| true).is_some());
        }
        sender.send_replace(Arc::default());
        assert!(table.find(&name("a"), true, |_| true).is_none());
        set(&sender, "d", &[route(0, NODE, true)]);
        assert!(table.find(&name("d"), true, |_| true).is_some());
        assert_eq!(table.made.lock().unwrap().len(), 1);
    }

    /// Local replicas come first, then direct ones, then those over a hop, and each of a group is
    /// the first one in its turn.
    #[test]
    fn groups_come_in_order_and_each_takes_turns() {
        let (sender, table) = table();
        let routes = [
            route(0, OTHER, false),
            route(1, NODE, true),
            route(2, OTHER, true),
            route(3, NODE, true),
            route(4, OTHER, true),
        ];
        set(&sender, "web", &routes);
        let targets = table.targets(&name("web")).unwrap();
        let order = |turn, local_only| {
            let at = targets.order(turn, local_only);
            at.map(|at| targets.all[at].route.replica).collect::<Vec<_>>()
        };
        assert_eq!(order(0, false), [1, 3, 2, 4, 0].map(replica));
        assert_eq!(order(1, false), [3, 1, 4, 2, 0].map(replica));
        assert_eq!(order(2, true), [1, 3].map(replica));
    }
}
