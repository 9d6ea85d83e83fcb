//! The thread that owns the file.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use shoal_protocol::node::{PersistId, Record};
use tokio::sync::mpsc;

use super::Answer;
use super::disk::DiskCounters;
use super::file::StateFile;
use super::row::{self, RowKey};

/// Enough for redb's recursion over a tree of a few levels; a thread costs only what it touches.
const STACK: usize = 512 * 1024;

/// What was asked for since the last transaction.
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
    /// Nobody takes it any more.
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

    /// All that waits, as soon as something does; none when the store is closing and nothing is left.
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

    fn fail(&self) {
        let mut waiting = self.lock();
        waiting.failed = true;
        waiting.records.clear();
    }
}

pub(super) fn spawn(
    file: StateFile,
    queue: Arc<Queue>,
    counters: Arc<DiskCounters>,
    answers: mpsc::Sender<Answer>,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("shoal-store".into()).stack_size(STACK).spawn(move || {
        while let Some((upto, records)) = queue.take() {
            let began = Instant::now();
            // redb asserts what a damaged file may break; that must not take the daemon with it.
            let outcome = catch_unwind(AssertUnwindSafe(|| file.commit(&records)))
                .unwrap_or_else(|_| Err("the store met a state that should not be: its file is damaged".into()));
            let answer = match outcome {
                Ok(()) => {
                    counters.commits.fetch_add(1, Relaxed);
                    Answer::Stored { upto, took: began.elapsed() }
                }
                Err(why) => {
                    queue.fail();
                    Answer::Failed { why }
                }
            };
            let failed = matches!(answer, Answer::Failed { .. });
            // The driver may be gone already; then only the disk counts.
            let _ = answers.blocking_send(answer);
            if failed {
                return;
            }
        }
    })
}
