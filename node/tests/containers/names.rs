//! Names of workloads beside programs and published ports of the device, on one node.

use std::net::TcpListener;
use std::process::{Command, Output};

use shoal::protocol::model::spec::NetworkMode;

use super::*;

/// A port that no program of the device has.
fn free_port() -> u16 {
    TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

fn nft(arguments: &[&str]) -> Output {
    Command::new("nft").args(arguments).output().unwrap()
}

/// The answer of a server, asked by a container of `web`, has this text.
async fn asks(node: &Node, server: &str, text: &str) {
    until(&format!("{server} says {text}"), async || {
        let answer = get_at(node, &format!("/fetch?{server}")).await?;
        if answer.contains(text) { Ok(()) } else { Err(std::io::Error::other(answer)) }
    })
    .await;
}

async fn runs(node: &Node, workload: Workload) {
    until("published", async || node.publish(workload.clone()).await).await;
    let healthy = node.healthy(workload.name());
    tokio::time::timeout(TIME_LIMIT, healthy).await.expect("it runs").unwrap();
}

/// A program of the device has a port at all addresses, and so has a name; a replica publishes the
/// port of another name; ports that no name has are refused, also where the device listens.
async fn names_take_no_ports_of_the_device(kind: Kind) {
    let engine = shared(kind);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image.tar");
    std::fs::write(&file, &engines::image::archives()[0]).unwrap();
    let one = start(&folder.path().join("1"), engine.socket.to_str().unwrap(), None).await;
    let server = |name: &str, port: u16| {
        Workload::image_file(name.parse().unwrap(), &file, None)
            .env("PORT", port.to_string())
            .with_container(|it| it.http = Some(port))
    };
    let before = TcpListener::bind("0.0.0.0:0").unwrap();
    let taken = before.local_addr().unwrap().port();
    let (late, published) = (free_port(), free_port());
    let db = server("db", taken).with_container(|it| it.extra.aliases = vec!["my_db".into()]);
    runs(&one, db).await;
    runs(&one, server("web", 8080)).await;
    let is_db = "SHOAL_WORKLOAD=db";
    asks(&one, &format!("db:{taken}"), is_db).await;
    asks(&one, "db:80", is_db).await;
    for name in ["my_db", "my_db.default", "my_db.default.svc.cluster.local"] {
        asks(&one, &format!("{name}:{taken}"), is_db).await;
    }
    runs(&one, server("late", late)).await;
    asks(&one, &format!("late:{late}"), "SHOAL_WORKLOAD=late").await;
    let after = TcpListener::bind(("0.0.0.0", late));
    assert!(after.is_ok(), "the name has that port, and the device, too: {after:?}");
    let other = TcpListener::bind("0.0.0.0:0").unwrap();
    let strange = other.local_addr().unwrap().port();
    asks(&one, &format!("db:{strange}"), "efused").await;
    asks(&one, "nobody.default.shoal:80", "failed: ").await;

    runs(&one, server("app", published)).await;
    let ports = vec![Port { device: published, replica: 8080, udp: false, address: None }];
    runs(&one, server("edge", 8080).ports(ports)).await;
    asks(&one, &format!("app:{published}"), "SHOAL_WORKLOAD=app").await;
    asks(&one, "edge:8080", "SHOAL_WORKLOAD=edge").await;

    let table = format!("shoal-{}", one.id().short());
    assert!(nft(&["list", "table", "ip", &table]).status.success());
    assert!(nft(&["delete", "table", "ip", &table]).status.success());
    asks(&one, &format!("db:{taken}"), is_db).await;
    let owner = one.id().to_string();
    one.stop().await;
    assert!(!nft(&["list", "table", "ip", &table]).status.success(), "it is gone");
    engine.clear(&owner);
}

/// A container in the device's own network finds others by name, and may have a port of theirs.
async fn container_in_the_devices_network_reaches_names(kind: Kind) {
    let engine = shared(kind);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image.tar");
    std::fs::write(&file, &engines::image::archives()[0]).unwrap();
    let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let one = Node::builder()
        .state(folder.path().join("1"))
        .listen(local)
        .http(local)
        .advertise([])
        .mdns(false)
        .memory("512MiB")
        .engine(engine.socket.to_str().unwrap())
        .compiler(env!("CARGO_BIN_EXE_shoal"))
        .allow(["host-network"])
        .start()
        .await
        .unwrap();
    let port = free_port();
    let server = |name: &str| {
        Workload::image_file(name.parse().unwrap(), &file, None)
            .env("PORT", port.to_string())
            .with_container(|it| it.http = Some(port))
    };
    runs(&one, server("db")).await;
    runs(&one, server("web").with_container(|it| it.network = NetworkMode::Host)).await;
    asks(&one, &format!("db.default.shoal:{port}"), "SHOAL_WORKLOAD=db").await;
    let owner = one.id().to_string();
    one.stop_for(Duration::ZERO).await;
    engine.clear(&owner);
}

#[test]
#[ignore = "needs engines: cargo testnet check --engines"]
fn names_take_no_ports_of_the_device_on_docker() {
    engines::run(names_take_no_ports_of_the_device(Kind::Docker));
}

#[test]
#[ignore = "needs engines: cargo testnet check --engines"]
fn names_take_no_ports_of_the_device_on_podman() {
    engines::run(names_take_no_ports_of_the_device(Kind::Podman));
}

#[test]
#[ignore = "needs engines: cargo testnet check --engines"]
fn container_in_the_devices_network_reaches_names_on_docker() {
    engines::run(container_in_the_devices_network_reaches_names(Kind::Docker));
}

#[test]
#[ignore = "needs engines: cargo testnet check --engines"]
fn container_in_the_devices_network_reaches_names_on_podman() {
    engines::run(container_in_the_devices_network_reaches_names(Kind::Podman));
}
