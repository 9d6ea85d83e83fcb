//! The places that should exist and the steps they need, as this node sees them: the rooms that
//! decide it, read together. The owner, the holder, the bidder and the views all ask here.

use std::collections::{BTreeMap, BTreeSet};

use crate::claims::{Claims, Credit};
use crate::desired::{Desired, Workload};
use crate::membership::{Membership, State};
use crate::model::ruling::{JobResult, Outcome};
use crate::model::spec::{After, Kind, OnLoss, Until};
use crate::model::{
    Change, Claim, Key, NodeId, Phase, Place, ReplicaId, Revision, Ruling, Time, View, WallClock,
    WorkloadName,
};
use crate::plan::{
    Free, Holder, Home, NodeState, Step, Surplus, Wanted, bind, bind_to_node, end_in_order,
    in_order, plan, plan_place,
};
use crate::rulings::Rulings;
use crate::workload;

use super::Node;
use super::ownership::Ownership;
use super::sight::Sight;

/// The rooms that decide which places exist, and which revision belongs in each.
#[derive(Clone, Copy)]
pub(super) struct Demand<'a> {
    pub desired: &'a Desired,
    pub rulings: &'a Rulings,
    pub sight: Sight<'a>,
}

/// The demand, and the claims and nodes that meet it.
#[derive(Clone, Copy)]
pub(super) struct Outlook<'a> {
    pub demand: Demand<'a>,
    pub me: NodeId,
    pub now: Time,
    /// The device's clock at `now`.
    pub wall: WallClock,
    pub claims: &'a Claims,
    pub membership: &'a Membership,
    pub ownership: &'a Ownership,
    pub sight: Sight<'a>,
    /// This node is ready: a workload that it does not know was removed, and is not merely unheard
    /// of.
    pub is_ready: bool,
}

impl Node {
    pub(super) fn demand(&self) -> Demand<'_> {
        Demand { desired: &self.desired, rulings: &self.rulings, sight: self.sight() }
    }

    pub(super) fn outlook(&self, now: Time) -> Outlook<'_> {
        Outlook {
            demand: self.demand(),
            me: self.me,
            now,
            wall: self.wall(now),
            claims: &self.claims,
            membership: &self.membership,
            ownership: &self.ownership,
            sight: self.sight(),
            is_ready: self.readiness.is_ready(),
        }
    }
}

impl Demand<'_> {
    /// The places of a workload, each with the revision that belongs there.
    pub fn places(&self, workload: &Workload) -> BTreeMap<Place, Revision> {
        self.with_view(workload, |view| workload::places(&workload.spec, view))
    }

    /// Whether a node is on the roster.
    fn is_member(&self, node: &NodeId) -> bool {
        self.desired.members().contains_key(node)
    }

    /// The number of a workload's places.
    pub fn count(&self, workload: &Workload) -> u32 {
        self.with_view(workload, |view| workload::count(&workload.spec, view))
    }

    /// The revision that belongs in the place of a replica.
    pub fn revision(&self, replica: &ReplicaId) -> Option<Revision> {
        let workload = self.desired.by_uid(&replica.uid)?;
        self.with_view(workload, |view| workload::revision_at(&workload.spec, view, replica.place))
    }

    /// Whether it is the turn of a replica's place to get the revision that belongs there.
    fn is_due(&self, replica: &ReplicaId) -> bool {
        let Some(workload) = self.desired.by_uid(&replica.uid) else { return true };
        self.with_view(workload, |view| workload::is_due(&workload.spec, view, replica.place))
    }

    fn wanted_of(&self, workload: &Workload, place: Place) -> Wanted {
        self.with_view(workload, |view| match workload::revision_at(&workload.spec, view, place) {
            Some(revision) => Wanted::Revision(revision),
            None => Wanted::NoSuchPlace { places: workload::count(&workload.spec, view) },
        })
    }

    pub fn with_view<T>(&self, workload: &Workload, work: impl FnOnce(&View<'_>) -> T) -> T {
        let rulings: Vec<&Ruling> =
            self.rulings.of(&workload.uid).map(|ruling| ruling.body()).collect();
        work(&View {
            members: self.desired.members(),
            suits: &|node| {
                self.sight.suits(node, &workload.spec)
                    && self.desired.takes(node, &workload.spec).is_ok()
            },
            rulings: &rulings,
            versions: workload.versions,
        })
    }

    /// Whether a job has indices to run, and whether one of them failed; none for other kinds.
    pub fn job(&self, workload: &Workload) -> Option<(bool, bool)> {
        let Kind::Job(_) = workload.spec.kind else { return None };
        let generation = workload::generation_of(&workload.spec);
        Some(self.with_view(workload, |view| {
            let failed = |(_, _, it): (u64, u32, &JobResult)| it.outcome != Outcome::Done;
            let is_open = !workload::runs(&workload.spec, view).is_empty();
            (is_open, workload::results(generation, view).any(failed))
        }))
    }

    fn is_newer_form(&self, uid: &crate::model::Digest) -> bool {
        self.desired.opaque().any(|(_, opaque)| opaque == *uid)
    }
}

