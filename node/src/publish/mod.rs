//! From a workload that a person describes to a signed change on a node's disk.
//!
//! ```text
//!   author                                node
//!     prepare(name, spec)  ─────────────▶  checks it, tells clock, serial, what is there now
//!     upload(bytes)        ─────────────▶  verifies, keeps
//!     sign
//!     submit(change)       ─────────────▶  accepted once it is on disk; `stale`: prepare again
//! ```
//!
//! A workload that equals the current one is written again all the same, unless every other node
//! confirms that it holds it, too.
//!
//! The command line does this over the socket, a program that embeds a node does it directly: both
//! implement [`Door`]. **This module knows no JSON and no hexadecimal digits** besides the
//! operator's files: they belong to the socket's client.

pub mod bases;
mod batch;
pub(crate) mod container;
mod difference;
pub(crate) mod files;
mod founding;
pub mod given;
mod invite;
mod key_file;
pub mod kind;
mod mount;
mod operator;
mod part;
mod passphrase;
pub mod plan;
pub mod probe;
pub mod rollout;
pub(crate) mod uses;
pub mod volume;
pub mod waits;
mod workload;

use std::collections::BTreeSet;
use std::future::Future;
use std::path::PathBuf;

use shoal_protocol::model::spec::{Image, InvalidSpec, World};
use shoal_protocol::model::{
    Artifact, ClusterId, Digest, ProgramKind, RawChange, Spec, WorkloadName,
};
use shoal_protocol::node::{Draft, Refusal, Version};
use shoal_protocol::trust::Rejection;

use crate::api::images::form::{ImageProgress, ResolveBody, ResolvedImage};
use crate::api::{Accepted, ApiError, Prepared, Proposal};

pub use batch::{NotAll, publish_all, remove_all};
pub use difference::{Difference, differences, shown_port};
pub use files::FileError;
pub use founding::Founding;
pub use invite::{InviteError, Wishes, invite};
pub use key_file::{KeyFile, OperatorFile};
pub use operator::{INSTALLATION_FILE, OPERATOR_FILE, Operator, OperatorError, ROOT_FILE};
pub use part::{ImageFile, ImageFileError, Part, image_file};
pub(crate) use passphrase::LEAST_LENGTH;
pub(crate) use workload::reserved_below;
pub use workload::{Source, Workload};

/// Tries of one change: each failure means that another operator changed the same workload in
/// between.
const TRIES: usize = 5;

/// A node that takes changes.
pub trait Door: Sync {
    /// Whether the node has these bytes already.
    fn holds(&self, digest: &Digest) -> impl Future<Output = Result<bool, ApiError>> + Send;
    /// Sends the bytes of a part of a program of this kind.
    fn upload(
        &self,
        kind: ProgramKind,
        part: &Part,
    ) -> impl Future<Output = Result<(), ApiError>> + Send;
    /// Asks which bytes the name of an image means. `told` gets how far the node is.
    fn resolve(
        &self,
        asked: &ResolveBody,
        told: &mut (dyn FnMut(ImageProgress) + Send),
    ) -> impl Future<Output = Result<ResolvedImage, ApiError>> + Send;
    /// Asks what to sign.
    fn prepare(
        &self,
        proposal: Proposal,
    ) -> impl Future<Output = Result<Prepared, ApiError>> + Send;
    /// Submits a signed change.
    fn submit(&self, change: RawChange) -> impl Future<Output = Result<Accepted, ApiError>> + Send;
}

/// The effect of a change.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// The workload is new.
    Created,
    /// The workload was there with another spec.
    Changed(Vec<Difference>),
    /// Every node has this spec already; nothing was written.
    Unchanged,
    /// The workload had this spec, or was removed, already, and was written again: these nodes
    /// cannot be asked, or hold another spec, and what they bring back is older now.
    Repeated(Vec<String>),
    /// The workload was removed.
    Removed,
}

/// A change that a node has taken.
#[derive(Clone, PartialEq, Debug)]
pub struct Published {
    /// The workload's name.
    pub name: WorkloadName,
    /// The new spec; `None` when the workload was removed.
    pub spec: Option<Spec>,
    /// The effect of the change.
    pub outcome: Outcome,
    /// Parts of it that are mostly a slip, in words.
    pub warnings: Vec<String>,
}

