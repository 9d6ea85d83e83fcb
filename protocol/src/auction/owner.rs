//! The owner's half until the award: it opens rounds, asks bidders and takes their answers.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::claim::short_reason;
use crate::model::{AuctionId, Bucket, Decline, Digest, NodeId, Place, Price, Queue, ReplicaId};

use super::awards::Awards;
use super::config::Config;
use super::cx::Cx;
use super::fact::{Fact, Reason};
use super::memory::{Memory, TokenCounters};
use super::message::{Announce, Message};
use super::offer::{MAX_PLACES, Offer};
use super::round::{Answer, Bid, Round, Stage};
use super::summary::NoBid;
use super::timers::millis;

/// The auctions of this node.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub(super) next_number: u64,
    /// Bounded by [`Config::max_auctions`].
    rounds: BTreeMap<u64, Round>,
    /// The number of the round that seeks a replica.
    sought: BTreeMap<ReplicaId, u64>,
    pub(super) awards: Awards,
    pub(super) memory: Memory,
    pub(super) token_counters: TokenCounters,
    pub(super) widening: Bucket,
}

impl Owner {
    pub(super) fn new(config: &Config, incarnation: u64) -> Self {
        Owner {
            next_number: (incarnation & u64::from(u32::MAX)) << 32,
            rounds: BTreeMap::new(),
            sought: BTreeMap::new(),
            awards: Awards::default(),
            memory: Memory::default(),
            token_counters: TokenCounters::default(),
            widening: Bucket::new(config.widen_burst, config.widen_every),
        }
    }

