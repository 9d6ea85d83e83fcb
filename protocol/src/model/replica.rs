//! Replicas: the places of a workload, the right to run one, and how people name them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::claim::SLOTS;
use super::id::{Digest, NodeId};
use super::name::WorkloadName;

/// Neighbouring ordinals that share a slot of a sheet. The claims of one award are signed, written
/// and gossiped together, so they should lie in few slots; a node that holds all replicas of a
/// workload still fills its slots evenly.
const SLOT_RUN: u32 = 16;

/// The hash of all parts of a spec whose change needs a restart of the replica.
pub type Revision = Digest;

/// A place of a workload that a replica can fill. New forms are added at the end: an
/// older program does not act on a claim whose place it cannot read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Place {
    /// Replica number, from 0: of a service.
    Ordinal(u32),
    /// The one replica on this node: of a daemon workload.
    OnNode(NodeId),
    /// A run of a job.
    Run {
        /// The instant that the run was due, in milliseconds since 1970; 0 for a job without
        /// schedule.
        at: u64,
        /// The number among the parallel replicas of that run, from 0.
        index: u32,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Ordinal(index) => write!(f, "{index}"),
            Place::OnNode(node) => f.write_str(&node.short()),
            Place::Run { at, index } => write!(f, "{at}-{index}"),
        }
    }
}

/// A replica of one workload. A later workload of the same name has another `uid`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ReplicaId {
    /// The workload: the hash of the change that created it.
    pub uid: Digest,
    /// The place that it fills.
    pub place: Place,
}

impl ReplicaId {
    /// The slot of a sheet that its claim lies in.
    pub fn slot(&self) -> u8 {
        // The uid is a hash: it spreads workloads of few replicas.
        let first = u32::from(self.uid.0[0]);
        let run = match self.place {
            Place::Ordinal(index) => index / SLOT_RUN,
            Place::OnNode(node) => u32::from(node.0[0]),
            Place::Run { at, index } => {
                let tick = u32::try_from(at / 1_000 % u64::from(SLOTS)).unwrap_or_default();
                tick + index / SLOT_RUN
            }
        };
        let slot = first.wrapping_add(run) % u32::from(SLOTS);
        u8::try_from(slot).expect("a remainder of 64")
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.uid.short(), self.place)
    }
}

/// The name of a replica as people write it: `web/2`, `shop/web/2`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ReplicaName {
    /// The workload, `namespace/name` in full.
    pub workload: WorkloadName,
    /// The place that it fills.
    pub place: Place,
}

impl FromStr for ReplicaName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a replica: NAME/NUMBER or NAMESPACE/NAME/NUMBER is expected, as \
                    in `web/0`"
            )
        };
        let (workload, index) = text.rsplit_once('/').ok_or_else(wrong)?;
        let digits = index.bytes().all(|digit| digit.is_ascii_digit());
        let place = Place::Ordinal(index.parse().ok().filter(|_| digits).ok_or_else(wrong)?);
        Ok(ReplicaName { workload: workload.parse().map_err(|error| format!("{error}"))?, place })
    }
}

impl fmt::Display for ReplicaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.workload, self.place)
    }
}

/// The right to run a replica: the greater token is the newer one. Tokens of a replica grow, and
/// outlive its claim.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Token {
    /// At least one more than every counter that its owner had seen for the replica.
    pub counter: u64,
    /// The owner that drew it.
    pub by: NodeId,
    /// The owner's incarnation then: after a restart an owner may have forgotten which counters it
    /// drew.
    pub incarnation: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The slot of a claim is part of the wire format: nodes of all versions must agree on it.
    #[test]
    fn slot_of_each_place_form_is_fixed() {
        let slot = |place| ReplicaId { uid: Digest([250; 32]), place }.slot();
        assert_eq!(slot(Place::Ordinal(0)), 250 % 64);
        assert_eq!(slot(Place::Ordinal(15)), slot(Place::Ordinal(0)));
        assert_eq!(slot(Place::Ordinal(16)), 251 % 64);
        assert_eq!(slot(Place::Ordinal(u32::MAX)), ((250 + u32::MAX / 16) % 64) as u8);
        assert_eq!(slot(Place::OnNode(NodeId([7; 32]))), ((250u32 + 7) % 64) as u8);
        assert_eq!(slot(Place::Run { at: 65_000, index: 16 }), 252 % 64);
    }
}
