//! The node that keeps the data of a place: **a replica with a volume belongs where that is**.
//!
//! A node tells in its record which volumes it keeps, and a claim tells who was to make them. Both
//! stay known while their node is down, lie on the disks of all, and need no owner: so they outlive
//! the owner, the holder's reboot, and a restart of the whole cluster. A node that left the roster
//! has no data any more.

use super::step::{Free, NodeState, Step, Waiting};
use crate::model::NodeId;

/// The node that keeps the data of a place.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Home {
    /// The counter of the token under which the volume was made, or its node was to make it. Of
    /// several homes the latest counts: the others were down when it was made.
    pub counter: u64,
    /// The node.
    pub node: NodeId,
    /// The volume's name within the workload.
    pub volume: String,
}

/// The step about a place whose data is at `home`, with the state of that node. A free place is
/// auctioned to its home alone, and waits while that is not up. If `may_be_empty`, it does not wait
/// for a home that is down.
pub fn bind(step: Step, home: Option<(Home, NodeState)>, may_be_empty: bool) -> Step {
    let (Step::Auction { place, revision, counter, why, home: _ }, Some((home, state))) =
        (step.clone(), home)
    else {
        return step;
    };
    let node = home.node;
    // It moves nowhere: it stays, healthy or not, until its node is emptied by hand.
    if matches!(&why, Free::Drained { node: from, .. } if *from == node) {
        return Step::Wait { place, node, why: Waiting::Kept { volume: home.volume } };
    }
    if let Free::Outgrown { node: from, why } = &why
        && *from == node
    {
        let reason = format!("{why}; its volume `{}` is there", home.volume);
        return Step::Wait { place, node, why: Waiting::NotYet { reason } };
    }
    // A workload that was removed and made again begins with small counters: a volume that is made
    // from now on is later than this one.
    let counter = counter.max(home.counter.saturating_add(1));
    let auction = |home| Step::Auction { place, revision, counter, why, home };
    let why = match state {
        NodeState::Up => return auction(Some(home)),
        NodeState::Left => return step,
        NodeState::Down { .. } if may_be_empty => return auction(None),
        NodeState::Down { evidence } => Waiting::Volume { volume: home.volume, evidence },
        NodeState::BackBy { until } => Waiting::BackBy { until },
        NodeState::Grace => Waiting::Grace,
    };
    Step::Wait { place, node, why }
}

/// The step about a place that belongs to a node, as those of a daemon do, with the state of that
/// node: it is auctioned to that node alone, and waits while that is not up and ready.
pub fn bind_to_node(step: Step, node: NodeId, state: NodeState, is_ready: bool) -> Step {
    let Step::Auction { place, .. } = &step else { return step };
    let place = *place;
    let why = match state {
        NodeState::Up if !is_ready => Waiting::Node { why: "the node has just started".into() },
        NodeState::Up | NodeState::Left => return step,
        NodeState::Down { evidence } => {
            Waiting::Node { why: format!("the node is down: {evidence}") }
        }
        NodeState::BackBy { until } => Waiting::BackBy { until },
        NodeState::Grace => Waiting::Grace,
    };
    Step::Wait { place, node, why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Digest, Place};

    fn free() -> Step {
        let why = Free::GivenUp;
        Step::Auction {
            place: Place::Ordinal(0),
            revision: Digest([1; 32]),
            counter: 2,
            why,
            home: None,
        }
    }

    fn home() -> Home {
        Home { counter: 7, node: NodeId([3; 32]), volume: "data".into() }
    }

    fn down() -> NodeState {
        NodeState::Down { evidence: "2 of 2".into() }
    }

    /// The place is auctioned to its home, waits for it, or goes elsewhere: never to another node
    /// while the data may come back.
    #[test]
    fn free_place_goes_to_its_home_or_waits() {
        let bound = |state, may_be_empty| bind(free(), Some((home(), state)), may_be_empty);
        for may_be_empty in [false, true] {
            let Step::Auction { counter, home: Some(at), .. } = bound(NodeState::Up, may_be_empty)
            else {
                panic!("its home takes it")
            };
            assert_eq!((at, counter), (home(), 8), "later than its volume");
            assert_eq!(bound(NodeState::Left, may_be_empty), free(), "its data is gone");
            let waits = bound(NodeState::Grace, may_be_empty);
            assert!(matches!(waits, Step::Wait { why: Waiting::Grace, .. }), "{waits:?}");
        }
        let waits = bound(down(), false);
        assert!(matches!(waits, Step::Wait { why: Waiting::Volume { .. }, .. }), "{waits:?}");
        assert!(waits.may_run_at(&home().node) && !waits.may_run_at(&NodeId([4; 32])));
        let Step::Auction { counter, home: None, .. } = bound(down(), true) else {
            panic!("it may be empty")
        };
        assert_eq!(counter, 8, "the new volume is later than the lost one");
        assert_eq!(bind(free(), None, false), free());
    }
}
