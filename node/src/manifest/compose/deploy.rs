//! `deploy`, `restart` and the limits of a service: its kind, its size, its nodes, its updates.

use std::time::Duration;

use shoal_protocol::model::spec::{
    Affinity, DEFAULT_MEMORY, Job, Kind, MAX_RETRIES, Order, Rollout, Rule,
};
use shoal_protocol::model::{Label, WorkloadName};

use super::super::tree::{Position, Tree};
use super::service::Service;
use super::values;
use crate::publish::{Workload, reserved_below, rollout};

/// The most memory of a service that names none: Compose has no limit, and a program that takes all
/// would end others.
const NO_LIMIT: u64 = 1 << 30;

/// The workload with what these fields say.
pub(super) fn apply(service: &mut Service<'_>, workload: Workload, is_component: bool) -> Workload {
    let kind = kind(service);
    let workload = placed(service, workload);
    let workload = sized(service, workload, is_component);
    let workload = updated(service, workload, &kind);
    workload.kind(kind)
}

/// Two spellings of one thing, which must say the same.
fn either<T: PartialEq>(
    service: &mut Service<'_>,
    (one, other): (&str, &str),
    read: impl Fn(&Tree) -> Result<T, String>,
) -> Option<T> {
    let (first, second) = (service.get(one, &read), service.get(other, &read));
    if let (Some(a), Some(b)) = (&first, &second)
        && a != b
    {
        let at = service.find(one).map_or(service.at, |it| it.at);
        service.refuse(at, one, format!("`{other}` says something else; leave one of them out"));
    }
    first.or(second)
}

/// The most processes of a container, which the node sets for each.
const MAX_PROCESSES: i64 = 2048;

/// When the engine starts a container again.
enum Restart {
    Always,
    Never,
    /// After a failure, so often.
    OnFailure(Option<u32>),
}

fn restart(service: &mut Service<'_>) -> Option<(Restart, Position)> {
    if let Some(policy) = service.find("deploy.restart_policy") {
        let attempts = service.get("deploy.restart_policy.max_attempts", values::count);
        let condition = service.text("deploy.restart_policy.condition");
        let restart = match condition.as_deref() {
            Some("none") => Restart::Never,
            Some("on-failure") => Restart::OnFailure(attempts),
            None | Some("any") => Restart::Always,
            Some(other) => {
                let why = format!("`{other}` is none of any, on-failure and none");
                service.refuse(policy.at, "deploy.restart_policy.condition", why);
                return None;
            }
        };
        return Some((restart, policy.at));
    }
    let text = service.text("restart")?;
    let at = service.find("restart")?.at;
    let (word, tries) = text.split_once(':').map_or((text.as_str(), None), |(a, b)| (a, Some(b)));
    let restart = match (word, tries.map(str::parse)) {
        ("no", None) => Restart::Never,
        ("always" | "unless-stopped", None) => Restart::Always,
        ("on-failure", None) => Restart::OnFailure(None),
        ("on-failure", Some(Ok(tries))) => Restart::OnFailure(Some(tries)),
        _ => {
            let why =
                format!("`{text}` is none of \"no\", always, unless-stopped and on-failure[:N]");
            service.refuse(at, "restart", why);
            return None;
        }
    };
    Some((restart, at))
}

