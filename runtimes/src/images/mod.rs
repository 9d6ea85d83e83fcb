//! Container images as files: read into content-addressed parts, and written as an archive that an
//! engine loads.
//!
//! ```text
//!  docker archive, OCI layout            the artifact store             an engine's `load`
//!  (a tar, plain, gzip or zstd;              ^      |                          ^
//!  a folder)                                 |      v                          |
//!      |          +--------+  FoundImage  parts by their digests  +---------------+
//!      +--------> |  read  | -----------> + PlatformImage ------> | write_archive |
//!                 +--------+   pick                               +---------------+
//! ```
//!
//! **No image is ever in memory, and no byte of it is believed.** Layers are streamed in both
//! directions; only manifests and configurations, of 4 MiB at most, are read whole. Each part is
//! hashed once and compared with what the image says about it. Whoever keeps a part compares it
//! with its digest again: the file may change between [`read`] and [`Part::open`].
//!
//! All of it blocks: call it on a thread that may.
//!
//! Modules import only what stands to their left (types of this module aside):
//!
//! ```text
//! error <- tarfile <- packing <- pieces, source, open <- config <- oci <- docker; names; write
//! ```

mod config;
mod docker;
mod error;
pub(crate) mod fuzzing;
mod names;
mod oci;
mod open;
mod packing;
mod pieces;
mod source;
mod tarfile;
#[cfg(test)]
mod tests;
mod write;

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::Path;

use shoal_protocol::model::Digest;
use shoal_protocol::model::spec::{Artifact, PlatformImage};

pub use config::exposed_ports;
pub use error::{ImageError, ImageFault, PickError, WriteError};
pub use names::{full_name, pick};
pub use packing::needs_unpacking;
pub use source::PartReader;
pub use write::write_archive;

/// Images of one file.
const MAX_IMAGES: usize = 256;

/// An image that a file holds.
#[derive(Clone, Debug)]
pub struct FoundImage {
    /// Its names as the file says them; none for an image without a tag. An OCI layout may name
    /// only the tag.
    pub references: Vec<String>,
    /// The digest of its manifest or index in an OCI layout.
    pub digest: Option<Digest>,
    /// The image on each platform, at least one.
    pub platforms: Vec<FoundPlatform>,
}

/// An image on one platform.
#[derive(Clone, Debug)]
pub struct FoundPlatform {
    /// Its parts by their digests, as a spec names them.
    pub image: PlatformImage,
    /// Always `linux` so far.
    pub os: String,
    /// The version of the architecture, as in `v7`.
    pub variant: Option<String>,
    /// The TCP ports that it exposes.
    pub exposed: BTreeSet<u16>,
    /// The list of pieces, the configuration and the layers, each once.
    pub parts: Vec<Part>,
}

/// A part of an image, and where its bytes are. Keeps the file open, and an unpacked one on disk.
#[derive(Clone, Debug)]
pub struct Part {
    /// The digest and size of the bytes.
    pub artifact: Artifact,
    place: source::Place,
}

impl Part {
    /// Reads the part from its beginning.
    ///
    /// # Errors
    /// The file of a folder cannot be opened any more.
    pub fn open(&self) -> io::Result<PartReader> {
        self.place.open()
    }
}

impl FoundImage {
    /// One platform for each architecture, as a spec needs it: of several variants the oldest,
    /// which runs on all machines of the architecture.
    pub fn one_per_arch(&self) -> Vec<&FoundPlatform> {
        let mut platforms: Vec<&FoundPlatform> = self.platforms.iter().collect();
        platforms.sort_by_key(|it| (&it.image.arch, Reverse(it.variant.is_none()), &it.variant));
        platforms.dedup_by(|later, first| later.image.arch == first.image.arch);
        platforms
    }
}

/// The names and machines, for lists in messages: `redis:7 (aarch64, x86_64)`.
impl fmt::Display for FoundImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.references[..], self.digest) {
            ([], None) => f.write_str("one without a name")?,
            ([], Some(digest)) => write!(f, "one without a name, sha256:{digest}")?,
            (names, _) => f.write_str(&error::printable(&names.join(" = ")))?,
        }
        let machine = |it: &FoundPlatform| match &it.variant {
            Some(variant) => format!("{}/{variant}", it.image.arch),
            None => it.image.arch.clone(),
        };
        let machines: Vec<String> = self.platforms.iter().map(machine).collect();
        write!(f, " ({})", error::printable(&machines.join(", ")))
    }
}

/// Reads the images of a docker archive, or of an OCI layout in a tar or a folder. A compressed tar
/// is unpacked into a file in the folder `temp`, which has no name and vanishes with the last of
/// its parts.
///
/// # Errors
/// The file is no image, is damaged, or holds nothing that can run here: see [`ImageFault`].
pub fn read(path: &Path, temp: &Path) -> Result<Vec<FoundImage>, ImageError> {
    read_images(path, temp).map_err(|fault| ImageError { path: path.to_owned(), fault })
}

fn read_images(path: &Path, temp: &Path) -> Result<Vec<FoundImage>, ImageFault> {
    let source = open::open(path, temp)?;
    let mut seen = source::Seen::new();
    let is_docker = source.find(docker::MANIFEST, "the reader")?.is_some();
    let is_oci = source.find(oci::INDEX, "the reader")?.is_some();
    if matches!(source, source::Source::Folder(_)) && !is_oci {
        let is_dir = is_docker && source.find("version", "the reader")?.is_some();
        return Err(if is_dir { ImageFault::DirFormat } else { ImageFault::NotAnImage });
    }
    let images = match (is_docker, is_oci) {
        (false, false) => return Err(ImageFault::NotAnImage),
        (true, false) => docker::read(&source, &mut seen)?,
        (false, true) => oci::read(&source, &[], &mut seen)?,
        (true, true) => {
            let docker = docker::read(&source, &mut seen)?;
            let oci = oci::read(&source, &docker, &mut seen)?;
            unite(oci, docker)
        }
    };
    match merge(images) {
        images if images.is_empty() => Err(ImageFault::NoImages),
        images => Ok(images),
    }
}

/// The images of an OCI layout with the names that manifest.json has for them, and those that only
/// manifest.json names.
fn unite(mut images: Vec<FoundImage>, docker: Vec<FoundImage>) -> Vec<FoundImage> {
    for other in docker {
        let config = other.platforms.first().map(|it| it.image.config);
        let is_it = |image: &&mut FoundImage| {
            image.platforms.iter().any(|it| Some(it.image.config) == config)
        };
        let Some(image) = images.iter_mut().find(is_it) else {
            images.push(other);
            continue;
        };
        for reference in other.references {
            if !image.references.iter().any(|it| names::is_same(it, &reference)) {
                image.references.push(reference);
            }
        }
    }
    images
}

/// Makes one image of those that have the same names and different machines: some builders put the
/// manifests of all platforms side by side.
fn merge(images: Vec<FoundImage>) -> Vec<FoundImage> {
    let mut merged: Vec<FoundImage> = Vec::new();
    for image in images {
        let machine = |it: &FoundPlatform| (it.image.arch.clone(), it.variant.clone());
        let is_other =
            |it: &FoundPlatform| image.platforms.iter().all(|own| machine(own) != machine(it));
        let is_same = |it: &&mut FoundImage| {
            it.references == image.references && it.platforms.iter().all(is_other)
        };
        match merged.iter_mut().find(is_same) {
            Some(first) => {
                first.digest = None;
                first.platforms.extend(image.platforms);
            }
            None => merged.push(image),
        }
    }
    merged
}
