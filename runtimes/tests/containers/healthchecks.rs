//! The health check of an image is told, and run by nobody but the node.

use std::time::Duration;

use shoal_protocol::model::spec::Check;
use shoal_runtimes::Runtime;

use crate::engines::harness::{Harness, id_of, launch};
use crate::engines::{Kind, shared};

on_both! {
    health_check_of_an_image_is_told_and_not_run
    image_without_a_health_check_has_no_probes
    container_without_the_switch_is_adopted
}

/// The engine would run it as well, and show the container as unhealthy.
async fn health_check_of_an_image_is_told_and_not_run(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let checked = |harness: &Harness| {
        let health = harness.containers.own_probes(&id_of("a/0")).expect("the image has one");
        let (startup, liveness) = (health.startup.unwrap(), health.liveness.unwrap());
        let command = ["/server", "end", "1"].map(str::to_owned).to_vec();
        assert_eq!(liveness.check, Check::Exec { command });
        assert_eq!((liveness.every, liveness.failures), (Duration::from_secs(1), 2));
        assert_eq!(startup.failures, 22);
        assert_eq!(health.readiness, Some(liveness));
    };
    let image = "localhost/shoal-checked:1";
    harness.run(launch("a/0", image, |it| it.http = Some(8080))).await;
    checked(&harness);
    let container = harness.the_container();
    let test = &container["Config"]["Healthcheck"]["Test"];
    assert!(test.is_null() || test[0] == "NONE", "{container}");
    let health = &container["State"]["Health"]["Status"];
    assert!(health.is_null() || health == "" || health == "none", "{container}");
    // Another process finds the container, and learns the same.
    let harness = harness.restart().await;
    harness.run(launch("a/0", image, |it| it.http = Some(8080))).await;
    checked(&harness);
    assert_eq!(harness.the_container()["Id"], container["Id"]);
}

async fn image_without_a_health_check_has_no_probes(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    harness.run(launch("a/0", "localhost/shoal-test:1", |it| it.http = Some(8080))).await;
    assert_eq!(harness.containers.own_probes(&id_of("a/0")), None);
}

/// A container that an older program made, which left the engine's own check on, is no other one:
/// an update of shoal replaces none.
async fn container_without_the_switch_is_adopted(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let image = "localhost/shoal-checked:1";
    harness.run(launch("a/0", image, |it| it.http = Some(8080))).await;
    let mut body = harness.the_container()["Config"].clone();
    let paused = harness.pause();
    let engine = shared(kind);
    let owner = body["Labels"]["shoal.node"].as_str().unwrap().to_owned();
    engine.clear(&owner);
    body["Healthcheck"] = serde_json::Value::Null;
    let made = engine.post("/containers/create", &body);
    let id = made["Id"].as_str().unwrap();
    engine.act(&made, "start");
    let harness = paused.resume().await;
    harness.run(launch("a/0", image, |it| it.http = Some(8080))).await;
    assert_eq!(harness.the_container()["Id"], id);
    assert!(harness.containers.own_probes(&id_of("a/0")).is_some());
}
