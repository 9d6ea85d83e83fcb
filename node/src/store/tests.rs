//! The store against power cuts, full disks and altered bytes.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};

use shoal_protocol::model::{Chain, ChangeBody, Facts, Key, RawChange, Resources, Value, WriterId};
use shoal_protocol::model::{Digest, KeyPair, NodeRecord, Ruling, RulingBody, Signed, Slot};

use redb::ReadableDatabase;
use shoal_protocol::node::OldVersion;
use tempfile::TempDir;

use super::*;

/// A disk that fails after a number of writes and syncs, until it is mended.
#[derive(Debug)]
pub(crate) struct Fault {
    left: AtomicI64,
    syncs_fail: AtomicBool,
}

impl Default for Fault {
    fn default() -> Self {
        Fault { left: AtomicI64::new(i64::MAX), syncs_fail: AtomicBool::new(false) }
    }
}

impl Fault {
    pub(super) fn fail_after(&self, writes: i64) {
        self.left.store(writes, SeqCst);
    }

    /// Writes pass, and syncs fail, as on a failing device.
    pub(super) fn fail_syncs(&self) {
        self.syncs_fail.store(true, SeqCst);
    }

    pub(crate) fn mend(&self) {
        self.left.store(i64::MAX, SeqCst);
        self.syncs_fail.store(false, SeqCst);
    }

