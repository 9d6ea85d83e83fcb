//! A tree: hashes by key, with digests over buckets that are computed on demand.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;

use crate::model::{Digest, Time};

use super::message::{Leaf, Node};
use super::short_hash::{Prefix, ShortHash};

/// Most entries of a range that are sent as leaves; about the cost of a split.
const MAX_LEAVES: usize = 24;
/// The same if the asker has next to nothing in the range. The answer must fit a message with
/// others.
const MAX_LEAVES_WHOLE: usize = 512;

/// When an entry counts as at rest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest {
    /// After so long without a change.
    pub(super) after: Duration,
    /// After so long since its first change, however often it changes: a lasting difference must be
    /// found.
    pub(super) at_last: Duration,
}

/// An entry that changed and has not come to rest.
#[derive(Clone, Copy, Debug)]
struct Moving {
    /// Its hash now; none if it is gone.
    now: Option<Digest>,
    first: Time,
    last: Time,
    /// When to check it again; its key in `Index::rest_due`.
    due: Time,
}

/// All that is known of a key.
#[derive(Clone, Copy)]
struct Entry<'a> {
    now: Option<&'a Digest>,
    settled: Option<&'a Digest>,
    moving: Option<&'a Moving>,
}

/// The state over which a digest is computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum View {
    /// Entries as they are.
    Now,
    /// Each entry as it was when it last came to rest.
    Settled,
}

/// Digests of one view; none where an entry changed since they were computed.
#[derive(Clone, Debug)]
struct Cache {
    buckets: Vec<Option<Digest>>,
    root: Option<Digest>,
}

/// Bounded by the state whose entries it lists.
#[derive(Clone, Debug)]
pub(super) struct Index {
    rest: Rest,
    /// Each entry as it was when it last came to rest; nearly all are so now.
    settled: OrdMap<Digest, Digest>,
    moving: BTreeMap<Digest, Moving>,
    rest_due: BTreeSet<(Time, Digest)>,
    digests: Digests,
}

/// The cached digests of both views. Clones of an index share them.
#[derive(Clone, Debug)]
struct Digests {
    now: Arc<Cache>,
    settled: Arc<Cache>,
}

impl Index {
    pub(super) fn new(rest: Rest) -> Self {
        let cache = Arc::new(Cache { buckets: vec![None; 256], root: None });
        let digests = Digests { now: Arc::clone(&cache), settled: cache };
        Index {
            rest,
            settled: OrdMap::new(),
            moving: BTreeMap::new(),
            rest_due: BTreeSet::new(),
            digests,
        }
    }

    /// The entry has this hash, or is gone, since `now`.
    pub(super) fn set(&mut self, now: Time, key: Digest, hash: Option<Digest>) {
        if self.get(&key) == hash.as_ref() {
            return;
        }
        let first = self.stop_moving(&key).map_or(now, |moving| moving.first);
        if self.settled.get(&key) != hash.as_ref() {
            let restless = now.since(first) >= self.rest.at_last;
            if restless {
                self.set_at_rest(key, hash);
            }
            let due = if restless {
                now + self.rest.after
            } else {
                (now + self.rest.after).min(first + self.rest.at_last)
            };
            self.start_moving(key, Moving { now: hash, first, last: now, due });
        }
        self.forget_digests(&key);
    }

    /// The entry has had this hash for long.
    pub(super) fn set_settled(&mut self, key: Digest, hash: Digest) {
        let moved = self.stop_moving(&key).is_some();
        if moved || self.settled.get(&key) != Some(&hash) {
            self.settled.insert(key, hash);
            self.forget_digests(&key);
        }
    }

    /// Whether an entry is under `key` now.
    pub(super) fn knows(&self, key: &Digest) -> bool {
        self.get(key).is_some()
    }

    /// Brings entries to rest that are due.
    pub(super) fn settle(&mut self, now: Time) {
        while let Some((_, key)) = self.rest_due.first().copied().filter(|(due, _)| *due <= now) {
            let Some(moving) = self.stop_moving(&key) else { continue };
            self.set_at_rest(key, moving.now);
            let due = moving.last + self.rest.after;
            if due > now {
                self.start_moving(key, Moving { due, ..moving });
            }
            self.forget_digests(&key);
        }
    }

