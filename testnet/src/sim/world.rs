//! The world: a clock that jumps from happening to happening, and everything that happens in it, drawn from one seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use shoal_protocol::model::{Digest, Facts, KeyPair, Lane, NodeId, Resources, RuntimeKind, Time};
use shoal_protocol::node::{Command, Config, Identity, Input, Node, Reply, RequestId};
use shoal_protocol::trust::Genesis;

use super::device::Device;
use super::disk::Disk;
use super::effects::Relay;
use super::failovers::Failovers;
use super::happening::Happening;
use super::invariants::Watch;
use super::meter::Meter;
use super::network::{Network, below, between};
use super::telling::Telling;

/// How long the kernel takes to tell a peer that there is no such link, microseconds.
pub(super) const CLOSE: u64 = 300;
/// Steps in one instant; a node that asks for more asks for ever.
const MAX_STANDSTILL: u64 = 20_000;

/// What a user was answered.
pub struct Answered {
    pub request: RequestId,
    pub reply: Reply,
}

/// The world.
pub struct World {
    pub now: u64,
    pub devices: Vec<Device>,
    pub network: Network,
    pub rng: ChaCha8Rng,
    pub genesis: Genesis,
    pub root: KeyPair,
    pub join: KeyPair,
    /// How long a disk takes to sync, microseconds.
    pub fsync: u64,
    /// Answers to commands, in the order they came.
    pub answers: VecDeque<Answered>,
    /// Everything that was done, hashed: two runs of one seed have the same. Costs a third of the time, so it can be left out.
    pub history: Digest,
    pub is_hashed: bool,
    /// Steps so far.
    pub steps: u64,
    pub meter: Meter,
    pub(super) telling: Telling,
    pub(super) watch: Watch,
    pub(super) failovers: Failovers,
    /// Steps since time last went on.
    standstill: u64,
    agenda: BTreeMap<(u64, u64), Happening>,
    sequence: u64,
    links: u64,
    /// More than one device an id where a disk was cloned.
    pub(super) ids: BTreeMap<NodeId, BTreeSet<usize>>,
    pub(super) relays: BTreeMap<u64, Relay>,
    pub(super) tickets: u64,
    pub(super) starts: u64,
    requests: u64,
}

