//! A plan is carried out as it was shown, or not at all.

use super::super::bases::Bases;
use super::super::plan::{Plan, plan};
use super::*;

async fn planned<'a>(node: &Node, operator: &Operator, all: &'a [Ready], force: bool) -> Plan<'a> {
    plan(node, operator, (all, &[]), &Bases::default(), force).await.unwrap()
}

/// Between the plan that a person reads and the answer another operator changes the workload.
#[tokio::test]
async fn plan_that_is_no_longer_true_is_not_carried_out() {
    let folder = tempfile::tempdir().unwrap();
    let (genesis, operator) = founded(folder.path());
    let node = Node::new(genesis, Some(ready_to_go(1).spec));
    let wanted = [ready_to_go(2)];
    let plan = planned(&node, &operator, &wanted, false).await;
    assert_eq!(node.calls(), ["prepare"], "a plan changes nothing");
    node.others.lock().unwrap().push(ready_to_go(5).spec);
    let refused = plan.carry_out(&node, &operator, &Bases::default()).await.unwrap_err();
    assert!(refused.published.is_empty());
    let text = refused.failed[0].1.to_string();
    assert!(text.contains("`web` was changed by bob (key "), "{text}");
    assert!(text.contains("since the plan was shown; nothing of it was overwritten"), "{text}");
    assert!(text.contains("replicas 1 -> 5") && text.contains("env A 1 -> 5"), "{text}");
    assert_eq!(node.current.lock().unwrap().clone().unwrap().replicas(), 5);
    let taken = node.calls().iter().filter(|call| **call == "submit").count();
    assert_eq!(taken, 1, "it was submitted once, and the node refused it");
}

/// What another operator wrote the same is no surprise, and who insists overwrites.
#[tokio::test]
async fn plan_survives_the_same_version_and_force_overwrites() {
    let folder = tempfile::tempdir().unwrap();
    let (genesis, operator) = founded(folder.path());
    for (other, force) in [(1, false), (5, true)] {
        let node = Node::new(genesis, Some(ready_to_go(1).spec));
        let wanted = [ready_to_go(2)];
        let plan = planned(&node, &operator, &wanted, force).await;
        node.others.lock().unwrap().push(ready_to_go(other).spec);
        let done = plan.carry_out(&node, &operator, &Bases::default()).await.unwrap();
        assert_eq!(done.len(), 1);
        assert_eq!(node.current.lock().unwrap().clone().unwrap().replicas(), 2);
    }
}

/// Two operators wrote at the same time: the plan shows the version that does not count.
#[tokio::test]
async fn plan_shows_versions_that_do_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let (genesis, operator) = founded(folder.path());
    let mut node = Node::new(genesis, Some(ready_to_go(1).spec));
    let (key, other) = (KeyPair::from_seed(&[6; 32]).public(), ready_to_go(3).spec);
    node.siblings.push(Version { by: "ann".into(), key, spec: Some(other) });
    let wanted = [ready_to_go(1)];
    let plan = planned(&node, &operator, &wanted, false).await;
    assert!(!plan.changes());
    let [(by, differences)] = &plan.steps[0].conflicts[..] else { panic!("one other version") };
    assert!(by.starts_with("ann (key "), "{by}");
    assert_eq!(differences[0].to_string(), "replicas 1 -> 3");
}

/// A file that knows nothing of a restart does not undo it: that would be another restart.
#[tokio::test]
async fn publish_keeps_the_count_of_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let (genesis, operator) = founded(folder.path());
    let web = ready_to_go(1);
    let node = Node::new(genesis, Some(web.spec.clone()));
    let done = restart(&node, &operator, &web.spec.name, false).await.unwrap();
    let restarted = done.spec.unwrap();
    assert_ne!(restarted.revision(), web.spec.revision());
    let again = publish(&node, &operator, &web, false).await.unwrap();
    assert_eq!((again.outcome, again.spec), (Outcome::Unchanged, Some(restarted)));
}
