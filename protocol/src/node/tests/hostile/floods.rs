//! Statements without end, and texts for terminals.

use super::*;
use crate::model::codec::Bytes;
use crate::model::{Ruling, RulingBody, Slot};

/// As many words about artifacts that do not exist as a node remembers: it fetched nothing
/// any more.
#[test]
fn words_about_artifacts_do_not_stop_fetching() {
    let cluster = cluster();
    let mut honest = Harness::new(cluster.founder(Saved::default()));
    let mut liar = Liar::new(&cluster, &mut honest, 11);
    for n in 0..4_096u64 {
        let digest = Digest::of(&n.to_be_bytes());
        honest.gossip(liar.id, Message::Have { node: liar.id, digest });
    }
    honest.publish(&cluster, &spec(1, 32 << 20));
    liar.lives(&mut honest, Duration::from_secs(5));
    let view = honest.node.workload(&"web".parse().unwrap()).unwrap();
    assert_eq!(view.healthy, 1, "{view:?}");
}

/// Each ruling of a member was a write to the flash of every node.
#[test]
fn rulings_come_at_a_pace_and_in_bounds() {
    let cluster = cluster();
    let mut honest = Harness::new(cluster.founder(Saved::default()));
    let liar = Liar::new(&cluster, &mut honest, 11);
    honest.publish(&cluster, &spec(1, 32 << 20));
    let workload = honest.node.desired.workload(&"web".parse().unwrap()).unwrap().clone();
    let rule = |honest: &mut Harness, sequence, body| {
        let (uid, generation) = (workload.uid, workload.generation);
        let ruling = Ruling { uid, generation, tick: 0, sequence, body };
        liar.says(honest, Message::Ruled(liar.sign(&cluster, ruling)));
    };
    rule(&mut honest, 1, RulingBody::Autoscale { replicas: u32::MAX });
    rule(&mut honest, 1, RulingBody::Other(9, Bytes(vec![1; 1_000])));
    assert_eq!(honest.node.rulings.iter().count(), 0, "no spec allows these");
    let before = honest.last_batch;
    for sequence in 0..2_000 {
        rule(&mut honest, sequence, RulingBody::Autoscale { replicas: 3 });
    }
    assert!(honest.last_batch.0 - before.0 < 300, "{:?}", honest.last_batch);
    // It is late, not silenced.
    honest.run_for(Duration::from_secs(2));
    rule(&mut honest, 5_000, RulingBody::Autoscale { replicas: 4 });
    let latest = honest.node.rulings.iter().next().map(|it| it.sequence);
    assert_eq!(latest, Some(5_000));
}

/// A member signed its sheet and its record anew without end, and each node told all others.
#[test]
fn slots_and_records_are_told_on_at_a_pace() {
    let cluster = cluster();
    let mut honest = Harness::new(cluster.founder(Saved::default()));
    let liar = Liar::new(&cluster, &mut honest, 11);
    let accepted = |honest: &Harness, from: usize| {
        let is_accepted = |it: &&String| it.contains("Verdict") && it.contains("Accept");
        honest.effects[from..].iter().filter(is_accepted).count()
    };
    let slot = |counter| Slot {
        slot: 0,
        counter: (1u64 << 40) | counter,
        claims: Vec::new(),
        newer: Default::default(),
    };
    let from = honest.effects.len();
    for counter in 0..5_000 {
        honest.gossip(liar.id, Message::Slot(liar.sign(&cluster, slot(counter))));
    }
    assert!(accepted(&honest, from) <= 512, "{} slots", accepted(&honest, from));
    let record =
        |counter| Message::Membership(Word::Record(liar.record(&cluster, counter, "liar")));
    let from = honest.effects.len();
    for counter in 10..5_000 {
        honest.gossip(liar.id, record(counter));
    }
    assert!(accepted(&honest, from) <= 64, "{} records", accepted(&honest, from));
    // It is late, not silenced.
    honest.now = honest.now + Duration::from_secs(1);
    let from = honest.effects.len();
    honest.gossip(liar.id, Message::Slot(liar.sign(&cluster, slot(9_000))));
    honest.gossip(liar.id, record(9_000));
    assert_eq!(accepted(&honest, from), 2);
}

/// A member invented kinds of rulings without end, and each node kept them for ever.
#[test]
fn rulings_of_unknown_kinds_are_few() {
    let (keys, cluster) = (KeyPair::from_seed(&[11; 32]), cluster().genesis.cluster());
    let mut rulings = crate::rulings::Rulings::default();
    for kind in 100..1_000 {
        let body = RulingBody::Other(kind, Bytes(vec![1]));
        let (uid, generation) = (Digest([1; 32]), Digest([2; 32]));
        let ruling = Ruling { uid, generation, tick: 0, sequence: 0, body };
        rulings.apply(Signed::sign(ruling, &keys, &cluster));
    }
    assert_eq!(rulings.iter().count(), 256);
}

/// The name of a device could clear a person's terminal and write there.
#[test]
fn texts_in_records_have_no_control_characters() {
    let cluster = cluster();
    let mut honest = Harness::new(cluster.founder(Saved::default()));
    let liar = Liar::new(&cluster, &mut honest, 11);
    let record = Word::Record(liar.record(&cluster, 1 << 40, "e\u{1b}[31mX\n n9  up"));
    liar.says(&mut honest, Message::Membership(record));
    let names: Vec<String> = honest.node.nodes().into_iter().map(|it| it.name).collect();
    assert!(names.contains(&"liar".to_owned()), "{names:?}");
    assert!(!names.iter().any(|name| name.chars().any(char::is_control)), "{names:?}");
}

/// A record with ever other addresses made every node dial ever other devices.
#[test]
fn addresses_of_others_are_dialled_at_a_pace() {
    let cluster = cluster();
    let mut honest = Harness::new(cluster.founder(Saved::default()));
    let liar = Liar::new(&cluster, &mut honest, 11);
    honest.input(Input::LinkDown { peer: liar.id });
    let before = honest.dials;
    for counter in 2..500 {
        let mut record = liar.record(&cluster, counter, "liar").peek().unwrap();
        record.addresses = vec![format!("/ip4/192.0.2.7/tcp/{counter}")];
        honest.gossip(liar.id, Message::Membership(Word::Record(liar.sign(&cluster, record))));
        let failed = contract::DialFailure::Refused;
        honest.input(Input::DialFailed { target: DialTarget::Node(liar.id), how: failed });
    }
    assert!(honest.dials - before < 20, "{}", honest.dials - before);
}

/// So could the reason why a replica fails there.
#[test]
fn reasons_are_shown_without_control_characters() {
    assert_eq!(super::super::super::replica_views::printable("a\u{1b}[2J\nb"), "a [2J b");
}
