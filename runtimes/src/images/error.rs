//! Errors of image files, of the choice among images, and of written archives.

use std::fmt;
use std::io;
use std::path::PathBuf;

use shoal_protocol::model::Digest;

/// An image file cannot be used. Nothing was kept of it.
#[derive(Debug)]
pub struct ImageError {
    /// The file or folder that was read.
    pub path: PathBuf,
    /// The reason; its text continues a sentence that begins with the path.
    pub fault: ImageFault,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names in an image may be anything: no control character of theirs reaches a terminal.
        write!(f, "`{}` {}", self.path.display(), printable(&self.fault.to_string()))
    }
}

/// The text with its control characters written out.
pub(super) fn printable(text: &str) -> String {
    let written = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(written).collect()
}

impl std::error::Error for ImageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.fault)
    }
}

/// The reason why an image file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageFault {
    /// This device could not read the file.
    #[error("cannot be read: {0}")]
    Read(#[source] io::Error),
    /// This device could not write the temporary file.
    #[error("cannot be unpacked into {}: {source}", .folder.display())]
    Unpack {
        /// The folder for temporary files.
        folder: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The unpacked file would fill the disk of the temporary folder.
    #[error("cannot be unpacked into {}: only {free} bytes are free there", .folder.display())]
    DiskFull {
        /// The folder for temporary files.
        folder: PathBuf,
        /// Bytes that the file system has free.
        free: u64,
    },
    /// A socket, a pipe or a device.
    #[error("is neither a file nor a folder")]
    NotAFile,
    /// A file without a byte.
    #[error("is empty")]
    Empty,
    /// Compressed in a way that is not read.
    #[error("is compressed with {0}: unpack it first; plain, gzip and zstd are read")]
    Compression(&'static str),
    /// Neither an archive nor a compressed one.
    #[error("is no image: an image is a tar, plain or compressed with gzip or zstd, or a folder")]
    NotATar,
    /// A folder without the files of an image.
    #[error(
        "is neither a docker archive nor an OCI layout: it has no manifest.json and no index.json"
    )]
    NotAnImage,
    /// A folder as `skopeo copy .. dir:..` writes it.
    #[error(
        "is in the format of `dir:`, which is not read: save the image as a docker archive or an \
            OCI layout instead"
    )]
    DirFormat,
    /// A tar of a file system, as `docker export` writes it.
    #[error(
        "is a tar of files, no image: it has no manifest.json and no index.json; to make an image \
            of it use `docker import`, or `docker build` with a Dockerfile that adds it"
    )]
    FilesOnly,
    /// The format before manifest.json.
    #[error("was saved by a Docker before 1.10: save it again with a newer one")]
    Legacy,
    /// The file ends early.
    #[error("is truncated: {name} ends at byte {needed}, and the file has {size}")]
    Truncated {
        /// The entry that does not fit.
        name: String,
        /// Bytes that the file should have at least.
        needed: u64,
        /// Bytes that it has.
        size: u64,
    },
    /// Bytes that do not follow their format.
    #[error("is damaged: {name} {why}")]
    Damaged {
        /// The part of the file.
        name: String,
        /// The reason, as the end of the sentence.
        why: String,
    },
    /// JSON that does not have the expected shape.
    #[error("is damaged: {name} is not what is expected there: {source}")]
    Json {
        /// The name of the file in the image.
        name: String,
        /// The error of the parser.
        source: serde_json::Error,
    },
    /// A manifest or configuration that is too large to be read into memory.
    #[error("has a {name} of {size} bytes, and at most {most} are read")]
    TooLarge {
        /// The name of the file in the image.
        name: String,
        /// Bytes that it has.
        size: u64,
        /// Bytes that it may have.
        most: u64,
    },
    /// More than one image file should have.
    #[error("has more than {most} {what}")]
    TooMany {
        /// The things counted: `layers`, `files`.
        what: &'static str,
        /// The bound.
        most: usize,
    },
    /// A file that a manifest names.
    #[error("is incomplete: it has no {name}, which {by} names")]
    Missing {
        /// The name of the file.
        name: String,
        /// The file that names it.
        by: String,
    },
    /// A file has other bytes than its digest says.
    #[error("is damaged: the SHA-256 of {name} should be {expected}, and is {found}")]
    Digest {
        /// The name of the file.
        name: String,
        /// The digest that the image says.
        expected: Digest,
        /// The digest of the bytes.
        found: Digest,
    },
    /// A file has another length than its descriptor says.
    #[error("is damaged: {name} should have {expected} bytes, and has {found}")]
    Size {
        /// The name of the file.
        name: String,
        /// The length that the image says.
        expected: u64,
        /// Its length in bytes.
        found: u64,
    },
    /// A name that leads out of the image, or a chain of links without an end.
    #[error("is refused: {by} names `{name}`, which leads out of the image")]
    Unsafe {
        /// The name as it stands there.
        name: String,
        /// The file that names it.
        by: String,
    },
    /// Not an image for Linux.
    #[error("is an image for `{0}`: only images for linux can run here")]
    Os(String),
    /// A layer that must be fetched from elsewhere.
    #[error("has a layer that its author does not let be distributed ({0}): it cannot be used")]
    Foreign(String),
    /// A layer for which a key is needed.
    #[error(
        "has an encrypted layer ({0}): decrypt the image first, for example with `skopeo copy`"
    )]
    Encrypted(String),
    /// A type of content that is not known.
    #[error("has {what} of the unknown type `{media_type}`")]
    MediaType {
        /// The part: `a layer`, `a manifest`.
        what: &'static str,
        /// The type as the image says it.
        media_type: String,
    },
    /// A digest by another algorithm than SHA-256, or none at all.
    #[error("names its parts by `{0}`: only digests as in `sha256:<64 digits>` are read")]
    Algorithm(String),
    /// A layer that is no archive.
    #[error("has the layer {0}, which is no tar, plain or compressed with gzip or zstd")]
    LayerFormat(String),
    /// The manifest and the configuration disagree.
    #[error("is damaged: its manifest has {manifest} layers, its configuration {config}")]
    LayerCount {
        /// Layers in the manifest.
        manifest: usize,
        /// Layers in the configuration.
        config: usize,
    },
    /// The configuration does not say for which machine the image is.
    #[error("does not say for which architecture it is: its configuration {0} names none")]
    NoArch(String),
    /// No manifest in the file is one of an image.
    #[error("holds no image: its index names nothing, or artifacts of other kinds")]
    NoImages,
}

