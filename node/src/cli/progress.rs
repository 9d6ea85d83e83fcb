//! Bars with bytes, rate and time left on a terminal; elsewhere a line when a step begins, and now
//! and then while it lasts.

use std::time::{Duration, Instant};

use super::context::Context;
use super::out::{self, LiveLines};
use crate::manifest::quantity::show_size;

/// The pause between two drawings on a terminal.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// The pause between two lines of one step elsewhere.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Characters of a bar.
const BAR: u64 = 24;

/// The progress of one command, on standard error.
pub struct Progress {
    how: How,
    what: String,
    begun: Instant,
    told: Instant,
    lines: LiveLines,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Bars,
    Lines,
    Silent,
}

impl Progress {
    /// Progress as this command's user wants it.
    pub fn new(context: &Context) -> Progress {
        let how = match (context.quiet, out::is_watched()) {
            (true, _) => How::Silent,
            (false, true) => How::Bars,
            (false, false) => How::Lines,
        };
        let now = Instant::now();
        Progress { how, what: String::new(), begun: now, told: now, lines: LiveLines::default() }
    }

    /// Shows how far a step is. `total` is 0 when nobody knows it.
    pub fn show(&mut self, what: &str, bytes: u64, total: u64) {
        if self.how == How::Silent {
            return;
        }
        let (now, is_new) = (Instant::now(), self.what != what);
        if is_new {
            self.end();
            (self.what, self.begun) = (what.to_owned(), now);
        }
        let every = if self.how == How::Bars { DRAW_EVERY } else { LINE_EVERY };
        let is_last = total > 0 && bytes == total && self.how == How::Bars;
        if !is_new && !is_last && now.duration_since(self.told) < every {
            return;
        }
        self.told = now;
        let taken = now.duration_since(self.begun);
        match self.how {
            How::Bars => self.lines.draw(&[bar(what, bytes, total, taken)]),
            How::Lines if is_new => out::complain(what),
            How::Lines => out::complain(&plain(what, bytes, total)),
            How::Silent => {}
        }
    }

    /// Leaves the last bar where it is; what comes next has a line of its own.
    pub fn end(&mut self) {
        self.lines = LiveLines::default();
        self.what.clear();
    }
}

/// A line for a terminal.
fn bar(what: &str, bytes: u64, total: u64, taken: Duration) -> String {
    let rate = match taken.as_secs_f64() {
        seconds if seconds >= 0.5 => bytes as f64 / seconds,
        _ => 0.0,
    };
    let speed = match rate as u64 {
        0 => String::new(),
        rate => format!("  {}/s", show_size(rate)),
    };
    if total == 0 {
        let bytes = if bytes > 0 { format!("  {}", show_size(bytes)) } else { String::new() };
        return format!("{what}{bytes}{speed}");
    }
    let full = usize::try_from((bytes.min(total) * BAR) / total).unwrap_or_default();
    let width = usize::try_from(BAR).unwrap_or_default();
    let done = format!("{}{}", "#".repeat(full), "-".repeat(width - full));
    let left = match total.saturating_sub(bytes) {
        0 => format!("  {:.1}s", taken.as_secs_f64()),
        missing if rate >= 1.0 => format!("  {:.0}s left", (missing as f64 / rate).ceil()),
        _ => String::new(),
    };
    format!("{what}  [{done}]  {} of {}{speed}{left}", show_size(bytes), show_size(total))
}

/// A line for a file or a pipe.
fn plain(what: &str, bytes: u64, total: u64) -> String {
    match total {
        0 => format!("{what}: {}", show_size(bytes)),
        _ => format!("{what}: {} of {}", show_size(bytes), show_size(total)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bar_has_bytes_rate_and_time_left() {
        let line = bar("pulling nginx", 25 << 20, 100 << 20, Duration::from_secs(5));
        assert_eq!(
            line,
            "pulling nginx  [######------------------]  25 MiB of 100 MiB  5 MiB/s  15s left"
        );
        let end = bar("x", 100 << 20, 100 << 20, Duration::from_secs(5));
        assert!(end.contains("[########################]") && end.ends_with("  5.0s"), "{end}");
    }

    #[test]
    fn unknown_total_has_no_bar() {
        assert_eq!(bar("reading x", 0, 0, Duration::ZERO), "reading x");
        let line = bar("reading x", 3 << 20, 0, Duration::from_secs(1));
        assert_eq!(line, "reading x  3 MiB  3 MiB/s");
        assert_eq!(plain("reading x", 3 << 20, 0), "reading x: 3 MiB");
    }
}
