//! The greatest token seen for each replica. It outlives the claim, so that a later award is told
//! from an earlier one. Nearly all such tokens are those of claims, and are not stored a second
//! time.

use std::collections::BTreeMap;

use imbl::OrdMap;

use crate::model::{Digest, Place, ReplicaId, Token};

/// Bounded: replicas with claims by the bounds of the sheets, all others by `max_idle`.
#[derive(Clone, Debug)]
pub(super) struct Tokens {
    max_idle: usize,
    /// Tokens above those of all claims of their replica.
    gone: OrdMap<ReplicaId, Remembered>,
    /// Replicas that no node claims, the longest idle first.
    idle: BTreeMap<u64, ReplicaId>,
    next: u64,
}

#[derive(Clone, Debug)]
struct Remembered {
    token: Token,
    idle: Option<u64>,
}

impl Tokens {
    pub(super) fn new(max_idle: usize) -> Self {
        Tokens { max_idle, gone: OrdMap::new(), idle: BTreeMap::new(), next: 0 }
    }

    /// The number of remembered replicas that no node claims, and its bound.
    pub(super) fn idle(&self) -> (usize, usize) {
        (self.idle.len(), self.max_idle)
    }

    /// The greatest token that was seen, if it is above those of the claims.
    pub(super) fn above_claims(&self, replica: &ReplicaId) -> Option<Token> {
        self.gone.get(replica).map(|remembered| remembered.token)
    }

    /// Records the greatest token of a replica's claims now, `claimed`, and that of a claim that
    /// went or changed, `before`.
    pub(super) fn note(
        &mut self,
        replica: &ReplicaId,
        before: Option<Token>,
        claimed: Option<Token>,
    ) {
        let known = self.gone.get(replica);
        let was_idle = known.and_then(|known| known.idle);
        let highest = known.map(|known| known.token).max(before);
        if claimed.is_some()
            && let Some(at) = was_idle
        {
            self.idle.remove(&at);
        }
        match (claimed, highest) {
            (None, None) => {}
            (None, Some(_)) if was_idle.is_some() => {}
            (None, Some(token)) => {
                self.gone.insert(*replica, Remembered { token, idle: Some(self.next) });
                self.idle.insert(self.next, *replica);
                self.next += 1;
            }
            (Some(claimed), Some(token)) if token > claimed => {
                self.gone.insert(*replica, Remembered { token, idle: None });
            }
            (Some(_), _) if known.is_some() => _ = self.gone.remove(replica),
            (Some(_), _) => {}
        }
        while self.idle.len() > self.max_idle {
            if let Some((_, longest)) = self.idle.pop_first() {
                self.gone.remove(&longest);
            }
        }
    }

    /// Forgets the tokens of `uid` that no node claims.
    pub(super) fn forget_workload(&mut self, uid: &Digest) {
        let first = ReplicaId { uid: *uid, place: Place::Ordinal(0) };
        let of_uid = self.gone.range(first..).take_while(|(replica, _)| replica.uid == *uid);
        let gone: Vec<(ReplicaId, u64)> =
            of_uid.filter_map(|(replica, known)| Some((*replica, known.idle?))).collect();
        for (replica, at) in gone {
            self.gone.remove(&replica);
            self.idle.remove(&at);
        }
    }
}
