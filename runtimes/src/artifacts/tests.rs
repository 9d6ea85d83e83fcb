use std::fs;

use super::*;

const LIMITS: Limits = Limits { bytes: 1000, artifact: 1000, keep_free: 0 };

async fn store_in(folder: &Path) -> ArtifactStore {
    ArtifactStore::open(folder, LIMITS).await.unwrap()
}

/// `size` bytes that differ from those of other seeds.
fn bytes(seed: u8, size: usize) -> Bytes {
    vec![seed; size].into()
}

fn names(folder: &Path, name: &str) -> usize {
    fs::read_dir(folder.join(name)).unwrap().count()
}

/// The same bytes stored twice take room once; a read beyond the end gives nothing.
#[tokio::test]
async fn stored_bytes_can_be_read_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path()).await;
    let digest = store.put(bytes(1, 100)).await.unwrap();
    assert_eq!(digest, Digest::of(&bytes(1, 100)));
    assert_eq!(store.has(&digest), Some(100));
    store.put(bytes(1, 100)).await.unwrap();
    assert_eq!(store.bytes(), 100, "the same bytes take room once");

    let store = store_in(folder.path()).await;
    assert_eq!(store.list(), [(digest, 100)]);
    assert_eq!(store.read(&digest).await.unwrap(), bytes(1, 100));
    assert_eq!(store.read_at(&digest, 90, 100).await.unwrap(), bytes(1, 10));
    assert!(store.read_at(&digest, 200, 100).await.unwrap().is_empty());
}

/// A sender may send other bytes than their name says, none, or too many: the store refuses each
/// and keeps no file, draft or reservation.
#[tokio::test]
async fn unexpected_bytes_are_refused_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path()).await;
    let expected = Digest::of(b"these");
    let error = store.put_from(&b"those"[..], Some(expected)).await.unwrap_err();
    let Error::Mismatch { expected: named, found } = error else { panic!("{error}") };
    assert_eq!((named, found), (expected, Digest::of(b"those")));
    assert!(matches!(store.put(Bytes::new()).await, Err(Error::Empty)));
    assert!(matches!(
        store.put(bytes(1, 1001)).await,
        Err(Error::TooLarge { size: 1001, most: 1000 })
    ));
    assert_eq!(
        (names(folder.path(), "sha256"), names(folder.path(), "tmp"), store.bytes()),
        (0, 0, 0)
    );
}

/// A file changes on disk while the program is down. The first use after the restart must notice,
/// move the file aside, and let the artifact be fetched again.
#[tokio::test]
async fn file_altered_before_first_use_is_quarantined() {
    let folder = tempfile::tempdir().unwrap();
    let digest = store_in(folder.path()).await.put(bytes(1, 100)).await.unwrap();
    let path = folder.path().join("sha256").join(digest.to_string());
    fs::write(&path, bytes(2, 100)).unwrap();

    let store = store_in(folder.path()).await;
    let error = store.open_artifact(&digest).await.unwrap_err();
    let Error::Altered { found, moved, .. } = error else { panic!("{error}") };
    assert_eq!(found, Digest::of(&bytes(2, 100)));
    assert_eq!(fs::read(moved).unwrap(), bytes(2, 100));
    assert_eq!(store.has(&digest), None);
    assert!(matches!(store.open_artifact(&digest).await, Err(Error::Missing { .. })));

    store.put(bytes(1, 100)).await.unwrap();
    assert_eq!(
        store.read(&digest).await.unwrap(),
        bytes(1, 100),
        "fetched again, it is served again"
    );
}

/// A verified file is not hashed at each use; its time stamps show the change.
#[tokio::test]
async fn file_altered_after_first_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path()).await;
    let digest = store.put(bytes(1, 100)).await.unwrap();
    store.read(&digest).await.unwrap();
    let path = folder.path().join("sha256").join(digest.to_string());
    fs::write(&path, bytes(2, 100)).unwrap();
    assert!(matches!(store.read(&digest).await, Err(Error::Altered { .. })));
}

