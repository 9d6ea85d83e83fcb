//! What is kept of a linked peer.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{Digest, Time};

use super::message::{Round, Tree};
use super::short_hash::ShortHash;
use super::state::{Difference, Intake, Walk};

/// After so many tries to mend one and the same difference it is held to be one that cannot be
/// mended: one side refuses what the other has, because it is older, or full.
const MAX_TRIES: u8 = 3;
/// Such a difference is tried again after so long.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// No question is repeated sooner, however fast the link is: the peer may be busy.
const MIN_ANSWER_WAIT: Duration = Duration::from_millis(250);
/// How many differences are remembered as tried. Beyond that they are tried every time, which costs
/// traffic only.
pub(super) const MAX_TRIED: usize = 1024;

#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// Of the rounds that this node opens with it.
    pub(super) salt: u64,
    pub(super) rounds: u32,
    pub(super) in_step: bool,
    /// No comparison over this link has come to its end: what is fresh counts too, since whoever
    /// was not linked has not heard of it by gossip.
    pub(super) is_new: bool,
    /// What it asked may have lain here for long: only what it answers counts.
    pub(super) only_own_walks_count: bool,
    /// When to compare; none while in step, where chance decides.
    pub(super) compare_at: Option<Time>,
    pub(super) failures: u32,
    pub(super) walk: Option<Walk>,
    pub(super) intake: Intake,
    /// The last round of the peer's that was answered with a difference: its outcome counts.
    pub(super) answering: Option<Round>,
    pub(super) tried: Tried,
    /// How long its answers take, smoothed.
    usual: Duration,
}

impl Peer {
    /// `usual` is how long an answer is thought to take until one has come.
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

    /// When to compare, if that makes sense now.
    pub(super) fn due(&self) -> Option<Time> {
        self.compare_at.filter(|_| self.walk.is_none() && !self.intake.is_busy())
    }

    /// When to repeat a question that was asked `tries` times before: a few times what is usual,
    /// doubled each time.
    pub(super) fn answer_by(&self, now: Time, tries: u8, at_most: Duration) -> Time {
        let wait = (self.usual * 4).max(MIN_ANSWER_WAIT) * (1 << tries.min(8));
        now + wait.min(at_most)
    }

    /// An answer came. One to a question that was repeated tells nothing: it may be to either.
    pub(super) fn on_answer(&mut self, now: Time, asked_at: Time, tries: u8) {
        if tries == 0 {
            self.usual = (self.usual * 7 + now.since(asked_at)) / 8;
        }
    }

    pub(super) fn round(&self) -> Round {
        Round { salt: self.salt, number: self.rounds }
    }
}

/// What to do about a difference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Decision {
    /// Mend it: out of step.
    Mend,
    /// Mend it if that works now, but it is not news.
    MendQuietly,
    /// It was tried just now, in vain.
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
