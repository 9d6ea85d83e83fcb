//! Planning of the workloads that this node owns: finding gaps, and closing them by auction.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;

use crate::auction::{Excluded, Offer, OfferPlace};
use crate::desired::Workload;
use crate::model::claim::short_reason;
use crate::model::{
    Digest, NodeId, Place, RawChange, ReplicaId, Revision, Time, Unfit, WallClock, WorkloadName,
};
use crate::plan::{Free, Home, Step};

use super::contract::Verdict;
use super::events::About;
use super::planning_throttle::{PlanningThrottle, Work};
use super::updates::SeenUpdate;
use super::{Level, Node};

/// Guardians of a workload: the owner, and the two nodes that own it next if it dies.
pub(super) const GUARDIANS: usize = 3;
/// The longest time that the plan of a workload which a comparison brought waits for its claims.
const DEFER_AT_MOST: Duration = Duration::from_secs(3);
/// The pause before a place is planned again if a bidder answered that it holds it, but its claim
/// is not known here: the time of a comparison.
pub(super) const HELD_RETRY: Duration = Duration::from_secs(1);
/// The pause before a workload is planned again whose places wait for the node that keeps their
/// data: news of the node do not wait for it.
const HOME_RETRY: Duration = Duration::from_secs(10);
/// The pause before a workload is planned again if this node had as many auctions open as it may.
pub(super) const FULL_RETRY: Duration = Duration::from_millis(200);

/// A workload that waits for room is tried so long after some was freed: programs take a moment to
/// stop, and many replicas mostly go at once.
const WOKEN_AFTER: Duration = Duration::from_secs(1);

/// Workloads that one change of a node's claims wakes.
const WOKEN: usize = 64;

/// Pending plans of the workloads that this node owns.
#[derive(Clone, Debug, Default)]
pub(super) struct Planning {
    /// Workloads to plan again at a time. At most as many as there are.
    pub again: BTreeMap<Digest, Time>,
    /// Limits how often large workloads are planned.
    pub throttle: PlanningThrottle,
    /// Deferred plans: workloads that a comparison brought, with the peer and the time until which
    /// the plan waits for that peer's claims. At most as many as there are.
    pub deferred: BTreeMap<Digest, (NodeId, Time)>,
    /// Updates that this node leads, by workload, as it saw them. At most as many as there are.
    pub updates: BTreeMap<Digest, SeenUpdate>,
    /// Workloads that others wait for, with those. At most 32 for each workload of this owner.
    pub awaited: BTreeMap<WorkloadName, BTreeSet<Digest>>,
    /// When this node looks again whether replicas are better off on other nodes.
    pub balance_at: Option<Time>,
}

/// The node that places are bound to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Bound {
    /// None: any that fits.
    None,
    /// The node of a daemon's place, or the one that a place moves to.
    Node(NodeId),
    /// The node that keeps their data.
    Home(Home),
    /// Any but this one, which has no place for them.
    NotOn(NodeId),
}

impl Node {
    /// Plans every dirty workload that this node owns.
    pub(super) fn plan(&mut self, now: Time) {
        if !self.may_plan() {
            return;
        }
        self.plan_looks(now);
        for uid in std::mem::take(&mut self.due.dirty) {
            let Some(workload) = self.desired.by_uid(&uid).cloned() else { continue };
            self.due
                .dirty
                .extend(self.planning.awaited.remove(&workload.name).into_iter().flatten());
            if !self.is_owner(&uid, &workload.name) {
                // Another node owns it now, and plans it.
                self.planning.again.remove(&uid);
                self.planning.updates.remove(&uid);
                self.scaling.forget(&uid);
                self.close_auctions(now, &uid);
            } else if let Some(until) = self.is_deferred(now, &uid) {
                self.plan_again(until, uid);
            } else {
                let places = self.demand().count(&workload);
                if self.planning.throttle.may_run(now, Work::Plan, uid, places) {
                    self.decide_runs(now, &workload);
                    self.decide_rollout(now, &workload);
                    self.decide_scale(now, &workload);
                    // After a roll-back it is to run another spec.
                    if let Some(workload) = self.desired.by_uid(&uid).cloned() {
                        self.auction_free_places(now, &workload);
                    }
                }
            }
        }
    }

    pub(super) fn close_auctions(&mut self, now: Time, uid: &Digest) {
        if self.auction.holds_auctions_of(uid) {
            self.with_auction(now, |auction, now, context, out| {
                auction.close_all_for(now, uid, context, out)
            });
        }
    }

    pub(super) fn may_plan(&self) -> bool {
        self.admitted()
            && self.membership.settled()
            && self.readiness.may_plan(|| self.is_in_step())
    }

