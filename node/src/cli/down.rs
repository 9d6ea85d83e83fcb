//! `shoal down`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};

use super::context::Context;
use super::error::{CliError, Exit};
use crate::api::ApiError;
use crate::api::form::DownBody;
use crate::manifest::quantity;
use crate::store::{LockHolder, lock_holder};

/// Pause between two checks of a daemon that is ending.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Time for a process to end after its folder is free. One that runs longer embeds the node, and
/// goes on without it.
const OUTLIVES: Duration = Duration::from_secs(2);

/// Stop this device's daemon: it tells the others, ends its guests and leaves nothing half done
///
/// Returns when its process has ended: its folder is free then, to be moved or to be started on
/// again. A service manager that starts the daemon anew must be told to stop it, too.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  shoal down\n  shoal down && shoal up       # a restart\n  shoal \
        down --no-wait\n\n\
    Its replicas move to other nodes at once, and its containers end. To restart it for an update, \
    send it SIGTERM,\n\
    as a service manager does: its containers go on, and its replicas stay if it is back within \
    ten seconds.\n\
    Exit codes: 0 it has ended, 5 it still runs after --timeout, 6 no daemon answers and none \
    holds the folder."
)]
pub struct Down {
    /// Return as soon as the daemon has taken the request
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for its end
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = quantity::duration)]
    timeout: Duration,
}

impl Down {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        if let Some(remote) = &context.remote {
            if remote.is_habit {
                let via = remote.addresses.join(", ");
                let why = format!("a node elsewhere would be stopped ({via}); nothing was done");
                return Err(CliError::usage(why).hint(
                    "Say so with --via ADDR or --context NAME; the daemon of this device is meant \
                        with --state or --socket.",
                ));
            }
            let _: DownBody = context.client().post("/v1/down", &serde_json::json!({})).await?;
            context.note("stopping");
            return Ok(());
        }
        if self.no_wait {
            ask(context).await?;
            context.note("stopping");
            return Ok(());
        }
        let deadline = Instant::now() + self.timeout;
        let ending = begin(context, deadline).await?;
        context.note("stopping");
        context.note(&ending.wait(deadline, self.timeout).await?.message(&ending));
        Ok(())
    }
}

/// A daemon that is stopping.
struct Ending {
    state: PathBuf,
    socket: PathBuf,
    process: Option<Process>,
}

/// A process by its handle, which cannot be confused with a later process of the same number.
struct Process {
    pid: u32,
    handle: OwnedFd,
}

/// How the daemon ended.
#[derive(PartialEq, Eq, Debug)]
enum End {
    Ended,
    /// The node has stopped, and the program that embeds it goes on.
    NodeOnly,
}

impl End {
    fn message(&self, ending: &Ending) -> String {
        let pid = ending.process.as_ref().map(|process| process.pid);
        match (self, lock_holder(&ending.state), pid) {
            (End::NodeOnly, _, Some(pid)) => {
                format!("stopped; process {pid}, whose node it was, goes on")
            }
            (End::Ended, Some(LockHolder { pid: Some(new) }), Some(old)) if new != old => {
                format!(
                    "stopped; process {new} was started on the folder again, as a service manager \
                        does: stop it there"
                )
            }
            _ => "stopped".to_owned(),
        }
    }
}

/// Tells the daemon to stop. A daemon that holds the folder and does not answer is starting or
/// ending already; it is asked again.
async fn begin(context: &Context, deadline: Instant) -> Result<Ending, CliError> {
    loop {
        let unanswered = match ask(context).await {
            Ok(ending) => return Ok(ending),
            Err(error) => CliError::from(error),
        };
        let Some(LockHolder { pid }) =
            lock_holder(&context.state).filter(|_| unanswered.exit == Exit::NoDaemon)
        else {
            return Err(unanswered);
        };
        let process = pid.and_then(Process::of);
        let ending =
            Ending { state: context.state.clone(), socket: context.socket.clone(), process };
        if Instant::now() >= deadline || ending.has_left() {
            return Ok(ending);
        }
        sleep(LOOK_AGAIN).await;
    }
}

async fn ask(context: &Context) -> Result<Ending, ApiError> {
    // Before the request, while the daemon still has this number. The request reports any error.
    let stream = UnixStream::connect(&context.socket).await.ok();
    let pid = stream
        .as_ref()
        .and_then(|stream| stream.peer_cred().ok()?.pid())
        .and_then(|pid| u32::try_from(pid).ok());
    let process = pid.and_then(Process::of);
    drop(stream);
    let DownBody { state, .. } = context.client().post("/v1/down", &serde_json::json!({})).await?;
    Ok(Ending { state, socket: context.socket.clone(), process })
}

impl Process {
    fn of(pid: u32) -> Option<Process> {
        let number = Pid::from_raw(pid.cast_signed())?;
        let handle = pidfd_open(number, PidfdFlags::empty()).ok()?;
        Some(Process { pid, handle })
    }

