use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::claim::Update;
use crate::model::{Digest, NodeId, Phase, Place, Revision, Time, Token, WallClock};

const CURRENT: Digest = Digest([1; 32]);
const OLD: Digest = Digest([2; 32]);

fn node(n: u8) -> NodeId {
    NodeId([n; 32])
}

fn token(counter: u64) -> Token {
    Token { counter, by: node(99), incarnation: 1 }
}

fn run(replicas: u32) -> BTreeMap<Place, Revision> {
    (0..replicas).map(|index| (Place::Ordinal(index), CURRENT)).collect()
}

fn holder(index: u32, n: u8) -> Holder {
    Holder {
        place: Place::Ordinal(index),
        node: node(n),
        token: token(1),
        revision: CURRENT,
        phase: Phase::Healthy,
        update: None,
        state: NodeState::Up,
        leaves: None,
        due: true,
        yields_to: None,
    }
}

fn never(_: Place) -> Option<Token> {
    None
}

fn down(n: u8) -> Holder {
    Holder { state: NodeState::Down { evidence: "2 of 2 observers".into() }, ..holder(0, n) }
}

fn only_auction(steps: &[Step]) -> (u64, &Free) {
    let [Step::Auction { counter, why, .. }] = steps else { panic!("{steps:?}") };
    (*counter, why)
}

#[test]
fn fresh_workload_auctions_every_place() {
    let steps = plan(&run(3), &[], &never);
    let auction = |index| Step::Auction {
        place: Place::Ordinal(index),
        revision: CURRENT,
        counter: 1,
        why: Free::NeverPlaced,
        home: None,
    };
    assert_eq!(steps, [auction(0), auction(1), auction(2)]);
}

#[test]
fn complete_set_has_no_steps() {
    assert_eq!(plan(&run(2), &[holder(1, 5), holder(0, 4)], &never), []);
}

/// The counter is above all that were seen, so that a claim of the dead node never beats the new
/// one.
#[test]
fn free_place_names_the_dead_node_and_a_higher_counter() {
    let dead = Holder { token: token(7), ..down(3) };
    let steps = plan(&run(1), std::slice::from_ref(&dead), &|_| Some(token(9)));
    let (counter, why) = only_auction(&steps);
    assert_eq!(counter, 10);
    assert_eq!(why.to_string(), "its node 03030303 is down: 2 of 2 observers");
    assert_eq!(only_auction(&plan(&run(1), &[dead], &never)).0, 8);
}

#[test]
fn later_of_two_dead_holders_is_named() {
    let later = Holder { token: token(2), state: NodeState::Left, ..holder(0, 1) };
    let steps = plan(&run(1), &[down(9), later], &never);
    assert_eq!(only_auction(&steps).1, &Free::NodeLeft { node: node(1) });
}

#[test]
fn released_place_is_named_as_given_up() {
    let steps = plan(&run(1), &[], &|_| Some(token(4)));
    assert_eq!(only_auction(&steps), (5, &Free::GivenUp));
}

/// A place whose holder is away for a moment, starts or fails is not auctioned: the holder keeps
/// trying.
#[test]
fn unhealthy_place_waits_for_its_holder() {
    let until = WallClock(1_000);
    let cases = [
        (Holder { state: NodeState::BackBy { until }, ..holder(0, 1) }, Waiting::BackBy { until }),
        (Holder { state: NodeState::Grace, ..holder(0, 1) }, Waiting::Grace),
        (Holder { phase: Phase::Starting, ..holder(0, 1) }, Waiting::Starting),
        (Holder { phase: Phase::Other(9), ..holder(0, 1) }, Waiting::OtherPhase),
        (
            Holder { phase: Phase::Waiting { reason: "no port".into() }, ..holder(0, 1) },
            Waiting::NotYet { reason: "no port".into() },
        ),
        (
            Holder { phase: Phase::Failing { reason: "trap".into(), restarts: 3 }, ..holder(0, 1) },
            Waiting::Failing { reason: "trap".into(), restarts: 3 },
        ),
    ];
    for (holder, why) in cases {
        let steps = plan(&run(1), &[holder], &never);
        assert_eq!(steps, [Step::Wait { place: Place::Ordinal(0), node: node(1), why }]);
    }
}

