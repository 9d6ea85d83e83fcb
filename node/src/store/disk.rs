//! The file under redb: counts writes, and undoes a transaction that failed halfway.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use redb::StorageBackend;

use super::file::StoreLocation;

/// The bytes at the file's start that name the current transaction: redb's header takes fewer, and
/// nothing else lies there.
const HEADER_LEN: usize = 512;

/// Counters of the disk since the start.
#[derive(Debug, Default)]
pub struct DiskCounters {
    /// Transactions on disk.
    pub commits: AtomicU64,
    /// Bytes written to the file, with redb's own bookkeeping.
    pub bytes: AtomicU64,
    /// Syncs of the file.
    pub syncs: AtomicU64,
}

/// **A transaction that fails is not found by the next start.** redb writes the header along with
/// the pages and then syncs: if that sync fails, the header of a refused transaction may be in the
/// file. So the last synced header is written back; the pages that it names are intact, since redb
/// never overwrites them before.
#[derive(Debug)]
pub(super) struct Disk {
    file: File,
    counters: Arc<DiskCounters>,
    header: Mutex<Header>,
    #[cfg(test)]
    fault: Arc<super::tests::Fault>,
}

/// The first bytes of the file.
#[derive(Debug)]
struct Header {
    /// The bytes at the last sync.
    synced: Vec<u8>,
    /// The bytes at the last write.
    written: Vec<u8>,
}

impl Disk {
    pub(super) fn new(file: File, location: &StoreLocation) -> io::Result<Disk> {
        let mut synced = vec![0; HEADER_LEN];
        let mut filled = 0;
        while filled < HEADER_LEN {
            match file.read_at(&mut synced[filled..], filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        synced.truncate(filled);
        let header = Mutex::new(Header { written: synced.clone(), synced });
        Ok(Disk {
            file,
            counters: location.counters.clone(),
            header,
            #[cfg(test)]
            fault: location.fault.clone(),
        })
    }

    fn header(&self) -> std::sync::MutexGuard<'_, Header> {
        self.header.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the last synced header back after a failure, which it returns.
    fn failed(&self, error: io::Error) -> io::Error {
        let mut header = self.header();
        // A file that was never synced has no state yet.
        if header.written != header.synced && !header.synced.is_empty() {
            match self.file.write_all_at(&header.synced, 0) {
                Ok(()) => header.written = header.synced.clone(),
                Err(worse) => {
                    tracing::error!(%worse, "the state file's header cannot be put back: a \
                        restart may find a change that was refused");
                }
            }
        }
        error
    }

    #[cfg(test)]
    fn check(&self) -> io::Result<()> {
        self.fault.check()
    }

    #[cfg(not(test))]
    fn check(&self) -> io::Result<()> {
        Ok(())
    }

    #[cfg(test)]
    fn check_sync(&self) -> io::Result<()> {
        self.fault.check_sync()
    }

    #[cfg(not(test))]
    fn check_sync(&self) -> io::Result<()> {
        Ok(())
    }
}

// The folder's lock keeps other daemons away, so redb's own range locks are not offered.
impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let gives_back = len < self.file.metadata()?.len();
        match self.check().and_then(|()| self.file.set_len(len)) {
            // redb shrinks the file when its transaction is already on disk: that must not be
            // reported as failed. A file that is too long is sound.
            Err(error) if gives_back => {
                tracing::debug!(%error, "the state file keeps room that it does not need");
                Ok(())
            }
            done => done.map_err(|error| self.failed(error)),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.counters.syncs.fetch_add(1, Relaxed);
        let synced =
            self.check().and_then(|()| self.check_sync()).and_then(|()| self.file.sync_data());
        synced.map_err(|error| self.failed(error))?;
        let mut header = self.header();
        if header.synced != header.written {
            header.synced = header.written.clone();
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()
            .and_then(|()| self.file.write_all_at(data, offset))
            .map_err(|error| self.failed(error))?;
        self.counters.bytes.fetch_add(data.len() as u64, Relaxed);
        if offset == 0 {
            let data = &data[..data.len().min(HEADER_LEN)];
            let mut header = self.header();
            let kept = header.written.len().max(data.len());
            header.written.resize(kept, 0);
            header.written[..data.len()].copy_from_slice(data);
        }
        Ok(())
    }
}
