//! `plan`, what it takes and what it gives.

use std::collections::BTreeMap;
use std::fmt;

use crate::model::{Digest, NodeId, Place, Token, WallClock};

/// What is wished for now, under one uid.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Desire {
    /// So many replicas, places `0..replicas`, of this generation.
    Run {
        /// How many.
        replicas: u32,
        /// Of which generation.
        generation: Digest,
    },
    /// Nothing: the workload was removed.
    Removed,
}

/// How far a claimed replica has come, as far as the plan cares.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum HolderPhase {
    /// Being fetched, compiled or started.
    Starting,
    /// Running and answering.
    Healthy,
    /// It failed and is being tried again there.
    Failing {
        /// For people.
        reason: String,
        /// How many times it was tried again.
        restarts: u32,
    },
}

/// What is known of a holder's node.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum NodeState {
    /// It answers.
    Up,
    /// It said that it would be back: its claims count until the caller says otherwise.
    BackBy {
        /// When, by the planning device's clock; for people.
        until: WallClock,
    },
    /// Silent since this node started; its cached claims count for a grace.
    Grace,
    /// Held to be dead by its observers.
    Down {
        /// Why, for people.
        evidence: String,
    },
    /// No longer on the roster.
    Left,
}

impl NodeState {
    /// Whether claims of such a node count as places held.
    pub fn counts(&self) -> bool {
        match self {
            NodeState::Up | NodeState::BackBy { .. } | NodeState::Grace => true,
            NodeState::Down { .. } | NodeState::Left => false,
        }
    }
}

/// One node's claim of one place. A node appears at most once a place.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Holder {
    /// What it claims.
    pub place: Place,
    /// The node.
    pub node: NodeId,
    /// Under which right.
    pub token: Token,
    /// Of which generation.
    pub generation: Digest,
    /// How far it has come.
    pub phase: HolderPhase,
    /// Its node.
    pub state: NodeState,
    /// The holder that is kept instead of this one, by `claims::keeper`; none when this one is kept
    /// or alone.
    pub yields_to: Option<NodeId>,
}

/// What is between the wish and the claims. Every list is ordered by place, then node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Gap {
    /// Places that nobody holds: the owner auctions them.
    pub missing: Vec<Missing>,
    /// Claims that should not be.
    pub surplus: Vec<Surplus>,
    /// Places that count as held though all is not well, or not yet.
    pub held: Vec<Held>,
    /// Every wished place that counts as held, and its holder (of several, the one that is kept).
    pub counted: BTreeMap<Place, NodeId>,
    /// Places whose holder is up, healthy and of the current generation.
    pub healthy: u32,
}

impl Gap {
    /// Nothing is missing, too much or held back.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.surplus.is_empty() && self.held.is_empty()
    }
}

/// A place that nobody holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missing {
    /// Which.
    pub place: Place,
    /// The counter of the token to award it under: one more than any that was seen.
    pub counter: u64,
    /// Why it is missing.
    pub why: MissingWhy,
}

/// Why a place is missing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MissingWhy {
    /// Nobody ever held it, as far as is known here.
    NeverPlaced,
    /// It was held once; its last holder gave it up.
    GivenUp,
    /// Its node is down.
    NodeDown {
        /// The node.
        node: NodeId,
        /// Why it is held to be down.
        evidence: String,
    },
    /// Its node left the roster.
    NodeLeft {
        /// The node.
        node: NodeId,
    },
}

/// A claim that should not be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Surplus {
    /// Which place.
    pub place: Place,
    /// Whose claim.
    pub node: NodeId,
    /// Why it is too much.
    pub why: SurplusWhy,
}

/// Why a claim is too much.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SurplusWhy {
    /// Its number is not among the wished ones.
    AboveReplicas {
        /// How many are wished for.
        replicas: u32,
    },
    /// The workload was removed.
    Removed,
    /// Another holder of the place is kept.
    Duplicate {
        /// That one.
        keeper: NodeId,
    },
}

impl SurplusWhy {
    /// Whether the holder stops on this word alone. A duplicate does not: it stops when the keeper
    /// itself has answered.
    pub fn stops_at_once(&self) -> bool {
        match self {
            SurplusWhy::AboveReplicas { .. } | SurplusWhy::Removed => true,
            SurplusWhy::Duplicate { .. } => false,
        }
    }
}

/// A place that counts as held though all is not well, or not yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    /// Which place.
    pub place: Place,
    /// Its holder.
    pub node: NodeId,
    /// What is not well.
    pub why: HeldWhy,
}

/// Why a place that is not well is not auctioned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HeldWhy {
    /// Its node announced that it would be back.
    BackBy {
        /// When, by the planning device's clock.
        until: WallClock,
    },
    /// Its node has been silent since this one started, and is given a little time.
    Grace,
    /// It runs another generation than the wished one; its holder replaces it in place.
    OtherGeneration {
        /// What it runs.
        runs: Digest,
        /// What is wished.
        wished: Digest,
    },
    /// It fails there and is being tried again.
    Failing {
        /// What was said.
        reason: String,
        /// How many times it was tried again.
        restarts: u32,
    },
    /// It is being fetched, compiled or started.
    Starting,
}

impl fmt::Display for MissingWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MissingWhy::NeverPlaced => f.write_str("never placed"),
            MissingWhy::GivenUp => f.write_str("its last holder gave it up"),
            MissingWhy::NodeDown { node, evidence } => {
                write!(f, "its node {} is down: {evidence}", node.short())
            }
            MissingWhy::NodeLeft { node } => {
                write!(f, "its node {} left the cluster", node.short())
            }
        }
    }
}

