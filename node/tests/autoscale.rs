//! A workload that sleeps until a request comes, on real nodes.
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

use shoal::protocol::model::view::WorkloadView;
use world::{World, get};

async fn view(world: &World) -> WorkloadView {
    let told = world.shoal(&["-o", "json", "describe", "web"]).await.done();
    serde_json::from_str(&told).unwrap()
}

/// It stops when nobody asks, and a request at any node starts it and is answered.
#[tokio::test(flavor = "multi_thread")]
async fn request_wakes_a_workload_that_sleeps() {
    let world = World::new().await;
    let file = world.home.path().join("web.yaml");
    let text = "name: web\nwasm: hello.wasm\nautoscale: { min: 0, max: 2, requests: 5, down: 10s }";
    std::fs::write(&file, text).unwrap();
    world.shoal(&["publish", file.to_str().unwrap()]).await.says(0, &["web: created"]);
    for node in &world.nodes {
        world.until("it sleeps", async || view(&world).await.scale.unwrap().sleeps).await;
        world.shoal(&["ps"]).await.says(0, &["0/0", "asleep"]);
        let (status, answer) = get(node.http()).await.unwrap();
        assert!(status == 200 && answer.contains("hello"), "{answer}");
        assert_eq!(view(&world).await.desired, 1);
    }
    let refused = world.shoal(&["scale", "web=3"]).await;
    refused.says(2, &["it is scaled by load, from 0 to 2"]);
    let told = world.shoal(&["autoscale", "web", "--min", "1", "--cpu", "70"]).await;
    told.says(0, &["autoscale", "1 to 2, 70% of the reserved CPU"]);
    world.shoal(&["autoscale", "web", "--off"]).await.says(0, &["autoscale"]);
    world.shoal(&["describe", "web"]).await.says(0, &["1 of 1 healthy"]);
}
