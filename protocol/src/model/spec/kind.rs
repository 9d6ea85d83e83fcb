//! How many replicas a workload has, and when they end.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    InvalidSpec, MAX_COMPLETIONS, MAX_MISSED, MAX_RETRIES, MAX_RUNS, Program, Schedule, SpecForm,
    World,
};

/// The kind of a workload.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// So many replicas that run for ever.
    Service {
        /// 0 to [`MAX_REPLICAS`](super::MAX_REPLICAS).
        replicas: u32,
    },
    /// A replica on each node that fits.
    Daemon,
    /// Replicas that run to their end, once.
    Job(Job),
    /// A job for each tick of a schedule.
    Cron(Cron),
    /// Replicas that are told apart: each has a name of its own, and they start and end in order.
    Stateful(Stateful),
}

/// Replicas that are told apart.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stateful {
    /// 0 to [`MAX_REPLICAS`](super::MAX_REPLICAS).
    pub replicas: u32,
    /// Whether one replica waits for another.
    pub order: Sequence,
}

/// Whether the replicas of a stateful workload start and end one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sequence {
    /// Each starts when all before it are ready, and ends when all after it are gone.
    #[default]
    Ordered,
    /// All at once.
    Parallel,
}

/// Replicas that run to their end. Each has an index, from 0, and succeeds once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Indices that must succeed: 1 to [`MAX_COMPLETIONS`](super::MAX_COMPLETIONS).
    pub completions: u32,
    /// The most that run at one time: 1 to `completions`.
    pub parallel: u32,
    /// Further tries of an index on a node, after which the job has failed: at most
    /// [`MAX_RETRIES`](super::MAX_RETRIES).
    pub retries: u32,
    /// The job has failed if it is not done so long after it was due: at least a second.
    pub deadline: Option<Duration>,
    /// Lists leave it out so long after its end; none: never.
    pub keep: Option<Duration>,
}

impl Default for Job {
    fn default() -> Job {
        Job { completions: 1, parallel: 1, retries: 6, deadline: None, keep: None }
    }
}

/// A job for each tick of a schedule.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cron {
    /// Minute, hour, day of the month, month, day of the week.
    pub schedule: String,
    /// The time zone of the schedule, as in `Europe/Berlin`; `UTC` by default.
    pub zone: String,
    /// Ticks that were due while no node could start them.
    pub missed: Missed,
    /// A tick that is due while an earlier run goes on.
    pub overlap: Overlap,
    /// No ticks are started.
    pub suspended: bool,
    /// Each run.
    pub job: Job,
}

/// The policy for ticks that were due while no node could start them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missed {
    /// They are not run.
    Skip,
    /// The last of them is run.
    #[default]
    Once,
    /// The last ones are run, so many at most: 1 to [`MAX_MISSED`](super::MAX_MISSED).
    All(u32),
}

/// The policy for a tick that is due while an earlier run goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overlap {
    /// Both run.
    #[default]
    Allow,
    /// The tick is skipped.
    Forbid,
    /// The earlier run is stopped.
    Replace,
}

impl Kind {
    /// The wanted number of replicas, for the kinds that name one.
    pub fn replicas(&self) -> Option<u32> {
        match self {
            Kind::Service { replicas } | Kind::Stateful(Stateful { replicas, .. }) => {
                Some(*replicas)
            }
            Kind::Daemon | Kind::Job(_) | Kind::Cron(_) => None,
        }
    }

    /// The same kind with another number of replicas; none for the kinds that name none.
    pub fn with_replicas(&self, replicas: u32) -> Option<Kind> {
        match self {
            Kind::Service { .. } => Some(Kind::Service { replicas }),
            Kind::Stateful(it) => Some(Kind::Stateful(Stateful { replicas, ..it.clone() })),
            Kind::Daemon | Kind::Job(_) | Kind::Cron(_) => None,
        }
    }

    /// Whether its replicas are told apart.
    pub fn is_stateful(&self) -> bool {
        matches!(self, Kind::Stateful(_))
    }

    /// Whether its replicas start and end one after the other.
    pub fn is_ordered(&self) -> bool {
        matches!(self, Kind::Stateful(Stateful { order: Sequence::Ordered, .. }))
    }

    /// The job that its replicas are of; none for replicas that run for ever.
    pub fn job(&self) -> Option<&Job> {
        match self {
            Kind::Job(job) | Kind::Cron(Cron { job, .. }) => Some(job),
            Kind::Service { .. } | Kind::Daemon | Kind::Stateful(_) => None,
        }
    }

    /// Its parts in words, by the names that a manifest has for them.
    pub fn options(&self) -> Vec<(&'static str, String)> {
        let of_job = |job: &Job| {
            let Job { completions, parallel, retries, deadline, keep } = job;
            let time = |it: &Option<Duration>| it.map(shown);
            vec![
                ("completions", Some(completions.to_string())),
                ("parallel", Some(parallel.to_string())),
                ("retries", Some(retries.to_string())),
                ("deadline", time(deadline)),
                ("keep", time(keep)),
            ]
        };
        let all = match self {
            Kind::Service { .. } | Kind::Daemon => Vec::new(),
            Kind::Stateful(Stateful { replicas: _, order }) => {
                vec![("order", Some(order.as_str().to_owned()))]
            }
            Kind::Job(job) => of_job(job),
            Kind::Cron(cron) => {
                let Cron { schedule, zone, missed, overlap, suspended, job } = cron;
                let mut all = vec![
                    ("schedule", Some(schedule.clone())),
                    ("timezone", Some(zone.clone())),
                    ("missed", Some(missed.to_string())),
                    ("overlap", Some(overlap.as_str().to_owned())),
                    ("suspend", suspended.then(|| "true".to_owned())),
                ];
                all.extend(of_job(job));
                all
            }
        };
        all.into_iter().filter_map(|(name, text)| Some((name, text?))).collect()
    }

