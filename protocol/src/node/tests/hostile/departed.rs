//! What a member leaves behind when it is revoked.

use super::*;
use crate::model::{PublicKey, Ruling, RulingBody};

/// An honest node, and a liar that has said this version of its slot, its record and a ruling.
fn scene(cluster: &harness::Cluster, version: u64) -> (Harness, Liar) {
    let mut honest = Harness::new(cluster.founder(Saved::default()));
    let liar = Liar::new(cluster, &mut honest, 11);
    honest.publish(cluster, &spec(1, 32 << 20));
    let slot = Slot { slot: 3, counter: version, claims: Vec::new(), newer: Vec::new() };
    liar.says(&mut honest, Message::Slot(liar.sign(cluster, slot)));
    let record = liar.record(cluster, 1 + version, "liar");
    liar.says(&mut honest, Message::Membership(Word::Record(record)));
    rules(cluster, &mut honest, &liar, version);
    (honest, liar)
}

fn rules(cluster: &harness::Cluster, honest: &mut Harness, liar: &Liar, sequence: u64) {
    let workload = honest.node.desired.workload(&"web".parse().unwrap()).unwrap();
    let (uid, generation) = (workload.uid, workload.generation);
    let body = RulingBody::Autoscale { replicas: 3 };
    let ruling = Ruling { uid, generation, tick: 0, sequence, body };
    liar.says(honest, Message::Ruled(liar.sign(cluster, ruling)));
}

/// The slots, the record and the rulings of a revoked node stayed in the comparisons, in the
/// version that each node knew last, and no node took another version any more: so nodes that had
/// not heard the same of it never agreed again. After a restart its slots were back.
#[test]
fn nodes_agree_after_the_revocation_of_a_member() {
    let cluster = cluster();
    let roots = [1, 2].map(|version| {
        let (mut honest, liar) = scene(&cluster, version);
        assert_eq!(honest.node.rulings.iter().count(), 1);
        let change = cluster.revocation(PublicKey(liar.id.0), u64::MAX >> 2, false).raw();
        honest.gossip(honest.node.id(), Message::Changed { change, holder: None });
        assert!(!honest.node.is_member(&liar.id));
        assert_eq!(honest.node.rulings.iter().count(), 0, "what it decided goes with it");
        let again = Harness::new(cluster.founder(saved(&honest.records)));
        (honest.node.roots(), again.node.roots(), again.node.rulings.iter().count())
    });
    assert_eq!(roots[0], roots[1]);
    assert_eq!(roots[0].2, 0);
}

/// A decision outlives the member that made it, so a node takes it that hears of it only after that
/// member was removed.
#[test]
fn rulings_of_a_removed_member_are_taken() {
    let cluster = cluster();
    let (mut honest, liar) = scene(&cluster, 1);
    let change = cluster.removal(liar.id).raw();
    honest.gossip(honest.node.id(), Message::Changed { change, holder: None });
    assert!(!honest.node.is_member(&liar.id));
    let other = honest.node.id();
    let workload = honest.node.desired.workload(&"web".parse().unwrap()).unwrap();
    let (uid, generation) = (workload.uid, workload.generation);
    let body = RulingBody::Autoscale { replicas: 2 };
    let ruling = Ruling { uid, generation, tick: 0, sequence: 9, body };
    honest.gossip(other, Message::Ruled(liar.sign(&cluster, ruling)));
    assert_eq!(honest.node.rulings.iter().next().map(|it| it.sequence), Some(9));
}
