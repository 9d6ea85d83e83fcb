//! A device: the real core, a disk that loses pending writes, and a runtime for one replica.

use std::collections::{BTreeMap, VecDeque};

use shoal_protocol::claims::awarded_under;
use shoal_protocol::model::{
    Claim, Digest, NodeId, RawChange, ReplicaId, Ruling, Slot, Time, Token, Unverified, WallClock,
};
use shoal_protocol::node::{Action, Input, Node, OldVersion, Order, PersistId, Record, Saved};

use super::digest;

/// The wall clock of every device: it decides nothing.
const WALL: WallClock = WallClock(1_800_000_000_000);

/// A device. `node` is set while its daemon runs.
#[derive(Clone)]
pub struct Device {
    pub node: Option<Node>,
    pub disk: Disk,
    /// Actions that wait for the disk, in order.
    held: VecDeque<(PersistId, Action)>,
    /// The replica that was ordered, running or still starting.
    pub runtime: Option<Running>,
    /// The slots of this node's sheet that it last announced.
    told_slots: BTreeMap<u8, Unverified<Slot>>,
    /// When the core last received the wall clock.
    wall_set_at: Option<Time>,
}

#[derive(Clone, Debug)]
pub struct Running {
    pub replica: ReplicaId,
    pub generation: Digest,
    pub healthy: bool,
    /// The generation that serves until this one is healthy.
    pub old: Option<Digest>,
}

/// Durable records and pending writes.
#[derive(Clone, Default)]
pub struct Disk {
    pub incarnation: u64,
    changes: BTreeMap<Digest, Vec<RawChange>>,
    slots: BTreeMap<(NodeId, u8), Unverified<Slot>>,
    rulings: BTreeMap<Digest, Unverified<Ruling>>,
    old_versions: BTreeMap<(Digest, Digest), OldVersion>,
    pending: VecDeque<(PersistId, Vec<Record>)>,
    stored: u64,
}

impl Device {
    /// A device without a daemon, with these changes on its disk.
    pub fn new(changes: &[(Digest, RawChange)]) -> Self {
        let changes = changes.iter().map(|(key, change)| (*key, vec![change.clone()])).collect();
        let disk = Disk { changes, ..Disk::default() };
        Device {
            node: None,
            disk,
            held: VecDeque::new(),
            runtime: None,
            told_slots: BTreeMap::new(),
            wall_set_at: None,
        }
    }

    /// Starts the daemon that `boot` makes of the records on disk.
    pub fn start(&mut self, now: Time, boot: impl FnOnce(Saved, WallClock) -> Node) -> Vec<Action> {
        self.disk.incarnation += 1;
        let disk = &mut self.disk;
        let saved = Saved {
            incarnation: disk.incarnation,
            changes: disk.changes.values().flatten().cloned().collect(),
            slots: disk.slots.iter().map(|((node, _), slot)| (*node, slot.clone())).collect(),
            rulings: disk.rulings.values().cloned().collect(),
            old_versions: (disk.old_versions.iter())
                .map(|((uid, generation), old)| (*uid, *generation, old.clone()))
                .collect(),
            ..Saved::default()
        };
        disk.stored = 0;
        self.node = Some(boot(saved, WALL));
        self.wall_set_at = Some(now);
        self.let_work(now, |_| {})
    }

    /// Cuts the power: everything that is not durable is lost.
    pub fn crash(&mut self) {
        (self.node, self.runtime) = (None, None);
        (self.held, self.told_slots) = (VecDeque::new(), BTreeMap::new());
        self.disk.pending.clear();
    }

    /// Gives the core an input. Returns the actions that need not wait for the disk.
    pub fn input(&mut self, now: Time, input: Input) -> Vec<Action> {
        self.let_work(now, |node| node.handle(now, input))
    }

    /// Lets the core handle its due timers.
    pub fn timeout(&mut self, now: Time) -> Vec<Action> {
        self.let_work(now, |node| node.handle_timeout(now))
    }

    fn let_work(&mut self, now: Time, work: impl FnOnce(&mut Node)) -> Vec<Action> {
        self.set_wall(now);
        let Some(node) = &mut self.node else { return Vec::new() };
        work(node);
        let mut actions = self.drain();
        // When desired state becomes durable is no part of these laws, so it is at once.
        let at_once = |(_, records): &(PersistId, Vec<Record>)| {
            records.iter().all(|record| !is_relevant(record))
        };
        while self.disk.pending.front().is_some_and(at_once) {
            actions.extend(self.store(now));
        }
        actions
    }

    /// Makes the oldest batch durable.
    pub fn store(&mut self, now: Time) -> Vec<Action> {
        let Some((id, records)) = self.disk.pending.pop_front() else { return Vec::new() };
        records.into_iter().for_each(|record| self.disk.write(record));
        self.disk.stored = id.0;
        let mut actions = self.input(now, Input::Stored { upto: id });
        while self.held.front().is_some_and(|(batch, _)| *batch <= id) {
            actions.extend(self.held.pop_front().map(|(_, action)| action));
        }
        actions
    }

