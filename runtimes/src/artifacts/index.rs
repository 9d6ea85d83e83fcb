//! An index of the store in memory: sizes, and which artifact may be evicted next.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use shoal_protocol::model::Digest;

use super::error::Error;
use super::files::{Stamp, delete, io};
use super::{lock, partial};

/// Transfers that were given up and may be resumed. Each takes room on disk, and more are unlikely
/// to be resumed.
const MAX_WAITING_PARTIALS: usize = 16;

#[derive(Default)]
pub(super) struct Index {
    held: BTreeMap<Digest, Held>,
    /// Transfers that wait to be resumed. Those under way count in `reserved`.
    partials: BTreeMap<Digest, Waiting>,
    under_way: BTreeSet<Digest>,
    pinned: BTreeSet<Digest>,
    /// Bytes of `held` and of `partials`.
    stored: u64,
    /// Bytes promised to writers.
    reserved: u64,
    /// Number of uses so far; `used` fields compare by it.
    uses: u64,
}

struct Held {
    size: u64,
    used: u64,
    holds: u32,
    verified: Option<Stamp>,
    /// A removal was asked for while it was held: evicted first.
    unwanted: bool,
}

struct Waiting {
    /// Announced bytes, as in the file's name.
    size: u64,
    got: u64,
    used: u64,
}

/// An entry that was removed from the index; the caller deletes its file.
pub(super) struct Victim {
    pub digest: Digest,
    pub size: u64,
    pub partial: bool,
}

impl Index {
    /// Reads the folders. Files with other names are left alone and not counted.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let mut found = Vec::new();
        for (name, partial) in [("sha256", false), ("partial", true)] {
            let folder = folder.join(name);
            for entry in fs::read_dir(&folder).map_err(io("list", &folder))? {
                let entry = entry.map_err(io("list", &folder))?;
                let meta = entry.metadata().map_err(io("look at", &entry.path()))?;
                let name = entry.file_name();
                let Some(name) = name.to_str().filter(|_| meta.is_file()) else { continue };
                let parsed = if partial {
                    partial::parse_name(name)
                } else {
                    name.parse().ok().map(|d| (d, meta.len()))
                };
                match parsed {
                    Some((digest, size)) => found.push((
                        meta.modified().ok(),
                        digest,
                        size,
                        meta.len(),
                        partial,
                        entry.path(),
                    )),
                    None => {
                        tracing::warn!(file = %entry.path().display(), "not an artifact; left \
                            alone")
                    }
                }
            }
        }
        // The order of modification stands for the order of use, which was not written.
        found.sort_by_key(|(modified, digest, ..)| (*modified, *digest));
        let mut index = Index::default();
        for (_, digest, size, len, partial, path) in found {
            index.uses += 1;
            let used = index.uses;
            if !partial {
                index
                    .held
                    .insert(digest, Held { size, used, holds: 0, verified: None, unwanted: false });
            } else if index.partials.contains_key(&digest)
                || index.held.contains_key(&digest)
                || len > size
            {
                delete(&path)?;
                continue;
            } else {
                index.partials.insert(digest, Waiting { size, got: len, used });
            }
            index.stored += len;
        }
        Ok(index)
    }

    pub fn size_of(&self, digest: &Digest) -> Option<u64> {
        self.held.get(digest).map(|held| held.size)
    }

    pub fn held(&self) -> Vec<(Digest, u64)> {
        self.held.iter().map(|(digest, held)| (*digest, held.size)).collect()
    }

    pub fn bytes(&self) -> u64 {
        self.stored + self.reserved
    }

    pub fn pin(&mut self, pinned: BTreeSet<Digest>) {
        self.pinned = pinned;
    }

    pub fn verified(&mut self, digest: &Digest, stamp: Stamp) {
        if let Some(held) = self.held.get_mut(digest) {
            held.verified = Some(stamp);
        }
    }

    /// Drops an artifact from the index, also when it is held: its file no longer exists.
    pub fn forget(&mut self, digest: &Digest) {
        if let Some(held) = self.held.remove(digest) {
            self.stored -= held.size;
        }
    }

    /// Removes an artifact so that its file can be deleted; `false` when it is unknown or in use.
    pub fn take_out(&mut self, digest: &Digest) -> bool {
        match self.held.get_mut(digest) {
            None => false,
            Some(held) if held.holds > 0 => {
                held.unwanted = true;
                false
            }
            Some(_) => {
                self.forget(digest);
                true
            }
        }
    }

    /// Marks a transfer as under way. Returns the announced size and the bytes of a waiting one.
    pub fn begin_partial(&mut self, digest: &Digest) -> Result<Option<(u64, u64)>, Error> {
        if !self.under_way.insert(*digest) {
            return Err(Error::Busy { digest: *digest });
        }
        let waiting = self.partials.remove(digest);
        if let Some(waiting) = &waiting {
            self.stored -= waiting.got;
        }
        Ok(waiting.map(|waiting| (waiting.size, waiting.got)))
    }

    /// Marks a transfer as no longer under way; `waiting` is its announced size and its bytes, when
    /// it may be resumed. Returns the transfer that waited longest when there are too many.
    pub fn end_partial(&mut self, digest: &Digest, waiting: Option<(u64, u64)>) -> Option<Victim> {
        self.under_way.remove(digest);
        if let Some((size, got)) = waiting {
            self.uses += 1;
            self.partials.insert(*digest, Waiting { size, got, used: self.uses });
            self.stored += got;
        }
        if self.partials.len() > MAX_WAITING_PARTIALS { self.oldest_partial() } else { None }
    }

    fn oldest_partial(&mut self) -> Option<Victim> {
        let digest = *self.partials.iter().min_by_key(|(_, waiting)| waiting.used)?.0;
        let waiting = self.partials.remove(&digest)?;
        self.stored -= waiting.got;
        Some(Victim { digest, size: waiting.size, partial: true })
    }

    /// Removes the next victim: waiting transfers first, then unwanted artifacts, then the least
    /// recently used.
    fn evict(&mut self) -> Option<Victim> {
        if let Some(victim) = self.oldest_partial() {
            return Some(victim);
        }
        let evictable = self
            .held
            .iter()
            .filter(|(digest, held)| held.holds == 0 && !self.pinned.contains(digest));
        let digest = *evictable.min_by_key(|(_, held)| (!held.unwanted, held.used))?.0;
        let held = self.held.remove(&digest)?;
        self.stored -= held.size;
        Some(Victim { digest, size: held.size, partial: false })
    }

    /// Bytes that evicting all possible victims would free.
    fn evictable(&self) -> u64 {
        let held = self
            .held
            .iter()
            .filter(|(digest, held)| held.holds == 0 && !self.pinned.contains(digest));
        held.map(|(_, held)| held.size).sum::<u64>()
            + self.partials.values().map(|waiting| waiting.got).sum::<u64>()
    }
}

