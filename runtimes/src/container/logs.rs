//! A container's output, from the engine into the instance's log.
//!
//! The engine keeps all lines, and Podman gives their times in whole seconds only. So after a break
//! (the node, the engine or the connection ended) the lines that are in the log already are found
//! again by their text, and left out. This is a best effort: nothing is lost, and a line is
//! repeated only when hundreds of lines are equal.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptionsBuilder;
use futures::StreamExt;
use shoal_protocol::model::spec::MAX_CONTAINERS;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::engine::{Engine, within};
use super::forms::Phase;
use super::refusal::CallError;
use crate::logs::{Lines, Log, LogLine, LogStream, Logs, Tail, visible};
use crate::model::InstanceId;

/// The line that the log has at each start of a container.
pub(super) use crate::logs::STARTED;
/// The line that the log has when the first container of a group is about to start.
pub(super) const BEGUN: &str = "starting its containers";
/// The newest lines of the log in which a place is looked for.
const KNOWN: usize = 200;
/// Lines come into the log a little after the engine dates them.
const DELAY: u64 = 10;
/// Pause before the engine is asked again after a break.
const PAUSE: Duration = Duration::from_secs(1);
/// Time for the engine to give the lines that it has.
const REPLAY: Duration = Duration::from_secs(30);
/// Time in which a container that was just started has the device for itself: its lines are kept.
const ASIDE: Duration = Duration::from_millis(100);
/// Time for the last lines of a container that has ended.
const LAST_LINES: Duration = Duration::from_secs(5);
/// Bytes of a line that are compared.
const COMPARED: usize = 1000;

/// The beginning of each line of a container of a group.
pub(super) fn tag(name: &str) -> String {
    format!("[{name}] ")
}

/// Where to go on reading.
#[derive(Clone, Copy, Default)]
struct Place {
    /// Seconds of wall-clock time.
    since: i32,
    /// Complete lines after that which the log has.
    skip: usize,
}

/// The task that copies a container's output; it ends with this.
pub(super) struct Follower(JoinHandle<()>);

impl Follower {
    pub fn of(copying: impl Future<Output = ()> + Send + 'static) -> Self {
        Follower(tokio::spawn(copying))
    }

