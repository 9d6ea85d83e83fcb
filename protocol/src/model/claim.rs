//! Claims: the statements of nodes about what they run, and the slots of a sheet in which claims
//! travel.
//!
//! **A slot from a newer program is read as far as this program understands it.** Each claim in it
//! has a length of its own: a claim of an unknown form of place is left out, an unknown phase is
//! kept as a number, and fields at the end of a claim are ignored. The raw bytes travel on as they
//! came (see [`super::sign`]).

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::bid::Award;
use super::codec::{self, Bytes};
use super::id::Digest;
use super::name::WorkloadName;
use super::replica::{Place, ReplicaId, Revision, Token};
use super::sign::{Signable, Unverified};
use super::time::WallClock;

/// Slots of a sheet: a change of one claim re-issues one slot.
pub const SLOTS: u8 = 64;
/// Claims in one slot. With 64 slots a node can hold 8,192 replicas.
pub const MAX_SLOT_CLAIMS: usize = 128;
/// Bytes of a reason that a claim carries.
pub const MAX_REASON: usize = 256;

/// The beginning of the reason of a replica that runs, and whose probes say that it is not ready.
pub const NOT_READY: &str = "not ready: ";

/// The beginning of the reason of an [`Update`] that its node has no place for: another node is to
/// run the new revision, and the old one serves until it does.
pub const NO_PLACE: &str = "no place here: ";

/// The phase of a replica, as its holder tells all others.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// The replica is being fetched, compiled or started.
    Starting,
    /// The same, and it does not get on: people should know the reason.
    Waiting {
        /// The runtime's words, at most [`MAX_REASON`] bytes.
        reason: String,
    },
    /// The replica runs and answers.
    Healthy,
    /// The replica failed, and the holder tries again.
    Failing {
        /// The runtime's words, at most [`MAX_REASON`] bytes.
        reason: String,
        /// The number of further tries so far.
        restarts: u32,
    },
    /// A phase of a newer program, by its number on the wire. Such a claim holds its place.
    Other(u8),
}

impl Phase {
    /// Whether the program runs, ready or not.
    pub fn runs(&self) -> bool {
        match self {
            Phase::Healthy => true,
            Phase::Waiting { reason } => reason.starts_with(NOT_READY),
            Phase::Starting | Phase::Failing { .. } | Phase::Other(_) => false,
        }
    }

    /// The word that users see.
    pub fn as_str(&self) -> &'static str {
        match self {
            Phase::Waiting { reason } if reason.starts_with(NOT_READY) => "not-ready",
            Phase::Starting | Phase::Waiting { .. } => "starting",
            Phase::Healthy => "healthy",
            Phase::Failing { .. } => "failing",
            Phase::Other(_) => "unknown",
        }
    }
}

/// The replacement of a revision that still serves.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Update {
    /// The revision that is to take over.
    pub revision: Revision,
    /// The phase of its instance. Never [`Phase::Healthy`]: then it has taken over.
    pub phase: Phase,
}

impl Update {
    /// The statement of a node that it has no place for a revision.
    pub fn refused(revision: Revision, why: &str) -> Update {
        let reason = short_reason(format!("{NO_PLACE}{why}"));
        Update { revision, phase: Phase::Waiting { reason } }
    }

    /// Why the node has no place for the revision, if it has none.
    pub fn no_place(&self) -> Option<&str> {
        match &self.phase {
            Phase::Waiting { reason } => reason.strip_prefix(NO_PLACE),
            _ => None,
        }
    }
}

/// The statement of a node that it runs a replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The claimed replica.
    pub replica: ReplicaId,
    /// The name of its workload, for people.
    pub name: WorkloadName,
    /// The revision that serves, or that starts when none serves yet:
    /// [`Spec::revision`](super::Spec::revision) of the spec it was started from.
    pub generation: Revision,
    /// The right to run it. At least the award's token.
    pub token: Token,
    /// The phase of that revision.
    pub phase: Phase,
    /// The time when the phase began, by this node's clock; for people.
    pub since: WallClock,
    /// The award that the claim came from.
    pub award: Unverified<Award>,
    /// The replacement under way, while the old revision still serves.
    pub update: Option<Update>,
}

/// A slot of a node's sheet; the signer is the node. A claim that is absent from its slot is
/// gone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "WireSlot", into = "WireSlot")]
pub struct Slot {
    /// The number of the slot, below [`SLOTS`].
    pub slot: u8,
    /// Grows with each issue of this slot; of equal ones the greater hash counts.
    pub counter: u64,
    /// The claims of places that this program knows, by replica, at most [`MAX_SLOT_CLAIMS`].
    pub claims: Vec<Claim>,
    /// The claims of places that only a newer program knows, as they came. They travel on, and
    /// count for nothing here.
    pub newer: Vec<Bytes>,
}

impl Slot {
    /// Writes the slot as a newer program might: a phase and a form of place that this program does
    /// not know, and more at the end of a claim. For simulations of clusters of two versions.
    pub fn imitate_newer(&mut self) {
        const PHASE: u8 = 200;
        const PLACE: [u8; 3] = [250, 1, 2];
        for claim in &mut self.claims {
            if claim.phase == Phase::Starting {
                claim.phase = Phase::Other(PHASE);
            }
        }
        let known = Slot { newer: Vec::new(), ..self.clone() };
        let copies = WireSlot::from(known).claims.into_iter().filter_map(|bytes| {
            let mut claim: WireClaim = codec::decode(&bytes.0).ok()?;
            claim.place = Bytes(PLACE.into());
            Some(Bytes([codec::encode(&claim), vec![1, 2, 3]].concat()))
        });
        self.newer = copies.collect();
    }
}

