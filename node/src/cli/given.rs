//! The secrets and configs that come with the files of a publish: which are new, which change, and
//! how they are set. **What has not changed is not set again**, since that would replace the
//! replicas of its users.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use shoal_protocol::model::codec::Bytes;
use shoal_protocol::model::spec::ValueKind;
use shoal_protocol::model::view::{ReadersView, ValueView};
use shoal_protocol::model::{Digest, Value, WorkloadName};
use shoal_protocol::trust::MAX_CONFIG;

use super::client::Client;
use super::context::Context;
use super::error::CliError;
use super::rights::submit;
use super::secret::{MAX_SECRET, seal};
use super::values::{full, is};
use crate::hex::to_hex;
use crate::manifest::bundle::Given;
use crate::publish::{Operator, files};
use crate::secrets::seal::Of;

/// The notes about secrets in the folder of what this installation published.
const NOTES: &str = "secrets.json";

/// A secret or config of a publish.
pub(super) struct ValueStep {
    given: Given,
    name: WorkloadName,
    /// Whether there is one of this name.
    exists: bool,
    /// Whether it has this content.
    is_same: bool,
    /// The workloads that use it now.
    users: Vec<String>,
    /// The folder of the notes.
    notes: Option<PathBuf>,
}

impl ValueStep {
    /// Whether it is to be set.
    pub fn changes(&self) -> bool {
        !self.is_same
    }

    /// The workloads whose replicas it replaces.
    pub fn replaces(&self) -> &[String] {
        if self.is_same { &[] } else { &self.users }
    }
}

/// Secrets as this installation set them last. **Nobody can read a secret back**, so whether a file
/// has the same one is told by its hash with a salt, in a private file beside the operator's key.
#[derive(Default, Serialize, Deserialize)]
struct Notes {
    salt: String,
    /// By full name: the version in the cluster, and the hash.
    secrets: BTreeMap<String, (String, String)>,
    /// The secrets and configs that came with the files of a set, by its name.
    #[serde(default)]
    sets: BTreeMap<String, BTreeSet<String>>,
}

