//! A state folder that the version before wrote: the node goes on where that version stopped.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use shoal::Node;

/// Written by `shoal up`, `shoal run hello.wasm --name hello --require zone=shop --force`,
/// `shoal run hello.wasm --name hello2 --replicas 2` and `shoal down` of version 0.1.0, layout 1.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/state-1");
/// Far above what a start takes on a busy machine: only a hang reaches it.
const TIME_LIMIT: Duration = Duration::from_secs(90);

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

async fn start(state: &Path) -> Node {
    let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
    // This program is a test harness and cannot call `shoal::init` first; the daemon does.
    let compiler = env!("CARGO_BIN_EXE_shoal");
    let builder = Node::builder().state(state).listen(local).http(local).compiler(compiler);
    builder.start().await.unwrap()
}

/// After an upgrade, operators' changes of layout 1 still count, and the node runs what it had
/// claimed: nobody has to publish anything again. The second start reads what this version wrote.
#[tokio::test(flavor = "multi_thread")]
async fn state_folder_of_layout_1_is_read_and_goes_on() {
    let state = tempfile::tempdir().unwrap();
    copy(Path::new(FOLDER), state.path());
    for _ in 0..2 {
        let node = start(state.path()).await;
        assert_eq!(node.name(), "old-1");
        let workloads = node.workloads().await.unwrap();
        let names: Vec<&str> = workloads.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["hello", "hello2"]);
        assert_eq!((workloads[0].desired, workloads[0].require["zone"].as_str()), (2, "shop"));
        let name = "hello2".parse().unwrap();
        let healthy = tokio::time::timeout(TIME_LIMIT, node.healthy(&name)).await;
        let hello2 = healthy.expect("it runs again").unwrap();
        assert_eq!((hello2.healthy, hello2.env["GREETING"].as_str()), (2, "hi"));
        let status = node.status().await.unwrap().view;
        assert_eq!((status.nodes, status.read_only), (1, None));
        node.stop().await;
    }
}
