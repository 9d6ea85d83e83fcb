//! The state of a simulated cluster. Nothing here gives a daemon an input or carries out effects:
//! the modules that do so know `World`, not the other way round.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use shoal_protocol::model::{
    Amounts, Digest, Facts, KeyPair, NodeId, ProgramKind, ReplicaId, Resources, Time,
};
use shoal_protocol::node::{Admittance, Identity, Node, Reply, RequestId};
use shoal_protocol::trust::Genesis;

use super::device::Device;
use super::disk::Disk;
use super::event::{Event, Queue};
use super::failovers::Failovers;
use super::meter::Meter;
use super::network::{Network, below, between};
use super::rights;
use super::rumour::Relay;
use super::trace::Trace;
use super::watch::Watch;

/// Delay until a kernel informs a peer that a link does not exist, microseconds.
pub(super) const CLOSE: u64 = 300;

/// A reply to a user's command.
pub struct Answered {
    pub request: RequestId,
    pub reply: Reply,
}

/// All state of a simulated cluster.
pub struct World {
    /// Time, microseconds.
    pub now: u64,
    pub devices: Vec<Device>,
    pub network: Network,
    pub rng: ChaCha8Rng,
    pub genesis: Genesis,
    pub root: KeyPair,
    /// The invite with which devices join: for many, and without an end that comes.
    pub invite: Admittance,
    /// Capacity of each device.
    pub capacity: Resources,
    /// What each device offers beside memory and CPU.
    pub offers: Amounts,
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
    pub(super) steps_now: u64,
    pub(super) queue: Queue,
    /// The last number that was given to a link; the same for tickets, starts and requests below.
    pub(super) links: u64,
    /// Devices by id; a cloned disk gives an id two devices.
    pub(super) ids: BTreeMap<NodeId, BTreeSet<usize>>,
    /// Links whose address is gone, by number.
    pub(super) dead_links: BTreeSet<u64>,
    /// Gossip that waits for a verdict, by ticket.
    pub(super) relays: BTreeMap<u64, Relay>,
    pub(super) tickets: u64,
    pub(super) starts: u64,
    /// Ends of programs of jobs, in order: the device, the replica and its revision.
    pub ends: Vec<(usize, ReplicaId, Digest)>,
    pub(super) requests: u64,
}

impl World {
    /// A world without devices.
    pub fn new(seed: u64) -> Self {
        let root = KeyPair::from_seed(&derived(seed, "root", 0));
        let genesis = Genesis { root: root.public() };
        World {
            now: 0,
            devices: Vec::new(),
            network: Network::default(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            genesis,
            invite: rights::invite(&genesis, &root, seed),
            root,
            capacity: facts().capacity,
            offers: Amounts::default(),
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
            queue: Queue::default(),
            links: 0,
            ids: BTreeMap::new(),
            dead_links: BTreeSet::new(),
            relays: BTreeMap::new(),
            tickets: 0,
            starts: 0,
            ends: Vec::new(),
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
        let keys = KeyPair::from_seed(&seed);
        Identity { keys, genesis: self.genesis, invite: Some(self.invite.clone()) }
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

    /// Devices whose daemon runs, without those that were revoked.
    pub fn running(&self) -> Vec<usize> {
        let runs = |index: &usize| self.node(*index).is_some() && !self.devices[*index].is_revoked;
        (0..self.devices.len()).filter(runs).collect()
    }

    /// The devices of [`World::running`] that do not lie.
    pub fn honest(&self) -> Vec<usize> {
        let mut running = self.running();
        running.retain(|index| self.devices[*index].liar.is_none());
        running
    }

    /// The device that lies, if one does.
    pub fn liar(&self) -> Option<usize> {
        self.devices.iter().position(|it| it.liar.is_some())
    }

    pub(super) fn schedule(&mut self, at: u64, event: Event) {
        self.queue.push(at, event);
    }

    /// Some if the daemon still runs that was started as `boot`.
    pub(super) fn alive(&self, device: usize, boot: u32) -> Option<()> {
        let it = &self.devices[device];
        (it.boot == boot && it.node.is_some()).then_some(())
    }

    pub(super) fn local_time(&self, device: usize) -> Time {
        self.devices[device].clock.running(self.now)
    }

    /// Whether any device is a clone. The two devices of one key keep others busy with records.
    pub fn has_clones(&self) -> bool {
        self.devices.iter().any(|device| device.is_clone)
    }

    /// Whether every running node knows this device as a member.
    pub fn is_known_to_all(&self, device: usize) -> bool {
        let id = self.devices[device].id;
        self.honest().into_iter().filter_map(|it| self.node(it)).all(|node| node.is_member(&id))
    }

    /// Whether no other remaining device could admit a new member.
    pub fn is_last_member(&self, device: usize) -> bool {
        let stays = |(_, it): &(usize, &Device)| it.is_member && it.remains();
        self.devices.iter().enumerate().filter(stays).all(|(other, _)| other == device)
    }

    /// Whether at least three other devices remain that are members.
    pub fn has_others(&self, device: usize) -> bool {
        let stays =
            |(other, it): &(usize, &Device)| *other != device && it.is_member && it.remains();
        self.devices.iter().enumerate().filter(stays).count() >= 3
    }

    /// Whether another device has the same key.
    pub fn is_cloned(&self, device: usize) -> bool {
        self.ids.get(&self.devices[device].id).is_some_and(|twins| twins.len() > 1)
    }

    /// The core of a device's daemon, if it runs.
    pub fn node(&self, device: usize) -> Option<&Node> {
        self.devices[device].node.as_ref()
    }

    /// Clears all counts and starts counting.
    pub fn measure(&mut self) {
        self.meter.reset(self.devices.len());
    }

    /// Forgets all counts and notes the events of nodes from now on, without counting messages.
    pub fn observe(&mut self) {
        self.meter.reset_to_events();
    }

    /// Adds an input to the history's hash.
    pub(super) fn hash_event(&mut self, device: usize, what: &str) {
        if self.is_hashed {
            let line = format!("{} {} {what}", self.now, device);
            self.history = Digest::of_parts(&[self.history.as_bytes(), line.as_bytes()]);
        }
    }

    /// Adds a line about a device to the trace.
    pub fn log(&mut self, device: usize, what: impl AsRef<str>) {
        self.trace.push(self.now, device, what.as_ref().to_owned());
    }
}

/// Facts of every simulated device: the same small computer.
pub fn facts() -> Facts {
    Facts {
        arch: "x86_64".into(),
        runtimes: [ProgramKind::Wasm, ProgramKind::Container].into(),
        labels: BTreeMap::new(),
        capacity: Resources { memory: 1 << 30, cpu: 4_000 },
        ..Facts::default()
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
