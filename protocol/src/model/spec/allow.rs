//! The rights that a node allows containers beyond those of an ordinary one: its configuration says
//! it, its record tells it, and **a node that does not allow something never runs it**.
//!
//! An allowance travels as text, so that an older program keeps one that it does not know.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::container::{Container, NetworkMode, Privileges};

/// Allowances of one node: they are part of its record, which every node keeps.
pub const MAX_ALLOWED: usize = 64;
/// Bytes of one allowance, for the same reason.
pub const MAX_ALLOWANCE: usize = 200;

/// A right that a node grants to every container that asks for it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Allowance {
    /// Everything: a privileged container can do what root on the device can.
    Privileged,
    /// The device's own network.
    HostNetwork,
    /// Devices by path; `*` stands for any text without `/`.
    Device(String),
    /// A path of the device, and all below it.
    Path(String),
    /// A capability without `CAP_`, or `ALL`.
    Capability(String),
    /// An option of the engine's security modules.
    Security(String),
    /// An allowance that only a newer program knows.
    Other(String),
}

/// The allowances of a node.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Allowed(pub BTreeSet<Allowance>);

/// The text is no allowance.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "`{0}` is nothing that a node can allow: device=PATH, path=PATH, cap=NAME, security=OPTION, \
        host-network or privileged are expected, with absolute paths"
)]
pub struct NotAnAllowance(pub String);

impl FromStr for Allowance {
    type Err = NotAnAllowance;

    fn from_str(text: &str) -> Result<Allowance, NotAnAllowance> {
        match known(text) {
            Some(allowance) if text.len() <= MAX_ALLOWANCE => Ok(allowance),
            _ => Err(NotAnAllowance(text.into())),
        }
    }
}

fn known(text: &str) -> Option<Allowance> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let trimmed = match value.trim_end_matches('/') {
        "" if value.starts_with('/') => "/",
        trimmed => trimmed,
    };
    match name {
        "privileged" if name == text => Some(Allowance::Privileged),
        "host-network" if name == text => Some(Allowance::HostNetwork),
        "device" if is_plain_path(trimmed) => Some(Allowance::Device(trimmed.into())),
        "path" if is_plain_path(trimmed) => Some(Allowance::Path(trimmed.into())),
        "cap" => {
            let name = capability(value);
            is_capability(&name).then_some(Allowance::Capability(name))
        }
        "security" if !value.is_empty() => Some(Allowance::Security(value.into())),
        _ => None,
    }
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Allowance::Privileged => f.write_str("privileged"),
            Allowance::HostNetwork => f.write_str("host-network"),
            Allowance::Device(path) => write!(f, "device={path}"),
            Allowance::Path(path) => write!(f, "path={path}"),
            Allowance::Capability(name) => write!(f, "cap={name}"),
            Allowance::Security(option) => write!(f, "security={option}"),
            Allowance::Other(text) => f.write_str(text),
        }
    }
}

impl Serialize for Allowance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Allowance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(known(&text).unwrap_or(Allowance::Other(text)))
    }
}

