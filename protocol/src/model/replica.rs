//! Replicas: the places of a workload, the right to run one, and how people name them.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, NaiveDate, Timelike};
use serde::{Deserialize, Serialize};

use super::claim::SLOTS;
use super::id::{Digest, NodeId};
use super::name::WorkloadName;

/// Neighbouring ordinals that share a slot of a sheet. The claims of one award are signed, written
/// and gossiped together, so they should lie in few slots; a node that holds all replicas of a
/// workload still fills its slots evenly.
const SLOT_RUN: u32 = 16;

/// The hash of all parts of a spec whose change needs a restart of the replica.
pub type Revision = Digest;

/// A place of a workload that a replica can fill. New forms are added at the end: an
/// older program does not act on a claim whose place it cannot read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Place {
    /// Replica number, from 0: of a service.
    Ordinal(u32),
    /// The one replica on this node: of a daemon workload.
    OnNode(NodeId),
    /// A run of a job.
    Run {
        /// The instant that the run was due, in milliseconds since 1970; 0 for a job without
        /// schedule.
        at: u64,
        /// The number among the parallel replicas of that run, from 0.
        index: u32,
    },
}

impl Place {
    /// The place under whose name its volumes are kept: all runs of an index have the same.
    pub fn of_volumes(self) -> Place {
        match self {
            Place::Run { index, .. } => Place::Ordinal(index),
            Place::Ordinal(_) | Place::OnNode(_) => self,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Ordinal(index) => write!(f, "{index}"),
            Place::OnNode(node) => f.write_str(&node.short()),
            Place::Run { at: 0, index } => write!(f, "{index}"),
            Place::Run { at, index } => match minute(*at) {
                Some(minute) => write!(f, "{minute}-{index}"),
                None => write!(f, "{at}-{index}"),
            },
        }
    }
}

/// Ticks are at whole minutes: `20261130T1005`, in UTC.
fn minute(at: u64) -> Option<String> {
    let time = DateTime::from_timestamp_millis(i64::try_from(at).ok()?)?;
    let is_whole = at.is_multiple_of(60_000) && (0..10_000).contains(&time.year());
    is_whole.then(|| {
        let (year, month, day) = (time.year(), time.month(), time.day());
        format!("{year:04}{month:02}{day:02}T{:02}{:02}", time.hour(), time.minute())
    })
}

/// Reads what [`minute`] writes.
fn read_minute(text: &str) -> Option<u64> {
    let (date, time) = text.split_once('T')?;
    let digits = |text: &str, len| text.len() == len && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(date, 8) || !digits(time, 4) {
        return None;
    }
    let (date, time) = (date.parse::<u32>().ok()?, time.parse::<u32>().ok()?);
    let year = i32::try_from(date / 10_000).ok()?;
    let date = NaiveDate::from_ymd_opt(year, date / 100 % 100, date % 100)?;
    let time = date.and_hms_opt(time / 100, time % 100, 0)?;
    u64::try_from(time.and_utc().timestamp_millis()).ok()
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok().filter(|_| text.bytes().all(|digit| digit.is_ascii_digit()))
}

/// Reads `0` as a number, and `20261130T1005-0` as a run of that tick. Whose run `0` is, or which
/// node a name means, a text alone does not say.
impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if let Some(index) = number(text) {
            return Ok(Place::Ordinal(index));
        }
        let (at, index) = text.rsplit_once('-').ok_or(())?;
        let at = read_minute(at).or_else(|| number(at)).ok_or(())?;
        Ok(Place::Run { at, index: number(index).ok_or(())? })
    }
}

/// A replica of one workload. A later workload of the same name has another `uid`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ReplicaId {
    /// The workload: the hash of the change that created it.
    pub uid: Digest,
    /// The place that it fills.
    pub place: Place,
}

impl ReplicaId {
    /// The slot of a sheet that its claim lies in.
    pub fn slot(&self) -> u8 {
        // The uid is a hash: it spreads workloads of few replicas.
        let first = u32::from(self.uid.0[0]);
        let run = match self.place {
            Place::Ordinal(index) => index / SLOT_RUN,
            Place::OnNode(node) => u32::from(node.0[0]),
            Place::Run { at, index } => {
                let tick = u32::try_from(at / 1_000 % u64::from(SLOTS)).unwrap_or_default();
                tick + index / SLOT_RUN
            }
        };
        let slot = first.wrapping_add(run) % u32::from(SLOTS);
        u8::try_from(slot).expect("a remainder of 64")
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.uid.short(), self.place)
    }
}

/// The name of a replica as people write it: `web/2`, `shop/web/2`, `agent/NODE`,
/// `report/20261130T1005-0`. A node knows which [`Place`] is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedReplica {
    /// The workload, `namespace/name` in full.
    pub workload: WorkloadName,
    /// The text behind it.
    pub place: String,
}

