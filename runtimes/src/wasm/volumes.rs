//! Volumes of components: folders of this node, which outlive instances, workloads and the daemon.
//! **Only [`Volumes::remove`] removes one.**
//!
//! ```text
//! FOLDER/NAMESPACE/WORKLOAD/PLACE/VOLUME
//! ```
//!
//! An instance gets such a folder as a preopened directory. No path and no link in it leads an
//! instance out of it: `wasmtime-wasi` opens each part of a path below the one before.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes};
use futures::{StreamExt, stream};
use tokio::sync::{Notify, mpsc};

use crate::files::{Sending, folder};
use crate::model::VolumeKey;
use crate::session::{Chunks, SessionError};

/// Folders of volumes that are looked at: far more than a node keeps.
const MAX_LISTED: usize = 1_024;
/// Bytes of one part of a volume's path.
const MAX_PART: usize = 100;
/// Chunks of an archive that wait for its reader or writer.
const WAITING: usize = 4;
/// The beginning of the names of folders that are being filled or removed. No namespace has it.
const DRAFT: &str = ".draft-";

/// The volumes of one node. Cheap to clone.
#[derive(Clone)]
pub(super) struct Volumes(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    known: Mutex<Known>,
    changed: Notify,
}

#[derive(Default)]
struct Known {
    all: BTreeSet<VolumeKey>,
    /// The instances that use each.
    used: BTreeMap<VolumeKey, usize>,
    /// Volumes whose files are replaced or removed: no instance starts on one.
    held: BTreeSet<VolumeKey>,
    /// The number of the next draft.
    drafts: u64,
}

/// Why nothing was done to a volume.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotDone {
    #[error("an instance on this node uses it")]
    InUse,
    #[error("its files are being replaced")]
    Held,
    #[error("{0:?} cannot be a part of its name")]
    Name(String),
    #[error("there is no such volume here")]
    Missing,
    #[error(transparent)]
    Device(#[from] io::Error),
}

impl NotDone {
    /// The same, as the error of a session.
    pub fn into_session(self) -> SessionError {
        match self {
            NotDone::InUse | NotDone::Held => SessionError::InUse(self.to_string()),
            NotDone::Name(_) | NotDone::Missing => SessionError::Refused(self.to_string()),
            NotDone::Device(error) => SessionError::Engine(error.to_string()),
        }
    }
}

/// An instance's right to use a volume, until it is dropped.
pub(super) struct InUse {
    inner: Arc<Inner>,
    key: VolumeKey,
    /// The volume's folder.
    pub folder: PathBuf,
}

/// Keeps instances from a volume, until it is dropped.
struct Hold {
    inner: Arc<Inner>,
    key: VolumeKey,
}

