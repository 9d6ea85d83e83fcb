//! Connections that go on with another protocol, as for WebSocket.

use super::*;

/// A server that agrees to `echo`, and then sends back what it gets; or agrees to nothing.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    head.push(char::from(stream.read_u8().await.unwrap()));
                }
                let agreed = head.contains("upgrade: echo") && head.contains("connection: upgrade");
                let answer = match agreed || head.contains("/always") {
                    true => {
                        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                         Upgrade: echo\r\n\r\n"
                    }
                    false => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno",
                };
                stream.write_all(answer.as_bytes()).await.unwrap();
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

async fn port(node: &Node) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_port(listener, node.ingress.clone(), node.stop.clone()));
    TcpStream::connect(address).await.unwrap()
}

async fn head(client: &mut TcpStream, request: &str) -> String {
    client.write_all(request.as_bytes()).await.unwrap();
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(char::from(client.read_u8().await.unwrap()));
    }
    head.to_ascii_lowercase()
}

const WISH: &str =
    "GET / HTTP/1.1\r\nHost: web.shoal\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo\r\n\r\n";

/// The client's node, the mesh and the replica's node each pass the bytes on, both ways, until the
/// client closes.
#[tokio::test]
async fn connection_goes_on_with_another_protocol_across_nodes() {
    let mesh = Arc::new(FakeMesh::default());
    let (here, there) = (Node::new("n1", &mesh), Node::new("n2", &mesh));
    there.tunnels(mesh.take(OTHER));
    here.route(&[(0, OTHER, false)]);
    there.route(&[(0, OTHER, true)]);
    let id = instance_id(&"web".parse().unwrap(), &replica(0), &GENERATION);
    there.runtime.run_at(id, echo().await);
    let mut client = port(&here).await;
    let head = head(&mut client, WISH).await;
    assert!(head.starts_with("http/1.1 101") && head.contains("upgrade: echo"), "{head}");
    assert_eq!(there.ingress.requests.held(), 1, "it counts as long as it lives");
    for word in ["one", "two"] {
        client.write_all(word.as_bytes()).await.unwrap();
        let mut back = [0; 3];
        client.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, word.as_bytes());
    }
    client.shutdown().await.unwrap();
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
    while there.ingress.requests.held() + here.ingress.requests.held() > 0 {
        tokio::task::yield_now().await;
    }
}

/// A component answers plainly, and a server that does not agree is an ordinary one.
#[tokio::test]
async fn server_that_does_not_agree_answers_as_always() {
    let node = Node::new("n1", &Arc::default());
    node.route(&[(0, NODE, true)]);
    node.run(0);
    let mut client = port(&node).await;
    assert!(head(&mut client, WISH).await.starts_with("http/1.1 200"));

    let id = instance_id(&"web".parse().unwrap(), &replica(0), &GENERATION);
    node.runtime.run_at(id, echo().await);
    let mut client = port(&node).await;
    let other = WISH.replace("Upgrade: echo", "Upgrade: other");
    assert!(head(&mut client, &other).await.starts_with("http/1.1 200"));
}

#[tokio::test]
async fn protocol_that_nobody_asked_for_is_an_error_of_the_replica() {
    let node = Node::new("n1", &Arc::default());
    node.route(&[(0, NODE, true)]);
    let id = instance_id(&"web".parse().unwrap(), &replica(0), &GENERATION);
    node.runtime.run_at(id, echo().await);
    let mut client = port(&node).await;
    let plain = "GET /always HTTP/1.1\r\nHost: web.shoal\r\n\r\n";
    assert!(head(&mut client, plain).await.starts_with("http/1.1 502"));
}
