//! Output for people and pipes. A reader that closes the pipe, as `head` does, ends the command
//! without an error.

use std::io::{self, ErrorKind, IsTerminal, Write};

use rustix::event::{PollFd, PollFlags, poll};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{CliError, Exit};

/// Writes `text` and a line feed to standard output.
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

/// Prints the API's JSON, indented.
pub fn say_bytes(bytes: &[u8]) -> Result<(), CliError> {
    say_json(&parse::<serde_json::Value>(bytes)?)
}

/// Prints a value as indented JSON.
pub fn say_json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| CliError::failed(format!("it cannot be shown as JSON: {error}")))?;
    say(&text)
}

/// Parses a value of the API.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CliError> {
    serde_json::from_slice(bytes).map_err(|error| {
        CliError::failed(format!(
            "the daemon's answer makes no sense ({error}): is it another version?"
        ))
    })
}

/// Writes `text` and a line feed to standard error. A failure cannot be reported.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Returns when the reader of standard output has gone, as `head` does when it has enough. Never
/// for a file or a terminal.
pub async fn reader_gone() {
    let (gone, told) = tokio::sync::oneshot::channel();
    // A thread that ends with the process: `poll` cannot be cancelled, and must not hold up the end
    // of the event loop.
    let watching = std::thread::Builder::new().name("stdout".into()).spawn(move || {
        let out = io::stdout();
        // No events are requested: errors and hang-ups are always reported.
        let mut waiting = [PollFd::new(&out, PollFlags::empty())];
        if poll(&mut waiting, None).is_ok() {
            // An error means that the command has ended.
            let _ = gone.send(());
        }
    });
    if watching.is_err() || told.await.is_err() {
        std::future::pending().await
    }
}

/// `text` in a colour of its own for each `key`, where standard output is a terminal that takes
/// colours.
pub fn coloured(key: &str, text: &str) -> String {
    // https://no-color.org
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if plain || !io::stdout().is_terminal() {
        return text.to_owned();
    }
    let sum: usize = key.bytes().map(usize::from).sum();
    // Cyan, yellow, green, magenta, blue, and their bright forms: red is for errors.
    let colour = [36, 33, 32, 35, 34, 96, 93, 92, 95, 94][sum % 10];
    format!("\x1b[{colour}m{text}\x1b[0m")
}

/// Whether standard error is a terminal.
pub fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Lines on standard error that are redrawn in place, where it is a terminal.
#[derive(Default)]
pub struct LiveLines {
    lines: usize,
}

impl LiveLines {
    /// Draws `lines` in place of the last ones.
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
        // Clears surplus lines of the last drawing.
        for _ in lines.len()..self.lines {
            text.push_str("\r\x1b[2K\n");
        }
        self.lines = self.lines.max(lines.len());
        let mut err = io::stderr().lock();
        let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
    }
}

/// A text on standard output that is redrawn in place, where it is a terminal, and else printed
/// anew.
#[derive(Default)]
pub struct Redrawn {
    lines: usize,
}

impl Redrawn {
    /// Draws `text`, which ends its own lines, in place of the last one.
    pub fn draw(&mut self, text: &str) -> Result<(), CliError> {
        if !io::stdout().is_terminal() {
            return say_raw(text);
        }
        let up = if self.lines > 0 { format!("\x1b[{}A", self.lines) } else { String::new() };
        self.lines = text.lines().count();
        let lines: String = text.lines().map(|line| format!("\x1b[2K{line}\n")).collect();
        // Clears surplus lines of the last drawing.
        say_raw(&format!("{up}{lines}\x1b[J"))
    }
}

fn written(result: io::Result<()>) -> Result<(), CliError> {
    result.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => CliError::new(Exit::Done, ""),
        _ => CliError::failed(format!("standard output cannot be written: {error}")),
    })
}
