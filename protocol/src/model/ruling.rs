//! The decisions of owners that must outlive them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::codec::{self, Bytes, Malformed};
use super::id::{Digest, NodeId};
use super::replica::Revision;
use super::sign::Signable;
use super::time::WallClock;

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
    /// Another node for one place.
    Move,
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
            RulingKind::Move => 5,
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
            5 => RulingKind::Move,
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
    /// What became of a tick.
    CronTick(Tick),
    /// The wanted number of replicas.
    Autoscale {
        /// 0 to [`MAX_REPLICAS`](super::spec::MAX_REPLICAS).
        replicas: u32,
    },
    /// One index of a run of a job ended.
    JobResult(JobResult),
    /// Places of ranks below this one belong to the generation.
    Frontier {
        /// The first rank that does not.
        below: u32,
    },
    /// A place is to have another node. Its ordinal is the ruling's tick.
    Move(Move),
    /// The decision of a newer kind, as it came.
    Other(u16, Bytes),
}

/// A place is to have another node: the one that runs it goes on until the other one does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Move {
    /// The node that runs it.
    pub from: NodeId,
    /// The node that is to run it.
    pub to: NodeId,
    /// The counter of the award under which `from` runs it: what it wins later stays. 0 withdraws
    /// the move.
    pub counter: u64,
}

/// What became of a tick of a cron workload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Tick {
    /// Its run was started.
    Started,
    /// It was skipped: an earlier run went on. **The tick is the ruling's sequence, and its key has
    /// 0**: so the last one counts, and skipped ticks drop none that were started.
    Overlapped,
    /// It was skipped in the same way: it was due while no node could start it.
    Missed,
}

/// How one index of a run ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobResult {
    /// Whether it succeeded.
    pub outcome: Outcome,
    /// The exit code, where the program ended by itself.
    pub exit_code: Option<i32>,
    /// The time of its end.
    pub ended: WallClock,
    /// The last lines that it wrote: at most [`MAX_LINES`], of at most [`MAX_LINE_BYTES`] in all.
    pub lines: Vec<String>,
}

impl JobResult {
    /// A result that this exit code alone decides.
    pub fn failed(exit_code: i32) -> JobResult {
        let (outcome, ended) = (Outcome::Failed, WallClock(0));
        JobResult { outcome, exit_code: Some(exit_code), ended, lines: Vec::new() }
    }
}

/// Whether an index of a run succeeded. **All but `Done` end the whole run.**
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// The program ended with exit code 0.
    Done,
    /// It ended with another one, and was tried as often as the job says.
    Failed,
    /// The time of the run was over.
    Deadline,
    /// A later run took its place.
    Replaced,
}

impl Outcome {
    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Failed => "failed",
            Outcome::Deadline => "deadline",
            Outcome::Replaced => "replaced",
        }
    }
}

/// Lines of a program that its result keeps.
pub const MAX_LINES: usize = 10;
/// Bytes of all these lines.
pub const MAX_LINE_BYTES: usize = 1_024;

/// The last lines of a program, as many as a result keeps.
pub fn last_lines(lines: Vec<String>) -> Vec<String> {
    let mut room = MAX_LINE_BYTES;
    let mut kept = Vec::new();
    for mut line in lines.into_iter().rev().take(MAX_LINES) {
        if line.len() > room {
            let end = line.floor_char_boundary(room);
            line.truncate(end);
        }
        room -= line.len();
        kept.push(line);
        if room == 0 {
            break;
        }
    }
    kept.reverse();
    kept
}

/// The [`Ruling::tick`] of an index of a run that was due at `at`, in milliseconds since 1970.
/// Later runs have greater ones.
pub fn run_number(at: u64, index: u32) -> u64 {
    (at / 1_000).saturating_mul(INDICES).saturating_add(u64::from(index).min(INDICES - 1))
}

/// The run and the index of such a number.
pub fn run_of(number: u64) -> (u64, u32) {
    let index = u32::try_from(number % INDICES).expect("a remainder of 1,024");
    ((number / INDICES).saturating_mul(1_000), index)
}

/// More than any run has completions.
const INDICES: u64 = 1_024;

/// A decision of an owner, or of the node that saw a program end; the signer is the owner of that
/// moment, or that node.
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
            RulingBody::CronTick(_) => RulingKind::CronTick,
            RulingBody::Autoscale { .. } => RulingKind::Autoscale,
            RulingBody::JobResult(_) => RulingKind::JobResult,
            RulingBody::Frontier { .. } => RulingKind::Frontier,
            RulingBody::Move(_) => RulingKind::Move,
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
            RulingBody::CronTick(tick) => codec::encode(tick),
            RulingBody::Autoscale { replicas } => codec::encode(replicas),
            RulingBody::JobResult(result) => codec::encode(result),
            RulingBody::Frontier { below } => codec::encode(below),
            RulingBody::Move(it) => codec::encode(it),
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
            RulingKind::CronTick => RulingBody::CronTick(codec::decode_prefix(&bytes)?),
            RulingKind::Autoscale => {
                RulingBody::Autoscale { replicas: codec::decode_prefix(&bytes)? }
            }
            RulingKind::JobResult => RulingBody::JobResult(codec::decode_prefix(&bytes)?),
            RulingKind::Frontier => RulingBody::Frontier { below: codec::decode_prefix(&bytes)? },
            RulingKind::Move => RulingBody::Move(codec::decode_prefix(&bytes)?),
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
            RulingBody::Move(Move { from: NodeId([3; 32]), to: NodeId([4; 32]), counter: 9 }),
            RulingBody::CronTick(Tick::Missed),
            RulingBody::Autoscale { replicas: 70_000 },
            RulingBody::JobResult(JobResult {
                outcome: Outcome::Failed,
                exit_code: Some(-9),
                ended: WallClock(7),
                lines: vec!["it failed".into()],
            }),
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

    /// Lines are kept from the end, and cut where a character begins.
    #[test]
    fn last_lines_fit() {
        let many = (0..20).map(|n| n.to_string()).collect();
        let kept = last_lines(many);
        assert_eq!(kept.first().map(String::as_str), Some("10"));
        assert_eq!(kept.last().map(String::as_str), Some("19"));
        let long = last_lines(vec!["first".into(), "ä".repeat(600)]);
        assert_eq!((long.len(), long[0].len()), (1, MAX_LINE_BYTES));
        assert_eq!(last_lines(vec!["a".into(), "b".repeat(1_020)]).concat().len(), 1_021);
    }

    #[test]
    fn run_numbers_are_ordered_by_time() {
        let tick = 1_796_000_000_000;
        assert_eq!(run_of(run_number(tick, 3)), (tick, 3));
        assert!(run_number(tick, 255) < run_number(tick + 60_000, 0));
        assert_eq!(run_of(run_number(0, 255)), (0, 255));
    }
}
