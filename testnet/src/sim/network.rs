//! The network between simulated devices: delay, loss, cuts. A stream keeps its order like TCP: a
//! lost packet is delayed, and packets sent into a cut arrive after it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;
use shoal_protocol::model::Lane;

use super::event::Event;

/// Messages that wait behind a cut, per direction. Beyond this the sender's queue is full.
const MAX_STALLED: usize = 256;
/// Messages under way in one lane of a link, per direction: the size of a daemon's lane queue
/// (`MAX_FRAMES` in its `network/lane.rs`). Further ones are dropped.
const MAX_LANE: usize = 256;
/// The longest pause of TCP before it tries again after a cut, microseconds.
const MAX_RETRY: u64 = 60_000_000;

/// The quality of the way between two devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    /// Minimum one-way delay, microseconds.
    pub delay: u64,
    /// Bound of the random extra delay, microseconds.
    pub jitter: u64,
    /// Lost packets per thousand. A stream repeats them after [`Weather::repeat`]; gossip and dials
    /// are lost.
    pub loss: u32,
    /// Delay until a stream repeats a lost packet, microseconds.
    pub repeat: u64,
    /// Gossip messages per thousand that arrive twice.
    pub duplicates: u32,
    /// Packets per thousand that take much longer than the others.
    pub stray: u32,
}

impl Weather {
    /// A wired local network.
    pub const LAN: Weather =
        Weather { delay: 100, jitter: 200, loss: 0, repeat: 200_000, duplicates: 0, stray: 0 };
    /// Sites of one country.
    pub const WAN: Weather = Weather {
        delay: 15_000,
        jitter: 10_000,
        loss: 2,
        repeat: 200_000,
        duplicates: 1,
        stray: 5,
    };
    /// A radio link at the limit of its range.
    pub const RADIO: Weather = Weather {
        delay: 40_000,
        jitter: 60_000,
        loss: 30,
        repeat: 300_000,
        duplicates: 5,
        stray: 30,
    };
    /// A geostationary satellite link.
    pub const SATELLITE: Weather = Weather {
        delay: 270_000,
        jitter: 30_000,
        loss: 5,
        repeat: 900_000,
        duplicates: 1,
        stray: 10,
    };

    /// The named weathers.
    pub const NAMED: [(&str, Weather); 4] = [
        ("lan", Self::LAN),
        ("wan", Self::WAN),
        ("radio", Self::RADIO),
        ("satellite", Self::SATELLITE),
    ];
}

/// How gossip is delivered, in addition to the weather.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Gossip {
    /// Subject to the weather alone.
    #[default]
    Fair,
    /// Delayed by this many microseconds.
    Late(u64),
    /// Never delivered.
    Lost,
}

/// The state of the network.
pub struct Network {
    pub weather: Weather,
    /// Devices whose access has its own weather.
    pub access: BTreeMap<usize, Weather>,
    pub gossip: Gossip,
    /// Whether gossip keeps to a mesh, so that only the weather loses it.
    pub is_meshed: bool,
    /// Flapping ways, and the world time at which they stop.
    pub flaps: BTreeMap<(usize, usize), u64>,
    /// Cut directions, and the world time of the cut.
    cut: BTreeMap<(usize, usize), u64>,
    /// Packets sent into a cut.
    stalled: BTreeMap<(usize, usize), VecDeque<Event>>,
    /// Arrival times of stream packets under way, so that none overtakes another. Each lane of a
    /// link is a stream of its own.
    ahead: BTreeMap<(usize, usize, bool), VecDeque<u64>>,
    /// Messages dropped because their lane was full.
    pub dropped: u64,
}

impl Default for Network {
    fn default() -> Self {
        Network {
            weather: Weather::LAN,
            access: BTreeMap::new(),
            gossip: Gossip::Fair,
            is_meshed: false,
            flaps: BTreeMap::new(),
            cut: BTreeMap::new(),
            stalled: BTreeMap::new(),
            ahead: BTreeMap::new(),
            dropped: 0,
        }
    }
}

impl Network {
    /// Arrival time of a stream packet sent now, or none if the lane is full and drops it.
    pub fn stream(
        &mut self,
        now: u64,
        from: usize,
        to: usize,
        lane: Lane,
        rng: &mut ChaCha8Rng,
    ) -> Option<u64> {
        let mut at = now + self.delay(from, to, rng);
        let repeat = self.ways(from, to).map(|way| way.repeat).max().unwrap_or_default();
        while self.lost(from, to, rng) {
            at += repeat;
        }
        let ahead = self.ahead.entry((from, to, lane == Lane::Bulk)).or_default();
        let last = ahead.back().copied();
        // The last arrival stays in the queue: the next packet must not overtake it.
        while ahead.len() > 1 && ahead[0] <= now {
            ahead.pop_front();
        }
        if ahead.len() >= MAX_LANE {
            self.dropped += 1;
            return None;
        }
        let at = last.map_or(at, |last| at.max(last + 1));
        ahead.push_back(at);
        Some(at)
    }

