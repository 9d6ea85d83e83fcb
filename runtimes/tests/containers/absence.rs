//! The engine is killed, started again, and hangs: instances keep their last state meanwhile.

use std::time::Duration;

use shoal_protocol::model::spec::NetworkMode;
use shoal_runtimes::contract::Subject;
use shoal_runtimes::{Launch, Runtime};

use crate::engines::harness::{Harness, TIMEOUT, id_of, launch};
use crate::engines::{Kind, own};

on_both! {
    killed_engine_comes_back
    engine_that_hangs_delays_no_caller_for_ever
}

/// Podman's containers run on, and Docker ends them all before it answers again.
async fn killed_engine_comes_back(kind: Kind) {
    let harness = Harness::on(own(kind, "killed")).await;
    let id = id_of("a/0");
    harness.run(waiting("a/0")).await;
    let before = harness.the_container();
    harness.engine.kill();
    reachable(&harness, false).await;
    let view = harness.containers.engine();
    assert!(view.error.is_some_and(|error| !error.is_empty()));
    let state = harness.containers.status(&id).unwrap().state;
    assert!(state.is_running(), "nothing is known of it: {state:?}");
    harness.containers.stop(&id, Duration::ZERO).await.expect_err("the engine is gone");

    harness.engine.run();
    reachable(&harness, true).await;
    harness.containers.stop(&id, Duration::from_secs(60)).await.unwrap();
    harness.nothing_is_left().await.unwrap();

    harness.run(waiting("b/0")).await;
    harness.engine.kill();
    reachable(&harness, false).await;
    harness.engine.run();
    let b = id_of("b/0");
    match kind {
        Kind::Docker => {
            let (reason, retryable) = harness.failure(&b).await;
            assert!(retryable, "{reason}");
            harness.nothing_is_left().await.unwrap();
        }
        Kind::Podman => {
            reachable(&harness, true).await;
            assert!(harness.containers.status(&b).unwrap().state.is_running());
            let after = harness.the_container();
            assert_ne!(after["Id"], before["Id"]);
            assert_eq!(after["State"]["Status"], "running");
            // And its end is seen again.
            harness.engine.remove(after["Id"].as_str().unwrap());
            harness.failure(&b).await;
        }
    }
}

/// A launch of a program without a network.
fn waiting(id: &str) -> Launch {
    launch(id, "localhost/shoal-test:1", |it| {
        it.command = Some(vec!["wait".into()]);
        it.network = NetworkMode::None;
    })
}

async fn reachable(harness: &Harness, wanted: bool) {
    let seen = async {
        while harness.containers.engine().reachable != wanted {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(TIMEOUT, seen).await.expect("the adapter notices");
}

/// A process that takes connections and answers nothing, as on a device whose disk hangs.
async fn engine_that_hangs_delays_no_caller_for_ever(kind: Kind) {
    let harness = Harness::on(own(kind, "hangs")).await;
    let id = id_of("a/0");
    harness.run(waiting("a/0")).await;
    harness.engine.freeze();
    let calls = async {
        tokio::join!(
            harness.containers.instances(),
            harness.containers.usage(&id),
            harness.containers.stop(&id, Duration::ZERO),
        )
    };
    let calls = tokio::time::timeout(TIMEOUT, calls).await.expect("each has a deadline");
    assert!(calls.0.is_err() && calls.1.is_none());
    let error = calls.2.expect_err("it may still run").to_string();
    assert!(error.contains("gave no answer within"), "{error}");
    let (reason, retryable) = harness.fails(waiting("b/0")).await;
    assert!(retryable && reason.contains("gave no answer within"), "{reason}");
    harness.engine.thaw();
    harness.containers.stop(&id, Duration::from_secs(60)).await.unwrap();
    harness.run(waiting("b/0")).await;
}
