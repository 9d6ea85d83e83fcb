//! Claims of a member to what runs well elsewhere.

use super::*;

fn web() -> WorkloadName {
    "web".parse().unwrap()
}

/// An honest node that has run the only replica for a while, and a liar that has been a member for
/// as long.
fn scene(cluster: &harness::Cluster, seed: u8) -> (Harness, Liar, ReplicaId) {
    let mut honest = Harness::new(cluster.founder(Saved::default()));
    let mut liar = Liar::new(cluster, &mut honest, seed);
    liar.lives(&mut honest, Duration::from_secs(20));
    honest.publish(cluster, &spec(1, 32 << 20));
    liar.lives(&mut honest, Duration::from_secs(2));
    let uid = honest.node.desired.workload(&web()).unwrap().uid;
    (honest, liar, ReplicaId { uid, place: crate::model::Place::Ordinal(0) })
}

/// A member whose key makes the honest node (or the member) the owner of the workload.
fn seed(cluster: &harness::Cluster, owner_is_honest: bool) -> u8 {
    let me = cluster.founder(Saved::default()).id();
    let probes = crate::ring::Probes::of(&Key::Workload(web()).hash());
    let owner = |seed: u8| {
        let liar = NodeId(KeyPair::from_seed(&[seed; 32]).public().0);
        let salt = |node: &NodeId| trust::admission_salt(&cluster.genesis, node);
        let ring = crate::ring::Ring::new([me, liar].map(|node| (node, salt(&node))));
        ring.owner(&probes)
    };
    (11..).find(|seed| (owner(*seed) == Some(me)) == owner_is_honest).unwrap()
}

/// The claim of a liar: awarded by itself to itself under this counter, and healthy.
fn claims_it(
    cluster: &harness::Cluster,
    honest: &mut Harness,
    liar: &Liar,
    replica: ReplicaId,
    counter: u64,
) {
    let generation = honest.node.desired.workload(&web()).unwrap().generation;
    let token = Token { counter, by: liar.id, incarnation: 0 };
    let mut award = honest.node.claims.of(&replica)[0].1.award.peek().unwrap();
    award.auction.owner = liar.id;
    (award.token, award.to) = (token, liar.id);
    let claim = Claim {
        replica,
        name: web(),
        generation,
        token,
        phase: Phase::Healthy,
        since: WallClock(0),
        award: liar.sign(cluster, award),
        update: None,
    };
    let slot =
        Slot { slot: replica.slot(), counter: 1 << 50, claims: vec![claim], newer: Vec::new() };
    liar.says(honest, Message::Slot(liar.sign(cluster, slot)));
}

fn stops(honest: &Harness) -> usize {
    honest.orders.iter().filter(|order| matches!(order, Order::Stop { .. })).count()
}

fn routes(honest: &Harness) -> Vec<NodeId> {
    honest.node.routes().1[&web()].iter().map(|route| route.node).collect()
}

/// A member awarded to itself what ran well elsewhere, under a token below the real one, and said
/// that it kept it: the honest holder stopped, and all requests went to the member.
#[test]
fn healthy_holder_does_not_yield_to_a_self_award() {
    for owner_is_honest in [true, false] {
        let cluster = cluster();
        let seed = seed(&cluster, owner_is_honest);
        let (mut honest, mut liar, replica) = scene(&cluster, seed);
        let holders: Vec<NodeId> =
            honest.node.claims.of(&replica).into_iter().map(|(node, _)| node).collect();
        if holders != [honest.node.id()] {
            // The liar is the owner, and answers no auction: nobody holds it. Not this story.
            assert!(!owner_is_honest);
            continue;
        }
        liar.lives(&mut honest, Duration::from_secs(120));
        for counter in [0, 1 << 19] {
            claims_it(&cluster, &mut honest, &liar, replica, counter);
            liar.lives(&mut honest, Duration::from_secs(30));
            assert_eq!(stops(&honest), 0, "{owner_is_honest} {counter}");
            assert!(routes(&honest).contains(&honest.node.id()));
        }
        assert!(!owner_is_honest || routes(&honest) == [honest.node.id()]);
    }
}

/// The same by the owner itself, of a replica that was placed before it came: it knew that the
/// replica runs well, so its award is a lie. It may only have missed that while it was apart.
#[test]
fn owner_that_knows_of_a_healthy_holder_does_not_replace_it() {
    for was_apart in [false, true] {
        let cluster = cluster();
        let mut honest = Harness::new(cluster.founder(Saved::default()));
        honest.publish(&cluster, &spec(1, 32 << 20));
        honest.run_for(Duration::from_secs(5));
        let uid = honest.node.desired.workload(&web()).unwrap().uid;
        let replica = ReplicaId { uid, place: crate::model::Place::Ordinal(0) };
        let mut liar = Liar::new(&cluster, &mut honest, seed(&cluster, false));
        liar.lives(&mut honest, Duration::from_secs(400));
        assert_eq!(honest.node.owner(&web()), Some(liar.id));
        if was_apart {
            honest.input(Input::LinkDown { peer: liar.id });
            honest.run_for(Duration::from_secs(60));
            assert_eq!(state(&honest, liar.id), "down");
            honest.link(liar.id);
            liar.says_hello(&cluster, &mut honest);
            liar.lives(&mut honest, Duration::from_secs(1));
        }
        claims_it(&cluster, &mut honest, &liar, replica, 0);
        liar.lives(&mut honest, Duration::from_secs(30));
        assert_eq!(stops(&honest), usize::from(was_apart), "{was_apart}");
    }
}

/// A member claimed more than it offers, with an award that the owner may well have made: it cannot
/// run all that, so nobody yields to it.
#[test]
fn nobody_yields_to_a_node_that_claims_too_much() {
    for memory in [1 << 30, 16 << 20] {
        let cluster = cluster();
        let mut honest = Harness::new(cluster.founder(Saved::default()));
        honest.publish(&cluster, &spec(1, 32 << 20));
        honest.run_for(Duration::from_secs(5));
        let uid = honest.node.desired.workload(&web()).unwrap().uid;
        let replica = ReplicaId { uid, place: crate::model::Place::Ordinal(0) };
        let mut liar = Liar::new(&cluster, &mut honest, seed(&cluster, false));
        let mut record = liar.record(&cluster, 2, "liar").peek().unwrap();
        record.facts.capacity.memory = memory;
        liar.says(&mut honest, Message::Membership(Word::Record(liar.sign(&cluster, record))));
        liar.lives(&mut honest, Duration::from_secs(400));
        honest.input(Input::LinkDown { peer: liar.id });
        honest.run_for(Duration::from_secs(60));
        honest.link(liar.id);
        liar.says_hello(&cluster, &mut honest);
        liar.lives(&mut honest, Duration::from_secs(1));
        claims_it(&cluster, &mut honest, &liar, replica, 0);
        liar.lives(&mut honest, Duration::from_secs(30));
        let fits = memory >= 32 << 20;
        assert_eq!(stops(&honest), usize::from(fits), "it offers {memory}");
    }
}
