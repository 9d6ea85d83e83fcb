//! From what was read to workloads.

use std::collections::{BTreeMap, BTreeSet};

use shoal_protocol::model::nearest::did_you_mean;
use shoal_protocol::model::spec::{
    Affinity, DEFAULT_MEMORY, Device, Extra, HostPort, Kind, LaunchFact, MAX_MEMORY, MAX_PRIORITY,
    MAX_USES, Mount, NetworkMode, OnLoss, Port, Role, Target, Tmpfs, ValueKind, ValueUse, Volume,
    VolumeSource,
};
use shoal_protocol::model::{DISK, Label, WorkloadName};

use super::super::bundle::Item;
use super::super::tree::Problem;
use super::super::verdict::Judged;
use super::container::{Boxed, Mounted, NamedPort};
use super::env::Content;
use super::placement::{HOST, Relation};
use super::pod::{File, Pod, Source};
use super::quantity::Quantity;
use super::values::name_here;
use super::workloads::Draft;
use crate::publish::Workload;

/// The content of the files besides workloads.
#[derive(Default)]
pub(super) struct World {
    /// The bytes of each claim.
    pub claims: BTreeMap<(Label, String), Option<u64>>,
    /// The priority of each class.
    pub classes: BTreeMap<String, i64>,
    /// The priority of workloads that name no class.
    pub priority: Option<i64>,
    /// The labels of the pods of each workload.
    pub pods: Vec<(WorkloadName, BTreeMap<String, String>)>,
    /// The first workload that mounts a claim.
    pub mounted: BTreeMap<(Label, String), String>,
}

/// The variable in which a replica of an indexed job finds its index.
const INDEX: &str = "JOB_COMPLETION_INDEX";
/// The least memory of a container.
const LEAST_MEMORY: u64 = 6 << 20;
/// Bytes of the folder in which files of ConfigMaps and Secrets stand: they are bound into it.
const FOLDER: u64 = 64 << 10;

/// The workload of a draft, or the reasons against it.
pub(super) fn build(draft: &Draft, world: &mut World, out: &mut Judged) -> Option<Item> {
    let pod = &draft.pod;
    let all = containers(draft, out)?;
    let is_group = all.len() > 1;
    let mut placed = Placed::of(pod);
    let mut built = Vec::new();
    for (container, role) in &all {
        built.push((*role, contained(draft, container, *role, is_group, &mut placed, world, out)));
    }
    let needs = Needs::of(&built);
    let mut built = built.into_iter().map(|(_, workload)| workload);
    let mut workload = built.next()?;
    for other in built {
        workload = match workload.beside(other) {
            Ok(workload) => workload,
            Err(why) => {
                out.refuse(Problem::new(draft.at, why));
                return None;
            }
        };
    }
    if is_group {
        workload = workload.sized_by_containers().best_effort(needs.is_best_effort);
        workload = workload.resources(needs.counted);
    }
    workload = workload.disk(placed.disk.saturating_add(needs.disk));
    if let Some(rollout) = &draft.rollout {
        workload = workload.update(rollout.clone());
    }
    if let Some(scale) = &draft.autoscale {
        workload = workload.autoscale(scale.clone());
    }
    workload = workload.priority(priority(pod, world, out)).after(draft.after.clone());
    workload = workload.rules(pod.rules.clone()).prefers(pod.preferences.clone());
    workload = workload.tolerates(pod.tolerations.clone());
    check_spread(draft, out);
    let (affinity, spread) = relations(draft, world, out);
    workload = workload.affinity(affinity).spread(spread);
    let has_probes = all.iter().any(|(it, _)| !it.health.is_empty());
    workload = workload.no_healthcheck(!has_probes);
    let run_on = all.iter().filter(|(_, role)| *role != Role::Init).map(|(it, _)| *it);
    let ports: Vec<&NamedPort> = run_on.flat_map(|it| &it.ports).collect();
    workload = workload.ports(published(draft, &ports));
    let exposed = ports.iter().filter(|it| !it.udp).map(|it| it.port);
    workload = workload.exposes(draft.exposed.iter().copied().chain(exposed));
    if !out.problems.is_empty() {
        return None;
    }
    match workload.spec(None) {
        Ok(_) => Some(Item { workload, at: draft.at }),
        Err(error) => {
            out.refuse(Problem::new(draft.at, error.to_string()));
            None
        }
    }
}

