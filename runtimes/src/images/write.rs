//! Writes a docker archive, which both Docker and Podman load.
//!
//! The archive is plain, because Podman 4.3 does not load one in gzip. Layers stay as they are,
//! except those in zstd, which Docker 20.10 does not read. Names are digests: `<digest>.json`, and
//! for each layer `<digest>.tar`.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};

use shoal_protocol::model::Digest;
use shoal_protocol::model::spec::{Artifact, PlatformImage};
use tar::{Builder, Header};

use super::error::WriteError;
use super::names::Name;
use super::packing::{Packing, head, needs_unpacking};
use super::source::drain;

/// Writes the archive of an image under the name `reference`, as in `localhost/app:1`. `open` reads
/// a part from its beginning; it is called again for a layer in zstd, whose unpacked size comes
/// before its bytes. The engine compares the layers with the configuration.
///
/// # Errors
/// A part cannot be read or has other bytes, or the archive cannot be written. What was written is
/// incomplete: an engine that was to load it must not see a regular end of the request.
pub fn write_archive<R: Read>(
    out: impl Write,
    reference: &str,
    image: &PlatformImage,
    mut open: impl FnMut(&Digest) -> io::Result<R>,
) -> Result<(), WriteError> {
    let tag = tag(reference).ok_or_else(|| WriteError::Reference(reference.to_owned()))?;
    let layer_name = |layer: &Artifact| format!("{}.tar", layer.digest);
    let config_name = format!("{}.json", image.config.digest);
    let manifest = serde_json::json!([{
        "Config": config_name,
        "RepoTags": [tag],
        "Layers": image.layers.iter().map(layer_name).collect::<Vec<_>>(),
    }]);
    let config = read_config(&image.config, &mut open)?;

    let mut archive = Builder::new(out);
    let manifest = manifest.to_string();
    append(&mut archive, "manifest.json", manifest.len() as u64, manifest.as_bytes())?;
    append(&mut archive, &config_name, image.config.size, &config[..])?;
    let mut written = BTreeSet::new();
    for layer in &image.layers {
        if written.insert(layer.digest) {
            append_layer(&mut archive, &layer_name(layer), layer, &mut open)?;
        }
    }
    let mut out = archive.into_inner().map_err(WriteError::Out)?;
    out.flush().map_err(WriteError::Out)
}

/// The reference with its tag; none if it is not a name that can be one.
fn tag(reference: &str) -> Option<String> {
    let name = Name::parse(reference).filter(|name| name.digest.is_none())?;
    let has_tag = reference.rsplit_once('/').map_or(reference, |it| it.1).contains(':');
    match (has_tag, name.tag) {
        (false, Some(tag)) => Some(format!("{reference}:{tag}")),
        _ => Some(reference.to_owned()),
    }
}

/// The whole configuration, checked: its digest is the id by which the image is found afterwards.
fn read_config<R: Read>(
    config: &Artifact,
    open: &mut impl FnMut(&Digest) -> io::Result<R>,
) -> Result<Vec<u8>, WriteError> {
    let Artifact { digest, size } = *config;
    let mut bytes = Vec::new();
    let most = size.min(super::source::MAX_JSON) + 1;
    let read = open(&digest).and_then(|it| it.take(most).read_to_end(&mut bytes));
    read.map_err(|source| WriteError::Part { digest, source })?;
    if bytes.len() as u64 != size {
        return Err(WriteError::Size { digest, expected: size, found: bytes.len() as u64 });
    }
    match Digest::of(&bytes) {
        found if found != digest => Err(WriteError::Config { expected: digest, found }),
        _ => Ok(bytes),
    }
}

fn append_layer<R: Read>(
    archive: &mut Builder<impl Write>,
    name: &str,
    layer: &Artifact,
    open: &mut impl FnMut(&Digest) -> io::Result<R>,
) -> Result<(), WriteError> {
    let Artifact { digest, size } = *layer;
    let wrong = |source| WriteError::Part { digest, source };
    let mut reader = open(&digest).map_err(wrong)?;
    let head = head(&mut reader).map_err(wrong)?;
    let whole = io::Cursor::new(&head).chain(reader);
    let (size, reader): (u64, Box<dyn Read + '_>) = match needs_unpacking(&head) {
        false => (size, Box::new(whole)),
        true => {
            let size = drain(&mut Packing::Zstd.unpack(whole)).map_err(wrong)?;
            (size, Packing::Zstd.unpack(open(&digest).map_err(wrong)?))
        }
    };
    let mut exact = Exact { reader, left: size, failed: None };
    match append(archive, name, size, &mut exact) {
        Err(_) if let Some(source) = exact.failed.take() => Err(wrong(source)),
        Err(error) => Err(error),
        Ok(()) if exact.left > 0 => {
            Err(WriteError::Size { digest, expected: size, found: size - exact.left })
        }
        Ok(()) => match exact.has_more().map_err(wrong)? {
            true => Err(WriteError::Size { digest, expected: size, found: size + 1 }),
            false => Ok(()),
        },
    }
}

fn append(
    archive: &mut Builder<impl Write>,
    name: &str,
    size: u64,
    reader: impl Read,
) -> Result<(), WriteError> {
    let mut header = Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    archive.append_data(&mut header, name, reader).map_err(WriteError::Out)
}

/// The bytes that a header announced and no more, and the error of the source, which would be taken
/// for one of the archive.
struct Exact<R> {
    reader: R,
    left: u64,
    failed: Option<io::Error>,
}

impl<R: Read> Exact<R> {
    fn has_more(&mut self) -> io::Result<bool> {
        Ok(drain(&mut (&mut self.reader).take(1))? > 0)
    }
}

impl<R: Read> Read for Exact<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (&mut self.reader).take(self.left).read(buffer) {
            Ok(read) => {
                self.left -= read as u64;
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.failed = Some(error);
                Err(io::ErrorKind::Other.into())
            }
        }
    }
}
