use imbl::OrdMap;

use super::*;
use crate::model::NodeId;
use crate::model::spec::Job;

fn node(n: u8) -> NodeId {
    NodeId([n; 32])
}

/// A holder asks about its own place, an owner about all of them. If the answers differed, the
/// holder would stop a replica and the owner auction it again, for ever.
#[test]
fn one_place_and_all_places_agree() {
    let members: OrdMap<NodeId, u64> = [1, 2, 3].map(|n| (node(n), 0u64)).into_iter().collect();
    let suits = |it: &NodeId| *it != node(2);
    let view = View { members: &members, suits: &suits, rulings: &[], versions: None };
    let kinds = [
        (Kind::Service { replicas: 0 }, 0),
        (Kind::Service { replicas: 3 }, 3),
        (Kind::Stateful { replicas: 2 }, 2),
        (Kind::Daemon, 2),
        (Kind::Job(Job { completions: 5, parallel: 2, ..Job::default() }), 2),
    ];
    let asked: Vec<Place> = (0..4)
        .map(Place::Ordinal)
        .chain((0..5).map(|n| Place::OnNode(node(n))))
        .chain((0..4).map(|index| Place::Run { at: 0, index }))
        .chain([Place::Run { at: 1, index: 0 }])
        .collect();
    for (kind, count) in kinds {
        let all: Vec<Place> = places_of(&kind, &view).collect();
        assert_eq!(all.len(), count, "{kind:?}");
        for place in &asked {
            assert_eq!(has_place(&kind, &view, *place), all.contains(place), "{kind:?} {place:?}");
        }
    }
}

/// A daemon runs on every member that can run it.
#[test]
fn daemon_has_a_place_on_each_node_that_suits() {
    let members: OrdMap<NodeId, u64> = [1, 2].map(|n| (node(n), 0u64)).into_iter().collect();
    let suits = |it: &NodeId| *it == node(2);
    let view = View { members: &members, suits: &suits, rulings: &[], versions: None };
    let places: Vec<Place> = places_of(&Kind::Daemon, &view).collect();
    assert_eq!(places, [Place::OnNode(node(2))]);
}
