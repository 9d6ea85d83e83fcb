//! An operator's request to one running replica, beside the desired state: a command in it, its
//! files, a port of it. Or to a volume that a node keeps for a replica.
//!
//! A statement is signed for one conversation: it carries the number that the replica's node drew
//! for it, so that a copy of it opens nothing, whatever the clocks say.

use serde::{Deserialize, Serialize};

use super::grant::Chain;
use super::id::NodeId;
use super::name::WorkloadName;
use super::replica::Place;
use super::sign::{Signable, Unverified};

/// A request to one replica.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Access {
    /// The replica's workload.
    pub workload: WorkloadName,
    /// The replica's place.
    pub place: Place,
    /// The node that runs the replica, or keeps the volume.
    pub node: NodeId,
    /// The number that this node drew for the conversation.
    pub nonce: [u8; 32],
    /// The request itself.
    pub action: Action,
}

/// The request of an [`Access`]. New forms are added at the end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Action {
    /// Run a command in it.
    Exec(Exec),
    /// See what it writes from now on.
    Attach,
    /// Read the files at an absolute path, as a tar archive.
    Read {
        /// The path in the replica.
        path: String,
    },
    /// Unpack a tar archive in a folder.
    Write {
        /// The absolute path of the folder in the replica.
        path: String,
    },
    /// Connect to one of its TCP ports.
    Connect {
        /// The port.
        port: u16,
    },
    /// Read all files of a volume that the node keeps for it, as a tar archive.
    ReadVolume {
        /// The volume's name within the workload.
        name: String,
    },
    /// Replace all files of a volume by those of a tar archive.
    WriteVolume {
        /// The volume's name within the workload.
        name: String,
        /// Unpack them over those that are in it, also while the replica runs.
        beside: bool,
    },
    /// Remove a volume, with all that is in it.
    RemoveVolume {
        /// The volume's name within the workload.
        name: String,
    },
    /// See what it writes from now on, and write to its program's standard input, if that is open.
    Interact {
        /// The size of the operator's terminal, columns and rows, for a program that has one.
        terminal: (u16, u16),
    },
    /// Run a command in a container of a group.
    ExecIn {
        /// The container's name in the group.
        container: String,
        /// The command.
        exec: Exec,
    },
}

/// A command in a replica.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Exec {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Variables `NAME=VALUE`, besides those of the replica.
    pub env: Vec<String>,
    /// `USER[:GROUP]`; none for that of the replica.
    pub user: Option<String>,
    /// The absolute path of the working directory; none for that of the replica.
    pub workdir: Option<String>,
    /// The command reads from the operator.
    pub input: bool,
    /// The size of the operator's terminal, columns and rows, if the command shall have one.
    pub terminal: Option<(u16, u16)>,
}

impl Signable for Access {
    const DOMAIN: &'static str = "shoal/access/1";
}

/// A signed request as it travels, with the grants that lead from the root to its author.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RawAccess {
    /// The request.
    pub access: Unverified<Access>,
    /// The grants of its author.
    pub chain: Chain,
}
