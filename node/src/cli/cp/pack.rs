//! Files of this machine as a tar archive, under the names that they get in the replica.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use tar::{Builder, EntryType, Header};

use crate::cli::error::CliError;

/// Bytes of an archive's head.
pub const BLOCK: usize = 512;

/// Whether an archive begins with a folder.
pub fn begins_with_folder(head: &[u8]) -> bool {
    let Some(head) = head.get(..BLOCK) else { return false };
    Header::from_byte_slice(head).entry_type() == EntryType::Directory
}

/// A path in a replica to which files are copied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Destination<'a> {
    path: &'a str,
    is_folder: bool,
}

impl<'a> Destination<'a> {
    /// The path, and whether a folder is there.
    pub fn of(path: &'a str, is_folder: bool) -> Self {
        Destination { path, is_folder }
    }

    /// The folder in which the archive is unpacked, and the first name in it: as `cp -r`, a folder
    /// that is there takes the files under their own name, and another path is their new name. A
    /// source that ends in `/.` is the contents of a folder: no name.
    pub fn resolve(&self, from: &Path) -> Result<(String, Option<OsString>), CliError> {
        let contents = from.as_os_str().as_encoded_bytes().ends_with(b"/.");
        let path = match self.path.trim_end_matches('/') {
            "" => "/",
            path => path,
        };
        if self.is_folder {
            let name = match contents {
                true => None,
                false => Some(name_of(from)?),
            };
            return Ok((path.to_owned(), name));
        }
        if self.path.ends_with('/') {
            return Err(CliError::usage(format!("there is no folder `{}` in it", self.path))
                .hint("Without the slash at the end it is the new name."));
        }
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folder = if folder.is_empty() { "/" } else { folder };
        Ok((folder.to_owned(), Some(name.into())))
    }
}

fn name_of(from: &Path) -> Result<OsString, CliError> {
    // `.` and `..` have names, too.
    let whole = from.canonicalize().map_err(|error| unreadable(from, &error))?;
    let name = from.file_name().or_else(|| whole.file_name()).map(OsString::from);
    name.ok_or_else(|| {
        CliError::usage(format!("{} has no name to be copied under", from.display()))
    })
}

fn unreadable(path: &Path, error: &io::Error) -> CliError {
    CliError::usage(format!("{} cannot be read: {error}", path.display()))
}

/// Writes an archive of `from` and all that is in it, with `name` for its own; without a name, of
/// what is in it.
pub fn pack(from: &Path, name: Option<&std::ffi::OsStr>, to: impl Write) -> Result<(), CliError> {
    let mut builder = Builder::new(to);
    // A link that is named is followed; links within a folder stay links.
    let meta = fs::metadata(from).map_err(|error| unreadable(from, &error))?;
    match name {
        Some(name) => add(&mut builder, from, Path::new(name), &meta)?,
        None => children(&mut builder, from, Path::new(""))?,
    }
    builder.finish().map_err(|error| unreadable(from, &error))
}

fn add(
    builder: &mut Builder<impl Write>,
    from: &Path,
    name: &Path,
    meta: &fs::Metadata,
) -> Result<(), CliError> {
    let failed = |error: io::Error| unreadable(from, &error);
    let mut header = Header::new_gnu();
    header.set_metadata(meta);
    // The users of this machine are not those of the image.
    header.set_uid(0);
    header.set_gid(0);
    if meta.is_dir() {
        builder.append_data(&mut header, name, io::empty()).map_err(failed)?;
        children(builder, from, name)
    } else if meta.is_symlink() {
        let target = fs::read_link(from).map_err(failed)?;
        header.set_size(0);
        builder.append_link(&mut header, name, target).map_err(failed)
    } else if meta.is_file() {
        let file = fs::File::open(from).map_err(failed)?;
        // A file that grows meanwhile is copied as long as it was.
        let exact = Exact { file, left: meta.len() };
        builder.append_data(&mut header, name, exact).map_err(failed)
    } else {
        Err(CliError::usage(format!(
            "{} is no file, folder or link, and cannot be copied",
            from.display()
        )))
    }
}

fn children(builder: &mut Builder<impl Write>, from: &Path, name: &Path) -> Result<(), CliError> {
    let failed = |error: io::Error| unreadable(from, &error);
    let mut entries: Vec<_> =
        fs::read_dir(from).and_then(|all| all.collect::<io::Result<_>>()).map_err(failed)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let meta = fs::symlink_metadata(&path).map_err(|error| unreadable(&path, &error))?;
        add(builder, &path, &name.join(entry.file_name()), &meta)?;
    }
    Ok(())
}

/// Exactly the announced bytes of a file.
struct Exact {
    file: fs::File,
    left: u64,
}

impl io::Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let length = self.file.read(&mut buffer[..most])?;
        if length == 0 && most > 0 {
            return Err(io::Error::other("it became shorter while it was read"));
        }
        self.left -= length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(path: &str, is_folder: bool, from: &Path) -> (String, Option<String>) {
        let (folder, name) = Destination::of(path, is_folder).resolve(from).unwrap();
        (folder, name.map(|name| name.into_string().unwrap()))
    }

    /// As `cp -r` and `docker cp` have it.
    #[test]
    fn folder_that_is_there_takes_files_under_their_name() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("site");
        fs::create_dir(&from).unwrap();
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(resolved("/srv", true, &from), ("/srv".into(), named("site")));
        assert_eq!(resolved("/srv/", true, &from), ("/srv".into(), named("site")));
        assert_eq!(resolved("/srv/www", false, &from), ("/srv".into(), named("www")));
        assert_eq!(resolved("/www", false, &from), ("/".into(), named("www")));
        assert_eq!(resolved("/srv", true, &from.join(".")), ("/srv".into(), None));
        assert!(Destination::of("/srv/", false).resolve(&from).is_err());
    }

    #[test]
    fn archive_holds_all_under_the_new_name() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("site");
        fs::create_dir_all(from.join("deep")).unwrap();
        fs::write(from.join("deep/a.txt"), "hello").unwrap();
        std::os::unix::fs::symlink("deep/a.txt", from.join("link")).unwrap();
        let mut bytes = Vec::new();
        pack(&from, Some("www".as_ref()), &mut bytes).unwrap();
        assert!(begins_with_folder(&bytes));
        let mut archive = tar::Archive::new(&bytes[..]);
        let names: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                assert_eq!((entry.header().uid().unwrap(), entry.header().gid().unwrap()), (0, 0));
                entry.path().unwrap().display().to_string()
            })
            .collect();
        let names: Vec<_> = names.iter().map(|name| name.trim_end_matches('/')).collect();
        assert_eq!(names, ["www", "www/deep", "www/deep/a.txt", "www/link"]);
    }
}