    pub(super) fn check(&self) -> io::Result<()> {
        if self.left.fetch_sub(1, SeqCst) > 0 {
            Ok(())
        } else {
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    pub(super) fn check_sync(&self) -> io::Result<()> {
        if self.syncs_fail.load(SeqCst) { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }
}

const CLUSTER: ClusterId = ClusterId([7; 32]);

fn node() -> NodeId {
    NodeId([9; 32])
}

fn keys() -> KeyPair {
    KeyPair::from_seed(&[1; 32])
}

fn slot(number: u8, counter: u64) -> Record {
    let slot = Signed::sign(
        Slot { slot: number, counter, claims: vec![], newer: vec![] },
        &keys(),
        &CLUSTER,
    );
    Record::Slot { node: node(), slot: slot.wire() }
}

fn ruling(tick: u64) -> Record {
    let ruling = Ruling {
        uid: Digest([1; 32]),
        generation: Digest([2; 32]),
        tick,
        sequence: 1,
        body: RulingBody::CronTick(shoal_protocol::model::ruling::Tick::Started),
    };
    let ruling = Signed::sign(ruling, &keys(), &CLUSTER);
    Record::Ruling { key: Digest::of(&tick.to_be_bytes()), ruling: ruling.wire() }
}

fn node_record(counter: u64) -> Record {
    let facts = Facts {
        arch: "x86_64".into(),
        runtimes: [].into(),
        labels: [].into(),
        capacity: Resources { memory: 1, cpu: 1 },
        ..Facts::default()
    };
    let record = NodeRecord {
        counter,
        incarnation: 1,
        name: "n1".into(),
        addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
        facts,
        version: "1".into(),
        ready: true,
        leaving: false,
        no_way_to: Vec::new(),
    };
    Record::Node { node: node(), record: Signed::sign(record, &keys(), &CLUSTER).wire() }
}

/// The content of a saved state, in a comparable form.
fn seen(saved: &Saved) -> (u64, Vec<u64>, Vec<Digest>, Vec<Digest>) {
    let counters = saved.slots.iter().map(|(_, slot)| slot.peek().unwrap().counter).collect();
    let hashes = saved.rulings.iter().map(|ruling| ruling.hash()).collect();
    (saved.incarnation, counters, hashes, saved.nodes.iter().map(|node| node.hash()).collect())
}

fn reopen(folder: &TempDir) -> Result<(Store, Saved), StoreError> {
    Store::open(folder.path(), CLUSTER, node())
}

/// A folder with a store that has this many rulings, and its saved state.
fn written(rulings: u64) -> (TempDir, Saved) {
    let folder = TempDir::new().unwrap();
    let store = Store::create(folder.path(), CLUSTER, node()).unwrap();
    let (answers, mut reports) = mpsc::channel(16);
    let handle = store.start(answers).unwrap();
    handle.persist(PersistId(1), vec![Record::Incarnation(5), slot(3, 1), node_record(1)]);
    handle.persist(PersistId(2), (0..rulings).map(ruling).collect());
    drop(handle);
    while let Some(answer) = reports.blocking_recv() {
        assert!(matches!(answer, StoreAnswer::Stored { .. }), "{answer:?}");
    }
    let (_, saved) = reopen(&folder).unwrap();
    assert_eq!(saved.rulings.len() as u64, rulings);
    (folder, saved)
}

/// A version of a workload, with the change that wished for it.
fn old_version(number: u8, is_there: bool) -> Record {
    let body = ChangeBody {
        key: Key::Workload("web".parse().unwrap()),
        uid: None,
        serial: u64::from(number),
        writer: WriterId([number; 32]),
        clock: [].into(),
        value: Value::Workload { version: 1, bytes: vec![number] },
    };
    let raw =
        RawChange { change: Signed::sign(body, &keys(), &CLUSTER).wire(), chain: Chain::default() };
    let version = OldVersion { change: raw, is_previous: false };
    Record::OldVersion {
        uid: Digest([1; 32]),
        generation: Digest([number; 32]),
        version: is_there.then_some(version),
    }
}

/// The sum over the rows of a file, as it stands in the file.
fn file_sum(folder: &TempDir) -> Vec<u8> {
    let about: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("about");
    let file = redb::Database::open(folder.path().join(FILE)).unwrap();
    let table = file.begin_read().unwrap().open_table(about).unwrap();
    table.get("sum").unwrap().unwrap().value().to_vec()
}

/// Old versions are read back, each until it is deleted, and the sum that older programs check is
/// about the other rows alone.
#[test]
fn old_versions_are_read_back_until_they_are_deleted() {
    let (folder, _) = written(2);
    let numbers = |folder: &TempDir| -> Vec<u8> {
        let (_, saved) = reopen(folder).unwrap();
        assert_eq!((saved.incarnation, saved.rulings.len()), (5, 2));
        saved.old_versions.iter().map(|(_, generation, _)| generation.0[0]).collect()
    };
    assert_eq!(numbers(&folder), [0; 0], "a file of before has none");
    let before = file_sum(&folder);
    let (store, _) = reopen(&folder).unwrap();
    store.put(old_version(3, true)).unwrap();
    store.put(old_version(4, true)).unwrap();
    drop(store);
    assert_eq!((numbers(&folder), file_sum(&folder)), (vec![3, 4], before.clone()));
    let (store, _) = reopen(&folder).unwrap();
    store.put(old_version(3, false)).unwrap();
    drop(store);
    assert_eq!((numbers(&folder), file_sum(&folder)), (vec![4], before));
}

/// Fifty batches replace the same records. Each report of the store is checked against a copy of
/// the file.
#[test]
fn stored_records_are_read_back_and_the_latest_counts() {
    let folder = TempDir::new().unwrap();
    let store = Store::create(folder.path(), CLUSTER, node()).unwrap();
    let (answers, mut reports) = mpsc::channel(16);
    let handle = store.start(answers).unwrap();
    for incarnation in 1..=50 {
        handle.persist(
            PersistId(incarnation),
            vec![Record::Incarnation(incarnation), slot(0, incarnation)],
        );
    }
    let mut upto = PersistId(0);
    while upto < PersistId(50) {
        let StoreAnswer::Stored { upto: next, .. } = reports.blocking_recv().unwrap() else {
            panic!("a good disk")
        };
        assert!(next > upto, "answers grow");
        upto = next;
        // A batch that was reported as stored is on disk now, whatever happens to this process.
        let copy = TempDir::new().unwrap();
        fs::copy(folder.path().join(FILE), copy.path().join(FILE)).unwrap();
        let (_, saved) = reopen(&copy).unwrap();
        assert!(saved.incarnation >= upto.0);
        assert_eq!(seen(&saved).1, [saved.incarnation], "one transaction holds a batch");
    }
    let commits = handle.counters().commits.load(SeqCst);
    assert!(commits < 50, "queued records share a transaction: {commits} transactions");
    drop(handle);
    let (_, saved) = reopen(&folder).unwrap();
    assert_eq!((saved.incarnation, seen(&saved).1), (50, vec![50]));
}

/// Each start uses an incarnation above all before, also those that the core raised; one that was
/// not written is not used.
#[test]
fn incarnations_never_repeat() {
    let folder = TempDir::new().unwrap();
    let (store, mut saved) =
        (Store::create(folder.path(), CLUSTER, node()).unwrap(), Saved::default());
    store.draw_incarnation(&mut saved).unwrap();
    assert_eq!(saved.incarnation, 1);
    // The core raises its incarnation above a false report of its death.
    let handle = store.start(mpsc::channel(8).0).unwrap();
    handle.persist(PersistId(1), vec![Record::Incarnation(5)]);
    drop(handle);
    for drawn in [6, 7] {
        let (store, mut saved) = reopen(&folder).unwrap();
        store.draw_incarnation(&mut saved).unwrap();
        assert_eq!(saved.incarnation, drawn);
    }
    let (store, mut saved) = reopen(&folder).unwrap();
    let error = store.failing_after(0).draw_incarnation(&mut saved).unwrap_err().to_string();
    assert!(error.contains("state.redb") && error.contains("disk is full"), "{error}");
    assert_eq!(saved.incarnation, 7, "an incarnation that is not on disk is not used");
}

/// An empty list of changes removes the key.
#[test]
fn key_without_changes_has_no_row() {
    let folder = TempDir::new().unwrap();
    let handle =
        Store::create(folder.path(), CLUSTER, node()).unwrap().start(mpsc::channel(8).0).unwrap();
    let key = Digest([4; 32]);
    handle.persist(
        PersistId(1),
        vec![Record::Desired { key, changes: vec![] }, Record::Incarnation(1)],
    );
    drop(handle);
    let (_, saved) = reopen(&folder).unwrap();
    assert_eq!((saved.changes.len(), saved.incarnation), (0, 1));
}

/// Flash wears out with each sync.
#[test]
fn batch_costs_one_sync() {
    let (folder, _) = written(3);
    let (store, _) = reopen(&folder).unwrap();
    let (answers, mut reports) = mpsc::channel(8);
    let handle = store.start(answers).unwrap();
    // The first transaction after opening may sync once more, to mark the file as open.
    handle.persist(PersistId(1), vec![Record::Incarnation(6)]);
    reports.blocking_recv().unwrap();
    let syncs = handle.counters().syncs.load(SeqCst);
    handle.persist(PersistId(2), (0..100).map(ruling).collect());
    reports.blocking_recv().unwrap();
    assert_eq!(handle.counters().syncs.load(SeqCst), syncs + 1);
    assert_eq!(handle.counters().commits.load(SeqCst), 2);
}

/// A power cut or a full disk may truncate the file at any byte.
#[test]
fn truncated_file_is_refused_by_name() {
    let (folder, _) = written(200);
    let whole = fs::read(folder.path().join(FILE)).unwrap();
    let cuts = (0..whole.len()).step_by(whole.len() / 97).chain([
        1,
        511,
        512,
        4095,
        4096,
        whole.len() - 1,
    ]);
    for cut in cuts {
        fs::write(folder.path().join(FILE), &whole[..cut]).unwrap();
        let error = reopen(&folder).map(|_| ()).expect_err(&format!("cut at {cut}"));
        assert!(matches!(error, StoreError::Damaged { .. }), "cut at {cut}: {error}");
        let text = error.to_string();
        assert!(text.contains(FILE) && text.contains("shoal join LINE"), "{text}");
    }
}

/// Flash flips bits. The file is refused, or its content is the same.
#[test]
fn altered_byte_is_refused_or_harmless() {
    let (folder, saved) = written(200);
    let path = folder.path().join(FILE);
    let whole = fs::read(&path).unwrap();
    let (mut refused, mut state) = (0, 0x9e37_79b9_7f4a_7c15_u64);
    for round in 0..400 {
        // xorshift: the same bytes in every run.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let at = usize::try_from(state).unwrap() % whole.len();
        let mut altered = whole.clone();
        altered[at] ^= 1 << (round % 8);
        fs::write(&path, &altered).unwrap();
        match reopen(&folder) {
            Ok((_, read)) => assert_eq!(seen(&read), seen(&saved), "byte {at}"),
            Err(
                StoreError::Damaged { .. } | StoreError::Foreign { .. } | StoreError::Newer { .. },
            ) => refused += 1,
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    assert!(refused > 20, "only {refused} of 400 alterations were noticed");
}

/// A row is altered in every copy that the file holds: its checksum must catch that.
#[test]
fn altered_row_is_refused() {
    let (folder, _) = written(20);
    let path = folder.path().join(FILE);
    let whole = fs::read(&path).unwrap();
    // The ruling's signature lies somewhere in the file: every altered copy that counts must be
    // noticed.
    let Record::Ruling { ruling: wire, .. } = ruling(7) else { panic!("a ruling") };
    let needle = &wire.raw()[..40];
    let hits: Vec<_> =
        whole.windows(needle.len()).enumerate().filter(|(_, found)| *found == needle).collect();
    assert!(!hits.is_empty(), "the rows are in the file as they are");
    let mut altered = whole.clone();
    hits.iter().for_each(|(at, _)| altered[at + 11] ^= 0x40);
    fs::write(&path, &altered).unwrap();
    assert!(matches!(reopen(&folder), Err(StoreError::Damaged { .. })));
}

/// A node that forgot its claims could take one twice.
#[test]
fn missing_or_foreign_file_is_not_taken_for_a_new_one() {
    let folder = TempDir::new().unwrap();
    assert!(matches!(reopen(&folder), Err(StoreError::Missing { .. })));
    fs::write(folder.path().join(FILE), b"").unwrap();
    assert!(matches!(reopen(&folder), Err(StoreError::Damaged { .. })));
    fs::write(
        folder.path().join(FILE),
        b"not a database at all, but long enough to hold a header".repeat(200),
    )
    .unwrap();
    assert!(matches!(reopen(&folder), Err(StoreError::Damaged { .. })));
}

/// A state folder may be mixed from copies of two nodes.
#[test]
fn file_of_another_node_or_cluster_is_refused() {
    let (folder, _) = written(1);
    let other = Store::open(folder.path(), CLUSTER, NodeId([1; 32])).map(|_| ()).unwrap_err();
    assert!(other.to_string().contains("belongs to another node"), "{other}");
    let other = Store::open(folder.path(), ClusterId([1; 32]), node()).map(|_| ()).unwrap_err();
    assert!(other.to_string().contains("belongs to another cluster"), "{other}");
}

/// The disk fills up after any number of writes. One failure is reported, and the next start finds
/// the last stored state.
#[test]
fn full_disk_fails_once_and_keeps_stored_records() {
    for writes in 0..12 {
        let (folder, _) = written(3);
        let (store, _) = reopen(&folder).unwrap();
        let store = store.failing_after(writes);
        let (answers, mut reports) = mpsc::channel(8);
        let handle = store.start(answers).unwrap();
        let mut stored = 5;
        for incarnation in 6..20 {
            handle.persist(PersistId(incarnation), vec![Record::Incarnation(incarnation)]);
            match reports.blocking_recv().unwrap() {
                StoreAnswer::Stored { .. } => stored = incarnation,
                StoreAnswer::Failed { why } => {
                    assert!(why.contains(FILE), "{why}");
                    break;
                }
                StoreAnswer::Recovered => panic!("it is full"),
            }
        }
        assert!(stored < 19, "the disk was full after {writes} writes");
        // A failed store tries nothing more, and does not block.
        handle.persist(PersistId(99), vec![Record::Incarnation(99)]);
        drop(handle);
        assert!(reports.blocking_recv().is_none());
        let (_, saved) = reopen(&folder).unwrap();
        assert_eq!(saved.incarnation, stored, "after {writes} writes");
    }
}

/// The sync of a change failed after all of it was written. Its author got an error, and the next
/// start found the change.
#[test]
fn refused_change_is_not_found_at_the_next_start() {
    let (folder, _) = written(3);
    let (store, _) = reopen(&folder).unwrap();
    let fault = store.fault();
    let (answers, mut reports) = mpsc::channel(8);
    let handle = store.start(answers).unwrap();
    handle.persist(PersistId(1), vec![Record::Incarnation(6)]);
    assert!(matches!(reports.blocking_recv(), Some(StoreAnswer::Stored { .. })));
    fault.fail_syncs();
    handle.persist(PersistId(2), vec![Record::Incarnation(7)]);
    assert!(matches!(reports.blocking_recv(), Some(StoreAnswer::Failed { .. })));
    drop(handle);
    let (_, saved) = reopen(&folder).unwrap();
    assert_eq!((saved.incarnation, saved.rulings.len()), (6, 3));
}

/// After a failure the disk was not written to again until the daemon was restarted.
#[test]
fn mended_disk_takes_writes_again() {
    for writes in [0, 1, 3, 5] {
        let (folder, _) = written(3);
        let (store, _) = reopen(&folder).unwrap();
        let fault = store.fault();
        fault.fail_after(writes);
        let (answers, mut reports) = mpsc::channel(8);
        let handle = store.start(answers).unwrap();
        let mut next = 6;
        let stored = loop {
            handle.persist(PersistId(next), vec![Record::Incarnation(next)]);
            match reports.blocking_recv().unwrap() {
                StoreAnswer::Stored { .. } => next += 1,
                StoreAnswer::Failed { .. } => break next - 1,
                StoreAnswer::Recovered => panic!("it was not mended"),
            }
        };
        // Records that come meanwhile are dropped: the node writes those it needs again.
        handle.persist(PersistId(50), vec![Record::Incarnation(50)]);
        fault.mend();
        assert_eq!(reports.blocking_recv().unwrap(), StoreAnswer::Recovered);
        handle.persist(PersistId(51), vec![slot(1, 9)]);
        assert!(matches!(
            reports.blocking_recv().unwrap(),
            StoreAnswer::Stored { upto: PersistId(51), .. }
        ));
        drop(handle);
        let (_, saved) = reopen(&folder).unwrap();
        assert_eq!((saved.incarnation, saved.slots.len()), (stored, 2), "after {writes} writes");
    }
}

/// The operator must know which folder is wrong.
#[test]
fn failed_creation_names_the_file() {
    let folder = TempDir::new().unwrap();
    let error =
        Store::create(&folder.path().join("absent"), CLUSTER, node()).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("absent/state.redb cannot be made"), "{error}");
}

/// Two daemons on one state would corrupt it.
#[test]
fn folder_is_locked_once_and_the_error_names_the_process() {
    let folder = TempDir::new().unwrap();
    let lock = Lock::take(folder.path()).unwrap();
    let error = Lock::take(folder.path()).unwrap_err();
    assert!(
        matches!(&error, LockError::Taken { pid: Some(pid), .. } if *pid == std::process::id()),
        "{error}"
    );
    drop(lock);
    Lock::take(folder.path()).unwrap();
}

/// Thousands of workloads were removed; redb does not shrink its file by itself.
#[test]
fn mostly_unused_file_is_compacted_at_start() {
    let folder = TempDir::new().unwrap();
    let handle =
        Store::create(folder.path(), CLUSTER, node()).unwrap().start(mpsc::channel(8).0).unwrap();
    let body = ChangeBody {
        key: Key::Workload("web".parse().unwrap()),
        writer: WriterId([1; 32]),
        serial: 1,
        clock: [(WriterId([1; 32]), 1)].into(),
        uid: None,
        value: Value::Workload { version: 1, bytes: vec![5; 2_000] },
    };
    let change =
        RawChange { change: Signed::sign(body, &keys(), &CLUSTER).wire(), chain: Chain::default() };
    let desired = |many: u64, changes: Vec<RawChange>| {
        (0..many)
            .map(|n| Record::Desired {
                key: Digest::of(&n.to_be_bytes()),
                changes: changes.clone(),
            })
            .collect()
    };
    handle.persist(PersistId(1), desired(4_000, vec![change]));
    handle.persist(PersistId(2), vec![Record::Incarnation(8)]);
    drop(handle);
    let (store, saved) = reopen(&folder).unwrap();
    assert_eq!(saved.changes.len(), 4_000);
    let handle = store.start(mpsc::channel(8).0).unwrap();
    handle.persist(PersistId(3), desired(3_999, vec![]));
    drop(handle);
    let large = fs::metadata(folder.path().join(FILE)).unwrap().len();
    let (store, saved) = reopen(&folder).unwrap();
    drop(store);
    let small = fs::metadata(folder.path().join(FILE)).unwrap().len();
    assert!(small < large / 2, "{large} -> {small}");
    assert_eq!((saved.changes.len(), saved.incarnation), (1, 8));
}
