//! Counts messages and bytes by kind, the spread of gossip, and the events that nodes report. Off
//! by default.

use std::collections::BTreeMap;

use shoal_protocol::node::Message;
use shoal_protocol::wire;

use super::rumour::Rumour;

/// Messages and their encoded bytes, without transport overhead.
#[derive(Clone, Copy, Default, Debug)]
pub struct Flow {
    pub messages: u64,
    pub bytes: u64,
}

/// The spread of one gossip message.
#[derive(Clone, Default, Debug)]
pub struct Spread {
    pub kind: &'static str,
    /// For each receiving node: microseconds since the first broadcast, and the number of hops.
    pub reached: Vec<(u64, u32)>,
}

/// An event that a node reported to its users.
#[derive(Clone, Debug)]
pub struct Notification {
    /// World time, microseconds.
    pub at: u64,
    pub device: usize,
    pub kind: String,
    pub subject: Option<String>,
    /// Name of the node that the event is about.
    pub node: Option<String>,
}

/// Counts since the last reset.
#[derive(Default, Debug)]
pub struct Meter {
    pub is_on: bool,
    /// Events alone are noted: the counts cost time.
    pub is_events_only: bool,
    /// Messages over links, by kind.
    pub sent: BTreeMap<&'static str, Flow>,
    /// Gossip by kind; each relayed copy counts.
    pub gossiped: BTreeMap<&'static str, Flow>,
    /// Bytes sent by each device.
    pub by_device: Vec<u64>,
    /// Spread of each gossip message, by first broadcast and id.
    pub spreads: BTreeMap<(u64, u64), Spread>,
    pub notifications: Vec<Notification>,
}

impl Meter {
    /// Clears all counts and starts counting.
    pub fn reset(&mut self, devices: usize) {
        *self = Meter { is_on: true, by_device: vec![0; devices], ..Meter::default() };
    }

    /// Clears all counts and notes events from now on, and nothing else.
    pub fn reset_to_events(&mut self) {
        *self = Meter { is_on: true, is_events_only: true, ..Meter::default() };
    }

    fn counts(&self) -> bool {
        self.is_on && !self.is_events_only
    }

    /// The sum of links and gossip.
    pub fn total(&self) -> Flow {
        let both = self.sent.values().chain(self.gossiped.values());
        both.fold(Flow::default(), |sum, flow| Flow {
            messages: sum.messages + flow.messages,
            bytes: sum.bytes + flow.bytes,
        })
    }

    pub(super) fn sends(&mut self, device: usize, message: &Message) {
        if self.counts() {
            let bytes = wire::encode(message).len() as u64;
            Self::count(&mut self.sent, message.kind(), bytes);
            self.by_device[device] += bytes;
        }
    }

    pub(super) fn relays(&mut self, device: usize, rumour: &Rumour) {
        if self.counts() {
            Self::count(&mut self.gossiped, rumour.message.kind(), rumour.bytes);
            self.by_device[device] += rumour.bytes;
        }
    }

    pub(super) fn reaches(&mut self, now: u64, rumour: &Rumour, hops: u32) {
        if self.counts() {
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
