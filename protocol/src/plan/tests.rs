use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::{Digest, NodeId, Place, Time, Token, WallClock};

const CURRENT: Digest = Digest([1; 32]);
const OLD: Digest = Digest([2; 32]);

fn node(n: u8) -> NodeId {
    NodeId([n; 32])
}

fn token(counter: u64) -> Token {
    Token { counter, by: node(99), incarnation: 1 }
}

fn run(replicas: u32) -> Desire {
    Desire::Run { replicas, generation: CURRENT }
}

fn holder(index: u32, n: u8) -> Holder {
    Holder {
        place: Place::Index(index),
        node: node(n),
        token: token(1),
        generation: CURRENT,
        phase: HolderPhase::Healthy,
        state: NodeState::Up,
        yields_to: None,
    }
}

fn never(_: Place) -> Option<Token> {
    None
}

fn down(n: u8) -> Holder {
    Holder { state: NodeState::Down { evidence: "2 of 2 observers".into() }, ..holder(0, n) }
}

#[test]
fn a_fresh_workload_misses_every_place() {
    let gap = plan(&run(3), &[], &never);
    let places: Vec<Place> = gap.missing.iter().map(|missing| missing.place).collect();
    assert_eq!(places, [Place::Index(0), Place::Index(1), Place::Index(2)]);
    assert!(
        gap.missing
            .iter()
            .all(|missing| missing.why == MissingWhy::NeverPlaced && missing.counter == 1)
    );
}

#[test]
fn a_complete_set_has_no_gap() {
    let gap = plan(&run(2), &[holder(1, 5), holder(0, 4)], &never);
    assert!(gap.is_empty(), "{gap:?}");
    assert_eq!(gap.healthy, 2);
}

#[test]
fn a_dead_node_leaves_a_gap_that_names_it_and_a_counter_above_all_seen() {
    let dead = Holder { token: token(7), ..down(3) };
    let gap = plan(&run(1), std::slice::from_ref(&dead), &|_| Some(token(9)));
    assert_eq!(gap.missing[0].counter, 10);
    assert_eq!(gap.missing[0].why.to_string(), "its node 03030303 is down: 2 of 2 observers");
    let gap = plan(&run(1), &[dead], &never);
    assert_eq!(gap.missing[0].counter, 8);
}

#[test]
fn of_two_dead_holders_the_later_one_is_named() {
    let later = Holder { token: token(2), state: NodeState::Left, ..holder(0, 1) };
    let gap = plan(&run(1), &[down(9), later], &never);
    assert_eq!(gap.missing[0].why, MissingWhy::NodeLeft { node: node(1) });
}

#[test]
fn a_place_that_was_given_up_says_so() {
    let gap = plan(&run(1), &[], &|_| Some(token(4)));
    assert_eq!((gap.missing[0].counter, &gap.missing[0].why), (5, &MissingWhy::GivenUp));
}

#[test]
fn what_is_not_well_is_held_not_moved() {
    let until = WallClock(1_000);
    let cases = [
        (Holder { state: NodeState::BackBy { until }, ..holder(0, 1) }, HeldWhy::BackBy { until }),
        (Holder { state: NodeState::Grace, ..holder(0, 1) }, HeldWhy::Grace),
        (
            Holder { generation: OLD, ..holder(0, 1) },
            HeldWhy::OtherGeneration { runs: OLD, wished: CURRENT },
        ),
        (Holder { phase: HolderPhase::Starting, ..holder(0, 1) }, HeldWhy::Starting),
        (
            Holder {
                phase: HolderPhase::Failing { reason: "trap".into(), restarts: 3 },
                ..holder(0, 1)
            },
            HeldWhy::Failing { reason: "trap".into(), restarts: 3 },
        ),
    ];
    for (holder, why) in cases {
        let gap = plan(&run(1), &[holder], &never);
        assert!(gap.missing.is_empty() && gap.surplus.is_empty());
        assert_eq!(gap.held, [Held { place: Place::Index(0), node: node(1), why }]);
        assert_eq!(gap.healthy, 0);
    }
}

