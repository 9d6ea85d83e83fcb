//! Spreading the replicas of a workload over the values of labels. **The owner alone does this**:
//! it knows every claim, and every award of its own whose claim has not come yet, so that auctions
//! which it closes one after another cannot crowd one value.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{NodeId, Place};

use super::awards::Awards;
use super::cx::Cx;
use super::round::Round;

/// The replicas of one workload, counted by the values of the labels that they are spread over.
/// Empty for a workload that is not spread.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// The price of each replica that a value has more than the value with the fewest.
    price: u32,
    labels: Vec<Label>,
}

#[derive(Clone, Debug, Default)]
struct Label {
    /// The value of each bidder. Nodes without the label are a value of their own.
    values: BTreeMap<NodeId, Option<String>>,
    held: BTreeMap<Option<String>, u32>,
}

impl Tally {
    pub(super) fn of(cx: &Cx<'_>, awards: &Awards, round: &Round) -> Tally {
        let offer = &round.offer;
        if offer.spread.is_empty() {
            return Tally::default();
        }
        let sought: BTreeSet<Place> = round.places().collect();
        let claimed = cx.context.holders(&offer.uid).into_iter();
        // A place has one node: what this owner knows best counts.
        let mut placed: BTreeMap<Place, NodeId> = awards.placed(&offer.uid).collect();
        for (place, node) in claimed {
            placed.entry(place).or_insert(node);
        }
        placed.retain(|place, _| !sought.contains(place));
        let label = |name: &String| {
            let value = |node: &NodeId| cx.context.label(node, name);
            let values = round.bids().map(|(node, _)| (node, value(&node))).collect();
            let mut held: BTreeMap<Option<String>, u32> = BTreeMap::new();
            placed.values().for_each(|node| *held.entry(value(node)).or_default() += 1);
            Label { values, held }
        };
        Tally {
            price: cx.base.config.balance(offer.weights),
            labels: offer.spread.iter().map(label).collect(),
        }
    }

    /// The price of a place on a bidder for what stands with the same labels.
    pub(super) fn balance(&self, node: &NodeId) -> u32 {
        let more = self.labels.iter().map(|label| label.more(node));
        more.fold(0, u32::saturating_add).saturating_mul(self.price)
    }

    /// A bidder gets a place.
    pub(super) fn add(&mut self, node: &NodeId) {
        for label in &mut self.labels {
            if let Some(value) = label.values.get(node) {
                *label.held.entry(value.clone()).or_default() += 1;
            }
        }
    }
}

impl Label {
    /// The replicas with a bidder's value beyond those of the bidders' value with the fewest.
    fn more(&self, node: &NodeId) -> u32 {
        let held = |value: &Option<String>| self.held.get(value).copied().unwrap_or_default();
        let least = self.values.values().map(held).min().unwrap_or_default();
        self.values.get(node).map_or(0, |value| held(value).saturating_sub(least))
    }
}
