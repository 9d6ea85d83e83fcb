//! An archive from a replica as files of this machine.
//!
//! **The archive is not trusted**: the program in the replica may have made what it wanted. Nothing
//! is written outside the folder that was named.

use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use crate::cli::error::CliError;

/// Writes the files of `archive` to `to`: into it if it is a folder, else as it. `contents`: what
/// is in the archive's first folder, without that folder.
pub fn unpack(archive: impl Read, to: &Path, contents: bool) -> Result<(), CliError> {
    let failed = |error: io::Error| {
        let causes = error.get_ref().and_then(|inner| inner.source()).map(ToString::to_string);
        let causes = causes.map(|cause| format!(": {cause}")).unwrap_or_default();
        CliError::failed(format!("{}: {error}{causes}", to.display()))
            .hint("A part of the files may have been written.")
    };
    if to.is_dir() && !contents {
        return unpack_in(archive, to, Path::to_owned).map_err(failed);
    }
    let wants_folder = to.as_os_str().as_encoded_bytes().ends_with(b"/");
    let parent = to.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() || (wants_folder && !to.is_dir()) {
        let missing = if wants_folder { to } else { parent };
        return Err(CliError::usage(format!("there is no folder {}", missing.display())));
    }
    if to.is_dir() {
        return unpack_in(archive, to, without_first).map_err(failed);
    }
    // Under another name: the archive's first name is taken away, and the new one put there.
    let name = to.file_name().map(PathBuf::from).unwrap_or_default();
    unpack_in(archive, parent, |path| {
        let rest = without_first(path);
        if rest.as_os_str().is_empty() { name.clone() } else { name.join(rest) }
    })
    .map_err(failed)
}

/// A path without its first name.
fn without_first(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).skip(1).collect()
}

fn unpack_in(
    archive: impl Read,
    folder: &Path,
    rename: impl Fn(&Path) -> PathBuf,
) -> io::Result<()> {
    let folder = fs::canonicalize(folder)?;
    let mut archive = tar::Archive::new(archive);
    let mut is_empty = true;
    for entry in archive.entries()? {
        let mut entry = entry?;
        is_empty = false;
        let path = rename(&entry.path()?);
        if path.as_os_str().is_empty() {
            continue;
        }
        let whole = within(&folder, &path)?;
        let is_folder = entry.header().entry_type().is_dir();
        if is_folder && fs::symlink_metadata(&whole).is_ok_and(|meta| meta.is_symlink()) {
            return Err(leads_out(&path));
        }
        if entry.header().entry_type().is_hard_link() {
            // A second name of a file: here it becomes a file of its own.
            let first = entry.link_name()?.map(|first| rename(&first)).unwrap_or_default();
            let first = within(&folder, &first)?;
            if !fs::symlink_metadata(&first)?.is_file() {
                return Err(leads_out(&path));
            }
            fs::copy(first, &whole)?;
            continue;
        }
        entry.set_preserve_permissions(false);
        entry.unpack(&whole)?;
    }
    // Engines give nothing for what is neither a file, a folder nor a link.
    if is_empty { Err(io::Error::other("the engine gave no file")) } else { Ok(()) }
}

/// The whole of a path in an archive, with its folders made. A name that leads elsewhere is an
/// error, not passed over: files would be missing.
fn within(folder: &Path, path: &Path) -> io::Result<PathBuf> {
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(leads_out(path));
    }
    let mut at = folder.to_owned();
    let names: Vec<_> = path.components().collect();
    let Some((last, folders)) = names.split_last() else { return Err(leads_out(path)) };
    for name in folders {
        at.push(name);
        match fs::canonicalize(&at) {
            // A link of the archive may lead out of the folder, and a later name go over it.
            Ok(there) if !there.starts_with(folder) => return Err(leads_out(path)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir(&at)?,
            Err(error) => return Err(error),
        }
    }
    Ok(at.join(last))
}

fn leads_out(path: &Path) -> io::Error {
    io::Error::other(format!("the archive's `{}` leads out of the folder", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tar::{Builder, Header};

    fn archive(names: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (name, text) in names {
            let mut header = Header::new_gnu();
            header.set_mode(0o755);
            if let Some(target) = text.strip_prefix("-> ") {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                builder.append_link(&mut header, name, target).unwrap();
                continue;
            }
            header.set_size(text.len() as u64);
            if name.ends_with('/') {
                header.set_entry_type(tar::EntryType::Directory);
            }
            // The name's bytes as they are: the builder itself refuses some.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, text.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn read(path: PathBuf) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn files_get_the_name_that_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let one = archive(&[("a.log", "one")]);
        unpack(&one[..], folder.path(), false).unwrap();
        assert_eq!(read(at("a.log")), "one");
        unpack(&one[..], &at("b.log"), false).unwrap();
        assert_eq!(read(at("b.log")), "one");
        let tree = archive(&[("data/", ""), ("data/x", "x")]);
        unpack(&tree[..], folder.path(), false).unwrap();
        assert_eq!(read(at("data/x")), "x");
        unpack(&tree[..], &at("new"), false).unwrap();
        assert_eq!(read(at("new/x")), "x");
        unpack(&tree[..], folder.path(), true).unwrap();
        assert_eq!(read(at("x")), "x");
        assert!(unpack(&one[..], &at("absent/b.log"), false).is_err());
        assert!(unpack(&archive(&[])[..], &at("nothing"), false).is_err());
    }

    /// The names come from the program in the replica, which may be hostile.
    #[test]
    fn nothing_is_written_outside_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, outside) = (folder.path().join("in"), folder.path().join("out"));
        fs::create_dir(&inside).unwrap();
        fs::create_dir(&outside).unwrap();
        let link = format!("-> {}", outside.display());
        for names in [&[("../out/a", "x")][..], &[("d", link.as_str()), ("d/a", "x")][..]] {
            assert!(unpack(&archive(names)[..], &inside, false).is_err());
            assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{names:?}");
        }
    }
}
