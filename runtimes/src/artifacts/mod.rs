//! Bytes named by their SHA-256, kept within a bound.
//!
//! ```text
//! <folder>/sha256/<digest>              whole, verified, fsynced before it got this name
//! <folder>/partial/<digest>.<size>      a transfer under way; survives a restart
//! <folder>/quarantine/<digest>          found altered; kept for a person, never served
//! <folder>/tmp/                         temporary files; emptied at open
//! ```
//!
//! **No byte leaves the store unverified**: a file is hashed when it is first used after the start
//! of the program, and again whenever its time stamps have changed. All disk work runs on tokio's
//! blocking threads.

mod error;
mod files;
mod index;
mod partial;
mod pieces;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::{Bytes, BytesMut};
use shoal_protocol::model::Digest;
use tokio::io::{AsyncRead, AsyncReadExt};

pub use error::Error;
use files::{Stamp, blocking, io};
pub use index::Hold;
use index::{Index, Reservation};
pub use partial::Partial;
pub use pieces::{Arrived, PieceSource, PieceTransfer};

/// Bytes that are read or hashed at a time.
const CHUNK: usize = 256 * 1024;

/// Bounds of a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of all artifacts, transfers under way included. Unpinned ones are evicted, the least
    /// recently used first.
    pub bytes: u64,
    /// Bytes of the largest artifact.
    pub artifact: u64,
    /// Bytes that stay free on the file system, for the node's own state.
    pub keep_free: u64,
}

impl Default for Limits {
    /// 2 GiB in all, 512 MiB each, 64 MiB kept free.
    fn default() -> Self {
        Limits { bytes: 2 << 30, artifact: 512 << 20, keep_free: 64 << 20 }
    }
}

/// A content-addressed store in a folder of its own. Cheap to clone. One process at a time may have
/// the folder open.
#[derive(Clone)]
pub struct ArtifactStore {
    shared: Arc<Shared>,
}

struct Shared {
    folder: PathBuf,
    limits: Limits,
    index: Arc<Mutex<Index>>,
    /// The transfers in pieces that are under way, or were a moment ago.
    arriving: Mutex<BTreeMap<Digest, Weak<Arrived>>>,
}

/// A verified artifact, open for reading. While this lives the artifact is neither evicted nor
/// removed.
#[derive(Debug)]
pub struct Artifact {
    /// The bytes, from the start.
    pub file: File,
    /// Length in bytes.
    pub size: u64,
    /// The path, for a child process that must open the file itself.
    pub path: PathBuf,
    /// Keeps the artifact from being evicted.
    pub hold: Hold,
}

