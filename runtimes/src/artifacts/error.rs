//! Errors of the store.

use std::io;
use std::path::PathBuf;

use shoal_protocol::model::Digest;

/// The store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store does not have the bytes.
    #[error("artifact {} is not in the store", .digest.short())]
    Missing {
        /// The artifact asked for.
        digest: Digest,
    },
    /// A file no longer has the bytes that its name says. It was moved away, so that the artifact
    /// can be fetched again.
    #[error(
        "artifact {} was altered on disk (its bytes are {} now); it was moved to {} and must be \
            fetched again",
        .digest.short(), .found.short(), .moved.display()
    )]
    Altered {
        /// The digest that its name says.
        digest: Digest,
        /// The digest of its bytes.
        found: Digest,
        /// The path to which it was moved.
        moved: PathBuf,
    },
    /// The sender gave other bytes. Nothing was kept.
    #[error("the bytes received are {}, not {}: nothing was \
        kept", .found.short(), .expected.short())]
    Mismatch {
        /// The digest asked for.
        expected: Digest,
        /// The digest of the bytes that came.
        found: Digest,
    },
    /// An artifact has at least one byte.
    #[error("an artifact of no bytes cannot be kept")]
    Empty,
    /// The artifact exceeds [`super::Limits::artifact`].
    #[error("{size} bytes, and an artifact may have {most} at most")]
    TooLarge {
        /// Bytes that came or were announced.
        size: u64,
        /// Bytes of the largest artifact.
        most: u64,
    },
    /// Artifacts that are pinned or in use leave no room.
    #[error(
        "the artifact store is full: {needed} more bytes do not fit into {limit}, of which \
            {fixed} are in use"
    )]
    Full {
        /// Bytes that are needed in addition.
        needed: u64,
        /// Bytes that the store may have.
        limit: u64,
        /// Bytes that cannot be evicted.
        fixed: u64,
    },
    /// The disk is full.
    #[error("no space left on the disk of {}: {needed} bytes are needed, {free} are free (and \
        some are kept free)", .folder.display())]
    DiskFull {
        /// The store's folder.
        folder: PathBuf,
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that the file system has free.
        free: u64,
    },
    /// Another transfer of the same artifact is under way.
    #[error("a transfer of artifact {} is under way already", .digest.short())]
    Busy {
        /// The artifact asked for.
        digest: Digest,
    },
    /// A chunk does not begin where the transfer is.
    #[error("a chunk at {offset} does not continue a transfer that is at {at}")]
    Offset {
        /// Bytes before the chunk in the artifact.
        offset: u64,
        /// Bytes that the transfer has.
        at: u64,
    },
    /// A transfer was finished before all bytes had come.
    #[error("only {got} of {size} bytes are here")]
    Incomplete {
        /// Bytes that came.
        got: u64,
        /// Bytes that were announced.
        size: u64,
    },
    /// Reading from the caller's source failed.
    #[error("reading what was to be kept failed: {source}")]
    Source {
        /// The error of the source.
        source: io::Error,
    },
    /// The device failed.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// The operation: `open`, `sync`.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}
