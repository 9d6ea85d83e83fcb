//! The arguments and the results of `plan`.

use std::collections::BTreeMap;

use super::home::Home;
use crate::model::claim::Update;
use crate::model::spec::After;
use crate::model::{NodeId, Phase, Place, Revision, Token, WallClock};

/// The state of a holder's node.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum NodeState {
    /// The node answers.
    Up,
    /// The node announced that it would be back: its claims count until the caller says otherwise.
    BackBy {
        /// The announced time, by the planning device's clock; for people.
        until: WallClock,
    },
    /// The node has been silent since the planning node started. Its cached claims count for a
    /// grace period.
    Grace,
    /// The node's observers declared it down.
    Down {
        /// The votes, for people.
        evidence: String,
    },
    /// The node is no longer on the roster.
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

/// Why a replica is to leave its node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Leaves {
    /// Operators want the node to be emptied.
    Drained,
    /// An owner ruled that another node is to run it.
    Moves {
        /// That node.
        to: NodeId,
    },
    /// Its node has no place for the revision that belongs there, as the holder's update says.
    Outgrown,
}

/// The claim of one place by one node. A node appears at most once per place.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Holder {
    /// The claimed place.
    pub place: Place,
    /// The claiming node.
    pub node: NodeId,
    /// The token of the claim.
    pub token: Token,
    /// The revision that serves, or that starts when none serves yet.
    pub revision: Revision,
    /// The phase of that revision.
    pub phase: Phase,
    /// The replacement under way, while another revision still serves.
    pub update: Option<Update>,
    /// The state of the node.
    pub state: NodeState,
    /// Why it is to leave the node, if it is.
    pub leaves: Option<Leaves>,
    /// It is the place's turn to get the revision that belongs there.
    pub due: bool,
    /// The holder that `claims::keeper` keeps instead of this one; none when this one is kept or
    /// alone.
    pub yields_to: Option<NodeId>,
}

/// A thing to do about a place, with its reason. A place that runs the right revision, healthy, on
/// a node that is up has no step.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Step {
    /// No node holds the place. Addressed to the owner.
    Auction {
        /// The free place.
        place: Place,
        /// The revision that belongs there.
        revision: Revision,
        /// The counter of the token to award it under: one above all that were seen.
        counter: u64,
        /// The reason why it is free.
        why: Free,
        /// The node that keeps its data, which alone may run it.
        home: Option<Home>,
    },
    /// The holder runs another revision than the one that belongs there. Addressed to the holder.
    Replace {
        /// The held place.
        place: Place,
        /// The holder.
        node: NodeId,
        /// The revision that serves now.
        from: Revision,
        /// The revision that belongs there.
        to: Revision,
        /// The holder's progress with it.
        progress: Option<Update>,
    },
    /// The claim should not be. Addressed to the holder, which stops a duplicate only after the
    /// kept holder itself has answered (see the room `claims`).
    Stop {
        /// The claimed place.
        place: Place,
        /// The holder.
        node: NodeId,
        /// The reason.
        why: Surplus,
    },
    /// The place is free, and its turn to be started has not come. Addressed to no node.
    Queue {
        /// The free place.
        place: Place,
        /// The place that comes before it.
        behind: Place,
    },
    /// The place was never placed, and waits for another workload. Addressed to no node.
    Await {
        /// The free place.
        place: Place,
        /// The other workload, of the same namespace, and how far it must be.
        after: After,
    },
    /// The place counts as held, and is not healthy yet. Addressed to no node.
    Wait {
        /// The held place.
        place: Place,
        /// The holder.
        node: NodeId,
        /// The reason.
        why: Waiting,
    },
}

impl Step {
    /// The place that the step is about.
    pub fn place(&self) -> Place {
        match self {
            Step::Auction { place, .. }
            | Step::Replace { place, .. }
            | Step::Stop { place, .. }
            | Step::Queue { place, .. }
            | Step::Await { place, .. }
            | Step::Wait { place, .. } => *place,
        }
    }

    /// The holder that the step is about; none for a free place.
    pub fn node(&self) -> Option<NodeId> {
        match self {
            Step::Auction { .. } | Step::Queue { .. } | Step::Await { .. } => None,
            Step::Replace { node, .. } | Step::Stop { node, .. } | Step::Wait { node, .. } => {
                Some(*node)
            }
        }
    }

