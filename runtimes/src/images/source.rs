//! The files of an image by their names, wherever they are: in an archive or in a folder.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use ring::digest::{Context, SHA256};
use serde::de::DeserializeOwned;
use shoal_protocol::model::Digest;

use super::error::ImageFault;
use super::open::unpacking;
use super::packing::{Packing, head};
use super::pieces::PieceHasher;
use super::tarfile::{self, Entries, Entry};

/// Bytes of a manifest, an index or a configuration.
pub(super) const MAX_JSON: u64 = 4 << 20;
/// Links that are followed from one name.
const MAX_LINKS: usize = 8;

pub(super) enum Source {
    Tar { file: Arc<File>, entries: Entries },
    Folder(PathBuf),
}

/// Bytes at a place. The place keeps an archive open, and opens a file of a folder when it is read.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Range {
        file: Arc<File>,
        offset: u64,
        size: u64,
    },
    File {
        path: PathBuf,
        size: u64,
    },
    /// Bytes that are in no file of the image.
    Memory(Arc<[u8]>),
}

/// The bytes of a part, from its beginning. A part that became shorter meanwhile is an error.
#[derive(Debug)]
pub struct PartReader {
    origin: Origin,
    at: u64,
    left: u64,
}

#[derive(Debug)]
enum Origin {
    File(Arc<File>),
    Memory(Arc<[u8]>),
}

/// A file of the image that was read once.
#[derive(Clone, Debug)]
pub(super) struct Hashed {
    pub digest: Digest,
    /// The digests of its pieces, if it has more than one.
    pub pieces: Vec<Digest>,
    /// How it is packed; none for what is no tar.
    pub packing: Option<Packing>,
    /// The digest of the unpacked bytes, if it was asked for or is the same.
    pub unpacked: Option<Digest>,
}

/// Files that were hashed already: images share layers, and each is read once.
pub(super) type Seen = BTreeMap<String, (Place, Hashed)>;

impl Source {
    /// The place of the file `name`, none if there is no such file. `by` names it.
    pub fn find(&self, name: &str, by: &str) -> Result<Option<Place>, ImageFault> {
        let refused = || ImageFault::Unsafe { name: name.into(), by: by.into() };
        let mut clean = tarfile::clean(name).ok_or_else(refused)?;
        let (file, entries) = match self {
            Source::Tar { file, entries } => (file, entries),
            Source::Folder(folder) => return find_file(folder.join(clean)),
        };
        for _ in 0..MAX_LINKS {
            clean = match entries.get(&clean) {
                Some(&Entry::File { offset, size }) => {
                    return Ok(Some(Place::Range { file: Arc::clone(file), offset, size }));
                }
                Some(Entry::Symlink(to)) => {
                    let folder = clean.rsplit_once('/').map_or("", |(folder, _)| folder);
                    tarfile::join(folder, to).ok_or_else(refused)?
                }
                Some(Entry::Hardlink(to)) => tarfile::clean(to).ok_or_else(refused)?,
                Some(Entry::Other) | None => return Ok(None),
            };
        }
        Err(ImageFault::Damaged { name: name.into(), why: "is a link without an end".into() })
    }

    /// The place of the file `name`, which must be there.
    pub fn get(&self, name: &str, by: &str) -> Result<Place, ImageFault> {
        let missing = || ImageFault::Missing { name: name.into(), by: by.into() };
        self.find(name, by)?.ok_or_else(missing)
    }

    /// Hashes the file `name`, and with `unpack` also what it unpacks to. Once for each name.
    pub fn hash(
        &self,
        name: &str,
        by: &str,
        unpack: bool,
        seen: &mut Seen,
    ) -> Result<(Place, Hashed), ImageFault> {
        let is_enough = |it: &&(Place, Hashed)| it.1.unpacked.is_some() || !unpack;
        if let Some(known) = seen.get(name).filter(is_enough) {
            return Ok(known.clone());
        }
        let place = self.get(name, by)?;
        let hashed = hash(&place, name, unpack)?;
        seen.insert(name.to_owned(), (place.clone(), hashed.clone()));
        Ok((place, hashed))
    }
}

