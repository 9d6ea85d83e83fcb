//! `shoal context`: the clusters that are operated from here, each with addresses and a key.
//!
//! A context is a folder, `contexts/NAME` in the config folder: `context.json`, and the operator's
//! own `operator.json` and installation id. The name of the current one is in the file `context`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use shoal_protocol::model::Label;

use super::context::Context;
use super::error::CliError;
use super::{out, render, via};
use crate::nearest::nearest;
use crate::publish::{FileError, KeyFile, OPERATOR_FILE, OperatorError, files};

/// The folder of the contexts in the config folder.
const FOLDER: &str = "contexts";
/// A context's addresses, in its folder.
const FILE: &str = "context.json";
/// The name of the current context, in the config folder.
const CURRENT: &str = "context";
const FORMAT: u32 = 1;

/// Note clusters that are operated from here: where a node answers, and with which key
#[derive(Args)]
#[command(
    after_help = "Examples:\n  shoal context add shop --via gate.example,10.0.0.7:7700 --operator \
    ann.json\n  shoal context use shop       # from now on every verb asks there\n  shoal context \
    ls\n  shoal --context shop ps      # this one time\n  shoal context use --none     # the \
    daemon of this device again\n  shoal context rm shop"
)]
pub struct Contexts {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Add(Add),
    Use(Use),
    Ls(Ls),
    Rm(Rm),
}

/// Note a cluster under a name; the key is copied, readable by you alone
#[derive(Args)]
#[command(after_help = "Example:\n  shoal context add shop --via gate.example:7700 --operator \
    ann.json")]
struct Add {
    /// The name: letters, digits and `-`
    name: Label,
    /// The file that `shoal operator add` printed [default: the key of the config folder]
    #[arg(long, value_name = "FILE")]
    operator: Option<PathBuf>,
    /// Replace the context of this name
    #[arg(long)]
    replace: bool,
}

/// Ask there from now on
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal context use shop\n  shoal context use --none")]
struct Use {
    /// The context
    #[arg(required_unless_present = "none")]
    name: Option<String>,
    /// None: the daemon of this device
    #[arg(long, conflicts_with = "name")]
    none: bool,
}

/// List the contexts
#[derive(Args)]
#[command(after_help = "Example:\n  shoal context ls")]
struct Ls {}

/// Forget a context, and delete its copy of the key
#[derive(Args)]
#[command(after_help = "Example:\n  shoal context rm shop")]
struct Rm {
    /// The context
    name: String,
}

/// The file `context.json` of a context.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    format: u32,
    via: Vec<String>,
}

/// A context that was noted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Noted {
    /// The addresses, tried in turn.
    pub addresses: Vec<String>,
    /// The folder with its key.
    pub folder: PathBuf,
}

/// A context, for `ls`.
#[derive(Serialize)]
struct Shown {
    name: String,
    current: bool,
    via: Vec<String>,
    operator: Option<String>,
    cluster: Option<String>,
    trouble: Option<String>,
}

/// The context of this name.
pub fn load(config: &Path, name: &str) -> Result<Noted, CliError> {
    let folder = folder_of(config, name)?;
    let file = folder.join(FILE);
    let Some(text) = files::read(&file).map_err(of_file)? else {
        let all = names(config)?;
        let near = nearest(name, all.iter().map(String::as_str));
        let hint = near.map_or_else(
            || "`shoal context ls` lists them; `shoal context add` makes one.".to_owned(),
            |near| format!("Did you mean `{near}`?"),
        );
        return Err(CliError::not_found(format!("there is no context `{name}`")).hint(hint));
    };
    let form: Form = serde_json::from_str(&text).map_err(|error| {
        CliError::usage(format!("{} was cut short or altered: {error}", file.display()))
            .hint(format!("`shoal context add {name} --replace ..` writes it again."))
    })?;
    let addresses = via::addresses(&form.via.join(","))?;
    Ok(Noted { addresses, folder })
}

/// The name of the current context, if there is one.
pub fn current(config: &Path) -> Result<Option<String>, CliError> {
    let text = files::read(&config.join(CURRENT)).map_err(of_file)?;
    Ok(text.map(|text| text.trim().to_owned()).filter(|name| !name.is_empty()))
}

fn folder_of(config: &Path, name: &str) -> Result<PathBuf, CliError> {
    // Also keeps the path inside the folder.
    let name: Label = name
        .parse()
        .map_err(|error| CliError::usage(format!("`{name}` is no name of a context: {error}")))?;
    Ok(config.join(FOLDER).join(name.as_str()))
}

fn names(config: &Path) -> Result<Vec<String>, CliError> {
    let folder = config.join(FOLDER);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(of_file(FileError::new(&folder, "read", error))),
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| config.join(FOLDER).join(name).join(FILE).exists())
        .collect();
    names.sort();
    Ok(names)
}

