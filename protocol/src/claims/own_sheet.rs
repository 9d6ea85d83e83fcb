//! This node's own sheet: making, changing and releasing claims. Each change issues its slot anew.

use std::collections::BTreeMap;

use crate::model::claim::{MAX_SLOT_CLAIMS, SLOTS, Update, short_reason};
use crate::model::{Claim, Phase, ReplicaId, Revision, Signed, Slot, Token, WallClock};

use super::{Claims, Outcome, validity};

/// A slot of this node's sheet is full; nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this node's sheet has no room for another claim in slot {slot}: it holds {claims}")]
pub struct SheetFull {
    /// The slot.
    pub slot: u8,
    /// The number of its claims.
    pub claims: usize,
}

impl Claims {
    /// States that this node runs a replica, by a verified award to it, under at least the award's
    /// token. Replaces an earlier claim of the replica.
    pub fn claim(&mut self, claim: Claim) -> Result<Signed<Slot>, SheetFull> {
        let (mut issued, mut full) = self.claim_all(vec![claim]);
        match full.pop() {
            Some((_, full)) => Err(full),
            None => Ok(issued.pop().expect("a claim that is made stands in a slot")),
        }
    }

    /// The same for several replicas: each slot that changes is issued once. Also returns the
    /// replicas whose slot was full.
    pub fn claim_all(
        &mut self,
        claims: Vec<Claim>,
    ) -> (Vec<Signed<Slot>>, Vec<(ReplicaId, SheetFull)>) {
        let mut by_slot: BTreeMap<u8, Vec<Claim>> = BTreeMap::new();
        for claim in claims {
            by_slot.entry(claim.replica.slot()).or_default().push(claim);
        }
        let (mut issued, mut full) = (Vec::new(), Vec::new());
        for (number, new) in by_slot {
            let (counter, mut claims) = self.own_slot(number);
            let mut changed = false;
            for claim in new {
                match claims.binary_search_by_key(&claim.replica, |known| known.replica) {
                    Ok(at) => claims[at] = claim,
                    Err(_) if claims.len() >= MAX_SLOT_CLAIMS => {
                        full.push((
                            claim.replica,
                            SheetFull { slot: number, claims: claims.len() },
                        ));
                        continue;
                    }
                    Err(at) => claims.insert(at, claim),
                }
                changed = true;
            }
            if changed {
                issued.push(self.issue(number, counter, claims));
            }
        }
        (issued, full)
    }

    /// States that these replicas of one slot run and answer, each in the given revision. `None` if
    /// nothing changes, or this node claims none of them.
    pub fn set_healthy(
        &mut self,
        number: u8,
        replicas: &[(ReplicaId, Revision)],
        since: WallClock,
    ) -> Option<Signed<Slot>> {
        let (counter, mut claims) = self.own_slot(number);
        let mut changed = false;
        for claim in &mut claims {
            let Some((_, revision)) = replicas.iter().find(|(it, _)| *it == claim.replica) else {
                continue;
            };
            if claim.phase != Phase::Healthy || claim.generation != *revision {
                (claim.generation, claim.phase, claim.since) = (*revision, Phase::Healthy, since);
                changed = true;
                // It still has no place for another one.
                let is_refused = |it: &Update| it.no_place().is_some() && it.revision != *revision;
                claim.update = claim.update.take().filter(is_refused);
            }
        }
        changed.then(|| self.issue(number, counter, claims))
    }

    /// Sets the phase of a claim; cuts a reason that is too long. `None` if nothing changes, or
    /// this node has no such claim.
    pub fn set_phase(
        &mut self,
        replica: &ReplicaId,
        phase: Phase,
        since: WallClock,
    ) -> Option<Signed<Slot>> {
        let phase = match phase {
            Phase::Failing { reason, restarts } => {
                Phase::Failing { reason: short_reason(reason), restarts }
            }
            Phase::Waiting { reason } => Phase::Waiting { reason: short_reason(reason) },
            Phase::Starting | Phase::Healthy | Phase::Other(_) => phase,
        };
        self.alter(replica, |claim| {
            if claim.phase == phase {
                return false;
            }
            // Another reason or count is not a new phase for people.
            if claim.phase.as_str() != phase.as_str() {
                claim.since = since;
            }
            claim.phase = phase;
            true
        })
    }

    /// States that no revision of the replica serves, and that it starts `generation`. `None` as in
    /// `set_phase`.
    pub fn set_generation(
        &mut self,
        replica: &ReplicaId,
        generation: Revision,
        phase: Phase,
        since: WallClock,
    ) -> Option<Signed<Slot>> {
        self.alter(replica, |claim| {
            let changes = claim.generation != generation || claim.update.is_some();
            if changes {
                (claim.generation, claim.phase, claim.since) = (generation, phase, since);
                claim.update = None;
            }
            changes
        })
    }

