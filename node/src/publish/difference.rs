//! The changes of a publish, field by field.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use shoal_protocol::model::Spec;
use shoal_protocol::model::spec::{
    Container, OnFailure, OnLoss, Order, Port, Program, Rollout, Volume, VolumeSource,
};

use crate::manifest::quantity::{show_cpu, show_cpu_limit, show_size};

/// A field that differs. `None` on one side: it was added or removed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The field's name, as in `replicas` or `env GREETING`.
    pub field: String,
    /// The old value.
    pub from: Option<String>,
    /// The new value.
    pub to: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, "{} {from} -> {to}", self.field),
            (None, Some(to)) => write!(f, "{} {to} (new)", self.field),
            (Some(from), None) => write!(f, "{} {from} (removed)", self.field),
            (None, None) => write!(f, "{}", self.field),
        }
    }
}

/// The fields in which `new` differs from `old`; empty when the specs are equal.
pub fn differences(old: &Spec, new: &Spec) -> Vec<Difference> {
    let mut all = Vec::new();
    let mut note = |field: &str, from: String, to: String| {
        if from != to {
            let side = |text: String| (!text.is_empty()).then_some(text);
            let (from, to) = (side(from), side(to));
            all.push(Difference { field: field.to_owned(), from, to });
        }
    };
    let component = |spec: &Spec| match container_of(spec) {
        Some(_) => String::new(),
        None => spec.program.artifacts().map(|it| it.digest.short()).collect::<String>(),
    };
    note("artifact", component(old), component(new));
    let image = |spec: &Spec| {
        container_of(spec).map_or(String::new(), |container| container.image.reference.clone())
    };
    note("image", image(old), image(new));
    note("kind", old.kind.as_str().to_owned(), new.kind.as_str().to_owned());
    note("args", args(old), args(new));
    if let (Program::Wasm(old), Program::Wasm(new)) = (&old.program, &new.program) {
        note("world", old.world.as_str().to_owned(), new.world.as_str().to_owned());
    }
    let replicas = |spec: &Spec| spec.kind.replicas().map(|it| it.to_string()).unwrap_or_default();
    note("replicas", replicas(old), replicas(new));
    note("memory", show_size(old.reservation().memory), show_size(new.reservation().memory));
    note("cpu", show_cpu(old.reservation().cpu), show_cpu(new.reservation().cpu));
    let limits = |spec: &Spec| {
        let limit = spec.resources.limit;
        match limit == spec.reservation() {
            true => String::new(),
            false => format!("{} and {}", show_size(limit.memory), show_cpu_limit(limit.cpu)),
        }
    };
    note("limit", limits(old), limits(new));
    note("storage", volumes(old), volumes(new));
    note("ports", ports(old), ports(new));
    let options = |spec: &Spec| -> BTreeMap<&'static str, String> {
        let options = container_of(spec).map(Container::options).unwrap_or_default();
        let options = options.into_iter().chain(spec.health.options());
        let options = options.chain(spec.later.options()).chain(spec.placement.options());
        options.chain(spec.kind.options()).collect()
    };
    let updates = (rollout_of(old), rollout_of(new));
    let by_field = updates.0.is_some() && updates.1.is_some();
    let (before, after) = (options(old), options(new));
    let names: BTreeSet<&&'static str> = before.keys().chain(after.keys()).collect();
    for name in names.into_iter().filter(|name| **name != "update" || !by_field) {
        let of = |options: &BTreeMap<&str, String>| options.get(*name).cloned().unwrap_or_default();
        note(name, of(&before), of(&after));
    }
    note("runtime", old.program.kind().to_string(), new.program.kind().to_string());
    maps("env", old.env(), new.env(), &mut all);
    maps("require", &old.placement.require, &new.placement.require, &mut all);
    let (before, after) = (others(old), others(new));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names {
        match (before.get(name), after.get(name)) {
            (Some(from), Some(to)) => maps(&format!("container {name}:"), from, to, &mut all),
            (from, to) => {
                let image = |it: &BTreeMap<String, String>| it.get("image").cloned();
                let (from, to) = (from.and_then(image), to.and_then(image));
                all.push(Difference { field: format!("container {name}"), from, to });
            }
        }
    }
    if let (Some(from), Some(to)) = updates {
        maps("update", &from, &to, &mut all);
    }
    // A file of the same name, or of none, with another image in it.
    let contents = |spec: &Spec| spec.program.artifacts().map(|it| it.digest).collect::<Vec<_>>();
    if let (Some(container), Some(before)) = (container_of(new), container_of(old))
        && container.image.reference == before.image.reference
        && contents(old) != contents(new)
    {
        let field = format!("image {} with other contents", container.image.reference);
        all.push(Difference { field, from: None, to: None });
    }
    // Two sizes may have the same text and still differ.
    if all.is_empty() && old != new {
        all.push(Difference { field: "details".into(), from: None, to: None });
    }
    all
}

/// The other containers of a group, each with its parts in words.
fn others(spec: &Spec) -> BTreeMap<String, BTreeMap<String, String>> {
    let of = |it: &Container| {
        let options = it.options().into_iter().map(|(name, text)| (name.to_owned(), text));
        let env = it.env.iter().map(|(name, value)| (format!("env {name}"), value.clone()));
        let image = ("image".to_owned(), it.image.reference.clone());
        (it.name.clone(), options.chain(env).chain([image]).collect())
    };
    spec.program.containers().iter().skip(1).map(of).collect()
}

