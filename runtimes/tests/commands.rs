//! Commands: components that run to their end as programs do.

#[cfg(test)]
mod guests;
#[cfg(test)]
#[allow(dead_code, reason = "shared with other tests, which need more of it")]
mod harness;

use std::time::Duration;

use futures::StreamExt;
use harness::{Harness, MIB, id};
use shoal_protocol::model::InstanceState;
use shoal_runtimes::logs::{LogStream, Tail};
use shoal_runtimes::wasm::Config;
use shoal_runtimes::{Folder, Launch, Payload, Runtime, VolumeKey};

/// Runs a command and returns its last state, and what it wrote.
async fn end(harness: &Harness, launch: Launch) -> (InstanceState, Vec<String>) {
    let id = launch.id.clone();
    let mut watch = harness.wasm.watch();
    harness.wasm.start(launch).await.expect("it starts");
    let state = loop {
        let news = watch.next().await;
        let found = news.into_iter().find(|it| it.id == id && it.state.ended());
        if let Some(status) = found {
            break status.state;
        }
    };
    let lines =
        harness.wasm.logs(&id, Tail { lines: 1000, follow: false }).await.expect("it has logs");
    let own = lines.filter(|line| std::future::ready(line.stream != LogStream::System));
    (state, own.map(|line| line.text).collect().await)
}

fn done(exit_code: i32, lines: &[&str]) -> InstanceState {
    InstanceState::Done { exit_code, lines: lines.iter().map(|it| (*it).to_owned()).collect() }
}

#[tokio::test(flavor = "multi_thread")]
async fn command_has_its_arguments_environment_and_empty_input() {
    let harness = Harness::new().await;
    let (state, lines) = end(&harness, harness.command("a/0", &["args", "x y", "-z"])).await;
    assert_eq!((state, lines), (done(0, &["x y|-z"]), vec!["x y|-z".to_owned()]));
    let (state, _) = end(&harness, harness.command("b/0", &["env"])).await;
    assert_eq!(state, done(0, &["NAME=b/0"]));
    let (state, _) = end(&harness, harness.command("c/0", &["stdin"])).await;
    assert_eq!(state, done(0, &["read 0 bytes"]));
    let (state, _) = end(&harness, harness.command("d/0", &[])).await;
    assert_eq!(state, done(0, &["ran once, and is done"]));
}

/// A panic is the program's own end, which a job counts; a lack of memory is not.
#[tokio::test(flavor = "multi_thread")]
async fn panic_has_the_code_of_an_abort_and_memory_is_a_failure() {
    let harness = Harness::new().await;
    let (state, lines) = end(&harness, harness.command("a/0", &["panic"])).await;
    let InstanceState::Done { exit_code: 134, .. } = state else { panic!("{state:?}") };
    assert!(lines.iter().any(|line| line.contains("on purpose")), "{lines:?}");
    let launch = Launch { memory: 16 * MIB, ..harness.command("b/0", &["gorge", "64"]) };
    let (state, _) = end(&harness, launch).await;
    let reason = "exceeded its memory limit of 16 MiB".to_owned();
    assert_eq!(state, InstanceState::Failed { reason, retryable: true });
    let (state, _) = end(&harness, harness.command("c/0", &["gorge", "4"])).await;
    assert_eq!(state, done(0, &["has 4 MiB"]));
}

/// The report of an end has the last ten lines, of this try only.
#[tokio::test(flavor = "multi_thread")]
async fn last_lines_are_those_of_the_last_try() {
    let harness = Harness::new().await;
    let (state, _) = end(&harness, harness.command("a/0", &["lines", "300"])).await;
    let last: Vec<String> = (290..300).map(|n| format!("line {n}")).collect();
    assert_eq!(state, InstanceState::Done { exit_code: 0, lines: last });
    let (state, _) = end(&harness, harness.command("a/0", &["lines", "2"])).await;
    assert_eq!(state, done(0, &["line 0", "line 1"]));
}

/// It runs as long as it wants, answers no requests, and keeps to its share of the CPU; a stop does
/// not wait for it, since nothing tells it to end.
#[tokio::test(flavor = "multi_thread")]
async fn endless_command_runs_within_its_share_and_is_cut_off() {
    let change = |config: &mut shoal_runtimes::wasm::Config| {
        (config.request_cpu, config.request_time) = (Duration::ZERO, Duration::ZERO);
    };
    let harness = Harness::with(change).await;
    let launch = Launch { cpu: 100, ends: false, ..harness.command("a/0", &["loop"]) };
    assert!(harness.start(launch.clone()).await.is_running());
    harness.wasm.start(launch).await.unwrap();
    assert!(harness.wasm.endpoint(&id("a/0")).is_err());
    let listed = harness.wasm.instances().await.unwrap();
    assert_eq!(listed.into_iter().map(|it| it.id).collect::<Vec<_>>(), [id("a/0")]);
    let held_back = async {
        while harness.wasm.usage(&id("a/0")).await.unwrap().throttled == Duration::ZERO {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), held_back).await.expect("it is held back");
    let stop = harness.wasm.stop(&id("a/0"), Duration::from_secs(3600));
    tokio::time::timeout(Duration::from_secs(120), stop).await.expect("at once").unwrap();
    assert_eq!(harness.wasm.status(&id("a/0")).unwrap().state, InstanceState::Stopped);
}

