//! Writes a spec as a manifest. **Reading it gives the same spec**: each text is read again before
//! it is handed out, so that none is ever wrong.

mod yaml;

use std::path::Path;
use std::time::Duration;

use shoal_protocol::model::name::DEFAULT_NAMESPACE;
use shoal_protocol::model::spec::{
    After, Autoscale, Check, Component, Container, Cron, DEFAULT_CPU, DEFAULT_MEMORY, Device,
    Exposure, Extra, Health, Hook, HookCommand, Hooks, Image, Job, Kind, Later, Member, Missed,
    Mount, NO_CPU_LIMIT, NetworkMode, OnFailure, OnLoss, Order, Overlap, Placement, PlatformImage,
    Privileges, Probe, Program, PullPolicy, Requirements, Role, Rollout, Sequence, Stateful,
    Target, Tmpfs, ValueKind, ValueUse, VolumeSource, World, size_of_group,
};
use shoal_protocol::model::{Artifact, DISK, Digest, Resources, Spec, SpecForm, WorkloadName};

use super::parse;
use super::update::leaves_some;
use crate::publish::{Source, Workload, shown_port};
use yaml::{Entries, Yaml};

/// The spec as a document of a manifest. A canary of all replicas, as after a scale down, is left
/// out: it never waits, and a manifest cannot have it.
///
/// # Errors
/// It has a part that a manifest cannot have, as a program may give it that embeds a node; the
/// error names the workload.
pub fn manifest(spec: &Spec) -> Result<String, String> {
    let spec = &without_vain_canary(spec);
    let text = Yaml::Map(document(spec)).document();
    let read = parse(&text, Path::new("/")).map_err(|error| error.to_string());
    let again = read.and_then(|all| {
        let workload = all.first().ok_or("nothing is read back")?;
        let artifact = spec.program.artifacts().next().filter(|_| is_component(spec));
        workload.spec(artifact).map_err(|error| error.to_string())
    });
    match again {
        Ok(again) if again == *spec => Ok(text),
        Ok(again) => {
            let lost = crate::publish::differences(spec, &again);
            let lost: Vec<String> = lost.into_iter().map(|it| it.field).collect();
            Err(format!("`{}` cannot be written as a manifest: {}", spec.name, lost.join(", ")))
        }
        Err(why) => Err(format!("`{}` cannot be written as a manifest: {why}", spec.name)),
    }
}

/// A workload that was not published, as a document of a manifest: what it runs is named as its
/// file named it.
///
/// # Errors
/// It is no valid workload; the error names it.
pub fn written(workload: &Workload) -> Result<String, String> {
    let unread = Artifact { digest: Digest([1; 32]), size: 1 };
    let artifact = match workload.source() {
        Source::Held(artifact) => *artifact,
        _ => unread,
    };
    let is_wasm = !matches!(workload.source(), Source::Engine | Source::Image(_));
    let spec = workload.spec(is_wasm.then_some(artifact));
    let spec = spec.map_err(|error| format!("`{}`: {error}", workload.name()))?;
    let mut entries = document(&spec);
    let sources = [workload.source()].into_iter().chain(workload.other_sources());
    let containers = entries.iter_mut().find(|(name, _)| name == "containers");
    if let Some((_, Yaml::List(all))) = containers {
        for (source, container) in sources.zip(all) {
            if let (Source::Image(path), Yaml::Map(fields)) = (source, container)
                && let Some((_, image)) = fields.iter_mut().find(|(name, _)| name == "image")
            {
                *image = Yaml::text(path.display().to_string());
            }
        }
        return Ok(Yaml::Map(entries).document());
    }
    let source = match workload.source() {
        Source::File(path) => Some(("artifact", "wasm", path)),
        Source::Image(path) => Some(("image", "image", path)),
        Source::Bytes(_) | Source::Held(_) | Source::Engine => None,
    };
    if let Some((before, key, path)) = source
        && let Some(entry) = entries.iter_mut().find(|(name, _)| name == before)
    {
        *entry = (key.to_owned(), Yaml::text(path.display().to_string()));
    }
    Ok(Yaml::Map(entries).document())
}

fn without_vain_canary(spec: &Spec) -> Spec {
    let mut form = SpecForm::from(spec.clone());
    let scale = form.later.autoscale.as_ref();
    let most = scale.map(|scale| scale.max).or(form.kind.replicas());
    match &mut form.later.rollout {
        Some(rollout) if leaves_some(rollout.canary, most).is_err() => rollout.canary = 0,
        _ => return spec.clone(),
    }
    form.try_into().unwrap_or_else(|_| spec.clone())
}

