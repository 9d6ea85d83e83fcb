//! Random histories against a naive model: replicas converge to what the model says.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// A step of a random history: an author writes through a node that knows some of the changes
/// written before.
#[derive(Clone, Debug)]
struct Step {
    author: u8,
    key: u8,
    node: usize,
    action: u8,
    wall: u64,
    learns_from: usize,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (1..4u8, 0..3u8, 0..3usize, 0..8u8, 0..4u64, 0..3usize).prop_map(
        |(author, key, node, action, wall, learns_from)| Step {
            author,
            key,
            node,
            action,
            wall,
            learns_from,
        },
    );
    proptest::collection::vec(step, 1..40)
}

fn key_of(number: u8) -> Key {
    if number == 2 { Key::Member(NodeId([1; 32])) } else { key(["a", "b"][usize::from(number)]) }
}

/// Plays `steps` on three nodes that exchange changes now and then, and returns all changes
/// written, in order.
fn play(steps: &[Step]) -> Vec<Change> {
    let mut nodes: Vec<Desired> = (0..3).map(|_| Desired::default()).collect();
    let mut written = Vec::new();
    for step in steps {
        if step.action == 0 {
            let known = hashes(&nodes[step.learns_from]);
            for change in written.iter().filter(|change: &&Change| known.contains(&change.hash())) {
                nodes[step.node].apply(change.clone()).unwrap();
            }
            continue;
        }
        let key = key_of(step.key);
        let value = match (&key, step.action) {
            (_, 1 | 2) => Value::Tombstone,
            (Key::Workload(name), replicas) => workload(&name.to_string(), u32::from(replicas)),
            (Key::Member(_), salt) => Value::Member { salt: u64::from(salt) },
            (_, _) => unreachable!("the keys are this program's"),
        };
        // Wall clocks go back and forth: 1970, now, later.
        let wall = WallClock([0, 1, NOW.0, NOW.0 + 1][step.wall as usize]);
        let change = author(step.author).write_at(&nodes[step.node], &key, value, wall);
        nodes[step.node].apply(change.clone()).unwrap();
        written.push(change);
    }
    written
}

fn hashes(desired: &Desired) -> BTreeSet<Digest> {
    desired.iter().flat_map(|(_, changes)| changes).map(|raw| raw.change.hash()).collect()
}

/// The changes that must remain, computed naively: those that no other has seen, and of equal
/// clocks the greatest.
fn maximal(changes: &[Change]) -> BTreeSet<Digest> {
    let beats = |a: &Change, b: &Change| {
        let sees = b
            .signed
            .clock
            .iter()
            .all(|(writer, serial)| a.signed.clock.get(writer) >= Some(serial));
        let same = a.signed.clock == b.signed.clock;
        a.signed.key == b.signed.key && if same { a.precedence() > b.precedence() } else { sees }
    };
    changes.iter().filter(|b| !changes.iter().any(|a| beats(a, b))).map(Change::hash).collect()
}

/// Clocks that no honest author makes, within what `trust` lets pass: own entry the greatest, none
/// zero, dots used twice.
fn wild_changes() -> impl Strategy<Value = Vec<(u8, [u64; 4], u32)>> {
    proptest::collection::vec((0..4u8, [0..4u64, 0..4, 0..4, 0..4], 0..3u32), 1..24)
}

fn wild(own: u8, entries: [u64; 4], replicas: u32) -> Change {
    let serial = entries.iter().max().unwrap() + 1;
    let mut clock: Vec<(u8, u64)> = (0..4).zip(entries).filter(|(_, serial)| *serial > 0).collect();
    clock.retain(|(writer, _)| *writer != own);
    clock.push((own, serial));
    author(own).write_with(&key("web"), &clock, workload("web", replicas))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn replicas_converge_whatever_the_order(steps in steps(), seed: u64) {
        let written = play(&steps);
        let expected = replica(&written);
        prop_assert_eq!(hashes(&expected), maximal(&written));
        let mut twice = written.clone();
        twice.extend_from_slice(&written);
        for i in 0..3 {
            let other = replica(&shuffled(&twice, seed.wrapping_add(i)));
            prop_assert_eq!(bytes(&other), bytes(&expected));
            prop_assert_eq!(other.members(), expected.members());
            prop_assert!(other.workloads().eq(expected.workloads()));
            prop_assert!(other.digests().eq(expected.digests()));
        }
    }

    #[test]
    fn replicas_converge_even_when_authors_cheat(wild_ones in wild_changes(), seed: u64) {
        let changes: Vec<Change> =
            wild_ones.into_iter().map(|(own, clock, value)| wild(own, clock, value)).collect();
        let expected = replica(&changes);
        prop_assert_eq!(hashes(&expected), maximal(&changes));
        for i in 0..3 {
            let other = replica(&shuffled(&changes, seed.wrapping_add(i)));
            prop_assert_eq!(bytes(&other), bytes(&expected));
        }
    }

    #[test]
    fn changes_seen_by_a_removal_stay_removed(steps in steps(), seed: u64) {
        let before = play(&steps);
        let mut desired = replica(&before);
        let removals: Vec<Change> = (0..3)
            .map(|number| author(9).write(&desired, &key_of(number), Value::Tombstone))
            .collect();
        for removal in &removals {
            desired.apply(removal.clone()).unwrap();
        }
        // Old writes come from a node that was away, mixed with the removals.
        for change in shuffled(&[before, removals].concat(), seed) {
            desired.apply(change).unwrap();
        }
        prop_assert_eq!(desired.workloads().count(), 0);
        prop_assert!(desired.members().is_empty());
    }

    #[test]
    fn views_follow_the_effective_changes(steps in steps()) {
        let desired = replica(&play(&steps));
        for number in 0..2 {
            let key = key_of(number);
            let Key::Workload(name) = &key else { unreachable!("0 and 1 are workloads") };
            let expected = desired.effective(&key).and_then(|change| change.signed.value.spec());
            let found = desired.workload(name).map(|workload| &workload.spec);
            prop_assert_eq!(found, expected.as_ref());
        }
        let removed =
            desired.siblings(&key_of(2)).any(|change| change.signed.value == Value::Tombstone);
        let admitted = desired.effective(&key_of(2)).is_some();
        prop_assert_eq!(desired.members().len(), usize::from(admitted && !removed));
    }
}
