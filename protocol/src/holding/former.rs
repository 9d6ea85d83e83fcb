//! The revision that served before the target, while the target is not ready: it may answer no
//! longer, answer again, fail, and be started again.
//!
//! ```text
//!   serves ──▶ Waiting ──▶ serves
//!      │          │
//!      └──────────┴──▶ BackingOff ──▶ Starting ──▶ serves
//!                          │ too often
//!                          └──▶ dropped: only the target is tried
//! ```

use crate::model::claim::short_reason;
use crate::model::{Phase, ReplicaId, Revision, Time};

use super::{Config, Failed, Holding, Replica, Stage, Waits};

/// A revision that served until it was to be replaced, and then did not answer for a while at
/// least. It is forgotten when the target is ready.
#[derive(Clone, Debug)]
pub(super) struct Former {
    pub revision: Revision,
    /// `Ready`, `Waiting`, `BackingOff` or `Starting`.
    pub stage: Stage,
    /// Further tries since it last ran for [`Config::forgiven_after`].
    restarts: u32,
}

impl Former {
    fn of(revision: Revision) -> Former {
        Former { revision, stage: Stage::Ready, restarts: 0 }
    }
}

impl Holding {
    /// The revision that is to serve until the target is ready, and its phase; none if the target
    /// is alone. It is healthy while it serves.
    pub fn former(&self, replica: &ReplicaId) -> Option<(Revision, Phase)> {
        let entry = self.entry(replica)?;
        let former = entry.former.as_ref()?;
        Some((former.revision, former.stage.phase(former.restarts)))
    }
}

impl Replica {
    /// Whether something besides the target serves, or is to serve.
    pub(super) fn has_other(&self) -> bool {
        self.serving.is_some() || self.former.is_some()
    }

    /// Whether something besides the target may run: also one that never served.
    pub(super) fn runs_other(&self) -> bool {
        self.has_other() || self.ordered.is_some_and(|ordered| self.target != Some(ordered))
    }

    /// What the runtime reports of `revision`, which is not the target, is about: the revision
    /// that serves, or the one before it. None for an older one.
    fn former_of(&mut self, revision: Revision) -> Option<&mut Former> {
        let serves = self.serving.is_some_and(|(serving, _)| serving == revision);
        if self.former.as_ref().is_none_or(|it| it.revision != revision) {
            self.former = serves.then(|| Former::of(revision)).or(self.former.take());
        }
        self.former.as_mut().filter(|it| it.revision == revision)
    }

    /// It takes no requests.
    pub(super) fn former_waits(&mut self, revision: Revision, reason: String) -> Waits {
        let Some(former) = self.former_of(revision) else { return Waits::Known };
        let is_known = match &former.stage {
            Stage::Waiting { reason: known } => *known == reason,
            Stage::BackingOff { .. } => true,
            _ => false,
        };
        if is_known {
            return Waits::Known;
        }
        former.stage = Stage::Waiting { reason };
        match self.serving.take_if(|(serving, _)| *serving == revision) {
            Some(_) => Waits::Down,
            None => Waits::NotYet,
        }
    }

    /// It answers. Returns whether that is new.
    pub(super) fn former_is_ready(&mut self, now: Time, revision: Revision) -> bool {
        // It was the target until another one was wished for, and nothing serves before it. A claim
        // that came back is reported by its target only.
        if !self.has_other() && !self.is_returning && self.ordered == Some(revision) {
            self.former = Some(Former::of(revision));
            self.serving = Some((revision, now));
            return true;
        }
        let former = self.former.as_mut();
        let Some(former) = former.filter(|it| it.revision == revision) else { return false };
        if former.stage == Stage::Ready {
            return false;
        }
        former.stage = Stage::Ready;
        self.serving = Some((revision, now));
        true
    }

    /// It failed: it is started again after a pause that doubles, or dropped.
    pub(super) fn former_fails(
        &mut self,
        now: Time,
        revision: Revision,
        reason: &str,
        is_retryable: bool,
        config: &Config,
    ) -> Failed {
        self.ordered.take_if(|ordered| *ordered == revision);
        let served = self.serving.filter(|(serving, _)| *serving == revision);
        let Some(former) = self.former_of(revision) else { return Failed::Known };
        if matches!(former.stage, Stage::BackingOff { .. }) {
            return Failed::Known;
        }
        if served.is_some_and(|(_, since)| now.since(since) >= config.forgiven_after) {
            former.restarts = 0;
        }
        if is_retryable && former.restarts < config.max_restarts {
            let wait = config.restart_after.saturating_mul(1 << former.restarts.min(16));
            let (until, reason) =
                (now + wait.min(config.restart_at_most), short_reason(reason.to_owned()));
            former.restarts += 1;
            former.stage = Stage::BackingOff { until, reason };
        } else {
            self.former = None;
        }
        self.serving.take_if(|(serving, _)| *serving == revision);
        if !self.has_other()
            && let Stage::BackingOff { reason, .. } = &self.stage
            && self.restarts >= config.max_restarts
        {
            let (until, reason) = (now + config.give_up_after, reason.clone());
            self.stage = Stage::GivingUp { until, reason };
        }
        Failed::Down
    }
}
