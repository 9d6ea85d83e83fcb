//! A step under way: carries out the effects of a device and collects its messages.

use std::collections::VecDeque;
use std::sync::Arc;

use shoal_protocol::claims::awarded_under;
use shoal_protocol::model::{Digest, InstanceState, NodeId, Phase, Time};
use shoal_protocol::node::{
    Action as Effect, FetchOutcome, Input, Message, Node, Order, Reason, Report,
};
use shoal_protocol::{auction, claims, membership};

use super::device::Device;
use super::laws::Law;
use super::setup::{NODES, Setup};
use super::world::{InFlight, State};

/// The results of one step.
pub struct Work<'a> {
    setup: &'a Setup,
    state: &'a mut State,
    /// Repair messages and hellos: delivered at once and in order, because their timing is not
    /// checked here.
    instant: VecDeque<(usize, usize, Message)>,
    /// While a node synchronizes after its start, the detector's messages are delivered at once as
    /// well.
    synchronizing: bool,
    said: Vec<InFlight>,
    broken: Vec<Law>,
}

impl<'a> Work<'a> {
    pub fn new(setup: &'a Setup, state: &'a mut State) -> Self {
        Work {
            setup,
            state,
            instant: VecDeque::new(),
            synchronizing: false,
            said: Vec::new(),
            broken: Vec::new(),
        }
    }

    pub fn synchronizing(self) -> Self {
        Work { synchronizing: true, ..self }
    }

    pub fn is_up(&self, node: usize) -> bool {
        self.state.devices[node].node.is_some()
    }

    /// Gives a device an input, and carries out its actions.
    pub fn on(&mut self, node: usize, input: impl FnOnce(&mut Device, Time) -> Vec<Effect>) {
        let now = self.state.now;
        let effects = input(Arc::make_mut(&mut self.state.devices[node]), now);
        effects.into_iter().for_each(|effect| self.act(node, effect));
    }

    /// Delivers all instant messages. Returns whether there were any.
    pub fn deliver_instant(&mut self) -> bool {
        let talks = !self.instant.is_empty();
        while let Some((from, to, message)) = self.instant.pop_front() {
            let from = self.setup.ids[from];
            self.on(to, |device, now| device.input(now, Input::Message { from, message }));
        }
        talks
    }

    /// The messages that were sent, and the laws that were broken.
    pub fn end(self) -> (Vec<InFlight>, Vec<Law>) {
        (self.said, self.broken)
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        let item = InFlight::new(from, to, message);
        self.said.push(item.clone());
        self.state.send(item);
    }

    fn breaks(&mut self, law: Law) {
        self.broken.push(law);
        self.state.broken.insert(law);
    }

    /// Delivers instant messages until all nodes have compared.
    pub fn synchronize(&mut self) {
        self.deliver_instant();
        while let Some(node) = (0..NODES).find(|node| self.compares_now(*node)) {
            self.on(node, |device, now| device.timeout(now));
            self.deliver_instant();
        }
    }

    fn compares_now(&self, node: usize) -> bool {
        let due = self.state.devices[node].node.as_ref().and_then(Node::poll_timeout);
        due.is_some_and(|(at, why)| at <= self.state.now && matches!(why, Reason::Repair(_)))
    }

    fn act(&mut self, node: usize, effect: Effect) {
        match effect {
            Effect::Send { to, lane: _, message } => {
                self.send_message(node, self.setup.index(&to), message)
            }
            Effect::Broadcast(message) => self.broadcast(node, message),
            Effect::Order(order) => {
                if let Order::Run { .. } = &order
                    && let Some(award) = self.state.devices[node].claim().map(awarded_under)
                {
                    self.check_written(node, award);
                }
                let stopped = match &order {
                    Order::Stop { replica } => Some(*replica),
                    Order::Run { .. } | Order::Again { .. } => None,
                };
                Arc::make_mut(&mut self.state.devices[node]).order(order);
                // A stop takes no time here.
                if let Some(replica) = stopped {
                    let generation = Digest([0; 32]);
                    let report = Report { replica, generation, state: InstanceState::Stopped };
                    self.on(node, |device, now| device.input(now, Input::Report(report)));
                }
            }
            // Every node has every artifact.
            Effect::Fetch { artifact, .. } => {
                let fetched =
                    Input::Fetched { digest: artifact.digest, outcome: FetchOutcome::Ready };
                self.on(node, |device, now| device.input(now, fetched));
            }
            Effect::Persist { .. } => unreachable!("the device keeps these"),
            // Links never break, and no user reads the events.
            Effect::Dial { .. }
            | Effect::Disconnect(_)
            | Effect::Reply { .. }
            | Effect::Verdict { .. }
            | Effect::Resolve { .. }
            | Effect::Notify(_) => {}
        }
    }

