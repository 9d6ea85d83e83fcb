//! How many replicas a workload has, and when they end.

use serde::{Deserialize, Serialize};

/// The kind of a workload. All but `Service` are not supported yet: their forms may change until
/// they are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Kind {
    /// So many replicas that run for ever.
    Service {
        /// 0 to [`MAX_REPLICAS`](super::MAX_REPLICAS).
        replicas: u32,
    },
    /// A replica on each node that fits.
    Daemon,
    /// Replicas that run to their end, once.
    Job {
        /// The number that must succeed.
        completions: u32,
        /// The number at one time.
        parallel: u32,
    },
    /// A job for each tick of a schedule.
    Cron {
        /// In cron's five fields.
        schedule: String,
    },
    /// Replicas that each keep their node and their storage.
    Stateful {
        /// 0 to [`MAX_REPLICAS`](super::MAX_REPLICAS).
        replicas: u32,
    },
}

impl Kind {
    /// The wanted number of replicas, for the kinds that name one.
    pub fn replicas(&self) -> Option<u32> {
        match self {
            Kind::Service { replicas } | Kind::Stateful { replicas } => Some(*replicas),
            Kind::Daemon | Kind::Job { .. } | Kind::Cron { .. } => None,
        }
    }

    /// The word that users write.
    pub fn as_str(&self) -> &'static str {
        match self {
            Kind::Service { .. } => "service",
            Kind::Daemon => "daemon",
            Kind::Job { .. } => "job",
            Kind::Cron { .. } => "cron",
            Kind::Stateful { .. } => "stateful",
        }
    }
}
