//! Several containers in one instance: they start in their order, share a network and volumes, and
//! end together.

use std::time::Duration;

use serde_json::Value;
use shoal_protocol::model::spec::{Container, Image, Mount, PullPolicy, Role};
use shoal_protocol::model::{InstanceState, Resources};
use shoal_runtimes::contract::Subject;
use shoal_runtimes::session::{SessionError, Sessions};
use shoal_runtimes::{Launch, Payload, Runtime, VolumeKey, VolumeOf};

use super::sessions::{command, end_of};
use crate::engines::harness::{Harness, id_of, mode, server};
use crate::engines::{Kind, shared};

on_both! {
    init_runs_first_and_all_share_network_and_volume
    death_of_one_ends_the_group_with_its_reason
    init_that_fails_starts_nothing
    running_group_is_adopted_and_stop_leaves_nothing
    part_of_a_group_is_not_adopted
    group_that_nobody_wants_is_removed
    job_is_done_when_all_have_ended
    end_of_a_job_of_several_is_told_by_the_next_daemon
    sidecar_starts_before_the_main_one
    scratch_folder_is_empty_at_first_and_goes_with_the_instance
}

fn other(name: &str, role: Role, words: &[&str]) -> Container {
    let mut image = Image::named("localhost/shoal-test:1");
    image.pull = PullPolicy::Never;
    let mut container = Container::of(name, image);
    container.command = Some(words.iter().map(|&word| word.to_owned()).collect());
    container.env.insert("NAME".into(), name.into());
    container.member.role = role;
    container.mounts.push(Mount {
        volume: "data".into(),
        path: "/shared".into(),
        read_only: false,
    });
    container
}

/// A launch with other containers beside, which share a volume at `/shared`.
fn beside(mut launch: Launch, others: Vec<Container>) -> Launch {
    let key = VolumeKey {
        workload: "default/sample".into(),
        place: launch.id.as_str().into(),
        name: "data".into(),
    };
    let Payload::Container(payload) = &mut launch.payload else { unreachable!() };
    let mount = Mount { volume: "data".into(), path: "/shared".into(), read_only: true };
    payload.container.mounts.push(mount);
    payload.volumes.insert("data".into(), VolumeOf::Kept(key));
    payload.others = others;
    launch
}

/// A server at 8080, a second one at 8081, and what runs before them.
fn group(id: &str) -> Launch {
    let mut second = other("second", Role::App, &["serve"]);
    second.env.insert("PORT".into(), "8081".into());
    second.limit = Some(Resources { memory: 16 << 20, cpu: 4000 });
    second.member.reservation = Some(Resources { memory: 16 << 20, cpu: 50 });
    let init = other("prepare", Role::Init, &["note", "/shared/one", "first", "200"]);
    beside(server(id, |_| ()), vec![second, init])
}

/// The containers by their names in the group.
fn by_name(harness: &Harness) -> std::collections::BTreeMap<String, Value> {
    let all = harness.engine.containers(&harness.owner);
    let named = all.into_iter().map(|one| {
        let name = one["Labels"]["shoal.container"].as_str().unwrap().to_owned();
        let id = one["Id"].as_str().unwrap();
        (name, harness.engine.get(&format!("/containers/{id}/json")))
    });
    named.collect()
}

fn ids(harness: &Harness) -> Vec<(String, String)> {
    let id = |(name, one): (String, Value)| (name, one["Id"].as_str().unwrap().to_owned());
    by_name(harness).into_iter().map(id).collect()
}

fn names(harness: &Harness) -> Vec<String> {
    by_name(harness).into_keys().collect()
}

async fn gone(harness: &Harness) {
    harness.nothing_is_left().await.unwrap();
}

