//! The bidder's half: reserves before it bids, and commits what it wins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::model::{
    AuctionId, Award, Decline, Digest, NodeId, Place, Price, ReplicaId, Resources, Signed, Time,
    Token, Unverified,
};

use super::config::Config;
use super::cooling::Cooling;
use super::fact::{Fact, Reason};
use super::ledger::Ledger;
use super::lot::{Look, MAX_PLACES};
use super::message::{Announce, Message, Refusal};
use super::summary::Summary;
use super::timers::millis;
use super::turn::Turn;

/// Announcements kept that came before the workload itself did. They live as long as their
/// auction's first round.
pub(super) const MAX_EARLY: usize = 128;

/// What this node has promised, to whom, and until when.
#[derive(Clone, Debug, Default)]
pub(super) struct Bidder {
    pub(super) ledger: Ledger,
    pub(super) cooling: Cooling,
    /// Bounded by [`Config::max_reservations`].
    reservations: BTreeMap<AuctionId, Reservation>,
    early: BTreeMap<AuctionId, Early>,
    /// Awards taken whose claims are not on disk yet. Bounded by the commitments.
    claiming: BTreeMap<ReplicaId, Token>,
}

/// Room kept for one auction.
#[derive(Clone, Debug)]
struct Reservation {
    uid: Digest,
    generation: Digest,
    resources: Resources,
    /// Replicas it has room for.
    count: usize,
    /// Places it would take.
    places: BTreeSet<Place>,
    until: Time,
    /// What was answered, should the question come again.
    prices: Vec<Price>,
    without: Vec<(Place, Decline)>,
}

#[derive(Clone, Debug)]
struct Early {
    announce: Announce,
    until: Time,
}

/// What a bidder knows of a workload that it could run.
struct Known {
    resources: Resources,
    fetch_bytes: u64,
    here: u32,
}

impl Bidder {
    /// Reservations, early announcements, and awards taken.
    pub(super) fn len(&self) -> (usize, usize, usize) {
        (self.reservations.len(), self.early.len(), self.claiming.len())
    }

    pub(super) fn on_announce(&mut self, turn: &mut Turn<'_>, from: NodeId, announce: Announce) {
        let auction = announce.auction;
        if auction.owner != from {
            return turn.misbehaved(from, "an announcement of somebody else's auction");
        }
        self.early.remove(&auction);
        let answer = match self.reservations.get(&auction) {
            // Asked again: the answer may have been lost.
            Some(held) => {
                Message::Bid { auction, prices: held.prices.clone(), without: held.without.clone() }
            }
            None => match self.consider(turn, &announce) {
                Ok(bid) => bid,
                Err(why) => {
                    let answer = self.no_bid(turn, &announce, &why);
                    if matches!(why, Decline::NotInStep { .. }) {
                        self.keep_early(turn, announce);
                    }
                    answer
                }
            },
        };
        turn.send(from, answer);
    }

    /// Why it takes nothing. The owner has to know what is held here already: it seeks that since
    /// it has not heard of it.
    fn no_bid(&self, turn: &Turn<'_>, announce: &Announce, why: &Decline) -> Message {
        let auction = announce.auction;
        let holds =
            |place: &Place| self.holds(turn, &ReplicaId { uid: announce.uid, place: *place });
        if turn.desk.leaving() || !announce.places.iter().any(holds) {
            return Message::Decline { auction, why: why.clone() };
        }
        let why = |place: &Place| (*place, if holds(place) { Decline::Holds } else { why.clone() });
        Message::Bid {
            auction,
            prices: Vec::new(),
            without: announce.places.iter().map(why).collect(),
        }
    }

