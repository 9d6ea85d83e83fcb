//! The world: a clock that jumps from event to event, and all state, drawn from one seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use shoal_protocol::model::{Digest, Facts, KeyPair, NodeId, Resources, RuntimeKind, Time};
use shoal_protocol::node::{Command, Identity, Input, Reply, RequestId};
use shoal_protocol::trust::Genesis;

use super::device::Device;
use super::disk::Disk;
use super::effects::Relay;
use super::event::Event;
use super::failovers::Failovers;
use super::invariants::Watch;
use super::meter::Meter;
use super::network::{Network, below, between};
use super::trace::Trace;

/// Delay until a kernel informs a peer that a link does not exist, microseconds.
pub(super) const CLOSE: u64 = 300;
/// Events at one instant at most; more means that a node never stops asking.
const MAX_STEPS_AT_ONCE: u64 = 20_000;

/// A reply to a user's command.
pub struct Answered {
    pub request: RequestId,
    pub reply: Reply,
}

pub struct World {
    pub now: u64,
    pub devices: Vec<Device>,
    pub network: Network,
    pub rng: ChaCha8Rng,
    pub genesis: Genesis,
    pub root: KeyPair,
    pub join: KeyPair,
    /// Capacity of each device.
    pub capacity: Resources,
    /// Duration of a disk sync, microseconds.
    pub fsync: u64,
    /// Replies to commands, in order of arrival.
    pub answers: VecDeque<Answered>,
    /// Hash of all inputs and effects: equal for two runs of one seed. It costs a third of the
    /// time, so `is_hashed` can switch it off.
    pub history: Digest,
    pub is_hashed: bool,
    /// Events handled.
    pub steps: u64,
    pub meter: Meter,
    pub(super) trace: Trace,
    pub(super) watch: Watch,
    pub(super) failovers: Failovers,
    /// Events handled at the present instant.
    steps_now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    links: u64,
    /// Devices by id; a cloned disk gives an id two devices.
    pub(super) ids: BTreeMap<NodeId, BTreeSet<usize>>,
    /// Links whose address is gone, by number.
    pub(super) dead_links: BTreeSet<u64>,
    pub(super) relays: BTreeMap<u64, Relay>,
    pub(super) tickets: u64,
    pub(super) starts: u64,
    requests: u64,
}