    /// Brings all entries to rest.
    pub(super) fn settle_all(&mut self) {
        for (key, moving) in std::mem::take(&mut self.moving) {
            self.set_at_rest(key, moving.now);
            self.forget_digests(&key);
        }
        self.rest_due.clear();
        self.warm();
    }

    fn get(&self, key: &Digest) -> Option<&Digest> {
        match self.moving.get(key) {
            Some(moving) => moving.now.as_ref(),
            None => self.settled.get(key),
        }
    }

    fn start_moving(&mut self, key: Digest, moving: Moving) {
        self.rest_due.insert((moving.due, key));
        self.moving.insert(key, moving);
    }

    fn stop_moving(&mut self, key: &Digest) -> Option<Moving> {
        let moving = self.moving.remove(key)?;
        self.rest_due.remove(&(moving.due, *key));
        Some(moving)
    }

    fn set_at_rest(&mut self, key: Digest, hash: Option<Digest>) {
        match hash {
            Some(hash) => drop(self.settled.insert(key, hash)),
            None => drop(self.settled.remove(&key)),
        }
    }

    /// The entries of a range, by key: those at rest merged with those that are moving.
    fn range(&self, keys: RangeInclusive<Digest>) -> impl Iterator<Item = (&Digest, Entry<'_>)> {
        let mut settled = self.settled.range(keys.clone()).peekable();
        let mut moving = self.moving.range(keys).peekable();
        std::iter::from_fn(move || {
            let is_next = match (settled.peek(), moving.peek()) {
                (Some((at_rest, _)), Some((moves, _))) => (at_rest <= moves, moves <= at_rest),
                (at_rest, moves) => (at_rest.is_some(), moves.is_some()),
            };
            let at_rest = settled.next_if(|_| is_next.0);
            let moves = moving.next_if(|_| is_next.1);
            let (key, hash) = (
                at_rest.map(|(key, _)| key).or(moves.map(|(key, _)| key))?,
                at_rest.map(|(_, hash)| hash),
            );
            let now = moves.map_or(hash, |(_, moving)| moving.now.as_ref());
            Some((key, Entry { now, settled: hash, moving: moves.map(|(_, moving)| moving) }))
        })
    }

    /// The root; cached digests are used where present.
    pub(super) fn root(&self, view: View) -> Digest {
        let cache = self.cache(view);
        cache.root.unwrap_or_else(|| {
            let buckets: Vec<Digest> = (0..=255).map(|bucket| self.bucket(view, bucket)).collect();
            let parts: Vec<&[u8]> =
                buckets.iter().map(|digest| digest.as_bytes().as_slice()).collect();
            Digest::of_parts(&parts)
        })
    }

    /// Computes and caches all missing digests.
    pub(super) fn warm(&mut self) {
        for view in [View::Now, View::Settled] {
            if self.cache(view).root.is_some() {
                continue;
            }
            for bucket in 0..=255u8 {
                let digest = self.bucket(view, bucket);
                self.cache_mut(view).buckets[usize::from(bucket)] = Some(digest);
            }
            let root = self.root(view);
            self.cache_mut(view).root = Some(root);
        }
    }

    /// The short hash of a range as it is now; [`ShortHash::NONE`] if the range has no entry, not
    /// even one that is being forgotten.
    pub(super) fn short_hash(&self, prefix: Prefix, salt: u64) -> ShortHash {
        if self.count(prefix, 1) == 0 {
            return ShortHash::NONE;
        }
        match prefix.bucket() {
            Some(bucket) => ShortHash::of(salt, &[self.bucket(View::Now, bucket).as_bytes()]),
            None => ShortHash::of(salt, &self.parts(View::Now, prefix)),
        }
    }

