//! The options of a container, as people give them in a manifest or to `shoal run`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use clap::Args;
use shoal_protocol::model::spec::{
    self, Container, Device, Extra, ExtraHost, Hook, HookCommand, Hooks, InvalidSpec, LaunchFact,
    NetworkMode, OnLoss, Port, Privileges, PullPolicy, Tmpfs, Ulimit,
};

use super::Workload;
use super::mount::{MountOption, mount};
use super::volume::{Mounted, device, on_loss, security, storage, volume};
use crate::manifest::quantity;

/// The options that only a container has. The manifest's fields have the same names, with `_`.
#[derive(Args, Clone, PartialEq, Eq, Debug, Default)]
#[command(next_help_heading = "Options of a container")]
pub struct ContainerOptions {
    /// The TCP port at which it listens: every node serves HTTP from it, and containers reach it as
    /// NAME:PORT
    #[arg(long, value_name = "PORT", value_parser = port)]
    pub port: Option<u16>,
    /// Replaces the image's entry point, in words; an empty text clears it
    #[arg(long, value_name = "COMMAND", value_parser = words)]
    pub entrypoint: Option<Words>,
    /// The user that it runs as, by number or by a name of the image
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Its working directory
    #[arg(short, long, value_name = "PATH")]
    pub workdir: Option<String>,
    /// Its host name [default: the workload's name and the replica's number]
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// A label of the container; may be given several times
    #[arg(long = "container-label", value_name = "K=V", value_parser = pair)]
    pub labels: Vec<(String, String)>,
    /// Its network: bridge, none, or host, where a node allows it [default: bridge]
    #[arg(long, value_name = "MODE", value_parser = network)]
    pub network: Option<NetworkMode>,
    /// Files in memory; may be given several times
    #[arg(long, value_name = "PATH[:size=SIZE][,exec]", value_parser = tmpfs)]
    pub tmpfs: Vec<Tmpfs>,
    /// Its standard input stays open: `shoal attach` writes to it
    #[arg(short, long)]
    pub interactive: bool,
    /// Its program has a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Its root file system cannot be written
    #[arg(long)]
    pub read_only: bool,
    /// A small init process reaps orphans and passes signals on
    #[arg(long)]
    pub init: bool,
    /// A port of the device that leads to a port of the container; one replica of a node has it;
    /// may be given several times
    #[arg(short, long, value_name = "[IP:]PORT:PORT[/udp]", value_parser = published)]
    pub publish: Vec<Port>,
    /// A volume of its own, as in data:/var/lib/db, which a component may have as well; or a path
    /// of the device, where a node allows it, as in /srv/www:/www:ro; may be given several times
    #[arg(short, long = "volume", value_name = "SOURCE:PATH[:ro]", value_parser = volume)]
    pub volumes: Vec<Mounted>,
    /// The same with names, as docker has it: type=bind|volume|tmpfs,source=..,target=..[,readonly]
    #[arg(long = "mount", value_name = "KEY=VALUE,..", value_parser = mount)]
    pub mounts: Vec<MountOption>,
    /// Starts it elsewhere with empty volumes when the node that keeps them is down; or waits for
    /// the node: empty or wait [default: wait]
    #[arg(long, value_name = "WHAT", value_parser = on_loss)]
    pub volume_on_loss: Option<OnLoss>,
    /// A device of a node that allows it, as in /dev/ttyUSB0; may be given several times
    #[arg(long = "device", value_name = "PATH[:PATH]", value_parser = device)]
    pub devices: Vec<Device>,
    /// A capability that it gets, where a node allows it; may be given several times
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_add: Vec<String>,
    /// An option of the engine's security modules, as in no-new-privileges; may be given several
    /// times
    #[arg(long, value_name = "OPTION", value_parser = security)]
    pub security_opt: Vec<String>,
    /// It can do what root on the device can, where a node allows that
    #[arg(long)]
    pub privileged: bool,
    /// A capability that it gives up, or ALL; may be given several times
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_drop: Vec<String>,
    /// The signal that asks it to end [default: the image's]
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// How long it may take to end before it is killed [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = quantity::duration)]
    pub stop_grace: Option<Duration>,
    /// The size of /dev/shm [default: 64MiB]
    #[arg(long, value_name = "SIZE", value_parser = quantity::size)]
    pub shm_size: Option<u64>,
    /// A limit of its processes, as in nofile=1024:4096; may be given several times
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]", value_parser = ulimit)]
    pub ulimits: Vec<(String, Ulimit)>,
    /// A kernel parameter of its own network and IPC; may be given several times
    #[arg(long = "sysctl", value_name = "K=V", value_parser = pair)]
    pub sysctls: Vec<(String, String)>,
    /// A line of its /etc/hosts, as in db:10.0.0.5; the address host-gateway is the node; may be
    /// given several times
    #[arg(long = "add-host", value_name = "NAME:ADDRESS", value_parser = host)]
    pub extra_hosts: Vec<ExtraHost>,
    /// A name server that it asks in place of its node's, which knows other workloads by name; may
    /// be given several times
    #[arg(long, value_name = "ADDRESS", value_parser = server)]
    pub dns: Vec<IpAddr>,
    /// A domain in which its resolver looks for a name; may be given several times
    #[arg(long, value_name = "DOMAIN")]
    pub dns_search: Vec<String>,
    /// An option of its resolver, as in ndots:2; may be given several times
    #[arg(long, alias = "dns-option", value_name = "OPTION")]
    pub dns_opt: Vec<String>,
    /// A further group of its user, by number or by a name of the image; may be given several times
    #[arg(long, value_name = "GROUP")]
    pub group_add: Vec<String>,
    /// A variable that its node fills in, with: node, node-id, replica, name, uid or index; may be
    /// given several times
    #[arg(long, value_name = "NAME=WHAT", value_parser = filled)]
    pub env_from: Vec<(String, LaunchFact)>,
    /// A further name at which others of its namespace reach it; may be given several times
    #[arg(long, value_name = "NAME")]
    pub network_alias: Vec<String>,
    /// A command in the container after its start, in words: it is not ready before that ends
    /// with 0; may be given several times
    #[arg(long, value_name = "COMMAND", value_parser = hook)]
    pub post_start: Vec<Hook>,
    /// A command in the container before it is asked to end, in words; may be given several times
    #[arg(long, value_name = "COMMAND", value_parser = hook)]
    pub pre_stop: Vec<Hook>,
    /// When the engine asks the registry: missing, always or never [default: missing]
    #[arg(long, value_name = "WHEN", value_parser = pull)]
    pub pull: Option<PullPolicy>,
}

