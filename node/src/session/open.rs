//! The operator's end of a session.

use std::io;

use shoal_protocol::model::ReplicaName;
use shoal_protocol::model::access::{Access, Action};
use tokio::io::{AsyncRead, AsyncWrite};

use super::frame::{Frame, Frames};
use crate::api::ApiError;
use crate::publish::Operator;

/// No session was opened, and nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The replica's node refused it.
    #[error(transparent)]
    Refused(#[from] ApiError),
    /// The way to the node broke.
    #[error("the way to the replica's node broke: {0}")]
    Lost(#[from] io::Error),
    /// The node talks another language.
    #[error("the replica's node answers something else than was asked: is it another version?")]
    Nonsense,
}

/// Opens a session over these bytes, which lead to the node of the replica.
pub async fn open(
    bytes: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    operator: &Operator,
    replica: &ReplicaName,
    action: Action,
) -> Result<Frames, OpenError> {
    let mut frames = Frames::over(bytes);
    let (node, nonce) = match frames.receiver.next_of_node().await? {
        Frame::Challenge { node, nonce } => (node, nonce),
        Frame::Failed(failed) => return Err(ApiError::from(failed).into()),
        _ => return Err(OpenError::Nonsense),
    };
    let access =
        Access { workload: replica.workload.clone(), place: replica.place, node, nonce, action };
    frames.sender.send([Frame::Open(operator.sign_access(access))]).await?;
    match frames.receiver.next_of_node().await? {
        Frame::Opened => Ok(frames),
        Frame::Failed(failed) => Err(ApiError::from(failed).into()),
        _ => Err(OpenError::Nonsense),
    }
}
