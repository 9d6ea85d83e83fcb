//! A state folder of a version whose clusters had a join key.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use shoal::Node;

/// Written by `shoal up`, `shoal run hello.wasm --name hello --require zone=shop --force`,
/// `shoal run hello.wasm --name hello2 --replicas 2` and `shoal down` of version 0.1.0, layout 1.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/state-1");
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

/// Every file below a folder, with its bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => _ = all.insert(path.clone(), fs::read(&path).unwrap()),
        }
    }
    all
}

/// That cluster admitted everybody who had its join line, so this version is no member of it. It
/// says so, names both ways on, and leaves the folder to the version that wrote it.
#[tokio::test(flavor = "multi_thread")]
async fn state_of_a_cluster_with_a_join_key_is_refused_untouched() {
    let state = tempfile::tempdir().unwrap();
    copy(Path::new(FOLDER), state.path());
    let before = files(state.path());
    let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let builder = Node::builder().state(state.path()).listen(local).http(local);
    let error = builder.start().await.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("join key") && error.contains("the shoal of before"), "{error}");
    assert!(
        error.contains("shoal join") && error.contains("publish the workloads again"),
        "{error}"
    );
    let after = files(state.path());
    let kept = |path: &&PathBuf| after.get(*path) == before.get(*path);
    assert_eq!(before.keys().filter(kept).count(), before.len());
}