impl Signable for Slot {
    const DOMAIN: &'static str = "shoal/slot/2";

    fn read(raw: &[u8]) -> Result<Slot, codec::Malformed> {
        match codec::decode_prefix(raw)? {
            Header { form: ..FORM, .. } => Err(codec::Malformed("a slot of layout 1".into())),
            Header { form: FORM, .. } => codec::decode_prefix(raw),
            // Of a form that is read by newer programs only, no claim counts here.
            Header { slot, counter, .. } => {
                Ok(Slot { slot, counter, claims: Vec::new(), newer: Vec::new() })
            }
        }
    }
}

/// The form of a slot that this program writes, above every number of a slot, with which layout 1
/// begins. A greater number is a form that this program cannot read beyond its [`Header`].
const FORM: u16 = 65;

/// The beginning of a slot in every form.
#[derive(Deserialize)]
struct Header {
    form: u16,
    slot: u8,
    counter: u64,
}

/// [`Slot`] on the wire: each claim as bytes.
#[derive(Clone, Serialize, Deserialize)]
struct WireSlot {
    form: u16,
    slot: u8,
    counter: u64,
    claims: Vec<Bytes>,
}

/// [`Claim`] on the wire. A newer program may append fields.
#[derive(Serialize, Deserialize)]
struct WireClaim {
    uid: Digest,
    /// A [`Place`], as bytes: an unknown form can be skipped.
    place: Bytes,
    name: WorkloadName,
    generation: Revision,
    token: Token,
    phase: WirePhase,
    since: WallClock,
    award: Unverified<Award>,
    update: Option<(Revision, WirePhase)>,
}

/// [`Phase`] on the wire: its number, and what it carries.
#[derive(Serialize, Deserialize)]
struct WirePhase(u8, Bytes);

impl From<Phase> for WirePhase {
    fn from(phase: Phase) -> WirePhase {
        match phase {
            Phase::Starting => WirePhase(0, Bytes::default()),
            // Programs that know no reasons of it read it as starting.
            Phase::Waiting { reason } => WirePhase(0, Bytes(codec::encode(&reason))),
            Phase::Healthy => WirePhase(1, Bytes::default()),
            Phase::Failing { reason, restarts } => {
                WirePhase(2, Bytes(codec::encode(&(reason, restarts))))
            }
            Phase::Other(number) => WirePhase(number, Bytes::default()),
        }
    }
}

impl TryFrom<WirePhase> for Phase {
    type Error = codec::Malformed;

    fn try_from(WirePhase(number, carries): WirePhase) -> Result<Phase, codec::Malformed> {
        Ok(match number {
            0 if carries.0.is_empty() => Phase::Starting,
            0 => Phase::Waiting { reason: codec::decode_prefix(&carries.0)? },
            1 => Phase::Healthy,
            2 => {
                let (reason, restarts) = codec::decode_prefix(&carries.0)?;
                Phase::Failing { reason, restarts }
            }
            number => Phase::Other(number),
        })
    }
}

impl From<Slot> for WireSlot {
    fn from(slot: Slot) -> WireSlot {
        let wire = |claim: Claim| {
            Bytes(codec::encode(&WireClaim {
                uid: claim.replica.uid,
                place: Bytes(codec::encode(&claim.replica.place)),
                name: claim.name,
                generation: claim.generation,
                token: claim.token,
                phase: claim.phase.into(),
                since: claim.since,
                award: claim.award,
                update: claim.update.map(|update| (update.revision, update.phase.into())),
            }))
        };
        WireSlot {
            form: FORM,
            slot: slot.slot,
            counter: slot.counter,
            claims: slot.claims.into_iter().map(wire).chain(slot.newer).collect(),
        }
    }
}

impl TryFrom<WireSlot> for Slot {
    type Error = codec::Malformed;

    fn try_from(wire: WireSlot) -> Result<Slot, codec::Malformed> {
        let mut claims = Vec::with_capacity(wire.claims.len().min(MAX_SLOT_CLAIMS));
        let mut newer = Vec::new();
        for bytes in wire.claims {
            match claim(&bytes.0)? {
                Some(claim) => claims.push(claim),
                None => newer.push(bytes),
            }
        }
        Ok(Slot { slot: wire.slot, counter: wire.counter, claims, newer })
    }
}

/// None for a claim of a place whose form this program does not know.
fn claim(bytes: &[u8]) -> Result<Option<Claim>, codec::Malformed> {
    let wire: WireClaim = codec::decode_prefix(bytes)?;
    let Ok(place) = codec::decode::<Place>(&wire.place.0) else { return Ok(None) };
    let update = match wire.update {
        Some((revision, phase)) => Some(Update { revision, phase: phase.try_into()? }),
        None => None,
    };
    Ok(Some(Claim {
        replica: ReplicaId { uid: wire.uid, place },
        name: wire.name,
        generation: wire.generation,
        token: wire.token,
        phase: wire.phase.try_into()?,
        since: wire.since,
        award: wire.award,
        update,
    }))
}

/// Cuts `reason` to [`MAX_REASON`] bytes, at the border of a character.
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
