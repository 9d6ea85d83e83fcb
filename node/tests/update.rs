//! Updates step by step on real nodes: a version that fails is rolled back while all is answered, a
//! canary waits, and an update is held and goes on.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should stop"
)]

mod cli;
#[path = "../../runtimes/tests/guests/mod.rs"]
mod guests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cli::Ended;
use shoal::Node;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Far above what any step takes on a busy machine: only a hang reaches it.
const TIME_LIMIT: Duration = Duration::from_secs(180);

struct World {
    home: TempDir,
    nodes: Vec<Node>,
}

impl World {
    async fn new() -> World {
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

    async fn until(&self, what: &str, mut look: impl AsyncFnMut() -> bool) {
        let looks = async {
            while !look().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(TIME_LIMIT, looks).await.unwrap_or_else(|_| panic!("not: {what}"));
    }

    async fn shoal(&self, words: &[&str]) -> Ended {
        let config = self.home.path().join("one").join("operator");
        cli::shoal((self.home.path(), &config, self.nodes[0].socket()), words, "").await
    }

    /// Publishes three replicas of a guest.
    async fn publish(&self, guest: &str, more: &str, update: &str) -> Ended {
        let file = self.home.path().join("web.yaml");
        let text =
            format!("name: web\nwasm: {guest}.wasm\nreplicas: 3\n{more}\nupdate: {update}\n");
        std::fs::write(&file, text).unwrap();
        self.shoal(&["publish", file.to_str().unwrap(), "--timeout", "150s"]).await
    }

    /// Asks every node in a loop. The answers that were no 200 are returned at the end.
    fn clients(&self) -> Clients {
        let is_over = Arc::new(AtomicBool::new(false));
        let ask = |node: &Node| {
            let (at, is_over) = (node.http(), is_over.clone());
            tokio::spawn(async move {
                let (mut count, mut failed) = (0, Vec::new());
                while !is_over.load(Ordering::Relaxed) {
                    count += 1;
                    match get(at).await {
                        Ok((200, _)) => {}
                        other => failed.push(format!("{other:?}")),
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                (count, failed)
            })
        };
        Clients { is_over: is_over.clone(), tasks: self.nodes.iter().map(ask).collect() }
    }
}

struct Clients {
    is_over: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<(u32, Vec<String>)>>,
}

impl Clients {
    async fn all_answered(self) {
        self.is_over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            let (count, failed) = task.await.unwrap();
            assert!(count > 0);
            assert!(failed.is_empty(), "{} of {count} failed: {:?}", failed.len(), failed.first());
        }
    }
}

async fn get(at: SocketAddr) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(at).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: web.localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.unwrap_or_default(), answer))
}

const BACK: &str = "{ on-failure: roll-back, deadline: 20s }";
/// It is asked at a path at which it panics.
const NEVER_STARTS: &str =
    "health: { startup: { http: { path: /panic }, every: 100ms, failures: 2 } }";

#[tokio::test(flavor = "multi_thread")]
async fn failed_version_is_rolled_back_and_a_good_one_is_taken() {
    let world = World::new().await;
    world.publish("hello", "env: { NAME: one }", BACK).await.says(0, &["web: created"]);
    for node in &world.nodes {
        world.until("it answers", async || matches!(get(node.http()).await, Ok((200, _)))).await;
    }
    let clients = world.clients();
    let failed = world.publish("faulty", NEVER_STARTS, BACK).await;
    failed.says(5, &["its update failed and was rolled back", "failed on"]);
    world.shoal(&["describe", "web"]).await.says(0, &["rolled back (generation "]);
    world.shoal(&["ps"]).await.says(0, &["rolled back"]);
    // The very same is no better now.
    let again = world.publish("faulty", NEVER_STARTS, BACK).await;
    again.says(4, &["this version was rolled back", "hint: ", "raise `restarts` in its file"]);
    let good = world.publish("hello", "env: { NAME: two }", BACK).await;
    good.says(0, &["web: changed"]);
    world.shoal(&["describe", "web"]).await.says(0, &["3 of 3 run the new version, done"]);
    // What it could be rolled back to is no difference.
    let again = world.publish("hello", "env: { NAME: two }", BACK).await;
    again.says(0, &["web: unchanged"]);
    clients.all_answered().await;
    for node in &world.nodes {
        let (status, answer) = get(node.http()).await.unwrap();
        assert!(status == 200 && answer.contains("hello, two"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn update_is_held_and_goes_on() {
    let world = World::new().await;
    let canary = "{ canary: 1, min-ready: 2s }";
    world.publish("hello", "env: { NAME: one }", canary).await.says(0, &["web: created"]);
    let held = world.publish("hello", "env: { NAME: two }", canary).await;
    held.says(0, &["1 of 3 run the new version as its canary: `shoal resume web`"]);
    world.shoal(&["ps"]).await.says(0, &["healthy, canary"]);
    let told = world.shoal(&["resume", "web"]).await;
    told.says(0, &["its update goes on past its canary"]);
    world.shoal(&["describe", "web"]).await.says(0, &["3 of 3 run the new version, done"]);

    world.shoal(&["pause", "web"]).await.says(0, &["its updates are paused"]);
    world.shoal(&["pause", "web"]).await.says(0, &["are paused already"]);
    world.shoal(&["restart", "web"]).await.says(0, &["0 of 3 run the new version", "paused"]);
    world.shoal(&["describe", "web"]).await.says(0, &["paused: `shoal resume web` goes on"]);
    world.shoal(&["resume", "web"]).await.says(0, &["its updates go on"]);
    world.shoal(&["describe", "web"]).await.says(0, &["3 of 3 run the new version, done"]);
}