    /// Whether a node may run the place: it is bound to none, or to this one.
    pub fn may_run_at(&self, node: &NodeId) -> bool {
        if let Place::OnNode(only) = self.place() {
            return only == *node;
        }
        match self {
            Step::Auction { home: Some(home), .. } => home.node == *node,
            Step::Auction { why: Free::Moves { to, .. }, .. } => to == node,
            Step::Wait { why: Waiting::Volume { .. }, node: home, .. } => home == node,
            _ => true,
        }
    }

    /// Whether the place lacks a healthy replica of the right revision.
    pub fn is_unhealthy(&self) -> bool {
        let is_moved = match self {
            Step::Auction { why: Free::Drained { healthy, .. }, .. } => *healthy,
            Step::Auction { why: Free::Moves { .. }, .. } => true,
            _ => false,
        };
        let is_surplus =
            matches!(self, Step::Stop { .. } | Step::Wait { why: Waiting::Order { .. }, .. });
        !is_surplus && !is_moved
    }

    /// Whether the place is to get another holder while it is held.
    pub fn is_move(&self) -> bool {
        let Step::Auction { why, .. } = self else { return false };
        matches!(why, Free::Drained { .. } | Free::Moves { .. } | Free::Outgrown { .. })
    }
}

/// The reason why a place is free.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Free {
    /// No node ever held it, as far as this node knows.
    NeverPlaced,
    /// Its last holder gave it up.
    GivenUp,
    /// Its holder's node is down.
    NodeDown {
        /// The node.
        node: NodeId,
        /// The votes, for people.
        evidence: String,
    },
    /// Its holder's node left the roster.
    NodeLeft {
        /// The node.
        node: NodeId,
    },
    /// Its holder's node is to be emptied. The holder keeps it until another node runs it.
    Drained {
        /// The node.
        node: NodeId,
        /// It is healthy there.
        healthy: bool,
    },
    /// Another node has more room for it. The holder keeps it until that one runs it.
    Moves {
        /// The holder.
        node: NodeId,
        /// The node that is to run it.
        to: NodeId,
    },
    /// Its holder's node has no place for the new revision. The holder keeps the old one until
    /// another node runs the new one.
    Outgrown {
        /// The node.
        node: NodeId,
        /// The holder's words.
        why: String,
    },
}

/// The reason why a claim should not be.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Surplus {
    /// The workload has no such place.
    NoSuchPlace {
        /// The number of its places.
        places: u32,
    },
    /// The workload was removed.
    Removed,
    /// Its run of a job is over.
    Ended,
    /// A daemon's node fits no more, or is no member.
    Unfit,
    /// Another holder of the place is kept.
    Duplicate {
        /// The kept holder.
        keeper: NodeId,
    },
}

/// The reason why a place that is not healthy is not auctioned.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Waiting {
    /// Its node announced that it would be back.
    BackBy {
        /// The announced time, by the planning device's clock.
        until: WallClock,
    },
    /// Its node has been silent since the planning node started, and gets a little time.
    Grace,
    /// The replica fails there, and the holder tries again.
    Failing {
        /// The runtime's message.
        reason: String,
        /// The number of further tries so far.
        restarts: u32,
    },
    /// The replica is being fetched, compiled or started.
    Starting,
    /// The replica starts, and does not get on.
    NotYet {
        /// The runtime's message.
        reason: String,
    },
    /// The replica is in a phase that this program does not know.
    OtherPhase,
    /// The node is drained, and keeps its data: no other node may run it.
    Kept {
        /// The volume's name within the workload.
        volume: String,
    },
    /// It runs another revision, and its turn to be replaced has not come.
    Turn {
        /// The revision that it runs.
        from: Revision,
        /// The one that it is to run.
        to: Revision,
    },
    /// The workload has no such place any more, and it ends when a later one is gone.
    Order {
        /// The later place.
        after: Place,
    },
    /// The place belongs to the node, which takes nothing now.
    Node {
        /// The reason, for people.
        why: String,
    },
    /// The node keeps its data, and is down.
    Volume {
        /// The volume's name within the workload.
        volume: String,
        /// The votes, for people.
        evidence: String,
    },
}