/// None of the images in a file is the one meant, or more than one is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PickError {
    /// A text that is no reference.
    #[error("`{0}` is no image reference, as in `redis:7` or `localhost/app:1`")]
    Invalid(String),
    /// The file has other images.
    #[error("the file has no image `{wanted}`; it has: {found}")]
    NotFound {
        /// The reference asked for.
        wanted: String,
        /// The images in the file, for a person.
        found: String,
    },
    /// The file has several images that fit.
    #[error("the file has several images; name one of them: {found}")]
    Several {
        /// The images in the file, for a person.
        found: String,
    },
    /// The list of images is empty.
    #[error("the file has no image")]
    Empty,
}

/// An archive was not written. Its beginning may have been: the reader must discard it.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A reference that engines do not take as a tag.
    #[error("`{0}` is no name with a tag, as in `localhost/app:1`")]
    Reference(String),
    /// A part of the image could not be opened or read.
    #[error("part {} of the image cannot be read: {source}", .digest.short())]
    Part {
        /// The part.
        digest: Digest,
        /// The error of the caller's source, or of the decoder.
        source: io::Error,
    },
    /// The source gave other bytes than the part has.
    #[error("part {} of the image should have {expected} bytes, and has {found}", .digest.short())]
    Size {
        /// The part.
        digest: Digest,
        /// Bytes that the part has.
        expected: u64,
        /// Bytes that came; there may be more.
        found: u64,
    },
    /// The configuration is not the one that the image names.
    #[error("part {} of the image has other bytes: their digest is {}", .expected.short(),
        .found.short())]
    Config {
        /// The digest that the image names.
        expected: Digest,
        /// The digest of the bytes that came.
        found: Digest,
    },
    /// The archive could not be written.
    #[error("the image archive cannot be written: {0}")]
    Out(#[source] io::Error),
}
