//! From a launch to the engine's request: checks before it is accepted, the name, and the body.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, DeviceMapping, HealthConfig, HostConfig, HostConfigLogConfig,
    Mount as EngineMount, MountType, MountVolumeOptions, PortBinding, ResourcesUlimits,
    RestartPolicy, RestartPolicyNameEnum,
};
use rustix::process::{Resource, Rlimit, getrlimit};
use shoal_protocol::model::Digest;
use shoal_protocol::model::name::DEFAULT_NAMESPACE;
use shoal_protocol::model::spec::{
    Allowed, Container, ExtraHost, HostAddress, Mount, NetworkMode, Privileges, Qos, Role, Tmpfs,
};

use super::engine::{
    CONTAINER, ENDS, Engine, INSTANCE, LAUNCH, ORDER, OWNER, PRE_STOP, ROLE, WORKLOAD,
};
use super::given_files::Attached;
use super::{Config, given_files, hooks, load, volumes};
use crate::model::{ContainerPayload, InstanceId, Launch, Payload, VolumeOf};

/// The least memory that Docker gives a container.
const MIN_MEMORY: u64 = 6 << 20;
/// The least limit in thousandths of a core: the kernel's quota cannot be smaller.
const MIN_CPU: u32 = 10;
/// The weights that the kernel knows: those of an instance and of others of its device decide who
/// gets how much while they compete.
const SHARES: RangeInclusive<u64> = 2..=262_144;
/// The weight of a core that is reserved, as in Kubernetes.
const SHARES_OF_A_CORE: u64 = 1024;
/// Processes and threads of a container: Podman's own bound, given to Docker too, which has none.
const MAX_PROCESSES: i64 = 2048;
/// Bytes of `/dev/shm` where the container names none.
const SHM: u64 = 64 << 20;
/// Seconds to end where neither the container nor the stop names a grace.
const GRACE_SECONDS: i64 = 10;
/// Bytes of output that the engine keeps; the adapter reads them as they come.
const ENGINE_LOG: &str = "4m";
/// Bytes of all names and values of an environment: the kernel takes 2 MiB at an exec.
const MAX_ENV: usize = 512 << 10;

/// A container of a launch, as it is made.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub container: &'a Container,
    /// Its number in the order in which the containers of its group are started.
    pub order: usize,
    /// The engine's id of the container whose network it joins.
    pub joins: Option<&'a str>,
}

impl Part<'_> {
    /// The name of one that is not the main one.
    pub(super) fn other(&self, payload: &ContainerPayload) -> Option<&str> {
        let is_main = self.container.name == payload.container.name;
        (payload.is_group() && !is_main).then_some(&*self.container.name)
    }

    /// Whether the ports of the replica lead to it: to the one whose network the others join.
    fn has_ports(&self) -> bool {
        self.joins.is_none() && self.container.member.role != Role::Init
    }
}

/// The container of a launch that can be started, or the reason why it cannot.
pub(super) fn check<'a>(
    launch: &'a Launch,
    allowed: &Allowed,
    is_podman: bool,
) -> Result<&'a ContainerPayload, String> {
    let Payload::Container(payload) = &launch.payload else {
        return Err("it is not a container".into());
    };
    if launch.memory < MIN_MEMORY {
        let memory = launch.memory;
        return Err(format!("a memory limit of {memory} bytes is below {MIN_MEMORY}, the least"));
    }
    // It writes the word itself into the file, as Debian has it: a name that leads nowhere.
    let mut hosts = payload.container.extra.hosts.iter();
    if let Some(host) = hosts.find(|it| is_podman && it.address == HostAddress::Gateway) {
        let name = &host.name;
        return Err(format!(
            "extra_hosts: `{name}` has the address host-gateway, which this node's engine, Podman, \
             does not know; its containers reach the node as host.containers.internal"
        ));
    }
    for (order, container) in payload.containers().enumerate() {
        check_one(launch, payload, Part { container, order, joins: None }, allowed)?;
    }
    Ok(payload)
}

