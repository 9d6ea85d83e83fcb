//! An image's configuration, and the platform that it and its layers make.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use shoal_protocol::model::Digest;
use shoal_protocol::model::spec::{Artifact, MAX_EXPOSED, PlatformImage};

use super::error::ImageFault;
use super::source::{Hashed, Place, json};
use super::{FoundPlatform, Part};

/// Layers of one image: the engines take no more.
pub(super) const MAX_LAYERS: usize = 127;

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    variant: Option<String>,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

/// A configuration, and where it is.
pub(super) struct FoundConfig {
    pub name: String,
    pub place: Place,
    pub bytes: Vec<u8>,
    pub digest: Digest,
}

impl FoundConfig {
    /// Checks that the layers fit the configuration. `layers` are their names, places and hashes.
    pub fn platform(
        self,
        layers: Vec<(String, Place, Hashed)>,
    ) -> Result<FoundPlatform, ImageFault> {
        let config: Config = json(&self.name, &self.bytes)?;
        let os = match config.os.as_str() {
            "" => "linux", // as docker reads it
            os => os,
        };
        if os != "linux" {
            return Err(ImageFault::Os(os.to_owned()));
        }
        if config.architecture.is_empty() {
            return Err(ImageFault::NoArch(self.name));
        }
        let diff_ids = config.rootfs.diff_ids.unwrap_or_default();
        if diff_ids.len() != layers.len() {
            let (manifest, config) = (layers.len(), diff_ids.len());
            return Err(ImageFault::LayerCount { manifest, config });
        }
        for ((name, _, hashed), diff_id) in layers.iter().zip(&diff_ids) {
            check_layer(name, hashed, diff_id)?;
        }
        let artifact = |digest, place: &Place| Artifact { digest, size: place.size() };
        let mut image = PlatformImage {
            arch: arch(&config.architecture).to_owned(),
            config: artifact(self.digest, &self.place),
            layers: layers.iter().map(|(_, place, it)| artifact(it.digest, place)).collect(),
            pieces: None,
        };
        let list: Vec<u8> =
            layers.iter().flat_map(|(_, _, it)| &it.pieces).flat_map(|it| it.0).collect();
        let list = Place::Memory(list.into());
        let mut parts = vec![Part { artifact: image.config, place: self.place }];
        if let Place::Memory(bytes) = &list
            && !bytes.is_empty()
        {
            let pieces = artifact(Digest::of(bytes), &list);
            image.pieces = Some(pieces);
            parts.push(Part { artifact: pieces, place: list });
        }
        for ((_, place, _), artifact) in layers.into_iter().zip(&image.layers) {
            if parts.iter().all(|part| part.artifact.digest != artifact.digest) {
                parts.push(Part { artifact: *artifact, place });
            }
        }
        let variant = config.variant.filter(|it| !it.is_empty());
        let exposed = exposed_ports(&self.bytes);
        Ok(FoundPlatform { image, os: os.to_owned(), variant, parts, exposed })
    }
}

#[derive(Deserialize)]
struct Exposing {
    #[serde(default)]
    config: Option<Exposed>,
}

#[derive(Deserialize)]
struct Exposed {
    #[serde(default, rename = "ExposedPorts")]
    ports: Option<BTreeMap<String, serde_json::Value>>,
}

/// The TCP ports that an image's configuration names with `EXPOSE`, the least 32 of them; none for
/// what is no configuration.
pub fn exposed_ports(config: &[u8]) -> BTreeSet<u16> {
    let Ok(Exposing { config }) = serde_json::from_slice(config) else { return BTreeSet::new() };
    let named = config.and_then(|it| it.ports).unwrap_or_default();
    let mut ports = BTreeSet::new();
    for text in named.keys() {
        let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        if let (true, Ok(first), Ok(last)) = (protocol == "tcp", first.parse(), last.parse()) {
            ports.extend((first..=last).filter(|port: &u16| *port != 0).take(MAX_EXPOSED));
        }
    }
    ports.into_iter().take(MAX_EXPOSED).collect()
}

fn check_layer(name: &str, hashed: &Hashed, diff_id: &str) -> Result<(), ImageFault> {
    if hashed.packing.is_none() {
        return Err(ImageFault::LayerFormat(name.to_owned()));
    }
    let expected = digest(diff_id)?;
    match hashed.unpacked {
        Some(found) if found != expected => {
            let name = format!("the unpacked {name}");
            Err(ImageFault::Digest { name, expected, found })
        }
        _ => Ok(()),
    }
}

/// The digest that `sha256:<digits>` stands for.
pub(super) fn digest(text: &str) -> Result<Digest, ImageFault> {
    let wrong = || ImageFault::Algorithm(text.chars().take(200).collect());
    text.strip_prefix("sha256:").and_then(|it| it.parse().ok()).ok_or_else(wrong)
}

/// Rust's name of a machine that images name as Go does. Go's own where Rust has none.
fn arch(go: &str) -> &str {
    match go {
        "amd64" => "x86_64",
        "386" => "x86",
        "arm64" => "aarch64",
        "ppc64le" => "powerpc64",
        "loong64" => "loongarch64",
        same => same, // arm, riscv64, s390x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_ports_are_read_and_nothing_else() {
        let of = |ports: &str| {
            let config = format!(r#"{{"config":{{"ExposedPorts":{ports}}}}}"#);
            exposed_ports(config.as_bytes()).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(of(r#"{"5432/tcp":{},"53/udp":{},"80":{},"0/tcp":{},"x/tcp":{}}"#), [80, 5432]);
        assert_eq!(of(r#"{"8000-8002/tcp":{}}"#), [8000, 8001, 8002]);
        assert_eq!(of(r#"{"1-65535/tcp":{}}"#).len(), MAX_EXPOSED);
        assert!(of("null").is_empty() && exposed_ports(b"{}").is_empty());
        assert!(exposed_ports(b"no JSON").is_empty());
    }
}
