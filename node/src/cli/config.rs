//! `shoal config`.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use shoal_protocol::model::codec::Bytes;
use shoal_protocol::model::spec::ValueKind;
use shoal_protocol::model::view::ValueView;
use shoal_protocol::model::{Key, Value, WorkloadName};
use shoal_protocol::trust::MAX_CONFIG;

use super::context::Context;
use super::error::CliError;
use super::rights::submit;
use super::values::{Ls, Rm, all, full, is, read_value};

/// Keep configuration files, and give them to workloads as files or variables
///
/// Every node can read a config; `shoal secret` is for what not all may see. Another value replaces
/// the replicas of the workloads that use it.
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal config set site --from-file ./site.conf\n  \
    shoal run --name web --config site:/etc/nginx/conf.d/site.conf nginx:1.27\n  \
    shoal run hello.wasm --name hello --config greeting:env=GREETING\n  \
    shoal config get site\n  shoal config ls\n  shoal config rm site")]
pub struct Config {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Set(Set),
    Get(Get),
    Ls(Ls),
    Rm(Rm),
}

/// Set a config, or change it: workloads that use it get the new value
#[derive(Args)]
#[command(after_help = "Example:\n  shoal config set shop/site --from-file ./site.conf")]
struct Set {
    /// NAME, or NAMESPACE/NAME
    name: WorkloadName,
    /// `-` reads the value from standard input
    #[arg(value_name = "-")]
    from: Option<String>,
    /// Read the value from a file
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    from_file: Option<PathBuf>,
}

/// Print a config
#[derive(Args)]
#[command(after_help = "Example:\n  shoal config get shop/site > site.conf")]
struct Get {
    /// NAME, or NAMESPACE/NAME
    name: WorkloadName,
}

impl Config {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        match self.verb {
            Verb::Set(set) => set.run(context).await,
            Verb::Get(get) => get.run(context).await,
            Verb::Ls(ls) => ls.run(context, ValueKind::Config).await,
            Verb::Rm(rm) => rm.run(context, ValueKind::Config).await,
        }
    }
}

impl Set {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let operator = context.operator()?;
        let client = context.client();
        let known: Vec<ValueView> = all(&client, ValueKind::Config).await?;
        let what = format!("config {}", self.name);
        let from_file = self.from_file.as_deref();
        let value = read_value(&what, self.from.as_deref(), from_file, MAX_CONFIG)?;
        let before = known.iter().find(|it| is(it, &self.name));
        if before
            .is_some_and(|it| it.version == shoal_protocol::model::Digest::of(&value).to_string())
        {
            context.note(&format!("{what} has this value already"));
            return Ok(());
        }
        let value = Value::Config(Bytes(value));
        let existed = submit(&client, &operator, Key::Config(self.name.clone()), value).await?;
        context.note(&format!("{what} {}", if existed { "has a new value" } else { "is set" }));
        if let Some(users) = before.map(|it| &it.users).filter(|users| !users.is_empty()) {
            context.note(&format!("replaced with the new value: {}", users.join(", ")));
        }
        Ok(())
    }
}

impl Get {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let path = format!("/v1/configs/{}", full(&self.name));
        let bytes = context.client().get_bytes(&path).await?;
        // As it is, also where it is no text.
        let mut out = std::io::stdout().lock();
        out.write_all(&bytes)
            .and_then(|()| out.flush())
            .map_err(|error| CliError::failed(format!("it cannot be written: {error}")))
    }
}
