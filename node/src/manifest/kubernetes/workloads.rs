//! The workloads of the files, before ports, scaling and relations are added to them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use shoal_protocol::model::WorkloadName;
use shoal_protocol::model::spec::{
    After, Autoscale, Cron, Job, Kind, MAX_REPLICAS, Missed, Order, Overlap, Port, Rollout,
    Sequence, Stateful,
};

use super::super::tree::Position;
use super::super::verdict::Judged;
use super::objects::Object;
use super::placement::Selector;
use super::pod::{Around, Pod, pod};
use super::scalar::{IntOrText, Part};
use super::schedule::schedule;
use super::values::{Values, name_here};

/// A workload to be.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    /// As in the file, `Deployment/web`.
    pub shown: String,
    /// The place of its name.
    pub at: Position,
    pub name: WorkloadName,
    pub kind: Kind,
    pub rollout: Option<Rollout>,
    pub pod: Pod,
    /// The volumes of a StatefulSet, each with its size.
    pub templates: BTreeMap<String, Option<u64>>,
    pub autoscale: Option<Autoscale>,
    /// Its port that answers HTTP.
    pub http: Option<u16>,
    /// Other ports of its name.
    pub exposed: BTreeSet<u16>,
    /// Ports of the device.
    pub published: Vec<Port>,
    pub after: Vec<After>,
    /// The phases of a hook of Helm, and its weight.
    pub hook: Option<(Vec<String>, i64)>,
    /// Each replica of the job learns its index.
    pub is_indexed: bool,
}

impl Draft {
    /// The most replicas that there are at one time; none for one on each node.
    pub fn most(&self) -> Option<u32> {
        let scaled = self.autoscale.as_ref().map(|it| it.max);
        let indices = self.kind.job().map(|job| job.completions);
        scaled.or(self.kind.replicas()).or(indices)
    }
}

/// The workload of an object, if it is of a kind that runs something.
pub(super) fn draft(object: &Object, values: &Values, out: &mut Judged) -> Option<Draft> {
    let root = object.root();
    let spec = root.get("spec");
    let around = Around { values, namespace: &object.namespace };
    let (template, of_run) = match object.kind {
        "Deployment" | "StatefulSet" | "DaemonSet" | "Job" => (spec.get("template"), spec.clone()),
        "CronJob" => {
            let run = spec.at(&["jobTemplate", "spec"]);
            (run.get("template"), run)
        }
        "Pod" => (root.clone(), spec.clone()),
        _ => return None,
    };
    if !spec.is_there() {
        out.refuse(spec.wrong("it is missing"));
        return None;
    }
    let read = pod(&template, &around, out);
    let name = match name_here(&object.name) {
        Ok(name) => name,
        Err(why) => {
            out.refuse(root.at(&["metadata", "name"]).wrong(why));
            return None;
        }
    };
    let kind = kind(object, &spec, &of_run, read.as_ref(), out);
    let mode = of_run.get("completionMode");
    let is_indexed = kind.as_ref().is_some_and(|kind| kind.job().is_some())
        && mode.text(out).as_deref() == Some("Indexed");
    let rollout = match object.kind {
        "Deployment" => Some(of_deployment(&spec, kind.as_ref(), out)),
        "StatefulSet" => Some(of_stateful(&spec, kind.as_ref(), out)),
        "DaemonSet" => Some(of_daemon(&spec, out)),
        _ => None,
    };
    let pod = read?;
    if matches!(object.kind, "Deployment" | "StatefulSet" | "DaemonSet") {
        let selector = spec.get("selector");
        if !selector.is_there() {
            out.refuse(selector.wrong("it is missing"));
        } else if !Selector::read(&selector, out).finds(&pod.labels) {
            let problem = selector.wrong("it does not find the pods of its own template");
            out.refuse(problem.hint("Write the same labels into `spec.template.metadata.labels`."));
        }
    }
    Some(Draft {
        shown: object.shown(),
        at: object.name_at,
        name: WorkloadName { namespace: object.namespace.clone(), name },
        kind: kind?,
        rollout,
        templates: if object.kind == "StatefulSet" {
            templates(&spec, out)
        } else {
            BTreeMap::new()
        },
        pod,
        autoscale: None,
        http: None,
        exposed: BTreeSet::new(),
        published: Vec::new(),
        after: Vec::new(),
        hook: object.hook.clone(),
        is_indexed,
    })
}

