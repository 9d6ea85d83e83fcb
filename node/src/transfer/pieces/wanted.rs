//! Which piece is asked for next, and of which node.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use shoal_protocol::model::NodeId;
use shoal_runtimes::artifacts::Arrived;
use tokio::time::Instant;

/// How long the pieces that a whole holder gave to others are left to those, at the least.
const PATIENCE: Duration = Duration::from_secs(2);

/// Arrivals that are noted, to tell how fast peers with some of the pieces are.
const MAX_NOTED: usize = 64;

/// The pieces that are still wanted, and the peers of a fetch.
pub(super) struct Wanted {
    arrived: Arc<Arrived>,
    in_flight: BTreeSet<u32>,
    peers: BTreeMap<NodeId, Peer>,
    /// By how many peers with some of the pieces each piece is offered.
    offers: Vec<u16>,
    /// Makes each fetch ask in another order.
    order: RandomState,
    /// The longest time that a piece took lately.
    took: Duration,
    /// When pieces came lately from peers that have some.
    from_others: VecDeque<Instant>,
}

/// A peer that is asked now.
enum Peer {
    /// It has all pieces. Those that it gave to others; since when it has none that only it has.
    Whole { taken: BTreeSet<u32>, idle: Option<Instant> },
    /// It has some.
    Partly { has: BTreeSet<u32> },
}

/// A piece to ask a peer for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pick {
    pub index: u32,
    pub insist: bool,
}

impl Wanted {
    pub fn new(arrived: Arc<Arrived>) -> Wanted {
        Wanted {
            offers: vec![0; arrived.pieces()],
            arrived,
            in_flight: BTreeSet::new(),
            peers: BTreeMap::new(),
            order: RandomState::new(),
            took: Duration::ZERO,
            from_others: VecDeque::new(),
        }
    }

    /// The peer has all pieces.
    pub fn has_all(&mut self, peer: NodeId) {
        self.gone(&peer);
        self.peers.insert(peer, Peer::Whole { taken: BTreeSet::new(), idle: None });
    }

    /// Whether the peer has all pieces.
    pub fn is_whole(&self, peer: &NodeId) -> bool {
        matches!(self.peers.get(peer), Some(Peer::Whole { .. }))
    }

    /// The peer has these pieces, too. Numbers beyond the last are ignored.
    pub fn has(&mut self, peer: NodeId, pieces: &[u32]) {
        let entry = self.peers.entry(peer).or_insert(Peer::Partly { has: BTreeSet::new() });
        let Peer::Partly { has } = entry else { return };
        for index in pieces {
            if let Some(offers) = self.offers.get_mut(*index as usize)
                && has.insert(*index)
            {
                *offers = offers.saturating_add(1);
            }
        }
    }

    /// A whole holder gave the piece to another node.
    pub fn taken(&mut self, peer: &NodeId, index: u32) {
        self.in_flight.remove(&index);
        if let Some(Peer::Whole { taken, .. }) = self.peers.get_mut(peer) {
            taken.insert(index);
        }
    }

    /// A piece came from a peer, `took` after it was asked for.
    pub fn came(&mut self, peer: &NodeId, index: u32, took: Duration, now: Instant) {
        self.in_flight.remove(&index);
        self.took = took.max(self.took / 2);
        if let Some(Peer::Partly { .. }) = self.peers.get(peer) {
            self.from_others.push_back(now);
            if self.from_others.len() > MAX_NOTED {
                self.from_others.pop_front();
            }
        }
    }

    /// A piece will not come any more from where it was asked for.
    pub fn lost(&mut self, index: u32) {
        self.in_flight.remove(&index);
    }

    /// The peer is not asked any more.
    pub fn gone(&mut self, peer: &NodeId) {
        if let Some(Peer::Partly { has }) = self.peers.remove(peer) {
            for index in has {
                let offers = &mut self.offers[index as usize];
                *offers = offers.saturating_sub(1);
            }
        }
    }

