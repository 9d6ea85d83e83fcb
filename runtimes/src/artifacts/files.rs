//! Work on files. All of it blocks, except [`blocking`].

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self as stdio, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use ring::digest::{Context, SHA256};
use shoal_protocol::model::Digest;

use super::CHUNK;
use super::error::Error;

/// Runs disk work on a blocking thread.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(stopped) if stopped.is_panic() => std::panic::resume_unwind(stopped.into_panic()),
        Err(stopped) => Err(Error::Io {
            doing: "finish work on",
            path: PathBuf::from("the store"),
            source: stdio::Error::other(stopped),
        }),
    }
}

/// Turns an IO error into ours; a full disk has an error of its own.
pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(stdio::Error) -> Error {
    let path = path.to_owned();
    move |source| match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            let free = free_bytes(&path).unwrap_or(0);
            Error::DiskFull { folder: path, needed: 0, free }
        }
        _ => Error::Io { doing, path, source },
    }
}

/// Makes a folder that only this user can read.
pub(super) fn make_private(folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(io("make", folder))?;
    fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(io("protect", folder))
}

/// Deletes all files in a folder.
pub(super) fn empty(folder: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(folder).map_err(io("list", folder))? {
        let path = entry.map_err(io("list", folder))?.path();
        delete(&path)?;
    }
    Ok(())
}

/// Deletes a file, if there is one.
pub(super) fn delete(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io("delete", path)(error)),
        _ => Ok(()),
    }
}

/// Keeps the newest files of a folder and tries to delete the others.
pub(super) fn keep_newest(folder: &Path, keep: usize) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut files: Vec<_> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
        })
        .collect();
    files.sort();
    for (_, path) in files.iter().rev().skip(keep) {
        if let Err(error) = fs::remove_file(path) {
            tracing::warn!(file = %path.display(), %error, "cannot delete an old file");
        }
    }
}

/// Fails when `more` bytes would leave less than `keep_free` on the file system.
pub(super) fn check_free(folder: &Path, more: u64, keep_free: u64) -> Result<(), Error> {
    match free_bytes(folder) {
        Some(free) if free < more.saturating_add(keep_free) => {
            Err(Error::DiskFull { folder: folder.to_owned(), needed: more, free })
        }
        _ => Ok(()), // unknown: the write itself will fail
    }
}

fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Metadata of a file that changes with each write to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    pub size: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub fn of(file: &File, path: &Path) -> Result<Self, Error> {
        let meta = file.metadata().map_err(io("look at", path))?;
        Ok(Stamp {
            size: meta.len(),
            inode: meta.ino(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

/// The SHA-256 of a whole file.
pub(super) fn hash(file: &File, path: &Path) -> Result<Digest, Error> {
    let mut reader = file;
    reader.seek(SeekFrom::Start(0)).map_err(io("read", path))?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; CHUNK];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => context.update(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(io("read", path)(error)),
        }
    }
    reader.seek(SeekFrom::Start(0)).map_err(io("read", path))?;
    Ok(finish(context))
}

fn finish(context: Context) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    Digest(out)
}

/// Up to `len` bytes from `offset`, none beyond `size`.
pub(super) fn read_at(
    file: &File,
    path: &Path,
    offset: u64,
    len: usize,
    size: u64,
) -> Result<Bytes, Error> {
    let left = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut buffer = vec![0; len.min(left)];
    file.read_exact_at(&mut buffer, offset).map_err(io("read", path))?;
    Ok(buffer.into())
}

/// Makes a rename or a deletion in the file's folder durable.
pub(super) fn sync_folder_of(path: &Path) -> Result<(), Error> {
    let Some(folder) = path.parent() else { return Ok(()) };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io("sync", folder))
}

/// A temporary file that is being written and hashed. Deleted on drop unless it is kept.
pub(super) struct Draft {
    file: File,
    path: PathBuf,
    context: Context,
    len: u64,
    kept: bool,
}

impl Draft {
    pub fn new(folder: &Path) -> Result<Self, Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let path =
            folder.join(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(io("make", &path))?;
        Ok(Draft { file, path, context: Context::new(&SHA256), len: 0, kept: false })
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(io("write", &self.path))?;
        self.context.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn digest(&self) -> Digest {
        finish(self.context.clone())
    }

    /// Syncs the file to disk, then gives it its name.
    pub fn keep_as(mut self, path: &Path) -> Result<Stamp, Error> {
        self.file.sync_all().map_err(io("sync", &self.path))?;
        fs::rename(&self.path, path).map_err(io("name", path))?;
        self.kept = true;
        sync_folder_of(path)?;
        Stamp::of(&self.file, path)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            // If this fails, the next opening of the store deletes the file.
            let _ = fs::remove_file(&self.path);
        }
    }
}
