//! Which node runs which replica: the sheets of all nodes, in signed slots, and the disputes
//! between holders of one replica.
//!
//! A node alone states what it runs, and its statement counts; no other node can make it run or
//! stop anything by writing here. A slot is judged by its bytes and by the roster, nothing else.
//! Memory is changed at once; a slot that a method returns is to be persisted before it is sent to
//! any node.

mod config;
mod duplicates;
mod index;
mod keeper;
mod message;
#[cfg(test)]
mod tests;
mod tokens;
mod validity;

use std::collections::BTreeMap;

use crate::model::claim::{MAX_SLOT_CLAIMS, SLOTS, Update, short_reason};
use crate::model::{
    Claim, ClusterId, Digest, KeyPair, NodeId, Out, Phase, Queue, ReplicaId, Revision, Signed,
    Slot, Time, Token, WallClock, fill_order,
};

use duplicates::Duplicates;
use index::Index;
use tokens::Tokens;

pub use config::Config;
pub use keeper::{Keeper, KeptBecause, awarded_under, keeper};
pub use message::{Fact, Message, Reason};
pub use validity::{Invalid, Premature, Rejection};

/// Sheets of all nodes, and the disputes about replicas that this node holds together with others.
#[derive(Clone, Debug)]
pub struct Claims {
    me: NodeId,
    keys: KeyPair,
    cluster: ClusterId,
    /// The counters of this life are at least so great: above all of the lives before.
    floor: u64,
    index: Index,
    tokens: Tokens,
    duplicates: Duplicates,
    /// For simulations: see [`Slot::imitate_newer`].
    imitates_newer: bool,
}

/// The outcome of a slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The slot, or a newer one, was known.
    Known,
    /// It is new. To be persisted (cached), noted for repair, and considered.
    Changed {
        /// The node of the slot.
        node: NodeId,
        /// Replicas whose claims came, went or changed.
        replicas: Vec<ReplicaId>,
    },
    /// The slot is this node's, and this node did not write it. This one, above it, has the truth.
    /// To be persisted, then sent.
    Reissue(Signed<Slot>),
}

