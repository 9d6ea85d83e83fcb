//! Sessions with a replica, as commands open them.

use std::fmt::Display;
use std::io::Read;

use shoal_protocol::model::access::Action;
use shoal_protocol::model::{NamedReplica, ReplicaName};
use tokio::sync::mpsc;

use super::client::{Client, path_of};
use super::error::{CliError, Exit};
use super::target::meant;
use crate::api::ApiError;
use crate::publish::Operator;
use crate::session::{Failed, Frames, OpenError};

/// Bytes that are read from standard input at a time.
const READ: usize = 16 * 1024;
/// Pieces of standard input that wait to be sent.
const WAITING: usize = 8;

/// Opens a session with a replica, wherever it runs.
pub async fn open(
    client: &Client,
    operator: &Operator,
    replica: &NamedReplica,
    action: Action,
) -> Result<Frames, CliError> {
    let meant = meant(client, replica).await?;
    open_at(client, operator, &path(replica), &meant, replica, action).await
}

/// The path of the API at which a session with a replica begins.
pub fn path(replica: &NamedReplica) -> String {
    format!("{}/{}", path_of("session", &replica.workload), replica.place)
}

/// Opens a session at a path of the API. `what` it is with, for people.
pub async fn open_at(
    client: &Client,
    operator: &Operator,
    path: &str,
    meant: &ReplicaName,
    what: &(dyn Display + Sync),
    action: Action,
) -> Result<Frames, CliError> {
    let bytes = client.upgrade(path).await?;
    let opened = crate::session::open(bytes, operator, meant, action).await;
    opened.map_err(|error| not_opened(what, error))
}

/// The error of a session that did not begin.
pub fn not_opened(what: &(dyn Display + Sync), error: OpenError) -> CliError {
    match error {
        OpenError::Refused(error) => refused(what, error),
        error => CliError::failed(format!("{what}: {error}; nothing was changed")),
    }
}

/// The error of a session that failed while it went on.
pub fn failed(what: &(dyn Display + Sync), failed: Failed) -> CliError {
    refused(what, failed.into())
}

fn refused(what: &(dyn Display + Sync), error: ApiError) -> CliError {
    let message = format!("{what}: {}", error.message);
    let exit = match error.code.as_str() {
        "not-allowed" => Exit::Refused,
        "unsupported" | "invalid" => Exit::Usage,
        _ => CliError::from(error.clone()).exit,
    };
    CliError { exit, message, hint: error.hint }
}

/// The error of a session whose way broke.
pub fn lost(what: &(dyn Display + Sync), error: &std::io::Error) -> CliError {
    CliError::failed(format!("the session with {what} broke: {error}"))
        .hint("Its node or the link to it may be down: `shoal ps` shows where it runs now.")
}

/// Standard input, piece by piece, as it comes. A thread of its own that ends with the process: a
/// read from a terminal cannot be cancelled, and must not hold up the end of the command.
pub fn standard_input() -> mpsc::Receiver<Vec<u8>> {
    let (pieces, input) = mpsc::channel(WAITING);
    std::thread::spawn(move || {
        let mut buffer = vec![0; READ];
        let mut stdin = std::io::stdin().lock();
        while let Ok(length) = stdin.read(&mut buffer) {
            let ended = length == 0;
            if ended || pieces.blocking_send(buffer[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    input
}
