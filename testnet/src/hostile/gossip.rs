//! gossipsub by hand: subscriptions and messages of one topic, in its protobuf.

use std::io;

use futures::io::{AsyncReadExt, AsyncWriteExt};
use libp2p::identity::Keypair;
use shoal_protocol::node::Message;
use shoal_protocol::wire;
use tokio::sync::mpsc;

use super::multistream::{read_varint, varint};
use super::{Attacker, Connection, Stream};

/// Bytes of one RPC that are read here.
const MAX_RPC: usize = 1 << 20;

/// An outgoing stream of gossip.
pub struct Gossip {
    /// The stream, for bytes that are no gossip.
    pub stream: Stream,
    keys: Keypair,
    topic: String,
    sequence: u64,
}

impl Gossip {
    /// Opens the stream, and subscribes to the cluster's topic.
    pub(super) async fn open(attacker: &Attacker, connection: &Connection) -> io::Result<Gossip> {
        let stream = connection.select(&attacker.protocol("gossip/1.1.0")).await?;
        let topic = attacker.protocol("all");
        let mut gossip = Gossip { stream, keys: attacker.handshake.clone(), topic, sequence: 0 };
        let subscription = [number(1, 1), field(2, gossip.topic.as_bytes())].concat();
        gossip.send(&field(1, &subscription)).await?;
        // Into the mesh, to get whole messages instead of announcements.
        let graft = field(1, gossip.topic.as_bytes());
        gossip.send(&field(3, &field(3, &graft))).await?;
        Ok(gossip)
    }

    /// Publishes bytes, signed as gossipsub asks for.
    pub async fn publish(&mut self, data: &[u8]) -> io::Result<()> {
        self.sequence += 1;
        let from = self.keys.public().to_peer_id().to_bytes();
        let message = [
            field(1, &from),
            field(2, data),
            field(3, &self.sequence.to_be_bytes()),
            field(4, self.topic.as_bytes()),
        ]
        .concat();
        let signed = [b"libp2p-pubsub:".as_slice(), &message].concat();
        let signature = self.keys.sign(&signed).map_err(io::Error::other)?;
        self.send(&field(2, &[message, field(5, &signature)].concat())).await
    }

    async fn send(&mut self, rpc: &[u8]) -> io::Result<()> {
        self.stream.write_all(&[&varint(rpc.len() as u64), rpc].concat()).await?;
        self.stream.flush().await
    }
}

/// A field of bytes.
fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![tag << 3 | 2];
    field.extend(varint(bytes.len() as u64));
    field.extend(bytes);
    field
}

/// A field of a small number.
fn number(tag: u8, value: u8) -> Vec<u8> {
    vec![tag << 3, value]
}

/// Passes on the messages of a stream that the node opened.
pub(super) async fn hear(mut stream: Stream, heard: mpsc::Sender<Message>) {
    while let Ok(rpc) = read_rpc(&mut stream).await {
        for published in fields(&rpc, 2) {
            let data = fields(published, 2).into_iter().next();
            if let Some(message) = data.and_then(|data| wire::decode(data).ok()) {
                let _ = heard.try_send(message);
            }
        }
    }
}

async fn read_rpc(stream: &mut Stream) -> io::Result<Vec<u8>> {
    let length = read_varint(stream).await?;
    if length > MAX_RPC {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let mut rpc = vec![0; length];
    stream.read_exact(&mut rpc).await?;
    Ok(rpc)
}

/// The fields of bytes with this tag.
fn fields(mut bytes: &[u8], wanted: u64) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while let Some(tag) = take_varint(&mut bytes) {
        let Some(value) = take_varint(&mut bytes) else { break };
        match tag & 7 {
            0 => {}
            2 => {
                let length = usize::try_from(value).unwrap_or(usize::MAX);
                let Some((content, rest)) = bytes.split_at_checked(length) else { break };
                bytes = rest;
                if tag >> 3 == wanted {
                    found.push(content);
                }
            }
            _ => break,
        }
    }
    found
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if *first < 0x80 {
            return Some(number);
        }
    }
    None
}
