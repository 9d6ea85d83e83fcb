//! A network of memberships: virtual time, links that close, hang, lose and lie, processes that
//! die, stall and return.

mod transport;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::model::{Facts, Outgoing, Resources};

use super::super::*;

use transport::Event;

pub const MS: Duration = Duration::from_millis(1);
pub const SECOND: Duration = Duration::from_secs(1);
const CLUSTER: ClusterId = ClusterId([9; 32]);

pub struct Device {
    pub id: NodeId,
    keys: KeyPair,
    pub room: Option<Membership>,
    /// The incarnation on its disk.
    disk: u64,
    /// Its own record on its disk.
    pub saved: Option<Signed<NodeRecord>>,
    /// Its network or its power is gone: nothing goes in or out, nothing is refused.
    pub dark: bool,
    paused: bool,
    unread: VecDeque<Event>,
    /// Its ends of its connections, by peer.
    links: BTreeMap<usize, u64>,
}

pub struct Net {
    pub now: Time,
    pub devices: Vec<Device>,
    queue: BTreeMap<(Time, u64), (usize, Event)>,
    /// When each awake device's next timer fires.
    timers: BTreeSet<(Time, usize)>,
    timer_of: BTreeMap<usize, Time>,
    next: u64,
    /// From, to: messages in this direction are lost.
    pub cuts: BTreeSet<(usize, usize)>,
    /// Lost messages of a thousand over links.
    pub loss: u32,
    /// As TCP does: a lost message comes later, and all after it wait.
    pub retransmits: bool,
    /// The delay of a message in one direction.
    pub latency: Duration,
    pub gossip_works: bool,
    /// Addresses that refuse though their process lives.
    pub unreachable: BTreeSet<(usize, usize)>,
    pub facts: Vec<(Time, usize, Fact)>,
    pub messages: u64,
    pub dials: Vec<(Time, usize, usize)>,
    /// When the last message arrives, by direction: links keep order.
    arrivals: BTreeMap<(usize, usize), Time>,
    pub rng: ChaCha8Rng,
    config: Config,
    roster: BTreeMap<NodeId, u64>,
}

/// A configuration with a full mesh up to so many members; 0 is the shape of a large cluster.
pub fn mesh_up_to(full_mesh: usize) -> Config {
    Config { links: LinkConfig { full_mesh, ..LinkConfig::default() }, ..Config::default() }
}

impl Net {
    pub fn new(size: usize, seed: u64) -> Net {
        Net::with(size, seed, Config::default())
    }

