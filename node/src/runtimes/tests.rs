use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use shoal_protocol::model::{Digest, InstanceState};
use shoal_runtimes::Launch;

use super::*;
use crate::fakes::FakeRuntime;

fn id(text: &str) -> InstanceId {
    InstanceId::new(text).unwrap()
}

fn launch(text: &str) -> Launch {
    Launch {
        id: id(text),
        workload: "default/web".into(),
        payload: Digest([7; 32]).into(),
        env: BTreeMap::new(),
        memory: 1 << 20,
        cpu: 100,
        cpu_reserved: 100,
        qos: Default::default(),
        given: shoal_runtimes::given::Given::default(),
        ends: false,
        folders: Vec::new(),
    }
}

/// Two runtimes, each with an instance.
async fn two() -> (RuntimeSet, Arc<FakeRuntime>, Arc<FakeRuntime>) {
    let (wasm, other) = (FakeRuntime::new(), FakeRuntime::of_kind("container"));
    let set = RuntimeSet::new([wasm.clone() as Arc<dyn Runtime>, other.clone()]);
    for (kind, name) in [(ProgramKind::Wasm, "web/0"), (ProgramKind::Container, "db/0")] {
        set.get(kind).unwrap().start(launch(name)).await.unwrap();
    }
    (set, wasm, other)
}

/// Each of two runtimes has an instance: status, endpoint and logs come from the one that started
/// it, a stop reaches that one alone, and an id that neither knows is unknown.
#[tokio::test]
async fn instance_belongs_to_the_runtime_that_started_it() {
    let (set, wasm, other) = two().await;
    for (name, own) in [("web/0", &wasm), ("db/0", &other)] {
        assert_eq!(set.status(&id(name)), own.status(&id(name)));
        assert_eq!(set.endpoint(&id(name)).unwrap(), own.endpoint(&id(name)).unwrap());
    }
    set.get(ProgramKind::Container).unwrap().stop(&id("db/0"), Duration::ZERO).await.unwrap();
    assert_eq!(wasm.calls(1).await, ["start web/0"]);
    assert_eq!(other.calls(2).await, ["start db/0", "stop db/0"]);
    assert!(matches!(set.endpoint(&id("db/0")), Err(ServeError::NotRunning { .. })));
    assert!(set.status(&id("web/0")).unwrap().state.is_running());
    assert!(matches!(set.endpoint(&id("no/0")), Err(ServeError::Unknown(of)) if of == id("no/0")));
    assert_eq!(set.status(&id("no/0")), None);
}

/// The first runtime has no logs of the instance, so the second one is asked.
#[tokio::test]
async fn logs_come_from_the_runtime_that_has_them() {
    let (set, ..) = two().await;
    for name in ["web/0", "db/0"] {
        let tail = Tail { lines: 3, follow: false };
        let lines: Vec<_> = set.logs(&id(name), tail).await.unwrap().collect().await;
        assert_eq!(lines[0].text, format!("{name} says 3"));
    }
    let unknown = set.logs(&id("no/0"), Tail { lines: 3, follow: false }).await.err();
    assert!(matches!(unknown, Some(LogsError::Unknown(_))), "{unknown:?}");
}

/// All runtimes keep their lines in one folder. The first one found the files of the other one's
/// instance, and took it for one that has ended: nobody could follow a container's lines.
#[tokio::test]
async fn logs_come_from_the_runtime_that_runs_the_instance() {
    let (set, wasm, _) = two().await;
    wasm.files.lock().unwrap().insert(id("db/0"));
    wasm.files.lock().unwrap().insert(id("old/0"));
    for (name, text) in [("db/0", "db/0 says 3"), ("old/0", "old/0 said")] {
        let tail = Tail { lines: 3, follow: true };
        let lines: Vec<_> = set.logs(&id(name), tail).await.unwrap().collect().await;
        assert_eq!(lines[0].text, text);
    }
}

/// A single watch shows the changes at both runtimes, also when the first one changes all the time.
#[tokio::test]
async fn watch_shows_all_runtimes_and_starves_none() {
    let (set, wasm, other) = two().await;
    let mut watch = set.watch();
    let mut seen: Vec<_> = watch.next().await;
    seen.extend(watch.next().await);
    seen.sort_by(|a, b| a.id.cmp(&b.id));
    let seen: Vec<_> = seen.iter().map(|it| (it.id.as_str(), it.state.word())).collect();
    assert_eq!(seen, [("db/0", "running"), ("web/0", "running")]);

    other.tell(&id("db/0"), InstanceState::Stopped);
    let mut ended = None;
    for _ in 0..2 {
        wasm.run(id("web/0"));
        let changes = watch.next().await;
        ended = ended.or(changes.into_iter().find(|status| status.id == id("db/0")));
    }
    assert_eq!(ended.unwrap().state, InstanceState::Stopped);
}

/// All instances on the device, and a clear error for a kind that this node does not run.
#[tokio::test]
async fn missing_kind_is_named() {
    let (set, wasm, other) = two().await;
    for (runtime, name) in [(&wasm, "web/0"), (&other, "db/0")] {
        let found = Instance { id: id(name) };
        runtime.found.lock().unwrap().push(found);
    }
    let found = set.instances().await.unwrap();
    assert_eq!(found.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["web/0", "db/0"]);
    let missing = wasm.set().get(ProgramKind::Container).err().unwrap();
    assert_eq!(missing.to_string(), "this node has no `container` runtime");
}

/// A second runtime of a kind would never be asked.
#[test]
#[should_panic(expected = "two runtimes are called `wasm`")]
fn two_runtimes_of_one_kind_are_refused() {
    RuntimeSet::new([FakeRuntime::new() as Arc<dyn Runtime>, FakeRuntime::new()]);
}
