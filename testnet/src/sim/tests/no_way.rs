//! Two devices behind routers that accept no connections: both reach a third, not each other.

use super::*;

/// Three devices; the second and the third can never reach each other.
fn apart(seed: u64) -> Simulation {
    let mut sim = cluster(seed, 1);
    let (one, other) = (sim.world.add(), sim.world.add());
    sim.world.partition(&[one], &[other], true);
    for device in [one, other] {
        sim.world.start(device, false, &[0]);
    }
    let together = |world: &World| {
        let mut nodes = (0..3).filter_map(|device| world.node(device));
        nodes.all(|node| node.is_ready() && node.nodes_up() == 3)
    };
    sim.world.run_till(Duration::from_secs(60), "they come together", together).unwrap();
    sim
}

fn count(world: &World, device: usize, what: &str) -> u64 {
    world
        .node(device)
        .and_then(|node| node.status().counters.get(what).copied())
        .unwrap_or_default()
}

fn warnings(world: &World, device: usize) -> Vec<String> {
    let all = world.node(device).map(|node| node.status().warnings).unwrap_or_default();
    all.into_iter().filter(|warning| warning.contains("no way")).collect()
}

/// Every device must take replicas, whichever of them is the owner. An owner behind one router must
/// announce to the bidder behind the other, receive its bid and award to it.
#[test]
fn owner_awards_to_a_bidder_it_cannot_reach() {
    let mut owners = Vec::new();
    for seed in 0..6 {
        let mut sim = apart(seed);
        sim.publish(0, &workload("web", 1, 90)).unwrap();
        sim.settle().unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        owners.extend(sim.world.node(0).unwrap().workload(&"web".parse().unwrap()).unwrap().owner);
        for device in 0..3 {
            assert_eq!(
                count(&sim.world, device, "nodes_down"),
                0,
                "seed {seed}: n{device} called somebody down"
            );
        }
    }
    assert!(
        owners.iter().any(|owner| owner != "n0"),
        "the set-up: one of the two is the owner now and then, {owners:?}"
    );
}

/// The device in the middle stops, and each side takes over the other's replicas. After its restart
/// the two must settle their disputes although they cannot reach each other.
#[test]
fn duplicates_are_settled_over_a_common_member() {
    for seed in 0..6 {
        let mut sim = apart(seed);
        sim.publish(0, &workload("web", 1, 6)).unwrap();
        sim.settle().unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        sim.world.kill(0);
        sim.world.run_for(Duration::from_secs(30)).unwrap();
        for device in 1..3 {
            assert_eq!(
                sim.world.node(device).unwrap().own_claims().count(),
                6,
                "the set-up: n{device} runs all"
            );
        }
        sim.world.start(0, false, &[]);
        sim.settle().unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}

/// A pair that cannot link costs speed. Every node must name it in a warning, with a remedy, until
/// the two link.
#[test]
fn nodes_warn_of_an_unreachable_pair_until_it_links() {
    let mut sim = apart(1);
    sim.world.run_for(Duration::from_secs(20)).unwrap();
    for device in 0..3 {
        let found = warnings(&sim.world, device);
        let [warning] = &found[..] else { panic!("n{device}: {found:?}") };
        let parts = [
            "n1 and n2 have no way to one another",
            "requests between them go over n0",
            "--advertise",
        ];
        assert!(parts.iter().all(|part| warning.contains(part)), "{warning}");
    }
    let marked = |node: &str| {
        let views = sim.world.node(0).unwrap().nodes();
        views.into_iter().find(|view| view.name == node).map(|view| view.no_way_to).unwrap()
    };
    assert_eq!(
        (marked("n1"), marked("n2"), marked("n0")),
        (vec!["n2".to_owned()], vec!["n1".to_owned()], vec![])
    );
    sim.world.partition(&[1], &[2], false);
    let is_over = |world: &World| (0..3).all(|device| warnings(world, device).is_empty());
    sim.world.run_till(Duration::from_secs(60), "nobody warns any more", is_over).unwrap();
}
