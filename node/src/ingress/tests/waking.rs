//! Requests to workloads that have no replica until one comes.

use shoal_protocol::model::view::{ScaleView, WorkloadView};

use super::*;

fn asleep() -> WorkloadView {
    let scale = Some(ScaleView { min: 0, max: 3, sleeps: true });
    WorkloadView { scale, ..workload_view("web", Vec::new()) }
}

/// The request waits, the core is told, and told again as long as nothing starts: the one that was
/// to start it may have died.
#[tokio::test(start_paused = true)]
async fn request_waits_until_the_first_replica_answers() {
    let node = Node::new("n1", &Arc::default());
    node.core.show(vec![asleep()]);
    let mut wishes = node.core.wishes.subscribe();
    let starts = async {
        wishes.wait_for(|all| all.len() == 3).await.unwrap();
        node.run(0);
        node.route(&[(0, NODE, true)]);
    };
    let ((status, headers, _), ()) = tokio::join!(node.ask(get("web.shoal")), starts);
    assert_eq!((status, &headers[REPLICA_HEADER]), (StatusCode::OK, &"web/0".parse().unwrap()));
    assert_eq!(node.core.wishes.borrow().last(), Some(&"web".parse().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn workload_that_does_not_start_is_named() {
    let node = Node::new("n1", &Arc::default());
    node.core.show(vec![asleep()]);
    let (status, _, said) = node.ask(get("web.shoal")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(said.contains("`web` was to start for this request, and did not within 30s"), "{said}");
}

/// A workload that never sleeps is answered for at once, and so is another node's request: that
/// node waits itself.
#[tokio::test(start_paused = true)]
async fn only_the_first_node_waits_and_only_for_what_sleeps() {
    let node = Node::new("n1", &Arc::default());
    let scale = Some(ScaleView { min: 1, max: 3, sleeps: false });
    let awake = WorkloadView { scale, ..workload_view("web", Vec::new()) };
    node.core.show(vec![awake]);
    assert_eq!(node.ask(get("web.shoal")).await.0, StatusCode::SERVICE_UNAVAILABLE);
    node.core.show(vec![asleep()]);
    let answer = node.ingress.answer(Origin::Peer(OTHER), get("web.shoal")).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(node.core.wishes.borrow().is_empty());
}

/// The meter of a replica counts the requests, and the time until the last byte of each answer.
#[tokio::test(start_paused = true)]
async fn requests_to_replicas_here_are_metered() {
    let node = Node::new("n1", &Arc::default());
    node.route(&[(3, NODE, true)]);
    node.run(3);
    let client = Origin::Client("10.0.0.3:9".parse().unwrap());
    let answer = node.ingress.answer(client, get("web.shoal")).await;
    tokio::time::advance(Duration::from_secs(5)).await;
    drop(answer);
    tokio::time::advance(Duration::from_secs(7)).await;
    let id = instance_id(&"web".parse().unwrap(), &replica(3), &GENERATION);
    let reading = node.ingress.meters().read(&id);
    assert_eq!((reading.begun, reading.busy), (1, Duration::from_secs(5)));
}
