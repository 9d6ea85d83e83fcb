//! An image from its parts in the artifact store, given to the engine without a registry.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};

use bytes::Bytes;
use futures::StreamExt;
use shoal_protocol::model::Digest;
use shoal_protocol::model::spec::{Image, PlatformImage};
use tokio::sync::mpsc;

use super::refusal::Failure;
use super::shared::Shared;
use crate::files::Sending;
use crate::images;

/// Chunks that wait for the engine.
const AHEAD: usize = 4;

/// The image of this machine among the platforms of `image`; none if the engine provides it.
///
/// # Errors
/// It has parts, none for this machine, and no registry has it.
pub(super) fn platform(image: &Image) -> Result<Option<&PlatformImage>, Failure> {
    let arch = std::env::consts::ARCH;
    match image.parts_on(arch) {
        Some(platform) => Ok(Some(platform)),
        None if image.comes_from_engine_on(arch) => Ok(None),
        None => {
            Err(Failure::lasting(format!("the image {} has no part for {arch}", image.reference)))
        }
    }
}

/// The name under which the engine keeps an image that came from its parts.
pub(super) fn name(platform: &PlatformImage) -> String {
    format!("localhost/shoal:{}", platform.config.digest)
}

/// Gives the engine an image, unless it has it. `begins` is called before it is loaded.
pub(super) async fn ready(
    shared: &Shared,
    image: &Image,
    platform: &PlatformImage,
    begins: impl FnOnce(),
) -> Result<(), Failure> {
    let (engine, name) = (&shared.engine, name(platform));
    if super::image::find(engine, &name).await?.is_some() {
        return Ok(());
    }
    let store = shared.config.artifacts.as_ref();
    let store = store.ok_or_else(|| Failure::lasting("this adapter has no artifact store"))?;
    let _one_at_a_time = shared.loaded.loads.acquire().await;
    // Loaded meanwhile, for another instance or ahead of its need.
    if super::image::find(engine, &name).await?.is_some() {
        return Ok(());
    }
    begins();
    let failed = |reason: String| {
        let reference = &image.reference;
        Failure::passing(format!("the image {reference} cannot be loaded: {reason}"))
    };
    // Held open, so that the parts are neither evicted nor removed meanwhile.
    let mut parts = BTreeMap::new();
    for part in platform.layers.iter().chain([&platform.config]) {
        let open =
            store.open_artifact(&part.digest).await.map_err(|error| failed(error.to_string()))?;
        parts.insert(part.digest, open);
    }
    let (sender, mut chunks) = mpsc::channel::<io::Result<Bytes>>(AHEAD);
    let (named, platform) = (name.clone(), platform.clone());
    let writing = tokio::task::spawn_blocking(move || {
        let open = |digest: &Digest| match parts.get(digest) {
            Some(part) => File::open(&part.path),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        let mut out = Sending::new(sender.clone());
        let written = images::write_archive(&mut out, &named, &platform, open);
        match written
            .map_err(|error| error.to_string())
            .and_then(|()| out.flush().map_err(|error| error.to_string()))
        {
            Ok(()) => Ok(()),
            Err(error) => {
                // Without an end the engine discards what has come.
                let _ = sender.blocking_send(Err(io::Error::other(error.clone())));
                Err(error)
            }
        }
    });
    let body = futures::stream::poll_fn(move |cx| chunks.poll_recv(cx));
    let loaded = engine.load(body.boxed()).await;
    let written = writing.await.unwrap_or_else(|error| Err(error.to_string()));
    // The engine's refusal explains why the writer could not go on.
    loaded.map_err(|error| failed(error.to_string()))?;
    written.map_err(failed)?;
    match super::image::find(engine, &name).await? {
        Some(_) => Ok(()),
        None => Err(failed("the engine does not show it afterwards".into())),
    }
}