fn find_file(path: PathBuf) -> Result<Option<Place>, ImageFault> {
    match fs::metadata(&path) {
        Ok(kind) if kind.is_file() => Ok(Some(Place::File { path, size: kind.len() })),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(None),
        Err(error) => Err(ImageFault::Read(error)),
    }
}

impl Place {
    pub fn size(&self) -> u64 {
        match self {
            Place::Range { size, .. } | Place::File { size, .. } => *size,
            Place::Memory(bytes) => bytes.len() as u64,
        }
    }

    pub fn open(&self) -> io::Result<PartReader> {
        match self {
            Place::Range { file, offset, size } => {
                Ok(PartReader::new(Arc::clone(file), *offset, *size))
            }
            Place::File { path, size } => {
                Ok(PartReader::new(Arc::new(File::open(path)?), 0, *size))
            }
            Place::Memory(bytes) => {
                let (origin, left) = (Origin::Memory(Arc::clone(bytes)), bytes.len() as u64);
                Ok(PartReader { origin, at: 0, left })
            }
        }
    }

    /// The whole, small file.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, ImageFault> {
        let size = self.size();
        if size > MAX_JSON {
            return Err(ImageFault::TooLarge { name: name.into(), size, most: MAX_JSON });
        }
        let mut bytes = Vec::new();
        self.open().and_then(|mut it| it.read_to_end(&mut bytes)).map_err(ImageFault::Read)?;
        Ok(bytes)
    }
}

/// JSON of the file `name`.
pub(super) fn json<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, ImageFault> {
    let wrong = |source| ImageFault::Json { name: name.into(), source };
    serde_json::from_slice(bytes).map_err(wrong)
}

impl PartReader {
    pub(super) fn new(file: Arc<File>, at: u64, size: u64) -> Self {
        PartReader { origin: Origin::File(file), at, left: size }
    }
}

impl Read for PartReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let read = match &self.origin {
            Origin::File(file) => file.read_at(&mut buffer[..most], self.at)?,
            Origin::Memory(bytes) => {
                let rest = usize::try_from(self.at).ok().and_then(|at| bytes.get(at..));
                let rest = &rest.unwrap_or_default()[..most];
                buffer[..most].copy_from_slice(rest);
                most
            }
        };
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

fn hash(place: &Place, name: &str, unpack: bool) -> Result<Hashed, ImageFault> {
    let begin = place.open().and_then(|mut it| head(&mut it)).map_err(ImageFault::Read)?;
    let packing = Packing::of(&begin);
    let mut packed = Hashing {
        reader: place.open().map_err(ImageFault::Read)?,
        context: new(),
        pieces: Some(PieceHasher::default()),
    };
    let mut unpacked = None;
    if let Some(packing) = packing.filter(|it| unpack && *it != Packing::Plain) {
        let mut hashing =
            Hashing { reader: packing.unpack(&mut packed), context: new(), pieces: None };
        drain(&mut hashing).map_err(|error| unpacking(name, error))?;
        unpacked = Some(finish(hashing.context));
    }
    drain(&mut packed).map_err(ImageFault::Read)?;
    let digest = finish(packed.context);
    Ok(Hashed {
        digest,
        pieces: packed.pieces.map(PieceHasher::finish).unwrap_or_default(),
        packing,
        unpacked: unpacked.or((packing == Some(Packing::Plain)).then_some(digest)),
    })
}

/// Hashes what is read through it.
struct Hashing<R> {
    reader: R,
    context: Context,
    pieces: Option<PieceHasher>,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.context.update(&buffer[..read]);
        if let Some(pieces) = &mut self.pieces {
            pieces.update(&buffer[..read]);
        }
        Ok(read)
    }
}

/// Reads to the end, in larger steps than `io::copy` into a sink does.
pub(super) fn drain(reader: &mut impl Read) -> io::Result<u64> {
    let mut buffer = vec![0; 256 * 1024];
    let mut sum = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(sum),
            Ok(read) => sum += read as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

pub(super) fn new() -> Context {
    Context::new(&SHA256)
}

pub(super) fn finish(context: Context) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    Digest(out)
}
