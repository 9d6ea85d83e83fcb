//! What a step does to a state.

use std::sync::Arc;
use std::time::Duration;

use shoal_protocol::membership;
use shoal_protocol::model::Time;
use shoal_protocol::node::{Action as Effect, Input, Message, ReplicaState, Report, Ticket};

use super::device::Device;
use super::forming::{Cast, NODES};
use super::laws;
use super::memory::{Outcome, Turn};
use super::work::Work;
use super::world::{Flying, Label, State, Step};

/// How long gossip that was lost stays unmended at most: as long as nodes take to compare.
const REPAIR_AFTER: Duration = Duration::from_secs(5);

/// What comes to a device that is no message. Digests of messages are not that small.
const STORE: u64 = 0;
const START: u64 = 1;
const FAIL: u64 = 2;
const TIMEOUT: u64 = 3;

impl State {
    /// The state after a step.
    pub fn after(&self, cast: &Cast, step: &Step) -> State {
        let mut next = self.clone();
        next.take(cast, step);
        laws::judge(cast, self, step, &mut next);
        next
    }

    fn take(&mut self, cast: &Cast, step: &Step) {
        match step {
            Step::Deliver(label) => {
                let item = self.remove(label);
                self.deliver(cast, item);
            }
            Step::Repeat(label) => {
                self.left.repeats -= 1;
                let at = self.find(label);
                self.deliver(cast, self.flying[at].clone());
            }
            Step::Lose(label) => {
                self.left.losses -= 1;
                let item = self.remove(label);
                if let Message::Slot(_) = *item.message {
                    self.mending.insert((self.now + REPAIR_AFTER, item.from, item.to));
                }
            }
            Step::Store(node) => self.work(cast, *node, STORE, |device, now| device.store(now)),
            Step::Start(node) => self.report(cast, *node, ReplicaState::Healthy),
            Step::Fail(node) => {
                self.left.failures -= 1;
                self.failed = true;
                let state = ReplicaState::Failed { reason: "it failed".into(), retryable: false };
                self.report(cast, *node, state);
            }
            Step::Pass(node) => self.pass(cast, *node),
            Step::PassEarly(node) => {
                self.left.lates -= 1;
                self.pass(cast, *node);
            }
            Step::Crash { node, mute } => self.crash(cast, *node, *mute),
            Step::Restart(node) => self.switch_on(cast, *node),
            Step::Suspect(node) => {
                self.left.suspicions -= 1;
                self.spread_fall(cast, *node, true);
            }
            Step::Mend(from, to) => self.mend(cast, *from, *to),
        }
    }

    fn deliver(&mut self, cast: &Cast, item: Flying) {
        // Older slots of the same sheet are known then, whenever they come: they need not come at
        // all.
        if let Some(counter) = item.slot_counter() {
            let older = |other: &Flying| other.slot_counter().is_some_and(|older| older <= counter);
            self.flying
                .retain(|other| !((other.from, other.to) == (item.from, item.to) && older(other)));
        }
        let from = cast.ids[item.from];
        self.work(cast, item.to, item.digest, |device, now| {
            let message = (*item.message).clone();
            let input = match message {
                // By gossip, so that nobody is asked about it.
                Message::Membership(membership::Message::Down(..)) => {
                    Input::Gossip { ticket: Ticket(0), from, message }
                }
                _ => Input::Message { from, message },
            };
            device.input(now, input)
        });
    }

    fn report(&mut self, cast: &Cast, node: usize, state: ReplicaState) {
        let healthy = state == ReplicaState::Healthy;
        self.work(cast, node, if healthy { START } else { FAIL }, |device, now| {
            let Some(running) = device.runtime.as_mut() else { return Vec::new() };
            running.healthy = healthy;
            let report = Report { replica: running.replica, generation: running.generation, state };
            if !healthy {
                device.runtime = None;
            }
            device.input(now, Input::Report(report))
        });
    }

    fn pass(&mut self, cast: &Cast, node: usize) {
        let Some(at) = self.deadline(node) else { return };
        self.wait(cast, at);
        self.work(cast, node, TIMEOUT, |device, now| device.timeout(now));
    }

    fn crash(&mut self, cast: &Cast, node: usize, mute: bool) {
        self.left.crashes -= 1;
        // Whoever does not know yet will find out.
        self.spread_fall(cast, node, false);
        Arc::make_mut(&mut self.devices[node]).crash();
        self.digests[node] = self.devices[node].digest(self.now);
        self.flying
            .retain(|item| item.to != node && !(mute && item.from == node && item.may_be_lost()));
        self.mending.retain(|(_, from, to)| *from != node && *to != node);
    }