    /// Whether the process has ended. A zombie counts, since it holds nothing.
    fn has_ended(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&self.handle, PollFlags::IN)], Some(&now))
            .is_ok_and(|ready| ready > 0)
    }
}

impl Ending {
    async fn wait(&self, deadline: Instant, timeout: Duration) -> Result<End, CliError> {
        let mut left_at: Option<Instant> = None;
        loop {
            if self.process.as_ref().is_some_and(Process::has_ended) {
                return Ok(End::Ended);
            }
            if self.has_left() {
                let outlived = left_at.get_or_insert_with(Instant::now).elapsed();
                match self.process {
                    None => return Ok(End::Ended),
                    Some(_) if outlived >= OUTLIVES => return Ok(End::NodeOnly),
                    Some(_) => {}
                }
            } else if Instant::now() >= deadline {
                return Err(self.late(timeout));
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Whether the folder is free and nothing listens on the socket.
    fn has_left(&self) -> bool {
        lock_holder(&self.state).is_none() && !listens(&self.socket)
    }

    fn late(&self, timeout: Duration) -> CliError {
        let process = self.process.as_ref().map(|process| process.pid);
        let which = process.map(|pid| format!(" (process {pid})")).unwrap_or_default();
        let message = format!(
            "the daemon{which} was told to stop and still holds {} after {:?}",
            self.state.display(),
            timeout
        );
        let kill = process
            .map(|pid| format!("; `kill -9 {pid}` ends it at once, as a crash would"))
            .unwrap_or_default();
        CliError::new(Exit::Unhealthy, message)
            .hint(format!("`shoal down` waits for it again{kill}."))
    }
}

fn listens(socket: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(socket).is_ok()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;
    use crate::cli::context::{Form, SOCKET_FILE};
    use crate::cli::keys::Keys;
    use crate::store::Lock;

    fn context(state: &Path) -> Context {
        let (socket, config) = (state.join(SOCKET_FILE), state.join("operator"));
        let keys = Keys::new(config.clone(), None, None);
        let (state, form, quiet) = (state.to_owned(), Form::Table, true);
        Context { state, socket, config, keys, via: None, remote: None, form, quiet }
    }

    /// Answers one request to stop as a daemon on `state` would, in this very process, and closes
    /// its socket.
    async fn answer_down(state: &Path) {
        let socket = state.join(SOCKET_FILE);
        let listener = UnixListener::bind(&socket).unwrap();
        let body =
            serde_json::to_string(&DownBody { stopping: true, state: state.to_owned() }).unwrap();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            // The first connection only asks the kernel for the peer's process.
            if stream.read(&mut request).await.unwrap() > 0 {
                let head = format!(
                    "HTTP/1.1 202 Accepted\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(head.as_bytes()).await.unwrap();
                break;
            }
        }
        drop(listener);
        std::fs::remove_file(socket).unwrap();
    }

    fn down(timeout: Duration) -> Down {
        Down { no_wait: false, timeout }
    }

    /// The daemon takes the request and keeps its folder: after the time-out the error names its
    /// process and how to kill it.
    #[tokio::test]
    async fn daemon_that_does_not_end_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().to_owned();
        let _lock = Lock::take(&state).unwrap();
        let context = context(&state);
        let (ended, ()) =
            tokio::join!(down(Duration::from_millis(200)).run(&context), answer_down(&state));
        let error = ended.unwrap_err();
        assert_eq!(error.exit, Exit::Unhealthy);
        let me = std::process::id();
        assert!(error.message.contains(&format!("(process {me})")), "{}", error.message);
        assert!(error.hint.unwrap().contains(&format!("kill -9 {me}")));
        // The same for a caller that finds the daemon ending already.
        let error = down(Duration::from_millis(50)).run(&context).await.unwrap_err();
        assert_eq!(error.exit, Exit::Unhealthy);
    }

    /// The process of an embedded node goes on: its folder is what can be waited for.
    #[tokio::test]
    async fn embedded_node_has_stopped_when_folder_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().to_owned();
        let lock = Lock::take(&state).unwrap();
        let context = context(&state);
        let stop = async {
            answer_down(&state).await;
            drop(lock);
        };
        let (ended, ()) = tokio::join!(
            async {
                let deadline = Instant::now() + Duration::from_secs(60);
                let ending = begin(&context, deadline).await.unwrap();
                ending.wait(deadline, Duration::from_secs(60)).await
            },
            stop
        );
        assert_eq!(ended, Ok(End::NodeOnly));
    }

    /// Neither an empty folder nor the files of an earlier daemon count as a daemon.
    #[tokio::test]
    async fn down_without_a_daemon_fails() {
        let folder = tempfile::tempdir().unwrap();
        let error = down(Duration::from_secs(60)).run(&context(folder.path())).await.unwrap_err();
        assert_eq!(error.exit, Exit::NoDaemon);
        drop(Lock::take(folder.path()).unwrap());
        let error = down(Duration::from_secs(60)).run(&context(folder.path())).await.unwrap_err();
        assert_eq!(error.exit, Exit::NoDaemon, "what an earlier daemon left is no daemon");
    }
}