    /// States the progress of a replacement, while the old revision serves; none if the replacement
    /// is called off. `None` as in `set_phase`.
    pub fn set_update(
        &mut self,
        replica: &ReplicaId,
        update: Option<Update>,
    ) -> Option<Signed<Slot>> {
        self.alter(replica, |claim| {
            let changes = claim.update != update;
            claim.update = update;
            changes
        })
    }

    /// States how the revision is that is to serve until its replacement is ready, and how far that
    /// is. `None` as in `set_phase`.
    pub fn set_former(
        &mut self,
        replica: &ReplicaId,
        (generation, phase): (Revision, Phase),
        update: Update,
        since: WallClock,
    ) -> Option<Signed<Slot>> {
        self.alter(replica, |claim| {
            let update = Some(update);
            let is_same = claim.generation == generation && claim.phase == phase;
            if is_same && claim.update == update {
                return false;
            }
            if claim.phase.as_str() != phase.as_str() {
                claim.since = since;
            }
            (claim.generation, claim.phase, claim.update) = (generation, phase, update);
            true
        })
    }

    /// Adopts a greater token without a restart (see [`Fact::Adopt`](super::Fact::Adopt)). `None`
    /// if it is not greater.
    pub fn adopt(&mut self, replica: &ReplicaId, token: Token) -> Option<Signed<Slot>> {
        self.alter(replica, |claim| {
            let changes = claim.token < token;
            claim.token = claim.token.max(token);
            changes
        })
    }

    /// States that this node no longer runs the replica. `None` if it did not claim it.
    pub fn release(&mut self, replica: &ReplicaId) -> Option<Signed<Slot>> {
        self.index.claim(&self.me, replica)?;
        let number = replica.slot();
        let (counter, mut claims) = self.own_slot(number);
        claims.retain(|claim| claim.replica != *replica);
        Some(self.issue(number, counter, claims))
    }

    /// At a start of the daemon nothing runs yet: all own claims go back to starting.
    pub fn restarting(&mut self, since: WallClock) -> Vec<Signed<Slot>> {
        let mut issued = Vec::new();
        for number in 0..SLOTS {
            let (counter, mut claims) = self.own_slot(number);
            let mut changed = false;
            let restarts =
                |claim: &&mut Claim| claim.phase != Phase::Starting || claim.update.is_some();
            for claim in claims.iter_mut().filter(restarts) {
                (claim.phase, claim.since, changed) = (Phase::Starting, since, true);
                claim.update = None;
            }
            if changed {
                issued.push(self.issue(number, counter, claims));
            }
        }
        issued
    }

    pub(super) fn own_slot_from_elsewhere(&mut self, slot: &Signed<Slot>) -> Outcome {
        if !self.index.is_newer(&self.me, slot) {
            return Outcome::Known;
        }
        let (_, claims) = self.own_slot(slot.slot);
        Outcome::Reissue(self.issue(slot.slot, slot.counter, claims))
    }

    fn alter(
        &mut self,
        replica: &ReplicaId,
        change: impl FnOnce(&mut Claim) -> bool,
    ) -> Option<Signed<Slot>> {
        self.index.claim(&self.me, replica)?;
        let number = replica.slot();
        let (counter, mut claims) = self.own_slot(number);
        let claim = claims.iter_mut().find(|claim| claim.replica == *replica)?;
        change(claim).then(|| self.issue(number, counter, claims))
    }

    /// The counter and the claims of a slot of this node's own sheet.
    fn own_slot(&self, number: u8) -> (u64, Vec<Claim>) {
        self.index
            .slot(&self.me, number)
            .map_or((0, Vec::new()), |slot| (slot.counter, slot.claims.clone()))
    }

    /// Issues a slot of this node's sheet again, with a counter above `above`.
    fn issue(&mut self, slot: u8, above: u64, claims: Vec<Claim>) -> Signed<Slot> {
        let counter = (above + 1).max(self.floor);
        let mut body = Slot { slot, counter, claims, newer: Vec::new() };
        if self.imitates_newer {
            body.imitate_newer();
        }
        let issued = Signed::sign(body, &self.keys, &self.cluster);
        debug_assert_eq!(
            validity::check_form(&issued),
            Ok(()),
            "peers refuse what this node says of itself"
        );
        self.put(self.me, issued.clone());
        issued
    }
}
