//! Parts that `shoal secret` and `shoal config` have in common.

use std::io::{IsTerminal, Read};
use std::path::Path;

use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use shoal_protocol::model::spec::ValueKind;
use shoal_protocol::model::view::{ValueView, full_name};
use shoal_protocol::model::{Value, WorkloadName};

use super::client::Client;
use super::context::Context;
use super::error::CliError;
use super::rights::submit;
use super::{out, render};

/// List them: names, sizes, ages, and who uses them
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal secret ls\n  shoal secret ls --namespace shop -o wide")]
pub(super) struct Ls {
    /// Those of this namespace [default: of all]
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
}

/// Remove one
#[derive(Args)]
#[command(after_help = "Example:\n  shoal secret rm shop/db")]
pub(super) struct Rm {
    /// NAME, or NAMESPACE/NAME; several may be given
    #[arg(required = true)]
    names: Vec<WorkloadName>,
    /// Even if a workload uses it: its replicas run on, and do not start again without it
    #[arg(short, long)]
    force: bool,
}

impl Ls {
    pub(super) async fn run(self, context: &Context, kind: ValueKind) -> Result<(), CliError> {
        let mut views = all(&context.client(), kind).await?;
        if let Some(namespace) = &self.namespace {
            views.retain(|view| view.namespace == *namespace);
        }
        if context.json() {
            return out::say_json(&views);
        }
        if views.is_empty() {
            let word = kind.word();
            context.note(&format!("There are no {word}s: `shoal {word} set NAME` makes one."));
            return Ok(());
        }
        out::say_raw(&render::values::values(&views, kind, context.form))
    }
}

impl Rm {
    pub(super) async fn run(self, context: &Context, kind: ValueKind) -> Result<(), CliError> {
        let (word, client) = (kind.word(), context.client());
        let known = all(&client, kind).await?;
        // All of them are looked at first, so that a refusal has changed nothing.
        for name in &self.names {
            let Some(view) = known.iter().find(|view| is(view, name)) else {
                return Err(CliError::not_found(format!(
                    "there is no {word} `{name}`; nothing was changed"
                ))
                .hint(format!("`shoal {word} ls` lists them.")));
            };
            if !view.users.is_empty() && !self.force {
                let users = view.users.join(", ");
                return Err(CliError::usage(format!(
                    "{word} {name} is used by {users}, which would not start again without it; \
                     nothing was changed"
                ))
                .hint("Publish them without it first; or --force removes it all the same."));
            }
        }
        let operator = context.operator()?;
        for name in self.names {
            submit(&client, &operator, kind.key(name.clone()), Value::Tombstone).await?;
            context.note(&format!("{word} {name} is removed"));
        }
        Ok(())
    }
}

/// All values of a kind.
pub(super) async fn all(client: &Client, kind: ValueKind) -> Result<Vec<ValueView>, CliError> {
    let mut views: Vec<ValueView> = client.get("/v1/values").await?;
    views.retain(|view| view.kind == kind.word());
    Ok(views)
}

/// Whether a view is of this value.
pub(super) fn is(view: &ValueView, name: &WorkloadName) -> bool {
    view.namespace == name.namespace.as_str() && view.name == name.name.as_str()
}

/// `namespace/name`, as paths have it.
pub(super) fn full(name: &WorkloadName) -> String {
    full_name(name)
}

/// The value that a person gives: from a file, standard input, or a question at the terminal.
pub(super) fn read_value(
    what: &str,
    from: Option<&str>,
    file: Option<&Path>,
    most: usize,
) -> Result<Vec<u8>, CliError> {
    let limit = most as u64 + 1;
    let bytes = match (from, file) {
        (Some("-"), _) => read(&mut std::io::stdin().lock().take(limit), "standard input")?,
        (Some(_), _) => {
            return Err(CliError::usage(format!(
                "{what}: a value on the command line can be read by every user of this computer, \
                 and stays in the shell's history; nothing was changed"
            ))
            .hint("Pipe it in and give -, or --from-file FILE, or nothing, to be asked for it."));
        }
        (None, Some(path)) => {
            let shown = path.display().to_string();
            let opened = std::fs::File::open(path)
                .map_err(|error| CliError::usage(format!("{shown} cannot be read: {error}")))?;
            read(&mut opened.take(limit), &shown)?
        }
        (None, None) if std::io::stdin().is_terminal() => ask(what)?,
        (None, None) => read(&mut std::io::stdin().lock().take(limit), "standard input")?,
    };
    if bytes.is_empty() {
        return Err(CliError::usage(format!("{what}: the value is empty; nothing was changed")));
    }
    if bytes.len() > most {
        return Err(CliError::usage(format!(
            "{what}: the value has more than {} KiB, the most; nothing was changed",
            most / 1024
        ))
        .hint("Larger files belong into the image, or into a volume."));
    }
    Ok(bytes)
}

fn read(from: &mut impl Read, what: &str) -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes)
        .map_err(|error| CliError::usage(format!("{what} cannot be read: {error}")))?;
    Ok(bytes)
}

/// Asks for a value without showing what is typed.
fn ask(what: &str) -> Result<Vec<u8>, CliError> {
    let wrong = |error: std::io::Error| CliError::failed(format!("the terminal: {error}"));
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin).map_err(|error| wrong(error.into()))?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    eprint!("{what}: ");
    tcsetattr(&stdin, OptionalActions::Drain, &hidden).map_err(|error| wrong(error.into()))?;
    let mut line = String::new();
    let done = stdin.read_line(&mut line);
    let _ = tcsetattr(&stdin, OptionalActions::Drain, &before);
    eprintln!();
    done.map_err(wrong)?;
    Ok(line.trim_end_matches(['\n', '\r']).as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_file(bytes: &[u8]) -> Result<Vec<u8>, CliError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("value");
        std::fs::write(&file, bytes).unwrap();
        read_value("secret db", None, Some(&file), 1024)
    }

    #[test]
    fn values_are_neither_empty_nor_too_long_nor_on_the_command_line() {
        assert_eq!(from_file(b"hunter2\n").unwrap(), b"hunter2\n");
        assert_eq!(from_file(&[7; 1024]).unwrap().len(), 1024);
        assert!(from_file(b"").unwrap_err().message.contains("empty"));
        assert!(from_file(&[7; 1025]).unwrap_err().message.contains("more than 1 KiB"));
        let error = read_value("secret db", Some("hunter2"), None, 1024).unwrap_err();
        assert!(!error.message.contains("hunter2"), "{}", error.message);
        assert!(error.hint.unwrap().contains("--from-file"));
    }
}
