//! Opens what a person names: a folder, an archive, or a compressed archive.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::ImageFault;
use super::packing::{Packing, head};
use super::source::{PartReader, Source};
use super::tarfile;

/// Bytes that are unpacked between two looks at the room on the disk.
const STRIDE: u64 = 16 << 20;
/// Bytes that stay free on the disk of the temporary folder, for the node's own state.
const KEEP_FREE: u64 = 64 << 20;

pub(super) fn open(path: &Path, temp: &Path) -> Result<Source, ImageFault> {
    let kind = path.metadata().map_err(ImageFault::Read)?;
    if kind.is_dir() {
        return Ok(Source::Folder(path.to_owned()));
    }
    if !kind.is_file() {
        return Err(ImageFault::NotAFile); // opening a pipe would wait for its writer
    }
    let file = Arc::new(File::open(path).map_err(ImageFault::Read)?);
    let size = file.metadata().map_err(ImageFault::Read)?.len();
    let mut reader = PartReader::new(Arc::clone(&file), 0, size);
    let head = head(&mut reader).map_err(ImageFault::Read)?;
    let file = match Packing::of(&head) {
        Some(Packing::Plain) => file,
        Some(packing) => {
            let packed = PartReader::new(Arc::clone(&file), 0, size);
            let unpacked = Arc::new(unpack(packing, packed, temp)?);
            let size = unpacked.metadata().map_err(ImageFault::Read)?.len();
            let begin = self::head(&mut PartReader::new(Arc::clone(&unpacked), 0, size));
            match Packing::of(&begin.map_err(ImageFault::Read)?) {
                Some(Packing::Plain) => unpacked,
                _ => return Err(ImageFault::NotATar),
            }
        }
        None => return Err(unknown(&head)),
    };
    let entries = tarfile::entries(&file)?;
    let has = |name| entries.contains_key(name);
    match (has("manifest.json") || has("index.json"), has("repositories")) {
        (true, _) => Ok(Source::Tar { file, entries }),
        (false, true) => Err(ImageFault::Legacy),
        (false, false) => Err(ImageFault::FilesOnly),
    }
}

fn unknown(head: &[u8]) -> ImageFault {
    match head {
        [] => ImageFault::Empty,
        [0xfd, b'7', b'z', b'X', b'Z', ..] => ImageFault::Compression("xz"),
        [b'B', b'Z', b'h', ..] => ImageFault::Compression("bzip2"),
        [0x04, 0x22, 0x4d, 0x18, ..] => ImageFault::Compression("lz4"),
        _ => ImageFault::NotATar,
    }
}

/// Unpacks into a file without a name: it vanishes when its last reader does, and after a crash.
fn unpack(packing: Packing, packed: PartReader, temp: &Path) -> Result<File, ImageFault> {
    let wrong = |source| ImageFault::Unpack { folder: temp.to_owned(), source };
    let mut file = nameless(temp).map_err(wrong)?;
    let mut reader = packing.unpack(packed);
    let mut buffer = vec![0; 256 * 1024];
    let mut until_look = 0;
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => return Ok(file),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unpacking("the compressed file", error)),
        };
        if until_look < read as u64 {
            let free = free_bytes(temp).unwrap_or(u64::MAX); // unknown: the write itself will fail
            if free < KEEP_FREE + STRIDE {
                return Err(ImageFault::DiskFull { folder: temp.to_owned(), free });
            }
            until_look = STRIDE;
        }
        until_look -= read as u64;
        file.write_all(&buffer[..read]).map_err(wrong)?;
    }
}

/// An error of a decoder: either the device could not read, or the bytes are wrong.
pub(super) fn unpacking(name: &str, error: io::Error) -> ImageFault {
    match error.raw_os_error() {
        Some(_) => ImageFault::Read(error),
        None => {
            let why = format!("cannot be unpacked: {error}");
            ImageFault::Damaged { name: name.into(), why }
        }
    }
}

fn nameless(folder: &Path) -> io::Result<File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!("image-{}-{number}", std::process::id()));
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}