/// A path of the device without slashes at its end; all of the device is `/`.
fn device_path(path: &str) -> String {
    match path.trim_end_matches('/') {
        "" => "/".to_owned(),
        path => path.to_owned(),
    }
}

/// The containers of a pod, each with its part in the group: the main one first.
fn containers<'a>(draft: &'a Draft, out: &mut Judged) -> Option<Vec<(&'a Boxed, Role)>> {
    let Pod { containers, inits, .. } = &draft.pod;
    // Without one the file was refused when it was read.
    let (main, others) = containers.split_first()?;
    let of_init = |it: &Boxed| if it.is_sidecar { Role::Sidecar } else { Role::Init };
    let before = inits.iter().map(|it| (it, of_init(it)));
    let apps = others.iter().map(|it| (it, Role::App));
    let all: Vec<_> = [(main, Role::App)].into_iter().chain(before).chain(apps).collect();
    for (container, _) in all.iter().skip(1) {
        if container.stdin || container.tty {
            let text = "left out: the first container alone has an input and a terminal";
            out.degrade(container.at, container.path.clone(), text);
        }
    }
    Some(all)
}

/// A container of a draft, as a workload of its own.
fn contained(
    draft: &Draft,
    container: &Boxed,
    role: Role,
    is_group: bool,
    placed: &mut Placed,
    world: &mut World,
    out: &mut Judged,
) -> Workload {
    let pod = &draft.pod;
    for mount in &container.mounts {
        placed.mount(mount, draft, world, out);
    }
    let Parts { volumes, mounts, tmpfs, devices, files } = std::mem::take(&mut placed.parts);
    let mut workload = Workload::container(draft.name.clone(), container.image.clone());
    // It has a say in the size.
    workload = workload.kind(draft.kind.clone());
    workload = sized(workload, container, draft.autoscale.is_some(), out);
    let disk = container.resources.request("ephemeral-storage").map_or(0, Quantity::bytes);
    workload = workload.disk(disk);
    let (env, uses) = variables(container, files.len());
    let mut uses: Vec<ValueUse> = uses.into_iter().chain(files).collect();
    // In the order of a manifest.
    uses.sort_by_key(|it| it.kind);
    workload = workload.envs(env).given(uses).health(container.health.clone());
    workload = workload.storage(volumes).streams(container.stdin, container.tty);
    if is_group {
        workload = workload.own_size();
    }
    let is_main = draft.pod.containers.first().is_some_and(|it| it.at == container.at);
    let answers = is_main_port(draft, container, is_main);
    // The others share the names of the main one.
    let of_group = if is_main { pod.extra.clone() } else { Extra::default() };
    let (groups, mut env_from) = (pod.extra.groups.clone(), filled(container));
    if draft.is_indexed && container.env.iter().all(|it| it.name != INDEX) {
        env_from.insert(INDEX.to_owned(), LaunchFact::Index);
    }
    let extra = Extra { groups, env_from, ..of_group };
    let of_it = container.clone();
    let labels = pod.labels.clone();
    workload.with_container(|it| {
        if is_group {
            it.name = of_it.name;
            it.member.role = role;
        }
        it.image.pull = of_it.pull;
        (it.entrypoint, it.command) = (of_it.entrypoint, of_it.command);
        it.workdir = of_it.workdir;
        it.user = of_it.user;
        it.hostname = pod.hostname.clone().filter(|_| is_main);
        it.labels = labels;
        it.http = draft.http.filter(|_| answers);
        (it.mounts, it.tmpfs) = (mounts, tmpfs);
        it.read_only = of_it.read_only;
        it.stop_signal = of_it.stop_signal;
        it.hooks = of_it.hooks;
        it.stop_grace = Some(pod.grace);
        it.sysctls = of_it.sysctls;
        it.privileges = of_it.privileges;
        it.extra = extra;
        it.privileges.devices = devices;
        if pod.is_host_network {
            it.network = NetworkMode::Host;
        }
    })
}

/// Whether the port of a draft for HTTP is that of this container: of the first one that names it,
/// or else of the main one.
fn is_main_port(draft: &Draft, container: &Boxed, is_main: bool) -> bool {
    let Some(port) = draft.http else { return false };
    let sidecars = draft.pod.inits.iter().filter(|it| it.is_sidecar);
    let mut run_on = draft.pod.containers.iter().chain(sidecars);
    let named = run_on.find(|it| it.ports.iter().any(|it| it.port == port && !it.udp));
    named.map_or(is_main, |it| it.at == container.at)
}

