//! Lines that guests write, within bounds.
//!
//! The last lines of each instance are in memory. All lines go to two files an instance,
//! `current.log` and `previous.log`, which rotate: together they stay within [`Limits::bytes`].
//! **Flash is spared**: lines are written at most once in [`Limits::flush_every`], at most
//! [`Limits::burst`] bytes at a time; lines beyond are dropped, and the log says how many. Nothing
//! is fsynced: a power cut loses the last seconds.

mod files;
mod follow;
pub(crate) mod fuzzing;
mod lines;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use futures::stream::{BoxStream, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::error::{DeviceError, LogsError};
use crate::model::InstanceId;
use files::Files;
pub use lines::Lines;
#[cfg(feature = "container")]
pub(crate) use lines::visible;

/// The source of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogStream {
    /// The guest's standard output.
    Out,
    /// The guest's standard error.
    Err,
    /// The runtime, about the guest: `started`, `stopped`, why it failed.
    System,
}

impl LogStream {
    /// The name in files and output: `stdout`, `stderr` or `system`.
    pub fn as_str(self) -> &'static str {
        match self {
            LogStream::Out => "stdout",
            LogStream::Err => "stderr",
            LogStream::System => "system",
        }
    }
}

/// A line. Control characters are replaced by their pictures, so that a guest cannot control a
/// terminal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogLine {
    /// Wall-clock time, to a millisecond.
    pub at: SystemTime,
    /// The source of the line.
    pub stream: LogStream,
    /// The text without the line's end.
    pub text: String,
}

/// The lines that a reader asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tail {
    /// Number of last lines; 0 for none, `usize::MAX` for all that are kept.
    pub lines: usize,
    /// Whether new lines follow. The stream then ends when the instance is stopped.
    pub follow: bool,
}

/// Bounds of the logs of one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes on disk of each instance.
    pub bytes: u64,
    /// Bytes in memory of each instance, for followers.
    pub memory: usize,
    /// Bytes that are written to disk at a time; further lines are dropped until the next write.
    pub burst: usize,
    /// The least time between two writes to disk.
    pub flush_every: Duration,
    /// Bytes of a line; the rest is cut, and a note in the line says so.
    pub line: usize,
    /// Ended instances whose files are kept; the oldest are deleted first.
    pub instances: usize,
}

impl Default for Limits {
    /// 1 MiB on disk and 32 KiB in memory an instance, 64 KiB at most each 5 seconds, lines of 8
    /// KiB, 256 ended instances.
    fn default() -> Self {
        Limits {
            bytes: 1 << 20,
            memory: 32 << 10,
            burst: 64 << 10,
            flush_every: Duration::from_secs(5),
            line: 8 << 10,
            instances: 256,
        }
    }
}

/// The logs of all instances of one adapter, in a folder of their own. Cheap to clone.
#[derive(Clone)]
pub struct Logs {
    shared: Arc<Shared>,
}

struct Shared {
    folder: PathBuf,
    limits: Limits,
    /// The node's tokio runtime, on which files are written: threads of guests must not block on
    /// them.
    handle: Handle,
    open: Mutex<BTreeMap<InstanceId, Weak<Inner>>>,
    /// Folders that may still be made before old ones are deleted.
    until_sweep: AtomicUsize,
}

/// The log of one instance. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    id: InstanceId,
    shared: Arc<Shared>,
    recent: Mutex<Recent>,
    /// The number of the next line; its changes wake followers.
    next: watch::Sender<u64>,
    /// Held while files are read or written, so that a reader knows which lines they hold.
    files: tokio::sync::Mutex<Files>,
}

#[derive(Default)]
struct Recent {
    /// The number of the next line.
    next: u64,
    /// The last lines; the newest has number `next - 1`.
    ring: VecDeque<LogLine>,
    ring_bytes: usize,
    /// Encoded lines that wait to be written.
    pending: String,
    /// Lines that did not fit into `pending`.
    dropped: u64,
    flush_is_due: bool,
    closed: bool,
}

/// The adapter's line at each start of a program: earlier lines are of an earlier try.
pub(crate) const STARTED: &str = "started";
/// Lines of a program that the report of its end has.
const LAST_LINES: usize = 10;
/// Bytes of all of them.
const LAST_BYTES: usize = 1 << 10;
/// Logs that are opened before entries of dropped logs are removed. An entry is some 200 bytes.
const SWEEP: usize = 256;

