//! An auction that is not awarded yet: the nodes asked, their answers, and the cheapest assignment.

use std::collections::BTreeMap;

use crate::model::{AuctionId, Decline, NodeId, Place, Price, Time, WallClock};

use super::fact::{Excluded, Exclusion};
use super::offer::{Offer, OfferPlace};
use super::spreading::Tally;
use super::summary::{MAX_LINES, MAX_PRICES, NoBid, NotAsked, Summary, Won};

/// An auction that is not awarded yet. Each widening gives it another number.
#[derive(Clone, Debug)]
pub(super) struct Round {
    /// The offer; its places are those still sought.
    pub(super) offer: Offer,
    /// Eligible nodes that are not asked yet, in random order, this node first.
    pub(super) unasked: Vec<NodeId>,
    pub(super) answers: BTreeMap<NodeId, Answer>,
    /// Nodes that are not asked because of a recent answer.
    pub(super) recent: Vec<(NodeId, NoBid)>,
    pub(super) opened_at: Time,
    pub(super) opened: WallClock,
    /// The number of nodes to ask at once.
    pub(super) sample: usize,
    pub(super) stage: Stage,
}

/// The event that a round waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// The answers of bidders.
    Asking {
        /// The latest time.
        closes_at: Time,
    },
    /// The time to ask again, or to ask further nodes.
    Parked,
}

/// The answer of a node that was asked `times` times.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    Waiting {
        times: u32,
    },
    Deferred {
        at: Time,
        why: Decline,
        times: u32,
    },
    Bid(Bid),
    /// The node did not answer while the round was open.
    Silent {
        times: u32,
    },
    No(NoBid),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Bid {
    pub(super) prices: Vec<Price>,
    pub(super) without: BTreeMap<Place, Decline>,
}

/// The winner and the price of each place.
pub(super) type Assignment = BTreeMap<Place, (NodeId, Price)>;

