//! The options of a container, as its program sees them from inside.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use shoal_protocol::model::spec::{
    Container, Device, Extra, Mount, NO_CPU_LIMIT, NetworkMode, Port, Qos, Tmpfs, Ulimit,
};
use shoal_runtimes::session::Sessions;
use shoal_runtimes::{Endpoint, Launch, Payload, Runtime, StartError, VolumeKey, VolumeOf};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::sessions::{command, end_of};
use crate::engines::harness::{Harness, id_of, server};
use crate::engines::{Kind, shared};

on_both! {
    user_folder_and_host_name_are_set
    entry_point_and_arguments_are_replaced
    file_systems_are_as_ordered
    limits_are_as_ordered
    engine_has_the_limits_of_the_launch
    no_limit_of_the_cpu_is_no_quota
    host_network_leads_to_the_programs_port
    names_servers_and_groups_are_as_ordered
    own_search_domains_stand_behind_the_namespace
    name_of_the_device_is_given_or_refused
    port_is_published_where_it_may_be_needed
    rights_are_refused_unless_allowed
    allowed_device_path_and_rights_are_given
    path_that_leads_out_of_what_is_allowed_is_refused
    missing_path_and_device_are_named
    new_volume_belongs_to_the_first_further_group
    volume_outlives_its_container_and_the_node
    volume_in_use_is_not_removed
    published_port_leads_to_the_container
    port_of_another_program_is_named
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

/// A line of a file of the container `a/0`, by its words.
fn has_line(text: &str, words: &[&str]) -> bool {
    text.lines().any(|line| line.split_whitespace().eq(words.iter().copied()))
}

/// Name servers of its own stand in place of the node's, and the others of its group have them.
async fn names_servers_and_groups_are_as_ordered(kind: Kind) {
    let harness = Harness::on(shared(kind)).await.answering([198, 18, 0, 1].into()).await;
    let mut launch = server("a/0", |it| {
        it.user = Some("1000:1001".into());
        it.extra.hosts = ["db:10.0.0.5", "db:10.0.0.6", "six=[fd00::5]"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        it.extra.dns = vec![[192, 0, 2, 53].into(), [192, 0, 2, 54].into()];
        it.extra.dns_search = vec!["example.org".into()];
        it.extra.dns_opt = vec!["ndots:3".into()];
        it.extra.groups = vec!["4242".into(), "4243".into()];
    });
    let Payload::Container(payload) = &mut launch.payload else { unreachable!() };
    let mut second = Container { name: "second".into(), ..payload.container.clone() };
    second.extra = Extra { groups: vec!["7".into()], ..Extra::default() };
    second.http = None;
    second.env.insert("PORT".into(), "8081".into());
    payload.others = vec![second];
    harness.run(launch).await;
    let id = id_of("a/0");
    let read = async |path: &str| harness.get(&id, &format!("/read?{path}")).await;
    let hosts = read("/etc/hosts").await;
    for line in [["10.0.0.5", "db"], ["10.0.0.6", "db"], ["fd00::5", "six"]] {
        assert!(has_line(&hosts, &line), "{line:?}: {hosts}");
    }
    let resolver = read("/etc/resolv.conf").await;
    for line in [
        ["nameserver", "192.0.2.53"],
        ["nameserver", "192.0.2.54"],
        ["search", "example.org"],
        ["options", "ndots:3"],
    ] {
        assert!(has_line(&resolver, &line), "{line:?}: {resolver}");
    }
    assert!(!resolver.contains("198.18.0.1") && !resolver.contains("shoal"), "{resolver}");
    let groups = |status: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix("Groups:"));
        line.unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let main = groups(&read("/proc/self/status").await);
    assert!(["4242", "4243"].iter().all(|it| main.contains(&(*it).to_owned())), "{main:?}");
    // The other one shares the network, and all that belongs to it.
    for (path, part) in [("/etc/hosts", "10.0.0.5"), ("/etc/resolv.conf", "192.0.2.53")] {
        let shown = harness.containers.exec_in(&id, "second", command(&["/server", "show", path]));
        let (text, ..) = end_of(shown.await.unwrap()).await;
        assert!(text.contains(part), "{path}: {text}");
    }
    let shown = command(&["/server", "show", "/proc/self/status"]);
    let (text, ..) = end_of(harness.containers.exec_in(&id, "second", shown).await.unwrap()).await;
    assert!(groups(&text).contains(&"7".to_owned()), "{text}");
}

/// Podman would write the word itself into the file.
async fn name_of_the_device_is_given_or_refused(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let launch = || server("a/0", |it| it.extra.hosts = vec!["node:host-gateway".parse().unwrap()]);
    if kind == Kind::Podman {
        let error = harness.containers.start(launch()).await.unwrap_err();
        assert!(error.to_string().contains("`node` has the address host-gateway"), "{error}");
        return;
    }
    harness.run(launch()).await;
    let hosts = harness.get(&id_of("a/0"), "/read?/etc/hosts").await;
    let line = hosts.lines().find(|line| line.split_whitespace().last() == Some("node"));
    let address = line.unwrap_or_else(|| panic!("{hosts}")).split_whitespace().next().unwrap();
    assert!(address.parse::<std::net::Ipv4Addr>().is_ok(), "{hosts}");
}

/// Without servers of its own a container finds other workloads, whatever it adds.
async fn own_search_domains_stand_behind_the_namespace(kind: Kind) {
    let harness = Harness::on(shared(kind)).await.answering([198, 18, 0, 1].into()).await;
    harness
        .run(server("a/0", |it| {
            it.extra.dns_search = vec![".".into(), "example.org".into()];
            it.extra.dns_opt = vec!["ndots:3".into()];
        }))
        .await;
    let resolver = harness.get(&id_of("a/0"), "/read?/etc/resolv.conf").await;
    for line in [
        ["nameserver", "198.18.0.1"].as_slice(),
        &["search", "default.shoal", "shoal", "example.org"],
        &["options", "ndots:3"],
    ] {
        assert!(has_line(&resolver, line), "{line:?}: {resolver}");
    }
}

async fn limits_are_as_ordered(kind: Kind) {
    let (_harness, facts) = facts(kind, |it| {
        it.ulimits = BTreeMap::from([("nofile".into(), Ulimit { soft: 123, hard: 456 })]);
    })
    .await;
    assert!(facts.iter().any(|line| line == "nofile 123:456"), "{facts:?}");
}

/// The limit is a quota, what is reserved the weight while containers compete.
async fn engine_has_the_limits_of_the_launch(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let mut launch = server("a/0", |it| it.stop_grace = Some(Duration::from_millis(1500)));
    (launch.cpu, launch.cpu_reserved, launch.qos) = (250, 200, Qos::Burstable);
    harness.run(launch).await;
    let container = harness.the_container();
    let host = &container["HostConfig"];
    assert_eq!(host["Memory"], 64 << 20, "{host}");
    assert_eq!(host["MemorySwap"], 64 << 20, "{host}");
    assert_eq!(host["PidsLimit"], 2048, "{host}");
    let nano = host["NanoCpus"].as_u64().unwrap();
    let quota = host["CpuQuota"].as_u64().unwrap_or(0) * 10_000;
    assert!(nano == 250_000_000 || quota == 250_000_000, "{host}");
    assert_eq!(host["CpuShares"], 204, "{host}");
    assert_eq!(host["OomScoreAdj"], 500, "{host}");
    let labels = &container["Config"]["Labels"];
    assert_eq!(labels["shoal.instance"], "a/0", "{labels}");
    assert_eq!(labels["shoal.workload"], "default/sample", "{labels}");
}

/// A quota slows the start down as well, so a container without a limit gets none. Docker refuses
/// more cores than the device has.
async fn no_limit_of_the_cpu_is_no_quota(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let mut launch = server("a/0", |it| it.stop_grace = Some(Duration::from_millis(1500)));
    launch.cpu = NO_CPU_LIMIT;
    // Nothing is reserved: it yields first.
    (launch.cpu_reserved, launch.qos) = (0, Qos::BestEffort);
    harness.run(launch).await;
    let container = harness.the_container();
    let host = &container["HostConfig"];
    let yields = [&host["CpuShares"], &host["OomScoreAdj"]].map(Value::as_u64);
    assert_eq!(yields, [Some(2), Some(1000)], "{host}");
    assert_eq!([&host["NanoCpus"], &host["CpuQuota"]].map(Value::as_u64), [Some(0); 2], "{host}");
}

async fn host_network_leads_to_the_programs_port(kind: Kind) {
    let harness = Harness::on(shared(kind)).await.allowing(&["host-network"]).await;
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

async fn rights_are_refused_unless_allowed(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    type Change = fn(&mut Container);
    let changes: [(&str, Change); 4] = [
        ("capability NET_ADMIN", |it| it.privileges.cap_add = vec!["NET_ADMIN".into()]),
        ("device /dev/null", |it| it.privileges.devices = vec![device("/dev/null", "/dev/zilch")]),
        ("privileged containers", |it| it.privileges.privileged = true),
        ("containers in its own network", |it| it.network = NetworkMode::Host),
    ];
    for (what, change) in changes {
        let error = harness.containers.start(server("a/0", change)).await.unwrap_err();
        assert!(matches!(&error, StartError::Invalid { .. }), "{error}");
        assert!(error.to_string().contains(&format!("does not allow {what}")), "{error}");
    }
    let error = harness.containers.start(mounting("/etc")).await.unwrap_err();
    assert!(error.to_string().contains("does not allow path /etc"), "{error}");
}

async fn allowed_device_path_and_rights_are_given(kind: Kind) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let allow = format!("path={path}");
    let allow = [allow.as_str(), "device=/dev/nul*", "cap=NET_ADMIN", "security=label=disable"];
    let harness = Harness::on(shared(kind)).await.allowing(&allow).await;
    let mut launch = mounting(path);
    let Payload::Container(payload) = &mut launch.payload else { unreachable!() };
    payload.container.privileges.devices = vec![device("/dev/null", "/dev/zilch")];
    payload.container.privileges.cap_add = vec!["NET_ADMIN".into()];
    payload.container.privileges.security = vec!["no-new-privileges".into()];
    harness.run(launch).await;
    let id = id_of("a/0");
    assert_eq!(harness.get(&id, "/write?/mounted/file").await, "written");
    assert!(folder.path().join("file").exists(), "it is the device's own folder");
    assert_eq!(harness.get(&id, "/write?/dev/zilch").await, "written");
    let container = harness.the_container();
    let host = &container["HostConfig"];
    assert!(host["CapAdd"].to_string().contains("NET_ADMIN"), "{host}");
    assert!(host["SecurityOpt"].to_string().contains("no-new-privileges"), "{host}");
}

/// A link in a folder that containers may write would otherwise lead them anywhere.
async fn path_that_leads_out_of_what_is_allowed_is_refused(kind: Kind) {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("/etc", &link).unwrap();
    let allow = format!("path={}", folder.path().display());
    let harness = Harness::on(shared(kind)).await.allowing(&[&allow]).await;
    let (reason, retryable) = harness.fails(mounting(link.to_str().unwrap())).await;
    assert!(!retryable && reason.contains("leads to /etc, which this node does not allow"));
}

/// An engine would make a folder in its place, which nobody wants on a device.
async fn missing_path_and_device_are_named(kind: Kind) {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let harness = Harness::on(shared(kind)).await.allowing(&["privileged"]).await;
    let (reason, _) = harness.fails(mounting(missing.to_str().unwrap())).await;
    assert!(reason.contains("missing") && reason.contains("is not on this device"), "{reason}");
    assert!(!missing.exists(), "nothing was made");
    let launch = server("b/0", |it| {
        it.privileges.devices = vec![device("/dev/shoal-none", "/dev/x")];
    });
    let (reason, retryable) = harness.fails(launch).await;
    assert!(retryable, "it may be plugged in");
    assert!(reason.contains("the device /dev/shoal-none is not here"), "{reason}");
}

/// A program that is not root could not write a volume of root.
async fn new_volume_belongs_to_the_first_further_group(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let of = |id: &str, groups: &[&str]| {
        let mut launch = keeping(id, "0");
        let Payload::Container(payload) = &mut launch.payload else { unreachable!() };
        payload.container.user = Some("1000:1000".into());
        payload.container.extra.groups = groups.iter().map(|&it| it.to_owned()).collect();
        launch
    };
    harness.run(of("a/0", &["4242", "7"])).await;
    assert_eq!(harness.get(&id_of("a/0"), "/write?/mounted/file").await, "written");
    harness.containers.stop(&id_of("a/0"), Duration::ZERO).await.unwrap();
    // Podman gives each new volume to the container's user as well.
    if kind == Kind::Podman {
        return;
    }
    // A volume that is there stays as it is.
    harness.run(of("a/1", &["4243"])).await;
    let denied = harness.get(&id_of("a/1"), "/write?/mounted/other").await;
    assert!(denied.contains("denied"), "{denied}");
}

/// The container ends, and another generation of the replica finds what it wrote; so does the next
/// daemon. Another replica has another volume.
async fn volume_outlives_its_container_and_the_node(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    harness.run(keeping("a/0", "0")).await;
    assert_eq!(harness.get(&id_of("a/0"), "/write?/mounted/file").await, "written");
    assert_eq!(harness.containers.volumes(), Some(vec![key("0")]), "it is told at once");
    harness.containers.stop(&id_of("a/0"), Duration::ZERO).await.unwrap();
    let harness = harness.restart().await;
    harness.run(keeping("a/0.2", "0")).await;
    harness.run(keeping("a/1", "1")).await;
    let read = |id: &'static str| {
        let harness = &harness;
        async move { harness.get(&id_of(id), "/read?/mounted/file").await }
    };
    assert_eq!(read("a/0.2").await, "x");
    assert!(read("a/1").await.contains("No such file"), "a volume of its own");
    assert_eq!(harness.containers.volumes(), Some(vec![key("0"), key("1")]));
}