/// A node's place on the roster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// On the roster.
    Member,
    /// It was a member: its claims are gone, its awards are still good.
    Left,
    /// It never was a member, as far as this node knows.
    Stranger,
}

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
    /// An empty room; `restore` brings back what was on disk.
    ///
    /// `incarnation` makes the upper half of the counters of this node's slots. So phases need not
    /// be on disk before they are sent, and still no two versions of a slot have the same counter.
    pub fn new(
        config: Config,
        me: NodeId,
        keys: KeyPair,
        cluster: ClusterId,
        incarnation: u64,
    ) -> Self {
        Claims {
            me,
            keys,
            cluster,
            floor: incarnation.saturating_mul(1 << 32).min(validity::MAX_COUNTER / 2),
            index: Index::default(),
            tokens: Tokens::new(config.max_idle_tokens),
            duplicates: Duplicates::new(config),
            imitates_newer: false,
        }
    }

    /// Each collection that grows, with its bound.
    pub fn queues(&self) -> Vec<Queue> {
        let mine = self.mine().count();
        let (contested, disputes) = self.duplicates.len();
        let (idle, most_idle) = self.tokens.idle();
        vec![
            Queue::new("replicas held with others", contested, mine),
            Queue::new("disputes", disputes, mine),
            Queue::new("tokens of replicas that nobody claims", idle, most_idle),
        ]
    }

    /// The same sheets, as another node holds them.
    pub fn like(&self, config: Config, me: NodeId, keys: KeyPair, incarnation: u64) -> Self {
        let fresh = Claims::new(config, me, keys, self.cluster, incarnation);
        Claims { index: self.index.clone(), tokens: self.tokens.clone(), ..fresh }
    }

    /// From now on this node's slots look like those of a newer program. For simulations.
    pub fn imitate_newer(&mut self) {
        self.imitates_newer = true;
    }

    /// Restores slots from disk: this node's own, and those of other nodes. Their awards were
    /// verified before they were stored and are not verified again. Returns the slots that were
    /// left out, with reasons.
    pub fn restore(&mut self, mut slots: Vec<Signed<Slot>>) -> Vec<(NodeId, u8, Rejection)> {
        let mut left_out = Vec::new();
        slots.sort_by_key(|slot| (slot.by(), slot.slot));
        for slot in fill_order(slots) {
            let node = NodeId(slot.by().0);
            if let Err(invalid) = validity::check_form(&slot) {
                left_out.push((node, slot.slot, Rejection::Never(invalid)));
            } else if self.index.is_newer(&node, &slot) {
                self.put(node, slot);
            }
        }
        left_out
    }

    /// Handles a slot from a peer.
    ///
    /// A slot that is rejected by [`Rejection::Never`] is bad everywhere and for ever; one that is
    /// rejected by `NotYet` may be good later.
    pub fn handle_slot(
        &mut self,
        slot: Signed<Slot>,
        standing: &dyn Fn(&NodeId) -> Standing,
    ) -> Result<Outcome, Rejection> {
        let node = NodeId(slot.by().0);
        validity::check_form(&slot)?;
        if node == self.me {
            return Ok(self.own_slot_from_elsewhere(&slot));
        }
        if !self.index.is_newer(&node, &slot) {
            return Ok(Outcome::Known);
        }
        let known = self.index.slot(&node, slot.slot);
        let highest = |replica: &ReplicaId| self.highest_token(replica);
        validity::check_rights(&slot, known, &self.cluster, standing, &highest)?;
        let replicas = self.put(node, slot);
        Ok(Outcome::Changed { node, replicas })
    }

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
                (claim.update, changed) = (None, true);
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

    /// Adopts a greater token without a restart (see [`Fact::Adopt`]). `None` if it is not greater.
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

    /// A node left the roster: its sheet goes, the greatest tokens stay. Returns the replicas that
    /// it claimed.
    pub fn forget_node(&mut self, node: &NodeId) -> Vec<ReplicaId> {
        if *node == self.me {
            return Vec::new();
        }
        let gone = self.index.forget_node(node);
        self.after_change(gone)
    }

    /// A workload is gone for good: forgets the tokens of its replicas that no node claims. Call it
    /// again when the last claims are gone; tokens that are missed are bounded all the same.
    pub fn forget_workload(&mut self, uid: &Digest) {
        self.tokens.forget_workload(uid);
    }

    /// Looks at every replica that this node holds together with others; asks keepers, adopts
    /// tokens. To be called when claims, the nodes that are up, or desired state changed, and when
    /// [`Claims::poll_timeout`] is due.
    ///
    /// `up` tells whether a node is up: this node yields only to one that is. `current` gives the
    /// revision that belongs in a place.
    pub fn reconsider(
        &mut self,
        now: Time,
        up: &dyn Fn(&NodeId) -> bool,
        current: &dyn Fn(&ReplicaId) -> Option<Revision>,
        out: &mut Out<Message>,
    ) -> Vec<Fact> {
        self.duplicates.reconsider(now, self.me, &self.index, up, current, out)
    }

    /// Handles a peer's message about a duplicate.
    pub fn handle_message(
        &mut self,
        from: NodeId,
        message: Message,
        out: &mut Out<Message>,
    ) -> Vec<Fact> {
        self.duplicates.handle_message(self.me, &self.index, from, message, out)
    }

    /// The time of the next call of `reconsider`.
    pub fn poll_timeout(&self) -> Option<(Time, Reason)> {
        self.duplicates.poll_timeout(&self.me)
    }

    /// This node's own claims, by replica.
    pub fn mine(&self) -> impl Iterator<Item = &Claim> {
        self.index.of_node(&self.me)
    }

    /// This node's own claim of a replica.
    pub fn my_claim(&self, replica: &ReplicaId) -> Option<&Claim> {
        self.index.claim(&self.me, replica)
    }

    /// Every claim of a replica, by node.
    pub fn of(&self, replica: &ReplicaId) -> Vec<(NodeId, &Claim)> {
        self.index.of(replica)
    }

    /// Every claim of a workload, by place, then node.
    pub fn of_workload(&self, uid: &Digest) -> Vec<(NodeId, &Claim)> {
        self.index.of_workload(uid)
    }

    /// Every claim of a node, by slot.
    pub fn of_node(&self, node: &NodeId) -> impl Iterator<Item = &Claim> {
        self.index.of_node(node)
    }

    /// The keeper of a replica among the holders that are up; `None` if none of them holds it.
    pub fn keeper_of(
        &self,
        replica: &ReplicaId,
        up: &dyn Fn(&NodeId) -> bool,
        current: Option<&Digest>,
    ) -> Option<Keeper> {
        let mut holders = self.index.of(replica);
        holders.retain(|(node, _)| *node == self.me || up(node));
        keeper(&holders, current)
    }

    /// The greatest token seen for a replica, also of claims that are gone.
    pub fn highest_token(&self, replica: &ReplicaId) -> Option<Token> {
        self.tokens.above_claims(replica).max(self.index.highest_token(replica))
    }

    /// The known version of a slot.
    pub fn slot(&self, node: &NodeId, slot: u8) -> Option<&Signed<Slot>> {
        self.index.slot(node, slot)
    }

    /// Every known slot, by node and number.
    pub fn slots(&self) -> impl Iterator<Item = &Signed<Slot>> {
        self.index.slots()
    }

    /// The key of a slot in digests and on disk.
    pub fn key(node: &NodeId, slot: u8) -> Digest {
        Digest::of_parts(&[node.as_bytes(), &[slot]])
    }

    /// The slot with this key.
    pub fn item(&self, key: &Digest) -> Option<&Signed<Slot>> {
        self.index.item(key)
    }

    /// Every slot's key and hash, for repair.
    pub fn hashes(&self) -> impl Iterator<Item = (Digest, Digest)> {
        self.index.slots().map(|slot| (Self::key(&NodeId(slot.by().0), slot.slot), slot.hash()))
    }

    fn own_slot_from_elsewhere(&mut self, slot: &Signed<Slot>) -> Outcome {
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

    /// Stores an accepted slot. Returns the replicas whose claims it changed.
    fn put(&mut self, node: NodeId, slot: Signed<Slot>) -> Vec<ReplicaId> {
        let changed = self.index.put(node, slot);
        self.after_change(changed)
    }

    /// The claims of these replicas changed; each comes with the token of its claim before, if
    /// there was one. Returns the replicas.
    fn after_change(&mut self, changed: Vec<(ReplicaId, Option<Token>)>) -> Vec<ReplicaId> {
        for (replica, before) in &changed {
            let holders = self.index.of(replica);
            self.tokens.note(replica, *before, holders.iter().map(|(_, claim)| claim.token).max());
            let mine = holders.iter().any(|(node, _)| *node == self.me);
            self.duplicates.holders_changed(*replica, mine, holders.len());
        }
        changed.into_iter().map(|(replica, _)| replica).collect()
    }
}
