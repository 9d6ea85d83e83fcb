//! A fake disk: durable records, pending writes, and faults.

use std::collections::VecDeque;

use imbl::OrdMap;
use shoal_protocol::model::{Digest, NodeId, NodeRecord, RawChange, Ruling, Slot, Unverified};
use shoal_protocol::node::{OldVersion, PersistId, Record, Saved};

/// A disk. Equal records of several disks share memory.
#[derive(Clone, Default)]
pub struct Disk {
    pub incarnation: u64,
    pub desired: OrdMap<Digest, Vec<RawChange>>,
    pub slots: OrdMap<(NodeId, u8), Unverified<Slot>>,
    pub nodes: OrdMap<NodeId, Unverified<NodeRecord>>,
    pub rulings: OrdMap<Digest, Unverified<Ruling>>,
    pub old_versions: OrdMap<(Digest, Digest), OldVersion>,
    /// Batches that are not durable yet, in order.
    pub pending: VecDeque<(PersistId, Vec<Record>)>,
    /// The disk has no room.
    pub full: bool,
    /// A write failed, and the daemon has not seen a successful probe since.
    pub failed: bool,
    /// World time until which no batch becomes durable, microseconds.
    pub stalled_until: u64,
    /// Batches that became durable.
    pub commits: u64,
}

impl Disk {
    /// Whether the disk refuses writes, or the daemon believes so.
    pub fn is_ill(&self) -> bool {
        self.full || self.failed
    }

    /// Makes the oldest pending batch durable.
    pub fn commit(&mut self) -> Option<PersistId> {
        let (id, records) = self.pending.pop_front()?;
        for record in records {
            self.write(record);
        }
        self.commits += 1;
        Some(id)
    }

    fn write(&mut self, record: Record) {
        match record {
            Record::Incarnation(incarnation) => self.incarnation = incarnation,
            Record::Desired { key, changes } => {
                self.desired.insert(key, changes);
            }
            Record::Slot { node, slot } => {
                let index = slot.peek().expect("the core persists what it can read").slot;
                self.slots.insert((node, index), slot);
            }
            Record::Node { node, record } => {
                self.nodes.insert(node, record);
            }
            Record::Ruling { key, ruling } => {
                self.rulings.insert(key, ruling);
            }
            Record::NoRuling { key } => {
                self.rulings.remove(&key);
            }
            Record::OldVersion { uid, generation, version } => {
                match version {
                    Some(version) => self.old_versions.insert((uid, generation), version),
                    None => self.old_versions.remove(&(uid, generation)),
                };
            }
        }
    }

    /// Loads the records for a starting daemon. Its new incarnation is on disk already.
    pub fn load(&mut self) -> Saved {
        self.incarnation += 1;
        Saved {
            incarnation: self.incarnation,
            changes: self.desired.values().flatten().cloned().collect(),
            slots: self.slots.iter().map(|((node, _), slot)| (*node, slot.clone())).collect(),
            nodes: self.nodes.values().cloned().collect(),
            rulings: self.rulings.values().cloned().collect(),
            old_versions: (self.old_versions.iter())
                .map(|((uid, generation), old)| (*uid, *generation, old.clone()))
                .collect(),
        }
    }
}