async fn volume_in_use_is_not_removed(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    harness.run(keeping("a/0", "0")).await;
    let error = harness.containers.remove_volume(&key("0")).await.unwrap_err();
    assert!(error.to_string().contains("removing default/sample/0/data"), "{error}");
    assert_eq!(harness.engine.volumes(&harness.owner).len(), 1);
    harness.containers.stop(&id_of("a/0"), Duration::ZERO).await.unwrap();
    harness.containers.remove_volume(&key("0")).await.unwrap();
    assert_eq!(harness.engine.volumes(&harness.owner), Vec::<String>::new());
    assert_eq!(harness.containers.volumes(), Some(Vec::new()));
    harness.containers.remove_volume(&key("0")).await.unwrap();
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().port()
}

fn publishing(device: u16) -> Launch {
    let mut launch = server("a/0", |_| ());
    let Payload::Container(payload) = &mut launch.payload else { unreachable!() };
    payload.ports = vec![Port { device, replica: 8080, udp: false, address: None }];
    launch
}

/// The published port stands beside the one at which the ingress reaches the same program.
async fn published_port_leads_to_the_container(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let port = free_port();
    harness.run(publishing(port)).await;
    assert!(harness.get(&id_of("a/0"), "/").await.contains("hello, a/0"));
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("hello, a/0"), "{answer}");
}

