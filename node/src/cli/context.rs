//! Options of all verbs: which daemon, whose key, which form of output.

use std::path::PathBuf;

use clap::Args;

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
    /// How to print: `table` for people, `wide` with more columns, `json` for programs [default:
    /// table]
    #[arg(short, long, global = true, value_name = "FORM", help_heading = "Output")]
    pub output: Option<String>,
    /// No progress, no notes
    #[arg(short, long, global = true, help_heading = "Output")]
    pub quiet: bool,
}

fn form(text: &str) -> Result<Form, CliError> {
    match text {
        "table" => Ok(Form::Table),
        "wide" => Ok(Form::Wide),
        "json" => Ok(Form::Json),
        _ => Err(CliError::usage(format!("--output {text}: it is `table`, `wide` or `json`"))),
    }
}

/// How to print.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
    /// The file of a verb whose `-o` names one, as in `volume backup`.
    pub file: Option<String>,
    /// No progress, no notes.
    pub quiet: bool,
}

impl Context {
    /// Fills in defaults from the environment. `writes_file`: `-o` names a file, not a form.
    pub fn new(global: Global, writes_file: bool) -> Result<Context, CliError> {
        let state = global.state.unwrap_or_else(config::default_state);
        let socket = global.socket.unwrap_or_else(|| state.join(SOCKET_FILE));
        let config = global.config.unwrap_or_else(config::default_operator);
        let (form, file) = match global.output {
            file if writes_file => (Form::Table, file),
            None => (Form::Table, None),
            Some(text) => (form(&text)?, None),
        };
        Ok(Context { state, socket, config, form, file, quiet: global.quiet })
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
