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
    /// Its program came to its end by itself, as replicas of jobs do; a replica that is to run for
    /// ever has `Failed` then.
    Done {
        /// The exit code; 0 for success.
        exit_code: i32,
        /// The last lines that it wrote. The core cuts them to ten, and to 1 KiB in all.
        lines: Vec<String>,
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
            InstanceState::Done { .. } => "done",
            InstanceState::Stopped => "stopped",
        }
    }

    /// Whether it answers requests.
    pub fn is_running(&self) -> bool {
        *self == InstanceState::Running
    }

    /// Whether the state is final until the instance is started again.
    pub fn ended(&self) -> bool {
        match self {
            InstanceState::Failed { .. } | InstanceState::Done { .. } | InstanceState::Stopped => {
                true
            }
            InstanceState::Starting | InstanceState::Waiting { .. } | InstanceState::Running => {
                false
            }
        }
    }
}
