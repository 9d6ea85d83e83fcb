//! Creates, opens, checks and writes `state.redb`.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use shoal_protocol::model::{ClusterId, NodeId};
use shoal_protocol::node::{Record, Saved};

use super::disk::{Disk, DiskCounters};
use super::row::{self, BadRow, RowKey};
use super::{FILE, StoreError};

/// The table of the records.
const ROWS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("rows");
/// Records of kinds that came later: a program of before opens the file without them. They are not
/// part of the sum, because each can be missing.
const LATER: TableDefinition<&[u8], &[u8]> = TableDefinition::new("later");
/// The table that describes the file.
const ABOUT: TableDefinition<&str, &[u8]> = TableDefinition::new("about");

/// The file's format version. Files of format 1 are of clusters with a join key, whose folders are
/// refused before; the number keeps an older program from opening a file whose rows it cannot read.
const FORMAT: u16 = 2;
/// Bytes of cached pages. Everything is read once, at the start; after that only pages that are
/// rewritten.
const CACHE: usize = 8 * 1024 * 1024;
/// A file below this is not worth compacting; a larger one only when more than half of it is
/// unused.
const COMPACT_ABOVE: u64 = 4 * 1024 * 1024;

pub(super) struct StateFile {
    path: PathBuf,
    database: Database,
}

/// The folder and the owner of a node's state, which are needed to open it, and open it again.
#[derive(Clone, Debug)]
pub(super) struct StoreLocation {
    pub folder: PathBuf,
    pub cluster: ClusterId,
    pub node: NodeId,
    pub counters: Arc<DiskCounters>,
    #[cfg(test)]
    pub fault: Arc<super::tests::Fault>,
}

impl StoreLocation {
    pub(super) fn new(folder: &Path, cluster: ClusterId, node: NodeId) -> StoreLocation {
        StoreLocation {
            folder: folder.to_owned(),
            cluster,
            node,
            counters: Arc::default(),
            #[cfg(test)]
            fault: Arc::default(),
        }
    }
}

impl std::fmt::Debug for StateFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StateFile({})", self.path.display())
    }
}

impl StateFile {
    pub(super) fn create(location: &StoreLocation) -> Result<StateFile, StoreError> {
        let folder = &location.folder;
        let path = folder.join(FILE);
        let fresh = folder.join("state.redb.new");
        let cannot = |source| StoreError::Io { file: path.clone(), doing: "made", source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)
            .map_err(cannot)?;
        let made =
            Self::with(path.clone(), file, location).map_err(|fault| cannot(fault.into_io()))?;
        made.write_header(location.cluster, location.node)
            .map_err(|error| cannot(FileFault::from(error).into_io()))?;
        // The file has its name only once it is complete.
        fs::rename(&fresh, &path).map_err(cannot)?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(cannot)?;
        Ok(made)
    }

