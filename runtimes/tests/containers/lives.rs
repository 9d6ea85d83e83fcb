//! Containers outlive the adapter, are found by their labels, and others are never touched.

use std::time::Duration;

use serde_json::json;
use shoal_protocol::model::InstanceState;
use shoal_runtimes::contract::{Sample, Subject};
use shoal_runtimes::{Instance, Runtime, ServeError};

use crate::engines::harness::{Harness, id_of, mode, server};
use crate::engines::{Kind, shared};

on_both! {
    running_container_is_adopted
    end_that_nobody_saw_is_told_once
    job_that_nobody_wants_is_listed_and_removed
    changed_launch_is_not_adopted
    leftovers_are_removed_and_strays_are_listed
    renamed_container_is_the_same
    taken_name_harms_nothing
    foreign_containers_are_untouched
    two_owners_share_an_engine
    container_without_a_port_runs_and_takes_no_requests
    stop_goes_on_without_its_caller
}

/// The daemon is killed and started again: the container goes on, with the same start, and its log
/// goes on without a repetition.
async fn running_container_is_adopted(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let (id, launch) = (id_of("default/web/0.01.02"), server("default/web/0.01.02", |_| ()));
    harness.run(launch.clone()).await;
    for line in ["before", "tick", "tick"] {
        harness.get(&id, &format!("/say?{line}")).await;
    }
    logged(&harness, &id, "tick", 2).await;
    let before = harness.the_container();

    let harness = harness.restart().await;
    assert_eq!(harness.containers.status(&id), None, "nobody has asked for it yet");
    let found = harness.containers.instances().await.unwrap();
    assert_eq!(found, [Instance { id: id.clone() }]);
    harness.run(launch).await;
    harness.get(&id, "/say?after").await;
    logged(&harness, &id, "after", 1).await;
    let after = harness.the_container();
    assert_eq!(after["Id"], before["Id"]);
    assert_eq!(after["State"]["StartedAt"], before["State"]["StartedAt"]);
    let lines = harness.lines(&id).await;
    for (text, times) in [("before", 1), ("tick", 2), ("after", 1)] {
        let count = lines.iter().filter(|line| *line == text).count();
        assert_eq!(count, times, "{text} in {lines:?}");
    }
    harness.containers.stop(&id, Duration::from_secs(60)).await.unwrap();
    harness.nothing_is_left().await.unwrap();
}

/// A job in a container that has begun to wait.
async fn waiting_job(kind: Kind) -> (Harness, shoal_runtimes::Launch) {
    let harness = Harness::on(shared(kind)).await;
    let launch = shoal_runtimes::Launch { ends: true, ..mode("default/job/0.01.02", "wait") };
    harness.run(launch.clone()).await;
    logged(&harness, &id_of("default/job/0.01.02"), "waiting", 1).await;
    (harness, launch)
}

/// The container of a job ends while the daemon is away: the next one reports its end, and does not
/// run it again. Once told, another start is another try.
async fn end_that_nobody_saw_is_told_once(kind: Kind) {
    let (harness, launch) = waiting_job(kind).await;
    let (id, engine) = (launch.id.clone(), harness.engine);
    let container = harness.the_container();
    let paused = harness.pause();
    engine.act(&container, "stop");
    let harness = paused.resume().await;
    let found = harness.containers.instances().await.unwrap();
    assert_eq!(found, [Instance { id: id.clone() }], "it may still tell its end");
    harness.containers.start(launch.clone()).await.unwrap();
    let status = harness.wait(&id, InstanceState::ended).await;
    let lines = vec!["waiting".to_owned(), "asked to end".to_owned()];
    assert_eq!(status.state, InstanceState::Done { exit_code: 0, lines });
    let after = harness.the_container();
    assert_eq!(after["Id"], container["Id"], "it was not run again");
    assert_eq!(after["State"]["Status"], "exited");

    harness.run(launch).await;
    assert_ne!(harness.the_container()["Id"], container["Id"], "another try");
    harness.containers.stop(&id, Duration::from_secs(60)).await.unwrap();
    assert_eq!(harness.containers.status(&id).unwrap().state, InstanceState::Stopped);
    harness.nothing_is_left().await.unwrap();
}

/// The same, and nobody starts it again: the executor stops what nobody wants.
async fn job_that_nobody_wants_is_listed_and_removed(kind: Kind) {
    let (harness, launch) = waiting_job(kind).await;
    let engine = harness.engine;
    let container = harness.the_container();
    let paused = harness.pause();
    engine.act(&container, "stop");
    let harness = paused.resume().await;
    harness.containers.stop(&launch.id, Duration::ZERO).await.unwrap();
    assert_eq!(harness.containers.instances().await.unwrap(), []);
    harness.nothing_is_left().await.unwrap();
}

/// Waits until the log has a line so many times.
async fn logged(harness: &Harness, id: &shoal_runtimes::InstanceId, text: &str, times: usize) {
    let seen = async {
        while harness.lines(id).await.iter().filter(|line| *line == text).count() < times {
            tokio::task::yield_now().await;
        }
    };
    let seen = tokio::time::timeout(crate::engines::harness::TIMEOUT, seen).await;
    if seen.is_err() {
        panic!("{text} is not {times} times in {:?}", harness.lines(id).await);
    }
}

