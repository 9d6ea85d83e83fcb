//! Docker archives: `docker save`, `podman save`, and what other builders write for `docker load`.
//!
//! ```text
//! manifest.json            [{"Config": .., "RepoTags": [..], "Layers": [..]}, ..]
//! <digest>.json            a configuration; `blobs/sha256/<digest>` since Docker 25
//! <id>/layer.tar           a layer, or a link to the same one of another image; `<digest>.tar`
//!                          by podman, `blobs/sha256/<digest>` since Docker 25
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;
use shoal_protocol::model::Digest;

use super::config::{FoundConfig, MAX_LAYERS};
use super::error::ImageFault;
use super::oci::Descriptor;
use super::source::{Seen, Source, json};
use super::{FoundImage, FoundPlatform, MAX_IMAGES};

pub(super) const MANIFEST: &str = "manifest.json";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
    /// Descriptors of layers that the archive may lack.
    #[serde(default)]
    layer_sources: Option<BTreeMap<String, Descriptor>>,
}

pub(super) fn read(source: &Source, seen: &mut Seen) -> Result<Vec<FoundImage>, ImageFault> {
    let bytes = source.get(MANIFEST, "the archive")?.read(MANIFEST)?;
    let entries: Vec<Entry> = json(MANIFEST, &bytes)?;
    if entries.len() > MAX_IMAGES {
        return Err(ImageFault::TooMany { what: "images", most: MAX_IMAGES });
    }
    let image = |entry: Entry| {
        let references = entry.repo_tags.clone().unwrap_or_default();
        let platforms = vec![platform(source, entry, seen)?];
        Ok(FoundImage { references, digest: None, platforms })
    };
    entries.into_iter().map(image).collect()
}

fn platform(source: &Source, entry: Entry, seen: &mut Seen) -> Result<FoundPlatform, ImageFault> {
    let name = entry.config;
    let place = source.get(&name, MANIFEST)?;
    let bytes = place.read(&name)?;
    let digest = Digest::of(&bytes);
    if let Some(expected) = digest_in(&name).filter(|it| *it != digest) {
        return Err(ImageFault::Digest { name, expected, found: digest });
    }
    for layer in entry.layer_sources.iter().flat_map(BTreeMap::values) {
        layer.check_layer()?;
    }
    let names = entry.layers.unwrap_or_default();
    if names.len() > MAX_LAYERS {
        return Err(ImageFault::TooMany { what: "layers", most: MAX_LAYERS });
    }
    let mut layers = Vec::new();
    for name in names {
        // A name that is the digest vouches for the bytes; else what they unpack to does, by the
        // configuration. Some builders name compressed layers by their unpacked bytes.
        let by_name = digest_in(&name);
        let mut found = source.hash(&name, MANIFEST, by_name.is_none(), seen)?;
        if by_name.is_some_and(|it| it != found.1.digest) {
            found = source.hash(&name, MANIFEST, true, seen)?;
        }
        let (place, hashed) = found;
        layers.push((name, place, hashed));
    }
    FoundConfig { name, place, bytes, digest }.platform(layers)
}

/// The digest that is the file's name: `blobs/sha256/<digits>`, `<digits>.json`, `<digits>.tar`,
/// `sha256:<digits>`.
fn digest_in(name: &str) -> Option<Digest> {
    let file = name.rsplit_once('/').map_or(name, |(_, file)| file);
    let file = file.strip_prefix("sha256:").unwrap_or(file);
    let digits = file.split_once('.').map_or(file, |(digits, _)| digits);
    digits.parse().ok()
}