    pub(super) fn open(location: &StoreLocation) -> Result<(StateFile, Saved), StoreError> {
        let folder = &location.folder;
        let path = folder.join(FILE);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::Missing { file: path, folder: folder.to_owned() });
            }
            Err(source) => {
                return Err(StoreError::Io { file: path, doing: "opened for writing", source });
            }
        };
        // redb panics on some damaged files.
        catch_unwind(AssertUnwindSafe(|| Self::open_checked(path.clone(), file, location)))
            .unwrap_or_else(|_| Err(FileFault::Damaged("its pages contradict one another".into())))
            .map_err(|fault| match fault {
                FileFault::Damaged(why) => {
                    StoreError::Damaged { file: path, folder: folder.to_owned(), why }
                }
                FileFault::Foreign(what) => StoreError::Foreign { file: path, what },
                FileFault::Newer(format) => StoreError::Newer { file: path, format, known: FORMAT },
                FileFault::Io(source) => StoreError::Io { file: path, doing: "read", source },
            })
    }

    fn open_checked(
        path: PathBuf,
        file: File,
        location: &StoreLocation,
    ) -> Result<(StateFile, Saved), FileFault> {
        let length = file.metadata()?.len();
        if length == 0 {
            // redb would treat an empty file as a new one.
            return Err(FileFault::Damaged("it is empty".into()));
        }
        let mut opened = Self::with(path, file, location)?;
        // Rebuilds redb's list of free pages: damage there would only fail a later write.
        opened.database.check_integrity().map_err(redb::Error::from)?;
        let saved = opened.read(location.cluster, location.node)?;
        opened.compact(length)?;
        Ok((opened, saved))
    }

    fn with(path: PathBuf, file: File, location: &StoreLocation) -> Result<StateFile, FileFault> {
        let disk = Disk::new(file, location)?;
        let database = Builder::new()
            .set_cache_size(CACHE)
            .create_with_backend(disk)
            .map_err(redb::Error::from)?;
        Ok(StateFile { path, database })
    }

    /// Writes the file's owner and the sum over no rows.
    fn write_header(&self, cluster: ClusterId, node: NodeId) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        transaction.open_table(ROWS)?;
        {
            let mut about = transaction.open_table(ABOUT)?;
            about.insert("format", FORMAT.to_be_bytes().as_slice())?;
            about.insert("cluster", cluster.as_bytes().as_slice())?;
            about.insert("node", node.as_bytes().as_slice())?;
            about.insert("sum", [0; 32].as_slice())?;
        }
        Ok(transaction.commit()?)
    }

    /// Reads and checks everything.
    fn read(&self, cluster: ClusterId, node: NodeId) -> Result<Saved, FileFault> {
        let transaction = self.database.begin_read().map_err(redb::Error::from)?;
        let about = transaction.open_table(ABOUT).map_err(redb::Error::from)?;
        match u16::from_be_bytes(fixed(&about, "format")?) {
            FORMAT => {}
            older @ ..FORMAT => {
                return Err(FileFault::Damaged(format!(
                    "it has format {older}, of older versions"
                )));
            }
            newer => return Err(FileFault::Newer(newer)),
        }
        if fixed(&about, "cluster")? != cluster.0 {
            return Err(FileFault::Foreign("cluster"));
        }
        if fixed(&about, "node")? != node.0 {
            return Err(FileFault::Foreign("node"));
        }
        let (mut saved, mut sum) = (Saved::default(), [0; 32]);
        let rows = transaction.open_table(ROWS).map_err(redb::Error::from)?;
        for entry in rows.iter().map_err(redb::Error::from)? {
            let (key, value) = entry.map_err(redb::Error::from)?;
            add(&mut sum, row::weight(key.value(), value.value()));
            row::load(RowKey(key.value().to_vec()), value.value(), &mut saved)
                .map_err(|error| FileFault::Damaged(error.to_string()))?;
        }
        match transaction.open_table(LATER) {
            Ok(rows) => {
                for entry in rows.iter().map_err(redb::Error::from)? {
                    let (key, value) = entry.map_err(redb::Error::from)?;
                    // A kind of a newer program waits for it.
                    match row::load(RowKey(key.value().to_vec()), value.value(), &mut saved) {
                        Ok(()) | Err(BadRow::Kind(_)) => {}
                        Err(error) => return Err(FileFault::Damaged(error.to_string())),
                    }
                }
            }
            Err(TableError::TableDoesNotExist(_)) => {}
            Err(error) => return Err(redb::Error::from(error).into()),
        }
        if sum != fixed(&about, "sum")? {
            return Err(FileFault::Damaged(
                "rows are missing, or older than they should be".into(),
            ));
        }
        Ok(saved)
    }

    /// Compacts a file that is mostly unused. It was read and found sound before.
    fn compact(&mut self, length: u64) -> Result<(), FileFault> {
        if length <= COMPACT_ABOVE {
            return Ok(());
        }
        let transaction = self.database.begin_write().map_err(redb::Error::from)?;
        let stats = transaction.stats().map_err(redb::Error::from)?;
        transaction.abort().map_err(redb::Error::from)?;
        if stats.stored_bytes() + stats.metadata_bytes() < length / 2 {
            self.database.compact().map_err(redb::Error::from)?;
        }
        Ok(())
    }

    /// Writes all of these records or none, and returns when they are on disk. The error is text
    /// for people.
    pub(super) fn commit(&self, records: &BTreeMap<RowKey, Record>) -> Result<(), String> {
        self.write(records).map_err(|error| {
            let file = self.path.display();
            match error {
                redb::Error::Io(error) if error.kind() == io::ErrorKind::StorageFull => {
                    format!("{file} cannot be written: the disk is full. Free some space")
                }
                error => format!("{file} cannot be written: {error}. Look at the disk"),
            }
        })
    }

    fn write(&self, records: &BTreeMap<RowKey, Record>) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut rows = transaction.open_table(ROWS)?;
            let mut about = transaction.open_table(ABOUT)?;
            let mut sum: [u8; 32] = match about.get("sum")? {
                Some(sum) => sum.value().try_into().map_err(|_| corrupted())?,
                None => return Err(corrupted()),
            };
            let is_later = |(key, _): &(&RowKey, &Record)| key.is_later();
            if records.iter().any(|row| is_later(&row)) {
                let mut rows = transaction.open_table(LATER)?;
                for (key, record) in records.iter().filter(is_later) {
                    match row::value(key, record) {
                        Some(value) => drop(rows.insert(key.0.as_slice(), value.as_slice())?),
                        None => drop(rows.remove(key.0.as_slice())?),
                    }
                }
            }
            for (key, record) in records.iter().filter(|row| !is_later(row)) {
                let key_bytes = key.0.as_slice();
                let old = match row::value(key, record) {
                    Some(value) => {
                        add(&mut sum, row::weight(key_bytes, &value));
                        rows.insert(key_bytes, value.as_slice())?
                    }
                    None => rows.remove(key_bytes)?,
                };
                if let Some(old) = old {
                    add(&mut sum, row::weight(key_bytes, old.value()));
                }
            }
            about.insert("sum", sum.as_slice())?;
        }
        Ok(transaction.commit()?)
    }
}

/// Why a file is refused.
enum FileFault {
    Damaged(String),
    Foreign(&'static str),
    Newer(u16),
    Io(io::Error),
}

impl FileFault {
    /// For a new file every fault is the disk's.
    fn into_io(self) -> io::Error {
        match self {
            FileFault::Io(error) => error,
            FileFault::Damaged(why) => io::Error::other(why),
            FileFault::Foreign(what) => io::Error::other(what),
            FileFault::Newer(format) => io::Error::other(format!("format {format}")),
        }
    }
}

impl From<io::Error> for FileFault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // A page is missing.
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidData
            | io::ErrorKind::InvalidInput => FileFault::Damaged(error.to_string()),
            _ => FileFault::Io(error),
        }
    }
}

impl From<redb::Error> for FileFault {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => error.into(),
            error => FileFault::Damaged(error.to_string()),
        }
    }
}

fn corrupted() -> redb::Error {
    redb::Error::Corrupted("the sum over all rows is not there".into())
}

fn fixed<const N: usize>(
    about: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<[u8; N], FileFault> {
    let value = about.get(name).map_err(redb::Error::from)?;
    value
        .and_then(|value| value.value().try_into().ok())
        .ok_or_else(|| FileFault::Damaged(format!("its header has no `{name}`")))
}

fn add(sum: &mut [u8; 32], weight: [u8; 32]) {
    sum.iter_mut().zip(weight).for_each(|(sum, weight)| *sum ^= weight);
}
