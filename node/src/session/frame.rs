//! The frames of a session: a length of four bytes, and a value.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use shoal_protocol::model::access::RawAccess;
use shoal_protocol::model::{NodeId, codec};
use shoal_runtimes::session::Duplex;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

use crate::api::ApiError;

/// The most bytes of a frame: a signed request with a long command line.
const MAX_FRAME: usize = 128 * 1024;
/// The most bytes of data in one frame.
const MAX_DATA: usize = 32 * 1024;
/// The pause without a frame after which the replica's node sends [`Frame::Alive`].
pub(super) const ALIVE_EVERY: Duration = Duration::from_secs(15);
/// Time without a frame from the replica's node after which the way to it counts as lost.
const SILENT: Duration = Duration::from_secs(50);

/// One step of a session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Frame {
    /// From the replica's node, first: what the operator's signature has to cover.
    Challenge {
        /// The node.
        node: NodeId,
        /// The number that was drawn for this session.
        nonce: [u8; 32],
    },
    /// From the operator: the signed request.
    Open(RawAccess),
    /// The request was granted, and the session begins.
    Opened,
    /// The session ends with an error.
    Failed(Failed),
    /// Input, standard output, a piece of an archive, bytes of a connection.
    Data(codec::Bytes),
    /// Standard error.
    ErrorData(codec::Bytes),
    /// No more data comes in this direction.
    End,
    /// The operator's terminal has another size.
    Resize {
        /// Characters in a line.
        columns: u16,
        /// Lines that it shows.
        rows: u16,
    },
    /// The session ends well; the exit code of a command, if it is known.
    Exit(Option<i64>),
    /// Nothing happens, and the session goes on.
    Alive,
}

/// An [`ApiError`] as it travels.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failed {
    status: u16,
    code: String,
    message: String,
    hint: Option<String>,
}

impl From<ApiError> for Failed {
    fn from(error: ApiError) -> Self {
        let ApiError { status, code, message, hint } = error;
        Failed { status: status.as_u16(), code, message, hint }
    }
}

impl From<Failed> for ApiError {
    fn from(failed: Failed) -> Self {
        let Failed { status, code, message, hint } = failed;
        let status =
            http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
        ApiError { status, code, message, hint }
    }
}

impl Frame {
    /// Frames for a piece of data of any length.
    pub fn data(bytes: &[u8]) -> impl Iterator<Item = Frame> {
        bytes.chunks(MAX_DATA).map(|part| Frame::Data(codec::Bytes(part.to_vec())))
    }

    /// Frames for a piece of standard error of any length.
    pub fn error_data(bytes: &[u8]) -> impl Iterator<Item = Frame> {
        bytes.chunks(MAX_DATA).map(|part| Frame::ErrorData(codec::Bytes(part.to_vec())))
    }
}

/// Both directions of a session.
pub struct Frames {
    /// Frames from the other end.
    pub receiver: Receiver,
    /// Frames to the other end.
    pub sender: Sender,
}

type Io = Box<dyn Duplex>;

/// The frames that come.
pub struct Receiver(FramedRead<ReadHalf<Io>, LengthDelimitedCodec>);

/// The end to which frames are given.
pub struct Sender(FramedWrite<WriteHalf<Io>, LengthDelimitedCodec>);

impl Frames {
    /// Frames over these bytes.
    pub fn over(bytes: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let codec = || LengthDelimitedCodec::builder().max_frame_length(MAX_FRAME).new_codec();
        let (read, write) = tokio::io::split(Box::new(bytes) as Io);
        Frames {
            receiver: Receiver(FramedRead::new(read, codec())),
            sender: Sender(FramedWrite::new(write, codec())),
        }
    }
}

impl Receiver {
    /// The next frame; an error when the other end is gone.
    pub async fn next(&mut self) -> io::Result<Frame> {
        match self.0.next().await {
            Some(bytes) => codec::decode(&bytes?).map_err(io::Error::other),
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the other end has gone")),
        }
    }

    /// The next frame from the replica's node, which is never silent for long.
    pub async fn next_of_node(&mut self) -> io::Result<Frame> {
        loop {
            let next = timeout(SILENT, self.next()).await;
            let lost = || {
                let why = format!("nothing came from the replica's node for {SILENT:?}");
                io::Error::new(io::ErrorKind::TimedOut, why)
            };
            match next.map_err(|_| lost())?? {
                Frame::Alive => {}
                frame => return Ok(frame),
            }
        }
    }
}

impl Sender {
    /// Sends frames; returns once they are on their way.
    pub async fn send(&mut self, frames: impl IntoIterator<Item = Frame>) -> io::Result<()> {
        for frame in frames {
            self.0.feed(Bytes::from(codec::encode(&frame))).await?;
        }
        SinkExt::<Bytes>::flush(&mut self.0).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn data_of_any_length_arrives_whole() {
        let (near, far) = tokio::io::duplex(1000);
        let (mut near, mut far) = (Frames::over(near), Frames::over(far));
        let bytes: Vec<u8> = (0..MAX_DATA * 3 + 5).map(|n| n.to_le_bytes()[0]).collect();
        let sent = bytes.clone();
        let sending = tokio::spawn(async move {
            near.sender.send(Frame::data(&sent)).await.unwrap();
            near.sender.send([Frame::End]).await.unwrap();
        });
        let mut came = Vec::new();
        while let Frame::Data(part) = far.receiver.next().await.unwrap() {
            came.extend(part.0);
        }
        sending.await.unwrap();
        assert_eq!(came, bytes);
    }

    /// A stranger's bytes cannot make a node set memory aside.
    #[tokio::test]
    async fn frame_that_is_too_long_is_refused() {
        let (mut near, far) = tokio::io::duplex(1000);
        tokio::io::AsyncWriteExt::write_all(&mut near, &u32::MAX.to_be_bytes()).await.unwrap();
        drop(near);
        let error = Frames::over(far).receiver.next().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    }
}
