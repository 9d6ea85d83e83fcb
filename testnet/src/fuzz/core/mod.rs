//! Sequences of inputs to one or two cores: messages of members with stolen keys, links, timers,
//! disks, commands. **After every input** no queue is above its bound, a gossip message has one
//! verdict, a command at most one reply, and the effects are few and fit into their envelopes.

mod body;
mod forge;
pub(super) mod real;
mod steps;

use shoal_protocol::fuzzing::{Choices, Target};
use shoal_protocol::model::{KeyPair, Time, WallClock, WorkloadName};
use shoal_protocol::node::{Node, Saved};

use body::Body;
use real::Real;
use steps::Sequence;

/// The target.
pub const TARGET: Target = Target { name: "core", run, seeds, most: 2_048 };

/// Steps of one sequence, so that a hang is one of the node.
const MAX_STEPS: usize = 32;

fn run(data: &[u8]) {
    let real = Real::get();
    let mut choices = Choices::of(data);
    let kind = choices.byte();
    let mut sequence = Sequence::of(real, first(real, kind));
    if kind & 4 != 0 {
        sequence.bodies.push(Body::of(&real.devices[1], true));
    }
    let mut steps = 0;
    while !choices.is_empty() && steps < MAX_STEPS {
        steps += 1;
        sequence.step(&mut choices);
    }
    // These take longer than the rest: a part of the sequences ends with them.
    if kind & 48 == 0 {
        sequence.bodies.iter().for_each(|body| look_at_all(body, &sequence.names));
    }
    if kind & 24 == 8 {
        restart(real, &sequence.bodies[0]);
    }
}

/// The node that the sequence is about.
fn first(real: &Real, kind: u8) -> Body {
    let writes_at_once = kind & 1 == 0;
    if kind & 2 == 0 {
        return Body::of(&real.devices[0], writes_at_once);
    }
    // A new device of the cluster, which knows nothing.
    let mut it = real.devices[0].clone();
    it.identity.keys = KeyPair::from_seed(&[77; 32]);
    it.config.founder = false;
    it.node = Node::new(
        it.config.clone(),
        it.identity.clone(),
        Saved { incarnation: 1, ..Saved::default() },
        crate::sim::world::facts(),
        WallClock(0),
        [1; 32],
        Time::ZERO,
    );
    Body::around(it.node, Time::ZERO, writes_at_once)
}

/// Makes every view, as people and programs ask for them.
fn look_at_all(body: &Body, names: &[WorkloadName]) {
    let node = &body.node;
    let status = node.status();
    assert!(format!("{status:?}").len() < 1 << 20, "a status of more than a megabyte");
    let known = node.nodes();
    let ids = known.iter().filter_map(|it| it.id.parse().ok());
    for id in ids.take(8) {
        _ = (node.reachability(&id), node.node_name(&id), node.addresses_of(&id));
    }
    for name in names {
        let Some(workload) = node.workload(name) else { continue };
        for replica in workload.replicas.iter().take(8) {
            if let Ok(name) = replica.replica.parse() {
                _ = (node.explain(&name), node.holders(&name));
            }
        }
        _ = (node.service(name), node.wanted(name), node.guards(name));
    }
    _ = (node.workloads(), node.services(), node.images(), node.pinned(), node.routes());
}

/// Whatever the node put on its disk is read at its next start.
fn restart(real: &Real, body: &Body) {
    let device = &real.devices[0];
    let saved = body.saved(1 << 20);
    let mut identity = device.identity.clone();
    if body.node.id().0 != identity.keys.public().0 {
        identity.keys = KeyPair::from_seed(&[77; 32]);
    }
    let facts = crate::sim::world::facts();
    let (config, wall) = (device.config.clone(), WallClock(1_767_225_600_000));
    let node = Node::new(config, identity, saved, facts, wall, [2; 32], Time::ZERO);
    let mut body = Body::around(node, Time::ZERO, true);
    body.pass(std::time::Duration::from_secs(2));
    look_at_all(&body, &real.names);
}

/// Sequences that a person would try first: each step with each of its forms.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for kind in [0, 1, 2, 4, 8, 13] {
        for first in 0..4u8 {
            let steps = (0..24u8).flat_map(|at| {
                let word = at.wrapping_mul(7).wrapping_add(first.wrapping_mul(31));
                [word % steps::KINDS, at, word, 1, 0]
            });
            seeds.push(std::iter::once(kind).chain(steps).collect());
        }
    }
    seeds
}