/// The words of a command.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Words(pub Vec<String>);

impl ContainerOptions {
    /// The first option that was given, if any, as a person wrote it on the command line.
    pub fn first(&self) -> Option<&'static str> {
        let ContainerOptions {
            port,
            entrypoint,
            user,
            workdir,
            hostname,
            labels,
            network,
            tmpfs,
            interactive,
            tty,
            read_only,
            init,
            publish,
            volumes,
            mounts,
            volume_on_loss,
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
            network_alias,
            post_start,
            pre_stop,
            pull,
        } = self;
        let given = [
            (port.is_some(), "--port"),
            (entrypoint.is_some(), "--entrypoint"),
            (user.is_some(), "--user"),
            (workdir.is_some(), "--workdir"),
            (hostname.is_some(), "--hostname"),
            (!labels.is_empty(), "--container-label"),
            (network.is_some(), "--network"),
            (!tmpfs.is_empty(), "--tmpfs"),
            (*interactive, "--interactive"),
            (*tty, "--tty"),
            (*read_only, "--read-only"),
            (*init, "--init"),
            (!publish.is_empty(), "--publish"),
            (!volumes.is_empty(), "--volume"),
            (!mounts.is_empty(), "--mount"),
            (volume_on_loss.is_some(), "--volume-on-loss"),
            (!devices.is_empty(), "--device"),
            (!cap_add.is_empty(), "--cap-add"),
            (!security_opt.is_empty(), "--security-opt"),
            (*privileged, "--privileged"),
            (!cap_drop.is_empty(), "--cap-drop"),
            (stop_signal.is_some(), "--stop-signal"),
            (stop_grace.is_some(), "--stop-grace"),
            (shm_size.is_some(), "--shm-size"),
            (!ulimits.is_empty(), "--ulimit"),
            (!sysctls.is_empty(), "--sysctl"),
            (!extra_hosts.is_empty(), "--add-host"),
            (!dns.is_empty(), "--dns"),
            (!dns_search.is_empty(), "--dns-search"),
            (!dns_opt.is_empty(), "--dns-opt"),
            (!group_add.is_empty(), "--group-add"),
            (!env_from.is_empty(), "--env-from"),
            (!network_alias.is_empty(), "--network-alias"),
            (!post_start.is_empty(), "--post-start"),
            (!pre_stop.is_empty(), "--pre-stop"),
            (pull.is_some(), "--pull"),
        ];
        given.into_iter().find_map(|(is_given, name)| is_given.then_some(name))
    }

    /// Takes out what a component may have as well: the volumes, and what follows their loss.
    pub fn take_volumes(&mut self) -> (Vec<Mounted>, Option<OnLoss>) {
        let mut volumes = std::mem::take(&mut self.volumes);
        let rest = std::mem::take(&mut self.mounts).into_iter().filter_map(|mount| match mount {
            MountOption::Volume(mounted) => {
                volumes.push(mounted);
                None
            }
            tmpfs @ MountOption::Tmpfs(_) => Some(tmpfs),
        });
        self.mounts = rest.collect();
        (volumes, self.volume_on_loss.take())
    }

    /// The workload with these options.
    ///
    /// # Errors
    /// Two of them contradict one another.
    pub fn apply(mut self, workload: Workload) -> Result<Workload, String> {
        for mount in std::mem::take(&mut self.mounts) {
            match mount {
                MountOption::Volume(mounted) => self.volumes.push(mounted),
                MountOption::Tmpfs(tmpfs) => self.tmpfs.push(tmpfs),
            }
        }
        let storage = storage(&self.volumes, self.volume_on_loss)?;
        let workload = workload.ports(self.publish.clone()).storage(storage);
        let workload = workload.streams(self.interactive, self.tty);
        Ok(workload.with_container(|container| self.set(container)))
    }

    fn set(self, container: &mut Container) {
        container.http = self.port;
        container.entrypoint = self.entrypoint.map(|words| words.0);
        container.user = self.user;
        container.workdir = self.workdir;
        container.hostname = self.hostname;
        container.labels = self.labels.into_iter().collect();
        container.network = self.network.unwrap_or_default();
        container.tmpfs = self.tmpfs;
        container.read_only = self.read_only;
        container.init = self.init;
        container.mounts = self.volumes.iter().map(Mounted::mount).collect();
        container.privileges = Privileges {
            privileged: self.privileged,
            cap_add: self.cap_add.iter().map(|name| spec::capability(name)).collect(),
            cap_drop: self.cap_drop,
            devices: self.devices,
            security: self.security_opt,
        };
        container.stop_signal = self.stop_signal;
        container.stop_grace = self.stop_grace;
        container.shm_size = self.shm_size;
        container.ulimits = self.ulimits.into_iter().collect::<BTreeMap<_, _>>();
        container.sysctls = self.sysctls.into_iter().collect();
        container.extra = Extra {
            hosts: self.extra_hosts,
            dns: self.dns,
            dns_search: self.dns_search,
            dns_opt: self.dns_opt,
            groups: self.group_add,
            env_from: self.env_from.into_iter().collect(),
            aliases: self.network_alias,
        };
        container.hooks = Hooks { post_start: self.post_start, pre_stop: self.pre_stop };
        container.image.pull = self.pull.unwrap_or_default();
    }
}

