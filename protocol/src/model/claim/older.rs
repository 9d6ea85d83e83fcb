//! Slots of layout 1, as they lie in state folders and travel from older programs.

use serde::{Deserialize, Serialize};

use super::super::bid::Award;
use super::super::codec::{self, Malformed};
use super::super::name::WorkloadName;
use super::super::replica::{ReplicaId, Revision, Token};
use super::super::sign::Unverified;
use super::super::time::WallClock;
use super::{Claim, Phase, Slot};

#[derive(Serialize, Deserialize)]
pub(super) struct Slot1 {
    pub slot: u8,
    pub counter: u64,
    pub claims: Vec<Claim1>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Claim1 {
    pub replica: ReplicaId,
    pub name: WorkloadName,
    pub generation: Revision,
    pub token: Token,
    pub phase: Phase1,
    pub since: WallClock,
    pub award: Unverified<Award>,
}

#[derive(Serialize, Deserialize)]
pub(super) enum Phase1 {
    Starting,
    Healthy,
    Failing { reason: String, restarts: u32 },
}

pub(super) fn read_slot(raw: &[u8]) -> Result<Slot, Malformed> {
    let Slot1 { slot, counter, claims } = codec::decode(raw)?;
    let claims = claims.into_iter().map(Claim::from).collect();
    Ok(Slot { slot, counter, claims, newer: Vec::new() })
}

impl From<Claim1> for Claim {
    fn from(claim: Claim1) -> Claim {
        let phase = match claim.phase {
            Phase1::Starting => Phase::Starting,
            Phase1::Healthy => Phase::Healthy,
            Phase1::Failing { reason, restarts } => Phase::Failing { reason, restarts },
        };
        Claim {
            replica: claim.replica,
            name: claim.name,
            generation: claim.generation,
            token: claim.token,
            phase,
            since: claim.since,
            award: claim.award,
            update: None,
        }
    }
}