/// Keeps an artifact from being evicted or removed while it is in use.
#[derive(Debug)]
pub struct Hold {
    index: Arc<Mutex<Index>>,
    digest: Digest,
}

impl Hold {
    /// Also counts as a use. Returns the stamp of the last verification, too.
    pub(super) fn take(
        index: &Arc<Mutex<Index>>,
        digest: &Digest,
    ) -> Option<(Self, Option<Stamp>)> {
        let mut locked = lock(index);
        locked.uses += 1;
        let used = locked.uses;
        let held = locked.held.get_mut(digest)?;
        held.holds += 1;
        held.used = used;
        Some((Hold { index: index.clone(), digest: *digest }, held.verified))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(held) = lock(&self.index).held.get_mut(&self.digest) {
            // Already zero when the artifact was forgotten and stored again meanwhile.
            held.holds = held.holds.saturating_sub(1);
        }
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Index({} artifacts, {} bytes)", self.held.len(), self.bytes())
    }
}

/// Bytes promised to one writer, released on drop.
pub(super) struct Reservation {
    index: Arc<Mutex<Index>>,
    bytes: u64,
}

impl Reservation {
    pub fn new(index: &Arc<Mutex<Index>>) -> Self {
        Reservation { index: index.clone(), bytes: 0 }
    }

    /// Promises `more` bytes within `limit` and returns the victims whose files the caller deletes.
    /// An error changes nothing.
    pub fn grow(&mut self, more: u64, limit: u64) -> Result<Vec<Victim>, Error> {
        let mut index = lock(&self.index);
        let fixed = index.bytes() - index.evictable();
        if fixed.saturating_add(more) > limit {
            return Err(Error::Full { needed: more, limit, fixed });
        }
        let mut victims = Vec::new();
        while index.bytes() + more > limit {
            victims.extend(index.evict());
        }
        index.reserved += more;
        self.bytes += more;
        Ok(victims)
    }

    /// Turns the promise into an artifact, whose file has its name.
    pub fn become_held(mut self, digest: Digest, size: u64, verified: Option<Stamp>) {
        let mut index = lock(&self.index);
        index.reserved -= std::mem::take(&mut self.bytes);
        index.uses += 1;
        let used = index.uses;
        // The same bytes may have been stored twice at once: the file was replaced by an equal one.
        let holds = index.held.get(&digest).map_or(0, |held| held.holds);
        index.forget(&digest);
        index.held.insert(digest, Held { size, used, holds, verified, unwanted: false });
        index.stored += size;
        drop(index);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            lock(&self.index).reserved -= self.bytes;
        }
    }
}
