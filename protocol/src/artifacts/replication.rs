//! Artifacts whose guardians are asked whether they hold them, until all have answered.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{Digest, Queue, Time};

/// The first pause between questions, longer than gossip takes, and the longest.
const ASK_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A guardian that does not answer by then is not asked any more; it fetches when it can.
const GIVE_UP_AFTER: Duration = Duration::from_secs(600);
/// Artifacts asked about at a time. A further one replaces the oldest, whose user has had the most
/// time.
const MAX_ARTIFACTS: usize = 64;

/// Artifacts of changes that were prepared or written here.
#[derive(Clone, Debug, Default)]
pub struct Replication(BTreeMap<Digest, Asking>);

#[derive(Clone, Debug)]
struct Asking {
    since: Time,
    at: Time,
    pause: Duration,
}

impl Replication {
    /// Starts to ask about an artifact, after the first pause.
    pub fn begin(&mut self, now: Time, digest: Digest) {
        if self.0.len() >= MAX_ARTIFACTS
            && !self.0.contains_key(&digest)
            && let Some(oldest) =
                self.0.iter().min_by_key(|(_, asking)| asking.since).map(|(digest, _)| *digest)
        {
            self.0.remove(&oldest);
        }
        self.0.insert(digest, Asking { since: now, at: now + ASK_AFTER.0, pause: ASK_AFTER.0 });
    }

    /// The artifacts to ask about now.
    pub fn due(&self, now: Time) -> Vec<Digest> {
        let due = self.0.iter().filter(|(_, asking)| asking.at <= now);
        due.map(|(digest, _)| *digest).collect()
    }

    /// Whether to ask the guardians that did not answer once more. Drops the artifact if all have
    /// answered, or after ten minutes.
    pub fn ask_again(&mut self, now: Time, digest: &Digest, all_answered: bool) -> bool {
        let asking = self.0.get_mut(digest);
        let is_open =
            |asking: &&mut Asking| !all_answered && now.since(asking.since) < GIVE_UP_AFTER;
        let Some(asking) = asking.filter(is_open) else {
            self.0.remove(digest);
            return false;
        };
        asking.pause = (asking.pause * 2).min(ASK_AFTER.1);
        asking.at = now + asking.pause;
        true
    }

    /// The time of the next question.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.0.values().map(|asking| asking.at).min()
    }

    pub(super) fn queue(&self) -> Queue {
        Queue::new("artifacts whose guardians are asked", self.0.len(), MAX_ARTIFACTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// While 64 artifacts were asked about, no question was asked about a further one for ten
    /// minutes, and a lost announcement stayed lost. The further one replaces the oldest now.
    #[test]
    fn latest_artifact_is_always_asked_about() {
        let mut replication = Replication::default();
        let digest = |n: u64| Digest::of(&n.to_be_bytes());
        for n in 0..MAX_ARTIFACTS as u64 + 1 {
            replication.begin(Time::ZERO + Duration::from_millis(n), digest(n));
        }
        assert!(!replication.queue().is_overfull());
        let due = replication.due(Time::ZERO + Duration::from_secs(10));
        assert!(due.contains(&digest(MAX_ARTIFACTS as u64)) && !due.contains(&digest(0)));
    }
}
