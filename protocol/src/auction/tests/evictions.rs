//! A replica of higher priority finds no room: which node makes some, and when none does.

use std::time::Duration;

use super::world::*;
use crate::auction::*;
use crate::model::Place;

const SECOND: Duration = Duration::from_secs(1);

/// Nodes that are each full of one other replica of this priority; the workload has `mine`.
fn full(priorities: &[i32], mine: i32) -> World {
    let mut world = World::new(priorities.len(), 7);
    for (n, priority) in priorities.iter().enumerate() {
        world.fill(n, 0);
        let context = &mut world.nodes[n].context;
        context.priority = mine;
        context.priorities.insert(other(), *priority);
    }
    world
}

fn other() -> ReplicaId {
    ReplicaId { uid: Digest([77; 32]), place: Place::Ordinal(0) }
}

/// The nodes that let replicas go, with the victims.
fn evicted(world: &World) -> Vec<(usize, Vec<ReplicaId>)> {
    let of = |n: usize| {
        world.nodes[n].facts.iter().filter_map(move |fact| match fact {
            Fact::Evict { victims, .. } => Some((n, victims.clone())),
            _ => None,
        })
    };
    (0..world.nodes.len()).flat_map(of).collect()
}

/// The node whose victim has the lowest priority makes room, and takes the place once that is
/// gone. Meanwhile nobody else gets the room.
#[test]
fn node_with_the_lowest_victim_makes_room() {
    let mut world = full(&[5, 3, 4], 9);
    world.open(0, world.offer([0]));
    world.run(SECOND);
    assert_eq!(evicted(&world), [(1, vec![other()])]);
    world.nodes[1].context.committed.clear();
    // Another workload of no priority asks for all of the room: it is kept.
    let second = (Digest([8; 32]), Digest([9; 32]));
    for node in &mut world.nodes {
        node.context.known.insert(second, (NODE, Ok(()), 0));
        node.context.priority = 0;
    }
    world.open(2, Offer { uid: second.0, generation: second.1, ..world.offer([0]) });
    world.run(SECOND);
    assert!(world.nodes[1].context.claims.is_empty(), "the room is kept");
    world.nodes.iter_mut().for_each(|node| node.context.priority = 9);
    world.open(0, world.offer([0]));
    world.run(SECOND);
    assert_eq!(world.holders(0), [1]);
}

/// Free room is better than any victim.
#[test]
fn nobody_goes_where_a_node_has_room() {
    let mut world = full(&[0, 0, 0], 9);
    world.fill(2, 1);
    world.open(0, world.offer([0]));
    world.run(SECOND);
    assert_eq!((evicted(&world), world.holders(0)), (vec![], vec![2]));
}

/// An equal or a higher priority stays, and a priority that is not above 0 takes nobody's place.
#[test]
fn equal_and_plain_priorities_take_no_place() {
    for (held, mine) in [(9, 9), (10, 9), (-5, 0), (-5, -1)] {
        let mut world = full(&[held, held], mine);
        world.open(0, world.offer([0]));
        world.run(SECOND);
        assert_eq!(evicted(&world), [], "{held} and {mine}");
    }
}

/// Each of several places finds a node of its own, and a node that makes room already lets nobody
/// else go for the same workload.
#[test]
fn each_place_has_room_made_once() {
    let mut world = full(&[1, 1, 1], 9);
    world.open(0, world.offer([0, 1]));
    world.run(SECOND);
    assert_eq!(evicted(&world).len(), 2);
    world.open(0, world.offer([0, 1]));
    world.run(SECOND * 10);
    assert!(evicted(&world).len() <= 3, "{:?}", evicted(&world));
    let mut nodes: Vec<usize> = evicted(&world).into_iter().map(|(n, _)| n).collect();
    nodes.dedup();
    assert_eq!(nodes.len(), evicted(&world).len(), "no node twice");
}
