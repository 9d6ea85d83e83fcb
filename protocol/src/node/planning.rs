//! What this node owns: finding gaps, and closing them by auction.

use std::collections::BTreeMap;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;

use crate::auction::{Excluded, Offer, OfferPlace};
use crate::desired::Workload;
use crate::membership::State;
use crate::model::claim::short_reason;
use crate::model::{Digest, NodeId, RawChange, ReplicaId, Time, Unfit, WallClock};
use crate::plan::{Free, Step};

use super::contract::Verdict;
use super::planning_throttle::{PlanningThrottle, Work};
use super::{Level, Node};

/// Nodes that answer for a workload: the owner and two heirs.
pub(super) const GUARDIANS: usize = 3;
/// The longest wait for who runs what a comparison has brought.
const DEFER_AT_MOST: Duration = Duration::from_secs(3);
/// When a place is looked at again that somebody says to hold whose claim is not known here: one
/// comparison later.
pub(super) const HELD_RETRY: Duration = Duration::from_secs(1);
/// When a workload is looked at again that found all of this node's auctions taken.
pub(super) const FULL_RETRY: Duration = Duration::from_millis(200);

/// When the workloads that this node owns are planned.
#[derive(Clone, Debug, Default)]
pub(super) struct Planning {
    /// Workloads to plan again, for no other reason than time. At most as many as there are.
    pub again: BTreeMap<Digest, Time>,
    /// Limits how often large workloads are planned.
    pub throttle: PlanningThrottle,
    /// Deferred plans: workloads that a comparison brought, from which peer, and until when its
    /// claims are waited for. At most as many as there are.
    pub deferred: BTreeMap<Digest, (NodeId, Time)>,
}