impl Allowed {
    /// The first thing that a container asks for and the node does not allow, in words: `device
    /// /dev/ttyUSB0`. `paths` are the paths of the device that it mounts.
    pub fn refusal<'a>(
        &self,
        container: &Container,
        paths: impl IntoIterator<Item = &'a str>,
    ) -> Option<String> {
        // It is root on the device, so no other right is worth refusing.
        if self.0.contains(&Allowance::Privileged) {
            return None;
        }
        let Privileges { privileged, cap_add, cap_drop: _, devices, security } =
            &container.privileges;
        if *privileged {
            return Some("privileged containers".into());
        }
        if container.network == NetworkMode::Host && !self.0.contains(&Allowance::HostNetwork) {
            return Some("containers in its own network".into());
        }
        let device = devices.iter().find(|it| !self.device(&it.host));
        let path = || paths.into_iter().find(|path| !self.path(path));
        let cap = || cap_add.iter().find(|name| !self.capability(name));
        let option = || security.iter().find(|option| !self.security(option));
        device
            .map(|it| format!("device {}", it.host))
            .or_else(|| path().map(|path| format!("path {path}")))
            .or_else(|| cap().map(|name| format!("capability {name}")))
            .or_else(|| option().map(|option| format!("security option {option}")))
    }

    /// All that a container asks of a node which allows nothing, as `shoal up --allow` takes it.
    pub fn asked<'a>(
        container: &Container,
        paths: impl IntoIterator<Item = &'a str>,
    ) -> BTreeSet<Allowance> {
        let Privileges { privileged, cap_add, cap_drop: _, devices, security } =
            &container.privileges;
        if *privileged {
            return [Allowance::Privileged].into();
        }
        let network = container.network == NetworkMode::Host;
        let options = security.iter().filter(|option| *option != NO_NEW_PRIVILEGES);
        let mut all: BTreeSet<Allowance> =
            options.map(|option| Allowance::Security(option.clone())).collect();
        all.extend(network.then_some(Allowance::HostNetwork));
        all.extend(devices.iter().map(|it| Allowance::Device(it.host.clone())));
        all.extend(paths.into_iter().map(|path| Allowance::Path(path.to_owned())));
        all.extend(cap_add.iter().map(|name| Allowance::Capability(capability(name))));
        all
    }

    /// The allowance that would take back a [`Self::refusal`], as `shoal up --allow` takes it.
    /// `None` for words that are no refusal.
    pub fn remedy(refusal: &str) -> Option<String> {
        let with = |start: &str, name: &str| {
            refusal.strip_prefix(start).map(|value| format!("{name}={value}"))
        };
        match refusal {
            "privileged containers" => Some("privileged".into()),
            "containers in its own network" => Some("host-network".into()),
            _ => with("device ", "device")
                .or_else(|| with("path ", "path"))
                .or_else(|| with("capability ", "cap"))
                .or_else(|| with("security option ", "security")),
        }
    }

    fn device(&self, path: &str) -> bool {
        self.0.iter().any(|it| matches!(it, Allowance::Device(pattern) if matches(pattern, path)))
    }

    /// Whether a path of the device may be mounted.
    pub fn path(&self, path: &str) -> bool {
        self.paths().any(|allowed| is_below(path, allowed))
            || self.0.contains(&Allowance::Privileged)
    }

    /// The paths that may be mounted, with all below them.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|it| match it {
            Allowance::Path(path) => Some(path.as_str()),
            _ => None,
        })
    }

    fn capability(&self, name: &str) -> bool {
        let name = capability(name);
        self.0.contains(&Allowance::Capability(name))
            || self.0.contains(&Allowance::Capability("ALL".into()))
    }

    fn security(&self, option: &str) -> bool {
        // It only takes rights away.
        option == NO_NEW_PRIVILEGES || self.0.contains(&Allowance::Security(option.into()))
    }
}

/// The option by which no program of a container gets more rights than it was started with.
pub const NO_NEW_PRIVILEGES: &str = "no-new-privileges";

