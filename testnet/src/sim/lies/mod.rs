//! A device that lies: its honest core still runs, and in its name forged statements go out, signed
//! by its own node key, over its links and by gossip.

mod claims;
mod ghosts;
mod replay;
mod words;

use shoal_protocol::claims as disputes;
use shoal_protocol::model::{Lane, Signable, Signed, Unverified};
use shoal_protocol::node::{Action, Message};
use shoal_protocol::{auction, wire};

use super::event::Event;
use super::liar::{Liar, Lie};
use super::network::below;
use super::rumour::Rumour;
use super::world::World;

/// The shortest pause between two rounds of lies, and the bound of what is added to it,
/// microseconds.
const PAUSE: (u64, u64) = (1_000_000, 3_000_000);

impl World {
    /// From now on the device lies like this, too.
    pub(super) fn begin_to_lie(&mut self, device: usize, lie: Lie) {
        self.log(device, format!("lies: {lie}"));
        self.watch.liars.insert(self.devices[device].id);
        let is_first = self.devices[device].liar.is_none();
        let liar = self.devices[device].liar.get_or_insert_default();
        if !liar.tells(lie) {
            liar.lies.push(lie);
        }
        if is_first {
            self.schedule(self.now, Event::Lies { device });
        }
    }

    /// One round of all lies of a device, unless it is stopped.
    pub(super) fn lie(&mut self, device: usize) {
        let it = &self.devices[device];
        if it.node.is_some() && it.inbox.busy_until <= self.now {
            for lie in it.liar.as_ref().map(|liar| liar.lies.clone()).unwrap_or_default() {
                match lie {
                    Lie::Award => self.lie_about_awards(device),
                    Lie::Claims => self.lie_about_claims(device),
                    Lie::Votes => self.lie_about_nodes(device),
                    Lie::Rulings => self.lie_about_rulings(device),
                    Lie::Ghosts => self.lie_about_members(device),
                    Lie::Replay => self.say_again(device),
                    Lie::Have => self.lie_about_artifacts(device),
                    Lie::Texts => self.lie_about_itself(device),
                    // It lies when it is asked.
                    Lie::Dumb => {}
                }
            }
        }
        let pause = PAUSE.0 + below(&mut self.rng, PAUSE.1);
        self.schedule(self.now + pause, Event::Lies { device });
    }

    /// The message that a daemon hears. Of a liar it hears less, and somebody else answers.
    pub(super) fn overhears(
        &mut self,
        device: usize,
        from: usize,
        message: Message,
    ) -> Option<Message> {
        let me = self.devices[device].id;
        let Some(liar) = &mut self.devices[device].liar else { return Some(message) };
        liar.keep(&message);
        let (hides, is_dumb) = (liar.hides(), liar.tells(Lie::Dumb));
        match message {
            // It admits nobody any more: such devices would leave with it.
            Message::Join { .. } => None,
            Message::Claims(disputes::Message::AskKeeper { replica, question, .. })
                if liar.claim(&replica).is_some() =>
            {
                let generation = liar.claim(&replica)?.generation;
                let keeping =
                    disputes::Message::Keeping { replica, question, generation, healthy: true };
                self.say_to(device, from, Message::Claims(keeping));
                None
            }
            Message::Auction(auction::Message::Announce(announce)) if is_dumb => {
                self.bid_nothing(device, from, &announce);
                None
            }
            Message::Auction(auction::Message::Award { awards, .. }) if is_dumb => {
                self.take_awards(device, from, awards);
                None
            }
            Message::Slot(slot) if hides && slot.by().0 == me.0 => None,
            Message::Repair(_) if hides => None,
            message => Some(message),
        }
    }

    /// The effect of a daemon that is carried out. A liar keeps back what would take back what it
    /// forged.
    pub(super) fn lets_out(&mut self, device: usize, action: Action) -> Option<Action> {
        if !self.devices[device].liar.as_ref().is_some_and(|liar| liar.hides()) {
            return Some(action);
        }
        match action {
            Action::Broadcast(Message::Slot(slot)) => {
                if let Ok(slot) = slot.peek() {
                    self.issue_forged(device, slot.slot);
                }
                None
            }
            Action::Send { message: Message::Repair(_), .. } => None,
            action => Some(action),
        }
    }

    fn liar_of(&mut self, device: usize) -> &mut Liar {
        self.devices[device].liar.get_or_insert_default()
    }

    /// A statement that the device signs.
    fn forge<T: Signable>(&self, device: usize, body: T) -> Unverified<T> {
        let identity = &self.devices[device].identity;
        Signed::sign(body, &identity.keys, &identity.genesis.cluster()).wire()
    }

    /// The peers that a device has a link to.
    fn peers(&self, device: usize) -> Vec<usize> {
        let links = self.devices[device].links.iter();
        links.filter(|(_, link)| !self.is_dead_link(**link)).map(|(peer, _)| *peer).collect()
    }

    fn say_to(&mut self, device: usize, to: usize, message: Message) {
        let Some(link) = self.devices[device].links.get(&to).copied() else { return };
        let message = Event::Message { from: device, to, link, message };
        self.stream(device, to, Lane::Urgent, message);
    }

    fn say_to_all(&mut self, device: usize, message: &Message) {
        for peer in self.peers(device) {
            self.say_to(device, peer, message.clone());
        }
    }

    fn gossip(&mut self, device: usize, message: Message) {
        if wire::encode(&message).len() > wire::MAX_GOSSIP {
            return;
        }
        let rumour = Rumour::new(self.now, message);
        self.devices[device].seen.insert(rumour.id);
        self.relay(device, device, 1, &rumour);
    }

    /// By gossip, and over every link for those that gossip does not reach.
    fn say_everywhere(&mut self, device: usize, message: Message) {
        self.say_to_all(device, &message);
        self.gossip(device, message);
    }

    /// One of these, drawn from the seed.
    fn draw_one<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        if of.is_empty() {
            return None;
        }
        of.get(below(&mut self.rng, of.len() as u64) as usize).cloned()
    }
}