/// Why a change was not made. Nothing changed, except for [`PublishError::Unanswered`], where that
/// is not known.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum PublishError {
    #[error("{} cannot be read: {source}", file.display())]
    File { file: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Image(#[from] ImageFileError),
    #[error("{what} cannot be run: {why}")]
    NotRunnable { what: String, why: String },
    #[error(transparent)]
    Spec(#[from] InvalidSpec),
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("{0}. It had been asked to take the change, and may have done so")]
    Unanswered(#[source] ApiError),
    #[error("nothing can be signed: {0}")]
    NoOperator(String),
    #[error("the change cannot be signed: {0}")]
    Signing(#[from] Rejection),
    #[error("the operator key is of cluster {}, this node is of cluster \
        {}", operator.short(), node.short())]
    OtherCluster { operator: ClusterId, node: ClusterId },
    #[error("others kept changing `{0}` at the same time; nothing was changed")]
    Contended(WorkloadName),
    #[error("each waits for the next one, and the last one for the first, so that none would \
        start: {}; nothing was changed", named(.0))]
    Circle(Vec<WorkloadName>),
    #[error("{0}")]
    Overtaken(Overtaken),
}

fn named(all: &[WorkloadName]) -> String {
    all.iter().map(WorkloadName::to_string).collect::<Vec<_>>().join(", ")
}

/// A change that would overwrite one that its author has not seen.
#[derive(Clone, PartialEq, Debug)]
pub struct Overtaken {
    /// The workload.
    pub name: WorkloadName,
    /// The version that the author has seen; none if there was none.
    pub shown: Option<Box<Spec>>,
    /// The version that is there now; none if it was removed.
    pub now: Option<Box<Spec>>,
    /// The author of that version.
    pub by: Option<String>,
    /// Since when it is another one, in words.
    pub since: &'static str,
}

impl std::fmt::Display for Overtaken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Overtaken { name, shown, now, by, since } = self;
        let by = by.as_deref().unwrap_or("another operator");
        let what = match (shown, now) {
            (None, _) => "created",
            (_, None) => "removed",
            (Some(_), Some(_)) => "changed",
        };
        write!(f, "`{name}` was {what} by {by} since {since}; nothing of it was overwritten")?;
        let side = |spec: &Option<Box<Spec>>| match spec {
            Some(spec) => format!("version {}", version_of(spec)),
            None => "no workload".to_owned(),
        };
        write!(f, "\n    seen: {}\n    now:  {}", side(shown), side(now))?;
        if let (Some(shown), Some(now)) = (shown, now) {
            for difference in differences(shown, now) {
                write!(f, "\n      {difference}")?;
            }
        }
        Ok(())
    }
}

/// A short name of a spec: the same for the same spec, on every node.
pub fn version_of(spec: &Spec) -> String {
    use shoal_protocol::model::Value;
    let Value::Workload { version, bytes } = Value::workload(spec) else { return String::new() };
    Digest::of_parts(&[&version.to_le_bytes(), &bytes]).short()
}

impl PublishError {
    /// Advice for the user.
    pub fn hint(&self) -> Option<String> {
        match self {
            PublishError::Api(error) if error.message.contains(ROLLED_BACK) => Some(
                "`shoal events` tells why it failed. Change it and publish again; to try the very \
                    same once more, raise `restarts` in its file (restarts: 1). What runs now is \
                    the version before."
                    .into(),
            ),
            PublishError::Api(error) => error.hint.clone(),
            PublishError::Unanswered(_) => {
                Some("Look with `shoal ps`, on any node. The same once more does no harm.".into())
            }
            PublishError::OtherCluster { .. } => Some(
                "Name the folder with this cluster's operator key with --config or SHOAL_CONFIG, \
                    or another daemon with --socket."
                    .into(),
            ),
            PublishError::Contended(_) => Some("Try again.".into()),
            PublishError::Circle(_) => {
                Some("Take one of them out of `after`, or out of `depends_on`.".into())
            }
            PublishError::Overtaken(Overtaken { name, now: None, .. }) => Some(format!(
                "`shoal history {name}` shows who removed it; --force publishes it all the same."
            )),
            PublishError::Overtaken(Overtaken { name, .. }) => Some(format!(
                "`shoal export {name}` shows what is there now: take it into your file, or \
                 overwrite it with --force."
            )),
            PublishError::Signing(_) => Some(
                "`shoal whoami` says what this key may do; an administrator gives more with `shoal \
                    operator add`. Nothing was changed."
                    .into(),
            ),
            PublishError::File { .. }
            | PublishError::Image(_)
            | PublishError::NotRunnable { .. }
            | PublishError::Spec(_)
            | PublishError::NoOperator(_) => None,
        }
    }
}

/// Part of the refusal of a version whose update failed and was rolled back.
const ROLLED_BACK: &str = "this version was rolled back";

/// A workload whose bytes were read, found to be runnable, and hashed.
#[derive(Clone, Debug)]
pub struct Ready {
    /// The spec to sign.
    pub spec: Spec,
    /// The parts of its program; none for an image that the engines of the nodes pull.
    pub parts: Vec<Part>,
}

/// Reads and checks a workload's bytes, without any node.
pub async fn ready(workload: &Workload) -> Result<Ready, PublishError> {
    let (what, bytes) = match workload.source() {
        Source::Held(artifact) => {
            return Ok(Ready { spec: workload.spec(Some(*artifact))?, parts: Vec::new() });
        }
        Source::Engine | Source::Image(_) => return images_ready(workload).await,
        Source::Bytes(bytes) => (format!("`{}`", workload.name()), bytes.clone()),
        Source::File(file) => {
            let read = tokio::fs::read(file).await;
            let bytes = read.map_err(|source| PublishError::File { file: file.clone(), source })?;
            (file.display().to_string(), bytes.into())
        }
    };
    let world = match shoal_runtimes::wasm::inspect(&bytes) {
        Ok(shoal_runtimes::wasm::Kind::Command) => World::Command,
        Ok(_) => World::Http,
        Err(error) => return Err(PublishError::NotRunnable { what, why: error.to_string() }),
    };
    let workload = workload.clone().world(world);
    let artifact = Artifact { digest: Digest::of(&bytes), size: bytes.len() as u64 };
    let parts = vec![Part::bytes(artifact, bytes)];
    Ok(Ready { spec: workload.spec(Some(artifact))?, parts })
}

/// Reads the images of a workload that are in files.
async fn images_ready(workload: &Workload) -> Result<Ready, PublishError> {
    let mut all = workload.clone();
    let (mut parts, mut exposed) = (Vec::<Part>::new(), BTreeSet::new());
    let files = workload.image_files();
    let is_read = !files.is_empty();
    for (at, file) in files {
        let (with, more, ports) = part::image(&all, at, file).await?;
        all = with;
        exposed.extend(ports);
        // Two of a group may be of one image.
        let known: BTreeSet<Digest> = parts.iter().map(|it| it.artifact.digest).collect();
        parts.extend(more.into_iter().filter(|it| !known.contains(&it.artifact.digest)));
    }
    if is_read {
        all = all.exposes_also(exposed);
    }
    Ok(Ready { spec: all.spec(None)?, parts })
}

/// Settles which bytes the image of a workload means, where its engine provides it: all replicas
/// then run the same, and need no registry. Returns the workload, and what the person should know.
pub async fn pinned(
    door: &impl Door,
    workload: &Workload,
    told: &mut (dyn FnMut(ImageProgress) + Send),
) -> Result<(Workload, Vec<String>), PublishError> {
    let open = workload.engine_images();
    if open.is_empty() {
        return Ok((workload.clone(), Vec::new()));
    }
    let mut workload = workload.clone();
    let (mut all_notes, mut all_exposed) = (Vec::new(), BTreeSet::new());
    for (at, Image { reference, pull, .. }) in open {
        let asked = ResolveBody { reference, pull, push_as: None };
        let ResolvedImage { image, notes, exposed, .. } = door.resolve(&asked, told).await?;
        workload = workload.with_container_at(at, |container| container.image = image);
        all_notes.extend(notes);
        all_exposed.extend(exposed);
    }
    Ok((workload.exposes_also(all_exposed), all_notes))
}

/// Publishes a workload that is [`ready`]. `force`: even if no known node can run it now.
pub async fn publish(
    door: &impl Door,
    operator: &Operator,
    ready: &Ready,
    force: bool,
) -> Result<Published, PublishError> {
    apply(door, operator, &Edit::of(ready, force)).await
}

/// Changes how many replicas a workload has.
pub async fn scale(
    door: &impl Door,
    operator: &Operator,
    name: &WorkloadName,
    replicas: u32,
    force: bool,
) -> Result<Published, PublishError> {
    alter(door, operator, name, force, |spec| spec.scaled(replicas)).await
}

/// Changes what a workload is, by its present spec.
pub async fn alter(
    door: &impl Door,
    operator: &Operator,
    name: &WorkloadName,
    force: bool,
    change: impl Fn(&Spec) -> Result<Spec, InvalidSpec>,
) -> Result<Published, PublishError> {
    for _ in 0..TRIES {
        let current = current_spec(door, name).await?;
        let spec = change(&current)?;
        let edit = Edit { name, spec: Some(spec), parts: &[], based_on: Some(current), force };
        if let Some(published) = attempt(door, operator, &edit).await? {
            return Ok(published);
        }
    }
    Err(PublishError::Contended(name.clone()))
}

/// Replaces all replicas of a workload, which stays as it is.
pub async fn restart(
    door: &impl Door,
    operator: &Operator,
    name: &WorkloadName,
    force: bool,
) -> Result<Published, PublishError> {
    alter(door, operator, name, force, Spec::restarted).await
}

/// Removes a workload. `force`: even if only nodes that cannot be asked now may know of it.
pub async fn remove(
    door: &impl Door,
    operator: &Operator,
    name: &WorkloadName,
    force: bool,
) -> Result<Published, PublishError> {
    apply(door, operator, &Edit::removal(name, force)).await
}

/// The current spec. Prepares a removal to get it, which changes nothing until a change is
/// submitted.
pub async fn current_spec(door: &impl Door, name: &WorkloadName) -> Result<Spec, PublishError> {
    let removal = Proposal { name: name.clone(), spec: None, force: false };
    // Without one, some nodes know of its removal, so that it could be removed again.
    let current = door.prepare(removal).await?.current;
    current.ok_or_else(|| ApiError::from(Refusal::NoSuchWorkload(name.clone())).into())
}

/// A change to make.
struct Edit<'a> {
    name: &'a WorkloadName,
    /// `None` to remove the workload.
    spec: Option<Spec>,
    /// The parts of its program, where the caller has them.
    parts: &'a [Part],
    /// The spec that this was derived from: the attempt is void if another spec is there meanwhile.
    based_on: Option<Spec>,
    force: bool,
}

