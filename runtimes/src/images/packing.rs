//! How bytes are packed, and unpacking them as a stream.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::tarfile::{BLOCK, is_tar};

/// Bytes that are read at a time.
const BUFFER: usize = 64 * 1024;
/// Bytes of a zstd window: what the reference decoder allows by default.
const MAX_WINDOW: u64 = 128 << 20;
/// Bytes that anything may unpack to: some kilobytes can become terabytes.
const MAX_UNPACKED: u64 = 16 << 30;

/// How a tar is packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    /// Judges by the first bytes, of which a tar has at least [`BLOCK`]; none for anything else.
    pub fn of(head: &[u8]) -> Option<Packing> {
        match head {
            [0x1f, 0x8b, ..] => Some(Packing::Gzip),
            _ if is_zstd(head) => Some(Packing::Zstd),
            _ if is_tar(head) => Some(Packing::Plain),
            _ => None,
        }
    }

    /// The bytes of `reader`, unpacked. More than 16 GiB are an error.
    pub fn unpack<'a>(self, reader: impl Read + 'a) -> Box<dyn Read + 'a> {
        let packed = BufReader::with_capacity(BUFFER, reader);
        match self {
            Packing::Plain => Box::new(packed),
            Packing::Gzip => Box::new(Bounded::new(MultiGzDecoder::new(packed), MAX_UNPACKED)),
            Packing::Zstd => Box::new(Bounded::new(Frames::new(packed), MAX_UNPACKED)),
        }
    }
}

/// Whether an engine such as Docker 20.10 needs this layer unpacked; `head` is its beginning.
pub fn needs_unpacking(head: &[u8]) -> bool {
    is_zstd(head)
}

/// A frame, or one that decoders skip: `zstd:chunked` layers and parallel compressors write those.
fn is_zstd(head: &[u8]) -> bool {
    match head {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => true,
        [first, 0x2a, 0x4d, 0x18, ..] => first & 0xf0 == 0x50,
        _ => false,
    }
}

/// The first bytes of `reader`, up to a block.
pub(super) fn head(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(BLOCK);
    reader.take(BLOCK as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// A reader that fails when more comes than may.
pub(super) struct Bounded<R> {
    reader: R,
    left: u64,
}

impl<R> Bounded<R> {
    pub fn new(reader: R, left: u64) -> Self {
        Bounded { reader, left }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        let left = self.left.checked_sub(read as u64);
        self.left = left.ok_or_else(|| invalid("it unpacks to more bytes than any layer has"))?;
        Ok(read)
    }
}

/// All frames of a zstd stream, one after another.
struct Frames<R> {
    reader: R,
    decoder: Box<FrameDecoder>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Between,
    Inside,
    /// Ended, or failed once.
    Done,
}

impl<R: BufRead> Frames<R> {
    fn new(reader: R) -> Self {
        let mut decoder = Box::new(FrameDecoder::new());
        decoder.set_max_window_size(MAX_WINDOW);
        Frames { reader, decoder, state: State::Between }
    }

    /// Reads the header of the next frame, or skips a frame.
    fn begin(&mut self) -> io::Result<State> {
        if self.reader.fill_buf()?.is_empty() {
            return Ok(State::Done);
        }
        match self.decoder.reset(&mut self.reader) {
            Ok(()) => Ok(State::Inside),
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => {
                let length = u64::from(length);
                let skipped = io::copy(&mut (&mut self.reader).take(length), &mut io::sink())?;
                match skipped == length {
                    true => Ok(State::Between),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                }
            }
            Err(error) => Err(invalid(error)),
        }
    }

    /// Checks the frame that has just ended.
    fn end(&self) -> io::Result<State> {
        let said = self.decoder.get_checksum_from_data();
        if said.is_some() && said != self.decoder.get_calculated_checksum() {
            return Err(invalid("a zstd frame has another checksum than it says"));
        }
        Ok(State::Between)
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            self.state = match std::mem::replace(&mut self.state, State::Done) {
                State::Done => return Ok(0),
                State::Between => self.begin()?,
                State::Inside => {
                    while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                        let one = BlockDecodingStrategy::UptoBlocks(1);
                        self.decoder.decode_blocks(&mut self.reader, one).map_err(invalid)?;
                    }
                    let read = self.decoder.read(buffer)?;
                    if read > 0 {
                        self.state = State::Inside;
                        return Ok(read);
                    }
                    self.end()?
                }
            };
        }
    }
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
