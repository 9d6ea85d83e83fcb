//! How a workload is updated and restarted. What is not the default is not supported yet, and its
//! form may change until it is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How replicas get a new revision.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UpdatePolicy {
    /// Replicas that are replaced at one time; none for all at once.
    pub parallel: Option<u32>,
    /// The time that a new replica must stay ready before the next is replaced.
    pub watch: Duration,
    /// Go back to the last good revision when the new one fails.
    pub roll_back: bool,
}

impl Default for UpdatePolicy {
    fn default() -> Self {
        UpdatePolicy { parallel: None, watch: Duration::ZERO, roll_back: false }
    }
}

/// When an ended replica is started again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Whatever its end was.
    #[default]
    Always,
    /// When it failed.
    OnFailure,
    /// Never, also when it failed.
    Never,
}
