//! The world: a clock that jumps from happening to happening, and everything that happens in it, drawn from one seed.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use shoal_protocol::model::{Digest, Facts, KeyPair, NodeId, Resources, RuntimeKind, Time, WallClock, codec};
use shoal_protocol::node::{
    Action, Command, Config, DialFailure, DialTarget, Effect, FetchOutcome, Identity, Input, Message, Node, Order,
    PersistId, ReplicaState, Reply, Report, RequestId, Ticket, Verdict,
};
use shoal_protocol::trust::Genesis;
use shoal_protocol::wire;

use super::device::{Device, Disk, Running, Runtime};
use super::network::{Gossip, Network, below};

/// 2026-01-01, in milliseconds: what honest clocks say at the world's zero.
const EPOCH: u64 = 1_767_225_600_000;
/// How long the kernel takes to tell a peer that a process is gone, microseconds.
const CLOSE: u64 = 300;
/// How long a dial waits for an answer, microseconds.
const DIAL_TIMEOUT: u64 = 2_000_000;
/// Steps in one instant; a node that asks for more asks for ever.
const MAX_STANDSTILL: u64 = 20_000;

/// Events in a report: enough to see what led to a failure.
const EVENTS: usize = 200;

/// What lies ahead.
enum Happening {
    /// A timer that a daemon set.
    Timer { device: usize, boot: u32 },
    /// A message arrives over a link.
    Message { from: usize, to: usize, boot: u32, message: Message },
    /// A gossip message arrives.
    Gossip { from: usize, to: usize, id: Digest, message: Message },
    /// A dial has ended.
    Dialled { device: usize, boot: u32, target: DialTarget, peer: Option<usize> },
    /// A device learns that a link is gone.
    Closed { device: usize, boot: u32, peer: usize },
    /// The disk is done with a batch.
    Synced { device: usize, boot: u32 },
    /// A replica has started.
    Started { device: usize, boot: u32, replica: shoal_protocol::model::ReplicaId, start: u64 },
    /// A fetch has ended.
    Fetched { device: usize, boot: u32, digest: Digest, found: bool },
}

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
    /// Everything that was done, hashed: two runs of one seed have the same.
    pub history: Digest,
    /// What nodes told people and what befell them, the last `max_events` of it: when, and what.
    events: VecDeque<(u64, String)>,
    max_events: usize,
    /// Steps so far.
    pub steps: u64,
    /// Steps since time last went on.
    standstill: u64,
    agenda: BTreeMap<(u64, u64), Happening>,
    sequence: u64,
    ids: BTreeMap<NodeId, usize>,
    relays: BTreeMap<u64, (usize, usize, Digest, Message)>,
    tickets: u64,
    requests: u64,
    starts: u64,
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
            events: VecDeque::new(),
            max_events: EVENTS,
            steps: 0,
            standstill: 0,
            agenda: BTreeMap::new(),
            sequence: 0,
            ids: BTreeMap::new(),
            relays: BTreeMap::new(),
            tickets: 0,
            requests: 0,
            starts: 0,
        }
    }

    /// Adds a device, switched off.
    pub fn add(&mut self) -> usize {
        let index = self.devices.len();
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let keys = KeyPair::from_seed(&seed);
        let id = NodeId(keys.public().0);
        self.ids.insert(id, index);
        self.devices.push(Device {
            id,
            name: format!("n{index}"),
            identity: Identity { keys, genesis: self.genesis, join: self.join.clone() },
            node: None,
            boot: 0,
            started: 0,
            clock_skew: 0,
            disk: Disk::default(),
            runtime: Runtime::default(),
            artifacts: Default::default(),
            links: Default::default(),
            held: VecDeque::new(),
            timer: None,
            seen: VecDeque::new(),
        });
        index
    }

    /// Starts a device's daemon. The first of a cluster is its founder; others are told of a seed.
    pub fn start(&mut self, device: usize, founder: bool, seeds: &[usize]) {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let wall = self.wall(device);
        let config = Config {
            name: format!("n{device}"),
            addresses: vec![address(device)],
            seeds: seeds.iter().map(|seed| address(*seed)).collect(),
            version: "0".into(),
            founder,
            ..Config::default()
        };
        let now = self.now;
        let it = &mut self.devices[device];
        assert!(it.node.is_none(), "n{device} runs already");
        it.boot += 1;
        it.started = now;
        it.timer = None;
        it.disk.pending.clear();
        it.held.clear();
        it.links.clear();
        it.seen.clear();
        it.runtime.replicas.clear();
        let node = Node::new(config, it.identity.clone(), it.disk.load(), facts(), wall, seed, Time::ZERO);
        it.node = Some(node);
        self.note(device, "start");
        self.say(device, if founder { "starts, and founds the cluster" } else { "starts" });
        self.drain(device);
    }

    /// kill -9: peers see their links close.
    pub fn kill(&mut self, device: usize) {
        self.stop(device, true);
    }

    /// The plug is pulled: peers see nothing any more.
    pub fn unplug(&mut self, device: usize) {
        self.stop(device, false);
    }

    fn stop(&mut self, device: usize, told: bool) {
        let it = &mut self.devices[device];
        if it.node.take().is_none() {
            return;
        }
        it.runtime.replicas.clear();
        it.disk.pending.clear();
        it.held.clear();
        let peers: Vec<usize> = std::mem::take(&mut it.links).into_iter().collect();
        self.note(device, if told { "kill" } else { "unplug" });
        self.say(device, if told { "is killed" } else { "is unplugged" });
        for peer in peers {
            if told && self.network.open(device, peer) {
                let boot = self.devices[peer].boot;
                self.at(self.now + CLOSE, Happening::Closed { device: peer, boot, peer: device });
            }
        }
    }

    /// Cuts or heals the way between two groups. A healed link starts anew: both ends see the old one close.
    pub fn partition(&mut self, ones: &[usize], others: &[usize], cut: bool) {
        for &one in ones {
            if !others.is_empty() {
                self.say(one, format!("the way to {others:?} is {}", if cut { "cut" } else { "healed" }));
            }
            for &other in others {
                self.network.set_cut(one, other, cut);
                self.network.set_cut(other, one, cut);
                if !cut {
                    self.close(one, other);
                }
            }
        }
    }

    fn close(&mut self, one: usize, other: usize) {
        for (device, peer) in [(one, other), (other, one)] {
            if self.devices[device].links.contains(&peer) {
                let boot = self.devices[device].boot;
                self.at(self.now + CLOSE, Happening::Closed { device, boot, peer });
            }
        }
    }

    /// A user talks to a device's daemon. None if none runs.
    pub fn command(&mut self, device: usize, command: Command) -> Option<RequestId> {
        self.devices[device].node.as_ref()?;
        self.requests += 1;
        let request = RequestId(self.requests);
        self.input(device, Input::Command { request, command });
        Some(request)
    }

    /// Lets the world go on until `until` (microseconds), checking what must always hold after each step.
    pub fn run_until(&mut self, until: u64) -> Result<(), String> {
        while let Some((&(at, sequence), _)) = self.agenda.first_key_value() {
            if at > until {
                break;
            }
            let happening = self.agenda.remove(&(at, sequence)).expect("it was just seen");
            self.standstill = if at == self.now { self.standstill + 1 } else { 0 };
            if self.standstill > MAX_STANDSTILL {
                return Err(format!("time stands still: {MAX_STANDSTILL} steps without end\n{}", self.report()));
            }
            self.now = at;
            self.steps += 1;
            if let Some(device) = self.happen(happening) {
                super::invariants::after_step(self, device)?;
            }
        }
        self.now = until;
        Ok(())
    }

    /// Lets the world go on for a while.
    pub fn run_for(&mut self, after: Duration) -> Result<(), String> {
        self.run_until(self.now + after.as_micros() as u64)
    }

    /// Lets the world go on until `done`, looking every 10 ms; an error if that takes more than `within`.
    pub fn run_till(&mut self, within: Duration, what: &str, done: impl Fn(&World) -> bool) -> Result<(), String> {
        let end = self.now + within.as_micros() as u64;
        while !done(self) {
            if self.now >= end {
                return Err(format!("not within {within:?}: {what}\n{}", self.report()));
            }
            self.run_until(self.now + 10_000)?;
        }
        Ok(())
    }

    /// Devices whose daemon runs.
    pub fn running(&self) -> Vec<usize> {
        (0..self.devices.len()).filter(|index| self.devices[*index].node.is_some()).collect()
    }

    /// The last events, for a person who looks for a cause.
    pub fn report(&self) -> String {
        let mut text = format!("at {:.3} s, step {}\n", self.now as f64 / 1e6, self.steps);
        text.push_str(&self.trace());
        for device in &self.devices {
            if let Some(node) = &device.node {
                let _ = writeln!(
                    text,
                    "  {} at {} waits for {:?}",
                    device.name,
                    self.now - device.started,
                    node.poll_timeout()
                );
            }
        }
        text
    }

    /// Everything that is told from now on is kept, for one who reads the whole history.
    pub fn keep_all(&mut self) {
        self.max_events = usize::MAX;
    }

    /// What was told, a line an event: seconds, who, what.
    pub fn trace(&self) -> String {
        let mut text = String::new();
        for (at, what) in &self.events {
            let _ = writeln!(text, "  {:>10.3} {what}", *at as f64 / 1e6);
        }
        text
    }

    /// Something befell a device, or it told people something.
    pub(super) fn say(&mut self, device: usize, what: impl AsRef<str>) {
        while self.events.len() >= self.max_events {
            self.events.pop_front();
        }
        self.events.push_back((self.now, format!("{}: {}", self.devices[device].name, what.as_ref())));
    }

    /// What the device's clock says.
    pub fn wall(&self, device: usize) -> WallClock {
        let honest = EPOCH + self.now / 1000;
        WallClock(honest.saturating_add_signed(self.devices[device].clock_skew))
    }

    /// Gives a daemon an input and does what it asks for.
    pub fn input(&mut self, device: usize, input: Input) {
        let now = self.local(device);
        if let Some(node) = &mut self.devices[device].node {
            node.handle(now, input);
            self.drain(device);
        }
    }

    fn happen(&mut self, happening: Happening) -> Option<usize> {
        match happening {
            Happening::Timer { device, boot } => {
                self.alive(device, boot)?;
                // An earlier one was set since, and has done its work.
                if self.devices[device].timer != Some(self.now) {
                    return None;
                }
                self.devices[device].timer = None;
                let now = self.local(device);
                self.devices[device].node.as_mut()?.handle_timeout(now);
                self.drain(device);
                Some(device)
            }
            Happening::Message { from, to, boot, message } => {
                self.alive(to, boot)?;
                if !self.devices[to].links.contains(&from) {
                    return None;
                }
                self.note(to, message.kind());
                let from = self.devices[from].id;
                self.input(to, Input::Message { from, message });
                Some(to)
            }
            Happening::Gossip { from, to, id, message } => {
                if self.devices[to].node.is_none() || !self.devices[to].first_sight(id) {
                    return None;
                }
                self.note(to, message.kind());
                self.tickets += 1;
                let ticket = Ticket(self.tickets);
                self.relays.insert(ticket.0, (to, from, id, message.clone()));
                let from = self.devices[from].id;
                self.input(to, Input::Gossip { ticket, from, message });
                Some(to)
            }
            Happening::Dialled { device, boot, target, peer } => {
                self.alive(device, boot)?;
                self.dialled(device, target, peer);
                Some(device)
            }
            Happening::Closed { device, boot, peer } => {
                self.alive(device, boot)?;
                if !self.devices[device].links.remove(&peer) {
                    return None;
                }
                self.unlinked(device, peer);
                Some(device)
            }
            Happening::Synced { device, boot } => {
                self.alive(device, boot)?;
                self.synced(device);
                Some(device)
            }
            Happening::Started { device, boot, replica, start } => {
                self.alive(device, boot)?;
                let it = &mut self.devices[device].runtime;
                let running = it.replicas.get_mut(&replica).filter(|running| running.start == start)?;
                let state = match &it.broken {
                    Some(reason) => ReplicaState::Failed { reason: reason.clone(), retryable: true },
                    None => {
                        running.healthy = true;
                        ReplicaState::Healthy
                    }
                };
                let generation = running.generation;
                self.input(device, Input::Report(Report { replica, generation, state }));
                Some(device)
            }
            Happening::Fetched { device, boot, digest, found } => {
                self.alive(device, boot)?;
                let outcome = if found {
                    self.devices[device].artifacts.insert(digest);
                    FetchOutcome::Ready
                } else {
                    FetchOutcome::Failed("no candidate has it".into())
                };
                self.input(device, Input::Fetched { digest, outcome });
                Some(device)
            }
        }
    }

    /// Does everything a daemon asks for, then sets its timer.
    fn drain(&mut self, device: usize) {
        while let Some(Effect { after, action }) = self.devices[device].node.as_mut().and_then(Node::poll_effect) {
            self.note_effect(device, &action);
            match after {
                Some(batch) => self.devices[device].held.push_back((batch, action)),
                None => self.act(device, action),
            }
        }
        let it = &mut self.devices[device];
        let Some((due, _)) = it.node.as_ref().and_then(Node::poll_timeout) else { return };
        let due = (it.started + due.as_micros()).max(self.now);
        if it.timer.is_none_or(|set| due < set) {
            it.timer = Some(due);
            let boot = it.boot;
            self.at(due, Happening::Timer { device, boot });
        }
    }

    fn act(&mut self, device: usize, action: Action) {
        match action {
            Action::Send { to, lane: _, message } => self.send(device, to, message),
            Action::Broadcast(message) => {
                let id = Digest::of(&codec::encode(&message));
                self.devices[device].first_sight(id);
                self.relay(device, device, id, &message);
            }
            Action::Dial { target, addresses } => self.dial(device, target, &addresses),
            Action::Disconnect(peer) => self.disconnect(device, peer),
            Action::Persist { id, records } => self.persist(device, id, records),
            Action::Order(order) => self.order(device, order),
            Action::Fetch { artifact, runtime: _, candidates } => {
                let holds = |index: &usize| self.devices[*index].artifacts.contains(&artifact.digest);
                let reachable =
                    |index: &usize| self.devices[*index].node.is_some() && self.network.open(device, *index);
                let found = holds(&device)
                    || candidates.iter().filter_map(|id| self.ids.get(id)).filter(|i| reachable(i)).any(holds);
                let after = if holds(&device) { 1_000 } else { 10_000 + below(&mut self.rng, 50_000) };
                let (boot, digest) = (self.devices[device].boot, artifact.digest);
                self.at(self.now + after, Happening::Fetched { device, boot, digest, found });
            }
            Action::Reply { request, reply } => self.answers.push_back(Answered { request, reply }),
            Action::Verdict { ticket, verdict } => {
                let (at, from, id, message) = self.relays.remove(&ticket.0).expect("one verdict a ticket");
                assert_eq!(at, device, "a verdict by another node");
                match verdict {
                    Verdict::Accept => self.relay(device, from, id, &message),
                    Verdict::Ignore | Verdict::Reject => {}
                }
            }
            Action::Notify(event) => {
                let subject = event.subject.map(|subject| format!("{subject}: ")).unwrap_or_default();
                let about = event.node.map(|node| format!(" ({node})")).unwrap_or_default();
                self.say(device, format!("{}{about} {subject}{}", event.kind, event.message));
            }
        }
    }

    fn send(&mut self, device: usize, to: NodeId, message: Message) {
        let Some(&to) = self.ids.get(&to).filter(|to| self.devices[device].links.contains(to)) else { return };
        if let Some(at) = self.network.stream(self.now, device, to, &mut self.rng) {
            let boot = self.devices[to].boot;
            self.at(at, Happening::Message { from: device, to, boot, message });
        }
    }

    fn relay(&mut self, device: usize, origin: usize, id: Digest, message: &Message) {
        /// Gossipsub's mesh degree.
        const DEGREE: usize = 6;
        let mut peers: Vec<usize> = self.devices[device].links.iter().copied().filter(|peer| *peer != origin).collect();
        while peers.len() > DEGREE {
            let index = below(&mut self.rng, peers.len() as u64) as usize;
            peers.swap_remove(index);
        }
        for to in peers {
            let Some(at) = self.network.packet(self.now, device, to, &mut self.rng) else { continue };
            let late = match self.network.gossip {
                Gossip::Fair => Some(0),
                Gossip::Late(by) => Some(by),
                Gossip::Lost => None,
            };
            if let Some(late) = late {
                self.at(at + late, Happening::Gossip { from: device, to, id, message: message.clone() });
            }
        }
    }

    pub(super) fn dial(&mut self, device: usize, target: DialTarget, addresses: &[String]) {
        let boot = self.devices[device].boot;
        let peer = addresses.iter().find_map(|address| index_of(address)).filter(|peer| *peer < self.devices.len());
        let silent = peer.is_none_or(|peer| !self.network.open(device, peer));
        let after = if silent { DIAL_TIMEOUT } else { 2 * self.network.weather.delay + 500 };
        let peer = peer.filter(|_| !silent);
        self.at(self.now + after, Happening::Dialled { device, boot, target, peer });
    }

    fn dialled(&mut self, device: usize, target: DialTarget, peer: Option<usize>) {
        let how = match peer {
            None => DialFailure::TimedOut,
            Some(peer) if !self.network.open(device, peer) => DialFailure::TimedOut,
            Some(peer) if self.devices[peer].node.is_none() => DialFailure::Refused,
            Some(peer) if peer == device => DialFailure::Stranger("that is this node itself".into()),
            Some(peer) => {
                let believes = |world: &World, one: usize, other: usize| world.devices[one].links.contains(&other);
                // Of two dials that cross the second finds a link; it is closed again, and nobody hears of it.
                if believes(self, device, peer) && believes(self, peer, device) {
                    return;
                }
                // A half-open link that one side still believes in gives way to the new one.
                for (one, other) in [(device, peer), (peer, device)] {
                    if self.devices[one].links.remove(&other) {
                        self.unlinked(one, other);
                    }
                }
                self.link(device, peer);
                return;
            }
        };
        self.input(device, Input::DialFailed { target, how });
    }

    fn link(&mut self, one: usize, other: usize) {
        self.devices[one].links.insert(other);
        self.devices[other].links.insert(one);
        self.note(one, "link up");
        self.say(one, format!("link to n{other} is up"));
        let (one_id, other_id) = (self.devices[one].id, self.devices[other].id);
        self.input(one, Input::LinkUp { peer: other_id });
        self.input(other, Input::LinkUp { peer: one_id });
    }

    /// A device learns that a link is gone.
    fn unlinked(&mut self, device: usize, peer: usize) {
        self.note(device, "link down");
        self.say(device, format!("link to n{peer} is gone"));
        let peer = self.devices[peer].id;
        self.input(device, Input::LinkDown { peer });
    }

    fn disconnect(&mut self, device: usize, peer: NodeId) {
        let Some(&peer) = self.ids.get(&peer) else { return };
        if !self.devices[device].links.contains(&peer) {
            return;
        }
        let boot = self.devices[device].boot;
        self.at(self.now, Happening::Closed { device, boot, peer });
        if self.network.open(device, peer) {
            let boot = self.devices[peer].boot;
            self.at(self.now + CLOSE, Happening::Closed { device: peer, boot, peer: device });
        }
    }

    fn persist(&mut self, device: usize, id: PersistId, records: Vec<shoal_protocol::node::Record>) {
        let (boot, full) = (self.devices[device].boot, self.devices[device].disk.full);
        self.devices[device].disk.pending.push_back((id, records));
        if !full {
            let after = self.fsync / 2 + below(&mut self.rng, self.fsync.max(1));
            self.at(self.now + after, Happening::Synced { device, boot });
        }
    }

    fn synced(&mut self, device: usize) {
        let Some(upto) = self.devices[device].disk.commit() else { return };
        self.input(device, Input::Stored { upto });
        while self.devices[device].held.front().is_some_and(|(batch, _)| *batch <= upto) {
            let (_, action) = self.devices[device].held.pop_front().expect("it was just seen");
            self.act(device, action);
        }
    }

    fn order(&mut self, device: usize, order: Order) {
        let boot = self.devices[device].boot;
        match order {
            Order::Run { replica, name: _, generation, spec } => {
                assert!(
                    self.devices[device].artifacts.contains(&spec.artifact.digest),
                    "an order for bytes that are not here"
                );
                self.starts += 1;
                let start = self.starts;
                self.devices[device].runtime.replicas.insert(replica, Running { generation, healthy: false, start });
                let after = 1_000 + below(&mut self.rng, 30_000);
                self.at(self.now + after, Happening::Started { device, boot, replica, start });
            }
            Order::Stop { replica } => {
                self.devices[device].runtime.replicas.remove(&replica);
            }
        }
    }

    fn at(&mut self, at: u64, happening: Happening) {
        self.sequence += 1;
        self.agenda.insert((at, self.sequence), happening);
    }

    fn alive(&self, device: usize, boot: u32) -> Option<()> {
        let it = &self.devices[device];
        (it.boot == boot && it.node.is_some()).then_some(())
    }

    fn local(&self, device: usize) -> Time {
        Time::from_micros(self.now - self.devices[device].started)
    }

    /// What a node says counts by its bytes.
    fn note_effect(&mut self, device: usize, action: &Action) {
        let bytes = match action {
            Action::Send { message, .. } | Action::Broadcast(message) => wire::encode(message),
            Action::Dial { .. }
            | Action::Disconnect(_)
            | Action::Persist { .. }
            | Action::Order(_)
            | Action::Fetch { .. }
            | Action::Reply { .. }
            | Action::Verdict { .. }
            | Action::Notify(_) => format!("{action:?}").into_bytes(),
        };
        let at = [self.now.to_be_bytes(), (device as u64).to_be_bytes()].concat();
        self.history = Digest::of_parts(&[self.history.as_bytes(), &at, &bytes]);
    }

    fn note(&mut self, device: usize, what: &str) {
        let line = format!("{} {} {what}", self.now, device);
        self.history = Digest::of_parts(&[self.history.as_bytes(), line.as_bytes()]);
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

fn address(device: usize) -> String {
    format!("/memory/{}", device + 1)
}

fn index_of(address: &str) -> Option<usize> {
    address.strip_prefix("/memory/")?.parse::<usize>().ok()?.checked_sub(1)
}

/// A secret that belongs to this seed alone.
pub fn derived(seed: u64, what: &str, number: u64) -> [u8; 32] {
    Digest::of_parts(&[&seed.to_be_bytes(), &number.to_be_bytes(), what.as_bytes()]).0
}
