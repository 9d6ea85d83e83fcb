//! Containers in whole nodes, on a Docker and a Podman engine that the tests start. As root, with
//! both installed: `cargo testnet check --engines`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use serde_json::Value;
use shoal::protocol::model::WorkloadName;
use shoal::protocol::model::spec::{
    Check, Health, Mount, OnLoss, Port, Probe, Volume, VolumeSource,
};
use shoal::protocol::model::view::ReplicaView;
use shoal::{Node, Workload};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use engines::{Kind, TestEngine, shared};

mod cli;
#[path = "containers/doors.rs"]
mod doors;
#[path = "../../runtimes/tests/engines/mod.rs"]
#[allow(dead_code, reason = "the adapter's own tests use all of it")]
mod engines;
#[path = "containers/names.rs"]
mod names;

/// Far above what a step takes on a busy machine: only a hang reaches it.
const TIME_LIMIT: Duration = Duration::from_secs(90);
/// How long a container that does not listen to its stop signal takes to end: time for other nodes
/// to dial its node again.
const STOPS_AFTER: Duration = Duration::from_secs(3);

async fn start(state: &Path, engine: &str, join: Option<String>) -> Node {
    let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
    // This program is a test harness and cannot call `shoal::init` first; the daemon does.
    let compiler = env!("CARGO_BIN_EXE_shoal");
    let mut builder = Node::builder()
        .state(state)
        .listen(local)
        .http(local)
        .advertise([])
        .mdns(false)
        .memory("512MiB")
        .engine(engine)
        .compiler(compiler);
    if let Some(line) = join {
        builder = builder.join(line);
    }
    builder.start().await.unwrap()
}

