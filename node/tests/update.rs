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
#[path = "cli/world.rs"]
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cli::Ended;
use shoal::Node;
use world::{World, get};

/// Publishes three replicas of a guest.
async fn publish(world: &World, guest: &str, more: &str, update: &str) -> Ended {
    let file = world.home.path().join("web.yaml");
    let text = format!("name: web\nwasm: {guest}.wasm\nreplicas: 3\n{more}\nupdate: {update}\n");
    std::fs::write(&file, text).unwrap();
    world.shoal(&["publish", file.to_str().unwrap(), "--timeout", "150s"]).await
}

/// Asks every node in a loop. The answers that were no 200 are returned at the end.
fn clients(world: &World) -> Clients {
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
    Clients { is_over: is_over.clone(), tasks: world.nodes.iter().map(ask).collect() }
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

const BACK: &str = "{ on-failure: roll-back, deadline: 20s }";
/// It is asked at a path at which it panics.
const NEVER_STARTS: &str =
    "health: { startup: { http: { path: /panic }, every: 100ms, failures: 2 } }";

#[tokio::test(flavor = "multi_thread")]
async fn failed_version_is_rolled_back_and_a_good_one_is_taken() {
    let world = World::new().await;
    publish(&world, "hello", "env: { NAME: one }", BACK).await.says(0, &["web: created"]);
    for node in &world.nodes {
        world.until("it answers", async || matches!(get(node.http()).await, Ok((200, _)))).await;
    }
    let clients = clients(&world);
    let failed = publish(&world, "faulty", NEVER_STARTS, BACK).await;
    failed.says(5, &["its update failed and was rolled back", "failed on"]);
    world.shoal(&["describe", "web"]).await.says(0, &["rolled back (generation "]);
    world.shoal(&["ps"]).await.says(0, &["rolled back"]);
    // The very same is no better now.
    let again = publish(&world, "faulty", NEVER_STARTS, BACK).await;
    again.says(4, &["this version was rolled back", "hint: ", "raise `restarts` in its file"]);
    // What runs is what it was before: there is nothing to wait for.
    let before = publish(&world, "hello", "env: { NAME: one }", BACK).await;
    before.says(0, &["web: unchanged"]);
    let good = publish(&world, "hello", "env: { NAME: two }", BACK).await;
    good.says(0, &["web: changed"]);
    world.shoal(&["describe", "web"]).await.says(0, &["3 of 3 run the new version, done"]);
    world.shoal(&["export", "web"]).await.says(0, &["on-failure: roll-back", "NAME: two"]);
    // What it could be rolled back to is no difference.
    let again = publish(&world, "hello", "env: { NAME: two }", BACK).await;
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
    publish(&world, "hello", "env: { NAME: one }", canary).await.says(0, &["web: created"]);
    let held = publish(&world, "hello", "env: { NAME: two }", canary).await;
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
