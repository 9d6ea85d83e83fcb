use imbl::OrdMap;

use super::*;
use crate::model::spec::{Artifact, Job, Sequence, SpecForm, Stateful};
use crate::model::{Digest, NodeId, Resources, Ruling};

fn node(n: u8) -> NodeId {
    NodeId([n; 32])
}

/// A spec of this kind.
pub(super) fn spec(kind: Kind) -> Spec {
    let artifact = Artifact { digest: Digest([1; 32]), size: 10 };
    let size = Resources { memory: 64 << 20, cpu: 100 };
    let form = SpecForm::wasm_service("web".parse().unwrap(), artifact, 0, size);
    SpecForm { kind, ..form }.try_into().unwrap()
}

fn stateful(replicas: u32) -> Kind {
    Kind::Stateful(Stateful { replicas, order: Sequence::Ordered })
}

/// The last place of a stateful workload gets a new version first. Places that come or go meanwhile
/// change nobody's turn: one that had its turn keeps it, and no second one gets it for that.
#[test]
fn turns_of_a_stateful_workload_go_down_and_stay_when_it_is_scaled() {
    let members = OrdMap::new();
    let due = |replicas, below| {
        let spec = spec(stateful(replicas));
        let frontier = Ruling {
            uid: Digest([7; 32]),
            generation: spec.revision(),
            tick: 0,
            sequence: 1,
            body: RulingBody::Frontier { below },
        };
        let rulings = [&frontier];
        let view = View { members: &members, suits: &|_| true, rulings: &rulings, versions: None };
        let due = due_places(&spec, &view).unwrap().into_iter();
        due.map(|place| place.to_string()).collect::<Vec<_>>()
    };
    let first = first_rank(&spec(stateful(4)));
    assert_eq!(due(4, first), [""; 0]);
    assert_eq!(due(4, first + 2), ["2", "3"]);
    assert_eq!(due(6, first + 2), ["2", "3", "4", "5"]);
    assert_eq!(due(2, first + 2), [""; 0], "the others wait for their own turns");
    assert_eq!(due(3, first + 2), ["2"]);
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
        (Kind::Daemon, 2),
        (stateful(3), 3),
        (Kind::Job(Job { completions: 5, parallel: 2, ..Job::default() }), 2),
    ];
    let asked: Vec<Place> = (0..4)
        .map(Place::Ordinal)
        .chain((0..5).map(|n| Place::OnNode(node(n))))
        .chain((0..4).map(|index| Place::Run { at: 0, index }))
        .chain([Place::Run { at: 1, index: 0 }])
        .collect();
    for (kind, count) in kinds {
        let spec = spec(kind.clone());
        let all: Vec<Place> = places_of(&spec, &view).collect();
        assert_eq!(all.len(), count, "{kind:?}");
        for place in &asked {
            assert_eq!(has_place(&spec, &view, *place), all.contains(place), "{kind:?} {place:?}");
        }
    }
}

/// A daemon runs on every member that can run it.
#[test]
fn daemon_has_a_place_on_each_node_that_suits() {
    let members: OrdMap<NodeId, u64> = [1, 2].map(|n| (node(n), 0u64)).into_iter().collect();
    let suits = |it: &NodeId| *it == node(2);
    let view = View { members: &members, suits: &suits, rulings: &[], versions: None };
    let places: Vec<Place> = places_of(&spec(Kind::Daemon), &view).collect();
    assert_eq!(places, [Place::OnNode(node(2))]);
}

/// The owner asks about all places at once, a holder about its own: they must agree as well on
/// whose turn it is.
#[test]
fn turns_of_one_place_and_of_all_places_agree() {
    let members: OrdMap<NodeId, u64> = [1, 2, 3, 4].map(|n| (node(n), 0u64)).into_iter().collect();
    let suits = |it: &NodeId| *it != node(2);
    for kind in [Kind::Service { replicas: 3 }, Kind::Daemon, stateful(3)] {
        let mut form = SpecForm::from(spec(kind));
        form.later.rollout = Some(form.kind.rollout());
        let spec = Spec::try_from(form).unwrap();
        for below in 0..5 {
            let frontier = Ruling {
                uid: Digest([7; 32]),
                generation: spec.revision(),
                tick: 0,
                sequence: 1,
                body: RulingBody::Frontier { below: first_rank(&spec) + below },
            };
            let rulings = [&frontier];
            let view = View { members: &members, suits: &suits, rulings: &rulings, versions: None };
            let due = due_places(&spec, &view).unwrap();
            assert_eq!(due.len(), below.min(3) as usize);
            for place in places(&spec, &view).into_keys() {
                assert_eq!(is_due(&spec, &view, place), due.contains(&place), "{place:?} {below}");
            }
        }
    }
}
