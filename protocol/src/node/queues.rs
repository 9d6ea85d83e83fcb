//! Every collection of a node that peers, users or time can grow, with its bound. The simulator
//! checks them after every step.

use crate::model::claim::SLOTS;
use crate::model::{Digest, Queue};

use super::saving::{MAX_DEFERRED, MAX_STAGED};
use super::{Node, asking, doors, pending_sends, relay};

/// Incarnations on their way to disk. Only their rate bounds them: one each time that others
/// declare this node down in its last one. The driver gives up a disk that hangs for so long.
const MAX_INCARNATIONS: usize = 64;

impl Node {
    /// All growing collections with their lengths and bounds.
    pub fn queues(&self) -> Vec<Queue> {
        let (members, workloads) = (self.desired.members().len(), self.desired.workloads().count());
        let (slots, mine) = (usize::from(SLOTS), self.claims.mine().count());
        let (waiting_nodes, most_to_one) = self.pending_sends.len();
        let (cached_slots, cached_records) = self.saving.cache.len();
        // A refused change leaves its row in the list.
        let rows = self.desired.len() + self.rulings.iter().count() + (members + 1) * slots;
        let links = self.membership.links().count();
        let named = self.desired.artifacts();
        let ((resting, paced), slots_to_tell) =
            (self.planning.throttle.len(), self.slot_gossip.len());
        let (authors_heard, authors_carried) = self.relay.len();
        let mut queues = vec![
            Queue::new(
                "incarnations on their way to disk",
                self.saving.incarnations.len(),
                MAX_INCARNATIONS,
            ),
            Queue::new("changes on their way to disk", self.saving.staged.len(), MAX_STAGED),
            Queue::new("commands that wait for one", self.saving.deferred.len(), MAX_DEFERRED),
            Queue::new("rows not on disk", self.saving.rows.len(), rows + MAX_STAGED),
            Queue::new("links behind doors", self.doors.len(), doors::MAX_DOORS),
            Queue::new("links whose greeting was answered", self.doors.answered(), links),
            Queue::new("questions to all", self.questions.len(), asking::MAX_QUESTIONS),
            Queue::new("others' slots on their way to disk", cached_slots, (members + 1) * slots),
            Queue::new("records on their way to disk", cached_records, members + 1),
            Queue::new(
                "nodes written to that have no link",
                waiting_nodes,
                pending_sends::MAX_NODES,
            ),
            Queue::new(
                "messages that wait for one of them",
                most_to_one,
                pending_sends::MAX_PER_NODE,
            ),
            Queue::new("authors heard over a hop", authors_heard, members + 1),
            Queue::new("authors carried for", authors_carried, relay::MAX_AUTHORS),
            Queue::new("workloads to be planned again", self.planning.again.len(), workloads),
            Queue::new("large workloads just looked at", resting, 2 * workloads),
            Queue::new("large workloads to be looked at again", paced, resting),
            Queue::new("own slots that wait to be told", slots_to_tell, slots),
            Queue::new("facts of rooms not acted on", self.returned.len(), 0),
            Queue::new("workloads whose plan is deferred", self.planning.deferred.len(), workloads),
        ];
        queues.extend(self.membership.queues());
        queues.extend(self.claims.queues());
        queues.extend(self.holding.queues(mine));
        let is_named = |digest: &Digest| self.desired.names_artifact(digest);
        queues.extend(self.artifacts.queues(named, is_named));
        queues.extend(self.auction.queues());
        queues.extend(self.repair.queues(links));
        queues.extend(self.budgets.queues(members));
        queues.extend(self.scaling.queues(workloads));
        queues
    }
}
