//! Images that the engine has, by the names that people give them: to find them, pull them, and
//! take their bytes out, so that other nodes need no registry.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use shoal_protocol::model::Digest;
use tokio::time::timeout;

use super::Containers;
use super::forms::Image;
use super::image;
use super::refusal::{CallError, Failure};

/// The longest silence of an export. Podman writes the whole archive into a file before it sends
/// the first byte.
const SILENCE: Duration = Duration::from_secs(300);

/// Why the engine, or a registry that it asked, does not give an image: a sentence that names it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ImageRefused(String);

impl From<Failure> for ImageRefused {
    fn from(failure: Failure) -> Self {
        ImageRefused(failure.reason)
    }
}

/// An image that the engine has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EngineImage {
    /// The engine's id of it: the same for the same bytes.
    pub id: String,
    /// The digest under which the registry of its name has it. Podman names one for images that
    /// never were in a registry, too.
    pub digest: Option<Digest>,
}

impl Containers {
    /// The image under this name, if the engine has it.
    ///
    /// # Errors
    /// The engine does not answer.
    pub async fn find_image(&self, reference: &str) -> Result<Option<EngineImage>, ImageRefused> {
        let found = image::find(&self.shared.engine, reference).await?;
        Ok(found.map(|image| EngineImage {
            digest: registry_digest(&image, reference),
            id: image.id.unwrap_or_default(),
        }))
    }

    /// Pulls an image from its registry. `progress` gets the bytes that came, and those of all
    /// layers that have begun.
    ///
    /// # Errors
    /// The registry or the engine refuses; the text names the cause.
    pub async fn pull_image(
        &self,
        reference: &str,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<(), ImageRefused> {
        let config = &self.shared.config;
        Ok(image::pull(&self.shared.engine, config, reference, progress).await?)
    }

    /// The image as an archive, as `docker save` writes it, in chunks.
    ///
    /// # Errors
    /// The engine refuses, or falls silent, also within the stream.
    pub async fn export_image(
        &self,
        reference: &str,
    ) -> Result<BoxStream<'static, Result<Bytes, ImageRefused>>, ImageRefused> {
        let name = reference.to_owned();
        let failed = move |error: CallError| {
            ImageRefused(format!("the image {name} cannot be taken out of the engine: {error}"))
        };
        let opened = timeout(SILENCE, self.shared.engine.export(reference)).await;
        let chunks = opened.unwrap_or(Err(CallError::Silent(SILENCE))).map_err(failed.clone())?;
        let chunks = futures::stream::unfold(chunks.boxed(), |mut chunks| async move {
            let next = timeout(SILENCE, chunks.next()).await;
            let next = next.unwrap_or(Some(Err(CallError::Silent(SILENCE))))?;
            Some((next, chunks))
        });
        Ok(chunks.map_err(failed).boxed())
    }
}

/// The digest of the repository of `reference` among those that the engine remembers. Images of
/// `localhost` are in no registry.
fn registry_digest(image: &Image, reference: &str) -> Option<Digest> {
    let repository = |text: &str| {
        let full = crate::images::full_name(text)?;
        let name = full.split('@').next().unwrap_or_default();
        Some(super::create::untagged(name).to_owned())
    };
    let wanted = repository(reference).filter(|name| !name.starts_with("localhost/"))?;
    let digests = image.repo_digests.iter().flatten();
    let mut fits = digests.filter(|text| repository(text).as_ref() == Some(&wanted));
    fits.next()?.rsplit_once("@sha256:")?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_of_the_named_registry_alone_counts() {
        let digest = Digest([7; 32]);
        let image = Image {
            repo_digests: Some(vec![
                format!("other.local/nginx@sha256:{}", Digest([1; 32])),
                format!("docker.io/library/nginx@sha256:{digest}"),
            ]),
            ..Image::default()
        };
        assert_eq!(registry_digest(&image, "nginx:1.27"), Some(digest));
        assert_eq!(registry_digest(&image, "registry.local:5000/nginx"), None);
        let local = Image {
            repo_digests: Some(vec![format!("localhost/hello@sha256:{digest}")]),
            ..Image::default()
        };
        assert_eq!(registry_digest(&local, "localhost/hello:1"), None, "no registry has it");
        assert_eq!(registry_digest(&Image::default(), "nginx"), None);
    }
}