/// Whether a text names a file of an image, and not an image of a registry: it begins as a path, or
/// ends as archives do.
pub fn is_file(text: &str) -> bool {
    const ENDS: [&str; 4] = [".tar", ".tar.gz", ".tgz", ".tar.zst"];
    text.starts_with(['/', '.']) || ENDS.iter().any(|end| text.ends_with(end))
}

/// Splits a command into words at spaces; `'..'`, `".."` and `\` keep spaces, as in a shell.
///
/// # Errors
/// A quote is not closed.
pub fn words(text: &str) -> Result<Words, String> {
    shlex::split(text).map(Words).ok_or_else(|| format!("`{text}`: a quote is not closed"))
}

/// Reads the command of a hook, in words.
///
/// # Errors
/// A quote is not closed.
pub fn hook(text: &str) -> Result<Hook, String> {
    let command = words(text)?.0;
    Ok(Hook::Exec(HookCommand { command, ..HookCommand::default() }))
}

/// Reads `K=V`; the value may contain further `=`.
///
/// # Errors
/// There is no `=`, or nothing before it.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not of the form NAME=VALUE")),
    }
}

/// Reads `NAME:ADDRESS`.
///
/// # Errors
/// It has another form.
pub fn host(text: &str) -> Result<ExtraHost, String> {
    text.parse()
}

