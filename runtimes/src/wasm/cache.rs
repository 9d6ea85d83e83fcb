//! Compiled code on disk, under a MAC.
//!
//! Loading compiled code means running it, so ***only files that this node wrote are loaded**: each
//! ends in a MAC under a key that never leaves the folder, over the code, the artifact's name and
//! everything that decides whether the code fits this engine. A file that fails the check is
//! deleted, and the artifact is compiled anew.
//!
//! ```text
//! <folder>/key              32 random bytes, 0600; a new key makes all files worthless
//! <folder>/code/<digest>    code, then MAGIC, compatibility (32), MAC (32)
//! <folder>/tmp/             the compiler's output; emptied at the start
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use shoal_protocol::model::Digest;

use super::compile::Draft;

/// The format's name and version.
const MAGIC: [u8; 8] = *b"shoalwc1";
const TRAILER: usize = MAGIC.len() + 32 + 32;
const KEY: usize = 32;

pub(super) struct CodeCache {
    folder: PathBuf,
    key: hmac::Key,
    compatibility: [u8; 32],
    /// Bytes of all files.
    limit: u64,
    index: Mutex<Index>,
}

#[derive(Default)]
struct Index {
    entries: BTreeMap<Digest, Entry>,
    uses: u64,
}

struct Entry {
    size: u64,
    used: u64,
}

impl CodeCache {
    /// Opens the cache in `folder`, which is made when it is missing. Blocks.
    pub fn open(folder: &Path, compatibility: [u8; 32], limit: u64) -> io::Result<Self> {
        for name in ["code", "tmp"] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder.join(name))?;
        }
        for left in fs::read_dir(folder.join("tmp"))? {
            fs::remove_file(left?.path())?;
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key(&folder.join("key"))?);
        let index = Mutex::new(Index::read(&folder.join("code"))?);
        Ok(CodeCache { folder: folder.to_owned(), key, compatibility, limit, index })
    }

    /// The folder into which the compiler writes.
    pub fn drafts(&self) -> PathBuf {
        self.folder.join("tmp")
    }

    /// Code that this node compiled for this engine, if there is any. Blocks.
    pub fn load(&self, digest: &Digest) -> Option<Vec<u8>> {
        let path = self.path(digest);
        let mut file = match fs::read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "compiled code cannot be read; it \
                    will be compiled anew");
                return None;
            }
        };
        match self.check(digest, &file) {
            Ok(len) => {
                file.truncate(len);
                self.lock().touch(digest, (len + TRAILER) as u64);
                Some(file)
            }
            Err(reason) => {
                tracing::warn!(file = %path.display(), reason, "compiled code is thrown away and \
                    will be compiled anew");
                self.discard(digest);
                None
            }
        }
    }

    /// Adds the MAC to the compiler's output, keeps it, and returns the code. Blocks.
    pub fn keep(&self, digest: &Digest, draft: Draft) -> io::Result<Vec<u8>> {
        let mut file = OpenOptions::new().read(true).append(true).open(&draft.0)?;
        let mut code = Vec::new();
        file.read_to_end(&mut code)?;
        let mac = hmac::sign(&self.key, &self.vouched(digest, &code));
        file.write_all(&[&MAGIC[..], &self.compatibility, mac.as_ref()].concat())?;
        file.sync_all()?;
        fs::rename(&draft.0, self.path(digest))?;
        File::open(self.folder.join("code"))?.sync_all()?;
        let victims = self.lock().keep(digest, (code.len() + TRAILER) as u64, self.limit);
        for victim in victims {
            delete(&self.path(&victim));
        }
        Ok(code)
    }

    /// Deletes an artifact's compiled code.
    pub fn discard(&self, digest: &Digest) {
        self.lock().entries.remove(digest);
        delete(&self.path(digest));
    }

    /// The length of the code, or the reason why the file is not trusted.
    fn check(&self, digest: &Digest, file: &[u8]) -> Result<usize, &'static str> {
        let (code, trailer) =
            file.split_at_checked(file.len().wrapping_sub(TRAILER)).ok_or("cut short")?;
        let (magic, trailer) = trailer.split_at(MAGIC.len());
        let (compatibility, mac) = trailer.split_at(self.compatibility.len());
        if magic != MAGIC {
            return Err("not in a known format, or cut short");
        }
        if compatibility != self.compatibility {
            return Err("compiled for another engine");
        }
        hmac::verify(&self.key, &self.vouched(digest, code), mac)
            .map_err(|_| "altered, or not compiled by this node")?;
        Ok(code.len())
    }

    /// The bytes that the MAC covers. All parts have fixed lengths.
    fn vouched(&self, digest: &Digest, code: &[u8]) -> Vec<u8> {
        [&MAGIC[..], &self.compatibility, digest.as_bytes(), Digest::of(code).as_bytes()].concat()
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join("code").join(digest.to_string())
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    fn read(folder: &Path) -> io::Result<Self> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            match entry.file_name().to_str().and_then(|name| name.parse::<Digest>().ok()) {
                Some(digest) => found.push((meta.mtime(), digest, meta.len())),
                None => {
                    tracing::warn!(file = %entry.path().display(), "not compiled code; left alone")
                }
            }
        }
        found.sort();
        let mut index = Index::default();
        for (_, digest, size) in found {
            index.touch(&digest, size);
        }
        Ok(index)
    }

    fn touch(&mut self, digest: &Digest, size: u64) {
        self.uses += 1;
        self.entries.insert(*digest, Entry { size, used: self.uses });
    }

    /// Adds an entry and returns the victims, least recently used first. Running guests need no
    /// file.
    fn keep(&mut self, digest: &Digest, size: u64, limit: u64) -> Vec<Digest> {
        self.touch(digest, size);
        let mut total: u64 = self.entries.values().map(|entry| entry.size).sum();
        let mut victims = Vec::new();
        while total > limit && self.entries.len() > 1 {
            let Some((oldest, size)) = self
                .entries
                .iter()
                .min_by_key(|(_, entry)| entry.used)
                .map(|(digest, entry)| (*digest, entry.size))
            else {
                break;
            };
            self.entries.remove(&oldest);
            total -= size;
            victims.push(oldest);
        }
        victims
    }
}

