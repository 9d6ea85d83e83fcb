//! The errors of a socket at which no daemon answers.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use http::StatusCode;

use super::error::NO_DAEMON;
use crate::api::ApiError;
use crate::groups;

/// Nobody answers at `path`, or not to this user.
pub fn no_daemon(path: &Path, error: &io::Error) -> ApiError {
    let socket = path.display();
    let (message, hint) = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => (
            format!("no daemon answers at {socket}"),
            "Start one with `shoal up`, or name another with --state, --socket, SHOAL_STATE \
                or SHOAL_SOCKET.",
        ),
        io::ErrorKind::PermissionDenied => return not_allowed(path),
        _ => (format!("no daemon answers at {socket}: {error}"), "Is --socket right?"),
    };
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, NO_DAEMON, message).hint(hint)
}

/// The error of a socket that is there for others: whom, and how one becomes one of them.
fn not_allowed(path: &Path) -> ApiError {
    let socket = path.display();
    let folder = path.parent().unwrap_or(path);
    // Where the folder lets nobody through, it says who may pass.
    let found = std::fs::metadata(path).or_else(|_| std::fs::metadata(folder));
    let group = found.ok().filter(|it| it.mode() & 0o010 != 0 || it.mode() & 0o060 == 0o060);
    let (whom, hint) = match group.map(|it| groups::name_of(it.gid())) {
        Some(group) => (
            format!("its owner and the group `{group}`"),
            format!(
                "`sudo usermod -aG {group} $USER` makes you one of them, once you have logged in \
                    again; or call shoal as its owner, or over the mesh with a key: --via ADDR."
            ),
        ),
        None => (
            "its owner alone".to_owned(),
            "Call shoal as the user whose daemon it is, or let a group in: `shoal up \
                --socket-group NAME`; or ask over the mesh with a key: --via ADDR."
                .to_owned(),
        ),
    };
    let message = format!("{socket} is for {whom}: permission denied");
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, NO_DAEMON, message).hint(hint)
}
