//! A container of a pod, with all that is known of it when it is published.

use std::collections::BTreeMap;

use shoal_protocol::model::spec::{
    Health, Hooks, NO_NEW_PRIVILEGES, Privileges, PullPolicy, capability,
};
use shoal_runtimes::images::full_name;

use super::super::tree::Position;
use super::super::verdict::Judged;
use super::env::{Env, environment};
use super::hooks::hooks;
use super::pod::Around;
use super::probe::probes;
use super::quantity::Quantity;
use super::scalar::Part;

/// A container, not yet of any workload.
#[derive(Clone, Debug)]
pub(super) struct Boxed {
    pub at: Position,
    pub path: String,
    pub name: String,
    pub image: String,
    pub pull: PullPolicy,
    pub entrypoint: Option<Vec<String>>,
    pub command: Option<Vec<String>>,
    pub workdir: Option<String>,
    pub env: Vec<Env>,
    pub ports: Vec<NamedPort>,
    pub resources: Asked,
    pub mounts: Vec<Mounted>,
    pub health: Health,
    pub stdin: bool,
    pub tty: bool,
    pub stop_signal: Option<String>,
    pub hooks: Hooks,
    pub user: Option<String>,
    pub read_only: bool,
    pub privileges: Privileges,
    pub sysctls: BTreeMap<String, String>,
    /// Of an init container: it runs on beside the others.
    pub is_sidecar: bool,
}

/// A port, by its number and name.
#[derive(Clone, Debug)]
pub(super) struct NamedPort {
    pub name: Option<String>,
    pub port: u16,
    pub udp: bool,
    /// Of the device.
    pub host: Option<u16>,
    pub address: Option<std::net::IpAddr>,
}

/// The amounts that a container requests and is limited to.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub requests: BTreeMap<String, Quantity>,
    pub limits: BTreeMap<String, Quantity>,
}

impl Asked {
    /// What is requested of a name, or the limit where nothing is.
    pub fn request(&self, name: &str) -> Option<Quantity> {
        self.requests.get(name).or_else(|| self.limits.get(name)).copied()
    }
}

/// A volume in a container.
#[derive(Clone, Debug)]
pub(super) struct Mounted {
    pub at: Position,
    pub field: String,
    pub volume: String,
    pub path: String,
    pub read_only: bool,
    /// One file of it.
    pub file: Option<String>,
}

/// Reads a container; `security` is that of its pod.
pub(super) fn container(
    part: &Part<'_>,
    security: &Part<'_>,
    labels: &BTreeMap<String, String>,
    around: &Around<'_>,
    out: &mut Judged,
) -> Option<Boxed> {
    for field in ["name", "image"] {
        if !part.get(field).is_there() {
            out.refuse(part.get(field).wrong("it is missing"));
        }
    }
    let (name, image) = (part.get("name").text(out), part.get("image").text(out));
    if let Some(image) = image.as_ref().filter(|image| full_name(image).is_none()) {
        out.refuse(part.get("image").wrong(format!("`{image}` is no name of an image")));
    }
    let ports = ports(part, out);
    let resources =
        Asked { requests: amounts(part, "requests", out), limits: amounts(part, "limits", out) };
    let env = environment(part, &resources, labels, around, out);
    let words = |field: &str, out: &mut Judged| {
        let part = part.get(field);
        let words = part.is_there().then(|| part.texts(out))?;
        let words = words.into_iter().map(|word| match env.expand(&word) {
            Ok(word) => word,
            Err(why) => {
                out.refuse(part.wrong(why).hint(IN_A_SHELL));
                word
            }
        });
        Some(words.collect::<Vec<_>>()).filter(|words| !words.is_empty())
    };
    let (entrypoint, command) = (words("command", out), words("args", out));
    let health = probes(part, &ports, out);
    let stop_signal = part.at(&["lifecycle", "stopSignal"]).text(out);
    let mine = part.get("securityContext");
    let is_sidecar = sidecar(part, out);
    let image = image?;
    let pull = pull(part, &image, out);
    let (user, privileges) = (user(&mine, security, out), privileges(&mine, security, out));
    let sysctls = security.get("sysctls").items(out);
    let sysctl = |it: &Part| Some((it.get("name").text(out)?, it.get("value").text(out)?));
    let sysctls = sysctls.iter().filter_map(sysctl).collect();
    Some(Boxed {
        at: part.at,
        path: part.path.clone(),
        name: name?,
        pull,
        image,
        entrypoint,
        command,
        workdir: part.get("workingDir").text(out).filter(|it| !it.is_empty()),
        env: env.all,
        ports,
        resources,
        mounts: mounts(part, out),
        health,
        stdin: part.get("stdin").is_true(out),
        tty: part.get("tty").is_true(out),
        stop_signal,
        hooks: hooks(part, out),
        user,
        read_only: mine.get("readOnlyRootFilesystem").is_true(out),
        privileges,
        sysctls,
        is_sidecar,
    })
}