fn check_one(
    launch: &Launch,
    payload: &ContainerPayload,
    part: Part<'_>,
    allowed: &Allowed,
) -> Result<(), String> {
    let container = part.container;
    let given = part.other(payload).map_or(&launch.given, |other| launch.given.of(other));
    if let Some(why) = given.wrong_variable() {
        return Err(why);
    }
    let env = env(launch, payload, part);
    for (name, value) in &env {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(format!("{name:?} cannot name a variable"));
        }
        if value.contains('\0') {
            return Err(format!("the value of the variable {name} has a zero byte"));
        }
    }
    let env: usize = env.iter().map(|(name, value)| name.len() + value.len()).sum();
    if env > MAX_ENV {
        return Err(format!("{env} bytes of environment, at most {MAX_ENV} are allowed"));
    }
    if let Some(mount) =
        container.mounts.iter().find(|it| !payload.volumes.contains_key(&it.volume))
    {
        return Err(format!("it mounts the volume {}, which it does not have", mount.volume));
    }
    if container.http == Some(0) {
        return Err("0 is no port".into());
    }
    match allowed.refusal(container, payload.device_paths_of(container)) {
        Some(what) => {
            let remedy = Allowed::remedy(&what).unwrap_or_default();
            Err(format!("this node does not allow {what}; its `shoal up --allow '{remedy}'` does"))
        }
        None => Ok(()),
    }
}

/// The whole environment of a container.
fn env<'a>(
    launch: &'a Launch,
    payload: &'a ContainerPayload,
    part: Part<'a>,
) -> Vec<(&'a str, &'a str)> {
    let Some(other) = part.other(payload) else { return launch.whole_env().collect() };
    let env = part.container.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    env.chain(launch.given.of(other).variables()).collect()
}

/// The name of an instance's container, legal on all engines: a readable part, and a hash that
/// tells apart what the readable part does not. Nothing is found by it.
pub(super) fn name(owner: &str, id: &InstanceId, other: Option<&str>) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let readable: String = id.as_str().chars().map(legal).take(80).collect();
    let digest = Digest::of(format!("{owner}\n{id}").as_bytes());
    // Names in a group differ, and are at most 63 characters.
    let other: String = other.map(|other| format!("-{other}")).unwrap_or_default();
    let other: String = other.chars().take(32).collect();
    format!("shoal-{readable}-{}{other}", digest.short())
}

/// The hash of all that a container is made of: an equal one need not be made anew.
pub(super) fn hash(launch: &Launch, payload: &ContainerPayload) -> String {
    // The reservation is left out: with it, an update of the daemon would restart the containers
    // that were made before it had a part in them. An instance's id changes with the spec anyway.
    // Secrets are left out: a label is no place for a hash of them, and the id changes with them.
    // That it ends comes with the spec, so the id changes with it.
    let Launch {
        id,
        workload: _,
        payload: _,
        env,
        memory,
        cpu,
        cpu_reserved: _,
        qos: _,
        given: _,
        ends: _,
        folders: _,
    } = launch;
    // Probed ports come with the spec, so the id changes with them.
    let ContainerPayload { container, others, hostname, ports, volumes, stdin, tty, probed: _ } =
        payload;
    // Pieces are a way to carry the image: they change nothing about the container.
    let whole = |container: &Container| {
        let mut container = container.clone();
        container.image.platforms.iter_mut().for_each(|platform| platform.pieces = None);
        container
    };
    let container = whole(container);
    let parts = (id.as_str(), container, hostname, ports, volumes, env, memory, cpu);
    // Text keys and plain values: this cannot fail.
    let mut bytes = serde_json::to_vec(&parts).unwrap_or_default();
    // Only then: containers that an older program made are the same.
    if *stdin || *tty {
        bytes.extend([u8::from(*stdin), u8::from(*tty)]);
    }
    if !others.is_empty() {
        let others: Vec<Container> = others.iter().map(whole).collect();
        bytes.extend(serde_json::to_vec(&others).unwrap_or_default());
    }
    Digest::of(&bytes).to_string().chars().take(32).collect()
}