/// The amounts of all containers of a group: of those that run at one time together, or of the
/// init container that takes most.
#[derive(Default)]
struct Needs {
    is_best_effort: bool,
    disk: u64,
    counted: BTreeMap<String, u64>,
}

impl Needs {
    fn of(all: &[(Role, Workload)]) -> Needs {
        let is_best_effort = all.iter().all(|(_, it)| it.counts().0);
        let amount = |role: &Role, name: &str| -> u64 {
            let of = all.iter().filter(|(it, _)| (*it == Role::Init) == (*role == Role::Init));
            let amounts = of.map(|(_, it)| it.counts().1.of(name));
            match role {
                Role::Init => amounts.max().unwrap_or(0),
                _ => amounts.fold(0, u64::saturating_add),
            }
        };
        let most = |name: &str| amount(&Role::App, name).max(amount(&Role::Init, name));
        let devices = all.iter().flat_map(|(_, it)| it.counts().1.devices());
        let names: BTreeSet<String> = devices.map(|(name, _)| name.to_owned()).collect();
        let counted = names.into_iter().map(|name| {
            let amount = most(&name);
            (name, amount)
        });
        Needs { is_best_effort, disk: most(DISK), counted: counted.collect() }
    }
}

fn priority(pod: &Pod, world: &World, out: &mut Judged) -> i32 {
    let value = match &pod.priority_class {
        None => world.priority.unwrap_or(0),
        Some((at, name)) => match (world.classes.get(name), name.as_str()) {
            (Some(value), _) => *value,
            (None, "system-cluster-critical" | "system-node-critical") => i64::from(MAX_PRIORITY),
            (None, _) => {
                let text = format!("PriorityClass `{name}` is not in these files: taken as 0");
                out.degrade(*at, format!("{}.priorityClassName", pod.path), text);
                0
            }
        },
    };
    let most = i64::from(MAX_PRIORITY);
    i32::try_from(value.clamp(-most, most)).unwrap_or_default()
}

/// Refuses spreads that must be, where they keep a replica away: here they make a node better.
fn check_spread(draft: &Draft, out: &mut Judged) {
    // Of a daemon each node has one.
    let Some(most) = draft.most() else { return };
    for (at, field, skew) in draft.pod.strict.iter().filter(|(.., skew)| most > *skew) {
        let why = format!(
            "a replica that would make parts differ by more than {skew} is not kept away: a \
             spread makes a node better here, and no more"
        );
        let hint = format!(
            "Write `ScheduleAnyway`; or, if no two may be on one node, a required \
             `podAntiAffinity` over `{HOST}`."
        );
        out.refuse(Problem::new(*at, why).field(field.clone()).hint(hint));
    }
}

/// The relations to workloads, and labels to be spread over.
fn relations(draft: &Draft, world: &World, out: &mut Judged) -> (Vec<Affinity>, Vec<String>) {
    let mut spread = draft.pod.spread.clone();
    let mut all: Vec<Affinity> = Vec::new();
    for relation in &draft.pod.relations {
        let Relation { at, field, apart, weight, selector, namespaces, topology } = relation;
        let is_here = |name: &WorkloadName| match namespaces.is_empty() {
            true => name.namespace == draft.name.namespace,
            false => namespaces.iter().any(|it| it == name.namespace.as_str()),
        };
        let found: Vec<&WorkloadName> = world
            .pods
            .iter()
            .filter(|(name, labels)| is_here(name) && selector.finds(labels))
            .map(|(name, _)| name)
            .collect();
        let is_required = weight.is_none();
        if topology != HOST {
            if *apart && found == [&draft.name] && !is_required {
                if !spread.contains(topology) {
                    spread.push(topology.clone());
                }
            } else if is_required {
                let why = format!(
                    "it is about nodes with one value of `{topology}`, and shoal \
                    knows single nodes"
                );
                let problem = Problem::new(*at, why).field(field.clone());
                out.refuse(problem.hint(format!(
                    "Write `topologyKey: {HOST}`, or `topologySpreadConstraints` over `{topology}`."
                )));
            } else {
                let text = format!("left out: it is about nodes with one value of `{topology}`");
                out.degrade(*at, field.clone(), text);
            }
            continue;
        }
        if found.is_empty() {
            let shown = selector.shown();
            let why = format!("no workload of these files has the labels {shown}");
            match is_required && !apart {
                true => out.refuse(Problem::new(*at, why).field(field.clone())),
                false => out.degrade(*at, field.clone(), format!("left out: {why}")),
            }
        }
        for workload in found {
            // Near itself: it is where it is.
            if !apart && *workload == draft.name {
                if is_required {
                    let why = "all replicas on one node is not a rule that a workload can have";
                    let problem = Problem::new(*at, why).field(field.clone());
                    out.refuse(problem.hint("Require a label of that node (`nodeSelector`)."));
                }
                continue;
            }
            let new = Affinity { workload: workload.clone(), apart: *apart, weight: *weight };
            match all.iter_mut().find(|it| it.workload == *workload && it.apart == *apart) {
                // What must be comes before what is better.
                Some(known) if known.weight.is_some() => *known = new,
                Some(_) => {}
                None => all.push(new),
            }
        }
    }
    (all, spread)
}

