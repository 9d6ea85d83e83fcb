//! Locks a state folder, so that only one daemon uses it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a locked folder is tried, and the pause between. [`lock_holder`] takes the lock for an
/// instant, which must not keep a daemon from starting.
const TRIES: (u32, Duration) = (20, Duration::from_millis(5));

/// A state folder locked by this process, until the lock is dropped or the process ends in any way.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why a folder could not be taken.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum LockError {
    #[error(
        "a shoal daemon{} already runs on {}: stop it with `shoal down`, or give this one another \
            folder with --state",
        pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(), folder.display()
    )]
    Taken { folder: PathBuf, pid: Option<u32> },
    #[error("{} cannot be written: {source}. A node needs a folder that it may write; name one \
        with --state", file.display())]
    Io { file: PathBuf, source: io::Error },
}

impl Lock {
    /// Locks `folder`, which must exist.
    pub fn take(folder: &Path) -> Result<Lock, LockError> {
        let path = folder.join("lock");
        let io = |source| LockError::Io { file: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io)?;
        let mut tries = 0;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if tries < TRIES.0 => {
                    tries += 1;
                    std::thread::sleep(TRIES.1);
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(LockError::Taken {
                        folder: folder.to_owned(),
                        pid: written(&mut file),
                    });
                }
                Err(TryLockError::Error(source)) => return Err(io(source)),
            }
        }
        // The process id is for people; the lock itself is the kernel's.
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Lock { _file: file })
    }
}

/// The daemon that has locked a folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LockHolder {
    /// Its process id, as it wrote it into the lock file.
    pub pid: Option<u32>,
}

/// The daemon that has locked `folder`; none when it is free or missing.
pub fn lock_holder(folder: &Path) -> Option<LockHolder> {
    let mut file = File::open(folder.join("lock")).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(LockHolder { pid: written(&mut file) }),
        // The lock is released when the file is closed, at the end of this function.
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}

fn written(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
