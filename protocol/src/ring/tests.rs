use proptest::prelude::*;

use super::*;

fn node(n: u16) -> NodeId {
    NodeId(Digest::of_parts(&[b"node", &n.to_be_bytes()]).0)
}

fn key(n: u32) -> Probes {
    Probes::of(&Digest::of_parts(&[b"key", &n.to_be_bytes()]))
}

fn ring(nodes: u16) -> Ring {
    Ring::new((0..nodes).map(|n| (node(n), u64::from(n) * 7)))
}

/// Every cluster in the field ranks by these numbers. If they differed on a platform or in a
/// release, two nodes would own the same workload. The values were computed by another program from
/// the definition.
#[test]
fn ring_positions_do_not_change() {
    assert_eq!(point(&NodeId([1; 32]), 42), 0xa31e_744b_d155_a812);
    let probes = Probes::of(&Digest([2; 32])).0;
    assert_eq!(probes[0], 0x26b7_253b_c410_55dd);
    assert_eq!(probes[3], 0xaf14_543a_6ef7_b98e, "the last of the first hash");
    assert_eq!(probes[4], 0x6ad1_11ff_71e4_d718, "the first of the second hash");
    assert_eq!(probes[20], 0x7f79_0714_1149_60cc);
    let ring = Ring::new((0..10).map(|n| (NodeId([n; 32]), u64::from(n))));
    let ranked: Vec<u8> =
        ring.guardians(&Probes::of(&Digest([3; 32])), 10).iter().map(|node| node.0[0]).collect();
    assert_eq!(ranked, [7, 3, 6, 4, 2, 0, 9, 8, 5, 1]);
}

#[test]
fn empty_ring_has_no_owner_and_lone_node_owns_all() {
    assert_eq!(Ring::default().owner(&key(1)), None);
    assert!(Ring::default().guardians(&key(1), 3).is_empty());
    let alone = ring(1);
    assert!(
        (0..50)
            .all(|n| alone.owner(&key(n)) == Some(node(0))
                && alone.guardians(&key(n), 3) == [node(0)])
    );
}

#[test]
fn busiest_of_a_hundred_nodes_is_near_average() {
    let ring = ring(100);
    let mut owned: BTreeMap<NodeId, u32> = BTreeMap::new();
    for n in 0..20_000 {
        *owned.entry(ring.owner(&key(n)).unwrap()).or_default() += 1;
    }
    // 200 keys a node: chance alone makes the busiest of a hundred some 18 % busier than the
    // average.
    let most = owned.values().max().unwrap();
    assert!(*most < 270, "{most} keys on the busiest, 200 on average");
    assert_eq!(owned.len(), 100, "nobody idles");
}

#[test]
fn other_salt_moves_the_node() {
    let mut one = ring(20);
    let before: Vec<_> = (0..200).map(|n| one.owner(&key(n))).collect();
    assert!(!one.insert(node(3), 21), "the same salt changes nothing");
    assert!(one.insert(node(3), 99));
    assert_eq!(one.len(), 20);
    assert_ne!(before, (0..200).map(|n| one.owner(&key(n))).collect::<Vec<_>>());
}

proptest! {
    #[test]
    fn newcomer_takes_keys_and_moves_none_between_others(nodes in 1u16..40, seed in any::<u16>()) {
        let before = ring(nodes);
        let mut after = before.clone();
        let newcomer = node(seed | 0x8000);
        after.insert(newcomer, 5);
        for n in 0..60 {
            let (old, new) = (before.guardians(&key(n), 3), after.guardians(&key(n), 3));
            let others: Vec<NodeId> =
                new.iter().copied().filter(|node| *node != newcomer).collect();
            prop_assert_eq!(&old[..others.len()], &others[..], "the others keep their order");
        }
    }

    #[test]
    fn next_guardian_inherits(nodes in 2u16..40, n in any::<u32>()) {
        let before = ring(nodes);
        let mut after = before.clone();
        let guardians = before.guardians(&key(n), 4);
        after.remove(&guardians[0]);
        prop_assert_eq!(&after.guardians(&key(n), 3)[..], &guardians[1..]);
        prop_assert_eq!(after.owner(&key(n)), Some(guardians[1]));
    }

    #[test]
    fn order_of_ring_changes_does_not_matter(
        mut nodes in proptest::collection::btree_set(0u16..60, 1..30),
        gone in 0u16..60,
    ) {
        let mut built = Ring::default();
        for n in nodes.iter().rev().chain([&gone]) {
            built.insert(node(*n), u64::from(*n) * 7);
        }
        built.remove(&node(gone));
        nodes.remove(&gone);
        let at_once = Ring::new(nodes.iter().map(|n| (node(*n), u64::from(*n) * 7)));
        prop_assert_eq!(&built, &at_once);
        for n in 0..20 {
            let all = at_once.guardians(&key(n), 100);
            prop_assert_eq!(all.len(), nodes.len(), "every node is ranked once");
            prop_assert_eq!(at_once.owner(&key(n)), all.first().copied());
        }
    }
}
