//! Daemons, jobs and cron workloads on real nodes, through the command line.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should stop"
)]

mod cli;
#[path = "../../runtimes/tests/guests/mod.rs"]
mod guests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use cli::Ended;
use shoal::Node;
use shoal::protocol::model::view::WorkloadView;
use tempfile::TempDir;

/// Far above what any step takes on a busy machine: only a hang reaches it.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// Nodes of one cluster, named `n0` and so on. The first one has the operator's key.
struct World {
    home: TempDir,
    nodes: Vec<Node>,
}

impl World {
    async fn of(nodes: usize) -> World {
        World::with(nodes, "").await
    }

    /// The same, with a file of facts at the first node.
    async fn with(nodes: usize, facts: &str) -> World {
        let home = TempDir::new().unwrap();
        for guest in ["hello", "command"] {
            std::fs::write(home.path().join(format!("{guest}.wasm")), guests::bytes(guest))
                .unwrap();
        }
        let mut world = World { home, nodes: Vec::new() };
        if !facts.is_empty() {
            world.file("n0.facts", facts);
        }
        for _ in 0..nodes {
            world.join(&[]).await;
        }
        world
    }

    /// Starts one more node.
    async fn join(&mut self, labels: &[(&str, &str)]) {
        let any = "127.0.0.1:0".parse().unwrap();
        let line = match self.nodes.first() {
            Some(first) => Some(first.invite(1, Duration::from_secs(600)).await.unwrap()),
            None => None,
        };
        let name = format!("n{}", self.nodes.len());
        let node = self.start(&name, any, labels, line).await;
        self.nodes.push(node);
        self.meet().await;
    }

    async fn start(
        &self,
        name: &str,
        listen: SocketAddr,
        labels: &[(&str, &str)],
        line: Option<String>,
    ) -> Node {
        let labels = labels.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let mut node = Node::builder()
            .state(self.home.path().join(name))
            .name(name)
            .listen(listen)
            .http("127.0.0.1:0".parse().unwrap())
            .labels(labels)
            // Room for all examples at once.
            .memory("1GiB")
            .mdns(false)
            .engine("none")
            .compiler(env!("CARGO_BIN_EXE_shoal"));
        if let Some(line) = line {
            node = node.join(line);
        }
        let facts = self.path(&format!("{name}.facts"));
        if facts.exists() {
            node = node.facts_file(Some(&facts));
        }
        in_time("a start", node.start()).await.unwrap()
    }

    /// Waits until each node sees all others.
    async fn meet(&self) {
        for node in &self.nodes {
            until("all are up", async || {
                let up = node.nodes().await.unwrap().iter().filter(|it| it.state == "up").count();
                (up == self.nodes.len()).then_some(())
            })
            .await;
        }
    }

    /// Stops all nodes at once, as a power cut of the whole shop, and starts them again.
    async fn restart(&mut self) {
        let old: Vec<(String, SocketAddr)> =
            self.nodes.iter().map(|node| (node.name().to_owned(), node.mesh())).collect();
        for node in self.nodes.drain(..) {
            in_time("a stop", node.stop()).await;
        }
        for (name, address) in old {
            let node = self.start(&name, address, &[], None).await;
            self.nodes.push(node);
        }
        self.meet().await;
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn file(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name).display().to_string()
    }

    async fn shoal(&self, words: &[&str]) -> Ended {
        self.given(words, "").await
    }

    /// A command that is asked of the last node, and its standard input.
    async fn given(&self, words: &[&str], input: &str) -> Ended {
        self.ask(self.nodes.last().unwrap(), words, input).await
    }

    async fn ask(&self, node: &Node, words: &[&str], input: &str) -> Ended {
        let config = self.path("n0").join("operator");
        cli::shoal((self.home.path(), &config, node.socket()), words, input).await
    }

    /// A workload as the last node sees it.
    async fn view(&self, name: &str) -> WorkloadView {
        self.nodes.last().unwrap().workload(&name.parse().unwrap()).await.unwrap()
    }