impl Volumes {
    /// The volumes in a folder, which is made if it is not there. What an earlier process had begun
    /// to fill or to remove is removed.
    pub fn open(folder: PathBuf) -> io::Result<Volumes> {
        make(&folder)?;
        for entry in fs::read_dir(&folder)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(DRAFT) {
                // It takes room, and harms nothing.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let known = Known { all: listed(&folder), ..Known::default() };
        Ok(Volumes(Arc::new(Inner { folder, known: Mutex::new(known), changed: Notify::new() })))
    }

    pub fn all(&self) -> Vec<VolumeKey> {
        self.0.lock().all.iter().cloned().collect()
    }

    /// Returns when there are other volumes than at the last call.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Lets an instance use a volume, which is made if it is not there.
    pub fn enter(&self, key: &VolumeKey) -> Result<InUse, NotDone> {
        let folder = self.0.path(key)?;
        let mut known = self.0.lock();
        if known.held.contains(key) {
            return Err(NotDone::Held);
        }
        make(&folder)?;
        *known.used.entry(key.clone()).or_default() += 1;
        let is_new = known.all.insert(key.clone());
        drop(known);
        if is_new {
            self.0.changed.notify_one();
        }
        Ok(InUse { inner: self.0.clone(), key: key.clone(), folder })
    }

    /// Removes a volume with all that is in it. Blocks.
    pub fn remove(&self, key: &VolumeKey) -> Result<(), NotDone> {
        let folder = self.0.path(key)?;
        let _hold = self.hold(key)?;
        // In one step, so that no half of it is left where it was.
        let draft = self.0.draft();
        match fs::rename(&folder, &draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        // Folders above it that are empty now.
        for above in folder.ancestors().skip(1).take_while(|it| *it != self.0.folder) {
            if fs::remove_dir(above).is_err() {
                break;
            }
        }
        self.0.lock().all.remove(key);
        self.0.changed.notify_one();
        match fs::remove_dir_all(&draft) {
            // The next start of the daemon removes the rest.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("files of a removed volume stay in {}: {error}", draft.display());
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads all files of a volume, as a tar archive whose first entry is the volume's own folder.
    pub fn read(&self, key: &VolumeKey) -> Result<Chunks, NotDone> {
        let path = self.0.path(key)?;
        if !self.0.lock().all.contains(key) {
            return Err(NotDone::Missing);
        }
        let opened = folder::open(&path)?;
        let (sender, mut chunks) = mpsc::channel(WAITING);
        tokio::task::spawn_blocking(move || {
            let out = Sending::new(sender.clone());
            if let Err(error) = folder::write(opened, out) {
                // Its reader may have gone.
                let _ = sender.blocking_send(Err(error));
            }
        });
        Ok(stream::poll_fn(move |cx| chunks.poll_recv(cx)).boxed())
    }

    /// Replaces all files of a volume by those of a tar archive, in one step: an archive that fails
    /// changes nothing. With `beside` they are unpacked over the files that are in it.
    pub async fn write(
        &self,
        key: &VolumeKey,
        mut archive: Chunks,
        beside: bool,
    ) -> Result<(), NotDone> {
        let path = self.0.path(key)?;
        let hold = self.hold(key)?;
        let (sender, chunks) = mpsc::channel(WAITING);
        let inner = self.0.clone();
        let key = key.clone();
        let unpacking = tokio::task::spawn_blocking(move || {
            let _hold = hold;
            let reader = Received { chunks, piece: Bytes::new() };
            let draft = if beside { path.clone() } else { inner.draft() };
            make(&draft)?;
            if let Err(error) = unpack(reader, &draft) {
                if !beside {
                    let _ = fs::remove_dir_all(&draft);
                }
                return Err(NotDone::Device(error));
            }
            if !beside {
                make(path.parent().unwrap_or(&inner.folder))?;
                let old = inner.draft();
                match fs::rename(&path, &old) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(error.into());
                    }
                    _ => {}
                }
                fs::rename(&draft, &path)?;
                let _ = fs::remove_dir_all(&old);
            }
            inner.lock().all.insert(key);
            inner.changed.notify_one();
            Ok(())
        });
        while let Some(chunk) = archive.next().await {
            // A writer that ended says why itself.
            if sender.send(chunk).await.is_err() {
                break;
            }
        }
        drop(sender);
        unpacking.await.unwrap_or_else(|stopped| Err(io::Error::other(stopped).into()))
    }

    fn hold(&self, key: &VolumeKey) -> Result<Hold, NotDone> {
        let mut known = self.0.lock();
        if known.used.contains_key(key) {
            return Err(NotDone::InUse);
        }
        match known.held.insert(key.clone()) {
            true => Ok(Hold { inner: self.0.clone(), key: key.clone() }),
            false => Err(NotDone::Held),
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Known> {
        // Each change is complete also when a panic releases the lock.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The folder of a volume. **Each part of its name is one name of a file**: no part leads
    /// elsewhere.
    fn path(&self, key: &VolumeKey) -> Result<PathBuf, NotDone> {
        let VolumeKey { workload, place, name } = key;
        let mut path = self.folder.clone();
        let (namespace, workload) = workload.split_once('/').unwrap_or(("", workload));
        for part in [namespace, workload, place, name] {
            if !is_plain(part) {
                return Err(NotDone::Name(part.to_owned()));
            }
            path.push(part);
        }
        Ok(path)
    }

    /// A path beside the volumes, of which nothing is there.
    fn draft(&self) -> PathBuf {
        let mut known = self.lock();
        known.drafts += 1;
        self.folder.join(format!("{DRAFT}{}", known.drafts))
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut known = self.inner.lock();
        if let Some(count) = known.used.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                known.used.remove(&self.key);
            }
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.inner.lock().held.remove(&self.key);
    }
}

/// Whether a text is the name of a file and nothing else: labels, numbers and ids are.
fn is_plain(part: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=MAX_PART).contains(&part.len()) && !part.starts_with('.') && part.bytes().all(legal)
}

/// Makes a folder, and those above it, for this user alone.
fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The volumes that are in a folder. What does not look like one is left out.
fn listed(folder: &Path) -> BTreeSet<VolumeKey> {
    let below = |folder: PathBuf| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|it| it.is_dir());
        let named = entries.filter(is_folder).filter_map(|entry| {
            Some((entry.file_name().into_string().ok().filter(|it| is_plain(it))?, entry.path()))
        });
        named.take(MAX_LISTED).collect::<Vec<_>>()
    };
    let mut all = BTreeSet::new();
    for (namespace, folder) in below(folder.to_owned()) {
        for (workload, folder) in below(folder) {
            for (place, folder) in below(folder) {
                for (name, _) in below(folder) {
                    let workload = format!("{namespace}/{workload}");
                    all.insert(VolumeKey { workload, place: place.clone(), name });
                    if all.len() >= MAX_LISTED {
                        return all;
                    }
                }
            }
        }
    }
    all
}

/// Unpacks an archive below a folder. Nothing of it comes to lie elsewhere: `tar` leaves out names
/// with `..` and refuses those behind links that lead out.
fn unpack(reader: impl Read, folder: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(reader);
    archive.set_overwrite(true);
    archive.unpack(folder)?;
    // The folder's own entry may have another mode.
    fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))
}