    /// Waits for the last lines of a container that has ended.
    pub async fn finish(mut self) {
        let _ = timeout(LAST_LINES, &mut self.0).await;
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Copies a container's output until it ends. `fresh`: the log has none of it yet.
pub(super) async fn follow(
    engine: Arc<Engine>,
    id: String,
    instance: InstanceId,
    logs: Logs,
    log: Log,
    tag: String,
    fresh: bool,
) {
    let mut is_known = !fresh;
    if fresh {
        sleep(ASIDE).await;
    }
    loop {
        let place = if is_known {
            find(&engine, &id, &instance, &logs, &tag).await
        } else {
            Ok(Place::default())
        };
        is_known = true;
        let copied = match place {
            Ok(place) => copy(&engine, &id, &log, &tag, place).await,
            Err(error) => Err(error),
        };
        match copied {
            // The stream also ends when the container is started again from outside.
            Ok(()) => match engine.inspect(&id).await {
                Ok(found) if found.phase() == Phase::Alive => {}
                Ok(_) => return,
                Err(error) if error.is_of_engine() => {}
                Err(_) => return,
            },
            Err(error) if error.is_of_engine() => {}
            Err(_) => return,
        }
        sleep(PAUSE).await;
    }
}

fn options(since: i32, follow: bool) -> LogsOptionsBuilder {
    LogsOptionsBuilder::new().follow(follow).stdout(true).stderr(true).since(since).tail("all")
}

/// Copies lines from a place on, until the container ends or the connection breaks.
async fn copy(
    engine: &Engine,
    id: &str,
    log: &Log,
    tag: &str,
    place: Place,
) -> Result<(), CallError> {
    let mut output = engine.docker().logs(id, Some(options(place.since, true).build()));
    let lines = |stream| log.lines(stream).tagged(tag);
    let (out, err) = (lines(LogStream::Out), lines(LogStream::Err));
    let mut writer = Writer { out, err, skip: place.skip };
    while let Some(chunk) = output.next().await {
        let (stream, bytes) = parts(chunk?);
        writer.write(stream, &bytes);
    }
    Ok(())
}

fn parts(output: LogOutput) -> (LogStream, bytes::Bytes) {
    let stream = match &output {
        LogOutput::StdErr { .. } => LogStream::Err,
        LogOutput::StdOut { .. } | LogOutput::StdIn { .. } | LogOutput::Console { .. } => {
            LogStream::Out
        }
    };
    (stream, output.into_bytes())
}

struct Writer {
    out: Lines,
    err: Lines,
    skip: usize,
}

impl Writer {
    fn write(&mut self, stream: LogStream, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.skip > 0 {
                self.skip -= usize::from(part.ends_with(b"\n"));
            } else if stream == LogStream::Err {
                self.err.write(part);
            } else {
                self.out.write(part);
            }
        }
    }
}

/// The place after the last line that the log has.
async fn find(
    engine: &Engine,
    id: &str,
    instance: &InstanceId,
    logs: &Logs,
    tag: &str,
) -> Result<Place, CallError> {
    // Those of a group stand in one log.
    let many = if tag.is_empty() { 1 } else { MAX_CONTAINERS };
    let tail = Tail { lines: KNOWN * many, follow: false };
    let known: Vec<LogLine> = match logs.read(instance, tail).await {
        Ok(lines) => lines.collect().await,
        Err(_) => Vec::new(),
    };
    let known = of_this_life(&known, tag);
    let Some(last) = known.last() else { return Ok(Place::default()) };
    let since = seconds(last.at).saturating_sub(DELAY);
    let since = i32::try_from(since).unwrap_or(i32::MAX);
    let replayed = within(REPLAY, replay(engine, id, since)).await?;
    let known: Vec<&str> = known.iter().filter_map(|line| line.text.strip_prefix(tag)).collect();
    Ok(Place { since, skip: overlap(&known, &replayed) })
}

/// The container's lines since its last start.
fn of_this_life<'a>(lines: &'a [LogLine], tag: &str) -> Vec<&'a LogLine> {
    let start = if tag.is_empty() { STARTED } else { BEGUN };
    let is_start = |line: &LogLine| line.stream == LogStream::System && line.text == start;
    let from = lines.iter().rposition(is_start).map_or(0, |start| start + 1);
    let own = lines.iter().skip(from).filter(|line| line.stream != LogStream::System);
    own.filter(|line| line.text.starts_with(tag)).collect()
}

/// The complete lines that the engine has since a time.
async fn replay(engine: &Engine, id: &str, since: i32) -> Result<Vec<String>, CallError> {
    let mut output = engine.docker().logs(id, Some(options(since, false).build()));
    let (mut lines, mut partial) = (Vec::new(), [Vec::new(), Vec::new()]);
    while let Some(chunk) = output.next().await {
        let (stream, bytes) = parts(chunk?);
        let buffer = &mut partial[usize::from(stream == LogStream::Err)];
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            buffer.extend_from_slice(part);
            if let Some(line) = buffer.strip_suffix(b"\n") {
                let text = String::from_utf8_lossy(line);
                lines.push(visible(text.strip_suffix('\r').unwrap_or(&text)));
                buffer.clear();
            }
        }
    }
    Ok(lines)
}

/// How many of the replayed lines the log has: the end of the known lines is looked for among them,
/// as long a piece of it as possible.
fn overlap(known: &[&str], replayed: &[String]) -> usize {
    let same = |one: &str, other: &str| one.bytes().take(COMPARED).eq(other.bytes().take(COMPARED));
    let common = |end: usize| {
        let pairs = known.iter().rev().zip(replayed[..end].iter().rev());
        pairs.take_while(|(one, other)| same(one, other)).count()
    };
    let mut best = (0, 0);
    for end in 1..=replayed.len() {
        let length = common(end);
        if length > best.0 {
            best = (length, end);
        }
    }
    best.1
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_lines_are_found_again_among_the_replayed() {
        let replayed =
            |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let all = replayed(&["a", "b", "c", "d"]);
        assert_eq!(overlap(&["x", "a", "b"], &all), 2);
        assert_eq!(overlap(&["b"], &all), 2);
        assert_eq!(overlap(&[], &all), 0, "nothing is known: all is new");
        assert_eq!(overlap(&["z"], &all), 0, "nothing of it is here: all is new");
        let ticks = replayed(&["up", "tick", "tick", "tick"]);
        assert_eq!(overlap(&["up", "tick", "tick"], &ticks), 3);
    }
}