/// The old revision serves until its holder has the new one ready. The holder replaces it, and the
/// place is not auctioned.
#[test]
fn other_revision_is_replaced_by_its_holder() {
    let failing =
        Update { revision: CURRENT, phase: Phase::Failing { reason: "trap".into(), restarts: 1 } };
    let waits = Update { revision: CURRENT, phase: Phase::Waiting { reason: "no port".into() } };
    let of_another = Update { revision: Digest([3; 32]), phase: Phase::Starting };
    for (update, progress, words) in [
        (None, None, "runs generation 02020202, is to be replaced there by 01010101"),
        (Some(of_another), None, "runs generation 02020202, is to be replaced there by 01010101"),
        (
            Some(waits.clone()),
            Some(waits),
            "generation 02020202 runs until its replacement 01010101 is ready there: no port",
        ),
        (
            Some(failing.clone()),
            Some(failing),
            "generation 02020202 keeps running: its replacement 01010101 fails there, tried again \
                1 times: trap",
        ),
    ] {
        let steps = plan(&run(1), &[Holder { revision: OLD, update, ..holder(0, 1) }], &never);
        let (place, node) = (Place::Ordinal(0), node(1));
        let step =
            Step::Replace { place, node, from: OLD, to: CURRENT, progress: progress.clone() };
        assert_eq!(steps, [step]);
        assert_eq!(replacing(&OLD, &CURRENT, progress.as_ref()), words);
    }
}

#[test]
fn surplus_claims_are_stopped_by_their_holders() {
    let stop = |index, n, why| Step::Stop { place: Place::Ordinal(index), node: node(n), why };
    let steps = plan(&run(1), &[holder(0, 1), holder(1, 2)], &never);
    assert_eq!(steps, [stop(1, 2, Surplus::NoSuchPlace { places: 1 })]);
    let steps = plan_place(Place::Ordinal(0), Wanted::Removed, &[holder(0, 1)], &never);
    assert_eq!(steps, [stop(0, 1, Surplus::Removed)]);
    let loser = Holder { yields_to: Some(node(2)), ..holder(0, 1) };
    let steps = plan(&run(1), &[loser, holder(0, 2)], &never);
    assert_eq!(steps, [stop(0, 1, Surplus::Duplicate { keeper: node(2) })]);
}

