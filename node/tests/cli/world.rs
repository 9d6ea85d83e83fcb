//! A cluster of three nodes in this process, for tests through the command line.

use std::net::SocketAddr;
use std::time::Duration;

use shoal::Node;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cli::{self, Ended};
use crate::guests;

/// Far above what any step takes on a busy machine: only a hang reaches it.
const TIME_LIMIT: Duration = Duration::from_secs(180);

/// A cluster of three nodes; the first one has the operator's key.
pub struct World {
    /// A folder with the guests.
    pub home: TempDir,
    pub nodes: Vec<Node>,
}

impl World {
    pub async fn new() -> World {
        let home = TempDir::new().unwrap();
        let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let mut nodes: Vec<Node> = Vec::new();
        for name in ["one", "two", "three"] {
            let node = Node::builder().state(home.path().join(name)).name(name).listen(local);
            let node = node.http(local).mdns(false).engine("none").memory("1GiB");
            let node = node.compiler(env!("CARGO_BIN_EXE_shoal"));
            let node = match nodes.first() {
                Some(first) => node.join(first.invite(9, Duration::from_secs(600)).await.unwrap()),
                None => node,
            };
            nodes.push(node.start().await.unwrap());
        }
        for guest in ["hello", "faulty"] {
            std::fs::write(home.path().join(format!("{guest}.wasm")), guests::bytes(guest))
                .unwrap();
        }
        let world = World { home, nodes };
        for node in &world.nodes {
            world
                .until("all know one another", async || {
                    let all = node.nodes().await.unwrap();
                    all.iter().filter(|it| it.state == "up").count() == 3
                })
                .await;
        }
        world
    }

    pub async fn until(&self, what: &str, mut look: impl AsyncFnMut() -> bool) {
        let looks = async {
            while !look().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(TIME_LIMIT, looks).await.unwrap_or_else(|_| panic!("not: {what}"));
    }

    pub async fn shoal(&self, words: &[&str]) -> Ended {
        let config = self.home.path().join("one").join("operator");
        cli::shoal((self.home.path(), &config, self.nodes[0].socket()), words, "").await
    }
}

/// Asks for `web` at a node's HTTP port: the status and the answer.
pub async fn get(at: SocketAddr) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(at).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: web.localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.unwrap_or_default(), answer))
}
