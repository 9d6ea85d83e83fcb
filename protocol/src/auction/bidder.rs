//! The bidder's half: it reserves before it bids, and reports what it wins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::model::claim::short_reason;
use crate::model::spec::HostPort;
use crate::model::{
    AuctionId, Award, Decline, Digest, Need, NodeId, Place, Price, ReplicaId, Signed, Time, Token,
    Unverified,
};

use super::cooling::Cooling;
use super::cx::Cx;
use super::eviction::{Eviction, KeptRooms};
use super::fact::{Fact, Reason};
use super::ledger::Ledger;
use super::message::{Announce, Message, Refusal};
use super::offer::{Knowledge, MAX_PLACES};
use super::summary::Summary;
use super::timers::millis;

/// Kept announcements of workloads that this node does not know yet. Each lives as long as the
/// first round of its auction.
pub(super) const MAX_EARLY: usize = 128;

/// The promises of this node: reservations by auction, and early announcements.
#[derive(Clone, Debug, Default)]
pub(super) struct Bidder {
    pub(super) ledger: Ledger,
    pub(super) cooling: Cooling,
    pub(super) kept: KeptRooms,
    /// Bounded by [`super::Config::max_reservations`].
    reservations: BTreeMap<AuctionId, Reservation>,
    early: BTreeMap<AuctionId, Early>,
}

/// Resources reserved for one auction.
#[derive(Clone, Debug)]
struct Reservation {
    uid: Digest,
    generation: Digest,
    need: Need,
    /// The number of replicas that are reserved.
    count: usize,
    /// The ports that a replica needs for itself: then one is reserved at most.
    ports: BTreeSet<HostPort>,
    /// The places that this node would take.
    places: BTreeSet<Place>,
    until: Time,
    /// The answer, in case the announcement comes again.
    prices: Vec<Price>,
    without: Vec<(Place, Decline)>,
}

#[derive(Clone, Debug)]
struct Early {
    announce: Announce,
    until: Time,
}

/// A workload that this node could run.
struct Runnable {
    need: Need,
    priority: i32,
    ports: BTreeSet<HostPort>,
    fetch_bytes: u64,
    here: u32,
    one_at_a_time: bool,
    weights: (u32, u32),
}

