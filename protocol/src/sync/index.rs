//! One tree: hashes by key, with digests over buckets that are computed when somebody asks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::{Digest, Time};

use super::message::{Leaf, Node};
use super::print::{Prefix, Print};

/// Entries in a range that are told one by one. About what a split costs.
const FEW: usize = 24;
/// The same, for one who has nothing there: the answer must fit a message with others.
const MANY: usize = 512;

/// When an entry is at rest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest {
    /// So long without a change.
    pub(super) after: Duration,
    /// One that never rests is taken as it is after so long: a difference that lasts must be found.
    pub(super) at_last: Duration,
}

/// An entry that changed and has not come to rest.
#[derive(Clone, Copy, Debug)]
struct Unrest {
    first: Time,
    last: Time,
    /// When to look again; its place in `Index::unrest`.
    due: Time,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    now: Option<Digest>,
    settled: Option<Digest>,
    unrest: Option<Unrest>,
}

/// Of which state a digest is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum View {
    /// As it is.
    Now,
    /// As it was when each entry last came to rest.
    Settled,
}

/// Digests of one view; none where an entry changed since.
#[derive(Clone, Debug)]
struct Cache {
    buckets: Vec<Option<Digest>>,
    root: Option<Digest>,
}

/// Bounded by the rooms whose entries it lists.
#[derive(Clone, Debug)]
pub(super) struct Index {
    rest: Rest,
    entries: BTreeMap<Digest, Entry>,
    unrest: BTreeSet<(Time, Digest)>,
    now: Cache,
    settled: Cache,
}

impl Index {
    pub(super) fn new(rest: Rest) -> Self {
        let cache = Cache { buckets: vec![None; 256], root: None };
        Index { rest, entries: BTreeMap::new(), unrest: BTreeSet::new(), now: cache.clone(), settled: cache }
    }

    /// The entry has this hash, or is gone, from `now` on.
    pub(super) fn set(&mut self, now: Time, key: Digest, hash: Option<Digest>) {
        let entry = self.entries.entry(key).or_default();
        if entry.now == hash {
            if entry.now.is_none() && entry.unrest.is_none() {
                self.entries.remove(&key);
            }
            return;
        }
        entry.now = hash;
        let first = entry.unrest.map_or(now, |unrest| unrest.first);
        if let Some(unrest) = entry.unrest.take() {
            self.unrest.remove(&(unrest.due, key));
        }
        if entry.settled != hash {
            let restless = now.since(first) >= self.rest.at_last;
            if restless {
                entry.settled = hash;
            }
            let due =
                if restless { now + self.rest.after } else { (now + self.rest.after).min(first + self.rest.at_last) };
            entry.unrest = Some(Unrest { first, last: now, due });
            self.unrest.insert((due, key));
        }
        self.forget_digests(&key);
    }

    /// The entry has this hash, and had it long before.
    pub(super) fn set_settled(&mut self, key: Digest, hash: Digest) {
        let entry = self.entries.entry(key).or_default();
        if let Some(unrest) = entry.unrest.take() {
            self.unrest.remove(&(unrest.due, key));
        }
        *entry = Entry { now: Some(hash), settled: Some(hash), unrest: None };
        self.forget_digests(&key);
    }

