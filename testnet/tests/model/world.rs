//! The states of three nodes and all that can happen to them next.

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

/// Everything, at one moment. Cheap to copy: a step copies the devices that it touches.
#[derive(Clone)]
pub struct State {
    pub now: Time,
    pub devices: [Arc<Device>; NODES],
    /// As each device looks at `now`.
    pub digests: [u64; NODES],
    /// On its way, in an order of their own: which comes next is open.
    pub in_flight: Vec<InFlight>,
    /// Slots whose gossip was lost, and when repair brings them at the latest: owner, to whom.
    pub pending_repairs: BTreeSet<(Time, usize, usize)>,
    /// Faults that may still happen.
    pub faults_left: Bounds,
    /// Who ever claimed under which award.
    pub won: BTreeMap<(ReplicaId, Token), usize>,
    /// Whether a replica has failed somewhere.
    pub failed: bool,
    pub broken: BTreeSet<Law>,
}

/// A message on its way.
#[derive(Clone)]
pub struct InFlight {
    pub digest: u64,
    pub from: usize,
    pub to: usize,
    /// What it says, in a word.
    pub what: &'static str,
    pub message: Arc<Message>,
}

/// What can happen next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// A message comes.
    Deliver(Label),
    /// A message comes, and will come again.
    Repeat(Label),
    /// A message is lost.
    Lose(Label),
    /// The oldest batch of a node is on disk.
    Store(usize),
    /// A replica runs and answers.
    Start(usize),
    /// A replica fails for good.
    Fail(usize),
    /// A node's next deadline: time goes on to it.
    Pass(usize),
    /// The same while something is still on its way, or a disk or a runtime at work.
    PassEarly(usize),
    /// Power is cut. What it had said may have gone with it.
    Crash { node: usize, loses_messages: bool },
    /// It is switched on, linked, and brought into step.
    Restart(usize),
    /// The others come to hold a node that lives to be down, and so does whoever hears it.
    Suspect(usize),
    /// Repair brings the sheet of the first to the second.
    Repair(usize, usize),
}

/// Names a message for people, and exactly.
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
    /// Three daemons that know one another and are in step, and how far they have come with the
    /// wish.
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
            broken: BTreeSet::new(),
        };
        for node in 0..NODES {
            state.switch_on(setup, node);
        }
        // The owner is the last to hear of the wish; all that flies then is its question.
        let is_there = |state: &State| match scenario.start {
            Start::Published => true,
            Start::Asked => state.in_flight.iter().all(|item| item.what != "changed"),
            Start::Running => state.is_at_rest(),
        };
        while !is_there(&state) {
            let step = state.fault_free_step().expect("it is not at rest");
            state = state.after(setup, &step);
        }
        state.faults_left = scenario.bounds;
        state
    }

    /// Whether nothing is on its way and nobody is at work: only time can bring something new.
    pub fn is_quiet(&self) -> bool {
        self.in_flight.is_empty() && (0..NODES).all(|node| !self.is_at_work(node))
    }

    fn is_at_work(&self, node: usize) -> bool {
        let device = &self.devices[node];
        device.is_storing() || device.runtime.as_ref().is_some_and(|it| !it.healthy)
    }

    /// Whether nothing will happen any more unless a fault does.
    pub fn is_at_rest(&self) -> bool {
        self.is_quiet() && self.next_deadline().is_none()
    }

    /// When time brings something, and what.
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

    /// All that can happen.
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

    /// One step that is no fault, always the same one of a state.
    pub fn fault_free_step(&self) -> Option<Step> {
        let mut steps = Vec::new();
        self.fault_free_steps(&mut steps);
        (!steps.is_empty()).then(|| steps.swap_remove(0))
    }

    /// What happens without a fault. Time passes when there is nothing else to do.
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

    /// Names the state.
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

    /// What the detector and repair bring comes at last.
    pub fn may_be_lost(&self) -> bool {
        matches!(*self.message, Message::Auction(_) | Message::Claims(_) | Message::Slot(_))
    }

    /// Which issue of its sender's slot this is. With one replica there is one slot.
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
