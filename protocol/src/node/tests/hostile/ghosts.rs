//! Admissions with an invite that many devices may use.

use super::*;

fn ghost(n: u64) -> NodeId {
    NodeId(Digest::of(&n.to_be_bytes()).0)
}

/// Twenty thousand ghosts took every place of the roster in a moment, and an honest device none.
#[test]
fn ghosts_come_at_a_pace_and_honest_devices_join_meanwhile() {
    let cluster = cluster();
    let mut honest = Harness::new(cluster.founder(Saved::default()));
    let mut liar = Liar::new(&cluster, &mut honest, 11);
    liar.lives(&mut honest, Duration::from_secs(20));
    let (before, invite) = (honest.last_batch, cluster.invite(2, 10_000));
    let at = trust::serial_at(NOW) + 5;
    for n in 0..3_000 {
        let change = cluster.admitted_by(&liar.keys, &invite, ghost(n), at + n).raw();
        liar.says(&mut honest, Message::Changed { change, holder: None });
    }
    let members = honest.node.desired.members().len();
    assert!((1_000..1_100).contains(&members), "{members}");
    assert!(honest.last_batch.0 - before.0 < 1_100, "each costs a write");
    let late = cluster.join_member(99, &mut honest);
    assert!(late.node.admitted() && honest.node.is_member(&late.node.id()));
}