fn kind(service: &mut Service<'_>) -> Kind {
    let replicas = either(service, ("scale", "deploy.replicas"), values::count);
    let restart = restart(service);
    let is_awaited = service.shared.awaited.contains(service.name);
    let mode = service.text("deploy.mode");
    let mode_at = service.find("deploy.mode").map_or(service.at, |it| it.at);
    let job = |service: &mut Service<'_>, retries: Option<u32>| {
        let count = replicas.unwrap_or(1);
        if count == 0 {
            let why = "a job of 0 replicas never runs; leave the service out";
            service.refuse(service.at, "deploy.replicas", why);
        }
        let retries = retries.unwrap_or(Job::default().retries);
        if retries > MAX_RETRIES {
            let is_policy = service.find("deploy.restart_policy").is_some();
            let field = if is_policy { "deploy.restart_policy.max_attempts" } else { "restart" };
            let at = service.find(field).map_or(service.at, |it| it.at);
            let why = format!("{retries} tries: at most {MAX_RETRIES} are possible; write fewer");
            service.refuse(at, field, why);
        }
        Kind::Job(Job {
            completions: count,
            parallel: count,
            retries: retries.min(MAX_RETRIES),
            ..Job::default()
        })
    };
    match mode.as_deref() {
        None | Some("replicated") => {}
        Some("global") => {
            if replicas.is_some() {
                let why = "a global service has one replica on each node: leave the number out";
                service.refuse(mode_at, "deploy.mode", why);
            }
            if !matches!(restart, None | Some((Restart::Always, _))) || is_awaited {
                let why = "a service on each node runs for ever: `restart` says otherwise";
                service.refuse(mode_at, "deploy.mode", why);
            }
            return Kind::Daemon;
        }
        Some("replicated-job") => {
            return match restart {
                Some((Restart::OnFailure(tries), _)) => job(service, tries),
                Some((Restart::Never, _)) => job(service, Some(0)),
                _ => job(service, None),
            };
        }
        Some(other) => {
            let why = format!("`{other}` is none of replicated, global and replicated-job");
            service.refuse(mode_at, "deploy.mode", why);
        }
    }
    match restart {
        Some((Restart::Never, _)) => job(service, Some(0)),
        Some((Restart::OnFailure(tries), at)) => {
            if tries.is_none() {
                let why = "a job that is tried 6 times more; write `on-failure:N`, or `always` \
                    for a server";
                let is_policy = service.find("deploy.restart_policy").is_some();
                let field = if is_policy { "deploy.restart_policy" } else { "restart" };
                service.degrade(at, field, why);
            }
            job(service, tries)
        }
        Some((Restart::Always, at)) if is_awaited => {
            let why = "another service waits until this one has ended, and it never ends";
            service.refuse(at, "restart", why);
            job(service, None)
        }
        None if is_awaited => job(service, Some(0)),
        _ => {
            let replicas = replicas.unwrap_or(1);
            check_single(service, replicas);
            Kind::Service { replicas }
        }
    }
}

/// Refuses several replicas of what all of them would share elsewhere.
fn check_single(service: &mut Service<'_>, replicas: u32) {
    let extra = service.find("x-shoal");
    let is_stateful = extra.and_then(|it| it.get("kind")).and_then(Tree::as_text);
    if replicas < 2 || is_stateful.is_some_and(|it| it.eq_ignore_ascii_case("stateful")) {
        return;
    }
    let named = service.shared.volumes.iter();
    let of_it = named.filter(|(_, users)| users.contains(service.name)).map(|(name, _)| name);
    if let Some(name) = of_it.min().cloned() {
        let at = service.find("volumes").map_or(service.at, |it| it.at);
        let why = format!(
            "its {replicas} replicas share `{name}` elsewhere, and here each has a volume of its \
             own. If that is right, write `x-shoal: {{ kind: stateful }}`"
        );
        service.refuse(at, "volumes", why);
    }
    if let Some(tree) = service.find("container_name") {
        service.refuse(tree.at, "container_name", "it is for one replica; leave it out");
    }
}