/// Reads the address of a name server.
///
/// # Errors
/// It is no address.
pub fn server(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is no address, as `1.1.1.1` is one"))
}

/// Reads `NAME=WHAT`, a variable that the node fills in.
///
/// # Errors
/// It has another form, or the node knows no such thing.
pub fn filled(text: &str) -> Result<(String, LaunchFact), String> {
    let (name, fact) = pair(text)?;
    Ok((name, fact.parse()?))
}

/// Reads the port of a container.
///
/// # Errors
/// It is no port, or names one of the host, too, as docker and Compose have it.
pub fn port(text: &str) -> Result<u16, String> {
    let one = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    if let Some(port) = one(text) {
        return Ok(port);
    }
    let inner = text.strip_suffix("/tcp").unwrap_or(text);
    let inner = inner.rsplit(':').next().unwrap_or(inner);
    match one(inner) {
        Some(port) => Err(format!(
            "`{text}` is more than a port: give the container's alone, {port}; shoal needs no port \
             of the host, and every node then serves NAME.localhost"
        )),
        None => Err(format!("`{text}` is no port: a number from 1 to 65535 is expected")),
    }
}

/// Refuses what the engines of all nodes would refuse at the first start. Not checked with the spec
/// itself: nodes may hold one from before there was the check.
///
/// # Errors
/// The image's name or a kernel parameter can never work.
pub fn check(container: &Container) -> Result<(), InvalidSpec> {
    let wrong = |field, why| Err(InvalidSpec::Container { field, why });
    let reference = &container.image.reference;
    if container.image.platforms.is_empty() && repository(reference).chars().any(char::is_uppercase)
    {
        return wrong(
            "image",
            format!(
                "`{reference}` has capital letters, and names of images have none: perhaps `{}`?",
                lowercased(reference)
            ),
        );
    }
    // The parameters that belong to a container, and not to its whole device.
    const OWN: [&str; 3] = ["kernel.msg", "kernel.shm", "kernel.sem"];
    let is_own = |name: &str| {
        name.starts_with("net.")
            || name.starts_with("fs.mqueue.")
            || OWN.iter().any(|start| name.starts_with(start))
    };
    match container.sysctls.keys().find(|name| !is_own(name)) {
        Some(name) => wrong(
            "sysctls",
            format!(
                "`{name}` is no parameter of a container's own network and IPC: those begin with \
                 net., fs.mqueue., kernel.msg, kernel.shm or kernel.sem"
            ),
        ),
        None => Ok(()),
    }
}