/// Whether an init container runs on beside the others.
fn sidecar(part: &Part<'_>, out: &mut Judged) -> bool {
    let policy = part.get("restartPolicy");
    let Some(text) = policy.text(out) else { return false };
    let is_init = part.path.contains("initContainers[");
    if is_init && text == "Always" {
        return true;
    }
    let (why, mend) = match is_init {
        true => (format!("`{text}`: an init container that fails is run again"), "Write `Always`"),
        false => ("the pod's own counts for its containers".into(), "Write that of the pod"),
    };
    out.refuse(policy.wrong(why).hint(format!("{mend}, or leave it away.")));
    false
}

const IN_A_SHELL: &str = "Let the program, or a shell in it (`sh -c`), read the variable itself.";

fn ports(part: &Part<'_>, out: &mut Judged) -> Vec<NamedPort> {
    let mut all = Vec::new();
    for port in part.get("ports").items(out) {
        let number = port.get("containerPort");
        if !number.is_there() {
            out.refuse(number.wrong("it is missing"));
        }
        let address = port.get("hostIP");
        let ip = address.text(out).filter(|it| !it.is_empty() && it != "0.0.0.0" && it != "::");
        let ip = ip.and_then(|text| match text.parse() {
            Ok(ip) => Some(ip),
            Err(_) => {
                out.refuse(address.wrong(format!("`{text}` is no address")));
                None
            }
        });
        let host = match port.get("hostPort").int(0..=65_535, out) {
            // It is printed for none.
            Some(0) | None => None,
            Some(number) => u16::try_from(number).ok(),
        };
        let udp = is_udp(&port.get("protocol"), out);
        if let Some(number) = number.port(out) {
            all.push(NamedPort {
                name: port.get("name").text(out),
                port: number,
                udp,
                host,
                address: ip,
            });
        }
    }
    all
}

/// Whether a protocol is UDP.
pub(super) fn is_udp(part: &Part<'_>, out: &mut Judged) -> bool {
    match part.text(out).as_deref() {
        None | Some("TCP") => false,
        Some("UDP") => true,
        Some(other) => {
            out.refuse(part.wrong(format!("`{other}`: `TCP` and `UDP` are passed on")));
            false
        }
    }
}

fn amounts(part: &Part<'_>, of: &str, out: &mut Judged) -> BTreeMap<String, Quantity> {
    let mut all = BTreeMap::new();
    for (name, part) in part.at(&["resources", of]).fields(out) {
        let Some(amount) = part.quantity(out) else { continue };
        let is_bytes = matches!(name, "memory" | "ephemeral-storage");
        if amount.is_negative() {
            out.refuse(part.wrong("there is no less than nothing"));
        } else if is_bytes && amount.is_fraction() {
            let problem = part.wrong("this is a part of one byte: `m` stands for a thousandth");
            out.refuse(problem.hint("Write `M` for a million, or `Mi`."));
        } else {
            all.insert(name.to_owned(), amount);
        }
    }
    all
}

fn pull(part: &Part<'_>, image: &str, out: &mut Judged) -> PullPolicy {
    let policy = part.get("imagePullPolicy");
    match policy.text(out).as_deref() {
        Some("Always") => PullPolicy::Always,
        Some("IfNotPresent") => PullPolicy::Missing,
        Some("Never") => PullPolicy::Never,
        None | Some("") => {
            let tag = image.rsplit('/').next().and_then(|it| it.split_once(':'));
            let is_latest = !image.contains('@') && tag.is_none_or(|(_, tag)| tag == "latest");
            if is_latest { PullPolicy::Always } else { PullPolicy::Missing }
        }
        Some(other) => {
            let problem = policy.wrong(format!("`{other}` is no policy"));
            out.refuse(problem.hint("Write `Always`, `IfNotPresent` or `Never`."));
            PullPolicy::Missing
        }
    }
}