/// The memory limit in bytes.
pub(super) fn memory(launch: &Launch, container: &Container) -> u64 {
    container.limit.as_ref().map_or(launch.memory, |limit| limit.memory.min(launch.memory))
}

/// The reference under which the engine has or pulls the image.
pub(super) fn reference(container: &Container) -> String {
    let image = &container.image;
    // An image whose parts nodes hold has the name under which it was loaded.
    if let Ok(Some(platform)) = load::platform(image) {
        return load::name(platform);
    }
    let Some(digest) = image.digest.filter(|_| !image.reference.contains('@')) else {
        return image.reference.clone();
    };
    format!("{}@sha256:{digest}", untagged(&image.reference))
}

/// A reference without its tag; the colon of a registry's port is not one.
pub(super) fn untagged(reference: &str) -> &str {
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => reference,
    }
}

/// The body of the create request.
pub(super) fn body(
    engine: &Engine,
    config: &Config,
    given: Option<&Path>,
    launch: &Launch,
    payload: &ContainerPayload,
    part: Part<'_>,
) -> ContainerCreateBody {
    let (container, other) = (part.container, part.other(payload));
    let ports = match part.has_ports() {
        true => bindings(payload, engine.publishes),
        false => HashMap::new(),
    };
    let hostname = payload.container.hostname.as_ref().unwrap_or(&payload.hostname);
    let grace = container.stop_grace.map(|grace| grace.as_millis().div_ceil(1000));
    let grace = grace.map_or(GRACE_SECONDS, |grace| i64::try_from(grace).unwrap_or(i64::MAX));
    let mut labels: HashMap<_, _> = container.labels.clone().into_iter().collect();
    labels.extend([
        (OWNER.to_owned(), config.owner.clone()),
        (INSTANCE.to_owned(), launch.id.to_string()),
        (LAUNCH.to_owned(), hash(launch, payload)),
        (WORKLOAD.to_owned(), launch.workload.clone()),
    ]);
    // An older program finds none that ended, so its label tells nothing that it has to know.
    labels.extend(launch.ends.then(|| (ENDS.to_owned(), "true".to_owned())));
    if !container.hooks.pre_stop.is_empty() {
        labels.insert(PRE_STOP.to_owned(), hooks::label(&container.hooks.pre_stop));
    }
    if payload.is_group() {
        labels.extend([
            (CONTAINER.to_owned(), container.name.clone()),
            (ORDER.to_owned(), part.order.to_string()),
            (ROLE.to_owned(), container.member.role.to_string()),
        ]);
    }
    let (stdin, tty) = (payload.stdin && other.is_none(), payload.tty && other.is_none());
    let env = env(launch, payload, part);
    ContainerCreateBody {
        // In a network that it joins it has the name of its owner; engines refuse another one.
        hostname: part.joins.is_none().then(|| host_name(hostname)),
        user: container.user.clone(),
        // Without it no port is published.
        exposed_ports: (!ports.is_empty()).then(|| ports.keys().cloned().collect()),
        env: Some(env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()),
        cmd: container.command.clone(),
        image: Some(reference(container)),
        working_dir: container.workdir.clone(),
        entrypoint: container.entrypoint.clone().map(cleared),
        labels: Some(labels),
        // Open for good, and not only for the first session that writes.
        open_stdin: stdin.then_some(true),
        tty: tty.then_some(true),
        stop_signal: container.stop_signal.clone(),
        // Podman without it kills at once.
        stop_timeout: Some(grace),
        // The node asks itself, also by the check that the image names: it is not run twice.
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".into()]),
            ..HealthConfig::default()
        }),
        host_config: Some(with_given(
            host_config(engine, config, launch, payload, part, ports),
            given_files::attached(given, launch, other),
        )),
        ..ContainerCreateBody::default()
    }
}

