//! A user who publishes what is there already learns so only when all other members hold it, too.

use super::harness::*;
use super::*;
use crate::model::Key;

fn web() -> WorkloadName {
    "web".parse().unwrap()
}

/// A founder that runs `web`, and another member that is up.
fn with_member() -> (Cluster, Harness, NodeId) {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let member = cluster.join_member(20, &mut harness).node.id();
    harness.publish(&cluster, &spec(1, 32 << 20));
    harness.sent.clear();
    (cluster, harness, member)
}

fn ask(harness: &mut Harness, spec: Option<Spec>, force: bool) {
    harness.replies.clear();
    harness.request(Command::Prepare { name: web(), spec, force });
}

/// The number of the question that the members were asked.
fn question(harness: &Harness) -> u64 {
    let asked = harness.sent.iter().rev().find_map(|message| match message {
        Message::AskKey { question, .. } => Some(*question),
        _ => None,
    });
    asked.expect("it asks")
}

fn unheard(harness: &mut Harness) -> Vec<String> {
    match harness.replies.pop() {
        Some(Reply::Prepared { unheard, .. }) => unheard,
        other => panic!("{other:?}"),
    }
}

/// The other member confirms that it holds the same, so the user learns that there is nothing to
/// do. A change is written in any case, so no member is asked.
#[test]
fn unchanged_workload_needs_no_write_when_all_confirm() {
    let (_, mut harness, member) = with_member();
    ask(&mut harness, Some(spec(1, 32 << 20)), false);
    assert!(harness.replies.is_empty(), "it has to ask first");
    let question = question(&harness);
    harness
        .input(Input::Message { from: member, message: Message::SameKey { question, same: true } });
    assert_eq!(unheard(&mut harness), Vec::<String>::new());
    // A change is written in any case: no member is asked.
    harness.sent.clear();
    ask(&mut harness, Some(spec(2, 32 << 20)), false);
    assert!(
        unheard(&mut harness).is_empty()
            && !harness.sent.iter().any(|it| matches!(it, Message::AskKey { .. }))
    );
}

/// A node that had been down answered "is up to date"; the change that it had missed came back and
/// won. If a member holds something else, does not answer or is away, the workload is written.
#[test]
fn unchanged_workload_is_written_when_not_all_confirm() {
    let (cluster, mut harness, member) = with_member();
    let same = spec(1, 32 << 20);
    ask(&mut harness, Some(same.clone()), false);
    let asked = question(&harness);
    harness.input(Input::Message {
        from: member,
        message: Message::SameKey { question: asked, same: false },
    });
    assert_eq!(unheard(&mut harness).len(), 1, "it holds something else");

    ask(&mut harness, Some(same.clone()), false);
    harness.run_for(Duration::from_millis(900));
    assert!(harness.replies.is_empty());
    harness.run_for(Duration::from_millis(200));
    let late = harness.replies.iter().find_map(|reply| match reply {
        Reply::Prepared { unheard, .. } => Some(unheard.len()),
        _ => None,
    });
    assert_eq!(late, Some(1), "it does not answer");

    harness.sent.clear();
    harness.input(Input::LinkDown { peer: member });
    harness.run_for(Duration::from_secs(30));
    ask(&mut harness, Some(same.clone()), false);
    let Some(Reply::Prepared { draft, unheard, .. }) = harness.replies.pop() else {
        panic!("at once")
    };
    assert_eq!(unheard.len(), 1, "it is away");
    // Such a write outlasts what the member that is away may bring.
    let older = harness.node.desired.effective(&Key::Workload(web())).unwrap().signed.serial;
    let change = cluster.sign(draft, &web(), Value::workload(&same));
    assert!(change.signed.serial > older);
    assert!(matches!(
        harness.command(Command::Submit { change: change.raw() }),
        Reply::Accepted { .. }
    ));
}

/// The asked node compares the roster, too: a member that the asker does not know may have taken a
/// change.
#[test]
fn question_is_answered_by_key_and_roster() {
    let (_, mut harness, member) = with_member();
    let key = Key::Workload(web()).hash();
    let answer = |harness: &mut Harness, holds| {
        harness.sent.clear();
        harness.input(Input::Message {
            from: member,
            message: Message::AskKey { question: 7, key, holds },
        });
        match harness.sent.last() {
            Some(Message::SameKey { question: 7, same }) => *same,
            other => panic!("{other:?}"),
        }
    };
    ask(&mut harness, Some(spec(1, 32 << 20)), false);
    let holds = harness.sent.iter().rev().find_map(|message| match message {
        Message::AskKey { holds, .. } => Some(*holds),
        _ => None,
    });
    let holds = holds.expect("it asks");
    assert!(answer(&mut harness, holds));
    harness.disk_works = false;
    let cluster = cluster();
    let staged = {
        let draft = match harness.command(Command::Prepare {
            name: web(),
            spec: Some(spec(2, 32 << 20)),
            force: false,
        }) {
            Reply::Prepared { draft, .. } => draft,
            other => panic!("{other:?}"),
        };
        cluster.sign(draft, &web(), Value::workload(&spec(2, 32 << 20)))
    };
    harness.request(Command::Submit { change: staged.raw() });
    assert!(!answer(&mut harness, holds), "another change is being written");
    harness.input(Input::StoreFailed { why: "no space left".into() });
    assert!(answer(&mut harness, holds), "it was refused");
    harness.disk_works = true;
    harness.input(Input::StoreRecovered);
    cluster.join_member(30, &mut harness);
    assert!(!answer(&mut harness, holds), "the roster is another");
}

