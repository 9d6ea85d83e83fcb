//! The exchange on an artifact stream: one request, one answer, and then the bytes.
//!
//! Request: the digest (32 bytes), the first offset (8, big-endian). Answer: a status (1), the
//! artifact's size (8), then the bytes from the offset to the end if the status is
//! [`ArtifactAnswer::Here`]. The protocol's name carries the version of this format.

use std::io;

use shoal_protocol::model::Digest;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes read or written at a time.
pub(super) const CHUNK: usize = 128 * 1024;

/// A request for the bytes of an artifact from an offset on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ArtifactRequest {
    pub digest: Digest,
    pub offset: u64,
}

/// The answer to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ArtifactAnswer {
    /// The bytes from the offset on follow; `size` is that of the whole artifact.
    Here { size: u64 },
    /// The node does not have the artifact, or its copy is damaged.
    Missing,
    /// The node serves as many transfers as it may.
    Busy,
}

const HERE: u8 = 0;
const MISSING: u8 = 1;
const BUSY: u8 = 2;

impl ArtifactRequest {
    pub(super) async fn write(&self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let mut bytes = [0; 40];
        bytes[..32].copy_from_slice(self.digest.as_bytes());
        bytes[32..].copy_from_slice(&self.offset.to_be_bytes());
        stream.write_all(&bytes).await?;
        stream.flush().await
    }

    pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<ArtifactRequest> {
        let mut digest = [0; 32];
        stream.read_exact(&mut digest).await?;
        Ok(ArtifactRequest { digest: Digest(digest), offset: stream.read_u64().await? })
    }
}

impl ArtifactAnswer {
    pub(super) async fn write(&self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let (status, size) = match self {
            ArtifactAnswer::Here { size } => (HERE, *size),
            ArtifactAnswer::Missing => (MISSING, 0),
            ArtifactAnswer::Busy => (BUSY, 0),
        };
        let mut bytes = [status; 9];
        bytes[1..].copy_from_slice(&size.to_be_bytes());
        stream.write_all(&bytes).await?;
        stream.flush().await
    }

    pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<ArtifactAnswer> {
        let (status, size) = (stream.read_u8().await?, stream.read_u64().await?);
        match status {
            HERE => Ok(ArtifactAnswer::Here { size }),
            MISSING => Ok(ArtifactAnswer::Missing),
            BUSY => Ok(ArtifactAnswer::Busy),
            other => {
                Err(io::Error::new(io::ErrorKind::InvalidData, format!("{other} is no answer")))
            }
        }
    }
}
