//! The reasons of steps in words, for people.

use std::fmt;

use super::step::{Free, Surplus, Waiting};
use crate::model::claim::Update;
use crate::model::{Phase, Revision};

impl fmt::Display for Free {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Free::NeverPlaced => f.write_str("never placed"),
            Free::GivenUp => f.write_str("its last holder gave it up"),
            Free::NodeDown { node, evidence } => {
                write!(f, "its node {} is down: {evidence}", node.short())
            }
            Free::NodeLeft { node } => write!(f, "its node {} left the cluster", node.short()),
            Free::Drained { node, .. } => write!(f, "its node {} is drained", node.short()),
            Free::Moves { to, .. } => write!(f, "{} has more room for it", to.short()),
            Free::Outgrown { node, why } => write!(f, "{}: {why}", node.short()),
        }
    }
}

impl fmt::Display for Surplus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Surplus::NoSuchPlace { places: 1 } => f.write_str("the workload has only 1 replica"),
            Surplus::NoSuchPlace { places } => {
                write!(f, "the workload has only {places} replicas")
            }
            Surplus::Removed => f.write_str("the workload was removed"),
            Surplus::Ended => f.write_str("its run is over"),
            Surplus::Unfit => f.write_str("the workload is not to run on this node any more"),
            Surplus::Duplicate { keeper } => {
                write!(f, "a duplicate: the one on {} is kept", keeper.short())
            }
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Waiting::BackBy { until } => {
                write!(f, "its node announced that it would be back by {until}")
            }
            Waiting::Grace => {
                f.write_str("its node has not been heard since this one started, and is given time")
            }
            Waiting::Failing { reason, restarts } => {
                write!(f, "fails there, tried again {restarts} times: {reason}")
            }
            Waiting::Starting => f.write_str("starting"),
            Waiting::NotYet { reason } => f.write_str(reason),
            Waiting::Kept { volume } => {
                write!(f, "its node is drained, and it stays: its volume `{volume}` is there")
            }
            Waiting::Turn { from, to } => write!(
                f,
                "generation {} runs until its turn to be replaced by {}",
                from.short(),
                to.short()
            ),
            Waiting::Order { after } => write!(f, "it is to stop when {after} is gone"),
            Waiting::Node { why } => f.write_str(why),
            Waiting::Volume { volume, evidence } => {
                write!(f, "its volume `{volume}` is on a node that is down: {evidence}")
            }
            Waiting::OtherPhase => {
                f.write_str("its node reports a phase that this version of shoal does not know")
            }
        }
    }
}

/// The reason of a [`Step::Replace`](super::Step::Replace), for people.
pub fn replacing(from: &Revision, to: &Revision, progress: Option<&Update>) -> String {
    let (from, to) = (from.short(), to.short());
    match progress.map(|update| &update.phase) {
        Some(Phase::Failing { reason, restarts }) => format!(
            "generation {from} keeps running: its replacement {to} fails there, tried again \
                {restarts} times: {reason}"
        ),
        Some(Phase::Waiting { reason }) => {
            format!("generation {from} runs until its replacement {to} is ready there: {reason}")
        }
        Some(Phase::Starting | Phase::Healthy | Phase::Other(_)) => {
            format!("generation {from} runs until its replacement {to} is ready there")
        }
        None => format!("runs generation {from}, is to be replaced there by {to}"),
    }
}