/// The workload with what its container requests and is limited to.
fn sized(workload: Workload, container: &Boxed, is_scaled: bool, out: &mut Judged) -> Workload {
    let asked = &container.resources;
    let some = |it: Quantity| (it > Quantity::whole(0)).then_some(it);
    let (memory, cpu) =
        (asked.request("memory").and_then(some), asked.request("cpu").and_then(some));
    let limit = |name: &str| asked.limits.get(name).copied().and_then(some);
    let (most, most_cpu) = (limit("memory"), limit("cpu"));
    let most = most.map(Quantity::bytes);
    let mut reserved = memory.map_or(DEFAULT_MEMORY, Quantity::bytes);
    if let Some(most) = most.filter(|_| memory.is_none()) {
        reserved = reserved.min(most);
    }
    if reserved < LEAST_MEMORY && most.is_none_or(|it| it >= LEAST_MEMORY) {
        let field = format!("{}.resources.requests.memory", container.path);
        out.degrade(container.at, field, "taken as 6Mi, which is the least of a container");
        reserved = LEAST_MEMORY;
    }
    let mut workload = workload.memory(reserved);
    if let Some(cpu) = cpu {
        workload = workload.cpu(cpu.millis().max(1));
    }
    // Without a limit it may take all that its node has.
    workload = workload.limit(Some(most.unwrap_or(MAX_MEMORY)), most_cpu.map(Quantity::millis));
    let is_best_effort = memory.is_none() && cpu.is_none() && !is_scaled;
    workload = workload.best_effort(is_best_effort);
    let names: BTreeSet<&String> = asked.requests.keys().chain(asked.limits.keys()).collect();
    let own = |name: &&&String| !["cpu", "memory", "ephemeral-storage"].contains(&name.as_str());
    let mut counted = Vec::new();
    for name in names.iter().filter(own) {
        let field = format!("{}.resources.limits.{name}", container.path);
        match asked.request(name).map(Quantity::count) {
            Some(Some(0)) | None => {}
            Some(Some(_)) if name.starts_with("hugepages-") => {
                let why = "pages of memory of a fixed size are not handed out here";
                out.refuse(Problem::new(container.at, why).field(field));
            }
            Some(Some(amount)) => counted.push(((*name).clone(), amount)),
            Some(None) => {
                let why = "a whole number is expected: it is counted";
                out.refuse(Problem::new(container.at, why).field(field));
            }
        }
    }
    workload.resources(counted)
}

/// The variables with their texts, and those that are values of shoal. More configs than a workload
/// may have values are written out.
fn variables(container: &Boxed, files: usize) -> (Vec<(String, String)>, Vec<ValueUse>) {
    let is_value = |it: &&super::env::Env| matches!(it.value, Content::Value { .. });
    let are_many = container.env.iter().filter(is_value).count() + files > MAX_USES;
    let (mut plain, mut uses) = (Vec::new(), Vec::new());
    for variable in &container.env {
        let name = variable.name.clone();
        match &variable.value {
            Content::Fact(_) => {}
            Content::Plain(text) => plain.push((name, text.clone())),
            Content::Value { kind: ValueKind::Config, text: Some(text), .. } if are_many => {
                plain.push((name, text.clone()));
            }
            Content::Value { kind, label, .. } => {
                let to = Target::Env(name);
                uses.push(ValueUse { kind: *kind, name: label.clone(), to });
            }
        }
    }
    (plain, uses)
}

