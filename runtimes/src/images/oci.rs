//! OCI layouts: `podman save --format oci-archive`, `skopeo copy`, BuildKit, and `docker save`
//! since Docker 25.
//!
//! ```text
//! index.json               descriptors of manifests and of further indexes
//! blobs/sha256/<digest>    indexes, manifests, configurations, layers
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;
use shoal_protocol::model::Digest;

use super::config::{self, FoundConfig, MAX_LAYERS};
use super::error::ImageFault;
use super::source::{Hashed, Place, Seen, Source, json};
use super::{FoundImage, FoundPlatform, MAX_IMAGES};

pub(super) const INDEX: &str = "index.json";
/// Indexes within one another.
const MAX_DEPTH: usize = 4;
/// Manifests and indexes of one file.
const MAX_MANIFESTS: usize = 1_024;

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Clone, Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
}

/// An index, or a manifest of an image.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
}

impl Descriptor {
    /// Refuses a layer that cannot be used.
    pub fn check_layer(&self) -> Result<(), ImageFault> {
        let media_type = self.media_type.clone();
        if media_type.contains("nondistributable") || media_type.contains(".foreign.") {
            return Err(ImageFault::Foreign(media_type));
        }
        if media_type.ends_with("+encrypted") {
            return Err(ImageFault::Encrypted(media_type));
        }
        let oci = media_type.strip_prefix("application/vnd.oci.image.layer.v1.");
        let docker = media_type.strip_prefix("application/vnd.docker.image.rootfs.diff.");
        match oci.or(docker) {
            Some("tar" | "tar+gzip" | "tar+zstd" | "tar.gzip" | "tar.zstd") => Ok(()),
            _ => Err(ImageFault::MediaType { what: "a layer", media_type }),
        }
    }

    fn annotation(&self, key: &str) -> Option<&String> {
        self.annotations.as_ref()?.get(key)
    }

    /// A statement about another manifest, with which BuildKit accompanies each.
    fn is_attestation(&self) -> bool {
        let is_unknown = |it: &Platform| it.os == "unknown" && it.architecture == "unknown";
        self.annotation("vnd.docker.reference.type").is_some()
            || self.platform.as_ref().is_some_and(is_unknown)
    }

    /// The name that a builder gave to the image; only its tag, by some.
    fn reference(&self) -> Option<&String> {
        let full = self.annotation("io.containerd.image.name");
        full.or(self.annotation("org.opencontainers.image.ref.name"))
    }
}

struct Reader<'a> {
    source: &'a Source,
    seen: &'a mut Seen,
    /// Platforms that manifest.json describes too, by their configurations.
    known: &'a [FoundImage],
    manifests: usize,
    /// Why a manifest of the file was left out, the first one.
    left_out: Option<ImageFault>,
}

/// Reads the images of index.json. A platform in `known` is taken from there: the manifests that
/// Docker 25.0 writes into its archives name no layers.
pub(super) fn read(
    source: &Source,
    known: &[FoundImage],
    seen: &mut Seen,
) -> Result<Vec<FoundImage>, ImageFault> {
    let bytes = source.get(INDEX, "the layout")?.read(INDEX)?;
    let index: Index = json(INDEX, &bytes)?;
    let mut reader = Reader { source, seen, known, manifests: 0, left_out: None };
    let mut images: Vec<FoundImage> = Vec::new();
    for descriptor in index.manifests.unwrap_or_default() {
        let references: Vec<String> = descriptor.reference().cloned().into_iter().collect();
        let digest = config::digest(&descriptor.digest)?;
        if let Some(image) = images.iter_mut().find(|it| it.digest == Some(digest)) {
            image.references.extend(references);
            continue;
        }
        let mut platforms = Vec::new();
        reader.add(&descriptor, INDEX, 0, &mut platforms)?;
        if images.len() == MAX_IMAGES {
            return Err(ImageFault::TooMany { what: "images", most: MAX_IMAGES });
        }
        if !platforms.is_empty() {
            images.push(FoundImage { references, digest: Some(digest), platforms });
        }
    }
    match (images.is_empty() && known.is_empty(), reader.left_out) {
        (true, why) => Err(why.unwrap_or(ImageFault::NoImages)),
        _ => Ok(images),
    }
}