    /// The piece to ask this peer for, which counts as under way then. A peer with some of them is
    /// asked for what fewest peers have. A peer with all is asked for what no other peer has, so
    /// that its link is spared; for the rest only when it had nothing else to give for a while:
    /// those that have it are slow, or gone.
    pub fn pick(&mut self, peer: &NodeId, now: Instant) -> Option<Pick> {
        let patience = PATIENCE.max(self.took * 2);
        let Wanted { arrived, in_flight, peers, offers, order, took: _, from_others } = self;
        let is_free = |index: &u32| !in_flight.contains(index) && !arrived.has(*index);
        let rank = |index: &u32| (offers[*index as usize], order.hash_one(index));
        let pick = match peers.get_mut(peer)? {
            Peer::Partly { has } => {
                let index = has.iter().copied().filter(is_free).min_by_key(rank)?;
                Pick { index, insist: false }
            }
            Peer::Whole { taken, idle } => {
                let all = 0..u32::try_from(arrived.pieces()).unwrap_or(u32::MAX);
                let free = all.filter(is_free);
                let is_fresh = |index: &u32| offers[*index as usize] == 0 && !taken.contains(index);
                if let Some(index) = free.clone().filter(is_fresh).min_by_key(rank) {
                    *idle = None;
                    Pick { index, insist: false }
                } else {
                    let since = *idle.get_or_insert(now);
                    let index = free.clone().min_by_key(rank)?;
                    let is_lately = |at: &&Instant| now.duration_since(**at) < patience;
                    let lately = from_others.iter().filter(is_lately).count();
                    // As fast as lately, the others give the rest within two such times.
                    let others_do = free.count() <= 2 * lately;
                    if now.duration_since(since) < patience || others_do {
                        return None;
                    }
                    Pick { index, insist: true }
                }
            }
        };
        self.in_flight.insert(pick.index);
        Some(pick)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: NodeId = NodeId([1; 32]);
    const PEER: NodeId = NodeId([2; 32]);

    async fn wanted(pieces: usize) -> (Wanted, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let limits = shoal_runtimes::artifacts::Limits { keep_free: 0, ..Default::default() };
        let store = shoal_runtimes::artifacts::ArtifactStore::open(folder.path(), limits).await;
        let size = pieces as u64 * shoal_protocol::model::spec::PIECE;
        let digests = vec![shoal_protocol::model::Digest([0; 32]); pieces];
        let whole = shoal_protocol::model::Digest([9; 32]);
        let begun = store.unwrap().pieces(&whole, size, digests).await.unwrap().unwrap();
        (Wanted::new(Arc::clone(begun.arrived())), folder)
    }

    /// The source is spared what others have, until they prove slow.
    #[tokio::test]
    async fn source_is_asked_for_what_nobody_else_has() {
        let (mut wanted, _folder) = wanted(3).await;
        let begin = Instant::now();
        wanted.has_all(SOURCE);
        wanted.has(PEER, &[0, 1, 77]);
        assert_eq!(wanted.pick(&SOURCE, begin), Some(Pick { index: 2, insist: false }));
        assert_eq!(wanted.pick(&SOURCE, begin), None);
        let late = begin + PATIENCE;
        let first = wanted.pick(&SOURCE, late).unwrap();
        assert!(first.index < 2 && first.insist);
        // None is asked for twice at a time.
        assert_ne!(wanted.pick(&PEER, late).unwrap().index, first.index);
        assert_eq!(wanted.pick(&PEER, late), None);
    }

    /// Peers that are busy giving the rest are left to it.
    #[tokio::test]
    async fn source_is_spared_while_others_are_fast() {
        let (mut wanted, _folder) = wanted(4).await;
        let begin = Instant::now();
        wanted.has_all(SOURCE);
        wanted.has(PEER, &[0, 1, 2, 3]);
        assert_eq!(wanted.pick(&SOURCE, begin), None);
        let late = begin + PATIENCE;
        wanted.came(&PEER, 0, PATIENCE / 8, late);
        wanted.came(&PEER, 1, PATIENCE / 8, late);
        assert_eq!(wanted.pick(&SOURCE, late), None, "4 are wanted, 2 came in a moment");
        assert!(wanted.pick(&SOURCE, late + PATIENCE).is_some_and(|pick| pick.insist));
    }

    /// The source gave a piece to a node that nobody can ask.
    #[tokio::test]
    async fn piece_that_others_do_not_pass_on_is_insisted_on() {
        let (mut wanted, _folder) = wanted(1).await;
        let begin = Instant::now();
        wanted.has_all(SOURCE);
        assert_eq!(wanted.pick(&SOURCE, begin), Some(Pick { index: 0, insist: false }));
        wanted.taken(&SOURCE, 0);
        assert_eq!(wanted.pick(&SOURCE, begin), None);
        let pick = wanted.pick(&SOURCE, begin + PATIENCE);
        assert_eq!(pick, Some(Pick { index: 0, insist: true }));
    }

    /// A peer that broke off leaves its piece to others, and its offers do not count.
    #[tokio::test]
    async fn pieces_of_a_peer_that_is_gone_are_asked_for_elsewhere() {
        let (mut wanted, _folder) = wanted(2).await;
        let begin = Instant::now();
        wanted.has(PEER, &[0, 1]);
        let pick = wanted.pick(&PEER, begin).unwrap();
        wanted.has_all(SOURCE);
        assert_eq!(wanted.pick(&SOURCE, begin), None);
        wanted.lost(pick.index);
        wanted.gone(&PEER);
        let picks = [wanted.pick(&SOURCE, begin), wanted.pick(&SOURCE, begin)];
        assert!(picks.iter().all(|pick| pick.is_some_and(|pick| !pick.insist)), "{picks:?}");
    }
}