/// A reference without its registry, its tag and its digest: the part that has no capital letters.
fn repository(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or(reference);
    let (registry, rest) = name.split_once('/').unwrap_or(("", name));
    let is_registry = registry.contains(['.', ':']) || registry == "localhost";
    let name = if is_registry { rest } else { name };
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

fn lowercased(reference: &str) -> String {
    let repository = repository(reference);
    reference.replacen(repository, &repository.to_lowercase(), 1)
}

/// Reads the network of a container.
///
/// # Errors
/// It is none of the known modes.
pub fn network(text: &str) -> Result<NetworkMode, String> {
    match text {
        "bridge" => Ok(NetworkMode::Bridge),
        "none" => Ok(NetworkMode::None),
        "host" => Ok(NetworkMode::Host),
        _ => Err(format!("`{text}` is none of bridge, host and none")),
    }
}

/// Reads `[IP:]DEVICE:CONTAINER[/udp]` as docker has it.
///
/// # Errors
/// It has another form.
pub fn published(text: &str) -> Result<Port, String> {
    let wrong = || {
        format!("`{text}` is not of the form PORT:PORT, IP:PORT:PORT or PORT:PORT/udp, in numbers")
    };
    let (rest, kind) = text.split_once('/').unwrap_or((text, "tcp"));
    let (rest, replica) = rest.rsplit_once(':').ok_or_else(wrong)?;
    let (ip, device) = rest.rsplit_once(':').map_or((None, rest), |(ip, port)| (Some(ip), port));
    let ip = ip.map(|ip| ip.trim_start_matches('[').trim_end_matches(']'));
    let number = |text: &str| text.parse::<u16>().map_err(|_| wrong());
    Ok(Port {
        device: number(device)?,
        replica: number(replica)?,
        udp: match kind {
            "tcp" => false,
            "udp" => true,
            _ => return Err(format!("`{kind}` is none of tcp and udp")),
        },
        address: ip.map(|ip| ip.parse().map_err(|_| wrong())).transpose()?,
    })
}

/// Reads when an image is pulled.
///
/// # Errors
/// It is none of the known policies.
pub fn pull(text: &str) -> Result<PullPolicy, String> {
    match text {
        "missing" => Ok(PullPolicy::Missing),
        "always" => Ok(PullPolicy::Always),
        "never" => Ok(PullPolicy::Never),
        _ => Err(format!("`{text}` is none of missing, always and never")),
    }
}

/// Reads `PATH[:OPTION,..]` as docker has it. Files in memory are never set-user-id or devices.
///
/// # Errors
/// An option is not known, or its value is no size.
pub fn tmpfs(text: &str) -> Result<Tmpfs, String> {
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    let mut tmpfs = Tmpfs { path: path.to_owned(), size: None, exec: false };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", size)) => {
                tmpfs.size = Some(quantity::size(size).map_err(|error| error.to_string())?);
            }
            None if option == "exec" => tmpfs.exec = true,
            None if ["rw", "noexec", "nosuid", "nodev"].contains(&option) => {}
            _ => return Err(format!("`{option}` is none of size=SIZE, exec and noexec")),
        }
    }
    Ok(tmpfs)
}

/// Reads `NAME=SOFT[:HARD]`; -1 is no limit.
///
/// # Errors
/// It has another form.
pub fn ulimit(text: &str) -> Result<(String, Ulimit), String> {
    let (name, limits) = pair(text)?;
    Ok((name, limits_of(&limits)?))
}