impl Reader<'_> {
    /// Adds the platforms of a manifest or an index. Leaves out what is not for linux, no image, or
    /// not in the file: an index may name more platforms than were saved.
    fn add(
        &mut self,
        descriptor: &Descriptor,
        by: &str,
        depth: usize,
        platforms: &mut Vec<FoundPlatform>,
    ) -> Result<(), ImageFault> {
        self.manifests += 1;
        if self.manifests > MAX_MANIFESTS {
            return Err(ImageFault::TooMany { what: "manifests", most: MAX_MANIFESTS });
        }
        if descriptor.is_attestation() {
            return Ok(());
        }
        let os = descriptor.platform.as_ref().map_or("", |it| &it.os);
        if !matches!(os, "" | "linux") {
            return self.leave_out(ImageFault::Os(os.to_owned()));
        }
        if !is_manifest(&descriptor.media_type) {
            let media_type = descriptor.media_type.clone();
            return self.leave_out(ImageFault::MediaType { what: "a manifest", media_type });
        }
        let (name, place) = match self.blob(descriptor, by) {
            Err(missing @ ImageFault::Missing { .. }) => return self.leave_out(missing),
            found => found?,
        };
        let bytes = place.read(&name)?;
        check_digest(&name, descriptor, Digest::of(&bytes))?;
        let manifest: Manifest = json(&name, &bytes)?;
        if let Some(children) = manifest.manifests {
            if depth == MAX_DEPTH {
                return Err(ImageFault::TooMany { what: "indexes in indexes", most: MAX_DEPTH });
            }
            return children.iter().try_for_each(|it| self.add(it, &name, depth + 1, platforms));
        }
        let layers = manifest.layers.unwrap_or_default();
        match manifest.config {
            Some(config) if is_config(&config.media_type) => {
                match self.platform(&name, config, layers) {
                    Err(os @ ImageFault::Os(_)) => return self.leave_out(os),
                    platform => platforms.push(platform?),
                }
            }
            Some(Descriptor { media_type, .. }) => {
                return self
                    .leave_out(ImageFault::MediaType { what: "a configuration", media_type });
            }
            None => {
                let why = "is a manifest without a configuration".into();
                return Err(ImageFault::Damaged { name, why });
            }
        }
        Ok(())
    }

    fn platform(
        &mut self,
        by: &str,
        config: Descriptor,
        layers: Vec<Descriptor>,
    ) -> Result<FoundPlatform, ImageFault> {
        let digest = config::digest(&config.digest)?;
        let known = self.known.iter().flat_map(|it| &it.platforms);
        if let Some(platform) = known.into_iter().find(|it| it.image.config.digest == digest) {
            return Ok(platform.clone());
        }
        if layers.len() > MAX_LAYERS {
            return Err(ImageFault::TooMany { what: "layers", most: MAX_LAYERS });
        }
        layers.iter().try_for_each(Descriptor::check_layer)?;
        let (name, place) = self.blob(&config, by)?;
        let bytes = place.read(&name)?;
        check_digest(&name, &config, Digest::of(&bytes))?;
        let layers = layers.iter().map(|it| self.layer(it, by)).collect::<Result<_, _>>()?;
        FoundConfig { name, place, bytes, digest }.platform(layers)
    }

    fn layer(
        &mut self,
        layer: &Descriptor,
        by: &str,
    ) -> Result<(String, Place, Hashed), ImageFault> {
        let (name, _) = self.blob(layer, by)?;
        let (place, hashed) = self.source.hash(&name, by, false, self.seen)?;
        check_digest(&name, layer, hashed.digest)?;
        Ok((name, place, hashed))
    }

    /// The place of a blob, which has the length that its descriptor says.
    fn blob(&self, blob: &Descriptor, by: &str) -> Result<(String, Place), ImageFault> {
        let name = format!("blobs/sha256/{}", config::digest(&blob.digest)?);
        let place = self.source.get(&name, by)?;
        let (expected, found) = (blob.size, place.size());
        match expected == found {
            true => Ok((name, place)),
            false => Err(ImageFault::Size { name, expected, found }),
        }
    }

    fn leave_out(&mut self, why: ImageFault) -> Result<(), ImageFault> {
        self.left_out.get_or_insert(why);
        Ok(())
    }
}

fn check_digest(name: &str, blob: &Descriptor, found: Digest) -> Result<(), ImageFault> {
    let expected = config::digest(&blob.digest)?;
    match expected == found {
        true => Ok(()),
        false => Err(ImageFault::Digest { name: name.to_owned(), expected, found }),
    }
}

/// Whether this is the type of an index or of a manifest; some layouts do not say it.
fn is_manifest(media_type: &str) -> bool {
    matches!(
        media_type,
        "" | "application/vnd.oci.image.index.v1+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json"
            | "application/vnd.oci.image.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v2+json"
    )
}

fn is_config(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/vnd.oci.image.config.v1+json"
            | "application/vnd.docker.container.image.v1+json"
    )
}
