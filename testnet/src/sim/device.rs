//! A simulated device: the real core with a fake disk, runtime and artifact store.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use shoal_protocol::model::{Digest, NodeId, ReplicaId, Time};
use shoal_protocol::node::{Action, Identity, Node, PersistId};

use super::clock::Clock;
use super::disk::Disk;
use super::engine::{Adapter, Engine};
use super::event::Event;
use super::liar::Liar;

/// Events that wait for a busy device. Beyond this the kernel's buffers are full, and further
/// messages are lost.
const MAX_BACKLOG: usize = 4_096;

/// Gossip messages that wait for a busy device, as in the daemon's inbox (`GOSSIP` in its
/// `network/start.rs`). Further ones are dropped.
const MAX_GOSSIP: usize = 256;

/// A device and everything on it. `node` is set while its daemon runs.
pub struct Device {
    pub id: NodeId,
    pub name: String,
    pub identity: Identity,
    /// The core of the running daemon.
    pub node: Option<Node>,
    /// Whether the computer is on: without a daemon it refuses dials, switched off it does not
    /// answer.
    pub is_on: bool,
    /// Counts the starts, so that events of an earlier daemon can be told apart and ignored.
    pub boot: u32,
    pub clock: Clock,
    pub disk: Disk,
    pub runtime: Runtime,
    pub engine: Engine,
    pub adapter: Adapter,
    /// How often the address has changed.
    pub moves: u32,
    /// The addresses that the daemon dials while it has no peers.
    pub seeds: Vec<String>,
    /// Artifacts in the store; they survive a crash.
    pub artifacts: BTreeSet<Digest>,
    /// Open links from this device's point of view: peer to link number.
    pub links: BTreeMap<usize, u64>,
    /// Effects that wait for a batch to be durable.
    pub held: BTreeMap<PersistId, Vec<Action>>,
    /// World time of the scheduled timer event, so that none is scheduled twice.
    pub timer: Option<u64>,
    pub seen: SeenGossip,
    pub inbox: Inbox,
    /// The daemon dies after this many more effects.
    pub dies_after: Option<u32>,
    /// The device runs with a copy of another device's identity.
    pub is_clone: bool,
    /// The device never returns.
    pub is_gone: bool,
    /// The daemon has seen its own admission.
    pub is_member: bool,
    /// The daemon has reported at least once that it is ready.
    pub was_ready: bool,
    /// The daemon is a newer version: some of its messages cannot be decoded by the others.
    pub is_newer: bool,
    /// The device lies.
    pub liar: Option<Box<Liar>>,
    /// An operator has revoked it.
    pub is_revoked: bool,
}

/// Events that wait while a device is stopped, busy or slow.
#[derive(Default)]
pub struct Inbox {
    /// World time until which the device handles nothing, microseconds.
    pub busy_until: u64,
    /// How long the device takes for each event, microseconds.
    pub slowness: u64,
    /// Waiting events, oldest first.
    backlog: VecDeque<Event>,
    /// Gossip events in `backlog`.
    gossip: usize,
    /// Gossip messages dropped because the inbox was full.
    pub dropped: u64,
}

/// Ids of gossip messages that a daemon has received.
#[derive(Default)]
pub struct SeenGossip {
    known: BTreeSet<u64>,
    /// Oldest first.
    order: VecDeque<u64>,
}

impl SeenGossip {
    /// Adds an id. Returns whether it was new.
    pub fn insert(&mut self, id: u64) -> bool {
        /// Ids kept at most; the real mesh also forgets after some minutes.
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
    /// Queues an event, or drops it if the kernel's or the daemon's queue is full.
    pub fn defer(&mut self, event: Event) {
        let is_gossip = matches!(event, Event::Gossip { .. });
        if is_gossip && self.gossip >= MAX_GOSSIP {
            self.dropped += 1;
            return;
        }
        // Timers and completions of the daemon do not use the kernel's buffers: they are never
        // lost.
        if self.backlog.len() < MAX_BACKLOG || !event.is_from_outside() {
            self.gossip += usize::from(is_gossip);
            self.backlog.push_back(event);
        }
    }

    pub fn pop(&mut self) -> Option<Event> {
        let next = self.backlog.pop_front()?;
        self.gossip -= usize::from(matches!(next, Event::Gossip { .. }));
        Some(next)
    }

    pub fn is_empty(&self) -> bool {
        self.backlog.is_empty()
    }

    /// Drops all waiting events.
    pub fn clear(&mut self) {
        self.backlog.clear();
        self.gossip = 0;
    }
}

/// The replicas that a daemon was ordered to run. A component starts with a delay and ends with the
/// daemon; a container has a life of its own ([`Engine`]).
#[derive(Default)]
pub struct Runtime {
    /// Replicas that were ordered, running or still starting.
    pub replicas: BTreeMap<ReplicaId, Running>,
    /// Replicas that were told to stop, and have not yet.
    pub ending: BTreeSet<ReplicaId>,
    pub failure_mode: FailureMode,
}

/// How a runtime fails, if it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FailureMode {
    #[default]
    Works,
    /// Every start fails.
    Fails,
    /// A replica ends by itself shortly after its start.
    Dies,
    /// Starts never end.
    Hangs,
}

impl Running {
    /// Whether an instance of this generation answers.
    pub fn serves(&self, generation: Digest) -> bool {
        (self.healthy && self.generation == generation) || self.old == Some(generation)
    }
}

/// A replica in a runtime.
pub struct Running {
    pub generation: Digest,
    pub healthy: bool,
    /// An older generation that serves until this one is healthy.
    pub old: Option<Digest>,
    /// A generation that runs and is not ready, though it was.
    pub unready: Option<Digest>,
    /// A container of an older generation that is being started again, to serve until this one is
    /// healthy.
    pub again: Option<Digest>,
    /// Number of this start, so that an event of an earlier start is not applied to it.
    pub start: u64,
    /// The image of a replica in a container; none for a component.
    pub image: Option<Digest>,
}

impl Device {
    /// A device with an empty disk, switched on, with no daemon running.
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
            engine: Engine::default(),
            adapter: Adapter::default(),
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
            liar: None,
            is_revoked: false,
        }
    }

    /// Whether it belongs to the cluster until the end, and what it holds can be relied on.
    pub fn remains(&self) -> bool {
        !self.is_clone && !self.is_gone && !self.is_revoked && self.liar.is_none()
    }

    /// Drops everything that ends with the process.
    pub fn forget_process(&mut self) {
        self.node = None;
        self.runtime.replicas.clear();
        self.runtime.ending.clear();
        self.adapter = Adapter::default();
        self.held.clear();
        self.disk.failed = false;
        self.seen = SeenGossip::default();
        self.timer = None;
        self.dies_after = None;
        self.inbox.clear();
        self.inbox.busy_until = 0;
    }

    /// How much time has passed since the daemon's next deadline, if it is overdue.
    pub fn lateness(&self, now: Time) -> Option<std::time::Duration> {
        let (due, _) = self.node.as_ref()?.poll_timeout()?;
        (due < now).then(|| now.since(due))
    }
}
