//! Clusters of two program versions: the newer one uses a program kind, a form of place, a phase, a
//! kind of key and a kind of ruling that the older one does not know.

use shoal_protocol::model::codec::Bytes;
use shoal_protocol::model::spec::SPEC_VERSION;
use shoal_protocol::model::{Digest, Key, Ruling, RulingBody, Signed, Value};
use shoal_protocol::node::Message;

use super::*;
use crate::sim::event::Event;
use crate::sim::rumour::Rumour;

const OLDER: [usize; 3] = [0, 1, 2];
const NEWER: [usize; 2] = [3, 4];

/// A newer node decides something about `web` that older nodes do not know.
fn decide(world: &mut World, device: usize) {
    let uid = world.node(device).unwrap().wanted(&"web".parse().unwrap())[0].uid;
    let body = RulingBody::Other(900, Bytes(vec![1, 2, 3]));
    let ruling = Ruling { uid, generation: Digest([0; 32]), tick: 0, sequence: 1, body };
    let identity = &world.devices[device].identity;
    let ruling = Signed::sign(ruling, &identity.keys, &identity.genesis.cluster()).wire();
    let rumour = Rumour::new(world.now, Message::Ruled(ruling));
    world.schedule(world.now, Event::Gossip { from: device, to: device, hops: 0, rumour });
}

/// A peer that says more than a node understands was taken for broken, its statements were dropped
/// and asked for again without end, and the places that it claimed were auctioned a second time.
/// The older nodes must keep and pass on all of it, blame nobody, and go on to place what they
/// understand; also after a restart, and while nodes of either version come and go.
#[test]
fn older_nodes_stay_in_step_with_newer_ones() {
    for seed in 0..10 {
        let mut sim = cluster(seed, OLDER.len() + NEWER.len());
        for device in NEWER {
            sim.world.kill(device);
            sim.world.devices[device].is_newer = true;
            sim.world.start(device, false, &[]);
        }
        sim.publish(0, &workload("web", 1, 6)).unwrap();
        let newer_spec = Value::Workload { version: SPEC_VERSION + 1, bytes: vec![7; 40] };
        let written = [
            (Key::Workload("pod".parse().unwrap()), newer_spec),
            (Key::Other(40, Bytes(vec![1, 2])), Value::Other(50, Bytes(vec![3]))),
        ];
        let written = written.map(|(key, value)| {
            sim.operator.write_newer(&mut sim.world, OLDER[0], key, value).unwrap()
        });
        sim.settle().unwrap();
        decide(&mut sim.world, NEWER[0]);
        sim.world.kill(NEWER[1]);
        sim.world.kill(OLDER[1]);
        sim.world.run_for(Duration::from_secs(20)).unwrap();
        sim.heal().unwrap();
        sim.settle().unwrap();
        let nodes: Vec<_> = sim.world.running().into_iter().collect();
        assert_eq!(nodes.len(), 5, "seed {seed}");
        for device in nodes {
            let node = sim.world.node(device).unwrap();
            for change in &written {
                let (key, hash) = (&change.signed.key, change.hash());
                assert!(node.holds_change(key, &hash), "seed {seed}: n{device} lost {key:?}");
            }
            let counters = node.status().counters;
            for blame in ["garbage", "gossip_rejected"] {
                assert_eq!(counters.get(blame), None, "seed {seed}: n{device} counts {blame}");
            }
        }
        let newer_claims = sim.world.node(NEWER[0]).unwrap().own_claims().count()
            + sim.world.node(NEWER[1]).unwrap().own_claims().count();
        assert!(newer_claims > 0, "seed {seed}: the newer nodes run something");
    }
}