/// Characters of the text of a place: names of nodes are shorter.
const MAX_PLACE: usize = 128;

impl FromStr for NamedReplica {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (workload, place) =
            text.rsplit_once('/').filter(|(_, place)| is_place(place)).ok_or_else(|| {
                format!(
                    "`{text}` is not a replica: NAME/NUMBER or NAMESPACE/NAME/NUMBER is expected, \
                     as in `web/0`; for a daemon, NAME/NODE"
                )
            })?;
        let workload = workload.parse().map_err(|error| format!("{error}"))?;
        Ok(NamedReplica { workload, place: place.to_owned() })
    }
}

/// Whether a text can name a place; it stands in paths of the API as it is.
pub fn is_place(text: &str) -> bool {
    (1..=MAX_PLACE).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

impl fmt::Display for NamedReplica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.workload, self.place)
    }
}

impl PartialOrd for NamedReplica {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Numbers in the order of their size.
impl Ord for NamedReplica {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |it: &Self| (it.place.parse::<Place>().ok(), it.place.clone());
        (&self.workload, key(self)).cmp(&(&other.workload, key(other)))
    }
}

/// A replica by its workload's name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ReplicaName {
    /// The workload, `namespace/name` in full.
    pub workload: WorkloadName,
    /// The place that it fills.
    pub place: Place,
}

impl FromStr for ReplicaName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a replica: NAME/NUMBER or NAMESPACE/NAME/NUMBER is expected, as \
                    in `web/0`"
            )
        };
        let (workload, place) = text.rsplit_once('/').ok_or_else(wrong)?;
        let place = place.parse().map_err(|()| wrong())?;
        Ok(ReplicaName { workload: workload.parse().map_err(|error| format!("{error}"))?, place })
    }
}

impl fmt::Display for ReplicaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.workload, self.place)
    }
}

/// The right to run a replica: the greater token is the newer one. Tokens of a replica grow, and
/// outlive its claim.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Token {
    /// At least one more than every counter that its owner had seen for the replica.
    pub counter: u64,
    /// The owner that drew it.
    pub by: NodeId,
    /// The owner's incarnation then: after a restart an owner may have forgotten which counters it
    /// drew.
    pub incarnation: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tick is named by its minute in UTC, and read back.
    #[test]
    fn places_of_runs_are_read_as_they_are_shown() {
        let shown = |place: Place| place.to_string();
        let at = 1_796_033_100_000; // 2026-11-30T10:05:00Z
        assert_eq!(shown(Place::Run { at, index: 2 }), "20261130T1005-2");
        assert_eq!(shown(Place::Run { at: at + 1, index: 0 }), "1796033100001-0");
        assert_eq!(shown(Place::Run { at: 0, index: 3 }), "3");
        for place in
            [Place::Ordinal(7), Place::Run { at, index: 2 }, Place::Run { at: at + 1, index: 0 }]
        {
            assert_eq!(shown(place).parse(), Ok(place));
        }
        for wrong in ["", "-1", "+1", "20261330T1005-0", "20261130T2460-0", "20261130T1005", "a"] {
            assert_eq!(wrong.parse::<Place>(), Err(()), "{wrong}");
        }
    }

    #[test]
    fn named_replicas_are_ordered_by_number_and_take_names_of_nodes() {
        let parse = |text: &str| text.parse::<NamedReplica>();
        let mut all: Vec<_> = ["web/10", "web/2", "agent/pi-4.local"].map(parse).into();
        all.sort_by_key(|it| it.clone().unwrap());
        let shown: Vec<_> = all.iter().map(|it| it.as_ref().unwrap().to_string()).collect();
        assert_eq!(shown, ["agent/pi-4.local", "web/2", "web/10"]);
        for wrong in ["web", "web/", "web/a b", "web/a?b", "We/0"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    /// The slot of a claim is part of the wire format: nodes of all versions must agree on it.
    #[test]
    fn slot_of_each_place_form_is_fixed() {
        let slot = |place| ReplicaId { uid: Digest([250; 32]), place }.slot();
        assert_eq!(slot(Place::Ordinal(0)), 250 % 64);
        assert_eq!(slot(Place::Ordinal(15)), slot(Place::Ordinal(0)));
        assert_eq!(slot(Place::Ordinal(16)), 251 % 64);
        assert_eq!(slot(Place::Ordinal(u32::MAX)), ((250 + u32::MAX / 16) % 64) as u8);
        assert_eq!(slot(Place::OnNode(NodeId([7; 32]))), ((250u32 + 7) % 64) as u8);
        assert_eq!(slot(Place::Run { at: 65_000, index: 16 }), 252 % 64);
    }
}
