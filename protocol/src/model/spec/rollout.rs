//! How replicas get a new revision, step by step.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{InvalidSpec, Kind, MAX_REPLICAS, SpecForm};

/// How replicas get a new revision. A spec without one replaces all at once.
///
/// **An update is a frontier**: the owner rules that places below it belong to the new revision,
/// and raises it when those below are ready. A place beyond keeps what it runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// Replicas that are replaced at one time: from 1 on.
    pub parallel: u32,
    /// Whether the old replica stops before the new one starts.
    pub order: Order,
    /// The time that new replicas must stay ready before the next ones are replaced.
    pub min_ready: Duration,
    /// An update whose replicas are not ready so long after their turn has failed: at least a
    /// second.
    pub deadline: Duration,
    /// So many replicas are replaced, and then the update waits until this is 0; 0 for none.
    pub canary: u32,
    /// What follows when an update fails.
    pub on_failure: OnFailure,
    /// No further replicas are replaced until this is withdrawn.
    pub paused: bool,
}

/// The order of the two starts and stops of a replaced replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// The old one serves until the new one is ready. What both cannot have at once, as a port of
    /// the device or a volume, makes it stop-first.
    #[default]
    StartFirst,
    /// The old one stops, then the new one starts.
    StopFirst,
}

/// What follows when an update fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// It stops: the replicas that have not had their turn keep the old revision.
    #[default]
    Pause,
    /// All replicas get the revision of before again.
    RollBack,
}

/// The deadline where the user names none, as in Kubernetes.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(600);

impl Default for Rollout {
    fn default() -> Rollout {
        Rollout {
            parallel: 1,
            order: Order::default(),
            min_ready: Duration::ZERO,
            deadline: DEFAULT_DEADLINE,
            canary: 0,
            on_failure: OnFailure::default(),
            paused: false,
        }
    }
}

impl fmt::Display for Rollout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rollout { parallel, order, min_ready, deadline, canary, on_failure, paused } = self;
        let order = match order {
            Order::StartFirst => "start-first",
            Order::StopFirst => "stop-first",
        };
        write!(f, "{parallel} at a time, {order}, ready for {}s", min_ready.as_secs_f64())?;
        write!(f, ", deadline {}s", deadline.as_secs_f64())?;
        if *canary > 0 {
            write!(f, ", a canary of {canary}")?;
        }
        if *on_failure == OnFailure::RollBack {
            f.write_str(", rolled back when it fails")?;
        }
        if *paused {
            f.write_str(", paused")?;
        }
        Ok(())
    }
}

impl SpecForm {
    /// How its replicas get a new revision: as its author wrote it, or as its kind has it; none for
    /// all at once.
    pub fn rollout(&self) -> Option<Cow<'_, Rollout>> {
        match &self.later.rollout {
            Some(rollout) => Some(Cow::Borrowed(rollout)),
            None => self.kind.is_stateful().then(|| Cow::Owned(self.kind.rollout())),
        }
    }
}

impl Kind {
    /// The policy for updates of a workload of this kind whose author names no part of it. **Two of
    /// one replica of a stateful workload are never wanted**, so the old one stops first.
    pub fn rollout(&self) -> Rollout {
        let order = if self.is_stateful() { Order::StopFirst } else { Order::default() };
        Rollout { order, ..Rollout::default() }
    }
}

/// Checks how a workload is updated.
pub(super) fn check(form: &SpecForm) -> Result<(), InvalidSpec> {
    let wrong = |field, why: String| Err(InvalidSpec::Kind { field, why });
    if let Some(previous) = &form.later.previous
        && (previous.name != form.name || previous.later.previous.is_some())
    {
        return wrong("previous", "it is of another workload, or has a previous one itself".into());
    }
    let Some(rollout) = &form.later.rollout else { return Ok(()) };
    if matches!(form.kind, Kind::Job(_) | Kind::Cron(_)) {
        let kind = form.kind.as_str();
        return wrong("update", format!("a {kind} has none: its replicas run to their end"));
    }
    if form.kind.is_stateful() && rollout.order == Order::StartFirst {
        let why = "start-first would run two of one replica, and `kind: stateful` promises that \
            there is one: stop-first, which is its default"
            .to_owned();
        return wrong("update: order", why);
    }
    if !(1..=MAX_REPLICAS).contains(&rollout.parallel) {
        let why = format!("{} is outside 1 to {MAX_REPLICAS}", rollout.parallel);
        return wrong("update: parallel", why);
    }
    if rollout.deadline < Duration::from_secs(1) {
        return wrong("update: deadline", "less than a second".into());
    }
    if rollout.min_ready >= rollout.deadline {
        let why = "no replica can be ready so long before the deadline".to_owned();
        return wrong("update: min-ready", why);
    }
    if rollout.canary > MAX_REPLICAS {
        return wrong("update: canary", format!("{} is more than {MAX_REPLICAS}", rollout.canary));
    }
    Ok(())
}
