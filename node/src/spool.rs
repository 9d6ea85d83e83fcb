//! An archive in a file, so that all of it is there before anything is done with it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::{Stream, StreamExt};

/// Bytes that stay free on the disk, for the node's own state.
const KEEP_FREE: u64 = 64 << 20;
/// Bytes that are written between two looks at the room on the disk.
const STRIDE: u64 = 16 << 20;

/// Why an archive could not be put into a file.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum SpoolError<E: std::error::Error> {
    #[error(transparent)]
    Source(E),
    #[error("the archive cannot be written to {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the disk of {} is too full for the archive: {free} bytes are left, and \
        {KEEP_FREE} stay free for the node itself", path.display())]
    DiskFull { path: PathBuf, free: u64 },
}

/// A file that is removed when this is dropped.
pub struct Spooled(PathBuf);

impl Spooled {
    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        // The store removes what is left at its next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Writes all chunks into a file in `folder`, whose name begins with `what`. `told` gets the number
/// of bytes so far.
pub async fn write<E: std::error::Error>(
    folder: &Path,
    what: &str,
    chunks: impl Stream<Item = Result<Bytes, E>> + Send,
    told: &mut (dyn FnMut(u64) + Send),
) -> Result<Spooled, SpoolError<E>> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!("{what}-{}-{number}", std::process::id()));
    let failed = |source| SpoolError::Write { path: path.clone(), source };
    let mut options = OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o600).open(&path);
    let mut file = opened.map_err(failed)?;
    let spooled = Spooled(path.clone());
    let (mut bytes, mut look_at) = (0, 0);
    let mut chunks = std::pin::pin!(chunks);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(SpoolError::Source)?;
        let written = move || append(file, &chunk).map(|file| (file, chunk.len() as u64));
        let written = tokio::task::spawn_blocking(written).await;
        let (same, length) = written.expect("the writer does not panic").map_err(failed)?;
        file = same;
        bytes += length;
        told(bytes);
        if bytes >= look_at {
            look_at = bytes + STRIDE;
            // Unknown: the write itself will fail.
            let free = rustix::fs::statvfs(folder)
                .map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
            if free < KEEP_FREE + STRIDE {
                return Err(SpoolError::DiskFull { path, free });
            }
        }
    }
    Ok(spooled)
}

fn append(mut file: File, chunk: &[u8]) -> io::Result<File> {
    file.write_all(chunk)?;
    Ok(file)
}
