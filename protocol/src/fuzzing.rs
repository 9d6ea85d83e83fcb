//! The parts that the fuzz targets of all crates share. No part of the protocol: a target is a
//! plain function, so that tests run it over its seeds and alterations of them, and libFuzzer runs
//! it over what it invents (`testnet/fuzz`).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A decoder that takes bytes from outside, under a name.
#[derive(Clone, Copy)]
pub struct Target {
    /// The name, which is that of its program in `testnet/fuzz`.
    pub name: &'static str,
    /// Takes any bytes. It panics if a promise about them is broken.
    pub run: fn(&[u8]),
    /// Real values, encoded as they travel: where the search begins.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// The most bytes of an input that are of use: above the bound of the decoder.
    pub most: usize,
}

impl Target {
    /// Runs the target over its seeds, then over `times` altered ones, the same each time.
    pub fn try_some(&self, times: usize) {
        let seeds = (self.seeds)();
        assert!(!seeds.is_empty(), "{} has no seeds", self.name);
        for seed in &seeds {
            assert!(seed.len() <= self.most, "a seed of {} is too long to be altered", self.name);
            (self.run)(seed);
        }
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..times {
            let mut bytes = seeds[below(&mut rng, seeds.len())].clone();
            for _ in 0..=below(&mut rng, 4) {
                alter(&mut bytes, &seeds, &mut rng);
            }
            bytes.truncate(self.most);
            (self.run)(&bytes);
        }
    }
}

fn below(rng: &mut ChaCha8Rng, bound: usize) -> usize {
    let drawn = usize::try_from(rng.next_u32()).unwrap_or(usize::MAX);
    if bound == 0 { 0 } else { drawn % bound }
}

/// Makes one change, of a kind that breaks decoders.
fn alter(bytes: &mut Vec<u8>, others: &[Vec<u8>], rng: &mut ChaCha8Rng) {
    const ODD: [u8; 10] = [0, 1, 0x7f, 0x80, 0xff, 250, 251, 252, 253, b'"'];
    let at = below(rng, bytes.len());
    let length = below(rng, 9).min(bytes.len() - at);
    match below(rng, 6) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << below(rng, 8),
        1 if !bytes.is_empty() => bytes[at] = ODD[below(rng, ODD.len())],
        2 => bytes.insert(at, ODD[below(rng, ODD.len())]),
        3 => _ = bytes.drain(at..at + length),
        4 => {
            let part = bytes[at..at + length].to_vec();
            bytes.splice(at..at, part);
        }
        _ => {
            let other = &others[below(rng, others.len())];
            let from = below(rng, other.len());
            let end = (from + below(rng, 64)).min(other.len());
            bytes.splice(at..at + length, other[from..end].iter().copied());
        }
    }
}

/// Reads choices from the bytes of an input: zero when they are used up.
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    /// Choices that these bytes make.
    pub fn of(bytes: &'a [u8]) -> Self {
        Choices(bytes)
    }

    /// Whether all bytes are used up.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    /// A number below `bound`; 0 if there is none.
    pub fn below(&mut self, bound: usize) -> usize {
        let drawn = match bound {
            0 | 1 => return 0,
            2..=256 => usize::from(self.byte()),
            _ => usize::from(self.byte()) << 8 | usize::from(self.byte()),
        };
        drawn % bound
    }

    /// The next eight bytes, fewer at the end, as a number.
    pub fn number(&mut self) -> u64 {
        self.take(8).iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }

    /// The next bytes, fewer at the end.
    pub fn take(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A piece whose length the next byte says.
    pub fn piece(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte());
        self.take(length)
    }

    /// A piece as text.
    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(self.piece()).into_owned()
    }

    /// All bytes that are left.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }
}