fn sized(service: &mut Service<'_>, workload: Workload, is_component: bool) -> Workload {
    let memory = ("mem_limit", "deploy.resources.limits.memory");
    let limit = either(service, memory, values::size).filter(|it| *it > 0);
    let memory = ("mem_reservation", "deploy.resources.reservations.memory");
    let reserved = either(service, memory, values::size).filter(|it| *it > 0);
    let cpu = either(service, ("cpus", "deploy.resources.limits.cpus"), values::cores);
    let quota = service.get("cpu_quota", values::int).filter(|it| *it > 0);
    let period = service.get("cpu_period", period).unwrap_or(100_000);
    let of_quota = quota.and_then(|quota| u32::try_from(quota.saturating_mul(1000) / period).ok());
    if let (Some(quota), Some(cpu)) = (of_quota, cpu)
        && quota != cpu
    {
        service.refuse(service.at, "cpus", "`cpu_quota` says something else; leave one out");
    }
    let cpu = cpu.or(of_quota).filter(|it| *it > 0);
    let reserved_cpu = service.get("deploy.resources.reservations.cpus", values::cores);
    let processes = ("pids_limit", "deploy.resources.limits.pids");
    if let Some(most) = either(service, processes, values::int)
        && most > MAX_PROCESSES
    {
        let field = if service.find(processes.0).is_some() { processes.0 } else { processes.1 };
        let at = service.find(field).map_or(service.at, |it| it.at);
        let why = format!("{most}: a container has at most {MAX_PROCESSES} processes");
        service.refuse(at, field, why);
    }
    let amounts = amounts(service);
    if let (Some(limit), Some(reserved)) = (limit, reserved)
        && limit < reserved
    {
        service.refuse(service.at, "mem_limit", "it is less than what is reserved");
    }
    let mut workload = workload.resources(amounts);
    let least = reserved.unwrap_or(DEFAULT_MEMORY);
    let most = limit.or((!is_component).then_some(NO_LIMIT.max(least)));
    let least = if reserved.is_some() { least } else { least.min(most.unwrap_or(least)) };
    workload = workload.memory(least);
    if limit.is_none() && !is_component {
        let why = "it names no limit of its memory: 1 GiB, or what is reserved; write `mem_limit`";
        service.degrade(service.at, "mem_limit", why);
    }
    if let Some(cpu) = reserved_cpu.filter(|it| *it > 0).or_else(|| reserved_below(cpu)) {
        workload = workload.cpu(cpu);
    }
    workload.limit(most.filter(|_| !is_component || limit.is_some()), cpu)
}

/// A period in microseconds; the durations of the reference are refused elsewhere, too.
fn period(tree: &Tree) -> Result<i64, String> {
    match values::int(tree)? {
        micros @ 1.. => Ok(micros),
        _ => Err("it is above 0".into()),
    }
}

fn amounts(service: &mut Service<'_>) -> Vec<(String, u64)> {
    let field = "deploy.resources.reservations.generic_resources";
    let Some(items) = service.find(field).and_then(Tree::as_list) else { return Vec::new() };
    let mut all = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let part = |name| item.at_path(&["discrete_resource_spec", name]);
        let kind = part("kind").and_then(Tree::as_text).map(str::to_lowercase);
        let value = part("value").map(values::count);
        match (kind, value) {
            (Some(kind), Some(Ok(value))) => all.push((kind.replace('_', "-"), value.into())),
            _ => {
                let why = "discrete_resource_spec: { kind: camera, value: 1 } is expected";
                service.refuse(item.at, &format!("{field}[{index}]"), why);
            }
        }
    }
    all
}

fn placed(service: &mut Service<'_>, workload: Workload) -> Workload {
    let mut workload = workload;
    if let Some(platform) = service.text("platform") {
        let at = service.find("platform").map_or(service.at, |it| it.at);
        let mut parts = platform.split('/');
        match (parts.next(), parts.next()) {
            (Some("linux"), Some(arch)) => workload = workload.rule(Rule::is("arch", arch)),
            (Some("linux"), None) => {}
            (Some(arch @ ("amd64" | "arm64" | "arm")), None) => {
                workload = workload.rule(Rule::is("arch", arch));
            }
            _ => service.refuse(at, "platform", "linux/amd64 or the like is expected"),
        }
    }
    let field = "deploy.placement.constraints";
    for (index, (at, text)) in
        service.get(field, values::texts).unwrap_or_default().into_iter().enumerate()
    {
        let field = format!("{field}[{index}]");
        match constraint(&text) {
            Ok((rule, note)) => {
                workload = workload.rule(rule);
                if let Some(note) = note {
                    service.degrade(at, &field, note);
                }
            }
            Err(why) => service.refuse(at, &field, why),
        }
    }
    let field = "deploy.placement.preferences";
    let items = service.find(field).and_then(Tree::as_list).unwrap_or_default();
    for (index, item) in items.iter().enumerate() {
        let spread = item.get("spread").and_then(Tree::as_text);
        match spread.and_then(|it| it.strip_prefix("node.labels.")) {
            Some(label) => workload = workload.spread([label.to_owned()]),
            None => {
                let why = "spread: node.labels.NAME is expected";
                service.refuse(item.at, &format!("{field}[{index}]"), why);
            }
        }
    }
    let field = "deploy.placement.max_replicas_per_node";
    match service.get(field, values::count) {
        Some(1) => {
            if let Some(name) = own_name(service) {
                workload =
                    workload.affinity([Affinity { workload: name, apart: true, weight: None }]);
            }
        }
        None | Some(0) => {}
        Some(_) => {
            let at = service.find(field).map_or(service.at, |it| it.at);
            service.refuse(at, field, "write 1, or leave it out");
        }
    }
    workload
}