    /// Reserves and bids, or tells why not.
    fn consider(&mut self, turn: &mut Turn<'_>, announce: &Announce) -> Result<Message, Decline> {
        if turn.desk.read_only() {
            return Err(Decline::ReadOnly);
        }
        if turn.desk.leaving() {
            return Err(Decline::Leaving);
        }
        let known = match turn.desk.look(&announce.uid, &announce.generation) {
            Look::Unknown => {
                return Err(Decline::NotInStep {
                    retry_ms: millis(turn.base.config.not_in_step_retry),
                });
            }
            Look::Known { fit: Err(unfit), .. } => return Err(Decline::Unfit(unfit)),
            Look::Known { resources, fit: Ok(()), fetch_bytes, here } => {
                Known { resources, fetch_bytes, here }
            }
        };
        let without: Vec<(Place, Decline)> = announce
            .places
            .iter()
            .filter_map(|place| Some((*place, self.unwilling(turn, announce, *place)?)))
            .collect();
        let mut places: BTreeSet<Place> = announce.places.iter().copied().collect();
        for (place, why) in &without {
            places.remove(place);
            if places.is_empty() {
                return Err(why.clone());
            }
        }
        let count = self.room(turn, announce, known.resources, places.len())?;
        let prices = self.prices(&turn.base.config, &known, count);
        self.ledger.reserve(known.resources, count);
        let hold =
            Duration::from_millis(u64::from(announce.hold_ms)).min(turn.base.config.hold_at_most);
        let until = turn.now + hold;
        turn.base.timers.set(Reason::ReservationLapses(announce.auction), until);
        let reservation = Reservation {
            uid: announce.uid,
            generation: announce.generation,
            resources: known.resources,
            count,
            places,
            until,
            prices: prices.clone(),
            without: without.clone(),
        };
        self.reservations.insert(announce.auction, reservation);
        Ok(Message::Bid { auction: announce.auction, prices, without })
    }

    fn unwilling(&self, turn: &Turn<'_>, announce: &Announce, place: Place) -> Option<Decline> {
        let replica = ReplicaId { uid: announce.uid, place };
        if self.holds(turn, &replica) {
            return Some(Decline::Holds);
        }
        if self.claiming.contains_key(&replica) {
            return Some(Decline::Busy { retry_ms: millis(turn.base.config.busy_retry) });
        }
        if !turn.desk.wants(&replica) {
            return Some(Decline::NotInStep {
                retry_ms: millis(turn.base.config.not_in_step_retry),
            });
        }
        self.cooling.look(turn.now, &replica, &announce.generation)
    }

    /// Whether its claim is on disk. One that is on its way there may never arrive.
    fn holds(&self, turn: &Turn<'_>, replica: &ReplicaId) -> bool {
        self.has(turn, replica) && !self.claiming.contains_key(replica)
    }

    fn has(&self, turn: &Turn<'_>, replica: &ReplicaId) -> bool {
        self.ledger.is_committed(replica) || turn.desk.claimed_under(replica).is_some()
    }

    /// How many replicas there is room for, at least one.
    fn room(
        &self,
        turn: &mut Turn<'_>,
        announce: &Announce,
        resources: Resources,
        limit: usize,
    ) -> Result<usize, Decline> {
        let config = &turn.base.config;
        let of_owner = self
            .reservations
            .keys()
            .filter(|auction| auction.owner == announce.auction.owner)
            .count();
        let busy = self.reservations.len() >= config.max_reservations
            || of_owner >= config.max_reservations_per_owner;
        let count = self.ledger.fits(self.ledger.unreserved(), resources, limit);
        if count > 0 && !busy {
            return Ok(count);
        }
        let free = self.ledger.uncommitted();
        if self.ledger.fits(free, resources, 1) == 0 {
            return Err(Decline::NoRoom { free });
        }
        // What is in the way is only reserved, and most of that will soon be free again.
        let retry = millis(config.busy_retry);
        let jitter = turn.random_below(u64::from(retry / 2));
        Err(Decline::Busy { retry_ms: retry.saturating_add(u32::try_from(jitter).unwrap_or(0)) })
    }

    fn prices(&self, config: &Config, known: &Known, count: usize) -> Vec<Price> {
        let mib = u32::try_from(known.fetch_bytes.div_ceil(1024 * 1024)).unwrap_or(u32::MAX);
        let fetch = mib.saturating_mul(config.price_per_mib).min(config.price_of_fetch_at_most);
        let neighbours =
            |before: usize| known.here.saturating_add(u32::try_from(before).unwrap_or(u32::MAX));
        let price = |before: usize| Price {
            share: self.ledger.share_after(known.resources, before + 1),
            // In full for each: prices have to rise, and which of several places is awarded is not
            // known yet.
            fetch,
            spread: neighbours(before).saturating_mul(config.price_per_neighbour),
        };
        (0..count).map(price).collect()
    }