impl<'a> Edit<'a> {
    fn of(ready: &'a Ready, force: bool) -> Self {
        let spec = Some(ready.spec.clone());
        Edit { name: &ready.spec.name, spec, parts: &ready.parts, based_on: None, force }
    }

    fn removal(name: &'a WorkloadName, force: bool) -> Self {
        Edit { name, spec: None, parts: &[], based_on: None, force }
    }

    fn proposal(&self, spec: Option<Spec>) -> Proposal {
        Proposal { name: self.name.clone(), spec, force: self.force }
    }
}

/// A change that a node would take now.
struct Checked {
    draft: Draft,
    /// The spec to sign.
    spec: Option<Spec>,
    current: Option<Spec>,
    /// The same with what it may be rolled back to.
    found: Option<Spec>,
    /// It has proven good.
    is_good: bool,
    outcome: Outcome,
    warnings: Vec<String>,
    versions: Vec<Version>,
}

async fn apply(
    door: &impl Door,
    operator: &Operator,
    edit: &Edit<'_>,
) -> Result<Published, PublishError> {
    for _ in 0..TRIES {
        if let Some(published) = attempt(door, operator, edit).await? {
            return Ok(published);
        }
    }
    Err(PublishError::Contended(edit.name.clone()))
}

/// Checks, uploads, signs and submits once. `None`: another change came in between.
async fn attempt(
    door: &impl Door,
    operator: &Operator,
    edit: &Edit<'_>,
) -> Result<Option<Published>, PublishError> {
    let Some(checked) = check(door, operator, edit).await? else { return Ok(None) };
    upload(door, edit, &checked).await?;
    submit(door, operator, edit, checked).await
}

