use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::*;

/// The entries of a node. An entry's tree follows from its number.
#[derive(Default)]
pub struct Store {
    entries: BTreeMap<(Tree, Digest), (u64, u64)>,
    parts: u32,
    part_bytes: usize,
}

pub struct Room {
    pub repair: Repair,
    pub store: Store,
    facts: Vec<Fact>,
    received: usize,
    mute: bool,
}

struct Arrival {
    from: usize,
    to: usize,
    link: u64,
    message: Message,
}

/// Nodes and the links between them, in virtual time.
pub struct World {
    pub rooms: Vec<Room>,
    pub now: Time,
    pub loss_percent: u32,
    pub jitter: Duration,
    /// Bytes of all messages sent, and of the largest.
    pub bytes: usize,
    pub largest: usize,
    pub transcript: Vec<(Time, usize, usize, Vec<u8>)>,
    pub refusals: BTreeSet<(usize, u64)>,
    links: BTreeMap<(usize, usize), u64>,
    arrivals: BTreeMap<(Time, u64), Arrival>,
    sequence: u64,
    rng: ChaCha8Rng,
}

const DELAY: Duration = Duration::from_millis(10);

pub fn tree(entry: u64) -> Tree {
    Tree::ALL[(entry % 4) as usize]
}

pub fn key(entry: u64) -> Digest {
    Digest::of(&entry.to_be_bytes())
}

fn hash(entry: u64, version: u64) -> Digest {
    Digest::of(&codec::encode(&(entry, version)))
}

impl Source for Store {
    fn load(&self, tree: Tree, key: &Digest) -> Vec<Vec<u8>> {
        let part = |part| {
            self.entries.get(&(tree, *key)).map(|(entry, version)| {
                codec::encode(&(*entry, *version, part, vec![7u8; self.part_bytes]))
            })
        };
        (0..self.parts).filter_map(part).collect()
    }
}

impl World {
    pub fn new(nodes: u8, config: Config, seed: u64) -> World {
        let room = |number| Room {
            repair: Repair::new(config.clone(), id(number), [number ^ seed as u8; 32]),
            store: Store { parts: 1, part_bytes: 300, ..Store::default() },
            facts: Vec::new(),
            received: 0,
            mute: false,
        };
        World {
            rooms: (0..nodes).map(room).collect(),
            now: Time::from_micros(1_000_000),
            loss_percent: 0,
            jitter: Duration::ZERO,
            bytes: 0,
            largest: 0,
            transcript: Vec::new(),
            refusals: BTreeSet::new(),
            links: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            sequence: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    pub fn size_of(&self, entry: u64, version: u64) -> usize {
        codec::encode(&(entry, version, 0u32, vec![7u8; self.rooms[0].store.part_bytes])).len()
    }

    /// From now on an entry has so many payloads of this size.
    pub fn set_parts(&mut self, parts: u32, part_bytes: usize) {
        for room in &mut self.rooms {
            (room.store.parts, room.store.part_bytes) = (parts, part_bytes);
        }
    }

    /// `node` finds this entry on its disk.
    pub fn restore(&mut self, node: usize, entry: u64, version: u64) {
        let room = &mut self.rooms[node];
        room.store.entries.insert((tree(entry), key(entry)), (entry, version));
        room.repair.restore(tree(entry), key(entry), hash(entry, version));
    }

    /// `node` gets this entry from a user or by gossip.
    pub fn set(&mut self, node: usize, entry: u64, version: u64) {
        self.apply(node, entry, version);
    }

    pub fn forget(&mut self, node: usize, entry: u64) {
        self.rooms[node].store.entries.remove(&(tree(entry), key(entry)));
        self.rooms[node].repair.forget(self.now, tree(entry), &key(entry));
    }

    pub fn refuse(&mut self, node: usize, entry: u64) {
        self.refusals.insert((node, entry));
    }

    /// From now on `node` receives and sends nothing.
    pub fn mute(&mut self, node: usize) {
        self.rooms[node].mute = true;
    }

    pub fn link(&mut self, left: usize, right: usize) {
        self.sequence += 1;
        self.links.insert((left.min(right), left.max(right)), self.sequence);
        for (node, peer) in [(left, right), (right, left)] {
            let mut out = Out::new();
            let facts = self.rooms[node].repair.handle_link_up(self.now, id(peer as u8), &mut out);
            self.after(node, facts, out);
        }
    }

    pub fn unlink(&mut self, left: usize, right: usize) {
        self.links.remove(&(left.min(right), left.max(right)));
        self.rooms[left].repair.handle_link_down(self.now, &id(right as u8));
        self.rooms[right].repair.handle_link_down(self.now, &id(left as u8));
    }

    /// `node` wakes up after a long stall.
    pub fn wake(&mut self, node: usize) {
        let mut out = Out::new();
        self.rooms[node].repair.on_stall(self.now, &mut out);
        self.after(node, Vec::new(), out);
    }

    /// Makes `node` compare with `peer` now, as a random comparison does.
    pub fn compare(&mut self, node: usize, peer: usize) {
        let known =
            self.rooms[node].repair.peers.get_mut(&id(peer as u8)).expect("they are linked");
        known.compare_at = Some(self.now);
    }

    /// Lets time pass.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let deadlines = self.rooms.iter().enumerate().filter(|(_, room)| !room.mute);
            let deadline = deadlines
                .filter_map(|(node, room)| Some((room.repair.poll_timeout()?.0, node)))
                .min();
            let arrival = self.arrivals.keys().next().copied();
            match (arrival, deadline) {
                (Some((at, number)), _)
                    if at <= end && deadline.is_none_or(|(due, _)| at <= due) =>
                {
                    self.now = self.now.max(at);
                    let arrival = self.arrivals.remove(&(at, number)).expect("it was just there");
                    self.arrive(arrival);
                }
                (_, Some((due, node))) if due <= end => {
                    self.now = self.now.max(due);
                    let (room, mut out) = (&mut self.rooms[node], Out::new());
                    let facts = room.repair.handle_timeout(self.now, &room.store, &mut out);
                    self.after(node, facts, out);
                }
                _ => break,
            }
        }
        self.now = end;
    }

