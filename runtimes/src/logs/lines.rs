//! From bytes to lines.

use super::{Log, LogStream};

/// Cuts a byte stream into lines of bounded length. A last line without an end is logged on drop.
pub struct Lines {
    log: Log,
    stream: LogStream,
    most: usize,
    buffer: Vec<u8>,
    /// The beginning of each line.
    tag: String,
    /// Bytes that were cut off the present line.
    cut: u64,
}

impl Lines {
    pub(super) fn new(log: Log, stream: LogStream, most: usize) -> Self {
        Lines { log, stream, most, buffer: Vec::new(), tag: String::new(), cut: 0 }
    }

    /// The same with a text before each line.
    pub fn tagged(mut self, tag: &str) -> Self {
        tag.clone_into(&mut self.tag);
        self
    }

    /// Takes the next bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        let mut parts = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            let room = self.most - self.buffer.len();
            let taken = part.len().min(room);
            self.buffer.extend_from_slice(&part[..taken]);
            self.cut += (part.len() - taken) as u64;
            if parts.peek().is_some() {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let mut text = self.tag.clone();
        text.push_str(&String::from_utf8_lossy(&self.buffer));
        if self.cut > 0 {
            text.push_str(&format!(" ... ({} more bytes cut)", self.cut));
        }
        self.buffer.clear();
        self.cut = 0;
        self.log.say(self.stream, text.strip_suffix('\r').unwrap_or(&text));
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !self.buffer.is_empty() || self.cut > 0 {
            self.end_line();
        }
    }
}

/// The text with control characters replaced by their pictures; a tab stays.
pub(crate) fn visible(text: &str) -> String {
    let picture = |c: char| match c {
        '\t' => c,
        '\0'..='\x1f' => {
            char::from_u32(0x2400 + u32::from(c)).unwrap_or(char::REPLACEMENT_CHARACTER)
        }
        '\x7f' => '\u{2421}',
        '\u{80}'..='\u{9f}' => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(picture).collect()
}