/// Whether `path` is `folder` or below it. Both are plain.
pub fn is_below(path: &str, folder: &str) -> bool {
    let rest = path.strip_prefix(folder.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a text is an absolute path without `.`, `..` and empty parts, so that it names nothing
/// outside of the folders in it. A link may still lead elsewhere.
pub fn is_plain_path(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('/') else { return false };
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    !text.contains(['\0', '\n', ',']) && (rest.is_empty() || rest.split('/').all(is_plain))
}

/// The name of a capability without `CAP_`, in capital letters.
pub fn capability(text: &str) -> String {
    let name = text.to_ascii_uppercase();
    name.strip_prefix("CAP_").map(str::to_owned).unwrap_or(name)
}

/// Whether a text can be the name of a capability.
pub fn is_capability(name: &str) -> bool {
    (1..=32).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
}

/// Whether `path` fits `pattern`, in which `*` stands for any text without `/`.
fn matches(pattern: &str, path: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == path };
    let Some(rest) = path.strip_prefix(head) else { return false };
    let end = rest.find('/').unwrap_or(rest.len());
    (0..=end).any(|at| rest.get(at..).is_some_and(|rest| matches(tail, rest)))
}

#[cfg(test)]
mod tests {
    use super::super::codec;
    use super::super::container::{Device, Image};
    use super::*;

    fn allowed(text: &str) -> Allowed {
        Allowed(text.split(',').map(|one| one.parse().unwrap()).collect())
    }

    fn refusal(allowed: &Allowed, change: impl FnOnce(&mut Container)) -> Option<String> {
        let mut container = Container::of("main", Image::named("redis:7"));
        change(&mut container);
        allowed.refusal(&container, [])
    }

    #[test]
    fn pattern_stays_within_its_folder() {
        for (pattern, path, fits) in [
            ("/dev/ttyUSB*", "/dev/ttyUSB0", true),
            ("/dev/ttyUSB*", "/dev/ttyUSB", true),
            ("/dev/ttyUSB*", "/dev/ttyS0", false),
            ("/dev/*", "/dev/snd/seq", false),
            ("/dev/*/seq", "/dev/snd/seq", true),
            ("/dev/i2c-*x*", "/dev/i2c-1x9", true),
            ("/dev/kvm", "/dev/kvm0", false),
        ] {
            assert_eq!(matches(pattern, path), fits, "{pattern} {path}");
        }
        assert!(is_below("/data", "/data") && is_below("/data/a", "/data"));
        assert!(is_below("/x", "/") && !is_below("/database", "/data"));
    }

    /// The words stand in `explain`, so each names the very thing.
    #[test]
    fn refusal_names_what_is_not_allowed() {
        let some = allowed("device=/dev/ttyUSB*,cap=cap_net_admin,path=/data/");
        let device = |host: &str| Device { host: host.into(), path: host.into() };
        assert_eq!(refusal(&some, |it| it.privileges.devices = vec![device("/dev/ttyUSB1")]), None);
        assert_eq!(
            refusal(&some, |it| it.privileges.devices = vec![device("/dev/mem")]).as_deref(),
            Some("device /dev/mem")
        );
        assert_eq!(refusal(&some, |it| it.privileges.cap_add = vec!["NET_ADMIN".into()]), None);
        assert_eq!(
            refusal(&some, |it| it.privileges.cap_add = vec!["SYS_ADMIN".into()]).as_deref(),
            Some("capability SYS_ADMIN")
        );
        assert!(refusal(&some, |it| it.network = NetworkMode::Host).is_some());
        assert!(refusal(&some, |it| it.privileges.privileged = true).is_some());
        let options = |it: &mut Container| it.privileges.security = vec![NO_NEW_PRIVILEGES.into()];
        assert_eq!(refusal(&Allowed::default(), options), None, "it gives up rights");
        let container = Container::of("main", Image::named("redis:7"));
        assert_eq!(some.refusal(&container, ["/data/x"]), None);
        assert_eq!(some.refusal(&container, ["/etc"]).as_deref(), Some("path /etc"));
        let all = allowed("privileged");
        assert_eq!(all.refusal(&container, ["/etc"]), None, "it is root there anyway");
    }

    /// A node that allows all of it refuses nothing more: people need not ask piece by piece.
    #[test]
    fn all_that_is_asked_is_told_at_once() {
        let mut container = Container::of("main", Image::named("redis:7"));
        container.network = NetworkMode::Host;
        container.privileges = Privileges {
            cap_add: vec!["NET_ADMIN".into()],
            devices: vec![Device { host: "/dev/kvm".into(), path: "/dev/kvm".into() }],
            security: vec![NO_NEW_PRIVILEGES.into(), "seccomp=unconfined".into()],
            ..Privileges::default()
        };
        let asked = Allowed::asked(&container, ["/srv"]);
        let shown: Vec<String> = asked.iter().map(Allowance::to_string).collect();
        let wanted = "host-network device=/dev/kvm path=/srv cap=NET_ADMIN \
                      security=seccomp=unconfined";
        assert_eq!(shown.join(" "), wanted);
        assert_eq!(Allowed(asked).refusal(&container, ["/srv"]), None);
        container.privileges.privileged = true;
        assert_eq!(Allowed::asked(&container, ["/srv"]), [Allowance::Privileged].into());
    }

    #[test]
    fn unknown_allowance_is_kept_and_not_typed() {
        for text in ["gpu=all", "path=data", "path=/a/../b", "cap=", "privileged=yes", "device"] {
            assert!(text.parse::<Allowance>().is_err(), "{text}");
            let read: Allowance = codec::decode(&codec::encode(&text)).unwrap();
            assert_eq!(read, Allowance::Other(text.into()));
            assert_eq!(read.to_string(), text);
        }
        for text in ["device=/dev/ttyUSB*", "path=/", "cap=ALL", "security=label=disable"] {
            assert_eq!(text.parse::<Allowance>().unwrap().to_string(), text);
        }
    }
}