fn is_component(spec: &Spec) -> bool {
    matches!(spec.program, Program::Wasm(_))
}

// All fields are named here and below, so that a new one is not forgotten.
fn document(spec: &SpecForm) -> Vec<(String, Yaml)> {
    let SpecForm {
        name,
        program,
        kind,
        resources: Requirements { reservation, limit },
        placement,
        health,
        update: _,
        restart: _,
        exposure: Exposure { hosts: _, ports },
        storage: _,
        later,
    } = spec;
    let mut out = Entries(Vec::new());
    out.put("name", Yaml::text(name.name.as_str()));
    let namespace = name.namespace.as_str();
    out.put_if("namespace", namespace != DEFAULT_NAMESPACE, Yaml::text(namespace));
    match program {
        Program::Wasm(component) => {
            let Component { artifact, world, args, env: _, allow: _ } = component;
            out.put("artifact", artifact_of(artifact));
            // A job and arguments say it as well.
            let is_told = kind.job().is_some() || !args.is_empty();
            let is_command = *world == World::Command && !is_told;
            out.put_if("world", is_command, Yaml::plain(world.as_str()));
            let args: Vec<Yaml> = args.iter().map(Yaml::text).collect();
            out.put_if("args", !args.is_empty(), Yaml::List(args));
        }
        Program::Containers(all) if all.len() > 1 => {}
        Program::Containers(all) => {
            if let Some(container) = all.first() {
                out.put("image", Yaml::text(&container.image.reference));
                out.put_some("pinned", pinned(&container.image));
            }
        }
    }
    let is_group = program.containers().len() > 1;
    kind_of(&mut out, kind);
    // That of a group may follow from its containers.
    if !is_group || size_of_group(program.containers()) != Some(spec.resources) {
        out.put_if("memory", is_group, size(reservation.memory));
        let is_component = matches!(program, Program::Wasm(_));
        resources(&mut out, *reservation, *limit, is_component, is_group);
    }
    out.put_if("reserve", later.best_effort, Yaml::plain("none"));
    out.put_if("priority", later.priority != 0, Yaml::plain(later.priority));
    let uses = &later.uses;
    out.put_if("disk", uses.of(DISK) > 0, size(uses.of(DISK)));
    let devices = uses.devices().map(|(name, amount)| (name.to_owned(), Yaml::plain(amount)));
    let devices: Vec<_> = devices.collect();
    out.put_if("resources", !devices.is_empty(), Yaml::Map(devices));
    out.put_if("env", !is_group && !spec.env().is_empty(), Yaml::pairs(spec.env()));
    placed(&mut out, placement, later, name);
    let Later { stdin, tty, exposed, values, require: _, set, restarts, .. } = later;
    let Later { rollout, previous: _, autoscale: scale, mounts, .. } = later;
    let Later { uses: _, best_effort: _, priority: _, after, no_healthcheck, .. } = later;
    out.put_if("after", !after.is_empty(), Yaml::texts(after.iter().map(After::to_string)));
    if !is_group {
        given(&mut out, values);
        probes(&mut out, health, *no_healthcheck);
    }
    out.put_some("update", rollout.as_ref().map(update));
    out.put_some("autoscale", scale.as_ref().map(autoscale));
    if let Program::Wasm(_) = program {
        out.put_if("volumes", !mounts.is_empty(), volumes(mounts, spec));
    }
    match program.containers() {
        [] => {}
        [container] => container_of(&mut out, container, spec),
        all => {
            let entries = all.iter().enumerate().map(|(at, it)| entry(it, at == 0, spec));
            out.put("containers", Yaml::List(entries.collect()));
        }
    }
    out.put_if("exposed", !exposed.is_empty(), numbers(exposed));
    out.put_if("ports", !ports.is_empty(), Yaml::texts(ports.iter().map(shown_port)));
    out.put_if("stdin", *stdin, Yaml::plain(true));
    out.put_if("tty", *tty, Yaml::plain(true));
    out.put_some("set", set.as_ref().map(|set| Yaml::text(set.as_str())));
    out.put_if("restarts", *restarts != 0, Yaml::plain(restarts));
    out.0
}

