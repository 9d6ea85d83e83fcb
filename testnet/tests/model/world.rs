//! The states of three nodes, and the steps that are possible in each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use shoal_protocol::membership;
use shoal_protocol::model::{ReplicaId, Time, Token};
use shoal_protocol::node::Message;

use super::bounds::{Bounds, Scenario, Start};
use super::device::Device;
use super::digest;
use super::laws::Law;
use super::setup::{NEVER, NODES, Setup};
use super::work::kind_of;

/// A state. Cheap to clone: a step copies only the devices that it changes.
#[derive(Clone)]
pub struct State {
    pub now: Time,
    pub devices: [Arc<Device>; NODES],
    /// Digest of each device at `now`.
    pub digests: [u64; NODES],
    /// Messages under way, sorted by digest; any of them may arrive next.
    pub in_flight: Vec<InFlight>,
    /// Slots whose gossip was lost: when repair brings them at the latest, sender, receiver.
    pub pending_repairs: BTreeSet<(Time, usize, usize)>,
    /// Faults that may still happen.
    pub faults_left: Bounds,
    /// The node that claimed under each award.
    pub won: BTreeMap<(ReplicaId, Token), usize>,
    /// Whether a replica has failed on any node.
    pub failed: bool,
    /// Whether a new version was published.
    pub is_updating: bool,
    pub broken: BTreeSet<Law>,
}

/// A message under way.
#[derive(Clone)]
pub struct InFlight {
    pub digest: u64,
    pub from: usize,
    pub to: usize,
    /// The kind of message, for people.
    pub what: &'static str,
    pub message: Arc<Message>,
}

/// A possible step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// A message arrives.
    Deliver(Label),
    /// A message arrives, and stays under way.
    Repeat(Label),
    /// A message is lost.
    Lose(Label),
    /// The oldest batch of a node becomes durable.
    Store(usize),
    /// A replica becomes healthy.
    Start(usize),
    /// A replica fails for good.
    Fail(usize),
    /// Time advances to a node's next deadline.
    Pass(usize),
    /// As [`Step::Pass`], while messages, disks or runtimes are still busy.
    PassEarly(usize),
    /// A power cut, with or without the loss of the messages that the node has sent.
    Crash { node: usize, loses_messages: bool },
    /// A daemon starts, is linked and compares with its peers.
    Restart(usize),
    /// The other nodes declare a live node down.
    Suspect(usize),
    /// Repair brings the slots of the first node to the second.
    Repair(usize, usize),
}

/// Names a message, for people and by digest.
#[derive(Clone, PartialEq, Eq)]
pub struct Label {
    pub digest: u64,
    from: usize,
    to: usize,
    what: &'static str,
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} n{}>n{}", self.what, self.from, self.to)
    }
}

impl State {
    /// Three linked members that have compared, advanced to the start of the scenario.
    pub fn first(setup: &Setup, scenario: Scenario) -> Self {
        let device = || Arc::new(Device::new(&setup.admissions));
        let mut state = State {
            now: Time::ZERO + NEVER,
            devices: [device(), device(), device()],
            digests: [0; NODES],
            in_flight: Vec::new(),
            pending_repairs: BTreeSet::new(),
            faults_left: Bounds::default(),
            won: BTreeMap::new(),
            failed: false,
            is_updating: false,
            broken: BTreeSet::new(),
        };
        for node in 0..NODES {
            state.switch_on(setup, node);
        }
        // The owner receives the change last, so its announcement is the only message under way
        // then.
        let is_there = |state: &State| match scenario.start {
            Start::Published => true,
            Start::Asked => state.in_flight.iter().all(|item| item.what != "changed"),
            Start::Running | Start::Updating => state.is_at_rest(),
        };
        while !is_there(&state) {
            let step = state.fault_free_step().expect("it is not at rest");
            state = state.after(setup, &step);
        }
        if let Some(update) = &setup.update {
            state.is_updating = true;
            for node in 0..NODES {
                let message = Message::Changed { change: update.change.clone(), holder: None };
                state.send(InFlight::new(node, node, message));
            }
            let changed = |state: &State| {
                let item = state.in_flight.iter().find(|item| item.what == "changed")?;
                Some(Step::Deliver(item.label()))
            };
            while let Some(step) = changed(&state) {
                state = state.after(setup, &step);
            }
        }
        state.faults_left = scenario.bounds;
        state
    }

    /// Whether no message is under way and no disk or runtime is busy: only time can change the
    /// state.
    pub fn is_quiet(&self) -> bool {
        self.in_flight.is_empty() && (0..NODES).all(|node| !self.is_at_work(node))
    }

    fn is_at_work(&self, node: usize) -> bool {
        let device = &self.devices[node];
        device.is_storing() || device.runtime.as_ref().is_some_and(|it| !it.healthy)
    }

    /// Whether nothing happens any more without a fault.
    pub fn is_at_rest(&self) -> bool {
        self.is_quiet() && self.next_deadline().is_none()
    }

