//! The lines of a trace: what nodes report, and faults.

use std::collections::VecDeque;
use std::fmt::Write as _;

/// Lines that a report shows.
const LAST: usize = 200;

/// Trace lines, oldest first. Only the last ones are kept, unless all are asked for.
pub struct Trace {
    lines: VecDeque<Line>,
    most: usize,
}

/// A line about a device.
struct Line {
    /// World time, microseconds.
    at: u64,
    device: usize,
    text: String,
}

impl Default for Trace {
    fn default() -> Self {
        Trace { lines: VecDeque::new(), most: LAST }
    }
}

impl Trace {
    /// Keeps all lines from now on.
    pub fn keep_all(&mut self) {
        self.most = usize::MAX;
    }

    pub fn push(&mut self, at: u64, device: usize, text: String) {
        while self.lines.len() >= self.most {
            self.lines.pop_front();
        }
        self.lines.push_back(Line { at, device, text });
    }

    /// The chosen lines as text: seconds, device, text.
    pub fn text(&self, is_chosen: impl Fn(usize, &str) -> bool) -> String {
        let mut text = String::new();
        for line in self.lines.iter().filter(|line| is_chosen(line.device, &line.text)) {
            let _ =
                writeln!(text, "  {:>10.3} n{}: {}", line.at as f64 / 1e6, line.device, line.text);
        }
        text
    }
}