    /// Arrival time of a single packet sent now, or none if it is lost.
    pub fn packet(
        &mut self,
        now: u64,
        from: usize,
        to: usize,
        rng: &mut ChaCha8Rng,
    ) -> Option<u64> {
        let at = now + self.delay(from, to, rng);
        (self.leads(from, to) && !self.lost(from, to, rng)).then_some(at)
    }

    /// Draws whether a gossip message arrives a second time.
    pub fn is_doubled(&self, from: usize, to: usize, rng: &mut ChaCha8Rng) -> bool {
        self.by_chance(from, to, |way| way.duplicates, rng)
    }

    /// Keeps a packet that was sent into a cut until the cut ends.
    pub fn stall(&mut self, from: usize, to: usize, packet: Event) {
        let stalled = self.stalled.entry((from, to)).or_default();
        if stalled.len() < MAX_STALLED {
            stalled.push_back(packet);
        }
    }

    /// Cuts a direction.
    pub fn cut(&mut self, now: u64, from: usize, to: usize) {
        self.cut.entry((from, to)).or_insert(now);
    }

    /// Ends a cut. Returns the packets sent into it, with their arrival times.
    pub fn heal(
        &mut self,
        now: u64,
        from: usize,
        to: usize,
        rng: &mut ChaCha8Rng,
    ) -> Vec<(u64, Event)> {
        let Some(since) = self.cut.remove(&(from, to)) else { return Vec::new() };
        // TCP doubles its pause during the cut, so the next try comes at most one cut's length
        // later.
        let retry = 1 + below(rng, (now - since).clamp(200_000, MAX_RETRY));
        let stalled = self.stalled.remove(&(from, to)).unwrap_or_default();
        let arrives =
            |packet| Some((self.stream(now + retry, from, to, Lane::Urgent, rng)?, packet));
        stalled.into_iter().filter_map(arrives).collect()
    }

    /// Resets the streams of a new link.
    pub fn begin(&mut self, one: usize, other: usize) {
        for (from, to) in [(one, other), (other, one)] {
            self.stalled.remove(&(from, to));
            self.ahead.remove(&(from, to, false));
            self.ahead.remove(&(from, to, true));
        }
    }

    pub fn cuts(&self) -> Vec<(usize, usize)> {
        self.cut.keys().copied().collect()
    }

    /// Whether this direction is open.
    pub fn leads(&self, from: usize, to: usize) -> bool {
        !self.cut.contains_key(&(from, to))
    }

    /// Whether both directions are open.
    pub fn open(&self, one: usize, other: usize) -> bool {
        self.leads(one, other) && self.leads(other, one)
    }

    /// Minimum delay of one way, microseconds.
    pub fn min_delay(&self, one: usize, other: usize) -> u64 {
        self.ways(one, other).map(|way| way.delay).sum()
    }

    /// The weathers that apply to a packet: the access of both ends, else the common one.
    fn ways(&self, from: usize, to: usize) -> impl Iterator<Item = &Weather> {
        let accesses = [self.access.get(&from), self.access.get(&to)];
        let fair = accesses.iter().all(Option::is_none).then_some(&self.weather);
        accesses.into_iter().flatten().chain(fair)
    }

    fn delay(&self, from: usize, to: usize, rng: &mut ChaCha8Rng) -> u64 {
        let mut delay = 0;
        for way in self.ways(from, to) {
            delay += way.delay + below(rng, way.jitter.max(1));
            if way.stray > 0 && below(rng, 1000) < u64::from(way.stray) {
                delay += below(rng, 4 * (way.delay + way.jitter));
            }
        }
        delay
    }

    fn lost(&self, from: usize, to: usize, rng: &mut ChaCha8Rng) -> bool {
        self.by_chance(from, to, |way| way.loss, rng)
    }

    fn by_chance(
        &self,
        from: usize,
        to: usize,
        rate: impl Fn(&Weather) -> u32,
        rng: &mut ChaCha8Rng,
    ) -> bool {
        self.ways(from, to).any(|way| rate(way) > 0 && below(rng, 1000) < u64::from(rate(way)))
    }
}

/// All directions between two groups.
pub fn between(ones: &BTreeSet<usize>, others: &BTreeSet<usize>) -> Vec<(usize, usize)> {
    let pairs = ones.iter().flat_map(|one| others.iter().map(move |other| (*one, *other)));
    pairs
        .filter(|(one, other)| one != other)
        .flat_map(|(one, other)| [(one, other), (other, one)])
        .collect()
}

/// A random number below `bound`, which must be above zero.
pub fn below(rng: &mut ChaCha8Rng, bound: u64) -> u64 {
    rng.next_u64() % bound
}
