//! Which steps are possible when, and how often each is drawn. Of each kind the simplest comes
//! first, because a failing history shrinks towards it.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest_state_machine::ReferenceStateMachine;

use super::state::{Device, Disk, Life, State};
use super::step::{LONG, NAMES, Request, Step, Twist, Workload};

/// Devices in a history at most, joined ones included.
const MOST: usize = 7;
/// Devices of a history that lose their disk, at most: with more, changes held by one other device
/// only would be lost for good.
const MOST_LOST: usize = 2;

/// Generates the steps.
pub struct Reference;

impl ReferenceStateMachine for Reference {
    type State = State;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<State> {
        (any::<u64>().no_shrink(), 3..=5usize)
            .prop_map(|(seed, size)| State::new(seed, size))
            .boxed()
    }

    fn transitions(state: &State) -> BoxedStrategy<Step> {
        let all: Vec<usize> = (0..state.devices.len()).collect();
        let one = |of: fn(&State, usize) -> bool| -> Vec<usize> {
            all.iter().copied().filter(|device| of(state, *device)).collect()
        };
        let runs = one(|state, device| state.devices[device].life == Life::Runs);
        let is_up =
            one(|state, device| matches!(state.devices[device].life, Life::Runs | Life::Paused));
        let can_start = one(|state, device| {
            state.devices[device].life == Life::Stopped && state.devices[device].disk == Disk::Works
        });
        let paused = one(|state, device| state.devices[device].life == Life::Paused);
        let full = one(|state, device| {
            state.devices[device].disk != Disk::Works
                && matches!(state.devices[device].life, Life::Runs | Life::Stopped)
        });
        let left = one(|state, device| state.devices[device].life != Life::Gone);
        let mut kinds: Vec<(u32, BoxedStrategy<Step>)> = vec![
            (6, select(vec![1, 5, 20, LONG]).prop_map(Step::Wait).boxed()),
            (1, Just(Step::Join).boxed()),
            (1, Just(Step::Gossip { is_lost: !state.is_gossip_lost }).boxed()),
        ];
        let mut among =
            |weight: u32,
             devices: Vec<usize>,
             kind: fn(BoxedStrategy<usize>) -> BoxedStrategy<Step>| {
                if !devices.is_empty() {
                    kinds.push((weight, kind(select(devices).boxed())));
                }
            };
        among(14, runs.clone(), asks);
        among(3, can_start, |it| it.prop_map(Step::Start).boxed());
        among(2, is_up.clone(), |it| it.prop_map(Step::Kill).boxed());
        among(1, is_up, |it| it.prop_map(Step::Unplug).boxed());
        among(1, runs.clone(), |it| {
            (it, 0..40u64).prop_map(|(device, back)| Step::Leave(device, back)).boxed()
        });
        among(2, runs.clone(), |it| it.prop_map(Step::Pause).boxed());
        among(2, paused, |it| it.prop_map(Step::Resume).boxed());
        among(1, runs.clone(), |it| {
            (it, 1..8u64).prop_map(|(device, time)| Step::Stall(device, time)).boxed()
        });
        among(1, runs, |it| it.prop_map(Step::Fill).boxed());
        among(1, full, |it| it.prop_map(Step::Free).boxed());
        among(1, left.clone(), |it| it.prop_map(Step::Lose).boxed());
        if state.is_cut {
            kinds.push((3, Just(Step::Mend).boxed()));
        } else if left.len() > 1 {
            let most = left.len() - 1;
            kinds.push((
                2,
                subsequence(left, 1..=most)
                    .prop_map(|them| Step::Cut(them.into_iter().collect()))
                    .boxed(),
            ));
        }
        proptest::strategy::Union::new_weighted(kinds).boxed()
    }

    fn apply(mut state: State, step: &Step) -> State {
        state.take(step);
        state
    }

    fn preconditions(state: &State, step: &Step) -> bool {
        let it = |device: &usize| state.devices.get(*device);
        let lives =
            |device: &usize, lives: &[Life]| it(device).is_some_and(|it| lives.contains(&it.life));
        let works = |device: &usize| it(device).is_some_and(|it| it.disk == Disk::Works);
        match step {
            // These need a member whose disk works, so that the node prepares the write.
            Step::Ask { via, twist: Twist::Overtakes | Twist::Forged, .. } => {
                lives(via, &[Life::Runs]) && works(via) && it(via).is_some_and(|it| it.is_member)
            }
            Step::Ask { via: device, .. }
            | Step::Leave(device, _)
            | Step::Pause(device)
            | Step::Stall(device, _) => lives(device, &[Life::Runs]),
            Step::Kill(device) | Step::Unplug(device) => lives(device, &[Life::Runs, Life::Paused]),
            Step::Start(device) => lives(device, &[Life::Stopped]) && works(device),
            Step::Resume(device) => lives(device, &[Life::Paused]),
            Step::Fill(device) => lives(device, &[Life::Runs]) && works(device),
            Step::Free(device) => !works(device) && lives(device, &[Life::Runs, Life::Stopped]),
            Step::Lose(device) => {
                let lost = state.devices.iter().filter(|it| it.life == Life::Gone).count();
                // The simulator asks for another member with a disk, and does not count the
                // founder, who was never admitted.
                let stays = |(other, it): (usize, &Device)| {
                    other != 0 && other != *device && it.is_member && it.life != Life::Gone
                };
                !lives(device, &[Life::Gone])
                    && state.devices.iter().enumerate().any(stays)
                    && it(device).is_some()
                    && lost < MOST_LOST
                    && state.devices.len() < MOST
            }
            Step::Join => state.devices.len() < MOST,
            Step::Cut(devices) => {
                let is_left = |device: &usize| it(device).is_some_and(|it| it.life != Life::Gone);
                let left: BTreeSet<usize> = (0..state.devices.len()).filter(is_left).collect();
                !state.is_cut
                    && !devices.is_empty()
                    && devices.is_subset(&left)
                    && devices.len() < left.len()
            }
            Step::Mend => state.is_cut,
            Step::Gossip { is_lost } => state.is_gossip_lost != *is_lost,
            Step::Wait(_) => true,
        }
    }
}

/// Requests that a user can make through one of these devices.
fn asks(via: BoxedStrategy<usize>) -> BoxedStrategy<Step> {
    let workload = (1..4u32, 0..5u32, prop::bool::weighted(0.08));
    let workload = workload.prop_map(|(version, replicas, is_huge)| Workload {
        version,
        replicas,
        is_huge,
        // A name that is published again is often of another kind.
        is_stateful: version == 3,
    });
    let publish = (workload, prop::bool::weighted(0.2));
    let publish = publish.prop_map(|(workload, force)| Request::Publish { workload, force });
    let request = prop_oneof![
        6 => publish,
        4 => (0..5u32).prop_map(|replicas| Request::Scale { replicas }),
        3 => Just(Request::Remove),
    ];
    let twist = prop_oneof![
        16 => Just(Twist::None),
        2 => (0..30u32).prop_map(Twist::Dies),
        1 => Just(Twist::Overtakes),
        1 => Just(Twist::Forged),
    ];
    (select(&NAMES[..]), request, via, twist)
        .prop_map(|(name, request, via, twist)| Step::Ask { name, request, via, twist })
        .boxed()
}
