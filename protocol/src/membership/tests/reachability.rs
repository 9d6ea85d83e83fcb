//! Two nodes that cannot dial one another, and a third that reaches both.

use std::collections::BTreeSet;

use super::net::{MS, Net, SECOND, mesh_up_to};
use crate::membership::Fact;
use crate::model::NodeId;

/// The first node reaches all; the second and the third cannot dial one another.
fn apart(size: usize, seed: u64) -> Net {
    let mut net = Net::new(size, seed);
    net.cuts = [(1, 2), (2, 1)].into();
    net.start_all();
    net
}

fn pair(net: &Net, one: usize, other: usize) -> BTreeSet<(NodeId, NodeId)> {
    let (one, other) = (net.devices[one].id, net.devices[other].id);
    [(one.min(other), one.max(other))].into()
}

#[test]
fn unreachable_pair_is_known_to_all_until_linked() {
    for seed in 0..10 {
        let mut net = apart(4, seed);
        net.run(20 * SECOND);
        for n in 0..4 {
            assert_eq!(net.room(n).unreachable_pairs(), pair(&net, 1, 2), "seed {seed}, {n}");
        }
        assert_eq!(net.downs(), [], "seed {seed}");
        net.cuts.clear();
        net.run(30 * SECOND);
        for n in 0..4 {
            assert_eq!(
                net.room(n).unreachable_pairs(),
                BTreeSet::new(),
                "seed {seed}, {n}: there is a way again"
            );
        }
        assert!(net.room(1).has_link(&net.devices[2].id));
    }
}

/// Each announcement is a record that every node gets and keeps, so a link that is lost for 3.5 s
/// is not announced.
#[test]
fn briefly_lost_link_is_not_announced() {
    let mut net = Net::running(4, 3);
    for _ in 0..10 {
        net.cuts = [(1, 2), (2, 1)].into();
        net.close_link(1, 2);
        net.run(3500 * MS);
        net.cuts.clear();
        net.run(15 * SECOND);
        assert!(net.room(1).has_link(&net.devices[2].id), "the set-up: the link comes back");
    }
    let told = net
        .facts
        .iter()
        .filter(|(_, _, fact)| matches!(fact, Fact::Unreachable { .. } | Fact::Record { .. }));
    assert_eq!(told.count(), 0);
}

/// A hop is a linked member of which neither end states that it cannot reach the other.
#[test]
fn hops_reach_both_ends() {
    let mut net = Net::new(5, 4);
    // The second node cannot reach the third; nor can the fourth. The fifth cannot reach the
    // second.
    net.cuts = [(1, 2), (2, 1), (3, 2), (2, 3), (4, 1), (1, 4)].into();
    net.start_all();
    net.run(20 * SECOND);
    let ids: Vec<NodeId> = net.devices.iter().map(|device| device.id).collect();
    let node = |n: usize| ids[n];
    assert_eq!(net.room(1).hops(&node(2)), [node(0)]);
    assert_eq!(net.room(2).hops(&node(1)), [node(0)], "the same from the other end");
    assert!(
        net.room(1).unreachable(&node(2)).is_some() && net.room(1).unreachable(&node(0)).is_none()
    );
    // Without a common member there is no hop, and soon neither holds the other to be up.
    net.kill(0);
    net.run(SECOND * 5);
    assert_eq!(net.room(1).hops(&node(2)), []);
}

/// Members behind routers are dialled for ever, since a router may be replaced; that must cost next
/// to nothing.
#[test]
fn unreachable_pair_is_dialled_ever_more_rarely() {
    let mut net = apart(4, 5);
    net.run(60 * SECOND);
    net.dials.clear();
    net.run(600 * SECOND);
    // Each of the two dials every 7.5 to 12.5 seconds, plus the three seconds that a dial takes.
    assert!((75..=115).contains(&net.dials.len()), "{} in ten minutes", net.dials.len());
}

/// A router forgot an open connection: neither end sees it close, and messages over it are lost for
/// as long as TCP retries.
#[test]
fn hung_link_is_closed_while_others_reach_the_node() {
    let mut net = Net::running(3, 6);
    net.cuts = [(1, 2), (2, 1)].into();
    let (one, other) = (net.devices[1].id, net.devices[2].id);
    let is_left = |net: &Net| !net.room(1).has_link(&other) && !net.room(2).has_link(&one);
    net.run_until(6 * SECOND, is_left).expect("both ends hang up");
    net.run(10 * SECOND);
    assert!(net.room(1).unreachable(&other).is_some() && net.room(2).unreachable(&one).is_some());
    assert_eq!(net.downs(), []);
}

/// Two links are lost a second apart. The second announcement waits, so that both make one record:
/// each is a record for every node.
#[test]
fn unreachable_members_are_announced_together() {
    for seed in 0..5 {
        let mut net = Net::running(6, seed);
        for other in 2..4 {
            net.cut_off(1, other);
            net.run(SECOND);
        }
        net.run(60 * SECOND);
        let me = net.devices[1].id;
        let words = net.facts.iter().filter(|(_, at, fact)| {
            *at == 1 && matches!(fact, Fact::Record { node } if *node == me)
        });
        let times: Vec<_> = words.map(|(at, ..)| *at).collect();
        let all: BTreeSet<NodeId> = (2..4).map(|n| net.devices[n].id).collect();
        assert_eq!(
            net.room(0).unreachable_from(&me).iter().copied().collect::<BTreeSet<_>>(),
            all,
            "seed {seed}"
        );
        let pauses: Vec<_> = times.windows(2).map(|pair| pair[1].since(pair[0])).collect();
        assert!(pauses.iter().all(|pause| *pause >= 5 * SECOND), "seed {seed}: {pauses:?}");
        let warned = net
            .facts
            .iter()
            .filter(|(_, at, fact)| *at == 1 && matches!(fact, Fact::Unreachable { .. }));
        assert_eq!(warned.count(), 2, "seed {seed}: of each once");
    }
}

/// In a large cluster a link on demand is not tried again by itself. A dial that failed when it was
/// asked for must not be announced for ever.
#[test]
fn failed_on_demand_dial_is_forgotten() {
    let mut net = Net::with(40, 7, mesh_up_to(0));
    net.start_all();
    let far =
        (1..40).find(|n| !net.room(0).has_link(&net.devices[*n].id)).expect("not all are linked");
    let id = net.devices[far].id;
    net.cuts = [(0, far), (far, 0)].into();
    assert!(net.link_on_demand(0, far));
    net.run(4 * SECOND);
    assert!(net.room(0).unreachable(&id).is_some());
    net.run(100 * SECOND);
    assert!(
        net.room(0).unreachable(&id).is_none()
            && net.room(1).unreachable_from(&net.devices[0].id).is_empty()
    );
}
