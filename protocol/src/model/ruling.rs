//! An owner's decisions that must outlive it.

use serde::{Deserialize, Serialize};

use super::id::Digest;
use super::sign::Signable;

/// What a ruling decides.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum RulingKind {
    /// Whether a generation is good: 1 good, 0 bad.
    RolloutVerdict,
    /// A cron tick that was started.
    CronTick,
    /// How many replicas an autoscaled workload has.
    Autoscale,
    /// How a job ended: its exit code.
    JobResult,
}

/// Where a ruling stands. One ruling a key, except autoscale values, of which the latest counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct RulingKey {
    /// The workload.
    pub uid: Digest,
    /// What it decides.
    pub kind: RulingKind,
    /// For which generation.
    pub generation: Digest,
    /// For which instant or run; 0 where there is but one.
    pub tick: u64,
}

/// An owner's decision; the signer is the owner of the moment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ruling {
    /// What it decides.
    pub key: RulingKey,
    /// Numbers meet by `(sequence, owner)`; the greater counts.
    pub sequence: u64,
    /// The decision.
    pub value: i64,
}

impl Signable for Ruling {
    const DOMAIN: &'static str = "shoal/ruling/1";
}
