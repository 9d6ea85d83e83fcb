//! The greatest token seen for each replica. It outlives the claim, so that a later award is told from an earlier one.

use std::collections::BTreeMap;

use imbl::OrdMap;

use crate::model::{Digest, Place, ReplicaId, Token};

/// Bounded: replicas that are claimed by the bounds of the sheets, all others by `max_idle`.
#[derive(Clone, Debug)]
pub(super) struct Tokens {
    max_idle: usize,
    highest: OrdMap<ReplicaId, Remembered>,
    /// Replicas that nobody claims, the longest idle first.
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
        Tokens { max_idle, highest: OrdMap::new(), idle: BTreeMap::new(), next: 0 }
    }

    /// How many replicas are remembered that nobody claims, and how many may be.
    pub(super) fn idle(&self) -> (usize, usize) {
        (self.idle.len(), self.max_idle)
    }

    pub(super) fn highest(&self, replica: &ReplicaId) -> Option<Token> {
        self.highest.get(replica).map(|remembered| remembered.token)
    }

    /// The greatest token among a replica's claims now; none when nobody claims it any longer.
    pub(super) fn note(&mut self, replica: &ReplicaId, claimed: Option<Token>) {
        match (claimed, self.highest.get(replica)) {
            (Some(token), Some(known)) if known.idle.is_none() && known.token >= token => {}
            (Some(token), known) => {
                if let Some(at) = known.and_then(|known| known.idle) {
                    self.idle.remove(&at);
                }
                let token = known.map_or(token, |known| known.token.max(token));
                self.highest.insert(*replica, Remembered { token, idle: None });
            }
            (None, Some(known)) if known.idle.is_none() => {
                self.highest.insert(*replica, Remembered { idle: Some(self.next), ..known.clone() });
                self.idle.insert(self.next, *replica);
                self.next += 1;
            }
            (None, _) => {}
        }
        while self.idle.len() > self.max_idle {
            if let Some((_, longest)) = self.idle.pop_first() {
                self.highest.remove(&longest);
            }
        }
    }

    /// Forgets those of `uid` that nobody claims.
    pub(super) fn forget_workload(&mut self, uid: &Digest) {
        let first = ReplicaId { uid: *uid, place: Place::Index(0) };
        let of_uid = self.highest.range(first..).take_while(|(replica, _)| replica.uid == *uid);
        let gone: Vec<(ReplicaId, u64)> = of_uid.filter_map(|(replica, known)| Some((*replica, known.idle?))).collect();
        for (replica, at) in gone {
            self.highest.remove(&replica);
            self.idle.remove(&at);
        }
    }
}