    /// Hands a message to `to` as if `from` had sent it.
    pub fn inject(&mut self, from: usize, to: usize, message: Message) {
        let (room, mut out) = (&mut self.rooms[to], Out::new());
        let facts =
            room.repair.handle_message(self.now, id(from as u8), message, &room.store, &mut out);
        self.after(to, facts, out);
    }

    fn arrive(&mut self, Arrival { from, to, link, message }: Arrival) {
        let up = self.links.get(&(from.min(to), from.max(to))) == Some(&link);
        if up && !self.rooms[to].mute {
            self.inject(from, to, message);
        }
    }

    fn after(&mut self, node: usize, facts: Vec<Fact>, mut out: Out<Message>) {
        for fact in facts {
            match fact {
                Fact::Received { payload, tree: of, .. } => {
                    // Payloads of hostile peers need not be entries.
                    let Ok((entry, version, _, _)) =
                        codec::decode::<(u64, u64, u32, Vec<u8>)>(&payload)
                    else {
                        continue;
                    };
                    self.rooms[node].received += 1;
                    if tree(entry) == of && !self.refusals.contains(&(node, entry)) {
                        self.apply(node, entry, version);
                    }
                }
                fact @ (Fact::InStep { .. } | Fact::OutOfStep { .. }) => {
                    self.rooms[node].facts.push(fact)
                }
            }
        }
        while let Some(outgoing) = out.pop() {
            let Outgoing::Send { to, message, .. } = outgoing else { panic!("{outgoing:?}") };
            self.send(node, usize::from(to.0[0]), message);
        }
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        let bytes = codec::encode(&message);
        self.bytes += bytes.len();
        self.largest = self.largest.max(bytes.len());
        self.transcript.push((self.now, from, to, bytes));
        if self.rng.next_u32() % 100 < self.loss_percent {
            return;
        }
        let jitter = self.rng.next_u64() % (self.jitter.as_micros() as u64 + 1);
        let at = self.now + DELAY + Duration::from_micros(jitter);
        self.sequence += 1;
        let link = self.links[&(from.min(to), from.max(to))];
        self.arrivals.insert((at, self.sequence), Arrival { from, to, link, message });
    }

    fn apply(&mut self, node: usize, entry: u64, version: u64) {
        let room = &mut self.rooms[node];
        let known = room.store.entries.entry((tree(entry), key(entry))).or_insert((entry, 0));
        if version > known.1 {
            known.1 = version;
            room.repair.note(self.now, tree(entry), key(entry), hash(entry, version));
        }
    }

    pub fn converged(&self) -> bool {
        self.rooms.iter().filter(|room| !room.mute).all(|room| {
            let first = &self.rooms[0];
            room.store.entries == first.store.entries && room.repair.roots() == first.repair.roots()
        })
    }

    pub fn in_step(&self, left: usize, right: usize) -> (bool, bool) {
        let says = |node: usize, peer: usize| self.rooms[node].repair.in_step(&id(peer as u8));
        (says(left, right), says(right, left))
    }

    pub fn facts(&self, node: usize) -> &[Fact] {
        &self.rooms[node].facts
    }

    pub fn received(&self, node: usize) -> usize {
        self.rooms[node].received
    }

    pub fn holds(&self, node: usize) -> usize {
        self.rooms[node].store.entries.len()
    }

    pub fn version(&self, node: usize, entry: u64) -> Option<u64> {
        self.rooms[node].store.entries.get(&(tree(entry), key(entry))).map(|(_, version)| *version)
    }
}