fn kind(
    object: &Object,
    spec: &Part<'_>,
    run: &Part<'_>,
    pod: Option<&Pod>,
    out: &mut Judged,
) -> Option<Kind> {
    let restart = pod.and_then(|pod| pod.restart.as_deref());
    let of_pod = |part: &str| {
        let pod = pod.map_or(String::new(), |pod| pod.path.clone());
        format!("{pod}.{part}")
    };
    let at = pod.map_or(object.at, |pod| pod.at);
    let wrong =
        |field: &str, why: String| super::super::tree::Problem::new(at, why).field(of_pod(field));
    match (object.kind, restart) {
        ("Deployment" | "StatefulSet" | "DaemonSet", Some(other)) if other != "Always" => {
            let problem = wrong("restartPolicy", format!("`{other}`, and it runs for ever"));
            out.refuse(problem.hint("Write `Always`, or make it a Job."));
        }
        ("Job" | "CronJob", policy) if !matches!(policy, Some("OnFailure" | "Never")) => {
            let problem = wrong("restartPolicy", "a job ends".into());
            out.refuse(problem.hint("Write `OnFailure` or `Never`."));
        }
        _ => {}
    }
    let deadline = pod.and_then(|pod| pod.deadline);
    let ends = matches!(object.kind, "Job" | "CronJob") || restart.is_some_and(|it| it != "Always");
    if deadline.is_some() && !ends {
        out.refuse(wrong("activeDeadlineSeconds", "only a job has a deadline".into()));
    }
    let replicas = |out: &mut Judged| spec.get("replicas").count(out).unwrap_or(1);
    Some(match object.kind {
        "Deployment" => Kind::Service { replicas: replicas(out) },
        "StatefulSet" => {
            let policy = spec.get("podManagementPolicy");
            let order = policy.text(out).map(|text| text.parse::<Sequence>());
            let order = order.transpose().unwrap_or_else(|why| {
                out.refuse(policy.wrong(why));
                None
            });
            let order = order.unwrap_or_default();
            Kind::Stateful(Stateful { replicas: replicas(out), order })
        }
        "DaemonSet" => Kind::Daemon,
        "Job" => Kind::Job(job(run, deadline, out)),
        "CronJob" => Kind::Cron(cron(spec, job(run, deadline, out), out)?),
        _ => match restart {
            None | Some("Always") => Kind::Service { replicas: 1 },
            // A pod that may fail once has failed with its first try.
            Some("Never") => Kind::Job(Job { retries: 0, deadline, ..Job::default() }),
            Some(_) => Kind::Job(Job { retries: MAX_TRIES, deadline, ..Job::default() }),
        },
    })
}

/// Tries of a pod that is tried for ever.
const MAX_TRIES: u32 = shoal_protocol::model::spec::MAX_RETRIES;

fn job(spec: &Part<'_>, of_pod: Option<Duration>, out: &mut Judged) -> Job {
    let default = Job::default();
    let completions = spec.get("completions").count(out);
    let parallelism = spec.get("parallelism");
    let parallel = parallelism.count(out);
    if completions.is_none() && parallel.is_some_and(|it| it > 1) {
        let why = "without `completions` each of them would say when all are done";
        out.refuse(parallelism.wrong(why).hint("Write `completions`."));
    }
    let completions = completions.unwrap_or(default.completions);
    if parallel == Some(0) {
        let problem = parallelism.wrong("0 stops a job, and a job here runs when it is published");
        out.refuse(problem.hint("Publish it when it shall run."));
    }
    let suspend = spec.get("suspend");
    if suspend.is_true(out) {
        let problem = suspend.wrong("a job here runs when it is published");
        out.refuse(problem.hint("Publish it when it shall run."));
    }
    let seconds = |field: &str, out: &mut Judged| {
        spec.get(field).count(out).map(|it| Duration::from_secs(it.into()))
    };
    let deadline = seconds("activeDeadlineSeconds", out);
    Job {
        completions,
        parallel: parallel.unwrap_or(default.parallel).clamp(1, completions.max(1)),
        retries: spec.get("backoffLimit").count(out).unwrap_or(default.retries),
        deadline: deadline.or(of_pod),
        keep: seconds("ttlSecondsAfterFinished", out),
    }
}