    /// Whether there is an entry.
    pub(super) fn knows(&self, key: &Digest) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.now.is_some())
    }

    /// Lets entries come to rest.
    pub(super) fn settle(&mut self, now: Time) {
        while let Some((due, key)) = self.unrest.first().copied().filter(|(due, _)| *due <= now) {
            self.unrest.remove(&(due, key));
            let Some(entry) = self.entries.get_mut(&key) else {
                continue;
            };
            entry.settled = entry.now;
            entry.unrest = entry.unrest.take().and_then(|unrest| {
                let due = unrest.last + self.rest.after;
                (due > now).then_some(Unrest { due, ..unrest })
            });
            match entry.unrest {
                Some(unrest) => drop(self.unrest.insert((unrest.due, key))),
                None if entry.now.is_none() => drop(self.entries.remove(&key)),
                None => {}
            }
            self.forget_digests(&key);
        }
    }

    /// The root, from what is cached where it can.
    pub(super) fn root(&self, view: View) -> Digest {
        let cache = self.cache(view);
        cache.root.unwrap_or_else(|| {
            let buckets: Vec<Digest> = (0..=255).map(|bucket| self.bucket(view, bucket)).collect();
            let parts: Vec<&[u8]> = buckets.iter().map(|digest| digest.as_bytes().as_slice()).collect();
            Digest::of_parts(&parts)
        })
    }

    /// Computes all digests that are missing.
    pub(super) fn warm(&mut self) {
        for view in [View::Now, View::Settled] {
            for bucket in 0..=255u8 {
                let digest = self.bucket(view, bucket);
                self.cache_mut(view).buckets[usize::from(bucket)] = Some(digest);
            }
            self.cache_mut(view).root = Some(self.root(view));
        }
    }

    /// The print of a range as it is now; [`Print::NONE`] where no entry is, not even one that is just being forgotten.
    pub(super) fn print(&self, prefix: Prefix, salt: u64) -> Print {
        if self.count(prefix, 1) == 0 {
            return Print::NONE;
        }
        match prefix.bucket() {
            Some(bucket) => Print::of(salt, &[self.bucket(View::Now, bucket).as_bytes()]),
            None => Print::of(salt, &self.parts(View::Now, prefix)),
        }
    }

    /// What there is in a range: its entries when they are few, or else the prints of its children.
    pub(super) fn node(&self, now: Time, prefix: Prefix, whole: bool, salt: u64) -> Node {
        let limit = if whole { MANY } else { FEW };
        if self.count(prefix, limit + 1) <= limit || prefix.is_narrowest() {
            return Node::Leaves(self.leaves(now, prefix, salt).map(|(_, leaf)| leaf).take(MANY).collect());
        }
        Node::Split(prefix.children().map(|child| self.print(child, salt)).collect())
    }

    /// The entries in a range, the hash of each beside its leaf.
    pub(super) fn leaves(&self, now: Time, prefix: Prefix, salt: u64) -> impl Iterator<Item = (Option<Digest>, Leaf)> {
        self.entries.range(prefix.keys()).map(move |(key, entry)| (entry.now, self.leaf(now, key, entry, salt)))
    }

    /// Whether there are so few entries in a range that leaves are cheaper than a split.
    pub(super) fn is_sparse(&self, prefix: Prefix) -> bool {
        self.count(prefix, FEW / 4) < FEW / 4
    }

    /// The leaves under a head; one, but for an accident or an attack.
    pub(super) fn under(&self, now: Time, head: Print, salt: u64) -> impl Iterator<Item = (Option<Digest>, Leaf)> {
        self.entries.range(head.keys()).map(move |(key, entry)| (entry.now, self.leaf(now, key, entry, salt)))
    }

    /// The keys under a head that are there.
    pub(super) fn keys(&self, head: Print) -> impl Iterator<Item = &Digest> {
        self.entries.range(head.keys()).filter(|(_, entry)| entry.now.is_some()).map(|(key, _)| key)
    }

    fn leaf(&self, now: Time, key: &Digest, entry: &Entry, salt: u64) -> Leaf {
        let version = entry.now.map_or(Print::NONE, |hash| Print::of(salt, &[key.as_bytes(), hash.as_bytes()]));
        let fresh = entry.unrest.is_some_and(|unrest| {
            now.since(unrest.last) < self.rest.after && now.since(unrest.first) < self.rest.at_last
        });
        Leaf { head: Print::head(key), version, fresh }
    }

    fn count(&self, prefix: Prefix, upto: usize) -> usize {
        self.entries.range(prefix.keys()).take(upto).count()
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

    fn parts_of(&self, view: View, keys: std::ops::RangeInclusive<Digest>) -> Vec<&[u8]> {
        let mut parts: Vec<&[u8]> = Vec::new();
        for (key, entry) in self.entries.range(keys) {
            let hash = match view {
                View::Now => &entry.now,
                View::Settled => &entry.settled,
            };
            if let Some(hash) = hash {
                parts.extend([key.as_bytes().as_slice(), hash.as_bytes().as_slice()]);
            }
        }
        parts
    }

    fn cache(&self, view: View) -> &Cache {
        match view {
            View::Now => &self.now,
            View::Settled => &self.settled,
        }
    }

    fn cache_mut(&mut self, view: View) -> &mut Cache {
        match view {
            View::Now => &mut self.now,
            View::Settled => &mut self.settled,
        }
    }

    fn forget_digests(&mut self, key: &Digest) {
        for cache in [&mut self.now, &mut self.settled] {
            cache.buckets[usize::from(key.0[0])] = None;
            cache.root = None;
        }
    }
}