    pub fn with(size: usize, seed: u64, config: Config) -> Net {
        let devices: Vec<Device> = (0..size)
            .map(|n| {
                let mut key = [n as u8; 32];
                key[1..9].copy_from_slice(&seed.to_be_bytes());
                key[9] = (n >> 8) as u8;
                let keys = KeyPair::from_seed(&key);
                Device {
                    id: NodeId(keys.public().0),
                    keys,
                    room: None,
                    disk: 0,
                    saved: None,
                    dark: false,
                    paused: false,
                    unread: VecDeque::new(),
                    links: BTreeMap::new(),
                }
            })
            .collect();
        let roster = devices.iter().enumerate().map(|(n, device)| (device.id, n as u64)).collect();
        Net {
            now: Time::from_micros(1_000_000),
            devices,
            queue: BTreeMap::new(),
            timers: BTreeSet::new(),
            timer_of: BTreeMap::new(),
            next: 0,
            cuts: BTreeSet::new(),
            loss: 0,
            retransmits: false,
            latency: MS / 4,
            gossip_works: true,
            unreachable: BTreeSet::new(),
            facts: Vec::new(),
            messages: 0,
            dials: Vec::new(),
            arrivals: BTreeMap::new(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            config,
            roster,
        }
    }

    /// A cluster in which all are started, linked and up for one another.
    pub fn running(size: usize, seed: u64) -> Net {
        let mut net = Net::new(size, seed);
        net.start_all();
        net
    }

    pub fn start_all(&mut self) {
        for n in 0..self.devices.len() {
            self.start(n);
        }
        self.run(5 * SECOND);
        for n in 0..self.devices.len() {
            assert_eq!(self.ups(n), self.devices.len(), "{n} knows everybody");
        }
        self.facts.clear();
        self.messages = 0;
        self.dials.clear();
    }

    /// Starts a process, with the next incarnation.
    pub fn start(&mut self, n: usize) {
        let device = &mut self.devices[n];
        assert!(device.room.is_none(), "{n} runs");
        device.disk += 1;
        device.links.clear();
        let seed = {
            let mut seed = [0; 32];
            self.rng.fill_bytes(&mut seed);
            seed
        };
        let id = device.id;
        let (keys, disk) = (device.keys.clone(), device.disk);
        device.room =
            Some(Membership::new(self.now, self.config.clone(), id, keys, CLUSTER, disk, seed));
        let roster = self.roster.iter().map(|(node, salt)| (*node, *salt)).collect();
        let address = format!("/node/{n}");
        if let Some(saved) = self.devices[n].saved.clone() {
            self.with_room(n, |room, now, out| room.handle_record(now, saved, out));
        }
        self.with_room(n, |room, now, out| room.set_record(now, profile(address), out));
        // Records of the others, as on its disk.
        let records: Vec<_> = self
            .devices
            .iter()
            .filter(|other| other.id != id)
            .map(|other| other.record(&self.roster))
            .collect();
        self.with_room(n, |room, now, out| room.set_roster(now, &roster, out));
        for record in records {
            self.with_room(n, |room, now, out| room.handle_record(now, record.clone(), out));
        }
    }

    /// Kills the process: the system closes its links and refuses its dials.
    pub fn kill(&mut self, n: usize) {
        self.devices[n].room = None;
        self.set_timer(n);
        let links = std::mem::take(&mut self.devices[n].links);
        for (peer, connection) in links {
            if self.passes(n, peer) {
                // Links close at different times, so that an observer may be asked before its own
                // link has closed.
                let skew = MS / 100 * (self.rng.next_u32() % 500);
                self.later(self.latency + skew, peer, Event::Closed { peer: n, connection });
            }
        }
    }

    pub fn stop(&mut self, n: usize, back_in: Duration) {
        self.with_room(n, |room, now, out| {
            room.handle_goodbye(now, back_in, out);
            Vec::new()
        });
        self.run(2 * MS);
        self.kill(n);
    }

    /// Stalls the process: nothing is read, no timer fires.
    pub fn pause(&mut self, n: usize) {
        self.devices[n].paused = true;
        self.set_timer(n);
    }

    /// Ends a stall. Timers fire before messages are read: the worst order.
    pub fn resume(&mut self, n: usize) {
        self.devices[n].paused = false;
        self.with_room(n, |room, now, out| room.handle_timeout(now, out));
        for event in std::mem::take(&mut self.devices[n].unread) {
            self.deliver(n, event);
        }
    }

    /// Splits the network into these groups; a device in none belongs to the first.
    pub fn split(&mut self, groups: &[&[usize]]) {
        let group = |n: usize| groups.iter().position(|group| group.contains(&n)).unwrap_or(0);
        let all = 0..self.devices.len();
        self.cuts = all
            .clone()
            .flat_map(|a| all.clone().map(move |b| (a, b)))
            .filter(|(a, b)| group(*a) != group(*b))
            .collect();
    }

    /// Sends a message from one device to another, whatever the sender's membership would send.
    pub fn inject(&mut self, from: usize, to: usize, message: Message) {
        if let Some(&connection) = self.devices[from].links.get(&to) {
            self.later(self.latency, to, Event::Message { from, connection, message });
        }
    }

    pub fn sign<T: crate::model::Signable + Clone>(
        &self,
        n: usize,
        body: T,
    ) -> crate::model::Unverified<T> {
        Signed::sign(body, &self.devices[n].keys, &CLUSTER).wire()
    }

    pub fn gossip(&mut self, from: usize, message: Message) {
        self.carry(from, Outgoing::Broadcast(message));
    }

    pub fn close_link(&mut self, a: usize, b: usize) {
        for (this, other) in [(a, b), (b, a)] {
            let connection = self.devices[this].links[&other];
            self.later(Duration::ZERO, this, Event::Closed { peer: other, connection });
        }
    }

    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until `done`, at most for `limit`; returns how long it took.
    pub fn run_until(&mut self, limit: Duration, done: impl Fn(&Net) -> bool) -> Option<Duration> {
        let (start, end) = (self.now, self.now + limit);
        while !done(self) {
            if !self.step(end) {
                return None;
            }
        }
        Some(self.now.since(start))
    }

    fn step(&mut self, end: Time) -> bool {
        let timer = self.timers.first().copied();
        let event = self.queue.keys().next().copied();
        let at = timer.map(|(at, _)| at).into_iter().chain(event.map(|(at, _)| at)).min();
        let Some(at) = at.filter(|at| *at <= end) else { return false };
        self.now = self.now.max(at);
        match (event, timer) {
            (Some(key), _) if key.0 == at => {
                let (n, event) = self.queue.remove(&key).unwrap();
                self.deliver(n, event);
            }
            (_, Some((_, n))) => self.with_room(n, |room, now, out| room.handle_timeout(now, out)),
            (_, None) => unreachable!("something was due"),
        }
        true
    }

    fn set_timer(&mut self, n: usize) {
        if let Some(at) = self.timer_of.remove(&n) {
            self.timers.remove(&(at, n));
        }
        let room = self.devices[n].room.as_ref().filter(|_| !self.devices[n].paused);
        if let Some((at, _)) = room.and_then(|room| room.poll_timeout()) {
            self.timers.insert((at, n));
            self.timer_of.insert(n, at);
        }
    }

    fn with_room(
        &mut self,
        n: usize,
        call: impl FnOnce(&mut Membership, Time, &mut Out<Message>) -> Vec<Fact>,
    ) {
        let mut out = Out::new();
        let Some(room) = self.devices[n].room.as_mut() else { return };
        let facts = call(room, self.now, &mut out);
        self.set_timer(n);
        for fact in facts {
            if let Fact::Incarnation(incarnation) = fact {
                let life = self.devices[n].disk;
                self.later(5 * MS, n, Event::Stored { incarnation, life });
            }
            self.facts.push((self.now, n, fact));
        }
        while let Some(outgoing) = out.pop() {
            self.carry(n, outgoing);
        }
    }

    /// At `at`, a node is taken off the roster.
    pub fn remove_member(&mut self, at: usize, node: NodeId) {
        self.with_room(at, |room, now, out| room.set_member(now, node, None, out));
    }

    /// `at` learns a record by which `of` can be dialled at this address now.
    pub fn learns(&mut self, at: usize, of: usize, address: &str) {
        let known =
            self.room(at).record(&self.devices[of].id).expect("it knows of it").body().clone();
        let record =
            NodeRecord { counter: known.counter + 1, addresses: vec![address.into()], ..known };
        let record = Signed::sign(record, &self.devices[of].keys, &CLUSTER);
        self.with_room(at, |room, now, out| room.handle_record(now, record, out));
    }

    /// The network of this device changed; with `moved`, its own address did.
    pub fn network_changed(&mut self, n: usize, moved: bool) {
        self.with_room(n, |room, now, out| room.handle_network_changed(now, moved, out));
    }

    /// `from` asks for a link to `to`. True if one is being made.
    pub fn link_on_demand(&mut self, from: usize, to: usize) -> bool {
        let (id, mut is_coming) = (self.devices[to].id, false);
        self.with_room(from, |room, now, out| {
            let (coming, facts) = room.link_on_demand(now, id, out);
            is_coming = coming;
            facts
        });
        is_coming
    }

    /// A dial of `of` met another answerer at this address.
    pub fn answered(&mut self, at: usize, of: usize, address: &str, by: Answerer) {
        let node = self.devices[of].id;
        self.with_room(at, |room, now, out| {
            room.handle_answered(now, node, address.to_owned(), by, out)
        });
    }

    pub fn sighted(&mut self, at: usize, of: usize, addresses: &[&str]) {
        let (node, addresses) =
            (self.devices[of].id, addresses.iter().map(|address| (*address).to_owned()).collect());
        self.with_room(at, |room, now, out| room.handle_sighted(now, node, addresses, out));
    }

    /// The device has another address, and issues a record.
    pub fn moves(&mut self, n: usize, address: &str) {
        self.with_room(n, |room, now, out| room.set_record(now, profile(address.to_owned()), out));
    }

    /// Closes the link of these two and keeps them from making another.
    pub fn cut_off(&mut self, a: usize, b: usize) {
        self.cuts.extend([(a, b), (b, a)]);
        self.close_link(a, b);
        self.run(MS);
    }

    pub fn restore(&mut self, a: usize, b: usize) {
        self.cuts.remove(&(a, b));
        self.cuts.remove(&(b, a));
    }

    pub fn index(&self, id: &NodeId) -> usize {
        self.devices.iter().position(|device| device.id == *id).expect("known")
    }

    pub fn room(&self, n: usize) -> &Membership {
        self.devices[n].room.as_ref().expect("it runs")
    }

    pub fn state(&self, at: usize, of: usize) -> State {
        self.room(at).state(&self.devices[of].id)
    }

    pub fn ups(&self, at: usize) -> usize {
        self.room(at).up().count()
    }

    /// Whether all other running devices hold `of` in this state.
    pub fn all_hold(&self, of: usize, state: State) -> bool {
        (0..self.devices.len())
            .all(|n| n == of || self.devices[n].room.is_none() || self.state(n, of) == state)
    }

    pub fn downs(&self) -> Vec<(usize, usize)> {
        let down = |(_, at, fact): &(Time, usize, Fact)| match fact {
            Fact::Down { node, .. } => Some((*at, self.index(node))),
            _ => None,
        };
        self.facts.iter().filter_map(down).collect()
    }
}

impl Device {
    pub fn forget(&mut self) {
        self.disk = 0;
    }

    /// Its record as it is on the disks of others, from before its first incarnation.
    fn record(&self, roster: &BTreeMap<NodeId, u64>) -> Signed<NodeRecord> {
        let Profile { name, addresses, facts, version, ready, leaving } =
            profile(format!("/node/{}", roster[&self.id]));
        let no_way_to = Vec::new();
        let record = NodeRecord {
            counter: 0,
            incarnation: 0,
            name,
            addresses,
            facts,
            version,
            ready,
            leaving,
            no_way_to,
        };
        Signed::sign(record, &self.keys, &CLUSTER)
    }
}

pub fn profile(address: String) -> Profile {
    Profile {
        name: address.replace('/', "-"),
        addresses: vec![address],
        facts: Facts {
            arch: "x86_64".into(),
            runtimes: BTreeSet::new(),
            labels: BTreeMap::new(),
            capacity: Resources { memory: 1 << 30, cpu: 4000 },
            ..Facts::default()
        },
        version: "0.1.0".into(),
        ready: true,
        leaving: false,
    }
}
