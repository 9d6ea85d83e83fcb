//! Replicas that failed on this node, which does not bid for them for a growing time.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::claim::short_reason;
use crate::model::{Decline, Digest, ReplicaId, Time};

use super::config::Config;
use super::timers::millis;

/// Remembered failures; beyond it the oldest is forgotten. A node on which more replicas fail has
/// other troubles.
pub(super) const MAX_COOLING: usize = 1024;

/// Replicas that failed on this node, each with the time until which it does not bid for it.
/// Another generation may succeed, and is not held back.
#[derive(Clone, Debug, Default)]
pub(super) struct Cooling {
    failed: BTreeMap<ReplicaId, Failure>,
}

#[derive(Clone, Debug)]
struct Failure {
    generation: Digest,
    times: u32,
    at: Time,
    until: Time,
    reason: String,
}

impl Cooling {
    pub(super) fn len(&self) -> usize {
        self.failed.len()
    }

    pub(super) fn failed(
        &mut self,
        config: &Config,
        now: Time,
        replica: ReplicaId,
        generation: Digest,
        reason: &str,
    ) {
        let before = self.failed.remove(&replica).filter(|failure| {
            failure.generation == generation && now.since(failure.until) < config.cool_at_most
        });
        if self.failed.len() >= MAX_COOLING
            && let Some(oldest) = self
                .failed
                .iter()
                .min_by_key(|(_, failure)| failure.at)
                .map(|(replica, _)| *replica)
        {
            self.failed.remove(&oldest);
        }
        let times = before.map_or(0, |failure| failure.times + 1);
        let wait = doubled(config.cool_at_least, times, config.cool_at_most);
        let failure = Failure {
            generation,
            times,
            at: now,
            until: now + wait,
            reason: short_reason(reason.to_owned()),
        };
        self.failed.insert(replica, failure);
    }

    pub(super) fn decline(
        &self,
        now: Time,
        replica: &ReplicaId,
        generation: &Digest,
    ) -> Option<Decline> {
        let failure = self.failed.get(replica)?;
        let cools = failure.generation == *generation && now < failure.until;
        let retry_ms = millis(failure.until.since(now));
        cools.then(|| Decline::Cooling { retry_ms, reason: failure.reason.clone() })
    }
}

/// `least` doubled `times` times, at most `most`.
pub(super) fn doubled(least: Duration, times: u32, most: Duration) -> Duration {
    1u32.checked_shl(times).and_then(|factor| least.checked_mul(factor)).unwrap_or(most).min(most)
}
