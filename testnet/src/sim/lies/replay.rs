//! It says again what others said, as it was or with a byte changed.

use shoal_protocol::model::Lane;
use shoal_protocol::model::change::RawChange;
use shoal_protocol::node::Message;
use shoal_protocol::{membership, wire};

use crate::sim::event::Event;
use crate::sim::network::below;
use crate::sim::world::World;

/// Messages of a round.
const ROUND: u64 = 40;

impl World {
    pub(super) fn say_again(&mut self, device: usize) {
        for _ in 0..ROUND {
            let Some(message) = self.draw_old(device) else { continue };
            let peers = self.peers(device);
            let Some(to) = self.draw_one(&peers) else { return };
            match below(&mut self.rng, 3) {
                0 => self.gossip(device, message),
                1 => self.say_to(device, to, message),
                _ => self.say_altered(device, to, &message),
            }
        }
    }

    /// A message that it heard, or a statement on its disk.
    fn draw_old(&mut self, device: usize) -> Option<Message> {
        let kind = below(&mut self.rng, 5);
        let number = |rng: &mut _, len: usize| below(rng, len.max(1) as u64) as usize;
        let it = &self.devices[device];
        let liar = it.liar.as_ref()?;
        match kind {
            0 => {
                let index = number(&mut self.rng, it.disk.slots.len());
                it.disk.slots.values().nth(index).map(|slot| Message::Slot(slot.clone()))
            }
            1 => {
                let index = number(&mut self.rng, it.disk.nodes.len());
                let record = it.disk.nodes.values().nth(index)?.clone();
                Some(Message::Membership(membership::Message::Record(record)))
            }
            2 => {
                let changes: Vec<&RawChange> = it.disk.desired.values().flatten().collect();
                let index = number(&mut self.rng, changes.len());
                let change = (*changes.get(index)?).clone();
                Some(Message::Changed { change, holder: Some(it.id) })
            }
            _ => {
                let index = number(&mut self.rng, liar.heard.len());
                liar.heard.get(index).cloned()
            }
        }
    }

    /// Says a message with one byte changed.
    fn say_altered(&mut self, device: usize, to: usize, message: &Message) {
        let mut bytes = wire::encode(message);
        let at = below(&mut self.rng, bytes.len() as u64) as usize;
        bytes[at] ^= 1 << below(&mut self.rng, 8);
        let Some(link) = self.devices[device].links.get(&to).copied() else { return };
        match wire::decode(&bytes) {
            Ok(message) if below(&mut self.rng, 2) == 0 => self.gossip(device, message),
            Ok(message) => self.say_to(device, to, message),
            Err(why) => {
                let event = match why.is_other_version() {
                    true => Event::OtherVersion { from: device, to, link },
                    false => Event::Garbage { from: device, to, link },
                };
                self.stream(device, to, Lane::Urgent, event);
            }
        }
    }
}
