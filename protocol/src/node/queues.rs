//! What grows in a node with what happens to it, and how far it may. The simulated world looks
//! after every step.

use crate::model::Queue;
use crate::model::claim::SLOTS;

use super::saving::{MAX_DEFERRED, MAX_STAGED};
use super::{MAX_UPLOADS, Node, artifacts, asking, carrying, pending_sends, spreading, stalls};

/// Incarnations on their way to disk. Nothing but their pace holds them to it: one each time that
/// others hold this node down in the last one it asked for. A disk that hangs for so long is given
/// up by the driver.
const MAX_INCARNATIONS: usize = 64;

impl Node {
    /// Everything that grows, with its bound.
    pub fn queues(&self) -> Vec<Queue> {
        let (members, workloads) = (self.desired.members().len(), self.desired.workloads().count());
        let (slots, mine) = (usize::from(SLOTS), self.claims.mine().count());
        let (waiting_nodes, most_to_one) = self.pending_sends.len();
        let (cached_slots, cached_records) = self.saving.cache.len();
        // A change that the disk refused leaves its row to be looked at.
        let rows = self.desired.len() + self.rulings.iter().count() + (members + 1) * slots;
        let links = self.membership.links().count();
        let named = self.desired.artifacts();
        let leaving = self.artifacts.fetching(|digest| self.desired.names_artifact(digest));
        let ((resting, paced), slots_to_tell) = (self.pacing.len(), self.telling.len());
        let (authors_heard, authors_carried) = self.carrying.len();
        let mut queues = vec![
            Queue::new(
                "incarnations on their way to disk",
                self.saving.incarnations.len(),
                MAX_INCARNATIONS,
            ),
            Queue::new("changes on their way to disk", self.saving.staged.len(), MAX_STAGED),
            Queue::new("commands that wait for one", self.saving.deferred.len(), MAX_DEFERRED),
            Queue::new("rows not on disk", self.saving.rows.len(), rows + MAX_STAGED),
            Queue::new("questions to all", self.questions.len(), asking::MAX_QUESTIONS),
            Queue::new("others' slots on their way to disk", cached_slots, (members + 1) * slots),
            Queue::new("records on their way to disk", cached_records, members + 1),
            Queue::new(
                "nodes written to that have no link",
                waiting_nodes,
                pending_sends::MOST_NODES,
            ),
            Queue::new("messages that wait for one of them", most_to_one, pending_sends::MOST_EACH),
            Queue::new("authors heard over a hop", authors_heard, members + 1),
            Queue::new("authors carried for", authors_carried, carrying::MOST_AUTHORS),
            Queue::new("uploads", self.uploads.len(), MAX_UPLOADS),
            Queue::new("artifacts that spread", self.spreading.len(), spreading::MOST),
            Queue::new("workloads to be planned again", self.replan.len(), workloads),
            Queue::new("large workloads just looked at", resting, 2 * workloads),
            Queue::new("large workloads to be looked at again", paced, resting),
            Queue::new("own slots that wait to be told", slots_to_tell, slots),
            Queue::new("facts of rooms not acted on", self.returned.len(), 0),
            Queue::new("workloads known by hearsay", self.hearsay.len(), workloads),
            // What is fetched for a version that is not wished for any more ends by itself;
            // operators set its pace.
            Queue::new(
                "artifacts known",
                self.artifacts.len(),
                named + artifacts::MAX_SPARE + leaving,
            ),
            Queue::new("artifacts waited for", self.artifacts.waiting(), self.artifacts.len()),
            Queue::new(
                "paths that lose full-sized packets",
                self.artifacts.stalls.len(),
                stalls::MAX_STALLS,
            ),
        ];
        queues.extend(self.membership.queues());
        queues.extend(self.claims.queues());
        queues.extend(self.holding.queues(mine));
        queues.extend(self.auction.queues());
        queues.extend(self.repair.queues(links));
        queues
    }
}