/// The parts of a policy for updates, by their names in a manifest.
fn rollout_of(spec: &Spec) -> Option<BTreeMap<String, String>> {
    let Rollout { parallel, order, min_ready, deadline, canary, on_failure, paused } =
        spec.later.rollout.as_ref()?;
    let order = match order {
        Order::StartFirst => "start-first",
        Order::StopFirst => "stop-first",
    };
    let on_failure = match on_failure {
        OnFailure::Pause => "pause",
        OnFailure::RollBack => "roll-back",
    };
    let all = [
        ("parallel", parallel.to_string()),
        ("order", order.to_owned()),
        ("min-ready", format!("{}s", min_ready.as_secs_f64())),
        ("deadline", format!("{}s", deadline.as_secs_f64())),
        ("canary", canary.to_string()),
        ("on-failure", on_failure.to_owned()),
        ("paused", paused.to_string()),
    ];
    Some(all.into_iter().map(|(name, text)| (name.to_owned(), text)).collect())
}

/// The arguments of a component.
fn args(spec: &Spec) -> String {
    match &spec.program {
        Program::Wasm(component) => component.args.join(" "),
        Program::Containers(_) => String::new(),
    }
}

fn ports(spec: &Spec) -> String {
    spec.exposure.ports.iter().map(shown_port).collect::<Vec<_>>().join(", ")
}

/// A published port as people write it.
pub fn shown_port(port: &Port) -> String {
    let ip = port.address.map(|ip| match ip.is_ipv6() {
        true => format!("[{ip}]:"),
        false => format!("{ip}:"),
    });
    let kind = if port.udp { "/udp" } else { "" };
    format!("{}{}:{}{kind}", ip.unwrap_or_default(), port.device, port.replica)
}

fn volumes(spec: &Spec) -> String {
    let one = |volume: &Volume| {
        let name = &volume.name;
        match (&volume.source, volume.on_loss) {
            (VolumeSource::Device(path), _) => format!("{name}={path}"),
            (VolumeSource::Scratch, _) => format!("{name} (scratch)"),
            (VolumeSource::Kept, OnLoss::Wait) => name.clone(),
            (VolumeSource::Kept, OnLoss::Empty) => format!("{name} (empty on loss)"),
        }
    };
    spec.storage.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn container_of(spec: &Spec) -> Option<&Container> {
    match &spec.program {
        Program::Wasm(_) => None,
        Program::Containers(containers) => containers.first(),
    }
}

fn maps(
    what: &str,
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
    all: &mut Vec<Difference>,
) {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names {
        let (from, to) = (old.get(name), new.get(name));
        if from != to {
            all.push(Difference {
                field: format!("{what} {name}"),
                from: from.cloned(),
                to: to.cloned(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use shoal_protocol::model::spec::{Cron, Job, Kind};

    use super::*;
    use crate::publish::Workload;

    fn told(from: &Kind, to: &Kind) -> Vec<String> {
        let of = |kind: &Kind| {
            let workload = Workload::image("a", "report:1").unwrap();
            workload.kind(kind.clone()).spec(None).unwrap()
        };
        differences(&of(from), &of(to)).iter().map(ToString::to_string).collect()
    }

    /// Each container of a group is told by its name.
    #[test]
    fn containers_of_a_group_differ_by_name() {
        let of = |log: &str, more: bool| {
            let other = |name: &str, image: &str| {
                let other = Workload::image("a", image).unwrap().env("A", image);
                other.with_container(|it| it.name = name.into())
            };
            let group = Workload::image("a", "app:1").unwrap();
            let group = group.beside(other("log", log)).unwrap();
            let group = if more { group.beside(other("mesh", "mesh:1")).unwrap() } else { group };
            group.spec(None).unwrap()
        };
        let said = differences(&of("log:1", false), &of("log:2", true));
        let said: Vec<String> = said.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "container log: env A log:1 -> log:2",
                "container log: image log:1 -> log:2",
                "container mesh mesh:1 (new)",
            ]
        );
    }

    /// Each part of a kind has the name that a manifest has for it.
    #[test]
    fn kind_and_its_parts_differ_by_name() {
        let service = Kind::Service { replicas: 2 };
        let job = Job::default();
        let less = Job { retries: 2, deadline: Some(std::time::Duration::from_secs(60)), ..job };
        let said = told(&Kind::Job(job.clone()), &Kind::Job(less));
        assert_eq!(said, ["deadline 1m (new)", "retries 6 -> 2"]);
        let said = told(&service, &Kind::Daemon);
        assert_eq!(said, ["kind service -> daemon", "replicas 2 (removed)"]);
        let cron = Cron {
            schedule: "@daily".into(),
            zone: "UTC".into(),
            missed: Default::default(),
            overlap: Default::default(),
            suspended: false,
            job,
        };
        let other = Cron { schedule: "@hourly".into(), suspended: true, ..cron.clone() };
        let said = told(&Kind::Cron(cron), &Kind::Cron(other));
        assert_eq!(said, ["schedule @daily -> @hourly", "suspend true (new)"]);
    }
}