impl Bidder {
    /// The numbers of reservations and of early announcements.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.reservations.len(), self.early.len())
    }

    pub(super) fn on_announce(&mut self, cx: &mut Cx<'_>, from: NodeId, announce: Announce) {
        let auction = announce.auction;
        if auction.owner != from {
            return cx.misbehaved(from, "an announcement of another owner's auction");
        }
        self.early.remove(&auction);
        let answer = match self.reservations.get(&auction) {
            // Announced again: the answer may have been lost.
            Some(held) => {
                Message::Bid { auction, prices: held.prices.clone(), without: held.without.clone() }
            }
            None => match self.consider(cx, &announce) {
                Ok(bid) => bid,
                Err(why) => {
                    let answer = self.no_bid(cx, &announce, &why);
                    if matches!(why, Decline::NotInStep { .. }) {
                        self.keep_early(cx, announce);
                    }
                    answer
                }
            },
        };
        cx.send(from, answer);
    }

    /// The answer of a node that takes no place. It names the places that this node holds already:
    /// the owner would not auction those if it knew.
    fn no_bid(&self, cx: &Cx<'_>, announce: &Announce, why: &Decline) -> Message {
        let auction = announce.auction;
        let holds = |place: &Place| holds(cx, &ReplicaId { uid: announce.uid, place: *place });
        if cx.context.leaving() || !announce.places.iter().any(holds) {
            return Message::Decline { auction, why: why.clone() };
        }
        let why = |place: &Place| (*place, if holds(place) { Decline::Holds } else { why.clone() });
        Message::Bid {
            auction,
            prices: Vec::new(),
            without: announce.places.iter().map(why).collect(),
        }
    }

    /// Reserves and bids; or the reason for not bidding.
    fn consider(&mut self, cx: &mut Cx<'_>, announce: &Announce) -> Result<Message, Decline> {
        if cx.context.read_only() {
            return Err(Decline::ReadOnly);
        }
        if cx.context.leaving() {
            return Err(Decline::Leaving);
        }
        let known = match cx.context.knowledge(&announce.uid, &announce.generation) {
            Knowledge::Unknown => {
                return Err(Decline::NotInStep {
                    retry_ms: millis(cx.base.config.not_in_step_retry),
                });
            }
            Knowledge::Known { fit: Err(unfit), .. } => return Err(Decline::Unfit(unfit)),
            Knowledge::Known { disk: Err(why), .. } => return Err(why),
            Knowledge::Known {
                need,
                priority,
                fit: Ok(()),
                disk: Ok(()),
                ports,
                fetch_bytes,
                here,
                one_at_a_time,
                weights,
            } => Runnable { need, priority, ports, fetch_bytes, here, one_at_a_time, weights },
        };
        let without: Vec<(Place, Decline)> = announce
            .places
            .iter()
            .filter_map(|place| Some((*place, self.place_decline(cx, announce, *place)?)))
            .collect();
        let mut places: BTreeSet<Place> = announce.places.iter().copied().collect();
        for (place, why) in &without {
            places.remove(place);
            if places.is_empty() {
                return Err(why.clone());
            }
        }
        self.check_ports(cx, &known.ports)?;
        // A second replica would need the same ports.
        let is_alone = known.one_at_a_time || !known.ports.is_empty();
        let most = if is_alone { 1 } else { places.len() };
        let count = self.room(cx, announce, &known, most)?;
        let prices = self.prices(cx, &known, count);
        self.ledger.reserve(&known.need, count);
        let hold =
            Duration::from_millis(u64::from(announce.hold_ms)).min(cx.base.config.hold_at_most);
        let until = cx.now + hold;
        cx.base.timers.set(Reason::ReservationLapses(announce.auction), until);
        let reservation = Reservation {
            uid: announce.uid,
            generation: announce.generation,
            need: known.need.clone(),
            count,
            ports: known.ports.clone(),
            places,
            until,
            prices: prices.clone(),
            without: without.clone(),
        };
        self.reservations.insert(announce.auction, reservation);
        Ok(Message::Bid { auction: announce.auction, prices, without })
    }

    /// Whether the ports that a replica needs are free, and not reserved.
    fn check_ports(&self, cx: &Cx<'_>, ports: &BTreeSet<HostPort>) -> Result<(), Decline> {
        let holder = |port: &HostPort| Some((*port, cx.context.port_holder(port)?));
        if let Some((port, by)) = ports.iter().find_map(holder) {
            return Err(Decline::PortTaken { port, by });
        }
        let mut reserved = self.reservations.values().filter(|it| it.count > 0);
        match reserved.any(|it| !it.ports.is_disjoint(ports)) {
            true => Err(Decline::Busy { retry_ms: millis(cx.base.config.busy_retry) }),
            false => Ok(()),
        }
    }

    fn place_decline(&self, cx: &Cx<'_>, announce: &Announce, place: Place) -> Option<Decline> {
        let replica = ReplicaId { uid: announce.uid, place };
        match cx.context.own_claim(&replica) {
            Some(claim) if claim.is_written => return Some(Decline::Holds),
            Some(_) => {
                return Some(Decline::Busy { retry_ms: millis(cx.base.config.busy_retry) });
            }
            None => {}
        }
        if !cx.context.is_open(&replica) {
            return Some(Decline::NotInStep { retry_ms: millis(cx.base.config.not_in_step_retry) });
        }
        self.cooling.decline(cx.now, &replica, &announce.generation)
    }

    /// The number of replicas that fit, at least one.
    fn room(
        &self,
        cx: &mut Cx<'_>,
        announce: &Announce,
        known: &Runnable,
        limit: usize,
    ) -> Result<usize, Decline> {
        let (need, priority) = (&known.need, known.priority);
        let config = &cx.base.config;
        let of_owner = self
            .reservations
            .keys()
            .filter(|auction| auction.owner == announce.auction.owner)
            .count();
        let busy = self.reservations.len() >= config.max_reservations
            || of_owner >= config.max_reservations_per_owner;
        let (committed, stopping) = (cx.context.committed(), cx.context.stopping());
        let committed = committed.plus(&self.kept_before(cx, &announce.uid, priority));
        let unreserved = self.ledger.unreserved(committed.clone().plus(&stopping));
        let count = self.ledger.fits(&unreserved, need, limit);
        if count > 0 && !busy {
            return Ok(count);
        }
        let free = self.ledger.without(&committed);
        if self.ledger.fits(&free, need, 1) == 0 {
            if let Some(Eviction { victims, highest }) = self.eviction(cx, &free, need, priority) {
                let count = u32::try_from(victims.len()).unwrap_or(u32::MAX);
                return Err(Decline::Evictable { count, highest });
            }
            return Err(match free.lacks(&need.counted) {
                Some((name, _)) if free.size.holds(need.size) => Decline::Taken {
                    free: free.counted.of(name),
                    by: cx.context.user_of(name).unwrap_or_default(),
                    name: name.to_owned(),
                },
                _ => Decline::NoRoom { free: free.size },
            });
        }
        // The rest is only reserved or stopping, and most of it will soon be free.
        let retry = millis(config.busy_retry);
        let jitter = cx.random_below(u64::from(retry / 2));
        Err(Decline::Busy { retry_ms: retry.saturating_add(u32::try_from(jitter).unwrap_or(0)) })
    }

    fn prices(&self, cx: &Cx<'_>, known: &Runnable, count: usize) -> Vec<Price> {
        let config = &cx.base.config;
        let used = cx.context.committed().plus(&cx.context.stopping());
        let mib = u32::try_from(known.fetch_bytes.div_ceil(1024 * 1024)).unwrap_or(u32::MAX);
        let fetch = mib.saturating_mul(config.price_per_mib).min(config.price_of_fetch_at_most);
        let neighbours =
            |before: usize| known.here.saturating_add(u32::try_from(before).unwrap_or(u32::MAX));
        let price = |before: usize| Price {
            share: self.ledger.share_after(used.clone(), &known.need, before + 1),
            // Counted in full for each replica, although it is fetched once: prices have to rise,
            // and the bidder does not know which places it will be awarded.
            fetch,
            spread: neighbours(before).saturating_mul(config.neighbour(known.weights.0)),
            prefer: known.weights.1.saturating_mul(config.price_per_weight),
            balance: 0,
        };
        (0..count).map(price).collect()
    }

    fn keep_early(&mut self, cx: &mut Cx<'_>, announce: Announce) {
        let auction = announce.auction;
        if self.early.len() >= MAX_EARLY {
            return;
        }
        let wait =
            Duration::from_millis(u64::from(announce.answer_ms)).min(cx.base.config.hold_at_most);
        let until = cx.now + wait;
        cx.base.timers.set(Reason::ReservationLapses(auction), until);
        self.early.insert(auction, Early { announce, until });
    }

    /// A workload became known: answers the owners that announced it too early.
    pub(super) fn learned(&mut self, cx: &mut Cx<'_>, uid: &Digest) {
        let waiting: Vec<AuctionId> = self
            .early
            .iter()
            .filter(|(_, early)| early.announce.uid == *uid)
            .map(|(auction, _)| *auction)
            .collect();
        for auction in waiting {
            let is_open =
                |place: &Place| cx.context.is_open(&ReplicaId { uid: *uid, place: *place });
            let knows = |early: &Early| {
                cx.context.knowledge(uid, &early.announce.generation) != Knowledge::Unknown
                    && early.announce.places.iter().any(is_open)
            };
            if self.early.get(&auction).is_some_and(knows)
                && let Some(early) = self.early.remove(&auction)
            {
                cx.base.timers.cancel(Reason::ReservationLapses(auction));
                self.on_announce(cx, auction.owner, early.announce);
            }
        }
    }

    pub(super) fn on_award(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        awards: Vec<Unverified<Award>>,
        summary: Summary,
    ) {
        let summary = Arc::new(summary);
        let mut claimed = Vec::new();
        for award in awards {
            let Ok(award) = award.verify(&cx.base.cluster) else {
                cx.misbehaved(from, "an award with a wrong signature");
                continue;
            };
            let rightful = NodeId(award.by().0) == from
                && award.auction.owner == from
                && award.token.by == from;
            if !rightful || award.to != cx.base.me {
                cx.misbehaved(from, "an award that is not its own, or not for this node");
                self.refuse(cx, &award, Refusal::NotRightful, from);
                continue;
            }
            if award.auction != summary.auction {
                cx.misbehaved(from, "an award with the summary of another auction");
                self.refuse(cx, &award, Refusal::NotRightful, from);
                continue;
            }
            match cx.context.own_claim(&award.replica) {
                Some(claim) if claim.token == award.token => {
                    // A claim that is not on disk yet is answered once it is.
                    claimed.extend(claim.is_written.then_some(award));
                    continue;
                }
                Some(_) | None => {}
            }
            match self.take(cx, &award) {
                Ok(()) => {
                    cx.keep(&summary);
                    cx.facts.push(Fact::Won { award, summary: Arc::clone(&summary) });
                }
                Err(why) => self.refuse(cx, &award, why, from),
            }
        }
        send_claimed(cx, claimed.iter().map(Signed::body));
        // The rest of the reservation is free.
        if summary.auction.owner == from {
            self.release(cx, &summary.auction);
        }
    }

    /// Takes one replica out of a reservation; the node commits it before its next call.
    fn take(&mut self, cx: &Cx<'_>, award: &Award) -> Result<(), Refusal> {
        if cx.context.own_claim(&award.replica).is_some() {
            return Err(Refusal::Holds);
        }
        if let Some(seen) =
            cx.context.seen(&award.replica).filter(|seen| seen.counter >= award.token.counter)
        {
            return Err(Refusal::SeenToken { seen });
        }
        // Either the owner or this node is behind. The owner auctions again, or learns that there
        // is nothing to auction. A claim made now would stay: this node has compared its claims
        // with what it knows already, and would not do so again.
        let fit = match cx.context.knowledge(&award.replica.uid, &award.generation) {
            Knowledge::Unknown => return Err(Refusal::OtherGeneration),
            Knowledge::Known { fit, .. } => fit,
        };
        if !cx.context.is_open(&award.replica) {
            return Err(Refusal::OtherGeneration);
        }
        // Since the bid another auction brought what keeps it away.
        if let Err(unfit) = fit {
            return Err(Refusal::CannotClaim(short_reason(unfit.to_string())));
        }
        let reservation =
            self.reservations.get_mut(&award.auction).ok_or(Refusal::NoReservation)?;
        let meant =
            reservation.uid == award.replica.uid && reservation.generation == award.generation;
        let live = reservation.count > 0 && cx.now < reservation.until;
        if !meant || !live || !reservation.places.remove(&award.replica.place) {
            return Err(Refusal::NoReservation);
        }
        reservation.count -= 1;
        self.ledger.unreserve(&reservation.need, 1);
        self.kept.free(&award.replica.uid);
        Ok(())
    }

    fn refuse(&self, cx: &mut Cx<'_>, award: &Award, why: Refusal, owner: NodeId) {
        let (auction, replica, token) = (award.auction, award.replica, award.token);
        cx.send(owner, Message::Refused { auction, replica, token, why });
    }

    pub(super) fn on_cancel(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        auction: AuctionId,
        replica: ReplicaId,
        token: Token,
    ) {
        if auction.owner != from {
            return cx.misbehaved(from, "a cancel of another owner's auction");
        }
        if let Some(claim) = cx.context.own_claim(&replica).filter(|claim| claim.token == token) {
            if claim.is_written {
                cx.send(from, Message::Claimed { auction, claims: vec![(replica, token)] });
            }
            return; // Otherwise the node answers once the claim is on disk.
        }
        // The award never came. If it comes now, nothing is reserved for it.
        self.release(cx, &auction);
        cx.send(from, Message::Refused { auction, replica, token, why: Refusal::Cancelled });
    }

    /// The claim could not be made: refuses the award.
    pub(super) fn unclaimed(&self, cx: &mut Cx<'_>, award: &Signed<Award>, reason: String) {
        self.refuse(cx, award, Refusal::CannotClaim(reason), award.auction.owner);
    }

    pub(super) fn on_release(&mut self, cx: &mut Cx<'_>, from: NodeId, auction: AuctionId) {
        if auction.owner != from {
            return cx.misbehaved(from, "a release of another owner's auction");
        }
        // Its place was taken elsewhere.
        if let Some(reservation) = self.reservations.get(&auction) {
            self.kept.free(&reservation.uid);
        }
        self.release(cx, &auction);
    }

    /// Frees what is reserved for an auction, and forgets its early announcement.
    fn release(&mut self, cx: &mut Cx<'_>, auction: &AuctionId) {
        cx.base.timers.cancel(Reason::ReservationLapses(*auction));
        self.early.remove(auction);
        if let Some(reservation) = self.reservations.remove(auction) {
            self.ledger.unreserve(&reservation.need, reservation.count);
        }
    }

    pub(super) fn on_lapse(&mut self, cx: &mut Cx<'_>, auction: AuctionId) {
        let early = self.early.get(&auction).map(|early| early.until);
        let until = early.max(self.reservations.get(&auction).map(|reservation| reservation.until));
        match until {
            Some(until) if cx.now < until => {
                cx.base.timers.set(Reason::ReservationLapses(auction), until)
            }
            Some(_) | None => self.release(cx, &auction),
        }
    }

    /// A dead owner awards nothing: its reservations are freed.
    pub(super) fn node_down(&mut self, cx: &mut Cx<'_>, node: &NodeId) {
        let of_node = |auction: &&AuctionId| auction.owner == *node;
        let gone: BTreeSet<AuctionId> =
            self.reservations.keys().chain(self.early.keys()).filter(of_node).copied().collect();
        for auction in gone {
            self.release(cx, &auction);
        }
    }
}

/// Whether this node has a claim of the replica on disk.
fn holds(cx: &Cx<'_>, replica: &ReplicaId) -> bool {
    cx.context.own_claim(replica).is_some_and(|claim| claim.is_written)
}

/// Tells the owner of each auction which of its awards are claimed, in as few messages as possible.
pub(super) fn send_claimed<'a>(cx: &mut Cx<'_>, awards: impl Iterator<Item = &'a Award>) {
    let mut by_auction: BTreeMap<AuctionId, Vec<(ReplicaId, Token)>> = BTreeMap::new();
    for award in awards {
        by_auction.entry(award.auction).or_default().push((award.replica, award.token));
    }
    for (auction, claims) in by_auction {
        for claims in claims.chunks(MAX_PLACES) {
            cx.send(auction.owner, Message::Claimed { auction, claims: claims.to_vec() });
        }
    }
}
