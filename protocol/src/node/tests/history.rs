//! Notes of who changed what.

use super::*;
use crate::model::view::ChangeView;

fn notes(harness: &mut Harness) -> Vec<ChangeView> {
    std::iter::from_fn(|| harness.node.poll_history()).collect()
}

/// Each change is noted once, with what it did, its author and that it was submitted here; what
/// comes from another node is not this node's. Without a driver that takes notes there are none.
#[test]
fn changes_are_noted_with_their_authors() {
    let cluster = cluster();
    let mut founder = cluster.founder(Saved::default());
    founder.config.history = true;
    let mut harness = Harness::new(founder);
    for spec in [spec(1, 1 << 26), spec(3, 1 << 26), spec(3, 1 << 27)] {
        harness.publish(&cluster, &spec);
    }
    let draft = harness.draft(None).unwrap();
    let removed = cluster.sign(draft, &"web".parse().unwrap(), Value::Tombstone);
    harness.command(Command::Submit { change: removed.raw() });
    harness.command(Command::Submit { change: removed.raw() });
    let all = notes(&mut harness);
    let what: Vec<_> = all.iter().map(|it| (it.name.as_str(), it.what.as_str())).collect();
    let web = "default/web";
    assert_eq!(
        what,
        [(web, "created"), (web, "scaled from 1 to 3"), (web, "changed"), (web, "removed")]
    );
    let is_own = |it: &ChangeView| it.through.as_deref() == Some("a") && it.heard_from.is_none();
    assert!(all.iter().all(is_own), "{all:?}");
    assert!(all.iter().all(|it| it.key == cluster.operator().to_string() && it.by != "root"));

    let events: Vec<_> = harness.effects.iter().filter(|it| it.contains("\"changed\"")).collect();
    assert_eq!(events.len(), 4, "{events:?}");
    let scaled = format!("scaled from 1 to 3 by {}", all[1].by);
    assert!(events[1].contains("Some(\"web\")") && events[1].contains(&scaled), "{events:?}");

    let mut joined = cluster.join_member(11, &mut harness);
    let admitted = notes(&mut harness);
    assert_eq!(admitted.len(), 1, "{admitted:?}");
    assert_eq!((admitted[0].what.as_str(), admitted[0].by.as_str()), ("admitted", "a"));
    assert_eq!(notes(&mut joined), []);

    let revoked = cluster.revocation(cluster.operator(), 1, false);
    let from = joined.node.id();
    let message = Message::Revocations { changes: vec![revoked.raw()], more: false, answer: false };
    harness.input(Input::Message { from, message });
    let heard = notes(&mut harness);
    assert_eq!((heard.len(), heard[0].kind.as_str(), &heard[0].through), (1, "key", &None));
}
