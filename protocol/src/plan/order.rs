//! The order in which the places of a stateful workload start and end. Pure, so that no owner has
//! to remember how far it was: **who is ready follows from the claims**.

use std::collections::BTreeSet;

use super::step::{Free, Holder, NodeState, Step, Surplus, Waiting};
use crate::model::{Phase, Place};

/// The steps of a workload whose places start and end one after the other. `places` are all of them
/// in order.
///
/// - A place that is to be started for the first time, or again after its holder let go of it,
///   waits until all before it are ready.
/// - One whose node died is auctioned at once, whatever the others do: it was running. It waits
///   only for those before it that never ran.
/// - A place beyond the last one stops when all after it are gone.
pub fn in_order(
    steps: Vec<Step>,
    places: impl IntoIterator<Item = Place>,
    holders: &[Holder],
) -> Vec<Step> {
    let is_ready = |it: &&Holder| it.state == NodeState::Up && it.phase == Phase::Healthy;
    let ready: BTreeSet<Place> = holders.iter().filter(is_ready).map(|it| it.place).collect();
    let unready = places.into_iter().find(|place| !ready.contains(place));
    let unplaced =
        steps.iter().find(|step| matches!(step, Step::Auction { why: Free::NeverPlaced, .. }));
    let unplaced = unplaced.map(Step::place);
    let last = holders.iter().filter(|it| it.state.counts()).map(|it| it.place).max();
    let ordered = |step: Step| {
        let behind = match &step {
            Step::Auction { why: Free::NeverPlaced | Free::GivenUp, .. } => unready,
            Step::Auction { why: Free::NodeDown { .. } | Free::NodeLeft { .. }, .. } => unplaced,
            // It is held until another node has it.
            Step::Auction { why: Free::Drained { .. }, .. } => None,
            _ => return end_in_order(step, last),
        };
        match behind.filter(|behind| *behind < step.place()) {
            Some(behind) => Step::Queue { place: step.place(), behind },
            None => step,
        }
    };
    steps.into_iter().map(ordered).collect()
}

/// The step about a claim of a place that is no more, while `last` is the last place that a node
/// holds: it stays until it is the last one itself.
pub fn end_in_order(step: Step, last: Option<Place>) -> Step {
    let Step::Stop { place, node, why: Surplus::NoSuchPlace { .. } } = &step else { return step };
    match last.filter(|last| last > place) {
        Some(after) => Step::Wait { place: *place, node: *node, why: Waiting::Order { after } },
        None => step,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::plan;
    use super::*;
    use crate::model::{Digest, NodeId, Token};

    const CURRENT: Digest = Digest([1; 32]);

    fn node(n: u8) -> NodeId {
        NodeId([n; 32])
    }

    fn token() -> Token {
        Token { counter: 1, by: node(99), incarnation: 1 }
    }

    /// A healthy replica of place `index`, on a node of its own.
    fn holder(index: u32) -> Holder {
        Holder {
            place: Place::Ordinal(index),
            node: node(index as u8),
            token: token(),
            revision: CURRENT,
            phase: Phase::Healthy,
            update: None,
            state: NodeState::Up,
            leaves: None,
            due: true,
            yields_to: None,
        }
    }

    fn starting(index: u32) -> Holder {
        Holder { phase: Phase::Starting, ..holder(index) }
    }

    fn down(index: u32) -> Holder {
        Holder { state: NodeState::Down { evidence: "2 of 2".into() }, ..holder(index) }
    }

    /// The steps in short: `+1` auctions place 1, `1<0` waits for place 0, `-1` stops it.
    fn steps(replicas: u32, holders: &[Holder], seen: Option<Token>) -> String {
        let places: BTreeMap<Place, Digest> =
            (0..replicas).map(|index| (Place::Ordinal(index), CURRENT)).collect();
        let steps = plan(&places, holders, &|_| seen);
        let word = |step: &Step| match step {
            Step::Auction { place, .. } => Some(format!("+{place}")),
            Step::Queue { place, behind } => Some(format!("{place}<{behind}")),
            Step::Stop { place, .. } => Some(format!("-{place}")),
            Step::Wait { place, why: Waiting::Order { after }, .. } => {
                Some(format!("{place}>{after}"))
            }
            Step::Wait { .. } | Step::Replace { .. } | Step::Await { .. } => None,
        };
        let steps = in_order(steps, places.into_keys(), holders);
        steps.iter().filter_map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn place_is_started_when_all_before_it_are_ready() {
        assert_eq!(steps(3, &[], None), "+0 1<0 2<0");
        assert_eq!(steps(3, &[starting(0)], None), "1<0 2<0");
        assert_eq!(steps(3, &[holder(0)], None), "+1 2<1");
        assert_eq!(steps(3, &[holder(0), starting(1)], None), "2<1");
        assert_eq!(steps(3, &[holder(0), holder(1)], None), "+2");
        // It was there before and its holder let go of it, as after a scale down and up.
        assert_eq!(steps(3, &[starting(0)], Some(token())), "1<0 2<0");
        // Its node is away: it is not ready.
        assert_eq!(steps(2, &[down(0)], None), "+0 1<0");
    }

    /// Availability comes first: what was running is not held back by others that went with it.
    #[test]
    fn place_whose_node_died_is_started_at_once() {
        assert_eq!(steps(3, &[down(0), down(1), holder(2)], None), "+0 +1");
        assert_eq!(steps(3, &[starting(0), holder(1), down(2)], None), "+2");
        // It never had what it is to follow.
        assert_eq!(steps(3, &[holder(0), down(2)], None), "+1 2<1");
    }

    #[test]
    fn last_place_ends_first() {
        let all = [holder(0), holder(1), holder(2), holder(3)];
        assert_eq!(steps(1, &all, None), "1>3 2>3 -3");
        assert_eq!(steps(1, &all[..3], None), "1>2 -2");
        // Nobody waits for the claims of the dead.
        assert_eq!(steps(1, &[holder(0), holder(1), down(2)], None), "-1");
        assert_eq!(steps(0, &all[..1], None), "-0");
    }
}