impl Outlook<'_> {
    /// The revision that belongs in the place of a replica, if any. `None` while this node cannot
    /// tell: it is not ready and does not know the workload, or the spec is in a newer form.
    pub fn wanted(&self, replica: &ReplicaId) -> Option<Wanted> {
        let Demand { desired, .. } = self.demand;
        if let Some(workload) = desired.by_uid(&replica.uid) {
            return Some(self.demand.wanted_of(workload, replica.place));
        }
        let name = &self.claims.my_claim(replica)?.name;
        match desired.effective(&Key::Workload(name.clone())).map(Change::uid) {
            Some(uid) if uid == replica.uid && self.demand.is_newer_form(&uid) => None,
            Some(_) => Some(Wanted::Removed),
            None => self.is_ready.then_some(Wanted::Removed),
        }
    }

    /// All steps that a workload needs, by place.
    pub fn steps(&self, workload: &Workload) -> Vec<Step> {
        let claims = self.claims.of_workload(&workload.uid);
        let holds = |at: usize| claims.get(at).map(|(_, claim)| claim.replica);
        // Claims are ordered by place. The keeper is computed only for places with several holders,
        // which are rare.
        let is_alone = |at: usize| {
            holds(at) != at.checked_sub(1).and_then(holds) && holds(at) != holds(at + 1)
        };
        let due =
            self.demand.with_view(workload, |view| workload::due_places(&workload.spec, view));
        let holders: Vec<Holder> = claims
            .iter()
            .enumerate()
            .map(|(at, (node, claim))| {
                let place = claim.replica.place;
                let is_due = due.as_ref().is_none_or(|due| due.contains(&place));
                self.holder(*node, claim, is_alone(at), is_due)
            })
            .collect();
        // Those of claims stand in the holders.
        let seen =
            |place: Place| self.claims.token_of_gone(&ReplicaId { uid: workload.uid, place });
        let places = self.demand.places(workload);
        let steps = self.bound(workload, None, plan(&places, &holders, &seen));
        let steps = match workload.spec.kind.is_ordered() {
            true => in_order(steps, places.into_keys(), &holders),
            false => steps,
        };
        match holders.is_empty() {
            true => self.behind_others(workload, steps),
            false => steps,
        }
    }

    /// The steps of a workload that nobody holds. Places that nobody ever held wait until the
    /// workloads that it names are as far as it says.
    fn behind_others(&self, workload: &Workload, steps: Vec<Step>) -> Vec<Step> {
        let Some(after) = workload.spec.later.after.iter().find(|it| !self.is_met(workload, it))
        else {
            return steps;
        };
        let waits = |step| match step {
            Step::Auction { place, why: Free::NeverPlaced, .. } => {
                Step::Await { place, after: after.clone() }
            }
            step => step,
        };
        steps.into_iter().map(waits).collect()
    }

    /// Whether a workload that another one waits for is there, and far enough.
    fn is_met(&self, workload: &Workload, after: &After) -> bool {
        let namespace = workload.name.namespace.clone();
        let name = WorkloadName { namespace, name: after.workload.clone() };
        let Some(other) = self.demand.desired.workload(&name) else { return false };
        let claims = self.claims.of_workload(&other.uid);
        let mut up = claims.iter().filter(|(node, _)| self.is_up(node)).map(|(_, claim)| *claim);
        match after.until {
            Until::Started => up.any(|claim| claim.phase.runs()),
            Until::Ready => {
                let ready: BTreeSet<Place> = up
                    .filter(|claim| claim.phase == Phase::Healthy)
                    .map(|claim| claim.replica.place)
                    .collect();
                self.demand.places(other).keys().all(|place| ready.contains(place))
            }
            Until::Done => self.demand.job(other) == Some((false, false)),
        }
    }

    /// The steps that one place needs, with respect to all holders. Whether its turn to be started
    /// has come is the owner's to see, in [`Self::steps`].
    pub fn steps_at(&self, replica: &ReplicaId, wanted: Wanted) -> Vec<Step> {
        let claims = self.claims.of(replica);
        let (is_alone, is_due) = (claims.len() < 2, self.demand.is_due(replica));
        let holders: Vec<Holder> = claims
            .iter()
            .map(|(node, claim)| self.holder(*node, claim, is_alone, is_due))
            .collect();
        let seen = |_| self.claims.highest_token(replica);
        let steps = plan_place(replica.place, wanted, &holders, &seen);
        match self.demand.desired.by_uid(&replica.uid) {
            Some(workload) => self.bound(workload, Some(replica.place), steps),
            None => steps,
        }
    }

    /// The steps of a workload whose volumes are where they are.
    fn bound(&self, workload: &Workload, only: Option<Place>, steps: Vec<Step>) -> Vec<Step> {
        if workload.spec.kind == Kind::Daemon {
            let bound = |step: Step| match step.place() {
                Place::OnNode(node) => {
                    bind_to_node(step, node, self.state_of(&node), self.is_at_work(&node))
                }
                Place::Ordinal(_) | Place::Run { .. } => step,
            };
            return steps.into_iter().map(bound).collect();
        }
        if workload.spec.kept().next().is_none() {
            return steps;
        }
        let homes = self.homes(workload, only);
        // Data that may be lost is worth no waiting only if that is so of all of it.
        let may_be_empty = workload.spec.kept().all(|volume| volume.on_loss == OnLoss::Empty);
        let bound = |step: Step| {
            let home = homes.get(&step.place().of_volumes()).cloned();
            let home = home.map(|home| {
                let state = self.state_of(&home.node);
                (home, state)
            });
            bind(step, home, may_be_empty)
        };
        steps.into_iter().map(bound).collect()
    }

    /// The latest home of each place of a workload with volumes, or of one place, by
    /// [`Place::of_volumes`]: by the records of members, and by the claims of nodes that are down,
    /// which may have made the volumes.
    fn homes(&self, workload: &Workload, only: Option<Place>) -> BTreeMap<Place, Home> {
        let spec = &workload.spec;
        let names = || spec.kept().map(|volume| volume.name.as_str());
        let mut homes: BTreeMap<Place, Home> = BTreeMap::new();
        let mut note = |place: Place, home: Home| {
            if only.is_none_or(|only| only.of_volumes() == place)
                && self.demand.is_member(&home.node)
            {
                let latest = homes.entry(place).or_insert_with(|| home.clone());
                *latest = home.max(latest.clone());
            }
        };
        for (node, record) in self.membership.records() {
            for volume in record.facts.volumes.iter().filter(|it| it.workload == workload.name) {
                let is_wanted = names().any(|name| name == volume.name.as_str());
                if let Some(place) = volume.place().filter(|_| is_wanted) {
                    let (counter, volume) = (volume.counter, volume.name.to_string());
                    note(place, Home { counter, node, volume });
                }
            }
        }
        let first = names().next().unwrap_or_default();
        for (node, claim) in self.claims.of_workload(&workload.uid) {
            if !self.state_of(&node).counts() {
                let (counter, volume) = (claim.token.counter, first.to_owned());
                note(claim.replica.place.of_volumes(), Home { counter, node, volume });
            }
        }
        homes
    }

    /// Whether all places of a workload but this one are ready.
    pub fn others_are_ready(&self, workload: &Workload, replica: &ReplicaId) -> bool {
        let claims = self.claims.of_workload(&workload.uid).into_iter();
        let ready: BTreeSet<Place> = claims
            .filter(|(node, claim)| self.is_up(node) && claim.phase == Phase::Healthy)
            .map(|(_, claim)| claim.replica.place)
            .collect();
        let mut others = self.demand.places(workload).into_keys();
        others.all(|place| place == replica.place || ready.contains(&place))
    }

    /// The step that this node's own claim of a replica needs, whatever others claim.
    pub fn own_step(&self, replica: &ReplicaId) -> Option<Step> {
        let wanted = self.wanted(replica)?;
        let is_due = self.demand.is_due(replica);
        let holder = self.holder(self.me, self.claims.my_claim(replica)?, true, is_due);
        let step = plan_place(replica.place, wanted, &[holder], &|_| None).pop()?;
        let workload = self.demand.desired.by_uid(&replica.uid);
        let is_ordered = workload.is_some_and(|it| it.spec.kind.is_ordered());
        Some(match &step {
            Step::Stop { why: Surplus::NoSuchPlace { .. }, .. } if is_ordered => {
                let counts = |node: &NodeId| self.state_of(node).counts();
                end_in_order(step, self.claims.last_place(&replica.uid, counts))
            }
            _ => step,
        })
    }

    /// Whether a place of a known workload lacks a healthy replica, and this node may run it.
    pub fn is_open(&self, replica: &ReplicaId) -> bool {
        let Some(workload) = self.demand.desired.by_uid(&replica.uid) else { return false };
        match self.demand.wanted_of(workload, replica.place) {
            wanted @ Wanted::Revision(_) => {
                let steps = self.steps_at(replica, wanted);
                steps.iter().any(|step| step.is_unhealthy() || step.is_move())
                    && steps.iter().all(|step| step.may_run_at(&self.me))
            }
            Wanted::NoSuchPlace { .. } | Wanted::Removed => false,
        }
    }

    /// Whether a node is up. This node always is.
    pub fn is_up(&self, node: &NodeId) -> bool {
        self.membership.is_up(node)
    }

    /// Whether a node takes awards: one that has just started does not yet.
    fn is_at_work(&self, node: &NodeId) -> bool {
        *node == self.me || self.membership.record(node).is_some_and(|record| record.ready)
    }

    fn holder(&self, node: NodeId, claim: &Claim, is_alone: bool, due: bool) -> Holder {
        Holder {
            place: claim.replica.place,
            node,
            token: claim.token,
            revision: claim.generation,
            phase: claim.phase.clone(),
            update: claim.update.clone(),
            state: self.state_of(&node),
            leaves: self.sight.leaves(&node, claim),
            due,
            yields_to: if is_alone { None } else { self.yields_to(&claim.replica, node) },
        }
    }

    fn yields_to(&self, replica: &ReplicaId, holder: NodeId) -> Option<NodeId> {
        let up = |node: &NodeId| self.is_up(node);
        let credit = Credit {
            plausible: &|node, claim| self.ownership.is_plausible(node, claim),
            knows: &|node, replica| self.sight.knows(node, replica),
            needs: &|claim| self.sight.needs(claim),
            offers: &|node, claimed| self.sight.offers(node, claimed),
            leaves: &|node, claim| self.sight.leaves(node, claim).is_some(),
        };
        let wanted = self.demand.revision(replica);
        let kept = self.claims.keeper_of(replica, &up, wanted.as_ref(), credit);
        kept.map(|keeper| keeper.node).filter(|node| *node != holder)
    }

    fn state_of(&self, node: &NodeId) -> NodeState {
        if *node == self.me {
            return NodeState::Up;
        }
        if !self.demand.desired.members().contains_key(node) {
            return NodeState::Left;
        }
        match self.membership.state(node) {
            State::Up => NodeState::Up,
            State::BackBy(until) => {
                let ahead = u64::try_from(until.since(self.now).as_millis()).unwrap_or(u64::MAX);
                NodeState::BackBy { until: WallClock(self.wall.0.saturating_add(ahead)) }
            }
            State::Down => {
                NodeState::Down { evidence: self.membership.why_down(node).unwrap_or_default() }
            }
            State::Unknown if !self.membership.settled() => NodeState::Grace,
            State::Unknown => {
                NodeState::Down { evidence: "not heard of since this node started".into() }
            }
        }
    }
}
