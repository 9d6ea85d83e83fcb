//! The stages of an own replica.

use crate::model::{Award, PersistId, Phase, Revision, Signed, Time};

/// The progress of a replica on its holder. **It is stored nowhere else**: the answer to the owner,
/// the claim's [`Phase`] and the orders to the runtime all derive from it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stage {
    /// The claim is on its way to disk. Nothing runs, and the owner is not answered.
    Writing {
        /// The batch with the claim.
        batch: PersistId,
        /// The award; its owner is answered once the claim is on disk.
        award: Signed<Award>,
        /// The time at which the award came.
        since: Time,
        /// The revision that the runtime is to run as soon as the batch is on disk, if its
        /// artifact is ready before that.
        ordered: Option<Revision>,
    },
    /// The claim is on disk, and the artifact is not ready yet.
    Fetching,
    /// The runtime has the order to run the replica, and has not reported success.
    Starting,
    /// The same, and the runtime said why it takes no requests yet, or no longer.
    Waiting {
        /// The runtime's words, shortened.
        reason: String,
    },
    /// The replica runs and answers.
    Ready,
    /// The replica failed, and is retried.
    BackingOff {
        /// The time of the next try.
        until: Time,
        /// The runtime's error, shortened.
        reason: String,
    },
    /// The replica failed for good. Its claim shows the reason for a moment before it is released,
    /// so that people see it.
    GivingUp {
        /// The time of the release.
        until: Time,
        /// The runtime's error, shortened.
        reason: String,
    },
    /// The replica was released, and the runtime has not reported that it has stopped.
    Stopping,
}

impl Stage {
    /// The phase for the claim. `restarts` is the number of further tries so far.
    pub fn phase(&self, restarts: u32) -> Phase {
        match self {
            Stage::Writing { .. } | Stage::Fetching | Stage::Starting | Stage::Stopping => {
                Phase::Starting
            }
            Stage::Waiting { reason } => Phase::Waiting { reason: reason.clone() },
            Stage::Ready => Phase::Healthy,
            Stage::BackingOff { reason, .. } | Stage::GivingUp { reason, .. } => {
                Phase::Failing { reason: reason.clone(), restarts }
            }
        }
    }

    /// The time of the next retry or release.
    pub(super) fn due(&self) -> Option<Time> {
        match self {
            Stage::BackingOff { until, .. } | Stage::GivingUp { until, .. } => Some(*until),
            Stage::Writing { .. }
            | Stage::Fetching
            | Stage::Starting
            | Stage::Waiting { .. }
            | Stage::Ready
            | Stage::Stopping => None,
        }
    }
}