/// Asks whether the node would take the change. Changes nothing. `None`: the spec that it was
/// derived from is no longer there.
async fn check(
    door: &impl Door,
    operator: &Operator,
    edit: &Edit<'_>,
) -> Result<Option<Checked>, PublishError> {
    let mut spec = edit.spec.as_ref().map(Spec::without_previous);
    let mut prepared = door.prepare(edit.proposal(spec.clone())).await?;
    if let (Some(wanted), Some(current)) = (&spec, &prepared.current)
        && let Some(kept) = wanted.with_restarts_of(current)
    {
        spec = Some(kept);
        prepared = door.prepare(edit.proposal(spec.clone())).await?;
    }
    let Prepared { draft, current: found, unheard, is_good, .. } = prepared;
    let Prepared { mut warnings, versions, cluster, .. } = prepared;
    warnings.extend(spec.as_ref().and_then(rollout::forced_stop_first));
    let current = found.as_ref().map(Spec::without_previous);
    if cluster != operator.cluster() {
        return Err(PublishError::OtherCluster { operator: operator.cluster(), node: cluster });
    }
    let based_on = edit.based_on.as_ref().map(Spec::without_previous);
    if based_on.is_some() && based_on != current {
        return Ok(None);
    }
    if let (Some(old), Some(new)) = (&current, &spec)
        && let (Some(set), None) = (&old.later.set, &new.later.set)
    {
        warnings.push(format!(
            "it leaves the set `{set}`, by which --prune finds it; --set {set} keeps it there"
        ));
    }
    let outcome = match (&current, &spec) {
        (old, new) if old == new && !unheard.is_empty() => Outcome::Repeated(unheard),
        (_, None) => Outcome::Removed,
        (None, Some(_)) => Outcome::Created,
        (Some(old), Some(new)) if old == new => Outcome::Unchanged,
        (Some(old), Some(new)) => Outcome::Changed(differences(old, new)),
    };
    Ok(Some(Checked { draft, spec, current, found, is_good, outcome, warnings, versions }))
}

