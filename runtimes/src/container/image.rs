//! The image of a container: whether the device has it, and the order to pull it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use shoal_protocol::model::spec::{Container, PullPolicy};
use tokio::time::timeout;

use super::create::{reference, untagged};
use super::engine::Engine;
use super::refusal::{CallError, Failure};
use super::shared::Shared;
use super::{Config, credentials};
use crate::logs::{Log, LogStream};

/// The longest silence of a pull: a registry behind a slow link still sends something.
const PULL_SILENCE: Duration = Duration::from_secs(300);
/// Layers whose progress is counted: more than any image has.
const MAX_LAYERS: usize = 256;

/// Bytes of a pull so far, and of all layers that have begun.
pub(super) type Progress<'a> = &'a mut (dyn FnMut(u64, u64) + Send);

/// Makes sure that the engine has the image, as the pull policy wants it, and that it is made for
/// this machine.
pub(super) async fn ready(
    shared: &Shared,
    container: &Container,
    log: &Log,
) -> Result<(), Failure> {
    let engine = &shared.engine;
    let reference = reference(container);
    // The bytes behind a digest do not change, so asking again is of no use.
    let is_pinned = reference.contains('@');
    let policy = container.image.pull;
    let present = match policy {
        PullPolicy::Always if !is_pinned => None,
        _ => find(engine, &reference).await?,
    };
    let image = match (present, policy) {
        (Some(image), _) => image,
        (None, PullPolicy::Never) => {
            let reason = format!(
                "the image {reference} is not on this device, and its pull policy is never"
            );
            return Err(Failure::passing(reason));
        }
        (None, PullPolicy::Missing | PullPolicy::Always) => {
            log.say(LogStream::System, &format!("pulling the image {reference}"));
            pull(engine, &shared.config, &reference, &mut |_, _| {}).await?;
            let pulled = find(engine, &reference).await?;
            let missing = || format!("the image {reference} is missing after it was pulled");
            pulled.ok_or_else(|| Failure::passing(missing()))?
        }
    };
    match image.architecture.filter(|machine| !machine.is_empty() && *machine != engine.machine) {
        None => Ok(()),
        Some(other) => Err(Failure::lasting(format!(
            "the image {reference} is made for {other}, and this device is {}",
            engine.machine
        ))),
    }
}

pub(super) async fn find(
    engine: &Engine,
    reference: &str,
) -> Result<Option<super::forms::Image>, Failure> {
    match engine.image(reference).await {
        Ok(image) => Ok(Some(image)),
        Err(CallError::Refused { status: 404, .. }) => Ok(None),
        Err(error) => Err(Failure::passing(format!(
            "{} cannot look for the image {reference}: {error}",
            engine.name()
        ))),
    }
}

/// Pulls an image, with the credentials that this device has for its registry. The stream is read
/// to its end, since Podman reports a failure inside it.
pub(super) async fn pull(
    engine: &Engine,
    config: &Config,
    reference: &str,
    progress: Progress<'_>,
) -> Result<(), Failure> {
    let named = if reference.contains('@') || untagged(reference) != reference {
        reference.to_owned()
    } else {
        // Docker pulls all tags without one.
        format!("{reference}:latest")
    };
    let failed = |reason: String| {
        Failure::passing(format!("the image {reference} cannot be pulled: {reason}"))
    };
    let files = match &config.credentials {
        Some(file) => vec![file.clone()],
        None => credentials::files(|name| std::env::var_os(name)),
    };
    let login = credentials::find(&files, reference).map_err(failed)?;
    let told = engine.pull(&named, login.as_ref()).await;
    let mut told = std::pin::pin!(told.map_err(|error| failed(error.to_string()))?);
    let mut layers: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    loop {
        let info = match timeout(PULL_SILENCE, told.next()).await {
            Ok(Some(Ok(info))) => info,
            Ok(Some(Err(error))) => return Err(failed(error.to_string())),
            Ok(None) => return Ok(()),
            Err(_) => return Err(failed(format!("nothing came for {PULL_SILENCE:?}"))),
        };
        if let Some(why) = info.failure() {
            return Err(failed(why));
        }
        // A layer is downloaded, then unpacked: only the first counts.
        let is_coming = info.status.as_deref() == Some("Downloading");
        if let (Some(id), Some(detail), true) = (info.id, info.progress_detail, is_coming)
            && let (Some(now), Some(all)) = (detail.current, detail.total)
            && (layers.len() < MAX_LAYERS || layers.contains_key(&id))
        {
            layers.insert(id, (now, all));
            let sum = |of: fn(&(u64, u64)) -> u64| layers.values().map(of).sum();
            progress(sum(|it| it.0), sum(|it| it.1));
        }
    }
}
