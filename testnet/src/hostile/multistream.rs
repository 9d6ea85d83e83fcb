//! multistream-select: how two ends agree on the protocol of a connection or a stream.

use std::io;

use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const HEADER: &str = "/multistream/1.0.0";
/// Bytes of a line: above every name that the daemon uses.
const MAX_LINE: usize = 1024;

/// Asks for a protocol; an error when the other end does not speak it.
pub(super) async fn select(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    protocol: &str,
) -> io::Result<()> {
    stream.write_all(&[line(HEADER), line(protocol)].concat()).await?;
    stream.flush().await?;
    for expected in [HEADER, protocol] {
        let answer = read(stream).await?;
        if answer != expected {
            return Err(io::Error::other(format!("`{answer}` instead of `{expected}`")));
        }
    }
    Ok(())
}

/// Takes the protocol that the other end asks for, whatever it is.
pub(super) async fn accept(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> io::Result<String> {
    read(stream).await?;
    let protocol = read(stream).await?;
    stream.write_all(&[line(HEADER), line(&protocol)].concat()).await?;
    stream.flush().await?;
    Ok(protocol)
}

/// A line as it is on the wire.
pub(super) fn line(text: &str) -> Vec<u8> {
    let mut bytes = varint(text.len() as u64 + 1);
    bytes.extend(text.bytes());
    bytes.push(b'\n');
    bytes
}

/// A number in groups of seven bits, the lowest first.
pub(super) fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// Reads a number as [`varint`] writes it.
pub(super) async fn read_varint(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
    let mut number = 0;
    for shift in (0..28).step_by(7) {
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        number |= usize::from(byte[0] & 0x7f) << shift;
        if byte[0] < 0x80 {
            return Ok(number);
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "a length without an end"))
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let length = read_varint(stream).await?;
    if length == 0 || length > MAX_LINE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no line of multistream"));
    }
    let mut text = vec![0; length];
    stream.read_exact(&mut text).await?;
    text.pop();
    String::from_utf8(text).map_err(io::Error::other)
}
