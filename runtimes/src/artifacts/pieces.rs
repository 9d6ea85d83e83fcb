//! A transfer in pieces, from several nodes at once and in any order. Each piece is verified by
//! itself, so that it may be passed on before the rest is here.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use shoal_protocol::model::Digest;
use shoal_protocol::model::spec::PIECE;
use tokio::sync::watch;

use super::error::Error;
use super::files::{self, blocking, io};
use super::partial::Open;
use super::{Artifact, ArtifactStore};

/// A transfer under way. Dropping it keeps its pieces for the next [`ArtifactStore::pieces`], or
/// for [`ArtifactStore::partial`].
pub struct PieceTransfer {
    /// `None` once it was finished or discarded.
    open: Option<Open>,
    arrived: Arc<Arrived>,
}

/// The pieces of a transfer that are here, verified. Outlives the transfer for those who read.
#[derive(Debug)]
pub struct Arrived {
    file: File,
    path: PathBuf,
    size: u64,
    digests: Vec<Digest>,
    state: Mutex<State>,
    /// The number of pieces that are here.
    count: watch::Sender<usize>,
}

#[derive(Debug)]
struct State {
    is_here: Vec<bool>,
    /// The pieces in the order in which they came.
    order: Vec<u32>,
    unsynced: u64,
}

/// The bytes of an artifact that may be passed on.
#[derive(Debug)]
pub enum PieceSource {
    /// The whole artifact is here.
    Whole(Artifact),
    /// It is on its way.
    Arriving(Arc<Arrived>),
}

/// Bytes between two syncs, as in a transfer in order.
const SYNC_EVERY: u64 = super::partial::SYNC_EVERY;

impl PieceTransfer {
    pub(super) fn begin(open: Open, digests: Vec<Digest>) -> Result<Self, Error> {
        let file = open.file.try_clone().map_err(io("open", &open.path))?;
        let arrived = Arrived {
            file,
            path: open.path.clone(),
            size: open.size,
            state: Mutex::new(State {
                is_here: vec![false; digests.len()],
                order: Vec::new(),
                unsynced: 0,
            }),
            digests,
            count: watch::Sender::new(0),
        };
        arrived.find(open.at)?;
        Ok(PieceTransfer { open: Some(open), arrived: Arc::new(arrived) })
    }

    /// The pieces that are here.
    pub fn arrived(&self) -> &Arc<Arrived> {
        &self.arrived
    }

    /// Verifies the whole and makes it an artifact.
    ///
    /// # Errors
    /// [`Error::Incomplete`]: the pieces are kept. [`Error::Mismatch`]: the list of pieces is not
    /// that of the artifact; they were deleted. The device failed: they are kept.
    pub async fn finish(mut self) -> Result<(), Error> {
        let Some(mut open) = self.open.take() else {
            return Err(Error::Incomplete { got: 0, size: 0 });
        };
        open.at = if self.arrived.is_complete() { open.size } else { self.arrived.bytes() };
        blocking(move || open.finish()).await
    }
}

impl Drop for PieceTransfer {
    fn drop(&mut self) {
        if let Some(mut open) = self.open.take() {
            open.at = self.arrived.bytes();
            open.wait();
        }
    }
}

impl Arrived {
    /// The number of pieces of the whole artifact.
    pub fn pieces(&self) -> usize {
        self.digests.len()
    }

    /// The bytes of this piece; 0 beyond the last.
    pub fn length(&self, index: u32) -> u64 {
        self.size.saturating_sub(u64::from(index) * PIECE).min(PIECE)
    }

    /// Whether this piece is here, verified.
    pub fn has(&self, index: u32) -> bool {
        self.lock().is_here.get(index as usize).copied().unwrap_or_default()
    }

    /// Whether all pieces are here.
    pub fn is_complete(&self) -> bool {
        self.lock().order.len() == self.digests.len()
    }

    /// The pieces that came after the first `known`, in the order in which they came.
    pub fn since(&self, known: usize) -> Vec<u32> {
        self.lock().order.get(known..).unwrap_or_default().to_vec()
    }

    /// Tells how many pieces are here, whenever that changes.
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// Keeps a piece. Returns whether its bytes are the right ones; wrong ones are not kept.
    ///
    /// # Errors
    /// The device failed.
    pub async fn put(self: &Arc<Self>, index: u32, bytes: Bytes) -> Result<bool, Error> {
        let arrived = Arc::clone(self);
        blocking(move || {
            if arrived.digests.get(index as usize) != Some(&Digest::of(&bytes)) {
                return Ok(false);
            }
            let path = &arrived.path;
            let at = u64::from(index) * PIECE;
            arrived.file.write_all_at(&bytes, at).map_err(io("write", path))?;
            let needs_sync = {
                let mut state = arrived.lock();
                state.unsynced += bytes.len() as u64;
                let needs_sync = state.unsynced >= SYNC_EVERY;
                if needs_sync {
                    state.unsynced = 0;
                }
                needs_sync
            };
            if needs_sync {
                arrived.file.sync_data().map_err(io("sync", path))?;
            }
            arrived.note(index);
            Ok(true)
        })
        .await
    }