    /// Word of the end of a node's present life goes to the others, and to itself if it lives.
    fn spread_fall(&mut self, cast: &Cast, subject: usize, lives: bool) {
        let fall = cast.fall(subject, self.devices[subject].disk.incarnation);
        for to in (0..NODES).filter(|to| lives || *to != subject) {
            self.send(Flying::new(subject, to, Message::Membership(fall.clone())));
        }
    }

    /// A daemon starts, gets its links, and hears and tells what there is to tell before anything
    /// else happens.
    pub fn switch_on(&mut self, cast: &Cast, node: usize) {
        // Word of the fall of former lives comes too late to matter: the first hello says that this
        // is another.
        self.flying.retain(|item| !(item.from == node && item.is_fall()));
        let mut work = Work::new(cast, self).in_step();
        work.on(node, |device, now| {
            device.start(now, |saved, wall| cast.boot(node, saved, wall, now))
        });
        for peer in (0..NODES).filter(|peer| *peer != node) {
            if work.is_up(peer) {
                work.on(node, |device, now| {
                    device.input(now, Input::LinkUp { peer: cast.ids[peer] })
                });
                work.on(peer, |device, now| {
                    device.input(now, Input::LinkUp { peer: cast.ids[node] })
                });
            }
        }
        work.come_into_step();
        self.look();
        // What the others did not know either comes to it in time.
        if self.devices[node].node.as_ref().is_some_and(|node| node.workloads().is_empty()) {
            self.send(Flying::new(
                node,
                node,
                Message::Changed { change: cast.wish.clone(), holder: None },
            ));
        }
    }

    fn mend(&mut self, cast: &Cast, from: usize, to: usize) {
        let due = self.mending.iter().find(|(_, one, other)| (*one, *other) == (from, to)).copied();
        let Some(due) = due else { return };
        self.mending.remove(&due);
        self.wait(cast, due.0);
        let slots: Vec<_> = self.devices[from].spoken().cloned().collect();
        for slot in slots {
            self.deliver(cast, Flying::new(from, to, Message::Slot(slot)));
        }
    }

    /// Time goes on, if `until` is not past.
    fn wait(&mut self, cast: &Cast, until: Time) {
        let (then, now) = (self.now, self.now.max(until));
        for node in 0..NODES {
            let anew = || self.devices[node].digest(now);
            self.digests[node] = cast.memory.look(self.digests[node], then, now, anew);
        }
        self.now = now;
    }

    /// One device takes something in, which `what` names among all that can come to it.
    fn work(
        &mut self,
        cast: &Cast,
        node: usize,
        what: u64,
        input: impl FnOnce(&mut Device, Time) -> Vec<Effect>,
    ) {
        let turn = (node, self.digests[node], self.now, what);
        let Some(outcome) = cast.memory.of_turn(&turn) else {
            return self.work_anew(cast, turn, input);
        };
        self.devices[node] = Arc::clone(&outcome.device);
        self.digests[node] = outcome.digest;
        self.broken.extend(&outcome.broken);
        outcome.said.iter().for_each(|item| self.send(item.clone()));
    }

    fn work_anew(
        &mut self,
        cast: &Cast,
        turn: Turn,
        input: impl FnOnce(&mut Device, Time) -> Vec<Effect>,
    ) {
        let node = turn.0;
        let mut work = Work::new(cast, self);
        work.on(node, input);
        let talks = work.converse();
        let (said, broken) = work.end();
        self.look();
        if !talks {
            let device = Arc::clone(&self.devices[node]);
            let outcome = Outcome { device, digest: self.digests[node], said, broken };
            self.devices[node] = Arc::clone(&cast.memory.keep_turn(turn, outcome).device);
        }
    }

    /// Puts a message on its way. One that cannot be lost is there once.
    pub fn send(&mut self, item: Flying) {
        if self.devices[item.to].node.is_none() {
            return;
        }
        let at = self.flying.partition_point(|other| other.digest < item.digest);
        let known = self.flying.get(at).is_some_and(|other| other.digest == item.digest);
        if !known || item.may_be_lost() {
            self.flying.insert(at, item);
        }
    }

    fn find(&self, label: &Label) -> usize {
        self.flying
            .iter()
            .position(|item| item.digest == label.digest)
            .expect("a step of this state")
    }

    fn remove(&mut self, label: &Label) -> Flying {
        self.flying.remove(self.find(label))
    }

    /// Looks at the devices anew.
    pub fn look(&mut self) {
        self.digests = self.devices.each_ref().map(|device| device.digest(self.now));
    }
}
