//! Nodes inside one program, as a gateway embeds them: started, joined, used and stopped through
//! the library alone.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should stop"
)]

#[path = "../../runtimes/tests/guests/mod.rs"]
mod guests;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use shoal::publish::{Outcome, PublishError};
use shoal::{Builder, Node, Operator, StartError, Workload};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Far above what any step takes on a busy machine: only a hang reaches it.
const TIME_LIMIT: Duration = Duration::from_secs(90);

fn builder(state: &Path, name: &str) -> Builder {
    let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
    // This program is a test harness and cannot call `shoal::init` first; the daemon does.
    let compiler = env!("CARGO_BIN_EXE_shoal");
    Node::builder()
        .state(state)
        .name(name)
        .listen(local)
        .http(local)
        .memory("256MiB")
        .compiler(compiler)
}

fn hello() -> Workload {
    let bytes: bytes::Bytes = guests::bytes("hello").into();
    Workload::wasm("hello", bytes).unwrap().env("NAME", "gateway")
}

async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIME_LIMIT, work)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {TIME_LIMIT:?}"))
}

/// Polls `look` until it returns a value.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    in_time(what, async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

/// The status and the body of a request to the HTTP port of a node.
async fn get(node: &Node, host: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(node.http()).await?;
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status =
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    Ok((status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()))
}

async fn up(node: &Node) -> usize {
    node.nodes().await.unwrap().iter().filter(|node| node.state == "up").count()
}

/// Two nodes of one program: either answers for a replica of the other, only an operator's key can
/// publish, and when one node leaves for good the other one runs all replicas.
#[tokio::test(flavor = "multi_thread")]
async fn embedded_nodes_serve_one_another_and_fail_over() {
    let (one_home, two_home) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let one = in_time("a first start", builder(one_home.path(), "one").start()).await.unwrap();
    assert!(one.founded());
    let line = one.invite(9, std::time::Duration::from_secs(600)).await.unwrap();
    let two =
        in_time("a joining", builder(two_home.path(), "two").join(&line).start()).await.unwrap();
    assert!(!two.founded());
    until("the two know one another", async || {
        (up(&one).await == 2 && up(&two).await == 2).then_some(())
    })
    .await;

    // A node that joined has no operator key.
    let error = two.publish(hello()).await.unwrap_err();
    assert!(matches!(error, PublishError::NoOperator(_)), "{error}");
    assert_eq!(two.workloads().await.unwrap(), []);

    let published = one.publish(hello()).await.unwrap();
    assert_eq!(published.outcome, Outcome::Created);
    in_time("the replica is healthy", one.healthy(&published.name)).await.unwrap();
    for node in [&one, &two] {
        let answered = until("an answer", async || {
            get(node, "hello.localhost").await.ok().filter(|(status, _)| *status == 200)
        });
        assert!(answered.await.1.contains("hello, gateway"), "at {}", node.name());
    }
    assert_eq!(get(&two, "nobody.localhost").await.unwrap().0, 404);

    // With the operator's key it may publish, also after a restart in the same folder.
    let operator = Operator::load(&one_home.path().join("operator")).unwrap();
    let id = two.id();
    in_time("a stop", two.stop()).await;
    let two = in_time("a restart", builder(two_home.path(), "two").operator(operator).start())
        .await
        .unwrap();
    assert_eq!(two.id(), id);
    until("it is back", async || (up(&one).await == 2 && up(&two).await == 2).then_some(())).await;
    let scaled = two.scale(&published.name, 2).await.unwrap();
    assert!(matches!(scaled.outcome, Outcome::Changed(_)), "{scaled:?}");
    let view = in_time("two replicas are healthy", two.healthy(&published.name)).await.unwrap();
    assert_eq!((view.desired, view.healthy), (2, 2));

    // The first node leaves for good: the second one serves the workload alone.
    in_time("a stop", one.stop_for(Duration::ZERO)).await;
    let answered = until("the survivor answers", async || {
        get(&two, "hello.localhost").await.ok().filter(|(status, _)| *status == 200)
    });
    assert!(answered.await.1.contains("hello, gateway"));
    in_time("both replicas are at the survivor", async {
        while two
            .healthy(&published.name)
            .await
            .unwrap()
            .replicas
            .iter()
            .any(|replica| replica.node_name.as_deref() != Some("two"))
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let removed = two.remove(&published.name).await.unwrap();
    assert_eq!(removed.outcome, Outcome::Removed);
    in_time("a stop", two.stop()).await;
}

/// A folder in use, taken ports, a wrong invite and an invite of another cluster: each start fails
/// with its reason, and an empty state folder stays without an identity.
#[tokio::test(flavor = "multi_thread")]
async fn failed_start_says_why_and_changes_nothing() {
    let (one_home, two_home) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let one = in_time("a start", builder(one_home.path(), "one").start()).await.unwrap();

    let error =
        builder(one_home.path(), "again").start().await.err().expect("the folder is in use");
    assert!(error.to_string().contains("already"), "{error}");

    let error = builder(two_home.path(), "two")
        .http(one.http())
        .start()
        .await
        .err()
        .expect("the port is taken");
    assert!(matches!(error, StartError::HttpTaken(_)), "{error}");
    let error = builder(two_home.path(), "two")
        .listen(one.mesh())
        .start()
        .await
        .err()
        .expect("the port is taken");
    assert!(error.to_string().contains(&one.mesh().port().to_string()), "{error}");
    let error = builder(two_home.path(), "two")
        .join("shoal-join-nonsense")
        .start()
        .await
        .err()
        .expect("no such line");
    assert!(matches!(error, StartError::Join(_)), "{error}");
    assert!(
        !two_home.path().join("identity.json").exists(),
        "nothing was made by starts that failed"
    );

    // A node of one cluster does not join another.
    let two = in_time("another cluster", builder(two_home.path(), "two").start()).await.unwrap();
    let line = one.invite(9, std::time::Duration::from_secs(600)).await.unwrap();
    in_time("a stop", two.stop()).await;
    let error = builder(two_home.path(), "two")
        .join(line)
        .start()
        .await
        .err()
        .expect("another cluster's line");
    assert!(error.to_string().contains("cluster"), "{error}");
    in_time("a stop", one.stop()).await;
}