impl Logs {
    /// Logs in `folder`, which is made at the first write. Call it on the tokio runtime that does
    /// the writing.
    pub fn new(folder: impl Into<PathBuf>, limits: Limits) -> Self {
        // The first folder made triggers a deletion: earlier runs of the program have left theirs.
        let (handle, until_sweep) = (Handle::current(), AtomicUsize::new(0));
        let shared =
            Shared { folder: folder.into(), limits, handle, open: Mutex::default(), until_sweep };
        Logs { shared: Arc::new(shared) }
    }

    /// The log of an instance that lives: the same log for the same id while any clone of it
    /// exists.
    pub fn open(&self, id: &InstanceId) -> Log {
        let log = self.get(id);
        log.inner.lock().closed = false;
        log
    }

    /// The last lines, then new ones with `follow`.
    ///
    /// # Errors
    /// Nothing is known of this id, or the device failed.
    pub async fn read(
        &self,
        id: &InstanceId,
        tail: Tail,
    ) -> Result<BoxStream<'static, LogLine>, LogsError> {
        let known = self.lock().get(id).and_then(Weak::upgrade);
        let log = match known {
            Some(inner) => Log { inner },
            None => {
                let files = Files::new(&self.shared.folder, id);
                let there = self.shared.handle.spawn_blocking(move || files.exist()).await;
                if !there.map_err(|stopped| DeviceError::new("looking for logs", stopped))? {
                    return Err(LogsError::Unknown(id.clone()));
                }
                let log = self.get(id);
                log.inner.lock().closed = true;
                log
            }
        };
        log.read(tail).await
    }

    fn get(&self, id: &InstanceId) -> Log {
        let mut open = self.lock();
        if let Some(inner) = open.get(id).and_then(Weak::upgrade) {
            return Log { inner };
        }
        // Removing dropped logs at each call would be quadratic when thousands start together.
        if open.len().is_power_of_two() || open.len().is_multiple_of(SWEEP) {
            open.retain(|_, inner| inner.strong_count() > 0);
        }
        let inner = Arc::new(Inner {
            id: id.clone(),
            shared: self.shared.clone(),
            recent: Mutex::default(),
            next: watch::Sender::new(0),
            files: tokio::sync::Mutex::new(Files::new(&self.shared.folder, id)),
        });
        open.insert(id.clone(), Arc::downgrade(&inner));
        Log { inner }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Weak<Inner>>> {
        self.shared.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    /// Adds a line. Never waits and never fails: lines that cannot be kept are counted, and the log
    /// says how many.
    pub fn say(&self, stream: LogStream, text: &str) {
        let line = LogLine { at: SystemTime::now(), stream, text: lines::visible(text) };
        let mut recent = self.inner.lock();
        recent.add(line, &self.inner.shared.limits);
        let next = recent.next;
        let flush_is_due = std::mem::replace(&mut recent.flush_is_due, true);
        drop(recent);
        self.inner.next.send_replace(next);
        if !flush_is_due {
            let inner = self.inner.clone();
            self.inner.shared.handle.spawn(async move {
                tokio::time::sleep(inner.shared.limits.flush_every).await;
                inner.lock().flush_is_due = false;
                Log { inner }.flush().await;
            });
        }
    }

    /// Lines from a byte stream.
    pub fn lines(&self, stream: LogStream) -> Lines {
        Lines::new(self.clone(), stream, self.inner.shared.limits.line)
    }

    /// Writes pending lines to disk. When the disk refuses, the lines are lost and a warning is
    /// logged.
    pub async fn flush(&self) {
        let mut files = self.inner.files.lock().await;
        self.flush_into(&mut files).await;
    }

    /// The last lines that the program wrote, for the report of its end: ten, and 1 KiB in all.
    #[cfg(any(feature = "wasm", feature = "container"))]
    pub(crate) async fn last_words(&self) -> Vec<String> {
        // The adapter's own lines stand between them.
        let tail = Tail { lines: 3 * LAST_LINES, follow: false };
        let Ok(lines) = self.clone().read(tail).await else { return Vec::new() };
        let lines: Vec<LogLine> = lines.collect().await;
        let mut room = LAST_BYTES;
        let mut last = VecDeque::new();
        let is_own = |line: &LogLine| line.stream != LogStream::System;
        let since_start = |line: &LogLine| is_own(line) || line.text != STARTED;
        let own = lines.into_iter().rev().take_while(since_start).filter(is_own);
        for mut line in own.take(LAST_LINES) {
            line.text.truncate(line.text.floor_char_boundary(room));
            room -= line.text.len();
            last.push_front(line.text);
            if room == 0 {
                break;
            }
        }
        last.into()
    }

    /// The instance has ended: pending lines are written, and streams of followers end.
    pub async fn close(&self) {
        self.flush().await;
        let mut recent = self.inner.lock();
        recent.closed = true;
        let next = recent.next;
        drop(recent);
        self.inner.next.send_replace(next);
    }

    async fn flush_into(&self, files: &mut Files) -> u64 {
        let (text, next) = self.inner.lock().take_pending();
        if !text.is_empty() {
            let shared = self.inner.shared.clone();
            let mut writer = files.clone();
            let written = self.inner.shared.handle.spawn_blocking(move || {
                let result = writer.append(&text, shared.limits.bytes);
                if matches!(result, Ok(true)) && shared.is_sweep_due() {
                    writer.forget_oldest(shared.limits.instances, &shared.alive());
                }
                (writer, result)
            });
            match written.await {
                Ok((writer, Ok(_))) => *files = writer,
                Ok((_, Err(error))) => {
                    tracing::warn!(instance = %self.inner.id, %error, "lines of a log could not \
                        be written and are lost");
                }
                Err(_) => {} // the program ends
            }
        }
        next
    }

    async fn read(self, tail: Tail) -> Result<BoxStream<'static, LogLine>, LogsError> {
        let in_memory = self.inner.lock().last(tail.lines);
        let (last, next) = match in_memory {
            Some(found) => found,
            None => self.read_files(tail.lines).await?,
        };
        let last = futures::stream::iter(last);
        Ok(if tail.follow { last.chain(follow::from(self, next)).boxed() } else { last.boxed() })
    }

    async fn read_files(&self, lines: usize) -> Result<(Vec<LogLine>, u64), LogsError> {
        let mut files = self.inner.files.lock().await;
        let next = self.flush_into(&mut files).await;
        let reader = files.clone();
        let read = self.inner.shared.handle.spawn_blocking(move || reader.last(lines));
        let read = read.await.map_err(|stopped| DeviceError::new("reading a log", stopped))?;
        let last = read.map_err(|error| {
            DeviceError::new(format!("reading the log of {}", self.inner.id), error)
        })?;
        Ok((last, next))
    }
}