    /// A comparison brought a change. The claims of its new places come from the same peer a moment
    /// later: a plan before then would place them a second time.
    pub(super) fn on_compared(&mut self, now: Time, from: NodeId, raw: RawChange) -> Verdict {
        let uid = raw.change.peek().ok().map(|body| body.uid.unwrap_or_else(|| raw.change.hash()));
        let Some(uid) = uid else { return self.on_changed(now, from, raw, None) };
        let places =
            |node: &Node| node.desired.by_uid(&uid).map_or(0, |it| node.demand().count(it));
        let before = places(self);
        let verdict = self.on_changed(now, from, raw, None);
        if places(self) > before {
            self.planning.deferred.insert(uid, (from, now + DEFER_AT_MOST));
        }
        verdict
    }

    /// The time until which the plan of a workload waits for claims.
    fn is_deferred(&mut self, now: Time, uid: &Digest) -> Option<Time> {
        let (_, until) = *self.planning.deferred.get(uid)?;
        if until <= now {
            self.planning.deferred.remove(uid);
        }
        (until > now).then_some(until)
    }

    /// This node is in step with a peer, so it has the peer's claims: plans that waited for them go
    /// on.
    pub(super) fn resume_deferred(&mut self, peer: &NodeId) {
        let resumed = self.planning.deferred.extract_if(.., |_, (from, _)| from == peer);
        self.due.dirty.extend(resumed.map(|(uid, _)| uid));
    }

    /// Whether a node is up. This node always is.
    pub(super) fn is_up(&self, node: &NodeId) -> bool {
        self.membership.is_up(node)
    }

    /// Owner: auctions the free places of a workload.
    fn auction_free_places(&mut self, now: Time, workload: &Workload) {
        let uid = workload.uid;
        let mut open: BTreeMap<ReplicaId, Time> = BTreeMap::new();
        for award in self.auction.open_awards(&uid) {
            let until = open.entry(award.replica).or_default();
            *until = award.until.max(*until);
        }
        let mut free: BTreeMap<(Revision, Bound), Vec<OfferPlace>> = BTreeMap::new();
        let mut count = 0;
        let room = self.auction.room();
        let allowed = self.desired.over_quota(workload).map(|over| over.allowed);
        for step in self.outlook(now).steps(workload) {
            let (place, revision, counter, why, home) = match step {
                Step::Auction { place, revision, counter, why, home } => {
                    (place, revision, counter, why, home)
                }
                Step::Wait { why, .. } if why.is_for_node() => {
                    // A node that returns, or leaves for good, ends the wait at once.
                    self.plan_again(now + HOME_RETRY, uid);
                    continue;
                }
                Step::Await { after, .. } => {
                    let namespace = workload.name.namespace.clone();
                    let name = WorkloadName { namespace, name: after.workload };
                    self.planning.awaited.entry(name).or_default().insert(uid);
                    continue;
                }
                Step::Wait { .. }
                | Step::Queue { .. }
                | Step::Replace { .. }
                | Step::Stop { .. } => continue,
            };
            // Beyond the quota: it waits until its namespace has room.
            if !is_within(allowed, place) {
                continue;
            }
            if count >= room {
                // The other places are auctioned as claims come in, or a little later if none come.
                self.plan_again(now + FULL_RETRY, uid);
                break;
            }
            let replica = ReplicaId { uid, place };
            if self.auction.is_under_way(&replica) {
                continue;
            }
            // It was awarded a moment ago, perhaps by another owner: the winner's sheet is about to
            // show the claim.
            if let Some(until) = open.get(&replica).copied().filter(|until| *until > now) {
                self.plan_again(until, uid);
                continue;
            }
            if let Err(at) = self.may_auction(now, &why) {
                self.plan_again(at, uid);
                break;
            }
            let elsewhere = match &why {
                Free::Moves { to, .. } => Bound::Node(*to),
                Free::Outgrown { node, .. } => Bound::NotOn(*node),
                _ => Bound::None,
            };
            let why = short_reason(self.describe_free(&why));
            // The home tells bidders apart, and not when its volume was made.
            let home = home.map(|home| Home { counter: 0, ..home });
            let bound = match (home, place) {
                (Some(home), _) => Bound::Home(home),
                (None, Place::OnNode(node)) => Bound::Node(node),
                (None, Place::Ordinal(_) | Place::Run { .. }) => elsewhere,
            };
            free.entry((revision, bound)).or_default().push(OfferPlace { place, counter, why });
            count += 1;
        }
        if free.is_empty() {
            return;
        }
        let fit = self.bidders(workload);
        let chunks = free.iter().flat_map(|(of, places)| {
            places.chunks(crate::auction::MAX_PLACES).map(move |places| (of, places))
        });
        for ((generation, bound), places) in chunks {
            let (candidates, excluded) = self.at_home(fit.clone(), bound);
            let offer = Offer {
                uid,
                name: workload.name.clone(),
                generation: *generation,
                resources: workload.spec.need().size,
                places: places.to_vec(),
                candidates,
                excluded,
                is_ordered: workload.spec.weights() > 0
                    || !workload.spec.placement.spread.is_empty(),
                spread: workload.spec.placement.spread.clone(),
                weights: workload.spec.weights(),
                guardians: self.guardians(&workload.name),
            };
            self.count("auctions");
            self.with_auction(now, |auction, now, context, out| {
                auction.open(now, offer, context, out)
            });
        }
    }