#[test]
fn workload_scaled_to_zero_only_stops() {
    let steps = plan(&run(0), &[holder(0, 1)], &never);
    assert!(matches!(steps[..], [Step::Stop { .. }]), "{steps:?}");
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
        Just(Phase::Starting),
        Just(Phase::Waiting { reason: "w".into() }),
        Just(Phase::Healthy),
        Just(Phase::Other(7)),
        Just(Phase::Failing { reason: "r".into(), restarts: 1 }),
    ];
    let yields_to = prop_oneof![2 => Just(None), 1 => (0u8..5).prop_map(|n| Some(node(n)))];
    (0u32..6, 0u8..5, 1u64..9, any::<bool>(), phase, state, yields_to).prop_map(
        |(index, n, counter, old, phase, state, yields_to)| Holder {
            token: token(counter),
            revision: if old { OLD } else { CURRENT },
            phase,
            state,
            yields_to,
            ..holder(index, n)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Each place is either auctioned, above every counter that was seen, or held by a node that
    /// counts. A place without a step runs the right revision, healthy, on a node that is up.
    #[test]
    fn every_place_is_auctioned_or_held(
        replicas in 0u32..6,
        holders in proptest::collection::vec(any_holder(), 0..12),
    ) {
        let places = run(replicas);
        let steps = plan(&places, &holders, &never);
        prop_assert!(steps.is_sorted_by_key(|step| (step.place(), step.node())));
        for place in places.keys() {
            let here = || holders.iter().filter(|holder| holder.place == *place);
            let steps: Vec<&Step> = steps.iter().filter(|step| step.place() == *place).collect();
            let held = here().any(|holder| holder.state.counts());
            let unhealthy = steps.iter().filter(|step| step.is_unhealthy()).count();
            prop_assert!(unhealthy <= 1, "one reason for each place: {:?}", steps);
            match &steps[..] {
                [Step::Auction { counter, .. }] => {
                    prop_assert!(!held);
                    prop_assert!(here().all(|holder| holder.token.counter < *counter));
                }
                steps => {
                    prop_assert!(held);
                    let auctioned = steps.iter().any(|step| matches!(step, Step::Auction { .. }));
                    prop_assert!(!auctioned);
                }
            }
            let is_well = |holder: &Holder| {
                holder.state == NodeState::Up
                    && holder.phase == Phase::Healthy
                    && holder.revision == CURRENT
            };
            prop_assert!(unhealthy == 1 || here().any(is_well));
        }
        for step in &steps {
            let gone = !places.contains_key(&step.place());
            prop_assert!(!gone || matches!(step, Step::Stop { .. }), "{:?}", step);
        }
    }

    #[test]
    fn order_of_the_holders_does_not_matter(
        replicas in 0u32..6,
        (before, after) in proptest::collection::vec(any_holder(), 0..12)
            .prop_flat_map(|holders| (Just(holders.clone()), Just(holders).prop_shuffle())),
    ) {
        let places = run(replicas);
        prop_assert_eq!(plan(&places, &before, &never), plan(&places, &after, &never));
    }

    /// A holder plans its place alone, an owner all places. Both get the same steps.
    #[test]
    fn one_place_and_all_places_give_the_same_steps(
        replicas in 0u32..6,
        holders in proptest::collection::vec(any_holder(), 0..12),
    ) {
        let places = run(replicas);
        let steps = plan(&places, &holders, &never);
        for place in (0..6).map(Place::Ordinal) {
            let wanted = match places.get(&place) {
                Some(revision) => Wanted::Revision(*revision),
                None => Wanted::NoSuchPlace { places: replicas },
            };
            let alone = plan_place(place, wanted, &holders, &never);
            let here: Vec<Step> =
                steps.iter().filter(|step| step.place() == place).cloned().collect();
            prop_assert_eq!(alone, here);
        }
    }
}

fn second(n: u64) -> Time {
    Time::ZERO + Duration::from_secs(100 + n)
}

#[test]
fn one_or_two_losses_do_not_throttle_moves() {
    let mut throttle = RescueThrottle::new(RescueThrottleConfig::default());
    throttle.lost(second(0), node(1), 2, true);
    throttle.lost(second(0), node(2), 1, true);
    assert!((0..100).all(|_| throttle.take(second(0), &node(1)).is_ok()));
}

#[test]
fn mass_loss_throttles_moves_but_refuses_none() {
    let mut throttle = RescueThrottle::new(RescueThrottleConfig::default());
    for n in 0..6 {
        throttle.lost(second(0), node(n), 10 - usize::from(n) - 1, true);
    }
    assert!(throttle.is_throttled(second(0)));
    let mut now = second(0);
    assert_eq!(throttle.take(now, &node(1)), Ok(()), "the first is immediate");
    for _ in 0..10 {
        let at = throttle.take(now, &node(1)).expect_err("paced");
        assert!(at > now && at.since(now) <= RescueThrottleConfig::default().move_every);
        now = at;
        assert_eq!(throttle.take(now, &node(1)), Ok(()));
    }
    assert!(!throttle.is_throttled(second(31)), "by then the loss is real");
}

/// Half of the nodes is not more than half, and losses that are far apart do not add up.
#[test]
fn only_a_sudden_loss_of_most_nodes_throttles() {
    let mut throttle = RescueThrottle::new(RescueThrottleConfig::default());
    for n in 0..5 {
        throttle.lost(second(0), node(n), 10 - usize::from(n) - 1, true);
    }
    assert!(!throttle.is_throttled(second(0)));
    let mut throttle = RescueThrottle::new(RescueThrottleConfig::default());
    for n in 0..6 {
        throttle.lost(second(20 * u64::from(n)), node(n), 10 - usize::from(n) - 1, true);
    }
    assert!(!throttle.is_throttled(second(100)));
}

#[test]
fn healed_cut_ends_throttling() {
    let mut throttle = RescueThrottle::new(RescueThrottleConfig::default());
    for n in 0..4 {
        throttle.lost(second(0), node(n), 1, true);
    }
    assert!(throttle.is_throttled(second(1)));
    throttle.returned(second(1), &node(0));
    assert!(throttle.is_throttled(second(1)));
    throttle.returned(second(1), &node(1));
    assert!(!throttle.is_throttled(second(1)));
}

/// Two halves of a cluster met again. An owner still held a node of the other half to be down and
/// moved what that ran; a tenth of a second later the node was back. After a return the owner waits
/// a moment for the nodes that were lost before it, and not for those that are lost after it.
#[test]
fn nodes_lost_before_a_returned_one_get_a_moment() {
    let mut throttle = RescueThrottle::new(RescueThrottleConfig::default());
    throttle.lost(second(0), node(1), 4, true);
    throttle.lost(second(0), node(2), 3, true);
    assert_eq!(throttle.take(second(0), &node(2)), Ok(()));
    throttle.returned(second(40), &node(1));
    assert_eq!(
        throttle.take(second(40), &node(2)),
        Err(second(42)),
        "it was lost before the one that is back"
    );
    assert_eq!(throttle.take(second(42), &node(2)), Ok(()));
    throttle.lost(second(41), node(3), 3, true);
    assert_eq!(throttle.take(second(41), &node(3)), Ok(()), "it was lost after the return");
    throttle.returned(second(45), &node(1));
    assert_eq!(
        throttle.take(second(45), &node(2)),
        Ok(()),
        "a node that comes and goes delays nothing"
    );
    throttle.lost(second(60), node(4), 3, false);
    throttle.reached(second(60));
    assert_eq!(throttle.take(second(60), &node(4)), Ok(()), "it may have been lost just now");
    assert_eq!(
        throttle.may_return_until(second(60), &node(4)),
        Some(second(62)),
        "it may have been lost long ago, and return"
    );
    assert_eq!(throttle.take(second(61), &node(2)), Err(second(62)), "it can be reached again");
    assert_eq!(
        (throttle.heals_until(second(61)), throttle.heals_until(second(62))),
        (Some(second(62)), None)
    );
    assert!(!throttle.end_healing(second(61)) && throttle.poll_timeout() == Some(second(62)));
    assert!(throttle.end_healing(second(62)) && throttle.poll_timeout().is_none());
}

/// A place that is to move is auctioned to the node that it moves to, and only while it runs well
/// where it is.
#[test]
fn place_that_moves_is_offered_to_one_node_while_it_is_healthy() {
    let moves = Holder { leaves: Some(Leaves::Moves { to: node(3) }), ..holder(0, 1) };
    let steps = plan(&run(1), std::slice::from_ref(&moves), &never);
    assert_eq!(only_auction(&steps), (2, &Free::Moves { node: node(1), to: node(3) }));
    assert!(!steps[0].is_unhealthy() && steps[0].is_move());
    assert!(steps[0].may_run_at(&node(3)) && !steps[0].may_run_at(&node(2)));
    let starts = Holder { phase: Phase::Starting, ..moves.clone() };
    let steps = plan(&run(1), &[starts], &never);
    assert!(matches!(steps[..], [Step::Wait { why: Waiting::Starting, .. }]), "{steps:?}");
    let outdated = Holder { revision: OLD, ..moves };
    let steps = plan(&run(1), &[outdated], &never);
    assert!(matches!(steps[..], [Step::Replace { .. }]), "it is replaced first: {steps:?}");
}

/// A place on a node that is drained is auctioned under a new token, and its holder is told nothing
/// until another one has it; then only the other one is kept.
#[test]
fn place_on_a_drained_node_is_auctioned_while_it_is_held() {
    let drained = Holder { leaves: Some(Leaves::Drained), ..holder(0, 1) };
    let steps = plan(&run(1), std::slice::from_ref(&drained), &never);
    let (counter, why) = only_auction(&steps);
    assert_eq!((counter, why), (2, &Free::Drained { node: node(1), healthy: true }));
    assert!(!steps[0].is_unhealthy() && steps[0].is_move());

    let starts = Holder { token: token(2), phase: Phase::Starting, ..holder(0, 2) };
    let old = Holder { yields_to: Some(node(2)), ..drained.clone() };
    let steps = plan(&run(1), &[old.clone(), starts.clone()], &never);
    let stop = Step::Stop {
        place: Place::Ordinal(0),
        node: node(1),
        why: Surplus::Duplicate { keeper: node(2) },
    };
    let wait = Step::Wait { place: Place::Ordinal(0), node: node(2), why: Waiting::Starting };
    assert_eq!(steps, [stop, wait]);

    let outdated = Holder { revision: OLD, ..drained };
    let steps = plan(&run(1), &[outdated], &never);
    assert!(matches!(steps[..], [Step::Replace { .. }]), "it is replaced first: {steps:?}");
}

/// A holder without a place for the new revision keeps the old one, and another node is looked for;
/// once that has it, the holder is to stop.
#[test]
fn place_without_room_for_the_new_revision_is_auctioned_while_the_old_one_serves() {
    let outgrown = Holder {
        revision: OLD,
        update: Some(Update::refused(CURRENT, "it finds no room")),
        leaves: Some(Leaves::Outgrown),
        ..holder(0, 1)
    };
    let steps = plan(&run(1), std::slice::from_ref(&outgrown), &never);
    let why = Free::Outgrown { node: node(1), why: "it finds no room".into() };
    assert_eq!(only_auction(&steps), (2, &why));
    assert!(steps[0].is_unhealthy() && steps[0].is_move());

    let later = Holder { due: false, ..outgrown.clone() };
    let steps = plan(&run(1), &[later], &never);
    assert!(matches!(steps[..], [Step::Wait { why: Waiting::Turn { .. }, .. }]), "{steps:?}");

    let home = Home { counter: 1, node: node(1), volume: "data".into() };
    let steps = plan(&run(1), std::slice::from_ref(&outgrown), &never);
    let bound = bind(steps[0].clone(), Some((home, NodeState::Up)), false);
    assert!(matches!(bound, Step::Wait { why: Waiting::NotYet { .. }, .. }), "its data: {bound:?}");

    let takes = Holder { token: token(2), phase: Phase::Starting, ..holder(0, 2) };
    let old = Holder { yields_to: Some(node(2)), ..outgrown };
    let steps = plan(&run(1), &[old, takes], &never);
    assert!(matches!(steps[..], [Step::Stop { .. }, Step::Wait { .. }]), "{steps:?}");
}