    /// The word that users write.
    pub fn as_str(&self) -> &'static str {
        match self {
            Kind::Service { .. } => "service",
            Kind::Daemon => "daemon",
            Kind::Job(_) => "job",
            Kind::Cron(_) => "cron",
            Kind::Stateful(_) => "stateful",
        }
    }
}

/// A duration as people write it, in the greatest unit that has it in full.
fn shown(time: Duration) -> String {
    let millis = time.as_millis();
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    match units.iter().find(|(_, unit)| millis > 0 && millis.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", millis / unit),
        None => format!("{millis}ms"),
    }
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missed::Skip => f.write_str("skip"),
            Missed::Once => f.write_str("once"),
            Missed::All(most) => write!(f, "{most}"),
        }
    }
}

impl FromStr for Missed {
    type Err = String;

    fn from_str(text: &str) -> Result<Missed, String> {
        match text {
            "skip" => Ok(Missed::Skip),
            "once" => Ok(Missed::Once),
            text => text.parse().map(Missed::All).map_err(|_| {
                format!("`{text}`: `skip`, `once`, or a number of runs up to {MAX_MISSED}")
            }),
        }
    }
}

impl Overlap {
    /// The word that users write.
    pub fn as_str(self) -> &'static str {
        match self {
            Overlap::Allow => "allow",
            Overlap::Forbid => "forbid",
            Overlap::Replace => "replace",
        }
    }
}

impl FromStr for Overlap {
    type Err = String;

    fn from_str(text: &str) -> Result<Overlap, String> {
        let all = [Overlap::Allow, Overlap::Forbid, Overlap::Replace];
        // Kubernetes has capitals.
        let found = all.into_iter().find(|it| it.as_str().eq_ignore_ascii_case(text));
        found.ok_or_else(|| format!("`{text}`: `allow`, `forbid` or `replace`"))
    }
}

impl Sequence {
    /// The word that users write.
    pub fn as_str(self) -> &'static str {
        match self {
            Sequence::Ordered => "ordered",
            Sequence::Parallel => "parallel",
        }
    }
}

impl FromStr for Sequence {
    type Err = String;

    fn from_str(text: &str) -> Result<Sequence, String> {
        match text {
            // Kubernetes has it so.
            "OrderedReady" => Ok(Sequence::Ordered),
            text if text.eq_ignore_ascii_case("ordered") => Ok(Sequence::Ordered),
            text if text.eq_ignore_ascii_case("parallel") => Ok(Sequence::Parallel),
            _ => Err(format!("`{text}`: `ordered` or `parallel`")),
        }
    }
}

impl SpecForm {
    /// Whether its program can come to an end where its kind needs that. Authors and the nodes that
    /// they ask check it; what is signed is not judged by it.
    ///
    /// # Errors
    /// It never ends.
    pub fn check_end(&self) -> Result<(), InvalidSpec> {
        match &self.program {
            Program::Wasm(component)
                if self.kind.job().is_some() && component.world == World::Http =>
            {
                let what = self.kind.as_str();
                let why = format!(
                    "a component that answers requests never ends; a {what} runs a command, which \
                     is a program with a `main`, or a container"
                );
                Err(InvalidSpec::Kind { field: "kind", why })
            }
            _ => Ok(()),
        }
    }
}

/// Checks the numbers of a kind.
pub(super) fn check(form: &SpecForm) -> Result<(), InvalidSpec> {
    let kind = &form.kind;
    let wrong = |field, why: String| Err(InvalidSpec::Kind { field, why });
    let Some(job) = kind.job() else { return Ok(()) };
    let most = if matches!(kind, Kind::Cron(_)) { MAX_RUNS } else { MAX_COMPLETIONS };
    let Job { completions, parallel, retries, deadline, keep: _ } = job;
    if !(1..=most).contains(completions) {
        let what = kind.as_str();
        return wrong("completions", format!("{completions} is outside 1 to {most} for a {what}"));
    }
    if !(1..=*completions).contains(parallel) {
        let why = format!("{parallel} is outside 1 to the {completions} completions");
        return wrong("parallel", why);
    }
    if *retries > MAX_RETRIES {
        return wrong("retries", format!("{retries} is more than {MAX_RETRIES}"));
    }
    if deadline.is_some_and(|it| it < Duration::from_secs(1)) {
        return wrong("deadline", "less than a second".into());
    }
    if let Kind::Cron(Cron { schedule, zone, .. }) = kind {
        Schedule::new(schedule, zone)?;
    }
    if let Kind::Cron(Cron { missed: Missed::All(most), .. }) = kind
        && !(1..=MAX_MISSED).contains(most)
    {
        return wrong("missed", format!("{most} runs is outside 1 to {MAX_MISSED}"));
    }
    Ok(())
}
