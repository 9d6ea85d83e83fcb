//! Links, messages over them, and how long to wait for each; and this node's own stalls.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::{NodeRecord, Signed, Time};

use super::Config;
use super::moving::MOVING;
use super::reachability::FailedDials;

/// Probes of one link that are remembered; an answer to an older one only proves life.
const MAX_PROBES: usize = 8;
/// The most that a path's own slowness adds to a time-out. A path that varies more is as good as
/// cut.
const MAX_SWING: Duration = Duration::from_secs(5);

/// The path to one node: the link, and what is remembered of former ones.
#[derive(Clone, Debug, Default)]
pub(super) struct Path {
    pub link: Option<Link>,
    /// When the last message came from it.
    pub heard_at: Option<Time>,
    /// When its last link was lost; none if there was none in its present incarnation.
    pub closed_at: Option<Time>,
    /// A dial was refused since the last link was lost, or if there was none.
    pub refused: bool,
    /// When the dial under way began.
    pub dialling: Option<Time>,
    /// Its addresses, or ours, changed since the dial began: it is dialled again when that has
    /// failed.
    pub dial_again: bool,
    /// Number of dials that failed in a row.
    pub failures: u32,
    /// Failed dials since the last link; none if none failed.
    pub failed_dials: Option<FailedDials>,
    /// Number of links in a row that were lost soon after they came up.
    pub brief: u32,
    /// How long it stalled lately, as it says.
    pub lag: Duration,
    rtt: Option<Rtt>,
}

#[derive(Clone, Copy, Debug)]
struct Rtt {
    smooth: Duration,
    swing: Duration,
}

/// An open link.
#[derive(Clone, Debug)]
pub(super) struct Link {
    /// When it came up.
    pub since: Time,
    /// When the oldest probe was sent after which no message has come.
    pub awaiting: Option<Time>,
    /// Number of probes sent since the last message came.
    pub unanswered: u32,
    probes: VecDeque<(u64, Time)>,
    /// The peer watches this node: it gets beats until then, even if this node does not count it as
    /// an observer.
    pub watched_until: Time,
    /// When the peer was last told that it is held to be down.
    pub told_at: Option<Time>,
    /// Whether its view of who is down differs from ours.
    pub differs: bool,
    /// The pause before views are exchanged; it doubles while an exchange does not help.
    pub repair_gap: Duration,
    /// The record of a stranger, which may be a member whose admission has not come yet.
    pub hello: Option<Signed<NodeRecord>>,
}

impl Link {
    pub fn new(now: Time, repair_gap: Duration) -> Link {
        Link {
            since: now,
            awaiting: None,
            unanswered: 0,
            probes: VecDeque::new(),
            watched_until: Time::ZERO,
            told_at: None,
            differs: false,
            repair_gap,
            hello: None,
        }
    }

    /// Notes that a probe is sent.
    pub fn probed(&mut self, now: Time, seq: u64) {
        self.awaiting.get_or_insert(now);
        self.unanswered += 1;
        if self.probes.len() == MAX_PROBES {
            self.probes.pop_front();
        }
        self.probes.push_back((seq, now));
    }

    pub fn last_probe(&self) -> Option<(u64, Time)> {
        self.probes.back().copied()
    }
}

impl Path {
    /// A message came over the link.
    pub fn heard(&mut self, now: Time) {
        self.heard_at = Some(now);
        self.refused = false;
        if let Some(link) = &mut self.link {
            link.awaiting = None;
            link.unanswered = 0;
        }
    }

    /// A probe was answered. False if no such probe is remembered on this link.
    pub fn answered(&mut self, now: Time, seq: u64) -> bool {
        let Some(link) = &mut self.link else { return false };
        let Some(at) = link.probes.iter().position(|(open, _)| *open == seq) else { return false };
        let (_, sent) = link.probes[at];
        link.probes.drain(..=at);
        let sample = now.since(sent);
        // As in TCP (RFC 6298): a smoothed round trip, and a smoothed deviation from it.
        self.rtt = Some(match self.rtt {
            None => Rtt { smooth: sample, swing: sample / 2 },
            Some(Rtt { smooth, swing }) => Rtt {
                smooth: (smooth * 7 + sample) / 8,
                swing: (swing * 3 + smooth.abs_diff(sample)) / 4,
            },
        });
        true
    }

    pub fn rtt(&self) -> Option<Duration> {
        self.rtt.map(|rtt| rtt.smooth)
    }

    /// How long an answer may take on this path if neither end stalls. Zero if unknown.
    pub fn round_trip(&self) -> Duration {
        self.rtt.map_or(Duration::ZERO, |rtt| (rtt.smooth + rtt.swing * 4).min(MAX_SWING))
    }
}

/// Whether this node itself was awake and reachable. **Silence counts only while it listened**:
/// after its own stall everybody looks silent.
#[derive(Clone, Debug, Default)]
pub(super) struct LocalHealth {
    /// Silence before this does not count.
    pub since: Time,
    lag: Duration,
    lag_at: Time,
    /// When an address of this device last came or went.
    moved_at: Option<Time>,
}

/// The time in which the memory of a stall halves.
const LAG_HALF_LIFE: Duration = Duration::from_secs(10);

impl LocalHealth {
    /// This node did not run for `lag` until now. Messages that came meanwhile are about to be
    /// read, which may take as long again: the silence before counts only so far that twice the
    /// stall is left until the time of a vote.
    pub fn stalled(&mut self, now: Time, lag: Duration, config: &Config) {
        self.lag = self.lag(now).max(lag).min(config.probe.lag_most);
        self.lag_at = now;
        self.since = self.since.max(now - config.suspicion.silent_after.saturating_sub(lag * 2));
    }

    /// This device has other addresses: its links are gone, and the silence until now proves
    /// nothing.
    pub fn moved(&mut self, now: Time) {
        self.since = now;
        self.moved_at = Some(now);
    }

    /// Whether this device moved less than [`MOVING`] ago.
    pub fn has_moved(&self, now: Time) -> bool {
        self.moved_at.is_some_and(|at| now.since(at) < MOVING)
    }

    /// How long this node stalled lately; halves every [`LAG_HALF_LIFE`].
    pub fn lag(&self, now: Time) -> Duration {
        let halvings = u32::try_from(now.since(self.lag_at).as_secs() / LAG_HALF_LIFE.as_secs())
            .unwrap_or(u32::MAX);
        match 1u32.checked_shl(halvings) {
            Some(divisor) => self.lag / divisor,
            None => Duration::ZERO,
        }
    }

    /// The same in the unit of beats and answers.
    pub fn lag_ms(&self, now: Time) -> u16 {
        u16::try_from(self.lag(now).as_millis()).unwrap_or(u16::MAX)
    }
}