fn mounts(part: &Part<'_>, out: &mut Judged) -> Vec<Mounted> {
    let mut all = Vec::new();
    for mount in part.get("volumeMounts").items(out) {
        let propagation = mount.get("mountPropagation");
        if propagation.text(out).is_some_and(|it| it != "None") {
            let why = "mounts that are made later do not pass between the device and a container";
            out.refuse(propagation.wrong(why).hint("Write `None`, or leave it away."));
        }
        let (name, path) = (mount.get("name").text(out), mount.get("mountPath").text(out));
        let (Some(volume), Some(path)) = (name, path) else {
            if out.problems.is_empty() {
                out.refuse(mount.wrong("`name` and `mountPath` are expected"));
            }
            continue;
        };
        let trimmed = path.trim_end_matches('/');
        all.push(Mounted {
            at: mount.at,
            field: mount.path.clone(),
            volume,
            path: if trimmed.is_empty() { path.clone() } else { trimmed.to_owned() },
            read_only: mount.get("readOnly").is_true(out),
            file: mount.get("subPath").text(out).filter(|it| !it.is_empty()),
        });
    }
    all
}

/// A field of the container's own context, or that of its pod.
fn either<'a>(mine: &Part<'a>, pod: &Part<'a>, field: &str) -> Part<'a> {
    let own = mine.get(field);
    if own.is_there() { own } else { pod.get(field) }
}

fn user(mine: &Part<'_>, pod: &Part<'_>, out: &mut Judged) -> Option<String> {
    let id = |part: Part<'_>, out: &mut Judged| part.int(0..=i64::from(i32::MAX), out);
    let user = id(either(mine, pod, "runAsUser"), out);
    let group = id(either(mine, pod, "runAsGroup"), out);
    let non_root = either(mine, pod, "runAsNonRoot");
    if non_root.is_true(out) && user.is_none_or(|it| it == 0) {
        let why = match user {
            Some(_) => "the user is 0, which is root",
            None => "the user of the image is not known here, and might be root",
        };
        out.refuse(non_root.wrong(why).hint("Write the number as `runAsUser`."));
    }
    let user = user?;
    Some(group.map_or(user.to_string(), |group| format!("{user}:{group}")))
}

fn privileges(mine: &Part<'_>, pod: &Part<'_>, out: &mut Judged) -> Privileges {
    let privileged = mine.get("privileged").is_true(out);
    let mut all = Privileges { privileged, ..Privileges::default() };
    let names = |field: &str, out: &mut Judged| -> Vec<String> {
        let names = mine.at(&["capabilities", field]).texts(out);
        names.iter().map(|name| capability(name)).collect()
    };
    (all.cap_add, all.cap_drop) = (names("add", out), names("drop", out));
    if mine.get("allowPrivilegeEscalation").bool(out) == Some(false) {
        all.security.push(NO_NEW_PRIVILEGES.to_owned());
    }
    let mount = mine.get("procMount");
    if mount.text(out).is_some_and(|it| it != "Default") {
        out.refuse(mount.wrong("`/proc` is as the engine mounts it").hint("Write `Default`."));
    }
    let seccomp = either(mine, pod, "seccompProfile");
    match seccomp.get("type").text(out).as_deref() {
        Some("Unconfined") => all.security.push("seccomp=unconfined".into()),
        // That of the engine counts.
        None | Some("RuntimeDefault") => {}
        Some(other) => {
            let why = format!("`{other}`: a profile stands in files of the node");
            out.refuse(seccomp.wrong(why).hint("Write `type: RuntimeDefault`."));
        }
    }
    let apparmor = either(mine, pod, "appArmorProfile");
    match apparmor.get("type").text(out).as_deref() {
        Some("Unconfined") => all.security.push("apparmor=unconfined".into()),
        Some("Localhost") => {
            let name = apparmor.get("localhostProfile").text(out).unwrap_or_default();
            all.security.push(format!("apparmor={name}"));
        }
        _ => {}
    }
    all
}
