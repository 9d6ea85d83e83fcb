//! A user who asks for what is there already is told so only when all others hold it, too.

use super::bottle::*;
use super::*;
use crate::model::Key;

fn web() -> WorkloadName {
    "web".parse().unwrap()
}

/// A founder that runs `web`, and a friend of its that is up.
fn with_friend() -> (Cluster, Bottle, NodeId) {
    let cluster = cluster();
    let mut bottle = Bottle::new(cluster.founder(Saved::default()));
    let friend = cluster.joins(20, &mut bottle).node.id();
    bottle.publish(&cluster, &spec(1, 32 << 20));
    bottle.said.clear();
    (cluster, bottle, friend)
}

fn ask(bottle: &mut Bottle, spec: Option<Spec>, force: bool) {
    bottle.replies.clear();
    bottle.request(Command::Prepare { name: web(), spec, force });
}

/// The number of the question that the others were asked.
fn question(bottle: &Bottle) -> u64 {
    let asked = bottle.said.iter().rev().find_map(|message| match message {
        Message::AskKey { question, .. } => Some(*question),
        _ => None,
    });
    asked.expect("it asks")
}

fn unheard(bottle: &mut Bottle) -> Vec<String> {
    match bottle.replies.pop() {
        Some(Reply::Prepared { unheard, .. }) => unheard,
        other => panic!("{other:?}"),
    }
}

#[test]
fn unchanged_workload_needs_no_write_when_all_confirm() {
    let (_, mut bottle, friend) = with_friend();
    ask(&mut bottle, Some(spec(1, 32 << 20)), false);
    assert!(bottle.replies.is_empty(), "it has to ask first");
    let question = question(&bottle);
    bottle
        .input(Input::Message { from: friend, message: Message::SameKey { question, same: true } });
    assert_eq!(unheard(&mut bottle), Vec::<String>::new());
    // A change is to be written anyway: nobody is asked.
    bottle.said.clear();
    ask(&mut bottle, Some(spec(2, 32 << 20)), false);
    assert!(
        unheard(&mut bottle).is_empty()
            && !bottle.said.iter().any(|it| matches!(it, Message::AskKey { .. }))
    );
}

/// A node that had been down said "is up to date"; the change that it had missed came back and won.
#[test]
fn unchanged_workload_is_written_when_not_all_confirm() {
    let (cluster, mut bottle, friend) = with_friend();
    let same = spec(1, 32 << 20);
    ask(&mut bottle, Some(same.clone()), false);
    let asked = question(&bottle);
    bottle.input(Input::Message {
        from: friend,
        message: Message::SameKey { question: asked, same: false },
    });
    assert_eq!(unheard(&mut bottle).len(), 1, "it holds something else");

    ask(&mut bottle, Some(same.clone()), false);
    bottle.run_for(Duration::from_millis(900));
    assert!(bottle.replies.is_empty());
    bottle.run_for(Duration::from_millis(200));
    let late = bottle.replies.iter().find_map(|reply| match reply {
        Reply::Prepared { unheard, .. } => Some(unheard.len()),
        _ => None,
    });
    assert_eq!(late, Some(1), "it does not answer");

    bottle.said.clear();
    bottle.input(Input::LinkDown { peer: friend });
    bottle.run_for(Duration::from_secs(30));
    ask(&mut bottle, Some(same.clone()), false);
    let Some(Reply::Prepared { draft, unheard, .. }) = bottle.replies.pop() else {
        panic!("at once")
    };
    assert_eq!(unheard.len(), 1, "it is away");
    // Written so, the wish outlasts what the one that is away may bring.
    let older = bottle.node.desired.effective(&Key::Workload(web())).unwrap().signed.serial;
    let change = cluster.sign(draft, &web(), Value::workload(&same));
    assert!(change.signed.serial > older);
    assert!(matches!(
        bottle.command(Command::Submit { change: change.raw() }),
        Reply::Accepted { .. }
    ));
}

/// The asked node compares more than the key: a member that the asker does not know of may have
/// taken a change.
#[test]
fn question_is_answered_by_key_and_roster() {
    let (_, mut bottle, friend) = with_friend();
    let key = Key::Workload(web()).hash();
    let answer = |bottle: &mut Bottle, holds| {
        bottle.said.clear();
        bottle.input(Input::Message {
            from: friend,
            message: Message::AskKey { question: 7, key, holds },
        });
        match bottle.said.last() {
            Some(Message::SameKey { question: 7, same }) => *same,
            other => panic!("{other:?}"),
        }
    };
    ask(&mut bottle, Some(spec(1, 32 << 20)), false);
    let holds = bottle.said.iter().rev().find_map(|message| match message {
        Message::AskKey { holds, .. } => Some(*holds),
        _ => None,
    });
    let holds = holds.expect("it asks");
    assert!(answer(&mut bottle, holds));
    bottle.disk = false;
    let cluster = cluster();
    let staged = {
        let draft = match bottle.command(Command::Prepare {
            name: web(),
            spec: Some(spec(2, 32 << 20)),
            force: false,
        }) {
            Reply::Prepared { draft, .. } => draft,
            other => panic!("{other:?}"),
        };
        cluster.sign(draft, &web(), Value::workload(&spec(2, 32 << 20)))
    };
    bottle.request(Command::Submit { change: staged.raw() });
    assert!(!answer(&mut bottle, holds), "another change is being written");
    bottle.input(Input::StoreFailed { why: "no space left".into() });
    assert!(answer(&mut bottle, holds), "it was refused");
    bottle.disk = true;
    bottle.input(Input::StoreRecovered);
    cluster.joins(30, &mut bottle);
    assert!(!answer(&mut bottle, holds), "the roster is another");
}