/// A container of a group. The values and probes of the main one are those of the replica.
fn entry(container: &Container, is_main: bool, spec: &SpecForm) -> Yaml {
    let Member { role, reservation, health, values } = &container.member;
    let mut out = Entries(Vec::new());
    out.put("name", Yaml::text(&container.name));
    out.put_if("role", *role != Role::App, Yaml::plain(role));
    out.put("image", Yaml::text(&container.image.reference));
    out.put_some("pinned", pinned(&container.image));
    if let (Some(reserved), Some(limit)) = (reservation, container.limit) {
        out.put("memory", size(reserved.memory));
        out.put("cpu", cores(reserved.cpu));
        let mut most = Entries(Vec::new());
        most.put_if("memory", limit.memory != reserved.memory, size(limit.memory));
        most.put_if("cpu", limit.cpu != NO_CPU_LIMIT, cores(limit.cpu));
        out.put_if("limit", !most.0.is_empty(), Yaml::Map(most.0));
    }
    out.put_if("env", !container.env.is_empty(), Yaml::pairs(&container.env));
    match is_main {
        true => {
            given(&mut out, &spec.later.values);
            probes(&mut out, &spec.health, spec.later.no_healthcheck);
        }
        false => {
            given(&mut out, values);
            probes(&mut out, health, false);
        }
    }
    container_of(&mut out, container, spec);
    Yaml::Map(out.0)
}

fn given(out: &mut Entries, values: &[ValueUse]) {
    for (key, kind) in [("secrets", ValueKind::Secret), ("configs", ValueKind::Config)] {
        let of: Vec<Yaml> = values.iter().filter(|it| it.kind == kind).map(value_use).collect();
        out.put_if(key, !of.is_empty(), Yaml::List(of));
    }
}

fn probes(out: &mut Entries, health: &Health, no_healthcheck: bool) {
    let Health { startup, readiness, liveness } = health;
    let probes = [("startup", startup), ("readiness", readiness), ("liveness", liveness)];
    let probes = probes
        .into_iter()
        .filter_map(|(name, it)| it.as_ref().map(|probe| (name.to_owned(), probe_of(probe))));
    out.put_if("health", !health.is_empty(), Yaml::Map(probes.collect()));
    out.put_if("health", no_healthcheck, Yaml::plain("none"));
}

fn kind_of(out: &mut Entries, kind: &Kind) {
    let job = match kind {
        Kind::Service { replicas } => {
            return out.put_if("replicas", *replicas != 1, Yaml::plain(replicas));
        }
        Kind::Stateful(Stateful { replicas, order }) => {
            out.put("kind", Yaml::plain(kind.as_str()));
            out.put_if("order", *order == Sequence::Parallel, Yaml::plain(order.as_str()));
            return out.put_if("replicas", *replicas != 1, Yaml::plain(replicas));
        }
        Kind::Daemon => return out.put("kind", Yaml::plain(kind.as_str())),
        Kind::Job(job) => {
            out.put("kind", Yaml::plain(kind.as_str()));
            job
        }
        Kind::Cron(Cron { schedule, zone, missed, overlap, suspended, job }) => {
            out.put("schedule", Yaml::text(schedule));
            out.put_if("timezone", zone != "UTC", Yaml::text(zone));
            out.put_if("missed", *missed != Missed::default(), Yaml::plain(missed));
            out.put_if("overlap", *overlap != Overlap::default(), Yaml::plain(overlap.as_str()));
            out.put_if("suspend", *suspended, Yaml::plain(true));
            job
        }
    };
    let default = Job::default();
    let Job { completions, parallel, retries, deadline, keep } = job;
    out.put_if("completions", *completions != default.completions, Yaml::plain(completions));
    out.put_if("parallel", *parallel != default.parallel, Yaml::plain(parallel));
    out.put_if("retries", *retries != default.retries, Yaml::plain(retries));
    out.put_some("deadline", deadline.map(time));
    out.put_some("keep", keep.map(time));
}

fn resources(
    out: &mut Entries,
    reserved: Resources,
    limit: Resources,
    is_component: bool,
    is_group: bool,
) {
    let is_told = !is_group && reserved.memory != DEFAULT_MEMORY;
    out.put_if("memory", is_told, size(reserved.memory));
    let most_cpu = if is_component { reserved.cpu } else { NO_CPU_LIMIT };
    // A limit alone may lower what is reserved: then that is named, too.
    let is_named = reserved.cpu != DEFAULT_CPU || limit.cpu < DEFAULT_CPU;
    out.put_if("cpu", is_named, cores(reserved.cpu));
    let mut most = Entries(Vec::new());
    most.put_if("memory", limit.memory != reserved.memory, size(limit.memory));
    most.put_if("cpu", limit.cpu != most_cpu, cores(limit.cpu));
    out.put_if("limit", !most.0.is_empty(), Yaml::Map(most.0));
}

