//! The stages of an own replica.

use crate::model::{Award, PersistId, Phase, Signed, Time};

/// This node's progress with a replica that it won. **The only record of it**: the answer to the
/// owner, the phase that other nodes see ([`Phase`]), and the orders to the runtime all follow from
/// it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stage {
    /// The claim is on its way to disk. Nothing runs, and the owner is not answered.
    Writing {
        /// The batch that holds the claim.
        batch: PersistId,
        /// The award, to be answered once the claim is on disk.
        award: Signed<Award>,
        /// The time when the award came.
        since: Time,
    },
    /// The claim is on disk, the artifact is not ready yet.
    Fetching,
    /// The runtime was told to run it, and has not reported success.
    Starting,
    /// The replica runs and answers.
    Ready,
    /// It failed, and is tried again.
    BackingOff {
        /// The time of the next try.
        until: Time,
        /// The runtime's message.
        reason: String,
    },
    /// It failed for good. Its claim shows the reason for a moment before it is released, so that
    /// people see why.
    GivingUp {
        /// The time of the release.
        until: Time,
        /// The runtime's message.
        reason: String,
    },
    /// It was released; the runtime has not reported yet that it has stopped.
    Stopping,
}

impl Stage {
    /// The phase that other nodes see.
    pub fn phase(&self, restarts: u32) -> Phase {
        match self {
            Stage::Writing { .. } | Stage::Fetching | Stage::Starting | Stage::Stopping => {
                Phase::Starting
            }
            Stage::Ready => Phase::Healthy,
            Stage::BackingOff { reason, .. } | Stage::GivingUp { reason, .. } => {
                Phase::Failing { reason: reason.clone(), restarts }
            }
        }
    }

    /// The time when something is due.
    pub(super) fn due(&self) -> Option<Time> {
        match self {
            Stage::BackingOff { until, .. } | Stage::GivingUp { until, .. } => Some(*until),
            Stage::Writing { .. }
            | Stage::Fetching
            | Stage::Starting
            | Stage::Ready
            | Stage::Stopping => None,
        }
    }
}
