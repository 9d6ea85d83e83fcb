//! Connections of operators: no links, and no way to keep members out.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use super::*;

/// The frame that says who one is, an answer, and streams. The driver hears nothing of it: no link
/// comes of the connection, and nothing of the core is sent to it.
#[tokio::test]
async fn operator_connects_and_is_no_link() {
    let mut node = peer(1).await;
    let mut door = node.network.operators().unwrap();
    assert!(node.network.operators().is_none(), "it has one master");
    let address = node.network.listening().to_string();
    let operator = async {
        let mut line = dial(&address, &[99; 32], &PROLOGUE).await.unwrap();
        assert_eq!(line.node, id(1));
        assert_eq!(line.ask(b"grants", 100).await.unwrap(), b"welcome");
        let mut stream = line.opener().await.unwrap().open().await.unwrap();
        stream.write_all(b"question").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let host = async {
        let mut visitor = door.next().await.unwrap().greet().await.unwrap();
        assert_eq!(visitor.key.0, id(99).0);
        assert_eq!(visitor.hear(100).await.unwrap(), b"grants");
        visitor.say(b"welcome").await.unwrap();
        let mut streams = visitor.admit().await.unwrap();
        let mut stream = streams.next().await.unwrap();
        let answered = async {
            let mut asked = String::new();
            stream.read_to_string(&mut asked).await.unwrap();
            stream.write_all(asked.to_uppercase().as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            std::future::pending::<()>().await
        };
        // Bytes move while the next stream is waited for.
        tokio::join!(async { while streams.next().await.is_ok() {} }, answered)
    };
    let answer = tokio::select! {
        answer = operator => answer,
        _ = host => unreachable!("the host waits for more"),
    };
    assert_eq!(answer, "QUESTION");
    assert!(node.inbox.urgent.try_recv().is_err() && node.network.links.with(|all| all.is_empty()));
}

/// Another cluster's operator finds out that it is at the wrong door.
#[tokio::test]
async fn operator_of_another_cluster_is_told() {
    let node = peer(1).await;
    let mut door = node.network.operators().unwrap();
    let host = tokio::spawn(async move { door.next().await.unwrap().greet().await.is_ok() });
    let address = node.network.listening().to_string();
    let error = dial(&address, &[99; 32], &[1; 32]).await.err().unwrap();
    assert!(matches!(error, NoVisit::Stranger { .. }), "{error}");
    assert!(!host.await.unwrap());
    let nobody = dial("127.0.0.1:1", &[99; 32], &PROLOGUE).await.err().unwrap();
    assert!(matches!(nobody, NoVisit::Silent { .. }), "{nobody}");
}

/// An address opens connections as operators do, more than there are places. A member still links.
#[tokio::test]
async fn flood_of_operators_keeps_no_member_out() {
    let (mut a, mut b) = (peer(1).await, peer(2).await);
    let mut flood = Vec::new();
    for _ in 0..300 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.9:0".parse().unwrap()).unwrap();
        let mut stream = socket.connect(a.network.listening()).await.unwrap();
        stream.write_all(b"\0operate1").await.unwrap();
        flood.push(stream);
    }
    b.dial(&a);
    assert_eq!((b.link_up().await, a.link_up().await), (a.id, b.id));
}
