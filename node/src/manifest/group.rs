//! The containers of a group, as a list of a manifest.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use shoal_protocol::model::WorkloadName;
use shoal_protocol::model::spec::{DEFAULT_CPU, DEFAULT_MEMORY, NO_CPU_LIMIT, Role};
use shoal_protocol::model::{Label, Resources};

use super::text::{
    At, Cores, LabelText, Network, Pairs, PortText, Pull, RoleText, Size, Text, Time, pairs,
};
use super::{Document, Limit, ManifestError, field, given, health, quantity};
use crate::publish::{Workload, given as options, reserved_below};

/// A container of a group; the first one of the list is the main one.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct ContainerText {
    /// Its name in the group, a DNS label. Example: `name: proxy`
    name: At<LabelText>,
    /// app: what the replica is for; init: it runs to its end before those behind it start;
    /// sidecar: it starts before the others and ends after them. Default: app.
    /// Example: `role: init`
    role: Option<At<RoleText>>,
    /// Its image, or the path of an archive of one, relative to the manifest.
    /// Example: `image: redis:7`
    image: At<String>,
    /// The exact bytes of the image, by their hashes: `shoal export` writes it, and no registry is
    /// asked. Example: `pinned: { platforms: [] }`
    pinned: Option<At<super::container::Pinned>>,
    /// The memory that is reserved for it, with a unit. Default: 64MiB, unless the workload names
    /// its own. Example: `memory: 128MiB`
    memory: Option<At<Size>>,
    /// The CPU that is reserved for it. Default: 0.1, unless the workload names its own.
    /// Example: `cpu: 0.5`
    cpu: Option<At<Cores>>,
    /// The most that it may take. Default: the memory that is reserved for it, and any CPU that is
    /// free. Example: `limit: { memory: 256MiB, cpu: 2 }`
    #[serde(default)]
    limit: Option<Limit>,
    /// Its environment; names that begin with `SHOAL_` are set by shoal.
    /// Example: `env: { GREETING: hi }`
    #[serde(default)]
    env: Pairs,
    /// Secrets of its namespace, each as a file or a variable.
    /// Example: `secrets: ["db:env=DB_PASSWORD"]`
    secrets: Option<At<Vec<super::given::Given>>>,
    /// Configs of its namespace, each as a file or a variable.
    /// Example: `configs: ["site:env=SITE"]`
    configs: Option<At<Vec<super::given::Given>>>,
    /// Its probes; `none`, of the main one: those that its image names do not count.
    /// Example: `health: { readiness: { http: { path: /ready, port: 80 } } }`
    health: Option<At<super::health::HealthForm>>,
    /// Replaces the image's arguments: words, or one text that is split as a shell does.
    /// Example: `command: [redis-server, --appendonly, "yes"]`
    command: Option<At<super::container::Command>>,
    /// Replaces the image's entry point; an empty text clears it. Example: `entrypoint: [sh, -c]`
    entrypoint: Option<At<super::container::Command>>,
    /// The TCP port at which it answers HTTP; one of a group has one. Example: `port: 80`
    port: Option<At<PortText>>,
    /// The user that it runs as, by number or by a name of the image. Example: `user: 1000:1000`
    user: Option<At<Text>>,
    /// Its working directory, absolute. Example: `workdir: /srv`
    workdir: Option<At<Text>>,
    /// Its host name, of the main one: the others share it. Default: the workload's name and the
    /// replica's number. Example: `hostname: till`
    hostname: Option<At<Text>>,
    /// Labels of the container. Example: `labels: { team: shop }`
    labels: Option<At<Pairs>>,
    /// The network, the same for all of a group: bridge, none, or host where a node allows it.
    /// Default: bridge. Example: `network: none`
    network: Option<At<Network>>,
    /// Files in memory, with a size. Example: `tmpfs: ["/run:size=16MiB"]`
    tmpfs: Option<At<Vec<String>>>,
    /// Its root file system cannot be written. Default: false. Example: `read_only: true`
    read_only: Option<At<bool>>,
    /// A small init process reaps orphans and passes signals on. Default: false.
    /// Example: `init: true`
    init: Option<At<bool>>,
    /// Volumes of its own, or paths of the device where a node allows them: `SOURCE:PATH[:ro]`, or
    /// their parts by name. Example: `volumes: ["data:/var/lib/db", "/srv/www:/www:ro"]`
    volumes: Option<At<Vec<super::container::VolumeText>>>,
    /// Devices of a node that allows them. Example: `devices: [/dev/ttyUSB0]`
    devices: Option<At<Vec<String>>>,
    /// Capabilities that it gets, where a node allows them. Example: `cap_add: [NET_ADMIN]`
    cap_add: Option<At<Vec<String>>>,
    /// Options of the engine's security modules. Example: `security_opt: [no-new-privileges]`
    security_opt: Option<At<Vec<String>>>,
    /// It can do what root on the device can, where a node allows that. Default: false.
    /// Example: `privileged: true`
    privileged: Option<At<bool>>,
    /// Capabilities that it gives up, or ALL. Example: `cap_drop: [ALL]`
    cap_drop: Option<At<Vec<String>>>,
    /// The signal that asks it to end. Default: the image's. Example: `stop_signal: SIGINT`
    stop_signal: Option<At<Text>>,
    /// The time to end before it is killed, with a unit. Default: 5s. Example: `stop_grace: 30s`
    stop_grace: Option<At<Time>>,
    /// The size of /dev/shm, with a unit. Default: 64MiB. Example: `shm_size: 128MiB`
    shm_size: Option<At<Size>>,
    /// Limits of its processes, each SOFT or SOFT:HARD. Example: `ulimits: { nofile: "1024:4096" }`
    ulimits: Option<At<Pairs>>,
    /// Kernel parameters of its own network and IPC.
    /// Example: `sysctls: { net.core.somaxconn: "1024" }`
    sysctls: Option<At<Pairs>>,
    /// Lines of its /etc/hosts; the address `host-gateway` is the node. Of a group they are in the
    /// main one. Example: `extra_hosts: ["db:10.0.0.5", "node:host-gateway"]`
    extra_hosts: Option<At<Vec<String>>>,
    /// Name servers that it asks in place of its node's, which alone knows other workloads by name.
    /// Example: `dns: [1.1.1.1]`
    dns: Option<At<Vec<String>>>,
    /// Domains in which its resolver looks for a name. Example: `dns_search: [example.org]`
    dns_search: Option<At<Vec<String>>>,
    /// Options of its resolver. Example: `dns_opt: ["ndots:2"]`
    dns_opt: Option<At<Vec<String>>>,
    /// Further groups of its user, by number or by a name of the image.
    /// Example: `group_add: [audio, 1001]`
    group_add: Option<At<Vec<Text>>>,
    /// Variables that its node fills in, each with one of node, node-id, replica, name, uid and
    /// index.
    /// Example: `env_from: { NODE_NAME: node }`
    env_from: Option<At<Pairs>>,
    /// Further names at which others of its namespace reach it. Example: `aliases: [my_db]`
    aliases: Option<At<Vec<String>>>,
    /// Commands in the container after its start, beside its program: the replica is not ready
    /// before they end with 0, and fails when one fails.
    /// Example: `post_start: [{ command: [chown, app, /data], user: root }]`
    post_start: Option<At<Vec<super::hooks::HookText>>>,
    /// Commands or pauses before the container is asked to end, within `stop_grace`.
    /// Example: `pre_stop: [{ sleep: 5s }, { command: nginx -s quit }]`
    pre_stop: Option<At<Vec<super::hooks::HookText>>>,
    /// When the engine asks the registry: missing, always or never. Default: missing.
    /// Example: `pull: always`
    pull: Option<At<Pull>>,
}

