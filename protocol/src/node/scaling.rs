//! Workloads whose number of replicas follows from their load: what nodes tell their owner, and
//! what the owner decides. The number is a ruling; `plan/autoscale.rs` computes it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::desired::Workload;
use crate::model::spec::Autoscale;
use crate::model::view::ScaleView;
use crate::model::{
    Digest, Lane, Load, NodeId, Place, Queue, ReplicaId, RulingBody, Time, WorkloadName,
};
use crate::plan::{Loads, Watched};
use crate::workload;

use super::events::About;
use super::message::{MAX_LOADS, Message};
use super::pending_sends::PendingSend;
use super::{Level, Node};

/// How often an owner decides.
const DECIDES: Duration = Duration::from_secs(5);
/// The age at which a load counts no more: nodes tell it every five seconds.
const FRESH: Duration = Duration::from_secs(16);
/// The pause between two wishes for one workload that a node passes on.
const WISHES: Duration = Duration::from_millis(100);

/// What this node knows of the load of workloads.
#[derive(Clone, Debug, Default)]
pub(super) struct Scaling {
    /// The workloads that this node owns; at most as many as there are.
    watched: BTreeMap<Digest, Watch>,
    /// When requests last found workloads asleep here; at most as many as there are.
    wished: BTreeMap<Digest, Time>,
}

#[derive(Clone, Debug)]
struct Watch {
    seen: Watched,
    /// By place, with the node that told it: at most as many as the workload may have.
    loads: BTreeMap<Place, (NodeId, Load, Time)>,
}

impl Watch {
    fn new(now: Time) -> Watch {
        Watch { seen: Watched::new(now), loads: BTreeMap::new() }
    }
}

impl Scaling {
    pub fn forget(&mut self, uid: &Digest) {
        self.watched.remove(uid);
        self.wished.remove(uid);
    }

    pub fn queues(&self, workloads: usize) -> Vec<Queue> {
        let samples = self.watched.values().map(|it| it.seen.len());
        let (most, bound) = samples.max().unwrap_or_default();
        let loads = self.watched.values().map(|it| it.loads.len()).max().unwrap_or(0);
        let replicas = crate::model::spec::MAX_REPLICAS as usize;
        vec![
            Queue::new("workloads whose load is watched", self.watched.len(), workloads),
            Queue::new("samples of the load of one", most, bound),
            Queue::new("loads of replicas of one", loads, replicas),
            Queue::new("workloads that requests wished for", self.wished.len(), workloads),
        ]
    }
}

impl Node {
    /// The replicas of this node whose load their owners want to know.
    pub fn measured(&self) -> Vec<(WorkloadName, ReplicaId, Digest)> {
        let claims = self.claims.mine();
        let of = |replica: &ReplicaId| {
            let workload = self.desired.by_uid(&replica.uid)?;
            workload.spec.later.autoscale.as_ref()?;
            Some((workload.name.clone(), *replica, self.serving(replica)?))
        };
        claims.filter_map(|claim| of(&claim.replica)).collect()
    }

    /// The loads of this node's replicas were measured: tells the owners of their workloads.
    pub(super) fn on_measured(&mut self, now: Time, loads: Vec<(ReplicaId, Load)>) {
        let mut by_owner: BTreeMap<NodeId, Vec<(ReplicaId, Load)>> = BTreeMap::new();
        for (replica, load) in loads {
            let Some(workload) = self.desired.by_uid(&replica.uid) else { continue };
            if let Some(owner) = self.owner(&workload.name) {
                by_owner.entry(owner).or_default().push((replica, load));
            }
        }
        for (owner, loads) in by_owner {
            if owner == self.me {
                self.on_loads(now, owner, loads);
                continue;
            }
            for loads in loads.chunks(MAX_LOADS) {
                let message = Message::Loads { loads: loads.to_vec() };
                self.deliver(now, owner, PendingSend { at: now, lane: Lane::Bulk, message });
            }
        }
    }

    /// The loads of a node's replicas.
    pub(super) fn on_loads(&mut self, now: Time, from: NodeId, loads: Vec<(ReplicaId, Load)>) {
        for (replica, load) in loads {
            let Some(workload) = self.desired.by_uid(&replica.uid) else { continue };
            let (uid, is_scaled) = (workload.uid, workload.spec.later.autoscale.is_some());
            let holds = self.claims.of(&replica).into_iter().any(|(node, _)| node == from);
            if is_scaled && holds && self.is_owner(&uid, &workload.name) {
                let watch = self.scaling.watched.entry(uid).or_insert_with(|| Watch::new(now));
                watch.loads.insert(replica.place, (from, load, now));
            }
        }
    }

