//! Writing for people and for pipes. A reader that goes away, as `head` does, ends the command in
//! silence.

use std::io::{self, ErrorKind, IsTerminal, Write};

use rustix::event::{PollFd, PollFlags, poll};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{CliError, Exit};

/// Writes `text` and a line's end to standard output.
pub fn say(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    written(
        out.write_all(text.as_bytes())
            .and_then(|()| out.write_all(b"\n"))
            .and_then(|()| out.flush()),
    )
}

/// Writes `text`, which ends its own lines, to standard output.
pub fn say_raw(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// The API's JSON, indented.
pub fn say_bytes(bytes: &[u8]) -> Result<(), CliError> {
    say_json(&parse::<serde_json::Value>(bytes)?)
}

/// A value as indented JSON.
pub fn say_json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| CliError::failed(format!("it cannot be shown as JSON: {error}")))?;
    say(&text)
}

/// A value of the API.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CliError> {
    serde_json::from_slice(bytes).map_err(|error| {
        CliError::failed(format!(
            "the daemon's answer makes no sense ({error}): is it another version?"
        ))
    })
}

/// Writes `text` and a line's end to standard error. Nobody can be told when that fails.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Returns when the reader of standard output has gone, as `head` does when it has enough. Never
/// for a file or a terminal.
pub async fn reader_gone() {
    let (gone, told) = tokio::sync::oneshot::channel();
    // A thread of its own, which ends with the process: a wait that cannot be taken back must not
    // hold up the end of the event loop.
    let watching = std::thread::Builder::new().name("stdout".into()).spawn(move || {
        let out = io::stdout();
        // No events are asked for: errors and the other end's leaving are always told.
        let mut waiting = [PollFd::new(&out, PollFlags::empty())];
        if poll(&mut waiting, None).is_ok() {
            // Nobody listens: then the command has ended.
            let _ = gone.send(());
        }
    });
    if watching.is_err() || told.await.is_err() {
        std::future::pending().await
    }
}

/// Whether standard error is looked at by a person.
pub fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Lines on standard error that are drawn over again, where it is a terminal.
#[derive(Default)]
pub struct LiveLines {
    lines: usize,
}

impl LiveLines {
    /// Draws these lines in the place of the last ones.
    pub fn draw(&mut self, lines: &[String]) {
        let mut text = String::new();
        if self.lines > 0 {
            text.push_str(&format!("\x1b[{}A", self.lines));
        }
        for line in lines {
            text.push_str("\r\x1b[2K");
            text.push_str(line);
            text.push('\n');
        }
        // Lines that are not there any more.
        for _ in lines.len()..self.lines {
            text.push_str("\r\x1b[2K\n");
        }
        self.lines = self.lines.max(lines.len());
        let mut err = io::stderr().lock();
        let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
    }
}

fn written(result: io::Result<()>) -> Result<(), CliError> {
    result.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => CliError::new(Exit::Done, ""),
        _ => CliError::failed(format!("standard output cannot be written: {error}")),
    })
}