/// A person deletes a file behind the store's back: the store must not go on counting it.
#[tokio::test]
async fn deleted_file_is_missing_and_frees_its_room() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path()).await;
    let digest = store.put(bytes(1, 100)).await.unwrap();
    fs::remove_file(folder.path().join("sha256").join(digest.to_string())).unwrap();
    assert!(matches!(store.read(&digest).await, Err(Error::Missing { .. })));
    assert_eq!((store.has(&digest), store.bytes()), (None, 0));
}

/// Five artifacts fill the store. A sixth evicts the least recently used one that is neither pinned
/// nor open.
#[tokio::test]
async fn eviction_is_by_last_use_and_spares_pinned_and_open() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path()).await;
    let mut digests = Vec::new();
    for seed in 0..5 {
        digests.push(store.put(bytes(seed, 200)).await.unwrap());
    }
    store.pin(BTreeSet::from([digests[0]]));
    let open = store.open_artifact(&digests[1]).await.unwrap();
    store.read(&digests[2]).await.unwrap();
    store.put(bytes(9, 200)).await.unwrap();
    let left: Vec<_> = digests.iter().map(|digest| store.has(digest).is_some()).collect();
    assert_eq!(
        left,
        [true, true, true, false, true],
        "pinned, open, used since; 3 is the oldest of the rest"
    );

    store.put(bytes(10, 400)).await.unwrap();
    assert_eq!(store.has(&digests[4]), None);
    assert_eq!(store.has(&digests[2]), None);
    assert_eq!(store.read_at(&digests[1], 0, 200).await.unwrap(), bytes(1, 200));
    drop(open);
    assert_eq!(names(folder.path(), "sha256"), 4, "files go with their entries");
    assert!(store.bytes() <= LIMITS.bytes);
}

/// Evicting all that may go would not make enough room: nothing is evicted, since the artifact is
/// refused anyway.
#[tokio::test]
async fn full_store_refuses_without_evicting() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path()).await;
    let pinned = store.put(bytes(1, 600)).await.unwrap();
    let loose = store.put(bytes(2, 300)).await.unwrap();
    store.pin(BTreeSet::from([pinned]));
    let error = store.put(bytes(3, 500)).await.unwrap_err();
    assert!(matches!(error, Error::Full { needed: 500, limit: 1000, fixed: 600 }), "{error}");
    let error = store.partial(&Digest::of(b"x"), 500).await.err();
    assert!(matches!(error, Some(Error::Full { .. })), "{error:?}");
    assert!(store.has(&loose).is_some());
    assert_eq!(store.bytes(), 900);
    store.put(bytes(3, 400)).await.unwrap();
    assert_eq!(store.has(&loose), None);
}

/// The node's own state needs room on the same file system.
#[tokio::test]
async fn room_is_kept_free_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { keep_free: u64::MAX / 2, ..LIMITS };
    let store = ArtifactStore::open(folder.path(), limits).await.unwrap();
    assert!(matches!(store.put(bytes(1, 10)).await, Err(Error::DiskFull { needed: 10, .. })));
    assert_eq!((names(folder.path(), "tmp"), store.bytes()), (0, 0));
}

/// An artifact that is open stays until it is closed; removing it again then succeeds.
#[tokio::test]
async fn open_artifact_survives_its_removal() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path()).await;
    let digest = store.put(bytes(1, 100)).await.unwrap();
    let open = store.open_artifact(&digest).await.unwrap();
    store.remove(&digest).await.unwrap();
    assert!(store.has(&digest).is_some());
    drop(open);
    store.remove(&digest).await.unwrap();
    store.remove(&digest).await.unwrap();
    assert_eq!((store.has(&digest), names(folder.path(), "sha256")), (None, 0));
}