/// The chunks of a channel as a reader, for work on a thread that may block.
struct Received {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for Received {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.chunks.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let length = into.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(workload: &str, name: &str) -> VolumeKey {
        VolumeKey { workload: workload.into(), place: "0".into(), name: name.into() }
    }

    #[tokio::test]
    async fn volume_outlives_its_instances_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(folder.path().join("volumes")).unwrap();
        let data = key("shop/db", "data");
        let used = volumes.enter(&data).unwrap();
        fs::write(used.folder.join("file"), "kept").unwrap();
        assert!(matches!(volumes.remove(&data), Err(NotDone::InUse)));
        drop(used);

        // The next daemon finds it.
        let volumes = Volumes::open(folder.path().join("volumes")).unwrap();
        assert_eq!(volumes.all(), std::slice::from_ref(&data));
        let again = volumes.enter(&data).unwrap();
        assert_eq!(fs::read_to_string(again.folder.join("file")).unwrap(), "kept");
        drop(again);
        volumes.remove(&data).unwrap();
        assert!(volumes.all().is_empty());
        assert_eq!(fs::read_dir(folder.path().join("volumes")).unwrap().count(), 0);
        volumes.remove(&data).unwrap();
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(folder.path().to_owned()).unwrap();
        for (workload, name) in [
            ("shop/..", "data"),
            ("../db", "data"),
            ("shop/db", "../../x"),
            ("shop/db", ""),
            ("db", "data"),
            ("shop/a/b", "data"),
        ] {
            let refused = volumes.enter(&key(workload, name));
            assert!(matches!(refused, Err(NotDone::Name(_))), "{workload} {name}");
        }
    }

    /// A backup is read back; one that breaks off changes nothing, and links in it do not lead out.
    #[tokio::test]
    async fn volume_is_backed_up_and_restored() {
        let folder = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(folder.path().to_owned()).unwrap();
        let (data, copy) = (key("shop/db", "data"), key("shop/db", "copy"));
        let used = volumes.enter(&data).unwrap();
        fs::create_dir(used.folder.join("sub")).unwrap();
        fs::write(used.folder.join("sub/file"), "kept").unwrap();
        let read: Vec<Bytes> =
            volumes.read(&data).unwrap().map(|chunk| chunk.unwrap()).collect().await;
        let archive = read.concat();
        let chunks = |bytes: &[u8]| stream::iter([Ok(Bytes::copy_from_slice(bytes))]).boxed();
        volumes.write(&copy, chunks(&archive), false).await.unwrap();
        let there = volumes.0.path(&copy).unwrap().join("sub/file");
        assert_eq!(fs::read_to_string(&there).unwrap(), "kept");
        assert_eq!(volumes.all().len(), 2);

        let broken = volumes.write(&copy, chunks(&archive[..600]), false).await;
        assert!(broken.is_err());
        assert_eq!(fs::read_to_string(&there).unwrap(), "kept", "it is as it was");
        let in_use = volumes.write(&data, chunks(&archive), true).await;
        assert!(matches!(in_use, Err(NotDone::InUse)));

        let outside = tempfile::tempdir().unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "out", outside.path()).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o644);
        builder.append_data(&mut header, "out/file", &b"x"[..]).unwrap();
        let hostile = builder.into_inner().unwrap();
        assert!(volumes.write(&copy, chunks(&hostile), false).await.is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