fn cron(spec: &Part<'_>, job: Job, out: &mut Judged) -> Option<Cron> {
    let part = spec.get("schedule");
    if !part.is_there() {
        out.refuse(part.wrong("it is missing"));
    }
    let schedule = match schedule(&part.text(out)?) {
        Ok((schedule, note)) => {
            if let Some(note) = note {
                out.degrade(part.at, part.path.clone(), note);
            }
            schedule
        }
        Err(why) => {
            out.refuse(part.wrong(why));
            return None;
        }
    };
    let policy = spec.get("concurrencyPolicy");
    let overlap = policy.text(out).map(|text| text.parse::<Overlap>());
    let overlap = overlap.transpose().unwrap_or_else(|why| {
        out.refuse(policy.wrong(why));
        None
    });
    let in_time = spec.get("startingDeadlineSeconds").count(out);
    Some(Cron {
        schedule,
        zone: spec.get("timeZone").text(out).unwrap_or_else(|| "UTC".into()),
        missed: if in_time.is_some() { Missed::Skip } else { Missed::Once },
        overlap: overlap.unwrap_or_default(),
        suspended: spec.get("suspend").is_true(out),
        job,
    })
}

fn seconds(spec: &Part<'_>, field: &str, out: &mut Judged) -> Option<Duration> {
    spec.get(field).count(out).map(|it| Duration::from_secs(it.into()))
}

/// A number of replicas, or a part of them in percent.
fn share(part: &Part<'_>, of: u32, up: bool, out: &mut Judged) -> Option<u32> {
    match part.int_or_text(out)? {
        IntOrText::Int(number) => u32::try_from(number).ok(),
        IntOrText::Text(text) => {
            let percent = text.strip_suffix('%').and_then(|it| it.parse::<u64>().ok());
            let Some(percent) = percent else {
                let problem = part.wrong(format!("`{text}` is no number and no part in percent"));
                out.refuse(problem.hint("Write it as in 1 or 25%."));
                return None;
            };
            let all = percent.saturating_mul(of.into());
            u32::try_from(if up { all.div_ceil(100) } else { all / 100 }).ok()
        }
    }
}

fn of_deployment(spec: &Part<'_>, kind: Option<&Kind>, out: &mut Judged) -> Rollout {
    let default = Rollout::default();
    let replicas = kind.and_then(Kind::replicas).unwrap_or(1);
    let strategy = spec.get("strategy");
    let rollout = Rollout {
        min_ready: seconds(spec, "minReadySeconds", out).unwrap_or(default.min_ready),
        deadline: seconds(spec, "progressDeadlineSeconds", out).unwrap_or(default.deadline),
        paused: spec.get("paused").is_true(out),
        ..default
    };
    match strategy.get("type").text(out).as_deref() {
        None | Some("RollingUpdate") => {}
        Some("Recreate") => {
            return Rollout {
                parallel: replicas.clamp(1, MAX_REPLICAS),
                order: Order::StopFirst,
                ..rollout
            };
        }
        Some(other) => {
            let problem = strategy.get("type").wrong(format!("`{other}` is no strategy"));
            out.refuse(problem.hint("Write `RollingUpdate` or `Recreate`."));
        }
    }
    let rolling = strategy.get("rollingUpdate");
    let (surge, away) = (rolling.get("maxSurge"), rolling.get("maxUnavailable"));
    let quarter = u64::from(replicas) * 25;
    let default_surge = u32::try_from(quarter.div_ceil(100)).unwrap_or(1);
    let default_away = u32::try_from(quarter / 100).unwrap_or(0);
    let more = share(&surge, replicas, true, out).unwrap_or(default_surge);
    let fewer = share(&away, replicas, false, out).unwrap_or(default_away);
    match more {
        // Kubernetes takes neither, and one at least.
        0 => Rollout { parallel: fewer.max(1), order: Order::StopFirst, ..rollout },
        more => Rollout { parallel: more, order: Order::StartFirst, ..rollout },
    }
}