impl Waiting {
    /// Whether it ends when something becomes known of the node, and not of the replica.
    pub fn is_for_node(&self) -> bool {
        match self {
            Waiting::BackBy { .. }
            | Waiting::Grace
            | Waiting::Node { .. }
            | Waiting::Volume { .. } => true,
            Waiting::Kept { .. }
            | Waiting::Turn { .. }
            | Waiting::Order { .. }
            | Waiting::Failing { .. }
            | Waiting::Starting
            | Waiting::NotYet { .. }
            | Waiting::OtherPhase => false,
        }
    }
}

/// The desired content of a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// A replica of this revision.
    Revision(Revision),
    /// Nothing: the workload has fewer places.
    NoSuchPlace {
        /// The number of its places.
        places: u32,
    },
    /// Nothing: the workload was removed.
    Removed,
}

/// The steps that bring the claims of a workload to its places, ordered by place. `seen` gives the
/// greatest token known for a place, also of claims that are gone.
///
/// Pure: the order of `holders` does not matter. Each place either has an [`Step::Auction`], or is
/// held by a node whose claims count.
pub fn plan(
    places: &BTreeMap<Place, Revision>,
    holders: &[Holder],
    seen: &dyn Fn(Place) -> Option<Token>,
) -> Vec<Step> {
    let mut holders: Vec<&Holder> = holders.iter().collect();
    holders.sort();
    let surplus = Wanted::NoSuchPlace { places: u32::try_from(places.len()).unwrap_or(u32::MAX) };
    let mut steps = Vec::new();
    let mut rest = holders.as_slice();
    for (place, revision) in places {
        let (before, later) = rest.split_at(rest.partition_point(|it| it.place < *place));
        steps_of_places(before, surplus, seen, &mut steps);
        let (here, later) = later.split_at(later.partition_point(|it| it.place == *place));
        steps_of(*place, Wanted::Revision(*revision), here, seen, &mut steps);
        rest = later;
    }
    steps_of_places(rest, surplus, seen, &mut steps);
    steps
}

/// The steps about one place, as [`plan`] gives them.
pub fn plan_place(
    place: Place,
    wanted: Wanted,
    holders: &[Holder],
    seen: &dyn Fn(Place) -> Option<Token>,
) -> Vec<Step> {
    let mut here: Vec<&Holder> = holders.iter().filter(|it| it.place == place).collect();
    here.sort();
    let mut steps = Vec::new();
    steps_of(place, wanted, &here, seen, &mut steps);
    steps
}

fn steps_of_places(
    holders: &[&Holder],
    wanted: Wanted,
    seen: &dyn Fn(Place) -> Option<Token>,
    steps: &mut Vec<Step>,
) {
    for here in holders.chunk_by(|one, other| one.place == other.place) {
        steps_of(here[0].place, wanted, here, seen, steps);
    }
}

/// `here` is sorted. Claims of dead nodes are no surplus: no node is there to stop them, and they
/// are judged when their node is back.
fn steps_of(
    place: Place,
    wanted: Wanted,
    here: &[&Holder],
    seen: &dyn Fn(Place) -> Option<Token>,
    steps: &mut Vec<Step>,
) {
    let counting = || here.iter().filter(|holder| holder.state.counts());
    let stop = |holder: &Holder, why| Step::Stop { place, node: holder.node, why };
    let revision = match wanted {
        Wanted::Revision(revision) => revision,
        Wanted::NoSuchPlace { places } => {
            let why = || match place {
                Place::Ordinal(_) => Surplus::NoSuchPlace { places },
                Place::OnNode(_) => Surplus::Unfit,
                Place::Run { .. } => Surplus::Ended,
            };
            return steps.extend(counting().map(|holder| stop(holder, why())));
        }
        Wanted::Removed => {
            return steps.extend(counting().map(|holder| stop(holder, Surplus::Removed)));
        }
    };
    // If every holder is to yield (views may differ for a moment), the place is still held.
    let Some(kept) =
        counting().find(|holder| holder.yields_to.is_none()).or_else(|| counting().next())
    else {
        return steps.push(auction(place, revision, here, seen(place)));
    };
    let first = steps.len();
    let alone = counting().all(|holder| holder.node == kept.node || holder.leaves.is_some());
    // The one replica of a daemon stays with its node, and a job stays to its end.
    let is_bound = !matches!(place, Place::Ordinal(_));
    let step = step_for_kept(kept, revision);
    let may_move = match &step {
        None | Some(Step::Wait { .. }) => true,
        Some(Step::Replace { .. }) => kept.leaves == Some(Leaves::Outgrown),
        Some(
            Step::Auction { .. } | Step::Stop { .. } | Step::Queue { .. } | Step::Await { .. },
        ) => false,
    };
    match may_move && !is_bound && alone && kept.state == NodeState::Up {
        true => steps.extend(moved(kept, revision, here, seen(place), step)),
        false => steps.extend(step),
    }
    for other in counting().filter(|holder| holder.node != kept.node) {
        let keeper = other.yields_to.unwrap_or(kept.node);
        steps.push(stop(other, Surplus::Duplicate { keeper }));
    }
    steps[first..].sort_by_key(Step::node);
}