impl World {
    /// A world without devices.
    pub fn new(seed: u64) -> Self {
        let root = KeyPair::from_seed(&derived(seed, "root", 0));
        let join = KeyPair::from_seed(&derived(seed, "join", 0));
        World {
            now: 0,
            devices: Vec::new(),
            network: Network::default(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            genesis: Genesis { root: root.public(), join: join.public() },
            root,
            join,
            capacity: facts().capacity,
            fsync: 2_000,
            answers: VecDeque::new(),
            history: Digest::of(b""),
            is_hashed: true,
            steps: 0,
            meter: Meter::default(),
            trace: Trace::default(),
            watch: Watch::default(),
            failovers: Failovers::default(),
            steps_now: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            links: 0,
            ids: BTreeMap::new(),
            dead_links: BTreeSet::new(),
            relays: BTreeMap::new(),
            tickets: 0,
            starts: 0,
            requests: 0,
        }
    }

    /// Adds a device; its daemon is not started.
    pub fn add(&mut self) -> usize {
        let identity = self.draw_identity();
        self.insert_device(identity)
    }

    /// The present address of a device.
    pub fn address_of(&self, device: usize) -> String {
        address(device, self.devices[device].moves)
    }

    /// Whether a link carries nothing any more, because one of its ends has moved.
    pub(super) fn is_dead_link(&self, link: u64) -> bool {
        self.dead_links.contains(&link)
    }

    /// Adds a device with a copy of another one's disk, key included.
    pub fn clone_of(&mut self, device: usize) -> usize {
        let original = &self.devices[device];
        let (identity, artifacts) = (original.identity.clone(), original.artifacts.clone());
        let disk = Disk { pending: VecDeque::new(), ..original.disk.clone() };
        let twin = self.insert_device(identity);
        self.devices[twin].disk = disk;
        self.devices[twin].artifacts = artifacts;
        self.devices[twin].is_clone = true;
        self.log(twin, format!("has a copy of n{device}'s disk"));
        twin
    }

    fn insert_device(&mut self, identity: Identity) -> usize {
        let index = self.devices.len();
        let device = Device::new(format!("n{index}"), identity);
        self.ids.entry(device.id).or_default().insert(index);
        self.devices.push(device);
        index
    }

    fn draw_identity(&mut self) -> Identity {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        Identity { keys: KeyPair::from_seed(&seed), genesis: self.genesis, join: self.join.clone() }
    }

    /// Cuts one direction.
    pub fn cut_way(&mut self, (from, to): (usize, usize)) {
        self.network.cut(self.now, from, to);
    }

    /// Heals one direction. TCP either delivers what waited, or the link is reset.
    pub fn heal_way(&mut self, (from, to): (usize, usize)) {
        let late = self.network.heal(self.now, from, to, &mut self.rng);
        if below(&mut self.rng, 3) == 0
            && let Some(link) = self.devices[from].links.get(&to).copied()
        {
            self.schedule(self.now + CLOSE, Event::Closed { device: from, peer: to, link });
            self.schedule(self.now + CLOSE, Event::Closed { device: to, peer: from, link });
            return;
        }
        for (at, packet) in late {
            self.schedule(at, packet);
        }
    }

    /// Cuts or heals all ways between two groups.
    pub fn partition(&mut self, ones: &[usize], others: &[usize], cut: bool) {
        for way in between(&ones.iter().copied().collect(), &others.iter().copied().collect()) {
            if cut { self.cut_way(way) } else { self.heal_way(way) }
        }
    }

    /// Makes a link. It replaces a link that only one side still has, or one to the other device of
    /// a cloned key.
    pub(super) fn link(&mut self, one: usize, other: usize) {
        self.links += 1;
        let link = self.links;
        for (device, peer) in [(one, other), (other, one)] {
            let twins = self.ids.get(&self.devices[peer].id).cloned().unwrap_or_default();
            for old in twins {
                if let Some(&link) = self.devices[device].links.get(&old) {
                    self.schedule(
                        self.now + CLOSE,
                        Event::Closed { device: old, peer: device, link },
                    );
                    self.unlinked(device, old);
                }
            }
        }
        self.network.begin(one, other);
        self.devices[one].links.insert(other, link);
        self.devices[other].links.insert(one, link);
        self.hash_event(one, "link up");
        self.log(one, format!("link to n{other} is up"));
        let (one_id, other_id) = (self.devices[one].id, self.devices[other].id);
        self.input(one, Input::LinkUp { peer: other_id });
        self.input(other, Input::LinkUp { peer: one_id });
    }

    /// Removes a link at one device, and informs its daemon.
    pub(super) fn unlinked(&mut self, device: usize, peer: usize) {
        if self.devices[device].links.remove(&peer).is_some() {
            self.hash_event(device, "link down");
            self.log(device, format!("link to n{peer} is gone"));
            let peer = self.devices[peer].id;
            self.input(device, Input::LinkDown { peer });
        }
    }

    /// Sends a command to a device's daemon; none if none runs.
    pub fn command(&mut self, device: usize, command: Command) -> Option<RequestId> {
        self.node(device)?;
        self.requests += 1;
        let request = RequestId(self.requests);
        self.input(device, Input::Command { request, command });
        Some(request)
    }

    /// Runs the world until `until` (microseconds), and checks the invariants after each step.
    pub fn run_until(&mut self, until: u64) -> Result<(), String> {
        while let Some((&(at, _), _)) = self.queue.first_key_value() {
            if at > until {
                break;
            }
            let ((at, _), event) = self.queue.pop_first().expect("it was just seen");
            self.steps_now = if at == self.now { self.steps_now + 1 } else { 0 };
            if self.steps_now > MAX_STEPS_AT_ONCE.max(100 * self.devices.len() as u64) {
                let steps = self.steps_now;
                return Err(format!(
                    "time stands still: {steps} steps without end\n{}",
                    self.report()
                ));
            }
            self.sample_health(at);
            self.now = at;
            let is_wake = matches!(event, Event::Wake { .. });
            if let Some(device) = event.device().filter(|_| !is_wake) {
                let inbox = &mut self.devices[device].inbox;
                if inbox.busy_until > at || !inbox.is_empty() {
                    inbox.defer(event);
                    continue;
                }
            }
            self.steps += 1;
            if let Some(device) = self.handle(event) {
                self.stay_busy(device);
                self.after_step(device)?;
            }
        }
        self.now = until;
        Ok(())
    }

    /// Runs the world for a while.
    pub fn run_for(&mut self, after: Duration) -> Result<(), String> {
        self.run_until(self.now + after.as_micros() as u64)
    }

    /// Runs the world until `done`; an error if that takes longer than `within`. `done` is checked
    /// every 10 ms, less often in a large world, where a check is expensive.
    pub fn run_till(
        &mut self,
        within: Duration,
        what: &str,
        done: impl Fn(&World) -> bool,
    ) -> Result<(), String> {
        let end = self.now + within.as_micros() as u64;
        let pause = 10_000 * (self.devices.len() as u64).div_ceil(20);
        while !done(self) {
            if self.now >= end {
                return Err(format!("not within {within:?}: {what}\n{}", self.report()));
            }
            self.run_until(self.now + pause)?;
        }
        Ok(())
    }

    /// Devices whose daemon runs.
    pub fn running(&self) -> Vec<usize> {
        (0..self.devices.len()).filter(|index| self.node(*index).is_some()).collect()
    }

    /// Gives a daemon an input and carries out its effects.
    pub fn input(&mut self, device: usize, input: Input) {
        let now = self.local_time(device);
        if let Some(node) = &mut self.devices[device].node {
            node.handle(now, input);
            self.drain(device);
        }
    }

    pub(super) fn schedule(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), event);
    }

    pub(super) fn alive(&self, device: usize, boot: u32) -> Option<()> {
        let it = &self.devices[device];
        (it.boot == boot && it.node.is_some()).then_some(())
    }

    pub(super) fn local_time(&self, device: usize) -> Time {
        self.devices[device].clock.running(self.now)
    }
}

/// Facts of every simulated device: the same small computer.
pub fn facts() -> Facts {
    Facts {
        arch: "x86_64".into(),
        runtimes: [RuntimeKind::Wasm].into(),
        labels: BTreeMap::new(),
        capacity: Resources { memory: 1 << 30, cpu: 4_000 },
    }
}

/// The address of a device that has moved this often.
pub(super) fn address(device: usize, moves: u32) -> String {
    match moves {
        0 => format!("/memory/{}", device + 1),
        _ => format!("/memory/{}/{moves}", device + 1),
    }
}

/// The device at an address, and its move count there.
pub(super) fn index_of(address: &str) -> Option<(usize, u32)> {
    let address = address.strip_prefix("/memory/")?;
    let (device, moves) = address.split_once('/').unwrap_or((address, "0"));
    Some((device.parse::<usize>().ok()?.checked_sub(1)?, moves.parse().ok()?))
}

/// A secret derived from the seed.
pub fn derived(seed: u64, what: &str, number: u64) -> [u8; 32] {
    Digest::of_parts(&[&seed.to_be_bytes(), &number.to_be_bytes(), what.as_bytes()]).0
}