async fn port_of_another_program_is_named(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let other = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let (reason, retryable) = harness.fails(publishing(port)).await;
    assert!(retryable, "the other program may end");
    assert!(reason.contains("a port that it needs is taken"), "{reason}");
}

pub fn key(place: &str) -> VolumeKey {
    VolumeKey { workload: "default/sample".into(), place: place.into(), name: "data".into() }
}

/// The test program of a place with its volume at `/mounted`.
pub fn keeping(id: &str, place: &str) -> Launch {
    let mut launch = server(id, |it| {
        it.mounts =
            vec![Mount { volume: "data".into(), path: "/mounted".into(), read_only: false }];
    });
    let Payload::Container(payload) = &mut launch.payload else { unreachable!() };
    payload.volumes.insert("data".into(), VolumeOf::Kept(key(place)));
    launch
}

fn device(host: &str, path: &str) -> Device {
    Device { host: host.into(), path: path.into() }
}

/// The test program with a path of the device at `/mounted`.
fn mounting(path: &str) -> Launch {
    let mut launch = server("a/0", |it| {
        it.mounts = vec![Mount { volume: "it".into(), path: "/mounted".into(), read_only: false }];
    });
    let Payload::Container(payload) = &mut launch.payload else { unreachable!() };
    payload.volumes.insert("it".into(), VolumeOf::Device(path.into()));
    launch
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