async fn init_runs_first_and_all_share_network_and_volume(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let id = id_of("a/0");
    harness.run(group("a/0")).await;
    assert_eq!(names(&harness), ["main", "second"], "the init container is gone");
    assert_eq!(harness.get(&id, "/read?/shared/one").await, "first");
    let fetched = harness.get(&id, "/fetch?127.0.0.1:8081").await;
    assert!(fetched.contains("NAME=second"), "{fetched}");
    assert!(harness.get(&id, "/env").await.contains("NAME=a/0"));
    // A port of another one is reached at the address of all.
    harness.containers.connect(&id, 8081).await.map(drop).unwrap();
    // It takes some time until its address takes connections, and then they are those of all.
    let note = command(&["/server", "note", "/shared/two", "from second"]);
    let noted = harness.containers.exec_in(&id, "second", note).await.unwrap();
    assert_eq!(end_of(noted).await.2, Some(0));
    assert_eq!(harness.get(&id, "/read?/shared/two").await, "from second");
    let show = || command(&["/server", "show", "/shared/two"]);
    let shown = harness.containers.exec(&id, show()).await.unwrap();
    assert_eq!(end_of(shown).await.0, "from second");
    let refused = harness.containers.exec_in(&id, "third", show()).await.map(drop).unwrap_err();
    let SessionError::Refused(why) = refused else { panic!("{refused}") };
    assert_eq!(why, "it has no container `third`, but main, second, prepare");
    let all = by_name(&harness);
    assert_eq!(all["second"]["HostConfig"]["Memory"], 16 << 20);
    assert_eq!(all["main"]["HostConfig"]["Memory"], 64 << 20);
    assert!(harness.containers.usage(&id).await.is_some_and(|usage| usage.memory > 0));
    let lines = harness.lines(&id).await;
    let at = |text: &str| lines.iter().position(|line| line == text);
    assert!(at("[prepare] noted") < at("started"), "{lines:?}");
    harness.containers.stop(&id, Duration::from_secs(60)).await.unwrap();
    let lines = harness.lines(&id).await;
    for text in ["[main] asked to end", "[second] asked to end"] {
        assert_eq!(lines.iter().filter(|line| *line == text).count(), 1, "{lines:?}");
    }
    gone(&harness).await;
}

/// The network goes with the one that has it, so none is left alone.
async fn death_of_one_ends_the_group_with_its_reason(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let id = id_of("a/0");
    for name in ["second", "main"] {
        harness.run(group("a/0")).await;
        harness.engine.act(&by_name(&harness)[name], "kill");
        let (reason, retryable) = harness.failure(&id).await;
        assert!(reason.starts_with(&format!("its container `{name}` was killed")), "{reason}");
        assert!(retryable);
        gone(&harness).await;
        let lines = harness.lines(&id).await;
        let other = if name == "main" { "[second] asked to end" } else { "[main] asked to end" };
        assert!(lines.iter().any(|line| line == other), "{lines:?}");
    }
    harness.run(group("a/0")).await;
    let before = ids(&harness);
    harness.engine.act(&by_name(&harness)["main"], "restart?t=1");
    let (reason, _) = harness.failure(&id).await;
    assert!(reason.contains("container `main`"), "{reason}");
    gone(&harness).await;
    harness.run(group("a/0")).await;
    assert_ne!(ids(&harness), before);
}

async fn init_that_fails_starts_nothing(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let init = other("prepare", Role::Init, &["end", "4"]);
    let launch = beside(server("a/0", |_| ()), vec![init]);
    let (reason, retryable) = harness.fails(launch).await;
    assert_eq!(reason, "its init container `prepare` exited with code 4");
    assert!(retryable);
    let lines = harness.lines(&id_of("a/0")).await;
    assert!(lines.iter().any(|line| line == "[prepare] about to exit"), "{lines:?}");
    gone(&harness).await;
}