    fn send_message(&mut self, from: usize, to: usize, message: Message) {
        match &message {
            Message::Auction(auction::Message::Claimed { claims, .. }) => {
                claims.iter().for_each(|(_, token)| self.check_written(from, *token));
            }
            Message::Claims(claims::Message::Keeping { healthy: true, .. }) => {
                let claim = self.state.devices[from].claim();
                if claim.is_none_or(|claim| claim.phase != Phase::Healthy) {
                    self.breaks(Law::YieldsToTheHealthy);
                }
            }
            _ => {}
        }
        match &message {
            Message::Auction(_) | Message::Claims(_) => self.send(from, to, message),
            Message::Membership(membership::Message::Record(_)) if !self.synchronizing => {
                self.send(from, to, message)
            }
            greeting if greeting.is_greeting() && self.is_up(to) => {
                self.instant.push_back((from, to, message))
            }
            Message::Membership(_) if !self.synchronizing => {}
            Message::Membership(_) | Message::Repair(_) if self.is_up(to) => {
                self.instant.push_back((from, to, message))
            }
            _ => {}
        }
    }

    fn broadcast(&mut self, from: usize, message: Message) {
        if let Message::Ruled(_) = &message {
            for to in (0..NODES).filter(|to| *to != from) {
                self.send(from, to, message.clone());
            }
            return;
        }
        // Records also go over the links, and who holds an artifact makes no difference here.
        let Message::Slot(slot) = &message else { return };
        if NodeId(slot.by().0) == self.setup.ids[from] {
            let claims = slot.peek().map(|slot| slot.claims).unwrap_or_default();
            claims.iter().for_each(|claim| self.check_written(from, awarded_under(claim)));
            Arc::make_mut(&mut self.state.devices[from]).note_told(slot.clone());
        }
        for to in (0..NODES).filter(|to| *to != from) {
            self.send(from, to, message.clone());
        }
    }

    /// A power cut right now must not make the announced claim false.
    fn check_written(&mut self, node: usize, award: shoal_protocol::model::Token) {
        if !self.state.devices[node].has_on_disk(self.setup.ids[node], award) {
            self.breaks(Law::WrittenBeforeSaid);
        }
    }
}

/// The kind of a message, for people.
pub fn kind_of(message: &Message) -> &'static str {
    match message {
        Message::Auction(message) => match message {
            auction::Message::Announce(_) => "announce",
            auction::Message::Bid { .. } => "bid",
            auction::Message::Decline { .. } => "decline",
            auction::Message::Award { .. } => "award",
            auction::Message::Release { .. } => "release",
            auction::Message::Claimed { .. } => "claimed",
            auction::Message::Refused { .. } => "refused",
            auction::Message::Cancel { .. } => "cancel",
            auction::Message::Notice { .. } => "notice",
            auction::Message::MakeRoom { .. } => "make-room",
        },
        Message::Claims(claims::Message::AskKeeper { .. }) => "ask-keeper",
        Message::Claims(claims::Message::Keeping { healthy: true, .. }) => "keeping",
        Message::Claims(claims::Message::Keeping { healthy: false, .. }) => "not-healthy",
        Message::Membership(membership::Message::Down(..)) => "down",
        Message::Membership(_) => "record",
        other => other.kind(),
    }
}
