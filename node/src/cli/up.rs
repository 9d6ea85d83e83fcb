//! `shoal up`: this device's daemon, in the foreground.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::exit;
use std::time::Duration;

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::context::Context;
use super::error::{CliError, Exit};
use super::out;
use crate::embed::{BACK_IN, Node, StartError, event_loop};
use crate::publish::container::pair;
use crate::publish::uses;
use crate::telemetry;

/// Run this device's daemon in the foreground
///
/// The first one makes the cluster; `shoal invite` there prints the line with which another device
/// joins. What is given here is remembered in the state folder: started again, it needs no options.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    shoal up                                          # the first device\n  \
    shoal join shoal2:..@10.0.0.5:7700                # every other one\n  \
    shoal up --label zone=front --memory 512MiB       # with labels and a limit\n  \
    shoal up --resource camera=1 --resource gpu=2     # what workloads can reserve\n  \
    shoal up --allow 'device=/dev/ttyUSB*,path=/data' # containers may have these\n  \
    shoal up --state /tmp/n2 --listen 127.0.0.1:0 --http 127.0.0.1:0 --join \"$(shoal \
    invite)\"   # a second one here")]
pub struct Up {
    /// As `shoal join LINE`: the line that `shoal invite` prints on a node of the cluster; `-` or
    /// @FILE read it
    #[arg(long, value_name = "LINE")]
    pub(super) join: Option<String>,
    /// The name of this device [default: the host's name]
    #[arg(long)]
    name: Option<String>,
    /// Where other nodes connect; 0.0.0.0 follows the device's addresses, port 0 takes any free one
    /// [default: 0.0.0.0:7700]
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// Where clients of workloads connect [default: 0.0.0.0:8080]
    #[arg(long, value_name = "IP:PORT")]
    http: Option<SocketAddr>,
    /// Where others shall be told to reach this node; may be given several times [default: its
    /// interfaces]
    #[arg(long, value_name = "IP:PORT")]
    advertise: Vec<SocketAddr>,
    /// Do not look for members on the local network by mDNS
    #[arg(long, overrides_with = "mdns")]
    no_mdns: bool,
    /// Look for members on the local network, after --no-mdns had been given [default]
    #[arg(long)]
    mdns: bool,
    /// A label that workloads can require; may be given several times
    #[arg(long = "label", value_name = "K=V", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// Memory offered to workloads [default: three quarters of what there is]
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// CPU offered to workloads, in cores [default: all]
    #[arg(long, value_name = "CORES")]
    cpu: Option<String>,
    /// Disk offered to workloads [default: three quarters of the state folder's file system]
    #[arg(long, value_name = "SIZE")]
    disk: Option<String>,
    /// A resource that workloads can reserve here, and how many there are, as in camera=1, or
    /// `none`; may be given several times [default: none]
    #[arg(long = "resource", value_name = "NAME=N", value_parser = offered)]
    resources: Vec<Option<(String, u64)>>,
    /// The socket of the container engine, or `none` to run no containers [default: the one that is
    /// found]
    #[arg(long, value_name = "SOCKET")]
    engine: Option<String>,
    /// Rights of containers here beyond those of an ordinary one, or `none`: device=PATH,
    /// path=PATH, cap=NAME, security=OPTION, host-network, privileged (all of it); may be given
    /// several times [default: none]
    #[arg(long, value_name = "WHAT,..", value_delimiter = ',')]
    allow: Vec<String>,
    /// The group whose members may use the socket of this daemon, as its owner may, or `none`
    /// [default: none]
    #[arg(long, value_name = "NAME")]
    socket_group: Option<String>,
    /// A file with facts of this device that workloads may require, a line NAME=VALUE each, read
    /// again as it changes, or `none` [default: none]
    #[arg(long, value_name = "FILE")]
    facts_file: Option<PathBuf>,
    /// A command that prints such lines within 5 seconds, or `none`; it is split as a shell does
    /// [default: none]
    #[arg(long, value_name = "COMMAND")]
    facts_command: Option<String>,
    /// The pause between two runs of it, 10s at least [default: 30s]
    #[arg(long, value_name = "DURATION", requires = "facts_command")]
    facts_every: Option<String>,
}

/// What the device offers under a name; `none` for nothing.
fn offered(text: &str) -> Result<Option<(String, u64)>, String> {
    if text == "none" { Ok(None) } else { uses::amount(text).map(Some) }
}

