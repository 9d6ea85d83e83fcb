//! The envelope in which messages travel between nodes: one version byte, then the message in its
//! canonical bytes.
//!
//! Message types are append-only; the tests hold their bytes. A peer of another version is
//! recognised by the byte (and, before that, by the protocol's name), never by a failed decoding.

use crate::model::codec::{self, Malformed};
use crate::node::Message;

#[cfg(test)]
mod tests;

/// The version of the messages. It changes only if an old program could misunderstand a new one.
pub const VERSION: u8 = 2;
/// The most bytes of one message on a link, envelope included.
pub const MAX_MESSAGE: usize = 256 * 1024;
/// The most bytes of one gossip message, envelope included: the mesh refuses larger ones.
pub const MAX_GOSSIP: usize = 64 * 1024;

/// Why bytes could not be decoded as a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// No byte at all.
    #[error("an empty message")]
    Empty,
    /// Above [`MAX_MESSAGE`].
    #[error("a message of {0} bytes, at most {MAX_MESSAGE} are allowed")]
    TooLong(usize),
    /// The version byte is not [`VERSION`].
    #[error(
        "it runs another version of shoal (messages of version {0}, this node's are of version \
            {VERSION}): update the older one"
    )]
    Version(u8),
    /// The version is right, and the message is of a kind that a newer program appended.
    #[error("a message of kind {0}, which a newer version of shoal has added")]
    Kind(u32),
    /// The version is right, but the rest does not decode.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl BadMessage {
    /// Whether a peer of another version sent it, that is not to be blamed.
    pub fn is_other_version(&self) -> bool {
        match self {
            BadMessage::Version(_) | BadMessage::Kind(_) => true,
            BadMessage::Empty | BadMessage::TooLong(_) | BadMessage::Malformed(_) => false,
        }
    }
}

/// Version byte and canonical bytes of a message.
pub fn encode(message: &Message) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend(codec::encode(message));
    bytes
}

/// The message in `bytes`; trailing bytes are an error.
pub fn decode(bytes: &[u8]) -> Result<Message, BadMessage> {
    if bytes.len() > MAX_MESSAGE {
        return Err(BadMessage::TooLong(bytes.len()));
    }
    match bytes.split_first() {
        None => Err(BadMessage::Empty),
        Some((&VERSION, body)) => match codec::decode_prefix(body)? {
            kind @ Message::KINDS.. => Err(BadMessage::Kind(kind)),
            _ => Ok(codec::decode(body)?),
        },
        Some((&version, _)) => Err(BadMessage::Version(version)),
    }
}