fn of_stateful(spec: &Part<'_>, kind: Option<&Kind>, out: &mut Judged) -> Rollout {
    let default = Rollout { order: Order::StopFirst, ..Rollout::default() };
    let strategy = spec.get("updateStrategy");
    let replicas = kind.and_then(Kind::replicas).unwrap_or(1);
    let rolling = strategy.get("rollingUpdate");
    let away = share(&rolling.get("maxUnavailable"), replicas, true, out);
    // Those from the partition on are replaced, the last one first.
    let partition = rolling.get("partition").count(out).unwrap_or(0);
    let is_split = partition > 0 && partition < replicas;
    Rollout {
        parallel: away.unwrap_or(1).max(1),
        min_ready: seconds(spec, "minReadySeconds", out).unwrap_or(default.min_ready),
        canary: if is_split { replicas - partition } else { 0 },
        paused: is_on_delete(&strategy, out) || (partition > 0 && partition >= replicas),
        ..default
    }
}

fn of_daemon(spec: &Part<'_>, out: &mut Judged) -> Rollout {
    let default = Rollout::default();
    let strategy = spec.get("updateStrategy");
    let rolling = strategy.get("rollingUpdate");
    let count = |field: &str, out: &mut Judged| match rolling.get(field).int_or_text(out)? {
        IntOrText::Int(number) => u32::try_from(number).ok(),
        // There is no number of nodes to take a part of.
        IntOrText::Text(text) => Some(u32::from(text != "0%")),
    };
    let (more, fewer) = (count("maxSurge", out).unwrap_or(0), count("maxUnavailable", out));
    let (parallel, order) = match more {
        0 => (fewer.unwrap_or(1).max(1), Order::StopFirst),
        more => (more, Order::StartFirst),
    };
    Rollout {
        parallel,
        order,
        min_ready: seconds(spec, "minReadySeconds", out).unwrap_or(default.min_ready),
        paused: is_on_delete(&strategy, out),
        ..default
    }
}

fn is_on_delete(strategy: &Part<'_>, out: &mut Judged) -> bool {
    let of = strategy.get("type");
    match of.text(out).as_deref() {
        None | Some("RollingUpdate") => false,
        Some("OnDelete") => {
            let text = "no replica is replaced until `shoal resume` says so";
            out.degrade(of.at, of.path.clone(), text);
            true
        }
        Some(other) => {
            let problem = of.wrong(format!("`{other}` is no strategy"));
            out.refuse(problem.hint("Write `RollingUpdate` or `OnDelete`."));
            false
        }
    }
}

fn templates(spec: &Part<'_>, out: &mut Judged) -> BTreeMap<String, Option<u64>> {
    let mut all = BTreeMap::new();
    for claim in spec.get("volumeClaimTemplates").items(out) {
        let name = claim.at(&["metadata", "name"]);
        if !name.is_there() {
            out.refuse(name.wrong("it is missing"));
        }
        if let Some(name) = name.text(out) {
            all.insert(name, claimed(&claim, out));
        }
    }
    all
}

/// The bytes of a claim.
pub(super) fn claimed(claim: &Part<'_>, out: &mut Judged) -> Option<u64> {
    let mode = claim.at(&["spec", "volumeMode"]);
    if mode.text(out).is_some_and(|it| it != "Filesystem") {
        out.refuse(mode.wrong("a volume here is a folder").hint("Write `Filesystem`."));
    }
    let storage = claim.at(&["spec", "resources", "requests", "storage"]);
    storage.quantity(out).map(|it| it.bytes())
}

impl Draft {
    /// The sum that the containers that run on request of a name; none if one requests nothing.
    pub fn request(&self, name: &str) -> Option<super::quantity::Quantity> {
        let sidecars = self.pod.inits.iter().filter(|it| it.is_sidecar);
        let mut all = self.pod.containers.iter().chain(sidecars);
        let first = all.next()?.resources.request(name)?;
        all.try_fold(first, |sum, it| Some(sum.plus(it.resources.request(name)?)))
    }

    /// Adds what was found in it to all, with its name before each field.
    pub fn tell(&self, found: Judged, all: &mut Judged) {
        super::objects::tell(&self.shown, found, all);
    }
}
