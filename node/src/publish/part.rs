//! The bytes that a spec names, on their way to a node.

use std::collections::BTreeSet;
use std::io::{self, Cursor, Read};
use std::path::PathBuf;
use std::pin::Pin;

use bytes::Bytes;
use shoal_protocol::model::Artifact;
use shoal_protocol::model::spec::PlatformImage;
use shoal_runtimes::images::{self, ImageError, PickError};
use tokio::io::AsyncRead;
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;

use super::Workload;

/// Bytes that are read from a file and sent at a time.
const CHUNK: usize = 256 * 1024;
/// Chunks that wait to be sent.
const AHEAD: usize = 4;

/// A part of a workload's program: its digest and size, and its bytes.
#[derive(Clone, Debug)]
pub struct Part {
    /// The digest and size of the bytes.
    pub artifact: Artifact,
    source: PartSource,
}

#[derive(Clone, Debug)]
enum PartSource {
    Bytes(Bytes),
    Image(images::Part),
}

/// Why the image of a workload cannot be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ImageFileError {
    #[error(transparent)]
    Read(#[from] ImageError),
    #[error("{}: {error}", file.display())]
    Pick { file: PathBuf, error: PickError },
}

impl Part {
    /// A part whose bytes are in memory.
    pub fn bytes(artifact: Artifact, bytes: Bytes) -> Part {
        Part { artifact, source: PartSource::Bytes(bytes) }
    }

    /// A part of an image that was read.
    pub fn of_image(part: images::Part) -> Part {
        Part { artifact: part.artifact, source: PartSource::Image(part) }
    }

    /// The bytes from their beginning.
    pub fn reader(&self) -> Pin<Box<dyn AsyncRead + Send>> {
        match &self.source {
            PartSource::Bytes(bytes) => Box::pin(Cursor::new(bytes.clone())),
            PartSource::Image(part) => Box::pin(StreamReader::new(stream(part.clone()))),
        }
    }
}

/// Reads a part on a thread that may block. Dropping the stream ends the thread.
fn stream(part: images::Part) -> impl futures::Stream<Item = io::Result<Bytes>> + Send {
    let (sender, mut chunks) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut reader = match part.open() {
            Ok(reader) => reader,
            Err(error) => return drop(sender.blocking_send(Err(error))),
        };
        loop {
            let mut chunk = vec![0; CHUNK];
            let read = match reader.read(&mut chunk) {
                Ok(0) => return,
                Ok(read) => read,
                Err(error) => return drop(sender.blocking_send(Err(error))),
            };
            chunk.truncate(read);
            if sender.blocking_send(Ok(Bytes::from(chunk))).is_err() {
                return;
            }
        }
    });
    futures::stream::poll_fn(move |cx| chunks.poll_recv(cx))
}

/// An image that was read from a file.
#[derive(Clone, Debug)]
pub struct ImageFile {
    /// Its first name in the file; none if it has none there.
    pub name: Option<String>,
    /// Its parts for each platform, as a spec names them.
    pub platforms: Vec<PlatformImage>,
    /// The bytes of the parts.
    pub parts: Vec<Part>,
    /// The TCP ports that it exposes.
    pub exposed: BTreeSet<u16>,
}

/// Reads an image in `file`: the one that is called `wanted`, or the only one.
///
/// # Errors
/// The file is no image, or has no or several that fit.
pub async fn image_file(
    file: PathBuf,
    wanted: Option<String>,
) -> Result<ImageFile, ImageFileError> {
    let read = move || {
        let images = images::read(&file, &std::env::temp_dir())?;
        let found = images::pick(&images, wanted.as_deref());
        let image = found.map_err(|error| ImageFileError::Pick { file, error })?;
        let all = image.one_per_arch();
        let parts = all.iter().flat_map(|platform| platform.parts.clone());
        Ok(ImageFile {
            name: image.references.first().cloned(),
            parts: parts.map(Part::of_image).collect(),
            exposed: all.iter().flat_map(|platform| platform.exposed.iter().copied()).collect(),
            platforms: all.into_iter().map(|platform| platform.image.clone()).collect(),
        })
    };
    tokio::task::spawn_blocking(read).await.expect("the reader does not panic")
}

/// Reads the image in `file` for the container of this number, and returns the workload that runs
/// it, its parts, and the ports that it exposes.
pub(super) async fn image(
    workload: &Workload,
    at: usize,
    file: PathBuf,
) -> Result<(Workload, Vec<Part>, BTreeSet<u16>), ImageFileError> {
    let wanted = workload.image_reference(at);
    let own = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let ImageFile { name, platforms, parts, exposed } = image_file(file, wanted.clone()).await?;
    let workload = workload.clone().with_container_at(at, |container| {
        container.image.reference = wanted.or(name).unwrap_or(own);
        container.image.platforms = platforms;
    });
    Ok((workload, parts, exposed))
}