    /// Waits until every node sees these replicas of a workload, and all of them healthy.
    async fn runs(&self, name: &str, replicas: &[&str]) {
        for node in &self.nodes {
            until(&format!("{replicas:?} run"), async || {
                let view = node.workload(&name.parse().unwrap()).await.ok()?;
                let healthy = view.replicas.iter().filter(|it| it.phase == "healthy");
                let mut names: Vec<&str> = healthy.map(|it| it.replica.as_str()).collect();
                names.sort_unstable();
                (names == replicas && view.replicas.len() == replicas.len()).then_some(())
            })
            .await;
        }
    }
}

async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIME_LIMIT, work)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {TIME_LIMIT:?}"))
}

/// Polls `look` until it returns a value.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    in_time(what, async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

/// A job has the exit code of its program, and its end is known after all nodes were off.
#[tokio::test(flavor = "multi_thread")]
async fn job_ends_once_and_stays_ended_when_all_nodes_restart() {
    let mut world = World::of(2).await;
    let run = ["run", "--kind", "job", "--wait", "--name"];
    let lines = [&run[..], &["backup", "command.wasm", "--", "lines", "3"]].concat();
    world.shoal(&lines).await.says(0, &["line 0\nline 1\nline 2\n", "backup is done"]);
    let fails = ["broken", "--retries", "1", "command.wasm", "--", "exit", "3"];
    let failed = world.shoal(&[&run[..], &fails].concat()).await;
    failed.says(3, &["`broken` failed: 0 exited with code 3 on n", "about to exit", "with code 3"]);

    world.shoal(&["ps"]).await.says(0, &["1/1 done", "failed (1)"]);
    world.shoal(&["describe", "broken"]).await.says(0, &["last lines of 0\n", "  with code 3\n"]);
    world.shoal(&["wait", "broken", "--for", "failed"]).await.done();
    world.shoal(&["wait", "broken"]).await.says(1, &["exited with code 3"]);
    world.shoal(&["explain", "backup"]).await.says(0, &["backup/0 exited with code 0 on n"]);
    world.shoal(&["explain", "backup/0"]).await.says(0, &["and is not placed again"]);
    world.shoal(&["logs", "backup"]).await.says(0, &["line 2"]);
    // The same once more is no other job.
    world.shoal(&lines).await.says(0, &["backup: unchanged"]);

    let before = [world.view("backup").await.results, world.view("broken").await.results];
    world.restart().await;
    // An earlier job that ran again would do so before this one.
    let later = [&run[..], &["later", "command.wasm", "--", "lines", "1"]].concat();
    world.shoal(&later).await.says(0, &["line 0"]);
    for (name, before) in ["backup", "broken"].iter().zip(before) {
        let view = world.view(name).await;
        assert_eq!(view.results, before, "{name} did not run again");
        assert_eq!(view.replicas, [], "{name}");
    }
    world.shoal(&["ps"]).await.says(0, &["1/1 done", "failed (1)"]);

    // Another version of it is another job.
    let other = [&run[..], &["backup", "command.wasm", "--", "lines", "4"]].concat();
    world.shoal(&other).await.says(0, &["line 3\n"]);
    world.shoal(&["restart", "backup"]).await.says(0, &["backup: all of it runs again"]);
}

