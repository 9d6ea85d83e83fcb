//! Who runs what: claims, their tokens, and the slots of a sheet in which they travel.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::bid::Award;
use super::id::{Digest, NodeId};
use super::name::WorkloadName;
use super::sign::{Signable, Unverified};
use super::spec::Spec;
use super::time::WallClock;

/// Slots of a sheet: a change of one claim re-issues one slot.
pub const SLOTS: u8 = 64;
/// Claims in one slot. With 64 slots a node can hold 8,192 replicas.
pub const MAX_SLOT_CLAIMS: usize = 128;
/// Places that follow one another and share a slot: what is awarded together is signed, written and
/// told together. A node that holds all of a workload fills its slots evenly.
const SLOT_RUN: u32 = 16;
/// Bytes of a reason that a claim carries.
pub const MAX_REASON: usize = 256;

/// One numbered place of a workload.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Place {
    /// Replica number, from 0.
    Index(u32),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Index(index) => write!(f, "{index}"),
        }
    }
}

/// A replica of one very workload: a later workload of the same name has another `uid`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ReplicaId {
    /// The workload: the hash of the change that created it.
    pub uid: Digest,
    /// Which of its places.
    pub place: Place,
}

impl ReplicaId {
    /// The slot of a sheet it lies in.
    pub fn slot(&self) -> u8 {
        let Place::Index(index) = self.place;
        // The uid is a hash: workloads of few replicas are spread by it.
        let run = u32::from(self.uid.0[0]) + index / SLOT_RUN;
        u8::try_from(run % u32::from(SLOTS)).expect("a remainder of 64")
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.uid.short(), self.place)
    }
}

/// How a person names a replica: `web/2`, `shop/web/2`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ReplicaName {
    /// The workload.
    pub workload: WorkloadName,
    /// Which of its places.
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
        let place = Place::Index(index.parse().ok().filter(|_| digits).ok_or_else(wrong)?);
        Ok(ReplicaName { workload: workload.parse().map_err(|error| format!("{error}"))?, place })
    }
}

impl fmt::Display for ReplicaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.workload, self.place)
    }
}

/// The right to run a replica: the greater is the newer. Grows per replica and outlives the claim.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Token {
    /// One more than any that was seen for the replica.
    pub counter: u64,
    /// The owner that drew it.
    pub by: NodeId,
    /// The owner's incarnation then: one that restarts may have forgotten which counters it drew.
    pub incarnation: u64,
}

/// How far a claimed replica has come.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Phase {
    /// Being fetched, compiled or started.
    Starting,
    /// Running and answering.
    Healthy,
    /// It failed, and is being tried again here.
    Failing {
        /// For the user, at most [`MAX_REASON`] bytes.
        reason: String,
        /// How many times it was tried again.
        restarts: u32,
    },
}

impl Phase {
    /// The word users see.
    pub fn as_str(&self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Healthy => "healthy",
            Phase::Failing { .. } => "failing",
        }
    }
}

/// A node's own statement: I run this.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// What.
    pub replica: ReplicaId,
    /// What people call its workload.
    pub name: WorkloadName,
    /// Of which generation: [`generation`] of the spec it was started from.
    pub generation: Digest,
    /// Under which right. At least the award's.
    pub token: Token,
    /// How far it has come.
    pub phase: Phase,
    /// When it came there, by this node's clock; for people.
    pub since: WallClock,
    /// The award it came from.
    pub award: Unverified<Award>,
}

/// One slot of a node's sheet; the signer is the node. What is absent from a slot is gone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Slot {
    /// Which of the [`SLOTS`].
    pub slot: u8,
    /// Grows with each issue of this slot; of equal ones the greater hash counts.
    pub counter: u64,
    /// The claims in it, by replica, at most [`MAX_SLOT_CLAIMS`].
    pub claims: Vec<Claim>,
}

impl Signable for Slot {
    const DOMAIN: &'static str = "shoal/slot/1";
}

/// The hash of what needs a restart: all of the spec but the number of replicas and where they may
/// go.
pub fn generation(spec: &Spec) -> Digest {
    Digest::of(&super::codec::encode(&(spec.runtime, spec.artifact, spec.resources, &spec.env)))
}

/// Cuts `reason` to [`MAX_REASON`] bytes at a character's border.
pub fn short_reason(mut reason: String) -> String {
    if reason.len() > MAX_REASON {
        let mut end = MAX_REASON - 3;
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        reason.truncate(end);
        reason.push('…');
    }
    reason
}