fn placed(out: &mut Entries, placement: &Placement, later: &Later, name: &WorkloadName) {
    let Placement { require, prefer, spread, affinity, tolerate } = placement;
    match later.require.is_empty() {
        true => out.put_if("require", !require.is_empty(), Yaml::pairs(require)),
        false => {
            let plain = require.iter().map(|(name, value)| format!("{name}={value}"));
            let rules = plain.chain(later.require.iter().map(ToString::to_string));
            out.put("require", Yaml::texts(rules));
        }
    }
    let preferred = prefer.iter().map(|it| {
        let rule = ("rule".to_owned(), Yaml::text(it.rule.to_string()));
        Yaml::Map(vec![rule, ("weight".to_owned(), Yaml::plain(it.weight))])
    });
    out.put_if("prefer", !prefer.is_empty(), Yaml::List(preferred.collect()));
    out.put_if("spread", !spread.is_empty(), Yaml::texts(spread));
    let mut relations = Entries(Vec::new());
    for (key, apart) in [("near", false), ("apart", true)] {
        let of = affinity.iter().filter(|it| it.apart == apart).map(|it| {
            let weight = it.weight.map(|weight| format!(":{weight}")).unwrap_or_default();
            let other = &it.workload;
            match other.namespace == name.namespace {
                true => format!("{}{weight}", other.name),
                false => format!("{}/{}{weight}", other.namespace, other.name),
            }
        });
        let of: Vec<String> = of.collect();
        relations.put_if(key, !of.is_empty(), Yaml::texts(of));
    }
    out.put_if("affinity", !affinity.is_empty(), Yaml::Map(relations.0));
    out.put_if("tolerate", !tolerate.is_empty(), Yaml::texts(tolerate));
}

fn value_use(given: &ValueUse) -> Yaml {
    let ValueUse { kind: _, name, to } = given;
    let mut parts = Entries(Vec::new());
    parts.put("source", Yaml::text(name.as_str()));
    match to {
        Target::Env(variable) => parts.put("env", Yaml::text(variable)),
        Target::File { path, mode, uid, gid } => {
            parts.put("target", Yaml::text(path));
            parts.put("mode", Yaml::text(format!("{mode:04o}")));
            parts.put_some("uid", uid.map(Yaml::plain));
            parts.put_some("gid", gid.map(Yaml::plain));
        }
    }
    Yaml::Map(parts.0)
}

fn probe_of(probe: &Probe) -> Yaml {
    let Probe { check, every, timeout, failures, successes, delay } = probe;
    let mut out = Entries(Vec::new());
    match check {
        Check::Http { path, port, headers } => {
            let mut http = Entries(Vec::new());
            http.put("path", Yaml::text(path));
            http.put_some("port", port.map(Yaml::plain));
            http.put_if("headers", !headers.is_empty(), Yaml::pairs(headers));
            out.put("http", Yaml::Map(http.0));
        }
        Check::Tcp { port } => {
            out.put("tcp", Yaml::Map(vec![("port".to_owned(), Yaml::plain(port))]));
        }
        Check::Exec { command } => out.put("exec", Yaml::texts(command)),
    }
    let default = Probe::of(check.clone());
    out.put_if("every", *every != default.every, time(*every));
    out.put_if("timeout", *timeout != default.timeout, time(*timeout));
    out.put_if("failures", *failures != default.failures, Yaml::plain(failures));
    out.put_if("successes", *successes != default.successes, Yaml::plain(successes));
    out.put_if("delay", *delay != default.delay, time(*delay));
    Yaml::Map(out.0)
}