/// Replicas start in order, the last one ends first, and each says what it waits for. A version is
/// taken one by one.
#[tokio::test(flavor = "multi_thread")]
async fn stateful_replicas_come_and_go_in_order() {
    let world = World::of(2).await;
    let run = ["run", "--kind", "stateful", "--name", "db", "--replicas"];
    let plan = [&run[..], &["3", "hello.wasm"]].concat();
    world.shoal(&plan).await.done();
    world.runs("db", &["db/0", "db/1", "db/2"]).await;
    world.shoal(&["ps"]).await.says(0, &["db    stateful       3/3  healthy"]);
    world.shoal(&["scale", "db=1"]).await.done();
    world.runs("db", &["db/0"]).await;
    world.shoal(&["scale", "db=2"]).await.done();
    let newer = [&run[..], &["2", "--env", "NAME=new", "hello.wasm"]].concat();
    world.shoal(&newer).await.done();
    world.runs("db", &["db/0", "db/1"]).await;
    world.shoal(&["describe", "db"]).await.says(0, &["order"]);
    let order = ["run", "--kind", "stateful", "--name", "a", "--update-order", "start-first"];
    let refused = world.shoal(&[&order[..], &["hello.wasm"]].concat()).await;
    refused.says(2, &["start-first would run two of one replica", "`kind: stateful`"]);

    // The first one finds no node.
    let ill = ["run", "--kind", "stateful", "--name", "ill", "--replicas", "2", "--force"];
    let ill = [&ill[..], &["--require", "zone=nowhere", "--no-wait", "hello.wasm"]].concat();
    world.shoal(&ill).await.done();
    let waits = "waits until ill/0 is ready";
    world.shoal(&["describe", "ill"]).await.says(0, &[waits]);
    world.shoal(&["explain", "ill/1"]).await.says(0, &[waits]);
    let all = [&ill[..], &["--order", "parallel"]].concat();
    world.shoal(&all).await.says(0, &["order ordered -> parallel"]);
    let told = world.shoal(&["describe", "ill"]).await.done();
    assert!(!told.contains(waits), "{told}");
}

/// A component's volume stays with its replica and its node, until it is removed by name.
#[tokio::test(flavor = "multi_thread")]
async fn volumes_of_components_are_kept() {
    let mut world = World::of(2).await;
    let text = "name: db\nkind: stateful\nreplicas: 2\nwasm: hello.wasm\n\
                volumes: [\"data:/data\"]\n";
    let file = world.file("db.yaml", text);
    world.shoal(&["publish", &file]).await.done();
    world.runs("db", &["db/0", "db/1"]).await;
    let at = |world: &World| {
        let nodes = ["n0", "n1"].into_iter();
        let home = |node: &&str| world.path(node).join("volumes/default/db/0/data").exists();
        nodes.filter(home).collect::<Vec<_>>()
    };
    let home = at(&world);
    assert_eq!(home.len(), 1, "{home:?}");
    let folder = world.path(home[0]).join("volumes/default/db/0/data");
    std::fs::write(folder.join("file"), "kept").unwrap();
    let listed = ["db/0/data", "db/1/data"];
    until("both are listed", async || {
        let told = world.shoal(&["volume", "ls"]).await.done();
        listed.iter().all(|name| told.contains(name)).then_some(())
    })
    .await;
    let saved = world.path("saved.tar").display().to_string();
    world.shoal(&["volume", "backup", "db/0/data", &saved]).await.done();
    let used = world.shoal(&["volume", "rm", "db/0/data"]).await;
    used.says(4, &["runs with its volume `data`; nothing was changed"]);

    world.restart().await;
    world.runs("db", &["db/0", "db/1"]).await;
    assert_eq!(at(&world), home, "it is where its data is");
    world.shoal(&["scale", "db=0"]).await.done();
    assert_eq!(std::fs::read_to_string(folder.join("file")).unwrap(), "kept");
    std::fs::write(folder.join("file"), "spoilt").unwrap();
    world.shoal(&["volume", "restore", "db/0/data", &saved]).await.done();
    assert_eq!(std::fs::read_to_string(folder.join("file")).unwrap(), "kept");
    world.shoal(&["volume", "rm", "db/1/data"]).await.done();
    world.shoal(&["rm", "db"]).await.done();
    assert!(folder.exists(), "nobody removed it");
    let exported = world.shoal(&["publish", &file]).await;
    exported.done();
    world.runs("db", &["db/0", "db/1"]).await;
    assert_eq!(at(&world), home);
    assert_eq!(std::fs::read_to_string(folder.join("file")).unwrap(), "kept");
    let text = world.shoal(&["export", "db"]).await.done();
    let again = world.given(&["publish", "-", "--no-wait"], &text).await;
    again.says(0, &["db: unchanged"]);
    // It outlives its workload, and is removed by its name.
    world.shoal(&["rm", "db"]).await.done();
    world.shoal(&["volume", "rm", "db/0/data"]).await.done();
    assert!(!folder.exists());
}

