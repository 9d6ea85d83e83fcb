//! Which guardians hold an artifact. They say so by gossip, which may be lost, or come before the
//! change that names the artifact and be dropped. **Nothing depends on it**:
//!
//! - a change names a node that held the artifact when it was submitted;
//! - a node that learns of a change whose artifact it has ready says so then;
//! - a node that is asked to prepare or submit a wish asks the guardians that it has not heard of,
//!   until they answer;
//! - a node that runs an artifact, healthy, holds it: its claim says so, and is compared;
//! - a fetch asks guardians, and then each node that is up in turn, whatever was said.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{Digest, Lane, NodeId, Time};

use super::Node;
use super::message::Message;
use super::pending_sends::PendingSend;

/// The first wait, longer than gossip takes, and the longest.
const ASK_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Who has not got it by then is on its own: it fetches when it can.
const GIVE_UP_AFTER: Duration = Duration::from_secs(600);
/// Artifacts asked for at a time. For the next one the oldest is given up: its user has waited
/// longest.
pub(super) const MOST: usize = 64;

/// Artifacts of changes that were prepared or written here.
#[derive(Clone, Debug, Default)]
pub(super) struct Spreading(BTreeMap<Digest, Asking>);

#[derive(Clone, Debug)]
struct Asking {
    since: Time,
    at: Time,
    gap: Duration,
}

impl Spreading {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn begin(&mut self, now: Time, digest: Digest) {
        if self.0.len() >= MOST
            && !self.0.contains_key(&digest)
            && let Some(oldest) =
                self.0.iter().min_by_key(|(_, asking)| asking.since).map(|(digest, _)| *digest)
        {
            self.0.remove(&oldest);
        }
        self.0.insert(digest, Asking { since: now, at: now + ASK_AFTER.0, gap: ASK_AFTER.0 });
    }

    pub fn next(&self) -> Option<Time> {
        self.0.values().map(|asking| asking.at).min()
    }
}

impl Node {
    /// Asks guardians of which nothing is heard in a moment whether they hold it.
    pub(super) fn follow_up(&mut self, now: Time, digest: Digest) {
        if self.desired.names_artifact(&digest) {
            self.spreading.begin(now, digest);
        }
    }

    pub(super) fn ask_holders(&mut self, now: Time) {
        let due: Vec<Digest> = self
            .spreading
            .0
            .iter()
            .filter(|(_, asking)| asking.at <= now)
            .map(|(digest, _)| *digest)
            .collect();
        for digest in due {
            let silent = self.silent_guardians(&digest);
            let asking = self.spreading.0.get_mut(&digest);
            let Some(asking) = asking
                .filter(|asking| !silent.is_empty() && now.since(asking.since) < GIVE_UP_AFTER)
            else {
                self.spreading.0.remove(&digest);
                continue;
            };
            asking.gap = (asking.gap * 2).min(ASK_AFTER.1);
            asking.at = now + asking.gap;
            for to in silent {
                let message = Message::AskHolder { digest };
                self.deliver(now, to, PendingSend { at: now, lane: Lane::Bulk, message });
            }
        }
    }

    /// Guardians of what runs this artifact that have not said that they hold it.
    fn silent_guardians(&self, digest: &Digest) -> Vec<NodeId> {
        let wishes = self.desired.workloads().filter(|wish| wish.spec.artifact.digest == *digest);
        let mut silent: Vec<NodeId> = wishes.flat_map(|wish| self.guardians(&wish.name)).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// With 64 on their way the next ones were left to gossip alone, for ten minutes.
    #[test]
    fn the_latest_artifact_is_always_followed_up() {
        let mut spreading = Spreading::default();
        let digest = |n: u64| Digest::of(&n.to_be_bytes());
        for n in 0..MOST as u64 + 1 {
            spreading.begin(Time::ZERO + Duration::from_millis(n), digest(n));
        }
        assert_eq!(spreading.len(), MOST);
        assert!(
            spreading.0.contains_key(&digest(MOST as u64)) && !spreading.0.contains_key(&digest(0))
        );
    }
}
