//! Small private files, written atomically: beside, synced, renamed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;

/// A file that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be {doing}: {source}", file.display())]
pub struct FileError {
    file: PathBuf,
    doing: &'static str,
    source: io::Error,
}

impl FileError {
    /// `file` cannot be `doing` (a participle: read, written, deleted).
    pub fn new(file: &Path, doing: &'static str, source: io::Error) -> Self {
        FileError { file: file.to_owned(), doing, source }
    }

    /// Whether the system does not allow it.
    pub fn is_denied(&self) -> bool {
        self.source.kind() == io::ErrorKind::PermissionDenied
    }
}

/// Above any file of ours, so that a wrong path does not fill the memory.
const LARGEST: u64 = 1024 * 1024;

/// The text of `file`; `None` when there is no such file.
pub fn read(file: &Path) -> Result<Option<String>, FileError> {
    let cannot = |source| FileError { file: file.to_owned(), doing: "read", source };
    match fs::metadata(file) {
        Ok(found) if found.len() > LARGEST => Err(cannot(io::Error::other("it is far too large"))),
        Ok(_) => fs::read_to_string(file).map(Some).map_err(cannot),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot(error)),
    }
}

/// The text of a file with a secret; `None` when there is none.
///
/// # Errors
/// Also a file that others than its owner can read: the secret may be known already.
pub fn read_secret(file: &Path) -> Result<Option<String>, SecretError> {
    match fs::metadata(file) {
        Ok(found) if found.mode() & 0o077 != 0 => {
            Err(SecretError::Open { file: file.to_owned(), mode: found.mode() & 0o777 })
        }
        _ => Ok(read(file)?),
    }
}

/// A file with a secret that is not used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum SecretError {
    #[error(
        "others than its owner can read {} (mode {mode:03o}), and it holds a secret: it is not \
            used", file.display()
    )]
    Open { file: PathBuf, mode: u32 },
    #[error(transparent)]
    File(#[from] FileError),
}

impl SecretError {
    /// Advice for the user.
    pub fn hint(&self) -> Option<String> {
        match self {
            SecretError::Open { file, .. } => Some(format!(
                "`chmod 600 {}` mends it. If somebody may have read it, an administrator can \
                    revoke its key and give another.",
                file.display()
            )),
            SecretError::File(error) if error.is_denied() => {
                Some("It belongs to another user: copy it, or call shoal as that user.".into())
            }
            SecretError::File(_) => None,
        }
    }
}

/// Creates a folder and its parents, for its owner alone.
pub fn make_folder(folder: &Path) -> Result<(), FileError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|source| FileError {
        file: folder.to_owned(),
        doing: "made",
        source,
    })
}

/// Writes `value` as JSON, for its owner alone.
pub fn write_json(file: &Path, value: &impl Serialize) -> Result<(), FileError> {
    let cannot = |source: serde_json::Error| FileError {
        file: file.to_owned(),
        doing: "written",
        source: source.into(),
    };
    let mut text = serde_json::to_string_pretty(value).map_err(cannot)?;
    text.push('\n');
    write(file, text.as_bytes())
}

/// Writes `bytes`, for the file's owner alone; a reader sees all of them or the old content.
pub fn write(file: &Path, bytes: &[u8]) -> Result<(), FileError> {
    // What a link leads to is written, and not the link: else the old bytes stay there.
    let real = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let file = real.as_path();
    let cannot = |source| FileError { file: file.to_owned(), doing: "written", source };
    let folder =
        file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_folder(folder)?;
    let fresh = file.with_extension(format!("new.{}", std::process::id()));
    let mut out = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(cannot)?;
    let written =
        out.write_all(bytes).and_then(|()| out.sync_all()).and_then(|()| fs::rename(&fresh, file));
    if let Err(error) = written {
        // The rest is useless, and the first error is the one to report.
        let _ = fs::remove_file(&fresh);
        return Err(cannot(error));
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(cannot)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key file that is a link was put under a passphrase: the link became a file, and the key
    /// stayed open where it led.
    #[test]
    fn link_is_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real.json"), folder.path().join("link.json"));
        write(&real, b"open").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        write(&link, b"sealed").unwrap();
        assert_eq!(fs::read(&real).unwrap(), b"sealed");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }
}