impl Shared {
    /// To be called for each folder made. Finding the oldest costs as much as there are folders, so
    /// it is done once in so many: a quarter of those that may stay, by which their number may
    /// exceed the bound meanwhile.
    fn is_sweep_due(&self) -> bool {
        let next = self.limits.instances / 4;
        let one_less = |left: usize| Some(left.checked_sub(1).unwrap_or(next));
        self.until_sweep.fetch_update(Relaxed, Relaxed, one_less) == Ok(0)
    }

    /// Logs that are open and not closed.
    fn alive(&self) -> Vec<InstanceId> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = |inner: &Weak<Inner>| inner.upgrade().is_some_and(|inner| !inner.lock().closed);
        open.iter().filter(|(_, inner)| alive(inner)).map(|(id, _)| id.clone()).collect()
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that a line costs in memory beside its text.
const LINE_OVERHEAD: usize = size_of::<LogLine>();

impl Recent {
    fn add(&mut self, line: LogLine, limits: &Limits) {
        if self.pending.len() + line.text.len() < limits.burst {
            files::encode(&line, &mut self.pending);
        } else {
            self.dropped += 1;
        }
        self.next += 1;
        self.ring_bytes += line.text.len() + LINE_OVERHEAD;
        self.ring.push_back(line);
        while self.ring_bytes > limits.memory {
            let Some(oldest) = self.ring.pop_front() else { break };
            self.ring_bytes -= oldest.text.len() + LINE_OVERHEAD;
        }
    }

    fn take_pending(&mut self) -> (String, u64) {
        let mut text = std::mem::take(&mut self.pending);
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            let text_of =
                format!("{dropped} lines were not kept: they came faster than they may be written");
            files::encode(
                &LogLine { at: SystemTime::now(), stream: LogStream::System, text: text_of },
                &mut text,
            );
        }
        (text, self.next)
    }

    /// The last lines, when memory has that many.
    fn last(&self, lines: usize) -> Option<(Vec<LogLine>, u64)> {
        let first = self.ring.len().checked_sub(lines)?;
        Some((self.ring.range(first..).cloned().collect(), self.next))
    }
}