/// The variables of a container that its node fills in.
fn filled(container: &Boxed) -> BTreeMap<String, LaunchFact> {
    let fact = |it: &super::env::Env| match &it.value {
        Content::Fact(fact) => Some((it.name.clone(), *fact)),
        _ => None,
    };
    container.env.iter().filter_map(fact).collect()
}

fn published(draft: &Draft, ports: &[&NamedPort]) -> Vec<Port> {
    if draft.pod.is_host_network {
        return Vec::new();
    }
    let of_pod = ports.iter().filter_map(|it| {
        Some(Port { device: it.host?, replica: it.port, udp: it.udp, address: it.address })
    });
    let mut taken = BTreeSet::new();
    let all = of_pod.chain(draft.published.iter().cloned());
    all.filter(|it| taken.insert(HostPort { port: it.device, udp: it.udp })).collect()
}

/// The volumes and files of one container.
#[derive(Default)]
struct Parts {
    volumes: Vec<Volume>,
    mounts: Vec<Mount>,
    tmpfs: Vec<Tmpfs>,
    devices: Vec<Device>,
    files: Vec<ValueUse>,
}

/// The volumes and files of a pod, one container after the other.
#[derive(Default)]
struct Placed {
    /// Of the container that is looked at.
    parts: Parts,
    /// The volumes of all that were looked at.
    counted: BTreeSet<String>,
    /// The bytes of these volumes, each counted once.
    disk: u64,
    /// The folders in memory that several containers mount.
    shared: BTreeSet<String>,
}

impl Placed {
    fn of(pod: &Pod) -> Placed {
        let (mut once, mut shared) = (BTreeSet::new(), BTreeSet::new());
        for container in pod.containers.iter().chain(&pod.inits) {
            let names: BTreeSet<&String> = container.mounts.iter().map(|it| &it.volume).collect();
            let again = names.into_iter().filter(|name| !once.insert((*name).clone()));
            shared.extend(again.cloned());
        }
        Placed { shared, ..Placed::default() }
    }

    fn mount(&mut self, mount: &Mounted, draft: &Draft, world: &mut World, out: &mut Judged) {
        let wrong = |why: String| Problem::new(mount.at, why).field(mount.field.clone());
        let templates = &draft.templates;
        if let Some(bytes) = templates.get(&mount.volume) {
            return self.kept(&mount.volume, *bytes, VolumeSource::Kept, mount, out);
        }
        let Some(volume) = draft.pod.volumes.get(&mount.volume) else {
            let names = draft.pod.volumes.keys().chain(templates.keys()).map(String::as_str);
            let problem = wrong(format!("there is no volume `{}`", mount.volume));
            return out.refuse(match did_you_mean(&mount.volume, names) {
                Some(hint) => problem.hint(hint),
                None => problem.hint("Name it below `volumes` of the pod."),
            });
        };
        match volume {
            Source::Files(files) => self.files(files, mount, out),
            _ if mount.file.is_some() => {
                let problem = wrong("a part of a volume cannot be mounted".into());
                out.refuse(problem.hint("Leave `subPath` away, and mount it as a whole."));
            }
            Source::Empty(bytes) => {
                self.kept(&mount.volume, *bytes, VolumeSource::Scratch, mount, out);
            }
            Source::Memory(bytes) if self.shared.contains(&mount.volume) => {
                let text = "on disk: a folder in memory belongs to one container";
                out.degrade(mount.at, mount.field.clone(), text);
                self.kept(&mount.volume, *bytes, VolumeSource::Scratch, mount, out);
            }
            Source::Memory(size) => {
                let path = mount.path.clone();
                self.parts.tmpfs.push(Tmpfs { path, size: *size, exec: true });
            }
            Source::Host(path) => {
                let text = format!("{}:{}", path, mount.path);
                match crate::publish::volume::volume(&text) {
                    Ok(read) => {
                        let of = read.mount();
                        let source = VolumeSource::Device(device_path(path));
                        let name = of.volume.clone();
                        self.add(Volume { name, source, on_loss: OnLoss::Wait }, of, mount);
                    }
                    Err(why) => out.refuse(wrong(why)),
                }
            }
            Source::Device(host) => {
                let (host, path) = (host.clone(), mount.path.clone());
                self.parts.devices.push(Device { host, path });
            }
            Source::Claim(name, read_only) => {
                self.claim(name, *read_only, mount, draft, world, out);
            }
        }
    }