fn delete(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(file = %path.display(), %error, "compiled code cannot be deleted");
        }
        _ => {}
    }
}

/// Reads the key of this node's cache; makes one when there is none, or when its length is wrong.
fn key(path: &Path) -> io::Result<[u8; KEY]> {
    match fs::read(path) {
        Ok(bytes) => {
            if let Ok(key) = bytes.try_into() {
                return Ok(key);
            }
            tracing::warn!(file = %path.display(), "the key of compiled code is damaged; all will \
                be compiled anew");
            fs::remove_file(path)?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut key = [0; KEY];
    SystemRandom::new()
        .fill(&mut key)
        .map_err(|_| io::Error::other("the system gives no random bytes"))?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&key)?;
    file.sync_all()?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENGINE: [u8; 32] = [9; 32];

    fn digest(n: u8) -> Digest {
        Digest([n; 32])
    }

    fn keep(cache: &CodeCache, n: u8, code: &[u8]) {
        let draft = Draft(cache.drafts().join("draft"));
        fs::write(&draft.0, code).unwrap();
        assert_eq!(cache.keep(&digest(n), draft).unwrap(), code);
    }

    /// Code that was compiled for other engine settings would not run: it is deleted.
    #[test]
    fn code_is_loaded_after_a_restart_by_same_engine_only() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CodeCache::open(folder.path(), ENGINE, 1 << 20).unwrap();
        keep(&cache, 1, b"code");
        let again = CodeCache::open(folder.path(), ENGINE, 1 << 20).unwrap();
        assert_eq!(again.load(&digest(1)).unwrap(), b"code");

        let other_engine = CodeCache::open(folder.path(), [8; 32], 1 << 20).unwrap();
        assert_eq!(other_engine.load(&digest(1)), None);
        assert_eq!(again.load(&digest(1)), None, "thrown away");
    }

    /// Loading code means running it, so each byte of the file, MAC and trailer included, must be
    /// covered; so must each place at which it could be cut off.
    #[test]
    fn every_altered_byte_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CodeCache::open(folder.path(), ENGINE, 1 << 20).unwrap();
        keep(&cache, 1, b"code");
        let path = cache.path(&digest(1));
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert_eq!(cache.load(&digest(1)), None, "byte {at}");
            assert!(!path.exists(), "byte {at}");
            fs::write(&path, &good[..at]).unwrap();
            assert_eq!(cache.load(&digest(1)), None, "cut at {at}");
        }
        fs::write(&path, &good).unwrap();
        assert_eq!(cache.load(&digest(1)).unwrap(), b"code");
    }

    /// A file is sound but stands under another artifact's name, or was written with another node's
    /// key.
    #[test]
    fn code_of_another_artifact_or_node_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CodeCache::open(folder.path(), ENGINE, 1 << 20).unwrap();
        keep(&cache, 1, b"code");
        fs::copy(cache.path(&digest(1)), cache.path(&digest(2))).unwrap();
        assert_eq!(cache.load(&digest(2)), None);

        let elsewhere = tempfile::tempdir().unwrap();
        let other_node = CodeCache::open(elsewhere.path(), ENGINE, 1 << 20).unwrap();
        fs::copy(cache.path(&digest(1)), other_node.path(&digest(1))).unwrap();
        assert_eq!(other_node.load(&digest(1)), None);
    }

    /// All code under the lost key is worthless; new code can be kept at once.
    #[test]
    fn damaged_key_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        keep(&CodeCache::open(folder.path(), ENGINE, 1 << 20).unwrap(), 1, b"code");
        fs::write(folder.path().join("key"), "short").unwrap();
        let cache = CodeCache::open(folder.path(), ENGINE, 1 << 20).unwrap();
        assert_eq!(cache.load(&digest(1)), None);
        keep(&cache, 1, b"code");
        assert_eq!(cache.load(&digest(1)).unwrap(), b"code");
    }

    #[test]
    fn least_recently_used_code_is_evicted() {
        let folder = tempfile::tempdir().unwrap();
        let limit = 3 * (4 + TRAILER as u64);
        let cache = CodeCache::open(folder.path(), ENGINE, limit).unwrap();
        for n in 1..=3 {
            keep(&cache, n, b"code");
        }
        cache.load(&digest(1)).unwrap();
        keep(&cache, 4, b"code");
        let left: Vec<_> = (1..=4).map(|n| cache.path(&digest(n)).exists()).collect();
        assert_eq!(left, [true, false, true, true]);
    }
}
