//! The frames on a stream of pieces: each a length (4 bytes, big-endian) and bincode. The asking
//! side sends [`Ask`]s, the first of them [`Ask::Open`], the other side [`Answer`]s. The protocol's
//! name carries the version of this format.

use std::io;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shoal_protocol::model::Digest;
use shoal_protocol::model::codec;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use crate::network::MeshStream;

/// Bytes of a piece in one frame: so little that a slow link shows that it moves.
pub(super) const BLOCK: usize = 64 * 1024;
/// Pieces that one frame names.
pub(super) const MAX_NAMED: usize = 8_192;
/// Bytes of one frame: a block, or names of up to five bytes each.
const MAX_FRAME: usize = BLOCK + 1_024;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// The artifact that the stream is about.
    Open { digest: Digest, size: u64 },
    /// One piece. `insist`: nobody else has it.
    Get { index: u32, insist: bool },
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// All pieces are here.
    All,
    /// These pieces are here, besides those named before.
    Here(Vec<u32>),
    /// The next bytes of a piece that was asked for, from its beginning on.
    Block { index: u32, bytes: codec::Bytes },
    /// Another node has the piece from here; ask it, or insist.
    Taken(u32),
    /// The artifact is neither here nor on its way.
    Missing,
    /// The node serves as many as it may.
    Busy,
}

/// A stream of frames.
pub(super) struct Frames(Framed<MeshStream, LengthDelimitedCodec>);

impl Frames {
    pub fn new(stream: MeshStream) -> Frames {
        let codec = LengthDelimitedCodec::builder().max_frame_length(MAX_FRAME).new_codec();
        Frames(Framed::new(stream, codec))
    }

    pub async fn send(&mut self, frame: &impl Serialize) -> io::Result<()> {
        self.0.send(Bytes::from(codec::encode(frame))).await
    }

    /// The next frame, none at the end. Nothing is lost if it is not awaited to its end.
    pub async fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(frame) = self.0.next().await.transpose()? else { return Ok(None) };
        let wrong = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        codec::decode(&frame).map(Some).map_err(wrong)
    }
}
