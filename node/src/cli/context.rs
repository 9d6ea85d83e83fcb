//! Options of all verbs: which daemon, whose key, which form of output.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::client::Client;
use super::error::CliError;
use super::keys::Keys;
use super::via::{self, Via};
use super::{contexts, out};
use crate::config;
use crate::publish::Operator;

/// The name of the API's socket in the state folder.
pub const SOCKET_FILE: &str = "api.sock";

/// Options that every verb takes.
#[derive(Clone, Args)]
pub struct Global {
    /// The daemon's state folder [default: /var/lib/shoal for root, else ~/.local/state/shoal]
    #[arg(
        long,
        global = true,
        env = "SHOAL_STATE",
        value_name = "DIR",
        hide_env_values = true,
        help_heading = "Which daemon, whose key"
    )]
    pub state: Option<PathBuf>,
    /// The daemon's socket [default: api.sock in the state folder]
    #[arg(
        long,
        global = true,
        env = "SHOAL_SOCKET",
        value_name = "PATH",
        hide_env_values = true,
        help_heading = "Which daemon, whose key"
    )]
    pub socket: Option<PathBuf>,
    /// The folder with the operator's key [default: ~/.config/shoal]
    #[arg(
        long,
        global = true,
        env = "SHOAL_CONFIG",
        value_name = "DIR",
        hide_env_values = true,
        help_heading = "Which daemon, whose key"
    )]
    pub config: Option<PathBuf>,
    /// Ask the node at this address of its mesh, HOST:PORT, over the mesh's encryption and with the
    /// operator's key and role; several, separated by commas, are tried in turn
    #[arg(
        long,
        global = true,
        env = "SHOAL_VIA",
        value_name = "ADDR,..",
        hide_env_values = true,
        help_heading = "Which daemon, whose key"
    )]
    pub via: Option<String>,
    /// The addresses and the key that `shoal context add` noted under this name
    #[arg(
        long,
        global = true,
        env = "SHOAL_CONTEXT",
        value_name = "NAME",
        hide_env_values = true,
        help_heading = "Which daemon, whose key"
    )]
    pub context: Option<String>,
    /// Sign with the key in this file: an operator's, or root.json
    #[arg(long, global = true, value_name = "FILE", help_heading = "Which daemon, whose key")]
    pub key: Option<PathBuf>,
    /// A file with the passphrase of that key; without one it is asked for on the terminal
    #[arg(
        long,
        global = true,
        env = "SHOAL_PASSPHRASE_FILE",
        value_name = "FILE",
        hide_env_values = true,
        help_heading = "Which daemon, whose key"
    )]
    pub passphrase_file: Option<PathBuf>,
    /// How to print: for people, for people with more columns, or as the API's JSON
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value = "table",
        value_name = "FORM",
        help_heading = "Output"
    )]
    pub output: Form,
    /// No progress, no notes
    #[arg(short, long, global = true, help_heading = "Output")]
    pub quiet: bool,
}

/// How to print.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Form {
    /// For people.
    Table,
    /// For people who want to know more.
    Wide,
    /// For programs.
    Json,
}

/// The options of all verbs, with defaults filled in.
pub struct Context {
    /// The state folder.
    pub state: PathBuf,
    /// The API's socket.
    pub socket: PathBuf,
    /// The operator's folder.
    pub config: PathBuf,
    /// The operator's key.
    pub keys: Keys,
    /// The way to a node elsewhere, if that is to be asked.
    pub via: Option<Arc<Via>>,
    /// The addresses of that node, and who said so.
    pub remote: Option<Remote>,
    /// How to print.
    pub form: Form,
    /// No progress, no notes.
    pub quiet: bool,
}

/// A node elsewhere that is to be asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remote {
    /// Its addresses, tried in turn.
    pub addresses: Vec<String>,
    /// The context that names them.
    pub context: Option<String>,
    /// Whether only `shoal context use` says so, and nothing of this command.
    pub is_habit: bool,
}

impl Context {
    /// Fills in defaults from the environment. `follows`: the verb asks the current context.
    pub fn new(global: Global, follows: bool) -> Result<Context, CliError> {
        let is_local = global.socket.is_some() || global.state.is_some();
        let state = global.state.unwrap_or_else(config::default_state);
        let socket = global.socket.unwrap_or_else(|| state.join(SOCKET_FILE));
        let config = global.config.unwrap_or_else(config::default_operator);
        let follows = follows && !is_local;
        let habit = match follows && global.context.is_none() && global.via.is_none() {
            true => contexts::current(&config)?,
            false => None,
        };
        let is_habit = habit.is_some();
        let named = global.context.or(habit);
        let noted = named.as_deref().map(|name| contexts::load(&config, name)).transpose()?;
        let given = global.via.as_deref().map(via::addresses).transpose()?;
        let addresses = given.or_else(|| noted.as_ref().map(|it| it.addresses.clone()));
        let folder = noted.map_or_else(|| config.clone(), |it| it.folder);
        let keys = Keys::new(folder, global.key, global.passphrase_file);
        let remote = addresses.map(|addresses| Remote { addresses, context: named, is_habit });
        let via = remote.as_ref().map(|it| Arc::new(Via::new(it.addresses.clone(), keys.clone())));
        let (form, quiet) = (global.output, global.quiet);
        Ok(Context { state, socket, config, keys, via, remote, form, quiet })
    }

    /// A client of the daemon.
    pub fn client(&self) -> Client {
        match &self.via {
            Some(via) => Client::via(via.clone()),
            None => Client::new(self.socket.clone()),
        }
    }

    /// The key to sign with.
    pub fn operator(&self) -> Result<Operator, CliError> {
        Ok(self.keys.operator()?)
    }

    /// Refuses a verb that is about this device alone when another node was named.
    pub fn refuse_remote(&self, verb: &str) -> Result<(), CliError> {
        match self.remote.as_ref().filter(|it| !it.is_habit) {
            None => Ok(()),
            Some(_) => Err(CliError::usage(format!(
                "`shoal {verb}` is about the daemon of this device: it takes no --via and no \
                    --context (nor SHOAL_VIA and SHOAL_CONTEXT)"
            ))),
        }
    }

    /// Whether to print as JSON.
    pub fn json(&self) -> bool {
        self.form == Form::Json
    }

    /// Prints a note on standard error, unless quiet: scripts do not need it.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            out::complain(text);
        }
    }
}