    pub fn is_storing(&self) -> bool {
        !self.disk.pending.is_empty()
    }

    pub fn order(&mut self, order: Order) {
        // Old versions do not fail here.
        if let Order::Again { .. } = order {
            return;
        }
        self.runtime = match order {
            Order::Run { replica, generation, .. } => {
                let before = self.runtime.as_ref().filter(|it| it.replica == replica);
                let serves =
                    before.and_then(|it| if it.healthy { Some(it.generation) } else { it.old });
                let old = serves.filter(|old| *old != generation);
                Some(Running { replica, generation, healthy: false, old })
            }
            Order::Stop { .. } | Order::Again { .. } => None,
        };
    }

    /// The node's own claim, while its daemon runs.
    pub fn claim(&self) -> Option<&Claim> {
        self.node.as_ref()?.own_claims().next()
    }

    /// The slots that any peer may have received from this node.
    pub fn told_slots(&self) -> impl Iterator<Item = &Unverified<Slot>> {
        self.told_slots.values()
    }

    pub fn note_told(&mut self, slot: Unverified<Slot>) {
        let issue = |slot: &Unverified<Slot>| slot.peek().map(|slot| (slot.slot, slot.counter));
        let new = issue(&slot).expect("the core says what it can read");
        // An older slot that waited for the disk may be announced after a newer one.
        let known = self.told_slots.get(&new.0).and_then(|known| issue(known).ok());
        if known < Some(new) {
            self.told_slots.insert(new.0, slot);
        }
    }

    /// Whether a power cut now would leave a claim under this award.
    pub fn has_on_disk(&self, me: NodeId, award: Token) -> bool {
        let mine = self.disk.slots.iter().filter(|((node, _), _)| *node == me);
        let mut claims = mine.filter_map(|(_, slot)| slot.peek().ok()).flat_map(|slot| slot.claims);
        claims.any(|claim| awarded_under(&claim) == award)
    }

    /// A hash of everything that decides the device's future, as seen at `now`.
    pub fn digest(&self, now: Time) -> u64 {
        let Disk { incarnation, changes: _, slots, rulings, old_versions, pending, stored } =
            &self.disk;
        let pending: Vec<_> =
            pending.iter().map(|(id, records)| (id, slot_records(records))).collect();
        let due = self.node.as_ref().and_then(Node::poll_timeout);
        let text = format!(
            "{:?}",
            (
                &self.node,
                due,
                incarnation,
                slots,
                rulings,
                old_versions,
                pending,
                &self.held,
                &self.runtime,
                &self.told_slots
            )
        );
        digest::of_text(&text, now, *stored)
    }

    /// Sets the wall clock to the same value each time, so that its progress makes no new state.
    fn set_wall(&mut self, now: Time) {
        if self.wall_set_at == Some(now) {
            return;
        }
        self.wall_set_at = Some(now);
        if let Some(node) = &mut self.node {
            node.handle(now, Input::WallClock(WALL));
        }
    }

    /// Takes the core's effects: writes go to the disk, actions that depend on them are held.
    fn drain(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(effect) = self.node.as_mut().and_then(Node::poll_effect) {
            match (effect.after, effect.action) {
                (_, Action::Persist { id, records }) => self.disk.pending.push_back((id, records)),
                (Some(batch), action) => self.held.push_back((batch, action)),
                (None, action) => actions.push(action),
            }
        }
        actions
    }
}

impl Disk {
    fn write(&mut self, record: Record) {
        match record {
            Record::Incarnation(incarnation) => self.incarnation = incarnation,
            Record::Desired { key, changes } => _ = self.changes.insert(key, changes),
            Record::Slot { node, slot } => {
                let number = slot.peek().expect("the core persists what it can read").slot;
                self.slots.insert((node, number), slot);
            }
            // Records of other nodes are exchanged at each start.
            Record::Node { .. } => {}
            Record::Ruling { key, ruling } => _ = self.rulings.insert(key, ruling),
            Record::NoRuling { key } => _ = self.rulings.remove(&key),
            Record::OldVersion { uid, generation, version } => match version {
                Some(version) => _ = self.old_versions.insert((uid, generation), version),
                None => _ = self.old_versions.remove(&(uid, generation)),
            },
        }
    }
}

fn slot_records(records: &[Record]) -> Vec<String> {
    records
        .iter()
        .filter(|record| is_relevant(record))
        .map(|record| format!("{record:?}"))
        .collect()
}

fn is_relevant(record: &Record) -> bool {
    matches!(record, Record::Incarnation(_) | Record::Slot { .. })
}
