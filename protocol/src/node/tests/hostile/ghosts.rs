//! Admissions with the join key, which every device has.

use super::*;
use crate::desired::Desired;
use crate::model::change::MAX_SERIAL;
use crate::trust::ADMISSION_SERIAL;

fn ghost(n: u64) -> NodeId {
    NodeId(Digest::of(&n.to_be_bytes()).0)
}

/// An admission took the greatest serial, and no operator could write above it.
#[test]
fn operators_can_remove_whatever_the_join_key_admits() {
    let harness::Cluster { genesis, join, .. } = cluster();
    let admit = |salt, serial| trust::admit(&genesis, &join, ghost(1), salt, serial);
    for serial in [ADMISSION_SERIAL + 1, MAX_SERIAL] {
        assert!(admit(7, serial).is_err(), "{serial}");
    }
    let wall = WallClock(1_800_000_000_000);
    for change in [admit(7, ADMISSION_SERIAL - 1), trust::admission(&genesis, &join, ghost(1))] {
        let mut desired = Desired::new(Default::default());
        desired.apply(change.unwrap()).unwrap();
        let context = desired.context(&Key::Member(ghost(1)), wall).expect("it can be written");
        assert!(context.serial < MAX_SERIAL / 2, "{context:?}");
    }
}

/// An admission with another salt moved any node to any place of the ring. What counts in the end
/// has the salt that follows from the node, and a node that was moved writes it.
#[test]
fn salt_of_another_node_cannot_be_chosen() {
    let cluster = cluster();
    let harness::Cluster { genesis, join, .. } = &cluster;
    let moved = |node, serial| trust::admit(genesis, join, node, 7, serial);
    assert!(moved(ghost(1), ADMISSION_SERIAL).is_err());
    // The founder was admitted by a program that drew salts.
    let me = cluster.founder(Saved::default()).id();
    let older = trust::admit(genesis, join, me, 5, 1_000).unwrap().raw();
    let mut honest =
        Harness::new(cluster.founder(Saved { changes: vec![older], ..Saved::default() }));
    let salt = |honest: &Harness| honest.node.desired.members().get(&me).copied();
    assert_eq!(salt(&honest), Some(5), "an upgrade moves no node");
    honest.gossip(
        ghost(2),
        Message::Changed { change: moved(me, 2_000).unwrap().raw(), holder: None },
    );
    assert_eq!(salt(&honest), Some(trust::admission_salt(genesis, &me)));
    honest.gossip(
        ghost(2),
        Message::Changed { change: moved(me, ADMISSION_SERIAL - 1).unwrap().raw(), holder: None },
    );
    assert_eq!(salt(&honest), Some(trust::admission_salt(genesis, &me)), "for good");
}

/// Twenty thousand ghosts took every place of the roster in a moment, and an honest device none.
#[test]
fn ghosts_come_at_a_pace_and_honest_devices_join_meanwhile() {
    let cluster = cluster();
    let mut honest = Harness::new(cluster.founder(Saved::default()));
    let mut liar = Liar::new(&cluster, &mut honest, 11);
    liar.lives(&mut honest, Duration::from_secs(20));
    let before = honest.last_batch;
    for n in 0..3_000 {
        let change = trust::admission(&cluster.genesis, &cluster.join, ghost(n)).unwrap().raw();
        liar.says(&mut honest, Message::Changed { change, holder: None });
    }
    let members = honest.node.desired.members().len();
    assert!(members < 1_100, "{members}");
    assert!(honest.last_batch.0 - before.0 < 1_100, "each costs a write");
    let late = cluster.join_member(99, &mut honest);
    assert!(late.node.admitted() && honest.node.is_member(&late.node.id()));
}