impl fmt::Display for SurplusWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SurplusWhy::AboveReplicas { replicas } => {
                write!(f, "only {replicas} replicas are wished for")
            }
            SurplusWhy::Removed => f.write_str("the workload was removed"),
            SurplusWhy::Duplicate { keeper } => {
                write!(f, "a duplicate: the one on {} is kept", keeper.short())
            }
        }
    }
}

impl fmt::Display for HeldWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeldWhy::BackBy { until } => {
                write!(f, "its node announced that it would be back by {until}")
            }
            HeldWhy::Grace => {
                f.write_str("its node has not been heard since this one started, and is given time")
            }
            HeldWhy::OtherGeneration { runs, wished } => {
                write!(
                    f,
                    "runs generation {}, is to be replaced there by {}",
                    runs.short(),
                    wished.short()
                )
            }
            HeldWhy::Failing { reason, restarts } => {
                write!(f, "fails there, tried again {restarts} times: {reason}")
            }
            HeldWhy::Starting => f.write_str("starting"),
        }
    }
}

/// The gap. `seen` tells the greatest token known for a place, also of claims that are gone.
///
/// Pure: the order of `holders` does not matter. Each wished place is either among `missing` or
/// among `counted`.
pub fn plan(desire: &Desire, holders: &[Holder], seen: &dyn Fn(Place) -> Option<Token>) -> Gap {
    let mut holders: Vec<&Holder> = holders.iter().collect();
    holders.sort();
    let Desire::Run { replicas, generation } = desire else {
        return Gap { surplus: all_surplus(&holders, || SurplusWhy::Removed), ..Gap::default() };
    };
    let is_wished = |holder: &&Holder| {
        let Place::Index(index) = holder.place;
        index < *replicas
    };
    let (wished, above): (Vec<&Holder>, Vec<&Holder>) = holders.into_iter().partition(is_wished);
    let mut gap = Gap {
        surplus: all_surplus(&above, || SurplusWhy::AboveReplicas { replicas: *replicas }),
        ..Gap::default()
    };
    let mut rest = wished.as_slice();
    for place in (0..*replicas).map(Place::Index) {
        let (here, later) = rest.split_at(rest.partition_point(|holder| holder.place <= place));
        rest = later;
        one_place(place, here, generation, seen, &mut gap);
    }
    gap.surplus.sort_by_key(|surplus| (surplus.place, surplus.node));
    gap
}

/// Claims of the dead are no surplus: nobody is there to stop them, and they are judged when their
/// node is back.
fn all_surplus(holders: &[&Holder], why: impl Fn() -> SurplusWhy) -> Vec<Surplus> {
    let alive = holders.iter().filter(|holder| holder.state.counts());
    alive.map(|holder| Surplus { place: holder.place, node: holder.node, why: why() }).collect()
}

fn one_place(
    place: Place,
    here: &[&Holder],
    wished: &Digest,
    seen: &dyn Fn(Place) -> Option<Token>,
    gap: &mut Gap,
) {
    let counting = || here.iter().filter(|holder| holder.state.counts());
    // Should every holder be told to yield (views may be in motion), the place is still held.
    let Some(kept) =
        counting().find(|holder| holder.yields_to.is_none()).or_else(|| counting().next())
    else {
        gap.missing.push(missing(place, here, seen(place)));
        return;
    };
    gap.counted.insert(place, kept.node);
    for other in counting().filter(|holder| holder.node != kept.node) {
        let keeper = other.yields_to.unwrap_or(kept.node);
        gap.surplus.push(Surplus {
            place,
            node: other.node,
            why: SurplusWhy::Duplicate { keeper },
        });
    }
    match held_why(kept, wished) {
        Some(why) => gap.held.push(Held { place, node: kept.node, why }),
        None => gap.healthy += 1,
    }
}

fn missing(place: Place, here: &[&Holder], seen: Option<Token>) -> Missing {
    let last = here.iter().max_by_key(|holder| (holder.token, holder.node));
    let highest = last.map(|holder| holder.token).max(seen);
    let why = match last.map(|holder| (holder.node, &holder.state)) {
        Some((node, NodeState::Down { evidence })) => {
            MissingWhy::NodeDown { node, evidence: evidence.clone() }
        }
        Some((node, _)) => MissingWhy::NodeLeft { node },
        None if seen.is_some() => MissingWhy::GivenUp,
        None => MissingWhy::NeverPlaced,
    };
    Missing { place, counter: highest.map_or(1, |token| token.counter.saturating_add(1)), why }
}

/// The reason that matters most: first whether the node is there, then what it runs, then how.
fn held_why(holder: &Holder, wished: &Digest) -> Option<HeldWhy> {
    match &holder.state {
        NodeState::BackBy { until } => return Some(HeldWhy::BackBy { until: *until }),
        NodeState::Grace => return Some(HeldWhy::Grace),
        NodeState::Up | NodeState::Down { .. } | NodeState::Left => {}
    }
    if holder.generation != *wished {
        return Some(HeldWhy::OtherGeneration { runs: holder.generation, wished: *wished });
    }
    match &holder.phase {
        HolderPhase::Healthy => None,
        HolderPhase::Starting => Some(HeldWhy::Starting),
        HolderPhase::Failing { reason, restarts } => {
            Some(HeldWhy::Failing { reason: reason.clone(), restarts: *restarts })
        }
    }
}
