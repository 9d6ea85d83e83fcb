//! One step of a sequence: an input of any kind, as its bytes say.

use std::time::Duration;

use shoal_protocol::fuzzing::Choices;
use shoal_protocol::membership::Answerer;
use shoal_protocol::model::{
    Artifact, Digest, InstanceState, NodeId, Place, ProgramKind, ReplicaId, Resources, WallClock,
    WorkloadName,
};
use shoal_protocol::node::{
    Command, DialFailure, DialTarget, FetchOutcome, Input, Message, OwnAddresses, Report,
};

use super::body::Body;
use super::forge;
use super::real::Real;

/// Kinds of steps.
pub const KINDS: u8 = 20;

/// A node that is no member.
const STRANGER: NodeId = NodeId([42; 32]);

/// Nodes, and what they can be told.
pub struct Sequence<'a> {
    real: &'a Real,
    /// One or two nodes.
    pub bodies: Vec<Body>,
    /// Names to ask the views for.
    pub names: Vec<WorkloadName>,
}

impl<'a> Sequence<'a> {
    pub fn of(real: &'a Real, first: Body) -> Self {
        Sequence { real, bodies: vec![first], names: real.names.clone() }
    }

    /// Takes the next step.
    pub fn step(&mut self, choices: &mut Choices<'_>) {
        let (kind, real) = (choices.byte() % KINDS, self.real);
        if kind == 0 && self.bodies.len() > 1 {
            return self.exchange();
        }
        let which = choices.below(self.bodies.len());
        let body = &mut self.bodies[which];
        let me = body.node.id();
        let peer = match choices.below(real.devices.len() + 1) {
            // A stranger; nor has a node a link to itself.
            known if known == real.devices.len() || real.id(known) == me => STRANGER,
            known => real.id(known),
        };
        match kind {
            0..=4 => say(real, body, peer, choices, false),
            5 | 6 => say(real, body, peer, choices, true),
            7 => body.input(Input::LinkUp { peer, dialled: choices.byte() & 1 == 0 }),
            8 => body.input(Input::LinkDown { peer }),
            9 | 10 => body.pass(Duration::from_millis(1 << choices.below(14))),
            11 if body.writes_at_once => body.fill_disk(!body.is_full),
            11 => body.write(),
            12 => dial(body, choices),
            13 => command(real, body, choices),
            14 => report(body, choices),
            15 => fetched(body, choices),
            16 => device(body, choices),
            17 => place(body, peer, choices),
            18 => {
                let is_stalling = choices.byte() & 1 == 0;
                body.input(Input::PathChanged { peer, is_stalling });
            }
            _ => {
                // A member that is not lost, and the time that makes it so.
                body.input(Input::LinkUp { peer, dialled: true });
                say(real, body, peer, choices, false);
                body.pass(Duration::from_millis(300));
                body.input(Input::Lag(Duration::from_millis(choices.number() >> 44)));
            }
        }
        assert_eq!(body.node.id(), me);
    }

    /// Each of the two gets what the other has for it.
    fn exchange(&mut self) {
        for (from, to) in [(0, 1), (1, 0)] {
            let (sender, receiver) = (self.bodies[from].node.id(), self.bodies[to].node.id());
            for (addressee, message) in std::mem::take(&mut self.bodies[from].mail) {
                if addressee == receiver {
                    self.bodies[to].input(Input::Message { from: sender, message });
                }
            }
            for message in std::mem::take(&mut self.bodies[from].said) {
                self.bodies[to].gossip(sender, message);
            }
        }
    }
}

fn say(real: &Real, body: &mut Body, from: NodeId, choices: &mut Choices<'_>, by_gossip: bool) {
    let repeats = 1 + choices.below(16) / 12;
    match forge::message(real, body.node.id(), choices) {
        Ok(message) if by_gossip => {
            (0..repeats).for_each(|_| body.gossip(from, message.clone()));
        }
        Ok(message) => (0..repeats).for_each(|_| {
            body.input(Input::Message { from, message: Message::clone(&message) });
        }),
        Err(why) => body.input(Input::Garbage { from, why }),
    }
}

