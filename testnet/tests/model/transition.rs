//! Applies a step to a state.

use std::sync::Arc;
use std::time::Duration;

use shoal_protocol::membership;
use shoal_protocol::model::{InstanceState, Time};
use shoal_protocol::node::{Action as Effect, Input, Message, Report, Ticket};

use super::cache::{Outcome, StepKey};
use super::device::Device;
use super::laws;
use super::setup::{NODES, Setup};
use super::work::Work;
use super::world::{InFlight, Label, State, Step};

/// How long a slot whose gossip was lost stays unknown at most: the interval of repair.
const REPAIR_AFTER: Duration = Duration::from_secs(5);

/// Inputs other than messages; digests of messages are never this small.
const STORE: u64 = 0;
const START: u64 = 1;
const FAIL: u64 = 2;
const TIMEOUT: u64 = 3;

impl State {
    /// The state after a step.
    pub fn after(&self, setup: &Setup, step: &Step) -> State {
        let mut next = self.clone();
        next.take(setup, step);
        laws::check_step(setup, self, step, &mut next);
        next
    }

    fn take(&mut self, setup: &Setup, step: &Step) {
        match step {
            Step::Deliver(label) => {
                let item = self.remove(label);
                self.deliver(setup, item);
            }
            Step::Repeat(label) => {
                self.faults_left.repeats -= 1;
                let at = self.find(label);
                self.deliver(setup, self.in_flight[at].clone());
            }
            Step::Lose(label) => {
                self.faults_left.losses -= 1;
                let item = self.remove(label);
                if let Message::Slot(_) = *item.message {
                    self.pending_repairs.insert((self.now + REPAIR_AFTER, item.from, item.to));
                }
            }
            Step::Store(node) => self.work(setup, *node, STORE, |device, now| device.store(now)),
            Step::Start(node) => self.report(setup, *node, InstanceState::Running),
            Step::Fail(node) => {
                self.faults_left.failures -= 1;
                self.failed = true;
                let state = InstanceState::Failed { reason: "it failed".into(), retryable: false };
                self.report(setup, *node, state);
            }
            Step::Pass(node) => self.pass(setup, *node),
            Step::PassEarly(node) => {
                self.faults_left.lates -= 1;
                self.pass(setup, *node);
            }
            Step::Crash { node, loses_messages } => self.crash(setup, *node, *loses_messages),
            Step::Restart(node) => self.switch_on(setup, *node),
            Step::Suspect(node) => {
                self.faults_left.suspicions -= 1;
                self.announce_death(setup, *node, true);
            }
            Step::Repair(from, to) => self.repair(setup, *from, *to),
        }
    }

    fn deliver(&mut self, setup: &Setup, item: InFlight) {
        // The receiver ignores older slots of the same sheet from now on, so they need not arrive.
        if let Some(counter) = item.slot_counter() {
            let older =
                |other: &InFlight| other.slot_counter().is_some_and(|older| older <= counter);
            self.in_flight
                .retain(|other| !((other.from, other.to) == (item.from, item.to) && older(other)));
        }
        let from = setup.ids[item.from];
        self.work(setup, item.to, item.digest, |device, now| {
            let message = (*item.message).clone();
            let input = match message {
                // As gossip, so that the receiver does not ask the sender about it.
                Message::Membership(membership::Message::Down(..)) => {
                    Input::Gossip { ticket: Ticket(0), from, message }
                }
                _ => Input::Message { from, message },
            };
            device.input(now, input)
        });
    }

    fn report(&mut self, setup: &Setup, node: usize, state: InstanceState) {
        let healthy = state == InstanceState::Running;
        self.work(setup, node, if healthy { START } else { FAIL }, |device, now| {
            let Some(running) = device.runtime.as_mut() else { return Vec::new() };
            running.healthy = healthy;
            if healthy {
                running.old = None;
            }
            let report = Report { replica: running.replica, generation: running.generation, state };
            if !healthy {
                device.runtime = None;
            }
            device.input(now, Input::Report(report))
        });
    }

    fn pass(&mut self, setup: &Setup, node: usize) {
        let Some(at) = self.deadline(node) else { return };
        self.wait(setup, at);
        self.work(setup, node, TIMEOUT, |device, now| device.timeout(now));
    }

    fn crash(&mut self, setup: &Setup, node: usize, loses_messages: bool) {
        self.faults_left.crashes -= 1;
        // The others declare the node down, at any later time.
        self.announce_death(setup, node, false);
        Arc::make_mut(&mut self.devices[node]).crash();
        self.digests[node] = self.devices[node].digest(self.now);
        self.in_flight.retain(|item| {
            item.to != node && !(loses_messages && item.from == node && item.may_be_lost())
        });
        self.pending_repairs.retain(|(_, from, to)| *from != node && *to != node);
    }

