//! The table of contents of a tar, read without its contents.
//!
//! The `tar` crate reads names of any length into memory and takes a file that ends early for one
//! that ends; an image comes from strangers and is gigabytes. So only its headers are used here.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use tar::{EntryType, Header};

use super::error::ImageFault;

/// Bytes of a header, and of the unit in which everything is stored.
pub(super) const BLOCK: usize = 512;
/// Files in an image archive: fifty images of the most layers are fewer.
const MAX_ENTRIES: usize = 32_768;
/// Bytes of a name; one of an image is 84 bytes long.
const MAX_NAME: usize = 1_024;
/// Bytes of an extended header.
const MAX_EXTENSION: u64 = 64 * 1024;

/// Entries by their names, without `./` before them. The last entry of a name counts.
pub(super) type Entries = BTreeMap<String, Entry>;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Entry {
    /// Bytes at a place in the archive.
    File { offset: u64, size: u64 },
    /// A link to a name relative to its own folder.
    Symlink(String),
    /// A link to a name in the archive.
    Hardlink(String),
    /// A folder, a device.
    Other,
}

/// The statements of extended headers about the next entry.
#[derive(Default)]
struct Extension {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

/// Whether these are the first bytes of a tar.
pub(super) fn is_tar(head: &[u8]) -> bool {
    let Some(block) = head.get(..BLOCK) else { return false };
    is_zero(block) || has_checksum(block)
}

/// Reads the headers of a tar.
pub(super) fn entries(file: &File) -> Result<Entries, ImageFault> {
    let length = file.metadata().map_err(ImageFault::Read)?.len();
    let mut entries = Entries::new();
    let mut extension = Extension::default();
    let mut count = 0;
    let mut at = 0;
    while at < length {
        let block = read(file, at, BLOCK as u64, length, "the header of a file")?;
        if is_zero(&block) {
            break;
        }
        if !has_checksum(&block) {
            return Err(damaged(at, "has no valid checksum"));
        }
        count += 1;
        if count > MAX_ENTRIES {
            let is_image = ["manifest.json", "index.json"].iter().any(|n| entries.contains_key(*n));
            return Err(match is_image {
                true => ImageFault::TooMany { what: "files", most: MAX_ENTRIES },
                false => ImageFault::FilesOnly,
            });
        }
        let header = Header::from_byte_slice(&block);
        let kind = header.entry_type();
        let size = match extension.size.filter(|_| !is_extension(kind)) {
            Some(size) => size,
            None => header.entry_size().map_err(|_| damaged(at, "has no valid size"))?,
        };
        // As Go's archive/tar, with which engines read: these have no bytes, whatever they say.
        let size = if has_bytes(kind) { size } else { 0 };
        let start = at + BLOCK as u64;
        let next = size.checked_next_multiple_of(BLOCK as u64).and_then(|it| it.checked_add(start));
        let next = next.ok_or_else(|| damaged(at, "has no valid size"))?;
        if start + size > length {
            let name = String::from_utf8_lossy(&header.path_bytes()).into_owned();
            return Err(ImageFault::Truncated { name, needed: start + size, size: length });
        }
        at = next;
        if is_extension(kind) {
            if size > MAX_EXTENSION {
                return Err(damaged(start, "is an extension of more than 64 KiB"));
            }
            let bytes = read(file, start, size, length, "an extended header")?;
            extension.take(kind, &bytes).map_err(|why| damaged(start, why))?;
            continue;
        }
        let Extension { name, link, sparse, .. } = std::mem::take(&mut extension);
        if sparse || kind == EntryType::GNUSparse {
            return Err(damaged(start, "is a sparse file, which no image has"));
        }
        let name = name.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = link.or_else(|| header.link_name_bytes().map(|it| it.into_owned()));
        let link = || text(&link.clone().unwrap_or_default());
        let entry = match kind {
            EntryType::Regular | EntryType::Continuous => Entry::File { offset: start, size },
            EntryType::Symlink => link().map_or(Entry::Other, Entry::Symlink),
            EntryType::Link => link().map_or(Entry::Other, Entry::Hardlink),
            _ => Entry::Other,
        };
        // An image names none of the others: too long, no text, or leading out of it.
        if let Some(name) = text(&name).and_then(|name| clean(&name)) {
            entries.insert(name, entry);
        }
    }
    Ok(entries)
}

/// The name without `.` and empty components; none if it is absolute or has `..`.
pub(super) fn clean(name: &str) -> Option<String> {
    join("", name).filter(|_| !name.split('/').any(|part| part == ".."))
}

/// The name that `link`, in the folder `folder`, leads to; none if that is outside.
pub(super) fn join(folder: &str, link: &str) -> Option<String> {
    if link.starts_with('/') || link.contains('\0') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(link.split('/')) {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop()?,
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

impl Extension {
    fn take(&mut self, kind: EntryType, bytes: &[u8]) -> Result<(), &'static str> {
        let until_nul = || bytes.split(|b| *b == 0).next().unwrap_or_default().to_vec();
        match kind {
            EntryType::GNULongName => self.name = Some(until_nul()),
            EntryType::GNULongLink => self.link = Some(until_nul()),
            EntryType::XHeader => self.take_records(bytes)?,
            _ => {} // global: dates and comments
        }
        Ok(())
    }

    /// Records such as `22 path=some/long/name\n`, each with its own length.
    fn take_records(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        const WRONG: &str = "is an extension with an invalid record";
        while !bytes.is_empty() {
            let space = bytes.iter().position(|b| *b == b' ').ok_or(WRONG)?;
            let length = number(&bytes[..space]).ok_or(WRONG)?;
            let length = usize::try_from(length).map_err(|_| WRONG)?;
            let record = bytes.get(space + 1..length).ok_or(WRONG)?;
            let record = record.strip_suffix(b"\n").ok_or(WRONG)?;
            let equals = record.iter().position(|b| *b == b'=').ok_or(WRONG)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => self.name = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(number(value).ok_or(WRONG)?),
                _ => self.sparse |= key.starts_with(b"GNU.sparse."),
            }
            bytes = &bytes[length..];
        }
        Ok(())
    }
}

fn is_extension(kind: EntryType) -> bool {
    matches!(
        kind,
        EntryType::GNULongName
            | EntryType::GNULongLink
            | EntryType::XHeader
            | EntryType::XGlobalHeader
    )
}

fn has_bytes(kind: EntryType) -> bool {
    !matches!(
        kind,
        EntryType::Link
            | EntryType::Symlink
            | EntryType::Char
            | EntryType::Block
            | EntryType::Directory
            | EntryType::Fifo
    )
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok().filter(|it| !it.starts_with('+'))?.parse().ok()
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok().filter(|name| name.len() <= MAX_NAME)
}

fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|b| *b == 0)
}

/// The sum of all bytes, those of the checksum itself counted as spaces.
fn has_checksum(block: &[u8]) -> bool {
    let field = 148..156;
    let sum = |(at, byte): (usize, &u8)| if field.contains(&at) { 32 } else { u32::from(*byte) };
    let sum: u32 = block.iter().enumerate().map(sum).sum();
    Header::from_byte_slice(block).cksum().is_ok_and(|said| said == sum)
}

fn read(file: &File, at: u64, size: u64, length: u64, name: &str) -> Result<Vec<u8>, ImageFault> {
    let needed = at + size;
    if needed > length {
        return Err(ImageFault::Truncated { name: name.into(), needed, size: length });
    }
    let mut bytes = vec![0; usize::try_from(size).expect("a block or an extension is small")];
    file.read_exact_at(&mut bytes, at).map_err(ImageFault::Read)?;
    Ok(bytes)
}

fn damaged(at: u64, why: &str) -> ImageFault {
    ImageFault::Damaged { name: format!("the entry at byte {at}"), why: why.into() }
}