    /// The next deadline of a node or of repair.
    fn next_deadline(&self) -> Option<(Time, Step)> {
        let nodes = (0..NODES).filter_map(|node| Some((self.deadline(node)?, Step::Pass(node))));
        let mends =
            self.pending_repairs.iter().map(|(at, from, to)| (*at, Step::Repair(*from, *to)));
        nodes.chain(mends).min_by_key(|(at, _)| *at)
    }

    pub fn deadline(&self, node: usize) -> Option<Time> {
        let (at, _) = self.devices[node].node.as_ref()?.poll_timeout()?;
        (at < self.now + NEVER).then_some(at)
    }

    /// All possible steps.
    pub fn steps(&self, steps: &mut Vec<Step>) {
        self.fault_free_steps(steps);
        let faults_left = &self.faults_left;
        let mut before = None;
        for item in self.in_flight.iter().filter(|item| item.may_be_lost()) {
            if before.replace(item.digest) == Some(item.digest) {
                continue;
            }
            steps.extend((faults_left.losses > 0).then(|| Step::Lose(item.label())));
            steps.extend((faults_left.repeats > 0).then(|| Step::Repeat(item.label())));
        }
        if faults_left.lates > 0 && !self.is_quiet() {
            match self.next_deadline() {
                Some((at, Step::Pass(node))) if at > self.now => steps.push(Step::PassEarly(node)),
                _ => {}
            }
        }
        let all_up = self.devices.iter().all(|device| device.node.is_some());
        for node in 0..NODES {
            let runs = self.devices[node].runtime.is_some();
            steps.extend((runs && faults_left.failures > 0).then_some(Step::Fail(node)));
            if all_up && faults_left.crashes > 0 {
                steps.push(Step::Crash { node, loses_messages: false });
                let speaks =
                    self.in_flight.iter().any(|item| item.from == node && item.may_be_lost());
                steps.extend(speaks.then_some(Step::Crash { node, loses_messages: true }));
            }
            if all_up && faults_left.suspicions > 0 {
                steps.push(Step::Suspect(node));
            }
            if self.devices[node].node.is_none() {
                steps.push(Step::Restart(node));
            }
        }
    }

    /// A step without a fault, always the same one for a state.
    pub fn fault_free_step(&self) -> Option<Step> {
        let mut steps = Vec::new();
        self.fault_free_steps(&mut steps);
        (!steps.is_empty()).then(|| steps.swap_remove(0))
    }

    /// All steps without a fault. Time advances only if nothing else is possible.
    fn fault_free_steps(&self, steps: &mut Vec<Step>) {
        let mut before = None;
        for item in &self.in_flight {
            if before.replace(item.digest) != Some(item.digest) {
                steps.push(Step::Deliver(item.label()));
            }
        }
        for node in 0..NODES {
            let device = &self.devices[node];
            steps.extend(device.is_storing().then_some(Step::Store(node)));
            steps.extend(
                device.runtime.as_ref().is_some_and(|it| !it.healthy).then_some(Step::Start(node)),
            );
        }
        match self.next_deadline() {
            Some((at, step)) if at <= self.now || self.is_quiet() => steps.push(step),
            _ => {}
        }
    }

    /// The state's identity.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.digests.hash(hasher);
        self.in_flight.iter().for_each(|item| item.digest.hash(hasher));
        self.pending_repairs
            .iter()
            .for_each(|(at, from, to)| (at.since(self.now), from, to).hash(hasher));
        self.faults_left.hash(hasher);
        (&self.won, self.failed).hash(hasher);
        self.broken.hash(hasher);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (node, device) in self.devices.iter().enumerate() {
            let claim = device.claim().map(|claim| (claim.phase.as_str(), claim.token.counter));
            let up = if device.node.is_some() { "up" } else { "down" };
            write!(f, "n{node} {up} {claim:?}; ")?;
        }
        write!(
            f,
            "{:?} {:?}",
            self.in_flight.iter().map(InFlight::label).collect::<Vec<_>>(),
            self.broken
        )
    }
}

impl InFlight {
    pub fn new(from: usize, to: usize, message: Message) -> Self {
        let digest = digest::of_text(&format!("{from} {to} {message:?}"), Time::ZERO, 0);
        InFlight { digest, from, to, what: kind_of(&message), message: Arc::new(message) }
    }

    pub fn label(&self) -> Label {
        Label { digest: self.digest, from: self.from, to: self.to, what: self.what }
    }

    /// Messages of the detector and of repair always arrive in the end.
    pub fn may_be_lost(&self) -> bool {
        matches!(*self.message, Message::Auction(_) | Message::Claims(_) | Message::Slot(_))
    }

    /// The counter of a slot message. A workload of one replica has one slot.
    pub fn slot_counter(&self) -> Option<u64> {
        match &*self.message {
            Message::Slot(slot) => Some(slot.peek().expect("an honest slot").counter),
            _ => None,
        }
    }

    pub fn is_death_notice(&self) -> bool {
        matches!(*self.message, Message::Membership(membership::Message::Down(..)))
    }
}