/// The daemon is killed and started again: all go on, and their lines are not repeated.
async fn running_group_is_adopted_and_stop_leaves_nothing(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let id = id_of("default/web/0.01.02");
    harness.run(group("default/web/0.01.02")).await;
    for line in ["before", "tick", "tick"] {
        harness.get(&id, &format!("/say?{line}")).await;
    }
    let before = ids(&harness);
    // Lines that were not read yet would be read later.
    let written = async {
        while harness.lines(&id).await.iter().filter(|it| *it == "[main] tick").count() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::engines::harness::TIMEOUT, written).await.unwrap();
    let harness = harness.restart().await;
    assert_eq!(harness.containers.instances().await.unwrap().len(), 1);
    harness.run(group("default/web/0.01.02")).await;
    assert_eq!(ids(&harness), before);
    harness.get(&id, "/say?after").await;
    let written = async {
        while !harness.lines(&id).await.iter().any(|it| it == "[main] after") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::engines::harness::TIMEOUT, written).await.unwrap();
    let lines = harness.lines(&id).await;
    for (text, times) in [("[main] before", 1), ("[main] tick", 2), ("[main] after", 1)] {
        assert_eq!(lines.iter().filter(|it| *it == text).count(), times, "{text} in {lines:?}");
    }
    harness.containers.stop(&id, Duration::from_secs(60)).await.unwrap();
    gone(&harness).await;
}

/// The daemon ended in the middle of a start, or the engine lost one meanwhile, or the network was
/// started anew: what is left is taken away, and nothing runs twice.
async fn part_of_a_group_is_not_adopted(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    harness.run(group("a/0")).await;
    let engine = harness.engine;
    let mut before = ids(&harness);
    let main = by_name(&harness)["main"].clone();
    let second = before[1].1.clone();
    let paused = harness.pause();
    engine.remove(&second);
    let harness = paused.resume().await;
    harness.run(group("a/0")).await;
    assert_eq!(names(&harness), ["main", "second"]);
    assert!(ids(&harness).iter().all(|one| !before.contains(one)), "all are new");
    assert_ne!(main["Id"], by_name(&harness)["main"]["Id"]);

    before = ids(&harness);
    let main = by_name(&harness)["main"].clone();
    let paused = harness.pause();
    engine.act(&main, "restart?t=1");
    let harness = paused.resume().await;
    harness.run(group("a/0")).await;
    assert!(ids(&harness).iter().all(|one| !before.contains(one)), "all are new");
    let fetched = harness.get(&id_of("a/0"), "/fetch?127.0.0.1:8081").await;
    assert!(fetched.contains("NAME=second"), "{fetched}");
}

async fn group_that_nobody_wants_is_removed(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    harness.run(group("a/0")).await;
    let main = by_name(&harness)["main"].clone();
    let engine = harness.engine;
    let paused = harness.pause();
    engine.act(&main, "kill");
    let harness = paused.resume().await;
    assert_eq!(harness.containers.instances().await.unwrap().len(), 1, "the second one runs");
    harness.containers.stop(&id_of("a/0"), Duration::from_secs(5)).await.unwrap();
    gone(&harness).await;
}

fn job(id: &str) -> Launch {
    let late = other("late", Role::App, &["note", "/shared/late", "x", "300"]);
    let bad = other("bad", Role::App, &["end", "3"]);
    let sidecar = other("proxy", Role::Sidecar, &["wait"]);
    let launch = beside(mode(id, "exit"), vec![late, sidecar, bad]);
    let mut launch = Launch { ends: true, ..launch };
    let Payload::Container(payload) = &mut launch.payload else { unreachable!() };
    payload.container.command = Some(vec!["end".into(), "0".into()]);
    launch
}

async fn job_is_done_when_all_have_ended(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let id = id_of("job/0");
    harness.containers.start(job("job/0")).await.unwrap();
    let status = harness.wait(&id, InstanceState::ended).await;
    let InstanceState::Done { exit_code, .. } = status.state else { panic!("{status:?}") };
    assert_eq!(exit_code, 3, "the first that is not 0");
    let lines = harness.lines(&id).await;
    for text in ["[late] noted", "[proxy] asked to end", "[bad] with code 3"] {
        assert!(lines.iter().any(|line| line == text), "{text} in {lines:?}");
    }
    let states = by_name(&harness);
    assert!(states.values().all(|one| one["State"]["Running"] == false), "{states:?}");
    harness.containers.stop(&id, Duration::ZERO).await.unwrap();
    gone(&harness).await;
}