/// A script removes a workload that this node does not know. A member that is away may know it, so
/// the removal needs force: a typing error in a name must not leave a removal behind for ever.
#[test]
fn removal_of_the_unknown_needs_all_members() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    ask(&mut harness, None, false);
    assert_eq!(
        harness.replies.pop(),
        Some(Reply::Refused(Refusal::NoSuchWorkload(web()))),
        "it is alone"
    );
    let member = cluster.join_member(20, &mut harness).node.id();
    ask(&mut harness, None, false);
    let question = question(&harness);
    harness
        .input(Input::Message { from: member, message: Message::SameKey { question, same: true } });
    assert_eq!(
        harness.replies.pop(),
        Some(Reply::Refused(Refusal::NoSuchWorkload(web()))),
        "all agree"
    );
    harness.input(Input::LinkDown { peer: member });
    harness.run_for(Duration::from_secs(30));
    ask(&mut harness, None, false);
    let refused = harness.replies.pop();
    let Some(Reply::Refused(Refusal::MayBeElsewhere { unheard: missing, .. })) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(missing.len(), 1);
    ask(&mut harness, None, true);
    assert_eq!(unheard(&mut harness).len(), 1, "with force it can be signed");
    // A workload that was removed here can be removed again.
    harness.publish(&cluster, &spec(1, 32 << 20));
    let draft = harness.draft(None).unwrap();
    harness
        .command(Command::Submit { change: cluster.sign(draft, &web(), Value::Tombstone).raw() });
    ask(&mut harness, None, false);
    assert_eq!(unheard(&mut harness).len(), 1);
}

/// The link to an asked member is lost before its answer came. It may hold something else.
#[test]
fn member_lost_before_its_answer_has_not_confirmed() {
    let (_, mut harness, member) = with_member();
    ask(&mut harness, Some(spec(1, 32 << 20)), false);
    assert!(harness.replies.is_empty(), "it is asked");
    harness.input(Input::LinkDown { peer: member });
    assert_eq!(unheard(&mut harness).len(), 1, "at once");
}

/// A member holds something else, and another one has not answered. Its answer would change
/// nothing, so the user is answered at once.
#[test]
fn first_member_with_another_value_decides() {
    let (cluster, mut harness, member) = with_member();
    cluster.join_member(30, &mut harness);
    ask(&mut harness, Some(spec(1, 32 << 20)), false);
    let question = question(&harness);
    harness.input(Input::Message {
        from: member,
        message: Message::SameKey { question, same: false },
    });
    assert_eq!(unheard(&mut harness).len(), 1);
}

/// Scripts publish the same workload without end while a member hangs. Above 64 open questions no
/// member is asked, and the workload is written.
#[test]
fn open_questions_are_bounded() {
    let (_, mut harness, _) = with_member();
    for _ in 0..64 {
        ask(&mut harness, Some(spec(1, 32 << 20)), false);
        assert_eq!(harness.replies, []);
    }
    ask(&mut harness, Some(spec(1, 32 << 20)), false);
    assert_eq!(unheard(&mut harness).len(), 1);
}

/// In a cluster above the size of a full mesh most members have no link to this node, and are up.
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
        cluster.founded(),
        facts(),
        wall,
        [7; 32],
        Time::ZERO,
    );
    let mut harness = Harness::new(node);
    let member = cluster.join_member(20, &mut harness).node.id();
    let far = cluster.join_member(30, &mut harness).node.id();
    harness.publish(&cluster, &spec(1, 32 << 20));
    harness.input(Input::LinkDown { peer: far });
    ask(&mut harness, Some(spec(1, 32 << 20)), false);
    assert_eq!(harness.replies, [], "those with a link are asked");
    let question = question(&harness);
    harness
        .input(Input::Message { from: member, message: Message::SameKey { question, same: true } });
    assert_eq!(unheard(&mut harness), Vec::<String>::new());
}

/// Two computers of an operator wrote at the same time. The author of the next change is told of
/// both, the one that counts first, since it supersedes both.
#[test]
fn author_is_told_of_all_versions_that_it_supersedes() {
    let (cluster, mut harness, _) = with_member();
    let versions = |harness: &mut Harness| {
        ask(harness, None, false);
        match harness.replies.pop() {
            Some(Reply::Prepared { versions, .. }) => versions,
            other => panic!("{other:?}"),
        }
    };
    let [only] = &versions(&mut harness)[..] else { panic!("one version") };
    assert_eq!((only.by.as_str(), only.key), ("me", cluster.operator()));
    assert_eq!(only.spec, Some(spec(1, 32 << 20)));
    let draft = harness.draft(Some(spec(2, 32 << 20))).unwrap();
    let here = cluster.sign_on(1, draft.clone(), &web(), Value::workload(&spec(2, 32 << 20)));
    let later = Draft { serial: draft.serial + 1, ..draft };
    let there = cluster.sign_on(2, later, &web(), Value::workload(&spec(3, 32 << 20)));
    assert!(matches!(
        harness.command(Command::Submit { change: here.raw() }),
        Reply::Accepted { .. }
    ));
    harness.node.apply_change(harness.now, there).unwrap();
    let replicas = |spec: &Option<Spec>| spec.as_ref().map(|spec| spec.replicas());
    let all: Vec<_> = versions(&mut harness).iter().map(|it| replicas(&it.spec)).collect();
    assert_eq!(all, [Some(3), Some(2)]);
}
