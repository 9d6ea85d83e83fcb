//! Fetches one artifact in pieces.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use shoal_protocol::model::spec::Pieces;
use shoal_protocol::model::{Artifact, Digest, NodeId};
use shoal_runtimes::artifacts::{Arrived, Error};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::super::fetch::Fetcher;
use super::session::{self, Ended};
use super::wanted::Wanted;

/// Peers that one fetch asks at a time. Each may have two pieces in memory.
const SESSIONS: usize = 5;
/// Pause before a peer is asked again that had nothing: it may have begun to fetch meanwhile.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// A fetch that gets no piece for so long, in stall timeouts, ends; the core tries it again.
const NO_PIECE: u32 = 6;

/// The sessions of one fetch share this.
pub(super) struct Shared {
    pub artifact: Artifact,
    pub arrived: Arc<Arrived>,
    /// A piece came, or is free to be asked for again.
    pub news: Notify,
    /// There are more candidates than are asked at a time.
    pub others_wait: bool,
    state: Mutex<State>,
}

pub(super) struct State {
    pub wanted: Wanted,
    /// The pieces that each peer gave.
    given: BTreeMap<NodeId, u32>,
    /// When the last piece came.
    last: Instant,
}

/// The end of a fetch in pieces.
pub(in super::super) enum Outcome {
    /// The artifact is here. The nodes that gave it, those that gave most first.
    Here(Vec<NodeId>),
    /// It must be fetched as a whole: no candidate passes on pieces, or the list is wrong.
    AsWhole(String),
    /// It is not here.
    Failed(String),
}

impl Shared {
    /// A piece came from a peer.
    pub fn came(&self, peer: NodeId, index: u32, took: Duration) {
        {
            let mut state = self.lock();
            let now = Instant::now();
            state.wanted.came(&peer, index, took, now);
            *state.given.entry(peer).or_default() += 1;
            state.last = now;
        }
        self.news.notify_waiters();
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is complete before the lock is released.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fetches `artifact` from the candidates, in the pieces that the list names.
pub(in super::super) async fn fetch(
    fetcher: &Fetcher,
    artifact: Artifact,
    pieces: Pieces,
    candidates: &[NodeId],
) -> Outcome {
    let digests = match list(fetcher, artifact, pieces, candidates).await {
        Ok(digests) => digests,
        Err(why) => return Outcome::AsWhole(why),
    };
    let transfer = match fetcher.store.pieces(&artifact.digest, artifact.size, digests).await {
        Ok(Some(transfer)) => transfer,
        Ok(None) => return Outcome::Here(Vec::new()),
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    let arrived = Arc::clone(transfer.arrived());
    let state = State {
        wanted: Wanted::new(Arc::clone(&arrived)),
        given: BTreeMap::new(),
        last: Instant::now(),
    };
    let shared = Shared {
        artifact,
        arrived,
        news: Notify::new(),
        others_wait: candidates.len() > SESSIONS,
        state: Mutex::new(state),
    };
    if !shared.arrived.is_complete()
        && let Err(outcome) = run(fetcher, &shared, pieces.list.digest, candidates).await
    {
        return outcome;
    }
    match transfer.finish().await {
        Ok(()) => {
            let mut given: Vec<_> = shared.lock().given.clone().into_iter().collect();
            given.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            Outcome::Here(given.into_iter().map(|(node, _)| node).collect())
        }
        Err(Error::Mismatch { .. }) => {
            Outcome::AsWhole("its list of pieces is that of other bytes".into())
        }
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

/// The digests of the artifact's pieces.
async fn list(
    fetcher: &Fetcher,
    artifact: Artifact,
    pieces: Pieces,
    candidates: &[NodeId],
) -> Result<Vec<Digest>, String> {
    let bytes = match fetcher.store.read(&pieces.list.digest).await {
        Ok(bytes) => bytes,
        Err(_) => fetcher.small(pieces.list, candidates).await?,
    };
    let begin = usize::try_from(pieces.first * 32).ok();
    let length = usize::try_from(artifact.pieces() * 32).ok();
    let own = begin.zip(length).and_then(|(begin, length)| bytes.get(begin..)?.get(..length));
    let own = own.ok_or("its list of pieces is too short")?;
    let digest = |bytes: &[u8]| bytes.try_into().ok().map(Digest);
    own.chunks_exact(32).map(digest).collect::<Option<_>>().ok_or_else(|| "no list".into())
}

/// Runs sessions until all pieces are here.
///
/// A peer whose piece is not the listed one is not asked for pieces of this `list` again. Whether
/// it or the list is wrong, only the whole artifact can tell.
async fn run(
    fetcher: &Fetcher,
    shared: &Shared,
    list: Digest,
    candidates: &[NodeId],
) -> Result<(), Outcome> {
    let mut running = FuturesUnordered::new();
    let mut next_try: BTreeMap<NodeId, Instant> = BTreeMap::new();
    let mut barred: BTreeMap<NodeId, String> = BTreeMap::new();
    let mut whys: BTreeMap<NodeId, String> = BTreeMap::new();
    let mut active = BTreeSet::new();
    let mut in_turn = candidates.to_vec();
    loop {
        if shared.arrived.is_complete() {
            return Ok(());
        }
        let now = Instant::now();
        let is_due = |node: &NodeId| next_try.get(node).is_none_or(|at| *at <= now);
        // Those that were never asked come first, in the core's order.
        in_turn.sort_by_key(|node| next_try.get(node).copied());
        for node in &in_turn {
            if fetcher.forgers.has(list, *node) {
                let short = node.short();
                let why = format!("node {short} gave other pieces than those listed");
                barred.insert(*node, why);
            }
            let may_ask = !active.contains(node) && !barred.contains_key(node) && is_due(node);
            if may_ask && active.len() < SESSIONS {
                active.insert(*node);
                let peer = *node;
                running.push(async move { (peer, session::run(fetcher, shared, peer).await) });
            }
        }
        let has_tried = |node: &NodeId| whys.contains_key(node) || barred.contains_key(node);
        let late = now.duration_since(shared.lock().last) > fetcher.stall_timeout * NO_PIECE;
        let nobody_left = active.is_empty() && candidates.iter().all(has_tried);
        if nobody_left || late {
            whys.extend(barred.clone());
            let mut all: Vec<String> = whys.into_values().collect();
            if late {
                let seconds = (fetcher.stall_timeout * NO_PIECE).as_secs();
                all.push(format!("no piece came for {seconds} s"));
            }
            let why = all.join("; ");
            let other_way = candidates.iter().any(|node| barred.contains_key(node));
            return Err(if other_way { Outcome::AsWhole(why) } else { Outcome::Failed(why) });
        }
        tokio::select! {
            Some((peer, ended)) = running.next() => {
                active.remove(&peer);
                next_try.insert(peer, Instant::now() + ASK_AGAIN);
                match ended {
                    Ok(()) => {}
                    Err(Ended::Store(error)) => return Err(Outcome::Failed(error.to_string())),
                    Err(error) => {
                        match error {
                            Ended::Forged(node) => fetcher.forgers.note(list, node),
                            Ended::NotOffered(node) => {
                                barred.insert(node, error.to_string());
                            }
                            _ => {}
                        }
                        whys.insert(peer, error.to_string());
                    }
                }
            }
            () = sleep_until(now + ASK_AGAIN) => {}
        }
    }
}