/// The part of a container in its group, and the fields that a container alone has as well.
struct Entry {
    role: Role,
    document: Document,
}

impl ContainerText {
    fn entry(self) -> Result<Entry, ManifestError> {
        let ContainerText {
            name,
            role,
            image,
            pinned,
            memory,
            cpu,
            limit,
            env,
            secrets,
            configs,
            health,
            command,
            entrypoint,
            port,
            user,
            workdir,
            hostname,
            labels,
            network,
            tmpfs,
            read_only,
            init,
            volumes,
            devices,
            cap_add,
            security_opt,
            privileged,
            cap_drop,
            stop_signal,
            stop_grace,
            shm_size,
            ulimits,
            sysctls,
            extra_hosts,
            dns,
            dns_search,
            dns_opt,
            group_add,
            env_from,
            aliases,
            post_start,
            pre_stop,
            pull,
        } = self;
        let role = role.map(|text| field("role", &text, str::parse)).transpose()?;
        let document = Document {
            name,
            namespace: None,
            wasm: None,
            artifact: None,
            image: Some(image),
            pinned,
            replicas: None,
            memory,
            cpu,
            reserve: None,
            priority: None,
            disk: None,
            resources: BTreeMap::new(),
            limit,
            env,
            require: None,
            prefer: None,
            spread: None,
            affinity: None,
            tolerate: None,
            after: None,
            secrets,
            configs,
            health,
            update: None,
            autoscale: None,
            kind: None,
            order: None,
            completions: None,
            parallel: None,
            retries: None,
            deadline: None,
            keep: None,
            schedule: None,
            timezone: None,
            missed: None,
            overlap: None,
            suspend: None,
            world: None,
            args: None,
            set: None,
            restarts: None,
            command,
            entrypoint,
            port,
            exposed: None,
            user,
            workdir,
            hostname,
            labels,
            network,
            tmpfs,
            stdin: None,
            tty: None,
            read_only,
            init,
            ports: None,
            volumes,
            volume_on_loss: None,
            devices,
            cap_add,
            security_opt,
            privileged,
            cap_drop,
            stop_signal,
            stop_grace,
            shm_size,
            ulimits,
            sysctls,
            extra_hosts,
            dns,
            dns_search,
            dns_opt,
            group_add,
            env_from,
            aliases,
            post_start,
            pre_stop,
            pull,
            containers: None,
        };
        Ok(Entry { role: role.unwrap_or_default(), document })
    }
}