impl ArtifactStore {
    /// Opens the store in `folder`, which is made when it is missing. Nothing is hashed yet.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub async fn open(folder: impl Into<PathBuf>, limits: Limits) -> Result<Self, Error> {
        let folder = folder.into();
        blocking(move || {
            for name in ["", "sha256", "partial", "quarantine", "tmp"] {
                files::make_private(&folder.join(name))?;
            }
            files::empty(&folder.join("tmp"))?;
            let index = Index::read(&folder)?;
            let index = Arc::new(Mutex::new(index));
            Ok(ArtifactStore {
                shared: Arc::new(Shared { folder, limits, index, arriving: Mutex::default() }),
            })
        })
        .await
    }

    /// Stores `bytes` and returns their digest.
    ///
    /// # Errors
    /// Too large, no room, or the device failed. Nothing is kept then.
    pub async fn put(&self, bytes: impl Into<Bytes>) -> Result<Digest, Error> {
        let bytes: Bytes = bytes.into();
        self.put_from(std::io::Cursor::new(bytes), None).await.map(|(digest, _)| digest)
    }

    /// Stores the bytes of `reader` and returns their digest and length. With `expected`, other
    /// bytes are refused.
    ///
    /// # Errors
    /// Other bytes than expected, too large, no room, the reader failed, or the device did. Nothing
    /// is kept then.
    pub async fn put_from(
        &self,
        mut reader: impl AsyncRead + Unpin + Send,
        expected: Option<Digest>,
    ) -> Result<(Digest, u64), Error> {
        let store = self.clone();
        let mut draft =
            blocking(move || files::Draft::new(&store.shared.folder.join("tmp"))).await?;
        let mut reservation = Reservation::new(&self.shared.index);
        loop {
            let mut chunk = BytesMut::with_capacity(CHUNK);
            while chunk.len() < CHUNK {
                let read = reader.read_buf(&mut chunk).await;
                if read.map_err(|source| Error::Source { source })? == 0 {
                    break;
                }
            }
            if chunk.is_empty() {
                break;
            }
            self.check_size(draft.len() + chunk.len() as u64)?;
            let store = self.clone();
            (draft, reservation) = blocking(move || {
                store.make_room(&mut reservation, chunk.len() as u64)?;
                draft.write(&chunk)?;
                Ok((draft, reservation))
            })
            .await?;
        }
        let store = self.clone();
        blocking(move || {
            let (digest, size) = (draft.digest(), draft.len());
            if let Some(expected) = expected.filter(|expected| *expected != digest) {
                return Err(Error::Mismatch { expected, found: digest });
            }
            if size == 0 {
                return Err(Error::Empty);
            }
            let path = store.path_of(&digest);
            let stamp = draft.keep_as(&path)?;
            reservation.become_held(digest, size, Some(stamp));
            Ok((digest, size))
        })
        .await
    }

    /// The size of an artifact, when the store has it. Does not touch the disk.
    pub fn has(&self, digest: &Digest) -> Option<u64> {
        self.lock().size_of(digest)
    }

    /// All artifacts with their sizes.
    pub fn list(&self) -> Vec<(Digest, u64)> {
        self.lock().held()
    }

    /// Bytes of all artifacts and of transfers under way.
    pub fn bytes(&self) -> u64 {
        self.lock().bytes()
    }

    /// Replaces the set of artifacts that must stay. The others are evicted when room is needed,
    /// not now.
    pub fn pin(&self, pinned: BTreeSet<Digest>) {
        self.lock().pin(pinned);
    }

    /// Opens an artifact for reading, verified.
    ///
    /// # Errors
    /// [`Error::Missing`]; [`Error::Altered`] once, then [`Error::Missing`]; the device failed.
    pub async fn open_artifact(&self, digest: &Digest) -> Result<Artifact, Error> {
        let (store, digest) = (self.clone(), *digest);
        blocking(move || store.open_verified(digest)).await
    }

    /// Reads a whole, small artifact into memory, verified.
    ///
    /// # Errors
    /// As [`ArtifactStore::open_artifact`].
    pub async fn read(&self, digest: &Digest) -> Result<Bytes, Error> {
        let size = self.has(digest).ok_or(Error::Missing { digest: *digest })?;
        self.read_at(digest, 0, usize::try_from(size).unwrap_or(usize::MAX)).await
    }

    /// Reads up to `len` bytes from `offset`, verified: fewer at the end, none beyond it.
    ///
    /// # Errors
    /// As [`ArtifactStore::open_artifact`].
    pub async fn read_at(&self, digest: &Digest, offset: u64, len: usize) -> Result<Bytes, Error> {
        let (store, digest) = (self.clone(), *digest);
        blocking(move || {
            let artifact = store.open_verified(digest)?;
            files::read_at(&artifact.file, &artifact.path, offset, len, artifact.size)
        })
        .await
    }

    /// Removes an artifact, if the store has it. An open one stays until it is closed, and is then
    /// evicted first.
    ///
    /// # Errors
    /// The device failed; the file is still there.
    pub async fn remove(&self, digest: &Digest) -> Result<(), Error> {
        let (store, digest) = (self.clone(), *digest);
        blocking(move || {
            if store.lock().take_out(&digest) {
                files::delete(&store.path_of(&digest))?;
            }
            Ok(())
        })
        .await
    }

    /// Begins or resumes a transfer of an artifact of `size` bytes; `None` when the store has it.
    ///
    /// # Errors
    /// Another transfer of it is under way; too large; no room; the device failed.
    pub async fn partial(&self, digest: &Digest, size: u64) -> Result<Option<Partial>, Error> {
        let (store, digest) = (self.clone(), *digest);
        self.check_size(size)?;
        blocking(move || Partial::begin(store, digest, size)).await
    }

    fn check_size(&self, size: u64) -> Result<(), Error> {
        let most = self.shared.limits.artifact;
        if size > most { Err(Error::TooLarge { size, most }) } else { Ok(()) }
    }

    fn path_of(&self, digest: &Digest) -> PathBuf {
        self.shared.folder.join("sha256").join(digest.to_string())
    }

    /// Grows `reservation` by `more` bytes, evicting artifacts for it.
    fn make_room(&self, reservation: &mut Reservation, more: u64) -> Result<(), Error> {
        let Limits { bytes, keep_free, .. } = self.shared.limits;
        let victims = reservation.grow(more, bytes)?;
        for victim in victims {
            tracing::info!(artifact = %victim.digest.short(), bytes = victim.size, "evicted from \
                the store to make room");
            let path = match victim.partial {
                true => partial::path_of(&self.shared.folder, &victim.digest, victim.size),
                false => self.path_of(&victim.digest),
            };
            files::delete(&path)?;
        }
        files::check_free(&self.shared.folder, more, keep_free)
    }

    fn open_verified(&self, digest: Digest) -> Result<Artifact, Error> {
        let Some((hold, verified)) = Hold::take(&self.shared.index, &digest) else {
            return Err(Error::Missing { digest });
        };
        let path = self.path_of(&digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.lock().forget(&digest);
                return Err(Error::Missing { digest });
            }
            Err(error) => return Err(io("open", &path)(error)),
        };
        let stamp = Stamp::of(&file, &path)?;
        if verified != Some(stamp) {
            let found = files::hash(&file, &path)?;
            if found != digest {
                drop(file);
                return Err(self.quarantine(digest, found, &path));
            }
            self.lock().verified(&digest, stamp);
        }
        Ok(Artifact { file, size: stamp.size, path, hold })
    }

    fn quarantine(&self, digest: Digest, found: Digest, path: &Path) -> Error {
        self.lock().forget(&digest);
        let folder = self.shared.folder.join("quarantine");
        let moved = folder.join(digest.to_string());
        if let Err(error) = fs::rename(path, &moved) {
            return io("move away the altered", path)(error);
        }
        files::keep_newest(&folder, QUARANTINED);
        tracing::warn!(artifact = %digest.short(), file = %moved.display(), "an artifact was \
            altered on disk and is refused");
        Error::Altered { digest, found, moved }
    }

    fn arriving(&self) -> MutexGuard<'_, BTreeMap<Digest, Weak<Arrived>>> {
        // An entry is added or removed as a whole.
        self.shared.arriving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        lock(&self.shared.index)
    }
}

/// Altered files that are kept for a person to examine.
const QUARANTINED: usize = 4;

fn lock(index: &Mutex<Index>) -> MutexGuard<'_, Index> {
    // Each change of the index is complete before the lock is released, also by a panic.
    index.lock().unwrap_or_else(PoisonError::into_inner)
}
