//! The kind of a workload, as people give it to `shoal run` and in manifests.

use std::time::Duration;

use clap::Args;
use shoal_protocol::model::spec::{Cron, Job, Kind, Missed, Overlap, Sequence, Stateful};

use crate::manifest::quantity;

/// The words for kinds.
const KINDS: [&str; 5] = ["service", "stateful", "daemon", "job", "cron"];

/// Names that Kubernetes has for them.
const KUBERNETES: [(&str, &str); 5] = [
    ("StatefulSet", "stateful"),
    ("Deployment", "service"),
    ("ReplicaSet", "service"),
    ("DaemonSet", "daemon"),
    ("CronJob", "cron"),
];

/// What a workload is: a service unless it is said otherwise.
#[derive(Args, Clone, PartialEq, Eq, Debug, Default)]
#[command(next_help_heading = "Kinds of workloads")]
pub struct KindOptions {
    /// service: it runs for ever; stateful: the same, each replica with a name of its own, never
    /// two of one; daemon: a replica on each node that fits; job: it runs to its end; cron: a job
    /// for each tick of --schedule [default: service]
    #[arg(long, value_name = "KIND", value_parser = kind)]
    pub kind: Option<String>,
    /// Stateful: each replica starts when all before it are ready, and ends when all after it are
    /// gone (ordered), or none waits for another (parallel) [default: ordered]
    #[arg(long, value_name = "ordered|parallel")]
    pub order: Option<Sequence>,
    /// Job: how many of its indices must succeed [default: 1]
    #[arg(long, value_name = "N", value_parser = quantity::count)]
    pub completions: Option<u32>,
    /// Job: how many of them run at one time [default: 1]
    #[arg(long, value_name = "N", value_parser = quantity::count)]
    pub parallel: Option<u32>,
    /// Job: further tries of an index, after which it has failed [default: 6]
    #[arg(long, value_name = "N", value_parser = quantity::count)]
    pub retries: Option<u32>,
    /// Job: it has failed if it is not done so long after it was due
    #[arg(long, value_name = "DURATION", value_parser = quantity::duration)]
    pub deadline: Option<Duration>,
    /// Job: `ps` leaves it out so long after its end
    #[arg(long, value_name = "DURATION", value_parser = quantity::duration)]
    pub keep: Option<Duration>,
    /// Cron: minute, hour, day of the month, month and day of the week, as in '*/5 * * * *', or
    /// @daily and the like
    #[arg(long, value_name = "SCHEDULE")]
    pub schedule: Option<String>,
    /// Cron: the time zone of the schedule, as in Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE")]
    pub timezone: Option<String>,
    /// Cron: of ticks that no node could start in time, run none (skip), the last one (once), or so
    /// many at most [default: once]
    #[arg(long, value_name = "skip|once|N")]
    pub missed: Option<Missed>,
    /// Cron: while an earlier run goes on, run both (allow), skip the tick (forbid), or stop the
    /// earlier run (replace) [default: allow]
    #[arg(long, value_name = "allow|forbid|replace")]
    pub overlap: Option<Overlap>,
    /// Cron: start no ticks for now
    #[arg(long)]
    pub suspend: bool,
}

/// Reads the word for a kind.
///
/// # Errors
/// It is none.
pub fn kind(text: &str) -> Result<String, String> {
    // Kubernetes has capitals.
    let known = KINDS.into_iter().find(|it| it.eq_ignore_ascii_case(text));
    known.map(str::to_owned).ok_or_else(|| {
        let theirs = KUBERNETES.into_iter().find(|(it, _)| it.eq_ignore_ascii_case(text));
        let hint = theirs.map(|(_, ours)| format!("; here it is `{ours}`")).unwrap_or_default();
        format!("`{text}` is none of {}{hint}", KINDS.join(", "))
    })
}

