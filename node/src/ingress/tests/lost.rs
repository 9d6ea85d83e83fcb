//! Requests whose node, or the way to it, is lost.

use super::*;

const FALLEN: NodeId = NodeId([8; 32]);

/// A node that is asked, and one where replica 0 runs as soon as the first hears of it.
fn with_next(mesh: &Arc<FakeMesh>) -> (Node, Node) {
    let (here, there) = (Node::new("n1", mesh), Node::new("n2", mesh));
    there.tunnels(mesh.take(OTHER));
    there.route(&[(0, OTHER, true)]);
    there.run(0);
    (here, there)
}

/// A dial of a node that has fallen may hang for seconds, where some of its addresses swallow what
/// is sent there.
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

/// Reads one request that was sent to this node, and is gone, as a node that dies.
async fn dies_of_a_request(streams: &mut tokio::sync::mpsc::Receiver<Incoming>) {
    let Incoming { mut stream, .. } = streams.recv().await.unwrap();
    stream.read_exact(&mut [0; 3]).await.unwrap();
}

#[tokio::test]
async fn request_of_a_dead_node_follows_the_replica() {
    let mesh = Arc::new(FakeMesh::default());
    let (here, _there) = with_next(&mesh);
    let mut streams = mesh.take(FALLEN);
    here.route(&[(0, FALLEN, false)]);
    let falls = async {
        dies_of_a_request(&mut streams).await;
        drop(streams);
        // First nobody has it, then another.
        here.route(&[]);
        tokio::task::yield_now().await;
        here.route(&[(0, OTHER, false)]);
    };
    let ((status, headers, _), ()) = tokio::join!(here.ask(get("web.shoal")), falls);
    assert_eq!((status, &headers[NODE_HEADER]), (StatusCode::OK, &"n2".parse().unwrap()));
}

/// As when two nodes lose their direct way: the next stream goes over a common member.
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