fn update(rollout: &Rollout) -> Yaml {
    let Rollout { parallel, order, min_ready, deadline, canary, on_failure, paused } = rollout;
    let default = Rollout::default();
    let mut out = Entries(Vec::new());
    // At least one, so that the mapping is not empty.
    out.put("parallel", Yaml::plain(parallel));
    out.put_if("order", *order == Order::StopFirst, Yaml::plain("stop-first"));
    out.put_if("min-ready", *min_ready != default.min_ready, time(*min_ready));
    out.put_if("deadline", *deadline != default.deadline, time(*deadline));
    out.put_if("canary", *canary != default.canary, Yaml::plain(canary));
    out.put_if("on-failure", *on_failure == OnFailure::RollBack, Yaml::plain("roll-back"));
    out.put_if("paused", *paused, Yaml::plain(true));
    Yaml::Map(out.0)
}

fn autoscale(scale: &Autoscale) -> Yaml {
    let Autoscale { min, max, cpu, memory, requests, up, down } = scale;
    let default = Autoscale::default();
    let mut out = Entries(Vec::new());
    out.put("min", Yaml::plain(min));
    out.put("max", Yaml::plain(max));
    for (name, target) in [("cpu", cpu), ("memory", memory), ("requests", requests)] {
        out.put_some(name, target.map(Yaml::plain));
    }
    out.put_if("up", *up != default.up, time(*up));
    out.put_if("down", *down != default.down, time(*down));
    Yaml::Map(out.0)
}

fn container_of(out: &mut Entries, container: &Container, spec: &SpecForm) {
    let Container {
        name: _,
        image: Image { reference: _, digest: _, pull, platforms: _ },
        entrypoint,
        command,
        env: _,
        user,
        workdir,
        hostname,
        labels,
        network,
        http,
        mounts: _,
        tmpfs,
        read_only,
        init,
        stop_signal,
        stop_grace,
        shm_size,
        ulimits,
        sysctls,
        privileges: Privileges { privileged, cap_add, cap_drop, devices, security },
        limit: _,
        member: _,
        extra: Extra { hosts, dns, dns_search, dns_opt, groups, env_from, aliases },
        hooks: Hooks { post_start, pre_stop },
    } = container;
    out.put_some("command", command.as_ref().map(Yaml::texts));
    out.put_some("entrypoint", entrypoint.as_ref().map(Yaml::texts));
    out.put_some("port", http.map(Yaml::plain));
    out.put_some("user", user.as_ref().map(Yaml::text));
    out.put_some("workdir", workdir.as_ref().map(Yaml::text));
    out.put_some("hostname", hostname.as_ref().map(Yaml::text));
    out.put_if("labels", !labels.is_empty(), Yaml::pairs(labels));
    out.put_some(
        "network",
        match network {
            NetworkMode::Bridge => None,
            NetworkMode::Host => Some(Yaml::plain("host")),
            NetworkMode::None => Some(Yaml::plain("none")),
        },
    );
    out.put_if("tmpfs", !tmpfs.is_empty(), Yaml::texts(tmpfs.iter().map(tmpfs_of)));
    out.put_if("read_only", *read_only, Yaml::plain(true));
    out.put_if("init", *init, Yaml::plain(true));
    out.put_if("volumes", !container.mounts.is_empty(), volumes(&container.mounts, spec));
    out.put_if("devices", !devices.is_empty(), Yaml::texts(devices.iter().map(Device::to_string)));
    out.put_if("cap_add", !cap_add.is_empty(), Yaml::texts(cap_add));
    out.put_if("cap_drop", !cap_drop.is_empty(), Yaml::texts(cap_drop));
    out.put_if("security_opt", !security.is_empty(), Yaml::texts(security));
    out.put_if("privileged", *privileged, Yaml::plain(true));
    out.put_some("stop_signal", stop_signal.as_ref().map(Yaml::text));
    out.put_some("stop_grace", stop_grace.map(time));
    out.put_some("shm_size", shm_size.map(size));
    let limits = ulimits
        .iter()
        .map(|(name, it)| (name.clone(), Yaml::text(format!("{}:{}", it.soft, it.hard))));
    out.put_if("ulimits", !ulimits.is_empty(), Yaml::Map(limits.collect()));
    out.put_if("sysctls", !sysctls.is_empty(), Yaml::pairs(sysctls));
    out.put_if("extra_hosts", !hosts.is_empty(), Yaml::texts(hosts));
    out.put_if("dns", !dns.is_empty(), Yaml::texts(dns));
    out.put_if("dns_search", !dns_search.is_empty(), Yaml::texts(dns_search));
    out.put_if("dns_opt", !dns_opt.is_empty(), Yaml::texts(dns_opt));
    out.put_if("group_add", !groups.is_empty(), Yaml::texts(groups));
    let facts = env_from.iter().map(|(name, fact)| (name.clone(), Yaml::plain(fact)));
    out.put_if("env_from", !env_from.is_empty(), Yaml::Map(facts.collect()));
    out.put_if("aliases", !aliases.is_empty(), Yaml::texts(aliases));
    for (field, hooks) in [("post_start", post_start), ("pre_stop", pre_stop)] {
        let all = hooks.iter().map(hook_of).collect();
        out.put_if(field, !hooks.is_empty(), Yaml::List(all));
    }
    out.put_some(
        "pull",
        match pull {
            PullPolicy::Missing => None,
            PullPolicy::Always => Some(Yaml::plain("always")),
            PullPolicy::Never => Some(Yaml::plain("never")),
        },
    );
}