impl World {
    /// An empty world.
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
            fsync: 2_000,
            answers: VecDeque::new(),
            history: Digest::of(b""),
            is_hashed: true,
            steps: 0,
            meter: Meter::default(),
            telling: Telling::default(),
            watch: Watch::default(),
            failovers: Failovers::default(),
            standstill: 0,
            agenda: BTreeMap::new(),
            sequence: 0,
            links: 0,
            ids: BTreeMap::new(),
            relays: BTreeMap::new(),
            tickets: 0,
            starts: 0,
            requests: 0,
        }
    }

    /// Adds a device, its daemon not started.
    pub fn add(&mut self) -> usize {
        let identity = self.draw_identity();
        self.place(identity)
    }

    /// Adds a device with another one's disk, key and all.
    pub fn clone_of(&mut self, device: usize) -> usize {
        let original = &self.devices[device];
        let (identity, artifacts) = (original.identity.clone(), original.artifacts.clone());
        let disk = Disk { pending: VecDeque::new(), ..original.disk.clone() };
        let twin = self.place(identity);
        self.devices[twin].disk = disk;
        self.devices[twin].artifacts = artifacts;
        self.devices[twin].is_clone = true;
        self.say(twin, format!("has a copy of n{device}'s disk"));
        twin
    }

    fn place(&mut self, identity: Identity) -> usize {
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

    /// Starts a device's daemon. The first of a cluster is its founder; others are told of seeds, once. A daemon whose disk takes no
    /// writes does not start.
    pub fn start(&mut self, device: usize, founder: bool, seeds: &[usize]) {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        if !seeds.is_empty() {
            self.devices[device].seeds = seeds.to_vec();
        }
        let config = self.config(device, founder);
        let now = self.now;
        let it = &mut self.devices[device];
        assert!(it.node.is_none(), "n{device} runs already");
        it.is_on = true;
        if it.disk.full {
            return self.say(device, "does not start: its disk is full");
        }
        it.boot += 1;
        it.clock.restart(now);
        it.forget_process();
        it.links.clear();
        let wall = it.clock.wall(now);
        let node = Node::new(config, it.identity.clone(), it.disk.load(), facts(), wall, seed, Time::ZERO);
        it.node = Some(node);
        self.note(device, "start");
        self.say(device, if founder { "starts, and founds the cluster" } else { "starts" });
        self.watch_disk(device);
        self.drain(device);
    }

    pub(super) fn config(&self, device: usize, founder: bool) -> Config {
        Config {
            name: format!("n{device}"),
            addresses: vec![address(device)],
            seeds: self.devices[device].seeds.iter().map(|seed| address(*seed)).collect(),
            version: "0".into(),
            founder,
            ..Config::default()
        }
    }

    /// kill -9: peers see their links close.
    pub fn kill(&mut self, device: usize) {
        self.stop(device, true);
    }

    /// The plug is pulled: peers see nothing any more.
    pub fn unplug(&mut self, device: usize) {
        self.stop(device, false);
        self.devices[device].is_on = false;
    }

    /// The daemon stops on purpose: it says so, and that it hopes to be back.
    pub fn leave(&mut self, device: usize, back_in: Duration) {
        self.input(device, Input::Goodbye { back_in });
        self.stop(device, true);
    }

    fn stop(&mut self, device: usize, told: bool) {
        if self.node(device).is_none() {
            return;
        }
        self.say(device, if told { "is killed" } else { "is unplugged" });
        self.note(device, if told { "kill" } else { "unplug" });
        // What was on its way to the disk may have got there.
        let pending = self.devices[device].disk.pending.len() as u64;
        let (kept, full) = (below(&mut self.rng, pending + 1), self.devices[device].disk.full);
        for _ in 0..if full { 0 } else { kept } {
            self.watch_commit(device);
            self.devices[device].disk.commit();
        }
        let it = &mut self.devices[device];
        it.disk.pending.clear();
        it.forget_process();
        let links = std::mem::take(&mut it.links);
        for (peer, link) in links {
            if told && self.network.leads(device, peer) {
                // Its kernel sends what it was given and then closes, or resets if something lies unread.
                let in_order = below(&mut self.rng, 2) == 0;
                let at = self.network.stream(self.now, device, peer, Lane::Urgent, &mut self.rng);
                let at = if in_order { at } else { self.now + CLOSE };
                self.at(at, Happening::Closed { device: peer, peer: device, link });
            }
        }
        self.watch_disk(device);
    }

    /// The device loses its disk, and joins anew as somebody else: as another device of this world, this one never returns.
    pub fn lose_disk(&mut self, device: usize, seeds: &[usize]) {
        self.kill(device);
        let anew = self.add();
        self.say(device, format!("has lost its disk, and joins anew as n{anew}"));
        self.start(anew, false, seeds);
    }

    /// The device does nothing for a while; its kernel takes what comes.
    pub fn pause(&mut self, device: usize, micros: u64) {
        let (until, boot) = (self.now + micros, self.devices[device].boot);
        self.devices[device].pulse.busy_until = until;
        self.at(until, Happening::Wake { device, boot });
    }

    /// The device sleeps, and so does its network.
    pub fn suspend(&mut self, device: usize, micros: u64) {
        let others = (0..self.devices.len()).collect();
        let cut: Vec<_> = between(&BTreeSet::from([device]), &others)
            .into_iter()
            .filter(|(from, to)| self.network.leads(*from, *to))
            .collect();
        cut.iter().for_each(|way| self.cut_way(*way));
        self.at(self.now + micros, Happening::Back { device, cut });
        self.pause(device, micros);
    }

    /// Nothing gets through that way any more.
    pub fn cut_way(&mut self, (from, to): (usize, usize)) {
        self.network.cut(self.now, from, to);
    }

    /// It does again. What TCP was given meanwhile arrives now, or the link is reset.
    pub fn heal_way(&mut self, (from, to): (usize, usize)) {
        let late = self.network.heal(self.now, from, to, &mut self.rng);
        if below(&mut self.rng, 3) == 0
            && let Some(link) = self.devices[from].links.get(&to).copied()
        {
            self.at(self.now + CLOSE, Happening::Closed { device: from, peer: to, link });
            self.at(self.now + CLOSE, Happening::Closed { device: to, peer: from, link });
            return;
        }
        for (at, packet) in late {
            self.at(at, packet);
        }
    }

    /// Cuts or heals every way between two groups.
    pub fn partition(&mut self, ones: &[usize], others: &[usize], cut: bool) {
        for way in between(&ones.iter().copied().collect(), &others.iter().copied().collect()) {
            if cut { self.cut_way(way) } else { self.heal_way(way) }
        }
    }

    /// A link comes about. One that only one side still believes in, or that leads to a cloned disk's other device, gives way.
    pub(super) fn link(&mut self, one: usize, other: usize) {
        self.links += 1;
        let link = self.links;
        for (device, peer) in [(one, other), (other, one)] {
            let twins = self.ids.get(&self.devices[peer].id).cloned().unwrap_or_default();
            for old in twins {
                if let Some(&link) = self.devices[device].links.get(&old) {
                    self.at(self.now + CLOSE, Happening::Closed { device: old, peer: device, link });
                    self.unlinked(device, old);
                }
            }
        }
        self.network.begin(one, other);
        self.devices[one].links.insert(other, link);
        self.devices[other].links.insert(one, link);
        self.note(one, "link up");
        self.say(one, format!("link to n{other} is up"));
        let (one_id, other_id) = (self.devices[one].id, self.devices[other].id);
        self.input(one, Input::LinkUp { peer: other_id });
        self.input(other, Input::LinkUp { peer: one_id });
    }

    /// A device learns that a link is gone.
    pub(super) fn unlinked(&mut self, device: usize, peer: usize) {
        if self.devices[device].links.remove(&peer).is_some() {
            self.note(device, "link down");
            self.say(device, format!("link to n{peer} is gone"));
            let peer = self.devices[peer].id;
            self.input(device, Input::LinkDown { peer });
        }
    }

    /// A user talks to a device's daemon. None if none runs.
    pub fn command(&mut self, device: usize, command: Command) -> Option<RequestId> {
        self.node(device)?;
        self.requests += 1;
        let request = RequestId(self.requests);
        self.input(device, Input::Command { request, command });
        Some(request)
    }

    /// Lets the world go on until `until` (microseconds), checking what must always hold after each step.
    pub fn run_until(&mut self, until: u64) -> Result<(), String> {
        while let Some((&(at, _), _)) = self.agenda.first_key_value() {
            if at > until {
                break;
            }
            let ((at, _), happening) = self.agenda.pop_first().expect("it was just seen");
            self.standstill = if at == self.now { self.standstill + 1 } else { 0 };
            if self.standstill > MAX_STANDSTILL.max(100 * self.devices.len() as u64) {
                let steps = self.standstill;
                return Err(format!("time stands still: {steps} steps without end\n{}", self.report()));
            }
            self.look_who_is_well(at);
            self.now = at;
            let is_wake = matches!(happening, Happening::Wake { .. });
            if let Some(device) = happening.device().filter(|_| !is_wake) {
                let pulse = &mut self.devices[device].pulse;
                if pulse.busy_until > at || !pulse.backlog.is_empty() {
                    pulse.put_off(happening);
                    continue;
                }
            }
            self.steps += 1;
            if let Some(device) = self.happen(happening) {
                self.tire(device);
                self.after_step(device)?;
            }
        }
        self.now = until;
        Ok(())
    }

    /// Lets the world go on for a while.
    pub fn run_for(&mut self, after: Duration) -> Result<(), String> {
        self.run_until(self.now + after.as_micros() as u64)
    }

    /// Lets the world go on until `done`; an error if that takes more than `within`. It looks every 10 ms, in a large world less often:
    /// a look costs as much as there are nodes.
    pub fn run_till(&mut self, within: Duration, what: &str, done: impl Fn(&World) -> bool) -> Result<(), String> {
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

    /// Gives a daemon an input and does what it asks for.
    pub fn input(&mut self, device: usize, input: Input) {
        let now = self.local(device);
        if let Some(node) = &mut self.devices[device].node {
            node.handle(now, input);
            self.drain(device);
        }
    }

    pub(super) fn at(&mut self, at: u64, happening: Happening) {
        self.sequence += 1;
        self.agenda.insert((at, self.sequence), happening);
    }

    pub(super) fn alive(&self, device: usize, boot: u32) -> Option<()> {
        let it = &self.devices[device];
        (it.boot == boot && it.node.is_some()).then_some(())
    }

    pub(super) fn local(&self, device: usize) -> Time {
        self.devices[device].clock.running(self.now)
    }
}

/// Every simulated device is the same small computer.
pub fn facts() -> Facts {
    Facts {
        arch: "x86_64".into(),
        runtimes: [RuntimeKind::Wasm].into(),
        labels: BTreeMap::new(),
        capacity: Resources { memory: 1 << 30, cpu: 4_000 },
    }
}

pub(super) fn address(device: usize) -> String {
    format!("/memory/{}", device + 1)
}

pub(super) fn index_of(address: &str) -> Option<usize> {
    address.strip_prefix("/memory/")?.parse::<usize>().ok()?.checked_sub(1)
}

/// A secret that belongs to this seed alone.
pub fn derived(seed: u64, what: &str, number: u64) -> [u8; 32] {
    Digest::of_parts(&[&seed.to_be_bytes(), &number.to_be_bytes(), what.as_bytes()]).0
}
