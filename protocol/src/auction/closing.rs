//! The owner's half from the end of a round: it awards places, continues with the rest, and follows
//! awards until they are claimed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{AuctionId, Award, Decline, NodeId, Place, ReplicaId, Signed, Token};

use super::awards::{Awards, Claimed};
use super::cx::Cx;
use super::fact::{Fact, NotTaken, Reason};
use super::message::{Message, Refusal};
use super::owner::Owner;
use super::round::{Answer, Assignment, Round, Stage};
use super::spreading::Tally;
use super::summary::{NoBid, Won};
use super::timers::millis;

/// How far ahead a counter may be that a winner reports as seen: half of what claims allow, so that
/// peers still accept the counter that is awarded above it.
const MAX_SEEN_JUMP: u64 = 1 << 19;
/// How many times a node is asked that does not answer.
const MAX_UNANSWERED_ASKS: u32 = 2;

impl Owner {
    /// Awards the places with a bid; continues with the rest.
    pub(super) fn close(&mut self, cx: &mut Cx<'_>, number: u64) {
        let Some(round) = self.take_out(cx, number) else { return };
        let auction = AuctionId { owner: cx.base.me, number };
        let tally = Tally::of(cx, &self.awards, &round);
        let assignment = round.assign(tally.clone());
        let winners: BTreeSet<NodeId> = assignment.values().map(|(node, _)| *node).collect();
        for (node, _) in round.bids().filter(|(node, _)| !winners.contains(node)) {
            cx.send(node, Message::Release { auction });
        }
        if !assignment.is_empty() {
            self.award(cx, &round, auction, &assignment, &tally);
        }
        let rest = round.after(&assignment);
        if !rest.offer.places.is_empty() {
            self.continue_round(cx, rest);
        }
    }

    fn award(
        &mut self,
        cx: &mut Cx<'_>,
        round: &Round,
        auction: AuctionId,
        assignment: &Assignment,
        tally: &Tally,
    ) {
        let (uid, generation) = (round.offer.uid, round.offer.generation);
        let least = |place: &Place| {
            round
                .offer
                .places
                .iter()
                .find(|known| known.place == *place)
                .map_or(1, |known| known.counter)
        };
        let mut won: BTreeMap<NodeId, Vec<Signed<Award>>> = BTreeMap::new();
        let mut lines = Vec::new();
        for (place, (to, price)) in assignment {
            let replica = ReplicaId { uid, place: *place };
            let counter = self.token_counters.draw(replica, least(place).max(1));
            let token = Token { counter, by: cx.base.me, incarnation: cx.base.incarnation };
            lines.push(Won { place: *place, to: *to, token, price: *price });
            let award = Award { auction, replica, generation, token, to: *to };
            won.entry(*to).or_default().push(Signed::sign(award, &cx.base.keys, &cx.base.cluster));
        }
        self.memory.succeeded(&uid);
        let summary = Arc::new(round.summary(auction, cx.now, lines, tally));
        cx.keep(&summary);
        for (to, awards) in won {
            for award in &awards {
                let (replica, token) = (award.replica, award.token);
                cx.facts.push(Fact::Awarded {
                    replica,
                    node: to,
                    token,
                    summary: Arc::clone(&summary),
                });
            }
            let notice: Vec<_> = awards.iter().map(|award| award.wire()).collect();
            let open_ms = millis(Awards::open_for(cx, &to));
            let me = cx.base.me;
            for guardian in
                round.offer.guardians.iter().filter(|guardian| **guardian != me && **guardian != to)
            {
                cx.send(*guardian, Message::Notice { awards: notice.clone(), open_ms });
            }
            self.awards.send_awards(cx, to, awards, &summary);
        }
    }

    /// Some places found no taker: asks further nodes, asks some again, waits, or gives up.
    pub(super) fn continue_round(&mut self, cx: &mut Cx<'_>, mut round: Round) {
        if cx.now.since(round.opened_at) >= cx.base.config.give_up_after {
            return self.unplaceable(cx, round);
        }
        let mut wake_at = None;
        if !round.unasked.is_empty() {
            match self.widening.take(cx.now) {
                Ok(()) => {
                    round.sample = round.sample.saturating_mul(cx.base.config.widen_factor.max(1));
                    return self.ask_unasked(cx, round);
                }
                Err(at) => wake_at = Some(at),
            }
        }
        let again: Vec<NodeId> = round
            .answers
            .iter()
            .filter(|(_, answer)| answer.is_due(cx))
            .map(|(node, _)| *node)
            .collect();
        if !again.is_empty() {
            return self.ask(cx, round, &again);
        }
        match wake_at.into_iter().chain(round.next_deferred()).min() {
            Some(at) => {
                round.stage = Stage::Parked;
                let number = self.enter(round);
                cx.base.timers.set(Reason::RoundAsksAgain(number), at);
            }
            None => self.unplaceable(cx, round),
        }
    }

