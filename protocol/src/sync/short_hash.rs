//! Short hashes, and ranges of keys.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::model::Digest;

/// Eight bytes of a hash, salted with a number that only the two ends of a link know: nobody else
/// can prepare two entries with equal short hashes for both, and after an accident the next link
/// has another salt.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct ShortHash([u8; 8]);

impl ShortHash {
    /// No entry.
    pub(super) const NONE: ShortHash = ShortHash([0; 8]);

    pub(super) fn of(salt: u64, parts: &[&[u8]]) -> ShortHash {
        let salt = salt.to_be_bytes();
        let mut salted: Vec<&[u8]> = vec![&salt];
        salted.extend_from_slice(parts);
        ShortHash::head(&Digest::of_parts(&salted))
    }

    /// The first bytes of a key, unsalted, by which both ends name it. Keys with one head are sent
    /// together.
    pub(super) fn head(key: &Digest) -> ShortHash {
        let mut head = [0; 8];
        head.copy_from_slice(&key.0[..8]);
        ShortHash(head)
    }

    /// The range of keys with this head.
    pub(super) fn keys(self) -> RangeInclusive<Digest> {
        let (mut low, mut high) = ([0; 32], [255; 32]);
        low[..8].copy_from_slice(&self.0);
        high[..8].copy_from_slice(&self.0);
        Digest(low)..=Digest(high)
    }
}

/// A range of keys that begin with the same bits: all keys, one of 256 buckets, or a sixteenth of a
/// bucket or of such a part.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Prefix {
    nibbles: u8,
    path: u32,
}

impl Prefix {
    /// All keys.
    pub(super) const ALL: Prefix = Prefix { nibbles: 0, path: 0 };
    /// Nibbles of the narrowest range, a 2^32nd of the keys. Honest hashes do not crowd there.
    const NARROWEST: u8 = 8;

    /// Whether this program would make this range itself.
    pub(super) fn is_valid(self) -> bool {
        let fits =
            u64::from(self.path) < 1u64 << (4 * u32::from(self.nibbles.min(Self::NARROWEST)));
        self.nibbles != 1 && self.nibbles <= Self::NARROWEST && fits
    }

    pub(super) fn is_narrowest(self) -> bool {
        self.nibbles == Self::NARROWEST
    }

    /// The number of the bucket if this range is one.
    pub(super) fn bucket(self) -> Option<u8> {
        (self.nibbles == 2).then(|| u8::try_from(self.path).ok()).flatten()
    }

    /// The ranges that make up this one, in order; none for the narrowest.
    pub(super) fn children(self) -> impl Iterator<Item = Prefix> {
        let (count, nibbles) = match self.nibbles {
            0 => (256, 2),
            Self::NARROWEST.. => (0, self.nibbles),
            nibbles => (16, nibbles + 1),
        };
        (0..count).map(move |child| Prefix { nibbles, path: self.path.wrapping_mul(count) | child })
    }

    /// The range of its keys.
    pub(super) fn keys(self) -> RangeInclusive<Digest> {
        let free = 32 - 4 * u32::from(self.nibbles.min(Self::NARROWEST));
        let low = u64::from(self.path) << free;
        let high = low | ((1u64 << free) - 1);
        let bytes = |word: u64, rest: u8| {
            let mut bytes = [rest; 32];
            bytes[..4].copy_from_slice(&word.to_be_bytes()[4..]);
            Digest(bytes)
        };
        bytes(low, 0)..=bytes(high, 255)
    }

    /// Whether it contains the keys with this head.
    pub(super) fn holds(self, head: ShortHash) -> bool {
        self.keys().contains(head.keys().start())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_make_up_their_range() {
        for prefix in [
            Prefix::ALL,
            Prefix { nibbles: 2, path: 0xab },
            Prefix { nibbles: 7, path: 0xfff_ffff },
        ] {
            let ranges: Vec<_> = prefix.children().map(Prefix::keys).collect();
            assert_eq!(ranges.first().map(RangeInclusive::start), Some(prefix.keys().start()));
            assert_eq!(ranges.last().map(RangeInclusive::end), Some(prefix.keys().end()));
            for pair in ranges.windows(2) {
                let (end, next) = (pair[0].end().0, pair[1].start().0);
                let bit = |digest: [u8; 32]| {
                    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
                };
                assert_eq!(
                    (bit(next) - bit(end), end[4..].to_vec(), next[4..].to_vec()),
                    (1, vec![255; 28], vec![0; 28])
                );
            }
            assert!(prefix.children().all(Prefix::is_valid));
        }
        let narrowest = Prefix { nibbles: 8, path: u32::MAX };
        assert!(
            narrowest.is_valid()
                && narrowest.is_narrowest()
                && narrowest.children().next().is_none()
        );
    }

    #[test]
    fn malformed_ranges_are_invalid() {
        for (nibbles, path) in
            [(0, 1), (1, 0), (2, 256), (3, 4096), (7, u32::MAX), (9, 0), (255, u32::MAX)]
        {
            let prefix = Prefix { nibbles, path };
            assert!(!prefix.is_valid(), "{prefix:?}");
            // Asking for such a range must not panic either.
            let (keys, children) = (prefix.keys(), prefix.children().count());
            assert!(keys.start() <= keys.end() && children <= 256);
        }
    }
}
