//! Which guardians hold an artifact. They announce it by gossip, which may be lost, or be dropped
//! because it overtakes the change that names the artifact. **Nothing depends on it**:
//!
//! - a change names a node that held the artifact when it was submitted;
//! - a node that learns of a change whose artifact it has ready announces that then;
//! - a node that prepares or submits a workload asks the guardians that have not announced it,
//!   until they answer;
//! - a healthy claim shows that its node holds the artifact, and claims are compared;
//! - a fetch asks guardians, and then each node that is up in turn, whatever was announced.

use crate::model::{Digest, Lane, NodeId, Time};

use super::Node;
use super::message::Message;
use super::pending_sends::PendingSend;

impl Node {
    /// Begins to ask the guardians of an artifact that do not announce it within a second.
    pub(super) fn track_replication(&mut self, now: Time, digest: Digest) {
        if self.desired.names_artifact(&digest) {
            self.artifacts.replication.begin(now, digest);
        }
    }

    pub(super) fn ask_holders(&mut self, now: Time) {
        for digest in self.artifacts.replication.due(now) {
            let silent = self.silent_guardians(&digest);
            if !self.artifacts.replication.ask_again(now, &digest, silent.is_empty()) {
                continue;
            }
            for to in silent {
                let message = Message::AskHolder { digest };
                self.deliver(now, to, PendingSend { at: now, lane: Lane::Bulk, message });
            }
        }
    }

    /// Guardians of workloads with this artifact that have not announced that they hold it.
    fn silent_guardians(&self, digest: &Digest) -> Vec<NodeId> {
        let workloads = self.desired.workloads().filter(|workload| workload.spec.uses(digest));
        let mut silent: Vec<NodeId> =
            workloads.flat_map(|workload| self.guardians(&workload.name)).collect();
        silent.retain(|node| {
            *node != self.me && self.artifacts.holders(digest).all(|holder| holder != node)
        });
        silent.sort_unstable();
        silent.dedup();
        silent
    }

    pub(super) fn on_ask_holder(&mut self, now: Time, from: NodeId, digest: Digest) {
        if self.artifacts.is_ready(&digest) {
            let message = Message::Have { node: self.me, digest };
            self.deliver(now, from, PendingSend { at: now, lane: Lane::Bulk, message });
        }
    }
}