fn own_name(service: &Service<'_>) -> Option<WorkloadName> {
    let name: Label = service.shared.names.get(service.name)?.clone();
    Some(WorkloadName { namespace: service.shared.namespace.clone(), name })
}

/// A rule about nodes, and a note if its label is one that nodes have to be given.
fn constraint(text: &str) -> Result<(Rule, Option<String>), String> {
    let (name, operator, value) = match (text.split_once("=="), text.split_once("!=")) {
        (Some((name, value)), _) => (name.trim(), "=", value.trim()),
        (None, Some((name, value))) => (name.trim(), "!=", value.trim()),
        (None, None) => return Err(format!("`{text}` is not of the form node.labels.NAME==VALUE")),
    };
    let (ours, note) = match name {
        "node.platform.os" => ("os", None),
        "node.platform.arch" => ("arch", None),
        "node.hostname" => {
            let note = format!("give that node the label: `shoal up --label hostname={value}`");
            ("hostname", Some(note))
        }
        name => match name.strip_prefix("node.labels.").or(name.strip_prefix("engine.labels.")) {
            Some(label) if !label.is_empty() => (label, None),
            _ => {
                return Err(format!(
                    "`{name}`: no node has a role or an id here; give nodes a label, and write \
                     node.labels.NAME==VALUE"
                ));
            }
        },
    };
    let rule = format!("{ours}{operator}{value}").parse::<Rule>();
    Ok((rule.map_err(|error| error.to_string())?, note))
}

fn updated(service: &mut Service<'_>, workload: Workload, kind: &Kind) -> Workload {
    let Some(config) = service.find("deploy.update_config") else { return workload };
    let field = "deploy.update_config";
    if kind.job().is_some() {
        service.degrade(config.at, field, "a job has no updates: its replicas run to their end");
        return workload;
    }
    let mut all = Rollout { order: Order::StopFirst, ..Rollout::default() };
    let parallel = service.get(&format!("{field}.parallelism"), values::count);
    if let Some(order) =
        service.get(&format!("{field}.order"), |it| rollout::order(&values::text(it)?))
    {
        all.order = order;
    }
    if let Some(monitor) = service.get(&format!("{field}.monitor"), values::duration) {
        all.min_ready = monitor;
        all.deadline = all.deadline.max(monitor.saturating_add(Duration::from_secs(60)));
    }
    let action = format!("{field}.failure_action");
    match service.text(&action).as_deref() {
        None => {}
        Some("continue") => {
            let at = service.find(&action).map_or(config.at, |it| it.at);
            service.degrade(at, &action, "it pauses: `shoal resume` goes on");
        }
        Some(text) => match rollout::on_failure(text) {
            Ok(action) => all.on_failure = action,
            Err(why) => service.refuse(config.at, &action, why),
        },
    }
    // 0 is all at once, which is what no policy means.
    match parallel {
        Some(0) => workload,
        parallel => {
            all.parallel = parallel.unwrap_or(1);
            workload.update(all)
        }
    }
}