/// A component that answers requests is no command, and the other way round.
#[tokio::test(flavor = "multi_thread")]
async fn other_world_is_refused_for_good() {
    let harness = Harness::new().await;
    let mut launch = harness.command("a/0", &[]);
    let Payload::Command(command) = &mut launch.payload else { unreachable!() };
    command.component = harness.samples.hello;
    let (state, _) = end(&harness, launch).await;
    let reason = "cannot start: this component is no command".to_owned();
    assert_eq!(state, InstanceState::Failed { reason, retryable: false });
    let (state, _) = end(&harness, harness.samples.launch("b/0", harness.command)).await;
    let InstanceState::Failed { reason, retryable: false } = state else { panic!("{state:?}") };
    assert!(reason.contains("answers no requests"), "{reason}");
}

/// A launch of the command with a volume at /data.
fn with_volume(harness: &Harness, id: &str, args: &[&str], read_only: bool) -> Launch {
    let key = VolumeKey { workload: "shop/db".into(), place: "0".into(), name: "data".into() };
    let folder = Folder { key, path: "/data".into(), read_only };
    Launch { folders: vec![folder], ..harness.command(id, args) }
}

/// What an instance wrote is there for the next one, also after a restart of the daemon, until the
/// volume is removed.
#[tokio::test(flavor = "multi_thread")]
async fn volume_of_a_component_outlives_its_instances() {
    let set = |config: &mut Config| {
        config.volumes = Some(config.logs.with_file_name("volumes"));
    };
    let harness = Harness::with(set).await;
    let launch = |harness: &Harness, id: &str, args: &[&str]| with_volume(harness, id, args, false);
    let written = launch(&harness, "a/0", &["append", "/data/file", "kept"]);
    let key = written.folders[0].key.clone();
    assert_eq!(end(&harness, written).await.0, done(0, &["appended"]));
    assert_eq!(harness.wasm.volumes(), Some(vec![key.clone()]));
    // The instance has ended and is not stopped: it may be started again.
    assert!(harness.wasm.remove_volume(&key).await.is_err());

    let harness = harness.restart(set).await;
    assert_eq!(harness.wasm.volumes(), Some(vec![key.clone()]));
    let read = |id: &str| launch(&harness, id, &["read", "/data/file"]);
    assert_eq!(end(&harness, read("b/0")).await.0, done(0, &["kept"]));
    let elsewhere = launch(&harness, "c/0", &["read", "/etc/hostname"]);
    let (state, _) = end(&harness, elsewhere).await;
    assert!(matches!(state, InstanceState::Done { exit_code: 1, .. }), "{state:?}");
    let refused = with_volume(&harness, "d/0", &["append", "/data/file", "more"], true);
    let (state, lines) = end(&harness, refused).await;
    assert!(matches!(state, InstanceState::Done { exit_code: 1, .. }), "{state:?} {lines:?}");
    assert_eq!(end(&harness, read("e/0")).await.0, done(0, &["kept"]));

    for name in ["b/0", "c/0", "d/0", "e/0"] {
        harness.wasm.stop(&id(name), Duration::ZERO).await.unwrap();
    }
    harness.wasm.remove_volume(&key).await.unwrap();
    assert_eq!(harness.wasm.volumes(), Some(Vec::new()));
    let (state, _) = end(&harness, read("f/0")).await;
    assert_eq!(state, done(1, &["/data/file: NotFound"]));
}

/// A link in a volume leads no instance out of it, wherever it points.
#[tokio::test(flavor = "multi_thread")]
async fn links_in_a_volume_lead_nowhere_else() {
    let harness = Harness::with(|config| {
        config.volumes = Some(config.logs.with_file_name("volumes"));
    });
    let harness = harness.await;
    let launch = |id: &str, args: &[&str]| with_volume(&harness, id, args, false);
    let (state, _) = end(&harness, launch("a/0", &["append", "/data/file", "in"])).await;
    assert_eq!(state, done(0, &["appended"]));
    std::fs::write(harness.path("secret"), "secret").unwrap();
    let folder = harness.path("volumes/shop/db/0/data");
    std::os::unix::fs::symlink(harness.path("secret"), folder.join("absolute")).unwrap();
    std::os::unix::fs::symlink("../../../../../secret", folder.join("relative")).unwrap();
    std::os::unix::fs::symlink("../../..", folder.join("above")).unwrap();
    std::os::unix::fs::symlink("file", folder.join("inside")).unwrap();
    for (at, name) in ["absolute", "relative", "above/../secret"].iter().enumerate() {
        let path = format!("/data/{name}");
        for (words, run) in [(&["read", &path][..], "r"), (&["append", &path, "x"], "w")] {
            let (state, lines) = end(&harness, launch(&format!("{run}{at}/0"), words)).await;
            assert!(matches!(state, InstanceState::Done { exit_code: 1, .. }), "{state:?}");
            assert!(lines.iter().all(|line| !line.contains("secret,")), "{lines:?}");
        }
    }
    assert_eq!(std::fs::read_to_string(harness.path("secret")).unwrap(), "secret");
    let (state, _) = end(&harness, launch("i/0", &["read", "/data/inside"])).await;
    assert_eq!(state, done(0, &["in"]));
}
