//! Bounds the requests that are answered at one time, in all and of one client.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Origin;
use crate::shares::Group;
use shoal_protocol::model::NodeId;

/// Requests answered at one time. Each may hold a guest's memory and a stream; further ones are
/// refused.
pub(super) const REQUESTS: usize = 256;
/// A client may have this many times the free permits: alone 224 of 256, with another one 119 each.
/// So a proxy with many users may have nearly all, and there is always room for another client.
const TIMES_FREE: usize = 7;

/// The client that a request counts for: an address, or another node with all its clients.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Requester {
    Address(Group),
    Node(NodeId),
}

impl Requester {
    fn of(origin: Origin) -> Self {
        match origin {
            Origin::Client(address) => Requester::Address(Group::of(address.ip())),
            Origin::Peer(node) => Requester::Node(node),
        }
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TooMany {
    /// All permits are taken.
    All,
    /// This client has that many; the rest is kept for others.
    OfOne(usize),
}

/// The permits in use.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// By client. The sum is at most [`REQUESTS`].
    held: Mutex<BTreeMap<Requester, usize>>,
}

impl Requests {
    /// Takes a permit, which counts until it is dropped.
    pub(super) fn begin(self: &Arc<Self>, origin: Origin) -> Result<Permit, TooMany> {
        let requester = Requester::of(origin);
        let mut held = self.lock();
        let free = REQUESTS - held.values().sum::<usize>();
        let own = held.get(&requester).copied().unwrap_or_default();
        if free == 0 {
            return Err(TooMany::All);
        }
        if own >= TIMES_FREE * free {
            return Err(TooMany::OfOne(own));
        }
        held.insert(requester, own + 1);
        drop(held);
        Ok(Permit { requests: self.clone(), requester })
    }

    /// Requests that are being answered.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.lock().values().sum()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Requester, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to have one request answered.
#[derive(Debug)]
pub(super) struct Permit {
    requests: Arc<Requests>,
    requester: Requester,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut held = self.requests.lock();
        if let Some(own) = held.get_mut(&self.requester) {
            *own -= 1;
            if *own == 0 {
                held.remove(&self.requester);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(last: u8) -> Origin {
        Origin::Client(([10, 0, 0, last], 9).into())
    }

    fn fill(requests: &Arc<Requests>, origin: Origin) -> Vec<Permit> {
        std::iter::from_fn(|| requests.begin(origin).ok()).collect()
    }

    /// An address asks for all it can get: other addresses and nodes still get permits, and dropped
    /// permits are free again.
    #[test]
    fn one_address_leaves_room_for_others() {
        let requests = Arc::<Requests>::default();
        let one = fill(&requests, from(1));
        assert_eq!((one.len(), requests.begin(from(1)).unwrap_err()), (224, TooMany::OfOne(224)));
        let two = fill(&requests, from(2));
        assert_eq!(two.len(), 28);
        let node = fill(&requests, Origin::Peer(NodeId([1; 32])));
        assert!(!node.is_empty());
        drop((one, two, node));
        assert!(requests.lock().is_empty());
        assert_eq!(fill(&requests, from(3)).len(), 224);
    }

    /// 256 addresses with one request each take every permit; the next one is refused.
    #[test]
    fn many_clients_may_use_all_permits() {
        let requests = Arc::<Requests>::default();
        let all: Vec<_> = (0..=255).flat_map(|n| requests.begin(from(n))).collect();
        assert_eq!(all.len(), REQUESTS);
        assert_eq!(requests.begin(Origin::Peer(NodeId([1; 32]))).unwrap_err(), TooMany::All);
    }
}