    fn keep_early(&mut self, turn: &mut Turn<'_>, announce: Announce) {
        let auction = announce.auction;
        if self.early.len() >= MAX_EARLY {
            return;
        }
        let wait =
            Duration::from_millis(u64::from(announce.answer_ms)).min(turn.base.config.hold_at_most);
        let until = turn.now + wait;
        turn.base.timers.set(Reason::ReservationLapses(auction), until);
        self.early.insert(auction, Early { announce, until });
    }

    /// A wish became known: who asked for it too early is answered now.
    pub(super) fn learned(&mut self, turn: &mut Turn<'_>, uid: &Digest) {
        let waiting: Vec<AuctionId> = self
            .early
            .iter()
            .filter(|(_, early)| early.announce.uid == *uid)
            .map(|(auction, _)| *auction)
            .collect();
        for auction in waiting {
            let wants = |place: &Place| turn.desk.wants(&ReplicaId { uid: *uid, place: *place });
            let knows = |early: &Early| {
                turn.desk.look(uid, &early.announce.generation) != Look::Unknown
                    && early.announce.places.iter().any(wants)
            };
            if self.early.get(&auction).is_some_and(knows)
                && let Some(early) = self.early.remove(&auction)
            {
                turn.base.timers.cancel(Reason::ReservationLapses(auction));
                self.on_announce(turn, auction.owner, early.announce);
            }
        }
    }

    pub(super) fn on_award(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        awards: Vec<Unverified<Award>>,
        summary: Summary,
    ) {
        let summary = Arc::new(summary);
        let mut claimed = Vec::new();
        for award in awards {
            let Ok(award) = award.verify(&turn.base.cluster) else {
                turn.misbehaved(from, "an award with a wrong signature");
                continue;
            };
            let rightful = NodeId(award.by().0) == from
                && award.auction.owner == from
                && award.token.by == from;
            if !rightful || award.to != turn.base.me {
                turn.misbehaved(from, "an award that is not its own, or not for this node");
                self.refuse(turn, &award, Refusal::NotRightful, from);
                continue;
            }
            if award.auction != summary.auction {
                turn.misbehaved(from, "an award with the summary of another auction");
                self.refuse(turn, &award, Refusal::NotRightful, from);
                continue;
            }
            if self.claiming.get(&award.replica) == Some(&award.token) {
                continue; // Said twice; the answer comes when the claim is on disk.
            }
            if turn.desk.claimed_under(&award.replica) == Some(award.token) {
                claimed.push(award);
                continue;
            }
            match self.take(turn, &award) {
                Ok(()) => {
                    turn.keep(&summary);
                    turn.facts.push(Fact::Won { award, summary: Arc::clone(&summary) });
                }
                Err(why) => self.refuse(turn, &award, why, from),
            }
        }
        say_claimed(turn, claimed.iter().map(Signed::body));
        // What was not awarded is free.
        if summary.auction.owner == from {
            self.release(turn, &summary.auction);
        }
    }

    /// Turns a part of a reservation into a commitment.
    fn take(&mut self, turn: &Turn<'_>, award: &Award) -> Result<(), Refusal> {
        if self.has(turn, &award.replica) {
            return Err(Refusal::Holds);
        }
        if let Some(seen) =
            turn.desk.seen(&award.replica).filter(|seen| seen.counter >= award.token.counter)
        {
            return Err(Refusal::SeenToken { seen });
        }
        // Whichever of the two is behind: the owner auctions again, or learns that there is nothing
        // to auction. A claim made now would stay, for what this node knows has been held against
        // its claims already.
        let known = turn.desk.look(&award.replica.uid, &award.generation) != Look::Unknown;
        if !known || !turn.desk.wants(&award.replica) {
            return Err(Refusal::OtherGeneration);
        }
        let reservation =
            self.reservations.get_mut(&award.auction).ok_or(Refusal::NoReservation)?;
        let meant =
            reservation.uid == award.replica.uid && reservation.generation == award.generation;
        let live = reservation.count > 0 && turn.now < reservation.until;
        if !meant || !live || !reservation.places.remove(&award.replica.place) {
            return Err(Refusal::NoReservation);
        }
        reservation.count -= 1;
        self.ledger.unreserve(reservation.resources, 1);
        self.ledger.commit(award.replica, reservation.resources);
        self.claiming.insert(award.replica, award.token);
        Ok(())
    }