fn host_config(
    engine: &Engine,
    config: &Config,
    launch: &Launch,
    payload: &ContainerPayload,
    part: Part<'_>,
    ports: HashMap<String, Option<Vec<PortBinding>>>,
) -> HostConfig {
    let container = part.container;
    let memory = i64::try_from(memory(launch, container)).unwrap_or(i64::MAX);
    let cpu = container.limit.as_ref().map_or(launch.cpu, |limit| limit.cpu.min(launch.cpu));
    let network = match (part.joins, container.network) {
        (Some(id), _) => format!("container:{id}"),
        (None, NetworkMode::Bridge) => "bridge".to_owned(),
        (None, NetworkMode::Host) => "host".to_owned(),
        (None, NetworkMode::None) => "none".to_owned(),
    };
    let is_offline = container.network == NetworkMode::None || part.joins.is_some();
    let names = config.dns.filter(|_| !is_offline);
    let resolver = resolver(names, launch, payload, part);
    let Privileges { privileged, cap_add, cap_drop, devices, security } = &container.privileges;
    let devices = devices.iter().map(|device| DeviceMapping {
        path_on_host: Some(device.host.clone()),
        path_in_container: Some(device.path.clone()),
        cgroup_permissions: Some("rwm".into()),
    });
    HostConfig {
        memory: Some(memory),
        memory_swap: Some(memory),
        nano_cpus: quota(cpu, engine.cpus),
        cpu_shares: Some(shares(reserved(launch, payload, container))),
        oom_score_adj: oom_score(launch.qos),
        pids_limit: Some(MAX_PROCESSES),
        network_mode: Some(network),
        port_bindings: (!ports.is_empty()).then_some(ports),
        // The node restarts it: engines differ in how, and one has no pauses.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".into()),
            config: Some(HashMap::from([("max-size".into(), ENGINE_LOG.into())])),
        }),
        readonly_rootfs: Some(container.read_only),
        tmpfs: Some(tmpfs(&container.tmpfs)),
        init: container.init.then_some(true),
        shm_size: Some(i64::try_from(container.shm_size.unwrap_or(SHM)).unwrap_or(i64::MAX)),
        ulimits: Some(ulimits(container, engine.is_podman)),
        sysctls: Some(pairs(&container.sysctls)),
        privileged: Some(*privileged),
        cap_add: Some(cap_add.clone()),
        cap_drop: Some(cap_drop.clone()),
        devices: Some(devices.collect()),
        security_opt: Some(security.clone()),
        dns: resolver.servers,
        dns_search: resolver.search,
        dns_options: resolver.options,
        extra_hosts: resolver.hosts,
        group_add: some(container.extra.groups.clone()),
        mounts: Some(mounts(&config.owner, &launch.id, payload, container)),
        ..HostConfig::default()
    }
}

/// The most CPU, in billionths of a core. None where that is all that the device has: Docker
/// refuses more, and a quota slows the start down, since it holds for the engine's own work, too.
fn quota(cpu: u32, cores: u32) -> Option<i64> {
    let is_less = cpu < cores.saturating_mul(1000);
    is_less.then(|| i64::from(cpu.max(MIN_CPU)) * 1_000_000)
}

/// How soon the kernel ends it when the device is out of memory: none for what yields last. Only
/// raised: an engine without the rights of root could not lower it.
fn oom_score(qos: Qos) -> Option<i64> {
    match qos {
        Qos::Guaranteed => None,
        Qos::Burstable => Some(500),
        Qos::BestEffort => Some(1_000),
    }
}

