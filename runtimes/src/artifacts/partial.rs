//! A transfer that can be interrupted and resumed.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use shoal_protocol::model::Digest;

use super::error::Error;
use super::files::{self, Stamp, blocking, io};
use super::index::Reservation;
use super::{ArtifactStore, lock};

/// Bytes between two syncs, which a power cut may lose; more frequent syncs would wear the flash.
pub(super) const SYNC_EVERY: u64 = 4 << 20;

/// A transfer under way. Dropping it keeps its bytes for the next [`ArtifactStore::partial`].
pub struct Partial {
    /// `None` once it was finished or discarded.
    open: Option<Open>,
}

/// The file of a transfer, which its index knows to be under way.
pub(super) struct Open {
    store: ArtifactStore,
    digest: Digest,
    pub size: u64,
    /// Bytes that are here. Of a transfer in pieces, the length of its file at the start.
    pub at: u64,
    synced: u64,
    pub file: File,
    pub path: PathBuf,
    reservation: Reservation,
}

/// `<digest>.<size>`: a resumed transfer must have the same announced size.
pub(super) fn path_of(folder: &Path, digest: &Digest, size: u64) -> PathBuf {
    folder.join("partial").join(format!("{digest}.{size}"))
}

/// Parses the file name that [`path_of`] makes.
pub(super) fn parse_name(name: &str) -> Option<(Digest, u64)> {
    let (digest, size) = name.split_once('.')?;
    Some((digest.parse().ok()?, size.parse().ok()?))
}

impl Partial {
    pub(super) fn begin(
        store: ArtifactStore,
        digest: Digest,
        size: u64,
    ) -> Result<Option<Self>, Error> {
        Ok(Open::begin(store, digest, size)?.map(|open| Partial { open: Some(open) }))
    }

    /// Bytes that came so far, which is where the next chunk begins.
    pub fn offset(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.at)
    }

    /// Announced bytes of the whole artifact.
    pub fn size(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.size)
    }

    /// Adds a chunk at `offset`, which must be [`Partial::offset`].
    ///
    /// # Errors
    /// The chunk does not begin at the offset, or exceeds the announced size: nothing changed. The
    /// device failed: drop the transfer.
    pub async fn append(&mut self, offset: u64, chunk: Bytes) -> Result<(), Error> {
        let Some(mut open) = self.open.take() else { return Err(Error::Offset { offset, at: 0 }) };
        let (open, result) = blocking(move || {
            let result = open.append(offset, &chunk);
            Ok((open, result))
        })
        .await?;
        self.open = Some(open);
        result
    }

    /// Verifies the bytes and makes them an artifact.
    ///
    /// # Errors
    /// [`Error::Incomplete`]: the bytes are kept. [`Error::Mismatch`]: they were deleted. The
    /// device failed: they are kept.
    pub async fn finish(mut self) -> Result<(), Error> {
        let Some(open) = self.open.take() else {
            return Err(Error::Incomplete { got: 0, size: 0 });
        };
        blocking(move || open.finish()).await
    }

    /// Deletes the bytes that came.
    ///
    /// # Errors
    /// The device failed.
    pub async fn discard(mut self) -> Result<(), Error> {
        let Some(open) = self.open.take() else { return Ok(()) };
        blocking(move || open.discard()).await
    }
}

impl Open {
    /// Marks the transfer as under way and opens its file; `None` when the store has the artifact.
    pub fn begin(store: ArtifactStore, digest: Digest, size: u64) -> Result<Option<Self>, Error> {
        if size == 0 {
            return Err(Error::Empty);
        }
        if store.has(&digest).is_some() {
            return Ok(None);
        }
        let waiting = store.lock().begin_partial(&digest)?;
        let opened = Open::open_file(&store, digest, size, waiting);
        if opened.is_err() {
            // The bytes are not lost: the next opening of the store finds the file.
            store.lock().end_partial(&digest, None);
        }
        opened.map(Some)
    }

    fn open_file(
        store: &ArtifactStore,
        digest: Digest,
        size: u64,
        waiting: Option<(u64, u64)>,
    ) -> Result<Open, Error> {
        let folder = &store.shared.folder;
        if let Some((other, _)) = waiting.filter(|(other, _)| *other != size) {
            files::delete(&path_of(folder, &digest, other))?;
        }
        let path = path_of(folder, &digest, size);
        let mut reservation = Reservation::new(&store.shared.index);
        store.make_room(&mut reservation, size)?;
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(io("open", &path))?;
        let mut at = Stamp::of(&file, &path)?.size;
        if at > size {
            file.set_len(0).map_err(io("cut", &path))?;
            at = 0;
        }
        Ok(Open { store: store.clone(), digest, size, at, synced: at, file, path, reservation })
    }

    fn append(&mut self, offset: u64, chunk: &[u8]) -> Result<(), Error> {
        if offset != self.at {
            return Err(Error::Offset { offset, at: self.at });
        }
        let end = self.at + chunk.len() as u64;
        if end > self.size {
            return Err(Error::TooLarge { size: end, most: self.size });
        }
        self.file.write_all_at(chunk, self.at).map_err(io("write", &self.path))?;
        self.at = end;
        if self.at - self.synced >= SYNC_EVERY {
            self.file.sync_data().map_err(io("sync", &self.path))?;
            self.synced = self.at;
        }
        Ok(())
    }

    pub fn finish(self) -> Result<(), Error> {
        if self.at < self.size {
            let (got, size) = (self.at, self.size);
            self.wait();
            return Err(Error::Incomplete { got, size });
        }
        let found = files::hash(&self.file, &self.path)?;
        if found != self.digest {
            let expected = self.digest;
            self.discard()?;
            return Err(Error::Mismatch { expected, found });
        }
        self.file.sync_all().map_err(io("sync", &self.path))?;
        let named = self.store.path_of(&self.digest);
        std::fs::rename(&self.path, &named).map_err(io("name", &named))?;
        files::sync_folder_of(&named)?;
        let stamp = Stamp::of(&self.file, &named)?;
        self.reservation.become_held(self.digest, self.size, Some(stamp));
        lock(&self.store.shared.index).end_partial(&self.digest, None);
        Ok(())
    }

    fn discard(self) -> Result<(), Error> {
        drop(self.reservation);
        self.store.lock().end_partial(&self.digest, None);
        files::delete(&self.path)
    }

    /// Leaves the bytes to a later transfer.
    pub fn wait(self) {
        drop(self.reservation);
        let victim = self.store.lock().end_partial(&self.digest, Some((self.size, self.at)));
        if let Some(victim) = victim {
            let path = path_of(&self.store.shared.folder, &victim.digest, victim.size);
            if let Err(error) = files::delete(&path) {
                tracing::warn!(%error, "a given-up transfer stays on the disk");
            }
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            open.wait();
        }
    }
}