    fn refuse(&self, turn: &mut Turn<'_>, award: &Award, why: Refusal, owner: NodeId) {
        let (auction, replica, token) = (award.auction, award.replica, award.token);
        turn.send(owner, Message::Refused { auction, replica, token, why });
    }

    pub(super) fn on_cancel(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        auction: AuctionId,
        replica: ReplicaId,
        token: Token,
    ) {
        if auction.owner != from {
            return turn.misbehaved(from, "a cancel of somebody else's auction");
        }
        if self.claiming.get(&replica) == Some(&token) {
            return; // The claim is on its way to the disk; the answer comes with it.
        }
        if turn.desk.claimed_under(&replica) == Some(token) {
            return turn.send(from, Message::Claimed { auction, claims: vec![(replica, token)] });
        }
        // The award never came. Were it to come now, it would find nothing reserved.
        self.release(turn, &auction);
        turn.send(from, Message::Refused { auction, replica, token, why: Refusal::Cancelled });
    }

    /// These claims are on disk.
    pub(super) fn claimed(&mut self, turn: &mut Turn<'_>, awards: &[Signed<Award>]) {
        for award in awards {
            self.claiming.remove(&award.replica);
        }
        say_claimed(turn, awards.iter().map(Signed::body));
    }

    /// The claim could not be made.
    pub(super) fn unclaimed(&mut self, turn: &mut Turn<'_>, award: &Signed<Award>, reason: String) {
        if self.claiming.get(&award.replica) == Some(&award.token) {
            self.free(&award.replica);
        }
        self.refuse(turn, award, Refusal::CannotClaim(reason), award.auction.owner);
    }

    pub(super) fn free(&mut self, replica: &ReplicaId) {
        self.claiming.remove(replica);
        self.ledger.free(replica);
    }

    pub(super) fn on_release(&mut self, turn: &mut Turn<'_>, from: NodeId, auction: AuctionId) {
        if auction.owner != from {
            return turn.misbehaved(from, "a release of somebody else's auction");
        }
        self.release(turn, &auction);
    }

    /// Frees what is reserved for an auction, and forgets that it asked too early.
    fn release(&mut self, turn: &mut Turn<'_>, auction: &AuctionId) {
        turn.base.timers.cancel(Reason::ReservationLapses(*auction));
        self.early.remove(auction);
        if let Some(reservation) = self.reservations.remove(auction) {
            self.ledger.unreserve(reservation.resources, reservation.count);
        }
    }

    pub(super) fn on_lapse(&mut self, turn: &mut Turn<'_>, auction: AuctionId) {
        let early = self.early.get(&auction).map(|early| early.until);
        let until = early.max(self.reservations.get(&auction).map(|reservation| reservation.until));
        match until {
            Some(until) if turn.now < until => {
                turn.base.timers.set(Reason::ReservationLapses(auction), until)
            }
            Some(_) | None => self.release(turn, &auction),
        }
    }

    /// A dead owner awards nothing.
    pub(super) fn node_down(&mut self, turn: &mut Turn<'_>, node: &NodeId) {
        let of_node = |auction: &&AuctionId| auction.owner == *node;
        let gone: BTreeSet<AuctionId> =
            self.reservations.keys().chain(self.early.keys()).filter(of_node).copied().collect();
        for auction in gone {
            self.release(turn, &auction);
        }
    }
}

/// Tells each auction's owner what of it is claimed, in as few messages as may be.
fn say_claimed<'a>(turn: &mut Turn<'_>, awards: impl Iterator<Item = &'a Award>) {
    let mut by_auction: BTreeMap<AuctionId, Vec<(ReplicaId, Token)>> = BTreeMap::new();
    for award in awards {
        by_auction.entry(award.auction).or_default().push((award.replica, award.token));
    }
    for (auction, claims) in by_auction {
        for claims in claims.chunks(MAX_PLACES) {
            turn.send(auction.owner, Message::Claimed { auction, claims: claims.to_vec() });
        }
    }
}