/// The part of a container in the CPU that is reserved: its own, or an equal one.
fn reserved(launch: &Launch, payload: &ContainerPayload, container: &Container) -> u32 {
    let run_on = payload.containers().filter(|it| it.member.role != Role::Init).count();
    let equal = launch.cpu_reserved / u32::try_from(run_on.max(1)).unwrap_or(u32::MAX);
    let own = container.member.reservation.map_or(equal, |it| it.cpu);
    own.min(launch.cpu_reserved)
}

/// The kernel's weight for what is reserved.
fn shares(reserved: u32) -> i64 {
    let shares = u64::from(reserved) * SHARES_OF_A_CORE / 1000;
    i64::try_from(shares.clamp(*SHARES.start(), *SHARES.end())).unwrap_or(i64::MAX)
}

/// How a container finds addresses of names; none: as the engine has it.
struct Resolver {
    servers: Option<Vec<String>>,
    search: Option<Vec<String>>,
    options: Option<Vec<String>>,
    hosts: Option<Vec<String>>,
}

/// The resolver of a container, that of its group. `names`: the node's server of names. A server of
/// its own stands in place of that: a resolver asks a second one only when the first is silent.
fn resolver(
    names: Option<Ipv4Addr>,
    launch: &Launch,
    payload: &ContainerPayload,
    part: Part<'_>,
) -> Resolver {
    let own = &payload.container.extra;
    // In a network that it joins it has the files of its owner; engines refuse others.
    let is_joined = part.joins.is_some();
    let names = names.filter(|_| own.dns.is_empty());
    let servers = own.dns.iter().map(IpAddr::to_string).chain(names.map(|it| it.to_string()));
    let mut domains = names.map(|_| search(&launch.workload)).unwrap_or_default();
    // The word for none takes away no name of a workload.
    let is_told = |it: &&String| names.is_none() || *it != ".";
    domains.extend(own.dns_search.iter().filter(is_told).cloned());
    let given = |texts: Vec<String>| some(texts).filter(|_| !is_joined);
    Resolver {
        servers: given(servers.collect()),
        search: given(domains),
        options: given(own.dns_opt.clone()),
        hosts: given(own.hosts.iter().map(ExtraHost::to_string).collect()),
    }
}

fn some(texts: Vec<String>) -> Option<Vec<String>> {
    Some(texts).filter(|texts| !texts.is_empty())
}

/// The domains in which a container's resolver looks for a name: its own namespace first.
fn search(workload: &str) -> Vec<String> {
    let namespace = workload.split_once('/').map_or(DEFAULT_NAMESPACE, |(namespace, _)| namespace);
    vec![format!("{namespace}.shoal"), "shoal".into()]
}

/// The ports of the device that lead to the container's: those that are published, and, where the
/// device does not reach the container's own address, one of the engine's choice for the HTTP port
/// and for each probed one, at which only this device reaches it.
fn bindings(
    payload: &ContainerPayload,
    publishes_own: bool,
) -> HashMap<String, Option<Vec<PortBinding>>> {
    let container = &payload.container;
    let mut all: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    let mut bind = |port: u16, udp: bool, ip: String, device: String| {
        let binding = PortBinding { host_ip: Some(ip), host_port: Some(device) };
        let key = format!("{port}/{}", if udp { "udp" } else { "tcp" });
        all.entry(key).or_default().get_or_insert_default().push(binding);
    };
    for port in &payload.ports {
        let ip = port.address.map(|ip| ip.to_string()).unwrap_or_default();
        bind(port.replica, port.udp, ip, port.device.to_string());
    }
    let publishes_own = publishes_own && container.network == NetworkMode::Bridge;
    let own = payload.http().into_iter().chain(payload.probed.iter().copied());
    for port in own.filter(|_| publishes_own).collect::<BTreeSet<u16>>() {
        bind(port, false, "127.0.0.1".into(), String::new());
    }
    all
}