/// Uploads the bytes, unless the node has them or nothing is to be written.
async fn upload(door: &impl Door, edit: &Edit<'_>, checked: &Checked) -> Result<(), PublishError> {
    if let Some(spec) = checked.spec.as_ref().filter(|_| checked.outcome != Outcome::Unchanged) {
        for part in edit.parts {
            if !door.holds(&part.artifact.digest).await? {
                door.upload(spec.program.kind(), part).await?;
            }
        }
    }
    Ok(())
}

/// Signs and submits. `None`: another change came in between.
async fn submit(
    door: &impl Door,
    operator: &Operator,
    edit: &Edit<'_>,
    checked: Checked,
) -> Result<Option<Published>, PublishError> {
    let Checked { draft, spec, found, is_good, outcome, warnings, .. } = checked;
    let name = edit.name.clone();
    let published = Published { name, spec, outcome, warnings };
    if published.outcome == Outcome::Unchanged {
        return Ok(Some(published));
    }
    // What it may be rolled back to travels with it.
    let signed = published.spec.as_ref().map(|spec| spec.replacing(found.as_ref(), is_good));
    let change = operator.sign(edit.name, signed.as_ref(), draft)?;
    match door.submit(change).await {
        Ok(_) => Ok(Some(published)),
        Err(error) if error.is_stale() => Ok(None),
        Err(error) if error.is_refusal() => Err(error.into()),
        Err(error) => Err(PublishError::Unanswered(error)),
    }
}

#[cfg(test)]
mod tests;
