//! The history of changes, who changed what: the notes of the core, kept in the state folder.
//!
//! Two files of a megabyte at most, lines of JSON; the older one is replaced when the younger one
//! is full. Lines are written in batches, every few seconds, because flash wears out: what a crash
//! loses is in desired state all the same, with its author.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shoal_protocol::model::view::ChangeView;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// The younger file in the state folder, and the older one.
const FILES: [&str; 2] = ["history.jsonl", "history.1.jsonl"];
/// Bytes of a file: some thousand changes with the specs that they left.
const MAX_BYTES: u64 = 1 << 20;
/// How often what came is written.
const WRITE_EVERY: Duration = Duration::from_secs(5);
/// Notes that wait to be written. A node that hears of all desired state at once has as many;
/// beyond it the oldest are lost.
const MAX_WAITING: usize = 4_096;

/// Notes that are not written yet. Copies are the same one.
#[derive(Clone, Default)]
pub struct Trail(Arc<Mutex<VecDeque<ChangeView>>>);

impl Trail {
    /// Adds a note. Never waits.
    pub fn note(&self, change: ChangeView) {
        let mut waiting = self.lock();
        if waiting.len() >= MAX_WAITING {
            waiting.pop_front();
        }
        waiting.push_back(change);
    }

    /// The trail with its files in this folder.
    pub fn kept_in(self, state: &Path) -> History {
        History { trail: self, files: Arc::default(), folder: state.to_owned() }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<ChangeView>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The notes, and their files.
#[derive(Clone)]
pub struct History {
    trail: Trail,
    /// Locked while the files are used, on a thread for that: each note is in them or waits.
    files: Arc<Mutex<()>>,
    folder: PathBuf,
}

impl History {
    /// Writes what comes until `stop`, and what is left then.
    pub async fn keep(self, stop: CancellationToken) {
        loop {
            let is_last = tokio::select! {
                () = sleep(WRITE_EVERY) => false,
                () = stop.cancelled() => true,
            };
            self.write().await;
            if is_last {
                return;
            }
        }
    }

    /// All notes, the oldest first.
    pub async fn all(&self) -> Vec<ChangeView> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.read()).await.unwrap_or_default()
    }

    async fn write(&self) {
        let this = self.clone();
        let written = tokio::task::spawn_blocking(move || this.append()).await;
        if let Err(error) = written.map_err(io::Error::other).flatten() {
            warn!("the history of changes is not written: {error}");
        }
    }

    fn append(&self) -> io::Result<()> {
        let _used = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        // Also gone when the write fails, so that a full disk does not fill the memory.
        let changes: Vec<ChangeView> = self.trail.lock().iter().cloned().collect();
        if changes.is_empty() {
            return Ok(());
        }
        let written = self.append_all(&changes);
        let mut waiting = self.trail.lock();
        let count = changes.len().min(waiting.len());
        waiting.drain(..count);
        written
    }

    fn append_all(&self, changes: &[ChangeView]) -> io::Result<()> {
        let [young, old] = FILES.map(|name| self.folder.join(name));
        // A line that a crash cut short ends here.
        let mut lines = match ends_in_a_line(&young) {
            true => Vec::new(),
            false => vec![b'\n'],
        };
        let mut written = Vec::with_capacity(changes.len());
        for change in changes {
            let mut line = serde_json::to_vec(change)?;
            line.push(b'\n');
            written.push(line);
        }
        // Of a batch that fills more than a file, as that of a newcomer, the latest are kept.
        let room = MAX_BYTES.saturating_sub(lines.len() as u64);
        let mut size = 0;
        let fits = |line: &&Vec<u8>| {
            size += line.len() as u64;
            size <= room
        };
        let kept = written.iter().rev().take_while(fits).count();
        written[written.len() - kept..].iter().for_each(|line| lines.extend(line));
        let size = fs::metadata(&young).map_or(0, |found| found.len());
        if size > 0 && size + lines.len() as u64 > MAX_BYTES {
            fs::rename(&young, old)?;
        }
        let mut file: File =
            OpenOptions::new().append(true).create(true).mode(0o600).open(&young)?;
        file.write_all(&lines)
    }

    fn read(&self) -> Vec<ChangeView> {
        let _used = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let text = |name: &&str| fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        let all: String = FILES.iter().rev().map(text).collect();
        let written = all.lines().filter_map(|line| serde_json::from_str(line).ok());
        written.chain(self.trail.lock().iter().cloned()).collect()
    }
}

fn ends_in_a_line(file: &Path) -> bool {
    let last = || -> io::Result<u8> {
        let mut file = File::open(file)?;
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        Ok(last[0])
    };
    last().map_or(true, |last| last == b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: usize) -> ChangeView {
        ChangeView {
            at: "2026-01-01T00:00:00Z".into(),
            kind: "workload".into(),
            name: format!("default/w{name}"),
            what: "created".into(),
            by: "ann".into(),
            key: "ab".repeat(32),
            through: None,
            heard_from: Some("n2".into()),
            spec: Some(crate::fakes::spec("w", 1)),
        }
    }

    /// A note is there before and after it is written, once, and after a restart; a line
    /// that a crash cut short costs itself alone.
    #[tokio::test]
    async fn notes_are_kept_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let history = Trail::default().kept_in(folder.path());
        history.trail.note(change(1));
        assert_eq!(history.all().await, [change(1)]);
        history.write().await;
        history.trail.note(change(2));
        assert_eq!(history.all().await, [change(1), change(2)]);
        let stop = CancellationToken::new();
        stop.cancel();
        history.keep(stop).await;
        let file = folder.path().join(FILES[0]);
        let mut text = fs::read_to_string(&file).unwrap();
        text.push_str("{\"at\":\"20");
        fs::write(&file, text).unwrap();
        let again = Trail::default().kept_in(folder.path());
        again.trail.note(change(3));
        again.write().await;
        assert_eq!(again.all().await, [change(1), change(2), change(3)]);
    }

    /// The files stay within their bounds; the latest changes are kept.
    #[tokio::test]
    async fn files_are_bounded_and_keep_the_latest() {
        let folder = tempfile::tempdir().unwrap();
        let history = Trail::default().kept_in(folder.path());
        for batch in 0..30 {
            (0..500).for_each(|n| history.trail.note(change(batch * 500 + n)));
            history.write().await;
        }
        for name in FILES {
            assert!(fs::metadata(folder.path().join(name)).unwrap().len() <= MAX_BYTES);
        }
        let all = history.all().await;
        assert_eq!(all.last(), Some(&change(14_999)));
        assert!(all.len() > 3_000);
    }
}
