//! State kept of a linked peer.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{Digest, Time};

use super::message::{Round, Tree};
use super::short_hash::ShortHash;
use super::state::{Difference, Intake, Walk};

/// After so many tries to mend the same difference it counts as unmendable: one side refuses the
/// other's version, because it is older, or because the side is full.
const MAX_TRIES: u8 = 3;
/// An unmendable difference is tried again after so long.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// The shortest wait for an answer, however fast the link is: the peer may be busy.
const MIN_ANSWER_WAIT: Duration = Duration::from_millis(250);
/// Differences that are remembered as tried. Further ones are tried every time, which costs traffic
/// only.
pub(super) const MAX_TRIED: usize = 1024;

#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// Salt of the rounds that this node opens with the peer.
    pub(super) salt: u64,
    pub(super) rounds: u32,
    pub(super) in_step: bool,
    /// No comparison over this link has ended yet. Until then fresh entries count too, because
    /// gossip has not reached a peer that was not linked.
    pub(super) is_new: bool,
    /// This node stalled, and the peer's questions may be from before: only this node's own
    /// comparison puts it in step.
    pub(super) only_own_walks_count: bool,
    /// When to compare; none while in step, when only chance starts a comparison.
    pub(super) compare_at: Option<Time>,
    pub(super) failures: u32,
    pub(super) walk: Option<Walk>,
    pub(super) intake: Intake,
    /// The peer's last round that was answered with a difference; its outcome counts.
    pub(super) answering: Option<Round>,
    pub(super) tried: Tried,
    /// How long the peer's answers take, smoothed.
    usual: Duration,
}

impl Peer {
    /// `usual` is the assumed answer time until an answer has come.
    pub(super) fn new(salt: u64, due: Time, usual: Duration) -> Self {
        Peer {
            salt,
            rounds: 0,
            in_step: false,
            is_new: true,
            only_own_walks_count: false,
            compare_at: Some(due),
            failures: 0,
            walk: None,
            intake: Intake::default(),
            answering: None,
            tried: Tried::default(),
            usual,
        }
    }

    /// When to compare; none while a comparison or a fetch is under way.
    pub(super) fn due(&self) -> Option<Time> {
        self.compare_at.filter(|_| self.walk.is_none() && !self.intake.is_busy())
    }

    /// When to repeat a question that was repeated `tries` times: four times the usual answer time,
    /// doubled with each try.
    pub(super) fn answer_by(&self, now: Time, tries: u8, at_most: Duration) -> Time {
        let wait = (self.usual * 4).max(MIN_ANSWER_WAIT) * (1 << tries.min(8));
        now + wait.min(at_most)
    }

    /// An answer came. If the question was repeated the answer time is not known.
    pub(super) fn on_answer(&mut self, now: Time, asked_at: Time, tries: u8) {
        if tries == 0 {
            self.usual = (self.usual * 7 + now.since(asked_at)) / 8;
        }
    }

    pub(super) fn round(&self) -> Round {
        Round { salt: self.salt, number: self.rounds }
    }
}

/// How to treat a difference between two nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Decision {
    /// Mend it, and the nodes are out of step.
    Mend,
    /// Mend it, without reporting the nodes out of step.
    MendQuietly,
    /// Leave it: mending was tried just now, in vain.
    Leave,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Tried(BTreeMap<(Tree, ShortHash), Try>);

#[derive(Clone, Debug)]
struct Try {
    theirs: Option<ShortHash>,
    mine: Option<Digest>,
    count: u8,
    at: Time,
}

impl Tried {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn judge(&mut self, now: Time, difference: &Difference) -> Decision {
        let place = (difference.tree, difference.head);
        let (theirs, mine) = (difference.theirs, difference.mine.as_ref().map(|(hash, _)| *hash));
        if let Some(tried) =
            self.0.get_mut(&place).filter(|tried| (tried.theirs, tried.mine) == (theirs, mine))
        {
            let decision = match tried.count {
                ..MAX_TRIES => Decision::Mend,
                _ if now.since(tried.at) >= TRY_AGAIN_AFTER => Decision::MendQuietly,
                _ => return Decision::Leave,
            };
            tried.count = tried.count.saturating_add(1);
            tried.at = now;
            return decision;
        }
        if self.0.len() >= MAX_TRIED {
            self.0.retain(|_, tried| now.since(tried.at) < TRY_AGAIN_AFTER);
        }
        if self.0.len() < MAX_TRIED || self.0.contains_key(&place) {
            self.0.insert(place, Try { theirs, mine, count: 1, at: now });
        }
        Decision::Mend
    }
}