    fn claim(
        &mut self,
        name: &str,
        read_only: bool,
        mount: &Mounted,
        draft: &Draft,
        world: &mut World,
        out: &mut Judged,
    ) {
        let field = || mount.field.clone();
        let key = (draft.name.namespace.clone(), name.to_owned());
        let first = world.mounted.entry(key.clone()).or_insert_with(|| draft.shown.clone());
        if *first != draft.shown {
            let why = format!("{first} mounts `{name}`, too, and a volume belongs to one replica");
            let problem = Problem::new(mount.at, why).field(field());
            return out.refuse(problem.hint("Give each a claim of its own."));
        }
        if draft.most().is_none_or(|most| most > 1) {
            let several = match draft.most() {
                Some(most) => format!("{most} replicas would share `{name}`"),
                None => format!("all replicas would share `{name}`"),
            };
            let why = format!("{several}, and here each would get a volume of its own");
            let problem = Problem::new(mount.at, why).field(field());
            return out.refuse(match &draft.kind {
                Kind::Service { .. } => {
                    problem.hint("Write one replica, or a StatefulSet with `volumeClaimTemplates`.")
                }
                Kind::Daemon => problem.hint("Write a `hostPath`."),
                _ => problem.hint("Write a `hostPath`, or one replica."),
            });
        }
        let bytes = match world.claims.get(&key) {
            Some(bytes) => *bytes,
            None => {
                let text = format!("claim `{name}` is not in these files: a volume is made");
                out.degrade(mount.at, field(), text);
                None
            }
        };
        let of = Mounted { read_only: mount.read_only || read_only, ..mount.clone() };
        self.kept(name, bytes, VolumeSource::Kept, &of, out);
    }

    /// A volume that nodes keep, or a folder of the replica.
    fn kept(
        &mut self,
        name: &str,
        bytes: Option<u64>,
        source: VolumeSource,
        mount: &Mounted,
        out: &mut Judged,
    ) {
        if mount.file.is_some() {
            let problem = Problem::new(mount.at, "a part of a volume cannot be mounted");
            let problem = problem.field(mount.field.clone());
            return out.refuse(problem.hint("Leave `subPath` away, and mount it as a whole."));
        }
        let name = match name_here(name) {
            Ok(name) => name.to_string(),
            Err(why) => return out.refuse(Problem::new(mount.at, why).field(mount.field.clone())),
        };
        if self.counted.insert(name.clone()) {
            self.disk = self.disk.saturating_add(bytes.unwrap_or_default());
        }
        let (path, read_only) = (mount.path.clone(), mount.read_only);
        let of = Mount { volume: name.clone(), path, read_only };
        self.add(Volume { name, source, on_loss: OnLoss::Wait }, of, mount);
    }

    fn add(&mut self, volume: Volume, of: Mount, mount: &Mounted) {
        if self.parts.volumes.iter().all(|it| it.name != volume.name) {
            self.parts.volumes.push(volume);
        }
        self.parts.mounts.push(Mount { read_only: mount.read_only, ..of });
    }

    fn files(&mut self, files: &[File], mount: &Mounted, out: &mut Judged) {
        let used = |file: &File, path: String| ValueUse {
            kind: file.kind,
            name: file.value.clone(),
            to: Target::File { path, mode: file.mode, uid: None, gid: None },
        };
        let Some(wanted) = &mount.file else {
            if files.is_empty() {
                return;
            }
            // What the image has there is hidden, as in Kubernetes.
            let path = mount.path.clone();
            self.parts.tmpfs.push(Tmpfs { path, size: Some(FOLDER), exec: false });
            let all = files.iter().map(|it| used(it, format!("{}/{}", mount.path, it.path)));
            return self.parts.files.extend(all);
        };
        match files.iter().find(|it| it.path == *wanted) {
            Some(file) => self.parts.files.push(used(file, mount.path.clone())),
            None => {
                let why = format!("the volume has no file `{wanted}`");
                let problem = Problem::new(mount.at, why).field(format!("{}.subPath", mount.field));
                let names: Vec<&str> = files.iter().map(|it| it.path.as_str()).collect();
                out.refuse(problem.hint(format!("It has {}.", names.join(", "))));
            }
        }
    }
}