    /// The owner decides how many replicas there are.
    pub(super) fn decide_scale(&mut self, now: Time, workload: &Workload) {
        let uid = workload.uid;
        let Some(scale) = workload.spec.later.autoscale.clone() else {
            self.scaling.forget(&uid);
            return self.keep_in_step(now, workload);
        };
        let replicas = self.demand().count(workload);
        let places = self.demand().places(workload);
        let watch = self.scaling.watched.entry(uid).or_insert_with(|| Watch::new(now));
        watch
            .loads
            .retain(|place, (_, _, at)| now.since(*at) < FRESH && places.contains_key(place));
        self.plan_again(now + DECIDES, uid);
        // Only a request ends its sleep.
        if replicas == 0 {
            return;
        }
        let held: BTreeSet<Place> = self
            .claims
            .of_workload(&uid)
            .into_iter()
            .filter(|(node, _)| self.is_up(node))
            .map(|(_, claim)| claim.replica.place)
            .collect();
        let free = places.keys().filter(|place| !held.contains(place)).count();
        let free = u32::try_from(free).unwrap_or(u32::MAX);
        let Some(watch) = self.scaling.watched.get_mut(&uid) else { return };
        let known: Vec<Load> = watch.loads.values().map(|(_, load, _)| *load).collect();
        let reserved = workload.spec.reservation();
        let loads = Loads { reserved, replicas, free, known: &known };
        if let Some((next, why)) = watch.seen.next(&scale, &loads, now) {
            self.rule_scale(now, workload, (replicas, next), &why);
        }
    }

    /// A workload that is scaled by load no more has the number that its spec says. The ruling
    /// follows, so that it begins with that number when it is scaled by load again.
    fn keep_in_step(&mut self, now: Time, workload: &Workload) {
        let ruled = self.demand().with_view(workload, workload::ruled_replicas);
        let replicas = workload.spec.kind.replicas();
        if let (Some(_), Some(replicas)) = (ruled.filter(|it| Some(*it) != replicas), replicas) {
            self.rule_replicas(now, workload, replicas);
        }
    }

    fn rule_replicas(&mut self, now: Time, workload: &Workload, replicas: u32) -> bool {
        let body = RulingBody::Autoscale { replicas };
        self.rule_next(now, workload.uid, workload::NO_GENERATION, 0, body)
    }

    fn rule_scale(&mut self, now: Time, workload: &Workload, (from, to): (u32, u32), why: &str) {
        if self.rule_replicas(now, workload, to) {
            let message = format!("from {from} to {to} replicas: {why}");
            self.emit_of(now, Level::Info, "scaled", About::workload(&workload.name), message);
        }
    }

    /// A request came to this node for a workload without a replica: if that sleeps, its owner is
    /// to wake it.
    pub(super) fn on_wished(&mut self, now: Time, name: &WorkloadName) {
        let Some(workload) = self.desired.workload(name) else { return };
        let uid = workload.uid;
        if !self.sleeps(workload) {
            return;
        }
        if self.scaling.wished.get(&uid).is_some_and(|at| now.since(*at) < WISHES) {
            return;
        }
        let desired = &self.desired;
        self.scaling.wished.retain(|uid, _| desired.is_living(uid));
        self.scaling.wished.insert(uid, now);
        match self.owner(name) {
            Some(owner) if owner == self.me => self.on_wake(now, &uid),
            Some(owner) => {
                let message = Message::Wake { uid };
                self.deliver(now, owner, PendingSend { at: now, lane: Lane::Urgent, message });
            }
            None => {}
        }
    }

    /// A node has a request for a workload that sleeps.
    pub(super) fn on_wake(&mut self, now: Time, uid: &Digest) {
        let Some(workload) = self.desired.by_uid(uid).cloned() else { return };
        if !self.is_owner(uid, &workload.name) || !self.may_plan() || !self.sleeps(&workload) {
            return;
        }
        // It is idle from now on at the earliest.
        self.scaling.watched.insert(*uid, Watch::new(now));
        self.rule_scale(now, &workload, (0, 1), "a request came");
    }

    /// Whether it has no replica until a request comes.
    fn sleeps(&self, workload: &Workload) -> bool {
        let may_sleep = |scale: &Autoscale| scale.min == 0;
        workload.spec.later.autoscale.as_ref().is_some_and(may_sleep)
            && self.demand().count(workload) == 0
    }

    /// How a workload is scaled, for people.
    pub(super) fn scale_view(&self, workload: &Workload) -> Option<ScaleView> {
        let scale = workload.spec.later.autoscale.as_ref()?;
        let (min, max) = (scale.min, scale.max);
        Some(ScaleView { min, max, sleeps: self.sleeps(workload) })
    }
}