/// Tries until it succeeds: nodes learn of one another, and of an engine, a moment later.
async fn until<T, E: std::fmt::Display>(
    what: &str,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let mut last = String::new();
    let tries = async {
        loop {
            match attempt().await {
                Ok(done) => return done,
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let done = tokio::time::timeout(TIME_LIMIT, tries).await;
    done.unwrap_or_else(|_| panic!("{what}: {last}"))
}

/// The answer of `web` through a node's HTTP port.
async fn get(node: &Node) -> Result<String, std::io::Error> {
    get_at(node, "/").await
}

async fn get_at(node: &Node, path: &str) -> Result<String, std::io::Error> {
    let mut stream = tokio::net::TcpStream::connect(node.http()).await?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: web.localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    match answer.starts_with("HTTP/1.1 200") {
        true => Ok(answer),
        false => Err(std::io::Error::other(answer)),
    }
}

/// The containers of a node that run, by their ids.
fn running(engine: &TestEngine, node: &Node) -> Vec<String> {
    let containers = engine.containers(&node.id().to_string());
    let runs = |it: &&Value| it["State"] == "running";
    containers.iter().filter(runs).map(|it| it["Id"].as_str().unwrap().to_owned()).collect()
}

/// An image is published from a file through a node without an engine. Another node runs it: its
/// parts went from node to node, and no registry was asked. The container outlives its daemon, the
/// next one goes on with it, and it is gone when the workload is removed.
async fn image_of_a_file_runs_elsewhere_and_outlives_its_daemon(kind: Kind) {
    let engine = shared(kind);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image.tar");
    std::fs::write(&file, &engines::image::archives()[0]).unwrap();
    let (first, second) = (folder.path().join("1"), folder.path().join("2"));
    let socket = engine.socket.to_str().unwrap();
    let one = start(&first, "none", None).await;
    let two = start(
        &second,
        socket,
        Some(one.invite(9, std::time::Duration::from_secs(600)).await.unwrap()),
    )
    .await;
    let name: WorkloadName = "web".parse().unwrap();
    let web = Workload::image_file(name.clone(), &file, None)
        .with_container(|container| container.http = Some(8080));
    until("published", async || one.publish(web.clone()).await).await;
    tokio::time::timeout(TIME_LIMIT, one.healthy(&name)).await.expect("it runs").unwrap();
    until("an answer", async || get(&one).await).await;
    let before = running(engine, &two);
    assert_eq!(before.len(), 1, "{:?}", engine.containers(&two.id().to_string()));

    two.stop().await;
    let two = start(&second, socket, None).await;
    tokio::time::timeout(TIME_LIMIT, two.healthy(&name)).await.expect("it runs").unwrap();
    until("an answer after the restart", async || get(&two).await).await;
    assert_eq!(running(engine, &two), before, "the same container");

    one.remove(&name).await.unwrap();
    until("it is gone", async || {
        let left = engine.containers(&two.id().to_string());
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    one.stop().await;
    two.stop().await;
}

/// The names of all images of an engine.
fn images(engine: &TestEngine) -> Vec<String> {
    let images = engine.get("/images/json");
    let tags = images.as_array().unwrap().iter().filter_map(|image| image["RepoTags"].as_array());
    tags.flatten().filter_map(|tag| tag.as_str()).map(str::to_owned).collect()
}

/// An image was built on the device of one node and is in no registry. It runs on both nodes, from
/// the same bytes; the node that guards it has loaded it ahead of its need; publishing it again
/// changes no byte.
async fn image_that_one_engine_has_runs_on_every_node(here: Kind, there: Kind) {
    let (engine, other) = (shared(here), shared(there));
    let built = format!("localhost/built-{}:1", std::process::id());
    let (repo, tag) = built.rsplit_once(':').unwrap();
    engine.post(&format!("/images/localhost/shoal-test:1/tag?repo={repo}&tag={tag}"), &Value::Null);
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("1"), folder.path().join("2"));
    let one = start(&first, engine.socket.to_str().unwrap(), None).await;
    let line = one.invite(9, std::time::Duration::from_secs(600)).await.unwrap();
    let two = start(&second, other.socket.to_str().unwrap(), Some(line)).await;
    let name: WorkloadName = "web".parse().unwrap();
    let web = Workload::container(name.clone(), &built)
        .with_container(|container| container.http = Some(8080));
    let published = until("published", async || one.publish(web.clone()).await).await;
    tokio::time::timeout(TIME_LIMIT, one.healthy(&name)).await.expect("it runs").unwrap();
    until("loaded ahead of its need on both", async || {
        let loaded = [engine, other]
            .map(|it| images(it).into_iter().find(|name| name.starts_with("localhost/shoal:")));
        if loaded.iter().all(Option::is_some) { Ok(()) } else { Err(format!("{loaded:?}")) }
    })
    .await;
    let container = |one: Option<&shoal::protocol::model::spec::Spec>| {
        let shoal::protocol::model::spec::Program::Containers(all) = &one.unwrap().program else {
            panic!("it is a container")
        };
        all[0].image.clone()
    };
    let image = container(published.spec.as_ref());
    assert_eq!((image.platforms.len(), image.digest), (1, None), "{image:?}");
    let again = one.publish(web.clone().replicas(2)).await.unwrap();
    assert_eq!(container(again.spec.as_ref()), image, "the same bytes");
    tokio::time::timeout(TIME_LIMIT, one.healthy(&name)).await.expect("it runs").unwrap();
    let wanted = format!("localhost/shoal:{}", image.platforms[0].config.digest);
    for (engine, node) in [(engine, &one), (other, &two)] {
        let containers = engine.containers(&node.id().to_string());
        let runs: Vec<&str> = containers.iter().filter_map(|it| it["Image"].as_str()).collect();
        assert_eq!(runs, [wanted.as_str()]);
    }
    one.remove(&name).await.unwrap();
    until("they are gone", async || {
        let left = [(engine, &one), (other, &two)]
            .map(|(engine, node)| engine.containers(&node.id().to_string()).len());
        if left == [0, 0] { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    assert!(images(engine).contains(&built), "{:?}", images(engine));
    one.stop().await;
    two.stop().await;
}

/// A node was taken down, and its container needed seconds to end. Meanwhile the node still took
/// links: to the others it was back, and its older claim won over the replacement that ran already.
async fn node_that_is_taken_down_does_not_come_back(kind: Kind) {
    let engine = shared(kind);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image.tar");
    std::fs::write(&file, &engines::image::archives()[0]).unwrap();
    let (first, second) = (folder.path().join("1"), folder.path().join("2"));
    let one = start(&first, "none", None).await;
    let socket = engine.socket.to_str().unwrap();
    let two = start(
        &second,
        socket,
        Some(one.invite(9, std::time::Duration::from_secs(600)).await.unwrap()),
    )
    .await;
    let name: WorkloadName = "web".parse().unwrap();
    let web = Workload::image_file(name.clone(), &file, None)
        .command(vec!["deaf".into()])
        .with_container(|it| (it.http, it.stop_grace) = (Some(8080), Some(STOPS_AFTER)));
    until("published", async || one.publish(web.clone()).await).await;
    tokio::time::timeout(TIME_LIMIT, one.healthy(&name)).await.expect("it runs").unwrap();
    let about = two.id().short();
    two.stop_for(Duration::ZERO).await;
    let (mut events, mut seen) = (one.events(), Vec::new());
    // The events so far are there at once.
    while let Some(Some(event)) = events.next().now_or_never() {
        if event.node.is_some() && ["node-up", "node-down"].contains(&event.kind.as_str()) {
            seen.push(event.kind);
        }
    }
    let down = seen.iter().position(|kind| kind == "node-down");
    let down = down.unwrap_or_else(|| panic!("{about} said goodbye: {seen:?}"));
    assert!(!seen[down..].contains(&"node-up".to_owned()), "{seen:?}");
    one.stop().await;
}

/// Two nodes could run it. It waits for the one that has its volume, finds its data when that
/// returns, and so does a later workload of the same name.
async fn replica_stays_where_its_volume_is(kind: Kind) {
    let engine = shared(kind);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image.tar");
    std::fs::write(&file, &engines::image::archives()[0]).unwrap();
    let (first, second) = (folder.path().join("1"), folder.path().join("2"));
    let socket = engine.socket.to_str().unwrap();
    let one = start(&first, "none", None).await;
    let two = start(
        &second,
        socket,
        Some(one.invite(9, std::time::Duration::from_secs(600)).await.unwrap()),
    )
    .await;
    let name: WorkloadName = "web".parse().unwrap();
    let source = VolumeSource::Kept;
    let web = Workload::image_file(name.clone(), &file, None)
        .storage(vec![Volume { name: "data".into(), source, on_loss: OnLoss::Wait }])
        .with_container(|it| {
            it.http = Some(8080);
            it.mounts =
                vec![Mount { volume: "data".into(), path: "/data".into(), read_only: false }];
        });
    until("published", async || one.publish(web.clone()).await).await;
    tokio::time::timeout(TIME_LIMIT, one.healthy(&name)).await.expect("it runs").unwrap();
    until("written", async || get_at(&one, "/write?/data/file").await).await;
    let owner = two.id().to_string();
    assert_eq!(engine.volumes(&owner).len(), 1);
    let keeps = async |node: &Node| {
        let nodes = node.nodes().await.map_err(|error| error.to_string())?;
        let volumes: Vec<String> = nodes.into_iter().flat_map(|it| it.volumes).collect();
        if volumes == ["web/0/data"] { Ok(()) } else { Err(format!("{volumes:?}")) }
    };
    until("it is told", async || keeps(&one).await).await;
    two.stop_for(Duration::ZERO).await;

    // Another one could run it now.
    one.stop().await;
    let one = start(&first, socket, None).await;
    until("it waits", async || {
        let view = one.workload(&name).await.map_err(|error| error.to_string())?;
        let reason = view.replicas[0].reason.clone().unwrap_or_default();
        let waits = reason.starts_with("its volume `data` is on ");
        if waits { Ok(()) } else { Err(format!("{:?}", view.replicas)) }
    })
    .await;
    let two = start(&second, socket, None).await;
    until("its data", async || {
        let answer = get_at(&one, "/read?/data/file").await?;
        let is_there = answer.ends_with("\r\n\r\nx");
        if is_there { Ok(()) } else { Err(std::io::Error::other(answer)) }
    })
    .await;

    one.remove(&name).await.unwrap();
    until("it is gone", async || {
        let left = engine.containers(&owner);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    until("published again", async || one.publish(web.clone()).await).await;
    until("its data again", async || {
        let answer = get_at(&one, "/read?/data/file").await?;
        let is_there = answer.ends_with("\r\n\r\nx");
        if is_there { Ok(()) } else { Err(std::io::Error::other(answer)) }
    })
    .await;
    one.remove(&name).await.unwrap();
    let other = one.id().to_string();
    one.stop().await;
    two.stop_for(Duration::ZERO).await;
    [owner, other].iter().for_each(|owner| engine.clear(owner));
}

/// Each node's container asks for another workload by its name, and reaches it on both nodes, over
/// the mesh too. Then that workload moves on to another port, and the name leads there. Another one
/// publishes that port of the device.
async fn workloads_reach_one_another_by_name(kind: Kind) {
    let engine = shared(kind);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image.tar");
    std::fs::write(&file, &engines::image::archives()[0]).unwrap();
    let socket = engine.socket.to_str().unwrap();
    let one = start(&folder.path().join("1"), socket, None).await;
    let two = start(
        &folder.path().join("2"),
        socket,
        Some(one.invite(9, std::time::Duration::from_secs(600)).await.unwrap()),
    )
    .await;
    let server = |name: &str| {
        Workload::image_file(name.parse().unwrap(), &file, None)
            .with_container(|container| container.http = Some(8080))
    };
    for workload in [server("db"), server("web").replicas(2)] {
        until("published", async || one.publish(workload.clone()).await).await;
        let healthy = one.healthy(workload.name());
        tokio::time::timeout(TIME_LIMIT, healthy).await.expect("it runs").unwrap();
    }
    let asks = async |node: &Node, server: &str| {
        until("the other workload's answer", async || {
            let answer = get_at(node, &format!("/fetch?{server}")).await?;
            match answer.contains("SHOAL_WORKLOAD=db") {
                true => Ok(()),
                false => Err(std::io::Error::other(answer)),
            }
        })
        .await;
    };
    for node in [&one, &two] {
        for server in ["db:8080", "db:80", "db.default:8080", "db.default.shoal:8080"] {
            asks(node, server).await;
        }
    }
    // Free on this device: it is published below.
    let port = std::net::TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let at_port = |workload: Workload| {
        workload.env("PORT", port.to_string()).with_container(|it| it.http = Some(port))
    };
    let moved = at_port(server("db"));
    until("published", async || one.publish(moved.clone()).await).await;
    for node in [&one, &two] {
        asks(node, &format!("db:{port}")).await;
    }
    // A device's port of the same number is given to the engine, although names are listened for.
    // Only by its own node: a device has one.
    two.stop().await;
    let ports = vec![Port { device: port, replica: port, udp: false, address: None }];
    let edge = at_port(server("edge")).ports(ports);
    until("published", async || one.publish(edge.clone()).await).await;
    let healthy = one.healthy(edge.name());
    tokio::time::timeout(TIME_LIMIT, healthy).await.expect("it runs").unwrap();
    one.stop().await;
}

/// A container whose command says that it is not ready gets no requests; one that is asked at a
/// port on which nobody listens is restarted, and says why; both end when the probe is right.
async fn probes_decide_about_requests_and_restarts(kind: Kind) {
    let engine = shared(kind);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image.tar");
    std::fs::write(&file, &engines::image::archives()[0]).unwrap();
    let one = start(&folder.path().join("1"), engine.socket.to_str().unwrap(), None).await;
    let name: WorkloadName = "web".parse().unwrap();
    let web = |health: Health| {
        Workload::image_file(name.clone(), &file, None)
            .with_container(|container| container.http = Some(8080))
            .health(health)
    };
    let quick = |check| Probe {
        every: Duration::from_millis(200),
        timeout: Duration::from_secs(10),
        failures: 2,
        ..Probe::of(check)
    };
    let fetch = |server: &str| Check::Exec {
        command: ["/server", "fetch", server].map(str::to_owned).to_vec(),
    };
    let seen = async |what: &str, phase: &str, reason: &str| {
        until(what, async || {
            let view = one.workload(&name).await.map_err(|error| error.to_string())?;
            let is_it = |it: &ReplicaView| {
                it.phase == phase && it.reason.as_ref().is_some_and(|it| it.contains(reason))
            };
            match view.replicas.iter().any(is_it) {
                true => Ok(()),
                false => Err(format!("{:?}", view.replicas)),
            }
        })
        .await;
    };
    let wrong = quick(fetch("127.0.0.1:9"));
    let first = web(Health { readiness: Some(wrong), ..Health::default() });
    until("published", async || one.publish(first.clone()).await).await;
    seen("it is not ready", "not-ready", "`/server` ended with 1: failed: ").await;
    assert!(get(&one).await.is_err(), "it gets no requests");
    assert_eq!(running(engine, &one).len(), 1);

    let checks = [
        ("the port of its requests", Check::http("/ready", None)),
        ("a connection", Check::Tcp { port: 8080 }),
        ("a command", fetch("127.0.0.1:8080")),
    ];
    for (what, check) in checks {
        let good = web(Health { readiness: Some(quick(check)), ..Health::default() });
        until(what, async || one.publish(good.clone()).await).await;
        tokio::time::timeout(TIME_LIMIT, one.healthy(&name)).await.expect(what).unwrap();
        until(what, async || get(&one).await).await;
    }

    one.remove(&name).await.unwrap();
    let nobody = quick(Check::Tcp { port: 9 });
    let dead = web(Health { liveness: Some(nobody), ..Health::default() });
    until("published", async || one.publish(dead.clone()).await).await;
    let why = "liveness: connection refused at port 9; does the program listen there?";
    seen("it is restarted", "failing", why).await;
    let owner = one.id().to_string();
    one.stop_for(Duration::ZERO).await;
    engine.clear(&owner);
}

#[test]
#[ignore = "needs engines: cargo testnet check --engines"]
fn workloads_reach_one_another_by_name_on_docker() {
    engines::run(workloads_reach_one_another_by_name(Kind::Docker));
}

#[test]
#[ignore = "needs engines: cargo testnet check --engines"]
fn workloads_reach_one_another_by_name_on_podman() {
    engines::run(workloads_reach_one_another_by_name(Kind::Podman));
}

#[test]
#[ignore = "needs engines: cargo testnet check --engines"]
fn replica_stays_where_its_volume_is_on_docker() {
    engines::run(replica_stays_where_its_volume_is(Kind::Docker));
}

#[test]
#[ignore = "needs engines: cargo testnet check --engines"]
fn replica_stays_where_its_volume_is_on_podman() {
    engines::run(replica_stays_where_its_volume_is(Kind::Podman));
}

#[test]
#[ignore = "needs engines: cargo testnet check --engines"]
fn node_that_is_taken_down_does_not_come_back_on_docker() {
    engines::run(node_that_is_taken_down_does_not_come_back(Kind::Docker));
}

#[test]
#[ignore = "needs engines: cargo testnet check --engines"]
fn node_that_is_taken_down_does_not_come_back_on_podman() {
    engines::run(node_that_is_taken_down_does_not_come_back(Kind::Podman));
}

#[test]
#[ignore = "needs engines: cargo testnet check --engines"]
fn image_that_docker_has_runs_on_every_node() {
    engines::run(image_that_one_engine_has_runs_on_every_node(Kind::Docker, Kind::Podman));
}

#[test]
#[ignore = "needs engines: cargo testnet check --engines"]
fn image_that_podman_has_runs_on_every_node() {
    engines::run(image_that_one_engine_has_runs_on_every_node(Kind::Podman, Kind::Docker));
}

#[test]
#[ignore = "needs engines: cargo testnet check --engines"]
fn image_of_a_file_runs_elsewhere_on_docker() {
    engines::run(image_of_a_file_runs_elsewhere_and_outlives_its_daemon(Kind::Docker));
}

#[test]
#[ignore = "needs engines: cargo testnet check --engines"]
fn image_of_a_file_runs_elsewhere_on_podman() {
    engines::run(image_of_a_file_runs_elsewhere_and_outlives_its_daemon(Kind::Podman));
}

#[test]
#[ignore = "needs engines: cargo testnet check --engines"]
fn probes_decide_about_requests_and_restarts_on_docker() {
    engines::run(probes_decide_about_requests_and_restarts(Kind::Docker));
}

#[test]
#[ignore = "needs engines: cargo testnet check --engines"]
fn probes_decide_about_requests_and_restarts_on_podman() {
    engines::run(probes_decide_about_requests_and_restarts(Kind::Podman));
}
