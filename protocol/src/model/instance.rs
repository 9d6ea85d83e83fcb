//! The states of a running instance of a replica.

/// The stages of an instance's life in its runtime. An adapter sets it; the core reads it in a
/// report, and keeps its own [`Stage`](crate::holding::Stage) for the replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InstanceState {
    /// Accepted by the runtime, and not ready for requests yet.
    Starting,
    /// The same, for longer than usual, or it ran and takes no requests for now.
    Waiting {
        /// The cause, for a person. The core cuts it to 256 bytes.
        reason: String,
    },
    /// Runs and answers requests.
    Running,
    /// Ended by itself, or could not start. It does not restart by itself.
    Failed {
        /// The cause, for a person. The core cuts it to 256 bytes.
        reason: String,
        /// Whether the same launch may succeed later on this node.
        retryable: bool,
    },
    /// Ended as ordered: nothing of it runs any more.
    Stopped,
}

impl InstanceState {
    /// The state in lower case, for messages: `running`.
    pub fn word(&self) -> &'static str {
        match self {
            InstanceState::Starting | InstanceState::Waiting { .. } => "starting",
            InstanceState::Running => "running",
            InstanceState::Failed { .. } => "failed",
            InstanceState::Stopped => "stopped",
        }
    }

    /// Whether it answers requests.
    pub fn is_running(&self) -> bool {
        *self == InstanceState::Running
    }

    /// Whether the state is final until the instance is started again.
    pub fn ended(&self) -> bool {
        matches!(self, InstanceState::Failed { .. } | InstanceState::Stopped)
    }
}
