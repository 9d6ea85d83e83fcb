//! Links, what was heard over them, and how patient to be with each.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::{NodeRecord, Signed, Time};

use super::Config;
use super::moving::MOVING;
use super::reachability::FailedDials;

/// Probes of one link that may still be answered; older ones only prove life.
const MAX_PROBES: usize = 8;
/// The most a path's own slowness adds to a time-out. A path that swings more is as good as cut.
const MAX_SWING: Duration = Duration::from_secs(5);

/// The way to one node: the link, or what is remembered of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Path {
    pub link: Option<Link>,
    /// When anything came from it.
    pub heard_at: Option<Time>,
    /// When its last link was lost; none if there never was one in this life of it.
    pub closed_at: Option<Time>,
    /// Since the link was lost, or without ever having had one, a dial of it was refused.
    pub refused: bool,
    /// Since when a dial is under way.
    pub dialling: Option<Time>,
    /// Its addresses, or ours, changed since the dial under way began: it is dialled again when
    /// that has failed.
    pub dial_again: bool,
    /// Dials that failed in a row.
    pub failures: u32,
    /// Since the last link dials have failed.
    pub failed_dials: Option<FailedDials>,
    /// Links in a row that were lost soon after they came up.
    pub brief: u32,
    /// How long it stalled lately, by its own word.
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
    /// Since when it is open.
    pub since: Time,
    /// When the oldest probe went out that nothing has come after.
    pub awaiting: Option<Time>,
    /// How many probes went out since something came.
    pub unanswered: u32,
    probes: VecDeque<(u64, Time)>,
    /// It probes us, so it watches us: beats until then, even if we would not count it as an
    /// observer.
    pub watched_until: Time,
    /// When it was last told that it is down.
    pub told_at: Option<Time>,
    /// Its view of who is down differs from ours.
    pub differs: bool,
    /// The pause before views are exchanged, doubling while that does not help.
    pub repair_gap: Duration,
    /// What a stranger said of itself: it may be a member we have not heard of yet.
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

    /// Notes that a probe goes out.
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
    /// Something came over the link.
    pub fn heard(&mut self, now: Time) {
        self.heard_at = Some(now);
        self.refused = false;
        if let Some(link) = &mut self.link {
            link.awaiting = None;
            link.unanswered = 0;
        }
    }

    /// A probe was answered. False if no such probe is open on this link.
    pub fn answered(&mut self, now: Time, seq: u64) -> bool {
        let Some(link) = &mut self.link else { return false };
        let Some(at) = link.probes.iter().position(|(open, _)| *open == seq) else { return false };
        let (_, sent) = link.probes[at];
        link.probes.drain(..=at);
        let sample = now.since(sent);
        // As in TCP (RFC 6298): an average of the last eight or so, and an average of the way from
        // it.
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

    /// How long an answer may take on this path, nobody stalling. Zero if unknown.
    pub fn round_trip(&self) -> Duration {
        self.rtt.map_or(Duration::ZERO, |rtt| (rtt.smooth + rtt.swing * 4).min(MAX_SWING))
    }
}

/// Whether we ourselves were awake. **Silence counts only while we listened**: a stall of ours
/// makes everybody look silent.
#[derive(Clone, Debug, Default)]
pub(super) struct LocalHealth {
    /// Silence before this does not count.
    pub since: Time,
    lag: Duration,
    lag_at: Time,
    /// When an address of this device last came or went.
    moved_at: Option<Time>,
}

/// A stall is remembered by half for each of these.
const LAG_HALF_LIFE: Duration = Duration::from_secs(10);

impl LocalHealth {
    /// We did not run for `lag` until now. What was said meanwhile is about to be read, which may
    /// take as long again: of the silence before, only as much still counts as leaves twice the
    /// stall until the time of a `cut`.
    pub fn stalled(&mut self, now: Time, lag: Duration, config: &Config) {
        self.lag = self.lag(now).max(lag).min(config.probe.lag_most);
        self.lag_at = now;
        self.since = self.since.max(now - config.suspicion.silent_after.saturating_sub(lag * 2));
    }

    /// This device has other addresses: its links are gone, and what it did not hear meanwhile is
    /// no sign of anything.
    pub fn moved(&mut self, now: Time) {
        self.since = now;
        self.moved_at = Some(now);
    }

    /// Whether that was a moment ago.
    pub fn has_moved(&self, now: Time) -> bool {
        self.moved_at.is_some_and(|at| now.since(at) < MOVING)
    }

    /// How long we stalled lately, fading.
    pub fn lag(&self, now: Time) -> Duration {
        let halvings = u32::try_from(now.since(self.lag_at).as_secs() / LAG_HALF_LIFE.as_secs())
            .unwrap_or(u32::MAX);
        match 1u32.checked_shl(halvings) {
            Some(divisor) => self.lag / divisor,
            None => Duration::ZERO,
        }
    }

    /// The same as peers are told it.
    pub fn lag_ms(&self, now: Time) -> u16 {
        u16::try_from(self.lag(now).as_millis()).unwrap_or(u16::MAX)
    }
}
