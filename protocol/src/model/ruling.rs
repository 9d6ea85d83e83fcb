//! The decisions of owners that must outlive them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::codec::{self, Bytes, Malformed};
use super::id::Digest;
use super::replica::Revision;
use super::sign::Signable;

/// The subject of a ruling. On the wire it is a number: a ruling of a newer kind is kept and passed
/// on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RulingKind {
    /// Whether a generation is good.
    RolloutVerdict,
    /// A cron tick that was started.
    CronTick,
    /// The number of replicas of an autoscaled workload.
    Autoscale,
    /// The end of a job.
    JobResult,
    /// The places that belong to a new revision.
    Frontier,
    /// A kind of a newer program, by its number.
    Other(u16),
}

impl RulingKind {
    fn number(self) -> u16 {
        match self {
            RulingKind::RolloutVerdict => 0,
            RulingKind::CronTick => 1,
            RulingKind::Autoscale => 2,
            RulingKind::JobResult => 3,
            RulingKind::Frontier => 4,
            RulingKind::Other(number) => number,
        }
    }
}

impl Serialize for RulingKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.number().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RulingKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match u16::deserialize(deserializer)? {
            0 => RulingKind::RolloutVerdict,
            1 => RulingKind::CronTick,
            2 => RulingKind::Autoscale,
            3 => RulingKind::JobResult,
            4 => RulingKind::Frontier,
            number => RulingKind::Other(number),
        })
    }
}

/// The subject of a ruling in full. One ruling counts per key; of several the one with the greatest
/// sequence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct RulingKey {
    /// The workload.
    pub uid: Digest,
    /// The kind of decision.
    pub kind: RulingKind,
    /// The generation that it is about.
    pub generation: Revision,
    /// The instant or run that it is about; 0 where there is but one.
    pub tick: u64,
}

/// The decision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RulingBody {
    /// Whether the generation is good.
    RolloutVerdict {
        /// It is.
        is_good: bool,
    },
    /// The tick was started.
    CronTick,
    /// The wanted number of replicas.
    Autoscale {
        /// 0 to [`MAX_REPLICAS`](super::spec::MAX_REPLICAS).
        replicas: u32,
    },
    /// The job ended.
    JobResult {
        /// The exit code; 0 for success.
        exit_code: i32,
    },
    /// Ordinals below this one belong to the generation.
    Frontier {
        /// The first ordinal that does not.
        below: u32,
    },
    /// The decision of a newer kind, as it came.
    Other(u16, Bytes),
}

/// A decision of an owner; the signer is the owner of that moment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "WireRuling", into = "WireRuling")]
pub struct Ruling {
    /// The workload.
    pub uid: Digest,
    /// The generation that it is about.
    pub generation: Revision,
    /// The instant or run that it is about; 0 where there is but one.
    pub tick: u64,
    /// Rulings of one key meet by `(sequence, owner)`; the greater counts.
    pub sequence: u64,
    /// The decision.
    pub body: RulingBody,
}

impl Ruling {
    /// The key under which it counts.
    pub fn key(&self) -> RulingKey {
        let kind = match &self.body {
            RulingBody::RolloutVerdict { .. } => RulingKind::RolloutVerdict,
            RulingBody::CronTick => RulingKind::CronTick,
            RulingBody::Autoscale { .. } => RulingKind::Autoscale,
            RulingBody::JobResult { .. } => RulingKind::JobResult,
            RulingBody::Frontier { .. } => RulingKind::Frontier,
            RulingBody::Other(number, _) => RulingKind::Other(*number),
        };
        RulingKey { uid: self.uid, kind, generation: self.generation, tick: self.tick }
    }
}

impl Signable for Ruling {
    const DOMAIN: &'static str = "shoal/ruling/2";
}

/// [`Ruling`] on the wire. A newer program may append fields, to it or to the decision.
#[derive(Clone, Serialize, Deserialize)]
struct WireRuling {
    key: RulingKey,
    sequence: u64,
    body: Bytes,
}

impl From<Ruling> for WireRuling {
    fn from(ruling: Ruling) -> WireRuling {
        let body = match &ruling.body {
            RulingBody::RolloutVerdict { is_good } => codec::encode(is_good),
            RulingBody::CronTick => Vec::new(),
            RulingBody::Autoscale { replicas } => codec::encode(replicas),
            RulingBody::JobResult { exit_code } => codec::encode(exit_code),
            RulingBody::Frontier { below } => codec::encode(below),
            RulingBody::Other(_, bytes) => bytes.0.clone(),
        };
        WireRuling { key: ruling.key(), sequence: ruling.sequence, body: Bytes(body) }
    }
}

impl TryFrom<WireRuling> for Ruling {
    type Error = Malformed;

    fn try_from(wire: WireRuling) -> Result<Ruling, Malformed> {
        let WireRuling { key, sequence, body: Bytes(bytes) } = wire;
        let body = match key.kind {
            RulingKind::RolloutVerdict => {
                RulingBody::RolloutVerdict { is_good: codec::decode_prefix(&bytes)? }
            }
            RulingKind::CronTick => RulingBody::CronTick,
            RulingKind::Autoscale => {
                RulingBody::Autoscale { replicas: codec::decode_prefix(&bytes)? }
            }
            RulingKind::JobResult => {
                RulingBody::JobResult { exit_code: codec::decode_prefix(&bytes)? }
            }
            RulingKind::Frontier => RulingBody::Frontier { below: codec::decode_prefix(&bytes)? },
            RulingKind::Other(number) => RulingBody::Other(number, Bytes(bytes)),
        };
        let RulingKey { uid, generation, tick, .. } = key;
        Ok(Ruling { uid, generation, tick, sequence, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ruling(body: RulingBody) -> Ruling {
        Ruling { uid: Digest([1; 32]), generation: Digest([2; 32]), tick: 3, sequence: 4, body }
    }

    #[test]
    fn ruling_is_read_as_it_was_written() {
        for body in [
            RulingBody::RolloutVerdict { is_good: false },
            RulingBody::CronTick,
            RulingBody::Autoscale { replicas: 70_000 },
            RulingBody::JobResult { exit_code: -9 },
            RulingBody::Frontier { below: 7 },
            RulingBody::Other(99, Bytes(vec![1, 2, 3])),
        ] {
            let ruling = ruling(body);
            assert_eq!(Ruling::read(&codec::encode(&ruling)), Ok(ruling));
        }
    }

    /// A newer program decides something that this one does not know, and says more than it reads.
    #[test]
    fn ruling_of_a_newer_program_is_read_as_far_as_known() {
        let unknown = ruling(RulingBody::Other(1_000, Bytes(vec![9])));
        let raw = codec::encode(&(unknown.clone(), "more"));
        assert_eq!(Ruling::read(&raw), Ok(unknown));
        let mut longer = WireRuling::from(ruling(RulingBody::Autoscale { replicas: 5 }));
        longer.body.0.push(7);
        let known = ruling(RulingBody::Autoscale { replicas: 5 });
        assert_eq!(Ruling::read(&codec::encode(&longer)), Ok(known));
        longer.body.0.clear();
        assert!(Ruling::read(&codec::encode(&longer)).is_err(), "it decides nothing");
    }
}