impl Round {
    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        self.offer.places.iter().map(|place| place.place)
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.answers.values().any(|answer| matches!(answer, Answer::Waiting { .. }))
    }

    /// The first time at which a bidder wants to be asked again.
    pub(super) fn next_deferred(&self) -> Option<Time> {
        self.deferred().map(|(at, ..)| at).min()
    }

    /// Whether to wait for bidders that want to be asked again: no other node takes all places; or
    /// such a bidder does not know the workload yet. Right after a publish no node but the owner
    /// knows it, and that changes within milliseconds.
    pub(super) fn waits_for_deferred(&self) -> bool {
        self.deferred()
            .any(|(_, why, times)| times <= 1 && matches!(why, Decline::NotInStep { .. }))
            || (self.deferred().next().is_some()
                && self.assign(Tally::default()).len() < self.offer.places.len())
    }

    fn deferred(&self) -> impl Iterator<Item = (Time, &Decline, u32)> {
        self.answers.values().filter_map(|answer| match answer {
            Answer::Deferred { at, why, times } => Some((*at, why, *times)),
            Answer::Waiting { .. } | Answer::Bid(_) | Answer::Silent { .. } | Answer::No(_) => None,
        })
    }

    /// The cheapest assignment: each place to the least next price, places with few takers first;
    /// among equal prices to the lower id.
    pub(super) fn assign(&self, mut tally: Tally) -> Assignment {
        let bids: Vec<(NodeId, &Bid)> = self.bids().collect();
        let takers =
            |place: &Place| bids.iter().filter(|(_, bid)| !bid.without.contains_key(place)).count();
        let mut places: Vec<(usize, Place)> =
            self.places().map(|place| (takers(&place), place)).collect();
        places.sort();
        let mut taken: BTreeMap<NodeId, usize> = BTreeMap::new();
        let mut assignment = Assignment::new();
        for (_, place) in places {
            let next_price = |(node, bid): &(NodeId, &Bid)| {
                let price = *bid.prices.get(taken.get(node).copied().unwrap_or(0))?;
                let price = Price { balance: tally.balance(node), ..price };
                (!bid.without.contains_key(&place)).then_some((price.total(), *node, price))
            };
            if let Some((_, node, price)) =
                bids.iter().filter_map(next_price).min_by_key(|(sum, node, _)| (*sum, *node))
            {
                *taken.entry(node).or_default() += 1;
                tally.add(&node);
                assignment.insert(place, (node, price));
            }
        }
        self.in_contiguous_runs(assignment)
    }

    /// The same prices and the same number of places for each node, but consecutive places for
    /// each, if every bidder takes every place: consecutive places share a slot of a sheet.
    fn in_contiguous_runs(&self, assignment: Assignment) -> Assignment {
        if self.bids().any(|(_, bid)| !bid.without.is_empty()) {
            return assignment;
        }
        let mut won: Vec<(NodeId, Price)> = assignment.values().copied().collect();
        won.sort_by_key(|(node, price)| (*node, price.total()));
        assignment.into_keys().zip(won).collect()
    }

    pub(super) fn bids(&self) -> impl Iterator<Item = (NodeId, &Bid)> {
        self.answers.iter().filter_map(|(node, answer)| match answer {
            Answer::Bid(bid) => Some((*node, bid)),
            Answer::Waiting { .. }
            | Answer::Deferred { .. }
            | Answer::Silent { .. }
            | Answer::No(_) => None,
        })
    }

    /// The rest of the round after `assignment` was awarded. Answers that were for this number only
    /// are turned into past ones.
    pub(super) fn after(mut self, assignment: &Assignment) -> Round {
        self.offer.places.retain(|place| !assignment.contains_key(&place.place));
        let left: Vec<Place> = self.places().collect();
        for answer in self.answers.values_mut() {
            let past = match answer {
                Answer::Waiting { times } => Answer::Silent { times: *times },
                Answer::Bid(bid) => {
                    let declined = left.iter().find_map(|place| bid.without.get(place)).cloned();
                    Answer::No(declined.map_or(NoBid::Taken, NoBid::Declined))
                }
                Answer::Deferred { .. } | Answer::Silent { .. } | Answer::No(_) => continue,
            };
            *answer = past;
        }
        self
    }

    /// The summary of the round so far.
    pub(super) fn summary(
        &self,
        auction: AuctionId,
        now: Time,
        awards: Vec<Won>,
        tally: &Tally,
    ) -> Summary {
        let priced = |node: NodeId, bid: &Bid| {
            let balance = tally.balance(&node);
            (node, bid.prices.iter().map(|price| Price { balance, ..*price }).collect())
        };
        let mut bids: Vec<(NodeId, Vec<Price>)> =
            self.bids().map(|(node, bid)| priced(node, bid)).collect();
        bids.sort_by_key(|(node, prices)| (prices.first().map(Price::total), *node));
        bids.iter_mut().for_each(|(_, prices)| prices.truncate(MAX_PRICES));
        let declines: Vec<(NodeId, NoBid)> = self
            .answers
            .iter()
            .filter_map(|(node, answer)| Some((*node, no_bid(answer)?)))
            .collect();
        let unfit =
            self.offer.excluded.iter().map(|(node, why)| (*node, NotAsked::Unfit(why.clone())));
        let recent = self.recent.iter().map(|(node, why)| (*node, NotAsked::Lately(why.clone())));
        let others = self.unasked.iter().map(|node| (*node, NotAsked::NotSampled));
        let not_asked: Vec<(NodeId, NotAsked)> = unfit.chain(recent).chain(others).collect();
        let (bids, more_bids) = cut(bids);
        let (declines, more_declines) = cut(declines);
        let (not_asked, more_not_asked) = cut(not_asked);
        let place = |place: &OfferPlace| (place.place, place.why.clone());
        Summary {
            auction,
            name: self.offer.name.clone(),
            uid: self.offer.uid,
            generation: self.offer.generation,
            resources: self.offer.resources,
            places: self.offer.places.iter().map(place).collect(),
            opened: self.opened,
            took_us: u64::try_from(now.since(self.opened_at).as_micros()).unwrap_or(u64::MAX),
            bids,
            declines,
            not_asked,
            omitted: [more_bids, more_declines, more_not_asked],
            awards,
        }
    }

    /// The reasons, each with the number of nodes that it excluded, the most frequent first.
    pub(super) fn excluded(&self) -> Vec<Excluded> {
        let mut counts: BTreeMap<Exclusion, usize> = BTreeMap::new();
        let unfit = self.offer.excluded.iter().map(|(_, why)| Exclusion::Unfit(why.clone()));
        let answers = self.answers.values().filter_map(no_bid).map(|why| exclusion(&why));
        let recent = self.recent.iter().map(|(_, why)| exclusion(why));
        let others = self.unasked.iter().map(|_| Exclusion::NotAsked);
        for why in unfit.chain(answers).chain(recent).chain(others) {
            *counts.entry(why).or_default() += 1;
        }
        let mut excluded: Vec<Excluded> =
            counts.into_iter().map(|(why, nodes)| Excluded { why, nodes }).collect();
        excluded.sort_by_key(|excluded| std::cmp::Reverse(excluded.nodes));
        excluded
    }
}

fn no_bid(answer: &Answer) -> Option<NoBid> {
    match answer {
        Answer::Waiting { .. } | Answer::Silent { .. } => Some(NoBid::Silent),
        Answer::Deferred { why, .. } => Some(NoBid::Declined(why.clone())),
        Answer::No(why) => Some(why.clone()),
        Answer::Bid(_) => None,
    }
}

fn exclusion(why: &NoBid) -> Exclusion {
    match why {
        NoBid::Declined(decline) => decline.into(),
        NoBid::Silent => Exclusion::Silent,
        NoBid::Down => Exclusion::Down,
        NoBid::Refused => Exclusion::Refused,
        NoBid::Taken => Exclusion::Taken,
    }
}

/// The first [`MAX_LINES`], and the number of the others.
fn cut<T>(mut list: Vec<T>) -> (Vec<T>, u32) {
    let more = list.len().saturating_sub(MAX_LINES);
    list.truncate(MAX_LINES);
    (list, u32::try_from(more).unwrap_or(u32::MAX))
}
