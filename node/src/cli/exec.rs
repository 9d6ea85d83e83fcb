//! `shoal exec` and `shoal attach`.

use std::io::{self, Write};

use clap::Args;
use shoal_protocol::model::access::{Action, Exec as Command};
use shoal_protocol::model::view::WorkloadView;
use shoal_protocol::model::{Label, NamedReplica};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::client::path_of;
use super::context::Context;
use super::error::{CliError, Exit};
use super::logs::has_container;
use super::target::Target;
use super::{detach, out, session, terminal};
use crate::session::{Frame, Frames, Receiver};

/// Run a command in a replica, wherever it runs
#[derive(Args)]
#[command(
    after_help = "Examples:\n  shoal exec web/0 ls -l /data\n  shoal exec -it web sh          # \
        a shell in a replica that runs\n  shoal exec -i db/0 psql < dump.sql\n\n\
        The exit code is the command's. Options stand before NAME: what follows belongs to the \
        command.\nIt takes the operator's key, and works for containers; a component has nothing \
        to run."
)]
pub struct Exec {
    /// The command reads standard input
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// A variable for the command; NAME alone takes its value from here
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// The user that runs it, by number or by a name of the image
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Its working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// The container of a group that it runs in [default: the main one]
    #[arg(short, long, value_name = "CONTAINER")]
    container: Option<Label>,
    /// NAME for a replica that runs, or NAME/NUMBER for that one
    #[arg(value_name = "NAME[/NUMBER]")]
    target: Target,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Show what a replica writes from now on, and write to its standard input
///
/// It has an open standard input if it was run with `-i`, or `stdin: true` in its manifest, and a
/// terminal with `-t`.
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal attach web/0     # Ctrl-C leaves it running\n  \
        shoal run -it --name shell alpine && shoal attach shell   # Ctrl-P Ctrl-Q leaves it\n\n\
        Without a terminal Ctrl-C leaves it running; with one every key goes to the program, and \
        Ctrl-P\nCtrl-Q leaves it. For whole lines, earlier ones, and all replicas: shoal logs -f. \
        It takes the\noperator's key.")]
pub struct Attach {
    /// Only show what it writes
    #[arg(long)]
    no_stdin: bool,
    /// NAME for a replica that runs, or NAME/NUMBER for that one
    #[arg(value_name = "NAME[/NUMBER]")]
    target: Target,
}

impl Exec {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        if self.tty && !terminal::is_there() {
            return Err(CliError::usage("-t needs a terminal, and this is none")
                .hint("Leave -t away in scripts and pipes; -i alone passes standard input on."));
        }
        let env = self.env.into_iter().map(variable).collect::<Result<_, _>>()?;
        let command = Command {
            command: self.command,
            env,
            user: self.user,
            workdir: self.workdir,
            input: self.interactive,
            terminal: self.tty.then(terminal::size),
        };
        let (client, operator) = (context.client(), context.operator()?);
        let replica = self.target.replica(&client).await?;
        let action = match self.container {
            None => Action::Exec(command),
            Some(container) => {
                let path = path_of("workloads", &replica.workload);
                has_container(&client.get(&path).await?, &container)?;
                Action::ExecIn { container: container.to_string(), exec: command }
            }
        };
        let frames = session::open(&client, &operator, &replica, action).await?;
        let raw = match self.tty && self.interactive {
            true => Some(terminal::Raw::enter().map_err(|error| {
                CliError::failed(format!("the terminal cannot be set up: {error}"))
            })?),
            false => None,
        };
        let input = self.interactive.then(session::standard_input);
        let ended = converse(frames, input, self.tty, &replica).await;
        drop(raw);
        ended
    }
}

