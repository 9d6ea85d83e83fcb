//! The engine's socket: where it is when nobody says so, and why it cannot be used.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// No engine can be used on this device.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// No socket of an engine was found.
    #[error(
        "no container engine was found: there is no socket at {}. Install Docker or Podman \
         (`systemctl enable --now podman.socket`), or name the engine's socket",
        list(.0)
    )]
    NoEngine(
        /// The places that were tried.
        Vec<PathBuf>,
    ),
    /// An environment variable names something else than a socket of this device.
    #[error(
        "{variable} is `{value}`, but only an engine of this device can run replicas: \
         `unix:///path/to/socket` is expected"
    )]
    NotLocal {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
    },
    /// The socket may not be used by this user.
    #[error(
        "user {user} may not use the container engine at {}: the socket belongs to user {owner} \
         and group {group}. Add the user to that group, or start the node as user {owner}",
        .socket.display()
    )]
    NoPermission {
        /// The engine's socket.
        socket: PathBuf,
        /// The id of this process's user.
        user: u32,
        /// The id of the socket's user.
        owner: u32,
        /// The id of the socket's group.
        group: u32,
    },
    /// The engine does not answer, or not sensibly.
    #[error("the container engine at {} is of no use: {reason}", .socket.display())]
    NoAnswer {
        /// The engine's socket.
        socket: PathBuf,
        /// The finding.
        reason: String,
    },
    /// The engine is older than the adapter.
    #[error(
        "the container engine at {} is too old: {name} {version} speaks API {api}, and 1.41 is the \
         oldest that works (Docker 20.10, Podman 4)",
        .socket.display()
    )]
    TooOld {
        /// The engine's socket.
        socket: PathBuf,
        /// The engine's name.
        name: &'static str,
        /// The engine's version.
        version: String,
        /// The newest version of the API that it speaks.
        api: String,
    },
    /// The text that marks this node's containers cannot be a label.
    #[error(
        "`{0}` cannot mark containers: 1 to 100 letters, digits, `-`, `_` and `.` are expected"
    )]
    Owner(String),
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}

/// The socket of an engine, and those of others that are there too.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub socket: PathBuf,
    pub others: Vec<PathBuf>,
}

/// Finds an engine's socket. A variable that names one wins; without one the first that exists.
pub(super) fn find(
    variable: impl Fn(&str) -> Option<OsString>,
    exists: impl Fn(&Path) -> bool,
) -> Result<Found, SetupError> {
    for name in ["DOCKER_HOST", "CONTAINER_HOST"] {
        let Some(value) = variable(name).filter(|value| !value.is_empty()) else { continue };
        let value = value.to_string_lossy().into_owned();
        return match value.strip_prefix("unix://") {
            Some(path) => Ok(Found { socket: PathBuf::from(path), others: Vec::new() }),
            None => Err(SetupError::NotLocal { variable: name, value }),
        };
    }
    let mut places =
        vec![PathBuf::from("/var/run/docker.sock"), PathBuf::from("/run/podman/podman.sock")];
    if let Some(folder) = variable("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty()) {
        places.push(Path::new(&folder).join("docker.sock"));
        places.push(Path::new(&folder).join("podman/podman.sock"));
    }
    let mut there = places.iter().filter(|place| exists(place)).cloned();
    match there.next() {
        Some(socket) => Ok(Found { socket, others: there.collect() }),
        None => Err(SetupError::NoEngine(places)),
    }
}

/// The reason why a socket takes no connection.
pub(super) fn why_not(socket: &Path, error: &io::Error) -> SetupError {
    if error.kind() == io::ErrorKind::PermissionDenied {
        let (owner, group) =
            socket.metadata().map_or((0, 0), |metadata| (metadata.uid(), metadata.gid()));
        let user = rustix::process::geteuid().as_raw();
        return SetupError::NoPermission { socket: socket.to_owned(), user, owner, group };
    }
    if error.kind() == io::ErrorKind::NotFound {
        return SetupError::NoEngine(vec![socket.to_owned()]);
    }
    let reason = format!("it takes no connection ({error}); is it started?");
    SetupError::NoAnswer { socket: socket.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)], sockets: &[&str]) -> Result<Found, SetupError> {
        let value = |name: &str| {
            let of = variables.iter().find(|(variable, _)| *variable == name);
            of.map(|(_, value)| OsString::from(value))
        };
        find(value, |path| sockets.iter().any(|socket| Path::new(socket) == path))
    }

    #[test]
    fn first_engine_in_the_documented_order_is_taken() {
        let both = ["/run/user/7/podman/podman.sock", "/run/podman/podman.sock"];
        let of = found(&[("XDG_RUNTIME_DIR", "/run/user/7")], &both).unwrap();
        assert_eq!(of.socket, Path::new("/run/podman/podman.sock"));
        assert_eq!(of.others, [Path::new("/run/user/7/podman/podman.sock")]);
        let of = found(&[("DOCKER_HOST", "unix:///a.sock")], &both).unwrap();
        assert_eq!((of.socket.as_path(), of.others.len()), (Path::new("/a.sock"), 0));
        let remote = found(&[("DOCKER_HOST", "tcp://10.0.0.1:2375")], &both).unwrap_err();
        assert!(remote.to_string().contains("`tcp://10.0.0.1:2375`"), "{remote}");
        let none = found(&[("XDG_RUNTIME_DIR", "/x")], &[]).unwrap_err().to_string();
        assert!(none.contains("/var/run/docker.sock") && none.contains("/x/docker.sock"), "{none}");
    }
}
