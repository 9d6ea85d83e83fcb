//! Which guardians hold an artifact. They say so by gossip, which may be lost, or come before the
//! change that names the artifact and be dropped. **Nothing depends on it**:
//!
//! - a change names a node that held the artifact when it was submitted;
//! - a node that learns of a change whose artifact it has ready says so then;
//! - a node that is asked to prepare or submit a workload asks the guardians that it has not heard
//!   of, until they answer;
//! - a node that runs an artifact, healthy, holds it: its claim says so, and is compared;
//! - a fetch asks guardians, and then each node that is up in turn, whatever was said.

use crate::model::{Digest, Lane, NodeId, Time};

use super::Node;
use super::message::Message;
use super::pending_sends::PendingSend;

impl Node {
    /// Asks guardians that say nothing within a moment whether they hold it.
    pub(super) fn follow_up(&mut self, now: Time, digest: Digest) {
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

    /// Guardians of workloads that run this artifact which have not said that they hold it.
    fn silent_guardians(&self, digest: &Digest) -> Vec<NodeId> {
        let workloads = self.desired.workloads().filter(|it| it.spec.uses(digest));
        let mut silent: Vec<NodeId> = workloads.flat_map(|it| self.guardians(&it.name)).collect();
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
