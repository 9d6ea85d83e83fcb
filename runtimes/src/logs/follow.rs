//! Streams of new lines.

use std::collections::VecDeque;

use futures::stream::{Stream, unfold};
use tokio::sync::watch;

use super::{Log, LogLine, LogStream};

struct Follower {
    log: Log,
    newest: watch::Receiver<u64>,
    /// The number of the next line to give.
    next: u64,
    /// Lines that were taken from the log and not given yet.
    ready: VecDeque<LogLine>,
}

/// All lines from number `next` on. A follower that is too slow misses lines and gets a line that
/// says how many.
pub(super) fn from(log: Log, next: u64) -> impl Stream<Item = LogLine> + Send + 'static {
    let newest = log.inner.next.subscribe();
    unfold(Follower { log, newest, next, ready: VecDeque::new() }, |mut follower| async move {
        loop {
            if let Some(line) = follower.ready.pop_front() {
                return Some((line, follower));
            }
            follower.newest.borrow_and_update();
            let closed = follower.take();
            if follower.ready.is_empty() {
                if closed {
                    return None;
                }
                // Never an error: `log` holds the sender.
                follower.newest.changed().await.ok()?;
            }
        }
    })
}

impl Follower {
    fn take(&mut self) -> bool {
        let recent = self.log.inner.lock();
        let first = recent.next - recent.ring.len() as u64;
        if self.next < first {
            let text = format!(
                "{} lines skipped: they came faster than they were read",
                first - self.next
            );
            let at = recent.ring.front().map_or_else(std::time::SystemTime::now, |line| line.at);
            self.ready.push_back(LogLine { at, stream: LogStream::System, text });
            self.next = first;
        }
        let from = usize::try_from(self.next - first).unwrap_or(usize::MAX).min(recent.ring.len());
        self.ready.extend(recent.ring.range(from..).cloned());
        self.next = recent.next;
        recent.closed
    }
}
