//! One simulated device: the real core, and a fake disk, runtime and store of artifacts around it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use shoal_protocol::model::{Digest, NodeId, ReplicaId, Time};
use shoal_protocol::node::{Action, Identity, Node, PersistId};

use super::clock::Clock;
use super::disk::Disk;
use super::event::Event;

/// What a device has not got round to yet; beyond it the kernel's buffers are full, and what comes
/// is lost.
const MAX_BACKLOG: usize = 4_096;

/// Gossip that a daemon has not got round to, as in its inbox (`GOSSIP` in the daemon's
/// `network/start.rs`); one more is dropped.
const MAX_GOSSIP: usize = 256;

/// A device. `node` is there while its daemon runs.
pub struct Device {
    pub id: NodeId,
    pub name: String,
    pub identity: Identity,
    /// The running daemon's brain.
    pub node: Option<Node>,
    /// Whether the computer is on: one without a daemon refuses dials, one that is off does not
    /// answer.
    pub is_on: bool,
    /// Grows with each start, so that what an earlier daemon was waiting for finds nobody.
    pub boot: u32,
    pub clock: Clock,
    pub disk: Disk,
    pub runtime: Runtime,
    /// How often its address has changed.
    pub moves: u32,
    /// Where it dials when it knows nobody: the line it joined by is kept.
    pub seeds: Vec<String>,
    /// Artifacts it holds; they survive a crash.
    pub artifacts: BTreeSet<Digest>,
    /// Peers it has a link to, as it believes, and which link that is.
    pub links: BTreeMap<usize, u64>,
    /// Effects that wait for the disk.
    pub held: BTreeMap<PersistId, Vec<Action>>,
    /// When its timer is set to, so that it is not set twice.
    pub timer: Option<u64>,
    pub seen: SeenGossip,
    pub inbox: Inbox,
    /// It dies after so many more effects.
    pub dies_after: Option<u32>,
    /// It runs with another device's identity.
    pub is_clone: bool,
    /// It will never be back.
    pub is_gone: bool,
    /// It knows that it was admitted.
    pub is_member: bool,
    /// It has said once that it is ready.
    pub was_ready: bool,
    /// It speaks a newer version: some of what it says nobody else understands.
    pub is_newer: bool,
}

/// Whether and how fast a device does anything.
#[derive(Default)]
pub struct Inbox {
    /// Until when it is stopped, or busy with what came before, microseconds.
    pub busy_until: u64,
    /// How long it takes over each happening, microseconds.
    pub slowness: u64,
    /// What waits, in order.
    backlog: VecDeque<Event>,
    /// Gossip among it.
    gossip: usize,
    /// Gossip that found the inbox full.
    pub dropped: u64,
}

/// Gossip that a daemon has seen.
#[derive(Default)]
pub struct SeenGossip {
    known: BTreeSet<u64>,
    /// Oldest first.
    order: VecDeque<u64>,
}

impl SeenGossip {
    /// Whether this is new here; it is not from now on.
    pub fn insert(&mut self, id: u64) -> bool {
        /// Gossip remembered; the mesh forgets after some minutes as well.
        const MOST: usize = 4_096;
        if !self.known.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

impl Inbox {
    /// Leaves it for later.
    pub fn defer(&mut self, event: Event) {
        let is_gossip = matches!(event, Event::Gossip { .. });
        if is_gossip && self.gossip >= MAX_GOSSIP {
            self.dropped += 1;
            return;
        }
        // A daemon's own timers and completions are not in the kernel's buffers.
        if self.backlog.len() < MAX_BACKLOG || !event.is_from_outside() {
            self.gossip += usize::from(is_gossip);
            self.backlog.push_back(event);
        }
    }

    /// The next that waits.
    pub fn pop(&mut self) -> Option<Event> {
        let next = self.backlog.pop_front()?;
        self.gossip -= usize::from(matches!(next, Event::Gossip { .. }));
        Some(next)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.backlog.is_empty()
    }

    /// What waits is lost.
    pub fn clear(&mut self) {
        self.backlog.clear();
        self.gossip = 0;
    }
}

/// A runtime that starts what it is told to, after a while.
#[derive(Default)]
pub struct Runtime {
    /// What it was told to run, and whether it does by now.
    pub replicas: BTreeMap<ReplicaId, Running>,
    pub failure_mode: FailureMode,
}

/// How a runtime behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FailureMode {
    #[default]
    Works,
    /// Every start fails.
    Fails,
    /// What started dies a moment later.
    Dies,
    /// Starts never end.
    Hangs,
}

/// A replica in a runtime.
pub struct Running {
    pub generation: Digest,
    pub healthy: bool,
    /// Which start this is, so that the end of an older one is not taken for it.
    pub start: u64,
}

impl Device {
    /// A device with an empty disk, switched on, its daemon not started.
    pub fn new(name: String, identity: Identity) -> Self {
        Device {
            id: NodeId(identity.keys.public().0),
            name,
            identity,
            node: None,
            is_on: true,
            boot: 0,
            clock: Clock::default(),
            disk: Disk::default(),
            runtime: Runtime::default(),
            moves: 0,
            seeds: Vec::new(),
            artifacts: BTreeSet::new(),
            links: BTreeMap::new(),
            held: BTreeMap::new(),
            timer: None,
            seen: SeenGossip::default(),
            inbox: Inbox::default(),
            dies_after: None,
            is_clone: false,
            is_gone: false,
            is_member: false,
            was_ready: false,
            is_newer: false,
        }
    }

    /// Everything that dies with a process.
    pub fn forget_process(&mut self) {
        self.node = None;
        self.runtime.replicas.clear();
        self.held.clear();
        self.disk.failed = false;
        self.seen = SeenGossip::default();
        self.timer = None;
        self.dies_after = None;
        self.inbox.clear();
        self.inbox.busy_until = 0;
    }

    /// How late the daemon is called, if it wanted to be called before.
    pub fn lateness(&self, now: Time) -> Option<std::time::Duration> {
        let (due, _) = self.node.as_ref()?.poll_timeout()?;
        (due < now).then(|| now.since(due))
    }
}