    /// Up to `len` bytes of a piece that is here, from `offset` within the piece.
    ///
    /// # Errors
    /// [`Error::Incomplete`]: the piece is not here. The device failed.
    pub async fn read(
        self: &Arc<Self>,
        index: u32,
        offset: u64,
        len: usize,
    ) -> Result<Bytes, Error> {
        if !self.has(index) {
            return Err(Error::Incomplete { got: self.bytes(), size: self.size });
        }
        let arrived = Arc::clone(self);
        blocking(move || {
            let begin = u64::from(index) * PIECE;
            let end = begin + arrived.length(index);
            files::read_at(&arrived.file, &arrived.path, begin + offset, len, end)
        })
        .await
    }

    /// Looks which pieces an earlier transfer left in the file, whose length is `len`.
    fn find(&self, len: u64) -> Result<(), Error> {
        for (index, digest) in (0..).zip(&self.digests) {
            let (begin, length) = (u64::from(index) * PIECE, self.length(index));
            if begin + length > len {
                break;
            }
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let bytes = files::read_at(&self.file, &self.path, begin, length, len)?;
            if Digest::of(&bytes) == *digest {
                self.note(index);
            }
        }
        Ok(())
    }

    fn note(&self, index: u32) {
        let count = {
            let mut state = self.lock();
            if std::mem::replace(&mut state.is_here[index as usize], true) {
                return;
            }
            state.order.push(index);
            state.order.len()
        };
        self.count.send_replace(count);
    }

    fn bytes(&self) -> u64 {
        self.lock().order.iter().map(|index| self.length(*index)).sum()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is complete before the lock is released, also by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ArtifactStore {
    /// Begins or resumes a transfer of an artifact in pieces, whose digests are `digests`; `None`
    /// when the store has it.
    ///
    /// # Errors
    /// Another transfer of it is under way; too large; no room; the device failed.
    pub async fn pieces(
        &self,
        digest: &Digest,
        size: u64,
        digests: Vec<Digest>,
    ) -> Result<Option<PieceTransfer>, Error> {
        let (store, digest) = (self.clone(), *digest);
        self.check_size(size)?;
        let begun = blocking(move || {
            let Some(open) = Open::begin(store.clone(), digest, size)? else { return Ok(None) };
            let transfer = PieceTransfer::begin(open, digests)?;
            let mut arriving = store.arriving();
            // Those that have ended go, so that there are never more than are under way.
            arriving.retain(|_, transfer| transfer.strong_count() > 0);
            arriving.insert(digest, Arc::downgrade(transfer.arrived()));
            drop(arriving);
            Ok(Some(transfer))
        });
        begun.await
    }

    /// The bytes of an artifact that may be passed on now; none if it is neither here nor on its
    /// way in pieces.
    ///
    /// # Errors
    /// As [`ArtifactStore::open_artifact`].
    pub async fn piece_source(&self, digest: &Digest) -> Result<Option<PieceSource>, Error> {
        match self.open_artifact(digest).await {
            Ok(artifact) => return Ok(Some(PieceSource::Whole(artifact))),
            Err(Error::Missing { .. }) => {}
            Err(error) => return Err(error),
        }
        let arrived = self.arriving().get(digest).and_then(Weak::upgrade);
        Ok(arrived.map(PieceSource::Arriving))
    }
}

impl PieceSource {
    /// Up to `len` bytes of a piece, from `offset` within the piece.
    ///
    /// # Errors
    /// The piece is not here, or the device failed.
    pub async fn read(&self, index: u32, offset: u64, len: usize) -> Result<Bytes, Error> {
        match self {
            PieceSource::Arriving(arrived) => arrived.read(index, offset, len).await,
            PieceSource::Whole(artifact) => {
                let file = artifact.file.try_clone().map_err(io("open", &artifact.path))?;
                let (path, size) = (artifact.path.clone(), artifact.size);
                let begin = u64::from(index) * PIECE;
                let end = size.min(begin.saturating_add(PIECE));
                blocking(move || files::read_at(&file, &path, begin + offset, len, end)).await
            }
        }
    }
}
