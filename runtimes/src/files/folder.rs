//! The files of a volume read from the device itself: of components, and of an engine whose own
//! archives give all files to root, which is rootful Podman of this device.
//!
//! **Programs that write the volume meanwhile cannot lead this elsewhere**: each name is opened
//! below its open folder, and no link is followed. What vanishes in between is left out.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat,
};
use tar::{Builder, EntryType, Header};

/// Folders within one another: far more than a path may have names of some length.
const MAX_DEPTH: usize = 512;

/// Opens a volume's folder.
pub(crate) fn open(folder: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, folder, FOLDER, Mode::empty())?)
}

const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// A pipe that took a file's place must not hold the reader.
const PLAIN: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// Writes all that is in a folder as a tar archive, with owners and modes. Its first entry is the
/// folder itself. Sockets are left out.
pub(crate) fn write(folder: OwnedFd, out: impl Write) -> io::Result<()> {
    let mut tar = Builder::new(out);
    let stat = fstat(&folder)?;
    tar.append_data(&mut header(&stat, EntryType::Directory), "./", io::empty())?;
    add(&mut tar, folder, Path::new("."), 0)?;
    tar.into_inner()?.flush()
}

fn add(
    tar: &mut Builder<impl Write>,
    folder: OwnedFd,
    path: &Path,
    depth: usize,
) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other(format!("{} is too deep", path.display())));
    }
    let mut names: Vec<Vec<u8>> = Vec::new();
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_bytes().to_vec());
        }
    }
    names.sort_unstable();
    for name in names {
        match add_one(tar, &folder, OsStr::from_bytes(&name), path, depth) {
            // It vanished, or became something else in between.
            Err(error) if is_gone(&error) => {}
            done => done?,
        }
    }
    Ok(())
}

fn add_one(
    tar: &mut Builder<impl Write>,
    folder: &OwnedFd,
    name: &OsStr,
    path: &Path,
    depth: usize,
) -> io::Result<()> {
    let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let path: PathBuf = path.join(name);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let below = openat(folder, name, FOLDER, Mode::empty())?;
            let mut header = header(&fstat(&below)?, EntryType::Directory);
            tar.append_data(&mut header, path.join(""), io::empty())?;
            add(tar, below, &path, depth + 1)
        }
        FileType::RegularFile => {
            let file = openat(folder, name, PLAIN, Mode::empty())?;
            let stat = fstat(&file)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Ok(());
            }
            let mut header = header(&stat, EntryType::Regular);
            let size = u64::try_from(stat.st_size).unwrap_or_default();
            header.set_size(size);
            // A file that is written meanwhile has as many bytes as were announced.
            let bytes = File::from(file).chain(io::repeat(0)).take(size);
            tar.append_data(&mut header, path, bytes)
        }
        FileType::Symlink => {
            let target = readlinkat(folder, name, Vec::new())?;
            let target = OsStr::from_bytes(target.as_bytes());
            tar.append_link(&mut header(&stat, EntryType::Symlink), path, target)
        }
        FileType::Fifo => tar.append_data(&mut header(&stat, EntryType::Fifo), path, io::empty()),
        _ => Ok(()),
    }
}

fn header(stat: &Stat, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or_default());
    header.set_size(0);
    header
}

fn is_gone(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    use rustix::io::Errno;
    matches!(code, Some(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::NXIO))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    /// A link to a folder of the device is a link in the archive, and nothing behind it is read.
    #[test]
    fn owners_and_links_are_kept_and_no_link_is_followed() {
        let secret = tempfile::tempdir().unwrap();
        fs::write(secret.path().join("key"), "secret").unwrap();
        let volume = tempfile::tempdir().unwrap();
        let at = |name: &str| volume.path().join(name);
        fs::create_dir(at("sub")).unwrap();
        fs::write(at("sub/file"), "data").unwrap();
        fs::set_permissions(at("sub/file"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink(secret.path(), at("out")).unwrap();
        symlink(secret.path().join("key"), at("sub/key")).unwrap();
        let own = fs::metadata(at("sub/file")).unwrap().uid();

        let mut bytes = Vec::new();
        write(open(volume.path()).unwrap(), &mut bytes).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"secret"));
        let mut archive = tar::Archive::new(&bytes[..]);
        let found: Vec<(String, EntryType, u32, u64)> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let (path, header) = (entry.path().unwrap().display().to_string(), entry.header());
                let mode = header.mode().unwrap();
                (path, header.entry_type(), mode, header.uid().unwrap())
            })
            .collect();
        let kinds: Vec<(&str, EntryType)> =
            found.iter().map(|(path, kind, ..)| (path.as_str(), *kind)).collect();
        assert_eq!(
            kinds,
            [
                ("./", EntryType::Directory),
                ("out", EntryType::Symlink),
                ("sub/", EntryType::Directory),
                ("sub/file", EntryType::Regular),
                ("sub/key", EntryType::Symlink),
            ]
        );
        assert_eq!((found[3].2, found[3].3), (0o640, u64::from(own)));
    }
}
