//! Plain types: what is under way with one peer, and the bounds that its two ends share.

use std::collections::{BTreeMap, VecDeque};

use crate::model::{Digest, Time};

use super::message::{Asked, Leaf, Message, Round, Tree};
use super::short_hash::ShortHash;

/// Ranges in one question. Their answers fit one message: at most 512 bytes a range, unless it is
/// asked for whole.
pub(super) const MAX_ASKED: usize = 64;
/// Keys in one fetch.
pub(super) const MAX_HEADS: usize = 256;
/// Entries queued for fetching from one peer: some megabytes. The next comparison finds the rest.
pub(super) const MAX_WANTED: usize = 8192;
/// Entries of one peer, queued and being fetched.
pub(super) const MAX_QUEUED: usize = MAX_WANTED + MAX_HEADS;
/// Times that a question or a fetch is sent before the peer is given up for now.
pub(super) const MAX_TRIES: u8 = 4;

/// A comparison under way.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    pub(super) round: Round,
    /// Of the last question; 0 asks for the roots.
    pub(super) step: u32,
    /// Ranges of the last question that are not answered yet.
    pub(super) asked: Vec<Asked>,
    /// Ranges still to be asked for, the next one last: depth first keeps the list short.
    pub(super) todo: Vec<Asked>,
    pub(super) tries: u8,
    pub(super) asked_at: Time,
    pub(super) answer_by: Time,
    pub(super) end_by: Time,
    pub(super) differs: bool,
    /// Fresh entries count as well.
    pub(super) is_first: bool,
    /// Some ranges were not looked at.
    pub(super) cut: bool,
    pub(super) offers: BTreeMap<Tree, Vec<Leaf>>,
}

impl Walk {
    pub(super) fn deadline(&self) -> Time {
        self.answer_by.min(self.end_by)
    }
}

/// An entry at rest of which two nodes hold different versions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Difference {
    pub(super) tree: Tree,
    pub(super) head: ShortHash,
    /// The peer's version; none if the peer has no such entry.
    pub(super) theirs: Option<ShortHash>,
    /// None if this node has no such entry.
    pub(super) mine: Option<(Digest, Leaf)>,
}

/// An entry to be fetched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    pub(super) tree: Tree,
    pub(super) head: ShortHash,
    /// The peer's version, if this node has one too: afterwards it looks which of the two is left.
    pub(super) review: Option<ShortHash>,
}

/// A fetch under way.
#[derive(Clone, Debug)]
pub(super) struct Fetching {
    pub(super) request: u32,
    pub(super) tree: Tree,
    pub(super) wants: Vec<Want>,
    /// Payloads of the first key that have come already.
    pub(super) skip: u16,
    pub(super) tries: u8,
    pub(super) asked_at: Time,
    pub(super) answer_by: Time,
}

impl Fetching {
    pub(super) fn message(&self) -> Message {
        let heads = self.wants.iter().map(|want| want.head).collect();
        Message::Fetch { request: self.request, tree: self.tree, heads, skip: self.skip }
    }
}

/// Fetches from one peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Intake {
    /// At most [`MAX_WANTED`].
    pub(super) queue: VecDeque<Want>,
    pub(super) fetching: Option<Fetching>,
    /// When all of it must have come, so that one slow peer does not keep the others waiting.
    pub(super) end_by: Option<Time>,
    pub(super) reviews: Vec<Want>,
    /// Set when all of it has come: then the reviews are looked at, and the peer is compared again.
    pub(super) review_at: Option<Time>,
}

impl Intake {
    pub(super) fn len(&self) -> usize {
        self.queue.len() + self.fetching.as_ref().map_or(0, |fetching| fetching.wants.len())
    }

    pub(super) fn is_busy(&self) -> bool {
        self.fetching.is_some() || !self.queue.is_empty() || self.review_at.is_some()
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let answer_by = self.fetching.as_ref().map(|fetching| fetching.answer_by);
        answer_by.into_iter().chain(self.end_by).min()
    }

    /// Forgets what is wanted, and returns it.
    pub(super) fn abandon(&mut self) -> Vec<(Tree, ShortHash)> {
        let fetching = self.fetching.take().map(|fetching| fetching.wants).unwrap_or_default();
        self.end_by = None;
        self.reviews.clear();
        self.queue.drain(..).chain(fetching).map(|want| (want.tree, want.head)).collect()
    }
}
