//! The file under redb: counts what reaches the disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use redb::StorageBackend;

/// What reached the disk since the start.
#[derive(Debug, Default)]
pub struct DiskCounters {
    /// Transactions.
    pub commits: AtomicU64,
    /// Bytes written to the file, redb's own bookkeeping included.
    pub bytes: AtomicU64,
    /// Syncs.
    pub syncs: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Disk {
    pub file: File,
    pub counters: Arc<DiskCounters>,
    #[cfg(test)]
    pub fault: Arc<super::tests::Fault>,
}

impl Disk {
    #[cfg(test)]
    fn check(&self) -> io::Result<()> {
        self.fault.check()
    }

    #[cfg(not(test))]
    fn check(&self) -> io::Result<()> {
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
        self.check()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check()?;
        self.counters.syncs.fetch_add(1, Relaxed);
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        self.counters.bytes.fetch_add(data.len() as u64, Relaxed);
        self.file.write_all_at(data, offset)
    }
}