    /// The content of a range: its entries if they are few, else the short hashes of its children.
    pub(super) fn node(&self, now: Time, prefix: Prefix, whole: bool, salt: u64) -> Node {
        let limit = if whole { MAX_LEAVES_WHOLE } else { MAX_LEAVES };
        if self.count(prefix, limit + 1) <= limit || prefix.is_narrowest() {
            return Node::Leaves(
                self.leaves(now, prefix, salt)
                    .map(|(_, leaf)| leaf)
                    .take(MAX_LEAVES_WHOLE)
                    .collect(),
            );
        }
        Node::Split(prefix.children().map(|child| self.short_hash(child, salt)).collect())
    }

    /// The leaves of a range, each with the hash of its entry.
    pub(super) fn leaves(
        &self,
        now: Time,
        prefix: Prefix,
        salt: u64,
    ) -> impl Iterator<Item = (Option<Digest>, Leaf)> {
        self.range(prefix.keys())
            .map(move |(key, entry)| (entry.now.copied(), self.leaf(now, key, entry, salt)))
    }

    /// Whether a range has so few entries that leaves are cheaper than a split.
    pub(super) fn is_sparse(&self, prefix: Prefix) -> bool {
        self.count(prefix, MAX_LEAVES / 4) < MAX_LEAVES / 4
    }

    /// The leaves under a head; one, unless two keys share a head by accident or attack.
    pub(super) fn under(
        &self,
        now: Time,
        head: ShortHash,
        salt: u64,
    ) -> impl Iterator<Item = (Option<Digest>, Leaf)> {
        self.range(head.keys())
            .map(move |(key, entry)| (entry.now.copied(), self.leaf(now, key, entry, salt)))
    }

    /// The keys of present entries under a head.
    pub(super) fn keys(&self, head: ShortHash) -> impl Iterator<Item = &Digest> {
        self.range(head.keys()).filter(|(_, entry)| entry.now.is_some()).map(|(key, _)| key)
    }

    fn leaf(&self, now: Time, key: &Digest, entry: Entry<'_>, salt: u64) -> Leaf {
        let version = entry.now.map_or(ShortHash::NONE, |hash| {
            ShortHash::of(salt, &[key.as_bytes(), hash.as_bytes()])
        });
        let fresh = entry.moving.is_some_and(|moving| {
            now.since(moving.last) < self.rest.after && now.since(moving.first) < self.rest.at_last
        });
        Leaf { head: ShortHash::head(key), version, fresh }
    }

    fn count(&self, prefix: Prefix, upto: usize) -> usize {
        self.range(prefix.keys()).take(upto).count()
    }

    fn bucket(&self, view: View, bucket: u8) -> Digest {
        self.cache(view).buckets[usize::from(bucket)].unwrap_or_else(|| {
            let mut keys = ([0; 32], [255; 32]);
            (keys.0[0], keys.1[0]) = (bucket, bucket);
            Digest::of_parts(&self.parts_of(view, Digest(keys.0)..=Digest(keys.1)))
        })
    }

    fn parts(&self, view: View, prefix: Prefix) -> Vec<&[u8]> {
        self.parts_of(view, prefix.keys())
    }

    fn parts_of(&self, view: View, keys: RangeInclusive<Digest>) -> Vec<&[u8]> {
        let mut parts: Vec<&[u8]> = Vec::new();
        for (key, entry) in self.range(keys) {
            let hash = match view {
                View::Now => entry.now,
                View::Settled => entry.settled,
            };
            if let Some(hash) = hash {
                parts.extend([key.as_bytes().as_slice(), hash.as_bytes().as_slice()]);
            }
        }
        parts
    }

    fn cache(&self, view: View) -> &Cache {
        match view {
            View::Now => &self.digests.now,
            View::Settled => &self.digests.settled,
        }
    }

    fn cache_mut(&mut self, view: View) -> &mut Cache {
        match view {
            View::Now => Arc::make_mut(&mut self.digests.now),
            View::Settled => Arc::make_mut(&mut self.digests.settled),
        }
    }

    fn forget_digests(&mut self, key: &Digest) {
        for view in [View::Now, View::Settled] {
            let cache = self.cache_mut(view);
            cache.buckets[usize::from(key.0[0])] = None;
            cache.root = None;
        }
    }
}
