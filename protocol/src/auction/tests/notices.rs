//! Notices of awards by other owners.

use std::time::Duration;

use super::world::*;
use crate::auction::*;
use crate::model::{AuctionId, Award};

/// Node `by` gives notice to node 0 that it awarded a place to itself under this counter.
fn notice(world: &mut World, by: usize, index: u32, counter: u64) {
    let award = Award {
        auction: AuctionId { owner: id(by), number: counter },
        replica: replica(UID, index),
        generation: GENERATION,
        token: Token { counter, by: id(by), incarnation: 1 },
        to: id(by),
    };
    let awards = vec![Signed::sign(award, &keys(by), &CLUSTER).wire()];
    world.call(0, |room, now, context, out| {
        room.handle_message(now, id(by), Message::Notice { awards, open_ms: 60_000 }, context, out)
    });
}

/// A member that ran nothing awarded a lost place to itself again and again, so that no guardian
/// ever auctioned it.
#[test]
fn notices_without_claims_keep_a_place_waiting_once() {
    let mut world = World::new(3, 9);
    let mut waited = 0;
    for second in 0..60 {
        notice(&mut world, 1, 0, second + 1);
        waited += usize::from(!world.nodes[0].room.open_awards(&UID).is_empty());
        world.run(Duration::from_secs(1));
    }
    assert!((9..=11).contains(&waited), "{waited} of 60 seconds");
    notice(&mut world, 2, 0, 1);
    assert_eq!(world.nodes[0].room.open_awards(&UID).len(), 1, "another owner is believed");
    world.run(Duration::from_secs(100));
    notice(&mut world, 1, 0, 100);
    assert_eq!(world.nodes[0].room.open_awards(&UID).len(), 1, "it is believed again later");
}

/// The notices of one member filled the memory, so that those of all others were dropped.
#[test]
fn notices_of_one_owner_leave_room_for_others() {
    let mut world = World::with(3, 9, Config { max_notices: 16, ..Config::default() });
    (0..16).for_each(|index| notice(&mut world, 1, index, 1));
    notice(&mut world, 2, 7, 1);
    let open = world.nodes[0].room.open_awards(&UID);
    let of = |owner: usize| open.iter().filter(|award| award.to == id(owner)).count();
    assert_eq!((of(1), of(2)), (2, 1));
}
