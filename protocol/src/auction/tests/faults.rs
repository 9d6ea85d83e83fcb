//! Owners that die at any message, and random schedules.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::world::*;
use crate::auction::*;
use crate::model::AuctionId;
use crate::model::Resources;

const SECOND: Duration = Duration::from_secs(1);

/// The owner dies after each possible number of messages. Nothing stays reserved for it, and the
/// next owner closes the gap: each place has one holder.
#[test]
fn owner_may_die_after_any_message() {
    for is_known in [true, false] {
        for k in 0..60 {
            let mut world = World::new(4, 20);
            world.fill(0, 0);
            world.open(0, Offer { guardians: vec![id(1), id(2)], ..world.offer(0..4) });
            world.run_until_delivered(k);
            world.kill(0);
            if is_known {
                world.tell_down(0);
                // Nothing is reserved for the dead owner, so the next one finds the room.
                let reserved =
                    (1..4).any(|n| world.nodes[n].room.reserved().size != Resources::default());
                assert!(!reserved, "after {k} messages");
            }
            world.run(SECOND * 20);
            world.assert_nothing_reserved();
            for n in 1..4 {
                let claims = world.nodes[n].context.claims.len() as u64;
                assert_eq!(world.committed(n).memory, claims * SMALL.memory, "after {k} messages");
            }
            // The next owner closes the gap that is left.
            let missing: Vec<u32> =
                (0..4).filter(|index| world.holders(*index).is_empty()).collect();
            world.open(1, world.offer(missing));
            world.run(SECOND * 2);
            assert!((0..4).all(|index| world.holders(index).len() == 1), "after {k} messages");
        }
    }
}

/// An award comes when its reservation is spent, another one has a forged signature. Neither makes
/// a claim.
#[test]
fn late_or_forged_award_wins_nothing() {
    let mut world = World::new(2, 21);
    world.fill(0, 0);
    world.open(0, world.offer([0]));
    world.run(SECOND);
    let summary = world.nodes[1].room.summaries(&replica(UID, 0))[0].as_ref().clone();
    let award = |auction: AuctionId, counter: u64| Award {
        auction,
        replica: replica(UID, 1),
        generation: GENERATION,
        token: Token { counter, by: id(0), incarnation: 1 },
        to: id(1),
    };
    // The auction is over: nothing is reserved for it.
    let late = Signed::sign(award(summary.auction, 9), &keys(0), &CLUSTER).wire();
    let forged = Signed::sign(award(summary.auction, 9), &keys(3), &CLUSTER).wire();
    for awards in [vec![late], vec![forged]] {
        let message = Message::Award { awards, summary: Box::new(summary.clone()) };
        world.call(1, |room, now, context, out| {
            room.handle_message(now, id(0), message, context, out)
        });
    }
    assert!(world.holders(1).is_empty());
    assert_eq!(world.winners.len(), 1);
}

#[derive(Debug, Clone)]
enum Step {
    Open { owner: usize, places: BTreeSet<u32> },
    Run { ms: u64 },
    Release { node: usize },
    Kill { node: usize },
    Close { owner: usize },
    Cool { node: usize, index: u32 },
    Learn { node: usize },
    SawClaims { node: usize },
}

fn any_step() -> impl Strategy<Value = Step> {
    let node = 0usize..5;
    prop_oneof![
        6 => (node.clone(), proptest::collection::btree_set(0u32..12, 1..6))
            .prop_map(|(owner, places)| Step::Open { owner, places }),
        8 => (0u64..700).prop_map(|ms| Step::Run { ms }),
        2 => node.clone().prop_map(|node| Step::Release { node }),
        1 => node.clone().prop_map(|node| Step::Kill { node }),
        1 => node.clone().prop_map(|owner| Step::Close { owner }),
        1 => (node.clone(), 0u32..12).prop_map(|(node, index)| Step::Cool { node, index }),
        1 => node.clone().prop_map(|node| Step::Learn { node }),
        3 => node.prop_map(|node| Step::SawClaims { node }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 150,
        ..ProptestConfig::default()
    })]

    /// No node promises more than it has and no token is won twice, whatever is lost, delayed or
    /// killed; the world asserts both at every step. At the end nothing stays reserved or under
    /// way.
    #[test]
    fn random_faults_break_no_promise(
        seed in any::<u64>(),
        loss in 0u64..30,
        left in proptest::collection::vec(0u64..6, 5),
        unknowing in proptest::collection::btree_set(0usize..5, 0..3),
        steps in proptest::collection::vec(any_step(), 1..40),
    ) {
        let mut world = World::new(5, seed);
        left.iter().enumerate().for_each(|(n, left)| world.fill(n, *left));
        for n in &unknowing {
            world.nodes[*n].context.known.clear();
        }
        let mut random = seed | 1;
        world.rule = Box::new(move |_, _, _| {
            // A small generator of its own (xorshift): loss and delays that reorder.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            match random % 100 {
                roll if roll < loss => Delivery::Lose,
                roll if roll < loss + 20 => Delivery::After(Duration::from_millis(random % 1_500)),
                _ => Delivery::Deliver,
            }
        });
        for step in steps {
            match step {
                Step::Open { owner, places } if world.nodes[owner].alive => {
                    let is_free = |index: &u32| world.holders(*index).is_empty();
                    let missing: Vec<u32> = places.into_iter().filter(is_free).collect();
                    let offer = world.offer(missing);
                    world.open(owner, offer);
                }
                Step::Run { ms } => world.run(Duration::from_millis(ms)),
                Step::Release { node } => {
                    if let Some((gone, _)) = world.nodes[node].context.claims.pop_first() {
                        world.free(node, &gone);
                    }
                }
                Step::Kill { node } if world.nodes.iter().filter(|node| node.alive).count() > 2 => {
                    world.kill(node);
                    world.tell_down(node);
                }
                Step::Close { owner } => {
                    world.call(owner, |room, now, context, out| {
                        room.close_all_for(now, &UID, context, out)
                    });
                }
                Step::Cool { node, index } => {
                    let now = world.now;
                    world.nodes[node].room.cool(now, replica(UID, index), GENERATION, "failed");
                }
                Step::Learn { node } => {
                    let known = (SMALL, Ok(()), 0);
                    world.nodes[node].context.known.insert((UID, GENERATION), known);
                    world.call(node, |room, now, context, out| {
                        room.learned(now, &UID, context, out)
                    });
                }
                Step::SawClaims { node } => {
                    let alive: Vec<usize> =
                        (0..5).filter(|other| world.nodes[*other].alive).collect();
                    for other in alive {
                        for (replica, token) in world.nodes[other].context.claims.clone() {
                            world.call(node, |room, now, context, out| {
                                room.saw_claim(now, &replica, &id(other), token, context, out)
                            });
                        }
                    }
                }
                Step::Open { .. } | Step::Kill { .. } => {}
            }
        }
        // At the end nothing is left under way.
        world.run(SECOND * 40);
        world.assert_nothing_reserved();
        for n in (0..5).filter(|n| world.nodes[*n].alive) {
            for index in 0..12 {
                prop_assert!(!world.nodes[n].room.is_under_way(&replica(UID, index)));
            }
            prop_assert!(world.nodes[n].room.poll_timeout().is_none(), "a deadline for nothing");
            prop_assert_eq!(world.count(n, is_misbehaved), 0, "honest nodes accuse none");
        }
    }
}
