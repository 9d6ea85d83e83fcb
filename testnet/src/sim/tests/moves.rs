//! Devices whose addresses change.

use shoal_protocol::node::Input;

use super::*;

/// Whether all these devices see one another as up, at their present addresses, over live links.
fn are_together(world: &World, devices: &[usize]) -> bool {
    devices.iter().all(|one| {
        let others = devices.iter().filter(|other| *other != one);
        let nodes = world.node(*one).map(|node| node.nodes()).unwrap_or_default();
        let told = |device: &usize| {
            let id = world.devices[*device].id.to_string();
            let view = nodes.iter().find(|view| view.id == id);
            view.is_some_and(|view| {
                view.state == "up" && view.addresses == [world.address_of(*device)]
            })
        };
        let linked = |other: &usize| {
            let link = world.devices[*one].links.get(other);
            link.is_some_and(|link| {
                !world.is_dead_link(*link) && world.devices[*other].links.get(one) == Some(link)
            })
        };
        told(one) && others.clone().all(|other| told(other) && linked(other))
    })
}

/// The number of claims of each device.
fn placed(sim: &Simulation) -> Vec<(usize, usize)> {
    (0..sim.world.devices.len())
        .map(|it| (it, sim.world.node(it).map_or(0, |node| node.own_claims().count())))
        .collect()
}

fn falls(sim: &Simulation) -> usize {
    let falls = |device| {
        sim.world.node(device).and_then(|node| node.status().counters.get("nodes_down").copied())
    };
    (0..sim.world.devices.len()).filter_map(falls).sum::<u64>() as usize
}

/// A device got another address by DHCP. Its record kept the old address, its links hung in TCP,
/// and no peer found it again. It must dial all others at once, and no peer may take it for dead.
#[test]
fn moved_device_is_never_taken_for_dead() {
    for seed in 0..20 {
        let mut sim = at_work(seed, 5);
        let before = placed(&sim);
        sim.world.relocate(2);
        let together = |world: &World| are_together(world, &[0, 1, 2, 3, 4]);
        sim.world.run_till(Duration::from_secs(2), "all are together again", together).unwrap();
        sim.settle().unwrap();
        assert_eq!((falls(&sim), placed(&sim)), (0, before), "seed {seed}");
    }
}

/// Two of three nodes moved, one after the other. Each found the third again, but the two never
/// linked to each other again.
#[test]
fn two_devices_that_move_find_each_other() {
    for seed in 0..20 {
        for gap in [0, 100, 1_000, 5_000] {
            let mut sim = at_work(seed, 3);
            sim.world.relocate(1);
            sim.world.run_for(Duration::from_millis(gap)).unwrap();
            sim.world.relocate(2);
            let together = |world: &World| are_together(world, &[0, 1, 2]);
            let within =
                sim.world.run_till(Duration::from_secs(5), "all are together again", together);
            within.unwrap_or_else(|why| panic!("seed {seed}, {gap} ms: {why}"));
            sim.settle().unwrap();
        }
    }
}

/// Gossip of a move may be lost. Peers with a link to the device must learn its address over that
/// link, the others by comparing with those peers.
#[test]
fn new_address_is_learned_without_gossip() {
    for seed in 0..10 {
        let mut sim = at_work(seed, 4);
        sim.world.network.gossip = Gossip::Lost;
        // The way between the two moving devices is cut, so that each learns of the other only
        // through the rest.
        sim.world.partition(&[1], &[2], true);
        sim.world.relocate(1);
        sim.world.run_for(Duration::from_secs(3)).unwrap();
        sim.world.relocate(2);
        let know = |world: &World| {
            let knows = |one: usize, other: usize| {
                let id = world.devices[other].id.to_string();
                let nodes = world.node(one).map(|node| node.nodes()).unwrap_or_default();
                nodes
                    .iter()
                    .any(|view| view.id == id && view.addresses == [world.address_of(other)])
            };
            knows(1, 2) && knows(2, 1)
        };
        sim.world.run_till(Duration::from_secs(30), "each knows where the other is", know).unwrap();
        sim.world.partition(&[1], &[2], false);
        sim.settle().unwrap();
        assert!(are_together(&sim.world, &[0, 1, 2, 3]), "seed {seed}");
    }
}

/// All devices moved at once, and none knows a present address. As soon as they are sighted, they
/// must link again.
#[test]
fn devices_that_all_moved_link_when_sighted() {
    for seed in 0..10 {
        let mut sim = at_work(seed, 3);
        (0..3).for_each(|device| sim.world.relocate(device));
        sim.world.run_for(Duration::from_secs(20)).unwrap();
        assert!(!are_together(&sim.world, &[0, 1, 2]), "seed {seed}: nobody could know");
        for one in 0..3 {
            for other in (0..3).filter(|other| *other != one) {
                let (node, addresses) =
                    (sim.world.devices[other].id, vec![sim.world.address_of(other)]);
                sim.world.input(one, Input::Sighted { node, addresses });
            }
        }
        let together = |world: &World| are_together(world, &[0, 1, 2]);
        sim.world.run_till(Duration::from_secs(5), "all are together again", together).unwrap();
        sim.settle().unwrap();
    }
}
