//! Every slot, and where each replica's claims are found in them.

use std::collections::BTreeMap;

use imbl::OrdMap;

use crate::model::{Claim, Digest, NodeId, Place, ReplicaId, Signed, Slot, Token};

/// Slots by node and number. Bounded by the roster: slots of strangers are refused, and a node has
/// 64 slots of 128 claims.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    slots: OrdMap<(NodeId, u8), Signed<Slot>>,
    /// The number of the slot that holds the claim; it saves a hash at every look-up.
    holders: OrdMap<(ReplicaId, NodeId), u8>,
    keys: OrdMap<Digest, Signed<Slot>>,
}

const FIRST_NODE: NodeId = NodeId([0; 32]);

impl Index {
    pub(super) fn slot(&self, node: &NodeId, slot: u8) -> Option<&Signed<Slot>> {
        self.slots.get(&(*node, slot))
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = &Signed<Slot>> {
        self.slots.values()
    }

    pub(super) fn item(&self, key: &Digest) -> Option<&Signed<Slot>> {
        self.keys.get(key)
    }

    /// Whether `slot` replaces the known one: the greater counter does, among equal ones the
    /// greater hash.
    pub(super) fn is_newer(&self, node: &NodeId, slot: &Signed<Slot>) -> bool {
        self.slot(node, slot.slot)
            .is_none_or(|known| (known.counter, known.hash()) < (slot.counter, slot.hash()))
    }

    pub(super) fn claim(&self, node: &NodeId, replica: &ReplicaId) -> Option<&Claim> {
        let slot = self.holders.get(&(*replica, *node))?;
        self.find(node, *slot, replica)
    }

    pub(super) fn of(&self, replica: &ReplicaId) -> Vec<(NodeId, &Claim)> {
        let holders = self
            .holders
            .range((*replica, FIRST_NODE)..)
            .take_while(|((found, _), _)| found == replica);
        holders
            .filter_map(|((_, node), slot)| Some((*node, self.find(node, *slot, replica)?)))
            .collect()
    }

    pub(super) fn of_workload(&self, uid: &Digest) -> Vec<(NodeId, &Claim)> {
        let first = ReplicaId { uid: *uid, place: Place::Ordinal(0) };
        let holders = self
            .holders
            .range((first, FIRST_NODE)..)
            .take_while(|((found, _), _)| found.uid == *uid);
        // Holders and the claims of a slot are both in the order of replicas, so each slot is read
        // once from one end to the other: a search for each claim would cost far more.
        let mut unread: BTreeMap<(NodeId, u8), &[Claim]> = BTreeMap::new();
        let claim = |((replica, node), slot): (&(ReplicaId, NodeId), &u8)| {
            let claims = unread.entry((*node, *slot)).or_insert_with(|| {
                let claims = self.slot(node, *slot).map_or(&[][..], |slot| &slot.claims);
                &claims[claims.partition_point(|claim| claim.replica < *replica)..]
            });
            let before = claims.iter().take_while(|claim| claim.replica < *replica).count();
            let (found, rest) = claims[before..].split_first()?;
            if found.replica != *replica {
                return None;
            }
            *claims = rest;
            Some((*node, found))
        };
        holders.filter_map(claim).collect()
    }

    /// The last place of a workload that one of these nodes claims.
    pub(super) fn last_place(
        &self,
        uid: &Digest,
        counts: impl Fn(&NodeId) -> bool,
    ) -> Option<Place> {
        let first = ReplicaId { uid: *uid, place: Place::Ordinal(0) };
        let last = ReplicaId { uid: *uid, place: Place::Ordinal(u32::MAX) };
        let mut claims = self.holders.range((first, FIRST_NODE)..(last, FIRST_NODE)).rev();
        claims.find(|((_, node), _)| counts(node)).map(|((replica, _), _)| replica.place)
    }

    pub(super) fn of_node(&self, node: &NodeId) -> impl Iterator<Item = &Claim> {
        self.slots.range((*node, 0)..=(*node, u8::MAX)).flat_map(|(_, slot)| &slot.claims)
    }

    /// The greatest token of the claims of a replica.
    pub(super) fn highest_token(&self, replica: &ReplicaId) -> Option<Token> {
        self.of(replica).into_iter().map(|(_, claim)| claim.token).max()
    }

    /// Replaces a slot. Returns the replicas whose claims came, went or changed, with the tokens of
    /// the claims before.
    pub(super) fn put(
        &mut self,
        node: NodeId,
        slot: Signed<Slot>,
    ) -> Vec<(ReplicaId, Option<Token>)> {
        let number = slot.slot;
        for claim in &slot.claims {
            if !self.holders.contains_key(&(claim.replica, node)) {
                self.holders.insert((claim.replica, node), number);
            }
        }
        self.keys.insert(super::Claims::key(&node, number), slot.clone());
        let before = self.slots.insert((node, number), slot);
        let before = before.as_ref().map_or(&[][..], |slot| &slot.claims);
        let after = self.slots.get(&(node, number)).map_or(&[][..], |slot| &slot.claims);
        let mut changed = BTreeMap::new();
        for old in before {
            match find_in(after, &old.replica) {
                None => {
                    self.holders.remove(&(old.replica, node));
                    changed.insert(old.replica, Some(old.token));
                }
                Some(new) if new != old => _ = changed.insert(old.replica, Some(old.token)),
                Some(_) => {}
            }
        }
        let new = after.iter().map(|new| new.replica).filter(|new| find_in(before, new).is_none());
        changed.extend(new.map(|new| (new, None)));
        changed.into_iter().collect()
    }

    /// Drops all slots of a node. Returns the replicas that it claimed, with the tokens.
    pub(super) fn forget_node(&mut self, node: &NodeId) -> Vec<(ReplicaId, Option<Token>)> {
        let gone: Vec<_> =
            self.of_node(node).map(|claim| (claim.replica, Some(claim.token))).collect();
        for (replica, _) in &gone {
            self.holders.remove(&(*replica, *node));
        }
        let numbers: Vec<u8> = self
            .slots
            .range((*node, 0)..=(*node, u8::MAX))
            .map(|((_, number), _)| *number)
            .collect();
        for number in numbers {
            self.slots.remove(&(*node, number));
            self.keys.remove(&super::Claims::key(node, number));
        }
        gone
    }

    fn find(&self, node: &NodeId, slot: u8, replica: &ReplicaId) -> Option<&Claim> {
        find_in(&self.slots.get(&(*node, slot))?.claims, replica)
    }
}

/// The claim of a replica in a slot, whose claims are sorted: `validity` checks that.
pub(super) fn find_in<'a>(claims: &'a [Claim], replica: &ReplicaId) -> Option<&'a Claim> {
    claims.binary_search_by_key(replica, |claim| claim.replica).ok().map(|at| &claims[at])
}
