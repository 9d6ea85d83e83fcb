//! The state that survives a power cut. The only place that knows redb.
//!
//! A file, `state.redb`, holds a row for each record. One thread owns it: it takes all records
//! queued since its last transaction, writes them as one transaction, syncs once, and reports up to
//! which batch everything is on disk. At rest it sleeps and does not touch the flash. After a
//! failure it probes ever more rarely whether the disk takes writes again, and reports that.
//!
//! **redb's reads are not trusted.** Each row carries its format and a checksum over key and bytes;
//! the file carries a sum over all rows, so that a missing row is noticed too. A damaged file is
//! refused, with its name and a remedy, never repaired silently: a node that forgot a claim could
//! take it twice.

mod disk;
mod file;
pub(crate) mod fuzzing;
mod lock;
mod probe;
mod row;
mod thread;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shoal_protocol::model::{ClusterId, NodeId};
use shoal_protocol::node::{PersistId, Record, Saved};
use tokio::sync::mpsc;

pub use disk::DiskCounters;
pub use lock::{Lock, LockError, LockHolder, lock_holder};

use file::{StateFile, StoreLocation};
use thread::Queue;

/// The state's file in the state folder.
pub const FILE: &str = "state.redb";

/// A report of the store's thread.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreAnswer {
    /// Everything up to this batch is on disk.
    Stored {
        /// The last batch on disk.
        upto: PersistId,
        /// How long the transaction took: the first sign of a slow flash.
        took: std::time::Duration,
    },
    /// The disk takes no writes: none of the records since the last `Stored` is on it. Further
    /// records are dropped, until `Recovered`.
    Failed {
        /// The disk's error, and what to do.
        why: String,
    },
    /// The disk takes writes again. It holds the state of the last `Stored`.
    Recovered,
}

/// Why a store was not opened. The file was not altered.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum StoreError {
    #[error(
        "{} was cut short or altered: {why}. Nothing in it was used. To rejoin with an empty \
            state, move {} away and run \
         `shoal join LINE` with the line that `shoal invite` prints on another node",
        file.display(), folder.display()
    )]
    Damaged { file: PathBuf, folder: PathBuf, why: String },
    #[error(
        "{} is missing though this node has an identity: it was deleted, or not all of {} was \
            copied. To rejoin with an empty state, move \
         {} away and run `shoal up --join LINE`",
        file.display(), folder.display(), folder.display()
    )]
    Missing { file: PathBuf, folder: PathBuf },
    #[error("{} belongs to another {what} than identity.json beside it: the folder was mixed from \
        two. Restore one of them, or start in an \
             empty folder", file.display())]
    Foreign { file: PathBuf, what: &'static str },
    #[error("{} was written by a newer shoal (format {format}, this one knows {known}): run that \
        one", file.display())]
    Newer { file: PathBuf, format: u16, known: u16 },
    #[error("{0}")]
    Unwritable(String),
    #[error("{} cannot be {doing}: {source}", file.display())]
    Io { file: PathBuf, doing: &'static str, source: io::Error },
}

/// An open store whose thread does not run yet.
#[derive(Debug)]
pub struct Store {
    file: StateFile,
    location: StoreLocation,
}

impl Store {
    /// Makes an empty store in `folder` for a node that never ran. It replaces the store of an
    /// interrupted first start.
    pub fn create(folder: &Path, cluster: ClusterId, node: NodeId) -> Result<Store, StoreError> {
        let location = StoreLocation::new(folder, cluster, node);
        Ok(Store { file: StateFile::create(&location)?, location })
    }

    /// Opens the store in `folder`, reads and checks all of it, and compacts it when worthwhile.
    /// Blocks.
    pub fn open(
        folder: &Path,
        cluster: ClusterId,
        node: NodeId,
    ) -> Result<(Store, Saved), StoreError> {
        let location = StoreLocation::new(folder, cluster, node);
        let (file, saved) = StateFile::open(&location)?;
        Ok((Store { file, location }, saved))
    }

    /// Writes one record, and returns once it is on disk. Blocks.
    pub fn put(&self, record: Record) -> Result<(), StoreError> {
        self.file
            .commit(&BTreeMap::from([(row::key(&record), record)]))
            .map_err(StoreError::Unwritable)
    }

    /// Takes the incarnation of this start, one above any used before, and returns once it is on
    /// disk: two lives of a node must never be confused. Blocks.
    pub fn draw_incarnation(&self, saved: &mut Saved) -> Result<(), StoreError> {
        let drawn = Record::Incarnation(saved.incarnation + 1);
        self.file
            .commit(&BTreeMap::from([(row::key(&drawn), drawn)]))
            .map_err(StoreError::Unwritable)?;
        saved.incarnation += 1;
        Ok(())
    }

    /// This store on a disk that is full after so many more writes and syncs.
    #[cfg(test)]
    pub(crate) fn failing_after(self, writes: i64) -> Store {
        self.location.fault.fail_after(writes);
        self
    }

    /// The disk's fault, which a test can end.
    #[cfg(test)]
    pub(crate) fn fault(&self) -> Arc<tests::Fault> {
        self.location.fault.clone()
    }

    /// Starts the thread, which sends its reports to `answers`.
    pub fn start(self, answers: mpsc::Sender<StoreAnswer>) -> io::Result<StoreHandle> {
        let Store { file, location } = self;
        let (queue, counters) = (Arc::new(Queue::default()), location.counters.clone());
        let thread = thread::spawn(file, location, queue.clone(), answers)?;
        Ok(StoreHandle { queue, counters, thread: Some(thread) })
    }
}

/// The running store. Dropping it writes the queued records, then closes the file.
#[derive(Debug)]
pub struct StoreHandle {
    queue: Arc<Queue>,
    counters: Arc<DiskCounters>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl StoreHandle {
    /// Queues records for one transaction. Never blocks: a later record replaces a queued one of
    /// the same key, so the queue is bounded by the state itself, however slow the disk is.
    pub fn persist(&self, id: PersistId, records: Vec<Record>) {
        self.queue.push(id, records);
    }

    /// Counters since the start.
    pub fn counters(&self) -> &Arc<DiskCounters> {
        &self.counters
    }
}

impl Drop for StoreHandle {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            // A panic in the thread was caught and reported as a failure.
            let _ = thread.join();
        }
    }
}
