//! One simulated device: the real core, and a fake disk, runtime and store of artifacts around it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use shoal_protocol::model::{Digest, NodeId, RawChange, ReplicaId, Unverified};
use shoal_protocol::model::{NodeRecord, Ruling, Slot};
use shoal_protocol::node::{Action, Identity, Node, PersistId, Record, Saved};

/// A device. `node` is there while its daemon runs.
pub struct Device {
    pub id: NodeId,
    pub name: String,
    pub identity: Identity,
    /// The running daemon's brain.
    pub node: Option<Node>,
    /// Grows with each start, so that what an earlier daemon was waiting for finds nobody.
    pub boot: u32,
    /// When this daemon started: the zero of its `Time`.
    pub started: u64,
    /// What its clock says beside the world's, in milliseconds.
    pub clock_skew: i64,
    pub disk: Disk,
    pub runtime: Runtime,
    /// Artifacts it holds; they survive a crash.
    pub artifacts: BTreeSet<Digest>,
    /// Peers it has a link to, as it believes.
    pub links: BTreeSet<usize>,
    /// Effects that wait for the disk.
    pub held: VecDeque<(PersistId, Action)>,
    /// When its timer is set to, so that it is not set twice.
    pub timer: Option<u64>,
    /// Gossip it has seen, oldest first.
    pub seen: VecDeque<Digest>,
}

/// A disk: what is durable, and what is on its way there.
#[derive(Default)]
pub struct Disk {
    pub incarnation: u64,
    pub desired: BTreeMap<Digest, Vec<RawChange>>,
    pub slots: BTreeMap<(NodeId, u8), Unverified<Slot>>,
    pub nodes: BTreeMap<NodeId, Unverified<NodeRecord>>,
    pub rulings: BTreeMap<Digest, Unverified<Ruling>>,
    /// Batches that were asked for and are not durable yet, in order.
    pub pending: VecDeque<(PersistId, Vec<Record>)>,
    /// No writes any more.
    pub full: bool,
    /// Transactions that became durable.
    pub commits: u64,
}

impl Disk {
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
        }
    }

    /// What a daemon finds at its start, its new incarnation on disk included.
    pub fn load(&mut self) -> Saved {
        self.incarnation += 1;
        Saved {
            incarnation: self.incarnation,
            changes: self.desired.values().flatten().cloned().collect(),
            slots: self.slots.iter().map(|((node, _), slot)| (*node, slot.clone())).collect(),
            nodes: self.nodes.values().cloned().collect(),
            rulings: self.rulings.values().cloned().collect(),
        }
    }
}

/// A runtime that starts what it is told to, after a while.
#[derive(Default)]
pub struct Runtime {
    /// What it was told to run, and whether it does by now.
    pub replicas: BTreeMap<ReplicaId, Running>,
    /// Every start fails with this reason.
    pub broken: Option<String>,
}

/// A replica in a runtime.
pub struct Running {
    pub generation: Digest,
    pub healthy: bool,
    /// Which start this is, so that the end of an older one is not taken for it.
    pub start: u64,
}

impl Device {
    /// Whether this gossip is new here; it is not from now on.
    pub fn first_sight(&mut self, id: Digest) -> bool {
        /// Gossip remembered; the mesh forgets after some minutes as well.
        const SEEN: usize = 4_096;
        if self.seen.contains(&id) {
            return false;
        }
        if self.seen.len() >= SEEN {
            self.seen.pop_front();
        }
        self.seen.push_back(id);
        true
    }
}
