//! Plan before act: `publish`, `diff`, `export`, `history` and `rollback` of the command line, on a
//! real node, with the keys of two operators.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should stop"
)]

mod cli;
#[path = "../../runtimes/tests/guests/mod.rs"]
mod guests;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cli::Ended;
use shoal::Node;
use tempfile::TempDir;

/// A node with its founder's key, and that of a second operator.
struct World {
    home: TempDir,
    node: Node,
}

impl World {
    async fn new() -> World {
        let home = TempDir::new().unwrap();
        let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let node = Node::builder().state(home.path().join("state")).name("one").listen(local);
        let node = node.http(local).mdns(false).engine("none");
        let node = node.compiler(env!("CARGO_BIN_EXE_shoal")).start().await.unwrap();
        std::fs::write(home.path().join("hello.wasm"), guests::bytes("hello")).unwrap();
        let world = World { home, node };
        let key = world.ann(&["-q", "operator", "add", "bob", "--role", "publisher"]).await;
        let bob = world.home.path().join("bob");
        std::fs::create_dir(&bob).unwrap();
        std::fs::write(bob.join("operator.json"), key.done()).unwrap();
        let only_owner = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(bob.join("operator.json"), only_owner).unwrap();
        world
    }

    fn file(&self, name: &str, text: &str) -> String {
        let file = self.path(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The founder's command.
    async fn ann(&self, words: &[&str]) -> Ended {
        self.run(&self.path("state").join("operator"), words, "").await
    }

    /// The other operator's.
    async fn bob(&self, words: &[&str]) -> Ended {
        self.run(&self.path("bob"), words, "").await
    }

    async fn run(&self, config: &Path, words: &[&str], input: &str) -> Ended {
        cli::shoal((self.home.path(), config, self.node.socket()), words, input).await
    }

    /// The number of changes that the node has noted of a workload.
    async fn changes(&self, name: &str) -> usize {
        let history = self.ann(&["history", name, "-o", "json"]).await.done();
        serde_json::from_str::<Vec<serde_json::Value>>(&history).unwrap().len()
    }
}

const WEB: &str = "name: web\nnamespace: shop\nwasm: hello.wasm\nenv: { A: b }\n";

/// A plan is shown, and only then something is done.
#[tokio::test(flavor = "multi_thread")]
async fn dry_run_and_diff_show_changes_and_write_nothing() {
    let world = World::new().await;
    let file = world.file("web.yaml", WEB);
    let create = "shop/web: create, starts 1 replica of ";
    world.ann(&["publish", &file, "--dry-run"]).await.says(0, &[create]);
    world.ann(&["diff", &file]).await.says(1, &[create]);
    assert_eq!(world.changes("shop/web").await, 0, "nothing was written");
    world.ann(&["publish", &file]).await.says(0, &[create, "shop/web: created"]);
    world.ann(&["diff", &file]).await.says(0, &["shop/web: unchanged"]);
    world.ann(&["publish", &file]).await.says(0, &["shop/web: unchanged"]);

    world.file("web.yaml", &format!("{}replicas: 2\n", WEB.replace("b }", "c }")));
    let change = ["shop/web: change, replaces every replica, scales 1 to 2", "replicas 1 -> 2"];
    let json = world.ann(&["diff", &file, "-o", "json"]).await;
    json.says(1, &["\"action\": \"change\"", "\"field\": \"env A\""]);
    world.ann(&["diff", &file]).await.says(1, &[change[0], change[1], "env A b -> c"]);
    assert_eq!(world.changes("shop/web").await, 1, "nothing was written");
    world.ann(&["publish", &file, "--no-wait"]).await.says(0, &change);
    assert_eq!(world.changes("shop/web").await, 2);

    for (words, code) in [(vec!["diff", "none.yaml"], 2), (vec!["diff", "no*.yaml"], 2)] {
        let ended = world.ann(&words).await;
        assert_eq!(ended.code, code, "1 means that something differs: {ended:?}");
    }
}

/// Bob changes what ann published. Her file never saw it: it is not overwritten unless she says so.
#[tokio::test(flavor = "multi_thread")]
async fn change_of_another_operator_is_not_overwritten() {
    let world = World::new().await;
    let file = world.file("web.yaml", WEB);
    world.ann(&["publish", &file, "--no-wait"]).await.done();
    world.bob(&["scale", "shop/web=3", "--no-wait"]).await.done();
    world.file("web.yaml", &WEB.replace("b }", "c }"));
    let refused = world.ann(&["publish", &file, "--no-wait"]).await;
    refused.says(
        4,
        &[
            "`shop/web` was changed by bob (key ",
            "since you published it last; nothing of it was overwritten",
            "replicas 1 -> 3",
            "--force",
        ],
    );
    assert_eq!(world.changes("shop/web").await, 2, "nothing was written");
    // What she has scaled herself is no surprise to her.
    world.ann(&["publish", &file, "--no-wait", "--force"]).await.says(0, &["env A b -> c"]);
    world.ann(&["scale", "shop/web=2", "--no-wait"]).await.done();
    world.ann(&["publish", &file, "--no-wait"]).await.says(0, &["scales 2 to 1"]);
    // Nor is what he wrote the same.
    world.bob(&["scale", "shop/web=2", "--no-wait"]).await.done();
    world.bob(&["scale", "shop/web=1", "--no-wait"]).await.done();
    world.ann(&["publish", &file, "--no-wait"]).await.says(0, &["shop/web: unchanged"]);
}

/// What left the files of a set is removed, and nothing else: no other set, and no other namespace.
#[tokio::test(flavor = "multi_thread")]
async fn prune_removes_what_left_the_set() {
    let world = World::new().await;
    let named = |name: &str| WEB.replace("web", name);
    let all = world.file("all.yaml", &format!("{}---\n{}", named("web"), named("old")));
    let publish = ["publish", &all, "--no-wait", "--set", "shop"];
    world.ann(&publish).await.says(0, &["shop/old: created"]);
    let own = world.file("own.yaml", &named("own"));
    world.ann(&["publish", &own, "--no-wait"]).await.done();
    let other = world.file("other.yaml", &named("far").replace("shop", "yard"));
    world.ann(&["publish", &other, "--no-wait", "--set", "shop"]).await.done();

    world.file("all.yaml", &named("web"));
    let which = world.ann(&["publish", &all, "--no-wait", "--prune"]).await;
    which.says(2, &["--prune: which set is meant?"]);
    let prune = ["publish", &all, "--set", "shop", "--prune", "--no-wait"];
    let removed = "shop/old: remove, 1 replica stops";
    let asked = world.ann(&prune).await;
    asked.says(2, &[removed, "shop/old would be removed; nothing was changed", "--yes"]);
    world.ann(&["diff", &all, "--set", "shop", "--prune"]).await.says(1, &[removed]);
    let yes = [prune.as_slice(), &["--yes"]].concat();
    world.ann(&yes).await.says(0, &[removed, "shop/old: removed"]);
    let left = world.ann(&["ps"]).await.done();
    let is_there = |name: &str| left.lines().any(|line| line.starts_with(&format!("{name} ")));
    assert!(is_there("shop/web") && is_there("shop/own") && is_there("yard/far"), "{left}");
    assert!(!is_there("shop/old"), "{left}");
}

/// An export is published as it stands: with no file of the component, and without a change.
#[tokio::test(flavor = "multi_thread")]
async fn export_is_published_as_unchanged() {
    let world = World::new().await;
    let file = world.file("web.yaml", &format!("{WEB}require: [zone!=back]\nset: shop\n"));
    world.ann(&["publish", &file, "--no-wait"]).await.done();
    let text = world.ann(&["export", "shop/web"]).await.done();
    assert!(text.starts_with("name: web\nnamespace: shop\nartifact: sha256:"), "{text}");
    let config = world.path("state").join("operator");
    let again = world.run(&config, &["publish", "-"], &text).await;
    again.says(0, &["shop/web: unchanged"]);
    world.ann(&["rm", "shop/web", "--no-wait"]).await.done();
    world.run(&config, &["publish", "-"], &text).await.says(0, &["shop/web: created"]);
    world.ann(&["export", "shop/wep"]).await.says(3, &["no workload `shop/wep`", "shop/web"]);
}

/// Versions are counted, shown with what they changed, and published again.
#[tokio::test(flavor = "multi_thread")]
async fn rollback_publishes_an_earlier_version() {
    let world = World::new().await;
    let file = world.file("web.yaml", WEB);
    world.ann(&["publish", &file]).await.done();
    world.file("web.yaml", &WEB.replace("b }", "c }"));
    world.ann(&["publish", &file]).await.done();
    let history = world.ann(&["history", "shop/web", "--diff"]).await;
    history.says(0, &["1 (", "2 (", "env A b -> c"]);
    let back = "env A c -> b";
    world.ann(&["rollback", "shop/web", "--dry-run"]).await.says(0, &[back]);
    assert_eq!(world.changes("shop/web").await, 2);
    world.ann(&["rollback", "shop/web"]).await.says(0, &["back to version 1 (", back]);
    let shown = world.ann(&["export", "shop/web"]).await.done();
    assert!(shown.contains("A: b"), "{shown}");
    let nowhere = world.ann(&["rollback", "shop/web", "--to", "99"]).await;
    nowhere.says(3, &["`shop/web` has no version 99: this node knows versions 1 to 3"]);
    world.ann(&["rollback", "shop/nothing"]).await.says(3, &["no workload `shop/nothing`"]);
    // Also what was removed.
    world.ann(&["rm", "shop/web"]).await.done();
    world
        .ann(&["rollback", "shop/web", "--to", "2", "--no-wait"])
        .await
        .says(0, &["shop/web: created"]);
}

/// A restart replaces the replica, and is no other change: publishing the file again, which knows
/// nothing of it, replaces nothing.
#[tokio::test(flavor = "multi_thread")]
async fn restart_replaces_replicas() {
    let world = World::new().await;
    let file = world.file("web.yaml", WEB);
    world.ann(&["publish", &file]).await.done();
    let before = world.ann(&["ps", "shop/web", "-o", "json"]).await.done();
    world.ann(&["restart", "shop/web"]).await.says(0, &["its replicas are replaced"]);
    let after = world.ann(&["ps", "shop/web", "-o", "json"]).await.done();
    let generation = |text: &str| {
        let line = text.lines().find(|line| line.contains("\"generation\""));
        line.unwrap_or_else(|| panic!("{text}")).to_owned()
    };
    assert_ne!(generation(&before), generation(&after));
    world.ann(&["diff", &file]).await.says(0, &["shop/web: unchanged"]);
}
