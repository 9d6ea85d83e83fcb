//! A node embedded in another program: an IoT gateway that brings its own workloads.
//!
//! ```text
//! gateway STATE-FOLDER COMPONENT.wasm [JOIN-LINE]
//! ```
//!
//! The first gateway makes a cluster and prints the line by which others join. Ctrl-C stops a
//! gateway gracefully; its replicas move to other nodes unless it is back within seconds.

#![expect(clippy::print_stdout, reason = "its output is for a person at a terminal")]

use std::time::Duration;

use anyhow::Context;
use futures::StreamExt;
use shoal::{Node, Workload};

fn main() -> anyhow::Result<()> {
    // First, since this same program is started again to compile components.
    shoal::init();
    shoal::event_loop()?.block_on(gateway())
}

async fn gateway() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let state =
        arguments.next().context("usage: gateway STATE-FOLDER COMPONENT.wasm [JOIN-LINE]")?;
    let component =
        arguments.next().context("a component is needed: cargo build --target wasm32-wasip2")?;

    let mut builder = Node::builder()
        .state(&state)
        .listen("0.0.0.0:0".parse()?)
        .http("127.0.0.1:0".parse()?)
        .label("kind", "gateway")
        .memory("256MiB");
    if let Some(line) = arguments.next() {
        builder = builder.join(line);
    }
    let node = builder.start().await?;
    println!("{} is up; workloads answer on http://{}/", node.name(), node.http());
    println!("others join with: {}", node.invite(1, std::time::Duration::from_secs(600)).await?);

    // A node that joined holds no operator key: it runs what others publish, and cannot publish.
    if node.founded() {
        let workload = Workload::wasm("readings", component.as_str())?
            .replicas(2)
            .env("UNIT", "celsius")
            .require("kind", "gateway");
        let published = node.publish(workload).await?;
        println!("{} is published", published.name);
    }

    let mut events = node.events();
    loop {
        tokio::select! {
            Some(event) = events.next() => println!("{} {}", event.at, event.message),
            // The gateway's own work goes on beside it.
            () = tokio::time::sleep(Duration::from_secs(60)) => report(&node).await?,
            _ = tokio::signal::ctrl_c() => break,
            () = node.asked_to_stop() => break,
        }
    }
    node.stop().await;
    Ok(())
}

async fn report(node: &Node) -> anyhow::Result<()> {
    for workload in node.workloads().await? {
        println!(
            "{}: {} of {} replicas are healthy",
            workload.name, workload.healthy, workload.desired
        );
    }
    Ok(())
}
