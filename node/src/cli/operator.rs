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
            namespaces: namespaces.clone(),
            serial: trust::serial_at(WallClock(meeting.now)),
            expires: ends,
        };
        if self.renew.is_some() {
            let known: Vec<OperatorView> = client.get("/v1/operators").await?;
            takes_nothing_away(&known, key, &terms)?;
        }
        let chain = operator.grant(key, terms).map_err(|error| {
            CliError::usage(format!("{error}. `shoal whoami` says what your own key may do"))
        })?;
        let entry = operator.entry_of(&key).map_err(|error| CliError::usage(error.to_string()))?;
        submit(&client, &operator, Key::Operator(entry), Value::Operator(chain.clone())).await?;
        let file = OperatorFile::new(operator.genesis(), &self.name, seed, &chain);
        out::say_raw(&file.text())?;
        let ends = ends.map_or_else(|| "for ever".to_owned(), |it| format!("until {it}"));
        context.note(&format!(
            "{} may act as {} {} in {namespaces} {ends}, with key {}. The file goes to \
                ~/.config/shoal/operator.json there{}",
            self.name,
            if self.role == RoleName::Admin { "an" } else { "a" },
            Role::from(self.role).name(),
            key.short(),
            match seed {
                Some(_) => "; it is a secret, and only its owner may read it (chmod 600)",
                None => {
                    ", with the `seed` of the file that is there; until then the rights of before \
                        count"
                }
            }
        ));
        Ok(())
    }
}

/// Refuses new rights that would seem to be fewer: the file with the rights of before counts until
/// those end.
fn takes_nothing_away(
    known: &[OperatorView],
    key: PublicKey,
    terms: &Terms,
) -> Result<(), CliError> {
    let all: Vec<&OperatorView> = known.iter().filter(|it| it.key == key.to_string()).collect();
    if all.is_empty() {
        let why = format!("no operator has the key {}: nothing was changed", key.short());
        return Err(CliError::not_found(why).hint("`shoal operator ls -o json` has all keys."));
    }
    let rank = |role: &str| ["reader", "publisher", "admin"].iter().position(|it| *it == role);
    let has = |it: &&&OperatorView| {
        let covers = match &terms.namespaces {
            Namespaces::All => true,
            Namespaces::Only(only) => {
                let is_in = |name: &String| only.iter().any(|it| it.as_str() == name);
                !it.namespaces.is_empty() && it.namespaces.iter().all(is_in)
            }
        };
        let is_longer = match (&terms.expires, &it.expires) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(new), Some(old)) => new.to_string() >= *old,
        };
        it.revoked.is_none() && !(covers && is_longer && rank(terms.role.name()) >= rank(&it.role))
    };
    match all.iter().find(has) {
        Some(it) => {
            let until = it.expires.as_deref().map_or("for ever".into(), |at| format!("until {at}"));
            let why = format!(
                "{} is {} {until}, and new rights take nothing of that away: nothing was changed",
                it.name, it.role
            );
            Err(CliError::usage(why).hint(format!(
                "Revoke the key and give another one: `shoal revoke {}`, `shoal operator add {}`.",
                it.key, it.name
            )))
        }
        None => Ok(()),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(role: Role, namespace: Option<&str>, expires: Option<u64>) -> Terms {
        let namespaces = match namespace {
            Some(name) => Namespaces::Only([name.parse().unwrap()].into()),
            None => Namespaces::All,
        };
        Terms { name: "ann".into(), role, namespaces, serial: 1, expires: expires.map(WallClock) }
    }

    /// New rights are added to those of the file that is there, so fewer of them would change
    /// nothing, and look as if they did.
    #[test]
    fn renewal_that_would_take_rights_away_is_refused() {
        let key = KeyPair::from_seed(&[7; 32]).public();
        let known = [OperatorView {
            name: "ann".into(),
            key: key.to_string(),
            role: "publisher".into(),
            namespaces: vec!["shop".into()],
            expires: Some(WallClock(5_000_000).to_string()),
            by: "root".into(),
            revoked: None,
        }];
        let renew = |key, terms: Terms| takes_nothing_away(&known, key, &terms);
        for more in
            [terms(Role::Publisher, Some("shop"), Some(6_000_000)), terms(Role::Admin, None, None)]
        {
            renew(key, more).unwrap();
        }
        for fewer in [
            terms(Role::Reader, Some("shop"), None),
            terms(Role::Publisher, Some("till"), None),
            terms(Role::Publisher, Some("shop"), Some(4_000_000)),
        ] {
            let error = renew(key, fewer).unwrap_err();
            assert!(error.message.contains("nothing was changed"), "{}", error.message);
            assert!(error.hint.unwrap().contains(&format!("shoal revoke {key}")));
        }
        let unknown = renew(PublicKey([0; 32]), terms(Role::Admin, None, None)).unwrap_err();
        assert!(unknown.message.contains("no operator has the key"), "{}", unknown.message);
    }
}