/// Reads `SOFT[:HARD]`; -1 is no limit.
///
/// # Errors
/// It has another form.
pub fn limits_of(text: &str) -> Result<Ulimit, String> {
    let (soft, hard) = text.split_once(':').unwrap_or((text, text));
    match (soft.parse(), hard.parse()) {
        (Ok(soft), Ok(hard)) => Ok(Ulimit { soft, hard }),
        _ => Err(format!("`{text}` is not of the form SOFT or SOFT:HARD, in whole numbers")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tmpfs_reads_what_docker_writes() {
        let run = tmpfs("/run:rw,noexec,nosuid,size=64KiB").unwrap();
        assert_eq!(run, Tmpfs { path: "/run".into(), size: Some(64 << 10), exec: false });
        assert!(tmpfs("/tmp:exec").unwrap().exec);
        let error = tmpfs("/tmp:mode=1777").unwrap_err();
        assert!(error.contains("`mode=1777` is none of"), "{error}");
    }

    #[test]
    fn published_port_is_read_as_docker_reads_it() {
        let of = |text: &str| published(text).unwrap();
        let web = Port { device: 8080, replica: 80, udp: false, address: None };
        assert_eq!(of("8080:80"), web);
        assert_eq!(of("53:53/udp"), Port { device: 53, replica: 53, udp: true, address: None });
        assert_eq!(of("127.0.0.1:8080:80").address, Some([127, 0, 0, 1].into()));
        assert_eq!(of("[::1]:8080:80").address.map(|ip| ip.is_ipv6()), Some(true));
        for text in ["80", "8080:", "a:80", "70000:80", "8000-8010:80", "1:2:3", "80:80/sctp"] {
            assert!(published(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ulimit_takes_one_number_for_both() {
        assert_eq!(
            ulimit("nofile=1024").unwrap(),
            ("nofile".into(), Ulimit { soft: 1024, hard: 1024 })
        );
        assert_eq!(ulimit("core=0:-1").unwrap().1, Ulimit { soft: 0, hard: -1 });
        assert!(ulimit("nofile=many").is_err() && ulimit("nofile").is_err());
    }

    #[test]
    fn port_of_the_host_is_named() {
        assert_eq!(port("80"), Ok(80));
        for text in ["8080:80", "127.0.0.1:8080:80", "80/tcp"] {
            let error = port(text).unwrap_err();
            assert!(error.contains("give the container's alone, 80; shoal needs no"), "{error}");
        }
        for text in ["0", "http", "70000", ""] {
            assert!(port(text).unwrap_err().contains("is no port"), "{text}");
        }
    }

    /// Both were found when the first replica started, on each node anew.
    #[test]
    fn names_that_no_engine_takes_are_refused() {
        use shoal_protocol::model::spec::Image;
        let of = |reference: &str| Container::of("main", Image::named(reference));
        for (reference, better) in [
            ("Nginx", "nginx"),
            ("Shop/Till:V1", "shop/till:V1"),
            ("Registry.example:5000/Shop/till:V1", "Registry.example:5000/shop/till:V1"),
        ] {
            let error = check(&of(reference)).unwrap_err().to_string();
            assert!(error.ends_with(&format!("perhaps `{better}`?")), "{error}");
        }
        for good in ["nginx:ALPINE", "Registry.example/till", "localhost/till:1", "a@sha256:AB"] {
            assert_eq!(check(&of(good)), Ok(()), "{good}");
        }
        let mut container = of("redis:7");
        container.sysctls = [("net.core.somaxconn".to_owned(), "1".to_owned())].into();
        assert_eq!(check(&container), Ok(()));
        container.sysctls = [("vm.swappiness".to_owned(), "1".to_owned())].into();
        let error = check(&container).unwrap_err().to_string();
        assert!(error.starts_with("sysctls: `vm.swappiness` is no parameter of"), "{error}");
    }

    /// `--entrypoint "sh -c 'a b'"` is what people try first.
    #[test]
    fn entry_point_is_split_as_a_shell_does() {
        assert_eq!(words("sh -c 'a b'").unwrap().0, ["sh", "-c", "a b"]);
        assert_eq!(words("").unwrap().0, Vec::<String>::new());
        assert!(words("sh -c 'a").is_err());
    }
}