impl KindOptions {
    /// The kind; `replicas` where a number was given.
    ///
    /// # Errors
    /// A part belongs to another kind.
    pub fn kind(&self, replicas: Option<u32>) -> Result<Kind, String> {
        let word = match (&self.kind, &self.schedule) {
            (Some(kind), _) => kind.as_str(),
            (None, Some(_)) => "cron",
            (None, None) => "service",
        };
        let of_job = [
            ("completions", self.completions.is_some()),
            ("parallel", self.parallel.is_some()),
            ("retries", self.retries.is_some()),
            ("deadline", self.deadline.is_some()),
            ("keep", self.keep.is_some()),
        ];
        let of_cron = [
            ("schedule", self.schedule.is_some()),
            ("timezone", self.timezone.is_some()),
            ("missed", self.missed.is_some()),
            ("overlap", self.overlap.is_some()),
            ("suspend", self.suspend),
        ];
        let first = |parts: &[(&'static str, bool)]| {
            parts.iter().find(|(_, is_there)| *is_there).map(|(name, _)| *name)
        };
        let (ends, ticks) = (matches!(word, "job" | "cron"), word == "cron");
        if let Some(part) = first(&of_cron).filter(|_| !ticks) {
            return Err(format!("{part}: only a cron workload has it, and this is a {word}"));
        }
        if let Some(part) = first(&of_job).filter(|_| !ends) {
            return Err(format!("{part}: only a job has it, and this is a {word}"));
        }
        if self.order.is_some() && word != "stateful" {
            return Err(format!("order: only a stateful workload has it, and this is a {word}"));
        }
        if replicas.is_some() && !matches!(word, "service" | "stateful") {
            return Err(match word {
                "daemon" => "replicas: a daemon has one on each node that fits".to_owned(),
                _ => format!("replicas: a {word} has `completions` and `parallel`"),
            });
        }
        let default = Job::default();
        let job = Job {
            completions: self.completions.unwrap_or(default.completions),
            parallel: self.parallel.unwrap_or(default.parallel),
            retries: self.retries.unwrap_or(default.retries),
            deadline: self.deadline,
            keep: self.keep,
        };
        Ok(match word {
            "daemon" => Kind::Daemon,
            "job" => Kind::Job(job),
            "cron" => {
                let schedule = self.schedule.clone().ok_or(
                    "schedule: a cron workload needs one, as in `*/5 * * * *` or `@daily`",
                )?;
                let zone = self.timezone.clone().unwrap_or_else(|| "UTC".to_owned());
                let (missed, overlap) = (self.missed, self.overlap);
                Kind::Cron(Cron {
                    schedule,
                    zone,
                    missed: missed.unwrap_or_default(),
                    overlap: overlap.unwrap_or_default(),
                    suspended: self.suspend,
                    job,
                })
            }
            "stateful" => Kind::Stateful(Stateful {
                replicas: replicas.unwrap_or(1),
                order: self.order.unwrap_or_default(),
            }),
            _ => Kind::Service { replicas: replicas.unwrap_or(1) },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(change: impl FnOnce(&mut KindOptions)) -> Result<Kind, String> {
        let mut options = KindOptions::default();
        change(&mut options);
        options.kind(None)
    }

    #[test]
    fn schedule_alone_makes_a_cron_workload() {
        let cron = of(|it| it.schedule = Some("@daily".into())).unwrap();
        let Kind::Cron(cron) = cron else { panic!("{cron:?}") };
        assert_eq!((cron.zone.as_str(), cron.job), ("UTC", Job::default()));
        assert_eq!(of(|_| {}), Ok(Kind::Service { replicas: 1 }));
        assert_eq!(of(|it| it.kind = Some("daemon".into())), Ok(Kind::Daemon));
    }

    #[test]
    fn stateful_workload_has_a_number_and_an_order() {
        let of = |order, replicas| {
            let kind = Some("stateful".to_owned());
            KindOptions { kind, order, ..KindOptions::default() }.kind(replicas).unwrap()
        };
        let wanted = |replicas, order| Kind::Stateful(Stateful { replicas, order });
        assert_eq!(of(None, None), wanted(1, Sequence::Ordered));
        assert_eq!(of(Some(Sequence::Parallel), Some(3)), wanted(3, Sequence::Parallel));
        assert!(kind("StatefulSet").unwrap_err().ends_with("here it is `stateful`"));
    }

    /// A part that has no meaning for the kind would be ignored.
    #[test]
    fn part_of_another_kind_is_refused() {
        let job = |change: fn(&mut KindOptions)| {
            of(|it| {
                it.kind = Some("job".into());
                change(it);
            })
        };
        assert!(
            job(|it| it.schedule = Some("@daily".into())).unwrap_err().starts_with("schedule:")
        );
        assert!(job(|it| it.suspend = true).unwrap_err().starts_with("suspend: only a cron"));
        assert!(of(|it| it.retries = Some(1)).unwrap_err().contains("this is a service"));
        let daemon = KindOptions { kind: Some("daemon".into()), ..KindOptions::default() };
        assert!(daemon.kind(Some(2)).unwrap_err().contains("one on each node"));
        assert!(of(|it| it.kind = Some("cron".into())).unwrap_err().contains("needs one"));
        assert!(of(|it| it.order = Some(Sequence::Parallel)).unwrap_err().contains("a service"));
        let known = "is none of service, stateful, daemon, job, cron";
        assert_eq!(kind("cronjob").unwrap_err(), format!("`cronjob` {known}; here it is `cron`"));
        assert_eq!(kind("pod").unwrap_err(), format!("`pod` {known}"));
        assert_eq!(kind("Job"), Ok("job".to_owned()));
    }
}
