//! Links and gossip: messages arrive later, in order, or never.

use std::collections::BTreeSet;
use std::time::Duration;

use rand_chacha::rand_core::RngCore;

use super::{MS, Net};
use crate::membership::{DialFailure, Message};
use crate::model::{Outgoing, codec};

/// How long a driver waits for a dial that is not answered.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Clone)]
pub(super) enum Event {
    Message { from: usize, connection: u64, message: Message },
    Gossip { from: usize, message: Message },
    Up { peer: usize, connection: u64, dialled: bool },
    Closed { peer: usize, connection: u64 },
    DialFailed { peer: usize, how: DialFailure },
    Stored { incarnation: u64, life: u64 },
    Dialled { by: usize },
}

impl Net {
    pub(super) fn carry(&mut self, n: usize, outgoing: Outgoing<Message>) {
        match outgoing {
            Outgoing::Send { to, message, .. } => {
                let to = self.index(&to);
                let Some(&connection) = self.devices[n].links.get(&to) else { return };
                self.messages += 1;
                // Encoded and decoded, so that a message that cannot be encoded fails the test.
                let bytes = codec::encode(&message);
                let message = codec::decode(&bytes).expect("what was sent can be read");
                let mut late = self.latency * (self.rng.next_u32() % 100) / 100;
                let mut wait = 200 * MS;
                while self.retransmits && self.rng.next_u32() % 1000 < self.loss {
                    late += wait;
                    wait *= 2;
                }
                if self.passes(n, to)
                    && (self.retransmits || self.rng.next_u32() % 1000 >= self.loss)
                {
                    let last = self.arrivals.get(&(n, to)).copied().unwrap_or_default();
                    let at = last.max(self.now + self.latency + late);
                    self.arrivals.insert((n, to), at);
                    self.later(
                        at.since(self.now),
                        to,
                        Event::Message { from: n, connection, message },
                    );
                }
            }
            Outgoing::Broadcast(message) => {
                if !self.gossip_works {
                    return;
                }
                for to in self.reached_by(n) {
                    self.messages += 1;
                    self.later(
                        self.latency * 2,
                        to,
                        Event::Gossip { from: n, message: message.clone() },
                    );
                }
            }
            Outgoing::Dial(to) => {
                let to = self.index(&to);
                self.dials.push((self.now, n, to));
                if self.passes(n, to) && self.passes(to, n) {
                    self.later(self.latency, to, Event::Dialled { by: n });
                } else {
                    self.later(
                        DIAL_TIMEOUT,
                        n,
                        Event::DialFailed { peer: to, how: DialFailure::TimedOut },
                    );
                }
            }
            Outgoing::Hangup(to) => {
                let to = self.index(&to);
                if let Some(&connection) = self.devices[n].links.get(&to) {
                    self.later(Duration::ZERO, n, Event::Closed { peer: to, connection });
                    if self.passes(n, to) {
                        self.later(self.latency, to, Event::Closed { peer: n, connection });
                    }
                }
            }
        }
    }

    pub(super) fn deliver(&mut self, n: usize, event: Event) {
        if let Event::Dialled { by } = event {
            self.answer_dial(n, by); // the operating system answers, even while the process stalls
            return;
        }
        if self.devices[n].room.is_none() {
            return;
        }
        if self.devices[n].paused {
            self.devices[n].unread.push_back(event);
            return;
        }
        let id = |peer: usize| self.devices[peer].id;
        match event {
            Event::Message { from, connection, message } => {
                if self.devices[n].links.get(&from) == Some(&connection) {
                    let from = id(from);
                    self.with_room(n, |room, now, out| {
                        room.handle_message(now, from, message, out)
                    });
                }
            }
            Event::Gossip { from, message } => {
                let from = id(from);
                self.with_room(n, |room, now, out| room.handle_gossip(now, from, message, out).1);
            }
            Event::Up { peer, connection, dialled } => {
                let from = id(peer);
                // As the driver does: of two crossing dials one connection stays, the same one at
                // both ends.
                let has_one = self.devices[n].links.get(&peer).copied();
                let is_whole =
                    has_one.is_some() && has_one == self.devices[peer].links.get(&n).copied();
                let was_refused = dialled && self.devices[peer].links.get(&n) != Some(&connection);
                if is_whole || was_refused {
                    return;
                }
                self.devices[n].links.insert(peer, connection);
                self.with_room(n, |room, now, out| room.handle_link_up(now, from, out));
            }
            Event::Closed { peer, connection } => {
                let from = id(peer);
                if self.devices[n].links.get(&peer) == Some(&connection) {
                    self.devices[n].links.remove(&peer);
                    self.with_room(n, |room, now, out| room.handle_link_down(now, from, out));
                }
            }
            Event::DialFailed { peer, how } => {
                let from = id(peer);
                self.with_room(n, |room, now, out| room.handle_dial_failed(now, from, how, out));
            }
            Event::Stored { incarnation, life } => {
                if self.devices[n].disk == life {
                    self.devices[n].disk = incarnation;
                    self.with_room(n, |room, now, out| {
                        room.incarnation_stored(now, incarnation, out)
                    });
                }
            }
            Event::Dialled { .. } => unreachable!("answered above"),
        }
    }

    fn answer_dial(&mut self, n: usize, by: usize) {
        if self.devices[n].room.is_none() || self.unreachable.contains(&(by, n)) {
            self.later(self.latency, by, Event::DialFailed { peer: n, how: DialFailure::Refused });
            return;
        }
        // A handshake takes two more round trips.
        self.next += 1;
        let connection = self.next;
        self.later(self.latency * 4, n, Event::Up { peer: by, connection, dialled: false });
        self.later(self.latency * 5, by, Event::Up { peer: n, connection, dialled: true });
    }

    /// The devices that gossip of this device reaches over working links.
    fn reached_by(&self, n: usize) -> BTreeSet<usize> {
        let mut reached = BTreeSet::from([n]);
        let mut todo = vec![n];
        while let Some(at) = todo.pop() {
            for &peer in self.devices[at].links.keys() {
                if self.passes(at, peer)
                    && self.devices[peer].room.is_some()
                    && reached.insert(peer)
                {
                    todo.push(peer);
                }
            }
        }
        reached.remove(&n);
        reached
    }

    pub(super) fn passes(&self, from: usize, to: usize) -> bool {
        !self.devices[from].dark && !self.devices[to].dark && !self.cuts.contains(&(from, to))
    }

    pub(super) fn later(&mut self, after: Duration, to: usize, event: Event) {
        self.next += 1;
        self.queue.insert((self.now + after, self.next), (to, event));
    }
}