    /// The numbers of auctions and of the replicas that they seek.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.rounds.len(), self.sought.len())
    }

    pub(super) fn remembered(&self) -> impl Iterator<Item = Queue> {
        self.memory.queues().into_iter().chain([self.token_counters.queue(), self.awards.past()])
    }

    /// The number of places that can be opened, while `awaited` claims were reported whose sheets
    /// have not come.
    pub(super) fn room(&self, config: &Config, awaited: usize) -> usize {
        let full =
            self.rounds.len() >= config.max_auctions || self.awards.len() >= config.max_awards;
        if full {
            0
        } else {
            config.max_under_way.saturating_sub(self.sought.len() + self.awards.len() + awaited)
        }
    }

    pub(super) fn is_under_way(&self, replica: &ReplicaId) -> bool {
        self.sought.contains_key(replica) || self.awards.is_open(replica)
    }

    pub(super) fn holds_auctions_of(&self, uid: &Digest) -> bool {
        self.rounds.values().any(|round| round.offer.uid == *uid) || self.awards.any_open_of(uid)
    }

    pub(super) fn open(&mut self, cx: &mut Cx<'_>, mut offer: Offer, awaited: usize) {
        let uid = offer.uid;
        offer.places.sort_by_key(|place| place.place);
        offer.places.dedup_by_key(|place| place.place);
        offer.places.retain(|place| !self.is_under_way(&ReplicaId { uid, place: place.place }));
        let config = &cx.base.config;
        let left_out = offer
            .places
            .split_off(offer.places.len().min(MAX_PLACES).min(self.room(config, awaited)));
        if !left_out.is_empty() {
            let places = left_out.into_iter().map(|place| place.place).collect();
            cx.facts.push(Fact::Full { uid, places });
        }
        if offer.places.is_empty() {
            return;
        }
        for place in &mut offer.places {
            place.why = short_reason(std::mem::take(&mut place.why));
        }
        let (unasked, recent) = self.choose(cx, &mut offer);
        let sample = (offer.places.len() * cx.base.config.sample_per_replica)
            .max(cx.base.config.sample_at_least);
        let round = Round {
            offer,
            unasked,
            answers: BTreeMap::new(),
            recent,
            opened_at: cx.now,
            opened: cx.context.wall(),
            sample,
            stage: Stage::Parked,
        };
        self.ask_unasked(cx, round);
    }

    /// Candidates in random order, this node first, unless the offer has an order of its own; and
    /// those whose recent answer still counts.
    fn choose(&self, cx: &mut Cx<'_>, offer: &mut Offer) -> (Vec<NodeId>, Vec<(NodeId, NoBid)>) {
        let mut seen = BTreeSet::new();
        let mut candidates = std::mem::take(&mut offer.candidates);
        candidates.retain(|node| seen.insert(*node));
        if !offer.is_ordered {
            candidates.sort();
        }
        // In a small cluster a question costs nothing, and resources may be free again. Only a node
        // that was silent, or refused its award, is not asked.
        let few = candidates.len() <= cx.base.config.sample_at_least;
        let (mut unasked, mut recent) = (Vec::new(), Vec::new());
        for node in candidates {
            match self.memory.recent_answer(cx.now, (offer.uid, offer.generation), node) {
                Some(why) if !few || matches!(why, NoBid::Refused | NoBid::Silent) => {
                    recent.push((node, why.clone()))
                }
                Some(_) | None => unasked.push(node),
            }
        }
        if offer.is_ordered {
            return (unasked, recent);
        }
        for i in (1..unasked.len()).rev() {
            let other = usize::try_from(cx.random_below(i as u64 + 1)).unwrap_or(i);
            unasked.swap(i, other);
        }
        if let Some(me) = unasked.iter().position(|node| *node == cx.base.me) {
            unasked.swap(0, me);
        }
        (unasked, recent)
    }

    pub(super) fn ask_unasked(&mut self, cx: &mut Cx<'_>, mut round: Round) {
        let rest = round.unasked.split_off(round.sample.min(round.unasked.len()));
        let sample = std::mem::replace(&mut round.unasked, rest);
        if sample.is_empty() { self.unplaceable(cx, round) } else { self.ask(cx, round, &sample) }
    }

    /// Announces the rest of a round to `sample`, under a new number.
    pub(super) fn ask(&mut self, cx: &mut Cx<'_>, mut round: Round, sample: &[NodeId]) {
        let config = &cx.base.config;
        let round_trip =
            sample.iter().map(|node| cx.context.rtt(node)).max().unwrap_or_default() * 2;
        let window = (config.answer_at_least + round_trip).min(config.answer_at_most);
        let closes_at = cx.now + window;
        round.stage = Stage::Asking { closes_at };
        for node in sample {
            let times = match round.answers.get(node) {
                Some(
                    Answer::Waiting { times }
                    | Answer::Deferred { times, .. }
                    | Answer::Silent { times },
                ) => times + 1,
                Some(Answer::Bid(_) | Answer::No(_)) | None => 1,
            };
            round.answers.insert(*node, Answer::Waiting { times });
        }
        let number = self.enter(round);
        cx.base.timers.set(Reason::RoundCloses(number), closes_at);
        self.announce(cx, number, sample);
    }

    fn announce(&self, cx: &mut Cx<'_>, number: u64, nodes: &[NodeId]) {
        let Some(round) = self.rounds.get(&number) else { return };
        let Stage::Asking { closes_at } = round.stage else { return };
        let answer = closes_at.since(cx.now);
        for node in nodes {
            let config = &cx.base.config;
            let hold =
                answer + config.claim_within + config.cancel_within + cx.context.rtt(node) * 4;
            let announce = Announce {
                auction: AuctionId { owner: cx.base.me, number },
                uid: round.offer.uid,
                generation: round.offer.generation,
                places: round.places().collect(),
                answer_ms: millis(answer),
                hold_ms: millis(hold),
            };
            cx.send(*node, Message::Announce(announce));
        }
    }

    /// Stores a round under a new number.
    pub(super) fn enter(&mut self, round: Round) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        for place in round.places() {
            self.sought.insert(ReplicaId { uid: round.offer.uid, place }, number);
        }
        self.rounds.insert(number, round);
        number
    }

    pub(super) fn take_out(&mut self, cx: &mut Cx<'_>, number: u64) -> Option<Round> {
        cx.base.timers.cancel(Reason::RoundCloses(number));
        cx.base.timers.cancel(Reason::RoundAsksAgain(number));
        let round = self.rounds.remove(&number)?;
        for place in round.places() {
            self.sought.remove(&ReplicaId { uid: round.offer.uid, place });
        }
        Some(round)
    }

    pub(super) fn on_bid(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        auction: AuctionId,
        prices: Vec<Price>,
        without: Vec<(Place, Decline)>,
    ) {
        if auction.owner != cx.base.me {
            return cx.misbehaved(from, "a bid at another owner's auction");
        }
        let Some(answer) =
            self.rounds.get_mut(&auction.number).and_then(|round| round.answers.get_mut(&from))
        else {
            // The bid comes too late: its reservation is free.
            return cx.send(from, Message::Release { auction });
        };
        if matches!(answer, Answer::Bid(_)) {
            return; // It has bid already.
        }
        let is_held = |(_, why): &&(Place, Decline)| *why == Decline::Holds;
        let held: Vec<Place> = without.iter().filter(is_held).map(|(place, _)| *place).collect();
        if prices.is_empty() {
            let other = without
                .iter()
                .find(|line| !is_held(line))
                .map_or(Decline::Holds, |(_, why)| why.clone());
            self.withdraw_held(cx, auction.number, from, &held);
            return self.on_decline(cx, from, auction, other);
        }
        *answer = Answer::Bid(Bid { prices, without: without.into_iter().collect() });
        self.withdraw_held(cx, auction.number, from, &held);
        self.progress(cx, auction.number);
    }

    /// These places are held already. Their holder is up, and its claims are on their way here.
    fn withdraw_held(&mut self, cx: &mut Cx<'_>, number: u64, holder: NodeId, places: &[Place]) {
        let Some(round) = self.rounds.get_mut(&number) else { return };
        for place in places {
            let replica = ReplicaId { uid: round.offer.uid, place: *place };
            // Only places that the bidder was asked about count.
            if self.sought.get(&replica) == Some(&number) {
                self.sought.remove(&replica);
                round.offer.places.retain(|sought| sought.place != *place);
                cx.facts.push(Fact::Held { replica, node: holder });
            }
        }
        if round.offer.places.is_empty() {
            self.call_off(cx, number);
        }
    }

    pub(super) fn on_decline(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        auction: AuctionId,
        why: Decline,
    ) {
        if auction.owner != cx.base.me {
            return cx.misbehaved(from, "an answer to another owner's auction");
        }
        let Some(round) = self.rounds.get_mut(&auction.number) else { return };
        let what = (round.offer.uid, round.offer.generation);
        let Some(answer) = round.answers.get_mut(&from) else { return };
        // A bidder that wants to be asked again may have found its answer meanwhile.
        let (Answer::Waiting { times } | Answer::Deferred { times, .. }) = answer else { return };
        let times = *times;
        *answer = match &why {
            Decline::Busy { retry_ms } | Decline::NotInStep { retry_ms } => {
                let wait = std::time::Duration::from_millis(u64::from(*retry_ms))
                    .min(cx.base.config.answer_at_most);
                // Never at once, otherwise two nodes could send messages without end.
                let wait = wait.max(cx.base.config.not_in_step_retry / 4);
                Answer::Deferred { at: cx.now + wait, why, times }
            }
            Decline::Unfit(_)
            | Decline::NoRoom { .. }
            | Decline::PortTaken { .. }
            | Decline::Taken { .. }
            | Decline::DiskFull { .. }
            | Decline::Evictable { .. }
            | Decline::Cooling { .. }
            | Decline::ReadOnly
            | Decline::Leaving
            | Decline::Holds => {
                let why = NoBid::Declined(why);
                self.memory.remember(&cx.base.config, cx.now, what, from, &why);
                Answer::No(why)
            }
        };
        self.progress(cx, auction.number);
    }

    /// After an answer: closes the round if there is nothing left to wait for.
    fn progress(&mut self, cx: &mut Cx<'_>, number: u64) {
        let Some(round) = self.rounds.get(&number).filter(|round| round.stage != Stage::Parked)
        else {
            return;
        };
        if let Some(at) = round.next_deferred() {
            cx.base.timers.set(Reason::RoundAsksAgain(number), at);
        }
        if !round.is_waiting() && !round.waits_for_deferred() {
            self.close(cx, number);
        }
    }

    pub(super) fn on_asks_again(&mut self, cx: &mut Cx<'_>, number: u64) {
        let Some(round) = self.rounds.get_mut(&number) else { return };
        if round.stage == Stage::Parked {
            if let Some(round) = self.take_out(cx, number) {
                self.continue_round(cx, round);
            }
            return;
        }
        let mut due = Vec::new();
        for (node, answer) in &mut round.answers {
            if let Answer::Deferred { at, times, .. } = answer
                && *at <= cx.now
            {
                *answer = Answer::Waiting { times: *times + 1 };
                due.push(*node);
            }
        }
        if let Some(at) = round.next_deferred() {
            cx.base.timers.set(Reason::RoundAsksAgain(number), at);
        }
        self.announce(cx, number, &due);
    }

    /// Takes one place out of the round that seeks it.
    pub(super) fn withdraw(&mut self, cx: &mut Cx<'_>, replica: &ReplicaId) {
        let Some(number) = self.sought.remove(replica) else { return };
        let Some(round) = self.rounds.get_mut(&number) else { return };
        round.offer.places.retain(|place| place.place != replica.place);
        if round.offer.places.is_empty() {
            self.call_off(cx, number);
        } else {
            self.progress(cx, number);
        }
    }

    /// Ends a round without an award.
    fn call_off(&mut self, cx: &mut Cx<'_>, number: u64) {
        let Some(round) = self.take_out(cx, number) else { return };
        let auction = AuctionId { owner: cx.base.me, number };
        for (node, answer) in &round.answers {
            // Also to bidders that may be answering now, or keep an early announcement.
            if matches!(answer, Answer::Waiting { .. } | Answer::Deferred { .. } | Answer::Bid(_)) {
                cx.send(*node, Message::Release { auction });
            }
        }
    }

    pub(super) fn close_all_for(&mut self, cx: &mut Cx<'_>, uid: &Digest) {
        let numbers: Vec<u64> = self
            .rounds
            .iter()
            .filter(|(_, round)| round.offer.uid == *uid)
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            self.call_off(cx, number);
        }
        self.awards.forget_workload(cx, uid);
        self.memory.succeeded(uid);
    }

    pub(super) fn node_down(&mut self, cx: &mut Cx<'_>, node: &NodeId) {
        self.awards.node_down(cx, node);
        let mut numbers = Vec::new();
        for (number, round) in &mut self.rounds {
            round.unasked.retain(|unasked| unasked != node);
            round.offer.guardians.retain(|guardian| guardian != node);
            if let Some(answer) = round.answers.get_mut(node) {
                *answer = Answer::No(NoBid::Down);
                numbers.push(*number);
            }
        }
        for number in numbers {
            self.progress(cx, number);
        }
    }
}