fn auction(place: Place, revision: Revision, here: &[&Holder], seen: Option<Token>) -> Step {
    let last = here.iter().max_by_key(|holder| (holder.token, holder.node));
    let why = match last.map(|holder| (holder.node, &holder.state)) {
        Some((node, NodeState::Down { evidence })) => {
            Free::NodeDown { node, evidence: evidence.clone() }
        }
        Some((node, _)) => Free::NodeLeft { node },
        None if seen.is_some() => Free::GivenUp,
        None => Free::NeverPlaced,
    };
    Step::Auction { place, revision, counter: next_counter(here, seen), why, home: None }
}

/// One above all that were seen of a place.
fn next_counter(here: &[&Holder], seen: Option<Token>) -> u64 {
    let highest = here.iter().map(|holder| holder.token).max().max(seen);
    highest.map_or(1, |token| token.counter.saturating_add(1))
}

/// The step about a place that is to leave its node; `stays` if it is not.
fn moved(
    kept: &Holder,
    revision: Revision,
    here: &[&Holder],
    seen: Option<Token>,
    stays: Option<Step>,
) -> Option<Step> {
    let (place, node) = (kept.place, kept.node);
    let why = match kept.leaves {
        Some(Leaves::Drained) => Free::Drained { node, healthy: kept.phase == Phase::Healthy },
        // Only what runs well moves.
        Some(Leaves::Moves { to }) if stays.is_none() => Free::Moves { node, to },
        Some(Leaves::Outgrown) if kept.due && kept.revision != revision => {
            let why = kept.update.as_ref().and_then(Update::no_place).unwrap_or_default();
            Free::Outgrown { node, why: why.to_owned() }
        }
        Some(Leaves::Moves { .. } | Leaves::Outgrown) | None => return stays,
    };
    Some(Step::Auction { place, revision, counter: next_counter(here, seen), why, home: None })
}

/// The step of the kept holder, if any, by the reason that matters most: whether its node is there,
/// then its revision, then its phase.
fn step_for_kept(holder: &Holder, wanted: Revision) -> Option<Step> {
    let (place, node) = (holder.place, holder.node);
    let wait = |why| Some(Step::Wait { place, node, why });
    match &holder.state {
        NodeState::BackBy { until } => return wait(Waiting::BackBy { until: *until }),
        NodeState::Grace => return wait(Waiting::Grace),
        NodeState::Up | NodeState::Down { .. } | NodeState::Left => {}
    }
    if holder.revision != wanted && !holder.due {
        return wait(Waiting::Turn { from: holder.revision, to: wanted });
    }
    if holder.revision != wanted {
        let progress = holder.update.clone().filter(|update| update.revision == wanted);
        return Some(Step::Replace { place, node, from: holder.revision, to: wanted, progress });
    }
    match &holder.phase {
        Phase::Healthy => None,
        Phase::Starting => wait(Waiting::Starting),
        Phase::Waiting { reason } => wait(Waiting::NotYet { reason: reason.clone() }),
        Phase::Failing { reason, restarts } => {
            wait(Waiting::Failing { reason: reason.clone(), restarts: *restarts })
        }
        Phase::Other(_) => wait(Waiting::OtherPhase),
    }
}