/// A daemon is on each node that fits, also on one that comes later; its label may exclude one.
#[tokio::test(flavor = "multi_thread")]
async fn daemon_is_on_each_node_that_fits() {
    let mut world = World::of(2).await;
    let run = ["run", "--kind", "daemon", "--name", "agent", "hello.wasm"];
    world.shoal(&run).await.done();
    world.runs("agent", &["agent/n0", "agent/n1"]).await;
    world.join(&[("zone", "shop")]).await;
    world.runs("agent", &["agent/n0", "agent/n1", "agent/n2"]).await;
    world.shoal(&["ps"]).await.says(0, &["agent  daemon       3/3  healthy"]);

    let refused = world.shoal(&["scale", "agent=2"]).await;
    refused.says(2, &["a daemon has no number of replicas", "one on each node"]);
    let where_ = [&run[..], &["--require", "zone=shop"]].concat();
    world.shoal(&where_).await.done();
    world.runs("agent", &["agent/n2"]).await;
    let why = "agent has no place there: n0 does not fulfil zone = shop";
    world.shoal(&["explain", "agent/n0"]).await.says(0, &[why]);
    world.shoal(&["explain", "agent"]).await.says(0, &["agent/n2 is healthy on n2", why]);
    let unknown = world.shoal(&["explain", "agent/n7"]).await;
    unknown.says(3, &["there is no replica `agent/n7`"]);
    world.shoal(&["restart", "agent"]).await.says(0, &["agent: its replicas are replaced"]);
    world.runs("agent", &["agent/n2"]).await;
}

/// `cron run` starts at once a job of the same program. A suspended workload says so.
#[tokio::test(flavor = "multi_thread")]
async fn cron_workload_is_run_by_hand_and_suspended() {
    let world = World::of(1).await;
    // It is not due while this test runs, except at the turn of a year.
    let text = "name: report\nschedule: \"@yearly\"\nwasm: command.wasm\nargs: [lines, 2]\n";
    let file = world.file("report.yaml", text);
    let created = "report: create, starts as a cron workload";
    world.shoal(&["publish", &file]).await.says(0, &[created]);
    world.shoal(&["logs", "report"]).await.says(0, &["report has not run yet: next in "]);
    world.shoal(&["explain", "report"]).await.says(0, &["report has not run yet: next in "]);
    let ran = world.shoal(&["cron", "run", "report", "--wait"]).await;
    ran.says(0, &["line 0\nline 1\n", "is done"]);
    let job = world.shoal(&["ps"]).await.done();
    assert!(job.lines().any(|line| line.starts_with("report-20") && line.contains("1/1 done")));

    world.shoal(&["cron", "suspend", "report"]).await.says(0, &["suspend true (new)"]);
    world.shoal(&["ps"]).await.says(0, &["suspended"]);
    world.shoal(&["logs", "report"]).await.says(0, &["suspended, see `shoal cron resume`"]);
    world.shoal(&["cron", "resume", "report"]).await.says(0, &["suspend true (removed)"]);
    let file = world.file("report.yaml", &text.replace("@yearly", "@monthly"));
    let change = ["report: change, no restart", "schedule @yearly -> @monthly"];
    world.shoal(&["diff", &file]).await.says(1, &change);
    world.shoal(&["publish", &file]).await.done();
    world.shoal(&["wait", "report", "--for", "done"]).await.says(2, &["only a job comes to"]);
    world.shoal(&["rollback", "report", "--no-wait"]).await.says(0, &["@monthly -> @yearly"]);
    world.shoal(&["cron", "run", "nothing"]).await.says(3, &["no workload `nothing`"]);
}

