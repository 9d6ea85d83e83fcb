//! A writer whose bytes go into a channel, for work on a thread that may block.

use std::io::{self, Write};

use bytes::Bytes;
use tokio::sync::mpsc;

/// Bytes that go into the channel at a time.
const CHUNK: usize = 256 * 1024;

/// Writes into a channel, a chunk at a time. Flush it at the end.
pub(crate) struct Sending {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Sending {
    pub fn new(sender: mpsc::Sender<io::Result<Bytes>>) -> Self {
        Sending { sender, buffer: Vec::with_capacity(CHUNK) }
    }
}

impl Write for Sending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = Bytes::from(std::mem::take(&mut self.buffer));
        self.sender.blocking_send(Ok(chunk)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