/// A transfer breaks off after 200 of 500 bytes, and the program restarts. The next transfer
/// continues at byte 200 and refuses chunks that do not.
#[tokio::test]
async fn broken_transfer_resumes_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let whole = bytes(7, 500);
    let digest = Digest::of(&whole);

    let store = store_in(folder.path()).await;
    let mut partial = store.partial(&digest, 500).await.unwrap().unwrap();
    partial.append(0, whole.slice(..200)).await.unwrap();
    drop(partial);
    assert_eq!(store.bytes(), 200, "what came counts");

    let store = store_in(folder.path()).await;
    assert_eq!(store.bytes(), 200);
    let mut partial = store.partial(&digest, 500).await.unwrap().unwrap();
    assert_eq!(partial.offset(), 200);
    assert_eq!(store.bytes(), 500, "what is to come is promised");
    assert!(matches!(
        partial.append(100, whole.slice(..10)).await,
        Err(Error::Offset { offset: 100, at: 200 })
    ));
    assert!(matches!(store.partial(&digest, 500).await, Err(Error::Busy { .. })));
    partial.append(200, whole.slice(200..)).await.unwrap();
    assert!(matches!(partial.append(500, whole.slice(..1)).await, Err(Error::TooLarge { .. })));
    partial.finish().await.unwrap();

    assert_eq!(store.read(&digest).await.unwrap(), whole);
    assert_eq!((names(folder.path(), "partial"), store.bytes()), (0, 500));
    assert!(store.partial(&digest, 500).await.unwrap().is_none(), "nothing to fetch");
}

/// All bytes came, and they are the wrong ones: none may be kept for a later transfer.
#[tokio::test]
async fn transfer_of_wrong_bytes_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path()).await;
    let digest = Digest::of(&bytes(7, 10));
    let mut partial = store.partial(&digest, 10).await.unwrap().unwrap();
    partial.append(0, bytes(8, 10)).await.unwrap();
    assert!(matches!(partial.finish().await, Err(Error::Mismatch { .. })));
    assert_eq!((store.has(&digest), store.bytes(), names(folder.path(), "partial")), (None, 0, 0));

    let mut partial = store.partial(&digest, 10).await.unwrap().unwrap();
    partial.append(0, bytes(7, 10)).await.unwrap();
    partial.finish().await.unwrap();
    assert_eq!(store.read(&digest).await.unwrap(), bytes(7, 10));
}

/// Half of the bytes came: they stay for a later transfer of the same size.
#[tokio::test]
async fn transfer_finished_too_early_keeps_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path()).await;
    let digest = Digest::of(&bytes(7, 10));
    let mut partial = store.partial(&digest, 10).await.unwrap().unwrap();
    partial.append(0, bytes(7, 4)).await.unwrap();
    assert!(matches!(partial.finish().await, Err(Error::Incomplete { got: 4, size: 10 })));
    assert_eq!(store.partial(&digest, 10).await.unwrap().unwrap().offset(), 4);
    assert_eq!(
        store.partial(&digest, 20).await.unwrap().unwrap().offset(),
        0,
        "another size is another transfer"
    );
    assert_eq!(names(folder.path(), "partial"), 1);
}

/// Thirty transfers are given up. At most 16 may be resumed, and all are evicted before any
/// artifact.
#[tokio::test]
async fn waiting_transfers_are_bounded_and_evicted_first() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path()).await;
    let kept = store.put(bytes(1, 500)).await.unwrap();
    for seed in 0..30 {
        let mut partial = store.partial(&Digest::of(&[seed]), 50).await.unwrap().unwrap();
        partial.append(0, bytes(seed, 20)).await.unwrap();
    }
    assert_eq!(names(folder.path(), "partial"), 16);
    store.put(bytes(2, 500)).await.unwrap();
    assert_eq!(names(folder.path(), "partial"), 0);
    assert!(store.has(&kept).is_some());
}

/// A crash leaves half a file in `tmp`, which goes; a file that is not the store's is not touched.
#[tokio::test]
async fn drafts_are_deleted_and_foreign_files_kept_at_open() {
    let folder = tempfile::tempdir().unwrap();
    store_in(folder.path()).await;
    fs::write(folder.path().join("tmp/1-2"), "half").unwrap();
    fs::write(folder.path().join("sha256/readme"), "not ours").unwrap();
    let store = store_in(folder.path()).await;
    assert_eq!(names(folder.path(), "tmp"), 0);
    assert_eq!(names(folder.path(), "sha256"), 1);
    assert_eq!(store.bytes(), 0);
}