/// Takes as many open files as the system allows: connections of strangers alone may be as many as
/// the usual 1,024, and a node without one left can neither answer nor write.
fn raise_file_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!("the limit of {current:?} open files stays: {error}");
    }
}

impl Up {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        context.refuse_remote("up")?;
        telemetry::log_to_stderr();
        raise_file_limit();
        let runtime = event_loop().map_err(|error| {
            CliError::failed(format!("the system gives no event loop: {error}"))
        })?;
        runtime.block_on(self.serve(context))
    }

    async fn serve(self, context: &Context) -> Result<(), CliError> {
        // Before the start, so that a signal during it ends the node in order, too.
        let mut signals = Signals::new()?;
        let mut builder = Node::builder()
            .state(&context.state)
            .operator_folder(&context.config)
            .socket(&context.socket)
            .advertise(self.advertise)
            .labels(self.labels);
        if let Some(line) = self.join {
            let line = super::join::invite(&line)?;
            if self.no_mdns && line.ends_with('@') {
                let why = "the invite has no address, and --no-mdns looks for none: nothing was \
                    started";
                return Err(CliError::usage(why).hint(
                    "Leave --no-mdns away, or put a member's address behind the `@` of the line.",
                ));
            }
            builder = builder.join(line);
        }
        if let Some(name) = self.name {
            builder = builder.name(name);
        }
        if self.mdns || self.no_mdns {
            builder = builder.mdns(self.mdns);
        }
        if let Some(address) = self.listen {
            builder = builder.listen(address);
        }
        if let Some(address) = self.http {
            builder = builder.http(address);
        }
        if let Some(memory) = self.memory {
            builder = builder.memory(memory);
        }
        if let Some(cpu) = self.cpu {
            builder = builder.cpu(cpu);
        }
        if let Some(disk) = self.disk {
            builder = builder.disk(disk);
        }
        if !self.resources.is_empty() {
            builder = builder.resources(self.resources.into_iter().flatten());
        }
        if let Some(engine) = self.engine {
            builder = builder.engine(engine);
        }
        if !self.allow.is_empty() {
            let all = self.allow.into_iter().filter(|it| !it.is_empty() && it != "none");
            builder = builder.allow(all);
        }
        if let Some(group) = &self.socket_group {
            builder = builder.socket_group(Some(group.as_str()).filter(|it| *it != "none"));
        }
        if let Some(file) = &self.facts_file {
            let file = Some(file.as_path()).filter(|it| *it != Path::new("none"));
            builder = builder.facts_file(file);
        }
        if let Some(text) = &self.facts_command {
            let words = match text.as_str() {
                "none" => Vec::new(),
                text => shlex::split(text).ok_or_else(|| {
                    CliError::usage(format!("--facts-command: `{text}` has a quote without end"))
                })?,
            };
            builder = builder.facts_command(words, self.facts_every);
        }
        let node = tokio::select! {
            started = builder.start() => started.map_err(refused)?,
            () = signals.next() => return Ok(()),
        };
        announce(&node)?;
        let (back_in, ended) = tokio::select! {
            () = signals.next() => (BACK_IN, Ok(())),
            // The user did not say when the node is back, so its replicas move at once.
            () = node.asked_to_stop() => (Duration::ZERO, Ok(())),
            why = node.failed() => (BACK_IN, Err(CliError::failed(why))),
        };
        tokio::select! {
            () = node.stop_for(back_in) => ended,
            () = signals.next() => exit(130),
        }
    }
}

/// Prints the lines that scripts wait for.
fn announce(node: &Node) -> Result<(), CliError> {
    let up = format!(
        "shoal: node {} ({}) is up, api {}, mesh {}, http {}",
        node.name(),
        node.id().short(),
        node.socket().display(),
        node.mesh(),
        node.http()
    );
    out::say(&up)?;
    if !node.founded() {
        return Ok(());
    }
    out::say("this is a new cluster; `shoal invite` prints a line with which a device joins")
}

fn refused(error: StartError) -> CliError {
    let exit = if error.is_usage() { Exit::Usage } else { Exit::Failed };
    CliError { exit, message: error.to_string(), hint: error.hint() }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Signals, CliError> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| CliError::failed(format!("signals cannot be taken: {error}")))
        };
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
