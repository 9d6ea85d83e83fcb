//! Gossip messages.

use std::sync::Arc;

use shoal_protocol::model::{Digest, codec};
use shoal_protocol::node::Message;
use shoal_protocol::wire;

/// A gossip message. All relaying nodes share it.
pub struct Rumour {
    /// First bytes of the message's hash.
    pub id: u64,
    pub message: Message,
    /// Encoded size.
    pub bytes: u64,
    /// World time of the first broadcast, microseconds.
    pub born: u64,
}

impl Rumour {
    /// A message that is broadcast for the first time.
    pub fn new(now: u64, message: Message) -> Arc<Rumour> {
        let hash = Digest::of(&codec::encode(&message));
        let id = u64::from_be_bytes(hash.0[..8].try_into().expect("a hash is longer"));
        let bytes = wire::encode(&message).len() as u64;
        Arc::new(Rumour { id, message, bytes, born: now })
    }
}

/// A gossip message that waits for the daemon's verdict.
pub struct Relay {
    pub at: usize,
    pub from: usize,
    pub hops: u32,
    pub rumour: Arc<Rumour>,
}