impl Attach {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let (client, operator) = (context.client(), context.operator()?);
        let replica = self.target.replica(&client).await?;
        let view: WorkloadView = client.get(&path_of("workloads", &replica.workload)).await?;
        let has = |option: &str| view.options.contains_key(option);
        let takes_input = has("stdin") && !self.no_stdin;
        let action = match takes_input {
            true => Action::Interact { terminal: terminal::size() },
            false => Action::Attach,
        };
        let frames = session::open(&client, &operator, &replica, action).await?;
        let is_raw = takes_input && has("tty") && terminal::is_there();
        let leave = if is_raw { "Ctrl-P Ctrl-Q" } else { "Ctrl-C" };
        context.note(&format!("attached to {replica}; {leave} leaves it running"));
        if !takes_input {
            return tokio::select! {
                ended = converse(frames, None, false, &replica) => ended,
                () = out::reader_gone() => Ok(()),
            };
        }
        let raw = match is_raw {
            true => Some(terminal::Raw::enter().map_err(|error| {
                CliError::failed(format!("the terminal cannot be set up: {error}"))
            })?),
            false => None,
        };
        let (keys, mut input) = detach::watched(session::standard_input(), is_raw);
        let ended = tokio::select! {
            ended = converse(frames, Some(keys), is_raw, &replica) => ended,
            () = detach::asked(&mut input) => Ok(()),
            () = out::reader_gone(), if !is_raw => Ok(()),
        };
        drop(raw);
        ended
    }
}

/// `NAME=VALUE`, or a name whose value is this process's own.
fn variable(text: String) -> Result<String, CliError> {
    if text.contains('=') {
        return Ok(text);
    }
    match std::env::var(&text) {
        Ok(value) => Ok(format!("{text}={value}")),
        Err(_) => Err(CliError::usage(format!("--env {text}: it has no value here"))
            .hint(format!("Give it one: --env {text}=VALUE."))),
    }
}

/// Carries input, output and the terminal's size until the session ends.
async fn converse(
    frames: Frames,
    input: Option<mpsc::Receiver<Vec<u8>>>,
    has_terminal: bool,
    replica: &NamedReplica,
) -> Result<(), CliError> {
    let Frames { mut receiver, mut sender } = frames;
    let mut resized = signal(SignalKind::window_change())
        .map_err(|error| CliError::failed(format!("the system takes no signals: {error}")))?;
    let inward = async {
        let mut input = input;
        loop {
            let frames: Vec<Frame> = tokio::select! {
                piece = next(&mut input) => match piece {
                    Some(piece) => Frame::data(&piece).collect(),
                    None => {
                        input = None;
                        vec![Frame::End]
                    }
                },
                Some(()) = resized.recv(), if has_terminal => {
                    let (columns, rows) = terminal::size();
                    vec![Frame::Resize { columns, rows }]
                }
            };
            // That the session has ended is told by the other direction.
            if sender.send(frames).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        biased;
        ended = output(&mut receiver, replica) => ended,
        () = inward => Ok(()),
    }
}

async fn next(input: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    match input {
        Some(input) => input.recv().await,
        None => std::future::pending().await,
    }
}

/// Prints output until the command has ended, and gives its exit code.
async fn output(receiver: &mut Receiver, replica: &NamedReplica) -> Result<(), CliError> {
    loop {
        let frame = receiver.next_of_node().await;
        match frame.map_err(|error| session::lost(replica, &error))? {
            Frame::Data(bytes) => write(io::stdout().lock(), &bytes.0)?,
            Frame::ErrorData(bytes) => write(io::stderr().lock(), &bytes.0)?,
            Frame::Failed(failed) => return Err(session::failed(replica, failed)),
            Frame::Exit(Some(0)) => return Ok(()),
            Frame::Exit(Some(code)) => {
                let code = u8::try_from(code).unwrap_or(1);
                return Err(CliError::new(Exit::Program(code), ""));
            }
            Frame::Exit(None) => {
                let why = format!("{replica}: how the program ended is not known here");
                return Err(CliError::failed(why).hint("`shoal ps` and `shoal logs` may say it."));
            }
            _ => {}
        }
    }
}

fn write(mut to: impl Write, bytes: &[u8]) -> Result<(), CliError> {
    match to.write_all(bytes).and_then(|()| to.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            Err(CliError::new(Exit::Done, ""))
        }
        other => other.map_err(|error| CliError::failed(format!("output: {error}"))),
    }
}
