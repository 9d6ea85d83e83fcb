//! Devices with so many replicas that they deal with many peers at once, beyond a full mesh.

use std::collections::BTreeSet;

use shoal_protocol::model::Phase;

use super::*;
use crate::sim::formed::Shape;

/// A device with many replicas dies and returns. A hundred links are too many to keep, and a
/// question that found no link was asked again only much later. Failover must take 200 ms, and
/// yielding to the new holders 3 seconds.
#[test]
fn full_device_fails_over_fast_and_yields_on_return() {
    let shape = Shape { nodes: 80, workloads: 2_400, replicas: 2 };
    let mut world = World::formed(5, shape).unwrap();
    for device in [7, 30, 55] {
        let ran: Vec<_> =
            world.node(device).unwrap().own_claims().map(|claim| claim.replica).collect();
        assert!(ran.len() >= 60, "{}", ran.len());
        world.kill(device);
        let others: Vec<usize> = world.running();
        let is_elsewhere = |world: &World| {
            let healthy = |device: &usize| {
                let claims = world.node(*device).unwrap().own_claims();
                claims
                    .filter(|claim| claim.phase == Phase::Healthy)
                    .map(|claim| claim.replica)
                    .collect::<Vec<_>>()
            };
            let held: BTreeSet<_> = others.iter().flat_map(healthy).collect();
            ran.iter().all(|replica| held.contains(replica))
        };
        world
            .run_till(Duration::from_millis(200), "all it ran is healthy elsewhere", is_elsewhere)
            .unwrap();
        world.start(device, false, &[]);
        let is_free =
            |world: &World| world.node(device).is_some_and(|node| node.own_claims().count() == 0);
        world.run_till(Duration::from_secs(3), "it lets go of what others run", is_free).unwrap();
        world.run_for(Duration::from_secs(5)).unwrap();
    }
}
