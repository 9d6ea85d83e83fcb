//! What can go wrong in the store.

use std::io;
use std::path::PathBuf;

use shoal_protocol::model::Digest;

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not here.
    #[error("artifact {} is not in the store", .digest.short())]
    Missing {
        /// Which one.
        digest: Digest,
    },
    /// A file changed under its name. It was taken out, so that it can be fetched again.
    #[error(
        "artifact {} was altered on disk (its bytes are {} now); it was moved to {} and must be \
            fetched again",
        .digest.short(), .found.short(), .moved.display()
    )]
    Altered {
        /// The name it had.
        digest: Digest,
        /// The name its bytes deserve.
        found: Digest,
        /// Where it is.
        moved: PathBuf,
    },
    /// The giver gave other bytes. Nothing was kept.
    #[error("the bytes received are {}, not {}: nothing was \
        kept", .found.short(), .expected.short())]
    Mismatch {
        /// What was asked for.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// No bytes at all.
    #[error("an artifact of no bytes cannot be kept")]
    Empty,
    /// Larger than any artifact may be.
    #[error("{size} bytes, and an artifact may have {most} at most")]
    TooLarge {
        /// How many came or were announced.
        size: u64,
        /// The limit.
        most: u64,
    },
    /// What is pinned or in use leaves no room.
    #[error(
        "the artifact store is full: {needed} more bytes do not fit into {limit}, of which \
            {fixed} are in use"
    )]
    Full {
        /// How many more are needed.
        needed: u64,
        /// The store's bound.
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
        /// How many are needed.
        needed: u64,
        /// How many the file system has.
        free: u64,
    },
    /// Two transfers of the same bytes at once.
    #[error("a transfer of artifact {} is under way already", .digest.short())]
    Busy {
        /// Which one.
        digest: Digest,
    },
    /// A chunk that does not continue where the transfer is.
    #[error("a chunk at {offset} does not continue a transfer that is at {at}")]
    Offset {
        /// Where the chunk belongs.
        offset: u64,
        /// Where the transfer is.
        at: u64,
    },
    /// A transfer was finished before all bytes were there.
    #[error("only {got} of {size} bytes are here")]
    Incomplete {
        /// How many are here.
        got: u64,
        /// How many were announced.
        size: u64,
    },
    /// Whoever gave the bytes failed while giving.
    #[error("reading what was to be kept failed: {source}")]
    Source {
        /// What it said.
        source: io::Error,
    },
    /// The device failed.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}
