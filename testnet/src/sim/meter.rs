//! What it costs: messages and bytes by kind, how news spread, and when who said what. Off unless
//! somebody wants to know.

use std::collections::BTreeMap;
use std::sync::Arc;

use shoal_protocol::model::{Digest, codec};
use shoal_protocol::node::Message;
use shoal_protocol::wire;

use super::world::World;

/// Something that goes by gossip. Each node that tells it on tells the same.
pub struct Rumour {
    /// The head of its hash: no two share one.
    pub id: u64,
    pub message: Message,
    /// As it travels.
    pub bytes: u64,
    /// When it was first told, microseconds.
    pub born: u64,
}

impl Rumour {
    /// One that is told for the first time.
    pub fn new(now: u64, message: Message) -> Arc<Rumour> {
        let hash = Digest::of(&codec::encode(&message));
        let id = u64::from_be_bytes(hash.0[..8].try_into().expect("a hash is longer"));
        let bytes = wire::encode(&message).len() as u64;
        Arc::new(Rumour { id, message, bytes, born: now })
    }
}

/// Messages and their bytes, without what the transport adds.
#[derive(Clone, Copy, Default, Debug)]
pub struct Flow {
    pub messages: u64,
    pub bytes: u64,
}

/// How one rumour came round.
#[derive(Clone, Default, Debug)]
pub struct Spread {
    pub kind: &'static str,
    /// When it reached each node but the first, microseconds after it was born, and over how many
    /// hops.
    pub reached: Vec<(u64, u32)>,
}

/// What a node told people.
#[derive(Clone, Debug)]
pub struct Notification {
    /// When, microseconds.
    pub at: u64,
    pub device: usize,
    pub kind: String,
    pub subject: Option<String>,
    /// The node it is about, by name.
    pub node: Option<String>,
}

/// What was counted since it was last reset.
#[derive(Default, Debug)]
pub struct Meter {
    pub is_on: bool,
    /// Over links, by room.
    pub sent: BTreeMap<&'static str, Flow>,
    /// By gossip, copies counted one by one.
    pub gossiped: BTreeMap<&'static str, Flow>,
    /// Bytes that each device sent.
    pub by_device: Vec<u64>,
    /// Rumours, in the order in which they arose.
    pub spreads: BTreeMap<(u64, u64), Spread>,
    pub notifications: Vec<Notification>,
}

impl Meter {
    /// Counts from now on.
    pub fn reset(&mut self, devices: usize) {
        *self = Meter { is_on: true, by_device: vec![0; devices], ..Meter::default() };
    }

    /// All together.
    pub fn total(&self) -> Flow {
        let both = self.sent.values().chain(self.gossiped.values());
        both.fold(Flow::default(), |sum, flow| Flow {
            messages: sum.messages + flow.messages,
            bytes: sum.bytes + flow.bytes,
        })
    }

    pub(super) fn sends(&mut self, device: usize, message: &Message) {
        if self.is_on {
            let bytes = wire::encode(message).len() as u64;
            Self::count(&mut self.sent, message.kind(), bytes);
            self.by_device[device] += bytes;
        }
    }

    pub(super) fn relays(&mut self, device: usize, rumour: &Rumour) {
        if self.is_on {
            Self::count(&mut self.gossiped, rumour.message.kind(), rumour.bytes);
            self.by_device[device] += rumour.bytes;
        }
    }

    pub(super) fn reaches(&mut self, now: u64, rumour: &Rumour, hops: u32) {
        if self.is_on {
            let spread = self.spreads.entry((rumour.born, rumour.id)).or_default();
            spread.kind = rumour.message.kind();
            spread.reached.push((now - rumour.born, hops));
        }
    }

    fn count(flows: &mut BTreeMap<&'static str, Flow>, kind: &'static str, bytes: u64) {
        let flow = flows.entry(kind).or_default();
        flow.messages += 1;
        flow.bytes += bytes;
    }
}

impl World {
    /// Counts from now on.
    pub fn measure(&mut self) {
        self.meter.reset(self.devices.len());
    }
}