impl Node {
    /// Looks at every workload that something happened to, as far as this node owns it.
    pub(super) fn plan(&mut self, now: Time) {
        if !self.may_plan() {
            return;
        }
        for uid in std::mem::take(&mut self.due.dirty) {
            let Some(workload) = self.desired.by_uid(&uid).cloned() else { continue };
            if !self.is_owner(&uid, &workload.name) {
                // Another node owns it now, and plans it.
                self.planning.again.remove(&uid);
                self.close_auctions(now, &uid);
            } else if let Some(until) = self.is_deferred(now, &uid) {
                self.plan_again(until, uid);
            } else {
                let places = self.demand().count(&workload);
                if self.planning.throttle.may(now, Work::Plan, uid, places) {
                    self.auction_free_places(now, &workload);
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
        self.membership.settled() && self.readiness.may_plan(|| self.is_in_step())
    }

    /// A change that a comparison brought. Who runs its new places comes from the same peer, a
    /// moment later: what is planned before then would be placed a second time.
    pub(super) fn on_compared(&mut self, now: Time, from: NodeId, raw: RawChange) -> Verdict {
        let uid = raw.change.peek().ok().map(|body| body.uid.unwrap_or_else(|| raw.change.hash()));
        let Some(uid) = uid else { return self.on_changed(now, raw, None) };
        let places = |node: &Node| node.desired.by_uid(&uid).map_or(0, |wish| wish.spec.replicas());
        let before = places(self);
        let verdict = self.on_changed(now, raw, None);
        if places(self) > before {
            self.planning.deferred.insert(uid, (from, now + DEFER_AT_MOST));
        }
        verdict
    }

    /// Until when it is waited for who runs a workload.
    fn is_deferred(&mut self, now: Time, uid: &Digest) -> Option<Time> {
        let (_, until) = *self.planning.deferred.get(uid)?;
        if until <= now {
            self.planning.deferred.remove(uid);
        }
        (until > now).then_some(until)
    }

    /// All that this peer holds is known here.
    pub(super) fn believe(&mut self, peer: &NodeId) {
        let believed = self.planning.deferred.extract_if(.., |_, (from, _)| from == peer);
        self.due.dirty.extend(believed.map(|(uid, _)| uid));
    }

    /// Whether a node is held to be up; this one always is.
    pub(super) fn is_up(&self, node: &NodeId) -> bool {
        *node == self.me || self.membership.state(node) == State::Up
    }

    /// Owner: puts up the places that nobody holds.
    fn auction_free_places(&mut self, now: Time, workload: &Workload) {
        let uid = workload.uid;
        let mut open: BTreeMap<ReplicaId, Time> = BTreeMap::new();
        for award in self.auction.open_awards(&uid) {
            let until = open.entry(award.replica).or_default();
            *until = award.until.max(*until);
        }
        let mut places = Vec::new();
        let room = self.auction.room();
        for step in self.outlook(now).steps(workload) {
            let Step::Auction { place, counter, why } = step else { continue };
            if places.len() >= room {
                // The next are put up as claims come in; should none come, a little later.
                self.plan_again(now + FULL_RETRY, uid);
                break;
            }
            let replica = ReplicaId { uid, place };
            if self.auction.is_under_way(&replica) {
                continue;
            }
            // It was awarded just now, perhaps by another owner: the winner's sheet is about to say
            // so.
            if let Some(until) = open.get(&replica).copied().filter(|until| *until > now) {
                self.plan_again(until, uid);
                continue;
            }
            if let Err(at) = self.may_move(now, &why) {
                self.plan_again(at, uid);
                break;
            }
            places.push(OfferPlace { place, counter, why: short_reason(self.told(&why)) });
        }
        if places.is_empty() {
            return;
        }
        let (candidates, excluded) = self.bidders(workload);
        for places in places.chunks(crate::auction::MAX_PLACES) {
            let offer = Offer {
                uid,
                name: workload.name.clone(),
                generation: workload.generation,
                resources: workload.spec.reservation(),
                places: places.to_vec(),
                candidates: candidates.clone(),
                excluded: excluded.clone(),
                guardians: self.guardians(&workload.name),
            };
            self.count("auctions");
            self.with_auction(now, |auction, now, context, out| {
                auction.open(now, offer, context, out)
            });
        }
    }

    /// Why a replica is missing, for people.
    pub(super) fn told(&self, why: &Free) -> String {
        match why {
            Free::NodeDown { node, evidence } => {
                format!("its node {} is down: {evidence}", self.name_of(node))
            }
            Free::NodeLeft { node } => {
                format!("its node {} left the cluster", self.name_of(node))
            }
            Free::NeverPlaced | Free::GivenUp => why.to_string(),
        }
    }

    /// Replicas of dead nodes are moved at the pace of rescue; what was never placed is nobody's
    /// loss. What a node has let go that returns was mostly taken over by one that returns a moment
    /// later.
    fn may_move(&mut self, now: Time, why: &Free) -> Result<(), Time> {
        match why {
            Free::NodeDown { node, .. } => self.rescue_throttle.take(now, node),
            Free::GivenUp => self.rescue_throttle.heals_until(now).map_or(Ok(()), Err),
            Free::NeverPlaced | Free::NodeLeft { .. } => Ok(()),
        }
    }

    /// Who can be asked, by static facts: in random order, so that no node is always asked first.
    fn bidders(&mut self, wish: &Workload) -> (Vec<NodeId>, Vec<(NodeId, Unfit)>) {
        let (mut candidates, mut excluded) = (Vec::new(), Vec::new());
        for node in self.membership.up() {
            let Some(record) = self.membership.record(&node) else { continue };
            if record.leaving {
                continue;
            }
            match record.facts.fits(&wish.spec) {
                Ok(()) => candidates.push(node),
                Err(unfit) => excluded.push((node, unfit)),
            }
        }
        for index in (1..candidates.len()).rev() {
            if let Some(other) = pick(&mut self.device.rng, index + 1) {
                candidates.swap(index, other);
            }
        }
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
        let Some(name) = self.desired.by_uid(&uid).map(|wish| wish.name.to_string()) else {
            return;
        };
        let why: Vec<String> = why.iter().map(Excluded::to_string).collect();
        let why =
            if why.is_empty() { "there is no node to ask".to_owned() } else { why.join("; ") };
        let replicas = if places == 1 { "replica finds" } else { "replicas find" };
        let message = format!("{places} {replicas} no taker: {why}");
        self.tell(now, Level::Warning, "unplaceable", Some(name), None, message);
        self.plan_again(now + retry_after, uid);
    }

    /// Looks at a workload again at `at`, or earlier when something happens to it.
    pub(super) fn plan_again(&mut self, at: Time, uid: Digest) {
        let due = self.planning.again.entry(uid).or_insert(at);
        *due = at.min(*due);
    }

    pub(super) fn retry_plans(&mut self, now: Time) {
        let due: Vec<Digest> =
            self.planning.again.iter().filter(|(_, at)| **at <= now).map(|(uid, _)| *uid).collect();
        for uid in due {
            self.planning.again.remove(&uid);
            self.due.dirty.insert(uid);
        }
    }

    /// What the device's clock will say at `at`.
    pub(super) fn wall_at(&self, now: Time, at: Time) -> WallClock {
        let ahead = u64::try_from(at.since(now).as_millis()).unwrap_or(u64::MAX);
        WallClock(self.wall(now).0.saturating_add(ahead))
    }
}

/// An index below `len`; none when there is nothing to pick.
pub(super) fn pick(rng: &mut ChaCha8Rng, len: usize) -> Option<usize> {
    let len = u64::try_from(len).ok().filter(|len| *len > 0)?;
    usize::try_from(rng.next_u64() % len).ok()
}
