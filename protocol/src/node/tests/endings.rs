//! Rights that end: people are told in time, and once.

use super::*;
use crate::model::{Chain, ChangeBody, Key, Namespaces, PublicKey, Role};

const DAY: u64 = 24 * 60 * 60 * 1000;

/// Gives ann rights that end after so many days, for the `n`th time.
fn give(cluster: &harness::Cluster, node: &mut Harness, n: u64, days: u64) {
    let (genesis, root, subject) = (&cluster.genesis, &cluster.root, PublicKey([9; 32]));
    let serial = trust::serial_at(harness::NOW) + n;
    let terms = trust::Terms {
        name: "ann".into(),
        role: Role::Reader,
        namespaces: Namespaces::All,
        serial,
        expires: Some(WallClock(harness::NOW.0 + days * DAY)),
    };
    let chain = trust::grant(genesis, root, &Chain::default(), subject, terms).unwrap();
    let writer = trust::writer_id(&root.public(), &[0; 16]);
    let body = ChangeBody {
        key: Key::Operator(subject),
        writer,
        serial,
        clock: [(writer, serial)].into(),
        uid: None,
        value: Value::Operator(chain),
    };
    let change = trust::sign_change(genesis, root, &Chain::default(), body).unwrap();
    let reply = node.command(Command::Submit { change: change.raw() });
    assert!(matches!(reply, Reply::Accepted { .. }), "{reply:?}");
}

/// The events of ends since `from`.
fn told(node: &Harness, from: usize) -> Vec<&String> {
    node.effects[from..].iter().filter(|effect| effect.contains("grant-ending")).collect()
}

/// The device's clock says that so many days have passed.
fn pass(node: &mut Harness, days: u64) -> usize {
    let from = node.effects.len();
    for hour in 0..3 {
        node.now = node.now + Duration::from_secs(2 * 3_600);
        let wall = WallClock(harness::NOW.0 + days * DAY + hour * 7_200_000);
        node.input(Input::WallClock(wall));
    }
    from
}

/// An operator's rights ended while nobody looked at `status`. Each node says so in its events,
/// three weeks before and at the end.
#[test]
fn ending_of_rights_is_told_once_before_and_once_after() {
    let cluster = cluster();
    let mut node = Harness::new(cluster.founder(Saved::default()));
    give(&cluster, &mut node, 0, 60);
    let from = pass(&mut node, 30);
    assert_eq!(told(&node, from).len(), 0, "thirty days are left");
    let from = pass(&mut node, 45);
    let events = told(&node, from);
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].contains("operator ann end in 15 days"), "{events:?}");
    let from = pass(&mut node, 61);
    let events = told(&node, from);
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].contains("operator ann ended"), "{events:?}");
    give(&cluster, &mut node, 1, 300);
    let from = pass(&mut node, 62);
    assert_eq!(told(&node, from).len(), 0, "they were renewed");
}