/// The same with the files of secrets and configs.
fn with_given(host: HostConfig, files: Attached) -> HostConfig {
    let mounts = host.mounts.into_iter().flatten().chain(files.mounts).collect();
    HostConfig { binds: Some(files.binds), mounts: Some(mounts), ..host }
}

fn mounts(
    owner: &str,
    id: &InstanceId,
    payload: &ContainerPayload,
    container: &Container,
) -> Vec<EngineMount> {
    let of = |mount: &Mount| {
        let (typ, source) = match payload.volumes.get(&mount.volume)? {
            VolumeOf::Device(path) => (MountType::BIND, path.clone()),
            VolumeOf::Kept(key) => (MountType::VOLUME, volumes::name(owner, key)),
            VolumeOf::Scratch(name) => (MountType::VOLUME, volumes::scratch_name(owner, id, name)),
        };
        // It is empty, whatever the image has there.
        let is_scratch = matches!(payload.volumes.get(&mount.volume), Some(VolumeOf::Scratch(_)));
        let options = MountVolumeOptions { no_copy: Some(true), ..MountVolumeOptions::default() };
        Some(EngineMount {
            target: Some(mount.path.clone()),
            source: Some(source),
            typ: Some(typ),
            read_only: Some(mount.read_only),
            volume_options: is_scratch.then_some(options),
            ..EngineMount::default()
        })
    };
    container.mounts.iter().filter_map(of).collect()
}

/// An entry point as engines take it. Podman keeps the image's one for an empty list.
fn cleared(entrypoint: Vec<String>) -> Vec<String> {
    if entrypoint.is_empty() { vec![String::new()] } else { entrypoint }
}

/// A name that the kernel takes: 64 bytes at most, and no dot or dash at its ends.
fn host_name(name: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let name: String = name.chars().map(legal).take(63).collect();
    name.trim_matches(['.', '-']).to_owned()
}

fn tmpfs(all: &[Tmpfs]) -> HashMap<String, String> {
    let options = |one: &Tmpfs| {
        // The engines differ in what they do unasked.
        let mut options = format!("rw,nosuid,nodev,{}", if one.exec { "exec" } else { "noexec" });
        if let Some(size) = one.size {
            options.push_str(&format!(",size={size}"));
        }
        (one.path.clone(), options)
    };
    all.iter().map(options).collect()
}

fn ulimits(container: &Container, is_podman: bool) -> Vec<ResourcesUlimits> {
    let all = container.ulimits.iter();
    let mut all: Vec<_> = all.map(|(name, limit)| ulimit(name, limit.soft, limit.hard)).collect();
    // Podman replaces its defaults by the list, and sets these two to the most that a kernel knows
    // where the list lacks them. It lowers its own limits at its start, so that its own containers
    // then may not have that many.
    if is_podman && !all.is_empty() {
        for (name, resource, most) in
            [("nofile", Resource::Nofile, 1 << 20), ("nproc", Resource::Nproc, most_processes())]
        {
            if !container.ulimits.contains_key(name) {
                let Rlimit { current, maximum } = getrlimit(resource);
                let bounded = |limit: Option<u64>| {
                    limit.and_then(|limit| i64::try_from(limit).ok()).map_or(most, |n| n.min(most))
                };
                all.push(ulimit(name, bounded(current), bounded(maximum)));
            }
        }
    }
    all
}

/// The kernel's bound on all processes of the device.
fn most_processes() -> i64 {
    let bound = std::fs::read_to_string("/proc/sys/kernel/pid_max");
    bound.ok().and_then(|bound| bound.trim().parse().ok()).unwrap_or(1 << 15)
}

fn ulimit(name: &str, soft: i64, hard: i64) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(name.into()), soft: Some(soft), hard: Some(hard) }
}

fn pairs(map: &BTreeMap<String, String>) -> HashMap<String, String> {
    map.clone().into_iter().collect()
}

#[cfg(test)]
pub(super) mod tests;
