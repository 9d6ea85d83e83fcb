//! The links between simulated devices: delay, loss, cuts. Streams keep their order, as TCP's do: a
//! loss is a delay there, and what is sent into a cut arrives after it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;
use shoal_protocol::model::Lane;

use super::event::Event;

/// Messages that wait behind a cut, a direction; beyond it the sender's queue is full.
const MAX_STALLED: usize = 256;
/// Messages of one lane of a link that are on their way, a direction: what a daemon's lane queue
/// holds (`MAX_FRAMES` in the daemon's `network/lane.rs`). One more is dropped.
const MAX_LANE: usize = 256;
/// The longest that TCP waits until it tries again after a cut, microseconds.
const MAX_RETRY: u64 = 60_000_000;

/// What the way between two devices is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    /// The least one-way delay, microseconds.
    pub delay: u64,
    /// How much is added at random, microseconds.
    pub jitter: u64,
    /// Of a thousand packets so many are lost. A stream repeats them after [`Weather::repeat`];
    /// gossip and dials are lost.
    pub loss: u32,
    /// How long a stream takes to repeat a lost packet, microseconds.
    pub repeat: u64,
    /// Of a thousand gossip messages so many come twice.
    pub duplicates: u32,
    /// Of a thousand packets so many take far longer than the others.
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
    /// A radio at the edge of its reach.
    pub const RADIO: Weather = Weather {
        delay: 40_000,
        jitter: 60_000,
        loss: 30,
        repeat: 300_000,
        duplicates: 5,
        stray: 30,
    };
    /// By way of a geostationary satellite.
    pub const SATELLITE: Weather = Weather {
        delay: 270_000,
        jitter: 30_000,
        loss: 5,
        repeat: 900_000,
        duplicates: 1,
        stray: 10,
    };

    /// All that have a name.
    pub const NAMED: [(&str, Weather); 4] = [
        ("lan", Self::LAN),
        ("wan", Self::WAN),
        ("radio", Self::RADIO),
        ("satellite", Self::SATELLITE),
    ];
}

/// How gossip gets through, beside the weather.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Gossip {
    /// As the weather is.
    #[default]
    Fair,
    /// So many microseconds later.
    Late(u64),
    /// Not at all.
    Lost,
}

/// The state of the network.
pub struct Network {
    pub weather: Weather,
    /// Devices whose own access is worse than the weather.
    pub access: BTreeMap<usize, Weather>,
    /// What gossip is like.
    pub gossip: Gossip,
    /// Whether it keeps to a mesh, in which nothing gets lost but by the weather.
    pub is_meshed: bool,
    /// Ways that come and go, and until when.
    pub flaps: BTreeMap<(usize, usize), u64>,
    /// Directions in which nothing gets through, and since when.
    cut: BTreeMap<(usize, usize), u64>,
    /// What was sent into a cut.
    stalled: BTreeMap<(usize, usize), VecDeque<Event>>,
    /// When the packets of a stream arrive that are on their way, so that none overtakes another.
    /// The two lanes of a link are two streams.
    ahead: BTreeMap<(usize, usize, bool), VecDeque<u64>>,
    /// Messages that found their lane full.
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
    /// When something sent now by stream arrives. None when so much is on its way that it is
    /// dropped.
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
        // The last stays, whenever it arrived: the next must not overtake it.
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

    /// When a lone packet sent now arrives. None if it does not.
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

    /// Whether gossip comes a second time.
    pub fn is_doubled(&self, from: usize, to: usize, rng: &mut ChaCha8Rng) -> bool {
        self.by_chance(from, to, |way| way.duplicates, rng)
    }

    /// What is sent into a cut waits for its end.
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

    /// Ends a cut: what was sent into it, and by when it arrives.
    pub fn heal(
        &mut self,
        now: u64,
        from: usize,
        to: usize,
        rng: &mut ChaCha8Rng,
    ) -> Vec<(u64, Event)> {
        let Some(since) = self.cut.remove(&(from, to)) else { return Vec::new() };
        // TCP doubles its pause while nothing gets through, so the next try is at most as far ahead
        // as the cut was long.
        let retry = 1 + below(rng, (now - since).clamp(200_000, MAX_RETRY));
        let stalled = self.stalled.remove(&(from, to)).unwrap_or_default();
        let arrives =
            |packet| Some((self.stream(now + retry, from, to, Lane::Urgent, rng)?, packet));
        stalled.into_iter().filter_map(arrives).collect()
    }

    /// A new link begins with empty streams.
    pub fn begin(&mut self, one: usize, other: usize) {
        for (from, to) in [(one, other), (other, one)] {
            self.stalled.remove(&(from, to));
            self.ahead.remove(&(from, to, false));
            self.ahead.remove(&(from, to, true));
        }
    }

    /// All cut directions.
    pub fn cuts(&self) -> Vec<(usize, usize)> {
        self.cut.keys().copied().collect()
    }

    /// Whether anything gets through that way.
    pub fn leads(&self, from: usize, to: usize) -> bool {
        !self.cut.contains_key(&(from, to))
    }

    /// Whether the two can talk, both ways.
    pub fn open(&self, one: usize, other: usize) -> bool {
        self.leads(one, other) && self.leads(other, one)
    }

    /// How long one way takes at least.
    pub fn min_delay(&self, one: usize, other: usize) -> u64 {
        self.ways(one, other).map(|way| way.delay).sum()
    }

    /// What a packet passes: the weather, or the accesses of both ends.
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

/// A number below `bound`, which is above zero.
pub fn below(rng: &mut ChaCha8Rng, bound: u64) -> u64 {
    rng.next_u64() % bound
}
