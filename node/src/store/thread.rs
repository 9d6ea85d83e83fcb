//! The loop of the thread that owns the file.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use shoal_protocol::node::{PersistId, Record};
use tokio::sync::mpsc;

use super::file::{StateFile, StoreLocation};
use super::probe::{self, ProbeBackoff};
use super::row::RowKey;
use super::{StoreAnswer, row};

/// Bytes of stack: enough for redb's recursion over a tree of a few levels, and for opening a file
/// again. A thread uses only touched pages.
const STACK: usize = 1024 * 1024;

/// The records queued since the last transaction.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    records: BTreeMap<RowKey, Record>,
    upto: Option<PersistId>,
    closing: bool,
    /// The disk has failed, and records are dropped.
    failed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, id: PersistId, records: Vec<Record>) {
        let mut waiting = self.lock();
        if waiting.failed {
            return;
        }
        waiting.records.extend(records.into_iter().map(|record| (row::key(&record), record)));
        waiting.upto = waiting.upto.max(Some(id));
        self.wake.notify_one();
    }

    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.wake.notify_one();
    }

    /// Waits for queued records and takes all of them; none when the store is closing and the queue
    /// is empty.
    fn take(&self) -> Option<(PersistId, BTreeMap<RowKey, Record>)> {
        let mut waiting = self.lock();
        loop {
            if let Some(upto) = waiting.upto.take() {
                return Some((upto, std::mem::take(&mut waiting.records)));
            }
            if waiting.closing {
                return None;
            }
            waiting = self.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Drops the queue, and all records from now on.
    fn fail(&self) {
        let mut waiting = self.lock();
        (waiting.failed, waiting.upto) = (true, None);
        waiting.records.clear();
    }

    /// Accepts records again.
    fn recover(&self) {
        self.lock().failed = false;
    }

    /// Waits for this time or until the store is closing. Returns whether it is closing.
    fn is_closing_within(&self, time: Duration) -> bool {
        let (waiting, _) = self
            .wake
            .wait_timeout_while(self.lock(), time, |waiting| !waiting.closing)
            .unwrap_or_else(PoisonError::into_inner);
        waiting.closing
    }
}

pub(super) fn spawn(
    file: StateFile,
    location: StoreLocation,
    queue: Arc<Queue>,
    answers: mpsc::Sender<StoreAnswer>,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("shoal-store".into()).stack_size(STACK).spawn(move || {
        let (mut file, mut backoff) = (file, ProbeBackoff::default());
        loop {
            let Some(why) = write_until_it_fails(&file, &location, &queue, &answers) else {
                return;
            };
            queue.fail();
            // The driver may have stopped already; the thread still works for the disk.
            let _ = answers.blocking_send(StoreAnswer::Failed { why });
            // After a failure redb accepts no more writes, and writes nothing when it is dropped.
            drop(file);
            file = loop {
                if queue.is_closing_within(backoff.next()) {
                    return;
                }
                match probe::probe(&location) {
                    Ok(file) => break file,
                    Err(why) => tracing::debug!(why, "the disk still takes no writes"),
                }
            };
            backoff.recovered();
            queue.recover();
            let _ = answers.blocking_send(StoreAnswer::Recovered);
        }
    })
}

/// Returns why the disk failed; none when the store is closing and everything is written.
fn write_until_it_fails(
    file: &StateFile,
    location: &StoreLocation,
    queue: &Queue,
    answers: &mpsc::Sender<StoreAnswer>,
) -> Option<String> {
    while let Some((upto, records)) = queue.take() {
        let began = Instant::now();
        // redb panics on some damaged files, which must not end the daemon.
        let outcome =
            catch_unwind(AssertUnwindSafe(|| file.commit(&records))).unwrap_or_else(|_| {
                Err("the store met a state that should not be: its file is damaged".into())
            });
        if let Err(why) = outcome {
            return Some(why);
        }
        location.counters.commits.fetch_add(1, Relaxed);
        let _ = answers.blocking_send(StoreAnswer::Stored { upto, took: began.elapsed() });
    }
    None
}