    /// Sends a notice that a node's present incarnation is down to the others, and to the node
    /// itself if it lives.
    fn announce_death(&mut self, setup: &Setup, subject: usize, lives: bool) {
        let death_notice = setup.death_notice(subject, self.devices[subject].disk.incarnation);
        for to in (0..NODES).filter(|to| lives || *to != subject) {
            self.send(InFlight::new(subject, to, Message::Membership(death_notice.clone())));
        }
    }

    /// Starts a daemon, links it, and lets it exchange everything with its peers before anything
    /// else happens.
    pub fn switch_on(&mut self, setup: &Setup, node: usize) {
        // Notices about earlier incarnations have no effect any more: the first hello has a newer
        // one.
        self.in_flight.retain(|item| !(item.from == node && item.is_death_notice()));
        let mut work = Work::new(setup, self).synchronizing();
        work.on(node, |device, now| {
            device.start(now, |saved, wall| setup.boot(node, saved, wall, now))
        });
        for peer in (0..NODES).filter(|peer| *peer != node) {
            if work.is_up(peer) {
                work.on(node, |device, now| {
                    device.input(now, Input::LinkUp { peer: setup.ids[peer], dialled: true })
                });
                work.on(peer, |device, now| {
                    device.input(now, Input::LinkUp { peer: setup.ids[node], dialled: false })
                });
            }
        }
        work.synchronize();
        self.refresh_digests();
        // If no peer had the change either, it arrives later.
        if self.devices[node].node.as_ref().is_some_and(|node| node.workloads().is_empty()) {
            self.send(InFlight::new(
                node,
                node,
                Message::Changed { change: setup.change.clone(), holder: None },
            ));
        }
        if let Some(update) = setup.update.as_ref().filter(|_| self.is_updating) {
            let known = self.devices[node].node.as_ref();
            if known.is_some_and(|node| node.spec(&update.spec.name) != Some(&update.spec)) {
                let change = update.change.clone();
                self.send(InFlight::new(node, node, Message::Changed { change, holder: None }));
            }
        }
    }

    fn repair(&mut self, setup: &Setup, from: usize, to: usize) {
        let due = self
            .pending_repairs
            .iter()
            .find(|(_, one, other)| (*one, *other) == (from, to))
            .copied();
        let Some(due) = due else { return };
        self.pending_repairs.remove(&due);
        self.wait(setup, due.0);
        let slots: Vec<_> = self.devices[from].told_slots().cloned().collect();
        for slot in slots {
            self.deliver(setup, InFlight::new(from, to, Message::Slot(slot)));
        }
    }

    /// Advances the time to `until`, if that is ahead.
    fn wait(&mut self, setup: &Setup, until: Time) {
        let (then, now) = (self.now, self.now.max(until));
        for node in 0..NODES {
            let anew = || self.devices[node].digest(now);
            self.digests[node] = setup.cache.digest_at(self.digests[node], then, now, anew);
        }
        self.now = now;
    }

    /// Gives a device an input; `what` is the digest of the input.
    fn work(
        &mut self,
        setup: &Setup,
        node: usize,
        what: u64,
        input: impl FnOnce(&mut Device, Time) -> Vec<Effect>,
    ) {
        let key = (node, self.digests[node], self.now, what);
        let Some(outcome) = setup.cache.get(&key) else {
            return self.work_anew(setup, key, input);
        };
        self.devices[node] = Arc::clone(&outcome.device);
        self.digests[node] = outcome.digest;
        self.broken.extend(&outcome.broken);
        outcome.said.iter().for_each(|item| self.send(item.clone()));
    }

    fn work_anew(
        &mut self,
        setup: &Setup,
        key: StepKey,
        input: impl FnOnce(&mut Device, Time) -> Vec<Effect>,
    ) {
        let node = key.0;
        let mut work = Work::new(setup, self);
        work.on(node, input);
        let talks = work.deliver_instant();
        let (said, broken) = work.end();
        self.refresh_digests();
        if !talks {
            let device = Arc::clone(&self.devices[node]);
            let outcome = Outcome { device, digest: self.digests[node], said, broken };
            self.devices[node] = Arc::clone(&setup.cache.insert(key, outcome).device);
        }
    }

    /// Sends a message. Equal messages that cannot be lost are under way only once.
    pub fn send(&mut self, item: InFlight) {
        if self.devices[item.to].node.is_none() {
            return;
        }
        let at = self.in_flight.partition_point(|other| other.digest < item.digest);
        let known = self.in_flight.get(at).is_some_and(|other| other.digest == item.digest);
        if !known || item.may_be_lost() {
            self.in_flight.insert(at, item);
        }
    }

    fn find(&self, label: &Label) -> usize {
        self.in_flight
            .iter()
            .position(|item| item.digest == label.digest)
            .expect("a step of this state")
    }

    fn remove(&mut self, label: &Label) -> InFlight {
        self.in_flight.remove(self.find(label))
    }

    /// Computes the digests of all devices.
    pub fn refresh_digests(&mut self) {
        self.digests = self.devices.each_ref().map(|device| device.digest(self.now));
    }
}