    pub(super) fn unplaceable(&mut self, cx: &mut Cx<'_>, round: Round) {
        let (uid, generation) = (round.offer.uid, round.offer.generation);
        for (node, answer) in &round.answers {
            if matches!(answer, Answer::Silent { .. }) {
                self.memory.remember(
                    &cx.base.config,
                    cx.now,
                    (uid, generation),
                    *node,
                    &NoBid::Silent,
                );
            }
        }
        let auction = AuctionId { owner: cx.base.me, number: self.next_number };
        self.next_number += 1;
        cx.keep(&Arc::new(round.summary(auction, cx.now, Vec::new(), &Tally::default())));
        let is_coming = make_room(cx, &round, auction);
        cx.facts.push(Fact::Unplaceable {
            uid,
            places: round.places().collect(),
            why: round.excluded(),
            retry_after: match is_coming {
                true => cx.base.config.retry_at_least,
                false => self.memory.failed(&cx.base.config, uid),
            },
        });
    }

    /// The winner reports its claim. Returns whether that is news; then its sheet was not seen yet.
    pub(super) fn on_claimed(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        replica: ReplicaId,
        token: Token,
    ) -> bool {
        match self.awards.claimed(cx, from, replica, token) {
            Claimed::InTime => true,
            Claimed::Late => {
                self.withdraw(cx, &replica);
                true
            }
            Claimed::Unknown => false,
        }
    }

    /// A claim stands in a sheet: its place needs no auction, whichever owner awarded it.
    pub(super) fn saw_claim(
        &mut self,
        cx: &mut Cx<'_>,
        node: NodeId,
        replica: ReplicaId,
        token: Token,
    ) {
        self.awards.claimed(cx, node, replica, token);
        self.awards.seen(&replica);
        self.withdraw(cx, &replica);
    }

    pub(super) fn on_refused(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        replica: ReplicaId,
        token: Token,
        why: Refusal,
    ) {
        let Some(generation) = self.awards.generation(&replica) else { return };
        if !self.awards.lost(cx, from, replica, token, NotTaken::Refused(why.clone())) {
            return;
        }
        let is_too_far_ahead =
            |seen: &Token| seen.counter > token.counter.saturating_add(MAX_SEEN_JUMP);
        if matches!(&why, Refusal::SeenToken { seen } if is_too_far_ahead(seen)) {
            cx.misbehaved(from, "a token that is too far ahead");
        }
        match why {
            Refusal::SeenToken { seen } if !is_too_far_ahead(&seen) => {
                self.token_counters.raise(replica, seen.counter)
            }
            Refusal::SeenToken { .. }
            | Refusal::NoReservation
            | Refusal::CannotClaim(_)
            | Refusal::NotRightful => {
                let what = (replica.uid, generation);
                self.memory.remember(&cx.base.config, cx.now, what, from, &NoBid::Refused);
            }
            Refusal::OtherGeneration | Refusal::Holds | Refusal::Cancelled => {}
        }
    }

    pub(super) fn on_unanswered(&mut self, cx: &mut Cx<'_>, replica: ReplicaId) {
        if let Some(award) = self.awards.on_due(cx, replica) {
            let what = (replica.uid, award.generation);
            self.memory.remember(&cx.base.config, cx.now, what, award.to, &NoBid::Silent);
        }
    }
}

/// Nobody has room: asks the nodes with the cheapest victims to make some, one for each place. Not
/// while a node is busy: it may be making room already. Returns whether any was asked.
fn make_room(cx: &mut Cx<'_>, round: &Round, auction: AuctionId) -> bool {
    let is_busy = |it: &Answer| matches!(it, Answer::Deferred { why: Decline::Busy { .. }, .. });
    if round.answers.values().any(is_busy) {
        return false;
    }
    let cost = |(node, answer): (&NodeId, &Answer)| match answer {
        Answer::No(NoBid::Declined(Decline::Evictable { count, highest })) => {
            Some((*highest, *count, *node))
        }
        _ => None,
    };
    let mut able: Vec<(i32, u32, NodeId)> = round.answers.iter().filter_map(cost).collect();
    able.sort();
    let (uid, generation) = (round.offer.uid, round.offer.generation);
    for (place, (.., node)) in round.places().zip(&able) {
        let replica = ReplicaId { uid, place };
        cx.send(*node, Message::MakeRoom { auction, generation, replica });
    }
    !able.is_empty()
}

impl Answer {
    /// Whether to ask the node again now.
    fn is_due(&self, cx: &Cx<'_>) -> bool {
        match self {
            Answer::Deferred { at, .. } => *at <= cx.now,
            Answer::Silent { times } => *times < MAX_UNANSWERED_ASKS,
            Answer::Waiting { .. } | Answer::Bid(_) | Answer::No(_) => false,
        }
    }
}
