//! The envelope in which messages travel between nodes: one version byte, then the message in its
//! canonical bytes.
//!
//! Message types are append-only; the tests hold their bytes. A peer that speaks another version is
//! told apart by the byte (and, before that, by the protocol's name), never by a failed guess.

use crate::model::codec::{self, Malformed};
use crate::node::Message;

#[cfg(test)]
mod tests;

/// The version of the messages. It changes only when an old program could misunderstand a new one.
pub const VERSION: u8 = 1;
/// The most bytes of one message on a link, envelope included.
pub const MAX_MESSAGE: usize = 256 * 1024;
/// The most bytes of one gossip message, envelope included: the mesh refuses larger ones.
pub const MAX_GOSSIP: usize = 64 * 1024;

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// Nothing at all.
    #[error("an empty message")]
    Empty,
    /// More than is allowed.
    #[error("a message of {0} bytes, at most {MAX_MESSAGE} are allowed")]
    TooLong(usize),
    /// Another version.
    #[error("a message of version {0}, this program speaks {VERSION}")]
    Version(u8),
    /// The bytes are not what they should be.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// The bytes of a message.
pub fn encode(message: &Message) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend(codec::encode(message));
    bytes
}

/// The message that `bytes`, all of them, hold.
pub fn decode(bytes: &[u8]) -> Result<Message, BadMessage> {
    if bytes.len() > MAX_MESSAGE {
        return Err(BadMessage::TooLong(bytes.len()));
    }
    match bytes.split_first() {
        None => Err(BadMessage::Empty),
        Some((&VERSION, body)) => Ok(codec::decode(body)?),
        Some((&version, _)) => Err(BadMessage::Version(version)),
    }
}