/// It ended while the daemon was away.
async fn end_of_a_job_of_several_is_told_by_the_next_daemon(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let id = id_of("job/0");
    let second = other("second", Role::App, &["wait"]);
    let launch = || {
        let launch = beside(mode("job/0", "wait"), vec![second.clone()]);
        Launch { ends: true, ..launch }
    };
    harness.run(launch()).await;
    let all = by_name(&harness);
    let engine = harness.engine;
    let paused = harness.pause();
    for one in all.values() {
        engine.act(one, "stop?t=10");
    }
    let harness = paused.resume().await;
    harness.containers.start(launch()).await.unwrap();
    let status = harness.wait(&id, InstanceState::ended).await;
    assert!(matches!(status.state, InstanceState::Done { .. }), "{status:?}");
    assert_eq!(by_name(&harness)["main"]["Id"], all["main"]["Id"], "it was not run again");
    harness.containers.stop(&id, Duration::ZERO).await.unwrap();
    gone(&harness).await;
}

/// It has the network, so the init container behind it reaches it, and so do requests.
async fn sidecar_starts_before_the_main_one(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let id = id_of("a/0");
    let mut proxy = other("proxy", Role::Sidecar, &["serve"]);
    proxy.env.insert("PORT".into(), "9090".into());
    let init = other("prepare", Role::Init, &["fetch", "127.0.0.1:9090"]);
    let launch = beside(server("a/0", |_| ()), vec![proxy, init]);
    // The sidecar may not listen yet when the init container asks it.
    let status = async {
        loop {
            harness.containers.start(launch.clone()).await.unwrap();
            let settled = |state: &InstanceState| state.is_running() || state.ended();
            let status = harness.wait(&id, settled).await;
            if status.state.is_running() {
                return status;
            }
        }
    };
    tokio::time::timeout(crate::engines::harness::TIMEOUT, status).await.unwrap();
    let lines = harness.lines(&id).await;
    assert!(lines.iter().any(|line| line == "[prepare] NAME=proxy"), "{lines:?}");
    assert!(harness.get(&id, "/").await.contains("hello"));
    harness.containers.stop(&id, Duration::from_secs(60)).await.unwrap();
    gone(&harness).await;
}

/// A folder that goes with the instance: shared by its containers, kept when it starts again, also
/// by another daemon, and gone with its stop.
async fn scratch_folder_is_empty_at_first_and_goes_with_the_instance(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let scratch = |id: &str| {
        let mut launch = beside(
            server(id, |it| it.user = Some("1000:1000".into())),
            vec![other("second", Role::App, &["wait"])],
        );
        let Payload::Container(payload) = &mut launch.payload else { unreachable!() };
        payload.container.mounts[0].read_only = false;
        payload.volumes.insert("data".into(), VolumeOf::Scratch("data".into()));
        launch
    };
    harness.run(scratch("a/0")).await;
    let id = id_of("a/0");
    // Not root, as in Kubernetes.
    assert_eq!(harness.get(&id, "/write?/shared/file").await, "written");
    let show = || command(&["/server", "show", "/shared/file"]);
    let shown = harness.containers.exec_in(&id, "second", show()).await.unwrap();
    assert_eq!(end_of(shown).await.0, "x");
    let _ = harness.try_get(&id, "/exit?3").await;
    harness.failure(&id).await;
    let harness = harness.restart().await;
    harness.run(scratch("a/0")).await;
    assert_eq!(harness.get(&id, "/read?/shared/file").await, "x");
    assert_eq!(harness.engine.volumes(&harness.owner).len(), 1);
    harness.containers.stop(&id, Duration::ZERO).await.unwrap();
    assert_eq!(harness.engine.volumes(&harness.owner), [""; 0]);
    harness.run(scratch("a/0")).await;
    assert!(harness.get(&id, "/read?/shared/file").await.contains("No such file"));
}