    /// The reason why a place is free, with names of nodes, for people.
    pub(super) fn describe_free(&self, why: &Free) -> String {
        match why {
            Free::NodeDown { node, evidence } => {
                format!("its node {} is down: {evidence}", self.name_of(node))
            }
            Free::NodeLeft { node } => {
                format!("its node {} left the cluster", self.name_of(node))
            }
            Free::Drained { node, .. } => format!("its node {} is drained", self.name_of(node)),
            Free::Moves { node, to } => {
                format!("{} has more room for it than {}", self.name_of(to), self.name_of(node))
            }
            Free::Outgrown { node, why } => format!("{}: {why}", self.name_of(node)),
            Free::NeverPlaced | Free::GivenUp => why.to_string(),
        }
    }

    /// Whether a free place may be auctioned now; else the time to ask again. The rescue throttle
    /// limits how fast replicas of dead nodes move. While lost nodes return, a place that its
    /// holder gave up waits: another returning node has mostly taken it over.
    fn may_auction(&mut self, now: Time, why: &Free) -> Result<(), Time> {
        match why {
            Free::NodeDown { node, .. } => self.rescue_throttle.take(now, node),
            Free::GivenUp => self.rescue_throttle.heals_until(now).map_or(Ok(()), Err),
            Free::NeverPlaced
            | Free::NodeLeft { .. }
            | Free::Drained { .. }
            | Free::Moves { .. }
            | Free::Outgrown { .. } => Ok(()),
        }
    }

    /// The nodes that may run a workload by their static facts, in random order, so that no node is
    /// always asked first; and the other nodes, each with the reason.
    fn bidders(&mut self, workload: &Workload) -> (Vec<NodeId>, Vec<(NodeId, Unfit)>) {
        let (mut candidates, mut excluded) = (Vec::new(), Vec::new());
        for node in self.membership.up() {
            let Some(record) = self.membership.record(&node) else { continue };
            if record.leaving {
                continue;
            }
            let taken = self.desired.takes(&node, &workload.spec);
            let fits = taken.and_then(|()| record.facts.fits(&workload.spec));
            match fits.and_then(|()| self.is_near(workload, &node)) {
                Ok(()) => candidates.push(node),
                Err(unfit) => excluded.push((node, unfit)),
            }
        }
        for index in (1..candidates.len()).rev() {
            if let Some(other) = random_index(&mut self.device.rng, index + 1) {
                candidates.swap(index, other);
            }
        }
        self.best_first(workload, &mut candidates);
        (candidates, excluded)
    }

    /// Whether the workloads that this one must be near to have claims on a node. In a large
    /// cluster few nodes have them, and only those need be asked.
    pub(super) fn is_near(&self, workload: &Workload, node: &NodeId) -> Result<(), Unfit> {
        let relations = workload.spec.placement.affinity.iter();
        for near in relations.filter(|it| !it.apart && it.weight.is_none()) {
            let other = self.desired.workload(&near.workload);
            let claims = other.map(|other| self.claims.of_workload(&other.uid));
            if !claims.unwrap_or_default().iter().any(|(holder, _)| holder == node) {
                return Err(Unfit::Near(near.workload.to_string()));
            }
        }
        Ok(())
    }

    /// Puts nodes in front that are better by the workload's preferences, and among them one of
    /// each value of the label that it is spread over: in a large cluster not all are asked.
    fn best_first(&self, workload: &Workload, candidates: &mut [NodeId]) {
        let spec = &workload.spec;
        let facts = |node: &NodeId| self.membership.record(node).map(|record| &record.facts);
        if !spec.placement.prefer.is_empty() {
            candidates.sort_by_cached_key(|node| {
                facts(node).map(|facts| facts.unmet(spec, facts.capacity))
            });
        }
        let Some(label) = spec.placement.spread.first() else { return };
        let mut turns: BTreeMap<Option<String>, usize> = BTreeMap::new();
        let mut turn = |node: &NodeId| {
            let value = facts(node).and_then(|facts| facts.labels.get(label).cloned());
            let turn = turns.entry(value).or_default();
            *turn += 1;
            *turn
        };
        let ranks: BTreeMap<NodeId, usize> =
            candidates.iter().map(|node| (*node, turn(node))).collect();
        candidates.sort_by_key(|node| ranks.get(node).copied());
    }