impl Entry {
    /// The container as a workload of its own. With `is_sized` it has a size in any case.
    fn workload(
        self,
        group: &WorkloadName,
        base: &Path,
        is_sized: bool,
    ) -> Result<Workload, ManifestError> {
        let Entry { role, mut document } = self;
        let name = field("name", &document.name, |text| text.parse::<Label>())?;
        let size = document.size(is_sized)?;
        let secrets = given::uses("secrets", document.secrets.take(), options::secret)?;
        let configs = given::uses("configs", document.configs.take(), options::config)?;
        let (probes, no_healthcheck) = health::health(document.health.take())?;
        let env = pairs(std::mem::take(&mut document.env));
        let Some(image) = document.image.take() else {
            return Err(ManifestError::at(document.name.line(), "image: it is missing"));
        };
        let workload = document.container(group.clone(), image.take(), base)?;
        let workload = workload.envs(env).given(secrets.into_iter().chain(configs));
        let workload = workload.health(probes).no_healthcheck(no_healthcheck);
        Ok(workload.with_container(|container| {
            container.name = name.to_string();
            container.member.role = role;
            (container.member.reservation, container.limit) = size.unzip();
        }))
    }
}

impl Document {
    /// The reservation for it and the most that it may take, if it names either.
    fn size(&mut self, is_sized: bool) -> Result<Option<(Resources, Resources)>, ManifestError> {
        let limit = self.limit.take();
        let is_named = self.memory.is_some() || self.cpu.is_some() || limit.is_some();
        if !is_named && !is_sized {
            return Ok(None);
        }
        let memory = |text: &At<Size>| field("memory", text, quantity::memory);
        let cpu = |text: &At<Cores>| field("cpu", text, quantity::cpu);
        let (own, own_cpu) = (self.memory.take(), self.cpu.take());
        let reserved = own.as_ref().map(memory).transpose()?.unwrap_or(DEFAULT_MEMORY);
        let Limit { memory: most, cpu: most_cpu } = limit.unwrap_or_default();
        let most = most.as_ref().map(memory).transpose()?.unwrap_or(reserved);
        let most_cpu = most_cpu.as_ref().map(cpu).transpose()?;
        let reserved_cpu = own_cpu.as_ref().map(cpu).transpose()?;
        let reserved_cpu = reserved_cpu.or(reserved_below(most_cpu)).unwrap_or(DEFAULT_CPU);
        let most_cpu = most_cpu.unwrap_or(NO_CPU_LIMIT);
        let reserved = Resources { memory: reserved, cpu: reserved_cpu };
        Ok(Some((reserved, Resources { memory: most, cpu: most_cpu })))
    }

    /// The group of these containers.
    pub(super) fn group(
        &mut self,
        name: &WorkloadName,
        containers: At<Vec<ContainerText>>,
        base: &Path,
    ) -> Result<Workload, ManifestError> {
        let line = containers.line();
        // Without a size of the whole, it is the sum of theirs.
        let is_sized = self.memory.is_none() && self.cpu.is_none() && self.limit.is_none();
        let wrong = |why: String| ManifestError::at(line, why);
        let mut group: Option<Workload> = None;
        for text in containers.take() {
            let workload = text.entry()?.workload(name, base, is_sized)?;
            group = Some(match group {
                None => workload,
                Some(group) => group.beside(workload).map_err(wrong)?,
            });
        }
        let Some(group) = group.filter(Workload::is_group) else {
            let why = "containers: two at least are expected; write a single one without the list";
            return Err(wrong(why.into()));
        };
        self.of_replica(if is_sized { group.sized_by_containers() } else { group })
    }
}
