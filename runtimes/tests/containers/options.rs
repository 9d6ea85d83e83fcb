//! The options of a container, as its program sees them from inside.

use std::collections::BTreeMap;
use std::time::Duration;

use shoal_protocol::model::spec::{Container, NetworkMode, Tmpfs, Ulimit};
use shoal_runtimes::{Endpoint, Runtime, StartError};

use crate::engines::harness::{Harness, id_of, server};
use crate::engines::{Kind, shared};

on_both! {
    user_folder_and_host_name_are_set
    entry_point_and_arguments_are_replaced
    file_systems_are_as_ordered
    limits_are_as_ordered
    engine_has_the_limits_of_the_launch
    host_network_leads_to_the_programs_port
    privileges_are_refused_unless_granted
    port_is_published_where_it_may_be_needed
}

/// The answer of the program of `a/0` about its container.
async fn facts(kind: Kind, change: impl FnOnce(&mut Container)) -> (Harness, Vec<String>) {
    let harness = Harness::on(shared(kind)).await;
    harness.run(server("a/0", change)).await;
    let facts = harness.get(&id_of("a/0"), "/facts").await;
    (harness, facts.lines().map(str::to_owned).collect())
}

async fn user_folder_and_host_name_are_set(kind: Kind) {
    let (_harness, facts) = facts(kind, |it| {
        it.user = Some("1000:1001".into());
        it.workdir = Some("/some/where".into());
    })
    .await;
    for fact in ["user 1000:1001", "workdir /some/where", "hostname sample-0"] {
        assert!(facts.iter().any(|line| line == fact), "{fact}: {facts:?}");
    }
}

async fn entry_point_and_arguments_are_replaced(kind: Kind) {
    let (_harness, facts) = facts(kind, |it| {
        // The image's entry point is cleared, so the command is all.
        it.entrypoint = Some(Vec::new());
        it.command = Some(vec!["/server".into(), "serve".into(), "two words".into()]);
        it.hostname = Some("named".into());
    })
    .await;
    for fact in ["arguments serve two words", "hostname named"] {
        assert!(facts.iter().any(|line| line == fact), "{fact}: {facts:?}");
    }
}

async fn file_systems_are_as_ordered(kind: Kind) {
    let (harness, facts) = facts(kind, |it| {
        it.read_only = true;
        it.tmpfs = vec![
            Tmpfs { path: "/data".into(), size: Some(1 << 20), exec: false },
            Tmpfs { path: "/tools".into(), size: None, exec: true },
        ];
        it.shm_size = Some(3 << 20);
    })
    .await;
    let mount = |path: &str| {
        let start = format!("mount {path} tmpfs ");
        let found = facts.iter().find_map(|line| line.strip_prefix(&start));
        found.unwrap_or_else(|| panic!("{path} in {facts:?}")).split(',').collect::<Vec<_>>()
    };
    assert!(mount("/data").contains(&"noexec") && mount("/data").contains(&"size=1024k"));
    assert!(!mount("/tools").contains(&"noexec"), "{facts:?}");
    assert!(mount("/dev/shm").contains(&"size=3072k"), "{facts:?}");
    let id = id_of("a/0");
    let denied = harness.get(&id, "/write?/file").await;
    assert!(denied.contains("Read-only"), "{denied}");
    assert_eq!(harness.get(&id, "/write?/data/file").await, "written");
}

async fn limits_are_as_ordered(kind: Kind) {
    let (_harness, facts) = facts(kind, |it| {
        it.ulimits = BTreeMap::from([("nofile".into(), Ulimit { soft: 123, hard: 456 })]);
    })
    .await;
    assert!(facts.iter().any(|line| line == "nofile 123:456"), "{facts:?}");
}

/// More cores than the device has are all that it has: Docker refuses more.
async fn engine_has_the_limits_of_the_launch(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let mut launch = server("a/0", |it| it.stop_grace = Some(Duration::from_millis(1500)));
    launch.cpu = 250;
    harness.run(launch).await;
    let container = harness.the_container();
    let host = &container["HostConfig"];
    assert_eq!(host["Memory"], 64 << 20, "{host}");
    assert_eq!(host["MemorySwap"], 64 << 20, "{host}");
    assert_eq!(host["PidsLimit"], 2048, "{host}");
    let nano = host["NanoCpus"].as_u64().unwrap();
    let quota = host["CpuQuota"].as_u64().unwrap_or(0) * 10_000;
    assert!(nano == 250_000_000 || quota == 250_000_000, "{host}");
    let labels = &container["Config"]["Labels"];
    assert_eq!(labels["shoal.instance"], "a/0", "{labels}");
    assert_eq!(labels["shoal.workload"], "default/sample", "{labels}");
}

async fn host_network_leads_to_the_programs_port(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let port = {
        // Free a moment ago.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let mut launch = server("a/0", |it| {
        it.network = NetworkMode::Host;
        it.http = Some(port);
    });
    launch.env.insert("PORT".into(), port.to_string());
    let status = harness.run(launch).await;
    assert_eq!(status.endpoint, Some(Endpoint::Tcp(([127, 0, 0, 1], port).into())));
    assert!(harness.get(&id_of("a/0"), "/").await.contains("hello, a/0"));
}

async fn privileges_are_refused_unless_granted(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let launch = server("a/0", |it| it.privileges.cap_add = vec!["NET_ADMIN".into()]);
    let error = harness.containers.start(launch).await.unwrap_err();
    assert!(matches!(&error, StartError::Invalid { .. }), "{error}");
    assert!(error.to_string().contains("privileges"), "{error}");
}

/// Podman of this device leads to the container's own address. Docker may be that of a virtual
/// machine, where only a published port leads anywhere.
async fn port_is_published_where_it_may_be_needed(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    harness.run(server("a/0", |_| {})).await;
    let bindings = &harness.the_container()["HostConfig"]["PortBindings"];
    let count = bindings.as_object().map_or(0, serde_json::Map::len);
    assert_eq!(count, usize::from(kind == Kind::Docker), "{bindings}");
    assert!(harness.get(&id_of("a/0"), "/").await.starts_with("hello"));
}