    /// Of the nodes that may run a workload, the one that its places are bound to.
    fn at_home(
        &self,
        (mut candidates, mut excluded): (Vec<NodeId>, Vec<(NodeId, Unfit)>),
        bound: &Bound,
    ) -> (Vec<NodeId>, Vec<(NodeId, Unfit)>) {
        let (node, volume) = match bound {
            Bound::None => return (candidates, excluded),
            Bound::NotOn(node) => {
                candidates.retain(|other| other != node);
                return (candidates, excluded);
            }
            Bound::Node(node) => {
                candidates.retain(|other| other == node);
                excluded.retain(|(other, _)| other == node);
                return (candidates, excluded);
            }
            Bound::Home(Home { node, volume, .. }) => (node, volume),
        };
        let elsewhere = Unfit::Volume { volume: volume.clone(), node: self.name_of(node) };
        excluded.retain(|(other, _)| other == node);
        let others = self.membership.up().filter(|other| other != node);
        excluded.extend(others.map(|other| (other, elsewhere.clone())));
        candidates.retain(|other| other == node);
        (candidates, excluded)
    }

    pub(super) fn on_unplaceable(
        &mut self,
        now: Time,
        uid: Digest,
        places: usize,
        why: &[Excluded],
        retry_after: Duration,
    ) {
        let Some(name) = self.desired.by_uid(&uid).map(|workload| workload.name.clone()) else {
            return;
        };
        let why: Vec<String> = why.iter().map(Excluded::to_string).collect();
        let why =
            if why.is_empty() { "there is no node to ask".to_owned() } else { why.join("; ") };
        let replicas = if places == 1 { "replica finds" } else { "replicas find" };
        let message = format!("{places} {replicas} no taker: {why}");
        self.emit_of(now, Level::Warning, "unplaceable", About::workload(&name), message);
        self.plan_again(now + retry_after, uid);
    }

    /// Plans a workload again at `at`, or earlier if it becomes dirty before.
    pub(super) fn plan_again(&mut self, at: Time, uid: Digest) {
        let due = self.planning.again.entry(uid).or_insert(at);
        *due = at.min(*due);
    }

    /// A node has less to run than before: what waits for room, and could run there, is tried
    /// soon, and not only when its growing pause has passed.
    pub(super) fn on_room(&mut self, now: Time, node: NodeId) {
        let at = now + WOKEN_AFTER;
        let later = self.planning.again.iter().filter(|(_, due)| **due > at);
        let waiting: Vec<Digest> = later.map(|(uid, _)| *uid).take(WOKEN).collect();
        for uid in waiting {
            let Some(workload) = self.desired.by_uid(&uid) else { continue };
            if self.sight().suits(&node, &workload.spec) {
                let generation = workload.generation;
                self.auction.forget_no_room((uid, generation), node);
                self.plan_again(at, uid);
            }
        }
    }

    pub(super) fn retry_plans(&mut self, now: Time) {
        let due: Vec<Digest> =
            self.planning.again.iter().filter(|(_, at)| **at <= now).map(|(uid, _)| *uid).collect();
        for uid in due {
            self.planning.again.remove(&uid);
            self.due.dirty.insert(uid);
        }
    }

    /// The device's clock at `at`, which may be ahead.
    pub(super) fn wall_at(&self, now: Time, at: Time) -> WallClock {
        let ahead = u64::try_from(at.since(now).as_millis()).unwrap_or(u64::MAX);
        WallClock(self.wall(now).0.saturating_add(ahead))
    }
}

/// A random index below `len`; `None` if `len` is 0.
pub(super) fn random_index(rng: &mut ChaCha8Rng, len: usize) -> Option<usize> {
    let len = u64::try_from(len).ok().filter(|len| *len > 0)?;
    usize::try_from(rng.next_u64() % len).ok()
}

/// Whether a place is among those that the quota of its namespace allows.
pub(super) fn is_within(allowed: Option<u32>, place: Place) -> bool {
    match (allowed, place) {
        (Some(allowed), Place::Ordinal(number)) => number < allowed,
        // All that run at one time, or none.
        (Some(_), Place::Run { .. }) => false,
        (Some(_), Place::OnNode(_)) | (None, _) => true,
    }
}