fn dial(body: &mut Body, choices: &mut Choices<'_>) {
    let Some(target) = body.dialled.pop_front() else { return };
    if let DialTarget::Node(node) = &target {
        let by = match choices.byte() % 3 {
            0 => Answerer::Nobody,
            1 => Answerer::Stranger,
            _ => Answerer::Node(*node),
        };
        let (node, address) = (*node, choices.text());
        body.input(Input::Answered { node, address, by });
    }
    let how = match choices.byte() % 3 {
        0 => DialFailure::Refused,
        1 => DialFailure::TimedOut,
        _ => DialFailure::Stranger(choices.text()),
    };
    body.input(Input::DialFailed { target, how });
}

fn command(real: &Real, body: &mut Body, choices: &mut Choices<'_>) {
    let spec = real.specs[choices.below(real.specs.len())].clone();
    let command = match choices.byte() % 4 {
        0 => Command::Submit { change: forge::change(real, choices) },
        1 => {
            let digest = Digest([choices.byte(); 32]);
            let artifact = Artifact { digest, size: choices.number() };
            Command::Uploaded { artifact, kind: ProgramKind::Wasm }
        }
        form => {
            let spec = spec.scaled(u32::from(choices.byte())).unwrap_or(spec);
            let name = spec.name.clone();
            let spec = (form == 2).then_some(spec);
            Command::Prepare { name, spec, force: choices.byte() & 1 == 0 }
        }
    };
    body.ask(command);
}

fn report(body: &mut Body, choices: &mut Choices<'_>) {
    let known = body.orders.iter().nth(choices.below(body.orders.len()));
    let (replica, generation) = match known {
        Some((replica, generation)) if choices.byte() >= 32 => (*replica, *generation),
        _ => {
            let place = Place::Ordinal(u32::from(choices.byte()));
            let uid = Digest([choices.byte(); 32]);
            (ReplicaId { uid, place }, Digest([choices.byte(); 32]))
        }
    };
    let state = match choices.byte() % 5 {
        0 => InstanceState::Starting,
        1 => InstanceState::Waiting { reason: choices.text() },
        2 => InstanceState::Running,
        3 => InstanceState::Stopped,
        _ => {
            let retryable = choices.byte() & 1 == 0;
            InstanceState::Failed { reason: choices.text(), retryable }
        }
    };
    body.input(Input::Report(Report { replica, generation, state }));
}

fn fetched(body: &mut Body, choices: &mut Choices<'_>) {
    let wanted = body.fetches.iter().nth(choices.below(body.fetches.len())).copied();
    let digest = wanted.unwrap_or(Digest([choices.byte(); 32]));
    if choices.byte() & 1 == 0 {
        body.fetches.remove(&digest);
    }
    let outcome = match choices.byte() % 3 {
        0 => FetchOutcome::Ready,
        1 => FetchOutcome::Unusable(choices.text()),
        _ => FetchOutcome::Failed(choices.text()),
    };
    let from = vec![body.node.id(); choices.below(4)];
    let artifact = Artifact { digest, size: choices.number() };
    let took = Duration::from_micros(choices.number());
    body.input(Input::Received { artifact, from, took });
    body.input(Input::Fetched { digest, outcome });
}

/// Changes of the device itself.
fn device(body: &mut Body, choices: &mut Choices<'_>) {
    match choices.byte() % 4 {
        0 => body.input(Input::WallClock(WallClock(choices.number()))),
        1 => body.input(Input::Lag(Duration::from_micros(choices.number()))),
        2 => body.input(Input::Goodbye { back_in: Duration::from_millis(choices.number()) }),
        _ => {
            let mut facts = crate::sim::world::facts();
            let memory = choices.number();
            facts.capacity = Resources { memory, cpu: u32::from(choices.byte()) * 100 };
            facts.labels.insert(choices.text(), choices.text());
            body.input(Input::Facts(facts));
        }
    }
}

/// Where nodes are, by hints that nobody proves.
fn place(body: &mut Body, node: NodeId, choices: &mut Choices<'_>) {
    let addresses: Vec<String> = (0..choices.below(20)).map(|_| choices.text()).collect();
    body.input(match choices.byte() % 4 {
        0 => Input::Sighted { node, addresses },
        1 => {
            let trouble = addresses.first().cloned();
            Input::Addresses(OwnAddresses { addresses, trouble, moved: true })
        }
        2 => Input::Resolved { seed: choices.text(), found: Ok(addresses) },
        _ => Input::OtherVersion { from: node, why: choices.text() },
    });
}
