//! Options of all verbs: which daemon, whose key, which form of output.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::client::Client;
use super::error::CliError;
use super::out;
use crate::config;
use crate::publish::Operator;

/// The name of the API's socket in the state folder.
pub const SOCKET_FILE: &str = "api.sock";

/// Options that every verb takes.
#[derive(Args)]
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
    /// How to print.
    pub form: Form,
    /// No progress, no notes.
    pub quiet: bool,
}

impl Context {
    /// Fills in defaults from the environment.
    pub fn new(global: Global) -> Result<Context, CliError> {
        let state = global.state.unwrap_or_else(config::default_state);
        let socket = global.socket.unwrap_or_else(|| state.join(SOCKET_FILE));
        let config = global.config.unwrap_or_else(config::default_operator);
        Ok(Context { state, socket, config, form: global.output, quiet: global.quiet })
    }

    /// A client of the daemon.
    pub fn client(&self) -> Client {
        Client::new(self.socket.clone())
    }

    /// The key to sign with.
    pub fn operator(&self) -> Result<Operator, CliError> {
        Ok(Operator::load(&self.config)?)
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