async fn changed_launch_is_not_adopted(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    harness.run(server("a/0", |_| ())).await;
    let before = harness.the_container();
    let harness = harness.restart().await;
    let mut changed = server("a/0", |_| ());
    changed.env.insert("NAME".into(), "changed".into());
    harness.run(changed).await;
    assert!(harness.get(&id_of("a/0"), "/").await.contains("hello, changed"));
    assert_ne!(harness.the_container()["Id"], before["Id"], "and the old one is gone");
}

/// While the daemon was away one container ended, and one that no order names runs.
async fn leftovers_are_removed_and_strays_are_listed(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    harness.run(server("ended/0", |_| ())).await;
    let ended = harness.the_container();
    harness.run(server("stray/0", |_| ())).await;
    let (engine, owner) = (harness.engine, harness.owner.clone());
    let (dead, _) = (ended["Id"].as_str().unwrap().to_owned(), ());
    let harness = {
        // Ended before the new adapter looks, while nobody does.
        let kill = format!("/containers/{dead}/kill");
        let harness = harness.pause();
        engine.post(&kill, &serde_json::Value::Null);
        harness.resume().await
    };
    let one_left = async {
        while engine.containers(&owner).len() > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::engines::harness::TIMEOUT, one_left).await.unwrap();
    let stray = id_of("stray/0");
    assert_eq!(harness.containers.instances().await.unwrap(), [Instance { id: stray.clone() }]);
    harness.containers.stop(&stray, Duration::ZERO).await.unwrap();
    harness.nothing_is_left().await.unwrap();
}

async fn renamed_container_is_the_same(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    harness.run(server("a/0", |_| ())).await;
    let id = harness.the_container()["Id"].as_str().unwrap().to_owned();
    let name = format!("renamed-{}", harness.owner);
    harness.engine.post(&format!("/containers/{id}/rename?name={name}"), &serde_json::Value::Null);
    let harness = harness.restart().await;
    harness.run(server("a/0", |_| ())).await;
    assert_eq!(harness.the_container()["Id"], id.as_str());
    harness.containers.stop(&id_of("a/0"), Duration::from_secs(60)).await.unwrap();
    harness.nothing_is_left().await.unwrap();
}

/// Somebody gave the name of our next container to another one.
async fn taken_name_harms_nothing(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    harness.run(server("a/0", |_| ())).await;
    let name = harness.the_container()["Name"].as_str().unwrap().trim_matches('/').to_owned();
    harness.containers.stop(&id_of("a/0"), Duration::ZERO).await.unwrap();
    let body = json!({ "Image": "localhost/shoal-test:1" });
    let foreign = harness.engine.post(&format!("/containers/create?name={name}"), &body);
    harness.run(server("a/0", |_| ())).await;
    harness.engine.remove(foreign["Id"].as_str().unwrap());
}

/// One without labels, and one of an owner whose name begins as ours.
async fn foreign_containers_are_untouched(kind: Kind) {
    let engine = shared(kind);
    let harness = Harness::on(engine).await;
    let other = format!("{}x", harness.owner);
    let labels = [json!({}), json!({ "shoal.node": other, "shoal.instance": "a/0" })];
    let ids: Vec<String> = labels
        .iter()
        .map(|labels| {
            let body = json!({
                "Image": "localhost/shoal-test:1", "Cmd": ["wait"], "Labels": labels,
                "StopTimeout": 10,
            });
            let made = engine.post("/containers/create", &body);
            made["Id"].as_str().unwrap().to_owned()
        })
        .collect();
    engine.post(&format!("/containers/{}/start", ids[0]), &serde_json::Value::Null);
    harness.run(server("a/0", |_| ())).await;
    let listed = harness.containers.instances().await.unwrap();
    assert_eq!(listed, [Instance { id: id_of("a/0") }]);
    harness.containers.stop(&id_of("a/0"), Duration::ZERO).await.unwrap();
    let harness = harness.restart().await;
    harness.run(server("b/0", |_| ())).await;
    for (id, status) in ids.iter().zip(["running", "created"]) {
        let found = engine.get(&format!("/containers/{id}/json"));
        assert_eq!(found["State"]["Status"], status);
        engine.remove(id);
    }
}

/// Two nodes on one device, with the same instance.
async fn two_owners_share_an_engine(kind: Kind) {
    let one = Harness::on(shared(kind)).await;
    let other = Harness::on(shared(kind)).await;
    one.run(one.launch("a/0", Sample::Hello)).await;
    other.run(other.launch("a/0", Sample::Hello)).await;
    one.containers.stop(&id_of("a/0"), Duration::ZERO).await.unwrap();
    one.nothing_is_left().await.unwrap();
    assert!(other.get(&id_of("a/0"), "/").await.contains("hello"));
}

async fn container_without_a_port_runs_and_takes_no_requests(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let status = harness.run(mode("a/0", "wait")).await;
    assert_eq!(status.endpoint, None);
    let error = harness.containers.endpoint(&id_of("a/0")).unwrap_err();
    assert!(matches!(&error, ServeError::NoRequests(id) if *id == id_of("a/0")), "{error}");
    assert_eq!(error.into_response().status(), 404);
}

async fn stop_goes_on_without_its_caller(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    harness.run(harness.launch("a/0", Sample::Hello)).await;
    drop(harness.containers.stop(&id_of("a/0"), Duration::ZERO));
    harness.wait(&id_of("a/0"), |state| *state == InstanceState::Stopped).await;
    harness.nothing_is_left().await.unwrap();
}
