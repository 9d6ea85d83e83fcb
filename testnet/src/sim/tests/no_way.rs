//! Two devices behind routers that let nobody in: each reaches a third, neither reaches the other.

use super::*;

/// Three devices, of which the second and the third never reach one another.
fn apart(seed: u64) -> Play {
    let mut play = cluster(seed, 1);
    let (one, other) = (play.world.add(), play.world.add());
    play.world.partition(&[one], &[other], true);
    for device in [one, other] {
        play.world.start(device, false, &[0]);
    }
    let together = |world: &World| {
        let mut nodes = (0..3).filter_map(|device| world.node(device));
        nodes.all(|node| node.is_ready() && node.nodes_up() == 3)
    };
    play.world.run_till(Duration::from_secs(60), "they come together", together).unwrap();
    play
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

/// So many replicas that every device has to take its share, whoever owns them: an owner behind one
/// router has to ask, hear and award the one behind the other.
#[test]
fn an_owner_without_a_way_to_a_bidder_fills_it_all_the_same() {
    let mut owners = Vec::new();
    for seed in 0..6 {
        let mut play = apart(seed);
        play.publish(0, &workload("web", 1, 90)).unwrap();
        play.settle().unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        owners.extend(play.world.node(0).unwrap().workload(&"web".parse().unwrap()).unwrap().owner);
        for device in 0..3 {
            assert_eq!(
                count(&play.world, device, "nodes_down"),
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

/// The device in the middle stops, each side goes on alone and takes over what the other runs; it
/// starts again, and the two settle who keeps what though they still cannot reach one another.
#[test]
fn what_both_sides_ran_is_settled_over_the_one_in_the_middle() {
    for seed in 0..6 {
        let mut play = apart(seed);
        play.publish(0, &workload("web", 1, 6)).unwrap();
        play.settle().unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        play.world.kill(0);
        play.world.run_for(Duration::from_secs(30)).unwrap();
        for device in 1..3 {
            assert_eq!(
                play.world.node(device).unwrap().own_claims().count(),
                6,
                "the set-up: n{device} runs all"
            );
        }
        play.world.start(0, false, &[]);
        play.settle().unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}

#[test]
fn every_node_warns_of_a_pair_without_a_way_until_it_has_one() {
    let mut play = apart(1);
    play.world.run_for(Duration::from_secs(20)).unwrap();
    for device in 0..3 {
        let found = warnings(&play.world, device);
        let [warning] = &found[..] else { panic!("n{device}: {found:?}") };
        let parts = [
            "n1 and n2 have no way to one another",
            "requests between them go over n0",
            "--advertise",
        ];
        assert!(parts.iter().all(|part| warning.contains(part)), "{warning}");
    }
    let marked = |node: &str| {
        let views = play.world.node(0).unwrap().nodes();
        views.into_iter().find(|view| view.name == node).map(|view| view.no_way_to).unwrap()
    };
    assert_eq!(
        (marked("n1"), marked("n2"), marked("n0")),
        (vec!["n2".to_owned()], vec!["n1".to_owned()], vec![])
    );
    play.world.partition(&[1], &[2], false);
    let is_over = |world: &World| (0..3).all(|device| warnings(world, device).is_empty());
    play.world.run_till(Duration::from_secs(60), "nobody warns any more", is_over).unwrap();
}