fn of_file(error: FileError) -> CliError {
    OperatorError::from(error).into()
}

impl Contexts {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let config = &context.config;
        match self.verb {
            Verb::Add(add) => add.run(context),
            Verb::Use(Use { name, .. }) => {
                if let Some(name) = &name {
                    load(config, name)?;
                }
                let text = name.as_ref().map(|name| format!("{name}\n")).unwrap_or_default();
                files::write(&config.join(CURRENT), text.as_bytes()).map_err(of_file)?;
                context.note(&match name {
                    Some(name) => format!("from now on shoal asks `{name}`"),
                    None => "from now on shoal asks the daemon of this device".to_owned(),
                });
                Ok(())
            }
            Verb::Ls(_) => ls(context),
            Verb::Rm(Rm { name }) => {
                let Noted { folder, .. } = load(config, &name)?;
                fs::remove_dir_all(&folder)
                    .map_err(|error| of_file(FileError::new(&folder, "deleted", error)))?;
                if current(config)?.as_ref() == Some(&name) {
                    files::write(&config.join(CURRENT), b"").map_err(of_file)?;
                    context.note("it was the current one: shoal asks the daemon of this device");
                }
                Ok(())
            }
        }
    }
}

impl Add {
    fn run(self, context: &Context) -> Result<(), CliError> {
        let Add { name, operator, replace } = self;
        let Some(remote) = context.remote.as_ref().filter(|it| !it.is_habit) else {
            return Err(CliError::usage("--via is missing: where does a node of it answer?").hint(
                "HOST:PORT of any node's mesh, as in --via gate.example:7700; several, separated \
                    by commas, are tried in turn.",
            ));
        };
        let folder = folder_of(&context.config, name.as_str())?;
        if folder.join(FILE).exists() && !replace {
            return Err(CliError::usage(format!("there is a context `{name}` already"))
                .hint("--replace replaces it; nothing was changed."));
        }
        let file = operator.unwrap_or_else(|| context.config.join(OPERATOR_FILE));
        files::make_folder(&folder).map_err(of_file)?;
        // Loaded before it is copied, so that no file that is no key comes into the folder.
        let loaded = match load_key(&file, &folder) {
            Ok(loaded) => loaded,
            Err(error) => {
                if !replace {
                    let _ = fs::remove_dir_all(&folder);
                }
                return Err(error.into());
            }
        };
        let text = files::read_secret(&file).map_err(OperatorError::from)?.unwrap_or_default();
        files::write(&folder.join(OPERATOR_FILE), text.as_bytes()).map_err(of_file)?;
        let form = Form { format: FORMAT, via: remote.addresses.clone() };
        files::write_json(&folder.join(FILE), &form).map_err(of_file)?;
        context.note(&format!(
            "context {name}: cluster {} via {}, as {}. `shoal context use {name}` makes it the \
                current one",
            loaded.cluster().short(),
            form.via.join(", "),
            loaded.name()
        ));
        Ok(())
    }
}

/// A file with a key, checked as far as that is possible without its passphrase.
fn load_key(file: &Path, folder: &Path) -> Result<KeyFile, OperatorError> {
    let Some(found) = KeyFile::read(file)? else {
        return Err(FileError::new(file, "read", std::io::ErrorKind::NotFound.into()).into());
    };
    if !found.is_sealed() {
        found.open(None, folder)?;
    }
    Ok(found)
}

fn ls(context: &Context) -> Result<(), CliError> {
    let now = current(&context.config)?;
    let shown = |name: String| {
        let noted = load(&context.config, &name);
        let key = noted.clone().and_then(|noted| {
            load_key(&noted.folder.join(OPERATOR_FILE), &noted.folder).map_err(CliError::from)
        });
        Shown {
            current: now.as_ref() == Some(&name),
            via: noted.map(|it| it.addresses).unwrap_or_default(),
            operator: key.as_ref().ok().map(|it| it.name().to_owned()),
            cluster: key.as_ref().ok().map(|it| it.cluster().to_string()),
            trouble: key.err().map(|error| error.message),
            name,
        }
    };
    let all: Vec<Shown> = names(&context.config)?.into_iter().map(shown).collect();
    if context.json() {
        return out::say_json(&all);
    }
    if all.is_empty() {
        context.note("there is no context; `shoal context add` makes one");
        return Ok(());
    }
    let row = |it: Shown| {
        let cluster = it.cluster.map_or_else(|| "-".into(), |it| render::short(&it));
        let via = it.trouble.map_or_else(|| it.via.join(","), |why| format!("unusable: {why}"));
        let mark = if it.current { "*" } else { "" };
        vec![mark.into(), it.name, it.operator.unwrap_or_else(|| "-".into()), cluster, via]
    };
    let rows: Vec<Vec<String>> = all.into_iter().map(row).collect();
    out::say_raw(&render::contexts(&rows))
}

#[cfg(test)]
mod tests;
