//! Large changes of one workload: thousands of replicas at once.

use shoal_protocol::model::{Phase, Resources, Spec, SpecForm};

use super::*;

/// A workload whose replicas are so small that three devices hold thousands.
fn tiny(replicas: u32) -> Spec {
    let form = SpecForm::from(workload("p", 1, replicas));
    let resources = Resources { memory: 2 << 20, cpu: 1 };
    SpecForm { resources: resources.into(), ..form }.try_into().expect("a test's own spec")
}

/// Entries in a queue of a device's daemon.
fn queue(sim: &Simulation, device: usize, name: &str) -> usize {
    let queues = sim.world.node(device).expect("it runs").queues();
    queues.iter().find(|queue| queue.name == name).unwrap_or_else(|| panic!("no queue {name}")).len
}

/// Replicas whose holder reports them healthy.
fn healthy(world: &World) -> usize {
    let claims = world
        .running()
        .into_iter()
        .flat_map(|device| world.node(device).expect("it runs").own_claims());
    claims.filter(|claim| claim.phase == Phase::Healthy).count()
}

fn dropped(world: &World) -> u64 {
    world.network.dropped + world.devices.iter().map(|device| device.inbox.dropped).sum::<u64>()
}

/// From 1,000 to 3,000 replicas on three slow devices. Two thousand auctions and claims went out at
/// once, gossip was dropped, and replicas whose claims were unknown were placed twice. Nothing may
/// be started twice or dropped, and the work under way must be bounded.
#[test]
fn scaling_by_thousands_starts_nothing_twice() {
    let mut world = World::new(11);
    world.capacity = Resources { memory: 8 << 30, cpu: 8_000 };
    let mut sim = Simulation::with(11, world, 3).unwrap();
    sim.publish(0, &tiny(1_000)).unwrap();
    sim.world
        .run_till(Duration::from_secs(60), "the first thousand", |world| healthy(world) == 1_000)
        .unwrap();
    for device in 0..3 {
        sim.world.devices[device].inbox.slowness = 300;
    }
    let (started, before) = (sim.world.starts, dropped(&sim.world));
    sim.publish(0, &tiny(3_000)).unwrap();
    let mut most = 0;
    for _ in 0..2_000 {
        sim.world.run_for(Duration::from_millis(10)).unwrap();
        for device in 0..3 {
            let under_way = queue(&sim, device, "replicas sought") + queue(&sim, device, "awards");
            most = most.max(under_way);
        }
        if healthy(&sim.world) == 3_000 {
            break;
        }
    }
    assert_eq!(healthy(&sim.world), 3_000);
    sim.world.run_for(Duration::from_secs(15)).unwrap();
    assert_eq!(sim.world.starts - started, 2_000, "each is started once");
    let disputes: u64 = (0..3)
        .filter_map(|device| sim.world.node(device)?.status().counters.get("duplicates").copied())
        .sum();
    assert_eq!((disputes, dropped(&sim.world) - before), (0, 0));
    assert!(most > 0 && most <= 512, "{most} places were under way");
}