/// A script removes what is gone from this node's view. While others are away that is not known,
/// and a slip in a name is not to leave a removal behind for ever.
#[test]
fn removal_of_the_unknown_is_honest_while_members_are_away() {
    let cluster = cluster();
    let mut bottle = Bottle::new(cluster.founder(Saved::default()));
    ask(&mut bottle, None, false);
    assert_eq!(
        bottle.replies.pop(),
        Some(Reply::Refused(Refusal::NoSuchWorkload(web()))),
        "it is alone"
    );
    let friend = cluster.joins(20, &mut bottle).node.id();
    ask(&mut bottle, None, false);
    let question = question(&bottle);
    bottle
        .input(Input::Message { from: friend, message: Message::SameKey { question, same: true } });
    assert_eq!(
        bottle.replies.pop(),
        Some(Reply::Refused(Refusal::NoSuchWorkload(web()))),
        "all agree"
    );
    bottle.input(Input::LinkDown { peer: friend });
    bottle.run_for(Duration::from_secs(30));
    ask(&mut bottle, None, false);
    let refused = bottle.replies.pop();
    assert!(
        matches!(&refused, Some(Reply::Refused(Refusal::MayBeElsewhere { unheard, .. })) if unheard.len() == 1)
    );
    ask(&mut bottle, None, true);
    assert_eq!(unheard(&mut bottle).len(), 1, "with force it can be signed");
    // A workload that was removed here is removed once more.
    bottle.publish(&cluster, &spec(1, 32 << 20));
    let draft = bottle.draft(None).unwrap();
    bottle.command(Command::Submit { change: cluster.sign(draft, &web(), Value::Tombstone).raw() });
    ask(&mut bottle, None, false);
    assert_eq!(unheard(&mut bottle).len(), 1);
}

/// The link to one that has not answered yet is lost: it may hold something else.
#[test]
fn who_is_lost_before_it_answers_has_not_confirmed() {
    let (_, mut bottle, friend) = with_friend();
    ask(&mut bottle, Some(spec(1, 32 << 20)), false);
    assert!(bottle.replies.is_empty(), "it is asked");
    bottle.input(Input::LinkDown { peer: friend });
    assert_eq!(unheard(&mut bottle).len(), 1, "at once");
}

/// Of two one holds something else: nothing that the other says changes the answer.
#[test]
fn first_that_holds_something_else_decides() {
    let (cluster, mut bottle, friend) = with_friend();
    cluster.joins(30, &mut bottle);
    ask(&mut bottle, Some(spec(1, 32 << 20)), false);
    let question = question(&bottle);
    bottle.input(Input::Message {
        from: friend,
        message: Message::SameKey { question, same: false },
    });
    assert_eq!(unheard(&mut bottle).len(), 1);
}

/// Scripts that publish the same without end while a member hangs: beyond so many nobody is asked,
/// and it is written.
#[test]
fn questions_at_a_time_are_bounded() {
    let (_, mut bottle, _) = with_friend();
    for _ in 0..64 {
        ask(&mut bottle, Some(spec(1, 32 << 20)), false);
        assert_eq!(bottle.replies, []);
    }
    ask(&mut bottle, Some(spec(1, 32 << 20)), false);
    assert_eq!(unheard(&mut bottle).len(), 1);
}

/// Beyond a full mesh most members have no link with this node, and are up.
#[test]
fn member_without_a_link_in_a_large_cluster_is_not_away() {
    let cluster = cluster();
    let links = membership::LinkConfig { full_mesh: 2, ..membership::LinkConfig::default() };
    let membership = membership::Config { links, ..membership::Config::default() };
    let config = Config { name: "a".into(), founder: true, membership, ..Config::default() };
    let wall = WallClock(1_800_000_000_000);
    let node = Node::new(
        config,
        cluster.identity(10),
        Saved::default(),
        facts(),
        wall,
        [7; 32],
        Time::ZERO,
    );
    let mut bottle = Bottle::new(node);
    let friend = cluster.joins(20, &mut bottle).node.id();
    let far = cluster.joins(30, &mut bottle).node.id();
    bottle.publish(&cluster, &spec(1, 32 << 20));
    bottle.input(Input::LinkDown { peer: far });
    ask(&mut bottle, Some(spec(1, 32 << 20)), false);
    assert_eq!(bottle.replies, [], "those with a link are asked");
    let question = question(&bottle);
    bottle
        .input(Input::Message { from: friend, message: Message::SameKey { question, same: true } });
    assert_eq!(unheard(&mut bottle), Vec::<String>::new());
}
