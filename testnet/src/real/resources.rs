//! Resources that a run makes outside of its folder: control groups, mounts, links, namespaces.
//! Their names carry the id of the run's process.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::cleanup::{PREFIX, owner_is_dead, retry_while_dying};

/// The beginning of names of links, which may have fifteen characters.
pub(crate) const LINK_PREFIX: &str = "shl";

/// A resource. They are removed in this order: a namespace's links vanish with it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Resource {
    /// A control group in every hierarchy, with the groups in it. Its processes must have been
    /// killed.
    Cgroup(String),
    /// A mount at this path.
    Mount(PathBuf),
    /// A network interface of the machine's own namespace.
    Link(String),
    /// A network namespace that has a name.
    Namespace(String),
}

impl Resource {
    /// Removes the resource, if it exists.
    pub(super) fn remove(&self) -> Result<()> {
        if !self.exists() {
            return Ok(());
        }
        match self {
            Resource::Cgroup(_) => self.groups().try_for_each(|group| remove_group(&group)),
            Resource::Mount(path) => {
                self.release();
                quietly(Command::new("umount").arg(path))
            }
            Resource::Link(name) => quietly(Command::new("ip").args(["link", "delete", name])),
            Resource::Namespace(name) => {
                quietly(Command::new("ip").args(["netns", "delete", name]))
            }
        }
    }

    /// Lets a disk that was made to stall go on.
    pub(super) fn release(&self) {
        if let Resource::Mount(path) = self {
            // This fails where the file system was not frozen, or cannot be.
            let _ = quietly(Command::new("fsfreeze").arg("--unfreeze").arg(path));
        }
    }

    /// The folders of a control group, one in each hierarchy.
    fn groups(&self) -> impl Iterator<Item = PathBuf> {
        let name = if let Resource::Cgroup(name) = self { Some(name.clone()) } else { None };
        let below = |name: String| hierarchies().map(move |hierarchy| hierarchy.join(&name));
        name.into_iter().flat_map(below).filter(|group| group.is_dir())
    }

    fn exists(&self) -> bool {
        match self {
            Resource::Cgroup(_) => self.groups().next().is_some(),
            Resource::Mount(path) => mounts().any(|mounted| mounted == *path),
            Resource::Link(name) => Path::new("/sys/class/net").join(name).exists(),
            Resource::Namespace(name) => Path::new(NAMESPACES).join(name).exists(),
        }
    }

    /// Resources of runs that were killed with SIGKILL; `folders` is the parent of runs' folders.
    pub(super) fn orphans(folders: &Path) -> Vec<Resource> {
        let dead = |path: &PathBuf| {
            let below = path.strip_prefix(folders).ok().and_then(|below| below.iter().next());
            below.and_then(|name| name.to_str()).is_some_and(|name| owner_is_dead(name, PREFIX))
        };
        let named = |folder: &Path, prefix: &'static str| {
            let names = fs::read_dir(folder).into_iter().flatten().flatten();
            let names = names.filter_map(|entry| entry.file_name().into_string().ok());
            names.filter(move |name| owner_is_dead(name, prefix))
        };
        let links = named(Path::new("/sys/class/net"), LINK_PREFIX).map(Resource::Link);
        let namespaces = named(Path::new(NAMESPACES), PREFIX).map(Resource::Namespace);
        let groups: BTreeSet<_> = hierarchies()
            .flat_map(|hierarchy| named(&hierarchy, PREFIX).collect::<Vec<_>>())
            .collect();
        let groups = groups.into_iter().map(Resource::Cgroup);
        groups
            .chain(mounts().filter(dead).map(Resource::Mount))
            .chain(links)
            .chain(namespaces)
            .collect()
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Resource::Cgroup(name) => write!(to, "the control group {name}"),
            Resource::Mount(path) => write!(to, "the mount at {}", path.display()),
            Resource::Link(name) => write!(to, "the network interface {name}"),
            Resource::Namespace(name) => write!(to, "the network namespace {name}"),
        }
    }
}

/// The folder in which `ip netns` keeps its names.
pub(crate) const NAMESPACES: &str = "/var/run/netns";

fn mounts() -> impl Iterator<Item = PathBuf> {
    mounted(|_| true)
}

/// Mount points of control groups: one on new systems, one for each kind on old ones.
fn hierarchies() -> impl Iterator<Item = PathBuf> {
    mounted(|kind| kind == "cgroup" || kind == "cgroup2")
}

fn mounted(wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = PathBuf> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut paths = Vec::new();
    for line in text.lines() {
        // Device, path, kind. Spaces are escaped there, but none of our paths has one.
        let mut words = line.split(' ').skip(1);
        if let (Some(path), Some(kind)) = (words.next(), words.next())
            && wanted(kind)
        {
            paths.push(PathBuf::from(path));
        }
    }
    paths.into_iter()
}

/// Removes a control group and the groups in it, as soon as their killed processes are gone.
fn remove_group(group: &Path) -> Result<()> {
    for inner in fs::read_dir(group).into_iter().flatten().flatten() {
        if inner.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&inner.path())?;
        }
    }
    retry_while_dying(|| fs::remove_dir(group), |error| error.kind() == io::ErrorKind::ResourceBusy)
        .with_context(|| format!("cannot remove {}", group.display()))
}

/// Runs a command without showing its output; an error holds its stderr.
pub(crate) fn quietly(command: &mut Command) -> Result<()> {
    let shown = crate::workspace::shown(command);
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {shown}"))?;
    if !output.status.success() {
        bail!(
            "{shown} failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