/// An export is published as it stands, with no file, whatever its kind.
#[tokio::test(flavor = "multi_thread")]
async fn each_kind_is_exported_and_published_unchanged() {
    let world = World::of(1).await;
    let text = "name: agent\nkind: daemon\nwasm: hello.wasm\n---\n\
                name: batch\nkind: job\nwasm: command.wasm\nretries: 0\ncompletions: 3\nkeep: 1h\n\
                ---\nname: report\nschedule: \"0 3 * * *\"\ntimezone: Europe/Berlin\n\
                missed: skip\noverlap: replace\nsuspend: true\ndeadline: 90s\n\
                wasm: command.wasm\nargs: [lines, \"2\"]\n---\n\
                name: endless\nkind: daemon\nwasm: command.wasm\n";
    let file = world.file("all.yaml", text);
    world.shoal(&["publish", &file, "--no-wait"]).await.done();
    let text = world.shoal(&["export"]).await.done();
    assert!(text.contains("world: command"), "{text}");
    let again = world.given(&["publish", "-", "--no-wait"], &text).await;
    for name in ["agent", "batch", "report", "endless"] {
        again.says(0, &[&format!("{name}: unchanged")]);
    }
    // Also where nothing of it is left.
    world.shoal(&["rm", "batch", "endless", "--no-wait"]).await.done();
    let again = world.given(&["publish", "-", "--no-wait"], &text).await;
    again.says(0, &["batch: created", "endless: created"]);
    world.shoal(&["wait", "batch"]).await.done();
}

/// A fact of a file lets a daemon in, from the first moment on, and keeps it out when it changes.
/// This takes as long as a file is left unread.
#[tokio::test(flavor = "multi_thread")]
async fn daemon_follows_a_fact_of_a_file() {
    let mut world = World::with(2, "battery=50\nzone\n").await;
    let events = world.ask(&world.nodes[0], &["events"], "").await;
    events.says(0, &["n0.facts: line 2: `zone` is not NAME=VALUE"]);
    let run = ["run", "--kind", "daemon", "--name", "camera", "--require", "battery>20"];
    world.shoal(&[&run[..], &["hello.wasm"]].concat()).await.done();
    world.runs("camera", &["camera/n0"]).await;
    // It is known before the node tells others of itself: nothing has to go.
    world.restart().await;
    world.runs("camera", &["camera/n0"]).await;
    world.file("n0.facts", "battery=20\n");
    world.runs("camera", &[]).await;
    let why = "camera has no place there: n0 does not fulfil battery > 20";
    world.shoal(&["explain", "camera/n0"]).await.says(0, &[why]);
}

/// The examples that need no engine are published as they stand, and their work is done.
#[tokio::test(flavor = "multi_thread")]
async fn examples_of_components_are_published() {
    let world = World::of(1).await;
    let release = world.path("guests/target/wasm32-wasip2/release");
    std::fs::create_dir_all(&release).unwrap();
    for guest in ["hello", "command"] {
        std::fs::copy(world.path(&format!("{guest}.wasm")), release.join(format!("{guest}.wasm")))
            .unwrap();
    }
    std::fs::create_dir(world.path("manifests")).unwrap();
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/manifests");
    let mut names = Vec::new();
    for file in std::fs::read_dir(examples).unwrap() {
        let file = file.unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        if text.contains("\nimage:") {
            continue;
        }
        let name = format!("manifests/{}", file.file_name().to_str().unwrap());
        let file = world.file(&name, &text);
        // Labels of a shop's devices are nowhere here.
        world.shoal(&["publish", &file, "--no-wait", "--force"]).await.done();
        names.push(name);
    }
    for kind in ["hello", "stateful", "daemon", "job", "cron"] {
        assert!(names.contains(&format!("manifests/{kind}.yaml")), "{names:?}");
    }
    let waited = world.shoal(&["wait", "backup"]).await;
    if waited.code != 0 {
        let described = world.shoal(&["describe", "backup"]).await.out;
        panic!("{waited:?}\n{described}{}", world.shoal(&["events"]).await.out);
    }
    world.runs("agent", &["agent/n0"]).await;
    world.runs("db", &["db/0", "db/1", "db/2"]).await;
    world.shoal(&["ps"]).await.says(0, &["5/5 done", "next in "]);
}
