//! The answers of the room to its node.

use crate::model::{PersistId, Revision, Token};

/// The state of a held replica that the auction asks about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// The token of the award while the claim is on its way to disk; `None` once it is there.
    pub writing: Option<Token>,
}

/// The state of the bytes of a replica's artifacts, in the order from best to worst: of several
/// artifacts the worst state counts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Bytes {
    /// On this device, and ready to start.
    Ready,
    /// Not on this device.
    Missing {
        /// The number of failed fetches in a row.
        tries: u32,
        /// The error of the last one; empty if none failed.
        why: String,
    },
    /// On this device, and can never start: the runtime's error.
    Unusable(String),
}

/// The next step for a replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// Nothing to do until an input changes it.
    Nothing,
    /// Fetch the artifact.
    Fetch,
    /// Order the runtime to run the target.
    Run {
        /// The order waits until this batch, with the claim, is on disk.
        after: Option<PersistId>,
    },
    /// The target cannot run, for this reason: call `Holding::fail`.
    Fail(String),
}

/// A due step for a replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Due {
    /// Retry the target, or see whether it is still the right one.
    Retry,
    /// Start this older revision again, which is to serve until the target is ready.
    Again(Revision),
    /// Release the claim, which failed for good, for this reason.
    Release(String),
}

/// The consequence of a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failed {
    /// None: the failure was known, or the replica is not held.
    Known,
    /// No revision serves.
    Down,
    /// The target failed, and an older revision serves.
    Replacement,
}

/// The consequence of a report that a revision takes no requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waits {
    /// None: it was known, or is outdated.
    Known,
    /// It starts, and people should know the reason.
    NotYet,
    /// It answered until now.
    Down,
}

/// The consequence of a program's end, for a replica that may end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// It is of another revision, or of no replica.
    Known,
    /// It is to be run again after a pause.
    Again,
    /// It succeeded.
    Done,
    /// It failed for good.
    Failed,
}
