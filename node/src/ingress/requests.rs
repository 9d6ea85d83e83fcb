//! Requests answered at one time, and who asked for them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Origin;
use crate::shares::Group;
use shoal_protocol::model::NodeId;

/// Requests answered at one time. Each may hold a guest's memory and a stream; a device that is
/// asked for more says so.
pub(super) const REQUESTS: usize = 256;
/// An asker may have this many times what is still free: alone 224 of 256, of two 119 each. So a
/// proxy with many users behind it may have nearly all, and there is always room for somebody else.
const TIMES_FREE: usize = 7;

/// Who asked: an address outside, or another node for its own clients.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Asker {
    Address(Group),
    Node(NodeId),
}

impl Asker {
    fn of(origin: Origin) -> Self {
        match origin {
            Origin::Client(address) => Asker::Address(Group::of(address.ip())),
            Origin::Peer(node) => Asker::Node(node),
        }
    }
}

/// Why a request is not answered now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TooMany {
    /// All there may be are under way.
    All,
    /// This asker has that many, and the rest is kept for others.
    OfOne(usize),
}

/// The requests under way.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Sums up to [`REQUESTS`] at most.
    held: Mutex<BTreeMap<Asker, usize>>,
}

impl Requests {
    /// Takes part in what this node can do at a time, until the permit is dropped.
    pub(super) fn begin(self: &Arc<Self>, origin: Origin) -> Result<Permit, TooMany> {
        let asker = Asker::of(origin);
        let mut held = self.lock();
        let free = REQUESTS - held.values().sum::<usize>();
        let own = held.get(&asker).copied().unwrap_or_default();
        if free == 0 {
            return Err(TooMany::All);
        }
        if own >= TIMES_FREE * free {
            return Err(TooMany::OfOne(own));
        }
        held.insert(asker, own + 1);
        drop(held);
        Ok(Permit { requests: self.clone(), asker })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Asker, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request under way.
#[derive(Debug)]
pub(super) struct Permit {
    requests: Arc<Requests>,
    asker: Asker,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut held = self.requests.lock();
        if let Some(own) = held.get_mut(&self.asker) {
            *own -= 1;
            if *own == 0 {
                held.remove(&self.asker);
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

    #[test]
    fn many_clients_may_use_all_permits() {
        let requests = Arc::<Requests>::default();
        let all: Vec<_> = (0..=255).flat_map(|n| requests.begin(from(n))).collect();
        assert_eq!(all.len(), REQUESTS);
        assert_eq!(requests.begin(Origin::Peer(NodeId([1; 32]))).unwrap_err(), TooMany::All);
    }
}
