//! `shoal operator`, `shoal whoami`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use shoal_protocol::model::view::OperatorView;
use shoal_protocol::model::{Key, KeyPair, Label, Namespaces, PublicKey, Role, Value, WallClock};
use shoal_protocol::trust::{self, Terms};

use super::context::Context;
use super::error::CliError;
use super::rights::submit;
use super::{keys, out, render};
use crate::api::form::MeetingBody;
use crate::identity;
use crate::manifest::quantity;
use crate::publish::{KeyFile, LEAST_LENGTH, OperatorFile};

/// Say who may do what: people and programs that operate the cluster
#[derive(Args)]
#[command(
    after_help = "Examples:\n  shoal operator ls\n  shoal operator add ann --role publisher \
    --namespace shop > ann.json\n  shoal operator add ci --role reader --ttl 90d > ci.json\n  \
    shoal revoke ann"
)]
pub struct Operator {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Add(Add),
    Ls(Ls),
    Passphrase(Passphrase),
}

/// Give somebody a key with a role, and print it: the file `operator.json` of their config folder
///
/// The file is a secret. It goes to ~/.config/shoal/operator.json on the other computer, or into
/// any folder that --config names.
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal operator add ann --role publisher --namespace shop > \
    ann.json\n  scp ann.json ann-laptop:\n  ann-laptop$ shoal context add shop --via gate.example \
    --operator ann.json\n  shoal operator add ann --renew 1a2b..9f \
    --ttl 90d --role publisher > ann.json   # renews the rights of that key")]
struct Add {
    /// The name of its holder, for people
    name: String,
    /// The role of the key
    #[arg(long, value_enum, default_value = "publisher")]
    role: RoleName,
    /// The namespaces in which it may; may be given several times [default: all]
    #[arg(short, long = "namespace", value_name = "NAME")]
    namespaces: Vec<Label>,
    /// How long the rights last, for example 90d [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = quantity::duration)]
    ttl: Option<Duration>,
    /// A key that exists, 64 hexadecimal digits: its holder keeps it, and gets new rights
    #[arg(long, value_name = "KEY")]
    renew: Option<PublicKey>,
}

/// A role that an operator can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum RoleName {
    /// See everything, change nothing
    Reader,
    /// Publish, scale and remove workloads, and open sessions with them
    Publisher,
    /// Give and revoke rights as well; with all namespaces also invite and revoke nodes
    Admin,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Role {
        match name {
            RoleName::Reader => Role::Reader,
            RoleName::Publisher => Role::Publisher,
            RoleName::Admin => Role::Admin,
        }
    }
}

/// List the operators
#[derive(Args)]
#[command(after_help = "Example:\n  shoal operator ls")]
struct Ls {}

/// Put a file with a key under a passphrase, change it, or take it away
///
/// The key stays the same, and nothing has to be told to the cluster. A copy of the file that was
/// made before is as it was.
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal operator passphrase ~/.config/shoal/root.json\n  \
    shoal operator passphrase ann.json --remove")]
struct Passphrase {
    /// The file: root.json, or an operator's
    file: PathBuf,
    /// A file with the new passphrase; without one it is asked for on the terminal
    #[arg(long, value_name = "FILE", conflicts_with = "remove")]
    new_passphrase_file: Option<PathBuf>,
    /// Take the passphrase away
    #[arg(long)]
    remove: bool,
}

impl Operator {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        match self.verb {
            Verb::Add(add) => add.run(context).await,
            Verb::Ls(_) => ls(context).await,
            Verb::Passphrase(passphrase) => passphrase.run(context),
        }
    }
}

impl Add {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client();
        let meeting: MeetingBody = client.get("/v1/meeting").await?;
        let operator = context.operator()?;
        let namespaces = match self.namespaces.is_empty() {
            true => Namespaces::All,
            false => Namespaces::Only(self.namespaces.into_iter().collect::<BTreeSet<_>>()),
        };
        let seed = match self.renew {
            Some(_) => None,
            None => Some(identity::random().map_err(|error| CliError::failed(error.to_string()))?),
        };
        let key = match (self.renew, &seed) {
            (Some(key), _) => key,
            (None, Some(seed)) => KeyPair::from_seed(seed).public(),
            (None, None) => return Err(CliError::failed("there is no key")),
        };
        let ends = self.ttl.map(|ttl| {
            let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
            WallClock(meeting.now.saturating_add(ttl))
        });
        let terms = Terms {
            name: self.name.clone(),
            role: self.role.into(),
            namespaces,
            serial: trust::serial_at(WallClock(meeting.now)),
            expires: ends,
        };
        let chain = operator.grant(key, terms).map_err(|error| {
            CliError::usage(format!("{error}. `shoal whoami` says what your own key may do"))
        })?;
        submit(&client, &operator, Key::Operator(key), Value::Operator(chain.clone())).await?;
        let file = OperatorFile::new(operator.genesis(), &self.name, seed, &chain);
        out::say_raw(&file.text())?;
        let ends = ends.map_or_else(|| "for ever".to_owned(), |it| format!("until {it}"));
        context.note(&format!(
            "{} may act as a {} {ends}, with key {}. The file goes to \
                ~/.config/shoal/operator.json there{}",
            self.name,
            Role::from(self.role).name(),
            key.short(),
            if seed.is_some() { "; it is a secret" } else { ", with the seed that is there" }
        ));
        Ok(())
    }
}

impl Passphrase {
    fn run(self, context: &Context) -> Result<(), CliError> {
        let Passphrase { file: path, new_passphrase_file, remove } = self;
        let Some(file) = KeyFile::read(&path)? else {
            return Err(CliError::not_found(format!("there is no file {}", path.display())));
        };
        if remove && !file.is_sealed() {
            return Err(CliError::usage(format!("{} has no passphrase", path.display())));
        }
        // The old one first, so that nobody chooses a new one in vain.
        let seed = context.keys.unlock(&path, &file, |old| file.seed(old))?;
        let new = match remove {
            true => None,
            false => Some(keys::new_passphrase(new_passphrase_file.as_deref(), LEAST_LENGTH)?),
        };
        file.reseal(&seed, new.as_deref())?;
        context.note(&match remove {
            true => format!("{} has no passphrase any more", path.display()),
            false => format!("{} is under the new passphrase", path.display()),
        });
        Ok(())
    }
}

async fn ls(context: &Context) -> Result<(), CliError> {
    let bytes = context.client().get_bytes("/v1/operators").await?;
    if context.json() {
        return out::say_bytes(&bytes);
    }
    let views: Vec<OperatorView> = out::parse(&bytes)?;
    out::say_raw(&render::operators(&views))
}
