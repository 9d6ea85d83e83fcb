//! The `Debug` form of a node, for tests that compare whole states: all state that decides about
//! workloads, without counters, rate limits and texts for people. Two nodes with the same form
//! behave the same only if the test's inputs alone decide which nodes are up.

use std::fmt;

use crate::membership::State;
use crate::model::NodeId;

use super::Node;

/// A member, as far as it matters for workloads: its state, its incarnation, and whether it may own
/// workloads.
struct Standing(NodeId, State, Option<u64>, bool);

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Standing(node, state, incarnation, ready) = self;
        write!(f, "{node:?} {state:?} {incarnation:?} {ready}")
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let member = |node: &NodeId| {
            let ready =
                self.membership.record(node).is_some_and(|record| record.ready && !record.leaving);
            Standing(
                *node,
                self.membership.state(node),
                self.membership.incarnation_of(node),
                ready,
            )
        };
        f.debug_struct("Node")
            .field(
                "ready",
                &(self.readiness.is_ready(), self.readiness.is_leaving(), &self.saving.read_only),
            )
            .field("members", &self.desired.members().keys().map(member).collect::<Vec<_>>())
            .field(
                "workloads",
                &self
                    .desired
                    .workloads()
                    .map(|workload| (workload.uid, workload.generation))
                    .collect::<Vec<_>>(),
            )
            .field("claims", &self.claims)
            .field("auction", &self.auction)
            .field("holding", &self.holding)
            .field("plan again", &self.planning.again)
            .field("rulings", &self.rulings.iter().map(|it| it.body()).collect::<Vec<_>>())
            .field("updates", &self.planning.updates)
            .field(
                "staged",
                &self
                    .saving
                    .staged
                    .values()
                    .map(|staged| (staged.batch, staged.change.hash()))
                    .collect::<Vec<_>>(),
            )
            .field("waiting", &(self.saving.deferred.len(), self.questions.waiting()))
            .field("due", &self.due)
            .finish_non_exhaustive()
    }
}