#[test]
fn too_many_and_removed_are_stopped_by_their_holders_a_duplicate_is_not() {
    let gap = plan(&run(1), &[holder(0, 1), holder(1, 2)], &never);
    assert_eq!(gap.surplus[0].why, SurplusWhy::AboveReplicas { replicas: 1 });
    assert!(gap.surplus[0].why.stops_at_once());
    let gap = plan(&Desire::Removed, &[holder(0, 1)], &never);
    assert_eq!(gap.surplus[0].why, SurplusWhy::Removed);
    assert!(gap.surplus[0].why.stops_at_once());

    let loser = Holder { yields_to: Some(node(2)), ..holder(0, 1) };
    let gap = plan(&run(1), &[loser, holder(0, 2)], &never);
    assert_eq!(gap.surplus[0].node, node(1));
    assert!(!gap.surplus[0].why.stops_at_once());
    assert_eq!(gap.counted[&Place::Index(0)], node(2));
}

#[test]
fn scaled_to_zero_holds_nothing_and_misses_nothing() {
    let gap = plan(&run(0), &[holder(0, 1)], &never);
    assert!(gap.missing.is_empty() && gap.counted.is_empty());
    assert_eq!(gap.surplus.len(), 1);
}

fn any_holder() -> impl Strategy<Value = Holder> {
    let state = prop_oneof![
        3 => Just(NodeState::Up),
        1 => Just(NodeState::BackBy { until: WallClock(5) }),
        1 => Just(NodeState::Grace),
        2 => Just(NodeState::Down { evidence: "x".into() }),
        1 => Just(NodeState::Left),
    ];
    let phase = prop_oneof![
        Just(HolderPhase::Starting),
        Just(HolderPhase::Healthy),
        Just(HolderPhase::Failing { reason: "r".into(), restarts: 1 }),
    ];
    let yields_to = prop_oneof![2 => Just(None), 1 => (0u8..5).prop_map(|n| Some(node(n)))];
    (0u32..6, 0u8..5, 1u64..9, any::<bool>(), phase, state, yields_to).prop_map(
        |(index, n, counter, old, phase, state, yields_to)| Holder {
            token: token(counter),
            generation: if old { OLD } else { CURRENT },
            phase,
            state,
            yields_to,
            ..holder(index, n)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn missing_and_counted_share_nothing_and_leave_nothing_out(
        replicas in 0u32..6,
        holders in proptest::collection::vec(any_holder(), 0..12),
    ) {
        let gap = plan(&run(replicas), &holders, &never);
        let missing: BTreeSet<Place> = gap.missing.iter().map(|missing| missing.place).collect();
        let counted: BTreeSet<Place> = gap.counted.keys().copied().collect();
        prop_assert_eq!(missing.len(), gap.missing.len());
        prop_assert!(missing.is_disjoint(&counted));
        let all: BTreeSet<Place> = missing.union(&counted).copied().collect();
        prop_assert_eq!(all, (0..replicas).map(Place::Index).collect::<BTreeSet<_>>());
        // A place counts exactly if some holder that is there claims it.
        for place in counted {
            prop_assert!(holders.iter().any(|holder| holder.place == place && holder.state.counts()));
        }
        for missing in &gap.missing {
            prop_assert!(holders.iter().all(|holder| holder.place != missing.place || !holder.state.counts()));
            let above = |holder: &Holder| holder.place != missing.place || holder.token.counter < missing.counter;
            prop_assert!(holders.iter().all(above));
        }
        // Every counted place is healthy or held for one reason, never both.
        prop_assert_eq!(gap.counted.len(), gap.held.len() + gap.healthy as usize);
    }

    #[test]
    fn the_order_of_what_is_known_does_not_matter(
        replicas in 0u32..6,
        (before, after) in proptest::collection::vec(any_holder(), 0..12)
            .prop_flat_map(|holders| (Just(holders.clone()), Just(holders).prop_shuffle())),
    ) {
        prop_assert_eq!(plan(&run(replicas), &before, &never), plan(&run(replicas), &after, &never));
    }
}

fn second(n: u64) -> Time {
    Time::ZERO + Duration::from_secs(100 + n)
}

#[test]
fn one_or_two_losses_do_not_slow_moves() {
    let mut pace = Pace::new(PaceConfig::default());
    pace.lost(second(0), node(1), 2, true);
    pace.lost(second(0), node(2), 1, true);
    assert!((0..100).all(|_| pace.take(second(0), &node(1)).is_ok()));
}

#[test]
fn a_mass_loss_paces_moves_but_refuses_none() {
    let mut pace = Pace::new(PaceConfig::default());
    for n in 0..6 {
        pace.lost(second(0), node(n), 10 - usize::from(n) - 1, true);
    }
    assert!(pace.is_paced(second(0)));
    let mut now = second(0);
    assert_eq!(pace.take(now, &node(1)), Ok(()), "the first is immediate");
    for _ in 0..10 {
        let at = pace.take(now, &node(1)).expect_err("paced");
        assert!(at > now && at.since(now) <= PaceConfig::default().move_every);
        now = at;
        assert_eq!(pace.take(now, &node(1)), Ok(()));
    }
    assert!(!pace.is_paced(second(31)), "by then the loss is real");
}

#[test]
fn half_of_many_is_not_over_half_and_losses_far_apart_do_not_add_up() {
    let mut pace = Pace::new(PaceConfig::default());
    for n in 0..5 {
        pace.lost(second(0), node(n), 10 - usize::from(n) - 1, true);
    }
    assert!(!pace.is_paced(second(0)));
    let mut pace = Pace::new(PaceConfig::default());
    for n in 0..6 {
        pace.lost(second(20 * u64::from(n)), node(n), 10 - usize::from(n) - 1, true);
    }
    assert!(!pace.is_paced(second(100)));
}

#[test]
fn a_healed_cut_ends_the_pace() {
    let mut pace = Pace::new(PaceConfig::default());
    for n in 0..4 {
        pace.lost(second(0), node(n), 1, true);
    }
    assert!(pace.is_paced(second(1)));
    pace.returned(second(1), &node(0));
    assert!(pace.is_paced(second(1)));
    pace.returned(second(1), &node(1));
    assert!(!pace.is_paced(second(1)));
}

/// Two halves of a cluster met again. The first that heard of a workload of the other half held its
/// holder to be down still, and moved what the holder ran; a tenth of a second later the holder was
/// back.
#[test]
fn where_one_returns_the_others_are_waited_for_a_moment_but_not_whoever_is_lost_after_it() {
    let mut pace = Pace::new(PaceConfig::default());
    pace.lost(second(0), node(1), 4, true);
    pace.lost(second(0), node(2), 3, true);
    assert_eq!(pace.take(second(0), &node(2)), Ok(()));
    pace.returned(second(40), &node(1));
    assert_eq!(
        pace.take(second(40), &node(2)),
        Err(second(42)),
        "it was lost with the one that is back"
    );
    assert_eq!(pace.take(second(42), &node(2)), Ok(()));
    pace.lost(second(41), node(3), 3, true);
    assert_eq!(pace.take(second(41), &node(3)), Ok(()), "it was lost when the others were back");
    pace.returned(second(45), &node(1));
    assert_eq!(pace.take(second(45), &node(2)), Ok(()), "one that comes and goes holds up nobody");
    pace.lost(second(60), node(4), 3, false);
    pace.reached(second(60));
    assert_eq!(pace.take(second(60), &node(4)), Ok(()), "it may have been lost just now");
    assert_eq!(
        pace.heals_for(second(60), &node(4)),
        Some(second(62)),
        "it may have been lost long ago, and return"
    );
    assert_eq!(pace.take(second(61), &node(2)), Err(second(62)), "it can be reached again");
    assert_eq!((pace.heals(second(61)), pace.heals(second(62))), (Some(second(62)), None));
    assert!(!pace.is_healed(second(61)) && pace.poll_timeout() == Some(second(62)));
    assert!(pace.is_healed(second(62)) && pace.poll_timeout().is_none());
}
