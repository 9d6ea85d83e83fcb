//! The commands of users, and the answers.

use crate::model::{
    Artifact, Digest, Key, ProgramKind, PublicKey, RawChange, Spec, Value, WorkloadName,
};

/// Names of members in [`Reply::Prepared`]; for further ones it has a single entry with their
/// number.
pub const MAX_UNHEARD: usize = 8;

/// A user's request to change something.
#[derive(Clone, Debug)]
pub enum Command {
    /// Validate a workload's new spec, and return what its author must sign. Changes nothing.
    /// Answered by [`Reply::Prepared`], after up to a second if the members have to be asked.
    Prepare {
        /// The workload to create, change or remove.
        name: WorkloadName,
        /// The new spec. `None` removes the workload.
        spec: Option<Spec>,
        /// Accept a spec that fits no member that is up, and the removal of a workload that this
        /// node does not know but other members may.
        force: bool,
    },
    /// Return what the author of the next change of a key must sign. Changes nothing. Answered by
    /// [`Reply::Drafted`].
    Draft {
        /// The key; for a workload [`Command::Prepare`] does more.
        key: Key,
    },
    /// Accept a change that its author has signed. Answered by [`Reply::Accepted`] once the change
    /// is on this node's disk.
    Submit {
        /// The signed change. The core verifies it.
        change: RawChange,
    },
    /// A user put an artifact into this node's store. Answered by [`Reply::Done`]. The store keeps
    /// it for ten minutes even if no workload names it.
    Uploaded {
        /// Digest and size of the stored bytes, as the driver measured them.
        artifact: Artifact,
        /// The kind of program that it belongs to.
        kind: ProgramKind,
    },
}

/// The answer to a command.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// The spec is valid, and this is what its author must sign.
    Prepared {
        /// The parts of the change that the author must sign.
        draft: Draft,
        /// The present spec. `None` if the workload does not exist, as far as this node knows.
        current: Option<Spec>,
        /// Empty if `current` differs from the requested spec.
        ///
        /// If they are equal: the members that may hold another version, because they do not
        /// answer or hold one, by name. Empty then means that every member has confirmed `current`,
        /// and nothing need be written. Otherwise the author should write the change all the same,
        /// so that it supersedes a version that one of them may bring. At most [`MAX_UNHEARD`]
        /// names, then one entry with the number of the others.
        unheard: Vec<String>,
        /// Whether the present spec has proven good: all its replicas ran it, healthy. An update
        /// that fails goes back to such a one.
        is_good: bool,
        /// Parts of the requested spec that are mostly a slip, in words.
        warnings: Vec<String>,
        /// The versions that the change would supersede, the one that counts first: several if
        /// operators changed the workload at the same time.
        versions: Vec<Version>,
    },
    /// The draft for the author of the next change.
    Drafted {
        /// The parts of the change that the author must sign.
        draft: Draft,
        /// The present value; none if there is none, or it was removed.
        current: Option<Value>,
    },
    /// The change is on this node's disk, and this node has begun to gossip it.
    Accepted {
        /// The id of the workload that the change created or altered.
        uid: Digest,
        /// The hash of the change.
        change: Digest,
    },
    /// The command was carried out and has no result.
    Done,
    /// The command was not carried out, and nothing changed.
    Refused(Refusal),
}

/// A version of a workload that no other one has superseded.
#[derive(Clone, PartialEq, Debug)]
pub struct Version {
    /// The name in its author's grant.
    pub by: String,
    /// The author's key.
    pub key: PublicKey,
    /// The spec; none for a removal, and for a form that this program does not know.
    pub spec: Option<Spec>,
}

/// The parts of a change that its author takes from the cluster's state. The author adds its key,
/// its writer id and its signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Draft {
    /// The writes of this workload that this node has seen: the highest serial of each writer. The
    /// author adds its own entry, with `serial`.
    pub clock: crate::model::Clock,
    /// The serial of the new write, above all that this node has seen of the workload.
    pub serial: u64,
    /// The workload that the change alters. `None` if the change creates one.
    pub uid: Option<Digest>,
}

/// The reason why a command was refused. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Refusal {
    #[error("there is no workload `{0}`")]
    NoSuchWorkload(WorkloadName),
    #[error(
        "there is no workload `{name}` on this node, but it may be known to others that cannot be \
            asked now: {}",
        unheard.join(", ")
    )]
    MayBeElsewhere { name: WorkloadName, unheard: Vec<String> },
    #[error("no node can run this: {}", .0.join("; "))]
    Unplaceable(Vec<String>),
    #[error("this node takes no writes: {0}")]
    ReadOnly(String),
    #[error("the change was refused: {0}")]
    Invalid(String),
    #[error("the workload was changed by somebody else meanwhile")]
    Stale,
    #[error("this node is full: {0}")]
    Full(String),
    #[error("this node is too busy, try again: {0}")]
    Busy(String),
    #[error("this node was revoked: it belongs to the cluster no more, and takes no commands")]
    Expelled,
    #[error("this node has not joined the cluster yet: {0}")]
    NotJoined(String),
}
