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
mod judge;
mod keeper;
mod message;
mod own_sheet;
#[cfg(test)]
mod tests;
mod tokens;
mod validity;

use crate::model::{
    Claim, ClusterId, Digest, KeyPair, NodeId, Out, Place, Queue, ReplicaId, Signed, Slot, Time,
    Token, fill_order,
};

use duplicates::Duplicates;
use index::Index;
use tokens::Tokens;

pub use config::Config;
pub use judge::Judge;
pub use keeper::{Credit, Keeper, KeptBecause, awarded_under, keeper};
pub use message::{Fact, Message, Reason};
pub use own_sheet::SheetFull;
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
    pub fn simulator_clone(
        &self,
        config: Config,
        me: NodeId,
        keys: KeyPair,
        incarnation: u64,
    ) -> Self {
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
    /// `judge` has what other rooms know.
    pub fn reconsider(
        &mut self,
        now: Time,
        judge: &Judge<'_>,
        out: &mut Out<Message>,
    ) -> Vec<Fact> {
        self.duplicates.reconsider(now, self.me, &self.index, judge, out)
    }

    /// Handles a peer's message about a duplicate; `knows` as in [`Credit`].
    pub fn handle_message(
        &mut self,
        from: NodeId,
        message: Message,
        knows: &dyn Fn(&NodeId, &ReplicaId) -> bool,
        out: &mut Out<Message>,
    ) -> Vec<Fact> {
        self.duplicates.handle_message(self.me, &self.index, from, message, knows, out)
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

    /// The last of a workload's counted places that one of these nodes claims.
    pub fn last_place(&self, uid: &Digest, counts: impl Fn(&NodeId) -> bool) -> Option<Place> {
        self.index.last_place(uid, counts)
    }

    /// Replicas of this node that other nodes claim, too.
    pub fn contested(&self) -> impl Iterator<Item = &ReplicaId> {
        self.duplicates.contested()
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
        credit: Credit<'_>,
    ) -> Option<Keeper> {
        let mut holders = self.index.of(replica);
        holders.retain(|(node, _)| *node == self.me || up(node));
        let knows = |node: &NodeId, replica: &ReplicaId| {
            (credit.knows)(node, replica) && credit.covers(node, &self.index)
        };
        keeper(&holders, current, Credit { knows: &knows, ..credit })
    }

    /// The greatest token seen for a replica in claims that are gone, if it is above all others.
    pub fn token_of_gone(&self, replica: &ReplicaId) -> Option<Token> {
        self.tokens.above_claims(replica)
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