fn hook_of(hook: &Hook) -> Yaml {
    let mut out = Entries(Vec::new());
    match hook {
        Hook::Sleep(pause) => out.put("sleep", time(*pause)),
        Hook::Exec(HookCommand { command, user, workdir, env }) => {
            out.put("command", Yaml::texts(command));
            out.put_some("user", user.as_ref().map(Yaml::text));
            out.put_some("workdir", workdir.as_ref().map(Yaml::text));
            out.put_if("env", !env.is_empty(), Yaml::pairs(env));
        }
    }
    Yaml::Map(out.0)
}

fn volumes(mounts: &[Mount], spec: &SpecForm) -> Yaml {
    let all = mounts.iter().filter_map(|mount| {
        let volume = spec.volume(&mount.volume)?;
        let mut parts = Entries(Vec::new());
        parts.put("name", Yaml::text(&volume.name));
        if let VolumeSource::Device(path) = &volume.source {
            parts.put("device", Yaml::text(path));
        }
        parts.put_if("scratch", volume.source == VolumeSource::Scratch, Yaml::plain(true));
        parts.put("path", Yaml::text(&mount.path));
        parts.put_if("read_only", mount.read_only, Yaml::plain(true));
        parts.put_if("on_loss", volume.on_loss == OnLoss::Empty, Yaml::plain("empty"));
        Some(Yaml::Map(parts.0))
    });
    Yaml::List(all.collect())
}

fn tmpfs_of(tmpfs: &Tmpfs) -> String {
    let Tmpfs { path, size, exec } = tmpfs;
    let size = size.map(|size| format!("size={}", bytes(size)));
    let options: Vec<String> = size.into_iter().chain(exec.then(|| "exec".to_owned())).collect();
    match options.is_empty() {
        true => path.clone(),
        false => format!("{path}:{}", options.join(",")),
    }
}

fn pinned(image: &Image) -> Option<Yaml> {
    let Image { reference: _, digest, pull: _, platforms } = image;
    if digest.is_none() && platforms.is_empty() {
        return None;
    }
    let platform = |it: &PlatformImage| {
        let PlatformImage { arch, config, layers, pieces } = it;
        let mut out = Entries(Vec::new());
        out.put("arch", Yaml::text(arch));
        out.put("config", artifact_of(config));
        out.put("layers", Yaml::List(layers.iter().map(artifact_of).collect()));
        out.put_some("pieces", pieces.as_ref().map(artifact_of));
        Yaml::Map(out.0)
    };
    let mut out = Entries(Vec::new());
    out.put_some("digest", digest.map(|it| Yaml::plain(format!("sha256:{it}"))));
    let platforms: Vec<Yaml> = platforms.iter().map(platform).collect();
    out.put_if("platforms", !platforms.is_empty(), Yaml::List(platforms));
    Some(Yaml::Map(out.0))
}

fn artifact_of(artifact: &Artifact) -> Yaml {
    Yaml::plain(format!("sha256:{}/{}", artifact.digest, artifact.size))
}

fn numbers(all: &[u16]) -> Yaml {
    Yaml::List(all.iter().map(Yaml::plain).collect())
}

/// Bytes, exactly.
fn bytes(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

fn size(of: u64) -> Yaml {
    Yaml::Plain(bytes(of))
}

fn cores(thousandths: u32) -> Yaml {
    Yaml::Plain(super::quantity::show_cpu(thousandths))
}

fn time(of: Duration) -> Yaml {
    Yaml::Plain(match of.as_millis() {
        millis if millis % 1000 == 0 => format!("{}s", millis / 1000),
        millis => format!("{millis}ms"),
    })
}

#[cfg(test)]
mod tests;
