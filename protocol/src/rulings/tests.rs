use proptest::prelude::*;

use super::*;
use crate::model::WallClock;
use crate::model::codec::Bytes;
use crate::model::ruling::{JobResult, Move, Outcome, Tick};
use crate::model::{ClusterId, KeyPair, NodeId, RulingBody, RulingKind};

fn key(uid: u8, kind: RulingKind, tick: u64) -> RulingKey {
    RulingKey { uid: Digest([uid; 32]), kind, generation: Digest([1; 32]), tick }
}

fn ruling(owner: u8, key: RulingKey, sequence: u64, value: i64) -> Signed<Ruling> {
    let RulingKey { uid, kind, generation, tick } = key;
    let body = match kind {
        RulingKind::RolloutVerdict => RulingBody::RolloutVerdict { is_good: value != 0 },
        RulingKind::CronTick => RulingBody::CronTick(Tick::Started),
        RulingKind::Autoscale => RulingBody::Autoscale { replicas: value as u32 },
        RulingKind::JobResult => RulingBody::JobResult(JobResult {
            outcome: Outcome::Failed,
            exit_code: Some(value as i32),
            ended: WallClock(0),
            lines: Vec::new(),
        }),
        RulingKind::Frontier => RulingBody::Frontier { below: value as u32 },
        RulingKind::Move => RulingBody::Move(Move {
            from: NodeId([1; 32]),
            to: NodeId([2; 32]),
            counter: value as u64,
        }),
        RulingKind::Other(number) => RulingBody::Other(number, Bytes(vec![value as u8])),
    };
    Signed::sign(
        Ruling { uid, generation, tick, sequence, body },
        &KeyPair::from_seed(&[owner; 32]),
        &ClusterId([0; 32]),
    )
}

const NEW: Applied = Applied::New { dropped: None };

fn all(rulings: &Rulings) -> Vec<Signed<Ruling>> {
    rulings.iter().cloned().collect()
}

#[test]
fn greatest_sequence_counts() {
    let mut rulings = Rulings::default();
    let scale = key(1, RulingKind::Autoscale, 0);
    let (first, second) = (ruling(1, scale, 1, 3), ruling(2, scale, 2, 5));
    assert_eq!(rulings.apply(first.clone()), NEW);
    assert_eq!(rulings.apply(first.clone()), Applied::NotNews, "known");
    assert_eq!(rulings.apply(second.clone()), NEW);
    assert_eq!(rulings.apply(first), Applied::NotNews, "older");
    assert_eq!(rulings.get(&scale), Some(&second));
    assert_eq!(rulings.item(&key_hash(&scale)), Some(&second));
    assert_eq!(rulings.digests().collect::<Vec<_>>(), [(key_hash(&scale), second.hash())]);
}

#[test]
fn concurrent_decisions_converge_to_one() {
    let verdict = key(1, RulingKind::RolloutVerdict, 0);
    let (good, bad) = (ruling(1, verdict, 0, 1), ruling(2, verdict, 0, 0));
    let apply = |order: [&Signed<Ruling>; 2]| {
        let mut rulings = Rulings::default();
        for ruling in order {
            rulings.apply(ruling.clone());
        }
        all(&rulings)
    };
    assert_eq!(apply([&good, &bad]).len(), 1);
    assert_eq!(apply([&good, &bad]), apply([&bad, &good]));
}

#[test]
fn forget_drops_all_rulings_of_one_workload() {
    let mut rulings = Rulings::default();
    let (mine, other) = (key(1, RulingKind::CronTick, 60), key(2, RulingKind::CronTick, 60));
    assert_eq!(rulings.apply(ruling(1, mine, 0, 1)), NEW);
    assert_eq!(rulings.apply(ruling(1, other, 0, 1)), NEW);
    assert_eq!(rulings.forget(&mine.uid), [key_hash(&mine)]);
    assert_eq!((rulings.get(&mine), rulings.item(&key_hash(&mine))), (None, None));
    assert_eq!(rulings.of(&other.uid).count(), 1);
    assert!(rulings.forget(&mine.uid).is_empty());
}

#[test]
fn last_ticks_are_kept() {
    let mut rulings = Rulings::new(Config { max_per_kind: 3, ..Config::default() });
    let tick = |tick| ruling(1, key(1, RulingKind::CronTick, tick), 0, 0);
    for kept in [5, 1, 4] {
        assert_eq!(rulings.apply(tick(kept)), NEW);
    }
    assert_eq!(rulings.apply(tick(2)), Applied::New { dropped: Some(key_hash(&tick(1).key())) });
    assert_eq!(rulings.apply(tick(1)), Applied::NotNews, "older than all that is kept");
    let ticks: Vec<u64> = rulings.of(&Digest([1; 32])).map(|ruling| ruling.tick).collect();
    assert_eq!(ticks, [2, 4, 5]);
    assert_eq!(rulings.item(&key_hash(&tick(1).key())), None);
    let other_kind = ruling(1, key(1, RulingKind::JobResult, 1), 0, 0);
    assert_eq!(rulings.apply(other_kind), NEW, "another kind has room of its own");
    assert_eq!(rulings.digests().count(), 4);
}

#[test]
fn full_rulings_refuse_another_workload() {
    let mut rulings = Rulings::new(Config { max_workloads: 1, ..Config::default() });
    let scale = |uid, sequence| ruling(1, key(uid, RulingKind::Autoscale, 0), sequence, 0);
    assert_eq!(rulings.apply(scale(1, 0)), NEW);
    assert_eq!(rulings.apply(scale(2, 0)), Applied::NotNews);
    assert_eq!(rulings.apply(scale(1, 1)), NEW);
    rulings.forget(&Digest([1; 32]));
    assert_eq!(rulings.apply(scale(2, 0)), NEW);
}

#[test]
fn greatest_sequence_is_refused() {
    let mut rulings = Rulings::default();
    let last = ruling(1, key(1, RulingKind::Autoscale, 0), u64::MAX, 0);
    assert_eq!(rulings.apply(last), Applied::NotNews);
}

proptest! {
    #[test]
    fn replicas_converge_whatever_the_order(
        given in proptest::collection::vec((1..4u8, 1..3u8, 0..6u64, 0..3u64, 0..2i64), 1..40),
        turn in 0..40usize,
    ) {
        let made: Vec<Signed<Ruling>> = given
            .iter()
            .map(|(owner, uid, tick, sequence, value)| {
                ruling(*owner, key(*uid, RulingKind::CronTick, *tick), *sequence, *value)
            })
            .collect();
        let apply = |order: &mut dyn Iterator<Item = &Signed<Ruling>>| {
            let mut rulings = Rulings::new(Config { max_per_kind: 4, ..Config::default() });
            for ruling in order {
                rulings.apply(ruling.clone());
            }
            rulings
        };
        let turned = made.iter().cycle().skip(turn).take(made.len() * 2);
        let (one, other) = (apply(&mut made.iter()), apply(&mut made.iter().rev().chain(turned)));
        // A ruling that was dropped because its kind was full may be missing until the other
        // replica sends it again.
        let mut left = one;
        let mut right = other;
        for _ in 0..3 {
            for ruling in all(&left) {
                right.apply(ruling);
            }
            for ruling in all(&right) {
                left.apply(ruling);
            }
        }
        prop_assert_eq!(all(&left), all(&right));
        prop_assert!(left.digests().eq(right.digests()));
    }
}
