//! Requests whose node, or the path to it, is lost.

use super::*;

const FALLEN: NodeId = NodeId([8; 32]);

/// A node that gets the requests, and a second one that runs replica 0 and is routed to later.
fn with_next(mesh: &Arc<FakeMesh>) -> (Node, Node) {
    let (here, there) = (Node::new("n1", mesh), Node::new("n2", mesh));
    there.tunnels(mesh.take(OTHER));
    there.route(&[(0, OTHER, true)]);
    there.run(0);
    (here, there)
}

/// A dial of a dead node may hang for seconds, where some of its addresses drop packets. Once the
/// replica is routed elsewhere the request goes there.
#[tokio::test(start_paused = true)]
async fn request_leaves_a_hanging_dial_when_the_replica_moves() {
    let mesh = Arc::new(FakeMesh::default());
    let (here, _there) = with_next(&mesh);
    mesh.hangs.lock().unwrap().insert(FALLEN);
    here.route(&[(0, FALLEN, false)]);
    let falls = async {
        mesh.asked.notified().await;
        here.route(&[(0, OTHER, false)]);
    };
    let both = async { tokio::join!(here.ask(get("web.shoal")), falls) };
    let ((status, headers, _), ()) =
        tokio::time::timeout(Duration::from_secs(9), both).await.expect("no answer");
    assert_eq!((status, &headers[NODE_HEADER]), (StatusCode::OK, &"n2".parse().unwrap()));
}

/// Reads the start of one request, as a node that then dies.
async fn dies_of_a_request(streams: &mut tokio::sync::mpsc::Receiver<Incoming>) {
    let Incoming { mut stream, .. } = streams.recv().await.unwrap();
    stream.read_exact(&mut [0; 3]).await.unwrap();
}

/// A node dies with a request. For a moment no node has the replica: the request waits for the next
/// one.
#[tokio::test]
async fn request_of_a_dead_node_follows_the_replica() {
    let mesh = Arc::new(FakeMesh::default());
    let (here, _there) = with_next(&mesh);
    let mut streams = mesh.take(FALLEN);
    here.route(&[(0, FALLEN, false)]);
    let falls = async {
        dies_of_a_request(&mut streams).await;
        drop(streams);
        // First no node has the replica, then another one.
        here.route(&[]);
        tokio::task::yield_now().await;
        here.route(&[(0, OTHER, false)]);
    };
    let ((status, headers, _), ()) = tokio::join!(here.ask(get("web.shoal")), falls);
    assert_eq!((status, &headers[NODE_HEADER]), (StatusCode::OK, &"n2".parse().unwrap()));
}

/// Two nodes lose their direct path in the middle of a request: it is sent again, and the next
/// stream goes over a common member.
#[tokio::test(start_paused = true)]
async fn request_is_resent_over_another_path() {
    let mesh = Arc::new(FakeMesh::default());
    let here = Node::new("n1", &mesh);
    here.route(&[(0, OTHER, false)]);
    let mut streams = mesh.take(OTHER);
    let answers = async {
        dies_of_a_request(&mut streams).await;
        let Incoming { mut stream, .. } = streams.recv().await.unwrap();
        stream.read_exact(&mut [0; 3]).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        stream
    };
    let both = async { tokio::join!(here.ask(get("web.shoal")), answers) };
    let ((status, ..), _stream) =
        tokio::time::timeout(Duration::from_secs(9), both).await.expect("no answer");
    assert_eq!(status, StatusCode::OK);
}