impl Notes {
    fn read(folder: Option<&Path>) -> Notes {
        let text = folder.and_then(|folder| files::read(&folder.join(NOTES)).ok().flatten());
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    fn hash(&self, content: &[u8]) -> String {
        Digest::of(&[self.salt.as_bytes(), content].concat()).to_string()
    }

    /// Errors cost the next publish a needless change, and nothing else.
    fn write(&self, folder: &Path) {
        if let Ok(text) = serde_json::to_vec(self)
            && std::fs::create_dir_all(folder).is_ok()
        {
            let _ = files::write(&folder.join(NOTES), &text);
        }
    }
}

/// The fate of each secret and config.
pub(super) async fn plan(
    client: &Client,
    folder: Option<&Path>,
    all: Vec<Given>,
) -> Result<Vec<ValueStep>, CliError> {
    if all.is_empty() {
        return Ok(Vec::new());
    }
    let known: Vec<ValueView> = client.get("/v1/values").await?;
    let notes = Notes::read(folder);
    let mut steps = Vec::with_capacity(all.len());
    for given in all {
        let name = WorkloadName { namespace: given.namespace.clone(), name: given.name.clone() };
        check(&given, &name)?;
        let here = known.iter().find(|it| it.kind == given.kind.word() && is(it, &name));
        let is_same = here.is_some_and(|view| match given.kind {
            ValueKind::Config => view.version == Digest::of(&given.content).to_string(),
            ValueKind::Secret => {
                let noted = notes.secrets.get(&full(&name));
                noted == Some(&(view.version.clone(), notes.hash(&given.content)))
            }
        });
        let notes = folder.map(Path::to_owned);
        let users = here.map(|view| view.users.clone()).unwrap_or_default();
        steps.push(ValueStep { exists: here.is_some(), given, name, is_same, users, notes });
    }
    Ok(steps)
}

/// Values that earlier files of these sets brought, and these do not: this installation has noted
/// them, since a value says nothing of a set.
pub(super) async fn left_over(
    client: &Client,
    folder: Option<&Path>,
    sets: &BTreeSet<String>,
    steps: &[ValueStep],
) -> Result<Vec<(ValueKind, WorkloadName)>, CliError> {
    let notes = Notes::read(folder);
    let noted: BTreeSet<&String> =
        sets.iter().filter_map(|set| notes.sets.get(set)).flatten().collect();
    if noted.is_empty() {
        return Ok(Vec::new());
    }
    let known: Vec<ValueView> = client.get("/v1/values").await?;
    let of = |view: &ValueView| {
        let kinds = [ValueKind::Secret, ValueKind::Config];
        let kind = kinds.into_iter().find(|kind| kind.word() == view.kind)?;
        Some((kind, format!("{}/{}", view.namespace, view.name).parse().ok()?))
    };
    let is_left = |(kind, name): &(ValueKind, WorkloadName)| {
        let is_given = steps.iter().any(|it| it.given.kind == *kind && it.name == *name);
        noted.contains(&noted_as(*kind, name)) && !is_given
    };
    Ok(known.iter().filter_map(of).filter(is_left).collect())
}

fn noted_as(kind: ValueKind, name: &WorkloadName) -> String {
    format!("{} {}", kind.word(), full(name))
}

/// Notes that these values came with the files of these sets.
pub(super) fn note_sets(folder: Option<&Path>, sets: &BTreeSet<String>, steps: &[ValueStep]) {
    let Some(folder) = folder.filter(|_| !sets.is_empty() && !steps.is_empty()) else { return };
    let mut notes = Notes::read(Some(folder));
    for set in sets {
        let all = steps.iter().map(|it| noted_as(it.given.kind, &it.name));
        notes.sets.entry(set.clone()).or_default().extend(all);
    }
    notes.write(folder);
}

/// Removes values that left the files of their set, but for those that a workload uses.
pub(super) async fn remove(
    context: &Context,
    client: &Client,
    operator: &Operator,
    left: &[(ValueKind, WorkloadName)],
) -> Result<(), CliError> {
    if left.is_empty() {
        return Ok(());
    }
    let known: Vec<ValueView> = client.get("/v1/values").await?;
    for (kind, name) in left {
        let word = kind.word();
        let view = known.iter().find(|it| it.kind == word && is(it, name));
        let users = view.map(|it| it.users.join(", ")).unwrap_or_default();
        if users.is_empty() {
            submit(client, operator, kind.key(name.clone()), Value::Tombstone).await?;
            context.note(&format!("{word} {name} is removed"));
        } else {
            context.note(&format!("{word} {name} stays: {users} uses it"));
        }
    }
    Ok(())
}

fn check(given: &Given, name: &WorkloadName) -> Result<(), CliError> {
    let most = match given.kind {
        ValueKind::Secret => MAX_SECRET,
        ValueKind::Config => MAX_CONFIG,
    };
    let (word, size) = (given.kind.word(), given.content.len());
    let wrong = |why: String| {
        Err(CliError::usage(format!("{word} {name}: {why}")).hint("Nothing was published."))
    };
    match size {
        0 => wrong("it is empty".into()),
        size if size > most => wrong(format!("it has {size} bytes, at most {most} are possible")),
        _ => Ok(()),
    }
}

/// The plan in lines, as that of workloads.
pub(super) fn shown(steps: &[ValueStep]) -> String {
    let line = |step: &ValueStep| {
        let done = match (step.is_same, step.exists, step.users.as_slice()) {
            (true, ..) => "unchanged".to_owned(),
            (false, true, []) => "changes".to_owned(),
            (false, true, users) => {
                format!("changes: replaces every replica of {}", users.join(", "))
            }
            (false, false, _) => "is new".to_owned(),
        };
        format!("{} {}: {done}\n", step.given.kind.word(), step.name)
    };
    steps.iter().map(line).collect()
}

/// Sets those that are new or change.
pub(super) async fn carry_out(
    context: &Context,
    client: &Client,
    operator: &Operator,
    steps: Vec<ValueStep>,
) -> Result<(), CliError> {
    for ValueStep { given, name, notes, .. } in steps.into_iter().filter(ValueStep::changes) {
        let key = given.kind.key(name.clone());
        match given.kind {
            ValueKind::Config => {
                submit(client, operator, key, Value::Config(Bytes(given.content))).await?;
            }
            ValueKind::Secret => {
                let path = format!("/v1/readers/{}", full(&name));
                let readers: ReadersView = client.get(&path).await?;
                let cluster = operator.cluster();
                let of = Of { cluster: &cluster, name: &name };
                let (sealed, _) = seal(of, &given.content, &readers, false)?;
                submit(client, operator, key, sealed).await?;
                if let Some(folder) = notes {
                    note(client, &folder, &name, &given.content).await?;
                }
            }
        }
        context.note(&format!("{} {name} is set", given.kind.word()));
    }
    Ok(())
}

/// Notes a secret that was set.
async fn note(
    client: &Client,
    folder: &Path,
    name: &WorkloadName,
    content: &[u8],
) -> Result<(), CliError> {
    let known: Vec<ValueView> = client.get("/v1/values").await?;
    let is_it = |it: &&ValueView| it.kind == ValueKind::Secret.word() && is(it, name);
    let Some(view) = known.iter().find(is_it) else { return Ok(()) };
    let mut notes = Notes::read(Some(folder));
    if notes.salt.is_empty() {
        let mut salt = [0; 16];
        let random = SystemRandom::new().fill(&mut salt);
        random.map_err(|_| CliError::failed("the system gives no random numbers"))?;
        notes.salt = to_hex(&salt);
    }
    let hash = notes.hash(content);
    notes.secrets.insert(full(name), (view.version.clone(), hash));
    notes.write(folder);
    Ok(())
}
