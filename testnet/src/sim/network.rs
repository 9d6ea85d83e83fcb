//! The links between simulated devices: delay, loss, partition. Streams keep their order, as TCP's do; a loss is a delay there.

use std::collections::BTreeSet;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;

use std::collections::BTreeMap;

/// What the links are like.
#[derive(Clone, Debug)]
pub struct Weather {
    /// The least one-way delay, microseconds.
    pub delay: u64,
    /// How much is added at random, microseconds.
    pub jitter: u64,
    /// Of a thousand packets so many are lost. A stream repeats them after [`Weather::repeat`]; gossip and dials are lost.
    pub loss: u32,
    /// How long a stream takes to repeat a lost packet, microseconds.
    pub repeat: u64,
}

impl Default for Weather {
    /// A wired local network.
    fn default() -> Self {
        Weather { delay: 100, jitter: 200, loss: 0, repeat: 200_000 }
    }
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
#[derive(Default)]
pub struct Network {
    pub weather: Weather,
    /// What gossip is like.
    pub gossip: Gossip,
    /// Directions in which nothing gets through.
    cut: BTreeSet<(usize, usize)>,
    /// When the last packet of a stream arrives, so that none overtakes another.
    tail: BTreeMap<(usize, usize), u64>,
}

impl Network {
    /// When something sent now by stream arrives. None if the way is cut.
    pub fn stream(&mut self, now: u64, from: usize, to: usize, rng: &mut ChaCha8Rng) -> Option<u64> {
        if self.cut.contains(&(from, to)) {
            return None;
        }
        let mut at = now + self.delay(rng);
        while self.lost(rng) {
            at += self.weather.repeat;
        }
        let tail = self.tail.entry((from, to)).or_default();
        *tail = at.max(*tail + 1);
        Some(*tail)
    }

    /// When a lone packet sent now arrives. None if it does not.
    pub fn packet(&mut self, now: u64, from: usize, to: usize, rng: &mut ChaCha8Rng) -> Option<u64> {
        let at = now + self.delay(rng);
        (!self.cut.contains(&(from, to)) && !self.lost(rng)).then_some(at)
    }

    /// Cuts or heals one direction.
    pub fn set_cut(&mut self, from: usize, to: usize, cut: bool) {
        if cut {
            self.cut.insert((from, to));
        } else {
            self.cut.remove(&(from, to));
        }
    }

    /// Whether the two can talk, both ways.
    pub fn open(&self, one: usize, other: usize) -> bool {
        !self.cut.contains(&(one, other)) && !self.cut.contains(&(other, one))
    }

    /// Heals everything.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    fn delay(&self, rng: &mut ChaCha8Rng) -> u64 {
        self.weather.delay + below(rng, self.weather.jitter.max(1))
    }

    fn lost(&self, rng: &mut ChaCha8Rng) -> bool {
        self.weather.loss > 0 && below(rng, 1000) < u64::from(self.weather.loss)
    }
}

/// A number below `bound`, which is above zero.
pub fn below(rng: &mut ChaCha8Rng, bound: u64) -> u64 {
    rng.next_u64() % bound
}
