//! The image of a container: whether the device has it, and the order to pull it.

use std::time::Duration;

use bollard::query_parameters::CreateImageOptionsBuilder;
use futures::StreamExt;
use shoal_protocol::model::spec::{Container, PullPolicy};
use tokio::time::timeout;

use super::create::{reference, untagged};
use super::engine::Engine;
use super::refusal::{CallError, Failure};
use crate::logs::{Log, LogStream};

/// The longest silence of a pull: a registry behind a slow link still sends something.
const PULL_SILENCE: Duration = Duration::from_secs(300);

/// Makes sure that the engine has the image, as the pull policy wants it, and that it is made for
/// this machine.
pub(super) async fn ready(
    engine: &Engine,
    container: &Container,
    log: &Log,
) -> Result<(), Failure> {
    let reference = reference(container);
    let policy = container.image.pull;
    let present =
        if policy == PullPolicy::Always { None } else { find(engine, &reference).await? };
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
            pull(engine, &reference).await?;
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

/// Pulls an image. The stream is read to its end, since Podman reports a failure inside it.
async fn pull(engine: &Engine, reference: &str) -> Result<(), Failure> {
    let named = if reference.contains('@') || untagged(reference) != reference {
        reference.to_owned()
    } else {
        // Docker pulls all tags without one.
        format!("{reference}:latest")
    };
    let failed = |reason: String| {
        Failure::passing(format!("the image {reference} cannot be pulled: {reason}"))
    };
    let options = CreateImageOptionsBuilder::new().from_image(&named).build();
    let mut progress = engine.docker().create_image(Some(options), None, None);
    loop {
        match timeout(PULL_SILENCE, progress.next()).await {
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(error))) => return Err(failed(CallError::from(error).to_string())),
            Ok(None) => return Ok(()),
            Err(_) => return Err(failed(format!("nothing came for {PULL_SILENCE:?}"))),
        }
    }
}
